//! Parity in the arithmetic of Linux MD: XOR for RAID-4 and RAID-5, P and Q for RAID-6 (H. Peter Anvin, "The mathematics of RAID-6";
//! `lib/raid6` of the kernel).
//!
//! ```text
//!   data      D0    D1    D2   …  Dn-1       strips of a stripe, buffers of one length
//!   P  =      D0 +  D1 +  D2 + …  Dn-1       + is XOR
//!   Q  =      D0 + gD1 + g²D2 + …  gⁿ⁻¹Dn-1  in GF(2^8) modulo 0x11d, g = 2
//! ```
//!
//! Everything works on the pages that an I/O carries, wherever its strips begin in them: nothing is copied or allocated, each byte is read once and
//! written once. What is written gets pages of its own first, as with every write to a [`Buf`]. The versions for AVX2 and for AVX-512 with GFNI are
//! chosen at the first use.
//!
//! A mistake in lengths or indices is one of our own code and panics.
//!
//! ```
//! use reactor::{Buf, parity::{Lost, Stripe}};
//! let data = [Buf::from_slice(&[1; 512]), Buf::from_slice(&[2; 512]), Buf::from_slice(&[3; 512])];
//! let (p, q) = (Buf::alloc(512), Buf::alloc(512));
//! let stripe = Stripe { data: &data, p: Some(&p), q: Some(&q) };
//! stripe.generate();
//! assert_eq!(p.to_vec()[0], 1 ^ 2 ^ 3);
//! data[0].fill(0xee);
//! data[2].fill(0xee);
//! stripe.recover(Lost::Two(0, 2));
//! assert_eq!((data[0].to_vec(), data[2].to_vec()), (vec![1; 512], vec![3; 512]));
//! assert_eq!(stripe.check(0), None);
//! ```
mod field;
mod finish;
mod kernel;
mod lane;
mod strips;

use crate::Buf;
use kernel::Backend;

/// Most data members of a stripe with Q: beyond them the coefficients repeat.
pub const DATA_MAX: usize = strips::SOURCES_MAX;

/// The sum of the sources goes to `into`, which may be one of them. There is at least one, and all are of one length.
pub fn xor(into: &Buf, sources: &[Buf]) {
    xor_by(Backend::best(), into, sources)
}

/// The sum of the sources is added to `into`: with old and new bytes of a member it is P of a read-modify-write.
pub fn xor_in(into: &Buf, sources: &[Buf]) {
    xor_in_by(Backend::best(), into, sources)
}

/// P and Q of a read-modify-write: the member with coefficient g^`index` goes from `old` to `new`. Where `p` is lost only Q changes.
pub fn update(p: Option<&Buf>, q: &Buf, index: usize, old: &Buf, new: &Buf) {
    update_by(Backend::best(), p, q, index, old, new)
}

/// What of a stripe is to be made from the rest. Indices are of [`Stripe::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A member: from P if there is one, else from Q.
    Data(usize),
    /// Two different members, from P and Q.
    Two(usize, usize),
    /// A member and P, from Q.
    DataAndP(usize),
    /// A member and Q, from P.
    DataAndQ(usize),
    /// P.
    P,
    /// Q.
    Q,
    /// P and Q.
    Both,
}

/// The strips of one stripe, all of one length. Those that are made are written, whatever they hold.
#[derive(Clone, Copy, Debug)]
pub struct Stripe<'a> {
    /// The data, in the order of their coefficients; at most [`DATA_MAX`]. An empty buffer counts as zeros: layouts in which a coefficient is nobody's.
    pub data: &'a [Buf],
    /// Their sum, where it is there or wanted.
    pub p: Option<&'a Buf>,
    /// Their weighted sum, where it is there or wanted.
    pub q: Option<&'a Buf>,
}

/// A byte at which P or Q is not what the data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where, from the start of the strips.
    pub at: usize,
    /// P, as it is and as it should be, added; 0 if it is right or not there.
    pub p: u8,
    /// The same of Q.
    pub q: u8,
}

