//! What every node of a cluster knows alike in the end, without anyone in charge: which layouts there were, which
//! changes are staged, and what each node says of itself (the paper, 4.8; design section 4). A state that merges, and
//! how two nodes find out in few bytes what the other lacks.
//!
//! Everything is an [`Entry`] under a [`Name`], and of two entries under one name the greater wins: later stamp, then
//! tie, then bytes. So merging is commutative, associative and idempotent, whatever the bytes mean. A layout's entry
//! bears its decree *and* its hash: should two ever be certified for one number, both stay, everywhere, as an alarm.
//!
//! An exchange goes from short to long, and ends where nothing differs: [`Gossip::digest`] (eight bytes),
//! [`Gossip::sums`], a [`Gossip::listing`] of the parts whose sums differ, and the entries of the
//! [`Gossip::difference`].
//!
//! It refuses to judge: whether a certificate verifies, or a peer may speak at all, is for its caller to ask before it
//! merges.

mod fact;

pub use fact::NodeFact;

use crate::codec::{BadBytes, Reader, Writer};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::layout::LayoutHash;
use crate::limits::{
    CHAIN_MAX, FACT_BYTES_MAX, GOSSIP_BYTES_MAX, LAYOUT_BYTES_MAX, MEMBERS_MAX, STAGED_BYTES_MAX,
    STAGED_KEY_BYTES_MAX, STAGED_MAX,
};
use crate::paxos::{Decree, read_decree, write_decree};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// The layout of a decree, with its proof.
    Layout(Decree, LayoutHash),
    /// A staged change, under a key that whoever stages chooses: at most [`STAGED_KEY_BYTES_MAX`] bytes.
    Staged(Bytes),
    /// What a node says of itself.
    Node(NodeId),
    /// How far a node has come with the layouts ([`crate::change`]).
    Progress(NodeId),
}

/// What is said, and what decides between two that say different things under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When, in the hybrid time of whoever says it; 0 of layouts, which do not change.
    pub stamp: Stamp,
    /// Decides between equal stamps: the author of a staged change, the life of a node that speaks of itself.
    pub tie: u64,
    /// What; opaque here.
    pub bytes: Bytes,
}

/// One line of a listing: which entry, and how recent, in 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The hash of its name.
    pub name: u64,
    /// Its stamp.
    pub stamp: Stamp,
    /// A hash of all of it.
    pub check: u32,
}

/// What one side has to send, and what it would like to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Entries that the other side lacks, or has older ones of; about [`GOSSIP_BYTES_MAX`] at most, the rest next time.
    pub send: Vec<(Name, Entry)>,
    /// Hashes of the names of those that this side lacks, or has older ones of.
    pub want: Vec<u64>,
}

/// The state that gossip reconciles; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gossip {
    entries: BTreeMap<Name, Entry>,
    sums: Sums,
}

/// Parts of a state, by the hash of the name, so that a difference is found in a part and not in everything.
pub const PARTS: usize = 16;
/// For each part the sum of the hashes of its entries.
pub type Sums = [u64; PARTS];

impl Gossip {
    /// Nothing is known.
    pub fn new() -> Gossip {
        Gossip::default()
    }

