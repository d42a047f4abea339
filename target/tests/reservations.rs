//! Hosts that share a volume, command by command: reservations, asymmetric access, and what each host is told of them.
use bdev::{
    Table,
    graph::Graph,
    node::{NodeInfo, NodeSpec},
};
use reactor::{Buf, Reactors};
use spec::scsi::{
    AccessState, Cdb, Lun, Sense, Status, TransportId,
    reservation::{Out, Parameters, Type, parse_full_status},
    target_port_groups::{Cause, parse_report},
};
use std::{
    path::Path,
    rc::Rc,
    sync::{Arc, mpsc},
    time::Duration,
};
use target::scsi::{
    Moved, Nexus, NexusId, Outcome, Request,
    options::LunOptions,
    reservation::Registry,
    server::execute,
    unit::{Device, Happening, Unit},
};

/// How long a read of the slow volume takes.
const SLOW: Duration = Duration::from_millis(400);

/// Two cores, a volume `fast` and a volume `slow`.
struct House {
    reactors: Reactors,
    graph: Graph,
    fast: NodeInfo,
    slow: NodeInfo,
}

impl House {
    fn new() -> Self {
        let config = reactor::Config {
            count: 2,
            ..Default::default()
        };
        let reactors = Reactors::start(config).expect("reactors");
        let graph = Graph::new(reactors.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let memory = Table::Memory {
            blocks: 4096,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        let micros = SLOW.as_micros() as u64;
        let delay = Table::Delay {
            on: "below".into(),
            avg_read_us: micros,
            p99_read_us: micros,
            avg_write_us: 0,
            p99_write_us: 0,
        };
        let build = |name: &str, table| {
            runtime
                .block_on(graph.build(NodeSpec::new(name, table)))
                .expect("built")
        };
        Self {
            fast: build("fast", memory.clone()),
            slow: {
                build("below", memory);
                build("slow", delay)
            },
            reactors,
            graph: graph.clone(),
        }
    }

    /// A target with one unit and the ports 1 and 2.
    fn device(&self, volume: &NodeInfo, registry: &Registry) -> Arc<Device> {
        let device = Device::new("iqn.x:t".into());
        let lun = Lun::default();
        let unit = Unit::new(
            lun,
            volume.name.clone(),
            volume.uuid,
            LunOptions::default(),
            &volume.geometry,
        );
        let unit = unit.reserved(registry.of(volume.uuid));
        device.edit(|table| table.insert(lun, Arc::new(unit)));
        device.edit_ports(|ports| {
            ports.keep([1, 2]);
            false
        });
        Arc::new(device)
    }

    /// Runs a story on one core.
    fn on<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        core: usize,
        story: impl FnOnce(Graph) -> F + Send + 'static,
    ) -> reactor::Call<T> {
        let graph = self.graph.clone();
        self.reactors.call(core, move || story(graph))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.reactors.stop();
    }
}

/// A host with a session.
#[derive(Clone)]
struct Host(Rc<Nexus>);

impl Host {
    fn new(graph: &Graph, device: &Arc<Device>, number: u8, port: u16, session: u64) -> Self {
        let id = NexusId {
            initiator: TransportId {
                name: format!("iqn.x:host{number}"),
                isid: Some([0, 0, 0, 0, 0, number]),
            },
            target: device.name.clone(),
            port,
        };
        Self(Rc::new(Nexus::new(graph.clone(), device.clone(), id, session, 1 << 20)))
    }

    async fn send(&self, cdb: &[u8], data: &[u8]) -> Outcome {
        let request = Request {
            lun: [0; 8],
            cdb: Cdb::new(cdb),
            room: 65536,
            data: Buf::from_slice(data),
        };
        execute(&self.0, request).await
    }

