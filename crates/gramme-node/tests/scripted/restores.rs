//! A record of a backup on its way to its homes, and to those who take a silent home's place.

use crate::world::*;
use gramme_core::codec::encode_record;
use gramme_node::request::{Request, Response, Restore};
use gramme_wire::{Acks, Body};

fn restore() -> Request {
    let record = encode_record(&foreign(77, 1, "old"));
    Request::Restore(Box::new(Restore { key: key("k"), record }))
}

fn restored(pending: &Pending) -> Acks {
    match pending.response() {
        Response::Restored(acks) => acks,
        other => panic!("it should be restored: {other:?}"),
    }
}

#[test]
fn a_record_of_a_backup_goes_to_all_homes_at_once() {
    let story = Story::at_home();
    let pending = story.asks(restore());
    let said = story.heard();
    let to: Vec<_> = said.iter().map(|said| (said.to, word(&said.body))).collect();
    assert_eq!(to, [(story.list[1], "merge"), (story.list[2], "merge")]);
    assert!(pending.is_open(), "this home alone is not enough");
    story.answers(&said[0], Body::MergeReply);
    assert_eq!(restored(&pending), Acks { homes: 2, fallbacks: 0 });
    assert_eq!(values_of(&story.shows("k").1), ["old"]);
}

#[test]
fn a_silent_home_is_replaced_as_in_a_put() {
    let story = Story::at_home();
    let pending = story.asks(restore());
    story.heard();
    story.pass_ms(500);
    let hints: Vec<Said> = story.heard().into_iter().filter(|said| word(&said.body) == "hint").collect();
    assert!(hints.len() >= 2, "both homes are silent: {hints:?}");
    assert!(pending.is_open());
    story.answers(&hints[0], Body::MergeReply);
    assert_eq!(restored(&pending), Acks { homes: 1, fallbacks: 1 });
}
