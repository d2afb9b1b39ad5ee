//! Was this node frozen? A loop that is stopped (SIGSTOP, a paused virtual machine, a long stall) and goes on
//! finds old writes waiting in its sockets, whose clients have long since written elsewhere. Taking them would
//! put late ghosts over newer acknowledged writes, so for a moment after a gap they are refused (design
//! section 3).

use crate::env::Mono;
use gramme_core::limits::{FREEZE_MS, THAW_MS};
use std::time::Duration;

/// The beat of one shard's loop; told the time.
#[derive(Debug)]
pub(crate) struct Pulse {
    last: Mono,
    thawed: Option<Mono>,
}

impl Pulse {
    /// Beats for the first time.
    pub(crate) fn new(now: Mono) -> Pulse {
        Pulse { last: now, thawed: None }
    }

    /// The loop is alive; says whether it had stopped.
    pub(crate) fn beat(&mut self, now: Mono) -> bool {
        let stopped = now.since(self.last) > Duration::from_millis(FREEZE_MS);
        if stopped {
            self.thawed = Some(now);
        }
        self.last = self.last.max(now);
        stopped
    }

    /// Whether what arrives may have waited through a gap.
    pub(crate) fn refuses(&self, now: Mono) -> bool {
        self.thawed.is_some_and(|thawed| now.since(thawed) < Duration::from_millis(THAW_MS))
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
        assert!(!pulse.beat(at(FREEZE_MS + THAW_MS + 2)));
        assert!(!pulse.refuses(at(FREEZE_MS + THAW_MS + 2)));
    }
}
