//! The disk engine: rows in one fjall database, larger than memory, crash-safe.
//!
//! One database per process, however many shards it runs; handles are clones and may move between
//! threads. All writes go through the one committer thread, all reads through a small pool, so no call
//! here ever waits for a disk on the caller's thread. All rows lie in one keyspace, because a keyspace
//! per partition costs a second at first start and memory without end (`docs/storage.md` has the figures).
//!
//! The engine refuses to write below its reserve of free space, since fjall ends a database for good when
//! a write or a background flush meets a full disk; and it refuses everything after a failed sync.

use crate::bell::Bell;
pub use crate::bell::Deliveries;
use crate::committer::{Bounds, Committer, Fault, Log, Removal};
use crate::damage::first_readable;
use crate::directory::{Directory, clear_suspicion, is_suspect, suspect, sync_directories};
pub use crate::directory::{FORMAT_VERSION, OpenError};
use crate::engine::{Batch, Change, Engine, EngineError, Page, Scan, Stats};
pub use crate::journal::JournalCheck;
use crate::journal::{check, remove_clean_mark, write_clean_mark};
use crate::read_pool::{ReadPool, Tables};
use ::fjall::{
    Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode, Readable, Slice,
};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Where a store lies and what it may use. The defaults suit a small node: idle it stays well below
/// 60 MiB, under load at about 60 MiB.
#[derive(Clone, Debug)]
pub struct FjallOptions {
    /// The store's directory; created if it does not exist. Nothing else may live in it.
    pub path: PathBuf,
    /// Bytes of table blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes of rows gathered in memory before they are written out as a table. Up to five times as much
    /// is held while tables are being written.
    pub memtable_bytes: u64,
    /// Threads that read; each waits for at most one disk read at a time.
    pub read_threads: usize,
    /// Threads that write tables out and merge them. With one, a long merge holds up every commit.
    pub merge_threads: usize,
    /// Free bytes that the file system must keep; batches that set rows are refused below it. Too little,
    /// and a table being merged fills the disk, which ends the store's life until a restart.
    pub reserve_bytes: u64,
    /// Bytes of batches that may wait for the committer.
    pub waiting_bytes_max: usize,
    /// Batches that may wait for the committer.
    pub waiting_batches_max: usize,
    /// Bytes that one sync covers at most, unless a single batch is larger.
    pub group_bytes_max: usize,
    /// Reads that may wait for the read threads.
    pub waiting_reads_max: usize,
}

impl FjallOptions {
    /// The defaults, for a store in this directory.
    pub fn new(path: impl Into<PathBuf>) -> FjallOptions {
        FjallOptions {
            path: path.into(),
            cache_bytes: 16 << 20,
            memtable_bytes: 8 << 20,
            read_threads: 2,
            merge_threads: 2,
            reserve_bytes: 256 << 20,
            waiting_bytes_max: 64 << 20,
            waiting_batches_max: 16 << 10,
            group_bytes_max: 8 << 20,
            waiting_reads_max: 4 << 10,
        }
    }
}

/// A handle to one store on disk; clones share it, on any thread. When the last one goes, the store is
/// closed as by [`FjallEngine::close`].
#[derive(Clone)]
pub struct FjallEngine {
    store: Arc<Store>,
    /// Clones of a shard's handle answer through the shard's bell.
    bell: Option<Arc<Bell>>,
}

struct Store {
    path: PathBuf,
    committer: Arc<Committer>,
    reads: Arc<ReadPool>,
    journal_check: JournalCheck,
    /// `None` once closed.
    running: Mutex<Option<Running>>,
}

/// What must end, in this order, before another process may open the directory.
struct Running {
    threads: Vec<JoinHandle<()>>,
    directory: Directory,
}

impl FjallEngine {
    /// Opens the store, or creates it. Blocks: replays up to about 64 MiB of journal.
    pub fn open(options: FjallOptions) -> Result<FjallEngine, OpenError> {
        let directory = Directory::open(&options.path)?;
        let journal_check = check(&options.path, &directory.database_path())?;
        crate::manifest::check(&options.path, &directory.database_path())?;
        let rows = open_rows(&options, &directory.database_path())?;
        if is_suspect(&options.path) {
            rows.read_everything()
                .map_err(|cause| OpenError::Corrupt { path: options.path.clone(), cause })?;
            clear_suspicion(&options.path)?;
        }
        remove_clean_mark(&options.path)?;
        // The database syncs what it writes, and not every directory that it makes.
        sync_directories(&options.path)?;

        let bounds = Bounds {
            waiting_bytes_max: options.waiting_bytes_max,
            waiting_batches_max: options.waiting_batches_max,
            group_bytes_max: options.group_bytes_max,
        };
        let committer = Arc::new(Committer::new(bounds));
        let reads = Arc::new(ReadPool::new(options.waiting_reads_max));
        let store = Store {
            path: options.path.clone(),
            committer: committer.clone(),
            reads: reads.clone(),
            journal_check,
            running: Mutex::new(Some(Running { threads: Vec::new(), directory })),
        };
        let mut writer = Writer::new(rows.clone(), &options);
        store.start("gramme-commit", move || committer.run(&mut writer))?;
        for _ in 0..options.read_threads.max(1) {
            let (reads, rows) = (reads.clone(), rows.clone());
            store.start("gramme-read", move || reads.run(&rows))?;
        }
        Ok(FjallEngine { store: Arc::new(store), bell: None })
    }

