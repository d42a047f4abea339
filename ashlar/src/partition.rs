//! `ashlar label`, `ashlar partition` and `ashlar sfdisk`: partition tables.
use crate::{ask, cli, human, plan, script};
use lvol::part::edit::FORMATS;
use rpc::client::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{error::Error, fmt::Write, io::Read};

type Outcome = Result<(), Box<dyn Error>>;

/// Runs `ashlar label`.
pub fn label(ask: &cli::Ask, command: &cli::LabelCommand) -> Outcome {
    let mut options = Map::new();
    let (verb, disk, how) = match command {
        cli::LabelCommand::Create {
            disk,
            scheme,
            id,
            force,
            how,
        } => {
            options.insert("scheme".into(), json!(scheme));
            put(&mut options, "id", id);
            flag(&mut options, "force", *force);
            ("label-create", disk, how)
        }
        cli::LabelCommand::Repair { disk, protective, how } => {
            flag(&mut options, "protective", *protective);
            ("label-repair", disk, how)
        }
        cli::LabelCommand::Identify { disk, id, how } => {
            put(&mut options, "id", id);
            ("disk-identify", disk, how)
        }
        cli::LabelCommand::Remove { disk, how } => ("label-remove", disk, how),
    };
    plan::change(&mut ask::connect(ask)?, ask, verb, disk, options, how)
}

fn put<T: serde::Serialize>(options: &mut Map<String, Value>, name: &str, value: &Option<T>) {
    if let Some(value) = value {
        options.insert(name.to_owned(), json!(value));
    }
}

fn flag(options: &mut Map<String, Value>, name: &str, set: bool) {
    if set {
        options.insert(name.to_owned(), true.into());
    }
}

/// Runs `ashlar partition`.
pub fn run(ask: &cli::Ask, command: &cli::PartitionCommand) -> Outcome {
    let mut client = ask::connect(ask)?;
    let mut options = Map::new();
    let (verb, object, how) = match command {
        cli::PartitionCommand::Ls { disk } => return list(&mut client, ask, disk.as_deref()),
        cli::PartitionCommand::Create(args) => {
            for (name, value) in [
                ("size", &args.size),
                ("start", &args.start),
                ("end", &args.end),
                ("type", &args.kind),
                ("place", &args.place),
                ("name", &args.name),
                ("guid", &args.guid),
            ] {
                put(&mut options, name, value);
            }
            put(&mut options, "number", &args.number);
            put(&mut options, "attributes", &args.attributes);
            flag(&mut options, "bootable", args.bootable);
            flag(&mut options, "wipe", args.wipe);
            ("partition-create", &args.disk, &args.how)
        }
        cli::PartitionCommand::Delete { partition, how } => ("partition-delete", partition, how),
        cli::PartitionCommand::Resize {
            partition,
            size,
            end,
            how,
        } => {
            put(&mut options, "size", size);
            put(&mut options, "end", end);
            ("partition-resize", partition, how)
        }
        cli::PartitionCommand::Change(args) => {
            for (name, value) in [("type", &args.kind), ("name", &args.name), ("guid", &args.guid)] {
                put(&mut options, name, value);
            }
            let attributes = args.attributes.as_ref().map(|all| {
                let given = all.iter().filter(|word| !word.is_empty());
                given.cloned().collect::<Vec<_>>()
            });
            put(&mut options, "attributes", &attributes);
            put(&mut options, "bootable", &args.bootable);
            ("partition-change", &args.partition, &args.how)
        }
    };
    plan::change(&mut client, ask, verb, object, options, how)
}

/// What `ashlar_get_partition_table` gives.
#[derive(Clone, Debug, Deserialize)]
struct Answer {
    partitiontable: Table,
}

#[derive(Clone, Debug, Deserialize)]
struct Table {
    label: String,
    id: Option<String>,
    device: String,
    unit: String,
    firstlba: Option<u64>,
    lastlba: Option<u64>,
    #[serde(rename = "table-length")]
    slots: Option<String>,
    sectorsize: u32,
    #[serde(default)]
    partitions: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    node: String,
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    kind: String,
    uuid: Option<String>,
    name: Option<String>,
    attrs: Option<String>,
    #[serde(default)]
    bootable: bool,
}

