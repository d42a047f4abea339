//! Disk images as a stranger makes them: sfdisk, mkfs, and a folder of files with known sums.
use crate::pattern::Random;
use crate::tool::Tool;
use std::path::{Path, PathBuf};

/// One MiB.
pub const MIB: u64 = 1 << 20;

/// Makes a sparse file of `bytes`.
pub fn sparse(path: &Path, bytes: u64) {
    std::fs::File::create(path)
        .and_then(|f| f.set_len(bytes))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A partition: where it lies and the files that must be found in it.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number as Linux counts (logical ones from 5).
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// A `sha256sum -c` list of the files in it.
    pub sums: PathBuf,
}

/// A GPT image of 192 MiB with one populated ext4 partition between two others.
pub fn gpt(dir: &Path, image: &Path) -> Partition {
    sparse(image, 192 * MIB);
    sfdisk(
        image,
        "label: gpt\nlabel-id: 0F1E2D3C-4B5A-4978-8695-A4B3C2D1E0F0\n\
         start=2048, size=16384, name=\"first\"\n\
         start=18432, size=262144, name=\"data\", uuid=11111111-2222-4333-8444-555555555555\n\
         start=280576, size=32768, name=\"third\"\n",
    );
    populated(dir, "gpt", image, 2, 18432 * 512, 262144 * 512)
}

/// An MBR image of 256 MiB with a primary partition and two nested logical ones, both populated.
pub fn mbr(dir: &Path, image: &Path) -> (Partition, Partition) {
    sparse(image, 256 * MIB);
    sfdisk(
        image,
        "label: dos\nlabel-id: 0x5a5a1234\n\
         start=2048, size=16384, type=83\n\
         start=18432, size=505856, type=5\n\
         start=20480, size=229376, type=83\n\
         start=251904, size=229376, type=83\n",
    );
    (
        populated(dir, "mbr5", image, 5, 20480 * 512, 229376 * 512),
        populated(dir, "mbr6", image, 6, 251904 * 512, 229376 * 512),
    )
}

fn sfdisk(image: &Path, script: &str) {
    let list = image.with_extension("sfdisk");
    std::fs::write(&list, script).expect("write an sfdisk script");
    Tool::new("sh")
        .args(["-c", "exec sfdisk -q \"$1\" < \"$2\"", "sh"])
        .arg(image)
        .arg(&list)
        .env("PATH", path())
        .ok();
}

/// PATH with the folders where sfdisk and mkfs live.
pub fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Fills a folder with files of many sizes and makes an ext4 of it at `start`, as mkfs.ext4 -d does, without root.
fn populated(dir: &Path, name: &str, image: &Path, number: u32, start: u64, size: u64) -> Partition {
    let tree = dir.join(format!("{name}.tree"));
    std::fs::create_dir_all(tree.join("deep/er")).expect("make a folder");
    let mut random = Random::new(size ^ start);
    for (i, len) in [0usize, 1, 511, 4096, 65_537, 1_000_003, 5_000_011]
        .into_iter()
        .enumerate()
    {
        std::fs::write(tree.join(format!("file{i}")), random.bytes(len)).expect("write a file");
    }
    for i in 0..100 {
        let len = random.below(9000) as usize;
        std::fs::write(tree.join(format!("deep/er/{i}")), random.bytes(len)).expect("write a file");
    }
    let sums = dir.join(format!("{name}.sums"));
    let list = Tool::new("sh")
        .args(["-c", "cd \"$1\" && find . -type f | sort | xargs sha256sum", "sh"])
        .arg(&tree)
        .ok();
    assert_eq!(list.lines().count(), 107, "every file has a sum");
    std::fs::write(&sums, list).expect("write sums");
    Tool::new("mkfs.ext4")
        .args(["-q", "-F", "-L", name, "-E", &format!("offset={start},nodiscard"), "-d"])
        .arg(&tree)
        .arg(image)
        .arg(format!("{}k", size / 1024))
        .ok();
    Partition {
        number,
        start,
        size,
        sums,
    }
}

/// sha256 of a whole file.
pub fn sha256(file: &Path) -> String {
    Tool::new("sha256sum")
        .arg(file)
        .ok()
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_string()
}

/// Whether the ext4 at `partition` of `image` is clean, by e2fsck on a copy.
pub fn fsck(dir: &Path, image: &Path, partition: &Partition) {
    let copy = dir.join(format!("fsck{}", partition.number));
    Tool::new("dd")
        .arg(format!("if={}", image.display()))
        .arg(format!("of={}", copy.display()))
        .args(["bs=1M", "conv=sparse", "status=none"])
        .arg(format!("skip={}", partition.start / MIB))
        .arg(format!("count={}", partition.size / MIB))
        .ok();
    Tool::new("e2fsck").arg("-fn").arg(&copy).ok();
    std::fs::remove_file(&copy).expect("remove the copy");
}
