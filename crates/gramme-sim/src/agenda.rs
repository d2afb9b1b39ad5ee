//! What is going to happen, in order of time and, at one time, in the order in which it was put there.

use crate::net::{Flight, Later};
use crate::timer::Timers;
use bytes::Bytes;
use gramme_node::Fact;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

/// What can stand on the agenda.
pub(crate) enum Happening {
    /// A timer fires: its slot and generation.
    Timer(usize, u64),
    /// A frame arrives.
    Frame(Flight, Bytes),
    /// Something about a connection.
    Net(Later),
    /// A sync of this life's disk ends.
    Synced {
        /// Whose.
        host: usize,
        /// In which life.
        boot: u32,
    },
    /// A shard hears what another shard of its process has said.
    Fact {
        /// Where.
        host: usize,
        /// In which life.
        boot: u32,
        /// Who hears it.
        shard: usize,
        /// What.
        fact: Fact,
    },
}

struct Entry {
    at: u64,
    seq: u64,
    what: Happening,
}

impl Agenda {
    /// Something is to happen at this true time.
    pub(crate) fn add(&mut self, at: u64, what: Happening) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, seq: self.seq, what }));
    }

    /// Takes the next thing that happens up to `until`, and its time; timers that were cancelled are dropped.
    pub(crate) fn next_before(&mut self, until: u64, timers: &Timers) -> Option<(u64, Happening)> {
        loop {
            let Reverse(next) = self.heap.peek()?;
            let cancelled = match next.what {
                Happening::Timer(slot, generation) => !timers.is_set(slot, generation),
                _ => false,
            };
            if !cancelled && next.at > until {
                return None;
            }
            let Reverse(entry) = self.heap.pop()?;
            if !cancelled {
                return Some((entry.at, entry.what));
            }
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}
