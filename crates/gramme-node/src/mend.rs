//! Mending rows whose stored bytes cannot be read: such a row is refused, never "not found", until everyone else
//! has said what they hold of it; then it is overwritten with the join of that.
//!
//! Invariant: a damaged row is overwritten only after every other home of its partition that is read from, each of them
//! continuous, and every other member for its hints has answered, and never with less than they hold together. A home
//! that is only coming need not be whole: it waits for this row. What only the
//! damaged row held is gone then; what was acknowledged is durable at W nodes, and one lost copy leaves the others.
//!
//! It refuses to mend the only copy: there is nobody to ask, and an empty row would be a lie. Its readers are told so,
//! and the next write of the key replaces it.

pub(crate) mod names;

use crate::env::Env;
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::probe::Probe;
use crate::rows;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::{MEND_RETRY_MS, REQUEST_MS};
use gramme_core::reclaim::{Reply, fill};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Record};
use gramme_wire::{Body, Standing};
use std::time::Duration;

/// Mends one row after the other for as long as the shard lives; one that cannot be mended yet has its next turn
/// after a pause, when every other had its own.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let mut last = Bytes::new();
    let mut told = false;
    loop {
        let row = node.0.store.next_damaged(&last).await;
        if !told && is_only_copy(&node, &row) {
            told = true;
            node.0.env.probe(Probe::OnlyCopyDamaged);
        }
        if !mend(&node, &row).await {
            let env = &node.0.env;
            env.sleep_until(env.now() + Duration::from_millis(MEND_RETRY_MS)).await;
        }
        last = row;
    }
}

/// Whether there is nobody from whom the row could be mended.
fn is_only_copy<E: Env>(node: &Node<E>, row: &Bytes) -> bool {
    place_of(row).is_some_and(|(partition, _)| node.co_homes(partition).is_empty())
}

/// Whether the row can be read again.
async fn mend<E: Env>(node: &Node<E>, row: &Bytes) -> bool {
    let Some((partition, key)) = place_of(row) else { return false };
    let Some(replica) = node.home(partition) else { return false };
    match held_elsewhere(node, partition, &key).await {
        Some(record) => replica.mend(&key, &record).await.is_ok(),
        None => false,
    }
}

/// What everyone else holds of a key, as a read joins it; `None` unless every other home has said it and proves by
/// its silence what it lacks, and every other member has said what it keeps as hints: a write that this home
/// acknowledged may lie with a fallback alone. So is a home asked that is only coming: what was acknowledged is at those
/// that are read from. Fallbacks come first: what one has handed over before it is asked, a home has.
async fn held_elsewhere<E: Env>(node: &Node<E>, partition: PartitionId, key: &Key) -> Option<Record> {
    let (homes, fallbacks): (Vec<NodeId>, Vec<NodeId>) =
        node.peers().partition(|&peer| node.layout().is_home(partition, peer));
    if homes.is_empty() {
        return None;
    }
    let mut held = held_by(node, partition, key, &fallbacks, Standing::Unproven).await?;
    held.extend(held_by(node, partition, key, &homes, Standing::Continuous).await?);
    let replies: Vec<Reply<'_>> = held.iter().map(|(record, frontier)| Reply { record, frontier }).collect();
    Some(fill(&replies).record)
}

/// What these peers hold of a key, each with its frontier; `None` unless each has said it, with at least this
/// standing.
async fn held_by<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    key: &Key,
    peers: &[NodeId],
    least: Standing,
) -> Option<Vec<(Record, Frontier)>> {
    let deadline = node.0.env.now() + Duration::from_millis(REQUEST_MS);
    let mut gather = node.0.routes.fan_out(peers, partition, Body::Read { key: key.clone() }, deadline);
    let mut all = Vec::with_capacity(peers.len());
    for _ in peers {
        let Step::Answer(_, Answer::Said(answer)) = gather.next(deadline).await else { return None };
        let Body::ReadReply { standing, record, frontier } = answer else { return None };
        let held = record.as_ref().map(decode_record).transpose().ok()?.unwrap_or_default();
        let proves = standing == Standing::Continuous || least == Standing::Unproven;
        if !proves || held.siblings().iter().any(|sibling| !sibling.verifies()) {
            return None;
        }
        all.push((held, frontier));
    }
    Some(all)
}

fn place_of(row: &Bytes) -> Option<(PartitionId, Key)> {
    let partition = PartitionId(u16::from_be_bytes([*row.first()?, *row.get(1)?]));
    Some((partition, Key::from_joined(rows::rest(row)).ok()?))
}
