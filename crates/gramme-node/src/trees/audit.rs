//! Comparing partitions with their other homes, and making the same what differs (the paper, 4.7; correctness.md 4,
//! L2).
//!
//! ```text
//! roots     every few minutes each shard tells each other home the roots of the partitions they share: one small
//!           message per peer; equal roots verify the partition on the side that compares
//! nodes     of two homes that differ the lesser by id asks, level by level, down to the leaves
//! again     after a pause the same leaves: what was only on its way is the same by then
//! keys      the keys on those leaves, a page at a time, with their items
//! exchange  each key that differs is read at every other home, merged here, and sent to those who lack some of it
//! ```
//!
//! Every record is verified before it is stored or sent, and bears its sender's frontier: what was reclaimed is not
//! brought back. A key that cannot be read, verified or sent is counted and passed over.
//!
//! Invariant: a partition counts as verified with a peer only when all that was found different is the same.
//!
//! It refuses to compare with or for a replica that is not continuous: refilling it is not an audit's work.

use crate::admission::Work;
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::probe::Probe;
use crate::replica::Replica;
use crate::request::Health;
use crate::rows::{self, KIND_DATA};
use crate::serve::read_home;
use crate::store::Kept;
use crate::trees::scan;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::{AUDIT_LEAVES_MAX, AUDIT_PAUSE_MS, TREE_NODES_MAX, TREE_PAGE_BYTES};
use gramme_core::merkle::{FAN_OUT, Item, Tombstones, leaf_of};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::Reply;
use gramme_core::{Content, Frontier, Key, NodeId, PartitionId, Record, Sibling};
use gramme_wire::{Body, Message, Standing, TreeRoot};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What is to be audited.
#[derive(Default)]
pub(crate) struct Audits {
    /// Partitions that were found different from a peer's.
    different: RefCell<BTreeSet<(PartitionId, NodeId)>>,
    /// A person wants everything compared now.
    now: Cell<bool>,
    asked_at: Cell<Option<Mono>>,
    changed: crate::signal::Signal,
}

impl Audits {
    /// When somebody last asked to compare everything at once.
    pub(crate) fn asked_at(&self) -> Option<Mono> {
        self.asked_at.get()
    }

    /// Compares everything as soon as may be.
    pub(crate) fn want_now(&self, now: Mono) {
        self.now.set(true);
        self.asked_at.set(Some(now));
        self.changed.notify();
    }

    /// Partitions that wait for an audit, once for each peer.
    pub(crate) fn waiting(&self) -> usize {
        self.different.borrow().len()
    }
}

/// Tells roots every few minutes and audits whatever differs, for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    let audits = &node.0.trees.audits;
    let interval_ms = node.0.options.upkeep.audit_ms.max(4);
    // Nodes that were started together do not compare together.
    let pause = || Duration::from_millis(interval_ms / 4 * 3 + env.random() % (interval_ms / 2));
    let mut round_at = env.now() + pause() / 2;
    while node.0.store.broken().is_none() {
        let mut timer = pin!(env.sleep_until(round_at));
        poll_fn(|cx| {
            if audits.now.get() || audits.waiting() > 0 {
                return Poll::Ready(());
            }
            audits.changed.register(cx);
            timer.as_mut().poll(cx)
        })
        .await;
        let now = audits.now.take();
        if now || env.now() >= round_at {
            round_at = env.now() + pause();
            node.peers().collect::<Vec<_>>().into_iter().for_each(|peer| tell_roots(&node, peer, now));
        }
        let next = audits.different.borrow_mut().pop_first();
        if let Some((partition, peer)) = next {
            audit(&node, partition, peer).await;
        }
    }
}

