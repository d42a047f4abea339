//! An iSCSI session without a socket: what a connection does for one command, from the header to the answer, in memory.
//!
//! ```text
//!   header ─► Session::input ─► take ─► scsi::execute ─► complete ─► Session::output ─► [`Wire`]
//! ```
use bdev::{NodeInfo, Table, graph::Graph, node::NodeSpec};
use reactor::{
    Buf, Reactors,
    pool::{Base, Line, PoolConfig},
};
use spec::{
    iscsi::bhs::{FINAL, LoginRequest, ScsiCommand, len24},
    scsi::{Cdb, Lun, TransportId},
};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use target::{
    iscsi::{
        auth::Credential,
        login::{Agreed, Directory, Entry, Hello, Refusal, Welcome},
        session::{Event, MAX_TRANSFER, Patience, Session, Sink},
    },
    scsi::{
        Nexus, NexusId, Outcome, Request,
        options::LunOptions,
        server::execute,
        unit::{Device, Unit},
    },
};
use zerocopy::IntoBytes;

/// Bytes of the I/Os here.
pub const LEN: u32 = 4096;
const BLOCKS: u64 = 4096;
const BLOCK: u32 = 512;

/// A disk of memory and one that does nothing.
pub fn volumes() -> [(&'static str, Table); 2] {
    let memory = Table::Memory {
        blocks: BLOCKS,
        block_size: BLOCK,
        physical_block_size: None,
        optimal_io: 0,
    };
    let null = Table::Null {
        blocks: BLOCKS,
        block_size: BLOCK,
        physical_block_size: None,
    };
    [("memory", memory), ("null", null)]
}

struct Anyone;

impl Directory for Anyone {
    fn greet(&mut self, _: &Hello) -> Result<Welcome, Refusal> {
        Ok(Welcome {
            portal_group: 1,
            depth: 8,
            first_burst: 8192,
            immediate_data: true,
            ..Welcome::default()
        })
    }
    fn enter(&mut self, _: &Hello, _: &Agreed) -> Result<Entry, Refusal> {
        Ok(Entry {
            tsih: 1,
            order: None,
            agreed: None,
        })
    }
    fn credential(&mut self, _: u32, _: &str) -> Option<Credential> {
        None
    }
    fn random(&mut self, _: &mut [u8]) -> bool {
        false
    }
    fn targets(&mut self, _: &str, _: Option<&str>) -> Vec<(String, Vec<(SocketAddr, u32)>)> {
        Vec::new()
    }
}

/// What would go to the socket: the last header, and how much payload was there by reference.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Basic header segment.
    pub header: [u8; 48],
    /// Bytes behind headers.
    pub payload: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            header: [0; 48],
            payload: 0,
        }
    }
}

impl Sink for Wire {
    fn is_full(&self) -> bool {
        false
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.header.copy_from_slice(bytes);
    }
    fn buf(&mut self, buf: Buf) {
        self.payload += buf.len();
    }
}

/// One host's session with one unit, on the core it was made on.
pub struct Host {
    session: Session,
    nexus: Nexus,
    cmd_sn: u32,
}

impl Host {
    /// Runs `story` with a host that has logged in to a unit made of `table`, on a core of its own.
    pub fn tell<T: Send + 'static, F: Future<Output = T> + 'static>(
        name: &'static str,
        table: Table,
        story: impl Fn(Host) -> F + Clone + Send + 'static,
    ) -> T {
        let mut told = Host::tell_all(1, name, table, story);
        told.pop().expect("one core, one result")
    }

