//! Ring changes on paper: what is staged, what the plan for it does, and that no plan would do it with less.

#[path = "common/rings.rs"]
mod rings;

use gramme_core::codec::BadBytes;
use gramme_core::layout::plan::{BadPlan, Plan, Warning, plan, zones_at_least};
use gramme_core::layout::staged::{BadChange, Change, Staged};
use gramme_core::limits::{MEMBERS_MAX, STAGED_MAX};
use gramme_core::{Layout, Member, NodeId, PartitionId, Stamp};
use proptest::prelude::*;
use rings::{assert_laws, clusters, fair_shares, letters, member};
use std::collections::{BTreeMap, BTreeSet};

/// Stages changes one after the other, as one administrator does.
fn staged(layout: &Layout, changes: impl IntoIterator<Item = (u64, Change)>) -> Result<Staged, BadChange> {
    let mut staged = Staged::new();
    for (at, (node, change)) in (1..).zip(changes) {
        staged.stage(layout, NodeId(node), change, Stamp(at), NodeId(1))?;
    }
    Ok(staged)
}

fn planned(layout: &Layout, changes: impl IntoIterator<Item = (u64, Change)>) -> Plan {
    plan(layout, &staged(layout, changes).expect("can be staged")).expect("can be planned")
}

fn even(ids: impl IntoIterator<Item = u64>, n: usize, q: usize) -> Layout {
    Layout::first(ids.into_iter().map(|id| member(id, "z", 1)).collect(), n, q).expect("a layout")
}

fn join(id: u64) -> (u64, Change) {
    (id, Change::Join(member(id, "z", 1)))
}

fn partitions(layout: &Layout) -> impl Iterator<Item = PartitionId> {
    (0..layout.partitions() as u16).map(PartitionId)
}

#[test]
fn figure_2_x_joins_between_a_and_b_and_b_c_and_d_give_up_one_range_each() {
    // The ring of Figure 2 with the range of B split where X will stand: (A, X] is partition 7, (X, B] is 0.
    let layout = even(2..=8, 3, 8);
    let name = |ids: &[NodeId]| letters(ids).replace('H', "A");
    let around: Vec<String> = partitions(&layout).map(|p| name(layout.homes(p))).collect();
    assert_eq!(around, ["BCD", "CDE", "DEF", "EFG", "FGA", "GAB", "ABC", "BCD"]);
    let plan = planned(&layout, [join(24)]);
    let moved: Vec<(String, usize)> =
        plan.moved().into_iter().map(|((from, to), count)| (name(&[from, to]), count)).collect();
    assert_eq!(moved, [("BX".into(), 1), ("CX".into(), 1), ("DX".into(), 1)], "and nobody else is touched");
    assert_eq!(plan.chain().len(), 1);
    assert_eq!(plan.last().slots_of(NodeId(24)), 3, "X stores three ranges, as each of the eight does");
    assert_eq!(plan.live_homes_kept(|_| true), 2);
}

#[test]
fn a_replacement_takes_over_just_the_slots_of_the_one_it_replaces() {
    let layout = even(1..=7, 3, 64);
    let plan = planned(&layout, [(4, Change::Replace(member(40, "z", 1)))]);
    assert_eq!(plan.chain().len(), 1);
    for p in partitions(&layout) {
        let renamed: Vec<NodeId> =
            layout.homes(p).iter().map(|&home| if home == NodeId(4) { NodeId(40) } else { home }).collect();
        assert_eq!(plan.last().homes(p), renamed);
    }
    assert_eq!(plan.moved(), BTreeMap::from([((NodeId(4), NodeId(40)), layout.slots_of(NodeId(4)))]));
    assert_eq!(plan.last().removed(), &BTreeSet::from([NodeId(4)]));
    assert_eq!(
        plan.live_homes_kept(|node| node != NodeId(4)),
        2,
        "the dead one is not among those that stay"
    );
    // The new machine may have the name and address of the old one.
    let mut twin = member(4, "z", 1);
    twin.id = NodeId(44);
    planned(&layout, [(4, Change::Replace(twin))]);
}