/// Tells a peer the roots of the partitions that both keep; `reply` asks for its own.
fn tell_roots<E: Env>(node: &Node<E>, peer: NodeId, reply: bool) {
    let trees = &node.0.trees;
    let live = node.live();
    let shared = |p: &PartitionId| live.is_home(*p, peer) && is_continuous(node, *p);
    let root = |partition| trees.tree(partition, |tree| TreeRoot { partition, root: tree.root() });
    let roots: Vec<TreeRoot> = trees.partitions().into_iter().filter(shared).filter_map(root).collect();
    if roots.is_empty() {
        return;
    }
    let skips_tombstones = trees.tombstones() == Tombstones::Skipped;
    let body = Body::TreeRoots { skips_tombstones, reply, roots };
    // A peer that is away is told in the next round.
    let _ = node.0.routes.tell(peer, Message::NO_PARTITION, body, node.0.env.now() + ASK);
}

/// A peer has told its roots: what this shard owns of them is verified, or to be looked into by one of the two.
pub(crate) fn compare<E: Env>(
    node: &Node<E>,
    from: NodeId,
    skips_tombstones: bool,
    reply: bool,
    roots: &[TreeRoot],
) {
    let trees = &node.0.trees;
    // While the cluster is on its way from one way to the other nothing can be compared.
    if skips_tombstones != (trees.tombstones() == Tombstones::Skipped) {
        return;
    }
    for &TreeRoot { partition, root } in roots {
        let is_shared = node.live().is_home(partition, from) && is_continuous(node, partition);
        match trees.tree(partition, |tree| tree.root() == root).filter(|_| is_shared) {
            Some(true) => verified(node, partition, from),
            Some(false) if node.id() < from => {
                trees.audits.different.borrow_mut().insert((partition, from));
            }
            _ => {}
        }
    }
    trees.audits.changed.notify();
    if reply {
        tell_roots(node, from, false);
    }
}

/// A peer has audited this partition with this node and has made it the same.
pub(crate) fn done<E: Env>(node: &Node<E>, partition: PartitionId, from: NodeId) {
    if node.live().is_home(partition, from) {
        verified(node, partition, from);
    }
}

fn verified<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) {
    let now = node.0.env.now();
    node.0.trees.with(partition, |watched| {
        let audited = watched.audits.entry(peer).or_default();
        (audited.verified_at, audited.differs_since) = (Some(now), None);
    });
    node.0.env.probe(Probe::AuditVerified);
}

fn is_continuous<E: Env>(node: &Node<E>, partition: PartitionId) -> bool {
    node.home(partition).is_some_and(|replica| node.standing_of(&replica) == Standing::Continuous)
}

/// The conversation with one peer about one partition.
struct Audit<'a, E: Env> {
    node: &'a Node<E>,
    replica: Rc<Replica<E>>,
    partition: PartitionId,
    peer: NodeId,
    /// The partition's other homes, as long as they answer.
    others: Vec<NodeId>,
    /// The lesser of both trees' depths.
    depth: u8,
    /// Whether something was left for the next audit.
    is_partial: bool,
}

/// The peer cannot be talked to about this now.
struct BrokenOff;

async fn audit<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) {
    let Some(replica) = node.home(partition) else { return };
    let is_other =
        |&home: &NodeId| home != peer && node.health(home) != Health::Down && !node.is_silent(home);
    let others = node.co_homes(partition).into_iter().filter(is_other).collect();
    let mut audit = Audit { node, replica, partition, peer, others, depth: u8::MAX, is_partial: false };
    let finished = audit.converse().await;
    if finished.is_ok() && !audit.is_partial {
        verified(node, partition, peer);
        // Should it not arrive, the next roots verify it there.
        let _ = node.0.routes.tell(peer, partition, Body::AuditDone, node.0.env.now() + ASK);
    } else {
        let now = node.0.env.now();
        node.0.trees.with(partition, |watched| {
            watched.audits.entry(peer).or_default().differs_since.get_or_insert(now);
        });
    }
}

