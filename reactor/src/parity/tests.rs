//! Every operation, by every backend this CPU has, against the definition: bit by bit, byte by byte.
use super::*;
use crate::{PAGE, testing::Rng};

/// Times 2^`n` by long division, which owes nothing to the code under test.
fn times_power(a: u8, n: usize) -> u8 {
    (0..n).fold(u32::from(a), |a, _| if a >= 0x80 { (a << 1) ^ 0x11d } else { a << 1 }) as u8
}

fn oracle(data: &[Vec<u8>], len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut p, mut q) = (vec![0; len], vec![0; len]);
    for (index, strip) in data.iter().enumerate() {
        let mut products = [0; 256];
        for (a, product) in (0..=255).zip(&mut products) {
            *product = times_power(a, index)
        }
        for (at, byte) in strip.iter().enumerate() {
            p[at] ^= byte;
            q[at] ^= products[usize::from(*byte)]
        }
    }
    (p, q)
}

/// A buffer somewhere in a longer one, whose other bytes are watched.
struct Strip {
    whole: Buf,
    at: usize,
    buf: Buf,
}

const AROUND: u8 = 0xa5;

impl Strip {
    /// Begins at an offset that is a multiple of `align`.
    fn new(rng: &mut Rng, bytes: &[u8], align: usize) -> Self {
        let at = rng.below((PAGE / align) as u64) as usize * align;
        let whole = Buf::alloc(at + bytes.len() + rng.below(5000) as usize);
        whole.fill(AROUND);
        let buf = whole.slice(at..at + bytes.len());
        buf.write_at(0, bytes);
        Self { whole, at, buf }
    }

    fn check_around(&self) {
        let all = self.whole.to_vec();
        let end = self.at + self.buf.len();
        assert!(
            all[..self.at].iter().chain(&all[end..]).all(|b| *b == AROUND),
            "bytes beside a strip"
        );
    }
}

/// A stripe with its truth.
struct Case {
    truth: Vec<Vec<u8>>,
    p: Vec<u8>,
    q: Vec<u8>,
    strips: Vec<Strip>,
    data: Vec<Buf>,
    p_strip: Strip,
    q_strip: Strip,
}

impl Case {
    fn new(rng: &mut Rng, members: usize, len: usize, align: usize) -> Self {
        let truth: Vec<_> = (0..members).map(|_| rng.bytes(len)).collect();
        let (p, q) = oracle(&truth, len);
        let strips: Vec<_> = truth.iter().map(|bytes| Strip::new(rng, bytes, align)).collect();
        Self {
            data: strips.iter().map(|strip| strip.buf.clone()).collect(),
            p_strip: Strip::new(rng, &p, align),
            q_strip: Strip::new(rng, &q, align),
            truth,
            p,
            q,
            strips,
        }
    }

    fn stripe(&self) -> Stripe<'_> {
        Stripe {
            data: &self.data,
            p: Some(&self.p_strip.buf),
            q: Some(&self.q_strip.buf),
        }
    }

    /// Spoils what is lost, and keeps what it was in other hands, which must not see what comes back.
    fn lose(&self, lost: Lost, rng: &mut Rng) -> Vec<(Buf, Vec<u8>)> {
        let (p, q) = (&self.p_strip.buf, &self.q_strip.buf);
        let gone = match lost {
            Lost::Data(x) => vec![&self.data[x]],
            Lost::Two(x, y) => vec![&self.data[x], &self.data[y]],
            Lost::DataAndP(x) => vec![&self.data[x], p],
            Lost::DataAndQ(x) => vec![&self.data[x], q],
            Lost::P => vec![p],
            Lost::Q => vec![q],
            Lost::Both => vec![p, q],
        };
        let spoil = |buf: &Buf| {
            buf.write_at(0, &rng.bytes(buf.len()));
            let other = buf.fork();
            let bytes = other.to_vec();
            (other, bytes)
        };
        gone.into_iter().map(spoil).collect()
    }

    fn check(&self, what: &str) {
        for (index, (buf, truth)) in self.data.iter().zip(&self.truth).enumerate() {
            assert!(buf.to_vec() == *truth, "{what}: member {index}");
        }
        assert!(self.p_strip.buf.to_vec() == self.p, "{what}: P");
        assert!(self.q_strip.buf.to_vec() == self.q, "{what}: Q");
        let all = self.strips.iter().chain([&self.p_strip, &self.q_strip]);
        all.for_each(Strip::check_around);
    }
}

