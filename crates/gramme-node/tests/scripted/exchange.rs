//! Homes that compare what they have seen, pull what they lack, and are refilled when they have lost something.

use crate::world::*;
use bytes::Bytes;
use gramme_core::closed::Closed;
use gramme_core::codec::{decode_record, encode_record};
use gramme_core::limits::{CHECK_MS, EXCHANGE_MS, PULL_LEASE_MS, PULL_PAGE_RECORDS_MAX, SURVEY_MS};
use gramme_core::seen::SeenRow;
use gramme_core::{Frontier, Incarnation, Record, Seen};
use gramme_node::rows::{KIND_SEEN, seen_row};
use gramme_node::{Event, Fact, Probe, Trust};
use gramme_storage::memory::MemoryEngine;
use gramme_storage::{Batch, Engine};
use gramme_wire::{Body, Compared, Difference, Life, PullOf, PullPage, Pulled, Remembered, Standing};

/// Incarnation 9 up to this number.
fn up_to(n: u64) -> Seen {
    let mut seen = Seen::new();
    seen.set_row(Incarnation(9), SeenRow::from_runs([(0, n)]));
    seen
}

fn life(number: u64) -> Life {
    Life { number, standing: Standing::Continuous }
}

/// A peer answers digests: it has seen this, and remembers that of the node.
fn differs(said: &Said, seen: Seen, remembered: Option<Remembered>) -> Body {
    let Body::Digests { digests } = &said.body else { panic!("digests were expected: {said:?}") };
    let difference = Some(Difference { seen, closed: 0, remembered });
    Body::DigestsReply {
        compared: vec![Compared { partition: digests[0].partition, life: life(5), difference }],
    }
}

fn sent(name: &str, record: &Record) -> Pulled {
    Pulled { key: key(name), record: encode_record(record) }
}

fn page(pulled: Vec<Pulled>, next: Option<&str>, sigma: Option<Seen>) -> Body {
    let (sigma, next) = (sigma.map(Box::new), next.map(key));
    Body::PullReply(PullPage {
        session: 4,
        pulled,
        next,
        sigma,
        frontier: Frontier::none(),
        life: life(5),
        unreadable: 0,
    })
}

/// The one message of a kind that was heard.
fn only(story: &Story, kind: &str) -> Said {
    let mut said: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == kind).collect();
    assert_eq!(said.len(), 1, "one {kind} was expected: {said:?}");
    said.remove(0)
}

fn begins_pull(peer: usize, seen: Seen, full: bool, of: PullOf, story: &Story) -> Body {
    story.peer_says(story.list[peer], 50, 500_000, Body::Pull { life: life(5), seen, of, full });
    only(story, "pull reply").body
}

fn keys_of(body: &Body) -> (Vec<String>, Option<String>) {
    let Body::PullReply(PullPage { pulled, next, .. }) = body else {
        panic!("a page was expected: {body:?}")
    };
    let name = |key: &gramme_core::Key| String::from_utf8_lossy(key.key()).into_owned();
    (pulled.iter().map(|one| name(&one.key)).collect(), next.as_ref().map(name))
}

/// The peer lacks nothing but what this story is about: a round of digests and its answer.
fn a_round(story: &Story, peer: usize, seen: Seen, remembered: Option<Remembered>) {
    story.digests_to(story.list[peer]);
    story.pass_ms(EXCHANGE_MS * 5 / 4);
    let digests = story.digests_to(story.list[peer]).expect("every few seconds");
    story.answers(&digests, differs(&digests, seen, remembered));
}

