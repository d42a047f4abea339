//! What the benches share, and what holds the house's rules on costs.
pub mod iscsi;
pub mod stack;
