//! Peers that stand still: one bounded wait for the first who asks, and none for those who follow.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::limits::{FALLBACK_AFTER_MS_MAX, FALLBACK_AFTER_MS_MIN};
use gramme_node::Probe;
use gramme_node::request::{Get, Health, Request};
use gramme_wire::{Body, Put};

/// Everyone but this peer answers reads and writes; what it was asked stays open.
fn all_but(story: &Story, frozen: gramme_core::NodeId) {
    let record = foreign(77, 5, "v");
    for _ in 0..4 {
        for said in story.heard().iter().filter(|said| said.to != frozen) {
            match said.body {
                Body::Read { .. } => story.answers(said, holds(&record)),
                Body::Merge { .. } => story.answers(said, Body::MergeReply),
                _ => {}
            }
        }
    }
}

/// It neither answers nor pings back.
fn freeze(story: &Story, peer: gramme_core::NodeId) {
    story.world.frozen.borrow_mut().insert(peer);
}

fn health(story: &Story, peer: gramme_core::NodeId) -> Health {
    story.node.status().peers.iter().find(|status| status.node == peer).expect("a member").health
}

fn read_all(name: &str) -> Request {
    Request::Get(Get { r: Some(Level::All), ..get(name) })
}

#[test]
fn a_frozen_home_costs_the_first_readers_one_bounded_wait_and_those_after_them_none() {
    let story = Story::at_home();
    let frozen = story.list[1];
    freeze(&story, frozen);
    let first: Vec<Pending> = (0..300).map(|_| story.asks(read_all("k"))).collect();
    all_but(&story, frozen);
    assert!(first.iter().all(Pending::is_open), "all three homes were asked for, and one says nothing");
    story.pass_ms(FALLBACK_AFTER_MS_MIN + 1);
    all_but(&story, frozen);
    assert!(!first.iter().any(Pending::is_open), "nobody in flight waits any longer");
    assert_eq!(health(&story, frozen), Health::Suspect);
    for _ in 0..100 {
        let next = story.asks(read_all("k"));
        all_but(&story, frozen);
        assert!(!next.is_open(), "another is asked at once");
    }
    assert_eq!(story.world.probed(Probe::PeerSilent), 1);
}

#[test]
fn puts_do_not_wait_for_a_frozen_home_either() {
    let story = Story::at_home();
    let frozen = story.list[1];
    freeze(&story, frozen);
    let all = |n: u128| write(Put { w: Some(Level::All), ..put(&format!("k{n}"), "v", n) });
    let first: Vec<Pending> = (0..100).map(|n| story.asks(all(n))).collect();
    all_but(&story, frozen);
    story.pass_ms(FALLBACK_AFTER_MS_MIN + 1);
    all_but(&story, frozen);
    assert!(!first.iter().any(Pending::is_open), "a fallback has it");
    let next = story.asks(all(1_000));
    all_but(&story, frozen);
    let done = next.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (2, 1));
}

#[test]
fn where_two_homes_are_enough_nobody_stands_in_for_one_that_has_just_gone_silent() {
    let story = Story::at_home();
    let frozen = story.list[1];
    freeze(&story, frozen);
    story.asks(read_all("k"));
    all_but(&story, frozen);
    story.pass_ms(FALLBACK_AFTER_MS_MIN + 1);
    story.heard();
    let put = story.asks(write(put("k", "v", 1)));
    let said = story.heard();
    assert!(said.iter().all(|s| word(&s.body) == "merge"), "{said:?}");
    assert!(said.iter().any(|s| s.to == frozen), "it gets the write all the same");
    said.iter().filter(|s| s.to != frozen).for_each(|s| story.answers(s, Body::MergeReply));
    assert_eq!(put.done().acks.homes, 2);
}

#[test]
fn an_idle_peer_that_freezes_is_found_by_pings_and_found_again_when_it_is_back() {
    let story = Story::at_home();
    let frozen = story.list[1];
    freeze(&story, frozen);
    story.pass_ms(600);
    assert_eq!(health(&story, frozen), Health::Suspect);
    story.pass_ms(2_000);
    assert_eq!(health(&story, frozen), Health::Down);
    story.world.frozen.borrow_mut().clear();
    story.pass_ms(300);
    assert_eq!(health(&story, frozen), Health::Suspect, "it is watched for a while");
    story.pass_ms(1_500);
    assert_eq!(health(&story, frozen), Health::Up);
}

