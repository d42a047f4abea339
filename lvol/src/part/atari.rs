//! Atari partition tables as a format. Asked late: nothing in them is a signature.
use super::{Found, Partition, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::{
    Extent,
    atari::{self, CHAIN_MAX, Entry, Table},
};

/// The format.
pub struct Atari;

impl Format for Atari {
    fn name(&self) -> &'static str {
        "atari"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &[]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    if disk.block_size != 512 {
        return Ok(Taste::No);
    }
    let sectors = disk.blocks;
    let Ok(table) = Table::parse(disk.windows().head, sectors) else {
        return Ok(Taste::No);
    };
    disk.own(0..512);
    let (mut all, mut broken) = (Vec::new(), None);
    for entry in table.entries.iter().filter(|entry| entry.is_used()) {
        if !entry.is_extended() {
            all.push(*entry);
            continue;
        }
        let begin = u64::from(entry.start);
        let (mut at, mut links) = (begin, 0);
        loop {
            links += 1;
            if at >= sectors || links > CHAIN_MAX {
                broken = Some(format!("a chain of partitions leads to sector {at} and does not end"));
                break;
            }
            let block = disk.block(at).await?;
            let Ok((part, next)) = Table::link(&block) else { break };
            if let Some(part) = part
                && let Ok(start) = u32::try_from(at + u64::from(part.start))
            {
                all.push(Entry { start, ..part });
            }
            match next {
                Some(next) => at = begin + u64::from(next.start),
                None => break,
            }
        }
    }
    let (good, bad) = atari::partitions(all, sectors);
    let found = good.into_iter().map(|(number, entry)| Found {
        number,
        extent: Extent::new(entry.start.into(), entry.count.into()),
        kind: entry.type_name(),
        name: String::new(),
    });
    let mut taste = older(
        disk,
        "Atari partition table",
        512,
        found.collect(),
        bad,
        Partition::Atari,
    );
    if let Taste::Mine(mine) = &mut taste {
        mine.notes.extend(broken);
    }
    Ok(taste)
}
