//! What a coordinator does with a write, and what it says of it.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::record::{Content, checksum};
use gramme_core::{Context, NodeId, Outcome, Record, RequestId, Sibling};
use gramme_storage::EngineError;
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Put, Reason, Standing};

#[test]
fn a_put_is_answered_once_one_other_home_and_its_own_disk_have_it() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    assert_eq!(merges.iter().map(|m| m.to).collect::<Vec<_>>(), story.list[1..3]);
    let authors: Vec<NodeId> = record_in(&merges[0]).siblings().iter().map(|s| s.author).collect();
    assert_eq!(authors, story.list[..1], "the record names the node that coordinated");
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    assert!(put.is_open(), "two other homes have it, this node's disk does not");
    story.world.disk.hold_commits(false);
    story.world.run();
    let done = put.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (3, 0));
}

#[test]
fn a_put_with_one_home_silent_gets_a_fallback_while_it_waits() {
    let story = Story::at_home();
    let put = story.asks(write(Put { w: Some(Level::All), ..put("k", "v", 1) }));
    let merges = story.heard();
    story.answers(&merges[0], Body::MergeReply);
    story.pass_ms(19);
    assert!(story.heard_words().is_empty(), "the silent home still has time");
    story.pass_ms(2);
    let asked = story.heard();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to, story.list[3]);
    assert!(matches!(asked[0].body, Body::Merge { hint_for: Some(home), .. } if home == story.list[2]));
    story.answers(&asked[0], Body::MergeReply);
    let done = put.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (2, 1));
}

#[test]
fn a_fallback_that_refuses_after_the_answer_is_followed_by_the_next() {
    let story = Story::at_home();
    story.world.unreachable.borrow_mut().insert(story.list[2]);
    let put = story.asks(write(put("k", "v", 1)));
    let said = story.heard();
    assert_eq!(said.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["merge", "hint"]);
    story.answers(&said[0], Body::MergeReply);
    put.done();
    story.answers(&said[1], refuse(Reason::Overloaded));
    assert_eq!(story.heard_words(), [(story.list[4], "hint")], "three copies were promised to be tried for");
}

#[test]
fn more_copies_than_the_cluster_keeps_are_refused_by_name() {
    let story = Story::at_home();
    let put = story.asks(write(Put { w: Some(Level::Count(4)), ..put("k", "v", 1) }));
    let failure = put.failure();
    assert_eq!(failure.outcome, Outcome::NotApplied);
    assert!(matches!(&failure.reason, Reason::Invalid(what) if what.contains("N=3")), "{failure}");
    assert!(story.heard().is_empty());
}

#[test]
fn a_delete_without_a_context_covers_what_a_read_at_r_sees() {
    let story = Story::at_home();
    let there = foreign(77, 5, "unseen here");
    let delete = story.asks(write(delete("k", 1)));
    let asked = story.heard();
    assert_eq!(asked.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["read"]);
    story.answers(&asked[0], holds(&there));
    let merges: Vec<Said> = story.heard().into_iter().filter(|s| word(&s.body) == "merge").collect();
    let sent = record_in(&merges[0]);
    assert_eq!(values_of(&sent), ["deleted"]);
    assert!(sent.clock.contains(&there.clock), "the value that was seen is covered");
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    delete.done();
}

#[test]
fn a_coordinator_that_was_frozen_refuses_what_waited() {
    let story = Story::at_home();
    story.freeze_ms(600);
    let late = story.asks(write(put("k", "v", 1))).failure();
    assert_eq!((late.reason, late.outcome), (Reason::Frozen, Outcome::NotApplied));
    assert!(story.heard().is_empty());
    story.pass_ms(200);
    let later = story.asks(write(put("k", "v", 3))).failure();
    assert_eq!(later.reason, Reason::Frozen, "its loop has not come round often enough");
    story.pass_ms(300);
    story.asks(write(put("k", "v", 2)));
    assert_eq!(story.heard().len(), 2, "a moment later writes are taken again");
}

#[test]
fn a_put_that_waited_for_the_disk_through_a_freeze_is_not_minted() {
    let story = Story::at_home();
    story.world.disk.hold_reads(true);
    let put = story.asks(write(put("k", "v", 1)));
    assert!(put.is_open());
    story.freeze_ms(700);
    story.world.disk.hold_reads(false);
    story.world.run();
    let late = put.failure();
    assert_eq!((late.reason, late.outcome), (Reason::Frozen, Outcome::NotApplied));
    assert!(story.heard().is_empty(), "nobody hears of a late ghost");
}

