//! Which members are the homes of which partition: the paper's clockwise walk (4.3), bounded so that
//! nobody carries more than its share (6.2, strategy 3).
//!
//! Invariant: every partition gets N distinct members in min(N, zones) zones at least, and every member
//! fills its fair share of slots to less than one slot. The fair share goes by weight, except where copies
//! in distinct zones or on distinct members leave no choice: a zone cannot take more than one copy of a
//! partition while there are zones enough, nor a member more than one ever.
//!
//! It works in two steps. First the shares are fixed as whole numbers. Then the partitions are filled in
//! order, each by the walk, passing over a member only if taking it would make the remaining shares
//! impossible to place. The bounds nest (members in zones in the whole), so whatever passes that test can
//! be completed: whole numbers that satisfy nested bounds Q times over split into Q partitions that do.

use super::Member;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// `n` indices into `members` per partition, homes in order. `members` has at least `n` entries of weight 1
/// or more, in order of id; `n` and `partitions` are at least 1.
pub(super) fn place(members: &[Member], n: usize, partitions: usize) -> Vec<u16> {
    let zone_of = zone_numbers(members);
    let first = weighted_round(members, partitions);
    let mut left = shares(members, &zone_of, n, partitions);
    let mut slots = Vec::with_capacity(n * partitions);
    for partition in 0..partitions {
        let clockwise = (0..partitions).map(|step| first[(partition + step) % partitions]);
        let candidates = clockwise.chain(0..members.len());
        let homes = choose(&zone_of, &left, partitions - partition, n, candidates);
        assert_eq!(homes.len(), n, "shares that nest always split into partitions that do");
        for &home in &homes {
            left[home] -= 1;
        }
        slots.extend(homes.into_iter().map(|home| home as u16));
    }
    slots
}

/// The homes of one partition: the first `n` candidates that leave the other shares placeable. `left` says
/// how many slots each member has still to fill, in this and the `rest - 1` partitions after it.
fn choose(
    zone_of: &[usize],
    left: &[usize],
    rest: usize,
    n: usize,
    candidates: impl Iterator<Item = usize>,
) -> Vec<usize> {
    let mut homes = Vec::with_capacity(n);
    let mut zones = Zone::all(zone_of, left, rest, n);
    for member in candidates {
        if homes.len() == n {
            break;
        }
        if left[member] == 0 || homes.contains(&member) {
            continue;
        }
        let (zone, before) = (zone_of[member], zones[zone_of[member]]);
        zones[zone].taken += 1;
        zones[zone].urgent -= usize::from(left[member] == rest);
        if zones[zone].owed() <= zones[zone].most && zones.iter().map(Zone::owed).sum::<usize>() <= n {
            homes.push(member);
        } else {
            zones[zone] = before;
        }
    }
    homes
}

/// One zone's part in one partition's homes.
#[derive(Clone, Copy)]
struct Zone {
    taken: usize,
    /// Members not yet taken that must be, since they have a slot left for every partition that is.
    urgent: usize,
    /// The fewest and the most homes that it may have.
    least: usize,
    most: usize,
}

impl Zone {
    fn all(zone_of: &[usize], left: &[usize], rest: usize, n: usize) -> Vec<Zone> {
        let zones = members_by_zone(zone_of);
        let in_every_zone = zones.len() < n;
        let of = |zone: &Vec<usize>| {
            let total: usize = zone.iter().map(|&m| left[m]).sum();
            let urgent = zone.iter().filter(|&&m| left[m] == rest).count();
            let least = usize::from(in_every_zone || total == rest);
            let most = if in_every_zone { total + 1 - rest } else { 1 };
            Zone { taken: 0, urgent, least, most }
        };
        zones.iter().map(of).collect()
    }

    fn owed(&self) -> usize {
        (self.taken + self.urgent).max(self.least)
    }
}

/// The zone of each member, as a number.
pub(super) fn zone_numbers(members: &[Member]) -> Vec<usize> {
    let mut names: BTreeMap<&str, usize> = members.iter().map(|m| (m.zone.as_str(), 0)).collect();
    for (number, zone) in names.values_mut().enumerate() {
        *zone = number;
    }
    members.iter().map(|m| names[m.zone.as_str()]).collect()
}

/// Each member as often as its weight says, as evenly spread as can be, in order of id at the start: the
/// owners of the partitions around the ring.
fn weighted_round(members: &[Member], turns: usize) -> Vec<usize> {
    let total: i64 = members.iter().map(|m| i64::from(m.weight)).sum();
    let mut credit: Vec<i64> = alloc::vec![0; members.len()];
    (0..turns)
        .map(|_| {
            for (c, m) in credit.iter_mut().zip(members) {
                *c += i64::from(m.weight);
            }
            let next = (0..members.len()).max_by_key(|&m| (credit[m], core::cmp::Reverse(m))).unwrap_or(0);
            credit[next] -= total;
            next
        })
        .collect()
}

/// How many slots each member fills: its fair share, up or down to a whole number, so that the members of a
/// zone fill what the zone does.
fn shares(members: &[Member], zone_of: &[usize], n: usize, partitions: usize) -> Vec<usize> {
    let zones = members_by_zone(zone_of);
    let fair = fair_shares(members, zone_of, n, partitions);
    let zone_fair: Vec<Fixed> = zones.iter().map(|ms| ms.iter().map(|&m| fair[m]).sum()).collect();
    let mut slots = alloc::vec![0; members.len()];
    for (ms, total) in zones.iter().zip(round(&zone_fair, n * partitions)) {
        let fair: Vec<Fixed> = ms.iter().map(|&m| fair[m]).collect();
        for (&m, share) in ms.iter().zip(round(&fair, total)) {
            slots[m] = share;
        }
    }
    slots
}

