//! How long the commands of a target took: a histogram that costs nothing until somebody switches it on.
//!
//! ```text
//!   range 0    128 buckets of 1 ns                0 ..   127
//!   range 1    128 buckets of 1 ns              128 ..   255
//!   range n    128 buckets of 2^(n-1) ns    2^(6+n) .. 2^(7+n)-1
//!   range 57                                   2^63 .. 2^64-1
//! ```
//!
//! The shape is that of SPDK's `spdk_histogram_data` with its granularity of 7, so that what its clients make of the numbers is right.
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// log2 of the buckets in a range.
pub const GRANULARITY: u32 = 7;
/// The last range.
pub const MAX_RANGE: u32 = 64 - GRANULARITY;
/// Buckets of all ranges.
pub const BUCKETS: usize = ((MAX_RANGE + 1) << GRANULARITY) as usize;

/// The bucket of a value.
const fn bucket(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let (range, shift) = match bits.checked_sub(GRANULARITY) {
        Some(range) if range > 0 => (range, range - 1),
        _ => (0, 0),
    };
    ((range as usize) << GRANULARITY) + ((value >> shift) as usize & ((1 << GRANULARITY) - 1))
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Latencies {
    on: AtomicBool,
    /// Made when first switched on, and kept.
    counts: OnceLock<Box<[AtomicU64]>>,
}

impl Latencies {
    /// Commands that begin now are to be counted when they end. One load: this is asked for every command.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// On: counts from zero, if it was off. Off: what was counted is forgotten.
    pub fn switch(&self, on: bool) {
        if on && !self.is_on() {
            let counts = self
                .counts
                .get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
            counts.iter().for_each(|count| count.store(0, Relaxed));
        }
        self.on.store(on, Relaxed)
    }

    /// A command has taken so long.
    #[cold]
    pub fn add(&self, nanoseconds: u64) {
        if let Some(counts) = self.counts.get() {
            counts[bucket(nanoseconds)].fetch_add(1, Relaxed);
        }
    }

    /// All counts, range by range; `None`: it is off.
    pub fn counts(&self) -> Option<Vec<u64>> {
        let counts = self.counts.get().filter(|_| self.is_on())?;
        Some(counts.iter().map(|count| count.load(Relaxed)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_fall_where_the_picture_says() {
        assert_eq!([0, 1, 127].map(bucket), [0, 1, 127]);
        assert_eq!([128, 129, 255].map(bucket), [128, 129, 255]);
        assert_eq!([256, 257, 258, 511].map(bucket), [256, 256, 257, 383]);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(1 << 63), 57 << 7);
    }

    proptest! {
        #[test]
        fn buckets_ascend_without_a_gap_and_know_a_value_to_a_128th(value in any::<u64>()) {
            let next = value.saturating_add(1);
            prop_assert!(bucket(value) <= bucket(next) && bucket(next) <= bucket(value) + 1);
            // At the start of a range the buckets below are half as wide.
            prop_assert!(bucket(value - value / 128) + 2 >= bucket(value));
        }
    }

    #[test]
    fn what_is_off_counts_nothing_and_what_is_on_again_starts_from_zero() {
        let latencies = Latencies::default();
        assert_eq!((latencies.is_on(), latencies.counts()), (false, None));
        latencies.switch(true);
        latencies.add(1000);
        latencies.switch(true);
        let counts = latencies.counts().unwrap();
        assert_eq!(
            (counts.len(), counts[bucket(1000)], counts.iter().sum::<u64>()),
            (7424, 1, 1)
        );
        latencies.switch(false);
        assert_eq!(latencies.counts(), None);
        latencies.switch(true);
        assert_eq!(latencies.counts().map(|counts| counts.iter().sum::<u64>()), Some(0));
    }
}
