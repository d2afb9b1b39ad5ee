//! Waiting within one shard for something to become true. All parties share a thread, so a cell and a list
//! of wakers is all it takes; whoever changes the state that others wait for calls [`Signal::notify`].

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll, Waker};

/// Tasks that wait for a state of this shard to change.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes everyone who waits.
    pub(crate) fn notify(&self) {
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Asks to be woken at the next [`Signal::notify`].
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
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
