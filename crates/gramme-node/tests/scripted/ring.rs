//! How a node takes part in a change of the ring: by which layouts it writes and reads, whom it refuses, what a home that
//! comes must get, and what a home that goes may drop. The test plays everyone else.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::change::{Ground, Link, Progress};
use gramme_core::gossip::{Difference, Entry, Name};
use gramme_core::layout::plan::plan;
use gramme_core::layout::staged::{Change, Staged};
use gramme_core::limits::FALLBACK_AFTER_MS_MAX;
use gramme_core::paxos::{Ballot, Certificate, Decree, Proposal, Request as Ask, Says};
use gramme_core::seen::SeenRow;
use gramme_core::{Incarnation, Layout, NodeId, Outcome, Seen, Stamp};
use gramme_node::request::{Get, Request, Response, RingStatus, Wanted};
use gramme_node::{Event, Fact, Probe};
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Life, PullOf, PullPage, Put, Reason, Reconcile, Standing};

const FIRST: Decree = Decree { lineage: 0, version: 1 };
const SECOND: Decree = Decree { lineage: 0, version: 2 };

/// The layout of every story: five members, three copies of one partition.
fn first() -> Layout {
    Story::layout(3)
}

/// The layout in which the last home has handed its slot on: who goes, who comes.
fn second() -> (Layout, NodeId, NodeId) {
    let first = first();
    let goes = first.homes(PARTITION)[2];
    let mut staged = Staged::new();
    staged.stage(&first, goes, Change::Leave, Stamp::from_ms(1), NodeId(1)).expect("staged");
    let next = plan(&first, &staged).expect("a plan").chain()[0].clone();
    let comes = *next.homes(PARTITION).iter().find(|home| !first.is_home(PARTITION, **home)).expect("one");
    (next, goes, comes)
}

/// As if all members of the first had chosen it.
fn chosen(layout: &Layout) -> Link {
    let accepted_by = first().members().iter().map(|member| member.id).collect();
    let ballot = Ballot { round: 1, node: NodeId(1), attempt: 1 };
    let hash = layout.hash();
    let certificate = Certificate { decree: SECOND, parent: first().hash(), hash, ballot, accepted_by };
    Link { decree: SECOND, layout: layout.clone(), ground: Ground::Chosen(certificate) }
}

fn place_of(node: NodeId) -> usize {
    first().preference_list(PARTITION).iter().position(|id| *id == node).expect("a member")
}

fn tells(story: &Story, send: Vec<(Name, Entry)>) {
    let from = story.others()[0];
    let entries = Reconcile::Entries(Difference { send, want: Vec::new() });
    story.peer_says(from, 0, 1_000_000, Body::Reconcile(entries));
}

/// Every other member says how far it has come.
fn others_are(story: &Story, at: u64, progress: Progress) {
    let said = story.others().into_iter().map(|id| progress.entry(id, Stamp::from_ms(WALL_MS + at), 7));
    tells(story, said.collect());
}

fn ring(story: &Story) -> RingStatus {
    match story.asks(Request::Ring).response() {
        Response::Ring(ring) => *ring,
        other => panic!("it should say how the ring is: {other:?}"),
    }
}

/// How far the node says that it has come.
fn mine(story: &Story) -> Progress {
    let me = story.node.status().node;
    ring(story).progress.into_iter().find(|(id, _)| *id == me).map(|(_, progress)| progress).expect("itself")
}

/// A story whose node has adopted the second layout, and so have all others.
fn changing(place: usize) -> Story {
    let story = Story::open(place, MemoryEngine::new(), Standing::Continuous);
    tells(&story, vec![chosen(&second().0).entry()]);
    story.pass_ms(300);
    assert_eq!(mine(&story).adopted, SECOND);
    others_are(&story, 1, Progress { adopted: SECOND, ..Progress::at(FIRST) });
    story.pass_ms(300);
    story.heard();
    story
}

/// The same, and everyone reads by it.
fn changed(place: usize) -> Story {
    let story = changing(place);
    others_are(&story, 2, Progress { adopted: SECOND, filled: SECOND, ..Progress::at(FIRST) });
    story.pass_ms(2_500);
    others_are(&story, 3, Progress::at(SECOND));
    story.pass_ms(500);
    story
}

