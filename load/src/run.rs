//! Drives one I/O queue: keeps `depth` commands under way for a while.
//!
//! One thread, one blocking socket. All answers of one read are taken, a new command is made for each, and all new
//! commands go out with one write, so the busier the target the larger the batches.
use crate::{
    nvme::{Client, ClientError, Event, Options, client::succeeded},
    report::Report,
};
use spec::nvme::{Cqe, Sgl, Sqe, Status, command::io, identify::cns};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// What to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where.
    pub address: SocketAddr,
    /// The subsystem.
    pub nqn: String,
    /// The namespace.
    pub nsid: u32,
    /// Commands under way.
    pub depth: u16,
    /// Bytes of a command.
    pub size: u32,
    /// Percent of commands that read; the rest write.
    pub reads: u32,
    /// One after the other instead of at random places.
    pub sequential: bool,
    /// How long.
    pub time: Duration,
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
    let id = admin.identify(cns::NAMESPACE, job.nsid)?;
    let blocks = id.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let block = 1u32 << id.get(130).copied().unwrap_or(9).min(31);
    let per_io = job.size / block;
    if blocks < u64::from(per_io) || per_io == 0 || per_io > 65536 {
        return Err(ClientError::Nonsense(
            "a namespace that is too small or has the wrong block size",
        ));
    }
    let options = Options {
        entries: job.depth + 1,
        ..job.options.clone()
    };
    let mut queue = admin.io_queue(job.address, &job.nqn, 1, &options)?;
    let done = queue.call(Sqe::new(io::FLUSH, 0, job.nsid), &[])?;
    succeeded("Flush", &done.cqe)?;
    drive(&mut queue, job, blocks / u64::from(per_io), per_io)
}

/// Places and kinds of commands: a fixed pseudo-random walk, so that runs are alike.
struct Plan {
    state: u64,
    next: u64,
    slots: u64,
    per_io: u32,
}

impl Plan {
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn command(&mut self, job: &Job, cid: u16) -> (Sqe, bool) {
        let slot = if job.sequential {
            self.next % self.slots
        } else {
            self.random() % self.slots
        };
        self.next += 1;
        let read = job.reads >= 100 || (job.reads > 0 && self.random() % 100 < u64::from(job.reads));
        let sqe = Sqe::new(if read { io::READ } else { io::WRITE }, cid, job.nsid)
            .with_range(slot * u64::from(self.per_io), self.per_io)
            .with_sgl(Sgl::transport(job.size));
        (sqe, read)
    }
}

fn drive(queue: &mut Client, job: &Job, slots: u64, per_io: u32) -> Result<Report, ClientError> {
    let payload: Vec<u8> = (0..job.size).map(|i| (i * 31 + i / 256) as u8).collect();
    let mut plan = Plan {
        state: 0x9e37_79b9_7f4a_7c15,
        next: 0,
        slots,
        per_io,
    };
    let in_capsule = job.size as usize <= queue.in_capsule;
    let (wire, stream) = queue.parts();
    let mut stream = stream;
    let mut flights: Vec<Flight> = Vec::new();
    let mut tx = Vec::with_capacity(64 << 10);
    let mut rx = vec![0; RECEIVE + (256 << 10)];
    let (mut start, mut end) = (0, 0);
    let mut report = Report::default();
    let begun = Instant::now();
    let mut now = begun;
    let mut submit = |wire: &crate::nvme::Wire, cid: u16, tx: &mut Vec<u8>| {
        let (mut sqe, read) = plan.command(job, cid);
        if !read && in_capsule {
            sqe.sgl = Sgl::in_capsule(job.size);
            wire.command(&sqe, &payload, tx);
        } else {
            wire.command(&sqe, &[], tx);
        }
        read
    };
    for cid in 0..job.depth {
        let read = submit(wire, cid, &mut tx);
        flights.push(Flight {
            started: begun,
            got: 0,
            read,
        });
    }
    let mut under_way = u64::from(job.depth);
    while under_way > 0 {
        stream.write_all(&tx)?;
        tx.clear();
        if start == end {
            (start, end) = (0, 0);
        } else if rx.len() - end < RECEIVE / 2 {
            rx.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        let got = stream.read(&mut rx[end..])?;
        if got == 0 {
            return Err(ClientError::Nonsense("an end in the middle of the run"));
        }
        end += got;
        now = Instant::now();
        let more = now - begun < job.time;
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
            if !cqe.status().is_success() || flight.read && flight.got != job.size {
                report.failed += 1;
            } else {
                report.done += 1;
                report.bytes += u64::from(job.size);
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
