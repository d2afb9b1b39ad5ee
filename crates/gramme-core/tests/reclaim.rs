//! What a frontier says of records: which go, which shrink, which arrive too late, and what readers see of
//! homes that are not equally far (correctness.md 2.2, U7, U8).

mod common;

use common::{Replica, dot, sibling, tombstone, values};
use gramme_core::merkle::{self, Tombstones};
use gramme_core::reclaim::{
    Arrival, Reply, admit, canonical, fill, is_amnesia, is_behind, purge, reclaimable, session_holds, stable,
    strip,
};
use gramme_core::{Clock, Context, Frontier, Incarnation, Key, Record};

fn frontier(bases: &[(u64, u64)]) -> Frontier {
    Frontier::from_bases(bases.iter().map(|&(incarnation, n)| (Incarnation(incarnation), n)))
}

/// A value at 1.1 that a delete at 1.2 has overwritten.
fn deleted() -> Record {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "cart");
    home.delete(&home.read());
    home.record
}

fn value_at(incarnation: u64, n: u64) -> Record {
    Record::new().put(&Context::blind(), sibling(dot(incarnation, n), u128::from(n), "v"))
}

fn reply<'a>(record: &'a Record, frontier: &'a Frontier) -> Reply<'a> {
    Reply { record, frontier }
}

#[test]
fn a_frontier_is_what_every_home_has_reported() {
    let (a, b) = (frontier(&[(1, 5), (2, 1)]), frontier(&[(1, 3)]));
    assert_eq!(stable([Some(&a), Some(&b)]), b);
    assert_eq!(stable([Some(&a), None, Some(&b)]), Frontier::none(), "one that is silent holds all back");
    assert_eq!(stable([]), Frontier::none());
}

#[test]
fn a_tombstone_goes_once_its_whole_past_is_everywhere() {
    let record = deleted();
    assert!(reclaimable(&record, &frontier(&[(1, 2)])));
    assert!(!reclaimable(&record, &frontier(&[(1, 1)])));
    assert!(!reclaimable(&record, &Frontier::none()));
    assert!(!reclaimable(&Record::new(), &frontier(&[(1, 2)])), "there is nothing to delete");
    assert!(!reclaimable(&value_at(1, 1), &frontier(&[(1, 2)])), "a value stays");
}

#[test]
fn a_tombstone_stays_while_its_clock_covers_what_somebody_has_not_seen() {
    // The delete at 2.1 covers 1.9, which one home has never seen: if it went, 1.9 would be news there.
    let covered = value_at(1, 9);
    let record = covered.put(&Context::of(&covered, None), tombstone(dot(2, 1), 7));
    assert!(!reclaimable(&record, &frontier(&[(2, 1)])));
    assert!(reclaimable(&record, &frontier(&[(1, 9), (2, 1)])));
}

#[test]
fn a_tombstone_beside_a_value_stays_with_it() {
    let record = deleted().join(&value_at(2, 1));
    assert!(!reclaimable(&record, &frontier(&[(1, 2), (2, 1)])));
    let stripped = strip(&record, &frontier(&[(1, 2), (2, 1)])).expect("its past is everywhere");
    assert_eq!(stripped.siblings(), record.siblings());
}

/// The one home let the tombstone go before the value came beside it, the other had both by then. No home drops the
/// tombstone by itself: where the last writer wins, it decides what is read.
#[test]
fn a_tombstone_that_only_some_homes_have_beside_a_value_is_a_difference_that_audits_and_reads_end() {
    let (tombstone, value) = (deleted(), value_at(2, 1));
    assert!(reclaimable(&tombstone, &frontier(&[(1, 2)])));
    let r = frontier(&[(1, 2), (2, 1)]);
    let (alone, both) = (value.clone(), strip(&tombstone.join(&value), &r).expect("its past is everywhere"));
    let key = Key::new("b", b"k").expect("a sound key");
    let item = |record: &Record| merkle::item(&key, record, Tombstones::Skipped);
    assert_ne!(item(&alone), item(&both), "trees show it");

    let replies = [reply(&alone, &r), reply(&both, &r)];
    let filled = fill(&replies);
    assert_eq!(filled.record.siblings(), both.siblings());
    assert_eq!(filled.conflicts, [], "nobody has lost anything");
    assert!(is_behind(replies[0], &filled.record) && !is_behind(replies[1], &filled.record));
    let Arrival::Join(given) = admit(&alone, &both, &r, &r) else { panic!("it comes from one as far") };
    let after = alone.join(&given);
    assert_eq!(item(&after), item(&both));
    assert!(
        strip(&after, &r).is_none() && !reclaimable(&after, &r),
        "and it stays for as long as the value does"
    );
    // A home that has not come as far gives nothing back that this one has let go.
    let Arrival::Join(given) = admit(&alone, &both, &r, &frontier(&[(1, 2)])) else {
        panic!("the value is there")
    };
    assert_eq!(alone.join(&given).siblings(), alone.siblings());
    let filled = fill(&[reply(&alone, &r), reply(&both, &frontier(&[(1, 2)]))]);
    assert_eq!(filled.record.siblings(), alone.siblings());
}

