//! Amiga rigid disk blocks as a format.
use super::Partition as Whole;
use super::{Found, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::{
    Extent,
    amiga::{self, END, PARTITIONS_MAX, Partition, Rigid, SCAN},
};

/// The format.
pub struct Amiga;

impl Format for Amiga {
    fn name(&self) -> &'static str {
        "amiga"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &[]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let size = u64::from(disk.block_size.max(1));
    let head = disk.windows().head;
    let mut rigid = None;
    for at in 0..SCAN {
        // Blocks of 512 bytes as a rule, whatever the disk has.
        for unit in [512, size] {
            match head.get((at * unit) as usize..).map(Rigid::parse) {
                Some(Ok(found)) => {
                    disk.own(at * unit..(at + 1) * unit);
                    rigid = rigid.or(Some(found));
                }
                Some(Err(amiga::Error::Signature | amiga::Error::Short(_))) | None => {}
                Some(Err(why)) => {
                    return Ok(Taste::Traces(format!(
                        "an Amiga rigid disk block that cannot be used: {why}"
                    )));
                }
            }
        }
    }
    let Some(rigid) = rigid else { return Ok(Taste::No) };
    let unit = u64::from(rigid.block_size);
    let (mut chain, mut seen, mut next) = (Vec::new(), Vec::new(), rigid.partitions);
    let mut broken = None;
    while next != END && broken.is_none() {
        if seen.contains(&next) || chain.len() == PARTITIONS_MAX {
            broken = Some(format!("the chain of partitions does not end (block {next})"));
            break;
        }
        seen.push(next);
        let from = u64::from(next) * unit;
        let extent = Extent::new(from / size, unit.div_ceil(size).max(1));
        if !extent.fits(disk.blocks) {
            broken = Some(format!(
                "the chain of partitions leads to block {next}, beyond the end of the disk"
            ));
            break;
        }
        let block = disk.read(extent).await?;
        match Partition::parse(block.get((from % size) as usize..).unwrap_or_default()) {
            Ok(one) => {
                next = one.next;
                chain.push(one);
            }
            Err(why) => broken = Some(format!("block {next} should be a partition's and is not: {why}")),
        }
    }
    let (good, bad) = amiga::partitions(chain, disk.bytes() / unit);
    let found = good.into_iter().map(|(number, one)| Found {
        number,
        extent: one.extent().unwrap_or_default(),
        kind: one.type_name(),
        name: one.name,
    });
    let mut taste = older(
        disk,
        "Amiga rigid disk block",
        rigid.block_size,
        found.collect(),
        bad,
        Whole::Amiga,
    );
    if let Taste::Mine(mine) = &mut taste {
        mine.notes.extend(broken);
    }
    Ok(taste)
}
