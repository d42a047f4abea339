//! Drive links in the running engine: files that are linked, taken away under a reader, and come back.
use bdev::{Graph, NodeSpec, NodeState, Table};
use lvol::{Create, Engine, GroupState, Origin, Request, Stamp, Verdict};
use reactor::{Config, Reactors};
use spec::BlockRange;
use std::{fs, future::Future, path::Path};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

fn graph(engine: &Engine) -> &bdev::Graph {
    engine.runtime().graph().unwrap()
}

/// Makes lasting what was written to any disk.
async fn flush_all(engine: &Engine) {
    for node in graph(engine).list().iter().filter(|node| node.below.is_empty()) {
        graph(engine).flush(&node.name).await.unwrap();
    }
}

fn house<F: Future<Output = ()>>(story: impl FnOnce(Engine) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap();
    let engine = Engine::new(Graph::new(reactors.clone()));
    runtime.block_on(story(engine));
    reactors.stop();
}

async fn add(engine: &Engine, dir: &Path, name: &str) {
    let table = Table::File {
        path: dir.join(name),
        block_size: None,
        read_only: false,
        create_size: Some(4 * MIB),
        direct: Default::default(),
    };
    let wish = Create {
        spec: NodeSpec::new(name, table),
        origin: Origin::Config,
        examine: true,
    };
    engine.create_or_wait(wish).await.unwrap();
}

async fn change(engine: &Engine, verb: &str, object: &str, options: serde_json::Value) {
    let request = Request {
        verb: verb.into(),
        object: object.into(),
        options: options.as_object().cloned().unwrap(),
    };
    let stamp = Stamp::seeded(Uuid::from_u128(7));
    if let Err(why) = engine.change(&request, &stamp).await {
        panic!("{verb} {object}: {why}");
    }
}

fn pattern(at: u64, blocks: u64) -> Vec<u8> {
    let block = |n: u64| (0..512u64).map(move |byte| (n * 7 + byte * 13) as u8);
    (at..at + blocks).flat_map(block).collect()
}

/// Every block of the link: its bytes, or that it cannot be read.
async fn read(engine: &Engine, name: &str) -> Vec<Result<Vec<u8>, String>> {
    let blocks = graph(engine).info(name).unwrap().geometry.blocks;
    let mut all = Vec::new();
    for at in (0..blocks).step_by(64) {
        let read = graph(engine).read(name, BlockRange::new(at, 64)).await;
        all.push(read.map_err(|why| why.to_string()));
    }
    all
}

fn group(engine: &Engine) -> lvol::Group {
    engine.groups().remove(0)
}

#[test]
fn a_child_that_goes_leaves_a_gap_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    house(|engine| async move {
        for name in ["d0", "d1", "d2"] {
            add(&engine, dir, name).await;
        }
        change(
            &engine,
            "link-create",
            "big",
            serde_json::json!({"disks": ["d2", "d0", "d1"]}),
        )
        .await;
        let info = graph(&engine).info("link/big").unwrap();
        assert_eq!(info.geometry.blocks, 9 * MIB / 512);
        assert!(!info.geometry.read_only);
        for at in (0..9 * MIB / 512).step_by(64) {
            graph(&engine)
                .write("link/big", at, pattern(at, 64), false)
                .await
                .unwrap();
        }
        let all = read(&engine, "link/big").await;
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, read)| *read == Ok(pattern(n as u64 * 64, 64)))
        );

        // A disk goes under it.
        graph(&engine).orphan("d0", "it was pulled").await.unwrap();
        engine.wait_for_examine().await;
        let info = graph(&engine).info("link/big").unwrap();
        assert_eq!((info.geometry.blocks, info.state), (9 * MIB / 512, NodeState::Active));
        assert!(info.geometry.read_only);
        assert_eq!(group(&engine).state, GroupState::Partial);
        assert!(group(&engine).notes[0].contains("bytes 3145728 to 6291455 cannot be read"));
        let gap = 3 * MIB / 512 / 64..6 * MIB / 512 / 64;
        for (n, (now, before)) in read(&engine, "link/big").await.iter().zip(&all).enumerate() {
            match gap.contains(&(n as u64)) {
                true => assert!(now.as_ref().unwrap_err().contains("medium error"), "{now:?}"),
                false => assert_eq!(now, before, "{n}"),
            }
        }
        // Across the edge is in the gap too.
        let edge = graph(&engine)
            .read("link/big", BlockRange::new(3 * MIB / 512 - 4, 8))
            .await;
        assert!(edge.is_err());
        let write = graph(&engine).write("link/big", 0, vec![0; 512], false).await;
        assert!(write.unwrap_err().to_string().contains("read-only"));
        graph(&engine).flush("link/big").await.unwrap();

        // It comes back, and nothing was lost.
        let table = graph(&engine).info("d0").unwrap().table;
        graph(&engine).replace("d0", table).await.unwrap();
        engine.wait_for_examine().await;
        assert_eq!(group(&engine).state, GroupState::Complete);
        assert!(!graph(&engine).info("link/big").unwrap().geometry.read_only);
        assert_eq!(read(&engine, "link/big").await, all);
        graph(&engine).write("link/big", 0, pattern(0, 1), false).await.unwrap();

        // Deleted by the user, and made again.
        engine.delete("d1", false).await.unwrap();
        let there = graph(&engine).info("link/big").map(|info| info.geometry.read_only);
        assert_eq!(there, Some(true), "{:?}", group(&engine));
        assert!(engine.disk("d0").unwrap().parts.contains(&"link/big".to_owned()));
        add(&engine, dir, "d1").await;
        assert_eq!(read(&engine, "link/big").await, all);
        assert!(!graph(&engine).info("link/big").unwrap().geometry.read_only);
    });
}

