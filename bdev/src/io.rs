//! What travels down a stack: one verb, the operation as data, its footprint always in `range`.
use reactor::Buf;
use spec::{BlockRange, Lba};

/// Why an I/O failed. Small and `Copy`: each protocol maps it to its own status in one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoError {
    /// The range does not lie on the disk.
    #[error("the range is outside the disk")]
    OutOfRange,
    /// The medium lost or refused the data. Another copy, if there is one, may have it.
    #[error("medium error")]
    Medium,
    /// No device on the way can do this operation.
    #[error("operation not supported")]
    Unsupported,
    /// The disk must not be written.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Something below ran out of space.
    #[error("no space left")]
    NoSpace,
    /// The device below was orphaned or removed.
    #[error("the device is gone")]
    Gone,
    /// Given up before it was done.
    #[error("aborted")]
    Aborted,
    /// The data is not as long as the range, or the device wants another alignment.
    #[error("length or alignment does not suit the device")]
    Misaligned,
    /// Anything else that went wrong in a device below.
    #[error("device failure")]
    Device,
}

impl IoError {
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [IoError; 9] = [
        IoError::OutOfRange,
        IoError::Medium,
        IoError::Unsupported,
        IoError::ReadOnly,
        IoError::NoSpace,
        IoError::Gone,
        IoError::Aborted,
        IoError::Misaligned,
        IoError::Device,
    ];

    /// A small number for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name counters are shown under.
    pub const fn name(self) -> &'static str {
        match self {
            IoError::OutOfRange => "out_of_range",
            IoError::Medium => "medium",
            IoError::Unsupported => "unsupported",
            IoError::ReadOnly => "read_only",
            IoError::NoSpace => "no_space",
            IoError::Gone => "gone",
            IoError::Aborted => "aborted",
            IoError::Misaligned => "misaligned",
            IoError::Device => "device",
        }
    }

    /// True if the same data might be had another way: a module with redundancy can mend it, and
    /// [`Disk::perform`](crate::Disk::perform) asks once more, carefully.
    pub const fn is_mendable(self) -> bool {
        matches!(self, IoError::Medium | IoError::Gone | IoError::Device)
    }

    /// What the kernel said, in our words. An end of file inside a disk is a medium error: the bytes ought to exist.
    pub fn from_os(error: &std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => IoError::NoSpace,
            ReadOnlyFilesystem | PermissionDenied => IoError::ReadOnly,
            InvalidInput => IoError::Misaligned,
            Unsupported => IoError::Unsupported,
            UnexpectedEof => IoError::Medium,
            NotFound => IoError::Gone,
            // ENXIO, EBADF, ENODEV; EIO, ENODATA (what Linux makes of a medium error) and EILSEQ (of a wrong checksum): std has no kinds for them.
            _ => match error.raw_os_error() {
                Some(6 | 9 | 19) => IoError::Gone,
                Some(5 | 61 | 84) => IoError::Medium,
                _ => IoError::Device,
            },
        }
    }
}

/// What every I/O comes to.
pub type IoResult = Result<(), IoError>;

/// What to do. Matches are exhaustive on purpose: a new operation makes the compiler list what it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Fill `data` from the range.
    Read,
    /// Store `data` in the range.
    Write,
    /// Everything acknowledged before this was submitted is durable when this is answered. The range is empty.
    Flush,
    /// The host no longer cares for the content of the range. A hint, unless the geometry says `unmap_reads_zero`.
    Unmap,
    /// The range reads as zeros afterwards; with `unmap` the device may give the space back to do so.
    WriteZeroes {
        /// Space may be deallocated.
        unmap: bool,
    },
    /// Tell, as an [`Allocation`] in `data`, whether the first block of the range takes space, and how many from there are alike.
    Allocation,
}

/// What is known about space at the beginning of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// It takes space, or nobody knows.
    pub allocated: bool,
    /// So many blocks are alike; at least one. There may be more: ask again there.
    pub blocks: u32,
}

impl Allocation {
    /// Bytes of [`Io::data`] it is told in.
    pub const LEN: usize = 8;

    /// Everything is allocated: what a device says that does not know.
    pub fn all(range: BlockRange) -> Self {
        Self {
            allocated: true,
            blocks: range.count,
        }
    }

