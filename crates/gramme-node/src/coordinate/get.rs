//! One get: ask the R best replicas, join what they hold, answer; then go on until the last answer or the
//! deadline, and send every replica that was found stale what it lacks (the paper, 4.5 and 5; EX-7, EX-10).
//!
//! "Not found" needs the answer of at least one continuous home: a store that was lost, or that only stands
//! in, proves nothing by its silence. So does a read with a token where tombstones are reclaimed: no home that
//! counts shows what has been reclaimed, and what a fallback shows of it is left out beside a home's answer. A read
//! without one may be answered by fallbacks alone, and is then as stale as their hints.

use crate::coordinate::choose::readers;
use crate::coordinate::explain::Explain;
use crate::coordinate::repair::repair;
use crate::coordinate::{OVERDUE, acks};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::live::Live;
use crate::node::Node;
use crate::probe::{Operation, Probe};
use crate::request::{Get, Got, Health};
use crate::serve;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::HEDGE_PERCENT_MAX;
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{self, Reply};
use gramme_core::{Context, Frontier, Key, NodeId, PartitionId, Quorum, Record, Verdict};
use gramme_wire::{Body, Failure, Reason, Standing};
use std::collections::VecDeque;
use std::rc::Rc;

/// See the module.
pub(crate) async fn get<E: Env>(node: &Node<E>, get: Get, deadline: Mono) -> Result<Got, Failure> {
    let began = node.0.env.now();
    let settings = node.settings(get.key.bucket());
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    let n = node.live().reads().n();
    let need = get.r.unwrap_or(settings.r).resolve(n).map_err(|e| invalid(format!("r: {e}")))?;
    if get.pr as usize > n {
        return Err(invalid(format!("pr is {}, but this cluster keeps N={n} copies", get.pr)));
    }
    let need = if planted::on(Bug::ReadOne) { 1 } else { need };
    let mut reading = Reading::new(node, get, need, deadline);
    let result = reading.until_answered().await;
    let took = node.0.env.now().since(began);
    node.coordinated(Operation::Get, took, result.is_ok());
    let answer = result.map(|fastest| Got {
        context: Context::of(&reading.merged, fastest),
        record: reading.merged.clone(),
        mode: settings.mode,
        now_ms: node.reading_ms(),
        acks: acks(&reading.quorum),
        explain: reading.explain.take(),
    });
    reading.go_on_behind();
    answer
}

/// Reads at R and joins what was found into the local store, so that a retry finds its first attempt there.
pub(crate) async fn read_at_r<E: Env>(node: &Node<E>, key: &Key, deadline: Mono) -> Result<Got, Failure> {
    let get = Get { key: key.clone(), r: None, pr: 0, min: None, explain: false };
    self::get(node, get, deadline).await
}

struct Reading<E: Env> {
    node: Node<E>,
    live: Rc<Live>,
    key: Key,
    partition: PartitionId,
    min: Option<Context>,
    merged: Record,
    /// Who has answered, and what each holds.
    held: Vec<Held>,
    quorum: Quorum,
    continuous: bool,
    /// Whether the only home said that it cannot read what it has.
    damaged: bool,
    fastest: Option<NodeId>,
    not_asked: VecDeque<NodeId>,
    gather: Gather<E>,
    asked_peers: usize,
    hedge_at: Mono,
    /// When the patience for the first of them is over, and it is looked for signs of life.
    listen_at: Mono,
    /// When the place of a replica that has not answered is taken.
    overdue_at: Mono,
    explain: Explain<E>,
}

impl<E: Env> Reading<E> {
    fn new(node: &Node<E>, get: Get, need: usize, deadline: Mono) -> Reading<E> {
        let partition = node.partition_of(&get.key);
        let gather = node.0.routes.open(partition, deadline);
        gather.heed_silence(true);
        Reading {
            not_asked: readers(node, partition),
            gather,
            quorum: Quorum::new(need, get.pr as usize),
            explain: Explain::new(node, get.explain),
            node: node.clone(),
            live: node.live(),
            key: get.key,
            partition,
            min: get.min,
            merged: Record::new(),
            held: Vec::new(),
            continuous: false,
            damaged: false,
            fastest: None,
            asked_peers: 0,
            hedge_at: deadline,
            listen_at: deadline,
            overdue_at: node.0.env.now() + OVERDUE,
        }
    }

    /// Resolves with the replica that answered first, once the answers are enough.
    async fn until_answered(&mut self) -> Result<Option<NodeId>, Failure> {
        for _ in 0..self.quorum.need() {
            self.ask_next();
        }
        loop {
            if self.is_enough() {
                return Ok(self.fastest);
            }
            // What fallbacks hold would be taken for all there is.
            if self.damaged {
                return Err(self.failure());
            }
            // As many as are needed are on their way, or nobody is left to ask.
            while self.needs_more() && self.ask_next() {}
            match self.gather.next(self.hedge_at.min(self.listen_at)).await {
                Step::Answer(peer, answer) => self.take(peer, answer),
                Step::Time if self.node.0.env.now() < self.gather.deadline() => self.look_up(),
                Step::Time | Step::Exhausted => return Err(self.failure()),
            }
        }
    }

