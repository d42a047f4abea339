//! Apple partition maps as something to change: a block for each entry, in an order that the map gives ([`Map`]).
//!
//! Of the driver descriptor in block 0 nothing is changed. Drivers and patches that a map has entries for are partitions like others to us, and stay
//! where they are; so does what is neither free nor a partition.
use super::{Entry, Put, Rules, Scheme, Tells};
use crate::plan::{Code, Draft, Facts, Refusal};
use spec::apple::{
    self, Descriptor, ENTRY_LEN, Map,
    map::{self, TEXT_MAX, Wanted},
};

const WHAT: &str = "an Apple partition map";
/// Words for types.
const TYPES: [(&str, &str); 5] = [
    ("linux", "Apple_UNIX_SVR2"),
    ("hfs", "Apple_HFS"),
    ("boot", "Apple_Bootstrap"),
    ("raid", "Linux_RAID"),
    ("lvm", "Linux_LVM"),
];

/// A map, and its disk's blocks.
pub struct Apple {
    map: Map,
    /// Block 0, if it is to be written.
    descriptor: Option<[u8; ENTRY_LEN]>,
    block_size: u32,
}

/// The map that a disk has, if it has one.
pub async fn read(draft: &mut Draft<'_>, disk: &Facts, front: &[u8]) -> Result<Option<Apple>, Refusal> {
    let Ok(descriptor) = Descriptor::parse(front) else {
        return Ok(None);
    };
    if u32::from(descriptor.block_size) != disk.block_size {
        return Err(unusable(disk, "its blocks are not those of the disk"));
    }
    Ok(Some(Apple {
        map: map(draft, disk).await?,
        descriptor: None,
        block_size: disk.block_size,
    }))
}

/// A map whose descriptor is gone: the entries are there, in blocks of the disk, and block 0 is blank or a descriptor that makes no sense.
pub async fn lost(draft: &mut Draft<'_>, disk: &Facts) -> Result<Option<Apple>, Refusal> {
    let size = u64::from(disk.block_size);
    // In blocks of 512 bytes the entries are a signature, of nobody else's.
    let others = disk
        .signatures
        .iter()
        .any(|found| !found.contains("Apple partition map"));
    if disk.format.is_some() || others || disk.blocks < 2 {
        return Ok(None);
    }
    let front = draft.read(&disk.name, 0, size).await?;
    let first = draft.read(&disk.name, size, ENTRY_LEN as u64).await?;
    let broken = front.starts_with(b"ER") && Descriptor::parse(&front).is_err();
    let own = apple::Entry::parse(&first, 1).is_ok_and(|entry| entry.kind == map::MAP);
    if !own || !(broken || front.iter().all(|byte| *byte == 0)) {
        return Ok(None);
    }
    let block_size = u16::try_from(disk.block_size).unwrap_or_default();
    Ok(Some(Apple {
        map: map(draft, disk).await?,
        descriptor: Some(Descriptor { block_size }.to_bytes(disk.blocks)),
        block_size: disk.block_size,
    }))
}

fn unusable(disk: &Facts, why: &str) -> Refusal {
    disk.refuse(Code::Unsupported, &format!("has {WHAT} that is only read here: {why}"))
}

