//! The checkers, one rule per file. Each reads the evidence and nothing else (correctness.md section 10); none
//! knows whether it comes from simulated nodes or from real processes.

pub mod convergence;
pub mod coverage;
pub mod expiry;
pub mod frozen;
pub mod lists;
pub mod no_loss;
pub mod phantom;
pub mod resurrection;
pub mod ring;
pub mod sessions;
pub mod siblings;
pub mod strict;
pub mod told;

use crate::evidence::{Evidence, Violation};
use crate::history::{History, PutOp};
use gramme_core::{Content, Dot, Key, Outcome, Record, RequestId, Sibling};
use std::collections::{BTreeMap, BTreeSet};

/// Every violation of every rule.
pub fn all(evidence: &Evidence) -> Vec<Violation> {
    let checks: [fn(&Evidence) -> Vec<Violation>; 13] = [
        ring::check,
        no_loss::check,
        coverage::check,
        resurrection::check,
        sessions::check,
        strict::check,
        convergence::check,
        siblings::check,
        phantom::check,
        frozen::check,
        lists::check,
        expiry::check,
        told::check,
    ];
    let violations = checks.into_iter().flat_map(|check| check(evidence));
    violations
        .filter(|violation| !evidence.claims.silent_loss || HOLDS_ALWAYS.contains(&violation.rule))
        .collect()
}

/// What is held even where a disk has lost a row without a trace (correctness.md section 0: one copy of it).
const HOLDS_ALWAYS: [&str; 6] =
    [no_loss::RULE, convergence::RULE, phantom::RULE, frozen::RULE, lists::RULE, ring::RULE];

/// The names of the rules.
pub const RULES: [&str; 13] = [
    no_loss::RULE,
    coverage::RULE,
    resurrection::RULE,
    sessions::RULE,
    strict::RULE,
    convergence::RULE,
    siblings::RULE,
    phantom::RULE,
    frozen::RULE,
    lists::RULE,
    expiry::RULE,
    told::RULE,
    ring::RULE,
];

/// What is known of the writes of each key.
struct Writes<'a> {
    of_key: BTreeMap<&'a Key, Vec<&'a PutOp>>,
    dots: BTreeMap<RequestId, BTreeSet<Dot>>,
    /// Of tombstones that no client wrote and somebody was shown.
    burials: BTreeMap<Key, BTreeSet<Dot>>,
    buries: bool,
}

impl<'a> Writes<'a> {
    fn of(evidence: &'a Evidence) -> Writes<'a> {
        let mut of_key: BTreeMap<&Key, Vec<&PutOp>> = BTreeMap::new();
        let History { puts, .. } = &evidence.history;
        for op in puts.iter().filter(|op| op.may_exist()) {
            of_key.entry(&op.key).or_default().push(op);
        }
        let buries = evidence.claims.buries;
        let mut writes = Writes { of_key, dots: evidence.dots(), burials: BTreeMap::new(), buries };
        for (_, key, record) in evidence.observations() {
            let burials = record.siblings().iter().filter(|sibling| writes.is_burial(key, sibling));
            let burials: Vec<Dot> = burials.map(|sibling| sibling.dot).collect();
            if !burials.is_empty() {
                writes.burials.entry(key.clone()).or_default().extend(burials);
            }
        }
        writes
    }

    /// Writes of a key that may exist, in the order in which they were begun.
    fn of_key(&self, key: &Key) -> &[&'a PutOp] {
        self.of_key.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// The dots under which a write is known: none if nobody was ever shown it, several if it was retried.
    fn dots(&self, request: RequestId) -> &BTreeSet<Dot> {
        self.dots.get(&request).unwrap_or(&NONE)
    }

    /// Whether `by` may have replaced `op`: its client had been shown one of its dots; or it overwrites what its
    /// coordinator sees, and an attempt at it was still under way when `op` began. Attempts whose client has
    /// gone on to another node count: a write that overwrites what it finds and is tried twice may do so twice.
    fn may_replace(&self, by: &PutOp, op: &PutOp) -> bool {
        let knew = |dots: &BTreeSet<Dot>| dots.iter().any(|&dot| by.shown.covers(dot));
        let shown = by.sent.is_some() && (knew(self.dots(op.request)) || knew(self.burials_of(op)));
        by.request != op.request && (shown || (by.supersedes && by.is_under_way(op.invoked)))
    }

    /// The burials that may be of an attempt at a write: one that was buried before anybody was shown it has a dot
    /// that nobody knows, and whoever was shown its burial has replaced the write.
    fn burials_of(&self, op: &PutOp) -> &BTreeSet<Dot> {
        let is_one = self.may_be_buried(op) && self.dots(op.request).len() < op.attempts.len();
        self.burials.get(&op.key).filter(|_| is_one).unwrap_or(&NONE)
    }

    /// Whether a tombstone that no client wrote may have taken the place of a write.
    fn may_be_buried(&self, op: &PutOp) -> bool {
        self.buries && op.is_mortal()
    }

    /// Whether a tombstone bears the name of no client's write.
    fn is_burial(&self, key: &Key, sibling: &Sibling) -> bool {
        let is_known = self.of_key(key).iter().any(|op| op.request == sibling.request);
        self.buries && sibling.content == Content::Tombstone && !is_known
    }

    /// Whether a state that shows `record` can be one that has merged the write: it shows it or remembers it,
    /// or, where clocks may be gone because everyone has seen what they say, somebody may have replaced it.
    fn may_know(&self, record: &Record, op: &PutOp, reclaims: bool) -> bool {
        let known = record.sibling_of(op.request).is_some()
            || self.dots(op.request).iter().any(|&dot| record.clock.covers(dot));
        let replaced = || self.of_key(&op.key).iter().any(|by| self.may_replace(by, op));
        known || (reclaims && (op.is_delete() || self.may_be_buried(op) || replaced()))
    }
}

/// What an acknowledged write replaced for good, as its client was told.
fn replaced_by(op: &PutOp, dot: Dot) -> bool {
    let told = op.done.as_ref().filter(|_| op.supersedes);
    let of_answer = told.is_some_and(|done| done.clock.covers(dot) && dot != done.dot);
    op.outcome == Outcome::Applied && (of_answer || op.sent.as_ref().is_some_and(|sent| sent.covers(dot)))
}

static NONE: BTreeSet<Dot> = BTreeSet::new();
