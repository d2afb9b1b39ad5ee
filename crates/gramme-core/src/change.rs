//! How a cluster comes from one layout to the next while it serves (correctness.md 5.3; design section 4). Every node
//! takes the same three steps, says so once that is durable, and reads what the others have said:
//!
//! ```text
//! adopted   writes reach the homes of the new layout too; who writes by older ones alone is refused (the fence)
//! filled    everyone has adopted it, and every partition that this node keeps by it holds all that its homes had
//! reads     everyone has filled it, and reads here go by it; nothing that began before is under way
//! ```
//! The layouts between what anyone may read by and what this node has adopted are *live*: a write is done once it is by
//! each of them. When everyone reads by the new one, the old one is live no longer.
//!
//! Invariant: nobody reads by a layout before everyone who counts has said that it writes by it and holds what it must
//! by it; and nobody stops to write by a layout that anyone may still read by. All three only grow, so a crash anywhere is
//! made up for by going on.
//!
//! Layouts that were committed and not begun wait in line, and are taken one after the other: one slot of each partition at a
//! time. One that returns to an earlier version, says that somebody is lost who would be waited for, or begins a new lineage,
//! is taken at once.
//!
//! It refuses to know who is up. A node that is away is waited for, unless a layout says that it is lost: the one that is
//! being gone to, or one that still waits in line, or nobody would ever come to that.

use crate::codec::{BadBytes, Reader, Writer};
use crate::gossip::{Entry, Name};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::layout::{Layout, LayoutHash};
use crate::limits::CHAIN_MAX;
use crate::paxos::{
    BadCertificate, Certificate, Decree, Settled, read_certificate, read_decree, write_certificate,
    write_decree,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// How far one node has come. Each of the four only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// See the module.
    pub adopted: Decree,
    /// See the module.
    pub filled: Decree,
    /// See the module.
    pub reads: Decree,
    /// By this one, and those before it, it keeps nothing any more that others are the homes of.
    pub emptied: Decree,
}

impl Progress {
    /// All steps to this one are taken; nothing is said of what is still to be handed over.
    pub fn at(decree: Decree) -> Progress {
        Progress { adopted: decree, filled: decree, reads: decree, emptied: Decree::default() }
    }

    /// The entry of gossip that says so.
    pub fn entry(&self, node: NodeId, stamp: Stamp, life: u64) -> (Name, Entry) {
        let mut w = Writer::new();
        for decree in [self.adopted, self.filled, self.reads, self.emptied] {
            write_decree(&mut w, decree);
        }
        (Name::Progress(node), Entry { stamp, tie: life, bytes: w.into_bytes() })
    }

    /// Reads the bytes of such an entry; what a newer release appends is skipped.
    pub fn read(entry: &Entry) -> Result<Progress, BadBytes> {
        let mut r = Reader::new(&entry.bytes);
        Ok(Progress {
            adopted: read_decree(&mut r)?,
            filled: read_decree(&mut r)?,
            reads: read_decree(&mut r)?,
            emptied: read_decree(&mut r)?,
        })
    }

    /// The greater of each.
    pub fn join(self, other: Progress) -> Progress {
        Progress {
            adopted: self.adopted.max(other.adopted),
            filled: self.filled.max(other.filled),
            reads: self.reads.max(other.reads),
            emptied: self.emptied.max(other.emptied),
        }
    }
}

/// Why a layout bears its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// A majority of the members of its parent chose it.
    Chosen(Certificate),
    /// A majority was lost for good, and somebody forced it at this node: it begins a lineage.
    Forced {
        /// Where.
        by: NodeId,
    },
}

/// A layout under its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub decree: Decree,
    /// What.
    pub layout: Layout,
    /// Why.
    pub ground: Ground,
}

impl Link {
    /// The entry of gossip that carries it.
    pub fn entry(&self) -> (Name, Entry) {
        let mut w = Writer::new();
        match &self.ground {
            Ground::Chosen(certificate) => {
                w.u8(CHOSEN);
                write_certificate(&mut w, certificate);
            }
            Ground::Forced { by } => {
                w.u8(FORCED);
                w.u64(by.0);
            }
        }
        w.raw(&self.layout.encode());
        let entry = Entry { stamp: Stamp::default(), tie: 0, bytes: w.into_bytes() };
        (Name::Layout(self.decree, self.layout.hash()), entry)
    }

