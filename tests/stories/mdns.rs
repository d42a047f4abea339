//! Avahi, as hosts have it, finds the discovery service on a link of its own: two network namespaces with a cable between them.
use blackbox::serve::Start;
use blackbox::{Server, Tool, needs, rpc, skip};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NQN: &str = "nqn=nqn.2014-08.org.nvmexpress.discovery";

/// Two namespaces, 10.9.0.1 and 10.9.0.2, and Avahi in the second.
struct Link {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Link {
    fn name(side: &str) -> String {
        format!("ashlar-{side}-{}", std::process::id())
    }

    /// `None` where namespaces cannot be made.
    fn new(dir: &Path) -> Option<Link> {
        let link = Link {
            dir: dir.to_owned(),
            children: Vec::new(),
        };
        let (target, host) = (Link::name("target"), Link::name("host"));
        let lines = [
            format!("netns add {target}"),
            format!("netns add {host}"),
            format!("-n {target} link add link0 type veth peer name link0 netns {host}"),
            format!("-n {target} addr add 10.9.0.1/24 dev link0"),
            format!("-n {target} addr add 10.9.0.3/24 dev link0"),
            format!("-n {host} addr add 10.9.0.2/24 dev link0"),
            format!("-n {target} link set link0 up"),
            format!("-n {host} link set link0 up"),
            format!("-n {target} link set lo up"),
        ];
        let run = |line: &String| Command::new("ip").args(line.split(' ')).stderr(Stdio::null()).status();
        lines
            .iter()
            .all(|line| run(line).is_ok_and(|status| status.success()))
            .then_some(link)
    }

