//! One client write, however often it was sent (U9): its twins collapse, a late twin of what a reader has
//! overwritten never returns, and the order of joins and collapses does not matter.

mod common;

use common::{Replica, cases, dot, joined, sibling, values};
use gramme_core::codec::encode_record;
use gramme_core::limits::{SPENT_MAX, SPENT_MS_MAX};
use gramme_core::{Context, NodeId, Record, RequestId, Seen, Sibling, Stamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn of_the_twins_of_a_retry_the_greatest_dot_stays_and_the_clock_keeps_both() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put_as(&Context::blind(), 7, "v");
    b.put_as(&Context::blind(), 7, "v");
    let mut both = a.record.join(&b.record);
    assert_eq!(both.siblings().len(), 2, "join alone does not collapse");
    both.collapse_retries();
    assert_eq!(both.siblings().len(), 1);
    assert_eq!(both.siblings()[0].dot, dot(2, 1));
    assert!(both.clock.covers(dot(1, 1)) && both.clock.covers(dot(2, 1)));
}

#[test]
fn one_request_id_for_two_contents_is_two_writes() {
    let mut a = Replica::new(1);
    a.put_as(&Context::blind(), 7, "v");
    a.put_as(&Context::blind(), 7, "w");
    a.record.collapse_retries();
    assert_eq!(a.values(), ["v", "w"]);
}

#[test]
fn a_late_retry_of_an_overwritten_write_is_dropped() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put_as(&Context::blind(), 7, "old");
    let seen = a.read();
    a.put_as(&seen, 8, "new");
    b.put_as(&Context::blind(), 7, "old");
    let mut both = a.record.join(&b.record);
    both.collapse_retries();
    assert_eq!(values(&both), ["new"]);
}

#[test]
fn a_reader_overwrites_at_a_coordinator_that_never_had_what_it_read() {
    // The context itself names the write, so its late twin is known even there.
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    a.put_as(&Context::blind(), 7, "old");
    let seen = a.read();
    b.put_as(&seen, 8, "new");
    c.put_as(&Context::blind(), 7, "old");
    let mut both = b.record.join(&c.record);
    both.collapse_retries();
    assert_eq!(values(&both), ["new"]);
}

#[test]
fn a_home_that_overwrote_what_it_never_had_still_has_to_be_told_of_it() {
    // The first attempt is at a, and stays; the second, at b, is overwritten by b's next write. A reader of that
    // overwrites it at a, whose record names b's events and knows nothing of what they overwrote.
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put_as(&Context::blind(), 7, "first");
    let second_attempt = b.put_as(&Context::blind(), 7, "first");
    let overwritten = b.put_as(&second_attempt, 8, "second");
    a.put_as(&overwritten, 9, "third");
    assert_eq!(a.values(), ["first", "third"], "the context names the second write alone");
    let mut at_b = b.record.join(&a.record);
    at_b.collapse_retries();
    assert_eq!(values(&at_b), ["third"]);

    let mut seen_at_a = Seen::new();
    for sibling in a.record.siblings() {
        seen_at_a.add(sibling.dot);
    }
    assert!(at_b.siblings().iter().all(|s| seen_at_a.has(s.dot)), "no sibling of it is new to a");
    assert!(at_b.is_news_to(&seen_at_a), "but b's last event is");
    let mut at_a = a.record.join(&at_b);
    at_a.collapse_retries();
    assert_eq!(values(&at_a), ["third"]);

    seen_at_a.add(dot(2, 2));
    assert!(!at_a.is_news_to(&seen_at_a), "what the last event knew is all there was to know");
}

#[test]
fn a_writer_overwrites_its_own_write_while_a_twin_of_that_is_still_travelling() {
    // Attempt one reached a and its answer was lost; attempt two was acknowledged by b, whose context the
    // client uses at c. Neither twin may come back beside the new value.
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    a.put_as(&Context::blind(), 7, "first");
    let acknowledged = b.put_as(&Context::blind(), 7, "first");
    c.put_as(&acknowledged, 8, "second");
    for order in [[&a, &b, &c], [&c, &b, &a], [&b, &c, &a]] {
        let mut all = joined(order.map(|r| &r.record));
        all.collapse_retries();
        assert_eq!(values(&all), ["second"]);
    }
}

