//! Apple partition maps as a format. The map itself, free and void entries are no disks.
use super::{Found, Partition, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::{
    Extent,
    apple::{self, Descriptor, Entry},
};

/// The format.
pub struct Apple;

impl Format for Apple {
    fn name(&self) -> &'static str {
        "apple"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["mac"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let head = disk.windows().head;
    let Ok(descriptor) = Descriptor::parse(head) else {
        return Ok(Taste::No);
    };
    disk.own(0..512);
    let unit = u64::from(descriptor.block_size);
    // Two sizes are in use on one disk where a CD also boots from blocks of 512 bytes: the entries tell which is right.
    let at = |number: u32, unit: u64| head.get((u64::from(number) * unit) as usize..).unwrap_or_default();
    let unit = if Entry::parse(at(1, unit), 1).is_ok() {
        unit
    } else {
        512
    };
    let first = match Entry::parse(at(1, unit), 1) {
        Ok(first) => first,
        Err(why) => {
            return Ok(Taste::Traces(format!(
                "an Apple partition map that cannot be used: {why}"
            )));
        }
    };
    let bytes = disk.blocks.saturating_mul(disk.block_size.into());
    let (mut entries, mut behind) = (Vec::new(), 0);
    for number in 1..=first.count {
        let from = u64::from(number) * unit;
        let size = u64::from(disk.block_size.max(1));
        let block = disk.read(Extent::new(from / size, unit.div_ceil(size).max(1))).await?;
        let inside = block.get((from % size) as usize..).unwrap_or_default();
        match Entry::parse(inside, number) {
            // The first entry's count is what everybody follows; a power cut may leave the others behind.
            Ok(entry) => {
                behind += u32::from(entry.count != first.count);
                entries.push(entry);
            }
            Err(why) => {
                return Ok(Taste::Traces(format!(
                    "an Apple partition map that cannot be used: {why}"
                )));
            }
        }
    }
    let (good, bad) = apple::partitions(entries, unit as u16, bytes);
    let found = good.into_iter().map(|(number, entry)| Found {
        number,
        extent: Extent::new(entry.start.into(), entry.blocks.into()),
        kind: entry.kind,
        name: entry.name,
    });
    let taste = older(
        disk,
        "Apple partition map",
        unit as u32,
        found.collect(),
        bad,
        Partition::Apple,
    );
    Ok(match taste {
        Taste::Mine(mut mine) if behind > 0 => {
            mine.notes
                .push(format!("{behind} entries of the map say another count than the first"));
            Taste::Mine(mine)
        }
        taste => taste,
    })
}
