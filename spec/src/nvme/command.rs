//! Submission and completion queue entries: the 64 bytes that ask and the 16 that answer.
use super::status::Status;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// Opcodes of the admin command set this project knows (Base 2.0d, figure 138).
pub mod admin {
    #![allow(missing_docs)]
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0a;
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub const KEEP_ALIVE: u8 = 0x18;
}

/// Opcodes of the NVM command set this project knows (NVM 1.0d, figure 22).
pub mod io {
    #![allow(missing_docs)]
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    pub const VERIFY: u8 = 0x0c;
    pub const RESERVATION_REGISTER: u8 = 0x0d;
    pub const RESERVATION_REPORT: u8 = 0x0e;
    pub const RESERVATION_ACQUIRE: u8 = 0x11;
    pub const RESERVATION_RELEASE: u8 = 0x15;
    pub const COPY: u8 = 0x19;
}

/// The opcode of every fabrics command; FCTYPE in byte 4 says which (Base 2.0d, 6).
pub const FABRICS: u8 = 0x7f;

/// A submission queue entry (Base 2.0d, figure 86), as it stands in a command capsule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Sqe {
    /// OPC.
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// CID: names the command until its completion.
    pub cid: U16,
    /// NSID; for fabrics commands byte 0 is FCTYPE.
    pub nsid: U32,
    /// CDW2.
    pub cdw2: U32,
    /// CDW3.
    pub cdw3: U32,
    /// MPTR.
    pub metadata: U64,
    /// DPTR, on fabrics always one SGL descriptor.
    pub sgl: Sgl,
    /// CDW10 to CDW15.
    pub cdw: [U32; 6],
}

const _: () =
    assert!(size_of::<Sqe>() == 64 && std::mem::offset_of!(Sqe, sgl) == 24 && std::mem::offset_of!(Sqe, cdw) == 40);

impl Sqe {
    /// A command with nothing but its opcode, id and namespace; the SGL says "no data" the way Linux and SPDK do.
    pub fn new(opcode: u8, cid: u16, nsid: u32) -> Self {
        Self {
            opcode,
            flags: 0x40,
            cid: cid.into(),
            nsid: nsid.into(),
            sgl: Sgl::transport(0),
            ..Self::default()
        }
    }

    /// CDW10+`n`, for `n` in 0..6.
    pub fn cdw1(&self, n: usize) -> u32 {
        self.cdw.get(n).map_or(0, |w| w.get())
    }

    /// FUSE: 0 when the command stands alone.
    pub fn fuse(&self) -> u8 {
        self.flags & 3
    }

    /// PSDT: 0 PRP, 1 SGL with a contiguous metadata buffer, 2 SGL for metadata too. Fabrics require 1.
    pub fn psdt(&self) -> u8 {
        self.flags >> 6
    }

    /// FCTYPE of a fabrics command.
    pub fn fctype(&self) -> u8 {
        self.nsid.get() as u8
    }

    /// SLBA of the NVM read, write, compare and write zeroes commands (CDW10, CDW11).
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw[0].get()) | u64::from(self.cdw[1].get()) << 32
    }

    /// Number of logical blocks of those commands, 1 to 65,536 (NLB in CDW12 counts from zero).
    pub fn blocks(&self) -> u32 {
        (self.cdw[2].get() & 0xffff) + 1
    }

    /// FUA (CDW12 bit 30): the answer may only come once the data is on stable media.
    pub fn fua(&self) -> bool {
        self.cdw[2].get() & 1 << 30 != 0
    }

    /// DEAC of Write Zeroes (CDW12 bit 25): the blocks may be deallocated as long as they read as zeroes.
    pub fn deac(&self) -> bool {
        self.cdw[2].get() & 1 << 25 != 0
    }

    /// PRINFO (CDW12 bits 29:26): protection information, which namespaces without it must see as zero.
    pub fn prinfo(&self) -> u8 {
        (self.cdw[2].get() >> 26 & 0xf) as u8
    }

    /// Sets SLBA and NLB. `blocks` is 1 to 65,536.
    pub fn with_range(mut self, slba: u64, blocks: u32) -> Self {
        self.cdw[0] = (slba as u32).into();
        self.cdw[1] = ((slba >> 32) as u32).into();
        self.cdw[2] = (self.cdw[2].get() & !0xffff | blocks.wrapping_sub(1) & 0xffff).into();
        self
    }

    /// Sets the data pointer.
    pub fn with_sgl(mut self, sgl: Sgl) -> Self {
        self.sgl = sgl;
        self
    }

    /// Sets CDW10+`n`, for `n` in 0..6; others are ignored.
    pub fn with_cdw1(mut self, n: usize, value: u32) -> Self {
        if let Some(word) = self.cdw.get_mut(n) {
            *word = value.into();
        }
        self
    }
}

