//! Ids, keys and dots: what a name may look like, and that no write ever bears another's (U5).

mod common;

use bytes::Bytes;
use common::{Replica, cases, values};
use gramme_core::id::BadKey;
use gramme_core::limits::{BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX};
use gramme_core::{ClusterId, Context, Incarnation, Key, NodeId, Record, RequestId};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn an_id_is_its_hexadecimal_digits_and_nothing_else() {
    assert_eq!("00000000000000ff".parse(), Ok(NodeId(255)));
    assert_eq!("00000000000000FF".parse(), Ok(NodeId(255)));
    assert_eq!(NodeId(255).to_string(), "00000000000000ff");
    assert_eq!(ClusterId(1).to_string().parse(), Ok(ClusterId(1)));
    for text in [
        "",
        "ff",
        "+0000000000000ff",
        "-0000000000000ff",
        "0x000000000000ff",
        "00000000000000fg",
        "00000000000000 f",
        "00000000000000é",
    ] {
        assert!(text.parse::<NodeId>().is_err(), "{text:?}");
    }
    let why = "ff".parse::<RequestId>().expect_err("too short").to_string();
    assert_eq!(why, "a RequestId is written as 32 hexadecimal digits");
}

#[test]
fn a_key_is_any_1_to_1024_bytes_in_a_bucket_with_a_plain_name() {
    let zeros = [0; KEY_BYTES_MAX];
    let key = Key::new("b", &zeros).expect("a key may be 1 KiB of zero bytes");
    assert_eq!((key.bucket(), key.key()), ("b", &zeros[..]));
    assert_eq!(Key::new("b", b""), Err(BadKey::Empty));
    assert_eq!(Key::new("b", &[0; KEY_BYTES_MAX + 1]), Err(BadKey::TooLong(KEY_BYTES_MAX + 1)));
    let longest = "x".repeat(BUCKET_NAME_BYTES_MAX);
    for bucket in ["a", "A-z_0.9", &longest] {
        assert!(Key::new(bucket, b"k").is_ok(), "{bucket}");
    }
    for bucket in ["", ".", ".hidden", "a/b", "a b", "é", &format!("{longest}x")] {
        assert_eq!(Key::new(bucket, b"k"), Err(BadKey::BucketName), "{bucket:?}");
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_key_survives_its_bytes_and_two_keys_never_share_them(
        a in ("[a-c.]{1,3}", proptest::collection::vec(any::<u8>(), 1..4)),
        b in ("[a-c.]{1,3}", proptest::collection::vec(any::<u8>(), 1..4)),
    ) {
        let (Ok(left), Ok(right)) = (Key::new(&a.0, &a.1), Key::new(&b.0, &b.1)) else { return Ok(()) };
        prop_assert_eq!(left.as_bytes() == right.as_bytes(), a == b);
        let back = Key::from_joined(left.joined().clone()).expect("own bytes");
        prop_assert_eq!((back.bucket(), back.key()), (a.0.as_str(), &a.1[..]));
        prop_assert_eq!(left.detached(), left);
    }

    #[test]
    fn arbitrary_bytes_are_a_key_with_those_bytes_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(key) = Key::from_joined(Bytes::from(bytes.clone())) {
            prop_assert_eq!(key.as_bytes(), &bytes[..]);
            prop_assert_eq!(Key::new(key.bucket(), key.key()), Ok(key.clone()));
        }
    }
}

// U5. A life is an incarnation drawn at random and a counter that starts at 1; everything else that can
// happen to a node (a crash, a clean stop, a restored backup, a cloned disk, a clock set back, many starts at
// once) only decides what the life finds on its disk, and nothing of that enters a dot.

#[test]
fn a_million_lives_share_no_incarnation() {
    let lives: BTreeSet<u64> = (0..1_000_000).map(draw).collect();
    assert_eq!(lives.len(), 1_000_000);
    // The test would notice too few bits: with 22, as an early design had it, lives repeat within thousands.
    let short: BTreeSet<u64> = (0..10_000).map(|life| draw(life) >> 42).collect();
    assert!(short.len() < 10_000);
}

/// What happens to a node between two lives of a replica.
#[derive(Clone, Copy, Debug)]
enum Event {
    Puts(u64),
    /// The store keeps everything, or only what was synced.
    CleanStop,
    Crash,
    Backup,
    Restore,
    /// A second replica starts from a copy of the disk; both go on.
    Clone,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1..4u64).prop_map(Event::Puts),
        1 => Just(Event::CleanStop),
        2 => Just(Event::Crash),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
        1 => Just(Event::Clone),
    ];
    proptest::collection::vec(event, 1..30)
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn no_dot_names_two_writes_whatever_happens_to_the_disk(events in events()) {
        let mut lives = 0;
        let mut start = |record: Record| {
            lives += 1;
            Replica { record, incarnation: draw(lives), n: 0 }
        };
        let mut replicas = vec![start(Record::new())];
        let mut synced = vec![Record::new()];
        let mut backup = Record::new();
        let mut dots = BTreeSet::new();
        for (turn, event) in events.into_iter().enumerate() {
            let at = turn % replicas.len();
            match event {
                Event::Puts(puts) => for _ in 0..puts {
                    replicas[at].put(&Context::blind(), "v");
                    let dot = (replicas[at].incarnation, replicas[at].n);
                    prop_assert!(dots.insert(dot), "{:?} names two writes", dot);
                },
                Event::CleanStop => {
                    synced[at] = replicas[at].record.clone();
                    replicas[at] = start(synced[at].clone());
                }
                Event::Crash => replicas[at] = start(synced[at].clone()),
                Event::Backup => backup = replicas[at].record.clone(),
                Event::Restore => {
                    synced[at] = backup.clone();
                    replicas[at] = start(backup.clone());
                }
                Event::Clone => {
                    let copy = replicas[at].record.clone();
                    replicas.push(start(copy.clone()));
                    synced.push(copy);
                }
            }
        }
        // Nor do all the records together, as far as siblings survive, confuse two of them.
        let all = common::joined(replicas.iter().map(|r| &r.record));
        prop_assert!(all.siblings().iter().all(|s| dots.contains(&(s.dot.incarnation.0, s.dot.n))));
    }
}

#[test]
fn a_partition_left_and_taken_back_within_one_process_life() {
    // The replica of a partition is wiped with its counter, then made again: as a new life, or its first put
    // would bear the name of a write that others still have.
    let mut home = Replica::new(1);
    let mut other = Replica::new(2);
    home.put(&Context::blind(), "before");
    other.receive(&home.record);

    let mut same_life = Replica::new(1);
    same_life.put(&Context::blind(), "after");
    let confused = same_life.record.join(&other.record);
    assert_eq!(values(&confused).len(), 1, "with the old incarnation one write is taken for the other");

    let mut new_life = Replica::new(3);
    new_life.put(&Context::blind(), "after");
    new_life.receive(&other.record);
    assert_eq!(new_life.values(), ["after", "before"]);
}

/// The `life`-th incarnation that a node's source of randomness gives.
fn draw(life: u64) -> u64 {
    Incarnation(xxhash_rust::xxh3::xxh3_64(&life.to_le_bytes())).0
}
