//! The nodes of a walk, what travels between them, and the truth beside both: every write with its whole
//! causal past.
//!
//! A write is known by its request id, which is its number here: two attempts of one write are one write.

use super::{Promise, Tally};
use crate::rng::Rng;
use gramme_core::closed::{self, Closed};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{Arrival, Reply, admit, fill, is_amnesia, purge};
use gramme_core::record::checksum;
use gramme_core::seen::SeenRow;
use gramme_core::{
    Content, Context, Dot, Frontier, Incarnation, NodeId, Record, RequestId, Seen, Sibling, Stamp,
};
use std::rc::Rc;

/// Homes are 0, 1 and 2; the fallback keeps hints.
pub(super) const HOMES: [usize; 3] = [0, 1, 2];
pub(super) const FALLBACK: usize = 3;
pub(super) const NODES: usize = 4;
pub(super) const KEYS: usize = 2;
/// Writes of one walk; later ones are not made.
const WRITES_MAX: usize = 64 * PAST_WORDS;
const PAST_WORDS: usize = 4;

/// Numbers of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past([u64; PAST_WORDS]);

impl Past {
    pub(super) fn has(&self, write: usize) -> bool {
        self.0[write / 64] >> (write % 64) & 1 == 1
    }

    pub(super) fn add(&mut self, write: usize) {
        self.0[write / 64] |= 1 << (write % 64);
    }

    pub(super) fn join(&mut self, other: &Past) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

/// One client write, with what is true of it and no node knows.
pub(super) struct Write {
    pub(super) key: usize,
    pub(super) delete: bool,
    /// Every write that its client had seen, and theirs.
    pub(super) past: Past,
    pub(super) context: Rc<Context>,
    /// One per attempt that a coordinator took.
    pub(super) dots: Vec<Dot>,
    /// Nodes that coordinated an attempt, and nodes that ever had it durably, as bits.
    pub(super) coordinators: u8,
    pub(super) holders: u8,
    pub(super) acked: bool,
}

/// A partition replica or hint store: in memory, or as its disk has it.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) incarnation: Incarnation,
    pub(super) n: u64,
    pub(super) records: [Rc<Record>; KEYS],
    pub(super) seen: Rc<Seen>,
    /// The homes, as bits, that it has yet to pull everything from: until then it has lost its content, is no
    /// source for others, and vouches for nothing.
    pub(super) awaits: u8,
    /// Greater whenever it has lost what it had.
    pub(super) life: u64,
    /// R: what everyone has seen, as far as it acts on it.
    pub(super) frontier: Frontier,
    /// M: what each home last reported as durable, with the life that did.
    pub(super) reported: [Option<(u64, Frontier)>; HOMES.len()],
    pub(super) closed: Rc<Closed>,
}

impl Store {
    pub(super) fn new(incarnation: Incarnation) -> Store {
        Store {
            incarnation,
            n: 0,
            records: Default::default(),
            seen: Rc::default(),
            awaits: 0,
            life: 0,
            frontier: Frontier::none(),
            reported: Default::default(),
            closed: Rc::default(),
        }
    }

    pub(super) fn is_joining(&self) -> bool {
        self.awaits != 0
    }

    /// The frontier that it lets others rely on.
    pub(super) fn vouched(&self) -> Frontier {
        if self.is_joining() { Frontier::none() } else { self.frontier.clone() }
    }

    /// What it has seen of an incarnation.
    pub(super) fn row(&self, incarnation: Incarnation) -> SeenRow {
        self.seen.row(incarnation).cloned().unwrap_or_default()
    }
}

pub(super) struct Node {
    pub(super) alive: bool,
    pub(super) live: Store,
    pub(super) durable: Store,
    pub(super) backup: Option<Store>,
}

#[derive(Clone)]
pub(super) enum Message {
    /// A record, to be joined, and how far its sender was.
    Record { to: usize, key: usize, record: Rc<Record>, stamp: Frontier },
    /// A pull session's question: what do you have that I have not seen? Nothing seen asks for everything.
    Pull { to: usize, from: usize, life: Incarnation, seen: Rc<Seen>, closed: Rc<Closed> },
    /// Its answer, valid for the life that asked.
    Pulled { to: usize, from: usize, life: Incarnation, session: Rc<Session> },
    /// What a home has durably seen without a hole.
    Report { to: usize, from: usize, life: u64, base: Frontier },
    /// An incarnation's set is final.
    Close { to: usize, incarnation: Incarnation, set: SeenRow },
}

/// What a source had when a pull session began.
pub(super) struct Session {
    pub(super) seen: Rc<Seen>,
    pub(super) frontier: Frontier,
    pub(super) closed: Rc<Closed>,
    /// What the puller has not seen.
    pub(super) news: Vec<usize>,
    pub(super) records: [Rc<Record>; KEYS],
}

