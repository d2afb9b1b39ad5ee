//! How the holes that a crash leaves are closed (correctness.md 2.4; [`gramme_core::closed`] has the rules). A
//! dot that was sent and was never durable at its minter is a hole in every seen clock, and holds the frontier,
//! and so all tombstones of its partition, back for ever.
//!
//! ```text
//! every home      a hole that stays ──▶ counted and shown; the first home of the preference list leads, and those
//!                 after it if that does not help: it may keep nothing any more that names the hole
//! the leader      Survey everyone: who lives, what is seen, how it ended
//!                   └▶ nobody lives it, all homes agree, nobody has more ──▶ Freeze at that set, everywhere
//!                        └▶ everyone has ──▶ closed here, and told (Ends)
//! everyone else   takes nothing unseen outside a frozen set; learns what is final from the leader, from a home
//!                 with which it differs, or from whoever refuses a void state of its
//! ```
//!
//! All that lasts is the row of each ended incarnation at each node (`ends`). A leader that crashes, or a node
//! that does not answer, leaves frozen sets behind, and the next round goes on from them. Two leaders do no harm.
//!
//! Invariant: an incarnation is closed only after every node of the cluster has durably frozen it at that set.
//!
//! It refuses to guess who is dead: an incarnation is closed only if every node says that it does not live it,
//! which stays true for ever, because incarnations are never taken up again. While a node is silent it waits, and
//! says for whom.

mod answer;
mod ends;
mod lead;
mod plan;

pub(crate) use answer::{freeze, learn_all, survey, taught, teach};
pub(crate) use ends::{AllEnds, Ends};
pub(crate) use lead::learn_from;

use crate::env::Env;
use crate::node::Node;
use crate::replica::Replica;
use gramme_core::closed::holds_back;
use gramme_core::limits::{CLOSING_MS, SURVEY_MAX};
use gramme_core::{Incarnation, NodeId, PartitionId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a shard knows of the holes in what its homes have seen.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    holes: RefCell<BTreeMap<PartitionId, BTreeMap<Incarnation, Hole>>>,
    /// The nodes without whose word nothing could be closed in the last round that this home led.
    waits_for: RefCell<BTreeMap<PartitionId, BTreeSet<NodeId>>>,
}

/// A hole as it was when last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    base: u64,
    /// For how many rounds it has been the same.
    stays: u32,
}

impl Closing {
    /// Holes that stay.
    pub(crate) fn holes(&self) -> usize {
        self.holes.borrow().values().flat_map(BTreeMap::values).filter(|hole| hole.stays > 0).count()
    }

    /// Whether holes stay in a partition.
    fn has_holes(&self, partition: PartitionId) -> bool {
        self.holes.borrow().get(&partition).is_some_and(|holes| holes.values().any(|hole| hole.stays > 0))
    }

    /// Takes note of the holes that there are now; those that have stayed for so many rounds.
    fn look(
        &self,
        partition: PartitionId,
        now: BTreeMap<Incarnation, u64>,
        patience: u32,
    ) -> Vec<Incarnation> {
        let mut all = self.holes.borrow_mut();
        let before = all.remove(&partition).unwrap_or_default();
        let look = |(incarnation, base): (Incarnation, u64)| {
            let same = before.get(&incarnation).filter(|hole| hole.base == base);
            (incarnation, Hole { base, stays: same.map_or(0, |hole| hole.stays.saturating_add(1)) })
        };
        let holes: BTreeMap<Incarnation, Hole> = now.into_iter().map(look).collect();
        let staying = holes.iter().filter(|(_, hole)| hole.stays >= patience);
        let staying = staying.map(|(&incarnation, _)| incarnation).take(SURVEY_MAX).collect();
        if !holes.is_empty() {
            all.insert(partition, holes);
        }
        staying
    }
}

/// Round after round for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        let pause = CLOSING_MS - CLOSING_MS / 4 + env.random() % (CLOSING_MS / 2);
        env.sleep_until(env.now() + Duration::from_millis(pause)).await;
        for (partition, replica) in node.homes() {
            let staying = node.0.closing.look(partition, holes_of(&replica), patience(&node, partition));
            let mut waits_for = BTreeSet::new();
            if !staying.is_empty() {
                waits_for = lead::round(&node, partition, staying).await;
            }
            node.0.closing.waits_for.borrow_mut().insert(partition, waits_for);
        }
    }
}

/// For how many rounds a hole must have stayed before this home leads: two more for each home before it.
fn patience<E: Env>(node: &Node<E>, partition: PartitionId) -> u32 {
    let before = node.live().homes(partition).into_iter().take_while(|&home| home != node.id()).count();
    1 + 2 * before as u32
}

/// The nodes without which the holes of a partition cannot be closed, as this one sees it.
pub(crate) fn waits_for<E: Env>(node: &Node<E>, partition: PartitionId) -> BTreeSet<NodeId> {
    if !node.0.closing.has_holes(partition) {
        return BTreeSet::new();
    }
    let mut silent: BTreeSet<NodeId> =
        node.peers().filter(|&peer| !node.0.detector.borrow().is_connected(peer)).collect();
    silent.extend(node.0.closing.waits_for.borrow().get(&partition).into_iter().flatten());
    silent
}

/// What holds the frontier of a home back, as far as it can tell alone: incarnations of which it has seen
/// something beyond a hole, or which a waiting tombstone names beyond what was seen, and those that somebody has
/// begun to close; with the base of each.
fn holes_of<E: Env>(replica: &Replica<E>) -> BTreeMap<Incarnation, u64> {
    let (seen, live) = (replica.seen(), replica.incarnation.get());
    let closed = replica.ends().closed();
    let base = |incarnation| seen.row(incarnation).map_or(0, |row| row.base());
    let with_holes = seen.rows().filter(|(_, row)| holds_back([*row])).map(|(incarnation, _)| incarnation);
    let begun = closed.ends().filter(|(_, end)| !end.closed).map(|(incarnation, _)| incarnation);
    let open = |incarnation: &Incarnation| *incarnation != live && !closed.is_closed(*incarnation);
    let all = with_holes.chain(begun).chain(replica.reclaim().named()).filter(open);
    all.map(|incarnation| (incarnation, base(incarnation))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(3);

    fn holes(bases: &[(u64, u64)]) -> BTreeMap<Incarnation, u64> {
        bases.iter().map(|&(incarnation, base)| (Incarnation(incarnation), base)).collect()
    }

    #[test]
    fn a_hole_is_looked_into_once_it_has_stayed() {
        let closing = Closing::default();
        assert_eq!(closing.look(P, holes(&[(1, 5), (2, 7)]), 1), []);
        assert_eq!(closing.holes(), 0, "under load there are always some");
        assert_eq!(closing.look(P, holes(&[(1, 5), (2, 9)]), 1), [Incarnation(1)], "the other moves on");
        assert_eq!(closing.holes(), 1);
        assert!(closing.has_holes(P));
        assert_eq!(closing.look(P, holes(&[]), 1), []);
        assert!(!closing.has_holes(P), "it is gone");
    }

    #[test]
    fn a_home_that_is_not_the_first_leaves_a_hole_to_those_before_it_for_a_while() {
        let closing = Closing::default();
        let look = || closing.look(P, holes(&[(1, 5)]), 3);
        assert_eq!([look(), look(), look()], [[], [], []]);
        assert_eq!(look(), [Incarnation(1)], "nobody has closed it");
    }
}
