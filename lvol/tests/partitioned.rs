//! Partition tables changed under a running graph: hosts keep what they use, and everything else follows the table.
use bdev::{Graph, NodeSpec, Table};
use lvol::{Applied, ChangeError, Create, Engine, Origin, Registry, Request, Stamp, Verdict, plan::Code};
use reactor::{Config, Reactors};
use serde_json::{Value, json};
use spec::BlockRange;
use std::{cell::Cell, future::Future};
use uuid::Uuid;

struct House {
    engine: Engine,
    _state: tempfile::TempDir,
    steps: Cell<u32>,
}

fn request(verb: &str, object: &str, options: Value) -> Request {
    let mut request = Request::new(verb, object);
    request.options = options.as_object().cloned().unwrap_or_default();
    request
}

impl House {
    fn graph(&self) -> &Graph {
        self.engine.runtime().graph().unwrap()
    }

    async fn memory(&self, name: &str, blocks: u64) {
        let table = Table::Memory {
            blocks,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        let wish = Create {
            spec: NodeSpec::new(name, table),
            origin: Origin::Rpc,
            examine: true,
        };
        self.engine.create(wish).await.unwrap();
    }

    fn stamp(&self) -> Stamp {
        self.steps.set(self.steps.get() + 1);
        Stamp {
            seed: Uuid::from_u128(self.steps.get().into()),
            time: 1_700_000_000,
            host: "tester".into(),
        }
    }

    async fn attempt(&self, verb: &str, object: &str, options: Value) -> Result<Applied, ChangeError> {
        self.engine.change(&request(verb, object, options), &self.stamp()).await
    }

    async fn act(&self, verb: &str, object: &str, options: Value) -> Applied {
        let done = self.attempt(verb, object, options.clone()).await;
        done.unwrap_or_else(|why| panic!("{verb} {object} {options}: {why}"))
    }

    async fn refused(&self, verb: &str, object: &str, options: Value) -> Code {
        match self.attempt(verb, object, options.clone()).await {
            Err(ChangeError::Refused(why)) => why.code,
            other => panic!("{verb} {object} {options}: {other:?}"),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.graph().list().into_iter().map(|node| node.name).collect();
        names.sort();
        names
    }

    fn blocks(&self, name: &str) -> u64 {
        self.graph().info(name).unwrap().geometry.blocks
    }

    async fn put(&self, name: &str, at: u64, byte: u8) {
        self.graph().write(name, at, vec![byte; 512], false).await.unwrap();
    }

    async fn get(&self, name: &str, at: u64) -> u8 {
        let block = self.graph().read(name, BlockRange::new(at, 1)).await.unwrap();
        assert!(block.iter().all(|byte| *byte == block[0]));
        block[0]
    }
}

fn house<F: Future<Output = ()>>(story: impl FnOnce(House) -> F) {
    let reactors = Reactors::start(Config {
        count: 2,
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
    runtime.block_on(story(House {
        engine,
        _state: state,
        steps: Cell::default(),
    }));
    drop(runtime);
    reactors.stop();
}

#[test]
fn partitions_come_grow_under_a_host_and_go_and_come_back() {
    house(async |h| {
        h.memory("m", 131_072).await;
        h.act("label-create", "m", json!({"scheme": "gpt"})).await;
        assert_eq!(h.engine.disk("m").unwrap().reason, "GPT with no partitions");
        for size in ["8m", "4m", "2m"] {
            h.act("partition-create", "m", json!({ "size": size })).await;
        }
        assert_eq!(h.names(), ["m", "mp1", "mp2", "mp3"]);
        h.put("mp2", 8191, 0x22).await;
        h.put("mp1", 0, 0x11).await;

        // A host has the second open: what is behind it goes, and it grows while it is open.
        let open = h.graph().pin("mp2", "a host").unwrap();
        let code = h.refused("partition-delete", "mp2", json!({})).await;
        assert_eq!(code, Code::InUse);
        assert_eq!(
            h.refused("partition-resize", "mp2", json!({"size": "-1m"})).await,
            Code::InUse
        );
        assert_eq!(h.refused("label-remove", "m", json!({})).await, Code::InUse);
        let gone = h.act("partition-delete", "mp3", json!({})).await;
        assert_eq!(h.names(), ["m", "mp1", "mp2"]);
        let uuid = h.graph().info("mp2").unwrap().uuid;
        h.act("partition-resize", "mp2", json!({"size": "12m"})).await;
        assert_eq!((h.blocks("mp2"), h.graph().info("mp2").unwrap().uuid), (24_576, uuid));
        assert_eq!((h.get("mp2", 8191).await, h.get("mp2", 24_575).await), (0x22, 0));
        // The room is taken, so the third cannot come back; and nothing was written.
        let refused = h.engine.undo(gone.number.unwrap(), &h.stamp()).await;
        assert!(refused.is_err(), "{refused:?}");
        drop(open);

        let back = h.act("partition-delete", "mp1", json!({})).await;
        assert_eq!(h.names(), ["m", "mp2"]);
        h.engine.undo(back.number.unwrap(), &h.stamp()).await.unwrap();
        assert_eq!(
            (h.names(), h.get("mp1", 0).await),
            (vec!["m".into(), "mp1".into(), "mp2".into()], 0x11)
        );

        // A new GUID is another disk.
        let guid = Uuid::from_u128(77);
        h.act("partition-change", "mp1", json!({"guid": guid, "name": "other"}))
            .await;
        assert_eq!(h.graph().info("mp1").unwrap().uuid, guid);
        h.act("label-remove", "m", json!({})).await;
        assert_eq!(h.names(), ["m"]);
        assert_ne!(h.engine.disk("m").unwrap().verdict, Verdict::Claimed);
    });
}

#[test]
fn a_change_is_taken_back_while_hosts_use_what_it_did_not_touch() {
    house(async |h| {
        h.memory("m", 131_072).await;
        h.act("label-create", "m", json!({"scheme": "gpt"})).await;
        for size in ["8m", "4m", "2m"] {
            h.act("partition-create", "m", json!({ "size": size })).await;
        }
        h.put("mp1", 0, 0x11).await;
        h.put("mp2", 0, 0x22).await;
        let open = h.graph().pin("mp2", "a host").unwrap();
        let named = h.act("partition-change", "mp3", json!({"name": "other"})).await;
        let gone = h.act("partition-delete", "mp1", json!({})).await;
        h.engine.undo(gone.number.unwrap(), &h.stamp()).await.unwrap();
        h.engine.undo(named.number.unwrap(), &h.stamp()).await.unwrap();
        assert_eq!(h.names(), ["m", "mp1", "mp2", "mp3"]);
        assert_eq!((h.get("mp1", 0).await, h.get("mp2", 0).await), (0x11, 0x22));

        // What is in use itself would shrink, or go.
        h.act("partition-delete", "mp3", json!({})).await;
        let grown = h.act("partition-resize", "mp2", json!({"size": "+1m"})).await;
        let why = h.engine.undo(grown.number.unwrap(), &h.stamp()).await.unwrap_err();
        assert!(
            why.to_string()
                .contains("\"mp2\" is in use, and would be of another size"),
            "{why}"
        );
        let made = h
            .act("partition-create", "m", json!({"start": "40m", "size": "4m"}))
            .await;
        let other = h.graph().pin("mp3", "a host").unwrap();
        let why = h.engine.undo(made.number.unwrap(), &h.stamp()).await.unwrap_err();
        assert!(
            why.to_string().contains("\"mp3\" is in use, and would be gone"),
            "{why}"
        );
        drop(other);
        h.engine.undo(made.number.unwrap(), &h.stamp()).await.unwrap();
        assert_eq!(
            (h.names(), h.blocks("mp2")),
            (vec!["m".into(), "mp1".into(), "mp2".into()], 10_240)
        );
        drop(open);
        h.engine.undo(grown.number.unwrap(), &h.stamp()).await.unwrap();
        assert_eq!((h.blocks("mp2"), h.get("mp2", 0).await), (8192, 0x22));

        // A label that was taken off leaves a blank disk, and comes back whole.
        let off = h.act("label-remove", "m", json!({})).await;
        assert_eq!(h.engine.disk("m").unwrap().verdict, Verdict::New);
        let fresh = h.act("label-create", "m", json!({"scheme": "dos"})).await;
        h.engine.undo(fresh.number.unwrap(), &h.stamp()).await.unwrap();
        h.engine.undo(off.number.unwrap(), &h.stamp()).await.unwrap();
        assert_eq!(
            (h.names(), h.get("mp2", 0).await),
            (vec!["m".into(), "mp1".into(), "mp2".into()], 0x22)
        );
    });
}

#[test]
fn logical_partitions_get_other_names_only_when_nobody_uses_them() {
    house(async |h| {
        h.memory("m", 131_072).await;
        h.act("label-create", "m", json!({"scheme": "dos"})).await;
        h.act("partition-create", "m", json!({"size": "40m", "place": "extended"}))
            .await;
        for byte in [5, 6, 7] {
            h.act("partition-create", "m", json!({"size": "4m", "place": "logical"}))
                .await;
            h.put(&format!("mp{byte}"), 0, byte).await;
        }
        assert_eq!(h.names(), ["m", "mp5", "mp6", "mp7"]);
        let open = h.graph().pin("mp7", "a host").unwrap();
        assert_eq!(h.refused("partition-delete", "mp6", json!({})).await, Code::InUse);
        assert_eq!(h.refused("partition-delete", "mp1", json!({})).await, Code::InUse);
        assert_eq!(h.get("mp7", 0).await, 7);
        drop(open);
        let plan = h.act("partition-delete", "mp5", json!({})).await;
        assert_eq!(
            (h.names(), h.get("mp5", 0).await, h.get("mp6", 0).await),
            (vec!["m".into(), "mp5".into(), "mp6".into()], 6, 7),
            "{plan:?}"
        );
        let shown = h.engine.partition_table("m").await.unwrap();
        let numbers: Vec<&str> = shown.partitions.iter().map(|row| row.node.as_str()).collect();
        assert_eq!((shown.label, numbers), ("dos", vec!["mp1", "mp5", "mp6"]));
    });
}

#[test]
fn what_is_said_to_be_possible_is() {
    house(async |h| {
        h.memory("blank", 131_072).await;
        h.memory("m", 131_072).await;
        h.act("label-create", "m", json!({"scheme": "gpt"})).await;
        h.act("partition-create", "m", json!({"size": "8m"})).await;
        h.act("partition-create", "m", json!({"size": "8m"})).await;
        let open = h.graph().pin("mp2", "a host").unwrap();
        let mut yes = Vec::new();
        for object in ["blank", "m", "mp1", "mp2"] {
            for can in h.engine.can(None, object).await.unwrap() {
                let ours = ["label-", "partition-"].iter().any(|start| can.verb.starts_with(start));
                if !ours {
                    continue;
                }
                let mut request = Request::new(can.verb, object);
                request.options = can.options.clone();
                let plan = h.engine.plan(&request, &h.stamp()).await;
                assert_eq!(plan.is_ok(), can.possible, "{can:?}");
                if can.possible {
                    yes.push((object, can.verb));
                }
            }
        }
        drop(open);
        assert_eq!(
            yes,
            [
                ("blank", "label-create"),
                ("m", "partition-create"),
                ("mp1", "label-create"),
                ("mp1", "partition-delete"),
                ("mp1", "partition-resize"),
                ("mp1", "partition-change"),
                ("mp2", "partition-resize"),
                ("mp2", "partition-change"),
            ]
        );
        assert!(Registry::builtin().verbs().len() > 7);
    });
}

#[test]
fn a_plan_is_not_carried_out_on_a_disk_that_changed() {
    house(async |h| {
        h.memory("m", 131_072).await;
        h.act("label-create", "m", json!({"scheme": "gpt"})).await;
        let stamp = h.stamp();
        let plan = h
            .engine
            .plan(&request("partition-create", "m", json!({"size": "8m"})), &stamp)
            .await
            .unwrap();
        h.act("partition-create", "m", json!({"size": "1m"})).await;
        let stale = h.engine.apply(&plan).await;
        assert!(matches!(stale, Err(ChangeError::Stale)), "{stale:?}");
        let plan = h
            .engine
            .plan(&request("partition-create", "m", json!({"size": "8m"})), &stamp)
            .await
            .unwrap();
        h.engine.apply(&plan).await.unwrap();
        assert_eq!(h.names(), ["m", "mp1", "mp2"]);
    });
}
