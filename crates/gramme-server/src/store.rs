//! The engine that settings chose, as one type, so that a node is compiled once for both.

use crate::settings::{EngineKind, Settings};
use bytes::Bytes;
use futures_util::future::Either;
use gramme_storage::fjall::{FjallEngine, FjallOptions, OpenError};
use gramme_storage::memory::MemoryEngine;
use gramme_storage::{Batch, Engine, EngineError, Page, Scan, Stats};
use std::future::Future;

/// A handle to this process's store; clones share it, on any thread.
#[derive(Clone)]
pub(crate) enum Store {
    /// On disk.
    Fjall(FjallEngine),
    /// In memory.
    Memory(MemoryEngine),
}

impl Store {
    /// Opens the store in the data directory, or an empty one in memory. Blocks. What a crash cut off the
    /// journals is logged.
    pub(crate) fn open(settings: &Settings) -> Result<Store, OpenError> {
        if settings.engine == EngineKind::Memory {
            return Ok(Store::Memory(MemoryEngine::new()));
        }
        let mut options = FjallOptions::new(&settings.data_dir);
        options.cache_bytes = (u64::from(settings.cache_mb) << 20) / 2;
        options.reserve_bytes = u64::from(settings.reserve_mb) << 20;
        let engine = FjallEngine::open(options)?;
        tracing::info!(directory = %settings.data_dir.display(), journal = ?engine.journal_check(), "the store is open");
        Ok(Store::Fjall(engine))
    }

    /// Finishes what waits and lets the directory go, marked clean. Blocks.
    pub(crate) fn close(&self) {
        if let Store::Fjall(engine) = self {
            engine.close();
        }
    }

    /// Resolves once a write has failed: this process must not use the store any more.
    pub(crate) async fn failure(&self) -> String {
        match self {
            Store::Fjall(engine) => engine.failure().await,
            Store::Memory(_) => std::future::pending().await,
        }
    }

    /// The durations of the durable syncs since the last call, in nanoseconds.
    pub(crate) fn take_sync_nanos(&self) -> Vec<u64> {
        match self {
            Store::Fjall(engine) => engine.take_sync_nanos(),
            Store::Memory(_) => Vec::new(),
        }
    }

    /// Which engine it is.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Store::Fjall(_) => "fjall",
            Store::Memory(_) => "memory",
        }
    }
}

impl Engine for Store {
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>> {
        match self {
            Store::Fjall(engine) => Either::Left(engine.get(key)),
            Store::Memory(engine) => Either::Right(engine.get(key)),
        }
    }

    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static {
        match self {
            Store::Fjall(engine) => Either::Left(engine.commit(batch)),
            Store::Memory(engine) => Either::Right(engine.commit(batch)),
        }
    }

    fn scan(&self, scan: Scan) -> impl Future<Output = Result<Page, EngineError>> {
        match self {
            Store::Fjall(engine) => Either::Left(engine.scan(scan)),
            Store::Memory(engine) => Either::Right(engine.scan(scan)),
        }
    }

    fn drop_partition(&self, partition: u16) -> impl Future<Output = Result<(), EngineError>> {
        match self {
            Store::Fjall(engine) => Either::Left(engine.drop_partition(partition)),
            Store::Memory(engine) => Either::Right(engine.drop_partition(partition)),
        }
    }

    fn sync(&self) -> impl Future<Output = Result<(), EngineError>> {
        match self {
            Store::Fjall(engine) => Either::Left(engine.sync()),
            Store::Memory(engine) => Either::Right(engine.sync()),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Store::Fjall(engine) => engine.stats(),
            Store::Memory(engine) => engine.stats(),
        }
    }
}
