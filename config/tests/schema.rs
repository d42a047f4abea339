//! The schema from the user's side: every bad file with the exact complaint, every good one with what it means, and the way there and back.
use config::{Config, parse, to_yaml};
use std::{fs, path::Path};

fn files(dir: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

/// `tests/bad/expected.txt` has for each file its name in brackets and what is said of it. After a change on purpose run the test with
/// `BLESS=1` and read the difference.
#[test]
fn every_bad_file_is_refused_with_place_key_and_what_was_expected() {
    let mut said = String::new();
    for (name, text) in files("tests/bad") {
        let error = parse(&text).expect_err(&name);
        assert!(
            name == "empty_volume" || error.problems.iter().all(|p| p.line > 0 && p.column > 0),
            "{name}: {error}"
        );
        said += &format!("[{name}]\n{error}\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad/expected.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &said).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (ours, theirs) in said.split("\n[").zip(expected.split("\n[")) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(said, expected);
}

#[test]
fn every_example_and_good_file_survives_the_way_to_text_and_back() {
    for (name, text) in files("examples").into_iter().chain(files("tests/good")) {
        let config = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = to_yaml(&config).unwrap();
        assert_eq!(
            parse(&again).unwrap_or_else(|error| panic!("{name}: {error}\n{again}")),
            config,
            "{name}:\n{again}"
        );
    }
}

#[test]
fn an_empty_file_is_an_empty_configuration() {
    for text in ["", "\n\n", "# nothing\n"] {
        assert_eq!(parse(text).unwrap(), Config::default());
    }
}
