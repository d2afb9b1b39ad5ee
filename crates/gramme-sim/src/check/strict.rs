//! A read that begins after an acknowledged write, and is answered by so many homes that one of them must have
//! acknowledged the write, shows the write or something that covers it (correctness.md, G6). Homes are counted
//! as the answers say, so the rule holds nodes to every number they print.
//!
//! It holds with a directory emptied too: a home that lost its disk is merged but not counted by reads, so of
//! the other N - 1 homes at least h - 1 have the write and a answer the read.

use crate::evidence::{Evidence, Violation, describe};
use crate::history::PutOp;
use gramme_core::Key;
use std::collections::BTreeMap;

/// Its name.
pub const RULE: &str = "strict reads";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let n = evidence.layout.n();
    let mut of_key: BTreeMap<&Key, Vec<&PutOp>> = BTreeMap::new();
    for op in &evidence.history.puts {
        of_key.entry(&op.key).or_default().push(op);
    }
    let mut violations = Vec::new();
    for get in &evidence.history.gets {
        let Some(found) = &get.found else { continue };
        for op in of_key.get(&get.key).into_iter().flatten() {
            let (Some(dot), Some(done), Some(returned)) = (op.told_dot(), &op.done, op.returned) else {
                continue;
            };
            let overlap = usize::from(done.acks.homes) + usize::from(found.acks.homes) > n;
            if overlap && returned <= get.invoked && !found.record.clock.covers(dot) {
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
