//! Being asked: what a node does for its peers. Most requests end without waiting and are served in the
//! receive loop; one that must wait for the disk goes on in a task of its own, so that it holds up nobody.
//!
//! A late replica merge is always taken; late coordination is refused (design section 5).

use crate::change::{commit, steps};
use crate::closing;
use crate::cluster_gossip;
use crate::env::{Env, Fact, Mono};
use crate::exchange;
use crate::gossip;
use crate::hints::handoff;
use crate::node::Node;
use crate::probe::Probe;
use crate::replica::{Merged, Replica, disk};
use crate::rows;
use crate::store::{BatchId, Kept};
use crate::trees::audit;
use bytes::Bytes;
use gramme_core::bucket::Buckets;
use gramme_core::codec::{decode_record, encode_record};
use gramme_core::limits::{LIST_PAGE_BYTES_MAX, LIST_PAGE_KEYS_MAX, LOOKS_MAX, SERVED_MAX};
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, NodeId, PartitionId};
use gramme_storage::{EngineError, Scan};
use gramme_wire::{Body, Digest, Entry, Failure, Message, PullOf, Put, Reason, Standing, TreeRoot};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Serves one request of a peer.
pub(crate) fn serve<E: Env>(node: &Node<E>, from: NodeId, message: Message, deadline: Mono) {
    let Message { correlation, partition, body, .. } = message;
    let late = node.0.env.now() >= deadline;
    let answer = {
        let node = node.clone();
        move |body: Body| reply(&node, from, correlation, partition, body)
    };
    match body {
        // Its twin has been answered or will be.
        Body::Forward { .. } if !node.0.once.borrow_mut().is_first(from, correlation) => {}
        Body::Read { .. } | Body::Forward { .. } | Body::List { .. } | Body::Copy { .. } if late => {
            answer(refused(Reason::TooLate))
        }
        Body::Read { .. }
        | Body::Merge { .. }
        | Body::List { .. }
        | Body::Pull { .. }
        | Body::PullMore { .. }
        | Body::Copy { .. }
        | Body::AskSeen
        | Body::Survey { .. }
        | Body::Freeze { .. }
        | Body::TreeKeys { .. }
        | Body::Offer { .. }
            if node.0.served.get() >= SERVED_MAX =>
        {
            node.0.env.probe(Probe::Shed);
            answer(refused(Reason::Overloaded));
        }
        Body::Read { key } => {
            let node = node.clone();
            now_or_later(&node.clone(), "read", async move { answer(read(&node, partition, &key).await) });
        }
        Body::Merge { fence, .. } if is_fenced(node, from, fence) => answer(refused(Reason::StaleLayout)),
        Body::Merge { key, record, hint_for, stamp, buffered, fence } => {
            let node = node.clone();
            now_or_later(&node.clone(), "merge", async move {
                let arriving = Arriving { key, record, hint_for, stamp, buffered, fence };
                let answer = closing::taught(&node, from, partition, answer);
                merge(&node, partition, arriving, answer).await;
            });
        }
        Body::Forward { put } => forward(node, *put, deadline, answer),
        Body::List { .. } | Body::Copy { .. } => {
            let node = node.clone();
            now_or_later(&node.clone(), "list", async move {
                answer(rows_here(&node, partition, &body).await);
            });
        }
        Body::Ping => answer(Body::Pong),
        Body::BucketsDigest { digest } => gossip::compare(node, from, digest),
        Body::Buckets { facts, reply } => gossip::receive(node, from, facts.into_iter().collect(), reply),
        Body::Reconcile(step) => cluster_gossip::hear(node, from, step),
        Body::Digests { digests } => {
            let digests: Arc<[Digest]> = digests.into();
            node.0.env.tell_shards(Fact::Digests { from, correlation, digests: digests.clone() });
            exchange::answer(node, from, correlation, &digests);
        }
        pull @ Body::Pull { .. } => {
            let node = node.clone();
            now_or_later(&node.clone(), "serve a pull", async move {
                answer(exchange::begin(&node, from, partition, pull).await);
            });
        }
        Body::PullMore { session, after } => {
            let node = node.clone();
            now_or_later(&node.clone(), "serve a pull", async move {
                answer(exchange::more(&node, from, session, after).await);
            });
        }
        Body::Offer { seen, left } => {
            let node = node.clone();
            let of = if left { PullOf::Left } else { PullOf::Hints };
            now_or_later(&node.clone(), "offered hints", async move {
                answer(handoff::offered(&node, from, partition, seen, of).await);
            });
        }
        Body::AskSeen => {
            let node = node.clone();
            now_or_later(&node.clone(), "seen", async move {
                answer(exchange::ask_seen(&node, partition).await);
            });
        }
        Body::Survey { fence, .. } | Body::Freeze { fence, .. }
            if fence > 0 && fence != node.live().fence() =>
        {
            steps::differs(node, from);
            answer(refused(Reason::StaleLayout));
        }
        Body::Survey { about, .. } => {
            let node = node.clone();
            now_or_later(&node.clone(), "survey", async move {
                answer(closing::survey(&node, partition, &about).await);
            });
        }
        Body::Freeze { incarnation, set, .. } => {
            let node = node.clone();
            now_or_later(&node.clone(), "freeze", async move {
                answer(closing::freeze(&node, partition, incarnation, &set).await);
            });
        }
        Body::Ends { ends } => closing::learn_all(node, partition, &ends),
        Body::Paxos(request) => {
            let node = node.clone();
            now_or_later(&node.clone(), "paxos", async move {
                answer(commit::answer(&node, &request).await);
            });
        }
        Body::TreeRoots { skips_tombstones, reply, roots } => {
            let roots: Arc<[TreeRoot]> = roots.into();
            node.0.env.tell_shards(Fact::Roots { from, skips_tombstones, reply, roots: roots.clone() });
            audit::compare(node, from, skips_tombstones, reply, &roots);
        }
        Body::TreeNodes { level, nodes } => {
            let children = audit::nodes_here(node, partition, level, &nodes);
            answer(children.unwrap_or_else(|| refused(Reason::Unsuitable)));
        }
        Body::TreeKeys { depth, leaves, after } => {
            let node = node.clone();
            now_or_later(&node.clone(), "tree keys", async move {
                let leaves = leaves.into_iter().collect();
                let keys = audit::keys_here(&node, partition, depth, &leaves, after).await;
                answer(keys.unwrap_or_else(|| refused(Reason::Unsuitable)));
            });
        }
        Body::AuditDone => audit::done(node, partition, from),
        // Replies are routed before they come here.
        Body::ReadReply { .. }
        | Body::MergeReply
        | Body::ForwardReply { .. }
        | Body::ListReply { .. }
        | Body::CopyReply { .. }
        | Body::Pong
        | Body::Refused { .. }
        | Body::TreeNodesReply { .. }
        | Body::TreeKeysReply { .. }
        | Body::DigestsReply { .. }
        | Body::PullReply { .. }
        | Body::SeenReply { .. }
        | Body::PaxosReply(_)
        | Body::SurveyReply { .. }
        | Body::FreezeReply { .. }
        | Body::OfferReply { .. } => {}
    }
}

