//! One partition's hints on one fallback, and who needs them kept: writers who are about to add to them, and
//! homes that are pulling them. While there are any, the store is not destroyed.

use crate::env::Env;
use crate::replica::{Held, Replica};
use bytes::Bytes;
use gramme_core::NodeId;
use gramme_storage::EngineError;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// See the module.
pub(crate) struct HintStore<E: Env> {
    replica: Rc<Replica<E>>,
    /// When its first hint was kept, in milliseconds of the wall clock.
    since_ms: u64,
    /// Homes for which something is kept here.
    wanted_by: RefCell<BTreeSet<NodeId>>,
    /// Homes that have durably seen everything that was here at this count of changes.
    covered: RefCell<BTreeMap<NodeId, u64>>,
    /// Homes to whom it is being offered.
    offering: RefCell<BTreeSet<NodeId>>,
    needed: Cell<usize>,
    reserved: Cell<u64>,
    doomed: Cell<bool>,
    /// Why it could not be removed, if it could not.
    stuck: RefCell<Option<EngineError>>,
}

impl<E: Env> HintStore<E> {
    /// A store without hints.
    pub(crate) fn new(replica: Rc<Replica<E>>, since_ms: u64) -> HintStore<E> {
        HintStore {
            replica,
            since_ms,
            wanted_by: RefCell::default(),
            covered: RefCell::default(),
            offering: RefCell::default(),
            needed: Cell::new(0),
            reserved: Cell::new(0),
            doomed: Cell::new(false),
            stuck: RefCell::default(),
        }
    }

    /// A row that was found on the disk.
    pub(crate) fn remember(&self, row: &Bytes, value: &Bytes) {
        let homes = self.replica.remember(row, value);
        self.wanted_by.borrow_mut().extend(homes);
    }

    /// The records, and the incarnation under which this node coordinates as a fallback.
    pub(crate) fn replica(&self) -> &Rc<Replica<E>> {
        &self.replica
    }

    /// What it takes on the disk.
    pub(crate) fn held(&self) -> Held {
        self.replica.held()
    }

    /// Bytes that writers who are under way may add.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.get()
    }

    /// When its first hint was kept, in milliseconds of the wall clock.
    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// This home has durably seen everything that was here at this count of changes.
    pub(crate) fn cover(&self, home: NodeId, changes: u64) {
        self.covered.borrow_mut().insert(home, changes);
    }

    /// Those of these homes that are not known to have durably seen everything that is here now.
    pub(crate) fn not_covered(&self, homes: &[NodeId]) -> Vec<NodeId> {
        let (covered, now) = (self.covered.borrow(), self.held().changes);
        homes.iter().copied().filter(|home| covered.get(home) != Some(&now)).collect()
    }

    /// Whether something is kept here for this home.
    pub(crate) fn is_wanted_by(&self, home: NodeId) -> bool {
        self.wanted_by.borrow().contains(&home)
    }

    /// Whether nobody is about to add to it, and nobody reads it in a session.
    pub(crate) fn is_unneeded(&self) -> bool {
        self.needed.get() == 0
    }

    /// An offer to this home begins; `false` if one is under way.
    pub(crate) fn begin_offer(&self, home: NodeId) -> bool {
        self.offering.borrow_mut().insert(home)
    }

    /// It has ended.
    pub(crate) fn end_offer(&self, home: NodeId) {
        self.offering.borrow_mut().remove(&home);
    }

    /// It is being removed from now on.
    pub(crate) fn doom(&self) {
        self.doomed.set(true);
        *self.stuck.borrow_mut() = None;
    }

    /// Its removal was broken off.
    pub(crate) fn is_stuck(&self, cause: EngineError) {
        *self.stuck.borrow_mut() = Some(cause);
    }

    /// It takes hints again, with its clock.
    pub(crate) fn keep_on(&self) {
        self.doomed.set(false);
        self.replica.forget_rows();
    }

    /// Whether it is being removed: it takes no hints any more.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.get()
    }

    /// Why it cannot be removed, if so.
    pub(crate) fn stuck(&self) -> Option<EngineError> {
        self.stuck.borrow().clone()
    }
}

/// A place for one hint, or one reader's claim: until it is dropped, the store is not destroyed.
pub(crate) struct Keeping<E: Env> {
    store: Rc<HintStore<E>>,
    bytes: u64,
}

impl<E: Env> Keeping<E> {
    /// Claims the store, and so many bytes of it.
    pub(crate) fn new(store: Rc<HintStore<E>>, bytes: u64) -> Keeping<E> {
        store.needed.set(store.needed.get() + 1);
        store.reserved.set(store.reserved.get() + bytes);
        Keeping { store, bytes }
    }

    /// The records.
    pub(crate) fn replica(&self) -> &Rc<Replica<E>> {
        &self.store.replica
    }

    /// Something is kept here for these homes from now on.
    pub(crate) fn wanted_by(&self, homes: impl IntoIterator<Item = NodeId>) {
        self.store.wanted_by.borrow_mut().extend(homes);
    }
}

impl<E: Env> Drop for Keeping<E> {
    fn drop(&mut self) {
        self.store.needed.set(self.store.needed.get() - 1);
        self.store.reserved.set(self.store.reserved.get() - self.bytes);
    }
}
