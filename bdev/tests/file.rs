//! The file leaf on real files: the conformance suite, and what only files do.
use bdev::{
    Disk, Graph, Io, IoError, NodeSpec, NodeState, Table, conformance::Subject, leaf::file::File, table::Direct,
};
use reactor::{Buf, Config, IoBackend, Reactors, testing::pattern};
use spec::BlockRange;
use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A folder on a real file system, gone in the end.
struct Folder(PathBuf);
impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.join(name);
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path, block_size: u32, read_only: bool, direct: Direct) -> File {
    File::open(path, Some(block_size), read_only, None, direct).unwrap()
}

fn conform(backend: IoBackend, direct: Direct, name: &'static str) {
    let folder = Folder::new(name);
    for block_size in [512, 4096] {
        let path = folder.file(&format!("disk-{block_size}"), 300 * u64::from(block_size));
        let subject = Subject::leaf(move || Disk::new(open(&path, block_size, false, direct)));
        let config = Config {
            io: backend,
            ..Config::default()
        };
        reactor::block_on_with(config, subject.check(&format!("{name} {block_size}"), 5))
    }
}

#[test]
fn through_the_page_cache() {
    conform(IoBackend::Auto, Direct::Never, "cached");
}

#[test]
fn around_the_page_cache() {
    conform(IoBackend::Auto, Direct::Auto, "direct");
}

#[test]
fn without_io_uring() {
    conform(IoBackend::Epoll, Direct::Auto, "epoll");
}

#[test]
fn bytes_are_where_they_belong_and_holes_are_holes() {
    let folder = Folder::new("holes");
    let path = folder.file("disk", 1 << 20);
    let disk = open(&path, 512, false, Direct::Auto);
    reactor::block_on(async {
        let disk = Disk::new(disk);
        let all = Buf::from_slice(&pattern(0, 1 << 20));
        disk.write(BlockRange::new(0, 2048), all).await.unwrap();
        disk.submit(Io::write(BlockRange::new(3, 1), Buf::from_slice(&[7; 512])).fua())
            .await
            .unwrap();
        disk.submit(Io::unmap(BlockRange::new(1024, 1024))).await.unwrap();
        disk.submit(Io::write_zeroes(BlockRange::new(9, 2), false))
            .await
            .unwrap();
        disk.flush().await.unwrap();
    });
    let mut expected = pattern(0, 1 << 20);
    expected[3 * 512..4 * 512].fill(7);
    expected[9 * 512..11 * 512].fill(0);
    expected[512 << 10..].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
    assert!(
        fs::metadata(&path).unwrap().blocks() * 512 <= (512 << 10) + 65536,
        "the space was given back"
    );
}

#[test]
fn a_short_end_is_not_used_and_a_cut_file_is_a_medium_error() {
    let folder = Folder::new("short");
    let path = folder.file("disk", 10 * 512 + 100);
    let file = open(&path, 512, false, Direct::Never);
    assert_eq!(file.geometry().blocks, 10);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(5 * 512)
        .unwrap();
    reactor::block_on(async {
        let disk = Disk::new(file);
        let one = |block| disk.submit(Io::read(BlockRange::new(block, 1), Buf::alloc(512)));
        assert_eq!(one(4).await, Ok(()));
        assert_eq!(one(5).await, Err(IoError::Medium));
        assert_eq!(
            disk.perform(Io::read(BlockRange::new(0, 10), Buf::alloc(5120))).await,
            Err(IoError::Medium)
        );
        // Whoever writes what it lacks, because he cannot read it, must not make it long again: blocks in between would be zeros.
        let long = |block, count| Io::write(BlockRange::new(block, count), Buf::zeroed(count as usize * 512));
        assert_eq!(disk.submit(long(8, 1)).await, Err(IoError::Device));
        assert_eq!(disk.submit(long(4, 2)).await, Err(IoError::Device));
        let zeroes = Io::write_zeroes(BlockRange::new(6, 2), false);
        assert_eq!(disk.submit(zeroes).await, Err(IoError::Device));
        assert_eq!(disk.submit(long(3, 2)).await, Ok(()));
        assert_eq!(fs::metadata(&path).unwrap().len(), 5 * 512)
    })
}

