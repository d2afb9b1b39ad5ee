//! Messages survive the way through bytes, and nothing that a peer sends can do harm.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use bytes::{Buf, Bytes, BytesMut};
use common::{framed, golden, message, one_of_each, pieces};
use gramme_core::limits::{EXPLAIN_LINES_MAX, FRAME_BYTES_MAX};
use gramme_core::{Frontier, Key, NodeId, PartitionId};
use gramme_wire::frame::HEADER_BYTES;
use gramme_wire::{
    Body, Compared, Digest, Failure, FrameReader, Kind, Life, Message, Outgoing, Reason, Standing, WireError,
    peer,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A body as peers frame it.
fn body_of(message: &Message) -> Bytes {
    framed(message).freeze().slice(HEADER_BYTES..)
}

fn about_nothing(body: Body) -> Message {
    Message { correlation: 1, partition: Message::NO_PARTITION, remaining_us: 0, sent_ns: 0, body }
}

#[test]
fn messages_of_the_first_release_open_for_ever() {
    let messages = one_of_each();
    let current: Vec<_> = messages.iter().map(|(name, m)| (name.clone(), framed(m).to_vec())).collect();
    for ((name, bytes), (_, message)) in golden("messages.txt", &current).into_iter().zip(&messages) {
        let frame = FrameReader::new().next(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
        assert_eq!(frame.kind, Kind::Message);
        assert_eq!(peer::decode(frame.body).unwrap(), *message, "{name}");
    }
}

proptest! {
    #[test]
    fn a_message_reads_as_it_was_written(message in message()) {
        prop_assert_eq!(peer::decode(body_of(&message)).unwrap(), message);
    }

    #[test]
    fn a_stream_of_messages_reads_the_same_however_it_is_cut(
        messages in vec(message(), 1..6),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let mut out = Outgoing::new();
        let mut together = BytesMut::new();
        for message in &messages {
            peer::queue(message, &mut out).unwrap();
            peer::encode(message, &mut together).unwrap();
        }
        let stream = out.take_bytes();
        prop_assert!(stream == together, "sharing large values changes no byte of the stream");
        let (mut reader, mut buf, mut read) = (FrameReader::new(), BytesMut::new(), Vec::new());
        for piece in pieces(&stream, &cuts) {
            buf.extend_from_slice(piece);
            while let Some(frame) = reader.next(&mut buf).unwrap() {
                read.push(peer::decode(frame.body).unwrap());
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn bytes_leave_in_order_however_much_a_socket_takes(
        steps in vec((message(), any::<usize>()), 1..12),
    ) {
        let (mut out, mut whole, mut left) = (Outgoing::new(), BytesMut::new(), Vec::new());
        for (message, taken) in &steps {
            peer::encode(message, &mut whole).unwrap();
            peer::queue(message, &mut out).unwrap();
            let mut taken = taken % (out.remaining() + 1);
            while taken > 0 {
                let part = taken.min(out.chunk().len());
                left.extend_from_slice(&out.chunk()[..part]);
                out.advance(part);
                taken -= part;
            }
            prop_assert_eq!(left.len() + out.remaining(), whole.len());
        }
        left.extend(out.take_bytes());
        prop_assert!(left == whole && out.is_empty());
    }

    #[test]
    fn what_a_newer_release_appends_is_skipped(message in message(), more in vec(any::<u8>(), 0..50)) {
        // A fence of 0 is left out where nothing follows it.
        let fence: &[u8] = match &message.body {
            Body::Merge { fence: 0, .. } | Body::Survey { fence: 0, .. } | Body::Freeze { fence: 0, .. } => &[0],
            _ => &[],
        };
        let longer: Bytes = [&body_of(&message)[..], fence, &more].concat().into();
        prop_assert_eq!(peer::decode(longer).unwrap(), message);
    }

    #[test]
    fn a_message_cut_short_is_refused(message in message(), at in any::<usize>()) {
        let body = body_of(&message);
        let short = body.slice(..at % body.len());
        prop_assert!(peer::decode(short).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_answered_with_an_error_or_a_message(tag in 0..64u8, bytes in vec(any::<u8>(), 0..300)) {
        let body: Bytes = [&[tag][..], &bytes].concat().into();
        if let Ok(message) = peer::decode(body) {
            prop_assert_eq!(peer::decode(body_of(&message)).unwrap(), message);
        }
    }

    #[test]
    fn a_message_with_one_byte_changed_is_an_error_or_another_message(
        message in message(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let mut body = body_of(&message).to_vec();
        let at = at % body.len();
        body[at] = to;
        if let Ok(other) = peer::decode(body.into()) {
            prop_assert_eq!(peer::decode(body_of(&other)).unwrap(), other);
        }
    }
}

#[test]
fn a_record_is_a_slice_of_the_frame_that_brought_it() {
    let record = Bytes::from(vec![7; 1000]);
    let body = body_of(&about_nothing(Body::Merge {
        key: Key::new("b", b"k").unwrap(),
        record: record.clone(),
        hint_for: None,
        stamp: Frontier::none(),
        buffered: false,
        fence: 0,
    }));
    let frame = body.as_ptr_range();
    let Body::Merge { record: read, .. } = peer::decode(body).unwrap().body else {
        panic!("another message")
    };
    assert_eq!(read, record);
    assert!(frame.contains(&read.as_ptr()));
}

#[test]
fn a_large_record_leaves_as_its_own_chunk_uncopied_and_small_ones_together() {
    let large = Bytes::from(vec![1; 1 << 20]);
    let merge = |record: &Bytes| {
        about_nothing(Body::Merge {
            key: Key::new("b", b"k").unwrap(),
            record: record.clone(),
            hint_for: Some(NodeId(4)),
            stamp: Frontier::none(),
            buffered: false,
            fence: 0,
        })
    };
    let mut out = Outgoing::new();
    for record in [&Bytes::from_static(b"small"), &large, &Bytes::from_static(b"small")] {
        peer::queue(&merge(record), &mut out).unwrap();
        peer::queue(&about_nothing(Body::Ping), &mut out).unwrap();
    }
    let mut chunks = [std::io::IoSlice::new(b""); 8];
    assert_eq!(out.chunks_vectored(&mut chunks), 3, "before it, itself, after it");
    assert_eq!(chunks[1].as_ptr(), large.as_ptr());
}

#[test]
fn a_message_larger_than_a_frame_is_not_framed_and_leaves_no_byte_behind() {
    let half = Bytes::from(vec![0; FRAME_BYTES_MAX / 2 + 1]);
    let entry = gramme_wire::Entry { key: Bytes::from_static(b"k"), record: half };
    let message = about_nothing(Body::ListReply {
        standing: gramme_wire::Standing::Continuous,
        entries: vec![entry.clone(), entry],
        more: false,
        frontier: Frontier::none(),
    });
    let mut out = Outgoing::new();
    peer::queue(&about_nothing(Body::Ping), &mut out).unwrap();
    let before = out.remaining();
    assert!(matches!(peer::queue(&message, &mut out), Err(WireError::TooLarge(_))));
    assert_eq!(out.remaining(), before);
}

#[test]
fn counts_beyond_their_limits_are_refused_before_anything_is_kept_for_them() {
    let head = |tag: u8| [&[tag][..], &[0; 22]].concat();
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    // A list reply, bucket settings: standing, more | reply, then the count.
    for (tag, flags) in [(8, &[0, 0][..]), (12, &[0])] {
        let body = [&head(tag), flags, &huge].concat();
        assert_eq!(peer::decode(body.into()), Err(WireError::Malformed));
    }
}

#[test]
fn a_message_that_this_release_does_not_know_is_named_and_may_be_skipped() {
    let mut body = body_of(&about_nothing(Body::Ping)).to_vec();
    body[0] = 200;
    let error = peer::decode(body.into()).unwrap_err();
    assert_eq!(error, WireError::UnknownMessage(200));
    assert!(error.is_skippable());
}

#[test]
fn a_reason_that_this_release_does_not_know_reads_as_unavailable_with_its_outcome() {
    let refused = about_nothing(Body::Refused {
        failure: Box::new(Failure {
            outcome: gramme_core::Outcome::MaybeApplied,
            ..Failure::not_applied(Reason::Unsuitable)
        }),
    });
    let mut body = body_of(&refused).to_vec();
    let reason_at = body.len() - 2;
    body[reason_at] = 99;
    let Body::Refused { failure } = peer::decode(body.into()).unwrap().body else {
        panic!("another message")
    };
    assert_eq!(failure.reason, Reason::Unavailable);
    assert_eq!(failure.outcome, gramme_core::Outcome::MaybeApplied);
}

#[test]
fn explanations_are_cut_to_what_the_receiver_takes() {
    let refused = about_nothing(Body::Refused {
        failure: Box::new(Failure {
            explain: vec!["step".to_owned(); EXPLAIN_LINES_MAX + 1],
            ..Failure::not_applied(Reason::Stale)
        }),
    });
    let Body::Refused { failure } = peer::decode(body_of(&refused)).unwrap().body else {
        panic!("another message")
    };
    assert_eq!(failure.explain.len(), EXPLAIN_LINES_MAX);
}

#[test]
fn a_request_goes_to_the_shard_of_its_partition_and_a_reply_to_the_shard_that_asked() {
    let mut message = about_nothing(Body::Ping);
    message.correlation = 3 << 56 | 9;
    assert_eq!(message.shard(4), 0, "about no partition: shard 0");
    message.partition = PartitionId(6);
    assert_eq!(message.shard(4), 2);
    message.body = Body::Pong;
    assert_eq!(message.shard(4), 3);
}

/// What homes that agree say to each other (`docs/benchmarks.md`): of 256 partitions with three homes each,
/// two of five nodes share 77.
#[test]
fn in_sync_a_peer_costs_nineteen_bytes_a_partition_and_its_answer_twelve() {
    let life = Life { number: 1 << 60, standing: Standing::Continuous };
    let digest = |p: u16| Digest { partition: PartitionId(p), life, seen: u64::MAX - u64::from(p) };
    let compared = |p: u16| Compared { partition: PartitionId(p), life, difference: None };
    let asked = framed(&about_nothing(Body::Digests { digests: (0..77).map(digest).collect() })).len();
    let answered =
        framed(&about_nothing(Body::DigestsReply { compared: (0..77).map(compared).collect() })).len();
    println!("77 shared partitions: {asked} bytes asked, {answered} answered");
    assert!(asked <= 77 * 19 + 48 && answered <= 77 * 12 + 48, "{asked} and {answered} bytes");
}
