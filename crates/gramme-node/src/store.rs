//! One shard's rows, between the flows and the engine: an overlay of what is not yet durable, a bounded
//! cache of what recently was, and the group commit that turns one into the other.
//!
//! Everything that is appended while a batch is on its way to the disk becomes the next batch: one durable
//! sync for all that waits. Later appends build on the overlay; reads of a row in the overlay wait for its
//! batch, so that nobody is shown what a crash could still take back.
//!
//! Invariant: a row in the overlay is newer than what the engine shows for it, and a row in the cache is
//! exactly what the engine would show.
//!
//! A disk without room has refused a batch as a whole: the store keeps it and offers it again until there is
//! room, and meanwhile refuses appends before anything of them is done, tells whoever waits for a kept batch that
//! it is not durable, and shows of the rows in it what the disk holds. Nothing that was noted in memory (a dot, a
//! seen clock) is then ever ahead of what the disk will hold.
//!
//! It refuses every append after a batch has failed, and every read of a row that such a batch held: what the
//! disk then holds is unknown until the store is opened again under new incarnations.

mod commit;
mod damage;
mod kept;

use kept::is_hint;
pub(crate) use kept::{Kept, RowLock};

use crate::admission::Admission;
use crate::cache::{ByRow, Cache};
use crate::disk_pulse::DiskPulse;
use crate::env::Env;
use crate::exchange::Recent;
use crate::signal::Signal;
use bytes::Bytes;
use foldhash::fast::FixedState;
use gramme_core::PartitionId;
use gramme_core::codec::decode_record;
use gramme_core::limits::{SERVED_MAX, UNSYNCED_BYTES_MAX};
use gramme_core::planted::{self, Bug};
use gramme_storage::{Batch, Engine, EngineError};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The number of a batch; batches become durable in this order.
pub(crate) type BatchId = u64;

/// See the module.
pub(crate) struct Store<E: Env> {
    env: E,
    admission: Rc<Admission<E>>,
    state: RefCell<State<E>>,
    work: Signal,
    settled: Signal,
    damage: Signal,
    waiting: RefCell<Vec<(BatchId, Settled)>>,
    disk: RefCell<DiskPulse>,
    recent: RefCell<Recent>,
}

/// What is to be done once a batch is durable, or never will be.
type Settled = Box<dyn FnOnce(Result<(), EngineError>)>;

struct State<E: Env> {
    /// The number of the batch being filled.
    filling: BatchId,
    durable: BatchId,
    /// Rows to be set, or removed.
    pending: BTreeMap<Bytes, Option<Bytes>>,
    pending_bytes: usize,
    /// Batches that are full and wait for the one on its way; numbered up to `filling`.
    sealed: VecDeque<Batch>,
    unsynced_bytes: usize,
    overlay: ByRow<(BatchId, Rc<Kept>)>,
    cache: Cache,
    locks: ByRow<VecDeque<oneshot::Sender<RowLock<E>>>>,
    broken: Option<EngineError>,
    /// The disk has no room: the batch after `durable`, and all behind it, wait until it has.
    full: bool,
    /// Rows of homes whose stored bytes could not be read, until they are mended.
    damaged: BTreeSet<Bytes>,
    /// Home partitions of which a page could not be read whole, until all of it can: rows are missing there that
    /// nobody can name.
    damaged_partitions: BTreeSet<PartitionId>,
    /// Rows of batches that failed: the engine may show them, and a crash may still take them back.
    in_doubt: BTreeSet<Bytes>,
}

impl<E: Env> Store<E> {
    /// An empty overlay over the environment's engine, and a cache of so many bytes.
    pub(crate) fn new(env: E, cache_bytes: usize, admission: Rc<Admission<E>>) -> Rc<Store<E>> {
        let seed = env.random();
        let state = State {
            filling: 1,
            durable: 0,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            sealed: VecDeque::new(),
            unsynced_bytes: 0,
            overlay: ByRow::with_hasher(FixedState::with_seed(seed)),
            cache: Cache::new(cache_bytes, seed),
            locks: ByRow::with_hasher(FixedState::with_seed(seed)),
            broken: None,
            full: false,
            damaged: BTreeSet::new(),
            damaged_partitions: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
        };
        Rc::new(Store {
            env,
            admission,
            state: RefCell::new(state),
            work: Signal::default(),
            settled: Signal::default(),
            damage: Signal::default(),
            waiting: RefCell::default(),
            disk: RefCell::default(),
            recent: RefCell::default(),
        })
    }

