//! The ring of one core: everything started in a turn is submitted by one call at its end.
use super::{
    epoll::Epoll,
    ops::{Completion, Slot, Work},
};
use crate::cores::Bell;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue::Entry, types};
use std::{collections::VecDeque, io, os::fd::RawFd, time::Duration};

const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4096;

/// Marks in the completions' user data that are not slots.
const BELL: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// IORING_SEND_ZC_REPORT_USAGE (6.2): the notice says whether the kernel copied after all.
const REPORT_USAGE: u16 = 1 << 3;

pub(crate) struct Uring {
    ring: IoUring,
    /// What did not fit into the queue when it was full and the kernel took nothing.
    backlog: VecDeque<Entry>,
    bell: RawFd,
    bell_armed: bool,
    enters: u64,
    outer: Option<Outer>,
    /// The kernel knows sends that lend their pages (6.1).
    lends: bool,
}

/// What an outer loop waits for: an epoll instance over two eventfds, the bell and one that the kernel signals as soon as there is something
/// to reap or to work off. The ring's own descriptor does not do: with DEFER_TASKRUN it becomes readable only when completions were posted,
/// and that waits for a call of ours. And the bell does not ring through the ring then: an eventfd that signals an eventfd is delayed
/// by a grace period of the kernel (17 ms were seen).
struct Outer {
    epoll: Epoll,
    signal: Bell,
}

impl Uring {
    pub(crate) fn new(bell: &Bell) -> io::Result<Self> {
        let ring = Self::build()?;
        let params = ring.params();
        // Timeouts of a wait (5.11), completions never dropped (5.5), sockets polled inside (5.7).
        if !(params.is_feature_ext_arg() && params.is_feature_nodrop() && params.is_feature_fast_poll()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel's is older than 5.11",
            ));
        }
        // The kernel's own helpers for what may block (fsync, fallocate) inherit our CPU if we are pinned. They had better use others.
        if let Some(cpus) = crate::reactors::process_cpus() {
            let _ = ring.submitter().register_iowq_aff(&cpus);
        }
        let mut this = Self {
            ring,
            backlog: VecDeque::new(),
            bell: bell.fd(),
            bell_armed: false,
            enters: 0,
            outer: None,
            lends: false,
        };
        let mut probe = Probe::new();
        if this.ring.submitter().register_probe(&mut probe).is_ok() {
            this.lends = probe.is_supported(opcode::SendMsgZc::CODE)
        }
        this.arm_bell();
        Ok(this)
    }

    pub(crate) fn lends(&self) -> bool {
        self.lends
    }

    /// The best set-up the kernel knows.
    fn build() -> io::Result<IoUring> {
        let base = || {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_cqsize(COMPLETIONS);
            builder
        };
        // 6.1: completions are worked off in our own calls only, and a flag says when there are some.
        let mut builder = base();
        builder
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
        match builder.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (),
            result => return result,
        }
        // 5.19: at least they do not interrupt us.
        let mut builder = base();
        builder.setup_submit_all().setup_coop_taskrun().setup_taskrun_flag();
        match builder.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => base().build(SUBMISSIONS),
            result => result,
        }
    }

    /// Queues an entry, which is submitted at the end of the turn.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.backlog.is_empty() {
            if self.try_push(&entry) {
                return;
            }
            self.submit();
            if self.try_push(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry)
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: [OP-OWNS-MEMORY] what the entry points to is owned by a slot until the completion, by the bell's post, or nothing.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    pub(crate) fn cancel(&mut self, index: u32) {
        self.push(opcode::AsyncCancel::new(index as u64).build().user_data(CANCEL))
    }

    pub(crate) fn cancel_all(&mut self) {
        let all = types::CancelBuilder::any().all();
        self.push(opcode::AsyncCancel2::new(all).build().user_data(CANCEL));
    }

    fn arm_bell(&mut self) {
        if self.outer.is_some() {
            return;
        }
        self.bell_armed = true;
        self.push(
            opcode::PollAdd::new(types::Fd(self.bell), libc::POLLIN as u32)
                .multi(true)
                .build()
                .user_data(BELL),
        )
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn submit(&mut self) {
        self.enters += 1;
        // Busy and interrupted are no errors: what was not taken stays queued, and the next turn tries again.
        let _ = self.ring.submit();
    }

    /// One pass: a call if there is anything to submit or to work off, then the completions.
    pub(crate) fn turn(&mut self, complete: &mut dyn FnMut(u32, Completion)) {
        self.flush_backlog();
        if !self.bell_armed {
            self.arm_bell()
        }
        let queue = self.ring.submission();
        let due = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if due {
            self.submit()
        }
        for completion in self.ring.completion() {
            match completion.user_data() {
                // Multishot: it stays armed as long as the kernel says so.
                BELL => self.bell_armed = cqueue::more(completion.flags()),
                CANCEL => (),
                index => complete(
                    index as u32,
                    Completion {
                        result: completion.result(),
                        lent: cqueue::more(completion.flags()),
                        notice: cqueue::notif(completion.flags()),
                    },
                ),
            }
        }
        if !self.bell_armed && self.outer.is_none() {
            // It would ring at once if it were not silenced first.
            let mut rings = 0u64;
            // SAFETY: [SYSCALL] eight writable bytes.
            unsafe { libc::read(self.bell, (&raw mut rings).cast(), 8) };
            self.arm_bell()
        }
    }

    /// Blocks until there is a completion, or `nap` is over.
    pub(crate) fn wait(&mut self, nap: Option<Duration>) {
        self.flush_backlog();
        if !self.bell_armed {
            self.arm_bell()
        }
        self.enters += 1;
        // Whatever it says: a completion, the end of the nap, a signal; the next turn looks.
        let _ = match nap {
            Some(nap) => {
                let nap = types::Timespec::from(nap);
                self.ring
                    .submitter()
                    .submit_with_args(1, &types::SubmitArgs::new().timespec(&nap))
            }
            None => self.ring.submitter().submit_and_wait(1),
        };
    }

    /// A descriptor for outer loops to wait for.
    pub(crate) fn fd(&mut self, bell: &Bell) -> io::Result<RawFd> {
        if self.outer.is_none() {
            let (epoll, signal) = (Epoll::new(bell)?, Bell::new()?);
            epoll.watch(&signal)?;
            self.ring.submitter().register_eventfd(signal.fd())?;
            self.push(opcode::AsyncCancel::new(BELL).build().user_data(CANCEL));
            self.outer = Some(Outer { epoll, signal })
        }
        Ok(self.outer.as_ref().map_or(-1, |outer| outer.epoll.fd()))
    }

    /// An outer loop is about to wait. False: there is something to reap or to work off already.
    pub(crate) fn prepare_to_wait(&mut self, bell: &Bell) -> bool {
        // Silenced before the look: what comes after it signals again.
        if let Some(outer) = &self.outer {
            outer.signal.hush();
            bell.hush()
        }
        let queue = self.ring.submission();
        let due = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        !due && self.backlog.is_empty() && self.ring.completion().is_empty()
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }
}

