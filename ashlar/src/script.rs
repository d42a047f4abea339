//! What sfdisk takes on its input: a header, then a line for each partition.
//!
//! ```text
//! label: gpt
//! label-id: 01234567-89AB-CDEF-0123-456789ABCDEF
//!
//! disk0p1 : start=2048, size=16384, type=U, name="efi"
//! ,1G,V
//! ```
use serde_json::{Map, Value, json};

/// A script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// `gpt` or `dos`, if it makes a new table.
    pub label: Option<String>,
    /// The table's identity.
    pub id: Option<String>,
    /// Options of `partition-create`, in order.
    pub partitions: Vec<Map<String, Value>>,
}

/// Reads a script. Numbers without a unit count blocks of `block_size` bytes.
pub fn parse(text: &str, block_size: u32) -> Result<Script, String> {
    let mut script = Script::default();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        let wrong = |why: String| format!("line {number}: {why}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((key, value)) = header(line) {
            match key {
                "label" if ["gpt", "dos", "sun", "sgi", "bsd"].contains(&value) => {
                    script.label = Some(value.to_owned())
                }
                "label" => return Err(wrong(format!("{value:?} is no table that can be made here"))),
                "label-id" => script.id = Some(value.to_owned()),
                "unit" if value != "sectors" => return Err(wrong("the unit can be sectors only".into())),
                "sector-size" if value != block_size.to_string() => {
                    return Err(wrong(format!(
                        "it is for blocks of {value} bytes, the disk has {block_size}"
                    )));
                }
                // Where partitions may be follows from the disk.
                _ => {}
            }
            continue;
        }
        let dos = script.label.as_deref().is_none_or(|label| label == "dos");
        if fixed(script.label.as_deref(), line) {
            continue;
        }
        script.partitions.push(partition(line, block_size, dos).map_err(wrong)?);
    }
    Ok(script)
}

/// Entries that a new label has by itself: the whole disk, the room of an SGI header.
fn fixed(label: Option<&str>, line: &str) -> bool {
    let kinds: &[&str] = match label {
        Some("sun") => &["5"],
        Some("sgi") => &["0", "6"],
        Some("bsd") => &["0"],
        _ => return false,
    };
    let kind = line
        .rsplit_once("type=")
        .map(|(_, rest)| rest.split(',').next().unwrap_or_default().trim());
    kind.is_some_and(|kind| kinds.contains(&kind))
}

fn header(line: &str) -> Option<(&str, &str)> {
    const KEYS: [&str; 9] = [
        "label",
        "label-id",
        "device",
        "unit",
        "first-lba",
        "last-lba",
        "table-length",
        "grain",
        "sector-size",
    ];
    let (key, value) = line.split_once(':')?;
    KEYS.contains(&key.trim()).then(|| (key.trim(), value.trim()))
}

/// Fields between commas and blanks; a text in quotes is one field.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let (mut all, mut now, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | ';' if !quoted => all.push(std::mem::take(&mut now).trim().to_owned()),
            c => now.push(c),
        }
    }
    if quoted {
        return Err("a quotation mark is missing".into());
    }
    all.push(now.trim().to_owned());
    Ok(all)
}

fn partition(line: &str, block_size: u32, dos: bool) -> Result<Map<String, Value>, String> {
    let mut options = Map::new();
    let (node, rest) = match line.split_once(':') {
        // Not the colon of an attribute.
        Some((node, rest)) if !node.contains(['=', ',', '"']) => (node.trim(), rest.trim()),
        _ => ("", line),
    };
    let digits = node.len() - node.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 {
        let number: u32 = node[node.len() - digits..]
            .parse()
            .map_err(|_| format!("{node:?} has no number"))?;
        options.insert("number".into(), json!(number));
        if dos && number >= 5 {
            options.insert("place".into(), json!("logical"));
        }
    }
    for (field, place) in fields(rest)?.iter().zip(0usize..) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), value.trim()),
            None if field == "bootable" => ("bootable".to_owned(), ""),
            None => {
                let key = ["start", "size", "type", "bootable"].get(place);
                (
                    key.ok_or_else(|| format!("{field:?} is one field too many"))?
                        .to_string(),
                    field.as_str(),
                )
            }
        };
        match key.as_str() {
            "start" | "size" if value.is_empty() || value == "+" || value == "-" => {}
            "start" | "size" => {
                options.insert(key, bytes(value, block_size)?);
            }
            "type" | "id" if value.is_empty() => {}
            "type" | "id" => {
                options.insert("type".into(), json!(value));
                if dos && ["5", "05", "f", "0f", "85", "E", "extended"].contains(&value) {
                    options.insert("place".into(), json!("extended"));
                }
            }
            "uuid" => {
                options.insert("guid".into(), json!(value));
            }
            "name" => {
                options.insert("name".into(), json!(unescaped(value)?));
            }
            "attrs" => {
                let words = value.split([' ', ',']).filter(|word| !word.is_empty());
                let words: Vec<&str> = words.map(|word| word.strip_prefix("GUID:").unwrap_or(word)).collect();
                options.insert("attributes".into(), json!(words));
            }
            "bootable" if value.is_empty() && place == 3 && field.is_empty() => {}
            "bootable" if matches!(value, "" | "*" | "+") => {
                options.insert("bootable".into(), true.into());
            }
            "bootable" if value == "-" => {}
            other => return Err(format!("{other:?} is no field of a partition")),
        }
    }
    Ok(options)
}

