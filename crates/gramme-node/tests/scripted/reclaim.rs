//! How a deleted key goes once every home has seen the delete, and what cannot bring it back.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::limits::{FRONTIER_ENTRIES_MAX, RECLAIM_MS};
use gramme_core::{Context, Frontier, Outcome, Record};
use gramme_node::probe::Probe;
use gramme_node::request::{Get, Request, Status};
use gramme_wire::{Body, Put, Reason, Standing};

/// A key was written and deleted here, and both homes have it. Gives the record of the value and the delete's.
fn deleted(story: &Story) -> (Record, Record) {
    let value = settled(story, put("k", "v", 1));
    let context = Some(Context::of(&value, None));
    (value, settled(story, Put { context, ..delete("k", 2) }))
}

fn settled(story: &Story, put: Put) -> Record {
    let asked = story.asks(write(put));
    let merges: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == "merge").collect();
    merges.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    asked.done();
    record_in(&merges[0])
}

/// Some rounds in which the other homes say that they have seen the same.
fn everyone_agrees(story: &Story) {
    for _ in 0..12 {
        story.pass_ms(RECLAIM_MS / 2);
        story.agree();
        story.heard();
    }
}

fn status(story: &Story) -> Status {
    story.node.status()
}

fn merge_of(record: &Record, stamp: Frontier) -> Body {
    let record = gramme_core::codec::encode_record(record);
    Body::Merge { key: key("k"), record, hint_for: None, stamp, buffered: false, fence: 0 }
}

fn held(story: &Story) -> (Option<Record>, Frontier) {
    story.peer_says(story.others()[0], 77, 1_000_000, Body::Read { key: key("k") });
    let reply = story.heard().into_iter().find_map(|said| match said.body {
        Body::ReadReply { record, frontier, .. } => Some((record, frontier)),
        _ => None,
    });
    let (record, frontier) = reply.expect("a home answers a read");
    (record.map(|bytes| gramme_core::codec::decode_record(&bytes).expect("a sound record")), frontier)
}

#[test]
fn a_delete_that_everyone_has_seen_goes_and_a_late_message_brings_nothing_back() {
    let story = Story::at_home();
    let (value, tombstone) = deleted(&story);
    assert!(held(&story).0.is_some(), "it stays until everyone is known to have it");
    everyone_agrees(&story);
    let (record, frontier) = held(&story);
    assert_eq!(record, None);
    assert!(frontier.covers_clock(&tombstone.clock), "and the answer says why there is nothing");
    assert_eq!((story.world.probed(Probe::Reclaimed), status(&story).tombstones), (1, 0));

    // A message that was on its way since before the delete, or a hint of those days.
    story.peer_says(story.others()[0], 78, 1_000_000, merge_of(&value, Frontier::none()));
    assert_eq!(held(&story).0, None);
    assert_eq!(story.world.probed(Probe::StaleIgnored), 1);
    // What is new is taken from anyone.
    story.peer_says(story.others()[0], 79, 1_000_000, merge_of(&foreign(99, 1, "new"), Frontier::none()));
    assert_eq!(held(&story).0.map(|record| values_of(&record)), Some(vec!["new".to_string()]));
}

#[test]
fn what_has_gone_stays_gone_over_a_restart() {
    let story = Story::at_home();
    let (value, _) = deleted(&story);
    everyone_agrees(&story);
    let story = story.with_a_cold_cache();
    story.peer_says(story.others()[0], 78, 1_000_000, merge_of(&value, Frontier::none()));
    assert_eq!(held(&story).0, None, "the frontier is as durable as the removal");
    assert_eq!(story.world.probed(Probe::StaleIgnored), 1);
}

#[test]
fn while_a_home_says_nothing_the_tombstone_waits_and_the_status_names_it() {
    let story = Story::at_home();
    deleted(&story);
    let silent = story.list[1];
    story.happens(gramme_node::env::Event::PeerDown(silent));
    story.pass_ms(10 * RECLAIM_MS);
    assert!(held(&story).0.is_some());
    assert_eq!(story.world.probed(Probe::Reclaimed), 0);
    assert_eq!(status(&story).tombstones, 1);
    assert!(status(&story).reclaim_blocked_by.contains(&silent));
}

#[test]
fn a_read_does_not_show_what_one_home_has_reclaimed_and_another_replica_still_has() {
    let story = Story::at_home();
    let (value, _) = deleted(&story);
    everyone_agrees(&story);
    let get = story.asks(read("k"));
    let asked: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == "read").collect();
    story.answers(&asked[0], holds(&value));
    assert!(get.got().record.is_empty(), "a home that was refilled from a hint, say");
    assert!(!story.heard().iter().any(|said| word(&said.body) == "merge"), "nothing is repaired with it");
}

