//! How much background work may go on, decided from how the foreground fares (the paper, 6.5, BG-1 to BG-3;
//! correctness.md 7). Plain arithmetic over figures that someone else measures.
//!
//! Every few seconds the measured figures are held against what they were when it was quiet. Too slow over the
//! whole window, and still too slow: the budget is cut by a share. Calm: it grows by a step. So it backs off at
//! once and returns with care (multiplicative decrease, additive increase).
//!
//! Invariant: the budget never leaves [`BACKGROUND_BYTES_MIN`]`..=`[`BACKGROUND_BYTES_MAX`]: background work never
//! stops, since whoever waits for it to be quiet before repairing waits for ever.

use crate::limits::{BACKGROUND_BYTES_MAX, BACKGROUND_BYTES_MIN, BACKGROUND_BYTES_START};

/// What was measured since the last step; times in microseconds, 0 if nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The foreground's 99th percentile over the whole window.
    pub window_us: u64,
    /// The same over its newest part alone.
    pub newest_us: u64,
    /// The 99th percentile of waits for a durable batch, over the whole window.
    pub sync_window_us: u64,
    /// The same over its newest part alone.
    pub sync_newest_us: u64,
    /// How full the fullest of the node's own queues is, in per cent.
    pub queues_percent: u64,
    /// Bytes per second of background work in the window.
    pub background_bytes_per_s: u64,
}

/// What a step did to the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// The foreground was slow: cut.
    Cut,
    /// It was slow, and is recovering: left as it is.
    Held,
    /// All is calm: more.
    Grown,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    budget: u64,
    foreground: Quiet,
    sync: Quiet,
}

/// What a figure is when no background work disturbs it; none before the first quiet window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Quiet(Option<u64>);

impl Default for Steering {
    fn default() -> Steering {
        Steering { budget: BACKGROUND_BYTES_START, foreground: Quiet::default(), sync: Quiet::default() }
    }
}

impl Steering {
    /// Bytes per second that background work may cause.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The 99th percentile of the foreground beyond which the budget is cut, in microseconds.
    pub fn limit_us(&self) -> u64 {
        self.foreground.limit_us()
    }

    /// The same for waits for a durable batch.
    pub fn sync_limit_us(&self) -> u64 {
        self.sync.limit_us()
    }

    /// Takes the next figures.
    pub fn step(&mut self, seen: &Figures) -> Steered {
        // At the floor background work disturbs as little as it can: what is slow then is slow by itself, and
        // background work must not be made to pay for it for ever.
        let is_quiet = seen.background_bytes_per_s <= BACKGROUND_BYTES_MIN;
        if is_quiet {
            self.foreground.learn(seen.window_us);
            self.sync.learn(seen.sync_window_us);
        }
        let slow = |limit: u64, us: u64| us > limit;
        let window = slow(self.limit_us(), seen.window_us) || slow(self.sync_limit_us(), seen.sync_window_us);
        let newest = slow(self.limit_us(), seen.newest_us) || slow(self.sync_limit_us(), seen.sync_newest_us);
        let crowded = seen.queues_percent >= CROWDED_PERCENT;
        if crowded || (window && newest) {
            self.budget = (self.budget / 2).max(BACKGROUND_BYTES_MIN);
            Steered::Cut
        } else if window || newest {
            Steered::Held
        } else {
            self.budget = (self.budget + STEP_BYTES).min(BACKGROUND_BYTES_MAX);
            Steered::Grown
        }
    }
}

impl Quiet {
    /// Follows what is measured in quiet: at once when it is faster, slowly when it is slower.
    fn learn(&mut self, us: u64) {
        if us == 0 {
            return;
        }
        self.0 = Some(match self.0 {
            Some(before) if us > before => before + (us - before).div_ceil(LEARN_SLOWNESS),
            _ => us,
        });
    }

    fn limit_us(&self) -> u64 {
        self.0.map_or(LIMIT_US_UNKNOWN, |quiet| (2 * quiet).max(LIMIT_US_MIN))
    }
}

/// The paper's example, until something better is known.
const LIMIT_US_UNKNOWN: u64 = 50_000;
/// Below this nobody is disturbed, whatever it was in quiet.
const LIMIT_US_MIN: u64 = 5_000;
const STEP_BYTES: u64 = 2 << 20;
const CROWDED_PERCENT: u64 = 25;
const LEARN_SLOWNESS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Figures {
        Figures {
            window_us: 2_000,
            newest_us: 2_000,
            sync_window_us: 1_000,
            sync_newest_us: 1_000,
            ..Figures::default()
        }
    }

    fn slow() -> Figures {
        let busy = BACKGROUND_BYTES_START;
        Figures { window_us: 80_000, newest_us: 80_000, background_bytes_per_s: busy, ..calm() }
    }

    #[test]
    fn a_slow_foreground_halves_the_budget_down_to_the_floor_and_no_further() {
        let mut steering = Steering::default();
        assert_eq!(steering.step(&slow()), Steered::Cut);
        assert_eq!(steering.budget(), BACKGROUND_BYTES_START / 2);
        for _ in 0..100 {
            steering.step(&slow());
        }
        assert_eq!(steering.budget(), BACKGROUND_BYTES_MIN);
    }

    #[test]
    fn calm_lets_it_grow_step_by_step_up_to_the_ceiling() {
        let mut steering = Steering::default();
        assert_eq!(steering.step(&calm()), Steered::Grown);
        assert_eq!(steering.budget(), BACKGROUND_BYTES_START + STEP_BYTES);
        for _ in 0..10_000 {
            steering.step(&calm());
        }
        assert_eq!(steering.budget(), BACKGROUND_BYTES_MAX);
    }

    #[test]
    fn a_foreground_that_is_recovering_is_left_in_peace() {
        let mut steering = Steering::default();
        assert_eq!(steering.step(&Figures { newest_us: 1_000, ..slow() }), Steered::Held);
        assert_eq!(steering.budget(), BACKGROUND_BYTES_START);
    }

    #[test]
    fn slow_syncs_and_full_queues_cut_it_too() {
        let busy = Figures { background_bytes_per_s: BACKGROUND_BYTES_START, ..calm() };
        let sync = Figures { sync_window_us: 90_000, sync_newest_us: 90_000, ..busy };
        assert_eq!(Steering::default().step(&sync), Steered::Cut);
        assert_eq!(
            Steering::default().step(&Figures { queues_percent: CROWDED_PERCENT, ..busy }),
            Steered::Cut
        );
    }

    #[test]
    fn the_limit_is_twice_what_it_is_in_quiet() {
        let mut steering = Steering::default();
        assert_eq!(steering.limit_us(), LIMIT_US_UNKNOWN);
        steering.step(&Figures { window_us: 10_000, ..Figures::default() });
        assert_eq!(steering.limit_us(), 20_000);
        steering.step(&Figures { window_us: 100, ..Figures::default() });
        assert_eq!(steering.limit_us(), LIMIT_US_MIN, "below that nobody is disturbed");
    }

    #[test]
    fn what_is_slow_by_itself_does_not_hold_background_work_at_the_floor_for_ever() {
        let mut steering = Steering::default();
        steering.step(&calm());
        let heavy = |steering: &Steering| Figures { background_bytes_per_s: steering.budget(), ..slow() };
        let mut steps = 0;
        while steering.budget() <= BACKGROUND_BYTES_START {
            steering.step(&heavy(&steering));
            steps += 1;
            assert!(steps < 200, "the budget stays at {}", steering.budget());
        }
    }

    #[test]
    fn nothing_measured_is_calm() {
        assert_eq!(Steering::default().step(&Figures::default()), Steered::Grown);
    }
}