    /// Reads [`Link::entry`] back, and sees that name, ground and layout are about the same; the proof is not verified.
    pub fn read(name: &Name, entry: &Entry) -> Result<Link, BadBytes> {
        let Name::Layout(decree, hash) = name else { return Err(BadBytes::Malformed) };
        let mut r = Reader::new(&entry.bytes);
        let ground = match r.u8()? {
            CHOSEN => Ground::Chosen(read_certificate(&mut r)?),
            FORCED => Ground::Forced { by: NodeId(r.u64()?) },
            _ => return Err(BadBytes::Malformed),
        };
        let layout = Layout::decode(&entry.bytes[r.position()..])?;
        let agrees = match &ground {
            Ground::Chosen(certificate) => {
                (certificate.decree, certificate.hash, certificate.parent)
                    == (*decree, *hash, layout.parent())
            }
            Ground::Forced { .. } => decree.lineage > 0,
        };
        if !agrees || layout.hash() != *hash || layout.version() != decree.version {
            return Err(BadBytes::Malformed);
        }
        Ok(Link { decree: *decree, layout, ground })
    }
}

const CHOSEN: u8 = 1;
const FORCED: u8 = 2;

/// Why a link is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadLink {
    /// The layout that it follows is not known here yet.
    NoParent,
    /// Its certificate proves nothing.
    Unproven(BadCertificate),
    /// Another layout bears its number already: an alarm.
    Contradiction(Decree),
}

impl fmt::Display for BadLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLink::NoParent => write!(f, "the layout that it follows is not known here yet"),
            BadLink::Unproven(bad) => write!(f, "{bad}"),
            BadLink::Contradiction(decree) => write!(f, "two layouts bear the number of {decree}"),
        }
    }
}

/// All layouts that a node knows, and how they follow each other.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The number of the layout of the cluster file, by which everyone begins.
    first: Decree,
    known: BTreeMap<Decree, Arc<Layout>>,
    /// From the oldest that is known to be an ancestor of the last, to the last.
    line: Vec<Decree>,
    /// A number that two layouts bear: nothing may be committed any more.
    contradiction: Option<Decree>,
}

impl Chain {
    /// The first layout, from the cluster file.
    pub fn new(first: Arc<Layout>) -> Chain {
        let decree = Decree { lineage: 0, version: first.version() };
        let (known, line) = (BTreeMap::from([(decree, first)]), Vec::from([decree]));
        Chain { first: decree, known, line, contradiction: None }
    }

    /// Takes a link, if it is sound; says whether it was news. Whoever knows the first layout alone takes one from so late
    /// that what came before it may be forgotten everywhere: its peers have proved that they belong to the cluster. From
    /// there back each is known by the one that follows it.
    pub fn add(&mut self, link: &Link) -> Result<bool, BadLink> {
        if let Some(known) = self.known.get(&link.decree) {
            if known.hash() == link.layout.hash() {
                return Ok(false);
            }
            self.contradiction.get_or_insert(link.decree);
            return Err(BadLink::Contradiction(link.decree));
        }
        let hash = link.layout.parent();
        let parent = self.known.iter().rfind(|(_, layout)| layout.hash() == hash);
        match (&link.ground, parent) {
            (Ground::Chosen(certificate), Some((&decree, parent))) => {
                let members: Vec<NodeId> = parent.members().iter().map(|member| member.id).collect();
                certificate.verify(Settled { decree, hash }, &members).map_err(BadLink::Unproven)?;
            }
            (Ground::Forced { .. }, Some(_)) => {}
            (_, None) if self.known.len() == 1 && link.decree.version > CHAIN_MAX as u64 => {}
            (_, None) if self.known.values().any(|later| later.parent() == link.layout.hash()) => {}
            (_, None) => return Err(BadLink::NoParent),
        }
        self.known.insert(link.decree, Arc::new(link.layout.clone()));
        self.find_line();
        Ok(true)
    }

