//! Records at hand: a bounded map in two generations. What is used moves to the young one; when that has
//! half of the bytes, the old one is forgotten and the young one grows old. Every step is constant work, and
//! nothing in it depends on chance.

use crate::store::Kept;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::rc::Rc;

/// A map by row whose order means nothing; its hash is seeded, so that clients cannot aim at it.
pub(crate) type ByRow<T> = HashMap<Bytes, T, FixedState>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    young: ByRow<(Rc<Kept>, usize)>,
    young_bytes: usize,
    old: ByRow<(Rc<Kept>, usize)>,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache that holds about so many bytes at most; 0 keeps nothing.
    pub(crate) fn new(bytes_max: usize, seed: u64) -> Cache {
        let empty = || ByRow::with_hasher(FixedState::with_seed(seed));
        Cache { young: empty(), young_bytes: 0, old: empty(), bytes_max }
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
            self.old.clear();
            std::mem::swap(&mut self.young, &mut self.old);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Bytes {
        Bytes::copy_from_slice(name.as_bytes())
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_is_forgotten() {
        let mut cache = Cache::new(1000, 7);
        cache.insert(row("used"), Rc::default(), 100);
        for n in 0..100 {
            cache.insert(row(&format!("passing {n}")), Rc::default(), 100);
            assert!(cache.get(&row("used")).is_some(), "after {n} others");
        }
        assert!(cache.get(&row("passing 0")).is_none());
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut cache = Cache::new(1000, 7);
        for n in 0..1000 {
            cache.insert(row(&n.to_string()), Rc::default(), 90);
            let held: usize = cache.young.values().chain(cache.old.values()).map(|entry| entry.1).sum();
            assert!(held <= 1100, "{held} bytes after {n}");
        }
    }

    #[test]
    fn a_row_too_large_to_keep_is_not_kept_and_its_older_state_goes() {
        let mut cache = Cache::new(1000, 7);
        cache.insert(row("k"), Rc::default(), 10);
        cache.insert(row("k"), Rc::default(), 900);
        assert!(cache.get(&row("k")).is_none());
    }

    #[test]
    fn a_removed_row_is_gone_from_both_generations() {
        let mut cache = Cache::new(1000, 7);
        cache.insert(row("old"), Rc::default(), 200);
        cache.insert(row("turns"), Rc::default(), 200);
        cache.insert(row("over"), Rc::default(), 200);
        cache.remove(&row("old"));
        cache.remove(&row("over"));
        assert!(cache.get(&row("old")).is_none() && cache.get(&row("over")).is_none());
    }
}