#[test]
fn three_grow_to_six_and_shrink_back_in_two_versions_each() {
    let three = even(1..=3, 3, 256);
    let grown = planned(&three, [join(4), join(5), join(6)]);
    assert_eq!(grown.moves().len(), 3 * 128, "half of all replicas, and no more");
    assert_eq!(grown.chain().len(), 2, "of each partition one slot, then at most one more");
    assert_eq!(
        grown.shares().iter().map(|share| (share.before, share.after)).collect::<Vec<_>>(),
        [(256, 128), (256, 128), (256, 128), (0, 128), (0, 128), (0, 128)]
    );
    assert_eq!(grown.warnings(), [Warning::FewZones { zones: 1, n: 3 }]);
    let shrunk = planned(grown.last(), [4, 5, 6].map(|id| (id, Change::Leave)));
    assert_eq!(shrunk.moves().len(), 3 * 128);
    assert_eq!(shrunk.last().members(), three.members());
    assert_eq!(shrunk.last().removed(), &BTreeSet::from([4, 5, 6].map(NodeId)));
    assert!(shrunk.warnings().contains(&Warning::NoFallback));
    assert_chain(grown.last(), &shrunk);
}

#[test]
fn those_that_go_are_members_until_they_have_lost_their_slots() {
    let layout = even(1..=6, 3, 256);
    let plan = planned(&layout, [1, 2, 3].map(|id| (id, Change::Leave)));
    for version in plan.chain() {
        for member in version.members().iter().filter(|member| member.id <= NodeId(3)) {
            assert!(version.slots_of(member.id) > 0, "who has nothing any more is gone");
        }
    }
    assert_eq!(plan.chain().len(), 3, "some partition has all three copies on those that go");
    assert_eq!(plan.last().members().len(), 3);
}

#[test]
fn a_new_zone_gets_a_copy_of_every_partition() {
    let layout =
        Layout::first((1..=6).map(|id| member(id, ["a", "b"][id as usize % 2], 1)).collect(), 3, 128)
            .expect("a layout");
    assert_eq!(zones_at_least(&layout), 2);
    let plan = planned(&layout, [(7, Change::Join(member(7, "c", 1))), (8, Change::Join(member(8, "c", 1)))]);
    assert_eq!(zones_at_least(plan.last()), 3);
    assert_eq!(plan.moves().len(), 128, "one copy of each partition and no more");
    assert_eq!(plan.chain().len(), 1);
    let [Warning::Uneven { members: 8, slots: 64, earned: 48, .. }] = plan.warnings() else {
        panic!("two members cannot share a third of all copies as six share the rest: {:?}", plan.warnings())
    };
    // The zone of a member is a staged change as well.
    let same = planned(&layout, [(1, Change::Zone("c".into()))]);
    assert_eq!(zones_at_least(same.last()), 3);
    let name = "node1".to_string();
    assert_eq!(same.warnings(), [Warning::Uneven { members: 4, name, slots: 128, earned: 64 }]);
}

#[test]
fn what_cannot_be_had_is_said() {
    let layout = even(1..=4, 3, 64);
    let heavy = planned(&layout, [(1, Change::Weight(1000)), (2, Change::Zone("other".into()))]);
    let said: Vec<String> = heavy.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "the members are in 2 zones, so the 3 copies of a partition share some");
    assert_eq!(said[1], "zone z holds most copies of 64 partitions: without it, these have no majority");
    assert_eq!(
        said[2],
        "shares cannot follow weights, since the copies of a partition are on distinct members and in distinct zones: of 4 members that get more or less, node1 is furthest off, with 64 slots where its weight would earn it 191"
    );
}

