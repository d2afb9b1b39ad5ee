//! `gramme-sim paxos`: campaigns from the command line.

use super::{Report, campaign, trace};
use crate::model::bug_named;
use clap::Args;
use std::process::ExitCode;

/// Many administrators, few members and every fault: the commit of layouts alone.
///
/// Example: gramme-sim paxos --runs 20000
#[derive(Args, Clone, Debug)]
pub struct PaxosArguments {
    /// How many runs.
    #[arg(long, default_value_t = 5_000)]
    pub runs: u64,
    /// The seed of the first; the others follow it.
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// A deliberate fault, such as PromiseForgotten; needs a build with the feature `planted`.
    #[arg(long)]
    pub bug: Option<String>,
    /// Tells everything that happens; meant for one run.
    #[arg(long)]
    pub trace: bool,
}

/// Runs the command, prints one line, and fails if a run broke a promise, or if it was to find a planted fault and
/// did not.
pub fn run_cli(arguments: &PaxosArguments) -> ExitCode {
    let bug = match arguments.bug.as_deref().map(bug_named).transpose() {
        Ok(bug) => bug,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    if arguments.trace {
        let (outcome, told) = trace(arguments.first_seed, bug);
        told.iter().for_each(|line| println!("{line}"));
        println!("{outcome:?}");
    }
    let report = campaign(arguments.first_seed, arguments.runs, bug);
    let Report { tally, broken, first } = &report;
    println!("{} runs: {} violations {broken:?}; {tally:?}", arguments.runs, report.violations());
    if let Some(first) = first {
        println!("first: {first}");
    }
    let as_wanted = (report.violations() > 0) == bug.is_some();
    if as_wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
