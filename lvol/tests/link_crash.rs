//! The verbs of drive links, with the power taken away at every point: discovery finds the old link or the new one, and the data of the
//! children is what it was.
#[path = "crash/mod.rs"]
mod crash;

use crash::{
    Found, Lab,
    image::Image,
    sweep::{Swept, sweep},
};
use lvol::{GroupState, Request, Verdict};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn request(verb: &str, object: &str, options: Value) -> Request {
    Request {
        verb: verb.into(),
        object: object.into(),
        options: options.as_object().cloned().unwrap_or_default(),
    }
}

/// Five disks, of which three are a link.
fn lab(block_size: u32) -> Lab {
    let mut lab = Lab::new();
    for (at, mib) in [4, 6, 5, 3, 4].into_iter().enumerate() {
        lab.add(Image::new(
            &format!("d{at}"),
            mib * MIB / u64::from(block_size),
            block_size,
        ));
    }
    lab.change(&request("link-create", "big", json!({"disks": ["d1", "d0", "d2"]})));
    lab
}

fn sees(found: &Found, _: &Lab) -> String {
    found.summary()
}

fn cut(lab: &Lab, verb: &str, object: &str, options: Value) -> Swept {
    let plan = lab
        .plan(&request(verb, object, options.clone()))
        .unwrap_or_else(|why| panic!("{verb} {object}: {why}"));
    assert!(!plan.intent, "the format's own rule is enough");
    let swept = sweep(lab, &plan, sees, |state, _| {
        for disk in ["d0", "d1", "d2"] {
            let (was, is) = (&lab.images()[disk], &state.images()[disk]);
            let data = is.differing(was).into_iter().find(|sector| *sector >= MIB / 512);
            assert_eq!(data, None, "{verb} changed data of {disk}");
        }
    });
    println!("{verb} {object} {options}: {swept:?}");
    swept
}

/// A disk that is longer than it was, with the same on it.
fn grow(lab: &mut Lab, disk: &str, mib: u64) {
    let mut image = lab.images()[disk].clone();
    image.resize(mib * MIB / u64::from(image.block_size));
    lab.add(image);
}

#[test]
fn links_are_old_or_new() {
    for block_size in [512, 4096] {
        let mut lab = lab(block_size);
        assert_eq!(
            lab.found().nodes["link/big"].blocks,
            (3 + 5 + 4) * MIB / u64::from(block_size)
        );
        cut(&lab, "link-create", "more", json!({"disks": ["d3", "d4"]}));
        cut(&lab, "link-create", "one", json!({"disks": ["d3"]}));
        cut(&lab, "link-add", "big", json!({"disks": ["d3"]}));
        cut(&lab, "link-add", "big", json!({"disks": ["d3", "d4"]}));
        cut(&lab, "link-shrink", "big", json!({}));
        cut(&lab, "link-shrink", "link/big", json!({"size": "7m"}));
        cut(&lab, "link-shrink", "big", json!({"size": "2m"}));
        cut(&lab, "link-rename", "big", json!({"name": "large"}));
        cut(&lab, "link-delete", "big", json!({}));
        grow(&mut lab, "d2", 9);
        cut(&lab, "link-expand", "big", json!({}));
    }
}

