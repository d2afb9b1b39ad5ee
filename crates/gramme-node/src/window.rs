//! Times of the last minute, as a row of histograms of a few seconds each: the newest is filled, the oldest
//! goes. So a percentile of the trailing 60 s (the paper, 6.5, BG-3) costs one addition of histograms when
//! somebody asks, and one increment per time.

use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// See the module; told when a part ends.
pub(crate) struct Window {
    /// Ended parts, newest first.
    parts: VecDeque<Histogram<u32>>,
    newest: Histogram<u32>,
}

impl Window {
    /// Nothing was measured yet.
    pub(crate) fn new() -> Window {
        Window { parts: VecDeque::new(), newest: blank() }
    }

    /// Adds a time.
    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, US_MAX);
        self.newest.saturating_record(us);
    }

    /// The newest part ends, and the one that is a window old is forgotten.
    pub(crate) fn turn(&mut self) {
        let mut fresh =
            if self.parts.len() < PARTS { blank() } else { self.parts.pop_back().unwrap_or_else(blank) };
        fresh.reset();
        self.parts.push_front(std::mem::replace(&mut self.newest, fresh));
    }

    /// The 99th percentile over all parts that have ended, in microseconds; 0 if nothing was measured.
    pub(crate) fn p99_us(&self) -> u64 {
        let mut all = blank();
        for part in &self.parts {
            // All have the same bounds, so they add up.
            let _ = all.add(part);
        }
        p99(&all)
    }

    /// The 99th percentile of the part that ended last, in microseconds; 0 if nothing was measured in it.
    pub(crate) fn newest_p99_us(&self) -> u64 {
        self.parts.front().map_or(0, p99)
    }
}

fn blank() -> Histogram<u32> {
    Histogram::new_with_bounds(1, US_MAX, 2).expect("the bounds are in order")
}

fn p99(histogram: &Histogram<u32>) -> u64 {
    if histogram.is_empty() { 0 } else { histogram.value_at_quantile(0.99) }
}

/// How long a part is.
pub(crate) const PART: Duration = Duration::from_secs(5);
/// How many there are: a minute of them.
const PARTS: usize = 12;
const US_MAX: u64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_time_is_seen_for_a_minute_and_then_forgotten() {
        let mut window = Window::new();
        assert_eq!(window.p99_us(), 0);
        window.record(Duration::from_millis(700));
        window.turn();
        assert!(window.newest_p99_us() >= 700_000);
        for part in 0..PARTS {
            assert!(window.p99_us() >= 700_000, "after {part} parts");
            window.record(Duration::from_millis(1));
            window.turn();
        }
        assert!(window.p99_us() < 2_000, "{}", window.p99_us());
    }
}