impl<E: Env> Audit<'_, E> {
    async fn converse(&mut self) -> Result<(), BrokenOff> {
        let mut leaves = self.differing_leaves().await?;
        if !leaves.is_empty() && !planted::on(Bug::AuditComparesOnce) {
            let env = &self.node.0.env;
            env.sleep_until(env.now() + Duration::from_millis(AUDIT_PAUSE_MS)).await;
            leaves = self.still_differing(leaves).await?;
        }
        if leaves.is_empty() {
            return Ok(());
        }
        self.node.0.env.probe(Probe::AuditDiffered);
        self.exchange(leaves).await
    }

    /// Down from the root.
    async fn differing_leaves(&mut self) -> Result<BTreeSet<u32>, BrokenOff> {
        let mut nodes = vec![0];
        let mut level = 0;
        self.depth = self.tree(|tree| tree.depth())?;
        while level < self.depth && !nodes.is_empty() {
            nodes = self.differing_children(level, &nodes).await?;
            level += 1;
            // What lies beyond is found by the next audit.
            self.is_partial |= nodes.len() > AUDIT_LEAVES_MAX;
            nodes.truncate(AUDIT_LEAVES_MAX);
        }
        Ok(nodes.into_iter().collect())
    }

    /// Those of the leaves that are still different.
    async fn still_differing(&mut self, leaves: BTreeSet<u32>) -> Result<BTreeSet<u32>, BrokenOff> {
        let parents: BTreeSet<u32> = leaves.iter().map(|leaf| leaf / FAN_OUT as u32).collect();
        let parents: Vec<u32> = parents.into_iter().collect();
        let again = self.differing_children(self.depth - 1, &parents).await?;
        Ok(again.into_iter().filter(|leaf| leaves.contains(leaf)).collect())
    }

    async fn differing_children(&mut self, level: u8, nodes: &[u32]) -> Result<Vec<u32>, BrokenOff> {
        let mut differing = Vec::new();
        for nodes in nodes.chunks(TREE_NODES_MAX) {
            self.slice((nodes.len() * FAN_OUT * size_of::<Item>()) as u64).await;
            let question = Body::TreeNodes { level, nodes: nodes.to_vec() };
            let Body::TreeNodesReply { depth, hashes } = self.ask(question).await? else {
                return Err(BrokenOff);
            };
            // A tree has more than one level.
            self.depth = self.depth.min(depth);
            if level >= self.depth {
                return Err(BrokenOff);
            }
            differing.extend(self.tree(|tree| tree.differing(level, nodes, &hashes))?.ok_or(BrokenOff)?);
        }
        Ok(differing)
    }

    /// Lists the leaves on both sides, a page of theirs at a time, and exchanges every key that differs.
    async fn exchange(&mut self, leaves: BTreeSet<u32>) -> Result<(), BrokenOff> {
        let mut after: Option<Key> = None;
        loop {
            self.slice(TREE_PAGE_BYTES as u64 / 4).await;
            let question = Body::TreeKeys {
                depth: self.depth,
                leaves: leaves.iter().copied().collect(),
                after: after.clone(),
            };
            let Body::TreeKeysReply { keys, next, unreadable } = self.ask(question).await? else {
                return Err(BrokenOff);
            };
            if next.is_some() && next <= after {
                return Err(BrokenOff);
            }
            for _ in 0..unreadable {
                self.skip();
            }
            let differing = self.compare_keys(&leaves, after, next.as_ref(), keys).await?;
            for key in differing {
                self.exchange_key(&key).await;
            }
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }

    /// The keys after `after` and up to `last` that have another item here than in `theirs`, or none.
    async fn compare_keys(
        &self,
        leaves: &BTreeSet<u32>,
        after: Option<Key>,
        last: Option<&Key>,
        theirs: Vec<(Key, Item)>,
    ) -> Result<BTreeSet<Key>, BrokenOff> {
        let mut theirs: BTreeMap<Key, Item> = theirs.into_iter().collect();
        let mut differing = BTreeSet::new();
        let mut after = after.map(|key| rows::key_row(self.partition, KIND_DATA, &key));
        loop {
            let page = scan::page(self.node, self.partition, after.take()).await.map_err(|_| BrokenOff)?;
            self.slice(page.cost).await;
            let is_past = |key: &Key| last.is_some_and(|last| key > last);
            let mut ended = false;
            for (key, record) in page.rows {
                ended |= is_past(&key);
                if ended || !leaves.contains(&leaf_of(key.as_bytes(), self.depth)) {
                    continue;
                }
                let mine = self.node.0.trees.item(&key, &record);
                if theirs.remove(&key).unwrap_or(0) != mine {
                    differing.insert(key);
                }
            }
            match page.next {
                Some(next) if !ended => after = Some(next),
                _ => break,
            }
        }
        differing.extend(theirs.into_keys());
        Ok(differing)
    }

    /// Makes one key the same on both sides.
    async fn exchange_key(&mut self, key: &Key) {
        match self.try_exchange(key).await {
            Some(()) => self.node.0.env.probe(Probe::AuditRepaired),
            None => self.skip(),
        }
    }

    /// What the peer holds is joined in here, then what every other home holds, and the peer and whoever else lacks
    /// some of that are sent the whole. Of two homes alone one might teach the other what the third knows to be gone.
    async fn try_exchange(&mut self, key: &Key) -> Option<()> {
        self.node.0.store.forget_cached(&self.replica.row(key));
        let theirs = self.take(self.peer, key).await?;
        let mut others = BTreeMap::new();
        for home in std::mem::take(&mut self.others) {
            if let Some(held) = self.take(home, key).await {
                others.insert(home, held);
            }
        }
        // Who has not answered once is not waited for again.
        self.others.extend(others.keys());
        let (mine, stamp) = read_home(self.node, &self.replica, key).await.ok()?;
        if !is_sound(&mine.record) {
            return None;
        }
        for (home, held) in others {
            // It is at the next audit with that one that this is looked at again.
            let _ = self.give(home, key, &held, &mine, &stamp).await;
        }
        self.give(self.peer, key, &theirs, &mine, &stamp).await
    }

    /// What a home holds of a key, joined in here unless it is unsound.
    async fn take(&self, home: NodeId, key: &Key) -> Option<Record> {
        let answer = self.ask_of(home, Body::Read { key: key.clone() }).await.ok()?;
        let Body::ReadReply { standing: Standing::Continuous, record, frontier } = answer else {
            return None;
        };
        let encoded = record.unwrap_or_default();
        self.slice(encoded.len() as u64).await;
        let theirs = if encoded.is_empty() { Record::new() } else { decode_record(&encoded).ok()? };
        let (mine, own) = read_home(self.node, &self.replica, key).await.ok()?;
        self.report(
            Reply { record: &mine.record, frontier: &own },
            Reply { record: &theirs, frontier: &frontier },
        );
        if is_sound(&theirs) && !theirs.is_empty() {
            let merged = self.replica.merge(key, &encoded, &frontier, &[]).await.ok()?;
            self.node.0.store.wait(merged.batch).await.ok()?;
        }
        Some(theirs)
    }

    /// Sends a home what this one holds of a key, if it lacks any of that.
    async fn give(
        &self,
        home: NodeId,
        key: &Key,
        held: &Record,
        mine: &Kept,
        stamp: &Frontier,
    ) -> Option<()> {
        if is_sound(held) && !held.lacks(&mine.record) {
            return Some(());
        }
        if mine.record.is_empty() {
            return None;
        }
        let (key, record) = (key.clone(), mine.encoded.clone());
        let body =
            Body::Merge { key, record, hint_for: None, stamp: stamp.clone(), buffered: false, fence: 0 };
        match self.ask_of(home, body).await {
            Ok(Body::MergeReply) => Some(()),
            _ => None,
        }
    }

    /// Says loudly what sound replicas cannot show each other.
    fn report(&self, mine: Reply<'_>, theirs: Reply<'_>) {
        let env = &self.node.0.env;
        let both = mine.record.siblings().iter().filter_map(|s| Some((s, theirs.record.sibling(s.dot)?)));
        if both.into_iter().any(|(here, there)| here.checksum != there.checksum)
            || !is_sound(mine.record)
            || !is_sound(theirs.record)
        {
            env.probe(Probe::AuditCorrupt);
        }
        // A tombstone beside a value goes at one home before the other, and nothing is lost by that.
        let is_value = |s: &&Sibling| s.content != Content::Tombstone;
        let lost = |holder: &Record, other: &Record| {
            let mut values = holder.siblings().iter().filter(is_value);
            values.any(|s| mine.frontier.covers(s.dot) && !other.clock.covers(s.dot))
        };
        let as_far = mine.frontier == theirs.frontier;
        if as_far && (lost(mine.record, theirs.record) || lost(theirs.record, mine.record)) {
            env.probe(Probe::AuditConflict);
        }
    }

    fn skip(&mut self) {
        self.is_partial = true;
        self.node.0.env.probe(Probe::AuditSkipped);
    }

    fn tree<T>(&self, look: impl FnOnce(&gramme_core::merkle::Tree) -> T) -> Result<T, BrokenOff> {
        self.node.0.trees.tree(self.partition, look).ok_or(BrokenOff)
    }

    async fn slice(&self, bytes: u64) {
        self.node.admission().slice(Work::Rebuild, bytes).await;
    }

    async fn ask(&self, body: Body) -> Result<Body, BrokenOff> {
        self.ask_of(self.peer, body).await
    }

    async fn ask_of(&self, home: NodeId, body: Body) -> Result<Body, BrokenOff> {
        let deadline = self.node.0.env.now() + ASK;
        let mut asked = self.node.0.routes.fan_out(&[home], self.partition, body, deadline);
        match asked.next(deadline).await {
            Step::Answer(_, Answer::Said(body)) => Ok(body),
            Step::Answer(..) | Step::Time | Step::Exhausted => Err(BrokenOff),
        }
    }
}

