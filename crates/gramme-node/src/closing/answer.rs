//! What every node does when it is asked about ended incarnations: homes answer with their seen clock, a fallback
//! with its hint store's, and whoever keeps nothing of the partition promises all the same.
//!
//! Invariant: a promise is durable before it is given, and covers whatever was taken before it.

use crate::change::leave;
use crate::closing::ends::beyond;
use crate::env::Env;
use crate::hints::HintStore;
use crate::node::Node;
use crate::pages::Pages;
use crate::replica::{Replica, disk};
use crate::rows::{self, KIND_HINT};
use crate::serve::refused;
use gramme_core::closed::Closed;
use gramme_core::limits::{CLOSING_MS, SEEN_RUNS_MAX};
use gramme_core::seen::SeenRow;
use gramme_core::{Incarnation, NodeId, PartitionId, Seen};
use gramme_storage::{Engine, EngineError};
use gramme_wire::{Body, Failure, Life, Reason, Standing};
use std::rc::Rc;
use std::time::Duration;

/// Who lives here, what was durably seen of these incarnations, and how others have ended.
pub(crate) async fn survey<E: Env>(node: &Node<E>, partition: PartitionId, about: &[Incarnation]) -> Body {
    let Some(ends) = node.0.ends.get(&partition) else { return refused(Reason::Unsuitable) };
    let (home, lives, seen) = here(node, partition, about);
    let live = lives.iter().find(|live| about.contains(live)).or(lives.first()).copied();
    let ends = ends.closed().clone();
    match node.0.store.wait_all().await {
        Ok(()) => Body::SurveyReply { home, live, seen, ends },
        Err(cause) => refused(disk(cause)),
    }
}

/// Takes nothing unseen of this incarnation outside this set from now on; the answer, once that is durable.
pub(crate) async fn freeze<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    incarnation: Incarnation,
    set: &SeenRow,
) -> Body {
    let Some(ends) = node.0.ends.get(&partition) else { return refused(Reason::Unsuitable) };
    let (home, lives, seen) = here(node, partition, &[incarnation]);
    let row = seen.row(incarnation).cloned().unwrap_or_default();
    let proves = home.is_none_or(|life| life.standing == Standing::Continuous);
    // A home whose row is near its bound may have forgotten what it has seen above the holes.
    let is_hints_alone = home.is_none() && node.left(partition).is_none();
    let knows = is_hints_alone || row.runs().len() <= SEEN_RUNS_MAX / 2;
    if lives.contains(&incarnation) || !proves || !knows {
        return refused(Reason::Unsuitable);
    }
    // What memory knows and a full disk refuses would never be written.
    if let Err(cause) = node.0.store.check() {
        return refused(disk(cause));
    }
    let promise = ends.freeze(incarnation, set, &row);
    let frozen = promise.is_some();
    let mut all = row;
    all.join(&ends.closed().end(incarnation).map(|end| end.set.clone()).unwrap_or_default());
    // A refusal lasts as well: whoever leads will never again propose less than what it names.
    let kept = match promise.map(|promise| node.0.store.append_plain([promise])) {
        Some(Err(cause)) => Err(cause),
        _ => node.0.store.wait_all().await,
    };
    match kept {
        Ok(()) => Body::FreezeReply { frozen, seen: all },
        Err(cause) => refused(disk(cause)),
    }
}

/// Somebody says that these sets are final.
pub(crate) fn learn_all<E: Env>(node: &Node<E>, partition: PartitionId, ends: &Closed) {
    for (incarnation, end) in ends.ends().filter(|(_, end)| end.closed) {
        // A store that refuses takes no writes either; whoever differs is told again.
        let _ = learn(node, partition, incarnation, &end.set);
    }
}

/// A set is final. Only a replica that lost its promise can hold what is void: a home begins a new life and is
/// refilled, a hint store gives up the whole records.
fn learn<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    incarnation: Incarnation,
    set: &SeenRow,
) -> Result<(), EngineError> {
    let Some(ends) = node.0.ends.get(&partition) else { return Ok(()) };
    let (home, lives, seen) = here(node, partition, &[incarnation]);
    if lives.contains(&incarnation) {
        return Ok(());
    }
    // What memory knows and a full disk refuses would never be written.
    node.0.store.check()?;
    let void = beyond(&seen, incarnation, set);
    let is_new = !ends.closed().is_closed(incarnation);
    let row = is_new.then(|| ends.close(incarnation, set.clone()));
    if !void.is_empty() {
        if let Some(replica) = node.home(partition).filter(|_| home.is_some() && is_new) {
            replica.mistrust(0)?;
        }
        if let Some(store) = node.0.hints.get(partition) {
            drop_void_hints(node, partition, &store);
        }
        if let Some(replica) = node.left(partition) {
            drop_void_left(node, &replica);
        }
    }
    if let Some(row) = row {
        node.0.store.append_plain([row])?;
    }
    Ok(())
}

