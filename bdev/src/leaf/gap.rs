//! Gap: a place whose disk is not there. It keeps addresses behind it where they are; whatever would move data fails.
//!
//! The error is [`IoError::Medium`]: this range cannot be had, and the disk around it is well. A flush has nothing to do here.
use crate::{Allocation, BlockDevice, Geometry, Io, IoError, IoResult, Mapped, Op};

/// See the [module](self).
pub struct Gap(Geometry);

impl Gap {
    /// A gap in a row of disks that are like this.
    pub fn new(geometry: Geometry) -> Self {
        Self(geometry)
    }

    fn now(io: &Io) -> IoResult {
        match io.op {
            Op::Flush => Ok(()),
            Op::Allocation => Allocation::all(io.range).tell(io),
            Op::Read | Op::Write | Op::Unmap | Op::WriteZeroes { .. } => Err(IoError::Medium),
        }
    }
}

impl BlockDevice for Gap {
    fn geometry(&self) -> Geometry {
        self.0
    }
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        Mapped::Done(Self::now(io))
    }
    async fn submit(&self, io: Io) -> IoResult {
        Self::now(&io)
    }
}
