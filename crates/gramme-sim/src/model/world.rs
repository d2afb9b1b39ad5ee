//! The nodes of a walk, what travels between them, and the truth beside both: every write with its whole
//! causal past.
//!
//! A write is known by its request id, which is its number here: two attempts of one write are one write.

mod parts;

pub(super) use parts::{Held, Message, Node, Past, Session, Store, Write};

use super::{Promise, Tally};
use crate::rng::Rng;
use gramme_core::closed::{self, Closed};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{Arrival, Reply, admit, fill, is_amnesia, purge};
use gramme_core::record::checksum;
use gramme_core::seen::SeenRow;
use gramme_core::{Content, Dot, Frontier, Incarnation, NodeId, Record, RequestId, Seen, Sibling, Stamp};
use std::rc::Rc;

/// Homes are 0, 1 and 2; the fallback keeps hints.
pub(super) const HOMES: [usize; 3] = [0, 1, 2];
pub(super) const FALLBACK: usize = 3;
pub(super) const NODES: usize = 4;
pub(super) const KEYS: usize = 2;
/// Writes of one walk; later ones are not made.
const WRITES_MAX: usize = 64 * PAST_WORDS;
const PAST_WORDS: usize = 4;

pub(super) struct World<'a> {
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) wire: Vec<Message>,
    /// What is delayed until long after, or for ever.
    pub(super) late: Vec<Message>,
    pub(super) writes: Vec<Write>,
    pub(super) contexts: Vec<Held>,
    pub(super) tally: Tally,
    /// Half of the walks have clients that send writes again, however late.
    pub(super) clients_retry: bool,
    /// Most walks reclaim.
    pub(super) reclaims: bool,
    pub(super) broken: Option<(Promise, String)>,
    /// The close that is under way, and those that are decided.
    pub(super) closing: Option<super::ending::Proposal>,
    pub(super) finals: Vec<(Incarnation, SeenRow)>,
    pub(super) lives: u64,
    ticks: u64,
    told: Option<&'a mut Vec<String>>,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, told: Option<&'a mut Vec<String>>) -> World<'a> {
        let mut world = World {
            rng: Rng::stream(seed, "walk", 0),
            nodes: Vec::with_capacity(NODES),
            wire: Vec::new(),
            late: Vec::new(),
            writes: Vec::new(),
            contexts: Vec::new(),
            tally: Tally { runs: 1, ..Tally::default() },
            clients_retry: false,
            reclaims: true,
            broken: None,
            closing: None,
            finals: Vec::new(),
            lives: 0,
            ticks: 0,
            told,
        };
        world.clients_retry = world.rng.chance(500);
        world.reclaims = world.rng.chance(850);
        for _ in 0..NODES {
            let store = Store::new(world.new_life());
            world.nodes.push(Node { alive: true, live: store.clone(), durable: store, backup: None });
        }
        world
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(line());
        }
    }

    /// An incarnation that nobody has had.
    pub(super) fn new_life(&mut self) -> Incarnation {
        self.lives += 1;
        Incarnation(self.lives)
    }

    /// What clients read from these nodes: the context, and the writes that it has in its past.
    pub(super) fn read(&self, key: usize, of: &[usize]) -> (Record, Past) {
        let frontiers: Vec<Frontier> = of.iter().map(|&node| self.nodes[node].live.vouched()).collect();
        let replies: Vec<Reply<'_>> = of
            .iter()
            .zip(&frontiers)
            .map(|(&node, frontier)| Reply { record: &self.nodes[node].live.records[key], frontier })
            .collect();
        let merged = fill(&replies).record;
        let mut past = Past::default();
        for write in writes_of(&merged) {
            past.add(write);
            past.join(&self.writes[write].past);
        }
        (merged, past)
    }

    /// A client's write at a coordinator, under what its context has seen.
    pub(super) fn write(&mut self, at: usize, held: &Held, delete: bool) {
        if self.writes.len() == WRITES_MAX {
            return;
        }
        let number = self.writes.len();
        self.tally.writes += 1;
        self.tally.deletes += u64::from(delete);
        self.tally.chained += u64::from(held.of_put);
        self.writes.push(Write {
            key: held.key,
            delete,
            past: held.past,
            context: held.context.clone(),
            dots: Vec::with_capacity(1),
            coordinators: 0,
            holders: 0,
            acked: false,
        });
        self.attempt(at, number);
    }

    /// A client's write of the first key that has seen nothing.
    pub(super) fn write_blind(&mut self, at: usize) {
        let blind = Held { key: 0, context: Rc::default(), past: Past::default(), of_put: false };
        self.write(at, &blind, false);
    }

    /// One attempt of a write: the coordinator adopts what it has of an earlier one, or mints a dot.
    pub(super) fn attempt(&mut self, at: usize, number: usize) {
        let (key, context) = (self.writes[number].key, self.writes[number].context.clone());
        let local = self.nodes[at].live.records[key].clone();
        let sibling = self.sibling(at, number, &local);
        let taken = |s: &Sibling| s.request == sibling.request && s.checksum == sibling.checksum;
        if local.siblings().iter().any(taken) && !planted::on(Bug::RetryForgotten) {
            self.replicate(at, key, &local);
            return;
        }
        let dot = sibling.dot;
        if local.clock.last_of(dot.incarnation).is_some_and(|run| run.hi >= dot.n) {
            let what = format!("key {key}: write {number} would be {dot}, which has been already");
            self.broken = Some((Promise::DotsOnce, what));
            return;
        }
        self.nodes[at].live.n = dot.n;
        let mut record = local.put(&context, sibling.clone());
        record.collapse_retries();
        let record = Rc::new(record);
        let live = &mut self.nodes[at].live;
        Rc::make_mut(&mut live.seen).add(dot);
        live.records[key] = record.clone();
        let write = &mut self.writes[number];
        write.dots.push(dot);
        write.coordinators |= 1 << at;
        let mut past = write.past;
        past.add(number);
        let mut answer = context.after_put_of(&sibling, NodeId(at as u64 + 1));
        if planted::on(Bug::AnswerRecordClock) {
            answer.clock = record.clock.clone();
        }
        self.contexts.push(Held { key, context: Rc::new(answer), past, of_put: true });
        self.tell(|| format!("node {at} takes write {number} of key {key} as {dot}: {}", brief(&record)));
        self.replicate(at, key, &record);
    }

    fn sibling(&mut self, at: usize, number: usize, local: &Record) -> Sibling {
        let live = &self.nodes[at].live;
        let n = if planted::on(Bug::PerKeyCounter) {
            let last = |clock: &gramme_core::Clock| clock.last_of(live.incarnation).map_or(0, |run| run.hi);
            last(&local.clock).max(last(&self.writes[number].context.clock)) + 1
        } else {
            live.n + 1
        };
        let dot = Dot::new(live.incarnation, n);
        let content =
            if self.writes[number].delete { Content::Tombstone } else { Content::Value(Default::default()) };
        self.ticks += 1;
        Sibling {
            dot,
            checksum: checksum(&content),
            content,
            stamp: Stamp::from_ms(self.ticks),
            request: RequestId(number as u128),
            author: NodeId(at as u64 + 1),
            ttl_ms: 0,
            content_type: Default::default(),
            meta: Vec::new(),
        }
    }

    /// Sends a coordinator's record to the homes and, at times, to the fallback.
    fn replicate(&mut self, at: usize, key: usize, record: &Rc<Record>) {
        let stamp = self.nodes[at].live.vouched();
        for to in HOMES.into_iter().filter(|&to| to != at) {
            let message = Message::Record { to, key, record: record.clone(), stamp: stamp.clone() };
            if self.rng.chance(200) {
                self.late.push(message.clone());
                if self.rng.chance(400) {
                    continue;
                }
            }
            self.wire.push(message);
        }
        if at != FALLBACK && self.rng.chance(250) {
            self.wire.push(Message::Record { to: FALLBACK, key, record: record.clone(), stamp });
        }
    }

    /// What a replica does with a record from another: mind the tripwire, refuse what is void, leave out what
    /// is late, join the rest, remember what was seen; `false` if the state was refused.
    pub(super) fn merge(&mut self, at: usize, key: usize, record: &Record, stamp: &Frontier) -> bool {
        let mine = self.nodes[at].live.records[key].clone();
        let frontier = self.nodes[at].live.frontier.clone();
        let deaf = planted::on(Bug::NoTripwire)
            || planted::on(Bug::IncarnationReused)
            || planted::on(Bug::PerKeyCounter);
        if is_amnesia(&mine, record, self.nodes[at].live.incarnation, &frontier) && !deaf {
            self.tally.trips += 1;
            self.tell(|| format!("node {at} trips over key {key}"));
            self.renew(at);
        }
        let live = &mut self.nodes[at].live;
        let closed = live.closed.clone();
        let Some(record) = closed.admit(record) else {
            self.tally.void += 1;
            self.tell(|| format!("node {at} refuses a void state of key {key}"));
            return false;
        };
        let beyond = if planted::on(Bug::StaleBySeen) { live.seen.bases() } else { frontier };
        let admitted = match admit(&mine, &record, &beyond, stamp) {
            Arrival::Join(admitted) => admitted,
            Arrival::Stale => {
                self.tally.stale += 1;
                self.tell(|| format!("node {at} ignores a late state of key {key}: {}", brief(&record)));
                return true;
            }
        };
        if record.siblings().iter().any(|s| !live.seen.has(s.dot)) {
            let seen = Rc::make_mut(&mut live.seen);
            for s in record.siblings() {
                seen.add(s.dot);
            }
        }
        if mine.lacks(&admitted) {
            let mut joined = mine.join(&admitted);
            if joined.collapse_retries() {
                live.n += 1;
                let event = Dot::new(live.incarnation, live.n);
                Rc::make_mut(&mut live.seen).add(event);
                joined = joined.with_event(event);
            }
            live.records[key] = Rc::new(joined);
        }
        true
    }

    /// A new incarnation, durable before its first use.
    pub(super) fn renew(&mut self, at: usize) {
        let life = self.new_life();
        let node = &mut self.nodes[at];
        for store in [&mut node.live, &mut node.durable] {
            store.incarnation = life;
            store.n = 0;
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Record { to, key, record, stamp } => {
                if self.nodes[to].alive {
                    self.merge(to, key, &record, &stamp);
                    self.tell(|| format!("node {to} is sent, for key {key}: {}", brief(&record)));
                }
            }
            Message::Pull { to, from, life, seen, closed } => self.answer(to, from, life, &seen, &closed),
            Message::Pulled { to, from, life, session } => {
                if self.nodes[to].alive && self.nodes[to].live.incarnation == life {
                    self.take_session(to, from, &session);
                }
            }
            Message::Report { to, from, life, base } => {
                if self.nodes[to].alive {
                    let known = &mut self.nodes[to].live.reported[from];
                    match known {
                        Some((of, _)) if *of > life => {}
                        Some((of, before)) if *of == life => *before = before.join(&base),
                        _ => *known = Some((life, base)),
                    }
                }
            }
            Message::Close { to, incarnation, set } => {
                if self.nodes[to].alive {
                    self.end(to, incarnation, &set);
                }
            }
        }
    }

    /// `from` asks `to` for what it has not seen; one that has lost its content asks for everything.
    pub(super) fn pull(&mut self, from: usize, to: usize) {
        let live = &self.nodes[from].live;
        let seen = if live.is_joining() { Rc::default() } else { live.seen.clone() };
        let (life, closed) = (live.incarnation, live.closed.clone());
        self.wire.push(Message::Pull { to, from, life, seen, closed });
    }

    fn answer(&mut self, at: usize, to: usize, life: Incarnation, seen: &Seen, closed: &Closed) {
        if !self.nodes[at].alive || self.nodes[at].live.is_joining() {
            return;
        }
        self.learn_ends(at, closed);
        let live = &self.nodes[at].live;
        if live.is_joining() {
            return;
        }
        let session = Session {
            seen: live.seen.clone(),
            frontier: live.frontier.clone(),
            closed: live.closed.clone(),
            news: (0..KEYS).filter(|&key| live.records[key].is_news_to(seen)).collect(),
            records: live.records.clone(),
        };
        self.wire.push(Message::Pulled { to, from: at, life, session: Rc::new(session) });
    }

    fn take_session(&mut self, at: usize, from: usize, session: &Session) {
        if planted::on(Bug::SessionJoinedEarly) && self.rng.chance(300) {
            Rc::make_mut(&mut self.nodes[at].live.seen).join(&session.seen);
            return;
        }
        self.learn_ends(at, &session.closed);
        let mut whole = true;
        for &key in &session.news {
            whole &= self.merge(at, key, &session.records[key], &session.frontier);
        }
        if !whole {
            return; // A session of which something was refused is a broken one.
        }
        let live = &mut self.nodes[at].live;
        if live.is_joining() {
            for (mine, theirs) in live.records.iter_mut().zip(&session.records) {
                if let Some(left) = purge(mine, theirs, &session.frontier, &live.frontier) {
                    *mine = Rc::new(left);
                }
            }
        }
        live.frontier = live.frontier.join(&session.frontier);
        Rc::make_mut(&mut live.seen).join(&session.seen);
        live.awaits &= !(1 << from);
        self.tally.pulls += 1;
        self.tell(|| format!("node {at} has pulled from node {from}"));
    }

    /// A home tells another what it has durably seen.
    pub(super) fn report(&mut self, from: usize, to: usize) {
        let node = &self.nodes[from];
        if node.live.is_joining() || node.durable.is_joining() {
            return;
        }
        let store = if planted::on(Bug::BaseBeforeSync) { &node.live } else { &node.durable };
        let (life, base) = (store.life, closed::bases(&store.seen, &store.closed));
        self.wire.push(Message::Report { to, from, life, base });
    }

    /// Everything in memory becomes durable, and what is durable in two places is acknowledged.
    pub(super) fn sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.durable = node.live.clone();
        for write in self.writes.iter_mut().filter(|w| !w.acked) {
            let clock = &node.durable.records[write.key].clock;
            if write.dots.iter().any(|&dot| clock.covers(dot)) {
                write.holders |= 1 << at;
                write.acked = write.holders & write.coordinators != 0 && write.holders.count_ones() >= 2;
                self.tally.acked += u64::from(write.acked);
            }
        }
    }

    /// The process ends and begins again with what its disk has, as a new life.
    pub(super) fn restart(&mut self, at: usize) {
        let mut store = self.nodes[at].durable.clone();
        if !planted::on(Bug::IncarnationReused) {
            store.incarnation = self.new_life();
            store.n = 0;
        }
        let node = &mut self.nodes[at];
        (node.live, node.durable, node.alive) = (store.clone(), store, true);
        self.tally.restarts += 1;
    }

    /// The replica's content is gone, replaced by a backup's or given up: it begins empty, in a new life, and
    /// what the backup holds is offered to the others as anything old is.
    pub(super) fn quarantine(&mut self, at: usize, backup: Option<Store>) {
        let old = &self.nodes[at].live;
        let mut store = Store::new(old.incarnation);
        if at != FALLBACK {
            store.awaits =
                HOMES.into_iter().filter(|&home| home != at).fold(0, |bits, home| bits | 1 << home);
        }
        if let Some(backup) = &backup {
            (store.incarnation, store.n) = (backup.incarnation, backup.n);
            if planted::on(Bug::RestoredTrusted) {
                store = backup.clone();
            }
        }
        if !planted::on(Bug::IncarnationReused) {
            store.incarnation = self.new_life();
            store.n = 0;
        }
        store.life = store.incarnation.0;
        for (key, record) in backup.iter().flat_map(|b| b.records.iter().enumerate()) {
            for to in HOMES.into_iter().filter(|&to| to != at && !record.is_empty()) {
                let stamp = Frontier::none();
                self.late.push(Message::Record { to, key, record: record.clone(), stamp });
            }
        }
        let node = &mut self.nodes[at];
        (node.live, node.durable, node.alive) = (store.clone(), store, true);
    }

    /// The hint store is drained: it goes whole, and the life that kept it. What has ended stays ended.
    pub(super) fn drop_hints(&mut self) {
        if planted::on(Bug::HintClockKept) {
            self.nodes[FALLBACK].live.records = Default::default();
            return;
        }
        let closed = self.nodes[FALLBACK].live.closed.clone();
        self.quarantine(FALLBACK, None);
        let node = &mut self.nodes[FALLBACK];
        node.live.closed = closed.clone();
        node.durable.closed = closed;
    }
}

/// The writes whose siblings a record shows.
pub(super) fn writes_of(record: &Record) -> impl Iterator<Item = usize> {
    record.siblings().iter().map(writer_of)
}

/// The write that left a sibling.
pub(super) fn writer_of(sibling: &Sibling) -> usize {
    sibling.request.0 as usize
}

/// A record on one line: the runs of its clock, and its siblings with the writes that they are.
fn brief(record: &Record) -> String {
    let runs = record.clock.intervals().iter();
    let runs: Vec<String> = runs.map(|i| format!("{}({},{}]", i.incarnation.0, i.lo, i.hi)).collect();
    let dot = |s: &Sibling| format!("{}.{}=write {}", s.dot.incarnation.0, s.dot.n, s.request.0);
    let siblings: Vec<String> = record.siblings().iter().map(dot).collect();
    let spent: Vec<String> = record.spent().iter().map(|s| s.request.0.to_string()).collect();
    format!("{} | {} | spent {}", runs.join(" "), siblings.join(", "), spent.join(" "))
}

#[cfg(all(test, not(feature = "planted")))]
mod tests;
