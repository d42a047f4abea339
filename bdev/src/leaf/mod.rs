//! Leaf devices: those that talk to the world.
pub mod file;
pub mod gap;
pub mod gone;
pub mod memory;
pub mod null;
pub mod sim;
