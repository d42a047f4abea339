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

/// Labels with random damage, `ASHLAR_MUTATIONS` of each kind (20,000 by default, 400,000 make the million that a release is tested with): nothing
/// panics, and no extent is out of range.
#[test]
fn mutated() {
    let count: u64 = std::env::var("ASHLAR_MUTATIONS").map_or(20_000, |text| text.parse().expect("a number"));
    let seed: u64 = std::env::var("ASHLAR_SEED").map_or(0x5eed, |text| text.parse().expect("a number"));
    eprintln!("ASHLAR_MUTATIONS={count} ASHLAR_SEED={seed}");
    type Check = fn(&[u8]);
    let kinds: [(&str, Check, usize); 3] = [
        ("gpt", check::gpt, 2048),
        ("mbr", check::mbr, 0),
        ("tables", check::tables, 0),
    ];
    for (target, check, head) in kinds {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(target);
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let inputs: Vec<Vec<u8>> = names.iter().map(|path| fs::read(path).unwrap()).collect();
        // A xorshift is random enough.
        let mut state = seed | 1;
        let mut dice = |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % sides.max(1)
        };
        for _ in 0..count {
            let mut bytes = inputs[dice(inputs.len())].clone();
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
                bytes[0] = bytes[0] & 1 | if dice(4) > 0 { 2 } else { 0 };
            }
            check(&bytes);
        }
    }
}
