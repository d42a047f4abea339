//! Bytes only, no I/O: units and ids, on-disk formats, wire formats.
//!
//! One file per format. A parser checks once and then cannot fail; nothing here allocates in proportion to what a
//! stranger claims, and nothing here panics on any input.
pub mod amiga;
pub mod apple;
pub mod atari;
pub mod bsd;
pub mod extent;
pub mod gpt;
pub mod iscsi;
pub mod link;
pub mod lvm2;
pub mod magic;
pub mod mbr;
pub mod md;
pub mod nvme;
pub mod scsi;
pub mod sgi;
pub mod spans;
pub mod sun;
pub mod units;

pub use extent::Extent;
pub use spans::Spans;
pub use units::{BlockRange, Lba};
