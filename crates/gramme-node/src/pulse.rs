//! Was this node frozen? A loop that is stopped (SIGSTOP, a paused virtual machine, a long stall) and goes on
//! finds old writes waiting in its sockets, whose clients have long since written elsewhere. Taking them would
//! put late ghosts over newer acknowledged writes, so for a moment after a gap they are refused (design
//! section 3).
//!
//! The moment is no time alone: on a machine with much else to do the loop may come to the last of them only long
//! after. It ends once the loop's own timer has come round a few times: what was ready before a timer fires is
//! polled before whoever waits for the timer.

use crate::env::Mono;
use gramme_core::limits::{FREEZE_MS, THAW_MS, THAW_ROUNDS};
use std::time::Duration;

/// The beat of one shard's loop; told the time.
#[derive(Debug)]
pub(crate) struct Pulse {
    last: Mono,
    thawed: Option<Mono>,
    /// How often the timer has come round since.
    rounds: u32,
}

impl Pulse {
    /// Beats for the first time.
    pub(crate) fn new(now: Mono) -> Pulse {
        Pulse { last: now, thawed: None, rounds: 0 }
    }

    /// The loop is alive; says whether it had stopped.
    pub(crate) fn beat(&mut self, now: Mono) -> bool {
        let stopped = now.since(self.last) > Duration::from_millis(FREEZE_MS);
        if stopped {
            self.thawed = Some(now);
            self.rounds = 0;
        }
        self.last = self.last.max(now);
        stopped
    }

    /// The loop's timer has come round.
    pub(crate) fn round(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
    }

    /// Whether what arrives may have waited through a gap.
    pub(crate) fn refuses(&self, now: Mono) -> bool {
        let may_still_come =
            |thawed| now.since(thawed) < Duration::from_millis(THAW_MS) || self.rounds < THAW_ROUNDS;
        self.thawed.is_some_and(may_still_come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_beating_loop_refuses_nothing() {
        let mut pulse = Pulse::new(at(0));
        for ms in (100..5_000).step_by(100) {
            assert!(!pulse.beat(at(ms)));
            assert!(!pulse.refuses(at(ms)));
        }
    }

    #[test]
    fn after_a_gap_writes_are_refused_for_a_moment_and_then_taken_again() {
        let mut pulse = Pulse::new(at(0));
        assert!(pulse.beat(at(FREEZE_MS + 1)));
        assert!(pulse.refuses(at(FREEZE_MS + 1)));
        assert!(pulse.refuses(at(FREEZE_MS + THAW_MS)));
        (0..THAW_ROUNDS).for_each(|_| pulse.round());
        assert!(!pulse.beat(at(FREEZE_MS + THAW_MS + 2)));
        assert!(!pulse.refuses(at(FREEZE_MS + THAW_MS + 2)));
    }

    /// A node that was stopped for 15 s on a busy machine took two writes 150 ms after it went on, whose clients had
    /// long had them served elsewhere, and one of which had been deleted and its tombstone reclaimed.
    #[test]
    fn a_loop_that_is_slow_to_come_round_refuses_for_as_long() {
        let mut pulse = Pulse::new(at(0));
        pulse.beat(at(15_000));
        for round in 0..THAW_ROUNDS {
            let now = at(15_400 + u64::from(round) * 400);
            assert!(!pulse.beat(now) && pulse.refuses(now), "after {round} rounds");
            pulse.round();
        }
        assert!(!pulse.refuses(at(17_000)));
    }
}