#[test]
fn read_only_means_it() {
    let folder = Folder::new("ro");
    let path = folder.file("disk", 4096);
    fs::write(&path, pattern(0, 4096)).unwrap();
    let file = open(&path, 512, true, Direct::Auto);
    assert!(file.geometry().read_only && !file.geometry().unmap);
    reactor::block_on(async {
        let disk = Disk::new(file);
        let range = BlockRange::new(0, 1);
        for io in [
            Io::write(range, Buf::zeroed(512)),
            Io::unmap(range),
            Io::write_zeroes(range, true),
        ] {
            assert_eq!(disk.submit(io).await, Err(IoError::ReadOnly))
        }
        assert_eq!(disk.flush().await, Ok(()));
        let data = Buf::alloc(512);
        disk.read(range, data.clone()).await.unwrap();
        assert_eq!(data.to_vec(), pattern(0, 512))
    });
    assert_eq!(fs::read(&path).unwrap(), pattern(0, 4096))
}

#[test]
fn files_are_made_grow_and_vanish() {
    let folder = Folder::new("grow");
    let path = folder.0.join("new");
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap();
    let graph = Graph::new(reactors.clone());
    // A tokio-less control plane: the graph's futures wait for reactors only, so any executor will do.
    let wait = |f: std::pin::Pin<Box<dyn Future<Output = ()>>>| reactor::block_on(f);
    let table = |create_size, read_only| Table::File {
        path: path.clone(),
        block_size: None,
        read_only,
        create_size,
        direct: Direct::Auto,
    };
    let (here, absent, made, again) = (
        graph.clone(),
        table(None, false),
        table(Some(8 << 20), false),
        table(Some(1), true),
    );
    let file = path.clone();
    wait(Box::pin(async move {
        let refused = here.build(NodeSpec::new("f", absent)).await.unwrap_err().to_string();
        assert!(
            refused.starts_with(&file.display().to_string()) && refused.contains("No such file"),
            "{refused}"
        );
        let node = here.build(NodeSpec::new("f", made)).await.unwrap();
        assert_eq!(
            (node.geometry.blocks, node.geometry.block_size, node.product.as_str()),
            (16384, 512, "AIO disk")
        );
        assert_eq!(fs::metadata(&file).unwrap().blocks(), 0, "sparse");
        here.write("f", 16383, pattern(3, 512), true).await.unwrap();
        assert_eq!(fs::read(&file).unwrap()[(8 << 20) - 512..], pattern(3, 512));

        assert_eq!(here.rescan("f").await, Ok(false));
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(9 << 20)
            .unwrap();
        here.rescan_all().await;
        assert_eq!(here.info("f").unwrap().geometry.blocks, 18432);
        let bytes = pattern(4, 512);
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .unwrap()
            .write_all_at(&bytes, (9 << 20) - 512)
            .unwrap();
        assert_eq!(here.read("f", BlockRange::new(18431, 1)).await.unwrap(), bytes);
        // Another node over the same file, read-only.
        let second = here.build(NodeSpec::new("g", again)).await.unwrap();
        assert!(second.geometry.read_only && second.geometry.blocks == 18432);
        let refused = here.write("g", 0, vec![0; 512], false).await.unwrap_err().to_string();
        assert_eq!(refused, "\"g\": the disk is read-only");

        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
        here.rescan_all().await;
        let reason = "it has no blocks any more".to_owned();
        assert_eq!(here.info("f").unwrap().state, NodeState::Orphan { reason });
        assert!(
            here.read("f", BlockRange::new(0, 1))
                .await
                .unwrap_err()
                .to_string()
                .contains("is gone")
        );
    }));
    reactors.stop()
}
