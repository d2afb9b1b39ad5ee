//! What is stored under a key: its siblings and the clock that says what they have replaced. The heart
//! of Gramme; the laws are in `tests/`, the proof sketch in the reference named by each rule.
//!
//! Dotted version vector sets with interval clocks: every write has a dot of its own, a put drops exactly
//! the siblings that its context covers, and [`Record::join`] keeps a sibling if both sides have it or the
//! other side's clock does not cover its dot.
//!
//! Invariant: siblings ascend by dot, each dot at most once, and every sibling's dot lies inside the clock.
//!
//! A record refuses to be a delta: whole records travel, so that a state which holds a dot also holds that
//! dot's past.

use crate::clock::Clock;
use crate::context::Context;
use crate::hlc::Stamp;
use crate::id::{Dot, Incarnation, NodeId, RequestId};
use crate::limits::{SPENT_MAX, SPENT_MS_MAX};
use crate::planted::{self, Bug};
use crate::seen::Seen;
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Reverse;

/// What a write put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Value(Bytes),
    /// Nothing: a delete is a write with a dot of its own.
    Tombstone,
}

/// One version of a key: the outcome of one write that no later write has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write's name.
    pub dot: Dot,
    /// What it wrote.
    pub content: Content,
    /// When, in the coordinator's hybrid time: advice, never order.
    pub stamp: Stamp,
    /// The client's name for the write; its retries bear the same.
    pub request: RequestId,
    /// [`checksum`] of the content, made by the coordinator and checked by whoever reads or repairs.
    pub checksum: u64,
    /// The node that coordinated the write: for people, never for order.
    pub author: NodeId,
    /// Milliseconds after `stamp` at which a value reads as a tombstone; 0 is never.
    pub ttl_ms: u64,
    /// As the client gave it; empty if it gave none.
    pub content_type: Bytes,
    /// The client's metadata: names and values, in its order.
    pub meta: Vec<(Bytes, Bytes)>,
}

/// A write that was overwritten: kept for a while, so that a late retry of it is recognised and dropped instead
/// of coming back as a sibling (correctness.md 3.4 d).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The overwritten write.
    pub request: RequestId,
    /// Its content's checksum.
    pub checksum: u64,
    /// When it was overwritten: the stamp of the write that did it. What is older than [`SPENT_MS_MAX`] is
    /// forgotten. In a context, which has overwritten nothing yet, its own stamp.
    pub stamp: Stamp,
    /// Greater than that of every overwritten write which whoever overwrote this one remembered: what was overwritten
    /// last is known by it whatever clocks say. 0 in a context.
    pub turn: u64,
    /// Whether whoever overwrote it had been shown it. A write that overwrites what its coordinator finds has not,
    /// and may have been under way all the while.
    pub shown: bool,
}

/// The state of one key; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Everything that happened to this key and is in this state's past, its own siblings included.
    pub clock: Clock,
    siblings: Vec<Sibling>,
    spent: Vec<Spent>,
}

/// The checksum that a content bears from its coordinator to every reader.
pub fn checksum(content: &Content) -> u64 {
    match content {
        Content::Value(value) => xxhash_rust::xxh3::xxh3_64(value),
        Content::Tombstone => 0,
    }
}

impl Sibling {
    /// The value, if it is one and has not expired.
    pub fn live_value(&self, now_ms: u64) -> Option<&Bytes> {
        match &self.content {
            Content::Value(value) if !self.expired(now_ms) => Some(value),
            _ => None,
        }
    }

    /// When it expires, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<u64> {
        (self.ttl_ms > 0).then(|| self.stamp.ms().saturating_add(self.ttl_ms))
    }

    /// Whether it has expired: a function of the stored stamp alone, so the same on every replica.
    pub fn expired(&self, now_ms: u64) -> bool {
        self.expires_ms().is_some_and(|at| at <= now_ms)
    }

    /// How a record remembers this write once it is overwritten.
    pub fn spent(&self) -> Spent {
        let Sibling { request, checksum, stamp, .. } = *self;
        Spent { request, checksum, stamp, turn: 0, shown: true }
    }

    /// Whether it is an attempt of this write.
    fn is_of(&self, request: RequestId, checksum: u64) -> bool {
        self.request == request && self.checksum == checksum
    }

    /// Whether the content is what its coordinator wrote.
    pub fn verifies(&self) -> bool {
        checksum(&self.content) == self.checksum
    }
}

