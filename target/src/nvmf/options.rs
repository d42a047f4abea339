//! What the control plane says and what it gets back: plain data, one struct for each noun of the `nvmf_*` methods.
use super::{
    auth::{AuthReport, Offer},
    subsystem::HostKeys,
};
use spec::nvme::ana::AnaState;
use std::net::SocketAddr;
use uuid::Uuid;

/// ONCS: reservations.
pub(super) const ONCS_RESERVATIONS: u16 = 1 << 5;

/// The only target there is; `tgt_name` parameters must be absent or say this.
pub const TARGET_NAME: &str = "nvmf_tgt";

/// Settings of the TCP transport. Defaults are the ones hosts and control planes know from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Entries of the longest I/O queue.
    pub max_queue_depth: u32,
    /// I/O queues a controller grants.
    pub max_io_qpairs_per_ctrlr: u16,
    /// Bytes of data a command capsule may carry.
    pub in_capsule_data_size: u32,
    /// Bytes of the largest transfer; a power of two times 4 KiB. Becomes MDTS and MAXH2CDATA.
    pub max_io_size: u32,
    /// Entries of the longest admin queue.
    pub max_aq_depth: u32,
    /// Answer reads with the success flag instead of a response capsule, where the host has given up SQ flow control.
    pub c2h_success: bool,
    /// Granularity of the keep-alive timer in 100 ms.
    pub kas: u16,
    /// Shortest keep-alive timeout in milliseconds; shorter wishes are raised to it, and all to the next step of `kas`.
    pub min_kato: u32,
    /// Seconds after which an Abort gives up.
    pub abort_timeout_sec: u32,
    /// Connections to a port before connect that may wait at once; the oldest goes when one more comes.
    pub max_unassociated: usize,
    /// Connections in all.
    pub max_connections: usize,
    /// Optional commands that are neither announced nor carried out: bits of ONCS.
    pub masked_oncs: u16,
    /// Fused operations that are not: bits of FUSES.
    pub masked_fuses: u16,
    /// Kept and reported for control planes that set them; nothing here depends on them.
    pub reported: ReportedOptions,
}

/// Transport options that other targets need and this one only remembers: buffers come from one pool of pages, sockets
/// have no priorities yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ReportedOptions {
    pub io_unit_size: u32,
    pub num_shared_buffers: u32,
    pub buf_cache_size: u32,
    pub iobuf_small_cache_size: u32,
    pub iobuf_large_cache_size: u32,
    pub sock_priority: u32,
    pub ack_timeout: u32,
    pub data_wr_pool_size: u32,
    pub dif_insert_or_strip: bool,
    pub zcopy: bool,
    pub disable_command_passthru: bool,
}

impl TransportOptions {
    /// The keep-alive timeout that a host gets that asks for this one; 0 is none.
    pub fn keep_alive_ms(&self, wanted: u32) -> u32 {
        match wanted {
            0 => 0,
            // A granularity of 0 says that there is none worth telling.
            ms => {
                let step = u64::from(self.kas.max(1)) * 100;
                let ms = u64::from(ms.max(self.min_kato)).next_multiple_of(step);
                ms.min(u64::from(u32::MAX) / step * step) as u32
            }
        }
    }
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            max_queue_depth: 128,
            max_io_qpairs_per_ctrlr: 127,
            in_capsule_data_size: 4096,
            max_io_size: 128 << 10,
            max_aq_depth: 128,
            c2h_success: true,
            kas: 100,
            min_kato: 10_000,
            abort_timeout_sec: 1,
            max_unassociated: 256,
            max_connections: 4096,
            masked_oncs: 0,
            masked_fuses: 0,
            reported: ReportedOptions::default(),
        }
    }
}

impl Default for ReportedOptions {
    fn default() -> Self {
        Self {
            io_unit_size: 128 << 10,
            num_shared_buffers: 511,
            buf_cache_size: u32::MAX,
            iobuf_small_cache_size: u32::MAX,
            iobuf_large_cache_size: u32::MAX,
            sock_priority: 0,
            ack_timeout: 0,
            data_wr_pool_size: 0,
            dif_insert_or_strip: false,
            zcopy: false,
            disable_command_passthru: false,
        }
    }
}

