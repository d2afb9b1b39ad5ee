//! What all shards of this process tell their peers, and know of them: who this node is, and its ring, which shard 0 says
//! anew whenever it changes.

use super::Roster;
use crate::identity::Identity;
use crate::tls::Tls;
use gramme_core::context::Secret;
use gramme_core::{Layout, Member, NodeId};
use gramme_node::{Peer, Ring};
use gramme_wire::hello::Hello;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// See the module.
pub(crate) struct Company {
    /// What this node says of itself; layout, shard and nonce are filled in for each connection.
    pub(crate) hello: Hello,
    pub(crate) secret: Secret,
    pub(crate) identity: tokio::sync::Mutex<Identity>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) tls: Option<Tls>,
    /// The layout of the cluster file.
    pub(crate) first: Arc<Layout>,
    /// Peer doors that are called while no peer of the ring is connected.
    pub(crate) seeds: Vec<String>,
    ring: watch::Sender<Arc<Ring>>,
}

impl Company {
    /// Of a node that knows no more of its ring than the cluster file says.
    pub(crate) fn new(
        hello: Hello,
        secret: Secret,
        identity: Identity,
        tls: Option<Tls>,
        first: Arc<Layout>,
        seeds: Vec<String>,
    ) -> Company {
        let ring = watch::Sender::new(Arc::new(first_ring(&first, hello.node)));
        let (identity, roster) = (tokio::sync::Mutex::new(identity), Arc::new(Roster::default()));
        Company { hello, secret, identity, roster, tls, first, seeds, ring }
    }

    /// The ring as it is now.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.ring.borrow().clone()
    }

    /// Each ring from now on, the present one first; what came in between may be left out.
    pub(super) fn rings(&self) -> watch::Receiver<Arc<Ring>> {
        let mut rings = self.ring.subscribe();
        rings.mark_changed();
        rings
    }

    /// It has changed.
    pub(crate) fn ring_is(&self, ring: Arc<Ring>) {
        self.ring.send_replace(ring);
    }

    /// The members by the layout that is read by, and by the one that is being gone to: each once, as the newer one
    /// describes it, in order of id.
    pub(crate) fn members(&self) -> Vec<Member> {
        let ring = self.ring();
        let both = ring.reads.members().iter().chain(ring.newest.members());
        let members: BTreeMap<NodeId, &Member> = both.map(|member| (member.id, member)).collect();
        members.into_values().cloned().collect()
    }

    /// What people call a node.
    pub(crate) fn name_of(&self, node: NodeId) -> String {
        let ring = self.ring();
        let member = ring.newest.member(node).or_else(|| ring.reads.member(node));
        let name = member.map(|member| &member.name);
        name.or_else(|| ring.peers.get(&node).map(|peer| &peer.name))
            .map_or_else(|| node.to_string(), String::clone)
    }
}

/// All members of the first layout are peers, and nobody is gone.
fn first_ring(first: &Arc<Layout>, me: NodeId) -> Ring {
    let others = first.members().iter().filter(|member| member.id != me);
    let peer =
        |member: &Member| (member.id, Peer { name: member.name.clone(), address: member.address.clone() });
    Ring {
        reads: first.clone(),
        newest: first.clone(),
        peers: others.map(peer).collect(),
        gone: Default::default(),
    }
}
