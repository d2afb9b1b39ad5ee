//! What goes wrong and when: a list, made before the run, that can be printed, kept, and cut down.
//!
//! Any part of a plan is a plan: whatever a missing fault leaves unfinished is put right when the run heals.
//! The budget that keeps a run recoverable is part of the drawing: at most one directory is emptied, whatever is
//! lost or rots does so on that same host, outages are short, and between them there is time.

use crate::admin::{self, Order};
use crate::knobs::{Class, Knobs};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One fault at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Simulated milliseconds.
    pub at_ms: u64,
    /// What happens.
    pub fault: Fault,
}

/// What can go wrong, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// A process is killed.
    Crash {
        /// Whose.
        host: usize,
    },
    /// Its machine loses power: unsynced batches may be gone, and its peers learn it by silence.
    PowerOff {
        /// Which.
        host: usize,
    },
    /// A process is asked to end: it drains, and is started again once it has.
    Drain {
        /// Whose.
        host: usize,
    },
    /// A host that is down starts.
    Start {
        /// Which.
        host: usize,
    },
    /// The whole cluster loses power at one instant.
    PowerLoss,
    /// A process is killed and its directory emptied.
    Wipe {
        /// Whose.
        host: usize,
    },
    /// A copy is made of what is durable in a directory.
    Copy {
        /// Whose.
        host: usize,
    },
    /// A process is killed and its directory replaced by the last copy made of it, if there is one.
    Restore {
        /// Whose.
        host: usize,
    },
    /// Nothing gets from one host to another.
    Cut {
        /// From here.
        from: usize,
        /// To here.
        to: usize,
    },
    /// It does again.
    Mend {
        /// From here.
        from: usize,
        /// To here.
        to: usize,
    },
    /// Frames of a thousand that are lost.
    Loss {
        /// How many.
        permille: u32,
    },
    /// Frames of a thousand that arrive twice.
    Duplicate {
        /// How many.
        permille: u32,
    },
    /// Frames of a thousand that are held back for up to so long.
    Hold {
        /// How many.
        permille: u32,
        /// For how long at most, in milliseconds.
        up_to_ms: u64,
    },
    /// Sends of a thousand that find the queue full.
    Refuse {
        /// How many.
        permille: u32,
    },
    /// Every frame takes so many times longer; 0 is ordinary.
    Slower {
        /// By how many times.
        by: u32,
    },
    /// One host's network is slow; 1 is ordinary.
    SlowNode {
        /// Whose.
        host: usize,
        /// How many times slower.
        factor: u32,
    },
    /// One host's disk is slow; 1 is ordinary.
    SlowDisk {
        /// Whose.
        host: usize,
        /// How many times slower.
        factor: u32,
    },
    /// The next sync of a disk fails.
    SyncError {
        /// Whose.
        host: usize,
    },
    /// A disk is full, or no longer.
    Full {
        /// Whose.
        host: usize,
        /// Whether it is.
        full: bool,
    },
    /// Commits of a thousand that a disk puts off.
    Busy {
        /// Whose.
        host: usize,
        /// How many.
        permille: u32,
    },
    /// Reads of a thousand that fail.
    ReadErrors {
        /// Whose.
        host: usize,
        /// How many.
        permille: u32,
    },
    /// A process is not scheduled.
    Freeze {
        /// Whose.
        host: usize,
    },
    /// It is again.
    Thaw {
        /// Whose.
        host: usize,
    },
    /// A wall clock jumps.
    ClockJump {
        /// Whose.
        host: usize,
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// One row of home data fails its checksum from now on, until it is overwritten.
    Rot {
        /// On whose disk.
        host: usize,
    },
    /// One row of home data is gone without a trace.
    SilentLoss {
        /// From whose disk.
        host: usize,
    },
    /// A disk calls durable what is gone with the power, or no longer.
    Lies {
        /// Whose.
        host: usize,
        /// Whether it does.
        lies: bool,
    },
    /// Nothing that is asked of a disk ends, or it does again.
    Stall {
        /// Whose.
        host: usize,
        /// Whether it does not.
        stalled: bool,
    },
    /// A machine is gone for good: it does not come back unless nobody has said by the end that it is lost, or this run
    /// has those come back too.
    Destroy {
        /// Which.
        host: usize,
    },
    /// No fault: an administrator gives an order at a node.
    Order {
        /// Where.
        host: usize,
        /// What.
        order: Order,
    },
    /// Writes to a disk fail, or no longer.
    ReadOnly {
        /// Whose.
        host: usize,
        /// Whether they do.
        read_only: bool,
    },
}

