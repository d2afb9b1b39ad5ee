//! The network between hosts: what becomes of a frame, and who believes which connection to stand.
//!
//! It is nastier than TCP: frames of one connection are lost, doubled and overtake each other, and a cut
//! link is silent. Each side has its own *view* of a connection; after a cut or a crash the two views may
//! differ for seconds. What is true of real connections is kept: a number that is new for each, nothing
//! delivered on a connection that the receiver has given up, and a new connection ends the old one.
//!
//! Decisions only: it says what is to happen and when, [`crate::world`] makes it happen.

use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// How the network is on an ordinary day of this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetProfile {
    /// The least time that a frame is under way, in microseconds.
    pub base_us: u64,
    /// The mean of what comes on top.
    pub jitter_us: u64,
    /// Frames of a thousand that are late by up to [`STRAGGLER_US`].
    pub straggler_permille: u32,
}

/// What the nemesis makes of it for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Frames of a thousand that vanish.
    pub loss_permille: u32,
    /// Frames of a thousand that arrive twice.
    pub duplicate_permille: u32,
    /// Frames of a thousand that are held back.
    pub held_permille: u32,
    /// For how long at most, in milliseconds.
    pub held_ms: u64,
    /// Frames of a thousand for which there is no room in the sender's queue.
    pub refused_permille: u32,
    /// Latency, as a multiple of the ordinary one, minus one.
    pub slower_by: u32,
}

/// How often each kind of fault took effect, by the names of [`crate::nemesis::Fault::kind`].
pub type Bites = std::collections::BTreeMap<&'static str, u64>;

/// A frame on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Who sent it.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
    /// On which connection.
    pub connection: u64,
}

/// What is to happen, and in how many nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// `host` finds out that its connection `number` to `peer` is gone.
    Notice {
        /// Who finds out.
        host: usize,
        /// About whom.
        peer: usize,
        /// Which connection.
        number: u64,
    },
    /// Two hosts try to connect.
    Dial(usize, usize),
}

/// What a host is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// `host` has a connection to `peer`.
    Up(usize, usize),
    /// `host` has none any more.
    Down(usize, usize),
    /// `host` was refused by `peer` as one that was removed.
    Refused(usize, usize),
}

/// What a decision comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consequences {
    /// In order.
    pub told: Vec<Told>,
    /// With delays in nanoseconds.
    pub later: Vec<(u64, Later)>,
}

/// See the module.
pub struct Net {
    rng: Rng,
    profile: NetProfile,
    weather: Weather,
    hosts: usize,
    pairs: Vec<Pair>,
    cut: Vec<bool>,
    /// Whether one host will not talk to another.
    shut: Vec<bool>,
    slow: Vec<u32>,
    connections: u64,
    /// How often each kind of fault took effect.
    pub bites: Bites,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    number: u64,
    /// Whether the lower, and the higher, host believes that the connection stands.
    believed: [bool; 2],
    dialling: bool,
}

impl Net {
    /// A calm network without connections.
    pub fn new(seed: u64, hosts: usize, profile: NetProfile) -> Net {
        Net {
            rng: Rng::stream(seed, "net", 0),
            profile,
            weather: Weather::default(),
            hosts,
            pairs: vec![Pair::default(); hosts * hosts],
            cut: vec![false; hosts * hosts],
            shut: vec![false; hosts * hosts],
            slow: vec![1; hosts],
            connections: 0,
            bites: Bites::new(),
        }
    }

    /// What becomes of a frame: the connection it goes on and the delays, in nanoseconds, after which its
    /// copies arrive; `None` says that it never left.
    pub fn send(&mut self, from: usize, to: usize) -> Option<(u64, Vec<u64>)> {
        let pair = self.pairs[self.pair(from, to)];
        let refused = self.rng.chance(self.weather.refused_permille);
        if refused {
            self.bite("fault: queue full");
        }
        if from == to || refused || !pair.believed[side(from, to)] {
            return None;
        }
        let mut arrivals = Vec::with_capacity(1);
        if self.is_cut(from, to) {
            self.bite("fault: cut");
        } else if self.rng.chance(self.weather.loss_permille) {
            self.bite("fault: loss");
        } else {
            arrivals.push(self.delay(from, to));
        }
        if !arrivals.is_empty() && self.rng.chance(self.weather.duplicate_permille) {
            self.bite("fault: duplicate");
            let echo = self.rng.pick(&[0, 0, 1, 20]) * 1_000_000;
            arrivals.push(self.delay(from, to) + echo);
        }
        if self.weather.held_permille > 0 && self.rng.chance(self.weather.held_permille) {
            self.bite("fault: held back");
            let held = self.rng.below(self.weather.held_ms.max(1)) * 1_000_000;
            arrivals.last_mut().into_iter().for_each(|arrival| *arrival += held);
        }
        Some((pair.number, arrivals))
    }

