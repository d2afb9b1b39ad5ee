//! How deletes end: what a frontier says of a record (correctness.md 2.2).
//!
//! Let R be a replica's frontier: every home has durably seen every dot of R. Then
//! * a record of nothing but tombstones whose whole clock lies below R says nothing that anyone still needs to
//!   hear, and goes: [`reclaimable`];
//! * a record with a value whose whole clock lies below R needs nothing of its past but its siblings: [`strip`];
//! * a sibling below R that this replica lacks was there once and has been overwritten or reclaimed, so a state
//!   that shows it is late, unless its sender has come as far as R everywhere: [`admit`], and for readers
//!   [`fill`].
//!
//! R rules from the moment it is made durable, whichever rows a paced pass has come to since: what could go
//! counts as gone. A record that goes forgets which overwritten writes it remembered
//! ([`crate::record::Spent`]); a retry that comes so late finds nothing to adopt and makes one false sibling,
//! never a loss (correctness.md 3.4). An expired value is a value here: only a tombstone with a dot of its own
//! can be tracked until all have seen it.
//!
//! It refuses every clock on the wall: no grace period, no age.

use crate::clock::Clock;
use crate::frontier::Frontier;
use crate::id::{Dot, Incarnation};
use crate::planted::{self, Bug};
use crate::record::{Content, Record, Sibling};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// How far every home has durably seen: pointwise the least of what they reported. Nothing is known to be
/// everywhere while one of them has reported nothing. The caller's own report is one of them, and no less
/// durable than theirs.
pub fn stable<'a>(reports: impl IntoIterator<Item = Option<&'a Frontier>>) -> Frontier {
    let mut reports = reports.into_iter();
    let Some(first) = reports.next().flatten() else { return Frontier::none() };
    reports.try_fold(first.clone(), |least, report| Some(least.meet(report?))).unwrap_or_default()
}

/// Whether a record is nothing but tombstones.
pub fn is_dead(record: &Record) -> bool {
    let siblings = record.siblings();
    !siblings.is_empty() && siblings.iter().all(|sibling| sibling.content == Content::Tombstone)
}

/// Whether a record may be deleted: it is nothing but tombstones, and everything in its past is everywhere.
/// Its own dots alone would not do: its clock may still be needed to cover a value that one home has yet to
/// see.
pub fn reclaimable(record: &Record, frontier: &Frontier) -> bool {
    if !is_dead(record) || frontier.is_none() {
        return false;
    }
    match planted::on(Bug::ReclaimOnDotOnly) {
        true => record.siblings().iter().all(|sibling| frontier.covers(sibling.dot)),
        false => frontier.covers_clock(&record.clock),
    }
}

/// The same record with nothing in its clock but its siblings, if its whole past is everywhere and that is
/// less than it says now. The overwritten writes that it remembers stay.
pub fn strip(record: &Record, frontier: &Frontier) -> Option<Record> {
    if frontier.is_none() || record.siblings().is_empty() || !frontier.covers_clock(&record.clock) {
        return None;
    }
    let bare = record.with_bare_clock();
    (bare.clock != record.clock).then_some(bare)
}

/// The tripwire below a frontier: whether a state shows events of my live incarnation that I do not remember
/// and that I cannot have reclaimed (correctness.md 1.3).
pub fn is_amnesia(mine: &Record, shown: &Record, live: Incarnation, frontier: &Frontier) -> bool {
    let top = shown.clock.last_of(live).map_or(0, |run| run.hi);
    mine.remembers_less_than(shown, live) && !frontier.covers(Dot::new(live, top))
}

/// What is to be made of a state that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// This much of it is to be joined.
    Join(Cow<'a, Record>),
    /// It says nothing that had not been overwritten or reclaimed here: it is ignored whole, clock and all.
    Stale,
}

/// Parts what repairs or is new from what is late. `frontier` is the receiver's, `stamp` the sender's.
///
/// A stale sibling takes its dot out of the clock that it came with; a state with nothing else is ignored, unless its
/// clock says that a sibling here was overwritten: then its tombstones stay, to bear that. Ignored is also a
/// record that would be reclaimed here at once.
pub fn admit<'a>(local: &Record, incoming: &'a Record, frontier: &Frontier, stamp: &Frontier) -> Arrival<'a> {
    if frontier.is_none() || planted::on(Bug::StaleTaken) {
        return Arrival::Join(Cow::Borrowed(incoming));
    }
    let is_gone = reclaimable(incoming, frontier)
        && incoming.siblings().iter().all(|s| local.sibling(s.dot).is_none())
        && !local.siblings().iter().any(|s| incoming.clock.covers(s.dot));
    if is_gone {
        return Arrival::Stale;
    }
    let trusted = stamp.reaches(frontier) && !planted::on(Bug::StampIgnored);
    let is_trusted = |dot: Dot| match planted::on(Bug::StampPerDot) {
        true => stamp.covers(dot),
        false => trusted,
    };
    let is_late = |dot: Dot| {
        local.sibling(dot).is_none() && !local.clock.covers(dot) && frontier.covers(dot) && !is_trusted(dot)
    };
    let stale: Vec<Dot> = incoming.siblings().iter().map(|s| s.dot).filter(|&dot| is_late(dot)).collect();
    if stale.is_empty() {
        Arrival::Join(Cow::Borrowed(incoming))
    } else if stale.len() < incoming.siblings().len() {
        Arrival::Join(Cow::Owned(incoming.without(&stale)))
    } else {
        tombstones_with_news(incoming, local.siblings().iter()).map_or(Arrival::Stale, Arrival::Join)
    }
}