    async fn out(&self, action: Out, kind: Option<Type>, list: Parameters) -> Outcome {
        let code = match action {
            Out::Register => 0,
            Out::Reserve => 1,
            Out::Release => 2,
            Out::Clear => 3,
            Out::Preempt => 4,
            Out::PreemptAndAbort => 5,
            Out::RegisterAndIgnoreExistingKey => 6,
            Out::RegisterAndMove => 7,
        };
        let list = list.encode(action);
        let kind = kind.map_or(0, |kind| kind as u8);
        self.send(&[0x5f, code, kind, 0, 0, 0, 0, 0, list.len() as u8, 0], &list)
            .await
    }

    async fn register(&self, key: u64) -> Outcome {
        let list = Parameters {
            service_key: key,
            ..Parameters::default()
        };
        self.out(Out::RegisterAndIgnoreExistingKey, None, list).await
    }

    async fn ready(&self) -> Outcome {
        self.send(&[0; 6], &[]).await
    }

    async fn read(&self) -> Outcome {
        self.send(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]).await
    }

    async fn write(&self) -> Outcome {
        self.send(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[7; 512]).await
    }

    /// Every unit attention there is, by TEST UNIT READY.
    async fn news(&self) -> Vec<Sense> {
        let mut news = Vec::new();
        while let Some(sense) = self.ready().await.sense {
            news.push(sense);
            assert!(news.len() < 9, "there is no end to it: {news:?}");
        }
        news
    }
}

fn keys(key: u64, service_key: u64) -> Parameters {
    Parameters {
        key,
        service_key,
        ..Parameters::default()
    }
}

fn bytes(outcome: &Outcome) -> Vec<u8> {
    assert_eq!(outcome.status, Status::Good, "{:?}", outcome.sense);
    outcome.data.as_ref().expect("data").to_vec()
}

#[test]
fn a_preempted_host_loses_its_running_commands_and_is_told_once() {
    let house = House::new();
    let device = house.device(&house.slow, &Registry::default());
    let (says, hears) = mpsc::channel();
    let (theirs, tells) = (device.clone(), says.clone());
    let victim = house.on(1, move |graph| async move {
        let host = Host::new(&graph, &theirs, 2, 2, 2);
        assert_eq!(host.news().await, [Sense::POWER_ON]);
        assert_eq!(host.register(22).await.status, Status::Good);
        tells.send("reads").unwrap();
        let read = host.read().await;
        tells.send("its read has ended").unwrap();
        assert_eq!(read.status, Status::TaskAborted);
        assert_eq!(host.news().await, [Sense::REGISTRATIONS_PREEMPTED], "once");
        assert_eq!(host.read().await.status, Status::ReservationConflict);
        assert_eq!(host.write().await.status, Status::ReservationConflict);
        // A bystander of the same core is not touched: its own commands go on.
        assert_eq!(host.ready().await.status, Status::Good);
    });
    assert_eq!(hears.recv(), Ok("reads"));
    let fences = house.on(0, move |graph| async move {
        let host = Host::new(&graph, &device, 1, 1, 1);
        assert_eq!(host.news().await, [Sense::POWER_ON]);
        assert_eq!(host.register(11).await.status, Status::Good);
        let kind = Some(Type::ExclusiveAccessRegistrantsOnly);
        assert_eq!(host.out(Out::Reserve, kind, keys(11, 0)).await.status, Status::Good);
        // The other's read is on its way to the disk by now.
        reactor::sleep(SLOW / 4).await;
        let done = host.out(Out::PreemptAndAbort, kind, keys(11, 22)).await;
        says.send("preempted").unwrap();
        assert_eq!(done.status, Status::Good);
        assert_eq!(host.write().await.status, Status::Good);
        assert_eq!(host.news().await, [], "who did it is not told");
    });
    assert_eq!(
        (hears.recv(), hears.recv()),
        (Ok("its read has ended"), Ok("preempted")),
        "the status comes when the other's commands have ended"
    );
    victim.wait();
    fences.wait();
}

