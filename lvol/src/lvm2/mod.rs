//! LVM2 as a format: what a physical volume contributes, and ([`assembly`]) what all of them add up to.
//!
//! Reading follows LVM2's `lib/label/label.c` and `lib/format_text/format-text.c`: the first sound label of four sectors; every metadata area
//! it names that is not set aside; of each the committed text, if its checksum is right. The newest text of a disk counts. An area that cannot be
//! used is no reason to give up the disk: that is what there are several for.
use crate::{
    format::{Format, Mine, Taste, Tasting},
    group::{Assembly, Enrolled, Given, Member},
    probe::{Probe, ReadError},
};
use spec::{
    Extent,
    lvm2::{
        Area, Id,
        label::{self, Label},
        mda::{self, Header},
        vg,
    },
};
use std::sync::Arc;
use text::Text;

pub use settings::{Activation, Settings};

pub mod assembly;
pub mod edit;
pub mod settings;
pub mod space;
pub mod text;
pub mod whole;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// The format.
pub struct Lvm2;

impl Format for Lvm2 {
    fn name(&self) -> &'static str {
        "lvm2"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["LVM2_member"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
    fn assemble(&self, members: &[Enrolled<'_>], given: Given<'_>) -> Assembly {
        assembly::assemble(members, given)
    }
}

/// A physical volume as its own disk shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PhysicalVolume {
    /// Its identity.
    pub id: Id,
    /// Its header says that some group uses it.
    pub used: bool,
    /// The newest text on it. Nothing if it has none: it may have no metadata area, or be in no group.
    pub text: Option<Arc<Text>>,
    /// Metadata areas in use.
    pub areas: usize,
    /// What is wrong with areas that cannot be used.
    pub damage: Vec<String>,
    /// What else an administrator should know.
    pub notes: Vec<String>,
}

/// Why an area gives no text.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Area(#[from] mda::Error),
    #[error("its text is no group's: {0}")]
    Text(#[from] vg::Error),
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let head = disk.windows().head;
    let scanned = (label::SCAN * spec::lvm2::SECTOR) as usize;
    let label = match Label::find(&head[..head.len().min(scanned)]) {
        Ok(None) => return Ok(Taste::No),
        Ok(Some(label)) => label,
        Err(why) => return Ok(Taste::Traces(format!("an LVM2 label that cannot be used: {why}"))),
    };
    disk.own(label.sector * spec::lvm2::SECTOR..(label.sector + 1) * spec::lvm2::SECTOR);
    let mut pv = PhysicalVolume {
        id: label.id,
        used: label.extension.flags & label::USED != 0,
        text: None,
        areas: 0,
        damage: Vec::new(),
        notes: Vec::new(),
    };
    for area in &label.metadata {
        match text_of(disk, *area).await {
            Ok(None) => {}
            Ok(Some(None)) => pv.areas += 1,
            Ok(Some(Some(text))) => {
                pv.areas += 1;
                if let Some(other) = &pv.text
                    && other.vg.seqno != text.vg.seqno
                {
                    let (a, b) = (other.vg.seqno, text.vg.seqno);
                    let (old, new) = (a.min(b), a.max(b));
                    pv.notes.push(format!(
                        "one of its metadata areas is out of date (change {old}, the other has {new})"
                    ));
                }
                if pv.text.as_ref().is_none_or(|other| other.vg.seqno < text.vg.seqno) {
                    pv.text = Some(text);
                }
            }
            Err(why) => pv
                .damage
                .push(format!("the metadata area at byte {} is unusable: {why}", area.offset)),
        }
    }
    Ok(Taste::Mine(Mine {
        what: "LVM2 physical volume".into(),
        member: Some(Member::Lvm2(Arc::new(pv))),
        ..Mine::default()
    }))
}

/// The text of an area: nothing if it is set aside, nothing inside if it is empty.
async fn text_of(disk: &Probe<'_>, area: Area) -> Result<Option<Option<Arc<Text>>>, Problem> {
    let sector = bytes(disk, area.offset, mda::HEADER).await?;
    let header = Header::parse(&sector, area.offset)?;
    if header.is_ignored() {
        return Ok(None);
    }
    let committed = header.committed;
    let Some([first, rest]) = header.pieces(committed)? else {
        return Ok(Some(None));
    };
    let mut text = bytes(disk, first.offset, first.size).await?;
    text.extend(bytes(disk, rest.offset, rest.size).await?);
    Header::check(committed, &text)?;
    Ok(Some(Some(text::read(&text, committed.checksum)?)))
}

/// Any bytes of the disk, whatever its blocks are. The length is bounded by the caller.
async fn bytes(disk: &Probe<'_>, from: u64, len: u64) -> Result<Vec<u8>, ReadError> {
    let size = u64::from(disk.block_size.max(1));
    let mut bytes = Vec::new();
    // Checked: areas end within 64 bits.
    let (mut at, end) = (from, from.saturating_add(len));
    while at < end {
        let stop = end.min(at + CHUNK);
        let first = at / size;
        let read = disk.read(Extent::new(first, stop.div_ceil(size) - first)).await?;
        let skip = (at - first * size) as usize;
        bytes.extend_from_slice(read.get(skip..skip + (stop - at) as usize).unwrap_or_default());
        at = stop;
    }
    Ok(bytes)
}
