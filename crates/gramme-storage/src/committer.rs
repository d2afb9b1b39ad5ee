//! Group commit: one thread per database appends all batches that wait, issues one durable sync for all
//! of them, and completes them together.
//!
//! Invariant: batches are appended in the order in which they were submitted, and none is completed
//! before a sync that began after its append has succeeded. After the first failed append or sync nothing
//! is ever written again: the operating system may have dropped the very pages that failed, so a second
//! sync that succeeds proves nothing.
//!
//! The committer refuses to grow: past [`Bounds`] a batch is turned away before anything of it was done.
//! It knows nothing of any database; it drives a [`Log`].

use crate::bell::{Answer, Answered, Bell};
use crate::engine::{Batch, Change, EngineError};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// What the committer writes to: a database's journal and tables.
pub(crate) trait Log {
    /// Whether the disk has room for this many bytes more and what housekeeping needs.
    fn has_room(&mut self, bytes: usize) -> bool;

    /// Appends the changes of these batches, in order, as one unit that a crash keeps or loses whole.
    fn append(&mut self, batches: &[&Batch]) -> Result<(), Fault>;

    /// Makes everything appended so far durable.
    fn sync(&mut self) -> Result<(), Fault>;

    /// Removes up to `rows_max` rows of a partition, from the lowest key on that `removal` has not passed.
    /// Whether rows may remain.
    fn remove_some(&mut self, removal: &mut Removal, rows_max: usize) -> Result<bool, Fault>;

    /// Bytes on disk; called between groups, never often.
    fn stored_bytes(&mut self) -> u64;
}

/// A failure after which nothing may be written to this store any more, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

/// A partition being removed, a slice of rows at a time so that other partitions' batches need not wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) partition: u16,
    /// All rows up to this key are gone.
    pub(crate) passed: Option<Vec<u8>>,
}

/// How much may wait, and how much one sync may cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) waiting_bytes_max: usize,
    pub(crate) waiting_batches_max: usize,
    pub(crate) group_bytes_max: usize,
}

/// The submitting side, shared by all handles of a store.
pub(crate) struct Committer {
    bounds: Bounds,
    queue: Mutex<Queue>,
    work_came: Condvar,
    failed: watch::Sender<Option<String>>,
    pub(crate) counts: Counts,
}

/// What the committer did since the store was opened.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) batches: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_nanos: AtomicU64,
    pub(crate) sync_nanos_max: AtomicU64,
    pub(crate) stored_bytes: AtomicU64,
    /// The latest syncs that nobody has taken yet, oldest first.
    recent: Mutex<VecDeque<u64>>,
}

/// Resolves once the work it stands for is durable or has failed.
pub(crate) type Completion = oneshot::Receiver<Result<(), EngineError>>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The committer sleeps and must be woken: spares a system call per batch while it works.
    is_idle: bool,
    /// Why nothing is taken in any more.
    end: Option<EngineError>,
}

struct Waiting {
    work: Work,
    bytes: usize,
    done: Answer<()>,
    /// The bell of the shard that waits, if it has one.
    bell: Option<Arc<Bell>>,
}

enum Work {
    Commit(Batch),
    RemovePartition(u16),
}

impl Committer {
    pub(crate) fn new(bounds: Bounds) -> Committer {
        Committer {
            bounds,
            queue: Mutex::default(),
            work_came: Condvar::new(),
            failed: watch::Sender::new(None),
            counts: Counts::default(),
        }
    }

    /// Fixes the batch's place in the order; never blocks on the disk. An empty batch is a barrier: it
    /// completes when everything before it has.
    pub(crate) fn commit(&self, batch: Batch, bell: Option<&Arc<Bell>>) -> Result<Completion, EngineError> {
        check_rows(&batch)?;
        let bytes = batch.size_bytes() + ROW_OVERHEAD_BYTES * batch.changes.len();
        self.submit(Work::Commit(batch), bytes, bell)
    }

    /// Submits the removal of every row that earlier batches left in this partition.
    pub(crate) fn remove_partition(&self, partition: u16) -> Result<Completion, EngineError> {
        self.submit(Work::RemovePartition(partition), 0, None)
    }

    /// What to answer when a completion was dropped unanswered: the committer's thread is gone.
    pub(crate) fn end(&self) -> EngineError {
        self.queue().end.clone().unwrap_or(EngineError::Closed)
    }

    /// Resolves with the fault that ended the store, once one has.
    pub(crate) fn failure(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failed = self.failed.subscribe();
        async move {
            let fault = failed.wait_for(Option::is_some).await.map(|fault| fault.clone());
            match fault {
                Ok(Some(fault)) => fault,
                // The store was closed in peace.
                _ => std::future::pending().await,
            }
        }
    }

    /// Takes in nothing more; what already waits is still done, then [`Committer::run`] returns.
    pub(crate) fn close(&self) {
        self.queue().end.get_or_insert(EngineError::Closed);
        self.work_came.notify_one();
    }