#[test]
fn what_was_missing_a_round_ago_and_still_is_gets_pulled_and_is_seen_once_all_of_it_is_there() {
    let story = Story::at_home();
    a_round(&story, 1, up_to(3), None);
    assert!(!story.heard_words().iter().any(|said| said.1 == "pull"), "it may be on its way");
    assert_eq!(story.node.status().behind[0].unseen, 3);
    a_round(&story, 1, up_to(3), None);
    let pull = only(&story, "pull");
    let Body::Pull { full, of, .. } = pull.body else { panic!("{pull:?}") };
    assert_eq!((pull.to, full, of), (story.list[1], false, PullOf::Home));

    // The second write of incarnation 9 was overwritten by the third.
    let (first, third) = (foreign(9, 1, "one"), foreign(9, 3, "three"));
    story.answers(&pull, page(vec![sent("a", &first)], Some("a"), Some(up_to(3))));
    let more = only(&story, "pull more");
    assert_eq!(story.seen().1, up_to(1), "a session that may break proves nothing yet");
    story.answers(&more, page(vec![sent("b", &third)], None, None));
    assert_eq!(story.seen().1, up_to(3));
    assert_eq!(values_of(&story.shows("b").1), ["three"]);
    assert!(story.node.status().behind.is_empty());
}

#[test]
fn a_session_that_breaks_keeps_its_records_and_claims_nothing() {
    let story = Story::at_home();
    a_round(&story, 1, up_to(3), None);
    a_round(&story, 1, up_to(3), None);
    let pull = only(&story, "pull");
    story.answers(&pull, page(vec![sent("a", &foreign(9, 1, "one"))], Some("a"), Some(up_to(3))));
    story.happens(Event::PeerDown(story.list[1]));
    story.heard();
    assert_eq!(story.seen().1, up_to(1));
    assert_eq!(values_of(&story.shows("a").1), ["one"]);

    story.happens(Event::PeerUp(story.list[1]));
    let digests = story.digests_to(story.list[1]).expect("at once, when a connection stands");
    story.answers(&digests, differs(&digests, up_to(3), None));
    let again = only(&story, "pull");
    story.answers(&again, page(vec![sent("b", &foreign(9, 3, "three"))], None, Some(up_to(3))));
    assert_eq!(story.seen().1, up_to(3));
}

#[test]
fn a_broken_record_stops_no_session_and_nothing_of_it_is_claimed() {
    let story = Story::at_home();
    a_round(&story, 1, up_to(4), None);
    a_round(&story, 1, up_to(4), None);
    let pull = only(&story, "pull");
    let mut broken = foreign(9, 2, "two");
    broken = broken.without_values();
    let pulled =
        vec![sent("a", &foreign(9, 1, "one")), sent("b", &broken), sent("c", &foreign(9, 4, "four"))];
    story.answers(&pull, page(pulled, None, Some(up_to(4))));
    let seen = story.seen().1;
    assert_eq!(seen.row(Incarnation(9)).map(SeenRow::runs), Some(&[(0, 1), (2, 4)][..]));
    assert_eq!(values_of(&story.shows("c").1), ["four"]);
    assert!(story.shows("b").1.is_empty());
}

#[test]
fn a_record_of_which_nothing_can_be_read_leaves_the_whole_session_unclaimed() {
    let story = Story::at_home();
    a_round(&story, 1, up_to(2), None);
    a_round(&story, 1, up_to(2), None);
    let pull = only(&story, "pull");
    let garbled = Pulled { key: key("b"), record: Bytes::from_static(b"nonsense") };
    story.answers(&pull, page(vec![sent("a", &foreign(9, 1, "one")), garbled], None, Some(up_to(2))));
    assert_eq!(story.seen().1, up_to(1));
}

