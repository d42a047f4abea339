//! A few threads for what would block a core: all file operations where there is no io_uring, and on block devices the requests that
//! io_uring cannot carry.
//!
//! The queue is as long as there are operations under way, and those are bounded by the command slots of the targets.
use super::{file::SEEK_UNIT, ops::Work};
use crate::cores::Post;
use std::{
    collections::VecDeque,
    io,
    os::fd::RawFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

const THREADS: usize = 4;

/// `_IO(0x12, 119)`, linux/fs.h.
const BLKDISCARD: libc::c_ulong = 0x1277;

/// An operation on its way to a helper thread.
pub(crate) struct Job {
    index: u32,
    work: Work,
    fd: RawFd,
    segments: *const libc::iovec,
    count: usize,
    finished: Arc<Finished>,
    post: &'static Post,
}

// SAFETY: [OP-OWNS-MEMORY] the segments, what they point to and the descriptor belong to the slot `index`, which touches none of them
// until this job is in `finished`.
unsafe impl Send for Job {}

/// Results on their way back to their core.
#[derive(Default)]
pub(crate) struct Finished {
    results: Mutex<Vec<(u32, i32)>>,
    any: AtomicBool,
}

impl Finished {
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self, mut each: impl FnMut(u32, i32)) {
        if self.is_empty() {
            return;
        }
        self.any.store(false, Ordering::Relaxed);
        lock(&self.results)
            .drain(..)
            .for_each(|(index, result)| each(index, result))
    }
}

struct Workers {
    queue: Mutex<VecDeque<Job>>,
    more: Condvar,
    threads: usize,
}

static WORKERS: OnceLock<Workers> = OnceLock::new();

/// Hands a job to the threads, which are started by the first job of the process.
pub(crate) fn submit(job: Job) {
    let workers = WORKERS.get_or_init(start);
    if workers.threads == 0 {
        // No thread could be started: slow is better than not at all.
        return job.run();
    }
    lock(&workers.queue).push_back(job);
    workers.more.notify_one()
}

fn start() -> Workers {
    let mut started = 0;
    for n in 0..THREADS {
        let thread = std::thread::Builder::new().name(format!("file-worker-{n}")).spawn(|| {
            // Not only on the CPU of the reactor that happened to start us.
            crate::reactors::use_process_cpus();
            let workers = WORKERS.wait();
            loop {
                let mut queue = lock(&workers.queue);
                let job = loop {
                    match queue.pop_front() {
                        Some(job) => break job,
                        None => {
                            queue = workers
                                .more
                                .wait(queue)
                                .unwrap_or_else(|poisoned| poisoned.into_inner())
                        }
                    }
                };
                drop(queue);
                job.run()
            }
        });
        started += thread.is_ok() as usize
    }
    if started == 0 {
        tracing::error!("no thread for file I/O could be started: it blocks the reactors now")
    }
    Workers {
        queue: Mutex::default(),
        more: Condvar::new(),
        threads: started,
    }
}

impl Job {
    pub(super) fn new(
        index: u32,
        work: Work,
        fd: RawFd,
        segments: *const libc::iovec,
        count: usize,
        finished: Arc<Finished>,
        post: &'static Post,
    ) -> Self {
        Self {
            index,
            work,
            fd,
            segments,
            count,
            finished,
            post,
        }
    }

    fn run(self) {
        let result = loop {
            match self.call() {
                -1 => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => (),
                    error => break -error.unwrap_or(libc::EIO),
                },
                n => break n as i32,
            }
        };
        lock(&self.finished.results).push((self.index, result));
        self.finished.any.store(true, Ordering::Release);
        self.post.knock()
    }

    fn call(&self) -> isize {
        // The kernel takes 1024 segments at a time; the rest is a short transfer, which the core continues.
        let count = self.count.min(libc::UIO_MAXIOV as usize) as libc::c_int;
        match self.work {
            // SAFETY: [OP-OWNS-MEMORY] `count` segments that stay as they are until the result is posted.
            Work::Read { offset } => unsafe { libc::preadv(self.fd, self.segments, count, offset as libc::off_t) },
            // SAFETY: [OP-OWNS-MEMORY] as above.
            Work::Write { offset, dsync } => unsafe {
                let flags = if dsync { libc::RWF_DSYNC } else { 0 };
                libc::pwritev2(self.fd, self.segments, count, offset as libc::off_t, flags)
            },
            // SAFETY: [SYSCALL] no memory is passed.
            Work::Sync => unsafe { libc::fdatasync(self.fd) as isize },
            // SAFETY: [SYSCALL] no memory is passed.
            Work::Allocate { mode, offset, len } => unsafe {
                libc::fallocate(self.fd, mode, offset as libc::off_t, len as libc::off_t) as isize
            },
            Work::Discard { offset, len } => {
                let range = [offset, len];
                // SAFETY: [SYSCALL] two readable words, as the request asks for.
                unsafe { libc::ioctl(self.fd, BLKDISCARD as _, range.as_ptr()) as isize }
            }
            Work::Seek { offset, hole } => {
                let whence = if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA };
                // SAFETY: [SYSCALL] no memory is passed. Nobody uses the file's position.
                match unsafe { libc::lseek(self.fd, offset as libc::off_t, whence) } {
                    -1 => -1,
                    // The result of an operation is an i32: what is further away is cut.
                    found => ((found as u64).saturating_sub(offset) / SEEK_UNIT).min(i32::MAX as u64) as isize,
                }
            }
            // Sockets never come here.
            Work::Receive | Work::Send | Work::Lend | Work::Accept | Work::Connect | Work::Nothing => {
                -(libc::EINVAL as isize)
            }
        }
    }
}

/// A lock of the slow path. Nothing panics while it is held, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    crate::counters::locked();
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
