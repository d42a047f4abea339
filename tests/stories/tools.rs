//! What people have at hand: qemu-img, qemu-io, libiscsi's tools.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::{Ports, Server, Tool, needs, rpc, skip};
use std::path::Path;
use std::time::Duration;

fn url(ports: Ports, dir: &Path, volume: &str) -> String {
    let volume = rpc::volume(&dir.join("rpc.sock"), volume);
    format!(
        "iscsi://127.0.0.1:{}/{}/{}",
        ports.iscsi,
        volume.iqn().0,
        volume.iqn().1
    )
}

/// Whether QEMU here can speak iSCSI (a plug-in of its own in Debian).
fn qemu_speaks_iscsi(story: &str) -> bool {
    if !needs(story, &["qemu-img", "qemu-io"]) {
        return false;
    }
    let speaks = Tool::new("qemu-img").arg("--help").ok().contains(" iscsi ");
    if !speaks {
        skip(story, "QEMU has no iscsi driver (qemu-block-extra)");
    }
    speaks
}

#[test]
fn qemu_reads_and_writes_patterns() {
    if !qemu_speaks_iscsi("qemu-img and qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let file = dir.path().join("disk.img");
    image::sparse(&file, 64 * MIB);
    let config = Config::new(dir.path(), ports)
        .file("disk", &file)
        .memory("mem0", 32)
        .volumes(&["disk", "mem0"]);
    let server = Server::start(dir.path(), &config.yaml());
    let disk = url(ports, dir.path(), "disk");
    let info = Tool::new("qemu-img").args(["info", &disk]).ok();
    assert!(info.contains("virtual size: 64 MiB (67108864 bytes)"), "{info}");

    // Aligned and odd places, one bigger than any burst, zeroes, discard; then what lies in the file itself.
    let io = |commands: &[&str]| {
        let said = Tool::new("qemu-io")
            .args(["-f", "raw"])
            .args(commands.iter().flat_map(|c| ["-c", c]))
            .arg(&disk)
            .ok();
        assert!(!said.contains("failed"), "{said}");
        said
    };
    io(&[
        "write -P 0xa5 0 1M",
        "write -P 0x5a 1049088 512",
        "write -P 0x11 4M 9M",
        "write -P 0x77 -f 20M 64k",
        "flush",
        "write -z 5M 1M",
        "discard 6M 1M",
        "read -P 0xa5 0 1M",
        "read -P 0x5a 1049088 512",
        "read -P 0x11 4M 1M",
        "read -P 0 5M 2M",
        "read -P 0x11 7M 6M",
        "read -P 0x77 20M 64k",
        "flush",
    ]);
    let bytes = std::fs::read(&file).expect("read the image");
    let all = |from: usize, to: usize, byte: u8| bytes[from..to].iter().all(|b| *b == byte);
    assert!(all(0, 1 << 20, 0xa5) && all(1049088, 1049600, 0x5a) && all(1049600, 4 << 20, 0));
    assert!(all(4 << 20, 5 << 20, 0x11) && all(5 << 20, 7 << 20, 0) && all(7 << 20, 13 << 20, 0x11));

    // A whole image goes in and comes out.
    let source = dir.path().join("source.img");
    std::fs::write(&source, blackbox::pattern::block(1, 1, 32 << 20)).expect("write a source");
    let memory = url(ports, dir.path(), "mem0");
    Tool::new("qemu-img")
        .args(["convert", "-n", "-f", "raw", "-O", "raw"])
        .arg(&source)
        .arg(&memory)
        .ok();
    Tool::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "raw"])
        .arg(&source)
        .arg(&memory)
        .ok();
    server.stop();
}

#[test]
fn libiscsi_tools_work() {
    if !needs("libiscsi tools", &["iscsi-ls", "iscsi-inq", "iscsi-perf"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let config = Config::new(dir.path(), ports).memory("mem0", 64).volumes(&["mem0"]);
    let server = Server::start(dir.path(), &config.yaml());
    let url = url(ports, dir.path(), "mem0");
    let (iqn, lun) = rpc::volume(&dir.path().join("rpc.sock"), "mem0")
        .iscsi
        .expect("served over iSCSI");

    let list = Tool::new("iscsi-ls")
        .args(["-s", &format!("iscsi://127.0.0.1:{}", ports.iscsi)])
        .ok();
    assert!(
        list.contains(&format!("Target:{iqn} Portal:127.0.0.1:{}", ports.iscsi)),
        "{list}"
    );
    assert!(
        list.contains(&format!("Lun:{lun}")) && list.contains("DIRECT_ACCESS"),
        "{list}"
    );

    let inquiry = Tool::new("iscsi-inq").arg(&url).ok();
    assert!(inquiry.contains("Device Type:DIRECT_ACCESS"), "{inquiry}");
    for page in [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2] {
        let said = Tool::new("iscsi-inq")
            .args(["-e", "1", "-c", &page.to_string(), &url])
            .ok();
        assert!(
            !said.trim().is_empty() && !said.to_lowercase().contains("failed"),
            "VPD {page:#x}: {said}"
        );
    }
    let perf = Tool::new("iscsi-perf")
        .args(["-m", "32", "-b", "8", "-t", "3", "-r", &url])
        .limit(Duration::from_secs(30))
        .ok();
    let iops = perf
        .rsplit("iops average")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .next()
        .unwrap_or_default();
    let iops: u64 = iops.parse().unwrap_or_else(|_| panic!("no average in\n{perf}"));
    println!("iscsi-perf: {iops} reads/s of 4 KiB at depth 32");
    assert!(iops > 100, "{perf}");
    server.stop();
}
