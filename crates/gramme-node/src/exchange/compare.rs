//! Comparing what was seen: one message of digests per peer and round, and its answer.
//!
//! Invariant: whatever is told of a seen clock, in digest or in full, was durable before it left. So equal
//! digests teach both sides what the other has durably seen.
//!
//! Under load two clocks are seldom equal: writes are on their way. Only what was missing in the round before
//! and still is, is pulled, or everything at once when a connection begins to stand.

use crate::closing;
use crate::env::{Env, Mono};
use crate::exchange::{ask, refill};
use crate::node::Node;
use crate::probe::Probe;
use crate::replica::Replica;
use crate::serve::now_or_later;
use gramme_core::limits::{EXCHANGE_MS, SERVED_MAX};
use gramme_core::{Frontier, NodeId, PartitionId, Seen};
use gramme_wire::{Body, Compared, Difference, Digest, Message};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// A question that was put to one peer.
pub(crate) struct Round {
    correlation: u64,
    /// Whether a connection has just begun to stand.
    first: bool,
    /// What was told: the life, and how far everything was durable.
    told: BTreeMap<PartitionId, (u64, Frontier)>,
}

/// What a peer has durably seen of a partition and this node has not, when they last compared.
pub(crate) struct Behind {
    pub(crate) theirs: Seen,
    /// Since when some of it is known to be missing.
    pub(crate) since: Mono,
}

/// Tells these peers in short what this shard has durably seen of the partitions that it shares with them.
pub(crate) async fn compare<E: Env>(node: &Node<E>, peers: &[NodeId], first: bool) {
    let digests: Vec<(Digest, Frontier)> = node
        .homes()
        .into_iter()
        .map(|(partition, replica)| {
            let life = node.life_of(&replica);
            let seen = replica.compared_digest();
            (Digest { partition, life, seen }, replica.bases_of(&replica.seen()))
        })
        .collect();
    let hopeless = node.0.store.is_full() || node.0.served.get() >= SERVED_MAX;
    if digests.is_empty() || hopeless || node.0.store.wait_all().await.is_err() {
        return;
    }
    let live = node.live();
    for &peer in peers {
        let shared = |digest: &&(Digest, Frontier)| live.is_home(digest.0.partition, peer);
        let told =
            digests.iter().filter(shared).map(|(d, bases)| (d.partition, (d.life.number, bases.clone())));
        let told: BTreeMap<_, _> = told.collect();
        if told.is_empty() {
            continue;
        }
        let digests = digests.iter().filter(shared).map(|(digest, _)| *digest).collect();
        let deadline = node.0.env.now() + Duration::from_millis(EXCHANGE_MS);
        let asked = node.0.routes.announce(peer, Body::Digests { digests }, deadline);
        if let Some(correlation) = asked {
            node.0.env.probe(Probe::DigestsSent);
            // The answer to a first round may have been overtaken by the next round's question.
            let first = first || node.0.exchange.rounds.borrow().get(&peer).is_some_and(|round| round.first);
            node.0.exchange.rounds.borrow_mut().insert(peer, Round { correlation, first, told });
        }
    }
}

/// A peer has told in short what it has seen. Every shard answers for the partitions that it owns.
pub(crate) fn answer<E: Env>(node: &Node<E>, from: NodeId, correlation: u64, digests: &[Digest]) {
    let compared: Vec<Compared> = digests.iter().filter_map(|digest| look(node, from, *digest)).collect();
    let hopeless = node.0.store.is_full() || node.0.served.get() >= SERVED_MAX;
    if compared.is_empty() || hopeless {
        return;
    }
    let node = node.clone();
    now_or_later(&node.clone(), "compare answer", async move {
        if node.0.store.wait_all().await.is_err() {
            return;
        }
        for part in compared.chunks(COMPARED_MAX) {
            let body = Body::DigestsReply { compared: part.to_vec() };
            let sent_ns = node.0.env.now().0;
            let partition = Message::NO_PARTITION;
            // An answer that cannot be sent is made up for by the next round.
            let _ = node.0.env.send(from, Message { correlation, partition, remaining_us: 0, sent_ns, body });
        }
    });
}

