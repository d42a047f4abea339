//! Raid: an array with redundancy as a device. What it does is in [`raid`](crate::raid); here is the way in.
//!
//! ```text
//!   read within a chunk of a member that holds what it should ─ map ─► member
//!   read or write of more than a chunk (a stripe) ──► its parts ──► each one a frame of the inner device
//! ```
use crate::{
    Allocation, BlockDevice, Disk, Geometry, Io, IoError, IoResult, Mapped, Op, fan,
    frames::Frames,
    raid::{Member, Parts, Places, Shape, State, cost, split, zeros},
};
use spec::{BlockRange, Lba, md::parity::Parity};
use std::rc::Rc;

pub use crate::raid::{Array, Command, MemberReport, Plan, Report, Seat};

/// Blocks of members whose zeroing is one operation.
const ZERO_STEP: u64 = 1 << 17;

/// What an array is to hosts. `members` are those of its data, as long as they are used, and `replacements` of those that replace some of them.
pub fn geometry(
    shape: Shape,
    members: &[Option<Geometry>],
    replacements: &[Option<Geometry>],
    used: u64,
) -> Result<Geometry, String> {
    let places = shape.places(members.len(), used)?;
    let there: Vec<Geometry> = members.iter().chain(replacements).flatten().copied().collect();
    if there.iter().any(|member| member.blocks < used) {
        return Err(format!(
            "a member is shorter than the {used} blocks that are used of each"
        ));
    }
    let all = Geometry::combine(
        &there
            .iter()
            .map(|member| Geometry { blocks: 0, ..*member })
            .collect::<Vec<_>>(),
    )?;
    // Members that hold different things where they are unmapped would no longer be alike.
    let unmap = all.unmap && all.unmap_reads_zero;
    let whole = matches!(places, Places::Parity { .. });
    Ok(Geometry {
        blocks: places.blocks(),
        optimal_io: places.optimal(),
        unmap,
        unmap_granularity: if whole { places.optimal() } else { all.unmap_granularity },
        unmap_reads_zero: unmap && !whole,
        write_zeroes: all.write_zeroes,
        ..all
    })
}

/// What is asked of a member when a read is mapped.
struct Known {
    disk: Disk,
    frames: Rc<Frames>,
}

/// See the [module](self).
pub struct Raid {
    array: Array,
    /// As the plan has them, for those who map.
    members: Box<[Option<Known>]>,
    /// Where everything was when it was built: an array that grows only has more of it.
    places: Places,
    geometry: Geometry,
    /// The same array, for parts of an I/O.
    parts: Disk,
}

impl Array {
    /// The device, over members that may have been built anew.
    pub fn device(&self, parts: Vec<Option<Parts>>, geometry: Geometry) -> Disk {
        self.0.set_parts(parts.clone());
        let known = |parts: Option<Parts>| {
            let disk = parts?.data;
            Some(Known {
                frames: disk.frames(),
                disk,
            })
        };
        Disk::new(Raid {
            array: self.clone(),
            places: self.0.places(),
            members: parts.into_iter().map(known).collect(),
            geometry,
            parts: Disk::new(Inner {
                array: self.0.clone(),
                geometry,
            }),
        })
    }
}

impl BlockDevice for Raid {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// A read of one chunk that is where it should be.
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        let state = &*self.array.0;
        if io.op != Op::Read || io.range.count == 0 || !state.is_ready() {
            return Mapped::Stay;
        }
        // Each apart, so that each is short.
        match &self.places {
            Places::Parity { parity, .. } => self.to_chunk(parity, io),
            Places::Mirror { .. } => self.to_plain(io),
            Places::Raid10(_) => self.to_copy(io),
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        let state = &*self.array.0;
        state.ios.set(state.ios.get() + 1);
        let chunk = self.places.chunk();
        match io.op {
            Op::Flush => state.flush().await,
            Op::Allocation => Allocation::all(io.range).tell(&io),
            _ if io.range.count == 0 => Ok(()),
            Op::Read => match chunk {
                Some(chunk) if !within(io.range, chunk) => self.in_parts(&io, chunk).await,
                _ => self.parts.submit(io).await,
            },
            Op::Write | Op::Unmap | Op::WriteZeroes { .. } => match &self.places {
                Places::Mirror { .. } => self.parts.submit(io).await,
                Places::Raid10(raid10) => self.in_parts(&io, raid10.chunk()).await,
                Places::Parity { parity, .. } => {
                    let wide = parity.chunk() * u32::from(parity.data());
                    match io.op {
                        Op::Write => self.in_parts(&io, wide).await,
                        _ => self.zero(&io, wide).await,
                    }
                }
            },
        }
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        self.members.iter().flatten().for_each(|known| visit(&known.disk))
    }
}

