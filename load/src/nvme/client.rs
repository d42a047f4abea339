//! A blocking NVMe/TCP host: enough of one to connect, ask, read and write, for tests and for load.
use super::{
    link::Link,
    wire::{Event, Wire},
};
use spec::nvme::{
    Cqe, Sgl, Sqe, Status,
    command::admin,
    fabrics::{Connect, ConnectData, Property},
    feature::fid,
    identify::cns,
    log::GetLogPage,
    property,
    tcp::Digests,
};
use std::{
    collections::HashMap,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use zerocopy::IntoBytes;

/// Why talking to a controller failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The controller ended the connection.
    #[error("the controller ended the connection: error {error}, information {info:#x}")]
    Terminated {
        /// FES.
        error: u16,
        /// FEI.
        info: u32,
    },
    /// The controller broke the protocol.
    #[error("the controller sent {0}")]
    Nonsense(&'static str),
    /// Commands of the wanted size are more than the controller takes.
    #[error(
        "{size} bytes are more than the controller takes in one command: {most} at most (MDTS); choose a smaller --size"
    )]
    TooLarge {
        /// What was wanted.
        size: u32,
        /// What MDTS allows.
        most: u64,
    },
    /// A command failed that had to succeed.
    #[error("{what}: {status}")]
    Failed {
        /// Which.
        what: &'static str,
        /// How.
        status: Status,
    },
}

type Result<T> = std::result::Result<T, ClientError>;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host NQN.
    pub hostnqn: String,
    /// Host identifier.
    pub host_id: [u8; 16],
    /// Digests to ask for.
    pub digests: Digests,
    /// Entries of the queue.
    pub entries: u16,
    /// Give up submission queue flow control.
    pub no_flow_control: bool,
    /// Keep-alive timeout in milliseconds.
    pub keep_alive_ms: u32,
    /// The key to come by TLS with, if it is to be TLS.
    pub psk: Option<tls::Psk>,
    /// Give up waiting after this.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hostnqn: "nqn.2026-11.io.ashlar:load".into(),
            host_id: *b"ashlar-load-host",
            digests: Digests::default(),
            entries: 32,
            no_flow_control: true,
            keep_alive_ms: 60_000,
            psk: None,
            patience: Duration::from_secs(20),
        }
    }
}

/// The end of a command.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The completion; made up where the controller used the success flag.
    pub cqe: Cqe,
    /// What it read.
    pub data: Vec<u8>,
}

/// One queue on one connection.
#[derive(Debug)]
pub struct Client {
    stream: Link,
    wire: Wire,
    tx: Vec<u8>,
    rx: Vec<u8>,
    /// `rx[start..]` is unread.
    start: usize,
    next_cid: u16,
    /// Data that waits for an R2T, and data that has come, by command.
    writes: HashMap<u16, Vec<u8>>,
    reads: HashMap<u16, Vec<u8>>,
    /// CNTLID, from Connect.
    pub cntlid: u16,
    /// Data bytes a command capsule may carry.
    pub in_capsule: usize,
}

