//! Superblocks that mdadm and Linux wrote (md/samples, made by tests/guest/scripts/md_samples.sh), and what `mdadm --examine` says of them and of ours.
use spec::{
    Spans,
    md::{
        Level, bad_blocks, bitmap, journal, parity, ppl, raid10, v0,
        v1::{self, Features, Minor, Role, Superblock, Time},
    },
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Samples by name and kind.
fn samples() -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::<_, BTreeMap<_, _>>::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/md/samples")).unwrap() {
        let path = entry.unwrap().path();
        let [name, kind] = [path.file_stem(), path.extension()].map(|part| part.unwrap().to_str().unwrap().to_owned());
        all.entry(name).or_default().insert(kind, fs::read(path).unwrap());
    }
    assert!(all.len() >= 35, "only {} samples", all.len());
    all
}

/// `f339e6da:8810d131:a5123c2e:c2e883ce`
fn groups(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes
        .chunks(4)
        .map(|four| four.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    hex.join(":")
}

fn layout_name(level: Level, layout: u32) -> Option<String> {
    match level {
        Level::Raid5 | Level::Raid6 => Some(parity::Layout::from_number(level, layout).unwrap().name()),
        Level::Raid10 => {
            let layout = raid10::Layout::from_number(layout).unwrap();
            Some(match (layout.far, layout.offset) {
                (1, _) => format!("near={}", layout.near),
                (far, false) => format!("far={far}"),
                (far, true) => format!("offset={far}"),
            })
        }
        _ => None,
    }
}

/// What `mdadm --examine` must say of a superblock: the start of a line each, without what stands before the name.
fn examine(sb: &Superblock) -> Vec<String> {
    let (host, name) = sb.name();
    let full = host.map_or(name.clone(), |host| format!("{host}:{name}"));
    let mut lines = vec![
        "Magic : a92b4efc".into(),
        format!("Feature Map : {:#x}", sb.features.0),
        format!("Array UUID : {}", groups(sb.array.as_bytes())),
        format!("Name : {full}"),
        format!("Raid Level : {}", sb.level),
        format!("Raid Devices : {}", sb.raid_disks),
        format!("Avail Dev Size : {} sectors", sb.data_size),
        format!("Super Offset : {} sectors", sb.super_offset),
        format!(
            "State : {}",
            if sb.resync_offset == u64::MAX {
                "clean"
            } else {
                "active"
            }
        ),
        format!("Device UUID : {}", groups(sb.device.as_bytes())),
        format!("Events : {}", sb.events),
        format!(
            "Checksum : {:x} - correct",
            u32::from_le_bytes(sb.to_bytes().unwrap()[216..220].try_into().unwrap())
        ),
    ];
    if let Some(layout) = layout_name(sb.level, sb.layout) {
        lines.push(format!("Layout : {layout}"))
    }
    if sb.data_offset > 0 {
        lines.push(format!("Data Offset : {} sectors", sb.data_offset))
    }
    if sb.chunk > 0 {
        lines.push(format!("Chunk Size : {}K", sb.chunk / 2))
    }
    if sb.size > 0 && sb.size != sb.data_size {
        lines.push(format!("Used Dev Size : {} sectors", sb.size))
    }
    if let Some(offset) = sb.bitmap_offset() {
        lines.push(format!("Internal Bitmap : {offset} sectors from superblock"))
    }
    if let Some((offset, size)) = sb.ppl() {
        lines.push(format!(
            "PPL : {size} sectors at offset {offset} sectors from superblock"
        ))
    }
    if sb.bad_blocks.size > 0 {
        let log = sb.bad_blocks;
        lines.push(format!(
            "Bad Block Log : {} entries available at offset {} sectors",
            log.size * 64,
            log.offset
        ))
    }
    if sb.features.has(Features::RECOVERY) {
        lines.push(format!("Recovery Offset : {} sectors", sb.recovery_offset))
    }
    if sb.features.has(Features::RESHAPE) {
        let (delta, now) = (sb.reshape.delta_disks, sb.raid_disks as i32);
        lines.push(format!("Reshape pos'n : {}", sb.reshape.position / 2));
        lines.push(format!("Delta Devices : {delta} ({}->{now})", now - delta))
    }
    let flags = [(v1::WRITE_MOSTLY, "write-mostly"), (v1::FAIL_FAST, "failfast")];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|(bit, _)| sb.flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if !flags.is_empty() {
        lines.push(format!("Flags : {}", flags.join(" ")))
    }
    lines.push(match sb.role().unwrap() {
        Role::Active(n) if sb.features.has(Features::REPLACEMENT) => format!("Device Role : Replacement device {n}"),
        Role::Active(n) => format!("Device Role : Active device {n}"),
        Role::Journal => "Device Role : Journal".into(),
        Role::Spare | Role::Faulty | Role::Other(_) => "Device Role : spare".into(),
    });
    lines
}

fn compare(name: &str, text: &str, wanted: &[String]) {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    for wanted in wanted {
        let whole = |line: &&&str| {
            line.strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',']))
        };
        assert!(
            lines.iter().find(whole).is_some(),
            "{name}: mdadm does not say '{wanted}' but\n{text}"
        );
    }
}

