//! The checkers of `gramme-check`, which judge real processes by what clients were told and nothing else, judge
//! simulated ones too. What they cannot know is taken away first: dots become the names of the writes that they
//! were shown as.
//!
//! Keys with a time to live and buckets in which the last writer wins are left to the other rules: what they show
//! depends on clocks. So are keys of which a buffered write is gone. Of a key with more overwrites than a record remembers
//! a late ghost is no fault (`docs/decisions.md`).

use crate::check::Writes;
use crate::evidence::{Evidence, Violation};
use crate::history::PutOp;
use gramme_check::{Effect, History, Key as Number, Kind, Left, Name, Promise, Write, judge};
use gramme_core::limits::SPENT_MAX;
use gramme_core::record::Content;
use gramme_core::{Key, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub const RULE: &str = "told";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let writes = Writes::of(evidence);
    let names: BTreeMap<RequestId, Name> =
        evidence.history.puts.iter().map(|op| op.request).zip(1..).collect();
    let overwritten: BTreeSet<&Key> = evidence
        .history
        .puts
        .iter()
        .filter(|op| op.supersedes && !op.is_delete())
        .map(|op| &op.key)
        .collect();
    // A buffered write that every memory lost may have taken with it what it had replaced.
    let is_lost = |op: &&PutOp| evidence.lost_in_memory.contains(&op.request);
    let forgotten: BTreeSet<&Key> = evidence.history.puts.iter().filter(is_lost).map(|op| &op.key).collect();
    let plain = |key: &&&Key| {
        !evidence.mortal.contains(**key) && !overwritten.contains(**key) && !forgotten.contains(**key)
    };
    let keys: Vec<&Key> = writes.of_key.keys().filter(plain).copied().collect();
    let mut history = History::default();
    for (number, key) in (0..).zip(&keys) {
        let ops = writes.of_key(key);
        history.writes.extend(ops.iter().map(|op| told(op, number, ops, &writes, &names)));
        history.left.insert(number, left(evidence, key, &names));
    }
    // With a tombstone goes what its record remembered of overwritten writes: the late twin of one is then a false
    // sibling (correctness.md 3.4).
    let deletes = evidence.history.puts.iter().filter(|op| evidence.claims.reclaims && op.is_delete());
    let mut forgetful: BTreeSet<&Key> = deletes.map(|op| &op.key).collect();
    forgetful.extend(keys.iter().copied().filter(|key| is_beyond_memory(writes.of_key(key), &writes)));
    let is_excused = |violation: &gramme_check::Violation| {
        let key = keys.get(violation.key as usize);
        violation.promise == Promise::LateGhost && key.is_some_and(|key| forgetful.contains(key))
    };
    let violations = judge(&history, 0).into_iter().filter(|violation| !is_excused(violation));
    violations
        .filter(|violation| evidence.claims.converged || violation.promise != Promise::Resurrected)
        .map(|violation| {
            let key = keys.get(violation.key as usize);
            Violation::new(RULE, format!("{:?}: {}: {}", key, violation.promise.as_str(), violation.what))
        })
        .collect()
}

/// Whether a write of a key was tried twice, and so many began after it that a record may have forgotten it before
/// its other attempt arrives: what a hint store holds of it comes whenever that is handed over.
fn is_beyond_memory(of_key: &[&PutOp], writes: &Writes<'_>) -> bool {
    let later = |op: &PutOp| of_key.iter().filter(|by| by.invoked > op.invoked).count();
    of_key.iter().any(|op| was_tried_twice(op, writes) && later(op) > SPENT_MAX)
}

/// Whether a write may have been made twice: by a client that tried again, or by a node that handed it to a home and,
/// when that said nothing, took it itself.
fn was_tried_twice(op: &PutOp, writes: &Writes<'_>) -> bool {
    op.attempts.len() > 1 || writes.dots(op.request).len() > 1
}

fn told(
    op: &PutOp,
    key: Number,
    of_key: &[&PutOp],
    writes: &Writes<'_>,
    names: &BTreeMap<RequestId, Name>,
) -> Write {
    let name = |op: &PutOp| names.get(&op.request).copied().unwrap_or_default();
    let was_shown = |other: &&&PutOp| {
        op.request != other.request && writes.dots(other.request).iter().any(|&dot| op.shown.covers(dot))
    };
    let effect = match &op.sent {
        Some(_) => Effect::Replaces(of_key.iter().filter(was_shown).map(|other| name(other)).collect()),
        None if op.supersedes => Effect::Supersedes,
        None => Effect::Replaces(Vec::new()),
    };
    // An attempt whose client has gone on may take effect until its node is done with it.
    let ended = op.attempts.iter().map(|attempt| attempt.ended.unwrap_or(u64::MAX)).max().unwrap_or(0);
    Write {
        name: name(op),
        client: op.client as u32,
        key,
        kind: Kind::Siblings,
        deletes: op.is_delete(),
        effect,
        adds: None,
        invoked: op.invoked / 1000,
        returned: op.returned.unwrap_or(u64::MAX).max(ended).div_ceil(1000),
        outcome: op.outcome,
        left_behind: was_tried_twice(op, writes),
    }
}

fn left(evidence: &Evidence, key: &Key, names: &BTreeMap<RequestId, Name>) -> Left {
    // Twins that lie at different places, with a hint store that counts as one, say: every reader joins what they
    // hold and leaves one of them, and so must what stands for the last read of all.
    let mut left = evidence.left_of(key);
    left.collapse_retries();
    let live = left.siblings().iter().filter(|sibling| matches!(sibling.content, Content::Value(_)));
    // A write that nobody made has no name; no key does either.
    let shown = live.map(|sibling| names.get(&sibling.request).copied().unwrap_or_default()).collect();
    Left { shown, entries: BTreeMap::new() }
}