/// The same for a home that is being refilled. `filling` are the frontiers of those that send it all they have just
/// now: each of them holds everything that lives below its own, so what comes from elsewhere, is not here, and lies
/// below it, is late, unless its sender had come as far. Once the page that would purge it has passed, nobody else
/// would find it.
pub fn admit_while_filling<'a>(
    local: &Record,
    incoming: &'a Record,
    frontier: &Frontier,
    filling: &[Frontier],
    stamp: &Frontier,
) -> Arrival<'a> {
    let mut admitted = match admit(local, incoming, frontier, stamp) {
        Arrival::Join(admitted) => admitted,
        Arrival::Stale => return Arrival::Stale,
    };
    if planted::on(Bug::LateWhileFilling) {
        return Arrival::Join(admitted);
    }
    for source in filling.iter().filter(|source| !stamp.reaches(source)) {
        let less = match admit(local, &admitted, source, stamp) {
            Arrival::Join(Cow::Borrowed(_)) => None,
            Arrival::Join(Cow::Owned(less)) => Some(less),
            Arrival::Stale => return Arrival::Stale,
        };
        admitted = less.map_or(admitted, Cow::Owned);
    }
    Arrival::Join(admitted)
}

/// A state of which every sibling is late, without its values, if its clock says that one of these siblings was
/// overwritten and a tombstone is there to bear that. Clocks are true however late they come.
fn tombstones_with_news<'a, 'k>(
    late: &'a Record,
    mut known: impl Iterator<Item = &'k Sibling>,
) -> Option<Cow<'a, Record>> {
    let overwrites = |s: &Sibling| late.sibling(s.dot).is_none() && late.clock.covers(s.dot);
    let of_values = late.siblings().iter().filter(|s| s.content != Content::Tombstone);
    let values: Vec<Dot> = of_values.map(|s| s.dot).collect();
    if values.len() == late.siblings().len() || !known.any(overwrites) {
        return None;
    }
    Some(if values.is_empty() { Cow::Borrowed(late) } else { Cow::Owned(late.without(&values)) })
}

/// The siblings that a refilling replica gives up once a source that it has pulled everything from does not
/// show them: below the source's frontier they have been overwritten or reclaimed there. A source that has come no further
/// than the replica itself, by the sources before it, judges nothing by its silence: one of the two has lost something.
pub fn purge(mine: &Record, at_source: &Record, source: &Frontier, own: &Frontier) -> Option<Record> {
    if own.reaches(source) || planted::on(Bug::RefillNotPurged) {
        return None;
    }
    let is_dead = |dot: Dot| source.covers(dot) && at_source.sibling(dot).is_none();
    let dead: Vec<Dot> = mine.siblings().iter().map(|s| s.dot).filter(|&dot| is_dead(dot)).collect();
    match dead.len() {
        0 => None,
        all if all == mine.siblings().len() => Some(Record::new()),
        _ => {
            // Its clock goes on covering them: they are dead everywhere.
            let clock = mine.clock.clone();
            let mut rest = mine.without(&dead);
            rest.clock = clock;
            Some(rest)
        }
    }
}

/// What one replica answered to a read, with its frontier *from before it looked*: a later one would vouch
/// for what the record does not yet show.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// What it holds.
    pub record: &'a Record,
    /// How far it knows everyone to have seen; none for fallbacks and replicas that prove nothing.
    pub frontier: &'a Frontier,
}

/// What the answers to a read come to; see [`fill`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// What is there.
    pub record: Record,
    /// Values that one home shows and another, which knows them to have been everywhere, lacks: one of them
    /// has lost or resurrected it without notice. The value is kept, and somebody must be told.
    pub conflicts: Vec<Dot>,
}

