//! Forward: reaches a stateful device from the cores it does not live on (DESIGN D4).
//!
//! ```text
//!   core 1                                         core 0, the device's home
//!   slot ─► Forward::submit ── request, pages ──►  service ─► Disk::submit ─► done at once? ── answer ──┐
//!              ▲                                                └ no: a worker awaits it ── answer ──┤
//!              └──────── ticket ◄── clerk ◄───────────────────────────────────────────────────────────┘
//! ```
//!
//! One bounded ring per core for requests and one for answers; whoever is awake takes all there is at once. Pages of a write are shared
//! with the other core, pages of a read move there and come back; nothing is copied. Tickets, workers and lists of pages are kept
//! for the next time, so a warm core allocates nothing. There are as many workers as I/Os have ever waited at once; slots bound that.
use crate::{BlockDevice, Geometry, Io, IoError, IoResult, Op};
use reactor::{
    Buf, IoFuture, Parcel,
    channel::{Receiver, Sender},
};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// Messages a ring holds; senders wait when it is full.
pub(crate) const RING: usize = 1024;

/// The device fills the data.
fn comes_back(op: Op) -> bool {
    matches!(op, Op::Read | Op::Allocation)
}

/// An I/O for a device of another core.
pub(crate) struct Request {
    from: usize,
    ticket: u32,
    /// Which node, and the place where that core keeps it.
    pub slot: u32,
    pub id: u64,
    op: Op,
    range: BlockRange,
    fua: bool,
    careful: bool,
    data: Parcel,
}

/// What a core's service receives.
pub(crate) enum Order {
    Do(Request),
    /// The graph has ended.
    End,
}

/// What a core's clerk receives.
pub(crate) enum Reply {
    Answer(Answer),
    /// The graph has ended.
    End,
}

/// What came of it.
pub(crate) struct Answer {
    ticket: u32,
    done: IoResult,
    data: Parcel,
}

/// The rings to every core, as one core sees them.
pub(crate) struct Links {
    pub core: usize,
    pub requests: Vec<Sender<Order>>,
    pub answers: Vec<Sender<Reply>>,
    tickets: Tickets,
    idle: RefCell<Vec<Rc<Worker>>>,
}

impl Links {
    pub fn new(core: usize, requests: Vec<Sender<Order>>, answers: Vec<Sender<Reply>>) -> Self {
        Self {
            core,
            requests,
            answers,
            tickets: Tickets::default(),
            idle: RefCell::default(),
        }
    }

    /// Hands out answers to those who wait for them, until the graph ends.
    pub async fn clerk(self: Rc<Self>, answers: Receiver<Reply>) {
        while let Some(Reply::Answer(answer)) = answers.recv().await {
            self.tickets.answer(answer)
        }
    }

    /// Carries out what other cores ask for. `submit` sends an I/O to the device of a slot on this core.
    /// Ends with the graph.
    pub async fn service(self: Rc<Self>, orders: Receiver<Order>, submit: impl Fn(u32, u64, Io) -> IoFuture<IoResult>) {
        while let Some(Order::Do(request)) = orders.recv().await {
            self.start(request, &submit)
        }
    }

    fn start(self: &Rc<Self>, request: Request, submit: &impl Fn(u32, u64, Io) -> IoFuture<IoResult>) {
        let Request {
            from,
            ticket,
            slot,
            id,
            op,
            range,
            fua,
            careful,
            data,
        } = request;
        let data = data.into_buf();
        // Only what the device was asked to fill goes back.
        let back = if comes_back(op) { data.clone() } else { Buf::empty() };
        let job = Job { from, ticket, back };
        match submit(
            slot,
            id,
            Io {
                op,
                range,
                data,
                fua,
                careful,
            },
        )
        .now()
        {
            Ok(done) => {
                let (to, answer) = job.answer(done);
                if let Err(answer) = self.answers[to].try_send(answer) {
                    self.hand_over(Work::Send(to, answer))
                }
            }
            Err(running) => self.hand_over(Work::Await(job, running)),
        }
    }

    /// Gives work that has to wait to a worker that has none.
    fn hand_over(self: &Rc<Self>, work: Work) {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(worker) => {
                worker.work.set(Some(work));
                if let Some(waker) = worker.waker.take() {
                    waker.wake()
                }
            }
            None => {
                let worker = Rc::new(Worker {
                    work: Cell::new(Some(work)),
                    waker: Cell::new(None),
                });
                reactor::spawn_background(worker.run(self.clone()))
            }
        }
    }
}

/// What is left to do for a request once its I/O is done.
struct Job {
    from: usize,
    ticket: u32,
    back: Buf,
}

impl Job {
    fn answer(self, done: IoResult) -> (usize, Reply) {
        let data = Parcel::from_buf(self.back);
        (
            self.from,
            Reply::Answer(Answer {
                ticket: self.ticket,
                done,
                data,
            }),
        )
    }
}

