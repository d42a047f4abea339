//! Whose disk is this? Signatures of formats we can name without being able to read them (yet), so that a disk nobody claims is shown with
//! the reason, "holds an ext4 file system", and so that nothing ever writes a label over somebody's data by mistake.
//!
//! Recognition looks at two windows, [`Windows::head`] and [`Windows::tail`], of at most [`HEAD`] and [`TAIL`] bytes. Everything is checked
//! against the window, so any bytes will do. Where a magic number is short, a second field must make sense too.
use std::fmt;
use uuid::Uuid;

/// Bytes wanted from the start of the disk: past the btrfs superblock (64 KiB + 4 KiB) and the swap signature of 64 KiB pages.
pub const HEAD: u64 = 72 << 10;
/// Bytes wanted from the end: MD 0.90 lies 64 to 128 KiB before it.
pub const TAIL: u64 = 128 << 10;

/// What the owner of a signature uses the disk for. It decides how a clash with a partition table is worded, not who wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A file system, mounted by somebody.
    FileSystem,
    /// A member of a RAID array, a volume group, a cache.
    Member,
    /// An encrypted container.
    Crypt,
    /// Swap space.
    Swap,
    /// A partition table of a kind we do not read.
    Table,
    /// A disk image in a container format: this is not the disk but a file that holds one.
    Container,
}

/// A signature that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Short name as `blkid` has it where it has one: `ext4`, `LVM2_member`, `linux_raid_member`, `crypto_LUKS`, …
    pub kind: &'static str,
    /// What it means for the disk.
    pub usage: Use,
    /// In plain words with an article: "an ext4 file system".
    pub what: &'static str,
    /// Byte address of the magic number on the disk.
    pub at: u64,
    /// The superblock's UUID, where there is one.
    pub uuid: Option<Uuid>,
    /// The label somebody gave it, where there is one.
    pub label: Option<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        match &self.label {
            Some(label) => write!(f, " \"{}\"", label.escape_debug()),
            None => Ok(()),
        }
    }
}

/// The bytes recognition looks at. Addresses are those of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    /// From byte 0.
    pub head: &'a [u8],
    /// The last bytes of the disk.
    pub tail: &'a [u8],
    /// Size of the disk in bytes.
    pub size: u64,
}

