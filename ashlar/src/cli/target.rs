//! `ashlar target`.
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `ashlar target`.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// List iSCSI target nodes and NVMe subsystems with portals, hosts allowed and hosts connected.
    #[command(alias = "list")]
    Ls,
    /// Who is connected, from where and with which parameters; the units, their options and reservations.
    Show {
        /// An IQN or NQN, or what follows its last colon. Default: every target.
        name: Option<String>,
    },
    /// Set how well the portals of a group reach an iSCSI target's LUNs. Hosts with multipath follow within seconds.
    SetAlua(SetAlua),
    /// Make a file with a fresh random secret for CHAP, readable by its owner only. Nothing is printed but its name.
    Secret {
        /// The file; it must not be there.
        file: PathBuf,
        /// How random: 96 bits are 16 characters, the most that Windows takes; 128 bits are 22.
        #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(96..=256))]
        bits: u16,
    },
    /// Make a file with a fresh random key for NVMe hosts, readable by its owner only, as `nvme gen-tls-key` and `nvme
    /// gen-dhchap-key` make them. Nothing is printed but its name. Give it a name in `targets.nvme.keys`, or by
    /// `keyring_file_add_key`, and the same key to the host.
    Key {
        /// What it is for: a secure channel (the host's `psk`) or in-band authentication (its `dhchap_key`).
        #[arg(value_enum)]
        kind: KeyKind,
        /// The file; it must not be there.
        file: PathBuf,
        /// The hash that it is made for; with TLS, SHA-384 also means AES-256. `none`: 32 bytes that are used as they are.
        #[arg(long, value_enum, default_value_t = KeyHash::Sha256)]
        hash: KeyHash,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum KeyKind {
    Tls,
    Dhchap,
}

/// The hash of a key.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum KeyHash {
    None,
    Sha256,
    Sha384,
    Sha512,
}

/// `ashlar target set-alua`.
#[derive(Debug, Args)]
pub struct SetAlua {
    /// IQN of the target.
    pub name: String,
    /// Tag of the portal group.
    pub portal_group: u32,
    /// The state its ports shall have.
    #[arg(value_parser = ["active_optimized", "active_non_optimized", "standby", "unavailable", "offline", "transitioning"])]
    pub state: String,
    /// Hosts should rather use it (true), or need not (false).
    #[arg(long, value_name = "BOOL")]
    pub preferred: Option<bool>,
}
