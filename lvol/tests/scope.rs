//! Disks that discovery leaves alone: not read, not changed, and let go of when the configuration says so later.
use bdev::{
    Graph, NodeSpec, Table,
    module::error::{Effect, Injection, Ops},
};
use lvol::{Create, Engine, Origin, Request, Scope, Stamp, Verdict, plan::Code, scope::Glob};
use reactor::{Config, Reactors};

fn scope(include: Option<&[&str]>, exclude: &[&str]) -> Scope {
    let globs = |list: &[&str]| list.iter().map(|text| Glob::new(text).unwrap()).collect();
    Scope {
        include: include.map(globs),
        exclude: globs(exclude),
    }
}

fn story(scope: Scope, tell: impl AsyncFnOnce(&Engine)) {
    let reactors = Reactors::start(Config::default()).unwrap();
    let engine = Engine::new(Graph::new(reactors.clone())).with_scope(scope);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(tell(&engine));
    drop((engine, runtime));
    reactors.stop();
}

async fn create(engine: &Engine, name: &str, table: Table) {
    let wish = Create {
        spec: NodeSpec::new(name, table),
        origin: Origin::Rpc,
        examine: true,
    };
    engine.create(wish).await.unwrap();
}

async fn memory(engine: &Engine, name: &str) {
    let table = Table::Memory {
        blocks: 65_536,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    };
    create(engine, name, table).await;
}

fn said(engine: &Engine, name: &str) -> (Verdict, String) {
    let disk = engine.disk(name).unwrap();
    (disk.verdict, disk.reason)
}

async fn change(engine: &Engine, request: Request) -> Result<(), (Code, String)> {
    match engine.change(&request, &Stamp::now()).await {
        Ok(_) => Ok(()),
        Err(lvol::ChangeError::Refused(why)) => Err((why.code, why.reason)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn nothing_is_read_from_a_disk_that_is_left_alone_and_nothing_is_changed_on_it() {
    story(scope(None, &["stuck", "spare*"]), async |engine| {
        memory(engine, "below").await;
        // A read of it would never end.
        let inject = vec![Injection {
            on: Ops::Read,
            ..Injection::new(Effect::Pending)
        }];
        let on = "below".to_owned();
        create(engine, "stuck", Table::Error { on, inject }).await;
        let why = "is left alone by discovery.exclude \"stuck\"".to_owned();
        assert_eq!(said(engine, "stuck"), (Verdict::Unclaimed, why.clone()));
        let told = engine.examine("stuck").await.unwrap();
        assert_eq!((told.reason, told.tasted), (why, 0));

        memory(engine, "spare1").await;
        memory(engine, "data").await;
        let (code, reason) = change(engine, Request::new("label-create", "spare1"))
            .await
            .unwrap_err();
        assert_eq!(code, Code::LeftAlone);
        assert_eq!(reason, "\"spare1\" is left alone by discovery.exclude \"spare*\"");
        let both = Request::new("vg-create", "vg").with("disks", vec!["data", "spare1"]);
        assert_eq!(change(engine, both).await.unwrap_err().0, Code::LeftAlone);
        let can = engine.can(None, "spare1").await.unwrap();
        assert!(!can.is_empty());
        for can in can {
            assert_eq!(can.why.map(|why| why.code), Some(Code::LeftAlone), "{}", can.verb);
        }
        let shown = engine.partition_table("spare1").await.unwrap_err();
        assert_eq!(shown.code, Code::LeftAlone);
        assert_eq!(said(engine, "data").0, Verdict::New);
    });
}

#[test]
fn another_scope_lets_go_of_what_it_does_not_want_and_finds_it_again() {
    story(Scope::default(), async |engine| {
        for name in ["a", "b", "c"] {
            memory(engine, name).await;
        }
        change(engine, Request::new("label-create", "a").with("scheme", "gpt"))
            .await
            .unwrap();
        for size in ["8m", "8m"] {
            let part = Request::new("partition-create", "a").with("size", size);
            change(engine, part).await.unwrap();
        }
        let both = Request::new("vg-create", "vg").with("disks", vec!["b", "ap2"]);
        change(engine, both).await.unwrap();
        let volume = Request::new("lv-create", "vg").with("name", "lv").with("size", "4m");
        let volume = volume.with("disks", vec!["ap2"]);
        change(engine, volume).await.unwrap();
        let names = || -> Vec<String> { engine.disks().into_iter().map(|disk| disk.name).collect() };
        let before = names();
        assert_eq!(before, ["a", "ap1", "ap2", "b", "c", "vg/lv"]);
        let tasted = engine.disk("c").unwrap().tasted;

        // A partition alone: the volume on it cannot be had any more.
        engine.set_scope(scope(None, &["ap2"])).await;
        assert_eq!(said(engine, "ap2").1, "is left alone by discovery.exclude \"ap2\"");
        let (verdict, why) = said(engine, "vg/lv");
        assert!(verdict == Verdict::Inactive && why.contains("missing"), "{why}");
        let delete = change(engine, Request::new("partition-delete", "ap2")).await;
        assert_eq!(delete.unwrap_err().0, Code::LeftAlone);

        engine.set_scope(scope(Some(&["[bc]"]), &[])).await;
        assert_eq!(
            said(engine, "a").1,
            "is left alone: no glob of discovery.include matches it"
        );
        assert_eq!(names(), ["a", "b", "c", "vg/lv"]);

        engine.set_scope(Scope::default()).await;
        assert_eq!(names(), before);
        assert_eq!(said(engine, "vg/lv").0, Verdict::New);
        assert_eq!(engine.disk("c").unwrap().tasted, tasted, "looked at again for nothing");
    });
}

#[test]
fn what_is_in_use_stays_and_says_so() {
    story(Scope::default(), async |engine| {
        memory(engine, "a").await;
        change(engine, Request::new("label-create", "a").with("scheme", "gpt"))
            .await
            .unwrap();
        let part = Request::new("partition-create", "a").with("size", "8m");
        change(engine, part).await.unwrap();
        let graph = engine.runtime().graph().unwrap().clone();
        let open = graph.pin("ap1", "a host").unwrap();
        engine.set_scope(scope(None, &["a"])).await;
        let disk = engine.disk("a").unwrap();
        assert_eq!(disk.reason, "is left alone by discovery.exclude \"a\"");
        let note = &disk.notes[0];
        assert!(
            note.starts_with("a is left alone") && note.contains("ap1 stays because"),
            "{note}"
        );
        assert!(engine.disk("ap1").is_some());
        drop(open);
    });
}
