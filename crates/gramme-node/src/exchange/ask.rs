//! Asking for a pull session: merge every page, wait until it is durable, and only then believe to have seen
//! what the sender had seen (correctness.md 2.2).
//!
//! ```text
//! Pull ──▶ page, sigma, session ──▶ merge, durable ──▶ PullMore ──▶ page ──▶ … ──▶ last page ──▶ join sigma
//!                                     any break: the records stay, sigma is forgotten
//! ```
//!
//! A record that is broken is skipped, and nothing of its past is claimed. One session per partition, peer and
//! source at a time, a few per shard; each page waits for a slice of background work.

use crate::admission::Work;
use crate::closing;
use crate::env::Env;
use crate::exchange::refill;
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::{Replica, disk};
use crate::rows;
use gramme_core::codec::decode_record;
use gramme_core::limits::{PULL_PAGE_BYTES_MAX, PULL_PAGE_MS, PULLS_ASKED_MAX, RECORD_COST_BYTES};
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Record, Seen};
use gramme_wire::{Body, PullOf, PullPage, Pulled, Reason};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What a whole session brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Records that were merged.
    pub(crate) records: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Records that were broken, here or there, and of whose past nothing is claimed.
    pub(crate) broken: u64,
}

/// A session is wanted; it begins when its turn comes.
pub(crate) fn want<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) {
    let exchange = &node.0.exchange;
    let asking = exchange.asking.borrow().contains(&(partition, peer, PullOf::Home));
    if exchange.resting.borrow().contains(&(partition, peer)) {
        return;
    }
    let mut wanted = exchange.wanted.borrow_mut();
    if !asking && !wanted.contains(&(partition, peer)) {
        wanted.push_back((partition, peer));
    }
}

/// Begins as many of the wanted sessions as may run.
pub(crate) fn next<E: Env>(node: &Node<E>) {
    let exchange = &node.0.exchange;
    while exchange.asking.borrow().len() < PULLS_ASKED_MAX {
        let Some((partition, peer)) = exchange.wanted.borrow_mut().pop_front() else { return };
        let Some(replica) = node.home(partition) else { continue };
        let full = replica.is_unproven();
        if full && !replica.awaited(&node.co_homes(partition)).contains(&peer) {
            continue;
        }
        // What is paused is wanted again with the next round.
        if full && replica.is_new() && node.0.transfers.is_paused() {
            continue;
        }
        let asker = node.clone();
        // Its place is taken before its task runs, or this would begin them all.
        if !exchange.asking.borrow_mut().insert((partition, peer, PullOf::Home)) {
            continue;
        }
        node.0.env.spawn("pull", async move {
            let place = Place { node: asker.clone(), what: (partition, peer, PullOf::Home) };
            let result = run(&asker, &replica, partition, peer, PullOf::Home, full).await;
            asker.0.env.probe(Probe::PullEnded { whole: result.is_ok() });
            if full && result.is_ok() {
                refill::was_filled(&asker, &replica, partition, peer).await;
            }
            drop(place);
            next(&asker);
            // A home that has come is filled as soon as its source has heard of it.
            if full && result.is_err() && replica.is_new() {
                again(&asker, partition, peer).await;
            }
        });
    }
}

/// Wants a session again after a rest: once, however many have failed.
async fn again<E: Env>(node: &Node<E>, partition: PartitionId, peer: NodeId) {
    let resting = &node.0.exchange.resting;
    if !resting.borrow_mut().insert((partition, peer)) {
        return;
    }
    node.0.env.sleep_until(node.0.env.now() + AGAIN).await;
    resting.borrow_mut().remove(&(partition, peer));
    want(node, partition, peer);
    next(node);
}

/// Pulls what a peer has of a partition and this home has not seen. What arrived stays if the session breaks;
/// nothing is claimed then.
pub(crate) async fn pull<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    peer: NodeId,
    of: PullOf,
) -> Result<Brought, Reason> {
    let replica = node.home(partition).ok_or(Reason::Unsuitable)?;
    let what = (partition, peer, of);
    if !node.0.exchange.asking.borrow_mut().insert(what) {
        return Err(Reason::Overloaded);
    }
    let _place = Place { node: node.clone(), what };
    let result = run(node, &replica, partition, peer, of, false).await;
    node.0.env.probe(Probe::PullEnded { whole: result.is_ok() });
    result
}

