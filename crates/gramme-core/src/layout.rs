//! Who keeps what: an immutable, numbered assignment of partitions to members. Static membership is layout
//! version 1; each later version names the one that it follows by its hash (design section 4).
//!
//! Invariant: every partition has N distinct homes in order, then every other member as a fallback in
//! rendezvous order, other zones first. The same members, N and Q give the same bytes on every node, and the same
//! staged changes the same next versions. A node that was once removed is in no later version.
//!
//! The first version's homes come from the paper's walk with a bound on each member's share (`placement`), later ones
//! from what is [`staged`] and the least moves that it takes ([`plan`](mod@plan)).
//!
//! A layout refuses to know who is up: an outage never changes membership (ME-1).

use crate::codec::{BadBytes, Reader, Writer, seal, unseal};
use crate::id::{NodeId, PartitionId};
use crate::limits::{LAYOUT_BYTES_MAX, MEMBERS_MAX, N_MAX, PARTITIONS_MAX, REMOVED_MAX};
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use md5::{Digest, Md5};

mod assign;
mod flow;
mod placement;
pub mod plan;
pub mod staged;
mod steps;

/// One node of the cluster, as the layout knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// What people call it; distinct within a cluster.
    pub name: String,
    /// Where peers reach it: `host:port`.
    pub address: String,
    /// Where clients reach its HTTP door: `host:port`.
    pub http: String,
    /// What fails together with it.
    pub zone: String,
    /// Its share of the partitions, relative to the others; at least 1.
    pub weight: u32,
}

/// The hash of a layout's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutHash(pub u128);

impl fmt::Display for LayoutHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One version of the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    version: u64,
    parent: LayoutHash,
    n: usize,
    members: Vec<Member>,
    removed: BTreeSet<NodeId>,
    lost: BTreeSet<NodeId>,
    back_to: u64,
    /// `n` indices into `members` per partition.
    slots: Vec<u16>,
    /// All members per partition: homes in order, then fallbacks in order.
    preference: Vec<NodeId>,
    hash: LayoutHash,
}

/// Why members cannot form a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadLayout {
    /// Fewer members than copies, or none.
    TooFewMembers {
        /// How many there are.
        members: usize,
        /// How many copies were asked for.
        n: usize,
    },
    /// More than [`MEMBERS_MAX`].
    TooManyMembers(usize),
    /// N is not within 1 to [`N_MAX`].
    Copies(usize),
    /// Q is not a power of two within 1 to [`PARTITIONS_MAX`].
    Partitions(usize),
    /// Two members share what must be distinct: an id, a name or an address.
    Twice(String),
    /// A weight of 0.
    NoWeight(String),
    /// More nodes were removed than [`REMOVED_MAX`].
    TooManyRemoved,
    /// Its bytes are more than [`LAYOUT_BYTES_MAX`]; says how many.
    TooLarge(usize),
}

impl fmt::Display for BadLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLayout::TooFewMembers { members, n } => {
                write!(
                    f,
                    "{members} members cannot keep {n} copies on distinct nodes: add members or lower n"
                )
            }
            BadLayout::TooManyMembers(members) => {
                write!(f, "{members} members: at most {MEMBERS_MAX} are allowed")
            }
            BadLayout::Copies(n) => write!(f, "n is {n}: use 1 to {N_MAX}"),
            BadLayout::Partitions(q) => {
                write!(f, "partitions is {q}: use a power of two from 1 to {PARTITIONS_MAX}")
            }
            BadLayout::Twice(what) => write!(f, "two members have the same {what}: each needs its own"),
            BadLayout::NoWeight(name) => write!(f, "member {name} has weight 0: use 1 or more"),
            BadLayout::TooManyRemoved => {
                write!(
                    f,
                    "{REMOVED_MAX} nodes have been removed, as many as are remembered: move to a new cluster"
                )
            }
            BadLayout::TooLarge(bytes) => write!(
                f,
                "the layout would take {bytes} bytes, and {LAYOUT_BYTES_MAX} are allowed: use shorter names, addresses and zones"
            ),
        }
    }
}

