//! What `ashlar can` says is what happens: over random trees, every verb that is said to be possible is carried out and leaves disks that
//! discovery understands; every one that is not is refused with the same code when it is tried.
#[path = "crash/mod.rs"]
mod crash;

use crash::{Lab, image::Image, now};
use lvol::{
    Registry, Request, Stamp, Verdict,
    plan::{
        Code, Disks, limit,
        verb::{self, Kind, Verb},
    },
};
use std::collections::BTreeMap;
use uuid::Uuid;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }
}

/// Everything that has a name, and a name that nothing has.
fn objects(lab: &Lab) -> Vec<String> {
    let (mut all, mut exported) = (lab.names(), Vec::new());
    for group in lab.groups() {
        all.extend(group.volumes.iter().map(|volume| volume.disk.clone()));
        if group.reason.starts_with("is exported") {
            exported.push(group.name.clone());
        }
        all.push(group.name);
    }
    all.push("nothing".into());
    all.sort();
    all.dedup();
    // Of one that is exported there is only one thing to do, and then all others again.
    (0..4).for_each(|_| all.extend(exported.iter().cloned()));
    // There are few of these, and much can be done to them.
    let partitions = lab.found().nodes.iter().filter(|(_, node)| node.partition.is_some());
    let partitions: Vec<String> = partitions.map(|(name, _)| name.clone()).collect();
    all.extend(partitions.iter().chain(&partitions).cloned());
    all
}

/// No disk is damaged, no group is anything but complete, no volume is inactive.
fn sound(lab: &Lab, after: &str) {
    for (name, node) in &lab.found().nodes {
        let verdict = node.findings.verdict;
        assert!(
            !matches!(verdict, Verdict::Unreadable | Verdict::Ambiguous),
            "{name} {} after {after}",
            node.findings.reason
        );
    }
    // One that is exported is waiting for its import.
    for group in lab
        .found()
        .groups
        .iter()
        .filter(|group| !group.reason.starts_with("is exported"))
    {
        assert!(
            group.reason.starts_with("has all"),
            "{} {} after {after}",
            group.name,
            group.reason
        );
        for volume in &group.volumes {
            assert_eq!(volume.inactive, None, "{} after {after}", volume.disk);
        }
    }
}

#[test]
fn what_can_be_done_is_done_and_what_cannot_is_refused_alike() {
    let all = Registry::builtin().verbs();
    let mut tried: BTreeMap<(&str, bool), u32> = BTreeMap::new();
    for seed in 0..120u64 {
        let (mut dice, mut lab) = (Dice(seed), Lab::new());
        for (at, mib) in [24u64, 40, 40, 64, 16].into_iter().enumerate() {
            let block = if seed % 3 == 2 { 4096 } else { 512 };
            lab.add(Image::new(&format!("d{at}"), (mib << 20) / block, block as u32));
        }
        // Some begin with a group, some with partitions, some with nothing.
        let options = |json: serde_json::Value| json.as_object().cloned().unwrap_or_default();
        if seed % 2 == 0 {
            let disks = serde_json::json!({ "disks": ["d0", "d1"], "extent_size": "1m" });
            lab.change(&Request {
                verb: "vg-create".into(),
                object: "g".into(),
                options: options(disks),
            });
        }
        if seed % 3 == 0 {
            let dos = serde_json::json!({ "scheme": if seed % 4 == 0 { "dos" } else { "gpt" } });
            lab.change(&Request {
                verb: "label-create".into(),
                object: "d3".into(),
                options: options(dos),
            });
        }
        for step in 0..100u64 {
            let objects = objects(&lab);
            let object = &objects[dice.roll(objects.len())];
            // Mostly what fits; and seldom what uses up a blank disk, or the walk is over at once.
            let kinds = verb::kinds(&lab, object);
            let fits = |verb: &&&dyn Verb| kinds.contains(&verb.kind());
            let verbs: Vec<&&dyn Verb> = match dice.roll(5) {
                0 => all.iter().collect(),
                n => all
                    .iter()
                    .filter(fits)
                    .filter(|verb| n == 1 || !verb.name().ends_with("-create") || verb.kind() != Kind::Disk)
                    .collect(),
            };
            let Some(verb) = verbs.get(dice.roll(verbs.len().max(1))).map(|verb| **verb) else {
                continue;
            };
            let stamp = Stamp {
                seed: Uuid::from_u128(u128::from(seed << 32 | step) + 1),
                time: 1_800_000_000 + step,
                host: "lab".into(),
            };
            let can = now(verb::can(&lab, verb, object, &stamp));
            let request = Request {
                verb: verb.name().into(),
                object: object.clone(),
                options: can.options.clone(),
            };
            let what = format!("seed {seed}, step {step}: {} {object} {:?}", verb.name(), can.options);
            *tried.entry((verb.name(), can.possible)).or_default() += 1;
            match now(verb::plan(&lab, &request, &stamp)) {
                Ok(plan) => {
                    assert!(can.possible, "{what}: {:?}", can.why);
                    lab.carry(&plan);
                    sound(&lab, &what);
                }
                Err(why) => {
                    assert!(!can.possible, "{what}: {why}");
                    assert_eq!(Some(why.code), can.why.as_ref().map(|why| why.code), "{what}");
                    assert!(!why.reason.is_empty() && why.code != Code::NoVerb, "{what}: {why}");
                    // An object of another kind is told as such, whatever else is wrong.
                    let kinds = verb::kinds(&lab, object);
                    let other = matches!(why.code, Code::WrongKind | Code::NotFound | Code::BadName);
                    assert!(kinds.contains(&verb.kind()) || other, "{what}: {why}");
                }
            }
        }
    }
    println!("{tried:?}");
    // A verb that was never possible was not tested.
    for verb in all {
        let done = tried.get(&(verb.name(), true)).copied().unwrap_or_default();
        // What needs a damaged table, a backup, an archive, a child that has grown, a member without a place or another host is for tests of its own.
        let rare = [
            "label-repair",
            "disk-restore",
            "vg-restore",
            "link-expand",
            "vg-adopt",
            "raid-readd",
            "raid-remove",
        ]
        .contains(&verb.name());
        assert!(done > 0 || rare, "{} was never possible: {tried:?}", verb.name());
    }
}

