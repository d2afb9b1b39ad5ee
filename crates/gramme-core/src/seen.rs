//! The seen clock of one partition replica: which dots of the partition it has merged.
//!
//! Per incarnation a set of intervals that usually is one run from 0, the *base*; what lies above a hole
//! is an exception. Rows are stored per (partition, incarnation) in the same batch as the data that made
//! them true, so a dot is in the seen clock if and only if a state with it in its past is in the store
//! (correctness.md 2.3, I1).
//!
//! It refuses to guess: only dots that were merged, as siblings of a record, are ever added.

use crate::clock::{Clock, Interval};
use crate::codec::{BadBytes, Reader, Writer};
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

    /// Takes `lo + 1 ..= hi` out again.
    fn remove(&mut self, lo: u64, hi: u64) {
        let runs = core::mem::take(&mut self.runs);
        let halves = runs.into_iter().flat_map(|run| [(run.0, run.1.min(lo)), (run.0.max(hi), run.1)]);
        self.runs = halves.filter(|run| run.0 < run.1).collect();
    }

    /// The runs `(lo, hi]` of `other` that are not here.
    pub fn lacking<'a>(&'a self, other: &'a SeenRow) -> impl Iterator<Item = (u64, u64)> + 'a {
        other.runs.iter().flat_map(move |&(lo, hi)| {
            let from = self.runs.partition_point(|run| run.1 <= lo);
            let mine = self.runs[from..].iter().copied().take_while(move |run| run.0 < hi);
            let mut at = lo;
            mine.chain([(hi, hi)]).filter_map(move |(from, to)| {
                let gap = (at, from.min(hi));
                at = at.max(to);
                (gap.0 < gap.1).then_some(gap)
            })
        })
    }
}

