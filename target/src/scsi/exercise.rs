//! The device server under any commands: what a fuzz target runs, and the ordinary tests over the corpus.
//!
//! ```text
//!   input    options of both units, then records
//!   record   who and where   command block (16 bytes)   bytes the host takes, in 16s   length of its data   its data
//! ```
//!
//! Two hosts send to two small disks of memory. Whatever comes, nobody panics, a status fits its sense data, nobody gets more than the
//! command says, and no block changes that the command may not touch: none at all if it was refused or only looks.
use super::{
    Nexus, NexusId, Outcome, Request,
    options::LunOptions,
    rules::{Reservation, Rule},
    server::execute,
    unit::{Device, Unit},
};
use bdev::{Io, Opened, Table, graph::Graph, node::NodeSpec};
use reactor::{Buf, Reactors};
use spec::{
    BlockRange,
    scsi::{Cdb, Lun, SenseKey, Status, TransportId},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The disks: name, blocks, bytes in a block.
const DISKS: [(&str, u64, u32); 2] = [("narrow", 128, 512), ("wide", 16, 4096)];
/// Most records of an input.
const RECORDS: usize = 64;
const MAX_TRANSFER: u32 = 32 << 10;

struct House {
    reactors: Reactors,
    graph: Graph,
}

fn house() -> &'static Mutex<House> {
    static HOUSE: OnceLock<Mutex<House>> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let reactors = Reactors::start(reactor::Config::default()).expect("reactors start");
        let graph = Graph::new(reactors.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        for (name, blocks, block_size) in DISKS {
            let table = Table::Memory {
                blocks,
                block_size,
                physical_block_size: None,
                optimal_io: 0,
            };
            runtime
                .block_on(graph.build(NodeSpec::new(name, table)))
                .expect("a disk of memory");
        }
        Mutex::new(House { reactors, graph })
    })
}

/// Commands one after another; see the [module](self).
pub fn fuzz_scsi_server(data: &[u8]) {
    let house = house().lock().unwrap_or_else(PoisonError::into_inner);
    let (graph, data) = (house.graph.clone(), data.to_vec());
    house
        .reactors
        .call(0, move || async move { play(graph, &data).await })
        .wait()
}

/// What an input asks for.
struct Record<'a> {
    host: usize,
    lun: usize,
    cdb: [u8; 16],
    room: u32,
    data: &'a [u8],
}

fn record<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let (head, more) = rest.split_first_chunk::<20>()?;
    let len = usize::from(u16::from_be_bytes([head[18], head[19]]) & 0x3fff).min(more.len());
    let (data, more) = more.split_at(len);
    *rest = more;
    let mut cdb = [0; 16];
    cdb.copy_from_slice(&head[1..17]);
    Some(Record {
        host: usize::from(head[0] & 1),
        lun: usize::from(head[0] >> 1 & 1),
        cdb,
        room: u32::from(head[17]) * 16,
        data,
    })
}

fn options(bits: u8) -> LunOptions {
    LunOptions {
        read_only: bits & 1 != 0,
        removable: bits & 2 != 0,
        thin: (bits & 4 != 0).then_some(false),
        ..LunOptions::default()
    }
}

async fn content(disk: &Opened) -> Vec<u8> {
    let blocks = disk.blocks() as u32; // few
    let all = Buf::alloc((blocks * disk.block_size()) as usize);
    let read = disk.perform(Io::read(BlockRange::new(0, blocks), all.clone())).await;
    read.expect("memory can be read");
    all.to_vec()
}