/// Reads all entries, in blocks of the disk.
async fn map(draft: &mut Draft<'_>, disk: &Facts) -> Result<Map, Refusal> {
    let size = u64::from(disk.block_size);
    let mut entries = Vec::new();
    let mut count = 1;
    while (entries.len() as u32) < count {
        let number = entries.len() as u32 + 1;
        let block = draft
            .read(&disk.name, u64::from(number) * size, ENTRY_LEN as u64)
            .await?;
        let entry = apple::Entry::parse(&block, number)
            .map_err(|why| disk.refuse(Code::Damaged, &format!("has {WHAT}, and {why}")))?;
        if number == 1 {
            count = entry.count;
        }
        entries.push(entry);
    }
    Map::new(entries, disk.blocks).ok_or_else(|| {
        unusable(
            disk,
            "its first entry is not its own, or counts entries that lie behind the map",
        )
    })
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Apple, Refusal> {
    let block_size = u16::try_from(disk.block_size).unwrap_or_default();
    let map = Map::fresh(disk.blocks).ok_or_else(|| {
        let why = "is too small or too large for an Apple partition map, which tells of 65 to 4294967295 blocks";
        disk.refuse(Code::NoSpace, why)
    })?;
    Ok(Apple {
        map,
        descriptor: Some(Descriptor { block_size }.to_bytes(disk.blocks)),
        block_size: disk.block_size,
    })
}

impl Scheme for Apple {
    fn label(&self) -> &'static str {
        "mac"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let used = (1..).zip(self.map.entries());
        used.filter(|(_, entry)| entry.blocks > 0 && ![map::FREE, "Apple_Void", ""].contains(&entry.kind.as_str()))
            .map(|(number, entry)| Entry {
                number,
                extent: spec::Extent::new(entry.start.into(), entry.blocks.into()),
                kind: entry.kind.clone(),
                name: entry.name.clone(),
                marks: Vec::new(),
                fixed: match entry.kind.as_str() {
                    map::MAP => Some("the map itself"),
                    _ if entry.is_filler() => Some("no partition"),
                    _ => None,
                },
            })
            .collect()
    }
    fn free(&self) -> Vec<u32> {
        self.map.free()
    }
    fn rules(&self) -> Rules {
        Rules {
            room: self.map.room(),
            step: 1,
            cylinder: 1,
        }
    }
    fn tells(&self) -> Tells {
        Tells { name: true, marks: &[] }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        let text = text.unwrap_or("linux");
        let known = TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let kind = known.map_or(text, |(_, kind)| kind);
        // Apple's own and Linux' all look so; what is free or the map is no partition.
        let plain = kind.len() <= TEXT_MAX && kind.bytes().all(|b| b.is_ascii_graphic()) && kind.contains('_');
        match plain && !apple::is_filler(kind) {
            true => Ok(kind.to_owned()),
            false => {
                let words: Vec<&str> = TYPES.iter().map(|(word, _)| *word).collect();
                Err(
                    Refusal::new(Code::BadOption, format!("{text:?} is no type of an Apple partition"))
                        .but(format!("one such as Apple_HFS, or one of {}", words.join(", "))),
                )
            }
        }
    }
    fn name(&self, text: &str) -> Result<(), Refusal> {
        // MacRoman beyond ASCII is another letter to each tool.
        let plain = text.len() <= TEXT_MAX && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        match plain {
            true => Ok(()),
            false => {
                let why = format!("{text:?} is no name of an Apple partition: at most {TEXT_MAX} letters of ASCII fit");
                Err(Refusal::new(Code::BadName, why))
            }
        }
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let wanted = entry.map(|entry| Wanted {
            // 32 bits are enough: the caller has chosen it inside of the room.
            start: entry.extent.start as u32,
            blocks: entry.extent.count as u32,
            name: entry.name.clone(),
            kind: entry.kind.clone(),
        });
        match self.map.set(number, wanted.as_ref()) {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::NoSpace,
                format!("the map has no room for an entry {number}"),
            )),
        }
    }
    fn mend(&mut self) -> bool {
        self.map.mend();
        true
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        let size = u64::from(self.block_size);
        let puts = |blocks: Vec<(u32, [u8; ENTRY_LEN])>| {
            let put = |(number, bytes): (u32, [u8; ENTRY_LEN])| {
                (u64::from(number) * size, bytes.to_vec(), "entry of the partition map")
            };
            blocks.into_iter().map(put).collect()
        };
        let mut steps: Vec<_> = self
            .map
            .steps()
            .into_iter()
            .map(|(title, blocks)| (title, puts(blocks)))
            .collect();
        if let Some(descriptor) = self.descriptor {
            steps.push((
                "the descriptor, which leads to the map",
                vec![(0, descriptor.to_vec(), "driver descriptor")],
            ));
        }
        steps
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        let size = u64::from(self.block_size);
        let entries = 1..=self.map.entries().len() as u64;
        vec![
            (
                "the descriptor: from here on nobody sees a map",
                vec![(0, vec![0; ENTRY_LEN], "driver descriptor")],
            ),
            (
                "the entries",
                entries
                    .map(|number| (number * size, vec![0; ENTRY_LEN], "entry of the partition map"))
                    .collect(),
            ),
        ]
    }
}
