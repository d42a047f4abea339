//! Linux MD as a format: what a member contributes, and ([`assembly`]) what all of them add up to.
//!
//! The superblock is looked for in the four places where it can be, and believed where it says that it belongs there. With 1.0 and 0.90 it is at the end, and the
//! start of the disk is the start of what is *in* the array: whatever is found there is the array's. The bytes are in [`spec::md`], our account of them in
//! docs/formats/md.md.
use crate::{
    format::{Format, Mine, Taste, Tasting},
    group::{Assembly, Enrolled, Given, Member},
    probe::{Probe, ReadError},
};
use spec::{
    Extent, Spans,
    md::{
        SECTOR, bad_blocks,
        bitmap::{self, Header},
        redo::{self, Anchor},
        superblock::{Error, Superblock, Version},
        v0,
        v1::{self, Minor},
    },
};
use std::{ops::Range, sync::Arc};

pub mod assembly;
pub mod edit;

/// Bytes of a bitmap that are read at once.
const CHUNK: u64 = 256 << 10;
/// Bits of a bitmap that are read at all: what it takes in memory is bounded.
const BITS_MAX: u64 = 1 << 24;

/// The format.
pub struct Md;

impl Format for Md {
    fn name(&self) -> &'static str {
        "md"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["linux_raid_member"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
    fn assemble(&self, members: &[Enrolled<'_>], given: Given<'_>) -> Assembly {
        assembly::assemble(members, given)
    }
    fn takes_volumes(&self) -> bool {
        true
    }
    fn volumes_are_disks(&self) -> bool {
        true
    }
    fn is_beneath(&self) -> bool {
        true
    }
}

/// A member as its own disk shows it. Numbers are sectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Where the superblock is.
    pub version: Version,
    /// The same, as a sector.
    pub at: u64,
    /// The superblock.
    pub superblock: Superblock,
    /// The bitmap, if there is one that can be used.
    pub bitmap: Option<Bitmap>,
    /// What it does not have, from where its data begin.
    pub bad: Spans,
    /// A redo log of ours goes with its superblock: what was being written while a member was missing is in it.
    pub redo: bool,
}

/// A write-intent bitmap as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Bitmap {
    /// Its header.
    pub header: Header,
    /// What is set, as runs in the space that is compared: first sector and how many.
    pub set: Vec<(u64, u64)>,
}

impl Device {
    /// Sectors that there are for data.
    pub fn room(&self) -> u64 {
        match &self.superblock {
            // Up to the superblock.
            Superblock::V0(_) => self.at,
            Superblock::V1(superblock) => superblock.data_size,
        }
    }
}

/// Where superblocks of a disk of so many sectors may be.
fn places(sectors: u64) -> impl Iterator<Item = (Version, u64)> {
    let v1 = [Minor::V1, Minor::V2, Minor::V0].map(|minor| Some((Version::V1(minor), minor.sector(sectors)?)));
    let v0 = v0::sector(sectors).map(|at| (Version::V0, at));
    v1.into_iter().flatten().chain(v0)
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    let sectors = disk.bytes() / SECTOR;
    let mut traces = None;
    for (version, at) in places(sectors) {
        let Some(bytes) = sectors_of(disk, at, 8).await? else {
            continue;
        };
        let here = match version {
            Version::V0 => v0::Superblock::is_here(&bytes).is_some(),
            Version::V1(_) => v1::Superblock::is_here(&bytes),
        };
        if !here {
            continue;
        }
        let superblock = match Superblock::parse(&bytes) {
            Ok(superblock) => superblock,
            // The other version's magic number is the same.
            Err(Error::V0(v0::Error::Version { .. }) | Error::V1(v1::Error::Version(_))) => continue,
            Err(why) => {
                traces = Some(why.to_string());
                continue;
            }
        };
        match (&superblock, version) {
            (Superblock::V1(own), Version::V1(_)) if own.super_offset == at => (),
            (Superblock::V1(_), Version::V1(_)) => {
                traces = Some(format!(
                    "an MD superblock at sector {at} that belongs elsewhere: the disk was cut or grown"
                ));
                continue;
            }
            (Superblock::V0(own), Version::V0) => {
                // One at the end of the last partition is at the end of the disk as well. It is the disk's if the array takes all of it.
                let used = u64::from(own.size_kib()) * 2;
                let slack = u64::from(own.chunk_size()) / SECTOR + 128;
                if used + slack < at && has_table(disk) {
                    continue;
                }
            }
            _ => continue,
        }
        return Ok(match member(disk, version, at, superblock).await? {
            Ok(mine) => Taste::Mine(mine),
            Err(why) => Taste::Traces(why),
        });
    }
    Ok(traces.map_or(Taste::No, Taste::Traces))
}

/// True if the disk begins with something like a partition table.
fn has_table(disk: &Probe<'_>) -> bool {
    let head = disk.windows().head;
    head.get(510..512) == Some(&[0x55, 0xaa])
}

async fn sectors_of(disk: &Probe<'_>, at: u64, count: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let per = u64::from(disk.block_size) / SECTOR;
    let (first, last) = (at / per, (at + count).div_ceil(per));
    if last > disk.blocks {
        return Ok(None);
    }
    let bytes = disk.read(Extent::new(first, last - first)).await?;
    let from = ((at - first * per) * SECTOR) as usize;
    Ok(bytes.get(from..from + (count * SECTOR) as usize).map(<[u8]>::to_vec))
}