impl Record {
    /// A key that nobody has written.
    pub const fn new() -> Record {
        Record { clock: Clock::new(), siblings: Vec::new(), spent: Vec::new() }
    }

    /// A record from parts that came from a disk or a peer; `None` if they break the invariant.
    pub fn from_parts(clock: Clock, siblings: Vec<Sibling>, mut spent: Vec<Spent>) -> Option<Record> {
        bound_spent(&mut spent);
        let ascending = siblings.windows(2).all(|pair| pair[0].dot < pair[1].dot);
        let inside = siblings.iter().all(|s| clock.covers(s.dot));
        (ascending && inside).then_some(Record { clock, siblings, spent })
    }

    /// In ascending order of dot.
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Overwritten writes that are still remembered.
    pub fn spent(&self) -> &[Spent] {
        &self.spent
    }

    /// Whether it says anything at all.
    pub fn is_empty(&self) -> bool {
        self.siblings.is_empty() && self.clock.is_empty()
    }

    /// The sibling of this dot.
    pub fn sibling(&self, dot: Dot) -> Option<&Sibling> {
        self.siblings.binary_search_by_key(&dot, |s| s.dot).ok().map(|at| &self.siblings[at])
    }

    /// The sibling that this client write left, if it is still there.
    pub fn sibling_of(&self, request: RequestId) -> Option<&Sibling> {
        self.siblings.iter().rev().find(|s| s.request == request)
    }

