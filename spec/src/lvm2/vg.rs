//! What the text says of a volume group: physical volumes, logical volumes and their segments. A typed view for reading; who writes
//! changes the tree (`text`), in which everything is kept.
//!
//! Segments of type `striped` are understood (`linear` is one stripe). Of any other only the name is known and which volumes it mentions, for
//! a volume that is a part of another one must not be used by itself.
use super::{
    Id,
    text::{Data, Section, Value},
};
use serde::Serialize;
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// How far a volume is looked for behind where it is expected in a tree that was read before: so many may have gone in between.
const AHEAD: usize = 16;
/// Largest group: extents are counted in 32 bits.
const EXTENTS_MAX: u64 = u32::MAX as u64;

/// Why a text does not describe a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not even a text.
    #[error(transparent)]
    Text(#[from] super::text::Error),
    /// A text of something else.
    #[error("the text does not say that it describes a volume group in version 1")]
    Contents,
    /// No section for the group.
    #[error("the text has no section of a group")]
    NoGroup,
    /// A field is not there or says what it cannot say.
    #[error("{place}: {field:?} is missing or not {wanted}")]
    Field {
        /// The section.
        place: String,
        /// The field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Names are used in paths.
    #[error("{0:?} is not a name")]
    Name(String),
    /// Two of the same name or identity.
    #[error("{0} is there twice")]
    Twice(String),
    /// Segments leave a gap, overlap or do not divide.
    #[error("{place}: {why}")]
    Segment {
        /// The segment.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A physical volume as the group knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// The word segments use for it: `pv0`.
    pub name: String,
    /// Its identity, which its label has.
    pub id: Id,
    /// Where it was last seen. A hint.
    pub device: Option<String>,
    /// `ALLOCATABLE`, `EXPORTED`, `MISSING`.
    pub status: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Size of the device in sectors.
    pub dev_size: Option<u64>,
    /// First sector of extent 0.
    pub pe_start: u64,
    /// Extents.
    pub pe_count: u64,
}

/// A stripe of a segment: extents of a physical volume from this one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// The physical volume's word, or the name of a logical volume.
    pub on: String,
    /// First extent there.
    pub extent: u64,
}

/// What a segment is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Chunks in turn on each of the stripes; one stripe is linear.
    Striped {
        /// Sectors in a chunk; means nothing with one stripe.
        chunk: u64,
        /// In order; at least one.
        stripes: Vec<Stripe>,
    },
    /// Something else.
    Other {
        /// Every name it mentions.
        mentions: BTreeSet<String>,
        /// If it is a snapshot: the volume that users take for it. That one has lost its `VISIBLE`.
        cow: Option<String>,
    },
}

/// Extents of a logical volume that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First extent of the volume.
    pub start: u64,
    /// Extents.
    pub count: u64,
    /// Its type, as LVM2 writes it.
    pub kind: String,
    /// What it is made of.
    pub shape: Shape,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Id,
    /// `READ`, `WRITE`, `VISIBLE`, `FIXED_MINOR`, …
    pub status: Vec<String>,
    /// `ACTIVATION_SKIP`, `NOAUTOACTIVATE`, …
    pub flags: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// How it gets more extents, if not as the group says.
    pub allocation: Option<String>,
    /// In order, without gaps.
    pub segments: Vec<Segment>,
}

impl LogicalVolume {
    /// Its length in extents.
    pub fn extents(&self) -> u64 {
        // Checked: contiguous and bounded.
        self.segments.iter().map(|segment| segment.count).sum()
    }

    /// True if its status says that users see it; the others are parts of one they see.
    pub fn is_visible(&self) -> bool {
        has(&self.status, "VISIBLE")
    }

    /// True if it may be written to.
    pub fn is_writable(&self) -> bool {
        is_writable(&self.status, &self.flags)
    }
}

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Id,
    /// Counts changes; the larger one is the newer text.
    pub seqno: u64,
    /// `RESIZEABLE`, `READ`, `WRITE`, `EXPORTED`, `CLUSTERED`, …
    pub status: Vec<String>,
    /// `NOAUTOACTIVATE`, …
    pub flags: Vec<String>,
    /// The host it belongs to, if it belongs to one.
    pub system_id: Option<String>,
    /// Who arbitrates between hosts that share it: `sanlock`, `dlm`, `idm`.
    pub lock_type: Option<String>,
    /// Sectors in an extent.
    pub extent_size: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// How volumes get their extents; `normal` if it says nothing.
    pub allocation: Option<String>,
    /// Its physical volumes, in the text's order.
    pub physical: Vec<PhysicalVolume>,
    /// Its logical volumes, in the text's order.
    pub logical: Vec<Arc<LogicalVolume>>,
    /// What made this text: a command, as a rule.
    pub description: Option<String>,
    /// Where that was.
    pub creation_host: Option<String>,
}

