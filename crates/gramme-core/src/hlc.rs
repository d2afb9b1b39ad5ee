//! Hybrid logical time: milliseconds of the wall clock with a counter, so that stamps of one node only
//! grow and a stamp that answers another is greater than it.
//!
//! Stamps *advise* (last-writer choice among true siblings, expiry, display); dots decide. So a broken
//! clock may choose a worse winner among concurrent values, and can never lose one.
//!
//! Invariant: the stamps that one [`Hlc`] gives ascend strictly, whatever the wall clock does. A remote
//! stamp further ahead than [`CLOCK_AHEAD_MS_MAX`] never moves it (U14).

use crate::limits::CLOCK_AHEAD_MS_MAX;
use core::fmt;

/// A point in hybrid time: 48 bits of milliseconds since 1970, 16 bits of counter.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The first stamp of a millisecond; times past the year 10889 are taken for its last one.
    pub const fn from_ms(ms: u64) -> Stamp {
        Stamp(if ms > MS_MAX { MS_MAX << 16 } else { ms << 16 })
    }

    /// Its milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// Its place within the millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.ms(), self.counter())
    }
}

/// A remote stamp was further ahead than a sound clock can be; it was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFarAhead {
    /// By how many milliseconds.
    pub ahead_ms: u64,
}

/// One node's hybrid clock; told the wall time, never reading it.
#[derive(Clone, Debug, Default)]
pub struct Hlc {
    last: Stamp,
}

impl Hlc {
    /// A clock that gives stamps greater than `bound`, the one persisted by an earlier life. A bound
    /// further ahead of the wall than [`CLOCK_AHEAD_MS_MAX`] is dropped and reported.
    pub fn restore(bound: Stamp, wall_ms: u64) -> (Hlc, Option<TooFarAhead>) {
        match ahead(bound, wall_ms) {
            Some(too_far) => (Hlc { last: Stamp::from_ms(wall_ms) }, Some(too_far)),
            None => (Hlc { last: bound }, None),
        }
    }

    /// The stamp of an event that happens here at this wall time.
    pub fn next(&mut self, wall_ms: u64) -> Stamp {
        self.last = Stamp(self.last.0 + 1).max(Stamp::from_ms(wall_ms));
        self.last
    }

    /// Takes note of a stamp from elsewhere, so that later events here are stamped after it.
    pub fn observe(&mut self, remote: Stamp, wall_ms: u64) -> Result<(), TooFarAhead> {
        match ahead(remote, wall_ms) {
            Some(too_far) => Err(too_far),
            None => {
                self.last = self.last.max(remote);
                Ok(())
            }
        }
    }

    /// What the time is, in milliseconds since 1970: never before a stamp that was given or followed here. By this
    /// reading values expire, so a wall clock that lags behind the writer's does not keep them longer than their
    /// stamps say; one that is ahead and not followed by anyone expires early for its own readers alone.
    pub fn reading(&self, wall_ms: u64) -> u64 {
        self.last.ms().max(wall_ms)
    }

    /// The greatest stamp given or followed.
    pub fn last(&self) -> Stamp {
        self.last
    }
}

const MS_MAX: u64 = (1 << 48) - 1;

fn ahead(stamp: Stamp, wall_ms: u64) -> Option<TooFarAhead> {
    let ahead_ms = stamp.ms().saturating_sub(wall_ms);
    (ahead_ms > CLOCK_AHEAD_MS_MAX).then_some(TooFarAhead { ahead_ms })
}