#[test]
fn two_writes_that_overwrote_each_other_do_not_both_vanish() {
    // Both are tried at a and at b, which cannot reach each other; each coordinator lets the later arrival
    // overwrite what it finds. So each write is the other's late twin.
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put_over_found(7, "first");
    a.put_over_found(8, "second");
    b.put_over_found(8, "second");
    b.put_over_found(7, "first");
    for order in [[&a, &b], [&b, &a]] {
        let mut both = joined(order.map(|r| &r.record));
        assert!(!both.collapse_retries());
        assert_eq!(values(&both), ["first", "second"], "as if neither had seen the other");
    }
}

#[test]
fn two_writes_that_overwrote_each_other_do_not_both_vanish_beside_a_third() {
    // The second write's client had been shown what came between; the first overwrote what it found, late.
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    b.put_over_found(7, "first");
    b.put_as(&b.read(), 5, "between");
    let shown = b.read();
    a.put_as(&shown, 8, "second");
    a.put_over_found(7, "first");
    b.put_as(&shown, 8, "second");
    b.put_as(&Context::blind(), 9, "third");
    let mut late = Record::new();
    for state in [&a.record, &b.record] {
        late = late.join(state);
        late.collapse_retries();
    }
    assert_eq!(values(&late), ["second", "third"]);
    for order in [[&a, &b], [&b, &a]] {
        let mut both = joined(order.map(|r| &r.record));
        assert!(both.collapse_retries());
        assert_eq!(
            values(&both),
            ["second", "third"],
            "the first had been overwritten by someone who saw it"
        );
        assert!(!both.collapse_retries(), "what stays does not go at the next look");
    }
}

#[test]
fn a_late_twin_that_overwrote_what_it_found_stays_as_its_only_trace() {
    // The third write's own retry was answered by what is remembered of it, so its coordinator's copy was all there was.
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    b.put_over_found(7, "first");
    b.put_as(&b.read(), 8, "second");
    a.put_as(&b.read(), 9, "third");
    a.put_over_found(7, "first");
    b.put_as(&Context::blind(), 10, "fourth");
    let mut both = a.record.join(&b.record);
    both.collapse_retries();
    assert_eq!(values(&both), ["first", "fourth"]);
    // Once somebody who saw it all has overwritten it, no twin stays.
    let mut c = Replica::new(3);
    c.record = both.clone();
    c.put_as(&Context::of(&both, None), 11, "last");
    let mut again = c.record.join(&a.record);
    again.collapse_retries();
    assert_eq!(values(&again), ["last"]);
}

#[test]
fn a_late_retry_beside_the_write_that_had_found_and_overwritten_it_is_dropped() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put_over_found(7, "old");
    a.put_over_found(8, "new");
    b.put_over_found(7, "old");
    let mut both = a.record.join(&b.record);
    assert!(both.collapse_retries());
    assert_eq!(values(&both), ["new"]);
}

#[test]
fn a_write_that_repeats_its_own_request_id_is_not_its_own_overwriter() {
    let mut a = Replica::new(1);
    a.put_as(&Context::blind(), 7, "v");
    let seen = a.read();
    a.put_as(&seen, 7, "v");
    a.record.collapse_retries();
    assert_eq!(a.values(), ["v"]);
}