impl core::error::Error for BadLayout {}

impl Layout {
    /// Layout version 1 for a fixed list of members: `n` copies of each of `partitions` partitions.
    pub fn first(mut members: Vec<Member>, n: usize, partitions: usize) -> Result<Layout, BadLayout> {
        check(&members, n, partitions)?;
        members.sort_by_key(|member| member.id);
        let slots = placement::place(&members, n, partitions);
        let frame = Frame {
            version: 1,
            parent: LayoutHash::default(),
            n,
            members,
            removed: BTreeSet::new(),
            lost: BTreeSet::new(),
            back_to: 0,
        };
        Ok(Layout::assemble(frame, slots))
    }

    /// The version after this one: `homes` are `n` of `members` for each partition, in order of slots. Members of
    /// this version that are not among them are removed for good; of those that are `lost` nothing is awaited.
    fn next(
        &self,
        mut members: Vec<Member>,
        homes: &[Vec<NodeId>],
        lost: BTreeSet<NodeId>,
    ) -> Result<Layout, BadLayout> {
        check(&members, self.n, homes.len())?;
        members.sort_by_key(|member| member.id);
        let at = |id: &NodeId| members.binary_search_by_key(id, |member| member.id);
        let gone = self.members.iter().map(|member| member.id).filter(|id| at(id).is_err());
        let removed: BTreeSet<NodeId> = self.removed.iter().copied().chain(gone).collect();
        if removed.len() > REMOVED_MAX {
            return Err(BadLayout::TooManyRemoved);
        }
        let slots = homes.iter().flatten().map(|id| at(id).expect("homes are members") as u16).collect();
        let (version, parent, n) = (self.version + 1, self.hash, self.n);
        let next = Layout::assemble(Frame { version, parent, n, members, removed, lost, back_to: 0 }, slots);
        let bytes = next.encode().len();
        if bytes > LAYOUT_BYTES_MAX { Err(BadLayout::TooLarge(bytes)) } else { Ok(next) }
    }

    /// The version after this one that makes undone whatever came after `base`: its members, its slots. Who had come
    /// since goes, and may come again; who was to go stays.
    pub fn back_to_that_of(&self, base: &Layout) -> Layout {
        let frame = Frame {
            version: self.version + 1,
            parent: self.hash,
            n: base.n,
            members: base.members.clone(),
            removed: base.removed.clone(),
            lost: base.lost.clone(),
            back_to: base.version,
        };
        Layout::assemble(frame, base.slots.clone())
    }

    /// Its number; 1 is the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The hash of the layout that it follows; zero for the first.
    pub fn parent(&self) -> LayoutHash {
        self.parent
    }

    /// The hash of its own bytes.
    pub fn hash(&self) -> LayoutHash {
        self.hash
    }

    /// Copies of each partition.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Q, the number of partitions: a power of two.
    pub fn partitions(&self) -> usize {
        self.slots.len() / self.n
    }