fn drop_void_hints<E: Env>(node: &Node<E>, partition: PartitionId, store: &Rc<HintStore<E>>) {
    let (node, store) = (node.clone(), store.clone());
    node.0.env.clone().spawn("drop void hints", async move {
        // What is left of them is found again when the store is next offered, or read back.
        let _ = drop_all_void(&node, partition, &store).await;
    });
}

/// What a former home keeps goes as hints do: whole records that bear a void dot.
fn drop_void_left<E: Env>(node: &Node<E>, replica: &Rc<Replica<E>>) {
    let (node, replica) = (node.clone(), replica.clone());
    node.0.env.clone().spawn("drop what is void", async move {
        // What is left of it is found again when it is next offered.
        let _ = leave::look_at_rows(&node, &replica).await;
    });
}

/// Removes every hint that bears a void dot, and what the store has seen through them alone: it claims what its
/// rows show, as after a start, or homes would take for seen what only the removed rows could have told them.
async fn drop_all_void<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    store: &HintStore<E>,
) -> Result<(), EngineError> {
    let replica = store.replica();
    for _ in 0..VOID_LOOKS_MAX {
        let before = store.held().changes;
        let mut pages = Pages::of(rows::row(partition.0, KIND_HINT, &[]), 256, 1 << 20);
        let mut shown = Seen::new();
        node.0.store.wait_all().await?;
        while let Some(page) = pages.next(|scan| node.0.env.engine().scan(scan)).await? {
            for (row, _) in &page.rows {
                let _lock = node.0.store.lock(row).await;
                let local = node.0.store.latest(row).await?;
                let left = replica.rid_of_void(row, local).await?;
                left.record.siblings().iter().for_each(|s| _ = shown.add(s.dot));
            }
        }
        if store.held().changes == before {
            *replica.seen.borrow_mut() = shown;
            return Ok(());
        }
    }
    Ok(())
}

/// An answer to this peer that also teaches it what is closed, if it was refused for that.
pub(crate) fn taught<E: Env>(
    node: &Node<E>,
    peer: NodeId,
    partition: PartitionId,
    answer: impl FnOnce(Body) + 'static,
) -> impl FnOnce(Body) + 'static {
    let node = node.clone();
    move |body: Body| {
        let is_void = |failure: &Failure| failure.reason == Reason::Void;
        if matches!(&body, Body::Refused { failure } if is_void(failure)) {
            teach(&node, peer, partition);
        }
        answer(body);
    }
}

/// Tells a peer what is closed of a partition.
pub(crate) fn teach<E: Env>(node: &Node<E>, peer: NodeId, partition: PartitionId) {
    let Some(ends) = node.0.ends.get(&partition).map(|ends| ends.closed().finals()) else { return };
    if !ends.is_empty() {
        let deadline = node.0.env.now() + Duration::from_millis(CLOSING_MS);
        node.0.routes.tell(peer, partition, Body::Ends { ends }, deadline);
    }
}

/// Who speaks for a partition here, which incarnations live here, and what they have seen of these: a home, what a former
/// home has left, and hints, as far as there are any.
fn here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    about: &[Incarnation],
) -> (Option<Life>, Vec<Incarnation>, Seen) {
    let home = node.home(partition);
    let life = home.as_ref().map(|home| Life { standing: node.standing_of(home), ..node.life_of(home) });
    let hints = node.0.hints.get(partition).map(|store| store.replica().clone());
    let all: Vec<Rc<Replica<E>>> = [home, node.left(partition), hints].into_iter().flatten().collect();
    let mut seen = Seen::new();
    for (&incarnation, replica) in about.iter().flat_map(|one| all.iter().map(move |replica| (one, replica)))
    {
        if let Some(row) = replica.seen().row(incarnation) {
            let mut known = seen.row(incarnation).cloned().unwrap_or_default();
            known.join(row);
            seen.set_row(incarnation, known);
        }
    }
    (life, all.iter().map(|replica| replica.incarnation.get()).collect(), seen)
}

/// How often a hint store is gone through for what is void, while hints come in, before that is left to the next who
/// notices it.
const VOID_LOOKS_MAX: usize = 8;