#[test]
fn the_sender_says_what_it_had_seen_once_that_is_durable_and_sends_what_was_not() {
    let story = Story::at_home();
    for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
        let record = encode_record(&foreign(9, n, "v"));
        let merge = merge(name, record);
        if n == 3 {
            story.world.disk.hold_commits(true);
        }
        story.peer_says(story.list[1], n, 500_000, merge);
    }
    story.heard();
    let pull = Body::Pull { life: life(5), seen: up_to(1), of: PullOf::Home, full: false };
    story.peer_says(story.list[1], 50, 500_000, pull);
    assert!(story.heard().is_empty(), "a crash could still take the third back");
    story.world.disk.hold_commits(false);
    story.world.run();
    let reply = only_of(&story, "pull reply");
    let Body::PullReply(PullPage { sigma, .. }) = &reply else { panic!("{reply:?}") };
    assert_eq!(sigma.as_deref(), Some(&up_to(3)));
    assert_eq!(keys_of(&reply), (vec!["b".to_string(), "c".to_string()], None));
    assert!(story.world.probes.borrow().contains(&Probe::PullServedByKeys));

    let all = begins_pull(2, Seen::new(), true, PullOf::Home, &story);
    assert_eq!(keys_of(&all).0, ["a", "b", "c"], "a full session skips nothing");
}

fn only_of(story: &Story, kind: &str) -> Body {
    let mut said: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == kind).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0).body
}

#[test]
fn pages_follow_one_another_and_a_session_that_nobody_goes_on_with_expires() {
    let story = Story::at_home();
    let count = PULL_PAGE_RECORDS_MAX as u64 + 3;
    for n in 1..=count {
        let record = encode_record(&foreign(9, n, "v"));
        let key = key(&format!("k{n:05}"));
        let merge =
            Body::Merge { key, record, hint_for: None, stamp: Frontier::none(), buffered: false, fence: 0 };
        story.peer_says(story.list[1], n, 500_000, merge);
    }
    story.heard();
    for full in [true, false] {
        let first = begins_pull(1, Seen::new(), full, PullOf::Home, &story);
        let Body::PullReply(PullPage { session, next: Some(after), .. }) = first else { panic!("{first:?}") };
        story.peer_says(story.list[1], 51, 500_000, Body::PullMore { session, after: after.clone() });
        let last = only(&story, "pull reply").body;
        assert_eq!(keys_of(&last).0.len(), 3);
        story.peer_says(story.list[1], 52, 500_000, Body::PullMore { session, after });
        assert_eq!(word(&only(&story, "refused").body), "refused", "it was over");
    }
    let first = begins_pull(1, Seen::new(), true, PullOf::Home, &story);
    let Body::PullReply(PullPage { session, next: Some(after), .. }) = first else { panic!("{first:?}") };
    story.peer_says(story.list[2], 53, 500_000, Body::PullMore { session, after: after.clone() });
    only(&story, "refused");
    story.pass_ms(PULL_LEASE_MS + 1);
    story.heard();
    story.peer_says(story.list[1], 54, 500_000, Body::PullMore { session, after });
    let refused = only(&story, "refused").body;
    let Body::Refused { failure } = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("begin a new one"), "{failure}");
}

#[test]
fn a_home_pulls_a_hint_store_as_it_pulls_a_home() {
    let story = Story::at_fallback();
    let record = encode_record(&foreign(9, 1, "kept"));
    let merge = Body::Merge {
        key: key("a"),
        record,
        hint_for: Some(story.list[0]),
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    };
    story.peer_says(story.list[1], 5, 500_000, merge);
    story.heard();
    let reply = begins_pull(0, Seen::new(), false, PullOf::Hints, &story);
    assert_eq!(keys_of(&reply).0, ["a"]);
    let Body::PullReply(PullPage { pulled, life, sigma, .. }) = reply else { panic!("a page") };
    assert_eq!(values_of(&decode_record(&pulled[0].record).expect("sound")), ["kept"]);
    assert_eq!((life.standing, sigma.as_deref()), (Standing::Unproven, Some(&up_to(1))));
    story.peer_says(
        story.list[4],
        51,
        500_000,
        Body::Pull { life, seen: Seen::new(), of: PullOf::Hints, full: false },
    );
    only(&story, "refused");
}

/// Answers the pull of a refill with everything that the peer holds.
fn fills(story: &Story, pull: &Said, pulled: Vec<Pulled>, frontier: Frontier) {
    let sigma = Some(Box::new(up_to(1)));
    let body = Body::PullReply(PullPage {
        session: 4,
        pulled,
        next: None,
        sigma,
        frontier,
        life: life(5),
        unreadable: 0,
    });
    story.answers(pull, body);
}

