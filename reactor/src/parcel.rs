//! Bytes on their way to another core.
//!
//! Data that the other core reads: `export` here, `into_buf` there; the pages are shared. Data that the other core writes (a read of a
//! disk that lives there): `take_pages` here, fill `as_buf` there, send the parcel back, `put_pages` here; the pages move and nothing is
//! copied.
use crate::{
    buf::Buf,
    list::List,
    page::{self, PAGE, Page},
};
use std::fmt;

/// Bytes that may be sent to another core.
pub struct Parcel(Buf);

// SAFETY: [ONE-CORE] (list.rs): the inner buffer is the only handle of its list, and cannot be cloned through a parcel. Pages are Send.
unsafe impl Send for Parcel {}

impl Parcel {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The bytes as a buffer of this core.
    pub fn into_buf(self) -> Buf {
        self.0
    }
    /// The bytes of `buf`: the list itself if this is its only handle, else as [`Buf::export`].
    pub fn from_buf(buf: Buf) -> Parcel {
        match buf.list {
            Some(list) if !list.is_sole() => buf.export(),
            _ => Parcel(buf),
        }
    }
}
impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({} bytes)", self.len())
    }
}

impl Buf {
    /// These bytes for another core. Pages are shared; either side gets a private copy when it writes.
    pub fn export(&self) -> Parcel {
        Parcel(self.fork())
    }

    /// Moves the pages out, for another core to write. The content here is unspecified until [`Buf::put_pages`]; bytes beside this buffer
    /// in its first and last page stay.
    pub fn take_pages(&self) -> Parcel {
        let Some(mine) = self.list.filter(|_| !self.is_empty()) else {
            return Parcel(Buf::empty());
        };
        let (at, pages) = (self.offset as usize, self.page_range());
        let (start, end) = (at % PAGE, at + self.len());
        let list = List::fill(pages.len() as u32, (start + self.len()) as u32, |i| {
            let i = pages.start + i;
            Some(match mine.covers(i, at, end) {
                true => mine.swap(i, page::zero_page()),
                false => Page::alloc().into_raw(),
            })
        });
        Parcel(Buf {
            list,
            offset: start as u32,
            len: self.len,
        })
    }

    /// Installs the bytes of `parcel`, as [`Buf::adopt`] does. Panics if the lengths differ.
    pub fn put_pages(&self, parcel: Parcel) {
        self.adopt(&parcel.0)
    }
}
