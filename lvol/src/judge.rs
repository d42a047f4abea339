//! One disk, many opinions: formats taste it, signatures speak for owners we do not know how to serve, and out comes one verdict with a reason.
//!
//! 1. Nothing at either end: the disk is *new*.
//! 2. A format calls it its own and no signature outside of what it proposes objects: *claimed*.
//! 3. A RAID member whose metadata lies at its end shows the start of what is *in* the array, so a partition table at the start of a disk with MD
//!    1.0 or 0.90 at its end belongs to the array: *unclaimed*, it is a member. Of a member whose metadata is at the start, an LVM2 physical volume for one,
//!    the first blocks are nobody's: a table there was there before, or has come since. *Unclaimed* as well; only its administrator knows.
//! 4. Any other signature beside a partition table: *ambiguous*. Whoever knows which one is stale wipes it (`wipefs`).
//! 5. Only signatures, or only the remains of a partition table: *unclaimed*, with what was found.
//!
//! A signature that lies inside a proposed partition is the partition's and not the disk's (MD 0.90 at the end of a last partition that
//! reaches the end of the disk).
//!
//! What cannot be read could be anything, so a disk with bad sectors where metadata may be is *unreadable*, unless its owner says that they are in what it
//! keeps for others: the data of a RAID member, a partition. Who has to be asked first and could not read where its metadata would be has no say in
//! that, and nobody after it: a partition table in front of them would be the array's.
use crate::{
    format::{Mine, Proposal, Taste},
    group::Member,
    plugin::Registry,
    probe::{Probe, ReadError},
};
use bdev::Table;
use serde::{Deserialize, Serialize};
use spec::{
    Extent,
    magic::{self, Found, Use},
};
use std::ops::Range;

/// What discovery made of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not looked at: it is served or built upon as it is, by explicit wish.
    #[default]
    Unexamined,
    /// Blank at both ends.
    New,
    /// A format owns it.
    Claimed,
    /// Nobody here owns it; the reason says what it seems to be.
    Unclaimed,
    /// More than one owner could be right.
    Ambiguous,
    /// It could not be read.
    Unreadable,
    /// It is wished for and not there.
    Missing,
    /// A volume that metadata describes and that cannot, or shall not, be made a disk.
    Inactive,
}

/// The verdict on a disk and everything it rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// In one word.
    pub verdict: Verdict,
    /// In one sentence.
    pub reason: String,
    /// The format that owns it, if claimed.
    pub format: Option<&'static str>,
    /// Nodes to make of it, if claimed.
    pub nodes: Vec<Proposal>,
    /// What it contributes to a group, if its format spans disks; what the verdict is then depends on the other members too.
    pub member: Option<Member>,
    /// Every signature found on the disk itself, in plain words.
    pub signatures: Vec<String>,
    /// Their kinds, as `spec::magic` has them.
    pub kinds: Vec<&'static str>,
    /// What else an administrator should know.
    pub notes: Vec<String>,
}

