//! The `ashlar` binary, with what is built in.
use std::process::ExitCode;

fn main() -> ExitCode {
    ashlar::run(&[])
}