/// The table of one disk, or of every one that has a table which can be changed.
fn list(client: &mut Client, ask: &cli::Ask, disk: Option<&str>) -> Outcome {
    let names = match disk {
        Some(disk) => vec![disk.to_owned()],
        None => {
            let disks: Value = client.call("ashlar_get_disks", json!({}))?;
            let all = disks.as_array().cloned().unwrap_or_default();
            let tables = all
                .into_iter()
                .filter(|disk| FORMATS.iter().any(|format| disk["format"] == *format));
            tables
                .filter_map(|disk| disk["name"].as_str().map(str::to_owned))
                .collect()
        }
    };
    let mut values = Vec::new();
    for name in &names {
        let answer = client.call::<Value>("ashlar_get_partition_table", json!({ "name": name }));
        values.push(answer.map_err(plan::plain)?);
    }
    if ask.json {
        match disk {
            Some(_) => ask::print_json(&values[0]),
            None => ask::print_json(&values),
        }
        return Ok(());
    }
    if values.is_empty() {
        ask::print_text("No partition tables. `ashlar label create DISK` makes one.\n");
        return Ok(());
    }
    let mut rows = Vec::new();
    for value in values {
        let Answer { partitiontable: table } = serde_json::from_value(value)?;
        let size = u64::from(table.sectorsize);
        for row in &table.partitions {
            rows.push(vec![
                row.node.clone(),
                table.label.clone(),
                row.start.to_string(),
                (row.start + row.size).saturating_sub(1).to_string(),
                human::size(row.size.saturating_mul(size)),
                kind(&table.label, &row.kind),
                if row.bootable {
                    "boot".into()
                } else {
                    row.attrs.clone().unwrap_or_default()
                },
                row.name.clone().unwrap_or_default(),
            ]);
        }
    }
    ask::print_text(&human::table(
        &[
            "PARTITION",
            "TABLE",
            ">FIRST",
            ">LAST",
            ">SIZE",
            "TYPE",
            "FLAGS",
            "NAME",
        ],
        rows,
    ));
    Ok(())
}

/// A type in words if it has some.
fn kind(label: &str, text: &str) -> String {
    let known = match label {
        "gpt" => text.parse().ok().and_then(spec::gpt::types::name),
        _ => u8::from_str_radix(text, 16).ok().and_then(spec::mbr::type_name),
    };
    known.map_or_else(|| text.to_owned(), str::to_owned)
}

/// Runs `ashlar sfdisk`.
pub fn sfdisk(ask: &cli::Ask, args: &cli::Sfdisk) -> Outcome {
    let mut client = ask::connect(ask)?;
    if !args.dump && !ask.json {
        return write(&mut client, ask, args);
    }
    let answer = client.call::<Value>("ashlar_get_partition_table", json!({ "name": args.disk }));
    let answer = answer.map_err(plan::plain)?;
    if args.dump {
        let Answer { partitiontable } = serde_json::from_value(answer)?;
        ask::print_text(&dump(&partitiontable));
    } else {
        ask::print_text(&as_sfdisk_prints(&answer["partitiontable"]));
    }
    Ok(())
}

/// Does what a script on standard input says, change by change.
fn write(client: &mut Client, ask: &cli::Ask, args: &cli::Sfdisk) -> Outcome {
    let disks: Value = client.call("ashlar_get_disks", json!({ "name": args.disk }))?;
    let block_size = disks[0]["node"]["geometry"]["block_size"].as_u64();
    let block_size = block_size.and_then(|size| u32::try_from(size).ok()).unwrap_or(512);
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let script = script::parse(&text, block_size)?;
    let how = cli::How::default();
    if let Some(label) = &script.label {
        let mut options = Map::from_iter([("scheme".to_owned(), json!(label))]);
        put(&mut options, "id", &script.id);
        flag(&mut options, "force", args.force);
        plan::change(client, ask, "label-create", &args.disk, options, &how)?;
    }
    for options in script.partitions {
        plan::change(client, ask, "partition-create", &args.disk, options, &how)?;
    }
    Ok(())
}