fn nothing_known() -> Body {
    Body::ReadReply { standing: Standing::Unproven, record: None, frontier: Frontier::none() }
}

/// What this node holds of a key: home data, or as a fallback its hints.
async fn read<E: Env>(node: &Node<E>, partition: PartitionId, key: &Key) -> Body {
    let (found, standing) = match node.home(partition) {
        Some(replica) => (read_home(node, &replica, key).await, node.standing_of(&replica)),
        None => match node.0.hints.get(partition) {
            Some(hints) => {
                let found = hints.replica().read(key).await.map_err(disk);
                (found.map(|kept| (kept, Frontier::none())), Standing::Unproven)
            }
            // What a former home keeps is as good as a hint, until the homes have it.
            None => match node.left(partition) {
                Some(replica) => {
                    let found = replica.read(key).await.map_err(disk);
                    (found.map(|kept| (kept, Frontier::none())), Standing::Unproven)
                }
                None => return nothing_known(),
            },
        },
    };
    match found {
        Ok((kept, frontier)) => {
            let record = (!kept.encoded.is_empty()).then(|| kept.encoded.clone());
            let standing = if planted::on(Bug::QuarantineAnswers) { Standing::Continuous } else { standing };
            Body::ReadReply { standing, record, frontier }
        }
        Err(reason) => refused(reason),
    }
}

