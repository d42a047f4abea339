//! A set of numbers as the ranges it consists of: in order, apart, none empty.
use std::ops::Range;

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Range<u64>>);

impl Spans {
    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers are in it.
    pub fn count(&self) -> u64 {
        self.iter().map(|span| span.end - span.start).sum()
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// The first of its ranges that ends behind a number.
    fn from(&self, number: u64) -> usize {
        self.0.partition_point(|span| span.end <= number)
    }

    /// Puts a range in.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Those that touch it become one with it.
        let first = self.0.partition_point(|span| span.end < range.start);
        let last = self.0.partition_point(|span| span.start <= range.end);
        let start = self
            .0
            .get(first)
            .map_or(range.start, |span| span.start.min(range.start));
        let end = match last.checked_sub(1).and_then(|last| self.0.get(last)) {
            Some(span) => span.end.max(range.end),
            None => range.end,
        };
        self.0.splice(first..last, std::iter::once(start..end));
    }

    /// Takes a range out, as far as it is in.
    pub fn remove(&mut self, range: &Range<u64>) {
        if !self.meets(range) {
            return;
        }
        let first = self.from(range.start);
        let last = self.0.partition_point(|span| span.start < range.end);
        let (head, tail) = (self.0[first].start..range.start, range.end..self.0[last - 1].end);
        self.0
            .splice(first..last, [head, tail].into_iter().filter(|left| !left.is_empty()));
    }

    /// What it has of a range.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let here = self.0[self.from(range.start)..]
            .iter()
            .take_while(move |span| span.start < range.end);
        here.map(move |span| span.start.max(range.start)..span.end.min(range.end))
    }

    /// True if it has some of a range.
    pub fn meets(&self, range: &Range<u64>) -> bool {
        !range.is_empty()
            && self
                .0
                .get(self.from(range.start))
                .is_some_and(|span| span.start < range.end)
    }

    /// True if it has all of a range.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        let here = || self.0.get(self.from(range.start));
        range.is_empty() || here().is_some_and(|span| span.start <= range.start && span.end >= range.end)
    }
}

impl FromIterator<Range<u64>> for Spans {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut all = Self::default();
        ranges.into_iter().for_each(|range| all.add(range));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_set_it_should_be(steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u64..12), 1..40)) {
            let (mut spans, mut bits) = (Spans::default(), [false; 64]);
            for (put, start, count) in steps {
                let range = start..start + count;
                match put {
                    true => spans.add(range.clone()),
                    false => spans.remove(&range),
                }
                range.clone().for_each(|at| bits[at as usize] = put);
                let known: Vec<u64> = spans.iter().flatten().collect();
                let right: Vec<u64> = (0..64).filter(|at| bits[*at as usize]).collect();
                prop_assert_eq!(known, right);
                prop_assert!(spans.0.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert_eq!(spans.count() as usize, bits.iter().filter(|bit| **bit).count());
                for start in 0..50 {
                    let probe = start..start + count;
                    prop_assert_eq!(spans.meets(&probe), probe.clone().any(|at| bits[at as usize]));
                    prop_assert_eq!(spans.contains(&probe), probe.clone().all(|at| bits[at as usize]));
                }
            }
        }
    }
}
