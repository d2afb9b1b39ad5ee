//! What peers say: every message, who sends it, when and why. Read alone, this file teaches the protocol.
//!
//! Requests carry the time that is left to them and the sender's monotonic stamp, so that the receiver can
//! tell how long they waited on the way without comparing wall clocks. Replies bear the request's
//! `correlation`. A record travels whole and encoded ([`gramme_core::codec::encode_record`]): it is encoded once
//! by whoever made it and stays those bytes in every queue, socket and batch.

use bytes::Bytes;
use gramme_core::bucket::{BucketFact, Level};
use gramme_core::closed::Closed;
use gramme_core::record::Content;
use gramme_core::seen::SeenRow;
use gramme_core::{Context, Dot, Frontier, Incarnation, Key, NodeId, Outcome, PartitionId, RequestId, Seen};
use std::fmt;

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

/// What a replica's silence about a key proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has kept everything it ever acknowledged: "I have nothing" is an answer.
    Continuous,
    /// Its store was lost, replaced or never proved whole: what it holds is merged, what it lacks proves
    /// nothing. Fallbacks are always of this kind.
    Unproven,
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
        /// Whether the receiver's hint store is meant instead of its home data.
        hints: bool,
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
    /// too? A home that has not pulls what it lacks before it answers.
    Offer {
        /// What the hint store has seen.
        seen: Seen,
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
}

/// Who speaks for a partition replica: a replica that has lost, or mistrusts, what it had begins a new life
/// with a greater number, and what its lives before reported no longer holds (correctness.md 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Kept over restarts, ever greater.
    pub number: u64,
    /// What its silence proves.
    pub standing: Standing,
}

/// What a home has durably seen of one partition, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which partition.
    pub partition: PartitionId,
    /// Who has seen it.
    pub life: Life,
    /// [`Seen::digest`] of its durable seen clock, exclusive-or [`Closed::digest`] of what it knows to be closed.
    pub seen: u64,
}

/// How the receiver of a [`Digest`] stands to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Which partition.
    pub partition: PartitionId,
    /// Who has compared.
    pub life: Life,
    /// `None` if it has durably seen exactly the same, and remembers no more of the sender.
    pub difference: Option<Difference>,
}

/// What the receiver of a digest that differs has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What it has durably seen.
    pub seen: Seen,
    /// [`Closed::digest`] of the incarnations that it knows to be closed: should that be another than the sender's,
    /// the sender tells it its own.
    pub closed: u64,
    /// What the sender of the digest has once told it, if it ever did: should that be more than the sender
    /// knows of itself, the sender has lost something.
    pub remembered: Option<Remembered>,
}

/// What one home remembers of another's durable seen clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Of which life of it.
    pub life: u64,
    /// How far everything of it was durable.
    pub bases: Frontier,
}

/// A page of a pull session: records in order of key.
#[derive(Clone, Debug, PartialEq)]
pub struct PullPage {
    /// To be named for the next page. One that has expired is refused: the asker begins anew.
    pub session: u64,
    /// Whole records, which may be newer than the session.
    pub pulled: Vec<Pulled>,
    /// Where the next page begins; `None` if this is the last. A page may be empty and not the last.
    pub next: Option<Key>,
    /// On the first page: what the sender had durably seen when the session began. The asker has seen it
    /// too once it has merged every page, and not before.
    pub sigma: Option<Box<Seen>>,
    /// The sender's reclaim frontier when the session began.
    pub frontier: Frontier,
    /// Who sends.
    pub life: Life,
    /// Records that could not be read and are left out. If there are any, the asker learns nothing of what
    /// they would have shown: it joins none of `sigma`.
    pub unreadable: u32,
}

/// One record of a pull session.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// The key.
    pub key: Key,
    /// The encoded record, whole.
    pub record: Bytes,
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
            | Body::OfferReply { .. } => true,
            Body::Read { .. }
            | Body::Merge { .. }
            | Body::Forward { .. }
            | Body::List { .. }
            | Body::Copy { .. }
            | Body::Ping
            | Body::BucketsDigest { .. }
            | Body::Buckets { .. }
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
            | Body::Offer { .. } => false,
        }
    }
}

