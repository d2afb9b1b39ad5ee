//! How hints come home, and when a fallback may forget them.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::codec::encode_record;
use gramme_core::limits::PULL_PAGE_RECORDS_MAX;
use gramme_core::{Dot, Frontier, Incarnation, NodeId, Record, Seen};
use gramme_node::rows::{KIND_HINT, KIND_HINT_STORE, KIND_HINTS_SINCE};
use gramme_node::{Event, Probe};
use gramme_storage::memory::MemoryEngine;
use gramme_storage::{Batch, Engine};
use gramme_wire::{Body, Life, PullOf, PullPage, Pulled, Put, Standing};
use std::future::Future;

const ONE: Option<Level> = Some(Level::One);

fn hint(story: &Story, name: &str, record: &Record, home: NodeId) {
    let record = encode_record(record);
    let body = Body::Merge {
        key: key(name),
        record,
        hint_for: Some(home),
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    };
    story.peer_says(story.list[0], 1, 1_000_000, body);
    assert_eq!(story.heard_words(), [(story.list[0], "merge reply")]);
}

/// Every offer since the last look; each waits for its slice of background work.
fn offers(story: &Story) -> Vec<Said> {
    story.pass_ms(20);
    story.heard().into_iter().filter(|said| word(&said.body) == "offer").collect()
}

fn to(said: &[Said]) -> Vec<NodeId> {
    said.iter().map(|said| said.to).collect()
}

fn covers(story: &Story, said: &[Said]) {
    said.iter().for_each(|offer| story.answers(offer, Body::OfferReply { covered: true }));
}

/// A fallback with one hint for its second home, which is down.
fn with_a_hint(memory: MemoryEngine) -> Story {
    let story = Story::open(3, memory, Standing::Continuous);
    story.lose(&story.list[1..2]);
    hint(&story, "k", &foreign(77, 5, "v"), story.list[1]);
    story
}

fn comes_back(story: &Story, home: NodeId) {
    story.world.unreachable.borrow_mut().remove(&home);
    story.happens(Event::PeerUp(home));
}

fn hint_rows(story: &Story) -> usize {
    [KIND_HINT, KIND_HINT_STORE, KIND_HINTS_SINCE]
        .iter()
        .map(|&kind| story.world.disk.largest_row(&[0, 0, kind]))
        .sum()
}

#[test]
fn hints_are_offered_at_once_when_their_home_is_back_and_destroyed_once_every_home_has_them() {
    let story = with_a_hint(MemoryEngine::new());
    story.pass_ms(10_000);
    assert!(offers(&story).is_empty(), "nobody is asked while the home is away");
    comes_back(&story, story.list[1]);
    let first = offers(&story);
    assert_eq!(to(&first), [story.list[1]], "the home that missed it comes first");
    covers(&story, &first);
    let others = offers(&story);
    assert_eq!(to(&others), [story.list[0], story.list[2]], "then the others");
    covers(&story, &others[..1]);
    story.pass_ms(900);
    assert_eq!(story.node.status().hints.hints, 1, "one home has not said that it has it");
    covers(&story, &others[1..]);
    story.pass_ms(50);
    let status = story.node.status().hints;
    assert_eq!((status.hints, status.bytes, status.stores), (0, 0, 0));
    assert_eq!(hint_rows(&story), 0, "rows and incarnation are gone");
    assert!(story.world.probes.borrow().contains(&Probe::HintStoreDestroyed { hints: 1 }));
}

#[test]
fn a_home_that_does_not_answer_or_has_not_got_it_is_asked_again() {
    let story = with_a_hint(MemoryEngine::new());
    comes_back(&story, story.list[1]);
    let first = offers(&story);
    story.answers(&first[0], Body::OfferReply { covered: false });
    story.pass_ms(1_001);
    let second = offers(&story);
    assert_eq!(to(&second), [story.list[1]]);
    assert_eq!(story.node.status().hints.hints, 1);
}

#[test]
fn a_hint_that_comes_while_the_others_are_offered_keeps_the_store() {
    let story = with_a_hint(MemoryEngine::new());
    comes_back(&story, story.list[1]);
    covers(&story, &offers(&story));
    let others = offers(&story);
    hint(&story, "k2", &foreign(77, 6, "w"), story.list[1]);
    covers(&story, &others);
    assert_eq!(story.node.status().hints.hints, 2, "what they have is not what is here now");
    story.pass_ms(1_001);
    let again = offers(&story);
    assert_eq!(to(&again), [story.list[1]]);
    assert!(matches!(&again[0].body, Body::Offer { seen, .. } if seen.has(Dot::new(Incarnation(77), 6))));
}

#[test]
fn the_next_hint_after_a_destruction_opens_a_store_with_an_incarnation_and_a_clock_of_its_own() {
    let story = Story::at_fallback();
    let write_here = |request| {
        story.lose(&story.others());
        let dot = story.asks(write(Put { w: ONE, ..put("k", "v", request) })).done().dot;
        story.others().into_iter().for_each(|peer| comes_back(&story, peer));
        dot
    };
    let first = write_here(1);
    for _ in 0..4 {
        covers(&story, &offers(&story));
    }
    story.pass_ms(50);
    assert_eq!(story.node.status().hints.stores, 0);
    let second = write_here(2);
    assert_ne!(first.incarnation, second.incarnation);
    let offered = offers(&story);
    assert!(matches!(&offered[0].body, Body::Offer { seen, .. } if !seen.has(first) && seen.has(second)));
}

