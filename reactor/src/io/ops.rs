//! The slots of operations under way.
use super::{
    inbox::Memory,
    outbox::Store,
    workers::{Finished, Job},
};
use crate::{cores::Post, pin::PinList, turn::on_core};
use std::{
    future::Future,
    marker::PhantomData,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

/// What an operation does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Nothing,
    Receive,
    Send,
    /// A send that lends its pages to the kernel until the peer has them, instead of having them copied.
    Lend,
    Accept,
    Connect,
    Read {
        offset: u64,
    },
    Write {
        offset: u64,
        dsync: bool,
    },
    Sync,
    Allocate {
        mode: i32,
        offset: u64,
        len: u64,
    },
    Discard {
        offset: u64,
        len: u64,
    },
    /// Units of [`SEEK_UNIT`](super::file::SEEK_UNIT) bytes from `offset` to the next hole or the next data.
    Seek {
        offset: u64,
        hole: bool,
    },
}

impl Work {
    /// Can io_uring do this? What it cannot, a helper thread does.
    pub(crate) fn in_ring(self) -> bool {
        !matches!(self, Work::Discard { .. } | Work::Seek { .. } | Work::Nothing)
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum State {
    Free,
    Filled,
    InFlight,
    /// In flight, and nobody waits any more.
    Abandoned,
    Done,
    /// Done, nobody looks at it any more, and the kernel still reads its memory.
    Lent,
}

/// What the kernel says about an operation.
pub(crate) struct Completion {
    /// As in a system call, errors negative.
    pub(crate) result: i32,
    /// A notice follows when the memory of this send is needed no more.
    pub(crate) lent: bool,
    /// This is that notice.
    pub(crate) notice: bool,
}

impl Completion {
    /// The usual one.
    pub(crate) fn new(result: i32) -> Self {
        Self {
            result,
            lent: false,
            notice: false,
        }
    }
}

/// In the result of a notice: the kernel copied after all (IORING_NOTIF_USAGE_ZC_COPIED).
const COPIED: i32 = i32::MIN;

/// Everything one operation needs until it has ended. Its address does not change. [OP-OWNS-MEMORY]
pub(crate) struct Slot {
    state: State,
    result: i32,
    waker: Option<Waker>,
    /// Notices the kernel owes us.
    lent: u32,
    pub(crate) work: Work,
    /// Keeps the descriptor from being closed, and its number from being used again, before the kernel has looked it up.
    pub(crate) fd: Option<Arc<OwnedFd>>,
    pub(crate) pins: PinList,
    pub(crate) inbox: Option<Rc<Memory>>,
    pub(crate) outbox: Option<Rc<Store>>,
    /// The small pieces of a send that lends: those of the outbox change before the peer has them.
    pub(crate) headers: Vec<u8>,
    /// To be told whether lending was in vain.
    pub(crate) in_vain: Option<Arc<AtomicBool>>,
    pub(crate) message: libc::msghdr,
    pub(crate) address: libc::sockaddr_storage,
    pub(crate) address_len: libc::socklen_t,
}

impl Slot {
    fn new() -> Self {
        Self {
            state: State::Free,
            result: 0,
            waker: None,
            lent: 0,
            work: Work::Nothing,
            fd: None,
            pins: PinList::new(),
            inbox: None,
            outbox: None,
            headers: Vec::new(),
            in_vain: None,
            // SAFETY: [PLAIN-DATA] integers and pointers, for which zero is a value.
            message: unsafe { std::mem::zeroed() },
            // SAFETY: [PLAIN-DATA] as above.
            address: unsafe { std::mem::zeroed() },
            address_len: 0,
        }
    }

    fn clear(&mut self) {
        self.work = Work::Nothing;
        self.waker = None;
        self.fd = None;
        self.pins.clear();
        self.inbox = None;
        self.outbox = None;
        self.headers.clear();
        self.in_vain = None;
    }

    /// Only the kernel's notice is waited for.
    fn lend(&mut self) {
        self.state = State::Lent;
        // Pages are held, but not the connection: it may end before the peer has them.
        self.fd = None
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, |fd| fd.as_raw_fd())
    }

    /// The same for a helper thread.
    pub(crate) fn job(&mut self, index: u32, finished: Arc<Finished>, post: &'static Post) -> Job {
        let segments = self.pins.iovecs();
        Job::new(
            index,
            self.work,
            self.raw_fd(),
            segments.as_ptr(),
            segments.len(),
            finished,
            post,
        )
    }
}

/// All slots of a core. [ONE-CORE]
#[derive(Default)]
pub(crate) struct Ops {
    // Boxed, so that growing does not move them.
    #[allow(clippy::vec_box)]
    slots: Vec<Box<Slot>>,
    free: Vec<u32>,
    in_flight: usize,
    completed: u64,
}

impl Ops {
    pub(crate) fn take(&mut self) -> u32 {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Box::new(Slot::new()));
                self.free.reserve(self.slots.len());
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[index as usize].state = State::Filled;
        index
    }

