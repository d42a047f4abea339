//! Files and block devices.
use super::{Operation, net::result, ops::Work};
use crate::{buf::Buf, page::PAGE, turn::on_core};
use std::{
    ffi::CString,
    fmt, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

/// `_IOR(0x12, 114, size_t)`, linux/fs.h.
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
/// `_IO(0x12, 104)`: bytes in a logical block.
const BLKSSZGET: libc::c_ulong = 0x1268;
/// `_IO(0x12, 123)`: bytes in a physical block.
const BLKPBSZGET: libc::c_ulong = 0x127b;
/// `_IO(0x12, 94)`: must it not be written?
const BLKROGET: libc::c_ulong = 0x125e;
/// `_IO(0x12, 126)`: does it rotate?
const BLKROTATIONAL: libc::c_ulong = 0x127e;

/// File systems that are memory: their files are read and written at once. io_uring knows no way to do that without waiting
/// and hands every such I/O to a helper thread of the kernel, which takes several times as long as the copy.
const MEMORY: [i64; 2] = [libc::TMPFS_MAGIC, RAMFS_MAGIC];
/// linux/magic.h.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// What a search for data or holes is counted in: no file system has smaller holes.
pub(super) const SEEK_UNIT: u64 = 512;

/// Whether to go around the page cache.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Direct {
    /// Where the file system can.
    #[default]
    Auto,
    /// Through the page cache.
    Never,
    /// Or an error.
    Always,
}

/// How to open a file.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenHow {
    /// Refuse writes.
    pub read_only: bool,
    /// Around the page cache?
    pub direct: Direct,
    /// If it does not exist, make a sparse file of this many bytes.
    pub create_size: Option<u64>,
}

/// An open file or block device. Opened anywhere (which may block), used on reactors; each operation goes through the ring of its core.
#[derive(Clone)]
pub struct File(Arc<Opened>);

struct Opened {
    fd: Arc<OwnedFd>,
    direct: bool,
    block_device: bool,
    rotational: bool,
    /// Is the file system memory?
    in_memory: bool,
    logical: u32,
    physical: u32,
    /// What addresses and lengths have to be multiples of.
    memory_align: usize,
}

impl File {
    /// Opens `path`, which has to be a regular file or a block device.
    pub fn open(path: &Path, how: &OpenHow) -> io::Result<File> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let access = if how.read_only { libc::O_RDONLY } else { libc::O_RDWR } | libc::O_CLOEXEC;
        let direct = if how.direct == Direct::Never { 0 } else { libc::O_DIRECT };
        let fd = match (open(&name, access | direct), how) {
            (
                Err(error),
                OpenHow {
                    create_size: Some(size),
                    read_only: false,
                    ..
                },
            ) if error.kind() == io::ErrorKind::NotFound => {
                create(&name, *size)?;
                open(&name, access | direct)
            }
            (result, _) => result,
        };
        let fd = match fd {
            // What the file system says that cannot.
            Err(error) if how.direct == Direct::Auto && error.raw_os_error() == Some(libc::EINVAL) => {
                open(&name, access)
            }
            result => result,
        }?;
        let status = status(&fd)?;
        let kind = status.stx_mode as u32 & libc::S_IFMT;
        let block_device = kind == libc::S_IFBLK;
        if !block_device && kind != libc::S_IFREG {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        let mut opened = Opened {
            direct: get_flags(&fd)? & libc::O_DIRECT != 0,
            in_memory: !block_device && in_memory(&fd)?,
            fd: Arc::new(fd),
            block_device,
            rotational: false,
            logical: 512,
            physical: 4096,
            memory_align: 1,
        };
        if block_device {
            opened.logical = opened.ask::<i32>(BLKSSZGET)? as u32;
            opened.physical = opened.ask::<u32>(BLKPBSZGET)?.max(opened.logical);
            // The kernel lets root open such a device and fails the first write instead.
            if !how.read_only && opened.ask::<i32>(BLKROGET)? != 0 {
                return Err(io::Error::from_raw_os_error(libc::EROFS));
            }
            opened.rotational = opened.ask::<u16>(BLKROTATIONAL).is_ok_and(|yes| yes != 0);
        }
        if opened.direct {
            opened.find_alignment(&status, how.direct)?
        }
        Ok(File(Arc::new(opened)))
    }

