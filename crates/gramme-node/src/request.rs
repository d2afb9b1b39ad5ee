//! What doors ask of a node, and what they get. Everything here is plain data that may cross from the shard
//! whose socket it arrived on to the shard that owns its partition.

use crate::admission::AdmissionStatus;
use crate::env::Trust;
use crate::hints::HintsStatus;
use crate::trees::repair::{AuditsStatus, RepairStatus};
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Level, Mode};
use gramme_core::change::{Progress, Step};
use gramme_core::gossip::NodeFact;
use gramme_core::layout::plan::Plan;
use gramme_core::paxos::Decree;
use gramme_core::{Context, Key, LayoutHash, NodeId, PartitionId, Record, StoreId};
use gramme_wire::{Acks, Done, Failure, Put, Standing};
use std::collections::BTreeSet;
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
    /// The ring as this node knows it: layouts, staged changes, who asks to join, how far everyone has come; shard 0 only.
    Ring,
    /// Stage a change of the ring; shard 0 only.
    Stage(Wanted),
    /// Take back all that is staged; shard 0 only.
    Unstage,
    /// What committing what is staged would do; shard 0 only.
    Plan,
    /// Commit the plan of this hash; shard 0 only.
    Commit(LayoutHash),
    /// The same where a majority of the members is lost for good: begins a lineage that fences the old; shard 0 only.
    ForceCommit(LayoutHash),
    /// Commit a return to the layout that is read by, whatever is under way or waits in line; shard 0 only.
    Abort,
    /// What this shard fetches and hands over because the ring changes.
    Transfers,
    /// Pause (`true`) or resume all transfers to and from this shard.
    PauseTransfers(bool),
    /// How this shard's home partitions compare with their other homes.
    Repair,
    /// Compare all of them now; each shard for itself.
    RepairNow,
    /// Reread the rows of a bucket, or everything; each shard for itself.
    Verify(Option<String>),
}

impl Request {
    /// Whether it reads or writes what clients keep; what only asks about a node is answered by one that is no member too.
    pub fn is_of_data(&self) -> bool {
        match self {
            Request::Get(_)
            | Request::Put(_)
            | Request::List(_)
            | Request::Copy(_)
            | Request::Restore(_)
            | Request::Locate(_)
            | Request::SetBucket(..) => true,
            Request::Buckets
            | Request::Bucket(_)
            | Request::Status
            | Request::Nodes
            | Request::Ring
            | Request::Stage(_)
            | Request::Unstage
            | Request::Plan
            | Request::Commit(_)
            | Request::ForceCommit(_)
            | Request::Abort
            | Request::Transfers
            | Request::PauseTransfers(_)
            | Request::Repair
            | Request::RepairNow
            | Request::Verify(_) => false,
        }
    }

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
            Request::Nodes
            | Request::Ring
            | Request::Stage(_)
            | Request::Unstage
            | Request::Plan
            | Request::Commit(_)
            | Request::ForceCommit(_)
            | Request::Abort => 0,
            // Each shard for itself.
            Request::Transfers | Request::PauseTransfers(_) => 0,
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
    /// To `Ring`, `Stage`, `Unstage` and `Abort`.
    Ring(Box<RingStatus>),
    /// To `Plan`.
    Planned(Box<Planned>),
    /// To `Commit` and `ForceCommit`.
    Committed(Committed),
    /// To `Transfers` and `PauseTransfers`.
    Transfers(Box<TransfersStatus>),
    /// To whatever would change the ring: it was not done, for this reason; one sentence, and nothing has changed.
    Declined(String),
    /// To `Repair`, `RepairNow` and `Verify`, which go on after it.
    Repair(Box<RepairStatus>),
    /// To any of them.
    Failed(Box<Failure>),
}

