//! CRC32C, the digest of iSCSI and NVMe/TCP.
//!
//! Headers (24 to 128 bytes) go through the CPU's own CRC32C instruction, eight bytes at a time: setting up a vector is not worth it. Data
//! goes through crc-fast, which folds with carry-less multiplication.
use crc_fast::{CrcAlgorithm, Digest};

/// Up to this many bytes the plain instruction is the faster way (measured: benches).
const SMALL: usize = 768;

/// CRC32C of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// CRC32C of some earlier bytes, whose CRC32C is `prev`, followed by `bytes`.
#[inline]
pub fn crc32c_append(prev: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() <= SMALL && std::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the CPU has it.
        return unsafe { small(prev, bytes) };
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!prev));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn small(prev: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let mut crc = u64::from(!prev);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    let mut crc = crc as u32;
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*word));
    }
    for byte in rest {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// RFC 3720 appendix B.4, and the check value everybody lists.
    #[test]
    fn known_answers() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let read_pdu: [u8; 48] = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0,
            0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&up), 0x46dd_794e);
        assert_eq!(crc32c(&down), 0x113f_db5c);
        assert_eq!(crc32c(&read_pdu), 0xd996_3a56);
        assert_eq!(crc32c(&[]), 0);
    }

    /// Bit by bit, as the polynomial says.
    fn plain(prev: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!prev, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        })
    }

    #[test]
    fn every_length_in_any_number_of_parts() {
        let seed = 11;
        let mut rng = Rng::new(seed);
        let data = rng.bytes(if cfg!(miri) { 300 } else { 9000 });
        for len in (0..data.len())
            .step_by(if cfg!(miri) { 37 } else { 1 })
            .filter(|len| len % 61 == 0 || *len < 600)
        {
            let want = plain(0, &data[..len]);
            assert_eq!(crc32c(&data[..len]), want, "{len} bytes, seed {seed}");
            let cut = rng.below(len as u64 + 1) as usize;
            assert_eq!(
                crc32c_append(crc32c(&data[..cut]), &data[cut..len]),
                want,
                "{cut} of {len} bytes, seed {seed}"
            );
        }
    }
}
