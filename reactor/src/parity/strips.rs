//! Goes over several buffers side by side, in steps in which each of them lies in one page.
use super::kernel::{self, Backend, Finish};
use crate::{Buf, PAGE, page};
use std::mem::MaybeUninit;

/// Sources of one sum. With more members than this the coefficients of a stripe would repeat.
pub(super) const SOURCES_MAX: usize = 255;

/// Runs the loop over `from..` of the sources, given from the highest coefficient down. `None`, or an empty buffer, stands for zeros. `make` says
/// what is done from the addresses of `others`. Gives the first byte at which it was stopped.
///
/// Those of `others` that are written have been [`owned`](Buf::own) by the caller.
pub(super) fn run<'a, F: Finish, const N: usize>(
    backend: Backend,
    from: usize,
    sources: impl Iterator<Item = Option<&'a Buf>> + Clone,
    others: [&Buf; N],
    make: impl Fn([*mut u8; N]) -> F,
) -> Option<usize> {
    let total = others.first().map_or(0, |buf| buf.len());
    let mut at = from;
    let mut slots = [const { MaybeUninit::<*const u8>::uninit() }; SOURCES_MAX];
    while at < total {
        let mut len = total - at;
        let addresses = others.map(|buf| address(buf, at, total, &mut len));
        let mut used = 0;
        for source in sources.clone() {
            assert!(used < SOURCES_MAX, "a stripe of more than {SOURCES_MAX} members");
            slots[used].write(match source.filter(|buf| !buf.is_empty()) {
                Some(buf) => address(buf, at, total, &mut len).cast_const(),
                None => {
                    len = len.min(PAGE);
                    page::ZEROS.as_ptr()
                }
            });
            used += 1
        }
        assert!(used > 0, "a stripe without members");
        // SAFETY: the first `used` have been written above.
        let sources = unsafe { slots[..used].assume_init_ref() };
        // SAFETY: [STRIPS]: each address is followed by `len` bytes of its page, which the buffer keeps; by [ONE-CORE] nobody else touches the list
        // meanwhile, and pages that are written have no other handle ([UNIQUE-WRITE], `Buf::own`). The backend comes from those available.
        if let Some(stop) = unsafe { kernel::run(backend, sources, len, make(addresses)) } {
            return Some(at + stop);
        }
        at += len
    }
    None
}

/// Where the byte `at` of the buffer is; `len` is cut to what follows it in its page.
#[inline]
fn address(buf: &Buf, at: usize, total: usize, len: &mut usize) -> *mut u8 {
    assert_eq!(buf.len(), total, "strips of one stripe are of one length");
    let (page, offset) = buf.place(at);
    *len = (*len).min(PAGE - offset);
    // SAFETY: `offset` is inside the page.
    unsafe { page.ptr().as_ptr().add(offset) }
}
