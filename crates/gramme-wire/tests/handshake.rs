//! Two nodes meet. Whoever knows the secret of the same cluster gets through, unless it was removed for good, and every
//! other one is told why in a sentence.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use bytes::{Bytes, BytesMut};
use common::{golden, golden_names};
use gramme_core::context::Secret;
use gramme_core::{ClusterId, LayoutHash, NodeId, StoreId};
use gramme_wire::hello::{Broken, Dialer, HELLO_BYTES_MAX, Hello, Met, Negotiated, accept, check_hello};
use gramme_wire::{Frame, FrameReader, Kind, Refusal, WireError};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECRET: Secret = *b"sixteen secrets!";

/// A node that was removed.
const REMOVED: NodeId = NodeId(9);

fn gone() -> BTreeSet<NodeId> {
    BTreeSet::from([REMOVED])
}

fn hello(node: u64) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: 0b11,
        critical: 0,
        cluster: ClusterId(0xc1),
        node: NodeId(node),
        layout: LayoutHash(0x1a),
        store: StoreId(0x50 + node),
        shard: 1,
        shards: 2,
        boot: 0xb0 + node,
        http: format!("127.0.0.1:{}", 8000 + node),
        resp: String::new(),
        nonce: [node as u8; 16],
    }
}

fn one_frame(mut bytes: BytesMut) -> Frame {
    let frame = FrameReader::with_max(HELLO_BYTES_MAX).next(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    frame
}

fn said(say: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    say(&mut out);
    out
}

fn dial(mine: Hello) -> (Dialer, Frame) {
    let mut out = BytesMut::new();
    let dialer = Dialer::start(mine, &mut out);
    (dialer, one_frame(out))
}

/// Both sides after Hello and Welcome.
fn meet(dialing: Hello, accepting: &Hello) -> Result<(Met, Met), Broken> {
    let (dialer, first) = dial(dialing);
    let mut out = BytesMut::new();
    let accepted = accept(accepting, &first, &gone(), &SECRET, &mut out)?;
    let dialed = dialer.take_welcome(&one_frame(out), &gone(), &SECRET)?;
    Ok((dialed, accepted))
}

#[test]
fn two_nodes_meet_and_tell_what_they_remember() {
    let (dialed, accepted) = meet(hello(1), &hello(2)).unwrap();
    assert_eq!(dialed.peer, hello(2));
    assert_eq!(accepted.peer, hello(1));
    assert_eq!(dialed.agreed, Negotiated { protocol: 1, features: 0b11 });

    let proof = one_frame(said(|out| dialed.remember(Some(StoreId(0x77)), out)));
    assert_eq!(accepted.take_remembered(&proof), Ok(Some(StoreId(0x77))));
    let ready = one_frame(said(|out| accepted.remember(None, out)));
    assert_eq!(dialed.take_remembered(&ready), Ok(None));
}

#[test]
fn the_handshake_of_the_first_release_opens_for_ever() {
    let (dialer, first) = dial(hello(1));
    let hello_bytes = said(|out| {
        Dialer::start(hello(1), out);
    });
    let mut welcome = BytesMut::new();
    let accepted = accept(&hello(2), &first, &gone(), &SECRET, &mut welcome).unwrap();
    let dialed = dialer.take_welcome(&one_frame(welcome.clone()), &gone(), &SECRET).unwrap();
    let current = [
        ("hello".to_owned(), hello_bytes.to_vec()),
        ("welcome".to_owned(), welcome.to_vec()),
        ("proof".to_owned(), said(|out| dialed.remember(Some(StoreId(0x52)), out)).to_vec()),
        ("ready".to_owned(), said(|out| accepted.remember(None, out)).to_vec()),
    ];
    let committed = golden("handshake.txt", &current);
    let frame = |at: usize| one_frame(BytesMut::from(&committed[at].1[..]));
    let accepted = accept(&hello(2), &frame(0), &gone(), &SECRET, &mut BytesMut::new()).unwrap();
    let dialed = dial(hello(1)).0.take_welcome(&frame(1), &gone(), &SECRET).unwrap();
    assert_eq!(accepted.take_remembered(&frame(2)), Ok(Some(StoreId(0x52))));
    assert_eq!(dialed.take_remembered(&frame(3)), Ok(None));
}

#[test]
fn refusals_of_the_first_release_are_understood_for_ever() {
    let named = |(number, refusal): (usize, &Refusal)| {
        (format!("refusal_{number}"), said(|out| refusal.encode(out)).to_vec())
    };
    let current: Vec<_> = refusals().iter().enumerate().map(named).collect();
    for ((name, bytes), refusal) in golden_names("refusals.txt", &current).into_iter().zip(refusals()) {
        let frame = one_frame(BytesMut::from(&bytes[..]));
        let broken = dial(hello(1)).0.take_welcome(&frame, &gone(), &SECRET).unwrap_err();
        assert_eq!(broken, Broken::RefusedByPeer(refusal), "{name}");
    }
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Unknown("a reason of the future: wait for it".to_owned()),
        Refusal::OtherCluster { mine: ClusterId(1), theirs: ClusterId(2) },
        Refusal::NotAMember(NodeId(3)),
        Refusal::Yourself,
        Refusal::DuplicateIdentity(NodeId(4)),
        Refusal::Layout { mine: LayoutHash(5), theirs: LayoutHash(6) },
        Refusal::Protocol { min: 7, max: 8 },
        Refusal::Features(9),
        Refusal::BadProof,
        Refusal::OtherNode { expected: NodeId(10), found: NodeId(11) },
        Refusal::Removed(NodeId(12)),
    ]
}

