//! Partition tables changed by us: after a power cut at any point discovery and sfdisk find the old partitions or the new ones; what we write is
//! what sfdisk would have written; any sequence of changes agrees with a model and loses nothing.
#[path = "crash/mod.rs"]
mod crash;
#[path = "partitions/tool.rs"]
mod tool;

use crash::{
    Lab,
    image::Image,
    sweep::{Swept, sweep},
};
use lvol::{
    Request, Verdict,
    plan::{Code, Plan},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use spec::mbr;
use std::collections::BTreeMap;
use tool::{MIB, have, loops, run, save, sfdisk_json, sfdisk_sees, skip_without};
use uuid::Uuid;

fn lab(blocks: u64, block_size: u32) -> Lab {
    let mut lab = Lab::new();
    lab.add(Image::new("d", blocks, block_size));
    lab
}

fn ask(verb: &str, object: &str, options: Value) -> Request {
    let mut request = Request::new(verb, object);
    request.options = options.as_object().cloned().unwrap_or_default();
    request
}

fn refused(lab: &Lab, request: &Request) -> (Code, String) {
    let why = lab.plan(request).expect_err("it should be refused");
    (why.code, why.to_string())
}

/// Partitions as sfdisk counts them: number, first block, blocks.
fn places(lab: &Lab) -> Vec<(u32, u64, u64)> {
    let nodes = lab.found().nodes.values();
    let mut all: Vec<_> = nodes
        .filter_map(|node| {
            let partition = node.partition.as_ref().filter(|partition| partition.disk() == "d")?;
            let extent = partition.extent();
            Some((partition.number(), extent.start, extent.count))
        })
        .collect();
    all.sort_unstable();
    all
}

/// A disk with a GPT and three partitions.
fn gpt(block_size: u32) -> Lab {
    let mut lab = lab(64 * MIB / u64::from(block_size), block_size);
    lab.change(&ask("label-create", "d", json!({"scheme": "gpt"})));
    for options in [
        json!({"size": "8m", "type": "uefi", "name": "efi"}),
        json!({"size": "16m", "name": "größe", "attributes": ["LegacyBIOSBootable"]}),
        json!({"start": "40m", "size": "4m", "type": "lvm"}),
    ] {
        lab.change(&ask("partition-create", "d", options));
    }
    lab
}

/// A disk with an MBR, two primary and three logical partitions.
fn dos(block_size: u32) -> Lab {
    let mut lab = lab(64 * MIB / u64::from(block_size), block_size);
    lab.change(&ask("label-create", "d", json!({"scheme": "dos"})));
    for options in [
        json!({"size": "4m", "bootable": true}),
        json!({"size": "40m", "place": "extended"}),
        json!({"size": "8m", "type": "c", "number": 3}),
        json!({"size": "6m", "place": "logical"}),
        json!({"size": "7m", "place": "logical", "type": "lvm"}),
        json!({"size": "8m", "place": "logical"}),
    ] {
        lab.change(&ask("partition-create", "d", options));
    }
    lab
}

/// Cuts the power everywhere in one change, and asks sfdisk about some of the states.
fn cut(lab: &Lab, request: &Request) -> Swept {
    let plan = lab.plan(request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
    let old = places(lab);
    let mut after = lab.clone();
    after.carry(&plan);
    let new = places(&after);
    // It knows nothing of Apple's maps, and shows partition c of a BSD label.
    let disk = &lab.found().nodes["d"];
    let known = matches!(disk.findings.format, Some("gpt" | "mbr" | "sun" | "sgi"));
    let asks = disk.block_size == 512 && known && have(&["sfdisk"]);
    let mut number = 0;
    let swept = sweep(
        lab,
        &plan,
        |found, _| found.summary(),
        |state, _| {
            number += 1;
            // Changes of a GPT have thousands of states that differ in where the array is torn only.
            if asks && (number <= 30 || number % 7 == 0) {
                let sees = sfdisk_sees(&state.images()["d"]);
                assert!(
                    sees == old || sees == new,
                    "sfdisk sees {sees:?}, old {old:?}, new {new:?}\n{plan}"
                );
            }
        },
    );
    eprintln!("{} {}: {swept:?}", request.verb, request.object);
    swept
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_gpt() {
    for block_size in [512, 4096] {
        let lab = gpt(block_size);
        for request in [
            ask("partition-create", "d", json!({})),
            ask("partition-create", "d", json!({"number": 128, "size": "1m"})),
            ask("partition-delete", "dp2", json!({})),
            ask("partition-resize", "dp2", json!({})),
            ask("partition-resize", "dp1", json!({"size": "-1m"})),
            ask(
                "partition-change",
                "dp3",
                json!({"name": "other", "type": "swap", "attributes": ["60"], "guid": uuid::Uuid::from_u128(5)}),
            ),
            ask("disk-identify", "d", json!({})),
            ask("label-remove", "d", json!({})),
            ask("label-create", "d", json!({"scheme": "gpt", "force": true})),
            ask("label-create", "d", json!({"scheme": "dos", "force": true})),
        ] {
            let swept = cut(&lab, &request);
            assert!(swept.old > 1 && swept.new > 1, "{request:?}: {swept:?}");
        }
    }
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_mbr() {
    for block_size in [512, 4096] {
        let lab = dos(block_size);
        for request in [
            ask("partition-create", "d", json!({})),
            ask("partition-create", "d", json!({"place": "logical"})),
            ask("partition-delete", "dp1", json!({})),
            ask("partition-delete", "dp2", json!({})),
            ask("partition-delete", "dp5", json!({})),
            ask("partition-delete", "dp6", json!({})),
            ask("partition-delete", "dp7", json!({})),
            ask("partition-resize", "dp7", json!({})),
            ask("partition-resize", "dp6", json!({"size": "-1m"})),
            ask("partition-resize", "dp3", json!({})),
            ask("partition-change", "dp6", json!({"type": "swap", "bootable": true})),
            ask("disk-identify", "d", json!({})),
            ask("label-remove", "d", json!({})),
            ask("label-create", "d", json!({"scheme": "gpt", "force": true})),
            ask("label-create", "d", json!({"scheme": "dos", "force": true})),
        ] {
            cut(&lab, &request);
        }
    }
}

#[test]
fn a_power_cut_during_a_repair_loses_nothing() {
    for block_size in [512u32, 4096] {
        let size = u64::from(block_size);
        let sound = gpt(block_size);
        let blocks = 64 * MIB / size;
        let zero = vec![0x5a; block_size as usize];
        // Primary header, primary array, backup header, backup array, protective MBR.
        for at in [1, 2, blocks - 1, blocks - 2 - 16_384 / size / 2, 0] {
            let mut lab = sound.clone();
            match at {
                0 => lab.put("d", 0, &vec![0; block_size as usize]),
                at => lab.put("d", at * size, &zero),
            }
            lab.discover();
            assert_eq!(places(&lab), places(&sound), "block {at}");
            let damaged = lab.clone();
            let plan = lab.change(&ask("label-repair", "d", json!({})));
            assert_eq!(
                lab.images()["d"].differing(&sound.images()["d"]),
                [0u64; 0],
                "block {at}: {plan}"
            );
            let swept = sweep(
                &damaged,
                &plan,
                |found, lab| format!("{}{}", found.summary(), lab.images()["d"] == sound.images()["d"]),
                |state, _| assert_eq!(places(state), places(&sound)),
            );
            assert!(swept.new > 0);
            assert_eq!(refused(&lab, &ask("label-repair", "d", json!({}))).0, Code::Nothing);
            // Any other change mends it, too.
            let mut lab = damaged;
            let plan = lab.change(&ask("partition-change", "dp1", json!({"name": "x"})));
            assert!(plan.summary[0].starts_with("Mends the GPT of d: "), "{plan}");
            assert_eq!(refused(&lab, &ask("label-repair", "d", json!({}))).0, Code::Nothing);
        }
    }
}

#[test]
fn a_grown_disk_gets_its_backup_to_the_end() {
    for more in [1u64, 8, 33, 40_000] {
        let small = gpt(512);
        let mut image = small.images()["d"].clone();
        image.resize(131_072 + more);
        let mut lab = Lab::new();
        lab.add(image);
        assert_eq!(places(&lab), places(&small));
        let request = ask("label-repair", "d", json!({}));
        let plan = lab.plan(&request).unwrap();
        let old = places(&lab);
        sweep(
            &lab,
            &plan,
            |_, lab| {
                format!(
                    "{}",
                    lab.images()["d"]
                        .read((131_072 + more - 1) * 512, 8 * 64)
                        .starts_with(b"EFI PART")
                        && lab.found().nodes["d"].findings.notes.is_empty()
                )
            },
            |state, _| {
                assert_eq!(places(state), old);
                assert_eq!(state.found().nodes["d"].findings.verdict, Verdict::Claimed);
            },
        );
        lab.carry(&plan);
        assert_eq!(
            lab.found().nodes["d"].findings.notes,
            Vec::<String>::new(),
            "{more}: {plan}"
        );
        // The new room can be had at once, too, and the old backup is gone.
        let mut lab = Lab::new();
        let mut image = small.images()["d"].clone();
        image.resize(131_072 + more);
        lab.add(image);
        if more > 10_000 {
            lab.change(&ask("partition-create", "d", json!({"start": "64m", "size": "8m"})));
            assert_eq!(places(&lab).len(), 4);
            assert_ne!(lab.images()["d"].read(131_071 * 512, 512)[..8], *b"EFI PART");
        }
        if !skip_without("GPT on a grown disk", &["sgdisk", "sfdisk"]) {
            verified(&lab.plan(&request).map_or_else(
                |_| lab.clone(),
                |plan| {
                    let mut lab = lab.clone();
                    lab.carry(&plan);
                    lab
                },
            ));
        }
    }
}

/// The real tools find nothing wrong with what is on the disk, and see what we see.
fn verified(lab: &Lab) {
    let image = &lab.images()["d"];
    let saved = save(image);
    let device = loops::attach(&saved.path, image.block_size);
    let Some(path) = device
        .as_ref()
        .map(|device| device.path.clone())
        .or((image.block_size == 512).then(|| saved.path.clone()))
    else {
        return;
    };
    let check = |name: &str, args: &[&str], bad: &[&str], good: &str| {
        let out = run(name, args, &path, "");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(out.status.success(), "{name} {args:?}: {text}");
        assert!(
            bad.iter().all(|bad| !text.contains(bad)) && text.contains(good),
            "{name} {args:?}: {text}"
        );
    };
    let gpt = lab.found().nodes["d"].findings.format == Some("gpt");
    check(
        "sfdisk",
        &["-V"],
        &["mismatch", "corrupt", "overlap"],
        "No errors detected",
    );
    if gpt && have(&["sgdisk"]) {
        check(
            "sgdisk",
            &["-v"],
            &["Problem", "Caution", "mismatch"],
            "No problems found",
        );
    }
    if have(&["parted"]) {
        check("parted", &["-s", "-m"], &["Warning", "Error"], "");
        let out = run("parted", &["-s", "-m"], &path, "");
        assert!(out.status.success());
        // Names have letters that the plain locale does not.
        let out = std::process::Command::new("parted")
            .env("LC_ALL", "C.UTF-8")
            .args(["-s", "-m"])
            .arg(&path)
            .args(["unit", "s", "print"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success() && !String::from_utf8_lossy(&out.stderr).contains("Warning"),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let theirs = text
            .lines()
            .filter(|line| line.as_bytes().first().is_some_and(u8::is_ascii_digit));
        let extended = |line: &str| !gpt && lab_extended(lab) == line.split(':').next().and_then(|n| n.parse().ok());
        assert_eq!(
            theirs.filter(|line| !extended(line)).count(),
            places(lab).len(),
            "{text}"
        );
    }
    if have(&["blkid"]) {
        check(
            "blkid",
            &["-p", "-o", "export"],
            &[],
            if gpt { "PTTYPE=gpt" } else { "PTTYPE=dos" },
        );
    }
    if let Some(json) = sfdisk_json(&path) {
        assert_eq!(tool::listed(&json, path.to_str().unwrap()), places(lab), "{json:#}");
    }
}

fn lab_extended(lab: &Lab) -> Option<u32> {
    let front = lab.images()["d"].read(0, 512);
    mbr::Record::parse(&front).ok()?.extended().map(|(number, _)| number)
}

#[test]
fn the_real_tools_find_nothing_wrong_with_what_we_write() {
    if skip_without("labels that we write", &["sfdisk", "sgdisk", "parted", "blkid"]) {
        return;
    }
    for block_size in [512, 4096] {
        let mut lab = gpt(block_size);
        verified(&lab);
        for request in [
            ask("partition-create", "d", json!({"number": 100, "type": "spdk"})),
            ask("partition-delete", "dp1", json!({})),
            ask("partition-resize", "dp2", json!({"size": "+1m"})),
            ask("partition-resize", "dp3", json!({"size": "1m"})),
            ask(
                "partition-change",
                "dp2",
                json!({"name": "n", "type": "swap", "guid": Uuid::from_u128(9)}),
            ),
        ] {
            lab.change(&request);
            verified(&lab);
        }
        let mut lab = dos(block_size);
        verified(&lab);
        for request in [
            ask("partition-create", "d", json!({"place": "logical"})),
            ask("partition-delete", "dp6", json!({})),
            ask("partition-delete", "dp5", json!({})),
            ask("partition-resize", "dp5", json!({"size": "5m"})),
            ask("partition-create", "d", json!({"place": "logical", "size": "1m"})),
            ask("partition-delete", "dp1", json!({})),
        ] {
            lab.change(&request);
            verified(&lab);
        }
    }
}

/// The same label by sfdisk, on an image of the same size.
fn by_sfdisk(block_size: u32, scripts: &[(&[&str], &str)]) -> Option<Image> {
    let saved = save(&Image::new("d", 64 * MIB / u64::from(block_size), block_size));
    let device = loops::attach(&saved.path, block_size);
    let path = match (&device, block_size) {
        (Some(device), _) => device.path.clone(),
        (None, 512) => saved.path.clone(),
        _ => return None,
    };
    for (args, script) in scripts {
        let quiet = [
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            "--wipe",
            "never",
            "--wipe-partitions",
            "never",
        ];
        // The number of a partition to delete comes behind the device.
        let (behind, front): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.parse::<u32>().is_ok());
        let mut command = std::process::Command::new("sfdisk");
        command
            .args(quiet)
            .args(front)
            .arg(&path)
            .args(behind)
            .stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{args:?} {script}");
    }
    drop(device);
    Some(Image::load("d", &saved.path, block_size))
}

fn same(ours: &Lab, theirs: &Image) {
    let ours = &ours.images()["d"];
    if let Some(sector) = ours.differing(theirs).into_iter().next() {
        let (a, b) = (ours.read(sector * 512, 512), theirs.read(sector * 512, 512));
        let at = (0..512).find(|at| a[*at] != b[*at]).unwrap();
        panic!(
            "sector {sector}, byte {at}:\nours   {:02x?}\nsfdisk {:02x?}",
            &a[at & !15..(at | 15) + 1],
            &b[at & !15..(at | 15) + 1]
        );
    }
}

#[test]
fn what_we_write_is_byte_for_byte_what_sfdisk_writes() {
    if skip_without("labels that sfdisk writes alike", &["sfdisk"]) {
        return;
    }
    let id = "01234567-89AB-CDEF-0123-456789ABCDEF";
    let guid = |n: u128| Uuid::from_u128(n).to_string().to_uppercase();
    for block_size in [512, 4096] {
        let script = format!(
            "label: gpt\nlabel-id: {id}\nsize=8MiB, type=U, uuid={}, name=\"efi\"\n\
             size=16MiB, type=L, uuid={}, name=\"größe\", attrs=\"LegacyBIOSBootable GUID:60\"\n\
             type=V, uuid={}\n",
            guid(1),
            guid(2),
            guid(3)
        );
        let Some(theirs) = by_sfdisk(block_size, &[(&[], &script)]) else {
            continue;
        };
        let mut ours = lab(64 * MIB / u64::from(block_size), block_size);
        ours.change(&ask("label-create", "d", json!({"scheme": "gpt", "id": id})));
        for options in [
            json!({"size": "8m", "type": "uefi", "guid": guid(1), "name": "efi"}),
            json!({"size": "16m", "guid": guid(2), "name": "größe", "attributes": ["LegacyBIOSBootable", "60"]}),
            json!({"type": "lvm", "guid": guid(3)}),
        ] {
            ours.change(&ask("partition-create", "d", options));
        }
        same(&ours, &theirs);
        let theirs = by_sfdisk(block_size, &[(&[], &script), (&["--delete", "2"], "")]).unwrap();
        ours.change(&ask("partition-delete", "dp2", json!({})));
        same(&ours, &theirs);

        let script = "label: dos\nlabel-id: 0xcafe0001\nsize=4MiB, type=83, bootable\nsize=40MiB, type=5\nsize=8MiB, type=c\n\
             size=1MiB, type=82\nsize=6MiB, type=83\nsize=7MiB, type=8e\ntype=83\n";
        let Some(theirs) = by_sfdisk(block_size, &[(&[], script)]) else {
            continue;
        };
        let mut ours = lab(64 * MIB / u64::from(block_size), block_size);
        ours.change(&ask("label-create", "d", json!({"scheme": "dos", "id": "0xcafe0001"})));
        for options in [
            json!({"size": "4m", "bootable": true}),
            json!({"size": "40m", "type": "E"}),
            json!({"size": "8m", "type": "c"}),
            json!({"size": "1m", "type": "swap"}),
            json!({"size": "6m", "place": "logical"}),
            json!({"size": "7m", "type": "V"}),
            json!({}),
        ] {
            ours.change(&ask("partition-create", "d", options));
        }
        same(&ours, &theirs);
        // The middle of the chain, its end, its start.
        let deletes: [(&[&str], &str); 4] = [
            (&[], script),
            (&["--delete", "6"], ""),
            (&["--delete", "6"], ""),
            (&["--delete", "1"], ""),
        ];
        for count in 2..=deletes.len() {
            let theirs = by_sfdisk(block_size, &deletes[..count]).unwrap();
            let number = deletes[count - 1].0[1];
            ours.change(&ask("partition-delete", &format!("dp{number}"), json!({})));
            // sfdisk leaves the cylinders of the link that was there, and the record that nothing leads to any more.
            assert!(
                records(&ours.images()["d"]) == records(&theirs),
                "after {count} changes"
            );
        }
        let theirs = by_sfdisk(block_size, &[&deletes[..], &[(&["--delete", "5"], "")]].concat()).unwrap();
        ours.change(&ask("partition-delete", "dp5", json!({})));
        assert_eq!(places(&ours), sfdisk_places(&theirs));
    }
}

/// The records that lead to each other, without cylinders, heads and sectors.
fn records(image: &Image) -> Vec<(u64, Vec<u8>)> {
    let size = u64::from(image.block_size);
    let mut reader = mbr::Reader::new(mbr::Record::parse(&image.read(0, 512)).unwrap(), image.blocks);
    while let Some(at) = reader.next() {
        reader.give(&image.read(at * size, size));
    }
    let bare = |(at, record): (u64, mbr::Record)| {
        let mut bytes = record.to_bytes().to_vec();
        for entry in (446..510).step_by(16) {
            bytes[entry + 1..entry + 4].fill(0);
            bytes[entry + 5..entry + 8].fill(0);
        }
        (at, bytes)
    };
    reader.label().unwrap().records().into_iter().map(bare).collect()
}

fn sfdisk_places(image: &Image) -> Vec<(u32, u64, u64)> {
    let mut lab = Lab::new();
    lab.add(image.clone());
    places(&lab)
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let mut sound = gpt(512);
    let no = |lab: &Lab, verb: &str, object: &str, options: Value, code: Code, word: &str| {
        let (found, text) = refused(lab, &ask(verb, object, options));
        assert!(
            found == code && text.contains(word),
            "{verb} {object}: {found:?} {text}"
        );
    };
    no(
        &sound,
        "label-create",
        "d",
        json!({"scheme": "gpt"}),
        Code::NotBlank,
        "GPT with 3 partitions",
    );
    no(
        &sound,
        "label-create",
        "d",
        json!({"scheme": "apple", "force": true}),
        Code::BadOption,
        "apple",
    );
    no(&sound, "label-create", "d", json!({}), Code::BadOption, "scheme");
    no(
        &sound,
        "label-create",
        "d",
        json!({"scheme": "gpt", "id": "x", "force": true}),
        Code::BadOption,
        "no GUID",
    );
    no(
        &sound,
        "label-create",
        "nothing",
        json!({"scheme": "gpt"}),
        Code::NotFound,
        "nothing",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"start": "8m"}),
        Code::NoSpace,
        "free blocks are",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"size": "100m"}),
        Code::NoSpace,
        "largest run of free blocks",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"size": "1000"}),
        Code::BadOption,
        "unit",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"size": 1000}),
        Code::BadOption,
        "whole blocks",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"size": "1m", "end": "60m"}),
        Code::BadOption,
        "give one",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"number": 2}),
        Code::BadName,
        "taken",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"number": 129}),
        Code::BadOption,
        "1 to 128",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"type": "83"}),
        Code::BadOption,
        "a GUID, or one of linux",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"name": "x".repeat(37)}),
        Code::BadName,
        "36",
    );
    no(
        &sound,
        "partition-create",
        "d",
        json!({"colour": "red"}),
        Code::BadOption,
        "colour",
    );
    no(
        &sound,
        "partition-create",
        "dp1",
        json!({}),
        Code::NotFound,
        "no partition table",
    );
    no(
        &sound,
        "partition-delete",
        "d",
        json!({}),
        Code::WrongKind,
        "is no partition",
    );
    no(
        &sound,
        "partition-delete",
        "dp9",
        json!({}),
        Code::NotFound,
        "partition 9 of d",
    );
    no(
        &sound,
        "partition-resize",
        "dp1",
        json!({"size": "30m"}),
        Code::NoSpace,
        "room for 8 MiB",
    );
    no(
        &sound,
        "partition-resize",
        "dp1",
        json!({"size": "8m"}),
        Code::Nothing,
        "already",
    );
    no(
        &sound,
        "partition-resize",
        "dp1",
        json!({"size": "-8m"}),
        Code::BadOption,
        "at least one",
    );
    no(
        &sound,
        "partition-change",
        "dp1",
        json!({"type": "uefi"}),
        Code::Nothing,
        "nothing",
    );
    no(&sound, "label-repair", "d", json!({}), Code::Nothing, "nothing");

    // In use: it may grow, and nothing else.
    sound.use_by("dp2", "a host");
    no(&sound, "partition-delete", "dp2", json!({}), Code::InUse, "a host");
    no(
        &sound,
        "partition-resize",
        "dp2",
        json!({"size": "-1m"}),
        Code::InUse,
        "a host",
    );
    no(&sound, "label-remove", "d", json!({}), Code::InUse, "a host");
    no(
        &sound,
        "label-create",
        "d",
        json!({"scheme": "gpt", "force": true}),
        Code::InUse,
        "a host",
    );
    no(
        &sound,
        "partition-change",
        "dp2",
        json!({"guid": Uuid::from_u128(8)}),
        Code::InUse,
        "a host",
    );
    for (verb, object, options) in [
        ("partition-resize", "dp2", json!({"size": "+1m"})),
        ("partition-change", "dp2", json!({"name": "y"})),
        ("partition-delete", "dp1", json!({})),
        ("partition-create", "d", json!({"size": "1m"})),
    ] {
        let plan = sound.plan(&ask(verb, object, options)).unwrap();
        assert!(!plan.releases.contains(&"dp2".into()), "{plan}");
    }
    sound.use_by("d", "another host");
    no(&sound, "partition-create", "d", json!({}), Code::InUse, "another host");

    let mut nested = dos(512);
    no(
        &nested,
        "partition-create",
        "d",
        json!({"place": "extended"}),
        Code::Unsupported,
        "already",
    );
    no(
        &nested,
        "partition-create",
        "d",
        json!({"name": "x"}),
        Code::BadOption,
        "an MBR has none",
    );
    no(
        &nested,
        "partition-create",
        "d",
        json!({"place": "primary", "type": "5"}),
        Code::BadOption,
        "extended",
    );
    no(
        &nested,
        "partition-create",
        "d",
        json!({"number": 9}),
        Code::BadOption,
        "the next is 8",
    );
    no(
        &nested,
        "partition-resize",
        "dp2",
        json!({"size": "1m"}),
        Code::NoSpace,
        "logical",
    );
    no(
        &nested,
        "partition-change",
        "dp2",
        json!({"type": "83"}),
        Code::BadOption,
        "cannot become",
    );
    no(&nested, "label-repair", "d", json!({}), Code::Unsupported, "one copy");
    // Numbers behind it would move.
    nested.use_by("dp7", "a host");
    no(&nested, "partition-delete", "dp5", json!({}), Code::InUse, "dp7");
    no(&nested, "partition-delete", "dp2", json!({}), Code::InUse, "dp7");
    let plan = nested.change(&ask("partition-create", "d", json!({"size": "1m", "place": "logical"})));
    assert_eq!(plan.releases, Vec::<String>::new());

    // Not blank, not ours, not readable as a table.
    let mut other = lab(100_000, 512);
    no(
        &other,
        "partition-create",
        "d",
        json!({}),
        Code::NotFound,
        "label create",
    );
    other.put("d", 1024, &ext2());
    other.discover();
    no(
        &other,
        "label-create",
        "d",
        json!({"scheme": "dos"}),
        Code::NotBlank,
        "force",
    );
    let tiny = lab(40, 512);
    no(
        &tiny,
        "label-create",
        "d",
        json!({"scheme": "gpt"}),
        Code::NoSpace,
        "too small",
    );
    let vast = lab(1 << 33, 512);
    let plan = vast.plan(&ask("label-create", "d", json!({"scheme": "dos"}))).unwrap();
    assert!(plan.warnings[0].contains("a GPT can tell all"), "{plan}");
    let mut vast = vast;
    vast.carry(&plan);
    let plan = vast.change(&ask("partition-create", "d", json!({})));
    assert_eq!(places(&vast), [(1, 2048, (1 << 32) - 2048)], "{plan}");
}