/// A new subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemConfig {
    /// Its NQN.
    pub nqn: String,
    /// At most 20 printable ASCII characters; `None` derives a stable one from the NQN.
    pub serial_number: Option<String>,
    /// At most 40 printable ASCII characters; `None` is [`SubsystemConfig::MODEL`].
    pub model_number: Option<String>,
    /// Largest namespace id.
    pub max_namespaces: u32,
    /// Any host may connect.
    pub allow_any_host: bool,
    /// Hosts are told how good the way through each listener is (ANA); otherwise all are alike.
    pub ana_reporting: bool,
    /// Smallest controller id.
    pub min_cntlid: u16,
    /// Largest controller id.
    pub max_cntlid: u16,
    /// Blocks of one range of Dataset Management that hosts are told; 0 does not limit.
    pub dmrsl: u32,
    /// Largest Write Zeroes is 2^wzsl pages of 4 KiB; 0 does not limit.
    pub wzsl: u8,
    /// Hosts may reset the whole subsystem (NSSR).
    pub enable_nssr: bool,
    /// Other processes serve it, too: hosts are not told of what this one would keep to itself, reservations and fused commands.
    pub shared: bool,
}

impl SubsystemConfig {
    /// Bits of ONCS and FUSES that its hosts do not get.
    pub(super) fn masked(&self, transport: &TransportOptions) -> (u16, u16) {
        let (oncs, fuses) = match self.shared {
            true => (ONCS_RESERVATIONS, 1),
            false => (0, 0),
        };
        (transport.masked_oncs | oncs, transport.masked_fuses | fuses)
    }

    /// Model number when none is given.
    pub const MODEL: &'static str = "Ashlar NVMe/TCP volume";

    /// A subsystem with the usual limits.
    pub fn new(nqn: impl Into<String>) -> Self {
        Self {
            nqn: nqn.into(),
            serial_number: None,
            model_number: None,
            max_namespaces: 32,
            allow_any_host: false,
            ana_reporting: false,
            min_cntlid: 1,
            max_cntlid: 0xffef,
            dmrsl: 2_097_152,
            wzsl: 12,
            enable_nssr: false,
            shared: false,
        }
    }
}

/// A volume offered as a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// The volume: name, alias or UUID of a graph node.
    pub volume: String,
    /// Namespace id; `None` takes the first free one.
    pub nsid: Option<u32>,
    /// NGUID; `None` takes the bytes of the UUID.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64; `None` reports none.
    pub eui64: Option<[u8; 8]>,
    /// UUID; `None` takes the volume's.
    pub uuid: Option<Uuid>,
    /// ANA group; `None` is the namespace id.
    pub anagrpid: Option<u32>,
    /// Hidden from every host that is not named by [`crate::nvmf::Nvmf::add_namespace_host`].
    pub no_auto_visible: bool,
    /// File for reservations that survive a power loss; without it, one in the state directory.
    pub ptpl_file: Option<String>,
}

/// Where hosts connect. Only TCP over IPv4 and IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddress {
    /// IP address and port; port 0 takes a free one.
    pub socket: SocketAddr,
}

impl ListenAddress {
    /// From TRADDR and TRSVCID.
    pub fn parse(traddr: &str, trsvcid: &str) -> Option<Self> {
        let socket = SocketAddr::new(traddr.parse().ok()?, trsvcid.parse().ok()?);
        Some(Self { socket })
    }
    /// "IPv4" or "IPv6".
    pub fn adrfam(&self) -> &'static str {
        if self.socket.is_ipv4() { "IPv4" } else { "IPv6" }
    }
    /// The IP address.
    pub fn traddr(&self) -> String {
        self.socket.ip().to_string()
    }
    /// The port.
    pub fn trsvcid(&self) -> String {
        self.socket.port().to_string()
    }
}

/// A listener of a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Where, with the port that was bound.
    pub address: ListenAddress,
    /// Hosts come by TLS, or not at all.
    pub secure: bool,
    /// State of each ANA group from 1 to the subsystem's `max_namespaces`.
    pub ana_states: Vec<(u32, AnaState)>,
}

/// Another discovery service that hosts are pointed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referral {
    /// Where it is.
    pub address: ListenAddress,
    /// Its NQN.
    pub subnqn: String,
    /// It wants TLS.
    pub secure_channel: bool,
}

/// A subsystem as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SubsystemInfo {
    pub nqn: String,
    pub discovery: bool,
    pub listen_addresses: Vec<ListenAddress>,
    pub allow_any_host: bool,
    /// Hosts that may connect, and the names of their keys.
    pub hosts: Vec<(String, HostKeys)>,
    pub serial_number: String,
    pub model_number: String,
    pub max_namespaces: u32,
    pub ana_reporting: bool,
    pub min_cntlid: u16,
    pub max_cntlid: u16,
    pub dmrsl: u32,
    pub wzsl: u8,
    pub enable_nssr: bool,
    /// See [`SubsystemConfig::shared`].
    pub shared: bool,
    pub namespaces: Vec<NamespaceInfo>,
}

