//! Which blocks a node reaches, and that it reaches none of them twice.
//!
//! A stripe that has a disk as two of its members, or a disk and a part of it, gives one block two addresses: what is written at one of them appears at the
//! other, and whatever keeps its data there loses it. So the wish is refused. The lowest disks are what is compared, because two members may be windows of one
//! disk, which is fine as long as they do not overlap.
use bdev::{Table, table::Piece};
use spec::Extent;

/// Runs that are looked at, at most: a wish of more pieces than this is taken as it is.
const RUNS_MAX: usize = 1 << 16;
/// Nodes on each other that are followed.
const DEPTH_MAX: usize = 64;

/// What is known of a node: what it is made of, and its length in blocks.
pub type Look<'a> = dyn Fn(&str) -> Option<(Table, u64)> + 'a;

/// A run of a lowest disk, and which of the table's own parts reaches it.
struct Run {
    disk: String,
    extent: Extent,
    part: usize,
}

/// Makes sure that a table reaches no block twice; else says which, and by which of its parts.
pub fn distinct(table: &Table, look: &Look<'_>) -> Result<(), String> {
    let length = |name: &str| look(name).map_or(0, |(_, blocks)| blocks);
    let parts: Vec<(String, Extent)> = match table {
        Table::Linear { segments } => {
            let each = segments
                .iter()
                .map(|one| (one.on.clone(), Extent::new(one.start, one.blocks)));
            each.collect()
        }
        Table::Mapped { pieces, .. } => {
            let runs = pieces.iter().flat_map(Piece::runs);
            runs.map(|run| (run.on.clone(), Extent::new(run.start, run.blocks)))
                .collect()
        }
        Table::Raid {
            on, replacements, used, ..
        } => {
            let seats = on.iter().flatten().chain(replacements.iter().map(|(_, seat)| seat));
            seats
                .map(|seat| (seat.on.clone(), Extent::new(seat.start, *used)))
                .collect()
        }
        Table::Stripe { on, chunk } => {
            let chunk = u64::from((*chunk).max(1));
            let each = on.iter().map(|name| length(name)).min().unwrap_or_default() / chunk * chunk;
            on.iter().map(|name| (name.clone(), Extent::new(0, each))).collect()
        }
        // One part, or nobody knows which blocks of each.
        _ => return Ok(()),
    };
    let mut runs = Vec::new();
    for (part, (name, extent)) in parts.iter().enumerate() {
        reach(name, *extent, part, look, DEPTH_MAX, &mut runs);
        if runs.len() > RUNS_MAX {
            return Ok(());
        }
    }
    runs.sort_by(|a, b| (&a.disk, a.extent.start).cmp(&(&b.disk, b.extent.start)));
    for pair in runs.windows(2) {
        let [low, high] = pair else { continue };
        if low.disk == high.disk && low.extent.overlaps(high.extent) {
            let (one, two) = (&parts[low.part.min(high.part)].0, &parts[low.part.max(high.part)].0);
            let both = match one == two {
                true => format!("{one:?} twice"),
                false => format!("{one:?} and {two:?}"),
            };
            return Err(format!(
                "it would reach block {} of {:?} in two ways, by {both}, and what is written at one address would appear at the other \
                 (rule reached-twice); give it parts that do not overlap",
                high.extent.start, low.disk
            ));
        }
    }
    Ok(())
}

