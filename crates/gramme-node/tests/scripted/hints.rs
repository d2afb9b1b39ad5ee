//! What a fallback does in the place of homes, and how a coordinator finds one.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::codec::encode_record;
use gramme_core::{Frontier, NodeId, Outcome, Record};
use gramme_node::Probe;
use gramme_node::request::{Get, Request};
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Put, Reason, Standing};

const ONE: Option<Level> = Some(Level::One);

fn hint_of(name: &str, record: &Record, home: NodeId) -> Body {
    Body::Merge {
        key: key(name),
        record: encode_record(record),
        hint_for: Some(home),
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    }
}

fn read_one(name: &str) -> Request {
    Request::Get(Get { r: ONE, ..get(name) })
}

fn values(story: &Story, name: &str) -> Vec<String> {
    values_of(&story.asks(read_one(name)).got().record)
}

fn large(name: &str, kib: usize) -> Put {
    Put { content: gramme_core::record::Content::Value(vec![7; kib << 10].into()), ..put(name, "", 1) }
}

#[test]
fn with_no_home_within_reach_the_first_fallback_coordinates_and_the_next_one_helps() {
    let story = Story::at_fallback();
    story.lose(&story.list[..3]);
    let put = story.asks(write(put("k", "v", 1)));
    let said = story.heard();
    assert_eq!(said.iter().map(|s| (s.to, word(&s.body))).collect::<Vec<_>>(), [(story.list[4], "hint")]);
    assert!(put.is_open(), "two copies were asked for");
    story.answers(&said[0], Body::MergeReply);
    let done = put.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (0, 2));
    assert_eq!(done.coordinator, story.list[3]);
    assert_eq!(story.node.status().hints.hints, 1, "it is kept for the homes");
    assert!(story.world.probes.borrow().contains(&Probe::FallbackCoordinated));
}

#[test]
fn the_last_node_within_reach_takes_a_put_with_w_1_and_shows_it_to_a_get_with_r_1() {
    for place in [3, 4] {
        let story = Story::open(place, MemoryEngine::new(), Standing::Continuous);
        story.lose(&story.others());
        let done = story.asks(write(Put { w: ONE, ..put("k", "v", 1) })).done();
        assert_eq!((done.acks.homes, done.acks.fallbacks), (0, 1));
        assert_eq!(values(&story, "k"), ["v"]);
        let next = Put { w: ONE, context: Some(done.context), ..put("k", "w", 2) };
        story.asks(write(next)).done();
        assert_eq!(values(&story, "k"), ["w"], "a context replaces what it has seen, here too");
    }
}

#[test]
fn a_put_for_which_too_few_nodes_are_within_reach_is_not_begun() {
    let story = Story::at_fallback();
    story.lose(&story.others());
    let failure = story.asks(write(put("k", "v", 1))).failure();
    assert_eq!((&failure.reason, failure.outcome), (&Reason::Unavailable, Outcome::NotApplied));
    let strict = story.asks(write(Put { w: ONE, pw: 1, ..put("k2", "v", 2) })).failure();
    assert_eq!(strict.outcome, Outcome::NotApplied, "a fallback is no home");
    assert_eq!(
        story.node.status().hints.hints,
        0,
        "no twin of what its client writes elsewhere is left here"
    );
}

#[test]
fn another_fallback_hands_the_put_to_the_first_and_takes_it_itself_once_that_one_is_gone() {
    let story = Story::open(4, MemoryEngine::new(), Standing::Continuous);
    story.lose(&story.list[..3]);
    let put = story.asks(write(Put { w: ONE, ..put("k", "v", 9) }));
    assert_eq!(story.heard_words(), [(story.list[3], "forward")]);
    story.lose(&story.list[3..4]);
    let done = put.done();
    assert_eq!((done.coordinator, done.acks.fallbacks), (story.list[4], 1));
}

#[test]
fn a_fallback_coordinates_what_a_peer_hands_on() {
    let story = Story::at_fallback();
    story.lose(&story.list[..3]);
    let put = Put { w: ONE, ..put("k", "v", 9) };
    story.peer_says(story.list[4], 7, 900_000, Body::Forward { put: Box::new(put) });
    let said = story.heard();
    assert!(said.iter().any(|s| matches!(&s.body, Body::ForwardReply { result: Ok(_) })), "{said:?}");
}

