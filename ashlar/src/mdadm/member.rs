//! A member of an array as it lies on its disk: where it is, and what its superblock says.
use super::{Outcome, examine::Examined, examine0};
use crate::{ask, cli as house, plan};
use serde_json::{Value, json};
use spec::md::{
    SECTOR, bad_blocks,
    bitmap::{self, Header},
    superblock::{Superblock as Either, Version},
    v0,
    v1::{Features, LEN_MAX, Minor, Superblock},
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A member with metadata of either version.
pub enum Member {
    /// 0.90.
    V0(v0::Superblock),
    /// 1.0, 1.1 or 1.2.
    V1(Box<Examined>),
}

impl Member {
    /// Its version and its superblock.
    pub fn superblock(self) -> (Version, Either) {
        match self {
            Member::V0(superblock) => (Version::V0, Either::V0(superblock)),
            Member::V1(examined) => (Version::V1(examined.minor), Either::V1(Box::new(examined.superblock))),
        }
    }
}

/// The file or device that a name stands for: itself, or what a disk of the target lies on.
fn file_of(ask: &house::Ask, name: &str) -> Outcome<PathBuf> {
    if name.contains('/') && Path::new(name).exists() {
        return Ok(name.into());
    }
    let mut client = ask::connect(ask)?;
    let told: Value = client
        .call("ashlar_get_disks", json!({ "name": name }))
        .map_err(plan::plain)?;
    match told[0]["node"]["table"]["path"].as_str() {
        Some(path) => Ok(path.into()),
        None => {
            Err(format!("{name:?} is no file or device of this machine, and only those can be read from here").into())
        }
    }
}

/// Prints what a member says of itself.
pub fn examine(ask: &house::Ask, name: &str) -> Outcome {
    let text = match read(&file_of(ask, name)?, name)? {
        Member::V0(superblock) => examine0::text(&superblock, examine0::device),
        Member::V1(examined) => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            examined.text(Some(host.trim()))
        }
    };
    ask::print_text(&format!("{name}:\n{text}"));
    Ok(())
}

/// Prints what a member does not have, as its bad-block log tells it: sectors of the device.
pub fn examine_bad_blocks(ask: &house::Ask, name: &str) -> Outcome {
    let text = match read(&file_of(ask, name)?, name)? {
        Member::V0(_) => return Err(format!("{name}: 0.90 metadata does not support badblocks").into()),
        Member::V1(examined) => examined.bad_blocks(name)?,
    };
    ask::print_text(&text);
    Ok(())
}

/// Reads a member's metadata where they are.
pub fn read(path: &Path, name: &str) -> Outcome<Member> {
    let failed = |why: io::Error| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(failed)?;
    let sectors = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)? / SECTOR;
    let bytes = |sector: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, sector * SECTOR).map(|()| bytes)
    };
    let places = [Minor::V1, Minor::V2, Minor::V0];
    let found = places.into_iter().find_map(|minor| {
        let at = minor.sector(sectors)?;
        let superblock = Superblock::parse(&bytes(at, LEN_MAX).ok()?).ok()?;
        (superblock.super_offset == at).then_some((minor, superblock))
    });
    let Some((minor, superblock)) = found else {
        let at = v0::sector(sectors);
        let old = at.and_then(|at| v0::Superblock::parse(&bytes(at, v0::LEN).ok()?).ok());
        return match old {
            Some(superblock) => Ok(Member::V0(superblock)),
            None => Err(format!("No md superblock detected on {name}.").into()),
        };
    };
    let bitmap = superblock
        .bitmap_offset()
        .and_then(|offset| superblock.relative(offset.into()))
        .and_then(|at| Header::parse(&bytes(at, bitmap::HEADER).ok()?).ok());
    let log = superblock.bad_blocks;
    let bad_blocks = superblock
        .relative(log.offset.into())
        .filter(|_| log.size > 0 && superblock.features.has(Features::BAD_BLOCKS))
        .map(|at| {
            let bytes = bytes(at, usize::from(log.size) * 512).map_err(|why| why.to_string())?;
            bad_blocks::parse(&bytes, log.shift).map_err(|why| why.to_string())
        });
    Ok(Member::V1(Box::new(Examined {
        minor,
        superblock,
        bitmap,
        bad_blocks,
        sectors,
    })))
}
