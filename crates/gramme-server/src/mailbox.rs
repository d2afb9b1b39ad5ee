//! How threads reach a shard: a queue with a bell, emptied whole by the shard's own task, so that a burst costs
//! one wake-up.
//!
//! Bounded: a message that finds the queue full is dropped, as the network might have dropped it; a call is
//! refused with [`Reason::Overloaded`]. What must not be lost (facts, sockets, the order to drain) is rare and
//! always taken.

use crate::tls::Secured;
use bytes::BytesMut;
use gramme_node::request::{Call, Response};
use gramme_node::{Event, Fact};
use gramme_wire::hello::Hello;
use gramme_wire::{Failure, Reason};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// What arrives at a shard.
#[derive(Debug)]
pub(crate) enum Letter {
    /// A peer's message that another shard's connection read.
    Event(Event),
    /// A client's request that another shard's connection read; its answer goes back by the channel.
    Call(Call, oneshot::Sender<Response>),
    /// A client's socket, to be served here.
    Client(Door, std::net::TcpStream),
    /// A stranger's socket at the peer door.
    Stranger(std::net::TcpStream),
    /// A connection whose handshake another shard has finished, for this one to keep.
    Peer(Box<Handed>),
    /// Refuse new calls, and say when nothing is in flight and everything is durable.
    Drain(oneshot::Sender<()>),
}

/// A peer's connection that changes hands.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) socket: std::net::TcpStream,
    /// What the socket was taken out of, if TLS is spoken.
    pub(crate) secured: Option<Secured>,
    /// Who is at the other end.
    pub(crate) peer: Hello,
    /// What has been read and not yet understood.
    pub(crate) read: BytesMut,
    /// What keeps the peer's process in the roster.
    pub(crate) seat: crate::peers::Seat,
}

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// HTTP.
    Http,
    /// The Redis protocol.
    Resp,
}

#[derive(Default)]
struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    bell: Notify,
    closed: AtomicBool,
}

/// The way to every shard of this process.
#[derive(Clone)]
pub(crate) struct Shards {
    boxes: Arc<[Mailbox]>,
    partitions: usize,
}

impl Shards {
    /// Mailboxes of `shards` shards on a ring of `partitions`.
    pub(crate) fn new(shards: usize, partitions: usize) -> Shards {
        Shards { boxes: (0..shards).map(|_| Mailbox::default()).collect(), partitions }
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> usize {
        self.boxes.len()
    }

    /// Which shard serves a call.
    pub(crate) fn shard_of(&self, call: &Call) -> usize {
        call.request.shard(self.partitions, self.count())
    }

    /// Has the shard that owns it serve a call.
    pub(crate) async fn call(&self, call: Call) -> Response {
        self.call_on(self.shard_of(&call), call).await
    }

    /// Has this shard serve a call.
    pub(crate) async fn call_on(&self, shard: usize, call: Call) -> Response {
        let (answer, answered) = oneshot::channel();
        let mailbox = &self.boxes[shard];
        let refused = |reason| Response::Failed(Box::new(Failure::not_applied(reason)));
        if mailbox.closed.load(Ordering::Acquire) {
            return refused(Reason::Unsuitable);
        }
        {
            let mut letters = mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner);
            if letters.len() >= LETTERS_MAX {
                return refused(Reason::Overloaded);
            }
            letters.push(Letter::Call(call, answer));
        }
        mailbox.bell.notify_one();
        // The shard ended under the call: nobody knows how far it got.
        answered.await.unwrap_or_else(|_| {
            let outcome = gramme_core::Outcome::MaybeApplied;
            Response::Failed(Box::new(Failure { outcome, ..Failure::not_applied(Reason::Unavailable) }))
        })
    }

    /// Delivers messages of peers; gives how many found no room.
    pub(crate) fn post_events(&self, shard: usize, events: &mut Vec<Event>) -> usize {
        let mailbox = &self.boxes[shard];
        let dropped = {
            let mut letters = mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner);
            let room = LETTERS_MAX.saturating_sub(letters.len());
            let dropped = events.len().saturating_sub(room);
            letters.extend(events.drain(..).take(room).map(Letter::Event));
            dropped
        };
        mailbox.bell.notify_one();
        dropped
    }

    /// Delivers what must not be lost.
    pub(crate) fn post(&self, shard: usize, letter: Letter) {
        let mailbox = &self.boxes[shard];
        mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        mailbox.bell.notify_one();
    }

    /// Tells every shard but `except`.
    pub(crate) fn tell(&self, fact: &Fact, except: Option<usize>) {
        for shard in (0..self.count()).filter(|&shard| Some(shard) != except) {
            self.post(shard, Letter::Event(Event::Fact(fact.clone())));
        }
    }

    /// Waits for letters at one's own mailbox and moves them all into `letters`.
    pub(crate) async fn collect(&self, shard: usize, letters: &mut Vec<Letter>) {
        let mailbox = &self.boxes[shard];
        loop {
            std::mem::swap(letters, &mut *mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner));
            if !letters.is_empty() {
                return;
            }
            mailbox.bell.notified().await;
        }
    }

    /// The shard ends: later calls are refused, waiting ones answered with an error.
    pub(crate) fn close(&self, shard: usize) {
        let mailbox = &self.boxes[shard];
        mailbox.closed.store(true, Ordering::Release);
        mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// As much as one peer's queue: what a shard cannot take within a few milliseconds helps nobody.
const LETTERS_MAX: usize = gramme_core::limits::PEER_QUEUE_MESSAGES_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use gramme_core::NodeId;
    use gramme_node::request::Request;

    fn status() -> Call {
        Call { timeout_ms: 1, request: Request::Status }
    }

    fn reason(response: Option<Response>) -> Option<Reason> {
        if let Some(Response::Failed(failure)) = response { Some(failure.reason) } else { None }
    }

    #[test]
    fn a_full_mailbox_refuses_calls_drops_messages_and_takes_facts() {
        let shards = Shards::new(1, 4);
        let message = || Event::PeerUp(NodeId(1));
        let mut events = vec![message(); LETTERS_MAX + 3];
        assert_eq!(shards.post_events(0, &mut events), 3);
        assert!(events.is_empty());
        assert_eq!(reason(shards.call(status()).now_or_never()), Some(Reason::Overloaded));
        shards.tell(&Fact::Trust(gramme_node::Trust::Continuous), None);
        let mut letters = Vec::new();
        shards.collect(0, &mut letters).now_or_never().unwrap();
        assert_eq!(letters.len(), LETTERS_MAX + 1);
        assert!(matches!(letters.last(), Some(Letter::Event(Event::Fact(_)))));
    }

    #[test]
    fn a_call_to_a_shard_that_ends_is_answered_all_the_same() {
        let shards = Shards::new(1, 4);
        let mut waiting = std::pin::pin!(shards.call(status()));
        assert!(waiting.as_mut().now_or_never().is_none());
        shards.close(0);
        assert_eq!(reason(waiting.now_or_never()), Some(Reason::Unavailable));
        assert_eq!(reason(shards.call(status()).now_or_never()), Some(Reason::Unsuitable));
    }

    #[test]
    fn a_fact_reaches_every_shard_but_its_own() {
        let shards = Shards::new(3, 4);
        shards.tell(&Fact::Trust(gramme_node::Trust::Continuous), Some(1));
        let arrived = |shard| shards.collect(shard, &mut Vec::new()).now_or_never().is_some();
        assert_eq!([0, 1, 2].map(arrived), [true, false, true]);
    }
}