#[test]
fn the_names_of_overwritten_writes_are_forgotten_in_time_and_in_number() {
    let born = 1_700_000_000_000;
    let at = |n: u64, ms: u64| Sibling { stamp: Stamp::from_ms(ms), ..sibling(dot(1, n), n.into(), "v") };
    let first = Record::new().put(&Context::blind(), at(1, born));
    let seen = Context::of(&first, None);
    let second = first.put(&seen, at(2, born + 7));
    let third = |ms: u64| second.put(&Context::of(&second, None), at(3, born + 7 + ms)).spent().len();
    assert_eq!(
        (third(SPENT_MS_MAX), third(SPENT_MS_MAX + 1)),
        (2, 1),
        "for so long after it was overwritten"
    );
    let mut record = first;
    let bare = encode_record(&record).len();
    for n in 2..100 {
        record = record.put(&Context::of(&record, None), at(n, born + n));
        assert!(record.spent().len() <= SPENT_MAX);
    }
    let remembered: Vec<u128> = record.spent().iter().map(|s| s.request.0).collect();
    let newest: Vec<u128> = (83..99).rev().collect();
    assert_eq!(remembered, newest, "the newest, newest first");
    let for_them = encode_record(&record).len() - bare;
    assert!(for_them <= 34 * SPENT_MAX, "{for_them} bytes for what a late retry needs");
}

#[test]
fn what_a_node_whose_clock_is_behind_has_overwritten_is_remembered_all_the_same() {
    let born = 1_700_000_000_000;
    let at = |n: u64, ms: u64| Sibling { stamp: Stamp::from_ms(ms), ..sibling(dot(1, n), n.into(), "v") };
    let mut ahead = Record::new().put(&Context::blind(), at(1, born));
    for n in 2..40 {
        ahead = ahead.put(&Context::of(&ahead, None), at(n, born + 120_000 + n));
    }
    let behind = ahead.put(&Context::of(&ahead, None), at(40, born));
    let late = ahead.join(&Record::new().put(&Context::blind(), Sibling { dot: dot(2, 1), ..at(39, born) }));
    let mut joined = late.join(&behind);
    assert!(joined.spent().iter().any(|s| s.request == RequestId(39)), "{:?}", joined.spent());
    assert!(joined.collapse_retries());
    let left: Vec<u128> = joined.siblings().iter().map(|s| s.request.0).collect();
    assert_eq!(left, [40], "the late twin of the last one goes");
    assert!(joined.spent().len() <= 2 * SPENT_MAX);
}

#[test]
fn mentions_of_overwritten_writes_join_in_any_order() {
    // The twins of one write bear different stamps, with another write's between them: each must be found to
    // be a mention of the same write before the list is cut.
    let mention = |request: u128, ms: u64| {
        let stamp = Stamp::from_ms(ms);
        let s = Sibling { stamp, ..sibling(dot(request as u64, 1), request, "v") };
        Record::from_parts(Record::new().clock, vec![], vec![s.spent()]).expect("sound parts")
    };
    let others = (2..SPENT_MAX as u128 + 3).map(|request| mention(request, 10 * request as u64));
    let states: Vec<Record> = [mention(1, 500), mention(1, 15)].into_iter().chain(others).collect();
    for a in &states {
        for b in &states {
            for c in &states {
                assert_eq!(a.join(b).join(c), a.join(&b.join(c)));
            }
        }
    }
    let all = joined(&states);
    let newest: Vec<u128> = [1].into_iter().chain((4..SPENT_MAX as u128 + 3).rev()).collect();
    assert_eq!(all.spent().iter().map(|s| s.request.0).collect::<Vec<_>>(), newest);
}

// U9 in full: every interleaving of one request at one to three coordinators with a reader that overwrites.

const REQUEST: u128 = 7;
const OVERWRITER: u128 = 8;

/// Everything that may still happen, in a world of three replicas. Messages may be lost, so every prefix of
/// an interleaving is an end of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    records: [Vec<u8>; 3],
    counters: [u64; 3],
    /// The retry of the request still on its way to each replica.
    retries: [bool; 3],
    /// Records on their way: to whom, and the bytes.
    wire: Vec<(usize, Vec<u8>)>,
    overwritten: Overwritten,
    delivered: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Overwritten {
    NotYet,
    Unseen,
    ByAReader,
}

const DELIVERED_MAX: usize = 8;

