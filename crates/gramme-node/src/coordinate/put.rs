//! One put at its coordinator: mint, then sync here and fan out to the other homes at once; answer when W
//! distinct nodes have it durably, this one among them; live on until someone holds it for every home that did
//! not take it (the paper, 4.5 and 4.6; EX-6, HH-1 to HH-3).
//!
//! The coordinator is a home of the key, or, if none is within reach, a fallback, which mints under its hint
//! store's own incarnation and keeps the record there for all homes (correctness.md 1.4).
//!
//! Invariant: after the append nothing abandons the put, and its failure is `maybe_applied`.

use crate::coordinate::condition;
use crate::coordinate::explain::Explain;
use crate::coordinate::get::read_at_r;
use crate::coordinate::quorums::{Need, Quorums};
use crate::coordinate::spread::{FILL_SEATS, Spread};
use crate::coordinate::within;
use crate::env::{Env, Mono};
use crate::hints::Keeping;
use crate::node::Node;
use crate::probe::Operation;
use crate::replica::{Minted, Replica, made_as};
use crate::request::Health;
use crate::serve;
use gramme_core::bucket::BucketSettings;
use gramme_core::codec::encode_record;
use gramme_core::limits::{CONTENT_TYPE_BYTES_MAX, HINT_OVERHEAD_BYTES, META_BYTES_MAX, META_ENTRIES_MAX};
use gramme_core::planted::{self, Bug};
use gramme_core::record::Content;
use gramme_core::{Context, Frontier, Key, Layout, NodeId, Outcome, PartitionId, RequestId, Verdict};
use gramme_wire::{Body, Done, Expect, Failure, Put, Reason};
use std::rc::Rc;

/// Coordinates a put on this node; gives the answer, and the rest of the work, which is to go on after it.
pub(crate) async fn put_here<E: Env>(
    node: &Node<E>,
    put: &mut Put,
    deadline: Mono,
) -> (Result<Done, Failure>, Rest<E>) {
    let began = node.0.env.now();
    let (result, rest) = match begin(node, put, deadline).await {
        Ok(mut writing) => (writing.until_reached().await, Rest(Some(writing))),
        Err(failure) => (Err(failure), Rest::nothing()),
    };
    let took = node.0.env.now().since(began);
    node.coordinated(Operation::Put, took, result.is_ok());
    (result, rest)
}

/// What is left of a put after its answer.
pub(crate) struct Rest<E: Env>(Option<Writing<E>>);

impl<E: Env> Rest<E> {
    /// Nothing is left.
    pub(crate) fn nothing() -> Rest<E> {
        Rest(None)
    }

    /// Collects late answers, and has hints kept for the homes that are silent at the deadline.
    pub(crate) async fn finish(self) {
        if let Some(mut writing) = self.0 {
            writing.collect_late().await;
        }
    }
}

/// Everything up to the append and the fan-out. Its failures left nothing behind.
async fn begin<E: Env>(node: &Node<E>, put: &mut Put, deadline: Mono) -> Result<Writing<E>, Failure> {
    let refuse = Failure::not_applied;
    let settings = node.settings(put.key.bucket());
    let partition = node.partition_of(&put.key);
    in_time(node, deadline).map_err(refuse)?;
    let need = check(node, put, &settings).map_err(refuse)?;
    within_reach(node, partition, need, put.pw.into()).map_err(refuse)?;
    let place = Place::of(node, partition, put).await.map_err(refuse)?;
    let mut explain = Explain::new(node, put.explain);
    let covers = match put.expect {
        Some(expect) => as_expected(node, &place, put, expect, deadline, &mut explain).await?,
        None => prepare(node, &place, put, deadline, &mut explain).await?,
    };
    put.key = put.key.detached();
    let minting = place.replica.put(put, covers, &settings, &place.hint_for, || in_time(node, deadline));
    let minted = within(node, deadline, minting).await.unwrap_or(Err(Reason::TooLate)).map_err(refuse)?;
    explain
        .line(|| format!("minted {} here, {} sibling(s)", minted.dot, minted.kept.record.siblings().len()));
    let need = Need { nodes: need, homes: put.pw as usize };
    // What a fallback mints is a hint, and hints are durable first.
    let buffered = put.buffered.unwrap_or(settings.buffered) && place.hint_for.is_empty();
    Ok(Writing::start(node, put.key.clone(), partition, minted, need, buffered, deadline, explain))
}

