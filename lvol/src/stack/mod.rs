//! Stacks: what may stand on what, in which order, and why not.
//!
//! Two kinds of rules. What *kinds* of things go together is a table ([`rules`]): class, weight and exclusiveness of each, from which the default order
//! follows and every refusal has a name (`ashlar plan stack`). What a wish does with *these* disks is looked at when it comes ([`reach`]): no block may be
//! reached in two ways, for what is written in one place would appear in another.
pub mod reach;
pub mod rules;

pub use reach::distinct;
pub use rules::{Advice, Broken, Feature, Layer, Rule, Rules};