/// Instead of `WRITE`, where a group belongs to a host: an LVM2 of before there were such groups takes it for read-only.
pub const WRITE_LOCKED: &str = "WRITE_LOCKED";

fn is_writable(status: &[String], flags: &[String]) -> bool {
    has(status, "WRITE") || has(flags, WRITE_LOCKED)
}

/// True if a list of status words or flags has this one.
pub fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|have| have == word)
}

/// Letters, digits and `+_.-`, as LVM2 has it for groups, volumes and tags; neither `.` nor `..`, and no `-` in front.
pub fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
    !name.is_empty()
        && name.len() <= 127
        && name.bytes().all(good)
        && !matches!(name, "." | "..")
        && !name.starts_with('-')
}

/// Letters, digits and `_.-`, with a letter or a digit in front: what a host is called to whom groups belong (`lvmsystemid(7)`).
pub fn is_system_id(text: &str) -> bool {
    is_name(text) && !text.contains('+') && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl VolumeGroup {
    /// Reads a text.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        Self::of(&Section::parse(text)?)
    }

    /// The group a tree describes.
    pub fn of(tree: &Section) -> Result<Self, Error> {
        Self::like(tree, None)
    }

    /// The group a tree describes. What the tree shares with one that was read before is taken from there; the result is the same as without.
    pub fn like(tree: &Section, before: Option<(&Section, &Self)>) -> Result<Self, Error> {
        let says = |name: &str| tree.value(name);
        if says("contents").and_then(Value::text) != Some("Text Format Volume Group")
            || says("version").and_then(Value::integer) != Some(1)
        {
            return Err(Error::Contents);
        }
        let item = tree.items().iter().find(|item| item.section().is_some());
        let (name, group) = item
            .and_then(|item| Some((item.name().into_owned(), item.section()?)))
            .ok_or(Error::NoGroup)?;
        if !is_name(&name) {
            return Err(Error::Name(name));
        }
        let at = Place(&name, group);
        let extent_size = at.number("extent_size")?;
        if extent_size == 0 || extent_size > EXTENTS_MAX {
            return Err(at.wrong("extent_size", "a size"));
        }
        let mut physical = Vec::new();
        for (word, section) in at.sections("physical_volumes") {
            physical.push(PhysicalVolume::of(word.into_owned(), section)?);
        }
        let mut known = before.into_iter().flat_map(|(tree, vg)| {
            let group = tree.section(&vg.name);
            let volumes = group.and_then(|group| group.section("logical_volumes"));
            let sections = volumes.map(Section::items).unwrap_or_default().iter();
            sections.filter_map(|item| item.section()).zip(&vg.logical)
        });
        let mut next = known.next();
        let mut logical = Vec::with_capacity(before.map_or(0, |(_, vg)| vg.logical.len() + 1));
        for (lv, section) in at.sections("logical_volumes") {
            // Those that have gone in between are passed over; one that has changed is there under its name.
            let ahead = known.clone().take(AHEAD);
            if let Some(gone) = next.into_iter().chain(ahead).position(|(_, had)| *had.name == *lv) {
                (0..gone).for_each(|_| next = known.next());
            }
            match next {
                Some((was, had)) if *had.name == *lv => {
                    logical.push(match was.is(section) {
                        true => had.clone(),
                        false => Arc::new(LogicalVolume::of(lv.into_owned(), section)?),
                    });
                    next = known.next();
                }
                _ => logical.push(Arc::new(LogicalVolume::of(lv.into_owned(), section)?)),
            }
        }
        once(physical.iter().map(|pv| pv.name.as_str()), "physical volume")?;
        once(physical.iter().map(|pv| pv.id.as_str()), "physical volume")?;
        once(logical.iter().map(|lv| lv.name.as_str()), "logical volume")?;
        once(logical.iter().map(|lv| lv.id.as_str()), "logical volume")?;
        Ok(Self {
            id: at.id()?,
            seqno: at.number("seqno")?,
            status: at.words("status"),
            flags: at.words("flags"),
            system_id: at.text("system_id").filter(|id| !id.is_empty()),
            lock_type: at.text("lock_type").filter(|kind| !kind.is_empty() && kind != "none"),
            extent_size,
            tags: at.words("tags"),
            allocation: at.text("allocation_policy"),
            physical,
            logical,
            description: says("description").and_then(Value::text).map(str::to_owned),
            creation_host: says("creation_host").and_then(Value::text).map(str::to_owned),
            name,
        })
    }

    /// True if its volumes may be written to.
    pub fn is_writable(&self) -> bool {
        is_writable(&self.status, &self.flags)
    }

    /// Logical volumes that others are made of, with the name of one that is.
    pub fn parts(&self) -> Vec<(&str, &str)> {
        let words: BTreeSet<&str> = self.physical.iter().map(|pv| pv.name.as_str()).collect();
        let mut mentioned: Vec<(&str, &str)> = Vec::new();
        for lv in &self.logical {
            for segment in &lv.segments {
                match &segment.shape {
                    // A stripe is looked up among the physical volumes first.
                    Shape::Striped { stripes, .. } => {
                        let others = stripes.iter().filter(|stripe| !words.contains(stripe.on.as_str()));
                        mentioned.extend(others.map(|stripe| (stripe.on.as_str(), lv.name.as_str())));
                    }
                    Shape::Other { mentions, .. } => {
                        mentioned.extend(mentions.iter().map(|name| (name.as_str(), lv.name.as_str())));
                    }
                }
            }
        }
        // As a rule there are none, and no list of ten thousand names is needed.
        if !mentioned.is_empty() {
            let names: HashSet<&str> = self.logical.iter().map(|lv| lv.name.as_str()).collect();
            mentioned.retain(|(part, whole)| names.contains(part) && part != whole);
        }
        mentioned
    }

    /// Logical volumes whose extents another one has too, each with one such. LVM2 never makes such a group.
    pub fn overlaps(&self) -> Vec<(&str, &str)> {
        // (physical volume, first extent, one past the last, volume), in order; whoever starts before the furthest end so far shares it.
        let mut runs: Vec<(&str, u64, u64, &str)> = Vec::new();
        for lv in &self.logical {
            for segment in &lv.segments {
                let Shape::Striped { stripes, .. } = &segment.shape else {
                    continue;
                };
                let each = segment.count / stripes.len().max(1) as u64;
                runs.extend(
                    stripes
                        .iter()
                        .map(|s| (s.on.as_str(), s.extent, s.extent.saturating_add(each), lv.name.as_str())),
                );
            }
        }
        runs.sort_unstable();
        let mut found = BTreeSet::new();
        let mut furthest: Option<(&str, u64, u64, &str)> = None;
        for run in runs {
            match furthest {
                Some(far) if far.0 == run.0 && run.1 < far.2 => {
                    found.insert((far.3, run.3));
                    found.insert((run.3, far.3));
                    if run.2 > far.2 {
                        furthest = Some(run);
                    }
                }
                _ => furthest = Some(run),
            }
        }
        found.into_iter().collect()
    }
}