/// Where a coordinator mints: among its home data, or in its hint store for all homes.
struct Place<E: Env> {
    replica: Rc<Replica<E>>,
    /// The homes that it stands in for; nobody, if it is one.
    hint_for: Vec<NodeId>,
    /// Keeps the hint store from being destroyed meanwhile.
    _kept: Option<Keeping<E>>,
}

impl<E: Env> Place<E> {
    async fn of(node: &Node<E>, partition: PartitionId, put: &Put) -> Result<Place<E>, Reason> {
        if let Some(replica) = node.home(partition) {
            return Ok(Place { replica, hint_for: Vec::new(), _kept: None });
        }
        let value_bytes = if let Content::Value(value) = &put.content { value.len() } else { 0 };
        let bytes = put.key.as_bytes().len() + value_bytes + HINT_OVERHEAD_BYTES;
        let keeping = node.0.hints.keep(partition, bytes).await?;
        let hint_for = node.live().homes(partition);
        keeping.wanted_by(hint_for.iter().copied());
        Ok(Place { replica: keeping.replica().clone(), hint_for, _kept: Some(keeping) })
    }
}

/// Puts a tombstone in the place of what has expired of a key by now; `false` if nothing has. An ordinary write of
/// this home's own, to as many copies as its bucket wants of a write.
pub(crate) async fn bury<E: Env>(
    node: &Node<E>,
    key: &Key,
    now_ms: u64,
    deadline: Mono,
) -> Result<bool, Failure> {
    let refuse = Failure::not_applied;
    let partition = node.partition_of(key);
    let Some(replica) = node.home(partition) else { return Err(refuse(Reason::Unsuitable)) };
    let invalid = |e: gramme_core::bucket::LevelTooHigh| refuse(Reason::Invalid(format!("w: {e}")));
    let need = node.settings(key.bucket()).w.resolve(node.layout().n()).map_err(invalid)?;
    let request = u128::from(node.0.env.random()) << 64 | u128::from(node.0.env.random());
    let burying = replica.bury(key, now_ms, RequestId(request), || in_time(node, deadline));
    let buried = within(node, deadline, burying).await.unwrap_or(Err(Reason::TooLate)).map_err(refuse)?;
    let Some(minted) = buried else { return Ok(false) };
    let explain = Explain::new(node, false);
    let need = Need { nodes: need, homes: 0 };
    let mut writing = Writing::start(node, key.clone(), partition, minted, need, false, deadline, explain);
    let result = writing.until_reached().await;
    writing.collect_late().await;
    result.map(|_| true)
}

/// Late coordination is refused, and so is what may have waited through a freeze: a write minted now would lie
/// over what its client has since written elsewhere.
fn in_time<E: Env>(node: &Node<E>, deadline: Mono) -> Result<(), Reason> {
    if node.is_thawing() && !planted::on(Bug::FrozenWrites) {
        Err(Reason::Frozen)
    } else if node.0.env.now() >= deadline {
        Err(Reason::TooLate)
    } else {
        Ok(())
    }
}

/// What can be refused by looking at the request alone; answers how many nodes are needed.
fn check<E: Env>(node: &Node<E>, put: &Put, settings: &BucketSettings) -> Result<usize, Reason> {
    let n = node.layout().n();
    let need = put.w.unwrap_or(settings.w).resolve(n).map_err(|e| Reason::Invalid(format!("w: {e}")))?;
    if put.pw as usize > n {
        return Err(Reason::Invalid(format!("pw is {}, but this cluster keeps N={n} copies", put.pw)));
    }
    // Whoever says what the key must look like overwrites nothing unseen.
    if settings.require_context && put.context.is_none() && put.expect.is_none() {
        return Err(Reason::ContextRequired);
    }
    if let Content::Value(value) = &put.content
        && value.len() as u64 > settings.value_bytes_max
    {
        return Err(Reason::ValueTooLarge { bytes: value.len() as u64, max: settings.value_bytes_max });
    }
    let meta_bytes: usize = put.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    if put.meta.len() > META_ENTRIES_MAX || meta_bytes > META_BYTES_MAX {
        return Err(Reason::Invalid(format!(
            "the metadata has {} entries of {meta_bytes} bytes: at most {META_ENTRIES_MAX} of {META_BYTES_MAX} together are allowed",
            put.meta.len()
        )));
    }
    if put.content_type.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(Reason::Invalid(format!(
            "the content type has {} bytes: at most {CONTENT_TYPE_BYTES_MAX} are allowed",
            put.content_type.len()
        )));
    }
    Ok(need)
}

