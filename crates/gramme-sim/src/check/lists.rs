//! A page of a list is in order, begins after where it was asked to, and has each key once; the whole list at
//! the end has exactly the keys that read as something.

use crate::evidence::{Evidence, Violation};
use bytes::Bytes;
use gramme_core::{Content, Key, Sibling, View};
use std::collections::BTreeSet;

/// Its name.
pub const RULE: &str = "lists";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |text: String| violations.push(Violation::new(RULE, text));
    for list in &evidence.history.lists {
        let keys: Vec<&Bytes> = list.entries.iter().flatten().map(|(key, _)| key).collect();
        let ascends = keys.windows(2).all(|pair| pair[0] < pair[1]);
        let begins = list.after.as_ref().is_none_or(|after| keys.first().is_none_or(|first| *first > after));
        if !ascends || !begins {
            say(format!("a page of {} after {:?} is out of order: {keys:?}", list.bucket, list.after));
        }
    }
    for (bucket, listed) in &evidence.listed {
        let Some(listed) = listed else {
            say(format!("with all faults healed bucket {bucket} cannot be listed"));
            continue;
        };
        let listed: BTreeSet<&Bytes> = listed.iter().collect();
        let keys: BTreeSet<&Key> = evidence.dumps.iter().flat_map(|dump| dump.data.keys()).collect();
        for key in keys.into_iter().filter(|key| key.bucket() == bucket && !evidence.mortal.contains(*key)) {
            let left = evidence.left_of(key);
            let reads = !matches!(left.view(evidence.mode_of(bucket), 0), View::Missing | View::Deleted);
            let of_homes_alone = !evidence.claims.hints_count;
            // Homes let a tombstone beside a value go, each in its time: what the last writer left, where it
            // was the tombstone, depends on who is asked.
            let tombstone = |s: &Sibling| s.content == Content::Tombstone;
            let is_mixed = left.siblings().iter().any(tombstone) && !left.siblings().iter().all(tombstone);
            if evidence.claims.reclaims && is_mixed {
                continue;
            }
            if of_homes_alone && reads != listed.contains(&Bytes::copy_from_slice(key.key())) {
                say(format!(
                    "the list of {bucket} is wrong about {key:?}: it {}",
                    if reads { "lacks it" } else { "has it" }
                ));
            }
        }
    }
    violations
}
