//! What happened before what: the paper's Figure 3, and the laws of put and join against an oracle that
//! keeps every causal history in full (U1).

mod common;

use common::{Replica, cases, dot, joined, key, sibling, tombstone, values};
use gramme_core::{Clock, Context, Dot, Record};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn figure_3_step_by_step() {
    let (mut sx, mut sy, mut sz) = (Replica::new(1), Replica::new(2), Replica::new(3));
    let (x1, x2, x3, y1, z1) = (dot(1, 1), dot(1, 2), dot(1, 3), dot(2, 1), dot(3, 1));
    let clock = |dots: &[Dot]| {
        let mut clock = Clock::new();
        dots.iter().for_each(|&d| clock.add_dot(d));
        clock
    };

    let after_d1 = sx.put(&Context::blind(), "D1");
    assert_eq!(sx.record.clock, clock(&[x1]));
    sx.put(&after_d1, "D2");
    assert_eq!(sx.values(), ["D2"], "D2 overwrites D1");
    assert_eq!(sx.record.clock, clock(&[x1, x2]));

    let d2 = sx.read();
    for node in [&mut sy, &mut sz] {
        node.receive(&sx.record);
    }
    sy.put(&d2, "D3");
    assert_eq!(sy.record.clock, clock(&[x1, x2, y1]));
    sz.put(&d2, "D4");
    assert_eq!(sz.record.clock, clock(&[x1, x2, z1]));

    let mut knows_d2 = sx.clone();
    knows_d2.receive(&sz.record);
    assert_eq!(knows_d2.values(), ["D4"], "a node that knows D1 and D2 may drop both for D4");
    let mut knows_d3 = sy.clone();
    knows_d3.receive(&sz.record);
    assert_eq!(knows_d3.values(), ["D3", "D4"], "a node that knows D3 keeps both");

    let reconciler = knows_d3.read();
    assert_eq!(reconciler.clock, clock(&[x1, x2, y1, z1]));
    sx.receive(&knows_d3.record);
    sx.put(&reconciler, "D5");
    assert_eq!(sx.values(), ["D5"]);
    assert_eq!(sx.record.clock, clock(&[x1, x2, x3, y1, z1]));
}

#[test]
fn two_writers_with_the_same_context_at_the_same_coordinator_leave_two_siblings() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "old");
    let both_read = home.read();
    home.put(&both_read, "mine");
    home.put(&both_read, "yours");
    assert_eq!(home.values(), ["mine", "yours"]);
}

#[test]
fn a_put_drops_exactly_what_its_context_covers() {
    let mut home = Replica::new(1);
    let seen_a = home.put(&Context::blind(), "a");
    home.put(&Context::blind(), "b");
    let seen_c = home.put(&Context::blind(), "c");
    let mut seen_a_and_c = seen_a.clone();
    seen_a_and_c.clock.join(&seen_c.clock);
    home.put(&seen_a_and_c, "d");
    assert_eq!(home.values(), ["b", "d"]);
}

#[test]
fn a_put_answers_with_what_its_writer_saw_and_not_with_what_its_coordinator_has() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "of another writer");
    let mine = home.put(&Context::blind(), "mine");
    assert_eq!(mine.clock, Clock::of(dot(1, 2)));
    home.put(&mine, "mine again");
    assert_eq!(home.values(), ["mine again", "of another writer"]);
}

#[test]
fn a_delete_is_a_write_and_a_concurrent_value_outlives_it() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.put(&Context::blind(), "cart");
    b.receive(&a.record);
    let read = b.read();
    a.put(&read, "cart with a book");
    b.delete(&read);
    a.receive(&b.record);
    assert_eq!(a.values(), ["cart with a book"]);
    assert_eq!(a.record.siblings().len(), 2, "the tombstone is a sibling too, with a dot of its own");
    let all = a.read();
    a.delete(&all);
    assert_eq!(a.values(), [""; 0]);
    b.receive(&a.record);
    assert_eq!(b.values(), [""; 0]);
}

