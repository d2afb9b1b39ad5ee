//! Which key a recent dot belongs to: a pull session that lacks only recent dots reads their keys and not the
//! whole partition (correctness.md 4: the dot index).
//!
//! Invariant: a dot that is here is an event of this row. What is not here may be anywhere: the oldest are
//! forgotten, and a session that lacks one of those reads everything.

use bytes::Bytes;
use gramme_core::limits::RECENT_DOTS_MAX;
use gramme_core::{Dot, Interval};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    rows: BTreeMap<Dot, Bytes>,
    order: VecDeque<Dot>,
}

impl Recent {
    /// An event of this row was minted, or a sibling of it merged.
    pub(crate) fn note(&mut self, dot: Dot, row: &Bytes) {
        if self.rows.insert(dot, row.clone()).is_none() {
            self.order.push_back(dot);
        }
        if self.order.len() > RECENT_DOTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }

    /// The rows of all these dots that begin so, in order; `None` if one of the dots is not known, or they are
    /// more than `max`.
    pub(crate) fn rows_of(
        &self,
        lacking: impl Iterator<Item = Interval>,
        prefix: &[u8],
        max: usize,
    ) -> Option<BTreeSet<Bytes>> {
        let mut found = BTreeSet::new();
        let mut dots = 0;
        for run in lacking {
            dots += run.hi - run.lo;
            if dots > max as u64 {
                return None;
            }
            for n in run.lo + 1..=run.hi {
                let row =
                    self.rows.get(&Dot::new(run.incarnation, n)).filter(|row| row.starts_with(prefix))?;
                found.insert(row.clone());
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::Incarnation;

    fn run(lo: u64, hi: u64) -> Interval {
        Interval { incarnation: Incarnation(1), lo, hi }
    }

    #[test]
    fn all_or_nothing_is_found() {
        let mut recent = Recent::default();
        for n in 1..=4 {
            recent.note(Dot::new(Incarnation(1), n), &Bytes::from(format!("row {}", n % 2)));
        }
        let rows = |runs: &[Interval]| recent.rows_of(runs.iter().copied(), b"row", 100);
        assert_eq!(rows(&[run(0, 4)]).map(|rows| rows.len()), Some(2));
        assert_eq!(rows(&[run(0, 5)]), None, "the fifth is not known");
        assert_eq!(recent.rows_of([run(0, 4)].into_iter(), b"row", 3), None, "too many to be worth it");
        assert_eq!(recent.rows_of([run(0, 4)].into_iter(), b"other", 9), None, "of another partition");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        for n in 1..=RECENT_DOTS_MAX as u64 + 10 {
            recent.note(Dot::new(Incarnation(1), n), &Bytes::from_static(b"row"));
        }
        assert_eq!(recent.rows.len(), RECENT_DOTS_MAX);
        assert_eq!(recent.rows_of([run(0, 1)].into_iter(), b"", 9), None);
    }
}
