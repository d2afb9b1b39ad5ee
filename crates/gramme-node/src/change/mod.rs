//! How a node comes from one layout to the next while it serves ([`gramme_core::change`] has the rules, correctness.md 5.3
//! the proof; docs/membership.md tells it to people).
//!
//! ```text
//! stage     what administrators want, and what that would come to
//! commit    one decree after the other is settled among the members, by Paxos
//! steps     shard 0 sees what everyone has said, and takes the step that may be taken next
//! install   a shard takes over the layouts by which it works: homes that come are opened, homes that go are left
//! leave     what a former home keeps is offered to the homes, and wiped once all of them have it
//! transfers what comes and goes, for people, and the brake
//! ```
//! New homes are filled by the sessions that also refill a replica that lost something ([`crate::exchange`]): everything of every
//! other home by any live layout.
//!
//! Invariant: what a node says of its progress is durable before it is told, and true of all its shards.

pub(crate) mod commit;
pub(crate) mod install;
pub(crate) mod leave;
mod load;
pub(crate) mod stage;
pub(crate) mod status;
pub(crate) mod steps;
pub(crate) mod transfers;

pub(crate) use load::{Remembered, load_acceptor};

use crate::env::{Mono, Ring};
use crate::live::Live;
use crate::signal::Signal;
use gramme_core::NodeId;
use gramme_core::change::{Chain, Stand};
use gramme_core::paxos::{Acceptor, Decree};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What shard 0 hands to every shard: by which layouts to work from now on.
#[derive(Clone, Debug)]
pub struct Installing {
    /// Greater each time, within one life of the process.
    pub(crate) epoch: u64,
    pub(crate) live: Live,
}

impl PartialEq for Installing {
    fn eq(&self, other: &Installing) -> bool {
        self.epoch == other.epoch
    }
}

/// How far one shard has come with what it was handed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which shard.
    pub(crate) shard: usize,
    /// Grows with each of its reports, within one life of the process: what shards tell each other may arrive in any order.
    pub(crate) number: u64,
    /// What it works by.
    pub(crate) epoch: u64,
    /// Nothing is under way that began by earlier ones.
    pub(crate) drained: bool,
    /// Its homes by the newest layout hold all that they must.
    pub(crate) filled: bool,
    /// It keeps nothing for others: neither hints nor what it was once a home of.
    pub(crate) empty: bool,
}

/// What shard 0 knows of the change that is under way.
pub(crate) struct Changing {
    pub(crate) chain: RefCell<Chain>,
    /// This member's memory of the decree that is open; `None` once it has lost that, until the decree is settled.
    pub(crate) acceptor: RefCell<Option<Acceptor>>,
    /// Once it has: it votes again when this decree is settled.
    pub(crate) silent_until: Cell<Option<Decree>>,
    pub(crate) stand: RefCell<Option<Stand>>,
    /// By which layouts the shards were told to work, and when they were told last.
    installed: RefCell<Arc<Live>>,
    epoch: Cell<u64>,
    reports: RefCell<BTreeMap<usize, Report>>,
    /// What the outside was told last.
    told: RefCell<Option<Arc<Ring>>>,
    /// Something is known that was not.
    pub(crate) news: Signal,
    /// When a peer was last compared with because its writes go by other layouts.
    pub(crate) compared_at: Cell<Mono>,
    /// Whether a commit runs here: one at a time.
    pub(crate) committing: Cell<bool>,
    /// Removed nodes that have nothing left.
    pub(crate) gone: RefCell<BTreeSet<NodeId>>,
}

impl Changing {
    pub(crate) fn new(chain: Chain, acceptor: Option<Acceptor>, live: Live) -> Changing {
        Changing {
            chain: RefCell::new(chain),
            acceptor: RefCell::new(acceptor),
            silent_until: Cell::new(None),
            stand: RefCell::default(),
            installed: RefCell::new(Arc::new(live)),
            epoch: Cell::new(1),
            reports: RefCell::default(),
            told: RefCell::default(),
            news: Signal::default(),
            compared_at: Cell::default(),
            committing: Cell::new(false),
            gone: RefCell::default(),
        }
    }
}
