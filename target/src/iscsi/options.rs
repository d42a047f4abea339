//! What an administrator says about the iSCSI front end: plain data, in the shapes SPDK's JSON-RPC uses.
pub use crate::scsi::options::LunOptions;
use serde::{Deserialize, Serialize};
use spec::iscsi::chap::Algorithm;
use spec::scsi::AccessState;
use std::net::SocketAddr;

/// Limits and defaults of the whole front end (`iscsi_set_options`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// File of authentication groups in SPDK's own format, read when the options are set.
    pub auth_file: Option<String>,
    /// What a target name without `iqn.`, `eui.` or `naa.` is prefixed with, and a colon.
    pub node_base: String,
    /// Seconds a host has to answer a ping before its connection is dropped. 0: no pings.
    pub nop_timeout: u32,
    /// Seconds of silence before a host is pinged. 0: no pings.
    pub nop_in_interval: u32,
    /// Discovery: CHAP is not offered.
    pub disable_chap: bool,
    /// Discovery: CHAP must be done.
    pub require_chap: bool,
    /// Discovery: in both directions.
    pub mutual_chap: bool,
    /// Discovery: group of secrets; 0 is none.
    pub chap_group: u32,
    /// Hashes hosts may use for CHAP, discovery or not; none named: all. Not SPDK's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chap_algorithms: Vec<Algorithm>,
    /// Most sessions at once.
    pub max_sessions: u32,
    /// Most commands in flight on one connection, whatever a target node asks for.
    pub max_queue_depth: u32,
    /// Most connections to a session.
    pub max_connections_per_session: u32,
    /// Seconds a host should wait before it comes back.
    pub default_time2wait: u32,
    /// Seconds tasks are kept for it.
    pub default_time2retain: u32,
    /// Bytes of unsolicited data we take with a command.
    pub first_burst_length: u32,
    /// Data may come in the command's own PDU.
    pub immediate_data: bool,
    /// 0 is the only level there is.
    pub error_recovery_level: u32,
    /// A second session from the same initiator port replaces the first either way (RFC 7143 6.3.5).
    pub allow_duplicated_isid: bool,
    /// Stored for SPDK's sake; our bound is the connection's outbox.
    pub max_large_datain_per_connection: u32,
    /// Most R2Ts outstanding on a connection.
    pub max_r2t_per_connection: u32,
    /// Stored for SPDK's sake; our PDUs need no pool.
    pub pdu_pool_size: u32,
    /// Stored for SPDK's sake.
    pub immediate_data_pool_size: u32,
    /// Stored for SPDK's sake.
    pub data_out_pool_size: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth_file: None,
            node_base: "iqn.2016-06.io.spdk".into(),
            nop_timeout: 60,
            nop_in_interval: 30,
            disable_chap: false,
            require_chap: false,
            mutual_chap: false,
            chap_group: 0,
            chap_algorithms: Vec::new(),
            max_sessions: 128,
            max_queue_depth: 64,
            max_connections_per_session: 2,
            default_time2wait: 2,
            default_time2retain: 20,
            first_burst_length: 8192,
            immediate_data: true,
            error_recovery_level: 0,
            allow_duplicated_isid: false,
            max_large_datain_per_connection: 64,
            max_r2t_per_connection: 4,
            pdu_pool_size: 36864,
            immediate_data_pool_size: 16384,
            data_out_pool_size: 2048,
        }
    }
}

impl Options {
    /// What discovery demands, unless its portal group says otherwise.
    pub fn discovery_auth(&self) -> Auth {
        Auth {
            disable_chap: self.disable_chap,
            require_chap: self.require_chap,
            mutual_chap: self.mutual_chap,
            chap_group: self.chap_group,
        }
    }

    /// The hashes that are allowed.
    pub fn chap_algorithms(&self) -> Vec<Algorithm> {
        match self.chap_algorithms.is_empty() {
            true => Algorithm::ALL.to_vec(),
            false => self.chap_algorithms.clone(),
        }
    }
}

/// Who must authenticate (`*_set_auth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// CHAP is not offered.
    pub disable_chap: bool,
    /// CHAP must be done.
    pub require_chap: bool,
    /// In both directions.
    pub mutual_chap: bool,
    /// Group of secrets; 0 is none.
    pub chap_group: u32,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// An address, `[v6]` or a name that resolves.
    pub host: String,
    /// TCP port; 0 takes a free one, which [`Iscsi::portal_groups`](super::Iscsi::portal_groups) then tells.
    pub port: u16,
}

/// A group of portals as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortalGroup {
    /// Target portal group tag.
    pub tag: u32,
    /// Portals, with the ports they are really bound to.
    pub portals: Vec<Portal>,
    /// Not told in discovery except through itself.
    pub private: bool,
    /// True once it listens.
    pub listening: bool,
    /// What discovery through it demands, if that differs from what the options say.
    pub auth: Option<Auth>,
}

/// Who may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiatorGroup {
    /// Its number.
    pub tag: u32,
    /// Initiator names, `ANY`, or either with `!` before it for "not this one". The first that matches decides.
    pub initiators: Vec<String>,
    /// Addresses, networks (`10.0.0.0/8`) or `ANY`.
    pub netmasks: Vec<String>,
}

/// "Through this portal group, these initiators."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgIgMap {
    /// Portal group.
    pub pg_tag: u32,
    /// Initiator group.
    pub ig_tag: u32,
}

/// Where logins are sent on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Redirect {
    /// The other portal.
    pub to: SocketAddr,
    /// For good: hosts may remember it.
    pub permanent: bool,
}

