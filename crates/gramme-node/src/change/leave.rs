//! What a node keeps of a partition of which it is a home no longer: it is offered to every home, as hints are, and wiped
//! once each of them has durably seen all of it (correctness.md 5.3, 6; riak-lessons 2C 21). In the ordinary case they
//! have, since writes went to both, and one question to each is all.
//!
//! What its rows show is looked through first: a home may forget what it has seen above holes, and what it forgot would
//! be wiped with it.
//!
//! Invariant: nothing is wiped but on the word of every home, each given of its own durable seen clock.
//!
//! It refuses to vouch for what it keeps: to the homes it is the word of a stranger, and what they know to be gone stays gone.

use crate::admission::Work;
use crate::env::Env;
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::Replica;
use crate::request::Health;
use crate::rows::{self, KIND_DATA, KIND_FRONTIER, KIND_MEMBERS, KIND_REPLICA, KIND_SEEN, KIND_TREE};
use bytes::Bytes;
use gramme_core::limits::{HANDOFF_MS, OFFER_MS, ROW_COST_BYTES};
use gramme_core::planted::{self, Bug};
use gramme_core::{NodeId, PartitionId};
use gramme_storage::EngineError;
use gramme_wire::Body;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// See the module.
pub(crate) struct Left<E: Env> {
    replica: Rc<Replica<E>>,
    /// Homes that have durably seen all of it.
    covered: RefCell<BTreeSet<NodeId>>,
    looked: Cell<bool>,
    /// Whether its rows are being removed; then it is not taken back before that has ended.
    wiping: Cell<bool>,
}

impl<E: Env> Left<E> {
    /// Nobody is known to have any of it.
    pub(crate) fn new(replica: Rc<Replica<E>>) -> Left<E> {
        Left { replica, covered: RefCell::default(), looked: Cell::new(false), wiping: Cell::new(false) }
    }

    /// What it keeps.
    pub(crate) fn replica(&self) -> &Rc<Replica<E>> {
        &self.replica
    }

    /// Those of these homes that are not known to have it.
    pub(crate) fn lacking(&self, homes: &[NodeId]) -> Vec<NodeId> {
        let covered = self.covered.borrow();
        homes.iter().copied().filter(|home| !covered.contains(home)).collect()
    }

    /// The node is a home of it again.
    pub(crate) async fn take_back(&self) -> Rc<Replica<E>> {
        let env = &self.replica.env;
        while self.wiping.get() {
            env.sleep_until(env.now() + Duration::from_millis(WIPING_MS)).await;
        }
        self.replica.clone()
    }
}

/// Round after round for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        env.sleep_until(env.now() + Duration::from_millis(HANDOFF_MS)).await;
        let all: Vec<(PartitionId, Rc<Left<E>>)> =
            node.0.left.borrow().iter().map(|(&partition, left)| (partition, left.clone())).collect();
        for (partition, left) in all {
            if node.0.transfers.is_paused() {
                break;
            }
            // A store that refuses has said so to whoever writes; the next round tries again.
            let _ = hand_over(&node, partition, &left).await;
        }
    }
}

async fn hand_over<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    left: &Rc<Left<E>>,
) -> Result<(), EngineError> {
    if !left.looked.get() {
        // Whoever still writes to it, or reads from it, began while this node was a home.
        if Rc::strong_count(&left.replica) > 1 {
            return Ok(());
        }
        look_at_rows(node, &left.replica).await?;
        left.looked.set(is_left(node, &left.replica));
    }
    offer(node, partition, left).await;
    let live = node.live();
    let homes = live.homes(partition);
    let is_covered = left.lacking(&homes).is_empty() || planted::on(Bug::LeftDropped);
    let is_read = left.replica.is_serving_session(node.0.env.now());
    // It may have become a home again meanwhile, or what is live may have changed under it.
    let is_mine = node.0.left.borrow().get(&partition).is_some_and(|now| Rc::ptr_eq(now, left));
    if !is_covered || is_read || !is_mine || homes.is_empty() {
        return Ok(());
    }
    left.wiping.set(true);
    let wiped = wipe(node, partition, &left.replica).await;
    left.wiping.set(false);
    wiped?;
    node.0.env.probe(Probe::LeftWiped);
    let mut all = node.0.left.borrow_mut();
    if all.get(&partition).is_some_and(|now| Rc::ptr_eq(now, left)) {
        all.remove(&partition);
    }
    Ok(())
}

