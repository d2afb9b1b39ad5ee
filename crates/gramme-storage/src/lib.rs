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
pub mod directory;
#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "fjall")]
mod journal;
#[cfg(feature = "fjall")]
mod read_pool;

pub use engine::{Batch, Change, Engine, EngineError, NODE_ROWS, Page, Scan, Stats};

use bytes::Bytes;

/// The bytes to keep of a row: a small one is copied, so that it never pins the socket buffer it is a
/// slice of; a large one has a buffer of its own, or fills most of one, and is shared.
fn own(bytes: &Bytes) -> Bytes {
    if bytes.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(bytes) } else { bytes.clone() }
}

/// Rows up to this many bytes are copied when they are kept.
const COPIED_BYTES_MAX: usize = 16 << 10;