/// The runs of lowest disks that `extent` of a node is made of.
fn reach(name: &str, extent: Extent, part: usize, look: &Look<'_>, depth: usize, runs: &mut Vec<Run>) {
    if extent.count == 0 || runs.len() > RUNS_MAX {
        return;
    }
    let known = look(name).filter(|_| depth > 0);
    let mut below: Vec<(String, Extent)> = Vec::new();
    match known.as_ref().map(|(table, _)| table) {
        Some(Table::Linear { segments }) => {
            let pieces = segments.iter().map(|one| (one.on.as_str(), one.start, one.blocks));
            below = joined(extent, pieces);
        }
        Some(Table::Mapped { pieces, .. }) => {
            let mut at = 0u64;
            for piece in pieces {
                let blocks = piece.blocks();
                let inside = cut(extent, at, blocks);
                at = at.saturating_add(blocks);
                let Some(inside) = inside else { continue };
                match piece {
                    Piece::Linear(run) => below.push((
                        run.on.clone(),
                        Extent::new(run.start.saturating_add(inside.start), inside.count),
                    )),
                    Piece::Stripe { on, chunk } => {
                        let members = on.iter().map(|run| (run.on.as_str(), run.start));
                        below.extend(striped(inside, &members.collect::<Vec<_>>(), (*chunk).into()));
                    }
                    Piece::Gap { .. } => {}
                }
            }
        }
        Some(Table::Stripe { on, chunk }) => {
            let members: Vec<(&str, u64)> = on.iter().map(|name| (name.as_str(), 0)).collect();
            below = striped(extent, &members, (*chunk).into());
        }
        Some(
            Table::Delay { on, .. }
            | Table::Error { on, .. }
            | Table::Stats { on }
            | Table::Crypt { on, .. }
            | Table::Passthru { on },
        ) => below.push((on.clone(), extent)),
        // A device, or one that nobody here can look into, or an array: each of its blocks is on several disks and none of them alone is it.
        Some(
            Table::Memory { .. } | Table::Null { .. } | Table::File { .. } | Table::Raid { .. } | Table::Custom { .. },
        )
        | None => {
            runs.push(Run {
                disk: name.to_owned(),
                extent,
                part,
            });
            return;
        }
    }
    for (name, extent) in below {
        reach(&name, extent, part, look, depth - 1, runs);
    }
}

/// The part of `extent` that lies in `blocks` from `at` on, counted from there.
fn cut(extent: Extent, at: u64, blocks: u64) -> Option<Extent> {
    let start = extent.start.max(at);
    let end = extent.start.saturating_add(extent.count).min(at.saturating_add(blocks));
    (start < end).then(|| Extent::new(start - at, end - start))
}

/// One after the other: of each disk the blocks from a start on.
fn joined<'a>(extent: Extent, segments: impl Iterator<Item = (&'a str, u64, u64)>) -> Vec<(String, Extent)> {
    let mut at = 0u64;
    let mut below = Vec::new();
    for (on, start, blocks) in segments {
        if let Some(inside) = cut(extent, at, blocks) {
            below.push((
                on.to_owned(),
                Extent::new(start.saturating_add(inside.start), inside.count),
            ));
        }
        at = at.saturating_add(blocks);
    }
    below
}

