//! What peers say: every message, who sends it, when and why. Read alone, this file teaches the protocol.
//!
//! Requests carry the time that is left to them and the sender's monotonic stamp, so that the receiver can
//! tell how long they waited on the way without comparing wall clocks. Replies bear the request's
//! `correlation`. A record travels whole and encoded ([`gramme_core::codec::encode_record`]): it is encoded once
//! by whoever made it and stays those bytes in every queue, socket and batch.

mod client;
mod reconcile;
mod replica;

pub use client::{Acks, Done, Expect, Failure, Put, Reason};
pub use reconcile::Reconcile;
pub use replica::{
    Compared, Difference, Digest, Entry, Life, PullOf, PullPage, Pulled, Remembered, Standing, TreeRoot,
};

use bytes::Bytes;
use gramme_core::bucket::BucketFact;
use gramme_core::closed::Closed;
use gramme_core::paxos::{Reply, Request};
use gramme_core::seen::SeenRow;
use gramme_core::{Frontier, Incarnation, Key, NodeId, PartitionId, Seen};

/// One frame between two nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Chosen by the requester, echoed by the reply; the top byte names the requester's shard, and the
    /// number never repeats within a process life.
    pub correlation: u64,
    /// Which partition it is about, and so which shard serves it; [`Message::NO_PARTITION`] is shard 0's.
    pub partition: PartitionId,
    /// Microseconds left when it was sent; 0 in replies.
    pub remaining_us: u32,
    /// The sender's monotonic clock when it was sent, in nanoseconds.
    pub sent_ns: u64,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// The partition of messages that are about none.
    pub const NO_PARTITION: PartitionId = PartitionId(u16::MAX);

    /// Which of `shards` shards of the receiving process takes it: replies go to the shard that asked,
    /// requests to the one that owns the partition.
    pub fn shard(&self, shards: usize) -> usize {
        if self.body.is_reply() {
            (self.correlation >> 56) as usize % shards
        } else if self.partition == Message::NO_PARTITION {
            0
        } else {
            self.partition.0 as usize % shards
        }
    }
}