#[test]
fn whatever_the_order_a_request_leaves_one_sibling_or_none_if_a_reader_overwrote_it() {
    let mut worlds = 0;
    for coordinators in 1..=3 {
        let empty = encode_record(&Record::new()).to_vec();
        let start = World {
            records: [empty.clone(), empty.clone(), empty],
            counters: [0; 3],
            retries: [true, coordinators > 1, coordinators > 2],
            wire: vec![],
            overwritten: Overwritten::NotYet,
            delivered: 0,
        };
        let mut seen = BTreeSet::new();
        let mut left = vec![start];
        while let Some(world) = left.pop() {
            if seen.contains(&world) {
                continue;
            }
            world.check();
            left.extend(world.next());
            seen.insert(world);
        }
        worlds += seen.len();
    }
    assert!(worlds > 10_000, "the walk is not vacuous: {worlds}");
}

impl World {
    fn record(&self, at: usize) -> Record {
        decode(&self.records[at])
    }

    fn next(&self) -> Vec<World> {
        let mut next = Vec::new();
        if self.delivered == DELIVERED_MAX {
            return next;
        }
        for at in (0..3).filter(|&at| self.retries[at]) {
            let mut world = self.clone();
            world.retries[at] = false;
            world.put(at, &Context::blind(), REQUEST, "retried");
            next.push(world);
        }
        for message in 0..self.wire.len() {
            let mut world = self.clone();
            let (to, bytes) = world.wire.remove(message);
            let mut record = world.record(to).join(&decode(&bytes));
            record.collapse_retries();
            world.keep(to, &record);
            next.push(world);
        }
        if self.overwritten == Overwritten::NotYet {
            for of in 1..8usize {
                for at in 0..3 {
                    next.push(self.overwrite(of, at));
                }
            }
        }
        next.iter_mut().for_each(|world| world.delivered += 1);
        next
    }

    /// A client reads the replicas of the bits of `of` and overwrites what it was shown, at `at`.
    fn overwrite(&self, of: usize, at: usize) -> World {
        let shown: Vec<Record> = (0..3).filter(|i| of >> i & 1 == 1).map(|i| self.record(i)).collect();
        let mut merged = joined(&shown);
        merged.collapse_retries();
        let saw = merged.sibling_of(RequestId(REQUEST)).is_some();
        let mut world = self.clone();
        world.overwritten = if saw { Overwritten::ByAReader } else { Overwritten::Unseen };
        world.put(at, &Context::of(&merged, None), OVERWRITER, "overwriter");
        world
    }

    /// Coordinates a put and sends the record to the two others; a request whose sibling is here already
    /// adopts its dot.
    fn put(&mut self, at: usize, context: &Context, request: u128, value: &str) {
        let record = self.record(at);
        let record = if record.sibling_of(RequestId(request)).is_some() {
            record
        } else {
            self.counters[at] += 1;
            let mut after =
                record.put(context, sibling(dot(at as u64 + 1, self.counters[at]), request, value));
            after.collapse_retries();
            after
        };
        self.keep(at, &record);
        for to in (0..3).filter(|&to| to != at) {
            self.wire.push((to, self.records[at].clone()));
        }
        self.wire.sort();
    }

    fn keep(&mut self, at: usize, record: &Record) {
        self.records[at] = encode_record(record).to_vec();
    }

    /// Anti-entropy from here, in two orders, with all that is on the wire lost.
    fn check(&self) {
        let ends = [[0, 1, 2], [2, 0, 1]].map(|order| {
            let mut records = [self.record(0), self.record(1), self.record(2)];
            for _ in 0..2 {
                for from in order {
                    for to in (0..3).filter(|&to| to != from) {
                        records[to] = records[to].join(&records[from]);
                        records[to].collapse_retries();
                    }
                }
            }
            assert!(records.iter().all(|r| r.siblings() == records[0].siblings()), "all agree");
            let count = |request| records[0].siblings().iter().filter(|s| s.request.0 == request).count();
            (count(REQUEST), count(OVERWRITER))
        });
        assert_eq!(ends[0], ends[1], "both orders end alike");
        let (of_request, of_overwriter) = ends[0];
        match self.overwritten {
            Overwritten::NotYet => assert!(of_request <= 1 && of_overwriter == 0),
            Overwritten::Unseen => assert!(of_request <= 1 && of_overwriter == 1),
            Overwritten::ByAReader => assert_eq!((of_request, of_overwriter), (0, 1)),
        }
        let reached_somebody =
            (0..3).any(|at| self.counters[at] > 0) && self.overwritten == Overwritten::NotYet;
        assert!(!reached_somebody || of_request == 1, "a write that nobody overwrote is there");
    }
}

