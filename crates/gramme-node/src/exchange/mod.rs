//! How homes of a partition come to agree without a client's help: every few seconds they compare what they
//! have seen, and whoever has seen less pulls exactly what it lacks (correctness.md 2.2 and 4, L1).
//!
//! ```text
//! compare   one small message per peer, digests of the seen clocks of all shared partitions; the answer
//!           brings the clocks that differ, and what the answerer remembers of the asker
//! ask       a pull session: every record with a sibling that I have not seen, page by page; once all of them
//!           are durable here I have seen everything that the sender had at the session's start
//! give      the other side of it
//! standing  which life of a replica this is, and whether its silence proves anything
//! refill    a replica that lost something pulls everything from every other home, then is whole again
//! recent    the keys of recent dots, so that a session which lacks few reads few
//! ```
//!
//! Invariant: a seen clock grows by what a session showed only when all of it is durable here. A session that
//! breaks leaves records, and no claim.
//!
//! What this cannot show: records that a disk lost silently after they were seen. Comparing contents finds those.

mod ask;
mod compare;
mod give;
mod members;
mod recent;
mod refill;
mod standing;

pub(crate) use ask::pull;
pub(crate) use compare::{answer, answered};
pub(crate) use give::{ask_seen, begin, more};
pub(crate) use members::Members;
pub(crate) use recent::Recent;
pub(crate) use standing::{Continuity, Past};

use crate::change::commit;
use crate::env::{Env, Mono, Trust};
use crate::node::Node;
use crate::replica::Replica;
use crate::request::{Lag, Refilling};
use compare::{Behind, Round};
use give::Session;
use gramme_core::limits::{EXCHANGE_MS, REMEMBER_MS};
use gramme_core::{NodeId, PartitionId};
use gramme_wire::PullOf;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// What a shard knows of its comparisons and sessions.
pub(crate) struct Exchange<E: Env> {
    /// The last question put to each peer.
    rounds: RefCell<BTreeMap<NodeId, Round>>,
    /// Where this shard lacked something when last compared.
    behind: RefCell<BTreeMap<(PartitionId, NodeId), Behind>>,
    /// Sessions to be asked for, in order.
    wanted: RefCell<VecDeque<(PartitionId, NodeId)>>,
    /// Sessions being asked for.
    asking: RefCell<BTreeSet<(PartitionId, NodeId, PullOf)>>,
    /// Sessions of a home that is being filled which have just failed, and are wanted again in a moment.
    resting: RefCell<BTreeSet<(PartitionId, NodeId)>>,
    /// Sessions being served, by number.
    serving: RefCell<BTreeMap<u64, Session<E>>>,
    remembered_at: Cell<Mono>,
}

impl<E: Env> Default for Exchange<E> {
    fn default() -> Exchange<E> {
        Exchange {
            rounds: RefCell::default(),
            behind: RefCell::default(),
            wanted: RefCell::default(),
            asking: RefCell::default(),
            resting: RefCell::default(),
            serving: RefCell::default(),
            remembered_at: Cell::default(),
        }
    }
}

/// Compares with every peer at once.
pub(crate) fn compare_now<E: Env>(node: &Node<E>) {
    let comparer = node.clone();
    node.0.env.spawn("compare", async move {
        let peers: Vec<NodeId> = comparer.peers().collect();
        compare::compare(&comparer, &peers, false).await;
    });
}

/// Compares with every peer every few seconds, for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        let quarter = EXCHANGE_MS / 4;
        let pause = EXCHANGE_MS - quarter + env.random() % (2 * quarter);
        env.sleep_until(env.now() + Duration::from_millis(pause)).await;
        let peers: Vec<NodeId> = node.peers().collect();
        compare::compare(&node, &peers, false).await;
        refill::continue_all(&node);
        remember(&node);
    }
}

/// Homes that have come are to be filled: every other home is asked at once.
pub(crate) fn fill<E: Env>(node: &Node<E>) {
    if node.0.options.exchange {
        refill::continue_all(node);
    }
}