impl SeenRow {
    /// Feeds a hash with whose row this is and what it says.
    pub(crate) fn hash_into(&self, incarnation: Incarnation, hash: &mut xxhash_rust::xxh3::Xxh3) {
        hash.update(&incarnation.0.to_le_bytes());
        hash.update(&(self.runs.len() as u64).to_le_bytes());
        for (lo, hi) in &self.runs {
            hash.update(&lo.to_le_bytes());
            hash.update(&hi.to_le_bytes());
        }
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

    /// Whether nothing was merged.
    pub fn is_empty(&self) -> bool {
        self.rows.values().all(|row| row.runs.is_empty())
    }

    /// Whether everything that the other has is here too.
    pub fn contains(&self, other: &Seen) -> bool {
        self.lacking(other).next().is_none()
    }

    /// The runs that the other has and this one lacks: the exact lag of the one behind the other.
    pub fn lacking<'a>(&'a self, other: &'a Seen) -> impl Iterator<Item = Interval> + 'a {
        static NOTHING: SeenRow = SeenRow { runs: Vec::new() };
        other.rows.iter().flat_map(move |(&incarnation, row)| {
            let mine = self.rows.get(&incarnation).unwrap_or(&NOTHING);
            mine.lacking(row).map(move |(lo, hi)| Interval { incarnation, lo, hi })
        })
    }

    /// How many dots the other has and this one lacks.
    pub fn count_lacking(&self, other: &Seen) -> u64 {
        self.lacking(other).map(|run| run.hi - run.lo).sum()
    }

    /// Takes dots out again: of what a state would have shown that arrived broken, nothing is claimed.
    pub fn remove(&mut self, run: Interval) {
        if run.lo < run.hi
            && let Some(row) = self.rows.get_mut(&run.incarnation)
        {
            row.remove(run.lo, run.hi);
        }
    }

    /// 64 bits that two clocks share only if they have the same dots, as far as chance can be trusted.
    pub fn digest(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for (incarnation, row) in self.rows.iter().filter(|(_, row)| !row.runs.is_empty()) {
            row.hash_into(*incarnation, &mut hash);
        }
        hash.digest()
    }
}

/// Appends a seen clock.
pub fn write_seen(w: &mut Writer, seen: &Seen) {
    let rows = || seen.rows().filter(|(_, row)| !row.runs.is_empty());
    w.varint(rows().count() as u64);
    for (incarnation, row) in rows() {
        w.u64(incarnation.0);
        write_row(w, row);
    }
}

/// Appends the row of one incarnation.
pub fn write_row(w: &mut Writer, row: &SeenRow) {
    w.varint(row.runs.len() as u64);
    let mut at = 0;
    for &(lo, hi) in &row.runs {
        w.varint(lo - at);
        w.varint(hi - lo);
        at = hi;
    }
}

/// Reads a seen clock.
pub fn read_seen(r: &mut Reader<'_>) -> Result<Seen, BadBytes> {
    let mut seen = Seen::new();
    let mut before = None;
    for _ in 0..r.count_of(ROW_BYTES_MIN)? {
        let incarnation = Incarnation(r.u64()?);
        if before.is_some_and(|before| before >= incarnation) {
            return Err(BadBytes::Malformed);
        }
        before = Some(incarnation);
        let row = read_row(r)?;
        if row.runs.is_empty() {
            return Err(BadBytes::Malformed);
        }
        seen.rows.insert(incarnation, row);
    }
    Ok(seen)
}

/// Reads the row of one incarnation.
pub fn read_row(r: &mut Reader<'_>) -> Result<SeenRow, BadBytes> {
    let count = r.count_of(RUN_BYTES_MIN)?;
    let mut runs: Vec<(u64, u64)> = Vec::with_capacity(count);
    let mut at = 0u64;
    for _ in 0..count {
        let gap = r.varint()?;
        let lo = at.checked_add(gap).ok_or(BadBytes::Malformed)?;
        let hi = lo.checked_add(r.varint()?).ok_or(BadBytes::Malformed)?;
        if hi == lo || (gap == 0 && !runs.is_empty()) {
            return Err(BadBytes::Malformed);
        }
        runs.push((lo, hi));
        at = hi;
    }
    Ok(SeenRow { runs })
}

/// The fewest bytes that the row of one incarnation, and one run of it, can take.
const ROW_BYTES_MIN: usize = 11;
const RUN_BYTES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(u64, &[(u64, u64)])]) -> Seen {
        let mut seen = Seen::new();
        for &(incarnation, runs) in rows {
            seen.set_row(Incarnation(incarnation), SeenRow::from_runs(runs.iter().copied()));
        }
        seen
    }

    #[test]
    fn what_one_lacks_of_another_is_exact() {
        let (mine, theirs) = (of(&[(1, &[(0, 5), (7, 9)])]), of(&[(1, &[(0, 12)]), (2, &[(3, 4)])]));
        let lacking: Vec<(u64, u64, u64)> =
            mine.lacking(&theirs).map(|run| (run.incarnation.0, run.lo, run.hi)).collect();
        assert_eq!(lacking, [(1, 5, 7), (1, 9, 12), (2, 3, 4)]);
        assert_eq!((mine.count_lacking(&theirs), theirs.count_lacking(&mine)), (6, 0));
        assert!(theirs.contains(&mine) && !mine.contains(&theirs));
    }

    #[test]
    fn every_pair_of_small_rows_agrees_with_counting() {
        let row = |bits: u32| SeenRow::from_runs((0..6).filter(|n| bits >> n & 1 == 1).map(|n| (n, n + 1)));
        for (a, b) in (0..64u32).flat_map(|a| (0..64u32).map(move |b| (a, b))) {
            let (mut mine, mut theirs) = (Seen::new(), Seen::new());
            mine.set_row(Incarnation(1), row(a));
            theirs.set_row(Incarnation(1), row(b));
            assert_eq!(mine.count_lacking(&theirs), u64::from((b & !a).count_ones()), "{a:b} and {b:b}");
            for n in 1..=6u64 {
                let mut less = mine.clone();
                less.remove(Interval { incarnation: Incarnation(1), lo: n - 1, hi: n });
                assert_eq!(less.row(Incarnation(1)), Some(&row(a & !(1 << (n - 1)))), "{a:b} without {n}");
            }
        }
    }

    #[test]
    fn digests_are_equal_exactly_when_the_dots_are() {
        let seen = of(&[(1, &[(0, 5)]), (2, &[])]);
        assert_eq!(seen.digest(), of(&[(1, &[(0, 5)])]).digest(), "an empty row says nothing");
        assert_ne!(seen.digest(), of(&[(1, &[(0, 6)])]).digest());
        assert_ne!(seen.digest(), of(&[(2, &[(0, 5)])]).digest());
    }

    #[test]
    fn it_reads_as_it_was_written_and_refuses_disorder() {
        let seen = of(&[(3, &[(0, 5), (7, 300)]), (9, &[(1, 2)]), (10, &[])]);
        let mut w = Writer::new();
        write_seen(&mut w, &seen);
        let bytes = w.into_bytes();
        let read = read_seen(&mut Reader::new(&bytes)).expect("what was written reads");
        assert!(read.contains(&seen) && seen.contains(&read));
        for cut in 0..bytes.len() {
            assert!(read_seen(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
        let twice = [&[2], &bytes[1..14], &bytes[1..14]].concat();
        assert!(read_seen(&mut Reader::new(&twice)).is_err(), "an incarnation stands there once");
    }

    #[test]
    fn bases_are_what_is_contiguous_from_the_first() {
        let seen = of(&[(1, &[(0, 5), (7, 9)]), (2, &[(1, 3)])]);
        assert_eq!(seen.bases(), Frontier::from_bases([(Incarnation(1), 5)]));
    }
}