#[test]
fn the_order_in_which_disks_come_is_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    house(|engine| async move {
        for name in ["d0", "d1", "d2"] {
            add(&engine, dir, name).await;
        }
        change(
            &engine,
            "link-create",
            "big",
            serde_json::json!({"disks": ["d1", "d2", "d0"]}),
        )
        .await;
        for at in (0..9 * MIB / 512).step_by(64) {
            graph(&engine)
                .write("link/big", at, pattern(at, 64), false)
                .await
                .unwrap();
        }
        flush_all(&engine).await;
    });
    let mut first: Option<(Uuid, Table, Vec<_>)> = None;
    for order in [["d0", "d1", "d2"], ["d2", "d1", "d0"], ["d1", "d0", "d2"]] {
        let first = &mut first;
        house(|engine| async move {
            for (name, there) in order.into_iter().zip(1..) {
                add(&engine, dir, name).await;
                let state = if there == 3 {
                    GroupState::Complete
                } else {
                    GroupState::Partial
                };
                assert_eq!(group(&engine).state, state);
                assert_eq!(engine.disk(name).unwrap().verdict, Verdict::Claimed);
            }
            let info = graph(&engine).info("link/big").unwrap();
            let seen = (info.uuid, info.table, read(&engine, "link/big").await);
            assert_eq!(*first.get_or_insert(seen.clone()), seen);
        });
    }
}

#[test]
fn a_link_grows_while_it_is_read_and_is_gone_when_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    house(|engine| async move {
        for name in ["d0", "d1", "d2"] {
            add(&engine, dir, name).await;
        }
        change(
            &engine,
            "link-create",
            "big",
            serde_json::json!({"disks": ["d0", "d1"]}),
        )
        .await;
        let pin = graph(&engine).pin("link/big", "a host").unwrap();
        change(&engine, "link-add", "big", serde_json::json!({"disks": ["d2"]})).await;
        assert_eq!(graph(&engine).info("link/big").unwrap().geometry.blocks, 9 * MIB / 512);
        fs::OpenOptions::new()
            .write(true)
            .open(dir.join("d2"))
            .unwrap()
            .set_len(8 * MIB)
            .unwrap();
        engine.rescan().await;
        change(&engine, "link-expand", "big", serde_json::json!({})).await;
        assert_eq!(graph(&engine).info("link/big").unwrap().geometry.blocks, 13 * MIB / 512);
        drop(pin);
        change(&engine, "link-delete", "big", serde_json::json!({"force": true})).await;
        assert!(engine.groups().is_empty() && graph(&engine).info("link/big").is_none());
        for name in ["d0", "d1", "d2"] {
            assert_eq!(engine.disk(name).unwrap().verdict, Verdict::New);
        }
    });
}
