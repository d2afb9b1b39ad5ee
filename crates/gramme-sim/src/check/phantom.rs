//! K6: nothing is shown that nobody wrote, no value is altered, and a write that was refused never appears.
//!
//! Where expired values are buried there are tombstones that no client wrote. Each bears the stamp of a value of its
//! key that had a time to live, and lies in a state that has seen that value.

use crate::evidence::{Evidence, Violation};
use crate::history::PutOp;
use gramme_core::record::Content;
use gramme_core::{Dot, Key, Record, RequestId, Sibling, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub const RULE: &str = "phantom";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let known: BTreeMap<RequestId, &PutOp> =
        evidence.history.puts.iter().map(|op| (op.request, op)).collect();
    let known = Known { known, burials: Burials::of(evidence) };
    let mut violations = Vec::new();
    for (place, key, record) in evidence.observations() {
        violations.extend(judge(&known, &place, key, record, true));
    }
    for list in &evidence.history.lists {
        for (key, record) in list.entries.iter().flatten() {
            if let Ok(key) = Key::new(&list.bucket, key) {
                let place = format!("a list at {} ms", list.returned / 1_000_000);
                violations.extend(judge(&known, &place, &key, record, list.values));
            }
        }
    }
    violations
}

struct Known<'a> {
    known: BTreeMap<RequestId, &'a PutOp>,
    burials: Burials<'a>,
}

/// What a burial can be of: values with a time to live, by key, and the stamps under which each was ever shown.
struct Burials<'a> {
    evidence: &'a Evidence,
    mortal: BTreeMap<&'a Key, Vec<&'a PutOp>>,
    stamps: BTreeMap<RequestId, BTreeSet<Stamp>>,
    dots: BTreeMap<RequestId, BTreeSet<Dot>>,
}

impl<'a> Burials<'a> {
    fn of(evidence: &'a Evidence) -> Burials<'a> {
        let mut it =
            Burials { evidence, mortal: BTreeMap::new(), stamps: BTreeMap::new(), dots: BTreeMap::new() };
        if !evidence.claims.buries {
            return it;
        }
        for op in evidence.history.puts.iter().filter(|op| op.is_mortal() && op.may_exist()) {
            it.mortal.entry(&op.key).or_default().push(op);
        }
        for (_, _, record) in evidence.observations() {
            for sibling in record.siblings() {
                it.stamps.entry(sibling.request).or_default().insert(sibling.stamp);
            }
        }
        it.dots = evidence.dots();
        it
    }

    fn is_one(&self, key: &Key, record: &Record, sibling: &Sibling) -> bool {
        let of_this = |op: &&PutOp| {
            // Of a write that was tried twice one attempt may be buried before anybody is shown it.
            let shown = self.stamps.get(&op.request).filter(|_| op.attempts.len() == 1);
            let stamped = shown.is_none_or(|stamps| stamps.contains(&sibling.stamp));
            // The dot of an attempt that was buried so is known to nobody.
            let dots = self.dots.get(&op.request);
            let is_past = |dots: &BTreeSet<Dot>| dots.iter().any(|&dot| record.clock.covers(dot));
            let seen = dots.is_none_or(|dots| dots.len() < op.attempts.len() || is_past(dots));
            stamped && (seen || self.evidence.claims.reclaims)
        };
        sibling.content == Content::Tombstone
            && self.mortal.get(key).is_some_and(|ops| ops.iter().any(of_this))
    }
}

fn judge(known: &Known<'_>, place: &str, key: &Key, record: &Record, with_values: bool) -> Option<Violation> {
    for sibling in record.siblings() {
        let wrong = match known.known.get(&sibling.request) {
            None if known.burials.is_one(key, record, sibling) => None,
            None => Some("a write that nobody made".to_string()),
            Some(op) if op.key != *key => Some(format!("{}, which is of another key", op.name())),
            Some(op) if !op.may_exist() => Some(format!("{}, which was refused", op.name())),
            Some(op) if with_values && (op.content != sibling.content || !sibling.verifies()) => {
                Some(format!("{} with another content", op.name()))
            }
            Some(op)
                if matches!(op.content, Content::Tombstone)
                    != matches!(sibling.content, Content::Tombstone) =>
            {
                Some(format!("{} as another kind", op.name()))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let text = format!("{place} shows at {key:?} {wrong}: {}", sibling.dot);
            return Some(Violation::new(RULE, text));
        }
    }
    None
}
