//! What hosts see of a logical unit, by its options: commands go straight to the device server, from two nexuses.
use bdev::{
    Table,
    graph::Graph,
    module::error::{Effect, Injection, Ops},
    node::NodeSpec,
};
use reactor::{Buf, Config, Reactors};
use spec::scsi::{Cdb, CdbError, Lun, Sense, Status, TransportId, opcodes::TABLE};
use std::{future::Future, sync::Arc};
use target::scsi::{
    Nexus, NexusId, Outcome, Request,
    options::LunOptions,
    server::execute,
    unit::{Device, Happening, Unit},
};

/// A target with one unit, seen by two hosts.
struct Bench {
    device: Arc<Device>,
    graph: Graph,
    a: Nexus,
    b: Nexus,
}

impl Bench {
    fn nexus(device: &Arc<Device>, graph: &Graph, session: u64) -> Nexus {
        let id = NexusId {
            initiator: TransportId {
                name: format!("iqn.host:{session}"),
                isid: Some([0; 6]),
            },
            target: device.name.clone(),
            port: 1,
        };
        Nexus::new(graph.clone(), device.clone(), id, session, 1 << 20)
    }
}

/// Runs a story on a reactor. The volume is a file, which has a volatile cache and can unmap, below an error module.
fn on_a_unit<F: Future<Output = ()>>(options: LunOptions, story: impl FnOnce(Bench) -> F + Send + 'static) {
    let reactors = Reactors::start(Config::default()).expect("a reactor");
    let graph = Graph::new(reactors.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let dir = std::env::temp_dir().join(format!("ashlar-units-{}-{:p}", std::process::id(), &graph));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("volume.img");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(4 << 20).expect("its length");
    let info = runtime.block_on(async {
        let file = Table::File {
            path,
            block_size: Some(512),
            direct: Default::default(),
            read_only: false,
            create_size: None,
        };
        graph.build(NodeSpec::new("file", file)).await.expect("a file volume");
        let bad = Table::Error {
            on: "file".into(),
            inject: Vec::new(),
        };
        graph.build(NodeSpec::new("bad", bad)).await.expect("an error module")
    });
    options.check_for(&info.geometry).expect("options that can be");
    let own = graph.clone();
    reactors
        .call(0, move || async move {
            let device = Arc::new(Device::new("iqn.x:target".into()));
            device.edit_ports(|ports| {
                ports.keep([1, 2]);
                false
            });
            let unit = Unit::new(Lun::default(), info.name, info.uuid, options, &info.geometry);
            device.edit(|table| table.insert(Lun::default(), Arc::new(unit)));
            let (a, b) = (Bench::nexus(&device, &own, 1), Bench::nexus(&device, &own, 2));
            for nexus in [&a, &b] {
                assert_eq!(run(nexus, &[0; 6]).await.sense, Some(Sense::POWER_ON));
            }
            let graph = own;
            story(Bench { device, graph, a, b }).await;
        })
        .wait();
    let _ = std::fs::remove_dir_all(dir);
}

async fn send(nexus: &Nexus, cdb: &[u8], data: &[u8]) -> Outcome {
    let request = Request {
        lun: [0; 8],
        cdb: Cdb::new(cdb),
        room: 1 << 20,
        data: Buf::from_slice(data),
    };
    execute(nexus, request).await
}

async fn run(nexus: &Nexus, cdb: &[u8]) -> Outcome {
    send(nexus, cdb, &[]).await
}

async fn get(nexus: &Nexus, cdb: &[u8]) -> Vec<u8> {
    let outcome = run(nexus, cdb).await;
    assert_eq!((outcome.status, outcome.sense), (Status::Good, None), "{cdb:02x?}");
    outcome.data.map(|data| data.to_vec()).unwrap_or_default()
}

async fn sense(nexus: &Nexus, cdb: &[u8], data: &[u8]) -> Option<Sense> {
    send(nexus, cdb, data).await.sense
}

const FAIL: Effect = Effect::Fail {
    error: bdev::IoError::Medium,
};
const READY: [u8; 6] = [0; 6];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];
const STOP: [u8; 6] = [0x1b, 0, 0, 0, 0, 0];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const SAME: [u8; 10] = [0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const UNMAP: [u8; 10] = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];

fn unmap_list() -> [u8; 24] {
    let mut list = [0; 24];
    (list[1], list[3], list[19]) = (22, 16, 8);
    list
}