#[test]
fn a_hybrid_mbr_and_its_gpt_never_disagree() {
    let mut lab = gpt(512);
    let front = lab.images()["d"].read(0, 512);
    let mut record = mbr::Record::parse(&front).unwrap();
    let (_, start, count) = places(&lab)[1];
    let entry = |kind, start: u64, count: u64| {
        Some(mbr::Entry {
            active: false,
            kind,
            start: start as u32,
            count: count as u32,
        })
    };
    assert!(record.set(1, entry(0xee, 1, 2047)) && record.set(2, entry(0x83, start, count)));
    lab.put("d", 0, &record.to_bytes());
    lab.discover();
    for (verb, options) in [
        ("partition-delete", json!({})),
        ("partition-resize", json!({"size": "-1m"})),
        ("partition-change", json!({"type": "swap"})),
    ] {
        let (code, text) = refused(&lab, &ask(verb, "dp2", options));
        assert!(
            code == Code::Unsupported && text.contains("entry 2 is partition 2"),
            "{text}"
        );
    }
    // Others may change, and the hybrid stays as it is.
    lab.change(&ask("partition-delete", "dp1", json!({})));
    lab.change(&ask("partition-change", "dp2", json!({"name": "still"})));
    assert_eq!(lab.images()["d"].read(0, 512), record.to_bytes());
    lab.change(&ask("label-repair", "d", json!({"protective": true})));
    assert!(!mbr::Record::parse(&lab.images()["d"].read(0, 512)).unwrap().is_hybrid());
    lab.change(&ask("partition-delete", "dp2", json!({})));
    assert_eq!(places(&lab).len(), 1);
}