    /// A handle for one shard, and the task that delivers its answers, to be spawned on the shard's own
    /// runtime: a group commit then wakes each shard once and not each of its tasks.
    pub fn for_shard(&self) -> (FjallEngine, Deliveries) {
        let (bell, deliveries) = Bell::new();
        (FjallEngine { store: self.store.clone(), bell: Some(bell) }, deliveries)
    }

    /// What the look at the journals found: worth a line in the log when something was cut.
    pub fn journal_check(&self) -> JournalCheck {
        self.store.journal_check
    }

    /// The durations of the durable syncs since the last call, in nanoseconds, oldest first; at most the
    /// latest 4,096.
    pub fn take_sync_nanos(&self) -> Vec<u64> {
        self.store.committer.counts.take_sync_nanos()
    }

    /// Resolves once a write or a sync has failed, with what failed: nothing is written to this store any more, and
    /// whoever runs it should end. Never resolves for a store that is closed in peace.
    pub fn failure(&self) -> impl Future<Output = String> + Send + 'static {
        self.store.committer.failure()
    }

    /// Refuses further work, finishes what waits, closes the database and unlocks the directory. Blocks
    /// until that is done; closing again does nothing.
    pub fn close(&self) {
        self.store.close();
    }
}

impl Engine for FjallEngine {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>> {
        let asked = self.store.reads.get(key, self.bell.as_ref());
        async move { asked?.await.unwrap_or(Err(EngineError::Closed)) }
    }

    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static {
        let submitted = self.store.committer.commit(batch, self.bell.as_ref());
        let committer = self.store.committer.clone();
        async move { submitted?.await.unwrap_or_else(|_| Err(committer.end())) }
    }

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<Page, EngineError>> {
        let asked = self.store.reads.scan(scan, self.bell.as_ref());
        async move { asked?.await.unwrap_or(Err(EngineError::Closed)) }
    }

    fn drop_partition(&self, partition: u16) -> impl Future<Output = Result<(), EngineError>> {
        let submitted = self.store.committer.remove_partition(partition);
        async move { submitted?.await.unwrap_or_else(|_| Err(self.store.committer.end())) }
    }

    fn sync(&self) -> impl Future<Output = Result<(), EngineError>> {
        self.commit(Batch::new())
    }

    fn stats(&self) -> Stats {
        let counts = &self.store.committer.counts;
        Stats {
            stored_bytes: counts.stored_bytes.load(Relaxed),
            batches: counts.batches.load(Relaxed),
            syncs: counts.syncs.load(Relaxed),
            sync_nanos: counts.sync_nanos.load(Relaxed),
            sync_nanos_max: counts.sync_nanos_max.load(Relaxed),
        }
    }
}

impl Store {
    fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.map_err(|e| OpenError::Io { path: self.path.clone(), cause: e.to_string() })?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_mut() {
            running.threads.push(thread);
        }
        Ok(())
    }
}

impl Store {
    fn close(&self) {
        let taken = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = taken else { return };
        self.committer.close();
        self.reads.close();
        for thread in running.threads {
            // A thread that panicked has poisoned its queue; everyone who waits knows.
            let _ = thread.join();
        }
        if self.committer.end() == EngineError::Closed {
            // Without the mark the next start looks at the journals as after a crash.
            let _ = write_clean_mark(&self.path, &running.directory.database_path());
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// The one keyspace, and the database that it lies in.
#[derive(Clone)]
struct Rows {
    database: Database,
    keyspace: Keyspace,
}

fn open_rows(options: &FjallOptions, database_path: &Path) -> Result<Rows, OpenError> {
    let open = || {
        let database = Database::builder(database_path)
            .manual_journal_persist(true)
            .cache_size(options.cache_bytes)
            .worker_threads(options.merge_threads.max(1))
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let create = || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(options.memtable_bytes)
        };
        let keyspace = database.keyspace("rows", create)?;
        Ok(Rows { database, keyspace })
    };
    let path = options.path.clone();
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(::fjall::Error::Locked)) => Err(OpenError::InUse { path }),
        Ok(Err(::fjall::Error::Io(e) | ::fjall::Error::Storage(LsmError::Io(e)))) => {
            Err(OpenError::Io { path, cause: e.to_string() })
        }
        Ok(Err(e)) => Err(OpenError::Corrupt { path, cause: format!("{e:?}") }),
        Err(_) => Err(OpenError::Corrupt { path, cause: "the database panicked on what it read".to_owned() }),
    }
}

