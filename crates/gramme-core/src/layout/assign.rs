//! Which members should keep which partition, given who keeps it: balance, distinctness and spread first, then as few
//! moves as those allow.
//!
//! Invariant: every partition gets N distinct members in min(N, zones) zones, every member fills its fair share of
//! slots to less than one slot, and no other assignment that does both moves fewer replicas.
//!
//! It is the cheapest flow (`flow`) from partitions through their zones to members: N units from each partition, at
//! most one to a member; one to a zone where there are zones enough, at least one where there are not; and to each
//! member its fair share, rounded down or up. A unit that stays where a replica is costs nothing.

use super::flow::Network;
use super::placement::{fair_shares, members_by_zone, whole_bounds, zone_numbers};
use super::{Member, rendezvous};
use crate::limits::{N_MAX, PARTITIONS_MAX};
use alloc::vec::Vec;

/// What one partition starts from, as indices into the members that are to be.
#[derive(Clone, Default)]
pub(super) struct Before {
    /// Its homes that remain members.
    pub(super) stay: Vec<u16>,
    /// Members that are to have the place of a home which goes.
    pub(super) heirs: Vec<u16>,
}

/// For each partition its `n` members, in no order of slots.
pub(super) fn assign(members: &[Member], n: usize, before: &[Before]) -> Vec<Vec<u16>> {
    let q = before.len();
    let zone_of = zone_numbers(members);
    let fair = fair_shares(members, &zone_of, n, q);
    let mut net = Network::new(SINK + 1);
    let member_nodes: Vec<usize> = members.iter().map(|_| net.node()).collect();
    let shape = Shape { members, n, zones: members_by_zone(&zone_of), zone_of, member_nodes };
    let choices: Vec<Vec<Choice>> = before
        .iter()
        .enumerate()
        .map(|(partition, before)| shape.partition(&mut net, partition, before))
        .collect();
    let mut owed = Vec::with_capacity(members.len());
    for (&node, &fair) in shape.member_nodes.iter().zip(&fair) {
        let (least, most) = whole_bounds(fair);
        owed.push((net.edge(node, SINK, least, FREE), least));
        net.edge(node, SINK, most - least, UNFAIR);
    }
    assert_eq!(net.send(SOURCE, SINK), n * q, "fair shares always split into partitions");
    assert!(owed.into_iter().all(|(edge, least)| net.on(edge) == least), "everybody gets its fair share");
    let taken = |choices: Vec<Choice>| {
        choices.into_iter().filter(|choice| net.on(choice.edge) > 0).map(|choice| choice.member).collect()
    };
    choices.into_iter().map(taken).collect()
}

/// Exchanges moves between partitions until none changes more of its slots than it must, at no cost: a partition that
/// changes many keeps one home, and another one, where that home would have stayed, takes the newcomer.
pub(super) fn level(members: &[Member], n: usize, before: &[Before], wanted: &mut [Vec<u16>]) {
    let zone_of = zone_numbers(members);
    let every_zone = zone_of.iter().max().map_or(0, |most| most + 1) < n;
    let fits = |homes: &[u16], out: u16, new: u16| {
        let (from, to) = (zone_of[out as usize], zone_of[new as usize]);
        let others_in = |zone| homes.iter().any(|&home| home != out && zone_of[home as usize] == zone);
        !homes.contains(&new) && (from == to || others_in(if every_zone { from } else { to }) == every_zone)
    };
    let q = wanted.len();
    let mut changes: Vec<usize> = (0..q).map(|p| changed(&before[p], &wanted[p])).collect();
    let fewest = changes.iter().sum::<usize>().div_ceil(q);
    for many in 0..q {
        while changes[many] > fewest {
            let returns = || before[many].stay.iter().copied().filter(|home| !wanted[many].contains(home));
            let leaves = || {
                let new =
                    |home: &u16| !before[many].stay.contains(home) && !before[many].heirs.contains(home);
                wanted[many].iter().copied().filter(new)
            };
            let exchange =
                (1..q).map(|step| (many + step) % q).filter(|&few| changes[few] < fewest).find_map(|few| {
                    let stays = |home: &u16| before[few].stay.contains(home) && wanted[few].contains(home);
                    let known = |new: &u16| before[few].stay.contains(new) || before[few].heirs.contains(new);
                    returns().filter(stays).find_map(|home| {
                        let new = leaves()
                            .filter(|new| !known(new))
                            .find(|&new| fits(&wanted[many], new, home) && fits(&wanted[few], home, new))?;
                        Some((few, home, new))
                    })
                });
            let Some((few, home, new)) = exchange else { break };
            for (partition, out, into) in [(many, new, home), (few, home, new)] {
                let place = wanted[partition].iter().position(|&at| at == out);
                wanted[partition][place.expect("it was found there")] = into;
            }
            changes[many] -= 1;
            changes[few] += 1;
        }
    }
}

/// How many of a partition's homes are new to it.
fn changed(before: &Before, wanted: &[u16]) -> usize {
    wanted.iter().filter(|home| !before.stay.contains(home)).count()
}

/// A member that a partition may have, and the edge that says whether it does.
struct Choice {
    member: u16,
    edge: usize,
}

struct Shape<'a> {
    members: &'a [Member],
    n: usize,
    zone_of: Vec<usize>,
    zones: Vec<Vec<usize>>,
    member_nodes: Vec<usize>,
}

impl Shape<'_> {
    /// Adds a partition. Among equals its homes come first, then the members in rendezvous order, so that what a
    /// member gives up or takes is spread over all others (PA-4).
    fn partition(&self, net: &mut Network, partition: usize, before: &Before) -> Vec<Choice> {
        let at = net.node();
        net.edge(SOURCE, at, self.n, FREE);
        let cost = |member: u16| match () {
            () if before.stay.contains(&member) => FREE,
            () if before.heirs.contains(&member) => MOVE,
            () => MOVE + ELSEWHERE,
        };
        let mut order: Vec<(i64, u64, u16)> = (0..self.members.len() as u16)
            .map(|member| (cost(member), rendezvous(self.members[member as usize].id, partition), member))
            .collect();
        order.sort_unstable();
        let mut gates: Vec<Option<usize>> = alloc::vec![None; self.zones.len()];
        let mut choices = Vec::with_capacity(order.len());
        for (cost, _, member) in order {
            let zone = self.zone_of[member as usize];
            let gate = *gates[zone].get_or_insert_with(|| self.gate(net, at, zone));
            choices
                .push(Choice { member, edge: net.edge(gate, self.member_nodes[member as usize], 1, cost) });
        }
        choices
    }

    /// Where a partition's units for a zone pass. A zone of one member needs no gate, nor does the only zone: the
    /// bounds of members say the same.
    fn gate(&self, net: &mut Network, partition: usize, zone: usize) -> usize {
        if self.zones.len() == 1 || self.zones[zone].len() == 1 {
            return partition;
        }
        let gate = net.node();
        net.edge(partition, gate, 1, FREE);
        if self.zones.len() < self.n {
            net.edge(partition, gate, self.n - 1, UNFAIR);
        }
        gate
    }
}

const SOURCE: usize = 0;
const SINK: usize = 1;

const FREE: i64 = 0;
/// What it costs that a move goes to another member than the one which takes the place over by name.
const ELSEWHERE: i64 = 1;
/// What one move costs: more than all such differences together.
const MOVE: i64 = 1 << 16;
/// What a unit costs beyond those that must flow somewhere: more than all moves together, so that none is spent while
/// one of those is missing.
const UNFAIR: i64 = MOVE << 16;
const _: () = assert!(((N_MAX * PARTITIONS_MAX) as i64) < MOVE / 2);
