//! Counting answers, as a table: what was asked of whom, who answered how, and how it stands.

mod common;

use common::cases;
use gramme_core::bucket::{Level, LevelTooHigh};
use gramme_core::{NodeId, Quorum, Verdict};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// `A`, `B`, `C` are homes and `x`, `y` fallbacks. `?A` asks A, `+A` is its answer, `-A` its failure.
fn play(need: usize, homes: usize, events: &str) -> Quorum {
    let mut quorum = Quorum::new(need, homes);
    for event in events.split_whitespace() {
        let (what, name) = event.split_at(1);
        let name = name.as_bytes()[0];
        let (node, home) = (NodeId(name.into()), name.is_ascii_uppercase());
        match what {
            "?" => quorum.asked(node, home),
            "+" => quorum.ack(node, home),
            "-" => quorum.fail(node),
            other => panic!("no such event: {other}"),
        }
    }
    quorum
}

#[test]
fn the_table() {
    use Verdict::{Impossible, Pending, Reached};
    #[rustfmt::skip]
    let table = [
        // need, of them homes, events, verdict
        (1, 0, "",                          Impossible, "nobody was asked"),
        (1, 0, "?A",                        Pending,    "A may answer"),
        (1, 0, "?A +A",                     Reached,    "A did"),
        (0, 0, "",                          Reached,    "nothing was wanted"),
        (2, 0, "?A ?B ?C +A",               Pending,    "one of two"),
        (2, 0, "?A ?B ?C +A +A +A",         Pending,    "one node answers once, however often it does"),
        (2, 0, "?A ?B ?C +A +B",            Reached,    "two distinct nodes"),
        (2, 0, "?A ?B ?C -A",               Pending,    "two may still answer"),
        (2, 0, "?A ?B ?C -A -B",            Impossible, "only one may"),
        (2, 0, "?A ?B ?C -A -A -A",         Pending,    "one node fails once"),
        (2, 0, "?A ?B ?C -A -B ?x",         Pending,    "a fallback is asked instead"),
        (2, 0, "?A ?B ?C -A -B ?x +x +C",   Reached,    "a sloppy quorum: a fallback counts"),
        (2, 0, "?A ?B +A -A +B",            Reached,    "an answer stands, whatever fails later"),
        (2, 0, "?A ?B -A +A +B",            Reached,    "a late answer counts"),
        (2, 0, "+A +B",                     Reached,    "so does one that nobody waits for"),
        (3, 0, "?A ?B ?C +A +B -C",         Impossible, "all, and one failed"),
        (2, 0, "?A ?A +A",                  Impossible, "asking twice does not make two"),
        (2, 0, "+A ?A ?B",                  Pending,    "who has answered is not pending"),
        (2, 2, "?A ?x +A +x",               Impossible, "pw: a fallback is no home"),
        (2, 2, "?A ?B ?x +x +A",            Pending,    "pw: B may answer yet"),
        (2, 2, "?A ?B ?x +x +A +B",         Reached,    "pw: two homes"),
        (2, 1, "?A ?x ?y +x +y",            Pending,    "pw: enough nodes, no home yet"),
        (2, 1, "?A ?x ?y +x +y -A",         Impossible, "pw: and none to come"),
        (1, 2, "?A ?B +A",                  Pending,    "pw above w"),
        (1, 2, "?A ?B +A +B",               Reached,    "pw above w"),
    ];
    for (need, homes, events, verdict, why) in table {
        assert_eq!(play(need, homes, events).verdict(), verdict, "{why}: {need}/{homes} {events}");
    }
}

#[test]
fn answers_are_counted_by_kind() {
    let quorum = play(3, 0, "?A ?B ?x ?y +A +x -y");
    assert_eq!((quorum.acks(), quorum.homes(), quorum.fallbacks(), quorum.need()), (2, 1, 1, 3));
    let node = |name: u8| NodeId(name.into());
    assert!(quorum.has_acked(node(b'A')) && !quorum.has_acked(node(b'B')));
    assert!(
        quorum.is_pending(node(b'B')) && !quorum.is_pending(node(b'y')) && !quorum.is_pending(node(b'A'))
    );
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_verdict_is_what_the_sets_of_nodes_say(
        need in 0..6usize,
        homes in 0..4usize,
        events in proptest::collection::vec((0..3u8, 0..6u64), 0..24),
    ) {
        let mut quorum = Quorum::new(need, homes);
        let (mut acked, mut pending) = (BTreeSet::new(), BTreeSet::new());
        let mut reached = false;
        for (what, node) in events {
            let home = node < 3;
            match what {
                0 => { quorum.asked(NodeId(node), home); if !acked.contains(&node) { pending.insert(node); } }
                1 => { quorum.ack(NodeId(node), home); pending.remove(&node); acked.insert(node); }
                _ => { quorum.fail(NodeId(node)); pending.remove(&node); }
            }
            let of_homes = |set: &BTreeSet<u64>| set.iter().filter(|&&n| n < 3).count();
            let enough = acked.len() >= need && of_homes(&acked) >= homes;
            let all: BTreeSet<u64> = acked.union(&pending).copied().collect();
            let possible = all.len() >= need && of_homes(&all) >= homes;
            let expected = match (enough, possible) {
                (true, _) => Verdict::Reached,
                (false, true) => Verdict::Pending,
                (false, false) => Verdict::Impossible,
            };
            prop_assert_eq!(quorum.verdict(), expected);
            prop_assert!(!reached || expected == Verdict::Reached, "once reached, always reached");
            reached = expected == Verdict::Reached;
        }
    }
}

#[test]
fn levels_stand_for_numbers() {
    for (level, n, number) in [
        (Level::One, 3, Ok(1)),
        (Level::Quorum, 1, Ok(1)),
        (Level::Quorum, 2, Ok(2)),
        (Level::Quorum, 3, Ok(2)),
        (Level::Quorum, 4, Ok(3)),
        (Level::All, 5, Ok(5)),
        (Level::Count(3), 3, Ok(3)),
        (Level::Count(4), 3, Err(LevelTooHigh { asked: 4, n: 3 })),
        (Level::Count(0), 3, Err(LevelTooHigh { asked: 0, n: 3 })),
    ] {
        assert_eq!(level.resolve(n), number, "{level} of {n}");
    }
    for text in ["one", "quorum", "all", "1", "7"] {
        assert_eq!(Level::parse(text).map(|l| l.to_string()).as_deref(), Some(text));
    }
    for text in ["", "0", "two", "-1", "256", "ONE", "1 "] {
        assert_eq!(Level::parse(text), None, "{text:?}");
    }
}
