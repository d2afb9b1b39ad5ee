//! A hash tree over one partition's records, by which two replicas find what they hold differently without
//! listing it (the paper, 4.7; correctness.md 4).
//!
//! A key's *item* is a hash of the key, the dots of its siblings in order, and their checksums; a leaf is the
//! XOR of the items of the keys that fall on it, and a node above is the XOR of its sixteen children. So a
//! change is two XORs whoever makes it and in whatever order, nothing but the leaves is stored, and a tree folds
//! to one of less depth: two replicas whose trees differ in depth compare at the lesser.
//!
//! Clocks are no part of an item: replicas strip them at different moments, and what a reader is shown are the
//! siblings. Therefore the tree also sees what no clock shows, such as a sibling that was removed because a
//! retry had left it twice, or one that a disk lost in silence.
//!
//! It refuses to say *what* differs: only on which leaves.

use crate::codec::{BadBytes, Reader, Writer};
use crate::id::Key;
use crate::record::{Content, Record};
use alloc::vec;
use alloc::vec::Vec;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Children of a node.
pub const FAN_OUT: usize = 16;
/// The greatest depth: 65,536 leaves, 1 MiB.
pub const DEPTH_MAX: u8 = 4;
/// The least depth: 256 leaves, 4 KiB, and none before the first key.
pub const DEPTH_MIN: u8 = 2;
/// Keys per leaf from which on a tree is better one level deeper.
pub const KEYS_PER_LEAF: u64 = 64;

/// Whether records that are nothing but tombstones are hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tombstones {
    /// They are: every replica keeps them for ever.
    #[default]
    Counted,
    /// They are not: replicas reclaim them at different moments.
    Skipped,
}

/// What a key contributes to its leaf; 0 is nothing.
pub type Item = u128;

/// The item of a key's record.
pub fn item(key: &Key, record: &Record, tombstones: Tombstones) -> Item {
    let siblings = record.siblings();
    let is_value = |content: &Content| matches!(content, Content::Value(_));
    let nothing = siblings.is_empty()
        || (tombstones == Tombstones::Skipped && !siblings.iter().any(|s| is_value(&s.content)));
    if nothing {
        return 0;
    }
    let mut hash = Xxh3::new();
    hash.update(&(key.as_bytes().len() as u32).to_le_bytes());
    hash.update(key.as_bytes());
    for sibling in siblings {
        hash.update(&sibling.dot.incarnation.0.to_le_bytes());
        hash.update(&sibling.dot.n.to_le_bytes());
        hash.update(&sibling.checksum.to_le_bytes());
    }
    // A key that is there must never look as if it were not.
    hash.digest128().max(1)
}

/// The leaf of a key in a tree of this depth. Its own hash, since the keys of one partition share the top of
/// their places on the ring.
pub fn leaf_of(key: &[u8], depth: u8) -> u32 {
    (xxh3_64_with_seed(key, LEAF_SEED) >> (64 - 4 * u32::from(depth))) as u32
}

