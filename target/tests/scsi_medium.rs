//! Commands that change or describe the medium, through the device server as a session calls it, from two cores at once.
use bdev::{
    IoError, Table,
    graph::Graph,
    module::error::{Effect, Injection, Ops},
    node::NodeSpec,
};
use reactor::{Buf, Reactors};
use spec::scsi::{Cdb, Lun, Sense, SenseKey, Status, TransportId, copy as lists};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use target::scsi::{
    Nexus, NexusId, Request,
    options::LunOptions,
    server::{execute, execute_unless},
    unit::{Device, Unit},
};

const BLOCK: usize = 512;
const MAX: u32 = 1 << 20;

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    status: Status,
    sense: Option<Sense>,
    data: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.sense), (Status::Good, None));
        self.data
    }
    /// Sense key and additional sense.
    fn why(&self) -> Option<(SenseKey, u8, u8)> {
        self.sense.map(|sense| (sense.key, sense.asc, sense.ascq))
    }
}

fn nexus(session: u64) -> NexusId {
    let mut isid = [0; 6];
    isid[5] = session as u8;
    NexusId {
        initiator: TransportId {
            name: "iqn.i".into(),
            isid: Some(isid),
        },
        target: "iqn.t".into(),
        port: 1,
    }
}

/// A session on some core.
struct Host(Nexus);

impl Host {
    async fn send(&self, lun: u16, cdb: &[u8], data: &[u8]) -> Answer {
        let request = Request {
            lun: Lun::new(lun).unwrap().to_wire(),
            cdb: Cdb::new(cdb),
            room: MAX,
            data: if data.is_empty() {
                Buf::empty()
            } else {
                Buf::from_slice(data)
            },
        };
        let outcome = execute(&self.0, request).await;
        Answer {
            status: outcome.status,
            sense: outcome.sense,
            data: outcome.data.map(|data| data.to_vec()).unwrap_or_default(),
        }
    }
    async fn read(&self, lun: u16, lba: u32, count: u8) -> Vec<u8> {
        self.send(lun, &ten(0x28, 0, lba, count), &[]).await.good()
    }
    async fn write(&self, lun: u16, lba: u32, data: &[u8]) -> Answer {
        self.send(lun, &ten(0x2a, 0, lba, (data.len() / BLOCK) as u8), data)
            .await
    }
}

fn ten(opcode: u8, flags: u8, lba: u32, count: u8) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    [opcode, flags, a, b, c, d, 0, 0, count, 0]
}

fn sixteen(opcode: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

fn compare_and_write(lba: u64, old: &[u8], new: &[u8]) -> ([u8; 16], Vec<u8>) {
    (sixteen(0x89, lba, (old.len() / BLOCK) as u32), [old, new].concat())
}

/// Two cores and a target whose units are these tables.
struct House {
    reactors: Reactors,
    graph: Graph,
    device: Arc<Device>,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new(units: &[(&str, Table)]) -> Self {
        let config = reactor::Config {
            count: 2,
            ..Default::default()
        };
        let reactors = Reactors::start(config).expect("reactors start");
        let house = Self {
            graph: Graph::new(reactors.clone()),
            reactors,
            device: Arc::new(Device::new("iqn.t".into())),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
        };
        house.graph.keys().draw("drawn", 256).expect("a key");
        let digits: Vec<u8> = (0..32).collect();
        house.graph.keys().give("given", &digits).expect("a key");
        for (at, (name, table)) in units.iter().enumerate() {
            let spec = NodeSpec::new(*name, table.clone());
            let info = house.runtime.block_on(house.graph.build(spec)).expect("built");
            let lun = Lun::new(at as u16).unwrap();
            let unit = Unit::new(lun, info.name, info.uuid, LunOptions::default(), &info.geometry);
            house.device.edit(|table| table.insert(lun, Arc::new(unit)));
        }
        house
    }

    /// A story of one host on one core; what it comes to can be waited for.
    fn start<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        core: usize,
        story: impl FnOnce(Rc<Host>) -> F + Send + 'static,
    ) -> reactor::Call<T> {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let session = SESSIONS.fetch_add(1, Relaxed);
        let (graph, device) = (self.graph.clone(), self.device.clone());
        self.reactors.call(core, move || async move {
            let host = Rc::new(Host(Nexus::new(graph, device.clone(), nexus(session), session, MAX)));
            for lun in device.table().1.keys() {
                // Power on is told.
                host.send(lun.number(), &[0; 6], &[]).await;
            }
            story(host).await
        })
    }

    fn run<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        story: impl FnOnce(Rc<Host>) -> F + Send + 'static,
    ) -> T {
        self.start(0, story).wait()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.reactors.stop()
    }
}

