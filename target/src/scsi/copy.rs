//! EXTENDED COPY between units of one target, and what its host may ask about it (SPC-4 6.4, 6.18 to 6.22).
//!
//! A copy is an ordinary command that takes long: it runs in its slot, reads and writes like any host, and ends with the slot. What is
//! kept of it for RECEIVE COPY RESULTS belongs to the nexus. Both ends must be units of the target the host has logged in to: what it may
//! not see it cannot copy.
use super::{
    Nexus,
    block::writable,
    nexus::Open,
    primary::{identity, limits},
    rules,
    task_set::Task,
};
use bdev::Io;
use reactor::Buf;
use spec::{
    BlockRange,
    scsi::{
        Command, Sense, Transfer,
        copy::{self, COPIES_MAX, CopyList, Cscd, LIST_MAX, Progress, Results, Segment, State, THIS_UNIT, Usage},
        inquiry,
    },
};
use std::{cell::RefCell, rc::Rc};

/// Bytes that are read, then written.
const STEP: u64 = 1 << 20;

/// LID4 or not, and the list identifier.
type Key = (bool, u32);

/// The copies of one nexus that can be asked about, oldest first; at most [`COPIES_MAX`].
#[derive(Default)]
pub struct Copies(RefCell<Vec<(Key, Progress)>>);

impl Copies {
    fn get(&self, key: Key) -> Option<Progress> {
        self.0
            .borrow()
            .iter()
            .find(|(of, _)| *of == key)
            .map(|(_, progress)| *progress)
    }

    /// A new one; what was kept under its identifier is forgotten.
    fn begin(&self, key: Key) -> Result<(), Sense> {
        let mut all = self.0.borrow_mut();
        if all
            .iter()
            .any(|(of, progress)| *of == key && progress.state == State::Running)
        {
            return Err(Sense::LIST_ID_IN_USE);
        }
        all.retain(|(of, _)| *of != key);
        if all.len() == usize::from(COPIES_MAX) {
            let over = all.iter().position(|(_, progress)| progress.state != State::Running);
            all.remove(over.ok_or(Sense::NO_RESOURCES)?);
        }
        all.push((key, START));
        Ok(())
    }

    fn note(&self, key: Option<Key>, now: Progress) {
        let mut all = self.0.borrow_mut();
        if let Some((_, progress)) = all.iter_mut().find(|(of, _)| Some(*of) == key) {
            *progress = now
        }
    }
}

const START: Progress = Progress {
    state: State::Running,
    segments: 0,
    bytes: 0,
};

pub(super) async fn extended_copy(
    nexus: &Nexus,
    open: &Rc<Open>,
    lid4: bool,
    data: &Buf,
    task: &Task<'_>,
) -> Result<(), Sense> {
    // More than a header and all descriptors is not looked at.
    let most = data.len().min(64 + LIST_MAX as usize);
    let Some(list) = copy::parse(&data.slice(0..most).to_vec(), lid4)? else {
        return Ok(());
    };
    let key = (list.usage != Usage::Nothing).then_some((lid4, list.list_id));
    if let Some(key) = key {
        nexus.copies.begin(key)?
    }
    let mut progress = START;
    let done = segments(nexus, open, &list, key, &mut progress, task).await;
    progress.state = match done {
        Ok(()) => State::Done,
        Err(sense) => State::Failed(sense),
    };
    nexus.copies.note(key, progress);
    if list.usage == Usage::Discard {
        nexus.copies.0.borrow_mut().retain(|(of, _)| Some(*of) != key);
    }
    done
}

async fn segments(
    nexus: &Nexus,
    open: &Rc<Open>,
    list: &CopyList,
    key: Option<Key>,
    progress: &mut Progress,
    task: &Task<'_>,
) -> Result<(), Sense> {
    let mut ends = Vec::with_capacity(list.cscds.len());
    for cscd in &list.cscds {
        ends.push(find(nexus, cscd).await);
    }
    let end = |index: u16| match (index, ends.get(usize::from(index))) {
        (THIS_UNIT, _) => Ok(open),
        (_, None) => Err(Sense::UNREACHABLE_CSCD),
        (_, Some(None)) => Err(Sense::CSCD_NOT_REACHABLE),
        (_, Some(Some(found))) => Ok(found),
    };
    for segment in &list.segments {
        progress.bytes += copy_segment(end(segment.source)?, end(segment.destination)?, segment, task).await?;
        progress.segments += 1;
        nexus.copies.note(key, *progress);
    }
    Ok(())
}