/// What this home holds of a key, and the frontier that it vouches with for that.
pub(crate) async fn read_home<E: Env>(
    node: &Node<E>,
    replica: &Replica<E>,
    key: &Key,
) -> Result<(Rc<Kept>, Frontier), Reason> {
    let look = async || replica.read(key).await.map_err(|cause| replica.refusal(cause));
    at_one_frontier(node, replica, look).await
}

/// Looks at what a home holds, and says with which frontier it vouches for that: the one that was in force from
/// before it looked until after. A later one would vouch for what was not yet seen; an earlier one would not cover
/// what has meanwhile been stripped from a clock, and whatever that had overwritten would come back.
async fn at_one_frontier<E: Env, T>(
    node: &Node<E>,
    replica: &Replica<E>,
    look: impl AsyncFn() -> Result<T, Reason>,
) -> Result<(T, Frontier), Reason> {
    let mut before = node.vouched(replica);
    for _ in 0..LOOKS_MAX {
        let found = look().await?;
        let after = node.vouched(replica);
        if after == before {
            return Ok((found, before));
        }
        before = after;
    }
    Err(Reason::Overloaded)
}

/// Reads a key here for this node's own question; a slow disk holds up nobody.
pub(crate) fn read_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    key: &Key,
    answer: impl FnOnce(Body) + 'static,
) {
    let (reader, key) = (node.clone(), key.clone());
    now_or_later(node, "read here", async move { answer(read(&reader, partition, &key).await) });
}

/// Joins a record in here for this node's own sake; `body` is a [`Body::Merge`].
pub(crate) fn merge_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    body: Body,
    answer: impl FnOnce(Body) + 'static,
) {
    let Body::Merge { key, record, hint_for, stamp, buffered, fence } = body else {
        return answer(refused(Reason::Invalid("a merge was expected".to_string())));
    };
    let arriving = Arriving { key, record, hint_for, stamp, buffered, fence };
    let owner = node.clone();
    now_or_later(node, "merge here", async move { merge(&owner, partition, arriving, answer).await });
}

/// Whether a client's write comes by layouts of which this node has adopted a later one: whoever fills a new home from
/// this one would not have it (the fence of correctness.md 5.3).
fn is_fenced<E: Env>(node: &Node<E>, from: NodeId, fence: u64) -> bool {
    let mine = node.live().fence();
    if fence == 0 || fence == mine {
        return false;
    }
    steps::differs(node, from);
    fence < mine && !planted::on(Bug::NoFence)
}

/// A record that a peer sends.
struct Arriving {
    key: Key,
    record: Bytes,
    hint_for: Option<NodeId>,
    stamp: Frontier,
    buffered: bool,
    fence: u64,
}

/// Joins a record into what is here, and answers once that is durable, or at once if so asked.
async fn merge<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    arriving: Arriving,
    answer: impl FnOnce(Body) + 'static,
) {
    let Arriving { key, record, hint_for, stamp, buffered, fence } = arriving;
    let key = key.detached();
    let merged = match (node.home(partition), hint_for) {
        // A home needs no hint: what was meant for another's place is data here.
        (Some(replica), _) => {
            // Layouts may have changed while it waited for its row.
            let is_stale = || fence > 0 && fence < node.live().fence() && !planted::on(Bug::NoFence);
            let may = || if is_stale() { Err(Reason::StaleLayout) } else { Ok(()) };
            replica.merge_if(&key, &record, &stamp, &[], may).await
        }
        (None, Some(home)) => keep_hint(node, partition, &key, &record, home).await,
        (None, None) => Err(Reason::Unsuitable),
    };
    match merged {
        // A hint is kept for someone who is not there to notice its loss: it is durable first, whatever is asked.
        Ok(Merged { batch }) if buffered && (hint_for.is_none() || planted::on(Bug::BufferedHint)) => {
            answer(Body::MergeReply);
            watch_window(node, batch);
        }
        Ok(Merged { batch }) => node.0.store.when_durable(batch, move |fate| answer(settled(fate))),
        Err(reason) => answer(refused(reason)),
    }
}

