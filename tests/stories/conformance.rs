//! libiscsi's conformance suite over several kinds of logical units, test by test, against what is expected of us.
//!
//! `tests/expected/iscsi-test-cu.txt` has a line for each test and a column for each unit. A verdict is one of
//!
//! | | |
//! |---|---|
//! | `PASS` | the test ran to its end, and every assertion held |
//! | `SKIP` | the test, or a part of it, says that this unit lacks what it tests |
//! | `WRITES` | on the read-only unit: the test wants a write to succeed, where `ReadOnly.ReadOnlySBC` wants the same write to be refused |
//! | `FAIL` | anything else; never expected |
//! | `-` | not asked for on this unit |
//!
//! Beyond the list the story holds two bars: nothing fails on any unit, and every test passes on at least one.
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::serve::binary;
use blackbox::tool::tree;
use blackbox::{Ports, Server, Tool, needs, rpc};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// A kind of unit: its name, its disk, MiB of it, its options, and the families to run there (none: all).
type Kind = (&'static str, &'static str, u64, &'static str, &'static [&'static str]);

const UNITS: [Kind; 6] = [
    // GetLBAStatus.UnmapSingle of 1.19 believes that a physical block is a logical one.
    ("thin", "file", 256, "physical_block_size: 512", &[]),
    ("read_only", "file", 256, "read_only: true", &[]),
    // Memory, since only there writes are atomic.
    (
        "removable",
        "memory",
        64,
        "removable: true, physical_block_size: 512",
        &[],
    ),
    ("full", "file", 256, "thin: false", &[]),
    // These have tests that are skipped where a physical block is a logical one.
    (
        "aligned",
        "file",
        256,
        "physical_block_size: 4096",
        &["CompareAndWrite", "WriteSame10", "WriteSame16"],
    ),
    // Encrypted with a key of its own: only there is a CRYPTOGRAPHIC ERASE.
    (
        "encrypted",
        "crypt",
        256,
        "physical_block_size: 512",
        &["Sanitize", "Read10", "Write10", "WriteSame16", "CompareAndWrite"],
    ),
];

/// Where nothing can be written it is luck what comes first, the abort of a write or its refusal: such a pass counts as `WRITES`.
const RACES: [&str; 2] = ["iSCSITMF.AbortTaskSimpleAsync", "iSCSITMF.LUNResetSimpleAsync"];

/// How long a sanitize must last for `Sanitize.Reset`, which looks after three seconds and again after all kinds of resets.
const SANITIZE: Duration = Duration::from_secs(15);
/// What it writes at a time.
const SANITIZE_STEP: u64 = MIB;

/// A test, and how it went on each unit.
type Verdicts = BTreeMap<String, &'static str>;

/// `Family.Test` and how it went, out of what CUnit prints.
fn verdicts(said: &str) -> Verdicts {
    let mut into = Verdicts::new();
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
        } else if line.trim_end().ends_with("passed") || line.starts_with("passed") || line.contains(" ...passed") {
            // A remark without an end of its line may stand before or behind it.
            if skipped { "SKIP" } else { "PASS" }
        } else {
            continue;
        };
        if let Some(test) = test.take() {
            into.insert(format!("{suite}.{test}"), end);
        }
    }
    into
}

/// Every test of the suite, by family, in the order to run the families in.
fn families() -> Vec<(String, Vec<String>)> {
    let mut families: Vec<(String, Vec<String>)> = Vec::new();
    for line in Tool::new("iscsi-test-cu").arg("-l").ok().lines() {
        match line.strip_prefix("ALL.").map(|name| name.split_once('.')) {
            Some(None) => families.push((line["ALL.".len()..].to_string(), Vec::new())),
            Some(Some((_, test))) => {
                let (_, tests) = families.last_mut().expect("a family before its tests");
                tests.push(test.to_string());
            }
            None => (),
        }
    }
    // First: 1.19 of the suite believes block 256 to be zero without having written it. Last: after it nothing is as it was.
    families.sort_by_key(|(family, _)| match family.as_str() {
        "MultipathIO" => 0,
        "Sanitize" => 2,
        _ => 1,
    });
    families
}

/// What is late if we say so: the volume, or what is below its cipher.
fn delay(name: &str, kind: &str) -> String {
    match kind {
        "crypt" => format!("{name}-late"),
        _ => name.into(),
    }
}

/// One unit under test.
struct Unit<'a> {
    name: &'static str,
    urls: [String; 2],
    /// Its disk answers late if we say so.
    delay: String,
    mib: u64,
    socket: &'a Path,
    families: &'static [&'static str],
}

