//! `ashlar-load nvme://127.0.0.1:4420/NQN --depth 32 --size 4k --read --seconds 5`, or `iscsi://127.0.0.1:3260/IQN`
use clap::Parser;
use load::{
    iscsi,
    nvme::{self, Options},
    plan::Load,
    report::Report,
};
use spec::nvme::{auth::HashId, tcp::Digests, tls::ConfiguredPsk};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Loads a volume over NVMe/TCP or iSCSI and says how fast it was.
#[derive(Parser)]
#[command(name = "ashlar-load", version)]
struct Args {
    /// nvme://ADDRESS:PORT/NQN or iscsi://ADDRESS:PORT/IQN[/LUN]
    url: String,
    /// Namespace id (NVMe).
    #[arg(long, default_value_t = 1)]
    nsid: u32,
    /// Logical unit (iSCSI), unless the URL names one.
    #[arg(long, default_value_t = 0)]
    lun: u8,
    /// Commands under way on each connection.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4095))]
    depth: u16,
    /// Connections, each with a thread of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Bytes of a command, with k or m.
    #[arg(long, default_value = "4k", value_parser = size)]
    size: u32,
    /// Read only (the default).
    #[arg(long, conflicts_with_all = ["write", "mix"])]
    read: bool,
    /// Write only. DESTROYS what is there.
    #[arg(long, conflicts_with = "mix")]
    write: bool,
    /// This many percent read, the rest writes. DESTROYS what is there.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    mix: Option<u32>,
    /// One after the other instead of at random places.
    #[arg(long)]
    sequential: bool,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Come by TLS with the key in this file, as nvme gen-tls-key and ashlar target key make them (NVMe).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The host's NQN (NVMe).
    #[arg(long)]
    hostnqn: Option<String>,
    /// Header digests (NVMe).
    #[arg(long)]
    hdgst: bool,
    /// Data digests (NVMe).
    #[arg(long)]
    ddgst: bool,
    /// Keep submission queue flow control, as Linux does: every read then has a response of its own.
    #[arg(long)]
    flow_control: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.strip_suffix('k') {
        Some(digits) => (digits, 1 << 10),
        None => lower
            .strip_suffix('m')
            .map_or((lower.as_str(), 1), |digits| (digits, 1 << 20)),
    };
    let n: u32 = digits
        .parse()
        .map_err(|_| format!("'{text}' is not a size like 4096, 4k or 1m"))?;
    n.checked_mul(factor)
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("'{text}' is out of range"))
}

#[derive(Clone)]
enum Job {
    Nvme(nvme::run::Job),
    Iscsi(iscsi::Job),
}

fn job(args: &Args) -> Result<Job, String> {
    let url = &args.url;
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("'{url}' does not begin with nvme:// or iscsi://"))?;
    let (address, name) = rest
        .split_once('/')
        .ok_or_else(|| format!("'{url}' names no subsystem or target"))?;
    let address: SocketAddr = address.parse().map_err(|e| format!("'{address}': {e}"))?;
    let load = Load {
        depth: args.depth,
        size: args.size,
        reads: if args.write { 0 } else { args.mix.unwrap_or(100) },
        sequential: args.sequential,
        time: Duration::from_secs_f64(args.seconds),
    };
    match scheme {
        "nvme" => {
            let mut options = Options {
                digests: Digests {
                    header: args.hdgst,
                    data: args.ddgst,
                },
                no_flow_control: !args.flow_control,
                ..Options::default()
            };
            if let Some(hostnqn) = &args.hostnqn {
                options.hostnqn.clone_from(hostnqn);
            }
            if let Some(file) = &args.tls_key {
                options.psk = Some(psk(file, &options.hostnqn, name)?);
            }
            Ok(Job::Nvme(nvme::run::Job {
                address,
                nqn: name.into(),
                nsid: args.nsid,
                load,
                options,
            }))
        }
        "iscsi" => {
            // libiscsi's and QEMU's form ends in the LUN; no IQN has a slash.
            let (target, lun) = match name.split_once('/') {
                Some((target, lun)) => (target, lun.parse().map_err(|e| format!("LUN '{lun}': {e}"))?),
                None => (name, args.lun),
            };
            Ok(Job::Iscsi(iscsi::Job {
                address,
                target: target.into(),
                lun,
                load,
            }))
        }
        other => Err(format!("'{other}://' is neither nvme:// nor iscsi://")),
    }
}

/// The key in `file`, as a host with that name uses it at that subsystem.
fn psk(file: &Path, host: &str, subsystem: &str) -> Result<tls::Psk, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let configured = ConfiguredPsk::parse(&text).map_err(|error| wrong(&error))?;
    let (identity, key) = configured.for_host(host, subsystem);
    let suite = match configured.hash() {
        HashId::Sha384 => tls::Suite::Aes256GcmSha384,
        _ => tls::Suite::Aes128GcmSha256,
    };
    Ok(tls::Psk {
        identity: identity.to_string().into(),
        key,
        suite,
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    match load(&args) {
        Ok(report) => {
            if args.json {
                println!("{}", report.json());
            } else {
                println!("{report}");
            }
            if report.failed > 0 {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("ashlar-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &Args) -> Result<Report, String> {
    let job = job(args)?;
    let threads: Vec<_> = (0..args.jobs.max(1))
        .map(|_| {
            let job = job.clone();
            std::thread::spawn(move || match job {
                Job::Nvme(job) => nvme::run::run(&job).map_err(|e| e.to_string()),
                Job::Iscsi(job) => iscsi::run(&job).map_err(|e| e.to_string()),
            })
        })
        .collect();
    let mut all = Report::default();
    for thread in threads {
        all.merge(
            &thread
                .join()
                .map_err(|_| "a connection's thread panicked".to_owned())??,
        );
    }
    Ok(all)
}
