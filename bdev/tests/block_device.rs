//! The file leaf on block devices of the kernel's: the conformance suite, discard and zeroes, blocks of either size.
//!
//! Loop devices, which need root and losetup; without them these tests say so and pass.
use bdev::{Disk, GraphError, Io, IoError, conformance::Subject, leaf::file::File, table::Direct};
use reactor::{
    Buf, Config, IoBackend,
    testing::{LoopDevice, pattern, skip},
};
use spec::BlockRange;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const MIB: usize = 1 << 20;
const BLOCK_SIZES: [u32; 2] = [512, 4096];

/// A loop device with the file it stands on, which goes after it.
struct Rig {
    device: LoopDevice,
    image: tempfile::TempPath,
}

impl Rig {
    fn new(test: &str, bytes: u64, block_size: u32, more: &[&str]) -> Option<Self> {
        let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        image.as_file().set_len(bytes).unwrap();
        let image = image.into_temp_path();
        match LoopDevice::over(&image, block_size, more) {
            Ok(device) => Some(Self { device, image }),
            Err(why) => {
                skip(test, &why);
                None
            }
        }
    }

    fn open(&self) -> File {
        open(self.device.path(), None).unwrap()
    }
}

fn open(path: &Path, block_size: Option<u32>) -> Result<File, GraphError> {
    File::open(path, block_size, false, None, Direct::Auto)
}

fn conform(name: &'static str, io: IoBackend) {
    for block_size in BLOCK_SIZES {
        let Some(rig) = Rig::new(name, 300 * u64::from(block_size), block_size, &[]) else {
            return;
        };
        let path: PathBuf = rig.device.path().into();
        let subject = Subject::leaf(move || Disk::new(open(&path, None).unwrap()));
        let config = Config {
            io,
            ..Config::default()
        };
        reactor::block_on_with(config, subject.check(&format!("{name} {block_size}"), 11));
    }
}

#[test]
fn a_block_device_conforms() {
    conform("loop device", IoBackend::Auto);
}

#[test]
fn a_block_device_conforms_without_io_uring() {
    conform("loop device, epoll", IoBackend::Epoll);
}

#[test]
fn discard_gives_space_back_and_zeroes_are_zeroes() {
    for block_size in BLOCK_SIZES {
        let Some(rig) = Rig::new("discard", 8 * MIB as u64, block_size, &[]) else {
            return;
        };
        let disk = rig.open();
        let geometry = disk.geometry();
        assert_eq!(
            (geometry.block_size, geometry.blocks),
            (block_size, 8 * MIB as u64 / u64::from(block_size))
        );
        assert!(
            geometry.unmap && geometry.write_zeroes && !geometry.unmap_reads_zero,
            "what a discarded block reads as is the device's business"
        );
        let blocks = |from: usize, bytes: usize| {
            BlockRange::new(
                (from / block_size as usize) as u64,
                (bytes / block_size as usize) as u32,
            )
        };
        let held = || fs::metadata(&rig.image).unwrap().blocks() * 512;
        let all = pattern(0, 8 * MIB);
        let disk = Disk::new(disk);
        reactor::block_on(async {
            for piece in 0..8 {
                let data = Buf::from_slice(&all[piece * MIB..(piece + 1) * MIB]);
                disk.write(blocks(piece * MIB, MIB), data).await.unwrap();
            }
            disk.flush().await.unwrap();
        });
        let full = held();
        assert!(full >= 8 * MIB as u64, "{full} bytes held by the file below");
        reactor::block_on(async {
            disk.submit(Io::unmap(blocks(MIB, MIB))).await.unwrap();
            disk.submit(Io::write_zeroes(blocks(3 * MIB, MIB), true).fua())
                .await
                .unwrap();
            disk.flush().await.unwrap();
        });
        let after = held();
        assert!(
            after <= full - 2 * MIB as u64 + 65536,
            "{after} of {full} bytes are still held with blocks of {block_size}"
        );
        // One block, and a stretch that no page divides.
        reactor::block_on(async {
            disk.submit(Io::write_zeroes(blocks(5 * MIB, block_size as usize), false))
                .await
                .unwrap();
            disk.submit(Io::write_zeroes(
                blocks(6 * MIB + block_size as usize, 3 * block_size as usize),
                true,
            ))
            .await
            .unwrap();
            disk.flush().await.unwrap();
        });
        let mut expected = all;
        let mut zero = |from: usize, len: usize| expected[from..from + len].fill(0);
        // A discarded stretch of a loop device is a hole in its file.
        zero(MIB, MIB);
        zero(3 * MIB, MIB);
        zero(5 * MIB, block_size as usize);
        zero(6 * MIB + block_size as usize, 3 * block_size as usize);
        reactor::block_on(async {
            for piece in 0..8 {
                let data = Buf::alloc(MIB);
                disk.read(blocks(piece * MIB, MIB), data.clone()).await.unwrap();
                assert!(
                    data.to_vec() == expected[piece * MIB..(piece + 1) * MIB],
                    "the {piece}th MiB with blocks of {block_size}"
                );
            }
        });
        drop(disk);
        assert!(
            fs::read(&rig.image).unwrap() == expected,
            "and the file below says the same"
        );
    }
}