/// The vocabulary of peers.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Coordinator to replica, for a get: what do you hold of this key?
    Read {
        /// The key.
        key: Key,
    },
    /// The answer to `Read`: the record as encoded, `None` if there is none.
    ReadReply {
        /// What its silence proves.
        standing: Standing,
        /// The encoded record.
        record: Option<Bytes>,
        /// The replica's reclaim frontier: what it lacks below it is gone for good, not missing.
        frontier: Frontier,
    },
    /// Coordinator to replica, for a put, or reader to a stale replica: join this into what you hold.
    /// A late one is always taken.
    Merge {
        /// The key.
        key: Key,
        /// The encoded record, whole.
        record: Bytes,
        /// Set if the receiver stands in for this home: it keeps the record in its hint store.
        hint_for: Option<NodeId>,
        /// The sender's reclaim frontier when it sent this, by which a late record is told from a repair; none
        /// from fallbacks, backups and whoever is not trusted.
        stamp: Frontier,
        /// Whether to answer once it is in memory, ahead of the sync (the paper, 6.1).
        buffered: bool,
        /// The number of the newest layout by which the sender writes; a replica that has adopted a later one refuses.
        /// 0 of what is no client's write, and is taken from anyone.
        fence: u64,
    },
    /// The answer to `Merge`: it is durable here, or in memory if `buffered` was asked for.
    MergeReply,
    /// Any node to a home: coordinate this put for my client. At most one further candidate gets the same
    /// request id (design section 3).
    Forward {
        /// The put.
        put: Box<Put>,
    },
    /// The answer to `Forward`.
    ForwardReply {
        /// What became of it.
        result: Result<Box<Done>, Box<Failure>>,
    },
    /// Coordinator to replica, for a list: a page of this partition's keys in order.
    List {
        /// The bucket.
        bucket: String,
        /// Only keys that start with this.
        prefix: Bytes,
        /// Only keys greater than this.
        after: Option<Bytes>,
        /// At most so many.
        keys_max: u32,
        /// Whether values are wanted; without them records come with empty ones.
        values: bool,
    },
    /// The answer to `List`.
    ListReply {
        /// What its silence proves.
        standing: Standing,
        /// In ascending order of key.
        entries: Vec<Entry>,
        /// Whether more may follow the last.
        more: bool,
        /// The replica's reclaim frontier; see `ReadReply`.
        frontier: Frontier,
    },
    /// Coordinator to home, for a backup: a page of all that you hold of this partition, tombstones included.
    Copy {
        /// Only keys greater than this, joined with their buckets.
        after: Option<Bytes>,
        /// At most so many.
        keys_max: u32,
    },
    /// The answer to `Copy`; the keys of its entries are joined with their buckets.
    CopyReply {
        /// What its silence proves.
        standing: Standing,
        /// In ascending order of key.
        entries: Vec<Entry>,
        /// Whether more may follow the last.
        more: bool,
        /// The replica's reclaim frontier; see `ReadReply`.
        frontier: Frontier,
        /// [`gramme_core::Seen::digest`] of what the replica had seen before it read the page.
        seen: u64,
    },
    /// Anyone, when nothing was heard from a peer for a while (FD-1): are you there?
    Ping,
    /// The answer to `Ping`.
    Pong,
    /// Each second to one random peer: the digest of my bucket settings.
    BucketsDigest {
        /// [`gramme_core::bucket::Buckets::digest`].
        digest: u64,
    },
    /// To a peer whose digest differs, and to all after a change: my bucket settings, whole.
    Buckets {
        /// In order of name.
        facts: Vec<(String, BucketFact)>,
        /// Whether the receiver should answer with its own, should they still differ.
        reply: bool,
    },
    /// What nodes know of the cluster, reconciled; shard 0 to shard 0. Not answered by correlation.
    Reconcile(Reconcile),
    /// Every few minutes a shard to each peer with which it shares home partitions: the roots of their hash trees.
    /// About no partition; every shard of the receiver compares those that it owns.
    TreeRoots {
        /// Whether records that are nothing but tombstones are left out; only trees of one kind compare.
        skips_tombstones: bool,
        /// Whether the receiver should tell its own at once.
        reply: bool,
        /// One per shared partition whose tree has been built.
        roots: Vec<TreeRoot>,
    },
    /// A home to another whose root differs: what are the children of these nodes of your tree?
    TreeNodes {
        /// Of these nodes; the root's is 0.
        level: u8,
        /// In order.
        nodes: Vec<u32>,
    },
    /// The answer to `TreeNodes`.
    TreeNodesReply {
        /// The depth of the sender's tree: the asker goes no deeper.
        depth: u8,
        /// Sixteen children of each node, one node after the other; none if a node has none.
        hashes: Vec<u128>,
    },
    /// The same asker, once it knows the leaves that differ: which keys have you there? A page of a partition.
    TreeKeys {
        /// The depth at which these are leaves.
        depth: u8,
        /// In order.
        leaves: Vec<u32>,
        /// Only keys greater than this: the `next` of the page before.
        after: Option<Key>,
    },
    /// The answer to `TreeKeys`.
    TreeKeysReply {
        /// Keys in order, with what each contributes to its leaf.
        keys: Vec<(Key, u128)>,
        /// Where the next page begins; `None` if this was the last. A page may be empty and not the last.
        next: Option<Key>,
        /// Rows on those leaves that the sender could not read, or whose values fail their checksums.
        unreadable: u32,
    },
    /// The same asker at the end: this partition is the same at both of us now.
    AuditDone,
    /// The answer of a replica that did not do what it was asked.
    Refused {
        /// Why; an answer with `maybe_applied` may have left something behind.
        failure: Box<Failure>,
    },
    /// Every few seconds, and at once when a connection stands, a shard to each peer with which it shares
    /// home partitions: what I have durably seen, in short. About no partition; every shard of the receiver
    /// answers for those that it owns.
    Digests {
        /// One per shared partition.
        digests: Vec<Digest>,
    },
    /// The answer to `Digests`, one or several: for each partition whether the receiver has seen the same.
    DigestsReply {
        /// One per partition that the answering shard is a home of.
        compared: Vec<Compared>,
    },
    /// A home to another home, or to a fallback about its hint store: begin a pull session. Send me every
    /// record of the partition with a sibling that I have not seen (correctness.md 2.2).
    Pull {
        /// Who asks.
        life: Life,
        /// What it has durably seen; ignored by a full session.
        seen: Seen,
        /// Which of the receiver's stores of the partition is meant.
        of: PullOf,
        /// Whether everything is to be sent, seen or not: the asker is being refilled.
        full: bool,
    },
    /// The same asker: the next page of a pull session.
    PullMore {
        /// As the first page named it.
        session: u64,
        /// Only keys greater than this one: the `next` of the page before.
        after: Key,
    },
    /// The answer to `Pull` and `PullMore`.
    PullReply(PullPage),
    /// A fallback to a home: I keep hints of this partition in which all this was seen; have you durably seen it
    /// too? A home that has not pulls what it lacks before it answers. So asks, of what it still keeps, who is no home
    /// any more.
    Offer {
        /// What is seen there.
        seen: Seen,
        /// Whether it is what a former home left, and not hints.
        left: bool,
    },
    /// The answer to `Offer`.
    OfferReply {
        /// Whether it has, by now.
        covered: bool,
    },
    /// A fallback to a home: what of this partition have you durably seen?
    AskSeen,
    /// The answer to `AskSeen`.
    SeenReply {
        /// Who says so.
        life: Life,
        /// All of it.
        seen: Seen,
    },
    /// The leading home of a partition to every node, about incarnations that seem to have ended and left a hole
    /// in what was seen; a home that is refilled to another, about none: how do they stand with you?
    Survey {
        /// Which.
        about: Vec<Incarnation>,
        /// The newest layout of whoever asks everyone: who goes by another refuses. 0 if nothing hangs on it.
        fence: u64,
    },
    /// The answer to `Survey`.
    SurveyReply {
        /// Who says so, if the node is a home of the partition.
        home: Option<Life>,
        /// The incarnation that lives there, as a home or in a hint store.
        live: Option<Incarnation>,
        /// What is durably seen there of the incarnations asked about.
        seen: Seen,
        /// How incarnations have ended there, all of them.
        ends: Closed,
    },
    /// The leading home to every node: from now on take nothing of this incarnation that you have not seen and
    /// that lies outside this set (correctness.md 2.4).
    Freeze {
        /// Which.
        incarnation: Incarnation,
        /// What of it was seen by anyone.
        set: SeenRow,
        /// As in `Survey`.
        fence: u64,
    },
    /// The answer to `Freeze`, durable.
    FreezeReply {
        /// Whether it is frozen there at exactly this set.
        frozen: bool,
        /// What was seen or frozen there: if that is more than the set, the set must grow.
        seen: SeenRow,
    },
    /// To whoever may not know: these sets are final. Not answered.
    Ends {
        /// Which, and how.
        ends: Closed,
    },
    /// Whoever commits a layout to a member of the one before it, shard 0 to shard 0 ([`gramme_core::paxos`]).
    Paxos(Box<Request>),
    /// The answer to `Paxos`: what the member says is durable there.
    PaxosReply(Box<Reply>),
}

