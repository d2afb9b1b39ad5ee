//! The disk of one host: rows that are safe, and a queue of batches that are not yet.
//!
//! It is as nasty as [`gramme_storage::Engine`] allows. A batch is durable only when its sync has ended; on a
//! crash a random prefix of the waiting batches survives, each whole or not at all, and prefixes of different
//! partitions survive independently. Reads may or may not see what waits. A failed sync leaves everything that
//! waited in doubt and closes the store to writes. Reads can fail. Beyond that contract rows can rot, which a read
//! notices, or be gone without a trace, and a disk can lie: what it calls durable is gone with the power.
//!
//! Decisions only, and no clock: [`crate::engine`] and [`crate::world`] say when a sync ends.

use crate::net::Bites;
use crate::rng::Rng;
use bytes::Bytes;
use gramme_core::Clock;
use gramme_core::codec::decode_record;
use gramme_node::rows::{self, KIND_DATA, KIND_HINT};
use gramme_storage::{Batch, Change, EngineError, Page, Scan, Stats};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::oneshot;

/// How disks are on an ordinary day of this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskProfile {
    /// The mean time of a durable sync, in microseconds.
    pub sync_us: u64,
    /// Reads of a thousand that have to wait.
    pub read_waits_permille: u32,
    /// The mean wait of those, in microseconds.
    pub read_us: u64,
    /// Whether reads see batches that are not durable yet.
    pub reads_see_waiting: bool,
}

/// What the nemesis makes of one disk for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Everything takes so many times as long.
    pub slow: u32,
    /// Reads of a thousand that fail.
    pub read_errors_permille: u32,
    /// The next sync fails.
    pub next_sync_fails: bool,
    /// There is no space left.
    pub full: bool,
    /// Commits of a thousand that are told to come again later.
    pub busy_permille: u32,
    /// Nothing ends: neither syncs nor reads.
    pub stalled: bool,
    /// Every write fails.
    pub read_only: bool,
    /// What is called durable is gone with the power.
    pub lies: bool,
}

/// The answer that a commit waits for.
pub type Answer = oneshot::Sender<Result<(), EngineError>>;

/// Answers that are due.
pub type Due = Vec<(Answer, Result<(), EngineError>)>;

/// See the module.
pub struct Disk {
    rng: Rng,
    profile: DiskProfile,
    /// What the nemesis makes of it.
    pub condition: Condition,
    rows: BTreeMap<Bytes, Bytes>,
    waiting: VecDeque<(Batch, Option<Answer>)>,
    /// How many of the waiting batches the sync under way covers.
    syncing: usize,
    poisoned: bool,
    /// Rows whose bytes fail their checksum.
    rotten: BTreeSet<Bytes>,
    /// What rows held before the disk began to lie, oldest first.
    lied: Vec<(Bytes, Option<Bytes>)>,
    stats: Stats,
    /// How often each kind of fault took effect.
    pub bites: Bites,
    /// What has ever been durable here, by key, if anybody wants to know.
    pub witness: Option<BTreeMap<Bytes, Clock>>,
}

impl Default for Condition {
    fn default() -> Condition {
        Condition {
            slow: 1,
            read_errors_permille: 0,
            next_sync_fails: false,
            full: false,
            busy_permille: 0,
            stalled: false,
            read_only: false,
            lies: false,
        }
    }
}

impl Disk {
    /// An empty disk of a host.
    pub fn new(seed: u64, host: usize, profile: DiskProfile) -> Disk {
        Disk {
            rng: Rng::stream(seed, "disk", host as u64),
            profile,
            condition: Condition::default(),
            rows: BTreeMap::new(),
            waiting: VecDeque::new(),
            syncing: 0,
            poisoned: false,
            rotten: BTreeSet::new(),
            lied: Vec::new(),
            stats: Stats::default(),
            bites: Bites::new(),
            witness: None,
        }
    }