    /// Bytes in it now: a file that was grown says so.
    pub fn size(&self) -> io::Result<u64> {
        if self.0.block_device {
            return self.0.ask::<u64>(BLKGETSIZE64);
        }
        Ok(status(&self.0.fd)?.stx_size)
    }

    /// Sets the size of a regular file. For the control plane: it may block.
    pub fn set_size(&self, bytes: u64) -> io::Result<()> {
        // SAFETY: [SYSCALL] no memory is passed.
        check(unsafe { libc::ftruncate(self.0.raw(), bytes as libc::off_t) }).map(drop)
    }

    /// Is it a block device (and not a regular file)?
    pub fn is_block_device(&self) -> bool {
        self.0.block_device
    }

    /// Does it go around the page cache?
    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    /// Is it a disk that rotates?
    pub fn is_rotational(&self) -> bool {
        self.0.rotational
    }

    /// What offsets and lengths have to be multiples of.
    pub fn logical_block_size(&self) -> u32 {
        self.0.logical
    }

    /// What is written without reading first.
    pub fn physical_block_size(&self) -> u32 {
        self.0.physical
    }

    /// Reads `into.len()` bytes at `offset`, all or an error; behind the end of the file is an error.
    pub async fn read(&self, offset: u64, into: Buf) -> io::Result<()> {
        if into.is_empty() {
            return Ok(());
        }
        if !self.aligned(&into) {
            // Rare: a host's data that does not start at a block of its page. Read beside it, and copy.
            let beside = Buf::alloc(into.len());
            self.transfer(Work::Read { offset }, &beside).await?;
            into.adopt(&beside);
            return Ok(());
        }
        self.transfer(Work::Read { offset }, &into).await
    }

