//! The Diffie-Hellman groups of RFC 7919, appendix A: generator 2 in a safe-prime group.
use crypto_bigint::{
    BoxedUint, Limb, NonZero, Odd, Resize,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use spec::nvme::auth::GroupId;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// Bits of our exponents: twice the strength of the largest group, and more (RFC 7919, 5.2).
const EXPONENT: u32 = 512;

/// The prime of a group of `bits` bits: p = 2^b - 2^(b-64) + (⌊2^(b-130) e⌋ + x) 2^64 - 1.
fn prime(bits: u32, x: u64) -> BoxedUint {
    // e is the sum of 1/k!; 64 bits more than wanted swallow what the divisions cut off.
    const GUARD: u32 = 64;
    let width = bits + 2 * GUARD;
    let one = BoxedUint::one_with_precision(width);
    let mut term = one.shl_vartime(bits - 130 + GUARD).unwrap_or_else(|| one.clone());
    let mut e = term.clone();
    for k in 1.. {
        let Some(divisor) = NonZero::new(Limb(k)).into_option() else {
            break;
        };
        term = term.div_rem_limb(divisor).0;
        if bool::from(term.is_zero()) {
            break;
        }
        e = e.wrapping_add(&term);
    }
    let shifted = |n: &BoxedUint, by: u32| n.shl_vartime(by).unwrap_or_else(|| n.clone());
    let middle = e.shr_vartime(GUARD).unwrap_or_else(|| e.clone());
    let middle = shifted(&middle.wrapping_add(BoxedUint::from(x).resize(width)), 64);
    shifted(&one, bits)
        .wrapping_sub(shifted(&one, bits - 64))
        .wrapping_add(&middle)
        .wrapping_sub(&one)
        .resize(bits)
}

/// A group, ready for powers. Made once.
fn params(group: GroupId) -> Option<&'static BoxedMontyParams> {
    static MADE: [OnceLock<Option<BoxedMontyParams>>; 5] = [const { OnceLock::new() }; 5];
    let (at, x) = match group {
        GroupId::Null => return None,
        GroupId::Ffdhe2048 => (0, 560_316),
        GroupId::Ffdhe3072 => (1, 2_625_351),
        GroupId::Ffdhe4096 => (2, 5_736_041),
        GroupId::Ffdhe6144 => (3, 15_705_020),
        GroupId::Ffdhe8192 => (4, 10_965_728),
    };
    MADE[at]
        .get_or_init(|| {
            let odd = Odd::new(prime(group.bits(), x)).into_option()?;
            Some(BoxedMontyParams::new(odd))
        })
        .as_ref()
}

/// An exponent of ours, for one exchange.
pub struct Ephemeral {
    group: GroupId,
    exponent: Zeroizing<[u8; EXPONENT as usize / 8]>,
}

impl Ephemeral {
    /// A fresh one; `None` for the null group, or if the system has no random numbers.
    pub fn new(group: GroupId) -> Option<Self> {
        params(group)?;
        let mut exponent = Zeroizing::new([0; EXPONENT as usize / 8]);
        getrandom::fill(&mut *exponent).ok()?;
        Some(Self { group, exponent })
    }

    /// Our public value, as long as the modulus, big-endian.
    pub fn value(&self) -> Option<Vec<u8>> {
        self.power(&BoxedUint::from(2u64).resize(self.group.bits()))
            .map(|value| value.to_vec())
    }

    /// The shared secret with whoever sent `theirs`; `None` if that is no value of the group or one that gives the secret away.
    pub fn shared(&self, theirs: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let bits = self.group.bits();
        if theirs.len() * 8 != bits as usize {
            return None;
        }
        let theirs = BoxedUint::from_be_slice(theirs, bits).ok()?;
        let one = BoxedUint::one_with_precision(bits);
        let last = params(self.group)?.modulus().as_ref().wrapping_sub(&one);
        // 0, 1 and p-1 (and what is no residue at all) lead to secrets that everybody knows (RFC 7919, 5.1).
        match theirs > one && theirs < last {
            true => self.power(&theirs),
            false => None,
        }
    }

    fn power(&self, base: &BoxedUint) -> Option<Zeroizing<Vec<u8>>> {
        let params = params(self.group)?;
        let exponent = BoxedUint::from_be_slice(&*self.exponent, EXPONENT).ok()?;
        let power = BoxedMontyForm::new(base.clone(), params).pow_bounded_exp(&exponent, EXPONENT);
        Some(Zeroizing::new(power.retrieve().to_be_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(group: GroupId) -> Vec<u8> {
        params(group).unwrap().modulus().as_ref().to_be_bytes().to_vec()
    }

    #[test]
    fn primes_are_those_of_the_appendix() {
        for group in GroupId::ALL.into_iter().skip(1) {
            let p = modulus(group);
            assert_eq!(p.len() * 8, group.bits() as usize);
            // All begin with e and end with 64 ones.
            assert_eq!(p[..16], 0xffff_ffff_ffff_ffff_adf8_5458_a2bb_4a9a_u128.to_be_bytes());
            assert_eq!(p[p.len() - 8..], [0xff; 8]);
        }
        let p = modulus(GroupId::Ffdhe2048);
        assert_eq!(p[240..248], 0x886b_4238_6128_5c97_u64.to_be_bytes());
    }

    /// Fermat's test of p and of (p - 1) / 2: another x, or one wrong bit, would not pass it.
    #[test]
    fn moduli_are_safe_primes() {
        for group in [GroupId::Ffdhe2048, GroupId::Ffdhe3072] {
            let bits = group.bits();
            let p = params(group).unwrap().modulus().as_ref().clone();
            let one = BoxedUint::one_with_precision(bits);
            let q = p.wrapping_sub(&one).shr_vartime(1).unwrap();
            for n in [p.clone(), q] {
                let params = BoxedMontyParams::new(Odd::new(n.clone()).unwrap());
                let three = BoxedMontyForm::new(BoxedUint::from(3u64).resize(bits), &params);
                assert_eq!(three.pow(&n.wrapping_sub(&one)).retrieve(), one, "{group:?}");
            }
        }
    }

    #[test]
    fn two_sides_come_to_one_secret() {
        for group in [GroupId::Ffdhe2048, GroupId::Ffdhe8192] {
            let (a, b) = (Ephemeral::new(group).unwrap(), Ephemeral::new(group).unwrap());
            let (of_a, of_b) = (a.value().unwrap(), b.value().unwrap());
            assert_eq!(a.shared(&of_b).unwrap(), b.shared(&of_a).unwrap());
            assert_ne!(of_a, of_b);
        }
        assert!(Ephemeral::new(GroupId::Null).is_none());
    }

    #[test]
    fn values_that_give_the_secret_away_are_refused() {
        let a = Ephemeral::new(GroupId::Ffdhe2048).unwrap();
        let mut one = vec![0; 256];
        assert!(a.shared(&one).is_none());
        one[255] = 1;
        assert!(a.shared(&one).is_none());
        let mut last = modulus(GroupId::Ffdhe2048);
        assert!(a.shared(&last).is_none());
        last[255] -= 1;
        assert!(a.shared(&last).is_none());
        assert!(a.shared(&[2; 255]).is_none());
    }
}
