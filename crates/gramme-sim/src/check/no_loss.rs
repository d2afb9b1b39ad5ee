//! K1: every acknowledged write is there at the end, or was overwritten by one that had seen it and that is
//! itself there or overwritten in turn. "Overwritten by something that vanished" is a loss.
//!
//! What a write had seen is what its *client* was shown, not what its token claimed: a token that claims more
//! makes nodes drop values that nobody chose to replace.
//!
//! An expired value may have been replaced by a tombstone that no client wrote; then that is there, or reclaimed.
//!
//! A buffered write is excused if no disk ever had it and every home that had it in memory ended; as what has
//! replaced others it counts all the same.
//!
//! Where a disk was lost before hints were drained, hint stores count as places too: a write acknowledged by its
//! coordinator and a fallback lives there alone. Where tombstones may be reclaimed a delete need not be there.

use crate::check::Writes;
use crate::evidence::{Evidence, Violation, describe};
use crate::history::PutOp;
use gramme_core::{Outcome, Record, RequestId, Sibling};
use std::collections::BTreeSet;

/// Its name.
pub const RULE: &str = "no loss";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let writes = Writes::of(evidence);
    let check = |(key, ops): (&&_, &Vec<_>)| check_key(&evidence.left_of(key), ops, &writes, evidence);
    writes.of_key.iter().flat_map(check).collect()
}

fn check_key(left: &Record, ops: &[&PutOp], writes: &Writes<'_>, evidence: &Evidence) -> Vec<Violation> {
    let reclaims = evidence.claims.reclaims;
    // What has expired and was buried is known by the burial, until that is reclaimed in turn.
    let is_burial = |sibling: &Sibling| ops.first().is_some_and(|op| writes.is_burial(&op.key, sibling));
    let has_burial = left.siblings().iter().any(is_burial);
    let is_buried = |op: &PutOp| {
        let is_past = op.told_dot().is_none_or(|dot| left.clock.covers(dot));
        // A retry was told that its first attempt is overwritten already, and nobody was ever shown that.
        let is_unknown = op.outcome == Outcome::Applied && op.told_dot().is_none();
        let was_buried = is_unknown && writes.dots(op.request).is_empty();
        writes.may_be_buried(op) && (reclaims || (has_burial && is_past) || was_buried)
    };
    let is_there =
        |op: &&&PutOp| left.sibling_of(op.request).is_some() || (reclaims && op.is_delete()) || is_buried(op);
    let mut accounted: BTreeSet<RequestId> = ops.iter().filter(is_there).map(|op| op.request).collect();
    // From those that are there to those that they replaced, and so on to the first.
    loop {
        let before = accounted.len();
        for op in ops {
            if ops.iter().any(|by| accounted.contains(&by.request) && writes.may_replace(by, op)) {
                accounted.insert(op.request);
            }
        }
        if accounted.len() == before {
            break;
        }
    }
    let mut violations = Vec::new();
    let is_promised =
        |op: &&&PutOp| op.outcome == Outcome::Applied && !evidence.lost_in_memory.contains(&op.request);
    for op in ops.iter().filter(is_promised) {
        if !accounted.contains(&op.request) {
            let text = format!("{} is neither there nor overwritten: left is {}", op.name(), describe(left));
            violations.push(Violation::new(RULE, text));
        } else if let Some(dot) = op.told_dot()
            && !left.clock.covers(dot)
            && !reclaims
        {
            let text = format!("{} is forgotten: the clocks that are left do not cover it", op.name());
            violations.push(Violation::new(RULE, text));
        }
    }
    violations
}