#[test]
fn blocks_smaller_than_the_devices_are_refused_and_larger_ones_are_not() {
    let Some(rig) = Rig::new("block sizes of a device", 4 * MIB as u64 + 512, 512, &[]) else {
        return;
    };
    assert_eq!(rig.open().geometry().block_size, 512);
    let larger = open(rig.device.path(), Some(4096)).unwrap().geometry();
    assert_eq!(
        (larger.block_size, larger.blocks, larger.physical_block_size),
        (4096, 1024, 4096),
        "a last half block is not used"
    );
    drop(rig);
    let Some(rig) = Rig::new("block sizes of a device", 4 * MIB as u64, 4096, &[]) else {
        return;
    };
    let refused = open(rig.device.path(), Some(512)).unwrap_err().to_string();
    assert!(
        refused.contains("/dev/loop") && refused.contains("blocks of 512 bytes are less than the device's 4096"),
        "{refused}"
    );
}

#[test]
fn a_device_that_grows_is_noticed_and_one_for_reading_stays_as_it_is() {
    let Some(rig) = Rig::new("a growing device", 4 * MIB as u64, 512, &[]) else {
        return;
    };
    let disk = rig.open();
    assert_eq!(disk.size().unwrap(), 8192);
    let image = fs::OpenOptions::new().write(true).open(&rig.image).unwrap();
    image.set_len(6 * MIB as u64).unwrap();
    rig.device.grow();
    assert_eq!(disk.size().unwrap(), 12288);
    let grown = Disk::new(disk.with_blocks(12288));
    reactor::block_on(async {
        let last = BlockRange::new(12287, 1);
        grown.write(last, Buf::from_slice(&[9; 512])).await.unwrap();
        let data = Buf::alloc(512);
        grown.read(last, data.clone()).await.unwrap();
        assert_eq!(data.to_vec(), [9; 512]);
    });
    drop((grown, disk, rig));

    let Some(rig) = Rig::new("a device for reading", MIB as u64, 512, &["--read-only"]) else {
        return;
    };
    let refused = open(rig.device.path(), None);
    assert!(
        matches!(&refused, Err(GraphError::File { os: Some(30), .. })),
        "EROFS at once, not at the first write: {refused:?}"
    );
    let disk = Disk::new(File::open(rig.device.path(), None, true, None, Direct::Auto).unwrap());
    reactor::block_on(async {
        let range = BlockRange::new(0, 8);
        assert_eq!(disk.submit(Io::unmap(range)).await, Err(IoError::ReadOnly));
        disk.read(range, Buf::alloc(4096)).await.unwrap();
    });
}
