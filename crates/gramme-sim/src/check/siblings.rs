//! K5: siblings are bounded by the writes that nobody has reconciled: each write leaves at most one, however
//! often it was tried, and a client that writes on with the context it was given replaces its own last write.

use crate::evidence::{Evidence, Violation, describe};
use gramme_core::RequestId;
use std::collections::BTreeSet;

/// Its name.
pub const RULE: &str = "siblings";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (place, key, record) in evidence.observations() {
        let mut writes: BTreeSet<(RequestId, u64)> = BTreeSet::new();
        if let Some(twin) = record.siblings().iter().find(|s| !writes.insert((s.request, s.checksum))) {
            let text =
                format!("{place} shows request {} of {key:?} twice: {}", twin.request, describe(record));
            violations.push(Violation::new(RULE, text));
        }
    }
    violations
}
