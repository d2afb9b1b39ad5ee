//! A read that begins after an acknowledged write, and is answered by so many homes that one of them must have
//! acknowledged the write, shows the write or something that covers it (correctness.md, G6). Homes are counted
//! as the answers say, so the rule holds nodes to every number they print.
//!
//! It holds with a directory emptied too: a home that lost its disk is merged but not counted by reads until it
//! has everything that the others have. Only what it alone of the homes had acknowledged is excused. A node that was
//! declared lost and is not lost may go on by the ring that it knows: what it coordinates is not judged here.

use crate::check::{Writes, replaced_by};
use crate::evidence::{Evidence, Violation, describe};
use crate::history::{Found, GetOp, PutOp};

/// Its name.
pub const RULE: &str = "strict reads";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let n = evidence.layout.n();
    let writes = Writes::of(evidence);
    let mut violations = Vec::new();
    for get in &evidence.history.gets {
        let Some(found) = &get.found else { continue };
        for op in writes.of_key(&get.key) {
            let (Some(_), Some(done), Some(returned)) = (op.told_dot(), &op.done, op.returned) else {
                continue;
            };
            if is_of_lost(evidence, op, get) || evidence.lost_in_memory.contains(&op.request) {
                continue;
            }
            // The one home that had it may be the one that lost its disk, and was refilled from the others; or was
            // declared lost itself, and whoever has taken its place was filled from the others.
            if (evidence.claims.disk_lost || evidence.claims.node_lost) && done.acks.homes < 2 {
                continue;
            }
            // What a home has in memory alone goes with its end, and is not shown before it is durable.
            let forgotten = evidence.forgotten_by.get(&op.request).copied().unwrap_or_default();
            let homes = usize::from(done.acks.homes).saturating_sub(forgotten);
            let overlap = homes + usize::from(found.acks.homes) > n;
            if overlap && returned <= get.invoked && !shows(evidence, &writes, found, op) {
                let text = format!(
                    "{} was acknowledged by {} homes; a read by client {} from {} to {} ms, answered by {}, shows {}",
                    op.name(),
                    done.acks.homes,
                    get.client,
                    get.invoked / 1_000_000,
                    get.returned / 1_000_000,
                    found.acks.homes,
                    describe(&found.record)
                );
                violations.push(Violation::new(RULE, text));
            }
        }
    }
    violations
}

/// Whether one of the two was coordinated by a node that was declared lost, or is no member: for as long as it has not heard
/// of that, it goes on by the ring that it knows, with whom it can reach.
fn is_of_lost(evidence: &Evidence, op: &PutOp, get: &GetOp) -> bool {
    let reader = get.found.as_ref().and_then(|found| found.coordinator).map(|(node, ..)| node);
    let writers = op.attempts.iter().map(|attempt| attempt.node);
    let is_outside = |node| evidence.ring.lost.contains(&node) || evidence.layout.member(node).is_none();
    evidence.claims.node_lost && writers.chain(reader).any(is_outside)
}

/// Whether a read was shown a write, or something that may have replaced it, and nothing that it had replaced.
fn shows(evidence: &Evidence, writes: &Writes<'_>, found: &Found, op: &PutOp) -> bool {
    let back = |s: &gramme_core::record::Sibling| s.request != op.request && replaced_by(op, s.dot);
    writes.may_know(&found.record, op, evidence.claims.reclaims) && !found.record.siblings().iter().any(back)
}