#[test]
fn strip_keeps_siblings_and_waits_for_the_whole_clock() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "old");
    home.put(&home.read(), "new");
    assert_eq!(strip(&home.record, &frontier(&[(1, 1)])), None);
    let stripped = strip(&home.record, &frontier(&[(1, 2)])).expect("its past is everywhere");
    assert_eq!(stripped.clock, Clock::of(dot(1, 2)));
    assert_eq!(strip(&stripped, &frontier(&[(1, 2)])), None, "nothing is left to forget");
}

/// U8. The receiver is at R = {1: 5, 2: 3} and lacks what arrives.
#[test]
fn stamp_rule() {
    let here = frontier(&[(1, 5), (2, 3)]);
    let rows: [(&str, u64, u64, Frontier, bool); 10] = [
        ("below, from a fallback", 1, 4, Frontier::none(), true),
        ("at the frontier, from a fallback", 1, 5, Frontier::none(), true),
        ("above, from a fallback", 1, 6, Frontier::none(), false),
        ("of a life the frontier does not know", 3, 1, Frontier::none(), false),
        ("below, from one as far", 1, 4, here.clone(), false),
        ("below, from one further", 1, 4, frontier(&[(1, 9), (2, 3), (3, 1)]), false),
        ("below, from one behind in the dot's own life", 1, 4, frontier(&[(1, 3), (2, 3)]), true),
        ("below, from one behind in another life only", 1, 4, frontier(&[(1, 5), (2, 2)]), true),
        ("below, from one without an entry of another life", 1, 4, frontier(&[(1, 5)]), true),
        ("above, from one behind", 2, 4, frontier(&[(1, 1)]), false),
    ];
    for (what, incarnation, n, stamp, is_stale) in rows {
        let incoming = value_at(incarnation, n);
        let arrival = admit(&Record::new(), &incoming, &here, &stamp);
        assert_eq!(arrival == Arrival::Stale, is_stale, "{what}");
        if let Arrival::Join(record) = arrival {
            assert_eq!(*record, incoming, "{what}: all of it is joined");
        }
        assert_ne!(admit(&Record::new(), &incoming, &Frontier::none(), &stamp), Arrival::Stale, "{what}");
        assert_ne!(admit(&incoming, &incoming, &here, &stamp), Arrival::Stale, "{what}: it is there");
    }
}

#[test]
fn a_stale_sibling_takes_its_dot_along_and_its_fresh_brother_stays() {
    // The state of a hint holder: a zombie at 1.4 beside a fresh write at 3.1.
    let incoming = value_at(1, 4).join(&value_at(3, 1));
    let Arrival::Join(rest) = admit(&Record::new(), &incoming, &frontier(&[(1, 5)]), &Frontier::none())
    else {
        panic!("a fresh write must be taken");
    };
    assert_eq!(rest.siblings().len(), 1);
    assert!(!rest.clock.covers(dot(1, 4)), "or the receiver would claim to have overwritten it");
    assert!(rest.clock.covers(dot(3, 1)));
}

#[test]
fn what_the_local_clock_covers_is_overwritten_here_and_not_stale() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "old");
    let old = home.record.clone();
    home.put(&home.read(), "new");
    let arrival = admit(&home.record, &old, &frontier(&[(1, 1)]), &Frontier::none());
    assert!(matches!(arrival, Arrival::Join(_)), "the join drops it by the clock");
}

#[test]
fn a_tombstone_that_would_go_at_once_is_not_taken_from_anyone() {
    let here = frontier(&[(1, 2)]);
    assert_eq!(admit(&Record::new(), &deleted(), &here, &here), Arrival::Stale);
    let zombie = value_at(1, 1);
    assert_ne!(admit(&zombie, &deleted(), &here, &here), Arrival::Stale, "it still removes what it covers");
}

