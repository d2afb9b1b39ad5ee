//! The end of a walk: faults end, everything that still travels arrives or is lost, the homes pull from each
//! other, and then the promises are checked against the whole truth.

use super::Promise;
use super::step::Broken;
use super::world::{FALLBACK, HOMES, KEYS, NODES, World, writes_of};
use gramme_core::Record;
use std::collections::BTreeSet;

const ROUNDS: usize = 5;
/// The round in which what was delayed for long arrives, and an old backup may be restored.
const LATE_ROUND: usize = 2;

pub(super) fn settle_and_check(world: &mut World<'_>, compare: bool) -> Result<(), Broken> {
    settle(world);
    if HOMES.iter().any(|&at| world.nodes[at].live.joining) {
        return Ok(()); // A home that lost its content found no healthy one to pull from.
    }
    if compare {
        compare_in_full(world);
    }
    (0..KEYS).try_for_each(|key| check(world, key))
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
        for at in HOMES {
            for from in (0..NODES).filter(|&from| from != at) {
                world.pull(at, from);
            }
        }
        drain(world);
        if round == LATE_ROUND {
            let late = std::mem::take(&mut world.late);
            world.wire.extend(late);
            restore_late(world);
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

/// A full comparison of the homes, as reads of all of them make: it finds what a replica lost while its seen
/// clock says otherwise, and what a collapse forgot.
fn compare_in_full(world: &mut World<'_>) {
    for key in 0..KEYS {
        let records = HOMES.map(|at| world.nodes[at].live.records[key].clone());
        for at in HOMES {
            for record in &records {
                world.merge(at, key, record);
            }
        }
    }
}

fn check(world: &World<'_>, key: usize) -> Result<(), Broken> {
    let record = |at: usize| -> &Record { &world.nodes[at].live.records[key] };
    let shown: BTreeSet<usize> = writes_of(record(HOMES[0])).collect();
    for at in HOMES {
        let here: Vec<usize> = writes_of(record(at)).collect();
        let distinct: BTreeSet<usize> = here.iter().copied().collect();
        ensure(here.len() == distinct.len(), Promise::OneSiblingPerRequest, || {
            format!("key {key} at node {at} shows {here:?}")
        })?;
        ensure(distinct == shown, Promise::Convergence, || {
            format!("key {key}: node {} shows {shown:?}, node {at} shows {here:?}", HOMES[0])
        })?;
    }
    for (number, write) in world.writes.iter().enumerate().filter(|(_, w)| w.key == key) {
        let covered = || shown.iter().any(|&by| world.writes[by].past.has(number));
        ensure(!write.acked || shown.contains(&number) || covered(), Promise::NoLoss, || {
            format!("key {key}: acknowledged write {number} {:?} is gone; {shown:?} is left", write.dots)
        })?;
    }
    let (all, _) = world.read(key, &HOMES);
    ensure(writes_of(&all).collect::<BTreeSet<_>>() == shown, Promise::ReadAgreement, || {
        format!(
            "key {key}: a read of all homes shows {:?}, each of them {shown:?}",
            writes_of(&all).collect::<Vec<_>>()
        )
    })?;
    let with_hints = world.read(key, &[HOMES[0], FALLBACK]).0;
    for visible in shown.iter().copied().chain(writes_of(&with_hints)) {
        // A retry that arrives when its write is overwritten and forgotten may leave one false sibling.
        let once = world.writes[visible].dots.len() == 1;
        let by = world.writes.iter().position(|w| w.key == key && w.acked && w.past.has(visible));
        ensure(!once || by.is_none(), Promise::NoResurrection, || {
            format!("key {key}: write {visible} is visible though {by:?}, acknowledged, had overwritten it")
        })?;
    }
    Ok(())
}

fn ensure(holds: bool, promise: Promise, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err((promise, what())) }
}
