//! K1: every acknowledged write is there at the end, or was overwritten by one that had seen it and that is
//! itself there or overwritten in turn. "Overwritten by something that vanished" is a loss.
//!
//! What a write had seen is what its *client* was shown, not what its token claimed: a token that claims more
//! makes nodes drop values that nobody chose to replace.
//!
//! With one directory emptied, hint stores count as places too: a write acknowledged by its coordinator and a
//! fallback lives there alone once the coordinator's disk is gone, until hints are drained.

use crate::evidence::{Evidence, Violation, describe};
use crate::history::PutOp;
use gramme_core::{Dot, Key, Outcome, Record, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub const RULE: &str = "no loss";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let dots = evidence.dots();
    let mut of_key: BTreeMap<&Key, Vec<&PutOp>> = BTreeMap::new();
    for op in evidence.history.puts.iter().filter(|op| op.may_exist()) {
        of_key.entry(&op.key).or_default().push(op);
    }
    of_key.iter().flat_map(|(key, ops)| check_key(&evidence.left_of(key), ops, &dots)).collect()
}

fn check_key(left: &Record, ops: &[&PutOp], dots: &BTreeMap<RequestId, BTreeSet<Dot>>) -> Vec<Violation> {
    let none = BTreeSet::new();
    let dots_of = |op: &PutOp| dots.get(&op.request).unwrap_or(&none);
    let mut accounted: BTreeSet<RequestId> =
        ops.iter().filter(|op| left.sibling_of(op.request).is_some()).map(|op| op.request).collect();
    // From those that are there to those that they replaced, and so on to the first.
    loop {
        let before = accounted.len();
        for op in ops {
            let replaced = ops.iter().any(|by| {
                by.request != op.request
                    && accounted.contains(&by.request)
                    && may_replace(by, op, dots_of(op))
            });
            if replaced {
                accounted.insert(op.request);
            }
        }
        if accounted.len() == before {
            break;
        }
    }
    let mut violations = Vec::new();
    for op in ops.iter().filter(|op| op.outcome == Outcome::Applied) {
        if !accounted.contains(&op.request) {
            let text = format!("{} is neither there nor overwritten: left is {}", op.name(), describe(left));
            violations.push(Violation::new(RULE, text));
        } else if let Some(dot) = op.told_dot()
            && !left.clock.covers(dot)
        {
            let text = format!("{} is forgotten: the clocks that are left do not cover it", op.name());
            violations.push(Violation::new(RULE, text));
        }
    }
    violations
}

/// Whether `by` may have replaced `op`: its client had been shown one of its dots; or it overwrites what its
/// coordinator sees, and an attempt at it was still under way when `op` began. Attempts whose client has gone on
/// to another node count: a write that overwrites what it finds and is tried twice may do so twice.
fn may_replace(by: &PutOp, op: &PutOp, dots: &BTreeSet<Dot>) -> bool {
    let shown = by.sent.is_some() && dots.iter().any(|&dot| by.shown.covers(dot));
    shown || (by.supersedes && by.is_under_way(op.invoked))
}