fn shapes(rng: &mut Rng, members: usize) -> [(usize, usize); 4] {
    if cfg!(miri) {
        return [(1 + rng.below(40) as usize, 1), (512, 512), (64, 8), (1, 1)];
    }
    let odd = 1 + rng.below(2 * PAGE as u64) as usize;
    let sectors = 512 * (1 + rng.below(24) as usize);
    [(odd, 1), (sectors, 512), (PAGE, PAGE), (1 + members, 1)]
}

fn all_members() -> impl Iterator<Item = usize> {
    (1..=33).filter(|n| !cfg!(miri) || matches!(n, 1 | 2 | 5))
}

#[test]
fn everything_that_can_be_lost_comes_back() {
    for by in Backend::available() {
        for members in all_members() {
            let seed = 1000 + members as u64;
            let mut rng = Rng::new(seed);
            let mut lost = vec![Lost::P, Lost::Q, Lost::Both];
            for x in 0..members {
                lost.extend([Lost::Data(x), Lost::DataAndP(x), Lost::DataAndQ(x)]);
                lost.extend((0..x).map(|y| Lost::Two(x, y)))
            }
            let cases = shapes(&mut rng, members).map(|(len, align)| Case::new(&mut rng, members, len, align));
            for (n, lost) in lost.into_iter().enumerate() {
                // Each pair in one shape, in another for its neighbour; all members in all shapes otherwise.
                let all = !matches!(lost, Lost::Two(..)) || members <= 6;
                for case in cases
                    .iter()
                    .skip(n % 4 * usize::from(!all))
                    .take(if all { 4 } else { 1 })
                {
                    let len = case.p.len();
                    let what = format!("{by:?}, {members} members of {len} bytes, {lost:?}, seed {seed}");
                    let others = case.lose(lost, &mut rng);
                    case.stripe().recover_by(by, lost);
                    case.check(&what);
                    for (buf, bytes) in others {
                        assert!(buf.to_vec() == bytes, "{what}: somebody else's copy")
                    }
                    if let Lost::Data(_) = lost {
                        case.lose(lost, &mut rng);
                        let without = Stripe {
                            p: None,
                            ..case.stripe()
                        };
                        without.recover_by(by, lost);
                        case.check(&format!("{what} by Q"));
                    }
                }
            }
        }
    }
}

#[test]
fn changes_of_one_member_and_sums_of_any_number() {
    for by in Backend::available() {
        for members in all_members() {
            let seed = 2000 + members as u64;
            let mut rng = Rng::new(seed);
            for (len, align) in shapes(&mut rng, members) {
                let what = format!("{by:?}, {members} members of {len} bytes, seed {seed}");
                let mut case = Case::new(&mut rng, members, len, align);
                for index in 0..members {
                    let new = rng.bytes(len);
                    let new_buf = Strip::new(&mut rng, &new, align).buf;
                    let (old, p, q) = (case.data[index].fork(), &case.p_strip.buf, &case.q_strip.buf);
                    let before = p.fork();
                    match index % 3 {
                        0 => update_by(by, Some(p), q, index, &old, &new_buf),
                        1 => {
                            update_by(by, None, q, index, &old, &new_buf);
                            xor_in_by(by, p, &[old.clone(), new_buf.clone()])
                        }
                        // The two written at once, as when a reader still holds the old P.
                        _ => {
                            xor_by(by, p, &[p.clone(), old.clone(), new_buf.clone()]);
                            update_by(by, None, q, index, &old, &new_buf)
                        }
                    }
                    assert!(before.to_vec() == case.p, "{what}: somebody else's P");
                    case.data[index].write_at(0, &new);
                    case.truth[index] = new;
                    (case.p, case.q) = oracle(&case.truth, len);
                    case.check(&what)
                }
            }
        }
        if !cfg!(miri) {
            let many: Vec<_> = (0..600u32)
                .map(|n| Buf::from_slice(&[n as u8 ^ (n >> 3) as u8; 700]))
                .collect();
            let want = many.iter().fold(0, |sum, buf| sum ^ buf.byte(0));
            let into = Buf::zeroed(700);
            xor_by(by, &into, &many);
            assert_eq!(into.to_vec(), vec![want; 700]);
            xor_in_by(by, &into, &many);
            assert!(into.is_zero());
        }
    }
}