    /// In order of id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.binary_search_by_key(&id, |member| member.id).ok().map(|at| &self.members[at])
    }

    /// Those who were members of earlier versions and may never be again: others hold what they held, and went on.
    pub fn removed(&self) -> &BTreeSet<NodeId> {
        &self.removed
    }

    /// Nodes of which nothing is awaited while this version is reached, since they are lost for good: no word, and nothing
    /// of what only they held.
    pub fn lost(&self) -> &BTreeSet<NodeId> {
        &self.lost
    }

    /// The version whose assignment this one returns to, leaving out those between; 0 if it goes on from its parent.
    pub fn back_to(&self) -> u64 {
        self.back_to
    }

    /// The N homes of a partition, in order.
    pub fn homes(&self, partition: PartitionId) -> &[NodeId] {
        &self.preference_list(partition)[..self.n]
    }

    /// The other members, in the order in which they take a home's place.
    pub fn fallbacks(&self, partition: PartitionId) -> &[NodeId] {
        &self.preference_list(partition)[self.n..]
    }

    /// All members in order of preference: homes, then fallbacks (RE-3).
    pub fn preference_list(&self, partition: PartitionId) -> &[NodeId] {
        let width = self.members.len();
        let at = partition.0 as usize * width;
        &self.preference[at..at + width]
    }

    /// Whether a node is a home of a partition.
    pub fn is_home(&self, partition: PartitionId, node: NodeId) -> bool {
        self.homes(partition).contains(&node)
    }

    /// How many slots a member fills.
    pub fn slots_of(&self, node: NodeId) -> usize {
        match self.members.binary_search_by_key(&node, |member| member.id) {
            Ok(at) => self.slots.iter().filter(|&&slot| slot as usize == at).count(),
            Err(_) => 0,
        }
    }

    /// The bytes that every node keeps and compares; byte table: `docs/format/layout.md`.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write_body(&mut w);
        seal(&mut w, 0);
        w.into_vec()
    }

    /// Reads [`Layout::encode`] back and checks that it is a layout at all.
    pub fn decode(bytes: &[u8]) -> Result<Layout, BadBytes> {
        let format = match unseal(bytes, FORMAT_OF_FIRST) {
            Err(BadBytes::Version(later @ (FORMAT_OF_LATER | FORMAT_WITH_LOST))) => later,
            opened => opened.map(|_| FORMAT_OF_FIRST)?,
        };
        let mut r = unseal(bytes, format)?;
        let version = r.varint()?;
        let parent = LayoutHash(r.u128()?);
        let is_first = version == 1 && parent == LayoutHash::default();
        if version == 0 || is_first != (format == FORMAT_OF_FIRST) {
            return Err(BadBytes::Malformed);
        }
        let n = r.count(N_MAX)?;
        let partitions = r.count(PARTITIONS_MAX)?;
        let count = r.count(MEMBERS_MAX)?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(read_member(&mut r)?);
        }
        check(&members, n, partitions).map_err(|_| BadBytes::Malformed)?;
        if !members.windows(2).all(|pair| pair[0].id < pair[1].id) {
            return Err(BadBytes::Malformed);
        }
        let removed = if is_first { BTreeSet::new() } else { read_ids(&mut r, REMOVED_MAX)? };
        let (lost, back_to) = match format {
            FORMAT_WITH_LOST => (read_ids(&mut r, MEMBERS_MAX)?, r.varint()?),
            _ => (BTreeSet::new(), 0),
        };
        if back_to >= version {
            return Err(BadBytes::Malformed);
        }
        if members.iter().any(|member| removed.contains(&member.id)) {
            return Err(BadBytes::Malformed);
        }
        let mut slots = Vec::with_capacity(n * partitions);
        for _ in 0..n * partitions {
            slots.push(r.count(count - 1)? as u16);
        }
        r.end()?;
        let distinct = slots.chunks(n).all(|homes| homes.iter().collect::<BTreeSet<_>>().len() == n);
        if !distinct {
            return Err(BadBytes::Malformed);
        }
        Ok(Layout::assemble(Frame { version, parent, n, members, removed, lost, back_to }, slots))
    }

    fn assemble(frame: Frame, slots: Vec<u16>) -> Layout {
        let Frame { version, parent, n, members, removed, lost, back_to } = frame;
        let mut preference = Vec::with_capacity(members.len() * slots.len() / n);
        for (partition, homes) in slots.chunks(n).enumerate() {
            preference.extend(homes.iter().map(|&home| members[home as usize].id));
            preference.extend(fallback_order(&members, homes, partition));
        }
        let hash = LayoutHash::default();
        let mut layout =
            Layout { version, parent, n, members, removed, lost, back_to, slots, preference, hash };
        let mut w = Writer::new();
        layout.write_body(&mut w);
        let digest: [u8; 16] = Md5::digest(w.as_slice()).into();
        layout.hash = LayoutHash(u128::from_be_bytes(digest));
        layout
    }

    fn write_body(&self, w: &mut Writer) {
        let format = match self.version {
            1 => FORMAT_OF_FIRST,
            _ if self.lost.is_empty() && self.back_to == 0 => FORMAT_OF_LATER,
            _ => FORMAT_WITH_LOST,
        };
        w.u8(format);
        w.varint(self.version);
        w.u128(self.parent.0);
        w.varint(self.n as u64);
        w.varint(self.partitions() as u64);
        w.varint(self.members.len() as u64);
        for member in &self.members {
            write_member(w, member);
        }
        if self.version > 1 {
            w.varint(self.removed.len() as u64);
            self.removed.iter().for_each(|id| w.u64(id.0));
        }
        if format == FORMAT_WITH_LOST {
            w.varint(self.lost.len() as u64);
            self.lost.iter().for_each(|id| w.u64(id.0));
            w.varint(self.back_to);
        }
        for &slot in &self.slots {
            w.varint(u64::from(slot));
        }
    }
}

