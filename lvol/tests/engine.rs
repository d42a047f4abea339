//! The engine over a real graph on real reactors: found, claimed, partitioned, grown, lost, come back.
use bdev::{Graph, NodeSpec, NodeState, Table, table::Segment};
use lvol::{Change, ChangeKind, Create, Engine, EngineError, Origin, Verdict, events::TYPES};
use reactor::{Config, Reactors};
use spec::{BlockRange, gpt, mbr};
use std::{fs, future::Future, os::unix::fs::MetadataExt, path::Path, time::Duration};
use uuid::Uuid;

const DISK: Uuid = Uuid::from_u128(0xd15c);

struct House {
    reactors: Reactors,
    engine: Engine,
}

impl House {
    fn graph(&self) -> &Graph {
        self.engine.runtime().graph().unwrap()
    }

    async fn create(&self, name: &str, table: Table) -> Result<(), EngineError> {
        let wish = Create {
            spec: NodeSpec::new(name, table),
            origin: Origin::Rpc,
            examine: true,
        };
        self.engine.create(wish).await.map(drop)
    }

    async fn memory(&self, name: &str, blocks: u64) {
        let table = Table::Memory {
            blocks,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        self.create(name, table).await.unwrap();
    }

    /// Puts a label on a disk, past the engine.
    async fn put(&self, name: &str, at: u64, bytes: &[u8]) {
        self.graph().write(name, at, bytes.to_vec(), false).await.unwrap();
    }

    async fn label(&self, name: &str, parts: &[(u32, u64, u64)]) {
        let blocks = self.graph().info(name).unwrap().geometry.blocks;
        for (at, bytes) in gpt_label(blocks, parts) {
            self.put(name, at, &bytes).await;
        }
    }

    fn names(&self) -> Vec<String> {
        self.engine.disks().into_iter().map(|disk| disk.name).collect()
    }

    fn said(&self, name: &str) -> (Verdict, String) {
        let disk = self.engine.disk(name).unwrap();
        (disk.verdict, disk.reason)
    }
}

/// A house of two reactors, and a story that plays in it.
fn house<F: Future<Output = ()>>(story: impl FnOnce(House) -> F) {
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap();
    let engine = Engine::new(Graph::new(reactors.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        story(House {
            reactors: reactors.clone(),
            engine,
        })
        .await
    });
    drop(runtime);
    reactors.stop();
}

/// Blocks of a GPT with partitions (number, first block, blocks), both copies and the protective MBR.
fn gpt_label(blocks: u64, parts: &[(u32, u64, u64)]) -> Vec<(u64, Vec<u8>)> {
    let mut record = mbr::Record::new(0);
    record.set(
        1,
        Some(mbr::Entry {
            active: false,
            kind: 0xee,
            start: 1,
            count: (blocks - 1) as u32,
        }),
    );
    let mut label = vec![(0, record.to_bytes().to_vec())];
    for backup in [false, true] {
        let mut table = gpt::Table::new(blocks, 512, DISK, backup).unwrap();
        for &(number, first, count) in parts {
            let entry = gpt::Entry {
                kind: gpt::types::LINUX,
                guid: Uuid::from_u128(0xa000 + u128::from(number)),
                first,
                last: first + count - 1,
                attributes: 0,
                name: format!("part {number}"),
            };
            assert!(table.set(number, Some(&entry)));
        }
        let (header, array) = table.to_bytes();
        label.push((if backup { blocks - 1 } else { 1 }, header));
        label.push((table.header.array().start, array));
    }
    label
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..512u32).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect()
}

