//! A command slot as the session sees it: what arrived, what is missing, what is to be answered.
//!
//! ```text
//!   Free ─► Collecting (write data comes: immediate, unsolicited, solicited) ─► Ready ─► Running ─► Answering ─► Free
//!                         └─────────── abort: freed at once ──────────┘            └ abort: freed when it is done
//! ```
use crate::scsi::Outcome;
use reactor::{Buf, pool::Credit};
use spec::{iscsi::bhs::Direction, scsi::Cdb};

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody's.
    Free,
    /// Data for it is on its way.
    Collecting,
    /// Everything is there; its task has not taken it yet.
    Ready,
    /// Its task is at work.
    Running,
    /// The answer waits to be sent, or is being sent.
    Answering,
}

/// A burst of data the host is sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Target transfer tag of the R2T; [`NO_TAG`](spec::iscsi::bhs::NO_TAG) for unsolicited data.
    pub tag: u32,
    /// Where the next byte belongs.
    pub at: u32,
    /// Where the burst ends at the latest.
    pub end: u32,
    /// DataSN of the next PDU.
    pub sn: u32,
}

/// One command.
#[derive(Debug)]
pub struct Slot {
    /// Where it is in its life.
    pub state: State,
    /// Initiator task tag.
    pub itt: u32,
    /// Took no place in the CmdSN window.
    pub immediate: bool,
    /// The host's right to this command, which is its own again when the slot is free.
    pub credit: Option<Credit>,
    /// As on the wire.
    pub lun: [u8; 8],
    /// The command.
    pub cdb: Cdb,
    /// Where data goes.
    pub direction: Direction,
    /// Expected data transfer length.
    pub expected: u32,
    /// Write data.
    pub data: Buf,
    /// The burst that is coming.
    pub burst: Option<Burst>,
    /// What is wrong with the data; told when the burst has ended.
    pub failed: Option<spec::scsi::Sense>,
    /// Answer nothing.
    pub aborted: bool,
    /// R2Ts sent, then Data-In PDUs.
    pub sn: u32,
    /// Read data sent.
    pub sent: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Slot {
    /// Free.
    pub fn new() -> Self {
        Self {
            state: State::Free,
            itt: 0,
            immediate: false,
            credit: None,
            lun: [0; 8],
            cdb: Cdb([0; 16]),
            direction: Direction::None,
            expected: 0,
            data: Buf::empty(),
            burst: None,
            failed: None,
            aborted: false,
            sn: 0,
            sent: 0,
            outcome: None,
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}
