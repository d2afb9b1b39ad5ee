//! What gossip reconciles: the laws of its merge, and that an exchange sends what differs and nothing else.

use bytes::Bytes;
use gramme_core::codec::{Reader, Writer};
use gramme_core::gossip::{Entry, Gossip, Line, Name, NodeFact, entry_bytes, read_entry, write_entry};
use gramme_core::limits::{CHAIN_MAX, FACT_BYTES_MAX, MEMBER_TEXT_BYTES_MAX, MEMBERS_MAX, STAGED_MAX};
use gramme_core::paxos::Decree;
use gramme_core::{LayoutHash, NodeId, Stamp};
use proptest::prelude::*;

fn entry(stamp: u64, tie: u64, text: &str) -> Entry {
    Entry { stamp: Stamp(stamp), tie, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

fn layout(version: u64, hash: u128) -> Name {
    Name::Layout(Decree { lineage: 0, version }, LayoutHash(hash))
}

fn of(entries: &[(Name, Entry)]) -> Gossip {
    let mut gossip = Gossip::new();
    entries.iter().for_each(|(name, entry)| _ = gossip.merge_one(name, entry));
    gossip
}

fn joined(a: &Gossip, b: &Gossip) -> Gossip {
    let mut both = a.clone();
    both.merge(b);
    both
}

/// The whole exchange: what `from` and `to` know after it, and how many entries went over.
fn exchange(from: &mut Gossip, to: &mut Gossip) -> usize {
    if from.digest() == to.digest() {
        return 0;
    }
    let parts = from.differing(&to.sums());
    let listing: Vec<Line> = from.listing(parts);
    let difference = to.difference(parts, &listing);
    let answer = from.wanted(&difference.want);
    difference.send.iter().for_each(|(name, entry)| _ = from.merge_one(name, entry));
    answer.iter().for_each(|(name, entry)| _ = to.merge_one(name, entry));
    difference.send.len() + answer.len()
}

fn entries() -> impl Strategy<Value = Vec<(Name, Entry)>> {
    let name = prop_oneof![
        (0..2u64, 1..6u64, 1..3u128)
            .prop_map(|(lineage, version, hash)| Name::Layout(Decree { lineage, version }, LayoutHash(hash))),
        "[a-c]".prop_map(|key| Name::Staged(key.into())),
        (1..5u64).prop_map(|node| Name::Node(NodeId(node))),
    ];
    let entry = (0..4u64, 0..3u64, "[x-z]{0,2}").prop_map(|(stamp, tie, text)| entry(stamp, tie, &text));
    proptest::collection::vec((name, entry), 0..24)
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(a in entries(), b in entries(), c in entries()) {
        let (a, b, c) = (of(&a), of(&b), of(&c));
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        prop_assert!(!joined(&a, &b).clone().merge(&a), "nothing of it is news");
    }

    #[test]
    fn an_exchange_leaves_both_with_all_of_both(a in entries(), b in entries()) {
        let (mut a, mut b) = (of(&a), of(&b));
        let all = joined(&a, &b);
        let differing = all.entries().filter(|(name, _)| a.get(name) != b.get(name)).count();
        let sent = exchange(&mut a, &mut b);
        prop_assert_eq!(&a, &all);
        prop_assert_eq!(&b, &all);
        prop_assert!(sent <= 2 * differing, "{} sent for {} that differed", sent, differing);
        prop_assert_eq!(exchange(&mut a, &mut b), 0);
        prop_assert_eq!(a.digest(), b.digest());
    }

    #[test]
    fn entries_are_read_as_they_were_written(all in entries()) {
        for (name, entry) in all {
            let mut w = Writer::new();
            write_entry(&mut w, &name, &entry);
            prop_assert_eq!(w.len(), entry_bytes(&name, &entry));
            let mut r = Reader::new(w.as_slice());
            prop_assert_eq!(read_entry(&mut r), Ok((name, entry)));
            prop_assert_eq!(r.end(), Ok(()));
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_entry(&mut Reader::new(&bytes));
    }
}

#[test]
fn two_layouts_of_one_number_both_stay_and_are_an_alarm() {
    let mut here = of(&[(layout(1, 1), entry(0, 0, "first")), (layout(2, 7), entry(0, 0, "seven"))]);
    assert!(here.contradictions().is_empty());
    assert_eq!(here.head(), Some((Decree { lineage: 0, version: 2 }, vec![LayoutHash(7)])));
    let mut there = of(&[(layout(1, 1), entry(0, 0, "first")), (layout(2, 8), entry(0, 0, "eight"))]);
    exchange(&mut here, &mut there);
    assert_eq!(here.contradictions(), [Decree { lineage: 0, version: 2 }].into());
    assert_eq!(there.contradictions(), here.contradictions());
    assert_eq!(here.head().map(|head| head.1), Some(vec![LayoutHash(7), LayoutHash(8)]));
}

#[test]
fn a_node_that_forgot_how_late_it_was_is_heard_all_the_same() {
    let name = Name::Node(NodeId(1));
    let mut here = of(&[(name.clone(), entry(500, 1, "the old address"))]);
    let stamp = here.stamp_over(&name, Stamp(20));
    assert_eq!(stamp, Stamp(501));
    assert!(here.merge_one(&name, &entry(stamp.0, 2, "the new address")));
    assert_eq!(here.stamp_over(&name, Stamp(9_000)), Stamp(9_000));
}

#[test]
fn nothing_grows_beyond_its_limit() {
    let mut gossip = Gossip::new();
    for number in 0..2 * STAGED_MAX as u64 {
        gossip.merge_one(&Name::Staged(number.to_string().into()), &entry(1, 1, "staged"));
        gossip.merge_one(&Name::Node(NodeId(number)), &entry(1, 1, "node"));
        gossip.merge_one(&layout(number + 1, 1), &entry(0, 0, "layout"));
    }
    let count = |is_it: fn(&Name) -> bool| gossip.entries().filter(|(name, _)| is_it(name)).count();
    assert_eq!(count(|name| matches!(name, Name::Staged(_))), STAGED_MAX);
    assert_eq!(count(|name| matches!(name, Name::Node(_))), 2 * MEMBERS_MAX);
    assert_eq!(count(|name| matches!(name, Name::Layout(..))), CHAIN_MAX);
    assert_eq!(gossip.head().map(|head| head.0.version), Some(2 * STAGED_MAX as u64), "the latest are kept");
    assert!(!gossip.merge_one(&layout(1, 1), &entry(0, 0, "layout")), "an old one is not taken again");
    let long = "x".repeat(FACT_BYTES_MAX + 1);
    assert!(!gossip.merge_one(&Name::Node(NodeId(1)), &entry(9, 9, &long)));
}

#[test]
fn a_node_s_facts_are_read_back_and_later_ones_win() {
    let mut fact = NodeFact {
        name: "ada".into(),
        address: "ada.example:7402".into(),
        http: "ada.example:7400".into(),
        zone: "north".into(),
        release: "0.1.0".into(),
        features: 5,
    };
    let (name, first) = fact.entry(NodeId(7), Stamp(10), 1);
    assert_eq!(NodeFact::read(&first), Ok(fact.clone()));
    fact.address = "10.0.0.9:7402".into();
    let (_, second) = fact.entry(NodeId(7), Stamp(11), 1);
    let gossip = of(&[(name.clone(), second.clone()), (name.clone(), first.clone())]);
    assert_eq!(gossip.get(&name), Some(&second), "whichever came last");
    let cut = Entry { bytes: first.bytes.slice(..9), ..first };
    assert!(NodeFact::read(&cut).is_err());
    for zone in ["x".repeat(MEMBER_TEXT_BYTES_MAX + 1), "a\u{1b}[2Jb".to_string()] {
        let (_, strange) = NodeFact { zone, ..fact.clone() }.entry(NodeId(7), Stamp(12), 1);
        assert!(NodeFact::read(&strange).is_err(), "it would be shown to people");
    }
}
