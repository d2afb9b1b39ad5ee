//! Writes that expect something of their key, and writes that do not wait for disks.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::{Outcome, Record};
use gramme_node::Probe;
use gramme_wire::{Body, Expect, Put, Reason};

fn expecting(name: &str, value: &'static str, request: u128, expect: Expect) -> Put {
    Put { expect: Some(expect), ..put(name, value, request) }
}

/// The other homes answer all that they are asked: reads with this, merges at once.
fn homes_hold(story: &Story, record: &Record) {
    for _ in 0..4 {
        for said in story.heard() {
            match said.body {
                Body::Read { .. } => story.answers(&said, holds(record)),
                Body::Merge { .. } => story.answers(&said, Body::MergeReply),
                _ => {}
            }
        }
    }
}

#[test]
fn a_condition_is_held_against_what_the_other_homes_hold() {
    let story = Story::at_home();
    let there = foreign(77, 5, "theirs");
    let put = story.asks(write(expecting("k", "mine", 1, Expect::Absent)));
    homes_hold(&story, &there);
    let failure = put.failure();
    assert_eq!(failure.reason, Reason::Unexpected);
    assert_eq!(failure.outcome, Outcome::NotApplied);
    let put = story.asks(write(expecting("k", "mine", 2, Expect::Tag(there.tag()))));
    homes_hold(&story, &there);
    assert_eq!(put.done().siblings, 1, "what was expected is replaced");
}

#[test]
fn of_two_who_expect_the_same_of_one_home_one_wins() {
    let story = Story::at_home();
    let nothing = Record::new();
    let puts = [1, 2].map(|n| story.asks(write(expecting("k", "first", n, Expect::Absent))));
    homes_hold(&story, &nothing);
    let won = puts.iter().filter(|put| matches!(put.response(), gramme_node::request::Response::Done(_)));
    assert_eq!(won.count(), 1, "both read nothing, and the row's lock lets one through");
}

#[test]
fn a_retry_of_a_conditional_write_finds_its_first_attempt_and_not_a_failed_condition() {
    let story = Story::at_home();
    let first = story.asks(write(expecting("k", "v", 1, Expect::Absent)));
    homes_hold(&story, &Record::new());
    let dot = first.done().dot;
    let again = story.asks(write(expecting("k", "v", 1, Expect::Absent)));
    homes_hold(&story, &Record::new());
    assert_eq!(again.done().dot, dot);
}

#[test]
fn a_condition_that_cannot_be_checked_leaves_nothing_behind() {
    let story = Story::at_home();
    story.world.unreachable.borrow_mut().extend(story.others());
    let put = story.asks(write(expecting("k", "v", 1, Expect::Absent)));
    story.pass_ms(1_001);
    assert_eq!(put.failure().outcome, Outcome::NotApplied);
    assert_eq!(story.world.disk.commits(), 1, "the one that opened the shard");
}

#[test]
fn a_conditional_delete_covers_what_it_was_checked_against() {
    let story = Story::at_home();
    let there = foreign(77, 5, "theirs");
    let gone = Put { expect: Some(Expect::Tag(there.tag())), ..delete("k", 1) };
    let put = story.asks(write(gone));
    homes_hold(&story, &there);
    assert_eq!(put.done().siblings, 1);
}

fn buffered(name: &str, request: u128) -> Put {
    Put { buffered: Some(true), ..put(name, "v", request) }
}

#[test]
fn a_buffered_write_is_acknowledged_from_memory_and_says_so() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    let put = story.asks(write(buffered("k", 1)));
    assert!(put.is_open(), "one copy in memory is not two");
    let merges = story.heard();
    assert!(merges.iter().all(|said| matches!(said.body, Body::Merge { buffered: true, .. })));
    story.answers(&merges[0], Body::MergeReply);
    let done = put.done();
    assert!(done.buffered && done.acks.homes == 2);
    story.pass_ms(7);
    story.world.disk.hold_commits(false);
    story.world.run();
    let windows: Vec<Probe> = story.world.probes.borrow().clone();
    assert!(
        windows.iter().any(|probe| matches!(probe, Probe::Buffered { window } if window.as_millis() == 7))
    );
}

#[test]
fn a_replica_answers_a_buffered_merge_at_once_and_syncs_it_all_the_same() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    let before = story.world.disk.commits();
    let record = gramme_core::codec::encode_record(&foreign(77, 5, "v"));
    let merge = |key, hint_for| Body::Merge {
        key,
        record: record.clone(),
        hint_for,
        stamp: gramme_core::Frontier::none(),
        buffered: true,
        fence: 0,
    };
    story.peer_says(story.list[1], 9, 1_000_000, merge(key("k"), None));
    assert_eq!(story.heard_words(), [(story.list[1], "merge reply")]);
    assert_eq!(story.world.disk.commits(), before + 1, "its batch is on its way");
}

#[test]
fn a_hint_is_durable_before_it_is_acknowledged_even_for_a_buffered_write() {
    let story = Story::at_fallback();
    story.world.disk.hold_commits(true);
    let body = Body::Merge {
        key: key("k"),
        record: gramme_core::codec::encode_record(&foreign(77, 5, "v")),
        hint_for: Some(story.list[1]),
        stamp: gramme_core::Frontier::none(),
        buffered: true,
        fence: 0,
    };
    story.peer_says(story.list[0], 9, 1_000_000, body);
    assert!(story.heard().is_empty(), "a hint is kept for one who is not there to notice its loss");
    story.world.disk.hold_commits(false);
    story.world.run();
    assert_eq!(story.heard_words(), [(story.list[0], "merge reply")]);
}

#[test]
fn the_places_of_silent_homes_are_asked_for_durable_hints() {
    let story = Story::at_home();
    story.world.unreachable.borrow_mut().insert(story.list[1]);
    story.asks(write(Put { w: Some(Level::All), ..buffered("k", 1) }));
    let hints = story.heard();
    let hint = hints.iter().find(|said| word(&said.body) == "hint").unwrap();
    assert!(matches!(hint.body, Body::Merge { buffered: false, .. }));
}