/// The root of one partition's hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRoot {
    /// Which partition.
    pub partition: PartitionId,
    /// [`gramme_core::merkle::Tree::root`].
    pub root: u128,
}

/// One key of a list page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key within the bucket.
    pub key: Bytes,
    /// The encoded record.
    pub record: Bytes,
}

/// A client's write, as doors make it and forwarders pass it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The value, or a tombstone for a delete.
    pub content: Content,
    /// As the client gave it; empty if it gave none.
    pub content_type: Bytes,
    /// The client's metadata.
    pub meta: Vec<(Bytes, Bytes)>,
    /// How long the value lives, in milliseconds; `None` leaves it to the bucket, 0 is for ever.
    pub ttl_ms: Option<u64>,
    /// What the client has seen; `None` is a put without a context.
    pub context: Option<Context>,
    /// Durable copies to wait for; `None` leaves it to the bucket.
    pub w: Option<Level>,
    /// How many of them must be homes.
    pub pw: u8,
    /// The client's name for the write.
    pub request: RequestId,
    /// Whether the client says that an earlier attempt may have been applied.
    pub retry: bool,
    /// Whether copies in memory count (the paper, 6.1); `None` leaves it to the bucket.
    pub buffered: Option<bool>,
    /// What the key must look like for the write to be made; best effort, not a constraint.
    pub expect: Option<Expect>,
    /// Whether the answer should say who was asked and when each answered.
    pub explain: bool,
}

/// What a conditional write expects to find. It is checked by a read before the write: two writers that both
/// find it leave two siblings, and neither is lost (correctness.md 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No value: the key was never written, or was deleted, or has expired.
    Absent,
    /// Any value at all.
    Present,
    /// Exactly the siblings of this [`gramme_core::Record::tag`].
    Tag(u64),
    /// Any others, or none.
    NotTag(u64),
}

/// Who stood behind an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// Homes that answered in time.
    pub homes: u8,
    /// Fallbacks that answered in time.
    pub fallbacks: u8,
}

impl Acks {
    /// Distinct nodes that answered.
    pub fn total(self) -> u8 {
        self.homes + self.fallbacks
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; homes={}; fallbacks={}", self.total(), self.homes, self.fallbacks)
    }
}

/// A write that is durable on as many nodes as were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Its name.
    pub dot: Dot,
    /// What the writer has seen now: its given context and this dot.
    pub context: Context,
    /// Who has it.
    pub acks: Acks,
    /// Whether they have it in memory and not yet on their disks.
    pub buffered: bool,
    /// Siblings at the coordinator after the write, tombstones included.
    pub siblings: u32,
    /// The node that coordinated.
    pub coordinator: NodeId,
    /// One line per step, if they were asked for.
    pub explain: Vec<String>,
}

/// Why a request was not answered as asked, and what it may have done.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The situation.
    pub reason: Reason,
    /// What became of the write; `NotApplied` for reads.
    pub outcome: Outcome,
    /// Nodes that answered as wanted.
    pub acks: Acks,
    /// Nodes that were needed.
    pub needed: u8,
    /// One line per step, if they were asked for.
    pub explain: Vec<String>,
}

impl Failure {
    /// A failure that left nothing behind.
    pub fn not_applied(reason: Reason) -> Failure {
        Failure {
            reason,
            outcome: Outcome::NotApplied,
            acks: Acks::default(),
            needed: 0,
            explain: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Unavailable if self.needed > 0 => {
                write!(f, "{} ({} of {} nodes answered)", self.reason, self.acks.total(), self.needed)
            }
            _ => write!(f, "{}", self.reason),
        }
    }
}

impl std::error::Error for Failure {}