fn is_sound(record: &Record) -> bool {
    planted::on(Bug::AuditSpreadsCorrupt) || record.siblings().iter().all(|sibling| sibling.verifies())
}

/// The children of these nodes of a partition's tree.
pub(crate) fn nodes_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    level: u8,
    nodes: &[u32],
) -> Option<Body> {
    let answer = node.0.trees.tree(partition, |tree| {
        let children: Option<Vec<[Item; FAN_OUT]>> =
            nodes.iter().map(|&node| tree.children(level, node)).collect();
        Some(Body::TreeNodesReply { depth: tree.depth(), hashes: children.unwrap_or_default().concat() })
    });
    answer.flatten().filter(|_| is_continuous(node, partition))
}

/// One page of the keys that fall on these leaves.
pub(crate) async fn keys_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    depth: u8,
    leaves: &BTreeSet<u32>,
    after: Option<Key>,
) -> Option<Body> {
    if !is_continuous(node, partition) || !(1..=gramme_core::merkle::DEPTH_MAX).contains(&depth) {
        return None;
    }
    let after = after.map(|key| rows::key_row(partition, KIND_DATA, &key));
    let page = scan::page(node, partition, after).await.ok()?;
    let is_wanted = |key: &[u8]| leaves.contains(&leaf_of(key, depth));
    let lost = u32::from(!page.whole && page.corrupt.is_empty());
    let unreadable = lost + page.corrupt.iter().filter(|row| is_wanted(&rows::rest(row))).count() as u32;
    let keys =
        page.rows.into_iter().filter(|(key, _)| is_wanted(key.as_bytes())).filter_map(|(key, record)| {
            let item = node.0.trees.item(&key, &record);
            (item != 0).then_some((key, item))
        });
    let keys = keys.collect();
    let next: Option<Bytes> = page.next.map(|row| rows::rest(&row));
    let next = match next {
        // A key that cannot be read cannot be named: the list ends before it, and says that it is not whole.
        Some(rest) => match Key::from_joined(rest) {
            Ok(key) => Some(key),
            Err(_) => return None,
        },
        None => None,
    };
    Some(Body::TreeKeysReply { keys, next, unreadable })
}

/// A peer's time for one answer. Audits are nobody's wait.
const ASK: Duration = Duration::from_secs(5);
