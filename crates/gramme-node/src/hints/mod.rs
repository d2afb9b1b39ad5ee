//! What a node keeps for homes that missed it: one *hint store* per partition, apart from home data, under an
//! incarnation of its own (the paper, 4.6, HH-3; design section 6).
//!
//! Nothing but the hint rows is state: counts, bytes and the seen clock are read from them when a shard opens. So
//! a store of which half was removed when the node crashed speaks for what is left of it, and no more.
//!
//! Invariant: a hint store is destroyed whole, rows, seen clock and incarnation, and only when every home has
//! durably seen everything in it. Deleting what was handed over while keeping the clock would make the clock lie
//! (correctness.md 2.4).
//!
//! It refuses hints beyond its bounds, by name, so that the coordinator asks the next fallback; and it never
//! forgets one to make room for another.

pub(crate) mod handoff;
mod hint_store;

pub(crate) use hint_store::{HintStore, Keeping};

use crate::closing::AllEnds;
use crate::env::Env;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::{Replica, disk};
use crate::rows::{self, KIND_HINT, KIND_HINTS_SINCE};
use crate::signal::Signal;
use crate::store::Store;
use gramme_core::limits::{HINT_RUNS_MAX, HINT_STORE_BYTES_MAX, HINTS_ALARM_PERCENT};
use gramme_core::planted::{self, Bug};
use gramme_core::{Hlc, NodeId, PartitionId};
use gramme_storage::{Engine, EngineError};
use gramme_wire::Reason;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The hint stores of one shard.
pub(crate) struct HintStores<E: Env> {
    env: E,
    node: NodeId,
    store: Rc<Store<E>>,
    hlc: Rc<RefCell<Hlc>>,
    ends: Rc<AllEnds>,
    /// All of them together, in bytes.
    bytes_max: u64,
    stores: RefCell<BTreeMap<PartitionId, Rc<HintStore<E>>>>,
    /// Per cent at which the alarm stands; 0 if it does not.
    alarm: Cell<u64>,
    /// Told when a store is gone, or cannot be removed.
    changed: Signal,
    /// Offers that are under way.
    offers: Cell<usize>,
    /// Whether more would be, if they might.
    offers_wait: Cell<bool>,
    /// Whether the next round of handoff is due at once.
    hurry: Cell<bool>,
    hurried: Signal,
}

/// What a shard keeps for others, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintsStatus {
    /// Hints: keys of which a version is kept for some home.
    pub hints: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What they may take.
    pub bytes_max: u64,
    /// Hint stores.
    pub stores: usize,
    /// The age of the oldest, in milliseconds by the wall clock; 0 if there is none.
    pub oldest_ms: u64,
    /// Whether so much is kept that somebody should look: from [`HINTS_ALARM_PERCENT`] of what may be.
    pub alarm: bool,
}

impl<E: Env> HintStores<E> {
    /// No stores yet; all of them together may take so many bytes.
    pub(crate) fn new(
        env: E,
        node: NodeId,
        store: Rc<Store<E>>,
        hlc: Rc<RefCell<Hlc>>,
        ends: Rc<AllEnds>,
        bytes_max: u64,
    ) -> HintStores<E> {
        let stores = RefCell::default();
        HintStores {
            env,
            node,
            store,
            hlc,
            ends,
            bytes_max,
            stores,
            alarm: Cell::new(0),
            changed: Signal::default(),
            offers: Cell::new(0),
            offers_wait: Cell::new(false),
            hurry: Cell::new(false),
            hurried: Signal::default(),
        }
    }

    /// Reads back what a partition's hint store holds, if there is one, and gives it a fresh incarnation.
    pub(crate) async fn load(&self, partition: PartitionId) -> Result<(), EngineError> {
        let since = self.env.engine().get(&rows::row(partition.0, KIND_HINTS_SINCE, &[])).await?;
        let mut found: Option<Rc<HintStore<E>>> = None;
        let mut pages = Pages::of(rows::row(partition.0, KIND_HINT, &[]), 1024, 4 << 20);
        while let Some(page) = pages.next(|scan| self.env.engine().scan(scan)).await? {
            for (row, value) in &page.rows {
                let store = match &found {
                    Some(store) => store,
                    None => found.insert(self.create(partition, since.as_deref())?),
                };
                store.remember(row, value);
            }
        }
        self.look();
        Ok(())
    }

    /// A place in the hint store of a partition for about so many bytes, which is opened, under an incarnation of
    /// its own, when first asked for. While the store before it is being removed, this waits.
    pub(crate) async fn keep(&self, partition: PartitionId, bytes: usize) -> Result<Keeping<E>, Reason> {
        let store = self.changed.wait_for(|| self.open(partition).transpose()).await?;
        self.check_room(&store, bytes as u64)?;
        let keeping = Keeping::new(store, bytes as u64);
        self.look();
        Ok(keeping)
    }

    /// A reader's claim on the hint store of a partition, if there is one that is not on its way out.
    pub(crate) fn read(&self, partition: PartitionId) -> Option<Keeping<E>> {
        self.get(partition).filter(|store| !store.is_doomed()).map(|store| Keeping::new(store, 0))
    }