/// The value was deleted and the delete reclaimed, while a fallback out of everyone's reach still keeps the value as
/// a hint. Whoever reads there with a token is not shown it, even if the token is of a read that found nothing.
#[test]
fn a_read_with_a_token_is_not_answered_by_fallbacks_that_may_keep_what_was_reclaimed() {
    let (value, tombstone) = deleted(&Story::at_home());
    let reclaimed =
        Frontier::from_bases(tombstone.clock.intervals().iter().map(|run| (run.incarnation, run.hi)));
    let nothing = Body::ReadReply { standing: Standing::Continuous, record: None, frontier: reclaimed };
    for min in [None, Some(Context::blind()), Some(Context::of(&tombstone, None))] {
        let story = Story::at_fallback();
        let homes = story.list[..3].to_vec();
        homes.iter().for_each(|&home| {
            story.world.unreachable.borrow_mut().insert(home);
        });
        let plain = min.is_none();
        let get = story.asks(Request::Get(Get { r: Some(Level::One), min: min.clone(), ..get("k") }));
        story.heard().iter().for_each(|said| story.answers(said, holds(&value)));
        if plain {
            assert_eq!(values_of(&get.got().record), ["v"], "as stale as any read may be");
            continue;
        }
        let refused = get.failure();
        assert_eq!((refused.reason, refused.outcome), (Reason::Stale, Outcome::NotApplied));
        // Nor beside a home, which knows that it was everywhere and has gone.
        story.world.unreachable.borrow_mut().remove(&homes[0]);
        let get = story.asks(Request::Get(Get { min, ..crate::world::get("k") }));
        for said in story.heard() {
            let is_home = homes.contains(&said.to);
            story.answers(&said, if is_home { nothing.clone() } else { holds(&value) });
        }
        assert!(get.got().record.is_empty());
    }
}

/// Its context covers the value that the fallback showed. Where the key has been reclaimed a put with it is a new
/// write and nothing else; what was written there meanwhile stays beside it.
#[test]
fn a_put_with_the_context_of_a_stale_read_neither_loses_nor_brings_back_anything() {
    let story = Story::at_home();
    let (value, _) = deleted(&story);
    everyone_agrees(&story);
    assert_eq!(held(&story).0, None);
    let stale = Context::of(&value, None);
    let beside = settled(&story, put("k", "meanwhile", 3));
    let written = settled(&story, Put { context: Some(stale), ..put("k", "after", 4) });
    assert_eq!(values_of(&written), ["after", "meanwhile"]);
    assert!(written.clock.contains(&beside.clock));
    story.peer_says(story.others()[0], 80, 1_000_000, merge_of(&value, Frontier::none()));
    assert_eq!(held(&story).0.map(|record| values_of(&record)), Some(values_of(&written)));
}

#[test]
fn a_clock_that_everyone_has_seen_is_stripped_and_reads_repair_nothing() {
    let story = Story::at_home();
    let old = settled(&story, put("k", "old", 1));
    let new = settled(&story, Put { context: Some(Context::of(&old, None)), ..put("k", "new", 2) });
    everyone_agrees(&story);
    let (record, _) = held(&story);
    let record = record.expect("the value stays");
    assert_eq!(record.siblings(), new.siblings());
    assert!(record.clock != new.clock && new.clock.contains(&record.clock), "{:?}", record.clock);
    let commits = story.world.disk.commits();
    for _ in 0..100 {
        let get = story.asks(read("k"));
        let asked: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == "read").collect();
        // The other home has not come to strip it.
        story.answers(&asked[0], holds(&new));
        assert_eq!(values_of(&get.got().record), ["new"]);
    }
    assert_eq!(story.world.disk.commits(), commits);
}

/// Every life that wrote in a partition has its entry in the frontier. Beyond what it may hold nothing breaks: an
/// alarm rings from half of it on, writes and reads go on, and what was reclaimed stays so over a restart.
#[test]
fn more_lives_than_a_frontier_names_refuse_nothing_and_ring_an_alarm() {
    let story = Story::at_home();
    let (value, _) = deleted(&story);
    everyone_agrees(&story);
    let lives = |range: std::ops::Range<usize>| {
        for life in range {
            let name = format!("k{}", life % 16);
            let record = gramme_core::codec::encode_record(&foreign(1_000 + life as u64, 1, "v"));
            story.peer_says(story.others()[0], 81, 1_000_000, merge(&name, record));
        }
        story.heard();
        everyone_agrees(&story);
    };
    lives(0..FRONTIER_ENTRIES_MAX / 4);
    assert_eq!(story.world.probed(Probe::FrontierCrowded), 0);
    lives(FRONTIER_ENTRIES_MAX / 4..FRONTIER_ENTRIES_MAX / 2 + 1);
    assert!(story.world.probed(Probe::FrontierCrowded) > 0);
    lives(FRONTIER_ENTRIES_MAX / 2 + 1..FRONTIER_ENTRIES_MAX + 100);
    assert_eq!(held(&story).1.bases().len(), FRONTIER_ENTRIES_MAX);
    settled(&story, put("fresh", "v", 9));
    let story = story.with_a_cold_cache();
    assert_eq!(held(&story).1.bases().len(), FRONTIER_ENTRIES_MAX);
    assert_eq!(story.world.probed(Probe::Mistrusted), 0);
    story.peer_says(story.others()[0], 78, 1_000_000, merge_of(&value, Frontier::none()));
    assert_eq!(held(&story).0, None, "what it had said, it says still");
}
