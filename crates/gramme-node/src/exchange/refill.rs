//! Making a replica whole again: everything of every other home, in sessions that skip nothing. A home that is
//! down is waited for, visibly; whoever comes back is asked at once.
//!
//! Two replicas that both lost something are refilled from each other too: what neither lost alone is found.

use crate::env::Env;
use crate::exchange::ask;
use crate::node::Node;
use crate::replica::Replica;
use gramme_core::{NodeId, PartitionId};
use std::rc::Rc;

/// Asks for what is still missing of all replicas that are being refilled. One for which nothing is missing is whole,
/// and has only to say so: a crash may have come before that was durable.
pub(crate) fn continue_all<E: Env>(node: &Node<E>) {
    for (partition, replica) in node.homes() {
        let co_homes = node.co_homes(partition);
        let awaited = replica.awaited(&co_homes);
        // One that comes where everybody else is lost has all that there is.
        let last = co_homes.last().copied().or(replica.is_new().then_some(node.id()));
        if replica.is_unproven()
            && awaited.is_empty()
            && let Some(last) = last
        {
            let (node, replica) = (node.clone(), Rc::clone(&replica));
            node.0.env.clone().spawn("end a refill", async move {
                was_filled(&node, &replica, partition, last).await;
            });
        }
        for home in awaited {
            if node.0.detector.borrow().is_connected(home) {
                ask::want(node, partition, home);
            }
        }
    }
    ask::next(node);
}

/// Everything of one home was merged.
pub(crate) async fn was_filled<E: Env>(
    node: &Node<E>,
    replica: &Replica<E>,
    partition: PartitionId,
    home: NodeId,
) {
    // A store that refuses is closed until the next start, which goes on from what is durable.
    let _ = replica.refilled_from(home, &node.co_homes(partition)).await;
}
