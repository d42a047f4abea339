//! A small NVMe/TCP host: an admin queue and one I/O queue, no digests, no in-capsule data but for Connect.
//! Shapes are of NVM Express TCP Transport 1.0, section 3.6, and Base 2.0, sections 3.3 and 5 and 6.
use crate::Result;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:6f2d1a34-0000-4000-8000-00000000b1ac";

/// One queue: a TCP connection.
#[derive(Debug)]
struct Queue {
    stream: TcpStream,
    id: u16,
    max_h2c: usize,
}

/// A submission queue entry.
pub fn sqe(opcode: u8, id: u16) -> [u8; 64] {
    let mut sqe = [0; 64];
    sqe[0] = opcode;
    sqe[1] = 0x40; // SGLs
    sqe[2..4].copy_from_slice(&id.to_le_bytes());
    sqe
}

fn put32(sqe: &mut [u8; 64], at: usize, value: u32) {
    sqe[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// ICReq (3.6.2.2) with no digests.
pub fn ic_request() -> [u8; 128] {
    let mut pdu = [0; 128];
    pdu[2] = 128;
    pdu[4] = 128;
    pdu
}

/// A command capsule with in-capsule data.
pub fn capsule(mut sqe: [u8; 64], data: &[u8]) -> Vec<u8> {
    let mut pdu = vec![4, 0, 72, if data.is_empty() { 0 } else { 72 }];
    pdu.extend_from_slice(&(72 + data.len() as u32).to_le_bytes());
    if !data.is_empty() {
        put32(&mut sqe, 32, data.len() as u32);
        sqe[39] = 0x01; // data block, address is an offset in the capsule
    }
    pdu.extend_from_slice(&sqe);
    pdu.extend_from_slice(data);
    pdu
}

/// The Connect capsule of a queue.
pub fn connect_capsule(nqn: &str, queue: u16, controller: u16) -> Vec<u8> {
    let mut sqe = sqe(0x7f, 0);
    sqe[4] = 0x01;
    sqe[42..44].copy_from_slice(&queue.to_le_bytes());
    sqe[44..46].copy_from_slice(&31u16.to_le_bytes());
    put32(&mut sqe, 48, if queue == 0 { 120_000 } else { 0 });
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(&[0xb1; 16]);
    data[16..18].copy_from_slice(&controller.to_le_bytes());
    data[256..256 + nqn.len()].copy_from_slice(nqn.as_bytes());
    data[512..512 + HOST_NQN.len()].copy_from_slice(HOST_NQN.as_bytes());
    capsule(sqe, &data)
}

impl Queue {
    fn connect(port: u16, nqn: &str, id: u16, controller: u16) -> Result<(Queue, u16)> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let mut queue = Queue {
            stream,
            id: 0,
            max_h2c: 0,
        };
        queue.stream.write_all(&ic_request())?;
        let answer = queue.receive()?;
        if answer[0] != 1 {
            return Err(format!("ICReq was answered by PDU type {:#x}", answer[0]).into());
        }
        queue.max_h2c = u32::from_le_bytes(answer[12..16].try_into()?) as usize;
        queue.stream.write_all(&connect_capsule(nqn, id, controller))?;
        let (result, _) = queue.answer(&mut [], &[])?;
        Ok((queue, result as u16))
    }

    /// The next PDU, whole.
    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut pdu = vec![0; 8];
        self.stream.read_exact(&mut pdu)?;
        let len = u32::from_le_bytes(pdu[4..8].try_into()?) as usize;
        if !(8..=16 << 20).contains(&len) {
            return Err(format!("a PDU of type {:#x} with {len} bytes", pdu[0]).into());
        }
        pdu.resize(len, 0);
        self.stream.read_exact(&mut pdu[8..])?;
        Ok(pdu)
    }

    fn command(&mut self, mut sqe: [u8; 64], read: &mut [u8], out: &[u8]) -> Result<u64> {
        self.id = self.id.wrapping_add(1) & 0x7fff;
        sqe[2..4].copy_from_slice(&self.id.to_le_bytes());
        put32(&mut sqe, 32, read.len().max(out.len()) as u32);
        sqe[39] = 0x5a; // transport data block
        self.stream.write_all(&capsule(sqe, &[]))?;
        let len = read.len();
        let (result, got) = self.answer(read, out)?;
        if got < len {
            Err(format!("short read: {got} of {len} bytes").into())
        } else {
            Ok(result)
        }
    }

    /// Plays the command's PDUs until its completion; the result and how many bytes came in.
    fn answer(&mut self, read: &mut [u8], out: &[u8]) -> Result<(u64, usize)> {
        let mut got = 0;
        loop {
            let pdu = self.receive()?;
            let at = |i: usize| u32::from_le_bytes([pdu[i], pdu[i + 1], pdu[i + 2], pdu[i + 3]]) as usize;
            match pdu[0] {
                5 => {
                    let status = u16::from_le_bytes([pdu[22], pdu[23]]) >> 1;
                    if status != 0 {
                        return Err(format!("status {status:#x}").into());
                    }
                    return Ok((u64::from_le_bytes(pdu[8..16].try_into()?), got));
                }
                7 => {
                    let (offset, len, data) = (at(12), at(16), usize::from(pdu[3]));
                    let piece = pdu.get(data..data + len).ok_or("C2HData shorter than it says")?;
                    read.get_mut(offset..offset + len)
                        .ok_or("C2HData beyond the read")?
                        .copy_from_slice(piece);
                    got += len;
                    if pdu[1] & 0x0c == 0x0c {
                        return Ok((0, got));
                    }
                }
                9 => {
                    let (offset, len) = (at(12), at(16));
                    let wanted = out.get(offset..offset + len).ok_or("an R2T beyond the write")?;
                    let limit = self.max_h2c.clamp(4096, 1 << 20);
                    let mut wire = Vec::new();
                    for (n, piece) in wanted.chunks(limit).enumerate() {
                        let last = n * limit + piece.len() == len;
                        wire.extend_from_slice(&[6, if last { 4 } else { 0 }, 24, 24]);
                        wire.extend_from_slice(&(24 + piece.len() as u32).to_le_bytes());
                        wire.extend_from_slice(&pdu[8..12]);
                        wire.extend_from_slice(&((offset + n * limit) as u32).to_le_bytes());
                        wire.extend_from_slice(&(piece.len() as u32).to_le_bytes());
                        wire.extend_from_slice(&[0; 4]);
                        wire.extend_from_slice(piece);
                    }
                    self.stream.write_all(&wire)?;
                }
                3 => {
                    return Err(format!(
                        "the controller ended the connection: {:02x?}",
                        &pdu[8..pdu.len().min(24)]
                    )
                    .into());
                }
                other => return Err(format!("unexpected PDU type {other:#x}").into()),
            }
        }
    }
}

