//! One shard's connections to peers: which of them a message takes, and who is told that a peer came or went.

use super::connection::Connection;
use crate::inbox::Inbox;
use gramme_core::NodeId;
use gramme_node::Event;
use gramme_wire::Message;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) struct Links {
    inbox: Rc<Inbox>,
    /// Per peer, best first; no entry is empty.
    standing: RefCell<BTreeMap<NodeId, Vec<Rc<Connection>>>>,
    /// Whether to log comings and goings: one shard speaks for all.
    speaks: bool,
}

impl Links {
    /// No connections; comings and goings are put into `inbox`.
    pub(crate) fn new(inbox: Rc<Inbox>, speaks: bool) -> Rc<Links> {
        Rc::new(Links { inbox, standing: RefCell::default(), speaks })
    }

    /// Queues a message; `false` if there is no connection, or no room.
    pub(crate) fn send(&self, to: NodeId, message: &Message) -> bool {
        match self.standing.borrow().get(&to).and_then(|connections| connections.first()) {
            Some(connection) => connection.queue(message),
            None => false,
        }
    }

    /// A connection stands. Of equals the newest is best: an older one may be about to be found dead.
    pub(super) fn add(&self, peer: NodeId, is_preferred: bool) -> Rc<Connection> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let connection = Rc::new(Connection::new(NUMBER.fetch_add(1, Ordering::Relaxed), peer, is_preferred));
        let mut standing = self.standing.borrow_mut();
        let of_peer = standing.entry(peer).or_default();
        let at = if is_preferred { 0 } else { of_peer.iter().take_while(|c| c.is_preferred).count() };
        of_peer.insert(at, connection.clone());
        if of_peer.len() == 1 {
            if self.speaks {
                tracing::info!(%peer, "a peer is connected");
            }
            self.inbox.push(Event::PeerUp(peer));
        }
        connection
    }

    /// A connection has ended.
    pub(super) fn remove(&self, connection: &Rc<Connection>) {
        connection.close();
        let peer = connection.peer;
        let mut standing = self.standing.borrow_mut();
        let Some(of_peer) = standing.get_mut(&peer) else { return };
        of_peer.retain(|c| !Rc::ptr_eq(c, connection));
        if of_peer.is_empty() {
            standing.remove(&peer);
            if self.speaks {
                tracing::info!(%peer, "a peer is gone");
            }
            self.inbox.push(Event::PeerDown(peer));
        }
    }

    /// A node is a peer no more: its connections end, whatever it thinks of that.
    pub(super) fn sever(&self, peer: NodeId) {
        for connection in self.standing.borrow().get(&peer).into_iter().flatten() {
            connection.sever();
        }
    }

    /// Whether a connection to this node stands.
    pub(super) fn is_connected(&self, peer: NodeId) -> bool {
        self.standing.borrow().contains_key(&peer)
    }

    /// Peers to which a connection stands.
    pub(crate) fn connected(&self) -> usize {
        self.standing.borrow().len()
    }

    /// Bytes that wait for sockets.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.standing.borrow().values().flatten().map(|connection| connection.waiting_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_peer_is_up_from_its_first_connection_to_its_last() {
        let inbox = Rc::new(Inbox::default());
        let links = Links::new(inbox.clone(), false);
        let peer = NodeId(1);
        let spare = links.add(peer, false);
        let best = links.add(peer, true);
        let newer = links.add(peer, false);
        let first = |links: &Links| links.standing.borrow()[&peer][0].number;
        assert_eq!(first(&links), best.number, "the one that the smaller id dialled carries everything");
        links.remove(&best);
        assert_eq!(first(&links), newer.number, "then the newest of the others");
        links.remove(&newer);
        links.remove(&newer);
        assert_eq!(links.connected(), 1);
        links.remove(&spare);
        assert_eq!(links.connected(), 0);
        let mut events = Vec::new();
        inbox.take(&mut events, 10).now_or_never().unwrap();
        assert!(
            matches!(events[..], [Event::PeerUp(up), Event::PeerDown(down)] if up == peer && down == peer)
        );
    }
}
