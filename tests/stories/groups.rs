//! Volume groups from nothing: made, reported, changed and served by one binary, read by LVM2, used by a Linux host.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::{Guest, Helper, Loops, Ports, Server, ashlar, needs, rpc};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files d0.img, d1.img, … of this many MiB.
fn disks(dir: &Path, mib: &[u64]) -> Vec<PathBuf> {
    let path = |at| dir.join(format!("d{at}.img"));
    let all: Vec<PathBuf> = (0..mib.len()).map(path).collect();
    for (path, mib) in all.iter().zip(mib) {
        image::sparse(path, mib * MIB);
    }
    all
}

/// Disks d0, d1, …, and every volume of the group `data` served.
fn config(dir: &Path, ports: Ports, files: &[PathBuf]) -> String {
    let mut config = Config::new(dir, ports);
    for (at, file) in files.iter().enumerate() {
        config = config.file(&format!("d{at}"), file);
    }
    config.yaml() + "  - lvs_of: data\n"
}

const REPORTS: [&[&str]; 7] = [
    &["lvs", "--reportformat", "json"],
    &[
        "lvs",
        "--reportformat",
        "json",
        "-o",
        "name,size,attr,segtype,devices",
        "--units",
        "b",
        "--nosuffix",
    ],
    &[
        "lvs",
        "--reportformat",
        "json",
        "--segments",
        "-o",
        "+seg_start,seg_pe_ranges,stripe_size,lv_uuid,lv_tags",
    ],
    &["vgs", "--reportformat", "json"],
    &[
        "vgs",
        "--reportformat",
        "json",
        "-o",
        "+vg_uuid,vg_seqno,vg_extent_count,vg_free_count,vg_extent_size,vg_tags",
        "--units",
        "k",
    ],
    &["pvs", "--reportformat", "json"],
    &[
        "pvs",
        "--reportformat",
        "json",
        "-o",
        "+pv_used,pv_pe_count,pv_pe_alloc_count,dev_size,pv_tags",
        "--units",
        "m",
    ],
];

/// The rows in one order: LVM2 goes by the names of devices, and loop devices have whatever names are free.
fn sorted(mut report: Value) -> Value {
    for rows in report["report"][0]
        .as_object_mut()
        .into_iter()
        .flat_map(|kinds| kinds.values_mut())
    {
        rows.as_array_mut().expect("rows").sort_by_key(Value::to_string);
    }
    report
}

/// Every report is the same, but for what the devices are called and that nothing is active without a device-mapper.
fn same_reports(dir: &Path, loops: &Loops, after: &str) {
    for report in REPORTS {
        let ours: Value = serde_json::from_str(&ashlar(dir, &[&["lvm"], report].concat()).ok()).expect("JSON");
        let mut text = loops.lvm(report);
        for (at, device) in loops.devices.iter().enumerate() {
            text = text.replace(device.as_str(), &format!("d{at}"));
        }
        let theirs: Value = serde_json::from_str(&text.replace("-XX----\"", "-a-----\"")).expect("JSON of LVM2");
        assert_eq!(sorted(ours), sorted(theirs), "{report:?} after {after}");
    }
}

