//! `Buf`: a handle to some bytes of a list of pages (FEATURES S18, DESIGN D8).
//!
//! ```text
//!   Buf ──┐ offset, len          Buf::clone, Buf::slice: another handle to the same list, the same bytes
//!         ▼
//!   list ─┬─ page ◄──── list     Buf::fork, Buf::adopt: another list that refers to the same pages; whoever writes first,
//!         ├─ page ◄──┘           on either side, gets a page of its own ([UNIQUE-WRITE] in page.rs)
//!         └─ page
//! ```
//!
//! Clone and slice are free. Bytes move by reference wherever whole pages do, and what the CPU copies is counted (`counters`). Lists and
//! pages come from free lists of the core: nothing is allocated when warm.
//!
//! A range outside of the buffer is a mistake in our own code and panics, as for a slice; what comes from outside is checked before it
//! becomes a range ([`Buf::get`] does that).
use crate::{
    counters::copied,
    list::List,
    page::{self, PAGE, Page, RawPage},
};
use std::{fmt, ops::Range};

/// Some bytes of a per-core list of pages. Cloning and slicing give more handles to the same bytes; [`Buf::fork`] gives an independent copy.
#[derive(Default)]
pub struct Buf {
    pub(crate) list: Option<List>,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// A part of a range that lies in one page.
struct Piece {
    list: List,
    /// Index of the page in the list.
    page: usize,
    /// First byte in the page.
    at: usize,
    len: usize,
}

impl Piece {
    fn read<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        page::with_bytes(self.list.get(self.page), self.at, self.len, f)
    }
    fn write(&self, f: impl FnOnce(*mut u8)) {
        let page = self.list.own(self.page, self.len < PAGE);
        // SAFETY: `at` is inside the page.
        f(unsafe { page.ptr().as_ptr().add(self.at) })
    }
}