impl Client {
    /// Connects the socket and exchanges ICReq and ICResp.
    pub fn open(address: SocketAddr, options: &Options) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, options.patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(options.patience))?;
        stream.set_write_timeout(Some(options.patience))?;
        let mut client = Self {
            stream: Link::new(stream, options.psk.clone())?,
            wire: Wire::default(),
            tx: Vec::new(),
            rx: Vec::new(),
            start: 0,
            next_cid: 0,
            writes: HashMap::new(),
            reads: HashMap::new(),
            cntlid: 0xffff,
            in_capsule: 4096,
        };
        client.wire.hello(options.digests, &mut client.tx);
        client.flush()?;
        match client.event()? {
            (Event::Open { .. }, _) => Ok(client),
            _ => Err(ClientError::Nonsense("something else than ICResp")),
        }
    }

    /// Sends Connect for queue `qid` of `nqn`.
    pub fn connect(&mut self, nqn: &str, qid: u16, cntlid: u16, options: &Options) -> Result<Cqe> {
        let connect = Connect {
            format: 0,
            qid,
            sqsize: options.entries - 1,
            no_flow_control: options.no_flow_control,
            keep_alive_ms: if qid == 0 { options.keep_alive_ms } else { 0 },
        };
        let data = ConnectData::new(options.host_id, cntlid, nqn, &options.hostnqn);
        let done = self.call_raw(connect.sqe(0), data.as_bytes())?;
        self.cntlid = done.cqe.result.get() as u16;
        Ok(done.cqe)
    }

    /// A controller of `nqn`: connected, enabled, ready.
    pub fn admin(address: SocketAddr, nqn: &str, options: &Options) -> Result<Self> {
        let options = Options {
            entries: 32,
            ..options.clone()
        };
        let mut client = Self::open(address, &options)?;
        let cqe = client.connect(nqn, 0, 0xffff, &options)?;
        succeeded("Connect", &cqe)?;
        client.in_capsule = 8192;
        let cqe = client
            .call(Property::set(0, property::CC, property::Cc::start().0), &[])?
            .cqe;
        succeeded("enable", &cqe)?;
        let csts = client.property(property::CSTS, false)?;
        if csts & u64::from(property::CSTS_READY) == 0 {
            return Err(ClientError::Nonsense("a controller that is not ready at once"));
        }
        Ok(client)
    }

    /// An I/O queue of the controller behind `self`.
    pub fn io_queue(&mut self, address: SocketAddr, nqn: &str, qid: u16, options: &Options) -> Result<Self> {
        let mut queue = Self::open(address, options)?;
        let cqe = queue.connect(nqn, qid, self.cntlid, options)?;
        succeeded("Connect of an I/O queue", &cqe)?;
        let id = self.identify(cns::CONTROLLER, 0)?;
        let units = id
            .get(1792..1796)
            .and_then(|b| b.first_chunk())
            .map_or(4, |b| u32::from_le_bytes(*b));
        queue.in_capsule = (units as usize * 16).saturating_sub(64);
        Ok(queue)
    }

    /// The socket, for those who want to misbehave.
    pub fn stream(&self) -> &TcpStream {
        self.stream.stream()
    }

    /// Codec and connection, for a loop of one's own. Nothing may be unread.
    pub fn parts(&mut self) -> (&mut Wire, &mut Link) {
        (&mut self.wire, &mut self.stream)
    }

    /// Reads a property.
    pub fn property(&mut self, offset: u32, wide: bool) -> Result<u64> {
        let done = self.call(Property::get(0, offset, wide), &[])?;
        succeeded("Property Get", &done.cqe)?;
        Ok(done.cqe.result.get())
    }

    /// Identify.
    pub fn identify(&mut self, what: u8, nsid: u32) -> Result<Vec<u8>> {
        let sqe = Sqe::new(admin::IDENTIFY, 0, nsid)
            .with_cdw1(0, what.into())
            .with_sgl(Sgl::transport(4096));
        let done = self.call(sqe, &[])?;
        succeeded("Identify", &done.cqe)?;
        Ok(done.data)
    }

    /// Get Log Page: `len` bytes of `page` from `offset`.
    pub fn log_page(&mut self, page: u8, offset: u64, len: u32, retain: bool) -> Result<Completion> {
        let ask = GetLogPage {
            page,
            specific: 0,
            retain,
            len: len.into(),
            offset,
            index: false,
            command_set: 0,
        };
        let sqe = ask
            .put(Sqe::new(admin::GET_LOG_PAGE, 0, 0))
            .with_sgl(Sgl::transport(len));
        self.call(sqe, &[])
    }

    /// Set Features with a word.
    pub fn set_feature(&mut self, id: u8, value: u32) -> Result<Cqe> {
        let sqe = Sqe::new(admin::SET_FEATURES, 0, 0)
            .with_cdw1(0, id.into())
            .with_cdw1(1, value);
        Ok(self.call(sqe, &[])?.cqe)
    }

    /// Asks for `n` I/O queues; returns how many are granted.
    pub fn request_queues(&mut self, n: u16) -> Result<u16> {
        let less = u32::from(n - 1);
        let cqe = self.set_feature(fid::NUMBER_OF_QUEUES, less | less << 16)?;
        succeeded("Number of Queues", &cqe)?;
        Ok(cqe.result.get() as u16 + 1)
    }

    /// Runs one command to its end. `data` goes in the capsule if it fits, else when asked for.
    pub fn call(&mut self, sqe: Sqe, data: &[u8]) -> Result<Completion> {
        let cid = self.submit(sqe, data)?;
        self.flush()?;
        loop {
            let done = self.completion()?;
            if done.cqe.cid.get() == cid {
                return Ok(done);
            }
        }
    }

    /// As [`Self::call`], with the SGL as it stands and `data` in the capsule.
    pub fn call_raw(&mut self, sqe: Sqe, data: &[u8]) -> Result<Completion> {
        let cid = self.take_cid();
        let sqe = Sqe { cid: cid.into(), ..sqe };
        self.wire.command(&sqe, data, &mut self.tx);
        self.flush()?;
        self.completion()
    }

    fn take_cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// Queues a command for the next [`Self::flush`]; returns its id.
    pub fn submit(&mut self, sqe: Sqe, data: &[u8]) -> Result<u16> {
        let cid = self.take_cid();
        let mut sqe = Sqe { cid: cid.into(), ..sqe };
        if data.is_empty() {
            self.wire.command(&sqe, &[], &mut self.tx);
        } else if data.len() <= self.in_capsule {
            sqe.sgl = Sgl::in_capsule(data.len() as u32);
            self.wire.command(&sqe, data, &mut self.tx);
        } else {
            sqe.sgl = Sgl::transport(data.len() as u32);
            self.writes.insert(cid, data.to_vec());
            self.wire.command(&sqe, &[], &mut self.tx);
        }
        Ok(cid)
    }

    /// Sends what is queued, with one write where the socket takes it.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.tx)?;
        self.tx.clear();
        Ok(())
    }

    /// The next completion of any command.
    pub fn completion(&mut self) -> Result<Completion> {
        loop {
            let (event, at) = self.event()?;
            match event {
                Event::Response(cqe) => {
                    let data = self.reads.remove(&cqe.cid.get()).unwrap_or_default();
                    self.writes.remove(&cqe.cid.get());
                    return Ok(Completion { cqe, data });
                }
                Event::Data {
                    cid,
                    offset,
                    bytes,
                    success,
                } => {
                    let piece = &self.rx[at + bytes.start..at + bytes.end];
                    let data = self.reads.entry(cid).or_default();
                    if data.len() != offset as usize {
                        return Err(ClientError::Nonsense("data out of order"));
                    }
                    data.extend_from_slice(piece);
                    if success {
                        let data = self.reads.remove(&cid).unwrap_or_default();
                        return Ok(Completion {
                            cqe: Cqe::new(cid, 0, Status::SUCCESS, 0),
                            data,
                        });
                    }
                }
                Event::Wanted { cid, tag, offset, len } => {
                    let range = offset as usize..offset as usize + len as usize;
                    let data = self.writes.get(&cid).and_then(|d| d.get(range));
                    let data = data.ok_or(ClientError::Nonsense("a request for data nobody has"))?;
                    self.wire.data(cid, tag, offset, data, &mut self.tx);
                    self.flush()?;
                }
                Event::Open { .. } => return Err(ClientError::Nonsense("a second ICResp")),
                Event::Terminated { error, info } => return Err(ClientError::Terminated { error, info }),
                Event::Nonsense(what) => return Err(ClientError::Nonsense(what)),
            }
        }
    }

    /// The next PDU, and where in `rx` it begins.
    pub fn event(&mut self) -> Result<(Event, usize)> {
        loop {
            if let Some((used, event)) = self.wire.input(&self.rx[self.start..]) {
                let at = self.start;
                self.start += used;
                return Ok((event, at));
            }
            self.rx.drain(..self.start);
            self.start = 0;
            let have = self.rx.len();
            self.rx.resize(have + (64 << 10), 0);
            let got = crate::receive(&mut self.stream, &mut self.rx[have..]);
            self.rx.truncate(have + got.as_ref().copied().unwrap_or(0));
            if got? == 0 {
                return Err(
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the controller closed the connection").into(),
                );
            }
        }
    }
}

/// An error unless the command succeeded.
pub fn succeeded(what: &'static str, cqe: &Cqe) -> Result<()> {
    match cqe.status() {
        status if status.is_success() => Ok(()),
        status => Err(ClientError::Failed { what, status }),
    }
}
