//! A node that was frozen refuses the writes that waited in its sockets: their clients have long since written
//! elsewhere, and taking them would put late ghosts over newer acknowledged writes.

use crate::evidence::{Evidence, Violation};
use gramme_core::Outcome;
use gramme_core::limits::FREEZE_MS;

/// Its name.
pub const RULE: &str = "frozen writes";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for op in &evidence.history.puts {
        for attempt in op.attempts.iter().filter(|attempt| attempt.waited > FREEZE_MS * 1_000_000) {
            if attempt.outcome.is_some_and(|outcome| outcome != Outcome::NotApplied) {
                let text = format!(
                    "{} waited {} ms in the sockets of {}, which was frozen, and was taken all the same ({:?})",
                    op.name(),
                    attempt.waited / 1_000_000,
                    evidence.name(attempt.node),
                    attempt.outcome
                );
                violations.push(Violation::new(RULE, text));
            }
        }
    }
    violations
}