#[test]
fn each_life_of_a_hint_store_mints_under_an_incarnation_of_its_own() {
    let memory = MemoryEngine::new();
    let one = |story: &Story, request| {
        story.lose(&story.others());
        story.asks(write(Put { w: ONE, ..put("k", "v", request) })).done().dot
    };
    let first = Story::open(3, memory.clone(), Standing::Continuous);
    let (a, b) = (one(&first, 1), one(&first, 2));
    assert_eq!((a.incarnation, a.n + 1), (b.incarnation, b.n));
    let second = Story::reopened(&first, memory);
    assert_ne!(one(&second, 3).incarnation, a.incarnation);
    assert_eq!(values(&second, "k"), ["v", "v", "v"], "and nothing overwrites what it has not seen");
}

#[test]
fn a_silent_fallback_is_followed_by_the_next_after_its_patience() {
    let story = Story::at_home();
    let put = story.asks(write(Put { w: Some(Level::All), ..put("k", "v", 1) }));
    let merges = story.heard();
    story.answers(&merges[0], Body::MergeReply);
    story.pass_ms(21);
    assert_eq!(story.heard_words(), [(story.list[3], "hint")]);
    story.pass_ms(18);
    assert!(story.heard_words().is_empty(), "it still has time");
    story.pass_ms(3);
    let next = story.heard();
    assert_eq!(next.iter().map(|s| (s.to, word(&s.body))).collect::<Vec<_>>(), [(story.list[4], "hint")]);
    story.answers(&next[0], Body::MergeReply);
    assert_eq!(put.done().acks.fallbacks, 1);
}

#[test]
fn a_home_that_is_down_is_replaced_at_once() {
    let story = Story::at_home();
    story.lose(&story.list[2..3]);
    story.asks(write(put("k", "v", 1)));
    assert_eq!(story.heard_words(), [(story.list[1], "merge"), (story.list[3], "hint")]);
}

#[test]
fn a_home_that_is_overloaded_gets_no_hint_once_enough_have_the_put() {
    let story = Story::at_home();
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    story.answers(&merges[1], refuse(Reason::Overloaded));
    assert!(story.heard().is_empty(), "the other home may yet be enough");
    story.answers(&merges[0], Body::MergeReply);
    put.done();
    story.pass_ms(3_000);
    assert!(story.heard().is_empty(), "a hint would only add to its load");
}

#[test]
fn below_w_an_overloaded_home_is_replaced_like_a_dead_one() {
    let story = Story::at_home();
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    story.answers(&merges[0], refuse(Reason::Overloaded));
    story.answers(&merges[1], refuse(Reason::Overloaded));
    let hints = story.heard();
    assert_eq!(hints.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["hint", "hint"]);
    story.answers(&hints[0], Body::MergeReply);
    assert_eq!(put.done().acks.fallbacks, 1);
}

#[test]
fn a_home_that_acknowledges_late_gets_no_hint() {
    let story = Story::at_home();
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    story.answers(&merges[0], Body::MergeReply);
    put.done();
    story.pass_ms(900);
    story.answers(&merges[1], Body::MergeReply);
    story.pass_ms(3_000);
    assert!(story.heard().is_empty());
}

#[test]
fn a_home_that_stays_silent_gets_a_fallback_at_the_deadline_and_a_silent_one_is_followed_by_the_next() {
    let story = Story::at_home();
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    story.answers(&merges[0], Body::MergeReply);
    put.done();
    story.pass_ms(990);
    assert!(story.heard().is_empty(), "a slow home is given the time that the client had");
    story.pass_ms(15);
    assert_eq!(story.heard_words(), [(story.list[3], "hint")]);
    story.pass_ms(30);
    let next = story.heard();
    assert_eq!(next.iter().map(|s| (s.to, word(&s.body))).collect::<Vec<_>>(), [(story.list[4], "hint")]);
    story.answers(&next[0], Body::MergeReply);
    story.pass_ms(3_000);
    assert!(story.heard().is_empty());
}

