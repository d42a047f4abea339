//! Bytes in: PDU heads are checked and taken apart, payload is sent where it belongs, commands are handed over.
use super::*;
use reactor::crc32c;
use spec::nvme::{
    command::{self, io},
    tcp::{self, DataHeader, Fatal, FatalError, Header, IcReq, IcResp, Kind, Layout},
};
use zerocopy::{FromBytes, IntoBytes};

impl Session {
    /// Looks at the unread bytes; returns how many of them are used up and what is needed next.
    pub fn step(&mut self, bytes: &[u8], now: Nanos, sink: &mut impl Sink) -> (usize, Step) {
        match self.rx {
            Rx::Head => match self.head(bytes, now, sink) {
                Ok(done) => done,
                Err(fatal) => {
                    self.terminate(fatal, bytes, sink);
                    (0, Step::Close)
                }
            },
            Rx::Payload { slot, at, end, .. } => (
                0,
                Step::Payload(Payload {
                    slot,
                    at,
                    len: end - at,
                }),
            ),
            Rx::Digest {
                slot,
                from,
                end,
                got: None,
            } => {
                let Some(digest) = bytes.first_chunk::<4>() else {
                    return (0, Step::More);
                };
                self.rx = Rx::Digest {
                    slot,
                    from,
                    end,
                    got: Some(u32::from_le_bytes(*digest)),
                };
                (
                    4,
                    Step::Digest(Payload {
                        slot,
                        at: from,
                        len: end - from,
                    }),
                )
            }
            Rx::Digest {
                slot,
                from,
                end,
                got: Some(_),
            } => (
                0,
                Step::Digest(Payload {
                    slot,
                    at: from,
                    len: end - from,
                }),
            ),
            Rx::Skip { left } => {
                let n = bytes.len().min(left as usize);
                let left = left - n as u32;
                self.rx = if left == 0 { Rx::Head } else { Rx::Skip { left } };
                (n, Step::More)
            }
            Rx::Hand { slot } => {
                self.rx = Rx::Head;
                (0, self.hand(slot))
            }
        }
    }

    /// `n` bytes of the payload that [`Step::Payload`] spoke of have been put where they belong.
    pub fn received(&mut self, n: usize, now: Nanos) {
        let Rx::Payload {
            slot,
            from,
            at,
            end,
            digest,
        } = self.rx
        else {
            return;
        };
        self.heard = now;
        let at = (at + n as u32).min(end);
        if at < end {
            self.rx = Rx::Payload {
                slot,
                from,
                at,
                end,
                digest,
            };
            return;
        }
        self.slots[usize::from(slot)].got = end;
        self.rx = if digest {
            Rx::Digest {
                slot,
                from,
                end,
                got: None,
            }
        } else {
            Rx::Hand { slot }
        };
    }

    /// The CRC32C that [`Step::Digest`] asked for.
    pub fn digest(&mut self, crc: u32) {
        let Rx::Digest {
            slot, got: Some(wire), ..
        } = self.rx
        else {
            return;
        };
        if crc != wire {
            // The transfer failed, not the connection (TCP 1.0d, 3.3.1.1.2): the command may be tried again.
            self.slots[usize::from(slot)].fault = Status::TRANSIENT_TRANSPORT_ERROR;
        }
        self.rx = Rx::Hand { slot };
    }

    /// A PDU's data is whole: is there something to do?
    fn hand(&mut self, slot: u16) -> Step {
        let s = &mut self.slots[usize::from(slot)];
        match s.used {
            Use::Filling => {
                s.used = Use::Running;
                Step::Command { slot }
            }
            Use::Asked if s.got == s.want => {
                s.used = Use::Running;
                self.asked -= 1;
                Step::Data { slot }
            }
            _ => Step::More,
        }
    }

