//! How a command ended: what a transport has to tell its host.
use reactor::Buf;
use spec::scsi::{Sense, Status};

/// Which way data went, for the transport's residual counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The command has no data.
    Nothing,
    /// To the host.
    In,
    /// From the host.
    Out,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Status byte.
    pub status: Status,
    /// With CHECK CONDITION, why.
    pub sense: Option<Sense>,
    /// The unit's hosts want sense data in descriptor format.
    pub descriptor_sense: bool,
    /// For the host; it may be longer than the host takes.
    pub data: Option<Buf>,
    /// Which way data went.
    pub moved: Moved,
    /// Bytes the command itself would move, whatever the host expected.
    pub wanted: u64,
}

impl Outcome {
    /// GOOD, without data.
    pub fn good() -> Self {
        Self::status(Status::Good)
    }

    /// A status without data or sense.
    pub fn status(status: Status) -> Self {
        Self {
            status,
            sense: None,
            descriptor_sense: false,
            data: None,
            moved: Moved::Nothing,
            wanted: 0,
        }
    }

    /// CHECK CONDITION.
    pub fn failed(sense: Sense) -> Self {
        Self {
            sense: Some(sense),
            ..Self::status(Status::CheckCondition)
        }
    }

    /// GOOD with a parameter list, of which the host gets as much as its ALLOCATION LENGTH says.
    pub fn list(list: &[u8], room: usize) -> Self {
        let cut = &list[..list.len().min(room)];
        Self {
            moved: Moved::In,
            wanted: cut.len() as u64,
            data: Some(Buf::from_slice(cut)),
            ..Self::good()
        }
    }
}
