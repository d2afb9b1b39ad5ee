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
use crate::coordinate::seats::{Need, Seats};
use crate::coordinate::{acks, within};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::hints::Keeping;
use crate::node::Node;
use crate::probe::{Operation, Probe};
use crate::replica::{Minted, Replica, made_as};
use crate::request::Health;
use crate::serve;
use gramme_core::bucket::BucketSettings;
use gramme_core::codec::encode_record;
use gramme_core::limits::{
    CONTENT_TYPE_BYTES_MAX, FALLBACK_AFTER_MS_MAX, HINT_OVERHEAD_BYTES, META_BYTES_MAX, META_ENTRIES_MAX,
};
use gramme_core::planted::{self, Bug};
use gramme_core::record::Content;
use gramme_core::{Context, Frontier, Key, NodeId, Outcome, PartitionId, Quorum, RequestId, Verdict};
use gramme_wire::{Body, Done, Expect, Failure, Put, Reason};
use std::rc::Rc;
use std::time::Duration;

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
    let quorum = Quorum::new(need, put.pw as usize);
    // What a fallback mints is a hint, and hints are durable first.
    let buffered = put.buffered.unwrap_or(settings.buffered) && place.hint_for.is_empty();
    Ok(Writing::start(node, put.key.clone(), partition, minted, quorum, buffered, deadline, explain))
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
            return Ok(Place { replica: replica.clone(), hint_for: Vec::new(), _kept: None });
        }
        let value_bytes = if let Content::Value(value) = &put.content { value.len() } else { 0 };
        let bytes = put.key.as_bytes().len() + value_bytes + HINT_OVERHEAD_BYTES;
        let keeping = node.0.hints.keep(partition, bytes).await?;
        let hint_for = node.layout().homes(partition).to_vec();
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
    let quorum = Quorum::new(need, 0);
    let mut writing = Writing::start(node, key.clone(), partition, minted, quorum, false, deadline, explain);
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
    let is_there = |&&id: &&NodeId| node.health(id) != Health::Down;
    let there = node.layout().members().iter().filter(|member| is_there(&&member.id)).count();
    let homes_there = node.layout().homes(partition).iter().filter(is_there).count();
    if there < need || homes_there < homes { Err(Reason::Unavailable) } else { Ok(()) }
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
    node: Node<E>,
    partition: PartitionId,
    key: Key,
    minted: Minted,
    quorum: Quorum,
    seats: Seats,
    gather: Gather<E>,
    /// When the client's time is over; seats are filled a little longer.
    deadline: Mono,
    own_failed: bool,
    /// Whether the client has its answer.
    answered: bool,
    /// Whether copies in memory count (the paper, 6.1). Every replica has them in its next batch all the same, so
    /// that all of the N are asked for a durable write where the paper asks one.
    buffered: bool,
    explain: Explain<E>,
}

impl<E: Env> Writing<E> {
    #[allow(clippy::too_many_arguments, reason = "the parts of one put, used once, on the line above")]
    fn start(
        node: &Node<E>,
        key: Key,
        partition: PartitionId,
        minted: Minted,
        quorum: Quorum,
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
        gather.heed_silence(true);
        let node = node.clone();
        let seats = Seats::default();
        let mut writing = Writing {
            node,
            partition,
            key,
            minted,
            quorum,
            seats,
            gather,
            deadline,
            own_failed: false,
            answered: false,
            buffered,
            explain,
        };
        writing.ask_homes();
        writing.fill_seats();
        writing
    }

    /// All homes at once, this one by its own disk. A fallback that coordinates sits for the home that is least
    /// likely to answer.
    fn ask_homes(&mut self) {
        let homes = self.node.layout().homes(self.partition).to_vec();
        let me = self.node.id();
        let stamp = self.node.home(self.partition).map(|home| self.node.vouched(home)).unwrap_or_default();
        self.quorum.asked(me, homes.contains(&me));
        for &home in &homes {
            if home == me {
                self.seats.ask_home(me, Mono(u64::MAX));
                continue;
            }
            self.seats.ask_home(home, self.patience_with(home));
            self.quorum.asked(home, true);
            self.gather.ask(home, self.merge(None, stamp.clone()));
        }
        if !homes.contains(&me)
            && let Some(&home) = homes.iter().rev().max_by_key(|&&home| self.node.health(home))
        {
            self.node.0.env.probe(Probe::FallbackCoordinated);
            self.seats.ask_fallback(home, me, Mono(u64::MAX));
            self.explain.line(|| "no home was within reach: this fallback coordinates".to_string());
        }
    }