impl Tables for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.keyspace.get(key).map_err(|e| read_error(&e))?;
        Ok(value.map(Bytes::from))
    }

    /// From a snapshot: a page never shows half a batch.
    fn scan(&self, scan: &Scan) -> Result<Page, EngineError> {
        let from = match &scan.after {
            Some(after) if *after >= scan.prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(scan.prefix.to_vec()),
        };
        let to = first_key_after(&scan.prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page::default();
        if is_empty_range(&from, &to) {
            return Ok(page);
        }
        let mut from = from;
        for _ in 0..DAMAGES_PER_PAGE_MAX {
            let filled = catch_unwind(AssertUnwindSafe(|| self.fill(&mut page, scan, &from, &to)));
            match filled.unwrap_or_else(|_| Err(EngineError::Corrupt("the database panicked".to_owned()))) {
                Ok(()) => return Ok(page),
                Err(EngineError::Corrupt(_)) => page.damaged = true,
                Err(other) => return Err(other),
            }
            let last = page.rows.last().map(|(key, _)| key.to_vec());
            let bad = last.unwrap_or_else(|| scan.after.as_ref().unwrap_or(&scan.prefix).to_vec());
            let end = first_key_after(&scan.prefix).unwrap_or_else(|| vec![u8::MAX; bad.len() + 1]);
            match first_readable(&bad, &end, |key| self.reads_from(key, &to)) {
                Some(key) => from = Bound::Included(key),
                None => return Ok(page),
            }
        }
        Err(EngineError::Corrupt("a page has more damage than can be passed over".to_owned()))
    }
}

impl Rows {
    /// Adds rows to a page until it is full or there are no more.
    fn fill(
        &self,
        page: &mut Page,
        scan: &Scan,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let mut page_bytes: usize = page.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        for row in self.database.snapshot().range(&self.keyspace, (from.clone(), to.clone())) {
            let is_full = page.rows.len() >= scan.rows_max || page_bytes >= scan.bytes_max;
            if is_full && !page.rows.is_empty() {
                page.more = true;
                break;
            }
            let (key, value) = row.into_inner().map_err(|e| read_error(&e))?;
            page_bytes += key.len() + value.len();
            page.rows.push((key.into(), value.into()));
        }
        Ok(())
    }

    /// Whether every row can be read, or what is in the way.
    fn read_everything(&self) -> Result<(), String> {
        let read = || {
            let mut rows = self.database.snapshot().iter(&self.keyspace);
            rows.try_for_each(|row| row.into_inner().map(drop))
        };
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("merging its tables failed, and reading them again shows why: {e:?}")),
            Err(_) => Err("merging its tables failed, and the database panicked on reading them".to_owned()),
        }
    }

    /// Whether a scan from this key on would succeed with its first row, or find none.
    fn reads_from(&self, key: &[u8], to: &Bound<Vec<u8>>) -> bool {
        let from = Bound::Included(key.to_vec());
        let first = || {
            let mut rows = self.database.snapshot().range(&self.keyspace, (from.clone(), to.clone()));
            rows.next().is_none_or(|row| row.into_inner().is_ok())
        };
        is_empty_range(&from, to) || catch_unwind(AssertUnwindSafe(first)).unwrap_or(false)
    }
}

/// The writing side of the database, driven by the committer.
struct Writer {
    rows: Rows,
    path: PathBuf,
    reserve_bytes: u64,
    /// What the file system had to spare when it was last asked, less what was written since.
    spare_bytes: u64,
}

impl Writer {
    fn new(rows: Rows, options: &FjallOptions) -> Writer {
        Writer { rows, path: options.path.clone(), reserve_bytes: options.reserve_bytes, spare_bytes: 0 }
    }

    /// A failure in the background may be a damaged table: the next start is to look before it is trusted.
    fn fault(&self, error: &::fjall::Error) -> Fault {
        if matches!(error, ::fjall::Error::Poisoned) {
            suspect(&self.path);
        }
        write_fault(error)
    }
}

impl Log for Writer {
    /// Asks the file system again once what it had to spare last time is nearly used up, or a bounded
    /// amount was written, since others write to it as well.
    fn has_room(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if self.spare_bytes < bytes {
            let Ok(space) = rustix::fs::statvfs(&self.path) else {
                // Not knowing is no reason to refuse: a disk that is really full fails the write itself.
                return true;
            };
            let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
            let spare_bytes = free_bytes.saturating_sub(self.reserve_bytes);
            if spare_bytes < bytes {
                return false;
            }
            self.spare_bytes = spare_bytes.min(SPARE_BYTES_MAX).max(bytes);
        }
        self.spare_bytes -= bytes;
        true
    }

