//! How tombstones go: every few seconds a home finds out how far all homes have durably seen, and lets go of what
//! nobody needs to hear of any more (correctness.md 2.2; [`gramme_core::reclaim`] has the rules).
//!
//! ```text
//! F = least of what every home reports as durable ──▶ R = R ∨ F, durable first ──▶ a paced walk over the rows
//!                                                      rules at once: stamps,        removes tombstones, strips
//!                                                      late states, reads            clocks; may end anywhere
//! ```
//!
//! Invariant: no row goes before the frontier under which it goes is on its way to the disk, in the same batch or
//! an earlier one.
//!
//! It refuses to guess. A home that is down, or that has lost something and is being refilled, holds its
//! partitions back, visibly, for as long as it takes. While a pull session reads here nothing goes: its asker
//! would take what it was not sent for what was never there.

use crate::admission::Work;
use crate::closing;
use crate::env::Env;
use crate::node::Node;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::{Replica, Role};
use crate::rows::{self, KIND_DATA, KIND_FRONTIER};
use crate::store::Kept;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::{RECLAIM_MS, RECLAIM_SLICE_BYTES, SURVEY_MAX};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{is_dead, reclaimable, stable, strip};
use gramme_core::{Frontier, Incarnation, NodeId, PartitionId, Record};
use gramme_storage::EngineError;
use gramme_wire::Standing;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// What one home replica knows of its frontier and its tombstones.
#[derive(Debug, Default)]
pub(crate) struct Reclaim {
    frontier: RefCell<Frontier>,
    /// Of each home that sends all it has just now, the frontier with which it began.
    filling: RefCell<BTreeMap<NodeId, Frontier>>,
    /// Records that are nothing but tombstones. Counted by each walk and followed between them; unknown before
    /// the first.
    tombstones: Cell<Option<u64>>,
    /// The frontier of the last walk that came to its end.
    walked: RefCell<Option<Frontier>>,
    /// Incarnations of which a tombstone that had to stay in the last walk names more than was seen.
    named: RefCell<BTreeSet<Incarnation>>,
}

impl Reclaim {
    /// The frontier as it was stored.
    pub(crate) fn set(&self, frontier: Frontier) {
        *self.frontier.borrow_mut() = frontier;
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.frontier.borrow().clone()
    }

    /// A home has begun to send all it has, at this frontier.
    pub(crate) fn filling_begins(&self, from: NodeId, frontier: &Frontier) {
        if !frontier.is_none() {
            self.filling.borrow_mut().insert(from, frontier.clone());
        }
    }

    /// It has sent all, or no longer does.
    pub(crate) fn filling_ends(&self, from: NodeId) {
        self.filling.borrow_mut().remove(&from);
    }

    /// The frontiers of the homes that send all they have just now.
    pub(crate) fn filling(&self) -> Vec<Frontier> {
        self.filling.borrow().values().cloned().collect()
    }

    /// A record has changed here.
    pub(crate) fn changed(&self, before: &Record, after: &Record) {
        let Some(count) = self.tombstones.get() else { return };
        let now = match (is_dead(before), is_dead(after)) {
            (false, true) => count + 1,
            (true, false) => count.saturating_sub(1),
            _ => count,
        };
        self.tombstones.set(Some(now));
    }

    /// Records that are nothing but tombstones, as far as they were counted.
    pub(crate) fn tombstones(&self) -> u64 {
        self.tombstones.get().unwrap_or(0)
    }

    /// Incarnations of which a tombstone that had to stay in the last walk names more than was seen.
    pub(crate) fn named(&self) -> Vec<Incarnation> {
        self.named.borrow().iter().copied().collect()
    }

    /// A row can be read again that the last walk may have passed over.
    pub(crate) fn walk_again(&self) {
        *self.walked.borrow_mut() = None;
    }

    /// The frontier of a replica that has lost what it had.
    pub(crate) fn forget(&self) {
        *self.frontier.borrow_mut() = Frontier::none();
        *self.walked.borrow_mut() = None;
        self.named.borrow_mut().clear();
    }
}

/// Lets go of what everyone has seen, for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        let pause = RECLAIM_MS - RECLAIM_MS / 4 + env.random() % (RECLAIM_MS / 2);
        env.sleep_until(env.now() + Duration::from_millis(pause)).await;
        for (partition, replica) in node.homes() {
            // A store that refuses has said so to whoever writes; the next round tries again.
            let _ = pass(&node, partition, &replica).await;
        }
    }
}

/// The homes that hold a partition's frontier back, as this one sees it: those that have reported nothing in
/// their present life, and those that are not connected while tombstones wait; and whoever must be there before a
/// hole is closed.
pub(crate) fn blocked_by<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    replica: &Replica<E>,
) -> Vec<NodeId> {
    if replica.reclaim().tombstones() == 0 {
        return Vec::new();
    }
    let silent = |home: &NodeId| {
        replica.members().of(*home).is_none_or(|known| known.bases.is_none())
            || !node.0.detector.borrow().is_connected(*home)
    };
    let mut blocking: Vec<NodeId> = node.co_homes(partition).into_iter().filter(silent).collect();
    if node.standing_of(replica) != Standing::Continuous {
        blocking.push(node.id());
    }
    blocking.extend(closing::waits_for(node, partition));
    blocking
}

