//! What a client wants written, and what becomes of it, as nodes pass it on.

use bytes::Bytes;
use gramme_core::bucket::Level;
use gramme_core::record::Content;
use gramme_core::{Context, Dot, Key, NodeId, Outcome, RequestId};
use std::fmt;

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
    /// A client's write, by layouts that its replica no longer goes by: not taken there. Whoever coordinates it learns the
    /// new layout and asks again.
    StaleLayout,
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
            | Reason::Void
            | Reason::StaleLayout => true,
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
            Reason::StaleLayout => "stale_layout",
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
            Reason::Unsuitable => write!(
                f,
                "this node serves nobody now, since it is no member of the cluster or is stopping: ask another"
            ),
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
            Reason::StaleLayout => {
                write!(f, "this node does not yet know the cluster's newest layout: try again")
            }
            Reason::Void => write!(
                f,
                "the key still shows a write that was never finished and that no other node has: try again, that node will give it up"
            ),
        }
    }
}
