//! Bucket settings spread as facts that merge: in any order, by any path, every node ends with the same.

mod common;

use common::cases;
use gramme_core::bucket::{
    BucketFact, BucketSettings, Buckets, Level, Mode, read_bucket_fact, write_bucket_fact,
};
use gramme_core::codec::{BadBytes, Reader, Writer};
use gramme_core::limits::{SIBLINGS_MAX, VALUE_BYTES_MAX};
use gramme_core::{NodeId, Stamp};
use proptest::collection::vec;
use proptest::prelude::*;

fn facts() -> impl Strategy<Value = (String, BucketFact)> {
    let level = prop_oneof![
        Just(Level::One),
        Just(Level::Quorum),
        Just(Level::All),
        (1..=252u8).prop_map(Level::Count)
    ];
    let mode = prop_oneof![Just(Mode::Siblings), Just(Mode::Lww)];
    // Few stamps and authors, so that ties happen.
    (
        ("[ab]", 0..3u64, 1..3u64),
        (level.clone(), level, mode),
        (any::<u64>(), any::<(bool, bool)>(), 1..9u64, 1..9u64),
    )
        .prop_map(
            |((name, stamp, author), (r, w, mode), (ttl_ms, flags, value_bytes_max, siblings_max))| {
                let (require_context, buffered) = flags;
                let settings = BucketSettings {
                    r,
                    w,
                    mode,
                    ttl_ms,
                    require_context,
                    buffered,
                    value_bytes_max,
                    siblings_max,
                };
                (name, BucketFact { settings, stamp: Stamp(stamp), author: NodeId(author) })
            },
        )
}

fn buckets(facts: &[(String, BucketFact)]) -> Buckets {
    let mut buckets = Buckets::new();
    for (name, fact) in facts {
        buckets.merge_one(name, fact.clone());
    }
    buckets
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn maps_of_facts_merge_in_any_order(a in vec(facts(), 0..6), b in vec(facts(), 0..6), c in vec(facts(), 0..6)) {
        let (a, b, c) = (buckets(&a), buckets(&b), buckets(&c));
        let join = |x: &Buckets, y: &Buckets| { let mut both = x.clone(); both.merge(y); both };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(&join(&a, &a), &a);
        prop_assert_eq!(a.clone().merge(&b), join(&a, &b) != a, "says whether anything changed");
        prop_assert_eq!(a.digest() == b.digest(), a == b);
    }

    #[test]
    fn a_fact_survives_its_bytes(fact in facts()) {
        let mut w = Writer::new();
        write_bucket_fact(&mut w, &fact.0, &fact.1);
        let mut r = Reader::new(w.as_slice());
        prop_assert_eq!(read_bucket_fact(&mut r), Ok(fact));
        prop_assert_eq!(r.end(), Ok(()));
        for len in 0..w.len() {
            prop_assert!(read_bucket_fact(&mut Reader::new(&w.as_slice()[..len])).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_are_a_fact_that_is_written_alike_or_refused(bytes in vec(any::<u8>(), 0..60)) {
        let mut r = Reader::new(&bytes);
        if let Ok((name, fact)) = read_bucket_fact(&mut r) {
            let mut w = Writer::new();
            write_bucket_fact(&mut w, &name, &fact);
            prop_assert_eq!(read_bucket_fact(&mut Reader::new(w.as_slice())), Ok((name, fact)));
        }
    }
}

fn fact(settings: BucketSettings, ms: u64, author: u64) -> BucketFact {
    BucketFact { settings, stamp: Stamp::from_ms(ms), author: NodeId(author) }
}

#[test]
fn the_later_fact_wins_and_of_two_at_once_the_greater_author() {
    let plain = BucketSettings::default_of("b");
    let strict = BucketSettings { require_context: true, ..plain.clone() };
    let mut buckets = Buckets::new();
    assert!(buckets.is_empty());
    assert!(buckets.merge_one("b", fact(plain.clone(), 5, 1)));
    assert!(!buckets.merge_one("b", fact(strict.clone(), 4, 9)), "earlier");
    assert!(buckets.merge_one("b", fact(strict.clone(), 5, 2)));
    assert!(!buckets.merge_one("b", fact(plain, 5, 1)));
    assert_eq!(buckets.settings("b"), strict);
    assert_eq!((buckets.len(), buckets.facts().count()), (1, 1));
}

#[test]
fn one_author_that_repeats_a_stamp_does_not_split_the_cluster() {
    let one = fact(BucketSettings::default_of("b"), 5, 1);
    let other = fact(BucketSettings { require_context: true, ..one.settings.clone() }, 5, 1);
    let (mut forth, mut back) = (Buckets::new(), Buckets::new());
    forth.merge_one("b", one.clone());
    forth.merge_one("b", other.clone());
    back.merge_one("b", other);
    back.merge_one("b", one);
    assert_eq!(forth, back);
}

#[test]
fn an_unknown_bucket_keeps_siblings_and_the_one_called_default_shows_the_last_write() {
    let buckets = Buckets::new();
    assert_eq!(buckets.settings("carts").mode, Mode::Siblings);
    assert_eq!(buckets.settings("default").mode, Mode::Lww);
    for bucket in ["carts", "default"] {
        assert_eq!(buckets.settings(bucket).check(3), Ok(()));
        assert_eq!(buckets.settings(bucket).check(1), Ok(()));
    }
}

#[test]
fn settings_outside_their_limits_are_refused_by_name() {
    let good = BucketSettings::default_of("b");
    let refused = |settings: BucketSettings, word: &str| {
        let why = settings.check(3).expect_err("must be refused");
        assert!(why.starts_with(word), "{why}");
    };
    refused(BucketSettings { r: Level::Count(4), ..good.clone() }, "r:");
    refused(BucketSettings { w: Level::Count(253), ..good.clone() }, "w:");
    for value_bytes_max in [0, VALUE_BYTES_MAX as u64 + 1] {
        refused(BucketSettings { value_bytes_max, ..good.clone() }, "value_bytes_max");
    }
    for siblings_max in [0, SIBLINGS_MAX as u64 + 1] {
        refused(BucketSettings { siblings_max, ..good.clone() }, "siblings_max");
    }
}

#[test]
fn a_count_too_large_for_its_byte_stays_too_large() {
    // 253 to 255 stand for one, quorum and all: a count may not turn into one of them on its way.
    for count in 253..=255 {
        let mut w = Writer::new();
        let settings = BucketSettings { r: Level::Count(count), ..BucketSettings::default_of("b") };
        write_bucket_fact(&mut w, "b", &fact(settings, 1, 1));
        let (_, back) = read_bucket_fact(&mut Reader::new(w.as_slice())).expect("readable");
        assert_eq!(back.settings.r, Level::Count(252));
        assert!(back.settings.check(7).is_err());
    }
}

#[test]
fn bytes_that_mean_no_setting_are_refused() {
    let mut w = Writer::new();
    write_bucket_fact(&mut w, "b", &fact(BucketSettings::default_of("b"), 1, 1));
    let sound = w.into_vec();
    // Name (2), stamp (8), author (8), then r, w, mode, ttl, flags.
    for (at, byte, what) in [(18, 0, "r"), (19, 0, "w"), (20, 2, "mode"), (22, 4, "flags"), (1, b'/', "name")]
    {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        assert_eq!(read_bucket_fact(&mut Reader::new(&bytes)), Err(BadBytes::Malformed), "{what}");
    }
}