/// Joins the answers to a read. A sibling is left out if some answer lacks it, knows it to have been
/// everywhere, and comes from a home that its bearer has not kept up with: it is what that home has reclaimed.
pub fn fill(replies: &[Reply<'_>]) -> Filled {
    let plain = replies.iter().all(|reply| reply.frontier.is_none()) || planted::on(Bug::ReadNotFilled);
    let mut record = Record::new();
    for reply in replies {
        let shown = if plain { Cow::Borrowed(reply.record) } else { what_is_left_of(reply, replies) };
        record = if record.is_empty() { shown.into_owned() } else { record.join(&shown) };
    }
    record.collapse_retries();
    let lacking = |dot: Dot| {
        let lacks = |reply: &Reply<'_>| {
            reply.frontier.covers(dot)
                && reply.record.sibling(dot).is_none()
                && !reply.record.clock.covers(dot)
        };
        replies.iter().any(lacks)
    };
    let values = record.siblings().iter().filter(|s| s.content != Content::Tombstone).map(|s| s.dot);
    let conflicts: Vec<Dot> = values.filter(|&dot| !plain && lacking(dot)).collect();
    if planted::on(Bug::ConflictByVote) {
        let shown_by = |dot: Dot| replies.iter().filter(|r| r.record.sibling(dot).is_some()).count();
        let outvoted = conflicts.iter().copied().filter(|&dot| 2 * shown_by(dot) < replies.len());
        record = record.without(&outvoted.collect::<Vec<Dot>>());
    }
    Filled { record, conflicts }
}

fn what_is_left_of<'a>(reply: &Reply<'a>, replies: &[Reply<'_>]) -> Cow<'a, Record> {
    if replies.iter().any(|other| reclaimable(reply.record, other.frontier)) {
        return Cow::Owned(Record::new());
    }
    let dead = dead_of(reply, replies);
    match dead.len() {
        0 => Cow::Borrowed(reply.record),
        all if all == reply.record.siblings().len() => {
            let news = |other: &Reply<'_>| {
                // What is left out with its own bearer needs nobody to say that it was overwritten.
                let dead = dead_of(other, replies);
                let left = other.record.siblings().iter().filter(|s| !dead.contains(&s.dot));
                tombstones_with_news(reply.record, left)
            };
            replies.iter().find_map(news).unwrap_or_default()
        }
        _ => Cow::Owned(reply.record.without(&dead)),
    }
}

/// The siblings of an answer that another one knows to have been everywhere, and lacks.
fn dead_of(reply: &Reply<'_>, replies: &[Reply<'_>]) -> Vec<Dot> {
    let is_dead = |dot: Dot| {
        let knows_better = |other: &Reply<'_>| match planted::on(Bug::StampPerDot) {
            true => !reply.frontier.covers(dot),
            false => !reply.frontier.reaches(other.frontier),
        };
        replies.iter().any(|other| {
            other.frontier.covers(dot) && other.record.sibling(dot).is_none() && knows_better(other)
        })
    };
    reply.record.siblings().iter().map(|s| s.dot).filter(|&dot| is_dead(dot)).collect()
}

/// Whether a replica that answered so shows its readers something else than what the answers came to: it lacks a
/// sibling, or shows one that was overwritten. What the answers know beyond that, of clocks or of remembered
/// requests, is no reason to write: no reader would be shown anything else, and since pull sessions go by siblings
/// alone it may differ for long where all homes agree. A tombstone beside a value is a sibling like others.
///
/// A repair bears the frontier that its receiver answered with: whatever [`fill`] has left was vouched for by
/// a replica that had come as far.
pub fn is_behind(reply: Reply<'_>, filled: &Record) -> bool {
    let unknown = |here: &Record, dot: Dot| here.sibling(dot).is_none() && !here.clock.covers(dot);
    let overwritten = |dot: Dot| filled.sibling(dot).is_none() && filled.clock.covers(dot);
    filled.siblings().iter().any(|s| unknown(reply.record, s.dot))
        || reply.record.siblings().iter().any(|s| overwritten(s.dot))
}

/// Whether the answers to a read show everything that `min` has in its past, or something that replaced it:
/// each of its events lies in an answer's clock or below an answering home's frontier.
pub fn session_holds<'a>(min: &Clock, replies: impl IntoIterator<Item = Reply<'a>>) -> bool {
    let mut known = Clock::new();
    for reply in replies {
        known.join(&reply.record.clock);
        add_frontier(&mut known, reply.frontier);
    }
    known.contains(min)
}

/// A record as everyone who has come as far as this frontier must agree on it, whatever each has stripped or
/// reclaimed: for comparing homes. Remembered requests are left out: they are advice, and kept unevenly.
pub fn canonical(record: &Record, frontier: &Frontier) -> Record {
    if reclaimable(record, frontier) {
        return Record::new();
    }
    let above = record.clock.intervals().iter().map(|run| crate::clock::Interval {
        lo: run.lo.max(frontier.base(run.incarnation)).min(run.hi),
        ..*run
    });
    let mut clock = Clock::from_intervals(above);
    record.siblings().iter().for_each(|s| clock.add_dot(s.dot));
    Record::from_parts(clock, record.siblings().to_vec(), Vec::new()).unwrap_or_default()
}

fn add_frontier(clock: &mut Clock, frontier: &Frontier) {
    frontier.bases().iter().for_each(|&(incarnation, n)| clock.add(incarnation, 0, n));
}
