//! Values to bytes and back: identity for what we wrote, a plain refusal for everything else (U13).

mod common;

use bytes::Bytes;
use common::{cases, dot, sibling};
use gramme_core::codec::{
    BadBytes, Reader, Writer, checksum32, decode_record, encode_record, read_clock, write_clock,
};
use gramme_core::limits::{CLOCK_INTERVALS_MAX, META_ENTRIES_MAX, SPENT_MAX};
use gramme_core::record::{Spent, checksum};
use gramme_core::{
    Clock, Content, Context, Incarnation, Interval, NodeId, Record, RequestId, Sibling, Stamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn siblings() -> impl Strategy<Value = Vec<Sibling>> {
    let content = prop_oneof![3 => bytes(40).prop_map(Content::Value), 1 => Just(Content::Tombstone)];
    let number = prop_oneof![1..300u64, any::<u64>().prop_map(|n| n.max(1))];
    let one = (
        (any::<u64>(), number),
        (content, any::<u64>(), any::<u128>(), any::<u64>(), prop_oneof![Just(0), any::<u64>()]),
        (bytes(12), vec((bytes(6), bytes(6)), 0..4)),
    );
    let one =
        one.prop_map(|((i, n), (content, stamp, request, author, ttl_ms), (content_type, meta))| Sibling {
            dot: dot(i, n),
            checksum: checksum(&content),
            content,
            stamp: Stamp(stamp),
            request: RequestId(request),
            author: NodeId(author),
            ttl_ms,
            content_type,
            meta,
        });
    vec(one, 0..6).prop_map(|mut all| {
        all.sort_by_key(|s| s.dot);
        all.dedup_by_key(|s| s.dot);
        all
    })
}

fn intervals() -> impl Strategy<Value = Vec<Interval>> {
    let run = (any::<u64>(), any::<u64>(), 1..1000u64);
    vec(
        run.prop_map(|(i, lo, len)| Interval { incarnation: Incarnation(i), lo, hi: lo.saturating_add(len) }),
        0..5,
    )
}

fn records() -> impl Strategy<Value = Record> {
    let spent = (any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>());
    let spent = spent.prop_map(|(request, checksum, stamp, turn, shown)| Spent {
        request: RequestId(request),
        checksum,
        stamp: Stamp(stamp),
        turn,
        shown,
    });
    (siblings(), intervals(), vec(spent, 0..2 * SPENT_MAX + 2)).prop_map(|(siblings, intervals, spent)| {
        let mut clock = Clock::from_intervals(intervals);
        siblings.iter().for_each(|s| clock.add_dot(s.dot));
        Record::from_parts(clock, siblings, spent).expect("sound parts")
    })
}

/// A body with the checksum that makes a decoder look at it.
fn sealed(mut body: Vec<u8>) -> Bytes {
    let sum = checksum32(&body);
    body.extend_from_slice(&sum.to_le_bytes());
    body.into()
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_record_survives_its_bytes(record in records()) {
        let bytes = encode_record(&record);
        let back = decode_record(&bytes);
        prop_assert_eq!(back.as_ref(), Ok(&record));
        prop_assert_eq!(encode_record(&back.expect("decoded")), bytes);
    }

    #[test]
    fn values_are_slices_of_the_buffer_and_not_copies(record in records()) {
        let bytes = encode_record(&record);
        let range = bytes.as_ptr_range();
        for sibling in decode_record(&bytes).expect("own bytes").siblings() {
            if let Content::Value(value) = &sibling.content {
                prop_assert!(value.is_empty() || range.contains(&value.as_ptr()));
            }
        }
    }

    #[test]
    fn a_record_cut_short_or_altered_is_refused(record in records(), at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let bytes = encode_record(&record);
        let at = at.index(bytes.len());
        prop_assert!(decode_record(&bytes.slice(..at)).is_err());
        let mut altered = bytes.to_vec();
        altered[at] ^= 1 << bit;
        prop_assert_eq!(decode_record(&altered.into()), Err(BadBytes::Checksum));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..200)) {
        let _ = decode_record(&Bytes::from(body.clone()));
        let sound = [vec![1], body].concat();
        if let Ok(record) = decode_record(&sealed(sound)) {
            prop_assert!(record.siblings().iter().all(|s| record.clock.covers(s.dot)));
        }
    }

    /// Sound records with a few bytes replaced and the checksum made right again: what a release with a bug,
    /// and no bit flip, would write.
    #[test]
    fn nearly_sound_records_are_read_or_refused_but_never_panic(
        record in records(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = encode_record(&record).to_vec();
        body.truncate(body.len() - 4);
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(read) = decode_record(&sealed(body)) {
            prop_assert!(read.siblings().iter().all(|s| read.clock.covers(s.dot) && s.dot.n > 0));
            prop_assert_eq!(decode_record(&encode_record(&read)), Ok(read.clone()));
            prop_assert_eq!(&read.join(&read), &read, "what was read obeys the laws");
        }
    }

    #[test]
    fn numbers_survive_their_varints(number in prop_oneof![any::<u64>(), 0..300u64, (0..64u32).prop_map(|b| 1 << b)]) {
        let mut w = Writer::new();
        w.varint(number);
        prop_assert!(w.len() <= 10);
        let mut r = Reader::new(w.as_slice());
        prop_assert_eq!(r.varint(), Ok(number));
        prop_assert_eq!(r.end(), Ok(()));
        for len in 0..w.len() {
            prop_assert!(Reader::new(&w.as_slice()[..len]).varint().is_err());
        }
    }
}

#[test]
fn a_varint_of_more_than_64_bits_is_refused() {
    assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(BadBytes::Malformed));
    let mut too_much = [0xff; 10];
    too_much[9] = 2;
    assert_eq!(Reader::new(&too_much).varint(), Err(BadBytes::Malformed));
    too_much[9] = 1;
    assert_eq!(Reader::new(&too_much).varint(), Ok(u64::MAX));
}