#[test]
fn every_refusal_is_one_sentence_and_changes_nothing() {
    let layout = even(1..=4, 3, 16);
    let without_4 = planned(&layout, [(4, Change::Leave)]).last().clone();
    let named = |id, name: &str| Member { name: name.into(), ..member(id, "z", 1) };
    let cases = [
        (
            &layout,
            9,
            Change::Leave,
            "node 0000000000000009 is no member of this cluster and none is staged to join with this id",
        ),
        (
            &layout,
            9,
            Change::Weight(2),
            "node 0000000000000009 is no member of this cluster and none is staged to join with this id",
        ),
        (
            &layout,
            9,
            Change::Replace(member(10, "z", 1)),
            "node 0000000000000009 is no member of this cluster and none is staged to join with this id",
        ),
        (
            &layout,
            2,
            Change::Join(member(2, "z", 1)),
            "node 0000000000000002 is a member of this cluster already, as node2",
        ),
        (
            &layout,
            1,
            Change::Replace(member(2, "z", 1)),
            "node 0000000000000002 is a member of this cluster already, as node2",
        ),
        (
            &layout,
            1,
            Change::Replace(member(1, "z", 1)),
            "node 0000000000000001 cannot replace itself: name the new node by its own id",
        ),
        (
            &without_4,
            4,
            Change::Join(member(4, "z", 1)),
            "node 0000000000000004 was removed from this cluster and cannot come back: give it an empty data directory and a new id",
        ),
        (
            &without_4,
            1,
            Change::Replace(member(4, "z", 1)),
            "node 0000000000000004 was removed from this cluster and cannot come back: give it an empty data directory and a new id",
        ),
        (
            &without_4,
            4,
            Change::Weight(2),
            "node 0000000000000004 was removed from this cluster and cannot come back: give it an empty data directory and a new id",
        ),
        (
            &without_4,
            1,
            Change::Leave,
            "this would leave 2 members, and each partition has 3 copies on distinct ones: stage a join first, or replace the node",
        ),
        (
            &layout,
            1,
            Change::Weight(0),
            "the weight of node 0000000000000001 cannot be 0: use 1 or more, or stage its leave",
        ),
        (
            &layout,
            9,
            Change::Join(named(9, "node2")),
            "two members would have the name node2: each needs its own",
        ),
        (
            &layout,
            9,
            Change::Join(Member { address: "10.0.0.2:7402".into(), ..named(9, "x") }),
            "two members would have the address 10.0.0.2:7402: each needs its own",
        ),
        (
            &layout,
            9,
            Change::Join(named(9, "")),
            "the name of the new member is not valid: use 1 to 240 bytes",
        ),
        (
            &layout,
            9,
            Change::Join(member(8, "z", 1)),
            "a join of node 0000000000000009 must name that node's own id",
        ),
    ];
    for (layout, node, change, sentence) in cases {
        let mut staged = staged(layout, [(2, Change::Weight(3))]).expect("a sound change");
        let before = staged.clone();
        let refused = staged.stage(layout, NodeId(node), change.clone(), Stamp(9), NodeId(1));
        assert_eq!(refused.expect_err("must be refused").to_string(), sentence, "{change:?}");
        assert_eq!(staged, before);
    }
    assert_eq!(plan(&layout, &Staged::new()), Err(BadPlan::Nothing));
    let crowd = even(1..=MEMBERS_MAX as u64, 3, 4);
    let refused = staged(&crowd, [join(1000)]).expect_err("must be refused");
    assert_eq!(refused.to_string(), "257 members: at most 256 are allowed");
}

#[test]
fn wishes_that_are_sound_alone_and_not_together_are_refused_by_the_plan() {
    let layout = even(1..=4, 3, 16);
    let mut here = staged(&layout, [(1, Change::Leave)]).expect("three are left");
    let there = staged(&layout, [(2, Change::Leave)]).expect("three are left");
    assert!(here.merge(&there));
    assert_eq!(plan(&layout, &here), Err(BadPlan::Change(BadChange::TooFew { members: 2, n: 3 })));
    // Whatever mends it is taken, and what would not still is, for it may be the first of two that do.
    here.stage(&layout, NodeId(9), join(9).1, Stamp(5), NodeId(1)).expect("mends it");
    assert_eq!(plan(&layout, &here).expect("mended").last().members().len(), 3);
    here.clear(&layout, Stamp(6), NodeId(1)).expect("is later");
    assert_eq!(here.open(&layout).count(), 0);
    assert!(!here.merge(&there), "what was taken back does not come back");
    assert_eq!(here.open(&layout).count(), 0);
}

#[test]
fn a_node_that_was_to_join_may_take_anothers_place_instead_and_comes_once() {
    let layout = even(1..=4, 3, 16);
    let replace = |old: u64| (old, Change::ReplaceLost(member(9, "z", 1)));
    let instead = planned(&layout, [join(9), replace(2)]);
    assert_eq!(instead.last().members().len(), 4);
    assert!(instead.last().member(NodeId(2)).is_none());
    for again in [join(9), replace(3)] {
        let refused = staged(&layout, [replace(2), again]).expect_err("must be refused");
        assert_eq!(
            refused.to_string(),
            "node9 is staged to come already, by a join or in another's place, and comes once: clear what is staged, and stage it anew"
        );
    }
}

