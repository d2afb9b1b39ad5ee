//! Reading a partition through, a page at a time: to build a tree that no checkpoint holds, and, as the slow *scrub*,
//! to see that what is stored can still be read, that its values verify, and that the tree is what it should be.
//!
//! One partition of a shard at a time; every page is a slice of background work. A row that cannot be read is
//! counted and passed over: it holds up neither the tree nor the other rows.

use crate::admission::Work;
use crate::env::{Env, Mono};
use crate::node::Node;
use crate::probe::Probe;
use crate::rows::{self, KIND_DATA};
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::{ROW_COST_BYTES, TREE_PAGE_BYTES, TREE_PAGE_ROWS};
use gramme_core::merkle::{FAN_OUT, KEYS_PER_LEAF};
use gramme_core::{Key, PartitionId, Record};
use gramme_storage::{EngineError, Scan};
use std::time::Duration;

/// Scans whatever is to be scanned, for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    while node.0.store.broken().is_none() {
        let Some((partition, work)) = next(&node) else {
            env.sleep_until(env.now() + LOOK).await;
            continue;
        };
        if scan(&node, partition, work).await.is_err() {
            // Whoever owns the disk has been told by the read itself; the partition has its turn again later.
            node.0.trees.with(partition, |watched| watched.scan_failed());
            env.sleep_until(env.now() + RETRY).await;
        }
    }
}

/// The partition to scan next: one without a tree, one that somebody wants scanned or whose tree has become too
/// small, then the one whose turn it is in the scrub.
fn next<E: Env>(node: &Node<E>) -> Option<(PartitionId, Work)> {
    let trees = &node.0.trees;
    let partitions = trees.partitions();
    let first = |wanted: &dyn Fn(PartitionId) -> bool| partitions.iter().copied().find(|&p| wanted(p));
    let unbuilt = |p| trees.tree(p, |_| ()).is_none();
    let wanted = |p| trees.with(p, |watched| watched.scan_wanted) == Some(true);
    let crowded = |p| {
        let deeper = |keys, depth| {
            trees.depth_for(keys) > depth && keys > CROWDED * (FAN_OUT as u64).pow(depth.into())
        };
        trees.tree(p, |tree| (tree.keys(), tree.depth())).is_some_and(|(keys, depth)| deeper(keys, depth))
    };
    if let Some(partition) = first(&unbuilt).or_else(|| first(&wanted)).or_else(|| first(&crowded)) {
        return Some((partition, Work::Rebuild));
    }
    let now = node.0.env.now();
    let scrub = Duration::from_millis(node.0.options.upkeep.scrub_ms);
    let count = partitions.len().max(1) as u32;
    let due = |at: usize, p| {
        // One that was not read in this life has its turn by its place, so that they do not come all at once.
        let of_life = Mono::default() + scrub / count * (at as u32 + 1);
        let scanned = trees.with(p, |watched| watched.scanned_at).flatten();
        scanned.map_or(of_life, |scanned| scanned + scrub)
    };
    let turns = partitions.iter().enumerate().map(|(at, &p)| (due(at, p), p));
    turns.min().filter(|turn| turn.0 <= now).map(|turn| (turn.1, Work::Scrub))
}

/// Reads a partition through and puts the tree that it makes in the old one's place.
pub(crate) async fn scan<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    work: Work,
) -> Result<(), EngineError> {
    let trees = &node.0.trees;
    trees.with(partition, |watched| watched.scan_begins());
    let mut after = None;
    let mut corrupt = 0;
    let mut whole = true;
    loop {
        trees.with(partition, |watched| watched.page_begins());
        node.0.store.wait_all().await?;
        let page = page(node, partition, after.take()).await?;
        corrupt += page.corrupt.len() as u64;
        whole &= page.whole;
        let items: Vec<_> =
            page.rows.iter().map(|(key, record)| (key.joined().clone(), trees.item(key, record))).collect();
        for (key, record) in &page.rows {
            trees.expiring().borrow_mut().note(partition, key, record);
        }
        let last = page.next.as_ref().map(rows::rest);
        trees.with(partition, |watched| watched.page_read(&items, last));
        if page.next.is_none() {
            break;
        }
        after = page.next;
        // Paid for afterwards: only then is it known what it was.
        node.admission().slice(work, page.cost).await;
    }
    if whole {
        node.0.store.read_whole(partition);
    }
    let keys = trees.with(partition, |watched| watched.keys_scanned()).unwrap_or(0);
    let depth = trees.depth_for(keys);
    let now = node.0.env.now();
    let differed = trees.with(partition, |watched| {
        watched.corrupt = corrupt;
        watched.scan_ends(depth, now, whole)
    });
    node.0.env.probe(Probe::PartitionScanned);
    if differed == Some(true) {
        // The tree had lost its way: nothing that was compared by it holds.
        node.0.env.probe(Probe::TreeMismatch);
        trees.with(partition, |watched| watched.audits.clear());
    }
    Ok(())
}

/// A page of a partition's rows as the engine shows them.
pub(crate) struct Rows {
    /// What can be read, in order of key.
    pub(crate) rows: Vec<(Key, Record)>,
    /// Rows that cannot be read, or that hold a value which fails its checksum.
    pub(crate) corrupt: Vec<Bytes>,
    /// Whether all rows there are can be read.
    pub(crate) whole: bool,
    /// What reading them has cost, in bytes of background work.
    pub(crate) cost: u64,
    /// The row after which the next page begins; `None` if this was the last.
    pub(crate) next: Option<Bytes>,
}

/// Reads a page. What is not yet durable may be shown or not.
pub(crate) async fn page<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    after: Option<Bytes>,
) -> Result<Rows, EngineError> {
    page_within(node, rows::row(partition.0, KIND_DATA, &[]), after).await
}

/// Reads a page of the rows that begin like this.
pub(crate) async fn page_within<E: Env>(
    node: &Node<E>,
    prefix: Bytes,
    after: Option<Bytes>,
) -> Result<Rows, EngineError> {
    let scan = Scan { prefix, after, rows_max: TREE_PAGE_ROWS, bytes_max: TREE_PAGE_BYTES };
    let page = node.0.store.scan(scan).await?;
    let next = page.rows.last().filter(|_| page.more).map(|last| last.0.clone());
    let mut read = Rows {
        rows: Vec::with_capacity(page.rows.len()),
        corrupt: Vec::new(),
        whole: !page.damaged,
        cost: 0,
        next,
    };
    for (row, value) in page.rows {
        read.cost += (row.len() + value.len()) as u64 + ROW_COST_BYTES;
        let record = Key::from_joined(rows::rest(&row)).ok().zip(decode_record(&value).ok());
        match record {
            Some((key, record)) => {
                if record.siblings().iter().any(|sibling| !sibling.verifies()) {
                    node.0.env.probe(Probe::Corrupt);
                    read.corrupt.push(row);
                }
                read.rows.push((key, record));
            }
            None => {
                // Reading it says so to whoever mends rows.
                let _ = node.0.store.durable(&row).await;
                read.whole = false;
                read.corrupt.push(row);
            }
        }
    }
    Ok(read)
}

/// Between two looks whether anything is to be scanned.
const LOOK: Duration = Duration::from_secs(1);
/// After a scan that could not go on.
const RETRY: Duration = Duration::from_secs(30);
/// Keys per leaf from which on a tree is built anew, one level deeper.
const CROWDED: u64 = 4 * KEYS_PER_LEAF;
