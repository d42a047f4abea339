//! Reads and writes: bursts, R2Ts, digests, residuals.
use super::*;

#[test]
fn a_read_comes_back_in_bursts_with_status_in_the_last_pdu() {
    let mut host = Host::new();
    host.login(&["MaxRecvDataSegmentLength=4096", "MaxBurstLength=8192"]);
    let data = pattern(18432);
    host.command(1, R, 20480, &READ, &[]);
    let slot = host.slot();
    let taken = host.session.take(slot).unwrap();
    assert_eq!((taken.room, taken.cdb.opcode()), (20480, 0x28));
    host.session.complete(slot, read_of(&data));
    let pdus = host.recv();
    assert_eq!(pdus.len(), 5);
    let mut got = Vec::new();
    for (i, (bhs, part)) in pdus.iter().enumerate() {
        let pdu: &DataIn = bhs.view();
        assert_eq!(
            (pdu.data_sn.get(), pdu.buffer_offset.get()),
            (i as u32, got.len() as u32)
        );
        let flags = [0, FINAL, 0, FINAL, FINAL | STATUS | UNDERFLOW][i];
        assert_eq!(pdu.flags, flags, "PDU {i}");
        got.extend_from_slice(part);
    }
    assert_eq!(got, data);
    let last: &DataIn = pdus[4].0.view();
    assert_eq!((last.residual.get(), last.stat_sn.get()), (2048, 51));
    // The slot is free again by the time the host hears of it.
    assert_eq!((last.exp_cmd_sn.get(), last.max_cmd_sn.get()), (101, 104));
}

#[test]
fn a_write_is_collected_from_immediate_unsolicited_and_solicited_data() {
    let mut host = Host::new();
    host.piece = 1000;
    host.login(&[
        "InitialR2T=No",
        "FirstBurstLength=8192",
        "MaxBurstLength=16384",
        "ImmediateData=Yes",
    ]);
    let data = pattern(40960);
    // 4 KiB with the command, 4 KiB unsolicited, then 16 + 16 KiB as asked for.
    host.command(1, 0x20, 40960, &WRITE, &data[..4096]);
    host.data_out(1, NO_TAG, 0, 4096, false, &data[4096..6000]);
    host.data_out(1, NO_TAG, 1, 6000, true, &data[6000..8192]);
    for (n, start) in [8192usize, 24576].into_iter().enumerate() {
        let (bhs, _) = host.one();
        let r2t: &R2t = bhs.view();
        assert_eq!(bhs.opcode(), Some(Opcode::R2t));
        assert_eq!(
            (r2t.r2t_sn.get(), r2t.buffer_offset.get(), r2t.desired_len.get()),
            (n as u32, start as u32, 16384)
        );
        let tag = r2t.ttt.get();
        host.data_out(1, tag, 0, start as u32, false, &data[start..start + 10000]);
        host.data_out(
            1,
            tag,
            1,
            start as u32 + 10000,
            true,
            &data[start + 10000..start + 16384],
        );
    }
    let slot = host.slot();
    let taken = host.session.take(slot).unwrap();
    assert_eq!(taken.data.to_vec(), data);
    host.session.complete(slot, written(40960));
    let (bhs, _) = host.one();
    let response: &ScsiResponse = bhs.view();
    assert_eq!(
        (response.status, response.flags, response.residual.get()),
        (0, FINAL, 0)
    );
}

#[test]
fn with_initial_r2t_nothing_comes_unasked() {
    let mut host = Host::new();
    host.login(&["InitialR2T=Yes", "ImmediateData=No"]);
    let data = pattern(4096);
    host.command(1, W, 4096, &WRITE, &[]);
    let (bhs, _) = host.one();
    let tag = bhs.view::<R2t>().ttt.get();
    host.data_out(1, tag, 0, 0, true, &data);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(4096));
    host.recv();
    // Immediate data though we agreed on none: the command fails, the session lives.
    host.command(2, W, 4096, &WRITE, &data);
    let (bhs, sense) = host.one();
    assert_eq!(bhs.view::<ScsiResponse>().status, Status::CheckCondition as u8);
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::UNSOLICITED));
    assert!(host.session.listens());
}

