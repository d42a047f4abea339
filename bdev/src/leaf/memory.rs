//! Memory: a disk of 4 KiB pages.
//!
//! ```text
//!   disk   │ page │ hole │ page │ …       a hole reads as zeros and takes no memory
//!              ▲
//!   buffer   │ page │                     a write of a whole page shares it; whoever changes it first gets a page of his own
//! ```
//!
//! Reads and writes of whole pages move references and copy nothing; smaller ones copy. Unmap and write zeroes make holes. Nothing
//! has to wait, so every I/O is done where it is mapped and needs no frame. What is written is as durable as it will ever be.
use crate::{Allocation, BlockDevice, Geometry, Io, IoError, IoResult, Mapped, Op};
use reactor::{Buf, PAGE, Page};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

/// Pages in a group: 2 MiB of disk.
const GROUP: usize = 512;
type Group = Box<[Option<Page>]>;

/// See the [module](self). Clones are the same disk.
#[derive(Clone)]
pub struct Memory(Rc<State>);

struct State {
    geometry: Cell<Geometry>,
    /// Groups of pages, made when first written.
    groups: RefCell<Vec<Option<Group>>>,
}

impl Memory {
    /// A disk of holes.
    pub fn new(geometry: Geometry) -> Self {
        let disk = Self(Rc::new(State {
            geometry: Cell::new(geometry),
            groups: RefCell::default(),
        }));
        disk.resize(geometry.blocks);
        disk
    }

    /// What a memory disk can do.
    pub fn geometry_of(block_size: u32, physical_block_size: u32, optimal_io: u32, blocks: u64) -> Geometry {
        Geometry {
            physical_block_size,
            optimal_io,
            unmap: true,
            unmap_granularity: (PAGE as u32 / block_size).max(1),
            unmap_reads_zero: true,
            write_zeroes: true,
            // A write happens at once, and what it needs is there before it begins; of a power cut nothing is left to be half of.
            atomic: u32::MAX,
            ..Geometry::plain(block_size, blocks)
        }
    }

    /// Another length. What is cut off is gone; what is added reads as zeros.
    pub fn resize(&self, blocks: u64) {
        let geometry = Geometry {
            blocks,
            ..self.0.geometry.get()
        };
        let (was, bytes) = (self.0.geometry.replace(geometry).bytes(), geometry.bytes());
        if bytes < was {
            self.zero(bytes..was)
        }
        // `Geometry::check` has seen to it that bytes fit 63 bits; a table entry is one word for 2 MiB.
        let groups = bytes.div_ceil((GROUP * PAGE) as u64) as usize;
        self.0.groups.borrow_mut().resize_with(groups, || None)
    }

    /// Length in blocks.
    pub fn blocks(&self) -> u64 {
        self.0.geometry.get().blocks
    }

    /// Bytes of memory in use.
    pub fn resident(&self) -> u64 {
        let groups = self.0.groups.borrow();
        let pages = groups
            .iter()
            .flatten()
            .flat_map(|group| group.iter())
            .filter(|page| page.is_some())
            .count();
        (pages * PAGE) as u64
    }

    fn range(&self, io: &Io) -> Range<u64> {
        let shift = self.0.geometry.get().block_shift();
        let start = io.range.start.0 << shift;
        start..start + (u64::from(io.range.count) << shift)
    }

