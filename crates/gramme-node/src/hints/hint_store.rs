//! One partition's hints on one fallback, and who needs them kept: writers who are about to add to them, and
//! homes that are pulling them. While there are any, the store is not destroyed.

use crate::env::Env;
use crate::replica::{Held, Replica};
use bytes::Bytes;
use gramme_core::NodeId;
use gramme_storage::EngineError;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// See the module.
pub(crate) struct HintStore<E: Env> {
    replica: Rc<Replica<E>>,
    /// When its first hint was kept, in milliseconds of the wall clock.
    since_ms: u64,
    /// Homes for which something is kept here.
    wanted_by: RefCell<BTreeSet<NodeId>>,
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
