//! Where a key lives, and what each of its homes holds: for people and for tests.

use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::request::Located;
use crate::serve;
use gramme_core::codec::decode_record;
use gramme_core::reclaim::reclaimable;
use gramme_core::{Key, NodeId, Record};
use gramme_wire::Body;

/// Asks every home, and waits for each until the deadline.
pub(crate) async fn locate<E: Env>(node: &Node<E>, key: Key, deadline: Mono) -> Located {
    let partition = node.partition_of(&key);
    let homes = node.live().homes(partition);
    let others: Vec<NodeId> = homes.iter().copied().filter(|&home| home != node.id()).collect();
    let mut gather = node.0.routes.fan_out(&others, partition, Body::Read { key: key.clone() }, deadline);
    let mut found: Vec<(NodeId, Result<Option<Record>, String>)> =
        homes.iter().map(|&home| (home, Err("it did not answer in time".to_string()))).collect();
    if homes.contains(&node.id()) {
        serve::read_here(node, partition, &key, gather.ask_here(node.id()));
    }
    while let Step::Answer(peer, answer) = gather.next(deadline).await {
        if let Some(entry) = found.iter_mut().find(|entry| entry.0 == peer) {
            entry.1 = held(answer);
        }
    }
    Located { partition, homes: found, fallbacks: node.live().fallbacks(partition) }
}

fn held(answer: Answer) -> Result<Option<Record>, String> {
    match answer {
        Answer::Said(Body::ReadReply { record, frontier, .. }) => {
            let found = record.as_ref().map(decode_record).transpose().map_err(|bad| bad.to_string())?;
            // What may go has gone, whether or not the walk has come to it.
            Ok(found.filter(|record| !reclaimable(record, &frontier)))
        }
        Answer::Said(Body::Refused { failure }) => Err(failure.to_string()),
        Answer::Said(_) => Err("it gave an answer of another kind".to_string()),
        Answer::Lost => Err("its connection broke".to_string()),
        Answer::Unsent => Err("it cannot be reached".to_string()),
    }
}
