//! LVM2's verbs, with the power taken away at every point: discovery finds the old group or the new one, no extent is in two volumes, and the
//! real LVM2 (where it is installed, on a sample of the states) says the same.
#[path = "crash/mod.rs"]
mod crash;
#[allow(dead_code)]
#[path = "lvm2/tool.rs"]
mod tool;

use bdev::{Table, table::Piece};
use crash::{
    Found, Lab,
    image::Image,
    sweep::{Swept, sweep},
};
use lvol::{Request, plan::Undo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tool::Lvm;

const MIB: u64 = 1 << 20;

fn request(verb: &str, object: &str, options: Value) -> Request {
    Request {
        verb: verb.into(),
        object: object.into(),
        options: options.as_object().cloned().unwrap_or_default(),
    }
}

/// Four disks, three of them a group of two volumes; the fourth is a physical volume in no group.
fn lab(block_size: u32) -> Lab {
    let mut lab = Lab::new();
    for (at, mib) in [24, 32, 24, 16, 16].into_iter().enumerate() {
        lab.add(Image::new(
            &format!("d{at}"),
            mib * MIB / u64::from(block_size),
            block_size,
        ));
    }
    lab.change(&request("pv-create", "d0", json!({"metadata_copies": 2})));
    lab.change(&request(
        "vg-create",
        "g",
        json!({"disks": ["d0", "d1", "d2"], "extent_size": "1m"}),
    ));
    lab.change(&request(
        "lv-create",
        "g",
        json!({"name": "lin", "extents": 5, "disks": ["d1"]}),
    ));
    lab.change(&request(
        "lv-create",
        "g",
        json!({"name": "str", "extents": 6, "stripes": 3, "stripe_size": "8k"}),
    ));
    lab.change(&request("pv-create", "d3", json!({})));
    lab
}

/// What there is to see, after a look whether two volumes have the same extent.
fn sees(found: &Found, _: &Lab) -> String {
    let mut taken: BTreeMap<(String, u64), String> = BTreeMap::new();
    for (name, node) in &found.nodes {
        let runs: Vec<_> = match &node.table {
            Some(Table::Linear { segments }) => segments.clone(),
            Some(Table::Mapped { pieces, .. }) => pieces.iter().flat_map(Piece::runs).cloned().collect(),
            _ => continue,
        };
        let per = MIB / u64::from(node.block_size);
        for run in runs {
            for extent in run.start / per..(run.start + run.blocks) / per {
                let other = taken.insert((run.on.clone(), extent), name.clone());
                assert_eq!(other, None, "{name} has an extent of {} at {extent}", run.on);
            }
        }
    }
    found.summary()
}

/// Sweeps a verb, with the real LVM2 on every `each`th state.
fn cut(lab: &Lab, verb: &str, object: &str, options: Value, lvm: Option<&Lvm>) -> Swept {
    let plan = lab
        .plan(&request(verb, object, options.clone()))
        .unwrap_or_else(|why| panic!("{verb} {object}: {why}"));
    let (mut number, mut asked) = (0, 0);
    let swept = sweep(lab, &plan, sees, |state, _| {
        number += 1;
        // An even part of the states, but not always the same of each barrier.
        if let Some(lvm) = lvm
            && number % 37 == 1
        {
            asked += 1;
            ask(lvm, state);
        }
    });
    println!("{verb} {object} {options}: {swept:?}, LVM2 asked {asked} times");
    swept
}

/// LVM2 sees the volumes that we see.
fn ask(lvm: &Lvm, state: &Lab) {
    for (image, path) in state.images().values().zip(&lvm.images) {
        image.save(path);
    }
    let rows = lvm.report("lvs", "vg_name,lv_name,lv_size,lv_uuid", &[]);
    let mut theirs: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{}/{} {} {}",
                row["vg_name"], row["lv_name"], row["lv_size"], row["lv_uuid"]
            )
        })
        .collect();
    let mut ours: Vec<String> = state
        .found()
        .groups
        .iter()
        // Of one that is exported LVM2 shows no volumes.
        .filter(|group| !group.status.contains(&"EXPORTED".to_owned()))
        .flat_map(|group| &group.volumes)
        .map(|volume| format!("{} {} {}", volume.disk, volume.what.bytes, volume.what.id))
        .collect();
    theirs.sort();
    ours.sort();
    assert_eq!(theirs, ours);
}

fn real() -> Option<Lvm> {
    Lvm::new(
        "power cuts, judged by LVM2",
        &[24 * MIB, 32 * MIB, 24 * MIB, 16 * MIB, 16 * MIB],
        512,
    )
}

