//! An encrypted node is given another key while hosts use it from several cores.
use bdev::{Graph, GraphError, Io, KeyError, NodeSpec, Opened, Table, keys};
use reactor::{Buf, Config, Reactors, testing::pattern};
use spec::BlockRange;
use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

const BLOCKS: u64 = 256;

fn graph() -> (Reactors, Graph) {
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .expect("reactors start");
    let graph = Graph::new(reactors.clone());
    (reactors, graph)
}

fn build(graph: &Graph, name: &str, table: Table) -> Result<(), GraphError> {
    let (graph, spec) = (graph.clone(), NodeSpec::new(name, table));
    reactor::block_on(async move { graph.build(spec).await.map(drop) })
}

fn memory() -> Table {
    Table::Memory {
        blocks: BLOCKS,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    }
}

fn crypt(on: &str, key: &str) -> Table {
    Table::Crypt {
        on: on.into(),
        key: key.into(),
    }
}

fn rekey(graph: &Graph, name: &'static str) -> Result<(), GraphError> {
    let graph = graph.clone();
    reactor::block_on(async move { graph.rekey(name).await })
}

fn with<T: Send + 'static, F: Future<Output = T> + 'static>(
    graph: &Graph,
    core: usize,
    name: &'static str,
    what: impl FnOnce(Opened) -> F + Send + 'static,
) -> T {
    let here = graph.clone();
    let call = graph.reactors().call(core, move || async move {
        let disk = here.open(name).await.expect("opens");
        what(disk).await
    });
    call.wait()
}

async fn read(disk: &Opened, start: u64, count: u32) -> Vec<u8> {
    let data = Buf::alloc(count as usize * 512);
    let done = disk
        .perform(Io::read(BlockRange::new(start, count), data.clone()))
        .await;
    assert_eq!(done, Ok(()));
    data.to_vec()
}

async fn write(disk: &Opened, start: u64, bytes: &[u8]) {
    let range = BlockRange::new(start, bytes.len() as u32 / 512);
    assert_eq!(disk.perform(Io::write(range, Buf::from_slice(bytes))).await, Ok(()));
}

#[test]
fn what_was_written_is_noise_on_every_core_and_what_is_written_next_is_not() {
    let (reactors, graph) = graph();
    graph.keys().draw("k", 256).unwrap();
    build(&graph, "m", memory()).unwrap();
    build(&graph, "c", crypt("m", "k")).unwrap();
    assert!(graph.can_rekey("c"));
    let old = pattern(1, 64 * 512);
    let bytes = old.clone();
    with(&graph, 0, "c", move |disk| async move { write(&disk, 0, &bytes).await });
    with(&graph, 1, "c", |disk| async move {
        read(&disk, 0, 64).await == pattern(1, 64 * 512)
    })
    .then_some(())
    .expect("one key on both cores");

    // Hosts go on meanwhile: each sees its block as the old key or the new one has it, and what it writes after that.
    let over = Arc::new(AtomicBool::new(false));
    let hosts: Vec<_> = (0..2)
        .map(|core| {
            let (here, over) = (graph.clone(), over.clone());
            graph.reactors().call(core, move || async move {
                let disk = here.open("c").await.expect("opens");
                let (at, mut changes) = (128 + core as u64, 0);
                let mine = pattern(at, 512);
                write(&disk, at, &mine).await;
                while !over.load(Relaxed) {
                    if read(&disk, at, 1).await != mine {
                        changes += 1;
                        write(&disk, at, &mine).await
                    }
                    reactor::yield_now().await
                }
                changes
            })
        })
        .collect();
    for _ in 0..5 {
        rekey(&graph, "c").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    over.store(true, Relaxed);
    for host in hosts {
        assert_eq!(host.wait(), 5, "each key was another one");
    }
    for core in 0..2 {
        let now = with(&graph, core, "c", |disk| async move { read(&disk, 0, 64).await });
        let alike = now.chunks(512).zip(old.chunks(512)).filter(|(a, b)| a == b).count();
        assert_eq!(alike, 0, "blocks that are readable still");
    }
    reactors.stop()
}

#[test]
fn a_key_in_a_file_is_there_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let text = keys::random_digits(128).unwrap();
    std::fs::write(&path, text.as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let image = dir.path().join("image");
    let mut seen = Vec::new();
    for process in 0..2 {
        let (reactors, graph) = graph();
        graph.keys().read("k", &path).unwrap();
        let file = Table::File {
            path: image.clone(),
            block_size: None,
            read_only: false,
            create_size: Some(BLOCKS * 512),
            direct: Default::default(),
        };
        build(&graph, "f", file).unwrap();
        build(&graph, "c", crypt("f", "k")).unwrap();
        if process == 0 {
            rekey(&graph, "c").unwrap();
            with(&graph, 0, "c", |disk| async move {
                write(&disk, 5, &pattern(9, 1024)).await
            })
        }
        seen.push(with(&graph, 1, "c", |disk| async move { read(&disk, 5, 2).await }));
        reactors.stop()
    }
    assert!(seen[0] == pattern(9, 1024) && seen[0] == seen[1]);
    assert_ne!(std::fs::read_to_string(&path).unwrap().trim_end(), *text);
}

#[test]
fn it_is_refused_where_more_would_be_lost_or_nothing() {
    let (reactors, graph) = graph();
    let keys = graph.keys();
    keys.give("given", &(0..32).collect::<Vec<u8>>()).unwrap();
    keys.draw("shared", 128).unwrap();
    keys.draw("own", 128).unwrap();
    for at in ["m1", "m2", "m3", "m4"] {
        build(&graph, at, memory()).unwrap()
    }
    assert!(matches!(
        build(&graph, "c", crypt("m1", "none")),
        Err(GraphError::Invalid { .. })
    ));
    build(&graph, "said", crypt("m1", "given")).unwrap();
    build(&graph, "one", crypt("m2", "shared")).unwrap();
    build(&graph, "two", crypt("m3", "shared")).unwrap();
    build(&graph, "below", crypt("m4", "own")).unwrap();
    assert!(graph.can_rekey("below"));
    build(&graph, "above", Table::Passthru { on: "below".into() }).unwrap();
    for name in ["said", "one", "two", "below"] {
        assert!(!graph.can_rekey(name), "{name}");
        assert!(matches!(rekey(&graph, name), Err(GraphError::Key { .. })), "{name}");
    }
    assert!(matches!(rekey(&graph, "above"), Err(GraphError::Unsupported { .. })));
    assert_eq!(rekey(&graph, "nobody"), Err(GraphError::NotFound("nobody".into())));
    assert!(matches!(keys.remove("shared"), Err(KeyError::Busy(_))));
    for name in ["one", "two"] {
        let graph = graph.clone();
        reactor::block_on(async move { graph.remove(name).await }).unwrap();
    }
    keys.remove("shared").unwrap();
    reactors.stop()
}
