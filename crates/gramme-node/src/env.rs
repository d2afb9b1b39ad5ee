//! The world as a node sees it, in one trait. Two implementors: `TokioEnv` in gramme-server and `SimEnv` in
//! gramme-sim.
//!
//! An `Env` belongs to one *shard* of one node: a single-threaded loop that owns the partitions p with
//! p mod S = its index. Futures are local; nothing here is `Send` by demand.

use crate::change::{Installing, Report};
use crate::probe::Probe;
use gramme_core::bucket::Buckets;
use gramme_core::{Layout, NodeId};
use gramme_storage::Engine;
use gramme_wire::{Digest, Message, Standing, TreeRoot};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

/// A point of a monotonic clock, in nanoseconds since the process, or the simulated node, was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    fn sub(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// What can happen to a shard from outside; matched in full wherever it is matched.
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer said something.
    Message {
        /// Who, as its handshake proved.
        from: NodeId,
        /// A number that is new for every connection, so that measures taken on one never judge another.
        connection: u64,
        /// What.
        message: Message,
    },
    /// A connection to this peer stands: messages to it will leave.
    PeerUp(NodeId),
    /// The last connection to this peer is gone: what was on its way to it may or may not have arrived, and
    /// no answer will come.
    PeerDown(NodeId),
    /// Another shard of this process has learned something that concerns all.
    Fact(Fact),
}

/// What is known of a node's directory: whether what it lacks was ever there (design section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is new, and not every other member has yet said that it never knew another.
    Proving,
    /// It has kept everything that this member ever acknowledged, or has it again.
    Continuous,
    /// It, or one before it, was lost, emptied or swapped: its replicas are to be refilled.
    Lost,
}

impl Trust {
    /// What the silence of a replica proves that has lost nothing by itself.
    pub fn standing(self) -> Standing {
        match self {
            Trust::Continuous => Standing::Continuous,
            Trust::Proving | Trust::Lost => Standing::Unproven,
        }
    }

    /// In a word, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Trust::Proving => "proving",
            Trust::Continuous => "continuous",
            Trust::Lost => "lost",
        }
    }
}

/// What one shard tells the others of its process.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The bucket settings in force. Only shard 0 says so.
    Buckets(Buckets),
    /// A peer's roots, which every shard compares for the partitions that it owns. Only shard 0 says so.
    Roots {
        /// Whose.
        from: NodeId,
        /// Whether its trees leave tombstones out.
        skips_tombstones: bool,
        /// Whether it wants to be told ours.
        reply: bool,
        /// All that it told.
        roots: Arc<[TreeRoot]>,
    },
    /// What is known of this node's directory from now on. Said by the server after its handshakes.
    Trust(Trust),
    /// A peer's digests, which every shard answers for the partitions that it owns. Only shard 0 says so.
    Digests {
        /// Whose.
        from: NodeId,
        /// What its answers must bear.
        correlation: u64,
        /// What it has seen.
        digests: Arc<[Digest]>,
    },
    /// The layouts by which to work from now on. Only shard 0 says so.
    Layouts(Arc<Installing>),
    /// How far a shard has come with them; heard by shard 0.
    Report(Report),
    /// A peer goes by other layouts; heard by shard 0.
    Differs(NodeId),
    /// A peer refuses this node as one that was removed. Said by the server after a handshake; it counts while most
    /// members are not connected.
    Removed,
}

/// What the outside of a node must know of its ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The layout that reads go by.
    pub reads: Arc<Layout>,
    /// The one that is being gone to; the same if nothing changes.
    pub newest: Arc<Layout>,
    /// Everyone to keep a connection to, but this node: members by any live layout, and those that still hand over.
    pub peers: BTreeMap<NodeId, Peer>,
    /// Nodes that were removed and have nothing left here: nobody talks to them.
    pub gone: BTreeSet<NodeId>,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What people call it.
    pub name: String,
    /// Where its peer door is, `host:port`: as it says itself, or as the layout does.
    pub address: String,
}

/// See the module.
pub trait Env: Clone + 'static {
    /// The disk under this node.
    type Engine: Engine;

    /// The monotonic clock.
    fn now(&self) -> Mono;

    /// The wall clock, in milliseconds since 1970; it may jump either way. For stamps and expiry only.
    fn wall_ms(&self) -> u64;

    /// 64 random bits: from the operating system in production, from the seed in the simulator.
    fn random(&self) -> u64;

    /// Resolves at or after this time; dropping it costs nothing.
    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + 'static;

    /// Runs a task on this shard until it ends or the process does. `name` is for logs and traces.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static);

    /// Queues a message for a peer and never waits. `false` says that no byte of it left or will leave this
    /// node: there is no connection, or its queue is full. `true` promises nothing.
    fn send(&self, to: NodeId, message: Message) -> bool;

    /// Waits until something has happened, then moves up to `max` events into `events`, in order of arrival.
    fn recv_many(&self, events: &mut Vec<Event>, max: usize) -> impl Future<Output = ()>;

    /// Tells every other shard of this process; delivered as [`Event::Fact`].
    fn tell_shards(&self, fact: Fact);

    /// The disk.
    fn engine(&self) -> &Self::Engine;

    /// By which layouts this node works from now on, and who may be its peer. Said by shard 0 alone, at its start and at
    /// every change.
    fn ring_is(&self, ring: Arc<Ring>);

    /// Something worth counting has happened: metrics in production, coverage in the simulator.
    fn probe(&self, probe: Probe);
}