#[test]
fn what_mdadm_wrote_is_read_as_mdadm_reads_it_and_goes_back_as_it_came() {
    let (mut newer, mut older, mut logs) = (0, 0, 0);
    for (name, kinds) in samples() {
        let (bytes, text) = (&kinds["sb"], String::from_utf8(kinds["examine"].clone()).unwrap());
        if name.contains("0.90") {
            let sb = v0::Superblock::parse(bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(sb.to_bytes(), *bytes, "{name}");
            let this = sb.this();
            let mut wanted = vec![
                format!("Version : 0.{}.00", sb.minor()),
                format!("UUID : {}", groups(sb.array().as_bytes())),
                format!("Raid Level : {}", sb.level()),
                format!("Used Dev Size : {}", sb.size_kib()),
                format!("Raid Devices : {}", sb.raid_disks()),
                format!("Total Devices : {}", sb.nr_disks()),
                format!("Preferred Minor : {}", sb.md_minor()),
                format!(
                    "State : {}",
                    if sb.state() & v0::Superblock::CLEAN != 0 {
                        "clean"
                    } else {
                        "active"
                    }
                ),
                format!("Active Devices : {}", sb.active_disks()),
                format!("Working Devices : {}", sb.working_disks()),
                format!("Failed Devices : {}", sb.failed_disks()),
                format!("Spare Devices : {}", sb.spare_disks()),
                format!("Events : {}", sb.events()),
                format!(
                    "this {:5}   {:5}    {:5}    {:5}",
                    this.number, this.major, this.minor, this.place
                ),
            ];
            if let Some(layout) = layout_name(sb.level(), sb.layout()) {
                wanted.push(format!("Layout : {layout}"));
                wanted.push(format!("Chunk Size : {}K", sb.chunk_size() / 1024))
            }
            assert_eq!(
                sb.state() & v0::Superblock::BITMAP != 0,
                kinds.contains_key("bitmap"),
                "{name}"
            );
            let active = (0..v0::DISKS).filter(|n| sb.disk(*n).unwrap().is_active()).count();
            assert_eq!(active, sb.active_disks() as usize, "{name}");
            let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text: String = text.lines().map(|line| flat(line) + "\n").collect();
            let wanted: Vec<_> = wanted.iter().map(|line| flat(line)).collect();
            compare(&name, &text, &wanted);
            older += 1;
            continue;
        }
        let sb = Superblock::parse(bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
        let again = sb.to_bytes().unwrap();
        assert_eq!(again, bytes[..again.len()], "{name}");
        assert_eq!(sb.footprint(), bytes.len(), "{name}");
        assert_eq!(sb.features.unknown(), 0, "{name}");
        compare(&name, &text, &examine(&sb));
        let minor = Minor::ALL
            .into_iter()
            .find(|minor| text.contains(&format!("Version : {minor}\n")))
            .unwrap();
        let device = if name.starts_with("raid5-reshape") { 24 } else { 12 } << 11;
        let device = if name.starts_with("raid0-") && name.ends_with(".1") {
            9 << 11
        } else {
            device
        };
        assert_eq!(minor.sector(device), Some(sb.super_offset), "{name}");
        newer += 1;
        if let Some(bytes) = kinds.get("bitmap") {
            let map = bitmap::Header::parse(bytes).unwrap();
            assert_eq!(map.to_bytes(), bytes[..bitmap::HEADER], "{name}");
            assert_eq!((map.array, map.version), (sb.array, bitmap::Version::Plain), "{name}");
            assert!(map.sync_size == sb.size && map.events <= sb.events, "{name}: {map:?}");
        }
        // Logs are used in turn; one that was never written is zeros.
        for bytes in ["ppl0", "ppl1"].into_iter().filter_map(|kind| kinds.get(kind)) {
            if bytes.iter().any(|byte| *byte != 0) {
                let log = ppl::Header::parse(bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
                assert_eq!(log.signature, ppl::signature(sb.array), "{name}");
                assert_eq!(log.to_bytes().unwrap()[..], bytes[..], "{name}");
                logs += 1
            }
        }
        if let Some(bytes) = kinds.get("journal") {
            let block = journal::MetaBlock::parse(bytes, sb.array).unwrap();
            // Its tail is the write that was made: nothing has asked for its room yet.
            assert_eq!(
                (block.position, block.is_empty()),
                (sb.recovery_offset, false),
                "{name}"
            );
            assert!(
                journal::MetaBlock::parse(bytes, uuid::Uuid::nil()).is_err(),
                "{name}: of another array"
            );
        }
    }
    assert!(
        newer >= 30 && older >= 5 && logs >= 3,
        "{newer} of 1.x, {older} of 0.90, {logs} logs"
    );
}

#[test]
fn what_the_samples_were_made_to_have() {
    let all = samples();
    let sb = |name: &str| Superblock::parse(&all[name]["sb"]).unwrap();
    assert_eq!(sb("raid1-1.2.0").name(), (Some("stone".into()), "m1.2".into()));
    assert_eq!(sb("raid6-spare.4").role(), Some(Role::Spare));
    assert_eq!(sb("raid5-journal.3").role(), Some(Role::Journal));
    let degraded = sb("raid5-degraded.2");
    assert_eq!((degraded.role(), degraded.layout), (Some(Role::Active(2)), 1));
    assert!(
        sb("raid10-failed.0").events > sb("raid10-failed.1").events,
        "one has missed something"
    );
    let [zero, one] = ["raid0-original.0", "raid0-alternate.0"].map(sb);
    assert_eq!((zero.layout, one.layout), (1, 2));
    assert!(zero.features.has(Features::RAID0_LAYOUT) && zero.size == 0);
    assert_eq!(sb("raid1-write-mostly.2").flags & v1::WRITE_MOSTLY, v1::WRITE_MOSTLY);
    assert_eq!(sb("raid1-write-mostly.0").flags, v1::FAIL_FAST);
    assert!(sb("raid1-replacement.2").features.has(Features::REPLACEMENT));
    let reshape = sb("raid5-reshape.3");
    assert!(
        reshape.features.has(Features::RESHAPE) && reshape.reshape.delta_disks == 1 && reshape.reshape.position > 0
    );

    // Sectors of the device: what was said in sectors of the data has the start of the data added.
    let bad = sb("raid1-bad-blocks.0");
    assert!(bad.features.has(Features::BAD_BLOCKS));
    let log = &all["raid1-bad-blocks.0"]["bblog"];
    let ranges = bad_blocks::parse(log, bad.bad_blocks.shift).unwrap();
    assert_eq!(ranges, [2500..2508, 4096..4099, 9000..9512]);
    let mut made = bad_blocks::Log::new(log.len());
    let pages = made.change(&ranges.into_iter().collect()).unwrap();
    assert_eq!(pages, std::slice::from_ref(log));

    // Chunks of 64 KiB; writes of 4 KiB at 16, 800, 816 and 1584 times 4 KiB.
    let bytes = &all["raid1-dirty.0"]["bitmap"];
    let map = bitmap::Header::parse(bytes).unwrap();
    let dirty: Vec<_> = bitmap::dirty(&bytes[bitmap::HEADER..], map.bits()).collect();
    assert_eq!((map.chunk, dirty), (65536, vec![1, 50, 51, 99]));
    let clean = bitmap::Header::parse(&all["raid1-dirty.1"]["bitmap"]).unwrap();
    assert!(clean.events < map.events);
}

fn mdadm(verb: &str, file: &Path) -> Option<String> {
    let programs = ["mdadm", "/usr/sbin/mdadm", "/sbin/mdadm"].iter();
    let run = |program| {
        Command::new(program)
            .env("LC_ALL", "C")
            .arg(verb)
            .arg(file)
            .output()
            .ok()
    };
    let output = programs.filter_map(run).next()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn image(name: &str, sectors: u64, at: u64, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::FileExt;
    let path = std::env::temp_dir().join(format!("ashlar-md-{}-{name}", std::process::id()));
    let file = fs::File::create(&path).unwrap();
    file.set_len(sectors * 512).unwrap();
    file.write_all_at(bytes, at * 512).unwrap();
    path
}

/// Of each level and place, with each thing that can be set.
#[test]
fn mdadm_reads_what_we_write_as_we_meant_it() {
    const SECTORS: u64 = 20480;
    let shapes = [
        (Level::Linear, 0, 0),
        (Level::Raid0, 2, 1024),
        (Level::Raid1, 0, 0),
        (Level::Raid4, 0, 128),
        (Level::Raid5, 3, 1024),
        (Level::Raid6, 18, 8),
        (Level::Raid10, 0x1_0201, 256),
    ];
    for (n, (level, layout, chunk)) in shapes.into_iter().enumerate() {
        for minor in Minor::ALL {
            let name = format!("{level}-{minor}");
            let mut sb = Superblock::new(
                uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677 + n as u128),
                level,
            );
            sb.set_name(Some("host"), &name).unwrap();
            sb.ctime = Time::from_seconds(1_800_000_000);
            sb.utime = Time::from_seconds(1_800_000_100);
            sb.layout = layout;
            sb.chunk = chunk;
            sb.raid_disks = 4;
            sb.data_offset = if minor == Minor::V0 { 0 } else { 2048 };
            sb.super_offset = minor.sector(SECTORS).unwrap();
            sb.data_size = 16384;
            sb.size = if matches!(level, Level::Linear | Level::Raid0) {
                0
            } else {
                16000
            };
            sb.number = 2;
            sb.device = uuid::Uuid::from_u128(0xfedc_ba98_7654_3210_0000_0000_0000_0001);
            sb.events = (1 << 33) + 17;
            sb.resync_offset = if n % 2 == 0 { u64::MAX } else { 4096 };
            sb.roles = [0, 0xfffe, 1, 2, 0xffff].map(Role::from_number).into();
            sb.features.set(Features::RAID0_LAYOUT, level == Level::Raid0);
            sb.bad_blocks = v1::BadBlockLog {
                offset: if minor == Minor::V0 { -16 } else { 16 },
                size: 8,
                shift: 0,
            };
            match level {
                Level::Raid1 => {
                    sb.set_bitmap_offset(Some(if minor == Minor::V0 { -32 } else { 24 }));
                    sb.flags = v1::WRITE_MOSTLY
                }
                Level::Raid5 => sb.set_ppl(24, 1024, minor == Minor::V1),
                Level::Raid6 => {
                    sb.features.set(Features::RECOVERY, true);
                    sb.recovery_offset = 8000
                }
                _ => {}
            }
            let bytes = sb.to_bytes().unwrap();
            assert_eq!(Superblock::parse(&bytes), Ok(sb.clone()));
            // mdadm does not believe in a bitmap that is not there.
            let bitmap = sb.bitmap_offset().map(|offset| {
                let mut map = bitmap::Header::new(sb.array, sb.size, 1 << 16, 8);
                (map.events, map.events_cleared) = (sb.events, 5);
                let mut bytes = map.to_bytes().to_vec();
                bytes.extend([0, 0b101, 0x80]);
                (sb.relative(offset.into()).unwrap(), bytes)
            });
            let path = image(&name, SECTORS, sb.super_offset, &bytes);
            if let Some((at, bytes)) = &bitmap {
                use std::os::unix::fs::FileExt;
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .write_all_at(bytes, at * 512)
                    .unwrap();
            }
            let Some(text) = mdadm("--examine", &path) else {
                return reactor::testing::skip("mdadm_reads_what_we_write_as_we_meant_it", "no mdadm");
            };
            if let Some((_, bytes)) = &bitmap {
                // Of a file it takes the start for a bitmap.
                let path = image(&format!("{name}-bitmap"), 64, 0, bytes);
                let text = mdadm("--examine-bitmap", &path).unwrap();
                fs::remove_file(path).unwrap();
                let wanted = [
                    format!("UUID : {}", groups(sb.array.as_bytes())),
                    format!("Events : {}", sb.events),
                    "Events Cleared : 5".into(),
                    "Chunksize : 64 KB".into(),
                    "Daemon : 5s flush period".into(),
                    "Sync Size : 8000".into(),
                    "Bitmap : 125 bits (chunks), 3 dirty (2.4%)".into(),
                ];
                compare(&name, &text, &wanted)
            }
            fs::remove_file(path).unwrap();
            let mut wanted = examine(&sb);
            wanted.push(format!("Version : {minor}"));
            wanted.push("Creation Time : Fri Jan 15 08:00:00 2027".into());
            wanted.push("Update Time : Fri Jan 15 08:01:40 2027".into());
            compare(&name, &text, &wanted);
        }
    }
    let mut sb = v0::Superblock::new(
        uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        Level::Raid5,
    );
    sb.set_size_kib(8000);
    sb.set_nr_disks(3);
    sb.set_raid_disks(3);
    sb.set_working_disks(3);
    sb.set_active_disks(3);
    sb.set_state(v0::Superblock::CLEAN);
    sb.set_layout(2);
    sb.set_chunk_size(65536);
    sb.set_events((1 << 32) + 5);
    for n in 0..3 {
        let disk = v0::Descriptor {
            number: n,
            major: 8,
            minor: n * 16,
            place: n,
            state: v0::Descriptor::ACTIVE | v0::Descriptor::SYNC,
        };
        sb.set_disk(n as usize, disk).unwrap();
        if n == 1 {
            sb.set_this(disk)
        }
    }
    let path = image("0.90", SECTORS, v0::sector(SECTORS).unwrap(), &sb.to_bytes());
    let text = mdadm("--examine", &path).unwrap();
    fs::remove_file(path).unwrap();
    let text: String = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    let wanted = [
        "UUID : 01234567:89abcdef:00112233:44556677",
        "Raid Level : raid5",
        "Used Dev Size : 8000",
        "State : clean",
        "Events : 4294967301",
        "Layout : left-symmetric",
        "Chunk Size : 64K",
        "this 1 8 16 1 active sync",
    ];
    compare("0.90", &text, &wanted.map(str::to_owned));
    assert!(text.contains("- correct"), "{text}");
}

/// The other byte order: the same words turned round, which Linux on such machines writes.
#[test]
fn a_superblock_of_the_other_byte_order_says_the_same() {
    let bytes = &samples()["raid5-0.90-spare.3"]["sb"];
    let little = v0::Superblock::parse(bytes).unwrap();
    let mut turned: Vec<u8> = bytes.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    // Halves of 64-bit numbers change places, too.
    for at in [39, 41, 44] {
        let (low, high) = turned[4 * at..4 * at + 8].split_at_mut(4);
        low.swap_with_slice(high)
    }
    let big = v0::Superblock::parse(&turned).unwrap();
    assert_eq!(big.order, v0::Order::Big);
    assert_eq!(
        (big.array(), big.events(), big.this()),
        (little.array(), little.events(), little.this())
    );
    assert_eq!(big.to_bytes(), turned);
}

#[test]
fn every_bit_counts() {
    let all = samples();
    for name in ["raid1-1.2.0", "raid5-0.90-spare.0"] {
        let bytes = &all[name]["sb"];
        let covered = if name.contains("0.90") {
            bytes.len()
        } else {
            Superblock::parse(bytes).unwrap().to_bytes().unwrap().len()
        };
        for bit in (0..covered * 8).step_by(if covered > 1000 { 7 } else { 1 }) {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Superblock::parse(&bad).is_err() && v0::Superblock::parse(&bad).is_err(),
                "{name}, bit {bit}"
            );
        }
        for len in 0..covered {
            assert!(
                Superblock::parse(&bytes[..len]).is_err() && v0::Superblock::parse(&bytes[..len]).is_err(),
                "{name}, {len} bytes"
            );
        }
    }
}

#[test]
fn bad_blocks_that_do_not_fit_or_make_no_sense() {
    use bad_blocks::{Error, Log};
    let mut log = Log::new(64);
    let long = log.change(&Spans::from_iter(std::iter::once(10..3010))).unwrap();
    let back = bad_blocks::parse(&long[0], 0).unwrap();
    // As Linux keeps them: its page is not full before ours is.
    assert_eq!(
        back,
        [10..522, 522..1034, 1034..1546, 1546..2058, 2058..2570, 2570..3010]
    );
    assert_eq!(bad_blocks::parse(&long[0], 3).unwrap()[0], 80..4176);
    let many = Spans::from_iter((0..513).map(|n| n * 2..n * 2 + 1));
    assert_eq!(Log::new(4096).change(&many), Err(Error::Room(512)));
    assert_eq!(
        Log::new(4096).change(&Spans::from_iter(std::iter::once(5..u64::MAX))),
        Err(Error::Room(512))
    );
    let zero = [0; 8];
    assert_eq!(bad_blocks::parse(&zero, 0), Err(Error::Entry(0)));
    assert_eq!(bad_blocks::parse(&zero, 10), Err(Error::Shift(10)));
    // It begins on the largest of disks and ends beyond it.
    assert_eq!(
        bad_blocks::parse(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0),
        Err(Error::Entry(0))
    );
}

#[test]
fn a_partial_parity_log_of_ours() {
    let array = uuid::Uuid::from_u128(9);
    let mut log = ppl::Header::new(array, 7);
    log.entries = (0..ppl::ENTRIES_MAX as u32)
        .map(|n| ppl::Entry {
            data_sector: u64::from(n) * 8,
            data_size: 4096,
            sums_size: 4096,
            parity: n % 3,
            checksum: n,
        })
        .collect();
    let bytes = log.to_bytes().unwrap();
    assert!(bytes[..512].iter().all(|byte| *byte == 0xff));
    let read = ppl::Header::parse(&bytes[..]).unwrap();
    assert_eq!(
        (&read.entries, read.generation, read.signature),
        (&log.entries, 7, ppl::signature(array))
    );
    log.entries.push(ppl::Entry::default());
    assert_eq!(log.to_bytes(), None);
}
