//! Crypt: AES-XTS between hosts and the disk below.
//!
//! ```text
//!   write   host's pages ── encrypted into pages of our own ──► below       the host's are as they were
//!   read    below ──► pages as they came ── decrypted into others, which take their place in the host's buffer
//! ```
//!
//! Each block is encrypted by itself with its number as tweak ([`xts`](crate::xts)), in place and length: nothing is kept of it elsewhere, so
//! what is atomic or durable below is so above. Who has the disk below sees which blocks change, and can put an old block back.
//!
//! Blocks that were never written, or that were unmapped, read as whatever the disk below gives, decrypted: noise. So unmap promises nothing
//! (`unmap_reads_zero` is false), and write zeroes writes zeros, encrypted, and gives no space back.
use crate::{BlockDevice, Disk, Geometry, Io, IoError, IoResult, Mapped, Op, xts::Xts};
use reactor::{Buf, PAGE, Page};
use spec::{BlockRange, Lba};
use std::sync::Arc;

/// Bytes of zeros that are encrypted at a time.
const ZEROES_STEP: u32 = 128 << 10;

/// See the [module](self).
pub struct Crypt {
    below: Disk,
    xts: Arc<Xts>,
}

/// What `below` is when it is encrypted.
pub fn geometry(below: Geometry) -> Geometry {
    Geometry {
        unmap_reads_zero: false,
        write_zeroes: false,
        ..below
    }
}

impl Crypt {
    /// Encrypts what goes to `below`.
    pub fn new(below: Disk, xts: Arc<Xts>) -> Self {
        Self { below, xts }
    }

    fn block_size(&self) -> usize {
        self.below.block_size() as usize
    }

    /// `data` encrypted, in other pages.
    fn encrypted(&self, start: Lba, data: &Buf) -> Result<Buf, IoError> {
        let mut cursor = self.xts.from(start.0, self.block_size());
        let aligned = data.page_aligned();
        let mut short = false;
        let made = Buf::from_pages(data.len(), |i| {
            let Some(mut page) = Page::try_alloc().filter(|_| !short) else {
                short = true;
                return Page::zero();
            };
            let len = PAGE.min(data.len() - i * PAGE);
            let to = &mut page.make_mut()[..len];
            match aligned {
                true => cursor.encrypt_into(&data.page(i).bytes()[..len], to),
                false => {
                    data.read_at(i * PAGE, to);
                    cursor.encrypt(to)
                }
            }
            page
        });
        match short {
            true => Err(IoError::NoSpace),
            false => Ok(made),
        }
    }

    /// Decrypts what was read. The pages it came in may be the disk's own (memory), so they are left as they are.
    fn decrypt(&self, start: Lba, data: &Buf) -> IoResult {
        let mut cursor = self.xts.from(start.0, self.block_size());
        let aligned = data.page_aligned();
        for i in 0..data.len().div_ceil(PAGE) {
            let mut page = Page::try_alloc().ok_or(IoError::NoSpace)?;
            let len = PAGE.min(data.len() - i * PAGE);
            let to = &mut page.make_mut()[..len];
            match aligned {
                true => cursor.decrypt_into(&data.page(i).bytes()[..len], to),
                false => {
                    data.read_at(i * PAGE, to);
                    cursor.decrypt(to)
                }
            }
            match aligned && len == PAGE {
                true => data.set_page(i, page),
                false => data.write_at(i * PAGE, to),
            }
        }
        Ok(())
    }

    async fn write_zeroes(&self, io: Io) -> IoResult {
        let step = (ZEROES_STEP / self.below.block_size()).max(1);
        let (mut at, end) = (io.range.start.0, io.range.start.0 + u64::from(io.range.count));
        while at < end {
            let count = (end - at).min(step.into()) as u32;
            let zeros = Buf::zeroed(count as usize * self.block_size());
            let data = self.encrypted(Lba(at), &zeros)?;
            let part = Io {
                op: Op::Write,
                range: BlockRange::new(at, count),
                data,
                ..io
            };
            self.below.submit(part).await?;
            at += u64::from(count);
            // A disk that answers at once leaves nobody else a turn.
            if at < end {
                reactor::yield_now().await
            }
        }
        Ok(())
    }
}

impl BlockDevice for Crypt {
    fn geometry(&self) -> Geometry {
        geometry(self.below.geometry())
    }