    /// Bytes of all siblings' contents and metadata.
    pub fn content_bytes(&self) -> usize {
        let of = |s: &Sibling| {
            let value = match &s.content {
                Content::Value(value) => value.len(),
                Content::Tombstone => 0,
            };
            value + s.meta.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        self.siblings.iter().map(of).sum()
    }

    /// The state after a write at its coordinator: exactly the siblings that the context covers are gone,
    /// the new one is there. `sibling.dot` must be fresh: the next of the coordinator's own counter; a dot
    /// that a sibling bears already stops the process, since two writes of one name would lose one of them.
    ///
    /// (correctness.md 1.3; the paper, 4.4.)
    pub fn put(&self, context: &Context, sibling: Sibling) -> Record {
        self.put_by(context, sibling, true)
    }

    /// The same for a write whose client was shown nothing, and which overwrites what its coordinator has found.
    pub fn put_over_found(&self, found: &Context, sibling: Sibling) -> Record {
        self.put_by(found, sibling, false)
    }

    fn put_by(&self, context: &Context, sibling: Sibling, shown: bool) -> Record {
        let Dot { incarnation, n } = sibling.dot;
        let (dropped, mut siblings): (Vec<Sibling>, Vec<Sibling>) = self
            .siblings
            .iter()
            .cloned()
            .partition(|s| context.clock.covers(s.dot) || planted::on(Bug::PutDropsAll));
        let mut clock = self.clock.clone();
        clock.join(&context.clock);
        let lo = match self.clock.last_of(incarnation) {
            Some(own) => own.hi,
            None if planted::on(Bug::LowZero) => 0,
            None => n.saturating_sub(1),
        };
        clock.add(incarnation, lo, n);
        // A write does not overwrite itself, even if a client gives two writes one name.
        let overwritten = dropped.iter().map(Sibling::spent).chain(context.requests.iter().copied());
        let others = overwritten.filter(|s| (s.request, s.checksum) != (sibling.request, sibling.checksum));
        let mut spent = self.spent.clone();
        let turn = 1 + spent.iter().map(|s| s.turn).max().unwrap_or(0).min(u64::MAX - 1);
        spent.extend(others.map(|s| Spent { stamp: sibling.stamp, turn, shown, ..s }));
        spent.retain(|s| sibling.stamp.ms().saturating_sub(s.stamp.ms()) <= SPENT_MS_MAX);
        let at = siblings.partition_point(|s| s.dot < sibling.dot);
        siblings.insert(at, sibling);
        let mut record = Record { clock, siblings, spent };
        bound_spent(&mut record.spent);
        record.assert_invariant();
        record
    }

    /// What two replicas know together: commutative, associative, idempotent (U1).
    pub fn join(&self, other: &Record) -> Record {
        if planted::on(Bug::OverwriteOnMerge) {
            return other.clone();
        }
        let mut siblings = Vec::with_capacity(self.siblings.len().max(other.siblings.len()));
        let kept_by = |s: &Sibling, elsewhere: &Record| {
            elsewhere.sibling(s.dot).is_some() || !elsewhere.clock.covers(s.dot)
        };
        siblings.extend(self.siblings.iter().filter(|s| kept_by(s, other)).cloned());
        siblings.extend(other.siblings.iter().filter(|s| !self.clock.covers(s.dot)).cloned());
        siblings.sort_unstable_by_key(|s| s.dot);
        let mut clock = self.clock.clone();
        clock.join(&other.clock);
        let mut spent = self.spent.clone();
        spent.extend_from_slice(&other.spent);
        bound_spent(&mut spent);
        let record = Record { clock, siblings, spent };
        record.assert_invariant();
        record
    }

    /// Leaves one sibling of each client write: of siblings with the same request and content the greatest
    /// dot stays, and one whose write was overwritten goes. The clock keeps all dots. Convergent, but no part of
    /// [`Record::join`]: it adds facts that the two sides need not share (U9).
    ///
    /// A write that overwrites what its coordinator finds may come late itself, as a twin of one that somebody who saw
    /// it has overwritten; and two of them, each tried at two coordinators, may each have overwritten the other. What
    /// they found must not vanish together with them. So
    /// * one that was overwritten by a write which had only found it goes beside that very write, if nobody has
    ///   overwritten that, and stays otherwise;
    /// * one that overwrote what it had only found stays for as long as no sibling of that write is here.
    ///
    /// Circles of writes whose clients had been shown what they overwrote there are none: each was begun after the one
    /// that it was shown.
    ///
    /// `true` if one went. A replica that keeps the outcome gives that a dot of its own
    /// ([`Record::with_event`]): another one, which remembers less, would keep the twin for ever.
    pub fn collapse_retries(&mut self) -> bool {
        if self.siblings.len() < 2 || planted::on(Bug::RetryForgotten) {
            return false;
        }
        let greatest = self.siblings.iter().enumerate().filter(|&(at, s)| {
            !self.siblings[at + 1..].iter().any(|later| later.is_of(s.request, s.checksum))
        });
        let with_fate =
            greatest.map(|(_, s)| (s, self.spent.iter().find(|p| s.is_of(p.request, p.checksum))));
        let all: Vec<(&Sibling, Option<&Spent>)> = with_fate.collect();
        let is_there = |stamp| all.iter().any(|(s, fate)| fate.is_none() && s.stamp == stamp);
        let replaced = |s: &Sibling| {
            let is_gone = |p: &Spent| !all.iter().any(|(other, _)| other.is_of(p.request, p.checksum));
            self.spent.iter().any(|p| !p.shown && p.stamp == s.stamp && is_gone(p))
        };
        let stays = |s: &Sibling, fate: Option<&Spent>| {
            fate.is_none_or(|by| !by.shown && !is_there(by.stamp)) || replaced(s)
        };
        let mut kept: Vec<Dot> = all.iter().filter(|(s, fate)| stays(s, *fate)).map(|(s, _)| s.dot).collect();
        if kept.is_empty() {
            let last = all.iter().max_by_key(|(s, fate)| (fate.map(|by| by.stamp), s.stamp, s.dot));
            kept.extend(last.map(|(s, _)| s.dot));
        }
        let before = self.siblings.len();
        self.siblings.retain(|s| kept.contains(&s.dot));
        self.siblings.len() < before
    }

    /// The same record with an event in its past that left nothing behind, so that pull sessions and frontiers
    /// follow what happened to it as they follow writes.
    #[must_use]
    pub fn with_event(mut self, dot: Dot) -> Record {
        self.clock.add_dot(dot);
        self
    }

    /// Whether a replica in this state would learn anything from `other`: whether joining it changes this.
    pub fn lacks(&self, other: &Record) -> bool {
        !self.clock.contains(&other.clock)
            || self.siblings.iter().any(|s| other.sibling(s.dot).is_none() && other.clock.covers(s.dot))
            || (self.spent != other.spent && {
                let mut both = [&self.spent[..], &other.spent[..]].concat();
                bound_spent(&mut both);
                both != self.spent
            })
    }

    /// Whether this tells a replica anything that has seen no more than that: it shows a sibling that is not seen, or
    /// names an event that is not. Siblings alone would not do. Whoever overwrites what it has not merged, by a
    /// context, never learns which write that was, and keeps a twin that a retry has left of it; every run of a
    /// clock ends with an event of this key, and what an earlier one of the same incarnation knew, its last one knows.
    pub fn is_news_to(&self, seen: &Seen) -> bool {
        let mut last = self.clock.intervals().iter().map(|run| Dot::new(run.incarnation, run.hi));
        last.any(|dot| !seen.has(dot)) || self.siblings.iter().any(|s| !seen.has(s.dot))
    }

    /// The tripwire: whether `other`, from a peer, shows more events of `live`, my live incarnation, than
    /// this, my own record of the key. Only I mint them and I keep what I minted, so I have forgotten
    /// something: a new incarnation must come before my next put (design section 3).
    pub fn remembers_less_than(&self, other: &Record, live: Incarnation) -> bool {
        self.clock.shows_less_of(live, &other.clock)
    }

    /// What a tombstone must cover to take the place of the values that have expired by now, exactly those, and the
    /// stamp that it must bear: the last of theirs. So it stands where they stood in every last-writer choice, and
    /// no reader is shown anything else than before. `None` if nothing has expired.
    pub fn expired(&self, now_ms: u64) -> Option<(Context, Stamp)> {
        let is_value = |s: &&Sibling| matches!(s.content, Content::Value(_));
        let expired: Vec<&Sibling> =
            self.siblings.iter().filter(is_value).filter(|s| s.expired(now_ms)).collect();
        let stamp = expired.iter().map(|s| s.stamp).max()?;
        let mut context = Context::blind();
        expired.iter().for_each(|s| context.clock.add_dot(s.dot));
        context.requests = expired.iter().map(|s| s.spent()).collect();
        bound_spent(&mut context.requests);
        Some((context, stamp))
    }

    /// When the first of its values expires, in milliseconds since 1970, if any does.
    pub fn expires_ms(&self) -> Option<u64> {
        let is_value = |s: &&Sibling| matches!(s.content, Content::Value(_));
        self.siblings.iter().filter(is_value).filter_map(Sibling::expires_ms).min()
    }

    /// Takes from `other`, every value of which was checked, the siblings that it has whole and that here fail their
    /// checksums; says whether there were any. Two writes never share a dot, so the one that verifies is the write.
    pub fn heal(&mut self, other: &Record) -> bool {
        let mut healed = false;
        for mine in &mut self.siblings {
            let Some(theirs) = other.sibling(mine.dot) else { continue };
            if !mine.verifies() && theirs.verifies() {
                *mine = theirs.clone();
                healed = true;
            }
        }
        healed
    }

    /// Siblings that read as values at this time. A value beside a concurrent tombstone is a value.
    pub fn values(&self, now_ms: u64) -> impl Iterator<Item = &Sibling> {
        self.siblings.iter().filter(move |s| s.live_value(now_ms).is_some())
    }

    /// The last-writer choice among true siblings: the greatest (stamp, dot), tombstones included
    /// (correctness.md 3.5). `None` if there are no siblings.
    pub fn last_written(&self) -> Option<&Sibling> {
        self.siblings.iter().max_by_key(|s| (s.stamp, s.dot))
    }

    /// The writes that a reader of this state is shown, as far as a context has room: the newest.
    pub fn requests_seen(&self) -> Vec<Spent> {
        let mut seen: Vec<Spent> = self.siblings.iter().map(Sibling::spent).collect();
        bound_spent(&mut seen);
        seen
    }

    /// A tag that changes when the siblings do, and only then: the hash of their dots.
    pub fn tag(&self) -> u64 {
        tag_of(self.siblings.iter().map(|s| s.dot))
    }

    /// The same record without these siblings, and without the claim to have seen them.
    pub fn without(&self, dots: &[Dot]) -> Record {
        let mut rest = self.clone();
        rest.siblings.retain(|s| !dots.contains(&s.dot));
        if !planted::on(Bug::StaleDotsKept) {
            dots.iter().for_each(|&dot| rest.clock.subtract(dot));
        }
        rest.assert_invariant();
        rest
    }

    /// The same siblings and nothing of their past but themselves. Only for a record whose whole past every
    /// home has seen; see [`crate::reclaim::strip`].
    pub(crate) fn with_bare_clock(&self) -> Record {
        let mut bare = self.clone();
        bare.clock = Clock::new();
        self.siblings.iter().for_each(|s| bare.clock.add_dot(s.dot));
        bare
    }

    /// The same record with every value emptied: enough to decide what is live, small enough to list.
    /// Never to be stored: its checksums no longer verify.
    pub fn without_values(&self) -> Record {
        let mut bare = self.clone();
        for s in &mut bare.siblings {
            if let Content::Value(value) = &mut s.content {
                *value = Bytes::new();
            }
        }
        bare
    }

    fn assert_invariant(&self) {
        assert!(
            self.siblings.iter().all(|s| self.clock.covers(s.dot)),
            "every sibling's dot must lie inside its record's clock"
        );
        assert!(
            self.siblings.windows(2).all(|pair| pair[0].dot < pair[1].dot),
            "no two siblings bear one dot: a coordinator's counter went back"
        );
    }
}

/// The tag of a record whose siblings bear these dots, in ascending order; see [`Record::tag`].
pub fn tag_of(dots: impl IntoIterator<Item = Dot>) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for dot in dots {
        hash.update(&dot.incarnation.0.to_be_bytes());
        hash.update(&dot.n.to_be_bytes());
    }
    hash.digest()
}

