//! Tokens that clients hold (U3): anything but a sound token of this key and cluster is refused, and never
//! taken for "nothing seen", which would turn an update into a blind write.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Replica, cases, dot, key, sibling, values};
use gramme_core::context::BadContext;
use gramme_core::limits::{CONTEXT_INTERVALS_MAX, SIBLINGS_MAX};
use gramme_core::{Clock, Context, NodeId, Record};
use proptest::prelude::*;

const SECRET: [u8; 16] = *b"a cluster secret";

/// A context of a reader of two siblings, with a preferred coordinator.
fn context() -> Context {
    let record = Record::new()
        .put(&Context::blind(), sibling(dot(0xAB, 300), 1, "a"))
        .put(&Context::blind(), sibling(dot(0xCD, 2), 2, "b"));
    Context::of(&record, Some(NodeId(9)))
}

fn read(token: &str) -> Result<Context, BadContext> {
    Context::from_token(token, &key("k"), &SECRET)
}

#[test]
fn a_token_comes_back_as_the_context_that_it_was() {
    let token = context().to_token(&key("k"), &SECRET);
    assert_eq!(read(&token), Ok(context()));
    assert_eq!(read(&format!(" {token}\r\n")), Ok(context()), "a header's blanks are no part of it");
    let url_safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    assert!(token.bytes().all(url_safe), "{token}");
    let blind = Context::blind().to_token(&key("k"), &SECRET);
    assert_eq!(read(&blind), Ok(Context::blind()));
}

#[test]
fn a_token_of_another_key_is_refused_as_such() {
    let token = context().to_token(&key("other"), &SECRET);
    assert_eq!(read(&token), Err(BadContext::OtherKey));
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let token = context().to_token(&key("k"), b"a foreign secret");
    assert_eq!(read(&token), Err(BadContext::Garbled));
}

#[test]
fn a_token_with_any_bit_flipped_is_refused() {
    let bytes = URL_SAFE_NO_PAD.decode(context().to_token(&key("k"), &SECRET)).expect("base64");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 8 { BadContext::Version } else { BadContext::Garbled };
        assert_eq!(read(&URL_SAFE_NO_PAD.encode(flipped)), Err(expected), "bit {bit}");
    }
}

#[test]
fn a_token_with_any_character_changed_is_refused() {
    let token = context().to_token(&key("k"), &SECRET);
    for at in 0..token.len() {
        for other in "A_-=+/ é\0".chars().filter(|&c| !token[at..].starts_with(c)) {
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            if changed.trim() != token {
                assert!(read(&changed).is_err(), "{changed:?}");
            }
        }
    }
}

#[test]
fn a_token_cut_at_any_length_or_grown_is_refused() {
    let token = context().to_token(&key("k"), &SECRET);
    for len in 0..token.len() {
        assert!(read(&token[..len]).is_err(), "cut to {len}");
    }
    for more in ["A", "AA", "AAA", "AAAA"] {
        assert!(read(&format!("{token}{more}")).is_err(), "grown by {more}");
    }
    assert_eq!(read(""), Err(BadContext::Garbled), "an empty token is not an empty context");
}

#[test]
fn a_token_of_a_future_release_is_refused_as_such() {
    for version in [0, 2, 255] {
        let mut bytes = URL_SAFE_NO_PAD.decode(context().to_token(&key("k"), &SECRET)).expect("base64");
        bytes[0] = version;
        assert_eq!(read(&URL_SAFE_NO_PAD.encode(bytes)), Err(BadContext::Version));
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    for bad in [BadContext::Garbled, BadContext::Version, BadContext::OtherKey] {
        assert!(bad.to_string().contains("use the"), "{bad}");
    }
}

#[test]
fn a_clock_of_many_lives_still_gives_a_context_that_is_taken_back() {
    // Every rolling restart gives each home a new life. A key that was written in hundreds of them must stay
    // writable by who has read it.
    let mut home = Replica::new(1);
    home.put(&Context::blind(), "0");
    for life in 0..400 {
        home.restart();
        let seen = home.read();
        home.put(&seen, &life.to_string());
    }
    assert!(home.record.clock.intervals().len() > CONTEXT_INTERVALS_MAX, "the case is what it says");
    let token = home.read().to_token(&key("k"), &SECRET);
    let seen = read(&token).expect("a context that a cluster made");
    home.put(&seen, "last");
    assert_eq!(home.values(), ["last"]);
    let chained = home.put(&Context { clock: home.record.clock.clone(), ..seen }, "chained");
    let token = chained.to_token(&key("k"), &SECRET);
    let chained = read(&token).expect("a context that a cluster made");
    home.put(&chained, "end of the chain");
    assert_eq!(home.values(), ["end of the chain"]);
}

#[test]
fn what_a_shortened_context_leaves_behind_joins_away() {
    let (mut home, mut lagging) = (Replica::new(1), Replica::new(500_000));
    home.put(&Context::blind(), "old");
    lagging.receive(&home.record);
    for life in 0..400 {
        home.restart();
        let seen = home.read();
        home.put(&seen, &life.to_string());
    }
    let seen = home.read();
    assert!(!seen.clock.covers(dot(1, 1)), "the context had to forget the first life");
    lagging.put(&seen, "new");
    assert_eq!(lagging.values(), ["new", "old"], "so the lagging coordinator keeps what it does not name");
    lagging.receive(&home.record);
    assert_eq!(lagging.values(), ["new"], "and the record that overwrote it settles that");
}

#[test]
fn the_most_siblings_that_a_coordinator_lets_grow_fit_one_context() {
    let mut home = Replica::new(1);
    for _ in 0..SIBLINGS_MAX {
        home.restart();
        home.put(&Context::blind(), "blind");
    }
    let seen = read(&home.read().to_token(&key("k"), &SECRET)).expect("taken back");
    home.put(&seen, "merged");
    assert_eq!(home.values(), ["merged"]);
}

#[test]
fn a_context_never_covers_more_than_its_clock() {
    let clock = Clock::from_intervals((1..=300).map(|i| gramme_core::Interval {
        incarnation: gramme_core::Incarnation(i),
        lo: 4,
        hi: 9,
    }));
    let kept = clock.runs_holding([dot(7, 5), dot(9, 9), dot(9, 4), dot(301, 1)]);
    assert_eq!(kept.intervals().len(), 2);
    assert!(clock.contains(&kept) && kept.covers(dot(7, 5)) && kept.covers(dot(9, 9)));
    assert_eq!(values(&Record::new()), [""; 0]);
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn arbitrary_text_is_no_token(text in "\\PC{0,80}") {
        prop_assert!(read(&text).is_err());
    }

    #[test]
    fn arbitrary_bytes_under_the_right_signature_are_a_context_or_refused(body in proptest::collection::vec(any::<u8>(), 0..120)) {
        // Whoever signs garbage, as a release with a bug might: an answer, no panic, no large allocation.
        use core::hash::Hasher;
        let mut signed = vec![1];
        signed.extend_from_slice(&body);
        let mut sip = siphasher::sip::SipHasher24::new_with_key(&SECRET);
        sip.write(&signed);
        signed.extend_from_slice(&sip.finish().to_le_bytes());
        let _ = read(&URL_SAFE_NO_PAD.encode(signed));
    }
}
