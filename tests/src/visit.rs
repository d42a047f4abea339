//! A host that only comes and goes.
use crate::Result;
use crate::iscsi::{Pdu, login_request};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A session without commands.
#[derive(Debug)]
pub struct Visit {
    stream: TcpStream,
    /// Commands the target would take now.
    pub window: u32,
    stat_sn: u32,
}

fn number(bhs: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

fn receive(stream: &mut TcpStream) -> Result<[u8; 48]> {
    let mut bhs = [0; 48];
    stream.read_exact(&mut bhs)?;
    let len = number(&bhs, 4) as usize & 0xff_ffff;
    stream.read_exact(&mut vec![0; len.next_multiple_of(4)])?;
    Ok(bhs)
}

impl Visit {
    /// Logs in.
    pub fn begin(port: u16, iqn: &str) -> Result<Visit> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&login_request(iqn).bytes())?;
        let bhs = receive(&mut stream)?;
        if (bhs[0] & 0x3f, bhs[1], bhs[36], bhs[37]) != (0x23, 0x87, 0, 0) {
            return Err(format!(
                "login answered by {:02x?}, status {:02x}{:02x}",
                &bhs[..4],
                bhs[36],
                bhs[37]
            )
            .into());
        }
        let window = number(&bhs, 32).wrapping_sub(number(&bhs, 28)).wrapping_add(1);
        Ok(Visit {
            stream,
            window,
            stat_sn: number(&bhs, 24),
        })
    }

    /// Logs out, and sees the target close.
    pub fn end(mut self) -> Result<()> {
        // Logout (11.14), marked immediate: close the session.
        let mut logout = Pdu::new(0x46, 0x80);
        logout.bhs[16..20].copy_from_slice(&7u32.to_be_bytes());
        logout.bhs[24..28].copy_from_slice(&1u32.to_be_bytes());
        logout.bhs[28..32].copy_from_slice(&self.stat_sn.wrapping_add(1).to_be_bytes());
        self.stream.write_all(&logout.bytes())?;
        let bhs = receive(&mut self.stream)?;
        if (bhs[0] & 0x3f, bhs[2]) != (0x26, 0) {
            return Err(format!("logout answered by {:02x?}", &bhs[..4]).into());
        }
        // The target closes.
        match self.stream.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err("something after the logout response".into()),
        }
    }
}
