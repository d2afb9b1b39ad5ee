//! What of the store cannot be read: rows, to be mended, and pages that lack rows nobody can name.

use super::Store;
use crate::env::Env;
use crate::probe::Probe;
use bytes::Bytes;
use gramme_core::PartitionId;
use gramme_core::limits::DAMAGED_ROWS_MAX;
use gramme_storage::{Engine, EngineError, Page, Scan};
use std::ops::Bound;

impl<E: Env> Store<E> {
    /// A row's stored bytes cannot be read: it is remembered, to be mended from its other homes.
    pub(crate) fn damaged(&self, row: &Bytes, place: String) -> EngineError {
        self.env.probe(Probe::Corrupt);
        let mut state = self.state.borrow_mut();
        let is_home_data = crate::rows::partition_of_home_data(row).is_some();
        if is_home_data && state.damaged.len() < DAMAGED_ROWS_MAX && state.damaged.insert(row.clone()) {
            drop(state);
            self.env.probe(Probe::Damaged);
            self.damage.notify();
        }
        EngineError::Corrupt(place)
    }

    /// A page of rows as the engine shows them, which may not be durable yet. What could not be read of home data is
    /// remembered by its partition.
    pub(crate) async fn scan(&self, scan: Scan) -> Result<Page, EngineError> {
        let home_data = crate::rows::partition_of_home_data(&scan.prefix);
        let page = self.env.engine().scan(scan).await;
        let is_damaged = match &page {
            Ok(page) => page.damaged,
            Err(cause) => matches!(cause, EngineError::Corrupt(_)),
        };
        if let Some(partition) = home_data.filter(|_| is_damaged)
            && self.state.borrow_mut().damaged_partitions.insert(partition)
        {
            self.env.probe(Probe::PageDamaged);
        }
        page
    }

    /// All of a home partition could be read.
    pub(crate) fn read_whole(&self, partition: PartitionId) {
        self.state.borrow_mut().damaged_partitions.remove(&partition);
    }

    /// The home partitions that have such rows.
    pub(crate) fn partitions_with_damage(&self) -> Vec<PartitionId> {
        self.state.borrow().damaged_partitions.iter().copied().collect()
    }

    /// How many home partitions have rows that cannot be read and that nobody can name.
    pub(crate) fn damaged_partitions(&self) -> usize {
        self.state.borrow().damaged_partitions.len()
    }

    /// The next look at this row is at the disk, unless what is on its way there is newer: what was lost there in
    /// silence may still be at hand here.
    pub(crate) fn forget_cached(&self, row: &Bytes) {
        self.state.borrow_mut().cache.remove(row);
    }

    /// A damaged row can be read again, or has been overwritten.
    pub(crate) fn mended(&self, row: &Bytes) {
        self.state.borrow_mut().damaged.remove(row);
    }

    /// How many rows wait to be mended.
    pub(crate) fn damaged_count(&self) -> usize {
        self.state.borrow().damaged.len()
    }

    /// Some of them.
    pub(crate) fn damaged_rows(&self, most: usize) -> Vec<Bytes> {
        self.state.borrow().damaged.iter().take(most).cloned().collect()
    }

    /// The first damaged row after this one, in a circle, once there is any.
    pub(crate) async fn next_damaged(&self, last: &Bytes) -> Bytes {
        let next = || {
            let state = self.state.borrow();
            let beyond = (Bound::Excluded(last.clone()), Bound::Unbounded);
            state.damaged.range(beyond).next().or_else(|| state.damaged.first()).cloned()
        };
        self.damage.wait_for(next).await
    }
}