/// A volume at a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LunMap {
    /// Name, alias or UUID of the volume.
    pub bdev_name: String,
    /// Logical unit number.
    pub lun_id: u16,
    /// How hosts see it.
    #[serde(flatten)]
    pub options: LunOptions,
}

/// How well the ports of one portal group reach the units of a target node (`iscsi_target_node_set_alua_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AluaGroup {
    /// Portal group, which is the target port group too.
    pub pg_tag: u32,
    /// Asymmetric access state.
    #[serde(with = "StateName")]
    pub alua_state: AccessState,
    /// Hosts should rather use this one (PREF).
    #[serde(default)]
    pub preferred: bool,
}

impl AluaGroup {
    /// As it is without anybody saying so.
    pub fn is_plain(&self) -> bool {
        self.alua_state == AccessState::default() && !self.preferred
    }
}

/// Asymmetric access of a target node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alua {
    /// Hosts may set states (SET TARGET PORT GROUPS).
    pub explicit: bool,
    /// Every portal group hosts may come through.
    pub portal_groups: Vec<AluaGroup>,
}

/// The states' names in RPC and YAML.
#[derive(Serialize, Deserialize)]
#[serde(remote = "AccessState", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum StateName {
    ActiveOptimized,
    ActiveNonOptimized,
    Standby,
    Unavailable,
    Offline,
    Transitioning,
}

/// What hosts log in to (`iscsi_create_target_node`), wished or as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetNode {
    /// IQN; a short name gets [`Options::node_base`] before it.
    pub name: String,
    /// For people.
    pub alias_name: String,
    /// Who may come through where.
    pub pg_ig_maps: Vec<PgIgMap>,
    /// Its volumes.
    pub luns: Vec<LunMap>,
    /// Commands in flight for each connection.
    pub queue_depth: u32,
    /// What it demands of hosts.
    #[serde(flatten)]
    pub auth: Auth,
    /// Header digests are wanted (a host may insist on either anyway).
    #[serde(default)]
    pub header_digest: bool,
    /// Data digests are wanted.
    #[serde(default)]
    pub data_digest: bool,
}

/// A live connection (`iscsi_get_connections`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionInfo {
    /// Ours, unique for the life of the process.
    pub id: u64,
    /// The host's number for it in its session.
    pub cid: u16,
    /// Target session identifying handle; 0 until logged in.
    pub tsih: u16,
    /// The reactor it lives on.
    pub lcore_id: usize,
    /// Where the host is.
    pub initiator_addr: SocketAddr,
    /// What it says it is called; empty until it has said.
    pub initiator_name: String,
    /// Where it came to.
    pub target_addr: SocketAddr,
    /// What it logged in to; empty for discovery.
    pub target_node_name: String,
    /// Through which group.
    pub portal_group: u32,
    /// Text of its state: `login`, `running`, `exiting`.
    pub state: &'static str,
    /// What was agreed at login.
    pub negotiated: Option<Negotiated>,
    /// Connections its session has.
    pub session_connections: u16,
}

impl ConnectionInfo {
    /// One that was just accepted on a core, through a portal group, from a host, at an address of ours.
    pub(super) fn arrived(id: u64, core: usize, group: u32, host: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            cid: 0,
            tsih: 0,
            lcore_id: core,
            initiator_addr: host,
            initiator_name: String::new(),
            target_addr: local,
            target_node_name: String::new(),
            portal_group: group,
            state: "login",
            negotiated: None,
            session_connections: 0,
        }
    }
}

/// What a host and we have agreed on, by the names of RFC 7143 chapter 13; lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the standard's own words")]
pub struct Negotiated {
    pub header_digest: bool,
    pub data_digest: bool,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    /// The host's MaxRecvDataSegmentLength: the longest data segment it is sent.
    pub max_send_segment: u32,
    pub max_connections: u16,
    pub max_outstanding_r2t: u16,
    /// Commands it may have in flight on the connection.
    pub queue_depth: u16,
}

/// A logical unit as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitInfo {
    /// Its volume, its number and how hosts see it.
    #[serde(flatten)]
    pub map: LunMap,
    /// Hosts cannot write: the administrator or a host (SWP) says so. What the volume says comes on top.
    pub read_only: bool,
    /// WCE.
    pub write_cache: bool,
    /// It has not been ejected.
    pub medium_present: bool,
    /// Errors of writes, of reads, and others.
    pub errors: [u64; 3],
    /// Who may do what.
    pub reservations: crate::scsi::reservation::Snapshot,
}

/// Connections by state (`iscsi_get_stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Not logged in yet.
    pub invalid: u32,
    /// In full feature phase.
    pub running: u32,
    /// On their way out.
    pub exiting: u32,
    /// Gone since the start.
    pub exited: u32,
}

/// Why something asked of the front end did not happen.
#[derive(Debug, thiserror::Error)]
pub enum IscsiError {
    /// No such thing.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its name or number.
        name: String,
    },
    /// There is one already.
    #[error("{what} {name} exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Its name or number.
        name: String,
    },
    /// Something else stands on it.
    #[error("{what} {name} is in use by {by}")]
    InUse {
        /// The kind of thing.
        what: &'static str,
        /// Its name or number.
        name: String,
        /// Who uses it.
        by: String,
    },
    /// A value nobody could want.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The parameter.
        what: &'static str,
        /// What is wrong and what was expected.
        why: String,
    },
    /// A portal cannot listen.
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen {
        /// The portal's host.
        host: String,
        /// The portal's port.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no room for another one.
    #[error("too many {what}: the limit is {limit}")]
    TooMany {
        /// The kind of thing.
        what: &'static str,
        /// How many there may be.
        limit: u32,
    },
}
