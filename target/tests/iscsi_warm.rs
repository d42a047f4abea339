//! A warm 4 KiB read and write from the PDU to the medium and back: no call to the allocator, no lock, and below the
//! session no byte copied by the CPU.
use bdev::{Table, graph::Graph, node::NodeSpec};
use reactor::{
    Buf, Reactors,
    counters::{bytes_copied, locks_taken},
    pool::{Base, Line, PoolConfig},
    testing::{CountingAlloc, allocations},
};
use spec::{
    iscsi::bhs::{DataIn, FINAL, LoginRequest, ScsiCommand, ScsiResponse, len24},
    scsi::{Lun, TransportId},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use target::{
    iscsi::{
        auth::Credential,
        login::{Agreed, Directory, Entry, Hello, Refusal, Welcome},
        session::{Event, MAX_TRANSFER, Patience, Session, Sink},
    },
    scsi::{
        Nexus, NexusId, Request,
        options::LunOptions,
        server::execute,
        unit::{Device, Unit},
    },
};
use zerocopy::IntoBytes;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

fn nexus() -> NexusId {
    NexusId {
        initiator: TransportId {
            name: "iqn.i".into(),
            isid: Some([0; 6]),
        },
        target: "iqn.t".into(),
        port: 1,
    }
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

/// What would go to the socket: headers counted, payload looked at by reference.
struct Wire {
    header: [u8; 48],
    payload: usize,
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

/// One command through session, device server and volume; payload arrives as a socket would put it, straight into place.
async fn io(session: &mut Session, nexus: &Nexus, cmd_sn: u32, write: bool) -> Wire {
    let mut command = ScsiCommand {
        opcode: 0x01,
        flags: FINAL | if write { 0x20 } else { 0x40 },
        itt: cmd_sn.into(),
        expected_len: 4096.into(),
        cmd_sn: cmd_sn.into(),
        data_segment_len: if write { len24(4096) } else { [0; 3] },
        ..Default::default()
    };
    command.cdb[..10].copy_from_slice(&[
        if write { 0x2a } else { 0x28 },
        0,
        0,
        0,
        0,
        8 * (cmd_sn % 16) as u8,
        0,
        0,
        8,
        0,
    ]);
    let used = session.input(command.as_bytes(), reactor::now(), &mut Anyone);
    assert_eq!(used, 48);
    if let Some(place) = session.payload() {
        // What a receive does: fresh pages, filled by the kernel.
        place.make_writable();
        session.filled(4096);
        session.input(&[], reactor::now(), &mut Anyone);
    }
    let Some(Event::Command(slot)) = session.event() else {
        panic!("no command")
    };
    let taken = session.take(slot).expect("taken");
    let request = Request {
        lun: taken.lun,
        cdb: taken.cdb,
        room: taken.room,
        data: taken.data,
    };
    let outcome = execute(nexus, request).await;
    session.complete(slot, outcome);
    let mut wire = Wire {
        header: [0; 48],
        payload: 0,
    };
    session.output(&mut wire);
    wire
}

#[test]
fn warm_reads_and_writes_cost_no_allocation_no_lock_and_no_copy() {
    let reactors = Reactors::start(reactor::Config::default()).expect("a reactor");
    let graph = Graph::new(reactors.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let volumes = [
        (
            "memory",
            Table::Memory {
                blocks: 4096,
                block_size: 512,
                physical_block_size: None,
                optimal_io: 0,
            },
        ),
        (
            "null",
            Table::Null {
                blocks: 4096,
                block_size: 512,
                physical_block_size: None,
            },
        ),
    ];
    for (name, table) in volumes {
        let info = runtime
            .block_on(graph.build(NodeSpec::new(name, table)))
            .expect("built");
        let graph = graph.clone();
        let (allocated, locks, copied) = reactors
            .call(0, move || async move {
                let device = Arc::new(Device::new("iqn.t".into()));
                let lun = Lun::default();
                let unit = Unit::new(lun, info.name, info.uuid, LunOptions::default(), &info.geometry);
                device.edit(|table| table.insert(lun, Arc::new(unit)));
                let nexus = Nexus::new(graph, device, nexus(), 1, MAX_TRANSFER);
                let pool = Base::credits("warm", 8)
                    .child("warm", PoolConfig::fixed(8))
                    .expect("a pool");
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
                session.lend(Line::open(pool.rights(), 8, 8).expect("credit"));
                session.output(&mut Vec::new());
                let mut cmd_sn = 0;
                // Power on is told; then everything gets warm.
                for warm in 0..200 {
                    let wire = io(&mut session, &nexus, cmd_sn, warm % 2 == 0).await;
                    cmd_sn += 1;
                    if warm > 0 {
                        assert_eq!(wire.header[3], 0, "GOOD");
                    }
                }
                let before = (allocations(), locks_taken(), bytes_copied());
                for _ in 0..500 {
                    let wire = io(&mut session, &nexus, cmd_sn, true).await;
                    assert_eq!((wire.header[0], wire.payload), (0x21, 0));
                    let wire = io(&mut session, &nexus, cmd_sn + 1, false).await;
                    assert_eq!((wire.header[0], wire.header[3], wire.payload), (0x25, 0, 4096));
                    cmd_sn += 2;
                }
                (
                    allocations() - before.0,
                    locks_taken() - before.1,
                    bytes_copied() - before.2,
                )
            })
            .wait();
        assert_eq!(
            (allocated, locks, copied),
            (0, 0, 0),
            "allocations, locks and bytes copied in 1000 I/Os on {name}"
        );
    }
    reactors.stop();
    const { assert!(size_of::<DataIn>() == 48 && size_of::<ScsiResponse>() == 48) };
}