/// The place of one session, until it is dropped.
struct Place<E: Env> {
    node: Node<E>,
    what: (PartitionId, NodeId, PullOf),
}

impl<E: Env> Drop for Place<E> {
    fn drop(&mut self) {
        self.node.0.exchange.asking.borrow_mut().remove(&self.what);
    }
}

/// One session from the asker's side.
struct Asking<'a, E: Env> {
    node: &'a Node<E>,
    replica: &'a Rc<Replica<E>>,
    partition: PartitionId,
    peer: NodeId,
    work: Work,
    /// What the sender had seen, less what arrived broken.
    sigma: Seen,
    /// Whether nothing is known of what was broken, so that nothing of `sigma` may be believed.
    blind: bool,
    /// Whether something was refused as void.
    void: bool,
    brought: Brought,
}

async fn run<E: Env>(
    node: &Node<E>,
    replica: &Rc<Replica<E>>,
    partition: PartitionId,
    peer: NodeId,
    of: PullOf,
    full: bool,
) -> Result<Brought, Reason> {
    if full {
        // What is void must be known before this replica's silence counts again.
        closing::learn_from(node, partition, peer).await?;
    }
    let (life, seen) = replica.durably_seen(node.0.trust.get().standing()).await.map_err(disk)?;
    let mut asking = Asking {
        node,
        replica,
        partition,
        peer,
        work: if of == PullOf::Home { Work::Exchange } else { Work::Handoff },
        sigma: Seen::new(),
        blind: false,
        void: false,
        brought: Brought::default(),
    };
    let _filling = full.then(|| Filling { replica, peer });
    let mut ask = Body::Pull { life, seen, of, full };
    let mut after: Option<Key> = None;
    let frontier = loop {
        let page = asking.page(ask).await?;
        if let Some(sigma) = page.sigma {
            if planted::on(Bug::SessionJoinedEarly) {
                replica.join_seen(&sigma, life.number).await.map_err(disk)?;
            }
            asking.sigma = *sigma;
            if of == PullOf::Home {
                replica.note_member(peer, page.life, replica.bases_of(&asking.sigma));
            }
        }
        asking.blind |= page.unreadable > 0;
        asking.brought.broken += u64::from(page.unreadable);
        if full {
            replica.reclaim().filling_begins(peer, &page.frontier);
        }
        let records = asking.merge_all(&page.pulled, &page.frontier).await?;
        if full {
            node.0.transfers.came(partition, &page.pulled, node.0.env.now());
            // What was taken from others before the session began must lie where it is looked for.
            node.0.store.wait_all().await.map_err(disk)?;
            let sound = page.unreadable == 0;
            asking.settle(after.as_ref(), page.next.as_ref(), &records, &page.frontier, sound).await?;
        }
        node.0.store.wait_all().await.map_err(disk)?;
        let Some(next) = page.next else { break page.frontier };
        if node.life_of(replica).number != life.number {
            return Err(Reason::Unsuitable);
        }
        ask = Body::PullMore { session: page.session, after: next.clone() };
        after = Some(next);
    };
    if asking.blind {
        return Err(Reason::Disk(format!(
            "{} records of partition {partition} could not be read where they were pulled from",
            asking.brought.broken
        )));
    }
    if !replica.join_seen(&asking.sigma, life.number).await.map_err(disk)? {
        return Err(Reason::Unsuitable);
    }
    if asking.void {
        closing::teach(node, peer, partition);
    }
    if asking.void && full {
        // What else the refused records hold is still to come.
        return Err(Reason::Void);
    }
    if full {
        // What the sender has reclaimed is as gone here as there, and must not come back here either.
        replica.advance_frontier(&frontier).map_err(disk)?;
    }
    node.0.exchange.caught_up(replica, partition, peer);
    Ok(asking.brought)
}

/// From the first page of a full session on, until it is dropped, nothing that is late for its sender is taken from
/// others.
struct Filling<'a, E: Env> {
    replica: &'a Replica<E>,
    peer: NodeId,
}

impl<E: Env> Drop for Filling<'_, E> {
    fn drop(&mut self) {
        self.replica.reclaim().filling_ends(self.peer);
    }
}

