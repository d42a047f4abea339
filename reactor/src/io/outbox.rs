//! Bytes to send: small pieces copied, buffers by reference, sent together.
use super::inbox::Memory;
use crate::{buf::Buf, pin::PinList};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// Segments of one send at most: 64 answers with a page each, or 128 KiB in pages and some headers; what is behind goes with the next.
const SEGMENTS: usize = 128;

/// What a connection has to send.
///
/// Small pieces (headers) are copied into memory of the outbox, buffers are kept by reference: a later change of the caller's buffer
/// does not reach the wire. While a send is under way (or was abandoned), its slot holds the content too; whoever
/// would change it then goes on with an empty one. [OP-OWNS-MEMORY]
pub struct Outbox {
    store: Rc<Store>,
    capacity: usize,
}

/// The content, which a send under way keeps alive.
pub(crate) struct Store(RefCell<Content>);

struct Content {
    small: Memory,
    /// The small bytes that are still to be sent.
    start: usize,
    end: usize,
    segments: VecDeque<Segment>,
    len: usize,
}

enum Segment {
    Small(usize),
    Pages(Buf),
}

impl Outbox {
    /// Room for `capacity` segments (small pieces in a row count as one). Beyond that it says [`Self::is_full`] but does not refuse: who fills it
    /// checks before it starts an answer.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            store: Rc::new(Store::new(capacity)),
            capacity: capacity.max(1),
        }
    }

    /// Adds a copy of `bytes`.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.content(|content| content.push_bytes(bytes))
        }
    }

    /// Adds the bytes of `buf` by reference, as they are now.
    pub fn push_buf(&mut self, buf: Buf) {
        if !buf.is_empty() {
            self.content(|content| {
                content.len += buf.len();
                // A fork: who writes to the caller's buffer before this is sent gets pages of its own.
                content.segments.push_back(Segment::Pages(buf.fork()))
            })
        }
    }

    /// Bytes to send.
    pub fn len(&self) -> usize {
        self.store.0.borrow().len
    }

    /// Is there nothing to send?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Are there as many segments as it was made for?
    pub fn is_full(&self) -> bool {
        self.store.0.borrow().segments.len() >= self.capacity
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.content(|content| content.sent(usize::MAX))
    }

    /// Takes the first bytes out, as many as there is room for: for what goes through something else than a socket first.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let taken = self.content(|content| content.copy_to(into));
        self.sent(taken);
        taken
    }

    /// A copy of what would be sent: for tests of what writes to an outbox.
    pub fn to_vec(&self) -> Vec<u8> {
        let content = self.store.0.borrow();
        let (mut bytes, mut small) = (Vec::with_capacity(content.len), content.start);
        for segment in &content.segments {
            match segment {
                Segment::Pages(buf) => bytes.extend(buf.to_vec()),
                Segment::Small(n) => {
                    // SAFETY: [MEMORY] the small bytes of a segment lie inside and are initialised.
                    bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(content.small.at(small), *n) });
                    small += n
                }
            }
        }
        bytes
    }

    /// The first segments, for one send.
    pub(crate) fn segments(&mut self, iovecs: &mut Vec<libc::iovec>) {
        self.content(|content| content.segments(iovecs))
    }

    /// Bytes to send that lie in buffers.
    pub(crate) fn in_pages(&self) -> usize {
        let content = self.store.0.borrow();
        content.len - (content.end - content.start)
    }

    /// The first segments, for a send that lasts longer than this outbox stays as it is: pages held, small pieces copied to `headers`.
    pub(crate) fn lend(&mut self, pins: &mut PinList, headers: &mut Vec<u8>) {
        self.content(|content| content.lend(pins, headers))
    }

    /// For the slot of a send, which keeps it until the end.
    pub(crate) fn store(&self) -> Rc<Store> {
        self.store.clone()
    }

    /// The first `n` bytes are sent.
    pub(crate) fn sent(&mut self, n: usize) {
        self.content(|content| content.sent(n))
    }

    fn content<R>(&mut self, f: impl FnOnce(&mut Content) -> R) -> R {
        if Rc::strong_count(&self.store) > 1 {
            // A send was abandoned: how much of it left is unknown, so the connection is over, and so is this content.
            self.store = Rc::new(Store::new(self.capacity))
        }
        f(&mut self.store.0.borrow_mut())
    }
}

impl Store {
    fn new(capacity: usize) -> Self {
        Self(RefCell::new(Content {
            small: Memory::new(capacity.max(1) * 64),
            start: 0,
            end: 0,
            segments: VecDeque::with_capacity(capacity.max(1)),
            len: 0,
        }))
    }
}

