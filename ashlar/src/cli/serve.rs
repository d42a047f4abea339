//! `ashlar serve` and the engine's process.
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `ashlar serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration (YAML). Without one the target starts empty and waits to be provisioned by RPC.
    pub config: Option<PathBuf>,
    /// Do not initialise the subsystems until `framework_start_init` is called, as SPDK's applications do.
    #[arg(long)]
    pub wait_for_rpc: bool,
    /// How many reactors (polling threads) to run. Overrides the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub reactors: Option<u16>,
    /// What a reactor without work does: `busy` spins, `adaptive` spins a little and then sleeps, `interrupt` sleeps at once.
    #[arg(long, value_enum)]
    pub poll: Option<PollArg>,
    /// How to reach the kernel. `auto` takes io_uring and falls back to epoll with a small thread pool.
    #[arg(long, value_enum, env = "ASHLAR_IO")]
    pub io: Option<IoArg>,
    /// Say more: -v for debug messages of Ashlar, -vv for those of its libraries too. `ASHLAR_LOG` takes full filters.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// `ashlar engine`: its standard input and output are sockets to the process that serves hosts.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// The state directory.
    #[arg(long)]
    pub state: PathBuf,
    /// What is wanted, in JSON: what is logged, of volume groups, and which disks are looked into.
    #[arg(long)]
    pub settings: String,
}

/// Polling discipline as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PollArg {
    /// Spin for ever: lowest latency, one whole CPU a reactor.
    Busy,
    /// Spin while there is work and a little longer, then sleep in the kernel.
    Adaptive,
    /// Sleep as soon as nothing is ready.
    Interrupt,
}

/// I/O back end as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoArg {
    /// io_uring if the kernel lets us, else epoll.
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll for sockets, a thread pool for files.
    Epoll,
}
