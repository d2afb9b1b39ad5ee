//! K6: nothing is shown that nobody wrote, no value is altered, and a write that was refused never appears.

use crate::evidence::{Evidence, Violation};
use crate::history::PutOp;
use gramme_core::record::Content;
use gramme_core::{Key, Record, RequestId};
use std::collections::BTreeMap;

/// Its name.
pub const RULE: &str = "phantom";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let known: BTreeMap<RequestId, &PutOp> =
        evidence.history.puts.iter().map(|op| (op.request, op)).collect();
    let mut violations = Vec::new();
    for (place, key, record) in evidence.observations() {
        violations.extend(judge(&known, &place, key, record, true));
    }
    for list in &evidence.history.lists {
        for (key, record) in list.entries.iter().flatten() {
            if let Ok(key) = Key::new(&list.bucket, key) {
                let place = format!("a list at {} ms", list.returned / 1_000_000);
                violations.extend(judge(&known, &place, &key, record, list.values));
            }
        }
    }
    violations
}

fn judge(
    known: &BTreeMap<RequestId, &PutOp>,
    place: &str,
    key: &Key,
    record: &Record,
    with_values: bool,
) -> Option<Violation> {
    for sibling in record.siblings() {
        let wrong = match known.get(&sibling.request) {
            None => Some("a write that nobody made".to_string()),
            Some(op) if op.key != *key => Some(format!("{}, which is of another key", op.name())),
            Some(op) if !op.may_exist() => Some(format!("{}, which was refused", op.name())),
            Some(op) if with_values && (op.content != sibling.content || !sibling.verifies()) => {
                Some(format!("{} with another content", op.name()))
            }
            Some(op)
                if matches!(op.content, Content::Tombstone)
                    != matches!(sibling.content, Content::Tombstone) =>
            {
                Some(format!("{} as another kind", op.name()))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let text = format!("{place} shows at {key:?} {wrong}: {}", sibling.dot);
            return Some(Violation::new(RULE, text));
        }
    }
    None
}
