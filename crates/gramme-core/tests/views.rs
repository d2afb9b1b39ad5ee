//! What a reader is shown, as a table: bucket mode by what a record holds.

mod common;

use common::{dot, sibling, tombstone};
use gramme_core::bucket::Mode;
use gramme_core::{Context, Record, Sibling, Stamp, View};

const NOW: u64 = 1_800_000_000_000;

fn at(ms: u64, sibling: Sibling) -> Sibling {
    Sibling { stamp: Stamp::from_ms(NOW + ms - 1000), ..sibling }
}

fn record(siblings: &[Sibling]) -> Record {
    siblings.iter().fold(Record::new(), |record, s| record.put(&Context::blind(), s.clone()))
}

fn shown(record: &Record, mode: Mode) -> String {
    match record.view(mode, NOW) {
        View::Missing => "missing".into(),
        View::Deleted => "deleted".into(),
        View::One(one) => format!("event {}", one.dot.n),
        View::Siblings(all) => {
            let numbers: Vec<String> = all.iter().map(|s| s.dot.n.to_string()).collect();
            format!("events {}", numbers.join(" "))
        }
    }
}

#[test]
fn the_table() {
    let early = at(1, sibling(dot(1, 1), 1, "early"));
    let late = at(3, sibling(dot(1, 2), 2, "late"));
    let delete = at(2, tombstone(dot(1, 3), 3));
    let last_delete = at(4, tombstone(dot(1, 4), 4));
    let expired = Sibling { ttl_ms: 1, ..at(5, sibling(dot(1, 5), 5, "expired")) };
    for (siblings, in_siblings, in_lww) in [
        (vec![], "missing", "missing"),
        (vec![&early], "event 1", "event 1"),
        (vec![&delete], "deleted", "deleted"),
        (vec![&expired], "deleted", "deleted"),
        (vec![&early, &late], "events 1 2", "event 2"),
        (vec![&early, &delete], "event 1", "deleted"),
        (vec![&early, &late, &delete], "events 1 2", "event 2"),
        (vec![&late, &last_delete], "event 2", "deleted"),
        (vec![&late, &expired], "event 2", "deleted"),
        (vec![&delete, &last_delete], "deleted", "deleted"),
    ] {
        let record = record(&siblings.into_iter().cloned().collect::<Vec<_>>());
        assert_eq!(shown(&record, Mode::Siblings), in_siblings, "siblings: {record:?}");
        assert_eq!(shown(&record, Mode::Lww), in_lww, "lww: {record:?}");
    }
}

#[test]
fn the_empty_value_is_a_value() {
    let empty = record(&[sibling(dot(1, 1), 1, "")]);
    assert_eq!(shown(&empty, Mode::Siblings), "event 1");
    assert!(empty.siblings()[0].verifies());
}

#[test]
fn a_record_without_its_values_decides_alike_and_is_told_from_a_sound_one() {
    let full = record(&[sibling(dot(1, 1), 1, "value"), tombstone(dot(1, 2), 2)]);
    let bare = full.without_values();
    assert_eq!(shown(&bare, Mode::Siblings), shown(&full, Mode::Siblings));
    assert_eq!((bare.tag(), bare.content_bytes()), (full.tag(), 0));
    assert!(!bare.siblings()[0].verifies());
}

#[test]
fn a_tag_changes_with_the_siblings_and_only_with_them() {
    let one = record(&[sibling(dot(1, 1), 1, "v")]);
    let two = record(&[sibling(dot(1, 1), 1, "v"), sibling(dot(1, 2), 2, "v")]);
    assert_ne!(one.tag(), two.tag());
    assert_ne!(one.tag(), Record::new().tag());
    let mut knows_more = one.clone();
    knows_more.clock.add_dot(dot(9, 9));
    assert_eq!(knows_more.tag(), one.tag());
}
