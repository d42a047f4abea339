//! The toy partition table: bytes only, no disk. It is text in the first 512 bytes, padded with zeros:
//!
//! ```text
//! TOY PARTITIONS 1
//! 2048 8192 boot
//! 10240 65536 data
//! ```
//!
//! One line for each partition: first sector, sectors, name. Sectors are of 512 bytes. Partitions are numbered from 1, in the order of the lines.
use ashlar::spec::Extent;
use std::str;

/// What it begins with.
const MAGIC: &str = "TOY PARTITIONS 1\n";
/// Its length, and that of a sector, in bytes.
pub const SECTOR: usize = 512;
/// Sectors that belong to the table; partitions begin behind them.
pub const FIRST: u64 = 2048;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, in sectors.
    pub extent: Extent,
    /// What it is called.
    pub name: String,
}

/// Reads a table from the first bytes of a disk. Nothing if there is none; else its entries, or why they cannot be had. Any bytes will do.
pub fn parse(head: &[u8]) -> Option<Result<Vec<Entry>, String>> {
    let sector = head.get(..SECTOR)?;
    let lines = sector.strip_prefix(MAGIC.as_bytes())?;
    let end = lines.iter().position(|&byte| byte == 0).unwrap_or(lines.len());
    let text = match str::from_utf8(&lines[..end]) {
        Ok(text) => text,
        Err(_) => return Some(Err("it is not text".into())),
    };
    Some(text.lines().map(|line| entry(line).ok_or_else(|| format!("{line:?} is not `first sectors name`"))).collect())
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let (start, count, name) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    let entry = Entry {
        extent: Extent::new(start, count),
        name: name.to_owned(),
    };
    (words.next().is_none() && !name.is_empty()).then_some(entry)
}

/// The table as it goes to the disk. Nothing if it does not fit into a sector.
pub fn write(entries: &[Entry]) -> Option<Vec<u8>> {
    let lines = entries.iter().map(|one| format!("{} {} {}\n", one.extent.start, one.extent.count, one.name));
    let mut bytes = (MAGIC.to_owned() + &lines.collect::<String>()).into_bytes();
    (bytes.len() <= SECTOR).then(|| {
        bytes.resize(SECTOR, 0);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Entry> {
        let entry = |start, count, name: &str| Entry {
            extent: Extent::new(start, count),
            name: name.to_owned(),
        };
        vec![entry(2048, 8192, "boot"), entry(10_240, 65_536, "data")]
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&two()).unwrap();
        assert_eq!(parse(&bytes), Some(Ok(two())));
        assert!(bytes.starts_with(b"TOY PARTITIONS 1\n2048 8192 boot\n10240 65536 data\n\0"));
    }

    #[test]
    fn what_is_none_is_none_and_what_is_damaged_is_told() {
        assert_eq!(parse(&[0; SECTOR]), None);
        assert_eq!(parse(b"TOY PARTITIONS 1\n"), None, "shorter than a sector");
        for (at, with) in [(17, b'x'), (21, b'-'), (18, 0xff), (26, b'\n')] {
            let mut bytes = write(&two()).unwrap();
            bytes[at] = with;
            assert!(matches!(parse(&bytes), Some(Err(_))), "byte {at}: {:?}", parse(&bytes));
        }
        let many = two().into_iter().cycle().take(40).collect::<Vec<_>>();
        assert_eq!(write(&many), None);
    }
}