/// The entry for the operation in a slot. Its pointers stay valid because the slot neither moves nor lets go of them.
pub(crate) fn entry(index: u32, slot: &mut Slot) -> Entry {
    let fd = types::Fd(slot.raw_fd());
    let segments = slot.pins.iovecs();
    let (first, count) = (segments.as_ptr(), segments.len());
    let one = match segments {
        [one] => Some((one.iov_base.cast::<u8>(), one.iov_len as u32)),
        _ => None,
    };
    if matches!(slot.work, Work::Receive | Work::Send | Work::Lend) {
        slot.message.msg_iov = first.cast_mut();
        slot.message.msg_iovlen = count as _;
    }
    let entry = match (slot.work, one) {
        (Work::Receive, Some((at, len))) => opcode::Recv::new(fd, at, len).build(),
        (Work::Receive, None) => opcode::RecvMsg::new(fd, &raw mut slot.message).build(),
        (Work::Send, Some((at, len))) => opcode::Send::new(fd, at, len).flags(libc::MSG_NOSIGNAL).build(),
        (Work::Send, None) => opcode::SendMsg::new(fd, &raw const slot.message)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build(),
        (Work::Lend, _) => opcode::SendMsgZc::new(fd, &raw const slot.message)
            .ioprio(REPORT_USAGE)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build(),
        (Work::Accept, _) => {
            slot.address_len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            opcode::Accept::new(fd, (&raw mut slot.address).cast(), &raw mut slot.address_len)
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        (Work::Connect, _) => opcode::Connect::new(fd, (&raw const slot.address).cast(), slot.address_len).build(),
        (Work::Read { offset }, Some((at, len))) => opcode::Read::new(fd, at, len).offset(offset).build(),
        (Work::Read { offset }, None) => opcode::Readv::new(fd, first, count as u32).offset(offset).build(),
        (Work::Write { offset, dsync }, Some((at, len))) => opcode::Write::new(fd, at, len)
            .offset(offset)
            .rw_flags(rw_flags(dsync))
            .build(),
        (Work::Write { offset, dsync }, None) => opcode::Writev::new(fd, first, count as u32)
            .offset(offset)
            .rw_flags(rw_flags(dsync))
            .build(),
        (Work::Sync, _) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        (Work::Allocate { mode, offset, len }, _) => opcode::Fallocate::new(fd, len).offset(offset).mode(mode).build(),
        (Work::Discard { .. } | Work::Seek { .. } | Work::Nothing, _) => opcode::Nop::new().build(),
    };
    entry.user_data(index as u64)
}

fn rw_flags(dsync: bool) -> i32 {
    if dsync { libc::RWF_DSYNC } else { 0 }
}
