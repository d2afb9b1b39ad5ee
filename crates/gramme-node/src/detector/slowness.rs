//! Is a peer ill without being dead? Its answer times and errors are held against those of its neighbours, or,
//! if it has none, against its own best (correctness.md 6, gray failure).
//!
//! The verdict is slow on purpose: ten seconds of evidence to demote, ten seconds to restore, so that nobody
//! flaps. A peer about whom nothing can be said for a while is given another chance.

use super::latency::micros;
use hdrhistogram::Histogram;
use std::time::Duration;

/// What was measured of one peer in the part that is being filled, and what followed from those before.
pub(super) struct Slowness {
    times: [Histogram<u32>; 2],
    asked: u64,
    failed: u64,
    /// Its best 99th percentile per kind, which creeps up so that it can follow a real change.
    best_us: [u64; 2],
    bad_parts: u32,
    good_parts: u32,
    blank_parts: u32,
    degraded: bool,
}

/// What one part said of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// 99th percentile per kind, in microseconds; `None` if there were too few answers to say.
    pub(super) p99_us: [Option<u64>; 2],
    /// Of a hundred questions, those that failed; `None` if there were too few.
    pub(super) failed_percent: Option<u64>,
    best_us: [u64; 2],
}

impl Slowness {
    pub(super) fn new() -> Slowness {
        let blank = || Histogram::new_with_bounds(1, 10_000_000, 2).expect("the bounds are in order");
        Slowness {
            times: [blank(), blank()],
            asked: 0,
            failed: 0,
            best_us: [0; 2],
            bad_parts: 0,
            good_parts: 0,
            blank_parts: 0,
            degraded: false,
        }
    }

    pub(super) fn answered(&mut self, kind: usize, took: Duration) {
        self.asked += 1;
        self.times[kind].saturating_record(micros(took));
    }

    pub(super) fn failed(&mut self) {
        self.asked += 1;
        self.failed += 1;
    }

    /// Whether it is demoted.
    pub(super) fn degraded(&self) -> bool {
        self.degraded
    }

    /// Ends the part that is being filled and says what it held.
    pub(super) fn end_part(&mut self) -> Part {
        let mut part = Part { best_us: self.best_us, ..Part::default() };
        for (kind, times) in self.times.iter_mut().enumerate() {
            if times.len() >= SAMPLES_MIN {
                let p99 = times.value_at_quantile(0.99);
                part.p99_us[kind] = Some(p99);
                let best = self.best_us[kind];
                let creeping = best + best.div_ceil(BEST_CREEPS);
                self.best_us[kind] = if best == 0 { p99 } else { p99.min(creeping) };
            }
            times.reset();
        }
        part.failed_percent = (self.asked >= SAMPLES_MIN).then(|| 100 * self.failed / self.asked);
        (self.asked, self.failed) = (0, 0);
        part
    }

    /// Takes the verdict over its last part; `None` if there is none. Says whether the opinion has changed.
    pub(super) fn judge(&mut self, bad: Option<bool>) -> bool {
        match bad {
            Some(true) => (self.bad_parts, self.good_parts, self.blank_parts) = (self.bad_parts + 1, 0, 0),
            Some(false) => (self.bad_parts, self.good_parts, self.blank_parts) = (0, self.good_parts + 1, 0),
            None => self.blank_parts += 1,
        }
        let before = self.degraded;
        if self.good_parts >= PARTS_TO_TURN || self.blank_parts >= PARTS_BLANK {
            (self.degraded, self.bad_parts) = (false, 0);
        } else if self.bad_parts >= PARTS_TO_TURN {
            self.degraded = true;
        }
        before != self.degraded
    }
}

