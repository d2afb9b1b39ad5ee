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
mod settle;

use crate::failure::Failure;
use crate::nodes::runtime;
use clap::{Args, ValueEnum};
use faults::{Fault, Times};
use gramme_check::{History, Key, judge};
use gramme_client::{Client, Options};
use gramme_core::limits::REQUEST_MS;
use ground::Ground;
use load::{Book, Keys, Rng, Worker};
use report::Round;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme chaos                                    five nodes, ten rounds of every fault\n  gramme chaos --faults stop --stop-secs 15 --rounds 5\n  gramme chaos --faults wipe,old-copy --copy-age-secs 600 --json\n  gramme chaos --keep-tombstones --stop-secs 15\n  gramme chaos --scenario catch-up --writes 100000\n  gramme chaos --scenario deletes\n\nExits with 1 if a promise was broken; the directory with all logs is then kept."
)]
pub(crate) struct Chaos {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=9))]
    nodes: u16,
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
    /// How long a cluster may take to become whole after a round, in seconds
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
        let mut ground = Ground::start(
            dir,
            self.nodes.into(),
            !self.keep_tombstones || self.scenario == Some(Scenario::Deletes),
        )
        .await?;
        if let Some(scenario) = self.scenario {
            let within = Duration::from_secs(self.settle_secs);
            let kept = match scenario {
                Scenario::CatchUp => {
                    let writes = self.writes.unwrap_or(CATCH_UP_WRITES);
                    catch_up::catch_up(&mut ground, writes, within, self.json).await
                }
                Scenario::Deletes => {
                    let writes = self.writes.unwrap_or(DELETES);
                    deletes::deletes(&mut ground, writes, within, self.json).await
                }
            };
            ground.stop().await;
            return kept;
        }
        let client = Client::without_asking(&ground.urls(), Options::default())?;
        let book = Book::new();
        let mut rng = Rng::new(self.seed);
        let mut history = History::default();
        let mut rounds = Vec::new();
        for number in 0..self.rounds {
            let fault = self.faults[usize::from(number) % self.faults.len()];
            let round =
                self.round(&mut ground, &client, &book, number.into(), fault, &mut rng, &mut history).await?;
            if !self.json {
                eprintln!(
                    "round {} of {}: {}: {}",
                    number + 1,
                    self.rounds,
                    round.what,
                    if round.is_kept() { "kept" } else { "BROKEN" }
                );
            }
            rounds.push(round);
        }
        // What came back late is seen now: the keys of every round once more.
        let keys: Vec<Key> = history.left.keys().copied().collect();
        history.left = settle::read_all(&client, &keys).await?;
        let last = judge(&history, GRACE_US);
        ground.stop().await;
        report::print(&rounds, last, self.json)
    }

    #[allow(clippy::too_many_arguments, reason = "a round touches everything that a run has")]
    async fn round(
        &self,
        ground: &mut Ground,
        client: &Client,
        book: &Rc<Book>,
        number: u32,
        fault: Fault,
        rng: &mut Rng,
        history: &mut History,
    ) -> Result<Round, Failure> {
        let times = self.times();
        let mut plan = faults::draw(fault, ground.nodes(), rng);
        let mut round = Round { what: plan.what.clone(), fault: fault.as_str(), ..Round::default() };
        plan.prepare(ground).await?;
        let keys = Keys { round: number, cold: self.cold_keys };
        book.set_stop(false);
        let mut running = Vec::new();
        for client in 0..self.clients {
            let worker = Worker::new(client, &ground.urls(), keys, self.seed, book.clone())?;
            running.push(tokio::task::spawn_local(worker.work()));
        }
        let quarter = Duration::from_secs(self.round_secs) / 4;
        sleep(plan.lead(quarter, &times)).await;
        let started = plan.inflict(ground, &times).await;
        sleep(quarter).await;
        book.set_stop(true);
        let mut of_round = History::default();
        for worker in running {
            let told =
                worker.await.map_err(|e| Failure::failed(format!("a client of the run broke: {e}")))?;
            round.add(&told);
            of_round.writes.extend(told.writes);
            of_round.reads.extend(told.reads);
        }
        round.started_in = started?;
        let all: Vec<Key> = keys.all().collect();
        // The keys of earlier rounds too: nobody has touched them since, so only the cluster itself can mend them.
        let ever: Vec<Key> = history.left.keys().copied().chain(all.iter().copied()).collect();
        let settled = settle::settle(ground, client, &ever, Duration::from_secs(self.settle_secs)).await;
        round.settled(&settled);
        of_round.left = settle::read_all(client, &all).await?;
        round.violations = judge(&of_round, GRACE_US);
        round.died =
            ground.dead().into_iter().map(|(node, words)| format!("node {node} died: {words}")).collect();
        history.writes.extend(of_round.writes);
        history.reads.extend(of_round.reads);
        history.left.extend(of_round.left);
        Ok(round)
    }

    fn times(&self) -> Times {
        Times {
            hold: Duration::from_secs(self.round_secs) / 2,
            stop: Duration::from_secs(self.stop_secs),
            copy_age: Duration::from_secs(self.copy_age_secs),
        }
    }
}

const CATCH_UP_WRITES: u32 = 100_000;
const DELETES: u32 = 10_000;
/// Servers finish what they have begun until its deadline.
const GRACE_US: u64 = 2 * REQUEST_MS * 1000;