/// Says in words what is wrong with one that cannot be used.
async fn member(
    disk: &Probe<'_>,
    version: Version,
    at: u64,
    superblock: Superblock,
) -> Result<Result<Mine, String>, ReadError> {
    let mut notes = Vec::new();
    let bitmap = match read_bitmap(disk, at, &superblock).await? {
        Some(Ok(bitmap)) => Some(bitmap),
        Some(Err(why)) => {
            notes.push(format!("its write-intent bitmap cannot be used: {why}"));
            None
        }
        None => None,
    };
    let bad = match &superblock {
        Superblock::V1(own) => match read_bad_blocks(disk, at, own).await? {
            Ok(bad) => bad,
            // Nobody knows what of its data is what it should be.
            Err(why) => return Ok(Err(why)),
        },
        Superblock::V0(_) => Spans::default(),
    };
    if !bad.is_empty() {
        notes.push(format!("it lacks {} sectors of its data (bad-block log)", bad.count()))
    }
    let data = superblock.data_offset();
    let bitmap_sectors = bitmap.as_ref().map_or(0, |bitmap| bitmap.header.len().div_ceil(SECTOR));
    let redo = match redo::room(&superblock, bitmap_sectors) {
        Some(room) => sectors_of(disk, room.start, 1)
            .await?
            .and_then(|bytes| Anchor::parse(&bytes))
            .is_some_and(|anchor| anchor.goes_with(&superblock)),
        None => false,
    };
    let device = Device {
        version,
        at,
        superblock,
        bitmap,
        bad,
        redo,
    };
    let end = data.saturating_add(device.room());
    let sectors = disk.bytes() / SECTOR;
    if end > sectors {
        notes.push(format!("its data end at sector {end}, but it has {sectors}"))
    }
    Ok(Ok(Mine {
        what: format!("member of the MD array {}", assembly::title(&device.superblock)),
        // What lies there is in the array.
        covers: Vec::from([Range {
            start: data * SECTOR,
            end: end.min(sectors) * SECTOR,
        }]),
        member: Some(Member::Md(Arc::new(device))),
        notes,
        ..Mine::default()
    }))
}

async fn read_bitmap(
    disk: &Probe<'_>,
    at: u64,
    superblock: &Superblock,
) -> Result<Option<Result<Bitmap, String>>, ReadError> {
    let Some(start) = superblock
        .bitmap_offset()
        .and_then(|offset| at.checked_add_signed(offset.into()))
    else {
        return Ok(None);
    };
    let Some(bytes) = sectors_of(disk, start, 1).await? else {
        return Ok(Some(Err("it would lie beyond the end".into())));
    };
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        Err(why) => return Ok(Some(Err(why.to_string()))),
    };
    if header.array != superblock.array() && matches!(superblock, Superblock::V1(_)) {
        return Ok(Some(Err("it is of another array".into())));
    }
    if header.nodes > 0 {
        return Ok(Some(Err("it is of a cluster".into())));
    }
    if header.state & Header::STALE != 0 {
        return Ok(Some(Err("it was not kept up to date".into())));
    }
    let (bits, unit) = (header.bits(), u64::from(header.chunk) / SECTOR);
    if bits > BITS_MAX {
        return Ok(Some(Err(format!("its {bits} bits are more than {BITS_MAX}"))));
    }
    let mut set: Vec<(u64, u64)> = Vec::new();
    let (mut from, len) = (0, header.len());
    while from < len {
        let count = (len - from).min(CHUNK);
        let Some(bytes) = sectors_of(disk, start + from / SECTOR, count.div_ceil(SECTOR)).await? else {
            return Ok(Some(Err("it reaches beyond the end".into())));
        };
        // The first begins with the header.
        let skip = if from == 0 { bitmap::HEADER } else { 0 };
        let first = (from + skip as u64 - bitmap::HEADER as u64) * 8;
        let here = bytes.get(skip..).unwrap_or_default();
        for bit in bitmap::dirty(here, bits.saturating_sub(first)) {
            let (sector, run) = ((first + bit) * unit, unit);
            match set.last_mut() {
                Some((start, count)) if *start + *count == sector => *count += run,
                _ => set.push((sector, run)),
            }
        }
        from += CHUNK
    }
    Ok(Some(Ok(Bitmap { header, set })))
}

async fn read_bad_blocks(disk: &Probe<'_>, at: u64, own: &v1::Superblock) -> Result<Result<Spans, String>, ReadError> {
    let log = own.bad_blocks;
    let place = at.checked_add_signed(log.offset.into());
    let (Some(place), true) = (place, log.size > 0 && own.features.has(v1::Features::BAD_BLOCKS)) else {
        return Ok(Ok(Spans::default()));
    };
    let Some(bytes) = sectors_of(disk, place, u64::from(log.size).min(8)).await? else {
        return Ok(Err("its bad-block log would lie beyond the end".into()));
    };
    let parsed = bad_blocks::parse(&bytes, log.shift).map_err(|why| why.to_string());
    let (data, end) = (own.data_offset, own.data_offset.saturating_add(own.data_size));
    let inside = |bad: Range<u64>| bad.start.clamp(data, end) - data..bad.end.clamp(data, end) - data;
    Ok(parsed.map(|all| all.into_iter().map(inside).collect()))
}