    /// The record as it travels, for a home or for whoever takes its place.
    fn merge(&self, hint_for: Option<NodeId>, stamp: Frontier) -> Body {
        let record = self.minted.kept.encoded.clone();
        // The row that names whom a hint is for is what a crash must not take.
        let buffered = self.buffered && (hint_for.is_none() || planted::on(Bug::BufferedHint));
        Body::Merge { key: self.key.clone(), record, hint_for, stamp, buffered }
    }

    /// How long this node may be silent before its place is taken: no time at all if it is down.
    fn patience_with(&self, id: NodeId) -> Mono {
        let now = self.node.0.env.now();
        match self.node.health(id) {
            Health::Down => now,
            _ => now + self.node.0.detector.borrow().fallback_after(id),
        }
    }

    /// Resolves once W nodes have it, or never will.
    async fn until_reached(&mut self) -> Result<Done, Failure> {
        loop {
            self.fill_seats();
            let own = self.quorum.has_acked(self.node.id());
            match self.quorum.verdict() {
                Verdict::Reached if own => return Ok(self.done()),
                _ if self.own_failed => return Err(self.failure()),
                // The count that is told includes this node, which has yet to finish.
                Verdict::Impossible if !self.quorum.is_pending(self.node.id()) => return Err(self.failure()),
                _ => {}
            }
            if self.node.0.env.now() >= self.deadline || !self.step(self.deadline).await {
                return Err(self.failure());
            }
        }
    }

    /// Goes on until every home's seat is held, or nobody is left to ask: homes that are still silent at the
    /// deadline are given up then. If as many wait already as may, all are given up at once.
    async fn collect_late(&mut self) {
        self.answered = true;
        self.gather.heed_silence(false);
        let Some(_place) = self.node.linger() else {
            self.seats.give_up_homes(self.node.0.env.now());
            return self.fill_seats();
        };
        self.seats.wait_for_homes(self.deadline);
        loop {
            self.fill_seats();
            let now = self.node.0.env.now();
            let in_time = now < self.deadline;
            // After the deadline only those are waited for who take a home's place.
            let end = if in_time { self.deadline } else { self.gather.deadline() };
            let is_open = in_time || (now < end && self.seats.next_at(now).is_some());
            if !is_open || !self.gather.is_waiting() {
                return;
            }
            self.step(end).await;
        }
    }

    /// Takes one thing that happens before `end`; `false` if the time is over or nothing can happen any more.
    async fn step(&mut self, end: Mono) -> bool {
        let now = self.node.0.env.now();
        let until = self.seats.next_at(now).map_or(end, |at| at.min(end));
        match self.gather.next(until).await {
            Step::Answer(from, answer) => {
                if self.answered {
                    self.node.0.env.probe(Probe::LateAnswer);
                }
                self.take(from, answer);
                true
            }
            Step::Time if self.node.0.env.now() >= end => false,
            Step::Time => {
                if !self.answered {
                    self.notice_silence();
                }
                true
            }
            Step::Exhausted => false,
        }
    }

    fn take(&mut self, from: NodeId, answer: Answer) {
        let home = self.node.layout().is_home(self.partition, from);
        if let Answer::Said(Body::MergeReply) = answer {
            let how = if self.buffered && home { "in memory at" } else { "durable at" };
            self.explain.line(|| format!("{how} {}", describe(&self.node, self.partition, from)));
            self.quorum.ack(from, home);
            self.seats.has(from);
            return;
        }
        self.explain.line(|| {
            format!("{} does not have it: {}", describe(&self.node, self.partition, from), say(&answer))
        });
        self.quorum.fail(from);
        self.own_failed |= from == self.node.id();
        if home && is_overload(&answer) {
            self.seats.overloaded(from);
        } else {
            self.seats.failed(from);
        }
    }

