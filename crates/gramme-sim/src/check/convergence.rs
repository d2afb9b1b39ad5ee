//! K4: after the faults have ended and every key was read once from all its homes, all homes hold the same:
//! the same keys with the same live dots and checksums. Hints lie only where hints belong. All nodes have the
//! same bucket settings.

use crate::evidence::{Dump, Evidence, Violation, describe};
use gramme_core::{Dot, Key, NodeId, Record};
use std::collections::BTreeSet;

/// Its name.
pub const RULE: &str = "convergence";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    let mut say = |text: String| violations.push(Violation::new(RULE, text));
    for dump in &evidence.dumps {
        dump.garbled
            .iter()
            .for_each(|what| say(format!("{}: a row cannot be read: {what}", evidence.name(dump.node))));
    }
    let keys: BTreeSet<&Key> = evidence.dumps.iter().flat_map(|dump| dump.data.keys()).collect();
    for key in keys {
        let homes = evidence.layout.homes(evidence.partition_of(key));
        let held: Vec<(NodeId, &Dump)> = evidence.dumps.iter().map(|dump| (dump.node, dump)).collect();
        for (node, dump) in &held {
            if dump.data.contains_key(key) && !homes.contains(node) {
                say(format!("{} is no home of {key:?} and has it among its data", evidence.name(*node)));
            }
        }
        let of_homes: Vec<(NodeId, Option<&Record>)> = held
            .iter()
            .filter(|(node, _)| homes.contains(node))
            .map(|(node, dump)| (*node, dump.data.get(key)))
            .collect();
        let canon: BTreeSet<Vec<(Dot, u64)>> =
            of_homes.iter().map(|(_, record)| canonical(*record)).collect();
        if canon.len() > 1 {
            let shown: Vec<String> = of_homes
                .iter()
                .map(|(node, record)| {
                    format!("{} {}", evidence.name(*node), record.map_or("nothing".to_string(), describe))
                })
                .collect();
            say(format!("the homes of {key:?} differ after repair: {}", shown.join("; ")));
        }
    }
    for dump in &evidence.dumps {
        for key in dump.hints.keys() {
            if evidence.layout.is_home(evidence.partition_of(key), dump.node) {
                say(format!("{} is a home of {key:?} and has it among its hints", evidence.name(dump.node)));
            }
        }
    }
    for (bucket, settings) in &evidence.settings {
        if settings.windows(2).any(|pair| pair[0] != pair[1]) {
            say(format!("nodes disagree on the settings of bucket {bucket}: {settings:?}"));
        }
    }
    evidence
        .unread
        .iter()
        .for_each(|(key, why)| say(format!("with all faults healed {key:?} cannot be read: {why}")));
    violations
}

/// What homes must agree on: live dots and checksums, in order.
fn canonical(record: Option<&Record>) -> Vec<(Dot, u64)> {
    record.map(|record| record.siblings().iter().map(|s| (s.dot, s.checksum)).collect()).unwrap_or_default()
}
