//! Some bytes that are worked on at once: a register of the CPU.
use super::field::{self, REDUCE};

/// A register full of bytes of the field.
///
/// **\[LANE\]** Functions of a lane are called only inside a function that has the CPU features the lane needs, which is entered only on a CPU that
/// has them ([`Backend`](super::kernel::Backend)); pointers are good for [`WIDTH`](Self::WIDTH) bytes, of any alignment.
pub(super) trait Lane: Copy {
    /// Bytes.
    const WIDTH: usize;
    /// What [`times`](Self::times) needs for one factor.
    type Factor: Copy;
    /// The bytes there. Unsafe by \[LANE\], as all of these.
    unsafe fn load(at: *const u8) -> Self;
    /// Puts the bytes there.
    unsafe fn store(self, at: *mut u8);
    /// The sum.
    unsafe fn xor(self, other: Self) -> Self;
    /// Each byte times the generator.
    unsafe fn double(self) -> Self;
    /// Prepares a factor.
    unsafe fn factor(a: u8) -> Self::Factor;
    /// Each byte times the factor.
    unsafe fn times(self, factor: &Self::Factor) -> Self;
    /// True if any byte is not 0.
    unsafe fn any(self) -> bool;
}

/// For what is left at the end, and to find the byte that differs.
impl Lane for u8 {
    const WIDTH: usize = 1;
    type Factor = u8;
    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: [LANE].
        unsafe { at.read() }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: [LANE].
        unsafe { at.write(self) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    unsafe fn double(self) -> Self {
        field::double(self)
    }
    #[inline(always)]
    unsafe fn factor(a: u8) -> u8 {
        a
    }
    #[inline(always)]
    unsafe fn times(self, factor: &u8) -> Self {
        field::times(self, *factor)
    }
    #[inline(always)]
    unsafe fn any(self) -> bool {
        self != 0
    }
}

/// The portable one: eight bytes side by side.
impl Lane for u64 {
    const WIDTH: usize = 8;
    type Factor = u8;
    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: [LANE].
        unsafe { at.cast::<u64>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: [LANE].
        unsafe { at.cast::<u64>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    unsafe fn double(self) -> Self {
        let high = (self >> 7) & 0x0101_0101_0101_0101;
        ((self << 1) & 0xfefe_fefe_fefe_fefe) ^ (high * u64::from(REDUCE))
    }
    #[inline(always)]
    unsafe fn factor(a: u8) -> u8 {
        a
    }
    #[inline(always)]
    unsafe fn times(self, factor: &u8) -> Self {
        let (mut a, mut product) = (self, 0);
        for bit in 0..8 {
            product ^= a & u64::from((factor >> bit) & 1).wrapping_neg();
            // SAFETY: needs nothing of the CPU.
            a = unsafe { a.double() }
        }
        product
    }
    #[inline(always)]
    unsafe fn any(self) -> bool {
        self != 0
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    //! AVX2, and AVX-512 with GFNI.
    use super::{Lane, REDUCE};
    use crate::parity::field::{MATRICES, NIBBLES};
    use std::arch::x86_64::*;

    /// 32 bytes; needs AVX2.
    impl Lane for __m256i {
        const WIDTH: usize = 32;
        type Factor = (__m256i, __m256i);
        #[inline(always)]
        unsafe fn load(at: *const u8) -> Self {
            // SAFETY: [LANE].
            unsafe { _mm256_loadu_si256(at.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut u8) {
            // SAFETY: [LANE].
            unsafe { _mm256_storeu_si256(at.cast(), self) }
        }
        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: [LANE].
            unsafe { _mm256_xor_si256(self, other) }
        }
        #[inline(always)]
        unsafe fn double(self) -> Self {
            // SAFETY: [LANE].
            unsafe {
                let high = _mm256_cmpgt_epi8(_mm256_setzero_si256(), self);
                let back = _mm256_and_si256(high, _mm256_set1_epi8(REDUCE as i8));
                _mm256_xor_si256(_mm256_add_epi8(self, self), back)
            }
        }
        #[inline(always)]
        unsafe fn factor(a: u8) -> Self::Factor {
            let (low, high) = NIBBLES[usize::from(a)].split_at(16);
            // SAFETY: [LANE], and 16 bytes each.
            unsafe {
                (
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(low.as_ptr().cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(high.as_ptr().cast())),
                )
            }
        }
        #[inline(always)]
        unsafe fn times(self, (low, high): &Self::Factor) -> Self {
            // SAFETY: [LANE].
            unsafe {
                let mask = _mm256_set1_epi8(0xf);
                let upper = _mm256_and_si256(_mm256_srli_epi64::<4>(self), mask);
                _mm256_xor_si256(
                    _mm256_shuffle_epi8(*low, _mm256_and_si256(self, mask)),
                    _mm256_shuffle_epi8(*high, upper),
                )
            }
        }
        #[inline(always)]
        unsafe fn any(self) -> bool {
            // SAFETY: [LANE].
            unsafe { _mm256_testz_si256(self, self) == 0 }
        }
    }

    /// 64 bytes; needs AVX-512F and GFNI.
    impl Lane for __m512i {
        const WIDTH: usize = 64;
        type Factor = __m512i;
        #[inline(always)]
        unsafe fn load(at: *const u8) -> Self {
            // SAFETY: [LANE].
            unsafe { _mm512_loadu_si512(at.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut u8) {
            // SAFETY: [LANE].
            unsafe { _mm512_storeu_si512(at.cast(), self) }
        }
        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: [LANE].
            unsafe { _mm512_xor_si512(self, other) }
        }
        #[inline(always)]
        unsafe fn double(self) -> Self {
            // SAFETY: [LANE].
            unsafe { self.times(&Self::factor(2)) }
        }
        #[inline(always)]
        unsafe fn factor(a: u8) -> Self::Factor {
            // SAFETY: [LANE].
            unsafe { _mm512_set1_epi64(MATRICES[usize::from(a)] as i64) }
        }
        #[inline(always)]
        unsafe fn times(self, factor: &Self::Factor) -> Self {
            // SAFETY: [LANE].
            unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(self, *factor) }
        }
        #[inline(always)]
        unsafe fn any(self) -> bool {
            // SAFETY: [LANE].
            unsafe { _mm512_test_epi64_mask(self, self) != 0 }
        }
    }
}
