//! Stripe, RAID-0: chunk `n` is chunk `n / members` of member `n % members`.
//!
//! ```text
//!   row 0    chunk 0 → a   chunk 1 → b   chunk 2 → c
//!   row 1    chunk 3 → a   chunk 4 → b   chunk 5 → c
//! ```
//!
//! What lies inside one chunk is mapped. What is longer is forked, chunk by chunk if it carries data; an operation
//! without data goes to each member once, for its chunks lie side by side there. Whatever of the members does not fill a
//! row is not used.
//!
//! Stripes of equal chunks over stripes are one stripe over all the members, dealt in another order.
use crate::{BlockDevice, Disk, Geometry, Io, IoResult, Mapped, Op, fan};
use reactor::IoFuture;
use spec::{BlockRange, Lba};

/// The most members a stripe may have.
pub const MEMBERS_MAX: usize = 255;

/// See the [module](self).
pub struct Stripe {
    geometry: Geometry,
    members: Box<[Disk]>,
    layout: Layout,
}

/// Where blocks lie: pure arithmetic.
#[derive(Clone, Copy, Debug)]
struct Layout {
    chunk: u32,
    width: u32,
    /// log2 of the chunk, if it is a power of two: a shift is many times faster than a division.
    chunk_shift: Option<u32>,
}

impl Layout {
    fn new(width: usize, chunk: u32) -> Self {
        // At most MEMBERS_MAX members.
        Self {
            chunk,
            width: width as u32,
            chunk_shift: chunk.is_power_of_two().then(|| chunk.trailing_zeros()),
        }
    }

    /// The chunk that holds a block, and the block's place in it.
    #[inline]
    fn chunk_of(&self, at: u64) -> (u64, u64) {
        match self.chunk_shift {
            Some(shift) => (at >> shift, at & (u64::from(self.chunk) - 1)),
            None => (at / u64::from(self.chunk), at % u64::from(self.chunk)),
        }
    }

    /// The member that holds a block, and its place there.
    #[inline]
    fn locate(&self, at: u64) -> (usize, Lba) {
        let (chunk, offset) = self.chunk_of(at);
        let width = u64::from(self.width);
        (
            (chunk % width) as usize,
            Lba(chunk / width * u64::from(self.chunk) + offset),
        )
    }

    /// How many of the first `blocks` blocks lie on `member`.
    fn share(&self, blocks: u64, member: u32) -> u64 {
        let (chunks, offset) = self.chunk_of(blocks);
        let (rows, extra) = (chunks / u64::from(self.width), (chunks % u64::from(self.width)) as u32);
        rows * u64::from(self.chunk)
            + match member.cmp(&extra) {
                std::cmp::Ordering::Less => u64::from(self.chunk),
                std::cmp::Ordering::Equal => offset,
                std::cmp::Ordering::Greater => 0,
            }
    }
}

/// What `members` are together when striped.
pub fn geometry(members: &[Geometry], chunk: u32) -> Result<Geometry, String> {
    if members.len() > MEMBERS_MAX {
        return Err(format!("{} members are more than {MEMBERS_MAX}", members.len()));
    }
    if chunk == 0 {
        return Err("a chunk of 0 blocks".into());
    }
    let all = Geometry::combine(members)?;
    let shortest = members.iter().map(|member| member.blocks).min().unwrap_or(0);
    let rows = shortest / u64::from(chunk);
    if rows == 0 {
        return Err(format!(
            "the shortest member has {shortest} blocks, less than one chunk of {chunk}"
        ));
    }
    let geometry = Geometry {
        // Not more than the sum of the members, which did not overflow.
        blocks: rows * u64::from(chunk) * members.len() as u64,
        optimal_io: chunk,
        ..all
    };
    geometry.check()?;
    Ok(geometry)
}

impl Stripe {
    /// A stripe over whole disks. Says in words what does not fit together.
    pub fn build(members: &[Disk], chunk: u32) -> Result<Disk, String> {
        let geometry = geometry(&members.iter().map(Disk::geometry).collect::<Vec<_>>(), chunk)?;
        if let [one] = members {
            return one.view(0, geometry.blocks).ok_or_else(|| "the member shrank".into());
        }
        let flat = flatten(members, chunk).unwrap_or_else(|| members.to_vec());
        let layout = Layout::new(flat.len(), chunk);
        Ok(Disk::new(Self {
            geometry,
            members: flat.into(),
            layout,
        }))
    }

