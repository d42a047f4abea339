//! A wish that would give one block two addresses is refused by the name of the rule, and leaves nothing behind.
use bdev::{Graph, NodeSpec, Table, table::Segment};
use lvol::{Create, Engine, Origin};
use reactor::{Config, Reactors};

fn wish(name: &str, table: Table) -> Create {
    Create {
        spec: NodeSpec::new(name, table),
        origin: Origin::Rpc,
        examine: false,
    }
}

fn memory(name: &str) -> Create {
    let table = Table::Memory {
        blocks: 1024,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    };
    wish(name, table)
}

fn window(name: &str, on: &str, start: u64, blocks: u64) -> Create {
    let segment = Segment {
        on: on.to_owned(),
        start,
        blocks,
    };
    wish(
        name,
        Table::Linear {
            segments: vec![segment],
        },
    )
}

fn stripe(name: &str, on: [&str; 2]) -> Create {
    let on = on.map(str::to_owned).to_vec();
    wish(name, Table::Stripe { on, chunk: 8 })
}

#[test]
fn no_wish_reaches_a_block_twice() {
    let reactors = Reactors::start(Config::default()).unwrap();
    let engine = Engine::new(Graph::new(reactors.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for good in [
            memory("a"),
            memory("b"),
            window("low", "a", 0, 512),
            window("high", "a", 512, 512),
            window("across", "a", 504, 512),
            stripe("halves", ["low", "high"]),
        ] {
            engine.create(good).await.unwrap();
        }
        for (name, on) in [("x", ["b", "b"]), ("y", ["low", "across"]), ("z", ["halves", "low"])] {
            let why = engine.create(stripe(name, on)).await.unwrap_err().to_string();
            assert!(why.contains("reached-twice") && why.contains(name), "{why}");
            let why = engine.create_or_wait(stripe(name, on)).await.unwrap_err().to_string();
            assert!(why.contains("reached-twice"), "{why}");
            assert!(engine.disk(name).is_none(), "{name} is there, or waited for");
        }
        engine.create(stripe("pair", ["b", "across"])).await.unwrap();
    });
    drop(runtime);
    reactors.stop();
}
