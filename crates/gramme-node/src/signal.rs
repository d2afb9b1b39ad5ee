//! Waiting within one shard for something to become true. All parties share a thread, so a cell and a list
//! of wakers is all it takes; whoever changes the state that others wait for calls [`Signal::notify`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll, Waker};

/// Tasks that wait for a state of this shard to change.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waiting: RefCell<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they came, which is the order in which they are woken.
    wakers: Vec<Waker>,
    /// Where the tasks of `wakers` lie, once there are so many that looking through them would cost.
    known: BTreeSet<usize>,
}

impl Signal {
    /// Wakes everyone who waits.
    pub(crate) fn notify(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting.wakers {
            waker.wake();
        }
    }

    /// Asks to be woken at the next [`Signal::notify`].
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        let Waiting { wakers, known } = &mut *waiting;
        let place = |waker: &Waker| waker.data() as usize;
        if wakers.len() == FEW {
            known.extend(wakers.iter().map(place));
        }
        let may_be_known = wakers.len() < FEW || known.contains(&place(cx.waker()));
        if may_be_known && wakers.iter().rev().any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if wakers.len() >= FEW {
            known.insert(place(cx.waker()));
        }
        wakers.push(cx.waker().clone());
    }

    /// Resolves with the first `Some` that `look` gives, looking again at every notification.
    pub(crate) fn wait_for<'a, T>(
        &'a self,
        mut look: impl FnMut() -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        poll_fn(move |cx| match look() {
            Some(found) => Poll::Ready(found),
            None => {
                self.register(cx);
                Poll::Pending
            }
        })
    }
}

/// So many wakers are looked through.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everyone_is_woken_once_however_many_there_are_and_however_often_they_ask() {
        let signal = Signal::default();
        let tasks: Vec<Arc<Woken>> = (0..100).map(|_| Arc::default()).collect();
        for _ in 0..3 {
            for task in &tasks {
                signal.register(&Context::from_waker(&Waker::from(task.clone())));
            }
        }
        signal.notify();
        signal.notify();
        assert!(tasks.iter().all(|task| task.0.load(Ordering::Relaxed) == 1));
    }
}
