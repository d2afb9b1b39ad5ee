//! Clusters to lay out, and what every layout owes.
#![allow(dead_code, unreachable_pub)]

use gramme_core::limits::N_MAX;
use gramme_core::{Layout, Member, NodeId, PartitionId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub fn member(id: u64, zone: &str, weight: u32) -> Member {
    Member {
        id: NodeId(id),
        name: format!("node{id}"),
        address: format!("10.0.0.{id}:7402"),
        http: format!("10.0.0.{id}:7400"),
        zone: zone.into(),
        weight,
    }
}

pub fn letters(ids: &[NodeId]) -> String {
    ids.iter().map(|id| (b'A' + id.0 as u8 - 1) as char).collect()
}

/// Clusters of 1 to 24 members in 1 to 7 zones, even or skewed in weight and in zones.
pub fn clusters() -> impl Strategy<Value = (Vec<Member>, usize, usize)> {
    (1..=N_MAX, 1..=7u64, 0..=9u32)
        .prop_flat_map(|(n, zones, bits)| {
            let weight = prop_oneof![Just(1u32), 1..5u32, 1..1000u32];
            let members = proptest::collection::vec((0..zones, weight), n..=n + 17);
            (members, any::<bool>(), Just(n), Just(1usize << bits))
        })
        .prop_map(|(members, even, n, q)| {
            let all = members.into_iter().zip(1..).map(|((zone, weight), id)| {
                // Ids in no order of zones, as random ids are.
                member(id * 7919 % 104_729, &format!("zone{zone}"), if even { 1 } else { weight })
            });
            (all.collect(), n, q)
        })
}

pub fn assert_laws(layout: &Layout) {
    let (n, q) = (layout.n(), layout.partitions());
    let zone = |id: &NodeId| layout.member(*id).expect("a member").zone.clone();
    let zones: BTreeSet<String> = layout.members().iter().map(|m| m.zone.clone()).collect();
    for p in (0..q).map(|p| PartitionId(p as u16)) {
        let (homes, fallbacks) = (layout.homes(p), layout.fallbacks(p));
        let distinct: BTreeSet<&NodeId> = homes.iter().collect();
        assert_eq!(distinct.len(), n, "{p}: N distinct homes");
        let home_zones: BTreeSet<String> = homes.iter().map(zone).collect();
        assert!(home_zones.len() >= n.min(zones.len()), "{p}: as many zones as can be");
        let all: BTreeSet<&NodeId> = layout.preference_list(p).iter().collect();
        assert_eq!(all.len(), layout.members().len(), "{p}: everybody is on the preference list");
        assert_eq!(homes.len() + fallbacks.len(), layout.members().len(), "{p}: everybody once");
        let order: Vec<bool> = fallbacks.iter().map(|f| home_zones.contains(&zone(f))).collect();
        assert!(order.is_sorted(), "{p}: fallbacks of other zones first");
    }
    for (id, share) in fair_shares(layout.members(), n, q) {
        let slots = layout.slots_of(id) as f64;
        assert!((slots - share).abs() < 1.0 + 1e-6, "{id}: {slots} slots, its fair share is {share}");
    }
}

/// The oracle of shares: the level of water at which the cluster holds all copies, found by bisection. A
/// zone takes at most one copy of each partition while there are N zones; with fewer, it takes at least one
/// and each member at most one.
pub fn fair_shares(members: &[Member], n: usize, q: usize) -> BTreeMap<NodeId, f64> {
    let (q, total) = (q as f64, (n * q) as f64);
    let mut zones: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in members {
        zones.entry(&member.zone).or_default().push(member);
    }
    let every_zone = zones.len() < n;
    let weight = |zone: &[&Member]| zone.iter().map(|m| f64::from(m.weight)).sum::<f64>();
    let shares_at = |level: f64| -> BTreeMap<NodeId, f64> {
        let of_zone = |zone: &Vec<&Member>| -> Vec<(NodeId, f64)> {
            let earned: Vec<f64> = zone.iter().map(|m| (level * f64::from(m.weight)).min(q)).collect();
            let sum: f64 = earned.iter().sum();
            let whole_copy = if every_zone { sum < q } else { sum > q };
            zone.iter()
                .zip(earned)
                .map(|(m, earned)| {
                    (m.id, if whole_copy { q * f64::from(m.weight) / weight(zone) } else { earned })
                })
                .collect()
        };
        zones.values().flat_map(of_zone).collect()
    };
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..200 {
        let level = (low + high) / 2.0;
        if shares_at(level).values().sum::<f64>() < total { low = level } else { high = level }
    }
    shares_at(high)
}
