//! What a format sees of a disk: blocks to read, a few of them at hand already, and nothing to write with.
use crate::{format::Proposal, part::Partition};
use bdev::Table;
use spec::{Extent, magic};
use std::{
    borrow::Cow,
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// An answer to [`Source::read`] that is on its way.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Something with blocks. In the running engine that is a node of the graph; a test may have a file.
pub trait Source: Send + Sync {
    /// The bytes of `extent`, or in words why not. The caller has checked that it is on the disk and of bounded length.
    fn read(&self, extent: Extent) -> Reading<'_>;
}

/// The largest read a format may ask for, in bytes: the largest array of GPT entries, and a block for its odd end.
pub const READ_MAX: u64 = spec::gpt::ARRAY_MAX + 4096;

/// Bytes of an end that is read piece by piece because it cannot be read as a whole: what is lost is known this closely.
const PIECE: u64 = 4096;

/// How often a disk may refuse a part of an end before the rest of it counts as lost unread, and how long that may take: one that answers nothing may need half a
/// minute each time.
const REFUSALS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// Why some blocks could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("blocks {extent} cannot be read: {why}")]
    Disk {
        /// Which blocks.
        extent: Extent,
        /// What the disk said.
        why: String,
    },
    /// The disk ends before.
    #[error("blocks {extent} are not on a disk of {blocks} blocks")]
    OffTheEnd {
        /// Which blocks.
        extent: Extent,
        /// Its length.
        blocks: u64,
    },
}

impl ReadError {
    /// Which blocks.
    pub const fn extent(&self) -> Extent {
        match self {
            Self::Disk { extent, .. } | Self::OffTheEnd { extent, .. } => *extent,
        }
    }
}

/// Both ends of a disk: what is read of every one.
pub fn ends(blocks: u64, block_size: u32) -> [Extent; 2] {
    let per = |bytes: u64| bytes.div_ceil(block_size.max(1).into()).min(blocks);
    let (head, tail) = (per(magic::HEAD), per(magic::TAIL));
    [Extent::new(0, head), Extent::new(blocks - tail, tail)]
}

/// A disk under examination.
pub struct Probe<'a> {
    /// Its name, from which its partitions get theirs.
    pub name: &'a str,
    /// Its identity, from which parts without one of their own derive theirs.
    pub uuid: Uuid,
    /// Length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// If it is a partition itself: what its table says. Some tables inside count from the start of the whole disk.
    pub partition: Option<&'a Partition>,
    source: &'a dyn Source,
    head: Vec<u8>,
    tail: Vec<u8>,
    lost: Vec<ReadError>,
    trail: Mutex<Vec<Step>>,
}

/// What a format has looked at.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// It has read these blocks.
    Read(Extent),
    /// It says that these bytes are its own.
    Own(Range<u64>),
}

impl<'a> Probe<'a> {
    /// Reads both ends of the disk. What of them cannot be read is [`lost`](Self::lost), and zero in the [`windows`](Self::windows).
    pub async fn new(name: &'a str, uuid: Uuid, blocks: u64, block_size: u32, source: &'a dyn Source) -> Self {
        let mut probe = Self {
            name,
            uuid,
            blocks,
            block_size,
            partition: None,
            source,
            head: Vec::new(),
            tail: Vec::new(),
            lost: Vec::new(),
            trail: Mutex::default(),
        };
        let [head, tail] = ends(blocks, block_size);
        (probe.head, probe.lost) = probe.end(head).await;
        let (tail, lost) = probe.end(tail).await;
        probe.tail = tail;
        probe.lost.extend(lost);
        probe
    }