#[test]
fn what_is_to_be_kept_is_there_after_a_restart_and_a_damaged_file_lets_nobody_in() {
    let house = House::new();
    let dir = tempfile::tempdir().expect("a folder");
    let registry = |dir: &Path| {
        let registry = Registry::default();
        registry.keep_in(dir).expect("a store");
        registry
    };
    let first = house.device(&house.fast, &registry(dir.path()));
    house
        .on(0, |graph| async move {
            let host = Host::new(&graph, &first, 1, 1, 1);
            host.news().await;
            let list = Parameters {
                service_key: 11,
                persist: true,
                all_target_ports: true,
                ..Parameters::default()
            };
            assert_eq!(host.out(Out::Register, None, list).await.status, Status::Good);
            let done = host.out(Out::Reserve, Some(Type::WriteExclusive), keys(11, 0)).await;
            assert_eq!(done.status, Status::Good);
            // Reservations outlive the session, and the file has all of it by now.
        })
        .wait();
    let second = house.device(&house.fast, &registry(dir.path()));
    house
        .on(0, |graph| async move {
            let (host, other) = (Host::new(&graph, &second, 1, 2, 3), Host::new(&graph, &second, 2, 1, 4));
            host.news().await;
            other.news().await;
            let said = host.send(&[0x5e, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[]).await;
            let (generation, status) = parse_full_status(&bytes(&said)).expect("a full status");
            let told: Vec<_> = status.iter().map(|one| (one.key, one.port, one.holds)).collect();
            assert_eq!(generation, 0, "a power loss resets it");
            assert_eq!(told, [(11, 1, Some(Type::WriteExclusive)), (11, 2, None)]);
            let capabilities = host.send(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[]).await;
            assert_eq!(bytes(&capabilities)[2..4], [0x1d, 0x91], "PTPL_C, PTPL_A");
            assert_eq!(other.read().await.status, Status::Good);
            assert_eq!(other.write().await.status, Status::ReservationConflict);
            assert_eq!(
                host.write().await.status,
                Status::ReservationConflict,
                "the holder came by port 1"
            );
        })
        .wait();
    let file = std::fs::read_dir(dir.path().join("reservations"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|e| e == "json"))
        .expect("the file");
    let mut damaged = std::fs::read(&file).expect("the file");
    damaged[20] ^= 1;
    std::fs::write(&file, damaged).expect("written");
    let third = house.device(&house.fast, &registry(dir.path()));
    house
        .on(0, |graph| async move {
            let (host, other) = (Host::new(&graph, &third, 1, 1, 5), Host::new(&graph, &third, 2, 1, 6));
            host.news().await;
            other.news().await;
            assert_eq!(host.read().await.status, Status::ReservationConflict);
            assert_eq!(host.ready().await.status, Status::Good);
            assert_eq!(host.register(5).await.status, Status::Good);
            assert_eq!(host.write().await.status, Status::Good);
            assert_eq!(other.read().await.status, Status::ReservationConflict);
            assert_eq!(host.out(Out::Clear, None, keys(5, 0)).await.status, Status::Good);
            assert_eq!(other.write().await.status, Status::Good);
        })
        .wait();
    assert!(!file.exists(), "nothing is to be kept any more");
}

#[test]
fn nothing_is_promised_that_cannot_be_kept() {
    let house = House::new();
    let device = house.device(&house.fast, &Registry::default());
    house
        .on(0, |graph| async move {
            let host = Host::new(&graph, &device, 1, 1, 1);
            host.news().await;
            let list = Parameters {
                service_key: 1,
                persist: true,
                ..Parameters::default()
            };
            let done = host.out(Out::Register, None, list).await;
            assert_eq!(done.sense, Some(Sense::parameter_field(20)));
            assert_eq!(
                (done.moved, done.wanted),
                (Moved::Out, 24),
                "the list was taken, so there is no residual"
            );
            let capabilities = host.send(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[]).await;
            assert_eq!(bytes(&capabilities)[2] & 1, 0, "PTPL_C");
        })
        .wait();
}

#[test]
fn registrants_are_told_of_a_release_and_a_clear_once_each() {
    let house = House::new();
    let device = house.device(&house.fast, &Registry::default());
    house
        .on(0, |graph| async move {
            let hosts: Vec<Host> = (1..=4).map(|n| Host::new(&graph, &device, n, 1, n.into())).collect();
            for host in &hosts {
                assert_eq!(host.news().await, [Sense::POWER_ON]);
            }
            let [a, b, c, stranger] = &hosts[..] else {
                unreachable!()
            };
            for host in [a, b, c] {
                assert_eq!(host.register(1).await.status, Status::Good);
            }
            let kind = Some(Type::WriteExclusiveRegistrantsOnly);
            a.out(Out::Reserve, kind, keys(1, 0)).await;
            assert_eq!(b.write().await.status, Status::Good);
            assert_eq!(stranger.write().await.status, Status::ReservationConflict);
            let wrong = Some(Type::ExclusiveAccess);
            assert_eq!(
                a.out(Out::Release, wrong, keys(1, 0)).await.sense,
                Some(Sense::INVALID_RELEASE)
            );
            a.out(Out::Release, kind, keys(1, 0)).await;
            for (host, news) in [
                (a, vec![]),
                (b, vec![Sense::RESERVATIONS_RELEASED]),
                (c, vec![Sense::RESERVATIONS_RELEASED]),
                (stranger, vec![]),
            ] {
                assert_eq!(host.news().await, news);
                assert_eq!(host.write().await.status, Status::Good);
            }
            // Three kinds of news at once come in their order, a reset first.
            a.out(Out::Reserve, kind, keys(1, 0)).await;
            a.out(Out::Release, kind, keys(1, 0)).await;
            assert_eq!(
                b.news().await,
                [Sense::RESERVATIONS_RELEASED],
                "or its CLEAR would hear it"
            );
            b.out(Out::Clear, None, keys(1, 0)).await;
            for (_, unit) in device.table().1.iter() {
                unit.happened(Happening::Capacity);
                unit.happened(Happening::Reset);
            }
            let (reset, capacity) = (Sense::RESET, Sense::CAPACITY_CHANGED);
            assert_eq!(
                c.news().await,
                [
                    reset,
                    Sense::RESERVATIONS_PREEMPTED,
                    Sense::RESERVATIONS_RELEASED,
                    capacity
                ]
            );
            assert_eq!(a.news().await, [reset, Sense::RESERVATIONS_PREEMPTED, capacity]);
            assert_eq!(stranger.news().await, [reset, capacity]);
        })
        .wait();
}

#[test]
fn a_reserve_6_ends_with_its_session_and_with_a_reset_and_yields_to_registrations() {
    let house = House::new();
    let device = house.device(&house.fast, &Registry::default());
    house
        .on(0, |graph| async move {
            const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
            const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
            const SENSE: [u8; 6] = [0x1a, 8, 0x3f, 0, 255, 0];
            let a = Host::new(&graph, &device, 1, 1, 1);
            let b = Host::new(&graph, &device, 2, 1, 2);
            a.news().await;
            b.news().await;
            let status = async |host: &Host, cdb: &[u8]| host.send(cdb, &[]).await.status;
            assert_eq!(status(&a, &RESERVE).await, Status::Good);
            assert_eq!(status(&a, &RESERVE).await, Status::Good);
            assert_eq!(status(&b, &RESERVE).await, Status::ReservationConflict);
            assert_eq!(status(&b, &RELEASE).await, Status::Good, "of what it has not: nothing");
            assert_eq!(status(&b, &SENSE).await, Status::ReservationConflict);
            assert_eq!(b.ready().await.status, Status::ReservationConflict);
            assert_eq!(status(&b, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await, Status::Good);
            assert_eq!(a.write().await.status, Status::Good);
            for host in [&a, &b] {
                assert_eq!(host.register(1).await.status, Status::ReservationConflict, "SPC-2 7.13");
            }
            // Another session of the same nexus is another life.
            let again = Host::new(&graph, &device, 1, 1, 3);
            again.news().await;
            assert_eq!(b.write().await.status, Status::Good);
            // I_T nexus loss.
            assert_eq!(status(&again, &RESERVE).await, Status::Good);
            assert_eq!(b.write().await.status, Status::ReservationConflict);
            drop(again);
            assert_eq!(b.write().await.status, Status::Good);
            // A reset ends RESERVE, and keeps registrations.
            assert_eq!(status(&b, &RESERVE).await, Status::Good);
            b.0.happened(None, Happening::Reset);
            a.news().await;
            assert_eq!(a.write().await.status, Status::Good);
            b.news().await;
            assert_eq!(a.register(1).await.status, Status::Good);
            assert_eq!(
                status(&a, &RESERVE).await,
                Status::ReservationConflict,
                "registered, but no access by it"
            );
            a.out(Out::Reserve, Some(Type::WriteExclusive), keys(1, 0)).await;
            assert_eq!(status(&a, &RESERVE).await, Status::Good, "CRH");
            assert_eq!(status(&b, &RESERVE).await, Status::ReservationConflict);
            assert_eq!(status(&a, &RELEASE).await, Status::Good);
            b.0.happened(None, Happening::Reset);
            b.news().await;
            assert_eq!(b.write().await.status, Status::ReservationConflict);
        })
        .wait();
}

#[test]
fn a_port_says_what_it_is_good_for_and_every_host_hears_of_it_once() {
    let house = House::new();
    let device = house.device(&house.fast, &Registry::default());
    house
        .on(0, |graph| async move {
            let a = Host::new(&graph, &device, 1, 1, 1);
            let b = Host::new(&graph, &device, 1, 2, 2);
            a.news().await;
            b.news().await;
            device.edit_ports(|ports| ports.set(2, AccessState::Standby, Cause::Implicit) == Some(true));
            for host in [&a, &b] {
                assert_eq!(host.ready().await.sense, Some(Sense::ACCESS_CHANGED));
            }
            assert_eq!(a.read().await.status, Status::Good);
            assert_eq!(b.read().await.sense, Some(Sense::PORT_STANDBY));
            assert_eq!(b.ready().await.sense, Some(Sense::PORT_STANDBY));
            assert_eq!(
                b.send(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).await.status,
                Status::Good
            );
            let report: [u8; 12] = [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
            let groups = parse_report(&bytes(&b.send(&report, &[]).await)).expect("groups");
            let told: Vec<_> = groups
                .iter()
                .map(|group| (group.tag, group.state, group.cause))
                .collect();
            assert_eq!(
                told,
                [
                    (1, AccessState::ActiveOptimized, Cause::Unknown),
                    (2, AccessState::Standby, Cause::Implicit)
                ]
            );
            // Hosts set nothing unless they may; then others hear of it.
            let set: [u8; 12] = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];
            let swap = [0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 2];
            assert_eq!(a.send(&set, &swap).await.sense, Some(Sense::OPCODE));
            device.edit_ports(|ports| {
                ports.explicit = true;
                false
            });
            let unknown = [0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 9];
            assert_eq!(a.send(&set, &unknown).await.sense, Some(Sense::INVALID_PARAMETER));
            assert_eq!(a.read().await.status, Status::Good, "nothing half done");
            assert_eq!(a.send(&set, &swap).await.status, Status::Good);
            assert_eq!(a.read().await.sense, Some(Sense::PORT_STANDBY), "and no unit attention");
            assert_eq!(b.news().await, [Sense::ACCESS_CHANGED]);
            assert_eq!(b.write().await.status, Status::Good);
        })
        .wait();
}