#[test]
fn partitions_become_disks_with_the_right_blocks_and_names() {
    house(async |h| {
        h.memory("m", 40_000).await;
        assert_eq!(h.said("m"), (Verdict::New, "is blank".into()));
        h.label("m", &[(1, 2048, 1000), (3, 30_000, 5000)]).await;
        h.put("m", 30_007, &pattern(7)).await;
        let disk = h.engine.examine("m").await.unwrap();
        assert_eq!(
            (disk.verdict, disk.format.as_deref(), disk.reason.as_str()),
            (Verdict::Claimed, Some("gpt"), "GPT with 2 partitions")
        );
        assert_eq!(
            (disk.parts, disk.node.unwrap().claimed_by.as_deref()),
            (vec!["mp1".into(), "mp3".into()], Some("gpt"))
        );

        let part = h.graph().info("mp3").unwrap();
        assert_eq!(
            (part.uuid, part.geometry.blocks, part.product.as_str()),
            (Uuid::from_u128(0xa003), 5000, "GPT Disk")
        );
        assert_eq!(h.graph().read("mp3", BlockRange::new(7, 1)).await.unwrap(), pattern(7));
        let json = serde_json::to_value(h.engine.disk("mp3").unwrap().partition.unwrap()).unwrap();
        assert_eq!(
            (&json["scheme"], &json["disk"], &json["name"], &json["number"]),
            (&"gpt".into(), &"m".into(), &"part 3".into(), &3.into())
        );
        assert_eq!(
            h.said("mp3"),
            (Verdict::Unclaimed, "holds data of no format known here".into())
        );
        assert_eq!(h.said("mp1"), (Verdict::New, "is blank".into()));
        let volumes: Vec<_> = h.engine.volumes().into_iter().map(|v| v.name).collect();
        assert_eq!(volumes, ["mp1", "mp3"]);

        let told = h.engine.notifications(0, 100);
        let told: Vec<_> = told.iter().map(|n| (n.id, n.kind, n.ctx.as_str())).collect();
        assert_eq!(told, [(0, TYPES[0], "m"), (1, TYPES[0], "mp1"), (2, TYPES[0], "mp3")]);
        // Each disk is claimed at most once: the claim refuses everybody else.
        let refused = h.graph().claim("m", "lvm2").unwrap_err();
        assert!(refused.to_string().contains("gpt"), "{refused}");
    });
}

#[test]
fn layers_are_found_to_the_last_one() {
    house(async |h| {
        h.memory("m", 60_000).await;
        // An MBR whose logical partition 5 holds a GPT whose partition 2 holds an MBR.
        let mut front = mbr::Record::new(1);
        front.set(
            1,
            Some(mbr::Entry {
                active: false,
                kind: 0x05,
                start: 1000,
                count: 59_000,
            }),
        );
        let mut ebr = mbr::Record::new(0);
        ebr.set(
            1,
            Some(mbr::Entry {
                active: false,
                kind: 0x83,
                start: 24,
                count: 50_000,
            }),
        );
        h.put("m", 0, &front.to_bytes()).await;
        h.put("m", 1000, &ebr.to_bytes()).await;
        for (at, bytes) in gpt_label(50_000, &[(2, 4096, 20_000)]) {
            h.put("m", 1024 + at, &bytes).await;
        }
        let mut inner = mbr::Record::new(2);
        inner.set(
            4,
            Some(mbr::Entry {
                active: true,
                kind: 0x0c,
                start: 63,
                count: 100,
            }),
        );
        h.put("m", 1024 + 4096, &inner.to_bytes()).await;
        h.put("m", 1024 + 4096 + 63 + 9, &pattern(9)).await;

        h.engine.examine("m").await.unwrap();
        assert_eq!(h.names(), ["m", "mp5", "mp5p2", "mp5p2p4"]);
        assert_eq!(
            h.graph().read("mp5p2p4", BlockRange::new(9, 1)).await.unwrap(),
            pattern(9)
        );
        assert_eq!(h.graph().info("mp5p2p4").unwrap().product, "MBR Disk");

        // Deleting the disk takes the whole tree with it; deleting a part of it is refused.
        let refused = h.engine.delete("mp5p2", false).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"mp5p2\" is a partition on \"mp5\" and goes when the partition table says so"
        );
        h.engine.delete("m", false).await.unwrap();
        assert_eq!(h.names(), [""; 0]);
        assert_eq!(h.graph().list(), []);
        let gone = h.engine.notifications(4, 100);
        assert_eq!(
            gone.iter().map(|n| (n.kind, n.ctx.as_str())).collect::<Vec<_>>(),
            [
                (TYPES[1], "mp5p2p4"),
                (TYPES[1], "mp5p2"),
                (TYPES[1], "mp5"),
                (TYPES[1], "m")
            ]
        );
    });
}

