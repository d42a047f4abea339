//! The machine: pinned reactors, pages and buffers, pools and credits, io_uring, sockets, timers, checksums.
