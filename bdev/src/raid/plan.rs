//! What an array is built from, and what follows from it: where members have their bitmaps and logs.
use super::{Label, Log, MemberState, Partial, Places, Redo, Shape, lacking};
use spec::md::{SECTOR, bitmap::Header, redo, superblock::Superblock, v1::Features};
use std::ops::Range;

/// What an array is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For the log.
    pub name: String,
    /// What it does.
    pub shape: Shape,
    /// Blocks that each member gives.
    pub used: u64,
    /// By their places.
    pub members: Vec<Option<Seat>>,
    /// Those that replace a member, by its place; empty if nobody is replaced.
    pub replacements: Vec<Option<Seat>>,
    /// The header of the bitmap, if members have one.
    pub bitmap: Option<Vec<u8>>,
    /// What may differ between members, as ranges of the space that is compared: the first block and how many.
    pub differs: Vec<(u64, u64)>,
    /// What the bitmap has noted besides.
    pub noted: Vec<(u64, u64)>,
    /// The log says what was being written when it was stopped: partial parity, or what was to be written.
    pub replay: bool,
    /// Nothing is written, not even metadata.
    pub read_only: bool,
}

impl Plan {
    /// Members by their places, and as many again that may replace them.
    pub(super) fn all(&self) -> Vec<Option<Seat>> {
        let behind = self.replacements.iter().cloned().chain(std::iter::repeat(None));
        let behind = behind.take(self.members.len());
        self.members.iter().cloned().chain(behind).collect()
    }

    /// Sectors that the bitmap takes on each member.
    pub(super) fn bitmap_sectors(&self) -> u64 {
        let header = self.bitmap.as_ref().and_then(|bytes| Header::parse(bytes).ok());
        header.map_or(0, |header| header.len().div_ceil(SECTOR))
    }
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct Seat {
    /// How things stand with it.
    pub state: MemberState,
    /// Read only if no other can answer.
    pub write_mostly: bool,
    /// Blocks of its data that it does not have.
    pub bad: Vec<(u64, u64)>,
    /// Where its superblock is, in blocks of the member, and its bytes.
    pub superblock: Option<(u64, Vec<u8>)>,
}

/// The log of an array: which one follows from its shape, and from what its members have room for.
pub(super) fn log(plan: &Plan, places: &Places, labels: &[Option<Label>], block_size: u32) -> Result<Log, String> {
    let known = labels.iter().flatten().next().map(|label| &label.superblock);
    let (Some(Superblock::V1(known)), Places::Parity { .. }) = (known, places) else {
        return Ok(Log::None);
    };
    let places_of = labels.iter().take(plan.members.len());
    let at = places_of.map(|label| label.as_ref()?.log.clone()).collect();
    if known.ppl().is_some() {
        let several = known.features.has(Features::MULTIPLE_PPLS);
        let events = labels.iter().flatten().map(|label| label.superblock.events());
        // Superblocks are written before the first unit of a life, so each life begins above all that the one before has left.
        let generation = events.max().unwrap_or(0) << 32;
        return Partial::new(known.array, at, several, generation, block_size).map(|log| Log::Partial(log.into()));
    }
    let in_sync = |seat: &Option<Seat>| seat.as_ref().is_some_and(|seat| seat.state == MemberState::InSync);
    let whole = plan.members.iter().all(in_sync);
    Ok(Redo::new(known.array, at, block_size, !whole).map_or(Log::None, |log| Log::Redo(log.into())))
}

/// What [`Label::log`] is.
fn log_at(
    superblock: &Superblock,
    at: u64,
    bitmap_sectors: u64,
    block_size: u32,
) -> Result<Option<Range<u64>>, String> {
    let sectors = u64::from(block_size) / SECTOR;
    let own = match superblock {
        Superblock::V1(own) => own,
        Superblock::V0(_) => return Ok(None),
    };
    let in_blocks = |room: Range<u64>| {
        let whole = room.start.is_multiple_of(sectors);
        whole.then(|| room.start / sectors..room.end / sectors)
    };
    let Some((offset, size)) = own.ppl() else {
        return Ok(redo::room(superblock, bitmap_sectors).and_then(in_blocks));
    };
    let at = at.saturating_mul(sectors);
    let (label, data) = (
        at..at.saturating_add(8),
        own.data_offset..own.data_offset.saturating_add(own.size),
    );
    let room = at
        .checked_add_signed(offset.into())
        .map(|start| start..start.saturating_add(size.into()));
    let apart = |a: &Range<u64>, b: &Range<u64>| a.end <= b.start || b.end <= a.start;
    room.filter(|room| apart(room, &label) && apart(room, &data))
        .and_then(in_blocks)
        .map(Some)
        .ok_or_else(|| "a member's partial parity log lies where something else is".to_owned())
}

/// What the superblocks of members say of their metadata.
pub(super) fn labels(
    members: &[Option<Seat>],
    bitmap_sectors: u64,
    block_size: u32,
) -> Result<Vec<Option<Label>>, String> {
    let sectors = u64::from(block_size) / SECTOR;
    let label = |seat: &Option<Seat>| {
        let Some((at, bytes)) = seat.as_ref().and_then(|seat| seat.superblock.as_ref()) else {
            return Ok(None);
        };
        let superblock = Superblock::parse(bytes).map_err(|error| error.to_string())?;
        let sector = |offset: i32| at.checked_mul(sectors)?.checked_add_signed(offset.into());
        let bitmap = superblock.bitmap_offset().and_then(sector);
        if bitmap.is_some_and(|at| !at.is_multiple_of(sectors)) {
            return Err("the bitmap does not begin with a block".to_owned());
        }
        let log = log_at(&superblock, *at, bitmap_sectors, block_size)?;
        let bad_blocks = match &superblock {
            Superblock::V1(own) => lacking::log_at(own, bitmap_sectors, block_size),
            Superblock::V0(_) => None,
        };
        Ok(Some(Label {
            at: *at,
            superblock,
            log,
            bad_blocks,
            bitmap: bitmap.map(|at| at / sectors),
        }))
    };
    members.iter().map(label).collect()
}