/// A context in some client's hands.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) key: usize,
    pub(super) context: Rc<Context>,
    pub(super) past: Past,
    /// Whether a put answered with it.
    pub(super) of_put: bool,
}

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
            joined.collapse_retries();
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
        let is_news = |record: &Record| record.siblings().iter().any(|s| !seen.has(s.dot));
        let session = Session {
            seen: live.seen.clone(),
            frontier: live.frontier.clone(),
            closed: live.closed.clone(),
            news: (0..KEYS).filter(|&key| is_news(&live.records[key])).collect(),
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
mod tests {
    use super::*;

    fn blind(key: usize) -> Held {
        Held { key, context: Rc::default(), past: Past::default(), of_put: false }
    }

    fn shown(world: &World<'_>, at: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = writes_of(&world.nodes[at].live.records[0]).collect();
        shown.sort_unstable();
        shown
    }

    #[test]
    fn a_partition_left_and_taken_back_within_one_process_life() {
        let mut world = World::new(1, None);
        world.write(0, &blind(0), false);
        let record = world.nodes[0].live.records[0].clone();
        world.merge(1, 0, &record, &Frontier::none());
        let before = world.nodes[0].live.incarnation;
        world.quarantine(0, None);
        assert_ne!(world.nodes[0].live.incarnation, before, "a replica made again is a new life");
        world.write(0, &blind(0), false);
        assert_ne!(world.writes[0].dots, world.writes[1].dots);
        world.merge(0, 0, &record, &Frontier::none());
        assert_eq!(shown(&world, 0), [0, 1], "or one write would have been taken for the other");
    }

    #[test]
    fn a_hint_store_is_destroyed_with_what_it_has_seen() {
        // One that kept its seen clock would never again be offered what it once held.
        let mut world = World::new(1, None);
        world.write(FALLBACK, &blind(0), false);
        world.quarantine(FALLBACK, None);
        let store = &world.nodes[FALLBACK].live;
        assert!(store.records.iter().all(|record| record.is_empty()));
        assert_eq!(store.seen, Rc::default());
        assert!(!store.is_joining(), "it need not pull anything to be of use");
    }

    #[test]
    fn the_cases_that_no_walk_comes_to() {
        assert!(super::super::reports_only_what_is_durable());
        assert!(super::super::drops_its_hint_store_whole());
    }

    #[test]
    fn a_session_of_which_something_was_refused_joins_nothing() {
        // Found by a walk: a home that has frozen an incarnation refused a record of it, joined the source's
        // seen clock all the same, and was never offered that record again.
        let mut world = World::new(1, None);
        world.write(1, &blind(0), false);
        let dot = world.writes[0].dots[0];
        let closed = Rc::make_mut(&mut world.nodes[0].live.closed);
        assert!(closed.freeze(dot.incarnation, &SeenRow::default(), &SeenRow::default()));
        world.pull(0, 1);
        while let Some(message) = world.wire.pop() {
            world.deliver(message);
        }
        assert_eq!(shown(&world, 0), [0; 0]);
        assert!(!world.nodes[0].live.seen.has(dot));
    }

    #[test]
    fn an_answer_to_an_earlier_life_is_not_taken() {
        // Its seen clock would cover dots that this life's empty store has not merged.
        let mut world = World::new(1, None);
        world.write(1, &blind(0), false);
        world.pull(0, 1);
        let question = world.wire.pop().expect("a question");
        world.deliver(question);
        let answer = world.wire.pop().expect("an answer");
        world.quarantine(0, None);
        world.deliver(answer);
        assert_eq!(world.nodes[0].live.seen, Rc::default());
        assert!(world.nodes[0].live.is_joining());
    }

    #[test]
    fn a_write_is_acknowledged_when_it_is_durable_at_its_coordinator_and_once_more() {
        let mut world = World::new(1, None);
        world.write(0, &blind(0), false);
        let record = world.nodes[0].live.records[0].clone();
        world.merge(1, 0, &record, &Frontier::none());
        world.merge(2, 0, &record, &Frontier::none());
        world.sync(1);
        world.sync(2);
        assert!(!world.writes[0].acked, "two copies, but its coordinator's is not durable");
        world.sync(0);
        assert!(world.writes[0].acked);
    }

    #[test]
    fn what_is_in_memory_only_is_gone_after_a_restart() {
        let mut world = World::new(1, None);
        world.write(0, &blind(0), false);
        world.restart(0);
        assert_eq!(shown(&world, 0), [0; 0]);
        world.write(0, &blind(0), false);
        world.sync(0);
        world.restart(0);
        assert_eq!(shown(&world, 0), [1]);
        assert_eq!(world.nodes[0].live.n, 0, "a new life counts from the start");
    }
}
