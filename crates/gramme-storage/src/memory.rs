//! The engine without a disk, for caches, for tests and as the yardstick: what a node costs when storing
//! is almost free.
//!
//! One store per process, as with a disk: handles are clones and may be used from every shard thread.
//! Rows lie in one ordered map per partition (modulo 256), each behind its own lock; a partition
//! belongs to one shard, so a lock is all but never contended, and none is held over an await. A commit
//! takes effect inside the call and its future is ready, which makes it "durable" for as long as the
//! process lives. The store refuses to outgrow the bytes it was given.

use crate::engine::{Batch, Change, Engine, EngineError, Page, Scan, Stats};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle to one store in memory; clones share it.
#[derive(Clone)]
pub struct MemoryEngine {
    store: Arc<Store>,
}

struct Store {
    slots: Vec<Slot>,
    stored_bytes: AtomicU64,
    stored_bytes_max: u64,
}

/// On a cache line of its own, so that shards that work on neighbouring partitions do not slow each other.
#[repr(align(64))]
#[derive(Default)]
struct Slot {
    rows: Mutex<Rows>,
}

/// Rows are found by hash, and their order is kept beside: most batches overwrite what is there, and need it
/// not.
#[derive(Default)]
struct Rows {
    by_key: HashMap<Bytes, Bytes, RandomState>,
    in_order: BTreeSet<Bytes>,
    batches: u64,
}

impl MemoryEngine {
    /// An empty store that grows as long as the process may.
    pub fn new() -> MemoryEngine {
        MemoryEngine::with_limit(u64::MAX)
    }

    /// An empty store that answers [`EngineError::Full`] to a batch that would take the bytes of its keys
    /// and values past `stored_bytes_max`.
    pub fn with_limit(stored_bytes_max: u64) -> MemoryEngine {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        MemoryEngine { store: Arc::new(Store { slots, stored_bytes: AtomicU64::new(0), stored_bytes_max }) }
    }

    fn rows(&self, slot: usize) -> MutexGuard<'_, Rows> {
        // A panic elsewhere leaves the map itself whole: every change of it is one call.
        self.store.slots[slot].rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let Some(first) = batch.changes.first() else { return Ok(()) };
        if self.store.stored_bytes_max != u64::MAX && !self.has_room_for(batch) {
            return Err(EngineError::Full);
        }
        let (mut grown, mut shrunk) = (0, 0);
        let mut slot = slot_of(first.key());
        let mut rows = self.rows(slot);
        rows.batches += 1;
        for change in &batch.changes {
            let next = slot_of(change.key());
            if next != slot {
                drop(rows);
                slot = next;
                rows = self.rows(slot);
            }
            match change {
                Change::Set(key, value) => {
                    grown += value.len();
                    match rows.by_key.get_mut(key) {
                        Some(held) => shrunk += std::mem::replace(held, value.clone()).len(),
                        None => {
                            grown += key.len();
                            rows.by_key.insert(key.clone(), value.clone());
                            rows.in_order.insert(key.clone());
                        }
                    }
                }
                Change::Remove(key) => {
                    if let Some(held) = rows.by_key.remove(key) {
                        rows.in_order.remove(key);
                        shrunk += key.len() + held.len();
                    }
                }
            }
        }
        drop(rows);
        // Two's complement: adding the wrapped difference subtracts when the batch shrank the store.
        self.store.stored_bytes.fetch_add((grown as u64).wrapping_sub(shrunk as u64), Relaxed);
        Ok(())
    }

    fn has_room_for(&self, batch: &Batch) -> bool {
        let removes_only = batch.changes.iter().all(|change| matches!(change, Change::Remove(_)));
        let after = self.store.stored_bytes.load(Relaxed).saturating_add(batch.size_bytes() as u64);
        removes_only || after <= self.store.stored_bytes_max
    }

    fn page(&self, scan: &Scan) -> Page {
        let from = match &scan.after {
            Some(after) if *after >= scan.prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(scan.prefix.clone()),
        };
        let rows = self.rows(slot_of(&scan.prefix));
        let mut page = Page::default();
        let mut page_bytes = 0;
        for key in rows.in_order.range((from, Bound::Unbounded)) {
            if !key.starts_with(&scan.prefix) {
                break;
            }
            let Some(value) = rows.by_key.get(key) else { continue };
            let is_full = page.rows.len() >= scan.rows_max || page_bytes >= scan.bytes_max;
            if is_full && !page.rows.is_empty() {
                page.more = true;
                break;
            }
            page_bytes += key.len() + value.len();
            page.rows.push((key.clone(), value.clone()));
        }
        page
    }

    fn remove_partition(&self, partition: u16) {
        let prefix = Bytes::copy_from_slice(&partition.to_be_bytes());
        let mut rows = self.rows(slot_of(&prefix));
        let mut kept_above = match partition.checked_add(1) {
            Some(above) => rows.in_order.split_off(&Bytes::copy_from_slice(&above.to_be_bytes())),
            None => BTreeSet::new(),
        };
        let dropped = rows.in_order.split_off(&prefix);
        rows.in_order.append(&mut kept_above);
        rows.batches += 1;
        let bytes: usize = dropped
            .iter()
            .map(|key| key.len() + rows.by_key.remove(key).map_or(0, |value| value.len()))
            .sum();
        drop(rows);
        self.store.stored_bytes.fetch_sub(bytes as u64, Relaxed);
    }
}

