//! Sockets without io_uring: try the call, and wait for readiness if it would block.
//!
//! Nothing is under way in the kernel while a task waits here, so nothing has to be kept for it.
use crate::cores::Bell;
use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

const BELL: u64 = u64::MAX;
const BATCH: usize = 128;

/// Which way a task waits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    In,
    Out,
}

struct Registration {
    /// Keeps the number from being used for another socket while it is registered.
    fd: Arc<OwnedFd>,
    /// For each way: as far as we know a call would not block.
    ready: [bool; 2],
    waker: [Option<Waker>; 2],
}

/// The epoll instance of a core. [ONE-CORE]
pub(crate) struct Epoll {
    fd: OwnedFd,
    bell: RawFd,
    registered: RefCell<Vec<Option<Registration>>>,
    free: RefCell<Vec<u32>>,
    waiting: Cell<usize>,
    events: RefCell<Box<[libc::epoll_event; BATCH]>>,
    calls: Cell<u64>,
    completed: Cell<u64>,
}

impl Epoll {
    pub(crate) fn new(bell: &Bell) -> io::Result<Self> {
        // SAFETY: [SYSCALL] no memory is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let this = Self {
            // SAFETY: [NEW-FD] the kernel made this descriptor for us.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            bell: bell.fd(),
            registered: RefCell::default(),
            free: RefCell::default(),
            waiting: Cell::new(0),
            events: RefCell::new(Box::new([libc::epoll_event { events: 0, u64: 0 }; BATCH])),
            calls: Cell::new(0),
            completed: Cell::new(0),
        };
        this.watch(bell)?;
        Ok(this)
    }

    /// Becomes readable too when `bell` rings.
    pub(crate) fn watch(&self, bell: &Bell) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, bell.fd(), libc::EPOLLIN as u32, BELL)
    }

    fn control(&self, what: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: [SYSCALL] one readable event.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Watches a socket, both ways, edge-triggered. It counts as ready until a call says otherwise.
    pub(crate) fn register(&self, fd: &Arc<OwnedFd>) -> io::Result<u32> {
        let mut registered = self.registered.borrow_mut();
        let recycled = self.free.borrow_mut().pop();
        let token = recycled.unwrap_or(registered.len() as u32);
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        if let Err(error) = self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), events as u32, token as u64) {
            if recycled.is_some() {
                self.free.borrow_mut().push(token)
            }
            return Err(error);
        }
        let registration = Registration {
            fd: fd.clone(),
            ready: [true; 2],
            waker: [None, None],
        };
        match registered.get_mut(token as usize) {
            Some(place) => *place = Some(registration),
            None => {
                registered.push(Some(registration));
                self.free.borrow_mut().reserve(registered.len())
            }
        }
        Ok(token)
    }

    pub(crate) fn unregister(&self, token: u32) {
        let gone = self
            .registered
            .borrow_mut()
            .get_mut(token as usize)
            .and_then(Option::take);
        if let Some(registration) = gone {
            let _ = self.control(libc::EPOLL_CTL_DEL, registration.fd.as_raw_fd(), 0, 0);
            let waiting = registration.waker.iter().flatten().count();
            self.waiting.set(self.waiting.get() - waiting);
            self.free.borrow_mut().push(token)
        }
    }

    /// Makes `call` until it does not block any more. `call` answers as system calls do; this counts it.
    pub(crate) fn poll(
        &self,
        token: u32,
        way: Way,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> isize,
    ) -> Poll<io::Result<usize>> {
        let way = way as usize;
        loop {
            {
                let mut registered = self.registered.borrow_mut();
                let Some(Some(registration)) = registered.get_mut(token as usize) else {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                };
                if !registration.ready[way] {
                    match &mut registration.waker[way] {
                        Some(waker) => waker.clone_from(cx.waker()),
                        none => {
                            *none = Some(cx.waker().clone());
                            self.waiting.set(self.waiting.get() + 1)
                        }
                    }
                    return Poll::Pending;
                }
            }
            self.calls.set(self.calls.get() + 1);
            let result = call();
            if result >= 0 {
                self.completed.set(self.completed.get() + 1);
                return Poll::Ready(Ok(result as usize));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => (),
                io::ErrorKind::WouldBlock => {
                    if let Some(Some(registration)) = self.registered.borrow_mut().get_mut(token as usize) {
                        registration.ready[way] = false
                    }
                }
                _ => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Says that a call would block although none was made.
    pub(crate) fn not_ready(&self, token: u32, way: Way) {
        if let Some(Some(registration)) = self.registered.borrow_mut().get_mut(token as usize) {
            registration.ready[way as usize] = false
        }
    }

    /// Forgets who waits: its future was dropped.
    pub(crate) fn forget(&self, token: u32, way: Way) {
        if let Some(Some(registration)) = self.registered.borrow_mut().get_mut(token as usize)
            && registration.waker[way as usize].take().is_some()
        {
            self.waiting.set(self.waiting.get() - 1)
        }
    }

    /// One pass without waiting, if anybody waits for anything.
    pub(crate) fn turn(&self, may_have_rung: bool) -> bool {
        (self.waiting.get() > 0 || may_have_rung) && self.collect()
    }

    fn collect(&self) -> bool {
        let mut events = self.events.borrow_mut();
        let mut work = false;
        loop {
            self.calls.set(self.calls.get() + 1);
            // SAFETY: [SYSCALL] room for BATCH events.
            let n = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, 0) };
            let n = n.max(0) as usize;
            for event in &events[..n] {
                let (what, token) = (event.events as i32, event.u64);
                if token == BELL {
                    let mut rings = 0u64;
                    // SAFETY: [SYSCALL] eight writable bytes.
                    unsafe { libc::read(self.bell, (&raw mut rings).cast(), 8) };
                    continue;
                }
                let mut registered = self.registered.borrow_mut();
                let Some(Some(registration)) = registered.get_mut(token as usize) else {
                    continue;
                };
                let over = libc::EPOLLHUP | libc::EPOLLERR;
                let ways = [libc::EPOLLIN | libc::EPOLLRDHUP | over, libc::EPOLLOUT | over];
                for (way, mask) in ways.into_iter().enumerate() {
                    if what & mask != 0 {
                        registration.ready[way] = true;
                        if let Some(waker) = registration.waker[way].take() {
                            self.waiting.set(self.waiting.get() - 1);
                            work = true;
                            waker.wake()
                        }
                    }
                }
            }
            if n < BATCH {
                return work;
            }
        }
    }

    /// Blocks until there is an event, or `nap` is over.
    pub(crate) fn wait(&self, nap: Option<Duration>) {
        let nap = nap.map(|nap| libc::timespec {
            tv_sec: nap.as_secs().min(1 << 30) as libc::time_t,
            tv_nsec: nap.subsec_nanos() as _,
        });
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let nap = nap.as_ref().map_or(std::ptr::null(), |nap| nap as *const _);
        self.calls.set(self.calls.get() + 1);
        // Not epoll_wait, whose timeout counts milliseconds.
        // SAFETY: [SYSCALL] one pollfd, a timespec that lives until the call is over, no signal mask.
        if unsafe { libc::ppoll(&raw mut poll, 1, nap, std::ptr::null()) } > 0 {
            self.collect();
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Tasks that wait for readiness.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// System calls made, and operations completed.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.calls.get(), self.completed.get())
    }
}
