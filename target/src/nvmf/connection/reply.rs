//! What a command ends with.
use spec::nvme::Status;

/// What a command ends with.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Status.
    pub status: Status,
    /// DW0 and DW1 of the completion.
    pub result: u64,
    /// Bytes of the slot's buffer that go to the host.
    pub data: u32,
    /// No answer yet: somebody else gives it (asynchronous events).
    pub parked: bool,
}

impl Reply {
    /// Success.
    pub fn done() -> Self {
        Self::word(0)
    }
    /// Success with a result.
    pub fn word(result: u64) -> Self {
        Self {
            status: Status::SUCCESS,
            result,
            data: 0,
            parked: false,
        }
    }
    /// Success with data.
    pub fn data(len: u32) -> Self {
        Self {
            data: len,
            ..Self::done()
        }
    }
    /// Failure.
    pub fn fail(status: Status) -> Self {
        Self { status, ..Self::done() }
    }
    /// Failure with a result that says more.
    pub fn fail_with(status: Status, result: u32) -> Self {
        Self {
            status,
            ..Self::word(result.into())
        }
    }
    /// Later.
    pub fn parked() -> Self {
        Self {
            parked: true,
            ..Self::done()
        }
    }
}