    fn find_line(&mut self) {
        let by_hash: BTreeMap<LayoutHash, Decree> =
            self.known.iter().map(|(&decree, layout)| (layout.hash(), decree)).collect();
        let mut line = Vec::new();
        let mut next = self.known.keys().next_back().copied();
        while let Some(decree) = next {
            line.push(decree);
            next = by_hash.get(&self.known[&decree].parent()).copied().filter(|&parent| parent < decree);
        }
        line.reverse();
        self.line = line;
    }

    /// The last: what the next commit follows.
    pub fn head(&self) -> (Decree, &Arc<Layout>) {
        let decree = *self.line.last().expect("a chain has a layout");
        (decree, &self.known[&decree])
    }

    /// The last, as a decree that is settled.
    pub fn settled(&self) -> Settled {
        let (decree, layout) = self.head();
        Settled { decree, hash: layout.hash() }
    }

    /// The layout of a number.
    pub fn layout(&self, decree: Decree) -> Option<&Arc<Layout>> {
        self.known.get(&decree)
    }

    /// The history: the oldest known first.
    pub fn line(&self) -> impl DoubleEndedIterator<Item = (Decree, &Arc<Layout>)> {
        self.line.iter().map(|decree| (*decree, &self.known[decree]))
    }

    /// Nodes that are lost for good, by whatever layout of the history says so: nothing is awaited of them.
    pub fn given_up(&self) -> BTreeSet<NodeId> {
        let lost = self.line().flat_map(|(_, layout)| layout.lost().iter().copied());
        // A return to an earlier version makes that undone too.
        lost.filter(|node| self.head().1.removed().contains(node)).collect()
    }

    /// A number that two layouts bear, if there is one: an alarm.
    pub fn contradiction(&self) -> Option<Decree> {
        self.contradiction
    }

    /// Forgets layouts of which gossip knows no more either.
    pub fn forget_before(&mut self, first: Decree) {
        self.known.retain(|decree, _| *decree >= first || self.line.last() == Some(decree));
        self.find_line();
    }

    /// The first of the history from which on a node is removed, if it is; an earlier removal may have been undone.
    pub fn removed_at(&self, node: NodeId) -> Option<Decree> {
        let is_removed = |(_, layout): &(Decree, &Arc<Layout>)| layout.removed().contains(&node);
        self.line().rev().take_while(is_removed).last().map(|(decree, _)| decree)
    }

    /// The last in which a node was a member, if it was one and is none by the last of all.
    pub fn last_as_member(&self, node: NodeId) -> Option<Decree> {
        if self.head().1.member(node).is_some() {
            return None;
        }
        self.known.iter().rfind(|(_, layout)| layout.member(node).is_some()).map(|(decree, _)| *decree)
    }

    /// The next to be gone to, by who has adopted this much and reads by that.
    fn after(&self, mine: Progress, is_settled: bool) -> Decree {
        let mut before = Decree::default();
        let mut at_once = None;
        for (decree, layout) in self.line() {
            let begins_anew = layout.back_to() > 0 || !layout.lost().is_empty();
            let begins_lineage = decree.lineage > before.lineage;
            if decree > mine.adopted && (begins_anew || begins_lineage) {
                at_once = Some(decree);
            }
            before = decree;
        }
        if let Some(decree) = at_once {
            return decree;
        }
        let next = self.line().find(|(decree, _)| *decree > mine.adopted);
        match next {
            Some((decree, _)) if is_settled => decree,
            _ => mine.adopted,
        }
    }
}

/// What one node should make of what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The layout that is being gone to; what is adopted already, if there is nothing to go to.
    pub target: Decree,
    /// Those by which writes are to be done here: the least is read by.
    pub live: BTreeSet<Decree>,
    /// The step that can be taken next.
    pub step: Step,
    /// Those whose word is awaited before that, in order.
    pub awaited: BTreeSet<NodeId>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write by the target too.
    Adopt,
    /// Get what this node must keep by it, and say so once `awaited` is empty.
    Fill,
    /// Read by it, once `awaited` is empty.
    Read,
    /// Nothing, or what others have still to do.
    Rest,
}