    /// What broke the store, if anything did.
    pub(crate) fn broken(&self) -> Option<EngineError> {
        self.state.borrow().broken.clone()
    }

    /// Why nothing can be appended, if so: to be asked before anything that an append is to record is done.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        self.state.borrow().check()
    }

    /// Whether appends are refused because the disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.state.borrow().full
    }

    /// Which rows recent dots belong to.
    pub(crate) fn recent(&self) -> RefMut<'_, Recent> {
        self.recent.borrow_mut()
    }

    /// Whether more may be appended: not while too much, or too many, wait for the disk.
    pub(crate) fn has_room(&self) -> bool {
        self.state.borrow().unsynced_bytes < UNSYNCED_BYTES_MAX && self.waiting.borrow().len() < SERVED_MAX
    }

    /// How long this node's own disk has stalled; zero if it does not.
    pub(crate) fn stalls_for(&self) -> Duration {
        self.disk.borrow().stalls_for(self.env.now())
    }

    /// How full it is of what waits for the disk.
    pub(crate) fn fill_percent(&self) -> u64 {
        let bytes = 100 * self.state.borrow().unsynced_bytes / UNSYNCED_BYTES_MAX;
        (100 * self.waiting.borrow().len() / SERVED_MAX).max(bytes) as u64
    }

    /// The latest state of a row, durable or not, for whoever will build on it. Call under [`Store::lock`].
    pub(crate) async fn latest(&self, row: &Bytes) -> Result<Rc<Kept>, EngineError> {
        if let Some(kept) = self.at_hand(row) {
            return Ok(kept);
        }
        let found = self.fetch(row).await?;
        // Whoever appended meanwhile knows better.
        Ok(self.at_hand(row).unwrap_or(found))
    }

    /// The durable state of a row: waits for the batch that holds it.
    pub(crate) async fn durable(&self, row: &Bytes) -> Result<Rc<Kept>, EngineError> {
        if let Some(kept) = self.once_durable(row).await? {
            return Ok(kept);
        }
        let at_hand = self.state.borrow_mut().cache.get(row);
        if let Some(kept) = at_hand {
            return Ok(kept);
        }
        let found = self.fetch(row).await?;
        // The engine may already show a batch that is not yet durable.
        Ok(self.once_durable(row).await?.unwrap_or(found))
    }

    /// The state of a row that is on its way to the disk, once it is there. What is written to the row
    /// meanwhile is not waited for: readers of a row that is written all the time would wait for ever.
    pub(crate) async fn once_durable(&self, row: &Bytes) -> Result<Option<Rc<Kept>>, EngineError> {
        let on_its_way = {
            let state = self.state.borrow();
            if state.in_doubt.contains(row) {
                state.check()?;
            }
            // What a full disk has refused is not there, and may not be for long: the disk shows the row as it is.
            state.overlay.get(row).filter(|_| !state.full).cloned()
        };
        let Some((batch, kept)) = on_its_way else { return Ok(None) };
        match self.wait(batch).await {
            Ok(()) => Ok(Some(kept)),
            Err(EngineError::Full) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Makes these rows part of the batch being filled; `kept` is what `row` decodes to.
    pub(crate) fn append(
        &self,
        row: Bytes,
        kept: Rc<Kept>,
        others: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<BatchId, EngineError> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        let value = kept.value_of(&row);
        others.into_iter().for_each(|(row, value)| state.put(row, Some(value)));
        state.put(row.clone(), Some(value));
        let batch = state.filling;
        state.cache.remove(&row);
        state.overlay.insert(row, (batch, kept));
        state.seal_if_full();
        self.work.notify();
        Ok(batch)
    }

    /// Makes the removal of a record's row, and these other rows, part of the batch being filled.
    pub(crate) fn remove(
        &self,
        row: Bytes,
        others: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<BatchId, EngineError> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        others.into_iter().for_each(|(row, value)| state.put(row, Some(value)));
        state.put(row.clone(), None);
        let batch = state.filling;
        state.cache.remove(&row);
        state.overlay.insert(row, (batch, Rc::default()));
        state.seal_if_full();
        self.work.notify();
        Ok(batch)
    }

    /// Makes rows that are not records part of the batch being filled.
    pub(crate) fn append_plain(
        &self,
        rows: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<BatchId, EngineError> {
        self.change_plain(rows.into_iter().map(|(row, value)| (row, Some(value))))
    }

    /// Makes rows that are not records part of the batch being filled: to be set, or without a value removed.
    pub(crate) fn change_plain(
        &self,
        rows: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<BatchId, EngineError> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        rows.into_iter().for_each(|(row, value)| state.put(row, value));
        let batch = state.filling;
        state.seal_if_full();
        self.work.notify();
        Ok(batch)
    }

    /// The batch in which a row's latest state is, if that is not yet durable.
    pub(crate) fn batch_of(&self, row: &Bytes) -> BatchId {
        self.state.borrow().overlay.get(row).map_or(0, |entry| entry.0)
    }

    /// Resolves once a batch is durable.
    pub(crate) async fn wait(&self, batch: BatchId) -> Result<(), EngineError> {
        self.settled.wait_for(|| self.fate(batch)).await
    }

    /// Calls `then` once a batch is durable, or never will be: what an acknowledgement waits for, without a
    /// task of its own.
    pub(crate) fn when_durable(&self, batch: BatchId, then: impl FnOnce(Result<(), EngineError>) + 'static) {
        match self.fate(batch) {
            Some(fate) => then(fate),
            None => self.waiting.borrow_mut().push((batch, Box::new(then))),
        }
    }

    fn fate(&self, batch: BatchId) -> Option<Result<(), EngineError>> {
        let state = self.state.borrow();
        if state.durable >= batch { Some(Ok(())) } else { state.check().err().map(Err) }
    }

    /// Resolves once everything appended so far is durable.
    pub(crate) async fn wait_all(&self) -> Result<(), EngineError> {
        let last = {
            let state = self.state.borrow();
            if state.pending.is_empty() { state.filling - 1 } else { state.filling }
        };
        self.wait(last).await
    }

    /// The sole right to read, change and append one row. Those who wait get it in their order.
    pub(crate) async fn lock(self: &Rc<Self>, row: &Bytes) -> RowLock<E> {
        let turn = {
            let mut state = self.state.borrow_mut();
            match state.locks.get_mut(row) {
                Some(queue) => {
                    let (give, turn) = oneshot::channel();
                    queue.push_back(give);
                    Some(turn)
                }
                None => {
                    state.locks.insert(row.clone(), VecDeque::new());
                    None
                }
            }
        };
        match turn {
            Some(turn) => turn.await.expect("a row's holder hands it on before it lets go"),
            None => RowLock { store: self.clone(), row: row.clone() },
        }
    }

    fn at_hand(&self, row: &Bytes) -> Option<Rc<Kept>> {
        let mut state = self.state.borrow_mut();
        match state.overlay.get(row) {
            Some((_, kept)) => Some(kept.clone()),
            None => state.cache.get(row),
        }
    }

    async fn fetch(&self, row: &Bytes) -> Result<Rc<Kept>, EngineError> {
        let started_at = self.state.borrow().durable;
        let found = match self.env.engine().get(row).await {
            Ok(found) => found,
            Err(_) if planted::on(Bug::ErrorIsNotFound) => None,
            Err(EngineError::Corrupt(_)) if planted::on(Bug::MendAlone) => None,
            Err(EngineError::Corrupt(place)) => return Err(self.damaged(row, place)),
            Err(cause) => return Err(cause),
        };
        let kept = Rc::new(match found {
            None => Kept::default(),
            Some(bytes) => self.decode(row, bytes)?,
        });
        let mut state = self.state.borrow_mut();
        if state.in_doubt.contains(row)
            && let Some(cause) = &state.broken
        {
            return Err(cause.clone());
        }
        // A batch that settled while the engine was reading may have overtaken what it read.
        if state.durable == started_at && !state.overlay.contains_key(row) {
            let cost = kept.cost_bytes();
            state.cache.insert(row.clone(), kept.clone(), cost);
        }
        Ok(kept)
    }

    fn decode(&self, row: &Bytes, bytes: Bytes) -> Result<Kept, EngineError> {
        let length = bytes.len();
        let decoded = if is_hint(row) {
            crate::rows::decode_hint(&bytes).map(|(hint_for, record, encoded)| Kept {
                record,
                encoded,
                hint_for,
            })
        } else {
            decode_record(&bytes).map(|record| Kept { record, encoded: bytes, hint_for: Vec::new() })
        };
        decoded.map_err(|bad| self.damaged(row, format!("a record of {length} bytes: {bad}")))
    }
}