/// A change of the ring that somebody wants. Nodes are named by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A node that asks to join becomes a member.
    Join {
        /// Who.
        node: String,
        /// Its share, relative to the others'; 1 if not said.
        weight: Option<u32>,
        /// Its zone; what it says itself if not said.
        zone: Option<String>,
    },
    /// A member hands over what it has, and goes.
    Leave {
        /// Who.
        node: String,
        /// It is lost for good: nobody waits for it, and what only it had is given up.
        lost: bool,
    },
    /// A node that asks to join takes a member's place.
    Replace {
        /// Who goes; lost for good if it is down.
        old: String,
        /// Who comes.
        new: String,
        /// Also if the member is up: it then hands over what it has.
        force: bool,
    },
    /// A member's share.
    Weight {
        /// Whose.
        node: String,
        /// At least 1.
        weight: u32,
    },
    /// A member's zone.
    Zone {
        /// Whose.
        node: String,
        /// What it fails together with.
        zone: String,
    },
}

/// One layout of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// Its number.
    pub decree: Decree,
    /// Its hash.
    pub hash: LayoutHash,
    /// How many members it has.
    pub members: usize,
    /// Names of those who are members by it and were not before.
    pub came: Vec<String>,
    /// Names of those who were members before and are not by it.
    pub went: Vec<String>,
    /// Slots that another home fills than before.
    pub moved: usize,
    /// The version that it returns to; 0 if none.
    pub back_to: u64,
}

/// One staged change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedItem {
    /// Whom it is about.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// In words, such as `leaves` or `weight 2`.
    pub what: String,
    /// When it was staged, in milliseconds since 1970.
    pub at_ms: u64,
    /// At which node.
    pub by: String,
}

/// The ring as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingStatus {
    /// The layout that reads go by here.
    pub reads: (Decree, LayoutHash),
    /// The one that is being gone to; the same if nothing changes.
    pub target: (Decree, LayoutHash),
    /// The last that is known to be committed.
    pub head: (Decree, LayoutHash),
    /// Layouts that are committed and not begun.
    pub waiting: usize,
    /// What this node does next on its way there.
    pub step: Step,
    /// Those whose word it awaits before that.
    pub awaited: BTreeSet<NodeId>,
    /// How far every node has come that counts, this one among them, in order of id.
    pub progress: Vec<(NodeId, Progress)>,
    /// What is staged and not committed, in order of node.
    pub staged: Vec<StagedItem>,
    /// Nodes that ask to join.
    pub asking: Vec<NodeKnown>,
    /// Removed nodes that still hand over what they have.
    pub leaving: Vec<NodeId>,
    /// Whether this node is a member by the last layout.
    pub is_member: bool,
    /// Whether this node was removed, and has nothing left to hand over; as its peers say, if its own directory knows
    /// nothing of it.
    pub is_gone: bool,
    /// A number that two layouts bear: an alarm.
    pub contradiction: Option<Decree>,
    /// The history, oldest first.
    pub history: Vec<HistoryItem>,
}

/// What committing would do.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The number of the layout that it follows.
    pub after: Decree,
    /// The fewest live homes that any partition keeps from one version to the next, as this node sees it.
    pub live_homes_kept: usize,
    /// In how many zones the partition is that is in the fewest, before and after.
    pub zones: (usize, usize),
}

/// What was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The layouts, in order.
    pub layouts: Vec<(Decree, LayoutHash)>,
}

/// One partition that comes to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Which.
    pub partition: PartitionId,
    /// Homes from which everything was pulled.
    pub done: Vec<NodeId>,
    /// Homes from which something is still to be pulled.
    pub left: Vec<NodeId>,
    /// Records that were pulled in this process life.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One partition that this node is no home of any more, and still keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub partition: PartitionId,
    /// Homes that are not known to have all of it.
    pub left: Vec<NodeId>,
}

/// What a shard fetches and hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransfersStatus {
    /// In order of partition.
    pub incoming: Vec<Incoming>,
    /// Partitions that had to come for the layout that is being gone to, and are there.
    pub arrived: usize,
    /// In order of partition.
    pub outgoing: Vec<Outgoing>,
    /// Whether they are paused here.
    pub paused: bool,
    /// Bytes that came in this process life.
    pub bytes: u64,
    /// Bytes per second of late.
    pub bytes_per_s: u64,
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
