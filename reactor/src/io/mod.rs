//! Files and sockets of one core, through io_uring or, where that is forbidden or absent, through epoll and a few threads.
//!
//! Every operation that outlives the call that starts it has a slot which owns all memory the kernel (or a helper thread) may touch,
//! until the completion has arrived, whether somebody still waits for it or not. [OP-OWNS-MEMORY]
mod epoll;
mod file;
mod inbox;
pub(crate) mod net;
mod ops;
mod outbox;
mod uring;
mod workers;

pub use file::{Direct, File, OpenHow};
pub use inbox::Inbox;
pub use net::{Closer, Listener, Received, Stream};
pub use outbox::Outbox;

use crate::{cores::Post, reactors::IoBackend, stats::Counters};
use epoll::Epoll;
pub(crate) use ops::Operation;
use ops::{Completion, Ops, Slot};
use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::RawFd,
    sync::{Arc, Once, atomic::Ordering::Relaxed},
    time::Duration,
};
use uring::Uring;
use workers::Finished;

/// A core's way to the kernel. [ONE-CORE]
pub(crate) struct Io {
    post: &'static Post,
    ops: RefCell<Ops>,
    driver: Driver,
    finished: Arc<Finished>,
    /// For the segments of one call.
    scratch: RefCell<Vec<libc::iovec>>,
    /// An outer loop may have waited, so the bell may have rung.
    waited: Cell<bool>,
}

// One for each core, looked at all the time: not behind another pointer.
#[allow(clippy::large_enum_variant)]
enum Driver {
    Uring(RefCell<Uring>),
    Epoll(Epoll),
}

impl Io {
    pub(crate) fn new(how: IoBackend, post: &'static Post) -> io::Result<Self> {
        let forced = std::env::var_os("ASHLAR_IO").is_some_and(|how| how == "epoll");
        let driver = match how {
            IoBackend::Epoll => Driver::Epoll(Epoll::new(&post.bell)?),
            IoBackend::Auto if forced => Driver::Epoll(Epoll::new(&post.bell)?),
            _ => match Uring::new(&post.bell) {
                Ok(uring) => Driver::Uring(RefCell::new(uring)),
                Err(error) if how == IoBackend::IoUring => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("io_uring is not available: {error}"),
                    ));
                }
                Err(error) => {
                    static SAID: Once = Once::new();
                    SAID.call_once(|| {
                        tracing::warn!(
                            "io_uring is not available ({error}): sockets use epoll and files a few threads, which is slower"
                        )
                    });
                    Driver::Epoll(Epoll::new(&post.bell)?)
                }
            },
        };
        Ok(Self {
            post,
            ops: RefCell::default(),
            driver,
            finished: Arc::default(),
            scratch: RefCell::default(),
            waited: Cell::new(false),
        })
    }

    pub(crate) fn is_uring(&self) -> bool {
        matches!(self.driver, Driver::Uring(_))
    }

    /// Can sends lend their pages to the kernel?
    fn lends(&self) -> bool {
        match &self.driver {
            Driver::Uring(uring) => uring.borrow().lends(),
            Driver::Epoll(_) => false,
        }
    }

    /// Starts an operation: `fill` says what it is and gives the slot the memory it needs.
    fn begin(&self, fill: impl FnOnce(&mut Slot)) -> Operation {
        let index = {
            let mut ops = self.ops.borrow_mut();
            let index = ops.take();
            fill(ops.slot(index));
            index
        };
        self.start(index);
        Operation::new(index)
    }

    /// Hands the operation in the slot to the kernel or to a helper thread; again, if it was finished in part only.
    fn start(&self, index: u32) {
        let mut ops = self.ops.borrow_mut();
        ops.started(index);
        let slot = ops.slot(index);
        match &self.driver {
            Driver::Uring(uring) if slot.work.in_ring() => uring.borrow_mut().push(uring::entry(index, slot)),
            _ => workers::submit(slot.job(index, self.finished.clone(), self.post)),
        }
    }

    /// Once a turn: submits what was started, and completes what has finished. True: something had finished.
    pub(crate) fn turn(&self) -> bool {
        let mut work = false;
        let mut complete = |index, completion| {
            work = true;
            self.ops.borrow_mut().complete(index, completion)
        };
        match &self.driver {
            Driver::Uring(uring) => uring.borrow_mut().turn(&mut complete),
            Driver::Epoll(epoll) => work |= epoll.turn(self.waited.replace(false)),
        }
        work | self.reap_workers()
    }

    fn reap_workers(&self) -> bool {
        let mut work = false;
        self.finished.take(|index, result| {
            work = true;
            self.ops.borrow_mut().complete(index, Completion::new(result))
        });
        work
    }

    /// Blocks until something has finished, the bell rings, or `nap` is over.
    pub(crate) fn wait(&self, nap: Option<Duration>) {
        if !self.finished.is_empty() {
            return;
        }
        match &self.driver {
            Driver::Uring(uring) => uring.borrow_mut().wait(nap),
            Driver::Epoll(epoll) => epoll.wait(nap),
        }
    }

    /// An outer loop is about to wait for [`Self::fd`].
    pub(crate) fn prepare_to_wait(&self) -> bool {
        self.waited.set(true);
        let quiet = match &self.driver {
            Driver::Uring(uring) => uring.borrow_mut().prepare_to_wait(&self.post.bell),
            Driver::Epoll(_) => true,
        };
        quiet && self.finished.is_empty()
    }

    pub(crate) fn fd(&self) -> io::Result<RawFd> {
        match &self.driver {
            Driver::Uring(uring) => uring.borrow_mut().fd(&self.post.bell),
            Driver::Epoll(epoll) => Ok(epoll.fd()),
        }
    }

    /// Operations under way.
    pub(crate) fn in_flight(&self) -> usize {
        let waiting = match &self.driver {
            Driver::Uring(_) => 0,
            Driver::Epoll(epoll) => epoll.waiting(),
        };
        self.ops.borrow().in_flight() + waiting
    }

    pub(crate) fn show(&self, counters: &Counters) {
        let (enters, direct) = match &self.driver {
            Driver::Uring(uring) => (uring.borrow().enters(), 0),
            Driver::Epoll(epoll) => epoll.figures(),
        };
        let ops = self.ops.borrow();
        counters.enters.store(enters, Relaxed);
        counters.ios.store(ops.completed() + direct, Relaxed);
        counters.in_flight.store(ops.in_flight() as u64, Relaxed);
    }

    /// Cancels what is under way and waits until the kernel has let go of all memory. What it does not let go of in time is leaked:
    /// a disk that hangs must not make freed memory writable for it.
    pub(crate) fn end(&self) {
        let deadline = crate::time::monotonic() + 5_000_000_000;
        let mut cancelled = false;
        while self.ops.borrow().in_flight() > 0 {
            if let (Driver::Uring(uring), false) = (&self.driver, cancelled) {
                uring.borrow_mut().cancel_all();
                cancelled = true
            }
            self.turn();
            if self.ops.borrow().in_flight() == 0 {
                break;
            }
            if crate::time::monotonic() > deadline {
                let left = self.ops.borrow_mut().leak();
                tracing::error!("{left} I/O operations did not end; their memory stays allocated");
                break;
            }
            // Woken early by whatever finishes; a bell is not needed for this.
            self.wait(Some(Duration::from_millis(1)))
        }
    }
}