/// One SGL descriptor (Base 2.0d, 4.1.2). TCP knows two of them: data in the capsule at an offset, and data the
/// transport moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Sgl {
    /// Address, or offset within the capsule's data.
    pub address: U64,
    /// Length in bytes.
    pub length: U32,
    /// Zero, or a key we do not use.
    pub reserved: [u8; 3],
    /// Descriptor type in bits 7:4, sub type in bits 3:0.
    pub kind: u8,
}

impl Sgl {
    /// Data block descriptor, sub type offset: the data follows in the command capsule.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Transport data block descriptor: data moves in C2HData, or in H2CData after an R2T.
    pub const TRANSPORT: u8 = 0x5a;

    /// `length` bytes in the capsule, from its first data byte on.
    pub fn in_capsule(length: u32) -> Self {
        Self {
            length: length.into(),
            kind: Self::IN_CAPSULE,
            ..Self::default()
        }
    }

    /// `length` bytes moved by the transport.
    pub fn transport(length: u32) -> Self {
        Self {
            length: length.into(),
            kind: Self::TRANSPORT,
            ..Self::default()
        }
    }
}

/// A completion queue entry (Base 2.0d, figure 89).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Cqe {
    /// DW0 and DW1: what the command returns. Property Get fills both.
    pub result: U64,
    /// SQHD: how far the controller has taken entries off the submission queue.
    pub sq_head: U16,
    /// SQID, reserved on fabrics.
    pub sq_id: U16,
    /// CID of the command.
    pub cid: U16,
    /// Status and phase bit; see [`Cqe::status`].
    pub status: U16,
}

const _: () = assert!(size_of::<Cqe>() == 16);

impl Cqe {
    /// A completion.
    pub fn new(cid: u16, sq_head: u16, status: Status, result: u64) -> Self {
        Self {
            result: result.into(),
            sq_head: sq_head.into(),
            sq_id: U16::ZERO,
            cid: cid.into(),
            status: status.wire().into(),
        }
    }

    /// The status without the phase bit.
    pub fn status(&self) -> Status {
        Status::from_wire(self.status.get())
    }
}

/// One range of a Dataset Management command (NVM 1.0d, figure 40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DsmRange {
    /// Context attributes: hints we are free to ignore.
    pub attributes: U32,
    /// Length in logical blocks.
    pub blocks: U32,
    /// First logical block.
    pub start: U64,
}

const _: () = assert!(size_of::<DsmRange>() == 16);

/// One source range of a Copy command, formats 0 and 2 (NVM 1.0d, figure 34): they differ in whether `nsid` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CopyRange {
    /// SNSID: the namespace it comes from; format 2 only.
    pub nsid: U32,
    reserved4: [u8; 4],
    /// SLBA: first logical block.
    pub start: U64,
    /// NLB: logical blocks, less one.
    pub blocks: U16,
    reserved18: [u8; 14],
}

const _: () = assert!(size_of::<CopyRange>() == 32);

impl CopyRange {
    /// `blocks` (1 to 65,536) from `start` of namespace `nsid`; 0 for format 0.
    pub fn new(nsid: u32, start: u64, blocks: u32) -> Self {
        Self {
            nsid: nsid.into(),
            start: start.into(),
            blocks: (blocks.wrapping_sub(1) as u16).into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_has_these_bytes() {
        let sqe = Sqe::new(io::READ, 0x1234, 7)
            .with_range(0x1_0000_0002, 8)
            .with_sgl(Sgl::transport(4096));
        #[rustfmt::skip]
        let golden: [u8; 64] = [
            0x02, 0x40, 0x34, 0x12,  7, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,  0x00, 0x10, 0, 0,  0, 0, 0, 0x5a,
            2, 0, 0, 0,  1, 0, 0, 0,  7, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
        ];
        assert_eq!(sqe.as_bytes(), golden);
        let back = Sqe::ref_from_bytes(&golden).unwrap();
        assert_eq!(*back, sqe);
        assert_eq!(
            (back.slba(), back.blocks(), back.fua(), back.psdt(), back.fuse()),
            (0x1_0000_0002, 8, false, 1, 0)
        );
    }

    #[test]
    fn flags_of_write_zeroes_are_where_the_book_says() {
        let sqe = Sqe::new(io::WRITE_ZEROES, 1, 1).with_cdw1(2, 1 << 30 | 1 << 25 | 0xffff);
        assert!(sqe.fua() && sqe.deac() && sqe.blocks() == 65536 && sqe.prinfo() == 0x0);
        assert_eq!(Sqe::new(io::READ, 1, 1).with_cdw1(2, 0xf << 26).prinfo(), 0xf);
        assert_eq!(Sqe::default().with_cdw1(9, 1), Sqe::default());
    }

    #[test]
    fn a_completion_has_these_bytes() {
        let cqe = Cqe::new(0xabcd, 3, Status::INVALID_FIELD, 0x0102_0304);
        assert_eq!(
            cqe.as_bytes(),
            [4, 3, 2, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0xcd, 0xab, 0x04, 0x80]
        );
        assert_eq!(
            Cqe::read_from_bytes(cqe.as_bytes()).unwrap().status(),
            Status::INVALID_FIELD
        );
    }
}
