//! The proof that the simulator sees: deliberate faults, one at a time, each of which must be found within its
//! seed budget. A budget is several times the number of seeds that finding it took when it was set.
//!
//! A planted fault is one for the whole process, so they are tried one after the other.

use crate::batch::{self, Kind, Seeds};
use crate::run::Plan;
use crate::scenarios::Scenario;
use gramme_core::planted::{Bug, plant};

/// A fault and the seeds within which it must be found.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Which.
    pub bug: Bug,
    /// Seeds.
    pub budget: u64,
    /// Of which scenario; of the ordinary runs if of none.
    pub scenario: Option<&'static str>,
}

/// What came of looking for one.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Which.
    pub planted: Planted,
    /// The first seed that failed, counted from the first tried, and the rule that it broke.
    pub found: Option<(u64, &'static str)>,
}

/// Every fault that simulated nodes can show, with its budget. Those of the versioning rules that need a disk
/// which loses in silence (`PerKeyCounter`, `LowZero`, `NoTripwire`) are found by the walk of [`crate::model`].
///
/// Not here, because random runs do not meet them within a budget that every change can pay for: `RefilledByOne`
/// and `RestoredTrusted` (what the refill missed comes with the next exchange), `SilenceIgnored`, and the faults of
/// audits: the scripted stories of `gramme-node` find those. Nor those of closing, which need a message that survives
/// its sender by many seconds: the walk and scripted stories find them, and the walk the other faults of reclaim.
pub const ALL: [Planted; 32] = [
    of(Bug::AckBeforeSync, 1000),
    of(Bug::ReplicaAckBeforeSync, 2000),
    of(Bug::DuplicateCounted, 4000),
    of(Bug::ReadOne, 600),
    of(Bug::OverwriteOnMerge, 200),
    of(Bug::PutDropsAll, 200),
    of(Bug::BlindSupersedes, 200),
    of(Bug::NoReadRepair, 600),
    of(Bug::ErrorIsNotFound, 1000),
    of(Bug::QuarantineAnswers, 1000),
    of(Bug::HintAmongHomes, 200),
    of(Bug::RetryForgotten, 200),
    of(Bug::FrozenWrites, 200),
    of(Bug::AnswerRecordClock, 200),
    of(Bug::IncarnationReused, 200),
    of(Bug::FullIsDone, 1000),
    of(Bug::CommitErrorSwallowed, 1000),
    of(Bug::MendAlone, 3000),
    of(Bug::RepairStorm, 500),
    of(Bug::SessionJoinedEarly, 1500),
    within(Bug::HintReplacesHint, "D24", 200),
    of(Bug::FallbackMintsFromClock, 500),
    within(Bug::HintDroppedAfterOne, "riak-2C21", 500),
    of(Bug::ExpiryByWall, 200),
    of(Bug::TreeForgetsRemovals, 200),
    of(Bug::ReclaimOnOwnBase, 1000),
    of(Bug::ReadNotFilled, 3000),
    within(Bug::WritesNewestOnly, "D14", 1000),
    within(Bug::NewHomeTrusted, "lone-copy", 200),
    within(Bug::ReadsSwitchEarly, "lone-copy", 200),
    within(Bug::LeftDropped, "lone-left", 200),
    within(Bug::NoFence, "late-writer", 1000),
];

const fn of(bug: Bug, budget: u64) -> Planted {
    Planted { bug, budget, scenario: None }
}

/// A fault that ordinary runs meet too seldom, and a scenario soon.
const fn within(bug: Bug, scenario: &'static str, budget: u64) -> Planted {
    Planted { bug, budget, scenario: Some(scenario) }
}

/// Plants a fault and runs seeds from `first` until one fails.
pub fn hunt(planted: Planted, first: u64, threads: usize) -> Hunt {
    plant(Some(planted.bug));
    let seeds = Seeds { first, count: planted.budget, threads, until_failure: true };
    let scenario = planted.scenario.and_then(Scenario::of);
    let plan = |seed| scenario.map_or_else(|| Plan::of(seed), |scenario| scenario.plan(seed));
    let also = scenario.map_or(batch::DRAWN.also, |scenario| scenario.also);
    let outcome = batch::run_kind(Kind { plan: &plan, also }, seeds, || false, |_| {});
    plant(None);
    let found = outcome.failed.first().map(|failed| (failed.seed - first + 1, failed.violations[0].rule));
    Hunt { planted, found }
}

/// Hunts for one fault, or all of them, and prints the table; `false` if one was not found.
pub fn run_all(name: Option<&str>, budget: Option<u64>, first: u64, threads: usize) -> bool {
    let is_wanted =
        |planted: &&Planted| name.is_none_or(|name| format!("{:?}", planted.bug).eq_ignore_ascii_case(name));
    let wanted: Vec<Planted> = ALL.iter().filter(is_wanted).copied().collect();
    if wanted.is_empty() {
        let names: Vec<String> = ALL.iter().map(|planted| format!("{:?}", planted.bug)).collect();
        eprintln!("no such fault can be planted here: use one of {}", names.join(", "));
        return false;
    }
    println!("{:<22} {:>7} {:>9}  broken rule", "planted fault", "budget", "found at");
    let mut good = true;
    for planted in wanted {
        let planted = Planted { budget: budget.unwrap_or(planted.budget), ..planted };
        let hunt = hunt(planted, first, threads);
        good &= hunt.found.is_some();
        let bug = format!("{:?}", planted.bug);
        match hunt.found {
            Some((at, rule)) => println!("{bug:<22} {:>7} {at:>9}  {rule}", planted.budget),
            None => println!("{bug:<22} {:>7} {:>9}", planted.budget, "NOT FOUND"),
        }
    }
    good
}
