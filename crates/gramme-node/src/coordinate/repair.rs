//! Read repair: what a read found is sent to the homes that were seen to hold less (the paper, 5).
//!
//! One repair per key is on its way at a time, so that a hundred readers of a stale key cause one; so many are on
//! their way in a shard at all, so that a storm of them cannot crowd out what clients wait for. What is left out
//! is seen again by the next read, and by anti-entropy.

use crate::env::{Env, Mono};
use crate::fan_out::Step;
use crate::node::Node;
use crate::probe::Probe;
use crate::serve;
use gramme_core::codec::encode_record;
use gramme_core::limits::{ASIDE_READS_PER_S, READ_REPAIRS_BYTES_MAX, READ_REPAIRS_MAX, REQUEST_MS};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Record};
use gramme_wire::Body;
use std::collections::BTreeSet;
use std::time::Duration;

/// The repairs of one shard that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    keys: BTreeSet<Key>,
    bytes: usize,
    /// Reads aside that may be made at once, in thousandths.
    tokens: u64,
    filled_at: Mono,
}

impl Repairs {
    /// Takes a place for the repair of this key; `false` if it has one, or all are taken.
    fn begin(&mut self, key: &Key, bytes: usize) -> bool {
        let room = self.keys.len() < READ_REPAIRS_MAX
            && (self.bytes + bytes <= READ_REPAIRS_BYTES_MAX || self.keys.is_empty());
        if !room || !self.keys.insert(key.detached()) {
            return false;
        }
        self.bytes += bytes;
        true
    }

    fn end(&mut self, key: &Key, bytes: usize) {
        if self.keys.remove(key) {
            self.bytes -= bytes;
        }
    }

    /// Whether a read that found nothing may look further behind its answer.
    pub(crate) fn may_look_aside(&mut self, now: Mono) -> bool {
        let micros = u64::try_from(now.since(self.filled_at).as_micros()).unwrap_or(u64::MAX);
        let fresh = micros.saturating_mul(ASIDE_READS_PER_S) / 1000;
        if fresh > 0 {
            self.filled_at = now;
            self.tokens = self.tokens.saturating_add(fresh).min(ASIDE_READS_PER_S * 1000 / 4);
        }
        let may = self.tokens >= 1000;
        self.tokens -= if may { 1000 } else { 0 };
        may
    }
}

/// Sends `merged` to those homes, unless the key is being repaired already. Each is sent it under the frontier
/// that it answered with: what a read has not left out was vouched for by a replica that had come as far.
pub(crate) fn repair<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    key: &Key,
    merged: &Record,
    stale: Vec<(NodeId, Frontier)>,
) {
    let record = encode_record(merged);
    let bytes = record.len() * stale.len();
    if !node.0.repairs.borrow_mut().begin(key, bytes) {
        return node.0.env.probe(Probe::RepairSpared);
    }
    let deadline = node.0.env.now() + Duration::from_millis(REQUEST_MS);
    let mut gather = node.0.routes.open(partition, deadline);
    for (home, stamp) in stale {
        let (key, record) = (key.detached(), record.clone());
        let body = Body::Merge { key, record, hint_for: None, stamp, buffered: false, fence: 0 };
        node.0.env.probe(Probe::ReadRepair);
        if home == node.id() {
            serve::merge_here(node, partition, body, gather.ask_here(home));
        } else {
            gather.ask(home, body);
        }
    }
    let (node, key) = (node.clone(), key.detached());
    node.0.env.clone().spawn("read repair", async move {
        // A repair that does not arrive is made again by the next read that sees the need.
        while let Step::Answer(..) = gather.next(deadline).await {}
        node.0.repairs.borrow_mut().end(&key, bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::new("b", n.to_string().as_bytes()).expect("a sound key")
    }

    #[test]
    fn one_repair_per_key_and_so_many_at_all() {
        let mut repairs = Repairs::default();
        assert!(repairs.begin(&key(0), 10));
        assert!(!repairs.begin(&key(0), 10));
        assert!((1..READ_REPAIRS_MAX).all(|n| repairs.begin(&key(n), 10)));
        assert!(!repairs.begin(&key(READ_REPAIRS_MAX), 10));
        repairs.end(&key(0), 10);
        assert!(repairs.begin(&key(READ_REPAIRS_MAX), 10));
    }

    #[test]
    fn large_records_take_more_room_and_one_always_fits() {
        let mut repairs = Repairs::default();
        assert!(repairs.begin(&key(0), 2 * READ_REPAIRS_BYTES_MAX));
        assert!(!repairs.begin(&key(1), 1));
        repairs.end(&key(0), 2 * READ_REPAIRS_BYTES_MAX);
        assert!(repairs.begin(&key(1), 1));
    }

    #[test]
    fn looking_aside_has_a_pace() {
        let mut repairs = Repairs::default();
        let second = |n: u64| Mono(n * 1_000_000_000);
        assert!(!repairs.may_look_aside(Mono(0)));
        let burst = (0..).take_while(|_| repairs.may_look_aside(second(10))).count() as u64;
        assert_eq!(burst, ASIDE_READS_PER_S / 4);
        assert!(!repairs.may_look_aside(second(10)));
    }
}
