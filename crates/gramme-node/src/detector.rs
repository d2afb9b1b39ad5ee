//! Is this peer worth asking? An opinion of one node, from its own traffic and an idle ping; nothing about
//! membership follows from it, and no peer is told (the paper, 4.8.3, FD-1 to FD-3; correctness.md 6).
//!
//! Three answers are enough: up, suspect (asked last, coordinates nothing, still gets every write), down (its
//! place is taken); people are told green, yellow, red. A peer is suspect if it
//!
//! * has *gone silent*: a question is open longer than it usually takes, and nothing at all was heard since.
//!   Whoever waits for it stops waiting at once, and nobody begins to (one bounded wait for a frozen peer, and
//!   not one per request);
//! * leaves questions unanswered although it talks;
//! * is *degraded*: for ten seconds much slower than its neighbours, or failing where they do not.
//!
//! A node that was itself frozen blames nobody: everyone's silence is measured anew. One whose own loop or disk
//! stalls is more patient with everyone (Lifeguard).

mod latency;
mod slowness;
#[cfg(test)]
mod tests;

use crate::env::Mono;
use crate::request::Health;
use gramme_core::limits::{
    FALLBACK_AFTER_MS_MAX, FALLBACK_AFTER_MS_MIN, HEDGE_AFTER_MS_MAX, HEDGE_AFTER_MS_MIN,
};
use gramme_core::planted::{self, Bug};
use gramme_core::{Member, NodeId};
use latency::Latency;
use slowness::{PART, Part, Slowness, is_bad};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a question demands of its peer, for like is only held against like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// To look something up.
    Read,
    /// To make something durable.
    Merge,
    /// To be there.
    Ping,
    /// Something that may take its time.
    Long,
}

/// Opinions of all peers; told the time.
pub(crate) struct Detector {
    peers: BTreeMap<NodeId, Opinion>,
    /// How much more patient this node is than it would be if it were well.
    widened: u32,
    judged_at: Mono,
}

struct Opinion {
    zone: String,
    connected: bool,
    heard_at: Mono,
    /// Since when a question is open of which it could have been heard.
    asked_at: Option<Mono>,
    silent_since: Option<Mono>,
    /// It was silent and talks again: until then it is watched.
    watched_until: Mono,
    unanswered: u32,
    unanswered_at: Mono,
    in_flight: u32,
    reads: Latency,
    merges: Latency,
    slowness: Slowness,
}

