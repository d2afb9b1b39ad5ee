//! K2: once the cluster has converged and hints are drained, nothing that an acknowledged write replaced is anywhere to be seen:
//! whatever node, hint, message or old copy of a disk has returned meanwhile. Judged by dots alone, so that it
//! holds where the clocks that could tell are gone.

use crate::check::{Writes, replaced_by};
use crate::evidence::{Evidence, Violation, describe};
use gramme_core::{Key, Record};

/// Its name.
pub const RULE: &str = "resurrection";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    if !evidence.claims.drained {
        return Vec::new();
    }
    let writes = Writes::of(evidence);
    let mut violations = Vec::new();
    for dump in &evidence.dumps {
        for (key, record) in &dump.data {
            let place = format!("the disk of {}", evidence.name(dump.node));
            violations.extend(judge(evidence, &writes, &place, key, record));
        }
    }
    let late = evidence.history.gets.iter().filter(|get| get.invoked >= evidence.history.converged_at);
    for get in late {
        if let Some(found) = &get.found {
            violations.extend(judge(evidence, &writes, "a read after convergence", &get.key, &found.record));
        }
    }
    violations
}

fn judge(
    evidence: &Evidence,
    writes: &Writes<'_>,
    place: &str,
    key: &Key,
    record: &Record,
) -> Option<Violation> {
    for sibling in record.siblings() {
        let replaced = |op: &&&_| {
            let op: &crate::history::PutOp = op;
            let is_lost = evidence.lost_in_memory.contains(&op.request);
            op.request != sibling.request && !is_lost && replaced_by(op, sibling.dot)
        };
        if let Some(op) = writes.of_key(key).iter().find(replaced) {
            let text = format!(
                "{place} shows {} (request {}), which had been replaced by {}: {}",
                sibling.dot,
                sibling.request,
                op.name(),
                describe(record)
            );
            return Some(Violation::new(RULE, text));
        }
    }
    None
}