impl Default for MemoryEngine {
    fn default() -> MemoryEngine {
        MemoryEngine::new()
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>> {
        ready(Ok(self.rows(slot_of(key)).by_key.get(key).cloned()))
    }

    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static {
        ready(self.apply(&batch))
    }

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<Page, EngineError>> {
        ready(Ok(self.page(&scan)))
    }

    fn drop_partition(&self, partition: u16) -> impl Future<Output = Result<(), EngineError>> {
        self.remove_partition(partition);
        ready(Ok(()))
    }

    fn sync(&self) -> impl Future<Output = Result<(), EngineError>> {
        ready(Ok(()))
    }

    fn stats(&self) -> Stats {
        let batches = (0..SLOTS).map(|slot| self.rows(slot).batches).sum();
        Stats { stored_bytes: self.store.stored_bytes.load(Relaxed), batches, ..Stats::default() }
    }
}

/// The slot of a key's partition; a key too short to name one lies in the first.
fn slot_of(key: &[u8]) -> usize {
    match key {
        [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])) % SLOTS,
        _ => 0,
    }
}

/// As many maps as a cluster has partitions by default; more partitions share them.
const SLOTS: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test's unwrap is its assertion
mod tests {
    use super::*;
    use crate::conformance;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn the_memory_engine_conforms() {
        for seed in 1..=20 {
            block_on(conformance::check_all(async || MemoryEngine::new(), seed));
        }
    }

    #[test]
    fn a_commit_has_taken_effect_before_its_future_is_polled() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        batch.set(&b"\0\x01key"[..], &b"value"[..]);
        let unpolled = engine.commit(batch);
        assert_eq!(block_on(engine.get(b"\0\x01key")), Ok(Some(Bytes::from_static(b"value"))));
        drop(unpolled);
    }

    #[test]
    fn partitions_that_share_a_slot_are_dropped_apart() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        batch.set(&b"\x00\x07a"[..], &b"1"[..]);
        batch.set(&b"\x01\x07a"[..], &b"2"[..]);
        batch.set(&b"\x02\x07a"[..], &b"3"[..]);
        block_on(engine.commit(batch)).unwrap();
        block_on(engine.drop_partition(0x0107)).unwrap();
        assert_eq!(block_on(engine.get(b"\x00\x07a")), Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(block_on(engine.get(b"\x01\x07a")), Ok(None));
        assert_eq!(block_on(engine.get(b"\x02\x07a")), Ok(Some(Bytes::from_static(b"3"))));
        assert_eq!(engine.stats().stored_bytes, 8);
    }

    #[test]
    fn a_full_store_refuses_writes_and_takes_removals() {
        let engine = MemoryEngine::with_limit(10);
        let set = |value: &'static [u8]| {
            let mut batch = Batch::new();
            batch.set(&b"\0\x01k"[..], value);
            batch
        };
        assert_eq!(block_on(engine.commit(set(b"1234567"))), Ok(()));
        assert_eq!(block_on(engine.commit(set(b"12345678"))), Err(EngineError::Full));
        assert_eq!(block_on(engine.get(b"\0\x01k")), Ok(Some(Bytes::from_static(b"1234567"))));
        let mut removal = Batch::new();
        removal.remove(&b"\0\x01k"[..]);
        assert_eq!(block_on(engine.commit(removal)), Ok(()));
        assert_eq!(engine.stats().stored_bytes, 0);
    }
}
