//! One record on its way: to all homes of its partition at once, and for each home that does not take it to the next
//! fallback, until as many have it as are needed (the paper, 4.6; HH-1 to HH-3). Puts and restores go this way.
//!
//! While the ring changes it goes to the homes by every live layout, and is counted by each ([`Quorums`]). A replica that has
//! adopted a later layout than this node refuses it; after a moment, in which this node learns of that layout, it is asked again,
//! and so are the homes that have come.
//!
//! It refuses to know who made the record, or what it means that too few have it.

use crate::coordinate::explain::Explain;
use crate::coordinate::quorums::Quorums;
use crate::coordinate::seats::{Need, Seats};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::live::Live;
use crate::node::Node;
use crate::probe::Probe;
use crate::request::Health;
use bytes::Bytes;
use gramme_core::limits::FALLBACK_AFTER_MS_MAX;
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Verdict};
use gramme_wire::{Body, Reason};
use std::rc::Rc;
use std::time::Duration;

/// See the module.
pub(super) struct Spread<E: Env> {
    pub(super) node: Node<E>,
    partition: PartitionId,
    key: Key,
    /// Encoded.
    record: Bytes,
    /// The layouts by which it is counted.
    live: Rc<Live>,
    /// What this node vouches for.
    stamp: Frontier,
    /// Those who go by other layouts, to be asked again.
    stale: Vec<NodeId>,
    again_at: Mono,
    pub(super) quorum: Quorums,
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
        (live, quorum): (Rc<Live>, Quorums),
        buffered: bool,
        explain: Explain<E>,
    ) -> Spread<E> {
        gather.heed_silence(true);
        Spread {
            node: node.clone(),
            partition,
            key,
            record,
            live,
            stamp: Frontier::none(),
            stale: Vec::new(),
            again_at: Mono::default(),
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
        self.stamp = stamp.clone();
        let homes = self.live.homes(self.partition);
        let me = self.node.id();
        if minted_here || homes.contains(&me) {
            self.quorum.asked(me);
        }
        homes.iter().for_each(|&home| self.ask_home(home));
        // Nobody asks who is lost; somebody takes its place where the others are not enough.
        for lost in self.live.lost_homes(self.partition) {
            self.seats.ask_home(lost, Mono(u64::MAX));
            self.seats.overloaded(lost);
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

    fn ask_home(&mut self, home: NodeId) {
        if home == self.node.id() {
            return self.seats.ask_home(home, Mono(u64::MAX));
        }
        self.seats.ask_home(home, self.patience_with(home));
        self.quorum.asked(home);
        self.gather.ask(home, self.merge(None, self.stamp.clone()));
    }

    /// Those who refused for the sake of another layout are asked again, and by the layouts that are live now.
    fn ask_again(&mut self) {
        let live = self.node.live();
        if !live.is_same(&self.live) {
            self.quorum.follow(&live);
            self.live = live;
            for home in self.live.homes(self.partition) {
                if !self.seats.was_asked(home) {
                    self.ask_home(home);
                }
            }
        }
        for home in std::mem::take(&mut self.stale) {
            if self.live.is_home(self.partition, home) {
                self.gather.ask(home, self.merge(None, self.stamp.clone()));
            } else {
                self.quorum.fail(home);
                // Nobody need hold it for one who is no home.
                self.seats.has(home);
            }
        }
    }

    /// The record as it travels, for a home or for whoever takes its place.
    pub(super) fn merge(&self, hint_for: Option<NodeId>, stamp: Frontier) -> Body {
        // The row that names whom a hint is for is what a crash must not take.
        let buffered = self.buffered && (hint_for.is_none() || planted::on(Bug::BufferedHint));
        let (key, record, fence) = (self.key.clone(), self.record.clone(), self.live.fence());
        Body::Merge { key, record, hint_for, stamp, buffered, fence }
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
        if !self.stale.is_empty() && now >= self.again_at {
            self.ask_again();
            // By the layouts that are live now, those who have it may be enough, and nobody left to wait for.
            return true;
        }
        let mut until = self.seats.next_at(now).map_or(end, |at| at.min(end));
        if !self.stale.is_empty() {
            until = until.min(self.again_at);
            // Nobody else may be waited for.
            if !self.gather.is_waiting() {
                self.node.0.env.sleep_until(until).await;
                return self.node.0.env.now() < end;
            }
        }
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
        let home = self.live.is_home(self.partition, from);
        if let Answer::Said(Body::MergeReply) = answer {
            let how = if self.buffered && home { "in memory at" } else { "durable at" };
            self.explain.line(|| format!("{how} {}", describe(&self.node, self.partition, from)));
            self.quorum.ack(from);
            self.seats.has(from);
            return;
        }
        if self.is_stale(from, &answer) {
            self.explain
                .line(|| format!("{} goes by another layout", describe(&self.node, self.partition, from)));
            self.node.0.env.probe(Probe::WriteFenced);
            self.stale.push(from);
            self.again_at = self.node.0.env.now() + FENCE_PAUSE;
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

    /// Whether a home refuses for the sake of another layout: it has adopted a later one, is a home no longer, or not yet.
    fn is_stale(&self, from: NodeId, answer: &Answer) -> bool {
        let Answer::Said(Body::Refused { failure }) = answer else { return false };
        let is_other = matches!(failure.reason, Reason::StaleLayout | Reason::Unsuitable);
        is_other && !self.answered && self.live.is_home(self.partition, from)
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
        let me = self.node.id();
        for home in self.seats.vacant(self.node.0.env.now(), need) {
            // A coordinator that is a home by one layout takes the place of one by another first: it has the record.
            if self.seats.was_asked(me) && !self.quorum.is_seated(me, home) {
                self.quorum.sits(me, home);
                self.seats.ask_fallback(home, me, Mono(u64::MAX));
                if self.quorum.has_acked(me) {
                    self.seats.has(me);
                }
                continue;
            }
            let fallbacks = self.live.fallbacks(self.partition).into_iter();
            let free = fallbacks.filter(|&id| id != me && !self.seats.was_asked(id));
            let best = free.min_by_key(|&id| (self.node.health(id), self.node.is_silent(id)));
            let Some(fallback) = best else { return };
            self.node.0.env.probe(Probe::HintAsked);
            self.seats.ask_fallback(home, fallback, self.patience_with(fallback));
            self.quorum.asked(fallback);
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
    let kind = if node.live().is_home(partition, id) { "home" } else { "fallback" };
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

/// How long this node has to learn of a layout before whoever goes by it is asked again.
const FENCE_PAUSE: Duration = Duration::from_millis(10);

/// How long after its deadline a put goes on looking for someone to take the place of homes that stayed silent:
/// enough for a few fallbacks that stay silent too.
pub(super) const FILL_SEATS: Duration = Duration::from_millis(4 * FALLBACK_AFTER_MS_MAX);