    pub(crate) fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    pub(crate) fn started(&mut self, index: u32) {
        self.slots[index as usize].state = State::InFlight;
        self.in_flight += 1;
    }

    /// A completion has arrived.
    pub(crate) fn complete(&mut self, index: u32, completion: Completion) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        let result = completion.result;
        if completion.notice {
            self.in_flight -= 1;
            slot.lent = slot.lent.saturating_sub(1);
            if result & COPIED != 0
                && let Some(in_vain) = &slot.in_vain
            {
                in_vain.store(true, Relaxed)
            }
            if slot.state == State::Lent && slot.lent == 0 {
                self.release(index)
            }
            return;
        }
        self.completed += 1;
        slot.result = result;
        if completion.lent {
            slot.lent += 1
        } else {
            self.in_flight -= 1
        }
        if slot.state == State::Abandoned && slot.lent > 0 {
            return slot.lend();
        }
        if slot.state == State::Abandoned {
            if slot.work == Work::Accept && result >= 0 {
                // SAFETY: [NEW-FD] the kernel made this descriptor for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(result) })
            }
            return self.release(index);
        }
        slot.state = State::Done;
        if let Some(waker) = slot.waker.take() {
            waker.wake()
        }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.clear();
        slot.state = State::Free;
        self.free.push(index)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn completed(&self) -> u64 {
        self.completed
    }

    /// Gives up on what is in flight: its memory is never freed. Returns how many those are.
    pub(crate) fn leak(&mut self) -> usize {
        for slot in self.slots.drain(..) {
            if matches!(slot.state, State::InFlight | State::Abandoned) || slot.lent > 0 {
                Box::leak(slot);
            }
        }
        self.free.clear();
        std::mem::take(&mut self.in_flight)
    }
}

/// A handle to an operation under way: the future of its result (as the kernel gives it: negative errors). Dropped before the
/// end, the operation is cancelled if that is possible, and keeps its memory until its end in any case.
#[must_use = "dropping it cancels the operation"]
pub(crate) struct Operation {
    index: u32,
    one_core: PhantomData<*const ()>,
}

impl Operation {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            one_core: PhantomData,
        }
    }

    /// Looks at the slot. The operation must have ended.
    pub(crate) fn slot<R>(&self, f: impl FnOnce(&mut Slot) -> R) -> R {
        on_core(|core| f(core.io.ops.borrow_mut().slot(self.index)))
    }

    /// Starts it again, after the slot was changed.
    pub(crate) fn again(&self) {
        on_core(|core| core.io.start(self.index))
    }
}

impl Future for Operation {
    type Output = i32;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<i32> {
        on_core(|core| {
            let mut ops = core.io.ops.borrow_mut();
            let slot = ops.slot(self.index);
            if slot.state == State::Done {
                return Poll::Ready(slot.result);
            }
            match &mut slot.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        crate::turn::with_current(|core| {
            // Without a core the slots are gone, or never to be used again.
            let Some(core) = core else { return };
            let mut ops = core.io.ops.borrow_mut();
            let slot = ops.slot(self.index);
            match slot.state {
                State::InFlight => {
                    slot.state = State::Abandoned;
                    slot.waker = None;
                    if let (super::Driver::Uring(uring), true) = (&core.io.driver, slot.work.in_ring()) {
                        uring.borrow_mut().cancel(self.index)
                    }
                }
                State::Done if slot.lent > 0 => slot.lend(),
                _ => ops.release(self.index),
            }
        })
    }
}
