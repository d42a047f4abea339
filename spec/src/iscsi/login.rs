//! Login: its stages and how it ends (RFC 7143 6.3, 11.12, 11.13).
use super::bhs::{LoginRequest, LoginResponse};

/// A stage of the login phase, as the two-bit CSG and NSG fields have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Who are you?
    Security = 0,
    /// How shall we talk?
    Operational = 1,
    /// Talk.
    FullFeature = 3,
}

impl Stage {
    /// From the two bits; 2 is reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Stage::Security),
            1 => Some(Stage::Operational),
            3 => Some(Stage::FullFeature),
            _ => None,
        }
    }
}

/// The T bit: ready to go to the next stage.
pub const TRANSIT: u8 = 0x80;

impl LoginRequest {
    /// Ready to go to the next stage.
    pub fn transit(&self) -> bool {
        self.flags & TRANSIT != 0
    }

    /// The text goes on in the next request.
    pub fn continues(&self) -> bool {
        self.flags & super::bhs::CONTINUE != 0
    }

    /// Current stage.
    pub fn current(&self) -> Option<Stage> {
        Stage::from_bits(self.flags >> 2)
    }

    /// Next stage; meaningful with T only.
    pub fn next(&self) -> Option<Stage> {
        Stage::from_bits(self.flags)
    }
}

/// Builds the flags byte of a login PDU.
pub const fn flags(current: Stage, next: Option<Stage>) -> u8 {
    let transit = match next {
        Some(next) => TRANSIT | next as u8,
        None => 0,
    };
    transit | (current as u8) << 2
}

/// Status class and detail (11.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum LoginStatus {
    Success = 0x0000,
    MovedTemporarily = 0x0101,
    MovedPermanently = 0x0102,
    InitiatorError = 0x0200,
    AuthenticationFailure = 0x0201,
    AuthorizationFailure = 0x0202,
    NotFound = 0x0203,
    TargetRemoved = 0x0204,
    UnsupportedVersion = 0x0205,
    TooManyConnections = 0x0206,
    MissingParameter = 0x0207,
    CannotInclude = 0x0208,
    SessionTypeNotSupported = 0x0209,
    NoSession = 0x020a,
    InvalidDuringLogin = 0x020b,
    TargetError = 0x0300,
    ServiceUnavailable = 0x0301,
    OutOfResources = 0x0302,
}

impl LoginStatus {
    /// The two bytes of a Login Response.
    pub const fn class_detail(self) -> (u8, u8) {
        ((self as u16 >> 8) as u8, self as u16 as u8)
    }

    /// Writes itself into a response.
    pub fn set(self, response: &mut LoginResponse) {
        (response.status_class, response.status_detail) = self.class_detail();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_status_have_their_bits() {
        assert_eq!(flags(Stage::Operational, Some(Stage::FullFeature)), 0x87);
        assert_eq!(flags(Stage::Security, None), 0);
        let request = LoginRequest {
            flags: 0x87,
            ..Default::default()
        };
        assert!(request.transit() && !request.continues());
        assert_eq!(
            (request.current(), request.next()),
            (Some(Stage::Operational), Some(Stage::FullFeature))
        );
        assert_eq!(Stage::from_bits(2), None);
        let mut response = LoginResponse::default();
        LoginStatus::NotFound.set(&mut response);
        assert_eq!((response.status_class, response.status_detail), (2, 3));
    }
}
