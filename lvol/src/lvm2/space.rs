//! Which extents are free, and which of them a volume gets.
//!
//! LVM2's policies, as `lvmcreate(8)` and `lib/metadata/lv_manip.c` have them: `normal` takes what there is; `contiguous` one run, and when a volume
//! grows the one behind its end; `cling` stays on the physical volumes that the volume is on; `anywhere` lets stripes share one. Within a policy the
//! smallest run that is long enough is taken, else the longest ones first, so that volumes have few segments.
use crate::plan::{Code, Refusal};
use spec::lvm2::vg::{Segment, Shape, VolumeGroup, has};
use std::collections::{BTreeMap, BTreeSet};

/// How extents are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anything, stripes on different physical volumes.
    Normal,
    /// One run.
    Contiguous,
    /// On the physical volumes that the volume is on already.
    Cling,
    /// Stripes may share a physical volume.
    Anywhere,
}

impl Policy {
    /// By LVM2's word.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "normal" | "inherit" => Self::Normal,
            "contiguous" => Self::Contiguous,
            "cling" => Self::Cling,
            "anywhere" => Self::Anywhere,
            _ => return None,
        })
    }
}

/// A run of extents of a physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The group's word for the physical volume.
    pub on: String,
    /// First extent.
    pub start: u64,
    /// Extents.
    pub count: u64,
}

/// The free runs of a group, or of a part of it.
#[derive(Clone, Debug)]
pub struct Space {
    /// By physical volume in the text's order, each in order of extents.
    free: Vec<Run>,
}

/// A part of a physical volume that may be used: the word, and perhaps only these extents.
pub type Allowed = (String, Option<(u64, u64)>);

impl Space {
    /// What is free of `vg` on `allowed`, or anywhere if that is empty.
    pub fn of(vg: &VolumeGroup, allowed: &[Allowed]) -> Result<Self, Refusal> {
        let words: BTreeSet<&str> = vg.physical.iter().map(|pv| pv.name.as_str()).collect();
        let mut taken: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for lv in &vg.logical {
            for segment in &lv.segments {
                match &segment.shape {
                    Shape::Striped { stripes, .. } => {
                        let each = segment.count / stripes.len().max(1) as u64;
                        for stripe in stripes {
                            taken
                                .entry(&stripe.on)
                                .or_default()
                                .push((stripe.extent, stripe.extent + each));
                        }
                    }
                    // Which extents of it such a segment has, nobody here can tell: `pvmove` under way.
                    Shape::Other { mentions, .. } => {
                        if let Some(word) = mentions.iter().find(|name| words.contains(name.as_str())) {
                            let why = format!("{:?} has a segment of type {} on {word}", lv.name, segment.kind);
                            return Err(
                                Refusal::new(Code::Unsupported, why).but("let LVM2 finish what it does there first")
                            );
                        }
                    }
                }
            }
        }
        let mut free = Vec::new();
        for pv in vg
            .physical
            .iter()
            .filter(|pv| has(&pv.status, "ALLOCATABLE") && !has(&pv.status, "MISSING"))
        {
            let mut runs = taken.remove(pv.name.as_str()).unwrap_or_default();
            runs.sort_unstable();
            runs.push((pv.pe_count, pv.pe_count));
            let mut at = 0;
            for (start, end) in runs {
                if start > at {
                    free.extend(permitted(&pv.name, at, start, allowed));
                }
                at = at.max(end);
            }
        }
        Ok(Self { free })
    }

    /// Extents that are free.
    pub fn extents(&self) -> u64 {
        self.free.iter().map(|run| run.count).sum()
    }

    /// Takes `count` extents from `start` of `on`, if they are free.
    fn take(&mut self, on: &str, start: u64, count: u64) -> bool {
        let holds = |run: &Run| run.on == on && run.start <= start && start + count <= run.start + run.count;
        let Some(at) = self.free.iter().position(holds) else {
            return false;
        };
        let run = self.free.remove(at);
        let (before, after) = (start - run.start, run.start + run.count - start - count);
        let piece = |start, count| Run {
            on: run.on.clone(),
            start,
            count,
        };
        if after > 0 {
            self.free.insert(at, piece(start + count, after));
        }
        if before > 0 {
            self.free.insert(at, piece(run.start, before));
        }
        true
    }

    /// Up to `count` extents right from `start` of `on` on: how many there are.
    fn behind(&self, on: &str, start: u64) -> u64 {
        let run = self.free.iter().find(|run| run.on == on && run.start == start);
        run.map_or(0, |run| run.count)
    }

