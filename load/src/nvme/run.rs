//! Drives one I/O queue: keeps `depth` commands under way for a while.
//!
//! One thread, one blocking socket. All answers of one read are taken, a new command is made for each, and all new
//! commands go out with one write, so the busier the target the larger the batches.
use super::{Client, ClientError, Event, Options, Wire, client::succeeded};
use crate::{
    plan::{Load, Plan, payload},
    report::Report,
};
use spec::nvme::{
    Cqe, Sgl, Sqe, Status,
    command::io,
    identify::cns,
    property::{self, Cap},
};
use std::{io::Write, net::SocketAddr, time::Instant};

/// What to load.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where.
    pub address: SocketAddr,
    /// The subsystem.
    pub nqn: String,
    /// The namespace.
    pub nsid: u32,
    /// What to do.
    pub load: Load,
    /// How to connect.
    pub options: Options,
}

/// Bytes of the receive buffer: room for several large answers.
const RECEIVE: usize = 1 << 20;

struct Flight {
    started: Instant,
    got: u32,
    read: bool,
}

/// Connects a controller with one I/O queue and runs the job on it.
pub fn run(job: &Job) -> Result<Report, ClientError> {
    let mut admin = Client::admin(job.address, &job.nqn, &job.options)?;
    admin.request_queues(1)?;
    if let Some(most) = most_bytes(&admin.identify(cns::CONTROLLER, 0)?)
        && u64::from(job.load.size) > most
    {
        let size = job.load.size;
        return Err(ClientError::TooLarge { size, most });
    }
    let id = admin.identify(cns::NAMESPACE, job.nsid)?;
    let blocks = id.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let block = 1u32 << id.get(130).copied().unwrap_or(9).min(31);
    let plan = Plan::new(&job.load, blocks, block).ok_or(ClientError::Nonsense(
        "a namespace that is too small or has the wrong block size",
    ))?;
    // One entry more than commands, as queues with flow control need; without, a whole queue may be under way.
    let most = Cap::from_value(admin.property(property::CAP, true)?)
        .max_queue_entries
        .min(0xffff) as u16;
    let options = Options {
        entries: (job.load.depth + 1).min(most),
        ..job.options.clone()
    };
    let mut queue = admin.io_queue(job.address, &job.nqn, 1, &options)?;
    let done = queue.call(Sqe::new(io::FLUSH, 0, job.nsid), &[])?;
    succeeded("Flush", &done.cqe)?;
    drive(&mut queue, job, plan)
}

/// Bytes that one command may move, from Identify Controller: MDTS in pages of 4 KiB (our CC.MPS); `None`: without limit.
fn most_bytes(id: &[u8]) -> Option<u64> {
    match id.get(77) {
        None | Some(0) => None,
        Some(&mdts) => 4096u64.checked_shl(mdts.into()),
    }
}

fn drive(queue: &mut Client, job: &Job, mut plan: Plan) -> Result<Report, ClientError> {
    let (nsid, load) = (job.nsid, &job.load);
    let payload = payload(load.size);
    let in_capsule = load.size as usize <= queue.in_capsule;
    let (wire, stream) = queue.parts();
    let mut flights: Vec<Flight> = Vec::new();
    let mut tx = Vec::with_capacity(64 << 10);
    let mut rx = vec![0; RECEIVE + (256 << 10)];
    let (mut start, mut end) = (0, 0);
    let mut report = Report::default();
    let begun = Instant::now();
    let mut now = begun;
    let mut submit = |wire: &Wire, cid: u16, tx: &mut Vec<u8>| {
        let (lba, read) = plan.step();
        let sqe = Sqe::new(if read { io::READ } else { io::WRITE }, cid, nsid).with_range(lba, plan.blocks());
        if !read && in_capsule {
            wire.command(&sqe.with_sgl(Sgl::in_capsule(load.size)), &payload, tx);
        } else {
            wire.command(&sqe.with_sgl(Sgl::transport(load.size)), &[], tx);
        }
        read
    };
    for cid in 0..load.depth {
        let read = submit(wire, cid, &mut tx);
        flights.push(Flight {
            started: begun,
            got: 0,
            read,
        });
    }
    let mut under_way = u64::from(load.depth);
    while under_way > 0 {
        stream.write_all(&tx)?;
        tx.clear();
        if start == end {
            (start, end) = (0, 0);
        } else if rx.len() - end < RECEIVE / 2 {
            rx.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        let got = crate::receive(stream, &mut rx[end..])?;
        if got == 0 {
            return Err(ClientError::Nonsense("an end in the middle of the run"));
        }
        end += got;
        now = Instant::now();
        let more = now - begun < load.time;
        while let Some((used, event)) = wire.input(&rx[start..end]) {
            start += used;
            let cqe = match event {
                Event::Response(cqe) => cqe,
                Event::Data {
                    cid, bytes, success, ..
                } => {
                    let flight = flights
                        .get_mut(usize::from(cid))
                        .ok_or(ClientError::Nonsense("data for nobody"))?;
                    flight.got += bytes.len() as u32;
                    if !success {
                        continue;
                    }
                    Cqe::new(cid, 0, Status::SUCCESS, 0)
                }
                Event::Wanted { cid, tag, offset, len } => {
                    let range = offset as usize..offset as usize + len as usize;
                    let data = payload
                        .get(range)
                        .ok_or(ClientError::Nonsense("a request for data nobody has"))?;
                    wire.data(cid, tag, offset, data, &mut tx);
                    continue;
                }
                Event::Terminated { error, info } => return Err(ClientError::Terminated { error, info }),
                Event::Nonsense(what) => return Err(ClientError::Nonsense(what)),
                Event::Open { .. } => return Err(ClientError::Nonsense("a second ICResp")),
            };
            let cid = cqe.cid.get();
            let flight = flights
                .get_mut(usize::from(cid))
                .ok_or(ClientError::Nonsense("an answer to nobody"))?;
            if !cqe.status().is_success() || flight.read && flight.got != load.size {
                report.failed += 1;
            } else {
                report.done += 1;
                report.bytes += u64::from(load.size);
            }
            report.latency.add((now - flight.started).as_nanos() as u64);
            if more && report.failed < 1000 {
                let read = submit(wire, cid, &mut tx);
                *flight = Flight {
                    started: now,
                    got: 0,
                    read,
                };
            } else {
                under_way -= 1;
            }
        }
    }
    report.took = now - begun;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mdts_is_a_power_of_two_of_pages_or_no_limit() {
        let mut id = vec![0; 4096];
        assert_eq!(most_bytes(&id), None);
        id[77] = 5;
        assert_eq!(most_bytes(&id), Some(128 << 10));
        assert_eq!(most_bytes(&id[..77]), None);
    }
}
