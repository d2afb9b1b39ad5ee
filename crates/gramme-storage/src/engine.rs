//! What a node asks of a disk, and nothing more: rows of opaque bytes, ordered by key, written in
//! atomic batches that are durable when their future resolves.
//!
//! Invariant: batches take effect in the order in which [`Engine::commit`] was *called*, each whole
//! or not at all, and after a crash what remains is a prefix of that order that contains every batch
//! whose future had resolved. (Batches whose prefixes differ in their first two bytes, the partition,
//! may survive independently of each other.)
//!
//! An engine refuses to know what a key, a version or a partition replica is: the only structure it
//! sees is that the first two bytes of every key, big-endian, name a partition.

use bytes::Bytes;
use std::fmt;
use std::future::Future;

/// The partition prefix of rows that belong to no partition: node-wide facts.
pub const NODE_ROWS: u16 = u16::MAX;

/// A list of row changes that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order; of two changes of one key the later wins.
    pub changes: Vec<Change>,
}

/// One row change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Write this value at this key, whatever was there.
    Set(Bytes, Bytes),
    /// Remove the row; removing what is not there is no error.
    Remove(Bytes),
}

impl Change {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Set(key, _) | Change::Remove(key) => key,
        }
    }
}

impl Batch {
    /// A batch with nothing in it.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds "write this value at this key".
    pub fn set(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Set(key.into(), value.into()));
    }

    /// Adds "remove this key".
    pub fn remove(&mut self, key: impl Into<Bytes>) {
        self.changes.push(Change::Remove(key.into()));
    }

    /// Bytes of all keys and values.
    pub fn size_bytes(&self) -> usize {
        self.changes
            .iter()
            .map(|change| match change {
                Change::Set(key, value) => key.len() + value.len(),
                Change::Remove(key) => key.len(),
            })
            .sum()
    }
}

/// Which rows to read: those whose key starts with `prefix` and is greater than `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Every key returned starts with this; at least the two bytes of a partition.
    pub prefix: Bytes,
    /// Only keys strictly greater than this; `None` starts at the first.
    pub after: Option<Bytes>,
    /// At most this many rows; never 0.
    pub rows_max: usize,
    /// Stop once the rows returned hold this many bytes; the first row is always returned whole.
    pub bytes_max: usize,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In ascending order of key.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether rows may follow the last one returned; never of a page without rows.
    pub more: bool,
    /// Whether stored bytes within the page could not be read: rows may be missing from it, and those it has are
    /// as they should be.
    pub damaged: bool,
}

/// What an engine says of itself, for metrics and `gramme status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on disk, or in memory for an engine without one.
    pub stored_bytes: u64,
    /// Batches made durable since the engine was opened.
    pub batches: u64,
    /// Durable syncs issued since the engine was opened; `batches / syncs` is the group size.
    pub syncs: u64,
    /// Nanoseconds spent in durable syncs since the engine was opened.
    pub sync_nanos: u64,
    /// The slowest sync since the engine was opened, in nanoseconds.
    pub sync_nanos_max: u64,
}

/// Why an engine could not do what it was asked. A read error is never "not found".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// Stored bytes fail their checksum; the text says where.
    Corrupt(String),
    /// The operating system refused a read; nothing was changed.
    Io(String),
    /// No space left: the batch was not applied, reads go on.
    Full,
    /// Too much waits for this engine: nothing was read or written, try again later.
    Busy,
    /// The engine cannot hold such a row at all: nothing was written; the text says why.
    Refused(String),
    /// A write or sync failed: what was not yet durable may or may not survive, and this store takes
    /// no further writes until the process restarts.
    Poisoned(String),
    /// The engine was closed, or its crash was simulated.
    Closed,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Corrupt(place) => write!(f, "stored bytes fail their checksum: {place}"),
            EngineError::Io(cause) => write!(f, "the disk refused a read: {cause}"),
            EngineError::Full => write!(f, "the store has no space left; nothing was written"),
            EngineError::Busy => {
                write!(f, "too many operations wait for the disk; nothing was done, try again later")
            }
            EngineError::Refused(cause) => {
                write!(f, "the store cannot hold this row; nothing was written: {cause}")
            }
            EngineError::Poisoned(cause) => {
                write!(f, "a write to the disk failed, so this store is closed to writes: {cause}")
            }
            EngineError::Closed => write!(f, "the store is closed"),
        }
    }
}

impl std::error::Error for EngineError {}

/// A handle to one store; clones share it. Every method may be called while others wait.
pub trait Engine: Clone + 'static {
    /// The value at this key, `None` if there is none. Sees every batch whose commit has resolved, and
    /// perhaps later ones.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>>;

    /// Applies the batch after all batches committed before it, and resolves once it is durable.
    /// The order is fixed by the *call*; the future need not be polled for the batch to proceed, and
    /// dropping it abandons nothing. Batches that wait together share one durable sync. Rows are kept as
    /// they are given: a slice of something larger would keep that alive, so hand over bytes of their own.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static;

    /// One page of rows in key order; see [`Scan`].
    fn scan(&self, scan: Scan) -> impl Future<Output = Result<Page, EngineError>>;

    /// Removes every row that batches committed before the call left in a partition; durable when it
    /// resolves. A crash before that may leave some of the rows.
    fn drop_partition(&self, partition: u16) -> impl Future<Output = Result<(), EngineError>>;

    /// Resolves once everything committed before the call is durable.
    fn sync(&self) -> impl Future<Output = Result<(), EngineError>>;

    /// Figures for people; never blocks.
    fn stats(&self) -> Stats;
}
