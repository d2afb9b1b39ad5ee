//! The clocks of one host: a monotonic one that starts with the process and runs a little fast or slow,
//! and a wall clock that is off, drifts and jumps.

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    /// True nanoseconds at the start of the process.
    pub started: u64,
    /// How much faster than true time the monotonic clock runs, in millionths.
    pub mono_ppm: i64,
    /// How far the wall clock is off, in milliseconds.
    pub wall_offset_ms: i64,
    /// How much faster than true time the wall clock runs, in millionths.
    pub wall_ppm: i64,
}

impl HostClock {
    /// The monotonic clock at a true time, both in nanoseconds.
    pub fn mono(&self, now: u64) -> u64 {
        let lived = i128::from(now.saturating_sub(self.started));
        (lived * i128::from(MILLION + self.mono_ppm) / i128::from(MILLION)) as u64
    }

    /// The first true time at which the monotonic clock shows at least `mono`.
    pub fn when(&self, mono: u64) -> u64 {
        let rate = i128::from(MILLION + self.mono_ppm);
        let lived = (i128::from(mono) * i128::from(MILLION) + rate - 1) / rate;
        let lived = u64::try_from(lived).unwrap_or(FAR);
        self.started.saturating_add(lived.min(FAR))
    }

    /// The wall clock at a true time, in milliseconds since 1970.
    pub fn wall_ms(&self, now: u64) -> u64 {
        let true_ms = now as i64 / 1_000_000;
        let shown = true_ms + true_ms * self.wall_ppm / MILLION + self.wall_offset_ms;
        (EPOCH_MS + shown).max(0) as u64
    }
}

const MILLION: i64 = 1_000_000;
/// The wall time at which every run begins, for clocks that are not off.
const EPOCH_MS: i64 = 1_760_000_000_000;
/// Later than any run lasts, in nanoseconds.
const FAR: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_never_fires_before_its_clock_shows_the_time() {
        for ppm in [-400, -1, 0, 3, 400] {
            let clock = HostClock { started: 5_000, mono_ppm: ppm, ..HostClock::default() };
            for mono in [0, 1, 999, 1_000_000_007, 90_000_000_000] {
                let at = clock.when(mono);
                assert!(clock.mono(at) >= mono, "{ppm} ppm, {mono}");
                assert!(
                    at == clock.started || clock.mono(at - 1) < mono,
                    "{ppm} ppm, {mono}: not later than needed"
                );
            }
        }
    }
}
