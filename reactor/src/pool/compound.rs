//! Several kinds in one step: what a work item needs, all of it, before it starts.
use super::{
    child::{Reservation, Rights},
    ledger::PoolError,
};

/// Kinds in one compound pool.
const KINDS: usize = 8;

/// A set of rights of different kinds that are reserved together.
///
/// They are taken one kind after another in one order for the whole process, that in which the bases were made (Havender), so that no two
/// work items can each hold what the other waits for.
pub struct Compound {
    /// In the fixed order, with the place in the caller's.
    parts: Vec<Part>,
}

struct Part {
    rights: Rights,
    n: u32,
    place: usize,
}

impl Compound {
    /// Needs `n` of each of these. Fails if one of them is beyond its pool's deadlock threshold.
    ///
    /// # Panics
    /// With more than eight kinds, or the same base twice: a mistake in the program.
    pub fn new(needs: &[(&Rights, u32)]) -> Result<Compound, PoolError> {
        assert!(needs.len() <= KINDS, "{} kinds in a compound pool", needs.len());
        let mut parts = Vec::with_capacity(needs.len());
        for (place, (rights, n)) in needs.iter().enumerate() {
            let deadlock = rights.config().deadlock;
            if *n > deadlock {
                return Err(PoolError::TooLarge { wanted: *n, deadlock });
            }
            parts.push(Part {
                rights: (*rights).clone(),
                n: *n,
                place,
            });
        }
        parts.sort_by_key(|part| part.rights.ledger().order());
        let twice = parts
            .windows(2)
            .any(|two| two[0].rights.ledger().order() == two[1].rights.ledger().order());
        assert!(!twice, "one base twice in a compound pool");
        Ok(Compound { parts })
    }

    /// The right to all of them, once there is. Dropping the future gives up what it has.
    ///
    /// Fails only if a pool was tuned below what is needed here.
    pub async fn reserve(&self) -> Result<Held, PoolError> {
        let mut held = Held::default();
        for part in &self.parts {
            held.parts[part.place] = Some(part.rights.reserve(part.n).await?);
        }
        Ok(held)
    }
    /// The right to all of them, if all can be had at once.
    pub fn try_reserve(&self) -> Option<Held> {
        let mut held = Held::default();
        for part in &self.parts {
            held.parts[part.place] = Some(part.rights.try_reserve(part.n)?);
        }
        Some(held)
    }
}

/// The right to objects of several kinds. Dropping it unreserves all.
#[derive(Debug, Default)]
#[must_use = "dropping a reservation gives it up"]
pub struct Held {
    parts: [Option<Reservation>; KINDS],
}

impl Held {
    /// The reservation of the `i`-th kind, in the order given to [`Compound::new`].
    pub fn part(&mut self, i: usize) -> Option<&mut Reservation> {
        self.parts.get_mut(i)?.as_mut()
    }
}
