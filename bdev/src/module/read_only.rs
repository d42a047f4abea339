//! Read-only: whatever is below, nothing above may change it.
//!
//! For a table whose owner says so, as a logical volume without `WRITE` does. A leaf that cannot be written refuses by itself.
use crate::{BlockDevice, Disk, Geometry, Io, IoError, IoResult, Mapped};

/// See the [module](self).
pub struct ReadOnly {
    below: Disk,
}

impl ReadOnly {
    /// A view of `below` that refuses writes.
    pub fn new(below: Disk) -> Self {
        Self { below }
    }
}

/// What `below` is when it cannot be changed.
pub fn geometry(below: Geometry) -> Geometry {
    Geometry {
        read_only: true,
        unmap: false,
        write_zeroes: false,
        atomic: 0,
        ..below
    }
}

impl BlockDevice for ReadOnly {
    fn geometry(&self) -> Geometry {
        geometry(self.below.geometry())
    }
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        match io.op.changes() {
            true => Mapped::Done(Err(IoError::ReadOnly)),
            false => Mapped::To(&self.below),
        }
    }
    async fn submit(&self, io: Io) -> IoResult {
        match io.op.changes() {
            true => Err(IoError::ReadOnly),
            false => self.below.submit(io).await,
        }
    }
    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.below)
    }
}