#[test]
fn volumes_are_old_or_new() {
    let (lab, lvm) = (lab(512), real());
    let lvm = lvm.as_ref();
    cut(
        &lab,
        "lv-create",
        "g",
        json!({"name": "new", "extents": 4, "stripes": 2}),
        lvm,
    );
    cut(&lab, "lv-extend", "g/lin", json!({"extents": "+3"}), lvm);
    cut(&lab, "lv-extend", "g/str", json!({"extents": "+3"}), lvm);
    cut(&lab, "lv-reduce", "g/lin", json!({"extents": 2}), lvm);
    cut(&lab, "lv-rename", "g/lin", json!({"name": "line"}), lvm);
    cut(&lab, "lv-remove", "g/str", json!({}), lvm);
    cut(
        &lab,
        "lv-change",
        "g/str",
        json!({"add_tags": ["t"], "read_only": true}),
        lvm,
    );
}

#[test]
fn groups_are_old_or_new() {
    let (mut lab, lvm) = (lab(512), real());
    let lvm = lvm.as_ref();
    cut(&lab, "vg-extend", "g", json!({"disks": ["d3"]}), lvm);
    cut(&lab, "vg-extend", "g", json!({"disks": ["d3", "d4"]}), lvm);
    cut(&lab, "vg-rename", "g", json!({"name": "h"}), lvm);
    cut(&lab, "vg-change", "g", json!({"add_tags": ["t"]}), lvm);
    cut(&lab, "vg-remove", "g", json!({"force": true}), lvm);
    cut(&lab, "vg-create", "h", json!({"disks": ["d3"]}), lvm);
    cut(&lab, "vg-create", "h", json!({"disks": ["d3", "d4"]}), lvm);
    cut(&lab, "vg-restore", "g", json!({"change": 2}), lvm);
    cut(
        &lab,
        "pv-change",
        "d1",
        json!({"allocatable": false, "add_tags": ["t"]}),
        lvm,
    );
    lab.change(&request("vg-extend", "g", json!({"disks": ["d3", "d4"]})));
    cut(&lab, "vg-reduce", "g", json!({"disks": ["d3"]}), lvm);
    cut(&lab, "vg-reduce", "g", json!({"disks": ["d3", "d4"]}), lvm);
}

#[test]
fn whose_a_group_is_is_old_or_new() {
    let (mut lab, lvm) = (lab(512), real());
    let lvm = lvm.as_ref();
    cut(&lab, "vg-export", "g", json!({}), lvm);
    lab.change(&request("vg-export", "g", json!({})));
    let volumes = |lab: &Lab| lab.found().nodes.keys().filter(|name| name.starts_with("g/")).count();
    assert_eq!(volumes(&lab), 0);
    cut(&lab, "vg-import", "g", json!({}), lvm);
    lab.change(&request("vg-import", "g", json!({})));
    assert_eq!(volumes(&lab), 2);
    // LVM2 shows nothing of what is another host's.
    cut(&lab, "vg-change", "g", json!({"system_id": "other"}), None);
    lab.change(&request("vg-change", "g", json!({"system_id": "other"})));
    assert_eq!(volumes(&lab), 0);
    cut(&lab, "vg-adopt", "g", json!({}), None);
    lab.change(&request("vg-adopt", "g", json!({})));
    assert_eq!(volumes(&lab), 2);
}

#[test]
fn copies_are_of_the_old_group_or_a_new_one() {
    let mut lab = lab(512);
    for at in 0..3 {
        let old = lab.images()[&format!("d{at}")].clone();
        let mut copy = Image::new(&format!("e{at}"), old.blocks, 512);
        for at in 0..old.bytes() / MIB {
            copy.write(at * MIB, &old.read(at * MIB, MIB));
        }
        lab.add(copy);
    }
    let volumes = |lab: &Lab, of: &str| lab.found().nodes.keys().filter(|name| name.starts_with(of)).count();
    assert_eq!(volumes(&lab, "g/"), 0, "nobody knows which is the right one");
    let swept = cut(&lab, "vg-import-clone", "h", json!({"disks": ["e2", "e0", "e1"]}), None);
    assert!(swept.finished > 0);
    for (disks, why) in [
        (json!(["e0", "e1"]), "name a copy of each"),
        (json!(["e0", "d0", "e1", "e2"]), "name one copy of each"),
        (json!(["d3"]), "has its metadata on"),
    ] {
        let plan = lab.plan(&request("vg-import-clone", "h", json!({"disks": disks})));
        let refused = plan.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    lab.change(&request("vg-import-clone", "h", json!({"disks": ["e2", "e0", "e1"]})));
    assert_eq!((volumes(&lab, "g/"), volumes(&lab, "h/")), (2, 2));
}

#[test]
fn what_is_missing_is_given_up_or_not() {
    let mut lab = lab(512);
    lab.change(&request("vg-extend", "g", json!({"disks": ["d3"]})));
    let without = |lab: &Lab, disk: &str| {
        let mut images = lab.images();
        images.remove(disk);
        lab.with(images)
    };
    let bare = without(&lab, "d3");
    cut(&bare, "vg-reduce", "g", json!({"remove_missing": true}), None);
    let torn = without(&lab, "d2");
    let refused = torn.plan(&request("vg-reduce", "g", json!({"remove_missing": true})));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("\"str\" needs what is missing")
    );
    let force = json!({"remove_missing": true, "force": true});
    cut(&torn, "vg-reduce", "g", force, None);
}

