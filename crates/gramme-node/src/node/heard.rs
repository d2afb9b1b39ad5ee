//! What a shard hears, and what it makes of silence: messages and news of its peers, its own heartbeat, pings.

use super::Node;
use crate::change::{install, steps};
use crate::cluster_gossip;
use crate::detector::Question;
use crate::env::{Env, Event, Fact};
use crate::exchange;
use crate::gossip;
use crate::hints::handoff;
use crate::probe::Probe;
use crate::serve;
use crate::trees;
use gramme_core::NodeId;
use gramme_core::limits::{FALLBACK_AFTER_MS_MIN, FREEZE_MS, IN_FLIGHT_MAX, PING_MS, SERVED_MAX};
use gramme_wire::{Body, Message};
use std::time::Duration;

impl<E: Env> Node<E> {
    pub(super) fn take(&self, event: Event) {
        match event {
            Event::Message { from, connection, message } => self.take_message(from, connection, message),
            Event::PeerUp(peer) => {
                self.0.detector.borrow_mut().connected(peer, self.0.env.now());
                if self.sees_most() {
                    self.0.shunned.set(false);
                }
                handoff::came_back(self);
                if self.0.options.shard == 0 {
                    gossip::greet(self, peer);
                    cluster_gossip::greet(self, peer);
                }
                if self.0.options.exchange {
                    exchange::connected(self, peer);
                }
            }
            Event::PeerDown(peer) => {
                self.0.detector.borrow_mut().disconnected(peer);
                self.0.routes.lost(peer);
                exchange::disconnected(self, peer);
            }
            Event::Fact(Fact::Buckets(buckets)) => {
                self.0.buckets.borrow_mut().merge(&buckets);
            }
            Event::Fact(Fact::Roots { from, skips_tombstones, reply, roots }) => {
                trees::audit::compare(self, from, skips_tombstones, reply, &roots);
            }
            Event::Fact(Fact::Trust(trust)) => exchange::trust(self, trust),
            Event::Fact(Fact::Layouts(installing)) => self.0.shift.hand(installing),
            Event::Fact(Fact::Report(report)) => steps::heard(self, report),
            Event::Fact(Fact::Differs(peer)) if self.0.options.shard == 0 => {
                cluster_gossip::greet(self, peer)
            }
            Event::Fact(Fact::Differs(_)) => {}
            Event::Fact(Fact::Removed) => {
                self.0.shunned.set(!self.sees_most());
            }
            Event::Fact(Fact::Digests { from, correlation, digests }) => {
                exchange::answer(self, from, correlation, &digests);
            }
        }
    }

    pub(super) fn take_message(&self, from: NodeId, connection: u64, message: Message) {
        if let Body::DigestsReply { compared } = message.body {
            self.0.detector.borrow_mut().heard(from, self.0.env.now());
            return exchange::answered(self, from, message.correlation, compared);
        }
        if message.body.is_reply() {
            return self.0.routes.answered(from, message.correlation, message.body);
        }
        let now = self.0.env.now();
        self.0.detector.borrow_mut().heard(from, now);
        let (sent, left) = (message.sent_ns, message.remaining_us);
        let deadline = self.0.transit.borrow_mut().deadline(from, connection, sent, left, now);
        serve::serve(self, from, message, deadline);
    }

    pub(super) fn beat(&self) {
        let now = self.0.env.now();
        if self.0.pulse.borrow_mut().beat(now) {
            self.0.env.probe(Probe::Thawed);
            self.0.detector.borrow_mut().thawed(now);
        }
    }

    pub(super) async fn beat_for_ever(self) {
        let env = &self.0.env;
        loop {
            let due = env.now() + BEAT;
            env.sleep_until(due).await;
            self.beat();
            self.0.pulse.borrow_mut().round();
            self.look_around(env.now().since(due));
            self.0.admission.beat(self.queues_percent());
            self.ping_the_quiet();
            install::report(&self);
        }
    }

    /// Forms its opinions of the peers anew; `late` is by how much this node missed its own timer.
    pub(super) fn look_around(&self, late: Duration) {
        let now = self.0.env.now();
        let stall = self.0.store.stalls_for();
        if stall > Duration::ZERO && !self.0.disk_stalls.replace(stall > Duration::ZERO) {
            self.0.env.probe(Probe::DiskStalled);
        }
        self.0.disk_stalls.set(stall > Duration::ZERO);
        self.0.detector.borrow_mut().own_delay(late.max(stall));
        self.listen();
        let changed = self.0.detector.borrow_mut().judge(now);
        for (_, degraded) in changed {
            self.0.env.probe(if degraded { Probe::PeerDegraded } else { Probe::PeerRestored });
        }
    }

    /// Finds the peers that have gone silent, tells whoever waits for them, and asks them whether they are there.
    pub(crate) fn listen(&self) {
        let now = self.0.env.now();
        let gone = self.0.detector.borrow_mut().listen(now);
        for peer in gone {
            self.0.env.probe(Probe::PeerSilent);
            self.0.routes.gone_silent(peer);
            self.ping(peer);
        }
    }

    /// Whether a peer has gone silent: see [`Detector::listen`].
    pub(crate) fn is_silent(&self, peer: NodeId) -> bool {
        peer != self.id() && self.0.detector.borrow().is_silent(peer)
    }

    /// Makes sure that the peer's silence will be noticed although it is asked what may take its time.
    pub(crate) fn ping_if_quiet(&self, peer: NodeId) {
        let quiet = self.0.detector.borrow().quiet_for(peer, self.0.env.now());
        if quiet >= Duration::from_millis(FALLBACK_AFTER_MS_MIN) {
            self.ping(peer);
        }
    }

    pub(super) fn ping(&self, peer: NodeId) {
        let now = self.0.env.now();
        self.0.detector.borrow_mut().asked(peer, Question::Ping, now);
        let deadline = now + Duration::from_millis(PING_MS);
        self.0.routes.tell(peer, Message::NO_PARTITION, Body::Ping, deadline);
    }

    /// How full the fullest queue of this shard is.
    pub(super) fn queues_percent(&self) -> u64 {
        let percent = |used: usize, max: usize| (100 * used / max) as u64;
        let inner = &self.0;
        let serving = percent(inner.served.get(), SERVED_MAX);
        percent(inner.in_flight.get(), IN_FLIGHT_MAX).max(serving).max(inner.store.fill_percent())
    }

    pub(super) fn ping_the_quiet(&self) {
        let now = self.0.env.now();
        let quiet = |peer: &NodeId| {
            let detector = self.0.detector.borrow();
            detector.is_connected(*peer) && detector.quiet_for(*peer, now) >= Duration::from_millis(PING_MS)
        };
        self.peers().filter(quiet).for_each(|peer| self.ping(peer));
    }
}

const BEAT: Duration = Duration::from_millis(100);
const _: () = assert!(BEAT.as_millis() < FREEZE_MS as u128 / 2, "an idle loop must not look frozen");
