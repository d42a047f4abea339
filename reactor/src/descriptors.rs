//! How many files and sockets this process may have open: each connection and each file-backed disk takes one.
use std::io;

/// The limit on open descriptors (`RLIMIT_NOFILE`), before and after [`raise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// What the process was started with.
    pub before: u64,
    /// What holds now.
    pub now: u64,
}

/// Raises the soft limit of this process to the hard one, which needs no rights. The soft one is 1,024 on most systems for
/// the sake of `select`, which nobody here uses. Processes started later inherit it.
///
/// # Errors
/// Those of `getrlimit` and `setrlimit`; the limit is then as it was.
pub fn raise() -> io::Result<Descriptors> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: [SYSCALL] one structure of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    if before < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: [SYSCALL] as above.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Descriptors {
        before,
        now: limit.rlim_cur,
    })
}
