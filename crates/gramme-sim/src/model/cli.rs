//! `gramme-sim walk`: campaigns from the command line.

use super::{Options, Report, campaign, trace};
use clap::Args;
use gramme_core::planted::{ALL, Bug};
use std::process::ExitCode;

/// Random walks of the versioning rules over the production functions.
///
/// Example: gramme-sim walk --runs 100000 --steps 160
#[derive(Args, Clone, Debug)]
pub struct WalkArguments {
    /// How many walks.
    #[arg(long, default_value_t = 20_000)]
    pub runs: u64,
    /// Steps of each.
    #[arg(long, default_value_t = 160)]
    pub steps: usize,
    /// The seed of the first; the others follow it.
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// One home loses a key without noticing.
    #[arg(long)]
    pub silent: bool,
    /// A deliberate fault, such as LowZero; needs a build with the feature `planted`.
    #[arg(long)]
    pub bug: Option<String>,
    /// Tells every step; meant for one run.
    #[arg(long)]
    pub trace: bool,
}

/// Runs the command, prints one line, and fails if a walk broke a promise, or if it was to find a planted
/// fault and did not.
pub fn run_cli(arguments: &WalkArguments) -> ExitCode {
    let bug = match arguments.bug.as_deref().map(bug_named).transpose() {
        Ok(bug) => bug,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    let options = Options { silent_loss: arguments.silent, bug };
    if arguments.trace {
        let (outcome, told) = trace(arguments.first_seed, arguments.steps, options);
        told.iter().for_each(|line| println!("{line}"));
        println!("{outcome:?}");
    }
    let report = campaign(arguments.first_seed, arguments.runs, arguments.steps, options);
    println!("{}", summary(arguments, &report));
    if let Some(first) = &report.first {
        println!("first: {first}");
    }
    if let Some(seed) = report.tripped.filter(|_| !arguments.silent) {
        println!("a tripwire rang without a silent loss: first in seed {seed}");
    }
    let as_wanted = (report.violations() > 0) == bug.is_some();
    if as_wanted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The planted fault of this name, where one can be planted.
pub(crate) fn bug_named(name: &str) -> Result<Bug, String> {
    let bug = ALL.iter().copied().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name));
    match bug {
        Some(_) if !cfg!(feature = "planted") => {
            Err(format!("{name} can only be planted in a build with `--features planted`"))
        }
        Some(bug) => Ok(bug),
        None => Err(format!("there is no planted fault called {name}: use one of {ALL:?}")),
    }
}

fn summary(arguments: &WalkArguments, report: &Report) -> String {
    format!(
        "{} walks of {} steps: {} violations {:?}; {:?}",
        arguments.runs,
        arguments.steps,
        report.violations(),
        report.broken,
        report.tally
    )
}