#[test]
fn a_second_hint_for_a_key_joins_the_first() {
    let story = Story::at_fallback();
    for (n, value) in [(5, "one"), (6, "two")] {
        let hint = hint_of("k", &foreign(70 + n, n, value), story.list[n as usize - 4]);
        story.peer_says(story.list[0], n, 1_000_000, hint);
    }
    assert_eq!(story.node.status().hints.hints, 1, "one key is one hint");
    story.lose(&story.others());
    assert_eq!(values(&story, "k"), ["one", "two"]);
}

#[test]
fn what_hints_take_is_counted_exactly_and_counted_again_at_a_restart() {
    let memory = MemoryEngine::new();
    let story = Story::open(3, memory.clone(), Standing::Continuous);
    for n in 0..50 {
        let hint =
            hint_of(&format!("k{}", n % 20), &foreign(70, n + 1, "a value"), story.list[n as usize % 3]);
        story.peer_says(story.list[0], n, 1_000_000, hint);
    }
    story.lose(&story.others());
    story.asks(write(Put { w: ONE, ..put("k1", "own", 77) })).done();
    let before = story.node.status().hints;
    assert_eq!((before.hints, before.stores), (20, 1));
    let again = Story::reopened(&story, memory).node.status().hints;
    assert_eq!((again.hints, again.bytes, again.stores), (before.hints, before.bytes, before.stores));
    story.pass_ms(5_000);
    assert_eq!(story.node.status().hints.oldest_ms - before.oldest_ms, 5_000);
}

#[test]
fn a_full_hint_store_refuses_by_name_says_so_before_and_forgets_nothing() {
    let story = Story::at_fallback();
    let hint = |n: u64| {
        let value: &'static str = Box::leak("x".repeat(64 << 10).into_boxed_str());
        story.peer_says(
            story.list[0],
            n,
            1_000_000,
            hint_of(&format!("k{n}"), &foreign(70, n, value), story.list[1]),
        );
        story.heard().pop().expect("an answer").body
    };
    let mut kept = 0;
    while hint(kept + 1) == Body::MergeReply {
        kept += 1;
        let alarms = story.world.probes.borrow().iter().filter(|p| matches!(p, Probe::HintsAlarm(_))).count();
        assert_eq!(alarms > 0, story.node.status().hints.alarm);
    }
    let status = story.node.status().hints;
    assert!(
        kept == 15 && status.hints == 15 && status.alarm && status.bytes <= status.bytes_max,
        "{status:?}"
    );
    assert!(matches!(hint(99), Body::Refused { failure } if failure.reason == Reason::HintsFull));
    let percents: Vec<u64> = story
        .world
        .probes
        .borrow()
        .iter()
        .filter_map(|p| if let Probe::HintsAlarm(percent) = p { Some(*percent) } else { None })
        .collect();
    assert_eq!(percents.len(), 2, "once before it is full, once when it is: {percents:?}");
    story.lose(&story.others());
    assert_eq!(values(&story, "k1").len(), 1);
}

#[test]
fn a_coordinator_asks_the_next_fallback_when_one_is_full() {
    let story = Story::at_home();
    story.lose(&story.list[2..3]);
    story.asks(write(put("k", "v", 1)));
    let said = story.heard();
    story.answers(&said[1], refuse(Reason::HintsFull));
    assert_eq!(story.heard_words(), [(story.list[4], "hint")]);
}

#[test]
fn a_fallback_whose_hint_store_is_full_hands_the_put_on_and_says_why_if_nobody_is_left() {
    let story = Story::at_fallback();
    story.lose(&story.list[..3]);
    story.asks(write(Put { w: ONE, ..large("k", 900) })).done();
    story.heard();
    let put = story.asks(write(Put { w: ONE, ..large("k2", 900) }));
    assert_eq!(story.heard_words(), [(story.list[4], "forward")]);
    story.lose(&story.list[4..]);
    assert_eq!(put.failure().outcome, Outcome::MaybeApplied, "the other may have taken it");
    let alone = story.asks(write(Put { w: ONE, ..large("k3", 900) })).failure();
    assert_eq!((alone.reason, alone.outcome), (Reason::HintsFull, Outcome::NotApplied));
}
