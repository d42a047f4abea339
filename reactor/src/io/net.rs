//! TCP sockets.
//!
//! On io_uring receives and sends go through the ring like everything else, so a turn costs one call however many connections it serves.
//! The alternatives are not better. Kernel 6.18, loopback, 72-byte requests answered with 4 KiB at depth 32, one core each
//! (`examples/loopback.rs`), thousands of answers a second: ring 430–600; sendmsg at once, ring if it would block 380–470; both at once
//! 440; ring with POLL_FIRST on receives 380; epoll 420. Runs swing by a third there, the order of the first two with them.
use super::{
    Driver, Inbox, Io, Operation, Outbox,
    epoll::{Epoll, Way},
    ops::Work,
};
use crate::{
    buf::Buf,
    cores::Post,
    counters,
    turn::{Core, on_core, with_current},
};
use std::{
    cell::Cell,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// A process that was killed may hold its address this long: its io_uring is taken down when the kernel gets to it. So only a
/// process this young waits for an address; later, whoever holds it holds it for good.
const LINGERS: Duration = Duration::from_secs(3);

/// When this process began to have reactors, or to listen.
pub(crate) fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

/// Connections that wait to be accepted at most (the kernel cuts it to net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Sends with so many bytes in pages lend them to the kernel: below that, pinning and unpinning costs more than the copy.
const LEND: usize = 32 << 10;

/// Where a socket is registered with epoll, so that another core can tell, and can have it undone.
#[derive(Copy, Clone)]
struct Registered {
    core: u16,
    post: &'static Post,
    owner: u64,
    token: u32,
}

/// A socket, and its registration if it has been used on a core that uses epoll.
struct Socket {
    fd: Arc<OwnedFd>,
    registered: Cell<Option<Registered>>,
}

impl Socket {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Arc::new(fd),
            registered: Cell::new(None),
        }
    }

    fn make(address: &SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        // SAFETY: [SYSCALL] no memory is passed.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: [NEW-FD] the kernel made this descriptor for us.
        Ok(Self::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        let len = size_of::<i32>() as libc::socklen_t;
        // SAFETY: [SYSCALL] one readable int.
        check(unsafe { libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), len) })
    }

    fn set_nonblocking(&self, yes: bool) -> io::Result<()> {
        let yes = yes as libc::c_int;
        // SAFETY: [SYSCALL] one readable int.
        check(unsafe { libc::ioctl(self.raw(), libc::FIONBIO, &raw const yes) })
    }

    fn address(
        &self,
        get: unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32,
    ) -> io::Result<SocketAddr> {
        // SAFETY: [PLAIN-DATA] integers, for which zero is a value.
        let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: [SYSCALL] room for any address, and its size.
        check(unsafe { get(self.raw(), (&raw mut address).cast(), &raw mut len) })?;
        decode(&address)
    }

    /// This core's token for the socket.
    fn token(&self, core: &Core, epoll: &Epoll) -> io::Result<u32> {
        match self.registered.get() {
            Some(at) if at.core == core.id && at.owner == core.owner => return Ok(at.token),
            _ => self.unregister(),
        }
        let token = epoll.register(&self.fd)?;
        self.registered.set(Some(Registered {
            core: core.id,
            post: core.post,
            owner: core.owner,
            token,
        }));
        Ok(token)
    }

    fn unregister(&self) {
        let Some(at) = self.registered.take() else { return };
        let here = with_current(|core| match core {
            Some(core) if core.id == at.core && core.owner == at.owner => {
                unregister(&core.io, at.token);
                true
            }
            _ => false,
        });
        if !here {
            // The socket moved to another core, or is dropped by a thread that is none. If that core has ended, so has its epoll.
            at.post
                .send(at.owner, Box::new(move |core| unregister(&core.io, at.token)));
        }
    }

    /// Waits for `call` not to block; on cores that use epoll.
    async fn ready(&self, way: Way, mut call: impl FnMut(&Io) -> isize) -> io::Result<usize> {
        let token = with_epoll(|core, epoll| self.token(core, epoll))?;
        let _forget = Forget { token, way };
        std::future::poll_fn(|cx: &mut Context<'_>| {
            on_core(|core| match &core.io.driver {
                Driver::Epoll(epoll) => epoll.poll(token, way, cx, || call(&core.io)),
                Driver::Uring(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            })
        })
        .await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.unregister()
    }
}

fn unregister(io: &Io, token: u32) {
    if let Driver::Epoll(epoll) = &io.driver {
        epoll.unregister(token)
    }
}

