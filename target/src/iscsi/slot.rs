//! A command slot as the session sees it: what arrived, what is missing, what is to be answered.
//!
//! ```text
//!   Free ─► Collecting (write data comes: immediate, unsolicited, solicited) ─► Ready ─► Running ─► Answering ─► Free
//!       └────── abort: freed at once ──────┘                  └ abort: freed when it is done
//! ```
use crate::scsi::Outcome;
use reactor::{Buf, pool::Credit};
use spec::{iscsi::bhs::Direction, scsi::Cdb};

/// R2Ts a command may have outstanding, at most.
pub const MAX_R2T: u16 = 4;

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

/// Who has aborted a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// Its own host, which hears no more of it.
    Host,
    /// Another one: it ends with TASK ABORTED (control mode page, TAS = 1).
    Other,
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
    /// Somebody wants it to end, and what its host is told then.
    pub aborted: Option<Aborted>,
    /// Its CmdSN is not due (sessions with several connections): it collects data, and nothing is asked for or done.
    pub early: bool,
    /// All that its host sends unasked has come.
    pub gathered: bool,
    /// R2Ts sent, then Data-In PDUs.
    pub sn: u32,
    /// R2Ts answered.
    pub served: u32,
    /// Target transfer tags of the R2Ts outstanding, by R2TSN.
    pub tags: [u32; MAX_R2T as usize],
    /// Where the next R2T to be queued, and the next to be sent, begins.
    pub asked: (u32, u32),
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
            aborted: None,
            early: false,
            gathered: false,
            sn: 0,
            served: 0,
            tags: [0; MAX_R2T as usize],
            asked: (0, 0),
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