/// Looks at a disk and decides. Reads only.
pub async fn judge(registry: &Registry, disk: Probe<'_>) -> Findings {
    let mut lost: Vec<ReadError> = disk.lost().to_vec();
    let mut owner: Option<(&'static str, Mine)> = None;
    let mut traces: Vec<(&'static str, String)> = Vec::new();
    let mut own: Vec<&'static str> = Vec::new();
    let mut damage: Vec<String> = Vec::new();
    for format in registry.formats() {
        match format.taste(&disk).await {
            Ok(Taste::No) => {}
            // Its signature goes on speaking for it: what seems to be on the disk may be in an array that nobody can put together at the moment.
            Ok(Taste::Traces(why)) if format.is_beneath() => damage.push(why),
            Ok(Taste::Traces(why)) => {
                traces.push((format.name(), why));
                own.extend(format.signatures());
            }
            Ok(Taste::Mine(mine)) => {
                owner = Some((format.name(), mine));
                own.extend(format.signatures());
                break;
            }
            Err(why) if format.is_beneath() => return unreadable(&why),
            Err(why) => lost.push(why),
        }
    }
    let covers = owner.as_ref().map_or(&[][..], |(_, mine)| &mine.covers);
    let covered = |at: u64| covers.iter().any(|range| range.contains(&at));
    let windows = disk.windows();
    let nodes = owner.as_ref().map_or(&[][..], |(_, mine)| &mine.nodes);
    if let Some(why) = lost
        .iter()
        .find(|why| !is_of_others(&disk, covers, nodes, why.extent()))
    {
        return unreadable(why);
    }
    let signatures: Vec<Found> = magic::find(&windows)
        .into_iter()
        .filter(|s| !own.contains(&s.kind) && !inside(&disk, nodes, s.at))
        .filter(|s| !covered(s.at))
        .collect();
    let blank = windows.blank();
    let mut findings = decide(owner, traces, signatures, disk.bytes(), blank);
    findings.notes.extend(damage);
    findings.notes.extend(lost.iter().map(ToString::to_string));
    findings
}

fn unreadable(why: &ReadError) -> Findings {
    Findings {
        verdict: Verdict::Unreadable,
        reason: why.to_string(),
        ..Findings::default()
    }
}

/// True if byte `at` of the disk lies in one of the windows that are proposed.
fn inside(disk: &Probe<'_>, nodes: &[Proposal], at: u64) -> bool {
    within(disk, nodes, Extent::new(at / u64::from(disk.block_size.max(1)), 1))
}

/// True if these blocks lie in one of the windows that are proposed.
fn within(disk: &Probe<'_>, nodes: &[Proposal], extent: Extent) -> bool {
    nodes.iter().any(|node| match &node.table {
        Table::Linear { segments } => segments
            .iter()
            .any(|s| s.on == disk.name && extent.inside(Extent::new(s.start, s.blocks))),
        _ => false,
    })
}

/// True if these blocks are not the owner's, but of what it keeps for others.
fn is_of_others(disk: &Probe<'_>, covers: &[Range<u64>], nodes: &[Proposal], extent: Extent) -> bool {
    let size = u64::from(disk.block_size);
    let bytes = extent.start.saturating_mul(size)..extent.end().unwrap_or(u64::MAX).saturating_mul(size);
    let covered = |range: &Range<u64>| range.start <= bytes.start && bytes.end <= range.end;
    covers.iter().any(covered) || within(disk, nodes, extent)
}

fn decide(
    owner: Option<(&'static str, Mine)>,
    traces: Vec<(&'static str, String)>,
    signatures: Vec<Found>,
    bytes: u64,
    blank: bool,
) -> Findings {
    let words: Vec<String> = signatures.iter().map(Found::to_string).collect();
    let listed = words.join(" and ");
    let mut findings = Findings {
        signatures: words,
        kinds: signatures.iter().map(|found| found.kind).collect(),
        ..Findings::default()
    };
    // A boot sector of a file system carries the MBR's mark; its traces say nothing the signature does not say better.
    let traces: Vec<String> = traces
        .into_iter()
        .filter(|(format, _)| signatures.is_empty() || *format != "mbr")
        .map(|(_, why)| why)
        .collect();
    match owner {
        Some((format, mine)) if signatures.is_empty() => {
            findings.verdict = Verdict::Claimed;
            findings.reason = mine.what;
            findings.format = Some(format);
            findings.nodes = mine.nodes;
            findings.member = mine.member;
            findings.notes = mine.notes;
            findings.notes.extend(traces);
        }
        Some((_, mine)) => {
            let member = signatures.iter().find(|s| s.usage == Use::Member);
            findings.notes = mine.notes;
            match member {
                Some(member) => {
                    findings.verdict = Verdict::Unclaimed;
                    let what = &mine.what;
                    findings.reason = match member.at > bytes / 2 {
                        true => format!("is {member}; the {what} on it belongs to the array"),
                        false => format!(
                            "is {member}, and has {} {what} in front of it, which is none of its; wipe the stale one",
                            article(what)
                        ),
                    };
                }
                None => {
                    findings.verdict = Verdict::Ambiguous;
                    findings.reason = format!(
                        "holds both {} {} and {listed}; wipe the stale one",
                        article(&mine.what),
                        mine.what
                    );
                }
            }
        }
        None if !signatures.is_empty() => {
            // Two signatures of different owners: nobody can tell which is stale. Not so an encrypted or RAID member's own pair.
            let clash = signatures.len() > 1 || !traces.is_empty();
            findings.verdict = if clash { Verdict::Ambiguous } else { Verdict::Unclaimed };
            findings.reason = format!("holds {listed}");
            findings.notes = traces.into_iter().map(|trace| format!("it also has {trace}")).collect();
        }
        None if !traces.is_empty() => {
            findings.verdict = Verdict::Unclaimed;
            findings.reason = format!("has {}", traces.join(" and "));
        }
        None if blank => {
            findings.verdict = Verdict::New;
            findings.reason = "is blank".into();
        }
        None => {
            findings.verdict = Verdict::Unclaimed;
            findings.reason = "holds data of no format known here".into();
        }
    }
    findings
}

/// "a GPT", "an MBR": by how the abbreviation is spoken.
fn article(what: &str) -> &'static str {
    let vowel = ["MBR", "Apple", "SGI", "Amiga", "Atari", "LVM2"];
    if vowel.iter().any(|word| what.starts_with(word)) {
        "an"
    } else {
        "a"
    }
}