#[test]
fn whoever_does_not_belong_is_told_why() {
    let mine = hello(1);
    let cases: Vec<(&str, Hello, Refusal, &str)> = vec![
        (
            "of another cluster",
            Hello { cluster: ClusterId(0xc2), ..hello(2) },
            Refusal::OtherCluster { mine: ClusterId(0xc1), theirs: ClusterId(0xc2) },
            "the refusing node belongs to cluster 000000000000000000000000000000c1, the other to cluster 000000000000000000000000000000c2: check peer addresses and cluster files",
        ),
        (
            "removed for good",
            hello(REMOVED.0),
            Refusal::Removed(REMOVED),
            "node 0000000000000009 was removed from this cluster and cannot come back: give it an empty data directory and a new node.id, and have it ask to join",
        ),
        (
            "the same process",
            hello(1),
            Refusal::Yourself,
            "the node has called itself: check that each member has its own peer address",
        ),
        (
            "another process under the same id",
            Hello { boot: 1, ..hello(1) },
            Refusal::DuplicateIdentity(NodeId(1)),
            "two processes run as node 0000000000000001: stop one of them, and never copy a node's settings to another",
        ),
        (
            "of a later age",
            Hello { protocol_min: 2, protocol_max: 3, ..hello(2) },
            Refusal::Protocol { min: 1, max: 1 },
            "the refusing node speaks peer protocols 1 to 1, the other none of them: upgrade the older node",
        ),
        (
            "in need of what we lack",
            Hello { features: 0b111, critical: 0b100, ..hello(2) },
            Refusal::Features(0b100),
            "one node lacks features 0x4 that the other cannot do without: upgrade the older node",
        ),
    ];
    for (who, theirs, refusal, sentence) in cases {
        assert_eq!(check_hello(&mine, &theirs, &gone()), Err(refusal.clone()), "{who}");
        assert!(refusal.to_string().ends_with(sentence), "{who}: {refusal}");
        let Err(Broken::Refused(told)) = meet(theirs, &mine) else { panic!("{who} got through") };
        assert_eq!(told, refusal);
    }
}

#[test]
fn a_node_that_no_layout_names_gets_in_and_so_does_one_with_another_layout() {
    for stranger in [hello(77), Hello { layout: LayoutHash(1), ..hello(2) }] {
        let (dialed, accepted) = meet(stranger.clone(), &hello(1)).unwrap();
        assert_eq!((accepted.peer, dialed.peer), (stranger, hello(1)));
    }
}

#[test]
fn a_removed_node_is_refused_by_whom_it_calls_and_by_whoever_calls_it() {
    let removed = Broken::Refused(Refusal::Removed(REMOVED));
    assert_eq!(meet(hello(REMOVED.0), &hello(2)).unwrap_err(), removed);
    let (dialer, first) = dial(hello(1));
    let mut welcome = BytesMut::new();
    accept(&hello(REMOVED.0), &first, &BTreeSet::new(), &SECRET, &mut welcome).unwrap();
    assert_eq!(dialer.take_welcome(&one_frame(welcome), &gone(), &SECRET).unwrap_err(), removed);
}

#[test]
fn neighbouring_releases_agree_on_the_newest_protocol_and_the_features_of_both() {
    let older = Hello { protocol_min: 1, protocol_max: 2, features: 0b0011, ..hello(1) };
    let newer = Hello { protocol_min: 2, protocol_max: 3, features: 0b0110, critical: 0b0010, ..hello(2) };
    let agreed = Negotiated { protocol: 2, features: 0b0010 };
    assert_eq!(check_hello(&older, &newer, &gone()), Ok(agreed));
    assert_eq!(check_hello(&newer, &older, &gone()), Ok(agreed));
}