/// The refills that it begins, once it is told that nothing has ended.
fn full_pulls(story: &Story) -> Vec<Said> {
    let mut said = story.heard();
    for asked in said.iter().filter(|said| word(&said.body) == "survey") {
        story.answers(asked, nothing_ended());
    }
    said.extend(story.heard());
    said.into_iter().filter(|said| matches!(said.body, Body::Pull { full: true, .. })).collect()
}

fn nothing_ended() -> Body {
    Body::SurveyReply { home: Some(life(5)), live: None, seen: Seen::new(), ends: Closed::new() }
}

#[test]
fn a_home_of_which_others_remember_more_begins_a_new_life_and_is_refilled_by_all_of_them() {
    let story = Story::at_home();
    let mine = foreign(8, 1, "only here");
    let merge = merge("mine", encode_record(&mine));
    story.peer_says(story.list[1], 5, 500_000, merge);
    let (before, _) = story.seen();
    assert_eq!(story.shows("k").0, Standing::Continuous);
    let bases = Frontier::from_bases([(Incarnation(9), 100)]);
    a_round(&story, 1, up_to(1), Some(Remembered { life: before.number, bases }));
    let pulls = full_pulls(&story);
    assert_eq!(pulls.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[1..3]);
    let (after, seen) = story.seen();
    assert!(after.number > before.number && after.standing == Standing::Unproven && seen.is_empty());
    assert_eq!(story.shows("mine"), (Standing::Unproven, mine), "it stays, as the word of a stranger");

    let value = foreign(9, 1, "theirs");
    fills(&story, &pulls[0], vec![sent("k", &value)], Frontier::none());
    assert_eq!(story.shows("k"), (Standing::Unproven, value), "one of two is not enough");
    assert_eq!(story.node.status().refilling[0].from, story.list[2..3]);
    fills(&story, &pulls[1], vec![], Frontier::none());
    assert_eq!(story.shows("none").0, Standing::Continuous);
    assert!(story.node.status().refilling.is_empty());
    let (whole, seen) = story.seen();
    assert_eq!((whole.number, whole.standing), (after.number, Standing::Continuous));
    assert!(seen.has(gramme_core::Dot::new(Incarnation(8), 1)), "what it alone had is offered to the others");
}

#[test]
fn a_home_that_has_pulled_every_other_one_whole_waits_for_nobodys_word_any_more() {
    let story = Story::unasked(MemoryEngine::new());
    let began = story.world.now_ms();
    let life = story.seen().0.number + 1_000;
    story.happens(Event::PeerUp(story.list[1]));
    let digests = story.digests_to(story.list[1]).expect("at once");
    let remembered = Some(Remembered { life, bases: Frontier::none() });
    story.answers(&digests, differs(&digests, up_to(1), remembered));
    let mut pulls = full_pulls(&story);
    while pulls.len() < 2 && story.world.now_ms() < began + CHECK_MS - 100 {
        story.pass_ms(100);
        pulls.extend(full_pulls(&story));
    }
    for pull in pulls {
        fills(&story, &pull, vec![], Frontier::none());
    }
    assert_eq!(story.seen().0.standing, Standing::Continuous);
    assert!(story.world.now_ms() < began + CHECK_MS, "it has not waited");
    assert_eq!(story.shows("k").0, Standing::Continuous);
}

