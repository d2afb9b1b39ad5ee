//! The chain of layouts that does what is staged: a pure function of a layout and staged changes, so that every node
//! computes the same bytes and a commit need only name a hash.
//!
//! Invariant: the last layout of a plan has N distinct homes of each partition in min(N, zones) zones, each member's
//! fair share of slots to less than one slot, and moves as few replicas as those allow. Each version changes at most
//! one slot of each partition.
//!
//! It knows nothing of who is up or how much a partition weighs: it counts replicas.

use super::assign::{Before, assign, level};
use super::placement::{fair_shares, fixed, portion, zone_numbers};
use super::staged::{BadChange, Next, Staged};
use super::steps::steps;
use super::{BadLayout, Layout, LayoutHash, Member};
use crate::id::{NodeId, PartitionId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

/// What would be done, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    chain: Vec<Layout>,
    shares: Vec<Share>,
    moves: Vec<Move>,
    warnings: Vec<Warning>,
    homes_kept: Vec<BTreeSet<Vec<NodeId>>>,
}

/// How many slots a node fills before and after; 0 where it is no member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// Slots in the parent.
    pub before: usize,
    /// Slots in the last layout of the chain.
    pub after: usize,
}

/// One replica that goes from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The version that does it.
    pub version: u64,
    /// Of which partition.
    pub partition: PartitionId,
    /// Which of its slots, from 0.
    pub slot: usize,
    /// Who gives the slot up.
    pub from: NodeId,
    /// Who gets it.
    pub to: NodeId,
}

/// What an administrator should know before committing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Copies cannot be in as many zones as there are copies.
    FewZones {
        /// Zones of the members in the end.
        zones: usize,
        /// N.
        n: usize,
    },
    /// One of several zones holds so many copies of some partitions that the rest is no majority.
    ZoneMajority {
        /// Which.
        zone: String,
        /// Of how many partitions.
        partitions: usize,
    },
    /// Shares cannot follow weights, as distinct members and zones take precedence.
    Uneven {
        /// How many members get a slot or more beside what their weight would earn them.
        members: usize,
        /// What the one is called that is furthest off.
        name: String,
        /// The slots that it gets.
        slots: usize,
        /// The slots that its weight alone would earn it, rounded.
        earned: usize,
    },
    /// There are as many members as copies: nobody can stand in for one that fails.
    NoFallback,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::FewZones { zones: 1, n } => {
                write!(f, "all members are in one zone: what takes that zone down takes all {n} copies")
            }
            Warning::FewZones { zones, n } => {
                write!(f, "the members are in {zones} zones, so the {n} copies of a partition share some")
            }
            Warning::ZoneMajority { zone, partitions } => write!(
                f,
                "zone {zone} holds most copies of {partitions} partitions: without it, these have no majority"
            ),
            Warning::Uneven { members, name, slots, earned } => write!(
                f,
                "shares cannot follow weights, since the copies of a partition are on distinct members and in distinct zones: of {members} members that get more or less, {name} is furthest off, with {slots} slots where its weight would earn it {earned}"
            ),
            Warning::NoFallback => {
                write!(f, "there are as many members as copies: nobody can stand in for one that fails")
            }
        }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPlan {
    /// Nothing is staged, and nothing would move.
    Nothing,
    /// What is staged cannot be done.
    Change(BadChange),
    /// A version of the chain cannot be a layout; while members that go are still beside those that come, there are
    /// more of them than before or after.
    OnTheWay(BadLayout),
}

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPlan::Nothing => write!(f, "nothing is staged, and every share is as it should be"),
            BadPlan::Change(bad) => write!(f, "{bad}"),
            BadPlan::OnTheWay(bad) => {
                write!(f, "a layout of the plan cannot be: {bad}; a plan of fewer changes may do")
            }
        }
    }
}

impl core::error::Error for BadPlan {}

/// What to commit, one after the other, so that what is staged is done.
pub fn plan(parent: &Layout, staged: &Staged) -> Result<Plan, BadPlan> {
    let Next { members, heirs, lost } = staged.next(parent).map_err(BadPlan::Change)?;
    let wanted = wanted(parent, &members, &heirs);
    let versions = steps(parent, &members, &heirs, &wanted);
    if versions.is_empty() && members == parent.members() {
        return Err(BadPlan::Nothing);
    }
    let q = parent.partitions();
    let mut homes: Vec<Vec<NodeId>> = (0..q).map(|p| parent.homes(PartitionId(p as u16)).to_vec()).collect();
    let (mut chain, mut moves, mut homes_kept): (Vec<Layout>, _, _) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..versions.len().max(1) {
        let last = chain.last().unwrap_or(parent);
        let mut kept = homes.clone();
        for step in versions.get(at).into_iter().flatten() {
            let home = &mut homes[step.partition.0 as usize];
            home[step.slot] = step.to;
            kept[step.partition.0 as usize].remove(step.slot);
            moves.push(Move {
                version: last.version() + 1,
                partition: step.partition,
                slot: step.slot,
                from: step.from,
                to: step.to,
            });
        }
        let those = members_of(last, &members, &homes);
        let is_about = |node: &&NodeId| last.member(**node).is_some();
        let lost = lost.iter().filter(is_about).copied().collect();
        let next = last.next(those, &homes, lost).map_err(BadPlan::OnTheWay)?;
        homes_kept.push(kept.into_iter().collect());
        chain.push(next);
    }
    let last = chain.last().expect("a plan has a version");
    let (shares, warnings) = (shares(parent, last), warnings(last));
    Ok(Plan { chain, shares, moves, warnings, homes_kept })
}

