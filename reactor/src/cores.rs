//! The cores of the process by number, as other threads see them.
//!
//! A core's post (wake list, calls, bell, figures) is made once, given back when the core ends and used again by the next one,
//! but never freed: a waker that outlived its core finds a post that belongs to nobody or to somebody else, where the
//! worst it can do is wake a task once too often.
use crate::{
    mailbox::WakeList,
    stats::Counters,
    turn::Core,
    waker::{CORES, SLOTS, TaskId},
};
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    rc::Rc,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// A closure mailed to a core: the cold path.
pub(crate) type Mail = Box<dyn FnOnce(&Rc<Core>) + Send>;

/// The mail of one core. A post has many owners, one after the other: `owner` tells them apart.
#[derive(Default)]
struct MailBag {
    owner: u64,
    open: bool,
    mail: VecDeque<Mail>,
}

/// What other threads can reach of a core.
pub(crate) struct Post {
    pub(crate) wakes: WakeList,
    bag: Mutex<MailBag>,
    has_mail: AtomicBool,
    pub(crate) bell: Bell,
    pub(crate) counters: Counters,
    /// The core shall finish.
    pub(crate) stop: AtomicBool,
}

static POSTS: [OnceLock<Post>; CORES] = [const { OnceLock::new() }; CORES];
static SPARE: Mutex<Spare> = Mutex::new(Spare {
    given_back: Vec::new(),
    fresh: 0,
});

struct Spare {
    given_back: Vec<u16>,
    fresh: u16,
}

/// Takes a number and its post for a new core, and the owner's number that mail has to carry.
pub(crate) fn take() -> io::Result<(u16, &'static Post, u64)> {
    let mut spare = lock(&SPARE);
    let id = match spare.given_back.pop() {
        Some(id) => id,
        None if (spare.fresh as usize) < CORES => {
            // Made here and not in the `OnceLock`, as it can fail.
            let post = Post {
                wakes: WakeList::new(zeroed_u8(SLOTS), zeroed_u32(SLOTS)),
                bag: Mutex::default(),
                has_mail: AtomicBool::new(false),
                bell: Bell::new()?,
                counters: Counters::default(),
                stop: AtomicBool::new(false),
            };
            let id = spare.fresh;
            spare.fresh += 1;
            let _ = POSTS[id as usize].set(post);
            id
        }
        None => return Err(io::Error::other(format!("more than {CORES} reactors at a time"))),
    };
    let Some(post) = POSTS[id as usize].get() else {
        return Err(io::Error::other("a reactor's post vanished"));
    };
    // Wakes for the last owner's tasks mean nothing now.
    post.wakes.take(|_| ());
    post.wakes.awake();
    post.bell.hush();
    post.counters.reset();
    post.stop.store(false, Ordering::Release);
    let mut bag = lock(&post.bag);
    bag.owner += 1;
    bag.open = true;
    Ok((id, post, bag.owner))
}

/// Gives a number back. Mail that was not read, and mail that comes later, is dropped.
pub(crate) fn give_back(id: u16) {
    if let Some(post) = POSTS[id as usize].get() {
        let unread = {
            let mut bag = lock(&post.bag);
            bag.open = false;
            std::mem::take(&mut bag.mail)
        };
        drop(unread)
    }
    lock(&SPARE).given_back.push(id);
}

/// A lock on a cold path. Nothing panics while it is held, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    crate::counters::locked();
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Wakes a task from outside its core.
pub(crate) fn wake(task: TaskId) {
    if let Some(post) = POSTS[task.core() as usize].get()
        && post.wakes.push(task.slot())
    {
        post.counters.rung.count();
        post.bell.ring()
    }
}

impl Post {
    /// Mails a closure to the core that took this post as `owner`. False: that core has ended, the closure was dropped.
    pub(crate) fn send(&self, owner: u64, mail: Mail) -> bool {
        {
            let mut bag = lock(&self.bag);
            if bag.owner != owner || !bag.open {
                drop(bag);
                return false;
            }
            bag.mail.push_back(mail);
            self.has_mail.store(true, Ordering::Release);
        }
        self.knock();
        true
    }

    /// The core: is there mail?
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// The core: its mail.
    pub(crate) fn mail(&self) -> VecDeque<Mail> {
        let mut bag = lock(&self.bag);
        self.has_mail.store(false, Ordering::Relaxed);
        std::mem::take(&mut bag.mail)
    }

    /// Is `owner` still at this post?
    pub(crate) fn is_open(&self, owner: u64) -> bool {
        let bag = lock(&self.bag);
        bag.owner == owner && bag.open
    }

    /// Makes the core look around, if it sleeps.
    pub(crate) fn knock(&self) {
        if self.wakes.must_ring() {
            self.counters.rung.count();
            self.bell.ring()
        }
    }
}

/// An eventfd. Its core waits for it together with everything else it waits for.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: [SYSCALL] no memory is passed; a descriptor that is not negative is new and ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: [SYSCALL] as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn ring(&self) {
        let one = 1u64;
        // SAFETY: [SYSCALL] eight readable bytes. It can only fail when the counter is full, and then it rings already.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Makes it silent again.
    pub(crate) fn hush(&self) {
        let mut rings = 0u64;
        // SAFETY: [SYSCALL] eight writable bytes. It fails when nobody rang, which is as good.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut rings).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// `n` zeros that take no memory until they are used: the arrays have room for every slot a core could ever have.
fn zeroed_u8(n: usize) -> Box<[std::sync::atomic::AtomicU8]> {
    let zeros = vec![0u8; n].into_boxed_slice();
    // SAFETY: [SAME-LAYOUT] an atomic integer has the size, alignment and bit validity of its integer.
    unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [std::sync::atomic::AtomicU8]) }
}

fn zeroed_u32(n: usize) -> Box<[std::sync::atomic::AtomicU32]> {
    let zeros = vec![0u32; n].into_boxed_slice();
    // SAFETY: [SAME-LAYOUT] as above; AtomicU32 is aligned as u32.
    unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [std::sync::atomic::AtomicU32]) }
}
