//! Every order of few events, breadth first, over the production functions: one key, two homes, one fallback
//! (correctness.md 11). Messages stay where they can arrive again at any time, so every delay, doubling and loss is
//! among the orders. Whatever happened: once the homes have pulled from each other and from the fallback, the key
//! shows exactly the values that nobody had overwritten.
//!
//! The bound is [`WRITES_MAX`] writes and [`EVENTS`] events; `GRAMME_EXPLORE_EVENTS=8 cargo test --release -p gramme-core
//! --test exhaustive` goes deeper. Crashes, closes and lost disks are the walk's.
#![allow(clippy::expect_used)] // a test's expectation is its assertion
#![allow(
    clippy::disallowed_types,
    reason = "the set of states already met is asked, never gone through: its order shows nowhere"
)]

use gramme_core::reclaim::{Arrival, Reply, admit, fill, reclaimable, stable, strip};
use gramme_core::record::checksum;
use gramme_core::{
    Content, Context, Dot, Frontier, Incarnation, NodeId, Record, RequestId, Seen, Sibling, Stamp,
};
use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

const HOMES: [usize; 2] = [0, 1];
const FALLBACK: usize = 2;
const WRITES_MAX: usize = 3;
/// Explored by an ordinary test run.
const EVENTS: usize = 6;

#[derive(Clone, Debug, Default)]
struct Node {
    record: Record,
    seen: Seen,
    frontier: Frontier,
    /// What the other home last reported.
    reported: Option<Frontier>,
    lives: u64,
    minted: u64,
}

#[derive(Clone, Debug)]
struct Write {
    past: BTreeSet<usize>,
    delete: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    nodes: [Node; 3],
    writes: Vec<Write>,
    /// Everything that was ever sent: to whom, what, and how far its sender was.
    sent: Vec<(usize, Record, Frontier)>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Write { at: usize, reads: bool, delete: bool },
    Arrive(usize),
    Pull { to: usize, from: usize },
    Report { from: usize },
    Reclaim { at: usize },
    DropHints,
}

