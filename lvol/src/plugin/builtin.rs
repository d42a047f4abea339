//! The one list of what is built in. A number that was given once is never given again; what is added gets the next one of its class.
use super::{Api, Class, Id, Plugin, What};
use crate::{
    backup::restore::DiskRestore,
    format::Format,
    link::{
        Link,
        edit::{LinkAdd, LinkCreate, LinkDelete, LinkExpand, LinkRename, LinkShrink},
    },
    lvm2::{
        Lvm2,
        edit::{clone::VgImportClone, lv, owner, pv, vg, vgs},
    },
    md::{
        Md,
        edit::{RaidAdd, RaidCreate, RaidDelete, RaidReadd, RaidRemove, RaidReplace},
    },
    part::{
        amiga::Amiga,
        apple::Apple,
        atari::Atari,
        bsd::Bsd,
        edit::{DiskIdentify, PartitionCreate, label, partition},
        gpt::Gpt,
        mbr::Mbr,
        sgi::Sgi,
        sun::Sun,
    },
    plan::Verb,
};

/// What can be done to any disk.
static DISK_VERBS: [&dyn Verb; 1] = [&DiskRestore];

/// What can be done to partition tables that we write.
static PARTITION_VERBS: [&dyn Verb; 8] = [
    &label::LabelCreate,
    &label::LabelRepair,
    &label::LabelRemove,
    &DiskIdentify,
    &PartitionCreate,
    &partition::PartitionDelete,
    &partition::PartitionResize,
    &partition::PartitionChange,
];

/// What can be done to volume groups.
static LVM2_VERBS: [&dyn Verb; 23] = [
    &pv::PvCreate,
    &pv::PvRemove,
    &pv::PvResize,
    &pv::PvChange,
    &vg::VgCreate,
    &vg::VgExtend,
    &vg::VgReduce,
    &vg::VgRename,
    &vg::VgRemove,
    &vg::VgChange,
    &owner::VgExport,
    &owner::VgImport,
    &owner::VgAdopt,
    &VgImportClone,
    &vgs::VgSplit,
    &vgs::VgMerge,
    &vgs::VgRestore,
    &lv::LvCreate,
    &lv::LvExtend,
    &lv::LvReduce,
    &lv::LvRename,
    &lv::LvRemove,
    &lv::LvChange,
];

/// What can be done to drive links.
static LINK_VERBS: [&dyn Verb; 6] = [
    &LinkCreate,
    &LinkAdd,
    &LinkExpand,
    &LinkShrink,
    &LinkRename,
    &LinkDelete,
];

/// What can be done to arrays.
static MD_VERBS: [&dyn Verb; 6] = [
    &RaidCreate,
    &RaidAdd,
    &RaidReplace,
    &RaidReadd,
    &RaidRemove,
    &RaidDelete,
];

/// For those that bring none.
static NO_VERBS: [&dyn Verb; 0] = [];

const fn plugin(name: &'static str, class: Class, number: u16, about: &'static str, what: What) -> Plugin {
    Plugin {
        name,
        id: Id::new(0, class, number),
        class,
        api: Api::new(1, 0),
        about,
        what,
        verbs: &NO_VERBS,
    }
}

const fn device(number: u16, kind: &'static str, about: &'static str) -> Plugin {
    Plugin {
        verbs: &DISK_VERBS,
        ..plugin(kind, Class::DeviceManager, number, about, What::Table)
    }
}

const fn module(number: u16, kind: &'static str, about: &'static str) -> Plugin {
    plugin(kind, Class::Feature, number, about, What::Table)
}

const fn files(number: u16, name: &'static str, kinds: &'static [&'static str], about: &'static str) -> Plugin {
    plugin(name, Class::FilesystemInterface, number, about, What::Signatures(kinds))
}

/// One that recognises its own on disks, and what can be done to it.
fn format(
    class: Class,
    number: u16,
    format: &'static dyn Format,
    verbs: &'static [&'static dyn Verb],
    about: &'static str,
) -> Plugin {
    Plugin {
        verbs,
        ..plugin(format.name(), class, number, about, What::Format(format))
    }
}

