//! Error: answers wrongly where, when and as often as it is told to. A product for tests, ours and other people's.
//!
//! An [`Injection`] says which operations it meets (by kind, by range, after so many, only so often, only under so much load) and what becomes
//! of them: they fail, they hang until released, they come late, their data is corrupted, or a write is torn, that is done in part. The first injection
//! that meets an I/O decides. Where nothing is injected, everything is mapped and costs nothing.
use crate::{BlockDevice, Disk, Geometry, Io, IoError, IoResult, Mapped, Op};
use reactor::Buf;
use serde::{Deserialize, Serialize};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// What goes wrong, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Which operations it meets.
    #[serde(default)]
    pub on: Ops,
    /// Only those that touch these blocks; all if absent. A flush touches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Blocks>,
    /// Lets this many pass first.
    #[serde(default)]
    pub after: u64,
    /// Meets this many, then it is over; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Only while at least this many I/Os are under way here, the met one included.
    #[serde(default)]
    pub queue_depth: u32,
    /// What becomes of them.
    pub effect: Effect,
}

impl Injection {
    /// Every operation meets `effect`, for ever.
    pub const fn new(effect: Effect) -> Self {
        Self {
            on: Ops::All,
            range: None,
            after: 0,
            count: None,
            queue_depth: 0,
            effect,
        }
    }

    fn meets(&self, io: &Io) -> bool {
        let op = match self.on {
            Ops::All => true,
            Ops::Read => io.op == Op::Read,
            Ops::Write => io.op == Op::Write,
            Ops::Flush => io.op == Op::Flush,
            Ops::Unmap => io.op == Op::Unmap,
            Ops::WriteZeroes => matches!(io.op, Op::WriteZeroes { .. }),
        };
        let place = self.range.is_none_or(|blocks| blocks.touches(io.range));
        // What an effect says nothing about passes it by.
        let apt = match self.effect {
            Effect::Fail { .. } | Effect::Pending | Effect::NoMemory => true,
            Effect::Corrupt { .. } => io.op.carries_data(),
            Effect::Torn { .. } => io.op == Op::Write,
        };
        op && place && apt
    }
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ops {
    /// Every kind.
    #[default]
    All,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Flushes.
    Flush,
    /// Unmaps.
    Unmap,
    /// Write zeroes, with or without unmap.
    WriteZeroes,
}

/// Blocks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// The first.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl Blocks {
    fn touches(self, range: BlockRange) -> bool {
        let end = range.start.0.saturating_add(range.count.into());
        range.count > 0 && range.start.0 < self.start.saturating_add(self.count) && self.start < end
    }
}

/// What becomes of an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// It does not happen, and is answered with this.
    Fail {
        /// The answer.
        #[serde(default = "medium")]
        error: IoError,
    },
    /// It does not happen before [`Errors::release`], and then it does.
    Pending,
    /// It finds no memory and is tried again after [`RETRY`], each time meeting what is injected then: its host sees a late
    /// answer and no error. What SPDK's block layer does with such an I/O.
    NoMemory,
    /// One byte of its data is another than it should be: of what is stored by a write, of what is seen by a read.
    Corrupt {
        /// Which byte of the I/O's data; an I/O with fewer bytes is left alone.
        offset: u64,
        /// Exclusive-or'ed to it.
        value: u8,
    },
    /// Only the first blocks are written.
    Torn {
        /// How many; half of them if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocks: Option<u32>,
        /// Answered as if it had been done; else as a medium error.
        #[serde(default)]
        acknowledge: bool,
    },
}

fn medium() -> IoError {
    IoError::Medium
}

/// How long an I/O that found no memory waits before it is tried again.
pub const RETRY: Duration = Duration::from_millis(1);

/// The injections of one device. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Errors(Rc<State>);

