//! Finding out which rows cannot be read. A page that is damaged does not say which keys it lacks, and what nobody
//! asks for by name is never mended; but the partition's other homes have the same keys. Each of those is read here,
//! and whatever fails is then known by name.
//!
//! Invariant: nothing is changed here; mending is done by whoever waits for damaged rows.
//!
//! It refuses to hurry: reading a partition from all its homes is paced as a rebuild, and done once for as long as the
//! damage lasts, then seldom, since a damaged table stays where it is until it is merged away.

use crate::admission::Work;
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::rows::{self, KIND_DATA};
use bytes::Bytes;
use gramme_core::limits::{LIST_PAGE_BYTES_MAX, LIST_PAGE_KEYS_MAX, NAMES_AGAIN_MS, NAMES_MS, PULL_PAGE_MS};
use gramme_core::{NodeId, PartitionId};
use gramme_wire::Body;
use std::collections::BTreeMap;
use std::time::Duration;

/// Looks into partitions with damaged pages for as long as the shard lives.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    let mut looked: BTreeMap<PartitionId, Mono> = BTreeMap::new();
    loop {
        let pause = NAMES_MS - NAMES_MS / 4 + env.random() % (NAMES_MS / 2);
        env.sleep_until(env.now() + Duration::from_millis(pause)).await;
        let damaged = node.0.store.partitions_with_damage();
        looked.retain(|partition, _| damaged.contains(partition));
        for partition in damaged {
            let again_at = looked.get(&partition).map(|&at| at + Duration::from_millis(NAMES_AGAIN_MS));
            if again_at.is_none_or(|at| env.now() >= at) && read_all(&node, partition).await {
                looked.insert(partition, env.now());
            }
        }
    }
}

/// Whether every other home of the partition has told all its keys.
async fn read_all<E: Env>(node: &Node<E>, partition: PartitionId) -> bool {
    let homes = node.co_homes(partition);
    let mut all = !homes.is_empty();
    for home in homes {
        all &= read_keys_of(node, partition, home).await.is_some();
    }
    all
}

/// Reads here every key that this home has; `None` if it did not answer to the end.
async fn read_keys_of<E: Env>(node: &Node<E>, partition: PartitionId, home: NodeId) -> Option<()> {
    let mut after: Option<Bytes> = None;
    loop {
        node.admission().slice(Work::Rebuild, LIST_PAGE_BYTES_MAX as u64).await;
        let deadline = node.0.env.now() + Duration::from_millis(PULL_PAGE_MS);
        let body = Body::Copy { after: after.clone(), keys_max: LIST_PAGE_KEYS_MAX as u32 };
        let mut asked = node.0.routes.fan_out(&[home], partition, body, deadline);
        let Step::Answer(_, Answer::Said(Body::CopyReply { entries, more, .. })) = asked.next(deadline).await
        else {
            return None;
        };
        for entry in &entries {
            let row = rows::row(partition.0, KIND_DATA, &entry.key);
            node.0.store.forget_cached(&row);
            // What fails is remembered by its name.
            let _ = node.0.store.durable(&row).await;
        }
        let last = entries.into_iter().next_back().map(|entry| entry.key);
        match last.filter(|last| more && after.as_ref().is_none_or(|after| after < last)) {
            Some(last) => after = Some(last),
            None => return (!more).then_some(()),
        }
    }
}