async fn play(graph: Graph, data: &[u8]) {
    let [how, rest @ ..] = data else { return };
    let mut rest = rest;
    let device = Arc::new(Device::new("iqn.t".into()));
    let mut disks = Vec::new();
    let mut units = Vec::new();
    for (number, (name, ..)) in DISKS.iter().enumerate() {
        let disk = graph.open(name).await.expect("a disk of memory");
        let all = BlockRange::new(0, disk.blocks() as u32); // few
        disk.perform(Io::write_zeroes(all, false))
            .await
            .expect("memory can be written");
        let info = graph.info(name).expect("it is there");
        let lun = Lun::new(number as u16).expect("small");
        let options = options(how >> (4 * number) & 0xf);
        let unit = Arc::new(Unit::new(lun, info.name, info.uuid, options, &info.geometry));
        device.edit(|table| table.insert(lun, unit.clone()));
        units.push(unit);
        disks.push(disk);
    }
    let hosts = [1, 2].map(|session| {
        let initiator = TransportId {
            name: "iqn.i".into(),
            isid: Some([0, 0, 0, 0, 0, session]),
        };
        let id = NexusId {
            initiator,
            target: "iqn.t".into(),
            port: 1,
        };
        Nexus::new(graph.clone(), device.clone(), id, session.into(), MAX_TRANSFER)
    });
    for host in &hosts {
        for unit in &units {
            // Power on is told.
            execute(host, request(unit.lun, [0; 16], 0, &[])).await;
        }
    }
    let quiet = || units.iter().all(|unit| unit.sanitization.sense().is_none());
    for _ in 0..RECORDS {
        let Some(one) = record(&mut rest) else { break };
        let before = [content(&disks[0]).await, content(&disks[1]).await];
        let was_quiet = quiet();
        let command = Cdb(one.cdb).command();
        let outcome = execute(
            &hosts[one.host],
            request(units[one.lun].lun, one.cdb, one.room, one.data),
        )
        .await;
        check(&outcome);
        if was_quiet && quiet() {
            let after = [content(&disks[0]).await, content(&disks[1]).await];
            let looks = |rule: Rule| matches!(rule.reservation, Reservation::Free | Reservation::Reads);
            let refused = match outcome.sense {
                Some(sense) => !matches!(
                    sense.key,
                    SenseKey::CopyAborted | SenseKey::MediumError | SenseKey::HardwareError | SenseKey::AbortedCommand
                ),
                None => outcome.status != Status::Good,
            };
            let harmless = refused || command.as_ref().map_or(true, |command| looks(Rule::of(command)));
            assert!(
                !harmless || before == after,
                "{:02x?} changed what it may not: {outcome:?}",
                one.cdb
            );
            if let Some(transfer) = command.ok().and_then(|command| command.transfer()) {
                let block = disks[one.lun].block_size() as usize;
                let start = usize::try_from(transfer.range.start.0)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(block);
                // A WRITE SAME of no blocks goes to the end.
                let len = match transfer.range.count {
                    0 => usize::MAX,
                    count => count as usize * block,
                };
                let own = start..start.saturating_add(len);
                let pairs = before[one.lun].iter().zip(&after[one.lun]).enumerate();
                let stray = pairs.filter(|(at, (old, new))| old != new && !own.contains(at)).count();
                assert_eq!(stray, 0, "{:02x?} changed bytes beyond its blocks", one.cdb);
                assert!(
                    before[1 - one.lun] == after[1 - one.lun],
                    "{:02x?} changed another unit",
                    one.cdb
                );
            }
        }
    }
    // What goes on in the background ends before the next input.
    while units.iter().any(|unit| unit.sanitization.is_running()) {
        reactor::yield_now().await
    }
}

fn request(lun: Lun, cdb: [u8; 16], room: u32, data: &[u8]) -> Request {
    Request {
        lun: lun.to_wire(),
        cdb: Cdb(cdb),
        room,
        data: match data {
            [] => Buf::empty(),
            data => Buf::from_slice(data),
        },
    }
}

fn check(outcome: &Outcome) {
    assert_eq!(
        outcome.status == Status::CheckCondition,
        outcome.sense.is_some(),
        "{outcome:?}"
    );
    if let Some(data) = &outcome.data {
        assert_eq!(outcome.status, Status::Good, "data without GOOD: {outcome:?}");
        assert!(
            data.len() as u64 <= outcome.wanted,
            "more than the command says: {outcome:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spec::scsi::opcodes::TABLE;

    /// A command there is, with few addresses and lengths, so that something happens.
    fn records() -> impl Strategy<Value = Vec<u8>> {
        let one = (
            0..4u8,
            proptest::sample::select((0..TABLE.len()).collect::<Vec<_>>()),
            any::<[u8; 16]>(),
            any::<u16>(),
            proptest::collection::vec(any::<u8>(), 0..64),
            0..4u16,
        )
            .prop_map(|(who, row, noise, sparse, list, blocks)| {
                let row = &TABLE[row];
                let mut record = vec![who];
                let mut cdb = [0; 16];
                for (at, (byte, usage)) in cdb.iter_mut().zip(row.usage).enumerate() {
                    // Most bytes stay zero: otherwise hardly a block lies on the medium.
                    *byte = noise[at] & usage & if sparse >> at & 1 == 1 { 0x0f } else { 0 };
                }
                cdb[0] = row.opcode;
                if let Some(action) = row.action {
                    cdb[1] = cdb[1] & 0xe0 | action;
                }
                record.extend_from_slice(&cdb);
                let mut data = list;
                data.resize(data.len().max(usize::from(blocks) * 512), 0x5a);
                record.push(0xff);
                record.extend_from_slice(&(data.len() as u16).to_be_bytes());
                record.extend_from_slice(&data);
                record
            });
        (any::<u8>(), proptest::collection::vec(one, 1..24)).prop_map(|(how, all)| [vec![how], all.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_command_touches_what_it_may_not(data in records()) {
            fuzz_scsi_server(&data);
        }
    }

    #[test]
    fn the_corpus_replays() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/scsi_server");
        let mut inputs = 0;
        for entry in std::fs::read_dir(folder).expect(folder) {
            fuzz_scsi_server(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 8, "{folder} has too few inputs to be the corpus");
    }
}