impl Buf {
    /// No bytes.
    pub fn empty() -> Buf {
        Buf::default()
    }
    /// `len` bytes with unspecified content (pages are recycled as they are), at the start of a page.
    ///
    /// Ends the process as `Vec` would if the system has no memory left; a `len` beyond 4 GiB panics.
    pub fn alloc(len: usize) -> Buf {
        Buf::make(len, true).unwrap_or_else(|| panic!("a buffer of {len} bytes"))
    }
    /// As [`Buf::alloc`]; none if that would exceed the arena's bound or 4 GiB. For whoever may refuse.
    pub fn try_alloc(len: usize) -> Option<Buf> {
        Buf::make(len, false)
    }
    fn make(len: usize, firm: bool) -> Option<Buf> {
        if len == 0 {
            return Some(Buf::empty());
        }
        let len = u32::try_from(len).ok()?;
        let list = List::alloc(len.div_ceil(PAGE as u32), len, firm)?;
        Some(Buf {
            list: Some(list),
            offset: 0,
            len,
        })
    }
    /// `len` zero bytes, which all share one page of zeros until they are written.
    pub fn zeroed(len: usize) -> Buf {
        Buf::from_raw_pages(len, |_| page::zero_page())
    }
    /// A copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Buf {
        let buf = Buf::alloc(bytes.len());
        buf.write_at(0, bytes);
        buf
    }
    /// The first `len` bytes of the pages that `page` gives for each index in turn.
    pub fn from_pages(len: usize, mut page: impl FnMut(usize) -> Page) -> Buf {
        Buf::from_raw_pages(len, |i| page(i).into_raw())
    }
    fn from_raw_pages(len: usize, mut page: impl FnMut(usize) -> RawPage) -> Buf {
        let Ok(short) = u32::try_from(len) else {
            panic!("a buffer of {len} bytes")
        };
        if len == 0 {
            return Buf::empty();
        }
        let list = List::fill(short.div_ceil(PAGE as u32), short, |i| Some(page(i)));
        Buf {
            list,
            offset: 0,
            len: short,
        }
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// True if there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Another handle to the bytes `range` of this one. Panics if that lies outside.
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> Buf {
        self.get(range.clone())
            .unwrap_or_else(|| panic!("{range:?} of a buffer of {} bytes", self.len))
    }
    /// Another handle to the bytes `range` of this one, or none if that lies outside.
    #[inline]
    pub fn get(&self, range: Range<usize>) -> Option<Buf> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let mut part = self.clone();
        part.offset += range.start as u32; // no overflow: both are within `self`
        part.len = (range.end - range.start) as u32;
        Some(part)
    }

    /// The range `at..at + len` of this buffer, page by page. The list must not change meanwhile, but its slots may.
    #[inline]
    fn pieces(&self, at: usize, len: usize) -> impl Iterator<Item = Piece> + use<> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(fits, "{len} bytes at {at} of a buffer of {}", self.len);
        let list = self.list;
        let mut at = self.offset as usize + at;
        let end = at + len;
        std::iter::from_fn(move || {
            let list = list?;
            let start = at % PAGE;
            let len = (PAGE - start).min(end - at);
            let piece = Piece {
                list,
                page: at / PAGE,
                at: start,
                len,
            };
            at += len;
            (len > 0).then_some(piece)
        })
    }
    /// The whole buffer page by page, with the place of each piece in the buffer.
    fn all(&self) -> impl Iterator<Item = (usize, Piece)> + use<> {
        let mut done = 0;
        self.pieces(0, self.len()).map(move |piece| {
            done += piece.len;
            (done - piece.len, piece)
        })
    }
    /// First byte and one past the last, in the list.
    fn span(&self) -> (usize, usize) {
        (self.offset as usize, self.offset as usize + self.len())
    }
    /// Indices of the pages it touches.
    pub(crate) fn page_range(&self) -> Range<usize> {
        let (at, end) = self.span();
        if self.is_empty() {
            0..0
        } else {
            at / PAGE..end.div_ceil(PAGE)
        }
    }

    // ---- bytes in and out ----

    /// Copies `bytes` to `at`, after giving every touched page that has other handles a private copy. Panics if they do not fit.
    pub fn write_at(&self, at: usize, bytes: &[u8]) {
        let mut done = 0;
        for piece in self.pieces(at, bytes.len()) {
            let from = &bytes[done..done + piece.len];
            // SAFETY: [UNIQUE-WRITE]: `write` has made the list's handle the page's only one. Were `from` in this page, its owner's handle
            // would be a second one, so the two cannot overlap.
            piece.write(|to| unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) });
            done += piece.len;
        }
        copied(bytes.len());
    }
    /// Copies the bytes at `at` into all of `into`. Panics if there are not as many.
    pub fn read_at(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        for piece in self.pieces(at, into.len()) {
            piece.read(|bytes| into[done..done + bytes.len()].copy_from_slice(bytes));
            done += piece.len;
        }
        copied(into.len());
    }
    /// Makes every byte `byte`. Whole pages of zeros are shared ones.
    pub fn fill(&self, byte: u8) {
        let (at, end) = self.span();
        for piece in self.pieces(0, self.len()) {
            if byte == 0 {
                if page::is_zero_page(piece.list.get(piece.page)) {
                    continue;
                }
                if piece.list.covers(piece.page, at, end) {
                    piece.list.set(piece.page, page::zero_page());
                    continue;
                }
            }
            // SAFETY: [UNIQUE-WRITE] by `write`; `len` bytes from there are inside the page.
            piece.write(|to| unsafe { to.write_bytes(byte, piece.len) });
        }
    }
    /// A copy of the bytes, for tests and the control path.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len()];
        self.read_at(0, &mut all);
        all
    }
    /// Shows the bytes to `f` in order, in pieces of at most a page. `f` may write to this buffer: what it has been shown stays as it was.
    pub fn for_each_chunk(&self, mut f: impl FnMut(&[u8])) {
        for (_, piece) in self.all() {
            let page = piece.list.get(piece.page);
            page.retain(); // so that a write by `f` goes to another page
            let page = Page::from_raw(page);
            f(&page.bytes()[piece.at..piece.at + piece.len])
        }
    }
    /// True if both hold the same bytes.
    pub fn eq_bytes(&self, other: &Buf) -> bool {
        if self.len != other.len {
            return false;
        }
        self.all().all(|(at, mine)| {
            let mut from = 0;
            other.pieces(at, mine.len).all(|theirs| {
                let n = theirs.len;
                from += n;
                let same_page = mine.list.get(mine.page) == theirs.list.get(theirs.page);
                (same_page && mine.at + from - n == theirs.at)
                    || mine.read(|a| theirs.read(|b| a[from - n..from] == *b))
            })
        })
    }
    /// True if every byte is zero.
    pub fn is_zero(&self) -> bool {
        self.all()
            .all(|(_, piece)| page::is_zero_page(piece.list.get(piece.page)) || piece.read(page::is_zero))
    }
    /// CRC32C over the bytes, going on from `prev` (0 at the start).
    pub fn crc32c(&self, prev: u32) -> u32 {
        self.all().fold(prev, |crc, (_, piece)| {
            piece.read(|bytes| crate::crc32c_append(crc, bytes))
        })
    }

    // ---- sharing pages ----

    /// An independent copy: shares all pages, and whoever first writes to a shared one, on either side, gets a private page (S18).
    pub fn fork(&self) -> Buf {
        if self.is_empty() {
            return Buf::empty();
        }
        let (at, end) = (self.offset as usize % PAGE, self.offset as usize % PAGE + self.len());
        let pages = self.page_range();
        let list = self.list.and_then(|list| {
            List::fill(pages.len() as u32, end as u32, |i| {
                let page = list.get(pages.start + i);
                page.retain();
                Some(page)
            })
        });
        Buf {
            list,
            offset: at as u32,
            len: self.len,
        }
    }

    /// Makes the bytes of `self` equal those of `src`: whole pages by reference, the rest by copying. All is by reference if both lie alike
    /// in their pages and `self` is not part of something larger. Panics if the lengths differ.
    pub fn adopt(&self, src: &Buf) {
        assert_eq!(self.len, src.len, "adopt takes buffers of one length");
        if self.is_empty() || (self.list == src.list && self.offset == src.offset) {
            return;
        }
        if self.list == src.list {
            return self.adopt(&src.fork()); // they may overlap
        }
        let (at, end) = self.span();
        let alike = self.offset as usize % PAGE == src.offset as usize % PAGE;
        let Some(from) = src.list else { return };
        for (done, piece) in self.all() {
            if alike && piece.list.covers(piece.page, at, end) {
                let page = from.get((src.offset as usize + done) / PAGE);
                if page != piece.list.get(piece.page) {
                    page.retain();
                    piece.list.set(piece.page, page);
                }
            } else {
                self.copy_from(done, piece.len, src);
            }
        }
    }
    /// Copies `len` bytes at `at` from the same place of `src`, another list.
    fn copy_from(&self, at: usize, len: usize, src: &Buf) {
        let mut at = at;
        for from in src.pieces(at, len) {
            let page = from.list.get(from.page);
            page.retain(); // un-sharing ours must not free it, nor can ours be the same page
            let page = Page::from_raw(page);
            self.write_at(at, &page.bytes()[from.at..from.at + from.len]);
            at += from.len;
        }
    }

    /// True if the buffer starts at the start of a page.
    #[inline]
    pub fn page_aligned(&self) -> bool {
        (self.offset as usize).is_multiple_of(PAGE)
    }
    /// The `i`-th page, shared. Panics if the buffer does not start on a page or has no such page. Bytes beyond the buffer's end are unspecified.
    pub fn page(&self, i: usize) -> Page {
        let page = self.list_for(i).get(self.offset as usize / PAGE + i);
        page.retain();
        Page::from_raw(page)
    }
    /// Puts `page` in place of the `i`-th page. Panics as [`Buf::page`], and if the buffer covers only a part of that page while another
    /// handle may see the rest.
    pub fn set_page(&self, i: usize, page: Page) {
        let (list, index) = (self.list_for(i), self.offset as usize / PAGE + i);
        let (at, end) = self.span();
        assert!(
            list.covers(index, at, end),
            "page {i} of a buffer of {} bytes is a partial one",
            self.len
        );
        list.set(index, page.into_raw());
    }
    fn list_for(&self, i: usize) -> List {
        assert!(
            self.page_aligned(),
            "a buffer at {} of its first page",
            self.offset as usize % PAGE
        );
        assert!(i * PAGE < self.len(), "page {i} of a buffer of {} bytes", self.len);
        self.list
            .unwrap_or_else(|| unreachable!("a buffer with bytes has a list"))
    }
    /// Makes every page private without copying what will be overwritten: the content is unspecified afterwards. For a buffer that is about
    /// to be filled whole, from a socket or a disk. Bytes beside the buffer in its first and last page survive.
    pub fn make_writable(&self) {
        self.own(false)
    }
    /// Makes every page private, so that its bytes may be written; those of the buffer survive only if `keep`.
    pub(crate) fn own(&self, keep: bool) {
        let (at, end) = self.span();
        for piece in self.pieces(0, self.len()) {
            piece
                .list
                .own(piece.page, keep || !piece.list.covers(piece.page, at, end));
        }
    }
    /// The page that has the byte `at`, and where in it. Panics if there is no such byte.
    #[inline]
    pub(crate) fn place(&self, at: usize) -> (RawPage, usize) {
        assert!(at < self.len(), "byte {at} of a buffer of {}", self.len);
        let at = self.offset as usize + at;
        let list = self
            .list
            .unwrap_or_else(|| unreachable!("a buffer with bytes has a list"));
        (list.get(at / PAGE), at % PAGE)
    }
    /// The byte `at`. Panics if there is none.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        let (page, at) = self.place(at);
        page::with_bytes(page, at, 1, |byte| byte[0])
    }

    /// Calls `f` with the address and length of each piece, in order, for a system call to read from now or for an operation that holds
    /// the pages (`PinList`).
    pub(crate) fn for_each_raw(&self, mut f: impl FnMut(RawPage, usize, usize)) {
        for piece in self.pieces(0, self.len()) {
            f(piece.list.get(piece.page), piece.at, piece.len)
        }
    }
}

impl Clone for Buf {
    #[inline]
    fn clone(&self) -> Buf {
        if let Some(list) = self.list {
            list.retain()
        }
        Buf {
            list: self.list,
            offset: self.offset,
            len: self.len,
        }
    }
}
impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if let Some(list) = self.list {
            list.release()
        }
    }
}
impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes at {} of a list)", self.len, self.offset)
    }
}
impl From<Page> for Buf {
    fn from(page: Page) -> Buf {
        let mut page = Some(page);
        Buf::from_pages(PAGE, |_| page.take().unwrap_or_else(Page::zero))
    }
}