#[test]
fn a_wish_that_is_fulfilled_asks_for_nothing_and_keeps_older_ones_away() {
    let layout = even(1..=4, 3, 64);
    let older = staged(&layout, [(1, Change::Weight(2))]).expect("sound");
    let mut all = older.clone();
    for (node, change) in [(1, Change::Weight(3)), join(5), (2, Change::Leave)] {
        all.stage(&layout, NodeId(node), change, Stamp(7), NodeId(1)).expect("sound");
    }
    let done = plan(&layout, &all).expect("a plan").last().clone();
    assert_eq!(done.member(NodeId(1)).map(|member| member.weight), Some(3));
    assert_eq!(plan(&done, &all), Err(BadPlan::Nothing));
    all.forget(&done);
    assert!(!all.merge(&older));
    assert_eq!(plan(&done, &all), Err(BadPlan::Nothing));
    let late = all.stage(&done, NodeId(1), Change::Weight(9), Stamp(6), NodeId(1));
    assert_eq!(late, Err(BadChange::Late(NodeId(1))));
}

#[test]
fn a_layout_that_could_not_be_committed_is_not_planned() {
    let long = |id| Member { zone: "z".repeat(5000), ..member(id, "", 1) };
    let crowd = Layout::first((1..=60).map(long).collect(), 3, 4).expect("a layout");
    let staged = staged(&crowd, [(1, Change::Weight(2))]).expect("sound");
    let said = plan(&crowd, &staged).expect_err("must be refused").to_string();
    assert!(said.contains("262144 are allowed: use shorter names, addresses and zones"), "{said}");
}

#[test]
fn staged_changes_have_a_limit() {
    let layout = even(1..=4, 3, 4);
    let mut full = Staged::new();
    for id in 0..STAGED_MAX as u64 {
        let wish = (id + 100, Change::Join(member(id + 100, "z", 1)));
        let one = staged(&layout, [wish]).expect("one join");
        assert!(full.merge(&one));
    }
    assert!(!full.merge(&staged(&layout, [join(50)]).expect("one join")), "no room for another");
    let refused = full.stage(&layout, NodeId(1), Change::Leave, Stamp(9), NodeId(1));
    assert_eq!(refused, Err(BadChange::Full));
    assert_eq!(Staged::decode(&full.encode()), Ok(full));
}

#[test]
fn the_largest_clusters_change_with_the_least_moves() {
    let members = |ids: std::ops::RangeInclusive<u64>| -> Vec<Member> {
        ids.map(|id| member(id * 7919 % 104_729, &format!("zone{}", id % 5), 1 + id as u32 % 3)).collect()
    };
    let layout = Layout::first(members(1..=200), 3, 4096).expect("a layout");
    let id = |at: u64| at * 7919 % 104_729;
    let few = planned(&layout, members(201..=202).into_iter().map(|m| (m.id.0, Change::Join(m))));
    let leave =
        planned(&layout, [(id(17), Change::Leave), (id(100), Change::Leave), (id(3), Change::Weight(5))]);
    for plan in [&few, &leave] {
        assert_chain(&layout, plan);
        assert_least(&layout, plan.last());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn laws_of_plans(cluster in clusters(), wishes in proptest::collection::vec(wish(), 1..6)) {
        let (members, n, q) = cluster;
        let layout = Layout::first(members, n, q).expect("a valid cluster");
        let staged = sound(&layout, &wishes, 1000);
        match plan(&layout, &staged) {
            Ok(plan) => {
                assert_chain(&layout, &plan);
                assert_least(&layout, plan.last());
            }
            Err(refused) => prop_assert_eq!(refused, BadPlan::Nothing),
        }
    }

    #[test]
    fn shares_stay_fair_through_many_changes(cluster in clusters(), rounds in proptest::collection::vec(proptest::collection::vec(wish(), 1..3), 1..12)) {
        let (members, n, q) = cluster;
        let mut layout = Layout::first(members, n, q.min(64)).expect("a valid cluster");
        for (round, wishes) in rounds.iter().enumerate() {
            let staged = sound(&layout, wishes, 1000 * (round as u64 + 1));
            let Ok(plan) = plan(&layout, &staged) else { continue };
            assert_chain(&layout, &plan);
            layout = plan.last().clone();
        }
    }

    #[test]
    fn all_nodes_that_heard_the_same_wishes_plan_the_same(cluster in clusters(), wishes in proptest::collection::vec((wish(), 0..4u64, 0..3u64), 1..8)) {
        let (members, n, q) = cluster;
        let layout = Layout::first(members, n, q.min(32)).expect("a valid cluster");
        // Wishes are staged apart, at any stamp and by anyone; some at the same one.
        let heard: Vec<Staged> = wishes.iter().filter_map(|((node, kind), stamp, author)| {
            let mut staged = Staged::new();
            let (node, change) = wanted(&layout, *node, *kind, 1000);
            staged.stage(&layout, node, change, Stamp(*stamp), NodeId(*author)).ok().map(|()| staged)
        }).collect();
        let merge = |mut into: Staged, other: &Staged| { into.merge(other); into };
        let all = heard.iter().fold(Staged::new(), merge);
        let backwards = heard.iter().rev().fold(Staged::new(), merge);
        let twice = heard.iter().chain(&heard).fold(Staged::new(), merge);
        let halves = heard.split_at(heard.len() / 2);
        let apart = merge(halves.0.iter().fold(Staged::new(), merge), &halves.1.iter().fold(Staged::new(), merge));
        prop_assert_eq!(&all, &backwards);
        prop_assert_eq!(&all, &twice);
        prop_assert_eq!(&all, &apart);
        prop_assert_eq!(Staged::decode(&all.encode()), Ok(all.clone()));
        prop_assert_eq!(plan(&layout, &all), plan(&Layout::decode(&layout.encode()).expect("its bytes"), &apart));
    }

    #[test]
    fn arbitrary_bytes_are_no_staged_changes_and_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        bytes.insert(0, 1);
        let sum = gramme_core::codec::checksum32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        if let Ok(staged) = Staged::decode(&bytes) {
            let layout = even(1..=4, 3, 4);
            let _ = plan(&layout, &staged);
            prop_assert_eq!(staged.encode().len(), bytes.len());
        }
        let cut = &bytes[..bytes.len() - 1];
        prop_assert_eq!(Staged::decode(cut).err(), Some(BadBytes::Checksum));
    }
}