fn memory(blocks: u64, block_size: u32) -> Table {
    Table::Memory {
        blocks,
        block_size,
        physical_block_size: None,
        optimal_io: 0,
    }
}

fn block(fill: u8) -> Vec<u8> {
    vec![fill; BLOCK]
}

/// The number in the first eight bytes of a block, that is otherwise empty.
fn numbered(number: u64) -> Vec<u8> {
    let mut all = block(0);
    all[..8].copy_from_slice(&number.to_le_bytes());
    all
}

#[test]
fn compare_and_write_counts_right_on_every_core() {
    const EACH: u64 = 60;
    let house = House::new(&[("m", memory(64, 512))]);
    let mut stories = Vec::new();
    for core in [0, 1, 0, 1] {
        stories.push(house.start(core, |host| async move {
            let mut lost = 0u64;
            for _ in 0..EACH {
                loop {
                    let old = host.read(0, 3, 1).await;
                    let number = u64::from_le_bytes(old[..8].try_into().unwrap());
                    let (cdb, data) = compare_and_write(3, &old, &numbered(number + 1));
                    match host.send(0, &cdb, &data).await {
                        answer if answer.status == Status::Good => break,
                        answer => assert_eq!(answer.why(), Some((SenseKey::Miscompare, 0x1d, 0))),
                    }
                    lost += 1;
                }
                // Ordinary writes beside it go on meanwhile, and one that covers it in part changes nothing of it.
                assert_eq!(host.write(0, 4, &block(7)).await.status, Status::Good);
            }
            lost
        }))
    }
    let lost: u64 = stories.into_iter().map(|story| story.wait()).sum();
    let found = house.run(|host| async move { host.read(0, 3, 2).await });
    assert_eq!(found, [numbered(4 * EACH), block(7)].concat());
    println!("{lost} attempts came second");
}

#[test]
fn or_writes_of_all_cores_add_up() {
    let house = House::new(&[("m", memory(64, 512))]);
    let mut stories = Vec::new();
    for core in 0..8 {
        stories.push(house.start(core % 2, move |host| async move {
            for byte in 0..BLOCK {
                let mut bits = vec![0; 2 * BLOCK];
                bits[byte] = 1 << core;
                bits[BLOCK + byte] = 0x80 >> core;
                let answer = host.send(0, &sixteen(0x8b, 8, 2), &bits).await;
                assert_eq!(answer.status, Status::Good, "{answer:?}");
            }
        }))
    }
    stories.into_iter().for_each(|story| story.wait());
    let found = house.run(|host| async move { host.read(0, 8, 2).await });
    assert_eq!(found, vec![0xff; 2 * BLOCK], "every bit of every host");
}

#[test]
fn a_comparison_tells_where_it_failed_and_changes_nothing() {
    let house = House::new(&[("m", memory(64, 512))]);
    house.run(|host| async move {
        assert_eq!(
            host.write(0, 5, &[block(1), block(2)].concat()).await.status,
            Status::Good
        );
        let mut wrong = [block(1), block(2)].concat();
        wrong[700] = 9;
        let (cdb, data) = compare_and_write(5, &wrong, &[block(3), block(4)].concat());
        let answer = host.send(0, &cdb, &data).await;
        assert_eq!(answer.sense, Some(Sense::MISCOMPARE.with_information(700)));
        assert_eq!(host.read(0, 5, 2).await, [block(1), block(2)].concat());
        // Data that is not twice the blocks says nothing about where its second half begins.
        let answer = host.send(0, &cdb, &data[..3 * BLOCK]).await;
        assert_eq!(answer.sense, Some(Sense::cdb_field(13, 7)));
        let (cdb, data) = compare_and_write(63, &wrong, &wrong);
        assert_eq!(host.send(0, &cdb, &data).await.sense, Some(Sense::OUT_OF_RANGE));
        // Nothing against nothing is equal.
        host.send(0, &sixteen(0x89, 0, 0), &[]).await.good();
    })
}

