//! Lives that have ended for good. After a crash, a dot that was sent but never durable at its minter leaves a
//! hole in everyone's seen clock, under which the frontier waits for ever. *Closing* the incarnation settles
//! what of it exists: the final set U. Whatever lies outside is *void*, the holes count as seen, and the
//! frontier moves on (correctness.md 2.4). Nothing acknowledged is void: an acknowledgement includes the
//! minter's own durable copy.
//!
//! Two steps, because messages of the dead may still arrive. Every node of the cluster *freezes* the
//! incarnation at U: it refuses a frozen set that lacks anything it has seen, and from then on refuses unseen
//! dots outside it. Once *all* have frozen the same U and all homes hold all of it, it is *closed*, and U is
//! final. A frozen set may only grow: one that was outgrown lacks a dot which somebody has durably seen who
//! will therefore never accept it, so no two sets are ever accepted by all.
//!
//! Invariant: a closed set never changes.
//!
//! It refuses to cut a void sibling out of a state that bears it: the rest would keep that write's effect on
//! the clock. Such a state is refused whole.

use crate::codec::{BadBytes, Reader, Writer};
use crate::frontier::Frontier;
use crate::id::{Dot, Incarnation};
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::seen::{Seen, SeenRow, read_row, write_row};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// How an incarnation ends at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The set beyond which nothing of it is taken.
    pub set: SeenRow,
    /// Whether the set is final.
    pub closed: bool,
}

/// The ended incarnations that one node knows of, in one partition; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    ends: BTreeMap<Incarnation, End>,
}

impl Closed {
    /// Nothing has ended.
    pub const fn new() -> Closed {
        Closed { ends: BTreeMap::new() }
    }

    /// Puts an end back that was stored.
    pub fn set(&mut self, incarnation: Incarnation, end: End) {
        self.ends.insert(incarnation, end);
    }

    /// How an incarnation ended, or is about to.
    pub fn end(&self, incarnation: Incarnation) -> Option<&End> {
        self.ends.get(&incarnation)
    }

    /// In ascending order of incarnation.
    pub fn ends(&self) -> impl Iterator<Item = (Incarnation, &End)> {
        self.ends.iter().map(|(&incarnation, end)| (incarnation, end))
    }

    /// Those whose sets are final.
    pub fn finals(&self) -> Closed {
        let is_final = |(_, end): &(Incarnation, &End)| end.closed;
        Closed {
            ends: self.ends().filter(is_final).map(|(incarnation, end)| (incarnation, end.clone())).collect(),
        }
    }

    /// Whether nothing has ended.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// 64 bits that two share only if the same is final in both, as far as chance can be trusted; 0 if nothing is.
    pub fn digest(&self) -> u64 {
        let mut hash = None;
        for (incarnation, end) in self.ends.iter().filter(|(_, end)| end.closed) {
            end.set.hash_into(*incarnation, hash.get_or_insert_with(xxhash_rust::xxh3::Xxh3::new));
        }
        hash.map_or(0, |hash| hash.digest())
    }

    /// Whether an incarnation's set is final.
    pub fn is_closed(&self, incarnation: Incarnation) -> bool {
        self.ends.get(&incarnation).is_some_and(|end| end.closed)
    }

    /// Whether this event never was, or must not come to be: its incarnation is closed, or frozen, without it.
    pub fn is_void(&self, dot: Dot) -> bool {
        self.ends.get(&dot.incarnation).is_some_and(|end| !end.set.has(dot.n))
    }

