//! The only handle to a device: a window (base, length) of it.
//!
//! A window on a window is one window, made when it is made and free ever after; so a partition of a volume of a partition
//! costs nothing per I/O. Everything that is checked about an I/O is checked here, once: that the range lies inside
//! the window and that the data is as long as the range. Devices rely on it.
use crate::{BlockDevice, Geometry, Io, IoError, IoResult, Mapped, Op, frames::Frames, module::linear::Extent};
use reactor::{Buf, IoFuture, Serve};
use spec::BlockRange;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// What the stack stores: a device and the count of frames that stand on it, which whoever asks for it with each I/O has at hand.
struct Node<T> {
    frames: Rc<Frames>,
    device: T,
}

/// The one adapter that erases a device's type; implemented once, below.
trait AnyDevice {
    fn frames(&self) -> &Rc<Frames>;
    fn geometry(&self) -> Geometry;
    fn map(&self, io: &mut Io) -> Mapped<'_>;
    fn submit(self: Rc<Self>, io: Io) -> IoFuture<IoResult>;
    fn below(&self, visit: &mut dyn FnMut(&Disk));
    fn extents(&self) -> Option<&[Extent]>;
    fn dealt(&self) -> Option<(&[Disk], u32)>;
}

impl<T: BlockDevice> AnyDevice for Node<T> {
    fn frames(&self) -> &Rc<Frames> {
        &self.frames
    }
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        self.device.map(io)
    }
    fn submit(self: Rc<Self>, io: Io) -> IoFuture<IoResult> {
        let epoch = self.frames.enter();
        IoFuture::lent(Standing { node: self, epoch }, io)
    }
    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        self.device.below(visit)
    }
    fn extents(&self) -> Option<&[Extent]> {
        self.device.extents()
    }
    fn dealt(&self) -> Option<(&[Disk], u32)> {
        self.device.dealt()
    }
}

/// A frame owns its device. That is what lets a graph change under running I/O without any `unsafe`: the device
/// lives until its last frame is done, and `IoFuture` needs no lifetime.
struct Standing<T> {
    node: Rc<Node<T>>,
    epoch: u64,
}

impl<T: BlockDevice> Serve for Standing<T> {
    type Ask = Io;
    type Answer = IoResult;
    #[inline]
    fn serve(&self, io: Io) -> impl Future<Output = IoResult> {
        self.node.device.submit(io)
    }
}

impl<T> Drop for Standing<T> {
    fn drop(&mut self) {
        self.node.frames.leave(self.epoch)
    }
}

/// What came of a walk.
enum Way {
    /// This device keeps the I/O, which now addresses it.
    Stays(Rc<dyn AnyDevice>),
    /// It was done, or refused, on the way.
    Done(IoResult),
}

/// See [`Disk::perform`].
#[must_use = "an operation does nothing unless awaited"]
pub struct Perform<'a> {
    disk: &'a Disk,
    running: IoFuture<IoResult>,
    /// The same I/O carefully, while it is not known to be needless.
    again: Option<Io>,
}

impl Future for Perform<'_> {
    type Output = IoResult;
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult> {
        loop {
            let done = match Pin::new(&mut self.running).poll(cx) {
                Poll::Ready(done) => done,
                Poll::Pending => return Poll::Pending,
            };
            match (done, self.again.take()) {
                (Err(error), Some(again)) if error.is_mendable() => self.running = self.disk.submit(again),
                _ => return Poll::Ready(done),
            }
        }
    }
}

/// The length of a window that is as long as its device, however long that is at the moment.
const WHOLE: u64 = u64::MAX;

/// A cheap, cloneable window of a device. Belongs to one core.
#[derive(Clone)]
pub struct Disk {
    device: Rc<dyn AnyDevice>,
    base: u64,
    blocks: u64,
    block_shift: u32,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Disk({} blocks of {} bytes from {})",
            self.blocks(),
            self.block_size(),
            self.base
        )
    }
}

impl Disk {
    /// The whole of a device, as long as it is now.
    pub fn new(device: impl BlockDevice) -> Self {
        let geometry = device.geometry();
        Self {
            device: Rc::new(Node {
                frames: Rc::default(),
                device,
            }),
            base: 0,
            blocks: geometry.blocks,
            block_shift: geometry.block_shift(),
        }
    }

    /// The whole of a device whose length may change. The device checks ranges itself, by answering
    /// [`Mapped::Through`] or in its `submit`.
    pub fn growing(device: impl BlockDevice) -> Self {
        Self {
            blocks: WHOLE,
            ..Self::new(device)
        }
    }

    /// Length in blocks.
    pub fn blocks(&self) -> u64 {
        match self.blocks {
            WHOLE => self.device.geometry().blocks,
            fixed => fixed,
        }
    }

    /// Bytes in a block.
    pub fn block_size(&self) -> u32 {
        1 << self.block_shift
    }

    /// The device's geometry with this window's length.
    pub fn geometry(&self) -> Geometry {
        let whole = self.device.geometry();
        match self.blocks {
            WHOLE => whole,
            blocks => Geometry { blocks, ..whole },
        }
    }

