//! What a node does for its peers, and what it does not let them do to it.

use crate::world::*;
use gramme_core::bucket::{BucketFact, BucketSettings, Level};
use gramme_core::codec::encode_record;
use gramme_core::{Clock, Frontier, Incarnation, NodeId, PartitionId, Record, Stamp};
use gramme_node::Event;
use gramme_node::request::{Get, Request, Response};
use gramme_wire::{Body, Message, Reason};

fn merge_of(name: &str, record: &Record, hint_for: Option<NodeId>) -> Body {
    Body::Merge {
        key: key(name),
        record: encode_record(record),
        hint_for,
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    }
}

fn refusal(story: &Story) -> Reason {
    match &story.heard()[..] {
        [Said { body: Body::Refused { failure }, .. }] => failure.reason.clone(),
        other => panic!("one refusal was expected: {other:?}"),
    }
}

#[test]
fn a_late_forward_is_refused_and_a_late_merge_is_taken() {
    let story = Story::at_home();
    let forward = Body::Forward { put: Box::new(put("k", "v", 1)) };
    story.peer_says(story.list[3], 8, 0, forward);
    assert_eq!(refusal(&story), Reason::TooLate);
    story.peer_says(story.list[1], 9, 0, merge_of("k", &foreign(77, 5, "v"), None));
    assert_eq!(story.heard_words(), [(story.list[1], "merge reply")]);
}

#[test]
fn a_replica_acknowledges_a_merge_once_it_is_durable() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    story.peer_says(story.list[1], 9, 1_000_000, merge_of("k", &foreign(77, 5, "v"), None));
    story.peer_says(story.list[1], 10, 1_000_000, merge_of("k", &foreign(77, 5, "v"), None));
    assert!(story.heard().is_empty(), "nor does its twin, which changes nothing");
    story.world.disk.hold_commits(false);
    story.world.run();
    assert_eq!(story.heard_words().len(), 2);
}

#[test]
fn a_node_that_is_shutting_down_coordinates_for_no_peer() {
    let story = Story::at_home();
    let node = story.node.clone();
    story.world.spawn_task(async move { node.drain().await });
    story.world.run();
    story.peer_says(story.list[3], 8, 900_000, Body::Forward { put: Box::new(put("k", "v", 1)) });
    assert_eq!(refusal(&story), Reason::Unsuitable);
}

#[test]
fn a_doubled_forward_is_taken_once_even_if_its_twin_was_refused() {
    let story = Story::at_home();
    story.freeze_ms(600);
    let forward = Body::Forward { put: Box::new(put("k", "v", 1)) };
    story.peer_says(story.list[3], 8, 900_000, forward.clone());
    let refused = story.heard();
    assert!(matches!(&refused[0].body, Body::ForwardReply { result: Err(f) } if f.reason == Reason::Frozen));
    story.pass_ms(200);
    story.peer_says(story.list[3], 8, 700_000, forward);
    assert!(story.heard().is_empty(), "the client has been told that nothing was applied");
}

#[test]
fn a_drain_waits_for_the_puts_of_peers() {
    let story = Story::at_home();
    story.peer_says(story.list[3], 8, 900_000, Body::Forward { put: Box::new(put("k", "v", 1)) });
    let drained = std::rc::Rc::new(std::cell::Cell::new(false));
    let (node, told) = (story.node.clone(), drained.clone());
    story.world.spawn_task(async move {
        node.drain().await;
        told.set(true);
    });
    story.world.run();
    assert!(!drained.get());
    story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    assert!(drained.get());
}

#[test]
fn what_lies_in_no_partition_of_this_ring_is_refused() {
    let story = Story::at_home();
    for partition in [1, 9_999, u16::MAX] {
        for hint_for in [None, Some(story.list[1])] {
            let body = merge_of("k", &foreign(77, 5, "v"), hint_for);
            let partition = PartitionId(partition);
            let message = Message { correlation: 4, partition, remaining_us: 1_000_000, sent_ns: 1, body };
            story.happens(Event::Message { from: story.list[1], connection: 1, message });
            assert_eq!(refusal(&story), Reason::Unsuitable);
        }
    }
}

#[test]
fn a_hint_for_a_node_that_is_no_home_is_refused() {
    let story = Story::at_fallback();
    let body = merge_of("k", &foreign(77, 5, "v"), Some(story.list[4]));
    story.peer_says(story.list[0], 4, 1_000_000, body);
    assert_eq!(refusal(&story), Reason::Unsuitable);
    let body = merge_of("k", &foreign(77, 5, "v"), Some(story.list[1]));
    story.peer_says(story.list[0], 5, 1_000_000, body);
    assert_eq!(story.heard_words(), [(story.list[0], "merge reply")]);
}

#[test]
fn records_that_together_have_no_form_are_refused_and_break_nothing() {
    let story = Story::at_home();
    let huge = |from: u64| {
        let mut clock = Clock::new();
        (from..from + 40_000).for_each(|i| clock.add(Incarnation(i), 0, 1));
        Record::from_parts(clock, Vec::new(), Vec::new()).unwrap()
    };
    story.peer_says(story.list[1], 1, 1_000_000, merge_of("k", &huge(1), None));
    assert_eq!(story.heard_words(), [(story.list[1], "merge reply")]);
    story.peer_says(story.list[1], 2, 1_000_000, merge_of("k", &huge(100_000), None));
    assert!(matches!(refusal(&story), Reason::Invalid(_)));
}

