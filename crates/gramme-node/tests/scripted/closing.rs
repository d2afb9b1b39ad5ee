//! How a hole that a crash left is closed, and what waits for whom until then.

use crate::world::*;
use gramme_core::closed::{Closed, End};
use gramme_core::limits::CLOSING_MS;
use gramme_core::seen::SeenRow;
use gramme_core::{Context, Incarnation, NodeId, Seen};
use gramme_node::env::Event;
use gramme_node::probe::Probe;
use gramme_wire::{Body, Life, Put, Reason, Standing};

/// An incarnation that nobody lives any more; its first dot was never durable anywhere.
const DEAD: Incarnation = Incarnation(9);

fn only(n: u64) -> SeenRow {
    SeenRow::from_runs([(n - 1, n)])
}

fn life() -> Life {
    Life { number: 5, standing: Standing::Continuous }
}

/// A value of the dead incarnation was deleted; its tombstone waits under the hole.
fn a_tombstone_under_a_hole(story: &Story) {
    let value = foreign(DEAD.0, 2, "v");
    story.peer_says(story.list[1], 5, 500_000, merge_of(2));
    story.heard();
    let asked = story.asks(write(Put { context: Some(Context::of(&value, None)), ..delete("k", 2) }));
    for said in story.heard().iter().filter(|said| word(&said.body) == "merge") {
        story.answers(said, Body::MergeReply);
    }
    asked.done();
}

fn merge_of(n: u64) -> Body {
    merge("k", gramme_core::codec::encode_record(&foreign(DEAD.0, n, "v")))
}

/// A while in which the others agree with the node, live other incarnations and promise what they are asked; but for
/// these. What was said about ends, in one word each.
fn goes_on(story: &Story, silent: &[NodeId]) -> Vec<(NodeId, &'static str)> {
    let mut words = Vec::new();
    for _ in 0..4 * CLOSING_MS / 500 {
        story.pass_ms(500);
        story.agree();
        for said in story.heard() {
            let is_home = story.list[..3].contains(&said.to);
            words.push((said.to, word(&said.body)));
            let answer = match &said.body {
                _ if silent.contains(&said.to) => continue,
                Body::Survey { about, .. } => {
                    let mut seen = Seen::new();
                    if is_home {
                        about.iter().for_each(|&incarnation| seen.set_row(incarnation, only(2)));
                    }
                    let live = Some(Incarnation(100 + said.to.0));
                    Body::SurveyReply { home: is_home.then(life), live, seen, ends: Closed::new() }
                }
                Body::Freeze { set, .. } => Body::FreezeReply { frozen: true, seen: set.clone() },
                _ => continue,
            };
            story.answers(&said, answer);
        }
    }
    words.retain(|(_, word)| ["survey", "freeze", "ends"].contains(word));
    words
}

fn tombstones(story: &Story) -> (u64, usize) {
    let status = story.node.status();
    (status.tombstones, status.holes)
}

#[test]
fn a_tombstone_that_waits_under_a_hole_goes_once_that_is_closed() {
    let story = Story::at_home();
    a_tombstone_under_a_hole(&story);
    let words = goes_on(&story, &[]);
    let told = |kind: &str| words.iter().filter(|(_, word)| *word == kind).count();
    assert_eq!(told("freeze"), 4, "everyone is asked, whether it keeps anything or not: {words:?}");
    assert_eq!(told("ends"), 4, "and told: {words:?}");
    let last_freeze = words.iter().rposition(|(_, word)| *word == "freeze");
    assert!(last_freeze < words.iter().position(|(_, word)| *word == "ends"));
    assert_eq!(story.world.probed(Probe::IncarnationClosed), 1);
    assert_eq!(tombstones(&story), (0, 0));
    assert_eq!(story.world.probed(Probe::Reclaimed), 1);

    // What the dead sent, and nobody was known to have, comes too late; whoever shows it is told why.
    story.peer_says(story.list[1], 6, 500_000, merge_of(1));
    let said = story.heard();
    assert_eq!(said.iter().map(|said| word(&said.body)).collect::<Vec<_>>(), ["ends", "refused"]);
    let Body::Refused { failure } = &said[1].body else { panic!("{said:?}") };
    assert_eq!(failure.reason, Reason::Void);
}

#[test]
fn while_a_node_is_silent_nothing_is_closed_and_the_status_names_it() {
    let story = Story::at_home();
    a_tombstone_under_a_hole(&story);
    let fallback = story.list[4];
    let words = goes_on(&story, &[fallback]);
    assert!(words.iter().all(|(_, word)| *word == "survey"), "{words:?}");
    assert!(story.world.probed(Probe::ClosingWaits) > 0);
    assert_eq!(tombstones(&story), (1, 1));
    assert_eq!(story.node.status().reclaim_blocked_by, [fallback]);
    goes_on(&story, &[]);
    assert_eq!(tombstones(&story), (0, 0), "it has come back");
}

#[test]
fn a_home_that_is_not_the_first_names_whoever_is_gone_and_leads_when_the_first_does_not() {
    let story = Story::open(1, gramme_storage::memory::MemoryEngine::new(), Standing::Continuous);
    a_tombstone_under_a_hole(&story);
    let fallback = story.list[3];
    story.happens(Event::PeerDown(fallback));
    let words = goes_on(&story, &[fallback]);
    assert!(words.iter().all(|(_, word)| *word == "survey"), "{words:?}");
    assert_eq!(tombstones(&story), (1, 1));
    assert_eq!(story.node.status().reclaim_blocked_by, [fallback]);
    story.happens(Event::PeerUp(fallback));
    goes_on(&story, &[]);
    assert_eq!(tombstones(&story), (0, 0), "the first may keep nothing that names the hole");
}