#[test]
fn a_scrub_finds_each_wrong_byte_and_who_it_is() {
    for by in Backend::available() {
        for members in all_members() {
            let seed = 3000 + members as u64;
            let mut rng = Rng::new(seed);
            for (len, align) in shapes(&mut rng, members) {
                let case = Case::new(&mut rng, members, len, align);
                let what = format!("{by:?}, {members} members of {len} bytes, seed {seed}");
                let both = case.stripe();
                let (only_p, only_q) = (Stripe { q: None, ..both }, Stripe { p: None, ..both });
                for stripe in [both, only_p, only_q] {
                    assert_eq!(stripe.check_by(by, 0), None, "{what}")
                }
                for _ in 0..8 {
                    let (at, wrong) = (rng.below(len as u64) as usize, 1 + rng.below(255) as u8);
                    let who = rng.below(members as u64 + 2) as usize;
                    let (p, q) = (&case.p_strip.buf, &case.q_strip.buf);
                    let (buf, suspect, dp, dq) = match who.checked_sub(members) {
                        Some(0) => (p, Suspect::P, wrong, 0),
                        Some(_) => (q, Suspect::Q, 0, wrong),
                        None => (&case.data[who], Suspect::Data(who), wrong, times_power(wrong, who)),
                    };
                    let right = buf.byte(at);
                    buf.write_at(at, &[right ^ wrong]);
                    let found = Mismatch { at, p: dp, q: dq };
                    assert_eq!(
                        both.check_by(by, rng.below(at as u64 + 1) as usize),
                        Some(found),
                        "{what}"
                    );
                    assert_eq!(both.check_by(by, at + 1), None, "{what}: behind it");
                    assert_eq!(found.suspect(members), Some(suspect), "{what}");
                    let one = |p, q| Some(Mismatch { at, p, q }).filter(|_| p | q != 0);
                    assert_eq!(only_p.check_by(by, 0), one(dp, 0), "{what}");
                    assert_eq!(only_q.check_by(by, 0), one(0, dq), "{what}");
                    buf.write_at(at, &[right])
                }
            }
        }
    }
    let nobody = Mismatch {
        at: 0,
        p: 1,
        q: times_power(1, 9),
    };
    assert_eq!((nobody.suspect(9), nobody.suspect(10)), (None, Some(Suspect::Data(9))));
}

/// Layouts of DDF count P and Q among the coefficients.
#[test]
fn an_empty_strip_is_zeros() {
    for by in Backend::available() {
        let mut rng = Rng::new(4000);
        let len = 3000;
        let mut truth: Vec<_> = (0..6).map(|_| rng.bytes(len)).collect();
        truth[2].fill(0);
        truth[5].fill(0);
        let (p, q) = oracle(&truth, len);
        let mut data: Vec<_> = truth.iter().map(|bytes| Buf::from_slice(bytes)).collect();
        data[2] = Buf::empty();
        data[5] = Buf::empty();
        let (p_buf, q_buf) = (Buf::alloc(len), Buf::alloc(len));
        let stripe = Stripe {
            data: &data,
            p: Some(&p_buf),
            q: Some(&q_buf),
        };
        stripe.recover_by(by, Lost::Both);
        assert!(p_buf.to_vec() == p && q_buf.to_vec() == q);
        data[1].fill(1);
        data[4].fill(2);
        stripe.recover_by(by, Lost::Two(1, 4));
        assert!(data[1].to_vec() == truth[1] && data[4].to_vec() == truth[4]);
        assert_eq!(stripe.check_by(by, 0), None);
    }
}

/// One that can be worked out by hand.
#[test]
fn a_known_answer() {
    let data = [0x01, 0x80, 0xff].map(|byte| Buf::from_slice(&[byte; 64]));
    let (p, q) = (Buf::alloc(64), Buf::alloc(64));
    let stripe = Stripe {
        data: &data,
        p: Some(&p),
        q: Some(&q),
    };
    for by in Backend::available() {
        stripe.recover_by(by, Lost::Both);
        // 2·0x80 = 0x1d; 4·0xff = 2·(0xfe ^ 0x1d) = 2·0xe3 = 0xc6 ^ 0x1d = 0xdb
        assert_eq!((p.to_vec(), q.to_vec()), (vec![0x7e; 64], vec![0x01 ^ 0x1d ^ 0xdb; 64]));
    }
}

#[test]
#[should_panic(expected = "of one length")]
fn strips_of_different_lengths_are_refused() {
    xor(&Buf::alloc(512), &[Buf::alloc(512), Buf::alloc(511)])
}
