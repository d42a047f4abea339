//! Replays the corpora of the fuzz targets for what is on disks (fuzz/corpus) through the same checks.
#[path = "labels/check.rs"]
mod check;

use std::{fs, path::Path};

fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(
        names.len() >= 5,
        "{} has too few inputs to be the corpus",
        dir.display()
    );
    for path in names {
        eprintln!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        check(&bytes);
        // Cut short and damaged at every 64th byte too.
        for at in (0..bytes.len()).step_by(64) {
            check(&bytes[..at]);
            let mut bad = bytes.clone();
            bad[at] ^= 0xff;
            check(&bad);
        }
    }
}

#[test]
fn gpt() {
    replay("gpt", check::gpt);
}

#[test]
fn lvm2() {
    replay("lvm2", check::lvm2);
}

#[test]
fn link() {
    replay("link", check::link);
}

#[test]
fn tables() {
    replay("tables", check::tables);
}

#[test]
fn mbr() {
    replay("mbr", check::mbr);
}

/// Labels with random damage, `ASHLAR_MUTATIONS` of each scheme and block size (3,000 by default, a million is what a release is tested with): nothing
/// panics, no extent is out of range, and what is not changed goes back as it came.
#[test]
fn mutated() {
    let count: u64 = std::env::var("ASHLAR_MUTATIONS").map_or(3_000, |text| text.parse().expect("a number"));
    let seed: u64 = std::env::var("ASHLAR_SEED").map_or(0x5eed, |text| text.parse().expect("a number"));
    eprintln!("ASHLAR_MUTATIONS={count} ASHLAR_SEED={seed}");
    type Check = fn(&[u8]);
    // The folder of the corpus, which of its inputs, what is checked, and where the table is mostly.
    let gpt = |blocks_of_4096: bool| {
        move |name: &str, bytes: &[u8]| !name.is_empty() && (bytes[0] & 1 == 1) == blocks_of_4096
    };
    type Which<'a> = &'a dyn Fn(&str, &[u8]) -> bool;
    let (small, large) = (gpt(false), gpt(true));
    let one = ["mac", "sun", "dvh", "bsd", "amiga", "atari"].map(|wanted| move |name: &str, _: &[u8]| name == wanted);
    let mut kinds: Vec<(&str, Which<'_>, Check, usize)> = vec![
        ("gpt", &small, check::gpt, 2048),
        ("gpt", &large, check::gpt, 3 * 4096),
        ("mbr", &|_, _| true, check::mbr, 0),
    ];
    kinds.extend(
        one.iter()
            .map(|which| ("tables", which as Which<'_>, check::tables as Check, 0)),
    );
    for (target, which, check, head) in kinds {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(target);
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let inputs: Vec<(String, Vec<u8>)> = names
            .iter()
            .map(|path| {
                (
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    fs::read(path).unwrap(),
                )
            })
            .filter(|(name, bytes)| which(name, bytes))
            .collect();
        let list: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        eprintln!("{target}: {count} of {}", list.join(", "));
        // A xorshift is random enough.
        let mut state = seed | 1;
        let mut dice = |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % sides.max(1)
        };
        for _ in 0..count {
            let mut bytes = inputs[dice(inputs.len())].1.clone();
            for _ in 0..1 + dice(8) {
                // Mostly where the table is: the rest is partitions.
                let len = if head > 0 && dice(4) > 0 {
                    head.min(bytes.len())
                } else {
                    bytes.len()
                };
                let at = dice(len);
                bytes[at] = match dice(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at] ^ 1 << dice(8),
                    _ => dice(256) as u8,
                };
            }
            if target == "gpt" {
                // Mended checksums let damage reach what is behind them.
                bytes[0] = inputs[0].1[0] & 1 | if dice(4) > 0 { 2 } else { 0 };
            }
            check(&bytes);
        }
    }
}
