//! What stands in the place of a device that has vanished: as long as it was, and every answer is [`IoError::Gone`].
use crate::{BlockDevice, Geometry, Io, IoError, IoResult, Mapped};

/// See the [module](self).
pub struct Gone(Geometry);

impl Gone {
    /// In place of a device that was like this.
    pub fn new(geometry: Geometry) -> Self {
        Self(geometry)
    }
}

impl BlockDevice for Gone {
    fn geometry(&self) -> Geometry {
        self.0
    }
    fn map(&self, _io: &mut Io) -> Mapped<'_> {
        Mapped::Done(Err(IoError::Gone))
    }
    async fn submit(&self, _io: Io) -> IoResult {
        Err(IoError::Gone)
    }
}
