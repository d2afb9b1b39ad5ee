//! How one run is set up: drawn from the seed, printed with every failure, kept with every regression.
//!
//! Swarm testing: each seed has other hosts, other limits and other kinds of faults, so that no kind hides
//! behind another.

use crate::disk::DiskProfile;
use crate::net::NetProfile;
use crate::rng::Rng;
use crate::workload::Mix;
use gramme_core::limits::{AUDIT_MS, SCRUB_MS};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// Members of the cluster.
    pub hosts: usize,
    /// N, copies of each partition.
    pub n: usize,
    /// Q, partitions of the ring.
    pub partitions: usize,
    /// S, shards of each host.
    pub shards: usize,
    /// Zones that the hosts are spread over.
    pub zones: usize,
    /// How long the workload lasts, in simulated milliseconds.
    pub length_ms: u64,
    /// Clients.
    pub clients: usize,
    /// Keys of each bucket.
    pub keys: usize,
    /// How many of a hundred steps go to the first key.
    pub hot_percent: u32,
    /// A request's time at a node, in milliseconds.
    pub request_ms: u64,
    /// A client's patience with one attempt, in milliseconds.
    pub attempt_ms: u64,
    /// The mean pause between two steps of a client, in milliseconds.
    pub think_ms: u64,
    /// Decoded records that a shard keeps at hand, in bytes.
    pub cache_bytes: usize,
    /// Siblings that the bucket with settings of its own allows.
    pub siblings_max: u64,
    /// R and W of steps that name none, or 0 for the bucket's.
    pub r: u8,
    /// See `r`.
    pub w: u8,
    /// The network.
    pub net: NetProfile,
    /// The disks.
    pub disk: DiskProfile,
    /// How far wall clocks are off at the start, in milliseconds: one number per host.
    pub wall_offset_ms: Vec<i64>,
    /// How much faster clocks run than true time, in millionths: one number per host.
    pub drift_ppm: Vec<i64>,
    /// Whether nodes begin unproven and are told otherwise once they have met.
    pub begin_unproven: bool,
    /// Which kinds of faults there are.
    pub classes: Vec<Class>,
    /// What makes the homes agree when the faults are over.
    #[serde(default)]
    pub healer: Healer,
    /// What clients mostly do.
    #[serde(default)]
    pub mix: Mix,
    /// Whether tombstones that everyone has seen are let go of.
    #[serde(default)]
    pub reclaim: bool,
    /// Between two audits of a partition with another home of it, in milliseconds.
    #[serde(default = "audit_ms_usual")]
    pub audit_ms: u64,
    /// Whether some writes are conditional.
    #[serde(default)]
    pub conditions: bool,
    /// How long after its expiry a value is replaced by a tombstone at the earliest, in milliseconds.
    #[serde(default = "never_buried")]
    pub expiry_after_ms: u64,
    /// Whether some writes count once enough nodes have them in memory.
    #[serde(default)]
    pub buffered: bool,
    /// In which each home rereads all that it holds, in milliseconds.
    #[serde(default = "scrub_ms_usual")]
    pub scrub_ms: u64,
    /// How much longer the healed cluster goes on before anything is judged, in milliseconds: frames that are held
    /// back for long arrive in it.
    #[serde(default)]
    pub linger_ms: u64,
    /// Machines beyond the first members: each runs a node that asks to join. The ring changes only where there are some.
    #[serde(default)]
    pub spares: usize,
    /// Whether a member may be destroyed for good, and declared lost.
    #[serde(default)]
    pub loses_node: bool,
    /// Whether whoever was declared lost comes back all the same when the faults are over.
    #[serde(default)]
    pub lost_return: bool,
}

/// What makes the homes of a key agree again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Healer {
    /// One read of every key from all its homes, by read repair.
    #[default]
    Reads,
    /// The nodes themselves: exchanges, refills and handoff. Nobody reads anything.
    Exchange,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// A process is killed and started again.
    Crash,
    /// The power of the whole cluster fails.
    PowerLoss,
    /// Links are cut, one way or both.
    Cut,
    /// Frames are lost, doubled, late, or find no room in the sender's queue.
    Weather,
    /// One host's network or disk is slow.
    Slow,
    /// Syncs fail, space runs out, the disk is busy.
    DiskFault,
    /// Reads fail.
    ReadError,
    /// One directory is emptied.
    Wipe,
    /// A process is frozen and goes on.
    Freeze,
    /// Wall clocks jump.
    ClockJump,
    /// Rows of one disk rot.
    Rot,
    /// Disks stall, and are remounted read-only.
    Stall,
    /// One row of one disk is gone without a trace: outside of what is promised, and seldom.
    SilentLoss,
    /// One disk lies about its syncs and loses power: outside of what is promised, and seldom.
    Lies,
}