/// It lies in no page of the engine yet, where the session looks for what its source does not have.
#[test]
fn what_came_late_just_before_a_session_is_judged_by_it_though_it_is_not_durable_yet() {
    let story = Story::at_home();
    let life = story.seen().0.number + 1_000;
    a_round(&story, 1, up_to(1), Some(Remembered { life, bases: Frontier::none() }));
    let pulls = full_pulls(&story);
    let overwritten = encode_record(&foreign(9, 1, "overwritten and reclaimed"));
    story.world.disk.hold_commits(true);
    // One batch is on its way, and whatever else is written waits for it in memory.
    story.peer_says(story.list[1], 5, 500_000, merge("busy", encode_record(&foreign(8, 1, "v"))));
    story.peer_says(story.list[1], 6, 500_000, merge("k", overwritten));
    let all_have_seen = Frontier::from_bases([(Incarnation(9), 100)]);
    fills(&story, &pulls[0], vec![], all_have_seen.clone());
    story.world.disk.hold_commits(false);
    story.world.run();
    fills(&story, &pulls[1], vec![], all_have_seen);
    assert_eq!(story.shows("k"), (Standing::Continuous, Record::new()));
}

#[test]
fn a_restart_in_the_middle_goes_on_with_whoever_is_missing() {
    let memory = MemoryEngine::new();
    let story = Story::open(0, memory.clone(), Standing::Continuous);
    let (before, _) = story.seen();
    let remembered = Remembered { life: before.number + 1_000, bases: Frontier::none() };
    a_round(&story, 1, up_to(1), Some(remembered));
    let pulls = full_pulls(&story);
    fills(&story, &pulls[0], vec![], Frontier::none());
    let life = story.seen().0;
    assert!(life.number > before.number + 1_000, "greater than any that is remembered");

    let story = Story::reopened(&story, memory.clone());
    assert_eq!(story.seen().0, life, "a life goes on over restarts");
    assert_eq!(story.node.status().refilling[0].from, story.list[2..3]);
    // Whether it was asked by now and did not answer, or was not: it is asked again.
    story.pass_ms(SURVEY_MS);
    story.heard();
    let mut pulls = Vec::new();
    while pulls.is_empty() && story.world.now_ms() < 5 * SURVEY_MS {
        story.pass_ms(EXCHANGE_MS / 4);
        pulls = full_pulls(&story);
    }
    assert!(pulls.iter().all(|said| said.to == story.list[2]), "{pulls:?}");
    fills(&story, pulls.last().expect("again"), vec![], Frontier::none());
    assert_eq!(story.seen().0.standing, Standing::Continuous);
    let story = Story::reopened(&story, memory);
    assert_eq!(story.seen().0, Life { standing: Standing::Continuous, ..life }, "durably");
}

#[test]
fn a_refill_drops_what_a_member_has_reclaimed_and_keeps_what_it_cannot_know() {
    let story = Story::at_home();
    for (name, n) in [("gone", 1), ("kept", 7)] {
        let record = encode_record(&foreign(9, n, name));
        let merge = merge(name, record);
        story.peer_says(story.list[1], n, 500_000, merge);
    }
    story.heard();
    story.happens(Event::Fact(Fact::Trust(Trust::Lost)));
    story.pass_ms(100);
    let pulls = full_pulls(&story);
    let frontier = Frontier::from_bases([(Incarnation(9), 5)]);
    fills(&story, &pulls[0], vec![], frontier);
    assert!(story.shows("gone").1.is_empty(), "everyone has seen it overwritten");
    assert_eq!(values_of(&story.shows("kept").1), ["kept"], "nobody can have reclaimed that");
}

#[test]
fn what_is_late_for_a_member_is_not_taken_while_that_refills_a_home() {
    let story = Story::at_home();
    story.happens(Event::Fact(Fact::Trust(Trust::Lost)));
    story.pass_ms(100);
    let pulls = full_pulls(&story);
    let frontier = Frontier::from_bases([(Incarnation(9), 5)]);
    let page = |pulled: Vec<Pulled>, next: Option<&str>| {
        Body::PullReply(PullPage {
            session: 4,
            pulled,
            next: next.map(key),
            sigma: next.is_some().then(|| Box::new(up_to(1))),
            frontier: frontier.clone(),
            life: life(5),
            unreadable: 0,
        })
    };
    let alive = Pulled { key: key("alive"), record: encode_record(&foreign(9, 2, "alive")) };
    story.answers(&pulls[0], page(vec![alive], Some("m")));
    let more = story.heard().into_iter().find(|said| matches!(said.body, Body::PullMore { .. }));

    // The page that would have shown it is past, and the frontier comes with the last one.
    for (name, n) in [("gone", 1), ("new", 7)] {
        story.peer_says(story.list[2], n, 500_000, merge(name, encode_record(&foreign(9, n, name))));
    }
    assert!(story.shows("gone").1.is_empty(), "everyone has seen it overwritten");
    assert_eq!(values_of(&story.shows("new").1), ["new"], "nobody can have reclaimed that");
    story.answers(&more.expect("it asks for the rest"), page(vec![], None));
    assert_eq!(values_of(&story.shows("alive").1), ["alive"]);
    assert!(story.shows("gone").1.is_empty());
}

