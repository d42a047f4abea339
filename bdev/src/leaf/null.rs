//! Null: takes every write and forgets it; reads as zeros.
//!
//! A read shares the core's page of zeros, so it costs no bytes and shows nobody what others left in recycled memory. Nothing has to
//! wait, so every I/O is done where it is mapped and needs no frame.
use crate::{Allocation, BlockDevice, Geometry, Io, IoResult, Mapped, Op};

/// See the [module](self).
pub struct Null(Geometry);

impl Null {
    /// A null device that claims to be like this.
    pub fn new(geometry: Geometry) -> Self {
        Self(geometry)
    }

    /// What a null device claims to be.
    pub fn geometry_of(block_size: u32, physical_block_size: u32, blocks: u64) -> Geometry {
        Geometry {
            physical_block_size,
            unmap: true,
            unmap_reads_zero: true,
            write_zeroes: true,
            ..Geometry::plain(block_size, blocks)
        }
    }

    #[inline]
    fn now(io: &Io) -> IoResult {
        match io.op {
            Op::Read => io.data.fill(0),
            Op::Write | Op::Flush | Op::Unmap | Op::WriteZeroes { .. } => (),
            Op::Allocation => return Allocation::all(io.range).tell(io),
        }
        Ok(())
    }
}

impl BlockDevice for Null {
    fn geometry(&self) -> Geometry {
        self.0
    }
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        Mapped::Done(Self::now(io))
    }
    async fn submit(&self, io: Io) -> IoResult {
        Self::now(&io)
    }
}
