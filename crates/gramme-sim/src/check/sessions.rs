//! K3: whoever passes a token is shown nothing older (read your writes, monotonic reads and writes that follow
//! reads, per key, at any node). By clocks: the answer has seen all that the token has. And by values, which
//! holds where clocks may be gone too: what the session had last been shown is there or was overwritten, and
//! nothing that it had seen overwritten is shown again.

use crate::check::{Writes, replaced_by};
use crate::evidence::{Evidence, Violation, describe};
use crate::history::{Found, GetOp};
use gramme_core::Clock;
use gramme_core::record::Sibling;

/// Its name.
pub const RULE: &str = "sessions";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let writes = Writes::of(evidence);
    let gets = evidence.history.gets.iter();
    let wrong = gets.filter_map(|get| {
        let (min, found) = (get.min.as_ref()?, get.found.as_ref()?);
        let wrong = judge(evidence, &writes, get, min, found)?;
        let text = format!(
            "a session of client {} read {:?} at {} ms and {wrong}: {}",
            get.client,
            get.key,
            get.returned / 1_000_000,
            describe(&found.record)
        );
        Some(Violation::new(RULE, text))
    });
    wrong.collect()
}

fn judge(
    evidence: &Evidence,
    writes: &Writes<'_>,
    get: &GetOp,
    min: &Clock,
    found: &Found,
) -> Option<String> {
    let reclaims = evidence.claims.reclaims;
    if !reclaims && !found.record.clock.contains(min) {
        return Some("was shown less than it had seen".to_string());
    }
    for request in &get.held {
        let is_promised = |op: &&&crate::history::PutOp| !evidence.lost_in_memory.contains(&op.request);
        let op = writes.of_key(&get.key).iter().find(|op| op.request == *request).filter(is_promised);
        if let Some(op) = op.filter(|op| !writes.may_know(&found.record, op, reclaims)) {
            return Some(format!("was not shown what it had last seen, {}", op.name()));
        }
    }
    // A write that was tried at two nodes has two dots; a replica that has not heard that one of them was
    // overwritten shows the other until it has.
    let is_twin = |s: &Sibling| writes.dots(s.request).len() > 1;
    // What a write replaced that only memories had is there again with their ends.
    let ops = writes.of_key(&get.key).iter();
    let lost: Vec<_> = ops.filter(|op| evidence.lost_in_memory.contains(&op.request)).collect();
    let is_back = |s: &Sibling| lost.iter().any(|op| replaced_by(op, s.dot));
    let again =
        |s: &&Sibling| min.covers(s.dot) && !get.held.contains(&s.request) && !is_twin(s) && !is_back(s);
    let again = found.record.siblings().iter().find(again)?;
    Some(format!("was shown {} (request {}) again, which it had seen overwritten", again.dot, again.request))
}
