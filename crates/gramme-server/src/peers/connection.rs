//! One connection after its handshake: frames in, frames out. What is queued while the writer is busy, or before
//! it gets its turn, leaves in one write.

use super::Peers;
use super::meet::MeetError;
use bytes::{Buf, BytesMut};
use gramme_core::NodeId;
use gramme_core::limits::{PEER_QUEUE_BYTES_MAX, PEER_QUEUE_MESSAGES_MAX};
use gramme_node::Event;
use gramme_wire::{FrameReader, Kind, Message, Outgoing, WireError, peer};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The sending half, as the shard sees it.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) peer: NodeId,
    /// Whether the smaller node id dialled it.
    pub(super) is_preferred: bool,
    queued: RefCell<Outgoing>,
    queued_messages: Cell<usize>,
    /// Bytes that the writer has taken and not yet written.
    in_write: Cell<usize>,
    writer: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    severed: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

impl Connection {
    pub(super) fn new(number: u64, peer: NodeId, is_preferred: bool) -> Connection {
        Connection {
            number,
            peer,
            is_preferred,
            queued: RefCell::default(),
            queued_messages: Cell::new(0),
            in_write: Cell::new(0),
            writer: RefCell::default(),
            closed: Cell::new(false),
            severed: Cell::new(false),
            reader: RefCell::default(),
        }
    }

    /// Adds a message to what leaves; `false` if there is no room or the connection has ended.
    pub(super) fn queue(&self, message: &Message) -> bool {
        let mut queued = self.queued.borrow_mut();
        let full = self.queued_messages.get() >= PEER_QUEUE_MESSAGES_MAX
            || queued.remaining() + self.in_write.get() >= PEER_QUEUE_BYTES_MAX;
        if full || self.closed.get() {
            return false;
        }
        if let Err(e) = peer::queue(message, &mut queued) {
            tracing::error!(peer = %self.peer, "a message cannot be sent: {e}");
            return false;
        }
        self.queued_messages.set(self.queued_messages.get() + 1);
        self.wake();
        true
    }