impl<E: Env> Asking<'_, E> {
    async fn page(&self, ask: Body) -> Result<PullPage, Reason> {
        self.node.admission().slice(self.work, PULL_PAGE_BYTES_MAX as u64 / 4).await;
        let deadline = self.node.0.env.now() + Duration::from_millis(PULL_PAGE_MS);
        let mut gather = self.node.0.routes.fan_out(&[self.peer], self.partition, ask, deadline);
        match gather.next(deadline).await {
            Step::Answer(_, Answer::Said(Body::PullReply(page))) => Ok(page),
            Step::Answer(_, Answer::Said(Body::Refused { failure })) => Err(failure.reason),
            _ => Err(Reason::Unavailable),
        }
    }

    /// Merges a page; what of it could be decoded, by key.
    async fn merge_all(
        &mut self,
        pulled: &[Pulled],
        frontier: &Frontier,
    ) -> Result<BTreeMap<Key, Option<Record>>, Reason> {
        let mut records = BTreeMap::new();
        let mut waiting = 0;
        for Pulled { key, record } in pulled {
            let key = key.detached();
            waiting += record.len() as u64 + RECORD_COST_BYTES;
            if waiting >= SLICE_BYTES {
                self.node.admission().slice(self.work, waiting).await;
                waiting = 0;
            }
            let decoded = decode_record(record).ok();
            let merged = self.merge(&key, record, frontier).await;
            self.void |= matches!(merged, Err(Reason::Void));
            match (merged, &decoded) {
                (Ok(()), _) => {
                    self.brought.records += 1;
                    self.brought.bytes += record.len() as u64;
                }
                (Err(Reason::Overloaded), _) => return Err(Reason::Overloaded),
                (Err(cause), _) if self.node.0.store.broken().is_some() => return Err(cause),
                // Broken there, on the way or here, or void: nothing that it would have shown is claimed.
                (Err(_), Some(broken)) => {
                    self.brought.broken += 1;
                    broken.clock.intervals().iter().for_each(|run| self.sigma.remove(*run));
                }
                (Err(_), None) => {
                    self.brought.broken += 1;
                    self.blind = true;
                }
            }
            records.insert(key, decoded);
        }
        Ok(records)
    }

    /// Merges one record, as soon as the store has room for it.
    async fn merge(&self, key: &Key, record: &bytes::Bytes, frontier: &Frontier) -> Result<(), Reason> {
        for _ in 0..ROOM_TRIES {
            match self.replica.merge(key, record, frontier, &[]).await {
                Err(Reason::Overloaded) => {
                    let env = &self.node.0.env;
                    env.sleep_until(env.now() + ROOM_PAUSE).await;
                }
                merged => return merged.map(|_| ()),
            }
        }
        Err(Reason::Overloaded)
    }

    /// A refill, after a page: everything here between its first and its last key is compared with it.
    async fn settle(
        &self,
        from: Option<&Key>,
        to: Option<&Key>,
        theirs: &BTreeMap<Key, Option<Record>>,
        frontier: &Frontier,
        sound: bool,
    ) -> Result<(), Reason> {
        let prefix = rows::row(self.partition.0, rows::KIND_DATA, &[]);
        let mut pages = Pages::of(prefix, 256, 1 << 20).after(from.map(|key| self.replica.row(key)));
        while let Some(page) = pages.next(|scan| self.node.0.store.scan(scan)).await.map_err(disk)? {
            for (row, _) in &page.rows {
                let Ok(key) = Key::from_joined(rows::rest(row)) else { continue };
                if to.is_some_and(|to| key.joined() > to.joined()) {
                    return Ok(());
                }
                // Of a record that came broken, or that may not have come at all, nothing follows.
                let nothing = Frontier::none();
                let (shown, below) = match theirs.get(&key) {
                    Some(Some(record)) => (Some(record), frontier),
                    Some(None) => (None, &nothing),
                    None if sound => (None, frontier),
                    None => (None, &nothing),
                };
                match self.replica.settle(row, shown, below).await {
                    Err(cause) if self.node.0.store.broken().is_some() => return Err(cause),
                    // A record of ours that cannot be read is found again by whoever compares contents.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// After how long a home that has come is asked for again by whoever could not be asked.
const AGAIN: Duration = Duration::from_millis(300);
/// Merged between two waits for a slice.
const SLICE_BYTES: u64 = 64 << 10;
/// How often, and after which pause, a merge is offered to a store that has no room.
const ROOM_TRIES: usize = 200;
const ROOM_PAUSE: Duration = Duration::from_millis(20);