/// A size or an address in bytes.
fn bytes(text: &str, block_size: u32) -> Result<Value, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no number of blocks"))?;
    let unit = unit.to_ascii_lowercase();
    let times = match unit.strip_suffix("ib").unwrap_or(&unit) {
        "" | "s" => u64::from(block_size),
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(format!("{text:?} has a unit nobody knows")),
    };
    let bytes = number
        .checked_mul(times)
        .ok_or_else(|| format!("{text:?} is too large"))?;
    Ok(json!(bytes))
}

/// `\x22` as it was before it was written into a script.
fn unescaped(text: &str) -> Result<String, String> {
    let (mut plain, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once("\\x") {
        plain.extend_from_slice(before.as_bytes());
        let byte = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(byte.ok_or_else(|| format!("{text:?} has a \\x without two digits"))?);
        rest = &behind[2..];
    }
    plain.extend_from_slice(rest.as_bytes());
    String::from_utf8(plain).map_err(|_| format!("{text:?} is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_a_script() {
        let text = "label: gpt\nlabel-id: FA73\ndevice: a.img\nunit: sectors\nfirst-lba: 2048\nlast-lba: 131006\ntable-length: 256\n\
                    sector-size: 512\n\n\
                    a.img1 : start=        2048, size=       16384, type=C12A, uuid=121C, name=\"a, \\x22b: c\", attrs=\"LegacyBIOSBootable GUID:60,63\"\n\
                    # nothing\na.img2 : start=20480, size=2048, type=V, bootable\n";
        let script = parse(text, 512).unwrap();
        assert_eq!(
            (script.label.as_deref(), script.id.as_deref()),
            (Some("gpt"), Some("FA73"))
        );
        assert_eq!(
            Value::from(script.partitions[0].clone()),
            json!({"number": 1, "start": 1 << 20, "size": 8 << 20, "type": "C12A", "guid": "121C", "name": "a, \"b: c",
                   "attributes": ["LegacyBIOSBootable", "60", "63"]})
        );
        assert_eq!(
            Value::from(script.partitions[1].clone()),
            json!({"number": 2, "start": 10 << 20, "size": 1 << 20, "type": "V", "bootable": true})
        );
    }

    #[test]
    fn fields_may_have_places_instead_of_names() {
        let script = parse("label: dos\n2048,1M,83,*\n,,E\n5: size=8, Id=82\n,+\n", 4096).unwrap();
        let all: Vec<Value> = script.partitions.into_iter().map(Value::from).collect();
        assert_eq!(
            all,
            [
                json!({"start": 8 << 20, "size": 1 << 20, "type": "83", "bootable": true}),
                json!({"type": "E", "place": "extended"}),
                json!({"number": 5, "place": "logical", "size": 32_768, "type": "82"}),
                json!({}),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, why) in [
            ("label: atari\n", "line 1: \"atari\""),
            ("label: gpt\n\nstart=x\n", "line 3: \"x\""),
            ("unit: cylinders\n", "line 1: the unit"),
            ("sector-size: 4096\n", "line 1: it is for blocks of 4096"),
            ("size=1M, colour=red\n", "line 1: \"colour\""),
            ("name=\"x\n", "line 1: a quotation mark"),
            ("1,2,3,*,5\n", "line 1: \"5\" is one field too many"),
            ("size=99999999999999999G\n", "line 1: "),
        ] {
            let refused = parse(text, 512).unwrap_err();
            assert!(refused.starts_with(why), "{text:?}: {refused}");
        }
    }
}
