//! NVMe/TCP from the host's side: [`wire`] without a socket, [`client`] with a blocking one; [`run`] loads a queue.
pub mod client;
pub mod link;
pub mod run;
pub mod wire;

pub use client::{Client, ClientError, Options};
pub use link::Link;
pub use wire::{Event, Wire};

/// CRC32C as digests want it.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