fn once<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(names.size_hint().0);
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Twice(format!("{what} {name}")));
        }
    }
    Ok(())
}

impl PhysicalVolume {
    fn of(name: String, section: &Section) -> Result<Self, Error> {
        let place = format!("physical volume {name}");
        let at = Place(&place, section);
        let (pe_start, pe_count) = (at.number("pe_start")?, at.number("pe_count")?);
        if pe_count > EXTENTS_MAX {
            return Err(at.wrong("pe_count", "of 32 bits"));
        }
        Ok(Self {
            id: at.id()?,
            device: at.text("device"),
            status: at.words("status"),
            tags: at.words("tags"),
            dev_size: at.number("dev_size").ok(),
            pe_start,
            pe_count,
            name,
        })
    }
}

impl LogicalVolume {
    fn of(name: String, section: &Section) -> Result<Self, Error> {
        if !is_name(&name) {
            return Err(Error::Name(name));
        }
        let place = format!("volume {name}");
        let at = Place(&place, section);
        let mut segments = Vec::new();
        for item in section.items() {
            if let Some(inside) = item.section()
                && item.name().starts_with("segment")
            {
                segments.push(Segment::of(&format!("{place}, {}", item.name()), inside)?);
            }
        }
        segments.sort_by_key(|segment| segment.start);
        let mut next = 0;
        for segment in &segments {
            if segment.start != next {
                let why = "segments overlap or leave a gap";
                return Err(Error::Segment { place, why });
            }
            next += segment.count;
        }
        if next > EXTENTS_MAX {
            let why = "it has more extents than 32 bits count";
            return Err(Error::Segment { place, why });
        }
        Ok(Self {
            id: at.id()?,
            status: at.words("status"),
            flags: at.words("flags"),
            tags: at.words("tags"),
            allocation: at.text("allocation_policy"),
            segments,
            name,
        })
    }
}

