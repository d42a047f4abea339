//! `--examine`: what a member says of itself, line for line as mdadm 4.2 prints it. Times are UTC.
use crate::human;
use spec::md::{
    Level,
    bitmap::Header,
    parity, raid10,
    v1::{self, Features, Minor, Role, Superblock},
};
use std::{fmt::Write, ops::Range};
use uuid::Uuid;

/// Sectors behind the superblock that Linux keeps free for it.
const KEPT: u64 = (32 + 4) * 2;

/// A member as it lies on its disk.
pub struct Examined {
    /// Where the superblock is.
    pub minor: Minor,
    /// The superblock.
    pub superblock: Superblock,
    /// The header of its bitmap, if it has one.
    pub bitmap: Option<Header>,
    /// What its bad-block log lists, if the superblock says that it does.
    pub bad_blocks: Option<Result<Vec<Range<u64>>, String>>,
    /// Sectors of the disk.
    pub sectors: u64,
}

/// `f339e6da:8810d131:a5123c2e:c2e883ce`
pub fn id(id: Uuid) -> String {
    let hex = id.simple().to_string();
    let parts: Vec<&str> = (0..4).map(|at| &hex[at * 8..at * 8 + 8]).collect();
    parts.join(":")
}

/// What mdadm puts behind a number: nothing where it is small.
pub fn size(bytes: u128) -> String {
    let hundredths = |unit: u128| (bytes * 200 / unit).div_ceil(2);
    let pair = |binary: u128, decimal: u128, letter: char| {
        let (a, b) = (hundredths(binary), (bytes / (decimal / 200)).div_ceil(2));
        format!(
            " ({}.{:02} {letter}iB {}.{:02} {letter}B)",
            a / 100,
            a % 100,
            b / 100,
            b % 100
        )
    };
    match bytes {
        small if small < 5000 << 10 => String::new(),
        middle if middle < 2 << 30 => pair(1 << 20, 1_000_000, 'M'),
        large if large < 2 << 40 => pair(1 << 30, 1_000_000_000, 'G'),
        _ => pair(1 << 40, 1_000_000_000_000, 'T'),
    }
}

/// `Sun Nov 29 06:16:43 2026`
pub fn time(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let weekday = DAYS[(seconds / 86400 % 7) as usize];
    // YYYY-MM-DD hh:mm:ss
    let utc = human::utc(seconds);
    let part = |range: std::ops::Range<usize>| utc.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().unwrap_or(1) - 1;
    let day = part(8..10).trim_start_matches('0');
    format!("{weekday} {} {day:>2} {} {}", MONTHS[month], part(11..19), part(0..4))
}

/// mdadm's name of a layout; levels without one have none.
pub fn layout(level: Level, layout: u32) -> Option<String> {
    match level {
        Level::Raid0 => match layout {
            1 => Some("original".into()),
            2 => Some("alternate".into()),
            _ => None,
        },
        Level::Raid5 | Level::Raid6 => parity::Layout::from_number(level, layout)
            .ok()
            .map(|layout| layout.name()),
        Level::Raid10 => {
            let layout = raid10::Layout::from_number(layout).ok()?;
            Some(match (layout.far, layout.offset) {
                (1, _) => format!("near={}", layout.near),
                (far, false) => format!("far={far}"),
                (far, true) => format!("offset={far}"),
            })
        }
        _ => None,
    }
}

/// Sectors of the array, for levels that say how many of each member are used.
fn array_sectors(superblock: &Superblock) -> Option<u64> {
    let disks = u64::from(superblock.raid_disks);
    let (data, copies) = match superblock.level {
        Level::Raid1 => (1, 1),
        Level::Raid4 | Level::Raid5 => (disks.saturating_sub(1), 1),
        Level::Raid6 => (disks.saturating_sub(2), 1),
        Level::Raid10 => {
            let layout = u64::from(superblock.layout);
            (disks, (layout & 255) * (layout >> 8 & 255))
        }
        _ => return None,
    };
    superblock.size.checked_mul(data)?.checked_div(copies)
}