    /// The run of `on` that is best for `count` extents: the shortest that is long enough, else the longest.
    fn best(&self, count: u64, may: impl Fn(&Run) -> bool) -> Option<Run> {
        let runs = || self.free.iter().filter(|run| may(run));
        let fits = runs().filter(|run| run.count >= count).min_by_key(|run| run.count);
        // Of equals the first: `max_by_key` would take the last.
        fits.or_else(|| runs().min_by_key(|run| std::cmp::Reverse(run.count)))
            .cloned()
    }

    /// `count` extents for a volume of `stripes` stripes, as rows of runs: each row has one run for each stripe, all of one length. `last` is the
    /// volume's last segment, if it has one; the first row goes on from there where it can.
    pub fn choose(
        &mut self,
        count: u64,
        stripes: usize,
        policy: Policy,
        last: Option<&Segment>,
    ) -> Result<Vec<Vec<Run>>, Refusal> {
        let (mut rows, mut left) = (Vec::new(), count / stripes.max(1) as u64);
        let short = |why: &str| {
            Err(Refusal::new(
                Code::NoSpace,
                format!("{count} extents are wanted, and {why}"),
            ))
        };
        if let Some(Segment {
            shape: Shape::Striped { stripes: on, .. },
            count: had,
            ..
        }) = last
            && on.len() == stripes
        {
            let each = had / stripes as u64;
            let more = on
                .iter()
                .map(|stripe| self.behind(&stripe.on, stripe.extent + each))
                .min()
                .unwrap_or_default()
                .min(left);
            let row: Vec<Run> = on
                .iter()
                .map(|stripe| Run {
                    on: stripe.on.clone(),
                    start: stripe.extent + each,
                    count: more,
                })
                .collect();
            // Two stripes on one physical volume could want the same extents.
            if more > 0 && row.iter().all(|run| self.take(&run.on, run.start, run.count)) {
                left -= more;
                rows.push(row);
            }
        }
        if left > 0 && policy == Policy::Contiguous && last.is_some() {
            return short("they are not free right behind the volume, as its policy `contiguous` wants");
        }
        let home: BTreeSet<String> = match last.map(|segment| &segment.shape) {
            Some(Shape::Striped { stripes, .. }) => stripes.iter().map(|stripe| stripe.on.clone()).collect(),
            _ => BTreeSet::new(),
        };
        while left > 0 {
            let (mut row, mut used, before): (Vec<Run>, BTreeSet<String>, _) =
                (Vec::new(), BTreeSet::new(), self.free.clone());
            for _ in 0..stripes {
                let may = |run: &Run| {
                    let apart = policy == Policy::Anywhere || !used.contains(&run.on);
                    apart && (policy != Policy::Cling || home.is_empty() || home.contains(&run.on))
                };
                let Some(run) = self.best(left, may) else {
                    self.free = before;
                    return short(&match (stripes, policy) {
                        (1, Policy::Cling) => "too few are free on the disks that the volume is on".to_owned(),
                        (1, _) => format!("{} are free", self.extents()),
                        _ => format!(
                            "there are not {stripes} disks with free extents left ({} are free in all)",
                            self.extents()
                        ),
                    });
                };
                let count = run.count.min(left);
                self.take(&run.on, run.start, count);
                used.insert(run.on.clone());
                row.push(Run { count, ..run });
            }
            let each = row.iter().map(|run| run.count).min().unwrap_or_default();
            if policy == Policy::Contiguous && each < left {
                self.free = before;
                return short("no run of that length is free, as the policy `contiguous` wants");
            }
            // All of one length: what is too long is taken only as far.
            self.free = before;
            for run in &mut row {
                run.count = each;
                self.take(&run.on, run.start, each);
            }
            left -= each;
            rows.push(row);
        }
        Ok(rows)
    }
}

fn permitted(on: &str, start: u64, end: u64, allowed: &[Allowed]) -> Vec<Run> {
    let run = |start: u64, end: u64| Run {
        on: on.to_owned(),
        start,
        count: end.saturating_sub(start),
    };
    if allowed.is_empty() {
        return vec![run(start, end)];
    }
    let parts = allowed
        .iter()
        .filter(|(word, _)| word == on)
        .map(|(_, part)| match part {
            None => run(start, end),
            Some((first, last)) => run(start.max(*first), end.min(last.saturating_add(1))),
        });
    let mut parts: Vec<Run> = parts.filter(|run| run.count > 0).collect();
    // A disk that was named twice is there once.
    parts.sort_by_key(|run| run.start);
    let mut next = 0;
    for run in &mut parts {
        let end = run.start + run.count;
        run.start = run.start.max(next);
        run.count = end.saturating_sub(run.start);
        next = next.max(end);
    }
    parts.retain(|run| run.count > 0);
    parts
}