impl Fault {
    /// The name under which it is counted each time that it takes effect; none if it ends something, or cannot
    /// fail to.
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Fault::Crash { .. } => "fault: crash",
            Fault::PowerOff { .. } => "fault: power off",
            Fault::Drain { .. } => "fault: drain",
            Fault::PowerLoss => "fault: power loss",
            Fault::Wipe { .. } => "fault: wipe",
            Fault::Restore { .. } => "fault: restore",
            Fault::Cut { .. } => "fault: cut",
            Fault::Loss { permille: 1.. } => "fault: loss",
            Fault::Duplicate { permille: 1.. } => "fault: duplicate",
            Fault::Hold { permille: 1.., .. } => "fault: held back",
            Fault::Refuse { permille: 1.. } => "fault: queue full",
            Fault::Slower { by: 1.. } => "fault: slow network",
            Fault::SlowNode { factor: 2.., .. } => "fault: slow node",
            Fault::SlowDisk { factor: 2.., .. } => "fault: slow disk",
            Fault::SyncError { .. } => "fault: sync error",
            Fault::Full { full: true, .. } => "fault: full",
            Fault::Busy { permille: 1.., .. } => "fault: busy",
            Fault::ReadErrors { permille: 1.., .. } => "fault: read error",
            Fault::Freeze { .. } => "fault: freeze",
            Fault::ClockJump { .. } => "fault: clock jump",
            Fault::Rot { .. } => "fault: rot",
            Fault::SilentLoss { .. } => "fault: silent loss",
            Fault::Lies { lies: true, .. } => "fault: lie",
            Fault::Stall { stalled: true, .. } => "fault: stall",
            Fault::ReadOnly { read_only: true, .. } => "fault: read-only",
            Fault::Destroy { .. } => "fault: destroyed",
            Fault::Order { order: Order::Commit | Order::Force, .. } => admin::CHANGED,
            _ => return None,
        })
    }
}

/// The faults of a run, in order of time.
pub fn draw(seed: u64, knobs: &Knobs) -> Vec<Timed> {
    let mut plan = Plan {
        rng: Rng::stream(seed, "nemesis", 0),
        hosts: knobs.machines(),
        loser: Rng::stream(seed, "loser", 0).index(knobs.machines()),
        faults: Vec::new(),
    };
    let mut at_ms = BEGIN_MS + plan.rng.below(400);
    let mut spent = BTreeSet::new();
    while at_ms < knobs.length_ms {
        let class = plan.rng.pick(&knobs.classes);
        let is_once = matches!(class, Class::Wipe | Class::SilentLoss | Class::Lies);
        if !is_once || spent.insert(class) {
            plan.episode(class, at_ms);
        }
        at_ms += plan.rng.between(150, 1_200);
    }
    plan.faults.extend(admin::draw(seed, knobs));
    plan.faults.sort_by_key(|timed| timed.at_ms);
    plan.faults
}

struct Plan {
    rng: Rng,
    hosts: usize,
    /// The one host whose disk may lose anything.
    loser: usize,
    faults: Vec<Timed>,
}

impl Plan {
    fn episode(&mut self, class: Class, at: u64) {
        let host = self.rng.index(self.hosts);
        match class {
            Class::Crash if self.rng.chance(200) => self.add(at, Fault::Drain { host }),
            Class::Crash => {
                let off = self.rng.chance(400);
                self.add(at, if off { Fault::PowerOff { host } } else { Fault::Crash { host } });
                let down = self.rng.between(20, 1_200);
                self.add(at + down, Fault::Start { host });
            }
            Class::PowerLoss => {
                self.add(at, Fault::PowerLoss);
                for host in 0..self.hosts {
                    let down = self.rng.between(10, 500);
                    self.add(at + down, Fault::Start { host });
                }
            }
            Class::Cut => self.cut(at),
            Class::Weather => self.weather(at),
            Class::Slow => {
                let lasts = self.rng.between(200, 1_500);
                let factor = self.rng.pick(&[5, 30, 100]);
                if self.rng.chance(500) {
                    self.add(at, Fault::SlowNode { host, factor });
                    self.add(at + lasts, Fault::SlowNode { host, factor: 1 });
                } else {
                    self.add(at, Fault::SlowDisk { host, factor });
                    self.add(at + lasts, Fault::SlowDisk { host, factor: 1 });
                }
            }
            Class::DiskFault => self.disk_fault(at, host),
            Class::ReadError => {
                let permille = self.rng.pick(&[50, 300, 1000]);
                let lasts = self.rng.between(100, 1_000);
                self.add(at, Fault::ReadErrors { host, permille });
                self.add(at + lasts, Fault::ReadErrors { host, permille: 0 });
            }
            Class::Wipe => {
                let host = self.loser;
                self.add(at, Fault::Wipe { host });
                let down = self.rng.between(20, 800);
                self.add(at + down, Fault::Start { host });
            }
            Class::Freeze => {
                let lasts = self.rng.between(600, 2_500);
                self.add(at, Fault::Freeze { host });
                self.add(at + lasts, Fault::Thaw { host });
            }
            Class::ClockJump => {
                let by_ms = self.rng.between(0, 1_200_000) as i64 - 600_000;
                self.add(at, Fault::ClockJump { host, by_ms });
            }
            Class::Rot => (0..self.rng.between(1, 4)).for_each(|_| {
                let later = self.rng.below(1_000);
                self.add(at + later, Fault::Rot { host: self.loser });
            }),
            Class::SilentLoss => self.add(at, Fault::SilentLoss { host: self.loser }),
            Class::Lies => {
                let host = self.loser;
                self.add(at, Fault::Lies { host, lies: true });
                let off_at = at + self.rng.between(100, 1_000);
                self.add(off_at, Fault::PowerOff { host });
                self.add(off_at + 1, Fault::Lies { host, lies: false });
                let down = self.rng.between(20, 800);
                self.add(off_at + down, Fault::Start { host });
            }
            Class::Stall if self.rng.chance(300) => {
                let lasts = self.rng.between(50, 1_500);
                self.add(at, Fault::ReadOnly { host, read_only: true });
                self.add(at + lasts, Fault::ReadOnly { host, read_only: false });
            }
            Class::Stall => {
                let lasts = self.rng.pick(&[300, 1_000, 1_000, 3_000, 6_000]);
                self.add(at, Fault::Stall { host, stalled: true });
                self.add(at + lasts, Fault::Stall { host, stalled: false });
            }
        }
    }