/// All of them.
pub const CLASSES: [Class; 10] = [
    Class::Crash,
    Class::PowerLoss,
    Class::Cut,
    Class::Weather,
    Class::Slow,
    Class::DiskFault,
    Class::ReadError,
    Class::Wipe,
    Class::Freeze,
    Class::ClockJump,
];

impl Class {
    /// Whether one disk may lose what it holds: a single copy is more than can be promised then.
    pub fn loses(self) -> bool {
        matches!(self, Class::Wipe | Class::Rot | Class::SilentLoss | Class::Lies)
    }
}

impl Knobs {
    /// The knobs of a seed.
    pub fn draw(seed: u64) -> Knobs {
        let rng = &mut Rng::stream(seed, "knobs", 0);
        let hosts = rng.pick(&[3, 3, 4, 5, 5]);
        let n = rng.pick(&[3, 3, 3, 3, 3, 3, 2, 1]).min(hosts);
        let mut classes: Vec<Class> = CLASSES.into_iter().filter(|_| rng.chance(350)).collect();
        // With one copy a wiped disk is a lost one: no protocol survives that.
        if n == 1 {
            classes.retain(|class| *class != Class::Wipe);
        }
        let more = &mut Rng::stream(seed, "more classes", 0);
        let seldom = [(Class::Stall, 200), (Class::Rot, 250), (Class::SilentLoss, 30), (Class::Lies, 40)];
        for (class, permille) in seldom {
            if more.chance(permille) && (n > 1 || class == Class::Stall) {
                classes.push(class);
            }
        }
        if classes.is_empty() {
            classes.push(Class::Crash);
        }
        let loses = classes.iter().any(|class| class.loses());
        let loses_silently = classes.iter().any(|class| matches!(class, Class::SilentLoss | Class::Lies));
        let quorum = n / 2 + 1;
        let own_levels = rng.chance(300);
        let w_min = if loses { 2 } else { 1 };
        let wild_clocks = rng.chance(400);
        let mut knobs = Knobs {
            hosts,
            n,
            partitions: rng.pick(&[4, 8, 16]),
            shards: rng.pick(&[1, 1, 2]),
            zones: rng.pick(&[1, hosts, 3]),
            length_ms: rng.between(2_500, 7_000),
            clients: rng.between(2, 5) as usize,
            keys: rng.between(1, 4) as usize,
            hot_percent: rng.pick(&[0, 30, 60]),
            request_ms: rng.pick(&[300, 600, 1000, 1000]),
            attempt_ms: rng.pick(&[150, 300, 300]),
            think_ms: rng.pick(&[20, 40, 80]),
            cache_bytes: rng.pick(&[0, 4096, 1 << 20]),
            siblings_max: rng.pick(&[3, 8, 100]),
            r: if own_levels { rng.between(1, n as u64) as u8 } else { 0 },
            w: if own_levels { rng.between(w_min.min(quorum as u64), n as u64) as u8 } else { 0 },
            net: NetProfile {
                base_us: rng.pick(&[50, 200, 1000]),
                jitter_us: rng.pick(&[50, 500, 3000]),
                straggler_permille: rng.pick(&[0, 1, 8]),
            },
            disk: DiskProfile {
                sync_us: rng.pick(&[50, 500, 4000, 15_000]),
                read_waits_permille: rng.pick(&[0, 100, 500]),
                read_us: rng.pick(&[50, 1000]),
                reads_see_waiting: rng.chance(500),
            },
            wall_offset_ms: (0..hosts)
                .map(|_| {
                    if wild_clocks { rng.between(0, 240_000) as i64 - 120_000 } else { rng.below(20) as i64 }
                })
                .collect(),
            drift_ppm: (0..hosts).map(|_| rng.below(800) as i64 - 400).collect(),
            begin_unproven: rng.chance(300),
            classes,
            // The old healer alone now and then, or nobody would notice that it is broken.
            healer: if rng.chance(150) { Healer::Reads } else { Healer::Exchange },
            mix: Mix::Ordinary,
            // A value that was deleted and whose delete is lost in silence may come back: outside the promise.
            reclaim: rng.chance(RECLAIM_PERMILLE) && !loses_silently,
            audit_ms: rng.pick(&[800, 2_500, AUDIT_MS, AUDIT_MS]),
            conditions: rng.chance(300),
            expiry_after_ms: rng.pick(&[500, 1_500, HOUR_MS, HOUR_MS]),
            buffered: rng.chance(300),
            scrub_ms: SCRUB_MS,
            linger_ms: 0,
            spares: 0,
            loses_node: false,
            lost_return: false,
        };
        knobs.draw_ring(seed, loses);
        // Where reads heal, the disks are looked at once, and a burial may be on its way.
        if knobs.healer == Healer::Reads {
            knobs.expiry_after_ms = HOUR_MS;
        }
        knobs
    }

