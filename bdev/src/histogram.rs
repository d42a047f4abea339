//! Log-linear histogram of latencies: eight equal buckets for each power of two, so a value is known to an eighth.
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// log2 of the buckets for each power of two.
const LINEAR: u32 = 3;
/// Buckets for all 64-bit values.
pub const BUCKETS: usize = ((64 - LINEAR as usize) << LINEAR) + (1 << LINEAR);

/// The bucket a value falls into.
#[inline]
pub const fn bucket(value: u64) -> usize {
    if value < 1 << LINEAR {
        return value as usize;
    }
    let shift = value.ilog2() - LINEAR;
    (((shift + 1) << LINEAR) as u64 + ((value >> shift) & ((1 << LINEAR) - 1))) as usize
}

/// The smallest value that falls into a bucket.
pub const fn lower_bound(bucket: usize) -> u64 {
    let (group, step) = (bucket as u32 >> LINEAR, bucket as u64 & ((1 << LINEAR) - 1));
    match group {
        0 => step,
        _ => ((1 << LINEAR) + step) << (group - 1),
    }
}

/// One core's own.
pub struct Histogram(Box<[Cell<u64>]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![Cell::new(0); BUCKETS].into())
    }
}

impl Histogram {
    /// One more of this value.
    #[inline]
    pub fn add(&self, value: u64) {
        let count = &self.0[bucket(value)];
        count.set(count.get() + 1)
    }
    /// Forgets everything.
    pub fn reset(&self) {
        self.0.iter().for_each(|count| count.set(0))
    }
    /// The counts as they are now.
    pub fn counts(&self) -> Counts {
        let full = |(at, count): (usize, &Cell<u64>)| (count.get() > 0).then(|| (lower_bound(at), count.get()));
        Counts(self.0.iter().enumerate().filter_map(full).collect())
    }
}

/// What a [`Histogram`] held: for each bucket that was used its smallest value and its count, smallest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(pub Vec<(u64, u64)>);

impl Counts {
    /// How many values in all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
    /// The smallest value of the bucket in which the `share` (0 to 1) of all values is reached; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |(value, _)| *value)
    }
    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Counts) {
        let mut all: std::collections::BTreeMap<u64, u64> = self.0.drain(..).collect();
        for (value, count) in &other.0 {
            *all.entry(*value).or_default() += count
        }
        self.0 = all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_is_known_to_an_eighth() {
        for value in (0..5000).chain([u64::MAX, u64::MAX / 3, 1 << 40]) {
            let low = lower_bound(bucket(value));
            assert!(low <= value && value - low <= value / 8, "{value}: {low}");
            assert_eq!(bucket(low), bucket(value));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_sums() {
        let (one, two) = (Histogram::default(), Histogram::default());
        (0..99).for_each(|_| one.add(1000));
        two.add(1 << 20);
        let mut counts = one.counts();
        counts.merge(&two.counts());
        assert_eq!(counts.0, [(lower_bound(bucket(1000)), 99), (1 << 20, 1)]);
        assert_eq!(
            (counts.quantile(0.5), counts.quantile(0.999)),
            (lower_bound(bucket(1000)), 1 << 20)
        );
        one.reset();
        assert_eq!((one.counts().total(), one.counts().quantile(0.5)), (0, 0));
    }
}
