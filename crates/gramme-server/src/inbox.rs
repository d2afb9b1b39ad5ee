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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use gramme_core::NodeId;

    #[test]
    fn events_come_out_in_order_and_as_many_as_wanted() {
        let inbox = Inbox::default();
        let mut events = Vec::new();
        assert!(inbox.take(&mut events, 2).now_or_never().is_none(), "nothing has happened");
        for node in 1..=3 {
            inbox.push(Event::PeerUp(NodeId(node)));
        }
        inbox.take(&mut events, 2).now_or_never().unwrap();
        inbox.take(&mut events, 2).now_or_never().unwrap();
        let nodes: Vec<u64> =
            events.iter().map(|event| if let Event::PeerUp(node) = event { node.0 } else { 0 }).collect();
        assert_eq!(nodes, [1, 2, 3]);
    }

    #[test]
    fn a_full_inbox_has_no_room_until_it_is_read() {
        let inbox = Inbox::default();
        for _ in 0..EVENTS_MAX {
            assert!(inbox.room().now_or_never().is_some());
            inbox.push(Event::PeerUp(NodeId(1)));
        }
        assert!(inbox.room().now_or_never().is_none());
        inbox.take(&mut Vec::new(), 1).now_or_never().unwrap();
        assert!(inbox.room().now_or_never().is_some());
    }
}
