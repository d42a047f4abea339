//! Sun labels as a format. The entry that covers the whole disk is no disk of its own.
use super::{Found, Partition, older};
use crate::{
    format::{Format, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::sun::{self, Label};

/// The format.
pub struct Sun;

impl Format for Sun {
    fn name(&self) -> &'static str {
        "sun"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["sun"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let label = match Label::parse(disk.windows().head) {
        Ok(label) => label,
        Err(sun::Error::Signature | sun::Error::Short(_)) => return Ok(Taste::No),
        Err(why) => return Ok(Taste::Traces(format!("a Sun label that cannot be used: {why}"))),
    };
    disk.own(0..512);
    let (good, bad) = label.partitions(disk.bytes() / 512);
    let found = good.into_iter().map(|(number, (entry, extent))| Found {
        number,
        extent,
        kind: sun::type_name(entry.tag).map_or_else(|| format!("tag {}", entry.tag), str::to_owned),
        name: String::new(),
    });
    Ok(older(disk, "Sun label", 512, found.collect(), bad, Partition::Sun))
}