/// Asks every home that is there, and is not known to have it, whether it has; each pulls what it lacks before it answers.
async fn offer<E: Env>(node: &Node<E>, partition: PartitionId, left: &Left<E>) {
    let there = |home: &NodeId| node.health(*home) != Health::Down && !node.is_silent(*home);
    let lacking = left.lacking(&node.live().homes(partition)).into_iter().filter(there).collect::<Vec<_>>();
    if lacking.is_empty() {
        return;
    }
    node.admission().slice(Work::Handoff, OFFER_BYTES * lacking.len() as u64).await;
    // No home will ever have seen what never was.
    let seen = left.replica.ends().without_void(&left.replica.seen()).into_owned();
    let deadline = node.0.env.now() + Duration::from_millis(OFFER_MS);
    let body = Body::Offer { seen, left: true };
    let mut gather = node.0.routes.fan_out(&lacking, partition, body, deadline);
    while let Step::Answer(home, answer) = gather.next(deadline).await {
        if matches!(answer, Answer::Said(Body::OfferReply { covered: true })) {
            left.covered.borrow_mut().insert(home);
        }
    }
}

/// Goes through every row: what it shows was seen, and what is void of it goes. Ends early when the node is a home of it
/// again: the life that then begins claims nothing by what the last one kept.
pub(crate) async fn look_at_rows<E: Env>(node: &Node<E>, replica: &Replica<E>) -> Result<(), EngineError> {
    let mut pages = Pages::of(rows::row(replica.partition.0, KIND_DATA, &[]), PAGE_ROWS, PAGE_BYTES);
    node.0.store.wait_all().await?;
    while let Some(page) = pages.next(|scan| node.0.store.scan(scan)).await? {
        let cost = |(row, value): &(Bytes, Bytes)| (row.len() + value.len()) as u64 + ROW_COST_BYTES;
        node.admission().slice(Work::Handoff, page.rows.iter().map(cost).sum()).await;
        for (row, _) in &page.rows {
            let _lock = node.0.store.lock(row).await;
            // A row that cannot be read is nobody's proof; the homes were filled from it as far as it could be.
            let Ok(local) = node.0.store.latest(row).await else { continue };
            let kept = replica.rid_of_void(row, local).await?;
            if !is_left(node, replica) {
                return Ok(());
            }
            replica.note_all(&kept.record);
        }
    }
    Ok(())
}

/// Whether a replica is what this node has left, and has not become a home again.
fn is_left<E: Env>(node: &Node<E>, replica: &Replica<E>) -> bool {
    node.left(replica.partition).is_some_and(|left| std::ptr::eq(&*left, replica))
}

/// Removes all there is: first what claims to have seen, last what names it. What a crash leaves of it claims no more than
/// its rows show, and is offered again.
async fn wipe<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    replica: &Replica<E>,
) -> Result<(), EngineError> {
    let store = &node.0.store;
    let row = |kind| rows::row(partition.0, kind, &[]);
    let seen: Vec<Bytes> =
        replica.seen().rows().map(|(incarnation, _)| replica.seen_row_key(incarnation)).collect();
    let claims = [row(KIND_MEMBERS), row(KIND_FRONTIER), row(KIND_TREE)].into_iter().chain(seen);
    store.change_plain(claims.map(|row| (row, None)))?;
    store.wait_all().await?;
    for kind in [KIND_SEEN, KIND_DATA] {
        let mut pages = Pages::of(row(kind), PAGE_ROWS, PAGE_BYTES);
        while let Some(page) = pages.next(|scan| store.scan(scan)).await? {
            let cost = |(row, value): &(Bytes, Bytes)| (row.len() + value.len()) as u64 + ROW_COST_BYTES;
            node.admission().slice(Work::Handoff, page.rows.iter().map(cost).sum()).await;
            for (row, _) in &page.rows {
                store.remove(row.clone(), [])?;
            }
            store.wait_all().await?;
        }
    }
    store.change_plain([(row(KIND_REPLICA), None)])?;
    store.wait_all().await
}

const OFFER_BYTES: u64 = 1024;
const PAGE_ROWS: usize = 128;
const PAGE_BYTES: usize = 1 << 20;
/// Between two looks whether rows that are being removed are gone.
const WIPING_MS: u64 = 20;
