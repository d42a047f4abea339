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