    /// What may be taken of a state that arrives: all of it, or, if it bears a void dot, nothing. What was seen
    /// before a freeze is in the frozen set, so only states that bring something unseen are refused.
    pub fn admit<'a>(&self, record: &'a Record) -> Option<Cow<'a, Record>> {
        if self.ends.is_empty() || planted::on(Bug::CloseNotFrozen) {
            return Some(Cow::Borrowed(record));
        }
        let void: Vec<Dot> = record.siblings().iter().map(|s| s.dot).filter(|&d| self.is_void(d)).collect();
        if void.is_empty() {
            return Some(Cow::Borrowed(record));
        }
        (planted::on(Bug::VoidSiblingCut) && void.len() < record.siblings().len())
            .then(|| Cow::Owned(record.without(&void)))
    }

    /// Freezes an incarnation at a set, given what has been seen of it here; `false` if the set lacks any of
    /// that, or of what it was frozen at, or if it is closed with another. Repeating it changes nothing.
    pub fn freeze(&mut self, incarnation: Incarnation, set: &SeenRow, seen: &SeenRow) -> bool {
        match self.ends.get(&incarnation) {
            Some(end) if end.closed => end.set == *set,
            Some(end) if !set.contains(&end.set) => false,
            _ if !set.contains(seen) => false,
            _ => {
                self.set(incarnation, End { set: set.clone(), closed: false });
                true
            }
        }
    }

    /// Makes a set final that everyone has frozen; `false` if this node has frozen another, which no sound
    /// driver causes. From then on the caller counts everything up to the set's top as seen.
    pub fn close(&mut self, incarnation: Incarnation, set: &SeenRow) -> bool {
        match self.ends.get_mut(&incarnation) {
            Some(end) if end.set == *set => {
                end.closed = true;
                true
            }
            _ => false,
        }
    }
}

/// Whether an incarnation that nobody lives holds the frontier back: what homes have seen of it has holes.
/// One without holes needs no closing: whatever of it still arrives extends the run, or makes a hole.
pub fn holds_back<'a>(rows: impl IntoIterator<Item = &'a SeenRow>) -> bool {
    rows.into_iter().any(|row| row.base() < row.top())
}

/// What everyone together has seen of an incarnation.
pub fn union<'a>(rows: impl IntoIterator<Item = &'a SeenRow>) -> SeenRow {
    let mut all = SeenRow::default();
    rows.into_iter().for_each(|row| all.join(row));
    all
}

/// The set at which an incarnation may be closed: what each of the homes has seen, if that is the same
/// everywhere and nobody else has seen more. It may be empty: a clock can name what nobody has any more.
pub fn agreed<'a>(
    homes: impl IntoIterator<Item = &'a SeenRow> + Clone,
    others: impl IntoIterator<Item = &'a SeenRow>,
) -> Option<SeenRow> {
    let mut set = union(homes.clone());
    if !planted::on(Bug::CloseWithoutHints) {
        set.join(&union(others));
    }
    let same = homes.into_iter().all(|row| *row == set);
    same.then_some(set)
}

/// What a replica reports as its base once it is durable. Of a closed incarnation whose whole set it has seen
/// there is nothing left to see: its holes are void, and so is whatever a clock names beyond its set.
pub fn bases(seen: &Seen, closed: &Closed) -> Frontier {
    let base = |(incarnation, row): (Incarnation, &SeenRow)| {
        let n = match closed.ends.get(&incarnation) {
            Some(end) if end.closed && row.contains(&end.set) => u64::MAX,
            _ => row.base(),
        };
        (incarnation, n)
    };
    let is_empty = |(_, end): &(Incarnation, &End)| end.closed && end.set.top() == 0;
    let never_seen = closed.ends().filter(is_empty).map(|(incarnation, _)| (incarnation, u64::MAX));
    Frontier::from_bases(seen.rows().map(base).chain(never_seen))
}

/// Appends how one incarnation ends.
pub fn write_end(w: &mut Writer, end: &End) {
    w.u8(end.closed.into());
    write_row(w, &end.set);
}

/// Reads [`write_end`] back.
pub fn read_end(r: &mut Reader<'_>) -> Result<End, BadBytes> {
    let closed = match r.u8()? {
        0 => false,
        1 => true,
        _ => return Err(BadBytes::Malformed),
    };
    Ok(End { closed, set: read_row(r)? })
}

/// Appends all that have ended.
pub fn write_closed(w: &mut Writer, closed: &Closed) {
    w.varint(closed.ends.len() as u64);
    for (incarnation, end) in &closed.ends {
        w.u64(incarnation.0);
        write_end(w, end);
    }
}

/// Reads [`write_closed`] back.
pub fn read_closed(r: &mut Reader<'_>) -> Result<Closed, BadBytes> {
    let mut closed = Closed::new();
    for _ in 0..r.count_of(END_BYTES_MIN)? {
        let incarnation = Incarnation(r.u64()?);
        if closed.ends.last_key_value().is_some_and(|(before, _)| *before >= incarnation) {
            return Err(BadBytes::Malformed);
        }
        closed.set(incarnation, read_end(r)?);
    }
    Ok(closed)
}

/// The fewest bytes that one ended incarnation can take.
const END_BYTES_MIN: usize = 10;