/// Which member a wish is about, by its place, and what is wanted of it.
type Wished = (usize, usize);

fn wish() -> impl Strategy<Value = Wished> {
    (0..24usize, 0..64usize)
}

fn wanted(layout: &Layout, at: usize, kind: usize, new: u64) -> (NodeId, Change) {
    let members = layout.members();
    let old = members[at % members.len()].id;
    let id = new + at as u64;
    let fresh =
        Member { id: NodeId(200_000 + id), ..member(id, &format!("zone{}", kind % 5), 1 + kind as u32 % 3) };
    match kind % 8 {
        0..=2 => (fresh.id, Change::Join(fresh)),
        3 | 4 => (old, Change::Leave),
        5 => (old, Change::Replace(fresh)),
        6 => (old, Change::Weight(1 + kind as u32 % 7)),
        _ => (old, Change::Zone(format!("zone{}", kind % 6))),
    }
}

/// Those wishes that can be staged one after the other.
fn sound(layout: &Layout, wishes: &[Wished], new: u64) -> Staged {
    let mut staged = Staged::new();
    for (stamp, &(at, kind)) in (1..).zip(wishes) {
        let (node, change) = wanted(layout, at, kind, new + 30 * stamp);
        let _ = staged.stage(layout, node, change, Stamp(new * 100 + stamp), NodeId(1));
    }
    staged
}

/// What every plan owes: a chain in which each version follows the one before it and changes at most one slot of each
/// partition, moves that say so, bytes that open, no version spread worse than its two ends, and fair shares in the end.
fn assert_chain(parent: &Layout, plan: &Plan) {
    let mut last = parent;
    let spread = |version: &Layout| zones_in_the_end(parent, plan.last(), version);
    let ends: Vec<usize> =
        spread(parent).into_iter().zip(spread(plan.last())).map(|(a, b)| a.min(b)).collect();
    let mut moves = plan.moves().iter();
    for version in plan.chain() {
        assert_eq!((version.version(), version.parent()), (last.version() + 1, last.hash()));
        for p in partitions(parent) {
            let (before, after) = (last.homes(p), version.homes(p));
            let changed: Vec<usize> = (0..parent.n()).filter(|&slot| before[slot] != after[slot]).collect();
            assert!(changed.len() <= 1, "{p}: {before:?} to {after:?}");
            for slot in changed {
                let said = moves.next().expect("every change is a move");
                assert_eq!((said.version, said.partition, said.slot), (version.version(), p, slot));
                assert_eq!((said.from, said.to), (before[slot], after[slot]));
            }
            let distinct: BTreeSet<&NodeId> = after.iter().collect();
            assert_eq!(distinct.len(), parent.n(), "{p}");
        }
        assert!(spread(version).iter().zip(&ends).all(|(zones, least)| zones >= least));
        assert_eq!(Layout::decode(&version.encode()).as_ref(), Ok(version));
        assert!(version.members().iter().all(|member| !version.removed().contains(&member.id)));
        assert!(last.removed().is_subset(version.removed()));
        last = version;
    }
    assert_eq!(moves.next(), None, "no move that no version makes");
    assert!(plan.live_homes_kept(|_| true) >= parent.n() - usize::from(!plan.moves().is_empty()));
    assert_laws(plan.last());
    for share in plan.shares() {
        let slots = (parent.slots_of(share.node), plan.last().slots_of(share.node));
        assert_eq!((share.before, share.after), slots);
    }
}

