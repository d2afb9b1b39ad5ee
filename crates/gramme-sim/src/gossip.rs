//! How fast a change is known everywhere, and what gossip costs while nothing changes (design section 4): many nodes,
//! nothing of each but [`gramme_core::gossip`], each second a digest to one random peer, and at once to a few whatever
//! was news. `gramme-sim gossip --nodes 200`.
//!
//! It refuses to judge what is said: entries are bytes of the sizes that layouts, staged changes and facts have.

use crate::rng::Rng;
use bytes::Bytes;
use clap::Args;
use gramme_core::gossip::{Difference, Entry, Gossip, Line, Name, NodeFact, Sums, entry_bytes};
use gramme_core::paxos::Decree;
use gramme_core::{LayoutHash, NodeId, Stamp};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Gossip among many nodes: how fast a change is known everywhere, and what it costs when quiet.
///
/// Example: gramme-sim gossip --nodes 200
#[derive(Args, Clone, Copy, Debug)]
pub struct GossipArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=256))]
    pub nodes: u64,
    /// How many runs, each with a seed and a change of its own.
    #[arg(long, default_value_t = 20)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// Messages lost, in a thousand.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=900))]
    pub loss: u32,
    /// Seconds between two changes of what a node says of itself; 0 is never.
    #[arg(long, default_value_t = 0)]
    pub facts_every: u64,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Simulated milliseconds until every node knew the change; `None` if some did not within the time of the run.
    pub known_ms: Option<u64>,
    /// Bytes that a node sent per second before the change, on average.
    pub quiet_bytes: u64,
}