#[test]
fn one_seed_gives_other_identities_for_other_disks() {
    let mut lab = lab(512);
    lab.change(&request("vg-create", "same", json!({"disks": ["d3"]})));
    lab.change(&request("vg-rename", "same", json!({"name": "other"})));
    lab.change(&request("vg-create", "same", json!({"disks": ["d4"]})));
    let ids: std::collections::BTreeSet<&String> = lab.found().groups.iter().map(|group| &group.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn two_groups_are_old_or_new_or_finished() {
    let (mut lab, lvm) = (lab(512), real());
    let lvm = lvm.as_ref();
    lab.change(&request("vg-extend", "g", json!({"disks": ["d3", "d4"]})));
    lab.change(&request(
        "lv-create",
        "g",
        json!({"name": "far", "extents": 3, "disks": ["d3"]}),
    ));
    lab.change(&request(
        "lv-create",
        "g",
        json!({"name": "two", "extents": 4, "disks": ["d3", "d4"], "stripes": 2}),
    ));
    let swept = cut(&lab, "vg-split", "g", json!({"name": "h", "disks": ["d3", "d4"]}), lvm);
    assert!(swept.finished > 0);
    lab.change(&request("vg-split", "g", json!({"name": "h", "disks": ["d3", "d4"]})));
    assert_eq!(lab.found().groups.len(), 2);
    let swept = cut(&lab, "vg-merge", "g", json!({"group": "h"}), lvm);
    assert!(swept.finished > 0);
}

#[test]
fn physical_volumes_are_old_or_new() {
    let (mut lab, lvm) = (lab(512), real());
    let looks = |found: &Found, lab: &Lab| {
        let verdicts = found
            .nodes
            .iter()
            .map(|(name, node)| format!("{name} {:?}\n", node.findings.format));
        verdicts.collect::<String>() + &sees(found, lab)
    };
    for (verb, object, options) in [
        ("pv-create", "d4", json!({})),
        ("pv-create", "d4", json!({"metadata_copies": 2, "metadata_size": "2m"})),
        ("pv-create", "d4", json!({"metadata_copies": 0})),
        ("pv-remove", "d3", json!({})),
    ] {
        let plan = lab.plan(&request(verb, object, options)).unwrap();
        sweep(&lab, &plan, looks, |_, _| {});
    }
    // A disk that has grown.
    for (disk, mib) in [("d1", 48), ("d3", 24)] {
        let mut image = Image::new(disk, mib * MIB / 512, 512);
        let old = lab.images()[disk].clone();
        for at in 0..old.bytes() / MIB {
            image.write(at * MIB, &old.read(at * MIB, MIB));
        }
        lab.add(image);
    }
    let plan = lab.plan(&request("pv-resize", "d1", json!({}))).unwrap();
    sweep(&lab, &plan, looks, |_, _| {});
    lab.change(&request("pv-resize", "d1", json!({})));
    assert_eq!(lab.found().groups[0].members[1].extents, 47);
    cut(&lab, "pv-resize", "d1", json!({"size": "40m"}), None);
    lab.change(&request("pv-resize", "d3", json!({})));
    if let Some(lvm) = lvm {
        ask(&lvm, &lab);
    }
}

#[test]
fn blocks_of_4096_bytes_are_old_or_new_too() {
    let lab = lab(4096);
    cut(
        &lab,
        "lv-create",
        "g",
        json!({"name": "new", "extents": 4, "stripes": 2}),
        None,
    );
    cut(&lab, "lv-extend", "g/lin", json!({"extents": "+3"}), None);
    cut(&lab, "vg-extend", "g", json!({"disks": ["d3", "d4"]}), None);
}

#[test]
fn what_was_done_can_be_taken_back() {
    let mut lab = lab(512);
    let names = |lab: &Lab| {
        lab.found()
            .groups
            .iter()
            .map(|g| {
                (
                    g.name.clone(),
                    g.volumes
                        .iter()
                        .map(|v| (v.what.name.clone(), v.what.bytes))
                        .collect::<Vec<_>>(),
                )
            })
            .collect::<Vec<_>>()
    };
    for (verb, object, options) in [
        ("lv-create", "g", json!({"name": "new", "extents": 4})),
        ("lv-extend", "g/lin", json!({"extents": "+3"})),
        ("lv-reduce", "g/lin", json!({"extents": 2})),
        ("lv-remove", "g/str", json!({})),
        ("lv-rename", "g/lin", json!({"name": "line"})),
        ("vg-rename", "g", json!({"name": "h"})),
        ("vg-extend", "g", json!({"disks": ["d3"]})),
    ] {
        let was = names(&lab);
        let plan = lab.change(&request(verb, object, options));
        assert_ne!((was.clone(), verb), (names(&lab), "lv-create"));
        let Undo::Request(back) = &plan.undo else {
            panic!("{verb}: {:?}", plan.undo)
        };
        lab.change(back);
        assert_eq!(names(&lab), was, "{verb} taken back");
    }
}