#[test]
fn write_and_verify_takes_what_came_and_leaves_the_rest() {
    let house = House::new(&[("m", memory(64, 512))]);
    house.run(|host| async move {
        host.write(0, 0, &[block(1), block(1), block(1)].concat()).await.good();
        let cdb = ten(0x2e, 2, 0, 3);
        host.send(0, &cdb, &vec![2; BLOCK + 200]).await.good();
        let wanted = [block(2), vec![2; 200], vec![1; 2 * BLOCK - 200]].concat();
        assert_eq!(host.read(0, 0, 3).await, wanted);
        let beyond = host.send(0, &ten(0x2e, 2, 62, 3), &vec![0; 3 * BLOCK]).await;
        assert_eq!(beyond.sense, Some(Sense::OUT_OF_RANGE));
    })
}

#[test]
fn only_who_can_promise_it_writes_atomically() {
    let stripe = Table::Stripe {
        on: vec!["m".into(), "n".into()],
        chunk: 8,
    };
    let house = House::new(&[
        ("a", memory(64, 512)),
        ("m", memory(64, 512)),
        ("n", memory(64, 512)),
        ("s", stripe),
    ]);
    house.run(|host| async move {
        let mut cdb = sixteen(0x9c, 2, 0);
        cdb[13] = 2;
        host.send(0, &cdb, &[block(5), block(6)].concat()).await.good();
        assert_eq!(host.read(0, 2, 2).await, [block(5), block(6)].concat());
        let short = host.send(0, &cdb, &block(5)).await;
        assert_eq!(
            short.sense,
            Some(Sense::INFORMATION_UNIT),
            "half of it would not be atomic"
        );
        let striped = host.send(3, &cdb, &[block(5), block(6)].concat()).await;
        assert_eq!(striped.sense, Some(Sense::OPCODE), "one member may fail alone");
        let limits = host.send(3, &[0x12, 1, 0xb0, 0, 64, 0], &[]).await.good();
        assert_eq!(limits[44..64], [0; 20]);
    })
}

/// Provisioning status and length of each run.
fn runs(list: &[u8]) -> Vec<(u8, u32)> {
    assert_eq!(list.len() % 16, 8);
    let mut at = 0;
    list[8..]
        .chunks(16)
        .enumerate()
        .map(|(i, one)| {
            let lba = u64::from_be_bytes(one[..8].try_into().unwrap());
            let count = u32::from_be_bytes(one[8..12].try_into().unwrap());
            assert!(i == 0 || lba == at, "runs follow one another");
            at = lba + u64::from(count);
            (one[12] & 0xf, count)
        })
        .collect()
}

#[test]
fn lba_status_tells_holes_from_blocks_through_every_module() {
    let stripe = Table::Stripe {
        on: vec!["m".into(), "n".into()],
        chunk: 16,
    };
    let house = House::new(&[("m", memory(128, 512)), ("n", memory(128, 512)), ("s", stripe)]);
    house.run(|host| async move {
        host.write(2, 24, &vec![1; 16 * BLOCK]).await.good(); // eight blocks on each member
        let status = async |lba, room| {
            let mut cdb = sixteen(0x9e, lba, room);
            cdb[1] = 0x12;
            host.send(2, &cdb, &[]).await
        };
        let list = status(0, 1024).await.good();
        assert_eq!(runs(&list), [(1, 24), (0, 16), (1, 216)]);
        assert_eq!(runs(&status(30, 1024).await.good()), [(0, 10), (1, 216)]);
        assert_eq!(runs(&status(0, 24).await.good()), [(1, 24)], "room for one");
        assert_eq!(status(256, 24).await.sense, Some(Sense::OUT_OF_RANGE));
    });
    // The other core asks through a ring.
    let list = house.start(1, |host| async move {
        let mut cdb = sixteen(0x9e, 20, 1024);
        cdb[1] = 0x12;
        host.send(2, &cdb, &[]).await.good()
    });
    assert_eq!(runs(&list.wait()), [(1, 4), (0, 16), (1, 216)]);
}