impl Plan {
    /// The versions, each following the one before; the first follows the parent.
    pub fn chain(&self) -> &[Layout] {
        &self.chain
    }

    /// The layout in the end.
    pub fn last(&self) -> &Layout {
        self.chain.last().expect("a plan has a version")
    }

    /// What names the plan: the hash of its last layout, which names those before it.
    pub fn hash(&self) -> LayoutHash {
        self.last().hash()
    }

    /// Everybody who is a member before or after, in order of id.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Every replica that moves, in order of version, then of partition.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// How many replicas go from whom to whom.
    pub fn moved(&self) -> BTreeMap<(NodeId, NodeId), usize> {
        let mut moved = BTreeMap::new();
        for one in &self.moves {
            *moved.entry((one.from, one.to)).or_default() += 1;
        }
        moved
    }

    /// What should be known before it is committed.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The fewest live homes that any partition keeps from one version to the next, by a judgement of who is alive.
    pub fn live_homes_kept(&self, is_live: impl Fn(NodeId) -> bool) -> usize {
        let live = |homes: &Vec<NodeId>| homes.iter().filter(|&&home| is_live(home)).count();
        self.homes_kept.iter().flatten().map(live).min().unwrap_or(0)
    }
}

/// In how many zones the partition is that is in the fewest.
pub fn zones_at_least(layout: &Layout) -> usize {
    let zones = |p: usize| {
        let zone = |&home| layout.member(home).map(|member| member.zone.as_str());
        layout.homes(PartitionId(p as u16)).iter().map(zone).collect::<BTreeSet<_>>().len()
    };
    (0..layout.partitions()).map(zones).min().unwrap_or(0)
}

/// The homes of each partition in the end.
fn wanted(parent: &Layout, members: &[Member], heirs: &BTreeMap<NodeId, NodeId>) -> Vec<Vec<NodeId>> {
    let index =
        |node: NodeId| members.binary_search_by_key(&node, |member| member.id).ok().map(|at| at as u16);
    let before: Vec<Before> = (0..parent.partitions())
        .map(|p| {
            let homes = parent.homes(PartitionId(p as u16));
            Before {
                stay: homes.iter().filter_map(|&home| index(home)).collect(),
                heirs: homes.iter().filter_map(|home| index(*heirs.get(home)?)).collect(),
            }
        })
        .collect();
    let mut wanted = assign(members, parent.n(), &before);
    level(members, parent.n(), &before, &mut wanted);
    let id = |at: &u16| members[*at as usize].id;
    wanted.iter().map(|homes| homes.iter().map(id).collect()).collect()
}

/// The members of one version: those of the end, and those that go as long as they are homes.
fn members_of(last: &Layout, members: &[Member], homes: &[Vec<NodeId>]) -> Vec<Member> {
    let used: BTreeSet<NodeId> = homes.iter().flatten().copied().collect();
    let goes = |member: &&Member| members.binary_search_by_key(&member.id, |m| m.id).is_err();
    let go = last.members().iter().filter(goes).filter(|member| used.contains(&member.id));
    members.iter().chain(go).cloned().collect()
}

fn shares(parent: &Layout, last: &Layout) -> Vec<Share> {
    let all: BTreeMap<NodeId, &Member> =
        last.members().iter().chain(parent.members()).rev().map(|member| (member.id, member)).collect();
    let share = |(node, member): (NodeId, &Member)| Share {
        node,
        name: member.name.clone(),
        before: parent.slots_of(node),
        after: last.slots_of(node),
    };
    all.into_iter().map(share).collect()
}

fn warnings(layout: &Layout) -> Vec<Warning> {
    let (n, q, members) = (layout.n(), layout.partitions(), layout.members());
    let zones: BTreeSet<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    let mut warnings = Vec::new();
    if n > 1 && members.len() == n {
        warnings.push(Warning::NoFallback);
    }
    if zones.len() < n {
        warnings.push(Warning::FewZones { zones: zones.len(), n });
    }
    for &zone in zones.iter().filter(|_| n > 1 && zones.len() > 1) {
        let held = |p: &usize| {
            let homes = layout.homes(PartitionId(*p as u16)).iter();
            homes.filter(|&&home| layout.member(home).is_some_and(|member| member.zone == zone)).count()
        };
        let partitions = (0..q).filter(|p| held(p) * 2 > n).count();
        if partitions > 0 {
            warnings.push(Warning::ZoneMajority { zone: zone.into(), partitions });
        }
    }
    warnings.extend(uneven(layout));
    warnings
}

fn uneven(layout: &Layout) -> Option<Warning> {
    let (n, q, members) = (layout.n(), layout.partitions(), layout.members());
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let fair = fair_shares(members, &zone_numbers(members), n, q);
    let off: Vec<(u64, &Member, u64)> = members
        .iter()
        .zip(fair)
        .map(|(member, fair)| (member, fair, portion(fixed(n * q), u64::from(member.weight), total)))
        .map(|(member, fair, earned)| (earned.abs_diff(fair), member, earned))
        .filter(|(off, ..)| *off >= fixed(1))
        .collect();
    let &(_, member, earned) = off.iter().max_by_key(|(off, member, _)| (*off, Reverse(member.id)))?;
    let earned = ((earned + fixed(1) / 2) / fixed(1)) as usize;
    let slots = layout.slots_of(member.id);
    Some(Warning::Uneven { members: off.len(), name: member.name.clone(), slots, earned })
}
