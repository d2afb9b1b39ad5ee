//! Bringing hints home. Each second, and at once when a peer's connection begins to stand, a fallback asks the
//! homes of its hint stores: have you durably seen all this? A home that has not pulls what it lacks, and then
//! has (the paper, 4.6, HH-3; correctness.md 2.4).
//!
//! ```text
//! fallback  Offer(seen clock) ──▶ home: lacks some ──▶ pull session ──▶ durable ──▶ OfferReply(covered)
//! every home has covered what is there *now* ──▶ the store is destroyed whole
//! ```
//!
//! Homes for which something is kept are asked first; the others only once those have it all, so that nobody is
//! asked again and again while a home is away. The hint rows are all the state there is: after a crash of either
//! side the next round begins anew.
//!
//! It never waits for idleness, and a store is never dropped for the word of some homes.

use crate::admission::Work;
use crate::closing;
use crate::env::Env;
use crate::exchange;
use crate::fan_out::{Answer, Step};
use crate::hints::HintStore;
use crate::node::Node;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::disk;
use crate::request::Health;
use crate::rows::{self, KIND_HINT, KIND_HINT_STORE, KIND_HINTS_SINCE};
use crate::serve::refused;
use bytes::Bytes;
use gramme_core::limits::{HANDOFF_MS, HINT_PULLS_MAX, OFFER_MS, OFFERS_MAX, ROW_COST_BYTES};
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Seen};
use gramme_storage::{Engine, EngineError};
use gramme_wire::{Body, PullOf, Reason};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Round after round for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    loop {
        pause(&node).await;
        let now = node.0.env.now();
        // Readers that have gone away hold a store no longer.
        node.0.exchange.end_sessions_left_alone(now);
        for (partition, store) in node.0.hints.all() {
            consider(&node, partition, &store);
        }
    }
}

/// A second, or until somebody comes back.
async fn pause<E: Env>(node: &Node<E>) {
    let hints = &node.0.hints;
    let mut timer = pin!(node.0.env.sleep_until(node.0.env.now() + Duration::from_millis(HANDOFF_MS)));
    poll_fn(|cx| {
        if hints.hurry.take() {
            return Poll::Ready(());
        }
        hints.hurried.register(cx);
        timer.as_mut().poll(cx)
    })
    .await;
}

/// A peer's connection has begun to stand.
pub(crate) fn came_back<E: Env>(node: &Node<E>) {
    if !node.0.hints.is_empty() {
        node.0.hints.hurry();
    }
}

/// Offers a store to whoever is to have it next, or destroys it.
fn consider<E: Env>(node: &Node<E>, partition: PartitionId, store: &Rc<HintStore<E>>) {
    if store.is_doomed() {
        // Its removal was broken off, by a disk without room perhaps.
        if store.stuck().is_some() {
            spawn_destroy(node, partition, store);
        }
        return;
    }
    let homes = node.live().homes(partition);
    let lacking = store.not_covered(&homes);
    let early = planted::on(Bug::HintDroppedAfterOne) && lacking.len() < homes.len();
    if lacking.is_empty() || early {
        if store.is_unneeded() {
            spawn_destroy(node, partition, store);
        }
        return;
    }
    // Whoever has become a home itself shows what it kept at once.
    let is_wanted = |home: &NodeId| store.is_wanted_by(*home) || *home == node.id();
    let wanted: Vec<NodeId> = lacking.iter().copied().filter(is_wanted).collect();
    for home in if wanted.is_empty() { lacking } else { wanted } {
        let is_there = home == node.id() || node.health(home) != Health::Down && !node.is_silent(home);
        if is_there && node.0.hints.begin_offer(store, home, OFFERS_MAX) {
            let (node, store) = (node.clone(), store.clone());
            node.0.env.clone().spawn("offer hints", async move {
                let covered = offer(&node, partition, &store, home).await;
                node.0.hints.end_offer(&store, home);
                if covered {
                    consider(&node, partition, &store);
                }
            });
        }
    }
}

/// Whether the home has durably seen everything that is in the store when this begins.
async fn offer<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    store: &Rc<HintStore<E>>,
    home: NodeId,
) -> bool {
    node.admission().slice(Work::Handoff, OFFER_BYTES).await;
    let changes = store.held().changes;
    let seen = store.replica().seen().clone();
    if home == node.id() {
        let taken = take_own(node, partition, &seen).await.is_ok_and(|covered| covered);
        if taken {
            store.cover(home, changes);
        }
        return taken;
    }
    node.0.env.probe(Probe::HintsOffered);
    let deadline = node.0.env.now() + Duration::from_millis(OFFER_MS);
    let mut gather = node.0.routes.fan_out(&[home], partition, Body::Offer { seen, left: false }, deadline);
    match gather.next(deadline).await {
        Step::Answer(_, Answer::Said(Body::OfferReply { covered: true })) => {
            store.cover(home, changes);
            true
        }
        _ => false,
    }
}

