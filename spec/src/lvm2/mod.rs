//! LVM2's metadata on disk: a label, the header of the physical volume, metadata areas, and in them a text that describes the whole group.
//!
//! ```text
//!   0     512      1 KiB … 4 KiB                           pe_start
//!   ├──┬───────┬──────┬─────────────────────────────────────┬──────────────────────┬────────────────┐
//!   │  │ label │      │ metadata area: header, ring buffer  │ extents 0, 1, 2, …   │ perhaps a      │
//!   │  │ + PV  │      │ ┌──────┬────────┬───────┬─────────┐ │                      │ second area    │
//!   │  │ header│      │ │header│ …newest│ older │ newest… │ │                      │ at the end     │
//!   └──┴───────┴──────┴─┴──────┴────────┴───────┴─────────┴─┴──────────────────────┴────────────────┘
//!        says where       says where in the ring the committed text is, which may go on at the ring's start
//! ```
//!
//! There is no standard; the sources are LVM2's `lib/label/label.c`, `lib/format_text/layout.h`, `format-text.c`, `import_vsn1.c` and
//! `device_mapper/libdm-config.c`, and what `pvck --dump` prints. `docs/formats/lvm2.md` is our account of them. Numbers are little-endian;
//! addresses in headers are bytes, those in the text are sectors of 512 bytes or extents, whatever the block size of the disk.
pub mod label;
pub mod mda;
pub mod text;
pub mod vg;

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Bytes of a sector, the unit of the text.
pub const SECTOR: u64 = 512;
/// Where LVM2's checksums start (`INITIAL_CRC`).
pub const CRC_SEED: u32 = 0xf597_a6cf;

/// A run of bytes on the disk (`disk_locn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// First byte, from the start of the disk.
    pub offset: u64,
    /// Length in bytes. For a data area 0 means "to the end".
    pub size: u64,
}

impl Area {
    /// One past the last byte, or nothing if that does not fit in 64 bits.
    pub const fn end(self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

/// LVM2's checksum of `bytes`, going on from `seed`: CRC-32 without the usual inversion at both ends, which no library has by name.
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32IsoHdlc, seed.into());
    digest.update(bytes);
    // The 32-bit result comes widened, and inverted.
    !(digest.finalize() as u32)
}

/// Identity of a physical volume, a group or a logical volume: 32 letters and digits, written in groups of 6-4-4-4-4-4-6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 32]);

/// What was to be an identity is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity has 32 letters and digits")]
pub struct NoId;

impl Id {
    /// The 32 characters as they are in a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoId> {
        let id: [u8; 32] = bytes.try_into().map_err(|_| NoId)?;
        let known = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'!' | b'#');
        id.iter().all(known).then_some(Self(id)).ok_or(NoId)
    }

    /// An identity made of 32 random bytes; fewer give fewer different characters.
    pub fn from_seed(bytes: impl IntoIterator<Item = u8>) -> Self {
        const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut id = [b'0'; 32];
        for (place, byte) in id.iter_mut().zip(bytes) {
            *place = LETTERS[usize::from(byte) % LETTERS.len()];
        }
        Self(id)
    }

    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        // ASCII: checked when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Id {
    type Err = NoId;
    fn from_str(text: &str) -> Result<Self, NoId> {
        let bytes: Vec<u8> = text.bytes().filter(|b| *b != b'-').take(33).collect();
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_str();
        let mut at = 0;
        for len in [6, 4, 4, 4, 4, 4, 6] {
            if at > 0 {
                f.write_str("-")?;
            }
            f.write_str(text.get(at..at + len).unwrap_or_default())?;
            at += len;
        }
        Ok(())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_in_groups_and_read_with_or_without_them() {
        let text = "abcdef-0123-4567-89AB-CDEF-GHIJ-KLMNOP";
        let id: Id = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_eq!("abc".parse::<Id>(), Err(NoId));
        assert_eq!(Id::from_bytes(&[b' '; 32]), Err(NoId));
    }

    #[test]
    fn the_checksum_is_crc_32_with_another_seed_and_no_last_word() {
        // With the usual seed and inversion it is the usual CRC-32.
        assert_eq!(!crc(!0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc(crc(CRC_SEED, b"1234"), b"56789"), crc(CRC_SEED, b"123456789"));
    }
}
