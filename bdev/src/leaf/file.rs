//! File: a file or a block device of the kernel's, through the core's ring.
//!
//! ```text
//!   flush        fdatasync                       unmap          punch hole, or discard on a block device
//!   FUA write    write with RWF_DSYNC            write zeroes   zero range; where that fails, zeros are written
//! ```
//!
//! Past the page cache (O_DIRECT) where the file system allows it with this block size. A file whose length is no multiple of the block
//! size ends with its last whole block. If it is cut short under us, what is missing is a medium error, and cannot be written once that has been seen: the file
//! would be long again, with zeros where nobody has written. If it grows, a rescan says so.
//! Opened once on the control plane; every core uses it natively.
use crate::{Allocation, BlockDevice, Geometry, GraphError, Io, IoError, IoResult, Op, table::Direct};
use reactor::OpenHow;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// See the [module](self). May be sent to any core; clones are the same file.
#[derive(Clone, Debug)]
pub struct File {
    file: reactor::File,
    path: Arc<PathBuf>,
    geometry: Geometry,
    /// Turns out when first tried: the file system cannot punch holes.
    cannot_punch: Arc<AtomicBool>,
    /// It was seen to end before it should.
    is_cut: Arc<AtomicBool>,
}

impl File {
    /// Opens it. May block.
    pub fn open(
        path: &Path,
        block_size: Option<u32>,
        read_only: bool,
        create_size: Option<u64>,
        direct: Direct,
    ) -> Result<Self, GraphError> {
        let failed = |error: io::Error| GraphError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
            os: error.raw_os_error(),
        };
        let how = |direct| OpenHow {
            read_only,
            direct,
            create_size,
        };
        let wanted = match direct {
            Direct::Auto => reactor::Direct::Auto,
            Direct::Always => reactor::Direct::Always,
            Direct::Never => reactor::Direct::Never,
        };
        let mut file = reactor::File::open(path, &how(wanted)).map_err(failed)?;
        let block_size = match block_size {
            Some(size) => size,
            None if file.is_block_device() => file.logical_block_size(),
            None => 512,
        };
        if file.is_direct() && block_size < file.logical_block_size() {
            if direct == Direct::Always || file.is_block_device() {
                return Err(GraphError::File {
                    path: path.display().to_string(),
                    reason: format!(
                        "blocks of {block_size} bytes are less than the device's {}",
                        file.logical_block_size()
                    ),
                    os: None,
                });
            }
            // A file system of larger blocks: through the page cache, then.
            file = reactor::File::open(path, &how(reactor::Direct::Never)).map_err(failed)?
        }
        let bytes = file.size().map_err(failed)?;
        let blocks = bytes.checked_div(block_size.into()).unwrap_or(0);
        if block_size > 0 && bytes % u64::from(block_size) > 0 {
            tracing::warn!(path = %path.display(), bytes, block_size, "the last bytes are no whole block and are not used");
        }
        let physical = file.physical_block_size().max(block_size);
        let geometry = Geometry {
            physical_block_size: if physical.is_power_of_two() {
                physical
            } else {
                block_size
            },
            unmap: !read_only,
            unmap_granularity: (4096 / block_size.max(1)).max(1),
            // A hole in a file is zeros; what a discarded sector reads as is the device's business.
            unmap_reads_zero: !file.is_block_device(),
            write_zeroes: !read_only,
            read_only,
            rotational: file.is_rotational(),
            volatile_cache: true,
            ..Geometry::plain(block_size, blocks)
        };
        Ok(Self {
            file,
            path: Arc::new(path.to_owned()),
            geometry,
            cannot_punch: Arc::default(),
            is_cut: Arc::default(),
        })
    }

    /// What it is like now, as far as we have looked: see [`size`](Self::size).
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The same file with another length.
    pub fn with_blocks(&self, blocks: u64) -> Self {
        Self {
            geometry: Geometry {
                blocks,
                ..self.geometry
            },
            ..self.clone()
        }
    }

    /// How many whole blocks the file has at this moment. May block.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.size()? / u64::from(self.geometry.block_size))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn span(&self, io: &Io) -> (u64, u64) {
        let shift = self.geometry.block_shift();
        (io.range.start.0 << shift, u64::from(io.range.count) << shift)
    }

    async fn read(&self, offset: u64, io: Io) -> IoResult {
        self.file.read(offset, io.data).await.map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof && !self.is_cut.swap(true, Relaxed) {
                tracing::error!(path = %self.path.display(), offset, "the file ends before that: it was cut short")
            }
            IoError::from_os(&error)
        })
    }

    /// Nobody makes a file longer that was cut short.
    fn is_there(&self, offset: u64, len: u64) -> IoResult {
        if !self.is_cut.load(Relaxed) {
            return Ok(());
        }
        match self.file.size() {
            Ok(size) if offset + len <= size => Ok(()),
            _ => Err(IoError::Device),
        }
    }

    async fn punch(&self, offset: u64, len: u64) -> IoResult {
        if !self.cannot_punch.load(Relaxed) {
            match self.file.punch_hole(offset, len).await {
                Err(error) if is_unsupported(&error) => self.cannot_punch.store(true, Relaxed),
                done => return done.map_err(|error| IoError::from_os(&error)),
            }
        }
        // Only a hint: who cannot take it may ignore it. But where unmapped blocks are said to read as zeros, they have to.
        match self.geometry.unmap_reads_zero {
            true => self.zero(offset, len, false).await,
            false => Ok(()),
        }
    }

    async fn zero(&self, offset: u64, len: u64, unmap: bool) -> IoResult {
        self.file
            .zero_range(offset, len, unmap)
            .await
            .map_err(|error| IoError::from_os(&error))
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    // EOPNOTSUPP, ENOSYS, ENOTTY: the file system, the kernel or the driver has never heard of it.
    matches!(error.raw_os_error(), Some(95 | 38 | 25)) || error.kind() == io::ErrorKind::Unsupported
}

impl BlockDevice for File {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        if self.geometry.read_only && io.op.changes() {
            return Err(IoError::ReadOnly);
        }
        let (offset, len) = self.span(&io);
        if len == 0 && io.op != Op::Flush {
            return Ok(());
        }
        let os = |error: io::Error| IoError::from_os(&error);
        match io.op {
            Op::Read => self.read(offset, io).await,
            Op::Write => {
                self.is_there(offset, len)?;
                self.file.write(offset, io.data, io.fua).await.map_err(os)
            }
            Op::Flush if self.geometry.read_only => Ok(()),
            Op::Flush => self.file.sync_data().await.map_err(os),
            Op::Unmap => self.punch(offset, len).await,
            Op::Allocation => {
                let (allocated, bytes) = self.file.allocated(offset, len).await.map_err(os)?;
                // A block that is partly there is there; holes are whole blocks, rounded to what is surely alike.
                let blocks = bytes >> self.geometry.block_shift();
                let (allocated, blocks) = match blocks {
                    0 => (true, 1),
                    blocks => (allocated, blocks.min(io.range.count.into()) as u32),
                };
                Allocation { allocated, blocks }.tell(&io)
            }
            Op::WriteZeroes { unmap } => {
                self.is_there(offset, len)?;
                self.zero(offset, len, unmap).await?;
                match io.fua {
                    true => self.file.sync_data().await.map_err(os),
                    false => Ok(()),
                }
            }
        }
    }
}
