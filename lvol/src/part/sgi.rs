//! SGI volume headers as a format. The header itself and the entry that covers the whole disk are no disks.
use super::{Found, Partition, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::sgi::{self, Header};

/// The format.
pub struct Sgi;

impl Format for Sgi {
    fn name(&self) -> &'static str {
        "sgi"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["sgi"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let header = match Header::parse(disk.windows().head) {
        Ok(header) => header,
        Err(sgi::Error::Signature | sgi::Error::Short(_)) => return Ok(Taste::No),
        Err(why) => {
            return Ok(Taste::Traces(format!(
                "an SGI volume header that cannot be used: {why}"
            )));
        }
    };
    disk.own(0..512);
    let (good, bad) = header.partitions(disk.bytes() / 512);
    let found = good.into_iter().map(|(number, (entry, extent))| Found {
        number,
        extent,
        kind: sgi::type_name(entry.kind).map_or_else(|| format!("type {:#x}", entry.kind), str::to_owned),
        name: String::new(),
    });
    Ok(older(
        disk,
        "SGI volume header",
        512,
        found.collect(),
        bad,
        Partition::Sgi,
    ))
}