/// The unit of this target that has the designator on its page 83h.
async fn find(nexus: &Nexus, cscd: &Cscd) -> Option<Rc<Open>> {
    for lun in nexus.luns() {
        if let Ok(open) = nexus.open(lun).await
            && answers_to(&open, cscd)
        {
            return Some(open);
        }
    }
    None
}

fn answers_to(open: &Open, cscd: &Cscd) -> bool {
    if cscd.block_size != 0 && cscd.block_size != open.disk.block_size() {
        return false;
    }
    let page = inquiry::vpd(0x83, &identity(open), &limits(open)).unwrap_or_default();
    let mut rest = page.get(4..).unwrap_or_default();
    while let [_, kind, _, len, more @ ..] = rest {
        let value = &more[..usize::from(*len).min(more.len())];
        // Association 00b: the logical unit's own.
        if kind & 0x3f == cscd.kind && value == cscd.designator() {
            return true;
        }
        rest = &more[value.len()..];
    }
    false
}

/// Copies one segment; how many bytes that were.
async fn copy_segment(from: &Open, to: &Open, segment: &Segment, task: &Task<'_>) -> Result<u64, Sense> {
    let all = |start, count| Transfer {
        range: BlockRange::new(start, count),
        fua: false,
        dpo: false,
    };
    let count = segment.blocks.into();
    // Either end may be held by another host, or its port may not be active.
    let held = rules::check(from, &Command::Read(all(segment.source_lba, count))).is_err()
        || rules::check(to, &Command::Write(all(segment.destination_lba, count))).is_err();
    if held {
        return Err(Sense::CSCD_FAILED);
    }
    for end in [from, to] {
        if end.unit.medium().is_err() || end.unit.sanitization.sense().is_some() {
            return Err(Sense::CSCD_NOT_REACHABLE);
        }
    }
    writable(to).map_err(|_| Sense::CSCD_FAILED)?;
    let sizes = [from, to].map(|end| u64::from(end.disk.block_size()));
    let bytes = u64::from(segment.blocks) * sizes[usize::from(segment.by_destination)];
    if sizes.iter().any(|size| !bytes.is_multiple_of(*size)) {
        return Err(Sense::INEXACT_SEGMENT);
    }
    // At most 65,535 blocks of 65,536 bytes: the count of blocks of either side fits.
    let whole = |end: &Open, lba: u64| {
        let range = BlockRange::new(lba, (bytes / u64::from(end.disk.block_size())) as u32);
        range.fits(end.disk.blocks())
    };
    if !whole(from, segment.source_lba) || !whole(to, segment.destination_lba) {
        return Err(Sense::SEGMENT_ABORTED);
    }
    // Where both lie on one disk and overlap, what is read must not have been written before.
    let backwards = from.unit.volume == to.unit.volume && segment.source_lba < segment.destination_lba;
    let steps = bytes.div_ceil(STEP);
    for step in 0..steps {
        if task.is_unwanted() {
            return Err(Sense::SEGMENT_ABORTED);
        }
        let at = if backwards { steps - 1 - step } else { step } * STEP;
        let len = (bytes - at).min(STEP);
        let part = |lba: u64, size: u64| BlockRange::new(lba + at / size, (len / size) as u32);
        let data = Buf::try_alloc(len as usize).ok_or(Sense::TIMEOUT)?;
        let read = Io::read(part(segment.source_lba, sizes[0]), data.clone());
        from.disk.perform(read).await.map_err(|_| Sense::CSCD_FAILED)?;
        let write = Io::write(part(segment.destination_lba, sizes[1]), data);
        to.disk.perform(write).await.map_err(|_| Sense::CSCD_FAILED)?;
        // A disk that answers at once leaves nobody else a turn.
        reactor::yield_now().await
    }
    if to.write_through() {
        to.settle().await.map_err(|_| Sense::CSCD_FAILED)?
    }
    Ok(bytes)
}

pub(super) fn receive_copy_results(nexus: &Nexus, what: Results, list_id: u32) -> Result<Vec<u8>, Sense> {
    let of = |lid4| nexus.copies.get((lid4, list_id)).ok_or(Sense::cdb_field(2, 7));
    match what {
        Results::OperatingParameters => Ok(copy::operating_parameters()),
        Results::Status { lid4: false } => Ok(of(false)?.encode()),
        Results::Status { lid4: true } => Ok(of(true)?.encode4()),
        Results::FailedSegment => Ok(of(false)?.encode_failure()),
    }
}
