//! Results that more than one method gives, in SPDK's shapes.

pub(crate) mod bdev;
pub(crate) mod iostat;