#[test]
fn a_put_whose_disk_read_takes_too_long_is_answered_in_time_and_leaves_nothing() {
    let story = Story::at_home();
    story.world.disk.hold_reads(true);
    let first = story.asks(write(put("k", "first", 1)));
    let second = story.asks(write(put("k", "second", 2)));
    story.pass_ms(1_001);
    for put in [first, second] {
        let late = put.failure();
        assert_eq!((late.reason, late.outcome), (Reason::TooLate, Outcome::NotApplied));
    }
    story.world.disk.hold_reads(false);
    story.world.run();
    assert!(story.heard().is_empty());
    let third = story.asks(write(put("k", "third", 3)));
    let merges = story.heard();
    assert_eq!(values_of(&record_in(&merges[0])), ["third"], "the row is free and holds no ghost");
    story.answers(&merges[0], Body::MergeReply);
    third.done();
}

#[test]
fn a_failed_sync_makes_the_put_maybe_applied_and_the_next_one_goes_to_another_home() {
    let story = Story::at_home();
    story.world.disk.break_commits();
    let broken = story.asks(write(put("k", "v", 1))).failure();
    assert_eq!(broken.outcome, Outcome::MaybeApplied);
    assert!(matches!(broken.reason, Reason::Disk(_)));
    story.heard();
    let put = story.asks(write(put("k2", "v", 2)));
    let forwarded = story.heard();
    assert_eq!(forwarded.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["forward"]);
    assert!(story.list[1..3].contains(&forwarded[0].to));
    assert!(put.is_open());
}

#[test]
fn a_read_error_of_the_disk_is_no_empty_key_and_surely_wrote_nothing() {
    let story = Story::at_home();
    story.world.disk.break_reads(Some(EngineError::Io("input/output error".to_string())));
    story.world.unreachable.borrow_mut().extend(story.others());
    let failure = story.asks(write(put("k", "v", 1))).failure();
    assert_eq!(failure.outcome, Outcome::NotApplied);
    assert!(story.heard().is_empty());

    story.world.unreachable.borrow_mut().clear();
    story.asks(write(put("k", "v", 1)));
    let words: Vec<&str> = story.heard_words().iter().map(|(_, word)| *word).collect();
    assert_eq!(words, ["forward"], "another home can read the key");
}

#[test]
fn a_retry_adopts_what_its_first_attempt_left_at_another_home() {
    let story = Story::at_home();
    let first = foreign(77, 5, "v");
    let retry = Put { retry: true, ..put("k", "v", first.siblings()[0].request.0) };
    let put = story.asks(write(retry));
    let asked = story.heard();
    story.answers(&asked[0], holds(&first));
    let merges: Vec<Said> = story.heard().into_iter().filter(|s| word(&s.body) == "merge").collect();
    assert!(merges.iter().all(|merge| record_in(merge) == first), "no second sibling");
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    assert_eq!(put.done().dot, first.siblings()[0].dot);
}

/// A delete without a context was tried at another coordinator as well, and somebody has written after it. What this
/// attempt reads is not what it was to delete.
#[test]
fn a_delete_whose_other_attempt_was_overwritten_meanwhile_does_not_overwrite_what_came_after_it() {
    for retry in [false, true] {
        let story = Story::at_home();
        let delete = story.asks(write(Put { retry, ..delete("k", 1) }));
        let asked = story.heard();
        assert_eq!(asked.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["read"]);
        let other = Record::new().put(&Context::blind(), as_tombstone(foreign(77, 5, ""), 1));
        let after = other.put(&Context::of(&other, None), foreign(77, 6, "after").siblings()[0].clone());
        story.answers(&asked[0], holds(&after));
        let merges: Vec<Said> = story.heard().into_iter().filter(|s| word(&s.body) == "merge").collect();
        assert!(merges.iter().all(|merge| record_in(merge) == after), "retry: {retry}");
        merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
        assert_eq!(delete.done().dot.n, 0, "it had its effect, and there is nothing left of it");
        assert_eq!(values_of(&story.shows("k").1), ["after"], "retry: {retry}");
    }
}

/// The same while nobody has overwritten it: what was written beside it stays.
#[test]
fn a_delete_whose_other_attempt_is_there_adopts_it_and_covers_nothing_more() {
    let story = Story::at_home();
    let delete = story.asks(write(delete("k", 1)));
    let asked = story.heard();
    let other = Record::new().put(&Context::blind(), as_tombstone(foreign(77, 5, ""), 1));
    let both = other.put(&Context::blind(), foreign(77, 6, "beside").siblings()[0].clone());
    story.answers(&asked[0], holds(&both));
    let merges: Vec<Said> = story.heard().into_iter().filter(|s| word(&s.body) == "merge").collect();
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    assert_eq!(delete.done().dot, other.siblings()[0].dot);
    assert_eq!(values_of(&story.shows("k").1), ["beside", "deleted"]);
}

fn as_tombstone(record: Record, request: u128) -> Sibling {
    let content = Content::Tombstone;
    let checksum = checksum(&content);
    Sibling { content, checksum, request: RequestId(request), ..record.siblings()[0].clone() }
}

