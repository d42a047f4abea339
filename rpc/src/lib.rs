//! JSON-RPC server with the wire conventions and methods of SPDK, and a client.
