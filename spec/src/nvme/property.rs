//! Controller properties: what PCIe calls registers, here read and written by fabrics commands (Base 2.0d, 3.1.3).

/// Offset of CAP (8 bytes).
pub const CAP: u32 = 0x00;
/// Offset of VS (4 bytes).
pub const VS: u32 = 0x08;
/// Offset of CC (4 bytes).
pub const CC: u32 = 0x14;
/// Offset of CSTS (4 bytes).
pub const CSTS: u32 = 0x1c;
/// Offset of NSSR (4 bytes).
pub const NSSR: u32 = 0x20;
/// Offset of CRTO (4 bytes).
pub const CRTO: u32 = 0x68;

/// Version 2.0.0, in the form of VS and of Identify Controller's VER.
pub const VERSION_2_0: u32 = 0x0002_0000;

/// CAP: what the controller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// MQES: entries of the longest queue, 2 to 65,536.
    pub max_queue_entries: u32,
    /// TO: longest time in 500 ms steps until CSTS.RDY follows CC.EN.
    pub timeout_500ms: u8,
    /// CSS bit 6: Identify and CC.CSS speak about I/O command sets.
    pub command_sets: bool,
    /// NSSRS: the NVM subsystem can be reset.
    pub subsystem_reset: bool,
}

impl Cap {
    /// CAP as the property's value. Queues are contiguous (CQR), the NVM command set is there (CSS bit 0), a host page
    /// is 4 KiB, and the controller knows the mode "ready with media" (CRMS.CRWMS), which 2.0 demands.
    pub fn value(self) -> u64 {
        let css = 1 | u64::from(self.command_sets) << 6;
        u64::from(self.max_queue_entries.saturating_sub(1).min(0xffff))
            | 1 << 16
            | u64::from(self.timeout_500ms) << 24
            | u64::from(self.subsystem_reset) << 36
            | css << 37
            | 1 << 59
    }

    /// Reads the parts back.
    pub fn from_value(v: u64) -> Self {
        Self {
            max_queue_entries: (v as u32 & 0xffff) + 1,
            timeout_500ms: (v >> 24) as u8,
            command_sets: v >> 43 & 1 != 0,
            subsystem_reset: v >> 36 & 1 != 0,
        }
    }
}

/// CC: what the host wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cc(pub u32);

impl Cc {
    /// EN.
    pub fn enabled(self) -> bool {
        self.0 & 1 != 0
    }
    /// CSS: 0 NVM command set, 6 all supported sets, 7 admin only.
    pub fn command_set(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }
    /// MPS: memory page size is 2^(12 + MPS).
    pub fn page_shift(self) -> u8 {
        (self.0 >> 7 & 0xf) as u8
    }
    /// AMS: 0 is round robin.
    pub fn arbitration(self) -> u8 {
        (self.0 >> 11 & 7) as u8
    }
    /// SHN: 1 normal, 2 abrupt shutdown.
    pub fn shutdown(self) -> u8 {
        (self.0 >> 14 & 3) as u8
    }
    /// IOSQES: log2 of a submission entry, 6 when set.
    pub fn sqes(self) -> u8 {
        (self.0 >> 16 & 0xf) as u8
    }
    /// IOCQES: log2 of a completion entry, 4 when set.
    pub fn cqes(self) -> u8 {
        (self.0 >> 20 & 0xf) as u8
    }
    /// The value hosts write to start a controller: enabled, 64-byte and 16-byte entries.
    pub fn start() -> Self {
        Self(1 | 6 << 16 | 4 << 20)
    }
}

/// CSTS.RDY.
pub const CSTS_READY: u32 = 1;
/// CSTS.NSSRO: an NVM subsystem reset has happened; cleared by writing it.
pub const CSTS_SUBSYSTEM_RESET: u32 = 1 << 4;
/// NSSR: what a host writes to reset the NVM subsystem, "NVMe".
pub const NSSR_RESET: u32 = 0x4e56_4d65;
/// CSTS.CFS: fatal error.
pub const CSTS_FATAL: u32 = 1 << 1;
/// CSTS.SHST: shutdown processing complete.
pub const CSTS_SHUTDOWN_DONE: u32 = 2 << 2;
/// CSTS.SHST: shutdown processing under way.
pub const CSTS_SHUTDOWN_BUSY: u32 = 1 << 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_has_these_bits() {
        let cap = Cap {
            max_queue_entries: 128,
            timeout_500ms: 30,
            command_sets: true,
            subsystem_reset: false,
        };
        assert_eq!(cap.value(), 0x0800_0820_1e01_007f);
        assert_eq!(Cap::from_value(cap.value()), cap);
        let cap = Cap {
            subsystem_reset: true,
            ..cap
        };
        assert_eq!(cap.value(), 0x0800_0830_1e01_007f);
        assert_eq!(Cap::from_value(cap.value()), cap);
    }

    #[test]
    fn cc_has_these_bits() {
        let cc = Cc::start();
        assert_eq!(cc.0, 0x0046_0001);
        assert!(cc.enabled() && cc.sqes() == 6 && cc.cqes() == 4 && cc.shutdown() == 0 && cc.page_shift() == 0);
        assert_eq!(Cc(0x0046_4061).shutdown(), 1);
        assert_eq!(Cc(0x0046_4061).command_set(), 6);
    }
}
