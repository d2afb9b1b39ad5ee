//! What a walk is made of: writes with their pasts, stores, nodes, and what travels between them.

use super::{HOMES, KEYS, PAST_WORDS};
use gramme_core::closed::Closed;
use gramme_core::seen::SeenRow;
use gramme_core::{Context, Dot, Frontier, Incarnation, Record, Seen};
use std::rc::Rc;
/// Numbers of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::model) struct Past([u64; PAST_WORDS]);

impl Past {
    pub(in crate::model) fn has(&self, write: usize) -> bool {
        self.0[write / 64] >> (write % 64) & 1 == 1
    }

    pub(in crate::model) fn add(&mut self, write: usize) {
        self.0[write / 64] |= 1 << (write % 64);
    }

    pub(in crate::model) fn join(&mut self, other: &Past) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

/// One client write, with what is true of it and no node knows.
pub(in crate::model) struct Write {
    pub(in crate::model) key: usize,
    pub(in crate::model) delete: bool,
    /// Every write that its client had seen, and theirs.
    pub(in crate::model) past: Past,
    pub(in crate::model) context: Rc<Context>,
    /// One per attempt that a coordinator took.
    pub(in crate::model) dots: Vec<Dot>,
    /// Nodes that coordinated an attempt, and nodes that ever had it durably, as bits.
    pub(in crate::model) coordinators: u8,
    pub(in crate::model) holders: u8,
    pub(in crate::model) acked: bool,
}

/// A partition replica or hint store: in memory, or as its disk has it.
#[derive(Clone)]
pub(in crate::model) struct Store {
    pub(in crate::model) incarnation: Incarnation,
    pub(in crate::model) n: u64,
    pub(in crate::model) records: [Rc<Record>; KEYS],
    pub(in crate::model) seen: Rc<Seen>,
    /// The homes, as bits, that it has yet to pull everything from: until then it has lost its content, is no
    /// source for others, and vouches for nothing.
    pub(in crate::model) awaits: u8,
    /// Greater whenever it has lost what it had.
    pub(in crate::model) life: u64,
    /// R: what everyone has seen, as far as it acts on it.
    pub(in crate::model) frontier: Frontier,
    /// M: what each home last reported as durable, with the life that did.
    pub(in crate::model) reported: [Option<(u64, Frontier)>; HOMES.len()],
    pub(in crate::model) closed: Rc<Closed>,
}

impl Store {
    pub(in crate::model) fn new(incarnation: Incarnation) -> Store {
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

    pub(in crate::model) fn is_joining(&self) -> bool {
        self.awaits != 0
    }

    /// The frontier that it lets others rely on.
    pub(in crate::model) fn vouched(&self) -> Frontier {
        if self.is_joining() { Frontier::none() } else { self.frontier.clone() }
    }

    /// What it has seen of an incarnation.
    pub(in crate::model) fn row(&self, incarnation: Incarnation) -> SeenRow {
        self.seen.row(incarnation).cloned().unwrap_or_default()
    }
}

pub(in crate::model) struct Node {
    pub(in crate::model) alive: bool,
    pub(in crate::model) live: Store,
    pub(in crate::model) durable: Store,
    pub(in crate::model) backup: Option<Store>,
}

#[derive(Clone)]
pub(in crate::model) enum Message {
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
pub(in crate::model) struct Session {
    pub(in crate::model) seen: Rc<Seen>,
    pub(in crate::model) frontier: Frontier,
    pub(in crate::model) closed: Rc<Closed>,
    /// What the puller has not seen.
    pub(in crate::model) news: Vec<usize>,
    pub(in crate::model) records: [Rc<Record>; KEYS],
}

/// A context in some client's hands.
#[derive(Clone)]
pub(in crate::model) struct Held {
    pub(in crate::model) key: usize,
    pub(in crate::model) context: Rc<Context>,
    pub(in crate::model) past: Past,
    /// Whether a put answered with it.
    pub(in crate::model) of_put: bool,
}