#[test]
fn a_count_beyond_the_input_is_refused_before_anything_is_allocated_for_it() {
    for count in [u64::MAX, 1 << 60, 1 << 32, CLOCK_INTERVALS_MAX as u64 + 1, 1000] {
        let mut clock = Writer::new();
        clock.u8(1);
        clock.varint(count);
        assert_eq!(decode_record(&sealed(clock.into_vec())), Err(BadBytes::Malformed), "{count} intervals");
        let mut siblings = Writer::new();
        siblings.u8(1);
        siblings.varint(0);
        siblings.varint(count);
        assert_eq!(decode_record(&sealed(siblings.into_vec())), Err(BadBytes::Malformed), "{count} siblings");
        let mut spent = Writer::new();
        spent.u8(1);
        spent.varint(0);
        spent.varint(0);
        spent.varint(count);
        assert_eq!(decode_record(&sealed(spent.into_vec())), Err(BadBytes::Malformed), "{count} spent");
    }
}

#[test]
fn a_clock_whose_count_says_more_than_follows_is_refused_and_not_cut() {
    let mut w = Writer::new();
    w.varint(3);
    for incarnation in 1..=2 {
        w.u64(incarnation);
        w.varint(4);
        w.varint(1);
    }
    assert_eq!(read_clock(&mut Reader::new(w.as_slice())), Err(BadBytes::Malformed));
    let mut clock = Clock::of(dot(1, 5));
    clock.add_dot(dot(2, 5));
    let mut w = Writer::new();
    write_clock(&mut w, &clock);
    let mut r = Reader::new(w.as_slice());
    assert_eq!((read_clock(&mut r), r.end()), (Ok(clock), Ok(())));
}

#[test]
fn a_clock_with_an_empty_run_is_refused() {
    let mut w = Writer::new();
    w.varint(1);
    w.u64(1);
    w.varint(7);
    w.varint(0);
    assert_eq!(read_clock(&mut Reader::new(w.as_slice())), Err(BadBytes::Malformed));
}

#[test]
fn what_cannot_be_a_record_is_refused_though_its_checksum_is_right() {
    let sound = |sibling: Sibling| Record::new().put(&Context::blind(), sibling);
    let body = |record: &Record| {
        let mut body = encode_record(record).to_vec();
        body.truncate(body.len() - 4);
        body
    };
    let refused = |body: Vec<u8>, why: &str| assert!(decode_record(&sealed(body)).is_err(), "{why}");
    let plain = sound(sibling(dot(1, 1), 1, "v"));
    refused([body(&plain), vec![0]].concat(), "bytes after the end");
    let mut newer = body(&plain);
    newer[0] = 4;
    assert_eq!(decode_record(&sealed(newer)), Err(BadBytes::Version(4)));

    let many =
        |n: usize| Sibling { meta: vec![(Bytes::new(), Bytes::new()); n], ..sibling(dot(1, 1), 1, "v") };
    assert!(decode_record(&encode_record(&sound(many(META_ENTRIES_MAX)))).is_ok());
    refused(body(&sound(many(META_ENTRIES_MAX + 1))), "more metadata than allowed");

    // One sibling, of event (1, 1), and a clock that does not hold it, holds an empty run, or overflows.
    let one_sibling = body(&plain)[11..].to_vec();
    for (lo, len, why) in [
        (7, 1, "a sibling outside its clock"),
        (1, 0, "an empty run"),
        (u64::MAX, 1, "a run past the last number"),
    ] {
        let mut w = Writer::new();
        w.u8(1);
        w.varint(1);
        w.u64(1);
        w.varint(lo);
        w.varint(len);
        let body = [w.into_vec(), one_sibling[..].to_vec()].concat();
        refused(body, why);
    }
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let record = encode_record(&Record::new());
    assert_eq!(decode_record(&record), Ok(Record::new()));
    assert_eq!(decode_record(&Bytes::new()), Err(BadBytes::Malformed));
    assert!(BadBytes::Version(9).to_string().contains('9'));
    assert!(BadBytes::Checksum.to_string().contains("checksum"));
}

#[test]
fn siblings_out_of_order_or_twice_are_refused() {
    // A joined record finds siblings by their order; one dot twice would be two writes of one name.
    let bytes_of = |s: &Sibling| {
        let alone = encode_record(&Record::new().put(&Context::blind(), s.clone()));
        alone[13..alone.len() - 5].to_vec()
    };
    let (first, second) = (bytes_of(&sibling(dot(1, 1), 1, "v")), bytes_of(&sibling(dot(1, 2), 2, "w")));
    let of = |siblings: [&[u8]; 2]| {
        let mut w = Writer::new();
        w.u8(1);
        write_clock(&mut w, &Clock::from_intervals([Interval { incarnation: Incarnation(1), lo: 0, hi: 2 }]));
        w.varint(2);
        siblings.iter().for_each(|bytes| w.raw(bytes));
        w.varint(0);
        decode_record(&sealed(w.into_vec()))
    };
    assert_eq!(of([&first, &second]).map(|record| record.siblings().len()), Ok(2));
    assert_eq!(of([&second, &first]), Err(BadBytes::Malformed));
    assert_eq!(of([&first, &first]), Err(BadBytes::Malformed));
}
