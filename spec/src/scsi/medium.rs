//! Command descriptor blocks that do more to the medium than read and write it (SBC-4 chapter 5), and two short parameter
//! lists of theirs: LBA status and defect lists.
use super::{
    CdbError, Command, be16, be32, be64,
    cdb::{Check, protected, sixteen, verify},
};
use crate::{BlockRange, Lba};

/// The longest COMPARE AND WRITE: what fits its NUMBER OF LOGICAL BLOCKS.
pub const COMPARE_MAX: u8 = 255;

/// How SANITIZE makes data unreadable, by service action (SBC-4 5.34).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sanitize {
    /// 01h: write a pattern over everything; the parameter list says which.
    Overwrite,
    /// 02h: deallocate everything.
    BlockErase,
    /// 03h: forget the key it is encrypted with.
    CryptographicErase,
    /// 1fh: leave the state in which a failed operation has left the unit.
    ExitFailureMode,
}

pub(super) fn compare_and_write(b: &[u8; 16]) -> Result<Command, CdbError> {
    let mut transfer = protected(b, sixteen(b))?;
    transfer.range.count = b[13].into();
    Ok(Command::CompareAndWrite(transfer))
}

pub(super) fn write_atomic(b: &[u8; 16]) -> Result<Command, CdbError> {
    let mut transfer = protected(b, sixteen(b))?;
    transfer.range.count = be16(b, 12).into();
    Ok(Command::WriteAtomic {
        transfer,
        boundary: be16(b, 10),
    })
}

/// WRITE AND VERIFY has the bits of VERIFY, but compares either nothing or everything.
pub(super) fn write_and_verify(b: &[u8; 16], transfer: super::Transfer) -> Result<Command, CdbError> {
    match verify(b, transfer)? {
        Command::Verify { transfer, check } if check != Check::Repeated => {
            Ok(Command::WriteAndVerify { transfer, check })
        }
        _ => Err(CdbError::Field { byte: 1, bit: 2 }),
    }
}

pub(super) fn pre_fetch(b: &[u8; 16], range: BlockRange) -> Command {
    Command::PreFetch {
        range,
        immediate: b[1] & 0x02 != 0,
    }
}

pub(super) fn get_lba_status(b: &[u8; 16]) -> Result<Command, CdbError> {
    Ok(Command::GetLbaStatus {
        start: Lba(be64(b, 2)),
        room: be32(b, 10),
    })
}

pub(super) fn read_defect_data10(b: &[u8; 16]) -> Result<Command, CdbError> {
    Ok(Command::ReadDefectData {
        ten: true,
        lists: lists(b[2], 2)?,
        room: be16(b, 7).into(),
    })
}

pub(super) fn read_defect_data12(b: &[u8; 16]) -> Result<Command, CdbError> {
    // ADDRESS DESCRIPTOR INDEX (bytes 2 to 5): nothing comes after an empty list.
    Ok(Command::ReadDefectData {
        ten: false,
        lists: lists(b[1], 1)?,
        room: be32(b, 6),
    })
}

/// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT: an empty list has any format there is.
fn lists(bits: u8, byte: u8) -> Result<u8, CdbError> {
    match bits & 7 {
        0..=5 => Ok(bits & 0x1f),
        _ => Err(CdbError::Field { byte, bit: 2 }),
    }
}

pub(super) fn sanitize(b: &[u8; 16], how: Sanitize) -> Result<Command, CdbError> {
    Ok(Command::Sanitize {
        how,
        immediate: b[1] & 0x80 != 0,
        unrestricted_exit: b[1] & 0x20 != 0,
        len: be16(b, 7),
    })
}

/// PROVISIONING STATUS of a run of blocks (SBC-4 table 69).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// Mapped, or nobody knows.
    Mapped = 0,
    /// Deallocated.
    Deallocated = 1,
}

