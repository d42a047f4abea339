//! Feature identifiers and the words in them (Base 2.0d, 5.27; NVM 1.0d, 4.1.3).

/// Feature identifiers this project knows.
pub mod fid {
    #![allow(missing_docs)]
    pub const ARBITRATION: u8 = 0x01;
    pub const POWER_MANAGEMENT: u8 = 0x02;
    pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
    pub const ERROR_RECOVERY: u8 = 0x05;
    pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
    pub const NUMBER_OF_QUEUES: u8 = 0x07;
    pub const INTERRUPT_COALESCING: u8 = 0x08;
    pub const INTERRUPT_VECTOR: u8 = 0x09;
    pub const WRITE_ATOMICITY: u8 = 0x0a;
    pub const ASYNC_EVENT_CONFIG: u8 = 0x0b;
    pub const TIMESTAMP: u8 = 0x0e;
    pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
    pub const HOST_BEHAVIOR: u8 = 0x16;
    pub const IO_COMMAND_SET_PROFILE: u8 = 0x19;
    pub const HOST_IDENTIFIER: u8 = 0x81;
    pub const RESERVATION_MASK: u8 = 0x82;
    pub const RESERVATION_PERSISTENCE: u8 = 0x83;
}

/// SEL of Get Features (CDW10 bits 10:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The value in force.
    Current,
    /// What a fresh controller starts with.
    Default,
    /// What survives a reset; without saving it is the default.
    Saved,
    /// Bit 0 saveable, bit 1 namespace specific, bit 2 changeable.
    Capabilities,
}

impl Select {
    /// Reads SEL; `None` for reserved values.
    pub fn of(cdw10: u32) -> Option<Self> {
        match cdw10 >> 8 & 7 {
            0 => Some(Self::Current),
            1 => Some(Self::Default),
            2 => Some(Self::Saved),
            3 => Some(Self::Capabilities),
            _ => None,
        }
    }
}

/// Bit 1 of a capabilities answer: each namespace has its own.
pub const CAPABILITY_PER_NAMESPACE: u32 = 1 << 1;
/// Bit 2 of a capabilities answer: the feature can be set.
pub const CAPABILITY_CHANGEABLE: u32 = 1 << 2;

/// Asynchronous Event Configuration: tell me about changed namespaces (bit 8).
pub const AEN_NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
/// Asynchronous Event Configuration: tell me about changed ANA states (bit 11).
pub const AEN_ANA: u32 = 1 << 11;
/// Asynchronous Event Configuration: tell me about changed discovery log pages (bit 31).
pub const AEN_DISCOVERY_LOG: u32 = 1 << 31;

/// Result of an Asynchronous Event Request (Base 2.0d, figure 145): type, information and the log page to read.
pub const fn async_event(kind: u8, info: u8, log: u8) -> u32 {
    kind as u32 | (info as u32) << 8 | (log as u32) << 16
}

/// Event: the changed namespace list has entries.
pub const EVENT_NAMESPACE_CHANGED: u32 = async_event(2, 0x00, super::log::page::CHANGED_NAMESPACES);
/// Event: the ANA log page changed.
pub const EVENT_ANA_CHANGED: u32 = async_event(2, 0x03, super::log::page::ANA);
/// Event: the reservation notification log has a page.
pub const EVENT_RESERVATION: u32 = async_event(6, 0, super::log::page::RESERVATION);
/// Event: the discovery log page changed.
pub const EVENT_DISCOVERY_CHANGED: u32 = async_event(2, 0xf0, super::log::page::DISCOVERY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_these_words() {
        assert_eq!(EVENT_NAMESPACE_CHANGED, 0x0004_0002);
        assert_eq!(EVENT_RESERVATION, 0x0080_0006);
        assert_eq!(EVENT_ANA_CHANGED, 0x000c_0302);
        assert_eq!(EVENT_DISCOVERY_CHANGED, 0x0070_f002);
        assert_eq!(Select::of(0x300), Some(Select::Capabilities));
        assert_eq!(Select::of(0x400), None);
    }
}