#[test]
fn hints_outlive_a_restart_of_their_keeper_and_are_offered_without_a_read_or_a_write() {
    let memory = MemoryEngine::new();
    let before = with_a_hint(memory.clone());
    let story = Story::reopened(&before, memory);
    story.pass_ms(1_001);
    let offered = offers(&story);
    assert_eq!(to(&offered), [story.list[1]]);
    assert!(matches!(&offered[0].body, Body::Offer { seen, .. } if seen.has(Dot::new(Incarnation(77), 5))));
}

#[test]
fn a_store_whose_destruction_was_cut_short_speaks_for_what_is_left_of_it() {
    let memory = MemoryEngine::new();
    let before = with_a_hint(memory.clone());
    hint(&before, "k2", &foreign(77, 6, "w"), before.list[1]);
    let mut batch = Batch::new();
    for kind in [KIND_HINT_STORE, KIND_HINTS_SINCE] {
        batch.remove(vec![0, 0, kind]);
    }
    let gone = gramme_node::rows::key_row(PARTITION, KIND_HINT, &key("k"));
    batch.remove(gone);
    let mut commit = Box::pin(memory.commit(batch));
    let polled = commit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_ready(), "memory does not wait");
    let story = Story::reopened(&before, memory);
    assert_eq!(story.node.status().hints.hints, 1);
    story.pass_ms(1_001);
    let offered = offers(&story);
    let Body::Offer { seen, .. } = &offered[0].body else { panic!("an offer: {offered:?}") };
    assert!(seen.has(Dot::new(Incarnation(77), 6)) && !seen.has(Dot::new(Incarnation(77), 5)));
}

#[test]
fn a_home_pulls_what_it_lacks_of_an_offer_and_then_says_that_it_has_it() {
    let story = Story::at_home();
    let keeper = story.list[3];
    let record = foreign(77, 5, "v");
    let mut seen = Seen::new();
    seen.add(Dot::new(Incarnation(77), 5));
    story.peer_says(keeper, 9, 1_000_000, Body::Offer { seen: seen.clone(), left: false });
    story.pass_ms(50);
    let asked: Vec<Said> = story.heard().into_iter().filter(|said| said.to == keeper).collect();
    assert!(
        matches!(&asked[..], [Said { body: Body::Pull { of: PullOf::Hints, full: false, .. }, .. }]),
        "{asked:?}"
    );
    let page = Body::PullReply(PullPage {
        session: 1,
        pulled: vec![Pulled { key: key("k"), record: encode_record(&record) }],
        next: None,
        sigma: Some(Box::new(seen.clone())),
        frontier: Frontier::none(),
        life: Life { number: 1, standing: Standing::Unproven },
        unreadable: 0,
    });
    story.answers(&asked[0], page);
    story.pass_ms(50);
    let said: Vec<Said> = story.heard().into_iter().filter(|said| said.to == keeper).collect();
    assert!(matches!(&said[..], [Said { body: Body::OfferReply { covered: true }, .. }]), "{said:?}");
    story.peer_says(keeper, 10, 1_000_000, Body::Offer { seen, left: false });
    let said: Vec<Said> = story.heard().into_iter().filter(|said| said.to == keeper).collect();
    assert!(
        matches!(&said[..], [Said { body: Body::OfferReply { covered: true }, .. }]),
        "and pulls nothing twice"
    );
}

#[test]
fn a_home_whose_pull_breaks_does_not_say_that_it_has_it() {
    let story = Story::at_home();
    let keeper = story.list[3];
    let mut seen = Seen::new();
    seen.add(Dot::new(Incarnation(77), 5));
    story.peer_says(keeper, 9, 1_000_000, Body::Offer { seen, left: false });
    story.heard();
    story.pass_ms(50);
    story.happens(Event::PeerDown(keeper));
    story.pass_ms(50);
    let said = story.heard();
    assert!(said.iter().all(|said| word(&said.body) != "offer reply"), "{said:?}");
}

#[test]
fn a_store_that_a_home_is_pulling_is_not_destroyed_under_it() {
    let story = Story::at_fallback();
    let count = PULL_PAGE_RECORDS_MAX as u64 + 88;
    for n in 1..=count {
        hint(&story, &format!("k{n:04}"), &foreign(77, n, "v"), story.list[1]);
    }
    let pull = Body::Pull {
        life: Life { number: 1, standing: Standing::Continuous },
        seen: Seen::new(),
        of: PullOf::Hints,
        full: true,
    };
    story.peer_says(story.list[1], 5, 1_000_000, pull);
    let reply = story.heard().into_iter().find(|said| word(&said.body) == "pull reply").expect("a page");
    let Body::PullReply(PullPage { session, next: Some(after), .. }) = reply.body else {
        panic!("more than one page")
    };
    for _ in 0..3 {
        story.pass_ms(1_001);
        covers(&story, &offers(&story));
    }
    assert_eq!(story.node.status().hints.hints, count, "the session would take what it is not sent for seen");
    story.peer_says(story.list[1], 6, 1_000_000, Body::PullMore { session, after });
    story.pass_ms(1_100);
    assert_eq!(story.node.status().hints.stores, 0);
}
