//! A hash tree over every home partition of this shard, kept up with each write and compared with the other
//! homes every few minutes (the paper, 4.7; correctness.md 4; design section 6). Partition clocks find what a
//! replica has not seen; the trees find what clocks cannot show: a record that was lost in silence, a sibling
//! that went on one side only, a value that rotted.
//!
//! A tree changes in memory in the same step in which its partition's record does. It is built by reading the
//! partition once, a page at a time ([`scan`]), and kept across a restart by a *checkpoint*: a row that holds the
//! tree of a partition that is quiet, and that the partition's next write empties in its own batch. So a
//! checkpoint that is there is true, whatever happened, and costs a busy partition nothing: that one is read
//! anew after a crash. A log position instead would need a log that is kept and can be read from a position;
//! the engine promises neither.
//!
//! Invariant: a tree is the sum of the items of all its partition's records as they stand in the store, durable or
//! on their way. Should it ever not be, the price is work, never a difference that stays hidden: the slow scrub
//! builds every tree anew and compares.
//!
//! It refuses to judge: what differs is read, merged and verified like anything else that arrives.

pub(crate) mod audit;
pub(crate) mod expiry;
pub mod repair;
pub(crate) mod scan;
mod watched;

pub(crate) use watched::Watched;

use crate::env::Env;
use crate::node::Node;
use crate::rows::{self, KIND_TREE};
use audit::Audits;
use bytes::Bytes;
use expiry::Expiring;
use gramme_core::limits::{AUDIT_MS, EXPIRY_AFTER_MS, SCRUB_MS, TREE_CHECKPOINT_MS, TREE_SHARD_BYTES_MAX};
use gramme_core::merkle::{self, Tombstones, Tree};
use gramme_core::{Key, PartitionId, Record};
use gramme_storage::{Engine, EngineError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the work is done that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// Between two audits of a partition with another home of it, in milliseconds.
    pub audit_ms: u64,
    /// In which all home partitions are reread once, in milliseconds.
    pub scrub_ms: u64,
    /// How long after its expiry a value is replaced by a tombstone, at the earliest, in milliseconds; at the
    /// latest it is six times as long, so that what expired together does not go together.
    pub expiry_after_ms: u64,
    /// Whether tombstones are compared: not by replicas that reclaim them.
    pub tombstones: Tombstones,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            audit_ms: AUDIT_MS,
            scrub_ms: SCRUB_MS,
            expiry_after_ms: EXPIRY_AFTER_MS,
            tombstones: Tombstones::Counted,
        }
    }
}

/// The trees of one shard; see the module.
pub(crate) struct Trees {
    tombstones: Tombstones,
    partitions: RefCell<BTreeMap<PartitionId, Watched>>,
    expiring: RefCell<Expiring>,
    /// What is to be compared with peers.
    pub(crate) audits: Audits,
    /// The verification that runs, or ran last.
    pub(crate) verify: RefCell<Option<repair::Verify>>,
}

impl Trees {
    /// No partition is watched yet.
    pub(crate) fn new(upkeep: &Upkeep) -> Trees {
        Trees {
            tombstones: upkeep.tombstones,
            partitions: RefCell::default(),
            expiring: RefCell::default(),
            audits: Audits::default(),
            verify: RefCell::default(),
        }
    }

    /// Watches a home partition from now on, with the tree of its checkpoint if that is there and true.
    pub(crate) async fn watch<E: Env>(&self, env: &E, partition: PartitionId) -> Result<(), EngineError> {
        let row = rows::row(partition.0, KIND_TREE, &[]);
        let stored = env.engine().get(&row).await?.unwrap_or_default();
        let (tree, expires) = rows::decode_tree(&stored, self.tombstones).ok().unzip();
        let mut watched = Watched::new(tree);
        // Which of its keys expire is known to nobody any more.
        watched.scan_wanted = expires == Some(true);
        self.partitions.borrow_mut().insert(partition, watched);
        Ok(())
    }

    /// Watches a partition no longer: this node is a home of it no more.
    pub(crate) fn unwatch(&self, partition: PartitionId) {
        self.partitions.borrow_mut().remove(&partition);
    }