impl<'a> Windows<'a> {
    /// `len` bytes at `at`, if a window has them.
    fn at(&self, at: u64, len: usize) -> Option<&'a [u8]> {
        let pick = |window: &'a [u8], base: u64| {
            let from = usize::try_from(at.checked_sub(base)?).ok()?;
            window.get(from..from.checked_add(len)?)
        };
        pick(self.head, 0).or_else(|| pick(self.tail, self.size.checked_sub(self.tail.len() as u64)?))
    }

    fn has(&self, at: u64, magic: &[u8]) -> bool {
        self.at(at, magic.len()) == Some(magic)
    }

    fn le32(&self, at: u64) -> Option<u32> {
        self.at(at, 4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn uuid(&self, at: u64) -> Option<Uuid> {
        let bytes: [u8; 16] = self.at(at, 16)?.try_into().ok()?;
        (bytes != [0; 16]).then(|| Uuid::from_bytes(bytes))
    }

    /// A UUID as text in a field of 40 bytes or so, as LUKS has it.
    fn text_uuid(&self, at: u64) -> Option<Uuid> {
        Uuid::try_parse_ascii(self.at(at, 36)?).ok()
    }

    /// Text padded with zeroes or blanks.
    fn label(&self, at: u64, len: usize) -> Option<String> {
        let bytes = self.at(at, len)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(len);
        let text = String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// True if there is not one byte other than zero in the windows.
    pub fn blank(&self) -> bool {
        let zero = |bytes: &[u8]| bytes.iter().all(|&b| b == 0);
        zero(self.head) && zero(self.tail)
    }
}

/// Everything that is recognised, in the order of this list.
pub fn find(w: &Windows<'_>) -> Vec<Found> {
    let tests: [fn(&Windows<'_>) -> Option<Found>; 13] = [
        luks,
        lvm2,
        link,
        md,
        ext,
        xfs,
        btrfs,
        swap,
        bcache,
        ntfs_and_exfat,
        fat,
        others,
        containers,
    ];
    let mut found: Vec<Found> = tests.iter().filter_map(|test| test(w)).collect();
    found.extend(fake_raid(w));
    found
}

const fn found(kind: &'static str, usage: Use, what: &'static str, at: u64) -> Found {
    Found {
        kind,
        usage,
        what,
        at,
        uuid: None,
        label: None,
    }
}

fn luks(w: &Windows<'_>) -> Option<Found> {
    // LUKS1 and LUKS2 share the primary magic; LUKS2 has a second header at one of these places (on-disk format 1.1, section 2).
    const SECOND: [u64; 9] = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
    let (at, what) = match w.at(6, 2) {
        Some([0, 1]) if w.has(0, b"LUKS\xba\xbe") => (0, "a LUKS1 encrypted volume"),
        Some([0, 2]) if w.has(0, b"LUKS\xba\xbe") => (0, "a LUKS2 encrypted volume"),
        _ => {
            let at = SECOND
                .iter()
                .map(|k| k << 10)
                .find(|&at| w.has(at, b"SKUL\xba\xbe\0\x02"))?;
            (at, "a LUKS2 encrypted volume whose first header is damaged")
        }
    };
    let label = if w.has(6, &[0, 2]) { w.label(24, 48) } else { None };
    Some(Found {
        uuid: w.text_uuid(at + 168),
        label,
        ..found("crypto_LUKS", Use::Crypt, what, at)
    })
}

fn lvm2(w: &Windows<'_>) -> Option<Found> {
    // The label may be in any of the first four sectors and says in which.
    let sector = (0..4u64).find(|s| {
        let at = s * 512;
        w.has(at, b"LABELONE") && w.has(at + 8, &s.to_le_bytes()) && w.has(at + 24, b"LVM2 001")
    })?;
    Some(found(
        "LVM2_member",
        Use::Member,
        "an LVM2 physical volume",
        sector * 512,
    ))
}

fn link(w: &Windows<'_>) -> Option<Found> {
    let at = crate::link::COPIES
        .into_iter()
        .find(|at| w.has(*at, &crate::link::MAGIC))?;
    Some(Found {
        label: w.label(at + 72, crate::link::NAME_MAX),
        ..found("ashlar_link_member", Use::Member, "a child of a drive link", at)
    })
}

fn md(w: &Windows<'_>) -> Option<Found> {
    const MAGIC: u32 = 0xa92b_4efc;
    let sectors = w.size / 512;
    // 1.0 lies at least 8 KiB before the end on a 4 KiB boundary; 1.1 at the start; 1.2 at 4 KiB. The superblock names its own sector.
    let end = sectors.checked_sub(16).map(|s| (s & !7) * 512);
    let v1 = [
        (end, "an MD RAID member (metadata 1.0, at its end)"),
        (Some(0), "an MD RAID member (metadata 1.1)"),
        (Some(4096), "an MD RAID member (metadata 1.2)"),
    ];
    for (at, what) in v1.into_iter().filter_map(|(at, what)| Some((at?, what))) {
        if w.le32(at) == Some(MAGIC) && w.le32(at + 4) == Some(1) && w.has(at + 144, &(at / 512).to_le_bytes()) {
            return Some(Found {
                uuid: w.uuid(at + 16),
                label: w.label(at + 32, 32),
                ..found("linux_raid_member", Use::Member, what, at)
            });
        }
    }
    // 0.90: in the last 64 KiB-aligned 64 KiB block that is whole.
    let at = (w.size & !0xffff).checked_sub(0x1_0000)?;
    let little = w.le32(at) == Some(MAGIC) && w.le32(at + 4) == Some(0);
    let big = w.le32(at) == Some(MAGIC.swap_bytes()) && w.le32(at + 4) == Some(0);
    (little || big).then(|| {
        found(
            "linux_raid_member",
            Use::Member,
            "an MD RAID member (metadata 0.90, at its end)",
            at,
        )
    })
}

fn ext(w: &Windows<'_>) -> Option<Found> {
    const SB: u64 = 1024;
    if !w.has(SB + 0x38, &[0x53, 0xef]) {
        return None;
    }
    // Two bytes of magic are few: block size and inodes must make sense too.
    let (log_block, inodes, blocks) = (w.le32(SB + 0x18)?, w.le32(SB)?, w.le32(SB + 4)?);
    if log_block > 6 || inodes == 0 || blocks == 0 {
        return None;
    }
    let (compat, incompat, ro_compat) = (w.le32(SB + 0x5c)?, w.le32(SB + 0x60)?, w.le32(SB + 0x64)?);
    const HAS_JOURNAL: u32 = 4;
    const JOURNAL_DEV: u32 = 8;
    // What ext3 could have: filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    let (kind, what) = if incompat & JOURNAL_DEV != 0 {
        ("jbd", "an ext4 journal device")
    } else if incompat & !0x16 != 0 || ro_compat & !0x7 != 0 {
        ("ext4", "an ext4 file system")
    } else if compat & HAS_JOURNAL != 0 {
        ("ext3", "an ext3 file system")
    } else {
        ("ext2", "an ext2 file system")
    };
    let (uuid, label) = (w.uuid(SB + 0x68), w.label(SB + 0x78, 16));
    Some(Found {
        uuid,
        label,
        ..found(kind, Use::FileSystem, what, SB + 0x38)
    })
}

fn xfs(w: &Windows<'_>) -> Option<Found> {
    w.has(0, b"XFSB").then(|| Found {
        uuid: w.uuid(32),
        label: w.label(108, 12),
        ..found("xfs", Use::FileSystem, "an XFS file system", 0)
    })
}

fn btrfs(w: &Windows<'_>) -> Option<Found> {
    const SB: u64 = 64 << 10;
    w.has(SB + 64, b"_BHRfS_M").then(|| Found {
        uuid: w.uuid(SB + 32),
        label: w.label(SB + 299, 256),
        ..found("btrfs", Use::FileSystem, "a btrfs file system", SB + 64)
    })
}

fn swap(w: &Windows<'_>) -> Option<Found> {
    // The last ten bytes of the first page, whatever a page was where it was made.
    let at = [4u64, 8, 16, 32, 64]
        .map(|k| (k << 10) - 10)
        .into_iter()
        .find(|&at| w.has(at, b"SWAPSPACE2") || w.has(at, b"SWAP-SPACE") || w.has(at, b"S1SUSPEND\0"))?;
    let (uuid, label) = (w.uuid(1036), w.label(1052, 16));
    Some(Found {
        uuid,
        label,
        ..found("swap", Use::Swap, "a Linux swap area", at)
    })
}

fn bcache(w: &Windows<'_>) -> Option<Found> {
    const BCACHE: [u8; 16] = [
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
    ];
    const BCACHEFS: [u8; 16] = [
        0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
    ];
    if w.has(4096 + 24, &BCACHE) {
        return Some(Found {
            uuid: w.uuid(4096 + 40),
            label: w.label(4096 + 72, 32),
            ..found("bcache", Use::Member, "a bcache backing or cache device", 4096 + 24)
        });
    }
    w.has(4096 + 24, &BCACHEFS)
        .then(|| found("bcachefs", Use::FileSystem, "a bcachefs file system", 4096 + 24))
}

fn ntfs_and_exfat(w: &Windows<'_>) -> Option<Found> {
    Some(match w.at(3, 8)? {
        b"NTFS    " => found("ntfs", Use::FileSystem, "an NTFS file system", 3),
        b"EXFAT   " => found("exfat", Use::FileSystem, "an exFAT file system", 3),
        b"-FVE-FS-" => found("BitLocker", Use::Crypt, "a BitLocker encrypted volume", 3),
        b"ReFS\0\0\0\0" => found("ReFS", Use::FileSystem, "a ReFS file system", 3),
        _ => return None,
    })
}

fn fat(w: &Windows<'_>) -> Option<Found> {
    if !w.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let fat32 = w.has(0x52, b"FAT32   ");
    let old = [&b"FAT12   "[..], b"FAT16   ", b"FAT     "]
        .iter()
        .any(|magic| w.has(0x36, magic));
    // Boot code may carry these words too: the BIOS parameter block in front must make sense.
    let bpb = w.at(11, 14)?;
    let sector = u16::from_le_bytes([bpb[0], bpb[1]]);
    let (cluster, reserved, fats, media) = (bpb[2], u16::from_le_bytes([bpb[3], bpb[4]]), bpb[5], bpb[10]);
    let sound = matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (media == 0xf0 || media >= 0xf8);
    if !(sound && (fat32 || old)) {
        return None;
    }
    let at = if fat32 { 0x52 } else { 0x36 };
    let label = w.label(at - 11, 11).filter(|l| l != "NO NAME");
    Some(Found {
        label,
        ..found("vfat", Use::FileSystem, "a FAT file system", at)
    })
}

/// One fixed magic number at one fixed place, and that is all there is to it.
fn others(w: &Windows<'_>) -> Option<Found> {
    const LIST: [(u64, &[u8], &str, Use, &str); 20] = [
        (32_769, b"CD001", "iso9660", Use::FileSystem, "an ISO 9660 file system"),
        (32_769, b"BEA01", "udf", Use::FileSystem, "a UDF file system"),
        (0, b"hsqs", "squashfs", Use::FileSystem, "a squashfs file system"),
        (
            1024,
            &[0x10, 0x20, 0xf5, 0xf2],
            "f2fs",
            Use::FileSystem,
            "an F2FS file system",
        ),
        (
            1024,
            &[0xe2, 0xe1, 0xf5, 0xe0],
            "erofs",
            Use::FileSystem,
            "an EROFS file system",
        ),
        (1024, b"H+\0\x04", "hfsplus", Use::FileSystem, "an HFS+ file system"),
        (32, b"NXSB", "apfs", Use::FileSystem, "an APFS container"),
        (32_768, b"JFS1", "jfs", Use::FileSystem, "a JFS file system"),
        (
            65_536 + 52,
            b"ReIsEr",
            "reiserfs",
            Use::FileSystem,
            "a ReiserFS file system",
        ),
        (0x4018, b"version\0", "zfs_member", Use::Member, "a ZFS pool member"),
        (
            32,
            &[0x42, 0x8a, 0x9b, 0x01],
            "dm_thin",
            Use::Member,
            "dm-thin pool metadata",
        ),
        (0, b"SnAp", "DM_snapshot_cow", Use::Member, "a dm-snapshot store"),
        (0, b"verity\0\0", "DM_verity_hash", Use::Member, "a dm-verity hash tree"),
        (0, b"integrt\0", "DM_integrity", Use::Member, "a dm-integrity device"),
        (0, b"dmvdo001", "vdo", Use::Member, "a VDO volume"),
        (0, b"EVMS", "evms", Use::Member, "EVMS metadata"),
        (512, b"PM\0\0", "mac", Use::Table, "an Apple partition map"),
        (512, &[0x57, 0x45, 0x56, 0x82], "bsd", Use::Table, "a BSD disk label"),
        (0, &[0x0b, 0xe5, 0xa9, 0x41], "sgi", Use::Table, "an SGI disk label"),
        (508, &[0xda, 0xbe], "sun", Use::Table, "a Sun disk label"),
    ];
    let (at, _, kind, usage, what) = LIST.iter().find(|(at, magic, ..)| w.has(*at, magic))?;
    Some(found(kind, *usage, what, *at))
}

/// People hand over image files of virtual machines; served as they are they would look like garbage to a host.
fn containers(w: &Windows<'_>) -> Option<Found> {
    let footer = w.size.saturating_sub(512);
    const LIST: [(&[u8], &str, &str); 7] = [
        (
            b"QFI\xfb",
            "qcow2",
            "a qcow2 image (convert it with `qemu-img convert -O raw`)",
        ),
        (
            b"KDMV",
            "vmdk",
            "a VMDK image (convert it with `qemu-img convert -O raw`)",
        ),
        (
            b"vhdxfile",
            "vhdx",
            "a VHDX image (convert it with `qemu-img convert -O raw`)",
        ),
        (b"\x1f\x8b\x08", "gzip", "a gzip archive (decompress it first)"),
        (b"\xfd7zXZ\0", "xz", "an xz archive (decompress it first)"),
        (b"\x28\xb5\x2f\xfd", "zstd", "a Zstandard archive (decompress it first)"),
        (
            b"conectix",
            "vhd",
            "a dynamic VHD image (convert it with `qemu-img convert -O raw`)",
        ),
    ];
    if let Some((_, kind, what)) = LIST.iter().find(|(magic, ..)| w.has(0, magic)) {
        return Some(found(kind, Use::Container, what, 0));
    }
    w.has(footer, b"conectix").then(|| {
        found(
            "vhd",
            Use::Container,
            "a fixed VHD image (its last 512 bytes are a footer)",
            footer,
        )
    })
}

/// RAID metadata that firmware keeps in the last sectors.
fn fake_raid(w: &Windows<'_>) -> Option<Found> {
    let last = w.size.checked_sub(512)?;
    let before = w.size.checked_sub(1024)?;
    if w.has(before, b"Intel Raid ISM Cfg Sig. ") {
        return Some(found(
            "isw_raid_member",
            Use::Member,
            "an Intel Matrix RAID member",
            before,
        ));
    }
    let ddf = w.has(last, &[0xde, 0x11, 0xde, 0x11]) || w.has(last, &[0x11, 0xde, 0x11, 0xde]);
    ddf.then(|| found("ddf_raid_member", Use::Member, "a DDF RAID member", last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(size: usize, marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; size];
        for (at, mark) in marks {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        bytes
    }

    fn windows(disk: &[u8]) -> Windows<'_> {
        let (head, tail) = (disk.len().min(HEAD as usize), disk.len().min(TAIL as usize));
        Windows {
            head: &disk[..head],
            tail: &disk[disk.len() - tail..],
            size: disk.len() as u64,
        }
    }

    fn kinds(disk: &[u8]) -> Vec<(&'static str, u64)> {
        find(&windows(disk)).iter().map(|f| (f.kind, f.at)).collect()
    }

    #[test]
    fn a_blank_disk_has_no_signature_and_a_tiny_one_does_no_harm() {
        assert!(windows(&disk(1 << 20, &[])).blank());
        for size in [0, 1, 511, 512, 4096, 70_000] {
            assert_eq!(kinds(&disk(size, &[])), []);
        }
    }

    #[test]
    fn ext4_is_named_with_its_label_and_weak_magic_alone_is_not_enough() {
        let sound: [(usize, &[u8]); 6] = [
            (1024, &[16, 0, 0, 0, 64, 0, 0, 0]),
            (1024 + 0x18, &[2]),
            (1024 + 0x38, &[0x53, 0xef]),
            (1024 + 0x5c, &[4]),
            (1024 + 0x60, &[0x42]),
            (1024 + 0x78, b"root"),
        ];
        let image = disk(1 << 20, &sound);
        assert_eq!(find(&windows(&image))[0].to_string(), "an ext4 file system \"root\"");
        assert_eq!(kinds(&image), [("ext4", 1080)]);
        assert_eq!(kinds(&disk(1 << 20, &sound[2..3])), []);
        assert_eq!(kinds(&disk(1 << 20, &sound[..3])), [("ext2", 1080)]);
    }

    #[test]
    fn md_is_found_at_its_four_places() {
        const SIZE: usize = (8 << 20) + 0x3000;
        let magic = 0xa92b_4efcu32.to_le_bytes();
        for (at, version) in [(0, 1u32), (4096, 1), (SIZE - 8192, 1), ((SIZE & !0xffff) - 0x10000, 0)] {
            let image = disk(
                SIZE,
                &[
                    (at, &magic),
                    (at + 4, &version.to_le_bytes()),
                    (at + 144, &(at as u64 / 512).to_le_bytes()),
                ],
            );
            assert_eq!(kinds(&image), [("linux_raid_member", at as u64)]);
        }
    }

    #[test]
    fn containers_get_a_way_out() {
        let qcow = disk(1 << 18, &[(0, b"QFI\xfb\0\0\0\x03")]);
        assert!(find(&windows(&qcow))[0].to_string().contains("qemu-img convert"));
        assert_eq!(
            kinds(&disk(1 << 18, &[((1 << 18) - 512, b"conectix")])),
            [("vhd", (1 << 18) - 512)]
        );
    }

    #[test]
    fn luks2_is_found_by_its_second_header() {
        let image = disk(
            1 << 18,
            &[
                (0x4000, b"SKUL\xba\xbe\0\x02"),
                (0x4000 + 168, b"6f1c2d3e-0000-4000-8000-0123456789ab"),
            ],
        );
        let found = find(&windows(&image));
        assert_eq!((found[0].kind, found[0].at), ("crypto_LUKS", 0x4000));
        assert_eq!(
            found[0].uuid.unwrap().to_string(),
            "6f1c2d3e-0000-4000-8000-0123456789ab"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(
            head in prop::collection::vec(any::<u8>(), 0..5000),
            tail in prop::collection::vec(any::<u8>(), 0..2000),
            size in any::<u64>(),
        ) {
            let _ = find(&Windows { head: &head, tail: &tail, size });
        }
    }
}
