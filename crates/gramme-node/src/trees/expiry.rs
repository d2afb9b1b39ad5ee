//! Putting tombstones in the place of values that have expired (design section 6; correctness.md 2.4).
//!
//! An expired value reads as a tombstone at once, on every node alike, from its stored stamp and time to live. Its
//! bytes go later and by an ordinary write: the first healthy home of its key, or the next a minute after it,
//! coordinates a tombstone that covers exactly the expired siblings, after a while that differs from key to key. Nothing is ever removed by a replica
//! for itself, which the other replicas would repair again, and nothing happens at the instant of expiry.
//!
//! The keys that expire soonest are kept in mind, as many as have room; the scans of their partitions find the
//! others, and those that a life before this one had in mind.

use crate::admission::Work;
use crate::coordinate;
use crate::env::Env;
use crate::node::Node;
use crate::probe::Probe;
use crate::request::Health;
use gramme_core::limits::EXPIRING_MAX;
use gramme_core::{Key, PartitionId, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys with values that expire, the soonest first; see the module.
#[derive(Default)]
pub(crate) struct Expiring {
    by_time: BTreeSet<(u64, Key)>,
    by_key: BTreeMap<Key, (u64, PartitionId)>,
    /// Partitions of which keys found no room.
    crowded_out: BTreeSet<PartitionId>,
}

impl Expiring {
    /// A record is, or becomes, what is stored under a key. An earlier note of the key holds: when its time has come
    /// the record is looked at again.
    pub(crate) fn note(&mut self, partition: PartitionId, key: &Key, record: &Record) {
        let Some(at) = record.expires_ms() else { return };
        if self.by_key.get(key).is_some_and(|noted| noted.0 <= at) {
            return;
        }
        self.forget(key);
        let key = key.detached();
        self.by_time.insert((at, key.clone()));
        self.by_key.insert(key, (at, partition));
        while self.by_time.len() > EXPIRING_MAX {
            let Some((_, latest)) = self.by_time.pop_last() else { return };
            if let Some((_, partition)) = self.by_key.remove(&latest) {
                self.crowded_out.insert(partition);
            }
        }
    }

    /// Takes the key that expired first, if that was before this time.
    fn take_due(&mut self, before_ms: u64) -> Option<(PartitionId, Key)> {
        if self.by_time.first()?.0 > before_ms {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key).map(|(_, partition)| (partition, key))
    }

    /// Partitions with keys that expire.
    pub(crate) fn partitions(&self) -> BTreeSet<PartitionId> {
        let in_mind = self.by_key.values().map(|(_, partition)| *partition);
        in_mind.chain(self.crowded_out.iter().copied()).collect()
    }

    /// Looks at a key again at this time.
    fn later(&mut self, partition: PartitionId, key: Key, at_ms: u64) {
        self.forget(&key);
        self.by_time.insert((at_ms, key.clone()));
        self.by_key.insert(key, (at_ms, partition));
    }

    /// Partitions whose keys found no room, once there is some.
    fn take_crowded_out(&mut self) -> BTreeSet<PartitionId> {
        if self.by_time.len() > EXPIRING_MAX / 2 {
            BTreeSet::new()
        } else {
            std::mem::take(&mut self.crowded_out)
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some((at, _)) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }
}

/// Looks for what has expired, for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    let after_ms = node.0.options.upkeep.expiry_after_ms;
    while node.0.store.broken().is_none() {
        env.sleep_until(env.now() + LOOK).await;
        // Removing needs both clocks to agree: a hybrid clock that once ran ahead must not shorten lives.
        let past = || env.wall_ms().min(node.reading_ms()).saturating_sub(after_ms);
        loop {
            let due = node.0.trees.expiring().borrow_mut().take_due(past());
            let Some((partition, key)) = due else { break };
            look_at(&node, partition, key, past()).await;
        }
        for partition in node.0.trees.expiring().borrow_mut().take_crowded_out() {
            node.0.trees.with(partition, |watched| watched.scan_wanted = true);
        }
    }
}

/// A key of which something expired some time ago: whether it is to go now, by this node, or to be looked at later.
async fn look_at<E: Env>(node: &Node<E>, partition: PartitionId, key: Key, past_ms: u64) {
    let later =
        |by_ms: u64| node.0.trees.expiring().borrow_mut().later(partition, key.clone(), past_ms + by_ms);
    let Some(replica) = node.home(partition) else { return };
    // Also what waits for a disk that is full: nobody would think of the key again once it has room.
    let Ok(kept) = node.0.store.latest(&replica.row(&key)).await else { return later(AGAIN_MS) };
    let Some(at) = kept.record.expires_ms() else { return };
    // Keys that expired together go one by one.
    let spread_ms = gramme_core::merkle::leaf_of(key.as_bytes(), gramme_core::merkle::DEPTH_MAX).into();
    let spread_ms: u64 = (5 * node.0.options.upkeep.expiry_after_ms).saturating_mul(spread_ms) >> 16;
    // The homes before this one have had their turns first; they may not have the key in mind.
    let turn_ms = waits_for(node, partition) * AGAIN_MS;
    let waits_ms = (at + spread_ms + turn_ms).saturating_sub(past_ms);
    if waits_ms > 0 {
        return later(waits_ms);
    }
    node.admission().slice(Work::Reclaim, kept.encoded.len() as u64).await;
    let deadline = node.0.env.now() + Duration::from_millis(node.0.options.request_ms);
    match coordinate::bury(node, &key, past_ms, deadline).await {
        Ok(true) => node.0.env.probe(Probe::Buried),
        // Someone was here first.
        Ok(false) => {}
        // It reads as a tombstone all the same.
        Err(_) => later(AGAIN_MS),
    }
}

/// How many healthy homes of the partition come before this one.
fn waits_for<E: Env>(node: &Node<E>, partition: PartitionId) -> u64 {
    let homes = node.live().homes(partition);
    let before = homes.iter().take_while(|&&home| home != node.id());
    before.filter(|&&home| node.health(home) == Health::Up).count() as u64
}

/// Between two looks at what has expired.
const LOOK: Duration = Duration::from_secs(1);
/// A home's turn to bury a key before the next home does. One that could not be buried is looked at again after it.
const AGAIN_MS: u64 = 60_000;