#[test]
fn a_medium_is_locked_ejected_and_loaded() {
    let options = LunOptions {
        removable: true,
        ..Default::default()
    };
    on_a_unit(options, |Bench { device, graph, a, b }| async move {
        assert_eq!(get(&a, &[0x12, 0, 0, 0, 96, 0]).await[1], 0x80, "RMB");
        // Either host's lock holds it, and goes with the host.
        assert_eq!(sense(&a, &PREVENT, &[]).await, None);
        assert_eq!(sense(&b, &EJECT, &[]).await, Some(Sense::REMOVAL_PREVENTED));
        drop(a);
        assert_eq!(sense(&b, &EJECT, &[]).await, None);
        let a = Bench::nexus(&device, &graph, 3);
        assert_eq!(sense(&a, &READY, &[]).await, Some(Sense::POWER_ON));
        for cdb in [&READY[..], &READ, &WRITE, &SAME, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(sense(&a, cdb, &[7; 512]).await, Some(Sense::NO_MEDIUM), "{cdb:02x?}");
        }
        assert_eq!(
            get(&a, &[0x1a, 8, 0x08, 0, 255, 0]).await[4],
            0x08,
            "pages are there without a medium"
        );
        // While it is locked it is not loaded either. Then everybody else hears of the new medium.
        assert_eq!(sense(&b, &PREVENT, &[]).await, None);
        assert_eq!(sense(&a, &LOAD, &[]).await, Some(Sense::REMOVAL_PREVENTED));
        assert_eq!(sense(&b, &ALLOW, &[]).await, None);
        assert_eq!(sense(&a, &LOAD, &[]).await, None);
        assert_eq!(sense(&a, &READY, &[]).await, None, "who loaded it knows");
        assert_eq!(sense(&b, &READY, &[]).await, Some(Sense::MEDIUM_CHANGED));
        assert_eq!(sense(&b, &READY, &[]).await, None);
        // A reset unlocks.
        assert_eq!(sense(&b, &PREVENT, &[]).await, None);
        assert!(a.happened(None, Happening::Reset));
        assert_eq!(sense(&a, &READY, &[]).await, Some(Sense::RESET));
        assert_eq!(sense(&a, &EJECT, &[]).await, None);
        assert_eq!(sense(&a, &EJECT, &[]).await, None, "it is out already");
    });
}

#[test]
fn stopping_a_unit_leaves_it_to_the_others() {
    on_a_unit(LunOptions::default(), |Bench { a, b, .. }| async move {
        assert_eq!(sense(&a, &STOP, &[]).await, None);
        assert_eq!(
            (sense(&b, &READY, &[]).await, sense(&a, &READY, &[]).await),
            (None, None)
        );
        assert_eq!(sense(&a, &EJECT, &[]).await, Some(Sense::cdb_field(4, 1)));
        assert_eq!(sense(&a, &LOAD, &[]).await, None);
        assert_eq!(sense(&a, &PREVENT, &[]).await, Some(Sense::OPCODE));
    });
}

#[test]
fn read_only_and_full_units_say_so_everywhere() {
    let read_only = LunOptions {
        read_only: true,
        ..Default::default()
    };
    on_a_unit(read_only, |Bench { a, .. }| async move {
        assert_eq!(get(&a, &[0x1a, 0, 0x3f, 0, 255, 0]).await[2], 0x90, "WP, DPOFUA");
        for (cdb, data) in [(&WRITE[..], &[1; 512][..]), (&SAME, &[1; 512]), (&UNMAP, &unmap_list())] {
            assert_eq!(sense(&a, cdb, data).await, Some(Sense::WRITE_PROTECTED), "{cdb:02x?}");
        }
        assert_eq!(sense(&a, &READ, &[]).await, None);
    });
    let full = LunOptions {
        thin: Some(false),
        physical_block_size: Some(4096),
        lowest_aligned_lba: 1,
        vendor: Some("ACME".into()),
        serial: Some("S3".into()),
        ..Default::default()
    };
    on_a_unit(full, |Bench { a, .. }| async move {
        let capacity = get(&a, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]).await;
        assert_eq!(
            capacity[12..16],
            [0, 3, 0, 1],
            "8 blocks each, the second aligned, LBPME = 0"
        );
        assert_eq!(sense(&a, &UNMAP, &unmap_list()).await, Some(Sense::OPCODE));
        let mut same = SAME;
        same[1] = 0x08;
        assert_eq!(sense(&a, &same, &[0; 512]).await, Some(Sense::cdb_field(1, 3)));
        let provisioning = get(&a, &[0x12, 1, 0xb2, 0, 255, 0]).await;
        assert_eq!((provisioning[5] & 0xe0, provisioning[6] & 7), (0, 0));
        assert_eq!(get(&a, &[0x12, 1, 0x80, 0, 255, 0]).await, b"\0\x80\0\x02S3");
        assert_eq!(&get(&a, &[0x12, 0, 0, 0, 96, 0]).await[8..16], b"ACME    ");
    });
}