    /// Puts the answer where who asked expects it.
    pub fn tell(self, io: &Io) -> IoResult {
        let into = io.data.get(0..Self::LEN).ok_or(IoError::Misaligned)?;
        let [a, b, c, d] = self.blocks.to_le_bytes();
        into.write_at(0, &[a, b, c, d, u8::from(self.allocated), 0, 0, 0]);
        Ok(())
    }

    /// Reads the answer.
    pub fn of(data: &Buf) -> Self {
        let mut bytes = [0; Self::LEN];
        data.slice(0..Self::LEN).read_at(0, &mut bytes);
        let [a, b, c, d, allocated, ..] = bytes;
        Self {
            allocated: allocated != 0,
            blocks: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

impl Op {
    /// True if `Io::data` belongs to it: as long as the range.
    pub const fn carries_data(self) -> bool {
        matches!(self, Op::Read | Op::Write)
    }

    /// True if it may change what a later read returns.
    pub const fn changes(self) -> bool {
        matches!(self, Op::Write | Op::Unmap | Op::WriteZeroes { .. })
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Flush => "flush",
            Op::Unmap => "unmap",
            Op::WriteZeroes { .. } => "write_zeroes",
            Op::Allocation => "allocation",
        }
    }
}

/// One request. Clone is cheap: both clones mean the same bytes.
#[derive(Clone)]
pub struct Io {
    /// What to do.
    pub op: Op,
    /// Where, in blocks of the disk it is submitted to.
    pub range: BlockRange,
    /// The bytes of a read or write, exactly as long as the range; room for an [`Allocation`]; empty otherwise.
    pub data: Buf,
    /// Force unit access: durable before it is answered (write, write zeroes), or from the medium (read).
    pub fua: bool,
    /// Nobody may `map` this I/O: every device on the way sees its result (see [`Disk::perform`](crate::Disk::perform)).
    pub careful: bool,
}

impl Io {
    fn new(op: Op, range: BlockRange, data: Buf) -> Self {
        Self {
            op,
            range,
            data,
            fua: false,
            careful: false,
        }
    }
    /// Fills `into`, which must be as long as the range.
    pub fn read(range: BlockRange, into: Buf) -> Self {
        Self::new(Op::Read, range, into)
    }
    /// Stores `from`, which must be as long as the range and must not change until this is answered.
    pub fn write(range: BlockRange, from: Buf) -> Self {
        Self::new(Op::Write, range, from)
    }
    /// Makes durable what was acknowledged so far.
    pub fn flush() -> Self {
        Self::new(Op::Flush, BlockRange::default(), Buf::empty())
    }
    /// Says that nobody needs the content of `range`.
    pub fn unmap(range: BlockRange) -> Self {
        Self::new(Op::Unmap, range, Buf::empty())
    }
    /// Zeroes `range`; with `unmap` by giving the space back, where the device can.
    pub fn write_zeroes(range: BlockRange, unmap: bool) -> Self {
        Self::new(Op::WriteZeroes { unmap }, range, Buf::empty())
    }
    /// Asks what is known about space from the start of `range` (not empty); `into` has [`Allocation::LEN`] bytes.
    pub fn allocation(range: BlockRange, into: Buf) -> Self {
        Self::new(Op::Allocation, range, into)
    }
    /// The same, durable before it is answered.
    pub fn fua(self) -> Self {
        Self { fua: true, ..self }
    }
    /// The same, mapped by nobody.
    pub fn careful(self) -> Self {
        Self { careful: true, ..self }
    }
    /// The part of this request that covers `range`, which must lie inside its own.
    pub fn part(&self, range: BlockRange) -> Self {
        debug_assert!(range.start >= self.range.start && range.end() <= self.range.end());
        let data = match self.op.carries_data() && self.range.count > 0 {
            true => {
                let block = self.data.len() / self.range.count as usize;
                let at = (range.start.0 - self.range.start.0) as usize * block;
                self.data.slice(at..at + range.count as usize * block)
            }
            // The place for the answer is the same.
            false if self.op == Op::Allocation => self.data.clone(),
            false => Buf::empty(),
        };
        Self { range, data, ..*self }
    }
    /// The same request somewhere else.
    pub fn at(self, start: Lba) -> Self {
        Self {
            range: BlockRange { start, ..self.range },
            ..self
        }
    }
}
