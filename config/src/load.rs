//! From text to a [`Config`]: strict YAML, every complaint with its place, then the checks a schema cannot express.
use crate::{
    check,
    error::{ConfigError, Problem},
    schema::Config,
};
use std::{fs, path::Path};

/// The largest file we read. A configuration of 10,000 volumes has about 1 MiB.
const MAX: u64 = 16 << 20;

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let why = |why: String| ConfigError::whole(Some(path), why);
    let size = fs::metadata(path).map_err(|e| why(e.to_string()))?.len();
    if size > MAX {
        return Err(why(format!(
            "{size} bytes are too many for a configuration; the limit is {MAX}"
        )));
    }
    let bytes = fs::read(path).map_err(|e| why(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
        why(format!("line {line} is not UTF-8 text"))
    })?;
    parse(&text).map_err(|error| ConfigError {
        file: Some(path.to_owned()),
        ..error
    })
}

/// Reads and checks text.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let options = serde_saphyr::options! {
        // `yes` is a string and 12 is a number: what looks like one thing is not taken for another.
        strict_booleans: true,
        no_schema: true,
        with_snippet: false,
    };
    // An empty file is a configuration without anything in it.
    let blank = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if blank {
        return Ok(Config::default());
    }
    let mut track = serde_path_to_error::Track::new();
    let parsed: Result<Config, serde_saphyr::Error> =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |de| {
            serde::Deserialize::deserialize(serde_path_to_error::Deserializer::new(de, &mut track))
        });
    let config = parsed.map_err(|error| {
        // `At` and a key that is no key of ours leave marks in the path that mean nothing to a reader.
        let path = track.path().to_string().replace(".value", "").replace(".?", "");
        let place = error.location();
        let problem = Problem {
            line: place.map_or(0, |l| l.line()),
            column: place.map_or(0, |l| l.column()),
            key: if path == "." { String::new() } else { path },
            message: words(&error),
        };
        ConfigError {
            file: None,
            problems: vec![problem],
        }
    })?;
    match check::check(&config) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(ConfigError { file: None, problems }),
    }
}

/// The message without the place, which we give ourselves, and in one line.
fn words(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = text
        .rfind(" at line ")
        .or_else(|| text.rfind(" (line "))
        .unwrap_or(text.len());
    let start = match text.strip_prefix("error: line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, _)) => "error: line : ".len() + place.len(),
        None => 0,
    };
    let text = text.get(start..end).unwrap_or(text);
    // Advice to programmers is none to the reader of a configuration.
    let advice = [", set DuplicateKeyPolicy", "; use "]
        .iter()
        .filter_map(|words| text.find(words))
        .min();
    let text = text[..advice.unwrap_or(text.len())].trim_end();
    match text {
        "invalid u64" | "invalid u32" | "invalid u16" | "invalid usize" => "expected a whole number".into(),
        "invalid socket address syntax" => "expected an address and a port like 127.0.0.1:3260 or [::1]:3260".into(),
        other => other.to_owned(),
    }
}