/// The depth at which so many keys fall well apart.
pub fn depth_for(keys: u64) -> u8 {
    let enough = |depth: &u8| keys <= KEYS_PER_LEAF << (4 * u32::from(*depth));
    (DEPTH_MIN..DEPTH_MAX).find(enough).unwrap_or(DEPTH_MAX)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Tree {
    depth: u8,
    keys: u64,
    /// Empty while no key was ever there.
    leaves: Vec<Item>,
}

impl Tree {
    /// A tree over nothing. A depth outside of [`DEPTH_MIN`] to [`DEPTH_MAX`] is moved into it.
    pub const fn new(depth: u8) -> Tree {
        let depth = if depth < DEPTH_MIN { DEPTH_MIN } else { depth };
        let depth = if depth > DEPTH_MAX { DEPTH_MAX } else { depth };
        Tree { depth, keys: 0, leaves: Vec::new() }
    }

    /// Its levels below the root.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// How many keys are hashed into it.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes that its leaves take in memory.
    pub fn bytes(&self) -> usize {
        self.leaves.len() * size_of::<Item>()
    }

    /// A key's record has changed from what had the item `before` to what has `after`.
    pub fn change(&mut self, key: &[u8], before: Item, after: Item) {
        if before == after {
            return;
        }
        if self.leaves.is_empty() {
            self.leaves = vec![0; leaves_at(self.depth)];
        }
        self.leaves[leaf_of(key, self.depth) as usize] ^= before ^ after;
        self.keys = self.keys.saturating_add_signed(i64::from(before == 0) - i64::from(after == 0));
    }

    /// The same keys in a tree that is no deeper than this.
    pub fn folded(&self, depth: u8) -> Tree {
        let mut tree = Tree { keys: self.keys, ..Tree::new(depth.min(self.depth)) };
        if !self.leaves.is_empty() {
            let width = leaves_at(self.depth - tree.depth);
            tree.leaves = self.leaves.chunks(width).map(xor).collect();
        }
        tree
    }

    /// The XOR of everything.
    pub fn root(&self) -> Item {
        xor(&self.leaves)
    }

    /// The sixteen children of a node, its level counted from the root at 0; `None` if it has none.
    pub fn children(&self, level: u8, node: u32) -> Option<[Item; FAN_OUT]> {
        if level >= self.depth || node as usize >= leaves_at(level) {
            return None;
        }
        let mut children = [0; FAN_OUT];
        if !self.leaves.is_empty() {
            let width = leaves_at(self.depth - level - 1);
            let first = node as usize * FAN_OUT * width;
            for (child, leaves) in children.iter_mut().zip(self.leaves[first..].chunks(width)) {
                *child = xor(leaves);
            }
        }
        Some(children)
    }

    /// Which children of these nodes differ from `theirs`, the peer's children of the same nodes one after the
    /// other: nodes of the next level, in order. `None` if `theirs` is not an answer to that question.
    pub fn differing(&self, level: u8, nodes: &[u32], theirs: &[Item]) -> Option<Vec<u32>> {
        if theirs.len() != nodes.len() * FAN_OUT {
            return None;
        }
        let mut differing = Vec::new();
        for (&node, theirs) in nodes.iter().zip(theirs.chunks(FAN_OUT)) {
            let mine = self.children(level, node)?;
            let differs = (0u32..).zip(mine.iter().zip(theirs)).filter(|(_, (mine, theirs))| mine != theirs);
            differing.extend(differs.map(|(at, _)| node * FAN_OUT as u32 + at));
        }
        Some(differing)
    }

    /// The leaves, or none if all of them are empty.
    fn held(&self) -> &[Item] {
        if self.leaves.iter().all(|leaf| *leaf == 0) { &[] } else { &self.leaves }
    }
}

/// A tree that was emptied is one that nothing was ever put into.
impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        (self.depth, self.keys, self.held()) == (other.depth, other.keys, other.held())
    }
}

impl Eq for Tree {}

/// Appends a tree. Leaves that hold nothing take a bit.
pub fn write_tree(w: &mut Writer, tree: &Tree) {
    w.u8(tree.depth);
    w.varint(tree.keys);
    w.u8(u8::from(!tree.held().is_empty()));
    for leaves in tree.held().chunks(8) {
        let held = leaves.iter().enumerate().fold(0, |bits, (at, leaf)| bits | u8::from(*leaf != 0) << at);
        w.u8(held);
        leaves.iter().filter(|leaf| **leaf != 0).for_each(|leaf| w.u128(*leaf));
    }
}

/// Reads [`write_tree`] back.
pub fn read_tree(r: &mut Reader<'_>) -> Result<Tree, BadBytes> {
    let depth = r.u8()?;
    if !(DEPTH_MIN..=DEPTH_MAX).contains(&depth) {
        return Err(BadBytes::Malformed);
    }
    let mut tree = Tree { keys: r.varint()?, ..Tree::new(depth) };
    match r.u8()? {
        0 => return Ok(tree),
        1 => {}
        _ => return Err(BadBytes::Malformed),
    }
    // A bit for every leaf must be there before room is made for them.
    if r.remaining() < leaves_at(depth) / 8 {
        return Err(BadBytes::Malformed);
    }
    tree.leaves = Vec::with_capacity(leaves_at(depth));
    for _ in 0..leaves_at(depth) / 8 {
        let held = r.u8()?;
        for at in 0..8 {
            tree.leaves.push(if held >> at & 1 == 1 { r.u128()? } else { 0 });
        }
    }
    Ok(tree)
}

fn leaves_at(depth: u8) -> usize {
    1 << (4 * u32::from(depth))
}

fn xor(items: &[Item]) -> Item {
    items.iter().fold(0, |all, item| all ^ item)
}

/// Any number; it is part of what peers compare.
const LEAF_SEED: u64 = 0x6772_616d_6d65_0001;