#[test]
fn an_acceptor_without_the_secret_is_refused() {
    let (dialer, first) = dial(hello(1));
    let mut out = BytesMut::new();
    accept(&hello(2), &first, &gone(), b"another secret!!", &mut out).unwrap();
    let broken = dialer.take_welcome(&one_frame(out), &gone(), &SECRET).unwrap_err();
    assert_eq!(broken, Broken::Refused(Refusal::BadProof));
}

#[test]
fn a_dialer_without_the_secret_is_refused() {
    let (_, first) = dial(hello(1));
    let accepted = accept(&hello(2), &first, &gone(), &SECRET, &mut BytesMut::new()).unwrap();
    // It answers as well as it can: with a proof under a secret that it made up.
    let made_up = b"another secret!!";
    let (dialer, first) = dial(hello(1));
    let mut welcome = BytesMut::new();
    accept(&hello(2), &first, &gone(), made_up, &mut welcome).unwrap();
    let impostor = dialer.take_welcome(&one_frame(welcome), &gone(), made_up).unwrap();
    let proof = one_frame(said(|out| impostor.remember(None, out)));
    assert_eq!(accepted.take_remembered(&proof), Err(Broken::Refused(Refusal::BadProof)));
}

#[test]
fn a_proof_of_one_connection_is_worth_nothing_on_another() {
    let (earlier, _) = meet(hello(1), &hello(2)).unwrap();
    let (_, later) = meet(hello(1), &Hello { nonce: [99; 16], ..hello(2) }).unwrap();
    let replayed = one_frame(said(|out| earlier.remember(None, out)));
    assert_eq!(later.take_remembered(&replayed), Err(Broken::Refused(Refusal::BadProof)));
}

#[test]
fn a_proof_cannot_be_sent_back_to_its_maker() {
    let (_, accepted) = meet(hello(1), &hello(2)).unwrap();
    let mut ready = one_frame(said(|out| accepted.remember(None, out)));
    ready.kind = Kind::Proof;
    assert_eq!(accepted.take_remembered(&ready), Err(Broken::Refused(Refusal::BadProof)));
}

#[test]
fn an_altered_memory_is_noticed() {
    let (dialed, accepted) = meet(hello(1), &hello(2)).unwrap();
    let mut proof = one_frame(said(|out| dialed.remember(Some(StoreId(5)), out)));
    let mut body = proof.body.to_vec();
    body[0] = 0;
    proof.body = body.into();
    assert_eq!(accepted.take_remembered(&proof), Err(Broken::Refused(Refusal::BadProof)));
}

#[test]
fn facts_that_a_newer_release_appends_are_skipped_and_still_proved() {
    let (_, mut first) = dial(hello(1));
    first.body = [&first.body[..], b"and more"].concat().into();
    let accepted = accept(&hello(2), &first, &gone(), &SECRET, &mut BytesMut::new()).unwrap();
    assert_eq!(accepted.peer, hello(1));
}

#[test]
fn a_word_out_of_turn_ends_the_handshake() {
    let (_, first) = dial(hello(1));
    let (dialer, _) = dial(hello(2));
    let broken = dialer.take_welcome(&first, &gone(), &SECRET).unwrap_err();
    assert_eq!(broken, Broken::Wire(WireError::Unexpected(Kind::Hello)));
}

proptest! {
    #[test]
    fn arbitrary_words_never_get_through(bytes in proptest::collection::vec(any::<u8>(), 0..300), pick in 0..4usize) {
        let kind = [Kind::Hello, Kind::Welcome, Kind::Proof, Kind::Ready][pick];
        let frame = Frame { kind, body: Bytes::from(bytes) };
        let (dialer, _) = dial(hello(1));
        prop_assert!(dialer.take_welcome(&frame, &gone(), &SECRET).is_err());
        let (dialed, accepted) = meet(hello(1), &hello(2)).unwrap();
        prop_assert!(dialed.take_remembered(&frame).is_err());
        prop_assert!(accepted.take_remembered(&frame).is_err());
        prop_assert!(accept(&hello(2), &frame, &gone(), &SECRET, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn arbitrary_refusals_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let (dialer, _) = dial(hello(1));
        let frame = Frame { kind: Kind::Refusal, body: Bytes::from(bytes) };
        prop_assert!(dialer.take_welcome(&frame, &gone(), &SECRET).is_err());
    }
}
