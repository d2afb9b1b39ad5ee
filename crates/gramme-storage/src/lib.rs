//! Storage: one trait, [`Engine`], and its implementors.
//!
//! [`memory::MemoryEngine`] forgets everything at exit; it serves caches and tests and is the yardstick
//! for everything above it. `fjall::FjallEngine` (feature `fjall`) keeps rows on disk. Whoever brings
//! another engine runs `conformance` (feature `conformance`) on it.

pub mod engine;
pub mod memory;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

#[cfg(feature = "fjall")]
mod bell;
#[cfg(feature = "fjall")]
mod committer;
#[cfg(feature = "fjall")]
mod damage;
#[cfg(feature = "fjall")]
pub mod directory;
#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "fjall")]
mod journal;
#[cfg(feature = "fjall")]
mod manifest;
#[cfg(feature = "fjall")]
mod read_pool;

pub use engine::{Batch, Change, Engine, EngineError, NODE_ROWS, Page, Scan, Stats};
