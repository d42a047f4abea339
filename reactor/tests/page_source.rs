//! Page memory from somebody else's allocator (DESIGN D12). A process of its own: all chunks of a process come from one place.
use reactor::{Buf, CHUNK, PAGE, Page, arena, counters, release_free_pages};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

#[derive(Default)]
struct Outside {
    lent: Mutex<Vec<usize>>,
    returned: AtomicUsize,
}
fn layout() -> Layout {
    Layout::from_size_align(CHUNK, CHUNK).unwrap()
}
struct Share(Arc<Outside>);
// SAFETY: the allocator gives initialised memory of the size and alignment asked for; it is nobody else's until it comes back.
unsafe impl arena::PageSource for Share {
    fn take_chunk(&self) -> Option<NonNull<u8>> {
        let mut lent = self.0.lent.lock().unwrap();
        if lent.len() == 4 {
            return None;
        }
        // SAFETY: the layout is not empty.
        let chunk = NonNull::new(unsafe { alloc_zeroed(layout()) })?;
        lent.push(chunk.addr().get());
        Some(chunk)
    }
    fn give_chunk(&self, chunk: NonNull<u8>) {
        let mut lent = self.0.lent.lock().unwrap();
        let at = lent
            .iter()
            .position(|addr| *addr == chunk.addr().get())
            .expect("one of ours");
        lent.swap_remove(at);
        self.0.returned.fetch_add(1, SeqCst);
        // SAFETY: made by `take_chunk`.
        unsafe { dealloc(chunk.as_ptr(), layout()) }
    }
}

#[test]
fn pages_come_from_an_outside_allocator_and_go_back_there() {
    let outside = Arc::new(Outside::default());
    arena::configure(arena::Config {
        max_bytes: 3 * CHUNK,
        ..arena::Config::default()
    });
    arena::use_source(Box::new(Share(outside.clone()))).unwrap_or_else(|_| panic!("too late"));

    let first = Buf::from_slice(&[7; 3 * PAGE]);
    let inside = |page: &Page| {
        let at = page.bytes().as_ptr() as usize;
        outside
            .lent
            .lock()
            .unwrap()
            .iter()
            .any(|chunk| (*chunk + PAGE..*chunk + CHUNK).contains(&at))
    };
    assert!((0..3).all(|i| inside(&first.page(i))));

    // The bound holds for who asks politely, down to the last page.
    let mut all = Vec::new();
    while let Some(page) = Page::try_alloc() {
        assert!(inside(&page));
        all.push(page);
    }
    assert_eq!(all.len() + 3, 3 * 511);
    assert_eq!(arena::stats().chunks, 3);
    assert!(Buf::try_alloc(1).is_none());
    // Who cannot wait gets more, as long as there is any.
    assert!(!arena::is_overdrawn());
    all.push(Page::alloc());
    assert!(arena::is_overdrawn());
    assert_eq!((arena::stats().chunks, arena::stats().bytes), (4, 4 * CHUNK));

    assert_eq!(arena::trim(), 0, "all are in use");
    drop(all);
    release_free_pages();
    assert_eq!(arena::trim(), 3, "all but the one under `first`");
    assert!(!arena::is_overdrawn());
    assert_eq!(first.to_vec(), [7; 3 * PAGE]);
    drop(first);
    release_free_pages();
    assert_eq!(counters::pages_in_use(), 0);
    assert_eq!(arena::trim(), 1);
    assert_eq!(
        (outside.lent.lock().unwrap().len(), outside.returned.load(SeqCst)),
        (0, 4)
    );
    assert!(arena::use_source(Box::new(Share(outside))).is_ok(), "empty again");
}