    /// As one fjall batch.
    fn append(&mut self, batches: &[&Batch]) -> Result<(), Fault> {
        let changes = last_changes(batches);
        let mut rows = OwnedWriteBatch::with_capacity(self.rows.database.clone(), changes.len());
        for change in changes {
            match change {
                Change::Set(key, value) => {
                    rows.insert(&self.rows.keyspace, Slice::from(key.clone()), Slice::from(value.clone()));
                }
                Change::Remove(key) => rows.remove(&self.rows.keyspace, Slice::from(key.clone())),
            }
        }
        rows.commit().map_err(|e| self.fault(&e))
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.rows.database.persist(PersistMode::SyncData).map_err(|e| self.fault(&e))
    }

    fn remove_some(&mut self, removal: &mut Removal, rows_max: usize) -> Result<bool, Fault> {
        let prefix = removal.partition.to_be_bytes();
        let from = removal.passed.take().map_or(Bound::Included(prefix.to_vec()), Bound::Excluded);
        let to = first_key_after(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.rows.database.batch();
        for row in self.rows.database.snapshot().range(&self.rows.keyspace, (from, to)).take(rows_max) {
            let key = row.key().map_err(|e| write_fault(&e))?;
            removal.passed = Some(key.to_vec());
            rows.remove(&self.rows.keyspace, key);
        }
        let more = rows.len() == rows_max;
        rows.commit().map_err(|e| write_fault(&e))?;
        Ok(more)
    }

    fn stored_bytes(&mut self) -> u64 {
        self.rows.database.disk_space().unwrap_or(0)
    }
}

/// Of each key the last change. All rows of one fjall batch get one sequence number, and what two changes
/// of one key under one number mean is nowhere promised.
fn last_changes<'a>(batches: &[&'a Batch]) -> Vec<&'a Change> {
    let mut changes: Vec<&Change> = batches.iter().flat_map(|batch| &batch.changes).collect();
    // Backwards, and stable: of equal keys the latest comes first and is kept.
    changes.reverse();
    changes.sort_by(|a, b| a.key().cmp(b.key()));
    changes.dedup_by(|later, first| later.key() == first.key());
    changes
}

/// The least key that is greater than every key with this prefix; `None` if there is no such key.
fn first_key_after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// An `after` past the end of the prefix leaves nothing to read, and is no range in order.
fn is_empty_range(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Excluded(from) | Bound::Included(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

fn read_error(error: &::fjall::Error) -> EngineError {
    match error {
        ::fjall::Error::Io(e) | ::fjall::Error::Storage(LsmError::Io(e)) if !is_truncation(e) => {
            EngineError::Io(e.to_string())
        }
        damaged => EngineError::Corrupt(format!("{damaged:?}")),
    }
}

/// A file shorter than its own index says is damage, not a refusal of the operating system.
fn is_truncation(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

fn write_fault(error: &::fjall::Error) -> Fault {
    Fault(match error {
        ::fjall::Error::Poisoned => "a table could not be written or merged in the background".to_owned(),
        ::fjall::Error::Io(e) | ::fjall::Error::Storage(LsmError::Io(e)) => e.to_string(),
        other => format!("{other:?}"),
    })
}

/// A journal is replaced once it is this long and its rows are in tables: the least that fjall takes, so
/// that a start replays little.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Damaged places that one page passes over; with more, the page fails.
const DAMAGES_PER_PAGE_MAX: usize = 64;
/// Free space is looked up again after this many bytes: every few groups, and far less than any reserve.
const SPARE_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_changes_of_one_key_only_the_last_is_handed_over() {
        let mut first = Batch::new();
        first.set(&b"\0\x01b"[..], &b"1"[..]);
        first.set(&b"\0\x01a"[..], &b"1"[..]);
        first.remove(&b"\0\x01b"[..]);
        let mut second = Batch::new();
        second.set(&b"\0\x01a"[..], &b"2"[..]);
        second.set(&b"\0\x01c"[..], &b"2"[..]);
        let mut expected = Batch::new();
        expected.set(&b"\0\x01a"[..], &b"2"[..]);
        expected.remove(&b"\0\x01b"[..]);
        expected.set(&b"\0\x01c"[..], &b"2"[..]);
        let last: Vec<Change> = last_changes(&[&first, &second]).into_iter().cloned().collect();
        assert_eq!(last, expected.changes);
    }

    #[test]
    fn the_first_key_after_a_prefix_carries_over_bytes_of_all_ones() {
        assert_eq!(first_key_after(b"\0\x01"), Some(b"\0\x02".to_vec()));
        assert_eq!(first_key_after(b"\0\xff"), Some(b"\x01".to_vec()));
        assert_eq!(first_key_after(b"\xff\xff"), None);
    }
}