/// GET LBA STATUS parameter data (SBC-4 5.7.2): runs one after the other from `start`.
pub fn lba_status(start: Lba, runs: &[(u32, Provisioning)]) -> Vec<u8> {
    let mut out = vec![0; 8];
    let mut at = start.0;
    for (blocks, status) in runs {
        out.extend_from_slice(&at.to_be_bytes());
        out.extend_from_slice(&blocks.to_be_bytes());
        out.extend_from_slice(&[*status as u8, 0, 0, 0]);
        at = at.saturating_add((*blocks).into());
    }
    // PARAMETER DATA LENGTH counts from byte 4; callers stay far below 2^32.
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// READ DEFECT DATA parameter data (SBC-4 5.20.2, 5.21.2) of a medium without defects: the header, with the lists and the format asked for.
pub fn no_defects(ten: bool, lists: u8) -> Vec<u8> {
    match ten {
        true => vec![0, lists, 0, 0],
        false => vec![0, lists, 0, 0, 0, 0, 0, 0],
    }
}

/// What SANITIZE OVERWRITE writes (SBC-4 5.34.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// How often, 1..=31.
    pub passes: u8,
    /// Every other pass writes the complement; the last one writes the pattern as it is.
    pub invert: bool,
    /// INITIALIZATION PATTERN: repeated from the start of each block, 1..=block size bytes.
    pub pattern: Vec<u8>,
}

/// Reads the parameter list of SANITIZE OVERWRITE. `None` if it is no such list for blocks of this size.
pub fn parse_overwrite(list: &[u8], block_size: u32) -> Option<Overwrite> {
    let (&[flags, _, hi, lo], pattern) = list.split_first_chunk::<4>()?;
    let (passes, len) = (flags & 0x1f, usize::from(u16::from_be_bytes([hi, lo])));
    let fits = (1..=block_size as usize).contains(&len) && pattern.len() == len;
    // TEST (bits 6 and 5) is vendor specific: we have no vendor's meaning for it.
    (fits && passes > 0 && flags & 0x60 == 0).then(|| Overwrite {
        passes,
        invert: flags & 0x80 != 0,
        pattern: pattern.to_vec(),
    })
}

impl Overwrite {
    /// The block that pass `pass` (from 0) writes everywhere.
    pub fn block(&self, pass: u8, block_size: u32) -> Vec<u8> {
        let inverted = self.invert && (self.passes - 1 - pass.min(self.passes - 1)) % 2 == 1;
        let mask = if inverted { 0xff } else { 0 };
        let bytes = self.pattern.iter().cycle().take(block_size as usize);
        bytes.map(|byte| byte ^ mask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::{Cdb, Transfer, cdb::Data};

    fn command(bytes: &[u8]) -> Result<Command, CdbError> {
        Cdb::new(bytes).command()
    }

    #[test]
    fn compare_and_write_counts_in_one_byte_and_sends_twice() {
        let caw = command(&[0x89, 0x18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0]).unwrap();
        let transfer = Transfer {
            range: BlockRange::new(0x1_0000_0002, 3),
            fua: true,
            dpo: true,
        };
        assert_eq!(caw, Command::CompareAndWrite(transfer));
        assert_eq!((caw.transfer(), caw.data(512)), (Some(transfer), Data::Out(3072)));
        let reserved = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0];
        assert_eq!(command(&reserved), Err(CdbError::Field { byte: 12, bit: 0 }));
        let protect = [0x89, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(command(&protect), Err(CdbError::Field { byte: 1, bit: 7 }));
    }

    #[test]
    fn write_and_verify_compares_all_or_nothing() {
        let wv = |b1| command(&[0x2e, b1, 0, 0, 0, 5, 0, 0, 2, 0]);
        for (b1, check) in [(0, Check::Medium), (2, Check::Each)] {
            let Ok(Command::WriteAndVerify { transfer, check: found }) = wv(b1) else {
                panic!("{:?}", wv(b1))
            };
            assert_eq!((transfer.range, found), (BlockRange::new(5, 2), check));
            assert_eq!(wv(b1).unwrap().data(512), Data::Out(1024), "data comes in any case");
        }
        assert_eq!(wv(4), Err(CdbError::Field { byte: 1, bit: 2 }));
        assert_eq!(wv(6), Err(CdbError::Field { byte: 1, bit: 2 }));
        assert_eq!(wv(8), Err(CdbError::Field { byte: 1, bit: 3 }), "there is no FUA here");
    }

    #[test]
    fn an_atomic_write_has_a_boundary_and_sixteen_bits_of_length() {
        let atomic = command(&[0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 4, 1, 0, 0, 0]).unwrap();
        let Command::WriteAtomic { transfer, boundary } = atomic else {
            panic!("{atomic:?}")
        };
        assert_eq!((transfer.range, boundary), (BlockRange::new(8, 256), 4));
        assert_eq!(atomic.data(512), Data::Out(256 * 512));
    }

    #[test]
    fn lba_status_runs_follow_one_another() {
        let data = lba_status(
            Lba(0x10),
            &[(8, Provisioning::Mapped), (0xffff_ffff, Provisioning::Deallocated)],
        );
        assert_eq!(data[..8], [0, 0, 0, 36, 0, 0, 0, 0]);
        assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(
            data[24..40],
            [0, 0, 0, 0, 0, 0, 0, 0x18, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]
        );
        let status = command(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 24, 0, 0]);
        let room = 24;
        assert_eq!(status, Ok(Command::GetLbaStatus { start: Lba(9), room }));
        let report = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 24, 1, 0];
        assert_eq!(command(&report), Err(CdbError::Field { byte: 14, bit: 0 }));
    }