/// A namespace as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NamespaceInfo {
    pub nsid: u32,
    /// The volume's name in the graph.
    pub volume: String,
    pub nguid: [u8; 16],
    pub eui64: Option<[u8; 8]>,
    pub uuid: Uuid,
    pub anagrpid: u32,
    pub no_auto_visible: bool,
    pub hosts: Vec<String>,
    pub ptpl_file: Option<String>,
}

/// A controller: one host's association with a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ControllerInfo {
    pub cntlid: u16,
    /// "io" or "discovery".
    pub cntrltype: &'static str,
    pub hostnqn: String,
    pub hostid: Uuid,
    pub num_io_qpairs: usize,
    /// CSTS.RDY.
    pub ready: bool,
    /// Keep-alive timeout in milliseconds; 0 is none.
    pub keep_alive_ms: u32,
}

/// A queue pair: one connection of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct QpairInfo {
    pub cntlid: u16,
    pub qid: u16,
    /// "enabled" from Connect on.
    pub state: &'static str,
    /// The reactor it lives on.
    pub core: usize,
    pub hostnqn: String,
    pub listen_address: SocketAddr,
    pub peer_address: SocketAddr,
    /// The cipher suite, if it is encrypted.
    pub tls: Option<&'static str>,
    /// The kind of key it is encrypted with: "configured", or "generated" by an authentication.
    pub psk: Option<&'static str>,
    /// How it was or is to be authenticated, if it must be.
    pub auth: Option<AuthReport>,
}

/// A queue pair with what its connection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct QueueInfo {
    pub pair: QpairInfo,
    /// Entries.
    pub depth: u32,
    /// Commands that run now; requests for events that wait are none.
    pub in_flight: usize,
    pub header_digest: bool,
    pub data_digest: bool,
}

/// The reservations of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationInfo {
    /// Changes of registrations since the start.
    pub generation: u32,
    /// Kept through a power loss.
    pub persist: bool,
    /// The reservation's type, if there is one.
    pub kind: Option<&'static str>,
    /// Who is registered.
    pub registrants: Vec<RegistrantInfo>,
}

/// A registered host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrantInfo {
    /// Host identifier.
    pub hostid: Uuid,
    /// Its NQN, if it is connected.
    pub hostnqn: Option<String>,
    /// Reservation key.
    pub key: u64,
    /// It holds the reservation, alone or with others.
    pub holder: bool,
}

/// What one reactor serves and has served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PollGroupStats {
    pub core: usize,
    pub admin_qpairs: u64,
    pub io_qpairs: u64,
    pub current_admin_qpairs: u64,
    pub current_io_qpairs: u64,
    /// Connections that have not yet sent Connect.
    pub current_unassociated_qpairs: u64,
    /// Commands waiting for memory.
    pub pending_bdev_io: u64,
    pub completed_nvme_io: u64,
}

/// What a host may do that has a controller already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DupHostPolicy {
    /// Have as many as it likes.
    #[default]
    Allow,
    /// Have one through each listener: a second one is refused while the first is there.
    RestrictPerListener,
}

impl DupHostPolicy {
    /// Both.
    pub const ALL: [DupHostPolicy; 2] = [Self::Allow, Self::RestrictPerListener];

    /// As SPDK calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::RestrictPerListener => "restrict_per_listener",
        }
    }
}

/// Target-wide settings (`nvmf_set_config`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetConfig {
    /// Which listeners the discovery log shows to whom.
    pub discovery_filter: DiscoveryFilter,
    /// Kept and reported.
    pub admin_cmd_passthru_identify: bool,
    /// Kept and reported: reactors serve, whatever the mask says.
    pub poll_groups_mask: Option<String>,
    /// Hashes and groups of in-band authentication.
    pub dhchap: Offer,
    /// Hosts that connect twice.
    pub dup_host_policy: DupHostPolicy,
}

/// Which listeners the discovery log shows: all, or those like the one the host asked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryFilter {
    /// Same transport (there is only TCP).
    pub transport: bool,
    /// Same IP address.
    pub address: bool,
    /// Same port.
    pub svcid: bool,
}
