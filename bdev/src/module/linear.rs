//! Linear: runs of blocks of other disks, one after the other.
//!
//! ```text
//!   linear    0        100      130            200
//!             ├─ a: 50 ─┼─ b: 0 ─┼─ a: 200 ─────┤       block 105 is block 5 of b
//! ```
//!
//! Only addresses move, so nearly everything is mapped, by binary search. When it is built, parts that are linear themselves
//! are replaced by their extents and neighbours that touch are joined: any number of levels is one table, and a table of
//! one extent is no device at all but a view (DESIGN D3).
use crate::{BlockDevice, Disk, Geometry, Io, IoResult, Mapped, Op, fan};
use spec::{BlockRange, Lba};

/// A run of blocks on one lower disk.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The first block of the linear device it covers.
    pub first: u64,
    /// The window below; as long as the extent.
    pub disk: Disk,
}

/// See the [module](self).
pub struct Linear {
    geometry: Geometry,
    /// `extents[i].first`, close together for the search.
    firsts: Box<[u64]>,
    extents: Box<[Extent]>,
    /// One disk for each device below.
    devices: Box<[Disk]>,
}

impl Linear {
    /// `parts`, one after the other, as a disk. Says in words what does not fit together.
    pub fn build(parts: &[Disk]) -> Result<Disk, String> {
        let geometries: Vec<Geometry> = parts.iter().map(Disk::geometry).collect();
        let geometry = geometry(&geometries)?;
        let extents = join(parts.iter().flat_map(flatten));
        Ok(match &extents[..] {
            [one] => one.disk.clone(),
            _ => {
                let mut devices: Vec<Disk> = Vec::new();
                for extent in &extents {
                    if !devices.iter().any(|seen| seen.same_device(&extent.disk)) {
                        devices.push(extent.disk.clone())
                    }
                }
                Disk::new(Self {
                    geometry,
                    firsts: extents.iter().map(|extent| extent.first).collect(),
                    extents: extents.into(),
                    devices: devices.into(),
                })
            }
        })
    }

    /// The extent that holds `at`, which lies on the device.
    #[inline]
    fn find(&self, at: Lba) -> &Extent {
        // The first extent begins at 0, so at least one begins at or before `at`.
        &self.extents[self.firsts.partition_point(|first| *first <= at.0) - 1]
    }

    /// The pieces of `range`, front to back: the extent and the part of the range that it holds.
    fn pieces(&self, range: BlockRange) -> impl Iterator<Item = (&Extent, BlockRange)> {
        let (mut at, end) = (range.start.0, range.start.0 + u64::from(range.count));
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let extent = self.find(Lba(at));
                let stop = end.min(extent.first + extent.disk.blocks());
                // No longer than the range, whose count is a u32.
                let piece = BlockRange::new(at, (stop - at) as u32);
                at = stop;
                (extent, piece)
            })
        })
    }
}

/// What disks in a row are together.
pub fn geometry(parts: &[Geometry]) -> Result<Geometry, String> {
    if let Some(at) = parts.iter().position(|part| part.blocks == 0) {
        return Err(format!("segment {at} has no blocks"));
    }
    let sum = Geometry::combine(parts)?;
    sum.check()?;
    Ok(sum)
}

/// The extents behind a window: those of the device, cut to size, if it is linear, and else the window itself.
fn flatten(part: &Disk) -> Vec<Disk> {
    let Some(extents) = part.extents() else {
        // A fixed window, even of a device that may grow: a segment has a length.
        return part.view(0, part.blocks()).into_iter().collect();
    };
    let (from, to) = (part.base(), part.base() + part.blocks());
    let cut = |extent: &Extent| {
        let (start, end) = (extent.first.max(from), (extent.first + extent.disk.blocks()).min(to));
        (start < end)
            .then(|| extent.disk.view(start - extent.first, end - start))
            .flatten()
    };
    extents.iter().filter_map(cut).collect()
}

/// Numbers the disks in a row, and joins those that are neighbours below as well.
fn join(parts: impl Iterator<Item = Disk>) -> Vec<Extent> {
    let (mut all, mut first): (Vec<Extent>, u64) = (Vec::new(), 0);
    for disk in parts {
        let blocks = disk.blocks();
        match all
            .last_mut()
            .and_then(|last| last.disk.joined(&disk).map(|both| (last, both)))
        {
            Some((last, both)) => last.disk = both,
            None => all.push(Extent { first, disk }),
        }
        first += blocks;
    }
    all
}

impl BlockDevice for Linear {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whatever lies inside one extent, whatever the operation: only addresses move here.
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        if io.range.count == 0 {
            return Mapped::Stay;
        }
        let extent = self.find(io.range.start);
        let mut within = BlockRange {
            start: Lba(io.range.start.0 - extent.first),
            ..io.range
        };
        if !within.fits(extent.disk.blocks()) {
            if io.op != Op::Allocation {
                return Mapped::Stay;
            }
            // The first extent's answer is an answer. What is left of it is less than the range, whose count is a u32.
            within.count = (extent.disk.blocks() - within.start.0) as u32
        }
        io.range = within;
        Mapped::To(&extent.disk)
    }

    async fn submit(&self, io: Io) -> IoResult {
        if io.op == Op::Flush {
            return fan::all(self.devices.iter().map(|disk| disk.submit(io.clone()))).await;
        }
        let send = |(extent, piece): (&Extent, BlockRange)| {
            let start = Lba(piece.start.0 - extent.first);
            extent.disk.submit(io.part(piece).at(start))
        };
        let parts = if io.op == Op::Allocation { 1 } else { usize::MAX };
        fan::all(self.pieces(io.range).take(parts).map(send)).await
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        self.devices.iter().for_each(visit)
    }

    fn extents(&self) -> Option<&[Extent]> {
        Some(&self.extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::null::Null;

    fn null(blocks: u64) -> Disk {
        Disk::new(Null::new(Geometry::plain(512, blocks)))
    }

    #[test]
    fn any_depth_is_one_table() {
        let (a, b) = (null(1000), null(1000));
        let mut disk = Linear::build(&[a.view(500, 100).unwrap(), b.clone(), a.view(0, 50).unwrap()]).unwrap();
        for _ in 0..8 {
            let (cut, blocks) = (disk.blocks() / 3, disk.blocks());
            disk = Linear::build(&[disk.view(cut, blocks - cut).unwrap(), disk.view(0, cut).unwrap()]).unwrap()
        }
        let extents = disk.extents().unwrap();
        assert!(
            extents.iter().all(|extent| extent.disk.extents().is_none()),
            "nothing linear is left below"
        );
        assert!(
            extents.len() <= 3 + 8,
            "each cut makes at most one more: {}",
            extents.len()
        );
        assert_eq!(disk.blocks(), 1150);
    }

    #[test]
    fn neighbours_are_joined_and_one_extent_is_a_view() {
        let disk = null(100);
        let [one, two] = [(10, 20), (30, 40)].map(|(base, blocks)| disk.view(base, blocks).unwrap());
        let joined = Linear::build(&[one.clone(), two.clone()]).unwrap();
        assert!(joined.same_device(&disk) && (joined.base(), joined.blocks()) == (10, 60));
        let turned = Linear::build(&[two, one]).unwrap();
        assert_eq!(turned.extents().map(<[_]>::len), Some(2));
        let back = Linear::build(&[turned.view(40, 20).unwrap(), turned.view(0, 40).unwrap()]).unwrap();
        assert!(back.same_device(&disk) && (back.base(), back.blocks()) == (10, 60));
    }
}