/// In how many zones each partition is, by the zones that members have in the end, or had if they go.
fn zones_in_the_end(first: &Layout, last: &Layout, version: &Layout) -> Vec<usize> {
    let zone = |&home: &NodeId| {
        let member = last.member(home).or(first.member(home)).expect("a member of one of them");
        member.zone.clone()
    };
    partitions(version).map(|p| version.homes(p).iter().map(zone).collect::<BTreeSet<_>>().len()).collect()
}

/// The bounds within which a member's slots must be.
fn bounds(layout: &Layout) -> BTreeMap<NodeId, (i64, i64)> {
    let shares = fair_shares(layout.members(), layout.n(), layout.partitions());
    shares
        .into_iter()
        .map(|(id, share)| (id, ((share + 1e-6).floor() as i64, (share - 1e-6).ceil() as i64)))
        .collect()
}

fn moves_between(before: &Layout, after: &Layout) -> usize {
    let new = |p| after.homes(p).iter().filter(|&&home| !before.is_home(p, home)).count();
    partitions(before).map(new).sum()
}

/// No assignment moves fewer: some members hold too little, and others too much, whatever is done about zones.
fn least_by_counting(before: &Layout, after: &Layout) -> usize {
    let (mut short, mut kept) = (0, 0);
    for (id, (least, most)) in bounds(after) {
        let has = before.slots_of(id) as i64;
        short += (least - has).max(0);
        kept += has.min(most);
    }
    let all = (before.n() * before.partitions()) as i64;
    short.max(all - kept) as usize
}

/// The certificate that no assignment moves fewer: in the network of what could be changed about this one, no round
/// trip saves a move (Bellman and Ford). Nodes are members, partitions, zones of partitions, and the end of all.
fn assert_least(before: &Layout, after: &Layout) {
    assert!(moves_between(before, after) >= least_by_counting(before, after));
    let zone_of = |at: usize| after.members()[at].zone.as_str();
    let zones: Vec<&str> =
        (0..after.members().len()).map(zone_of).collect::<BTreeSet<_>>().into_iter().collect();
    let (s, z, n) = (after.members().len(), zones.len(), after.n());
    let node_of_partition = |p: usize| 1 + s + p * (1 + z);
    let mut edges: Vec<(usize, usize, i32)> = Vec::new();
    let mut edge = |from, to, flow: usize, least: usize, most: usize, cost| {
        if flow < most {
            edges.push((from, to, cost));
        }
        if flow > least {
            edges.push((to, from, -cost));
        }
    };
    for (at, (id, (least, most))) in bounds(after).into_iter().enumerate() {
        edge(1 + at, 0, after.slots_of(id), least as usize, most as usize, 0);
    }
    for p in partitions(after) {
        let from = node_of_partition(p.0 as usize);
        let home = |at: usize| after.is_home(p, after.members()[at].id);
        for (zone, name) in zones.iter().enumerate() {
            let taken = (0..s).filter(|&at| home(at) && zone_of(at) == *name).count();
            let (least, most) = if z < n { (1, n) } else { (0, 1) };
            edge(from, from + 1 + zone, taken, least, most, 0);
        }
        for at in 0..s {
            let zone = zones.iter().position(|zone| *zone == zone_of(at)).expect("a zone");
            let cost = i32::from(!before.is_home(p, after.members()[at].id));
            edge(from + 1 + zone, 1 + at, usize::from(home(at)), 0, 1, cost);
        }
    }
    let nodes = node_of_partition(after.partitions());
    let mut distance = vec![0; nodes];
    for round in 0..=nodes {
        let mut shorter = false;
        for &(from, to, cost) in &edges {
            if distance[from] + cost < distance[to] {
                distance[to] = distance[from] + cost;
                shorter = true;
            }
        }
        if !shorter {
            return;
        }
        assert!(round < nodes.min(200), "fewer moves would do");
    }
}
