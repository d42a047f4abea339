//! AES-XTS (IEEE 1619-2018, NIST SP 800-38E) over the blocks of a disk, each with its number as tweak.
//!
//! ```text
//!   tweak of block n       T0 = AES(tweak key, n as 128 bits, little-endian)     Tj+1 = Tj · x in GF(2^128), x^128 = x^7 + x^2 + x + 1
//!   16 bytes j of block n  C  = AES(data key, P ^ Tj) ^ Tj
//! ```
//!
//! The same as SPDK's crypto device (SIMPLE_LBA) writes, and for 512-byte blocks as dm-crypt's `aes-xts-plain64`. Blocks are whole multiples
//! of 16 bytes, so nothing of the standard's ciphertext stealing is needed.
use aes::{
    Aes128, Aes128Enc, Aes256, Aes256Enc, Block,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, array::Array},
};
use subtle::ConstantTimeEq;

/// Bytes the cipher takes at a time.
const AES: usize = 16;
/// AES blocks in a batch: enough for the widest units there are.
const BATCH: usize = 64;
/// First tweaks that are made at once: as cheap as one.
const HEADS: usize = 8;

/// The pair of keys, expanded. Wiped when dropped.
pub struct Xts(Pair);

enum Pair {
    Aes128(Aes128, Aes128Enc),
    Aes256(Aes256, Aes256Enc),
}

impl std::fmt::Debug for Xts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Pair::Aes128(..) => "Xts(AES-128, …)",
            Pair::Aes256(..) => "Xts(AES-256, …)",
        })
    }
}

#[derive(Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
}

impl Xts {
    /// From the data key and the tweak key, one behind the other: 32 bytes for AES-128, 64 for AES-256. The two must differ (FIPS 140-3 IG C.I).
    pub fn new(keys: &[u8]) -> Result<Self, &'static str> {
        let (data, tweak) = keys.split_at(keys.len() / 2);
        // From slices: a copy of a key would have to be wiped.
        let pair = match keys.len() {
            32 => (Aes128::new_from_slice(data).ok())
                .zip(Aes128Enc::new_from_slice(tweak).ok())
                .map(|(data, tweak)| Pair::Aes128(data, tweak)),
            64 => (Aes256::new_from_slice(data).ok())
                .zip(Aes256Enc::new_from_slice(tweak).ok())
                .map(|(data, tweak)| Pair::Aes256(data, tweak)),
            _ => None,
        };
        let pair = pair.ok_or("it is not 32 bytes (AES-128) or 64 bytes (AES-256)")?;
        match data.ct_eq(tweak).into() {
            true => Err("its two halves are the same, which is not safe"),
            false => Ok(Self(pair)),
        }
    }

    /// Bits of each of the two keys.
    pub const fn bits(&self) -> u16 {
        match self.0 {
            Pair::Aes128(..) => 128,
            Pair::Aes256(..) => 256,
        }
    }

    /// Starts at a block of a disk with blocks of `block_size` bytes, a multiple of 16.
    pub fn from(&self, lba: u64, block_size: usize) -> Cursor<'_> {
        debug_assert!(block_size > 0 && block_size.is_multiple_of(AES));
        Cursor {
            xts: self,
            block_size,
            next: lba,
            done: 0,
            tweak: 0,
            heads: [Block::default(); HEADS],
            head: HEADS,
        }
    }

    fn tweaks(&self, blocks: &mut [Block]) {
        match &self.0 {
            Pair::Aes128(_, tweak) => tweak.encrypt_blocks(blocks),
            Pair::Aes256(_, tweak) => tweak.encrypt_blocks(blocks),
        }
    }

    fn crypt(&self, way: Way, blocks: &mut [Block]) {
        match (&self.0, way) {
            (Pair::Aes128(data, _), Way::Encrypt) => data.encrypt_blocks(blocks),
            (Pair::Aes128(data, _), Way::Decrypt) => data.decrypt_blocks(blocks),
            (Pair::Aes256(data, _), Way::Encrypt) => data.encrypt_blocks(blocks),
            (Pair::Aes256(data, _), Way::Decrypt) => data.decrypt_blocks(blocks),
        }
    }
}

/// Times x: a shift, and what falls out comes back as x^7 + x^2 + x + 1. Without a branch, for it depends on the key.
const fn double(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

/// Goes through blocks of a disk one after the other, in pieces of any multiple of 16 bytes.
pub struct Cursor<'a> {
    xts: &'a Xts,
    block_size: usize,
    /// The block after those in `heads`.
    next: u64,
    /// Bytes of the present block that are done.
    done: usize,
    tweak: u128,
    heads: [Block; HEADS],
    head: usize,
}