#[test]
fn lvm_commands_do_and_report_what_lvm2_would() {
    let story = "LVM2's commands";
    if !needs(story, &["lvm", "losetup"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let files = disks(dir, &[64, 64, 96, 40]);
    // Nothing is served: what hosts have open would show in the sixth letter of `lv_attr`.
    let unserved = config(dir, Ports::free(), &files).replace("volumes:\n  - lvs_of: data\n", "volumes: []\n");
    let server = Server::start(dir, &unserved);
    let Some(loops) = Loops::over(story, &files) else {
        return;
    };
    let steps: &[(&[&str], &str)] = &[
        (
            &["pvcreate", "d0", "d1"],
            "  Physical volume \"d0\" successfully created.\n  Physical volume \"d1\" successfully created.\n",
        ),
        (
            &["vgcreate", "-s", "1m", "--addtag", "fast", "data", "d0", "d1", "d2"],
            "  Volume group \"data\" successfully created\n",
        ),
        (
            &["lvcreate", "-n", "db", "-L", "30m", "-i", "3", "-I", "16", "data"],
            "  Logical volume \"db\" created.\n",
        ),
        (
            &[
                "lvcreate",
                "--name",
                "log",
                "--extents",
                "25%FREE",
                "--addtag",
                "t/1",
                "-p",
                "r",
                "data",
                "d2",
            ],
            "  Logical volume \"log\" created.\n",
        ),
        (
            &["lvextend", "-L", "+7m", "data/log"],
            "  Logical volume data/log successfully resized.\n",
        ),
        (
            &["lvresize", "-y", "-l", "9", "/dev/data/log"],
            "  Logical volume data/log successfully resized.\n",
        ),
        (
            &["lvresize", "-l", "20", "data/log"],
            "  Logical volume data/log successfully resized.\n",
        ),
        (
            &["lvreduce", "-f", "-L", "-3m", "data/db"],
            "  Logical volume data/db successfully resized.\n",
        ),
        (
            &["lvrename", "data", "log", "logs"],
            "  Renamed \"log\" to \"logs\" in volume group \"data\"\n",
        ),
        (
            &["lvchange", "--addtag", "x", "--deltag", "t/1", "-p", "rw", "data/logs"],
            "  Logical volume data/logs changed.\n",
        ),
        (
            &["vgextend", "data", "d3"],
            "  Volume group \"data\" successfully extended\n",
        ),
        (
            &["pvchange", "-x", "n", "--addtag", "slow", "d3"],
            "  Physical volume \"d3\" changed\n",
        ),
        (
            &["vgreduce", "data", "d3"],
            "  Removed \"d3\" from volume group \"data\"\n",
        ),
        (
            &["vgchange", "--deltag", "fast", "--alloc", "cling", "data"],
            "  Volume group \"data\" successfully changed\n",
        ),
        (
            &["pvremove", "d3"],
            "  Labels on physical volume \"d3\" successfully wiped.\n",
        ),
    ];
    for (args, said) in steps {
        assert_eq!(ashlar(dir, &[&["lvm"], *args].concat()).ok(), *said);
        same_reports(dir, &loops, &args.join(" "));
    }
    loops.lvm(&["vgck", "data"]);

    // Where something would be lost it asks, and a script has to say so.
    let said = ashlar(dir, &["lvm", "lvremove", "data/logs"]).fails();
    assert!(
        said.contains("WARNING: What is on data/logs") && said.contains("say -y"),
        "{said}"
    );
    // --test and --dry-run change nothing and say what would be written.
    let plan = ashlar(dir, &["lvm", "lvremove", "-t", "data/logs"]).ok();
    assert!(
        plan.contains("commit change") && plan.contains("header of the metadata area"),
        "{plan}"
    );
    // A plan is applied as it was printed, or not at all.
    let plan = ashlar(
        dir,
        &[
            "do",
            "lv-create",
            "data",
            "name=planned",
            "extents=3",
            "--dry-run",
            "--json",
        ],
    )
    .ok();
    let file = dir.join("plan.json");
    std::fs::write(&file, &plan).expect("write the plan");
    let file = file.to_string_lossy().into_owned();
    let said = ashlar(dir, &["plan", "apply", &file]).ok();
    assert!(said.starts_with("The volume data/planned is made: 3 extents"), "{said}");
    let said = ashlar(dir, &["plan", "apply", &file]).fails();
    assert!(said.contains("has a volume \"planned\" already"), "{said}");
    same_reports(dir, &loops, "the plan");
    // What was done can be looked at and taken back.
    let past: Value = serde_json::from_str(&ashlar(dir, &["plan", "ls", "--json"]).ok()).expect("JSON");
    let last = past.as_array().and_then(|all| all.last()).expect("a plan").clone();
    assert_eq!(last["request"]["verb"], "lv-create", "{last}");
    ashlar(dir, &["plan", "undo", &last["number"].to_string()]).ok();
    assert!(!ashlar(dir, &["lvm", "lvs"]).ok().contains("planned"));
    same_reports(dir, &loops, "undo");
    // What is possible, and why not.
    let said = ashlar(dir, &["can", "d0", "pv-remove"]).fails();
    assert!(
        said.contains("in_use") && said.contains("`vg-reduce` takes it out first"),
        "{said}"
    );
    ashlar(dir, &["can", "data", "lv-create"]).ok();
    server.stop();

    // The same group at the next start.
    let server = Server::start(dir, &unserved);
    same_reports(dir, &loops, "a restart");
    server.stop();
}

#[test]
fn one_seed_gives_the_same_bytes_by_command_line_and_by_rpc() {
    let steps: [(&str, &str, &str); 7] = [
        ("vg-create", "data", r#"{"disks":["d0","d1","d2"],"extent_size":"1m"}"#),
        ("lv-create", "data", r#"{"name":"a","extents":12,"stripes":3}"#),
        ("lv-create", "data", r#"{"extents":5}"#),
        ("lv-extend", "data/a", r#"{"extents":"+3"}"#),
        ("lv-create", "data", r#"{"extents":5}"#),
        ("lv-remove", "data/lvol0", "{}"),
        ("vg-change", "data", r#"{"add_tags":["t"]}"#),
    ];
    let seed = "5eed5eed-0000-4000-8000-000000000001";
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    for (dir, by_rpc) in dirs.iter().zip([false, true]) {
        let dir = dir.path();
        let files = disks(dir, &[24, 24, 24]);
        let server = Server::start(dir, &config(dir, Ports::free(), &files));
        for (verb, object, options) in steps {
            let options: Value = serde_json::from_str(options).expect("JSON");
            if by_rpc {
                let params = serde_json::json!({
                    "verb": verb, "object": object, "options": options, "seed": seed, "time": 1_800_000_000, "host": "here",
                });
                rpc::call(&dir.join("rpc.sock"), "ashlar_change", params).expect("change");
                continue;
            }
            let mut args = vec![
                "do".to_string(),
                verb.into(),
                object.into(),
                "--seed".into(),
                seed.into(),
            ];
            args.extend(["--time".into(), "1800000000".into(), "--host".into(), "here".into()]);
            for (name, value) in options.as_object().expect("an object") {
                let words = value
                    .as_array()
                    .map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
                let text = words
                    .or(value.as_str().map(str::to_owned))
                    .unwrap_or_else(|| value.to_string());
                args.push(format!("{name}={text}"));
            }
            ashlar(dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        }
        server.stop();
    }
    for at in 0..3 {
        let [a, b] =
            [&dirs[0], &dirs[1]].map(|dir| std::fs::read(dir.path().join(format!("d{at}.img"))).expect("an image"));
        let differs = a.iter().zip(&b).position(|(a, b)| a != b);
        assert_eq!(differs, None, "d{at} differs");
    }
}

#[test]
fn guest_uses_a_group_that_we_made_and_makes_more_of_it() {
    let story = "a Linux host and a volume group";
    if !Guest::possible(story) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_path_buf();
    let ports = Ports::free();
    let files = disks(&dir, &[96, 96, 96]);
    let served = config(&dir, ports, &files);
    let server = Server::start(&dir, &served);
    // The README's second example.
    ashlar(&dir, &["lvm", "vgcreate", "data", "d0", "d1", "d2"]).ok();
    ashlar(&dir, &["lvm", "lvcreate", "-n", "db", "-i", "3", "-L", "96m", "data"]).ok();
    let nqn = |name: &str| rpc::volume(&dir.join("rpc.sock"), name).nqn().0.to_string();
    let db = nqn("data/db");
    let port = ("NVME_PORT", ports.nvme.to_string());
    let phase = |name: &str| ("PHASE", name.to_string());
    let limit = Duration::from_secs(240);
    let grows = dir.clone();
    let helper = Helper::new(move |_| {
        let said = ashlar(&grows, &["lvm", "lvextend", "-L", "+48m", "data/db"]).ok();
        Ok(said.trim().to_string())
    });
    let variables = [port.clone(), phase("served"), ("NQN", db.clone()), helper.variable()];
    let said = Guest::boot("groups.sh", limit, &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.assert_no_panic();
    server.stop();

    // The members whole: what is on them is the host's business.
    let mut config = Config::new(&dir, ports);
    for (at, file) in files.iter().enumerate() {
        config = config.file(&format!("d{at}"), file);
    }
    let server = Server::start(&dir, &config.volumes(&["d0", "d1", "d2"]).yaml());
    let nqns = ["d0", "d1", "d2"].map(nqn).join(" ");
    let said = Guest::boot("groups.sh", limit, &[port.clone(), phase("disks"), ("NQNS", nqns)], &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.stop();

    let server = Server::start(&dir, &served);
    let variables = [
        port,
        phase("again"),
        ("NQN", nqn("data/db")),
        ("NQN2", nqn("data/theirs")),
    ];
    let said = Guest::boot("groups.sh", limit, &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.assert_no_panic();
    server.stop();
}
