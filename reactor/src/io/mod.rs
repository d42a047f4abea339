//! Files and sockets, through io_uring or without.
use crate::{cores::Post, reactors::IoBackend, stats::Counters};
use std::{io, os::fd::RawFd, time::Duration};

/// A core's way to the kernel.
pub(crate) struct Io {
    post: &'static Post,
    waited: std::cell::Cell<bool>,
}

impl Io {
    pub(crate) fn new(_how: IoBackend, post: &'static Post) -> io::Result<Self> {
        Ok(Self {
            post,
            waited: Default::default(),
        })
    }
    pub(crate) fn is_uring(&self) -> bool {
        false
    }
    pub(crate) fn turn(&self) -> bool {
        if self.waited.replace(false) {
            self.post.bell.hush()
        }
        false
    }
    pub(crate) fn in_flight(&self) -> usize {
        0
    }
    pub(crate) fn wait(&self, nap: Option<Duration>) {
        let mut bell = libc::pollfd {
            fd: self.post.bell.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let nap = nap.map(|nap| libc::timespec {
            tv_sec: nap.as_secs() as i64,
            tv_nsec: nap.subsec_nanos() as i64,
        });
        let nap = nap.as_ref().map_or(std::ptr::null(), |nap| nap as *const _);
        // SAFETY: [SYSCALL] one pollfd, a timespec that lives until the call is over, no signal mask.
        unsafe { libc::ppoll(&raw mut bell, 1, nap, std::ptr::null()) };
        self.post.bell.hush()
    }
    pub(crate) fn prepare_to_wait(&self) -> bool {
        self.waited.set(true);
        true
    }
    pub(crate) fn fd(&self) -> RawFd {
        self.post.bell.fd()
    }
    pub(crate) fn show(&self, _counters: &Counters) {}
    pub(crate) fn end(&self) {}
}
