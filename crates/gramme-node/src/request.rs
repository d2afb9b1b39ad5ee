//! What doors ask of a node, and what they get. Everything here is plain data that may cross from the shard
//! whose socket it arrived on to the shard that owns its partition.

use crate::admission::AdmissionStatus;
use crate::env::Trust;
use crate::hints::HintsStatus;
use crate::trees::repair::{AuditsStatus, RepairStatus};
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Level, Mode};
use gramme_core::gossip::NodeFact;
use gramme_core::{Context, Key, LayoutHash, NodeId, PartitionId, Record, StoreId};
use gramme_wire::{Acks, Done, Failure, Put, Standing};
use std::time::Duration;

/// Something a client wants, with the time that is left for it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Milliseconds from its arrival at the door to its answer.
    pub timeout_ms: u64,
    /// What.
    pub request: Request,
}

/// What clients can want of a shard.
#[derive(Clone, Debug)]
pub enum Request {
    /// Read a key.
    Get(Get),
    /// Write or delete a key.
    Put(Box<Put>),
    /// One page of one partition's keys.
    List(ListPage),
    /// One page of everything in one partition, for a backup.
    Copy(CopyPage),
    /// A record of a backup, to be joined into what the cluster holds.
    Restore(Box<Restore>),
    /// Where a key lives, and what each of its homes holds.
    Locate(Key),
    /// All settings that were ever made; shard 0 only.
    Buckets,
    /// The settings of a bucket.
    Bucket(String),
    /// Set a bucket's settings; shard 0 only.
    SetBucket(String, BucketSettings),
    /// What this node knows of itself and its peers.
    Status,
    /// What every node is known to have said of itself; shard 0 only.
    Nodes,
    /// How this shard's home partitions compare with their other homes.
    Repair,
    /// Compare all of them now; each shard for itself.
    RepairNow,
    /// Reread the rows of a bucket, or everything; each shard for itself.
    Verify(Option<String>),
}

impl Request {
    /// Which of `shards` shards serves it, on a ring of `partitions`.
    pub fn shard(&self, partitions: usize, shards: usize) -> usize {
        let of_key = |key: &Key| gramme_core::ring::partition_of(key, partitions).0 as usize % shards;
        match self {
            Request::Get(get) => of_key(&get.key),
            Request::Put(put) => of_key(&put.key),
            Request::Locate(key) => of_key(key),
            Request::Restore(restore) => of_key(&restore.key),
            Request::List(page) => page.partition.0 as usize % shards,
            Request::Copy(page) => page.partition.0 as usize % shards,
            Request::Buckets | Request::Bucket(_) | Request::SetBucket(..) | Request::Status => 0,
            Request::Nodes => 0,
            Request::Repair | Request::RepairNow | Request::Verify(_) => 0,
        }
    }
}

/// The answer to a [`Request`], of the same name.
#[derive(Clone, Debug)]
pub enum Response {
    /// To `Get`.
    Got(Box<Got>),
    /// To `Put`.
    Done(Box<Done>),
    /// To `List`.
    Listed(Listed),
    /// To `Copy`.
    Copied(Copied),
    /// To `Restore`: who has it.
    Restored(Acks),
    /// To `Locate`.
    Located(Located),
    /// To `Buckets`: in order of name.
    Buckets(Vec<(String, BucketSettings)>),
    /// To `Bucket` and `SetBucket`: the settings in force.
    Bucket(BucketSettings),
    /// To `Status`.
    Status(Box<Status>),
    /// To `Nodes`: in order of id, members or not.
    Nodes(Vec<NodeKnown>),
    /// To `Repair`, `RepairNow` and `Verify`, which go on after it.
    Repair(Box<RepairStatus>),
    /// To any of them.
    Failed(Box<Failure>),
}

/// Read a key.
#[derive(Clone, Debug)]
pub struct Get {
    /// The key.
    pub key: Key,
    /// Answers to wait for; `None` leaves it to the bucket.
    pub r: Option<Level>,
    /// How many of them must be homes.
    pub pr: u8,
    /// Answer only with a state that has seen all that this context has (session reads, correctness.md 3.3).
    pub min: Option<Context>,
    /// Whether the answer should say who was asked and when each answered.
    pub explain: bool,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Got {
    /// The answers joined; empty if nobody has written the key.
    pub record: Record,
    /// How its bucket wants it shown; see [`Record::view`].
    pub mode: Mode,
    /// The coordinator's hybrid time, in milliseconds since 1970: by it values have expired or not.
    pub now_ms: u64,
    /// What the reader has seen; to be given back with its next write of the key.
    pub context: Context,
    /// Who answered.
    pub acks: Acks,
    /// One line per step, if they were asked for.
    pub explain: Vec<String>,
}

/// One page of one partition's keys. A whole bucket is listed by going through all partitions in order; a
/// key's own partition is where a list that was cut off after it goes on.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Which partition.
    pub partition: PartitionId,
    /// The bucket.
    pub bucket: String,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Only keys greater than this.
    pub after: Option<Bytes>,
    /// At most so many.
    pub keys_max: u32,
    /// Whether values are wanted; without them records come with empty ones.
    pub values: bool,
    /// Answers to wait for per page; `None` leaves it to the bucket.
    pub r: Option<Level>,
}

/// One page of keys, each once, in ascending order; deleted and expired ones are left out.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The keys within the bucket with their joined records.
    pub entries: Vec<(Bytes, Record)>,
    /// Where the next page of this partition starts (its `after`); `None` if this was the last.
    pub next_after: Option<Bytes>,
    /// How the bucket wants its records shown.
    pub mode: Mode,
    /// See [`Got::now_ms`].
    pub now_ms: u64,
}

/// One page of everything in one partition: all buckets, tombstones and expired values included.
#[derive(Clone, Debug)]
pub struct CopyPage {
    /// Which partition.
    pub partition: PartitionId,
    /// Only what follows this key, joined with its bucket.
    pub after: Option<Bytes>,
    /// At most so many.
    pub keys_max: u32,
}

/// A page of a copy.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Keys and their joined records, in order.
    pub entries: Vec<(Key, Record)>,
    /// Where the next page starts (its `after`); `None` if this was the last.
    pub next_after: Option<Bytes>,
    /// What all answering homes had seen of the partition before they read, if they agree: as long as a later
    /// copy shows the same, nothing was written in between.
    pub seen: Option<u64>,
}

/// A record of a backup. It is joined as an untrusted one: whatever the cluster has seen overwritten or deleted
/// since stays so (correctness.md 2.4).
#[derive(Clone, Debug)]
pub struct Restore {
    /// The key.
    pub key: Key,
    /// The encoded record.
    pub record: Bytes,
}

/// Where a key lives.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its partition.
    pub partition: PartitionId,
    /// Each home in order with what it holds: `Ok(None)` is "nothing".
    pub homes: Vec<(NodeId, Result<Option<Record>, String>)>,
    /// Who takes a home's place, in order.
    pub fallbacks: Vec<NodeId>,
}

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
    /// Where another home has seen more than this shard, when they last compared.
    pub behind: Vec<Lag>,
    /// The layout in force.
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

/// What a node is known to have said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKnown {
    /// Which.
    pub node: NodeId,
    /// What.
    pub fact: NodeFact,
    /// How long ago it said so, if its clock and this node's are right: at its start, as a rule.
    pub age: Duration,
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
