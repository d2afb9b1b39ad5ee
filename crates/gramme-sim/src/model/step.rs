//! What may happen next, and how likely: the walk itself.

use super::world::{FALLBACK, HOMES, Held, KEYS, NODES, Past, World};
use super::{Options, Promise, Tally, Violation, check};
use gramme_core::Context;
use std::rc::Rc;

pub(super) fn walk(
    seed: u64,
    steps: usize,
    options: Options,
    told: Option<&mut Vec<String>>,
) -> Result<Tally, Violation> {
    let mut world = World::new(seed, told);
    for _ in 0..steps {
        world.step(options.silent_loss);
        if world.broken.is_some() {
            break;
        }
    }
    if world.broken.is_none() {
        world.broken = check::settle_and_check(&mut world, options.silent_loss).err();
    }
    match world.broken {
        None => Ok(world.tally),
        Some((promise, what)) => Err(Violation { seed, steps, promise, what }),
    }
}

impl World<'_> {
    fn step(&mut self, silent_loss: bool) {
        match self.rng.below(100) {
            0..=17 => self.client(),
            18..=38 => self.receive(),
            39..=41 => self.lose_a_message(),
            42..=57 => self.at_a_living_node(|world, at| world.sync(at)),
            58..=69 => self.pull_somewhere(),
            70..=77 => self.report_somewhere(),
            78..=83 => {
                let at = self.rng.index(HOMES.len());
                if self.reclaims && self.nodes[at].alive {
                    self.reclaim(at);
                }
            }
            84..=85 => {
                let at = self.rng.index(NODES);
                self.tell(|| format!("node {at} crashes and restarts"));
                self.restart(at);
            }
            86 => {
                let at = self.rng.index(NODES);
                self.nodes[at].alive = false;
            }
            87 => {
                let node = &mut self.nodes[self.rng.index(NODES)];
                if !node.durable.is_joining() {
                    node.backup = Some(node.durable.clone());
                }
            }
            88 => self.disk_fault(),
            89..=90 if silent_loss => self.lose_a_key_silently(),
            91..=92 => self.hand_over(),
            93..=96 => (0..3).for_each(|_| self.close_somewhere()),
            _ if self.clients_retry => self.retry(),
            _ => self.client(),
        }
    }

    fn report_somewhere(&mut self) {
        let (from, to) = (self.rng.index(HOMES.len()), self.rng.index(HOMES.len()));
        if from != to && self.nodes[from].alive {
            self.report(from, to);
        }
    }

    fn at_a_living_node(&mut self, then: impl FnOnce(&mut Self, usize)) {
        let at = self.rng.index(NODES);
        if self.nodes[at].alive {
            then(self, at);
        }
    }

    /// A client writes blindly, with any context that was ever handed out, or after a read.
    fn client(&mut self) {
        let (key, at) = (self.rng.index(KEYS), self.rng.index(NODES));
        if !self.nodes[at].alive {
            return;
        }
        match self.rng.below(10) {
            0..=1 => {
                let delete = self.rng.chance(200);
                let blind = Held { key, context: Rc::default(), past: Past::default(), of_put: false };
                self.write(at, &blind, delete);
            }
            2..=4 if !self.contexts.is_empty() => {
                let held = self.contexts[self.rng.index(self.contexts.len())].clone();
                let delete = self.rng.chance(400);
                self.write(at, &held, delete);
            }
            _ => {
                let mask = self.rng.draw();
                let mut of: Vec<usize> =
                    (0..NODES).filter(|&i| self.nodes[i].alive && mask >> i & 1 == 1).collect();
                if of.is_empty() {
                    of.push(at);
                }
                let (record, past) = self.read(key, &of);
                let held = Held { key, context: Rc::new(Context::of(&record, None)), past, of_put: false };
                self.contexts.push(held.clone());
                if self.rng.chance(700) {
                    let delete = self.rng.chance(450);
                    self.write(at, &held, delete);
                }
            }
        }
    }

    /// Some client sends a write again, to any coordinator, however late.
    fn retry(&mut self) {
        let at = self.rng.index(NODES);
        if self.nodes[at].alive && !self.writes.is_empty() {
            let number = self.rng.index(self.writes.len());
            self.tally.retries += 1;
            self.attempt(at, number);
        }
    }

    /// Any message arrives, at times twice, at times one that was delayed.
    fn receive(&mut self) {
        if self.rng.chance(40) && !self.late.is_empty() {
            let at = self.rng.index(self.late.len());
            let message = self.late.swap_remove(at);
            self.deliver(message);
        } else if !self.wire.is_empty() {
            let at = self.rng.index(self.wire.len());
            let twice = self.rng.chance(150);
            let message = if twice { self.wire[at].clone() } else { self.wire.swap_remove(at) };
            self.deliver(message);
        }
    }

    fn lose_a_message(&mut self) {
        if !self.wire.is_empty() {
            let at = self.rng.index(self.wire.len());
            self.wire.swap_remove(at);
        }
    }

    fn pull_somewhere(&mut self) {
        let (from, to) = (self.rng.index(NODES), self.rng.index(NODES));
        if from != to && from != FALLBACK && self.nodes[from].alive && self.nodes[to].alive {
            self.pull(from, to);
        }
    }

    /// One disk is lost, or swapped for a backup, or a home leaves its partition and takes it back within one
    /// life of its process.
    fn disk_fault(&mut self) {
        if self.tally.disk_faults + self.tally.silent_losses > 0 {
            return;
        }
        let at = self.rng.index(NODES);
        let backup = if self.rng.chance(500) { self.nodes[at].backup.clone() } else { None };
        self.tally.disk_faults += 1;
        self.tell(|| format!("node {at} loses its disk; backup: {}", backup.is_some()));
        self.quarantine(at, backup);
    }

    /// A home loses one key from memory and disk and does not know.
    fn lose_a_key_silently(&mut self) {
        let (at, key) = (self.rng.index(HOMES.len()), self.rng.index(KEYS));
        let node = &mut self.nodes[at];
        if self.tally.disk_faults + self.tally.silent_losses > 0 || node.live.records[key].is_empty() {
            return;
        }
        node.live.records[key] = Rc::default();
        node.durable.records[key] = Rc::default();
        self.tally.silent_losses += 1;
        self.tell(|| format!("node {at} loses key {key} and does not know"));
    }

    /// The fallback destroys its hint store whole, and that life with it, once two homes durably have seen
    /// all that it holds.
    fn hand_over(&mut self) {
        let hints = &self.nodes[FALLBACK];
        let seen_by = |at: usize| {
            let home = &self.nodes[at].durable;
            let siblings = hints.live.records.iter().flat_map(|record| record.siblings());
            !home.is_joining() && siblings.into_iter().all(|s| home.seen.has(s.dot))
        };
        let empty = hints.live.records.iter().all(|record| record.is_empty());
        if hints.alive && !empty && HOMES.into_iter().filter(|&at| seen_by(at)).count() >= 2 {
            self.tally.handoffs += 1;
            self.tell(|| "the fallback has handed over and destroys its hint store".into());
            self.drop_hints();
        }
    }
}

/// Also a broken promise, but found while walking.
pub(super) type Broken = (Promise, String);
