//! What can go wrong on the control path. Data-path errors are [`spec::nvme::Status`].
use std::{io, net::SocketAddr};

/// Why a control request was refused. The text names the thing; the RPC layer maps variants to the codes clients match on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NvmfError {
    #[error("there is no target named '{0}', only 'nvmf_tgt'")]
    NoTarget(String),
    #[error("a target named '{0}' exists already")]
    TargetExists(String),
    #[error("there is no transport '{0}'; create it first")]
    NoTransport(String),
    #[error("transport type '{0}' is not one we have; TCP is")]
    UnknownTransport(String),
    #[error("Transport type '{0}' already exists")]
    TransportExists(String),
    #[error("no subsystem has the NQN '{0}'")]
    NoSubsystem(String),
    #[error("a subsystem with the NQN '{0}' exists already")]
    SubsystemExists(String),
    #[error("the target holds {0} subsystems, which is its limit")]
    TooManySubsystems(usize),
    #[error("'{0}' is not a valid NQN")]
    BadNqn(String),
    #[error("{what}: {why}")]
    Invalid { what: &'static str, why: String },
    #[error("there is no volume '{0}'")]
    NoVolume(String),
    #[error("the volume '{volume}' cannot be opened: {why}")]
    Volume { volume: String, why: String },
    #[error("namespace {nsid} of '{nqn}' is taken")]
    NamespaceExists { nqn: String, nsid: u32 },
    #[error("'{nqn}' has no namespace {nsid}")]
    NoNamespace { nqn: String, nsid: u32 },
    #[error("'{nqn}' has all {max} namespaces it can have")]
    NamespacesFull { nqn: String, max: u32 },
    #[error("'{nqn}' listens on {address} already")]
    ListenerExists { nqn: String, address: SocketAddr },
    #[error("'{nqn}' does not listen on {address}")]
    NoListener { nqn: String, address: SocketAddr },
    #[error("'{nqn}' listens on 16 addresses, which is the limit")]
    ListenersFull { nqn: String },
    #[error("cannot listen on {address}: {why}")]
    Bind { address: SocketAddr, why: io::Error },
    #[error("{0} is a port with TLS; listen there with secure_channel, or at another port")]
    PortSecure(SocketAddr),
    #[error("{0} is a port without TLS already; choose another one for secure_channel")]
    PortPlain(SocketAddr),
    #[error("Cannot establish secure channel, when 'allow_any_host' is set")]
    SecureForAny,
    #[error(transparent)]
    Tls(#[from] tls::Failed),
    #[error("'{nqn}' allows the host '{host}' already")]
    HostExists { nqn: String, host: String },
    #[error("'{nqn}' does not know the host '{host}'")]
    NoHost { nqn: String, host: String },
    #[error("the referral to {0} exists already")]
    ReferralExists(SocketAddr),
    #[error("there is no referral to {0}")]
    NoReferral(SocketAddr),
    #[error("the discovery service is published already")]
    Published,
    #[error("multicast DNS cannot be spoken: {0}")]
    Publish(String),
    #[error("Must not call more than once")]
    Once,
    #[error("{0}")]
    Unsupported(&'static str),
}
