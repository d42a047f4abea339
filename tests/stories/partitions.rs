//! The main job: a stranger's disk images go in, a real Linux host uses their partitions over both protocols.
use blackbox::config::Config;
use blackbox::image::{self, Partition};
use blackbox::{Guest, Ports, Server, needs, rpc};
use std::path::Path;
use std::time::Duration;

const TOOLS: &[&str] = &["sfdisk", "mkfs.ext4", "e2fsck"];

/// Both images in `dir`, and the configuration that serves all that is found on them.
fn images(dir: &Path, ports: Ports) -> ([Partition; 3], String) {
    let data = image::gpt(dir, &dir.join("gpt.img"));
    let (five, six) = image::mbr(dir, &dir.join("mbr.img"));
    let config = Config::new(dir, ports)
        .file("gpt", &dir.join("gpt.img"))
        .file("mbr", &dir.join("mbr.img"))
        .volumes(&["gptp1", "gptp2", "gptp3"])
        .partitions_of("mbr");
    ([data, five, six], config.yaml())
}

#[test]
fn discovery_changes_no_byte() {
    if !needs("discovery changes no byte", TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let (_, config) = images(dir.path(), ports);
    let before = ["gpt.img", "mbr.img"].map(|name| image::sha256(&dir.path().join(name)));
    let server = Server::start(dir.path(), &config);
    let served = rpc::volumes(&dir.path().join("rpc.sock"));
    for name in ["gptp1", "gptp2", "gptp3", "mbrp1", "mbrp5", "mbrp6"] {
        assert!(
            served.iter().any(|v| v.name == name),
            "{name} is not served; served are {served:?}"
        );
    }
    server.stop();
    let after = ["gpt.img", "mbr.img"].map(|name| image::sha256(&dir.path().join(name)));
    assert_eq!(before, after);
}

#[test]
fn guest_uses_every_partition_over_both_protocols() {
    let story = "a Linux host uses partitions";
    if !needs(story, TOOLS) || !Guest::possible(story) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let ([data, five, six], config) = images(dir.path(), ports);
    let server = Server::start(dir.path(), &config);
    let socket = dir.path().join("rpc.sock");
    let of = |name: &str| rpc::volume(&socket, name);
    let (gpt2, mbr5, mbr6) = (of("gptp2"), of("mbrp5"), of("mbrp6"));
    let volumes = dir.path().join("volumes");
    // Each protocol gets a partition of each kind of table.
    std::fs::write(
        &volumes,
        format!(
            "nvme {} {} gpt\niscsi {} {} mbr5\nnvme {} {} mbr6\n",
            gpt2.nqn().0,
            gpt2.nqn().1,
            mbr5.iqn().0,
            mbr5.iqn().1,
            mbr6.nqn().0,
            mbr6.nqn().1
        ),
    )
    .expect("write the list of volumes");
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("ISCSI_PORT", ports.iscsi.to_string()),
        ("SECONDS_EACH", "30".to_string()),
    ];
    let files = [volumes.as_path(), &data.sums, &five.sums, &six.sums];
    let said = Guest::boot("partitions.sh", Duration::from_secs(300), &variables, &files).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.assert_no_panic();
    server.stop();
    // Our own eyes: what the host left behind is clean where it lies in the image.
    image::fsck(dir.path(), &dir.path().join("gpt.img"), &data);
    image::fsck(dir.path(), &dir.path().join("mbr.img"), &five);
    image::fsck(dir.path(), &dir.path().join("mbr.img"), &six);

    // Once more with the protocols exchanged: what one wrote the other reads.
    let server = Server::start(dir.path(), &config);
    std::fs::write(
        &volumes,
        format!(
            "iscsi {} {} gpt\nnvme {} {} mbr5\n",
            gpt2.iqn().0,
            gpt2.iqn().1,
            mbr5.nqn().0,
            mbr5.nqn().1
        ),
    )
    .expect("write the list of volumes");
    let variables = [
        variables[0].clone(),
        variables[1].clone(),
        ("SECONDS_EACH", "3".to_string()),
    ];
    let said = Guest::boot("partitions.sh", Duration::from_secs(200), &variables, &files).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.stop();
}