#[test]
fn a_write_goes_to_the_homes_by_both_layouts_and_is_done_by_each() {
    let (_, goes, comes) = second();
    let story = changing(0);
    let put = story.asks(write(put("k", "v", 1)));
    let merges = story.heard();
    let to = |node: NodeId| merges.iter().find(|said| said.to == node).expect("it was asked");
    assert_eq!(merges.len(), 3, "{merges:?}");
    story.answers(to(goes), Body::MergeReply);
    assert!(put.is_open(), "by the second layout only this node has it");
    story.answers(to(comes), Body::MergeReply);
    assert_eq!(put.done().acks.homes, 2);
}

#[test]
fn reads_go_by_the_old_layout_until_everyone_has_filled_the_new_one() {
    let (_, goes, comes) = second();
    let story = changing(0);
    story.asks(Request::Get(Get { r: Some(Level::All), ..get("k") }));
    let asked: Vec<NodeId> = story.heard().iter().map(|said| said.to).collect();
    assert!(asked.contains(&goes) && !asked.contains(&comes), "{asked:?}");
    assert_eq!(mine(&story).reads, FIRST);
    let story = changed(0);
    assert_eq!(mine(&story), Progress { emptied: mine(&story).emptied, ..Progress::at(SECOND) });
    story.heard();
    story.asks(Request::Get(Get { r: Some(Level::All), ..get("k") }));
    let asked: Vec<NodeId> = story.heard().iter().map(|said| said.to).collect();
    assert!(asked.contains(&comes) && !asked.contains(&goes), "{asked:?}");
}

#[test]
fn a_replica_refuses_a_write_by_older_layouts_alone_and_takes_what_is_no_clients_write() {
    let story = changing(0);
    let fenced = |fence| Body::Merge {
        key: key("k"),
        record: gramme_core::codec::encode_record(&foreign(9, 1, "v")),
        hint_for: None,
        stamp: gramme_core::Frontier::none(),
        buffered: false,
        fence,
    };
    let answer = |fence| {
        story.heard();
        story.peer_says(story.list[1], 70, 500_000, fenced(fence));
        story.heard().into_iter().find(|said| said.correlation == 70).map(|said| said.body)
    };
    match answer(1) {
        Some(Body::Refused { failure }) => assert_eq!(failure.reason, Reason::StaleLayout),
        other => panic!("it is fenced: {other:?}"),
    }
    assert_eq!(answer(2), Some(Body::MergeReply));
    assert_eq!(answer(0), Some(Body::MergeReply), "a repair");
    assert_eq!(answer(3), Some(Body::MergeReply), "its sender is ahead");
}

#[test]
fn a_coordinator_that_was_fenced_asks_again_by_the_layout_that_it_learns_of() {
    let (next, _, comes) = second();
    let story = Story::at_home();
    let put = story.asks(write(Put { w: Some(Level::All), ..put("k", "v", 1) }));
    let merges = story.heard();
    merges.iter().for_each(|merge| story.answers(merge, refuse(Reason::StaleLayout)));
    tells(&story, vec![chosen(&next).entry()]);
    story.pass_ms(15);
    let again = story.heard();
    let to: Vec<NodeId> = again.iter().map(|said| said.to).filter(|to| *to == comes).collect();
    assert_eq!(to, [comes], "{again:?}");
    assert_eq!(again.iter().filter(|said| word(&said.body) == "merge").count(), 3);
    again.iter().for_each(|merge| story.answers(merge, Body::MergeReply));
    put.done();
    assert_eq!(story.world.probed(Probe::WriteFenced), 2);
}

#[test]
fn a_home_of_one_layout_takes_the_place_of_a_silent_home_of_the_other() {
    let (_, _, comes) = second();
    let story = changing(place_of(comes));
    story.lose(&story.others());
    let put = story.asks(write(Put { w: Some(Level::One), ..put("k", "v", 1) }));
    story.pass_ms(2 * FALLBACK_AFTER_MS_MAX);
    let done = put.done();
    assert_eq!((done.acks.homes, done.acks.fallbacks), (0, 1), "by the layout that is read by it stands in");
}

fn life() -> Life {
    Life { number: 5, standing: Standing::Continuous }
}

fn seen(n: u64) -> Seen {
    let mut seen = Seen::new();
    seen.set_row(Incarnation(9), SeenRow::from_runs([(0, n)]));
    seen
}

