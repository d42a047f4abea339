//! What the benches share: layers that do nothing, and a driver that keeps a number of I/Os in flight.
//!
//! The layers are here and not in `bdev` because no product needs them: they are what the price of a layer is measured with.
use bdev::{
    BlockDevice, Disk, Geometry, Io, IoResult, Mapped,
    leaf::null::Null,
    module::{
        linear::Linear,
        raid::{self, Array, Plan, Seat},
    },
    raid::{MemberState, Parts, Shape},
};
use reactor::Buf;
use spec::BlockRange;
use std::{cell::Cell, rc::Rc};

/// A layer that answers by `map`.
pub struct MapLayer(pub Disk);

impl BlockDevice for MapLayer {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn map(&self, _io: &mut Io) -> Mapped<'_> {
        Mapped::To(&self.0)
    }
    async fn submit(&self, io: Io) -> IoResult {
        self.0.submit(io).await
    }
    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.0)
    }
}

/// A layer that keeps every I/O in a frame of its own.
pub struct AsyncLayer(pub Disk);

impl BlockDevice for AsyncLayer {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    async fn submit(&self, io: Io) -> IoResult {
        self.0.submit(io).await
    }
    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.0)
    }
}

/// `layers` of `make` over `disk`.
pub fn stacked<D: BlockDevice>(disk: Disk, layers: usize, make: impl Fn(Disk) -> D) -> Disk {
    (0..layers).fold(disk, |below, _| Disk::new(make(below)))
}

/// The device below every stack: answers where it is mapped.
pub fn null() -> Disk {
    Disk::new(Null::new(Null::geometry_of(512, 512, 1 << 30)))
}

/// Static mapping: a linear of sixteen pieces in another order, and on it one that rotates it by an odd cut, and so on. What is built are
/// always sixteen or a few more extents, however many layers there are.
pub fn linears(layers: usize) -> Disk {
    let (disk, pieces) = (null(), 16);
    let each = disk.blocks() / pieces;
    let shuffled: Vec<_> = (0..pieces)
        .filter_map(|at| disk.view(at * 5 % pieces * each, each))
        .collect();
    (1..layers).fold(Linear::build(&shuffled).expect("pieces of one disk"), |below, layer| {
        let (blocks, cut) = (below.blocks(), layer as u64 * 8);
        let parts: Vec<_> = [below.view(cut, blocks - cut), below.view(0, cut)]
            .into_iter()
            .flatten()
            .collect();
        Linear::build(&parts).expect("two parts of one disk")
    })
}

/// Reads `ios` blocks of 4 KiB with `depth` tasks on this reactor, each one I/O at a time at scattered addresses, and returns when all
/// are answered. A task lets the others run after each I/O, so that `depth` of them are always under way.
pub async fn drive(disk: &Disk, depth: usize, ios: u64) {
    let left = Rc::new(Cell::new(depth));
    let done = Rc::new(reactor::Notify::new());
    let blocks = 4096 / disk.block_size();
    let units = disk.blocks() / u64::from(blocks);
    for task in 0..depth as u64 {
        let (disk, left, done) = (disk.clone(), left.clone(), done.clone());
        reactor::spawn(async move {
            let buf = Buf::alloc(4096);
            let mut at = task;
            for _ in 0..ios / depth as u64 {
                at = at.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // By a multiplication: what is measured is not the division.
                let range = BlockRange::new((((at >> 32) * units) >> 32) * u64::from(blocks), blocks);
                disk.perform(Io::read(range, buf.clone()))
                    .await
                    .expect("the bench reads within the disk");
                reactor::yield_now().await;
            }
            left.set(left.get() - 1);
            done.notify_one();
        });
    }
    while left.get() > 0 {
        done.wait().await
    }
}

/// An array of whole null disks.
pub fn array(shape: Shape, members: usize) -> Disk {
    array_of(shape, (0..members).map(|_| null()).collect()).1
}

/// An array of whole disks of one length, without metadata.
pub fn array_of(shape: Shape, disks: Vec<Disk>) -> (Array, Disk) {
    // Half of each: a member is a window of a disk, as it is behind a superblock.
    let used = disks.first().map_or(0, Disk::blocks) / 2;
    let seat = Seat {
        state: MemberState::InSync,
        write_mostly: false,
        bad: Vec::new(),
        superblock: None,
    };
    let plan = Plan {
        name: "array".into(),
        shape,
        used,
        members: vec![Some(seat); disks.len()],
        replacements: Vec::new(),
        bitmap: None,
        differs: Vec::new(),
        noted: Vec::new(),
        replay: false,
        read_only: false,
    };
    let geometries: Vec<_> = disks.iter().map(|disk| Some(disk.geometry())).collect();
    let geometry = raid::geometry(shape, &geometries, &[], used).expect("a shape");
    let part = |disk: Disk| {
        let data = disk.view(0, used)?;
        Some(Parts { data, whole: disk })
    };
    let parts: Vec<_> = disks.into_iter().map(part).collect();
    let array = Array::new(plan, parts.clone(), geometry.block_size).expect("an array");
    let disk = array.device(parts, geometry);
    (array, disk)
}