    /// Writes `from` at `offset`, all or an error. With `dsync` it is on stable storage when this ends.
    pub async fn write(&self, offset: u64, from: Buf, dsync: bool) -> io::Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        if !self.aligned(&from) {
            let beside = Buf::alloc(from.len());
            beside.adopt(&from);
            return self.transfer(Work::Write { offset, dsync }, &beside).await;
        }
        self.transfer(Work::Write { offset, dsync }, &from).await
    }

    /// Makes all writes that have ended stable (fdatasync).
    pub async fn sync_data(&self) -> io::Result<()> {
        if self.0.in_memory {
            return Ok(()); // it is as stable as it will ever be
        }
        self.perform(Work::Sync).await
    }

    /// Gives the range back to the file system or the device. In a file it then reads as zeros; on a device, that is the device's affair.
    pub async fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.0.block_device {
            return self.perform(Work::Discard { offset, len }).await;
        }
        self.perform(Work::Allocate {
            mode: libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            offset,
            len,
        })
        .await
    }

    /// Makes the range read as zeros; the space is given back only if it `may_unmap`.
    pub async fn zero_range(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        // For a block device the kernel turns these into write zeroes, with or without leave to unmap.
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let zero = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        for mode in if may_unmap { [punch, zero] } else { [zero, zero] } {
            match self.perform(Work::Allocate { mode, offset, len }).await {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => (),
                result => return result,
            }
        }
        // Neither: write them, a piece at a time.
        const PIECE: u64 = 256 * PAGE as u64;
        let zeros = Buf::zeroed(len.min(PIECE) as usize);
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let n = (end - at).min(PIECE);
            self.write(at, zeros.slice(0..n as usize), false).await?;
            at += n
        }
        Ok(())
    }

    /// Does the file system keep data at `offset`, and for how many bytes from there on (at least one, at most `len`) is that so? What
    /// cannot know (a block device, a file system without holes) keeps data everywhere. `offset` is a multiple of 512.
    pub async fn allocated(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        if self.0.block_device {
            return Ok((true, len));
        }
        let units = |n: i32| u64::from(n.unsigned_abs()).saturating_mul(SEEK_UNIT);
        let seek = async |hole| match self.ask_ring(Work::Seek { offset, hole }).await {
            // No data from here to the end; or lseek knows nothing about holes.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(u64::MAX),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(if hole { u64::MAX } else { 0 }),
            Err(error) => Err(error),
            Ok(n) => Ok(units(n)),
        };
        let (allocated, run) = match seek(false).await? {
            0 => (true, seek(true).await?),
            hole => (false, hole),
        };
        // Whoever punches meanwhile may make a run end where it begins.
        Ok((allocated, run.clamp(SEEK_UNIT, len.max(1))))
    }

    fn aligned(&self, buf: &Buf) -> bool {
        let align = self.0.memory_align;
        align <= 1 || {
            let mut aligned = true;
            buf.for_each_chunk(|chunk| aligned &= chunk.as_ptr().addr() % align == 0 && chunk.len() % align == 0);
            aligned
        }
    }

    async fn transfer(&self, work: Work, buf: &Buf) -> io::Result<()> {
        if self.0.in_memory {
            return self.transfer_at_once(work, buf);
        }
        let mut operation = on_core(|core| {
            core.io.begin(|slot| {
                slot.work = work;
                slot.fd = Some(self.0.fd.clone());
                match work {
                    Work::Read { .. } => buf.pin_for_kernel_write(&mut slot.pins),
                    _ => buf.pin_for_kernel_read(&mut slot.pins),
                }
            })
        });
        let mut left = buf.len();
        loop {
            match result((&mut operation).await) {
                Err(error) if retry(&error) => (),
                Err(error) => return Err(error),
                Ok(n) if n >= left => return Ok(()),
                Ok(0) => return Err(ended(work)),
                Ok(n) => {
                    left -= n;
                    operation.slot(|slot| {
                        slot.pins.advance(n);
                        match &mut slot.work {
                            Work::Read { offset } | Work::Write { offset, .. } => *offset += n as u64,
                            _ => (),
                        }
                    })
                }
            }
            operation.again()
        }
    }

    /// By calls that copy and do not wait.
    fn transfer_at_once(&self, work: Work, buf: &Buf) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let rest = buf.slice(done..buf.len());
            let n = on_core(|core| {
                let mut iovecs = core.io.scratch.borrow_mut();
                iovecs.clear();
                match work {
                    Work::Read { .. } => rest.segments_to_write(&mut iovecs),
                    _ => rest.segments_to_read(&mut iovecs),
                }
                let count = iovecs.len().min(libc::UIO_MAXIOV as usize) as i32;
                // SAFETY: [DURING-CALL] pages of the buffer, made private just now if they are written to.
                let n = unsafe {
                    match work {
                        Work::Read { offset } => libc::preadv(
                            self.0.raw(),
                            iovecs.as_ptr(),
                            count,
                            (offset + done as u64) as libc::off_t,
                        ),
                        Work::Write { offset, .. } => libc::pwritev(
                            self.0.raw(),
                            iovecs.as_ptr(),
                            count,
                            (offset + done as u64) as libc::off_t,
                        ),
                        _ => return Err(io::ErrorKind::Unsupported.into()),
                    }
                };
                usize::try_from(n).map_err(|_| io::Error::last_os_error())
            });
            match n {
                Err(error) if retry(&error) => (),
                Err(error) => return Err(error),
                Ok(0) => return Err(ended(work)),
                Ok(n) => done += n,
            }
        }
        Ok(())
    }

    async fn perform(&self, work: Work) -> io::Result<()> {
        self.ask_ring(work).await.map(drop)
    }

    async fn ask_ring(&self, work: Work) -> io::Result<i32> {
        let mut operation: Operation = on_core(|core| {
            core.io.begin(|slot| {
                slot.work = work;
                slot.fd = Some(self.0.fd.clone());
            })
        });
        loop {
            match result((&mut operation).await) {
                Err(error) if retry(&error) => operation.again(),
                result => return result.map(|n| n as i32),
            }
        }
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn ended(work: Work) -> io::Error {
    match work {
        Work::Read { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before that"),
        _ => io::Error::new(io::ErrorKind::WriteZero, "nothing more could be written"),
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.block_device { "block device" } else { "file" };
        write!(
            f,
            "File({kind}, direct: {}, {}/{})",
            self.0.direct, self.0.logical, self.0.physical
        )
    }
}

impl Opened {
    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// An ioctl that answers with one number.
    fn ask<T: Default>(&self, request: libc::c_ulong) -> io::Result<T> {
        let mut answer = T::default();
        // SAFETY: [SYSCALL] room for the answer: the requests above say which integer they write.
        check(unsafe { libc::ioctl(self.raw(), request as _, &raw mut answer) })?;
        Ok(answer)
    }

    /// What direct I/O asks for; without it, if the file cannot after all.
    fn find_alignment(&mut self, status: &libc::statx, wanted: Direct) -> io::Result<()> {
        if status.stx_mask & libc::STATX_DIOALIGN == 0 {
            // A kernel before 6.1 does not say. A logical block is what every file system takes; for a file its block size is unknown.
            let align = if self.block_device { self.logical } else { 4096 };
            self.logical = align;
            self.memory_align = align as usize;
            return Ok(());
        }
        let (memory, offset) = (status.stx_dio_mem_align, status.stx_dio_offset_align);
        if offset == 0 || offset > PAGE as u32 || memory > PAGE as u32 {
            // Not in this file (encrypted, journalled, inline) whatever open said.
            if wanted == Direct::Always {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "direct I/O is not possible in this file",
                ));
            }
            let flags = get_flags(&self.fd)? & !libc::O_DIRECT;
            // SAFETY: [SYSCALL] no memory is passed.
            check(unsafe { libc::fcntl(self.raw(), libc::F_SETFL, flags) })?;
            self.direct = false;
            return Ok(());
        }
        self.logical = self.logical.max(offset);
        self.physical = self.physical.max(self.logical);
        // Segments have to be whole logical blocks, and start where the device can read.
        self.memory_align = memory.max(offset) as usize;
        Ok(())
    }
}

