//! Is this peer worth asking? An opinion of one node, from its own traffic and an idle ping; nothing about
//! membership follows from it, and no peer is told (the paper, 4.8.3, FD-1 to FD-3).
//!
//! Three answers are enough: up, suspect (asked last), down (its place is taken). A node that was itself
//! frozen blames nobody: everyone's silence is measured anew.

use crate::env::Mono;
use crate::request::Health;
use gramme_core::NodeId;
use gramme_core::limits::{
    FALLBACK_AFTER_MS_MAX, FALLBACK_AFTER_MS_MIN, HEDGE_AFTER_MS_MAX, HEDGE_AFTER_MS_MIN,
};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Opinions of all peers; told the time.
pub(crate) struct Detector {
    peers: BTreeMap<NodeId, Opinion>,
}

struct Opinion {
    connected: bool,
    heard_at: Mono,
    silences: u32,
    silent_at: Mono,
    latency: Latency,
}

impl Detector {
    /// Nothing is known of these peers: they count as down until a connection stands.
    pub(crate) fn new(peers: impl IntoIterator<Item = NodeId>) -> Detector {
        let blank = |_| Opinion {
            connected: false,
            heard_at: Mono(0),
            silences: 0,
            silent_at: Mono(0),
            latency: Latency::new(),
        };
        Detector { peers: peers.into_iter().map(|peer| (peer, blank(peer))).collect() }
    }

    /// A connection stands.
    pub(crate) fn connected(&mut self, peer: NodeId, now: Mono) {
        self.change(peer, |o| {
            o.connected = true;
            o.heard_at = now;
            o.silences = 0;
        });
    }

    /// The last connection is gone.
    pub(crate) fn disconnected(&mut self, peer: NodeId) {
        self.change(peer, |o| o.connected = false);
    }

    /// It said something, whatever it was. That does not excuse its silences: one whose disk hangs talks on.
    pub(crate) fn heard(&mut self, peer: NodeId, now: Mono) {
        self.change(peer, |o| o.heard_at = now);
    }

    /// It answered a question after this long.
    pub(crate) fn answered(&mut self, peer: NodeId, now: Mono, took: Duration) {
        self.change(peer, |o| {
            o.heard_at = now;
            o.silences = 0;
            o.latency.record(took);
        });
    }

    /// It left a question unanswered.
    pub(crate) fn silent(&mut self, peer: NodeId, now: Mono) {
        self.change(peer, |o| {
            o.silences = o.silences.saturating_add(1);
            o.silent_at = now;
        });
    }

    /// This node itself was frozen until now.
    pub(crate) fn thawed(&mut self, now: Mono) {
        for opinion in self.peers.values_mut() {
            opinion.heard_at = now;
            opinion.silences = 0;
        }
    }

    /// The opinion.
    pub(crate) fn health(&self, peer: NodeId, now: Mono) -> Health {
        let Some(o) = self.peers.get(&peer) else { return Health::Down };
        let quiet = now.since(o.heard_at);
        if !o.connected || quiet > DOWN_AFTER {
            Health::Down
        } else if quiet > SUSPECT_AFTER || o.is_silent(now) {
            Health::Suspect
        } else {
            Health::Up
        }
    }

    /// Whether a ping is due: nothing was heard for a while.
    pub(crate) fn quiet_for(&self, peer: NodeId, now: Mono) -> Duration {
        self.peers.get(&peer).map_or(Duration::ZERO, |o| now.since(o.heard_at))
    }

    /// Whether a connection stands.
    pub(crate) fn is_connected(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|o| o.connected)
    }

    /// After how long a read asks one replica more.
    pub(crate) fn hedge_after(&self, peer: NodeId) -> Duration {
        let p95 = self.peers.get(&peer).map_or(Duration::ZERO, |o| o.latency.p95());
        p95.clamp(Duration::from_millis(HEDGE_AFTER_MS_MIN), Duration::from_millis(HEDGE_AFTER_MS_MAX))
    }

    /// After how long a fallback takes its place in a put.
    pub(crate) fn fallback_after(&self, peer: NodeId) -> Duration {
        let p99 = self.peers.get(&peer).map_or(Duration::ZERO, |o| o.latency.p99());
        p99.clamp(Duration::from_millis(FALLBACK_AFTER_MS_MIN), Duration::from_millis(FALLBACK_AFTER_MS_MAX))
    }

    /// Median and 99th percentile of its answers, in microseconds.
    pub(crate) fn latency_us(&self, peer: NodeId) -> (u64, u64) {
        self.peers.get(&peer).map_or((0, 0), |o| (o.latency.at(0.5), o.latency.at(0.99)))
    }

    /// Its median, for choosing the faster of two.
    pub(crate) fn median(&self, peer: NodeId) -> u64 {
        self.peers.get(&peer).map_or(0, |o| o.latency.median)
    }

    fn change(&mut self, peer: NodeId, f: impl FnOnce(&mut Opinion)) {
        if let Some(opinion) = self.peers.get_mut(&peer) {
            f(opinion);
        }
    }
}

