//! One put at its coordinator, a home of the key: mint, then sync here and fan out to the other homes at
//! once; answer when W distinct nodes have it durably, this one among them; live on to the deadline and turn
//! the homes that stayed silent into hints (the paper, 4.5 and 4.6; EX-6, HH-1 to HH-3).
//!
//! Invariant: after the append nothing abandons the put, and its failure is `maybe_applied`.

use crate::coordinate::explain::Explain;
use crate::coordinate::get::read_at_r;
use crate::coordinate::{acks, within};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::node::Node;
use crate::probe::{Operation, Probe};
use crate::replica::{Minted, Replica};
use crate::request::Health;
use crate::serve;
use gramme_core::bucket::BucketSettings;
use gramme_core::codec::encode_record;
use gramme_core::limits::{CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX, META_ENTRIES_MAX};
use gramme_core::planted::{self, Bug};
use gramme_core::record::Content;
use gramme_core::{Context, Frontier, Key, NodeId, Outcome, PartitionId, Quorum, Verdict};
use gramme_wire::{Body, Done, Failure, Put, Reason};
use std::rc::Rc;
use tokio::sync::oneshot;

/// Coordinates a put on this node, a home of its key. Answers through `answer`; what it resolves with is the
/// rest of the work.
pub(crate) async fn put_here<E: Env>(
    node: &Node<E>,
    mut put: Put,
    deadline: Mono,
    answer: oneshot::Sender<Result<Done, Failure>>,
) -> Rest<E> {
    match put_unless_disk_fails(node, &mut put, deadline, answer).await {
        Ok(rest) => rest,
        Err((failure, answer)) => {
            // Nobody listens any more if the client has gone away.
            let _ = answer.send(Err(failure));
            Rest::nothing()
        }
    }
}

/// As [`put_here`]; but if this node's disk failed before anything was written, nobody is told and another home
/// may try.
pub(crate) async fn put_unless_disk_fails<E: Env>(
    node: &Node<E>,
    put: &mut Put,
    deadline: Mono,
    answer: Answering,
) -> Result<Rest<E>, (Failure, Answering)> {
    let began = node.0.env.now();
    let (result, rest) = match begin(node, put, deadline).await {
        Ok(mut writing) => (writing.until_reached().await, Rest(Some(writing))),
        Err(failure) => (Err(failure), Rest::nothing()),
    };
    let took = node.0.env.now().since(began);
    node.coordinated(Operation::Put, took, result.is_ok());
    match result {
        Err(failure)
            if matches!(failure.reason, Reason::Disk(_)) && failure.outcome == Outcome::NotApplied =>
        {
            Err((failure, answer))
        }
        // Nobody listens any more if the client has gone away.
        result => {
            let _ = answer.send(result);
            Ok(rest)
        }
    }
}

/// Where a put's answer goes.
type Answering = oneshot::Sender<Result<Done, Failure>>;

/// What is left of a put after its answer.
pub(crate) struct Rest<E: Env>(Option<Writing<E>>);

impl<E: Env> Rest<E> {
    /// Nothing is left.
    pub(crate) fn nothing() -> Rest<E> {
        Rest(None)
    }

