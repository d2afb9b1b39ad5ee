//! A client's write and what becomes of it, to bytes and back.

use super::{Source, flags};
use crate::frame::WireError;
use crate::message::{Done, Expect, Failure, Put, Reason};
use crate::outgoing::FrameWriter;
use gramme_core::bucket::Level;
use gramme_core::codec::{BadBytes, Reader, read_clock, write_clock};
use gramme_core::hlc::Stamp;
use gramme_core::limits::{EXPLAIN_LINES_MAX, META_ENTRIES_MAX, SPENT_MAX};
use gramme_core::record::{Content, Spent};
use gramme_core::{Context, Dot, Incarnation, NodeId, Outcome, RequestId};
pub(super) fn write_put(w: &mut FrameWriter<'_>, put: &Put) {
    w.bytes(put.key.joined());
    w.u128(put.request.0);
    w.u8(put.pw);
    w.u8(flags([
        (PUT_TOMBSTONE, put.content == Content::Tombstone),
        (PUT_TTL, put.ttl_ms.is_some()),
        (PUT_CONTEXT, put.context.is_some()),
        (PUT_W, put.w.is_some()),
        (PUT_RETRY, put.retry),
        (PUT_EXPLAIN, put.explain),
        (PUT_BUFFERED, put.buffered.is_some()),
        (PUT_EXPECT, put.expect.is_some()),
    ]));
    if let Content::Value(value) = &put.content {
        w.bytes(value);
    }
    if let Some(ttl_ms) = put.ttl_ms {
        w.varint(ttl_ms);
    }
    if let Some(context) = &put.context {
        write_context(w, context);
    }
    if let Some(level) = put.w {
        w.u8(level_byte(level));
    }
    if let Some(buffered) = put.buffered {
        w.u8(buffered.into());
    }
    match put.expect {
        None => {}
        Some(Expect::Absent) => w.u8(EXPECT_ABSENT),
        Some(Expect::Present) => w.u8(EXPECT_PRESENT),
        Some(Expect::Tag(tag)) => {
            w.u8(EXPECT_TAG);
            w.u64(tag);
        }
        Some(Expect::NotTag(tag)) => {
            w.u8(EXPECT_NOT_TAG);
            w.u64(tag);
        }
    }
    w.slice(&put.content_type);
    w.varint(put.meta.len() as u64);
    for (name, value) in &put.meta {
        w.slice(name);
        w.slice(value);
    }
}

pub(super) fn read_put(r: &mut Source<'_>) -> Result<Put, WireError> {
    let key = r.key()?;
    let request = RequestId(r.r.u128()?);
    let pw = r.r.u8()?;
    let flags = r.r.u8()?;
    let has = |flag| flags & flag != 0;
    let content = if has(PUT_TOMBSTONE) { Content::Tombstone } else { Content::Value(r.bytes()?) };
    let ttl_ms = if has(PUT_TTL) { Some(r.r.varint()?) } else { None };
    let context = if has(PUT_CONTEXT) { Some(read_context(r)?) } else { None };
    let w = if has(PUT_W) { Some(level_of(r.r.u8()?)?) } else { None };
    let buffered = if has(PUT_BUFFERED) { Some(r.flag()?) } else { None };
    let expect = if has(PUT_EXPECT) { Some(read_expect(r)?) } else { None };
    let content_type = r.bytes()?;
    let count = r.r.count(META_ENTRIES_MAX)?;
    let mut meta = Vec::with_capacity(count);
    for _ in 0..count {
        meta.push((r.bytes()?, r.bytes()?));
    }
    let (retry, explain) = (has(PUT_RETRY), has(PUT_EXPLAIN));
    Ok(Put {
        key,
        content,
        content_type,
        meta,
        ttl_ms,
        context,
        w,
        pw,
        request,
        retry,
        buffered,
        expect,
        explain,
    })
}