    /// Whether a frame that has arrived is delivered; if its connection is not one that the receiver knows,
    /// the sender hears of it.
    pub fn arrive(&mut self, flight: Flight) -> (bool, Consequences) {
        let Flight { from, to, connection } = flight;
        let mut consequences = Consequences::default();
        if self.is_cut(from, to) {
            self.bite("fault: cut");
            return (false, consequences);
        }
        let pair = self.pairs[self.pair(from, to)];
        let known = pair.number == connection && pair.believed[side(to, from)];
        let refutable = pair.number == connection && pair.believed[side(from, to)];
        if !known && refutable && !self.is_cut(to, from) {
            let delay = self.delay(to, from);
            consequences.later.push((delay, Later::Notice { host: from, peer: to, number: connection }));
        }
        (known, consequences)
    }

    /// `host` has found out that its connection to `peer` is gone, unless a newer one stands.
    pub fn notice(&mut self, host: usize, peer: usize, number: u64) -> Consequences {
        let mut consequences = Consequences::default();
        let at = self.pair(host, peer);
        let pair = self.pairs[at];
        if pair.number != number || !pair.believed[side(host, peer)] {
            return consequences;
        }
        self.pairs[at].believed[side(host, peer)] = false;
        consequences.told.push(Told::Down(host, peer));
        if pair.believed[side(peer, host)] && !self.is_cut(host, peer) {
            let delay = self.delay(host, peer);
            consequences.later.push((delay, Later::Notice { host: peer, peer: host, number }));
        }
        self.redial(host, peer, &mut consequences);
        consequences
    }

    /// Two hosts try to connect; `able` says whether both are there to do so.
    pub fn dial(&mut self, a: usize, b: usize, able: bool) -> Consequences {
        let mut consequences = Consequences::default();
        let at = self.pair(a, b);
        self.pairs[at].dialling = false;
        let pair = self.pairs[at];
        if pair.believed == [true, true] {
            return consequences;
        }
        if self.is_shut(a, b) {
            let hears = |&(host, peer): &(usize, usize)| self.shut[peer * self.hosts + host];
            let refused = [(a, b), (b, a)].into_iter().filter(hears);
            consequences.told.extend(refused.map(|(host, peer)| Told::Refused(host, peer)));
            return consequences;
        }
        let is_cut = self.is_cut(a, b) || self.is_cut(b, a);
        if is_cut {
            self.bite("fault: cut");
        }
        if !able || is_cut {
            self.redial(a, b, &mut consequences);
            return consequences;
        }
        for (host, peer) in [(a, b), (b, a)] {
            if pair.believed[side(host, peer)] {
                consequences.told.push(Told::Down(host, peer));
            }
        }
        self.connections += 1;
        self.pairs[at] = Pair { number: self.connections, believed: [true, true], dialling: false };
        consequences.told.extend([Told::Up(a, b), Told::Up(b, a)]);
        consequences
    }

    /// A dial came to nothing because a host is down: it dials itself once it is up.
    pub fn hang_up(&mut self, a: usize, b: usize) {
        let at = self.pair(a, b);
        self.pairs[at].dialling = false;
    }

    /// A host hangs up on these others, and on nobody else any more.
    pub fn shut_out(&mut self, host: usize, others: &[usize]) -> Consequences {
        let mut consequences = Consequences::default();
        for peer in (0..self.hosts).filter(|&peer| peer != host) {
            let shuts = others.contains(&peer);
            let before = std::mem::replace(&mut self.shut[host * self.hosts + peer], shuts);
            let at = self.pair(host, peer);
            if shuts && self.pairs[at].believed[side(host, peer)] {
                let number = self.pairs[at].number;
                let noticed = self.notice(host, peer, number);
                consequences.told.extend(noticed.told);
                consequences.later.extend(noticed.later);
            } else if before && !shuts {
                self.redial(host, peer, &mut consequences);
            }
        }
        consequences
    }

    fn is_shut(&self, a: usize, b: usize) -> bool {
        self.shut[a * self.hosts + b] || self.shut[b * self.hosts + a]
    }

    /// A host has just opened its doors: it connects to every other.
    pub fn started(&mut self, host: usize) -> Consequences {
        let mut consequences = Consequences::default();
        // A new life has still to learn whom it hangs up on.
        for peer in 0..self.hosts {
            self.shut[host * self.hosts + peer] = false;
        }
        for peer in (0..self.hosts).filter(|&peer| peer != host) {
            self.redial(host, peer, &mut consequences);
        }
        consequences
    }

    /// A host is gone. If its system lives on it resets its connections; if its power failed, its peers learn
    /// it by silence.
    pub fn stopped(&mut self, host: usize, silently: bool) -> Consequences {
        let mut consequences = Consequences::default();
        for peer in (0..self.hosts).filter(|&peer| peer != host) {
            let at = self.pair(host, peer);
            self.pairs[at].believed[side(host, peer)] = false;
            let Pair { number, believed, .. } = self.pairs[at];
            if believed[side(peer, host)] {
                let heard = !silently && !self.is_cut(host, peer);
                let delay = if heard { self.delay(host, peer) } else { self.silence() };
                consequences.later.push((delay, Later::Notice { host: peer, peer: host, number }));
            }
        }
        consequences
    }

