//! Transcripts of the Redis protocol: what clients send and what they get, byte for byte as with Redis 7.2.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use bytes::{Bytes, BytesMut};
use common::pieces;
use gramme_core::limits::{RESP_ARGS_MAX, RESP_BULK_BYTES_MAX, RESP_INLINE_BYTES_MAX};
use gramme_wire::Outgoing;
use gramme_wire::resp::{Parser, ProtocolError, Replies, Version};
use proptest::collection::vec;
use proptest::prelude::*;

type Commands = Vec<Vec<Vec<u8>>>;

/// All commands of a stream that arrives in these pieces, and the error that ended it, if one did.
fn parse(parser: &mut Parser, pieces: &[&[u8]]) -> (Commands, Option<ProtocolError>) {
    let (mut buf, mut commands) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match parser.next(&mut buf) {
                Ok(Some(args)) => commands.push(args.iter().map(|arg| arg.to_vec()).collect()),
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

fn parse_whole(stream: &[u8]) -> (Commands, Option<ProtocolError>) {
    parse(&mut Parser::new(), &[stream])
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for arg in command {
        out.extend(format!("${}\r\n", arg.len()).as_bytes());
        out.extend(arg);
        out.extend(b"\r\n");
    }
    out
}

#[test]
fn commands_are_read_from_arrays_and_lines_in_any_mixture() {
    let cases: [(&str, &[&str]); 8] = [
        ("*1\r\n$4\r\nPING\r\n", &["PING"]),
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", &["SET k v", "GET k"]),
        ("PING\r\nGET k\n", &["PING", "GET k"]),
        ("PING\r\n*1\r\n$4\r\nQUIT\r\n", &["PING", "QUIT"]),
        ("\r\n\r\nPING\r\n", &["PING"]),
        ("*0\r\n*-1\r\nPING\r\n", &["PING"]),
        ("  SET\t k  v \r\n", &["SET k v"]),
        ("*1\r\n$4\r\nPIN", &[]),
    ];
    for (stream, commands) in cases {
        let expected: Commands = commands.iter().map(|line| words(line)).collect();
        assert_eq!(parse_whole(stream.as_bytes()), (expected, None), "{stream:?}");
    }
}

#[test]
fn values_hold_any_bytes_and_may_be_empty() {
    let command = vec![b"SET".to_vec(), Vec::new(), b"\r\n$3\r\n\0\xff".to_vec()];
    assert_eq!(parse_whole(&encode(&command)), (vec![command], None));
}

#[test]
fn quotes_in_lines_are_read_as_redis_reads_them() {
    let cases: [(&[u8], &[&[u8]]); 9] = [
        (br#"SET k "a b""#, &[b"SET", b"k", b"a b"]),
        (br"SET k 'a b'", &[b"SET", b"k", b"a b"]),
        (br#"ECHO "\x00\xfF\n\r\t\b\a\\\"\q""#, &[b"ECHO", b"\0\xff\n\r\t\x08\x07\\\"q"]),
        (br#"ECHO "\xzz""#, &[b"ECHO", b"xzz"]),
        (br"ECHO 'it\'s \n'", &[b"ECHO", b"it's \\n"]),
        (br#"ECHO """#, &[b"ECHO", b""]),
        (br#"ECHO pre"fix""#, &[b"ECHO", b"prefix"]),
        (b"ECHO a\x0bb", &[b"ECHO", b"a\x0bb"]),
        (b"ECHO a\0 b", &[b"ECHO", b"a"]),
    ];
    for (line, args) in cases {
        let expected = vec![args.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>()];
        assert_eq!(parse_whole(&[line, b"\r\n"].concat()), (expected, None), "{}", line.escape_ascii());
    }
}

#[test]
fn a_broken_stream_gets_the_error_that_redis_gives() {
    let long = "1".repeat(RESP_INLINE_BYTES_MAX + 1);
    let cases = [
        ("*x\r\n".to_owned(), "ERR Protocol error: invalid multibulk length"),
        ("*1 \r\n".to_owned(), "ERR Protocol error: invalid multibulk length"),
        (format!("*{}\r\n", RESP_ARGS_MAX + 1), "ERR Protocol error: invalid multibulk length"),
        ("*9999999999999999999999\r\n".to_owned(), "ERR Protocol error: invalid multibulk length"),
        (format!("*{long}"), "ERR Protocol error: too big mbulk count string"),
        ("*1\r\nPING\r\n".to_owned(), "ERR Protocol error: expected '$', got 'P'"),
        ("*1\r\n:1\r\n".to_owned(), "ERR Protocol error: expected '$', got ':'"),
        ("*2\r\n$1\r\na\r\n*1\r\n".to_owned(), "ERR Protocol error: expected '$', got '*'"),
        ("*1\r\n$x\r\n".to_owned(), "ERR Protocol error: invalid bulk length"),
        ("*1\r\n$-1\r\n".to_owned(), "ERR Protocol error: invalid bulk length"),
        ("*1\r\n$03\r\n".to_owned(), "ERR Protocol error: invalid bulk length"),
        (format!("*1\r\n${}\r\n", RESP_BULK_BYTES_MAX + 1), "ERR Protocol error: invalid bulk length"),
        (format!("*1\r\n${long}"), "ERR Protocol error: too big bulk count string"),
        ("SET k \"v\r\n".to_owned(), "ERR Protocol error: unbalanced quotes in request"),
        ("SET k 'v'w\r\n".to_owned(), "ERR Protocol error: unbalanced quotes in request"),
        (long.clone(), "ERR Protocol error: too big inline request"),
        (format!("{long}\r\n"), "ERR Protocol error: too big inline request"),
    ];
    for (stream, expected) in cases {
        let (commands, error) = parse_whole(stream.as_bytes());
        assert!(commands.is_empty());
        assert_eq!(error.expect(expected).to_string(), expected, "{:.40}", stream);
    }
}

#[test]
fn commands_before_a_broken_one_are_still_given() {
    let (commands, error) = parse_whole(b"PING\r\n*1\r\n$4\r\nQUIT\r\n*1\r\n!\r\n");
    assert_eq!(commands, vec![words("PING"), words("QUIT")]);
    assert_eq!(error, Some(ProtocolError::ExpectedBulk(b'!')));
}

#[test]
fn all_arguments_together_are_bounded() {
    let mut stream = b"*5\r\n".to_vec();
    for _ in 0..5 {
        stream.extend(format!("${}\r\n", 16 << 20).as_bytes());
        stream.resize(stream.len() + (16 << 20), b'x');
        stream.extend(b"\r\n");
    }
    assert_eq!(parse_whole(&stream), (Vec::new(), Some(ProtocolError::CommandBytes)));
}

#[test]
fn a_client_that_has_not_authenticated_may_send_little() {
    let mut parser = Parser::new();
    parser.set_stranger(true);
    let (commands, _) = parse(&mut parser, &[b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"]);
    assert_eq!(commands, vec![words("AUTH secret")]);
    let (_, error) = parse(&mut parser, &[b"*11\r\n"]);
    assert_eq!(error.unwrap().to_string(), "ERR Protocol error: unauthenticated multibulk length");

    let mut parser = Parser::new();
    parser.set_stranger(true);
    let (_, error) = parse(&mut parser, &[b"*1\r\n$16385\r\n"]);
    assert_eq!(error.unwrap().to_string(), "ERR Protocol error: unauthenticated bulk length");

    let mut parser = Parser::new();
    parser.set_stranger(true);
    parser.set_stranger(false);
    assert_eq!(parse(&mut parser, &[b"*11\r\n$16385\r\n"]), (Vec::new(), None));
}

#[test]
fn an_argument_is_a_slice_of_what_arrived() {
    let mut buf = BytesMut::from(&encode(&[b"SET".to_vec(), b"k".to_vec(), vec![7; 1000]])[..]);
    let arrived = buf.as_ptr_range();
    let args = Parser::new().next(&mut buf).unwrap().unwrap();
    assert_eq!(args[2], vec![7; 1000]);
    assert!(arrived.contains(&args[2].as_ptr()));
}

#[test]
fn the_largest_value_in_small_pieces_is_one_command() {
    let value = vec![b'v'; 16 << 20];
    let command = vec![b"SET".to_vec(), b"k".to_vec(), value];
    let stream = encode(&command);
    let (commands, error) = parse(&mut Parser::new(), &stream.chunks(1000).collect::<Vec<_>>());
    assert_eq!(error, None);
    assert!(commands == vec![command]);
}

#[test]
fn the_parser_says_how_much_of_a_value_is_missing() {
    let mut buf = BytesMut::from("*1\r\n$100\r\nabc");
    let mut parser = Parser::new();
    assert_eq!(parser.next(&mut buf), Ok(None));
    assert_eq!(parser.missing(&buf), 99);
    buf.extend_from_slice(&[b'd'; 99]);
    assert!(parser.next(&mut buf).unwrap().is_some());
    assert_eq!(parser.missing(&buf), 0);
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..40), 1..6)
}

/// Bytes that look like the protocol often enough to reach every corner of it.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("*".to_owned()),
        Just("$".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\x4".to_owned()),
        Just(" ".to_owned()),
        Just("PING".to_owned()),
        (-2..6i32).prop_map(|n| n.to_string()),
        (0..5u8).prop_map(|len| format!("${len}\r\n{}\r\n", "x".repeat(len.into()))),
        (0..4u8).prop_map(|count| format!("*{count}\r\n")),
    ];
    let noise = vec(any::<u8>(), 0..4);
    vec(prop_oneof![9 => token.prop_map(String::into_bytes), 1 => noise], 0..20)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn commands_read_the_same_however_they_are_cut(
        commands in vec(command(), 0..6), cuts in vec(any::<usize>(), 0..40),
    ) {
        let stream: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        prop_assert_eq!(parse(&mut Parser::new(), &pieces(&stream, &cuts)), (commands, None));
    }

    #[test]
    fn anything_reads_the_same_however_it_is_cut(stream in scrap(), cuts in vec(any::<usize>(), 0..40)) {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let whole = parse_whole(&stream);
        prop_assert_eq!(&parse(&mut Parser::new(), &pieces(&stream, &cuts)), &whole);
        prop_assert_eq!(&parse(&mut Parser::new(), &bytes), &whole);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(stream in vec(any::<u8>(), 0..500)) {
        let (commands, _) = parse_whole(&stream);
        prop_assert!(commands.iter().all(|args| !args.is_empty()));
    }

    #[test]
    fn whole_numbers_are_written_as_they_are(value: i64) {
        let reply = said(Version::Resp2, |replies| replies.integer(value));
        prop_assert_eq!(reply, format!(":{value}\r\n"));
    }

    #[test]
    fn doubles_read_back_as_they_were(value: f64) {
        let reply = said(Version::Resp3, |replies| replies.double(value));
        let read: f64 = reply[1..reply.len() - 2].parse().unwrap();
        prop_assert!(read == value || (read.is_nan() && value.is_nan()));
    }
}

fn said(version: Version, say: impl FnOnce(&mut Replies<'_>)) -> String {
    let mut out = Outgoing::new();
    say(&mut Replies::new(version, &mut out));
    String::from_utf8(out.take_bytes().to_vec()).unwrap()
}

#[test]
fn each_answer_is_these_bytes_in_each_version() {
    type Say = fn(&mut Replies<'_>);
    let cases: [(Say, &str, &str); 24] = [
        (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
        (|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (|r| r.error("ERR syntax error"), "-ERR syntax error\r\n", "-ERR syntax error\r\n"),
        (|r| r.error("ERR two\r\nlines"), "-ERR two  lines\r\n", "-ERR two  lines\r\n"),
        (|r| r.integer(0), ":0\r\n", ":0\r\n"),
        (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (|r| r.bulk(b"hello"), "$5\r\nhello\r\n", "$5\r\nhello\r\n"),
        (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (|r| r.value(&Bytes::from_static(b"v")), "$1\r\nv\r\n", "$1\r\nv\r\n"),
        (|r| r.null(), "$-1\r\n", "_\r\n"),
        (|r| r.null_array(), "*-1\r\n", "_\r\n"),
        (|r| r.array(0), "*0\r\n", "*0\r\n"),
        (|r| r.array(12), "*12\r\n", "*12\r\n"),
        (|r| r.map(2), "*4\r\n", "%2\r\n"),
        (|r| r.set(2), "*2\r\n", "~2\r\n"),
        (|r| r.push(2), "*2\r\n", ">2\r\n"),
        (|r| r.boolean(true), ":1\r\n", "#t\r\n"),
        (|r| r.boolean(false), ":0\r\n", "#f\r\n"),
        (|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (|r| r.double(3.0), "$1\r\n3\r\n", ",3\r\n"),
        (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (|r| r.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        (|r| r.double(1e300), "$6\r\n1e+300\r\n", ",1e+300\r\n"),
        (|r| r.verbatim("a\nb"), "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n"),
    ];
    for (say, resp2, resp3) in cases {
        assert_eq!(said(Version::Resp2, say), resp2);
        assert_eq!(said(Version::Resp3, say), resp3);
    }
}

#[test]
fn a_large_value_leaves_uncopied_between_its_line_and_its_end() {
    let value = Bytes::from(vec![1; 1 << 20]);
    let mut out = Outgoing::new();
    Replies::new(Version::Resp2, &mut out).value(&value);
    let mut chunks = [std::io::IoSlice::new(b""); 4];
    assert_eq!(bytes::Buf::chunks_vectored(&out, &mut chunks), 3);
    assert_eq!(&*chunks[0], b"$1048576\r\n");
    assert_eq!(chunks[1].as_ptr(), value.as_ptr());
    assert_eq!(&*chunks[2], b"\r\n");
}