    /// Puts a batch at the end of the queue. `Ok(Some(ns))` says that a sync has to be started that ends in so
    /// many nanoseconds.
    pub fn append(&mut self, batch: Batch, answer: Answer) -> Result<Option<u64>, EngineError> {
        if self.poisoned {
            return Err(EngineError::Poisoned("an earlier sync failed".to_string()));
        }
        if self.condition.read_only {
            self.bite("fault: read-only");
            self.poisoned = true;
            return Err(EngineError::Poisoned("read-only file system".to_string()));
        }
        if self.condition.full {
            self.bite("fault: full");
            return Err(EngineError::Full);
        }
        if self.rng.chance(self.condition.busy_permille) {
            self.bite("fault: busy");
            return Err(EngineError::Busy);
        }
        self.waiting.push_back((batch, Some(answer)));
        Ok(self.begin_sync())
    }

    /// A batch that removes everything that a partition holds once the waiting batches have taken effect.
    pub fn removal_of(&self, partition: u16) -> Batch {
        let prefix = Bytes::copy_from_slice(&partition.to_be_bytes());
        let mut batch = Batch::new();
        for (key, _) in self.merged(&prefix, true) {
            batch.remove(key);
        }
        batch
    }

    /// The sync under way has ended: its batches are safe, or the disk has failed. What is to be told to whom,
    /// and in how many nanoseconds the next sync ends, if one begins.
    pub fn end_sync(&mut self) -> (Due, Option<u64>) {
        if self.condition.stalled {
            self.bite("fault: stall");
            return (Vec::new(), Some(STALL_NS));
        }
        let count = std::mem::take(&mut self.syncing);
        if std::mem::take(&mut self.condition.next_sync_fails) {
            self.poisoned = true;
            self.bite("fault: sync error");
            let failed = self.waiting.iter_mut().filter_map(|(_, answer)| answer.take());
            let told =
                failed.map(|answer| (answer, Err(EngineError::Poisoned("the sync failed".to_string()))));
            return (told.collect(), None);
        }
        let mut told = Vec::with_capacity(count);
        if !self.condition.lies {
            self.lied.clear();
        }
        let done: Vec<_> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        for (batch, answer) in done {
            if self.condition.lies {
                let before = batch.changes.iter().map(|change| change.key());
                self.lied.extend(before.map(|key| (key.clone(), self.rows.get(key).cloned())));
            }
            batch.changes.iter().for_each(|change| _ = self.rotten.remove(change.key()));
            apply(&mut self.rows, &batch);
            self.see(&batch);
            told.extend(answer.map(|answer| (answer, Ok(()))));
        }
        self.stats.batches += count as u64;
        self.stats.syncs += 1;
        (told, self.begin_sync())
    }

