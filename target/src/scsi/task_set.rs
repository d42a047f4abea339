//! The commands under way on a unit, by nexus, and how to end them early.
//!
//! A command on the data path runs to its end (D6), so to abort it is to mark it and to wait: its host is answered TASK
//! ABORTED (control mode page, TAS = 1) when it ends. Each nexus counts its own commands on its own core, in plain cells, so
//! that a command costs nothing that others could see. Whoever aborts asks that core:
//!
//! ```text
//!   core 0: TaskSet::abort(whose)  ──call──►  core 1: Tasks::abort   epoch += 1, what runs is stale, wait for the last
//!           goes on                ◄─answer─          (each command that ends looks at the epoch it began in)
//! ```
use super::NexusId;
use reactor::Notify;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::{Rc, Weak},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

thread_local! {
    /// Every member of a task set that lives on this core, by its number.
    static HERE: RefCell<BTreeMap<u64, Weak<Tasks>>> = const { RefCell::new(BTreeMap::new()) };
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Everybody's commands on one unit.
#[derive(Debug, Default)]
pub struct TaskSet {
    members: Mutex<Vec<Member>>,
}

/// A nexus that may have commands in the set. A session with connections on several cores has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub nexus: NexusId,
    /// Of which session.
    pub session: u64,
    core: usize,
    number: u64,
}

impl TaskSet {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for the commands of a nexus on this core.
    pub(super) fn join(&self, nexus: NexusId, session: u64) -> Rc<Tasks> {
        let number = NEXT.fetch_add(1, Relaxed);
        let tasks = Rc::new(Tasks {
            number,
            epoch: Cell::new(0),
            running: Cell::new(0),
            stale: Cell::new(0),
            ended: Notify::new(),
        });
        HERE.with_borrow_mut(|here| here.insert(number, Rc::downgrade(&tasks)));
        let core = reactor::core();
        self.members().push(Member {
            nexus,
            session,
            core,
            number,
        });
        tasks
    }

    /// The opposite of [`join`](Self::join).
    pub(super) fn leave(&self, tasks: &Tasks) {
        self.members().retain(|member| member.number != tasks.number);
        HERE.with_borrow_mut(|here| here.remove(&tasks.number));
    }

    /// Aborts the commands of every nexus that `whose` picks, and returns when the last of them has ended. Commands that
    /// come later are not touched. To be called on a reactor, and not by one of the commands it picks.
    pub async fn abort(&self, whose: impl Fn(&Member) -> bool) {
        let picked: Vec<Member> = self.members().iter().filter(|member| whose(member)).cloned().collect();
        let reactors = reactor::reactors();
        let calls: Vec<_> = picked
            .into_iter()
            .map(|Member { core, number, .. }| {
                reactors.call(core, move || async move {
                    let tasks = HERE.with_borrow(|here| here.get(&number).and_then(Weak::upgrade));
                    if let Some(tasks) = tasks {
                        tasks.abort().await;
                    }
                })
            })
            .collect();
        for call in calls {
            // A core that is gone has no commands.
            let _ = call.checked().await;
        }
    }
}

/// The commands of one nexus to one unit, on the nexus's core.
#[derive(Debug)]
pub struct Tasks {
    number: u64,
    epoch: Cell<u32>,
    /// Begun in this epoch.
    running: Cell<u32>,
    /// Begun before it, and to be aborted.
    stale: Cell<u32>,
    ended: Notify,
}

impl Tasks {
    /// A command begins. `unwanted` says whether its own host has aborted it, which only the transport knows.
    pub fn begin<'a>(&'a self, unwanted: &'a dyn Fn() -> bool) -> Task<'a> {
        self.running.set(self.running.get() + 1);
        Task {
            tasks: self,
            epoch: self.epoch.get(),
            unwanted,
        }
    }

    async fn abort(&self) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
        self.stale.set(self.stale.get() + self.running.take());
        while self.stale.get() > 0 {
            self.ended.wait().await;
        }
    }
}

/// A command under way. It ends by being dropped.
pub struct Task<'a> {
    tasks: &'a Tasks,
    epoch: u32,
    unwanted: &'a dyn Fn() -> bool,
}

impl Task<'_> {
    /// Nobody waits for its outcome any more. A command that takes long and can stop in the middle should look.
    pub fn is_unwanted(&self) -> bool {
        self.is_aborted() || (self.unwanted)()
    }

    /// Somebody has aborted it.
    pub fn is_aborted(&self) -> bool {
        self.epoch != self.tasks.epoch.get()
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let tasks = self.tasks;
        if !self.is_aborted() {
            tasks.running.set(tasks.running.get() - 1);
        } else {
            tasks.stale.set(tasks.stale.get() - 1);
            if tasks.stale.get() == 0 {
                tasks.ended.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::{Config, Reactors};
    use spec::scsi::TransportId;
    use std::{sync::Arc, time::Duration};

    fn nexus(n: u8) -> NexusId {
        NexusId {
            initiator: TransportId {
                name: "iqn.x:a".into(),
                isid: Some([0, 0, 0, 0, 0, n]),
            },
            target: "iqn.x:t".into(),
            port: 1,
        }
    }

    #[test]
    fn who_aborts_waits_for_the_other_core_and_touches_nobody_else() {
        let reactors = Reactors::start(Config {
            count: 2,
            ..Config::default()
        })
        .unwrap();
        let set = Arc::new(TaskSet::default());
        let (told, heard) = std::sync::mpsc::channel();
        let (its, says) = (set.clone(), told.clone());
        let works = reactors.call(1, move || async move {
            let (victim, bystander) = (its.join(nexus(1), 1), its.join(nexus(2), 2));
            let (task, other) = (victim.begin(&|| false), bystander.begin(&|| false));
            says.send("begun").unwrap();
            while !task.is_aborted() {
                reactor::sleep(Duration::from_millis(1)).await;
            }
            let late = victim.begin(&|| false);
            reactor::sleep(Duration::from_millis(30)).await;
            says.send("ends").unwrap();
            assert!(!other.is_aborted() && !late.is_aborted());
            drop(task);
            reactor::sleep(Duration::from_millis(30)).await;
            drop((late, other));
            its.leave(&victim);
            its.leave(&bystander);
        });
        assert_eq!(heard.recv(), Ok("begun"));
        let aborts = reactors.call(0, move || async move {
            set.abort(|member| member.nexus == nexus(1)).await;
            told.send("aborted").unwrap();
            set.abort(|member| member.nexus == nexus(9)).await;
            set
        });
        assert_eq!((heard.recv(), heard.recv()), (Ok("ends"), Ok("aborted")));
        works.wait();
        let set = aborts.wait();
        assert!(set.members().is_empty());
        reactors.stop();
    }
}
