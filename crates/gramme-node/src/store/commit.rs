//! Group commit: batch after batch to the engine, and whoever waits for one is told.

use super::{BatchId, State, Store};
use crate::env::Env;
use crate::probe::Probe;
use bytes::Bytes;
use gramme_core::limits::{BATCH_BYTES_MAX, BATCH_RETRY_MS, FULL_RETRY_MS};
use gramme_core::planted::{self, Bug};
use gramme_storage::{Batch, Engine, EngineError};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

impl<E: Env> Store<E> {
    /// Commits batch after batch for as long as the shard lives.
    pub(crate) async fn commit_for_ever(self: Rc<Self>) {
        loop {
            let (id, batch) = self.work.wait_for(|| self.state.borrow_mut().take_batch()).await;
            let rows: Vec<Bytes> = batch.changes.iter().map(|change| change.key().clone()).collect();
            let bytes = batch.size_bytes();
            let began = self.env.now();
            self.disk.borrow_mut().begin(began);
            let result = self.commit(batch).await;
            let ended = self.env.now();
            self.disk.borrow_mut().end(ended);
            self.admission.sync_took(ended.since(began));
            self.settle(id, &rows, bytes, result);
        }
    }

    /// Offers a batch until the engine, and the disk, have room for it.
    pub(super) async fn commit(&self, batch: Batch) -> Result<(), EngineError> {
        loop {
            let pause_ms = match self.env.engine().commit(batch.clone()).await {
                Err(EngineError::Busy) => BATCH_RETRY_MS,
                Err(EngineError::Full) if planted::on(Bug::FullIsDone) => return Ok(()),
                Err(EngineError::Full) => {
                    self.no_room();
                    FULL_RETRY_MS
                }
                Err(_) if planted::on(Bug::CommitErrorSwallowed) => return Ok(()),
                settled => return settled,
            };
            self.env.sleep_until(self.env.now() + Duration::from_millis(pause_ms)).await;
        }
    }

    /// Everyone who waits learns that the disk has no room; from now on nobody appends.
    pub(super) fn no_room(&self) {
        let is_news = !std::mem::replace(&mut self.state.borrow_mut().full, true);
        if is_news {
            self.env.probe(Probe::DiskFull);
        }
        self.tell_waiting();
    }

    pub(super) fn settle(&self, id: BatchId, rows: &[Bytes], bytes: usize, result: Result<(), EngineError>) {
        let mut state = self.state.borrow_mut();
        state.unsynced_bytes = state.unsynced_bytes.saturating_sub(bytes);
        match result {
            Ok(()) => {
                if std::mem::take(&mut state.full) {
                    self.env.probe(Probe::DiskHasRoom);
                }
                state.durable = id;
                for row in rows {
                    if state.overlay.get(row).is_some_and(|entry| entry.0 == id)
                        && let Some((_, kept)) = state.overlay.remove(row)
                    {
                        let cost = kept.cost_bytes();
                        state.cache.insert(row.clone(), kept, cost);
                    }
                }
            }
            Err(cause) => {
                self.env.probe(Probe::StoreBroken);
                let in_doubt: BTreeSet<Bytes> = state.overlay.drain().map(|(row, _)| row).collect();
                state.in_doubt.extend(in_doubt);
                state.pending.clear();
                state.sealed.clear();
                state.broken = Some(cause);
            }
        }
        drop(state);
        self.tell_waiting();
    }

    pub(super) fn tell_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for (batch, then) in waiting {
            match self.fate(batch) {
                Some(fate) => then(fate),
                None => self.waiting.borrow_mut().push((batch, then)),
            }
        }
        self.settled.notify();
    }
}

impl<E: Env> State<E> {
    /// Why nothing can be appended, and why what is not durable is not, if so.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        match &self.broken {
            Some(cause) => Err(cause.clone()),
            None if self.full => Err(EngineError::Full),
            None => Ok(()),
        }
    }

    pub(super) fn put(&mut self, row: Bytes, value: Option<Bytes>) {
        let size = |value: &Option<Bytes>| row.len() + value.as_ref().map_or(0, Bytes::len);
        let bytes = size(&value);
        let replaced = self.pending.insert(row.clone(), value).map_or(0, |old| size(&old));
        self.pending_bytes = self.pending_bytes + bytes - replaced;
        self.unsynced_bytes = self.unsynced_bytes + bytes - replaced;
    }

    pub(super) fn seal_if_full(&mut self) {
        if self.pending_bytes >= BATCH_BYTES_MAX {
            let batch = self.seal();
            self.sealed.push_back(batch);
        }
    }

    pub(super) fn seal(&mut self) -> Batch {
        self.filling += 1;
        self.pending_bytes = 0;
        let mut batch = Batch::new();
        for (row, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => batch.set(row, value),
                None => batch.remove(row),
            }
        }
        batch
    }

    /// The next batch to commit: they are numbered without gaps, in the order in which they were filled.
    pub(super) fn take_batch(&mut self) -> Option<(BatchId, Batch)> {
        if let Some(batch) = self.sealed.pop_front() {
            let behind = self.sealed.len() as BatchId;
            return Some((self.filling - 1 - behind, batch));
        }
        (!self.pending.is_empty()).then(|| (self.filling, self.seal()))
    }
}