/// The one strip that explains a [`Mismatch`] of P and Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// P.
    P,
    /// Q.
    Q,
    /// The member with this coefficient.
    Data(usize),
}

impl Mismatch {
    /// Who is wrong if it is only one of `data` members, P and Q; nobody if one alone cannot be. Only for stripes with P and Q. A byte proves
    /// little: believe what all wrong bytes of a block agree on.
    pub fn suspect(&self, data: usize) -> Option<Suspect> {
        match (self.p, self.q) {
            (0, 0) => None,
            (_, 0) => Some(Suspect::P),
            (0, _) => Some(Suspect::Q),
            (p, q) => {
                let index = (field::log(q) - field::log(p)).rem_euclid(255) as usize;
                (index < data).then_some(Suspect::Data(index))
            }
        }
    }
}

impl Stripe<'_> {
    /// Makes P and Q from the data, whichever of them are wanted.
    pub fn generate(&self) {
        match (self.p, self.q) {
            (Some(_), Some(_)) => self.recover(Lost::Both),
            (Some(_), None) => self.recover(Lost::P),
            (None, Some(_)) => self.recover(Lost::Q),
            (None, None) => {}
        }
    }

    /// Makes what is lost from the rest. Panics if the rest is not enough.
    pub fn recover(&self, lost: Lost) {
        self.recover_by(Backend::best(), lost)
    }

    /// The first byte from `from` on at which P or Q, whichever are there, is not what the data say.
    pub fn check(&self, from: usize) -> Option<Mismatch> {
        self.check_by(Backend::best(), from)
    }

    // Who asks for what cannot be made has made a mistake of ours: there are no bytes to answer with, and made-up ones would be lost data.
    fn need_p(&self) -> &Buf {
        self.p.unwrap_or_else(|| panic!("a stripe without P"))
    }

    fn need_q(&self) -> &Buf {
        self.q.unwrap_or_else(|| panic!("a stripe without Q"))
    }

    /// From the highest coefficient down, zeros for those that are lost.
    fn sources(&self, lost: [Option<usize>; 2]) -> impl Iterator<Item = Option<&Buf>> + Clone {
        let here = move |(index, buf)| (!lost.contains(&Some(index))).then_some(buf);
        self.data.iter().enumerate().rev().map(here)
    }

    fn recover_by(&self, by: Backend, lost: Lost) {
        match lost {
            Lost::Data(x) if self.p.is_some() => {
                let (p, data) = (self.need_p(), &self.data[x]);
                data.make_writable();
                let others = self.sources([Some(x), None]).flatten().chain([p]);
                strips::run(by, 0, others.map(Some), [data], |[data]| finish::P(data));
            }
            Lost::Data(x) => {
                let (q, data, by_factor) = (self.need_q(), &self.data[x], field::power(-(x as isize)));
                data.make_writable();
                strips::run(by, 0, self.sources([Some(x), None]), [data, q], |[data, q]| {
                    finish::DataByQ { q, data, by: by_factor }
                });
            }
            Lost::Two(x, y) => {
                assert_ne!(x, y, "two members are two");
                let (p, q, low, high) = (self.need_p(), self.need_q(), x.min(y), x.max(y));
                let (x, y) = (&self.data[low], &self.data[high]);
                x.make_writable();
                y.make_writable();
                let apart = field::power((high - low) as isize);
                let share = field::inverse(apart ^ 1);
                let (of_p, of_q) = (
                    field::times(apart, share),
                    field::times(field::power(-(low as isize)), share),
                );
                let left = self.sources([Some(low), Some(high)]);
                strips::run(by, 0, left, [x, y, p, q], |[x, y, p, q]| finish::Two {
                    p,
                    q,
                    x,
                    y,
                    of_p,
                    of_q,
                });
            }
            Lost::DataAndP(x) => {
                let (p, q, data) = (self.need_p(), self.need_q(), &self.data[x]);
                data.make_writable();
                p.make_writable();
                let factor = field::power(-(x as isize));
                strips::run(by, 0, self.sources([Some(x), None]), [data, p, q], |[data, p, q]| {
                    finish::DataAndP { q, data, p, by: factor }
                });
            }
            Lost::DataAndQ(x) => {
                let (p, q, data) = (self.need_p(), self.need_q(), &self.data[x]);
                data.make_writable();
                q.make_writable();
                let factor = field::power(x as isize);
                strips::run(by, 0, self.sources([Some(x), None]), [data, p, q], |[data, p, q]| {
                    finish::DataAndQ { p, data, q, by: factor }
                });
            }
            Lost::P => {
                let p = self.need_p();
                p.make_writable();
                strips::run(by, 0, self.sources([None; 2]), [p], |[p]| finish::P(p));
            }
            Lost::Q => {
                let q = self.need_q();
                q.make_writable();
                strips::run(by, 0, self.sources([None; 2]), [q], |[q]| finish::Q(q));
            }
            Lost::Both => {
                let (p, q) = (self.need_p(), self.need_q());
                p.make_writable();
                q.make_writable();
                strips::run(by, 0, self.sources([None; 2]), [p, q], |[p, q]| finish::Both { p, q });
            }
        }
    }

    fn check_by(&self, by: Backend, from: usize) -> Option<Mismatch> {
        let data = self.sources([None; 2]);
        let at = match (self.p, self.q) {
            (Some(p), Some(q)) => strips::run(by, from, data, [p, q], |[p, q]| finish::CheckBoth { p, q }),
            (Some(p), None) => strips::run(by, from, data, [p], |[p]| finish::CheckP(p)),
            (None, Some(q)) => strips::run(by, from, data, [q], |[q]| finish::CheckQ(q)),
            (None, None) => None,
        }?;
        let byte = |buf: &Buf| buf.byte(at);
        let data = || {
            self.sources([None; 2])
                .map(|buf| buf.filter(|buf| !buf.is_empty()).map_or(0, byte))
        };
        Some(Mismatch {
            at,
            p: self.p.map_or(0, |p| byte(p) ^ data().fold(0, |sum, data| sum ^ data)),
            q: self
                .q
                .map_or(0, |q| byte(q) ^ data().fold(0, |sum, data| field::double(sum) ^ data)),
        })
    }
}