#[test]
fn garbled_rows_of_a_seen_clock_keep_nobody_from_starting() {
    let memory = MemoryEngine::new();
    let story = Story::open(0, memory.clone(), Standing::Continuous);
    let merge = merge("k", encode_record(&foreign(9, 1, "v")));
    story.peer_says(story.list[1], 5, 500_000, merge);
    let mut batch = Batch::new();
    batch.set(seen_row(PARTITION, KIND_SEEN, Incarnation(9)), &b"garbled"[..]);
    story.world.spawn_task({
        let memory = memory.clone();
        async move { memory.commit(batch).await.expect("memory takes it") }
    });
    story.world.run();
    let story = Story::reopened(&story, memory);
    assert_eq!(story.node.status().refilling.len(), 1);
    let (standing, record) = story.shows("k");
    assert_eq!((standing, values_of(&record)), (Standing::Unproven, vec!["v".to_string()]));
}

#[test]
fn after_a_start_silence_waits_for_the_word_of_the_co_homes_or_two_seconds() {
    let story = Story::unasked(MemoryEngine::new());
    assert_eq!(story.shows("k").0, Standing::Unproven);
    story.pass_ms(CHECK_MS / 2);
    assert_eq!(story.shows("k").0, Standing::Unproven, "two that are connected have not spoken");
    story.pass_ms(CHECK_MS / 2);
    assert_eq!(story.shows("k").0, Standing::Continuous, "nobody can wait for ever");
}

/// It vouches for no frontier before: who took its rows without that could not tell what was let go by it from what this
/// home never had, and would keep what is long overwritten.
#[test]
fn a_home_that_has_just_started_gives_nobody_everything_before_the_others_have_spoken() {
    let story = Story::unasked(MemoryEngine::new());
    let pull = || {
        let life = Life { number: 7, standing: Standing::Unproven };
        let pull = Body::Pull { life, seen: Seen::new(), of: PullOf::Home, full: true };
        story.peer_says(story.list[1], 5, 500_000, pull);
        story.heard_words().into_iter().rfind(|(to, _)| *to == story.list[1]).map(|(_, word)| word)
    };
    assert_eq!(pull(), Some("refused"));
    story.pass_ms(CHECK_MS);
    story.heard();
    assert_eq!(pull(), Some("pull reply"));
}

#[test]
fn equal_digests_are_answered_as_equal_and_others_with_the_clock_that_differs() {
    let story = Story::at_home();
    let merge = merge("k", encode_record(&foreign(9, 1, "v")));
    story.peer_says(story.list[1], 5, 500_000, merge);
    story.heard();
    let asks = |seen: u64| {
        let digests = vec![gramme_wire::Digest { partition: PARTITION, life: life(5), seen }];
        story.peer_says(story.list[1], 60, 500_000, Body::Digests { digests });
        match only(&story, "digests reply").body {
            Body::DigestsReply { mut compared } => compared.remove(0).difference,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asks(up_to(1).digest()), None);
    let difference = asks(0).expect("it differs");
    assert_eq!(difference.seen, up_to(1));
    assert_eq!(
        difference.remembered,
        Some(Remembered { life: 5, bases: up_to(1).bases() }),
        "by what was equal"
    );
}
