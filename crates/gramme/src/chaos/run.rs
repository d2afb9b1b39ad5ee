//! A run of rounds: clients who begin and end with each, what they were told, and the judgement, of each round when the
//! cluster has become whole and of all rounds at the end.
//!
//! Every round has keys of its own, so what an earlier one left is touched by the cluster alone.

use super::Chaos;
use super::ground::Ground;
use super::load::{Book, Keys, Rng, Told, Worker};
use super::report::{self, Round};
use super::settle;
use crate::failure::Failure;
use gramme_check::{History, Key, judge};
use gramme_client::{Client, Options};
use gramme_core::limits::REQUEST_MS;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What all rounds share.
pub(super) struct Run<'a> {
    options: &'a Chaos,
    book: Rc<Book>,
    /// What is drawn in this run.
    pub(super) rng: Rng,
    history: History,
    rounds: Vec<Round>,
}

/// The clients of a round, at work.
pub(super) struct Load {
    keys: Keys,
    book: Rc<Book>,
    running: Vec<JoinHandle<Told>>,
}

/// What they were told, and of which keys.
pub(super) struct OfRound {
    keys: Keys,
    history: History,
}

impl Run<'_> {
    pub(super) fn new(options: &Chaos) -> Run<'_> {
        Run {
            options,
            book: Book::new(),
            rng: Rng::new(options.seed),
            history: History::default(),
            rounds: Vec::new(),
        }
    }

    /// Clients of the nodes at `urls` begin.
    pub(super) fn begin(&self, urls: &[String]) -> Result<Load, Failure> {
        let keys = Keys { round: self.rounds.len() as u32, cold: self.options.cold_keys };
        self.book.set_stop(false);
        let mut running = Vec::new();
        for client in 0..self.options.clients {
            let worker = Worker::new(client, urls, keys, self.options.seed, self.book.clone())?;
            running.push(tokio::task::spawn_local(worker.work()));
        }
        Ok(Load { keys, book: self.book.clone(), running })
    }

    /// After the load: waits until the cluster has become whole by itself, and judges the round.
    pub(super) async fn settle(
        &mut self,
        ground: &mut Ground,
        mut round: Round,
        of_round: OfRound,
    ) -> Result<(), Failure> {
        let OfRound { keys, history: mut told } = of_round;
        let client = Client::without_asking(&ground.urls(), Options::default())?;
        let all: Vec<Key> = keys.all().collect();
        // The keys of earlier rounds too: nobody has touched them since, so only the cluster itself can mend them.
        let ever: Vec<Key> = self.history.left.keys().copied().chain(all.iter().copied()).collect();
        let within = Duration::from_secs(self.options.settle_secs);
        round.settled(&settle::settle(ground, &client, &ever, within).await);
        told.left = settle::read_all(&client, &all).await?;
        round.violations = judge(&told, GRACE_US);
        round.died =
            ground.dead().into_iter().map(|(node, words)| format!("node {node} died: {words}")).collect();
        self.history.writes.extend(told.writes);
        self.history.reads.extend(told.reads);
        self.history.left.extend(told.left);
        self.rounds.push(round);
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        if let Some(round) = self.rounds.last().filter(|_| !self.options.json) {
            let verdict = if round.is_kept() { "kept" } else { "BROKEN" };
            eprintln!("round {}: {}: {verdict}", self.rounds.len(), round.what);
        }
    }

    /// What came back late is seen now: the keys of every round once more. Says whether every promise was kept.
    pub(super) async fn end(mut self, ground: &Ground) -> Result<bool, Failure> {
        let client = Client::without_asking(&ground.urls(), Options::default())?;
        let keys: Vec<Key> = self.history.left.keys().copied().collect();
        self.history.left = settle::read_all(&client, &keys).await?;
        let last = judge(&self.history, GRACE_US);
        report::print(&self.rounds, last, self.options.json)
    }
}

impl Load {
    /// They end after their request; what each was told is added to the round.
    pub(super) async fn end(self, round: &mut Round) -> Result<OfRound, Failure> {
        self.book.set_stop(true);
        let mut history = History::default();
        for worker in self.running {
            let told =
                worker.await.map_err(|e| Failure::failed(format!("a client of the run broke: {e}")))?;
            round.add(&told);
            history.writes.extend(told.writes);
            history.reads.extend(told.reads);
        }
        Ok(OfRound { keys: self.keys, history })
    }
}

/// Servers finish what they have begun until its deadline.
const GRACE_US: u64 = 2 * REQUEST_MS * 1000;