/// Of each write the latest mention, by someone who had been shown it if there is one; of those the newest few by
/// stamp, and the newest few by turn: whoever's clock is behind would have its own forgotten at once. Newest first. Every
/// mention of a write must meet before any is cut off: only then is the top of a union the same however the union
/// was built. For the same reason one that stays for its stamp alone bears no turn: a greater one may have been cut off
/// elsewhere.
fn bound_spent(spent: &mut Vec<Spent>) {
    spent.sort_unstable_by_key(|s| (s.request, s.checksum, Reverse((s.shown, s.stamp))));
    spent.dedup_by(|again, kept| {
        let is_same = (again.request, again.checksum) == (kept.request, kept.checksum);
        kept.turn = if is_same { kept.turn.max(again.turn) } else { kept.turn };
        is_same
    });
    spent.sort_unstable_by_key(|s| (Reverse(s.stamp), Reverse(s.request), s.checksum));
    if spent.len() > SPENT_MAX {
        let mut by_turn = spent.clone();
        by_turn.sort_by_key(|s| Reverse(s.turn));
        by_turn.truncate(SPENT_MAX);
        let mut at = 0;
        spent.retain_mut(|s| {
            at += 1;
            let is_by_turn = by_turn.contains(s);
            s.turn = if is_by_turn { s.turn } else { 0 };
            at <= SPENT_MAX || is_by_turn
        });
    }
}