impl Segment {
    fn of(place: &str, section: &Section) -> Result<Self, Error> {
        let at = Place(place, section);
        let wrong = |why| {
            Err(Error::Segment {
                place: place.to_owned(),
                why,
            })
        };
        let (start, count) = (at.number("start_extent")?, at.number("extent_count")?);
        if count == 0 || count > EXTENTS_MAX || start > EXTENTS_MAX {
            return wrong("it has no extents, or more than 32 bits count");
        }
        let kind = at.text("type").ok_or_else(|| at.wrong("type", "a text"))?;
        // Flags may follow the name, behind a `+`.
        let name = kind.split('+').next().unwrap_or_default();
        let shape = if matches!(name, "striped" | "linear") && !kind.contains('+') {
            let list = section.value("stripes").map(Value::list).unwrap_or_default();
            let mut stripes = Vec::with_capacity(list.len() / 2);
            for pair in list.chunks(2) {
                match pair {
                    [Data::Text(on), Data::Integer(extent)]
                        if u64::try_from(*extent).is_ok_and(|e| e <= EXTENTS_MAX) =>
                    {
                        stripes.push(Stripe {
                            on: on.clone(),
                            extent: *extent as u64,
                        });
                    }
                    _ => return wrong("stripes are pairs of a name and an extent"),
                }
            }
            if stripes.is_empty() || stripes.len() as u64 != at.number("stripe_count")? {
                return wrong("stripe_count does not count the stripes");
            }
            if count % stripes.len() as u64 != 0 {
                return wrong("its extents do not divide by its stripes");
            }
            let chunk = match stripes.len() {
                1 => 0,
                _ => at.number("stripe_size")?,
            };
            if stripes.len() > 1 && (chunk == 0 || chunk > EXTENTS_MAX) {
                return wrong("a stripe size of nothing");
            }
            Shape::Striped { chunk, stripes }
        } else {
            let mut mentions = BTreeSet::new();
            mentioned(section, &mut mentions);
            let cow = at.text("cow_store");
            Shape::Other { mentions, cow }
        };
        Ok(Self {
            start,
            count,
            kind,
            shape,
        })
    }
}

fn mentioned(section: &Section, all: &mut BTreeSet<String>) {
    // As deep as the parser went.
    for item in section.items() {
        if let Some(inside) = item.section() {
            mentioned(inside, all);
        }
        for data in item.value().map(Value::list).unwrap_or_default() {
            if let Data::Text(text) = data {
                all.insert(text.clone());
            }
        }
    }
}

/// A section and what it is called in errors.
struct Place<'a>(&'a str, &'a Section);

impl<'a> Place<'a> {
    fn wrong(&self, field: &'static str, wanted: &'static str) -> Error {
        Error::Field {
            place: self.0.to_owned(),
            field,
            wanted,
        }
    }
    fn number(&self, field: &'static str) -> Result<u64, Error> {
        let value = self.1.value(field).and_then(Value::integer);
        value
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| self.wrong(field, "a number"))
    }
    fn text(&self, field: &str) -> Option<String> {
        self.1.value(field).and_then(Value::text).map(str::to_owned)
    }
    fn id(&self) -> Result<Id, Error> {
        let text = self.1.value("id").and_then(Value::text).unwrap_or_default();
        text.parse().map_err(|_| self.wrong("id", "an identity"))
    }
    fn words(&self, field: &str) -> Vec<String> {
        let list = self.1.value(field).map(Value::list).unwrap_or_default();
        let word = |data: &Data| match data {
            Data::Text(text) => Some(text.clone()),
            _ => None,
        };
        list.iter().filter_map(word).collect()
    }
    fn sections(&self, name: &str) -> impl Iterator<Item = (Cow<'a, str>, &'a Section)> + use<'a> {
        let items = self.1.section(name).map(Section::items).unwrap_or_default();
        items.iter().filter_map(|item| Some((item.name(), item.section()?)))
    }
}

