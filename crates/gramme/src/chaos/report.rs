//! What a run has shown: one line per round and one in total, for people or as JSON.

use super::load::{Class, Told};
use super::settle::Settled;
use crate::failure::Failure;
use crate::output::{grouped, lines, print_json, print_line, table};
use gramme_check::{Promise, Violation};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known of one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) what: String,
    pub(super) fault: &'static str,
    pub(super) requests: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) failed: Vec<String>,
    pub(super) gaps: BTreeMap<Class, Duration>,
    pub(super) siblings_max: usize,
    pub(super) started_in: Option<Duration>,
    pub(super) whole_in: Option<Duration>,
    pub(super) healthy_in: Option<Duration>,
    pub(super) amiss: Vec<String>,
    pub(super) differ: usize,
    pub(super) violations: Vec<Violation>,
    pub(super) died: Vec<String>,
    /// Microseconds, ascending.
    pub(super) took: Vec<u32>,
    /// Of a round that changed the ring.
    pub(super) changed: Option<Changed>,
}

/// A change of the ring, while nodes were killed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    /// Replicas that went from one node to another.
    pub(super) moved: u64,
    /// Layouts that were gone to, one after the other.
    pub(super) layouts: usize,
    /// From the commit until everyone read by the last of them.
    pub(super) took: Duration,
    /// Nodes that were killed in the middle of a transfer.
    pub(super) killed: Vec<String>,
}

impl Changed {
    /// For the table.
    pub(super) fn words(&self) -> String {
        let killed = if self.killed.is_empty() { "nobody".to_string() } else { self.killed.join(", ") };
        format!("{} replicas in {:.1} s, killed {killed}", self.moved, self.took.as_secs_f64())
    }

    fn json(&self) -> Json {
        json!({
            "moved": self.moved,
            "layouts": self.layouts,
            "took_ms": millis(self.took),
            "killed": self.killed,
        })
    }
}

impl Round {
    /// Adds what a client was told.
    pub(super) fn add(&mut self, told: &Told) {
        self.requests += told.served + told.failed.len() as u64 + told.refused;
        self.refused += told.refused;
        self.acknowledged += told.writes.iter().filter(|write| write.is_acknowledged()).count() as u64;
        self.failed.extend(told.failed.iter().cloned());
        let gap = self.gaps.entry(told.class).or_default();
        *gap = told.gap.0.max(*gap);
        let shown = told.reads.iter().map(|read| read.shown.len()).max().unwrap_or(0);
        self.siblings_max = self.siblings_max.max(shown);
        self.took.extend(&told.took);
        self.took.sort_unstable();
    }

    /// Adds how the cluster became whole.
    pub(super) fn settled(&mut self, settled: &Settled) {
        self.whole_in = settled.whole;
        self.healthy_in = settled.healthy;
        self.amiss = settled.amiss.clone();
        self.differ = settled.differ.len();
    }

    fn count(&self, promise: Promise) -> usize {
        self.violations.iter().filter(|violation| violation.promise == promise).count()
    }

    fn gap(&self) -> Duration {
        self.gaps.values().max().copied().unwrap_or_default()
    }

    fn p99(&self) -> Duration {
        let at = self.took.len() * 99 / 100;
        Duration::from_micros(self.took.get(at).copied().unwrap_or_default().into())
    }

    /// Whether every promise was kept.
    pub(super) fn is_kept(&self) -> bool {
        self.violations.is_empty()
            && self.failed.is_empty()
            && self.died.is_empty()
            && self.healthy_in.is_some()
            && self.gap() < GAP_MAX
            // A round in which little happened proves little.
            && self.acknowledged >= ACKNOWLEDGED_MIN
            && self.changed.as_ref().is_none_or(|changed| !changed.killed.is_empty())
    }

    fn json(&self) -> Json {
        let gaps: serde_json::Map<String, Json> =
            self.gaps.iter().map(|(class, gap)| (class.as_str().into(), millis(*gap).into())).collect();
        json!({
            "fault": self.fault,
            "what": self.what,
            "kept": self.is_kept(),
            "requests": self.requests,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "failed": self.failed.len(),
            "lost": self.count(Promise::Lost) + self.count(Promise::Shrunk),
            "resurrected": self.count(Promise::Resurrected) + self.count(Promise::Unseen),
            "phantoms": self.count(Promise::Phantom),
            "late_ghosts": self.count(Promise::LateGhost),
            "siblings_max": self.siblings_max,
            "gap_ms": gaps,
            "p99_us": self.p99().as_micros() as u64,
            "started_ms": self.started_in.map(millis),
            "whole_ms": self.whole_in.map(millis),
            "healthy_ms": self.healthy_in.map(millis),
            "homes_differ": self.differ,
            "amiss": self.amiss,
            "died": self.died,
            "changed": self.changed.as_ref().map(Changed::json),
        })
    }

