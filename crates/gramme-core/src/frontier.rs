//! How far everyone is known to have seen: per incarnation a number up to which every member of a partition
//! has durably merged everything (correctness.md 2.2: F, and its running maximum R, the reclaim frontier).
//!
//! A sibling whose dot lies below a replica's frontier and which that replica lacks is not news: it was there
//! once, and was overwritten or reclaimed. Every state on the wire carries its sender's frontier as a *stamp*,
//! by which the receiver tells a late state from one that repairs it.
//!
//! It grows by one entry for each life that ever wrote in the partition; one that wrote nothing needs none. At
//! [`FRONTIER_ENTRIES_MAX`] it takes no further ones: it then says less than it might, which holds back the
//! tombstones of those lives and nothing else.
//!
//! Invariant: ascending by incarnation, each once, no number 0, no more than may be read back.
//!
//! A frontier refuses to be guessed: it is a minimum over what members have reported as durable.

use crate::clock::Clock;
use crate::codec::{BadBytes, Reader, Writer};
use crate::id::{Dot, Incarnation};
use crate::limits::FRONTIER_ENTRIES_MAX;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// See the module. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    bases: Arc<[(Incarnation, u64)]>,
}

impl Frontier {
    /// Nothing is known to be everywhere: what fallbacks, joining and restored replicas have.
    pub fn none() -> Frontier {
        Frontier::default()
    }

    /// A frontier from bases in any order; of two for one incarnation the greater holds. Of too many those of the
    /// least incarnations stay, so that whoever has seen the same says the same.
    pub fn from_bases(bases: impl IntoIterator<Item = (Incarnation, u64)>) -> Frontier {
        let mut bases: Vec<(Incarnation, u64)> = bases.into_iter().filter(|base| base.1 > 0).collect();
        bases.sort_unstable();
        bases.reverse();
        bases.dedup_by_key(|base| base.0);
        bases.reverse();
        bases.truncate(FRONTIER_ENTRIES_MAX);
        Frontier { bases: bases.into() }
    }

    /// In ascending order of incarnation; each number is at least 1.
    pub fn bases(&self) -> &[(Incarnation, u64)] {
        &self.bases
    }

    /// Whether it names more than half of the lives that it may: time to look why there are so many.
    pub fn is_crowded(&self) -> bool {
        self.bases.len() > FRONTIER_ENTRIES_MAX / 2
    }

    /// Whether nothing is known to be everywhere.
    pub fn is_none(&self) -> bool {
        self.bases.is_empty()
    }

    /// The number up to which this incarnation's events are everywhere; 0 if not even the first is.
    pub fn base(&self, incarnation: Incarnation) -> u64 {
        self.bases.binary_search_by_key(&incarnation, |base| base.0).map_or(0, |at| self.bases[at].1)
    }

    /// Whether this event is everywhere.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.n <= self.base(dot.incarnation)
    }

    /// Whether everything in a record's past is everywhere.
    pub fn covers_clock(&self, clock: &Clock) -> bool {
        clock.intervals().iter().all(|run| run.hi <= self.base(run.incarnation))
    }

    /// Whether this one is at least as far as the other for every incarnation.
    pub fn reaches(&self, other: &Frontier) -> bool {
        Arc::ptr_eq(&self.bases, &other.bases) || other.bases.iter().all(|base| self.base(base.0) >= base.1)
    }

    /// The further of both, incarnation by incarnation. What this one says stays said, and of what is new as much
    /// is taken as there is room for.
    pub fn join(&self, other: &Frontier) -> Frontier {
        if self.reaches(other) {
            return self.clone();
        }
        let further =
            self.bases.iter().map(|&(incarnation, n)| (incarnation, n.max(other.base(incarnation))));
        let new = other.bases.iter().copied().filter(|base| self.base(base.0) == 0);
        let room = FRONTIER_ENTRIES_MAX - self.bases.len();
        Frontier::from_bases(further.chain(new.take(room)))
    }

    /// The nearer of both, incarnation by incarnation.
    pub fn meet(&self, other: &Frontier) -> Frontier {
        let nearer = |&(incarnation, n): &(Incarnation, u64)| (incarnation, n.min(other.base(incarnation)));
        Frontier::from_bases(self.bases.iter().map(nearer))
    }
}

