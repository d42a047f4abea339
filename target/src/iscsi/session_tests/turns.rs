//! CmdSN: the window, and the order over several connections.
use super::*;

#[test]
fn the_window_bounds_commands_and_opens_as_answers_leave() {
    let mut host = Host::new();
    host.login(&[]);
    let slots: Vec<u16> = (0..4)
        .map(|i| {
            host.command(i, R, 512, &READ, &[]);
            host.slot()
        })
        .collect();
    // The window is used up: a fifth is silently dropped (4.2.2.1), as is one from the past.
    host.command(9, R, 512, &READ, &[]);
    host.cmd_sn = 100;
    host.command(10, R, 512, &READ, &[]);
    assert_eq!(host.session.event(), None);
    assert!(host.recv().is_empty());
    host.session.take(slots[2]).unwrap();
    host.session.complete(slots[2], read_of(&pattern(512)));
    let (bhs, _) = host.one();
    let pdu: &DataIn = bhs.view();
    assert_eq!((bhs.itt(), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get()), (2, 104, 104));
    host.cmd_sn = 104;
    host.command(11, R, 512, &READ, &[]);
    assert_eq!(host.slot(), slots[2]);
    // A gap on a single connection is the host's mistake.
    let mut host = Host::new();
    host.login(&[]);
    host.cmd_sn += 1;
    host.command(1, R, 512, &READ, &[]);
    assert_eq!(host.session.cause(), Some("gap in CmdSN"));
}

/// Two connections of one session.
fn pair() -> (Host, Host) {
    let order = Arc::new(Sequencer::new(100, 4));
    let one = |id: u64| {
        let mut host = Host::new();
        host.world.order = Some((order.clone(), id));
        host.login(&["MaxConnections=2", "InitialR2T=No"]);
        host
    };
    (one(1), one(2))
}

#[test]
fn commands_of_two_connections_begin_in_the_order_of_their_numbers() {
    let (mut a, mut b) = pair();
    // B's come first: they are kept, with their data, and a ping too.
    b.cmd_sn = 101;
    let data = pattern(4096);
    b.command(1, W, 4096, &WRITE, &data);
    let nop = NopOut {
        opcode: Opcode::NopOut as u8,
        flags: FINAL,
        itt: 5.into(),
        ttt: NO_TAG.into(),
        cmd_sn: b.cmd_sn.into(),
        ..Default::default()
    };
    b.cmd_sn += 1;
    b.send(nop.as_bytes(), b"early");
    b.command(2, W, 8192, &WRITE, &[]);
    assert_eq!(b.session.event(), None);
    assert!(b.recv().is_empty(), "neither R2T nor echo before their turn");
    assert!(
        b.session.deadline().unwrap() < Time(30_000_000_000),
        "that is not waited for for ever"
    );
    a.command(3, R, 512, &READ, &[]);
    let slot = a.slot();
    b.session.turn(&mut b.world);
    let written_slot = b.slot();
    assert_eq!(b.session.take(written_slot).unwrap().data.to_vec(), data);
    let opcodes: Vec<_> = b.recv().iter().map(|(bhs, _)| bhs.opcode()).collect();
    assert_eq!(opcodes, [Some(Opcode::NopIn), Some(Opcode::R2t)]);
    // One window for both: three commands are under way, so there is room for one more, on either.
    a.session.take(slot).unwrap();
    a.session.complete(slot, read_of(&data[..512]));
    let (bhs, _) = a.one();
    let pdu: &DataIn = bhs.view();
    assert_eq!((pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get()), (104, 105));
    assert_eq!(pdu.stat_sn.get(), 51, "StatSN is each connection's own");
}

#[test]
fn a_command_that_never_comes_ends_the_session_in_the_end() {
    let (mut a, _b) = pair();
    a.cmd_sn = 101;
    a.command(1, R, 512, &READ, &[]);
    let due = a.session.deadline().unwrap();
    a.session.tick(due);
    assert_eq!(a.session.cause(), Some("a command of the session is missing"));
    assert!(!a.session.is_orderly(), "the other connection goes as well");
}

#[test]
fn an_abort_of_a_command_that_is_still_to_come_counts_it_as_here() {
    let (mut a, mut b) = pair();
    b.cmd_sn = 101;
    b.command(1, R, 512, &READ, &[]);
    assert_eq!(b.session.event(), None);
    // 100 was sent on A and lost; its abort comes on A and names it.
    a.cmd_sn = 101;
    a.task(Function::AbortTask, 2, 77);
    let Some(Event::Task(request)) = a.session.event() else {
        panic!()
    };
    a.session.abort_task(&request);
    assert_eq!(a.one().0.view::<TaskResponse>().response, TaskOutcome::Complete as u8);
    b.session.turn(&mut b.world);
    b.slot();
    // What is neither here nor to come does not exist.
    a.task(Function::AbortTask, 3, 77);
    let Some(Event::Task(request)) = a.session.event() else {
        panic!()
    };
    a.session.abort_task(&request);
    assert_eq!(a.one().0.view::<TaskResponse>().response, TaskOutcome::NoTask as u8);
}

#[test]
fn what_is_aborted_before_its_turn_leaves_its_place() {
    let (mut a, mut b) = pair();
    b.cmd_sn = 101;
    b.command(1, R, 512, &READ, &[]);
    let (over, ended) = channel::bounded(1);
    b.session.abort_all(Aborted::Host, None, over);
    assert!(is_closed(&ended));
    a.command(2, R, 512, &READ, &[]);
    a.slot();
    b.session.turn(&mut b.world);
    assert_eq!(b.session.event(), None);
    b.cmd_sn = 102;
    b.command(3, R, 512, &READ, &[]);
    b.slot();
}