impl Examined {
    /// Sectors that nobody uses before the data, and behind them.
    fn unused(&self) -> (u64, i128) {
        let own = &self.superblock;
        let log = own.bad_blocks;
        let relative = |offset: i64| own.super_offset.saturating_add_signed(offset);
        let used = if matches!(own.level, Level::Raid0 | Level::Linear) {
            own.data_size
        } else {
            own.size
        };
        let data_end = i128::from(own.data_offset) + i128::from(used);
        if own.data_offset < own.super_offset {
            let mut end = own.super_offset;
            if log.size > 0 && log.offset != 0 {
                end = end.min(relative(log.offset.into()))
            }
            if let Some(offset) = own.bitmap_offset() {
                end = end.min(relative(offset.into()))
            }
            return (own.data_offset, (i128::from(end) - data_end).max(0));
        }
        let mut earliest = own.super_offset + KEPT;
        match (own.bitmap_offset(), own.ppl()) {
            // As mdadm counts: from the superblock, and not from where the disk begins.
            (Some(offset), _) if offset > 0 => {
                let bits = self
                    .bitmap
                    .as_ref()
                    .map_or(0, |header| header.sync_size / u64::from(header.chunk >> 9).max(1));
                let bytes = bits.div_ceil(8) + spec::md::bitmap::HEADER as u64;
                earliest = earliest.max(offset as u64 + bytes.next_multiple_of(4096) / 512)
            }
            (_, Some((offset, sectors))) if offset > 0 => earliest = earliest.max(offset as u64 + u64::from(sectors)),
            _ => (),
        }
        if log.size > 0 && log.offset != 0 {
            earliest = earliest.max(relative(log.offset.into()) + u64::from(log.size))
        }
        let before = own.data_offset.saturating_sub(earliest);
        (before, i128::from(self.sectors) - data_end)
    }

