//! The clock of one record: which events of its key lie in its past.
//!
//! Per incarnation it holds intervals `(lo, hi]`, each saying "every event of this incarnation *for this
//! key* in (lo, hi] is in my past". Numbers are counted per partition, so most of them name events of
//! other keys; covering those is harmless, because no sibling of this key bears them.
//!
//! Invariant: sorted by (incarnation, lo); intervals are not empty, do not overlap and do not touch.
//!
//! A clock refuses to begin at 0 by itself: a coordinator without a local record starts at (n-1, n] and
//! so claims nothing that it may have forgotten (design section 3; Riak's per-key epochs in one rule).

use crate::id::{Dot, Incarnation};
use alloc::vec::Vec;

/// One run of events: those of `incarnation` numbered `lo + 1 ..= hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// Whose events.
    pub incarnation: Incarnation,
    /// The last number before the run.
    pub lo: u64,
    /// The last number of the run; greater than `lo`.
    pub hi: u64,
}

/// A set of events, as intervals; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    intervals: Vec<Interval>,
}

impl Clock {
    /// The clock that has seen nothing.
    pub const fn new() -> Clock {
        Clock { intervals: Vec::new() }
    }

    /// The clock that has seen exactly this event.
    pub fn of(dot: Dot) -> Clock {
        let mut clock = Clock::new();
        clock.add_dot(dot);
        clock
    }

    /// A clock from intervals in any order, overlapping or not. Empty ones are dropped.
    pub fn from_intervals(intervals: impl IntoIterator<Item = Interval>) -> Clock {
        let mut clock = Clock { intervals: intervals.into_iter().filter(|i| i.lo < i.hi).collect() };
        clock.normalise();
        clock
    }

    /// In ascending order, disjoint and not touching.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Whether the event lies in its past.
    pub fn covers(&self, dot: Dot) -> bool {
        let after = self.intervals.partition_point(|i| (i.incarnation, i.lo) < (dot.incarnation, dot.n));
        after > 0 && {
            let run = self.intervals[after - 1];
            run.incarnation == dot.incarnation && dot.n <= run.hi
        }
    }

    /// Whether everything in the other's past lies in this one's.
    pub fn contains(&self, other: &Clock) -> bool {
        other.intervals.iter().all(|wanted| {
            let after =
                self.intervals.partition_point(|i| (i.incarnation, i.lo) <= (wanted.incarnation, wanted.lo));
            after > 0 && {
                let run = self.intervals[after - 1];
                run.incarnation == wanted.incarnation && wanted.hi <= run.hi
            }
        })
    }

    /// The last interval of one incarnation, if it has any.
    pub fn last_of(&self, incarnation: Incarnation) -> Option<Interval> {
        let after = self.intervals.partition_point(|i| i.incarnation <= incarnation);
        self.intervals[..after].last().copied().filter(|i| i.incarnation == incarnation)
    }

    /// Adds the events `lo + 1 ..= hi` of an incarnation; an empty run adds nothing.
    pub fn add(&mut self, incarnation: Incarnation, lo: u64, hi: u64) {
        if lo >= hi {
            return;
        }
        let at = self.intervals.partition_point(|i| (i.incarnation, i.hi) < (incarnation, lo));
        match self.intervals.get_mut(at) {
            Some(run) if run.incarnation == incarnation && run.lo <= hi => {
                run.lo = run.lo.min(lo);
                run.hi = run.hi.max(hi);
                self.absorb_followers(at);
            }
            _ => self.intervals.insert(at, Interval { incarnation, lo, hi }),
        }
    }

    /// Adds one event. Events are numbered from 1: number 0 is none and adds nothing.
    pub fn add_dot(&mut self, dot: Dot) {
        self.add(dot.incarnation, dot.n.saturating_sub(1), dot.n);
    }

    /// Takes one event out, splitting its run if need be. For what must not be claimed: a sibling that is
    /// refused takes its own dot out of the clock that it came with (correctness.md 2.2).
    pub fn subtract(&mut self, dot: Dot) {
        let after = self.intervals.partition_point(|i| (i.incarnation, i.lo) < (dot.incarnation, dot.n));
        let Some(at) = after.checked_sub(1) else { return };
        let run = self.intervals[at];
        if run.incarnation != dot.incarnation || run.hi < dot.n {
            return;
        }
        let parts = [Interval { hi: dot.n - 1, ..run }, Interval { lo: dot.n, ..run }];
        self.intervals.splice(at..=at, parts.into_iter().filter(|part| part.lo < part.hi));
    }

    /// Whether `other` knows of a later event of this incarnation than this clock does.
    pub fn shows_less_of(&self, incarnation: Incarnation, other: &Clock) -> bool {
        let last = |clock: &Clock| clock.last_of(incarnation).map_or(0, |run| run.hi);
        last(other) > last(self)
    }

    /// The runs that hold any of these events; the others are forgotten. For contexts only, which may say
    /// less than they know: a *record's* clock that forgets brings overwritten values back (VE-8).
    pub fn runs_holding(&self, dots: impl IntoIterator<Item = Dot>) -> Clock {
        let holding = |dot: Dot| {
            let after = self.intervals.partition_point(|i| (i.incarnation, i.lo) < (dot.incarnation, dot.n));
            self.intervals[..after]
                .last()
                .copied()
                .filter(|run| run.incarnation == dot.incarnation && dot.n <= run.hi)
        };
        Clock::from_intervals(dots.into_iter().filter_map(holding))
    }

    /// The union: commutative, associative, idempotent.
    pub fn join(&mut self, other: &Clock) {
        if self.intervals == other.intervals {
            return;
        }
        for i in &other.intervals {
            self.add(i.incarnation, i.lo, i.hi);
        }
    }

    fn absorb_followers(&mut self, at: usize) {
        let Interval { incarnation, mut hi, .. } = self.intervals[at];
        let mut end = at + 1;
        while let Some(next) = self.intervals.get(end)
            && next.incarnation == incarnation
            && next.lo <= hi
        {
            hi = hi.max(next.hi);
            end += 1;
        }
        self.intervals[at].hi = hi;
        self.intervals.drain(at + 1..end);
    }

    fn normalise(&mut self) {
        self.intervals.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        for &i in &self.intervals {
            match merged.last_mut() {
                Some(run) if run.incarnation == i.incarnation && i.lo <= run.hi => run.hi = run.hi.max(i.hi),
                _ => merged.push(i),
            }
        }
        self.intervals = merged;
    }
}