    fn is_enough(&self) -> bool {
        let found = !self.merged.is_empty();
        self.quorum.verdict() == Verdict::Reached && (found || self.continuous) && self.session_holds()
    }

    /// Whether a reader with a token is shown no less than its token has. Where tombstones are reclaimed a token may
    /// have forgotten what it had seen deleted, and only a home knows better than a fallback that still has it.
    fn session_holds(&self) -> bool {
        let replies = || self.held.iter().map(Held::reply);
        let has_home = self.continuous || !self.node.0.options.reclaim;
        self.min.as_ref().is_none_or(|min| has_home && reclaim::session_holds(&min.clock, replies()))
    }

    /// Whether the answers that are still to come cannot be enough.
    fn needs_more(&self) -> bool {
        match self.quorum.verdict() {
            Verdict::Impossible => true,
            Verdict::Pending => false,
            Verdict::Reached => {
                if !self.session_holds() {
                    self.node.0.env.probe(Probe::SessionWaited);
                }
                !self.gather.is_waiting()
            }
        }
    }

    /// Asks the next best replica; `false` if there is none.
    fn ask_next(&mut self) -> bool {
        let Some(next) = self.not_asked.pop_front() else { return false };
        let home = self.live.reads().is_home(self.partition, next);
        self.quorum.asked(next, home);
        let now = self.node.0.env.now();
        {
            let detector = self.node.0.detector.borrow();
            self.hedge_at = self.overdue_at.min(now + detector.hedge_after(next));
            self.listen_at = self.listen_at.min(now + detector.fallback_after(next));
        }
        if next == self.node.id() {
            serve::read_here(&self.node, self.partition, &self.key, self.gather.ask_here(next));
        } else {
            self.asked_peers += 1;
            self.gather.ask(next, Body::Read { key: self.key.clone() });
        }
        true
    }

    /// Some time has passed without an answer: places of replicas that have gone silent are taken at once, and
    /// one that is only slow is hedged.
    fn look_up(&mut self) {
        let now = self.node.0.env.now();
        if now >= self.listen_at {
            self.listen_at = self.gather.deadline();
            self.node.listen();
        }
        let silent = self.gather.take_silent();
        for &peer in &silent {
            self.explain.line(|| format!("{} has gone silent: another was asked", self.node.name_of(peer)));
            self.ask_next();
        }
        if silent.is_empty() && now >= self.hedge_at {
            self.hedge();
        }
    }

    /// One replica more, if the budget has room: a slow one must not show. One whose answer is overdue counts
    /// as lost, and its place is taken whatever the budget says.
    fn hedge(&mut self) {
        let now = self.node.0.env.now();
        let overdue = now >= self.overdue_at;
        if overdue {
            self.overdue_at = now + OVERDUE;
        }
        let spent = self.node.0.hedges.get();
        if !overdue && spent >= HEDGE_BURST {
            self.hedge_at = self.overdue_at;
            return;
        }
        if !self.ask_next() {
            self.hedge_at = self.gather.deadline();
            return;
        }
        if overdue {
            self.hedge_at = self.overdue_at;
        } else {
            self.node.0.hedges.set(spent + 100 / HEDGE_PERCENT_MAX);
        }
        self.node.0.env.probe(Probe::Hedged);
        self.explain.line(|| "one replica is slow: another was asked".to_string());
    }

    fn take(&mut self, from: NodeId, answer: Answer) {
        match answer {
            Answer::Said(Body::ReadReply { standing, record, frontier }) => {
                self.take_record(from, standing, record, frontier)
            }
            Answer::Said(Body::Refused { failure }) => {
                self.damaged |= failure.reason == Reason::Damaged;
                self.fail(from, &failure.reason.to_string());
            }
            Answer::Said(_) => self.fail(from, "it gave an answer of another kind"),
            Answer::Lost => self.fail(from, "its connection broke"),
            Answer::Unsent => self.fail(from, "it cannot be reached"),
        }
    }

    fn take_record(&mut self, from: NodeId, standing: Standing, encoded: Option<Bytes>, frontier: Frontier) {
        let record = match encoded.as_ref().map(decode_record).transpose() {
            Ok(record) => record.unwrap_or_default(),
            Err(bad) => return self.fail(from, &bad.to_string()),
        };
        if let Some(broken) = record.siblings().iter().find(|sibling| !sibling.verifies()) {
            let what = format!("its value {} fails its checksum", broken.dot);
            self.node.0.env.probe(Probe::Corrupt);
            return self.fail(from, &what);
        }
        let home = self.live.reads().is_home(self.partition, from);
        self.explain.line(|| {
            let kind = if home { "home" } else { "fallback" };
            format!("{} ({kind}) holds {}", self.node.name_of(from), describe(&record, standing))
        });
        self.fastest = self.fastest.or(home.then_some(from));
        // Only a home that proves something by its silence can have reclaimed.
        let vouches = home && standing == Standing::Continuous;
        let frontier = if vouches { frontier } else { Frontier::none() };
        self.held.push(Held { node: from, home, record, frontier });
        let replies: Vec<Reply<'_>> = self.held.iter().map(Held::reply).collect();
        self.merged = reclaim::fill(&replies).record;
        match (home, standing) {
            (true, Standing::Continuous) => {
                self.continuous = true;
                self.quorum.ack(from, true);
            }
            // A home whose store was lost is merged but not counted, as if it were down.
            (true, Standing::Unproven) => self.quorum.fail(from),
            (false, _) => self.quorum.ack(from, false),
        }
    }

