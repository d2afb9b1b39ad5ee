//! One partition as its tree sees it: the tree that every write changes, and the one that is being built beside it
//! while a scan goes through the partition.
//!
//! The scan reads what the engine shows, page by page, while writes go on. A write to a key that the scan has
//! passed changes the new tree; one ahead of it is *touched*: noted, and put in place of what the page shows. So
//! the new tree is whole at the scan's end, however long that takes.

use crate::env::Mono;
use bytes::Bytes;
use gramme_core::merkle::{DEPTH_MAX, Item, Tree};
use gramme_core::planted::{self, Bug};
use gramme_core::{Key, NodeId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(crate) struct Watched {
    tree: Option<Tree>,
    scan: Option<Scanning>,
    /// Whether the store holds this very tree.
    checkpointed: bool,
    dirty: bool,
    /// What is known of its audits, by the other home.
    pub(crate) audits: BTreeMap<NodeId, Audited>,
    /// When it was last read as a whole.
    pub(crate) scanned_at: Option<Mono>,
    /// Reads it as a whole as soon as may be.
    pub(crate) scan_wanted: bool,
    /// Rows of the last scan that could not be read or whose values fail their checksums.
    pub(crate) corrupt: u64,
    /// Scans that made another tree than the one that writes had kept.
    pub(crate) mismatches: u64,
}

/// How a partition compares with another home's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Audited {
    /// When it was last found to be the same, or made so.
    pub(crate) verified_at: Option<Mono>,
    /// Since when an audit has found it different and could not repair all of it.
    pub(crate) differs_since: Option<Mono>,
}

struct Scanning {
    tree: Tree,
    /// The last key that is in the new tree; all are once the scan has ended.
    cursor: Option<Bytes>,
    touched: BTreeMap<Bytes, Item>,
}

impl Watched {
    /// A partition whose tree is known, or not yet.
    pub(crate) fn new(tree: Option<Tree>) -> Watched {
        Watched { checkpointed: tree.is_some(), tree, ..Watched::default() }
    }

    /// The tree, if it has been built.
    pub(crate) fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// A key's item has changed; whether the checkpoint is thereby untrue.
    pub(crate) fn changed(&mut self, key: &Key, before: Item, after: Item) -> bool {
        if after == 0 && planted::on(Bug::TreeForgetsRemovals) {
            return false;
        }
        if let Some(tree) = &mut self.tree {
            tree.change(key.as_bytes(), before, after);
            self.dirty = true;
        }
        if let Some(scan) = &mut self.scan {
            if scan.cursor.as_ref().is_some_and(|cursor| key.as_bytes() <= &cursor[..]) {
                scan.tree.change(key.as_bytes(), before, after);
            } else {
                scan.touched.insert(Bytes::copy_from_slice(key.as_bytes()), after);
            }
        }
        std::mem::take(&mut self.checkpointed)
    }

    /// Nothing is known of the tree any more; it is built anew.
    pub(crate) fn forget(&mut self) {
        (self.tree, self.scan, self.checkpointed) = (None, None, false);
    }

    /// The tree, to be stored as the checkpoint, if it is not there already and nothing has changed lately: a tree
    /// that is looked at twice in a row without a change between is quiet.
    pub(crate) fn take_checkpoint(&mut self, at_any_rate: bool) -> Option<&Tree> {
        let is_busy = std::mem::take(&mut self.dirty) && !at_any_rate;
        let tree = self.tree.as_ref().filter(|_| !self.checkpointed && !is_busy)?;
        self.checkpointed = true;
        Some(tree)
    }

    /// A scan begins.
    pub(crate) fn scan_begins(&mut self) {
        self.scan = Some(Scanning { tree: Tree::new(DEPTH_MAX), cursor: None, touched: BTreeMap::new() });
    }

    /// The engine is about to be asked for the next page; everything that was written before is durable there.
    pub(crate) fn page_begins(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.touched.clear();
        }
    }

    /// A page has come: the items of the keys after the last page's, in order, up to `last`, or to the end.
    pub(crate) fn page_read(&mut self, items: &[(Bytes, Item)], last: Option<Bytes>) {
        let Some(scan) = &mut self.scan else { return };
        let within = |key: &Bytes| last.as_ref().is_none_or(|last| key <= last);
        let touched = std::mem::take(&mut scan.touched);
        for (key, shown) in items {
            scan.tree.change(key, 0, touched.get(key).copied().unwrap_or(*shown));
        }
        let is_shown = |key: &Bytes| items.binary_search_by(|item| item.0.cmp(key)).is_ok();
        for (key, item) in &touched {
            if within(key) && !is_shown(key) {
                scan.tree.change(key, 0, *item);
            }
        }
        // What was touched ahead of the page is read again with its own.
        scan.cursor = last;
    }

    /// The last page has been read: the new tree, folded to this depth, takes the old one's place, unless rows that
    /// cannot be read are missing from it. Says whether the old one was another.
    pub(crate) fn scan_ends(&mut self, depth: u8, now: Mono, whole: bool) -> bool {
        let Some(scan) = self.scan.take() else { return false };
        (self.scanned_at, self.scan_wanted) = (Some(now), false);
        if !whole && self.tree.is_some() {
            return false;
        }
        let built = scan.tree.folded(depth);
        let differed = self.tree.as_ref().is_some_and(|old| {
            let depth = old.depth().min(built.depth());
            old.folded(depth) != built.folded(depth)
        });
        if differed || self.tree.as_ref().is_none_or(|old| old.depth() != built.depth()) {
            self.checkpointed = false;
            self.tree = Some(built);
        }
        self.mismatches += u64::from(differed);
        differed
    }

    /// The keys that the new tree holds so far.
    pub(crate) fn keys_scanned(&self) -> u64 {
        self.scan.as_ref().map_or(0, |scan| scan.tree.keys())
    }

    /// The scan could not go on.
    pub(crate) fn scan_failed(&mut self) {
        self.scan = None;
    }
}