impl Opinion {
    /// Questions stay unanswered. After a while it is asked again, or one that nobody asks would be suspect for
    /// ever.
    fn is_silent(&self, now: Mono) -> bool {
        self.silences >= SUSPECT_SILENCES && now.since(self.silent_at) < SILENCE_FADES
    }
}

/// Answer times of the last few thousand questions: two histograms that take turns, so that old times fade.
struct Latency {
    young: Histogram<u32>,
    old: Histogram<u32>,
    median: u64,
    p95: u64,
    p99: u64,
}

impl Latency {
    fn new() -> Latency {
        let blank = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("the bounds are in order");
        Latency { young: blank(), old: blank(), median: 0, p95: 0, p99: 0 }
    }

    fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        self.young.saturating_record(us);
        let count = self.young.len();
        if count.is_multiple_of(REFRESH_EVERY) {
            (self.median, self.p95, self.p99) = (self.at(0.5), self.at(0.95), self.at(0.99));
        }
        if count >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.reset();
        }
    }

    fn at(&self, quantile: f64) -> u64 {
        let fuller = if self.old.len() > self.young.len() { &self.old } else { &self.young };
        if fuller.is_empty() { 0 } else { fuller.value_at_quantile(quantile) }
    }

    fn p95(&self) -> Duration {
        Duration::from_micros(self.p95)
    }

    fn p99(&self) -> Duration {
        Duration::from_micros(self.p99)
    }
}

const LATENCY_US_MAX: u64 = 10_000_000;
const REFRESH_EVERY: u64 = 64;
const GENERATION: u64 = 4096;
/// Pings are answered well within this, so longer silence is no accident.
const SUSPECT_AFTER: Duration = Duration::from_millis(600);
const DOWN_AFTER: Duration = Duration::from_millis(1500);
const SUSPECT_SILENCES: u32 = 3;
const SILENCE_FADES: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(1);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn connected_at(ms: u64) -> Detector {
        let mut detector = Detector::new([PEER]);
        detector.connected(PEER, at(ms));
        detector
    }

    #[test]
    fn a_peer_is_down_until_a_connection_stands_and_when_it_breaks() {
        let mut detector = Detector::new([PEER]);
        assert_eq!(detector.health(PEER, at(0)), Health::Down);
        detector.connected(PEER, at(1));
        assert_eq!(detector.health(PEER, at(2)), Health::Up);
        detector.disconnected(PEER);
        assert_eq!(detector.health(PEER, at(3)), Health::Down);
    }

    #[test]
    fn silence_makes_suspect_then_down_and_a_word_makes_up() {
        let mut detector = connected_at(0);
        assert_eq!(detector.health(PEER, at(599)), Health::Up);
        assert_eq!(detector.health(PEER, at(700)), Health::Suspect);
        assert_eq!(detector.health(PEER, at(1600)), Health::Down);
        detector.heard(PEER, at(1700));
        assert_eq!(detector.health(PEER, at(1701)), Health::Up);
    }

    #[test]
    fn unanswered_questions_make_suspect_even_while_it_talks() {
        let mut detector = connected_at(0);
        for _ in 0..3 {
            detector.silent(PEER, at(5));
        }
        detector.heard(PEER, at(6));
        assert_eq!(detector.health(PEER, at(10)), Health::Suspect);
        detector.answered(PEER, at(11), Duration::from_millis(1));
        assert_eq!(detector.health(PEER, at(12)), Health::Up, "an answer clears it");
    }

    #[test]
    fn a_silent_peer_is_tried_again_after_a_while() {
        let mut detector = connected_at(0);
        (0..3).for_each(|_| detector.silent(PEER, at(0)));
        detector.heard(PEER, at(1_400));
        assert_eq!(detector.health(PEER, at(1_400)), Health::Suspect);
        assert_eq!(detector.health(PEER, at(1_500)), Health::Up);
        detector.silent(PEER, at(1_600));
        assert_eq!(detector.health(PEER, at(1_600)), Health::Suspect, "and one more silence is enough");
    }

    #[test]
    fn a_node_that_was_frozen_itself_blames_nobody() {
        let mut detector = connected_at(0);
        assert_eq!(detector.health(PEER, at(9_000)), Health::Down);
        detector.thawed(at(9_000));
        assert_eq!(detector.health(PEER, at(9_001)), Health::Up);
    }

    #[test]
    fn patience_follows_the_peer_within_its_bounds() {
        let mut detector = connected_at(0);
        assert_eq!(detector.fallback_after(PEER), Duration::from_millis(FALLBACK_AFTER_MS_MIN));
        for ms in 0..200 {
            detector.answered(PEER, at(ms), Duration::from_millis(60));
        }
        let patience = detector.fallback_after(PEER).as_millis();
        assert!((59..=62).contains(&patience), "{patience} ms");
        for ms in 0..9_000 {
            detector.answered(PEER, at(ms), Duration::from_secs(5));
        }
        assert_eq!(detector.fallback_after(PEER), Duration::from_millis(FALLBACK_AFTER_MS_MAX));
    }

    #[test]
    fn a_stranger_is_down_and_changes_nothing() {
        let mut detector = connected_at(0);
        detector.heard(NodeId(99), at(5));
        assert_eq!(detector.health(NodeId(99), at(5)), Health::Down);
    }
}