fn open(name: &CString, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: [SYSCALL] a string that ends with zero.
    let fd = check(unsafe { libc::open(name.as_ptr(), flags, 0o600) })?;
    // SAFETY: [NEW-FD] the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create(name: &CString, size: u64) -> io::Result<()> {
    let size = libc::off_t::try_from(size)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no file can be that large"))?;
    let fd = open(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC)?;
    // SAFETY: [SYSCALL] no memory is passed.
    if let Err(error) = check(unsafe { libc::ftruncate(fd.as_raw_fd(), size) }) {
        // An empty file left behind would be taken for a disk of no size the next time.
        // SAFETY: [SYSCALL] a string that ends with zero.
        unsafe { libc::unlink(name.as_ptr()) };
        return Err(error);
    }
    Ok(())
}

fn status(fd: &OwnedFd) -> io::Result<libc::statx> {
    // SAFETY: [PLAIN-DATA] integers, for which zero is a value.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    let mask = libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN;
    // SAFETY: [SYSCALL] an empty string, and room for the answer.
    check(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut status) })?;
    Ok(status)
}

fn in_memory(fd: &OwnedFd) -> io::Result<bool> {
    // SAFETY: [PLAIN-DATA] integers, for which zero is a value.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: [SYSCALL] room for the answer.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut about) })?;
    Ok(MEMORY.contains(&about.f_type))
}

fn get_flags(fd: &OwnedFd) -> io::Result<i32> {
    // SAFETY: [SYSCALL] no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
