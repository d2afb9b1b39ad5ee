//! What administrators want changed and nobody has committed yet: joins, leaves, replacements, weights and zones,
//! staged at any node, in a minority too, and carried to all by gossip.
//!
//! Invariant: for each node and each aspect of it the wish with the greatest (stamp, author) stands; merging is
//! commutative, associative and idempotent, so all nodes that heard the same wishes have the same set. A wish that the
//! layout has fulfilled asks for nothing any more; it stays as the latest word, so that no older one comes back.
//!
//! It decides nothing about places ([`plan`](mod@super::plan)) and makes nothing happen: only a commit does.

use super::{BadLayout, Layout, Member, check, read_member, write_member};
use crate::codec::{BadBytes, Reader, Writer, seal, unseal};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::limits::{MEMBER_TEXT_BYTES_MAX, STAGED_MAX};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// What is wanted of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It becomes a member. Its id is the one that the change is staged for.
    Join(Member),
    /// It hands over all it has, and is a member no more.
    Leave,
    /// It is lost for good, and a member no more: nobody waits for it, and what only it had is given up.
    Lost,
    /// This new member takes its place and its slots; it leaves, and hands over what it has.
    Replace(Member),
    /// The same of a node that is lost for good.
    ReplaceLost(Member),
    /// Its share becomes this; at least 1.
    Weight(u32),
    /// It fails together with these from now on.
    Zone(String),
}

/// What of a node a change is about: of each aspect the last wish counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Standing,
    Weight,
    Zone,
}

impl Change {
    fn aspect(&self) -> Aspect {
        match self {
            Change::Join(_) | Change::Leave | Change::Lost | Change::Replace(_) | Change::ReplaceLost(_) => {
                Aspect::Standing
            }
            Change::Weight(_) => Aspect::Weight,
            Change::Zone(_) => Aspect::Zone,
        }
    }
}

/// A wish, or its being taken back, and who said so when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What is wanted; none if an earlier wish was taken back.
    pub change: Option<Change>,
    /// When it was staged.
    pub stamp: Stamp,
    /// At which node.
    pub author: NodeId,
}

/// All wishes that a node knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    wishes: BTreeMap<(NodeId, Aspect), Wish>,
}

/// Why a change cannot be staged, or staged changes not be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadChange {
    /// The node is no member and none that is to join.
    Unknown(NodeId),
    /// It was removed, and a removed node never comes back.
    Removed(NodeId),
    /// It is a member.
    AlreadyIn {
        /// Who.
        node: NodeId,
        /// What it is called.
        name: String,
    },
    /// It would take its own place.
    Itself(NodeId),
    /// Fewer members would be left than each partition has copies.
    TooFew {
        /// How many would be left.
        members: usize,
        /// N.
        n: usize,
    },
    /// It would come more than once: by a join and in another's place, or in the places of two.
    ComesTwice {
        /// What it is called.
        name: String,
    },
    /// Two members would have the same name or address.
    Twice {
        /// Which of these.
        what: &'static str,
        /// The one that they share.
        shared: String,
    },
    /// A weight of 0.
    NoWeight(NodeId),
    /// A name or an address that is empty, or a text longer than [`MEMBER_TEXT_BYTES_MAX`].
    Text(&'static str),
    /// A join that names another id than the node it is staged for.
    OtherId(NodeId),
    /// The clock of whoever stages it is behind: a later wish about the same stands.
    Late(NodeId),
    /// There is no room for another ([`STAGED_MAX`]).
    Full,
    /// Anything else that keeps the members from forming a layout.
    Layout(BadLayout),
}

impl fmt::Display for BadChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadChange::Unknown(node) => {
                write!(f, "node {node} is no member of this cluster and none is staged to join with this id")
            }
            BadChange::Removed(node) => write!(
                f,
                "node {node} was removed from this cluster and cannot come back: give it an empty data directory and a new id"
            ),
            BadChange::AlreadyIn { node, name } => {
                write!(f, "node {node} is a member of this cluster already, as {name}")
            }
            BadChange::Itself(node) => {
                write!(f, "node {node} cannot replace itself: name the new node by its own id")
            }
            BadChange::TooFew { members, n } => write!(
                f,
                "this would leave {members} members, and each partition has {n} copies on distinct ones: stage a join first, or replace the node"
            ),
            BadChange::ComesTwice { name } => write!(
                f,
                "{name} is staged to come already, by a join or in another's place, and comes once: clear what is staged, and stage it anew"
            ),
            BadChange::Twice { what, shared } => {
                write!(f, "two members would have the {what} {shared}: each needs its own")
            }
            BadChange::NoWeight(node) => {
                write!(f, "the weight of node {node} cannot be 0: use 1 or more, or stage its leave")
            }
            BadChange::Text(what) => {
                write!(f, "the {what} of the new member is not valid: use 1 to {MEMBER_TEXT_BYTES_MAX} bytes")
            }
            BadChange::OtherId(node) => write!(f, "a join of node {node} must name that node's own id"),
            BadChange::Late(node) => write!(
                f,
                "a later change of node {node} is staged already: this node's clock is behind, set it and try again"
            ),
            BadChange::Full => {
                write!(f, "{STAGED_MAX} changes are staged, as many as can be: commit or clear them first")
            }
            BadChange::Layout(bad) => write!(f, "{bad}"),
        }
    }
}

