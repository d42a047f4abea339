//! What must hold for any bytes on the RPC socket, and in a backup. Shared by the replay test and by the fuzz targets `rpc_wire` and `backup`.
#![allow(dead_code)]

use rpc::backup::Backup;
use rpc::envelope::Incoming;
use rpc::wire::{DEPTH_LIMIT, Framer, REQUEST_LIMIT, TOKEN_LIMIT, WireError};
use serde_json::Value;

/// Frames `data` as it comes in pieces of these sizes, round and round.
fn framed(data: &[u8], sizes: &[usize]) -> (Vec<Value>, Option<WireError>) {
    let mut framer = Framer::new(REQUEST_LIMIT);
    let mut values = Vec::new();
    let mut rest = data;
    for size in sizes.iter().cycle() {
        loop {
            match framer.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).clamp(1, rest.len()));
        framer.push(now);
        rest = later;
    }
    (values, None)
}

/// Panics if the framer depends on how the bytes were cut, or disagrees with serde_json about the first value.
pub fn wire(data: &[u8]) {
    let whole = framed(data, &[data.len().max(1)]);
    let seed = data
        .iter()
        .fold(1usize, |s, b| s.wrapping_mul(31).wrapping_add(*b as usize));
    assert_eq!(framed(data, &[1]), whole, "a byte at a time");
    assert_eq!(
        framed(data, &[seed % 7 + 1, seed % 61 + 1, 1, seed % 1000 + 1]),
        whole,
        "in odd pieces"
    );

    if data
        .iter()
        .find(|b| !b" \t\r\n".contains(b))
        .is_some_and(|b| b"{[".contains(b))
    {
        let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
        let (mine, wrong) = (whole.0.first(), whole.1.is_some());
        match stream.next() {
            // Beyond our limits we refuse what serde_json takes.
            Some(Ok(theirs)) => {
                assert!(mine == Some(&theirs) || (wrong && over_the_limits(&theirs, stream.byte_offset())))
            }
            Some(Err(error)) if error.is_eof() => assert!(mine.is_none(), "a value that has no end"),
            Some(Err(_)) => assert!(mine.is_none(), "a value serde_json refuses"),
            None => assert!(mine.is_none()),
        }
    }
    for value in whole.0 {
        // Whatever is JSON must be readable as a request or as a refusal.
        Incoming::read(value);
    }
}

fn over_the_limits(value: &Value, bytes: usize) -> bool {
    fn measure(value: &Value) -> (u32, u32) {
        let (tokens, below): (u32, Vec<&Value>) = match value {
            Value::Array(items) => (2, items.iter().collect()),
            Value::Object(members) => (2 + members.len() as u32, members.values().collect()),
            _ => return (1, 0),
        };
        below
            .into_iter()
            .map(measure)
            .fold((tokens, 1), |(t, d), (tokens, depth)| (t + tokens, d.max(depth + 1)))
    }
    let (tokens, depth) = measure(value);
    // Names given twice are one member afterwards, so the count can only fall short by those.
    depth > DEPTH_LIMIT || tokens > TOKEN_LIMIT / 2 || bytes > REQUEST_LIMIT
}

/// What must hold for any bytes handed over as a backup: refused with a reason, or understood, and then it survives the way to bytes and back.
pub fn backup(data: &[u8]) {
    // Random bytes never have the right checksum; those of a body are given one.
    for bytes in [data.to_vec(), target::keep::seal(data)] {
        match Backup::parse(&bytes) {
            Ok(backup) => {
                let again = backup.to_bytes().expect("what was read can be written");
                assert_eq!(Backup::parse(&again).as_ref(), Ok(&backup));
            }
            Err(why) => assert!(!why.is_empty()),
        }
    }
}
