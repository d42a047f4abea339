//! The graph, on real reactors: nodes built and changed under I/O from several cores.
use bdev::{
    Event, Geometry, Graph, GraphError, Io, IoError, NodeSpec, NodeState, Opened, Table,
    graph::Claim,
    iostat::Reset,
    module::{
        delay::Latency,
        error::{Effect, Injection, Ops},
    },
    table::Segment,
};
use reactor::{
    Buf, Config, Reactors,
    testing::{Rng, pattern},
};
use spec::BlockRange;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

struct Unpark(thread::Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark()
    }
}

/// The control plane: an ordinary thread.
fn wait<T>(f: impl Future<Output = T> + Send) -> T {
    let (mut f, waker) = (pin!(f), Waker::from(Arc::new(Unpark(thread::current()))));
    loop {
        match f.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn graph(cores: usize) -> (Reactors, Graph) {
    let reactors = Reactors::start(Config {
        count: cores,
        ..Config::default()
    })
    .expect("reactors start");
    let graph = Graph::new(reactors.clone());
    (reactors, graph)
}

fn memory(blocks: u64) -> Table {
    Table::Memory {
        blocks,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    }
}
fn null(blocks: u64) -> Table {
    Table::Null {
        blocks,
        block_size: 512,
        physical_block_size: None,
    }
}
fn linear(segments: &[(&str, u64, u64)]) -> Table {
    let segment = |&(on, start, blocks): &(&str, u64, u64)| Segment {
        on: on.into(),
        start,
        blocks,
    };
    Table::Linear {
        segments: segments.iter().map(segment).collect(),
    }
}
fn passthru(on: &str) -> Table {
    Table::Passthru { on: on.into() }
}
fn error(on: &str) -> Table {
    Table::Error {
        on: on.into(),
        inject: Vec::new(),
    }
}

fn build(graph: &Graph, name: &str, table: Table) {
    wait(graph.build(NodeSpec::new(name, table))).unwrap_or_else(|error| panic!("{name}: {error}"));
}

async fn write(disk: &Opened, start: u64, bytes: &[u8]) -> Result<(), IoError> {
    let range = BlockRange::new(start, (bytes.len() / 512) as u32);
    disk.perform(Io::write(range, Buf::from_slice(bytes))).await
}
async fn read(disk: &Opened, start: u64, blocks: u32) -> Result<Vec<u8>, IoError> {
    let data = Buf::alloc(blocks as usize * 512);
    disk.perform(Io::read(BlockRange::new(start, blocks), data.clone()))
        .await
        .map(|()| data.to_vec())
}

/// Runs on one core with a node open there.
fn with<T: Send + 'static, F: Future<Output = T>>(
    graph: &Graph,
    core: usize,
    name: &str,
    f: impl FnOnce(Opened) -> F + Send + 'static,
) -> T {
    let (here, name) = (graph.clone(), name.to_owned());
    let called = graph.reactors().call(core, move || async move {
        let opened = here.open(&name).await.expect("opens");
        f(opened).await
    });
    called.wait()
}

#[test]
fn control_futures_may_travel() {
    fn is_send<T: Send>(_: T) {}
    let (reactors, graph) = graph(1);
    is_send(graph.build(NodeSpec::new("a", null(8))));
    is_send(graph.replace("a", null(8)));
    is_send(graph.read("a", BlockRange::new(0, 1)));
    is_send(graph.iostat(None));
    is_send(graph.rescan_all());
    is_send(graph.clone());
    fn is_sync<T: Send + Sync>() {}
    is_sync::<(Graph, Claim)>();
    reactors.stop()
}

#[test]
fn a_memory_disk_is_the_same_from_every_core() {
    let (reactors, graph) = graph(3);
    build(&graph, "m", memory(4096));
    for core in 0..3 {
        // Not a multiple of a page, so that pages are shared, copied and moved in part.
        let (start, bytes) = (core as u64 * 501 + 3, pattern(core as u64, 490 * 512));
        with(&graph, core, "m", move |disk| async move {
            write(&disk, start, &bytes).await
        })
        .unwrap();
    }
    for core in 0..3 {
        for from in 0..3u64 {
            let found = with(&graph, core, "m", move |disk| async move {
                read(&disk, from * 501 + 3, 490).await
            });
            assert!(
                found == Ok(pattern(from, 490 * 512)),
                "core {core} reads what core {from} wrote"
            );
        }
    }
    assert_eq!(
        wait(graph.read("m", BlockRange::new(504, 2))).unwrap(),
        pattern(1, 1024),
        "and so does the control plane"
    );
    wait(graph.write("m", 1, vec![9; 512], true)).unwrap();
    wait(graph.flush("m")).unwrap();
    assert_eq!(
        wait(graph.read("m", BlockRange::new(0, 3))).unwrap(),
        [vec![0; 512], vec![9; 512], vec![0; 512]].concat()
    );
    let beyond = wait(graph.read("m", BlockRange::new(4095, 2)));
    assert_eq!(
        beyond,
        Err(GraphError::Io {
            name: "m".into(),
            error: IoError::OutOfRange
        })
    );
    reactors.stop()
}

#[test]
fn many_at_once_through_the_forward() {
    let (reactors, graph) = graph(2);
    build(&graph, "m", memory(8192));
    build(&graph, "e", error("m"));
    // Something is injected, so the error device keeps each I/O in a frame and its home answers later.
    let never = Injection {
        after: u64::MAX,
        ..Injection::new(Effect::Pending)
    };
    wait(graph.inject("e", never)).unwrap();
    build(
        &graph,
        "d",
        Table::Delay {
            on: "e".into(),
            avg_read_us: 20,
            p99_read_us: 900,
            avg_write_us: 30,
            p99_write_us: 700,
        },
    );
    let calls: Vec<_> = (0..2)
        .map(|core| {
            let graph = graph.clone();
            graph.clone().reactors().call(core, move || async move {
                let disk = graph.open("d").await.unwrap();
                let mut workers = Vec::new();
                for id in 0..20u64 {
                    let disk = disk.clone();
                    workers.push(Box::pin(async move {
                        let (area, mut rng) = ((core as u64 * 20 + id) * 200, Rng::new(core as u64 * 100 + id));
                        let mut model = vec![0; 200 * 512];
                        for round in 0..60 {
                            let start = rng.below(200);
                            let blocks = 1 + rng.below((200 - start).min(30));
                            let at = start as usize * 512..(start + blocks) as usize * 512;
                            if rng.below(2) == 0 {
                                model[at.clone()].copy_from_slice(&rng.bytes(at.len()));
                                write(&disk, area + start, &model[at]).await.unwrap()
                            } else {
                                let found = read(&disk, area + start, blocks as u32).await.unwrap();
                                assert!(found == model[at], "core {core}, worker {id}, round {round}");
                            }
                        }
                    }));
                }
                let mut left: Vec<_> = workers.into_iter().map(Some).collect();
                std::future::poll_fn(|cx| {
                    for slot in &mut left {
                        if slot.as_mut().is_some_and(|worker| worker.as_mut().poll(cx).is_ready()) {
                            *slot = None
                        }
                    }
                    if left.iter().all(Option::is_none) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await
            })
        })
        .collect();
    calls.into_iter().for_each(|call| call.wait());
    let stat = wait(graph.iostat(Some("d"))).unwrap().remove(0).1;
    assert_eq!(stat.num_read_ops + stat.num_write_ops, 2 * 20 * 60);
    assert!(
        stat.min_read_latency_ticks >= 20_000 && stat.queue_depth == 0,
        "{stat:?}"
    );
    reactors.stop()
}

#[test]
fn names_claims_and_opens_are_respected() {
    let (reactors, graph) = graph(2);
    let mut spec = NodeSpec::new("disk", memory(1000));
    spec.aliases = vec!["the-disk".into()];
    let disk = wait(graph.build(spec)).unwrap();
    assert_eq!(graph.info("the-disk").map(|node| node.id), Some(disk.id));
    assert_eq!(
        graph.info(&disk.uuid.to_string()).map(|node| node.name),
        Some("disk".into())
    );
    assert_eq!(NodeSpec::uuid_of("disk"), disk.uuid, "the same in every life");
    let again = wait(graph.build(NodeSpec::new("the-disk", null(1))));
    assert_eq!(again, Err(GraphError::Exists("the-disk".into())));

    // A claim keeps others out, and goes when dropped.
    let claim = graph.claim("disk", "gpt").unwrap();
    let claimed = GraphError::Claimed {
        name: "disk".into(),
        by: "gpt".into(),
    };
    assert_eq!(graph.claim("disk", "md").map(drop), Err(claimed.clone()));
    assert_eq!(wait(graph.remove("disk")), Err(claimed.clone()));
    assert_eq!(
        wait(graph.build(NodeSpec::new("s", Table::Stats { on: "disk".into() }))).map(drop),
        Err(claimed.clone())
    );
    let here = graph.clone();
    let opened = reactors.call(1, move || async move {
        (
            here.open("disk").await.map(drop),
            here.open_as("disk", Some("gpt")).map(drop),
        )
    });
    assert_eq!(opened.wait(), (Err(claimed), Ok(())));
    // Partitions are made by who has claimed the disk.
    build(&graph, "p1", linear(&[("disk", 100, 200)]));
    build(&graph, "p2", linear(&[("disk", 300, 700)]));
    // What was built on its behalf is not told in brief.
    let own = NodeSpec::new("p3", linear(&[("disk", 10, 20)]));
    wait(graph.build_under("gpt", own)).unwrap();
    assert_eq!(graph.info("disk").unwrap().above, ["p1", "p2", "p3"]);
    assert_eq!(graph.brief("disk").unwrap().above, ["p1", "p2"]);
    assert_eq!(graph.brief("disk").unwrap().claimed_by.as_deref(), Some("gpt"));
    wait(graph.remove("p3")).unwrap();
    drop(claim);
    assert_eq!(graph.info("disk").unwrap().claimed_by, None);
    let busy = |by: &str| GraphError::Busy {
        name: "disk".into(),
        by: by.into(),
    };
    assert_eq!(graph.claim("disk", "md").map(drop), Err(busy("\"p1\", \"p2\"")));
    assert_eq!(wait(graph.remove("disk")), Err(busy("\"p1\", \"p2\"")));
    assert_eq!(graph.info("disk").unwrap().above, ["p1", "p2"]);

    // Open, pinned, built upon.
    let (go, here) = (Arc::new(AtomicBool::new(false)), graph.clone());
    let (open, going) = (Arc::new(AtomicBool::new(false)), go.clone());
    let is_open = open.clone();
    let holder = reactors.call(1, move || async move {
        let _opened = here.open("p1").await.unwrap();
        is_open.store(true, SeqCst);
        while !going.load(SeqCst) {
            reactor::sleep(Duration::from_millis(1)).await
        }
    });
    while !open.load(SeqCst) {
        thread::yield_now()
    }
    assert_eq!(
        wait(graph.remove("p1")),
        Err(GraphError::Busy {
            name: "p1".into(),
            by: "1 open".into()
        })
    );
    go.store(true, SeqCst);
    holder.wait();
    wait(graph.remove("p1")).unwrap();
    let pin = graph.pin("p2", "iqn.2026-01.example:t/0").unwrap();
    assert_eq!(
        graph.claim("p2", "lvm2").map(drop),
        Err(GraphError::Busy {
            name: "p2".into(),
            by: "iqn.2026-01.example:t/0".into()
        })
    );
    drop(pin);
    build(&graph, "whole", Table::Stats { on: "p2".into() });
    assert_eq!(
        graph.info("p2").unwrap().claimed_by.as_deref(),
        Some("whole"),
        "a module takes what it stands on"
    );
    assert!(matches!(
        wait(graph.build(NodeSpec::new("x", error("p2")))),
        Err(GraphError::Claimed { .. })
    ));
    for name in ["whole", "p2", "disk"] {
        wait(graph.remove(name)).unwrap()
    }
    assert_eq!(graph.list(), []);
    reactors.stop()
}

#[test]
fn tables_that_make_no_sense_are_refused_with_the_reason() {
    let (reactors, graph) = graph(1);
    build(&graph, "a", null(100));
    build(
        &graph,
        "b",
        Table::Null {
            blocks: 100,
            block_size: 4096,
            physical_block_size: None,
        },
    );
    let refused = |table: Table| {
        wait(graph.build(NodeSpec::new("x", table)))
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(linear(&[("a", 90, 11)])),
        "\"x\": segment 0 is 11 blocks from block 90 of \"a\", which has 100"
    );
    assert_eq!(
        refused(linear(&[("a", u64::MAX, 2)])),
        "\"x\": segment 0 is 2 blocks from block 18446744073709551615 of \"a\", which has 100"
    );
    assert_eq!(
        refused(linear(&[("a", 0, 5), ("b", 0, 5)])),
        "\"x\": block sizes differ: 512 and 4096 bytes; they must be equal"
    );
    assert_eq!(refused(linear(&[("c", 0, 5)])), "no node is called \"c\"");
    assert_eq!(refused(linear(&[])), "\"x\": at least one disk is needed below");
    assert_eq!(refused(null(0)), "\"x\": a disk of 0 blocks");
    assert_eq!(
        refused(null(u64::MAX)),
        "\"x\": 18446744073709551615 blocks of 512 bytes are more than 2^63 bytes"
    );
    assert!(
        refused(Table::Null {
            blocks: 1,
            block_size: 0,
            physical_block_size: None
        })
        .contains("block size 0")
    );
    assert!(
        refused(Table::Memory {
            blocks: 1,
            block_size: 512,
            physical_block_size: Some(7),
            optimal_io: 0
        })
        .contains("7")
    );
    build(&graph, "p", passthru("a"));
    let circle = wait(graph.replace("a", passthru("p"))).unwrap_err().to_string();
    assert_eq!(circle, "\"a\": it would stand on itself");
    let other_size = Table::Null {
        blocks: 100,
        block_size: 4096,
        physical_block_size: None,
    };
    assert!(
        wait(graph.replace("a", other_size))
            .unwrap_err()
            .to_string()
            .contains("keeps its block size")
    );
    reactors.stop()
}

#[test]
fn whoever_stands_on_the_whole_grows_with_it() {
    let (reactors, graph) = graph(2);
    let events = graph.events();
    build(&graph, "a", memory(100));
    build(&graph, "b", memory(300));
    build(
        &graph,
        "stripe",
        Table::Stripe {
            on: vec!["a".into(), "b".into()],
            chunk: 8,
        },
    );
    build(&graph, "top", passthru("stripe"));
    build(&graph, "part", linear(&[("top", 0, 150)]));
    assert_eq!(graph.info("top").unwrap().geometry.blocks, 192);
    while events.try_recv().is_some() {}

    // Open the whole time, on a core that is not a's home.
    let home = graph.info("a").unwrap().home.unwrap();
    let (here, grown) = (graph.clone(), Arc::new(AtomicBool::new(false)));
    let (opened, has_grown) = (Arc::new(AtomicBool::new(false)), grown.clone());
    let is_open = opened.clone();
    let user = reactors.call(1 - home, move || async move {
        let disk = here.open("top").await.unwrap();
        write(&disk, 191, &pattern(5, 512)).await.unwrap();
        assert_eq!(write(&disk, 192, &[1; 512]).await, Err(IoError::OutOfRange));
        is_open.store(true, SeqCst);
        while !has_grown.load(SeqCst) {
            reactor::sleep(Duration::from_millis(1)).await
        }
        assert_eq!(disk.blocks(), 592);
        write(&disk, 591, &pattern(9, 512)).await.unwrap();
        assert_eq!(read(&disk, 191, 1).await.unwrap(), pattern(5, 512));
        assert_eq!(read(&disk, 591, 1).await.unwrap(), pattern(9, 512));
        assert_eq!(write(&disk, 592, &[1; 512]).await, Err(IoError::OutOfRange));
    });
    while !opened.load(SeqCst) {
        thread::yield_now()
    }
    wait(graph.resize("a", 1000)).unwrap();
    grown.store(true, SeqCst);
    user.wait();
    let resized = |name: &str, blocks| {
        Some(Event::Resized {
            name: name.into(),
            blocks,
        })
    };
    assert_eq!(events.try_recv(), resized("a", 1000));
    assert_eq!(events.try_recv(), resized("stripe", 592));
    assert_eq!(events.try_recv(), resized("top", 592));
    assert_eq!(events.try_recv(), None, "a partition keeps its length");
    let shrunk = wait(graph.resize("b", 70));
    assert_eq!(
        shrunk.unwrap_err().to_string(),
        "\"part\": segment 0 is 150 blocks from block 0 of \"top\", which has 128"
    );
    wait(graph.remove("part")).unwrap();
    wait(graph.resize("b", 70)).unwrap();
    assert_eq!(graph.info("top").unwrap().geometry.blocks, 128);
    assert!(matches!(
        wait(graph.resize("top", 5)),
        Err(GraphError::Unsupported { .. })
    ));
    reactors.stop()
}

/// A stripe's member moves back and forth between two disks, a linear table is rearranged and a node is suspended, all under
/// verified load from two cores.
#[test]
fn everything_may_change_under_load_and_nothing_is_lost() {
    let (reactors, graph) = graph(2);
    for name in ["here", "there", "other"] {
        build(&graph, name, memory(512))
    }
    build(&graph, "member", passthru("here"));
    build(&graph, "stats", Table::Stats { on: "other".into() });
    build(
        &graph,
        "stripe",
        Table::Stripe {
            on: vec!["member".into(), "stats".into()],
            chunk: 8,
        },
    );
    build(&graph, "volume", linear(&[("stripe", 0, 512), ("stripe", 512, 512)]));
    build(&graph, "top", passthru("volume"));
    let (over, busy) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let calls: Vec<_> = (0..6u64)
        .map(|id| {
            let (here, over, busy) = (graph.clone(), over.clone(), busy.clone());
            reactors.call(id as usize % 2, move || async move {
                let disk = here.open("top").await.unwrap();
                let (area, mut rng, mut model) = (id * 170, Rng::new(id), vec![0; 170 * 512]);
                let mut rounds = 0;
                while !over.load(SeqCst) {
                    let start = rng.below(170);
                    let blocks = 1 + rng.below((170 - start).min(30));
                    let at = start as usize * 512..(start + blocks) as usize * 512;
                    busy.fetch_add(1, SeqCst);
                    if rng.below(2) == 0 {
                        model[at.clone()].copy_from_slice(&rng.bytes(at.len()));
                        write(&disk, area + start, &model[at]).await.unwrap()
                    } else {
                        let found = read(&disk, area + start, blocks as u32).await.unwrap();
                        assert!(found == model[at], "worker {id}, round {rounds}");
                    }
                    rounds += 1;
                    reactor::yield_now().await
                }
                rounds
            })
        })
        .collect();
    let mut names = ["here", "there"];
    for _ in 0..15 {
        // Copy while nobody writes, spoil the old place, move.
        wait(graph.suspend("member")).unwrap();
        assert_eq!(
            graph.info("top").unwrap().state,
            NodeState::Suspended,
            "what stands on it is held as well"
        );
        let seen = busy.load(SeqCst);
        let all = wait(graph.read(names[0], BlockRange::new(0, 512))).unwrap();
        wait(graph.write(names[1], 0, all, false)).unwrap();
        wait(graph.write(names[0], 0, vec![0xee; 512 * 512], false)).unwrap();
        thread::sleep(Duration::from_millis(2));
        assert!(busy.load(SeqCst) <= seen + 6, "at most the I/O that waits at the gate");
        wait(graph.replace("member", passthru(names[1]))).unwrap();
        assert_eq!(
            graph.info("member").unwrap().state,
            NodeState::Suspended,
            "a replace is no resume"
        );
        wait(graph.resume("member")).unwrap();
        names.reverse();
        wait(graph.replace("volume", linear(&[("stripe", 0, 1024)]))).unwrap();
        wait(graph.replace("volume", linear(&[("stripe", 0, 100), ("stripe", 100, 924)]))).unwrap();
    }
    over.store(true, SeqCst);
    let rounds: Vec<u64> = calls.into_iter().map(|call| call.wait()).collect();
    assert!(rounds.iter().all(|rounds| *rounds > 15), "{rounds:?}");
    let report = wait(graph.stats("stats", false)).unwrap();
    assert!(
        report.0[0].ops > 0 && report.0[0].latencies.total() == report.0[0].ops,
        "counters outlive the changes"
    );
    reactors.stop()
}

#[test]
fn what_vanishes_orphans_what_stands_on_it_and_may_come_back() {
    let (reactors, graph) = graph(2);
    let events = graph.events();
    build(&graph, "a", memory(100));
    build(&graph, "b", memory(100));
    build(&graph, "v", linear(&[("a", 0, 50), ("b", 0, 50)]));
    let core = 1 - graph.info("a").unwrap().home.unwrap();
    let here = graph.clone();
    let (seen, go) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (saw, going) = (seen.clone(), go.clone());
    let user = reactors.call(core, move || async move {
        let disk = here.open("v").await.unwrap();
        let step = async |n| {
            saw.store(n, SeqCst);
            while going.load(SeqCst) < n {
                reactor::sleep(Duration::from_millis(1)).await
            }
        };
        write(&disk, 0, &pattern(0, 100 * 512)).await.unwrap();
        step(1).await;
        assert_eq!(read(&disk, 10, 1).await, Err(IoError::Gone));
        assert_eq!(
            read(&disk, 60, 1).await,
            Ok(pattern(60 * 512, 512)),
            "half of it is still there"
        );
        assert_eq!(disk.submit(Io::flush()).await, Err(IoError::Gone));
        assert!(matches!(disk.info().unwrap().state, NodeState::Orphan { .. }));
        step(2).await;
        assert_eq!(read(&disk, 10, 1).await, Ok(vec![0; 512]), "another disk in its place");
        step(3).await;
        assert_eq!(read(&disk, 10, 1).await, Err(IoError::Gone));
    });
    let until = |n| {
        while seen.load(SeqCst) < n {
            thread::yield_now()
        }
    };
    until(1);
    wait(graph.orphan("a", "pulled out")).unwrap();
    let gone = NodeState::Orphan {
        reason: "\"a\" below is gone: pulled out".into(),
    };
    assert_eq!(graph.info("v").unwrap().state, gone);
    let refused = wait(graph.build(NodeSpec::new("x", passthru("v"))))
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "\"v\" is gone: \"a\" below is gone: pulled out");
    go.store(1, SeqCst);
    until(2);
    wait(graph.replace("a", memory(100))).unwrap();
    assert_eq!(graph.info("v").unwrap().state, NodeState::Active);
    go.store(2, SeqCst);
    until(3);
    // Removed by force: the name is free at once, what stands on it stays, as an orphan.
    wait(graph.remove_now("a", "somebody insists")).unwrap();
    build(&graph, "a", memory(7));
    go.store(3, SeqCst);
    user.wait();
    wait(graph.remove("v")).unwrap();
    assert_eq!(
        graph.list().into_iter().map(|node| node.name).collect::<Vec<_>>(),
        ["b", "a"]
    );
    let told: Vec<Event> = std::iter::from_fn(|| events.try_recv()).collect();
    for event in [
        Event::Orphaned {
            name: "a".into(),
            reason: "pulled out".into(),
        },
        Event::Orphaned {
            name: "v".into(),
            reason: "\"a\" below is gone: pulled out".into(),
        },
        Event::Restored { name: "v".into() },
        Event::Removed { name: "v".into() },
    ] {
        assert!(told.contains(&event), "{event:?} in {told:?}")
    }
    reactors.stop()
}

#[test]
fn errors_are_injected_where_they_are_wanted() {
    let (reactors, graph) = graph(2);
    build(&graph, "m", memory(100));
    build(&graph, "EE_m", error("m"));
    for core in 0..2 {
        let once = Injection {
            on: Ops::Write,
            count: Some(2),
            ..Injection::new(Effect::Fail {
                error: IoError::NoSpace,
            })
        };
        wait(graph.inject("EE_m", once)).unwrap();
        let done = with(&graph, core, "EE_m", |disk| async move {
            let mut done = Vec::new();
            for _ in 0..3 {
                done.push(write(&disk, 0, &pattern(0, 1024)).await)
            }
            done.push(read(&disk, 0, 1).await.map(drop));
            done
        });
        assert_eq!(done, [Err(IoError::NoSpace), Err(IoError::NoSpace), Ok(()), Ok(())]);
    }
    // The careful repetition of a failed read is the same read to whoever counts.
    let once = Injection {
        on: Ops::Read,
        count: Some(1),
        ..Injection::new(Effect::Fail { error: IoError::Medium })
    };
    wait(graph.inject("EE_m", once)).unwrap();
    let done = with(&graph, 0, "EE_m", |disk| async move {
        [read(&disk, 0, 1).await.map(drop), read(&disk, 0, 1).await.map(drop)]
    });
    assert_eq!(done, [Err(IoError::Medium), Ok(())]);
    let torn = Injection {
        count: Some(1),
        ..Injection::new(Effect::Torn {
            blocks: Some(1),
            acknowledge: true,
        })
    };
    wait(graph.inject("EE_m", torn)).unwrap();
    let flipped = Injection {
        on: Ops::Read,
        count: Some(1),
        ..Injection::new(Effect::Corrupt {
            offset: 513,
            value: 0xff,
        })
    };
    wait(graph.inject("EE_m", flipped)).unwrap();
    let found = with(&graph, 0, "EE_m", |disk| async move {
        write(&disk, 0, &[7; 1024]).await.unwrap();
        (read(&disk, 0, 2).await.unwrap(), read(&disk, 0, 2).await.unwrap())
    });
    let torn = [vec![7; 512], pattern(512, 512)].concat();
    let mut flipped = torn.clone();
    flipped[513] ^= 0xff;
    assert!(
        found == (flipped, torn),
        "one byte was wrong once, and the second block was never written"
    );

    // What hangs goes on when released.
    wait(graph.inject(
        "EE_m",
        Injection {
            count: Some(1),
            ..Injection::new(Effect::Pending)
        },
    ))
    .unwrap();
    let here = graph.clone();
    let hangs = reactors.call(0, move || async move {
        let disk = here.open("EE_m").await.unwrap();
        read(&disk, 0, 1).await
    });
    while wait(graph.injections("EE_m")).unwrap() != (vec![], 1) {
        thread::yield_now()
    }
    wait(graph.release_pending("EE_m")).unwrap();
    assert_eq!(hangs.wait(), Ok(vec![7; 512]));
    // What hangs when its device vanishes does not hang for ever.
    wait(graph.inject("EE_m", Injection::new(Effect::Pending))).unwrap();
    let here = graph.clone();
    let hangs = reactors.call(1, move || async move {
        let disk = here.open("EE_m").await.unwrap();
        read(&disk, 0, 1).await.map(drop)
    });
    while wait(graph.injections("EE_m")).unwrap().1 != 1 {
        thread::yield_now()
    }
    wait(graph.orphan("EE_m", "unplugged")).unwrap();
    hangs.wait().unwrap();
    assert!(matches!(
        wait(graph.inject("m", Injection::new(Effect::Pending))),
        Err(GraphError::Unsupported { .. })
    ));
    reactors.stop()
}

#[test]
fn latencies_and_figures_can_be_changed_and_reset() {
    let (reactors, graph) = graph(2);
    build(&graph, "n", null(64));
    build(
        &graph,
        "d",
        Table::Delay {
            on: "n".into(),
            avg_read_us: 0,
            p99_read_us: 0,
            avg_write_us: 0,
            p99_write_us: 0,
        },
    );
    graph
        .set_latency("d", Latency::AvgRead, Duration::from_millis(3))
        .unwrap();
    let Table::Delay { avg_read_us, .. } = graph.info("d").unwrap().table else {
        panic!("a delay")
    };
    assert_eq!(avg_read_us, 3000);
    for core in 0..2 {
        with(&graph, core, "d", |disk| async move {
            read(&disk, 0, 2).await.unwrap();
            write(&disk, 0, &[0; 512]).await.unwrap();
            disk.perform(Io::unmap(BlockRange::new(0, 3))).await.unwrap();
            assert_eq!(read(&disk, 64, 1).await, Err(IoError::OutOfRange));
        });
    }
    let stat = wait(graph.iostat(Some("d"))).unwrap().remove(0).1;
    let figures = (
        stat.num_read_ops,
        stat.bytes_read,
        stat.num_write_ops,
        stat.bytes_written,
        stat.bytes_unmapped,
    );
    assert_eq!(figures, (2, 2048, 2, 1024, 3072));
    assert!(
        stat.min_read_latency_ticks >= 3_000_000 && stat.read_latency_ticks >= 6_000_000,
        "{stat:?}"
    );
    assert_eq!(stat.io_error.get("out_of_range"), Some(&2));
    wait(graph.reset_iostat(Some("d"), Reset::Error)).unwrap();
    let stat = wait(graph.iostat(None)).unwrap().pop().unwrap();
    assert!(stat.0 == "d" && stat.1.io_error.is_empty() && stat.1.num_read_ops == 2);
    wait(graph.reset_iostat(None, Reset::All)).unwrap();
    assert_eq!(
        wait(graph.iostat(Some("d"))).unwrap().remove(0).1,
        bdev::Iostat::default().shown()
    );
    assert_eq!(wait(graph.iostat(Some("x"))), Err(GraphError::NotFound("x".into())));
    reactors.stop()
}

#[test]
fn a_device_of_somebody_elses_is_a_node_like_others() {
    let (reactors, graph) = graph(2);
    let spec = NodeSpec::new(
        "mine",
        Table::Custom {
            what: "sim".into(),
            on: vec![],
        },
    );
    let geometry = Geometry {
        volatile_cache: true,
        unmap: true,
        unmap_reads_zero: true,
        write_zeroes: true,
        ..Geometry::plain(512, 64)
    };
    let make = move |_: &[bdev::Disk]| Ok(bdev::Disk::new(bdev::leaf::sim::Sim::new(geometry, 4)));
    wait(graph.build_custom(spec, geometry, Some(1), make)).unwrap();
    build(&graph, "v", linear(&[("mine", 1, 62)]));
    with(&graph, 0, "v", |disk| async move {
        write(&disk, 0, &pattern(0, 62 * 512)).await
    })
    .unwrap();
    assert_eq!(
        wait(graph.read("mine", BlockRange::new(1, 62))).unwrap(),
        pattern(0, 62 * 512)
    );
    let bare = wait(graph.build(NodeSpec::new(
        "x",
        Table::Custom {
            what: "sim".into(),
            on: vec![],
        },
    )));
    assert!(matches!(bare, Err(GraphError::Invalid { .. })));
    reactors.stop()
}

#[test]
fn stopped_reactors_are_an_error_and_no_hang() {
    let (reactors, graph) = graph(2);
    build(&graph, "n", null(8));
    reactors.stop();
    assert_eq!(wait(graph.read("n", BlockRange::new(0, 1))), Err(GraphError::Stopped));
    assert_eq!(
        wait(graph.build(NodeSpec::new("x", null(8)))).map(drop),
        Err(GraphError::Stopped)
    );
}