    /// A value as a reader is given it.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.read_error("a row")?;
        if self.profile.reads_see_waiting {
            let newest = self.waiting.iter().rev().flat_map(|(batch, _)| batch.changes.iter().rev());
            for change in newest {
                if change.key() == key {
                    return Ok(match change {
                        Change::Set(_, value) => Some(value.clone()),
                        Change::Remove(_) => None,
                    });
                }
            }
        }
        if self.rotten.contains(key) {
            return Err(EngineError::Corrupt("a rotten row".to_string()));
        }
        Ok(self.rows.get(key).cloned())
    }

    /// A page as a reader is given it.
    pub fn scan(&mut self, scan: &Scan) -> Result<Page, EngineError> {
        self.read_error("a page")?;
        let mut page = Page::default();
        let mut page_bytes = 0;
        for (key, value) in self.merged(&scan.prefix, self.profile.reads_see_waiting) {
            if scan.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if self.rotten.contains(&key) {
                page.damaged = true;
                continue;
            }
            if !page.rows.is_empty() && (page.rows.len() >= scan.rows_max || page_bytes >= scan.bytes_max) {
                page.more = true;
                break;
            }
            page_bytes += key.len() + value.len();
            page.rows.push((key, value));
        }
        Ok(page)
    }

    /// How long the next read takes, in nanoseconds; `None` is no time at all. And whether it is answered with
    /// what was there when it began.
    pub fn read_wait(&mut self) -> (Option<u64>, bool) {
        if self.condition.stalled {
            self.bite("fault: stall");
            return (Some(STALL_NS), false);
        }
        let waits = self.rng.chance(self.profile.read_waits_permille) || self.condition.slow > 1;
        if self.condition.slow > 1 {
            self.bite("fault: slow disk");
        }
        let ns = self.rng.spread(self.profile.read_us.max(1)) * 1000 * u64::from(self.condition.slow);
        (waits.then_some(ns), self.rng.chance(500))
    }

    /// The machine has stopped: which of the waiting batches had reached the disk is drawn. Returns those who
    /// waited, to be dropped outside every borrow.
    #[must_use = "whoever waits is to be dropped outside every borrow"]
    pub fn crash(&mut self) -> Vec<Answer> {
        let survives_permille = self.rng.pick(&[0, 500, 900, 1000]);
        let mut broken: BTreeSet<u16> = BTreeSet::new();
        let mut dropped = Vec::new();
        for (batch, answer) in std::mem::take(&mut self.waiting) {
            dropped.extend(answer);
            let touched: BTreeSet<u16> =
                batch.changes.iter().map(|change| partition_of(change.key())).collect();
            let is_whole = self.rng.chance(survives_permille) && touched.is_disjoint(&broken);
            if is_whole {
                batch.changes.iter().for_each(|change| _ = self.rotten.remove(change.key()));
                apply(&mut self.rows, &batch);
                self.see(&batch);
            } else {
                broken.extend(touched);
            }
        }
        self.syncing = 0;
        self.poisoned = false;
        dropped
    }

    /// The directory is emptied. The host is down.
    pub fn wipe(&mut self) {
        self.rows.clear();
        self.rotten.clear();
        self.lied.clear();
    }

    /// The power is gone; whether that took anything that had been called durable.
    pub fn lose_power(&mut self) -> bool {
        let took = !self.lied.is_empty();
        for (key, before) in self.lied.drain(..).rev() {
            match before {
                Some(value) => _ = self.rows.insert(key, value),
                None => _ = self.rows.remove(&key),
            }
        }
        took
    }

    /// One row whose key says yes rots, or is gone without a trace; `false` if there is none.
    pub fn harm(&mut self, silently: bool, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        let meant: Vec<Bytes> = self.rows.keys().filter(|key| is_meant(key)).cloned().collect();
        if meant.is_empty() {
            return false;
        }
        let key = meant[self.rng.index(meant.len())].clone();
        if silently {
            self.rows.remove(&key);
        } else {
            self.rotten.insert(key);
        }
        true
    }

    /// Rows that fail their checksums.
    pub fn rotten(&self) -> &BTreeSet<Bytes> {
        &self.rotten
    }

    /// The directory is replaced by another. The host is down.
    pub fn replace(&mut self, rows: BTreeMap<Bytes, Bytes>) {
        self.rows = rows;
    }

    /// What is safe, for checkers that read the disk itself.
    pub fn rows(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.rows
    }

    /// Whether anything waits for a sync.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it is closed to writes until its host restarts.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let stored = self.rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Stats { stored_bytes: stored, ..self.stats }
    }

    fn begin_sync(&mut self) -> Option<u64> {
        if self.syncing > 0 || self.waiting.is_empty() {
            return None;
        }
        self.syncing = self.waiting.len();
        if self.condition.slow > 1 {
            self.bite("fault: slow disk");
        }
        Some(self.rng.spread(self.profile.sync_us.max(1)) * 1000 * u64::from(self.condition.slow))
    }

    fn read_error(&mut self, what: &str) -> Result<(), EngineError> {
        if !self.rng.chance(self.condition.read_errors_permille) {
            return Ok(());
        }
        self.bite("fault: read error");
        Err(EngineError::Io(format!("input/output error in {what}")))
    }

    /// Notes the past of every record that has become durable.
    fn see(&mut self, batch: &Batch) {
        let Some(witness) = &mut self.witness else { return };
        for change in &batch.changes {
            let Change::Set(row, value) = change else { continue };
            let record = match row.get(2) {
                Some(&KIND_DATA) => decode_record(value).ok(),
                Some(&KIND_HINT) => rows::decode_hint(value).ok().map(|(_, record, _)| record),
                _ => None,
            };
            if let Some(record) = record {
                witness.entry(rows::rest(row)).or_default().join(&record.clock);
            }
        }
    }

    fn bite(&mut self, what: &'static str) {
        *self.bites.entry(what).or_default() += 1;
    }

    fn merged(&self, prefix: &Bytes, with_waiting: bool) -> BTreeMap<Bytes, Bytes> {
        let safe = self.rows.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut rows: BTreeMap<Bytes, Bytes> =
            safe.map(|(key, value)| (key.clone(), value.clone())).collect();
        for change in self.waiting.iter().flat_map(|(batch, _)| &batch.changes).filter(|_| with_waiting) {
            if change.key().starts_with(prefix) {
                apply_one(&mut rows, change);
            }
        }
        rows
    }
}