#[test]
fn whoever_keeps_nothing_of_a_partition_promises_durably_all_the_same() {
    let story = Story::at_fallback();
    let freeze = Body::Freeze { incarnation: DEAD, set: only(2), fence: 0 };
    story.peer_says(story.list[0], 5, 500_000, freeze);
    let said = story.heard();
    assert_eq!(said[0].body, Body::FreezeReply { frozen: true, seen: only(2) });

    let story = story.with_a_cold_cache();
    let hint = |n: u64| {
        let Body::Merge { key, record, stamp, .. } = merge_of(n) else { unreachable!() };
        let hint =
            Body::Merge { key, record, hint_for: Some(story.list[0]), stamp, buffered: false, fence: 0 };
        story.peer_says(story.list[1], 10 + n, 500_000, hint);
        let said = story.heard();
        said.iter().rfind(|said| said.correlation == 10 + n).map(|said| word(&said.body))
    };
    assert_eq!(hint(1), Some("refused"));
    assert_eq!(hint(2), Some("merge reply"), "that was seen by somebody");
}

#[test]
fn nobody_freezes_what_it_lives_or_has_seen_more_of() {
    let story = Story::at_home();
    story.peer_says(story.list[1], 5, 500_000, merge_of(2));
    story.heard();
    story.peer_says(story.list[1], 6, 500_000, Body::Survey { about: vec![DEAD], fence: 0 });
    let Body::SurveyReply { live: Some(live), seen, .. } = story.heard().remove(0).body else {
        panic!("a home lives")
    };
    assert_eq!(seen.row(DEAD), Some(&only(2)));
    let asks = |incarnation, set| {
        story.peer_says(story.list[1], 7, 500_000, Body::Freeze { incarnation, set, fence: 0 });
        story.heard().remove(0).body
    };
    assert_eq!(word(&asks(live, only(1))), "refused");
    assert_eq!(asks(DEAD, only(1)), Body::FreezeReply { frozen: false, seen: only(2) });
    let more = SeenRow::from_runs([(0, 2)]);
    assert_eq!(asks(DEAD, more.clone()), Body::FreezeReply { frozen: true, seen: more });
}

#[test]
fn a_state_that_bears_a_void_write_is_refused_whole() {
    let story = Story::at_home();
    story.peer_says(story.list[1], 5, 500_000, Body::Freeze { incarnation: DEAD, set: only(2), fence: 0 });
    story.heard();
    let both = foreign(DEAD.0, 1, "void").join(&foreign(77, 1, "real"));
    let both = merge("k", gramme_core::codec::encode_record(&both));
    story.peer_says(story.list[1], 6, 500_000, both);
    assert_eq!(story.heard_words(), [(story.list[1], "refused")], "nothing is final yet to be told");
    assert!(story.shows("k").1.is_empty(), "the rest would keep what the void write did to the clock");
    assert_eq!(story.world.probed(Probe::VoidRefused), 1);
}

#[test]
fn a_home_that_holds_what_is_void_has_lost_its_promise_and_is_refilled() {
    let story = Story::at_home();
    story.peer_says(story.list[1], 5, 500_000, merge_of(1));
    story.heard();
    let mut ends = Closed::new();
    ends.set(DEAD, End { set: only(2), closed: true });
    story.peer_says(story.list[1], 6, 0, Body::Ends { ends });
    assert_eq!(story.world.probed(Probe::Mistrusted), 1);
    assert_eq!(story.node.status().refilling.len(), 1);
    // The next who brings something of that key finds nothing there to join it with.
    let other = merge("k", gramme_core::codec::encode_record(&foreign(77, 1, "real")));
    story.peer_says(story.list[1], 7, 500_000, other);
    assert_eq!(values_of(&story.shows("k").1), ["real"]);
    assert_eq!(story.world.probed(Probe::VoidDropped), 1);
}

#[test]
fn a_hint_store_that_gives_up_what_is_void_claims_no_more_than_its_hints_show() {
    let story = Story::at_fallback();
    let hint = |name: &str, record: &gramme_core::Record| Body::Merge {
        key: key(name),
        record: gramme_core::codec::encode_record(record),
        hint_for: Some(story.list[2]),
        stamp: gramme_core::Frontier::none(),
        buffered: false,
        fence: 0,
    };
    let both = foreign(DEAD.0, 1, "void").join(&foreign(77, 1, "beside it"));
    story.peer_says(story.list[1], 5, 500_000, hint("k", &both));
    story.peer_says(story.list[1], 6, 500_000, hint("other", &foreign(78, 1, "v")));
    let mut ends = Closed::new();
    ends.set(DEAD, End { set: only(2), closed: true });
    story.peer_says(story.list[1], 7, 0, Body::Ends { ends });
    story.heard();
    assert_eq!(story.world.probed(Probe::VoidDropped), 1);
    let about = vec![DEAD, Incarnation(77), Incarnation(78)];
    story.peer_says(story.list[1], 8, 500_000, Body::Survey { about, fence: 0 });
    let said = story.heard().remove(0);
    let Body::SurveyReply { home: None, seen, .. } = said.body else { panic!("{said:?}") };
    let rows: Vec<Incarnation> = seen.rows().map(|(incarnation, _)| incarnation).collect();
    assert_eq!(rows, [Incarnation(78)], "nobody can learn from it what stood beside the void write");
}
