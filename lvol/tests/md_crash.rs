//! The verbs of arrays, with the power taken away at every point: discovery finds the old array or the new one, and the data of the members is what it was.
#[path = "crash/mod.rs"]
mod crash;

use crash::{
    Found, Lab,
    image::Image,
    sweep::{Swept, sweep},
};
use lvol::Request;
use serde_json::{Value, json};
use spec::md::superblock::{Standing, Superblock, Update};

const MIB: u64 = 1 << 20;
/// Where superblocks are, and before which byte there are no data.
const SUPER: u64 = 4096;
const HEAD: u64 = MIB;

fn request(verb: &str, object: &str, options: Value) -> Request {
    Request {
        verb: verb.into(),
        object: object.into(),
        options: options.as_object().cloned().unwrap_or_default(),
    }
}

/// Seven disks that hold something behind where metadata may be.
fn lab(block_size: u32) -> Lab {
    let mut lab = Lab::new();
    for at in 0..7 {
        lab.add(Image::new(
            &format!("d{at}"),
            3 * MIB / u64::from(block_size),
            block_size,
        ));
        let data = reactor::testing::pattern(at, 64 << 10);
        lab.put(&format!("d{at}"), 2 * MIB + MIB / 2, &data)
    }
    lab.discover();
    lab
}

/// With what discovery says of each disk: spares are in no table.
fn sees(found: &Found, _: &Lab) -> String {
    let told = found.nodes.iter().map(|(name, node)| {
        let findings = &node.findings;
        format!("{name} {:?} {}\n", findings.verdict, findings.reason)
    });
    found.summary() + &told.collect::<String>()
}

fn cut(lab: &Lab, verb: &str, object: &str, options: Value) -> Swept {
    let plan = lab
        .plan(&request(verb, object, options.clone()))
        .unwrap_or_else(|why| panic!("{verb} {object} {options}: {why}"));
    let swept = sweep(lab, &plan, sees, |state, _| {
        for (name, was) in &lab.images() {
            let mut changed = state.images()[name].differing(was).into_iter();
            let data = changed.find(|sector| *sector >= 2 * HEAD / 512);
            assert_eq!(data, None, "{verb} changed data of {name}");
        }
    });
    println!("{verb} {object} {options}: {swept:?}");
    assert!(swept.old + swept.finished > 0 && swept.new > 0, "{swept:?}");
    swept
}

fn superblock(lab: &Lab, disk: &str) -> Superblock {
    Superblock::parse(&lab.bytes(disk)[SUPER as usize..][..4096]).expect("a superblock")
}

/// A member fails: those that are left say so, as an array that runs has them.
fn fail(lab: &mut Lab, members: &[&str], lost: usize) {
    let stands = |at: usize| if at == lost { Standing::Failed } else { Standing::InSync };
    let known: Vec<(Option<u32>, Standing)> = (0..members.len()).map(|at| (Some(at as u32), stands(at))).collect();
    for (this, disk) in members.iter().enumerate().filter(|(at, _)| *at != lost) {
        let mut superblock = superblock(lab, disk);
        let events = superblock.events() + 2;
        superblock.update(&Update {
            events,
            time: 1_800_000_001,
            dirty: false,
            in_sync_to: u64::MAX,
            members: &known,
            this,
            corrected: 0,
        });
        let mut bytes = superblock.to_bytes().expect("few roles");
        bytes.resize(4096, 0);
        lab.put(disk, SUPER, &bytes);
        let at = (SUPER as i64 + i64::from(superblock.bitmap_offset().expect("a bitmap")) * 512) as usize;
        let mut bytes = lab.bytes(disk)[at..][..4096].to_vec();
        let mut header = spec::md::bitmap::Header::parse(&bytes).expect("a bitmap");
        header.events = events;
        let header = header.to_bytes();
        bytes[..header.len()].copy_from_slice(&header);
        lab.put(disk, at as u64, &bytes)
    }
    lab.discover();
}

#[test]
fn arrays_are_made_and_deleted_or_not() {
    for block_size in [512, 4096] {
        let lab = lab(block_size);
        // What is written for the others differs in numbers only.
        let levels: &[(&str, usize)] = match block_size {
            512 => &[("raid0", 2), ("raid1", 2), ("raid5", 3), ("raid10", 4)],
            _ => &[("raid5", 3)],
        };
        for (level, count) in levels {
            let disks: Vec<String> = (0..*count).map(|at| format!("d{at}")).collect();
            let plain = json!({"disks": disks, "level": level, "chunk": "64k", "clean": true});
            let options = if *level == "raid1" {
                json!({"disks": disks, "level": level, "spares": ["d5"], "clean": true})
            } else {
                plain
            };
            cut(&lab, "raid-create", "data", options.clone());
            let mut made = lab.clone();
            made.change(&request("raid-create", "data", options));
            cut(&made, "raid-delete", "data", json!({}));
        }
        let partial = json!({"disks": ["d0", "d1", "d2"], "level": "raid5", "ppl": true});
        cut(&lab, "raid-create", "data", partial);
    }
}

#[test]
fn members_come_and_go_or_not() {
    for block_size in [512, 4096] {
        let mut lab = lab(block_size);
        let options = json!({"disks": ["d0", "d1", "d2", "d3"], "level": "raid6", "chunk": "64k", "clean": true});
        lab.change(&request("raid-create", "data", options));
        cut(&lab, "raid-add", "data", json!({"disks": ["d4"]}));
        cut(&lab, "raid-add", "md/data", json!({"disks": ["d5", "d4"]}));
        cut(&lab, "raid-replace", "data", json!({"disk": "d1", "with": "d6"}));
        let mut spare = lab.clone();
        spare.change(&request("raid-add", "data", json!({"disks": ["d5", "d4"]})));
        cut(&spare, "raid-replace", "data", json!({"disk": "d1", "with": "d4"}));
        cut(&spare, "raid-remove", "data", json!({"disks": ["d4"]}));
        cut(&spare, "raid-remove", "data", json!({"disks": ["d4", "d5"]}));
        cut(&spare, "raid-delete", "data", json!({}));
        fail(&mut lab, &["d0", "d1", "d2", "d3"], 2);
        cut(&lab, "raid-readd", "data", json!({"disks": ["d2"]}));
        cut(&lab, "raid-remove", "data", json!({"disks": ["d2"]}));
        cut(&lab, "raid-add", "data", json!({"disks": ["d5"]}));
    }
}