    fn in_host(&self, script: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &Link::name("host"), "sh", "-c", script])
            .current_dir(&self.dir)
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                format!("unix:path={}/bus", self.dir.display()),
            )
            .stdin(Stdio::null());
        command
    }

    fn spawn(&mut self, script: &str) {
        let child = self.in_host(script).spawn().expect("start a part of Avahi");
        self.children.push(child);
    }

    /// A bus and Avahi on it, touching neither the machine's bus nor its Avahi; and what it sees, in `seen`.
    fn browse(&mut self) {
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/><allow user=\"*\"/></policy></busconfig>",
            self.dir.display()
        );
        std::fs::write(self.dir.join("bus.conf"), bus).expect("write");
        std::fs::write(
            self.dir.join("avahi.conf"),
            "[server]\nhost-name=browser\n[publish]\ndisable-publishing=yes\n",
        )
        .expect("write");
        self.spawn("exec dbus-daemon --config-file=bus.conf --nofork --nopidfile > bus.log 2>&1");
        until("a bus", || self.dir.join("bus").exists());
        self.spawn(
            "exec unshare -m sh -c 'mount -t tmpfs none /run && exec avahi-daemon -f avahi.conf --no-drop-root --no-chroot --no-rlimits' > avahi.log 2>&1",
        );
        until("Avahi", || self.read("avahi.log").contains("startup complete"));
        self.spawn("exec avahi-browse -rpk _nvme-disc._tcp > seen 2>&1");
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    /// Lines of Avahi that begin with `mark` (`=` found and resolved, `-` gone) and hold all of `words`.
    fn seen(&self, mark: &str, words: &[&str]) -> usize {
        let all = self.read("seen");
        all.lines()
            .filter(|line| line.starts_with(mark) && line.contains(";IPv4;") && words.iter().all(|w| line.contains(w)))
            .count()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("Avahi saw:\n{}\n{}", self.read("seen"), self.read("avahi.log"));
        }
        for side in ["target", "host"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &Link::name(side)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn serve(dir: &Path) -> Server {
    let text = format!(
        "state: {}\ndisks:\n  - {{name: m, memory: 1MiB}}\nvolumes:\n  - {{on: m, over: [nvme]}}\n\
         targets:\n  nvme:\n    listeners: [10.9.0.1:4420, 127.0.0.1:4420]\n    mdns: true\n",
        dir.display()
    );
    let config = dir.join("ashlar.yaml");
    std::fs::write(&config, text).expect("write the configuration");
    Start::through(dir, &["ip", "netns", "exec", &Link::name("target")], &config)
        .serving()
        .spawn()
}

#[test]
fn avahi_finds_the_discovery_service_as_it_comes_and_goes() {
    const STORY: &str = "discovery by multicast DNS";
    if !needs(STORY, &["ip", "unshare", "dbus-daemon", "avahi-daemon", "avahi-browse"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let Some(mut link) = Link::new(dir.path()) else {
        return skip(STORY, "network namespaces cannot be made here");
    };
    link.browse();
    let server = serve(dir.path());
    let socket = dir.path().join("rpc.sock");
    let ask = |method: &str, params: Value| rpc::call(&socket, method, params);
    let saved = || {
        ask("framework_get_config", json!({"name": "nvmf"}))
            .expect("the configuration")
            .to_string()
    };
    let listener = |address: &str, port: &str| {
        let address = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": address, "trsvcid": port});
        json!({"nqn": "nqn.2014-08.org.nvmexpress.discovery", "listen_address": address})
    };

    // What the file listens on, with the records of TP 8009; not the loopback address, and nothing that is not listened on.
    until("the address of the file", || {
        link.seen("=", &[";10.9.0.1;4420;", NQN, "p=tcp"]) == 1
    });
    assert!(saved().contains("nvmf_publish_mdns_prr"), "{}", saved());
    let shown = ask("ashlar_get_config", json!({}))
        .expect("the configuration")
        .to_string();
    assert!(shown.contains("mdns"), "{shown}");
    // Listeners come and go.
    ask("nvmf_subsystem_add_listener", listener("10.9.0.3", "8009")).expect("listen");
    until("a second address", || link.seen("=", &[";10.9.0.3;8009;", NQN]) == 1);
    ask("nvmf_subsystem_remove_listener", listener("10.9.0.3", "8009")).expect("listen no more");
    until("its withdrawal", || link.seen("-", &["8009"]) == 1);
    assert_eq!(link.seen("=", &["_nvme-disc._tcp"]), 2, "more than what is listened on");
    // Once is enough, as SPDK says it.
    let said = ask("nvmf_publish_mdns_prr", json!({}))
        .expect_err("published already")
        .to_string();
    assert!(said.contains("-17") && said.contains("File exists"), "{said}");
    // Switched off, and on again.
    ask("nvmf_stop_mdns_prr", json!({"tgt_name": "nvmf_tgt"})).expect("stop");
    until("the end of it", || link.seen("-", &["4420"]) == 1);
    assert!(!saved().contains("nvmf_publish_mdns_prr"), "{}", saved());
    ask("nvmf_stop_mdns_prr", json!({})).expect("stopping twice is no error");
    ask("nvmf_publish_mdns_prr", json!({"tgt_name": "nvmf_tgt"})).expect("publish");
    until("the address again", || link.seen("=", &[";10.9.0.1;4420;", NQN]) == 2);
    // The end of the process is told, too; the records' own time would be over an hour from now.
    server.stop();
    until("a goodbye", || link.seen("-", &["4420"]) == 2);
    drop(link);

    // Without a listener there is nothing to publish.
    let bare = tempfile::tempdir().expect("a folder");
    let server = Start::unconfigured(bare.path()).answering().spawn();
    let said = rpc::call(&bare.path().join("rpc.sock"), "nvmf_publish_mdns_prr", json!({})).expect_err("nothing");
    assert!(said.to_string().contains("-22"), "{said}");
    server.stop();
    assert!(
        Tool::new("ip")
            .args(["netns", "list"])
            .ok()
            .lines()
            .all(|l| !l.contains(&Link::name("host")))
    );
}
