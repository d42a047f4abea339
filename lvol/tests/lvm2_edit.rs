//! Groups that we make and change, judged by the real LVM2 on loop devices without a device-mapper (`--driverloaded n`): `vgck`, `pvck --dump`, `lvs`, `vgs`
//! and `pvs` must agree with us after every step, whoever made it. Needs root for the loop devices; skipped by name where a tool is missing.
#[allow(dead_code)]
#[path = "lvm2/tool.rs"]
mod tool;

use bdev::{Graph, NodeSpec, Table};
use lvol::{
    Applied, Create, Engine, GroupState, Origin, Request, Stamp, Verdict, change::ChangeError, lvm2::Settings,
    plan::Code,
};
use reactor::{Config, Reactors};
use serde_json::{Value, json};
use spec::lvm2::{
    label::Label,
    mda::Header,
    text::Section,
    vg::{Shape, VolumeGroup},
};
use std::{collections::BTreeMap, fs, future::Future, path::Path};
use tool::{Lvm, MIB};
use uuid::Uuid;

struct House {
    engine: Engine,
    state: tempfile::TempDir,
    steps: std::cell::Cell<u32>,
}

impl House {
    async fn add(&self, name: &str, path: &Path) {
        let table = Table::File {
            path: path.into(),
            block_size: None,
            read_only: false,
            create_size: None,
            direct: Default::default(),
        };
        let wish = Create {
            spec: NodeSpec::new(name, table),
            origin: Origin::Config,
            examine: true,
        };
        self.engine.create(wish).await.unwrap();
    }

    fn request(verb: &str, object: &str, options: Value) -> Request {
        Request {
            verb: verb.into(),
            object: object.into(),
            options: options.as_object().cloned().unwrap_or_default(),
        }
    }

    async fn try_do(&self, verb: &str, object: &str, options: Value) -> Result<Applied, ChangeError> {
        // Another seed each time, the same from run to run.
        self.steps.set(self.steps.get() + 1);
        let stamp = Stamp {
            seed: Uuid::from_u128(self.steps.get().into()),
            time: 1_700_000_000 + u64::from(self.steps.get()),
            host: "tester".into(),
        };
        self.engine.change(&Self::request(verb, object, options), &stamp).await
    }

    async fn act(&self, verb: &str, object: &str, options: Value) -> Applied {
        let done = self.try_do(verb, object, options.clone()).await;
        done.unwrap_or_else(|why| panic!("{verb} {object} {options}: {why}"))
    }

    async fn refused(&self, verb: &str, object: &str, options: Value) -> (Code, String) {
        match self.try_do(verb, object, options.clone()).await {
            Err(ChangeError::Refused(why)) => (why.code, why.to_string()),
            other => panic!("{verb} {object} {options}: {other:?}"),
        }
    }

    /// After LVM2 has changed something.
    async fn look(&self) {
        for disk in self.engine.disks().iter().filter(|disk| disk.name.starts_with('d')) {
            self.engine.examine(&disk.name).await.unwrap();
        }
    }
}

fn house<F: Future<Output = ()>>(lvm: &Lvm, story: impl FnOnce(House) -> F) {
    let reactors = Reactors::start(Config {
        count: 1,
        ..Config::default()
    })
    .unwrap();
    let engine = Engine::new(Graph::new(reactors.clone()));
    let state = tempfile::tempdir().unwrap();
    engine.keep_in(state.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let house = House {
            engine,
            state,
            steps: Default::default(),
        };
        for (at, path) in lvm.images.iter().enumerate() {
            house.add(&format!("d{at}"), path).await;
        }
        story(house).await
    });
    drop(runtime);
    reactors.stop();
}