#[test]
fn a_coordinator_without_a_record_claims_only_its_own_write() {
    let record = Record::new().put(&Context::blind(), sibling(dot(1, 7), 7, "v"));
    assert_eq!(record.clock, Clock::of(dot(1, 7)), "(6, 7], not (0, 7]");
    let record = record.put(&Context::blind(), sibling(dot(1, 9), 9, "w"));
    assert!(record.clock.covers(dot(1, 8)), "events between two of its own are of other keys");
    assert!(!record.clock.covers(dot(1, 6)));
}

#[test]
fn what_a_context_shows_of_a_forgotten_life_is_believed_and_no_more() {
    // The coordinator lost its record; the context shows event 3 of its life, but not 4, which is a sibling
    // at another replica: the new write must not cover it.
    let elsewhere = Record::new()
        .put(&Context::blind(), sibling(dot(1, 3), 3, "seen"))
        .put(&Context::blind(), sibling(dot(1, 4), 4, "unseen"));
    let context = Context { clock: Clock::of(dot(1, 3)), ..Context::blind() };
    let after_loss = Record::new().put(&context, sibling(dot(1, 5), 5, "new"));
    assert_eq!(values(&after_loss.join(&elsewhere)), ["new", "unseen"]);
}

#[test]
#[should_panic(expected = "no two siblings bear one dot")]
fn a_counter_that_went_back_stops_the_process() {
    Record::new()
        .put(&Context::blind(), sibling(dot(1, 1), 1, "a"))
        .put(&Context::blind(), sibling(dot(1, 1), 2, "b"));
}

#[test]
fn the_tripwire_sees_events_of_my_life_that_i_do_not_remember() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "a");
    let early = home.record.clone();
    home.put(&Context::blind(), "b");
    let live = gramme_core::Incarnation(1);
    let other = gramme_core::Incarnation(2);
    assert!(early.remembers_less_than(&home.record, live));
    assert!(Record::new().remembers_less_than(&early, live));
    assert!(!home.record.remembers_less_than(&early, live), "my own past is no surprise");
    assert!(!home.record.remembers_less_than(&home.record, live));
    assert!(!early.remembers_less_than(&home.record, other), "another life's events are news, not amnesia");
}

#[test]
fn last_written_is_by_stamp_then_dot_and_a_tombstone_may_win() {
    let mut late = sibling(dot(1, 1), 1, "late");
    late.stamp = gramme_core::Stamp::from_ms(2_000_000_000_000);
    let record =
        Record::new().put(&Context::blind(), late).put(&Context::blind(), sibling(dot(1, 2), 2, "early"));
    assert_eq!(record.last_written().map(|s| s.dot), Some(dot(1, 1)));
    let mut gone = tombstone(dot(2, 1), 3);
    gone.stamp = gramme_core::Stamp::from_ms(2_000_000_000_000);
    let record = record.put(&Context::blind(), gone);
    assert_eq!(record.last_written().map(|s| s.dot), Some(dot(2, 1)), "same stamp: the greater dot");
    assert_eq!(Record::new().last_written(), None);
}

#[test]
fn a_value_expires_by_its_own_stamp() {
    let mut brief = sibling(dot(1, 1), 1, "v");
    brief.ttl_ms = 10;
    let born = brief.stamp.ms();
    assert_eq!(brief.expires_ms(), Some(born + 10));
    assert!(brief.live_value(born + 9).is_some());
    assert!(brief.live_value(born + 10).is_none());
    brief.ttl_ms = u64::MAX;
    assert!(brief.live_value(u64::MAX - 1).is_some(), "no overflow");
    assert!(sibling(dot(1, 1), 1, "v").live_value(u64::MAX).is_some(), "0 is for ever");
    assert!(tombstone(dot(1, 1), 1).live_value(0).is_none());
}

// U2: two clients take turns to read, merge and put through two coordinators that exchange their records.

#[test]
fn a_thousand_interleaved_updates_never_leave_more_than_two_siblings() {
    let mut homes = [Replica::new(1), Replica::new(2)];
    for turn in 0..1000 {
        // Both read the same state, then both write: the worst that two clients can do to each other.
        let seen = [homes[0].read(), homes[1].read()];
        for client in 0..2 {
            homes[client].put(&seen[client], &format!("{client}/{turn}"));
            assert!(homes[client].record.siblings().len() <= 2, "turn {turn}");
        }
        let (left, right) = (homes[0].record.clone(), homes[1].record.clone());
        homes[0].receive(&right);
        homes[1].receive(&left);
        assert!(homes[0].record.siblings().len() <= 2, "turn {turn}");
        assert_eq!(homes[0].record, homes[1].record);
    }
    assert_eq!(homes[0].record.clock.intervals().len(), 2, "one run of events per life");
}