/// Runs the command and prints two lines; fails if a change took longer than the bound.
pub fn run_cli(arguments: &GossipArguments) -> ExitCode {
    let first = arguments.first_seed;
    let runs: Vec<Spread> =
        (first..first + arguments.seeds.max(1)).map(|seed| run(seed, *arguments)).collect();
    let known: Vec<u64> = runs.iter().filter_map(|run| run.known_ms).collect();
    let mean = |sum: u64, count: usize| sum / count.max(1) as u64;
    let late = runs.len() - known.iter().filter(|&&ms| ms <= BOUND_MS).count();
    println!(
        "{} nodes, {} seeds: a change is known everywhere after {} ms on average, {} ms at most; {late} later than {BOUND_MS} ms",
        arguments.nodes,
        runs.len(),
        mean(known.iter().sum(), known.len()),
        known.iter().max().copied().unwrap_or(0)
    );
    let quiet = mean(runs.iter().map(|run| run.quiet_bytes).sum(), runs.len());
    println!("before the change each node sends {quiet} bytes per second");
    if late == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run: a quiet while, then a change at one node.
pub fn run(seed: u64, arguments: GossipArguments) -> Spread {
    let mut world = World::new(seed, arguments);
    world.go_until(QUIET_MS, |_| false);
    let quiet_bytes = world.bytes * 1000 / QUIET_MS / arguments.nodes;
    let name = Name::Staged(Bytes::from_static(b"join 1f2e3d4c5b6a7988"));
    let change = Entry { stamp: Stamp::from_ms(QUIET_MS), tie: 1, bytes: vec![7; CHANGE_BYTES].into() };
    let at = world.rng.index(world.nodes.len());
    world.news(at, vec![(name.clone(), change)]);
    let known = world
        .go_until(QUIET_MS + 3 * BOUND_MS, |world| world.nodes.iter().all(|node| node.get(&name).is_some()));
    Spread { known_ms: known.map(|at| at - QUIET_MS), quiet_bytes }
}

#[derive(Clone)]
enum Message {
    Digest(u64),
    Sums(Box<Sums>),
    Listing(u16, Vec<Line>),
    Entries(Difference),
}

impl Message {
    fn bytes(&self) -> u64 {
        let body = match self {
            Message::Digest(_) => 8,
            Message::Sums(sums) => size_of_val(&**sums),
            Message::Listing(_, lines) => 2 + 20 * lines.len(),
            Message::Entries(Difference { send, want }) => {
                send.iter().map(|(name, entry)| entry_bytes(name, entry)).sum::<usize>() + 8 * want.len()
            }
        };
        (OVERHEAD_BYTES + body) as u64
    }
}

enum Event {
    Round(usize),
    Fact(usize),
    Deliver { from: usize, to: usize, message: Message },
}

struct World {
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    nodes: Vec<Gossip>,
    arguments: GossipArguments,
    bytes: u64,
}

impl World {
    /// All know the same: a layout, and what everyone says of itself.
    fn new(seed: u64, arguments: GossipArguments) -> World {
        let mut all = Gossip::new();
        let layout = Entry { stamp: Stamp(0), tie: 0, bytes: vec![1; LAYOUT_BYTES].into() };
        all.merge_one(&Name::Layout(Decree { lineage: 0, version: 1 }, LayoutHash(1)), &layout);
        for node in 0..arguments.nodes as usize {
            let (name, entry) = fact(node, 0);
            all.merge_one(&name, &entry);
        }
        let mut world = World {
            rng: Rng::stream(seed, "gossip", arguments.nodes),
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: vec![all; arguments.nodes as usize],
            arguments,
            bytes: 0,
        };
        for node in 0..arguments.nodes as usize {
            let at = world.rng.below(ROUND_MS);
            world.at(at, Event::Round(node));
            if arguments.facts_every > 0 {
                let at = world.rng.below(1000 * arguments.facts_every);
                world.at(at, Event::Fact(node));
            }
        }
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// Goes on until it is so, and says when that was, or until this time.
    fn go_until(&mut self, end_ms: u64, is_so: impl Fn(&World) -> bool) -> Option<u64> {
        while let Some(first) = self.events.first_entry().filter(|first| first.key().0 < end_ms) {
            let ((now, _), event) = first.remove_entry();
            self.now = now;
            let brings_news = matches!(&event, Event::Deliver { message: Message::Entries(_), .. });
            self.happen(event);
            if brings_news && is_so(self) {
                return Some(now);
            }
        }
        self.now = end_ms;
        None
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Round(node) => {
                let (to, digest) = (self.peer_of(node), self.nodes[node].digest());
                self.send(node, to, Message::Digest(digest));
                self.at(self.now + ROUND_MS, Event::Round(node));
            }
            Event::Fact(node) => {
                let news = fact(node, self.now);
                self.news(node, vec![news]);
                self.at(self.now + 1000 * self.arguments.facts_every, Event::Fact(node));
            }
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let node = &self.nodes[to];
        match message {
            Message::Digest(digest) if digest == node.digest() => {}
            Message::Digest(_) => {
                let sums = Box::new(node.sums());
                self.send(to, from, Message::Sums(sums));
            }
            Message::Sums(sums) => {
                let parts = node.differing(&sums);
                if parts != 0 {
                    let lines = node.listing(parts);
                    self.send(to, from, Message::Listing(parts, lines));
                }
            }
            Message::Listing(parts, lines) => {
                let difference = node.difference(parts, &lines);
                if difference != Difference::default() {
                    self.send(to, from, Message::Entries(difference));
                }
            }
            Message::Entries(Difference { send, want }) => {
                let wanted = node.wanted(&want);
                if !wanted.is_empty() {
                    self.send(to, from, Message::Entries(Difference { send: wanted, want: Vec::new() }));
                }
                self.news(to, send);
            }
        }
    }

    /// A node comes to know something: what of it is news it passes on at once.
    fn news(&mut self, at: usize, mut entries: Vec<(Name, Entry)>) {
        entries.retain(|(name, entry)| self.nodes[at].merge_one(name, entry));
        if entries.is_empty() {
            return;
        }
        for _ in 0..PUSHES {
            let to = self.peer_of(at);
            let difference = Difference { send: entries.clone(), want: Vec::new() };
            self.send(at, to, Message::Entries(difference));
        }
    }

    fn peer_of(&mut self, at: usize) -> usize {
        let other = self.rng.index(self.nodes.len() - 1);
        if other < at { other } else { other + 1 }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.bytes += message.bytes();
        if !self.rng.chance(self.arguments.loss) {
            let at = self.now + self.rng.spread(LATENCY_MS);
            self.at(at, Event::Deliver { from, to, message });
        }
    }
}

fn fact(node: usize, now_ms: u64) -> (Name, Entry) {
    let fact = NodeFact {
        name: format!("node-{node}"),
        address: format!("node-{node}.rack-{}.example.net:7402", node % 7),
        http: format!("node-{node}.rack-{}.example.net:7400", node % 7),
        zone: format!("rack-{}", node % 7),
        release: env!("CARGO_PKG_VERSION").to_string(),
        features: 0b1011,
    };
    fact.entry(NodeId(node as u64 + 1), Stamp::from_ms(now_ms), 1)
}

/// Within which a change must be known everywhere.
pub const BOUND_MS: u64 = 10_000;
const QUIET_MS: u64 = 10_000;
const ROUND_MS: u64 = 1000;
const LATENCY_MS: u64 = 5;
/// Peers that are told at once what was news.
const PUSHES: usize = 3;
/// A frame's head and a message's.
const OVERHEAD_BYTES: usize = 40;
/// A staged change.
const CHANGE_BYTES: usize = 100;
/// A layout of 200 members and 1,024 partitions.
const LAYOUT_BYTES: usize = 25_000;

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: GossipArguments =
        GossipArguments { nodes: 50, seeds: 1, first_seed: 1, loss: 0, facts_every: 0 };

    #[test]
    fn a_change_is_known_everywhere_within_the_bound() {
        for seed in 1..10 {
            for loss in [0, 100] {
                let known = run(seed, GossipArguments { loss, ..FEW }).known_ms;
                assert!(known.is_some_and(|ms| ms <= BOUND_MS), "seed {seed}, loss {loss}: {known:?}");
            }
        }
    }

    #[test]
    fn quiet_nodes_send_a_digest_a_second_and_nothing_else() {
        let quiet = run(1, FEW);
        assert_eq!(quiet.quiet_bytes, (OVERHEAD_BYTES + 8) as u64);
        let talkative = run(1, GossipArguments { facts_every: 5, ..FEW });
        assert!(talkative.quiet_bytes > 4 * quiet.quiet_bytes, "{talkative:?}");
    }

    #[test]
    fn a_run_repeats() {
        assert_eq!(run(3, FEW), run(3, FEW));
        assert_ne!(run(3, FEW), run(4, FEW));
    }
}