#[test]
fn both_ports_are_told_and_every_page_that_is_listed_comes() {
    on_a_unit(LunOptions::default(), |Bench { a, .. }| async move {
        assert_eq!(get(&a, &[0x12, 0, 0, 0, 96, 0]).await[6] & 0x10, 0x10, "MULTIP");
        let ports = get(&a, &[0x12, 1, 0x88, 1, 0, 0]).await;
        assert!(ports.windows(8).any(|w| w == b",t,0x000") && ports.windows(4).any(|w| w == b"0002"));
        let pages = get(&a, &[0x12, 1, 0, 0, 255, 0]).await;
        for page in &pages[4..] {
            assert_eq!(get(&a, &[0x12, 1, *page, 1, 0, 0]).await[1], *page);
        }
        let logs = get(&a, &[0x4d, 0, 0x40, 0, 0, 0, 0, 1, 0, 0]).await;
        for page in &logs[4..] {
            assert_eq!(get(&a, &[0x4d, 0, 0x40 | page, 0, 0, 0, 0, 1, 0, 0]).await[0], *page);
        }
    });
}

#[test]
fn without_a_write_cache_a_status_means_stable_storage() {
    on_a_unit(LunOptions::default(), |Bench { graph, a, b, .. }| async move {
        let no_flush = Injection {
            on: Ops::Flush,
            ..Injection::new(FAIL)
        };
        let mut page = get(&a, &[0x1a, 8, 0x08, 0, 255, 0]).await;
        assert_eq!(page[6], 0x04, "WCE");
        graph.inject("bad", no_flush.clone()).await.expect("injected");
        assert_eq!(sense(&a, &SAME, &[1; 512]).await, None, "nobody asked for it to last");
        graph.clear_injections("bad").await.expect("cleared");
        // One host switches it off: the other is told, both are bound.
        (page[0], page[2], page[6]) = (0, 0, 0);
        let select = [0x15, 0x10, 0, 0, page.len() as u8, 0];
        assert_eq!(sense(&a, &select, &page).await, None);
        assert_eq!(sense(&b, &READY, &[]).await, Some(Sense::MODE_CHANGED));
        graph.inject("bad", no_flush).await.expect("injected");
        assert_eq!(sense(&b, &SAME, &[1; 512]).await, Some(Sense::WRITE_ERROR));
        assert_eq!(sense(&b, &UNMAP, &unmap_list()).await, Some(Sense::WRITE_ERROR));
        assert_eq!(
            sense(&b, &WRITE, &[1; 512]).await,
            None,
            "that goes with FUA and needs no flush"
        );
        graph.clear_injections("bad").await.expect("cleared");
        // A reset brings back what the administrator said.
        a.happened(None, Happening::Reset);
        assert_eq!(sense(&a, &READY, &[]).await, Some(Sense::RESET));
        assert_eq!(get(&a, &[0x1a, 8, 0x08, 0, 255, 0]).await[6], 0x04);
    });
}