    /// Nothing gets from one host to another until [`Net::mend`]. Each side may or may not find out.
    pub fn cut(&mut self, from: usize, to: usize) -> Consequences {
        let mut consequences = Consequences::default();
        if from == to || std::mem::replace(&mut self.cut[from * self.hosts + to], true) {
            return consequences;
        }
        let number = self.pairs[self.pair(from, to)].number;
        for (host, peer) in [(from, to), (to, from)] {
            if self.rng.chance(500) {
                let delay = self.silence();
                consequences.later.push((delay, Later::Notice { host, peer, number }));
            }
        }
        consequences
    }

    /// Ends a cut.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cut[from * self.hosts + to] = false;
    }

    /// Ends every cut and all bad weather.
    pub fn mend_all(&mut self) {
        self.cut.fill(false);
        self.slow.fill(1);
        self.weather = Weather::default();
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather);
    }

    /// Frames from and to this host take so many times as long.
    pub fn set_slow(&mut self, host: usize, factor: u32) {
        self.slow[host] = factor.max(1);
    }

    /// How long something takes from one host to another, in nanoseconds; drawn anew each time.
    pub fn delay(&mut self, from: usize, to: usize) -> u64 {
        let mut us = self.profile.base_us + self.rng.spread(self.profile.jitter_us.max(1));
        if self.rng.chance(self.profile.straggler_permille) {
            us += self.rng.below(STRAGGLER_US);
        }
        let slow = self.slow[from].max(self.slow[to]);
        if slow > 1 {
            self.bite("fault: slow node");
        }
        if self.weather.slower_by > 0 {
            self.bite("fault: slow network");
        }
        us * 1000 * u64::from(slow) * u64::from(1 + self.weather.slower_by)
    }

    fn bite(&mut self, what: &'static str) {
        *self.bites.entry(what).or_default() += 1;
    }

    fn redial(&mut self, a: usize, b: usize, consequences: &mut Consequences) {
        let at = self.pair(a, b);
        if !std::mem::replace(&mut self.pairs[at].dialling, true) {
            let delay = self.rng.between(5_000_000, 150_000_000);
            consequences.later.push((delay, Later::Dial(a, b)));
        }
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from * self.hosts + to]
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        a.min(b) * self.hosts + a.max(b)
    }

    /// How long silence takes to be taken for an end, in nanoseconds.
    fn silence(&mut self) -> u64 {
        self.rng.between(200_000_000, 4_000_000_000)
    }
}

/// Whose view of the pair: 0 is the lower host's.
fn side(host: usize, peer: usize) -> usize {
    usize::from(host > peer)
}

/// A straggler is late by at most this, in microseconds: longer than most deadlines.
const STRAGGLER_US: u64 = 700_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> Net {
        Net::new(1, 3, NetProfile { base_us: 100, jitter_us: 50, straggler_permille: 0 })
    }

    #[test]
    fn without_a_connection_nothing_leaves() {
        let mut net = net();
        assert_eq!(net.send(0, 1), None);
        assert_eq!(net.dial(0, 1, true).told, [Told::Up(0, 1), Told::Up(1, 0)]);
        assert!(net.send(0, 1).is_some_and(|(_, arrivals)| arrivals.len() == 1));
        assert_eq!(net.send(0, 2), None);
    }

    #[test]
    fn a_cut_is_silent_and_one_way() {
        let mut net = net();
        net.dial(0, 1, true);
        net.cut(0, 1);
        assert!(net.send(0, 1).is_some_and(|(_, arrivals)| arrivals.is_empty()), "it left and never arrives");
        assert!(net.send(1, 0).is_some_and(|(_, arrivals)| arrivals.len() == 1));
        net.mend(0, 1);
        assert!(net.send(0, 1).is_some_and(|(_, arrivals)| arrivals.len() == 1));
    }

    #[test]
    fn what_arrives_on_a_connection_that_the_receiver_gave_up_is_refused() {
        let mut net = net();
        net.dial(0, 1, true);
        let (connection, _) = net.send(0, 1).expect("it stands");
        assert_eq!(net.notice(1, 0, connection).told, [Told::Down(1, 0)]);
        let (delivered, consequences) = net.arrive(Flight { from: 0, to: 1, connection });
        assert!(!delivered);
        let heard = Later::Notice { host: 0, peer: 1, number: connection };
        assert!(consequences.later.iter().any(|(_, later)| *later == heard), "the sender hears of it");
    }

    #[test]
    fn a_new_connection_ends_the_old_one_and_has_a_new_number() {
        let mut net = net();
        net.dial(0, 1, true);
        let (old, _) = net.send(0, 1).expect("it stands");
        net.stopped(1, true);
        assert_eq!(net.dial(0, 1, true).told, [Told::Down(0, 1), Told::Up(0, 1), Told::Up(1, 0)]);
        let (new, _) = net.send(0, 1).expect("it stands");
        assert_ne!(old, new);
        assert!(!net.arrive(Flight { from: 0, to: 1, connection: old }).0);
    }
}