/// Measures how long a crash could still take back what was acknowledged from memory: the next batch has it.
pub(crate) fn watch_window<E: Env>(node: &Node<E>, batch: BatchId) {
    let (env, began) = (node.0.env.clone(), node.0.env.now());
    node.0.store.when_durable(batch, move |fate| {
        if fate.is_ok() {
            env.probe(Probe::Buffered { window: env.now().since(began) });
        }
    });
}

/// How a replica answers a merge, its own or a peer's, once the batch is settled.
pub(crate) fn settled(fate: Result<(), EngineError>) -> Body {
    match fate {
        Ok(()) => Body::MergeReply,
        Err(cause) => refused(disk(cause)),
    }
}

async fn keep_hint<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    key: &Key,
    record: &Bytes,
    home: NodeId,
) -> Result<Merged, Reason> {
    let live = node.live();
    if partition.0 as usize >= live.partitions() || !live.is_home(partition, home) {
        return Err(Reason::Unsuitable);
    }
    let keeping = node.0.hints.keep(partition, key.as_bytes().len() + record.len()).await?;
    let merged = keeping.replica().merge(key, record, &Frontier::none(), &[home]).await?;
    keeping.wanted_by([home]);
    node.0.env.probe(Probe::HintStored);
    Ok(merged)
}

/// A page of the rows of a partition that this node holds as a home.
async fn rows_here<E: Env>(node: &Node<E>, partition: PartitionId, asked: &Body) -> Body {
    match asked {
        Body::Copy { after, keys_max } => copy_here(node, partition, after.as_ref(), *keys_max).await,
        asked => list_here(node, partition, asked).await,
    }
}

/// A page of everything, whatever its bucket.
async fn copy_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    after: Option<&Bytes>,
    keys_max: u32,
) -> Body {
    let Some(replica) = node.home(partition) else { return refused(Reason::Unsuitable) };
    // Before the page is read: what is written meanwhile is more than is claimed.
    let seen = replica.seen_digest();
    let scan = Scan {
        prefix: rows::row(partition.0, rows::KIND_DATA, &[]),
        after: after.map(|key| rows::row(partition.0, rows::KIND_DATA, key)),
        rows_max: (keys_max as usize).clamp(1, LIST_PAGE_KEYS_MAX),
        bytes_max: LIST_PAGE_BYTES_MAX,
    };
    let look = async || replica.scan(scan.clone()).await.map_err(|cause| replica.refusal(cause));
    match at_one_frontier(node, &replica, look).await {
        Ok((found, _)) if !found.whole && replica.is_only_home() => refused(Reason::Damaged),
        Ok((found, frontier)) => Body::CopyReply {
            standing: if found.whole { node.standing_of(&replica) } else { Standing::Unproven },
            entries: found
                .rows
                .into_iter()
                .map(|(key, record)| Entry { key: key.joined().clone(), record })
                .collect(),
            more: found.more,
            frontier,
            seen,
        },
        Err(reason) => refused(reason),
    }
}