/// LVM2 and we say the same of everything.
fn agree(h: &House, lvm: &Lvm, after: &str) {
    let groups = h.engine.groups();
    let theirs = lvm.report(
        "vgs",
        "vg_name,vg_uuid,vg_seqno,vg_extent_size,vg_extent_count,vg_free_count,pv_count,lv_count,vg_tags",
        &[],
    );
    let ours: Vec<BTreeMap<String, String>> = groups
        .iter()
        .map(|group| {
            let (all, used): (u64, u64) = group
                .members
                .iter()
                .fold((0, 0), |(a, u), seat| (a + seat.extents, u + seat.used));
            BTreeMap::from([
                ("vg_name".into(), group.name.clone()),
                ("vg_uuid".into(), group.id.clone()),
                ("vg_seqno".into(), group.seqno.to_string()),
                ("vg_extent_size".into(), group.extent_bytes.to_string()),
                ("vg_extent_count".into(), all.to_string()),
                ("vg_free_count".into(), (all - used).to_string()),
                ("pv_count".into(), group.members.len().to_string()),
                ("lv_count".into(), group.volumes.len().to_string()),
                ("vg_tags".into(), sorted(&group.tags)),
            ])
        })
        .collect();
    let by_name = |mut rows: Vec<BTreeMap<String, String>>| {
        rows.sort_by(|a, b| a["vg_name"].cmp(&b["vg_name"]));
        rows
    };
    assert_eq!(by_name(theirs), by_name(ours), "groups after {after}");
    let theirs = lvm.report("lvs", "vg_name,lv_name,lv_uuid,lv_size,lv_tags,lv_layout", &[]);
    let mut theirs: Vec<_> = theirs
        .iter()
        .map(|row| {
            (
                format!("{}/{}", row["vg_name"], row["lv_name"]),
                row["lv_uuid"].clone(),
                row["lv_size"].clone(),
                row["lv_tags"].clone(),
            )
        })
        .collect();
    let mut ours: Vec<_> = groups
        .iter()
        .flat_map(|group| &group.volumes)
        .map(|volume| {
            (
                volume.disk.clone(),
                volume.what.id.clone(),
                volume.what.bytes.to_string(),
                sorted(&volume.what.tags),
            )
        })
        .collect();
    theirs.sort();
    ours.sort();
    assert_eq!(theirs, ours, "volumes after {after}");
    for group in &groups {
        assert_eq!(
            group.reason,
            format!("has all its {} physical volumes", group.members.len()),
            "after {after}"
        );
        for volume in &group.volumes {
            assert_eq!(volume.inactive, None, "{} after {after}", volume.disk);
        }
        lvm.run("vgck", &[&group.name]);
    }
    // Where each volume lies.
    if ours.is_empty() {
        return;
    }
    for row in lvm.report("lvs", "vg_name,lv_name,seg_start,seg_pe_ranges", &["--segments"]) {
        let first = |range: &str| -> u64 {
            range
                .rsplit_once(':')
                .unwrap()
                .1
                .split_once('-')
                .unwrap()
                .0
                .parse()
                .unwrap()
        };
        let theirs: Vec<u64> = row["seg_pe_ranges"].split_whitespace().map(first).collect();
        let (lv, start) = (
            format!("{}/{}", row["vg_name"], row["lv_name"]),
            row["seg_start"].parse().unwrap(),
        );
        let segment = segment_of(h, &lv, start);
        let Shape::Striped { stripes, .. } = &segment else {
            panic!("{lv} is {segment:?}")
        };
        let ours: Vec<u64> = stripes.iter().map(|stripe| stripe.extent).collect();
        assert_eq!(theirs, ours, "{lv} at {start} after {after}");
    }
}

fn sorted(tags: &[String]) -> String {
    let mut tags = tags.to_vec();
    tags.sort();
    tags.join(",")
}

/// The text that counts, as it is on the disks.
fn text(lvm: &Lvm, group: &str) -> VolumeGroup {
    let mut best: Option<VolumeGroup> = None;
    for image in &lvm.images {
        let bytes = fs::read(image).unwrap();
        let Ok(Some(label)) = Label::find(&bytes[..2048]) else {
            continue;
        };
        for area in &label.metadata {
            let header = Header::parse(&bytes[area.offset as usize..][..512], area.offset).unwrap();
            let Ok(Some(pieces)) = header.pieces(header.committed) else {
                continue;
            };
            let text: Vec<u8> = pieces
                .iter()
                .flat_map(|p| &bytes[p.offset as usize..(p.offset + p.size) as usize])
                .copied()
                .collect();
            let vg = VolumeGroup::parse(&text).unwrap();
            if vg.name == group && best.as_ref().is_none_or(|best| best.seqno < vg.seqno) {
                best = Some(vg);
            }
        }
    }
    best.unwrap()
}