#[test]
fn a_thousand_interleaved_updates_through_one_coordinator_never_leave_more_than_two_siblings() {
    let mut home = Replica::new(1);
    let mut seen = [Context::blind(), Context::blind()];
    for turn in 0..1000 {
        let client = turn % 2;
        home.put(&seen[client], &format!("{client}/{turn}"));
        assert!(home.record.siblings().len() <= 2, "turn {turn}");
        seen[client] = home.read();
    }
}

#[test]
fn a_client_that_never_reads_again_but_chains_its_puts_replaces_only_itself() {
    let mut home = Replica::new(1);
    let mut chain = [Context::blind(), Context::blind()];
    for turn in 0..1000 {
        let client = turn % 2;
        chain[client] = home.put(&chain[client], &format!("{client}/{turn}"));
        assert!(home.record.siblings().len() <= 2, "turn {turn}");
    }
}

#[test]
fn a_loop_over_one_stale_context_adds_a_sibling_each_time_and_one_reader_ends_it() {
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "first");
    let stale = home.read();
    for turn in 0..50 {
        home.put(&stale, &format!("{turn:02}"));
    }
    assert_eq!(home.record.siblings().len(), 50, "each saw only the first: none may drop another");
    let merged = home.read();
    home.put(&merged, "merged");
    assert_eq!(home.values(), ["merged"]);
}

// U1: random histories against the oracle.