/// A segment type in plain words, for those LVM2 has; its flags left out.
pub fn kind_name(kind: &str) -> Option<&'static str> {
    Some(match kind.split('+').next().unwrap_or_default() {
        "linear" | "striped" => "striped or linear",
        "mirror" => "mirror",
        "raid0" | "raid0_meta" => "RAID-0 by dm-raid",
        "raid1" => "RAID-1",
        "raid10" | "raid10_near" => "RAID-10",
        "raid4" => "RAID-4",
        raid if raid.starts_with("raid5") => "RAID-5",
        raid if raid.starts_with("raid6") => "RAID-6",
        "snapshot" => "snapshot",
        "thin" => "thin volume",
        "thin-pool" => "thin pool",
        "cache" => "cached volume",
        "cache-pool" => "cache pool",
        "writecache" => "volume with a write cache",
        "integrity" => "volume with integrity",
        "vdo" => "VDO volume",
        "vdo-pool" => "VDO pool",
        "error" => "error",
        "zero" => "zero",
        _ => return None,
    })
}

/// Words of a volume for people: which types of segments it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kinds(pub BTreeSet<String>);

impl LogicalVolume {
    /// The types of its segments, each once; one stripe is called linear, as `lvs` does.
    pub fn kinds(&self) -> Kinds {
        let word = |segment: &Segment| match &segment.shape {
            Shape::Striped { stripes, .. } if stripes.len() == 1 => "linear".to_owned(),
            Shape::Striped { .. } => "striped".to_owned(),
            Shape::Other { .. } => segment.kind.clone(),
        };
        Kinds(self.segments.iter().map(word).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LVM2 2.03.16 writes it, shortened.
    const SAMPLE: &str = r#"vg {
id = "AjNnZQ-1cMs-k1Ou-5dOG-Zs2P-k7AD-6iT3KD"
seqno = 7
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
tags = ["fast", "blue"]
extent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {

pv0 {
id = "kHvWZP-0d4J-6pZ2-Rr3r-yDLj-pzwB-lpVcGI"
device = "/dev/loop0"

status = ["ALLOCATABLE"]
flags = []
dev_size = 131072
pe_start = 2048
pe_count = 15
}
pv1 {
id = "u6cXzI-F1Uv-0qv9-2c1H-mpsk-rE9N-lWkTpD"
device = "/dev/loop1"
status = ["ALLOCATABLE"]
dev_size = 131072
pe_start = 2048
pe_count = 15
}
}

logical_volumes {

data {
id = "rVhyVb-hkX8-1dAz-WUyW-Zh6D-pmGs-4yYrdt"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 2

segment1 {
start_extent = 0
extent_count = 4

type = "striped"
stripe_count = 2
stripe_size = 128

stripes = [
"pv0", 0,
"pv1", 0
]
}
segment2 {
start_extent = 4
extent_count = 3
type = "striped"
stripe_count = 1
stripes = [
"pv0", 5
]
}
}
pool {
id = "rVhyVb-hkX8-1dAz-WUyW-Zh6D-pmGs-4yYrd0"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = 2
type = "thin-pool"
metadata = "pool_tmeta"
pool = "pool_tdata"
chunk_size = 128
}
}
pool_tdata {
id = "rVhyVb-hkX8-1dAz-WUyW-Zh6D-pmGs-4yYrd1"
status = ["READ", "WRITE"]
segment_count = 1
segment1 {
start_extent = 0
extent_count = 2
type = "striped"
stripe_count = 1	# linear
stripes = ["pv1", 7]
}
}
}
}
# Generated by LVM2 version 2.03.16(2) (2022-05-18): Sat Nov 28 18:00:00 2026

contents = "Text Format Volume Group"
version = 1

description = "Write from lvcreate -l 3 vg."
creation_host = "box"	# Linux box
creation_time = 1795888800	# Sat Nov 28
"#;