    /// Works until the committer is closed; this is the body of the one thread per database.
    pub(crate) fn run(&self, log: &mut impl Log) {
        // A panic below is a defect of the log; whoever waits learns that the store is lost.
        let _poison_on_panic = PoisonOnPanic(self);
        let mut removals: VecDeque<(Removal, Waiting)> = VecDeque::new();
        self.counts.stored_bytes.store(log.stored_bytes(), Relaxed);
        while let Some(group) = self.next_group(!removals.is_empty()) {
            if let Err(fault) = self.step(log, group, &mut removals) {
                fail_all(removals.drain(..).map(|(_, waiting)| waiting), &fault);
            }
            if self.counts.syncs.load(Relaxed).is_multiple_of(SYNCS_BETWEEN_SIZES) {
                self.counts.stored_bytes.store(log.stored_bytes(), Relaxed);
            }
        }
    }

    /// One slice of the removal at work, if any, then one group of batches.
    fn step(
        &self,
        log: &mut impl Log,
        mut group: Vec<Waiting>,
        removals: &mut VecDeque<(Removal, Waiting)>,
    ) -> Result<(), Fault> {
        let removal = split_off_removal(&mut group);
        // A batch may not overtake the removal of a partition it touches.
        let must_finish = removals.iter().any(|(removal, _)| touches(&group, removal.partition));
        let result = match self.drive_removals(log, removals, must_finish) {
            Ok(()) => self.commit_group(log, group),
            Err(fault) => {
                self.poison(&fault);
                fail_all(group, &fault);
                Err(fault)
            }
        };
        removals.extend(removal);
        result
    }

    /// One slice of the first removal, or all removals to their end.
    fn drive_removals(
        &self,
        log: &mut impl Log,
        removals: &mut VecDeque<(Removal, Waiting)>,
        to_the_end: bool,
    ) -> Result<(), Fault> {
        while let Some((removal, _)) = removals.front_mut() {
            let more = log.remove_some(removal, REMOVED_ROWS_MAX)?;
            if !more {
                self.timed_sync(log)?;
                if let Some((_, waiting)) = removals.pop_front() {
                    self.counts.batches.fetch_add(1, Relaxed);
                    complete_all([waiting], &Ok(()));
                }
            }
            if !to_the_end {
                break;
            }
        }
        Ok(())
    }

    /// Append all, sync once, complete all.
    fn commit_group(&self, log: &mut impl Log, group: Vec<Waiting>) -> Result<(), Fault> {
        let (group, refused) = self.admit(log, group);
        complete_all(refused, &Err(EngineError::Full));
        let batches: Vec<&Batch> =
            group.iter().filter_map(batch_of).filter(|b| !b.changes.is_empty()).collect();
        // A group of barriers alone follows a sync that covered everything before it.
        if !batches.is_empty() {
            let result = log.append(&batches).and_then(|()| self.timed_sync(log));
            if let Err(fault) = result {
                self.poison(&fault);
                fail_all(group, &fault);
                return Err(fault);
            }
            self.counts.batches.fetch_add(batches.len() as u64, Relaxed);
        }
        complete_all(group, &Ok(()));
        Ok(())
    }

    /// Splits off what a full disk has no room for: a batch that only removes rows is always let through,
    /// since it is the way out.
    fn admit(&self, log: &mut impl Log, group: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
        let bytes = group.iter().map(|waiting| waiting.bytes).sum();
        if log.has_room(bytes) {
            return (group, Vec::new());
        }
        group.into_iter().partition(|waiting| {
            let changes = batch_of(waiting).map_or(&[][..], |batch| &batch.changes);
            changes.iter().all(|change| matches!(change, Change::Remove(_)))
        })
    }

    fn timed_sync(&self, log: &mut impl Log) -> Result<(), Fault> {
        let started = Instant::now();
        log.sync()?;
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counts.add_sync(nanos);
        Ok(())
    }

