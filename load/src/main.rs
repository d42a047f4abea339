//! `ashlar-load nvme://127.0.0.1:4420/NQN --depth 32 --size 4k --read --seconds 5`
use clap::Parser;
use load::{
    nvme::Options,
    report::Report,
    run::{self, Job},
};
use spec::nvme::tcp::Digests;
use std::{net::SocketAddr, process::ExitCode, time::Duration};

/// Loads a volume over NVMe/TCP and says how fast it was.
#[derive(Parser)]
#[command(name = "ashlar-load", version)]
struct Args {
    /// nvme://ADDRESS:PORT/NQN
    url: String,
    /// Namespace id.
    #[arg(long, default_value_t = 1)]
    nsid: u32,
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
    /// Header digests.
    #[arg(long)]
    hdgst: bool,
    /// Data digests.
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

fn target(url: &str) -> Result<(SocketAddr, String), String> {
    let rest = url
        .strip_prefix("nvme://")
        .ok_or_else(|| format!("'{url}' does not begin with nvme://"))?;
    let (address, nqn) = rest
        .split_once('/')
        .ok_or_else(|| format!("'{url}' names no subsystem"))?;
    let address = address.parse().map_err(|e| format!("'{address}': {e}"))?;
    Ok((address, nqn.to_owned()))
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
    let (address, nqn) = target(&args.url)?;
    let job = Job {
        address,
        nqn,
        nsid: args.nsid,
        depth: args.depth,
        size: args.size,
        reads: if args.write { 0 } else { args.mix.unwrap_or(100) },
        sequential: args.sequential,
        time: Duration::from_secs_f64(args.seconds),
        options: Options {
            digests: Digests {
                header: args.hdgst,
                data: args.ddgst,
            },
            no_flow_control: !args.flow_control,
            ..Options::default()
        },
    };
    let threads: Vec<_> = (0..args.jobs.max(1))
        .map(|_| {
            let job = job.clone();
            std::thread::spawn(move || run::run(&job))
        })
        .collect();
    let mut all = Report::default();
    for thread in threads {
        let one = thread.join().map_err(|_| "a connection's thread panicked".to_owned())?;
        all.merge(&one.map_err(|e| e.to_string())?);
    }
    Ok(all)
}