    #[test]
    fn defect_lists_are_empty_in_every_format() {
        let ten = command(&[0x37, 0, 0x18, 0, 0, 0, 0, 0, 32, 0]).unwrap();
        let (lists, room) = (0x18, 32);
        assert_eq!(ten, Command::ReadDefectData { ten: true, lists, room });
        assert_eq!(no_defects(true, lists), [0, 0x18, 0, 0]);
        let twelve = command(&[0xb7, 0x0d, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]).unwrap();
        assert_eq!(
            twelve,
            Command::ReadDefectData {
                ten: false,
                lists: 0x0d,
                room
            }
        );
        assert_eq!(no_defects(false, 0x0d).len(), 8);
        let vendor = command(&[0x37, 0, 0x1e, 0, 0, 0, 0, 0, 32, 0]);
        assert_eq!(vendor, Err(CdbError::Field { byte: 2, bit: 2 }));
    }

    #[test]
    fn sanitize_is_read_to_the_last_reserved_bit() {
        let overwrite = command(&[0x48, 0xa1, 0, 0, 0, 0, 0, 2, 4, 0]).unwrap();
        let wanted = Command::Sanitize {
            how: Sanitize::Overwrite,
            immediate: true,
            unrestricted_exit: true,
            len: 516,
        };
        assert_eq!((overwrite, overwrite.data(512)), (wanted, Data::Out(516)));
        assert_eq!(command(&[0x48, 0x41]), Err(CdbError::Field { byte: 1, bit: 6 }));
        assert_eq!(
            command(&[0x48, 0x02, 0, 0, 0, 0, 0, 0, 8, 0]),
            Err(CdbError::Field { byte: 8, bit: 3 }),
            "a block erase has no parameter list"
        );
        let forget = Command::Sanitize {
            how: Sanitize::CryptographicErase,
            immediate: false,
            unrestricted_exit: false,
            len: 0,
        };
        assert_eq!(command(&[0x48, 0x03]), Ok(forget));
        assert!(command(&[0x48, 0x1f]).is_ok());
    }

    #[test]
    fn the_pattern_fills_the_block_and_the_last_pass_leaves_it_as_given() {
        let list = [0x83, 0, 0, 3, 1, 2, 3];
        let overwrite = parse_overwrite(&list, 8).unwrap();
        assert_eq!((overwrite.passes, overwrite.invert), (3, true));
        assert_eq!(overwrite.block(2, 8), [1, 2, 3, 1, 2, 3, 1, 2]);
        assert_eq!(overwrite.block(1, 4), [0xfe, 0xfd, 0xfc, 0xfe]);
        assert_eq!(overwrite.block(0, 3), [1, 2, 3]);
        for wrong in [
            &[][..],
            &[1, 0, 0, 1],
            &[0, 0, 0, 1, 9],
            &[1, 0, 0, 0],
            &[1, 0, 0, 2, 9],
            &[1, 0, 0, 1, 9, 9],
            &[0x21, 0, 0, 1, 9],
            &[1, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ] {
            assert_eq!(parse_overwrite(wrong, 8), None, "{wrong:02x?}");
        }
    }
}
