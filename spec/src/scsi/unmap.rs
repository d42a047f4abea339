//! The UNMAP parameter list (SBC-3 5.28.2).
//!
//! ```text
//! 0  unmap data length (n - 2)      2  block descriptor data length, a multiple of 16
//! 8  descriptors: LBA (8), number of blocks (4), reserved (4)
//! ```
use super::{Sense, be16, be32, be64};
use crate::BlockRange;

/// Bytes before the first descriptor.
pub const HEADER_LEN: usize = 8;
/// Bytes of a descriptor.
pub const DESCRIPTOR_LEN: usize = 16;

/// Checks a parameter list once; the iterator then yields its ranges as they are, empty ones included.
/// A list cut short of its header names nothing to unmap, which is no error when it is empty (SBC-3 5.28.1).
pub fn parse(list: &[u8]) -> Result<impl ExactSizeIterator<Item = BlockRange> + Clone + '_, Sense> {
    let descriptors: &[u8] = match list.len() {
        0 => &[],
        1..HEADER_LEN => return Err(Sense::PARAMETER_LENGTH),
        _ => {
            let room = &list[HEADER_LEN..];
            // The lengths may claim more than was sent; what was sent counts, in whole descriptors.
            let claimed = usize::from(be16(list, 2)).min(room.len());
            &room[..claimed / DESCRIPTOR_LEN * DESCRIPTOR_LEN]
        }
    };
    Ok(descriptors
        .chunks_exact(DESCRIPTOR_LEN)
        .map(|d| BlockRange::new(be64(d, 0), be32(d, 8))))
}

/// The list that [`parse`] reads back. For tests and for our own initiator; at most 4095 ranges fit its length field.
pub fn encode(ranges: &[BlockRange]) -> Vec<u8> {
    let ranges = &ranges[..ranges.len().min(4095)];
    let bytes = (ranges.len() * DESCRIPTOR_LEN) as u16;
    let mut out = Vec::with_capacity(HEADER_LEN + usize::from(bytes));
    out.extend_from_slice(&(bytes + 6).to_be_bytes());
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    for range in ranges {
        out.extend_from_slice(&range.start.0.to_be_bytes());
        out.extend_from_slice(&range.count.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_golden_bytes_and_reads_back() {
        let ranges = [BlockRange::new(0x1_0000_0000, 8), BlockRange::new(5, 0)];
        let list = encode(&ranges);
        assert_eq!(list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(list[8..24], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(parse(&list).unwrap().collect::<Vec<_>>(), ranges);
    }

    #[test]
    fn short_and_lying_lists() {
        assert_eq!(parse(&[]).unwrap().count(), 0);
        assert_eq!(parse(&[0; 7]).err(), Some(Sense::PARAMETER_LENGTH));
        let mut list = encode(&[BlockRange::new(1, 1), BlockRange::new(2, 1)]);
        list[2] = 0xff; // claims 65,312 bytes
        assert_eq!(parse(&list).unwrap().count(), 2);
        assert_eq!(parse(&list[..30]).unwrap().count(), 1);
    }
}
