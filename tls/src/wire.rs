//! The memory between a channel and whoever moves its bytes.
use std::io::{self, ErrorKind};

/// Bytes from the wire that are not read yet, and bytes for it.
#[derive(Debug, Default)]
pub struct Wire {
    arrived: Vec<u8>,
    used: usize,
    /// What is to be sent.
    pub unsent: Vec<u8>,
}

impl Wire {
    /// Adds bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.arrived.drain(..self.used);
            self.used = 0;
        }
        self.arrived.extend_from_slice(bytes);
    }
}

impl io::Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = &self.arrived[self.used..];
        if left.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.used += n;
        Ok(n)
    }
}

impl io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsent.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