#[test]
fn a_put_answers_with_the_given_context_and_its_own_dot_and_no_more() {
    let story = Story::at_home();
    let first = story.asks(write(put("k", "one", 1)));
    story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    let first = first.done();
    let second = story.asks(write(put("k", "two", 2)));
    story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    let second = second.done();
    assert_eq!(second.siblings, 2);
    assert!(!second.context.clock.covers(first.dot), "its writer has not seen the first");
    assert!(second.context.clock.covers(second.dot));
}

#[test]
fn metadata_beyond_its_limit_is_refused_and_breaks_nothing() {
    let story = Story::at_home();
    let meta = vec![(bytes::Bytes::from_static(b"n"), bytes::Bytes::from_static(b"v")); 65];
    let failure = story.asks(write(Put { meta, ..put("k", "v", 1) })).failure();
    assert!(matches!(failure.reason, Reason::Invalid(_)));
    assert_eq!(failure.outcome, Outcome::NotApplied);
}

#[test]
fn a_forward_that_stays_unanswered_goes_to_one_further_home_with_the_same_request() {
    let story = Story::at_fallback();
    let put = story.asks(write(put("k", "v", 9)));
    let first = story.heard();
    assert_eq!(first.len(), 1);
    story.pass_ms(301);
    let second = story.heard();
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].to, second[0].to);
    let (Body::Forward { put: one }, Body::Forward { put: two }) = (&first[0].body, &second[0].body) else {
        panic!("two forwards");
    };
    assert_eq!(one.request, two.request);
    assert!(!one.retry && two.retry, "the second is told to look for what the first may have done");
    story.pass_ms(800);
    assert!(story.heard().is_empty(), "and to no third");
    assert_eq!(put.failure().outcome, Outcome::MaybeApplied);
}

#[test]
fn a_forwarder_that_was_frozen_between_two_candidates_asks_no_second() {
    let story = Story::at_fallback();
    let put = story.asks(write(put("k", "v", 9)));
    assert_eq!(story.heard().len(), 1);
    story.freeze_ms(700);
    story.pass_ms(1);
    assert!(story.heard_words().iter().all(|said| said.1 != "forward"));
    assert_eq!(put.failure().outcome, Outcome::MaybeApplied);
}

#[test]
fn answers_to_questions_of_an_earlier_life_count_for_nothing() {
    let memory = MemoryEngine::new();
    let first = Story::open(0, memory.clone(), Standing::Continuous);
    first.asks(write(put("k", "v", 1)));
    let of_then: Vec<u64> = first.heard().iter().map(|merge| merge.correlation).collect();
    let second = Story::reopened(&first, memory);
    second.asks(write(put("k2", "v", 2)));
    let of_now: Vec<u64> = second.heard().iter().map(|merge| merge.correlation).collect();
    assert_ne!(of_then[0], of_now[0], "a slow answer to the first would acknowledge the second");
}

#[test]
fn nothing_that_two_lives_mint_bears_one_dot() {
    let memory = MemoryEngine::new();
    let mut dots = Vec::new();
    let mut last: Option<Story> = None;
    for life in 0..3 {
        let story = match &last {
            None => Story::open(0, memory.clone(), Standing::Continuous),
            Some(before) => Story::reopened(before, memory.clone()),
        };
        let put = story.asks(write(put("k", "v", life)));
        story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
        let dot = put.done().dot;
        assert!(!dots.contains(&dot));
        dots.push(dot);
        last = Some(story);
    }
}

#[test]
fn a_home_that_lost_what_it_minted_takes_a_new_incarnation() {
    let story = Story::at_home();
    let put_one = story.asks(write(put("k", "v", 1)));
    story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    let dot = put_one.done().dot;
    let ghost = foreign(dot.incarnation.0, dot.n + 7, "minted and forgotten");
    let record = gramme_core::codec::encode_record(&ghost);
    story.peer_says(story.list[1], 5, 1_000_000, merge("k2", record));
    story.heard();
    let put_two = story.asks(write(put("k", "w", 2)));
    story.heard().iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    assert_ne!(put_two.done().dot.incarnation, dot.incarnation);
}

#[test]
fn silent_homes_keep_no_more_late_tasks_than_there_may_be() {
    let story = Story::at_home();
    let before = story.world.tasks_alive();
    for n in 0..4_400 {
        let put = story.asks(write(put(&format!("k{n}"), "v", n)));
        let merges: Vec<Said> = story.heard().into_iter().filter(|s| word(&s.body) == "merge").collect();
        // The first other home answers, the second is silent.
        story.answers(merges.iter().find(|m| m.to == story.list[1]).unwrap(), Body::MergeReply);
        assert!(!put.is_open());
    }
    let late = story.world.tasks_alive() - before;
    assert!(late <= gramme_core::limits::IN_FLIGHT_MAX, "{late} tasks wait for a silent home");
}
