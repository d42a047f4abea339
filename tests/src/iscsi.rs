//! A small iSCSI host: one connection, no digests, R2T for every write. Section numbers are of RFC 7143.
use crate::Result;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A PDU as it is on the wire: header segment and data without padding.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// Basic header segment (11.2).
    pub bhs: [u8; 48],
    /// Data segment.
    pub data: Vec<u8>,
}

impl Pdu {
    /// A header with this opcode byte and flags.
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut bhs = [0; 48];
        bhs[0] = opcode;
        bhs[1] = flags;
        Pdu { bhs, data: Vec::new() }
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.bhs[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    fn get(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.bhs[at], self.bhs[at + 1], self.bhs[at + 2], self.bhs[at + 3]])
    }

    /// What goes on the wire: header with the data's length, data, padding.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.bhs.to_vec();
        out[5..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Iscsi {
    stream: TcpStream,
    lun: u8,
    cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
    max_send: usize,
    /// Bytes in a block.
    pub block: u32,
    /// Blocks on the LUN.
    pub blocks: u64,
}

impl Iscsi {
    /// Connects, logs in to `iqn` and asks for the capacity of `lun`.
    pub fn login(port: u16, iqn: &str, lun: u8) -> Result<Iscsi> {
        let mut host = Iscsi::connect(port, iqn, lun)?;
        let (status, data) = host.command(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32, &[])?;
        if status != 0 || data.len() < 12 {
            return Err(format!("READ CAPACITY(16): status {status:#x}").into());
        }
        host.blocks = u64::from_be_bytes(data[..8].try_into()?) + 1;
        host.block = u32::from_be_bytes(data[8..12].try_into()?);
        Ok(host)
    }

    /// Connects and logs in to `iqn`, whatever state the unit is in: blocks count as 512 bytes.
    pub fn connect(port: u16, iqn: &str, lun: u8) -> Result<Iscsi> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let mut host = Iscsi {
            stream,
            lun,
            cmd_sn: 1,
            exp_stat_sn: 0,
            tag: 0,
            max_send: 8192,
            block: 512,
            blocks: 0,
        };
        let answer = host.exchange_login(&login_request(iqn))?;
        if (answer.bhs[36], answer.bhs[37]) != (0, 0) {
            return Err(format!("login refused: class {} detail {}", answer.bhs[36], answer.bhs[37]).into());
        }
        if answer.bhs[1] & 0x83 != 0x83 {
            return Err(format!("no transit to full feature phase: flags {:#x}", answer.bhs[1]).into());
        }
        for pair in answer.data.split(|b| *b == 0) {
            if let Some(value) = pair.strip_prefix(b"MaxRecvDataSegmentLength=") {
                host.max_send = std::str::from_utf8(value)?.parse()?;
            }
        }
        // The first commands of a session may be answered by unit attentions.
        for _ in 0..4 {
            if host.command(&[0; 6], 0, &[])?.0 == 0 {
                break;
            }
        }
        Ok(host)
    }

    fn exchange_login(&mut self, request: &Pdu) -> Result<Pdu> {
        self.stream.write_all(&request.bytes())?;
        let answer = self.receive()?;
        if answer.bhs[0] & 0x3f != 0x23 {
            return Err(format!("a login was answered by opcode {:#x}", answer.bhs[0]).into());
        }
        self.exp_stat_sn = answer.get(24).wrapping_add(1);
        Ok(answer)
    }

    /// The next PDU.
    fn receive(&mut self) -> Result<Pdu> {
        let mut bhs = [0; 48];
        self.stream.read_exact(&mut bhs)?;
        let ahs = usize::from(bhs[4]) * 4;
        let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let mut rest = vec![0; ahs + len.next_multiple_of(4)];
        self.stream.read_exact(&mut rest)?;
        Ok(Pdu {
            bhs,
            data: rest[ahs..ahs + len].to_vec(),
        })
    }

    /// One SCSI command: its status, and what it read (or its sense data when the status is not GOOD).
    pub fn command(&mut self, cdb: &[u8], expect: usize, out: &[u8]) -> Result<(u8, Vec<u8>)> {
        self.tag += 1;
        let direction = if !out.is_empty() {
            0x20
        } else if expect > 0 {
            0x40
        } else {
            0
        };
        let mut request = Pdu::new(0x01, 0x80 | direction | 0x01)
            .u32(16, self.tag)
            .u32(20, expect.max(out.len()) as u32)
            .u32(24, self.cmd_sn)
            .u32(28, self.exp_stat_sn);
        request.bhs[9] = self.lun;
        request.bhs[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.stream.write_all(&request.bytes())?;
        let mut read = vec![0; expect];
        let mut got = 0;
        loop {
            let pdu = self.receive()?;
            match pdu.bhs[0] & 0x3f {
                // SCSI response (11.4)
                0x21 => {
                    self.exp_stat_sn = pdu.get(24).wrapping_add(1);
                    if pdu.bhs[2] != 0 {
                        return Err(format!("target failure: response {:#x}", pdu.bhs[2]).into());
                    }
                    if pdu.bhs[3] != 0 {
                        return Ok((pdu.bhs[3], pdu.data.get(2..).unwrap_or_default().to_vec()));
                    }
                    read.truncate(got);
                    return Ok((0, read));
                }
                // Data-In (11.7)
                0x25 => {
                    let at = pdu.get(40) as usize;
                    let end = at + pdu.data.len();
                    read.get_mut(at..end)
                        .ok_or("Data-In beyond what was asked for")?
                        .copy_from_slice(&pdu.data);
                    got = got.max(end);
                    if pdu.bhs[1] & 0x01 != 0 {
                        self.exp_stat_sn = pdu.get(24).wrapping_add(1);
                        read.truncate(got);
                        return Ok((pdu.bhs[3], read));
                    }
                }
                // R2T (11.8)
                0x31 => self.send_data(&pdu, out)?,
                // NOP-In (11.19): answer a ping
                0x20 => {
                    if pdu.get(20) != u32::MAX {
                        let mut pong = Pdu::new(0x40, 0x80)
                            .u32(16, u32::MAX)
                            .u32(20, pdu.get(20))
                            .u32(24, self.cmd_sn)
                            .u32(28, self.exp_stat_sn);
                        pong.bhs[8..16].copy_from_slice(&pdu.bhs[8..16]);
                        self.stream.write_all(&pong.bytes())?;
                    }
                }
                other => return Err(format!("unexpected opcode {other:#x}").into()),
            }
        }
    }

    fn send_data(&mut self, r2t: &Pdu, out: &[u8]) -> Result<()> {
        let (offset, len) = (r2t.get(40) as usize, r2t.get(44) as usize);
        let wanted = out
            .get(offset..offset + len)
            .ok_or("an R2T beyond the data of the command")?;
        let pieces = wanted.chunks(self.max_send).count();
        let mut wire = Vec::with_capacity(len + 48 * pieces);
        for (n, piece) in wanted.chunks(self.max_send).enumerate() {
            let mut pdu = Pdu::new(0x05, if n + 1 == pieces { 0x80 } else { 0 })
                .u32(16, r2t.get(16))
                .u32(20, r2t.get(20))
                .u32(28, self.exp_stat_sn)
                .u32(36, n as u32)
                .u32(40, (offset + n * self.max_send) as u32);
            pdu.bhs[8..16].copy_from_slice(&r2t.bhs[8..16]);
            pdu.data = piece.to_vec();
            wire.extend_from_slice(&pdu.bytes());
        }
        self.stream.write_all(&wire)?;
        Ok(())
    }

    fn good(&mut self, cdb: &[u8], expect: usize, out: &[u8]) -> Result<Vec<u8>> {
        match self.command(cdb, expect, out)? {
            (0, data) => Ok(data),
            (status, sense) => Err(format!("command {:#x}: status {status:#x}, sense {sense:02x?}", cdb[0]).into()),
        }
    }

    /// READ(16) of `count` blocks.
    pub fn read(&mut self, lba: u64, count: u32) -> Result<Vec<u8>> {
        let len = count as usize * self.block as usize;
        let data = self.good(&rw(0x88, lba, count), len, &[])?;
        if data.len() == len {
            Ok(data)
        } else {
            Err(format!("short read: {} of {len} bytes", data.len()).into())
        }
    }

    /// WRITE(16) of whole blocks.
    pub fn write(&mut self, lba: u64, data: &[u8]) -> Result<()> {
        let count = data.len() as u32 / self.block;
        self.good(&rw(0x8a, lba, count), 0, data).map(drop)
    }

    /// SYNCHRONIZE CACHE(10) of everything.
    pub fn flush(&mut self) -> Result<()> {
        self.good(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, &[]).map(drop)
    }

    /// The socket, for those who mean harm.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

fn rw(opcode: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

/// A login straight into full feature phase (6.1), with R2T for everything.
pub fn login_request(iqn: &str) -> Pdu {
    let mut pdu = Pdu::new(0x43, 0x87).u32(16, 0).u32(24, 1);
    // ISID: random format (11.12.5); unlike for every login of this process, so that sessions do not reinstate each other.
    static LOGINS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let n = LOGINS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let pid = std::process::id().to_be_bytes();
    pdu.bhs[8..14].copy_from_slice(&[0x80, pid[1], pid[2], pid[3], n.to_be_bytes()[0], n.to_be_bytes()[1]]);
    let keys = format!(
        "InitiatorName=iqn.2026-01.org.ashlar.test:host\0TargetName={iqn}\0SessionType=Normal\0\
         HeaderDigest=None\0DataDigest=None\0InitialR2T=Yes\0ImmediateData=No\0MaxRecvDataSegmentLength=262144\0\
         MaxBurstLength=262144\0FirstBurstLength=65536\0MaxOutstandingR2T=1\0MaxConnections=1\0ErrorRecoveryLevel=0\0"
    );
    pdu.data = keys.into_bytes();
    pdu
}