fn read_expect(r: &mut Source<'_>) -> Result<Expect, BadBytes> {
    match r.r.u8()? {
        EXPECT_ABSENT => Ok(Expect::Absent),
        EXPECT_PRESENT => Ok(Expect::Present),
        EXPECT_TAG => Ok(Expect::Tag(r.r.u64()?)),
        EXPECT_NOT_TAG => Ok(Expect::NotTag(r.r.u64()?)),
        _ => Err(BadBytes::Malformed),
    }
}

pub(super) fn write_done(w: &mut FrameWriter<'_>, done: &Done) {
    w.u64(done.dot.incarnation.0);
    w.varint(done.dot.n);
    w.u8(done.acks.homes);
    w.u8(done.acks.fallbacks);
    w.u8(done.buffered.into());
    w.u32(done.siblings);
    w.u64(done.coordinator.0);
    write_context(w, &done.context);
    write_lines(w, &done.explain);
}

pub(super) fn read_done(r: &mut Source<'_>) -> Result<Done, WireError> {
    let dot = Dot::new(Incarnation(r.r.u64()?), r.r.varint()?);
    let acks = r.acks()?;
    let buffered = r.flag()?;
    let siblings = r.r.u32()?;
    let coordinator = NodeId(r.r.u64()?);
    let context = read_context(r)?;
    let explain = read_lines(r)?;
    Ok(Done { dot, context, acks, buffered, siblings, coordinator, explain })
}

pub(super) fn write_failure(w: &mut FrameWriter<'_>, failure: &Failure) {
    w.u8(match failure.outcome {
        Outcome::NotApplied => 0,
        Outcome::MaybeApplied => 1,
        Outcome::Applied => 2,
    });
    w.u8(failure.acks.homes);
    w.u8(failure.acks.fallbacks);
    w.u8(failure.needed);
    write_lines(w, &failure.explain);
    write_reason(w, &failure.reason);
}

pub(super) fn read_failure(r: &mut Source<'_>) -> Result<Failure, WireError> {
    let outcome = match r.r.u8()? {
        0 => Outcome::NotApplied,
        1 => Outcome::MaybeApplied,
        2 => Outcome::Applied,
        _ => return Err(WireError::Malformed),
    };
    let acks = r.acks()?;
    let needed = r.r.u8()?;
    let explain = read_lines(r)?;
    let reason = read_reason(r)?;
    Ok(Failure { reason, outcome, acks, needed, explain })
}

fn write_reason(w: &mut FrameWriter<'_>, reason: &Reason) {
    let plain = |w: &mut FrameWriter<'_>, tag| {
        w.u8(tag);
        w.varint(0);
    };
    match reason {
        Reason::Unavailable => plain(w, 1),
        Reason::Stale => plain(w, 2),
        Reason::Overloaded => plain(w, 3),
        Reason::Frozen => plain(w, 4),
        Reason::TooLate => plain(w, 5),
        Reason::TooManySiblings(count) => {
            w.u8(6);
            w.slice(&count.to_le_bytes());
        }
        Reason::ContextRequired => plain(w, 7),
        Reason::ValueTooLarge { bytes, max } => {
            w.u8(8);
            w.varint(16);
            w.u64(*bytes);
            w.u64(*max);
        }
        Reason::Disk(cause) => {
            w.u8(9);
            w.slice(cause.as_bytes());
        }
        Reason::Invalid(what) => {
            w.u8(10);
            w.slice(what.as_bytes());
        }
        Reason::Unsuitable => plain(w, 11),
        Reason::Unexpected => plain(w, 12),
        Reason::HintsFull => plain(w, 13),
        Reason::Void => plain(w, 14),
        Reason::StaleLayout => plain(w, 17),
        Reason::Damaged => plain(w, 15),
    }
}

