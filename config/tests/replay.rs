//! Replays the corpus of the fuzz target `config_yaml` (fuzz/corpus), the bad files and the examples, whole, cut short and damaged.
#[path = "replay/check.rs"]
mod check;

use std::{fs, path::Path};

#[test]
fn config_yaml() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["../fuzz/corpus/config_yaml", "tests/bad", "tests/good", "examples"] {
        let mut names: Vec<_> = fs::read_dir(here.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for path in names {
            eprintln!("{}", path.display());
            let bytes = fs::read(&path).unwrap();
            check::yaml(&bytes);
            for at in (0..bytes.len()).step_by(17) {
                check::yaml(&bytes[..at]);
                let mut bad = bytes.clone();
                bad[at] ^= 0x15;
                check::yaml(&bad);
            }
        }
    }
}
