//! `ashlar disk`, and what divides disks: `label`, `partition`, `sfdisk`.
use super::How;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `ashlar disk`.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// List disks, partitions and what stands on them, with the verdict of discovery.
    #[command(alias = "list")]
    Ls,
    /// One disk: size, blocks, table, partitions, claims, signatures found.
    Show {
        /// Its name, alias or UUID.
        name: String,
    },
    /// Make a file with a fresh random key for an encrypted disk (AES-XTS), readable by its owner only. Nothing is printed but its name.
    /// Name it in `tables[].crypt.key_file`, or in `accel_crypto_key_create`. Without it what is on the disk is lost: keep a copy, but know that
    /// SANITIZE CRYPTOGRAPHIC ERASE puts another key into the file, and is worth nothing where a copy of the old one is kept.
    Key {
        /// The file; it must not be there.
        file: PathBuf,
        /// Length of the key: AES-128 or AES-256.
        #[arg(long, default_value_t = 256, value_parser = key_bits)]
        bits: u16,
    },
}

fn key_bits(text: &str) -> Result<u16, String> {
    match text {
        "128" => Ok(128),
        "256" => Ok(256),
        _ => Err("expected 128 or 256".into()),
    }
}

/// `ashlar label`.
#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// Make an empty partition table on a disk.
    #[command(
        after_help = "A disk that is not blank is refused unless --force is given; then its table, its partitions and every signature at its \
                            two ends go. Partitions that are in use stay in the way. `ashlar plan undo` takes it back."
    )]
    Create {
        /// The disk.
        disk: String,
        /// Which kind; `dos` is a master boot record.
        #[arg(long, value_parser = ["gpt", "dos", "sun", "sgi", "mac", "bsd", "amiga", "atari"], default_value = "gpt")]
        scheme: String,
        /// The disk's GUID, or for `dos` its signature in hexadecimal; fresh by default.
        #[arg(long)]
        id: Option<String>,
        /// Replace what is on the disk.
        #[arg(long)]
        force: bool,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Give a disk that is a copy of another identities of its own.
    #[command(
        after_help = "On a GPT the disk and all of its partitions get new GUIDs, so none of them may be in use; on an MBR the disk gets a new \
                            signature. What is in the partitions stays as it is, file systems' own identities too."
    )]
    Identify {
        /// The disk.
        disk: String,
        /// The disk's GUID, or on an MBR its signature in hexadecimal; fresh by default.
        #[arg(long)]
        id: Option<String>,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Make both copies of a GPT sound, with the backup at the end of a disk that has grown, and the MBR protect it; or let block 0 lead to an Apple map
    /// again, and make its counts and free space right.
    Repair {
        /// The disk.
        disk: String,
        /// Make a hybrid MBR a plain protective one.
        #[arg(long)]
        protective: bool,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Take the table off a disk. What is in its partitions stays where it is.
    Remove {
        /// The disk.
        disk: String,
        /// How.
        #[command(flatten)]
        how: How,
    },
}

/// `ashlar partition`.
#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// List partitions, of one disk or of all that have a GPT or an MBR. Those that are not served are listed, too.
    #[command(alias = "list")]
    Ls {
        /// Only this disk.
        disk: Option<String>,
    },
    /// Make a partition: by default of all of the largest gap, at a whole MiB.
    #[command(
        after_help = "Sizes have a unit: 512m, 10g, 8192s (sectors of 512 bytes), 4096b.\n\nExamples:\n  \
                            ashlar partition create disk0 --size 100g --type lvm --name data\n  \
                            ashlar partition create disk0 --dry-run                 show every sector that would be written"
    )]
    Create(PartitionCreate),
    /// Take a partition out of its table. What is on it stays where it is, and `ashlar plan undo` brings it back.
    Delete {
        /// The partition, for example disk0p1.
        partition: String,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Move the end of a partition, as far as there is room by default. Growing is possible while hosts use it.
    Resize {
        /// The partition, for example disk0p1.
        partition: String,
        /// Its new length, or a difference: 10g, +1g, -512m.
        #[arg(long, allow_hyphen_values = true)]
        size: Option<String>,
        /// Where it ends on its disk, instead of a size.
        #[arg(long, conflicts_with = "size")]
        end: Option<String>,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Change what the table says of a partition.
    Change(PartitionChange),
}

/// `ashlar partition create`.
#[derive(Debug, Args)]
pub struct PartitionCreate {
    /// The disk.
    pub disk: String,
    /// Its length.
    #[arg(long)]
    pub size: Option<String>,
    /// Where it starts.
    #[arg(long)]
    pub start: Option<String>,
    /// Where it ends, instead of a size.
    #[arg(long, conflicts_with = "size")]
    pub end: Option<String>,
    /// Its number; the lowest free one by default.
    #[arg(long)]
    pub number: Option<u32>,
    /// linux, swap, uefi, raid, lvm, home; a GUID on a GPT, two hexadecimal digits on an MBR.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// On an MBR: in the record, as the container of logical partitions, or inside of that.
    #[arg(long, value_parser = ["primary", "extended", "logical"])]
    pub place: Option<String>,
    /// On a GPT: its name.
    #[arg(long)]
    pub name: Option<String>,
    /// On a GPT: its GUID; fresh by default.
    #[arg(long)]
    pub guid: Option<String>,
    /// On a GPT: RequiredPartition, NoBlockIOProtocol, LegacyBIOSBootable, or bits from 48 to 63.
    #[arg(long, value_delimiter = ',')]
    pub attributes: Option<Vec<String>>,
    /// Mark it as the one that old firmware boots from.
    #[arg(long)]
    pub bootable: bool,
    /// Wipe signatures of file systems and the like that lie where it starts and ends.
    #[arg(long)]
    pub wipe: bool,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `ashlar partition change`.
#[derive(Debug, Args)]
pub struct PartitionChange {
    /// The partition, for example disk0p1.
    pub partition: String,
    /// Its type, as for `partition create`.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// On a GPT: its name.
    #[arg(long)]
    pub name: Option<String>,
    /// On a GPT: its GUID. Hosts then take it for another disk.
    #[arg(long)]
    pub guid: Option<String>,
    /// On a GPT: all of its attributes; an empty text for none.
    #[arg(long, value_delimiter = ',')]
    pub attributes: Option<Vec<String>>,
    /// Mark it as the one that old firmware boots from, or not.
    #[arg(long, value_name = "BOOL")]
    pub bootable: Option<bool>,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `ashlar sfdisk`.
#[derive(Debug, Args)]
pub struct Sfdisk {
    /// The disk.
    pub disk: String,
    /// Print what sfdisk takes as a script.
    #[arg(long, short)]
    pub dump: bool,
    /// With a script: replace what is on the disk.
    #[arg(long, short)]
    pub force: bool,
}