enum Work {
    Await(Job, IoFuture<IoResult>),
    /// The ring was full.
    Send(usize, Reply),
}

/// A task that waits for I/Os of other cores, one after the other.
struct Worker {
    work: Cell<Option<Work>>,
    waker: Cell<Option<Waker>>,
}

impl Worker {
    async fn run(self: Rc<Self>, links: Rc<Links>) {
        loop {
            let work = poll_fn(|cx| match self.work.take() {
                Some(work) => Poll::Ready(work),
                None => {
                    self.waker.set(Some(cx.waker().clone()));
                    Poll::Pending
                }
            })
            .await;
            let (to, answer) = match work {
                Work::Await(job, running) => {
                    let done = running.await;
                    job.answer(done)
                }
                Work::Send(to, answer) => (to, answer),
            };
            // That core has ended: nobody waits for the answer.
            let _ = links.answers[to].send(answer).await;
            links.idle.borrow_mut().push(self.clone())
        }
    }
}

/// Those who wait for answers: a slab that grows to the greatest number that ever waited at once.
#[derive(Default)]
struct Tickets {
    all: RefCell<Vec<Ticket>>,
    free: RefCell<Vec<u32>>,
}

enum Ticket {
    Free,
    Waiting(Option<Waker>),
    Answered(IoResult, Parcel),
    /// Nobody waits any more; the answer has yet to come.
    Abandoned,
}

impl Tickets {
    fn take(&self) -> u32 {
        let mut all = self.all.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(ticket) => {
                all[ticket as usize] = Ticket::Waiting(None);
                ticket
            }
            None => {
                all.push(Ticket::Waiting(None));
                // Each has a slot that waits: far fewer than 2^32.
                (all.len() - 1) as u32
            }
        }
    }

    fn free(&self, ticket: u32) {
        self.all.borrow_mut()[ticket as usize] = Ticket::Free;
        self.free.borrow_mut().push(ticket)
    }

    fn answer(&self, Answer { ticket, done, data }: Answer) {
        let mut all = self.all.borrow_mut();
        match std::mem::replace(&mut all[ticket as usize], Ticket::Answered(done, data)) {
            Ticket::Waiting(waker) => {
                if let Some(waker) = waker {
                    waker.wake()
                }
            }
            Ticket::Abandoned | Ticket::Answered(..) | Ticket::Free => {
                drop(all);
                self.free(ticket)
            }
        }
    }

    async fn wait(&self, ticket: u32) -> (IoResult, Parcel) {
        let mut guard = Abandon {
            tickets: self,
            ticket,
            done: false,
        };
        let answer = poll_fn(|cx| {
            let mut all = self.all.borrow_mut();
            let here = &mut all[ticket as usize];
            match std::mem::replace(here, Ticket::Free) {
                Ticket::Answered(done, data) => Poll::Ready((done, data)),
                _ => {
                    *here = Ticket::Waiting(Some(cx.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await;
        guard.done = true;
        self.free(ticket);
        answer
    }
}

/// A wait that is dropped (the reactor ends) leaves word for the answer.
struct Abandon<'a> {
    tickets: &'a Tickets,
    ticket: u32,
    done: bool,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if !self.done {
            let answered = {
                let mut all = self.tickets.all.borrow_mut();
                let was = std::mem::replace(&mut all[self.ticket as usize], Ticket::Abandoned);
                matches!(was, Ticket::Answered(..))
            };
            if answered {
                self.tickets.free(self.ticket)
            }
        }
    }
}

/// See the [module](self).
pub(crate) struct Forward {
    links: Rc<Links>,
    home: usize,
    slot: u32,
    id: u64,
    geometry: Geometry,
}

impl Forward {
    pub fn new(links: Rc<Links>, home: usize, slot: u32, id: u64, geometry: Geometry) -> Self {
        Self {
            links,
            home,
            slot,
            id,
            geometry,
        }
    }
}

impl BlockDevice for Forward {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        let ticket = self.links.tickets.take();
        let Io {
            op,
            range,
            data,
            fua,
            careful,
        } = io;
        let parcel = match op {
            Op::Read | Op::Allocation => data.take_pages(),
            Op::Write => data.export(),
            Op::Flush | Op::Unmap | Op::WriteZeroes { .. } => Parcel::from_buf(Buf::empty()),
        };
        let from = self.links.core;
        let (slot, id) = (self.slot, self.id);
        let request = Order::Do(Request {
            from,
            ticket,
            slot,
            id,
            op,
            range,
            fua,
            careful,
            data: parcel,
        });
        let sent = match self.links.requests[self.home].try_send(request) {
            Ok(()) => Ok(()),
            Err(request) => self.links.requests[self.home].send(request).await,
        };
        if sent.is_err() {
            // That core has ended.
            self.links.tickets.free(ticket);
            return Err(IoError::Gone);
        }
        let (done, parcel) = self.links.tickets.wait(ticket).await;
        if comes_back(op) {
            data.put_pages(parcel)
        }
        done
    }
}