#[test]
fn a_home_that_is_only_slow_is_asked_before_any_fallback() {
    let story = Story::at_home();
    let slow = story.list[1];
    // It leaves questions unanswered although it talks.
    for n in 0..3 {
        story.asks(write(put("k", "v", n)));
        story.pass_ms(1_100);
    }
    all_but(&story, slow);
    story.heard();
    let get = story.asks(read_all("k"));
    let asked: Vec<_> = story.heard().iter().map(|said| said.to).collect();
    assert_eq!(health(&story, slow), Health::Suspect);
    assert!(asked.contains(&slow), "{asked:?}");
    assert!(get.is_open());
    let pr = story.asks(Request::Get(Get { pr: 3, ..crate::world::get("k") }));
    assert!(pr.is_open());
    assert!(story.heard().iter().any(|said| said.to == slow), "a strict read asks homes");
}

#[test]
fn a_forward_does_not_wait_for_a_frozen_home() {
    let story = Story::at_fallback();
    story.pass_ms(100);
    let put = story.asks(write(put("k", "v", 1)));
    let first = story.heard();
    assert_eq!(first.len(), 1);
    freeze(&story, first[0].to);
    story.pass_ms(400);
    let again = story.heard();
    assert!(again.iter().any(|said| said.to != first[0].to), "another home is asked: {again:?}");
    assert!(put.is_open());
    // Longer than this nobody waits, even if all stand still.
    story.pass_ms(1_000 + FALLBACK_AFTER_MS_MAX);
    assert!(!put.is_open());
}

#[test]
fn homes_that_freeze_together_cost_a_forward_one_patience_together() {
    let story = Story::at_fallback();
    // All talk until now, and then the first two stand still at once.
    story.pass_ms(300);
    story.heard();
    (0..2).for_each(|home| freeze(&story, story.list[home]));
    story.pass_ms(FALLBACK_AFTER_MS_MIN);
    let put = story.asks(write(put("k", "v", 1)));
    let first = story.heard();
    assert_eq!(first.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[..1]);
    story.pass_ms(FALLBACK_AFTER_MS_MAX);
    let again = story.heard();
    assert_eq!(again.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[2..3], "and not the second");
    let (Body::Forward { put: one }, Body::Forward { put: two }) = (&first[0].body, &again[0].body) else {
        panic!("two forwards");
    };
    assert_eq!((one.request, one.retry, two.retry), (two.request, false, true));
    assert!(put.is_open());
    // Should that one be gone too, this node takes the write itself, after a look for the attempts before it.
    freeze(&story, story.list[2]);
    story.pass_ms(4 * FALLBACK_AFTER_MS_MAX);
    let words: Vec<&str> = story.heard_words().iter().map(|said| said.1).collect();
    assert!(words.contains(&"merge"), "{words:?}");
}

#[test]
fn a_put_finds_two_fallbacks_in_one_patience_when_two_homes_freeze_together() {
    let story = Story::at_home();
    let frozen = [story.list[1], story.list[2]];
    frozen.iter().for_each(|&home| freeze(&story, home));
    let put = story.asks(write(Put { w: Some(Level::All), ..put("k", "v", 1) }));
    assert_eq!(story.heard().iter().map(|said| said.to).collect::<Vec<_>>(), frozen);
    story.pass_ms(FALLBACK_AFTER_MS_MIN + 1);
    let hints = story.heard();
    assert_eq!(hints.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[3..]);
    hints.iter().for_each(|said| story.answers(said, Body::MergeReply));
    let done = put.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (1, 2));
}

#[test]
fn a_node_whose_own_disk_hangs_says_so() {
    let story = Story::at_home();
    for n in 0..20 {
        story.asks(write(put("k", "v", n)));
        story.pass_ms(10);
    }
    assert!(!story.node.status().disk_stalls);
    story.world.disk.hold_commits(true);
    story.asks(write(put("k", "v", 99)));
    story.pass_ms(400);
    assert!(story.node.status().disk_stalls);
    assert_eq!(story.world.probed(Probe::DiskStalled), 1);
    story.world.disk.hold_commits(false);
    story.world.run();
    story.pass_ms(3_000);
    assert!(!story.node.status().disk_stalls);
}