fn xor_by(by: Backend, into: &Buf, sources: &[Buf]) {
    let (first, rest) = sources.split_at(sources.len().min(DATA_MAX));
    assert!(!first.is_empty(), "a sum of something");
    // One of the sources may be the same bytes: they stay.
    into.own(true);
    strips::run(by, 0, first.iter().map(Some), [into], |[into]| finish::P(into));
    if !rest.is_empty() {
        xor_in_by(by, into, rest)
    }
}

fn xor_in_by(by: Backend, into: &Buf, sources: &[Buf]) {
    into.own(true);
    for sources in sources.chunks(DATA_MAX - 1) {
        let all = sources.iter().chain([into]);
        strips::run(by, 0, all.map(Some), [into], |[into]| finish::P(into));
    }
}

fn update_by(by: Backend, p: Option<&Buf>, q: &Buf, index: usize, old: &Buf, new: &Buf) {
    assert!(index < DATA_MAX, "member {index} of at most {DATA_MAX}");
    let (change, factor) = ([Some(old), Some(new)].into_iter(), field::power(index as isize));
    q.own(true);
    match p {
        Some(p) => {
            p.own(true);
            strips::run(by, 0, change, [p, q], |[p, q]| finish::UpdateBoth { p, q, by: factor });
        }
        None => {
            strips::run(by, 0, change, [q], |[q]| finish::UpdateQ { q, by: factor });
        }
    }
}

#[cfg(test)]
mod tests;