fn segment_of(h: &House, lv: &str, start: u64) -> Shape {
    let (group, name) = lv.split_once('/').unwrap();
    let plan = h.engine.groups();
    let extent = plan.iter().find(|g| g.name == group).unwrap().extent_bytes;
    let vg = TEXTS.with(|texts| texts.borrow().get(group).cloned()).unwrap();
    let lv = vg.logical.iter().find(|one| one.name == name).unwrap();
    lv.segments
        .iter()
        .find(|segment| segment.start * extent == start)
        .unwrap()
        .shape
        .clone()
}

thread_local! {
    static TEXTS: std::cell::RefCell<BTreeMap<String, VolumeGroup>> = Default::default();
}

fn check(h: &House, lvm: &Lvm, after: &str) {
    let texts = h
        .engine
        .groups()
        .iter()
        .map(|group| (group.name.clone(), text(lvm, &group.name)))
        .collect();
    TEXTS.with(|all| *all.borrow_mut() = texts);
    agree(h, lvm, after);
}

#[test]
fn lvm2_reads_whatever_we_make_and_change() {
    let Some(lvm) = Lvm::new("edits of ours", &[64 * MIB, 64 * MIB, 96 * MIB, 48 * MIB], 512) else {
        return;
    };
    house(&lvm, async |h| {
        let step = async |verb: &str, object: &str, options: Value| {
            h.act(verb, object, options.clone()).await;
            check(&h, &lvm, &format!("{verb} {object} {options}"));
        };
        step("pv-create", "d0", json!({"metadata_copies": 2})).await;
        step("pv-create", "d1", json!({"metadata_copies": 0})).await;
        step(
            "vg-create",
            "data",
            json!({"disks": ["d0", "d1", "d2"], "extent_size": "1m", "tags": ["fast"]}),
        )
        .await;
        let (code, why) = h.refused("vg-create", "data", json!({"disks": ["d3"]})).await;
        assert_eq!((code, why.as_str()), (Code::BadName, "\"data\" is there already"));
        step(
            "lv-create",
            "data",
            json!({"name": "lin", "size": "10m", "disks": ["d1"], "tags": ["t1", "t/2"]}),
        )
        .await;
        step("lv-extend", "data/lin", json!({"size": "+5m"})).await;
        // It went on where it ended.
        assert_eq!(text(&lvm, "data").logical[0].segments.len(), 1);
        step(
            "lv-create",
            "data",
            json!({"name": "str", "extents": 12, "stripes": 3, "stripe_size": "64k"}),
        )
        .await;
        step("lv-extend", "data/lin", json!({"extents": "+4", "disks": ["d2"]})).await;
        step("lv-extend", "data/str", json!({"extents": "18"})).await;
        step(
            "lv-extend",
            "data/str",
            json!({"extents": "+4", "stripes": 2, "stripe_size": "4k"}),
        )
        .await;
        step(
            "lv-create",
            "data",
            json!({"extents": "25%FREE", "allocation": "contiguous"}),
        )
        .await;
        step("lv-reduce", "data/lin", json!({"extents": "-3"})).await;
        step("lv-reduce", "data/lin", json!({"size": "7m"})).await;
        step("lv-rename", "data/lin", json!({"name": "line+1.x"})).await;
        step(
            "lv-change",
            "data/line+1.x",
            json!({"add_tags": ["new"], "del_tags": ["t1"], "read_only": true}),
        )
        .await;
        assert!(
            h.engine
                .runtime()
                .graph()
                .unwrap()
                .info("data/line+1.x")
                .unwrap()
                .geometry
                .read_only
        );
        step("lv-change", "data/line+1.x", json!({"read_only": false})).await;
        step("pv-change", "d1", json!({"allocatable": false})).await;
        step("vg-change", "data", json!({"add_tags": ["slow"], "del_tags": ["fast"]})).await;
        step("lv-create", "data", json!({"name": "rest", "extents": "100%FREE"})).await;
        let (code, why) = h.refused("lv-extend", "data/rest", json!({"extents": "+1"})).await;
        assert_eq!(
            (code, why.as_str()),
            (Code::NoSpace, "1 extents are wanted, and 0 are free")
        );
        step("lv-remove", "data/rest", json!({})).await;
        step("vg-extend", "data", json!({"disks": ["d3"]})).await;
        let (code, why) = h.refused("vg-reduce", "data", json!({"disks": ["d0"]})).await;
        assert_eq!(code, Code::InUse, "{why}");
        step(
            "lv-create",
            "data",
            json!({"name": "far", "extents": 3, "disks": ["d3"]}),
        )
        .await;
        step("vg-split", "data", json!({"name": "other", "disks": ["d3"]})).await;
        assert_eq!(h.engine.groups().len(), 2);
        step("vg-merge", "data", json!({"group": "other"})).await;
        step("lv-remove", "data/far", json!({})).await;
        step("vg-reduce", "data", json!({"disks": ["d3"]})).await;
        step("vg-rename", "data", json!({"name": "Renamed_2"})).await;
        let change = h.engine.groups()[0].seqno;
        step("lv-remove", "Renamed_2/str", json!({})).await;
        step("vg-restore", "Renamed_2", json!({"change": change})).await;
        assert!(h.engine.disk("Renamed_2/str").is_some());
        lvm.run("pvck", &["--dump", "metadata", "@0"]);
        for at in 0..3 {
            lvm.run("pvck", &["--dump", "headers", &format!("@{at}")]);
        }
        step("pv-remove", "d3", json!({})).await;
        let (_, why) = h.refused("vg-remove", "Renamed_2", json!({})).await;
        assert!(why.contains("`lv-remove` removes one"), "{why}");
        step("vg-remove", "Renamed_2", json!({"force": true})).await;
        assert_eq!(h.engine.groups(), []);
        assert!(lvm.report("pvs", "pv_name", &[]).len() == 3);
        // What was done can be looked at, and the files of it are there.
        assert!(h.engine.history().len() > 25);
        assert!(
            h.state.path().join("archive/Renamed_2_000025.vg").exists()
                || fs::read_dir(h.state.path().join("archive")).unwrap().count() > 10
        );
    });
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn two_hundred_edits_by_lvm2_and_by_us() {
    let Some(lvm) = Lvm::new("interleaved edits", &[48 * MIB, 64 * MIB, 80 * MIB, 40 * MIB], 512) else {
        return;
    };
    let seed = std::env::var("ASHLAR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("seed {seed} (ASHLAR_SEED)");
    lvm.run("vgcreate", &["-s", "1m", "g", "@0", "@1", "@2"]);
    house(&lvm, async |h| {
        let mut dice = Dice(seed);
        check(&h, &lvm, "the start");
        let (mut done, mut theirs) = (0, 0);
        for number in 0..200 {
            let us = dice.roll(2) == 0;
            let volumes: Vec<String> = h.engine.groups()[0]
                .volumes
                .iter()
                .map(|volume| volume.what.name.clone())
                .collect();
            let some = |dice: &mut Dice| volumes.get(dice.roll(volumes.len().max(1) as u64) as usize).cloned();
            let (size, fresh) = (1 + dice.roll(9), format!("v{number}"));
            let what = dice.roll(10);
            let lv = some(&mut dice).unwrap_or_default();
            let path = format!("g/{lv}");
            if volumes.is_empty() && (2..=7).contains(&what) || volumes.len() > 12 && what < 2 {
                continue;
            }
            let stripes = 1 + dice.roll(3);
            if us {
                let (verb, object, options) = match what {
                    0 | 1 => (
                        "lv-create",
                        "g",
                        json!({"name": fresh, "extents": size, "stripes": stripes}),
                    ),
                    2 | 3 => ("lv-extend", path.as_str(), json!({"extents": format!("+{size}")})),
                    4 => ("lv-reduce", path.as_str(), json!({"extents": format!("-{size}")})),
                    5 => ("lv-rename", path.as_str(), json!({"name": fresh})),
                    6 => ("lv-remove", path.as_str(), json!({})),
                    7 => ("lv-change", path.as_str(), json!({"add_tags": [fresh]})),
                    8 if h.engine.groups()[0].members.len() == 3 => ("vg-extend", "g", json!({"disks": ["d3"]})),
                    8 => ("vg-reduce", "g", json!({"disks": ["d3"]})),
                    _ => ("vg-change", "g", json!({"add_tags": [fresh]})),
                };
                match h.try_do(verb, object, options.clone()).await {
                    Ok(_) => done += 1,
                    Err(ChangeError::Refused(why)) => println!("{number}: {verb} {object} {options}: {why}"),
                    Err(why) => panic!("{number}: {verb} {object} {options}: {why}"),
                }
                check(&h, &lvm, &format!("step {number}: {verb} {object} {options}"));
            } else {
                let (l, i) = (size.to_string(), stripes.to_string());
                let (plus, minus) = (format!("+{size}"), format!("-{size}"));
                let (command, args): (&str, Vec<&str>) = match what {
                    0 | 1 => (
                        "lvcreate",
                        vec!["-an", "-Zn", "-Wn", "-y", "-n", &fresh, "-l", &l, "-i", &i, "g"],
                    ),
                    2 | 3 => ("lvextend", vec!["-l", &plus, &path]),
                    4 => ("lvreduce", vec!["-f", "-l", &minus, &path]),
                    5 => ("lvrename", vec!["g", &lv, &fresh]),
                    6 => ("lvremove", vec!["-f", &path]),
                    7 => ("lvchange", vec!["--addtag", &fresh, &path]),
                    8 if h.engine.groups()[0].members.len() == 3 => ("vgextend", vec!["-y", "g", "@3"]),
                    8 => ("vgreduce", vec!["g", "@3"]),
                    _ => ("vgchange", vec!["--addtag", &fresh, "g"]),
                };
                let ok = lvm.attempt(command, &args);
                theirs += u32::from(ok);
                h.look().await;
                check(&h, &lvm, &format!("step {number}: {command} {args:?} ({ok})"));
            }
        }
        println!("{done} changes of ours, {theirs} of LVM2's");
        assert!(
            done > 40 && theirs > 40,
            "{done} and {theirs} of 200 steps changed something"
        );
    });
}

/// The bytes of each volume in the text that counts.
fn sections(lvm: &Lvm, group: &str) -> BTreeMap<String, Vec<u8>> {
    let mut best: Option<(i64, Section)> = None;
    for image in &lvm.images {
        let bytes = fs::read(image).unwrap();
        let Ok(Some(label)) = Label::find(&bytes[..2048]) else {
            continue;
        };
        for area in &label.metadata {
            let header = Header::parse(&bytes[area.offset as usize..][..512], area.offset).unwrap();
            let Ok(Some(pieces)) = header.pieces(header.committed) else {
                continue;
            };
            let text: Vec<u8> = pieces
                .iter()
                .flat_map(|p| &bytes[p.offset as usize..(p.offset + p.size) as usize])
                .copied()
                .collect();
            let tree = Section::parse(&text).unwrap();
            let seqno = tree.section(group).unwrap().value("seqno").unwrap().integer().unwrap();
            if best.as_ref().is_none_or(|(have, _)| *have < seqno) {
                best = Some((seqno, tree));
            }
        }
    }
    let tree = best.unwrap().1;
    let volumes = tree.section(group).unwrap().section("logical_volumes").unwrap();
    let one = |item: &spec::lvm2::text::Item| (item.name().into_owned(), item.section().unwrap().to_bytes());
    volumes.items().iter().map(one).collect()
}

#[test]
fn what_we_cannot_run_survives_our_changes() {
    let Some(lvm) = Lvm::new("edits beside other kinds", &[64 * MIB, 64 * MIB, 64 * MIB], 512) else {
        return;
    };
    lvm.mixed();
    let report = |lvm: &Lvm| lvm.report("lvs", "lv_name,lv_uuid,lv_size,segtype,seg_pe_ranges", &["-a"]);
    let (before, rows) = (sections(&lvm, "mix"), report(&lvm));
    house(&lvm, async |h| {
        for (verb, object, options) in [
            ("lv-create", "mix", json!({"name": "new", "extents": "50%FREE"})),
            ("lv-extend", "mix/plain", json!({"extents": "+7"})),
            ("vg-extend", "mix", json!({"disks": ["d2"]})),
            ("lv-create", "mix", json!({"name": "wide", "extents": 9, "stripes": 3})),
            ("lv-rename", "mix/new", json!({"name": "newer"})),
            ("vg-change", "mix", json!({"add_tags": ["t"]})),
            ("vg-rename", "mix", json!({"name": "mixed"})),
            ("lv-create", "mixed", json!({"name": "rest", "extents": "100%FREE"})),
            ("lv-remove", "mixed/wide", json!({})),
        ] {
            h.act(verb, object, options).await;
            let name = h.engine.groups()[0].name.clone();
            lvm.run("vgck", &[&name]);
            let now = sections(&lvm, &name);
            for (volume, bytes) in before.iter().filter(|(volume, _)| *volume != "plain") {
                assert_eq!(now.get(volume), Some(bytes), "{volume} after {verb}");
            }
        }
        // What is made of others, or a part of others, is not changed and not used.
        for (verb, object, options) in [
            ("lv-extend", "mixed/r1", json!({"extents": "+1"})),
            ("lv-remove", "mixed/origin", json!({})),
            ("lv-reduce", "mixed/pool_tdata", json!({"extents": 1})),
            ("lv-rename", "mixed/thin", json!({"name": "x"})),
        ] {
            let (code, why) = h.refused(verb, object, options).await;
            assert_eq!(code, Code::Unsupported, "{why}");
        }
        let now = report(&lvm);
        for row in rows.iter().filter(|row| row["lv_name"] != "plain") {
            assert!(now.contains(row), "{row:?} is not in {now:?}");
        }
    });
}

#[test]
fn groups_that_travel_are_taken_for_what_they_are() {
    let Some(lvm) = Lvm::new("groups that travel", &[32 * MIB, 48 * MIB, 32 * MIB, 48 * MIB], 512) else {
        return;
    };
    house(&lvm, async |h| {
        let vg = json!({"disks": ["d0", "d1"], "extent_size": "1m"});
        h.act("vg-create", "box", vg).await;
        h.act("lv-create", "box", json!({"name": "lin", "extents": 5})).await;
        h.act("lv-create", "box", json!({"name": "str", "extents": 6, "stripes": 2}))
            .await;
        let state = |h: &House| h.engine.groups()[0].state;

        // Disks neither join nor leave.
        h.act("vg-change", "box", json!({"resizeable": false})).await;
        check(&h, &lvm, "resizeable n");
        let disks = |disk: &str| json!({"disks": [disk]});
        for (verb, options) in [
            ("vg-extend", disks("d2")),
            ("vg-reduce", disks("d1")),
            ("vg-split", json!({"name": "part", "disks": ["d1"]})),
        ] {
            let (code, why) = h.refused(verb, "box", options).await;
            assert_eq!(code, Code::Unsupported, "{verb}: {why}");
        }
        assert!(!lvm.attempt("vgextend", &["-y", "box", "@2"]));
        assert!(!lvm.attempt("vgsplit", &["box", "part", "@1"]));
        h.act("vg-change", "box", json!({"resizeable": true})).await;

        // Exported by us, imported by LVM2; and the other way round.
        h.act("vg-export", "box", json!({})).await;
        assert_eq!(state(&h), GroupState::Foreign);
        assert_eq!(
            lvm.report("vgs", "vg_exported,vg_attr", &[])[0]["vg_exported"],
            "exported"
        );
        assert!(
            lvm.report("pvs", "pv_exported", &["-S", "vg_name=box"])
                .iter()
                .all(|pv| pv["pv_exported"] == "exported")
        );
        let (code, _) = h.refused("lv-create", "box", json!({"extents": 1})).await;
        assert_eq!(code, Code::Foreign);
        lvm.run("vgimport", &["box"]);
        h.look().await;
        check(&h, &lvm, "vgimport");
        lvm.run("vgexport", &["box"]);
        h.look().await;
        assert_eq!(state(&h), GroupState::Foreign);
        h.act("vg-import", "box", json!({})).await;
        check(&h, &lvm, "vg-import");

        // Given to another host by LVM2, and adopted.
        lvm.run("vgchange", &["-y", "--systemid", "other", "box"]);
        h.look().await;
        assert_eq!(state(&h), GroupState::Foreign);
        assert_eq!(h.refused("vg-import", "box", json!({})).await.0, Code::Nothing);
        h.act("vg-adopt", "box", json!({})).await;
        check(&h, &lvm, "vg-adopt");
        assert!(text(&lvm, "box").flags.is_empty());

        // As LVM2 has it where this machine has a system id: what comes is ours, and what is ours is told by its flags.
        let settings = |id: Option<&str>| Settings {
            system_id: id.map(str::to_owned),
            ..Settings::default()
        };
        h.engine.set_lvm2(settings(Some("us"))).await;
        h.act("vg-export", "box", json!({})).await;
        h.act("vg-import", "box", json!({})).await;
        h.act("lv-create", "box", json!({"name": "new", "extents": 1})).await;
        h.act(
            "lv-create",
            "box",
            json!({"name": "still", "extents": 1, "read_only": true}),
        )
        .await;
        assert_eq!(state(&h), GroupState::Complete);
        let row = &lvm.report("vgs", "vg_systemid,lv_count", &["--foreign"])[0];
        assert_eq!((row["vg_systemid"].as_str(), row["lv_count"].as_str()), ("us", "4"));
        let vg = text(&lvm, "box");
        assert_eq!((vg.status.contains(&"WRITE".into()), vg.is_writable()), (false, true));
        let writable: Vec<bool> = vg.logical.iter().map(|lv| lv.is_writable()).collect();
        assert_eq!(writable, [true, true, true, false]);
        assert!(vg.logical.iter().all(|lv| !lv.status.contains(&"WRITE".into())));
        h.act("lv-change", "box/new", json!({"read_only": true})).await;
        assert!(
            h.engine
                .runtime()
                .graph()
                .unwrap()
                .info("box/new")
                .unwrap()
                .geometry
                .read_only
        );
        h.act("vg-change", "box", json!({"system_id": ""})).await;
        check(&h, &lvm, "system id ''");
        h.engine.set_lvm2(settings(None)).await;

        // Copies of all its disks.
        for (from, to) in [(0, 2), (1, 3)] {
            fs::copy(&lvm.images[from], &lvm.images[to]).unwrap();
        }
        h.look().await;
        assert_eq!(h.engine.disk("d2").unwrap().verdict, Verdict::Ambiguous);
        h.act("vg-import-clone", "copy", json!({"disks": ["d2", "d3"]})).await;
        check(&h, &lvm, "vg-import-clone");
        assert_eq!(h.engine.groups().len(), 2);
        h.act("lv-extend", "copy/lin", json!({"extents": "+2"})).await;
        check(&h, &lvm, "an extended copy");

        // One member goes for good.
        h.act("lv-remove", "copy/str", json!({})).await;
        for lv in ["lin", "new", "still"] {
            let on = h.engine.groups()[0]
                .volumes
                .iter()
                .find(|v| v.what.name == lv)
                .unwrap()
                .what
                .segments[0]
                .on[0]
                .0
                .clone();
            println!("{lv} is on {on}");
        }
        h.engine.delete("d3", true).await.unwrap();
        h.act("vg-reduce", "copy", json!({"remove_missing": true, "force": true}))
            .await;
        lvm.run("vgck", &["copy"]);
        assert_eq!(
            lvm.report("vgs", "pv_count", &["-S", "vg_name=copy"])[0]["pv_count"],
            "1"
        );
    });
}
