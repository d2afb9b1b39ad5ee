//! One page of a partition's keys, joined from R replicas, each key once. A key counts up to where every
//! answering replica has looked: beyond the shortest page that was cut off, the next page goes on.

use crate::coordinate::{OVERDUE, acks};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Step};
use crate::live::Live;
use crate::node::Node;
use crate::probe::Operation;
use crate::request::{ListPage, Listed};
use crate::serve;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::LIST_PAGE_KEYS_MAX;
use gramme_core::reclaim::{Reply, fill};
use gramme_core::{Frontier, NodeId, PartitionId, Quorum, Record, Verdict, View};
use gramme_wire::{Body, Entry, Failure, Reason, Standing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the module.
pub(crate) async fn list<E: Env>(node: &Node<E>, page: ListPage, deadline: Mono) -> Result<Listed, Failure> {
    let began = node.0.env.now();
    let result = list_page(node, &page, deadline).await;
    let took = node.0.env.now().since(began);
    node.coordinated(Operation::List, took, result.is_ok());
    let settings = node.settings(&page.bucket);
    let (mut joined, next_after) = result?;
    let now_ms = node.reading_ms();
    joined.retain(|_, record| !matches!(record.view(settings.mode, now_ms), View::Missing | View::Deleted));
    Ok(Listed { entries: joined.into_iter().collect(), next_after, mode: settings.mode, now_ms })
}

async fn list_page<E: Env>(
    node: &Node<E>,
    page: &ListPage,
    deadline: Mono,
) -> Result<(BTreeMap<Bytes, Record>, Option<Bytes>), Failure> {
    let n = node.layout().n();
    let need = page
        .r
        .unwrap_or(node.settings(&page.bucket).r)
        .resolve(n)
        .map_err(|e| Failure::not_applied(Reason::Invalid(format!("r: {e}"))))?;
    gramme_core::id::check_bucket(&page.bucket)
        .map_err(|bad| Failure::not_applied(Reason::Invalid(bad.to_string())))?;
    let keys_max = page.keys_max.clamp(1, LIST_PAGE_KEYS_MAX as u32);
    let body = Body::List {
        bucket: page.bucket.clone(),
        prefix: page.prefix.clone(),
        after: page.after.clone(),
        keys_max,
        values: page.values,
    };
    let joined = gather_page(node, page.partition, &body, need, deadline).await?;
    Ok(joined.finish(keys_max as usize))
}

/// Puts one question about a partition's rows to its homes until `need` of them have answered.
pub(super) async fn gather_page<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    body: &Body,
    need: usize,
    deadline: Mono,
) -> Result<Joined, Failure> {
    if partition.0 as usize >= node.layout().partitions() {
        return Err(Failure::not_applied(Reason::Invalid(format!("there is no partition {partition}"))));
    }
    // Held to the end: whoever switches to another layout waits for those that read by the old one.
    let live = node.live();
    let mut quorum = Quorum::new(need, 0);
    let mut gather = node.0.routes.open(partition, deadline);
    gather.heed_silence(true);
    let mut not_asked: VecDeque<NodeId> = best_homes(node, &live, partition);
    let mut joined = Joined::default();
    let mut overdue = false;
    loop {
        while (overdue || quorum.verdict() == Verdict::Impossible)
            && let Some(next) = not_asked.pop_front()
        {
            overdue = false;
            quorum.asked(next, true);
            if next == node.id() {
                serve::page_here(node, partition, body, gather.ask_here(next));
            } else {
                gather.ask(next, body.clone());
            }
        }
        if quorum.verdict() == Verdict::Reached {
            return Ok(joined);
        }
        let patience = if not_asked.is_empty() { deadline } else { node.0.env.now() + OVERDUE };
        match gather.next(patience).await {
            Step::Answer(peer, answer) => joined.take(&mut quorum, peer, answer),
            Step::Time if node.0.env.now() < deadline => overdue = true,
            Step::Time | Step::Exhausted => {
                let acks = acks(&quorum);
                let reason = if joined.damaged { Reason::Damaged } else { Reason::Unavailable };
                return Err(Failure { acks, needed: need as u8, ..Failure::not_applied(reason) });
            }
        }
    }
}

