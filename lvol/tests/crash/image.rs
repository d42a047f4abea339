//! A disk in memory, of which only what is not zero takes room.
use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, path::Path};
use uuid::Uuid;

/// What a disk writes whole, or not at all, whatever its blocks are.
pub const SECTOR: u64 = 512;

/// A disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its identity; follows from the name.
    pub uuid: Uuid,
    /// Length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    sectors: BTreeMap<u64, [u8; SECTOR as usize]>,
}

impl Image {
    /// A blank disk.
    pub fn new(name: &str, blocks: u64, block_size: u32) -> Self {
        Self {
            name: name.to_owned(),
            uuid: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            blocks,
            block_size,
            sectors: BTreeMap::new(),
        }
    }

    /// What is in a file. Holes are not read.
    pub fn load(name: &str, path: &Path, block_size: u32) -> Self {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        let mut image = Self::new(name, size / u64::from(block_size), block_size);
        let (mut chunk, zero) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut at = 0;
        while at < size {
            let len = chunk.len().min((size - at) as usize);
            file.read_exact_at(&mut chunk[..len], at).unwrap();
            if chunk[..len] != zero[..len] {
                image.write(at, &chunk[..len]);
            }
            at += len as u64;
        }
        image
    }

    /// Makes it a file, sparse.
    pub fn save(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.bytes()).unwrap();
        for (sector, bytes) in &self.sectors {
            file.write_all_at(bytes, sector * SECTOR).unwrap();
        }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// `len` bytes at `offset`; both are multiples of 512.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        assert!(
            offset + len <= self.bytes(),
            "{offset} + {len} is off the end of {}",
            self.name
        );
        let mut bytes = vec![0; len as usize];
        let first = offset / SECTOR;
        for (sector, with) in self.sectors.range(first..first + len.div_ceil(SECTOR)) {
            let at = ((sector - first) * SECTOR) as usize;
            bytes[at..at + SECTOR as usize].copy_from_slice(with);
        }
        bytes
    }

    /// Writes whole sectors.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(
            offset + bytes.len() as u64 <= self.bytes(),
            "{offset} is off the end of {}",
            self.name
        );
        assert!(offset.is_multiple_of(SECTOR));
        for (chunk, sector) in bytes.chunks_exact(SECTOR as usize).zip(offset / SECTOR..) {
            if chunk.iter().all(|&byte| byte == 0) {
                self.sectors.remove(&sector);
            } else {
                self.sectors.insert(sector, chunk.try_into().unwrap());
            }
        }
    }

    /// The same disk, longer or shorter.
    pub fn resize(&mut self, blocks: u64) {
        self.blocks = blocks;
        let end = self.bytes() / SECTOR;
        self.sectors.retain(|sector, _| *sector < end);
    }

    /// Sectors in which the two differ.
    pub fn differing(&self, other: &Self) -> Vec<u64> {
        let all = self.sectors.keys().chain(other.sectors.keys());
        let mut differing: Vec<u64> = all
            .filter(|sector| self.sectors.get(sector) != other.sectors.get(sector))
            .copied()
            .collect();
        differing.sort_unstable();
        differing.dedup();
        differing
    }
}
