//! Ashlar with one partition scheme more. Everything that `ashlar` does this program does too: `toy-partitions serve disks.yaml`.
mod table;
mod toy;

use std::process::ExitCode;

fn main() -> ExitCode {
    ashlar::run(&[toy::PLUGIN])
}
