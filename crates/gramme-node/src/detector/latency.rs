//! How long a peer takes to answer one kind of question: percentiles of the last few thousand answers, and a
//! quick average that fades, for choosing whom to ask.

use crate::env::Mono;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Answer times of the last few thousand questions: two histograms that take turns, so that old times fade.
pub(super) struct Latency {
    young: Histogram<u32>,
    old: Histogram<u32>,
    average_us: u64,
    answered_at: Mono,
    pub(super) p95_us: u64,
    pub(super) p99_us: u64,
}

impl Latency {
    pub(super) fn new() -> Latency {
        let blank = || Histogram::new_with_bounds(1, US_MAX, 2).expect("the bounds are in order");
        let (young, old) = (blank(), blank());
        Latency { young, old, average_us: 0, answered_at: Mono(0), p95_us: 0, p99_us: 0 }
    }

    pub(super) fn record(&mut self, took: Duration, now: Mono) {
        let us = micros(took);
        self.average_us = if self.average_us == 0 { us } else { (7 * self.average_us + us) / 8 };
        self.answered_at = now;
        self.young.saturating_record(us);
        let count = self.young.len();
        if count.is_multiple_of(REFRESH_EVERY) {
            (self.p95_us, self.p99_us) = (self.at(0.95), self.at(0.99));
        }
        if count >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.reset();
        }
    }

    /// A percentile, in microseconds; 0 if nothing was measured.
    pub(super) fn at(&self, quantile: f64) -> u64 {
        let fuller = if self.old.len() > self.young.len() { &self.old } else { &self.young };
        if fuller.is_empty() { 0 } else { fuller.value_at_quantile(quantile) }
    }

    /// What the next answer may take, in microseconds. It halves with every second without an answer, so that
    /// one who was slow is tried again.
    pub(super) fn expected_us(&self, now: Mono) -> u64 {
        let quiet_s = now.since(self.answered_at).as_secs().min(63);
        (self.average_us >> quiet_s).max(1)
    }
}

/// A time as the histograms take it.
pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, US_MAX)
}

const US_MAX: u64 = 10_000_000;
const REFRESH_EVERY: u64 = 64;
const GENERATION: u64 = 4096;