    /// Collects late answers until the deadline, then has hints kept for the homes that stayed silent.
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
    let Some(replica) = node.home(partition) else { return Err(refuse(Reason::Unsuitable)) };
    in_time(node, deadline).map_err(refuse)?;
    let need = check(node, put, &settings).map_err(refuse)?;
    let mut explain = Explain::new(node, put.explain);
    let covers = prepare(node, replica, put, deadline, &mut explain).await?;
    put.key = put.key.detached();
    let minting = replica.put(put, covers, &settings, || in_time(node, deadline));
    let minted = within(node, deadline, minting).await.unwrap_or(Err(Reason::TooLate)).map_err(refuse)?;
    explain
        .line(|| format!("minted {} here, {} sibling(s)", minted.dot, minted.kept.record.siblings().len()));
    Ok(Writing::start(node, put.key.clone(), partition, minted, need, put.pw, deadline, explain))
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
    if settings.require_context && put.context.is_none() {
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

/// A delete without a context covers what a read at R sees, which is what this resolves with. A retry first looks
/// for its earlier attempt at the other replicas, so that it adopts that dot.
async fn prepare<E: Env>(
    node: &Node<E>,
    replica: &Rc<Replica<E>>,
    put: &Put,
    deadline: Mono,
    explain: &mut Explain<E>,
) -> Result<Option<Context>, Failure> {
    let blind_delete = put.content == Content::Tombstone && put.context.is_none();
    let retry = put.retry && !planted::on(Bug::RetryForgotten);
    if !blind_delete && !retry {
        return Ok(None);
    }
    match read_at_r(node, &put.key, deadline).await {
        Ok(got) => {
            explain.line(|| format!("read first: {} sibling(s)", got.record.siblings().len()));
            if retry && !got.record.is_empty() {
                let found = encode_record(&got.record);
                let stamp = Frontier::none();
                let merging = replica.merge(&put.key, &found, &stamp, None);
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

/// A put whose record is in the local store and on its way to the other homes.
struct Writing<E: Env> {
    node: Node<E>,
    partition: PartitionId,
    key: Key,
    minted: Minted,
    quorum: Quorum,
    gather: Gather<E>,
    own_failed: bool,
    fallback_at: Mono,
    /// Homes that were not reached and for whom nobody has been asked yet.
    missing: Vec<NodeId>,
    /// Fallbacks that were asked.
    standing_in: Vec<Place>,
    explain: Explain<E>,
}

impl<E: Env> Writing<E> {
    #[allow(clippy::too_many_arguments, reason = "the parts of one put, used once, on the line above")]
    fn start(
        node: &Node<E>,
        key: Key,
        partition: PartitionId,
        minted: Minted,
        need: usize,
        pw: u8,
        deadline: Mono,
        explain: Explain<E>,
    ) -> Writing<E> {
        let homes = node.layout().homes(partition);
        let others: Vec<NodeId> = homes.iter().copied().filter(|&home| home != node.id()).collect();
        let mut quorum = Quorum::new(need, pw as usize);
        homes.iter().for_each(|&home| quorum.asked(home, true));
        let body = Body::Merge {
            key: key.clone(),
            record: minted.kept.encoded.clone(),
            hint_for: None,
            stamp: node.home(partition).map(|home| home.frontier()).unwrap_or_default(),
            buffered: false,
        };
        let gather = node.0.routes.fan_out(&others, partition, body, deadline);
        let patience = others.iter().map(|&home| node.0.detector.borrow().fallback_after(home)).max();
        let own = gather.ask_here(node.id());
        node.0.store.when_durable(minted.batch, move |fate| own(serve::settled(fate)));
        gather.heed_silence(true);
        Writing {
            fallback_at: patience.map_or(deadline, |patience| node.0.env.now() + patience),
            missing: others.into_iter().filter(|&home| node.health(home) == Health::Down).collect(),
            standing_in: Vec::new(),
            node: node.clone(),
            own_failed: false,
            partition,
            key,
            minted,
            quorum,
            gather,
            explain,
        }
    }

    /// Resolves once W nodes have it, or never will.
    async fn until_reached(&mut self) -> Result<Done, Failure> {
        loop {
            self.replace_missing();
            let own = self.quorum.has_acked(self.node.id());
            match self.quorum.verdict() {
                Verdict::Reached if own => return Ok(self.done()),
                Verdict::Impossible if self.missing.is_empty() => return Err(self.failure()),
                _ if self.own_failed => return Err(self.failure()),
                _ => {}
            }
            if !self.step(self.fallback_at).await {
                return Err(self.failure());
            }
        }
    }

    /// Until everyone who was asked has answered or the deadline has come; then hints for the homes that have
    /// not. If as many wait already as may, those are asked for at once.
    async fn collect_late(&mut self) {
        let place = self.node.linger();
        self.gather.heed_silence(false);
        self.fallback_at = self.gather.deadline();
        while place.is_some() && self.gather.is_waiting() && self.step(self.fallback_at).await {
            self.node.0.env.probe(Probe::LateAnswer);
            self.replace_missing();
        }
        let homes: Vec<NodeId> = self.node.layout().homes(self.partition).to_vec();
        for home in homes {
            if home != self.node.id() && !self.quorum.has_acked(home) {
                self.miss(home);
            }
        }
        self.replace_missing();
    }

    /// Takes one thing that happens; `false` if the deadline has come or nothing can happen any more.
    async fn step(&mut self, until: Mono) -> bool {
        match self.gather.next(until).await {
            Step::Answer(from, answer) => self.take(from, answer),
            Step::Time if self.node.0.env.now() < self.gather.deadline() => self.give_up_waiting(),
            Step::Time | Step::Exhausted => return false,
        }
        true
    }

    fn take(&mut self, from: NodeId, answer: Answer) {
        let home = self.node.layout().is_home(self.partition, from);
        match answer {
            Answer::Said(Body::MergeReply) => {
                self.explain.line(|| format!("durable at {}", describe(&self.node, self.partition, from)));
                self.quorum.ack(from, home);
            }
            other => {
                self.explain.line(|| {
                    format!(
                        "{} does not have it: {}",
                        describe(&self.node, self.partition, from),
                        say(&other)
                    )
                });
                self.quorum.fail(from);
                self.own_failed |= from == self.node.id();
                match self.standing_in.iter().position(|place| place.fallback == from) {
                    // A fallback that failed is followed by the next one.
                    Some(at) => {
                        self.standing_in[at].failed = true;
                        let home = self.standing_in[at].home;
                        self.miss(home);
                    }
                    None if home && from != self.node.id() => self.miss(from),
                    None => {}
                }
            }
        }
    }

    /// A home has not got it, or not in time: someone is to take its place, unless someone has.
    fn miss(&mut self, home: NodeId) {
        let served = self.standing_in.iter().any(|place| place.home == home && !place.failed);
        if !served && !self.missing.contains(&home) {
            self.missing.push(home);
        }
    }

    /// The patience with all that are silent is over, or with one that is more than slow: their places are taken
    /// while the put still waits.
    fn give_up_waiting(&mut self) {
        let all = self.node.0.env.now() >= self.fallback_at;
        if all {
            self.fallback_at = self.gather.deadline();
            self.node.listen();
        } else if self.is_within_reach() {
            // It may be back in a blink, and nobody waits for it.
            return;
        }
        let me = self.node.id();
        let homes: Vec<NodeId> = self.node.layout().homes(self.partition).to_vec();
        let absent = |&peer: &NodeId| self.quorum.is_pending(peer) && self.node.is_silent(peer);
        let silent = self.standing_in.iter().map(|place| place.fallback).filter(absent);
        let lost = homes.into_iter().filter(|home| absent(home) || (all && self.quorum.is_pending(*home)));
        for peer in lost.filter(|&home| home != me).chain(silent).collect::<Vec<_>>() {
            match self.standing_in.iter().position(|place| place.fallback == peer) {
                Some(at) => {
                    self.standing_in[at].failed = true;
                    let home = self.standing_in[at].home;
                    self.miss(home);
                }
                None => self.miss(peer),
            }
        }
    }

    /// Whether those who have it, or are there to say so, are as many as are needed.
    fn is_within_reach(&self) -> bool {
        let asked = self.standing_in.iter().map(|place| &place.fallback);
        let asked = self.node.layout().homes(self.partition).iter().chain(asked);
        let counts = |&&node: &&NodeId| {
            self.quorum.has_acked(node) || (self.quorum.is_pending(node) && !self.node.is_silent(node))
        };
        asked.filter(counts).count() >= self.quorum.need()
    }

    /// Asks the next fallback for every home that is missing.
    fn replace_missing(&mut self) {
        for home in std::mem::take(&mut self.missing) {
            let used = |id: &NodeId| self.standing_in.iter().any(|place| place.fallback == *id);
            let fallbacks = self.node.layout().fallbacks(self.partition);
            let next = fallbacks
                .iter()
                .copied()
                .filter(|id| *id != self.node.id() && !used(id))
                .min_by_key(|&id| (self.node.health(id), self.node.is_silent(id)));
            let Some(fallback) = next else { continue };
            self.node.0.env.probe(Probe::HintAsked);
            self.standing_in.push(Place { fallback, home, failed: false });
            self.quorum.asked(fallback, false);
            let record = self.minted.kept.encoded.clone();
            let body = Body::Merge {
                key: self.key.clone(),
                record,
                hint_for: Some(home),
                stamp: Frontier::none(),
                buffered: false,
            };
            self.gather.ask(fallback, body);
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

/// Who was asked to stand in for whom.
struct Place {
    fallback: NodeId,
    home: NodeId,
    failed: bool,
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
