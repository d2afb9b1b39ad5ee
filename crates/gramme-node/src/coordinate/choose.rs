//! Whom a read asks, best first.
//!
//! Homes that answer come first: this node, then the others by power of two choices on what asking costs (answer
//! time and queue), so that nobody is flooded for being the fastest of a moment. A home that is only slow comes
//! before any fallback: a fallback knows no more than its hints, and a reader who asks for all copies means the
//! homes. One that has gone silent comes after the fallbacks: waiting for it is waiting for nothing, and a
//! strict read (`pr`) gets to it all the same.

use crate::env::Env;
use crate::node::Node;
use crate::request::Health;
use gramme_core::{NodeId, PartitionId};
use gramme_wire::Standing;
use std::collections::VecDeque;

/// Everyone on the preference list, in the order in which a read asks them.
pub(crate) fn readers<E: Env>(node: &Node<E>, partition: PartitionId) -> VecDeque<NodeId> {
    let now = node.0.env.now();
    let detector = node.0.detector.borrow();
    let me = node.id();
    let mut homes: Vec<(u8, u64, NodeId)> = Vec::new();
    let mut order = VecDeque::new();
    let live = node.live();
    let read_homes = live.reads().homes(partition);
    for &home in read_homes {
        homes.push(match home == me {
            // What this node lacks proves nothing: it is merged, but its answer does not count.
            true if node.home(partition).is_some_and(|r| node.standing_of(&r) == Standing::Unproven) => {
                (HOME_SILENT, 0, home)
            }
            true => (HOME_UP, 0, home),
            false if detector.is_silent(home) => (HOME_SILENT, 0, home),
            false => (home_class(detector.health(home, now)), detector.cost(home, now), home),
        });
    }
    let mut classes: Vec<(u8, Vec<(u64, NodeId)>)> = Vec::new();
    let mut classify = |class: u8, cost: u64, id: NodeId| match classes.iter_mut().find(|c| c.0 == class) {
        Some((_, members)) => members.push((cost, id)),
        None => classes.push((class, vec![(cost, id)])),
    };
    homes.into_iter().for_each(|(class, cost, id)| classify(class, cost, id));
    // Who is a home by the layout that is being gone to has more than other fallbacks.
    let mut fallbacks = live.homes(partition);
    fallbacks.retain(|home| !read_homes.contains(home));
    fallbacks.extend(live.fallbacks(partition));
    for (rank, fallback) in fallbacks.into_iter().enumerate() {
        let health = if fallback == me { Health::Up } else { detector.health(fallback, now) };
        classify(fallback_class(health), rank as u64, fallback);
    }
    classes.sort_unstable_by_key(|class| class.0);
    for (class, members) in classes {
        match class {
            HOME_UP | HOME_SLOW => by_two_choices(members, me, &mut order, || node.0.env.random()),
            _ => {
                let mut members = members;
                members.sort_unstable();
                order.extend(members.into_iter().map(|(_, id)| id));
            }
        }
    }
    order
}

/// This node if it is among them; then, again and again, the cheaper of two taken at random.
fn by_two_choices(
    mut members: Vec<(u64, NodeId)>,
    me: NodeId,
    order: &mut VecDeque<NodeId>,
    mut random: impl FnMut() -> u64,
) {
    if let Some(at) = members.iter().position(|member| member.1 == me) {
        order.push_back(members.swap_remove(at).1);
    }
    while members.len() > 1 {
        let dice = random();
        let one = dice as usize % members.len();
        let other = (one + 1 + (dice >> 32) as usize % (members.len() - 1)) % members.len();
        // At the same cost chance decides.
        let chosen = if members[other].0 < members[one].0 { other } else { one };
        order.push_back(members.swap_remove(chosen).1);
    }
    order.extend(members.into_iter().map(|(_, id)| id));
}

fn home_class(health: Health) -> u8 {
    match health {
        Health::Up => HOME_UP,
        Health::Suspect => HOME_SLOW,
        Health::Down => HOME_DOWN,
    }
}

fn fallback_class(health: Health) -> u8 {
    match health {
        Health::Up => 2,
        Health::Suspect => 4,
        Health::Down => 6,
    }
}

const HOME_UP: u8 = 0;
const HOME_SLOW: u8 = 1;
const HOME_SILENT: u8 = 3;
const HOME_DOWN: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn first_of(members: &[(u64, NodeId)], dice: u64) -> NodeId {
        let mut order = VecDeque::new();
        by_two_choices(members.to_vec(), NodeId(1), &mut order, || dice);
        assert_eq!(order.len(), members.len());
        order[0]
    }

    #[test]
    fn the_dearest_of_three_is_never_first() {
        let members = [(10, NodeId(2)), (20, NodeId(3)), (30, NodeId(4))];
        for one in 0..3_u64 {
            for other in 0..2_u64 {
                assert_ne!(first_of(&members, one | other << 32), NodeId(4));
            }
        }
    }

    #[test]
    fn at_the_same_cost_both_have_their_turn() {
        let members = [(10, NodeId(2)), (10, NodeId(3))];
        assert_ne!(first_of(&members, 0), first_of(&members, 1));
    }

    #[test]
    fn this_node_is_asked_first() {
        assert_eq!(first_of(&[(1, NodeId(2)), (0, NodeId(1)), (1, NodeId(3))], 0), NodeId(1));
    }
}