impl Detector {
    /// Nothing is known of these peers: they count as down until a connection stands.
    pub(crate) fn new<'a>(peers: impl IntoIterator<Item = &'a Member>) -> Detector {
        let peers = peers.into_iter().map(|peer| (peer.id, Opinion::blank(&peer.zone))).collect();
        Detector { peers, widened: 1, judged_at: Mono(0) }
    }

    /// The members are these from now on. Of others an opinion is kept for as long as they are connected.
    pub(crate) fn members_are<'a>(&mut self, members: impl IntoIterator<Item = &'a Member>) {
        let mut named = BTreeSet::new();
        for member in members {
            let opinion = self.peers.entry(member.id).or_insert_with(|| Opinion::blank(&member.zone));
            opinion.zone = member.zone.clone();
            named.insert(member.id);
        }
        self.peers.retain(|id, opinion| opinion.connected || named.contains(id));
    }

    /// A connection stands. Someone who is no member may become one.
    pub(crate) fn connected(&mut self, peer: NodeId, now: Mono) {
        self.peers.entry(peer).or_insert_with(|| Opinion::blank(""));
        self.change(peer, |o| {
            o.connected = true;
            o.unanswered = 0;
            o.hear(now);
        });
    }

    /// The last connection is gone.
    pub(crate) fn disconnected(&mut self, peer: NodeId) {
        self.change(peer, |o| {
            o.connected = false;
            o.asked_at = None;
        });
    }

    /// It said something, whatever it was. That does not excuse what it leaves unanswered: one whose disk hangs
    /// talks on.
    pub(crate) fn heard(&mut self, peer: NodeId, now: Mono) {
        self.change(peer, |o| o.hear(now));
    }

    /// A question is on its way to it.
    pub(crate) fn asked(&mut self, peer: NodeId, question: Question, now: Mono) {
        self.change(peer, |o| {
            if question != Question::Ping {
                o.in_flight += 1;
            }
            if question != Question::Long {
                o.asked_at = o.asked_at.or(Some(now));
            }
        });
    }

    /// It answered a question after this long.
    pub(crate) fn answered(&mut self, peer: NodeId, question: Question, now: Mono, took: Duration) {
        self.change(peer, |o| {
            o.hear(now);
            o.unanswered = 0;
            o.in_flight = o.in_flight.saturating_sub(1);
            match question {
                Question::Read => {
                    o.reads.record(took, now);
                    o.slowness.answered(0, took);
                }
                Question::Merge => {
                    o.merges.record(took, now);
                    o.slowness.answered(1, took);
                }
                Question::Ping | Question::Long => {}
            }
        });
    }

    /// What it answered is that it could not: its disk, or too much to do.
    pub(crate) fn failed(&mut self, peer: NodeId) {
        self.change(peer, |o| o.slowness.failed());
    }

    /// Nobody waits any longer for its answer to a question that was asked so long ago.
    pub(crate) fn unanswered(&mut self, peer: NodeId, question: Question, now: Mono, waited: Duration) {
        self.change(peer, |o| {
            o.in_flight = o.in_flight.saturating_sub(1);
            if waited >= UNANSWERED && question != Question::Long {
                o.unanswered = o.unanswered.saturating_add(1);
                o.unanswered_at = now;
                o.slowness.failed();
            }
        });
    }

    /// Those that have gone silent since the last look: a question is open for longer than they may take, and
    /// nothing was heard since it was asked.
    pub(crate) fn listen(&mut self, now: Mono) -> Vec<NodeId> {
        if planted::on(Bug::SilenceIgnored) {
            return Vec::new();
        }
        let widened = self.widened;
        let mut gone = Vec::new();
        for (&peer, o) in &mut self.peers {
            let open = o.asked_at.map_or(Duration::ZERO, |asked| now.since(asked));
            if o.connected && o.silent_since.is_none() && open >= o.patience() * widened {
                o.silent_since = Some(now);
                gone.push(peer);
            }
        }
        gone
    }

    /// Whether it has gone silent, as far as [`Detector::listen`] has found.
    pub(crate) fn is_silent(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|o| o.silent_since.is_some())
    }

    /// Time passes: every few seconds the peers are held against each other. Those whose standing has changed,
    /// with whether they are degraded from now on.
    pub(crate) fn judge(&mut self, now: Mono) -> Vec<(NodeId, bool)> {
        if now.since(self.judged_at) < PART {
            return Vec::new();
        }
        self.judged_at = now;
        let parts: Vec<(NodeId, String, Part)> =
            self.peers.iter_mut().map(|(&id, o)| (id, o.zone.clone(), o.slowness.end_part())).collect();
        let mut changed = Vec::new();
        for (id, zone, part) in &parts {
            let neighbours: Vec<Part> = parts
                .iter()
                .filter(|(other, its_zone, _)| other != id && its_zone == zone)
                .map(|(.., part)| *part)
                .collect();
            let verdict = is_bad(part, &neighbours);
            if let Some(o) = self.peers.get_mut(id)
                && o.slowness.judge(verdict)
            {
                changed.push((*id, o.slowness.degraded()));
            }
        }
        changed
    }

    /// Whether it is much slower than its neighbours, or fails where they do not.
    pub(crate) fn is_degraded(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|o| o.slowness.degraded())
    }

    /// This node itself was frozen until now.
    pub(crate) fn thawed(&mut self, now: Mono) {
        for opinion in self.peers.values_mut() {
            opinion.heard_at = now;
            opinion.asked_at = None;
            opinion.silent_since = None;
            opinion.unanswered = 0;
        }
    }

    /// How late this node's own timer was, or how long its own disk stalls: it widens its patience before it
    /// blames anybody.
    pub(crate) fn own_delay(&mut self, late: Duration) {
        let steps = u32::try_from(late.as_millis() / LAG.as_millis()).unwrap_or(u32::MAX);
        self.widened = match steps {
            0 => self.widened.saturating_sub(1).max(1),
            _ => self.widened.saturating_add(steps).min(WIDENED_MAX),
        };
    }

    /// The opinion.
    pub(crate) fn health(&self, peer: NodeId, now: Mono) -> Health {
        let Some(o) = self.peers.get(&peer) else { return Health::Down };
        if !o.connected {
            return Health::Down;
        }
        let quiet = if planted::on(Bug::SilenceIgnored) { Duration::ZERO } else { now.since(o.heard_at) };
        if quiet > DOWN_AFTER * self.widened {
            Health::Down
        } else if quiet > SUSPECT_AFTER * self.widened
            || o.silent_since.is_some()
            || now < o.watched_until
            || o.leaves_unanswered(now)
            || o.slowness.degraded()
        {
            Health::Suspect
        } else {
            Health::Up
        }
    }

    /// How long nothing was heard.
    pub(crate) fn quiet_for(&self, peer: NodeId, now: Mono) -> Duration {
        self.peers.get(&peer).map_or(Duration::ZERO, |o| now.since(o.heard_at))
    }

    /// Whether a connection stands.
    pub(crate) fn is_connected(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|o| o.connected)
    }

    /// After how long a read asks one replica more.
    pub(crate) fn hedge_after(&self, peer: NodeId) -> Duration {
        let p95_us = self.peers.get(&peer).map_or(0, |o| o.reads.p95_us);
        let least = Duration::from_millis(HEDGE_AFTER_MS_MIN);
        Duration::from_micros(p95_us).clamp(least, Duration::from_millis(HEDGE_AFTER_MS_MAX))
    }

    /// After how long a fallback takes its place in a put, and after which silence nobody waits for it.
    pub(crate) fn fallback_after(&self, peer: NodeId) -> Duration {
        self.peers.get(&peer).map_or(PATIENCE_MIN, Opinion::patience) * self.widened
    }

    /// Median and 99th percentile of its answers, in microseconds: to reads, or to writes if nobody reads.
    pub(crate) fn latency_us(&self, peer: NodeId) -> (u64, u64) {
        let Some(o) = self.peers.get(&peer) else { return (0, 0) };
        let shown = if o.reads.at(0.5) > 0 { &o.reads } else { &o.merges };
        (shown.at(0.5), shown.at(0.99))
    }

    /// What asking it costs, for choosing the better of two: what it takes, times the cube of its queue as far as
    /// this node knows it (C3, NSDI 2015).
    pub(crate) fn cost(&self, peer: NodeId, now: Mono) -> u64 {
        self.peers.get(&peer).map_or(u64::MAX, |o| {
            let queue = u64::from(o.in_flight) + 1;
            o.reads.expected_us(now).saturating_mul(queue.saturating_pow(3))
        })
    }

    fn change(&mut self, peer: NodeId, f: impl FnOnce(&mut Opinion)) {
        if let Some(opinion) = self.peers.get_mut(&peer) {
            f(opinion);
        }
    }
}

