//! A group that lacks a physical volume: what of it is active is for the administrator to say.
use bdev::{Graph, NodeSpec, Table};
use lvol::{
    Create, Engine, GroupState, Origin, Request, Stamp, Verdict,
    change::ChangeError,
    lvm2::{Activation, Settings},
    plan::Code,
};
use reactor::{Config, Reactors};
use serde_json::{Value, json};
use spec::BlockRange;
use std::{fs::File, path::Path};

const MIB: u64 = 1 << 20;

struct House<'a> {
    engine: &'a Engine,
    dir: &'a Path,
}

impl House<'_> {
    async fn add(&self, name: &str) {
        let table = Table::File {
            path: self.dir.join(name),
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

    async fn change(&self, verb: &str, object: &str, options: Value) -> Result<(), ChangeError> {
        let request = Request {
            verb: verb.into(),
            object: object.into(),
            options: options.as_object().cloned().unwrap_or_default(),
        };
        self.engine.change(&request, &Stamp::now()).await.map(drop)
    }

    async fn refused(&self, verb: &str, object: &str, options: Value) -> Code {
        match self.change(verb, object, options).await {
            Err(ChangeError::Refused(why)) => why.code,
            other => panic!("{other:?}"),
        }
    }

    async fn activation(&self, activation: Activation) {
        let settings = Settings {
            system_id: None,
            activation,
        };
        self.engine.set_lvm2(settings).await;
    }

    fn active(&self) -> String {
        let groups = self.engine.groups();
        let volumes = groups[0].volumes.iter().filter(|volume| volume.inactive.is_none());
        let names: Vec<&str> = volumes
            .inspect(|volume| {
                assert!(
                    self.engine.runtime().graph().unwrap().info(&volume.disk).is_some(),
                    "{}",
                    volume.disk
                )
            })
            .map(|volume| volume.what.name.as_str())
            .collect();
        names.join(" ")
    }

    /// Whether MiB `at` of a volume can be read and written.
    async fn works(&self, volume: &str, at: u64) -> bool {
        let (graph, block) = (self.engine.runtime().graph().unwrap(), at * MIB / 512);
        let read = graph.read(volume, BlockRange::new(block, 8)).await.is_ok();
        let wrote = graph.write(volume, block, vec![7; 4096], false).await.is_ok();
        assert_eq!(read, wrote);
        read
    }
}

#[test]
fn what_lacks_a_disk_is_active_as_far_as_the_administrator_wants() {
    let reactors = Reactors::start(Config {
        count: 1,
        ..Config::default()
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = Engine::new(Graph::new(reactors.clone()));
        let h = House {
            engine: &engine,
            dir: dir.path(),
        };
        for disk in ["d0", "d1"] {
            File::create(dir.path().join(disk)).unwrap().set_len(32 * MIB).unwrap();
            h.add(disk).await;
        }
        let vg = json!({"disks": ["d0", "d1"], "extent_size": "1m"});
        h.change("vg-create", "g", vg).await.unwrap();
        for (name, on) in [("here", "d0"), ("there", "d1"), ("both", "d0")] {
            let lv = json!({"name": name, "extents": 3, "disks": [on]});
            h.change("lv-create", "g", lv).await.unwrap();
        }
        let more = json!({"extents": "+2", "disks": ["d1"]});
        h.change("lv-extend", "g/both", more).await.unwrap();
        let more = json!({"extents": "+1", "disks": ["d0"]});
        h.change("lv-extend", "g/both", more).await.unwrap();
        let lv = json!({"name": "striped", "extents": 4, "stripes": 2});
        h.change("lv-create", "g", lv).await.unwrap();
        assert_eq!(h.active(), "here there both striped");
        assert!(h.works("g/both", 4).await);

        engine.delete("d1", true).await.unwrap();
        assert_eq!(engine.groups()[0].state, GroupState::Partial);
        assert_eq!(h.active(), "here");
        let disk = engine.disk("g/both").unwrap();
        assert_eq!(disk.verdict, Verdict::Inactive);
        assert!(disk.reason.starts_with("needs pv1"), "{}", disk.reason);

        h.activation(Activation::Partial).await;
        assert_eq!(h.active(), "here both");
        let mut works = Vec::new();
        for at in 0..6 {
            works.push(h.works("g/both", at).await);
        }
        assert_eq!(works, [true, true, true, false, false, true]);
        let notes = engine.groups()[0].notes.join("\n");
        assert_eq!(
            notes,
            "g/both is active with gaps: reads and writes of 4096 of its 12288 blocks fail"
        );
        let nothing = "has no extents that are whole on disks that are there";
        assert_eq!(engine.disk("g/there").unwrap().reason, nothing);
        assert_eq!(engine.disk("g/striped").unwrap().reason, nothing);

        h.activation(Activation::Complete).await;
        assert_eq!(h.active(), "");
        let reason = engine.disk("g/here").unwrap().reason;
        assert!(reason.contains("`activation: complete`"), "{reason}");

        // It comes back, and all is as it was: what was written beside the gap, too.
        h.activation(Activation::Partial).await;
        h.add("d1").await;
        assert_eq!(h.active(), "here there both striped");
        assert!(h.works("g/both", 4).await);
        let read = engine
            .runtime()
            .graph()
            .unwrap()
            .read("g/both", BlockRange::new(5 * 2048, 8))
            .await;
        assert_eq!(read.unwrap(), vec![7; 4096]);
        assert_eq!(engine.groups()[0].notes, [""; 0]);

        // It goes for good.
        engine.delete("d1", true).await.unwrap();
        assert_eq!(h.active(), "here both");
        assert_eq!(
            h.refused("vg-reduce", "g", json!({"disks": ["d0"]})).await,
            Code::Incomplete
        );
        let missing = json!({"remove_missing": true});
        assert_eq!(h.refused("vg-reduce", "g", missing).await, Code::InUse);
        let force = json!({"remove_missing": true, "force": true});
        h.change("vg-reduce", "g", force.clone()).await.unwrap();
        assert_eq!(engine.groups()[0].state, GroupState::Complete);
        assert_eq!(h.active(), "here");
        assert_eq!(engine.groups()[0].volumes.len(), 1);
        assert_eq!(h.refused("vg-reduce", "g", force).await, Code::Nothing);
        h.add("d1").await;
        let disk = engine.disk("d1").unwrap();
        assert_eq!(disk.verdict, Verdict::Unclaimed);
        assert!(
            disk.reason.starts_with("was removed from the LVM2 group"),
            "{}",
            disk.reason
        );
    });
    drop(runtime);
    reactors.stop();
}
