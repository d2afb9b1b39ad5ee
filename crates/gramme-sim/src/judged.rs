//! What scenarios ask beyond the rules: how long clients wait, how much is answered, how soon tombstones go. All of
//! it is simulated time, the same on every machine.

use crate::course::Facts;
use crate::evidence::{Evidence, Violation};
use gramme_core::{NodeId, Outcome};
use std::ops::Range;

/// One operation of a client: who asked, when, for how long in milliseconds, and whether it was answered as asked.
struct Asked {
    client: usize,
    by: Option<NodeId>,
    at_ms: u64,
    took_ms: f64,
    answered: bool,
}

fn asked(evidence: &Evidence) -> Vec<Asked> {
    let of = |client, by, invoked: u64, returned: u64, answered| Asked {
        client,
        by,
        at_ms: invoked / 1_000_000,
        took_ms: returned.saturating_sub(invoked) as f64 / 1e6,
        answered,
    };
    let history = &evidence.history;
    let gets = history.gets.iter().map(|get| {
        let coordinator = get.found.as_ref().and_then(|found| found.coordinator).map(|(node, ..)| node);
        of(get.client, coordinator, get.invoked, get.returned, get.found.is_some())
    });
    let puts = history.puts.iter().map(|op| {
        let answered = op.outcome == Outcome::Applied || op.was_unexpected();
        let first = op.attempts.first().map(|attempt| attempt.node);
        of(op.client, first, op.invoked, op.returned.unwrap_or(op.invoked), answered)
    });
    gets.chain(puts).collect()
}

fn p99_ms(asked: &[Asked], within: Range<u64>, but: NodeId) -> f64 {
    let those = asked.iter().filter(|asked| within.contains(&asked.at_ms) && asked.by != Some(but));
    let mut took: Vec<f64> = those.map(|asked| asked.took_ms).collect();
    took.sort_by(f64::total_cmp);
    let at = (took.len() * 99 / 100).min(took.len().saturating_sub(1));
    took.get(at).copied().unwrap_or_default()
}

/// D8: once a node had fifteen seconds to be recognised as slow, clients wait at most three times as long as they did
/// before it was, at the 99th percentile. Who asks the slow node itself waits for its disk, and is not counted.
pub fn slow_node(evidence: &Evidence, facts: &Facts, slow: NodeId, slow_ms: u64) -> Vec<Violation> {
    let asked = asked(evidence);
    let worked_ms = facts.worked_until / 1_000_000;
    let healthy = p99_ms(&asked, 2_000..slow_ms, slow);
    let then = p99_ms(&asked, slow_ms + 15_000..worked_ms, slow);
    let mut found = Vec::new();
    if then > 3.0 * healthy {
        let text = format!("clients wait {then:.1} ms beside a slow disk, and {healthy:.1} ms without");
        found.push(Violation::new("patience", text));
    }
    if !facts.counts.contains_key("peer degraded") && !facts.counts.contains_key("disk stalled") {
        found.push(Violation::new("patience", "nobody noticed the slow disk".to_string()));
    }
    found
}

/// D23: five seconds after an overload as much is answered as before it, by the clients that were there before: 95 %, less what
/// counting so few leaves to chance (three standard deviations; without it one run in fourteen fails in which nothing is wrong).
pub fn goodput(evidence: &Evidence, overload_ms: Range<u64>) -> Vec<Violation> {
    let asked = asked(evidence);
    let answered = |within: Range<u64>| {
        let those =
            asked.iter().filter(|asked| asked.client < STEADY_CLIENTS && within.contains(&asked.at_ms));
        those.filter(|asked| asked.answered).count() as f64
    };
    let began = overload_ms.end + RECOVERY_MS;
    let lasts_ms = BEFORE_MS.end - BEFORE_MS.start;
    let before = answered(BEFORE_MS);
    let after = answered(began..began + lasts_ms);
    if after >= 0.95 * before - 3.0 * before.sqrt() {
        return Vec::new();
    }
    let (before, after) = (before / lasts_ms as f64, after / lasts_ms as f64);
    let text = format!(
        "{:.0} operations a second are answered after the overload, and {:.0} were before",
        after * 1000.0,
        before * 1000.0
    );
    vec![Violation::new("goodput", text)]
}

/// Every tombstone went within so many milliseconds of quiet.
pub fn tombstones_gone(facts: &Facts, within_ms: u64) -> Vec<Violation> {
    let wrong = match facts.converged_ms {
        Some(took) if took <= within_ms => return Vec::new(),
        Some(took) => format!("it took {took} ms: at most {within_ms} are allowed"),
        None => "they are still there".to_string(),
    };
    vec![Violation::new(
        "tombstones",
        format!("everything that was deleted has been seen by everyone: {wrong}"),
    )]
}

/// While a home was away no tombstone of its partitions went.
pub fn tombstones_stayed(facts: &Facts) -> Vec<Violation> {
    let text = || "a node was away, and no tombstone was kept for it".to_string();
    (facts.tombstones == 0).then(|| Violation::new("tombstones", text())).into_iter().collect()
}

/// What is answered in this time before an overload is what is to be answered after it.
pub const BEFORE_MS: Range<u64> = 1_000..6_000;
/// From the end of an overload until as much must be answered as before.
pub const RECOVERY_MS: u64 = 5_000;
/// Clients that are there all the time.
pub const STEADY_CLIENTS: usize = 4;