impl Opinion {
    fn blank(zone: &str) -> Opinion {
        Opinion {
            zone: zone.to_string(),
            connected: false,
            heard_at: Mono(0),
            asked_at: None,
            silent_since: None,
            watched_until: Mono(0),
            unanswered: 0,
            unanswered_at: Mono(0),
            in_flight: 0,
            reads: Latency::new(),
            merges: Latency::new(),
            slowness: Slowness::new(),
        }
    }

    fn hear(&mut self, now: Mono) {
        self.heard_at = now;
        self.asked_at = None;
        if let Some(since) = self.silent_since.take()
            && now.since(since) > BLINK
        {
            self.watched_until = now + WATCHED;
        }
    }

    fn patience(&self) -> Duration {
        let p99_us = self.reads.p99_us.max(self.merges.p99_us);
        Duration::from_micros(p99_us).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// After a while it is asked again, or one that nobody asks would be suspect for ever.
    fn leaves_unanswered(&self, now: Mono) -> bool {
        self.unanswered >= UNANSWERED_MAX
            && now.since(self.unanswered_at) < FORGIVEN_AFTER
            && !planted::on(Bug::SilenceIgnored)
    }
}

/// Pings are answered well within this, so longer silence is no accident.
const SUSPECT_AFTER: Duration = Duration::from_millis(600);
const DOWN_AFTER: Duration = Duration::from_millis(1500);
const PATIENCE_MIN: Duration = Duration::from_millis(FALLBACK_AFTER_MS_MIN);
const PATIENCE_MAX: Duration = Duration::from_millis(FALLBACK_AFTER_MS_MAX);
/// A question that was open for so long without an answer counts against the peer.
const UNANSWERED: Duration = Duration::from_millis(150);
const UNANSWERED_MAX: u32 = 3;
const FORGIVEN_AFTER: Duration = Duration::from_millis(1500);
/// A silence that was no more than this is no reason to watch anybody.
const BLINK: Duration = Duration::from_millis(150);
/// How long one that was silent is asked last when it talks again.
const WATCHED: Duration = Duration::from_millis(1000);
/// One step of patience for so much delay of this node's own.
const LAG: Duration = Duration::from_millis(50);
const WIDENED_MAX: u32 = 4;
