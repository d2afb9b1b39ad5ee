//! How bucket settings reach everyone: each second a digest to one random peer, the whole map to whoever
//! differs, and at once to all after a change. The map is a state that merges, so order and repetition do not
//! matter (design section 3, Buckets). Shard 0 does this for its process and tells the others.

use crate::env::{Env, Fact};
use crate::node::Node;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::rows::{self, KIND_BUCKET};
use crate::serve::facts_of;
use gramme_core::bucket::{BucketFact, BucketSettings, Buckets, read_bucket_fact, write_bucket_fact};
use gramme_core::codec::{BadBytes, Writer, seal, unseal};
use gramme_core::limits::{BUCKETS_MAX, GOSSIP_MS};
use gramme_core::{NodeId, Stamp};
use gramme_storage::{Engine, EngineError};
use gramme_wire::{Body, Failure, Message, Reason};
use std::time::Duration;

/// Each second, one random peer.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        env.sleep_until(env.now() + Duration::from_millis(GOSSIP_MS)).await;
        let peers: Vec<NodeId> = node.peers().collect();
        if !peers.is_empty() {
            greet(&node, peers[(env.random() % peers.len() as u64) as usize]);
        }
    }
}

/// Tells a peer what settings are in force here, in short.
pub(crate) fn greet<E: Env>(node: &Node<E>, peer: NodeId) {
    let digest = node.0.buckets.borrow().digest();
    tell(node, peer, Body::BucketsDigest { digest });
}

/// A peer has said what it has, in short; if it differs, both send theirs.
pub(crate) fn compare<E: Env>(node: &Node<E>, peer: NodeId, digest: u64) {
    if node.0.buckets.borrow().digest() != digest {
        send_all(node, peer, true);
    }
}

/// A peer has sent its settings.
pub(crate) fn receive<E: Env>(node: &Node<E>, from: NodeId, facts: Vec<(String, BucketFact)>, reply: bool) {
    let n = node.layout().n();
    let changed: Vec<(String, BucketFact)> = {
        let mut buckets = node.0.buckets.borrow_mut();
        let room = |buckets: &Buckets, name: &str| {
            buckets.len() < BUCKETS_MAX || buckets.facts().any(|f| f.0 == name)
        };
        facts
            .into_iter()
            .filter(|(name, fact)| {
                fact.settings.check(n).is_ok()
                    && room(&buckets, name)
                    && buckets.merge_one(name, fact.clone())
            })
            .collect()
    };
    for (_, fact) in &changed {
        // A stamp that is too far ahead is not followed; the settings are taken all the same.
        let _ = node.0.hlc.borrow_mut().observe(fact.stamp, node.0.env.wall_ms());
    }
    if !changed.is_empty() {
        // A store that refuses will say so at the next write; the settings hold while the process lives.
        let _ = node.0.store.append_plain(changed.iter().map(|(name, fact)| bucket_row(name, fact)));
        node.0.env.tell_shards(Fact::Buckets(node.0.buckets.borrow().clone()));
    }
    if reply {
        send_all(node, from, false);
    }
}

/// Sets a bucket's settings, durably, and tells everyone.
pub(crate) async fn set_bucket<E: Env>(
    node: &Node<E>,
    name: &str,
    settings: BucketSettings,
) -> Result<BucketSettings, Failure> {
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    gramme_core::id::check_bucket(name).map_err(|bad| invalid(bad.to_string()))?;
    settings.check(node.layout().n()).map_err(invalid)?;
    {
        let buckets = node.0.buckets.borrow();
        if buckets.len() >= BUCKETS_MAX && !buckets.facts().any(|fact| fact.0 == name) {
            return Err(invalid(format!(
                "{BUCKETS_MAX} buckets have settings already, which is the most allowed"
            )));
        }
    }
    let now = node.0.hlc.borrow_mut().next(node.0.env.wall_ms());
    // Whoever set it last may have had a clock far ahead, which is not followed and must not win for ever.
    let before = node.0.buckets.borrow().facts().find(|fact| fact.0 == name).map(|fact| fact.1.stamp);
    let stamp = before.map_or(now, |before| now.max(Stamp(before.0.saturating_add(1))));
    let fact = BucketFact { settings, stamp, author: node.id() };
    let disk = |cause: EngineError| Failure {
        outcome: gramme_core::Outcome::MaybeApplied,
        ..Failure::not_applied(Reason::Disk(cause.to_string()))
    };
    let batch = node
        .0
        .store
        .append_plain([bucket_row(name, &fact)])
        .map_err(|cause| Failure::not_applied(Reason::Disk(cause.to_string())))?;
    // In memory in the order of the appends: what a peer sends meanwhile is measured against this.
    node.0.buckets.borrow_mut().merge_one(name, fact);
    node.0.store.wait(batch).await.map_err(disk)?;
    node.0.env.tell_shards(Fact::Buckets(node.0.buckets.borrow().clone()));
    for peer in node.peers().collect::<Vec<_>>() {
        send_all(node, peer, false);
    }
    Ok(node.settings(name))
}

/// The settings that the store remembers.
pub(crate) async fn load_buckets<E: Env>(env: &E) -> Result<Buckets, EngineError> {
    let mut buckets = Buckets::new();
    let mut pages = Pages::of(rows::node_row(KIND_BUCKET, &[]), 256, 1 << 20);
    while let Some(page) = pages.next(|scan| env.engine().scan(scan)).await? {
        if page.damaged {
            env.probe(Probe::Corrupt);
        }
        for (_, bytes) in &page.rows {
            match decode_bucket(bytes) {
                Ok((name, fact)) => _ = buckets.merge_one(&name, fact),
                // Every peer knows them: gossip brings them back.
                Err(_) => env.probe(Probe::Corrupt),
            }
        }
    }
    Ok(buckets)
}

fn bucket_row(name: &str, fact: &BucketFact) -> (bytes::Bytes, bytes::Bytes) {
    let mut w = Writer::new();
    w.u8(VERSION);
    write_bucket_fact(&mut w, name, fact);
    seal(&mut w, 0);
    (rows::node_row(KIND_BUCKET, name.as_bytes()), w.into_bytes())
}

fn decode_bucket(bytes: &[u8]) -> Result<(String, BucketFact), BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let named = read_bucket_fact(&mut r)?;
    r.end()?;
    Ok(named)
}

fn send_all<E: Env>(node: &Node<E>, peer: NodeId, reply: bool) {
    let facts = facts_of(&node.0.buckets.borrow());
    tell(node, peer, Body::Buckets { facts, reply });
}

/// Tells a peer something that it hears again if it is lost.
pub(crate) fn tell<E: Env>(node: &Node<E>, peer: NodeId, body: Body) {
    let deadline = node.0.env.now() + Duration::from_millis(GOSSIP_MS);
    // A peer that is away hears it when it is back: greetings are exchanged at every connection.
    let _ = node.0.routes.tell(peer, Message::NO_PARTITION, body, deadline);
}

const VERSION: u8 = 1;