impl Content {
    fn push_bytes(&mut self, bytes: &[u8]) {
        if self.small.size() - self.end < bytes.len() {
            // To the front, and into a larger piece if that is not enough.
            let unsent = self.end - self.start;
            let size = self.small.size();
            if unsent + bytes.len() > size / 2 {
                let fresh = Memory::new((unsent + bytes.len()).next_power_of_two() * 2);
                // SAFETY: [MEMORY] `unsent` bytes to another, larger piece.
                unsafe { fresh.at(0).copy_from_nonoverlapping(self.small.at(self.start), unsent) };
                self.small = fresh;
            } else {
                // SAFETY: [MEMORY] both ranges lie inside; they may overlap.
                unsafe { self.small.at(0).copy_from(self.small.at(self.start), unsent) };
            }
            self.start = 0;
            self.end = unsent;
        }
        // SAFETY: [MEMORY] there is room now, nobody else holds the memory (`Outbox::content`), and `bytes` cannot overlap it.
        unsafe {
            self.small
                .at(self.end)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        self.end += bytes.len();
        self.len += bytes.len();
        match self.segments.back_mut() {
            Some(Segment::Small(n)) => *n += bytes.len(),
            _ => self.segments.push_back(Segment::Small(bytes.len())),
        }
    }

    fn segments(&self, iovecs: &mut Vec<libc::iovec>) {
        let mut small = self.start;
        for segment in &self.segments {
            if iovecs.len() >= SEGMENTS {
                break;
            }
            match segment {
                Segment::Small(n) => {
                    iovecs.push(libc::iovec {
                        iov_base: self.small.at(small).cast(),
                        iov_len: *n,
                    });
                    small += n
                }
                Segment::Pages(buf) => buf.segments_to_read(iovecs),
            }
        }
        // One large buffer may go beyond the bound, but not beyond the kernel's.
        iovecs.truncate(libc::UIO_MAXIOV as usize)
    }

    fn copy_to(&self, into: &mut [u8]) -> usize {
        let (mut done, mut small) = (0, self.start);
        for segment in &self.segments {
            let room = &mut into[done..];
            let n = match segment {
                Segment::Small(n) => {
                    let len = room.len().min(*n);
                    // SAFETY: [MEMORY] the small bytes of a segment lie inside and are initialised.
                    room[..len].copy_from_slice(unsafe { std::slice::from_raw_parts(self.small.at(small), len) });
                    small += n;
                    len
                }
                Segment::Pages(buf) => {
                    let len = room.len().min(buf.len());
                    buf.read_at(0, &mut room[..len]);
                    len
                }
            };
            done += n;
            if done == into.len() {
                break;
            }
        }
        done
    }

    fn lend(&self, pins: &mut PinList, headers: &mut Vec<u8>) {
        headers.clear();
        // Segments point into it from the first on: it must not move while it is filled.
        headers.reserve(self.end - self.start);
        let mut small = self.start;
        for segment in &self.segments {
            if pins.iovecs().len() >= SEGMENTS {
                break;
            }
            match segment {
                Segment::Small(n) => {
                    // SAFETY: [MEMORY] the small bytes of a segment lie inside and are initialised.
                    headers.extend_from_slice(unsafe { std::slice::from_raw_parts(self.small.at(small), *n) });
                    small += n;
                    let at = headers.len() - n;
                    pins.iovecs_mut().push(libc::iovec {
                        iov_base: headers[at..].as_mut_ptr().cast(),
                        iov_len: *n,
                    })
                }
                Segment::Pages(buf) => buf.pin_for_kernel_read(pins),
            }
        }
        pins.iovecs_mut().truncate(libc::UIO_MAXIOV as usize)
    }

    fn sent(&mut self, mut n: usize) {
        n = n.min(self.len);
        self.len -= n;
        while n > 0 {
            let Some(first) = self.segments.front_mut() else { break };
            let whole = match first {
                Segment::Small(len) => {
                    let step = n.min(*len);
                    self.start += step;
                    *len -= step;
                    n -= step;
                    *len == 0
                }
                Segment::Pages(buf) => {
                    let step = n.min(buf.len());
                    n -= step;
                    if step < buf.len() {
                        *buf = buf.slice(step..buf.len());
                        false
                    } else {
                        true
                    }
                }
            };
            if whole {
                self.segments.pop_front();
            }
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is pushed comes out in order, however little each send takes.
    #[test]
    fn partial_sends_take_the_bytes_in_order() {
        let mut random = crate::testing::Rng::new(77);
        let (mut outbox, mut expected, mut got) = (Outbox::with_capacity(8), Vec::new(), Vec::new());
        for _ in 0..2_000 {
            let (small, large) = (random.below(300) as usize, random.below(20_000) as usize);
            match random.below(7) {
                0..=1 => {
                    let bytes = random.bytes(small);
                    outbox.push_bytes(&bytes);
                    expected.extend(bytes)
                }
                2 => {
                    let bytes = random.bytes(large);
                    let buf = Buf::from_slice(&bytes);
                    outbox.push_buf(buf.clone());
                    buf.fill(0xff); // does not reach the wire
                    expected.extend(bytes)
                }
                3 => {
                    let mut taken = vec![0; large];
                    let n = outbox.take(&mut taken);
                    assert_eq!(n, large.min(expected.len() - got.len()));
                    got.extend_from_slice(&taken[..n])
                }
                _ => {
                    let mut iovecs = Vec::new();
                    outbox.segments(&mut iovecs);
                    let mut n = random.below(30_000) as usize;
                    let before = got.len();
                    for vec in iovecs {
                        let step = n.min(vec.iov_len);
                        // SAFETY: segments of the outbox, which is not changed meanwhile.
                        got.extend_from_slice(unsafe { std::slice::from_raw_parts(vec.iov_base.cast::<u8>(), step) });
                        n -= step
                    }
                    outbox.sent(got.len() - before)
                }
            }
            assert_eq!(outbox.len(), expected.len() - got.len());
        }
        got.extend(outbox.to_vec());
        assert!(got == expected);
    }

    #[test]
    fn an_abandoned_send_keeps_the_content_and_leaves_the_outbox_empty() {
        let mut outbox = Outbox::with_capacity(2);
        outbox.push_bytes(b"under way");
        let held = outbox.store();
        outbox.push_bytes(b"new");
        assert_eq!((outbox.to_vec(), held.0.borrow().len), (b"new".to_vec(), 9));
        outbox.push_buf(Buf::zeroed(10));
        assert!(outbox.is_full());
    }
}
