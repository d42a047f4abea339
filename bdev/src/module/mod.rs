//! Modules: run-time block transformations, one file each. The list is explicit (DESIGN D10): [`Table`](crate::Table) names
//! them and `blueprint` builds them.
pub mod crypt;
pub mod delay;
pub mod error;
pub mod linear;
pub mod raid;
pub mod read_only;
pub mod stats;
pub mod stripe;
