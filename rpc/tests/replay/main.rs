//! Replays what fuzzing found and what people wrote down, and some random bytes, without needing a fuzzer.

mod check;

use std::path::Path;

#[test]
fn the_corpus_of_the_wire_format_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/rpc_wire");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is in the tree") {
        let path = entry.expect("readable").path();
        check::wire(&std::fs::read(&path).expect("readable"));
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} files in {}", corpus.display());
}

#[test]
fn the_corpus_of_backups_holds_whole_cut_short_and_damaged() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/backup");
    let (mut replayed, mut understood) = (0, 0);
    for entry in std::fs::read_dir(&corpus).expect("the corpus is in the tree") {
        let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
        check::backup(&bytes);
        let good = rpc::backup::Backup::parse(&bytes).is_ok();
        understood += u32::from(good);
        for at in (0..bytes.len()).step_by(53) {
            check::backup(&bytes[..at]);
            let mut bad = bytes.clone();
            bad[at] ^= 0x15;
            check::backup(&bad);
            assert!(rpc::backup::Backup::parse(&bad).is_err() && rpc::backup::Backup::parse(&bytes[..at]).is_err());
        }
        replayed += 1;
    }
    assert!(
        replayed >= 6 && understood >= 1,
        "{replayed} files in {}, {understood} of them sound",
        corpus.display()
    );
}

#[test]
fn random_json_like_bytes_hold() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % n
    };
    let pieces: [&[u8]; 20] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"a\"",
        b"\"",
        b"\\",
        b"1",
        b"-0.5e7",
        b"true",
        b"null",
        b" ",
        b"\n",
        b"\"method\":\"x\"",
        b"\"id\":",
        b"\\u00e9",
        b"\xff",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}",
    ];
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..draw(12))
            .flat_map(|_| pieces[draw(pieces.len())].to_vec())
            .collect();
        check::wire(&bytes);
    }
}