/// What a command of ours prints; it must succeed.
fn ashlar(dir: &Path, args: &[&str]) -> String {
    let out = std::process::Command::new(blackbox::serve::binary())
        .args(args)
        .arg("--socket")
        .arg(dir.join("rpc.sock"))
        .output()
        .expect("the binary runs");
    assert!(
        out.status.success(),
        "ashlar {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn a_blank_file_is_partitioned_by_command_and_sfdisk_sees_it() {
    if !needs("a blank file is partitioned", &["sfdisk"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (ports, file) = (Ports::free(), dir.path().join("d.img"));
    image::sparse(&file, 64 * image::MIB);
    let config = Config::new(dir.path(), ports)
        .file("d", &file)
        .memory("twin", 64)
        .memory("mem0", 8)
        .volumes(&["mem0"]);
    let server = Server::start(dir.path(), &config.yaml());
    let run = |args: &[&str]| ashlar(dir.path(), args);
    let blank = image::sha256(&file);

    let shown = run(&["label", "create", "d", "--dry-run"]);
    assert!(
        shown.contains("Makes a GPT on d") && shown.contains("then a barrier"),
        "{shown}"
    );
    assert_eq!(image::sha256(&file), blank, "--dry-run writes nothing");
    run(&["label", "create", "d", "--seed", "01234567-89ab-cdef-0123-456789abcdef"]);
    run(&[
        "partition",
        "create",
        "d",
        "--size",
        "8m",
        "--type",
        "uefi",
        "--name",
        "efi",
    ]);
    // A plan that was printed is applied later.
    let plan = dir.path().join("plan.json");
    let printed = run(&[
        "partition",
        "create",
        "d",
        "--size",
        "16m",
        "--name",
        "root",
        "--bootable",
        "--dry-run",
        "--json",
    ]);
    std::fs::write(&plan, printed).expect("a file");
    run(&["plan", "apply", plan.to_str().expect("a path")]);
    run(&["partition", "create", "d", "--type", "lvm"]);
    let said = run(&["partition", "delete", "dp1"]);
    assert_eq!(said, "Takes away partition 1 of d (8 MiB, EFI system, is blank).\n");
    run(&["partition", "resize", "dp2", "--size", "-4m"]);
    run(&["partition", "change", "dp2", "--name", "data", "--attributes", "60"]);
    let listed = run(&["partition", "ls"]);
    assert!(
        listed.contains("dp2") && listed.contains("data") && !listed.contains("dp1"),
        "{listed}"
    );

    let ours = run(&["sfdisk", "--dump", "d"]);
    let (json, theirs) = (run(&["sfdisk", "--json", "d"]), |args: &[&str]| {
        blackbox::Tool::new("sfdisk").args(args).arg(&file).ok()
    });
    // sfdisk calls partitions after the file: no p behind a letter.
    let name = file.to_str().expect("a path");
    let as_ours = |text: String| {
        text.replace(&format!("{name}2"), "dp2")
            .replace(&format!("{name}3"), "dp3")
            .replace(name, "d")
    };
    assert_eq!(json, as_ours(theirs(&["--json"])));
    assert_eq!(ours, as_ours(theirs(&["--dump"])));
    assert!(theirs(&["--verify"]).contains("No errors detected"));

    // What is refused says why, and what can be done.
    let out = std::process::Command::new(blackbox::serve::binary())
        .args(["label", "create", "d", "--scheme", "dos", "--socket"])
        .arg(dir.path().join("rpc.sock"))
        .output()
        .expect("the binary runs");
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && why.contains("GPT with 2 partitions") && why.contains("force"),
        "{why}"
    );
    run(&["label", "remove", "d"]);
    let number = run(&["plan", "ls"]).lines().count() - 1;
    run(&["plan", "undo", &number.to_string()]);
    assert_eq!(run(&["sfdisk", "--dump", "d"]), ours);
    // The dump is a script: the same table on another disk.
    std::fs::write(dir.path().join("script"), &ours).expect("a file");
    let script = std::fs::File::open(dir.path().join("script")).expect("a file");
    let out = std::process::Command::new(blackbox::serve::binary())
        .args(["sfdisk", "twin", "--socket"])
        .arg(dir.path().join("rpc.sock"))
        .stdin(script)
        .output()
        .expect("the binary runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(run(&["sfdisk", "--dump", "twin"]).replace("twin", "d"), ours);
    server.stop();
}
