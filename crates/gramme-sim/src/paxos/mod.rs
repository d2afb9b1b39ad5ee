//! The commit of layouts alone, in a small world of its own (U12): several administrators propose at several nodes
//! while messages are lost, doubled and late, the network is cut, and nodes crash and forget what was not yet on
//! their disks. Nothing runs but [`gramme_core::paxos`]; every run then heals, and three more proposals must end.
//!
//! Versions follow one another, and each changes the members that decide on the next, so that a proposal meets
//! members that were taken in, were left out, or have not heard of the version that it follows.
//!
//! Every accepted ballot is counted beside the acceptors, and what a majority of the true members has accepted is
//! held against what anybody is told. It refuses to know layouts: what is proposed is a list of members.

mod check;
mod cli;
mod node;
mod world;

pub use cli::{PaxosArguments, run_cli};

use crate::model::Planted;
use gramme_core::planted::Bug;
use std::collections::BTreeMap;
use std::fmt;

/// What runs came across: a run in which nothing happened proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Proposals that were begun.
    pub proposals: u64,
    /// ... that were chosen.
    pub chosen: u64,
    /// ... whose proposer finished another's.
    pub another: u64,
    /// ... that came too late.
    pub settled: u64,
    /// ... that found no majority.
    pub no_quorum: u64,
    /// Times that a proposer stood back for another.
    pub stood_back: u64,
    /// Members that had to be taught the parent first.
    pub taught: u64,
    /// Crashes.
    pub crashes: u64,
    /// ... that lost something which was not yet durable.
    pub forgetful: u64,
    /// ... of a node that was proposing.
    pub mid_proposal: u64,
    /// Messages lost, by chance or by a cut.
    pub lost: u64,
    /// Messages doubled.
    pub doubled: u64,
    /// Decrees that were settled.
    pub decrees: u64,
}

impl Tally {
    fn add(&mut self, more: &Tally) {
        self.runs += more.runs;
        self.proposals += more.proposals;
        self.chosen += more.chosen;
        self.another += more.another;
        self.settled += more.settled;
        self.no_quorum += more.no_quorum;
        self.stood_back += more.stood_back;
        self.taught += more.taught;
        self.crashes += more.crashes;
        self.forgetful += more.forgetful;
        self.mid_proposal += more.mid_proposal;
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.decrees += more.decrees;
    }
}

/// The promise that a run broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// At most one proposal is chosen for a decree.
    OnePerDecree,
    /// What is chosen was proposed for that decree.
    WasProposed,
    /// A certificate names a majority of the members of the parent.
    ByMajority,
    /// What a proposer was told is so.
    Truthful,
    /// Once the network is whole and everyone is up, every proposal ends.
    Ends,
    /// ... and everyone learns of what was settled.
    SameChain,
    /// What an acceptor wrote opens.
    Opens,
}

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// What it broke.
    pub promise: Promise,
    /// Which decree and node.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { seed, promise, what } = self;
        write!(
            f,
            "{promise:?} broken: {what} (seed {seed}; again: gramme-sim paxos --runs 1 --first-seed {seed} --trace)"
        )
    }
}

impl std::error::Error for Violation {}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What those that broke nothing came across together.
    pub tally: Tally,
    /// How many broke each promise.
    pub broken: BTreeMap<Promise, u64>,
    /// The first that broke one.
    pub first: Option<Violation>,
}

impl Report {
    /// Runs that broke a promise.
    pub fn violations(&self) -> u64 {
        self.broken.values().sum()
    }
}

/// One run, with everything that happened told, for a person who looks for the cause.
pub fn trace(seed: u64, bug: Option<Bug>) -> (Result<Tally, Violation>, Vec<String>) {
    let _planted = Planted::new(bug);
    let mut told = Vec::new();
    let outcome = world::run(seed, Some(&mut told));
    (outcome, told)
}

/// Runs from `first_seed` on, one seed after the other; all of them, whatever they break.
pub fn campaign(first_seed: u64, runs: u64, bug: Option<Bug>) -> Report {
    let _planted = Planted::new(bug);
    let mut report = Report::default();
    for seed in first_seed..first_seed + runs {
        match world::run(seed, None) {
            Ok(tally) => report.tally.add(&tally),
            Err(violation) => {
                *report.broken.entry(violation.promise).or_default() += 1;
                report.first.get_or_insert(violation);
            }
        }
    }
    report
}

/// Runs until one breaks a promise, `budget` at most.
pub fn find(first_seed: u64, budget: u64, bug: Option<Bug>) -> Option<Violation> {
    let _planted = Planted::new(bug);
    (first_seed..first_seed + budget).find_map(|seed| world::run(seed, None).err())
}
