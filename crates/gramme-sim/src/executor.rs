//! A deterministic executor of about a hundred lines: one thread, a ready list whose next task is drawn
//! from the seed, and no clock of its own.
//!
//! Invariant: a task is on the ready list at most once, and the order of polls is a function of the seed
//! and of the order of wake-ups alone; no address ever decides anything.
//!
//! It refuses to know what a node is: a task has an [`Owner`], and whoever runs the world says which owners
//! are frozen and whose tasks to take away. Tasks are dropped by the caller, never while a borrow is held.

use crate::rng::Rng;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Whose task it is, and so what kills or freezes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Clients and the driver: never killed, never frozen.
    Harness,
    /// One life of one host.
    Host {
        /// Which.
        host: usize,
        /// Which of its lives.
        boot: u32,
    },
}

/// A task, boxed.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What one poll came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// The task waits again, or has ended.
    Fine,
    /// The task panicked.
    Panicked {
        /// Its name.
        name: &'static str,
        /// What it said.
        message: String,
    },
}

/// A task on its way to a poll.
pub struct Ready {
    /// Whose.
    pub owner: Owner,
    /// Its name.
    pub name: &'static str,
    id: TaskId,
}

/// See the module.
pub struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    queue: Arc<Queue>,
    polls: Cell<u64>,
}

type TaskId = (usize, u64);
type Queue = Mutex<Vec<TaskId>>;

struct Slot {
    generation: u64,
    owner: Owner,
    name: &'static str,
    /// Away while it is being polled.
    task: Option<Task>,
    alarm: Option<Arc<Alarm>>,
}

/// What wakers wake.
struct Alarm {
    id: TaskId,
    queued: AtomicBool,
    queue: Arc<Queue>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

impl Executor {
    /// An executor without tasks.
    pub fn new() -> Executor {
        Executor {
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            queue: Arc::new(Mutex::new(Vec::new())),
            polls: Cell::new(0),
        }
    }

    /// Adds a task; it is ready at once.
    pub fn spawn(&self, owner: Owner, name: &'static str, task: Task) {
        let mut slots = self.slots.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot { generation: 0, owner, name, task: None, alarm: None });
            slots.len() - 1
        });
        let slot = &mut slots[at];
        let id = (at, slot.generation);
        let alarm = Arc::new(Alarm { id, queued: AtomicBool::new(false), queue: self.queue.clone() });
        (slot.owner, slot.name, slot.task, slot.alarm) = (owner, name, Some(task), Some(alarm.clone()));
        alarm.wake();
    }

    /// Takes the next task off the ready list, drawn from `rng`; `None` if all wait.
    pub fn next_ready(&self, rng: &mut Rng) -> Option<Ready> {
        loop {
            let id = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.is_empty() {
                    return None;
                }
                let at = rng.index(queue.len());
                queue.swap_remove(at)
            };
            if let Some(slot) = self.slots.borrow().get(id.0).filter(|slot| slot.generation == id.1) {
                return Some(Ready { owner: slot.owner, name: slot.name, id });
            }
        }
    }

    /// Puts a task that was taken off the ready list back on it.
    pub fn put_back(&self, ready: Ready) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(ready.id);
    }

    /// Polls a task that was taken off the ready list.
    pub fn poll(&self, ready: Ready) -> Polled {
        let Some((mut task, alarm)) = self.begin(&ready) else { return Polled::Fine };
        self.polls.set(self.polls.get() + 1);
        alarm.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(alarm);
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {
                self.slots.borrow_mut()[ready.id.0].task = Some(task);
                Polled::Fine
            }
            Ok(Poll::Ready(())) => {
                self.retire(ready.id.0);
                // Dropped outside every borrow: what a task owns may wake or cancel others.
                drop(task);
                Polled::Fine
            }
            Err(cause) => {
                self.retire(ready.id.0);
                // What a panicked task holds is forgotten rather than dropped: its state proves nothing.
                std::mem::forget(task);
                let message = cause
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_string())
                    .or_else(|| cause.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "a panic without a text".to_string());
                Polled::Panicked { name: ready.name, message }
            }
        }
    }

    /// Takes all tasks away whose owner this is; the caller drops them once it holds no borrow.
    #[must_use = "the tasks are to be dropped outside every borrow"]
    pub fn take_away(&self, is_owner: impl Fn(Owner) -> bool) -> Vec<Task> {
        let mut taken = Vec::new();
        let mut slots = self.slots.borrow_mut();
        for (at, slot) in slots.iter_mut().enumerate() {
            if slot.task.is_some() && is_owner(slot.owner) {
                taken.extend(slot.task.take());
                slot.generation += 1;
                slot.alarm = None;
                self.free.borrow_mut().push(at);
            }
        }
        taken
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.polls.get()
    }

    fn begin(&self, ready: &Ready) -> Option<(Task, Arc<Alarm>)> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(ready.id.0).filter(|slot| slot.generation == ready.id.1)?;
        Some((slot.task.take()?, slot.alarm.clone()?))
    }

    fn retire(&self, at: usize) {
        let mut slots = self.slots.borrow_mut();
        slots[at].generation += 1;
        slots[at].alarm = None;
        self.free.borrow_mut().push(at);
    }
}

impl Default for Executor {
    fn default() -> Executor {
        Executor::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn run(executor: &Executor, seed: u64) -> Vec<Polled> {
        let mut rng = Rng::stream(seed, "scheduler", 0);
        let mut troubles = Vec::new();
        while let Some(ready) = executor.next_ready(&mut rng) {
            match executor.poll(ready) {
                Polled::Fine => {}
                trouble => troubles.push(trouble),
            }
        }
        troubles
    }

    fn order_of(seed: u64) -> Vec<u32> {
        let executor = Executor::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        for n in 0..6 {
            let order = order.clone();
            executor.spawn(Owner::Harness, "appender", Box::pin(async move { order.borrow_mut().push(n) }));
        }
        run(&executor, seed);
        order.take()
    }

    #[test]
    fn the_seed_decides_the_order_of_polls() {
        assert_eq!(order_of(1), order_of(1));
        assert!((2..20).any(|seed| order_of(seed) != order_of(1)), "other seeds explore other orders");
    }

    #[test]
    fn a_panic_is_reported_and_the_others_go_on() {
        let executor = Executor::new();
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        executor.spawn(Owner::Harness, "faulty", Box::pin(async { panic!("of three nodes none") }));
        executor.spawn(Owner::Harness, "sound", Box::pin(async move { seen.set(true) }));
        let troubles = run(&executor, 3);
        assert_eq!(
            troubles,
            [Polled::Panicked { name: "faulty", message: "of three nodes none".to_string() }]
        );
        assert!(done.get());
    }

    #[test]
    fn a_killed_host_takes_its_tasks_along_and_stale_wakers_wake_nobody() {
        let executor = Executor::new();
        let (wake, asleep) = tokio::sync::oneshot::channel::<()>();
        let mine = Owner::Host { host: 1, boot: 1 };
        let reached = Rc::new(Cell::new(false));
        let seen = reached.clone();
        executor.spawn(
            mine,
            "sleeper",
            Box::pin(async move {
                let _ = asleep.await;
                seen.set(true);
            }),
        );
        run(&executor, 1);
        drop(executor.take_away(|owner| owner == mine));
        assert!(wake.send(()).is_err(), "the sleeper and its end of the channel are gone");
        executor.spawn(Owner::Harness, "newcomer", Box::pin(async {}));
        assert_eq!(run(&executor, 1), []);
        assert!(!reached.get());
    }
}