/// What each member's weight earns it, as far as distinct members and zones allow.
pub(super) fn fair_shares(members: &[Member], zone_of: &[usize], n: usize, partitions: usize) -> Vec<Fixed> {
    let weights: Vec<u64> = members.iter().map(|m| u64::from(m.weight)).collect();
    let zones = members_by_zone(zone_of);
    if zones.len() < n {
        fair_in_every_zone(&weights, &zones, n, partitions)
    } else {
        fair_in_distinct_zones(&weights, &zones, n, partitions)
    }
}

/// The whole numbers of slots next to a share, below and above; the same one twice if the share is whole, as far as
/// rounding lets one see.
pub(super) fn whole_bounds(share: Fixed) -> (usize, usize) {
    (
        ((share + ROUNDING) >> FRACTION_BITS) as usize,
        ((share + fixed(1) - 1 - ROUNDING) >> FRACTION_BITS) as usize,
    )
}

pub(super) fn members_by_zone(zone_of: &[usize]) -> Vec<Vec<usize>> {
    let mut zones: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (member, &zone) in zone_of.iter().enumerate() {
        zones.entry(zone).or_default().push(member);
    }
    zones.into_values().collect()
}

/// Zones enough: each takes at most one copy of a partition, and shares it among its members by weight.
fn fair_in_distinct_zones(weights: &[u64], zones: &[Vec<usize>], n: usize, q: usize) -> Vec<Fixed> {
    let of_zone: Vec<u64> = zones.iter().map(|ms| ms.iter().map(|&m| weights[m]).sum()).collect();
    let mut fair = alloc::vec![0; weights.len()];
    for ((ms, zone_fair), of_zone) in zones.iter().zip(fill(&of_zone, q, n * q)).zip(of_zone) {
        for &m in ms {
            fair[m] = portion(zone_fair, weights[m], of_zone);
        }
    }
    fair
}

/// Fewer zones than copies: every partition has a copy in each zone, and each member at most one. A zone
/// whose weight earns it less than one copy of each partition gets that; the others share the rest.
fn fair_in_every_zone(weights: &[u64], zones: &[Vec<usize>], n: usize, q: usize) -> Vec<Fixed> {
    let mut fair = alloc::vec![0; weights.len()];
    let mut rest: Vec<&Vec<usize>> = zones.iter().collect();
    loop {
        let members: Vec<usize> = rest.iter().copied().flatten().copied().collect();
        let of_members: Vec<u64> = members.iter().map(|&m| weights[m]).collect();
        let copies = n - (zones.len() - rest.len());
        for (&m, share) in members.iter().zip(fill(&of_members, q, copies * q)) {
            fair[m] = share;
        }
        let poor = rest.iter().position(|ms| ms.iter().map(|&m| fair[m]).sum::<Fixed>() < fixed(q));
        let Some(poor) = poor else { return fair };
        let zone = rest.remove(poor);
        let of_zone = zone.iter().map(|&m| weights[m]).sum();
        for &m in zone {
            fair[m] = portion(fixed(q), weights[m], of_zone);
        }
    }
}

/// Divides `total` by weight, nobody getting more than `cap`; what that leaves over goes to the others.
fn fill(weights: &[u64], cap: usize, total: usize) -> Vec<Fixed> {
    let mut full = alloc::vec![false; weights.len()];
    loop {
        let rest = fixed(total.saturating_sub(cap * full.iter().filter(|&&full| full).count()));
        let weight: u64 = weights.iter().zip(&full).filter(|&(_, full)| !full).map(|(w, _)| w).sum();
        let fair: Vec<Fixed> = weights
            .iter()
            .zip(&full)
            .map(|(&w, &full)| if full { fixed(cap) } else { portion(rest, w, weight) })
            .collect();
        if fair.iter().all(|&share| share <= fixed(cap)) {
            return fair;
        }
        for (full, share) in full.iter_mut().zip(fair) {
            *full |= share > fixed(cap);
        }
    }
}

/// Whole numbers that sum to `total`, each its fraction rounded up or down: up where most was cut off.
fn round(fair: &[Fixed], total: usize) -> Vec<usize> {
    let mut whole: Vec<usize> = fair.iter().map(|share| (share >> FRACTION_BITS) as usize).collect();
    let mut by_fraction: Vec<usize> = (0..fair.len()).collect();
    by_fraction.sort_by_key(|&at| (core::cmp::Reverse(fair[at] & (fixed(1) - 1)), at));
    let missing = total.saturating_sub(whole.iter().sum());
    for &at in by_fraction.iter().take(missing) {
        whole[at] += 1;
    }
    whole
}

/// Slots in units of 2^-32: exact to far less than one slot, and the same on every machine.
pub(super) type Fixed = u64;

const FRACTION_BITS: u32 = 32;
/// Far more than what all divisions of a plan cut off, far less than a slot.
const ROUNDING: Fixed = 1 << 12;

pub(super) fn fixed(slots: usize) -> Fixed {
    (slots as u64) << FRACTION_BITS
}

pub(super) fn portion(of: Fixed, weight: u64, total: u64) -> Fixed {
    (u128::from(of) * u128::from(weight) / u128::from(total.max(1))) as u64
}
