//! The block-device contract: `map` for an I/O that needs no memory afterwards, `submit` for all others.
//!
//! A module is written as two functions that must mean the same. [`map`](BlockDevice::map) says in a few nanoseconds where an
//! I/O goes and forgets it; [`submit`](BlockDevice::submit) is a plain `async fn` for whatever waits, forks or has to
//! see the result. [`Disk::submit`](crate::Disk::submit) follows `map` down the stack in a loop and makes one frame at the
//! first device that keeps the I/O:
//!
//! ```text
//!   slot ── Disk::submit ── view ─ map ─► stripe ─ map ─► view ─ map ─► file: Stay ─► one frame, awaited by the slot
//! ```
//!
//! Devices are single-threaded (DESIGN D4): `Cell`, `RefCell` and `Rc`, never a lock.
use crate::{Disk, Geometry, Io, IoResult, module::linear::Extent};
use std::{cell::Ref, future::Future};

/// Where an I/O goes from here.
pub enum Mapped<'a> {
    /// No further: it waits, forks or is worth remembering, so it becomes a frame of `submit`. `io` is unchanged.
    Stay,
    /// On to this disk, which `io.range` now addresses. Whoever answers this never hears of the I/O again.
    To(&'a Disk),
    /// The same through a cell whose content changes ([`Gate`](crate::gate::Gate)); borrowed only while the walk goes on.
    /// What lies behind may have another length than yesterday, so the range is checked once more.
    Through(Ref<'a, Disk>),
    /// It is done already: a leaf that only moves page references needs no frame to do so.
    Done(IoResult),
}

/// What a driver or virtual module writes. Plain `async fn`; no boxing, no pinning, no callbacks.
///
/// A future returned by `submit` always runs to completion (DESIGN D6), so nothing has to be cancellation-safe.
pub trait BlockDevice: 'static {
    /// What it can do and likes. Cheap; may change between two I/Os (a file that grows), never within one.
    fn geometry(&self) -> Geometry;

    /// The fast path. Must do what `submit` would do, or `Stay`; an operation it does not know must stay as well,
    /// unless every operation moves alike (stripe). Must leave `io` inside the disk it names: nobody checks again.
    /// Is not asked about an [`Io::careful`].
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        let _ = io;
        Mapped::Stay
    }

    /// Everything else. The range lies on the device and the data is as long as the range (checked by `Disk::submit`).
    fn submit(&self, io: Io) -> impl Future<Output = IoResult>;

    /// The disks this device stands on. Control path only: a drain follows them.
    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        let _ = visit;
    }

    /// A device that is nothing but a row of extents shows it, so that a table built above swallows it (DESIGN D3).
    fn extents(&self) -> Option<&[Extent]> {
        None
    }

    /// A device that is nothing but equal chunks dealt round over its members shows them, for the same reason.
    fn dealt(&self) -> Option<(&[Disk], u32)> {
        None
    }
}