/// Answers every question about what has ended, and every full pull with this one record, until there are no more.
fn fill(story: &Story, record: Option<&gramme_core::Record>, but: Option<NodeId>) -> Vec<NodeId> {
    let mut served = Vec::new();
    for _ in 0..40 {
        story.pass_ms(100);
        for said in story.heard() {
            if Some(said.to) == but {
                continue;
            }
            match &said.body {
                Body::Survey { .. } => story.answers(&said, nothing_has_ended()),
                Body::Pull { full, of, .. } => {
                    assert!(*full && *of == PullOf::Home);
                    served.push(said.to);
                    story.answers(&said, Body::PullReply(page_of(record)));
                }
                _ => {}
            }
        }
    }
    served
}

fn nothing_has_ended() -> Body {
    Body::SurveyReply { home: Some(life()), live: None, seen: Seen::new(), ends: Default::default() }
}

fn page_of(record: Option<&gramme_core::Record>) -> PullPage {
    let pulled = record.map(|record| gramme_wire::Pulled {
        key: key("k"),
        record: gramme_core::codec::encode_record(record),
    });
    PullPage {
        session: 1,
        pulled: pulled.into_iter().collect(),
        next: None,
        sigma: Some(Box::new(seen(1))),
        frontier: gramme_core::Frontier::none(),
        life: life(),
        unreadable: 0,
    }
}

#[test]
fn a_home_that_comes_is_filled_from_every_other_home_before_it_says_so() {
    let (_, goes, comes) = second();
    let story = changing(place_of(comes));
    let (standing, _) = story.shows("k");
    assert_eq!(standing, Standing::Unproven, "its silence proves nothing yet");
    let record = foreign(9, 1, "v");
    let mut served = fill(&story, Some(&record), Some(goes));
    served.sort_unstable();
    served.dedup();
    let mut stay: Vec<NodeId> = first().homes(PARTITION)[..2].to_vec();
    stay.sort_unstable();
    assert_eq!(served, stay);
    assert_eq!(mine(&story).filled, FIRST, "who goes has not been pulled from");
    assert!(fill(&story, Some(&record), None).contains(&goes));
    story.pass_ms(500);
    assert_eq!(mine(&story).filled, SECOND);
    let (standing, held) = story.shows("k");
    assert_eq!((standing, values_of(&held)), (Standing::Continuous, vec!["v".to_string()]));
}

#[test]
fn a_home_that_comes_goes_on_after_a_crash_where_it_was() {
    let (_, goes, comes) = second();
    let memory = MemoryEngine::new();
    let story = Story::open(place_of(comes), memory.clone(), Standing::Continuous);
    tells(&story, vec![chosen(&second().0).entry()]);
    story.pass_ms(300);
    others_are(&story, 1, Progress { adopted: SECOND, ..Progress::at(FIRST) });
    story.pass_ms(300);
    let record = foreign(9, 1, "v");
    fill(&story, Some(&record), Some(goes));
    let story = Story::reopened(&story, memory);
    assert_eq!(mine(&story).adopted, SECOND);
    let served = fill(&story, Some(&record), None);
    assert_eq!(served, [goes], "what was pulled whole is not pulled again");
    story.pass_ms(500);
    assert_eq!(mine(&story).filled, SECOND);
}

#[test]
fn a_source_that_has_not_heard_of_the_layout_lets_nobody_pull() {
    let (_, _, comes) = second();
    let story = Story::at_home();
    let pull = Body::Pull { life: life(), seen: Seen::new(), of: PullOf::Home, full: true };
    story.peer_says(comes, 71, 500_000, pull.clone());
    let answer =
        |story: &Story| story.heard().into_iter().find(|said| said.correlation == 71).map(|s| s.body);
    assert!(matches!(answer(&story), Some(Body::Refused { .. })));
    let story = changing(0);
    story.peer_says(comes, 71, 500_000, pull);
    assert!(matches!(answer(&story), Some(Body::PullReply(_))));
}

/// The node that goes, with one record, after everyone reads by the second layout.
fn left() -> Story {
    let (_, goes, _) = second();
    let story = Story::open(place_of(goes), MemoryEngine::new(), Standing::Continuous);
    story.peer_says(
        story.list[1],
        72,
        500_000,
        merge("k", gramme_core::codec::encode_record(&foreign(9, 1, "v"))),
    );
    tells(&story, vec![chosen(&second().0).entry()]);
    story.pass_ms(300);
    for (at, progress) in [
        (1, Progress { adopted: SECOND, ..Progress::at(FIRST) }),
        (2, Progress { adopted: SECOND, filled: SECOND, ..Progress::at(FIRST) }),
    ] {
        others_are(&story, at, progress);
        story.pass_ms(400);
    }
    story.pass_ms(2_500);
    story.heard();
    others_are(&story, 3, Progress::at(SECOND));
    story
}

