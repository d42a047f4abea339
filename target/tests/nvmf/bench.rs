//! A target to be tested: reactors, a graph, a memory disk, a listener on loopback.
use bdev::{Graph, NodeSpec, Table};
use load::nvme::{Client, Options};
use reactor::{Config, Reactors};
use spec::nvme::{Sgl, Sqe, Status, command::io};
use std::{net::SocketAddr, path::Path};
use target::nvmf::{AnaState, ListenAddress, NamespaceConfig, Nvmf, SubsystemConfig, TransportOptions};
use uuid::Uuid;

pub const NQN: &str = "nqn.2026-11.io.ashlar:test";
pub const BLOCK: usize = 512;
pub const BLOCKS: u64 = 8192;

/// A target with one memory disk of 4 MiB as namespace 1.
pub struct Bench {
    pub reactors: Reactors,
    pub graph: Graph,
    pub nvmf: Nvmf,
    pub address: SocketAddr,
}

pub fn wait<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(f)
}

pub fn memory(blocks: u64) -> Table {
    Table::Memory {
        blocks,
        block_size: BLOCK as u32,
        physical_block_size: None,
        optimal_io: 0,
    }
}

impl Bench {
    pub fn new(cores: usize) -> Self {
        Self::with(cores, TransportOptions::default())
    }

    pub fn with(cores: usize, options: TransportOptions) -> Self {
        Self::keeping(cores, options, SubsystemConfig::new(NQN), None)
    }

    /// With a folder for reservations that outlive it, where they are asked for.
    pub fn keeping(cores: usize, options: TransportOptions, subsystem: SubsystemConfig, state: Option<&Path>) -> Self {
        let reactors = Reactors::start(Config {
            count: cores,
            ..Config::default()
        })
        .unwrap();
        let graph = Graph::new(reactors.clone());
        let nvmf = Nvmf::new(reactors.clone(), graph.clone());
        if let Some(folder) = state {
            nvmf.keep_reservations(folder).unwrap();
        }
        let address = wait(async {
            graph.build(NodeSpec::new("disk", memory(BLOCKS))).await.unwrap();
            nvmf.create_transport("tcp", options).unwrap();
            nvmf.create_subsystem(SubsystemConfig {
                allow_any_host: true,
                ..subsystem
            })
            .unwrap();
            let volume = NamespaceConfig {
                volume: "disk".into(),
                uuid: Some(Uuid::from_u128(0x6f2d1a34)),
                ..Default::default()
            };
            assert_eq!(nvmf.add_namespace(NQN, volume).await.unwrap(), 1);
            let any_port = ListenAddress::parse("127.0.0.1", "0").unwrap();
            nvmf.add_listener(NQN, any_port, AnaState::Optimized).await.unwrap()
        });
        Self {
            reactors,
            graph,
            nvmf,
            address,
        }
    }

    pub fn admin(&self) -> Client {
        Client::admin(self.address, NQN, &Options::default()).unwrap()
    }

    /// An admin queue and one I/O queue.
    pub fn queues(&self, options: &Options) -> (Client, Client) {
        let mut admin = Client::admin(self.address, NQN, options).unwrap();
        admin.request_queues(4).unwrap();
        let io = admin.io_queue(self.address, NQN, 1, options).unwrap();
        (admin, io)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        wait(self.nvmf.stop());
        self.reactors.stop();
    }
}

pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 509 + seed * 131) as u8).collect()
}

pub fn write(queue: &mut Client, lba: u64, data: &[u8]) -> Status {
    let sqe = Sqe::new(io::WRITE, 0, 1).with_range(lba, (data.len() / BLOCK) as u32);
    queue.call(sqe, data).unwrap().cqe.status()
}

pub fn read(queue: &mut Client, lba: u64, blocks: u32) -> Result<Vec<u8>, Status> {
    let len = blocks * BLOCK as u32;
    let sqe = Sqe::new(io::READ, 0, 1)
        .with_range(lba, blocks)
        .with_sgl(Sgl::transport(len));
    let done = queue.call(sqe, &[]).unwrap();
    if done.cqe.status().is_success() {
        Ok(done.data)
    } else {
        Err(done.cqe.status())
    }
}

/// Status without the More bit.
pub fn plain(status: Status) -> Status {
    Status(status.0 & !(1 << 13))
}
