//! Arrays with redundancy: mirrors, RAID-4, 5, 6 and 10, on disk as Linux MD has them ([`spec::md`]). What stripes and concatenates without redundancy is no
//! array here but a table of runs.
//!
//! ```text
//!   shape     which block is where                      members   who is there, and how far it holds what it should
//!   mirror    I/O of mirrors and RAID-10                intent    what may differ between members: the write-intent bitmap
//!   stripes   I/O of RAID-4, 5 and 6                    record    superblocks: who belongs to it, who failed
//!   bands     their writes                              care      resync, rebuild, check
//!   gather    writes of one stripe, put together        array     all of these, and what becomes of a member that fails
//!   locks     ranges that one at a time has             pace      how fast it is cared for, and when it yields to hosts
//!   grow      members give more than before
//!   log       what is written before rows are: partial, redo                     plan, handle   what it is built from, and what others have of it
//!   returning members that were away                       replacing   members that others replace
//!   lacking   blocks that members do not have, and their bad-block logs
//! ```
//!
//! The order of things is what makes it safe: a region is noted before it is written; who failed is recorded before a write that it lacks is acknowledged; a region
//! is forgotten only when the members' caches were emptied after its last write.
mod array;
mod bands;
mod care;
mod each;
mod gather;
mod grow;
mod handle;
mod intent;
mod lacking;
mod locks;
mod log;
mod member;
mod mirror;
mod pace;
mod partial;
mod plan;
mod pool;
mod record;
mod redo;
mod replacing;
mod returning;
mod sequel;
mod shape;
mod stripes;

pub(crate) use array::{Making, State};
pub use care::{Progress, Work};
pub use handle::{Array, Command, MemberReport, Report};
pub(crate) use intent::{Intent, Place};
pub(crate) use log::Log;
pub(crate) use member::Member;
pub use member::{MemberState, Parts};
pub(crate) use mirror::cost;
pub(crate) use partial::Partial;
pub use plan::{Plan, Seat};
pub(crate) use record::{Label, Record};
pub(crate) use redo::Redo;
pub use shape::{Places, Shape};
pub(crate) use stripes::{split, zeros};
