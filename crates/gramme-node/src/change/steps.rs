//! Shard 0 looks at what every node has said and takes the step that may be taken next; then says so, durably, to
//! everyone. All that it decides by is what is known, so it may look at any time and any number of times.
//!
//! ```text
//! adopt   every shard works by the target too          ──▶ said
//! fill    everyone has adopted, every shard holds all  ──▶ said
//! read    everyone has filled; every shard reads by it, nothing older is under way ──▶ said
//! rest    everyone reads by it: older ones are dropped by every shard; what is left is handed over ──▶ emptied is said
//! ```

use super::load::{all_progress, progress_of};
use super::{Installing, Report};
use crate::cluster_gossip;
use crate::env::{Env, Fact, Mono, Peer, Ring};
use crate::live::Live;
use crate::node::Node;
use crate::probe::Probe;
use gramme_core::NodeId;
use gramme_core::change::{Chain, Progress, Stand, Step, catch_up, stand};
use gramme_core::gossip::{Gossip, Name, NodeFact};
use gramme_core::paxos::Decree;
use gramme_core::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A shard has told how far it is.
pub(crate) fn heard<E: Env>(node: &Node<E>, report: Report) {
    if node.0.options.shard != 0 {
        return;
    }
    {
        let mut reports = node.0.changing.reports.borrow_mut();
        let latest = reports.entry(report.shard).or_default();
        // One that was overtaken is of what was.
        if report.number <= latest.number {
            return;
        }
        *latest = report;
    }
    look(node);
}

/// Takes what steps may be taken; see the module.
pub(crate) fn look<E: Env>(node: &Node<E>) {
    if node.0.options.shard != 0 {
        return;
    }
    let changing = &node.0.changing;
    let next = {
        let (chain, known) = (changing.chain.borrow(), node.0.cluster.known());
        let said = all_progress(&known, node.id());
        let mine = mine(node, &known);
        match catch_up(&chain, mine, &said) {
            Some(there) => Err(there),
            None => Ok((stand(&chain, node.id(), mine, &said), mine, said)),
        }
    };
    let (stand, mine, said) = match next {
        Ok(next) => next,
        Err(there) => return say(node, there),
    };
    let gone = gone(&changing.chain.borrow(), mine, node.id(), &said);
    let may_read =
        stand.step == Step::Read && (stand.awaited.is_empty() || planted::on(Bug::ReadsSwitchEarly));
    let reads = if may_read { stand.target } else { mine.reads };
    let live = {
        let chain = changing.chain.borrow();
        let leaving = leaving(&chain, &said);
        let decrees = match planted::on(Bug::WritesNewestOnly) {
            true => BTreeSet::from([reads, stand.target]),
            false => stand.live.clone(),
        };
        Live::of(&chain, &decrees, reads, mine.adopted, leaving)
    };
    *changing.gone.borrow_mut() = gone;
    if let Some(live) = live {
        install(node, live);
    }
    tell_outside(node);
    let reached = step_taken(node, &stand, mine, may_read);
    *changing.stand.borrow_mut() = Some(stand);
    changing.news.notify();
    if let Some(reached) = reached {
        say(node, reached);
    }
}

/// A peer goes by other layouts than this node, as a write that it sent has shown: the two compare at once.
pub(crate) fn differs<E: Env>(node: &Node<E>, peer: NodeId) {
    let now = node.0.env.now();
    let last = node.0.changing.compared_at.get();
    if now.since(last) < COMPARE_AGAIN && last > Mono::default() {
        return;
    }
    node.0.changing.compared_at.set(now);
    match node.0.options.shard {
        0 => cluster_gossip::greet(node, peer),
        _ => node.0.env.tell_shards(Fact::Differs(peer)),
    }
}

/// What this node has said last; where it begins, if it has said nothing.
pub(crate) fn mine<E: Env>(node: &Node<E>, known: &Gossip) -> Progress {
    progress_of(known, node.id()).unwrap_or(Progress::at(beginning(node)))
}

/// The number of the first layout, by which everyone begins.
fn beginning<E: Env>(node: &Node<E>) -> Decree {
    Decree { lineage: 0, version: node.0.options.layout.version() }
}

