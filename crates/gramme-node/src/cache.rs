//! Records at hand: a bounded map in two generations. What is used moves to the young one; when that has
//! half of the bytes, the old one is forgotten and the young one grows old. Every step is constant work, and
//! nothing in it depends on chance.

use crate::store::Kept;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    young: BTreeMap<Bytes, (Rc<Kept>, usize)>,
    young_bytes: usize,
    old: BTreeMap<Bytes, (Rc<Kept>, usize)>,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache that holds about so many bytes at most; 0 keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Cache {
        Cache { young: BTreeMap::new(), young_bytes: 0, old: BTreeMap::new(), bytes_max }
    }

    /// What is kept of a row.
    pub(crate) fn get(&mut self, row: &Bytes) -> Option<Rc<Kept>> {
        if let Some((kept, _)) = self.young.get(row) {
            return Some(kept.clone());
        }
        let (kept, cost) = self.old.remove(row)?;
        self.insert(row.clone(), kept.clone(), cost);
        Some(kept)
    }

    /// Keeps a row that weighs `cost` bytes.
    pub(crate) fn insert(&mut self, row: Bytes, kept: Rc<Kept>, cost: usize) {
        if cost > self.bytes_max / 4 {
            self.remove(&row);
            return;
        }
        self.old.remove(&row);
        self.young_bytes += cost;
        if let Some((_, replaced)) = self.young.insert(row, (kept, cost)) {
            self.young_bytes -= replaced;
        }
        if self.young_bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Forgets a row.
    pub(crate) fn remove(&mut self, row: &Bytes) {
        if let Some((_, cost)) = self.young.remove(row) {
            self.young_bytes -= cost;
        }
        self.old.remove(row);
    }
}
