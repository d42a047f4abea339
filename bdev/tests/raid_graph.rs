//! Arrays in the graph, on real reactors: members go and come while hosts use what stands on the array.
use bdev::{
    Event, Graph, Io, NodeSpec, NodeState, Opened, Table,
    module::raid::Command,
    raid::{MemberState, Shape},
    table::Seat,
};
use reactor::{Buf, Config, Reactors, testing::pattern};
use spec::BlockRange;
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
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

fn memory(graph: &Graph, name: &str) {
    let table = Table::Memory {
        blocks: 1024,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    };
    wait(graph.build(NodeSpec::new(name, table))).expect("memory");
}

fn array(on: [Option<&str>; 3], fresh: Option<&str>) -> Table {
    let seat = |name: &str| Seat {
        on: name.to_owned(),
        start: 0,
        state: match Some(name) == fresh {
            true => MemberState::Rebuilding { to: 0 },
            false => MemberState::InSync,
        },
        write_mostly: false,
        bad: Vec::new(),
        superblock: None,
    };
    Table::Raid {
        shape: Shape::Raid5 { layout: 2, chunk: 8 },
        used: 1024,
        on: on.map(|name| name.map(seat)).to_vec(),
        replacements: Vec::new(),
        bitmap: None,
        differs: Vec::new(),
        noted: Vec::new(),
        replay: false,
        read_only: false,
    }
}

fn with<T: Send + 'static, F: Future<Output = T>>(
    graph: &Graph,
    core: usize,
    name: &str,
    what: impl FnOnce(Opened) -> F + Send + 'static,
) -> T {
    let (handle, name) = (graph.clone(), name.to_owned());
    let call = graph.reactors().call(core, move || async move {
        let disk = handle.open(&name).await.expect("a node of this graph");
        what(disk).await
    });
    call.wait()
}

/// A volume on the array does not notice what happens to members; two cores use it.
#[test]
fn what_stands_on_an_array_does_not_notice_that_a_member_goes_and_another_comes() {
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .expect("reactors start");
    let graph = Graph::new(reactors.clone());
    for name in ["a", "b", "c", "d"] {
        memory(&graph, name);
    }
    wait(graph.build(NodeSpec::new("md", array([Some("a"), Some("b"), Some("c")], None)))).expect("an array");
    wait(graph.build(NodeSpec::new("top", Table::Passthru { on: "md".into() }))).expect("a volume");
    let events = graph.events();
    let data = pattern(1, 2048 * 512);
    let write = data.clone();
    let all = BlockRange::new(0, 2048);
    with(&graph, 0, "top", move |disk| async move {
        let io = Io::write(all, Buf::from_slice(&write));
        assert_eq!(disk.perform(io).await, Ok(()));
    });
    let check = |when: &'static str| {
        for core in 0..2 {
            let data = data.clone();
            with(&graph, core, "top", move |disk| async move {
                let into = Buf::alloc(2048 * 512);
                assert_eq!(
                    disk.perform(Io::read(all, into.clone())).await,
                    Ok(()),
                    "{when}, core {core}"
                );
                assert!(into.to_vec() == data, "{when}, core {core}")
            })
        }
    };
    check("whole");
    wait(graph.orphan("b", "pulled")).expect("gone");
    let state = |name: &str| graph.info(name).expect("a node").state;
    assert!(matches!(state("b"), NodeState::Orphan { .. }));
    assert_eq!((state("md"), state("top")), (NodeState::Active, NodeState::Active));
    check("without one");
    let members = || wait(graph.array("md")).expect("an array").members;
    assert_eq!(members()[1].state, MemberState::Failed);
    let told: Vec<Event> = std::iter::from_fn(|| events.try_recv()).collect();
    assert!(
        told.contains(&Event::Rearranged {
            name: "md".into(),
            whole: false
        }),
        "{told:?}"
    );
    assert!(
        !told
            .iter()
            .any(|event| matches!(event, Event::Orphaned { name, .. } if name != "b")),
        "{told:?}"
    );

    wait(graph.replace("md", array([Some("a"), Some("d"), Some("c")], Some("d")))).expect("another member");
    let until = Instant::now() + Duration::from_secs(20);
    while members()[1].state != MemberState::InSync {
        assert!(Instant::now() < until, "it is not rebuilt: {:?}", members());
        thread::sleep(Duration::from_millis(5))
    }
    check("rebuilt");
    wait(graph.command_array("md", Command::Fail(0))).expect("one may fail");
    check("without another");
    assert!(
        wait(graph.command_array("md", Command::Fail(1))).is_err(),
        "none is left that may"
    );
    // Now it goes as a whole, and all that stands on it.
    wait(graph.orphan("c", "pulled")).expect("gone");
    assert!(matches!(state("md"), NodeState::Orphan { .. }) && matches!(state("top"), NodeState::Orphan { .. }));
    reactors.stop()
}

/// How fast an array may be rebuilt was said of the volume: it counts for whatever its table makes of it.
#[test]
fn an_array_that_becomes_another_keeps_its_limit() {
    let reactors = Reactors::start(Config::default()).expect("reactors start");
    let graph = Graph::new(reactors.clone());
    for name in ["a", "b", "c"] {
        memory(&graph, name);
    }
    let before = array([Some("a"), Some("b"), Some("c")], None);
    let mut after = before.clone();
    let Table::Raid { shape, .. } = &mut after else {
        unreachable!()
    };
    *shape = Shape::Raid5 { layout: 2, chunk: 16 };
    wait(graph.build(NodeSpec::new("md", before))).expect("an array");
    let limit = || wait(graph.array("md")).expect("an array").limit;
    assert_eq!(limit(), 0);
    wait(graph.command_array("md", Command::Limit(2048))).expect("a limit");
    wait(graph.replace("md", after)).expect("another array");
    assert_eq!(limit(), 2048);
    reactors.stop()
}
