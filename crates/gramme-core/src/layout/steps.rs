//! From who keeps what to who should, one slot of each partition at a time: neighbouring versions share N-1 homes of
//! every partition, so that their quorums meet and a change costs no availability (correctness.md 5.2).
//!
//! Invariant: a home that stays keeps its slot; each version keeps N distinct homes of a partition, in no fewer zones
//! than both its first and its last homes are in. As far as that allows, members that go lose their slots first, and
//! then who has the most too many to who has the most too few.

use super::{Layout, Member};
use crate::id::{NodeId, PartitionId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One slot of one partition gets another home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) partition: PartitionId,
    pub(super) slot: usize,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

/// What each version of the chain changes. `wanted` are the homes of each partition in the end, in any order.
pub(super) fn steps(
    parent: &Layout,
    members: &[Member],
    heirs: &BTreeMap<NodeId, NodeId>,
    wanted: &[Vec<NodeId>],
) -> Vec<Vec<Step>> {
    let zone = |node: NodeId| {
        let new = members.binary_search_by_key(&node, |member| member.id).ok().map(|at| &members[at]);
        new.or_else(|| parent.member(node)).map(|member| member.zone.as_str())
    };
    let mut homes: Vec<Vec<NodeId>> =
        (0..wanted.len()).map(|p| parent.homes(PartitionId(p as u16)).to_vec()).collect();
    let mut left: Vec<Vec<Step>> = wanted
        .iter()
        .enumerate()
        .map(|(p, wanted)| pair(parent, PartitionId(p as u16), wanted, heirs, &zone))
        .collect();
    let mut owed: BTreeMap<NodeId, i64> = BTreeMap::new();
    for step in left.iter().flatten() {
        *owed.entry(step.from).or_default() -= 1;
        *owed.entry(step.to).or_default() += 1;
    }
    let goes = |node: NodeId| members.binary_search_by_key(&node, |member| member.id).is_err();
    let mut versions = Vec::new();
    while left.iter().any(|steps| !steps.is_empty()) {
        let mut version = Vec::new();
        for (homes, steps) in homes.iter_mut().zip(&mut left).filter(|(_, steps)| !steps.is_empty()) {
            let is_in = |zone_of: NodeId, but: NodeId| {
                homes.iter().any(|&home| home != but && zone(home) == zone(zone_of))
            };
            let spreads_worse = |step: &Step| !is_in(step.from, step.from) && is_in(step.to, step.from);
            let urgency =
                |step: &Step| (!spreads_worse(step), goes(step.from), owed[&step.to] - owed[&step.from]);
            let most = steps.iter().map(urgency).max();
            let next = steps.iter().position(|step| Some(urgency(step)) == most).unwrap_or(0);
            let step = steps.remove(next);
            homes[step.slot] = step.to;
            *owed.entry(step.from).or_default() += 1;
            *owed.entry(step.to).or_default() -= 1;
            version.push(step);
        }
        versions.push(version);
    }
    versions
}

/// Which new home takes which slot: one of the same zone, so that no version on the way is spread worse, and among
/// those the one that replaces the old home by name.
fn pair<'a>(
    parent: &Layout,
    partition: PartitionId,
    wanted: &[NodeId],
    heirs: &BTreeMap<NodeId, NodeId>,
    zone: &impl Fn(NodeId) -> Option<&'a str>,
) -> Vec<Step> {
    let homes = parent.homes(partition);
    let mut new: Vec<NodeId> = wanted.iter().copied().filter(|node| !homes.contains(node)).collect();
    let mut free: Vec<(usize, NodeId)> =
        homes.iter().copied().enumerate().filter(|(_, home)| !wanted.contains(home)).collect();
    let mut steps = Vec::new();
    let rounds: [&dyn Fn(NodeId, NodeId) -> bool; 4] = [
        &|from, to| zone(from) == zone(to) && heirs.get(&from) == Some(&to),
        &|from, to| zone(from) == zone(to),
        &|from, to| heirs.get(&from) == Some(&to),
        &|_, _| true,
    ];
    for suits in rounds {
        free.retain(|&(slot, from)| {
            let Some(at) = new.iter().position(|&to| suits(from, to)) else { return true };
            steps.push(Step { partition, slot, from, to: new.remove(at) });
            false
        });
    }
    steps
}