impl Body {
    /// Whether it answers a request.
    pub fn is_reply(&self) -> bool {
        match self {
            Body::ReadReply { .. }
            | Body::MergeReply
            | Body::ForwardReply { .. }
            | Body::ListReply { .. }
            | Body::CopyReply { .. }
            | Body::Pong
            | Body::Refused { .. }
            | Body::TreeNodesReply { .. }
            | Body::TreeKeysReply { .. }
            | Body::DigestsReply { .. }
            | Body::PullReply { .. }
            | Body::SeenReply { .. }
            | Body::SurveyReply { .. }
            | Body::FreezeReply { .. }
            | Body::PaxosReply(_)
            | Body::OfferReply { .. } => true,
            Body::Read { .. }
            | Body::Merge { .. }
            | Body::Forward { .. }
            | Body::List { .. }
            | Body::Copy { .. }
            | Body::Ping
            | Body::BucketsDigest { .. }
            | Body::Buckets { .. }
            | Body::Reconcile(_)
            | Body::TreeRoots { .. }
            | Body::TreeNodes { .. }
            | Body::TreeKeys { .. }
            | Body::AuditDone
            | Body::Digests { .. }
            | Body::Pull { .. }
            | Body::PullMore { .. }
            | Body::AskSeen
            | Body::Survey { .. }
            | Body::Freeze { .. }
            | Body::Ends { .. }
            | Body::Paxos(_)
            | Body::Offer { .. } => false,
        }
    }
}
