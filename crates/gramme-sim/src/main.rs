//! The simulator's command line. How to use it: `docs/simulator.md`.

mod tripwire;

use clap::{Args, Parser, Subcommand};
use gramme_sim::batch::{self, Failed, Kind, Outcome, Seeds};
use gramme_sim::course::Facts;
use gramme_sim::evidence::{Evidence, Violation};
use gramme_sim::knobs::Reclaim;
use gramme_sim::log::Trace;
use gramme_sim::regression::{self, Regression};
use gramme_sim::run::Plan;
use gramme_sim::scenarios::{self, Scenario};
use gramme_sim::{meta, placement, shrink};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs the real node code in a simulated world, seed by seed.
#[derive(Parser)]
#[command(name = "gramme-sim", version, after_help = "Example: gramme-sim run --seeds 10000 --threads 2")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds.
    Run(Run),
    /// Run one seed and say everything about it.
    One {
        /// Which.
        #[arg(long)]
        seed: u64,
        /// Of which scenario; of the ordinary runs if none is named.
        #[arg(long)]
        scenario: Option<String>,
        /// Whether tombstones go.
        #[arg(long, value_enum, default_value_t)]
        reclaim: Reclaim,
        /// Print what happens as it happens.
        #[arg(long)]
        log: bool,
    },
    /// Run scenarios by id, each with its own faults and demands.
    Scenario {
        /// Which: an id such as D5, or `all`; without one they are listed.
        id: Option<String>,
        /// How many seeds of each.
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Whether tombstones go.
        #[arg(long, value_enum, default_value_t)]
        reclaim: Reclaim,
    },
    /// Check that runs repeat: twice in this process, once in a child.
    Meta {
        /// How many seeds.
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
    /// Print the hash of one seed's run.
    Digest {
        /// Which.
        seed: u64,
    },
    /// Make a failing plan small, and keep it.
    Shrink {
        /// The seed that fails.
        #[arg(long, conflicts_with = "file")]
        seed: Option<u64>,
        /// Of which scenario; of the ordinary runs if none is named.
        #[arg(long, requires = "seed")]
        scenario: Option<String>,
        /// Whether tombstones go.
        #[arg(long, value_enum, default_value_t, requires = "seed")]
        reclaim: Reclaim,
        /// Or the plan that fails.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Runs that it may take.
        #[arg(long, default_value_t = 2000)]
        budget: u64,
        /// Where to write it.
        #[arg(long)]
        keep: Option<PathBuf>,
        /// What went wrong, in one sentence.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Run kept plans.
    Replay {
        /// Which; all of the crate's own if none is named.
        files: Vec<PathBuf>,
        /// Under how many orders of polls.
        #[arg(long, default_value_t = 50)]
        orders: u64,
        /// Print what happens as it happens, in the first order.
        #[arg(long)]
        log: bool,
    },
    /// Walk the versioning rules at random over the production functions.
    Walk(gramme_sim::model::WalkArguments),
    /// Commit layouts alone: rival proposals, lost messages, crashes.
    Paxos(gramme_sim::paxos::PaxosArguments),
    /// Figure 8 of the paper again: how evenly three ways of placing keys load nodes, and how Gramme does.
    Placement {
        /// Runs of each point; a quarter of them from 4,000 units on.
        #[arg(long, default_value_t = 200)]
        runs: usize,
        /// The seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Say it as one JSON object.
        #[arg(long)]
        json: bool,
        /// Draw it as well, as SVG, into this file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Measure gossip: how fast a change is known everywhere, what it costs when quiet.
    Gossip(gramme_sim::gossip::GossipArguments),
    /// Plant each deliberate fault in turn: every one must be found within its budget.
    #[cfg(feature = "planted")]
    Planted {
        /// Only this one.
        #[arg(long)]
        bug: Option<String>,
        /// Seeds for each, in place of its own budget.
        #[arg(long)]
        budget: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
}

#[derive(Args)]
struct Run {
    /// How many seeds at most; 1000 if neither this nor a time is given.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Whether tombstones go.
    #[arg(long, value_enum, default_value_t)]
    reclaim: Reclaim,
    /// Say the result as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    tripwire::lay();
    let good = match Cli::parse().command {
        Command::Run(run) => run_many(&run),
        Command::One { seed, scenario, reclaim, log } => match plan_of(scenario.as_deref(), seed, reclaim) {
            Some((plan, also)) => run_one(&plan, also, log),
            None => false,
        },
        Command::Scenario { id, seeds, first, threads, reclaim } => run_scenarios(
            id.as_deref(),
            Seeds { first, count: seeds, threads, until_failure: false },
            reclaim,
        ),
        Command::Meta { seeds, first } => check_determinism(first, seeds),
        Command::Digest { seed } => {
            let digest = meta::digest(seed);
            println!("{}", digest.as_ref().map_or_else(String::clone, |digest| format!("{digest:x}")));
            digest.is_ok()
        }
        Command::Shrink { seed, scenario, reclaim, file, budget, keep, note } => {
            let plan = match file.as_deref().map(Regression::read) {
                Some(Ok(regression)) => Some(regression.plan),
                Some(Err(error)) => {
                    eprintln!("{error}");
                    None
                }
                None => {
                    let plan = plan_of(scenario.as_deref(), seed.unwrap_or_default(), reclaim);
                    plan.map(|(plan, _)| plan)
                }
            };
            plan.is_some_and(|plan| shrink_one(&plan, budget, keep, note))
        }
        Command::Replay { files, orders, log } => replay(files, orders, log),
        Command::Walk(arguments) => return gramme_sim::model::run_cli(&arguments),
        Command::Gossip(arguments) => return gramme_sim::gossip::run_cli(&arguments),
        Command::Paxos(arguments) => return gramme_sim::paxos::run_cli(&arguments),
        Command::Placement { runs, first, json, out } => {
            show_placement(&placement::figure(first, runs), json, out.as_deref())
        }
        #[cfg(feature = "planted")]
        Command::Planted { bug, budget, first, threads } => {
            gramme_sim::planted::run_all(bug.as_deref(), budget, first, threads)
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says how the points lie to the paper's figure; good if all its strategies come out as there.
fn show_placement(points: &[placement::Point], json: bool, out: Option<&Path>) -> bool {
    if json {
        println!("{}", placement::as_json(points));
    } else {
        print!("{}", placement::table(points));
    }
    if let Some(path) = out
        && let Err(error) = std::fs::write(path, placement::svg(points))
    {
        eprintln!("{} cannot be written: {error}", path.display());
        return false;
    }
    let off = placement::off(points);
    for (strategy, metadata) in &off {
        let tolerance = placement::TOLERANCE;
        eprintln!("strategy {strategy} at {metadata} is more than {tolerance} off the paper's figure");
    }
    off.is_empty()
}

fn run_many(run: &Run) -> bool {
    #[allow(clippy::disallowed_methods, reason = "the rate of runs is real time, outside every world")]
    let began = Instant::now();
    let limit = run.seconds.map(Duration::from_secs);
    let unbounded = if run.seconds.is_some() { u64::MAX } else { 1000 };
    let count = run.seeds.unwrap_or(unbounded);
    let seeds = Seeds { first: run.first, count, threads: run.threads, until_failure: false };
    let stop = || limit.is_some_and(|limit| began.elapsed() >= limit);
    let told = AtomicUsize::new(0);
    let progress = |so_far: &Outcome| {
        let (runs, failed) = (so_far.runs, so_far.failed.len());
        if run.json {
            return;
        }
        // A failure is worth looking at before the batch is through.
        if told.swap(failed, Ordering::Relaxed) < failed
            && let Some(Failed { seed, violations }) = so_far.failed.last()
        {
            eprintln!("\rseed {seed}: {}: {}", violations[0].rule, violations[0].text);
        }
        if runs.is_multiple_of(200) {
            eprint!("\r{runs} runs, {failed} failed ");
        }
    };
    let plan = |seed| Plan::with(seed, run.reclaim);
    let mut outcome = batch::run_kind(Kind { plan: &plan, ..batch::DRAWN }, seeds, stop, progress);
    outcome.reclaim = run.reclaim;
    let wall = began.elapsed().as_secs_f64() * run.threads as f64;
    let cpu_minutes = cpu_seconds().unwrap_or(wall).max(1e-3) / 60.0;
    let rate = outcome.runs as f64 / cpu_minutes;
    let (asked, answered) = outcome.operations;
    if run.json {
        let failed: Vec<_> = outcome
            .failed
            .iter()
            .map(|failed| {
                let violations: Vec<_> =
                    failed.violations.iter().map(|v| json!({"rule": v.rule, "text": v.text})).collect();
                json!({"seed": failed.seed, "violations": violations})
            })
            .collect();
        let text = json!({
            "runs": outcome.runs, "failed": failed, "vacuous": outcome.vacuous.len(), "runs_per_cpu_minute": rate as u64,
            "operations": asked, "answered": answered, "polls_most": outcome.most.0, "events_most": outcome.most.1,
            "missing": outcome.missing(), "counts": outcome.counts, "good": outcome.is_good(),
        });
        println!("{text}");
        return outcome.is_good();
    }
    eprint!("\r");
    println!(
        "{} runs, {} failed, {} prove too little; {rate:.0} runs per minute of CPU",
        outcome.runs,
        outcome.failed.len(),
        outcome.vacuous.len()
    );
    println!(
        "{asked} operations, {:.1} % answered as asked; at most {} polls and {} events in one run",
        answered as f64 * 100.0 / (asked as f64).max(1.0),
        outcome.most.0,
        outcome.most.1
    );
    for (what, count) in &outcome.counts {
        println!("  {count:>12} {what}");
    }
    for what in outcome.missing() {
        println!("never seen: {what}");
    }
    if outcome.is_vacuous() {
        for (seed, why) in outcome.vacuous.iter().take(10) {
            println!("seed {seed} proves too little: {why}");
        }
    }
    for failed in outcome.failed.iter().take(20) {
        for violation in failed.violations.iter().take(3) {
            println!("seed {}: {}: {}", failed.seed, violation.rule, violation.text);
        }
        println!("  options: {}", serde_json::to_string(&plan(failed.seed).knobs).unwrap_or_default());
        println!("  again: {AGAIN} --seed {}{} --log", failed.seed, forced(run.reclaim));
    }
    outcome.is_good()
}

/// The option that makes the same plan again.
fn forced(reclaim: Reclaim) -> &'static str {
    match reclaim {
        Reclaim::On => " --reclaim on",
        Reclaim::Off => " --reclaim off",
        Reclaim::Drawn => "",
    }
}

/// How one run is run again.
const AGAIN: &str = "cargo run -p gramme-sim --release -- one";

/// What this process has used of the CPU, where the system says so.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // User and system time are fields 14 and 15; the name, field 2, may hold spaces and ends with the last ')'.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Linux counts CPU time for user space in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The plan of a seed, and what is asked of it beyond the rules; says so if there is no such scenario.
fn plan_of(scenario: Option<&str>, seed: u64, reclaim: Reclaim) -> Option<(Plan, Also)> {
    let Some(id) = scenario else { return Some((Plan::with(seed, reclaim), batch::DRAWN.also)) };
    match Scenario::of(id) {
        Some(scenario) => Some((scenario.plan_with(seed, reclaim), scenario.also)),
        None => {
            eprintln!("there is no scenario {id}: `gramme-sim scenario` lists them");
            None
        }
    }
}

fn run_scenarios(id: Option<&str>, seeds: Seeds, reclaim: Reclaim) -> bool {
    let Some(id) = id else {
        scenarios::ALL.iter().for_each(|scenario| println!("{:<10} {}", scenario.id, scenario.about));
        return true;
    };
    let wanted: Vec<Scenario> = match id {
        "all" => scenarios::ALL.to_vec(),
        id => Scenario::of(id).into_iter().collect(),
    };
    if wanted.is_empty() {
        eprintln!("there is no scenario {id}: `gramme-sim scenario` lists them");
    }
    wanted.iter().fold(!wanted.is_empty(), |good, scenario| run_scenario(scenario, seeds, reclaim) && good)
}

fn run_scenario(scenario: &Scenario, seeds: Seeds, reclaim: Reclaim) -> bool {
    let plan = |seed| scenario.plan_with(seed, reclaim);
    let kind = Kind { plan: &plan, also: scenario.also };
    let outcome = batch::run_kind(kind, seeds, || false, |_| {});
    let unseen: Vec<&str> =
        scenario.must.iter().copied().filter(|what| !outcome.counts.contains_key(what)).collect();
    let unseen = if outcome.runs < scenarios::BATCH { Vec::new() } else { unseen };
    let (asked, answered) = outcome.operations;
    println!(
        "{:<10} {} runs, {} failed, {} prove too little, {:.1} % answered, converged in {} ms at most, {} events at most",
        scenario.id,
        outcome.runs,
        outcome.failed.len(),
        outcome.vacuous.len(),
        answered as f64 * 100.0 / (asked as f64).max(1.0),
        outcome.slowest_ms,
        outcome.most.1
    );
    unseen.iter().for_each(|what| println!("  never seen: {what}"));
    for failed in outcome.failed.iter().take(3) {
        let violation = &failed.violations[0];
        println!("  seed {}: {}: {}", failed.seed, violation.rule, violation.text);
        let (id, seed) = (scenario.id, failed.seed);
        println!("  again: {AGAIN} --scenario {id} --seed {seed}{} --log", forced(reclaim));
    }
    outcome.failed.is_empty() && !outcome.is_vacuous() && unseen.is_empty()
}

/// What is asked of a run beyond the rules.
type Also = fn(&Evidence, &Facts) -> Vec<Violation>;

fn run_one(plan: &Plan, also: Also, log: bool) -> bool {
    println!("{}", serde_json::to_string(&plan.knobs).unwrap_or_default());
    for timed in &plan.faults {
        println!("{:>7} ms {:?}", timed.at_ms, timed.fault);
    }
    let trace = if log { Trace::Print } else { Trace::Off };
    let verdict = batch::one_and(plan, trace, also);
    let (asked, answered) = verdict.operations;
    println!(
        "{answered} of {asked} operations answered as asked; {} polls, {} events; hash {:x}",
        verdict.polls, verdict.events, verdict.digest
    );
    for (what, count) in &verdict.counts {
        println!("  {count:>8} {what}");
    }
    if let Some(why) = &verdict.vacuous {
        println!("proves too little: {why}");
    }
    verdict.story.iter().for_each(|line| println!("{line}"));
    for violation in &verdict.violations {
        println!("{}: {}", violation.rule, violation.text);
    }
    verdict.violations.is_empty()
}

fn check_determinism(first: u64, seeds: u64) -> bool {
    let program = std::env::current_exe().ok();
    let differences = meta::check(first..first + seeds, program.as_deref());
    for difference in &differences {
        println!("{difference}");
    }
    println!("{seeds} seeds, each twice here and once in a child: {} differences", differences.len());
    differences.is_empty()
}

fn shrink_one(plan: &Plan, budget: u64, keep: Option<PathBuf>, note: String) -> bool {
    let say = |plan: &Plan, runs: u64| {
        let steps: usize = plan.clients.iter().map(Vec::len).sum();
        eprintln!("{runs} runs: {} faults, {steps} steps", plan.faults.len());
    };
    let Some(shrunk) = shrink::shrink(plan, budget, say) else {
        println!("this plan breaks no rule");
        return false;
    };
    println!("{}: {}", shrunk.rule, shrunk.text);
    for timed in &shrunk.plan.faults {
        println!("{:>7} ms {:?}", timed.at_ms, timed.fault);
    }
    for (client, steps) in shrunk.plan.clients.iter().enumerate() {
        steps.iter().for_each(|step| println!("client {client}: {step:?}"));
    }
    let Some(directory) = keep else { return true };
    let commit = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    let regression =
        Regression { note, expect: shrunk.rule, commit: commit.unwrap_or_default(), plan: shrunk.plan };
    match regression.write(&directory) {
        Ok(path) => println!("kept as {}", path.display()),
        Err(error) => eprintln!("{error}"),
    }
    true
}

fn replay(files: Vec<PathBuf>, orders: u64, log: bool) -> bool {
    let kept = if files.is_empty() {
        regression::all(&regression::directory())
    } else {
        files.iter().map(|path| Regression::read(path).map(|kept| (path.clone(), kept))).collect()
    };
    let kept = match kept {
        Ok(kept) => kept,
        Err(error) => {
            eprintln!("{error}");
            return false;
        }
    };
    let mut good = true;
    for (path, regression) in kept {
        if log {
            good &= run_one(&regression.plan, batch::DRAWN.also, true);
            continue;
        }
        match regression.replay(orders) {
            None => println!("{}: holds under {orders} orders", path.display()),
            Some((order, violation)) => {
                good = false;
                println!("{}, order {order}: {}: {}", path.display(), violation.rule, violation.text);
            }
        }
    }
    good
}