/// Offers of what was left, until every home has answered like this or the time is over.
fn offers(story: &Story, ms: u64, covered: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    let mut asked = Vec::new();
    for _ in 0..ms / 100 {
        story.pass_ms(100);
        for said in
            story.heard().into_iter().filter(|said| matches!(said.body, Body::Offer { left: true, .. }))
        {
            asked.push(said.to);
            story.answers(&said, Body::OfferReply { covered: covered(said.to) });
        }
    }
    asked.sort_unstable();
    asked.dedup();
    asked
}

#[test]
fn a_home_that_goes_keeps_everything_until_each_home_has_said_that_it_has_it() {
    let (next, _, comes) = second();
    let story = left();
    let asked = offers(&story, 4_000, |home| home != comes);
    let mut homes = next.homes(PARTITION).to_vec();
    homes.sort_unstable();
    assert_eq!(asked, homes);
    assert_eq!(story.world.probed(Probe::LeftWiped), 0, "the home that has come lacks something");
    assert_eq!(values_of(&story.shows("k").1), ["v"], "it is still shown, as hints are");
    assert_ne!(mine(&story).emptied, SECOND);
    offers(&story, 4_000, |_| true);
    assert_eq!(story.world.probed(Probe::LeftWiped), 1);
    assert!(story.shows("k").1.is_empty());
    story.pass_ms(500);
    assert_eq!(mine(&story).emptied, SECOND);
    let status = ring(&story);
    assert!(status.is_gone && !status.is_member);
}

#[test]
fn what_a_home_left_outlives_its_restart_and_is_offered_again() {
    let (_, goes, _) = second();
    let story = left();
    offers(&story, 2_000, |_| false);
    let story = story.with_a_cold_cache();
    assert_eq!(story.node.status().node, goes);
    assert_eq!(values_of(&story.shows("k").1), ["v"]);
    offers(&story, 4_000, |_| true);
    assert_eq!(story.world.probed(Probe::LeftWiped), 1);
}

#[test]
fn a_node_that_was_removed_takes_no_clients_request() {
    let story = left();
    offers(&story, 4_000, |_| true);
    let failure = story.asks(write(put("k", "w", 2))).failure();
    assert_eq!((failure.reason, failure.outcome), (Reason::Unsuitable, gramme_core::Outcome::NotApplied));
}

#[test]
fn a_layout_without_its_proof_is_not_taken() {
    let story = Story::at_home();
    let mut link = chosen(&second().0);
    if let Ground::Chosen(certificate) = &mut link.ground {
        certificate.accepted_by.truncate(2);
    }
    tells(&story, vec![link.entry()]);
    story.pass_ms(300);
    assert_eq!(ring(&story).head.0, FIRST);
    assert_eq!(story.world.probed(Probe::LayoutTaken), 0);
    assert_eq!(story.world.probed(Probe::NodeFactRefused), 1);
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(2), attempt: 7 }
}

fn accept(layout: &Layout, round: u64) -> Ask {
    let proposal = Proposal { hash: layout.hash(), bytes: layout.encode().into() };
    Ask::Accept { decree: SECOND, parent: first().hash(), ballot: ballot(round), proposal }
}

fn vote(story: &Story, ask: Ask) -> Option<Body> {
    story.heard();
    story.peer_says(story.list[1], 73, 500_000, Body::Paxos(Box::new(ask)));
    story.heard().into_iter().find(|said| said.correlation == 73).map(|said| said.body)
}

fn says(body: Option<Body>) -> Says {
    match body {
        Some(Body::PaxosReply(reply)) => reply.says,
        other => panic!("a vote was expected: {other:?}"),
    }
}

