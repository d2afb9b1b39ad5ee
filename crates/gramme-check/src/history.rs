//! The history of a run: writes, reads, and what is left.

use gramme_core::Outcome;
use std::collections::BTreeMap;

/// The name of one write: distinct within a history, and readable from the value that it wrote.
pub type Name = u64;

/// A key, as a number that the maker of the history gives it.
pub type Key = u32;

/// The history of a run. Times are microseconds since any moment, of one clock.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Puts and deletes, in any order.
    pub writes: Vec<Write>,
    /// Reads that were answered, in any order.
    pub reads: Vec<Read>,
    /// What each key shows after all faults were healed and every home was read.
    pub left: BTreeMap<Key, Left>,
}

/// What a key is used for: which rules hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Concurrent values are kept side by side.
    Siblings,
    /// As `Siblings`; each value is a map that holds all that its writer was shown and one entry more, and nobody
    /// deletes: the joined map may only grow.
    Growing,
    /// The last writer wins.
    Last,
}

/// What a write does with what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Replaces these, which its client was shown, and no others.
    Replaces(Vec<Name>),
    /// Replaces whatever its coordinator sees: a delete without a context, or a put without one where the last
    /// writer wins.
    Supersedes,
}

/// One client's write, with all its attempts.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its name.
    pub name: Name,
    /// Who wrote.
    pub client: u32,
    /// Where.
    pub key: Key,
    /// How the key is used.
    pub kind: Kind,
    /// Whether it deletes.
    pub deletes: bool,
    /// What it does with what is there.
    pub effect: Effect,
    /// The entry that it adds to a growing map.
    pub adds: Option<(u64, u64)>,
    /// When it was begun.
    pub invoked: u64,
    /// When its client was told, or gave up.
    pub returned: u64,
    /// What its client knows.
    pub outcome: Outcome,
    /// Whether an attempt was left behind unanswered: it may have waited in the sockets of a frozen node.
    pub left_behind: bool,
}

/// One read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who read.
    pub client: u32,
    /// Where.
    pub key: Key,
    /// When it was begun.
    pub invoked: u64,
    /// When it ended.
    pub returned: u64,
    /// Writes whose effect the answer must have seen: those that the reader's token had.
    pub after: Vec<Name>,
    /// The writes whose values it was shown.
    pub shown: Vec<Name>,
}

/// What a key shows in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The writes whose values are there, once for each time that they are.
    pub shown: Vec<Name>,
    /// All entries of those values joined, the greater number of two.
    pub entries: BTreeMap<u64, u64>,
}

impl Write {
    /// Whether something of it may exist.
    pub fn may_exist(&self) -> bool {
        self.outcome != Outcome::NotApplied
    }

    /// Whether it was acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.outcome == Outcome::Applied
    }

    /// Whether its client had been shown the other and replaces it.
    pub fn replaces(&self, other: Name) -> bool {
        matches!(&self.effect, Effect::Replaces(names) if names.contains(&other))
    }
}