    /// One link, one host or a half of the cluster is cut off, one way or both.
    fn cut(&mut self, at: u64) {
        let lasts = self.rng.between(200, 2_000);
        let shape = self.rng.below(3);
        let one_way = self.rng.chance(400);
        let side: Vec<bool> = match shape {
            0 => {
                let lonely = self.rng.index(self.hosts);
                (0..self.hosts).map(|host| host == lonely).collect()
            }
            _ => (0..self.hosts).map(|_| self.rng.chance(500)).collect(),
        };
        let (a, b) = (self.rng.index(self.hosts), self.rng.index(self.hosts));
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                let apart = if shape == 2 {
                    (from, to) == (a, b) || (!one_way && (from, to) == (b, a))
                } else {
                    side[from] != side[to] && (!one_way || side[from])
                };
                if apart && from != to {
                    self.add(at, Fault::Cut { from, to });
                    self.add(at + lasts, Fault::Mend { from, to });
                }
            }
        }
    }

    fn weather(&mut self, at: u64) {
        let lasts = self.rng.between(300, 2_000);
        match self.rng.below(4) {
            0 => {
                let permille = self.rng.pick(&[10, 50, 150]);
                self.add(at, Fault::Loss { permille });
                self.add(at + lasts, Fault::Loss { permille: 0 });
            }
            1 => {
                let permille = self.rng.pick(&[100, 500]);
                self.add(at, Fault::Duplicate { permille });
                self.add(at + lasts, Fault::Duplicate { permille: 0 });
            }
            2 => {
                let permille = self.rng.pick(&[20, 150]);
                self.add(at, Fault::Refuse { permille });
                self.add(at + lasts, Fault::Refuse { permille: 0 });
            }
            _ => {
                let by = self.rng.pick(&[3, 20, 80]);
                self.add(at, Fault::Slower { by });
                self.add(at + lasts, Fault::Slower { by: 0 });
            }
        }
    }

    fn disk_fault(&mut self, at: u64, host: usize) {
        let lasts = self.rng.between(50, 800);
        match self.rng.below(3) {
            0 => self.add(at, Fault::SyncError { host }),
            1 => {
                let lasts = lasts * self.rng.pick(&[1, 1, 4]);
                self.add(at, Fault::Full { host, full: true });
                self.add(at + lasts, Fault::Full { host, full: false });
            }
            _ => {
                let permille = self.rng.pick(&[20, 300]);
                self.add(at, Fault::Busy { host, permille });
                self.add(at + lasts, Fault::Busy { host, permille: 0 });
            }
        }
    }

    fn add(&mut self, at_ms: u64, fault: Fault) {
        self.faults.push(Timed { at_ms, fault });
    }
}

/// The first moments are calm, so that the cluster has met and its buckets are set.
pub const BEGIN_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn loser_of(fault: Fault) -> Option<usize> {
        match fault {
            Fault::Wipe { host }
            | Fault::Rot { host }
            | Fault::SilentLoss { host }
            | Fault::Lies { host, .. } => Some(host),
            _ => None,
        }
    }

    #[test]
    fn a_plan_empties_at_most_one_directory_and_is_in_order() {
        for seed in 0..300 {
            let knobs = Knobs::draw(seed);
            let plan = draw(seed, &knobs);
            assert!(plan.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
            let wiped = plan.iter().filter(|timed| matches!(timed.fault, Fault::Wipe { .. })).count();
            assert!(wiped <= 1, "seed {seed}");
            assert!(wiped == 0 || (knobs.n > 1 && knobs.w != 1), "seed {seed}: a single copy would be lost");
            let losers: BTreeSet<usize> = plan.iter().filter_map(|timed| loser_of(timed.fault)).collect();
            assert!(losers.len() <= 1, "seed {seed}: {losers:?} would lose more than one copy");
            assert!(losers.is_empty() || (knobs.n > 1 && knobs.w != 1), "seed {seed}");
        }
    }
}