#[test]
fn wrong_sequences_fail_the_command_when_the_burst_is_over() {
    for (sn, at, expected) in [(1, 0, Sense::CRC), (0, 512, Sense::CRC)] {
        let mut host = Host::new();
        host.login(&[]);
        host.command(1, W, 4096, &WRITE, &[]);
        let (bhs, _) = host.one();
        let tag = bhs.view::<R2t>().ttt.get();
        host.data_out(1, tag, sn, at, false, &pattern(512));
        assert!(host.recv().is_empty(), "not before the burst is over");
        host.data_out(1, tag, sn + 1, at + 512, true, &pattern(512));
        let (bhs, sense) = host.one();
        assert_eq!(bhs.opcode(), Some(Opcode::ScsiResponse));
        assert_eq!(Sense::parse(&sense[2..]), Some(expected));
    }
    // Too much, and too little.
    for len in [4608, 3584] {
        let mut host = Host::new();
        host.login(&[]);
        host.command(1, W, 4096, &WRITE, &[]);
        let tag = host.one().0.view::<R2t>().ttt.get();
        host.data_out(1, tag, 0, 0, true, &pattern(len));
        let (_, sense) = host.one();
        assert_eq!(Sense::parse(&sense[2..]), Some(Sense::DATA_AMOUNT));
    }
}

#[test]
fn several_r2ts_are_outstanding_and_answered_in_order() {
    let keys = ["MaxOutstandingR2T=3", "MaxBurstLength=4096", "ImmediateData=No"];
    let mut host = Host::new();
    host.login(&keys);
    let data = pattern(18000);
    host.command(1, W, 18000, &WRITE, &[]);
    let asked = |pdus: Vec<Pdu>| -> Vec<(u32, u32, u32, u32)> {
        let one = |(bhs, _): &Pdu| {
            let r2t: &R2t = bhs.view();
            assert_eq!(bhs.opcode(), Some(Opcode::R2t));
            (
                r2t.r2t_sn.get(),
                r2t.buffer_offset.get(),
                r2t.desired_len.get(),
                r2t.ttt.get(),
            )
        };
        pdus.iter().map(one).collect()
    };
    let mut open = asked(host.recv());
    let places: Vec<_> = open.iter().map(|r| (r.0, r.1, r.2)).collect();
    assert_eq!(places, [(0, 0, 4096), (1, 4096, 4096), (2, 8192, 4096)]);
    let mut answered = 0;
    while !open.is_empty() {
        let (sn, at, len, tag) = open.remove(0);
        assert_eq!((sn, at), (answered, answered * 4096));
        let end = (at + len) as usize;
        host.data_out(1, tag, 0, at, true, &data[at as usize..end]);
        answered += 1;
        open.extend(asked(host.recv()));
        assert!(open.len() <= 3);
    }
    assert_eq!(answered, 5);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(18000));
    assert_eq!(host.one().0.view::<ScsiResponse>().exp_data_sn.get(), 0);

    // Data for the second before the first is done: DataSequenceInOrder is broken, and the command fails.
    let mut host = Host::new();
    host.login(&keys);
    host.command(1, W, 8192, &WRITE, &[]);
    let open = asked(host.recv());
    host.data_out(1, open[1].3, 0, 4096, true, &data[4096..8192]);
    let (_, sense) = host.one();
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::CRC));
    host.data_out(1, open[0].3, 0, 0, true, &data[..4096]);
    assert!(host.recv().is_empty() && host.session.event().is_none());
}

