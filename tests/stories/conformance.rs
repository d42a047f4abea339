//! libiscsi's conformance suite, test by test, against the list of what is expected of us.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::tool::tree;
use blackbox::{Ports, Server, Tool, needs, rpc};
use std::collections::BTreeMap;
use std::time::Duration;

/// Families whose commands we have; each runs in a process of its own, so that a crash or a hang names its family.
const FAMILIES: &[&str] = &[
    // First: 1.19 of the suite believes block 256 to be zero without having written it.
    "MultipathIO",
    "CompareAndWrite",
    "ExtendedCopy",
    "GetLBAStatus",
    "Inquiry",
    "iSCSIcmdsn",
    "iSCSIdatasn",
    "iSCSIResiduals",
    "iSCSITMF",
    "Mandatory",
    "ModeSense6",
    "NoMedia",
    "OrWrite",
    "Prefetch10",
    "Prefetch16",
    "PreventAllow",
    "PrinReadKeys",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "ProutClear",
    "ProutPreempt",
    "ProutRegister",
    "ProutReserve",
    "Read10",
    "Read12",
    "Read16",
    "Read6",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReceiveCopyResults",
    "ReportSupportedOpcodes",
    "Reserve6",
    "StartStopUnit",
    "TestUnitReady",
    "Unmap",
    "Verify10",
    "Verify12",
    "Verify16",
    "Write10",
    "Write12",
    "Write16",
    "WriteAtomic16",
    "WriteSame10",
    "WriteSame16",
    "WriteVerify10",
    "WriteVerify12",
    "WriteVerify16",
];

/// Families that ask for what only the memory disk has: one logical block for each physical one, atomic writes.
const ON_MEMORY: &[&str] = &["GetLBAStatus", "WriteAtomic16"];

/// `Family.Test` and how it went, out of what CUnit prints.
fn verdicts(said: &str, into: &mut BTreeMap<String, &'static str>) {
    let (mut suite, mut test, mut skipped) = (String::new(), None::<String>, false);
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            suite = name.trim().to_string();
        } else if let Some(rest) = line.trim_start().strip_prefix("Test: ") {
            test = rest.split_whitespace().next().map(str::to_string);
            skipped = false;
        }
        skipped |= line.contains("[SKIPPED]");
        // In brackets it is a remark within a test, not the verdict.
        let end = if line.replace("[FAILED]", "").contains("FAILED") {
            "FAIL"
        } else if line.trim_end().ends_with("passed") || line.starts_with("passed") {
            // A remark without an end of its line may stand before or behind it.
            if skipped { "SKIP" } else { "PASS" }
        } else {
            continue;
        };
        if let Some(test) = test.take() {
            into.insert(format!("{suite}.{test}"), end);
        }
    }
}

#[test]
fn iscsi_test_cu_says_what_is_expected() {
    if !needs("iscsi-test-cu", &["iscsi-test-cu"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let file = dir.path().join("disk.img");
    image::sparse(&file, 256 * MIB);
    let second = Ports::free().iscsi;
    let config = Config::new(dir.path(), ports).portal(second);
    let config = config.file("disk", &file).memory("ram", 64).volumes(&["disk", "ram"]);
    let server = Server::start(dir.path(), &config.yaml());
    let [disk, ram] = ["disk", "ram"].map(|name| rpc::volume(&dir.path().join("rpc.sock"), name));
    let url =
        |volume: &rpc::Volume, port: u16| format!("iscsi://127.0.0.1:{port}/{}/{}", volume.iqn().0, volume.iqn().1);

    let mut found = BTreeMap::new();
    let mut said = String::new();
    for family in FAMILIES {
        let on = if ON_MEMORY.contains(family) { &ram } else { &disk };
        let (one_way, other_way) = (url(on, ports.iscsi), url(on, second));
        let test = Tool::new("iscsi-test-cu").args(["-d", &format!("--test=ALL.{family}"), &one_way, &other_way]);
        let output = test.limit(Duration::from_secs(120)).output();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        verdicts(&text, &mut found);
        said.push_str(&text);
    }
    server.assert_no_panic();
    server.stop();

    let list: String = found
        .iter()
        .map(|(test, verdict)| format!("{verdict} {test}\n"))
        .collect();
    let file = tree().join("tests/expected/iscsi-test-cu.txt");
    if std::env::var_os("ASHLAR_BLESS").is_some() {
        std::fs::write(&file, &list).expect("write what is expected");
    }
    let wanted = std::fs::read_to_string(&file).expect("tests/expected/iscsi-test-cu.txt");
    let mut wrong = Vec::new();
    for line in wanted.lines() {
        let (verdict, test) = line.split_once(' ').expect("VERDICT FAMILY.TEST");
        let now = found.remove(test).unwrap_or("NOT RUN");
        if now != verdict {
            wrong.push(format!("{test}: expected {verdict}, now {now}"));
        }
    }
    wrong.extend(
        found
            .iter()
            .map(|(test, verdict)| format!("{test}: not expected at all, now {verdict}")),
    );
    assert!(
        wrong.is_empty(),
        "{}\nIf this is progress: ASHLAR_BLESS=1 cargo nextest run -p blackbox iscsi_test_cu\n\n{said}",
        wrong.join("\n")
    );
    assert!(!wanted.contains("FAIL "), "a failing test is nothing to expect");
}
