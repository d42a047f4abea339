//! JSON-RPC server with the wire conventions and methods of SPDK, and a client.

pub mod client;
pub mod envelope;
pub mod error;
pub mod method;
pub mod server;
pub mod wire;