impl core::error::Error for BadChange {}

/// What a layout's members become, and whose place is taken by whom.
#[derive(Debug)]
pub(super) struct Next {
    /// In order of id.
    pub(super) members: Vec<Member>,
    pub(super) heirs: BTreeMap<NodeId, NodeId>,
    /// Those that go and of which nothing is awaited.
    pub(super) lost: BTreeSet<NodeId>,
}

impl Staged {
    /// Nothing staged.
    pub fn new() -> Staged {
        Staged::default()
    }

    /// Stages a change of a node, or says why it cannot be and changes nothing. Where what is staged already cannot
    /// be planned, a change is taken that does not mend it either: planning says what is left. A node that was to join and
    /// now takes another's place does not join besides.
    pub fn stage(
        &mut self,
        layout: &Layout,
        node: NodeId,
        change: Change,
        stamp: Stamp,
        author: NodeId,
    ) -> Result<(), BadChange> {
        check_alone(layout, node, &change)?;
        let mut with = self.clone();
        if let Change::Replace(new) | Change::ReplaceLost(new) = &change
            && self.open(layout).any(|(node, open, _)| node == new.id && matches!(open, Change::Join(_)))
        {
            with.put(new.id, Aspect::Standing, Wish { change: None, stamp, author })?;
        }
        with.put(node, change.aspect(), Wish { change: Some(change), stamp, author })?;
        if let (Err(refused), Ok(_)) = (with.next(layout), self.next(layout)) {
            return Err(refused);
        }
        *self = with;
        Ok(())
    }

    /// Takes back all that is staged and the layout has not fulfilled, or nothing if some of it is later than this.
    pub fn clear(&mut self, layout: &Layout, stamp: Stamp, author: NodeId) -> Result<(), BadChange> {
        let late = self.open(layout).find(|(_, _, wish)| (wish.stamp, wish.author) >= (stamp, author));
        if let Some((node, ..)) = late {
            return Err(BadChange::Late(node));
        }
        for ((node, _), wish) in &mut self.wishes {
            if wish.change.as_ref().is_some_and(|change| !is_done(layout, *node, change)) {
                *wish = Wish { change: None, stamp, author };
            }
        }
        Ok(())
    }

    /// Learns what another node has staged; says whether that was news. Beyond [`STAGED_MAX`] new ones are left out,
    /// which [`Staged::forget`] prevents.
    pub fn merge(&mut self, other: &Staged) -> bool {
        let mut news = false;
        for (&(node, aspect), wish) in &other.wishes {
            news |= self.put(node, aspect, wish.clone()).is_ok();
        }
        news
    }

    /// Every wish alone, as gossip carries it: under a key of its node and aspect, a set of that one.
    pub fn singles(&self) -> impl Iterator<Item = (Vec<u8>, Staged)> {
        self.wishes.iter().map(|(&(node, aspect), wish)| {
            let mut w = Writer::new();
            w.u64(node.0);
            w.u8(aspect as u8);
            (w.into_vec(), Staged { wishes: BTreeMap::from([((node, aspect), wish.clone())]) })
        })
    }

    /// The stamp and the author of a set of one wish.
    pub fn single(&self) -> Option<(Stamp, NodeId)> {
        match self.wishes.len() {
            1 => self.wishes.values().next().map(|wish| (wish.stamp, wish.author)),
            _ => None,
        }
    }

    /// Forgets what is about removed nodes: they have no future that a wish could be about.
    pub fn forget(&mut self, layout: &Layout) {
        self.wishes.retain(|(node, _), _| !layout.removed().contains(node));
    }

    /// What is staged and the layout has not fulfilled, in order of node.
    pub fn open<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (NodeId, &'a Change, &'a Wish)> {
        self.wishes.iter().filter_map(|((node, _), wish)| {
            let change = wish.change.as_ref()?;
            (!is_done(layout, *node, change)).then_some((*node, change, wish))
        })
    }

    /// The greatest stamp in it: whoever stages next must be later.
    pub fn latest(&self) -> Stamp {
        self.wishes.values().map(|wish| wish.stamp).max().unwrap_or_default()
    }

