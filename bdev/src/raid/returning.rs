//! A member that comes back: only what it has missed is copied, as the bitmap has it.
//!
//! ```text
//!   of the member   |.....####.....##...|      # noted: something was written there while it was away, or may have been
//!                   ────►     copied           . passed over
//! ```
//!
//! It gets every write from the moment it is back, and no bit is cleared before it holds everything.
use super::{array::State, intent, shape::Places};
use crate::IoError;
use spec::{BlockRange, md::Place};
use std::ops::Range;

/// Something that is locked, and what of the bitmap it is about.
type Spot = (Range<u64>, Range<u64>);

impl State {
    /// Copies what a member has missed of a stretch.
    pub(super) async fn return_stretch(&self, member: u16, range: BlockRange) -> Result<u64, IoError> {
        let (mut at, end) = (range.start.0, range.start.0 + u64::from(range.count));
        while at < end {
            // At most what it was.
            let part = self.noted_part(member, BlockRange::new(at, (end - at) as u32));
            at += u64::from(part.count);
            match self.has_missed(member, part).await {
                true => drop(self.rebuild_stretch(member, part).await?),
                false => self.care.pace.spare(part.count.into()),
            }
        }
        Ok(0)
    }

    /// Whoever was writing there when the member came has noted it once the place is free; what is written later the member gets.
    async fn has_missed(&self, member: u16, range: BlockRange) -> bool {
        let Some((lock, noted)) = self.spot(member, range) else {
            return false;
        };
        let _guard = self.locks.lock(lock).await;
        self.intent.is_noted(&noted)
    }

    /// The part of a stretch of a member, from its start, that one bit is about.
    fn noted_part(&self, member: u16, range: BlockRange) -> BlockRange {
        let unit = self.intent.unit();
        let Some((_, noted)) = self.spot(member, range) else {
            return range;
        };
        // At most what it was.
        BlockRange::new(
            range.start.0,
            u64::from(range.count).min(unit - noted.start % unit) as u32,
        )
    }

    /// What has to be locked for a stretch of a member, and what is noted for it. Nothing if the array has nothing there.
    pub(super) fn spot(&self, member: u16, range: BlockRange) -> Option<Spot> {
        let rows = intent::range(range);
        match &self.places() {
            Places::Mirror { .. } => Some((rows.clone(), rows)),
            Places::Parity { parity, .. } => {
                let stripe = rows.start / u64::from(parity.chunk());
                Some((stripe..stripe + 1, rows))
            }
            Places::Raid10(raid10) => {
                let sector = range.start.0;
                let (at, _) = raid10.find(Place { member, sector })?;
                let blocks = at..at + u64::from(range.count);
                Some((blocks.clone(), blocks))
            }
        }
    }
}