    /// Someone's patience is over, or someone is more than slow: silent, whatever is asked of it. That one is not
    /// waited for, unless there are enough others: it may be back in a blink.
    fn notice_silence(&mut self) {
        let now = self.node.0.env.now();
        self.node.listen();
        let asked: Vec<NodeId> = self.seats.asked().collect();
        let is_there = |&id: &NodeId| {
            self.quorum.has_acked(id) || (self.quorum.is_pending(id) && !self.node.is_silent(id))
        };
        if asked.iter().copied().filter(is_there).count() < self.quorum.need() {
            for id in asked.into_iter().filter(|&id| self.node.is_silent(id)) {
                self.seats.give_up(id, now);
            }
        }
    }

    /// Asks the next fallback for every seat that has fallen vacant.
    fn fill_seats(&mut self) {
        let need = match self.quorum.verdict() {
            Verdict::Reached => Need::Met,
            Verdict::Pending => Need::Open,
            Verdict::Impossible => Need::Unmet,
        };
        for home in self.seats.vacant(self.node.0.env.now(), need) {
            let fallbacks = self.node.layout().fallbacks(self.partition).iter().copied();
            let free = fallbacks.filter(|&id| id != self.node.id() && !self.seats.was_asked(id));
            let best = free.min_by_key(|&id| (self.node.health(id), self.node.is_silent(id)));
            let Some(fallback) = best else { return };
            self.node.0.env.probe(Probe::HintAsked);
            self.seats.ask_fallback(home, fallback, self.patience_with(fallback));
            self.quorum.asked(fallback, false);
            self.gather.ask(fallback, self.merge(Some(home), Frontier::none()));
            self.explain.line(|| {
                format!(
                    "{} was asked to keep it for {}",
                    describe(&self.node, self.partition, fallback),
                    describe(&self.node, self.partition, home)
                )
            });
        }
    }

    fn done(&mut self) -> Done {
        let Minted { dot, kept, saw, .. } = &self.minted;
        let mut context = match kept.record.sibling(*dot) {
            Some(written) => saw.after_put_of(written, self.node.id()),
            // A retry of a write that someone has since overwritten: there is nothing of it left to have seen.
            None => saw.clone(),
        };
        if planted::on(Bug::AnswerRecordClock) {
            context.clock = kept.record.clock.clone();
        }
        Done {
            dot: *dot,
            context,
            acks: acks(&self.quorum),
            buffered: self.buffered,
            siblings: kept.record.siblings().len() as u32,
            coordinator: self.node.id(),
            explain: self.explain.take(),
        }
    }

    fn failure(&mut self) -> Failure {
        let reason = match self.node.0.store.check() {
            Err(cause) if self.own_failed => Reason::Disk(cause.to_string()),
            _ => Reason::Unavailable,
        };
        let needed = self.quorum.need() as u8;
        let explain = self.explain.take();
        Failure { reason, outcome: Outcome::MaybeApplied, acks: acks(&self.quorum), needed, explain }
    }
}

fn describe<E: Env>(node: &Node<E>, partition: PartitionId, id: NodeId) -> String {
    let kind = if node.layout().is_home(partition, id) { "home" } else { "fallback" };
    format!("{} ({kind})", node.name_of(id))
}

fn say(answer: &Answer) -> String {
    match answer {
        Answer::Said(Body::Refused { failure }) => failure.to_string(),
        Answer::Said(_) => "it gave an answer of another kind".to_string(),
        Answer::Lost => "its connection broke".to_string(),
        Answer::Unsent => "it cannot be reached".to_string(),
    }
}

fn is_overload(answer: &Answer) -> bool {
    matches!(answer, Answer::Said(Body::Refused { failure }) if failure.reason == Reason::Overloaded)
}

/// How long after its deadline a put goes on looking for someone to take the place of homes that stayed silent:
/// enough for a few fallbacks that stay silent too.
const FILL_SEATS: Duration = Duration::from_millis(4 * FALLBACK_AFTER_MS_MAX);
