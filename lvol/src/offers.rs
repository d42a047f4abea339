//! Who offers volumes to hosts because a rule says so ("every volume of this group"), and can take such an offer back when the volume has to go.
//!
//! A volume that somebody has offered by name is that somebody's, and is not taken away. One that is offered by rule follows what is on the disks:
//! as long as no host is connected to it, a change may withdraw it; what is still there afterwards is offered again, by the same rule.
use crate::plan::carry::Doing;

/// The front ends, as far as rules are concerned.
pub trait Offers: Send + Sync {
    /// True if a rule offers this volume.
    fn offers(&self, volume: &str) -> bool;
    /// A host that is connected to it, in words.
    fn host(&self, volume: &str) -> Option<String>;
    /// Takes the offer back.
    fn withdraw<'a>(&'a self, volume: &'a str) -> Doing<'a>;
}