/// See [`Stand`]. `mine` is what this node has said last, and `said` what every other node has: one that has said nothing
/// is where everyone begins.
pub fn stand(chain: &Chain, me: NodeId, mine: Progress, said: &BTreeMap<NodeId, Progress>) -> Stand {
    let mut counted = stragglers(chain, me, mine, said);
    for decree in [mine.reads, mine.filled, mine.adopted] {
        add_members(chain, decree, &mut counted);
    }
    let of = |node: &NodeId| said.get(node).copied().unwrap_or(Progress::at(chain.first));
    let reading = lacking(chain, me, mine.adopted, &counted, |node| of(node).reads == mine.reads);
    let is_settled = mine.reads == mine.adopted && reading.is_empty();
    let target = chain.after(mine, is_settled);
    add_members(chain, target, &mut counted);
    let lacking =
        |has: fn(&Progress) -> Decree| lacking(chain, me, target, &counted, |node| has(&of(node)) == target);
    let (step, awaited) = if mine.adopted != target {
        (Step::Adopt, BTreeSet::new())
    } else if mine.filled != target {
        (Step::Fill, lacking(|progress| progress.adopted))
    } else if mine.reads != target {
        (Step::Read, lacking(|progress| progress.filled))
    } else {
        (Step::Rest, reading)
    };
    let read_by = counted.iter().filter_map(|node| said.get(node)).map(|progress| progress.reads);
    let live = [mine.reads, mine.filled, mine.adopted, target].into_iter().chain(read_by);
    let live = live.filter(|decree| chain.layout(*decree).is_some()).collect();
    Stand { target, live, step, awaited }
}

fn add_members(chain: &Chain, decree: Decree, counted: &mut BTreeSet<NodeId>) {
    let members = chain.layout(decree).into_iter().flat_map(|layout| layout.members());
    counted.extend(members.map(|member| member.id));
}

/// Those of the counted that are not there, but this node and those that are lost.
fn lacking(
    chain: &Chain,
    me: NodeId,
    target: Decree,
    counted: &BTreeSet<NodeId>,
    is_there: impl Fn(&NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let given_up = chain.given_up();
    let by_target = |node: &NodeId| chain.layout(target).is_some_and(|layout| layout.lost().contains(node));
    let is_lost = |node: &NodeId| given_up.contains(node) || by_target(node);
    counted.iter().filter(|node| **node != me && !is_lost(node) && !is_there(node)).copied().collect()
}

/// Members by the layout that they read by, which is another than the one that is read by here: those that go with this one, and
/// those that have come with one that is given up. Whoever was lost since is none.
fn stragglers(
    chain: &Chain,
    me: NodeId,
    mine: Progress,
    said: &BTreeMap<NodeId, Progress>,
) -> BTreeSet<NodeId> {
    let is_lost_since = |node: NodeId, reads: Decree| {
        chain.line().any(|(decree, layout)| decree > reads && layout.lost().contains(&node))
    };
    let straggles = |(node, progress): &(&NodeId, &Progress)| {
        progress.reads != mine.reads
            && **node != me
            && chain.layout(progress.reads).is_some_and(|layout| layout.member(**node).is_some())
            && !is_lost_since(**node, progress.reads)
    };
    said.iter().filter(straggles).map(|(node, _)| *node).collect()
}

/// Where a node that was away, or is new, takes up: somewhere that others read by already and that it has not said to have
/// filled. They could not, had they waited for its word; so it is not counted, or has lost what it said.
pub fn catch_up(chain: &Chain, mine: Progress, said: &BTreeMap<NodeId, Progress>) -> Option<Progress> {
    let reads = said.values().map(|progress| progress.reads);
    let top = reads.filter(|decree| chain.layout(*decree).is_some()).max()?;
    let behind = Progress { emptied: mine.emptied, ..Progress::at(top) };
    (top > mine.filled).then(|| mine.join(behind))
}
