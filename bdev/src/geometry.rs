//! What a disk can do and likes, and how those who stand on several disks combine it.

/// What a disk can do and likes. Sizes of blocks are in bytes, everything else in blocks of `block_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Geometry {
    /// Bytes in a logical block: the unit of every address. A power of two from 512 to 65,536.
    pub block_size: u32,
    /// Bytes the medium writes without a read-modify-write of its own. A multiple of `block_size`.
    pub physical_block_size: u32,
    /// Length in logical blocks.
    pub blocks: u64,
    /// The size and alignment of I/O it likes best, in logical blocks; 0 when it does not care.
    pub optimal_io: u32,
    /// Unmap gives space back.
    pub unmap: bool,
    /// Unmap works in units of this many blocks (0 and 1: any).
    pub unmap_granularity: u32,
    /// Unmapped blocks read as zeros.
    pub unmap_reads_zero: bool,
    /// Write zeroes costs less than writing zeros.
    pub write_zeroes: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// Seeks cost time.
    pub rotational: bool,
    /// An acknowledged write may be lost with the power unless flushed or written with FUA.
    pub volatile_cache: bool,
    /// A write of at most so many blocks is done whole or not at all, whatever happens to the power, the process or the device; 0: nothing
    /// is promised.
    #[serde(default)]
    pub atomic: u32,
}

/// The longest disk we accept, in bytes: 2^63, so that every byte offset is a valid `i64` for the kernel.
const MAX_BYTES: u64 = 1 << 63;

impl Geometry {
    /// A plain disk: no preferences, can be written, has no cache, knows neither unmap nor write zeroes.
    pub const fn plain(block_size: u32, blocks: u64) -> Self {
        Self {
            block_size,
            physical_block_size: block_size,
            blocks,
            optimal_io: 0,
            unmap: false,
            unmap_granularity: 0,
            unmap_reads_zero: false,
            write_zeroes: false,
            read_only: false,
            rotational: false,
            volatile_cache: false,
            atomic: 0,
        }
    }

    /// Length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size as u64)
    }

    /// log2 of the block size.
    pub const fn block_shift(&self) -> u32 {
        self.block_size.trailing_zeros()
    }

    /// Says what is impossible about it, in words for the person who wrote the table.
    pub fn check(&self) -> Result<(), String> {
        if !self.block_size.is_power_of_two() || !(512..=65536).contains(&self.block_size) {
            return Err(format!(
                "block size {} is not a power of two from 512 to 65536",
                self.block_size
            ));
        }
        if self.physical_block_size < self.block_size
            || !self.physical_block_size.is_power_of_two()
            || self.physical_block_size > 1 << 24
        {
            return Err(format!(
                "physical block size {} is not a power of two from {} to 16777216",
                self.physical_block_size, self.block_size
            ));
        }
        match self.blocks.checked_mul(self.block_size.into()) {
            Some(bytes) if bytes < MAX_BYTES => Ok(()),
            _ => Err(format!(
                "{} blocks of {} bytes are more than 2^63 bytes",
                self.blocks, self.block_size
            )),
        }
    }

    /// What several disks have in common, for a module that spreads I/O over all of them: equal block sizes are required,
    /// it can do what all can, and is as restricted and as careless as the worst of them. `blocks` is the sum.
    pub fn combine<'a>(all: impl IntoIterator<Item = &'a Geometry>) -> Result<Geometry, String> {
        let mut all = all.into_iter();
        let mut sum = *all.next().ok_or("at least one disk is needed below")?;
        for one in all {
            if one.block_size != sum.block_size {
                return Err(format!(
                    "block sizes differ: {} and {} bytes; they must be equal",
                    sum.block_size, one.block_size
                ));
            }
            sum = Geometry {
                block_size: sum.block_size,
                physical_block_size: sum.physical_block_size.max(one.physical_block_size),
                blocks: sum
                    .blocks
                    .checked_add(one.blocks)
                    .ok_or("the sum of the lengths overflows")?,
                optimal_io: sum.optimal_io.max(one.optimal_io),
                unmap: sum.unmap && one.unmap,
                unmap_granularity: sum.unmap_granularity.max(one.unmap_granularity),
                unmap_reads_zero: sum.unmap_reads_zero && one.unmap_reads_zero,
                write_zeroes: sum.write_zeroes && one.write_zeroes,
                read_only: sum.read_only || one.read_only,
                rotational: sum.rotational || one.rotational,
                volatile_cache: sum.volatile_cache || one.volatile_cache,
                // One of them may do its part and the other fail.
                atomic: 0,
            };
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_they_can_do_what_each_can() {
        let able = Geometry {
            atomic: 64,
            unmap: true,
            write_zeroes: true,
            optimal_io: 8,
            ..Geometry::plain(512, 100)
        };
        let old = Geometry {
            read_only: true,
            volatile_cache: true,
            physical_block_size: 4096,
            ..Geometry::plain(512, 7)
        };
        let both = Geometry::combine([&able, &old]).unwrap();
        assert_eq!(
            both,
            Geometry {
                read_only: true,
                volatile_cache: true,
                physical_block_size: 4096,
                optimal_io: 8,
                ..Geometry::plain(512, 107)
            }
        );
        assert!(
            Geometry::combine([&able, &Geometry::plain(4096, 1)])
                .unwrap_err()
                .contains("512 and 4096")
        );
    }

    #[test]
    fn impossible_disks_are_refused_in_words() {
        assert!(Geometry::plain(520, 1).check().unwrap_err().contains("520"));
        assert!(
            Geometry::plain(512, u64::MAX / 512)
                .check()
                .unwrap_err()
                .contains("2^63")
        );
        assert_eq!(Geometry::plain(4096, 1 << 40).check(), Ok(()));
    }
}