fn decode(bytes: &[u8]) -> Record {
    gramme_core::codec::decode_record(&bytes::Bytes::copy_from_slice(bytes)).expect("own bytes")
}

// Convergence of joins and collapses in any order.

/// A step of three replicas that take retries of four writes.
#[derive(Clone, Debug)]
enum Step {
    Put { at: usize, request: u128, context: Option<usize> },
    Read { at: usize },
    Send { from: usize, to: usize, collapse: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3usize, 1..=4u128, proptest::option::of(any::<usize>()))
            .prop_map(|(at, request, context)| Step::Put { at, request, context }),
        2 => (0..3usize).prop_map(|at| Step::Read { at }),
        3 => (0..3usize, 0..3usize, any::<bool>())
            .prop_map(|(from, to, collapse)| Step::Send { from, to, collapse }),
    ];
    proptest::collection::vec(step, 1..25)
}

/// All states that ever were, of a history in which each request is written with one context, as retries are.
fn states(steps: &[Step]) -> Vec<Record> {
    let mut replicas = [Replica::new(1), Replica::new(2), Replica::new(3)];
    let mut contexts: Vec<Context> = Vec::new();
    let mut of_request: [Option<Context>; 5] = Default::default();
    let mut states = Vec::new();
    for step in steps {
        match *step {
            Step::Put { at, request, context } => {
                let nth = context.and_then(|nth| nth.checked_rem(contexts.len()));
                let fresh = nth.map_or(Context::blind(), |nth| contexts[nth].clone());
                let context = of_request[request as usize].get_or_insert(fresh).clone();
                let answer = replicas[at].put_as(&context, request, "v");
                replicas[at].record.collapse_retries();
                contexts.push(answer);
            }
            Step::Read { at } => contexts.push(replicas[at].read()),
            Step::Send { from, to, collapse } => {
                let record = replicas[from].record.clone();
                replicas[to].receive(&record);
                if collapse {
                    replicas[to].record.collapse_retries();
                }
            }
        }
        states.extend(replicas.iter().map(|r| r.record.clone()));
    }
    states.dedup();
    states
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn joins_and_collapses_in_any_order_end_with_the_same_siblings(
        steps in steps(),
        order in any::<u64>(),
        collapses in any::<u64>(),
    ) {
        let states = states(&steps);
        let mut forth = Record::new();
        for state in &states {
            forth = forth.join(state);
        }
        forth.collapse_retries();
        let mut shuffled = states;
        shuffle(&mut shuffled, order);
        let mut other = Record::new();
        for (at, state) in shuffled.iter().enumerate() {
            other = other.join(state);
            if collapses >> (at % 64) & 1 == 1 {
                other.collapse_retries();
            }
        }
        other.collapse_retries();
        prop_assert_eq!(forth.siblings(), other.siblings());
        prop_assert_eq!(&forth.clock, &other.clock);
        let again = { let mut again = other.clone(); again.collapse_retries(); again };
        prop_assert_eq!(again, other, "a collapse is final");
        let requests: BTreeSet<RequestId> = forth.siblings().iter().map(|s| s.request).collect();
        prop_assert_eq!(requests.len(), forth.siblings().len(), "one sibling of each request");
    }
}

fn shuffle(states: &mut [Record], seed: u64) {
    let mut x = seed | 1;
    for at in (1..states.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        states.swap(at, (x % (at as u64 + 1)) as usize);
    }
}

#[test]
fn a_context_after_a_put_names_the_put() {
    let written = sibling(dot(1, 1), 7, "v");
    let after = Context::blind().after_put_of(&written, NodeId(3));
    assert_eq!(after.requests, [written.spent()]);
    assert_eq!(after.preferred, Some(NodeId(3)));
    assert!(after.clock.covers(dot(1, 1)));
}