    /// What the members of the layout become.
    pub(super) fn next(&self, layout: &Layout) -> Result<Next, BadChange> {
        let mut members: BTreeMap<NodeId, Member> =
            layout.members().iter().map(|member| (member.id, member.clone())).collect();
        let (mut heirs, mut lost) = (BTreeMap::new(), BTreeSet::new());
        let mut twice = None;
        for (node, change, _) in self.open(layout) {
            match change {
                Change::Join(new) => {
                    may_join(layout, new)?;
                    twice = twice.or(members.insert(node, new.clone()));
                }
                Change::Replace(new) | Change::ReplaceLost(new) => {
                    may_join(layout, new)?;
                    members.remove(&node).ok_or(BadChange::Unknown(node))?;
                    twice = twice.or(members.insert(new.id, new.clone()));
                    heirs.insert(node, new.id);
                }
                Change::Leave | Change::Lost => {
                    members.remove(&node).ok_or(BadChange::Unknown(node))?;
                }
                Change::Weight(_) | Change::Zone(_) => {}
            }
            if matches!(change, Change::Lost | Change::ReplaceLost(_)) {
                lost.insert(node);
            }
        }
        if let Some(member) = twice {
            return Err(BadChange::ComesTwice { name: member.name });
        }
        for (node, change, _) in self.open(layout) {
            let goes = layout.member(node).is_some();
            match (change, members.get_mut(&node)) {
                (Change::Weight(weight), Some(member)) => member.weight = *weight,
                (Change::Zone(zone), Some(member)) => member.zone = zone.clone(),
                (Change::Weight(_) | Change::Zone(_), None) if !goes => return Err(BadChange::Unknown(node)),
                _ => {}
            }
        }
        let members: Vec<Member> = members.into_values().collect();
        check_together(layout, &members)?;
        Ok(Next { members, heirs, lost })
    }

    /// Takes a wish if it is later than what stands.
    fn put(&mut self, node: NodeId, aspect: Aspect, wish: Wish) -> Result<(), BadChange> {
        match self.wishes.get(&(node, aspect)) {
            Some(stands) if rank(stands) >= rank(&wish) => return Err(BadChange::Late(node)),
            None if self.wishes.len() >= STAGED_MAX => return Err(BadChange::Full),
            _ => {}
        }
        self.wishes.insert((node, aspect), wish);
        Ok(())
    }

    /// Its bytes, for disk and gossip alike; byte table: `docs/format/staged.md`.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(STAGED_FORMAT);
        w.varint(self.wishes.len() as u64);
        for ((node, aspect), wish) in &self.wishes {
            w.u64(node.0);
            w.u64(wish.stamp.0);
            w.u64(wish.author.0);
            match &wish.change {
                Some(change) => write_change(&mut w, change),
                None => w.u8(match aspect {
                    Aspect::Standing => NO_STANDING,
                    Aspect::Weight => NO_WEIGHT,
                    Aspect::Zone => NO_ZONE,
                }),
            }
        }
        seal(&mut w, 0);
        w.into_vec()
    }

    /// Reads [`Staged::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<Staged, BadBytes> {
        let mut r = unseal(bytes, STAGED_FORMAT)?;
        let count = r.count(STAGED_MAX)?;
        let mut staged = Staged::new();
        for _ in 0..count {
            let node = NodeId(r.u64()?);
            let (stamp, author) = (Stamp(r.u64()?), NodeId(r.u64()?));
            let (aspect, change) = read_change(&mut r)?;
            let is_about_another = match &change {
                Some(Change::Join(new)) => new.id != node,
                Some(Change::Replace(new) | Change::ReplaceLost(new)) => new.id == node,
                _ => false,
            };
            if is_about_another
                || staged.wishes.last_key_value().is_some_and(|(last, _)| *last >= (node, aspect))
            {
                return Err(BadBytes::Malformed);
            }
            staged.wishes.insert((node, aspect), Wish { change, stamp, author });
        }
        r.end()?;
        Ok(staged)
    }
}

/// Whether the layout is as the wish wants it, or can never be because its node is gone.
fn is_done(layout: &Layout, node: NodeId, change: &Change) -> bool {
    let member = layout.member(node);
    match change {
        Change::Join(_) => member.is_some(),
        _ if layout.removed().contains(&node) => true,
        Change::Weight(weight) => member.is_some_and(|member| member.weight == *weight),
        Change::Zone(zone) => member.is_some_and(|member| member.zone == *zone),
        Change::Leave | Change::Lost | Change::Replace(_) | Change::ReplaceLost(_) => false,
    }
}