/// Appends a frontier.
pub fn write_frontier(w: &mut Writer, frontier: &Frontier) {
    w.varint(frontier.bases.len() as u64);
    for &(incarnation, n) in frontier.bases.iter() {
        w.u64(incarnation.0);
        w.varint(n);
    }
}

/// Reads a frontier.
pub fn read_frontier(r: &mut Reader<'_>) -> Result<Frontier, BadBytes> {
    let count = r.count_of(BASE_BYTES_MIN)?;
    if count > FRONTIER_ENTRIES_MAX {
        return Err(BadBytes::Malformed);
    }
    let mut bases = Vec::with_capacity(count);
    for _ in 0..count {
        bases.push((Incarnation(r.u64()?), r.varint()?));
    }
    let sound = bases.windows(2).all(|pair| pair[0].0 < pair[1].0) && bases.iter().all(|base| base.1 > 0);
    if sound { Ok(Frontier { bases: bases.into() }) } else { Err(BadBytes::Malformed) }
}

/// The fewest bytes that one base can take.
const BASE_BYTES_MIN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bases: &[(u64, u64)]) -> Frontier {
        Frontier::from_bases(bases.iter().map(|&(incarnation, n)| (Incarnation(incarnation), n)))
    }

    #[test]
    fn it_covers_what_lies_below_its_bases_and_nothing_of_strangers() {
        let frontier = of(&[(1, 5), (2, 0)]);
        assert!(frontier.covers(Dot::new(Incarnation(1), 5)));
        assert!(!frontier.covers(Dot::new(Incarnation(1), 6)));
        assert!(!frontier.covers(Dot::new(Incarnation(2), 1)));
        assert_eq!(frontier.bases().len(), 1, "a base of 0 says nothing");
    }

    #[test]
    fn reaching_is_pointwise() {
        assert!(of(&[(1, 5), (2, 1)]).reaches(&of(&[(1, 4)])));
        assert!(!of(&[(1, 5)]).reaches(&of(&[(1, 4), (2, 1)])));
        assert!(of(&[]).reaches(&Frontier::none()));
    }

    #[test]
    fn join_is_the_further_and_meet_the_nearer() {
        let (a, b) = (of(&[(1, 5), (2, 1)]), of(&[(1, 3), (3, 9)]));
        assert_eq!(a.join(&b), of(&[(1, 5), (2, 1), (3, 9)]));
        assert_eq!(a.meet(&b), of(&[(1, 3)]));
        assert!(a.join(&b).reaches(&a) && a.reaches(&a.meet(&b)));
    }

    #[test]
    fn one_that_is_full_keeps_what_it_has_said_and_takes_no_further_lives() {
        let many =
            |lives: core::ops::Range<u64>| Frontier::from_bases(lives.map(|life| (Incarnation(life), 3)));
        let max = FRONTIER_ENTRIES_MAX as u64;
        assert!(!many(0..max / 2).is_crowded() && many(0..max / 2 + 1).is_crowded());
        let old = many(max..2 * max - 1);
        let full = old.join(&many(0..max));
        assert!(full.reaches(&old), "what a frontier has said it never takes back");
        assert_eq!((full.bases().len(), full.base(Incarnation(0))), (FRONTIER_ENTRIES_MAX, 3));
        assert_eq!(full.join(&many(0..2 * max)), full);
        assert_eq!(full.join(&of(&[(max, 9)])).base(Incarnation(max)), 9, "those that it has go on");
        let mut w = Writer::new();
        write_frontier(&mut w, &many(0..4 * max));
        let read = read_frontier(&mut Reader::new(&w.into_bytes()));
        assert_eq!(read, Ok(many(0..max)), "whatever is written can be read back");
    }

    #[test]
    fn it_reads_as_it_was_written_and_refuses_disorder() {
        let mut w = Writer::new();
        write_frontier(&mut w, &of(&[(7, 300), (2, 1)]));
        let bytes = w.into_bytes();
        assert_eq!(read_frontier(&mut Reader::new(&bytes)), Ok(of(&[(2, 1), (7, 300)])));
        let swapped = [&bytes[..1], &bytes[10..], &bytes[1..10]].concat();
        assert_eq!(read_frontier(&mut Reader::new(&swapped)), Err(BadBytes::Malformed));
    }
}
