//! A random walk of the versioning rules over the production functions (U6): puts, deletes, stale contexts,
//! retries, late, doubled and lost messages, crashes with unsynced loss, a lost disk, an old backup, a
//! partition left and taken back, pull sessions, a hint store that is handed over and destroyed, reports of what
//! is durable, reclaim, strip and the close of dead incarnations, on three homes and one fallback, for two keys of
//! one partition.
//!
//! Where the simulator runs the node's code in a world, this runs nothing but [`gramme_core`]'s records,
//! clocks, seen clocks and contexts, some ten thousand runs a second: rules of versions show their holes in
//! rare orders of few events. Each event's causal past is kept beside the records in full; at the end every
//! acknowledged write must be there or in the past of what is (the executable model of the reference, without
//! ring changes; and here the close goes message by message).
//!
//! It refuses to know time, sockets and disks: a step of the walk is a rule applied or a fault.

mod check;
mod cli;
mod ending;
mod step;
mod world;

pub(crate) use cli::bug_named;
pub use cli::{WalkArguments, run_cli};

use gramme_core::planted::Bug;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// What a walk is made of, besides its seed and its length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether one home may lose a key without noticing, and a full comparison of the homes ends the walk.
    pub silent_loss: bool,
    /// The deliberate fault to plant; needs the feature `planted`.
    pub bug: Option<Bug>,
}

/// What a walk came across: a walk in which nothing happened proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Walks.
    pub runs: u64,
    /// Client writes, deletes among them.
    pub writes: u64,
    /// Deletes.
    pub deletes: u64,
    /// Writes that were acknowledged: durable at a coordinator and at one more node.
    pub acked: u64,
    /// Attempts beyond the first of a write.
    pub retries: u64,
    /// Writes whose client used the context that a put had answered with.
    pub chained: u64,
    /// Crashes and restarts.
    pub restarts: u64,
    /// Disks lost, backups restored, partitions left and taken back.
    pub disk_faults: u64,
    /// Keys lost without notice.
    pub silent_losses: u64,
    /// New incarnations because of the tripwire.
    pub trips: u64,
    /// Hint stores destroyed after their records were handed over.
    pub handoffs: u64,
    /// Pull sessions that were completed.
    pub pulls: u64,
    /// Records deleted because everyone had seen them.
    pub reclaimed: u64,
    /// Clocks cut down to their siblings.
    pub stripped: u64,
    /// Incarnations closed.
    pub closed: u64,
    /// Late states ignored.
    pub stale: u64,
    /// States refused because of a void dot.
    pub void: u64,
    /// Values that one home showed and an equally far one lacked.
    pub conflicts: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        let Tally { runs, writes, deletes, acked, retries, chained, .. } = more;
        self.runs += runs;
        self.writes += writes;
        self.deletes += deletes;
        self.acked += acked;
        self.retries += retries;
        self.chained += chained;
        self.restarts += more.restarts;
        self.disk_faults += more.disk_faults;
        self.silent_losses += more.silent_losses;
        self.trips += more.trips;
        self.handoffs += more.handoffs;
        self.pulls += more.pulls;
        self.reclaimed += more.reclaimed;
        self.stripped += more.stripped;
        self.closed += more.closed;
        self.stale += more.stale;
        self.void += more.void;
        self.conflicts += more.conflicts;
    }
}

/// The promise that a walk broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged write is neither there nor in the past of what is.
    NoLoss,
    /// A write that an acknowledged one had overwritten is visible again.
    NoResurrection,
    /// All homes end with the same siblings.
    Convergence,
    /// A read of all homes, with or without the fallback, shows what each of them has.
    ReadAgreement,
    /// One client write leaves at most one sibling.
    OneSiblingPerRequest,
    /// A dot names one write.
    DotsOnce,
    /// With everyone there and in step, tombstones go.
    TombstonesGo,
}

/// A walk that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the walk.
    pub seed: u64,
    /// Its length.
    pub steps: usize,
    /// What it broke.
    pub promise: Promise,
    /// Which key, write and node.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} broken: {} (seed {}, {} steps; again: gramme-sim walk --runs 1 --first-seed {} --steps {} --trace)",
            self.promise, self.what, self.seed, self.steps, self.seed, self.steps
        )
    }
}

impl std::error::Error for Violation {}

/// What many walks came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What they came across together.
    pub tally: Tally,
    /// How many broke each promise.
    pub broken: BTreeMap<Promise, u64>,
    /// The first that broke one.
    pub first: Option<Violation>,
    /// The seed of the first that broke none and in which a tripwire rang.
    pub tripped: Option<u64>,
}

impl Report {
    /// Walks that broke a promise.
    pub fn violations(&self) -> u64 {
        self.broken.values().sum()
    }
}

/// One walk of so many steps, and the checks at its end.
pub fn walk(seed: u64, steps: usize, options: Options) -> Result<Tally, Violation> {
    let _planted = Planted::new(options.bug);
    step::walk(seed, steps, options, None)
}

/// The same, with every step told, for a person who looks for the cause.
pub fn trace(seed: u64, steps: usize, options: Options) -> (Result<Tally, Violation>, Vec<String>) {
    let _planted = Planted::new(options.bug);
    let mut told = Vec::new();
    let outcome = step::walk(seed, steps, options, Some(&mut told));
    (outcome, told)
}

/// Walks from `first_seed` on, one seed after the other; all of them, whatever they break.
pub fn campaign(first_seed: u64, runs: u64, steps: usize, options: Options) -> Report {
    let _planted = Planted::new(options.bug);
    let mut report = Report::default();
    for seed in first_seed..first_seed + runs {
        match step::walk(seed, steps, options, None) {
            Ok(tally) => {
                report.tally += tally;
                report.tripped = report.tripped.or((tally.trips > 0).then_some(seed));
            }
            Err(violation) => {
                *report.broken.entry(violation.promise).or_default() += 1;
                report.first.get_or_insert(violation);
            }
        }
    }
    report
}

/// Walks until one breaks a promise, `budget` at most.
pub fn find(first_seed: u64, budget: u64, steps: usize, options: Options) -> Option<Violation> {
    let _planted = Planted::new(options.bug);
    (first_seed..first_seed + budget).find_map(|seed| step::walk(seed, steps, options, None).err())
}

/// A case that no walk comes to: a home with a write in memory only does not report it as seen.
pub fn reports_only_what_is_durable() -> bool {
    let mut world = world::World::new(1, None);
    world.write_blind(0);
    world.wire.clear();
    world.report(0, 1);
    matches!(world.wire.pop(), Some(world::Message::Report { base, .. }) if base.is_none())
}

/// A case that no walk comes to: a drained hint store takes what it has seen with it, and its incarnation.
pub fn drops_its_hint_store_whole() -> bool {
    let mut world = world::World::new(1, None);
    world.write_blind(world::FALLBACK);
    let before = world.nodes[world::FALLBACK].live.incarnation;
    world.drop_hints();
    let hints = &world.nodes[world::FALLBACK].live;
    hints.incarnation != before && *hints.seen == gramme_core::Seen::new()
}

/// The planted fault of the process, taken out again at the end.
pub(crate) struct Planted;

impl Planted {
    #[cfg(feature = "planted")]
    pub(crate) fn new(bug: Option<Bug>) -> Planted {
        gramme_core::planted::plant(bug);
        Planted
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn new(bug: Option<Bug>) -> Planted {
        assert!(bug.is_none(), "build with the feature `planted` to walk with {bug:?}");
        Planted
    }
}

#[cfg(feature = "planted")]
impl Drop for Planted {
    fn drop(&mut self) {
        gramme_core::planted::plant(None);
    }
}