/// A connected controller and one namespace of it.
#[derive(Debug)]
pub struct Nvme {
    // Dropping the admin queue would end the controller.
    admin: Queue,
    io: Queue,
    nsid: u32,
    /// Bytes in a block.
    pub block: u32,
    /// Blocks in the namespace.
    pub blocks: u64,
}

impl Nvme {
    /// Connects to `nqn`, enables the controller, makes one I/O queue and identifies namespace `nsid`.
    pub fn connect(port: u16, nqn: &str, nsid: u32) -> Result<Nvme> {
        let (mut admin, controller) = Queue::connect(port, nqn, 0, 0xffff)?;
        // CC: enable, 64-byte SQEs, 16-byte CQEs
        let mut set = sqe(0x7f, 0);
        put32(&mut set, 44, 0x14);
        put32(&mut set, 48, 0x0046_0001);
        admin.command(set, &mut [], &[])?;
        let mut get = sqe(0x7f, 0);
        get[4] = 0x04;
        put32(&mut get, 44, 0x1c);
        let mut ready = false;
        for _ in 0..100 {
            if admin.command(get, &mut [], &[])? & 1 == 1 {
                ready = true;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !ready {
            return Err("CSTS.RDY never came".into());
        }
        let mut queues = sqe(0x09, 0);
        put32(&mut queues, 40, 7);
        admin.command(queues, &mut [], &[])?;
        let mut identify = sqe(0x06, 0);
        put32(&mut identify, 4, nsid);
        let mut ns = vec![0; 4096];
        admin.command(identify, &mut ns, &[])?;
        let blocks = u64::from_le_bytes(ns[..8].try_into()?);
        let format = 128 + 4 * usize::from(ns[26] & 0x0f);
        let block = 1u32
            .checked_shl(u32::from(ns[format + 2]))
            .ok_or("an impossible LBA size")?;
        let (io, _) = Queue::connect(port, nqn, 1, controller)?;
        Ok(Nvme {
            admin,
            io,
            nsid,
            block,
            blocks,
        })
    }

    fn rw(&self, opcode: u8, lba: u64, count: usize) -> [u8; 64] {
        let mut sqe = sqe(opcode, 0);
        put32(&mut sqe, 4, self.nsid);
        sqe[40..48].copy_from_slice(&lba.to_le_bytes());
        put32(&mut sqe, 48, count as u32 - 1);
        sqe
    }

    /// Read of `count` blocks.
    pub fn read(&mut self, lba: u64, count: u32) -> Result<Vec<u8>> {
        let mut data = vec![0; count as usize * self.block as usize];
        self.io.command(self.rw(0x02, lba, count as usize), &mut data, &[])?;
        Ok(data)
    }

    /// Write of whole blocks.
    pub fn write(&mut self, lba: u64, data: &[u8]) -> Result<()> {
        self.io
            .command(self.rw(0x01, lba, data.len() / self.block as usize), &mut [], data)
            .map(drop)
    }

    /// Reservation Register (0x0d) or Acquire (0x11): CDW10, the current key and the other one.
    pub fn reserve(&mut self, opcode: u8, word: u32, current: u64, other: u64) -> Result<()> {
        let mut sqe = sqe(opcode, 0);
        put32(&mut sqe, 4, self.nsid);
        put32(&mut sqe, 40, word);
        let keys = [current.to_le_bytes(), other.to_le_bytes()].concat();
        self.io.command(sqe, &mut [], &keys).map(drop)
    }

    /// Reservation Report: the type of the reservation, and the keys that are registered.
    pub fn reservations(&mut self) -> Result<(u8, Vec<u64>)> {
        let mut sqe = sqe(0x0e, 0);
        put32(&mut sqe, 4, self.nsid);
        put32(&mut sqe, 40, 4096 / 4 - 1);
        put32(&mut sqe, 44, 1);
        let mut data = vec![0; 4096];
        self.io.command(sqe, &mut data, &[])?;
        let count = usize::from(u16::from_le_bytes([data[5], data[6]]));
        let keys = data[64..].chunks_exact(64).take(count);
        let key = |entry: &[u8]| entry[8..16].try_into().map(u64::from_le_bytes);
        Ok((data[4], keys.map(key).collect::<std::result::Result<_, _>>()?))
    }

    /// Flush.
    pub fn flush(&mut self) -> Result<()> {
        let mut sqe = sqe(0x00, 0);
        put32(&mut sqe, 4, self.nsid);
        self.io.command(sqe, &mut [], &[]).map(drop)
    }

    /// Goes as a host should: tells the controller to shut down and waits until it has.
    pub fn shutdown(mut self) -> Result<()> {
        let mut set = sqe(0x7f, 0);
        put32(&mut set, 44, 0x14);
        // CC: enabled, SHN normal.
        put32(&mut set, 48, 0x0046_4001);
        self.admin.command(set, &mut [], &[])?;
        let mut get = sqe(0x7f, 0);
        get[4] = 0x04;
        put32(&mut get, 44, 0x1c);
        for _ in 0..100 {
            // CSTS.SHST: complete.
            if self.admin.command(get, &mut [], &[])? >> 2 & 3 == 2 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("CSTS.SHST never said complete".into())
    }

    /// Goes as no host should: asks for eight reads and does not wait for one of them.
    pub fn abandon(mut self) -> Result<()> {
        let count = 65536 / self.block;
        let mut wire = Vec::new();
        for id in 0..8u16 {
            let mut read = self.rw(0x02, u64::from(id) * u64::from(count), count as usize);
            read[2..4].copy_from_slice(&id.to_le_bytes());
            put32(&mut read, 32, 65536);
            read[39] = 0x5a;
            wire.extend_from_slice(&capsule(read, &[]));
        }
        Ok(self.io.stream.write_all(&wire)?)
    }
}
