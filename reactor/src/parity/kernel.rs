//! The one loop under all of it: sums up the sources, each with its coefficient, and hands P and Q of every register of bytes to what shall
//! be done with them. Each byte is read once and written once.
use super::lane::Lane;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, __m512i};
use std::sync::OnceLock;

/// Which of the CPU's abilities are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// Words of 64 bits.
    Portable,
    /// 256 bits, products by shuffles.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits, products by one instruction.
    #[cfg(target_arch = "x86_64")]
    Gfni,
}

impl Backend {
    /// Those this CPU has, the best one first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let here = {
            let avx512 = std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("gfni");
            let avx2 = std::is_x86_feature_detected!("avx2");
            [(Self::Gfni, avx512), (Self::Avx2, avx2)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let here = [];
        let here = here.into_iter().filter_map(|(backend, here)| here.then_some(backend));
        here.chain([Self::Portable])
    }

    /// The best one, found out once.
    #[inline]
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Backend> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().next().unwrap_or(Self::Portable))
    }
}

/// What becomes of P and Q of some bytes.
///
/// **\[STRIPS\]** Pointers of an implementation are good for as many bytes as the loop goes over, for writing where they are `*mut`; no Rust
/// reference to those bytes is alive. A destination may be a source: a register is stored after everything in its place has been loaded.
pub(super) trait Finish: Copy {
    /// Q is wanted.
    const Q: bool;
    /// Constants that bytes are multiplied with.
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [0, 0]
    }
    /// Does it with the bytes at `at`. True to stop there. Unsafe by \[LANE\] and \[STRIPS\].
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, p: L, q: L) -> bool;
}

/// Goes over `from..len` of the sources, the one with the highest coefficient first; where it was stopped, if it was.
///
/// # Safety
/// The backend is one of those [`available`](Backend::available). \[STRIPS\], and `sources` are good for `len` bytes each, and not empty.
#[inline]
pub(super) unsafe fn run<F: Finish>(backend: Backend, sources: &[*const u8], len: usize, finish: F) -> Option<usize> {
    // SAFETY: the caller's promises, handed on; by the first of them the CPU has the features.
    unsafe {
        match backend {
            Backend::Portable => whole::<u64, F, 4>(sources, len, finish),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => avx2(sources, len, finish),
            #[cfg(target_arch = "x86_64")]
            Backend::Gfni => gfni(sources, len, finish),
        }
    }
}

/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<F: Finish>(sources: &[*const u8], len: usize, finish: F) -> Option<usize> {
    // SAFETY: [LANE] by this function's features; the rest as promised.
    unsafe { whole::<__m256i, F, 4>(sources, len, finish) }
}

/// # Safety
/// As [`run`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,gfni")]
unsafe fn gfni<F: Finish>(sources: &[*const u8], len: usize, finish: F) -> Option<usize> {
    // SAFETY: [LANE] by this function's features; the rest as promised.
    unsafe { whole::<__m512i, F, 4>(sources, len, finish) }
}

/// # Safety
/// As [`run`], and \[LANE\].
#[inline(always)]
unsafe fn whole<L: Lane, F: Finish, const WIDE: usize>(sources: &[*const u8], len: usize, finish: F) -> Option<usize> {
    let mut at = 0;
    // SAFETY: as promised. Where a wide step stops the bytes are looked at one by one, from its start.
    unsafe {
        let _ =
            stretch::<L, F, WIDE>(sources, &mut at, len, &finish) || stretch::<L, F, 1>(sources, &mut at, len, &finish);
        stretch::<u8, F, 1>(sources, &mut at, len, &finish).then_some(at)
    }
}

/// As long as there are `WIDE` registers of bytes to do. True if it was stopped.
///
/// # Safety
/// As [`whole`].
#[inline(always)]
unsafe fn stretch<L: Lane, F: Finish, const WIDE: usize>(
    sources: &[*const u8],
    at: &mut usize,
    len: usize,
    finish: &F,
) -> bool {
    let Some((first, rest)) = sources.split_first() else {
        return false;
    };
    let [one, two] = finish.factors();
    // SAFETY: [LANE] and [STRIPS], and no step goes beyond `len`.
    unsafe {
        let factors = [L::factor(one), L::factor(two)];
        while len - *at >= WIDE * L::WIDTH {
            let mut p = [L::load(first.add(*at)); WIDE];
            for (i, p) in p.iter_mut().enumerate() {
                *p = L::load(first.add(*at + i * L::WIDTH))
            }
            let mut q = p;
            for source in rest {
                for i in 0..WIDE {
                    let data = L::load(source.add(*at + i * L::WIDTH));
                    p[i] = p[i].xor(data);
                    if F::Q {
                        q[i] = q[i].double().xor(data)
                    }
                }
            }
            for i in 0..WIDE {
                if finish.end(&factors, *at + i * L::WIDTH, p[i], q[i]) {
                    return true;
                }
            }
            *at += WIDE * L::WIDTH
        }
    }
    false
}
