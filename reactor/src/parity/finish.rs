//! What becomes of P and Q of the sources: each way to make, change, mend and check a stripe. All pointers are by \[STRIPS\], all registers by
//! \[LANE\]. `p'` and `q'` are those of the sources, without the lost members; g is the generator.
use super::{kernel::Finish, lane::Lane};

/// P is stored.
#[derive(Clone, Copy)]
pub(super) struct P(pub *mut u8);
/// Q is stored.
#[derive(Clone, Copy)]
pub(super) struct Q(pub *mut u8);
/// Both are stored.
#[derive(Clone, Copy)]
pub(super) struct Both {
    pub p: *mut u8,
    pub q: *mut u8,
}
/// The sources are old and new bytes of one member: what changed, times the member's coefficient, is added to Q.
#[derive(Clone, Copy)]
pub(super) struct UpdateQ {
    pub q: *mut u8,
    /// g^index
    pub by: u8,
}
/// The same, and to P as it is.
#[derive(Clone, Copy)]
pub(super) struct UpdateBoth {
    pub p: *mut u8,
    pub q: *mut u8,
    /// g^index
    pub by: u8,
}
/// One member comes back from Q.
#[derive(Clone, Copy)]
pub(super) struct DataByQ {
    pub q: *const u8,
    pub data: *mut u8,
    /// g^-x
    pub by: u8,
}
/// One member comes back from Q, and P with it.
#[derive(Clone, Copy)]
pub(super) struct DataAndP {
    pub q: *const u8,
    pub data: *mut u8,
    pub p: *mut u8,
    /// g^-x
    pub by: u8,
}
/// One member comes back from P, and Q with it.
#[derive(Clone, Copy)]
pub(super) struct DataAndQ {
    pub p: *const u8,
    pub data: *mut u8,
    pub q: *mut u8,
    /// g^x
    pub by: u8,
}
/// Two members come back, x < y.
#[derive(Clone, Copy)]
pub(super) struct Two {
    pub p: *const u8,
    pub q: *const u8,
    pub x: *mut u8,
    pub y: *mut u8,
    /// g^(y-x) / (g^(y-x) + 1)
    pub of_p: u8,
    /// g^-x / (g^(y-x) + 1)
    pub of_q: u8,
}
/// Stops where P is another.
#[derive(Clone, Copy)]
pub(super) struct CheckP(pub *const u8);
/// Stops where Q is another.
#[derive(Clone, Copy)]
pub(super) struct CheckQ(pub *const u8);
/// Stops where either is another.
#[derive(Clone, Copy)]
pub(super) struct CheckBoth {
    pub p: *const u8,
    pub q: *const u8,
}

impl Finish for P {
    const Q: bool = false;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, p: L, _: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe { p.store(self.0.add(at)) }
        false
    }
}

impl Finish for Q {
    const Q: bool = true;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, _: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe { q.store(self.0.add(at)) }
        false
    }
}

impl Finish for Both {
    const Q: bool = true;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, p: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            p.store(self.p.add(at));
            q.store(self.q.add(at))
        }
        false
    }
}

impl Finish for UpdateQ {
    const Q: bool = false;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.by, 0]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, change: L, _: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            L::load(self.q.add(at))
                .xor(change.times(&factors[0]))
                .store(self.q.add(at))
        }
        false
    }
}

impl Finish for UpdateBoth {
    const Q: bool = false;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.by, 0]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, change: L, _: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            L::load(self.p.add(at)).xor(change).store(self.p.add(at));
            L::load(self.q.add(at))
                .xor(change.times(&factors[0]))
                .store(self.q.add(at))
        }
        false
    }
}

impl Finish for DataByQ {
    const Q: bool = true;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.by, 0]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, _: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            q.xor(L::load(self.q.add(at)))
                .times(&factors[0])
                .store(self.data.add(at))
        }
        false
    }
}

impl Finish for DataAndP {
    const Q: bool = true;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.by, 0]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, p: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            let data = q.xor(L::load(self.q.add(at))).times(&factors[0]);
            data.store(self.data.add(at));
            p.xor(data).store(self.p.add(at))
        }
        false
    }
}

impl Finish for DataAndQ {
    const Q: bool = true;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.by, 0]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, p: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            let data = p.xor(L::load(self.p.add(at)));
            data.store(self.data.add(at));
            q.xor(data.times(&factors[0])).store(self.q.add(at))
        }
        false
    }
}

impl Finish for Two {
    const Q: bool = true;
    #[inline(always)]
    fn factors(&self) -> [u8; 2] {
        [self.of_p, self.of_q]
    }
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, factors: &[L::Factor; 2], at: usize, p: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe {
            let p = p.xor(L::load(self.p.add(at)));
            let q = q.xor(L::load(self.q.add(at)));
            let x = p.times(&factors[0]).xor(q.times(&factors[1]));
            x.store(self.x.add(at));
            p.xor(x).store(self.y.add(at))
        }
        false
    }
}

impl Finish for CheckP {
    const Q: bool = false;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, p: L, _: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe { p.xor(L::load(self.0.add(at))).any() }
    }
}

impl Finish for CheckQ {
    const Q: bool = true;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, _: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe { q.xor(L::load(self.0.add(at))).any() }
    }
}

impl Finish for CheckBoth {
    const Q: bool = true;
    #[inline(always)]
    unsafe fn end<L: Lane>(&self, _: &[L::Factor; 2], at: usize, p: L, q: L) -> bool {
        // SAFETY: [LANE], [STRIPS].
        unsafe { p.xor(L::load(self.p.add(at))).any() | q.xor(L::load(self.q.add(at))).any() }
    }
}
