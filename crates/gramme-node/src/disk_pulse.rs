//! Does this node's own disk stall? Its syncs are held against what they usually take, the one on its way
//! included: a node whose disk hangs says so itself, and does not take its peers' patience for its own.

use crate::env::Mono;
use std::time::Duration;

/// The syncs of one shard.
#[derive(Debug, Default)]
pub(crate) struct DiskPulse {
    began: Option<Mono>,
    /// A slow average; what stalls counts little, or a sick disk would soon be usual.
    usual: Duration,
    stalled: Option<(Mono, Duration)>,
}

impl DiskPulse {
    /// A sync begins.
    pub(crate) fn begin(&mut self, now: Mono) {
        self.began = Some(now);
    }

    /// It has ended.
    pub(crate) fn end(&mut self, now: Mono) {
        let Some(began) = self.began.take() else { return };
        let took = now.since(began);
        if self.is_stall(took) {
            self.stalled = Some((now, took));
        }
        let counted = if self.usual.is_zero() { took } else { took.min(self.usual * 2) };
        self.usual = (self.usual * 15 + counted) / 16;
    }

    /// How long the sync on its way stalls, or a recent one did; zero if all is well.
    pub(crate) fn stalls_for(&self, now: Mono) -> Duration {
        let on_its_way = self.began.map_or(Duration::ZERO, |began| now.since(began));
        if self.is_stall(on_its_way) {
            return on_its_way;
        }
        match self.stalled {
            Some((at, took)) if now.since(at) < REMEMBERED => took,
            _ => Duration::ZERO,
        }
    }

    fn is_stall(&self, took: Duration) -> bool {
        took > (self.usual * TIMES_SLOWER).max(STALL_MIN)
    }
}

const TIMES_SLOWER: u32 = 10;
/// No disk stalls for less.
const STALL_MIN: Duration = Duration::from_millis(100);
const REMEMBERED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn used_to(took_ms: u64) -> DiskPulse {
        let mut pulse = DiskPulse::default();
        for n in 0..100 {
            pulse.begin(at(n * 1_000));
            pulse.end(at(n * 1_000 + took_ms));
        }
        pulse
    }

    #[test]
    fn a_sync_that_hangs_is_seen_while_it_hangs_and_for_a_while_after() {
        let mut pulse = used_to(2);
        pulse.begin(at(200_000));
        assert_eq!(pulse.stalls_for(at(200_050)), Duration::ZERO);
        assert_eq!(pulse.stalls_for(at(200_150)), Duration::from_millis(150));
        pulse.end(at(200_300));
        assert_eq!(pulse.stalls_for(at(201_000)), Duration::from_millis(300));
        assert_eq!(pulse.stalls_for(at(203_000)), Duration::ZERO);
    }

    #[test]
    fn a_disk_that_is_always_slow_does_not_stall() {
        let mut pulse = used_to(50);
        pulse.begin(at(200_000));
        assert_eq!(pulse.stalls_for(at(200_400)), Duration::ZERO);
        assert_eq!(pulse.stalls_for(at(200_600)), Duration::from_millis(600));
    }
}