fn with_epoll<R>(f: impl FnOnce(&Core, &Epoll) -> io::Result<R>) -> io::Result<R> {
    on_core(|core| match &core.io.driver {
        Driver::Epoll(epoll) => f(core, epoll),
        Driver::Uring(_) => Err(io::ErrorKind::Unsupported.into()),
    })
}

fn uses_ring() -> bool {
    on_core(|core| core.io.is_uring())
}

/// Nobody waits any more.
struct Forget {
    token: u32,
    way: Way,
}

impl Drop for Forget {
    fn drop(&mut self) {
        with_current(|core| {
            if let Some(Driver::Epoll(epoll)) = core.map(|core| &core.io.driver) {
                epoll.forget(self.token, self.way)
            }
        })
    }
}

/// A socket that accepts connections.
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `address`; with port 0 the system chooses one.
    ///
    /// In the first seconds of a process this blocks for a moment while the address is in use: not for a reactor.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::make(&address)?;
        // A restarted target must not wait for the connections of the last one to time out.
        socket.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        let (storage, len) = encode(&address);
        let began = began();
        loop {
            // SAFETY: [SYSCALL] an address of `len` readable bytes.
            let bound = check(unsafe { libc::bind(socket.raw(), (&raw const storage).cast(), len) });
            match bound {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < LINGERS => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                bound => {
                    bound?;
                    break;
                }
            }
        }
        // SAFETY: [SYSCALL] no memory is passed.
        check(unsafe { libc::listen(socket.raw(), BACKLOG) })?;
        let address = socket.address(libc::getsockname)?;
        Ok(Listener { socket, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What closes it from any thread.
    pub fn closer(&self) -> Closer {
        Closer(self.socket.fd.clone())
    }

    /// The next connection. Dropped while waiting, no connection is lost unless it arrived at that very moment; then it is closed.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        if !uses_ring() {
            self.socket.set_nonblocking(true)?;
            let fd = self
                .socket
                // SAFETY: [SYSCALL] no address is asked for.
                .ready(Way::In, |_| unsafe {
                    libc::accept4(
                        self.socket.raw(),
                        std::ptr::null_mut(),
                        std::ptr::null_mut(),
                        libc::SOCK_CLOEXEC,
                    ) as isize
                })
                .await?;
            let stream = Stream::accepted(fd);
            let peer = stream.peer_addr()?;
            return Ok((stream, peer));
        }
        // io_uring takes "nonblocking" to mean that it shall not wait either.
        self.socket.set_nonblocking(false)?;
        let mut operation = on_core(|core| {
            core.io.begin(|slot| {
                slot.work = Work::Accept;
                slot.fd = Some(self.socket.fd.clone());
            })
        });
        let fd = result((&mut operation).await)?;
        let stream = Stream::accepted(fd);
        let peer = operation.slot(|slot| decode(&slot.address))?;
        Ok((stream, peer))
    }
}

/// Closes a listener at once, whatever its reactor is doing: nobody who connects afterwards gets in.
#[derive(Debug)]
pub struct Closer(Arc<OwnedFd>);

impl Closer {
    /// Closes it. Connections that nobody has accepted are reset, and an accept that waits fails.
    pub fn close(&self) {
        // SAFETY: [SYSCALL] no memory is passed. Only a socket that listens no more makes it fail.
        unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_RD) };
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

/// How much a receive brought, and where to. Nothing at all: the peer has closed the connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Bytes in the payload buffer, from its beginning.
    pub payload: usize,
    /// Bytes added to the inbox.
    pub inbox: usize,
}

impl Received {
    /// Has the peer closed the connection?
    pub fn is_end(&self) -> bool {
        self.payload == 0 && self.inbox == 0
    }
}

/// A connection. One receive and one send may be under way at the same time, on one core; between operations it may move to another core.
///
/// Dropping the future of a receive or a send is safe, but what it had received or sent by then is unknown, so the connection is of
/// no use any more: to end one, call [`Self::shutdown`] and let both run to their end.
pub struct Stream {
    socket: Socket,
    /// Whether large sends lend their pages; unknown before the first.
    lends: Cell<Option<bool>>,
    /// Pages lent to the kernel were copied after all: the way to this peer (a virtual link, an old driver) cannot do without.
    in_vain: Arc<AtomicBool>,
}