/// Whether a peer's part is much worse than those of its neighbours; `None` if nothing can be said.
pub(super) fn is_bad(part: &Part, neighbours: &[Part]) -> Option<bool> {
    let mut verdict = None;
    for kind in 0..2 {
        let Some(mine) = part.p99_us[kind] else { continue };
        let theirs = median(neighbours.iter().filter_map(|other| other.p99_us[kind]));
        let Some(usual) = theirs.or((part.best_us[kind] > 0).then_some(part.best_us[kind])) else { continue };
        let bad = mine > TIMES_SLOWER * usual && mine > SLOW_US_MIN;
        verdict = Some(verdict.unwrap_or(false) || bad);
    }
    if let Some(mine) = part.failed_percent {
        let usual = median(neighbours.iter().filter_map(|other| other.failed_percent)).unwrap_or(0);
        let bad = mine > TIMES_SLOWER * usual && mine >= FAILED_PERCENT_MIN;
        verdict = Some(verdict.unwrap_or(false) || bad);
    }
    verdict
}

/// The lower one of two in the middle.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values[(values.len() - 1) / 2])
}

/// How long a part is.
pub(super) const PART: Duration = Duration::from_secs(2);
/// Parts of one kind in a row that turn the opinion: ten seconds.
const PARTS_TO_TURN: u32 = 5;
/// Parts without evidence after which a degraded peer gets another chance.
const PARTS_BLANK: u32 = 15;
const SAMPLES_MIN: u64 = 5;
const TIMES_SLOWER: u64 = 10;
/// Nobody is disturbed by less, however much faster its neighbours are.
const SLOW_US_MIN: u64 = 5_000;
/// ... nor by fewer failures.
const FAILED_PERCENT_MIN: u64 = 10;
const BEST_CREEPS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_take(us: u64) -> Part {
        Part { p99_us: [Some(us), None], ..Part::default() }
    }

    #[test]
    fn more_than_ten_times_slower_than_the_neighbours_is_bad() {
        let neighbours = [reads_take(900), reads_take(1_000), reads_take(40_000)];
        assert_eq!(is_bad(&reads_take(10_001), &neighbours), Some(true));
        assert_eq!(is_bad(&reads_take(10_000), &neighbours), Some(false));
        assert_eq!(is_bad(&Part::default(), &neighbours), None, "of whom nothing was asked nothing is said");
    }

    #[test]
    fn a_peer_without_neighbours_is_held_against_its_own_best() {
        let far = Part { best_us: [80_000, 0], ..reads_take(90_000) };
        assert_eq!(is_bad(&far, &[]), Some(false), "a far zone is no illness");
        let near = Part { best_us: [500, 0], ..reads_take(90_000) };
        assert_eq!(is_bad(&near, &[]), Some(true));
    }

    #[test]
    fn failing_where_others_do_not_is_bad() {
        let failing = Part { failed_percent: Some(30), ..Part::default() };
        let sound = Part { failed_percent: Some(0), ..Part::default() };
        assert_eq!(is_bad(&failing, &[sound, sound]), Some(true));
        assert_eq!(is_bad(&failing, &[failing, failing]), Some(false), "all fail: it is not its fault");
    }

    #[test]
    fn the_opinion_turns_after_ten_seconds_and_not_before() {
        let mut slowness = Slowness::new();
        assert!(!(1..PARTS_TO_TURN).any(|_| slowness.judge(Some(true))));
        assert!(slowness.judge(Some(true)));
        assert!(slowness.degraded());
        // One good part between bad ones restores nobody.
        slowness.judge(Some(false));
        slowness.judge(Some(true));
        assert!(!(1..PARTS_TO_TURN).any(|_| slowness.judge(Some(false))));
        assert!(slowness.judge(Some(false)));
        assert!(!slowness.degraded());
    }

    #[test]
    fn one_of_whom_nothing_is_heard_gets_another_chance() {
        let mut slowness = Slowness::new();
        (0..PARTS_TO_TURN).for_each(|_| _ = slowness.judge(Some(true)));
        assert!(!(1..PARTS_BLANK).any(|_| slowness.judge(None)));
        assert!(slowness.judge(None));
        assert!(!slowness.degraded());
    }
}