/// A stalled disk is looked at again so often.
const STALL_NS: u64 = 250_000_000;

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, batch: &Batch) {
    batch.changes.iter().for_each(|change| apply_one(rows, change));
}

fn apply_one(rows: &mut BTreeMap<Bytes, Bytes>, change: &Change) {
    match change {
        Change::Set(key, value) => {
            rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        }
        Change::Remove(key) => {
            rows.remove(key);
        }
    }
}

fn partition_of(key: &[u8]) -> u16 {
    match key {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> Disk {
        let profile =
            DiskProfile { sync_us: 100, read_waits_permille: 0, read_us: 10, reads_see_waiting: false };
        Disk::new(seed, 0, profile)
    }

    fn batch(partition: u8, n: u8) -> Batch {
        let mut batch = Batch::new();
        batch.set(vec![0, partition, b'a', n], vec![n]);
        batch.set(vec![0, partition, b'b', n], vec![n]);
        batch
    }

    fn append(disk: &mut Disk, batch: Batch) -> oneshot::Receiver<Result<(), EngineError>> {
        let (answer, asked) = oneshot::channel();
        disk.append(batch, answer).expect("a sound disk takes it");
        asked
    }

    #[test]
    fn a_batch_is_durable_only_when_its_sync_has_ended() {
        let mut disk = disk(1);
        let mut first = append(&mut disk, batch(0, 1));
        let mut second = append(&mut disk, batch(0, 2));
        let (told, next) = disk.end_sync();
        told.into_iter().for_each(|(answer, result)| answer.send(result).expect("somebody waits"));
        assert_eq!(first.try_recv(), Ok(Ok(())));
        assert!(second.try_recv().is_err(), "it came while the sync was under way and waits for the next");
        assert!(next.is_some());
        assert_eq!(disk.rows().len(), 2);
    }

    #[test]
    fn a_crash_leaves_a_prefix_of_each_partition_and_every_batch_whole() {
        let mut survivors = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = disk(seed);
            for n in 0..4 {
                for partition in [0, 1] {
                    drop(append(&mut disk, batch(partition, n)));
                }
            }
            drop(disk.crash());
            let of = |partition: u8| {
                let kept: Vec<u8> = disk
                    .rows()
                    .keys()
                    .filter(|key| key[1] == partition && key[2] == b'a')
                    .map(|key| key[3])
                    .collect();
                let twins = disk.rows().keys().filter(|key| key[1] == partition && key[2] == b'b').count();
                assert_eq!(kept.len(), twins, "seed {seed}: every batch is whole");
                let prefix: Vec<u8> = (0..kept.len() as u8).collect();
                assert_eq!(kept, prefix, "seed {seed}: no batch survives without those before it");
                kept.len()
            };
            survivors.insert((of(0), of(1)));
        }
        assert!(survivors.contains(&(0, 0)) && survivors.contains(&(4, 4)));
        assert!(survivors.iter().any(|(a, b)| a != b), "partitions survive independently");
    }

    #[test]
    fn a_failed_sync_closes_the_store_to_writes_until_a_restart() {
        let mut disk = disk(1);
        disk.condition.next_sync_fails = true;
        let mut waiting = append(&mut disk, batch(0, 1));
        disk.end_sync()
            .0
            .into_iter()
            .for_each(|(answer, result)| answer.send(result).expect("somebody waits"));
        assert!(matches!(waiting.try_recv(), Ok(Err(EngineError::Poisoned(_)))));
        let (answer, _asked) = oneshot::channel();
        assert!(matches!(disk.append(batch(0, 2), answer), Err(EngineError::Poisoned(_))));
        drop(disk.crash());
        drop(append(&mut disk, batch(0, 3)));
    }
}
