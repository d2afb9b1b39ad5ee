//! The pure half of Gramme: every decision that is arithmetic over values.
//!
//! Reading order, from the bottom up: [`id`] and [`limits`] (the words), [`ring`] and [`layout`] (who keeps
//! what), [`clock`], [`record`], [`context`], [`seen`] and [`frontier`] (versions: what happened before what, and
//! what everyone has seen), [`merkle`] (what is held, in short), [`hlc`] (time as advice), [`quorum`] (counting
//! answers), [`bucket`] (what a bucket wants), [`admission`] (how much background work there may be), and
//! [`codec`] (how values become bytes).
//!
//! After those: [`reclaim`] and [`closed`] (how tombstones go, and what may not come back); [`paxos`] (which
//! layout comes next) and [`gossip`] (what all nodes come to know alike).
//!
//! The crate knows no clock, socket, file, thread or randomness: it is `no_std` with `alloc`, so the
//! compiler holds it to that. What it needs of the world arrives as an argument.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod admission;
pub mod backup;
pub mod bucket;
pub mod change;
pub mod clock;
pub mod closed;
pub mod codec;
pub mod context;
pub mod frontier;
pub mod gossip;
pub mod hlc;
pub mod id;
pub mod layout;
pub mod limits;
pub mod merkle;
pub mod outcome;
pub mod paxos;
pub mod planted;
pub mod quorum;
pub mod reclaim;
pub mod record;
pub mod ring;
pub mod seen;
pub mod view;

pub use clock::{Clock, Interval};
pub use context::Context;
pub use frontier::Frontier;
pub use hlc::{Hlc, Stamp};
pub use id::{ClusterId, Dot, Incarnation, Key, NodeId, PartitionId, RequestId, StoreId};
pub use layout::{Layout, LayoutHash, Member};
pub use outcome::Outcome;
pub use quorum::{Quorum, Verdict};
pub use record::{Content, Record, Sibling};
pub use seen::Seen;
pub use view::View;
