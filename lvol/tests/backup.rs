//! Copies of metadata, put back: of every kind of label, on disks whose metadata was wiped, with the power taken away at every point.
#[path = "crash/mod.rs"]
mod crash;

use crash::{Found, Lab, image::Image, sweep::sweep};
use lvol::{
    Request, Verdict,
    backup::DiskCopy,
    plan::{Code, Disks},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;

fn request(verb: &str, object: &str, options: Value) -> Request {
    Request {
        verb: verb.into(),
        object: object.into(),
        options: options.as_object().cloned().unwrap_or_default(),
    }
}

fn put_back(copy: &DiskCopy) -> Request {
    Request::new("disk-restore", &copy.name).with("copy", serde_json::to_string(copy).unwrap())
}

fn sees(found: &Found, _: &Lab) -> String {
    found.summary()
}

/// Bytes that tell where they are, in the middle of a disk.
fn fill(lab: &Lab, disk: &str) {
    let node = &lab.found().nodes[disk];
    let size = u64::from(node.block_size);
    for block in node.blocks / 4..node.blocks / 4 + 8 {
        let bytes: Vec<u8> = (0..size).map(|at| ((block * 31 + at * 7) % 255) as u8 + 1).collect();
        lab.put(disk, block * size, &bytes);
    }
}

/// Nine disks with everything that can be made on disks.
fn house(block_size: u32) -> Lab {
    let mut lab = Lab::new();
    for (at, mib) in [24u64, 24, 32, 32, 16, 16].into_iter().enumerate() {
        lab.add(Image::new(
            &format!("d{at}"),
            mib * MIB / u64::from(block_size),
            block_size,
        ));
    }
    let mut make = |verb: &str, object: &str, options: Value| drop(lab.change(&request(verb, object, options)));
    make("label-create", "d0", json!({ "scheme": "gpt" }));
    make("partition-create", "d0", json!({ "size": "8m", "name": "first" }));
    make("partition-create", "d0", json!({ "size": "12m" }));
    make("label-create", "d1", json!({ "scheme": "dos" }));
    make("partition-create", "d1", json!({ "size": "4m" }));
    make("partition-create", "d1", json!({ "size": "16m", "place": "extended" }));
    make("partition-create", "d1", json!({ "size": "4m", "place": "logical" }));
    make("partition-create", "d1", json!({ "size": "4m", "place": "logical" }));
    // On a partition and on two whole disks, one of which has its text twice.
    make("pv-create", "d3", json!({ "metadata_copies": 2 }));
    make(
        "vg-create",
        "g",
        json!({ "disks": ["d2", "d3", "d0p2"], "extent_size": "1m" }),
    );
    make("lv-create", "g", json!({ "name": "a", "extents": 20 }));
    make("lv-create", "g", json!({ "name": "b", "extents": 40 }));
    make("link-create", "big", json!({ "disks": ["d4", "d5", "d0p1"] }));
    if block_size == 512 {
        for (at, scheme) in ["sun", "sgi", "mac", "bsd"].into_iter().enumerate() {
            let name = format!("o{at}");
            lab.add(Image::new(&name, 40 * MIB / 512, 512));
            lab.change(&request("label-create", &name, json!({ "scheme": scheme })));
            lab.change(&request("partition-create", &name, json!({ "size": "8m" })));
        }
    }
    for disk in lab.images().keys() {
        fill(&lab, disk);
    }
    lab.discover();
    lab
}

/// Copies of everything that a format has claimed, those below first.
fn copies(lab: &Lab) -> Vec<DiskCopy> {
    let nodes = &lab.found().nodes;
    let claimed = |name: &&String| nodes[*name].findings.verdict == Verdict::Claimed;
    let (whole, parts): (Vec<_>, Vec<_>) = nodes
        .keys()
        .filter(claimed)
        .partition(|name| nodes[*name].table.is_none());
    whole.into_iter().chain(parts).map(|name| lab.copy(name)).collect()
}

/// Without what copies of these disks have; those above first, for they are reached through those below.
fn wiped(lab: &Lab, copies: &[DiskCopy]) -> Lab {
    let images = lab.with(lab.images());
    for copy in copies.iter().rev() {
        let size = u64::from(copy.block_size);
        for area in &copy.areas {
            let (first, end) = (area.offset / size, (area.offset + area.length).div_ceil(size));
            images.put(&copy.name, first * size, &vec![0; ((end - first) * size) as usize]);
        }
    }
    images.with(images.images())
}

#[test]
fn what_was_wiped_comes_back_whole_at_whatever_point_the_power_goes() {
    for block_size in [512, 4096] {
        let lab = house(block_size);
        let (before, images, copies) = (lab.found().summary(), lab.images(), copies(&lab));
        assert!(copies.len() >= 8, "{copies:?}");
        let mut formats: BTreeMap<&str, u64> = BTreeMap::new();
        for copy in &copies {
            let held = copy.areas.iter().map(|area| area.bytes.0.len() as u64).sum::<u64>();
            *formats.entry(copy.format.as_deref().unwrap()).or_default() += held;
        }
        println!("bytes of metadata, by format: {formats:?}");
        let mut bare = wiped(&lab, &copies);
        assert!(
            bare.found().nodes.values().all(|node| node.table.is_none()),
            "{}",
            bare.found().summary()
        );
        for copy in &copies {
            let plan = bare
                .plan(&put_back(copy))
                .unwrap_or_else(|why| panic!("{}: {why}", copy.name));
            let swept = sweep(&bare, &plan, sees, |_, _| {});
            println!("{} {:?}: {swept:?}", copy.name, copy.format);
            // One sector is written whole or not at all.
            assert!(
                swept.finished > 0 || copy.areas.len() == 1,
                "nothing was ever cut short"
            );
            bare.carry(&plan);
        }
        assert_eq!(bare.found().summary(), before);
        for (name, image) in &images {
            assert_eq!(bare.images()[name].differing(image), Vec::<u64>::new(), "{name}");
        }
        // Once more: everything is left alone.
        for copy in &copies {
            let why = bare.plan(&put_back(copy)).unwrap_err();
            assert_eq!(why.code, Code::Nothing, "{why}");
            assert!(why.reason.contains("is as it was"), "{why}");
        }
    }
}

#[test]
fn a_larger_disk_takes_the_place_of_one_that_is_lost() {
    let lab = house(512);
    let before = lab.found().summary();
    for name in ["d0", "d1", "d3", "d4"] {
        let copies: Vec<DiskCopy> = copies(&lab)
            .into_iter()
            .filter(|copy| copy.name.starts_with(name))
            .collect();
        let mut other = wiped(&lab, &copies);
        let mut image = other.images()[name].clone();
        image.resize(image.blocks + 4096);
        other.add(image);
        for copy in &copies {
            let plan = other.plan(&put_back(copy)).unwrap();
            let longer = plan.warnings.iter().any(|why| why.contains("4096 blocks more"));
            assert_eq!(longer, copy.name == name, "{:?}", plan.warnings);
            other.carry(&plan);
        }
        assert_eq!(other.found().summary(), before, "{name}");
    }
}

#[test]
fn what_is_somebody_elses_is_left_alone_with_a_reason() {
    let lab = house(512);
    let all = copies(&lab);
    let copy = |name: &str| all.iter().find(|copy| copy.name == name).unwrap();
    let refused = |lab: &Lab, request: &Request, code: Code, says: &str| {
        let why = lab.plan(request).unwrap_err();
        assert_eq!(why.code, code, "{why}");
        assert!(why.to_string().contains(says), "{why}");
    };
    // Another label.
    let mut other = wiped(&lab, std::slice::from_ref(copy("d3")));
    other.change(&request(
        "label-create",
        "d3",
        json!({ "scheme": "gpt", "force": true }),
    ));
    refused(&other, &put_back(copy("d3")), Code::NotBlank, "gpt");
    // The same kind of label with something else in it.
    let mut other = wiped(&lab, std::slice::from_ref(copy("d1")));
    other.change(&request(
        "label-create",
        "d1",
        json!({ "scheme": "dos", "force": true }),
    ));
    refused(&other, &put_back(copy("d1")), Code::NotBlank, "byte 0");
    let forced = put_back(copy("d1")).with("force", true);
    other.change(&forced);
    assert_eq!(other.found().summary(), lab.found().summary());
    // A signature.
    let other = wiped(&lab, std::slice::from_ref(copy("d2")));
    let mut header = vec![0; 512];
    header[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    other.put("d2", 0, &header);
    let mut other = other.with(other.images());
    assert_ne!(other.facts("d2").unwrap().signatures, Vec::<String>::new());
    refused(&other, &put_back(copy("d2")), Code::NotBlank, "LUKS");
    // Somebody uses it.
    other = wiped(&lab, std::slice::from_ref(copy("d2")));
    other.use_by("d2", "a host");
    refused(&other, &put_back(copy("d2")), Code::InUse, "a host");
    refused(&other, &put_back(copy("d2")).with("force", true), Code::InUse, "a host");
    // Another disk.
    let small = |name: &str, blocks: u64, size: u32| {
        let mut lab = Lab::new();
        lab.add(Image::new(name, blocks, size));
        lab
    };
    let d2 = copy("d2");
    refused(
        &small("d2", d2.blocks - 1, 512),
        &put_back(d2),
        Code::NoSpace,
        "too small",
    );
    refused(&small("d2", d2.blocks, 4096), &put_back(d2), Code::Unsupported, "4096");
    refused(&small("d9", d2.blocks, 512), &put_back(d2), Code::NotFound, "d2");
    // A copy that cannot be one.
    let lab = small("d2", d2.blocks, 512);
    let mut long = d2.clone();
    long.areas[0].length = u64::MAX;
    refused(&lab, &put_back(&long), Code::BadOption, "not on its disk");
    long.areas[0].length = 3;
    refused(&lab, &put_back(&long), Code::BadOption, "not on its disk");
    refused(
        &lab,
        &Request::new("disk-restore", "d2").with("copy", "{"),
        Code::BadOption,
        "copy",
    );
}
