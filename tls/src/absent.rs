//! Without a library: the same face, and nothing behind it. No value of it can be made.
use super::{Failed, Psk, Read};
use std::convert::Infallible;

/// One side of a connection: there is none.
pub struct Channel(Infallible);

impl Channel {
    /// Says that it cannot be.
    pub fn server(_: Psk) -> Result<Self, Failed> {
        Err(Failed::NotBuilt)
    }

    /// Says that it cannot be.
    pub fn client(_: Psk) -> Result<Self, Failed> {
        Err(Failed::NotBuilt)
    }

    /// See the library's.
    pub fn feed(&mut self, _: &[u8]) {
        match self.0 {}
    }

    /// See the library's.
    pub fn handshake(&mut self) -> Result<bool, Failed> {
        match self.0 {}
    }

    /// See the library's.
    pub fn read(&mut self, _: &mut [u8]) -> Result<Read, Failed> {
        match self.0 {}
    }

    /// See the library's.
    pub fn write(&mut self, _: &[u8]) -> Result<(), Failed> {
        match self.0 {}
    }

    /// See the library's.
    pub fn unsent(&self) -> &[u8] {
        match self.0 {}
    }

    /// See the library's.
    pub fn sent(&mut self) {
        match self.0 {}
    }

    /// See the library's.
    pub fn close(&mut self) {
        match self.0 {}
    }
}