/// A write for which too few nodes are left is not begun. This node alone would keep something of it, its client
/// writes the same elsewhere, and once the cut is healed that twin stands beside whatever has replaced the write.
fn within_reach<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    need: usize,
    homes: usize,
) -> Result<(), Reason> {
    let is_there = |id: &&NodeId| node.health(**id) != Health::Down;
    let live = node.live();
    let there = live.members().iter().filter(is_there).count();
    let homes_there = |layout: &Layout| layout.homes(partition).iter().filter(is_there).count();
    let fewest = live.layouts().map(|(_, layout)| homes_there(layout)).min().unwrap_or(0);
    if there < need || fewest < homes { Err(Reason::Unavailable) } else { Ok(()) }
}

/// A delete without a context covers what a read at R sees, which is what this resolves with. A retry first looks
/// for its earlier attempt at the other replicas, so that it adopts that dot.
async fn prepare<E: Env>(
    node: &Node<E>,
    place: &Place<E>,
    put: &Put,
    deadline: Mono,
    explain: &mut Explain<E>,
) -> Result<Option<Context>, Failure> {
    let blind_delete = put.content == Content::Tombstone && put.context.is_none();
    let retry = put.retry && !planted::on(Bug::RetryForgotten);
    if !blind_delete && !retry {
        return Ok(None);
    }
    // A retry must not spend all its time on looking for its earlier attempt.
    let left = deadline.since(node.0.env.now());
    let look_until = if blind_delete { deadline } else { node.0.env.now() + left / 2 };
    match read_at_r(node, &put.key, look_until).await {
        Ok(got) => {
            explain.line(|| format!("read first: {} sibling(s)", got.record.siblings().len()));
            // A delete that reads before it writes may find that its other attempt is there already, or has even
            // been overwritten: minted anew it would cover what came after it.
            let is_known = made_as(&got.record, put).is_some() && !planted::on(Bug::RetryForgotten);
            if retry && !got.record.is_empty() || is_known {
                let found = encode_record(&got.record);
                let stamp = Frontier::none();
                let merging = place.replica.merge(&put.key, &found, &stamp, &place.hint_for);
                let merged = within(node, deadline, merging).await.unwrap_or(Err(Reason::TooLate));
                merged.map_err(Failure::not_applied)?;
            }
            Ok(blind_delete.then_some(got.context))
        }
        Err(failure) if blind_delete => Err(Failure { outcome: Outcome::NotApplied, ..failure }),
        // The earlier attempt could not be looked for: a second dot of one request collapses later.
        Err(_) => Ok(None),
    }
}

/// Checks the condition of a put; it then covers what was read, unless its client has said what it has seen. What
/// was read is joined in here, so that a retry finds its first attempt.
async fn as_expected<E: Env>(
    node: &Node<E>,
    place: &Place<E>,
    put: &Put,
    expect: Expect,
    deadline: Mono,
    explain: &mut Explain<E>,
) -> Result<Option<Context>, Failure> {
    let got = condition::check(node, put, expect, deadline).await?;
    explain.line(|| format!("the key is as expected: {} sibling(s)", got.record.siblings().len()));
    if !got.record.is_empty() {
        let found = encode_record(&got.record);
        let stamp = Frontier::none();
        let merging = place.replica.merge(&put.key, &found, &stamp, &place.hint_for);
        let merged = within(node, deadline, merging).await.unwrap_or(Err(Reason::TooLate));
        merged.map_err(Failure::not_applied)?;
    }
    Ok(put.context.is_none().then_some(got.context))
}

/// A put whose record is in the local store and on its way to the other homes.
struct Writing<E: Env> {
    minted: Minted,
    spread: Spread<E>,
    /// When the client's time is over; seats are filled a little longer.
    deadline: Mono,
}