/// A layout but for its slots and what follows from them.
struct Frame {
    version: u64,
    parent: LayoutHash,
    n: usize,
    members: Vec<Member>,
    removed: BTreeSet<NodeId>,
    lost: BTreeSet<NodeId>,
    back_to: u64,
}

fn check(members: &[Member], n: usize, partitions: usize) -> Result<(), BadLayout> {
    if n == 0 || n > N_MAX {
        return Err(BadLayout::Copies(n));
    }
    if members.len() < n {
        return Err(BadLayout::TooFewMembers { members: members.len(), n });
    }
    if members.len() > MEMBERS_MAX {
        return Err(BadLayout::TooManyMembers(members.len()));
    }
    if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
        return Err(BadLayout::Partitions(partitions));
    }
    if let Some(member) = members.iter().find(|member| member.weight == 0) {
        return Err(BadLayout::NoWeight(member.name.clone()));
    }
    let distinct = |what: fn(&Member) -> String, word: &str| {
        let all: BTreeSet<String> = members.iter().map(what).collect();
        if all.len() == members.len() { Ok(()) } else { Err(BadLayout::Twice(word.to_string())) }
    };
    distinct(|m| m.id.to_string(), "id")?;
    distinct(|m| m.name.clone(), "name")?;
    distinct(|m| m.address.clone(), "address")
}

/// Members that are no home, by rendezvous hash, those of zones without a home first.
fn fallback_order(members: &[Member], homes: &[u16], partition: usize) -> Vec<NodeId> {
    let zones: BTreeSet<&str> = homes.iter().map(|&h| members[h as usize].zone.as_str()).collect();
    let mut others: Vec<(bool, u64, NodeId)> = members
        .iter()
        .enumerate()
        .filter(|(at, _)| !homes.contains(&(*at as u16)))
        .map(|(_, m)| (zones.contains(m.zone.as_str()), rendezvous(m.id, partition), m.id))
        .collect();
    others.sort_unstable();
    others.into_iter().map(|(_, _, id)| id).collect()
}

fn rendezvous(node: NodeId, partition: usize) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&node.0.to_be_bytes(), partition as u64)
}

fn write_member(w: &mut Writer, m: &Member) {
    w.u64(m.id.0);
    for text in [&m.name, &m.address, &m.http, &m.zone] {
        w.slice(text.as_bytes());
    }
    w.varint(u64::from(m.weight));
}

fn read_member(r: &mut Reader<'_>) -> Result<Member, BadBytes> {
    Ok(Member {
        id: NodeId(r.u64()?),
        name: r.text()?.to_string(),
        address: r.text()?.to_string(),
        http: r.text()?.to_string(),
        zone: r.text()?.to_string(),
        weight: r.count(u32::MAX as usize)? as u32,
    })
}

fn read_ids(r: &mut Reader<'_>, max: usize) -> Result<BTreeSet<NodeId>, BadBytes> {
    let count = r.count(max)?;
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let id = NodeId(r.u64()?);
        if ids.last().is_some_and(|&last| last >= id) {
            return Err(BadBytes::Malformed);
        }
        ids.insert(id);
    }
    Ok(ids)
}

/// Of layout 1, which has no past.
const FORMAT_OF_FIRST: u8 = 1;
/// Of all others: with those who were removed.
const FORMAT_OF_LATER: u8 = 2;
/// Of those that also name lost nodes, or return to an earlier version.
const FORMAT_WITH_LOST: u8 = 3;
