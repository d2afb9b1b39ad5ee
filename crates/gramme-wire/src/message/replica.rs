//! What replicas say of themselves to each other: lives, digests, pages, roots.

use bytes::Bytes;
use gramme_core::{Frontier, Key, PartitionId, Seen};

/// What a replica's silence about a key proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has kept everything it ever acknowledged: "I have nothing" is an answer.
    Continuous,
    /// Its store was lost, replaced or never proved whole: what it holds is merged, what it lacks proves
    /// nothing. Fallbacks are always of this kind.
    Unproven,
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

/// Which store of a partition a pull session reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PullOf {
    /// A home's.
    Home,
    /// A fallback's hints.
    Hints,
    /// What a home kept when it became none: an untrusted word, as hints are.
    Left,
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
