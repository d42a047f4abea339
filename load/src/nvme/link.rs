//! The bytes of a connection: as they are, or by TLS.
use std::{
    io::{self, Read, Write},
    net::TcpStream,
};
use tls::{Channel, Psk};

/// Bytes that are received at once.
const RECEIVE: usize = 256 << 10;

/// A connected socket, and TLS around it if there is a key.
pub struct Link {
    stream: TcpStream,
    secure: Option<(Channel, Vec<u8>)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?}, TLS {})", self.stream, self.secure.is_some())
    }
}

fn failed(why: tls::Failed) -> io::Error {
    io::Error::other(format!("TLS: {why}"))
}

impl Link {
    /// Around a connected socket; with a key, after TLS's handshake.
    pub fn new(stream: TcpStream, psk: Option<Psk>) -> io::Result<Self> {
        let mut link = Self { stream, secure: None };
        let Some(psk) = psk else {
            return Ok(link);
        };
        let mut channel = Channel::client(psk).map_err(failed)?;
        let mut some = vec![0; RECEIVE];
        loop {
            let step = channel.handshake();
            // On failure these are the last words.
            link.stream.write_all(channel.unsent())?;
            channel.sent();
            if step.map_err(failed)? {
                break;
            }
            match crate::receive(&mut link.stream, &mut some)? {
                0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "TLS: refused without a word",
                    ));
                }
                n => channel.feed(&some[..n]),
            }
        }
        link.secure = Some((channel, some));
        Ok(link)
    }

    /// The socket, for those who want to misbehave.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((channel, some)) = &mut self.secure else {
            return self.stream.read(into);
        };
        loop {
            match channel.read(into).map_err(failed)? {
                tls::Read::Bytes(n) => return Ok(n),
                tls::Read::End => return Ok(0),
                tls::Read::Wait => match crate::receive(&mut self.stream, some)? {
                    0 => return Ok(0),
                    n => channel.feed(&some[..n]),
                },
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.secure {
            None => self.stream.write(bytes),
            Some((channel, _)) => {
                channel.write(bytes).map_err(failed)?;
                self.stream.write_all(channel.unsent())?;
                channel.sent();
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