fn best_homes<E: Env>(node: &Node<E>, live: &Live, partition: PartitionId) -> VecDeque<NodeId> {
    let mut homes = live.reads().homes(partition).to_vec();
    homes.sort_by_key(|&home| (node.health(home), node.is_silent(home), home != node.id()));
    homes.into()
}

/// Pages of several homes, joined.
#[derive(Default)]
pub(super) struct Joined {
    /// What each answer shows, and how far its sender knows everyone to have seen.
    pages: Vec<(BTreeMap<Bytes, Record>, Frontier)>,
    /// Up to where every page that was cut off has looked.
    horizon: Option<Bytes>,
    /// What each home that was asked for a copy had seen.
    seen: Vec<u64>,
    /// Whether the only home said that it cannot read all that it has.
    damaged: bool,
}

impl Joined {
    fn take(&mut self, quorum: &mut Quorum, from: NodeId, answer: Answer) {
        let (standing, entries, more, frontier) = match answer {
            Answer::Said(Body::ListReply { standing, entries, more, frontier }) => {
                (standing, entries, more, frontier)
            }
            Answer::Said(Body::CopyReply { standing, entries, more, frontier, seen }) => {
                self.seen.push(seen);
                (standing, entries, more, frontier)
            }
            answer => {
                self.damaged |= matches!(answer, Answer::Said(Body::Refused { failure }) if failure.reason == Reason::Damaged);
                return quorum.fail(from);
            }
        };
        let frontier = if standing == Standing::Continuous { frontier } else { Frontier::none() };
        let last = entries.last().map(|entry| entry.key.clone());
        if self.add(entries, frontier).is_err() {
            return quorum.fail(from);
        }
        if let Some(last) = last.filter(|_| more) {
            self.horizon = Some(self.horizon.take().map_or(last.clone(), |horizon| horizon.min(last)));
        }
        match standing {
            Standing::Continuous => quorum.ack(from, true),
            Standing::Unproven => quorum.fail(from),
        }
    }

    fn add(&mut self, entries: Vec<Entry>, frontier: Frontier) -> Result<(), gramme_core::codec::BadBytes> {
        let mut page = BTreeMap::new();
        for entry in entries {
            page.insert(entry.key, decode_record(&entry.record)?);
        }
        self.pages.push((page, frontier));
        Ok(())
    }

    /// What all that answered had seen, if they agree.
    pub(super) fn seen(&self) -> Option<u64> {
        let first = *self.seen.first()?;
        self.seen.iter().all(|&seen| seen == first).then_some(first)
    }

    /// What the pages come to for one key, up to where each of them has looked.
    fn of(&self, key: &Bytes) -> Record {
        let nothing = Record::new();
        let replies: Vec<Reply<'_>> = self
            .pages
            .iter()
            .map(|(page, frontier)| Reply { record: page.get(key).unwrap_or(&nothing), frontier })
            .collect();
        fill(&replies).record
    }

    /// At most so many keys, and where the next page starts.
    pub(super) fn finish(mut self, keys_max: usize) -> (BTreeMap<Bytes, Record>, Option<Bytes>) {
        let mut keys: BTreeSet<&Bytes> = self.pages.iter().flat_map(|(page, _)| page.keys()).collect();
        // Pages of different keys are longer together than each alone.
        if keys.len() > keys_max
            && let Some(last) = keys.iter().nth(keys_max - 1).map(|&key| key.clone())
        {
            self.horizon = Some(self.horizon.take().map_or(last.clone(), |horizon| horizon.min(last)));
        }
        if let Some(horizon) = &self.horizon {
            keys.retain(|key| *key <= horizon);
        }
        let records = keys.into_iter().map(|key| (key.clone(), self.of(key))).collect();
        (records, self.horizon)
    }
}
