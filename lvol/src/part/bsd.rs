//! BSD disk labels as a format: on a disk of its own, and inside of a slice of an MBR.
//!
//! In a slice the addresses are the slice's (FreeBSD) or the whole disk's (OpenBSD and NetBSD, and FreeBSD of old). For FreeBSD partition c tells
//! which; the others always count from the start of the disk.
use super::{Found, Partition, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::bsd::{self, Label};

/// The format.
pub struct Bsd;

impl Format for Bsd {
    fn name(&self) -> &'static str {
        "bsd"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["bsd"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let head = disk.windows().head;
    // Sector 1 of whatever size, or behind the start of a boot block.
    let places = [512, disk.block_size as usize, 64];
    let mut wrong = None;
    let mut label = None;
    for at in places {
        match Label::parse(head.get(at..).unwrap_or_default()) {
            Ok(one) => {
                disk.own(at as u64..(at + bsd::LEN) as u64);
                label = Some(one);
                break;
            }
            Err(bsd::Error::Signature | bsd::Error::Short(_)) => {}
            Err(why) => wrong = Some(why),
        }
    }
    let Some(label) = label else {
        return Ok(match wrong {
            Some(why) => Taste::Traces(format!("a BSD disk label that cannot be used: {why}")),
            None => Taste::No,
        });
    };
    let unit = u64::from(label.sector_size);
    let base = match disk.partition {
        Some(Partition::Mbr { kind: 0xa5, .. }) => label.base().into(),
        Some(Partition::Mbr {
            kind: 0xa6 | 0xa9,
            extent,
            ..
        }) => extent.start.saturating_mul(disk.block_size.into()) / unit,
        _ => 0,
    };
    let (good, bad) = label.partitions(disk.bytes() / unit, base);
    let found = good.into_iter().map(|(number, (entry, extent))| Found {
        number,
        extent,
        kind: bsd::type_name(entry.kind).map_or_else(|| format!("type {}", entry.kind), str::to_owned),
        // Partition 1 is a.
        name: char::from_digit(number + 9, 36).map(String::from).unwrap_or_default(),
    });
    let taste = older(
        disk,
        "BSD disk label",
        label.sector_size,
        found.collect(),
        bad,
        Partition::Bsd,
    );
    Ok(match taste {
        Taste::Mine(mut mine) if !label.sound => {
            mine.notes
                .push("the label's checksum does not come out (parted writes such labels)".into());
            Taste::Mine(mine)
        }
        taste => taste,
    })
}
