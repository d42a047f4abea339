//! The whole front end over real sockets, with the host of the `load` crate: reactors, a graph, a target.
mod admin;
mod ana;
mod association;
mod balance;
mod bench;
mod commands;
mod concatenation;
mod control;
mod fused;
mod reservations;
mod resets;
mod strangers;
mod tls;
mod truth;
