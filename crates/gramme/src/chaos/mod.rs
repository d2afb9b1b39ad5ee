//! `gramme chaos`: a cluster of real processes is broken on purpose, one fault at a time, while clients go on; then
//! what they were told is judged. The same checkers judge every history (`gramme-check`), and a broken promise is a
//! failed command.
//!
//! A round: load, a fault in its middle, the fault undone, load, silence. The cluster is then given time to become
//! whole by itself; what each home holds is compared before anything is read, since reads repair. At the end of the
//! run the keys of all rounds are judged once more.
//!
//! It refuses to know how nodes do what they do: it speaks to their doors, their processes, directories and links.

mod catch_up;
mod deletes;
mod faults;
mod foreground;
mod ground;
mod load;
mod proxy;
mod report;
mod ring;
mod run;
mod settle;

use crate::failure::Failure;
use crate::nodes::runtime;
use clap::{Args, ValueEnum};
use faults::{Fault, Times};
use ground::Ground;
use report::Round;
use run::Run;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme chaos                                    five nodes, ten rounds of every fault\n  gramme chaos --faults stop --stop-secs 15 --rounds 5\n  gramme chaos --faults wipe,old-copy --copy-age-secs 600 --json\n  gramme chaos --keep-tombstones --stop-secs 15\n  gramme chaos --scenario catch-up --writes 100000\n  gramme chaos --scenario deletes\n  gramme chaos --scenario ring\n\nExits with 1 if a promise was broken; the directory with all logs is then kept."
)]
pub(crate) struct Chaos {
    /// How many nodes there are at first [default: 5, 3 for ring]
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=9))]
    nodes: Option<u16>,
    /// How many rounds; the faults take turns
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
    /// Instead of rounds, one story with figures
    #[arg(long)]
    scenario: Option<Scenario>,
    /// How many writes or deletes the scenario has [default: 100000, 10000 for deletes]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    writes: Option<u32>,
    /// What is drawn follows from it; how processes run does not
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Which faults
    #[arg(long, value_delimiter = ',', default_values = ["kill", "stop", "cut", "wipe", "old-copy"])]
    faults: Vec<Fault>,
    /// How long a round's load lasts, in seconds, the time of a fault in its middle included
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3600))]
    round_secs: u64,
    /// How long a node is frozen, in seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stop_secs: u64,
    /// How old a copied directory is when it comes back, in seconds
    #[arg(long, default_value_t = 30)]
    copy_age_secs: u64,
    /// How long a cluster may take to become whole after a round, or to change its ring, in seconds
    #[arg(long, default_value_t = 60)]
    settle_secs: u64,
    /// Let all nodes keep tombstones for ever (`storage.reclaim = false`)
    #[arg(long)]
    keep_tombstones: bool,
    /// How many clients write at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// How many cold keys each round has, besides a dozen hot ones
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cold_keys: u32,
    /// Where the cluster lives; a new directory that is removed if every promise was kept, if not said
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// What is run instead of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A node that was down for many writes comes back and has them all soon
    CatchUp,
    /// Tombstones go, stay while a home is down, and go when it is back
    Deletes,
    /// Three nodes come, then as many go, while a node is killed in the middle of each transfer
    Ring,
}

impl Chaos {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("gramme-chaos-{}", std::process::id())),
        };
        let kept = runtime()?.block_on(LocalSet::new().run_until(self.rounds(&dir)));
        if matches!(kept, Ok(true)) {
            if self.dir.is_none() {
                ground::remove_dir(&dir)?;
            }
            return Ok(());
        }
        let logs = format!("the nodes' logs are in {}", dir.display());
        match kept {
            Err(failure) => Err(Failure::failed(format!("{}; {logs}", failure.sentence()))),
            Ok(_) => Err(Failure::failed(format!("a promise was broken (seed {}); {logs}", self.seed))),
        }
    }

    async fn rounds(&self, dir: &Path) -> Result<bool, Failure> {
        let later = if self.scenario == Some(Scenario::Ring) { ring::COME } else { 0 };
        let keeps = self.keep_tombstones && self.scenario != Some(Scenario::Deletes);
        let mut ground = Ground::start(dir, self.members().into(), later, !keeps).await?;
        let within = Duration::from_secs(self.settle_secs);
        let kept = match self.scenario {
            Some(Scenario::CatchUp) => {
                let writes = self.writes.unwrap_or(CATCH_UP_WRITES);
                catch_up::catch_up(&mut ground, writes, within, self.json).await
            }
            Some(Scenario::Deletes) => {
                let writes = self.writes.unwrap_or(DELETES);
                deletes::deletes(&mut ground, writes, within, self.json).await
            }
            Some(Scenario::Ring) => ring::ring(&mut ground, self).await,
            None => self.faults(&mut ground).await,
        };
        ground.stop().await;
        kept
    }

    async fn faults(&self, ground: &mut Ground) -> Result<bool, Failure> {
        let mut run = Run::new(self);
        let times = self.times();
        for number in 0..self.rounds {
            let fault = self.faults[usize::from(number) % self.faults.len()];
            let mut plan = faults::draw(fault, ground.there().len(), &mut run.rng);
            let mut round = Round { what: plan.what.clone(), fault: fault.as_str(), ..Round::default() };
            plan.prepare(ground).await?;
            let load = run.begin(&ground.urls())?;
            sleep(plan.lead(self.quarter(), &times)).await;
            let started = plan.inflict(ground, &times).await;
            sleep(self.quarter()).await;
            let of_round = load.end(&mut round).await?;
            round.started_in = started?;
            run.settle(ground, round, of_round).await?;
        }
        run.end(ground).await
    }

    /// How many nodes a run begins with.
    fn members(&self) -> u16 {
        let usual = if self.scenario == Some(Scenario::Ring) { ring::MEMBERS } else { NODES };
        self.nodes.unwrap_or(usual)
    }

    /// Of the time for which the load of a round lasts.
    fn quarter(&self) -> Duration {
        Duration::from_secs(self.round_secs) / 4
    }

    fn times(&self) -> Times {
        Times {
            hold: Duration::from_secs(self.round_secs) / 2,
            stop: Duration::from_secs(self.stop_secs),
            copy_age: Duration::from_secs(self.copy_age_secs),
        }
    }
}

const NODES: u16 = 5;
const CATCH_UP_WRITES: u32 = 100_000;
const DELETES: u32 = 10_000;