    /// Waits for work. `None` once closed and empty; may be an empty group if `has_more` work is at hand.
    fn next_group(&self, has_more: bool) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        while queue.waiting.is_empty() && !has_more {
            if queue.end.is_some() {
                return None;
            }
            queue.is_idle = true;
            queue = self.work_came.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.is_idle = false;
        }
        let mut group = Vec::with_capacity(queue.waiting.len());
        let mut group_bytes = 0;
        while let Some(waiting) = queue.waiting.pop_front() {
            if !group.is_empty() && group_bytes + waiting.bytes > self.bounds.group_bytes_max {
                queue.waiting.push_front(waiting);
                break;
            }
            group_bytes += waiting.bytes;
            let is_removal = matches!(waiting.work, Work::RemovePartition(_));
            group.push(waiting);
            if is_removal {
                // What follows may touch the same partition.
                break;
            }
        }
        queue.waiting_bytes -= group_bytes;
        Some(group)
    }

    fn submit(&self, work: Work, bytes: usize, bell: Option<&Arc<Bell>>) -> Result<Completion, EngineError> {
        let mut queue = self.queue();
        if let Some(end) = &queue.end {
            return Err(end.clone());
        }
        let is_over = queue.waiting.len() >= self.bounds.waiting_batches_max
            || queue.waiting_bytes + bytes > self.bounds.waiting_bytes_max;
        // One batch may exceed the bound on its own, or it could never be written.
        if is_over && !queue.waiting.is_empty() {
            return Err(EngineError::Busy);
        }
        let (done, completion) = oneshot::channel();
        queue.waiting_bytes += bytes;
        queue.waiting.push_back(Waiting { work, bytes, done, bell: bell.cloned() });
        let must_wake = std::mem::take(&mut queue.is_idle);
        drop(queue);
        if must_wake {
            self.work_came.notify_one();
        }
        Ok(completion)
    }

    /// Ends the store: whatever waits fails, and whatever comes later is refused, with this fault.
    fn poison(&self, fault: &Fault) {
        let mut queue = self.queue();
        queue.end = Some(EngineError::Poisoned(fault.0.clone()));
        queue.waiting_bytes = 0;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        fail_all(waiting, fault);
        self.failed.send_replace(Some(fault.0.clone()));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds the lock; if it did, the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// The durations of the syncs since the last call, in nanoseconds, oldest first; of more than
    /// [`RECENT_SYNCS_MAX`] the latest.
    pub(crate) fn take_sync_nanos(&self) -> Vec<u64> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn add_sync(&self, nanos: u64) {
        self.syncs.fetch_add(1, Relaxed);
        self.sync_nanos.fetch_add(nanos, Relaxed);
        self.sync_nanos_max.fetch_max(nanos, Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_SYNCS_MAX {
            recent.pop_front();
        }
        recent.push_back(nanos);
    }
}

struct PoisonOnPanic<'a>(&'a Committer);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(&Fault("the engine panicked while it wrote".to_owned()));
        }
    }
}

fn batch_of(waiting: &Waiting) -> Option<&Batch> {
    match &waiting.work {
        Work::Commit(batch) => Some(batch),
        Work::RemovePartition(_) => None,
    }
}

/// A removal ends the group it is in; see [`Committer::next_group`].
fn split_off_removal(group: &mut Vec<Waiting>) -> Option<(Removal, Waiting)> {
    let partition = match group.last()?.work {
        Work::RemovePartition(partition) => partition,
        Work::Commit(_) => return None,
    };
    Some((Removal { partition, passed: None }, group.pop()?))
}

fn touches(group: &[Waiting], partition: u16) -> bool {
    let prefix = partition.to_be_bytes();
    let mut changes = group.iter().filter_map(batch_of).flat_map(|batch| &batch.changes);
    changes.any(|change| change.key().starts_with(&prefix))
}

/// Turns away what a disk engine could not represent, before it is queued.
fn check_rows(batch: &Batch) -> Result<(), EngineError> {
    for change in &batch.changes {
        let key = change.key();
        let value_bytes = if let Change::Set(_, value) = change { value.len() } else { 0 };
        if key.len() < 2 || key.len() > KEY_BYTES_MAX {
            return Err(EngineError::Refused(format!(
                "its key has {} bytes, not 2 to {KEY_BYTES_MAX}",
                key.len()
            )));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(EngineError::Refused(format!(
                "its value has {value_bytes} bytes, more than {VALUE_BYTES_MAX}"
            )));
        }
    }
    Ok(())
}

fn fail_all(group: impl IntoIterator<Item = Waiting>, fault: &Fault) {
    complete_all(group, &Err(EngineError::Poisoned(fault.0.clone())));
}

/// Answers in heaps: neighbours in the queue mostly share a bell.
fn complete_all(group: impl IntoIterator<Item = Waiting>, result: &Result<(), EngineError>) {
    let mut heaps: Vec<(Arc<Bell>, Vec<Answered>)> = Vec::new();
    for waiting in group {
        let answered = Answered::Commit(waiting.done, result.clone());
        let Some(bell) = waiting.bell else {
            answered.deliver();
            continue;
        };
        match heaps.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &bell)) {
            Some((_, heap)) => heap.push(answered),
            None => heaps.push((bell, vec![answered])),
        }
    }
    for (bell, heap) in heaps {
        bell.ring(heap);
    }
}

/// What a queued change costs beyond its bytes, so that a flood of tiny rows is bounded as well.
const ROW_OVERHEAD_BYTES: usize = 64;
/// The longest key: engines write its length in 16 bits.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// The largest value: far above what any door admits, far below what an engine's 32-bit length holds.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Rows removed between two groups: about two milliseconds of work.
const REMOVED_ROWS_MAX: usize = 512;
/// Sync durations kept for a histogram that is read every few seconds.
const RECENT_SYNCS_MAX: usize = 4096;
/// How often the size on disk is looked up.
const SYNCS_BETWEEN_SIZES: u64 = 128;

#[cfg(test)]
mod tests;
