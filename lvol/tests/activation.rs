//! Which volumes run, as somebody asks for it while the engine lives: nothing is written, and what is in use stays.
use bdev::{Graph, NodeSpec, Table};
use lvol::{Activated, ChangeError, Create, Desired, Engine, Origin, Request, Stamp, Verdict, plan::Code};
use reactor::{Config, Reactors};
use serde_json::{Value, json};
use spec::BlockRange;

struct House {
    engine: Engine,
}

impl House {
    fn graph(&self) -> &Graph {
        self.engine.runtime().graph().unwrap()
    }

    async fn change(&self, verb: &str, object: &str, options: Value) {
        let request = Request {
            verb: verb.into(),
            object: object.into(),
            options: options.as_object().cloned().unwrap_or_default(),
        };
        self.engine.change(&request, &Stamp::now()).await.unwrap();
    }

    async fn activate(&self, object: &str, desired: Desired) -> Result<Activated, (Code, String)> {
        match self.engine.activate(object, desired).await {
            Ok(done) => Ok(done),
            Err(ChangeError::Refused(why)) => Err((why.code, why.reason)),
            Err(other) => panic!("{other}"),
        }
    }

    fn said(&self, name: &str) -> (Verdict, String) {
        let disk = self.engine.disk(name).unwrap();
        (disk.verdict, disk.reason)
    }

    /// Volumes that run.
    fn active(&self) -> Vec<String> {
        let volumes = self.engine.volumes_of("vg").into_iter();
        volumes.map(|disk| disk.trim_start_matches("vg/").to_owned()).collect()
    }

    async fn bytes(&self) -> Vec<u8> {
        self.graph().read("d", BlockRange::new(0, 4096)).await.unwrap()
    }
}

/// A group `vg` with the volumes a, b, one that does not become active by itself and one that is left out.
fn story(tell: impl AsyncFnOnce(&House)) {
    let reactors = Reactors::start(Config::default()).unwrap();
    let house = House {
        engine: Engine::new(Graph::new(reactors.clone())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let table = Table::Memory {
            blocks: 131_072,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        let wish = Create {
            spec: NodeSpec::new("d", table),
            origin: Origin::Rpc,
            examine: true,
        };
        house.engine.create(wish).await.unwrap();
        house.change("vg-create", "vg", json!({"disks": ["d"]})).await;
        for name in ["a", "b", "hand", "left"] {
            house
                .change("lv-create", "vg", json!({"name": name, "size": "4m"}))
                .await;
        }
        house
            .change("lv-change", "vg/hand", json!({"autoactivation": false}))
            .await;
        house
            .change("lv-change", "vg/left", json!({"activation_skip": true}))
            .await;
        assert_eq!(house.active(), ["a", "b"]);
        tell(&house).await;
    });
    drop((house, runtime));
    reactors.stop();
}

#[test]
fn volumes_come_and_go_as_is_asked_for_and_nothing_is_written() {
    story(async |h| {
        let before = h.bytes().await;
        let done = h.activate("vg/a", Desired::Inactive).await.unwrap();
        assert_eq!(done.inactive, ["vg/a"]);
        assert_eq!(h.active(), ["b"]);
        assert!(h.graph().info("vg/a").is_none());
        let (verdict, why) = h.said("vg/a");
        assert!(
            verdict == Verdict::Inactive && why.starts_with("was deactivated"),
            "{why}"
        );
        // It is that volume, whatever it is called; and another change of the group does not bring it back.
        h.change("lv-rename", "vg/a", json!({"name": "z"})).await;
        h.change("lv-create", "vg", json!({"name": "c", "size": "4m"})).await;
        assert_eq!(h.active(), ["b", "c"]);
        h.engine.rescan().await;
        assert_eq!(h.active(), ["b", "c"]);
        assert_eq!(h.activate("vg/z", Desired::Active).await.unwrap().active, ["vg/z"]);
        assert_eq!(h.active(), ["z", "b", "c"]);
        h.change("lv-rename", "vg/z", json!({"name": "a"})).await;
        h.change("lv-remove", "vg/c", json!({})).await;

        // By hand only; and left out unless one insists.
        let changed = h.bytes().await;
        assert_ne!(changed, before);
        assert_eq!(
            h.activate("vg/hand", Desired::Active).await.unwrap().active,
            ["vg/hand"]
        );
        let (code, why) = h.activate("vg/left", Desired::Active).await.unwrap_err();
        assert!(code == Code::Incomplete && why.contains("-ay -K"), "{why}");
        assert!(h.said("vg/left").1.starts_with("is marked to be left out"));
        let all = h.activate("vg", Desired::Active).await.unwrap();
        assert_eq!((all.active.len(), all.inactive), (3, vec!["vg/left".to_owned()]));
        assert!(all.warnings[0].starts_with("vg/left is marked"), "{:?}", all.warnings);
        assert_eq!(
            h.activate("vg/left", Desired::Anyway).await.unwrap().active,
            ["vg/left"]
        );
        assert_eq!(h.active(), ["a", "b", "hand", "left"]);
        // As the metadata says.
        h.activate("vg", Desired::Auto).await.unwrap();
        assert_eq!(h.active(), ["a", "b"]);
        h.activate("vg", Desired::Inactive).await.unwrap();
        assert_eq!(h.active(), [""; 0]);
        assert_eq!(h.bytes().await, changed);
        let (code, why) = h.activate("vg/none", Desired::Active).await.unwrap_err();
        assert!(code == Code::NotFound && why.contains("vg/none"), "{why}");
    });
}

#[test]
fn what_is_in_use_stays_and_with_it_the_whole_group() {
    story(async |h| {
        let open = h.graph().pin("vg/b", "a host").unwrap();
        for object in ["vg/b", "vg"] {
            let (code, why) = h.activate(object, Desired::Inactive).await.unwrap_err();
            assert_eq!((code, why.as_str()), (Code::InUse, "\"vg/b\" is in use by a host"));
            assert_eq!(h.active(), ["a", "b"]);
        }
        drop(open);
        // Something stands on it.
        let wish = Create {
            spec: NodeSpec::new("above", Table::Passthru { on: "vg/b".into() }),
            origin: Origin::Rpc,
            examine: false,
        };
        h.engine.create(wish).await.unwrap();
        let (code, why) = h.activate("vg", Desired::Inactive).await.unwrap_err();
        assert!(code == Code::InUse && why.contains("\"above\""), "{why}");
        h.engine.delete("above", false).await.unwrap();
        h.activate("vg", Desired::Inactive).await.unwrap();
        assert_eq!(h.active(), [""; 0]);
        h.change("vg-export", "vg", json!({})).await;
        let (code, why) = h.activate("vg", Desired::Active).await.unwrap_err();
        assert!(code == Code::Foreign && why.contains("exported"), "{why}");
    });
}