#[test]
fn a_table_that_contains_itself_ends() {
    house(async |h| {
        h.memory("m", 4096).await;
        // Partition 1 starts one block on and its first block is a record that says the same, and so on.
        for at in 0..40 {
            let mut record = mbr::Record::new(1);
            record.set(
                1,
                Some(mbr::Entry {
                    active: false,
                    kind: 0x83,
                    start: 1,
                    count: 4000 - at * 10,
                }),
            );
            h.put("m", at.into(), &record.to_bytes()).await;
        }
        h.engine.examine("m").await.unwrap();
        let names = h.names();
        assert_eq!(names.len(), 10);
        assert_eq!(h.said(&names[9]).1, "lies more than 8 partition tables deep");
    });
}

#[test]
fn examining_again_touches_only_what_changed() {
    house(async |h| {
        h.memory("m", 40_000).await;
        h.label("m", &[(1, 2048, 1000), (2, 4096, 1000), (3, 8192, 1000)]).await;
        h.engine.examine("m").await.unwrap();
        let before = h.graph().info("mp1").unwrap();
        let pin = h.graph().pin("mp2", "a test").unwrap();
        let mut changes = h.engine.subscribe();

        // 1 stays, 2 goes but is in use, 3 is longer, 4 is new.
        h.label("m", &[(1, 2048, 1000), (3, 8192, 3000), (4, 20_000, 10)]).await;
        let disk = h.engine.examine("m").await.unwrap();
        assert_eq!(disk.parts, ["mp1", "mp2", "mp3", "mp4"]);
        assert!(
            disk.notes[0].starts_with("the partition table no longer has mp2, but it stays because"),
            "{:?}",
            disk.notes
        );
        assert_eq!(h.graph().info("mp1").unwrap(), before);
        assert_eq!(h.graph().info("mp3").unwrap().geometry.blocks, 3000);
        let mut seen = Vec::new();
        while let Ok(Change { name, kind }) = changes.try_recv() {
            if kind != ChangeKind::Examined {
                seen.push((name, kind));
            }
        }
        assert_eq!(
            seen,
            [
                ("mp3".into(), ChangeKind::Resized { blocks: 3000 }),
                ("mp4".into(), ChangeKind::Registered)
            ]
        );
        let tasted = |name: &str| h.engine.disk(name).unwrap().tasted;
        assert_eq!((tasted("mp1"), tasted("m")), (1, 3));

        drop(pin);
        let disk = h.engine.examine("m").await.unwrap();
        assert_eq!((disk.parts.len(), disk.notes.len()), (3, 0));
    });
}

#[test]
fn a_disk_used_as_a_whole_is_nobodys_business() {
    house(async |h| {
        h.memory("m", 40_000).await;
        h.label("m", &[(1, 2048, 1000)]).await;
        h.engine.examine("m").await.unwrap();
        // A target asks for the whole disk: refused while a partition is used, granted after.
        let pin = h.graph().pin("mp1", "a test").unwrap();
        let refused = h.engine.take_whole("m").await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"m\" is partitioned, and \"mp1\" is in use; stop using its partitions first, or use those"
        );
        drop(pin);
        h.engine.take_whole("m").await.unwrap();
        assert_eq!(
            (h.names(), h.said("m")),
            (vec!["m".into()], (Verdict::Unexamined, "is used as a whole".into()))
        );
        let pin = h.graph().pin("m", "a target").unwrap();
        h.engine.wait_for_examine().await;
        assert_eq!(h.names(), ["m"]);
        // Asked explicitly it says why it does not look.
        assert_eq!(h.engine.examine("m").await.unwrap().reason, "is used by a target");
        let refused = h.engine.delete("m", false).await.unwrap_err();
        assert!(refused.to_string().contains("a target"), "{refused}");
        drop(pin);
        h.engine.delete("m", false).await.unwrap();

        // A disk that carries a table is not tasted either; what stands on top is.
        h.memory("a", 40_000).await;
        let over = Table::Linear {
            segments: vec![Segment {
                on: "a".into(),
                start: 0,
                blocks: 40_000,
            }],
        };
        h.create("b", over).await.unwrap();
        h.label("b", &[(1, 2048, 1000)]).await;
        assert_eq!(h.engine.examine("a").await.unwrap().reason, "carries \"b\"");
        assert_eq!(h.engine.examine("b").await.unwrap().parts, ["bp1"]);
    });
}