impl Cursor<'_> {
    /// Encrypts the next bytes in their place.
    pub fn encrypt(&mut self, bytes: &mut [u8]) {
        self.go(Way::Encrypt, None, bytes)
    }

    /// Encrypts the next bytes into `to`, which is as long as `from`.
    pub fn encrypt_into(&mut self, from: &[u8], to: &mut [u8]) {
        self.go(Way::Encrypt, Some(from), to)
    }

    /// Decrypts the next bytes in their place.
    pub fn decrypt(&mut self, bytes: &mut [u8]) {
        self.go(Way::Decrypt, None, bytes)
    }

    /// Decrypts the next bytes into `to`, which is as long as `from`.
    pub fn decrypt_into(&mut self, from: &[u8], to: &mut [u8]) {
        self.go(Way::Decrypt, Some(from), to)
    }

    fn begin_block(&mut self) {
        if self.head == HEADS {
            for (head, lba) in self.heads.iter_mut().zip(0..) {
                // Past the last block of a disk these are tweaks nobody will ask for.
                *head = u128::from(self.next.wrapping_add(lba)).to_le_bytes().into();
            }
            self.next = self.next.wrapping_add(HEADS as u64);
            self.xts.tweaks(&mut self.heads);
            self.head = 0
        }
        self.tweak = u128::from_le_bytes(self.heads[self.head].into());
        self.head += 1
    }

    fn go(&mut self, way: Way, from: Option<&[u8]>, to: &mut [u8]) {
        if let Some(from) = from {
            assert_eq!(from.len(), to.len(), "what is encrypted is as long as what it becomes")
        }
        let (all, rest) = Array::slice_as_chunks_mut(to);
        assert!(
            rest.is_empty(),
            "{} bytes are no whole number of AES blocks",
            rest.len()
        );
        let mut tweaks = [0u128; BATCH];
        let mut at = 0;
        while at < all.len() {
            if self.done == 0 {
                self.begin_block()
            }
            let run = BATCH.min(all.len() - at).min((self.block_size - self.done) / AES);
            let (blocks, tweaks) = (&mut all[at..at + run], &mut tweaks[..run]);
            for tweak in &mut *tweaks {
                *tweak = self.tweak;
                self.tweak = double(self.tweak)
            }
            match from {
                None => blocks
                    .iter_mut()
                    .zip(&*tweaks)
                    .for_each(|(block, tweak)| mask(block, *tweak)),
                Some(from) => {
                    let (from, _) = Array::slice_as_chunks(&from[at * AES..(at + run) * AES]);
                    for ((block, from), tweak) in blocks.iter_mut().zip(from).zip(&*tweaks) {
                        *block = *from;
                        mask(block, *tweak)
                    }
                }
            }
            self.xts.crypt(way, blocks);
            blocks
                .iter_mut()
                .zip(&*tweaks)
                .for_each(|(block, tweak)| mask(block, *tweak));
            at += run;
            self.done = (self.done + run * AES) % self.block_size
        }
    }
}

fn mask(block: &mut Block, tweak: u128) {
    *block = (u128::from_le_bytes((*block).into()) ^ tweak).to_le_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        hex.as_bytes()
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    fn encrypted(keys: &str, lba: u64, plain: &[u8]) -> Vec<u8> {
        let xts = Xts::new(&bytes(keys)).unwrap();
        let mut out = plain.to_vec();
        xts.from(lba, plain.len()).encrypt(&mut out);
        let mut back = out.clone();
        xts.from(lba, plain.len()).decrypt(&mut back);
        assert_eq!(back, plain);
        out
    }

    /// IEEE 1619-2018 annex B: vectors 2, 3, 4 (AES-128) and 10 (AES-256). AES blocks of XTS do not depend on each other but by the tweak, so
    /// the ends of the long ones will do.
    #[test]
    fn the_vectors_of_the_standard() {
        let twos = "22".repeat(16);
        let short = |data: &str| encrypted(&(data.to_owned() + &twos), 0x33_3333_3333, &[0x44; 32]);
        assert_eq!(
            short(&"11".repeat(16)),
            bytes("c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0")
        );
        assert_eq!(
            short("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"),
            bytes("af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89")
        );
        let plain: Vec<u8> = (0..512).map(|i| i as u8).collect();
        let ends = |cipher: Vec<u8>| [&cipher[..32], &cipher[480..]].concat();
        assert_eq!(
            ends(encrypted(
                "2718281828459045235360287471352631415926535897932384626433832795",
                0,
                &plain
            )),
            bytes(
                "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c\
                 eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568"
            )
        );
        let keys = "2718281828459045235360287471352662497757247093699959574966967627\
                    3141592653589793238462643383279502884197169399375105820974944592";
        assert_eq!(
            ends(encrypted(keys, 0xff, &plain)),
            bytes(
                "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b\
                 773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151"
            )
        );
    }
    /// However it is cut, and whether in place or not, it is the same.
    #[test]
    fn pieces_of_blocks_come_to_the_same_as_one_block_after_the_other() {
        let xts = Xts::new(&(0..64).collect::<Vec<u8>>()).unwrap();
        let plain: Vec<u8> = (0..48 * 1024u32).map(|i| ((i * 7) >> 3) as u8).collect();
        for block_size in [512, 4096, 16384] {
            let first = u64::from(u32::MAX) - 5;
            let mut expected = plain.clone();
            for (block, lba) in expected.chunks_mut(block_size).zip(first..) {
                xts.from(lba, block_size).encrypt(block)
            }
            for step in [16, 48, 496, 512, 4096, 4112, 65536] {
                let (mut cursor, mut found) = (xts.from(first, block_size), vec![0; plain.len()]);
                for (from, to) in plain.chunks(step).zip(found.chunks_mut(step)) {
                    cursor.encrypt_into(from, to)
                }
                assert!(found == expected, "blocks of {block_size} in steps of {step}");
                let (mut cursor, mut back) = (xts.from(first, block_size), vec![0; plain.len()]);
                for (from, to) in found.chunks(step).zip(back.chunks_mut(step)) {
                    cursor.decrypt_into(from, to)
                }
                assert!(back == plain, "blocks of {block_size} in steps of {step}, back");
            }
        }
    }

    #[test]
    fn a_key_has_two_different_halves_of_a_length_that_there_is() {
        for len in [0, 16, 31, 33, 48, 63, 65, 128] {
            assert!(Xts::new(&(0..len).collect::<Vec<u8>>()).is_err(), "{len} bytes");
        }
        assert!(Xts::new(&[7; 32]).is_err() && Xts::new(&[7; 64]).is_err());
        let debug = format!("{:?}", Xts::new(&(0..32).collect::<Vec<u8>>()).unwrap());
        assert_eq!(debug, "Xts(AES-128, …)");
    }
}