/// What this node kept for others while it was a fallback, it has become a home of: every hint is joined into what the
/// home holds. Whether that has seen all of it.
async fn take_own<E: Env>(node: &Node<E>, partition: PartitionId, theirs: &Seen) -> Result<bool, Reason> {
    let replica = node.home(partition).ok_or(Reason::Unsuitable)?;
    let (life, seen) = replica.durably_seen(node.0.trust.get().standing()).await.map_err(disk)?;
    if seen.contains(theirs) {
        return Ok(true);
    }
    let mut pages = Pages::of(rows::row(partition.0, KIND_HINT, &[]), PAGE_ROWS, PAGE_BYTES);
    let mut is_whole = true;
    while let Some(page) = pages.next(|scan| node.0.env.engine().scan(scan)).await.map_err(disk)? {
        let cost = |(row, value): &(_, Bytes)| (Bytes::len(row) + value.len()) as u64 + ROW_COST_BYTES;
        node.admission().slice(Work::Handoff, page.rows.iter().map(cost).sum()).await;
        is_whole &= !page.damaged;
        for (row, value) in &page.rows {
            let hint = Key::from_joined(rows::rest(row)).ok().zip(rows::decode_hint(value).ok());
            // Of what cannot be read nothing is claimed.
            let Some((key, (_, _, record))) = hint else {
                is_whole = false;
                continue;
            };
            replica.merge(&key, &record, &Frontier::none(), &[]).await?;
        }
        node.0.store.wait_all().await.map_err(disk)?;
    }
    Ok(is_whole && replica.join_seen(theirs, life.number).await.map_err(disk)?)
}

/// A fallback offers what it keeps, or a former home what it left; the answer, once this home has pulled what it lacked
/// of it.
pub(crate) async fn offered<E: Env>(
    node: &Node<E>,
    from: NodeId,
    partition: PartitionId,
    theirs: Seen,
    of: PullOf,
) -> Body {
    match take(node, from, partition, &theirs, of).await {
        Ok(covered) => Body::OfferReply { covered },
        Err(reason) => refused(reason),
    }
}

async fn take<E: Env>(
    node: &Node<E>,
    from: NodeId,
    partition: PartitionId,
    theirs: &Seen,
    of: PullOf,
) -> Result<bool, Reason> {
    let replica = node.home(partition).ok_or(Reason::Unsuitable)?;
    let standing = node.0.trust.get().standing();
    if replica.durably_seen(standing).await.map_err(disk)?.1.contains(theirs) {
        return Ok(true);
    }
    if node.0.exchange.hint_pulls() >= HINT_PULLS_MAX {
        return Err(Reason::Overloaded);
    }
    exchange::pull(node, partition, from, of).await?;
    let covered = replica.durably_seen(standing).await.map_err(disk)?.1.contains(theirs);
    if !covered && replica.ends().has_void(theirs) {
        closing::teach(node, from, partition);
    }
    Ok(covered)
}

fn spawn_destroy<E: Env>(node: &Node<E>, partition: PartitionId, store: &Rc<HintStore<E>>) {
    // From here on nobody adds to it, and nobody begins to read it.
    store.doom();
    let (node, store) = (node.clone(), store.clone());
    node.0.env.clone().spawn("destroy a hint store", async move {
        let removed = destroy(&node, partition).await;
        if removed.is_ok() {
            let hints = store.held().rows;
            node.0.env.probe(Probe::HintStoreDestroyed { hints });
        }
        node.0.hints.gone(partition, &store, removed.err());
    });
}

/// Removes a store's rows, its name first: what a crash leaves of it is a store that claims no more than its rows
/// show.
async fn destroy<E: Env>(node: &Node<E>, partition: PartitionId) -> Result<(), EngineError> {
    let store = &node.0.store;
    let row = |kind| rows::row(partition.0, kind, &[]);
    store.change_plain([(row(KIND_HINT_STORE), None), (row(KIND_HINTS_SINCE), None)])?;
    // The engine shows everything once it is durable.
    store.wait_all().await?;
    let mut pages = Pages::of(row(KIND_HINT), PAGE_ROWS, PAGE_BYTES);
    while let Some(page) = pages.next(|scan| node.0.env.engine().scan(scan)).await? {
        let cost = |(row, value): &(_, Bytes)| (Bytes::len(row) + value.len()) as u64 + ROW_COST_BYTES;
        node.admission().slice(Work::Handoff, page.rows.iter().map(cost).sum()).await;
        for (row, _) in &page.rows {
            store.remove(row.clone(), [])?;
        }
        store.wait_all().await?;
    }
    Ok(())
}

/// What an offer costs the disks and the network, at a guess.
const OFFER_BYTES: u64 = 1024;
const PAGE_ROWS: usize = 128;
const PAGE_BYTES: usize = 1 << 20;