impl State {
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.writes.len() < WRITES_MAX {
            for at in 0..3 {
                for (reads, delete) in [(false, false), (true, false), (true, true)] {
                    events.push(Event::Write { at, reads, delete });
                }
            }
        }
        events.extend((0..self.sent.len()).map(Event::Arrive));
        for at in HOMES {
            events.push(Event::Pull { to: at, from: 1 - at });
            events.push(Event::Pull { to: at, from: FALLBACK });
            events.push(Event::Report { from: at });
            events.push(Event::Reclaim { at });
        }
        events.push(Event::DropHints);
        events
    }

    fn after(&self, event: Event) -> State {
        let mut next = self.clone();
        match event {
            Event::Write { at, reads, delete } => next.write(at, reads, delete),
            Event::Arrive(which) => {
                let (to, record, stamp) = self.sent[which].clone();
                next.merge(to, &record, &stamp);
            }
            Event::Pull { to, from } => next.pull(to, from),
            Event::Report { from } => next.nodes[1 - from].reported = Some(self.nodes[from].seen.bases()),
            Event::Reclaim { at } => next.reclaim(at),
            Event::DropHints => next.drop_hints(),
        }
        next
    }

    fn write(&mut self, at: usize, reads: bool, delete: bool) {
        let number = self.writes.len();
        let (mut context, mut past) = (Context::blind(), BTreeSet::new());
        if reads {
            let none = Frontier::none();
            let frontier = if at == FALLBACK { &none } else { &self.nodes[at].frontier };
            let read = fill(&[Reply { record: &self.nodes[at].record, frontier }]).record;
            context = Context::of(&read, None);
            for sibling in read.siblings() {
                let shown = sibling.request.0 as usize;
                past.insert(shown);
                past.extend(&self.writes[shown].past);
            }
        }
        self.writes.push(Write { past, delete });
        let node = &mut self.nodes[at];
        node.minted += 1;
        let content = if delete { Content::Tombstone } else { Content::Value(Default::default()) };
        let dot = Dot::new(Incarnation(10 * (at as u64 + 1) + node.lives), node.minted);
        let sibling = Sibling {
            dot,
            checksum: checksum(&content),
            content,
            stamp: Stamp::from_ms(number as u64 + 1),
            request: RequestId(number as u128),
            author: NodeId(at as u64),
            ttl_ms: 0,
            content_type: Default::default(),
            meta: Vec::new(),
        };
        node.record = node.record.put(&context, sibling);
        node.seen.add(dot);
        let (record, stamp) = (node.record.clone(), node.frontier.clone());
        self.sent.extend((0..3).filter(|&to| to != at).map(|to| (to, record.clone(), stamp.clone())));
    }

    fn merge(&mut self, at: usize, record: &Record, stamp: &Frontier) {
        let node = &mut self.nodes[at];
        if let Arrival::Join(admitted) = admit(&node.record, record, &node.frontier, stamp) {
            node.record = node.record.join(&admitted);
            record.siblings().iter().for_each(|sibling| {
                node.seen.add(sibling.dot);
            });
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        let source = self.nodes[from].clone();
        if source.record.siblings().iter().any(|s| !self.nodes[to].seen.has(s.dot)) {
            self.merge(to, &source.record, &source.frontier);
        }
        self.nodes[to].seen.join(&source.seen);
    }

    fn reclaim(&mut self, at: usize) {
        let own = self.nodes[at].seen.bases();
        let all = stable([Some(&own), self.nodes[at].reported.as_ref()]);
        let node = &mut self.nodes[at];
        node.frontier = node.frontier.join(&all);
        if reclaimable(&node.record, &node.frontier) {
            node.record = Record::new();
        } else if let Some(bare) = strip(&node.record, &node.frontier) {
            node.record = bare;
        }
    }

    fn drop_hints(&mut self) {
        let hints = &self.nodes[FALLBACK];
        if HOMES.into_iter().all(|at| hints.record.siblings().iter().all(|s| self.nodes[at].seen.has(s.dot)))
        {
            let lives = hints.lives + 1;
            self.nodes[FALLBACK] = Node { lives, ..Node::default() };
        }
    }

    /// What the homes show once they have pulled everything, against what nobody had overwritten.
    fn check(&self) -> Result<(), String> {
        let mut end = self.clone();
        for _ in 0..2 {
            for at in HOMES {
                end.pull(at, FALLBACK);
                end.pull(at, 1 - at);
            }
        }
        let is_overwritten = |number: &usize| self.writes.iter().any(|w| w.past.contains(number));
        let wanted: BTreeSet<usize> =
            (0..self.writes.len()).filter(|n| !self.writes[*n].delete && !is_overwritten(n)).collect();
        for at in HOMES {
            let values = end.nodes[at].record.siblings().iter().filter(|s| s.content != Content::Tombstone);
            let shown: BTreeSet<usize> = values.map(|s| s.request.0 as usize).collect();
            if shown != wanted {
                return Err(format!("home {at} shows {shown:?}, but {wanted:?} is what nobody overwrote"));
            }
        }
        // A read of a home and of a hint store that was not drained shows no more.
        let none = Frontier::none();
        for at in HOMES {
            let home = Reply { record: &end.nodes[at].record, frontier: &end.nodes[at].frontier };
            let hints = Reply { record: &end.nodes[FALLBACK].record, frontier: &none };
            let read = fill(&[home, hints]).record;
            let values = read.siblings().iter().filter(|s| s.content != Content::Tombstone);
            let shown: BTreeSet<usize> = values.map(|s| s.request.0 as usize).collect();
            if shown != wanted {
                return Err(format!("a read of home {at} and the hints shows {shown:?}, not {wanted:?}"));
            }
        }
        Ok(())
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }
}

#[test]
fn every_order_of_few_events_ends_with_what_nobody_overwrote() {
    let events =
        std::env::var("GRAMME_EXPLORE_EVENTS").map_or(EVENTS, |n| n.parse().expect("a number of events"));
    let mut known: HashSet<u64> = HashSet::new();
    let mut layer: Vec<(State, Vec<Event>)> = vec![(State::default(), Vec::new())];
    let (mut explored, mut reclaimed) = (1u64, 0u64);
    for _ in 0..events {
        let mut next = Vec::new();
        for (state, path) in &layer {
            for event in state.events() {
                let after = state.after(event);
                if !known.insert(after.key()) {
                    continue;
                }
                explored += 1;
                let gone =
                    |at: usize| !state.nodes[at].record.is_empty() && after.nodes[at].record.is_empty();
                reclaimed += u64::from(HOMES.into_iter().any(gone));
                let path: Vec<Event> = path.iter().copied().chain([event]).collect();
                let broken = after.check().err();
                assert_eq!(broken, None, "{path:#?}\n{after:#?}");
                next.push((after, path));
            }
        }
        layer = next;
    }
    println!("{explored} states of at most {events} events, {reclaimed} of them just reclaimed");
    assert!(explored > 10_000 && (events < 7 || reclaimed > 10), "{explored} states, {reclaimed} reclaims");
}
