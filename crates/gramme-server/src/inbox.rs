//! What has happened and was not yet looked at by the shard's loop. Filled and emptied on one thread.
//!
//! Bounded: connections stop reading while it is full, so that the peer's socket, and then the peer, feel it.

use gramme_core::limits::PEER_QUEUE_MESSAGES_MAX;
use gramme_node::Event;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    events: RefCell<VecDeque<Event>>,
    /// Of the shard's loop, if it waits for events.
    reader: RefCell<Option<Waker>>,
    /// Of connections that wait for room.
    writers: RefCell<Vec<Waker>>,
}

impl Inbox {
    /// Adds what has happened.
    pub(crate) fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.events.borrow().len()
    }

    /// Waits until something has happened, then moves up to `max` events, oldest first.
    pub(crate) async fn take(&self, into: &mut Vec<Event>, max: usize) {
        poll_fn(|cx| {
            let mut events = self.events.borrow_mut();
            if events.is_empty() {
                *self.reader.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = max.min(events.len());
            into.extend(events.drain(..count));
            Poll::Ready(())
        })
        .await;
        if self.len() < EVENTS_MAX {
            for waker in self.writers.borrow_mut().drain(..) {
                waker.wake();
            }
        }
    }

    /// Waits while it is full.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| {
            if self.len() < EVENTS_MAX {
                return Poll::Ready(());
            }
            self.writers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

const EVENTS_MAX: usize = PEER_QUEUE_MESSAGES_MAX;