/// An EXTENDED COPY (LID1) list: units by their NAA designators, then segments (source, destination, blocks, from, to).
fn copy_list(id: u8, naas: &[Vec<u8>], segments: &[(u16, u16, u16, u64, u64)]) -> Vec<u8> {
    let mut out = vec![id, 0, 0, (naas.len() * 32) as u8, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&((segments.len() * 28) as u16).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    for naa in naas {
        let mut one = vec![0xe4, 0, 0, 0, 1, 3, 0, naa.len() as u8];
        one.extend_from_slice(naa);
        one.resize(32, 0);
        out.extend_from_slice(&one);
    }
    for (source, destination, blocks, from, to) in segments {
        out.extend_from_slice(&[2, 0, 0, 24]);
        [source, destination, &0, blocks]
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
        [from, to].iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
    }
    out
}

fn extended_copy(list: &[u8]) -> [u8; 16] {
    sixteen(0x83, 0, list.len() as u32)
}

#[test]
fn copies_go_between_units_and_are_remembered() {
    let house = House::new(&[("m", memory(8192, 512)), ("n", memory(512, 4096))]);
    house.run(|host| async move {
        let mut naas = Vec::new();
        for lun in 0..2 {
            let page = host.send(lun, &[0x12, 1, 0x83, 1, 0, 0], &[]).await.good();
            assert_eq!(page[4..8], [1, 3, 0, 8], "the NAA comes first");
            naas.push(page[8..16].to_vec());
        }
        for lba in 0..32 {
            host.write(0, lba, &block(lba as u8 + 1)).await.good();
        }
        // 16 blocks of 512 bytes are 2 of 4096.
        let list = copy_list(9, &naas, &[(0, 1, 16, 8, 100)]);
        host.send(0, &extended_copy(&list), &list).await.good();
        let found = host.read(1, 100, 2).await;
        let wanted: Vec<u8> = (9..25).flat_map(block).collect();
        assert!(found == wanted);
        let mut status = sixteen(0x84, 0, 1024);
        status[2] = 9;
        assert_eq!(
            host.send(0, &status, &[]).await.good(),
            [0, 0, 0, 8, 1, 0, 1, 0, 0, 0, 0x20, 0]
        );
        status[2] = 8;
        assert_eq!(host.send(0, &status, &[]).await.sense, Some(Sense::cdb_field(2, 7)));
        // Onto itself, forwards and backwards, as if there were a copy between.
        let list = copy_list(1, &naas, &[(0, 0xffff, 24, 0, 4)]);
        host.send(0, &extended_copy(&list), &list).await.good();
        let wanted: Vec<u8> = (1..25).flat_map(block).collect();
        assert!(host.read(0, 4, 24).await == wanted);
        // What cannot be copied.
        for (segment, sense) in [
            ((0, 5, 1, 0, 0), Sense::UNREACHABLE_CSCD),
            ((0, 0, 2, 0, 8191), Sense::SEGMENT_ABORTED),
            ((0, 1, 9, 0, 0), Sense::INEXACT_SEGMENT),
        ] {
            let list = copy_list(2, &naas, &[segment]);
            assert_eq!(host.send(0, &extended_copy(&list), &list).await.sense, Some(sense));
        }
        let list = copy_list(2, &[vec![0x3f; 8]], &[(0, 0, 1, 0, 1)]);
        let answer = host.send(0, &extended_copy(&list), &list).await;
        assert_eq!(answer.sense, Some(Sense::CSCD_NOT_REACHABLE));
        let mut details = sixteen(0x84, 0, 1024);
        (details[1], details[2]) = (4, 2);
        let details = host.send(0, &details, &[]).await.good();
        assert_eq!(Sense::parse(&details[60..]), Some(Sense::CSCD_NOT_REACHABLE));
        let mut parameters = sixteen(0x84, 0, 1024);
        parameters[1] = 3;
        assert_eq!(
            host.send(0, &parameters, &[]).await.good(),
            lists::operating_parameters()
        );
    })
}

#[test]
fn a_long_copy_on_one_disk_overlaps_itself_unharmed() {
    let house = House::new(&[("m", memory(16384, 512))]);
    house.run(|host| async move {
        for lba in (0..8192).step_by(64) {
            let data: Vec<u8> = (lba..lba + 64).flat_map(|n| numbered(u64::from(n))).collect();
            host.write(0, lba, &data).await.good();
        }
        // Four steps of the copy, shifted by less than one.
        let list = copy_list(0, &[], &[(0xffff, 0xffff, 8192, 0, 100)]);
        host.send(0, &extended_copy(&list), &list).await.good();
        for lba in [100, 2147, 2148, 2149, 6000, 8291] {
            assert!(
                host.read(0, lba, 1).await == numbered(u64::from(lba) - 100),
                "block {lba}"
            );
        }
        let list = copy_list(0, &[], &[(0xffff, 0xffff, 8192, 100, 0)]);
        host.send(0, &extended_copy(&list), &list).await.good();
        for lba in [0, 2047, 2048, 4096, 8191] {
            assert!(host.read(0, lba, 1).await == numbered(u64::from(lba)), "block {lba}");
        }
    })
}

#[test]
fn what_takes_minutes_ends_when_its_own_host_aborts_it() {
    let slow = Table::Delay {
        on: "m".into(),
        avg_read_us: 0,
        p99_read_us: 0,
        avg_write_us: 40_000,
        p99_write_us: 40_000,
    };
    let house = House::new(&[("m", memory(65536, 512)), ("d", slow)]);
    house.run(|host| async move {
        let page = host.send(1, &[0x12, 1, 0x83, 1, 0, 0], &[]).await.good();
        let naas = vec![page[8..16].to_vec(); 2];
        // 15 MiB, of which a step is one.
        let copy = copy_list(1, &naas, &[(0, 1, 30_000, 0, 32_000)]);
        let overwrite = [&[1, 0, 0, 1][..], &[0x11]].concat();
        let mut sanitize = [0; 16];
        (sanitize[0], sanitize[1], sanitize[8]) = (0x48, 0x01, 5);
        for (cdb, data) in [(extended_copy(&copy), copy), (sanitize, overwrite)] {
            let request = Request {
                lun: Lun::new(1).unwrap().to_wire(),
                cdb: Cdb::new(&cdb),
                room: 0,
                data: Buf::from_slice(&data),
            };
            let began = reactor::now();
            let unwanted = || reactor::now().since(began) > Duration::from_millis(60);
            execute_unless(&host.0, request, &unwanted).await;
            let took = reactor::now().since(began);
            // All of it would take 600 ms and 1300 ms.
            assert!(
                took > Duration::from_millis(60) && took < Duration::from_millis(450),
                "{cdb:02x?}: {took:?}"
            );
        }
        // The sanitize goes on without the command that began it.
        let busy = host.send(1, &[0; 6], &[]).await;
        assert_eq!(busy.why(), Some((SenseKey::NotReady, 0x04, 0x1b)));
    });
}

#[test]
fn sanitize_is_the_units_business_and_shuts_everybody_out() {
    let slow = Table::Delay {
        on: "m".into(),
        avg_read_us: 0,
        p99_read_us: 0,
        avg_write_us: 60_000,
        p99_write_us: 60_000,
    };
    let house = House::new(&[("m", memory(16384, 512)), ("d", slow)]);
    let mut list = vec![0x82, 0, 2, 0];
    list.extend_from_slice(&block(0xaa));
    let began = house.run(move |host| async move {
        let list = list;
        let mut cdb = [0; 10];
        (cdb[0], cdb[1]) = (0x48, 0x81);
        cdb[7..9].copy_from_slice(&(list.len() as u16).to_be_bytes());
        for wrong in [&list[..4], &list[..20]] {
            let mut cdb = cdb;
            cdb[7..9].copy_from_slice(&(wrong.len() as u16).to_be_bytes());
            let key = host.send(1, &cdb, wrong).await.why().map(|(key, ..)| key);
            assert_eq!(key, Some(SenseKey::IllegalRequest));
        }
        host.send(1, &cdb, &list).await.good();
        host.send(1, &[0; 6], &[]).await
    });
    // That session has ended. Others, on another core, find the unit busy with itself.
    assert_eq!(began.why(), Some((SenseKey::NotReady, 0x04, 0x1b)));
    let story = house.start(1, |host| async move {
        let read = host.send(1, &ten(0x28, 0, 0, 1), &[]).await;
        assert_eq!(read.why(), Some((SenseKey::NotReady, 0x04, 0x1b)));
        assert!(read.sense.unwrap().progress.is_some());
        host.send(1, &[0x12, 0, 0, 0, 96, 0], &[]).await.good();
        let mut last = 0;
        loop {
            let sense = host.send(1, &[0x03, 0, 0, 0, 252, 0], &[]).await.good();
            match Sense::parse(&sense).unwrap() {
                Sense::NONE => break,
                sense => {
                    let progress = sense.progress.unwrap();
                    assert!(progress >= last, "progress goes on");
                    last = progress
                }
            }
            reactor::sleep(Duration::from_millis(10)).await
        }
        assert!(last > 0, "somebody saw it going on");
        for lba in [0, 8000, 16383] {
            assert!(host.read(1, lba, 1).await == block(0xaa));
        }
        // And now everything away; the host waits for it.
        host.send(1, &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], &[]).await.good();
        let mut cdb = sixteen(0x9e, 0, 1024);
        cdb[1] = 0x12;
        assert_eq!(runs(&host.send(1, &cdb, &[]).await.good()), [(1, 16384)]);
        assert!(host.read(1, 8000, 1).await == block(0));
    });
    story.wait()
}

