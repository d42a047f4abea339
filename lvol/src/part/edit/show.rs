//! A whole table in sfdisk's words: what `sfdisk --json` prints, and from that `sfdisk --dump`.
use super::{FORMATS, Label, attribute_words, parse};
use crate::{
    part,
    plan::{Code, Disks, Draft, Refusal, Request, Stamp},
};
use serde::Serialize;

/// A table as `sfdisk --json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `gpt`, `dos`, `sun`, …
    pub label: &'static str,
    /// The GUID, or the signature in hexadecimal. The older tables have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The disk.
    pub device: String,
    /// Always `sectors`: blocks of the disk.
    pub unit: &'static str,
    /// First block that partitions may have, on a GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firstlba: Option<u64>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lastlba: Option<u64>,
    /// Slots, if they are not 128.
    #[serde(rename = "table-length", skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
    /// Bytes in a block.
    pub sectorsize: u32,
    /// In order of number; extended ones too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Row>,
}

/// A partition as `sfdisk --json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The disk that it is.
    pub node: String,
    /// First block.
    pub start: u64,
    /// Blocks.
    pub size: u64,
    /// GUID in capitals, or hexadecimal digits.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attrs: Option<String>,
    /// Marked to boot from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bootable: bool,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Reads the table of a disk, whoever uses it.
pub async fn table(disks: &dyn Disks, name: &str) -> Result<Shown, Refusal> {
    let stamp = Stamp {
        seed: uuid::Uuid::nil(),
        time: 0,
        host: String::new(),
    };
    let mut draft = Draft::new(disks, Request::new("show", name), stamp);
    let facts = draft.facts(name)?;
    if let Some(format) = facts.format.filter(|format| !FORMATS.contains(format)) {
        let why = format!("is {format}'s: {}", facts.reason);
        return Err(facts.refuse(Code::Unsupported, &why));
    }
    let row = |number: u32, start: u64, size: u64, kind: String| Row {
        node: part::name(&facts.name, number),
        start,
        size,
        kind,
        uuid: None,
        name: None,
        attrs: None,
        bootable: false,
    };
    let shown = |label: &'static str, partitions: Vec<Row>| Shown {
        label,
        id: None,
        device: facts.name.clone(),
        unit: "sectors",
        firstlba: None,
        lastlba: None,
        slots: None,
        sectorsize: facts.block_size,
        partitions,
    };
    Ok(match parse(&mut draft, &facts).await? {
        Label::Gpt(gpt) => {
            // As it is on the disk, not as it would be after a repair.
            let header = &gpt.found.header;
            let upper = |uuid: uuid::Uuid| uuid.to_string().to_uppercase();
            let rows = gpt.found.entries().map(|(number, entry)| Row {
                uuid: Some(upper(entry.guid)),
                name: some(entry.name.clone()),
                attrs: some(attribute_words(entry.attributes)),
                ..row(
                    number,
                    entry.first,
                    entry.extent().map_or(0, |extent| extent.count),
                    upper(entry.kind),
                )
            });
            let usable = header.usable();
            Shown {
                id: Some(upper(header.disk_guid())),
                firstlba: Some(usable.start),
                lastlba: Some((usable.start + usable.count).saturating_sub(1)),
                slots: (header.slots() != 128).then(|| header.slots().to_string()),
                ..shown("gpt", rows.collect())
            }
        }
        Label::Older(older) => {
            let entries = older.table.entries().into_iter();
            let rows = entries.map(|entry| Row {
                name: some(entry.name),
                attrs: some(older.table.print(&entry.marks)),
                ..row(entry.number, entry.extent.start, entry.extent.count, entry.kind)
            });
            shown(older.table.label(), rows.collect())
        }
        Label::Dos(dos) => {
            let all = dos.label.partitions().into_iter();
            let rows = all.map(|(number, extent, kind, bootable)| Row {
                bootable,
                ..row(number, extent.start, extent.count, format!("{kind:x}"))
            });
            Shown {
                id: Some(format!("{:#010x}", dos.label.master.disk_id())),
                ..shown("dos", rows.collect())
            }
        }
    })
}
