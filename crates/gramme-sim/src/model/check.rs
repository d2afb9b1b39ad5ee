//! The end of a walk: faults end, everything that still travels arrives or is lost, the homes pull from each
//! other, and then the promises are checked against the whole truth.

use super::Promise;
use super::step::Broken;
use super::world::{FALLBACK, HOMES, KEYS, NODES, World, Write, writer_of, writes_of};
use gramme_core::reclaim::{Reply, canonical, fill, is_behind};
use gramme_core::{Content, Frontier, Incarnation, Interval, Record};
use std::collections::BTreeSet;

const ROUNDS: usize = 8;
/// From this round on homes reclaim, and dead incarnations are closed in it.
const ENDING_ROUND: usize = 2;
/// The round in which what was delayed for long arrives, and an old backup may be restored.
const LATE_ROUND: usize = 3;

pub(super) fn settle_and_check(world: &mut World<'_>, silent_loss: bool) -> Result<(), Broken> {
    settle(world);
    if HOMES.iter().any(|&at| world.nodes[at].live.is_joining()) {
        return Ok(()); // A home that lost its content found no healthy one to pull from.
    }
    if !silent_loss {
        (0..KEYS).try_for_each(|key| same_values(world, key))?;
    }
    // What is left to an audit are tombstones beside values, which one home let go before the value came.
    compare_in_full(world);
    (0..KEYS).try_for_each(|key| check(world, key))
}

/// Before any audit the homes show the same values.
fn same_values(world: &World<'_>, key: usize) -> Result<(), Broken> {
    let values = |at: usize| -> BTreeSet<usize> {
        let siblings = world.nodes[at].live.records[key].siblings();
        siblings.iter().filter(|s| s.content != Content::Tombstone).map(writer_of).collect()
    };
    let first = values(HOMES[0]);
    HOMES.into_iter().try_for_each(|at| {
        let here = values(at);
        ensure(here == first, Promise::Convergence, || {
            format!("key {key}: node {} shows {first:?} without an audit, node {at} {here:?}", HOMES[0])
        })
    })
}

fn settle(world: &mut World<'_>) {
    for at in 0..NODES {
        if !world.nodes[at].alive {
            world.restart(at);
        }
        world.sync(at);
    }
    let wire = std::mem::take(&mut world.wire);
    for message in wire {
        if world.rng.chance(700) {
            world.wire.push(message);
        }
    }
    for round in 0..ROUNDS {
        drain(world);
        world.announce();
        for at in HOMES {
            for from in (0..NODES).filter(|&from| from != at) {
                world.pull(at, from);
            }
            HOMES.into_iter().filter(|&to| to != at).for_each(|to| world.report(at, to));
        }
        drain(world);
        if round >= ENDING_ROUND {
            close_the_dead(world);
            if world.reclaims {
                HOMES.into_iter().for_each(|at| world.reclaim(at));
            }
            drain(world);
        }
        if round == LATE_ROUND {
            let late = std::mem::take(&mut world.late);
            world.wire.extend(late);
            restore_late(world);
        }
    }
}

fn close_the_dead(world: &mut World<'_>) {
    world.closing = None;
    for incarnation in (1..=world.lives).map(Incarnation) {
        let proposal = world.propose(incarnation);
        world.closing = proposal;
        while let Some(proposal) = world.closing.take() {
            world.advance(proposal);
        }
    }
}

fn drain(world: &mut World<'_>) {
    while !world.wire.is_empty() {
        let at = world.rng.index(world.wire.len());
        let message = world.wire.swap_remove(at);
        world.deliver(message);
    }
    (0..NODES).for_each(|at| world.sync(at));
}

fn restore_late(world: &mut World<'_>) {
    let at = world.rng.index(HOMES.len());
    let no_fault_yet = world.tally.disk_faults + world.tally.silent_losses == 0;
    if no_fault_yet && world.rng.chance(600) && world.nodes[at].backup.is_some() {
        let backup = world.nodes[at].backup.clone();
        world.tally.disk_faults += 1;
        world.tell(|| format!("node {at} is restored from its backup, late"));
        world.quarantine(at, backup);
        world.wire.append(&mut world.late);
    }
}