impl<E: Env> Writing<E> {
    #[allow(clippy::too_many_arguments, reason = "the parts of one put, used once, on the line above")]
    fn start(
        node: &Node<E>,
        key: Key,
        partition: PartitionId,
        minted: Minted,
        need: Need,
        buffered: bool,
        deadline: Mono,
        explain: Explain<E>,
    ) -> Writing<E> {
        let gather = node.0.routes.open(partition, deadline + FILL_SEATS);
        let own = gather.ask_here(node.id());
        if buffered {
            own(Body::MergeReply);
            serve::watch_window(node, minted.batch);
        } else {
            node.0.store.when_durable(minted.batch, move |fate| own(serve::settled(fate)));
        }
        let stamp = node.home(partition).map(|home| node.vouched(&home)).unwrap_or_default();
        let live = node.live();
        let quorum = Quorums::new(&live, partition, need);
        let record = minted.kept.encoded.clone();
        let counted = (live, quorum);
        let mut spread = Spread::new(node, (partition, key, record), gather, counted, buffered, explain);
        spread.ask_homes(true, &stamp);
        spread.fill_seats();
        Writing { minted, spread, deadline }
    }

    /// Resolves once W nodes have it, or never will.
    async fn until_reached(&mut self) -> Result<Done, Failure> {
        loop {
            self.spread.fill_seats();
            let own = self.spread.quorum.has_acked(self.spread.node.id());
            match self.spread.quorum.verdict() {
                Verdict::Reached if own => return Ok(self.done()),
                _ if self.spread.own_failed => return Err(self.failure()),
                // The count that is told includes this node, which has yet to finish.
                Verdict::Impossible if !self.spread.quorum.is_pending(self.spread.node.id()) => {
                    return Err(self.failure());
                }
                _ => {}
            }
            if self.spread.node.0.env.now() >= self.deadline || !self.spread.step(self.deadline).await {
                return Err(self.failure());
            }
        }
    }

    /// Goes on until every home's seat is held, or nobody is left to ask: homes that are still silent at the
    /// deadline are given up then. If as many wait already as may, all are given up at once.
    async fn collect_late(&mut self) {
        self.spread.answered = true;
        self.spread.gather.heed_silence(false);
        let Some(_place) = self.spread.node.linger() else {
            self.spread.seats.give_up_homes(self.spread.node.0.env.now());
            return self.spread.fill_seats();
        };
        self.spread.seats.wait_for_homes(self.deadline);
        loop {
            self.spread.fill_seats();
            let now = self.spread.node.0.env.now();
            let in_time = now < self.deadline;
            // After the deadline only those are waited for who take a home's place.
            let end = if in_time { self.deadline } else { self.spread.gather.deadline() };
            let is_open = in_time || (now < end && self.spread.seats.next_at(now).is_some());
            if !is_open || !self.spread.gather.is_waiting() {
                return;
            }
            self.spread.step(end).await;
        }
    }

    fn done(&mut self) -> Done {
        let Minted { dot, kept, saw, .. } = &self.minted;
        let mut context = match kept.record.sibling(*dot) {
            Some(written) => saw.after_put_of(written, self.spread.node.id()),
            // A retry of a write that someone has since overwritten: there is nothing of it left to have seen.
            None => saw.clone(),
        };
        if planted::on(Bug::AnswerRecordClock) {
            context.clock = kept.record.clock.clone();
        }
        Done {
            dot: *dot,
            context,
            acks: self.spread.quorum.acks(),
            buffered: self.spread.buffered,
            siblings: kept.record.siblings().len() as u32,
            coordinator: self.spread.node.id(),
            explain: self.spread.explain.take(),
        }
    }

    fn failure(&mut self) -> Failure {
        let reason = match self.spread.node.0.store.check() {
            Err(cause) if self.spread.own_failed => Reason::Disk(cause.to_string()),
            _ => Reason::Unavailable,
        };
        let needed = self.spread.quorum.need() as u8;
        let explain = self.spread.explain.take();
        let acks = self.spread.quorum.acks();
        Failure { reason, outcome: Outcome::MaybeApplied, acks, needed, explain }
    }
}