    /// In order of name.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.entries.iter()
    }

    /// What is known under a name.
    pub fn get(&self, name: &Name) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The latest decree of which a layout is known, and its layouts: two are an alarm.
    pub fn head(&self) -> Option<(Decree, Vec<LayoutHash>)> {
        let last = self.layouts().map(|(decree, _)| decree).last()?;
        Some((last, self.layouts().filter(|one| one.0 == last).map(|one| one.1).collect()))
    }

    /// Decrees under which two layouts are known: ring changes must stop, and somebody must look.
    pub fn contradictions(&self) -> BTreeSet<Decree> {
        let decrees: Vec<Decree> = self.layouts().map(|(decree, _)| decree).collect();
        decrees.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
    }

    fn layouts(&self) -> impl Iterator<Item = (Decree, LayoutHash)> {
        self.entries.keys().filter_map(|name| match name {
            Name::Layout(decree, hash) => Some((*decree, *hash)),
            _ => None,
        })
    }

    /// A stamp under which this is news to everyone who knows no more than this node: `now`, or later than what is
    /// there. A node that lost its disk, or whose clock went back, is heard all the same.
    pub fn stamp_over(&self, name: &Name, now: Stamp) -> Stamp {
        self.get(name).map_or(now, |entry| now.max(Stamp(entry.stamp.0.saturating_add(1))))
    }

    /// Whether an entry is news: it wins, and is within the limits.
    pub fn is_news(&self, name: &Name, entry: &Entry) -> bool {
        is_within_limits(name, entry)
            && match self.get(name) {
                Some(mine) => mine < entry,
                None => self.has_room(name),
            }
    }

    /// Takes an entry if it is news; says whether it did.
    pub fn merge_one(&mut self, name: &Name, entry: &Entry) -> bool {
        if !self.is_news(name, entry) {
            return false;
        }
        self.remove(name);
        let part = &mut self.sums[part_of(name)];
        *part = part.wrapping_add(hash_of(name, entry));
        self.entries.insert(name.clone(), entry.clone());
        self.forget_old_layouts();
        self.entries.contains_key(name)
    }

    /// Takes everything that wins; says whether anything did.
    pub fn merge(&mut self, other: &Gossip) -> bool {
        other.entries.iter().fold(false, |changed, (name, entry)| self.merge_one(name, entry) | changed)
    }

    /// Drops an entry: of what only this node may say, and has to say anew.
    pub fn forget(&mut self, name: &Name) {
        self.remove(name);
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name) {
            let part = &mut self.sums[part_of(name)];
            *part = part.wrapping_sub(hash_of(name, &entry));
        }
    }

    fn has_room(&self, name: &Name) -> bool {
        let same = |other: &&Name| core::mem::discriminant(*other) == core::mem::discriminant(name);
        let max = match name {
            // The latest stay: one from before the first of a full chain would be forgotten at once.
            Name::Layout(decree, hash) => {
                let first = self.layouts().next();
                return self.layouts().count() < CHAIN_MAX || first < Some((*decree, *hash));
            }
            Name::Staged(_) => STAGED_MAX,
            // As many again as may be members: those that ask to join, and those that have left.
            Name::Node(_) | Name::Progress(_) => 2 * MEMBERS_MAX,
        };
        self.entries.keys().filter(same).count() < max
    }

    /// Keeps the latest [`CHAIN_MAX`]; the same ones wherever the same were known, in whatever order.
    fn forget_old_layouts(&mut self) {
        let excess = self.layouts().count().saturating_sub(CHAIN_MAX);
        let old: Vec<_> = self.layouts().take(excess).collect();
        old.into_iter().for_each(|(decree, hash)| self.remove(&Name::Layout(decree, hash)));
    }

    /// 64 bits that two share only if they know the same, as far as chance can be trusted.
    pub fn digest(&self) -> u64 {
        let mut w = Writer::with_capacity(8 * PARTS);
        self.sums.iter().for_each(|&sum| w.u64(sum));
        xxhash_rust::xxh3::xxh3_64(w.as_slice())
    }

    /// The sums of all parts.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// Which parts differ from these: one bit each.
    pub fn differing(&self, theirs: &Sums) -> u16 {
        (0..PARTS).filter(|&at| self.sums[at] != theirs[at]).fold(0, |parts, at| parts | 1 << at)
    }

    /// Every entry of these parts, in short.
    pub fn listing(&self, parts: u16) -> Vec<Line> {
        self.entries.iter().filter(|(name, _)| is_in(parts, name)).map(|(name, e)| line(name, e)).collect()
    }

    /// What this side has to send to one that lists these parts so, and what it wants from there.
    pub fn difference(&self, parts: u16, theirs: &[Line]) -> Difference {
        let mut theirs: BTreeMap<u64, Line> = theirs.iter().map(|line| (line.name, *line)).collect();
        let (mut send, mut want) = (Vec::new(), Vec::new());
        for (name, entry) in self.entries.iter().filter(|(name, _)| is_in(parts, name)) {
            let mine = line(name, entry);
            match theirs.remove(&mine.name) {
                Some(line) if line == mine => {}
                Some(line) => {
                    // Under equal stamps only the whole entries tell which wins.
                    if line.stamp <= mine.stamp {
                        send.push(name);
                    }
                    if line.stamp >= mine.stamp {
                        want.push(mine.name);
                    }
                }
                None => send.push(name),
            }
        }
        want.extend(theirs.into_keys());
        Difference { send: self.within_bytes(send.into_iter()), want }
    }

    /// The entries under names with these hashes, as far as one message carries them.
    pub fn wanted(&self, names: &[u64]) -> Vec<(Name, Entry)> {
        let names: BTreeSet<u64> = names.iter().copied().collect();
        self.within_bytes(self.entries.keys().filter(|name| names.contains(&name_hash(name))))
    }

    fn within_bytes<'a>(&'a self, names: impl Iterator<Item = &'a Name>) -> Vec<(Name, Entry)> {
        let mut left = GOSSIP_BYTES_MAX;
        let mut entries = Vec::new();
        for (name, entry) in names.filter_map(|name| self.entries.get_key_value(name)) {
            // One always goes, so that the largest is not kept back for ever.
            let bytes = entry_bytes(name, entry);
            if bytes > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            entries.push((name.clone(), entry.clone()));
        }
        entries
    }
}