impl Stream {
    fn new(socket: Socket) -> Stream {
        Stream {
            socket,
            lends: Cell::new(None),
            in_vain: Arc::default(),
        }
    }

    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let socket = Socket::make(&address)?;
        let (storage, len) = encode(&address);
        if uses_ring() {
            let operation = on_core(|core| {
                core.io.begin(|slot| {
                    slot.work = Work::Connect;
                    slot.fd = Some(socket.fd.clone());
                    slot.address = storage;
                    slot.address_len = len;
                })
            });
            result(operation.await)?;
            return Ok(Stream::new(socket));
        }
        socket.set_nonblocking(true)?;
        // SAFETY: [SYSCALL] an address of `len` readable bytes.
        if let Err(error) = check(unsafe { libc::connect(socket.raw(), (&raw const storage).cast(), len) }) {
            if error.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(error);
            }
            with_epoll(|core, epoll| {
                let token = socket.token(core, epoll)?;
                epoll.not_ready(token, Way::Out);
                Ok(())
            })?;
            socket.ready(Way::Out, |_| 0).await?;
            let mut failed: i32 = 0;
            let mut len = size_of::<i32>() as libc::socklen_t;
            // SAFETY: [SYSCALL] one writable int, and its size.
            check(unsafe {
                let value = (&raw mut failed).cast();
                libc::getsockopt(socket.raw(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut len)
            })?;
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
        }
        socket.set_nonblocking(false)?;
        Ok(Stream::new(socket))
    }

    fn accepted(fd: usize) -> Stream {
        // SAFETY: [NEW-FD] the kernel made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Stream::new(Socket::new(fd))
    }

    /// A connection made by other means.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Stream> {
        stream.set_nonblocking(false)?;
        Ok(Stream::new(Socket::new(stream.into())))
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(libc::getpeername)
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.address(libc::getsockname)
    }

    /// Sends small pieces at once instead of collecting them.
    pub fn set_nodelay(&self, yes: bool) -> io::Result<()> {
        self.socket.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, yes as i32)
    }

    /// Lets the kernel find out about peers that vanished.
    pub fn set_keepalive(&self, yes: bool) -> io::Result<()> {
        self.socket.set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, yes as i32)
    }

    /// Sizes of the kernel's buffers in bytes, instead of letting it choose.
    pub fn set_buffer_sizes(&self, receive: usize, send: usize) -> io::Result<()> {
        self.socket.set(
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            receive.min(i32::MAX as usize / 2) as i32,
        )?;
        self.socket.set(
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            send.min(i32::MAX as usize / 2) as i32,
        )
    }

    /// Whether the pages of large sends are lent to the kernel until the peer has them, instead of being copied by it. By default yes, where
    /// the kernel can, and the peer is on another machine; no longer as soon as the kernel says that it copied them after all.
    pub fn set_lending(&self, yes: bool) {
        self.lends.set(Some(yes));
        self.in_vain.store(false, Relaxed)
    }

    fn lends(&self) -> bool {
        let here = || match (self.peer_addr(), self.local_addr()) {
            (Ok(peer), Ok(local)) => peer.ip() == local.ip() || peer.ip().is_loopback(),
            _ => true,
        };
        let lends = self.lends.get().unwrap_or_else(|| {
            let lends = on_core(|core| core.io.lends()) && !here();
            self.lends.set(Some(lends));
            lends
        });
        lends && !self.in_vain.load(Relaxed)
    }

    /// Receives what has arrived, or waits until something does: first into `payload`, whose pages are written directly, then
    /// into the free space of the inbox, in one call. Room for nothing is an error.
    pub async fn recv(&self, inbox: &mut Inbox, payload: Option<&Buf>) -> io::Result<Received> {
        let wanted = payload.map_or(0, Buf::len);
        let (free, room) = inbox.free_space();
        if wanted + room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no room to receive into"));
        }
        let tail = libc::iovec {
            iov_base: free.cast(),
            iov_len: room,
        };
        let total = if uses_ring() {
            let mut operation = on_core(|core| {
                core.io.begin(|slot| {
                    slot.work = Work::Receive;
                    slot.fd = Some(self.socket.fd.clone());
                    if let Some(payload) = payload {
                        payload.pin_for_kernel_write(&mut slot.pins)
                    }
                    if room > 0 {
                        slot.inbox = Some(inbox.memory());
                        slot.pins.iovecs_mut().push(tail)
                    }
                    slot.pins.iovecs_mut().truncate(libc::UIO_MAXIOV as usize)
                })
            });
            retried(&mut operation).await?
        } else {
            self.socket
                .ready(Way::In, |io| {
                    let mut iovecs = io.scratch.borrow_mut();
                    iovecs.clear();
                    if let Some(payload) = payload {
                        payload.segments_to_write(&mut iovecs)
                    }
                    iovecs.push(tail);
                    // SAFETY: [DURING-CALL] pages of the payload, made private just now, and the free space of the inbox.
                    unsafe {
                        let mut message = message(&mut iovecs);
                        libc::recvmsg(self.socket.raw(), &raw mut message, libc::MSG_DONTWAIT)
                    }
                })
                .await?
        };
        let received = Received {
            payload: total.min(wanted),
            inbox: total.saturating_sub(wanted),
        };
        inbox.received(received.inbox);
        Ok(received)
    }

    /// Sends what the outbox holds, or a part of it, as soon as there is room; says how many bytes, which are then gone from the
    /// outbox. An empty outbox is sent at once.
    ///
    /// Pages of a large send may be lent to the kernel for longer than that, see [`Self::set_lending`]; who writes to the buffer meanwhile
    /// writes to other pages.
    pub async fn send(&self, outbox: &mut Outbox) -> io::Result<usize> {
        if outbox.is_empty() {
            return Ok(0);
        }
        if outbox.in_pages() >= LEND && self.lends() && uses_ring() {
            let mut operation = on_core(|core| {
                core.io.begin(|slot| {
                    slot.work = Work::Lend;
                    slot.fd = Some(self.socket.fd.clone());
                    outbox.lend(&mut slot.pins, &mut slot.headers);
                    slot.in_vain = Some(self.in_vain.clone());
                })
            });
            match retried(&mut operation).await {
                // Not on this kind of socket, or more pages than we may lock: then as ever.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS)
                    ) =>
                {
                    self.in_vain.store(true, Relaxed)
                }
                Err(error) => return Err(error),
                Ok(sent) => {
                    counters::lent();
                    outbox.sent(sent);
                    return Ok(sent);
                }
            }
        }
        let sent = if uses_ring() {
            let mut operation = on_core(|core| {
                core.io.begin(|slot| {
                    slot.work = Work::Send;
                    slot.fd = Some(self.socket.fd.clone());
                    outbox.segments(slot.pins.iovecs_mut());
                    slot.outbox = Some(outbox.store());
                })
            });
            retried(&mut operation).await?
        } else {
            self.socket
                .ready(Way::Out, |io| {
                    let mut iovecs = io.scratch.borrow_mut();
                    iovecs.clear();
                    outbox.segments(&mut iovecs);
                    // SAFETY: [DURING-CALL] segments of the outbox, which stays as it is.
                    unsafe {
                        let message = message(&mut iovecs);
                        libc::sendmsg(
                            self.socket.raw(),
                            &raw const message,
                            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                        )
                    }
                })
                .await?
        };
        outbox.sent(sent);
        Ok(sent)
    }

    /// Ends the connection in both directions: operations under way end too, a receive with nothing, a send with an error.
    pub fn shutdown(&self) {
        self.half_close(Shutdown::Both)
    }

    /// Ends one direction or both. `Shutdown::Write` lets the peer read all that was sent, and then the end.
    pub fn half_close(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: [SYSCALL] no memory is passed. It fails when the connection is gone, which is as good.
        unsafe { libc::shutdown(self.socket.raw(), how) };
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer_addr() {
            Ok(peer) => write!(f, "Stream({peer})"),
            Err(_) => write!(f, "Stream(gone)"),
        }
    }
}

/// Waits for an operation on a socket, again if a signal or the kernel's haste ended it.
async fn retried(operation: &mut Operation) -> io::Result<usize> {
    loop {
        match result((&mut *operation).await) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                operation.again()
            }
            other => return other,
        }
    }
}

/// A completion as a result.
pub(super) fn result(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn message(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: [PLAIN-DATA] integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len().min(libc::UIO_MAXIOV as usize) as _;
    message
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn encode(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: [PLAIN-DATA] integers, for which zero is a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: [SOCKADDR] the storage is large and aligned enough for any address.
            let out = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            out.sin_family = libc::AF_INET as libc::sa_family_t;
            out.sin_port = v4.port().to_be();
            out.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: [SOCKADDR] as above.
            let out = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            out.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            out.sin6_port = v6.port().to_be();
            out.sin6_addr.s6_addr = v6.ip().octets();
            out.sin6_flowinfo = v6.flowinfo();
            out.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

fn decode(storage: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    match storage.ss_family as i32 {
        libc::AF_INET => {
            // SAFETY: [SOCKADDR] the family says what it is, and the storage is large and aligned enough.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: [SOCKADDR] as above.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        family => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("an address of family {family}"),
        )),
    }
}
