//! What a node makes of a disk that is full, and of rows that it cannot read.

use crate::world::*;
use gramme_core::bucket::Level;
use gramme_core::codec::encode_record;
use gramme_core::limits::{CHECK_MS, FULL_RETRY_MS, MEND_RETRY_MS, NAMES_MS, REQUEST_MS};
use gramme_core::{Frontier, Outcome, Record};
use gramme_node::Probe;
use gramme_node::request::{Get, ListPage, Request};
use gramme_storage::EngineError;
use gramme_wire::{Body, Entry, Expect, PullOf, PullPage, Put, Reason, Standing};

fn read_one(name: &str) -> Request {
    Request::Get(Get { r: Some(Level::One), ..get(name) })
}

fn everything() -> ListPage {
    ListPage {
        partition: PARTITION,
        bucket: "b".to_string(),
        prefix: bytes::Bytes::new(),
        after: None,
        keys_max: 10,
        values: false,
        r: None,
    }
}

/// The row of `k` holds "old" here, durably, and at nobody else.
fn with_an_old_value() -> Story {
    let story = Story::at_home();
    let put = story.asks(write(Put { w: Some(Level::One), ..put("k", "old", 1) }));
    put.done();
    story.pass_ms(2 * REQUEST_MS);
    story.heard();
    story
}

fn merge(record: &Record) -> Body {
    Body::Merge {
        key: key("k"),
        record: encode_record(record),
        hint_for: None,
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    }
}

fn count(story: &Story, probe: Probe) -> usize {
    story.world.probes.borrow().iter().filter(|&&seen| seen == probe).count()
}

fn rot(story: &Story) {
    story.world.disk.break_reads(Some(EngineError::Corrupt("a bad block".to_string())));
}

fn reads_of_mending(story: &Story) -> Vec<Said> {
    story.heard().into_iter().filter(|said| word(&said.body) == "read").collect()
}

#[test]
fn a_full_disk_refuses_writes_while_reads_go_on_and_takes_them_again_when_there_is_room() {
    let story = with_an_old_value();
    story.world.disk.fill(true);
    let first = story.asks(write(Put { w: Some(Level::One), ..put("k", "new", 2) }));
    let failure = first.failure();
    assert_eq!(failure.outcome, Outcome::MaybeApplied, "it was on its way to the other homes");
    assert!(failure.to_string().contains("no space left"), "{failure}");
    assert!(story.node.status().full);
    story.heard();

    let got = story.asks(read_one("k"));
    assert_eq!(
        values_of(&got.got().record),
        ["old"],
        "what is not durable is not shown, and nobody waits for it"
    );
    story.heard();
    let second = story.asks(write(put("other", "v", 3)));
    assert_eq!(story.heard_words()[0].1, "forward", "another home coordinates");
    story.pass_ms(2 * REQUEST_MS);
    second.failure();

    story.world.disk.fill(false);
    story.pass_ms(2 * FULL_RETRY_MS);
    assert!(!story.node.status().full);
    story.heard();
    let got = story.asks(read_one("k"));
    assert_eq!(values_of(&got.got().record), ["new", "old"], "what it had taken is durable after all");
    let third = story.asks(write(Put { w: Some(Level::One), ..put("k", "third", 4) }));
    third.done();
    assert_eq!((count(&story, Probe::DiskFull), count(&story, Probe::DiskHasRoom)), (1, 1));
}

#[test]
fn a_replica_whose_disk_is_full_says_so_at_once_so_that_a_fallback_takes_its_place() {
    let story = with_an_old_value();
    let peer = story.list[1];
    story.world.disk.fill(true);
    for correlation in [5, 6] {
        story.peer_says(peer, correlation, 500_000, merge(&foreign(77, correlation, "theirs")));
        let answer = story.heard().pop().expect("it answers at once");
        let Body::Refused { failure } = answer.body else { panic!("{answer:?}") };
        assert!(matches!(failure.reason, Reason::Disk(_)), "{failure}");
    }
    story.peer_says(peer, 7, 500_000, Body::Read { key: key("k") });
    assert_eq!(story.heard_words(), [(peer, "read reply")]);
}