/// What an entry takes on the wire or on a disk, in bytes.
pub fn entry_bytes(name: &Name, entry: &Entry) -> usize {
    let mut w = Writer::with_capacity(64 + entry.bytes.len());
    write_entry(&mut w, name, entry);
    w.len()
}

/// The bytes of a name, under which its entry is kept.
pub fn name_bytes(name: &Name) -> Bytes {
    let mut w = Writer::new();
    write_name(&mut w, name);
    w.into_bytes()
}

/// Appends an entry with its name.
pub fn write_entry(w: &mut Writer, name: &Name, entry: &Entry) {
    write_name(w, name);
    w.u64(entry.stamp.0);
    w.u64(entry.tie);
    w.slice(&entry.bytes);
}

/// Reads [`write_entry`] back; the bytes are copied, since they outlive what they came in.
pub fn read_entry(r: &mut Reader<'_>) -> Result<(Name, Entry), BadBytes> {
    let name = match r.u8()? {
        LAYOUT => Name::Layout(read_decree(r)?, LayoutHash(r.u128()?)),
        STAGED => Name::Staged(Bytes::copy_from_slice(r.slice()?)),
        NODE => Name::Node(NodeId(r.u64()?)),
        PROGRESS => Name::Progress(NodeId(r.u64()?)),
        _ => return Err(BadBytes::Malformed),
    };
    let entry = Entry { stamp: Stamp(r.u64()?), tie: r.u64()?, bytes: Bytes::copy_from_slice(r.slice()?) };
    if is_within_limits(&name, &entry) { Ok((name, entry)) } else { Err(BadBytes::Malformed) }
}

fn write_name(w: &mut Writer, name: &Name) {
    match name {
        Name::Layout(decree, hash) => {
            w.u8(LAYOUT);
            write_decree(w, *decree);
            w.u128(hash.0);
        }
        Name::Staged(key) => {
            w.u8(STAGED);
            w.slice(key);
        }
        Name::Node(node) => {
            w.u8(NODE);
            w.u64(node.0);
        }
        Name::Progress(node) => {
            w.u8(PROGRESS);
            w.u64(node.0);
        }
    }
}

fn is_within_limits(name: &Name, entry: &Entry) -> bool {
    match name {
        // The proof beside the layout: a certificate names members by 8 bytes each.
        Name::Layout(..) => entry.bytes.len() <= LAYOUT_BYTES_MAX + 16 * MEMBERS_MAX,
        Name::Staged(key) => key.len() <= STAGED_KEY_BYTES_MAX && entry.bytes.len() <= STAGED_BYTES_MAX,
        Name::Node(_) | Name::Progress(_) => entry.bytes.len() <= FACT_BYTES_MAX,
    }
}

fn line(name: &Name, entry: &Entry) -> Line {
    Line { name: name_hash(name), stamp: entry.stamp, check: hash_of(name, entry) as u32 }
}

fn is_in(parts: u16, name: &Name) -> bool {
    parts & 1 << part_of(name) != 0
}

fn part_of(name: &Name) -> usize {
    name_hash(name) as usize % PARTS
}

fn name_hash(name: &Name) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&name_bytes(name))
}

fn hash_of(name: &Name, entry: &Entry) -> u64 {
    let mut w = Writer::with_capacity(64 + entry.bytes.len());
    write_entry(&mut w, name, entry);
    xxhash_rust::xxh3::xxh3_64(w.as_slice())
}

const LAYOUT: u8 = 1;
const STAGED: u8 = 2;
const NODE: u8 = 3;
const PROGRESS: u8 = 4;
