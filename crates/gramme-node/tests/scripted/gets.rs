//! What a reader is told, and what a read sets in motion.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::{Context, Dot, Incarnation};
use gramme_node::Probe;
use gramme_node::request::{Get, Request};
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Reason, Standing};

/// Puts a value that all three homes have.
fn settle(story: &Story, name: &str, value: &'static str) -> gramme_core::Record {
    let put = story.asks(write(put(name, value, 1)));
    let merges = story.heard();
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    put.done();
    record_in(&merges[0])
}

#[test]
fn a_hundred_reads_of_a_settled_key_cause_no_write() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let commits = story.world.disk.commits();
    for _ in 0..100 {
        let get = story.asks(read("k"));
        let asked = story.heard();
        assert_eq!(asked.iter().map(|s| word(&s.body)).collect::<Vec<_>>(), ["read"]);
        story.answers(&asked[0], holds(&record));
        assert_eq!(values_of(&get.got().record), ["v"]);
        story.pass_ms(1);
    }
    assert!(story.heard().is_empty());
    assert_eq!(story.world.disk.commits(), commits);
}

#[test]
fn a_stale_home_is_sent_what_it_lacks_after_the_answer() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let get = story.asks(read("k"));
    let asked = story.heard();
    story.answers(&asked[0], holds(&gramme_core::Record::new()));
    assert_eq!(values_of(&get.got().record), ["v"]);
    let repairs = story.heard();
    assert_eq!(repairs.len(), 1);
    assert_eq!(repairs[0].to, asked[0].to);
    assert_eq!(record_in(&repairs[0]), record);
}

/// A fallback's hint of a settled key remembers what its homes do not: clocks and requests are no reason to write.
#[test]
fn what_only_a_clock_knows_is_no_reason_to_repair_unless_a_session_waits_for_it() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let mut knowing = record.clone();
    knowing.clock.add_dot(Dot::new(Incarnation(99), 7));
    let all = |min: Option<Context>| Request::Get(Get { r: Some(Level::Count(2)), min, ..get("k") });
    let get = story.asks(all(None));
    story.heard().iter().for_each(|said| story.answers(said, holds(&knowing)));
    assert_eq!(values_of(&get.got().record), ["v"]);
    assert_eq!((story.heard().len(), story.world.probed(Probe::ReadRepair)), (0, 0));
    // A token that has it would make every read wait for one replica more.
    let get = story.asks(all(Some(Context::of(&knowing, None))));
    story.heard().iter().for_each(|said| story.answers(said, holds(&knowing)));
    get.got();
    assert_eq!(story.world.probed(Probe::ReadRepair), 1, "this home is told");
    let get = story.asks(all(Some(Context::of(&knowing, None))));
    story.heard().iter().for_each(|said| story.answers(said, holds(&knowing)));
    get.got();
    assert_eq!(story.world.probed(Probe::ReadRepair), 1);
}

#[test]
fn this_home_repairs_itself_from_what_others_hold() {
    let story = Story::at_home();
    let there = foreign(77, 5, "v");
    story.asks(read("k"));
    let asked = story.heard();
    story.answers(&asked[0], holds(&there));
    let get = story.asks(Request::Get(Get { r: Some(Level::One), ..get("k") }));
    assert_eq!(values_of(&get.got().record), ["v"]);
}

#[test]
fn not_found_needs_a_continuous_home() {
    let story = Story::open(0, MemoryEngine::new(), Standing::Unproven);
    story.world.unreachable.borrow_mut().extend(story.list[1..3].iter().copied());
    let get = story.asks(read("k"));
    loop {
        let asked = story.heard();
        if asked.is_empty() {
            break;
        }
        asked.iter().for_each(|said| story.answers(said, unproven_nothing()));
    }
    assert_eq!(get.failure().reason, Reason::Unavailable, "fallbacks and a wiped home prove nothing");
}

#[test]
fn a_session_waits_for_a_replica_that_has_seen_what_it_has_seen() {
    let story = Story::at_home();
    let there = foreign(77, 5, "mine");
    let min = Some(Context::of(&there, None));
    let get = story.asks(Request::Get(Get { min, ..get("k") }));
    let asked = story.heard();
    story.answers(&asked[0], holds(&gramme_core::Record::new()));
    assert!(get.is_open(), "two homes answered, neither has it");
    let further = story.heard();
    assert_eq!(further.len(), 1);
    story.answers(&further[0], holds(&there));
    assert_eq!(values_of(&get.got().record), ["mine"]);
}

#[test]
fn a_read_error_here_is_no_empty_key() {
    let story = Story::at_home();
    let cause = gramme_storage::EngineError::Io("input/output error".to_string());
    story.world.disk.break_reads(Some(cause));
    let get = story.asks(Request::Get(Get { r: Some(Level::One), ..get("k") }));
    assert!(get.is_open());
    let asked = story.heard();
    assert_eq!(asked.len(), 1, "another replica is asked instead");
    story.answers(&asked[0], holds(&foreign(77, 5, "v")));
    assert_eq!(values_of(&get.got().record), ["v"]);
}

