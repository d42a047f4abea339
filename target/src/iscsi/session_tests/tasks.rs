//! Task management.
use super::*;

#[test]
fn an_aborted_command_is_not_answered_and_its_abort_waits_for_it() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.task(Function::AbortTask, 2, 1);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert!(host.recv().is_empty(), "it still runs");
    host.session.complete(slot, read_of(&pattern(512)));
    let (bhs, _) = host.one();
    assert_eq!((bhs.opcode(), bhs.itt()), (Some(Opcode::TaskResponse), 2));
    assert_eq!(bhs.view::<TaskResponse>().response, TaskOutcome::Complete as u8);

    // One that waits for data is over at once, and its data is read and forgotten.
    host.command(3, W, 4096, &WRITE, &[]);
    let tag = host.one().0.view::<R2t>().ttt.get();
    host.task(Function::AbortTask, 4, 3);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert_eq!(
        host.one().0.view::<TaskResponse>().response,
        TaskOutcome::Complete as u8
    );
    host.data_out(3, tag, 0, 0, true, &pattern(4096));
    assert!(host.recv().is_empty() && host.session.event().is_none());

    // One that is long over.
    host.task(Function::AbortTask, 5, 3);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert_eq!(host.one().0.view::<TaskResponse>().response, TaskOutcome::NoTask as u8);
}

#[test]
fn an_abort_of_what_never_ends_is_rejected_in_the_end() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.task(Function::AbortTask, 3, 1);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    let due = host.session.deadline().unwrap();
    host.session.tick(due);
    assert_eq!(
        host.one().0.view::<TaskResponse>().response,
        TaskOutcome::Rejected as u8
    );
    // When it does end, nobody hears of it, and the slot is good again.
    host.session.complete(slot, read_of(&pattern(512)));
    assert!(host.recv().is_empty());
}

#[test]
fn who_aborts_a_task_set_hears_when_the_last_command_is_over() {
    for whom in [Aborted::Host, Aborted::Other] {
        let mut host = Host::new();
        host.login(&["ImmediateData=No"]);
        host.command(1, R, 512, &READ, &[]);
        host.command(2, R, 512, &READ, &[]);
        let (runs, waits) = (host.slot(), host.slot());
        host.session.take(runs).unwrap();
        host.command(3, W, 4096, &WRITE, &[]);
        let tag = host.one().0.view::<R2t>().ttt.get();
        let (over, ended) = channel::bounded(1);
        host.session.abort_all(whom, spec::scsi::Lun::from_wire(LUN0), over);
        assert!(host.session.take(waits).is_none(), "aborted before its task took it");
        host.data_out(3, tag, 0, 0, true, &pattern(4096));
        assert_eq!(host.session.event(), None, "the data of an aborted write is swallowed");
        assert!(!is_closed(&ended), "one still runs");
        host.session.complete(runs, read_of(&pattern(512)));
        assert!(is_closed(&ended));
        host.session.task_done(9.into(), TaskOutcome::Complete);
        let mut told = host.recv();
        let last = told.pop().unwrap().0;
        assert_eq!((last.opcode(), last.itt()), (Some(Opcode::TaskResponse), 9));
        // The host's own aborts end in silence, another one's with a status (TAS = 1).
        told.sort_by_key(|(bhs, _)| bhs.itt());
        let told: Vec<_> = told
            .iter()
            .map(|(bhs, _)| (bhs.itt(), bhs.view::<ScsiResponse>().status))
            .collect();
        let aborted = Status::TaskAborted as u8;
        match whom {
            Aborted::Host => assert_eq!(told, []),
            Aborted::Other => assert_eq!(told, [(1, aborted), (2, aborted), (3, aborted)]),
        }
        // Every slot is free: as many commands as before go in.
        for itt in 10..14 {
            host.command(itt, R, 512, &READ, &[]);
            host.slot();
        }
    }
}

#[test]
fn a_host_may_abort_what_another_host_is_aborting_already() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    let (over, ended) = channel::bounded(1);
    host.session
        .abort_all(Aborted::Other, spec::scsi::Lun::from_wire(LUN0), over);
    host.task(Function::AbortTask, 9, 1);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert!(host.recv().is_empty(), "the command still runs");
    host.session.complete(slot, read_of(&pattern(512)));
    assert!(is_closed(&ended));
    // The function is answered, and the command is not: not before it, and not after it.
    let told: Vec<_> = host
        .recv()
        .iter()
        .map(|(bhs, _)| (bhs.opcode(), bhs.itt(), bhs.view::<TaskResponse>().response))
        .collect();
    assert_eq!(told, [(Some(Opcode::TaskResponse), 9, TaskOutcome::Complete as u8)]);
}