#[derive(Default)]
struct State {
    injections: RefCell<Vec<Injection>>,
    under_way: Cell<u32>,
    /// Rises with each release.
    released: Cell<u64>,
    /// After this, nothing hangs any more.
    over: Cell<bool>,
    hanging: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
    /// Reads that were failed a moment ago, oldest first. [`Disk::perform`] asks for them once more, carefully: that is the same
    /// I/O to whoever counts, so it fails the same way and is not counted again.
    failed: RefCell<VecDeque<(BlockRange, IoError)>>,
}

/// As many as one core's slots are likely to have under way; what is older was not asked for again.
const FAILED_MAX: usize = 64;

impl Errors {
    /// Adds an injection, after those there are.
    pub fn inject(&self, injection: Injection) {
        self.0.injections.borrow_mut().push(injection)
    }

    /// Forgets all injections. What hangs goes on hanging.
    pub fn clear(&self) {
        self.0.injections.borrow_mut().clear();
        self.0.failed.borrow_mut().clear()
    }

    /// The injections that are not over, with what is left of their counts.
    pub fn injections(&self) -> Vec<Injection> {
        self.0.injections.borrow().clone()
    }

    /// How many I/Os hang.
    pub fn hanging(&self) -> usize {
        self.0.hanging.borrow().len()
    }

    /// Lets go of every I/O that hangs.
    pub fn release(&self) {
        self.0.released.set(self.0.released.get() + 1);
        std::mem::take(&mut *self.0.hanging.borrow_mut())
            .into_values()
            .for_each(Waker::wake)
    }

    /// The device is going away: lets go of what hangs, and nothing hangs any more.
    pub fn end(&self) {
        self.0.over.set(true);
        self.release()
    }

    /// What is in store for `io`.
    fn meet(&self, io: &Io) -> Option<Effect> {
        if io.op != Op::Read {
            return self.first(io);
        }
        let mut failed = self.0.failed.borrow_mut();
        if io.careful
            && let Some(at) = failed.iter().position(|(range, _)| *range == io.range)
            && let Some((_, error)) = failed.remove(at)
        {
            return Some(Effect::Fail { error });
        }
        let effect = self.first(io);
        if let Some(Effect::Fail { error }) = effect
            && error.is_mendable()
            && !io.careful
        {
            if failed.len() == FAILED_MAX {
                failed.pop_front();
            }
            failed.push_back((io.range, error));
        }
        effect
    }

    /// What the first injection that meets `io` says.
    fn first(&self, io: &Io) -> Option<Effect> {
        let mut injections = self.0.injections.borrow_mut();
        let under_way = self.0.under_way.get();
        for at in 0..injections.len() {
            let injection = &mut injections[at];
            if !injection.meets(io) || under_way < injection.queue_depth {
                continue;
            }
            if injection.after > 0 {
                injection.after -= 1;
                continue;
            }
            let effect = injection.effect;
            match &mut injection.count {
                Some(0) => continue,
                Some(1) => drop(injections.remove(at)),
                Some(more) => *more -= 1,
                None => (),
            }
            return Some(effect);
        }
        None
    }

    /// What is in store for `io` once it finds memory.
    async fn meet_with_memory(&self, io: &Io) -> Option<Effect> {
        loop {
            match self.meet(io) {
                Some(Effect::NoMemory) if !self.0.over.get() => reactor::sleep(RETRY).await,
                Some(Effect::NoMemory) => return None,
                effect => return effect,
            }
        }
    }

    async fn hang(&self) {
        let (state, since) = (&*self.0, self.0.released.get());
        let key = state.next.replace(state.next.get() + 1);
        poll_fn(|cx| {
            if state.released.get() != since || state.over.get() {
                return Poll::Ready(());
            }
            state.hanging.borrow_mut().insert(key, cx.waker().clone());
            Poll::Pending
        })
        .await;
        state.hanging.borrow_mut().remove(&key);
    }
}

/// See the [module](self).
pub struct Error {
    below: Disk,
    errors: Errors,
}

