//! Clocks and seen clocks against the plainest oracle: a set of numbers.

mod common;

use common::{cases, dot};
use gramme_core::seen::SeenRow;
use gramme_core::{Clock, Dot, Incarnation, Interval, Seen};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIVES: u64 = 3;
const EVENTS: u64 = 24;

fn runs() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    proptest::collection::vec(
        (1..=LIVES, 0..EVENTS, 0..6u64).prop_map(|(i, lo, len)| (i, lo, lo + len)),
        0..12,
    )
}

fn oracle(runs: &[(u64, u64, u64)]) -> BTreeSet<Dot> {
    runs.iter().flat_map(|&(i, lo, hi)| (lo + 1..=hi).map(move |n| dot(i, n))).collect()
}

fn all_dots() -> impl Iterator<Item = Dot> {
    (0..=LIVES + 1).flat_map(|i| (0..EVENTS + 8).map(move |n| dot(i, n)))
}

fn clock(runs: &[(u64, u64, u64)]) -> Clock {
    let mut clock = Clock::new();
    for &(i, lo, hi) in runs {
        clock.add(Incarnation(i), lo, hi);
    }
    clock
}

fn seen(runs: &[(u64, u64, u64)]) -> Seen {
    let mut seen = Seen::new();
    for dot in oracle(runs) {
        seen.add(dot);
    }
    seen
}

fn assert_normal(clock: &Clock) {
    assert!(clock.intervals().iter().all(|i| i.lo < i.hi), "no empty run: {clock:?}");
    let apart = |a: &Interval, b: &Interval| {
        a.incarnation < b.incarnation || a.incarnation == b.incarnation && a.hi < b.lo
    };
    assert!(clock.intervals().windows(2).all(|w| apart(&w[0], &w[1])), "ascending and apart: {clock:?}");
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_clock_is_a_set_of_events(mine in runs(), theirs in runs()) {
        let (mut a, b) = (clock(&mine), clock(&theirs));
        let (mut set, other) = (oracle(&mine), oracle(&theirs));
        assert_normal(&a);
        for d in all_dots() {
            prop_assert_eq!(a.covers(d), set.contains(&d), "{:?} in {:?}", d, a);
        }
        prop_assert_eq!(a.contains(&b), other.is_subset(&set));
        prop_assert_eq!(a.is_empty(), set.is_empty());
        for i in 0..=LIVES + 1 {
            let last = set.iter().filter(|d| d.incarnation.0 == i).map(|d| d.n).max();
            prop_assert_eq!(a.last_of(Incarnation(i)).map(|run| run.hi), last);
            let theirs = other.iter().filter(|d| d.incarnation.0 == i).map(|d| d.n).max();
            prop_assert_eq!(a.shows_less_of(Incarnation(i), &b), theirs > last);
        }
        let intervals = mine.iter().map(|&(i, lo, hi)| Interval { incarnation: Incarnation(i), lo, hi });
        prop_assert_eq!(&Clock::from_intervals(intervals), &a, "however it was built");
        let mut ba = b.clone();
        ba.join(&a);
        a.join(&b);
        set.extend(other);
        assert_normal(&a);
        prop_assert_eq!(&a, &ba, "commutative");
        prop_assert_eq!(&a, &clock(&[mine, theirs].concat()));
        for d in all_dots() {
            prop_assert_eq!(a.covers(d), set.contains(&d));
        }
    }

    #[test]
    fn a_seen_clock_is_a_set_of_events(mine in runs(), theirs in runs()) {
        let (mut a, b) = (seen(&mine), seen(&theirs));
        let (mut set, other) = (oracle(&mine), oracle(&theirs));
        let mut ba = b.clone();
        ba.join(&a);
        a.join(&b);
        set.extend(other);
        prop_assert_eq!(&a, &ba);
        for d in all_dots() {
            prop_assert_eq!(a.has(d), set.contains(&d));
            prop_assert_eq!(a.clone().add(d), d.n > 0 && !set.contains(&d), "says whether it was new");
        }
        for i in 1..=LIVES {
            let base = (1..).take_while(|&n| set.contains(&dot(i, n))).last().unwrap_or(0);
            let top = set.iter().filter(|d| d.incarnation.0 == i).map(|d| d.n).max().unwrap_or(0);
            let row = a.row(Incarnation(i)).cloned().unwrap_or_default();
            prop_assert_eq!((row.base(), row.top()), (base, top));
            prop_assert!(row.runs().windows(2).all(|w| w[0].1 < w[1].0), "runs do not touch: {:?}", row);
            prop_assert_eq!(a.base().last_of(Incarnation(i)).map_or(0, |run| run.hi), base);
            let mut backwards = row.runs().to_vec();
            backwards.reverse();
            prop_assert_eq!(SeenRow::from_runs(backwards), row);
        }
        prop_assert!(a.base().intervals().iter().all(|i| i.lo == 0), "the base is what is contiguous");
    }
}

#[test]
fn a_seen_row_put_back_from_the_store_is_the_row_that_it_was() {
    let seen = seen(&[(1, 0, 5), (1, 8, 9), (2, 3, 4)]);
    let mut back = Seen::new();
    for (incarnation, row) in seen.rows() {
        back.set_row(incarnation, SeenRow::from_runs(row.runs().iter().copied()));
    }
    assert_eq!(back, seen);
}

#[test]
fn number_0_names_no_event() {
    let mut clock = Clock::new();
    clock.add_dot(dot(1, 0));
    assert!(clock.is_empty() && Clock::of(dot(1, 0)).is_empty() && !clock.covers(dot(1, 0)));
    assert!(!Seen::new().add(dot(1, 0)));
}

#[test]
fn the_greatest_numbers_overflow_nothing() {
    let last = dot(u64::MAX, u64::MAX);
    let mut clock = Clock::of(last);
    clock.add(last.incarnation, 0, u64::MAX);
    assert!(clock.covers(last) && clock.covers(dot(u64::MAX, 1)));
    assert_eq!(clock.intervals().len(), 1);
    let mut seen = Seen::new();
    assert!(seen.add(last) && seen.has(last));
}