#[test]
fn a_node_opens_on_a_full_disk_for_reads_alone() {
    let memory = gramme_storage::memory::MemoryEngine::new();
    let story = Story::open(0, memory.clone(), gramme_wire::Standing::Continuous);
    story.asks(write(Put { w: Some(Level::One), ..put("k", "old", 1) })).done();
    let story = Story::reopened_full(&story, memory);
    // It can tell nobody what it has durably seen, and trusts itself after a while all the same.
    story.pass_ms(CHECK_MS);
    let got = story.asks(read_one("k"));
    assert_eq!(values_of(&got.got().record), ["old"]);
    story.asks(write(put("k", "v", 2)));
    assert!(story.heard_words().iter().any(|(_, word)| *word == "forward"), "it mints nothing");
    story.world.disk.fill(false);
    story.pass_ms(2 * FULL_RETRY_MS);
    story.asks(write(Put { w: Some(Level::One), ..put("k", "w", 3) })).done();
}

#[test]
fn a_damaged_row_is_refused_until_all_other_homes_were_read_and_then_holds_what_they_hold() {
    let story = with_an_old_value();
    let story = story.with_a_cold_cache();
    rot(&story);
    let peer = story.list[1];
    story.peer_says(peer, 5, 500_000, Body::Read { key: key("k") });
    let said = story.heard();
    assert_eq!(word(&said[0].body), "refused", "never an empty reply");
    let asked: Vec<&Said> = said.iter().filter(|said| word(&said.body) == "read").collect();
    assert_eq!(asked.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[3..], "who may keep hints");
    assert_eq!(story.node.status().damaged, 1);

    story.peer_says(peer, 6, 500_000, merge(&foreign(88, 1, "late")));
    assert_eq!(story.heard_words(), [(peer, "refused")], "a merge must not build on nothing");

    let hint = Body::ReadReply {
        standing: Standing::Unproven,
        record: Some(encode_record(&foreign(99, 1, "hinted"))),
        frontier: Frontier::none(),
    };
    story.answers(asked[0], hint);
    story.answers(asked[1], unproven_nothing());
    let asked = reads_of_mending(&story);
    assert_eq!(asked.iter().map(|said| said.to).collect::<Vec<_>>(), story.list[1..3], "all other homes");
    story.answers(&asked[0], holds(&foreign(77, 1, "theirs")));
    story.answers(&asked[1], holds(&foreign(77, 2, "too")));
    assert_eq!(story.node.status().damaged, 0);
    story.world.disk.break_reads(None);
    let got = story.asks(read_one("k")).got();
    assert_eq!(values_of(&got.record), ["hinted", "theirs", "too"]);
    assert_eq!(count(&story, Probe::Mended), 1);
}

#[test]
fn the_only_copy_of_a_key_is_refused_until_it_is_written_again() {
    let story = Story::at_only_home();
    story.asks(write(put("k", "old", 1))).done();
    let old = story.asks(read_one("k")).got().context;
    let story = story.with_a_cold_cache();
    rot(&story);

    let refused = story.asks(read_one("k")).failure();
    assert_eq!((refused.reason.clone(), refused.outcome), (Reason::Damaged, Outcome::NotApplied));
    assert!(refused.to_string().contains("write its key again"), "{refused}");
    assert!(!refused.reason.retryable(), "asking again does not help");
    story.asks(read_one("k")).failure();
    assert_eq!(story.node.status().damaged, 1);
    assert_eq!((count(&story, Probe::Damaged), count(&story, Probe::OnlyCopyDamaged)), (1, 1), "said once");
    story.world.disk.damage_pages(true);
    let listed = story.asks(Request::List(everything())).failure();
    assert_eq!(listed.reason, Reason::Damaged, "a list does not leave it out in silence");
    story.world.disk.damage_pages(false);
    story.pass_ms(2 * MEND_RETRY_MS);
    assert_eq!(count(&story, Probe::Mended), 0, "an empty row in its place would be a lie");
    let condition = Put { expect: Some(Expect::Absent), ..put("k", "first", 2) };
    assert_eq!(story.asks(write(condition)).failure().reason, Reason::Damaged, "nobody knows what is there");

    let put = story.asks(write(Put { context: Some(old), ..put("k", "new", 3) })).done();
    assert_eq!(put.siblings, 1);
    assert_eq!((story.node.status().damaged, count(&story, Probe::Mended)), (0, 1));
    story.world.disk.break_reads(None);
    let story = story.with_a_cold_cache();
    assert_eq!(values_of(&story.asks(read_one("k")).got().record), ["new"]);
}