    /// The same on several cores at once, each with a session of the same target, all on the same unit.
    pub fn tell_all<T: Send + 'static, F: Future<Output = T> + 'static>(
        cores: usize,
        name: &'static str,
        table: Table,
        story: impl Fn(Host) -> F + Clone + Send + 'static,
    ) -> Vec<T> {
        let config = reactor::Config {
            count: cores,
            ..Default::default()
        };
        let reactors = Reactors::start(config).expect("reactors");
        let graph = Graph::new(reactors.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let info = runtime
            .block_on(graph.build(NodeSpec::new(name, table)))
            .expect("built");
        let device = device(info);
        let begun: Vec<_> = (0..cores)
            .map(|core| {
                let (graph, device, story) = (graph.clone(), device.clone(), story.clone());
                reactors.call(core, move || async move { story(Host::log_in(graph, device)).await })
            })
            .collect();
        let told = begun.into_iter().map(|one| one.wait()).collect();
        reactors.stop();
        told
    }

    fn log_in(graph: Graph, device: Arc<Device>) -> Host {
        let id = NexusId {
            initiator: TransportId {
                name: "iqn.i".into(),
                isid: Some([0; 6]),
            },
            target: "iqn.t".into(),
            port: 1,
        };
        let never = Patience {
            ping_after: Duration::ZERO,
            answer_within: Duration::ZERO,
        };
        let mut session = Session::new(reactor::now(), never);
        let text = b"InitiatorName=iqn.i\0TargetName=iqn.t\0\0\0\0";
        let login = LoginRequest {
            opcode: 0x43,
            flags: 0x87,
            data_segment_len: len24(text.len()),
            ..Default::default()
        };
        session.input(&[login.as_bytes(), text].concat(), reactor::now(), &mut Anyone);
        assert_eq!(session.event(), Some(Event::LoggedIn));
        let pool = Base::credits("host", 8)
            .child("host", PoolConfig::fixed(8))
            .expect("a pool");
        session.lend(Line::open(pool.rights(), 8, 8).expect("credit"));
        session.output(&mut Vec::new());
        Host {
            session,
            nexus: Nexus::new(graph, device, id, 1, MAX_TRANSFER),
            cmd_sn: 0,
        }
    }

    /// Makes everything warm; the unit attention of power on is out of the way then.
    pub async fn warm_up(&mut self) {
        for n in 0..200 {
            self.io(n % 2 == 0).await;
        }
    }

    /// READ or WRITE (10) of [`LEN`] bytes, session and all. What is written arrives as from a socket, straight into place.
    pub async fn io(&mut self, write: bool) -> Wire {
        let mut command = ScsiCommand {
            opcode: 0x01,
            flags: FINAL | if write { 0x20 } else { 0x40 },
            itt: self.cmd_sn.into(),
            expected_len: LEN.into(),
            cmd_sn: self.cmd_sn.into(),
            data_segment_len: if write { len24(LEN as usize) } else { [0; 3] },
            ..Default::default()
        };
        command.cdb = transfer(write, self.cmd_sn).0;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let used = self.session.input(command.as_bytes(), reactor::now(), &mut Anyone);
        assert_eq!(used, 48);
        if let Some(place) = self.session.payload() {
            // What a receive does: fresh pages, filled by the kernel.
            place.make_writable();
            self.session.filled(LEN as usize);
            self.session.input(&[], reactor::now(), &mut Anyone);
        }
        let Some(Event::Command(slot)) = self.session.event() else {
            panic!("no command")
        };
        let taken = self.session.take(slot).expect("taken");
        let request = Request {
            lun: taken.lun,
            cdb: taken.cdb,
            room: taken.room,
            data: taken.data,
        };
        let outcome = execute(&self.nexus, request).await;
        self.session.complete(slot, outcome);
        let mut wire = Wire::default();
        self.session.output(&mut wire);
        wire
    }

    /// A command as the device server gets it, without the session.
    pub async fn execute(&self, cdb: Cdb) -> Outcome {
        let request = Request {
            lun: [0; 8],
            cdb,
            room: LEN,
            data: Buf::empty(),
        };
        execute(&self.nexus, request).await
    }

    /// A ping (NOP-Out that wants an answer): what it costs to read one header and write one.
    pub fn ping(&mut self) -> Wire {
        let mut nop = ScsiCommand {
            opcode: 0x40,
            flags: FINAL,
            itt: 7.into(),
            cmd_sn: self.cmd_sn.into(),
            ..Default::default()
        };
        // Target transfer tag: none.
        nop.expected_len = u32::MAX.into();
        let used = self.session.input(nop.as_bytes(), reactor::now(), &mut Anyone);
        assert_eq!(used, 48);
        let mut wire = Wire::default();
        self.session.output(&mut wire);
        wire
    }
}

/// A target of one unit.
fn device(volume: NodeInfo) -> Arc<Device> {
    let device = Arc::new(Device::new("iqn.t".into()));
    let lun = Lun::default();
    let unit = Unit::new(lun, volume.name, volume.uuid, LunOptions::default(), &volume.geometry);
    device.edit(|table| table.insert(lun, Arc::new(unit)));
    device
}

/// READ or WRITE (10) of [`LEN`] bytes, the `n`th.
pub fn transfer(write: bool, n: u32) -> Cdb {
    let blocks = (LEN / BLOCK) as u8;
    let opcode = if write { 0x2a } else { 0x28 };
    Cdb::new(&[opcode, 0, 0, 0, 0, blocks * (n % 16) as u8, 0, 0, blocks, 0])
}
