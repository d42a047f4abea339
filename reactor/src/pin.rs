//! Pages held for an operation of the kernel.
//!
//! Whoever hands a buffer to io_uring, or to a thread that reads and writes files, fills a `PinList` with it, gives the kernel its
//! `iovecs`, and clears it when the operation has ended, even if nobody waits for the answer any more. Lists are kept and used again, so
//! that nothing is allocated when warm.
use crate::{
    buf::Buf,
    page::{PAGE, RawPage},
};

/// Segments for `readv`/`writev` and what keeps their memory. May be sent to the thread that does the call.
#[derive(Default)]
pub struct PinList {
    iovecs: Vec<libc::iovec>,
    pages: Vec<Held>,
    bytes: usize,
}

struct Held {
    page: RawPage,
    pin: bool,
}

// SAFETY: addresses of pages whose counts are atomic. What is behind them is touched by the kernel only ([KERNEL-WRITE], page.rs).
unsafe impl Send for PinList {}

impl PinList {
    /// An empty list.
    pub const fn new() -> PinList {
        PinList {
            iovecs: Vec::new(),
            pages: Vec::new(),
            bytes: 0,
        }
    }
    /// Room for `pages` pages without allocating.
    pub fn with_capacity(pages: usize) -> PinList {
        PinList {
            iovecs: Vec::with_capacity(pages),
            pages: Vec::with_capacity(pages),
            bytes: 0,
        }
    }
    /// The segments, in order; neighbouring pages make one.
    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }
    /// The segments, to be shortened after a partial transfer.
    pub(crate) fn iovecs_mut(&mut self) -> &mut Vec<libc::iovec> {
        &mut self.iovecs
    }
    /// Bytes in all segments.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
    /// Forgets the first `n` bytes of the segments, after a partial transfer. All pages stay held.
    pub fn advance(&mut self, mut n: usize) {
        self.bytes -= n.min(self.bytes);
        let mut whole = 0;
        for vec in &mut self.iovecs {
            let step = n.min(vec.iov_len);
            vec.iov_base = vec.iov_base.wrapping_byte_add(step);
            vec.iov_len -= step;
            n -= step;
            if vec.iov_len > 0 {
                break;
            }
            whole += 1;
        }
        self.iovecs.drain(..whole);
    }
    /// Lets go of everything. The operation has ended, or never began.
    pub fn clear(&mut self) {
        self.iovecs.clear();
        self.bytes = 0;
        for held in self.pages.drain(..) {
            let last = if held.pin {
                held.page.unpin()
            } else {
                held.page.release()
            };
            if last {
                held.page.recycle()
            }
        }
    }

    fn add(&mut self, page: RawPage, at: usize, len: usize, pin: bool) {
        debug_assert!(at + len <= PAGE);
        if pin {
            page.pin()
        } else {
            page.retain()
        }
        self.pages.push(Held { page, pin });
        push_segment(&mut self.iovecs, page.ptr().as_ptr().wrapping_add(at), len);
        self.bytes += len;
    }
}

impl Drop for PinList {
    fn drop(&mut self) {
        self.clear()
    }
}

fn push_segment(iovecs: &mut Vec<libc::iovec>, at: *mut u8, len: usize) {
    if let Some(last) = iovecs.last_mut()
        && last.iov_base.wrapping_byte_add(last.iov_len) == at.cast()
        && !last.iov_base.is_null()
    {
        last.iov_len += len;
        return;
    }
    iovecs.push(libc::iovec {
        iov_base: at.cast(),
        iov_len: len,
    });
}

impl Buf {
    /// Adds these bytes to `pins` for the kernel to write into: every page is made private first, and what will be overwritten is not
    /// copied. The bytes appear in this buffer and all its clones; they are unspecified until the operation has ended.
    ///
    /// Until then a fork or an export shares the page with the kernel, and sees what it sees.
    pub fn pin_for_kernel_write(&self, pins: &mut PinList) {
        self.make_writable();
        self.for_each_raw(|page, at, len| pins.add(page, at, len, true));
    }
    /// Adds these bytes to `pins` for the kernel to read. Who writes to the buffer before the operation has ended writes to another page.
    pub fn pin_for_kernel_read(&self, pins: &mut PinList) {
        self.for_each_raw(|page, at, len| pins.add(page, at, len, false));
    }
    /// Appends the segments of these bytes without holding anything: for a system call that is made and over before anything else happens
    /// on this core.
    pub(crate) fn segments_to_read(&self, iovecs: &mut Vec<libc::iovec>) {
        self.for_each_raw(|page, at, len| push_segment(iovecs, page.ptr().as_ptr().wrapping_add(at), len));
    }
    /// As `segments_to_read`, for a call that writes into these bytes: every page is made private first.
    pub(crate) fn segments_to_write(&self, iovecs: &mut Vec<libc::iovec>) {
        self.make_writable();
        self.segments_to_read(iovecs);
    }
}