#[test]
fn digests_are_checked_and_made() {
    let mut host = Host::new();
    host.piece = 333;
    host.login(&["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No"]);
    let data = pattern(4099); // with padding
    host.command(1, W, 4099, &WRITE, &data);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(4099));
    host.one();
    host.command(2, R, 1001, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.session.complete(slot, read_of(&data[..1001]));
    assert_eq!(host.one().1, data[..1001]);

    // A wrong data digest: reject, and the command fails; the session lives (ERL 0 at the level of the PDU).
    let command = ScsiCommand {
        opcode: Opcode::ScsiCommand as u8,
        flags: W,
        itt: 3.into(),
        expected_len: 512.into(),
        cmd_sn: host.cmd_sn.into(),
        cdb: spec::scsi::Cdb::new(&WRITE).0,
        ..Default::default()
    };
    let mut bytes = host.pdu(command.as_bytes(), &data[..512]);
    *bytes.last_mut().unwrap() ^= 1;
    host.feed(&bytes);
    host.cmd_sn += 1;
    let pdus = host.recv();
    assert_eq!(pdus[0].0.view::<Reject>().reason, RejectReason::DataDigest as u8);
    assert_eq!(Bhs::split(&pdus[0].1).unwrap().0.itt(), 3);
    assert_eq!(Sense::parse(&pdus[1].1[2..]), Some(Sense::CRC));

    // A wrong header digest: nothing in the stream can be believed any more.
    let mut bytes = host.pdu(command.as_bytes(), &[]);
    bytes[50] ^= 1;
    host.feed(&bytes);
    assert!(host.session.is_closed());
    assert_eq!(host.session.cause(), Some("header digest error"));
}

#[test]
fn residuals_are_exact_both_ways() {
    let flags_and_residual = |flags: u8, expected: u32, outcome: Outcome| {
        let mut host = Host::new();
        host.login(&["ImmediateData=Yes", "InitialR2T=No"]);
        let data = if flags & 0x20 != 0 {
            pattern(expected as usize)
        } else {
            Vec::new()
        };
        host.command(
            1,
            flags,
            expected,
            if flags & 0x20 != 0 { &WRITE } else { &READ },
            &data,
        );
        let slot = host.slot();
        host.session.take(slot).unwrap();
        host.session.complete(slot, outcome);
        let (bhs, data) = host.one();
        match bhs.opcode() {
            Some(Opcode::DataIn) => {
                let pdu: &DataIn = bhs.view();
                (pdu.flags & 6, pdu.residual.get(), data.len())
            }
            _ => {
                let pdu: &ScsiResponse = bhs.view();
                (pdu.flags & 6, pdu.residual.get(), 0)
            }
        }
    };
    assert_eq!(flags_and_residual(R, 512, read_of(&[1; 512])), (0, 0, 512));
    assert_eq!(flags_and_residual(R, 200, read_of(&[1; 512])), (OVERFLOW, 312, 200));
    assert_eq!(flags_and_residual(R, 1000, read_of(&[1; 512])), (UNDERFLOW, 488, 512));
    assert_eq!(flags_and_residual(FINAL, 0, read_of(&[1; 512])), (OVERFLOW, 512, 0));
    assert_eq!(flags_and_residual(W, 1024, written(512)), (UNDERFLOW, 512, 0));
    assert_eq!(flags_and_residual(W, 512, written(1024)), (OVERFLOW, 512, 0));
    assert_eq!(
        flags_and_residual(R, 512, Outcome::failed(Sense::OUT_OF_RANGE)),
        (UNDERFLOW, 512, 0)
    );
    assert_eq!(flags_and_residual(FINAL, 0, Outcome::good()), (0, 0, 0));
}

#[test]
fn a_command_longer_than_we_take_fails_without_memory() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, W, MAX_TRANSFER + 512, &WRITE, &[]);
    let (bhs, sense) = host.one();
    assert_eq!(bhs.view::<ScsiResponse>().status, 2);
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::INFORMATION_UNIT));
}