#[test]
fn an_unproven_or_silent_home_leaves_a_damaged_row_refused() {
    let story = with_an_old_value().with_a_cold_cache();
    rot(&story);
    story.asks(read_one("k"));
    let asked = reads_of_mending(&story);
    let mending: Vec<&Said> =
        asked.iter().filter(|said| said.correlation == asked.last().unwrap().correlation).collect();
    story.answers(mending[0], holds(&foreign(77, 1, "theirs")));
    story.answers(mending[1], unproven_nothing());
    assert_eq!(story.node.status().damaged, 1);
    story.pass_ms(MEND_RETRY_MS);
    let again = reads_of_mending(&story);
    assert!(again.len() >= 2, "it asks again after a pause");
    story.peer_says(story.list[1], 9, 500_000, Body::Read { key: key("k") });
    assert!(story.heard_words().contains(&(story.list[1], "refused")));
}

/// Whatever a scan lacks may be there all the same: nobody may believe to have everything that this home has.
#[test]
fn a_page_with_a_damaged_place_is_told_and_proves_nothing() {
    let story = with_an_old_value();
    story.world.disk.damage_pages(true);
    let life = gramme_wire::Life { number: 1, standing: Standing::Unproven };
    let seen = gramme_core::Seen::new();
    story.peer_says(story.list[1], 5, 500_000, Body::Pull { life, seen, of: PullOf::Home, full: true });
    match &story.heard()[0].body {
        Body::PullReply(PullPage { unreadable, pulled, .. }) => {
            assert_eq!((*unreadable, pulled.len()), (1, 1))
        }
        other => panic!("a page was expected: {other:?}"),
    }
    assert_eq!(story.node.status().damaged_partitions, 1);
    assert_eq!(count(&story, Probe::PageDamaged), 1);
    story.world.disk.damage_pages(false);
    story.asks(Request::Verify(None));
    story.pass_ms(5000);
    assert_eq!(story.node.status().damaged_partitions, 0, "all of it could be read");
}

#[test]
fn a_row_that_can_be_read_after_all_is_left_as_it_is() {
    let story = with_an_old_value().with_a_cold_cache();
    rot(&story);
    story.peer_says(story.list[1], 5, 500_000, Body::Read { key: key("k") });
    story.world.disk.break_reads(None);
    for _ in 0..2 {
        let asked = reads_of_mending(&story);
        asked.iter().for_each(|said| story.answers(said, holds(&foreign(77, 1, "theirs"))));
    }
    assert_eq!(story.node.status().damaged, 0);
    assert_eq!(values_of(&story.asks(read_one("k")).got().record), ["old"]);
    assert_eq!(count(&story, Probe::Mended), 0);
}

#[test]
fn the_rows_that_a_damaged_page_hides_are_found_by_the_keys_of_the_other_homes() {
    let story = with_an_old_value();
    story.world.disk.damage_pages(true);
    let life = gramme_wire::Life { number: 1, standing: Standing::Unproven };
    let pull = Body::Pull { life, seen: gramme_core::Seen::new(), of: PullOf::Home, full: true };
    story.peer_says(story.list[1], 5, 500_000, pull);
    story.heard();
    assert_eq!((story.node.status().damaged_partitions, story.node.status().damaged), (1, 0));
    rot(&story);
    let mut asked = Vec::new();
    for _ in 0..3 * NAMES_MS / 1000 {
        story.pass_ms(1000);
        for said in story.heard().into_iter().filter(|said| word(&said.body) == "copy") {
            asked.push(said.to);
            let entries =
                vec![Entry { key: key("k").joined().clone(), record: encode_record(&foreign(77, 1, "v")) }];
            let (frontier, seen) = (Frontier::none(), 0);
            let standing = Standing::Continuous;
            story.answers(&said, Body::CopyReply { standing, entries, more: false, frontier, seen });
        }
    }
    assert_eq!(asked, story.list[1..3], "each other home is asked once");
    assert_eq!(story.node.status().damaged, 1, "and the row is known by name, to be mended");
}