#[test]
fn a_late_tombstone_is_taken_where_it_bears_that_something_here_was_overwritten() {
    // The delete 1.2 is everywhere, and reclaimed here. Then a twin of what it had overwritten came from a hint
    // store; another home, which still had the delete, collapsed it and made that its event 5.1.
    let twin = value_at(9, 1);
    let collapsed = deleted().join(&Record::from_parts(twin.clock.clone(), vec![], vec![]).expect("a clock"));
    let collapsed = collapsed.with_event(dot(5, 1));
    let here = frontier(&[(1, 2)]);
    let Arrival::Join(taken) = admit(&twin, &collapsed, &here, &Frontier::none()) else {
        panic!("it is news")
    };
    let joined = twin.join(&taken);
    assert_eq!(joined.siblings(), deleted().siblings(), "the twin is gone");
    assert!(!reclaimable(&joined, &here) && reclaimable(&joined, &frontier(&[(1, 2), (5, 1), (9, 1)])));
    assert_eq!(
        admit(&Record::new(), &collapsed, &here, &Frontier::none()),
        Arrival::Stale,
        "here it says nothing"
    );
    let value = value_at(1, 2).join(&collapsed.without(&[dot(1, 2)]));
    assert_eq!(admit(&twin, &value, &here, &Frontier::none()), Arrival::Stale, "no value comes back");

    let behind = Frontier::none();
    let filled = fill(&[reply(&twin, &here), reply(&collapsed, &behind)]).record;
    assert!(values(&filled).is_empty(), "and no reader is shown the twin");
    assert!(is_behind(reply(&twin, &here), &filled), "whoever shows it is told");
}

#[test]
fn a_late_tombstone_does_not_come_back_for_what_is_left_out_itself() {
    // Two hint stores with old states, of which one overwrote what the other still shows; all of it is gone at home.
    let older = value_at(2, 1);
    let past = Record::from_parts(older.clock.clone(), vec![], vec![]).expect("a clock");
    let late = deleted().join(&past).join(&value_at(3, 1));
    let (home, r) = (value_at(4, 1), frontier(&[(1, 2), (2, 1), (3, 1)]));
    let none = Frontier::none();
    let filled = fill(&[reply(&home, &r), reply(&late, &none), reply(&older, &none)]).record;
    assert_eq!(filled.siblings(), home.siblings());
}

#[test]
fn what_was_reclaimed_is_no_amnesia() {
    let shown = deleted();
    assert!(is_amnesia(&Record::new(), &shown, Incarnation(1), &frontier(&[(1, 1)])));
    assert!(!is_amnesia(&Record::new(), &shown, Incarnation(1), &frontier(&[(1, 2)])));
    assert!(!is_amnesia(&Record::new(), &shown, Incarnation(2), &Frontier::none()));
}

#[test]
fn a_read_does_not_show_what_one_home_has_reclaimed_and_a_hint_holder_still_has() {
    let (zombie, nothing) = (value_at(1, 1), Record::new());
    let (home, none) = (frontier(&[(1, 2)]), Frontier::none());
    let filled = fill(&[reply(&zombie, &none), reply(&nothing, &home)]);
    assert!(filled.record.is_empty() && filled.conflicts.is_empty());
    // A fresh write beside it is shown, and the context does not claim the zombie.
    let both = zombie.join(&value_at(3, 1));
    let filled = fill(&[reply(&nothing, &home), reply(&both, &none)]);
    assert_eq!(filled.record.siblings().len(), 1);
    assert!(!filled.record.clock.covers(dot(1, 1)));
    // Without a home that knows better it is what is there.
    assert_eq!(values(&fill(&[reply(&zombie, &none)]).record), ["v"]);
}

#[test]
fn homes_that_have_reclaimed_and_not_yet_reclaimed_agree_and_need_no_repair() {
    let (tombstone, nothing, r) = (deleted(), Record::new(), frontier(&[(1, 2)]));
    let (behind, none) = (frontier(&[(1, 1)]), Frontier::none());
    for theirs in [&r, &behind, &none] {
        let replies = [reply(&nothing, &r), reply(&tombstone, theirs)];
        let filled = fill(&replies);
        assert!(filled.record.is_empty(), "{theirs:?}");
        assert!(!replies.iter().any(|reply| is_behind(*reply, &filled.record)), "{theirs:?}");
    }
}

#[test]
fn homes_that_stripped_at_different_moments_need_no_repair() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "old");
    home.put(&home.read(), "new");
    let r = frontier(&[(1, 2)]);
    let stripped = strip(&home.record, &r).expect("its past is everywhere");
    let none = Frontier::none();
    let replies = [reply(&stripped, &r), reply(&home.record, &none)];
    let filled = fill(&replies);
    assert_eq!(values(&filled.record), ["new"]);
    assert!(!replies.iter().any(|reply| is_behind(*reply, &filled.record)));
    assert_eq!(canonical(&stripped, &r), canonical(&home.record, &r));
    // What one clock says beyond another is no reason to write: all show the same.
    let told =
        home.record.join(&Record::from_parts(Clock::of(dot(3, 1)), vec![], vec![]).expect("sound parts"));
    assert!(!is_behind(reply(&home.record, &none), &told));
    // One that misses a write is behind, whatever its frontier.
    let newer = filled.record.put(&Context::of(&filled.record, None), sibling(dot(2, 1), 9, "newest"));
    assert!(is_behind(replies[0], &newer));
}