/// Everything that is built in. Among formats of a class the order is that of asking.
pub(super) fn all() -> Vec<Plugin> {
    use Class::{Feature, PartitionManager as Partition, RegionManager as Region};
    vec![
        device(1, "memory", "disks in memory"),
        device(2, "null", "disks that take every write and forget it"),
        device(3, "file", "files and block devices of this machine"),
        format(Partition, 1, &Gpt, &PARTITION_VERBS, "GUID partition tables"),
        format(
            Partition,
            2,
            &Mbr,
            &PARTITION_VERBS,
            "master boot records with logical partitions",
        ),
        format(Partition, 3, &Apple, &PARTITION_VERBS, "Apple partition maps"),
        format(Partition, 4, &Sun, &PARTITION_VERBS, "Sun disk labels"),
        format(Partition, 5, &Sgi, &PARTITION_VERBS, "SGI volume headers"),
        format(Partition, 6, &Bsd, &PARTITION_VERBS, "BSD disk labels"),
        format(Partition, 7, &Amiga, &NO_VERBS, "Amiga rigid disk blocks"),
        format(Partition, 8, &Atari, &NO_VERBS, "Atari partition tables"),
        format(
            Feature,
            1,
            &Link,
            &LINK_VERBS,
            "drive links: disks one after the other, read-only with a gap while one is missing",
        ),
        format(Region, 1, &Lvm2, &LVM2_VERBS, "volume groups of LVM2"),
        format(Region, 2, &Md, &MD_VERBS, "arrays of Linux MD (software RAID)"),
        module(2, "linear", "segments of disks, one after the other"),
        module(3, "mapped", "runs, stripes and gaps: what a volume of a group is"),
        module(4, "stripe", "chunks in turn on each of several disks (RAID 0)"),
        module(5, "delay", "answers late"),
        module(6, "crypt", "AES-XTS"),
        module(7, "error", "answers wrongly, where and when it is told to"),
        module(
            8,
            "stats",
            "counts operations, bytes and latencies in the middle of a stack",
        ),
        module(9, "passthru", "another name for the same disk"),
        module(
            10,
            "raid",
            "mirrors and parity over several disks (RAID 1, 4, 5, 6, 10)",
        ),
        files(
            1,
            "ext",
            &["ext2", "ext3", "ext4", "jbd"],
            "ext2, ext3, ext4 and their journal devices",
        ),
        files(2, "xfs", &["xfs"], "XFS"),
        files(3, "btrfs", &["btrfs"], "btrfs"),
        files(4, "bcachefs", &["bcachefs"], "bcachefs"),
        files(5, "ntfs", &["ntfs"], "NTFS"),
        files(6, "fat", &["vfat", "exfat"], "FAT and exFAT"),
        files(7, "iso9660", &["iso9660", "udf"], "ISO 9660 and UDF"),
        files(8, "squashfs", &["squashfs"], "squashfs"),
        files(9, "f2fs", &["f2fs"], "F2FS"),
        files(10, "erofs", &["erofs"], "EROFS"),
        files(11, "hfsplus", &["hfsplus"], "HFS+"),
        files(12, "apfs", &["apfs"], "APFS"),
        files(13, "jfs", &["jfs"], "JFS"),
        files(14, "reiserfs", &["reiserfs"], "ReiserFS"),
        files(15, "swap", &["swap"], "Linux swap areas"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev::Table;
    use std::collections::BTreeSet;

    /// A kind that is added to the runtime is added here too, or this does not compile.
    fn known(table: &Table) -> bool {
        match table {
            Table::Memory { .. }
            | Table::Null { .. }
            | Table::File { .. }
            | Table::Linear { .. }
            | Table::Mapped { .. }
            | Table::Stripe { .. }
            | Table::Raid { .. }
            | Table::Delay { .. }
            | Table::Error { .. }
            | Table::Stats { .. }
            | Table::Crypt { .. }
            | Table::Passthru { .. } => true,
            // Brings its own plug-in.
            Table::Custom { .. } => false,
        }
    }

    #[test]
    fn every_kind_of_table_has_a_plug_in_and_no_other_has_one() {
        let named: BTreeSet<&str> = all()
            .iter()
            .filter(|plugin| matches!(plugin.what, What::Table))
            .map(|plugin| plugin.name)
            .collect();
        for kind in &named {
            // The serialised form says which kinds there are: an unknown one is told with all of them.
            let why = serde_json::from_str::<Table>(&format!(r#"{{"kind":"{kind}"}}"#));
            if let Err(why) = why {
                assert!(!why.to_string().contains("unknown variant"), "{why}");
            }
        }
        let why = serde_json::from_str::<Table>(r#"{"kind":"no such kind"}"#)
            .unwrap_err()
            .to_string();
        let listed: BTreeSet<&str> = why
            .split('`')
            .skip(3)
            .step_by(2)
            .filter(|kind| *kind != "custom")
            .collect();
        assert_eq!(named, listed, "{why}");
        assert!(known(&Table::Passthru { on: "a".into() }));
    }

    #[test]
    fn every_file_system_that_is_recognised_belongs_to_one_plug_in() {
        let source = include_str!("../../../spec/src/magic.rs");
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let kinds: Vec<&str> = all()
            .iter()
            .filter_map(|plugin| match plugin.what {
                What::Signatures(kinds) => Some(kinds),
                _ => None,
            })
            .flatten()
            .copied()
            .collect();
        let once: BTreeSet<&str> = kinds.iter().copied().collect();
        assert_eq!(once.len(), kinds.len());
        for kind in kinds {
            assert!(source.contains(&format!("\"{kind}\"")), "nobody recognises {kind}");
        }
    }
}