/// A connection stands: whatever was missed is asked for at once.
pub(crate) fn connected<E: Env>(node: &Node<E>, peer: NodeId) {
    let shard = node.clone();
    node.0.env.spawn("compare", async move {
        compare::compare(&shard, &[peer], true).await;
        refill::continue_all(&shard);
    });
}

/// A peer is gone: it will not go on with its sessions, nor with ours.
pub(crate) fn disconnected<E: Env>(node: &Node<E>, peer: NodeId) {
    node.0.exchange.rounds.borrow_mut().remove(&peer);
    node.0.exchange.serving.borrow_mut().retain(|_, session| session.asker() != peer);
    node.0.exchange.wanted.borrow_mut().retain(|wanted| wanted.1 != peer);
}

/// What is known of this node's directory has changed.
pub(crate) fn trust<E: Env>(node: &Node<E>, trust: Trust) {
    let before = node.0.trust.replace(trust);
    if trust != Trust::Lost || before == Trust::Lost {
        return;
    }
    if node.0.options.shard == 0 {
        commit::forget(node);
    }
    for (_, replica) in node.homes() {
        // A store that refuses this takes no writes, and its silence counts for nothing all the same.
        let _ = replica.mistrust(0);
    }
    refill::continue_all(node);
}

/// The home replicas here that are being refilled, and the homes that are still to be pulled from.
pub(crate) fn refilling<E: Env>(node: &Node<E>) -> Vec<Refilling> {
    let of = |(partition, replica): (PartitionId, Rc<Replica<E>>)| {
        let from = replica.awaited(&node.co_homes(partition));
        let has_lost = replica.is_unproven() && !replica.is_new();
        has_lost.then_some(Refilling { partition, from })
    };
    node.homes().into_iter().filter_map(of).collect()
}

/// What peers have seen and this shard has not, when they last compared.
pub(crate) fn behind<E: Env>(node: &Node<E>) -> Vec<Lag> {
    let now = node.0.env.now();
    let behind = node.0.exchange.behind.borrow();
    let of = |(&(partition, peer), behind): (&(PartitionId, NodeId), &Behind)| {
        let unseen = node.home(partition)?.seen().count_lacking(&behind.theirs);
        (unseen > 0).then(|| Lag { partition, peer, unseen, known_for: now.since(behind.since) })
    };
    behind.iter().filter_map(of).collect()
}

/// Writes down what co-homes have reported, now and then: what is lost of it delays, and harms nothing.
fn remember<E: Env>(node: &Node<E>) {
    let now = node.0.env.now();
    if now.since(node.0.exchange.remembered_at.get()) < Duration::from_millis(REMEMBER_MS) {
        return;
    }
    node.0.exchange.remembered_at.set(now);
    let rows: Vec<_> = node.homes().iter().filter_map(|(_, replica)| replica.members_to_save()).collect();
    if !rows.is_empty() {
        // A store that refuses has said so to whoever writes.
        let _ = node.0.store.append_plain(rows);
    }
}

impl<E: Env> Exchange<E> {
    /// Sessions whose askers have gone away hold nothing any longer.
    pub(crate) fn end_sessions_left_alone(&self, now: Mono) {
        self.serving.borrow_mut().retain(|_, session| !session.is_over(now));
    }

    /// Sessions that this shard runs with hint stores.
    pub(crate) fn hint_pulls(&self) -> usize {
        self.asking.borrow().iter().filter(|asked| asked.2 != PullOf::Home).count()
    }

    /// A session with this peer has brought everything that it knew of.
    fn caught_up(&self, replica: &Replica<E>, partition: PartitionId, peer: NodeId) {
        let mut behind = self.behind.borrow_mut();
        if behind.get(&(partition, peer)).is_some_and(|behind| replica.seen().contains(&behind.theirs)) {
            behind.remove(&(partition, peer));
        }
    }
}