/// A value as the option takes it: disks and lists have theirs one by one.
fn given(option: &verb::Opt, value: serde_json::Value) -> serde_json::Value {
    match option.kind {
        verb::Type::Disks | verb::Type::List => vec![value].into(),
        _ => value,
    }
}

#[test]
fn what_an_option_may_be_is_what_it_is_taken_with() {
    let stamp = Stamp {
        seed: Uuid::from_u128(77),
        time: 1_800_000_000,
        host: "lab".into(),
    };
    // By verb and option: values inside of what is told, values outside.
    let mut tried: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    let all = Registry::builtin().verbs();
    for seed in 100..136u64 {
        let (mut dice, mut lab) = (Dice(seed), Lab::new());
        for (at, mib) in [24u64, 40, 40, 64, 16].into_iter().enumerate() {
            let block = if seed % 3 == 2 { 4096 } else { 512 };
            lab.add(Image::new(&format!("d{at}"), (mib << 20) / block, block as u32));
        }
        let mut begin = |verb: &str, object: &str, options: serde_json::Value| {
            lab.change(&Request {
                verb: verb.into(),
                object: object.into(),
                options: options.as_object().cloned().unwrap_or_default(),
            });
        };
        // Stripes need two members; what shall shrink must have something.
        if seed % 2 == 0 {
            begin(
                "vg-create",
                "g",
                serde_json::json!({ "disks": ["d0", "d1"], "extent_size": "1m" }),
            );
            begin("lv-create", "g", serde_json::json!({ "extents": 5 }));
        }
        if seed % 3 == 0 {
            begin(
                "label-create",
                "d3",
                serde_json::json!({ "scheme": if seed % 4 == 0 { "dos" } else { "gpt" } }),
            );
            begin("partition-create", "d3", serde_json::json!({ "size": "8m" }));
            begin("partition-create", "d3", serde_json::json!({ "size": "4m" }));
        }
        for step in 0..50u64 {
            let objects = objects(&lab);
            let object = &objects[dice.roll(objects.len())];
            let kinds = verb::kinds(&lab, object);
            let fits: Vec<&'static dyn Verb> = all
                .iter()
                .copied()
                .filter(|verb| kinds.contains(&verb.kind()))
                .collect();
            let Some(verb) = fits.get(dice.roll(fits.len().max(1))).copied() else {
                continue;
            };
            let can = now(verb::can_how(&lab, verb, object, &stamp));
            assert_eq!(can.limits.len(), verb.options().len());
            for limit in &can.limits {
                let option = &limit.option;
                let name = format!("seed {seed}, step {step}: {} {object} {}", verb.name(), option.name);
                let guess = verb
                    .guesses(&lab, object)
                    .into_iter()
                    .find(|guess| guess.option() == option.name);
                let with = guess.map(|guess| guess.with_options()).unwrap_or_default();
                let ask = |value: serde_json::Value| {
                    let request = limit::request(verb, &lab, object, limit.not_with, &with);
                    let request = request.with(option.name, given(option, value));
                    now(verb::plan(&lab, &request, &stamp)).err()
                };
                let counts = tried.entry((verb.name(), option.name)).or_default();
                let one = limit.min.zip(limit.max).into_iter();
                for (min, max) in one.chain(limit.ranges.iter().flatten().copied()) {
                    assert!(min <= max, "{name}");
                    let unit = limit.step.unwrap_or(1);
                    let steps = (max - min) / unit;
                    let inside = [
                        0,
                        steps,
                        dice.roll(steps as usize + 1) as u64,
                        dice.roll(steps as usize + 1) as u64,
                    ];
                    for value in inside.map(|n| min + n * unit) {
                        let why = ask(value.into());
                        let fits = why.as_ref().is_none_or(|why| why.code == Code::Nothing);
                        assert!(fits, "{name}={value}, of {min} to {max}: {why:?}");
                        counts.0 += 1;
                    }
                    for value in [min.checked_sub(unit), Some(max + unit)].into_iter().flatten() {
                        let why = ask(value.into())
                            .unwrap_or_else(|| panic!("{name}={value} is taken, outside of {min} to {max}"));
                        // A logical partition has to have an extended one to lie in.
                        let coded = !matches!(why.code, Code::NoVerb | Code::NotFound | Code::WrongKind)
                            || why.reason.ends_with("has no extended partition for logical ones");
                        assert!(coded && !why.reason.is_empty(), "{name}={value}: {why:?}");
                        counts.1 += 1;
                    }
                }
                if let Some(values) = limit.values.as_ref().filter(|_| option.kind != verb::Type::Flag) {
                    for value in values {
                        let why = ask(value.clone());
                        let fits = why.as_ref().is_none_or(|why| why.code == Code::Nothing);
                        assert!(fits, "{name}={value}: {why:?}");
                        counts.0 += 1;
                    }
                    if !limit.others {
                        let why = ask("no such thing".into()).unwrap_or_else(|| panic!("{name}: anything is taken"));
                        assert!(!why.reason.is_empty(), "{name}: {why:?}");
                        counts.1 += 1;
                    }
                }
            }
            if can.possible && (dice.roll(3) > 0 || step < 8) {
                let request = Request {
                    verb: verb.name().into(),
                    object: object.clone(),
                    options: can.options.clone(),
                };
                let stamp = Stamp {
                    seed: Uuid::from_u128(u128::from(seed << 32 | step) + 1),
                    ..stamp.clone()
                };
                if let Ok(plan) = now(verb::plan(&lab, &request, &stamp)) {
                    lab.carry(&plan);
                }
            }
        }
    }
    println!("{tried:?}");
    for (verb, option) in [
        ("label-create", "scheme"),
        ("partition-create", "size"),
        ("partition-create", "start"),
        ("partition-create", "end"),
        ("partition-create", "number"),
        ("partition-create", "type"),
        ("partition-create", "place"),
        ("partition-resize", "size"),
        ("partition-resize", "end"),
        ("pv-create", "metadata_copies"),
        ("pv-create", "metadata_size"),
        ("pv-create", "data_alignment"),
        ("vg-create", "disks"),
        ("vg-create", "extent_size"),
        ("vg-extend", "disks"),
        ("lv-create", "size"),
        ("lv-create", "extents"),
        ("lv-create", "stripes"),
        ("lv-create", "stripe_size"),
        ("lv-create", "disks"),
        ("lv-create", "allocation"),
        ("lv-extend", "size"),
        ("lv-reduce", "extents"),
        ("link-create", "disks"),
        ("link-shrink", "size"),
    ] {
        let (inside, outside) = tried.get(&(verb, option)).copied().unwrap_or_default();
        assert!(inside > 0, "{verb} {option}: nothing was ever acceptable: {tried:?}");
        assert!(
            outside > 0 || option == "type",
            "{verb} {option}: nothing was ever refused: {tried:?}"
        );
    }
}
