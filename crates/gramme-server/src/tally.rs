//! How long gets and puts took at the doors, and how often values stood side by side: the figures that a node gives
//! in its status. `/metrics` has more of them, for who keeps a history.
//!
//! Each shard counts into a tally of its own; whoever reads them sums. All counts grow until the process ends.

use crate::metrics::{Answer, Op};
use gramme_node::Probe;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one shard has counted.
pub(crate) struct Tally {
    took: [[AtomicU64; BUCKETS]; 2],
    /// Reads that were answered with several values.
    shown: AtomicU64,
    /// Merges that left several values under a key.
    joined: AtomicU64,
    /// Audits that found homes at odds which should agree.
    audits: AtomicU64,
}

impl Default for Tally {
    fn default() -> Tally {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Tally {
            took: [zeros(), zeros()],
            shown: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            audits: AtomicU64::new(0),
        }
    }
}

impl Tally {
    /// A door has answered.
    pub(crate) fn request(&self, op: Op, answer: Answer, took: Duration) {
        let at = match op {
            Op::Get => 0,
            Op::Put => 1,
            Op::Delete | Op::List | Op::Other => return,
        };
        self.took[at][bucket_of(took)].fetch_add(1, Ordering::Relaxed);
        if answer == Answer::Siblings {
            self.shown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A flow of the node says something.
    pub(crate) fn probe(&self, probe: &Probe) {
        let count = match probe {
            Probe::SiblingsJoined => &self.joined,
            Probe::AuditConflict => &self.audits,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// `latency` of the status: per operation, pairs of a bucket's upper bound in microseconds and its count; empty
/// buckets are left out.
pub(crate) fn latency_json(tallies: &[Arc<Tally>]) -> Json {
    let of = |op: usize| -> Vec<Json> {
        let count = |bucket: usize| {
            tallies.iter().map(|tally| tally.took[op][bucket].load(Ordering::Relaxed)).sum::<u64>()
        };
        let counts = (0..BUCKETS).map(|bucket| (bucket, count(bucket))).filter(|(_, count)| *count > 0);
        counts.map(|(bucket, count)| json!([bound_us(bucket), count])).collect()
    };
    json!({ "get": of(0), "put": of(1) })
}

/// `conflicts` of the status.
pub(crate) fn conflicts_json(tallies: &[Arc<Tally>]) -> Json {
    let sum = |count: fn(&Tally) -> &AtomicU64| {
        tallies.iter().map(|tally| count(tally).load(Ordering::Relaxed)).sum::<u64>()
    };
    json!({
        "shown": sum(|tally| &tally.shown),
        "joined": sum(|tally| &tally.joined),
        "audits": sum(|tally| &tally.audits),
    })
}

/// The upper bound of a bucket: a quarter of an octave more than that of the one before.
fn bound_us(bucket: usize) -> u64 {
    (FIRST_US * 2f64.powf(bucket as f64 / PER_OCTAVE)).round() as u64
}

/// The first bucket whose bound is not exceeded; the last takes whatever took longer.
fn bucket_of(took: Duration) -> usize {
    let octaves = (took.as_secs_f64() * 1e6 / FIRST_US).max(1.0).log2();
    ((octaves * PER_OCTAVE).ceil() as usize).min(BUCKETS - 1)
}

const FIRST_US: f64 = 32.0;
const PER_OCTAVE: f64 = 4.0;
/// Up to half a minute: no operation may take longer.
const BUCKETS: usize = 81;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_within_a_quarter_of_an_octave() {
        for us in [0u64, 1, 32, 33, 100, 999, 12_345, 1_000_000, 30_000_000] {
            let bound = bound_us(bucket_of(Duration::from_micros(us)));
            assert!(bound >= us && bound as f64 <= (us as f64).max(32.0) * 1.19 + 1.0, "{us} in {bound}");
        }
        assert_eq!(bucket_of(Duration::from_secs(3600)), BUCKETS - 1);
    }

    #[test]
    fn tallies_of_all_shards_are_summed() {
        let both: [Arc<Tally>; 2] = Default::default();
        for tally in &both {
            tally.request(Op::Get, Answer::Siblings, Duration::from_micros(30));
            tally.request(Op::List, Answer::Ok, Duration::from_micros(30));
        }
        both[1].request(Op::Put, Answer::Ok, Duration::from_micros(64));
        both[1].probe(&Probe::SiblingsJoined);
        assert_eq!(latency_json(&both), json!({ "get": [[32, 2]], "put": [[64, 1]] }));
        assert_eq!(conflicts_json(&both), json!({ "shown": 2, "joined": 1, "audits": 0 }));
    }
}