#[test]
fn homes_equally_far_that_disagree_keep_the_value_and_say_so() {
    let (kept, lost, r) = (value_at(1, 1), Record::new(), frontier(&[(1, 1)]));
    let replies = [reply(&lost, &r), reply(&kept, &r), reply(&lost, &r)];
    let filled = fill(&replies);
    assert_eq!(values(&filled.record), ["v"], "a vote would lose an acknowledged write");
    assert_eq!(filled.conflicts, [dot(1, 1)]);
    assert!(is_behind(replies[0], &filled.record));
    // The repair bears its receiver's frontier, so it is taken.
    assert_ne!(admit(&lost, &filled.record, &r, &r), Arrival::Stale);
}

#[test]
fn a_session_holds_below_the_frontier_of_a_home_that_answered() {
    let (nothing, r) = (Record::new(), frontier(&[(1, 5)]));
    let min = deleted().clock;
    assert!(session_holds(&min, [reply(&nothing, &r)]));
    assert!(!session_holds(&min, [reply(&nothing, &frontier(&[(1, 1)]))]));
    assert!(session_holds(&min, [reply(&deleted(), &Frontier::none())]));
    let mut further = min;
    further.add_dot(dot(2, 1));
    assert!(!session_holds(&further, [reply(&nothing, &r)]));
}

#[test]
fn a_refilled_replica_gives_up_what_its_source_has_reclaimed_and_nothing_else() {
    let (mine, at_source) = (value_at(1, 1).join(&value_at(2, 1)), Record::new());
    let source = frontier(&[(1, 1)]);
    let left = purge(&mine, &at_source, &source, &Frontier::none()).expect("1.1 is dead");
    assert_eq!(left.siblings().len(), 1);
    assert!(left.clock.covers(dot(1, 1)), "it is dead everywhere, so it may be covered");
    assert_eq!(purge(&mine, &at_source, &source, &source), None, "what was mine to know is mine to judge");
    assert_eq!(purge(&value_at(1, 1), &at_source, &source, &Frontier::none()), Some(Record::new()));
    assert_eq!(purge(&mine, &mine, &source, &Frontier::none()), None);
    let further = frontier(&[(1, 1), (3, 4)]);
    assert_eq!(
        purge(&value_at(1, 1), &at_source, &further, &source),
        Some(Record::new()),
        "a source before it had not come so far, and may have shown what was overwritten since"
    );
}

/// U7. Two worlds get the same writes and the same messages; in one of them every replica strips whenever it
/// may. They always show the same.
#[test]
fn strip_equivalence() {
    for seed in 1..=2000u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut plain: Vec<Replica> = (1..=3).map(Replica::new).collect();
        let mut stripped = plain.clone();
        let mut contexts = vec![Context::blind()];
        for _ in 0..60 {
            let (at, to) = (chance.below(3), chance.below(3));
            match chance.below(8) {
                0..=2 => {
                    let held = contexts[chance.below(contexts.len())].clone();
                    let read = plain[at].read();
                    let context = if chance.below(2) == 0 { held } else { read };
                    let deletes = chance.below(4) == 0;
                    for world in [&mut plain, &mut stripped] {
                        if deletes {
                            world[at].delete(&context)
                        } else {
                            world[at].put(&context, "v")
                        };
                    }
                    contexts.push(plain[at].read());
                }
                3..=5 => {
                    for world in [&mut plain, &mut stripped] {
                        let record = world[at].record.clone();
                        world[to].record = world[to].record.join(&record);
                    }
                }
                _ => {
                    // What everyone has seen: everything, once all have everything; else nothing.
                    let all = common::joined(plain.iter().map(|replica| &replica.record));
                    if plain.iter().all(|replica| replica.record == all) {
                        let tops =
                            (1..=3).map(|i| (i, all.clock.last_of(Incarnation(i)).map_or(0, |r| r.hi)));
                        let r = frontier(&tops.collect::<Vec<_>>());
                        if let Some(bare) = strip(&stripped[at].record, &r) {
                            stripped[at].record = bare;
                        }
                    }
                }
            }
            for (a, b) in plain.iter().zip(&stripped) {
                assert_eq!(a.record.siblings(), b.record.siblings(), "seed {seed}");
            }
        }
    }
}

/// A small source of chance, the same for every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound as u64) as usize
    }
}