/// In chunks: of each member one run, for the more of the stripe the more of it.
fn striped(extent: Extent, members: &[(&str, u64)], chunk: u64) -> Vec<(String, Extent)> {
    let chunk = chunk.max(1);
    let row = chunk.saturating_mul(members.len().max(1) as u64);
    let end = extent.start.saturating_add(extent.count);
    let each = members.iter().zip(0u64..).map(|((on, start), member)| {
        // How much of it lies before an address.
        let before = |address: u64| {
            let part = (address % row).saturating_sub(member * chunk).min(chunk);
            address / row * chunk + part
        };
        let (from, to) = (before(extent.start), before(end));
        ((*on).to_owned(), Extent::new(start.saturating_add(from), to - from))
    });
    each.filter(|(_, extent)| extent.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev::table::Segment;
    use std::collections::BTreeMap;

    fn segment(on: &str, start: u64, blocks: u64) -> Segment {
        Segment {
            on: on.to_owned(),
            start,
            blocks,
        }
    }

    fn linear(segments: &[(&str, u64, u64)]) -> Table {
        Table::Linear {
            segments: segments
                .iter()
                .map(|(on, start, blocks)| segment(on, *start, *blocks))
                .collect(),
        }
    }

    fn stripe(on: &[&str], chunk: u32) -> Table {
        Table::Stripe {
            on: on.iter().map(|on| (*on).to_owned()).collect(),
            chunk,
        }
    }

    fn memory(blocks: u64) -> (Table, u64) {
        let table = Table::Memory {
            blocks,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        (table, blocks)
    }

    /// Two disks, windows of one, and things that stand on these.
    fn house() -> BTreeMap<&'static str, (Table, u64)> {
        BTreeMap::from([
            ("a", memory(1000)),
            ("b", memory(1000)),
            ("low", (linear(&[("a", 0, 500)]), 500)),
            ("high", (linear(&[("a", 500, 500)]), 500)),
            ("other name", (Table::Passthru { on: "a".into() }, 1000)),
            ("counted", (Table::Stats { on: "low".into() }, 500)),
            ("pair", (stripe(&["a", "b"], 8), 2000)),
            ("first", (linear(&[("pair", 0, 16)]), 16)),
            ("second", (linear(&[("pair", 16, 16)]), 16)),
            ("middle", (linear(&[("pair", 12, 8)]), 8)),
        ])
    }

    fn check(table: &Table) -> Result<(), String> {
        let house = house();
        distinct(table, &|name| house.get(name).cloned())
    }

    #[test]
    fn what_does_not_overlap_may_be_joined() {
        for table in [
            stripe(&["a", "b"], 8),
            stripe(&["low", "high"], 8),
            stripe(&["counted", "high"], 8),
            linear(&[("a", 0, 10), ("a", 10, 10), ("b", 0, 10)]),
            linear(&[("a", 20, 10), ("a", 0, 10)]),
            linear(&[("low", 0, 500), ("high", 0, 500)]),
            stripe(&["first", "second"], 4),
            linear(&[("first", 0, 12), ("middle", 0, 8)]),
            stripe(&["a", "not there yet"], 8),
            Table::Passthru { on: "a".into() },
        ] {
            assert_eq!(check(&table), Ok(()), "{table:?}");
        }
    }

    #[test]
    fn no_block_is_reached_in_two_ways() {
        for (table, by) in [
            (stripe(&["a", "a"], 8), "\"a\" twice"),
            (stripe(&["a", "low"], 8), "\"a\" and \"low\""),
            (stripe(&["a", "other name"], 8), "\"a\" and \"other name\""),
            (stripe(&["counted", "low"], 8), "\"counted\" and \"low\""),
            (stripe(&["low", "b", "counted"], 8), "\"low\" and \"counted\""),
            (stripe(&["a", "pair"], 8), "\"a\" and \"pair\""),
            (linear(&[("a", 0, 11), ("a", 10, 10)]), "\"a\" twice"),
            (
                linear(&[("first", 0, 16), ("middle", 0, 8)]),
                "\"first\" and \"middle\"",
            ),
            (
                linear(&[("high", 0, 10), ("b", 0, 9), ("a", 505, 1)]),
                "\"high\" and \"a\"",
            ),
        ] {
            let why = check(&table).expect_err("it overlaps");
            assert!(why.contains(by) && why.contains("reached-twice"), "{table:?}: {why}");
        }
    }

    #[test]
    fn a_stripes_members_are_found_block_by_block() {
        // Against walking every block.
        let members = [("a", 100u64), ("b", 7), ("c", 0)];
        for chunk in [1u64, 3, 8] {
            for start in 0..40 {
                for count in 1..40 {
                    let runs = striped(Extent::new(start, count), &members, chunk);
                    for (at, (name, base)) in members.iter().enumerate() {
                        let mine: Vec<u64> = (start..start + count)
                            .filter(|block| (block / chunk % 3) as usize == at)
                            .map(|block| base + block / chunk / 3 * chunk + block % chunk)
                            .collect();
                        let run = runs.iter().find(|(on, _)| on == name).map(|(_, extent)| *extent);
                        let wanted = mine.first().map(|first| Extent::new(*first, mine.len() as u64));
                        assert_eq!(run, wanted, "{name}, chunk {chunk}, {start}+{count}");
                    }
                }
            }
        }
    }
}