    /// The same disk, known to be this partition of another.
    pub fn being(self, partition: Option<&'a Partition>) -> Self {
        Self { partition, ..self }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    async fn fetch(&self, extent: Extent) -> Result<Vec<u8>, ReadError> {
        if !extent.fits(self.blocks) || extent.count > READ_MAX / u64::from(self.block_size.max(1)) {
            return Err(ReadError::OffTheEnd {
                extent,
                blocks: self.blocks,
            });
        }
        if extent.count == 0 {
            return Ok(Vec::new());
        }
        let len = extent.count as usize * self.block_size as usize;
        match self.source.read(extent).await {
            Ok(bytes) if bytes.len() == len => Ok(bytes),
            Ok(bytes) => Err(ReadError::Disk {
                extent,
                why: format!("{} bytes came instead of {len}", bytes.len()),
            }),
            Err(why) => Err(ReadError::Disk { extent, why }),
        }
    }

    /// The bytes of one end, and what is lost of it: a disk with a few bad sectors may well be one whose metadata can be read.
    async fn end(&self, whole: Extent) -> (Vec<u8>, Vec<ReadError>) {
        let size = u64::from(self.block_size);
        let piece = (PIECE / size.max(1)).max(1);
        let mut bytes = vec![0; (whole.count * size) as usize];
        let mut lost: Vec<ReadError> = Vec::new();
        let mut last = None;
        let (mut left, mut refusals, began) = (vec![whole], 0, Instant::now());
        let enough = |refusals: usize| refusals >= REFUSALS || began.elapsed() > PATIENCE;
        // The first half of what is refused comes next, so `lost` is in order.
        while let Some(extent) = left.pop() {
            let why = match last.as_ref().filter(|_| enough(refusals)) {
                Some(why) => String::clone(why),
                None => match self.fetch(extent).await {
                    Ok(read) => {
                        let at = ((extent.start - whole.start) * size) as usize;
                        bytes[at..at + read.len()].copy_from_slice(&read);
                        continue;
                    }
                    Err(ReadError::Disk { why, .. }) => why,
                    Err(why) => why.to_string(),
                },
            };
            refusals += 1;
            if !enough(refusals) && extent.count > piece {
                let half = (extent.count / 2).next_multiple_of(piece);
                left.push(Extent::new(extent.start + half, extent.count - half));
                left.push(Extent::new(extent.start, half));
            } else {
                match lost.last_mut() {
                    Some(ReadError::Disk { extent: before, .. }) if before.end() == Some(extent.start) => {
                        before.count += extent.count
                    }
                    _ => lost.push(ReadError::Disk {
                        extent,
                        why: why.clone(),
                    }),
                }
            }
            last = Some(why);
        }
        (bytes, lost)
    }

    /// What of both ends cannot be read.
    pub fn lost(&self) -> &[ReadError] {
        &self.lost
    }

    fn step(&self, step: Step) {
        let mut trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner);
        if !trail.contains(&step) {
            trail.push(step);
        }
    }

    /// Says that these bytes are metadata, for a format that finds them in the [`windows`](Self::windows) and does not read them one by one. They may lie
    /// inside of what it proposes, as a Sun label lies in the first slice.
    pub fn own(&self, range: Range<u64>) {
        self.step(Step::Own(range));
    }

    /// The bytes that were read or owned so far, in that order, less blocks that lie inside of these nodes.
    pub fn trail(&self, nodes: &[Proposal]) -> Vec<Range<u64>> {
        let size = u64::from(self.block_size);
        let inside = |extent: &Extent| {
            let tables = nodes.iter().map(|node| &node.table);
            let segments = tables.filter_map(|table| match table {
                Table::Linear { segments } => Some(segments),
                _ => None,
            });
            let own = segments.flatten().filter(|segment| segment.on == self.name);
            own.into_iter()
                .any(|segment| Extent::new(segment.start, segment.blocks).overlaps(*extent))
        };
        let trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner);
        let places = trail.iter().filter_map(|step| match step {
            Step::Read(extent) => (!inside(extent)).then(|| extent.start * size..(extent.start + extent.count) * size),
            Step::Own(range) => Some(range.clone()),
        });
        places.filter(|place| !place.is_empty()).collect()
    }

    /// The bytes of `extent`, from what is at hand if possible. At most [`READ_MAX`] bytes.
    pub async fn read(&self, extent: Extent) -> Result<Cow<'_, [u8]>, ReadError> {
        let size = u64::from(self.block_size);
        if extent.fits(self.blocks) && extent.count <= READ_MAX / size.max(1) {
            self.step(Step::Read(extent));
            if let Some(why) = self.lost.iter().find(|why| why.extent().overlaps(extent)) {
                return Err(why.clone());
            }
            let (from, len) = (extent.start * size, (extent.count * size) as usize);
            let base = self.blocks * size - self.tail.len() as u64;
            for (window, base) in [(&self.head, 0), (&self.tail, base)] {
                if let Some(bytes) = from
                    .checked_sub(base)
                    .and_then(|at| window.get(at as usize..))
                    .and_then(|rest| rest.get(..len))
                {
                    return Ok(Cow::Borrowed(bytes));
                }
            }
        }
        self.fetch(extent).await.map(Cow::Owned)
    }

    /// One block.
    pub async fn block(&self, at: u64) -> Result<Cow<'_, [u8]>, ReadError> {
        self.read(Extent::new(at, 1)).await
    }

    /// The two ends, as the search for signatures wants them.
    pub fn windows(&self) -> magic::Windows<'_> {
        magic::Windows {
            head: &self.head,
            tail: &self.tail,
            size: self.blocks * u64::from(self.block_size),
        }
    }
}