#[test]
fn a_change_that_was_cut_is_followed_by_another() {
    let lab = lab(512);
    let rename = lab
        .plan(&request("link-rename", "big", json!({"name": "large"})))
        .unwrap();
    let (mut old, mut new) = (0, 0);
    sweep(&lab, &rename, sees, |state, is_new| {
        let mut state = state.clone();
        let name = if is_new { "large" } else { "big" };
        state.change(&request("link-add", name, json!({"disks": ["d3"]})));
        assert_eq!(state.found().groups[0].state, GroupState::Complete);
        state.change(&request("link-shrink", name, json!({})));
        state.change(&request("link-rename", name, json!({"name": "again"})));
        assert_eq!(state.found().nodes["link/again"].blocks, 12 * MIB / 512);
        *if is_new { &mut new } else { &mut old } += 1;
    });
    assert!(old > 3 && new > 3);
    // And cut again, wherever it was cut before: one state of each kind is enough.
    let mut seen = std::collections::BTreeSet::new();
    sweep(&lab, &rename, sees, |state, is_new| {
        let held: Vec<String> = ["d0", "d1", "d2"]
            .iter()
            .map(|disk| match &state.found().nodes[*disk].findings.member {
                Some(lvol::group::Member::Link(child)) => {
                    let sequence = |copy: &Option<spec::link::Record>| copy.as_ref().map(|record| record.sequence);
                    format!("{:?}", child.copies.each_ref().map(sequence))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        if seen.insert(held) {
            let name = if is_new { "large" } else { "big" };
            let next = state
                .plan(&request("link-shrink", name, json!({"size": "9m"})))
                .unwrap();
            sweep(state, &next, sees, |_, _| {});
        }
    });
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn what_was_done_can_be_taken_back() {
    let lab = lab(512);
    for (verb, options) in [
        ("link-add", json!({"disks": ["d3"]})),
        ("link-shrink", json!({})),
        ("link-rename", json!({"name": "large"})),
        ("link-delete", json!({})),
    ] {
        let mut state = lab.clone();
        let plan = state.change(&request(verb, "big", options));
        assert_ne!(state.found().summary(), lab.found().summary());
        // As the engine takes a plan back by its bytes: each state in between is the old or the new too.
        let mut back = plan.clone();
        back.steps.reverse();
        for write in back.steps.iter_mut().flat_map(|step| &mut step.writes) {
            std::mem::swap(&mut write.before, &mut write.after);
        }
        sweep(&state, &back, sees, |_, _| {});
        state.carry(&back);
        assert_eq!(state.found().summary(), lab.found().summary(), "{verb} taken back");
        assert_eq!(state.images(), lab.images());
    }
}

fn group(lab: &Lab) -> &lvol::Group {
    &lab.found().groups[0]
}

fn without(lab: &Lab, gone: &[&str]) -> Lab {
    let mut images = lab.images();
    images.retain(|name, _| !gone.contains(&name.as_str()));
    lab.with(images)
}

#[test]
fn a_missing_child_is_a_gap() {
    let lab = lab(512);
    let state = without(&lab, &["d0"]);
    let link = &state.found().nodes["link/big"];
    assert_eq!(link.blocks, 12 * MIB / 512, "addresses stay");
    assert_eq!(group(&state).state, GroupState::Partial);
    assert!(group(&state).notes[0].starts_with("child 1 is missing; it was last seen as \"d0\""));
    match &link.table {
        Some(bdev::Table::Mapped {
            pieces,
            read_only: true,
        }) => {
            assert_eq!(pieces[1], bdev::table::Piece::Gap { blocks: 3 * MIB / 512 })
        }
        other => panic!("{other:?}"),
    }
    for verb in ["link-add", "link-shrink", "link-delete"] {
        let options = if verb == "link-add" {
            json!({"disks": ["d3"]})
        } else {
            json!({})
        };
        let why = state.plan(&request(verb, "big", options)).unwrap_err();
        assert_eq!(why.code, lvol::plan::Code::Incomplete, "{verb}: {why}");
    }
    assert_eq!(without(&lab, &["d0", "d1", "d2"]).found().groups, []);
    assert_eq!(lab.with(lab.images()).found().summary(), lab.found().summary());
}

#[test]
fn a_stale_child_is_refused_and_a_copy_is_ambiguous() {
    let mut lab = lab(512);
    let old = lab.images()["d2"].clone();
    lab.change(&request("link-rename", "big", json!({"name": "large"})));
    let mut images = lab.images();
    images.insert("d2".into(), old.clone());
    let state = lab.with(images);
    assert_eq!(group(&state).state, GroupState::Partial);
    let d2 = &state.found().nodes["d2"].findings;
    assert_eq!(d2.verdict, Verdict::Unclaimed);
    assert!(
        d2.reason.starts_with("is out of date: it knows change 1"),
        "{}",
        d2.reason
    );

    // An old copy beside the child itself harms nobody; a true one does.
    let mut images = lab.images();
    let copy = |image: &Image, name: &str| {
        let mut copy = image.clone();
        copy.name = name.into();
        copy.uuid = uuid::Uuid::from_u128(9);
        copy
    };
    images.insert("old".into(), copy(&old, "old"));
    assert_eq!(group(&lab.with(images)).state, GroupState::Complete);
    let mut images = lab.images();
    images.insert("twin".into(), copy(&lab.images()["d2"], "twin"));
    let state = lab.with(images);
    assert_eq!(group(&state).state, GroupState::Ambiguous);
    assert!(!state.found().nodes.contains_key("link/large"));
    for disk in ["d2", "twin"] {
        assert_eq!(state.found().nodes[disk].findings.verdict, Verdict::Ambiguous);
    }

    // Two hosts have written the same change.
    let two = |name: &str| {
        let mut lab = lab.clone();
        lab.change(&request("link-rename", "large", json!({"name": name})));
        lab.images()
    };
    let (mut images, other) = (two("a"), two("b"));
    images.insert("d2".into(), other["d2"].clone());
    let state = lab.with(images);
    assert_eq!(group(&state).state, GroupState::Ambiguous);
    assert!(group(&state).reason.contains("two different records of change 3"));
}

#[test]
fn two_links_of_one_name_are_told_apart_by_identity() {
    let mut lab = lab(512);
    // The other link was made by another host.
    let mut other = Lab::new();
    for disk in ["d3", "d4"] {
        other.add(lab.images()[disk].clone());
    }
    let create = request("link-create", "big", json!({"disks": ["d3", "d4"]}));
    let seed = uuid::Uuid::from_u128(0xbee);
    let plan = other
        .plan_with(&create, &lvol::Stamp { seed, ..crash::stamp() })
        .unwrap();
    other.carry(&plan);
    for image in other.images().into_values() {
        lab.add(image);
    }
    let groups = &lab.found().groups;
    assert_eq!(groups.len(), 2);
    assert!(
        groups.iter().all(|group| group.state == GroupState::Ambiguous),
        "{groups:?}"
    );
    let id = groups[1].id.clone();
    lab.change(&request("link-rename", &id, json!({"name": "second"})));
    let names: Vec<&str> = lab.found().groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["big", "second"]);
    assert!(
        lab.found()
            .groups
            .iter()
            .all(|group| group.state == GroupState::Complete)
    );
}

#[test]
fn what_is_not_possible_is_refused_with_the_reason() {
    let mut lab = lab(512);
    let refused = |lab: &Lab, verb: &str, object: &str, options: Value| {
        let why = lab.plan(&request(verb, object, options)).unwrap_err();
        format!("{:?}: {why}", why.code)
    };
    for (verb, object, options, wanted) in [
        ("link-create", "a/b", json!({"disks": ["d3"]}), "BadName"),
        ("link-create", "big", json!({"disks": ["d3"]}), "BadName"),
        ("link-create", "x", json!({"disks": []}), "BadOption"),
        ("link-create", "x", json!({"disks": ["d3", "d3"]}), "BadOption"),
        (
            "link-create",
            "x",
            json!({"disks": ["d0"]}),
            "InUse: \"d0\" is a child of the drive link \"big\"",
        ),
        ("link-create", "x", json!({"disks": ["nix"]}), "NotFound"),
        ("link-add", "nix", json!({"disks": ["d3"]}), "NotFound"),
        ("link-add", "d3", json!({"disks": ["d4"]}), "WrongKind"),
        (
            "link-add",
            "big",
            json!({"disks": ["link/big"]}),
            "InUse: \"link/big\" is the drive link itself",
        ),
        (
            "link-expand",
            "big",
            json!({}),
            "Nothing: \"d2\", the last child, has not grown",
        ),
        ("link-shrink", "big", json!({"size": 0}), "BadOption"),
        ("link-shrink", "big", json!({"size": "1g"}), "Nothing"),
        ("link-rename", "big", json!({"name": "big"}), "Nothing"),
        ("vg-remove", "big", json!({}), "WrongKind"),
        ("lv-remove", "link/big", json!({}), "WrongKind"),
    ] {
        let why = refused(&lab, verb, object, options);
        assert!(why.starts_with(wanted), "{verb} {object}: {why}");
    }
    lab.put("link/big", 0, &[1; 512]);
    lab.discover();
    let why = refused(&lab, "link-delete", "big", json!({}));
    assert!(why.starts_with("NotBlank"), "{why}");
    lab.use_by("link/big", "host1");
    for (verb, options) in [
        ("link-shrink", json!({})),
        ("link-rename", json!({"name": "x"})),
        ("link-delete", json!({})),
    ] {
        let why = refused(&lab, verb, "big", options);
        assert!(why.starts_with("InUse: \"link/big\" is in use by host1"), "{why}");
    }
}

#[test]
fn a_group_on_a_link_of_volumes_and_partitions() {
    let mut lab = lab(512);
    lab.add(Image::new("v", 64 * MIB / 512, 512));
    lab.change(&request("vg-create", "g", json!({"disks": ["v"], "extent_size": "1m"})));
    lab.change(&request("lv-create", "g", json!({"name": "a", "extents": 8})));
    lab.change(&request(
        "link-create",
        "top",
        json!({"disks": ["link/big", "d3", "g/a"]}),
    ));
    assert_eq!(lab.found().nodes["link/top"].blocks, (11 + 2 + 7) * MIB / 512);
    let why = lab
        .plan(&request(
            "link-add",
            "big",
            json!({"disks": ["link/top"], "force": true}),
        ))
        .unwrap_err();
    assert!(why.reason.contains("is on it"), "{why}");
    // On a volume of LVM2's nobody looks for groups, not through a link either.
    lab.change(&request("link-create", "flat", json!({"disks": ["d4"]})));
    lab.change(&request(
        "vg-create",
        "h",
        json!({"disks": ["link/flat"], "extent_size": "1m"}),
    ));
    assert!(lab.found().groups.iter().any(|group| group.name == "h"));
}