    /// In some runs the ring changes.
    fn draw_ring(&mut self, seed: u64, loses: bool) {
        let rng = &mut Rng::stream(seed, "ring knobs", 0);
        // Homes that come are filled by exchanges.
        if !rng.chance(RING_PERMILLE) || self.healer == Healer::Reads {
            return;
        }
        self.spares = rng.between(1, 4) as usize;
        // A lost node is a lost disk: there may be one of both.
        self.loses_node = rng.chance(400) && self.n > 1 && !loses;
        self.lost_return = rng.chance(500);
        if self.loses_node && self.w == 1 {
            self.w = 2;
        }
        self.grow_machines(rng);
    }

    /// Clocks for machines that have none.
    pub fn grow_machines(&mut self, rng: &mut Rng) {
        let machines = self.machines();
        self.wall_offset_ms.resize_with(machines, || rng.below(20) as i64);
        self.drift_ppm.resize_with(machines, || rng.below(800) as i64 - 400);
    }

    /// All machines: members of the first layout, and those that ask to join.
    pub fn machines(&self) -> usize {
        self.hosts + self.spares
    }

    /// Whether a single copy is more than can be promised.
    pub fn loses(&self) -> bool {
        self.loses_node || self.classes.iter().any(|class| class.loses())
    }

    /// Whether expired values are replaced by tombstones while the run lasts.
    pub fn buries(&self) -> bool {
        self.expiry_after_ms < HOUR_MS
    }

    /// Steps that a client takes at most.
    pub fn steps_max(&self) -> usize {
        let of_length = self.length_ms as usize / 30;
        (if self.clients > CROWD { 2 * STEPS_MAX } else { STEPS_MAX }).max(of_length)
    }
}

/// Whether runs let go of tombstones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reclaim {
    /// Every run does. None then has a disk that loses in silence: what that may bring back is outside of what
    /// is promised.
    On,
    /// None does.
    Off,
    /// As each seed says: a good half of them do.
    #[default]
    Drawn,
}

impl Reclaim {
    /// Sets it in knobs as they were drawn.
    pub fn force(self, knobs: &mut Knobs) {
        match self {
            Reclaim::Drawn => {}
            Reclaim::Off => knobs.reclaim = false,
            Reclaim::On => {
                knobs.reclaim = true;
                knobs.classes.retain(|class| !matches!(class, Class::SilentLoss | Class::Lies));
                if knobs.classes.is_empty() {
                    knobs.classes.push(Class::Crash);
                }
            }
        }
    }
}

fn audit_ms_usual() -> u64 {
    AUDIT_MS
}

fn scrub_ms_usual() -> u64 {
    SCRUB_MS
}

fn never_buried() -> u64 {
    HOUR_MS
}

/// Runs of a thousand in which the ring changes.
const RING_PERMILLE: u32 = 300;
/// No run lasts as long.
const HOUR_MS: u64 = 3_600_000;
/// Runs of a thousand in which tombstones go, where no disk loses in silence.
pub const RECLAIM_PERMILLE: u32 = 650;
const STEPS_MAX: usize = 160;
/// More clients than this are there to overload the cluster.
const CROWD: usize = 8;