/// The situation that a request met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too few nodes that can answer did so in time.
    Unavailable,
    /// No answering replica has seen what the client's session has seen.
    Stale,
    /// A queue or a count is full here; nothing was started.
    Overloaded,
    /// This node had just been frozen and refuses what waited in its sockets meanwhile.
    Frozen,
    /// The request's time had passed before work was started.
    TooLate,
    /// The key has as many siblings as its bucket allows; read it and write with that context.
    TooManySiblings(u32),
    /// The bucket wants a context with every put and delete.
    ContextRequired,
    /// The value is larger than its bucket allows.
    ValueTooLarge {
        /// Its bytes.
        bytes: u64,
        /// The most that the bucket allows.
        max: u64,
    },
    /// This node's disk failed.
    Disk(String),
    /// The request asks for what this cluster cannot give; the text says what.
    Invalid(String),
    /// The node is no home of the key, or is shutting down.
    Unsuitable,
    /// The key does not look as the conditional write expects.
    Unexpected,
    /// This node keeps as much for others as it may: the next fallback is to be asked.
    HintsFull,
    /// The state bears a write of an incarnation that has ended, or is about to, without it.
    Void,
    /// The only copy of the key cannot be read; a write replaces it.
    Damaged,
}

impl Reason {
    /// Whether the same request may succeed later or elsewhere.
    pub fn retryable(&self) -> bool {
        match self {
            Reason::Unavailable
            | Reason::Stale
            | Reason::Overloaded
            | Reason::Frozen
            | Reason::TooLate
            | Reason::Disk(_)
            | Reason::Unsuitable
            | Reason::HintsFull
            | Reason::Void => true,
            Reason::TooManySiblings(_)
            | Reason::ContextRequired
            | Reason::ValueTooLarge { .. }
            | Reason::Unexpected
            | Reason::Damaged
            | Reason::Invalid(_) => false,
        }
    }

    /// The word for it in metrics, logs and bodies.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Unavailable => "unavailable",
            Reason::Stale => "stale",
            Reason::Overloaded => "overloaded",
            Reason::Frozen => "frozen",
            Reason::TooLate => "too_late",
            Reason::TooManySiblings(_) => "too_many_siblings",
            Reason::ContextRequired => "context_required",
            Reason::ValueTooLarge { .. } => "value_too_large",
            Reason::Disk(_) => "disk",
            Reason::Invalid(_) => "invalid",
            Reason::Unsuitable => "unsuitable",
            Reason::Unexpected => "precondition_failed",
            Reason::HintsFull => "hints_full",
            Reason::Void => "void",
            Reason::Damaged => "damaged",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unavailable => {
                write!(f, "too few nodes answered in time: try again, or ask for fewer answers")
            }
            Reason::Stale => write!(f, "no answering replica has seen what this session has seen: try again"),
            Reason::Overloaded => {
                write!(f, "this node has as much work as it can hold: try again later or elsewhere")
            }
            Reason::Frozen => write!(f, "this node was frozen and refuses what waited meanwhile: try again"),
            Reason::TooLate => write!(f, "the request's time had passed before work was started: try again"),
            Reason::TooManySiblings(count) => write!(
                f,
                "the key has {count} siblings, as many as its bucket allows: read it, reconcile them, and write with that context"
            ),
            Reason::ContextRequired => {
                write!(
                    f,
                    "this bucket wants a context with every put and delete: read the key and send its Gramme-Context"
                )
            }
            Reason::ValueTooLarge { bytes, max } => {
                write!(
                    f,
                    "the value has {bytes} bytes, but its bucket allows {max}: see value_bytes_max of the bucket"
                )
            }
            Reason::Disk(cause) => write!(f, "this node's disk failed: {cause}"),
            Reason::Invalid(what) => write!(f, "{what}"),
            Reason::Unsuitable => write!(f, "this node cannot coordinate the request: try another"),
            Reason::Unexpected => {
                write!(f, "the key does not look as the condition expects: read it again and decide anew")
            }
            Reason::Damaged => write!(
                f,
                "a stored record cannot be read, and there is no other copy of it: write its key again without a condition, which replaces it (`gramme repair status` names such keys); a list goes again only once the store is replaced, see `gramme status`"
            ),
            Reason::HintsFull => write!(
                f,
                "this node's hint store is full: it keeps as much for other nodes as `storage.hints_mb` allows"
            ),
            Reason::Void => write!(
                f,
                "the key still shows a write that was never finished and that no other node has: try again, that node will give it up"
            ),
        }
    }
}