#[test]
fn a_member_votes_once_its_vote_is_durable_and_remembers_it() {
    let memory = MemoryEngine::new();
    let story = Story::open(0, memory.clone(), Standing::Continuous);
    story.world.disk.hold_commits(true);
    assert_eq!(vote(&story, accept(&second().0, 5)), None, "a crash may still take it back");
    story.world.disk.hold_commits(false);
    story.world.run();
    let said = story.heard().into_iter().find(|said| said.correlation == 73).map(|said| said.body);
    assert_eq!(says(said), Says::Accepted);
    let story = Story::reopened(&story, memory);
    let prepare = |round| Ask::Prepare { decree: SECOND, parent: first().hash(), ballot: ballot(round) };
    assert_eq!(says(vote(&story, prepare(4))), Says::Outbid(ballot(5)));
    match says(vote(&story, prepare(6))) {
        Says::Promise(Some(accepted)) => assert_eq!(accepted.proposal.hash, second().0.hash()),
        other => panic!("it had accepted something: {other:?}"),
    }
}

#[test]
fn what_is_no_layout_is_not_voted_for() {
    let story = Story::at_home();
    let mut ask = accept(&second().0, 5);
    if let Ask::Accept { proposal, .. } = &mut ask {
        proposal.bytes = proposal.bytes.slice(1..);
    }
    assert!(matches!(vote(&story, ask), Some(Body::Refused { .. })));
}