impl Unit<'_> {
    /// Runs tests in a process of their own, so that a crash or a hang names them; what was said.
    fn run(&self, tests: &str, options: &[&str]) -> String {
        let tool = Tool::new("iscsi-test-cu").args(options).args(["-S", "-v"]);
        let tool = tool.arg(format!("--test=ALL.{tests}")).args(&self.urls);
        let output = tool.limit(Duration::from_secs(150)).output();
        let text = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        format!("#### {} on {}\n{}", tests, self.name, text.concat())
    }

    fn slow(&self, write: Duration) {
        let latency =
            json!({"delay_bdev_name": self.delay, "latency_type": "avg_write", "latency_us": write.as_micros() as u64});
        rpc::call(self.socket, "bdev_delay_update_latency", latency).expect("the latency of a delay table");
    }

    /// Every test; how each went, and what was said.
    fn all(&self, families: &[(String, Vec<String>)]) -> (Verdicts, String) {
        let (mut found, mut said) = (Verdicts::new(), String::new());
        let wanted = |family: &str| self.families.is_empty() || self.families.contains(&family);
        for (family, tests) in families.iter().filter(|(family, _)| wanted(family)) {
            let texts: Vec<String> = match family.as_str() {
                "Sanitize" => tests.iter().map(|test| self.sanitize(test)).collect(),
                _ => vec![self.run(family, &["-d"])],
            };
            for text in texts {
                let mut these = verdicts(&text);
                if self.name == "read_only" && these.values().any(|verdict| *verdict == "FAIL") {
                    self.forgive(family, &text, &mut these);
                }
                let lucky = |test: &str, verdict: &str| verdict == "PASS" && RACES.contains(&test);
                for (test, verdict) in these.iter_mut().filter(|_| self.name == "read_only") {
                    if lucky(test, verdict) {
                        *verdict = "WRITES"
                    }
                }
                found.extend(these);
                said.push_str(&text);
            }
            for test in tests {
                found.entry(format!("{family}.{test}")).or_insert("MISSING");
            }
        }
        (found, said)
    }

    fn sanitize(&self, test: &str) -> String {
        if test == "Reset" {
            let steps = (self.mib * MIB / SANITIZE_STEP) as u32;
            self.slow(SANITIZE / steps);
        }
        let text = self.run(&format!("Sanitize.{test}"), &["-d"]);
        self.slow(Duration::ZERO);
        text
    }

    /// A test that fails where nothing can be written is forgiven if it was told so, or if it says of itself that it destroys data.
    fn forgive(&self, family: &str, text: &str, these: &mut Verdicts) {
        let harmless = verdicts(&self.run(family, &[]));
        for (test, verdict) in these.iter_mut().filter(|(_, verdict)| **verdict == "FAIL") {
            let name = test.split('.').next_back().unwrap_or_default();
            let from = text.find(&format!("  Test: {name} ...")).unwrap_or_default();
            let part = &text[from..];
            let part = &part[..part[2..].find("  Test: ").map_or(part.len(), |end| end + 2)];
            if harmless.get(test) == Some(&"SKIP") || part.contains("WRITE_PROTECTED(0x2700)") {
                *verdict = "WRITES";
            }
        }
    }
}

/// The list as it is kept in the tree.
fn table(all: &BTreeMap<String, Vec<&str>>) -> String {
    let names = UNITS.map(|(name, ..)| name);
    let line = |test: &str, verdicts: &[&str]| {
        let columns: String = verdicts.iter().map(|verdict| format!(" {verdict:<9}")).collect();
        format!("{test:<42}{columns}").trim_end().to_string() + "\n"
    };
    let head = line("# iscsi-test-cu 1.19, -d -S -t ALL", &names);
    all.iter()
        .fold(head, |text, (test, verdicts)| text + &line(test, verdicts))
}

