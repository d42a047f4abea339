//! GF(2^8) as Linux MD has it (`lib/raid6`): bytes are polynomials modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), and the generator is x, that is 2.
//! Addition is XOR.

/// What x^8 comes back as.
pub(super) const REDUCE: u8 = 0x1d;

/// Times the generator.
pub(super) const fn double(a: u8) -> u8 {
    (a << 1) ^ (REDUCE & (a >> 7).wrapping_neg())
}

/// A product, bit by bit.
pub(super) const fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        product ^= a & (b & 1).wrapping_neg();
        a = double(a);
        b >>= 1
    }
    product
}

static POWERS: [u8; 255] = {
    let (mut all, mut a, mut n) = ([0; 255], 1, 0);
    while n < 255 {
        all[n] = a;
        a = double(a);
        n += 1
    }
    all
};

static LOGS: [u8; 256] = {
    let (mut all, mut a, mut n) = ([0; 256], 1, 0);
    while n < 255 {
        all[a as usize] = n;
        a = double(a);
        n += 1
    }
    all
};

/// The generator to the power of `n`, which may be negative.
pub(super) fn power(n: isize) -> u8 {
    POWERS[n.rem_euclid(255) as usize]
}

/// Which power of the generator `a` is; it is not 0.
pub(super) fn log(a: u8) -> isize {
    isize::from(LOGS[usize::from(a)])
}

/// One divided by `a`, which is not 0.
pub(super) fn inverse(a: u8) -> u8 {
    power(-log(a))
}

/// For each factor its products with 0 to 15, then with those times 16: what a byte shuffle looks up.
pub(super) static NIBBLES: [[u8; 32]; 256] = {
    let (mut all, mut a) = ([[0; 32]; 256], 0);
    while a < 256 {
        let mut n = 0;
        while n < 16 {
            all[a][n] = times(a as u8, n as u8);
            all[a][16 + n] = times(a as u8, (n as u8) << 4);
            n += 1
        }
        a += 1
    }
    all
};

/// For each factor the matrix of bits that multiplies by it, as GFNI's affine transformation wants it: byte 7 - i has the bits of the other
/// factor that bit i of the product is the parity of.
pub(super) static MATRICES: [u64; 256] = {
    let (mut all, mut a) = ([0; 256], 0);
    while a < 256 {
        let mut j = 0;
        while j < 8 {
            let column = times(a as u8, 1 << j) as u64;
            let mut i = 0;
            while i < 8 {
                all[a] |= ((column >> i) & 1) << (8 * (7 - i) + j);
                i += 1
            }
            j += 1
        }
        a += 1
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of the kernel's `raid6_gfexp`, and what a field is.
    #[test]
    fn powers_and_inverses() {
        let known = [
            1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1d, 0x3a, 0x74, 0xe8, 0xcd, 0x87, 0x13, 0x26,
        ];
        assert_eq!(POWERS[..16], known);
        assert_eq!((power(254), power(255), power(-1)), (0x8e, 1, 0x8e));
        for a in 1..=255 {
            assert_eq!(times(a, inverse(a)), 1);
            assert_eq!(power(log(a)), a);
            assert_eq!(times(a, 2), double(a));
        }
    }
}