    fn now(&self, io: &Io) -> IoResult {
        match io.op {
            Op::Read => self.read(self.range(io), &io.data),
            Op::Write => return self.write(self.range(io), &io.data),
            Op::Flush => (),
            Op::Unmap | Op::WriteZeroes { .. } => self.zero(self.range(io)),
            Op::Allocation => return self.allocation(io),
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>, into: &Buf) {
        let groups = self.0.groups.borrow();
        let whole = into.page_aligned();
        for piece in pieces(range) {
            let page = groups[piece.group]
                .as_ref()
                .and_then(|group| group[piece.page].as_ref());
            if whole && piece.is_page() && piece.at.is_multiple_of(PAGE) {
                into.set_page(piece.at / PAGE, page.map_or_else(Page::zero, Page::clone))
            } else if let Some(page) = page {
                into.write_at(piece.at, &page.bytes()[piece.within.clone()])
            } else {
                into.slice(piece.at..piece.at + piece.within.len()).fill(0)
            }
        }
    }

    fn write(&self, range: Range<u64>, from: &Buf) -> IoResult {
        let whole = from.page_aligned();
        let several = range.end - range.start > PAGE as u64;
        if several {
            self.make_room(range.clone(), whole)?
        }
        let mut groups = self.0.groups.borrow_mut();
        for piece in pieces(range) {
            let group = groups[piece.group].get_or_insert_with(|| vec![None; GROUP].into());
            let page = &mut group[piece.page];
            if page.is_none() && !several && reactor::arena::is_overdrawn() {
                return Err(IoError::NoSpace);
            }
            if whole && piece.is_page() && piece.at.is_multiple_of(PAGE) {
                *page = Some(from.page(piece.at / PAGE));
                continue;
            }
            if page.is_none() {
                let mut fresh = Page::try_alloc().ok_or(IoError::NoSpace)?;
                fresh.make_mut().fill(0);
                *page = Some(fresh)
            }
            if let Some(page) = page {
                from.read_at(piece.at, &mut page.make_mut()[piece.within])
            }
        }
        Ok(())
    }

    /// What a write of several pages needs is there before the first is written, or none is (`Geometry::atomic`): a hole that is
    /// filled with zeros is the same to whoever reads it.
    fn make_room(&self, range: Range<u64>, whole: bool) -> IoResult {
        let mut groups = self.0.groups.borrow_mut();
        for piece in pieces(range) {
            let page = &mut groups[piece.group].get_or_insert_with(|| vec![None; GROUP].into())[piece.page];
            if page.is_some() {
                continue;
            }
            if reactor::arena::is_overdrawn() {
                return Err(IoError::NoSpace);
            }
            if !(whole && piece.is_page() && piece.at.is_multiple_of(PAGE)) {
                let mut fresh = Page::try_alloc().ok_or(IoError::NoSpace)?;
                fresh.make_mut().fill(0);
                *page = Some(fresh)
            }
        }
        Ok(())
    }

    /// Looks at no more than so many pages or groups, so that nobody else waits long for it.
    fn allocation(&self, io: &Io) -> IoResult {
        const LOOKS: usize = 4096;
        let groups = self.0.groups.borrow();
        let range = self.range(io);
        let (mut run, mut state) = (range.start, None);
        for _ in 0..LOOKS {
            if run >= range.end {
                break;
            }
            let page = run / PAGE as u64;
            let group = &groups[(page / GROUP as u64) as usize];
            let (allocated, pages) = match group {
                Some(group) => (group[(page % GROUP as u64) as usize].is_some(), 1),
                None => (false, GROUP as u64 - page % GROUP as u64),
            };
            if *state.get_or_insert(allocated) != allocated {
                break;
            }
            run = (page + pages) * PAGE as u64
        }
        let blocks = (run.min(range.end) - range.start) >> self.0.geometry.get().block_shift();
        let allocated = state.unwrap_or(true);
        // A block of several pages is a hole only if all of them are.
        let one = match blocks {
            0 => Allocation {
                allocated: true,
                blocks: 1,
            },
            blocks => Allocation {
                allocated,
                blocks: blocks as u32, // no more than the range has
            },
        };
        one.tell(io)
    }

    fn zero(&self, range: Range<u64>) {
        let mut groups = self.0.groups.borrow_mut();
        let group_bytes = (GROUP * PAGE) as u64;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / group_bytes + 1) * group_bytes);
            let slot = &mut groups[(at / group_bytes) as usize];
            if end - at == group_bytes {
                *slot = None
            } else if let Some(group) = slot {
                for piece in pieces(at..end) {
                    match &mut group[piece.page] {
                        whole if piece.is_page() => *whole = None,
                        Some(page) => page.make_mut()[piece.within].fill(0),
                        None => (),
                    }
                }
            }
            at = end
        }
    }
}

/// The part of a byte range that lies in one page.
struct Piece {
    group: usize,
    page: usize,
    within: Range<usize>,
    /// Its place in the range.
    at: usize,
}

impl Piece {
    fn is_page(&self) -> bool {
        self.within.len() == PAGE
    }
}

#[inline]
fn pieces(range: Range<u64>) -> impl Iterator<Item = Piece> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let page = at / PAGE as u64;
            let end = range.end.min((page + 1) * PAGE as u64);
            let start = (at % PAGE as u64) as usize;
            let piece = Piece {
                group: (page / GROUP as u64) as usize,
                page: (page % GROUP as u64) as usize,
                within: start..start + (end - at) as usize,
                at: (at - range.start) as usize,
            };
            at = end;
            piece
        })
    })
}

impl BlockDevice for Memory {
    fn geometry(&self) -> Geometry {
        self.0.geometry.get()
    }
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        Mapped::Done(self.now(io))
    }
    async fn submit(&self, io: Io) -> IoResult {
        self.now(&io)
    }
}
