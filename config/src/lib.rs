//! Configuration: the schema of the desired state in YAML, its checks, its way into the running target and back out of it.
//!
//! [`load`] reads a file strictly: an unknown key, a value of the wrong kind, a name that leads nowhere are refused with line, column, key and
//! what was expected. [`apply`](mod@apply) makes the running target agree with it, [`show`](mod@show) writes the running state in the same schema.
pub mod apply;
pub mod arrays;
mod check;
mod disks;
mod error;
mod load;
mod lower;
mod names;
mod nvme;
mod offers;
pub mod paths;
pub mod schema;
pub mod show;
pub mod units;

pub use apply::{Applied, Settling, apply};
pub use check::check;
pub use error::{ConfigError, Problem};
pub use load::{load, parse};
pub use names::{iqn, nqn};
pub use schema::Config;
pub use show::{show, to_yaml};
