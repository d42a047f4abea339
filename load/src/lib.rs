//! Hosts of our own. [`nvme`] is an NVMe/TCP initiator built on the same codecs as the target, for tests and for load;
//! [`iscsi`] is a small iSCSI one. Both drive a queue as fast as it goes by the same [`plan`], and [`report`] says how
//! fast that was.
//!
//! A load generator must not be the bottleneck: it submits in batches with one write, takes as many answers as one read
//! brings, and never looks at data it does not verify.
pub mod iscsi;
pub mod nvme;
pub mod plan;
pub mod report;

use std::io::{self, ErrorKind, Read};

/// Reads what has come. A socket with a time-out does not go on by itself after a signal, so it is asked again.
fn receive(stream: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            got => return got,
        }
    }
}