impl Error {
    /// Spoils what goes to `below`.
    pub fn new(below: Disk, errors: Errors) -> Self {
        Self { below, errors }
    }

    async fn spoil(&self, io: Io, effect: Option<Effect>) -> IoResult {
        match effect {
            None | Some(Effect::NoMemory) => self.below.submit(io).await,
            Some(Effect::Fail { error }) => Err(error),
            Some(Effect::Pending) => {
                self.errors.hang().await;
                self.below.submit(io).await
            }
            Some(Effect::Corrupt { offset, value }) => match io.op {
                Op::Read => {
                    let data = io.data.clone();
                    self.below.submit(io).await?;
                    corrupt(&data, offset, value);
                    Ok(())
                }
                // What the host wrote is the host's: only what goes down is another.
                _ => {
                    let data = io.data.fork();
                    corrupt(&data, offset, value);
                    self.below.submit(Io { data, ..io }).await
                }
            },
            Some(Effect::Torn { blocks, acknowledge }) => {
                let count = blocks.unwrap_or(io.range.count / 2).min(io.range.count);
                let first = io.part(BlockRange { count, ..io.range });
                self.below.submit(first).await?;
                if acknowledge { Ok(()) } else { Err(IoError::Medium) }
            }
        }
    }
}

fn corrupt(data: &Buf, offset: u64, value: u8) {
    let Some(at) = usize::try_from(offset).ok().filter(|at| *at < data.len()) else {
        return;
    };
    let mut byte = [0];
    data.read_at(at, &mut byte);
    data.write_at(at, &[byte[0] ^ value])
}

impl BlockDevice for Error {
    fn geometry(&self) -> Geometry {
        // It tears writes when it is told to.
        Geometry {
            atomic: 0,
            ..self.below.geometry()
        }
    }

    /// Where nothing is injected, there is nothing to do.
    fn map(&self, _io: &mut Io) -> Mapped<'_> {
        match self.errors.0.injections.borrow().is_empty() {
            true => Mapped::To(&self.below),
            false => Mapped::Stay,
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        let under_way = &self.errors.0.under_way;
        under_way.set(under_way.get() + 1);
        let effect = self.errors.meet_with_memory(&io).await;
        let done = self.spoil(io, effect).await;
        under_way.set(under_way.get() - 1);
        done
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::memory::Memory;
    use std::future::Future;

    #[test]
    fn an_io_that_finds_no_memory_is_late_and_whole() {
        reactor::sim::run(async {
            let below = Disk::new(Memory::new(Memory::geometry_of(512, 512, 0, 8)));
            let one = BlockRange::new(0, 1);
            below.submit(Io::write(one, Buf::from_slice(&[7; 512]))).await.unwrap();
            let errors = Errors::default();
            let disk = Disk::new(Error::new(below, errors.clone()));
            let no_memory = |count| Injection {
                count,
                ..Injection::new(Effect::NoMemory)
            };

            errors.inject(no_memory(Some(3)));
            let (start, data) = (reactor::now(), Buf::zeroed(512));
            assert_eq!(disk.submit(Io::read(one, data.clone())).await, Ok(()));
            assert_eq!(
                reactor::now().since(start),
                3 * RETRY,
                "tried three times without, then with memory"
            );
            assert_eq!(data.to_vec(), [7; 512]);

            // For ever is until the injection is taken back, or until the device goes.
            for let_go in [Errors::clear, Errors::end] {
                errors.inject(no_memory(None));
                let mut late = std::pin::pin!(disk.submit(Io::flush()));
                let mut early = std::pin::pin!(reactor::sleep(20 * RETRY));
                poll_fn(|cx| {
                    assert!(late.as_mut().poll(cx).is_pending());
                    early.as_mut().poll(cx)
                })
                .await;
                let_go(&errors);
                assert_eq!(late.await, Ok(()));
            }
        })
    }
}
