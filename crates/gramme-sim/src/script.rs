//! How a scenario's faults are written down: a short language over [`Timed`] faults in which each trouble says
//! when it begins and when it ends.

use crate::admin::Order;
use crate::knobs::Knobs;
use crate::nemesis::{Fault, Timed};
use crate::rng::Rng;
use std::ops::Range;

/// The faults of one run of a scenario, being written.
pub struct Script {
    /// Chance, of the run's seed.
    pub rng: Rng,
    /// How many hosts there are.
    pub hosts: usize,
    /// How long clients work, in milliseconds.
    pub length_ms: u64,
    zones: usize,
    faults: Vec<Timed>,
}

impl Script {
    /// An empty script for a run.
    pub fn new(seed: u64, knobs: &Knobs) -> Script {
        Script {
            rng: Rng::stream(seed, "scenario", 0),
            hosts: knobs.machines(),
            length_ms: knobs.length_ms,
            zones: knobs.zones.max(1),
            faults: Vec::new(),
        }
    }

    /// The faults in order of time.
    pub fn finish(mut self) -> Vec<Timed> {
        self.faults.sort_by_key(|timed| timed.at_ms);
        self.faults
    }

    /// One fault at one time.
    pub fn at(&mut self, at_ms: u64, fault: Fault) {
        self.faults.push(Timed { at_ms, fault });
    }

    /// Some host.
    pub fn host(&mut self) -> usize {
        self.rng.index(self.hosts)
    }

    /// Two hosts that are not the same.
    pub fn pair(&mut self) -> (usize, usize) {
        let first = self.host();
        (first, (first + 1 + self.rng.index(self.hosts - 1)) % self.hosts)
    }

    /// The hosts of a zone.
    pub fn zone(&self, zone: usize) -> Vec<usize> {
        (0..self.hosts).filter(|host| host % self.zones == zone).collect()
    }

    /// How many zones there are.
    pub fn zones(&self) -> usize {
        self.zones
    }

    /// Some host of a zone.
    pub fn one_of(&mut self, zone: usize) -> usize {
        let hosts = self.zone(zone);
        self.rng.pick(&hosts)
    }

    /// A span of so many milliseconds at most, and a third of that at least, that begins at some time before
    /// `until`.
    pub fn span(&mut self, after: u64, until: u64, at_most: u64) -> Range<u64> {
        let begin = self.rng.between(after, until.max(after + 1));
        begin..begin + self.rng.between(at_most / 3, at_most)
    }

    /// Nothing gets from `side` to the others; the other way neither, unless it is one-way.
    pub fn cut_off(&mut self, span: Range<u64>, side: &[usize], one_way: bool) {
        let apart = |from: usize, to: usize| {
            side.contains(&from) != side.contains(&to) && (!one_way || side.contains(&from))
        };
        self.cut(span, apart);
    }

    /// Two halves that only one host, the bridge, still sees both of.
    pub fn bridge(&mut self, span: Range<u64>) {
        let bridge = self.host();
        let half: Vec<bool> = (0..self.hosts).map(|_| self.rng.chance(500)).collect();
        self.cut(span, |from, to| from != bridge && to != bridge && half[from] != half[to]);
    }

    /// Cuts every link that `apart` says.
    pub fn cut(&mut self, span: Range<u64>, apart: impl Fn(usize, usize) -> bool) {
        for from in 0..self.hosts {
            for to in (0..self.hosts).filter(|&to| to != from && apart(from, to)) {
                self.at(span.start, Fault::Cut { from, to });
                self.at(span.end, Fault::Mend { from, to });
            }
        }
    }

    /// A host is down.
    pub fn down(&mut self, span: Range<u64>, host: usize) {
        let off = self.rng.chance(500);
        self.at(span.start, if off { Fault::PowerOff { host } } else { Fault::Crash { host } });
        self.at(span.end, Fault::Start { host });
    }

    /// An administrator stages these at a host, looks at the plan and commits it.
    pub fn change(&mut self, at_ms: u64, host: usize, orders: &[Order]) {
        for &order in orders {
            self.at(at_ms, Fault::Order { host, order });
        }
        self.at(at_ms + 100, Fault::Order { host, order: Order::Commit });
    }

    /// A process stands still.
    pub fn frozen(&mut self, span: Range<u64>, host: usize) {
        self.at(span.start, Fault::Freeze { host });
        self.at(span.end, Fault::Thaw { host });
    }
}
