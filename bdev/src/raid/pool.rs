//! Vectors that are used again: what a write needs for a moment takes no memory once the first few have been made.
use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// Vectors kept at most: as many as writes are under way, within reason.
const KEPT: usize = 256;

/// See the [module](self).
pub(crate) struct Pool<T>(RefCell<Vec<Vec<T>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Pool<T> {
    /// An empty one, which comes back when it is dropped.
    pub fn lend(&self) -> Lent<'_, T> {
        Lent {
            pool: self,
            all: self.take(),
        }
    }

    /// An empty one, which the caller gives [`back`](Self::back).
    pub fn take(&self) -> Vec<T> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub fn back(&self, mut all: Vec<T>) {
        // Outside the borrow: whatever is dropped may look here.
        all.clear();
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(all)
        }
    }
}

/// A vector of a pool.
pub(crate) struct Lent<'a, T> {
    pool: &'a Pool<T>,
    all: Vec<T>,
}

impl<T> Deref for Lent<'_, T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.all
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.all
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.pool.back(std::mem::take(&mut self.all))
    }
}