fn stage(story: &Story, wanted: Wanted) -> Result<RingStatus, String> {
    let pending = story.asks(Request::Stage(wanted));
    story.pass_ms(10);
    match pending.response() {
        Response::Ring(ring) => Ok(*ring),
        Response::Declined(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn leave(node: &str) -> Wanted {
    Wanted::Leave { node: node.to_string(), lost: false }
}

#[test]
fn what_cannot_be_staged_is_declined_in_a_sentence_and_changes_nothing() {
    let story = Story::at_home();
    let replace = |old: &str, new: &str| Wanted::Replace { old: old.into(), new: new.into(), force: false };
    let join = |node: &str| Wanted::Join { node: node.into(), weight: None, zone: None };
    for (wanted, says) in [
        (leave("n9"), "no node is called n9: members are n1, n2, n3, n4, n5; none asks to join"),
        (replace("n2", "n9"), "n2 is up, and a node that is up need not be replaced"),
        (join("n2"), "n2 is a member of this cluster already"),
        (Wanted::Leave { node: "n2".into(), lost: true }, "n2 is up, so it is not lost"),
        (Wanted::Weight { node: "n2".into(), weight: 0 }, "cannot be 0"),
    ] {
        let why = stage(&story, wanted.clone()).expect_err("it cannot be");
        assert!(why.contains(says), "{wanted:?}: {why}");
        assert!(ring(&story).staged.is_empty());
    }
    stage(&story, leave("n5")).expect("five are more than three");
    stage(&story, leave("n4")).expect("four are more than three");
    let why = stage(&story, leave("n3")).expect_err("two cannot keep three copies");
    assert!(why.contains("would leave 2 members"), "{why}");
    assert_eq!(ring(&story).staged.len(), 2);
}

#[test]
fn a_plan_that_has_changed_is_not_committed() {
    let story = Story::at_home();
    stage(&story, leave("n5")).expect("staged");
    let Response::Planned(planned) = story.asks(Request::Plan).response() else { panic!("a plan") };
    stage(&story, leave("n4")).expect("staged");
    match story.asks(Request::Commit(planned.plan.hash())).response() {
        Response::Declined(why) => assert!(why.contains("has changed since that plan"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(story.heard_words().iter().all(|said| said.1 != "paxos"), "nobody was asked");
}

#[test]
fn a_minority_commits_nothing_and_says_so() {
    let story = Story::at_home();
    stage(&story, leave("n5")).expect("staged");
    let Response::Planned(planned) = story.asks(Request::Plan).response() else { panic!("a plan") };
    story.lose(&story.others()[..3]);
    let commit = story.asks(Request::Commit(planned.plan.hash()));
    story.pass_ms(9_000);
    match commit.response() {
        Response::Declined(why) => {
            assert!(why.contains("a ring change needs 3") && why.contains("nothing was committed"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ring(&story).head.0, FIRST);
}

#[test]
fn a_majority_commits_and_everyone_is_told_with_the_proof() {
    let story = Story::at_home();
    stage(&story, leave("n5")).expect("staged");
    let Response::Planned(planned) = story.asks(Request::Plan).response() else { panic!("a plan") };
    story.reconciled();
    let commit = story.asks(Request::Commit(planned.plan.hash()));
    for _ in 0..10 {
        for said in story.heard() {
            let Body::Paxos(ask) = &said.body else { continue };
            let (decree, ballot, says) = match &**ask {
                Ask::Prepare { decree, ballot, .. } => (*decree, *ballot, Says::Promise(None)),
                Ask::Accept { decree, ballot, .. } => (*decree, *ballot, Says::Accepted),
            };
            let reply = gramme_core::paxos::Reply { decree, ballot, says };
            story.answers(&said, Body::PaxosReply(Box::new(reply)));
        }
        story.pass_ms(20);
    }
    let Response::Committed(committed) = commit.response() else { panic!("it is committed") };
    assert_eq!(committed.layouts.len(), planned.plan.chain().len());
    assert_eq!(ring(&story).head, *committed.layouts.last().expect("one"));
    assert!(ring(&story).staged.is_empty(), "what was wanted is done");
}

#[test]
fn two_layouts_under_one_number_stop_every_change() {
    let story = Story::at_home();
    tells(&story, vec![chosen(&second().0).entry()]);
    let mut staged = Staged::new();
    staged.stage(&first(), NodeId(1), Change::Weight(7), Stamp::from_ms(1), NodeId(1)).expect("staged");
    let other = plan(&first(), &staged).expect("a plan").chain()[0].clone();
    tells(&story, vec![chosen(&other).entry()]);
    story.pass_ms(100);
    assert_eq!(ring(&story).contradiction, Some(SECOND));
    let why = stage(&story, leave("n5")).expect_err("an alarm");
    assert!(why.contains("two layouts are known"), "{why}");
}

#[test]
fn what_was_kept_for_others_is_taken_over_by_a_fallback_that_becomes_a_home() {
    let (_, _, comes) = second();
    let story = Story::open(place_of(comes), MemoryEngine::new(), Standing::Continuous);
    let hint = Body::Merge {
        key: key("k"),
        record: gramme_core::codec::encode_record(&foreign(9, 1, "kept")),
        hint_for: Some(story.list[0]),
        stamp: gramme_core::Frontier::none(),
        buffered: false,
        fence: 0,
    };
    story.peer_says(story.list[1], 74, 500_000, hint);
    assert_eq!(story.node.status().hints.hints, 1);
    tells(&story, vec![chosen(&second().0).entry()]);
    story.pass_ms(3_000);
    assert_eq!(values_of(&story.shows("k").1), ["kept"], "as a home it shows what it kept as a fallback");
    for _ in 0..50 {
        story.pass_ms(100);
        for said in
            story.heard().into_iter().filter(|said| matches!(said.body, Body::Offer { left: false, .. }))
        {
            story.answers(&said, Body::OfferReply { covered: true });
        }
    }
    assert_eq!(story.node.status().hints.stores, 0, "every home has it, this one too");
}

#[test]
fn one_who_moved_is_told_of_under_its_new_address() {
    let story = Story::at_home();
    let other = story.list[1];
    let fact = gramme_core::gossip::NodeFact {
        name: "n2".to_string(),
        address: "elsewhere:7".to_string(),
        ..Default::default()
    };
    tells(&story, vec![fact.entry(other, Stamp::from_ms(WALL_MS + 1), 3)]);
    story.happens(Event::PeerUp(other));
    let ring = story.world.rings.borrow().last().cloned().expect("the outside was told");
    assert_eq!(ring.peers.get(&other).map(|peer| peer.address.as_str()), Some("elsewhere:7"));
}

#[test]
fn a_node_that_only_its_peers_know_to_be_removed_serves_nobody_until_most_take_it_for_a_member() {
    let story = Story::at_home();
    let try_put = |request| story.asks(write(Put { w: Some(Level::Count(1)), ..put("k", "v", request) }));
    story.happens(Event::Fact(Fact::Removed));
    // One word against that of most members.
    try_put(1).done();
    story.lose(&story.others());
    // Alone, and told nothing.
    try_put(2).done();
    story.happens(Event::Fact(Fact::Removed));
    let failure = try_put(3).failure();
    assert_eq!((failure.outcome, failure.reason), (Outcome::NotApplied, Reason::Unsuitable));
    assert!(ring(&story).is_gone, "and says so");
    story.happens(Event::PeerUp(story.list[1]));
    story.happens(Event::PeerUp(story.list[2]));
    try_put(4).failure();
    assert!(ring(&story).is_gone, "those two may have been removed with it");
    story.world.unreachable.borrow_mut().clear();
    story.happens(Event::PeerUp(story.list[3]));
    try_put(5).done();
    assert!(!ring(&story).is_gone);
}
