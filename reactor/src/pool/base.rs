//! Objects of one kind, and the child pools that hold rights to them.
use super::{
    child::{Reservation, Reserve, Rights},
    ledger::{Ledger, PoolConfig, PoolError, PoolStats},
    view,
};
use crossbeam_queue::ArrayQueue;
use std::{
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
};

/// All objects of one kind. One for each kind, shared by all cores; cloning gives another handle.
pub struct Base<T> {
    ledger: Arc<Ledger>,
    store: Arc<Store<T>>,
}

// One for each kind: its size is of no concern.
#[expect(clippy::large_enum_variant)]
enum Store<T> {
    /// Made once, and used again and again.
    Kept(ArrayQueue<T>),
    /// Made when allocated and dropped when freed: what has an allocator of its own (pages), and mere credits.
    Made(fn() -> T),
}

impl<T> Store<T> {
    fn take(&self) -> T {
        match self {
            Store::Made(make) => make(),
            Store::Kept(queue) => loop {
                // There is one: who comes here holds a right that has no object yet, rights are as many as objects, and an object is put
                // back before its right is. The queue says "empty" only if it was.
                if let Some(object) = queue.pop() {
                    return object;
                }
                std::hint::spin_loop();
            },
        }
    }
    fn put(&self, object: T) {
        if let Store::Kept(queue) = self {
            // There is room: it came from there. Were there none, the object would end here.
            let _ = queue.push(object);
        }
    }
}

impl<T> Clone for Base<T> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            store: self.store.clone(),
        }
    }
}

impl<T: 'static> Base<T> {
    /// A pool of these objects.
    pub fn new(name: &str, objects: impl IntoIterator<Item = T>) -> Base<T>
    where
        T: Send,
    {
        let objects: Vec<T> = objects.into_iter().collect();
        let total = objects.len();
        let queue = ArrayQueue::new(total.max(1));
        for object in objects {
            let _ = queue.push(object); // as long as the queue
        }
        Base::with(name, total, Store::Kept(queue))
    }
    /// A pool of `total` objects that `make` gives when they are allocated.
    pub fn made(name: &str, total: usize, make: fn() -> T) -> Base<T> {
        Base::with(name, total, Store::Made(make))
    }
    fn with(name: &str, total: usize, store: Store<T>) -> Base<T> {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let ledger = Arc::new(Ledger::new(name, view::next_order(), total));
        view::register(&ledger);
        Base {
            ledger,
            store: Arc::new(store),
        }
    }

    /// A child pool of this core with its own thresholds. Fails if the base cannot spare the deadlock threshold.
    pub fn child(&self, name: &str, config: PoolConfig) -> Result<Pool<T>, PoolError> {
        let rights = Rights::open(&self.ledger, name, config)?;
        Ok(Pool(Rc::new(Inner {
            rights,
            store: self.store.clone(),
        })))
    }
    /// Panics if a right was lost or made, or a threshold is broken. For tests.
    pub fn check(&self) {
        self.ledger.check()
    }
    /// A live view.
    pub fn stats(&self) -> PoolStats {
        self.ledger.stats()
    }
}

impl Base<()> {
    /// `total` credits: rights to something that somebody else keeps.
    pub fn credits(name: &str, total: usize) -> Base<()> {
        Base::made(name, total, || ())
    }
    /// Somebody has granted `n` more.
    pub fn grant(&self, n: u32) {
        self.ledger.add(n)
    }
    /// Somebody wants `n` back. Gives the number that nobody had a right to; ask again for the rest.
    pub fn recall(&self, n: u32) -> u32 {
        self.ledger.remove(n)
    }
}

/// A child pool: the share of one core or one stream. Cloning gives another handle.
pub struct Pool<T>(Rc<Inner<T>>);

struct Inner<T> {
    rights: Rights,
    store: Arc<Store<T>>,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool(self.0.clone())
    }
}

impl<T> Pool<T> {
    /// The child's rights, for compound pools and lines.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }
    /// As [`Rights::reserve`].
    pub fn reserve(&self, n: u32) -> Reserve {
        self.0.rights.reserve(n)
    }
    /// As [`Rights::try_reserve`].
    #[inline]
    pub fn try_reserve(&self, n: u32) -> Option<Reservation> {
        self.0.rights.try_reserve(n)
    }
    /// An object for one right out of `from`; none if that is used up or belongs to another pool. The object carries its right along.
    #[inline]
    pub fn allocate(&self, from: &mut Reservation) -> Option<Object<T>> {
        if !from.rights().same(&self.0.rights) {
            return None;
        }
        let right = from.split(1)?;
        Some(Object {
            value: ManuallyDrop::new(self.0.store.take()),
            right: ManuallyDrop::new(right),
            pool: self.clone(),
        })
    }
}

/// An object in use. Dropping it frees the object and unreserves its right.
pub struct Object<T> {
    value: ManuallyDrop<T>,
    right: ManuallyDrop<Reservation>,
    pool: Pool<T>,
}

impl<T> Object<T> {
    /// Frees the object and keeps the right.
    pub fn free(self) -> Reservation {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and each field is taken out once.
        unsafe {
            let pool = std::ptr::read(&this.pool);
            pool.0.store.put(ManuallyDrop::take(&mut this.value));
            ManuallyDrop::take(&mut this.right)
        }
    }
}
impl<T> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: taken out once, in drop. The object goes back before its right: see `Store::take`.
        unsafe {
            self.pool.0.store.put(ManuallyDrop::take(&mut self.value));
            ManuallyDrop::drop(&mut self.right);
        }
    }
}
impl<T> Deref for Object<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
impl<T> DerefMut for Object<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
impl<T: fmt::Debug> fmt::Debug for Object<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