/// What may be said now that every shard has come so far.
fn step_taken<E: Env>(node: &Node<E>, stand: &Stand, mine: Progress, may_read: bool) -> Option<Progress> {
    let changing = &node.0.changing;
    let reports = changing.reports.borrow();
    let is_all = |has: fn(&Report) -> bool| {
        let now = reports.values().filter(|report| report.epoch == changing.epoch.get() && has(report));
        now.count() == node.0.options.shards
    };
    let target = stand.target;
    match stand.step {
        Step::Adopt if is_all(|_| true) => Some(Progress { adopted: target, ..mine }),
        Step::Fill if stand.awaited.is_empty() && is_all(|report| report.filled) => {
            Some(Progress { filled: target, ..mine })
        }
        Step::Read if may_read && is_all(|report| report.drained) => Some(Progress { reads: target, ..mine }),
        Step::Rest
            if stand.awaited.is_empty()
                && mine.reads != beginning(node)
                && mine.emptied != mine.reads
                && is_all(|report| report.empty) =>
        {
            Some(Progress { emptied: mine.reads, ..mine })
        }
        _ => None,
    }
}

/// Has every shard work by these layouts, if it does not yet.
fn install<E: Env>(node: &Node<E>, live: Live) {
    let changing = &node.0.changing;
    if changing.installed.borrow().is_same(&live) {
        return;
    }
    let epoch = changing.epoch.get() + 1;
    changing.epoch.set(epoch);
    *changing.installed.borrow_mut() = Arc::new(live.clone());
    let installing = Arc::new(Installing { epoch, live });
    node.0.env.probe(Probe::RingInstalled);
    node.0.env.tell_shards(Fact::Layouts(installing.clone()));
    node.0.shift.hand(installing);
}

/// Says how far this node has come, unless that is on its way already.
fn say<E: Env>(node: &Node<E>, progress: Progress) {
    let stamp = node.0.hlc.borrow_mut().next(node.0.env.wall_ms());
    node.0.cluster.say_progress(node.id(), progress, stamp);
}

/// Whether a node that is a member no longer has said that it keeps nothing of what it had as one; `None` if it is a
/// member, or never was.
fn has_handed_over(chain: &Chain, node: NodeId, progress: Progress) -> Option<bool> {
    chain.last_as_member(node).map(|last| progress.emptied > last)
}

/// Nodes that were removed and have handed over all they had.
fn gone(chain: &Chain, mine: Progress, me: NodeId, said: &BTreeMap<NodeId, Progress>) -> BTreeSet<NodeId> {
    let removed = chain.head().1.removed();
    let is_gone = |(node, progress): (NodeId, Progress)| {
        let is_gone = removed.contains(&node) && has_handed_over(chain, node, progress) == Some(true);
        is_gone.then_some(node)
    };
    let all = said.iter().map(|(node, progress)| (*node, *progress)).chain([(me, mine)]);
    all.filter_map(is_gone).collect()
}

/// Nodes that were members, went in an orderly way, and may still have something to hand over.
fn leaving(chain: &Chain, said: &BTreeMap<NodeId, Progress>) -> Vec<NodeId> {
    let was_lost = |node: NodeId| chain.line().any(|(_, layout)| layout.lost().contains(&node));
    let leaves = |(&node, &progress): (&NodeId, &Progress)| {
        (has_handed_over(chain, node, progress) == Some(false) && !was_lost(node)).then_some(node)
    };
    said.iter().filter_map(leaves).collect()
}

/// Tells the outside of this node who its peers are, if that has changed.
pub(crate) fn tell_outside<E: Env>(node: &Node<E>) {
    let changing = &node.0.changing;
    let live = changing.installed.borrow().clone();
    let peers = live.voices().iter().filter(|&&peer| peer != node.id());
    let facts = node.0.cluster.known();
    let peer = |&id: &NodeId| {
        let fact = facts.get(&Name::Node(id)).and_then(|entry| NodeFact::read(entry).ok());
        let member = live.member(id);
        let says = fact.filter(|fact| !fact.address.is_empty()).map(|fact| (fact.name, fact.address));
        let (name, address) = says.or(member.map(|m| (m.name.clone(), m.address.clone())))?;
        Some((id, Peer { name, address }))
    };
    let ring = Ring {
        reads: live.reads().clone(),
        newest: live.newest().clone(),
        peers: peers.filter_map(peer).collect(),
        gone: changing.gone.borrow().clone(),
    };
    drop(facts);
    let is_news = changing.told.borrow().as_ref().is_none_or(|told| !is_same(told, &ring));
    if is_news {
        let ring = Arc::new(ring);
        *changing.told.borrow_mut() = Some(ring.clone());
        node.0.env.ring_is(ring);
    }
}

/// Between two comparisons because of what writes have shown.
const COMPARE_AGAIN: Duration = Duration::from_millis(20);

fn is_same(one: &Ring, other: &Ring) -> bool {
    let of = |ring: &Ring| (ring.reads.hash(), ring.newest.hash());
    of(one) == of(other) && one.peers == other.peers && one.gone == other.gone
}