    /// Every store, in order of partition.
    fn all(&self) -> Vec<(PartitionId, Rc<HintStore<E>>)> {
        self.stores.borrow().iter().map(|(&partition, store)| (partition, store.clone())).collect()
    }

    /// The next round of handoff is due at once.
    fn hurry(&self) {
        self.hurry.set(true);
        self.hurried.notify();
    }

    /// Whether nothing is kept for anyone.
    pub(crate) fn is_empty(&self) -> bool {
        self.stores.borrow().is_empty()
    }

    /// Takes a place for one offer of a store to a home; `false` if there is none, or one is under way.
    fn begin_offer(&self, store: &HintStore<E>, home: NodeId, max: usize) -> bool {
        if self.offers.get() >= max {
            self.offers_wait.set(true);
            return false;
        }
        let begun = store.begin_offer(home);
        self.offers.set(self.offers.get() + usize::from(begun));
        begun
    }

    fn end_offer(&self, store: &HintStore<E>, home: NodeId) {
        store.end_offer(home);
        self.offers.set(self.offers.get() - 1);
        if self.offers_wait.take() {
            self.hurry();
        }
    }

    /// A store's rows are removed, or not all of them because of this.
    fn gone(&self, partition: PartitionId, store: &HintStore<E>, failed: Option<EngineError>) {
        match failed {
            None if planted::on(Bug::HintClockKept) => store.keep_on(),
            None => {
                self.stores.borrow_mut().remove(&partition);
            }
            Some(cause) => store.is_stuck(cause),
        }
        self.look();
        self.changed.notify();
    }

    /// The hint store of a partition, if there is one.
    pub(crate) fn get(&self, partition: PartitionId) -> Option<Rc<HintStore<E>>> {
        self.stores.borrow().get(&partition).cloned()
    }

    /// Everything that the stores hold; raises the alarm if that is much, and calls it off once it is less.
    pub(crate) fn look(&self) {
        self.look_at(100 * self.bytes() / self.bytes_max.max(1));
    }

    fn look_at(&self, percent: u64) {
        let stands = self.alarm.get();
        let level = if percent >= 100 { 100 } else { HINTS_ALARM_PERCENT };
        if percent >= HINTS_ALARM_PERCENT && level > stands {
            self.alarm.set(level);
            self.env.probe(Probe::HintsAlarm(percent));
        } else if percent < HINTS_ALARM_PERCENT - ALARM_OFF_PERCENT {
            self.alarm.set(0);
        }
    }

    /// For people.
    pub(crate) fn status(&self) -> HintsStatus {
        let stores = self.stores.borrow();
        let now_ms = self.env.wall_ms();
        let oldest = stores.values().map(|store| store.since_ms()).min();
        HintsStatus {
            hints: stores.values().map(|store| store.held().rows).sum(),
            bytes: stores.values().map(|store| store.held().bytes).sum(),
            bytes_max: self.bytes_max,
            stores: stores.len(),
            oldest_ms: oldest.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)),
            alarm: self.alarm.get() > 0,
        }
    }

    /// The store that takes hints for a partition; `None` while the one before is on its way out.
    fn open(&self, partition: PartitionId) -> Result<Option<Rc<HintStore<E>>>, Reason> {
        if let Some(store) = self.get(partition) {
            return match store.stuck() {
                Some(cause) => Err(disk(cause)),
                None => Ok((!store.is_doomed()).then_some(store)),
            };
        }
        self.create(partition, None).map(Some).map_err(disk)
    }

    fn create(&self, partition: PartitionId, since: Option<&[u8]>) -> Result<Rc<HintStore<E>>, EngineError> {
        let (store, hlc, ends) = (self.store.clone(), self.hlc.clone(), self.ends[&partition].clone());
        let replica = Replica::fallback(self.env.clone(), self.node, store, hlc, partition, ends)?;
        let since_ms = since.and_then(|bytes| rows::decode_since(bytes).ok());
        let since_ms = match since_ms {
            Some(since_ms) => since_ms,
            None => {
                let now_ms = self.env.wall_ms();
                let row = rows::row(partition.0, KIND_HINTS_SINCE, &[]);
                self.store.append_plain([(row, rows::encode_since(now_ms))])?;
                now_ms
            }
        };
        let created = Rc::new(HintStore::new(Rc::new(replica), since_ms));
        self.stores.borrow_mut().insert(partition, created.clone());
        Ok(created)
    }

    fn bytes(&self) -> u64 {
        self.stores.borrow().values().map(|store| store.held().bytes + store.reserved()).sum()
    }

    fn check_room(&self, store: &HintStore<E>, bytes: u64) -> Result<(), Reason> {
        let fits = self.bytes() + bytes <= self.bytes_max
            && store.held().bytes + store.reserved() + bytes <= HINT_STORE_BYTES_MAX
            && store.replica().seen_runs() < HINT_RUNS_MAX;
        if fits {
            return Ok(());
        }
        self.env.probe(Probe::HintsFull);
        self.look_at(100);
        Err(Reason::HintsFull)
    }
}

/// The alarm is called off so far below where it is raised, or it would be raised with every other hint.
const ALARM_OFF_PERCENT: u64 = 10;