    /// What has no content needs no cipher.
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        match io.op {
            Op::Flush | Op::Unmap | Op::Allocation => Mapped::To(&self.below),
            Op::Read | Op::Write | Op::WriteZeroes { .. } => Mapped::Stay,
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        match io.op {
            Op::Flush | Op::Unmap | Op::Allocation => self.below.submit(io).await,
            Op::Write => {
                let data = self.encrypted(io.range.start, &io.data)?;
                self.below.submit(Io { data, ..io }).await
            }
            Op::Read => {
                let (start, data) = (io.range.start, io.data.clone());
                self.below.submit(io).await?;
                self.decrypt(start, &data)
            }
            Op::WriteZeroes { .. } => self.write_zeroes(io).await,
        }
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::memory::Memory;

    fn xts() -> Arc<Xts> {
        Arc::new(Xts::new(&(0..64).collect::<Vec<u8>>()).unwrap())
    }

    /// Whether a buffer lies in its pages as it should or not, is part of a page or of many.
    #[test]
    fn the_hosts_pages_are_its_own_and_the_disk_below_never_sees_what_is_in_them() {
        reactor::sim::run(async {
            for block_size in [512, 4096, 16384] {
                let below = Disk::new(Memory::new(Memory::geometry_of(block_size, block_size, 0, 64)));
                let disk = Disk::new(Crypt::new(below.clone(), xts()));
                let size = block_size as usize;
                for (offset, count) in [(0, 1), (0, 9), (512, 1), (100, 3), (4095, 9)] {
                    let range = BlockRange::new(7, count as u32);
                    let plain: Vec<u8> = (0..count * size).map(|i| ((i * 31) >> 4) as u8).collect();
                    let room = Buf::alloc(offset + plain.len() + 700);
                    room.fill(0xee);
                    let data = room.slice(offset..offset + plain.len());
                    data.write_at(0, &plain);
                    assert_eq!(disk.write(range, data.clone()).await, Ok(()));
                    assert_eq!(data.to_vec(), plain, "the host's own bytes, {count} blocks at {offset}");

                    let raw = Buf::alloc(plain.len());
                    assert_eq!(below.read(range, raw.clone()).await, Ok(()));
                    let mut expected = plain.clone();
                    xts().from(7, size).encrypt(&mut expected);
                    assert!(raw.to_vec() == expected, "{count} blocks of {size} at {offset}");

                    data.fill(0);
                    assert_eq!(disk.read(range, data.clone()).await, Ok(()));
                    assert!(data.to_vec() == plain, "{count} blocks of {size} at {offset}, back");
                    let (all, end) = (room.to_vec(), offset + plain.len());
                    assert!(
                        all[..offset].iter().chain(&all[end..]).all(|byte| *byte == 0xee),
                        "beside it"
                    );
                    // What was read was decrypted somewhere else than on the disk.
                    assert_eq!(below.read(range, raw.clone()).await, Ok(()));
                    assert!(raw.to_vec() == expected, "a read changed the disk");
                }
            }
        })
    }

    #[test]
    fn zeros_are_encrypted_and_what_is_unmapped_is_noise() {
        reactor::sim::run(async {
            let below = Disk::new(Memory::new(Memory::geometry_of(512, 4096, 0, 2000)));
            let disk = Disk::new(Crypt::new(below.clone(), xts()));
            let (whole, len) = (BlockRange::new(3, 1990), 1990 * 512);
            assert_eq!(disk.submit(Io::write_zeroes(whole, true).fua()).await, Ok(()));
            let (data, raw) = (Buf::alloc(len), Buf::alloc(len));
            assert_eq!(disk.read(whole, data.clone()).await, Ok(()));
            assert_eq!(below.read(whole, raw.clone()).await, Ok(()));
            assert!(
                data.is_zero()
                    && raw
                        .to_vec()
                        .chunks(512)
                        .all(|block| block.iter().any(|byte| *byte != 0))
            );

            assert_eq!(disk.submit(Io::unmap(whole)).await, Ok(()));
            assert_eq!(disk.read(whole, data.clone()).await, Ok(()));
            assert_eq!(below.read(whole, raw.clone()).await, Ok(()));
            assert!(raw.is_zero(), "unmap reaches the disk");
            assert!(
                data.to_vec()
                    .chunks(512)
                    .all(|block| block.iter().any(|byte| *byte != 0))
            );
            assert!(!disk.geometry().unmap_reads_zero && disk.geometry().unmap);
        })
    }
}