/// As `sfdisk --json` prints it: three blanks a level, and the partitions in a chain of braces.
fn as_sfdisk_prints(table: &Value) -> String {
    let mut text = String::from("{\n   \"partitiontable\": {\n");
    let fields = table.as_object().cloned().unwrap_or_default();
    let line = |depth: usize, (key, value): (&String, &Value)| format!("{}\"{key}\": {value}", " ".repeat(depth * 3));
    let plain: Vec<String> = fields
        .iter()
        .filter(|(key, _)| *key != "partitions")
        .map(|field| line(2, field))
        .collect();
    text += &plain.join(",\n");
    if let Some(all) = fields.get("partitions").and_then(Value::as_array) {
        let rows: Vec<String> = all
            .iter()
            .map(|row| {
                let row = row.as_object().cloned().unwrap_or_default();
                let lines: Vec<String> = row.iter().map(|field| line(4, field)).collect();
                format!("{{\n{}\n         }}", lines.join(",\n"))
            })
            .collect();
        let _ = write!(text, ",\n      \"partitions\": [\n         {}\n      ]", rows.join(","));
    }
    text += "\n   }\n}\n";
    text
}

/// As `sfdisk --dump` prints it, so that sfdisk reads it.
fn dump(table: &Table) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key}: {value}");
    };
    line("label", table.label.clone());
    if let Some(id) = &table.id {
        line("label-id", id.clone());
    }
    line("device", table.device.clone());
    line("unit", table.unit.clone());
    for (key, value) in [("first-lba", table.firstlba), ("last-lba", table.lastlba)] {
        if let Some(value) = value {
            line(key, value.to_string());
        }
    }
    if let Some(slots) = &table.slots {
        line("table-length", slots.clone());
    }
    line("sector-size", table.sectorsize.to_string());
    text.push('\n');
    for row in &table.partitions {
        let _ = write!(
            text,
            "{} : start={:>12}, size={:>12}, type={}",
            row.node, row.start, row.size, row.kind
        );
        for (key, value) in [("uuid", &row.uuid), ("name", &row.name), ("attrs", &row.attrs)] {
            match value {
                Some(value) if key == "uuid" => {
                    let _ = write!(text, ", uuid={value}");
                }
                Some(value) => {
                    let _ = write!(text, ", {key}=\"{}\"", escaped(value));
                }
                None => {}
            }
        }
        if row.bootable {
            text += ", bootable";
        }
        text.push('\n');
    }
    text
}

/// What would end the text or not be seen, as `\xHH`.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' | '`' | '$' => {
                let _ = write!(safe, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(safe, "\\x{byte:02x}");
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(label: &str, rows: Value) -> Value {
        json!({
            "label": label, "id": "0xbad082ed", "device": "a.img", "unit": "sectors", "sectorsize": 512, "partitions": rows,
        })
    }

    #[test]
    fn a_dump_is_what_sfdisk_prints() {
        // From util-linux 2.38.1.
        let dos = table(
            "dos",
            json!([
                {"node": "a.img1", "start": 2048, "size": 16384, "type": "83", "bootable": true},
                {"node": "a.img2", "start": 18432, "size": 112_640, "type": "5"},
            ]),
        );
        let text = "label: dos\nlabel-id: 0xbad082ed\ndevice: a.img\nunit: sectors\nsector-size: 512\n\n\
                    a.img1 : start=        2048, size=       16384, type=83, bootable\n\
                    a.img2 : start=       18432, size=      112640, type=5\n";
        assert_eq!(dump(&serde_json::from_value(dos.clone()).unwrap()), text);
        let json = "{\n   \"partitiontable\": {\n      \"label\": \"dos\",\n      \"id\": \"0xbad082ed\",\n      \"device\": \"a.img\",\n      \
                    \"unit\": \"sectors\",\n      \"sectorsize\": 512,\n      \"partitions\": [\n         {\n            \"node\": \"a.img1\",\n            \
                    \"start\": 2048,\n            \"size\": 16384,\n            \"type\": \"83\",\n            \"bootable\": true\n         },{\n            \
                    \"node\": \"a.img2\",\n            \"start\": 18432,\n            \"size\": 112640,\n            \"type\": \"5\"\n         }\n      ]\n   }\n}\n";
        assert_eq!(as_sfdisk_prints(&dos), json);
    }

    #[test]
    fn names_cannot_break_out_of_a_dump() {
        let gpt = table(
            "gpt",
            json!([{"node": "d1", "start": 2048, "size": 8, "type": "T", "uuid": "U", "name": "a\"b\\c\n", "attrs": "GUID:60"}]),
        );
        let text = dump(&serde_json::from_value(gpt).unwrap());
        let line = text.lines().last().unwrap();
        assert!(
            line.ends_with(r#"type=T, uuid=U, name="a\x22b\x5cc\x0a", attrs="GUID:60""#),
            "{line}"
        );
    }
}
