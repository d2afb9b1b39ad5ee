//! K3: a read with a token is answered only with a state that has seen all the token has (read your writes and
//! monotonic reads, per key, at any node).

use crate::evidence::{Evidence, Violation};

/// Its name.
pub const RULE: &str = "sessions";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for get in &evidence.history.gets {
        if let (Some(min), Some(found)) = (&get.min, &get.found)
            && !found.record.clock.contains(min)
        {
            let text = format!(
                "a session of client {} read {:?} at {} ms and was shown less than it had seen",
                get.client,
                get.key,
                get.returned / 1_000_000
            );
            violations.push(Violation::new(RULE, text));
        }
    }
    violations
}