    /// A record is about to change in the batch being filled. If the partition's checkpoint is true no longer, its
    /// emptied row, which must be part of the same batch.
    pub(crate) fn changed(
        &self,
        partition: PartitionId,
        key: &Key,
        before: &Record,
        after: &Record,
    ) -> Option<(Bytes, Bytes)> {
        self.expiring.borrow_mut().note(partition, key, after);
        let (before, after) = (self.item(key, before), self.item(key, after));
        if before == after {
            return None;
        }
        let mut partitions = self.partitions.borrow_mut();
        let watched = partitions.get_mut(&partition)?;
        watched.changed(key, before, after).then(|| (rows::row(partition.0, KIND_TREE, &[]), Bytes::new()))
    }

    /// A row was overwritten of which nobody knows what it held: the tree is built anew. Gives the checkpoint's
    /// emptied row, which must be part of the same batch.
    pub(crate) fn forget(&self, partition: PartitionId) -> (Bytes, Bytes) {
        self.with(partition, Watched::forget);
        (rows::row(partition.0, KIND_TREE, &[]), Bytes::new())
    }

    /// What a record contributes to its partition's tree.
    pub(crate) fn item(&self, key: &Key, record: &Record) -> merkle::Item {
        merkle::item(key, record, self.tombstones)
    }

    /// Whether tombstones are compared here.
    pub(crate) fn tombstones(&self) -> Tombstones {
        self.tombstones
    }

    /// What expires here.
    pub(crate) fn expiring(&self) -> &RefCell<Expiring> {
        &self.expiring
    }

    /// A partition that is watched.
    pub(crate) fn with<T>(&self, partition: PartitionId, look: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        self.partitions.borrow_mut().get_mut(&partition).map(look)
    }

    /// The tree of a partition, if it has been built.
    pub(crate) fn tree<T>(&self, partition: PartitionId, look: impl FnOnce(&Tree) -> T) -> Option<T> {
        self.with(partition, |watched| watched.tree().map(look)).flatten()
    }

    /// All partitions that are watched, in order.
    pub(crate) fn partitions(&self) -> Vec<PartitionId> {
        self.partitions.borrow().keys().copied().collect()
    }

    /// How deep the tree of so many keys may be: the shard's trees together keep to their room.
    fn depth_for(&self, keys: u64) -> u8 {
        let partitions = self.partitions.borrow();
        let room = TREE_SHARD_BYTES_MAX / partitions.len().max(1);
        let wanted = merkle::depth_for(keys);
        let fits = |depth: &u8| (16usize << (4 * u32::from(*depth))) <= room;
        (merkle::DEPTH_MIN..=wanted).rev().find(fits).unwrap_or(merkle::DEPTH_MIN)
    }

    /// The checkpoint rows of partitions that are quiet, or of all. They are taken to be in the batch being filled:
    /// that is to be done at once.
    fn checkpoints(&self, even_busy: bool, rows_max: usize) -> Vec<(Bytes, Bytes)> {
        let mut partitions = self.partitions.borrow_mut();
        let expiring = self.expiring.borrow().partitions();
        let due = partitions.iter_mut().filter_map(|(partition, watched)| {
            let expires = watched.scan_wanted || expiring.contains(partition);
            let tree = watched.take_checkpoint(even_busy)?;
            Some((rows::row(partition.0, KIND_TREE, &[]), rows::encode_tree(tree, self.tombstones, expires)))
        });
        due.take(rows_max).collect()
    }
}

/// Starts the tasks of a shard.
pub(crate) fn begin<E: Env>(node: &Node<E>) {
    let env = &node.0.env;
    env.spawn("trees", scan::for_ever(node.clone()));
    env.spawn("checkpoints", checkpoint_for_ever(node.clone()));
    env.spawn("audits", audit::for_ever(node.clone()));
    env.spawn("expiry", expiry::for_ever(node.clone()));
}

/// The node is going down in order: what its trees say now need not be read anew.
pub(crate) fn checkpoint_all<E: Env>(node: &Node<E>) {
    let rows = node.0.trees.checkpoints(true, usize::MAX);
    // A store that refuses has said so; the trees are then built anew.
    let _ = node.0.store.append_plain(rows);
}

async fn checkpoint_for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    while node.0.store.broken().is_none() {
        env.sleep_until(env.now() + Duration::from_millis(TREE_CHECKPOINT_MS)).await;
        // A few at a time: they share the batch with what clients wait for.
        let rows = node.0.trees.checkpoints(false, CHECKPOINTS_MAX);
        if !rows.is_empty() {
            // As above.
            let _ = node.0.store.append_plain(rows);
        }
    }
}

const CHECKPOINTS_MAX: usize = 64;
