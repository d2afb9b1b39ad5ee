//! A value expires at one instant of the hybrid clock, for ever after: within one life of a coordinator that clock
//! never goes back, so what has read as expired there is never alive again.
//!
//! Asked only where no wall clock was set back: between two writes a hybrid clock follows the wall.

use crate::evidence::{Evidence, Violation};
use crate::history::{Found, GetOp};
use std::collections::BTreeMap;

/// Its name.
pub const RULE: &str = "expiry";

/// A read and what it found.
type Read<'a> = (&'a GetOp, &'a Found);

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    if !evidence.claims.steady_clocks {
        return Vec::new();
    }
    let mut read_by: BTreeMap<_, Vec<Read<'_>>> = BTreeMap::new();
    for get in &evidence.history.gets {
        if let Some(found) = &get.found
            && let Some(coordinator) = found.coordinator
        {
            read_by.entry(coordinator).or_default().push((get, found));
        }
    }
    read_by.iter().filter_map(|((node, ..), reads)| went_back(&evidence.name(*node), reads)).collect()
}

fn went_back(name: &str, reads: &[Read<'_>]) -> Option<Violation> {
    // Reads are in the order in which they ended.
    let mut latest = 0;
    let mut ended = reads.iter().peekable();
    let mut begun: Vec<_> = reads.iter().collect();
    begun.sort_by_key(|(get, _)| get.invoked);
    for (get, found) in begun {
        while let Some((_, before)) = ended.next_if(|(before, _)| before.returned <= get.invoked) {
            latest = latest.max(before.now_ms);
        }
        if found.now_ms < latest {
            let text = format!(
                "the hybrid clock of {name} was at {latest} and is at {} in a read of {:?} at {} ms",
                found.now_ms,
                get.key,
                get.invoked / 1_000_000
            );
            return Some(Violation::new(RULE, text));
        }
    }
    None
}