fn look<E: Env>(node: &Node<E>, from: NodeId, digest: Digest) -> Option<Compared> {
    let Digest { partition, life: theirs, seen } = digest;
    let replica = co_home(node, partition, from)?;
    let life = node.life_of(&replica);
    let mine = replica.seen();
    let equal = replica.compared_digest() == seen;
    let bases = replica.bases_of(&mine);
    let members = replica.members();
    let forgot = members.is_more_than(from, theirs, &bases);
    let closed = replica.ends().closed().digest();
    let remembered = || members.of(from).cloned();
    let difference =
        (!equal || forgot).then(|| Difference { seen: mine.clone(), closed, remembered: remembered() });
    drop((members, mine));
    let bases = if equal { bases } else { Frontier::none() };
    replica.note_member(from, theirs, bases);
    Some(Compared { partition, life, difference })
}

/// A peer has compared.
pub(crate) fn answered<E: Env>(node: &Node<E>, from: NodeId, correlation: u64, compared: Vec<Compared>) {
    let exchange = &node.0.exchange;
    let Some((first, mut told)) = exchange.rounds.borrow().get(&from).and_then(|round| {
        let told = |c: &Compared| Some((c.partition, round.told.get(&c.partition)?.clone()));
        let all: BTreeMap<_, _> = compared.iter().filter_map(told).collect();
        (round.correlation == correlation).then_some((round.first, all))
    }) else {
        return;
    };
    let mut mistrusted = false;
    for Compared { partition, life, difference } in compared {
        let Some((my_life, bases)) = told.remove(&partition) else { continue };
        let Some(replica) = co_home(node, partition, from) else { continue };
        if node.life_of(&replica).number != my_life {
            continue;
        }
        let mut told = true;
        match difference {
            None => {
                replica.note_member(from, life, bases);
                exchange.behind.borrow_mut().remove(&(partition, from));
            }
            Some(difference) => {
                told = difference.remembered.as_ref().is_none_or(|remembered| replica.can_judge(remembered));
                if let Some(remembered) = &difference.remembered
                    && replica.has_forgotten(remembered)
                {
                    // A store that refuses this takes no writes either, and the process is to be started anew.
                    let _ = replica.mistrust(remembered.life);
                    mistrusted = true;
                }
                replica.note_member(from, life, replica.bases_of(&difference.seen));
                if difference.closed != replica.ends().closed().digest() {
                    learn(node, partition, from);
                }
                if fall_behind(node, &replica, partition, from, difference.seen) || first {
                    ask::want(node, partition, from);
                }
            }
        }
        if told {
            replica.was_compared(from);
        }
    }
    if let Some(round) = exchange.rounds.borrow_mut().get_mut(&from) {
        round.first = false;
    }
    if mistrusted {
        refill::continue_all(node);
    }
    ask::next(node);
}

/// Notes what a peer has seen and this node has not; whether some of it was missing before.
fn fall_behind<E: Env>(
    node: &Node<E>,
    replica: &Replica<E>,
    partition: PartitionId,
    peer: NodeId,
    theirs: Seen,
) -> bool {
    let mut behind = node.0.exchange.behind.borrow_mut();
    let mine = replica.seen();
    if mine.contains(&theirs) {
        behind.remove(&(partition, peer));
        return false;
    }
    let before = behind.get(&(partition, peer)).filter(|before| !mine.contains(&before.theirs));
    let since = before.map_or(node.0.env.now(), |before| before.since);
    let still = before.is_some();
    behind.insert((partition, peer), Behind { theirs, since });
    still
}

/// What a peer knows to be closed, and this node perhaps does not.
fn learn<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) {
    let node = node.clone();
    node.0.env.clone().spawn("learn what has ended", async move {
        // The next round tries again.
        let _ = closing::learn_from(&node, partition, peer).await;
    });
}

fn co_home<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) -> Option<Rc<Replica<E>>> {
    node.home(partition).filter(|_| node.live().is_home(partition, peer))
}

/// Partitions of one answer: with seen clocks of the usual size it is a few tens of kilobytes.
const COMPARED_MAX: usize = 256;