    /// As mdadm prints it, without the line that names the disk.
    pub fn text(&self, this_host: Option<&str>) -> String {
        let own = &self.superblock;
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key:>15} : {value}");
        };
        let bytes = |sectors: u64| u128::from(sectors) * 512;
        line("Magic", "a92b4efc".into());
        line("Version", self.minor.to_string());
        line("Feature Map", format!("{:#x}", own.features.0));
        line("Array UUID", id(own.array));
        let (host, name) = own.name();
        let local = host.as_deref().filter(|host| Some(*host) == this_host);
        let local = local.map_or_else(String::new, |host| format!("  (local to host {host})"));
        line(
            "Name",
            host.as_ref().map_or(name.clone(), |host| format!("{host}:{name}")) + &local,
        );
        line("Creation Time", time(own.ctime.seconds()));
        line("Raid Level", own.level.to_string());
        line("Raid Devices", own.raid_disks.to_string() + "\n");
        line(
            "Avail Dev Size",
            format!("{} sectors{}", own.data_size, size(bytes(own.data_size))),
        );
        if let Some(sectors) = array_sectors(own) {
            line("Array Size", format!("{} KiB{}", sectors / 2, size(bytes(sectors))))
        }
        if own.size > 0 && own.size != own.data_size {
            line(
                "Used Dev Size",
                format!("{} sectors{}", own.size, size(bytes(own.size))),
            )
        }
        if own.data_offset > 0 {
            line("Data Offset", format!("{} sectors", own.data_offset))
        }
        line("Super Offset", format!("{} sectors", own.super_offset));
        if own.features.has(Features::RECOVERY) {
            line("Recovery Offset", format!("{} sectors", own.recovery_offset))
        }
        if !own.features.has(Features::NEW_OFFSET) {
            let (before, after) = self.unused();
            let after = match after {
                0.. => format!("after={after} sectors"),
                _ => format!("after=-{} sectors DEVICE TOO SMALL", -after),
            };
            line("Unused Space", format!("before={before} sectors, {after}"))
        }
        let clean = own.resync_offset == u64::MAX;
        line("State", if clean { "clean" } else { "active" }.into());
        line("Device UUID", id(own.device) + "\n");
        match (own.bitmap_offset(), own.ppl()) {
            (Some(offset), _) => line("Internal Bitmap", format!("{offset} sectors from superblock")),
            (None, Some((offset, sectors))) => line(
                "PPL",
                format!("{sectors} sectors at offset {offset} sectors from superblock"),
            ),
            _ => (),
        }
        if own.features.has(Features::RESHAPE) {
            let (delta, now) = (own.reshape.delta_disks, own.raid_disks as i32);
            let position = own.reshape.position;
            line("Reshape pos'n", format!("{}{}", position / 2, size(bytes(position))));
            if delta != 0 {
                line("Delta Devices", format!("{delta} ({}->{now})\n", now - delta))
            }
        }
        let flags: Vec<&str> = [(v1::WRITE_MOSTLY, "write-mostly"), (v1::FAIL_FAST, "failfast")]
            .into_iter()
            .filter_map(|(bit, name)| (own.flags & bit != 0).then_some(name))
            .collect();
        if !flags.is_empty() {
            line("Flags", flags.join(" "))
        }
        line("Update Time", time(own.utime.seconds()));
        if own.bad_blocks.size > 0 && own.bad_blocks.offset != 0 {
            let log = own.bad_blocks;
            let present = match own.features.has(Features::BAD_BLOCKS) {
                true => " - bad blocks present.",
                false => "",
            };
            line(
                "Bad Block Log",
                format!(
                    "{} entries available at offset {} sectors{present}",
                    u32::from(log.size) * 64,
                    log.offset
                ),
            )
        }
        let sum = own.to_bytes().and_then(|bytes| {
            let four = bytes.get(216..220)?.first_chunk()?;
            Some(u32::from_le_bytes(*four))
        });
        // A superblock whose sum is wrong was not parsed.
        line("Checksum", format!("{:x} - correct", sum.unwrap_or(0)));
        line("Events", own.events.to_string() + "\n");
        let chunked = own.chunk > 0;
        let written = own.level != Level::Raid0 || own.features.has(Features::RAID0_LAYOUT);
        if let Some(layout) = layout(own.level, own.layout).filter(|_| written) {
            line("Layout", layout)
        }
        if chunked {
            line("Chunk Size", format!("{}K\n", own.chunk / 2))
        }
        // These two stand one column further to the left.
        let _ = writeln!(
            text,
            "   Device Role : {}\n   Array State : {}",
            self.role(),
            self.state()
        );
        text
    }

    /// What `--examine-badblocks` prints of the member of this name: each entry as it lies in the log.
    pub fn bad_blocks(&self, name: &str) -> Result<String, String> {
        let log = self.superblock.bad_blocks;
        // mdadm believes in no larger ones.
        if log.size == 0 || log.size > 100 || log.offset == 0 {
            return Ok(format!("No bad-blocks list configured on {name}\n"));
        }
        let listed = match &self.bad_blocks {
            None => return Ok(format!("Bad-blocks list is empty in {name}\n")),
            Some(Err(why)) => return Err(format!("{name}: its bad-block log cannot be used: {why}")),
            Some(Ok(listed)) => listed,
        };
        let mut text = format!("Bad-blocks on {name}:\n");
        for lost in listed {
            let _ = writeln!(text, "{:20} for {} sectors", lost.start, lost.end - lost.start);
        }
        Ok(text)
    }

    fn role(&self) -> String {
        match self.superblock.role() {
            Some(Role::Active(place)) if self.superblock.features.has(Features::REPLACEMENT) => {
                format!("Replacement device {place}")
            }
            Some(Role::Active(place)) => format!("Active device {place}"),
            Some(Role::Journal) => "Journal".into(),
            _ => "spare".into(),
        }
    }

    fn state(&self) -> String {
        let own = &self.superblock;
        let fewer = match own.features.has(Features::RESHAPE) {
            true => u32::try_from(-own.reshape.delta_disks).unwrap_or(0),
            false => 0,
        };
        let places = 0..own.raid_disks.saturating_add(fewer).min(own.roles.len() as u32);
        let letter = |place: u32| {
            let has = |role: &&Role| matches!(role, Role::Active(at) if u32::from(*at) == place);
            match own.roles.iter().filter(has).count() {
                0 => '.',
                1 => 'A',
                2 => 'R',
                _ => '?',
            }
        };
        let letters: String = places.map(letter).collect();
        format!("{letters} ('A' == active, '.' == missing, 'R' == replacing)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, fs, path::Path};

    /// Samples that the guest printed; empty lines are not kept in them.
    #[test]
    fn every_line_is_what_mdadm_said() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/tests/md/samples");
        let mut all: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let [name, kind] =
                [path.file_stem(), path.extension()].map(|part| part.unwrap().to_str().unwrap().to_owned());
            all.entry(name).or_default().insert(kind, fs::read(path).unwrap());
        }
        let mut seen = 0;
        for (name, kinds) in all {
            let Ok(superblock) = Superblock::parse(&kinds["sb"]) else {
                assert!(name.contains("0.90"), "{name}");
                continue;
            };
            let wanted = String::from_utf8(kinds["examine"].clone()).unwrap();
            let mib = match name.as_str() {
                name if name.starts_with("raid5-reshape") => 24,
                name if name.starts_with("raid0-") && name.ends_with(".1") => 9,
                _ => 12,
            };
            let minor = Minor::ALL
                .into_iter()
                .find(|minor| wanted.contains(&format!("Version : {minor}\n")))
                .unwrap();
            let examined = Examined {
                minor,
                bitmap: kinds.get("bitmap").and_then(|bytes| Header::parse(bytes).ok()),
                bad_blocks: None,
                superblock,
                sectors: mib << 11,
            };
            let text: Vec<String> = examined
                .text(None)
                .lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect();
            let wanted: Vec<&str> = wanted.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!(text, wanted, "{name}");
            seen += 1
        }
        assert!(seen > 30, "only {seen}")
    }

    #[test]
    fn bad_blocks_are_listed_as_mdadm_lists_them() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/tests/md/samples/raid1-1.2.0.sb");
        let mut examined = Examined {
            minor: Minor::V2,
            superblock: Superblock::parse(&fs::read(sample).unwrap()).unwrap(),
            bitmap: None,
            bad_blocks: None,
            sectors: 12 << 11,
        };
        let said = |examined: &Examined| examined.bad_blocks("a");
        assert_eq!(said(&examined).unwrap(), "Bad-blocks list is empty in a\n");
        examined.bad_blocks = Some(Ok(vec![20480..20608, 5..6]));
        assert_eq!(
            said(&examined).unwrap(),
            "Bad-blocks on a:\n               20480 for 128 sectors\n                   5 for 1 sectors\n"
        );
        examined.bad_blocks = Some(Err("medium error".into()));
        assert!(said(&examined).unwrap_err().contains("medium error"));
        examined.superblock.bad_blocks.size = 101;
        assert_eq!(said(&examined).unwrap(), "No bad-blocks list configured on a\n");
    }

    #[test]
    fn sizes_and_times_are_written_as_mdadm_writes_them() {
        assert_eq!(size(18432 * 512), " (9.00 MiB 9.44 MB)");
        assert_eq!(size(1000), "");
        assert_eq!(size(3 << 40), " (3.00 TiB 3.30 TB)");
        assert_eq!(time(1_795_932_991), "Sun Nov 29 06:16:31 2026");
        assert_eq!(time(951_782_400), "Tue Feb 29 00:00:00 2000");
    }
}