#[test]
fn log_pages_count_what_happens() {
    on_a_unit(LunOptions::default(), |Bench { graph, a, b, .. }| async move {
        let page = async |code: u8| get(&a, &[0x4d, 0, 0x40 | code, 0, 0, 0, 0, 1, 0, 0]).await;
        let number = |page: &[u8], at: usize| u64::from_be_bytes(page[at..at + 8].try_into().expect("eight bytes"));
        let before = number(&page(2).await, 8);
        assert_eq!(sense(&a, &WRITE, &[1; 512]).await, None);
        assert_eq!(number(&page(2).await, 8) - before, 512);
        let once = Injection {
            on: Ops::Read,
            count: Some(1),
            ..Injection::new(FAIL)
        };
        graph.inject("bad", once).await.expect("injected");
        assert_eq!(sense(&a, &READ, &[]).await.map(|s| s.asc), Some(Sense::READ_ERROR.asc));
        assert_eq!((number(&page(3).await, 20), number(&page(2).await, 20)), (1, 0));
        // PCR of page 03h.
        assert_eq!(sense(&b, &[0x4c, 2, 0x43, 0, 0, 0, 0, 0, 0, 0], &[]).await, None);
        assert_eq!(sense(&a, &READY, &[]).await, Some(Sense::LOG_CHANGED));
        assert_eq!((number(&page(3).await, 8), number(&page(3).await, 20)), (0, 0));
        assert_eq!(number(&page(2).await, 8) - before, 512, "another page's");
        let list = page(2).await;
        let select = [0x4c, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
        assert_eq!(sense(&b, &select, &list).await, Some(Sense::parameter_field(4)));
    });
}

/// What REPORT SUPPORTED OPERATION CODES lists is what the unit does not call unknown, for each kind of unit.
#[test]
fn what_is_reported_is_what_there_is() {
    for options in [
        LunOptions::default(),
        LunOptions {
            removable: true,
            thin: Some(false),
            ..Default::default()
        },
    ] {
        on_a_unit(options, |Bench { a, .. }| async move {
            let all = get(&a, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).await;
            let told: Vec<(u8, u8)> = all[4..].chunks(8).map(|row| (row[0], row[3])).collect();
            // SANITIZE would erase the volume under the commands that follow.
            for row in TABLE.iter().filter(|row| row.opcode != 0x48) {
                let cdb = [row.opcode, row.action.unwrap_or(0)];
                // Without blocks, lists or room most are refused for something else, if at all.
                let unknown = sense(&a, &cdb, &[]).await == Some(Sense::OPCODE);
                assert_eq!(told.contains(&(cdb[0], cdb[1])), !unknown, "{}", row.name);
            }
            let absent = Cdb::new(&[0xff]);
            assert_eq!(absent.command(), Err(CdbError::Opcode));
            assert_eq!(sense(&a, &absent.0, &[]).await, Some(Sense::OPCODE));
        });
    }
}

#[test]
fn what_is_to_come_from_the_medium_is_put_there_first() {
    on_a_unit(LunOptions::default(), |Bench { graph, a, .. }| async move {
        let no_flush = Injection {
            on: Ops::Flush,
            ..Injection::new(FAIL)
        };
        graph.inject("bad", no_flush).await.expect("injected");
        let fua = [0x28, 0x08, 0, 0, 0, 0, 0, 0, 1, 0];
        let verify = [0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        // Power condition STANDBY, and the same with NO_FLUSH; ACTIVE.
        let [standby, in_a_hurry, active] = [0x30, 0x34, 0x10].map(|condition| [0x1b, 0, 0, 0, condition, 0]);
        for cdb in [&fua[..], &verify, &standby] {
            assert_eq!(sense(&a, cdb, &[]).await, Some(Sense::WRITE_ERROR), "{cdb:02x?}");
        }
        for cdb in [&READ[..], &in_a_hurry, &active] {
            assert_eq!(sense(&a, cdb, &[]).await, None, "{cdb:02x?}");
        }
    });
    // Where nobody can write there is nothing to put there.
    let read_only = LunOptions {
        read_only: true,
        ..Default::default()
    };
    on_a_unit(read_only, |Bench { a, .. }| async move {
        assert_eq!(sense(&a, &[0x28, 0x08, 0, 0, 0, 0, 0, 0, 1, 0], &[]).await, None);
        // SANITIZE is not there at all, and no page speaks of it.
        for action in [0x01, 0x02, 0x1f] {
            assert_eq!(sense(&a, &[0x48, action], &[]).await, Some(Sense::OPCODE));
        }
        assert_eq!(
            get(&a, &[0x12, 1, 0xb1, 0, 64, 0]).await[7] & 0xf0,
            0,
            "WABEREQ, WACEREQ"
        );
    });
    // A full unit lacks but one service action.
    let full = LunOptions {
        thin: Some(false),
        ..Default::default()
    };
    on_a_unit(full, |Bench { a, .. }| async move {
        assert_eq!(sense(&a, &[0x48, 0x02], &[]).await, Some(Sense::cdb_field(1, 4)));
    });
}

#[test]
fn a_self_test_looks_at_both_ends_of_the_medium() {
    on_a_unit(LunOptions::default(), |Bench { graph, a, .. }| async move {
        let test = |bits: u8| [0x1d, bits, 0, 0, 0, 0];
        assert_eq!(sense(&a, &test(0x04), &[]).await, None);
        assert_eq!(sense(&a, &test(0x00), &[]).await, None);
        assert_eq!(
            sense(&a, &test(0x24), &[]).await,
            Some(Sense::cdb_field(1, 7)),
            "no short one"
        );
        let list = [0x1d, 0x10, 0, 0, 8, 0];
        assert_eq!(
            sense(&a, &list, &[0; 8]).await,
            Some(Sense::cdb_field(3, 7)),
            "no pages"
        );
        let no_read = Injection {
            on: Ops::Read,
            ..Injection::new(FAIL)
        };
        graph.inject("bad", no_read).await.expect("injected");
        assert_eq!(sense(&a, &test(0x04), &[]).await, Some(Sense::SELF_TEST_FAILED));
        assert_eq!(sense(&a, &test(0x00), &[]).await, None, "nothing is tested");
    });
}
