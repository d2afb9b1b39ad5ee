//! Values that live for a while: what is read when, and who puts the tombstone in their place.

use crate::world::*;
use gramme_core::record::Content;
use gramme_core::{Record, Stamp, View};
use gramme_node::Probe;
use gramme_node::request::Response;
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Put, Standing};

fn short_lived(name: &str, ttl_ms: u64) -> Put {
    Put { ttl_ms: Some(ttl_ms), w: Some(gramme_core::bucket::Level::One), ..put(name, "v", 1) }
}

/// Answers every merge for as long as this; gives the records that were sent, with their times.
fn merges_within(story: &Story, ms: u64) -> Vec<Record> {
    let mut sent = Vec::new();
    for _ in 0..ms / 500 {
        story.pass_ms(500);
        for said in story.heard() {
            if matches!(said.body, Body::Merge { .. }) {
                sent.push(record_in(&said));
                story.answers(&said, Body::MergeReply);
            }
        }
    }
    sent
}

#[test]
fn an_expired_value_is_replaced_by_a_tombstone_some_while_later_and_by_an_ordinary_write() {
    let story = Story::at_home();
    story.asks(write(short_lived("k", 5_000)));
    let written = merges_within(&story, 2_000).remove(0);
    assert!(merges_within(&story, 10_000).is_empty(), "nothing happens at the instant");
    let sent = merges_within(&story, 60_000);
    let buried = sent.last().expect("it was buried");
    let [tombstone] = buried.siblings() else { panic!("one tombstone: {buried:?}") };
    assert_eq!(tombstone.content, Content::Tombstone);
    assert_eq!(tombstone.stamp, written.siblings()[0].stamp, "it stands where the value stood");
    assert!(buried.clock.contains(&written.clock));
    assert_eq!(merges_within(&story, 200_000).len(), 0, "and that is all");
    let again = written.join(buried);
    assert_eq!(again.siblings(), buried.siblings(), "the value does not come back");
}

#[test]
fn another_home_gives_the_first_one_a_minute_although_that_may_not_know_of_it() {
    let story = Story::open(1, MemoryEngine::new(), Standing::Continuous);
    story.asks(write(short_lived("k", 1_000)));
    merges_within(&story, 2_000);
    assert!(merges_within(&story, 60_000).is_empty());
    assert!(!story.world.probes.borrow().contains(&Probe::Buried));
    merges_within(&story, 70_000);
    assert!(story.world.probes.borrow().contains(&Probe::Buried));
}

#[test]
fn a_value_that_expired_while_a_full_disk_held_it_back_is_buried_once_there_is_room() {
    let story = Story::at_home();
    story.world.disk.fill(true);
    story.asks(write(short_lived("k", 1_000)));
    merges_within(&story, 200_000);
    assert!(!story.world.probes.borrow().contains(&Probe::Buried), "there is nothing on the disk yet");
    story.world.disk.fill(false);
    merges_within(&story, 200_000);
    assert!(story.world.probes.borrow().contains(&Probe::Buried));
}

#[test]
fn a_key_that_was_written_again_meanwhile_keeps_what_was_written() {
    let story = Story::at_home();
    let first = story.asks(write(short_lived("k", 5_000)));
    merges_within(&story, 1_000);
    let context = first.done().context;
    story.asks(write(Put {
        context: Some(context),
        w: Some(gramme_core::bucket::Level::One),
        ..put("k", "new", 2)
    }));
    let sent = merges_within(&story, 200_000);
    assert!(sent.iter().all(|record| values_of(record) == ["new"]), "{sent:?}");
    assert!(!story.world.probes.borrow().contains(&Probe::Buried));
}

#[test]
fn a_value_expires_by_the_hybrid_clock_even_if_the_wall_lags_behind_its_writer() {
    let record = |ttl_ms| {
        let mut siblings = foreign(77, 1, "v").siblings().to_vec();
        siblings[0].ttl_ms = ttl_ms;
        Record::from_parts(foreign(77, 1, "v").clock, siblings, vec![]).unwrap()
    };
    let mut hlc = gramme_core::Hlc::default();
    let wall_ms = 1_000_000;
    hlc.observe(Stamp::from_ms(wall_ms + 400), wall_ms).unwrap();
    assert_eq!(hlc.reading(wall_ms), wall_ms + 400);
    let dead = record(300);
    assert_eq!(dead.view(gramme_core::bucket::Mode::Siblings, hlc.reading(wall_ms)), View::Deleted);
    assert!(matches!(dead.view(gramme_core::bucket::Mode::Siblings, wall_ms), View::One(_)));
}

#[test]
fn a_tombstone_over_one_expired_sibling_hides_no_other_whatever_the_mode() {
    let mut lives = foreign(78, 1, "lives").siblings()[0].clone();
    let mut dies = foreign(77, 1, "dies").siblings()[0].clone();
    (dies.ttl_ms, dies.stamp, lives.stamp) = (10, Stamp::from_ms(100), Stamp::from_ms(105));
    let both = foreign(77, 1, "dies").join(&foreign(78, 1, "lives"));
    let both = Record::from_parts(both.clock, vec![dies.clone(), lives], vec![]).unwrap();
    let (context, stamp) = both.expired(200).expect("one of them has expired");
    let mut tombstone = foreign(79, 1, "").siblings()[0].clone();
    (tombstone.content, tombstone.checksum, tombstone.stamp) = (Content::Tombstone, 0, stamp);
    let buried = both.put(&context, tombstone);
    assert!(buried.sibling(dies.dot).is_none());
    for mode in [gramme_core::bucket::Mode::Siblings, gramme_core::bucket::Mode::Lww] {
        assert!(matches!(buried.view(mode, 200), View::One(s) if s.dot.incarnation.0 == 78), "{mode:?}");
        assert_eq!(buried.view(mode, 200), both.view(mode, 200));
    }
}

#[test]
fn expired_values_are_left_out_by_reads_before_they_are_buried() {
    let story = Story::at_home();
    story.asks(write(short_lived("k", 1_000)));
    merges_within(&story, 3_000);
    let read = story.asks(gramme_node::request::Request::Get(gramme_node::request::Get {
        r: Some(gramme_core::bucket::Level::One),
        ..get("k")
    }));
    match read.response() {
        Response::Got(got) => assert_eq!(got.record.view(got.mode, got.now_ms), View::Deleted),
        other => panic!("an answer was expected: {other:?}"),
    }
}