/// A full comparison of the homes, as an audit makes: it finds what a replica lost while its seen clock says
/// otherwise. What one of equally far homes shows is kept.
fn compare_in_full(world: &mut World<'_>) {
    for key in 0..KEYS {
        let records = HOMES.map(|at| world.nodes[at].live.records[key].clone());
        let frontiers = HOMES.map(|at| world.nodes[at].live.frontier.clone());
        let replies: Vec<Reply<'_>> =
            records.iter().zip(&frontiers).map(|(record, frontier)| Reply { record, frontier }).collect();
        let filled = fill(&replies);
        world.tally.conflicts += filled.conflicts.len() as u64;
        for at in HOMES {
            if is_behind(replies[at], &filled.record) {
                world.merge(at, key, &filled.record, &frontiers[at]);
            }
        }
    }
}

fn check(world: &World<'_>, key: usize) -> Result<(), Broken> {
    let record = |at: usize| -> &Record { &world.nodes[at].live.records[key] };
    let furthest = HOMES.into_iter().fold(Frontier::none(), |r, at| r.join(&world.nodes[at].live.frontier));
    let values = |record: &Record| -> Vec<usize> {
        let shown = canonical(record, &furthest);
        shown.siblings().iter().filter(|s| s.content != Content::Tombstone).map(writer_of).collect()
    };
    let all_of = |record: &Record| -> BTreeSet<usize> { writes_of(&canonical(record, &furthest)).collect() };
    let shown: BTreeSet<usize> = values(record(HOMES[0])).into_iter().collect();
    for at in HOMES {
        let here: Vec<usize> = writes_of(record(at)).collect();
        let distinct: BTreeSet<usize> = here.iter().copied().collect();
        ensure(here.len() == distinct.len(), Promise::OneSiblingPerRequest, || {
            format!("key {key} at node {at} shows {here:?}")
        })?;
        let first = all_of(record(HOMES[0]));
        ensure(all_of(record(at)) == first, Promise::Convergence, || {
            format!("key {key}: node {} shows {first:?}, node {at} shows {here:?}", HOMES[0])
        })?;
    }
    let in_key = || world.writes.iter().enumerate().filter(|(_, w)| w.key == key);
    for (number, write) in in_key() {
        let answered = |(by, w): (usize, &Write)| w.past.has(number) && (w.delete || shown.contains(&by));
        let kept = write.delete || shown.contains(&number) || in_key().any(answered);
        ensure(!write.acked || kept, Promise::NoLoss, || {
            format!("key {key}: acknowledged write {number} {:?} is gone; {shown:?} is left", write.dots)
        })?;
    }
    let (all, _) = world.read(key, &HOMES);
    let read: BTreeSet<usize> = values(&all).into_iter().collect();
    ensure(read == shown, Promise::ReadAgreement, || {
        format!("key {key}: a read of all homes shows {read:?}, each of them {shown:?}")
    })?;
    let with_hints = world.read(key, &[HOMES[0], FALLBACK]).0;
    for visible in shown.iter().copied().chain(values(&with_hints)) {
        // A retry that arrives when its write is overwritten and forgotten may leave one false sibling.
        let once = world.writes[visible].dots.len() == 1;
        let by = world.writes.iter().position(|w| w.key == key && w.acked && w.past.has(visible));
        ensure(!once || by.is_none(), Promise::NoResurrection, || {
            format!("key {key}: write {visible} is visible though {by:?}, acknowledged, had overwritten it")
        })?;
    }
    HOMES.into_iter().try_for_each(|at| check_reclaimed(world, at, key))
}

/// With everyone there and in step, no tombstone is left, unless its clock names a life of which nothing ever
/// reached anyone's disk: clients of the walk may be answered before that.
fn check_reclaimed(world: &World<'_>, at: usize, key: usize) -> Result<(), Broken> {
    let record = &world.nodes[at].live.records[key];
    let dead = !record.is_empty() && record.siblings().iter().all(|s| s.content == Content::Tombstone);
    let known = |run: &Interval| world.nodes[at].live.seen.row(run.incarnation).is_some();
    let stays = world.reclaims && dead && record.clock.intervals().iter().all(known);
    ensure(!stays, Promise::TombstonesGo, || {
        let frontier = world.nodes[at].live.frontier.bases();
        format!("key {key} at node {at}: {:?} stays; the frontier is {frontier:?}", record.clock)
    })
}

fn ensure(holds: bool, promise: Promise, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err((promise, what())) }
}
