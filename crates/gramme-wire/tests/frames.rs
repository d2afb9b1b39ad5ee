//! A garbled, foreign or oversized stream is refused at its first wrong byte; frames of the future are skipped.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use bytes::BytesMut;
use common::{framed, message, one_of_each};
use gramme_core::codec::checksum32;
use gramme_core::limits::FRAME_BYTES_MAX;
use gramme_wire::frame::HEADER_BYTES;
use gramme_wire::{FrameReader, Kind, WireError};
use proptest::prelude::*;

/// A frame with any header, whose checksums hold.
fn raw_frame(kind: u8, flags: u8, body: &[u8]) -> BytesMut {
    let mut header = vec![0xd7, 1, kind, flags];
    header.extend((body.len() as u32).to_le_bytes());
    header.extend(checksum32(body).to_le_bytes());
    header.extend(checksum32(&header).to_le_bytes());
    header.extend(body);
    BytesMut::from(&header[..])
}

fn read_one(mut buf: BytesMut) -> Result<Option<gramme_wire::Frame>, WireError> {
    FrameReader::new().next(&mut buf)
}

#[test]
fn a_frame_is_these_bytes() {
    let frame = read_one(raw_frame(6, 0, b"body")).unwrap().unwrap();
    assert_eq!((frame.kind, &frame.body[..]), (Kind::Message, &b"body"[..]));
}

#[test]
fn a_client_of_another_protocol_is_known_by_its_first_byte() {
    for (start, first) in [("GET / HTTP/1.1", b'G'), ("*1\r\n$4\r\nPING", b'*'), ("\x16\x03\x01", 0x16)] {
        assert_eq!(read_one(BytesMut::from(start)), Err(WireError::NotGramme(first)));
    }
}

#[test]
fn an_unknown_version_is_refused() {
    let mut frame = raw_frame(6, 0, b"body");
    frame[1] = 2;
    assert_eq!(read_one(frame), Err(WireError::Version(2)));
}

#[test]
fn unknown_flags_are_ignored_and_unknown_critical_flags_refused() {
    assert!(read_one(raw_frame(6, 0x0f, b"body")).unwrap().is_some());
    assert_eq!(read_one(raw_frame(6, 0x21, b"body")), Err(WireError::Critical(0x20)));
}

#[test]
fn a_frame_of_an_unknown_kind_is_skipped() {
    let mut buf = raw_frame(99, 0, b"from the future");
    buf.unsplit(raw_frame(6, 0, b"body"));
    assert_eq!(&read_one(buf).unwrap().unwrap().body[..], b"body");
}

#[test]
fn a_stranger_may_send_less_than_a_peer() {
    let frame = raw_frame(1, 0, &[0; 5000]);
    assert_eq!(FrameReader::with_max(4096).next(&mut frame.clone()), Err(WireError::TooLarge(5000)));
    assert!(FrameReader::new().next(&mut frame.clone()).unwrap().is_some());
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
    let mut header = vec![0xd7, 1, 6, 0];
    header.extend((FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
    header.extend([0; 4]);
    header.extend(checksum32(&header).to_le_bytes());
    let error = read_one(BytesMut::from(&header[..]));
    assert_eq!(error, Err(WireError::TooLarge(FRAME_BYTES_MAX as u64 + 1)));
}

#[test]
fn the_reader_says_how_much_is_missing() {
    let mut buf = raw_frame(6, 0, &[1; 100]);
    let rest = buf.split_off(HEADER_BYTES + 30);
    let mut reader = FrameReader::new();
    assert_eq!(reader.next(&mut buf), Ok(None));
    assert_eq!(reader.missing(&buf), 70);
    buf.unsplit(rest);
    assert!(reader.next(&mut buf).unwrap().is_some());
    assert_eq!(reader.missing(&buf), 0);
}

#[test]
fn every_single_changed_bit_of_every_message_is_noticed() {
    for (name, message) in one_of_each() {
        let whole = framed(&message);
        for bit in 0..8 * whole.len() {
            let mut garbled = whole.clone();
            garbled[bit / 8] ^= 1 << (bit % 8);
            assert!(read_one(garbled).is_err(), "{name}, bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn a_frame_cut_short_is_waited_for(message in message(), at in any::<usize>()) {
        let mut whole = framed(&message);
        whole.truncate(at % whole.len());
        prop_assert_eq!(read_one(whole), Ok(None));
    }

    #[test]
    fn arbitrary_bytes_never_make_a_frame(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut magic = BytesMut::from(&[0xd7, 1][..]);
        magic.extend_from_slice(&bytes);
        prop_assert!(!matches!(read_one(magic), Ok(Some(_))));
        prop_assert!(!matches!(read_one(BytesMut::from(&bytes[..])), Ok(Some(_))));
    }
}