    /// A partition or linear segment: costs nothing per I/O, because views of views collapse here. `None` if it does not fit.
    pub fn view(&self, base: u64, blocks: u64) -> Option<Self> {
        (base.checked_add(blocks)? <= self.blocks()).then(|| Self {
            device: self.device.clone(),
            base: self.base + base,
            blocks,
            block_shift: self.block_shift,
        })
    }

    /// True if both are windows of the same device.
    pub fn same_device(&self, other: &Disk) -> bool {
        std::ptr::addr_eq(Rc::as_ptr(&self.device), Rc::as_ptr(&other.device))
    }

    /// This window and the next as one, if `next` begins on the same device where this one ends.
    pub(crate) fn joined(&self, next: &Disk) -> Option<Disk> {
        let touch = self.blocks != WHOLE && self.same_device(next) && self.base + self.blocks == next.base;
        touch.then(|| Disk {
            blocks: self.blocks + next.blocks(),
            ..self.clone()
        })
    }

    /// Where the window begins on its device.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The extents of the device, if it is nothing but those.
    pub(crate) fn extents(&self) -> Option<&[Extent]> {
        self.device.extents()
    }

    /// The members of the device, if it does nothing but deal chunks over them and this is the whole of it.
    pub(crate) fn dealt(&self) -> Option<(&[Disk], u32)> {
        self.device
            .dealt()
            .filter(|_| self.base == 0 && self.blocks == self.device.geometry().blocks)
    }

    /// Sends an I/O.
    #[inline]
    pub fn submit(&self, mut io: Io) -> IoFuture<IoResult> {
        match self.walk(&mut io) {
            Way::Stays(device) => device.submit(io),
            Way::Done(done) => IoFuture::ready(done),
        }
    }

    /// Checks an I/O, the single place where its range and length are, and follows `map` down to the first device that keeps it.
    /// `io` is by reference: what is done where it is mapped is moved nowhere.
    fn walk(&self, io: &mut Io) -> Way {
        if !io.range.fits(self.blocks) {
            return Way::Done(Err(IoError::OutOfRange));
        }
        if io.op.carries_data() && io.data.len() as u64 != u64::from(io.range.count) << self.block_shift {
            return Way::Done(Err(IoError::Misaligned));
        }
        let mut disk = self;
        loop {
            debug_assert!(io.range.fits(disk.blocks), "a map left its disk");
            // Only where there is something to add: a store to a part of the request holds up the load of the whole in the next move.
            if disk.base != 0 {
                io.range.start.0 += disk.base
            }
            if io.careful {
                return Way::Stays(disk.device.clone());
            }
            match disk.device.map(io) {
                Mapped::Stay => return Way::Stays(disk.device.clone()),
                Mapped::To(below) => disk = below,
                Mapped::Through(below) => return below.walk(io),
                Mapped::Done(done) => return Way::Done(done),
            }
        }
    }

    /// What a command slot calls. A module that mapped a read away cannot mend its failure, so a failed read is sent
    /// once more with nothing mapped; the module that can mend it (raid5, mirror, bbr) then sees the error itself.
    #[inline]
    pub fn perform(&self, mut io: Io) -> Perform<'_> {
        let asked = io.range;
        let mends = io.op == Op::Read && !io.careful;
        match self.walk(&mut io) {
            Way::Stays(device) => {
                let again = mends.then(|| Io {
                    range: asked,
                    ..io.clone().careful()
                });
                let running = device.submit(io);
                Perform {
                    disk: self,
                    running,
                    again,
                }
            }
            Way::Done(Err(error)) if mends && error.is_mendable() => {
                let io = Io { range: asked, ..io };
                let running = self.submit(io.careful());
                Perform {
                    disk: self,
                    running,
                    again: None,
                }
            }
            Way::Done(done) => Perform {
                disk: self,
                running: IoFuture::ready(done),
                again: None,
            },
        }
    }

    /// Waits until every frame that stood on this device or below it when this was called is gone. A suspend calls it once
    /// the gates are closed; a module must call it before it takes back a place it has mapped I/O to (thin discard,
    /// cache demotion). I/O that comes meanwhile is not waited for.
    pub async fn drain(&self) {
        let (mut all, mut at): (Vec<Disk>, usize) = (vec![self.clone()], 0);
        while at < all.len() {
            let disk = all[at].clone();
            disk.device.below(&mut |below| {
                if !all.iter().any(|seen| seen.same_device(below)) {
                    all.push(below.clone())
                }
            });
            at += 1;
        }
        for disk in all {
            disk.device.frames().drain().await
        }
    }

    /// Frames that stand on this very device now: what [`drain`](Self::drain) would wait for here.
    pub fn standing(&self) -> u32 {
        self.device.frames().standing()
    }

    /// The same for whoever asks with each I/O.
    pub(crate) fn frames(&self) -> Rc<Frames> {
        self.device.frames().clone()
    }

    /// `submit(Io::read(..))`.
    pub fn read(&self, range: BlockRange, into: Buf) -> IoFuture<IoResult> {
        self.submit(Io::read(range, into))
    }

    /// `submit(Io::write(..))`.
    pub fn write(&self, range: BlockRange, from: Buf) -> IoFuture<IoResult> {
        self.submit(Io::write(range, from))
    }

    /// `submit(Io::flush())`.
    pub fn flush(&self) -> IoFuture<IoResult> {
        self.submit(Io::flush())
    }
}