#[test]
fn a_clone_gets_an_identity_of_its_own() {
    house(async |h| {
        for name in ["m", "n"] {
            h.memory(name, 40_000).await;
            h.label(name, &[(1, 2048, 1000)]).await;
            h.engine.examine(name).await.unwrap();
        }
        let clone = h.engine.disk("n").unwrap();
        assert_eq!(clone.notes, ["np1 has the identity of mp1; it got another one"]);
        assert_ne!(h.graph().info("np1").unwrap().uuid, h.graph().info("mp1").unwrap().uuid);
    });
}

fn write_label(path: &Path, blocks: u64, parts: &[(u32, u64, u64)]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap();
    file.set_len(blocks * 512).unwrap();
    for (at, bytes) in gpt_label(blocks, parts) {
        file.write_all_at(&bytes, at * 512).unwrap();
    }
}

fn file(path: &Path, read_only: bool) -> Table {
    Table::File {
        path: path.into(),
        block_size: None,
        read_only,
        create_size: None,
        direct: Default::default(),
    }
}

#[test]
fn late_grown_and_vanished_disks_rerun_only_what_they_touch() {
    house(async |h| {
        let dir = tempfile::tempdir().unwrap();
        let (early, late) = (dir.path().join("early.img"), dir.path().join("late.img"));
        write_label(&early, 40_000, &[(1, 2048, 1000)]);
        h.create("early", file(&early, false)).await.unwrap();
        // Two wishes that must wait, the second for the first.
        for (name, table) in [
            ("late", file(&late, false)),
            (
                "over",
                Table::Linear {
                    segments: vec![Segment {
                        on: "latep1".into(),
                        start: 10,
                        blocks: 20,
                    }],
                },
            ),
        ] {
            let wish = Create {
                spec: NodeSpec::new(name, table),
                origin: Origin::Config,
                examine: true,
            };
            assert_eq!(h.engine.create_or_wait(wish).await.unwrap(), None);
            assert_eq!(h.said(name).0, Verdict::Missing);
        }
        assert_eq!(h.said("over").1, "is missing: no node is called \"latep1\"");
        h.engine.rescan().await;
        assert_eq!(h.said("late").0, Verdict::Missing);
        let tasted = |name: &str| h.engine.disk(name).unwrap().tasted;
        assert_eq!((tasted("early"), tasted("earlyp1")), (1, 1));

        write_label(&late, 40_000, &[(1, 4096, 1000)]);
        h.engine.rescan().await;
        assert_eq!(h.names(), ["early", "earlyp1", "late", "latep1", "over"]);
        assert_eq!(h.graph().info("over").unwrap().geometry.blocks, 20);
        assert_eq!((tasted("early"), tasted("earlyp1"), tasted("late")), (1, 1, 1));

        // One grows: it is looked at again, its partition and the other disk are not.
        fs::File::options()
            .write(true)
            .open(&early)
            .unwrap()
            .set_len(50_000 * 512)
            .unwrap();
        h.engine.rescan().await;
        assert_eq!(
            (tasted("early"), tasted("earlyp1"), tasted("late"), tasted("latep1")),
            (2, 1, 1, 1)
        );
        assert_eq!(
            h.engine.disk("early").unwrap().notes,
            ["the backup GPT is not at the end: the disk has 10000 blocks more than when it was partitioned"]
        );
        let last = h.engine.notifications(0, 1000).pop().unwrap();
        assert_eq!((last.kind, last.ctx.as_str()), (TYPES[2], "early"));

        // One vanishes: it and what stands on it are gone, and say so; the other serves on.
        let mut changes = h.engine.subscribe();
        h.graph().orphan("late", "the cable was pulled").await.unwrap();
        h.engine.wait_for_examine().await;
        assert_eq!(
            h.said("late"),
            (Verdict::Unreadable, "is gone: the cable was pulled".into())
        );
        assert!(matches!(
            h.engine.disk("latep1").unwrap().node.unwrap().state,
            NodeState::Orphan { .. }
        ));
        assert!(h.graph().read("latep1", BlockRange::new(0, 1)).await.is_err());
        assert!(h.graph().read("earlyp1", BlockRange::new(0, 1)).await.is_ok());
        let mut orphaned = Vec::new();
        while let Ok(change) = changes.try_recv() {
            if matches!(change.kind, ChangeKind::Orphaned { .. }) {
                orphaned.push(change.name);
            }
        }
        orphaned.sort();
        assert_eq!(orphaned, ["late", "latep1", "over"]);
        // It comes back under the same name, and all that stood on it works again.
        h.graph().replace("late", file(&late, false)).await.unwrap();
        h.engine.wait_for_examine().await;
        assert_eq!(h.said("late").0, Verdict::Claimed);
        assert!(h.graph().read("over", BlockRange::new(0, 20)).await.is_ok());
    });
}