    fn fail(&mut self, from: NodeId, why: &str) {
        self.explain.line(|| format!("{} did not answer: {why}", self.node.name_of(from)));
        self.quorum.fail(from);
    }

    fn failure(&mut self) -> Failure {
        let reached = self.quorum.verdict() == Verdict::Reached;
        let reason = match () {
            () if self.damaged => Reason::Damaged,
            () if reached && !self.session_holds() => Reason::Stale,
            () => Reason::Unavailable,
        };
        let needed = self.quorum.need() as u8;
        Failure {
            acks: acks(&self.quorum),
            needed,
            explain: self.explain.take(),
            ..Failure::not_applied(reason)
        }
    }

    /// After the answer: take what is still on its way, then repair. Costs nothing if all agree.
    fn go_on_behind(mut self) {
        if self.asked_peers == 0 {
            return;
        }
        let hedges = &self.node.0.hedges;
        hedges.set(hedges.get().saturating_sub(1));
        self.look_aside();
        if !self.gather.is_waiting() {
            return self.repair();
        }
        self.gather.heed_silence(false);
        let Some(place) = self.node.linger() else { return self.repair() };
        let env = self.node.0.env.clone();
        env.spawn("late answers of a get", async move {
            let _place = place;
            while let Step::Answer(peer, answer) = self.gather.next(self.gather.deadline()).await {
                self.node.0.env.probe(Probe::LateAnswer);
                self.take(peer, answer);
            }
            self.repair();
        });
    }

    /// Sends what was found to every home that holds less.
    fn repair(self) {
        if planted::on(Bug::NoReadRepair) || self.merged.is_empty() {
            return;
        }
        let replies: Vec<Reply<'_>> = self.held.iter().map(Held::reply).collect();
        if !reclaim::fill(&replies).conflicts.is_empty() {
            self.node.0.env.probe(Probe::Conflict);
        }
        let stale = self.stale_homes();
        if !stale.is_empty() {
            repair(&self.node, self.partition, &self.key, &self.merged, stale);
        }
    }

    /// The homes that answered with less than was found, or with too little for the session that asks, and how far
    /// they were.
    fn stale_homes(&self) -> Vec<(NodeId, Frontier)> {
        let fails_session = |held: &Held| {
            let holds = |min: &Context| reclaim::session_holds(&min.clock, [held.reply()]);
            self.min.as_ref().is_some_and(|min| !holds(min)) && held.record.lacks(&self.merged)
        };
        let is_stale = |held: &&Held| {
            held.home
                && (reclaim::is_behind(held.reply(), &self.merged)
                    || fails_session(held)
                    || planted::on(Bug::RepairStorm))
        };
        self.held.iter().filter(is_stale).map(|held| (held.node, held.frontier.clone())).collect()
    }

    /// Nothing was found at the homes that were asked: the others are asked behind the answer, since one of them
    /// may hold what these have lost (riak-lessons, 2D 37).
    fn look_aside(&mut self) {
        let now = self.node.0.env.now();
        if !self.merged.is_empty() || !self.node.0.repairs.borrow_mut().may_look_aside(now) {
            return;
        }
        let layout = self.live.reads().clone();
        let homes = self.not_asked.iter().copied().filter(|&id| layout.is_home(self.partition, id));
        let there = |id: &NodeId| self.node.health(*id) == Health::Up;
        for home in homes.filter(there).collect::<Vec<_>>() {
            self.not_asked.retain(|&id| id != home);
            self.quorum.asked(home, true);
            self.gather.ask(home, Body::Read { key: self.key.clone() });
        }
    }
}

/// What one replica has answered.
struct Held {
    node: NodeId,
    home: bool,
    record: Record,
    frontier: Frontier,
}

impl Held {
    fn reply(&self) -> Reply<'_> {
        Reply { record: &self.record, frontier: &self.frontier }
    }
}

fn describe(record: &Record, standing: Standing) -> String {
    let held = match record.siblings() {
        [] => "nothing".to_string(),
        siblings => siblings.iter().map(|s| s.dot.to_string()).collect::<Vec<_>>().join(", "),
    };
    match standing {
        Standing::Continuous => held,
        Standing::Unproven => format!("{held}, and proves nothing by what it lacks"),
    }
}

/// Hedges that may be spent ahead of the budget.
const HEDGE_BURST: u64 = 200;
