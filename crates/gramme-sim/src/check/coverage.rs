//! K2: a write drops what its context covers, for ever and everywhere: no state whose past holds the write
//! shows anything that the write had replaced. And it covers no more: the context in the answer of a put is the
//! given one plus exactly the put's own dot; that of a read is the clock of what was shown.
//!
//! Where clocks may be stripped, only what homes have a part in is judged: a context that is handed out no longer
//! names what everyone has seen, and a hint store that still shows some of it learns only from a home that it goes.

use crate::evidence::{Evidence, Violation, describe};
use crate::history::PutOp;
use gramme_core::{Clock, Dot, Key, Record, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub const RULE: &str = "coverage";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let dots = evidence.dots();
    let mut of_key: BTreeMap<&Key, Vec<&PutOp>> = BTreeMap::new();
    for op in evidence.history.puts.iter().filter(|op| op.sent.is_some()) {
        of_key.entry(&op.key).or_default().push(op);
    }
    let mut violations = Vec::new();
    for (place, key, record) in evidence.told_by_homes() {
        let ops = of_key.get(key).map(Vec::as_slice).unwrap_or_default();
        violations.extend(resurrected(&place, record, ops, &dots));
    }
    violations.extend(evidence.history.puts.iter().filter_map(answer_of_put));
    violations.extend(answers_of_gets(evidence));
    violations
}

fn resurrected(
    place: &str,
    record: &Record,
    ops: &[&PutOp],
    dots: &BTreeMap<RequestId, BTreeSet<Dot>>,
) -> Option<Violation> {
    for op in ops {
        let is_past =
            dots.get(&op.request).is_some_and(|dots| dots.iter().any(|&dot| record.clock.covers(dot)));
        if !is_past {
            continue;
        }
        let replaced = record
            .siblings()
            .iter()
            .find(|s| s.request != op.request && op.sent.as_ref().is_some_and(|sent| sent.covers(s.dot)));
        if let Some(back) = replaced {
            let text = format!(
                "{place} knows {} and shows {} (request {}), which it had replaced: {}",
                op.name(),
                back.dot,
                back.request,
                describe(record)
            );
            return Some(Violation::new(RULE, text));
        }
    }
    None
}

fn answer_of_put(op: &PutOp) -> Option<Violation> {
    let done = op.done.as_ref().filter(|_| !op.supersedes)?;
    let mut expected: Clock = op.sent.clone().unwrap_or_default();
    if done.dot.n > 0 {
        expected.add_dot(done.dot);
    }
    (done.clock != expected).then(|| {
        let text = format!("the answer to {} has a context that its client was not shown", op.name());
        Violation::new(RULE, text)
    })
}

fn answers_of_gets(evidence: &Evidence) -> impl Iterator<Item = Violation> + '_ {
    evidence.history.gets.iter().filter_map(|get| {
        let found = get.found.as_ref()?;
        (found.context != found.record.clock).then(|| {
            let text = format!(
                "a read of {:?} at {} ms has another context than its record",
                get.key,
                get.returned / 1_000_000
            );
            Violation::new(RULE, text)
        })
    })
}