#[test]
fn a_failed_sanitize_is_left_only_by_the_way_it_allowed() {
    let flaky = Table::Error {
        on: "m".into(),
        inject: Vec::new(),
    };
    let house = House::new(&[("m", memory(4096, 512)), ("e", flaky)]);
    let erase = |ause: u8| [0x48, 0x02 | ause, 0, 0, 0, 0, 0, 0, 0, 0];
    let exit = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
    let failed = Some((SenseKey::MediumError, 0x31, 0x03));
    for ause in [0x20, 0] {
        let once = Injection {
            on: Ops::WriteZeroes,
            count: Some(1),
            ..Injection::new(Effect::Fail { error: IoError::Medium })
        };
        house.runtime.block_on(house.graph.inject("e", once)).unwrap();
        house.run(move |host| async move {
            assert_eq!(host.send(1, &erase(ause), &[]).await.why(), failed);
            assert_eq!(host.send(1, &ten(0x28, 0, 0, 1), &[]).await.why(), failed);
            match ause {
                0 => {
                    let refused = host.send(1, &exit, &[]).await;
                    assert_eq!(refused.sense, Some(Sense::cdb_field(1, 4)));
                    // The only way out is to do it right.
                    host.send(1, &erase(0), &[]).await.good();
                }
                _ => drop(host.send(1, &exit, &[]).await.good()),
            }
            host.read(1, 0, 1).await;
        })
    }
}