/// What can be said of a change whatever else is staged.
fn check_alone(layout: &Layout, node: NodeId, change: &Change) -> Result<(), BadChange> {
    match change {
        Change::Join(new) if new.id != node => Err(BadChange::OtherId(node)),
        Change::Replace(new) | Change::ReplaceLost(new) if new.id == node => Err(BadChange::Itself(node)),
        Change::Join(new) => may_join(layout, new),
        _ if layout.removed().contains(&node) => Err(BadChange::Removed(node)),
        Change::Replace(new) | Change::ReplaceLost(new) => may_join(layout, new),
        Change::Weight(0) => Err(BadChange::NoWeight(node)),
        Change::Zone(zone) if zone.len() > MEMBER_TEXT_BYTES_MAX => Err(BadChange::Text("zone")),
        Change::Leave | Change::Lost | Change::Weight(_) | Change::Zone(_) => Ok(()),
    }
}

fn may_join(layout: &Layout, new: &Member) -> Result<(), BadChange> {
    if layout.removed().contains(&new.id) {
        return Err(BadChange::Removed(new.id));
    }
    if let Some(member) = layout.member(new.id) {
        return Err(BadChange::AlreadyIn { node: member.id, name: member.name.clone() });
    }
    let fits = |text: &str, least| (least..=MEMBER_TEXT_BYTES_MAX).contains(&text.len());
    for (what, good) in [
        ("name", fits(&new.name, 1)),
        ("address", fits(&new.address, 1)),
        ("HTTP address", fits(&new.http, 0)),
        ("zone", fits(&new.zone, 0)),
    ] {
        if !good {
            return Err(BadChange::Text(what));
        }
    }
    if new.weight == 0 { Err(BadChange::NoWeight(new.id)) } else { Ok(()) }
}

/// What can only be said of all members.
fn check_together(layout: &Layout, members: &[Member]) -> Result<(), BadChange> {
    let n = layout.n();
    if members.len() < n {
        return Err(BadChange::TooFew { members: members.len(), n });
    }
    let twice = |text: fn(&Member) -> &str| {
        let mut texts: Vec<&str> = members.iter().map(text).collect();
        texts.sort_unstable();
        texts.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string())
    };
    if let Some(shared) = twice(|member| &member.name) {
        return Err(BadChange::Twice { what: "name", shared });
    }
    if let Some(shared) = twice(|member| &member.address) {
        return Err(BadChange::Twice { what: "address", shared });
    }
    check(members, n, layout.partitions()).map_err(BadChange::Layout)
}

/// By what wishes about the same are compared: nobody stages two at one stamp, and if somebody did, all would still
/// take the same one.
fn rank(wish: &Wish) -> (Stamp, NodeId, Vec<u8>) {
    let mut w = Writer::new();
    if let Some(change) = &wish.change {
        write_change(&mut w, change);
    }
    (wish.stamp, wish.author, w.into_vec())
}

fn write_change(w: &mut Writer, change: &Change) {
    match change {
        Change::Join(member) => {
            w.u8(JOIN);
            write_member(w, member);
        }
        Change::Leave => w.u8(LEAVE),
        Change::Lost => w.u8(LOST),
        Change::Replace(member) => {
            w.u8(REPLACE);
            write_member(w, member);
        }
        Change::ReplaceLost(member) => {
            w.u8(REPLACE_LOST);
            write_member(w, member);
        }
        Change::Weight(weight) => {
            w.u8(WEIGHT);
            w.varint(u64::from(*weight));
        }
        Change::Zone(zone) => {
            w.u8(ZONE);
            w.slice(zone.as_bytes());
        }
    }
}

fn read_change(r: &mut Reader<'_>) -> Result<(Aspect, Option<Change>), BadBytes> {
    let change = match r.u8()? {
        JOIN => Change::Join(read_member(r)?),
        LEAVE => Change::Leave,
        LOST => Change::Lost,
        REPLACE => Change::Replace(read_member(r)?),
        REPLACE_LOST => Change::ReplaceLost(read_member(r)?),
        WEIGHT => Change::Weight(r.count(u32::MAX as usize)? as u32),
        ZONE => Change::Zone(r.text()?.to_string()),
        NO_STANDING => return Ok((Aspect::Standing, None)),
        NO_WEIGHT => return Ok((Aspect::Weight, None)),
        NO_ZONE => return Ok((Aspect::Zone, None)),
        _ => return Err(BadBytes::Malformed),
    };
    Ok((change.aspect(), Some(change)))
}

const STAGED_FORMAT: u8 = 1;
const JOIN: u8 = 1;
const LEAVE: u8 = 2;
const REPLACE: u8 = 3;
const WEIGHT: u8 = 4;
const ZONE: u8 = 5;
const LOST: u8 = 6;
const REPLACE_LOST: u8 = 7;
const NO_STANDING: u8 = 0x11;
const NO_WEIGHT: u8 = 0x14;
const NO_ZONE: u8 = 0x15;
