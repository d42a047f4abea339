//! Who talks to whom: the identity of an I_T nexus.
use spec::scsi::TransportId;
use std::fmt;

/// An initiator port and a target port (SAM-5 4.7.4). It outlives its sessions: reservations are remembered by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId {
    /// Initiator name and ISID.
    pub initiator: TransportId,
    /// Name of the target.
    pub target: String,
    /// Portal group tag, which is the relative target port identifier.
    pub port: u16,
}

/// The names of both ports, as in RFC 7143 4.4.
impl fmt::Display for NexusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {},t,0x{:04x}", self.initiator, self.target, self.port)
    }
}
