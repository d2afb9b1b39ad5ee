//! One record on its way: to all homes of its partition at once, and for each home that does not take it to the next
//! fallback, until as many have it as are needed (the paper, 4.6; HH-1 to HH-3). Puts and restores go this way.
//!
//! It refuses to know who made the record, or what it means that too few have it.

use crate::coordinate::explain::Explain;
use crate::coordinate::seats::{Need, Seats};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::node::Node;
use crate::probe::Probe;
use crate::request::Health;
use bytes::Bytes;
use gramme_core::limits::FALLBACK_AFTER_MS_MAX;
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Quorum, Verdict};
use gramme_wire::{Body, Reason};
use std::time::Duration;

/// See the module.
pub(super) struct Spread<E: Env> {
    pub(super) node: Node<E>,
    partition: PartitionId,
    key: Key,
    /// Encoded.
    record: Bytes,
    pub(super) quorum: Quorum,
    pub(super) seats: Seats,
    pub(super) gather: Gather<E>,
    pub(super) own_failed: bool,
    /// Whether the client has its answer.
    pub(super) answered: bool,
    /// Whether copies in memory count (the paper, 6.1). Every replica has them in its next batch all the same, so
    /// that all of the N are asked for a durable write where the paper asks one.
    pub(super) buffered: bool,
    pub(super) explain: Explain<E>,
}

impl<E: Env> Spread<E> {
    /// Nobody has been asked yet. What this node makes of it itself is for the caller to say, by
    /// [`Gather::ask_here`].
    pub(super) fn new(
        node: &Node<E>,
        (partition, key, record): (PartitionId, Key, Bytes),
        gather: Gather<E>,
        quorum: Quorum,
        buffered: bool,
        explain: Explain<E>,
    ) -> Spread<E> {
        gather.heed_silence(true);
        Spread {
            node: node.clone(),
            partition,
            key,
            record,
            quorum,
            seats: Seats::default(),
            gather,
            own_failed: false,
            answered: false,
            buffered,
            explain,
        }
    }

    /// All homes at once, this one by its own disk. A fallback that coordinates what it has minted sits for the home
    /// that is least likely to answer. `stamp` is what this node vouches for.
    pub(super) fn ask_homes(&mut self, minted_here: bool, stamp: &Frontier) {
        let homes = self.node.layout().homes(self.partition).to_vec();
        let me = self.node.id();
        if minted_here || homes.contains(&me) {
            self.quorum.asked(me, homes.contains(&me));
        }
        for &home in &homes {
            if home == me {
                self.seats.ask_home(me, Mono(u64::MAX));
                continue;
            }
            self.seats.ask_home(home, self.patience_with(home));
            self.quorum.asked(home, true);
            self.gather.ask(home, self.merge(None, stamp.clone()));
        }
        if minted_here
            && !homes.contains(&me)
            && let Some(&home) = homes.iter().rev().max_by_key(|&&home| self.node.health(home))
        {
            self.node.0.env.probe(Probe::FallbackCoordinated);
            self.seats.ask_fallback(home, me, Mono(u64::MAX));
            self.explain.line(|| "no home was within reach: this fallback coordinates".to_string());
        }
    }

    /// The record as it travels, for a home or for whoever takes its place.
    pub(super) fn merge(&self, hint_for: Option<NodeId>, stamp: Frontier) -> Body {
        // The row that names whom a hint is for is what a crash must not take.
        let buffered = self.buffered && (hint_for.is_none() || planted::on(Bug::BufferedHint));
        Body::Merge { key: self.key.clone(), record: self.record.clone(), hint_for, stamp, buffered }
    }

    /// How long this node may be silent before its place is taken: no time at all if it is down.
    fn patience_with(&self, id: NodeId) -> Mono {
        let now = self.node.0.env.now();
        match self.node.health(id) {
            Health::Down => now,
            _ => now + self.node.0.detector.borrow().fallback_after(id),
        }
    }

    /// Takes one thing that happens before `end`; `false` if the time is over or nothing can happen any more.
    pub(super) async fn step(&mut self, end: Mono) -> bool {
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
    pub(super) fn fill_seats(&mut self) {
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
pub(super) const FILL_SEATS: Duration = Duration::from_millis(4 * FALLBACK_AFTER_MS_MAX);