    /// The head of a PDU: everything before its data.
    fn head(&mut self, bytes: &[u8], now: Nanos, sink: &mut impl Sink) -> Result<(usize, Step), Fatal> {
        if self.phase == Phase::Closed {
            return Ok((bytes.len(), Step::Close));
        }
        let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
            return Ok((0, Step::More));
        };
        let max_data = if self.admin {
            ADMIN_CAPSULE_DATA.max(self.limits.in_capsule)
        } else {
            self.limits.in_capsule
        };
        let max_data = if header.kind == Kind::H2cData as u8 {
            self.limits.max_io
        } else {
            max_data
        };
        let layout = header.check(self.digests, 0, max_data)?;
        match (self.phase, layout.kind) {
            (_, Kind::H2cTermReq) => {
                self.phase = Phase::Closed;
                return Ok((bytes.len(), Step::Close));
            }
            (Phase::Hello, Kind::IcReq)
            | (Phase::Connect | Phase::Live, Kind::CapsuleCmd)
            | (Phase::Live, Kind::H2cData) => {}
            _ => return Err(Fatal::plain(FatalError::Sequence)),
        }
        let Some(head) = bytes.get(..layout.head) else {
            return Ok((0, Step::More));
        };
        if layout.header_digest {
            let hlen = layout.kind.header_len();
            let wire = u32::from_le_bytes([head[hlen], head[hlen + 1], head[hlen + 2], head[hlen + 3]]);
            if crc32c(&head[..hlen]) != wire {
                return Err(Fatal {
                    error: FatalError::HeaderDigest,
                    info: wire,
                });
            }
        }
        let step = match layout.kind {
            Kind::IcReq => self.hello(head, sink)?,
            Kind::CapsuleCmd => match self.capsule(head, layout) {
                Step::Full => return Ok((0, Step::Full)),
                step => step,
            },
            _ => self.data(head, layout)?,
        };
        self.heard = now;
        Ok((layout.head, step))
    }

    /// ICReq (TCP 1.0d, 3.3.1): agree on digests and alignments.
    fn hello(&mut self, head: &[u8], sink: &mut impl Sink) -> Result<Step, Fatal> {
        let Ok(req) = IcReq::ref_from_bytes(head) else {
            return Err(Fatal::header(4));
        };
        if req.version.get() != 0 {
            return Err(Fatal {
                error: FatalError::Unsupported,
                info: 8,
            });
        }
        if req.hpda > 31 {
            return Err(Fatal::header(10));
        }
        self.hpda = req.hpda;
        // One R2T a command, so any MAXR2T will do.
        let digests = Digests::of(req.digests);
        sink.bytes(IcResp::new(digests, 0, self.limits.max_io).as_bytes());
        self.digests = digests;
        self.phase = Phase::Connect;
        Ok(Step::More)
    }

    /// A command capsule: takes a slot, finds out where its data comes from.
    fn capsule(&mut self, head: &[u8], layout: Layout) -> Step {
        let Some(&slot) = self.free.last() else {
            return Step::Full;
        };
        let Ok((sqe, _)) = Sqe::read_from_prefix(&head[tcp::HEADER..]) else {
            return Step::Full;
        };
        self.free.pop();
        if self.phase == Phase::Live {
            self.head += 1;
            if self.head >= self.entries {
                self.head = 0;
            }
        }
        let (fault, want) = match data_of(&sqe, layout.data, self.limits.max_io) {
            Ok(want) => (Status::SUCCESS, want),
            Err(fault) => (fault, 0),
        };
        self.slots[usize::from(slot)] = Slot {
            sqe,
            used: Use::Running,
            fault,
            want,
            got: 0,
        };
        if layout.data == 0 {
            return Step::Command { slot };
        }
        if !fault.is_success() {
            self.rx = Rx::Skip {
                left: layout.data + if layout.data_digest { tcp::DIGEST as u32 } else { 0 },
            };
            return Step::Command { slot };
        }
        self.slots[usize::from(slot)].used = Use::Filling;
        self.rx = Rx::Payload {
            slot,
            from: 0,
            at: 0,
            end: layout.data,
            digest: layout.data_digest,
        };
        Step::Buffer { slot, len: layout.data }
    }

    /// H2CData: must continue, without gap, what an R2T asked for.
    fn data(&mut self, head: &[u8], layout: Layout) -> Result<Step, Fatal> {
        let Ok((pdu, _)) = DataHeader::read_from_prefix(head) else {
            return Err(Fatal::header(4));
        };
        let tag = pdu.ttag.get();
        let Some(s) = self.slots.get(usize::from(tag)).filter(|s| s.used == Use::Asked) else {
            return Err(Fatal::header(10));
        };
        if s.sqe.cid != pdu.cid {
            return Err(Fatal::header(8));
        }
        let (offset, length) = (pdu.offset.get(), pdu.length.get());
        if length != layout.data || length == 0 {
            return Err(Fatal::header(16));
        }
        if offset != s.got || length > s.want - s.got {
            return Err(Fatal::plain(FatalError::OutOfRange));
        }
        let last = pdu.header.flags & tcp::FLAG_LAST != 0;
        if last != (offset + length == s.want) {
            return Err(Fatal::header(1));
        }
        self.rx = Rx::Payload {
            slot: tag,
            from: offset,
            at: offset,
            end: offset + length,
            digest: layout.data_digest,
        };
        Ok(Step::Payload(Payload {
            slot: tag,
            at: offset,
            len: length,
        }))
    }
}

/// What the SGL and the capsule say about data from the host: how many bytes, or why that cannot be.
fn data_of(sqe: &Sqe, in_capsule: u32, max_io: u32) -> Result<u32, Status> {
    let fabrics = sqe.opcode == command::FABRICS;
    // Bits 1:0 of an opcode, or of a fabrics command's type: 1 host to controller, 2 controller to host.
    let direction = if fabrics { sqe.fctype() & 3 } else { sqe.opcode & 3 };
    let fuse_fits = match sqe.fuse() {
        0 => true,
        1 => sqe.opcode == io::COMPARE,
        2 => sqe.opcode == io::WRITE,
        _ => false,
    };
    if !fuse_fits || sqe.psdt() != 1 {
        return Err(Status::INVALID_FIELD);
    }
    let length = sqe.sgl.length.get();
    match sqe.sgl.kind {
        // A command that carries nothing: Linux says so with an empty in-capsule block, others leave the field zero.
        Sgl::IN_CAPSULE | 0 if length == 0 && in_capsule == 0 => Ok(0),
        Sgl::IN_CAPSULE if direction != 1 => Err(Status::SGL_TYPE_INVALID),
        Sgl::IN_CAPSULE if sqe.sgl.address.get() != 0 => Err(Status::SGL_OFFSET_INVALID),
        Sgl::IN_CAPSULE if length != in_capsule => Err(Status::DATA_SGL_LENGTH_INVALID),
        Sgl::IN_CAPSULE => Ok(length),
        Sgl::TRANSPORT if in_capsule != 0 => Err(Status::INVALID_FIELD),
        Sgl::TRANSPORT if length > max_io && direction != 0 => Err(Status::INVALID_FIELD),
        Sgl::TRANSPORT if direction == 1 => Ok(length),
        Sgl::TRANSPORT => Ok(0),
        _ => Err(Status::SGL_TYPE_INVALID),
    }
}
