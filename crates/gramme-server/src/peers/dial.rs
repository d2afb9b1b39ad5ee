//! Whom a shard calls: every peer of the ring, at the address where it is by the latest word, for as long as it is one;
//! and the seeds, for as long as nobody of the ring is there. All of the ring may have moved while this node was away,
//! and a node that asks to join may have been given a cluster file of which nothing is true any more.
//!
//! Seeds are called by shard 0 alone, since what is to be learned from them is: who the peers are, and where.

use super::meet::{self, MeetError};
use super::{MEET_TIME, Peers, prepare};
use gramme_core::NodeId;
use gramme_node::Ring;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Who is expected to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// This node, and no other.
    Node(NodeId),
    /// Any node of the cluster.
    Anyone,
}

impl Peers {
    /// Keeps a connection to every peer of the ring, whoever that is, for ever.
    pub(crate) async fn dial_for_ever(self: Rc<Self>) {
        if self.shard == 0 {
            for seed in self.company.seeds.clone() {
                tokio::task::spawn_local(self.clone().call_seed_for_ever(seed));
            }
        }
        let mut rings = self.company.rings();
        while rings.changed().await.is_ok() {
            let ring = rings.borrow_and_update().clone();
            self.follow(&ring);
        }
    }

    /// Calls whoever is new, and lets go of whoever is a peer no more.
    fn follow(self: &Rc<Self>, ring: &Ring) {
        let before = self.bells.take();
        let mut bells = BTreeMap::new();
        for &node in ring.peers.keys() {
            let bell = before.get(&node).cloned().unwrap_or_else(|| {
                let bell = Rc::new(Notify::new());
                tokio::task::spawn_local(self.clone().keep_in_touch(node, bell.clone()));
                bell
            });
            bells.insert(node, bell);
        }
        for (node, bell) in before.iter().filter(|(node, _)| !bells.contains_key(node)) {
            bell.notify_one();
            self.links.sever(*node);
        }
        ring.gone.iter().for_each(|node| self.links.sever(*node));
        self.bells.replace(bells);
    }

    /// Keeps a connection to a peer until it is one no more; its bell tells it from one that came back since.
    async fn keep_in_touch(self: Rc<Self>, node: NodeId, bell: Rc<Notify>) {
        let mut pause = PAUSE_MIN;
        loop {
            let is_peer = self.bells.borrow().get(&node).is_some_and(|latest| Rc::ptr_eq(latest, &bell));
            let peer = self.company.ring().peers.get(&node).cloned();
            let Some(peer) = peer.filter(|_| is_peer) else { return };
            match self.dial(&peer.address, Whom::Node(node)).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(e) => {
                    self.was_refused(&format!("{} at {}", peer.name, peer.address), &e);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            sleep(PAUSE_MIN).await;
            tokio::select! {
                () = sleep(pause.saturating_sub(PAUSE_MIN) + jitter()) => {}
                () = bell.notified() => {}
            }
        }
    }

    /// Calls a seed whenever nobody of the ring is connected, unless it turns out to be this node.
    async fn call_seed_for_ever(self: Rc<Self>, seed: String) {
        let mut pause = PAUSE_MIN;
        loop {
            if self.is_alone() {
                match self.dial(&seed, Whom::Anyone).await {
                    Ok(()) => pause = PAUSE_MIN,
                    Err(e) if e.is_yourself() => return,
                    Err(e) => {
                        self.was_refused(&format!("the seed {seed}"), &e);
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
            sleep(pause + jitter()).await;
        }
    }

    fn is_alone(&self) -> bool {
        !self.company.ring().peers.keys().any(|&node| self.links.is_connected(node))
    }

    /// One connection to a node, from its first byte to its last. `Ok` once the two had met.
    async fn dial(self: &Rc<Self>, address: &str, whom: Whom) -> Result<(), MeetError> {
        let socket =
            timeout(CONNECT_TIME, TcpStream::connect(address)).await.map_err(|_| MeetError::Late)??;
        prepare(&socket);
        match &self.company.tls {
            None => {
                let mut socket = socket;
                let met = timeout(MEET_TIME, meet::dial(self, &mut socket, whom)).await;
                let met = met.map_err(|_| MeetError::Late)??;
                if !self.still_wants(whom) {
                    return Ok(());
                }
                let (reader, writer) = socket.into_split();
                self.run(&met.peer, true, reader, writer, met.read, met.seat).await;
            }
            Some(tls) => {
                let met = timeout(MEET_TIME, async {
                    let mut socket = tls.connect(address, socket).await?;
                    let met = meet::dial(self, &mut socket, whom).await?;
                    Ok::<_, MeetError>((socket, met))
                });
                let (socket, met) = met.await.map_err(|_| MeetError::Late)??;
                if !self.still_wants(whom) {
                    return Ok(());
                }
                let (reader, writer) = tokio::io::split(socket);
                self.run(&met.peer, true, reader, writer, met.read, met.seat).await;
            }
        }
        Ok(())
    }

    /// The ring may have changed while the two met.
    fn still_wants(&self, whom: Whom) -> bool {
        match whom {
            Whom::Node(node) => self.bells.borrow().contains_key(&node),
            Whom::Anyone => true,
        }
    }
}

/// Shards that lost a peer at one moment do not come back to it at one moment.
fn jitter() -> Duration {
    Duration::from_millis(crate::random::word() % PAUSE_MIN.as_millis() as u64)
}

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIME: Duration = Duration::from_secs(1);
