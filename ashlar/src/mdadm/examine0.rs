//! `--examine` of metadata 0.90, line for line as mdadm 4.2 prints it. Times are UTC.
use super::examine::{id, layout, size, time};
use spec::md::{
    Level, raid10,
    v0::{Descriptor, Superblock},
};
use std::fmt::Write;

/// Words of a superblock that hold its checksum.
const SUM: usize = 38;
/// Bits of a descriptor's state that stand behind the others.
const FAIL_FAST: u32 = 1 << 10;

/// KiB of the array, for levels that say how many of each member are used.
fn array_kib(superblock: &Superblock) -> Option<u64> {
    let disks = u64::from(superblock.raid_disks());
    let (data, copies) = match superblock.level() {
        Level::Raid1 => (1, 1),
        Level::Raid4 | Level::Raid5 => (disks.saturating_sub(1), 1),
        Level::Raid6 => (disks.saturating_sub(2), 1),
        Level::Raid10 => {
            let layout = raid10::Layout::from_number(superblock.layout()).ok()?;
            (disks, u64::from(layout.copies()))
        }
        _ => return None,
    };
    (u64::from(superblock.size_kib()) * data).checked_div(copies)
}

/// As mdadm prints it, without the line that names the disk. `device`: what the machine calls the block device of these numbers.
pub fn text(superblock: &Superblock, device: impl Fn(u32, u32) -> Option<String>) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:>15} : {value}");
    };
    let kib = |number: u64| format!("{number}{}", size(u128::from(number) << 10));
    line("Magic", "a92b4efc".into());
    line("Version", format!("0.{}.00", superblock.minor()));
    line("UUID", id(superblock.array()));
    line("Creation Time", time(superblock.ctime().into()));
    let level = superblock.level();
    line("Raid Level", level.to_string());
    if !matches!(level, Level::Raid0 | Level::Linear) {
        line("Used Dev Size", kib(superblock.size_kib().into()));
        if let Some(number) = array_kib(superblock) {
            line("Array Size", kib(number))
        }
    }
    line("Raid Devices", superblock.raid_disks().to_string());
    line("Total Devices", superblock.nr_disks().to_string());
    line("Preferred Minor", superblock.md_minor().to_string() + "\n");
    if let Some(reshape) = superblock.reshape() {
        line(
            "Reshape pos'n",
            format!("{}{}", reshape.position / 2, size(u128::from(reshape.position) << 9)),
        );
        if reshape.delta_disks != 0 {
            let now = superblock.raid_disks().cast_signed();
            let (delta, before) = (reshape.delta_disks, now - reshape.delta_disks);
            line("Delta Devices", format!("{delta} ({before}->{now})"))
        }
        line("New Level", reshape.level.to_string());
        if let Some(new) = layout(reshape.level, reshape.layout) {
            line("New Layout", new)
        }
        line("New Chunksize", format!("{}\n", reshape.chunk))
    }
    line("Update Time", time(superblock.utime().into()));
    let clean = superblock.state() & Superblock::CLEAN != 0;
    line("State", if clean { "clean" } else { "active" }.into());
    if superblock.state() & Superblock::BITMAP != 0 {
        line("Internal Bitmap", "present".into())
    }
    line("Active Devices", superblock.active_disks().to_string());
    line("Working Devices", superblock.working_disks().to_string());
    line("Failed Devices", superblock.failed_disks().to_string());
    line("Spare Devices", superblock.spare_disks().to_string());
    // In the order of the machine that wrote it; a superblock whose sum is wrong was not parsed.
    line("Checksum", format!("{:x} - correct", sum(superblock)));
    line("Events", superblock.events().to_string() + "\n");
    if matches!(level, Level::Raid5 | Level::Raid10)
        && let Some(layout) = layout(level, superblock.layout())
    {
        line("Layout", layout)
    }
    let chunk = superblock.chunk_size() / 1024;
    match level {
        Level::Linear => line("Rounding", format!("{chunk}K")),
        Level::Raid1 => (),
        _ => line("Chunk Size", format!("{chunk}K")),
    }
    text.push('\n');
    text += "      Number   Major   Minor   RaidDevice State\n";
    let numbers = superblock.raid_disks().saturating_add(superblock.spare_disks());
    row(&mut text, "this", superblock.this(), &device);
    text.push('\n');
    for number in 0..numbers as usize {
        if let Some(disk) = superblock.disk(number) {
            row(&mut text, &format!("{number:>4}"), disk, &device)
        }
    }
    text
}

fn sum(superblock: &Superblock) -> u32 {
    let bytes = superblock.to_bytes();
    let word = bytes.chunks_exact(4).nth(SUM).and_then(|word| word.first_chunk());
    word.map_or(0, |word| match superblock.order {
        spec::md::v0::Order::Little => u32::from_le_bytes(*word),
        spec::md::v0::Order::Big => u32::from_be_bytes(*word),
    })
}

fn row(text: &mut String, number: &str, disk: Descriptor, device: &impl Fn(u32, u32) -> Option<String>) {
    let words = [
        (Descriptor::FAULTY, " faulty"),
        (Descriptor::ACTIVE, " active"),
        (Descriptor::SYNC, " sync"),
        (Descriptor::REMOVED, " removed"),
        (Descriptor::WRITE_MOSTLY, " write-mostly"),
        (FAIL_FAST, " failfast"),
    ];
    let said: String = words
        .into_iter()
        .filter(|(bit, _)| disk.state & bit != 0)
        .map(|(_, word)| word)
        .collect();
    let spare = disk.state & !(Descriptor::WRITE_MOSTLY | FAIL_FAST) == 0;
    let spare = if spare { " spare" } else { "" };
    let called = device(disk.major, disk.minor).map_or_else(String::new, |name| format!("   {name}"));
    // A place that is none is a negative number.
    let place = disk.place.cast_signed();
    let Descriptor {
        number: own,
        major,
        minor,
        ..
    } = disk;
    let _ = writeln!(
        text,
        "{number} {own:>5}   {major:>5}    {minor:>5}    {place:>5}     {said}{spare}{called}"
    );
}

/// What this machine calls the block device of these numbers.
pub fn device(major: u32, minor: u32) -> Option<String> {
    let told = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = told.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = format!("/dev/{name}");
    std::path::Path::new(&path).exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// Samples that the guest printed; empty lines are not kept in them.
    #[test]
    fn every_line_is_what_mdadm_said() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/tests/md/samples");
        let loops = |major: u32, minor: u32| (major == 7).then(|| format!("/dev/loop{minor}"));
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|kind| kind != "sb") || !path.to_string_lossy().contains("-0.90") {
                continue;
            }
            let superblock = Superblock::parse(&fs::read(&path).unwrap()).unwrap();
            let text = text(&superblock, loops);
            let told: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            let wanted = fs::read_to_string(path.with_extension("examine")).unwrap();
            let wanted: Vec<&str> = wanted.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!(told, wanted, "{}", path.display());
            seen += 1
        }
        assert!(seen >= 6, "only {seen}")
    }
}
