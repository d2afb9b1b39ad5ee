//! Timers by slot and generation: cancelling one is a number, and what is left of it on the agenda is
//! recognised as stale.

use crate::world::World;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The timers that are set.
#[derive(Default)]
pub struct Timers {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: u64,
    waker: Option<Waker>,
}

impl Timers {
    fn set(&mut self, waker: Waker) -> (usize, u64) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[at].waker = Some(waker);
        (at, self.slots[at].generation)
    }

    fn rewake(&mut self, at: usize, generation: u64, waker: &Waker) -> Option<Waker> {
        match &mut self.slots[at] {
            slot if slot.generation != generation => None,
            slot if slot.waker.as_ref().is_some_and(|set| set.will_wake(waker)) => None,
            slot => slot.waker.replace(waker.clone()),
        }
    }

    /// Whether this timer is still to fire.
    pub(crate) fn is_set(&self, at: usize, generation: u64) -> bool {
        self.slots[at].generation == generation
    }

    /// Ends a timer; returns whom to wake, or whose waker to drop, once no borrow is held.
    pub(crate) fn fire(&mut self, at: usize, generation: u64) -> Option<Waker> {
        if !self.is_set(at, generation) {
            return None;
        }
        self.slots[at].generation += 1;
        self.free.push(at);
        self.slots[at].waker.take()
    }
}

/// Resolves at or after a true time.
pub struct Sleep {
    world: Rc<World>,
    at: u64,
    timer: Option<(usize, u64)>,
}

impl Sleep {
    /// Until this true time, in nanoseconds.
    pub fn until(world: Rc<World>, at: u64) -> Sleep {
        Sleep { world, at, timer: None }
    }

    /// For so many nanoseconds of true time from now.
    pub fn span(world: Rc<World>, span: u64) -> Sleep {
        let at = world.now() + span;
        Sleep::until(world, at)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.world.now() >= self.at {
            return Poll::Ready(());
        }
        match self.timer {
            Some((slot, generation)) => {
                let old = self.world.timers.borrow_mut().rewake(slot, generation, cx.waker());
                drop(old);
            }
            None => {
                let (slot, generation) = self.world.timers.borrow_mut().set(cx.waker().clone());
                self.world.timer_fires(self.at, slot, generation);
                self.timer = Some((slot, generation));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((slot, generation)) = self.timer {
            let waker = self.world.timers.borrow_mut().fire(slot, generation);
            drop(waker);
        }
    }
}