/// What REPORT SUPPORTED OPERATION CODES says of SANITIZE CRYPTOGRAPHIC ERASE, and WACEREQ of the block device characteristics.
async fn erasable(host: &Host, lun: u16) -> (bool, u8) {
    let ask = [0xa3, 0x0c, 0x03, 0x48, 0, 0x03, 0, 0, 1, 0, 0, 0];
    let told = host.send(lun, &ask, &[]).await.good();
    let page = host.send(lun, &[0x12, 1, 0xb1, 0, 64, 0], &[]).await.good();
    (told[1] & 7 == 3, page[7] >> 4 & 3)
}

#[test]
fn a_cryptographic_erase_leaves_noise_and_is_offered_only_where_there_is_a_key_to_forget() {
    let crypt = |on: &str, key: &str| Table::Crypt {
        on: on.into(),
        key: key.into(),
    };
    let house = House::new(&[
        ("m", memory(4096, 512)),
        ("c", crypt("m", "drawn")),
        ("n", memory(64, 512)),
        ("d", crypt("n", "given")),
        ("p", memory(64, 512)),
    ]);
    let erase = [0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0];
    let began = house.run(move |host| async move {
        for lun in [3, 4] {
            assert_eq!(erasable(&host, lun).await, (false, 0), "unit {lun}");
            let refused = host.send(lun, &erase, &[]).await;
            assert_eq!(
                refused.why().map(|why| why.0),
                Some(SenseKey::IllegalRequest),
                "unit {lun}"
            );
        }
        assert_eq!(erasable(&host, 1).await, (true, 1));
        for lba in 0..100 {
            host.write(1, lba, &block(0xaa)).await.good();
        }
        // A parameter list is for overwrites.
        let mut with_list = erase;
        with_list[8] = 8;
        let refused = host.send(1, &with_list, &[0; 8]).await;
        assert_eq!(refused.why().map(|why| why.0), Some(SenseKey::IllegalRequest));
        assert!(host.read(1, 50, 1).await == block(0xaa));
        host.send(1, &[0x48, 0x83, 0, 0, 0, 0, 0, 0, 0, 0], &[]).await.good()
    });
    assert!(began.is_empty());
    let other = house.start(1, move |host| async move {
        while host.send(1, &[0; 6], &[]).await.why().is_some() {
            reactor::sleep(Duration::from_millis(1)).await
        }
        for lba in 0..100 {
            let found = host.read(1, lba, 1).await;
            let alike = found.iter().filter(|byte| **byte == 0xaa).count();
            assert!(alike < BLOCK / 4, "block {lba}: {alike} bytes as they were");
        }
        host.write(1, 7, &block(0xbb)).await.good();
        host.send(1, &erase, &[]).await.good();
        assert!(host.read(1, 7, 1).await != block(0xbb));
        host.write(1, 7, &block(0xcc)).await.good();
        assert!(host.read(1, 7, 1).await == block(0xcc));
    });
    other.wait()
}