#[test]
fn watching_follows_what_happens_by_itself() {
    house(async |h| {
        let watching = tokio::spawn(h.engine.watch());
        let mut changes = h.engine.subscribe();
        // Somebody builds a node past the engine.
        let table = Table::Memory {
            blocks: 100,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        h.graph().build(NodeSpec::new("x", table)).await.unwrap();
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            change,
            Change {
                name: "x".into(),
                kind: ChangeKind::Registered
            }
        );
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            change,
            Change {
                name: "x".into(),
                kind: ChangeKind::Examined
            }
        );
        assert_eq!(
            (h.said("x").0, h.engine.disk("x").unwrap().origin),
            (Verdict::New, Origin::Other)
        );
        watching.abort();
    });
}

#[test]
fn discovery_writes_nothing() {
    house(async |h| {
        let dir = tempfile::tempdir().unwrap();
        // Opened read-only, so the kernel would refuse; and looked at from outside.
        let path = dir.path().join("disk.img");
        write_label(&path, 40_000, &[(1, 2048, 1000), (2, 8192, 1000)]);
        let look = || {
            let meta = fs::metadata(&path).unwrap();
            (
                fs::read(&path).unwrap(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            )
        };
        let before = look();
        h.create("r", file(&path, true)).await.unwrap();
        h.create("w", file(&path, false)).await.unwrap();
        h.engine.rescan().await;
        assert_eq!(h.names(), ["r", "rp1", "rp2", "w", "wp1", "wp2"]);
        assert!(look() == before, "the image changed");

        // And counted from inside: a stats module over a labelled disk sees reads only.
        h.memory("m", 40_000).await;
        h.label("m", &[(1, 2048, 1000)]).await;
        h.create("s", Table::Stats { on: "m".into() }).await.unwrap();
        assert_eq!(h.engine.disk("s").unwrap().parts, ["sp1"]);
        let report = serde_json::to_value(h.graph().stats("s", false).await.unwrap()).unwrap();
        let ops: Vec<u64> = report
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["ops"].as_u64().unwrap())
            .collect();
        assert!(ops[0] > 0, "no reads were counted");
        assert_eq!(ops[1..].iter().sum::<u64>(), 0, "{ops:?}");
        assert_eq!(h.reactors.count(), 2);
    });
}

#[test]
fn wishes_come_in_an_order_in_which_they_can_be_built() {
    house(async |h| {
        h.memory("z", 40_000).await;
        h.label("z", &[(1, 2048, 1000)]).await;
        h.engine.examine("z").await.unwrap();
        let window = |on: &str| Table::Linear {
            segments: vec![Segment {
                on: on.into(),
                start: 0,
                blocks: 100,
            }],
        };
        h.create("y", window("zp1")).await.unwrap();
        h.create("a", window("y")).await.unwrap();
        let names: Vec<_> = h.engine.wishes().into_iter().map(|wish| wish.spec.name).collect();
        assert_eq!(names, ["z", "y", "a"]);
    });
}