#[test]
fn a_reader_of_a_key_that_is_written_all_the_time_is_answered() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    story.asks(write(put("k", "v", 1)));
    let get = story.asks(Request::Get(Get { r: Some(Level::One), ..get("k") }));
    assert!(get.is_open(), "what a crash could take back is not shown");
    // The next write joins the next batch before the first is durable.
    story.asks(write(put("k", "w", 2)));
    story.world.disk.release_one_commit();
    story.world.run();
    assert!(!get.is_open(), "the batch that the reader met is durable");
    assert_eq!(values_of(&get.got().record), ["v"]);
}

#[test]
fn a_disk_that_hangs_here_does_not_hold_up_a_read() {
    let story = Story::at_home();
    story.world.disk.hold_reads(true);
    let get = story.asks(read("k"));
    let asked = story.heard();
    assert_eq!(asked.len(), 1, "the other home is asked at once");
    story.answers(&asked[0], holds(&foreign(77, 5, "v")));
    story.pass_ms(5);
    let more = story.heard();
    assert!(!more.is_empty(), "and one more when this disk is slow");
    story.answers(&more[0], holds(&foreign(77, 5, "v")));
    assert_eq!(values_of(&get.got().record), ["v"]);
    let alone = story.asks(Request::Get(Get { r: Some(Level::One), ..crate::world::get("k2") }));
    story.pass_ms(1_001);
    assert_eq!(alone.failure().reason, Reason::Unavailable, "and every client has its answer in time");
}

#[test]
fn reads_find_another_replica_even_when_the_budget_for_hedges_is_spent() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let gets: Vec<Pending> = (0..50).map(|_| story.asks(read("k"))).collect();
    let first = story.heard();
    assert_eq!(first.len(), 50);
    story.pass_ms(151);
    let second = story.heard();
    let hedged: Vec<&Said> = second.iter().filter(|s| word(&s.body) == "read").collect();
    assert!(hedged.len() >= 50, "{} of 50 were given a second chance", hedged.len());
    hedged.iter().for_each(|said| story.answers(said, holds(&record)));
    gets.iter().for_each(|get| assert_eq!(values_of(&get.got().record), ["v"]));
}

#[test]
fn hedges_that_need_not_be_stay_within_their_budget() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let mut hedges = 0;
    for _ in 0..1_000 {
        let get = story.asks(read("k"));
        let first = story.heard();
        story.pass_ms(3);
        let more = story.heard();
        hedges += more.len();
        first.iter().chain(&more).for_each(|said| story.answers(said, holds(&record)));
        get.got();
    }
    assert!((10..=60).contains(&hedges), "{hedges} hedges per thousand reads");
}

#[test]
fn late_answers_of_gets_are_not_waited_for_without_bound() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let before = story.world.tasks_alive();
    for _ in 0..4_400 {
        let get = story.asks(Request::Get(Get { r: Some(Level::All), ..get("k") }));
        let asked = story.heard();
        asked.iter().for_each(|said| story.answers(said, holds(&record)));
        get.got();
    }
    assert!(story.world.tasks_alive() <= before + gramme_core::limits::IN_FLIGHT_MAX);
}

#[test]
fn what_two_homes_have_lost_and_the_third_holds_comes_back_with_the_read_that_did_not_find_it() {
    let story = Story::at_home();
    story.pass_ms(1);
    let full = foreign(77, 5, "v");
    let get = story.asks(read("k"));
    let asked = story.heard();
    assert_eq!(asked.len(), 1);
    story.answers(&asked[0], holds(&gramme_core::Record::new()));
    assert!(get.got().record.is_empty(), "two homes hold nothing, and that is the answer");
    let aside = story.heard();
    assert_eq!(
        aside.iter().map(|s| word(&s.body)).collect::<Vec<_>>(),
        ["read"],
        "the third is asked behind it"
    );
    story.answers(&aside[0], holds(&full));
    let repairs = story.heard();
    assert_eq!(repairs.iter().map(|s| (s.to, word(&s.body))).collect::<Vec<_>>(), [(asked[0].to, "merge")]);
    assert_eq!(record_in(&repairs[0]), full);
    let here = story.asks(Request::Get(Get { r: Some(Level::One), ..crate::world::get("k") }));
    assert_eq!(values_of(&here.got().record), ["v"], "and this home has repaired itself");
}

#[test]
fn a_hundred_readers_of_a_stale_key_cause_one_repair() {
    let story = Story::at_home();
    let record = settle(&story, "k", "v");
    let gets: Vec<Pending> = (0..100).map(|_| story.asks(read("k"))).collect();
    let stale = story.list[1];
    for asked in story.heard() {
        let held = if asked.to == stale { gramme_core::Record::new() } else { record.clone() };
        story.answers(&asked, holds(&held));
    }
    gets.iter().for_each(|get| assert_eq!(values_of(&get.got().record), ["v"]));
    let repairs = story.heard();
    assert_eq!(repairs.len(), 1, "one repair is on its way");
    story.answers(&repairs[0], Body::MergeReply);
    // Had it not arrived, the next reader would see the need again.
    let again = loop {
        let get = story.asks(read("k"));
        let asked = story.heard();
        let held = if asked[0].to == stale { gramme_core::Record::new() } else { record.clone() };
        story.answers(&asked[0], holds(&held));
        get.got();
        let said = story.heard();
        if !said.is_empty() {
            break said;
        }
        story.pass_ms(10);
    };
    assert_eq!(again.iter().map(|s| (s.to, word(&s.body))).collect::<Vec<_>>(), [(stale, "merge")]);
}
