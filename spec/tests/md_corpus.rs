//! Replays the corpora of the fuzz targets for MD (fuzz/corpus) through the same checks.
#[path = "md/check.rs"]
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
fn superblock() {
    replay("md_superblock", check::superblock);
}

#[test]
fn logs() {
    replay("md_logs", check::logs);
}

#[test]
fn shape() {
    replay("md_shape", check::shape);
}
