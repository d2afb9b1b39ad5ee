//! The seen clock of one partition replica: which dots of the partition it has merged.
//!
//! Per incarnation a set of intervals that usually is one run from 0, the *base*; what lies above a hole
//! is an exception. Rows are stored per (partition, incarnation) in the same batch as the data that made
//! them true, so a dot is in the seen clock if and only if a state with it in its past is in the store
//! (correctness.md 2.3, I1).
//!
//! It refuses to guess: only dots that were merged, as siblings of a record, are ever added.

use crate::clock::{Clock, Interval};
use crate::frontier::Frontier;
use crate::id::{Dot, Incarnation};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The dots that a partition replica has merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    rows: BTreeMap<Incarnation, SeenRow>,
}

/// The part of one incarnation: disjoint ascending runs `(lo, hi]` that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenRow {
    runs: Vec<(u64, u64)>,
}

impl SeenRow {
    /// A row from runs in any order.
    pub fn from_runs(runs: impl IntoIterator<Item = (u64, u64)>) -> SeenRow {
        let mut row = SeenRow::default();
        for (lo, hi) in runs {
            row.add(lo, hi);
        }
        row
    }

    /// In ascending order.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// The greatest number up to which nothing is missing; 0 if number 1 is.
    pub fn base(&self) -> u64 {
        self.runs.first().filter(|run| run.0 == 0).map_or(0, |run| run.1)
    }

    /// The greatest number seen.
    pub fn top(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.1)
    }

    /// Whether this number was seen.
    pub fn has(&self, n: u64) -> bool {
        let after = self.runs.partition_point(|run| run.0 < n);
        after > 0 && n <= self.runs[after - 1].1
    }

    /// Whether everything that the other row has is in this one.
    pub fn contains(&self, other: &SeenRow) -> bool {
        other.runs.iter().all(|&(lo, hi)| {
            let after = self.runs.partition_point(|run| run.0 <= lo);
            after > 0 && hi <= self.runs[after - 1].1
        })
    }

    /// Everything that either row has.
    pub fn join(&mut self, other: &SeenRow) {
        for &(lo, hi) in &other.runs {
            self.add(lo, hi);
        }
    }

    /// Adds `lo + 1 ..= hi`; says whether anything was new.
    pub fn add(&mut self, lo: u64, hi: u64) -> bool {
        if lo >= hi {
            return false;
        }
        let at = self.runs.partition_point(|run| run.1 < lo);
        let end = at + self.runs[at..].partition_point(|run| run.0 <= hi);
        if at == end {
            self.runs.insert(at, (lo, hi));
            return true;
        }
        let merged = (lo.min(self.runs[at].0), hi.max(self.runs[end - 1].1));
        if end == at + 1 && merged == self.runs[at] {
            return false;
        }
        self.runs[at] = merged;
        self.runs.drain(at + 1..end);
        true
    }
}

impl Seen {
    /// A replica that has merged nothing.
    pub const fn new() -> Seen {
        Seen { rows: BTreeMap::new() }
    }

    /// Whether the dot was merged.
    pub fn has(&self, dot: Dot) -> bool {
        self.rows.get(&dot.incarnation).is_some_and(|row| row.has(dot.n))
    }

    /// Adds a dot; says whether it was new. Number 0 names no event.
    pub fn add(&mut self, dot: Dot) -> bool {
        self.rows.entry(dot.incarnation).or_default().add(dot.n.saturating_sub(1), dot.n)
    }

    /// Everything that either has.
    pub fn join(&mut self, other: &Seen) {
        for (incarnation, row) in &other.rows {
            self.rows.entry(*incarnation).or_default().join(row);
        }
    }

    /// The row of one incarnation.
    pub fn row(&self, incarnation: Incarnation) -> Option<&SeenRow> {
        self.rows.get(&incarnation)
    }

    /// Puts a row back that was stored.
    pub fn set_row(&mut self, incarnation: Incarnation, row: SeenRow) {
        self.rows.insert(incarnation, row);
    }

    /// In ascending order of incarnation.
    pub fn rows(&self) -> impl Iterator<Item = (Incarnation, &SeenRow)> {
        self.rows.iter().map(|(incarnation, row)| (*incarnation, row))
    }

    /// The contiguous part alone, as a clock: what "has seen everything up to" is true of.
    pub fn base(&self) -> Clock {
        Clock::from_intervals(self.rows.iter().map(|(&incarnation, row)| Interval {
            incarnation,
            lo: 0,
            hi: row.base(),
        }))
    }

    /// The same as a frontier: what a replica reports to its co-homes once it is durable.
    pub fn bases(&self) -> Frontier {
        Frontier::from_bases(self.rows.iter().map(|(&incarnation, row)| (incarnation, row.base())))
    }
}