impl Raid {
    /// On to the member that has it, if it holds what it should.
    #[inline(never)]
    fn to_chunk(&self, parity: &Parity, io: &mut Io) -> Mapped<'_> {
        if !within(io.range, parity.chunk()) {
            return Mapped::Stay;
        }
        let place = parity.place(io.range.start.0);
        let (member, at) = (&self.array.0.members[usize::from(place.member)], place.sector);
        match member.reads(at, at + u64::from(io.range.count)) {
            true => self.to(member, at, io),
            false => Mapped::Stay,
        }
    }

    /// On to the copy that costs least to read, of a mirror of whose members there is nothing to say: all are there, hold what they should and are meant to be read.
    #[inline(never)]
    fn to_plain(&self, io: &mut Io) -> Mapped<'_> {
        let state = &*self.array.0;
        let start = io.range.start.0;
        if state.intent.is_any_needed() {
            return self.to_copy(io);
        }
        let (mut least, mut best) = (u64::MAX, None);
        for member in state.seats() {
            let known = match self.members.get(usize::from(member.slot.get())) {
                Some(Some(known)) if member.is_plain() => known,
                _ => return self.to_copy(io),
            };
            let cost = cost(known.frames.standing(), member.next.get(), start);
            if cost < least {
                (least, best) = (cost, Some((member, &known.disk)))
            }
        }
        let Some((member, disk)) = best else {
            return Mapped::Stay;
        };
        member.next.set(start + u64::from(io.range.count));
        state.ios.set(state.ios.get() + 1);
        Mapped::To(disk)
    }

    /// On to the copy that costs least to read, whatever there is to say of the members.
    #[inline(never)]
    fn to_copy(&self, io: &mut Io) -> Mapped<'_> {
        let state = &*self.array.0;
        if self.places.chunk().is_some_and(|chunk| !within(io.range, chunk)) {
            return Mapped::Stay;
        }
        let Some((member, at)) = state.copy_to_read(io.range, |_| false) else {
            return Mapped::Stay;
        };
        state.was_read(member, at, io.range.count);
        self.to(&state.members[usize::from(member)], at, io)
    }

    /// On to where a member has it.
    #[inline]
    fn to(&self, member: &Member, at: u64, io: &mut Io) -> Mapped<'_> {
        let state = &*self.array.0;
        match self.members.get(usize::from(member.slot.get())) {
            Some(Some(known)) => {
                state.ios.set(state.ios.get() + 1);
                io.range.start = Lba(at);
                Mapped::To(&known.disk)
            }
            _ => Mapped::Stay,
        }
    }

    async fn in_parts(&self, io: &Io, size: u32) -> IoResult {
        fan::all(io.range.chunks(size).map(|part| self.parts.submit(io.part(part)))).await
    }

    /// Whole stripes at once, and the rest by writing zeros; what is only unmapped may stay.
    async fn zero(&self, io: &Io, wide: u32) -> IoResult {
        let state = &*self.array.0;
        let Some(parity) = state.parity() else { return Ok(()) };
        let (whole, rest) = split(io.range, wide.into());
        if let Some(whole) = whole {
            let step = (ZERO_STEP / u64::from(parity.chunk())).max(1);
            let mut at = whole.start;
            while at < whole.end {
                let next = (at + step).min(whole.end);
                if !state.whole_stripes(&parity, at..next, io).await? && io.op != Op::Unmap {
                    // At most the range of the I/O.
                    let part = BlockRange::new(at * u64::from(wide), ((next - at) * u64::from(wide)) as u32);
                    self.in_parts(&zeros(io, part, state.bytes(part.count)), wide).await?
                }
                at = next
            }
        }
        if io.op == Op::Unmap {
            return Ok(());
        }
        for part in rest.into_iter().filter(|part| part.count > 0) {
            let zeros = zeros(io, part, state.bytes(part.count));
            self.in_parts(&zeros, wide).await?
        }
        Ok(())
    }
}

/// True if it lies within one chunk.
#[inline]
fn within(range: BlockRange, chunk: u32) -> bool {
    let chunk = u64::from(chunk);
    let at = match chunk & (chunk - 1) {
        0 => range.start.0 & (chunk - 1),
        _ => range.start.0 % chunk,
    };
    at + u64::from(range.count) <= chunk
}

/// The array for I/O that lies within a chunk, or a stripe: one frame each.
struct Inner {
    array: Rc<State>,
    geometry: Geometry,
}

impl Inner {
    async fn read(&self, io: Io) -> IoResult {
        let state = &*self.array;
        match &state.places() {
            Places::Parity { parity, .. } => state.read_chunk(parity, io).await,
            Places::Mirror { .. } | Places::Raid10(_) => state.read_copy(io).await,
        }
    }
}

impl BlockDevice for Inner {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        let state = &*self.array;
        if !state.is_ready() {
            state.ready().await?
        }
        match (&state.places(), io.op) {
            (_, Op::Read) => match self.read(io.clone()).await {
                // What one member cannot read of it another may have, and that one something else.
                Err(IoError::Medium) if io.range.count > 1 => {
                    let part = async |part| self.read(io.part(part)).await.map(|()| 0);
                    let whole = state.piecewise(io.range, part, |_| Err(IoError::Medium)).await;
                    whole.map(|_| ())
                }
                done => done,
            },
            (Places::Parity { parity, .. }, Op::Write) => state.write_stripe(parity, io).await,
            (Places::Mirror { .. } | Places::Raid10(_), op) if op.changes() => state.write_copies(io).await,
            // Nothing else is sent here.
            _ => Err(IoError::Unsupported),
        }
    }
}