    /// Nothing more leaves.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    /// Nothing more leaves or arrives.
    pub(super) fn sever(&self) {
        self.close();
        self.severed.set(true);
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Resolves once it is severed.
    pub(super) async fn severed(&self) {
        poll_fn(|cx| {
            if self.severed.get() {
                return Poll::Ready(());
            }
            let mut reader = self.reader.borrow_mut();
            if !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *reader = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.queued.borrow().remaining() + self.in_write.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.writer.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for something to write and swaps it into `taken`, which is empty; `false` once closed.
    async fn take(&self, taken: &mut Outgoing) -> bool {
        poll_fn(|cx| {
            if self.closed.get() {
                return Poll::Ready(false);
            }
            let mut queued = self.queued.borrow_mut();
            if queued.is_empty() {
                *self.writer.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(taken, &mut *queued);
            self.queued_messages.set(0);
            self.in_write.set(taken.remaining());
            Poll::Ready(true)
        })
        .await
    }
}

/// Writes what is queued until the connection ends. A failed write ends it for the reader as well: the socket is
/// gone for both.
pub(super) async fn write_for_ever(connection: Rc<Connection>, mut writer: impl AsyncWrite + Unpin) {
    let mut taken = Outgoing::new();
    while connection.take(&mut taken).await {
        let written = async {
            writer.write_all_buf(&mut taken).await?;
            writer.flush().await
        };
        if let Err(e) = written.await {
            tracing::debug!(peer = %connection.peer, "a write to a peer failed: {e}");
            connection.close();
            break;
        }
        connection.in_write.set(0);
    }
    // The peer sees an end, not a reset, if it is still there.
    let _ = writer.shutdown().await;
}

/// Reads messages and hands each to its shard, until the peer hangs up (`Ok`) or the stream breaks.
pub(super) async fn read_to_end(
    peers: &Peers,
    connection: &Connection,
    mut reader: impl AsyncRead + Unpin,
    mut buf: BytesMut,
) -> Result<(), MeetError> {
    let mut frames = FrameReader::new();
    let mut elsewhere: Vec<Vec<Event>> = vec![Vec::new(); peers.shards.count()];
    loop {
        while let Some(frame) = frames.next(&mut buf)? {
            if frame.kind != Kind::Message {
                return Err(WireError::Unexpected(frame.kind).into());
            }
            match peer::decode(frame.body) {
                Ok(message) => hand_on(peers, connection, message, &mut elsewhere),
                Err(e) if e.is_skippable() => tracing::debug!(peer = %connection.peer, "{e}"),
                Err(e) => return Err(e.into()),
            }
        }
        for (shard, events) in elsewhere.iter_mut().enumerate().filter(|(_, events)| !events.is_empty()) {
            let dropped = peers.shards.post_events(shard, events);
            peers.metrics.dropped.inc_by(dropped as u64);
        }
        peers.inbox.room().await;
        let missing = frames.missing(&buf);
        if buf.capacity() - buf.len() < READ_BYTES_MIN.max(missing) {
            buf.reserve(READ_BYTES.max(missing));
        }
        if reader.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

fn hand_on(peers: &Peers, connection: &Connection, message: Message, elsewhere: &mut [Vec<Event>]) {
    let shard = message.shard(elsewhere.len());
    let event = Event::Message { from: connection.peer, connection: connection.number, message };
    if shard == peers.shard {
        peers.inbox.push(event);
    } else {
        elsewhere[shard].push(event);
    }
}

const READ_BYTES: usize = 64 << 10;
/// Below this much room another buffer is taken, so that no read is a small one.
const READ_BYTES_MIN: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use gramme_core::Key;
    use gramme_wire::Body;

    fn ping() -> Message {
        Message {
            correlation: 1,
            partition: Message::NO_PARTITION,
            remaining_us: 1,
            sent_ns: 1,
            body: Body::Ping,
        }
    }

    #[test]
    fn what_was_queued_before_the_writer_came_leaves_together() {
        let connection = Connection::new(1, NodeId(1), true);
        let mut taken = Outgoing::new();
        assert!(connection.take(&mut taken).now_or_never().is_none(), "nothing is queued");
        for _ in 0..10 {
            assert!(connection.queue(&ping()));
        }
        assert_eq!(connection.take(&mut taken).now_or_never(), Some(true));
        let mut bytes = BytesMut::from(taken.copy_to_bytes(taken.remaining()));
        let mut frames = FrameReader::new();
        let count = std::iter::from_fn(|| frames.next(&mut bytes).unwrap()).count();
        assert_eq!((count, bytes.len()), (10, 0));
    }

    #[test]
    fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
        let connection = Connection::new(1, NodeId(1), true);
        let queued = (0..).take_while(|_| connection.queue(&ping())).count();
        assert_eq!(queued, PEER_QUEUE_MESSAGES_MAX);

        let connection = Connection::new(2, NodeId(1), true);
        let record = Bytes::from(vec![0; 16 << 20]);
        let body = Body::Merge {
            key: Key::new("b", b"k").unwrap(),
            record,
            hint_for: None,
            stamp: Default::default(),
            buffered: false,
            fence: 0,
        };
        let large = Message { body, ..ping() };
        let queued = (0..).take_while(|_| connection.queue(&large)).count();
        assert_eq!(queued, PEER_QUEUE_BYTES_MAX.div_ceil(16 << 20));
        let mut taken = Outgoing::new();
        assert_eq!(connection.take(&mut taken).now_or_never(), Some(true));
        assert!(!connection.queue(&large), "what is being written still counts");
    }

    #[test]
    fn a_closed_connection_takes_nothing() {
        let connection = Connection::new(1, NodeId(1), true);
        connection.close();
        assert!(!connection.queue(&ping()));
        assert_eq!(connection.take(&mut Outgoing::new()).now_or_never(), Some(false));
        assert!(connection.severed().now_or_never().is_none(), "what is on its way here still arrives");
        connection.sever();
        assert!(connection.severed().now_or_never().is_some());
    }
}
