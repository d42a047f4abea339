//! A configuration applied to a target in this process, on ports of its own, and shown again.
use bdev::{Graph, Table};
use config::{Config, apply, parse, show, to_yaml};
use lvol::{Engine, Handle, Verdict};
use reactor::Reactors;
use spec::{gpt, mbr};
use std::{fs, future::Future, net::TcpListener, os::unix::fs::FileExt, path::Path};
use target::{iscsi::Iscsi, nvmf::Nvmf};
use uuid::Uuid;

struct House {
    engine: Handle,
    iscsi: Iscsi,
    nvmf: Nvmf,
    state: tempfile::TempDir,
}

impl House {
    async fn apply(&self, config: &Config) -> Result<config::Applied, config::apply::ApplyError> {
        apply(config, self.state.path(), &self.engine, &self.iscsi, &self.nvmf).await
    }
    async fn show(&self, base: &Config) -> Config {
        let wishes = self.engine.wishes().await.unwrap();
        show(base, &wishes, self.engine.graph(), &self.iscsi, &self.nvmf)
    }
    fn blocks(&self, name: &str) -> u64 {
        self.engine
            .graph()
            .info(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .geometry
            .blocks
    }
    fn targets(&self) -> Vec<String> {
        self.iscsi.target_nodes().into_iter().map(|node| node.name).collect()
    }
    fn subsystems(&self) -> Vec<String> {
        self.nvmf
            .subsystems()
            .into_iter()
            .filter(|s| !s.discovery)
            .map(|s| s.nqn)
            .collect()
    }
}

fn house<F: Future<Output = ()>>(story: impl FnOnce(House) -> F) {
    let reactors = Reactors::start(reactor::Config {
        count: 1,
        ..Default::default()
    })
    .unwrap();
    let graph = Graph::new(reactors.clone());
    let house = House {
        engine: Handle::here(graph.clone(), Engine::new(graph.clone())),
        iscsi: Iscsi::new(reactors.clone(), graph.clone()),
        nvmf: Nvmf::new(reactors.clone(), graph),
        state: tempfile::tempdir().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(story(house));
    drop(runtime);
    reactors.stop();
}

/// Text of a configuration with two ports that are free.
fn on_free_ports(text: &str) -> String {
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
            .to_string()
    };
    text.replace("3260", &free()).replace("4420", &free())
}

fn quickstart() -> String {
    on_free_ports(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart.yaml")).unwrap())
}

/// A GPT with one partition for each (number, first block, blocks).
fn label(path: &Path, blocks: u64, parts: &[(u32, u64, u64)]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(blocks * 512).unwrap();
    let mut record = mbr::Record::new(0);
    record.set(
        1,
        Some(mbr::Entry {
            active: false,
            kind: 0xee,
            start: 1,
            count: blocks as u32 - 1,
        }),
    );
    file.write_all_at(&record.to_bytes(), 0).unwrap();
    for backup in [false, true] {
        let mut table = gpt::Table::new(blocks, 512, Uuid::from_u128(1), backup).unwrap();
        for &(number, first, count) in parts {
            let guid = Uuid::from_u128(100 + u128::from(number));
            let last = first + count - 1;
            let entry = gpt::Entry {
                kind: gpt::types::LINUX,
                guid,
                first,
                last,
                attributes: 0,
                name: "x".into(),
            };
            assert!(table.set(number, Some(&entry)));
        }
        let (header, array) = table.to_bytes();
        file.write_all_at(&header, if backup { blocks - 1 } else { 1 } * 512)
            .unwrap();
        file.write_all_at(&array, table.header.array().start * 512).unwrap();
    }
}

#[test]
fn the_quickstart_makes_what_it_says() {
    house(async |h| {
        let config = parse(&quickstart()).unwrap();
        let applied = h.apply(&config).await.unwrap();
        assert!(applied.waiting().is_empty(), "{:?}", applied.waiting());
        for file in ["disk-a.img", "disk-b.img"] {
            assert_eq!(fs::metadata(h.state.path().join(file)).unwrap().len(), 1 << 30);
        }
        assert_eq!(
            [h.blocks("disk-a"), h.blocks("pair"), h.blocks("scratch")],
            [1 << 21, 1 << 21, 1 << 17]
        );
        let Table::Stripe { on, chunk } = h.engine.graph().info("pair").unwrap().table else {
            panic!("no stripe")
        };
        assert_eq!((on, chunk), (vec!["left".into(), "right".into()], 128));
        assert_eq!(
            h.targets(),
            ["whole", "striped", "memory"]
                .map(|n| format!("iqn.2026-11.io.ashlar:{n}"))
                .sorted()
        );
        assert_eq!(
            h.subsystems(),
            ["whole", "striped", "memory"]
                .map(|n| format!("nqn.2026-11.io.ashlar:{n}"))
                .sorted()
        );
        let node = h
            .iscsi
            .target_nodes()
            .into_iter()
            .find(|n| n.name.ends_with("striped"))
            .unwrap();
        assert_eq!((node.luns.len(), node.luns[0].bdev_name.as_str()), (1, "pair"));
        // Nothing is looked into that hosts use as a whole.
        assert_eq!(
            h.engine.disk("disk-a").await.unwrap().unwrap().verdict,
            Verdict::Unexamined
        );
        assert_eq!(h.engine.disk("disk-a").await.unwrap().unwrap().tasted, 0);

        // Again is harmless.
        h.apply(&config).await.unwrap();
        assert_eq!((h.targets().len(), h.subsystems().len()), (3, 3));

        // Shown, it can be loaded, and means the same: read, applied to nothing new, and shown again.
        let shown = h.show(&config).await;
        let text = to_yaml(&shown).unwrap();
        let again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, shown);
        h.apply(&again).await.unwrap();
        assert_eq!(h.show(&config).await, shown);
        assert_eq!(shown.disks.len(), 3);
        assert_eq!(shown.tables.len(), 3);
    });
}

#[test]
fn what_is_shown_builds_the_same_elsewhere() {
    let text = on_free_ports(
        "disks:\n  - {name: m, memory: 8MiB}\n  - {name: n, memory: 8MiB, block_size: 4096}\n  - {name: z, void: 1TiB}\n\
         tables:\n  - {name: slow, delay: {on: z, read: 1ms, write: 20us, write_p99: 1s}}\n  - name: cut\n    linear: [{on: n, start: 1MiB, size: 2MiB}, {on: n, start: 4MiB}]\n\
         targets:\n  iscsi:\n    portals: [127.0.0.1:3260]\n    nodes:\n      - name: iqn.2026-11.io.ashlar:t\n        luns: [{lun: 3, volume: m}, {lun: 5, volume: cut}]\n        access: [{portal_group: 1, initiators: [iqn.1993-08.org.debian:01:x]}]\n\
         \x20 nvme:\n    listeners: [127.0.0.1:4420]\n    dup_host_policy: restrict_per_listener\n    subsystems:\n      - nqn: nqn.2026-11.io.ashlar:s\n        model: A model\n        min_cntlid: 100\n        max_cntlid: 199\n        enable_nssr: true\n        namespaces: [{nsid: 9, volume: slow}, {nsid: 10, volume: m, hosts: [nqn.2014-08.org.nvmexpress:uuid:0191d2a4-7a3e-7c4b-9f55-3f6f3c2b1a02]}, {nsid: 11, volume: cut, hosts: []}]\n        hosts: [nqn.2014-08.org.nvmexpress:uuid:0191d2a4-7a3e-7c4b-9f55-3f6f3c2b1a02]\n",
    );
    let config = parse(&text).unwrap();
    let (first, second) = (std::cell::RefCell::new(None), std::cell::RefCell::new(None));
    house(async |h| {
        h.apply(&config).await.unwrap();
        assert_eq!(h.blocks("cut"), 512 + 1024);
        let shown = h.show(&config).await;
        *first.borrow_mut() = Some(shown);
    });
    let shown = first.take().unwrap();
    let again = parse(&to_yaml(&shown).unwrap()).unwrap();
    house(async |h| {
        h.apply(&again).await.unwrap();
        let shown = h.show(&again).await;
        *second.borrow_mut() = Some(shown);
    });
    assert_eq!(second.take().unwrap(), shown);
    // And what was said is what is shown, but for what nobody had to say.
    let (node, said) = (&shown.targets.iscsi.nodes[0], &config.targets.iscsi.nodes[0]);
    assert_eq!((&node.luns, &node.access), (&said.luns, &said.access));
    let (subsystem, said) = (&shown.targets.nvme.subsystems[0], &config.targets.nvme.subsystems[0]);
    assert_eq!(
        (&subsystem.namespaces, &subsystem.hosts, &subsystem.model),
        (&said.namespaces, &said.hosts, &said.model)
    );
    assert_eq!(
        (&subsystem.min_cntlid, &subsystem.max_cntlid),
        (&said.min_cntlid, &said.max_cntlid)
    );
    // That others serve it, too, follows from the controller ids.
    assert_eq!((subsystem.shared, subsystem.enable_nssr), (None, true));
    assert_eq!(shown.targets.nvme.dup_host_policy, config.targets.nvme.dup_host_policy);
    assert_eq!(
        shown.tables.iter().find(|t| &**t.name == "slow"),
        config.tables.iter().find(|t| &**t.name == "slow")
    );
}

#[test]
fn partitions_are_served_as_they_are_found_now_and_later() {
    house(async |h| {
        label(
            &h.state.path().join("now.img"),
            40_000,
            &[(1, 2048, 1000), (2, 8192, 2000)],
        );
        let config = parse(&on_free_ports(
            "disks:\n  - {name: now, file: now.img}\n  - {name: late, file: late.img}\n\
             tables:\n  - {name: top, passthru: {on: latep2}}\n\
             volumes:\n  - partitions_of: now\n  - {partitions_of: late, over: [nvme]}\n  - on: top\n\
             targets:\n  iscsi: {portals: [127.0.0.1:3260]}\n  nvme: {listeners: [127.0.0.1:4420]}\n",
        ));
        // One of its partitions under a table, the others served: refused, so that nobody writes where another does.
        let said = config.unwrap_err().to_string();
        assert!(
            said.contains("\"late\" itself is used by") || said.contains("is used"),
            "{said}"
        );

        let text = on_free_ports(
            "disks:\n  - {name: now, file: now.img}\n  - {name: late, file: late.img}\n\
             volumes:\n  - partitions_of: now\n  - {partitions_of: late, over: [nvme]}\n\
             targets:\n  iscsi: {portals: [127.0.0.1:3260]}\n  nvme: {listeners: [127.0.0.1:4420]}\n",
        );
        let config = parse(&text).unwrap();
        let applied = h.apply(&config).await.unwrap();
        assert_eq!(applied.waiting().keys().collect::<Vec<_>>(), ["disk \"late\""]);
        assert_eq!(
            h.targets(),
            ["iqn.2026-11.io.ashlar:nowp1", "iqn.2026-11.io.ashlar:nowp2"]
        );
        assert_eq!(
            h.subsystems(),
            ["nqn.2026-11.io.ashlar:nowp1", "nqn.2026-11.io.ashlar:nowp2"]
        );

        let settling = applied.settling();
        let keeping = tokio::spawn(applied.keep());
        label(&h.state.path().join("late.img"), 40_000, &[(3, 4096, 500)]);
        h.engine.rescan().await.unwrap();
        // Whoever changes something hears that it is done when hosts have it.
        assert!(settling.settled().await);
        assert_eq!(h.subsystems()[0], "nqn.2026-11.io.ashlar:latep3");
        assert_eq!(h.targets().len(), 2);
        let offered = h.nvmf.subsystem("nqn.2026-11.io.ashlar:latep3").unwrap();
        assert_eq!(
            (offered.namespaces[0].volume.as_str(), offered.namespaces[0].uuid),
            ("latep3", Uuid::from_u128(103))
        );
        keeping.abort();
        let _ = keeping.await;
        // Nobody looks any more, so nobody is waited for.
        assert!(settling.settled().await);
    });
}

#[test]
fn what_is_taken_away_later_stays_away() {
    house(async |h| {
        let text = on_free_ports(
            "disks:\n  - {name: a, memory: 8MiB}\n  - {name: b, memory: 8MiB}\n  - {name: spare, memory: 8MiB}\n\
             \x20 - {name: late, file: late.img}\n\
             volumes:\n  - on: a\n  - on: b\n  - on: late\n\
             targets:\n  iscsi: {portals: [127.0.0.1:3260], auth_groups: [{tag: 3, users: []}]}\n  nvme: {listeners: [127.0.0.1:4420]}\n",
        );
        let applied = h.apply(&parse(&text).unwrap()).await.unwrap();
        let settling = applied.settling();
        let keeping = tokio::spawn(applied.keep());
        let (a, b) = ("nqn.2026-11.io.ashlar:a", "nqn.2026-11.io.ashlar:b");
        h.iscsi.delete_target_node("iqn.2026-11.io.ashlar:a").unwrap();
        h.iscsi.delete_portal_group(1).unwrap();
        h.iscsi.delete_auth_group(3).unwrap();
        h.nvmf.delete_subsystem(a).await.unwrap();
        h.nvmf.remove_namespace(b, 1).await.unwrap();
        let listener = h.nvmf.subsystem(b).unwrap().listen_addresses[0].clone();
        h.nvmf.remove_listener(b, &listener).await.unwrap();
        h.engine.delete("spare", false).await.unwrap();
        // Resized, it is not as wished any more, which is no reason to stop here.
        h.engine.resize("b", 1 << 15).await.unwrap();
        fs::write(h.state.path().join("late.img"), vec![0; 1 << 20]).unwrap();
        h.engine.rescan().await.unwrap();
        assert!(settling.settled().await);
        assert_eq!(
            h.targets(),
            ["iqn.2026-11.io.ashlar:b", "iqn.2026-11.io.ashlar:late"],
            "what was waited for has come, and nothing else"
        );
        assert_eq!(h.subsystems(), [b, "nqn.2026-11.io.ashlar:late"]);
        let left = h.nvmf.subsystem(b).unwrap();
        assert!(left.namespaces.is_empty() && left.listen_addresses.is_empty());
        assert!(h.iscsi.portal_groups().is_empty() && h.iscsi.auth_groups().is_empty());
        assert!(h.engine.disk("spare").await.unwrap().is_none());
        keeping.abort();
    });
}

#[test]
fn a_node_that_is_there_and_different_is_left_alone() {
    house(async |h| {
        h.apply(&parse("disks:\n  - {name: m, memory: 8MiB}\n").unwrap())
            .await
            .unwrap();
        let refused = h
            .apply(&parse("disks:\n  - {name: m, memory: 9MiB}\n").unwrap())
            .await
            .err()
            .unwrap();
        assert_eq!(
            refused.to_string(),
            "\"m\" is there already and is something else; delete it or give this one another name"
        );
        assert_eq!(h.blocks("m"), 8 << 11);
    });
}

#[test]
fn secrets_come_from_their_files_and_are_not_shown() {
    use std::os::unix::fs::PermissionsExt;
    house(async |h| {
        let text = on_free_ports(
            "disks: [{name: a, memory: 1MiB}]\n\
             targets:\n  iscsi:\n    portals: [127.0.0.1:3260]\n    max_sessions: 9\n\
             \x20   auth_groups: [{tag: 1, users: [{user: u, secret_file: u, mutual: {user: me, secret_file: me}}]}]\n\
             \x20   discovery_auth: {group: 1, require: false}\n    chap_algorithms: [sha256]\n\
             \x20   nodes:\n      - name: iqn.2026-11.io.ashlar:a\n        luns: [{lun: 0, volume: a}]\n\
             \x20       auth: {group: 1, mutual: true}\n        redirect: [{to: 10.0.0.2:3260, permanent: true}]\n",
        );
        let config = parse(&text).unwrap();
        let failed = h.apply(&config).await.err().unwrap().to_string();
        assert!(
            failed.starts_with("iSCSI auth group 1: secret file is not valid: "),
            "{failed}"
        );
        assert!(failed.contains("/u: No such file"), "{failed}");
        for (name, secret) in [("u", "the host's secret"), ("me", "the target's secret")] {
            let path = h.state.path().join(name);
            fs::write(&path, secret).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        h.apply(&config).await.unwrap();
        h.apply(&config).await.unwrap();
        let node = &h.iscsi.target_nodes()[0];
        assert!(node.auth.require_chap && node.auth.mutual_chap && node.auth.chap_group == 1);
        assert_eq!(
            (h.iscsi.options().max_sessions, h.iscsi.options().chap_algorithms.len()),
            (9, 1)
        );
        let shown = h.show(&config).await;
        let text = to_yaml(&shown).unwrap();
        assert!(!text.contains("'s secret"), "{text}");
        let iscsi = &shown.targets.iscsi;
        assert_eq!(iscsi.auth_groups[0].users[0].secret_file, h.state.path().join("u"));
        assert_eq!(iscsi.nodes[0].auth, config.targets.iscsi.nodes[0].auth);
        assert_eq!(iscsi.nodes[0].redirect, config.targets.iscsi.nodes[0].redirect);
        assert_eq!(iscsi.discovery_auth, config.targets.iscsi.discovery_auth);
        assert_eq!(parse(&text).unwrap().targets, shown.targets);
    });
}

#[test]
fn keys_of_encrypted_tables_come_from_their_files_or_from_chance_and_are_not_shown() {
    use std::os::unix::fs::PermissionsExt;
    let text = "disks: [{name: a, memory: 1MiB}, {name: b, memory: 1MiB}]\n\
                tables:\n  - {name: c, crypt: {on: a, key_file: keys/c}}\n  - {name: d, crypt: {on: b, random_key: 128}}\n";
    let config = parse(text).unwrap();
    let digits = format!("{}{}", "5a".repeat(32), "a5".repeat(32));
    house(async |h| {
        let failed = h.apply(&config).await.err().unwrap().to_string();
        assert!(
            failed.starts_with("table \"c\": ") && failed.contains("keys/c: No such file"),
            "{failed}"
        );
        let path = h.state.path().join("keys/c");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, &digits).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        h.apply(&config).await.unwrap();
        h.apply(&config).await.unwrap();
        assert_eq!((h.blocks("c"), h.blocks("d")), (2048, 2048));
        assert!(h.engine.graph().can_rekey("c") && h.engine.graph().can_rekey("d"));
        let shown = h.show(&config).await;
        let text = to_yaml(&shown).unwrap();
        assert!(!text.contains("5a5a"), "{text}");
        assert_eq!(parse(&text).unwrap().tables, shown.tables);
        let crypts: Vec<_> = shown.tables.iter().filter_map(|table| table.crypt.as_ref()).collect();
        assert_eq!(crypts[0].key_file, Some(path));
        assert_eq!(crypts[1].random_key.as_deref(), Some(&128));
        // A key of that name that is another one is nobody's table.
        let other = parse(&text.replace("keys/c", "keys/other")).unwrap();
        let failed = h.apply(&other).await.err().unwrap().to_string();
        assert_eq!(failed, "table \"c\": there is a key \"c\" already");
    });
}

trait Sorted {
    fn sorted(self) -> Self;
}
impl<const N: usize> Sorted for [String; N] {
    fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}