/// A reason that this release does not know reads as `Unavailable`: the outcome, which says what is safe to do
/// next, stands beside it.
fn read_reason(r: &mut Source<'_>) -> Result<Reason, WireError> {
    let tag = r.r.u8()?;
    let mut detail = Reader::new(r.r.slice()?);
    let text = |detail: &mut Reader<'_>| -> Result<String, BadBytes> {
        let bytes = detail.raw(detail.remaining())?;
        core::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadBytes::Malformed)
    };
    Ok(match tag {
        2 => Reason::Stale,
        3 => Reason::Overloaded,
        4 => Reason::Frozen,
        5 => Reason::TooLate,
        6 => Reason::TooManySiblings(detail.u32()?),
        7 => Reason::ContextRequired,
        8 => Reason::ValueTooLarge { bytes: detail.u64()?, max: detail.u64()? },
        9 => Reason::Disk(text(&mut detail)?),
        10 => Reason::Invalid(text(&mut detail)?),
        11 => Reason::Unsuitable,
        12 => Reason::Unexpected,
        13 => Reason::HintsFull,
        14 => Reason::Void,
        17 => Reason::StaleLayout,
        15 => Reason::Damaged,
        _ => Reason::Unavailable,
    })
}

/// Between peers a context needs no signature: the handshake has proved who speaks.
fn write_context(w: &mut FrameWriter<'_>, context: &Context) {
    w.core(|w| write_clock(w, &context.clock));
    w.u8(context.preferred.is_some().into());
    if let Some(preferred) = context.preferred {
        w.u64(preferred.0);
    }
    w.varint(context.requests.len() as u64);
    for spent in &context.requests {
        w.u128(spent.request.0);
        w.u64(spent.checksum);
        w.u64(spent.stamp.0);
    }
}

fn read_context(r: &mut Source<'_>) -> Result<Context, WireError> {
    let clock = read_clock(&mut r.r)?;
    let preferred = if r.flag()? { Some(NodeId(r.r.u64()?)) } else { None };
    let count = r.r.count(SPENT_MAX)?;
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        requests.push(Spent {
            request: RequestId(r.r.u128()?),
            checksum: r.r.u64()?,
            stamp: Stamp(r.r.u64()?),
            turn: 0,
            shown: true,
        });
    }
    Ok(Context { clock, preferred, requests })
}

/// Lines beyond the limit are left out: they are for people, and an answer must fit its reader.
fn write_lines(w: &mut FrameWriter<'_>, lines: &[String]) {
    let lines = &lines[..lines.len().min(EXPLAIN_LINES_MAX)];
    w.varint(lines.len() as u64);
    for line in lines {
        w.slice(line.as_bytes());
    }
}

fn read_lines(r: &mut Source<'_>) -> Result<Vec<String>, WireError> {
    let count = r.r.count(EXPLAIN_LINES_MAX)?;
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        lines.push(r.r.text()?.to_owned());
    }
    Ok(lines)
}

/// As in bucket settings (`docs/format/bucket.md`).
fn level_byte(level: Level) -> u8 {
    match level {
        Level::One => 253,
        Level::Quorum => 254,
        Level::All => 255,
        Level::Count(count) => count.min(LEVEL_COUNT_MAX),
    }
}

fn level_of(byte: u8) -> Result<Level, BadBytes> {
    match byte {
        0 => Err(BadBytes::Malformed),
        253 => Ok(Level::One),
        254 => Ok(Level::Quorum),
        255 => Ok(Level::All),
        count => Ok(Level::Count(count)),
    }
}

const PUT_TOMBSTONE: u8 = 1;
const PUT_TTL: u8 = 2;
const PUT_CONTEXT: u8 = 4;
const PUT_W: u8 = 8;
const PUT_RETRY: u8 = 16;
const PUT_EXPLAIN: u8 = 32;
const PUT_BUFFERED: u8 = 64;
const PUT_EXPECT: u8 = 128;
const EXPECT_ABSENT: u8 = 0;
const EXPECT_PRESENT: u8 = 1;
const EXPECT_TAG: u8 = 2;
const EXPECT_NOT_TAG: u8 = 3;
/// As in bucket settings.
const LEVEL_COUNT_MAX: u8 = 252;