#[test]
fn iscsi_test_cu_says_what_is_expected() {
    if !needs("iscsi-test-cu", &["iscsi-test-cu"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (ports, second) = (Ports::free(), Ports::free().iscsi);
    let (mut disks, mut tables, mut nodes) = (String::new(), String::new(), String::new());
    for (name, kind, mib, options, _) in UNITS {
        let file = dir.path().join(format!("{name}.img"));
        match kind {
            "memory" => disks += &format!("  - {{name: {name}-disk, memory: {mib}MiB}}\n"),
            _ => {
                image::sparse(&file, mib * MIB);
                disks += &format!("  - {{name: {name}-disk, file: {}}}\n", file.display());
            }
        }
        // A delay of nothing is no delay, and is not in the way.
        let delay = self::delay(name, kind);
        tables += &format!("  - {{name: {delay}, delay: {{on: {name}-disk, read: 0us, write: 0us}}}}\n");
        if kind == "crypt" {
            let key = dir.path().join(format!("{name}.key"));
            Tool::new(&binary().to_string_lossy())
                .args(["disk", "key"])
                .arg(&key)
                .ok();
            tables += &format!("  - {{name: {name}, crypt: {{on: {delay}, key_file: {name}.key}}}}\n");
        }
        let iqn = format!("iqn.2026-11.io.ashlar:{}", name.replace('_', "-"));
        nodes += &format!("      - {{name: {iqn}, luns: [{{lun: 0, volume: {name}, {options}}}]}}\n");
    }
    let (state, iscsi, nvme) = (dir.path().display(), ports.iscsi, ports.nvme);
    let yaml = format!(
        "state: {state}\ndisks:\n{disks}tables:\n{tables}targets:\n  nvme: {{listeners: [127.0.0.1:{nvme}]}}\n  iscsi:\n    \
         portals: [127.0.0.1:{iscsi}, 127.0.0.1:{second}]\n    nodes:\n{nodes}"
    );
    let server = Server::start(dir.path(), &yaml);
    // 1.19 of the suite believes that block 256 is zero: so it is, where it would be noise.
    for (name, ..) in UNITS.iter().filter(|(_, kind, ..)| *kind == "crypt") {
        let iqn = format!("iqn.2026-11.io.ashlar:{name}");
        let mut host = Iscsi::login(ports.iscsi, &iqn, 0).expect("log in");
        host.write(0, &vec![0; MIB as usize]).expect("zeros");
    }
    let socket = dir.path().join("rpc.sock");
    let families = families();
    let known: BTreeSet<String> = families
        .iter()
        .flat_map(|(family, tests)| tests.iter().map(move |test| format!("{family}.{test}")))
        .collect();
    assert!(known.len() >= 230, "the suite has {} tests", known.len());

    let results: Vec<(Verdicts, String)> = std::thread::scope(|scope| {
        let running = UNITS.map(|(name, kind, mib, _, wanted)| {
            let iqn = format!("iqn.2026-11.io.ashlar:{}", name.replace('_', "-"));
            let unit = Unit {
                name,
                urls: [iscsi, second].map(|port| format!("iscsi://127.0.0.1:{port}/{iqn}/0")),
                delay: delay(name, kind),
                mib,
                socket: &socket,
                families: wanted,
            };
            let families = &families;
            scope.spawn(move || unit.all(families))
        });
        let ended = running.map(|unit| unit.join());
        ended
            .into_iter()
            .map(|unit| unit.expect("a test did not end; see above which"))
            .collect()
    });
    server.assert_no_panic();
    server.stop();

    let all: BTreeMap<String, Vec<&str>> = known
        .iter()
        .map(|test| {
            let columns = results.iter().map(|(found, _)| found.get(test).copied().unwrap_or("-"));
            (test.clone(), columns.collect())
        })
        .collect();
    let file = tree().join("tests/expected/iscsi-test-cu.txt");
    if std::env::var_os("ASHLAR_BLESS").is_some() {
        std::fs::write(&file, table(&all)).expect("write what is expected");
    }
    let wanted = std::fs::read_to_string(&file).expect("tests/expected/iscsi-test-cu.txt");
    let mut wrong = Vec::new();
    let mut expected = BTreeMap::new();
    for line in wanted.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let test = words.next().expect("a test");
        expected.insert(test.to_string(), words.collect::<Vec<_>>());
    }
    for test in known.iter().chain(expected.keys()).collect::<BTreeSet<_>>() {
        for (at, (unit, ..)) in UNITS.iter().enumerate() {
            let of = |list: &BTreeMap<String, Vec<&str>>| {
                list.get(test)
                    .and_then(|columns| columns.get(at).map(|verdict| verdict.to_string()))
            };
            let (before, now) = (of(&expected), of(&all));
            if before != now {
                let word = |verdict: Option<String>| verdict.unwrap_or("nothing".into());
                wrong.push(format!(
                    "{test} on {unit}: expected {}, now {}",
                    word(before),
                    word(now)
                ));
            }
        }
    }
    // The bars, whatever the list says.
    for (test, columns) in &all {
        for ((unit, ..), verdict) in UNITS.iter().zip(columns) {
            if !["PASS", "SKIP", "WRITES", "-"].contains(verdict) || *verdict == "WRITES" && *unit != "read_only" {
                wrong.push(format!("{test} on {unit}: {verdict}"));
            }
        }
        if !columns.contains(&"PASS") {
            wrong.push(format!("{test} passes on no unit"));
        }
    }
    let said: String = results.iter().map(|(_, said)| said.as_str()).collect();
    assert!(
        wrong.is_empty(),
        "{}\nIf this is progress: ASHLAR_BLESS=1 cargo nextest run -p blackbox iscsi_test_cu\n\n{said}",
        wrong.join("\n")
    );
}
