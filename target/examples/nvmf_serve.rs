//! Serves one memory disk and one null disk over NVMe/TCP, for trying the front end by itself:
//! `cargo run --release -p target --example nvmf_serve -- PORT [CORES] [MIB]`
use bdev::{Graph, NodeSpec, Table};
use reactor::{Config, Reactors};
use target::nvmf::{AnaState, ListenAddress, NamespaceConfig, Nvmf, SubsystemConfig, TransportOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "4420".into());
    let count: usize = args.next().unwrap_or_else(|| "1".into()).parse()?;
    let mib: u64 = args.next().unwrap_or_else(|| "256".into()).parse()?;
    let reactors = Reactors::start(Config {
        count,
        ..Config::default()
    })?;
    let graph = Graph::new(reactors.clone());
    let nvmf = Nvmf::new(reactors, graph.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let memory = Table::Memory {
            blocks: mib * 2048,
            block_size: 512,
            physical_block_size: Some(4096),
            optimal_io: 0,
        };
        let null = Table::Null {
            blocks: mib * 256,
            block_size: 4096,
            physical_block_size: None,
        };
        graph.build(NodeSpec::new("memory", memory)).await?;
        graph.build(NodeSpec::new("null", null)).await?;
        nvmf.create_transport("TCP", TransportOptions::default())?;
        for volume in ["memory", "null"] {
            let nqn = format!("nqn.2026-11.io.ashlar:{volume}");
            nvmf.create_subsystem(SubsystemConfig {
                allow_any_host: true,
                ..SubsystemConfig::new(&nqn)
            })?;
            nvmf.add_namespace(
                &nqn,
                NamespaceConfig {
                    volume: volume.into(),
                    ..Default::default()
                },
            )
            .await?;
            let address = ListenAddress::parse("127.0.0.1", &port).ok_or("not a port")?;
            let bound = nvmf.add_listener(&nqn, address, AnaState::Optimized).await?;
            println!("nvme://{bound}/{nqn}");
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    loop {
        std::thread::park();
    }
}
