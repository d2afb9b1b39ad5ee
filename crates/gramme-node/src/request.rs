//! What doors ask of a node, and what they get. Everything here is plain data that may cross from the shard
//! whose socket it arrived on to the shard that owns its partition.

mod ring;
mod status;

pub use ring::{
    Committed, HistoryItem, Incoming, NodeKnown, Outgoing, Planned, RingStatus, StagedItem, TransfersStatus,
    Wanted,
};
pub use status::{Health, Lag, PeerStatus, Refilling, Status};

use crate::trees::repair::RepairStatus;
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Level, Mode};
use gramme_core::{Context, Key, LayoutHash, NodeId, PartitionId, Record};
use gramme_wire::{Acks, Done, Failure, Put};

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