/// A page of the keys of a partition that this node holds as a home; `asked` is a [`Body::List`].
async fn list_here<E: Env>(node: &Node<E>, partition: PartitionId, asked: &Body) -> Body {
    let Body::List { bucket, prefix, after, keys_max, values } = asked else {
        return refused(Reason::Invalid("a list was expected".to_string()));
    };
    if let Err(bad) = gramme_core::id::check_bucket(bucket) {
        return refused(Reason::Invalid(bad.to_string()));
    }
    let Some(replica) = node.home(partition) else { return refused(Reason::Unsuitable) };
    let asked = PageOf { bucket, prefix, after: after.as_deref(), keys_max: *keys_max, values: *values };
    match at_one_frontier(node, &replica, async || page_of(&replica, partition, &asked).await).await {
        Ok(((_, _, false), _)) if replica.is_only_home() => refused(Reason::Damaged),
        Ok(((entries, more, whole), frontier)) => {
            let standing = if whole { node.standing_of(&replica) } else { Standing::Unproven };
            Body::ListReply { standing, entries, more, frontier }
        }
        Err(reason) => refused(reason),
    }
}

/// Lists a page here for this node's own question.
pub(crate) fn page_here<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    asked: &Body,
    answer: impl FnOnce(Body) + 'static,
) {
    let (reader, asked) = (node.clone(), asked.clone());
    now_or_later(node, "list here", async move { answer(rows_here(&reader, partition, &asked).await) });
}

struct PageOf<'a> {
    bucket: &'a str,
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
    keys_max: u32,
    values: bool,
}

async fn page_of<E: Env>(
    replica: &Replica<E>,
    partition: PartitionId,
    asked: &PageOf<'_>,
) -> Result<(Vec<Entry>, bool, bool), Reason> {
    let row = |key: &[u8]| {
        let mut joined = Vec::with_capacity(1 + asked.bucket.len() + key.len());
        joined.push(asked.bucket.len() as u8);
        joined.extend_from_slice(asked.bucket.as_bytes());
        joined.extend_from_slice(key);
        rows::row(partition.0, rows::KIND_DATA, &joined)
    };
    let scan = Scan {
        prefix: row(asked.prefix),
        after: asked.after.map(row),
        rows_max: (asked.keys_max as usize).clamp(1, LIST_PAGE_KEYS_MAX),
        bytes_max: LIST_PAGE_BYTES_MAX,
    };
    let found = replica.scan(scan).await.map_err(|cause| replica.refusal(cause))?;
    let mut entries = Vec::with_capacity(found.rows.len());
    for (key, mut record) in found.rows {
        if !asked.values {
            let whole =
                decode_record(&record).map_err(|bad| Reason::Disk(format!("a stored record: {bad}")))?;
            record = encode_record(&whole.without_values());
        }
        entries.push(Entry { key: Bytes::copy_from_slice(key.key()), record });
    }
    Ok((entries, found.more, found.whole))
}

fn forward<E: Env>(node: &Node<E>, put: Put, deadline: Mono, answer: impl FnOnce(Body) + 'static) {
    // Whoever hands it on has found no home that could, or this node is one.
    match node.admit() {
        Ok(()) => node.put_for_peer(put, deadline, answer),
        Err(reason) => answer(refused(reason)),
    }
}

fn reply<E: Env>(node: &Node<E>, to: NodeId, correlation: u64, partition: PartitionId, body: Body) {
    let sent_ns = node.0.env.now().0;
    // An answer that cannot be sent is the asker's time-out.
    let _ = node.0.env.send(to, Message { correlation, partition, remaining_us: 0, sent_ns, body });
}

pub(crate) fn refused(reason: Reason) -> Body {
    Body::Refused { failure: Box::new(Failure::not_applied(reason)) }
}

/// Serves at once what need not wait, and lets the rest go on in a task.
pub(crate) fn now_or_later<E: Env>(
    node: &Node<E>,
    name: &'static str,
    work: impl Future<Output = ()> + 'static,
) {
    let mut work = Box::pin(work);
    let ready = work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    if !ready {
        let served = node.clone();
        served.0.served.set(served.0.served.get() + 1);
        // The task polls again from where it stands, and is woken itself from then on.
        node.0.env.spawn(name, async move {
            work.await;
            served.0.served.set(served.0.served.get() - 1);
        });
    }
}

/// Bucket facts as they travel.
pub(crate) fn facts_of(buckets: &Buckets) -> Vec<(String, gramme_core::bucket::BucketFact)> {
    buckets.facts().map(|(name, fact)| (name.to_string(), fact.clone())).collect()
}
