//! Talking to other nodes: each shard keeps a connection of its own to every member ([`dial`]), takes those that
//! members open to it, makes sure who is there ([`meet`]), and then moves messages ([`connection`]).
//!
//! Of the two connections between a pair of shards, one dialled by each side, the one from the smaller node id
//! carries everything while it stands; the other is a spare. So each wake-up ends in one write per peer, and
//! replies ride with requests.
//!
//! Invariant: a message is handed to a shard only from a connection whose peer has proved that it knows the
//! cluster's secret, and only one process life of a member is listened to at a time ([`roster`]).

mod connection;
mod links;
mod meet;
mod roster;

pub(crate) use links::Links;
pub(crate) use roster::{Roster, Seat};

use crate::identity::Identity;
use crate::inbox::Inbox;
use crate::mailbox::{Handed, Letter, Shards};
use crate::metrics::ShardMetrics;
use crate::tls::Tls;
use bytes::BytesMut;
use gramme_core::context::Secret;
use gramme_core::{Layout, Member, NodeId};
use gramme_wire::hello::Hello;
use meet::MeetError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// What all shards of this process tell their peers, and know of them.
pub(crate) struct Company {
    /// What this node says of itself; shard and nonce are filled in for each connection.
    pub(crate) hello: Hello,
    pub(crate) layout: Arc<Layout>,
    pub(crate) secret: Secret,
    pub(crate) identity: tokio::sync::Mutex<Identity>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) tls: Option<Tls>,
}

/// One shard's connections.
pub(crate) struct Peers {
    company: Arc<Company>,
    shard: usize,
    shards: Shards,
    links: Rc<Links>,
    inbox: Rc<Inbox>,
    metrics: Rc<ShardMetrics>,
    /// Per member: it has called, so calling back is worth a try at once.
    called: BTreeMap<NodeId, Notify>,
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
        let others = company.layout.members().iter().filter(|member| member.id != company.hello.node);
        let called = others.map(|member| (member.id, Notify::new())).collect();
        Rc::new(Peers {
            company,
            shard,
            shards,
            links,
            inbox,
            metrics,
            called,
            complaints: RefCell::default(),
        })
    }

    /// Keeps a connection to every other member for ever.
    pub(crate) fn dial_all(self: &Rc<Self>) {
        for member in self.company.layout.members() {
            if member.id != self.company.hello.node {
                let (peers, member) = (self.clone(), member.clone());
                tokio::task::spawn_local(async move { peers.dial_for_ever(&member).await });
            }
        }
    }

    /// Takes a stranger's socket at the peer door.
    pub(crate) fn accept(self: &Rc<Self>, socket: std::net::TcpStream) {
        let peers = self.clone();
        tokio::task::spawn_local(async move {
            let from =
                socket.peer_addr().map_or_else(|_| "an unknown address".into(), |addr| addr.to_string());
            if let Err(e) = peers.serve_stranger(socket).await {
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
            let Handed { socket, peer, read, seat } = handed;
            if let Ok(socket) = TcpStream::from_std(socket) {
                let (reader, writer) = socket.into_split();
                peers.run(&peer, false, reader, writer, read, seat).await;
            }
        });
    }

    async fn dial_for_ever(self: Rc<Self>, member: &Member) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.dial(member).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(e) => {
                    self.complain(&format!("{} at {}", member.name, member.address), &e);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            // Shards that lost a peer at one moment do not come back to it at one moment.
            let jitter = Duration::from_millis(crate::random::word() % PAUSE_MIN.as_millis() as u64);
            sleep(PAUSE_MIN).await;
            tokio::select! {
                () = sleep(pause.saturating_sub(PAUSE_MIN) + jitter) => {}
                () = self.called[&member.id].notified() => {}
            }
        }
    }

    /// One connection to a member, from its first byte to its last. `Ok` once the two had met.
    async fn dial(self: &Rc<Self>, member: &Member) -> Result<(), MeetError> {
        let socket = timeout(CONNECT_TIME, TcpStream::connect(&member.address))
            .await
            .map_err(|_| MeetError::Late)??;
        prepare(&socket);
        match &self.company.tls {
            None => {
                let mut socket = socket;
                let met = timeout(MEET_TIME, meet::dial(self, &mut socket, member.id)).await;
                let met = met.map_err(|_| MeetError::Late)??;
                let (reader, writer) = socket.into_split();
                self.run(&met.peer, true, reader, writer, met.read, met.seat).await;
            }
            Some(tls) => {
                let met = timeout(MEET_TIME, async {
                    let mut socket = tls.connect(&member.address, socket).await?;
                    let met = meet::dial(self, &mut socket, member.id).await?;
                    Ok::<_, MeetError>((socket, met))
                });
                let (socket, met) = met.await.map_err(|_| MeetError::Late)??;
                let (reader, writer) = tokio::io::split(socket);
                self.run(&met.peer, true, reader, writer, met.read, met.seat).await;
            }
        }
        Ok(())
    }

    async fn serve_stranger(self: &Rc<Self>, socket: std::net::TcpStream) -> Result<(), MeetError> {
        let mut socket = TcpStream::from_std(socket)?;
        prepare(&socket);
        if let Some(tls) = &self.company.tls {
            let met = timeout(MEET_TIME, async {
                let mut socket = tls.accept(socket).await?;
                let met = meet::accept(self, &mut socket).await?;
                Ok::<_, MeetError>((socket, met))
            });
            let (socket, met) = met.await.map_err(|_| MeetError::Late)??;
            self.has_called(met.peer.node);
            let (reader, writer) = tokio::io::split(socket);
            self.run(&met.peer, false, reader, writer, met.read, met.seat).await;
            return Ok(());
        }
        let met =
            timeout(MEET_TIME, meet::accept(self, &mut socket)).await.map_err(|_| MeetError::Late)??;
        self.has_called(met.peer.node);
        let home = usize::from(met.peer.shard) % self.shards.count();
        if home == self.shard {
            let (reader, writer) = socket.into_split();
            self.run(&met.peer, false, reader, writer, met.read, met.seat).await;
        } else {
            // The partitions that the peer's shard asks about are that shard's here, if both run as many.
            let socket = socket.into_std()?;
            let handed = Handed { socket, peer: met.peer, read: met.read, seat: met.seat };
            self.shards.post(home, Letter::Peer(Box::new(handed)));
        }
        Ok(())
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
        let dialer = if dialed { self.company.hello.node } else { peer.node };
        let is_preferred = dialer < self.company.hello.node.max(peer.node);
        let connection = self.links.add(peer.node, is_preferred);
        tokio::task::spawn_local(connection::write_for_ever(connection.clone(), writer));
        let ended = connection::read_to_end(self, &connection, reader, read).await;
        self.links.remove(&connection);
        drop(seat);
        if let Err(e) = ended {
            self.complain(&format!("the connection to node {}", peer.node), &e);
        }
    }

    fn has_called(&self, node: NodeId) {
        if let Some(called) = self.called.get(&node) {
            called.notify_one();
        }
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

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Two round trips and a durable write on either side; and the patience of [`roster`].
const MEET_TIME: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);
const COMPLAINTS_MAX: usize = 256;
