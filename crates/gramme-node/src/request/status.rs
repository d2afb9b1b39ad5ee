//! How a shard is, for people and for the server around it.

use crate::admission::AdmissionStatus;
use crate::env::Trust;
use crate::hints::HintsStatus;
use crate::trees::repair::AuditsStatus;
use gramme_core::{LayoutHash, NodeId, PartitionId, StoreId};
use gramme_wire::Standing;
use std::time::Duration;

/// What a node knows of itself and its peers.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its data directory's life.
    pub store: StoreId,
    /// What the silence of this shard's homes proves, as far as the least of them.
    pub standing: Standing,
    /// What is known of its data directory.
    pub trust: Trust,
    /// Partitions that lost something and are not yet whole again.
    pub refilling: Vec<Refilling>,
    /// Home replicas here that are filled for the first time, because the ring changes.
    pub filling: usize,
    /// Where another home has seen more than this shard, when they last compared.
    pub behind: Vec<Lag>,
    /// The layout that reads go by.
    pub layout: LayoutHash,
    /// Every other member, as this node sees it.
    pub peers: Vec<PeerStatus>,
    /// Partitions of this shard for which it is a home.
    pub homes: usize,
    /// What this shard keeps for homes that missed it.
    pub hints: HintsStatus,
    /// Client operations in flight in this shard.
    pub in_flight: usize,
    /// What broke the store, if anything did.
    pub broken: Option<String>,
    /// Whether its own syncs take over ten times as long as they usually do.
    pub disk_stalls: bool,
    /// How background work is paced, and why.
    pub admission: AdmissionStatus,
    /// Whether the disk has no room and this shard refuses writes until it has.
    pub full: bool,
    /// Rows whose stored bytes cannot be read, and that wait to be mended from their other homes.
    pub damaged: usize,
    /// Home partitions of which some page could not be read: rows are missing from scans of them, and whoever wants
    /// all of them from here waits.
    pub damaged_partitions: usize,
    /// Records that are nothing but tombstones, as far as they were counted.
    pub tombstones: u64,
    /// Members for which they wait: down, silent or being refilled. Nobody while reclaim is off.
    pub reclaim_blocked_by: Vec<NodeId>,
    /// Holes that crashes have left in what homes here have seen, under which tombstones wait until they are
    /// closed: each an ended incarnation in one partition.
    pub holes: usize,
    /// How old the audits of its home partitions are.
    pub audits: AuditsStatus,
}

/// A home replica that is being refilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refilling {
    /// Of which partition.
    pub partition: PartitionId,
    /// Homes from which it has not yet pulled everything; those that are down are waited for.
    pub from: Vec<NodeId>,
}

/// How far a home lags behind another of its partition: exact when they last compared, a few seconds ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Which partition.
    pub partition: PartitionId,
    /// Who has seen more.
    pub peer: NodeId,
    /// Writes that this home has not seen.
    pub unseen: u64,
    /// For how long some of them have been known to be missing; they are older by up to the time between two
    /// comparisons, or by as long as the two were apart.
    pub known_for: Duration,
}

/// A peer as one node sees it.
#[derive(Clone, Copy, Debug)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Whether a connection stands.
    pub connected: bool,
    /// Whether requests go to it first, last, or not at all.
    pub health: Health,
    /// Whether it is suspect because it is much slower than its neighbours, or fails where they do not.
    pub degraded: bool,
    /// Its answers' median and 99th percentile, in microseconds; 0 if none were measured.
    pub p50_us: u64,
    /// See `p50_us`.
    pub p99_us: u64,
}

/// A local opinion of a peer; nothing about membership follows from it (FD-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It answers.
    Up,
    /// It answers late or not always: asked last.
    Suspect,
    /// It does not answer: its place is taken.
    Down,
}
