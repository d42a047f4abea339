//! READ CAPACITY data (SBC-3 5.15, 5.16), REPORT LUNS data (SPC-4 6.33) and logical unit numbers (SAM-5 4.7).

/// A logical unit number, 0..=16383: what fits the two single-level addressing methods every host understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(u16);

impl Lun {
    /// One past the greatest number.
    pub const LIMIT: u16 = 1 << 14;

    /// `None` above 16383.
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::LIMIT { Some(Self(number)) } else { None }
    }

    /// The plain number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Reads the eight bytes of a PDU or a REPORT LUNS entry: peripheral (00b, bus 0) or flat space (01b) addressing.
    /// Anything else addresses no unit we could have.
    pub fn from_wire(wire: [u8; 8]) -> Option<Self> {
        if wire[2..] != [0; 6] {
            return None;
        }
        match wire[0] >> 6 {
            0 if wire[0] == 0 => Some(Self(wire[1].into())),
            1 => Some(Self(u16::from_be_bytes([wire[0] & 0x3f, wire[1]]))),
            _ => None,
        }
    }

    /// Peripheral addressing up to 255, flat space above, as Linux and everybody else does.
    pub fn to_wire(self) -> [u8; 8] {
        let method = if self.0 > 255 { 0x40 } else { 0 };
        let [hi, lo] = self.0.to_be_bytes();
        [method | hi, lo, 0, 0, 0, 0, 0, 0]
    }
}

/// READ CAPACITY (10): the last LBA, all ones when it does not fit, and the block length.
pub fn read_capacity10(blocks: u64, block_size: u32) -> [u8; 8] {
    let last = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut out = [0; 8];
    out[..4].copy_from_slice(&last.to_be_bytes());
    out[4..].copy_from_slice(&block_size.to_be_bytes());
    out
}

/// What READ CAPACITY (16) tells beyond the size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity16 {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Logical blocks per physical block, as an exponent of two (0..=15).
    pub physical_exponent: u8,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS, 14 bits: the first block that starts a physical one.
    pub lowest_aligned: u16,
    /// The unit supports unmapping (LBPME).
    pub thin: bool,
    /// Unmapped blocks read as zeros (LBPRZ).
    pub reads_zeros: bool,
}

impl Capacity16 {
    /// The 32 bytes of parameter data. Protection information is never on (PROT_EN = 0).
    pub fn encode(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..8].copy_from_slice(&self.blocks.saturating_sub(1).to_be_bytes());
        out[8..12].copy_from_slice(&self.block_size.to_be_bytes());
        out[13] = self.physical_exponent & 0xf;
        let [hi, lo] = self.lowest_aligned.to_be_bytes();
        out[14] = u8::from(self.thin) << 7 | u8::from(self.reads_zeros) << 6 | hi & 0x3f;
        out[15] = lo;
        out
    }
}

/// REPORT LUNS data for `luns`, cut to `room` bytes by the caller: the header always tells the whole length.
pub fn report_luns(luns: impl ExactSizeIterator<Item = Lun>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 8 * luns.len());
    // LUN numbers are 14 bits, so this fits with room to spare.
    out.extend_from_slice(&((luns.len() * 8) as u32).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    luns.for_each(|lun| out.extend_from_slice(&lun.to_wire()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns_travel_both_ways() {
        for number in [0, 1, 255, 256, 16383] {
            let lun = Lun::new(number).unwrap();
            assert_eq!(Lun::from_wire(lun.to_wire()), Some(lun));
        }
        assert_eq!(Lun::new(300).unwrap().to_wire(), [0x41, 0x2c, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Lun::new(16384), None);
        // Flat space addressing of a small number is the same unit.
        assert_eq!(Lun::from_wire([0x40, 7, 0, 0, 0, 0, 0, 0]), Lun::new(7));
        // A second level, a bus, an extended method (REPORT LUNS well-known unit): nobody is there.
        assert_eq!(Lun::from_wire([0, 0, 0, 1, 0, 0, 0, 0]), None);
        assert_eq!(Lun::from_wire([1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Lun::from_wire([0xc1, 1, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn capacity_saturates_in_ten_bytes_and_is_exact_in_sixteen() {
        assert_eq!(read_capacity10(0x800, 512), [0, 0, 7, 0xff, 0, 0, 2, 0]);
        assert_eq!(read_capacity10(1 << 33, 4096), [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
        let wide = Capacity16 {
            blocks: 1 << 33,
            block_size: 512,
            physical_exponent: 3,
            lowest_aligned: 0x107,
            thin: true,
            reads_zeros: true,
        };
        let golden = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0, 3, 0xc1, 7];
        assert_eq!(wide.encode()[..16], golden);
    }

    #[test]
    fn report_luns_lists_in_order() {
        let luns = [0, 1, 258].map(|n| Lun::new(n).unwrap());
        let golden: Vec<u8> = [
            [0, 0, 0, 24, 0, 0, 0, 0],
            [0; 8],
            [0, 1, 0, 0, 0, 0, 0, 0],
            [0x41, 2, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(report_luns(luns.into_iter()), golden);
    }
}
