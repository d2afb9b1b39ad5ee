//! Talking to other nodes: each shard keeps a connection of its own to every peer of the ring ([`dial`]), takes those
//! that nodes open to it, makes sure who is there ([`meet`]), and then moves messages ([`connection`]). Nodes that ask to
//! join are no peers of the ring; they call, and are heard. Whoever leaves the ring is let go of.
//!
//! Of the two connections between a pair of shards, one dialled by each side, the one from the smaller node id
//! carries everything while it stands; the other is a spare. So each wake-up ends in one write per peer, and
//! replies ride with requests.
//!
//! Invariant: a message is handed to a shard only from a connection whose peer has proved that it knows the
//! cluster's secret and is not gone, and only one process life of a node is listened to at a time ([`roster`]).

mod company;
mod connection;
mod dial;
mod links;
mod meet;
mod roster;

pub(crate) use company::Company;
pub(crate) use links::Links;
pub(crate) use roster::{Roster, Seat};

use crate::inbox::Inbox;
use crate::mailbox::{Handed, Letter, Shards};
use crate::metrics::ShardMetrics;
use crate::tls::Secured;
use bytes::BytesMut;
use gramme_core::NodeId;
use gramme_node::Fact;
use gramme_wire::hello::Hello;
use meet::{Acquaintance, MeetError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// One shard's connections.
pub(crate) struct Peers {
    company: Arc<Company>,
    shard: usize,
    shards: Shards,
    links: Rc<Links>,
    inbox: Rc<Inbox>,
    metrics: Rc<ShardMetrics>,
    /// Per peer that is kept in touch with: rung when it has called, so that calling back is worth a try at once, and
    /// when it is a peer no more.
    bells: RefCell<BTreeMap<NodeId, Rc<Notify>>>,
    complaints: RefCell<BTreeMap<String, (String, Instant)>>,
}

impl Peers {
    /// No connections yet.
    pub(crate) fn new(
        company: Arc<Company>,
        shard: usize,
        shards: Shards,
        links: Rc<Links>,
        inbox: Rc<Inbox>,
        metrics: Rc<ShardMetrics>,
    ) -> Rc<Peers> {
        Rc::new(Peers {
            company,
            shard,
            shards,
            links,
            inbox,
            metrics,
            bells: RefCell::default(),
            complaints: RefCell::default(),
        })
    }

    /// Takes a stranger's socket at the peer door.
    pub(crate) fn accept(self: &Rc<Self>, socket: std::net::TcpStream) {
        let peers = self.clone();
        tokio::task::spawn_local(async move {
            let from =
                socket.peer_addr().map_or_else(|_| "an unknown address".into(), |addr| addr.to_string());
            // Of a call to itself the calling side knows whether it was meant.
            if let Err(e) = peers.serve_stranger(socket).await
                && !e.is_yourself()
            {
                // The port is another at each try; a complaint is about the machine.
                let machine = from.rsplit_once(':').map_or(&*from, |(host, _)| host);
                peers.complain(&format!("a connection from {machine}"), &e);
            }
        });
    }

    /// Keeps a connection whose handshake another shard has finished.
    pub(crate) fn keep(self: &Rc<Self>, handed: Handed) {
        let peers = self.clone();
        tokio::task::spawn_local(async move {
            let peer = handed.peer.node;
            if let Err(e) = peers.keep_handed(handed).await {
                tracing::debug!(%peer, "a peer's connection cannot change hands: {e}");
            }
        });
    }

    async fn keep_handed(&self, handed: Handed) -> io::Result<()> {
        let Handed { socket, secured, peer, read, seat } = handed;
        match secured {
            None => {
                let (reader, writer) = TcpStream::from_std(socket)?.into_split();
                self.run(&peer, false, reader, writer, read, seat).await;
            }
            Some(mut secured) => {
                secured.put_socket(socket)?;
                let (reader, writer) = tokio::io::split(secured);
                self.run(&peer, false, reader, writer, read, seat).await;
            }
        }
        Ok(())
    }

    async fn serve_stranger(&self, socket: std::net::TcpStream) -> Result<(), MeetError> {
        let mut socket = TcpStream::from_std(socket)?;
        prepare(&socket);
        let Some(tls) = &self.company.tls else {
            let met = timeout(MEET_TIME, meet::accept(self, &mut socket)).await;
            let met = met.map_err(|_| MeetError::Late)??;
            self.has_called(met.peer.node);
            if self.is_home_of(&met.peer) {
                let (reader, writer) = socket.into_split();
                self.run(&met.peer, false, reader, writer, met.read, met.seat).await;
            } else {
                self.hand_on(socket.into_std()?, None, met);
            }
            return Ok(());
        };
        let met = timeout(MEET_TIME, async {
            let mut socket = tls.accept(socket).await?;
            let met = meet::accept(self, &mut socket).await?;
            Ok::<_, MeetError>((socket, met))
        });
        let (mut secured, met) = met.await.map_err(|_| MeetError::Late)??;
        self.has_called(met.peer.node);
        if self.is_home_of(&met.peer) {
            let (reader, writer) = tokio::io::split(secured);
            self.run(&met.peer, false, reader, writer, met.read, met.seat).await;
        } else {
            let socket = secured.take_socket()?;
            self.hand_on(socket, Some(secured), met);
        }
        Ok(())
    }

    /// Whether connections of this peer's shard are kept here: the partitions that it asks about are this shard's, if
    /// both run as many; and what concerns all of a node is between the first shards of both.
    fn is_home_of(&self, peer: &Hello) -> bool {
        self.home_of(peer) == self.shard
    }

    fn home_of(&self, peer: &Hello) -> usize {
        usize::from(peer.shard) % self.shards.count()
    }

    fn hand_on(&self, socket: std::net::TcpStream, secured: Option<Secured>, met: Acquaintance) {
        let home = self.home_of(&met.peer);
        let handed = Handed { socket, secured, peer: met.peer, read: met.read, seat: met.seat };
        self.shards.post(home, Letter::Peer(Box::new(handed)));
    }

    /// Moves messages until the connection ends.
    async fn run(
        &self,
        peer: &Hello,
        dialed: bool,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin + 'static,
        read: BytesMut,
        seat: Seat,
    ) {
        // The ring may have changed while the two met.
        if self.company.ring().gone.contains(&peer.node) {
            return;
        }
        let dialer = if dialed { self.company.hello.node } else { peer.node };
        let is_preferred = dialer < self.company.hello.node.max(peer.node);
        let connection = self.links.add(peer.node, is_preferred);
        tokio::task::spawn_local(connection::write_for_ever(connection.clone(), writer));
        let ended = tokio::select! {
            biased;
            () = connection.severed() => Ok(()),
            ended = connection::read_to_end(self, &connection, reader, read) => ended,
        };
        self.links.remove(&connection);
        drop(seat);
        if let Err(e) = ended {
            self.complain(&format!("the connection to node {}", peer.node), &e);
        }
    }

    fn has_called(&self, node: NodeId) {
        if let Some(bell) = self.bells.borrow().get(&node) {
            bell.notify_one();
        }
    }

    /// A call came to nothing: the node is told if it is one that was removed, and whoever reads logs is told why.
    fn was_refused(&self, who: &str, why: &MeetError) {
        if why.is_removed() {
            self.shards.tell(&Fact::Removed, None);
        }
        self.complain(who, why);
    }

    /// Logs why a connection came to nothing: once per peer and cause, and again after a while.
    fn complain(&self, who: &str, why: &MeetError) {
        let text = why.to_string();
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() > COMPLAINTS_MAX {
            complaints.clear();
        }
        let now = Instant::now();
        let is_known =
            complaints.get(who).is_some_and(|(before, at)| *before == text && now - *at < COMPLAIN_AGAIN);
        if is_known {
            return;
        }
        complaints.insert(who.to_owned(), (text.clone(), now));
        if why.is_ordinary() || self.shard != 0 && why.is_of_the_process() {
            tracing::debug!(peer = who, "{text}");
        } else {
            tracing::warn!(peer = who, "{text}");
        }
    }
}

/// Small messages leave at once, and a peer that is gone without a word is noticed.
fn prepare(socket: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(Duration::from_secs(1));
    let options = socket2::SockRef::from(socket);
    let set = socket
        .set_nodelay(true)
        .and_then(|()| options.set_tcp_keepalive(&keepalive))
        .and_then(|()| options.set_tcp_user_timeout(Some(SILENCE_MAX)));
    if let Err(e) = set {
        tracing::debug!("a peer's socket does not take its options: {e}");
    }
}

/// Two round trips and a durable write on either side; and the patience of [`roster`].
const MEET_TIME: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);
const COMPLAINTS_MAX: usize = 256;

#[cfg(test)]
mod tests;