/// The same over all partitions of a shard, each member once.
pub(crate) fn all_blocked_by<E: Env>(node: &Node<E>) -> Vec<NodeId> {
    if !node.0.options.reclaim {
        return Vec::new();
    }
    let of = |(partition, replica): (PartitionId, Rc<Replica<E>>)| blocked_by(node, partition, &replica);
    let members: BTreeSet<NodeId> = node.homes().into_iter().flat_map(of).collect();
    members.into_iter().collect()
}

/// How far everyone has durably seen, by what they have reported and by what is durable here; nothing while this
/// home itself proves nothing.
async fn seen_by_all<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    replica: &Replica<E>,
) -> Result<Frontier, EngineError> {
    let (life, seen) = replica.durably_seen(node.0.trust.get().standing()).await?;
    if life.standing != Standing::Continuous {
        return Ok(Frontier::none());
    }
    let own = replica.bases_of(&seen);
    if planted::on(Bug::ReclaimOnOwnBase) {
        return Ok(own);
    }
    let members = replica.members();
    let reported =
        node.co_homes(partition).into_iter().map(|home| members.of(home).map(|known| &known.bases));
    Ok(stable([Some(&own)].into_iter().chain(reported)))
}

async fn pass<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    replica: &Rc<Replica<E>>,
) -> Result<(), EngineError> {
    let rests = |replica: &Replica<E>| {
        node.standing_of(replica) != Standing::Continuous || replica.is_serving_session(node.0.env.now())
    };
    if rests(replica) {
        return Ok(());
    }
    let all = seen_by_all(node, partition, replica).await?;
    // A replica that was mistrusted meanwhile has begun a new life, without a frontier.
    if rests(replica) {
        return Ok(());
    }
    replica.advance_frontier(&all)?;
    let frontier = replica.frontier();
    if frontier.is_crowded() {
        node.0.env.probe(Probe::FrontierCrowded);
    }
    if replica.reclaim().walked.borrow().as_ref() == Some(&frontier) {
        return Ok(());
    }
    walk(node, partition, replica, &frontier).await
}

/// Every row once. Rows that change meanwhile count as they are when the walk comes to them.
async fn walk<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    replica: &Rc<Replica<E>>,
    frontier: &Frontier,
) -> Result<(), EngineError> {
    let mut pages = Pages::of(rows::row(partition.0, KIND_DATA, &[]), 256, RECLAIM_SLICE_BYTES as usize);
    let mut left = 0;
    let mut named = BTreeSet::new();
    // What a session kept which has ended meanwhile is for the next walk.
    let mut passed_over = false;
    node.admission().slice(Work::Reclaim, RECLAIM_SLICE_BYTES).await;
    while let Some(page) = pages.next(|scan| node.0.store.scan(scan)).await? {
        for (row, shown) in &page.rows {
            // A record that cannot be read says nothing, and is mended by others.
            let Ok(record) = decode_record(shown) else { continue };
            let goes = reclaimable(&record, frontier) || strip(&record, frontier).is_some();
            let stays = if goes { !replica.let_go(row, node.0.env.now()).await? } else { is_dead(&record) };
            passed_over |= goes && stays;
            if stays && is_dead(&record) {
                left += 1;
                let beyond =
                    record.clock.intervals().iter().filter(|run| run.hi > frontier.base(run.incarnation));
                named
                    .extend(beyond.map(|run| run.incarnation).take(SURVEY_MAX - SURVEY_MAX.min(named.len())));
            }
        }
        if page.more {
            node.admission().slice(Work::Reclaim, RECLAIM_SLICE_BYTES).await;
        }
    }
    replica.reclaim().tombstones.set(Some(left));
    *replica.reclaim().named.borrow_mut() = named;
    let interrupted =
        passed_over || replica.is_serving_session(node.0.env.now()) || replica.frontier() != *frontier;
    *replica.reclaim().walked.borrow_mut() = (!interrupted).then(|| frontier.clone());
    Ok(())
}

impl<E: Env> Replica<E> {
    /// What is known here of frontier and tombstones.
    pub(crate) fn reclaim(&self) -> &Reclaim {
        &self.reclaim
    }

    /// Comes as far as this, at least: durable in the batch being filled, and in force at once.
    pub(crate) fn advance_frontier(&self, to: &Frontier) -> Result<(), EngineError> {
        let before = self.reclaim.frontier();
        let joined = before.join(to);
        if self.role() != Role::Home || joined == before {
            return Ok(());
        }
        let row = rows::row(self.partition.0, KIND_FRONTIER, &[]);
        self.store.append_plain([(row, rows::encode_frontier(&joined))])?;
        *self.reclaim.frontier.borrow_mut() = joined;
        Ok(())
    }

    /// Removes a record that is nothing but tombstones, or strips the clock of one that is not, if everyone has
    /// seen all of it; `false` if it stays, as everything does while a pull session reads here.
    async fn let_go(&self, row: &Bytes, now: crate::env::Mono) -> Result<bool, EngineError> {
        let _lock = self.store.lock(row).await;
        let local = self.store.latest(row).await?;
        let frontier = self.reclaim.frontier();
        if self.is_serving_session(now) || self.is_unproven() {
            return Ok(false);
        }
        if reclaimable(&local.record, &frontier) {
            self.remove(row.clone(), &local, [])?;
            self.env.probe(Probe::Reclaimed);
        } else if let Some(bare) = strip(&local.record, &frontier) {
            self.append(row.clone(), &local, Rc::new(Kept::new(&bare)), [])?;
            self.env.probe(Probe::Stripped);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