const REPLICAS: usize = 4;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// A put or delete at a replica, with the `context`-th context handed out so far (or none).
    Put { at: usize, context: Option<usize>, delete: bool },
    /// A read of some replicas, by the bits of `of`; its context is handed out.
    Read { of: usize },
    /// The state of a replica is put on the wire.
    Send { from: usize },
    /// The `message`-th state ever sent arrives: late, twice, in any order.
    Arrive { message: usize, at: usize },
    /// A replica starts a new life over the same store.
    Restart { at: usize },
    /// Writes of other keys advance a replica's counter.
    Elsewhere { at: usize, writes: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    let step = prop_oneof![
        5 => (at.clone(), proptest::option::weighted(0.8, any::<usize>()), proptest::bool::weighted(0.2))
            .prop_map(|(at, context, delete)| Step::Put { at, context, delete }),
        3 => (1..1usize << REPLICAS).prop_map(|of| Step::Read { of }),
        3 => at.clone().prop_map(|from| Step::Send { from }),
        4 => (any::<usize>(), at.clone()).prop_map(|(message, at)| Step::Arrive { message, at }),
        1 => at.clone().prop_map(|at| Step::Restart { at }),
        1 => (at, 1..5u64).prop_map(|(at, writes)| Step::Elsewhere { at, writes }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The events that a state has in its past, named by number; the whole truth, which clocks only summarise.
type History = BTreeSet<usize>;

/// The oracle's world beside the real one.
#[derive(Default)]
struct World {
    replicas: Vec<Replica>,
    histories: Vec<History>,
    /// Of each event: its dot, and every event in its past.
    events: Vec<(Dot, History)>,
    contexts: Vec<(Context, History)>,
    wire: Vec<(Record, History)>,
}

impl World {
    fn new() -> World {
        World {
            replicas: (0..REPLICAS as u64).map(|i| Replica::new(i + 1)).collect(),
            histories: vec![History::new(); REPLICAS],
            ..World::default()
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put { at, context, delete } => self.put(at, context, delete),
            Step::Read { of } => {
                let of: Vec<usize> = (0..REPLICAS).filter(|i| of >> i & 1 == 1).collect();
                let merged = joined(of.iter().map(|&i| &self.replicas[i].record));
                let history = of.iter().flat_map(|&i| self.histories[i].clone()).collect();
                self.contexts.push((Context::of(&merged, None), history));
            }
            Step::Send { from } => {
                self.wire.push((self.replicas[from].record.clone(), self.histories[from].clone()));
            }
            Step::Arrive { message, at } if !self.wire.is_empty() => {
                let (record, history) = self.wire[message % self.wire.len()].clone();
                let live = self.replicas[at].incarnation;
                self.replicas[at].receive(&record);
                assert_eq!(self.replicas[at].incarnation, live, "nobody forgot, so no tripwire");
                self.histories[at].extend(history);
            }
            Step::Arrive { .. } => {}
            Step::Restart { at } => self.replicas[at].restart(),
            Step::Elsewhere { at, writes } => self.replicas[at].n += writes,
        }
    }

    fn put(&mut self, at: usize, context: Option<usize>, delete: bool) {
        let blind = (Context::blind(), History::new());
        let (context, past) = match context {
            Some(nth) if !self.contexts.is_empty() => self.contexts[nth % self.contexts.len()].clone(),
            _ => blind,
        };
        let before = self.replicas[at].record.clone();
        let replica = &mut self.replicas[at];
        let answer = if delete { replica.delete(&context) } else { replica.put(&context, "v") };
        let event = self.events.len();
        self.events.push((dot(replica.incarnation, replica.n), past.clone()));
        let own = self.events[event].0;
        let kept = before.siblings().iter().map(|s| s.dot).filter(|d| !context.clock.covers(*d));
        let expected: BTreeSet<Dot> = kept.chain([own]).collect();
        let got: BTreeSet<Dot> = replica.record.siblings().iter().map(|s| s.dot).collect();
        assert_eq!(got, expected, "a put drops exactly what its context covers");
        self.histories[at].extend(past.iter().copied().chain([event]));
        self.contexts.push((answer, past.into_iter().chain([event]).collect()));
    }

    /// Dots of the events that no other event of the history has in its past.
    fn maximal(&self, history: &History) -> BTreeSet<Dot> {
        let covered: History = history.iter().flat_map(|&e| self.events[e].1.iter().copied()).collect();
        history.difference(&covered).map(|&e| self.events[e].0).collect()
    }

    fn check(&self) {
        for (replica, history) in self.replicas.iter().zip(&self.histories) {
            self.agree(&replica.record, history);
        }
    }

    fn agree(&self, record: &Record, history: &History) {
        let siblings: BTreeSet<Dot> = record.siblings().iter().map(|s| s.dot).collect();
        assert_eq!(siblings, self.maximal(history), "siblings are the maximal events");
        for (event, (dot, _)) in self.events.iter().enumerate() {
            assert_eq!(record.clock.covers(*dot), history.contains(&event), "the clock covers {dot:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn siblings_are_the_maximal_events_of_what_a_replica_has_seen(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        // Joined in any order, everybody's state is one state.
        let all = joined(world.replicas.iter().map(|r| &r.record));
        let back = joined(world.replicas.iter().rev().map(|r| &r.record));
        prop_assert_eq!(&all, &back);
        let everything = world.histories.iter().flatten().copied().collect();
        world.agree(&all, &everything);
    }

    #[test]
    fn join_is_commutative_associative_and_idempotent(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        let states: Vec<&Record> =
            world.wire.iter().map(|m| &m.0).chain(world.replicas.iter().map(|r| &r.record)).take(7).collect();
        for a in &states {
            prop_assert_eq!(&a.join(a), *a, "idempotent");
            prop_assert_eq!(&a.join(&Record::new()), *a, "the empty record adds nothing");
            for b in &states {
                let ab = a.join(b);
                prop_assert_eq!(&ab, &b.join(a), "commutative");
                prop_assert_eq!(&ab.join(b), &ab);
                prop_assert_eq!(a.lacks(b), ab != **a, "a state lacks what joining would change");
                for c in &states {
                    prop_assert_eq!(ab.join(c), a.join(&b.join(c)), "associative");
                }
            }
        }
    }

    #[test]
    fn contexts_of_random_histories_come_back_from_their_tokens(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        let (key, secret) = (key("k"), [7; 16]);
        for (context, _) in &world.contexts {
            let token = context.to_token(&key, &secret);
            prop_assert_eq!(Context::from_token(&token, &key, &secret), Ok(context.clone()));
        }
    }
}