    fn send(&self, io: &Io, piece: BlockRange) -> IoFuture<IoResult> {
        let (member, start) = self.layout.locate(piece.start.0);
        self.members[member].submit(io.part(piece).at(start))
    }
}

/// The members' members, in the order in which the chunks go round, if all are whole stripes of one width and this chunk.
fn flatten(members: &[Disk], chunk: u32) -> Option<Vec<Disk>> {
    let inner: Vec<&[Disk]> = members
        .iter()
        .map(|member| member.dealt().filter(|dealt| dealt.1 == chunk).map(|dealt| dealt.0))
        .collect::<Option<_>>()?;
    let (width, depth) = (inner.len(), inner[0].len());
    let alike = inner.iter().all(|one| one.len() == depth);
    let rows = |disk: &Disk| disk.blocks() / u64::from(chunk);
    // Unequal stripes would leave another part of their members unused than one wide stripe does.
    let level = inner
        .iter()
        .flat_map(|one| one.iter())
        .all(|disk| rows(disk) == rows(&inner[0][0]));
    (alike && level && width * depth <= MEMBERS_MAX).then(|| {
        (0..width * depth)
            .map(|n| inner[n % width][n / width].clone())
            .collect()
    })
}

impl BlockDevice for Stripe {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whatever lies inside one chunk, whatever the operation: only addresses move here.
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        let (_, offset) = self.layout.chunk_of(io.range.start.0);
        if io.range.count == 0 || offset + u64::from(io.range.count) > u64::from(self.layout.chunk) {
            if io.op != Op::Allocation || io.range.count == 0 {
                return Mapped::Stay;
            }
            // The first chunk's answer is an answer.
            io.range.count = self.layout.chunk - offset as u32;
        }
        let (member, start) = self.layout.locate(io.range.start.0);
        io.range.start = start;
        Mapped::To(&self.members[member])
    }

    async fn submit(&self, io: Io) -> IoResult {
        match io.op {
            Op::Flush => fan::all(self.members.iter().map(|member| member.submit(io.clone()))).await,
            Op::Allocation => match io.range.chunks(self.layout.chunk).next() {
                Some(first) => self.send(&io, first).await,
                None => Ok(()),
            },
            Op::Read | Op::Write => {
                fan::all(io.range.chunks(self.layout.chunk).map(|piece| self.send(&io, piece))).await
            }
            Op::Unmap | Op::WriteZeroes { .. } => {
                let (start, end) = (io.range.start.0, io.range.start.0 + u64::from(io.range.count));
                let parts = self.members.iter().zip(0..).filter_map(|(disk, member)| {
                    let (from, to) = (self.layout.share(start, member), self.layout.share(end, member));
                    // A member's share is no longer than the whole, whose count is a u32.
                    let range = BlockRange::new(from, (to - from) as u32);
                    (range.count > 0).then(|| disk.submit(Io { range, ..io.clone() }))
                });
                fan::all(parts).await
            }
        }
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        self.members.iter().for_each(visit)
    }

    fn dealt(&self) -> Option<(&[Disk], u32)> {
        Some((&self.members, self.layout.chunk))
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
    fn equal_chunks_on_equal_chunks_are_one_stripe() {
        let pair = |blocks, chunk| Stripe::build(&[null(blocks), null(blocks)], chunk).unwrap();
        let members = |disk: &Disk| disk.dealt().map(|(members, _)| members.len());
        assert_eq!(
            members(&Stripe::build(&[pair(64, 8), pair(64, 8)], 8).unwrap()),
            Some(4)
        );
        assert_eq!(
            members(&Stripe::build(&[pair(64, 8), pair(64, 4)], 8).unwrap()),
            Some(2),
            "another chunk"
        );
        assert_eq!(
            members(&Stripe::build(&[pair(64, 8), pair(80, 8)], 8).unwrap()),
            Some(2),
            "another length"
        );
        let cut = pair(64, 8).view(0, 64).unwrap();
        assert_eq!(
            members(&Stripe::build(&[cut, pair(64, 8)], 8).unwrap()),
            Some(2),
            "a part of a stripe"
        );
    }

    #[test]
    fn shares_add_up() {
        let layout = Layout::new(3, 7);
        for blocks in 0..100 {
            assert_eq!((0..3).map(|member| layout.share(blocks, member)).sum::<u64>(), blocks);
            let (member, at) = layout.locate(blocks);
            assert_eq!(
                at.0,
                layout.share(blocks, member as u32),
                "a block comes after its member's share of those before it"
            );
        }
    }
}