#[test]
fn a_fallback_keeps_its_hint_apart_and_shows_it_to_readers() {
    let story = Story::at_fallback();
    story.peer_says(story.list[0], 4, 1_000_000, merge_of("k", &foreign(77, 5, "v"), Some(story.list[1])));
    story.heard();
    assert_eq!(story.node.status().hints.hints, 1);
    story.peer_says(story.list[0], 5, 1_000_000, Body::Read { key: key("k") });
    let said = story.heard();
    assert_eq!(said[0].body, unproven(&foreign(77, 5, "v")));
}

fn unproven(record: &Record) -> Body {
    Body::ReadReply {
        standing: gramme_wire::Standing::Unproven,
        record: Some(encode_record(record)),
        frontier: Frontier::none(),
    }
}

#[test]
fn settings_that_were_acknowledged_are_in_force_however_far_ahead_the_old_ones_were_stamped() {
    let story = Story::at_home();
    let of = |ttl_ms| BucketSettings { ttl_ms, ..BucketSettings::default_of("b") };
    // Stamped by a node whose clock is a year ahead.
    let stamp = Stamp::from_ms(1_000_000 + 365 * 24 * 3_600_000);
    let fact = BucketFact { settings: of(1), stamp, author: story.list[1] };
    let facts = vec![("b".to_string(), fact)];
    let message = Message {
        correlation: 0,
        partition: Message::NO_PARTITION,
        remaining_us: 1_000_000,
        sent_ns: 1,
        body: Body::Buckets { facts, reply: false },
    };
    story.happens(Event::Message { from: story.list[1], connection: 1, message });
    assert_eq!(story.node.settings("b"), of(1));
    let set = story.asks(Request::SetBucket("b".to_string(), of(2)));
    assert!(matches!(set.response(), Response::Bucket(settings) if settings == of(2)));
    assert_eq!(story.node.settings("b"), of(2));
}

#[test]
fn a_clock_that_drifts_makes_no_peer_late() {
    let story = Story::at_home();
    // The peer's clock loses twenty millionths, over two days, on one connection.
    for minute in 0..2 * 24 * 60u64 {
        let now = minute * 60_000;
        story.world.set_now_ms(1_000 + now);
        story.world.run();
        let message = Message {
            correlation: minute + 1,
            partition: PARTITION,
            remaining_us: 300_000,
            sent_ns: now * 1_000_000 - now * 20,
            body: Body::Read { key: key("k") },
        };
        story.happens(Event::Message { from: story.list[1], connection: 1, message });
        let said = story.heard();
        assert!(said.iter().all(|s| word(&s.body) != "refused"), "after {minute} minutes");
    }
}

#[test]
fn a_hung_disk_holds_no_more_tasks_of_peers_than_there_may_be() {
    let story = Story::at_home();
    story.world.disk.hold_reads(true);
    let before = story.world.tasks_alive();
    for n in 0..20_000 {
        story.peer_says(story.list[1], n, 1_000_000, Body::Read { key: key(&format!("k{n}")) });
    }
    let waiting = story.world.tasks_alive() - before;
    assert!(waiting <= gramme_core::limits::SERVED_MAX, "{waiting} tasks wait for the disk");
    story.world.disk.hold_reads(false);
    story.world.run();
    assert_eq!(story.world.tasks_alive(), before);
    assert_eq!(story.heard().len(), 20_000, "everyone has an answer, if only a refusal");
}

#[test]
fn merges_that_change_nothing_do_not_pile_up_behind_a_hung_disk() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    for n in 0..20_000 {
        story.peer_says(story.list[1], n, 1_000_000, merge_of("k", &foreign(77, 5, "v"), None));
    }
    let refused = story.heard().len();
    assert!(refused >= 20_000 - gramme_core::limits::SERVED_MAX, "{refused} were refused");
    story.world.disk.hold_commits(false);
    story.world.run();
    let acknowledged = story.heard_words();
    assert!(acknowledged.iter().all(|said| said.1 == "merge reply"));
    assert_eq!(refused + acknowledged.len(), 20_000);
}

#[test]
fn a_replica_that_misses_every_other_write_keeps_a_small_seen_clock() {
    let story = Story::at_home();
    for n in (2..20_000).step_by(2) {
        story.peer_says(story.list[1], n, 1_000_000, merge_of(&format!("k{n}"), &foreign(77, n, "v"), None));
        story.world.probes.borrow_mut().clear();
    }
    let largest = story.world.disk.largest_row(&[0, 0, 0x13]);
    assert!(largest <= 16 << 10, "a seen row of {largest} bytes is written with every merge");
}

#[test]
fn a_get_counts_a_peer_that_answers_twice_once() {
    let story = Story::at_fallback();
    let get = story.asks(Request::Get(Get { r: Some(Level::Quorum), ..get("k") }));
    let asked = story.heard();
    story.answers(&asked[0], holds(&foreign(77, 5, "v")));
    story.answers(&asked[0], holds(&foreign(77, 5, "v")));
    assert!(get.is_open());
    story.answers(&asked[1], holds(&foreign(77, 5, "v")));
    assert_eq!(get.got().acks.homes, 2);
}