#[test]
fn force_leaves_nothing_old_that_blkid_would_see() {
    // An ext4 superblock, an LVM2 label, MD 1.0 at the end, and a GPT, all at once.
    let mut lab = gpt(512);
    lab.put("d", 1024, &ext2());
    let mut md = [0u8; 512];
    md[..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
    md[4] = 1;
    md[144..152].copy_from_slice(&(131_072u64 - 16).to_le_bytes());
    lab.put("d", (131_072 - 16) * 512, &md);
    lab.discover();
    for scheme in ["gpt", "dos"] {
        let mut lab = lab.clone();
        lab.change(&ask("label-create", "d", json!({"scheme": scheme, "force": true})));
        assert_eq!(lab.found().nodes["d"].findings.signatures, Vec::<String>::new());
        lab.change(&ask("partition-create", "d", json!({})));
        assert_eq!(places(&lab).len(), 1);
        if !skip_without("wiped disks", &["wipefs", "sfdisk", "sgdisk"]) {
            verified(&lab);
            let saved = save(&lab.images()["d"]);
            let out = run("wipefs", &["--noheadings", "--output", "TYPE"], &saved.path, "");
            let found = String::from_utf8_lossy(&out.stdout).into_owned();
            let mut kinds: Vec<&str> = found.split_whitespace().collect();
            kinds.dedup();
            assert_eq!(
                kinds,
                if scheme == "gpt" {
                    vec!["gpt", "PMBR"]
                } else {
                    vec!["dos"]
                }
            );
        }
    }
}

/// A sector that starts like the superblock of an ext2 file system.
fn ext2() -> Vec<u8> {
    [[1; 8].as_slice(), &[0; 48], &[0x53, 0xef], &[0; 454]].concat()
}

fn wiped(lab: &Lab, plan: &Plan) -> bool {
    let mut lab = lab.clone();
    lab.carry(plan);
    lab.found().nodes["dp1"].findings.verdict == Verdict::New
}

#[test]
fn old_content_under_a_new_partition_is_told_and_wiped_on_request() {
    let lab = gpt(512);
    let mut lab = lab.clone();
    lab.put("d", MIB + 1024, &ext2());
    lab.discover();
    lab.change(&ask("partition-delete", "dp1", json!({})));
    let plan = lab.plan(&ask("partition-create", "d", json!({"size": "8m"}))).unwrap();
    assert!(
        plan.warnings[0].contains("an ext2 file system") && !wiped(&lab, &plan),
        "{plan}"
    );
    let request = ask("partition-create", "d", json!({"size": "8m", "wipe": true}));
    let plan = lab.plan(&request).unwrap();
    assert!(plan.warnings.is_empty() && wiped(&lab, &plan), "{plan}");
    cut(&lab, &request);
}

/// A change of a partition that is there, in a model: its content is a pattern that its identity makes.
#[derive(Clone, Debug)]
enum Op {
    Create {
        start: Option<u64>,
        size: u64,
        logical: bool,
    },
    Delete(usize),
    Resize(usize, i64),
    Change(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (proptest::option::of(0u64..64), 1u64..9000, any::<bool>()).prop_map(|(start, size, logical)| Op::Create { start, size, logical }),
        2 => (0usize..16).prop_map(Op::Delete),
        2 => (0usize..16, -3000i64..6000).prop_map(|(which, by)| Op::Resize(which, by)),
        1 => (0usize..16, any::<bool>()).prop_map(|(which, on)| Op::Change(which, on)),
    ]
}

fn pattern(seed: u64, block_size: u32) -> Vec<u8> {
    (0..block_size as u64)
        .map(|at| (at.wrapping_mul(seed | 1) >> 3) as u8 ^ seed as u8)
        .collect()
}

/// What the model knows of a partition: where it is, and what its first and last block hold.
type Model = BTreeMap<u32, (u64, u64, u64)>;

fn agrees(lab: &Lab, model: &Model, block_size: u32) -> Result<(), TestCaseError> {
    let wanted: Vec<_> = model
        .iter()
        .map(|(number, (start, count, _))| (*number, *start, *count))
        .collect();
    prop_assert_eq!(places(lab), wanted);
    for (number, (_, _, seed)) in model {
        let first = &lab.bytes_of(&format!("dp{number}"), 0);
        prop_assert_eq!(first, &pattern(*seed, block_size), "content of partition {}", number);
    }
    Ok(())
}

/// Runs a sequence of changes against the model.
fn play(scheme: &str, block_size: u32, ops: &[Op]) -> Result<Lab, TestCaseError> {
    let blocks = 64 * MIB / u64::from(block_size);
    let mut lab = lab(blocks, block_size);
    let dos = scheme == "dos";
    lab.change(&ask("label-create", "d", json!({"scheme": scheme})));
    if dos {
        lab.change(&ask(
            "partition-create",
            "d",
            json!({"start": "20m", "size": "30m", "place": "extended", "number": 4}),
        ));
    }
    let (mut model, mut seed) = (Model::new(), 0u64);
    for op in ops {
        let numbers: Vec<u32> = model.keys().copied().collect();
        let pick = |which: usize| (!numbers.is_empty()).then(|| numbers[which % numbers.len()]);
        let (request, touched) = match op {
            Op::Create { start, size, logical } => {
                // It knows whole cylinders only.
                let size = if scheme == "amiga" {
                    size.next_multiple_of(128)
                } else {
                    *size
                };
                let mut options = json!({"size": size * u64::from(block_size)});
                if let Some(start) = start {
                    options["start"] = json!(format!("{start}m"));
                }
                if dos && *logical {
                    options["place"] = json!("logical");
                }
                (ask("partition-create", "d", options), None)
            }
            Op::Delete(which) => {
                let Some(number) = pick(*which) else { continue };
                (ask("partition-delete", &format!("dp{number}"), json!({})), Some(number))
            }
            Op::Resize(which, by) => {
                let Some(number) = pick(*which) else { continue };
                let sign = if *by < 0 { "-" } else { "+" };
                let by = if scheme == "amiga" { by / 128 * 128 } else { *by };
                let size = format!("{sign}{}b", by.unsigned_abs() * u64::from(block_size));
                (
                    ask("partition-resize", &format!("dp{number}"), json!({"size": size})),
                    Some(number),
                )
            }
            Op::Change(which, on) => {
                let Some(number) = pick(*which) else { continue };
                let how = match scheme {
                    "gpt" | "dos" => json!({"bootable": on}),
                    _ => json!({"type": if *on { "raid" } else { "linux" }}),
                };
                (ask("partition-change", &format!("dp{number}"), how), Some(number))
            }
        };
        let plan = match lab.plan(&request) {
            Ok(plan) => plan,
            Err(why) => {
                prop_assert!(
                    matches!(
                        why.code,
                        Code::NoSpace | Code::Nothing | Code::BadOption | Code::BadName
                    ),
                    "{:?}: {:?}",
                    request,
                    why
                );
                continue;
            }
        };
        let (was, before) = (places(&lab), lab.images());
        lab.carry(&plan);
        // No byte changes in a partition that is there before and after.
        let per = u64::from(block_size) / 512;
        for sector in lab.images()["d"].differing(&before["d"]) {
            let inside = |all: &[(u32, u64, u64)]| {
                let block = sector / per;
                all.iter()
                    .any(|(_, start, count)| (*start..start + count).contains(&block))
            };
            prop_assert!(!(inside(&was) && inside(&places(&lab))), "sector {}: {}", sector, plan);
        }
        match op {
            Op::Create { start, size, .. } => {
                let size = &if scheme == "amiga" {
                    size.next_multiple_of(128)
                } else {
                    *size
                };
                let new: Vec<_> = places(&lab)
                    .into_iter()
                    .filter(|(number, ..)| !model.contains_key(number))
                    .collect();
                prop_assert_eq!(new.len(), 1, "{}", plan);
                let (number, at, count) = new[0];
                prop_assert_eq!(count, *size);
                let mib = MIB / u64::from(block_size);
                prop_assert!(at % mib == 0);
                prop_assert!(start.is_none_or(|start| at == start * mib));
                for (start, count, _) in model.values() {
                    prop_assert!(at + size <= *start || start + count <= at, "{}", plan);
                }
                seed += 1;
                lab.put(&format!("dp{number}"), 0, &pattern(seed, block_size));
                lab.discover();
                model.insert(number, (at, count, seed));
            }
            Op::Delete(_) => {
                let number = touched.unwrap();
                model.remove(&number);
                if (number >= 5 && dos) || RENUMBERED.contains(&scheme) {
                    let behind: Vec<u32> = model.keys().copied().filter(|n| *n > number).collect();
                    for n in behind {
                        let moved = model.remove(&n).unwrap();
                        model.insert(n - 1, moved);
                    }
                }
            }
            Op::Resize(_, by) => {
                let by = &if scheme == "amiga" { by / 128 * 128 } else { *by };
                let entry = model.get_mut(&touched.unwrap()).unwrap();
                entry.1 = entry.1.checked_add_signed(*by).unwrap();
            }
            Op::Change(..) => {}
        }
        agrees(&lab, &model, block_size)?;
    }
    Ok(lab)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// With the next, 500 sequences. A failing one is printed whole and made small; `PROPTEST_RNG_SEED` plays it again.
    #[test]
    fn any_sequence_on_a_gpt_agrees_with_a_model(large in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        let lab = play("gpt", if large { 4096 } else { 512 }, &ops)?;
        if !large && have(&["sfdisk"]) {
            prop_assert_eq!(sfdisk_sees(&lab.images()["d"]), places(&lab));
        }
    }

    #[test]
    fn any_sequence_on_an_mbr_agrees_with_a_model(large in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        let lab = play("dos", if large { 4096 } else { 512 }, &ops)?;
        if !large && have(&["sfdisk"]) {
            prop_assert_eq!(sfdisk_sees(&lab.images()["d"]), places(&lab));
        }
    }
}

#[test]
fn a_copy_of_a_disk_gets_identities_of_its_own() {
    for block_size in [512, 4096] {
        let original = gpt(block_size);
        let mut copy = original.clone();
        let plan = copy.change(&ask("disk-identify", "d", json!({})));
        assert!(
            plan.releases == ["dp1", "dp2", "dp3"] && plan.warnings.len() == 1,
            "{plan}"
        );
        let (ours, theirs) = (copy.table("d"), original.table("d"));
        assert_ne!(ours.id, theirs.id);
        let mut seen = std::collections::BTreeSet::new();
        for (one, other) in ours.partitions.iter().zip(&theirs.partitions) {
            assert!(one.uuid != other.uuid && seen.insert(one.uuid.clone()));
            let same = lvol::part::edit::show::Row {
                uuid: other.uuid.clone(),
                ..one.clone()
            };
            assert_eq!(same, *other);
        }
        for name in ["dp1", "dp2", "dp3"] {
            let (ours, theirs) = (&copy.found().nodes[name], &original.found().nodes[name]);
            assert!(ours.uuid != theirs.uuid && ours.table == theirs.table);
        }
        if !skip_without("GUIDs that we give", &["sgdisk", "sfdisk"]) {
            verified(&copy);
        }
        let guid = Uuid::from_u128(0x1d);
        copy.change(&ask("disk-identify", "d", json!({ "id": guid })));
        assert_eq!(copy.table("d").id, Some(guid.to_string().to_uppercase()));
        copy.use_by("dp2", "a host");
        let (code, text) = refused(&copy, &ask("disk-identify", "d", json!({})));
        assert!(code == Code::InUse && text.contains("a host"), "{text}");

        let mut old = dos(block_size);
        let before = old.table("d");
        let plan = old.change(&ask("disk-identify", "d", json!({"id": "0xfeed0001"})));
        let after = old.table("d");
        assert_eq!(
            (after.id.as_deref(), &after.partitions),
            (Some("0xfeed0001"), &before.partitions)
        );
        assert!(plan.steps.len() == 1 && plan.releases.is_empty(), "{plan}");
        old.change(&ask("disk-identify", "d", json!({})));
        assert!(old.table("d").id != after.id && places(&old) == places(&dos(block_size)));
    }
    let (code, text) = refused(&older("sun", 512), &ask("disk-identify", "d", json!({})));
    assert!(code == Code::Unsupported && text.contains("no identity"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_on_an_older_table_agrees_with_a_model(which in 0..OLDER.len(), ops in prop::collection::vec(op(), 1..24)) {
        let (scheme, _, _, sizes) = OLDER[which];
        let block_size = sizes[ops.len() % sizes.len()];
        let lab = play(scheme, block_size, &ops)?;
        if block_size == 512 && TO_SFDISK.contains(&scheme) && have(&["sfdisk"]) {
            prop_assert_eq!(sfdisk_sees(&lab.images()["d"]), places(&lab));
        }
    }
}

/// Tables of the older kind that are written: our word, blkid's if it knows them, a type that is not Linux', and the sizes of blocks.
const OLDER: &[(&str, &str, &str, &[u32])] = &[
    ("sun", "sun", "lvm", &[512]),
    ("sgi", "sgi", "lvm", &[512]),
    ("mac", "mac", "lvm", &[512, 4096]),
    ("bsd", "", "swap", &[512, 4096]),
    ("amiga", "", "swap", &[512]),
    ("atari", "atari", "swap", &[512]),
];

/// Those whose numbers are places in a list: behind a partition that goes they are lower by one.
const RENUMBERED: [&str; 2] = ["amiga", "atari"];

/// Those that sfdisk reads.
const TO_SFDISK: [&str; 3] = ["sun", "sgi", "bsd"];

/// A disk with such a table and three partitions.
fn older(scheme: &str, block_size: u32) -> Lab {
    let mut lab = lab(64 * MIB / u64::from(block_size), block_size);
    let other = OLDER.iter().find(|(word, ..)| *word == scheme).unwrap().2;
    lab.change(&ask("label-create", "d", json!({ "scheme": scheme })));
    for options in [
        json!({"size": "8m"}),
        json!({"size": "16m", "type": other}),
        json!({"start": "40m", "size": "4m"}),
    ] {
        lab.change(&ask("partition-create", "d", options));
    }
    lab
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_older_table() {
    let all = OLDER
        .iter()
        .flat_map(|(scheme, _, other, sizes)| sizes.iter().map(move |size| (scheme, other, *size)));
    for (scheme, other, block_size) in all {
        let lab = older(scheme, block_size);
        let numbers: Vec<u32> = places(&lab).iter().map(|(number, ..)| *number).collect();
        let part = |at: usize| format!("dp{}", numbers[at]);
        let mut requests = vec![
            ask("partition-create", "d", json!({})),
            ask("partition-create", "d", json!({"size": "1m"})),
            ask("partition-delete", &part(0), json!({})),
            ask("partition-delete", &part(1), json!({})),
            ask("partition-delete", &part(2), json!({})),
            ask("partition-resize", &part(1), json!({})),
            ask("partition-resize", &part(0), json!({"size": "-1m"})),
            ask("partition-change", &part(0), json!({ "type": other })),
            ask("label-remove", "d", json!({})),
            ask("label-create", "d", json!({"scheme": "gpt", "force": true})),
            ask("label-create", "d", json!({"scheme": "dos", "force": true})),
        ];
        for (another, ..) in OLDER.iter().filter(|(_, _, _, sizes)| sizes.contains(&block_size)) {
            requests.push(ask("label-create", "d", json!({"scheme": another, "force": true})));
        }
        for request in requests {
            let swept = cut(&lab, &request);
            assert!(swept.old > 0 && swept.new > 0, "{request:?}: {swept:?}");
        }
        for lab in [gpt(block_size), dos(block_size)] {
            cut(
                &lab,
                &ask("label-create", "d", json!({"scheme": scheme, "force": true})),
            );
        }
        let mut bare = lab;
        bare.change(&ask("label-remove", "d", json!({})));
        assert_eq!(bare.found().nodes["d"].findings.verdict, Verdict::New, "{scheme}");
    }
}

/// What the real tools make of an older table of ours.
fn agreed(lab: &Lab, scheme: &str, blkid: &str) {
    let saved = save(&lab.images()["d"]);
    let text = |name: &str, args: &[&str]| {
        let out = run(name, args, &saved.path, "");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (text, String::from_utf8_lossy(&out.stderr).into_owned())
    };
    if TO_SFDISK.contains(&scheme) {
        let path = saved.path.to_str().unwrap();
        let theirs = sfdisk_json(&saved.path).unwrap().to_string();
        let theirs = theirs
            .replace(path, "dp")
            .replace("\"device\":\"dp\"", "\"device\":\"d\"");
        assert_eq!(json!({"partitiontable": lab.table("d")}).to_string(), theirs);
        let (said, wrong) = text("sfdisk", &["--verify"]);
        let said = format!("{said}{wrong}");
        assert!(
            ["overlap", "boundary", "should", "physical"]
                .iter()
                .all(|bad| !said.contains(bad)),
            "{said}"
        );
    }
    // Of BSD labels parted knows its own only.
    if scheme == "bsd" {
        return;
    }
    let out = std::process::Command::new("parted")
        .args(["-s", "-m"])
        .arg(&saved.path)
        .args(["unit", "s", "print"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let theirs: Vec<(u32, u64, u64)> = said
        .lines()
        .filter(|line| line.as_bytes().first().is_some_and(u8::is_ascii_digit))
        .map(|line| {
            let field: Vec<u64> = line
                .split(':')
                .take(4)
                .map(|text| text.trim_end_matches('s').parse().unwrap())
                .collect();
            (field[0] as u32, field[1], field[3])
        })
        .filter(|(number, start, _)| !(*number == 9 && *start == 0 || *number == 1 && *start == 1))
        .collect();
    let mut theirs = theirs;
    theirs.sort_unstable();
    assert_eq!(theirs, places(lab), "{said}{}", String::from_utf8_lossy(&out.stderr));
    // blkid knows no Amiga's.
    let (said, _) = text("blkid", &["-p", "-o", "export"]);
    assert!(blkid.is_empty() || said.contains(&format!("PTTYPE={blkid}")), "{said}");
}

#[test]
fn the_real_tools_agree_with_the_older_tables_that_we_write() {
    if skip_without("older tables that we write", &["sfdisk", "parted", "blkid"]) {
        return;
    }
    for (scheme, blkid, other, _) in OLDER {
        let mut lab = older(scheme, 512);
        agreed(&lab, scheme, blkid);
        let part = |lab: &Lab, at: usize| format!("dp{}", places(lab)[at].0);
        for (verb, at, options) in [
            ("partition-create", None, json!({"size": "2m", "type": other})),
            ("partition-delete", Some(0), json!({})),
            ("partition-resize", Some(0), json!({"size": "-1m"})),
            ("partition-change", Some(1), json!({ "type": other })),
            ("partition-create", None, json!({})),
        ] {
            let object = at.map_or("d".to_owned(), |at| part(&lab, at));
            lab.change(&ask(verb, &object, options));
            agreed(&lab, scheme, blkid);
        }
        // A disk whose cylinders have to be larger to be counted; parted takes no larger one for an Atari.
        let mut vast = crash::Lab::new();
        let blocks = if *scheme == "atari" {
            (1 << 31) - 1
        } else {
            (1 << 31) + 7
        };
        vast.add(Image::new("d", blocks, 512));
        vast.change(&ask("label-create", "d", json!({ "scheme": scheme })));
        vast.change(&ask("partition-create", "d", json!({"size": "600g"})));
        vast.change(&ask("partition-create", "d", json!({})));
        agreed(&vast, scheme, blkid);
    }
}

/// fdisk's own, of a disk of 64 cylinders of 1 MiB.
fn by_fdisk(commands: &str) -> Image {
    let saved = save(&Image::new("d", 131_072, 512));
    let args = ["--wipe", "never", "-C", "64", "-H", "64", "-S", "32"];
    let out = run("fdisk", &args, &saved.path, commands);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Image::load("d", &saved.path, 512)
}

#[test]
fn sun_and_sgi_are_byte_for_byte_what_fdisk_and_sfdisk_write() {
    if skip_without("older tables that fdisk writes alike", &["fdisk", "sfdisk"]) {
        return;
    }
    let mut sgi = lab(131_072, 512);
    sgi.change(&ask("label-create", "d", json!({"scheme": "sgi"})));
    same(&sgi, &by_fdisk("G\nw\n"));
    let mut sun = lab(131_072, 512);
    sun.change(&ask("label-create", "d", json!({"scheme": "sun"})));
    for (number, options) in [
        (1, json!({"size": "8m"})),
        (2, json!({"size": "16m", "type": "swap", "attributes": ["u"]})),
    ] {
        let plan = sun.change(&ask("partition-create", "d", options));
        assert!(plan.summary[0].contains(&format!("partition {number} of d")), "{plan}");
    }
    same(
        &sun,
        &by_fdisk("s\nd\n1\nd\n2\nn\n1\n2048\n+16384\nn\n2\n18432\n+32768\nt\n2\n82\nw\n"),
    );

    // On tables whose cylinders sfdisk has chosen, 255 heads of 63 sectors.
    let script = "label: sun\n1: start=16065, size=32130, type=83\n4: start=64260, size=16065, type=8e\n";
    let theirs = by_sfdisk(512, &[(&[], script)]).unwrap();
    let mut ours = Lab::new();
    ours.add(by_sfdisk(512, &[(&[], "label: sun\n")]).unwrap());
    for options in [
        json!({"size": 32_130 * 512}),
        json!({"start": 64_260 * 512, "size": 16_065 * 512, "number": 4, "type": "lvm"}),
    ] {
        ours.change(&ask("partition-create", "d", options));
    }
    same(&ours, &theirs);
    let (code, text) = refused(
        &ours,
        &ask("partition-create", "d", json!({"start": "20m", "size": "1m"})),
    );
    assert!(
        code == Code::BadOption && text.contains("multiples of 16065 blocks"),
        "{text}"
    );

    // sfdisk of this version makes them a sector shorter than it is told.
    let script = "label: sgi\n1: start=4096, size=20481, type=a\n2: start=24576, size=8193, type=82\n";
    let theirs = by_sfdisk(512, &[(&[], script)]).unwrap();
    if sfdisk_places(&theirs) == [(1, 4096, 20_480), (2, 24_576, 8192)] {
        let mut ours = Lab::new();
        ours.add(by_sfdisk(512, &[(&[], "label: sgi\n")]).unwrap());
        ours.change(&ask(
            "partition-create",
            "d",
            json!({"start": "2m", "size": "10m", "type": "a"}),
        ));
        ours.change(&ask("partition-create", "d", json!({"size": "4m", "type": "82"})));
        same(&ours, &theirs);
    }
}

#[test]
fn a_bsd_label_is_changed_where_its_owner_has_it() {
    if skip_without("BSD labels of parted and of fdisk", &["parted", "fdisk"]) {
        return;
    }
    // parted's, behind the start of Alpha's boot block: its sum stays right.
    let saved = save(&Image::new("d", 131_072, 512));
    let parted = |args: &[&str]| {
        let out = std::process::Command::new("parted")
            .args(["-s", "-m"])
            .arg(&saved.path)
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    parted(&[
        "mklabel", "bsd", "mkpart", "ext2", "2MiB", "10MiB", "mkpart", "ext2", "20MiB", "30MiB",
    ]);
    let mut lab = Lab::new();
    lab.add(Image::load("d", &saved.path, 512));
    for request in [
        ask("partition-create", "d", json!({"size": "4m"})),
        ask("partition-delete", "dp2", json!({})),
        ask("partition-resize", "dp1", json!({"size": "-2m"})),
    ] {
        cut(&lab, &request);
        lab.change(&request);
    }
    lab.images()["d"].save(&saved.path);
    let said = parted(&["unit", "s", "print"]);
    let theirs: Vec<(u32, u64, u64)> = said
        .lines()
        .skip(2)
        .map(|line| {
            line.split(':')
                .take(4)
                .map(|text| text.trim_end_matches('s').parse().unwrap())
                .collect()
        })
        .map(|field: Vec<u64>| (field[0] as u32, field[1], field[3]))
        .collect();
    assert_eq!(theirs, places(&lab), "{said}");
    assert_eq!(theirs.len(), 2);
    let mut front = lab.images()["d"].read(0, 512);
    let sum = |sector: &[u8]| {
        sector[..504].chunks_exact(8).fold(0u64, |sum, word| {
            sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap()))
        })
    };
    assert_eq!(front[504..], sum(&front).to_le_bytes());
    front.fill(0);
    lab.change(&ask("label-remove", "d", json!({})));
    assert_eq!(lab.images()["d"].read(0, 512), front);

    // In a slice of an MBR: FreeBSD's counts from the slice, NetBSD's from the disk.
    for kind in ["a5", "a9"] {
        let mut lab = self::lab(131_072, 512);
        lab.change(&ask("label-create", "d", json!({"scheme": "dos"})));
        lab.change(&ask(
            "partition-create",
            "d",
            json!({"start": "4m", "size": "40m", "type": kind}),
        ));
        lab.change(&ask("label-create", "dp1", json!({"scheme": "bsd"})));
        for options in [json!({"size": "8m", "type": "ufs"}), json!({"type": "swap"})] {
            lab.change(&ask("partition-create", "dp1", options));
        }
        let inside: Vec<_> = ["dp1p1", "dp1p2"]
            .iter()
            .map(|name| lab.found().nodes[*name].blocks)
            .collect();
        assert_eq!(inside, [8 * 2048, 31 * 2048], "{kind}");
        cut(&lab, &ask("partition-delete", "dp1p1", json!({})));
        let saved = save(&lab.images()["d"]);
        let out = run("fdisk", &[], &saved.path, "b\np\nq\nq\n");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let base = if kind == "a5" { 0 } else { 8192 };
        for (letter, start, count) in [("a", 2048, 16_384), ("b", 18_432, 63_488)] {
            let fields: Vec<String> = said
                .lines()
                .filter_map(|line| line.strip_prefix(letter)?.strip_prefix(' '))
                .flat_map(|rest| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            let wanted = [base + start, base + start + count - 1, count].map(|n: u64| n.to_string());
            assert_eq!(fields.get(..3), Some(&wanted[..]), "{kind} {letter}: {said}");
        }
    }
}

#[test]
fn an_apple_map_is_byte_for_byte_what_parted_writes() {
    if skip_without("an Apple map that parted writes alike", &["parted"]) {
        return;
    }
    for block_size in [512, 4096] {
        let saved = save(&Image::new("d", 64 * MIB / u64::from(block_size), block_size));
        let device = loops::attach(&saved.path, block_size);
        if device.is_none() && block_size != 512 {
            continue;
        }
        let path = device.as_ref().map_or(&saved.path, |device| &device.path).clone();
        let mut ours = lab(64 * MIB / u64::from(block_size), block_size);
        ours.change(&ask("label-create", "d", json!({"scheme": "mac"})));
        let commands: [(&[&str], &str, &str, Value); 6] = [
            (
                &["mkpart", "one", "ext2", "2MiB", "10MiB"],
                "partition-create",
                "d",
                json!({"start": "2m", "size": "8m", "name": "one"}),
            ),
            (
                &["mkpart", "two", "ext2", "10MiB", "26MiB"],
                "partition-create",
                "d",
                json!({"size": "16m", "name": "two"}),
            ),
            (
                &["mkpart", "three", "hfs", "40MiB", "44MiB"],
                "partition-create",
                "d",
                json!({"start": "40m", "size": "4m", "name": "three", "type": "hfs"}),
            ),
            (
                &["name", "4", "other"],
                "partition-change",
                "dp4",
                json!({"name": "other"}),
            ),
            (&["rm", "3"], "partition-delete", "dp3", json!({})),
            (
                &["mkpart", "four", "ext2", "12MiB", "13MiB"],
                "partition-create",
                "d",
                json!({"start": "12m", "size": "1m", "name": "four"}),
            ),
        ];
        let parted = |args: &[&str]| {
            let out = std::process::Command::new("parted")
                .arg("-s")
                .arg(&path)
                .args(args)
                .output()
                .unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        };
        parted(&["mklabel", "mac"]);
        for (args, verb, object, options) in commands {
            parted(args);
            let request = ask(verb, object, options);
            let plan = ours.plan(&request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
            sweep(&ours, &plan, |found, _| found.summary(), |_, _| ());
            ours.carry(&plan);
            let theirs = Image::load("d", &saved.path, block_size);
            same(&ours, &theirs);
        }
    }
}

#[test]
fn what_an_older_table_cannot_tell_is_refused() {
    let no = |lab: &Lab, verb: &str, object: &str, options: Value, code: Code, word: &str| {
        let (found, text) = refused(lab, &ask(verb, object, options));
        assert!(
            found == code && text.contains(word),
            "{verb} {object}: {found:?} {text}"
        );
    };
    let large = lab(16_384, 4096);
    for (scheme, ..) in OLDER.iter().filter(|(_, _, _, sizes)| sizes.len() == 1) {
        no(
            &large,
            "label-create",
            "d",
            json!({"scheme": scheme}),
            Code::Unsupported,
            "blocks of 4096 bytes",
        );
        if RENUMBERED.contains(scheme) {
            continue;
        }
        let mut lab = older(scheme, 512);
        for (option, value) in [
            ("name", json!("x")),
            ("guid", json!(Uuid::from_u128(1))),
            ("place", json!("logical")),
        ] {
            no(
                &lab,
                "partition-create",
                "d",
                json!({ option: value }),
                Code::BadOption,
                "has none",
            );
        }
        no(
            &lab,
            "partition-change",
            "dp1",
            json!({"name": "x"}),
            Code::BadOption,
            "name: a",
        );
        no(
            &lab,
            "label-create",
            "d",
            json!({"scheme": scheme, "id": "1", "force": true}),
            Code::BadOption,
            "id: a",
        );
        no(
            &lab,
            "label-create",
            "d",
            json!({ "scheme": scheme }),
            Code::NotBlank,
            "3 partitions",
        );
        no(&lab, "label-repair", "d", json!({}), Code::Unsupported, "one copy only");
        let whole = if *scheme == "sun" { 3 } else { 11 };
        no(
            &lab,
            "partition-delete",
            &format!("dp{whole}"),
            json!({}),
            Code::WrongKind,
            "the whole disk",
        );
        no(
            &lab,
            "partition-create",
            "d",
            json!({ "number": whole }),
            Code::BadName,
            "taken",
        );
        no(
            &lab,
            "partition-create",
            "d",
            json!({"number": 17}),
            Code::BadOption,
            "has no partition 17",
        );
        no(
            &lab,
            "partition-create",
            "d",
            json!({"start": 0, "size": "1m"}),
            Code::NoSpace,
            "not free",
        );
        no(
            &lab,
            "partition-change",
            "dp1",
            json!({"attributes": ["x"]}),
            Code::BadOption,
            "none that",
        );
        lab.use_by("dp1", "a host");
        no(&lab, "partition-delete", "dp1", json!({}), Code::InUse, "a host");
        no(&lab, "label-remove", "d", json!({}), Code::InUse, "a host");
        lab.change(&ask("partition-change", "dp1", json!({"type": "lvm"})));
    }
    let mut lab = older("sgi", 512);
    lab.change(&ask("partition-change", "dp3", json!({"bootable": true})));
    assert_eq!(lab.table("d").partitions[2].attrs.as_deref(), Some("boot"));
    lab.change(&ask("partition-change", "dp3", json!({"bootable": false})));
    assert_eq!(lab.table("d").partitions[2].attrs, None);
    no(
        &older("sun", 512),
        "partition-create",
        "d",
        json!({"bootable": true}),
        Code::BadOption,
        "has none",
    );
    let map = older("mac", 512);
    let create = |options| ("partition-create", "d", options);
    let change = |options| ("partition-change", "dp1", options);
    for (scheme, cases) in [
        (
            "amiga",
            vec![
                (create(json!({"guid": Uuid::from_u128(1)})), Code::BadOption, "has none"),
                (create(json!({"name": "a:b"})), Code::BadName, "31 letters"),
                (create(json!({"type": "DOS"})), Code::BadOption, "DOS\\3"),
                (create(json!({"number": 3})), Code::BadName, "taken"),
                (create(json!({"number": 5})), Code::BadOption, "no partition 5"),
                (create(json!({"start": 0, "size": "1m"})), Code::NoSpace, "not free"),
                (
                    create(json!({"start": 100_001 * 512})),
                    Code::BadOption,
                    "multiples of 128",
                ),
                (
                    ("partition-resize", "dp1", json!({"size": 1000 * 512})),
                    Code::BadOption,
                    "896 blocks",
                ),
                (
                    change(json!({"attributes": ["x"]})),
                    Code::BadOption,
                    "it has boot, hidden",
                ),
            ],
        ),
        (
            "atari",
            vec![
                (create(json!({"name": "x"})), Code::BadOption, "has none"),
                (create(json!({"type": "XGM"})), Code::BadOption, "GEM, BGM, LNX"),
                (create(json!({"number": 3})), Code::BadName, "taken"),
                (create(json!({"start": 512, "size": "1m"})), Code::NoSpace, "not free"),
                (
                    change(json!({"attributes": ["hidden"]})),
                    Code::BadOption,
                    "it has boot",
                ),
            ],
        ),
    ] {
        let mut lab = older(scheme, 512);
        for ((verb, object, options), code, word) in cases {
            no(&lab, verb, object, options, code, word);
        }
        no(&lab, "label-repair", "d", json!({}), Code::Unsupported, "one copy only");
        lab.use_by("dp2", "a host");
        // It would be dp1.
        no(&lab, "partition-delete", "dp1", json!({}), Code::InUse, "a host");
        lab.change(&ask("partition-delete", "dp3", json!({})));
        lab.change(&ask("partition-change", "dp1", json!({"bootable": true})));
        assert_eq!(lab.table("d").partitions[0].attrs.as_deref(), Some("boot"));
    }
    let mut four = older("atari", 512);
    four.change(&ask("partition-create", "d", json!({"size": "1m"})));
    no(
        &four,
        "partition-create",
        "d",
        json!({}),
        Code::NoSpace,
        "all of its entries are in use",
    );
    for ((verb, object, options), code, word) in [
        (create(json!({"name": "x".repeat(32)})), Code::BadName, "31 letters"),
        (create(json!({"name": "größe"})), Code::BadName, "ASCII"),
        (create(json!({"type": "Apple_Free"})), Code::BadOption, "no type"),
        (create(json!({"type": "83"})), Code::BadOption, "one of linux, hfs"),
        (create(json!({"number": 64})), Code::BadOption, "no partition 64"),
        (create(json!({"number": 1})), Code::BadName, "taken"),
        (
            ("partition-delete", "dp1", json!({})),
            Code::WrongKind,
            "the map itself",
        ),
    ] {
        no(&map, verb, object, options, code, word);
    }
    let label = older("bsd", 4096);
    for ((verb, object, options), code, word) in [
        (create(json!({"name": "x"})), Code::BadOption, "has none"),
        (create(json!({"type": "0"})), Code::BadOption, "no type"),
        (create(json!({"start": 0, "size": "1m"})), Code::NoSpace, "not free"),
        (("partition-delete", "dp3", json!({})), Code::WrongKind, "the whole"),
    ] {
        no(&label, verb, object, options, code, word);
    }
}

#[test]
fn a_table_is_shown_in_sfdisks_words() {
    if skip_without("sfdisk's words", &["sfdisk"]) {
        return;
    }
    let mut long = lab(131_072, 512);
    long.change(&ask("label-create", "d", json!({"scheme": "gpt"})));
    for lab in [gpt(512), dos(512), long] {
        let saved = save(&lab.images()["d"]);
        let path = saved.path.to_str().unwrap();
        // The same disk under sfdisk's name for it: a file whose name ends in a letter has no p before the number.
        let theirs = sfdisk_json(&saved.path).unwrap();
        let theirs = theirs
            .to_string()
            .replace(path, "dp")
            .replace("\"device\":\"dp\"", "\"device\":\"d\"");
        assert_eq!(json!({"partitiontable": lab.table("d")}).to_string(), theirs);
    }
}

/// What a tool made of a blank disk: its name, its arguments (`DISK` is the disk), a script for its input.
const LAYOUTS: &[(&str, &str, &str)] = &[
    ("sfdisk", "DISK", "label: gpt\n"),
    ("sfdisk", "DISK", "label: gpt\n,\n"),
    ("sfdisk", "DISK", "label: gpt\ntable-length: 256\nsize=1M\n"),
    (
        "sfdisk",
        "DISK",
        "label: gpt\ntable-length: 512\nfirst-lba: 1024\nstart=1024, size=512\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: gpt\nsize=1M, attrs=\"RequiredPartition NoBlockIOProtocol GUID:48,63\"\nsize=2M, name=\"a b\", bootable\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: gpt\nstart=40M, size=1M\nstart=4M, size=1M\nstart=20M, size=7M\n",
    ),
    ("sfdisk", "DISK", "label: gpt\n128: start=4M, size=1M, name=\"last\"\n"),
    (
        "sfdisk",
        "DISK",
        "label: gpt\nsize=1M, type=U\nsize=1M, type=S\nsize=1M, type=H\nsize=1M, type=R\nsize=1M, type=V\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: gpt\nname=\"größe mit äöü und mehr als nichts\"\n",
    ),
    ("sfdisk", "DISK", "label: dos\n,\n"),
    (
        "sfdisk",
        "DISK",
        "label: dos\nsize=1M\nsize=1M, bootable\nsize=1M, type=ef\n,\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: dos\n4: start=10M, size=3M, type=8e\n2: start=2M, size=1M\n",
    ),
    ("sfdisk", "DISK", "label: dos\nsize=20M, type=5\n\n"),
    (
        "sfdisk",
        "DISK",
        "label: dos\nsize=20M, type=f\nsize=2M\nsize=2M\nsize=2M\nsize=2M\nsize=2M\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: dos\nsize=1M\ntype=5\nsize=1M\nsize=1M, type=82\nsize=1M, type=fd\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\nsize=1M\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: dos\nstart=4096, size=4096\nstart=8192, size=8190, type=85\nstart=8195, size=1000\n",
    ),
    (
        "sfdisk",
        "DISK",
        "label: dos\nlabel-id: 0x00000000\nstart=63, size=1000\n",
    ),
    ("sgdisk", "-o DISK", ""),
    ("sgdisk", "-o -n 0:0:+1M -n 0:0:+1M -n 0:0:0 DISK", ""),
    ("sgdisk", "-o -S 256 -n 200:0:+1M -c 200:two.hundred DISK", ""),
    ("sgdisk", "-o -S 1024 -n 1000:0:+1M DISK", ""),
    ("sgdisk", "-o -a 1 -n 1:34:40 -n 2:41:41 -n 3:1000:1999 DISK", ""),
    (
        "sgdisk",
        "-o -n 1:0:+2M -t 1:ef02 -n 2:0:+2M -t 2:8300 -n 3:0:+2M -t 3:fd00 -A 2:set:2 -A 2:set:60 DISK",
        "",
    ),
    ("sgdisk", "-o -n 1:0:+2M -n 2:0:+2M -h 1:2 DISK", ""),
    ("sgdisk", "-o -n 1:0:+2M -n 2:0:+2M -n 3:0:+1M -d 2 DISK", ""),
    ("sgdisk", "-o -j 64 -n 1:0:+2M DISK", ""),
    ("sgdisk", "-o -n 9:0:-4M -c 9:near_the_end DISK", ""),
    ("parted", "-s DISK mklabel gpt", ""),
    (
        "parted",
        "-s DISK mklabel gpt mkpart one ext4 1MiB 9MiB mkpart two 9MiB 100%",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel gpt mkpart a 1MiB 2MiB mkpart b 2MiB 3MiB set 1 esp on set 2 lvm on",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel gpt mkpart a 5MiB 6MiB mkpart b 1MiB 2MiB rm 1 mkpart c 10MiB 20MiB set 1 raid on set 1 legacy_boot on",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel msdos mkpart primary ext4 1MiB 9MiB mkpart primary 9MiB 100% set 1 boot on",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel msdos mkpart primary 1MiB 5MiB mkpart extended 5MiB 60MiB mkpart logical 6MiB 8MiB mkpart logical 9MiB 12MiB",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel msdos mkpart extended 1MiB 60MiB mkpart logical 2MiB 8MiB mkpart logical 20MiB 30MiB mkpart logical 10MiB 12MiB",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel msdos mkpart extended 1MiB 60MiB mkpart logical 2MiB 8MiB mkpart logical 10MiB 12MiB mkpart logical 20MiB 30MiB rm 5",
        "",
    ),
    (
        "parted",
        "-s DISK mklabel msdos mkpart primary 1MiB 2MiB mkpart extended 2MiB 50MiB mkpart logical 3MiB 4MiB set 5 lvm on resizepart 2 62MiB",
        "",
    ),
];

#[test]
fn dozens_of_layouts_read_as_the_tools_print_them_and_go_back_bit_for_bit() {
    if skip_without("layouts of the real tools", &["sfdisk", "sgdisk", "parted", "losetup"]) {
        return;
    }
    let mut seen = 0;
    for (block_size, (tool, args, script)) in [512, 4096]
        .into_iter()
        .flat_map(|size| LAYOUTS.iter().map(move |layout| (size, layout)))
    {
        let blank = Image::new("d", 64 * MIB / u64::from(block_size), block_size);
        let saved = save(&blank);
        let device = loops::attach(&saved.path, block_size);
        let path = match &device {
            Some(device) => device.path.clone(),
            None if block_size == 512 => saved.path.clone(),
            None => continue,
        };
        let what = format!("{tool} {args} {script:?}, blocks of {block_size}");
        let args: Vec<&str> = args
            .split(' ')
            .map(|arg| if arg == "DISK" { path.to_str().unwrap() } else { arg })
            .collect();
        let quiet: &[&str] = match *tool {
            "sfdisk" => &[
                "--quiet",
                "--no-reread",
                "--no-tell-kernel",
                "--wipe",
                "never",
                "--wipe-partitions",
                "never",
            ],
            _ => &[],
        };
        let out = tool::call(tool, &[quiet, &args].concat(), script);
        if !out.status.success() {
            // Some layouts do not fit the larger blocks.
            assert_eq!(
                block_size,
                4096,
                "{what}: {}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
            continue;
        }
        let json = sfdisk_json(&path).unwrap_or_else(|| panic!("{what}: sfdisk sees no table"));
        let theirs = tool::listed(&json, path.to_str().unwrap());
        drop(device);
        let image = Image::load("d", &saved.path, block_size);
        let mut lab = Lab::new();
        lab.add(image.clone());
        assert_eq!(places(&lab), theirs, "{what}\n{json:#}");
        tool::same_facts(&json, &lab, &what);
        tool::unchanged(&image, &what);
        seen += 1;
    }
    assert!(seen > 60, "only {seen} layouts");
}

/// parted's own, of a disk of 64 MiB.
fn by_parted(commands: &[&str]) -> Image {
    let saved = save(&Image::new("d", 131_072, 512));
    let out = std::process::Command::new("parted")
        .args(["-s", "--align", "none"])
        .arg(&saved.path)
        .args(commands)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Image::load("d", &saved.path, 512)
}

#[test]
fn amiga_and_atari_are_byte_for_byte_what_parted_writes() {
    if skip_without("Amiga's and Atari's tables that we write", &["parted"]) {
        return;
    }
    for scheme in ["amiga", "atari"] {
        let mut ours = lab(131_072, 512);
        ours.change(&ask("label-create", "d", json!({ "scheme": scheme })));
        same(&ours, &by_parted(&["mklabel", scheme]));
    }
    // In order of their places, as parted writes them; it says of the last block that it is the one behind it.
    let mut atari = lab(131_072, 512);
    for (verb, object, options) in [
        ("label-create", "d", json!({"scheme": "atari"})),
        ("partition-create", "d", json!({"start": "1m", "size": "8m"})),
        (
            "partition-create",
            "d",
            json!({"start": "16m", "size": "8m", "type": "raw", "bootable": true}),
        ),
    ] {
        atari.change(&ask(verb, object, options));
    }
    let theirs = by_parted(&[
        "mklabel", "atari", "mkpart", "primary", "ext2", "2048s", "18431s", "mkpart", "primary", "32768s", "49151s",
        "set", "2", "boot", "on",
    ]);
    same(&atari, &theirs);
    atari.change(&ask("partition-delete", "dp1", json!({})));
    let theirs = by_parted(&[
        "mklabel", "atari", "mkpart", "primary", "32768s", "49151s", "set", "1", "boot", "on",
    ]);
    same(&atari, &theirs);
    let mut amiga = lab(131_072, 512);
    for (verb, object, options) in [
        ("label-create", "d", json!({"scheme": "amiga"})),
        (
            "partition-create",
            "d",
            json!({"start": "1m", "size": "8m", "name": "Work", "bootable": true}),
        ),
        (
            "partition-create",
            "d",
            json!({"start": "16m", "size": "8m", "name": "Swap", "type": "swap", "attributes": ["hidden"]}),
        ),
    ] {
        amiga.change(&ask(verb, object, options));
    }
    let theirs = by_parted(&[
        "mklabel",
        "amiga",
        "mkpart",
        "Work",
        "ext2",
        "2048s",
        "18431s",
        "mkpart",
        "Swap",
        "linux-swap",
        "32768s",
        "49151s",
        "set",
        "1",
        "boot",
        "on",
        "set",
        "2",
        "hidden",
        "on",
    ]);
    let (ours, theirs) = (&amiga.images()["d"], theirs);
    assert_eq!(ours.differing(&theirs), [2]);
    let (mine, other) = (ours.read(1024, 512), theirs.read(1024, 512));
    let differing: Vec<usize> = (0..512).filter(|at| mine[*at] != other[*at]).collect();
    assert!(
        differing.iter().all(|at| (8..12).contains(at) || *at == 155),
        "{differing:?}"
    );
}

#[test]
fn what_else_an_amiga_has_at_the_start_of_the_disk_stays() {
    let mut lab = older("amiga", 512);
    // A file system's header and code behind the partitions' blocks, which only other blocks lead to.
    for (at, signature) in [(6, b"FSHD"), (7, b"LSEG")] {
        let mut block = [0u8; 512];
        block[..4].copy_from_slice(signature);
        lab.put("d", at * 512, &block);
    }
    let before = lab.images()["d"].read(6 * 512, 1024);
    lab.change(&ask("partition-create", "d", json!({"size": "1m"})));
    assert_eq!(lab.images()["d"].read(6 * 512, 1024), before);
    let block = lab.images()["d"].read(8 * 512, 512);
    assert!(block.starts_with(b"PART"), "the fourth lies behind them");
    let shown = serde_json::to_value(lab.table("d")).unwrap();
    let rows = shown["partitions"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["DH0", "DH1", "DH2", "DH3"]);
    let plan = lab.plan(&ask("partition-delete", "dp2", json!({}))).unwrap();
    assert_eq!(
        plan.warnings,
        ["The partitions behind it get lower numbers: dp3, dp4 will have other names."]
    );
    let why = lab
        .plan(&ask("partition-create", "d", json!({"size": 1000 * 512})))
        .unwrap_err();
    assert_eq!(
        (why.code, why.way_out.as_deref()),
        (Code::BadOption, Some("896 blocks, or 1024"))
    );
    lab.use_by("dp3", "a host");
    let why = lab.plan(&ask("partition-delete", "dp2", json!({}))).unwrap_err();
    assert_eq!(why.code, Code::InUse);
}

#[test]
fn tables_of_an_atari_that_are_more_than_four_entries_are_only_read() {
    if skip_without("Atari tables with more than four entries", &["parted"]) {
        return;
    }
    let places: Vec<[String; 2]> = (1..=5)
        .map(|i| [format!("{}s", i * 20_000), format!("{}s", i * 20_000 + 9999)])
        .collect();
    let mut icd = vec!["mklabel", "atari"];
    for [start, end] in &places {
        icd.extend(["mkpart", "primary", start, end]);
    }
    let chain = [
        "mklabel", "atari", "mkpart", "extended", "20000s", "99999s", "mkpart", "logical", "30000s", "39999s",
    ];
    for (commands, said) in [(&icd[..], "more than four"), (&chain[..], "chain of further tables")] {
        let mut lab = crash::Lab::new();
        lab.add(by_parted(commands));
        lab.discover();
        assert_eq!(lab.found().nodes["d"].findings.format, Some("atari"), "{said}");
        let why = lab.plan(&ask("partition-create", "d", json!({}))).unwrap_err();
        assert!(
            why.code == Code::Unsupported && why.reason.contains(said),
            "{}",
            why.reason
        );
    }
}

#[test]
fn an_apple_map_is_mended_as_far_as_it_tells_itself() {
    for block_size in [512, 4096] {
        let size = u64::from(block_size);
        let sound = older("mac", block_size);
        let before = places(&sound);
        let why = sound.plan(&ask("label-repair", "d", json!({}))).unwrap_err();
        assert_eq!(why.code, Code::Nothing);
        // Block 0 is gone, or says blocks of a size that nobody has: nobody sees the map.
        for mut front in [vec![0; 512], [b"ER".to_vec(), vec![7; 510]].concat()] {
            front.resize(size as usize, 0);
            let mut lab = sound.clone();
            lab.put("d", 0, &front);
            lab.discover();
            assert_eq!(places(&lab), [], "{:?}", lab.found().nodes["d"].findings);
            let repair = ask("label-repair", "d", json!({}));
            let swept = cut(&lab, &repair);
            assert!(swept.old > 0 && swept.new > 0, "{swept:?}");
            lab.change(&repair);
            assert_eq!(places(&lab), before);
            assert_eq!(lab.images()["d"].differing(&sound.images()["d"]), [0u64; 0]);
        }
        // What a power cut may leave: other counts than the first entry's.
        let mut lab = sound.clone();
        let mut entry = lab.images()["d"].read(3 * size, size);
        entry[7] = 99;
        lab.put("d", 3 * size, &entry);
        lab.discover();
        assert_eq!(lab.found().nodes["d"].findings.notes.len(), 1);
        lab.change(&ask("label-repair", "d", json!({})));
        assert_eq!(lab.images()["d"].differing(&sound.images()["d"]), [0u64; 0]);
        // Somebody else's block 0 stays, and a map that is not whole is not guessed at.
        let mut lab = sound.clone();
        lab.put("d", 0, &vec![9; size as usize]);
        lab.discover();
        let why = lab.plan(&ask("label-repair", "d", json!({}))).unwrap_err();
        assert!(matches!(why.code, Code::NotBlank | Code::NotFound), "{why}");
        let mut lab = sound.clone();
        lab.put("d", 2 * size, &vec![0; size as usize]);
        lab.discover();
        assert!(lab.plan(&ask("label-repair", "d", json!({}))).is_err());
    }
}