    fn with(from: &str, to: &str) -> Result<VolumeGroup, Error> {
        assert!(SAMPLE.contains(from), "{from}");
        VolumeGroup::parse(SAMPLE.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn a_group_is_read_whole() {
        let vg = VolumeGroup::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!((vg.name.as_str(), vg.seqno, vg.extent_size), ("vg", 7, 8192));
        assert_eq!(vg.tags, ["fast", "blue"]);
        assert_eq!(vg.physical[1].device.as_deref(), Some("/dev/loop1"));
        assert_eq!((vg.physical[0].pe_start, vg.physical[0].pe_count), (2048, 15));
        let data = &vg.logical[0];
        assert_eq!((data.extents(), data.is_visible()), (7, true));
        let stripe = |on: &str, extent| Stripe { on: on.into(), extent };
        let striped = Shape::Striped {
            chunk: 128,
            stripes: vec![stripe("pv0", 0), stripe("pv1", 0)],
        };
        assert_eq!(data.segments[0].shape, striped);
        assert_eq!(data.kinds().0.into_iter().collect::<Vec<_>>(), ["linear", "striped"]);
        assert_eq!(vg.parts(), [("pool_tdata", "pool")]);
        assert_eq!(vg.overlaps(), []);
        assert_eq!(kind_name("thin-pool"), Some("thin pool"));
        assert_eq!(vg.description.as_deref(), Some("Write from lvcreate -l 3 vg."));
    }

    #[test]
    fn a_changed_text_is_read_like_any_and_shares_what_is_the_same() {
        let tree = Section::parse(SAMPLE.as_bytes()).unwrap();
        let vg = VolumeGroup::of(&tree).unwrap();
        let id = "rVhyVb-hkX8-1dAz-WUyW-Zh6D-pmGs-4yYrd1";
        for (from, to, same) in [
            ("seqno = 7", "seqno = 8", "data pool pool_tdata"),
            ("extent_count = 4\n", "extent_count = 2\n", ""),
            ("data {", "more {", "pool pool_tdata"),
            ("pool {", "pool2 {", "data pool_tdata"),
            (id, "rVhyVb-hkX8-1dAz-WUyW-Zh6D-pmGs-4yYrd2", "data pool"),
        ] {
            let text = SAMPLE.replacen(from, to, 1);
            let new = Section::parse_like(text.as_bytes(), &tree).unwrap();
            let read = VolumeGroup::like(&new, Some((&tree, &vg)));
            assert_eq!(read, VolumeGroup::parse(text.as_bytes()), "{to}");
            let Ok(read) = read else { continue };
            let known = |lv: &&Arc<LogicalVolume>| vg.logical.iter().any(|had| Arc::ptr_eq(had, lv));
            let names: Vec<&str> = read.logical.iter().filter(known).map(|lv| lv.name.as_str()).collect();
            assert_eq!(names.join(" "), same, "{to}");
        }
    }

    #[test]
    fn who_may_write_is_told_in_two_ways() {
        let vg = VolumeGroup::parse(SAMPLE.as_bytes()).unwrap();
        assert!(vg.is_writable() && vg.logical[0].is_writable());
        let locked = SAMPLE
            .replace(", \"WRITE\"", "")
            .replace("flags = []\ntags", "flags = [\"WRITE_LOCKED\"]\ntags");
        let vg = VolumeGroup::parse(locked.as_bytes()).unwrap();
        assert!(vg.is_writable() && !vg.logical[0].is_writable());
    }

    #[test]
    fn extents_of_two_volumes_are_noticed() {
        let vg = with("stripes = [\"pv1\", 7]", "stripes = [\"pv0\", 6]").unwrap();
        assert_eq!(vg.overlaps(), [("data", "pool_tdata"), ("pool_tdata", "data")]);
    }

    #[test]
    fn each_lie_is_refused_with_its_place() {
        let wrong = |from: &str, to: &str| with(from, to).unwrap_err().to_string();
        assert!(wrong("version = 1", "version = 2").starts_with("the text does not say"));
        assert_eq!(
            wrong("seqno = 7", "seqno = -7"),
            "vg: \"seqno\" is missing or not a number"
        );
        assert_eq!(wrong("vg {", "-vg {"), "\"-vg\" is not a name");
        assert_eq!(wrong("data {", ".. {"), "\"..\" is not a name");
        assert_eq!(
            wrong("extent_count = 4", "extent_count = 3"),
            "volume data, segment1: its extents do not divide by its stripes"
        );
        assert_eq!(
            wrong("start_extent = 4", "start_extent = 5"),
            "volume data: segments overlap or leave a gap"
        );
        assert_eq!(
            wrong("stripe_count = 2", "stripe_count = 3"),
            "volume data, segment1: stripe_count does not count the stripes"
        );
        assert_eq!(wrong("pv1 {", "pv0 {"), "physical volume pv0 is there twice");
        assert_eq!(
            wrong("extent_size = 8192", "extent_size = 0"),
            "vg: \"extent_size\" is missing or not a size"
        );
        assert_eq!(
            wrong("stripe_size = 128", ""),
            "volume data, segment1: \"stripe_size\" is missing or not a number"
        );
    }
}