    fn row(&self, number: &str) -> [String; 14] {
        let count =
            |promises: [Promise; 2]| promises.iter().map(|p| self.count(*p)).sum::<usize>().to_string();
        let after =
            |took: Option<Duration>| took.map_or("no".into(), |took| format!("{:.1} s", took.as_secs_f64()));
        let gap = |class| self.gaps.get(&class).map_or("-".to_string(), |gap| millis(*gap).to_string());
        [
            number.to_string(),
            self.what.clone(),
            grouped(self.requests),
            grouped(self.acknowledged),
            count([Promise::Lost, Promise::Shrunk]),
            count([Promise::Resurrected, Promise::Unseen]),
            self.count(Promise::LateGhost).to_string(),
            self.failed.len().to_string(),
            gap(Class::Loyal),
            gap(Class::Roaming),
            format!("{:.0}", self.p99().as_secs_f64() * 1000.0),
            self.siblings_max.to_string(),
            after(self.whole_in),
            after(self.healthy_in),
        ]
    }
}

/// The whole run as one round. What the last look at all keys found belongs to no round of its own.
fn total(rounds: &[Round], last: Vec<Violation>) -> Round {
    let mut total = Round { what: "all".into(), fault: "all", ..Round::default() };
    (total.whole_in, total.healthy_in) = (Some(Duration::ZERO), Some(Duration::ZERO));
    for round in rounds {
        total.requests += round.requests;
        total.acknowledged += round.acknowledged;
        total.refused += round.refused;
        total.failed.extend(round.failed.iter().cloned());
        total.died.extend(round.died.iter().cloned());
        total.amiss.extend(round.amiss.iter().cloned());
        total.differ += round.differ;
        total.siblings_max = total.siblings_max.max(round.siblings_max);
        total.whole_in = total.whole_in.zip(round.whole_in).map(|(a, b)| a.max(b));
        total.healthy_in = total.healthy_in.zip(round.healthy_in).map(|(a, b)| a.max(b));
        total.took.extend(&round.took);
        for (class, gap) in &round.gaps {
            let most = total.gaps.entry(*class).or_default();
            *most = (*most).max(*gap);
        }
        for violation in &round.violations {
            if !last.contains(violation) {
                total.violations.push(violation.clone());
            }
        }
    }
    total.took.sort_unstable();
    total.violations.extend(last);
    total
}

/// Prints it, and says whether every promise was kept.
pub(super) fn print(rounds: &[Round], last: Vec<Violation>, as_json: bool) -> Result<bool, Failure> {
    let total = total(rounds, last);
    let kept = total.is_kept() && rounds.iter().all(Round::is_kept);
    if as_json {
        let violations: Vec<String> = total.violations.iter().map(tell).collect();
        print_json(&json!({
            "kept": kept,
            "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
            "total": total.json(),
            "violations": violations,
            "failures": total.failed,
        }))?;
        return Ok(kept);
    }
    let mut shown = table([
        "",
        "FAULT",
        "REQUESTS",
        "WRITTEN",
        "LOST",
        "BACK",
        "GHOSTS",
        "FAILED",
        "GAP LOYAL",
        "GAP ROAMING",
        "P99",
        "SIBLINGS",
        "WHOLE AFTER",
        "HEALTHY AFTER",
    ]);
    for (at, round) in rounds.iter().enumerate() {
        shown.add_row(round.row(&(at + 1).to_string()));
    }
    shown.add_row(total.row(""));
    print_line(&lines(&shown))?;
    print_line(
        "\nWRITTEN: writes acknowledged. BACK: overwritten or deleted values that came back. GAP, P99: ms.",
    )?;
    for what in
        total.violations.iter().map(tell).chain(total.failed.clone()).chain(total.died.clone()).take(TOLD_MAX)
    {
        print_line(&format!("! {what}"))?;
    }
    for (at, round) in
        rounds.iter().enumerate().filter(|(_, round)| !round.amiss.is_empty() || round.differ > 0)
    {
        let amiss = round.amiss.join("; ");
        print_line(&format!("round {}: the homes of {} keys differ; {amiss}", at + 1, round.differ))?;
    }
    print_line(if kept { "KEPT: every promise" } else { "BROKEN: see above" })?;
    Ok(kept)
}

fn tell(violation: &Violation) -> String {
    format!("{}: {}: {}", violation.promise.as_str(), super::load::place(violation.key).1, violation.what)
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// The longest time for which a client may go without success (issue: under one second).
const GAP_MAX: Duration = Duration::from_secs(1);
const ACKNOWLEDGED_MIN: u64 = 50;
const TOLD_MAX: usize = 40;
