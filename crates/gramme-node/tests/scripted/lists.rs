//! Pages of keys: each key once, none left out.

use crate::world::*;
use bytes::Bytes;
use gramme_core::Frontier;
use gramme_core::codec::encode_record;
use gramme_node::request::{ListPage, Listed, Request};
use gramme_wire::{Body, Entry, Reason, Standing};

fn entry(name: &'static str, n: u64) -> Entry {
    Entry { key: Bytes::from_static(name.as_bytes()), record: encode_record(&foreign(77, n, name)) }
}

fn reply(names: &[(&'static str, u64)], more: bool) -> Body {
    let entries = names.iter().map(|&(name, n)| entry(name, n)).collect();
    Body::ListReply { standing: Standing::Continuous, entries, more, frontier: Frontier::none() }
}

fn keys(listed: &Listed) -> Vec<String> {
    listed.entries.iter().map(|entry| String::from_utf8_lossy(&entry.0).into_owned()).collect()
}

#[test]
fn a_page_that_one_replica_cut_short_ends_there_for_all() {
    let story = Story::at_fallback();
    let list = story.asks(Request::List(page()));
    let asked = story.heard();
    story.answers(&asked[0], reply(&[("a", 1), ("c", 3)], true));
    story.answers(&asked[1], reply(&[("b", 2), ("d", 4), ("e", 5)], false));
    let first = list.listed();
    assert_eq!(keys(&first), ["a", "b", "c"]);
    assert_eq!(first.next_after.as_deref(), Some(&b"c"[..]));
    let list = story.asks(Request::List(ListPage { after: first.next_after, ..page() }));
    let asked = story.heard();
    story.answers(&asked[0], reply(&[("d", 4), ("e", 5)], false));
    story.answers(&asked[1], reply(&[("d", 4), ("e", 5)], false));
    let second = list.listed();
    assert_eq!(keys(&second), ["d", "e"]);
    assert_eq!(second.next_after, None);
}

#[test]
fn a_page_holds_no_more_keys_than_were_asked_for() {
    let story = Story::at_fallback();
    let list = story.asks(Request::List(ListPage { keys_max: 3, ..page() }));
    let asked = story.heard();
    story.answers(&asked[0], reply(&[("a", 1), ("c", 3), ("e", 5)], true));
    story.answers(&asked[1], reply(&[("b", 2), ("d", 4)], false));
    let listed = list.listed();
    assert_eq!(keys(&listed), ["a", "b", "c"]);
    assert_eq!(listed.next_after.as_deref(), Some(&b"c"[..]), "the next page goes on there");
}

#[test]
fn a_home_that_is_silent_does_not_fail_a_list() {
    let story = Story::at_fallback();
    let list = story.asks(Request::List(page()));
    let asked = story.heard();
    story.answers(&asked[0], reply(&[("a", 1)], false));
    story.pass_ms(151);
    let further = story.heard();
    assert_eq!(further.len(), 1, "the third home is asked");
    story.answers(&further[0], reply(&[("a", 1)], false));
    assert_eq!(keys(&list.listed()), ["a"]);
}

#[test]
fn a_list_shows_nothing_that_a_crash_could_take_back() {
    let story = Story::at_home();
    story.world.disk.hold_commits(true);
    story.asks(write(put("k", "v", 1)));
    story.heard();
    let list = story.asks(Request::List(ListPage { r: Some(gramme_core::bucket::Level::One), ..page() }));
    assert!(list.is_open(), "the row is in the engine and not yet durable");
    story.world.disk.hold_commits(false);
    story.world.run();
    assert_eq!(keys(&list.listed()), ["k"]);
}

#[test]
fn a_bucket_that_cannot_be_is_refused_by_name() {
    let story = Story::at_home();
    let failure = story.asks(Request::List(ListPage { bucket: "x".repeat(257), ..page() })).failure();
    assert!(matches!(failure.reason, Reason::Invalid(_)), "{failure}");
}
