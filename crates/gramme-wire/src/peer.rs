//! [`Message`] to bytes and back. Byte table of every variant: `docs/format/wire.md`.
//!
//! A body is a fixed head (number, partition, correlation, times), then the fields of its variant. Bytes after
//! the last field that this release knows are skipped: a newer release appends there what an older one may
//! ignore, and marks the frame critical if it may not.
//!
//! Decoding copies no key, value or record: they are slices of the frame. It allocates only what the input
//! fills, and never panics.

use crate::frame::{Kind, WireError};
use crate::message::{Acks, Body, Done, Entry, Expect, Failure, Message, Put, Reason, Standing};
use crate::message::{Compared, Difference, Digest, Life, PullPage, Pulled, Remembered, TreeRoot};
use crate::outgoing::{FrameWriter, Outgoing};
use bytes::{Bytes, BytesMut};
use gramme_core::bucket::{Level, read_bucket_fact, write_bucket_fact};
use gramme_core::closed::{read_closed, write_closed};
use gramme_core::codec::{BadBytes, Reader, read_clock, write_clock};
use gramme_core::frontier::{Frontier, read_frontier, write_frontier};
use gramme_core::hlc::Stamp;
use gramme_core::limits::{
    AUDIT_LEAVES_MAX, PARTITIONS_MAX, PULL_PAGE_RECORDS_MAX, SURVEY_MAX, TREE_KEYS_MAX, TREE_NODES_MAX,
};
use gramme_core::limits::{BUCKETS_MAX, EXPLAIN_LINES_MAX, LIST_PAGE_KEYS_MAX, META_ENTRIES_MAX, SPENT_MAX};
use gramme_core::merkle::FAN_OUT;
use gramme_core::record::{Content, Spent};
use gramme_core::seen::{Seen, read_row, read_seen, write_row, write_seen};
use gramme_core::{Context, Dot, Incarnation, Key, NodeId, Outcome, PartitionId, RequestId};

/// Appends the message as one whole frame; values are copied. `Err(TooLarge)` appends nothing.
pub fn encode(message: &Message, out: &mut BytesMut) -> Result<(), WireError> {
    let mut w = FrameWriter::begin(out, usize::MAX);
    write_message(&mut w, message);
    w.end(Kind::Message).map(|_| ())
}

/// Appends the message as one whole frame; large values are shared. `Err(TooLarge)` appends nothing.
pub fn queue(message: &Message, out: &mut Outgoing) -> Result<(), WireError> {
    out.put_frame(Kind::Message, |w| write_message(w, message))
}

/// Reads the body of a frame of kind [`Kind::Message`]; keys, values and records are slices of it.
pub fn decode(body: Bytes) -> Result<Message, WireError> {
    let mut r = Source { r: Reader::new(&body), whole: &body };
    let tag = r.r.u8()?;
    let partition = PartitionId(r.u16()?);
    let correlation = r.r.u64()?;
    let remaining_us = r.r.u32()?;
    let sent_ns = r.r.u64()?;
    let body = read_fields(&mut r, tag)?;
    Ok(Message { correlation, partition, remaining_us, sent_ns, body })
}

fn write_message(w: &mut FrameWriter<'_>, message: &Message) {
    w.u8(tag_of(&message.body));
    w.u16(message.partition.0);
    w.u64(message.correlation);
    w.u32(message.remaining_us);
    w.u64(message.sent_ns);
    write_fields(w, &message.body);
}

fn tag_of(body: &Body) -> u8 {
    match body {
        Body::Read { .. } => READ,
        Body::ReadReply { .. } => READ_REPLY,
        Body::Merge { .. } => MERGE,
        Body::MergeReply => MERGE_REPLY,
        Body::Forward { .. } => FORWARD,
        Body::ForwardReply { .. } => FORWARD_REPLY,
        Body::List { .. } => LIST,
        Body::ListReply { .. } => LIST_REPLY,
        Body::Copy { .. } => COPY,
        Body::CopyReply { .. } => COPY_REPLY,
        Body::Ping => PING,
        Body::Pong => PONG,
        Body::BucketsDigest { .. } => BUCKETS_DIGEST,
        Body::Buckets { .. } => BUCKETS,
        Body::TreeRoots { .. } => TREE_ROOTS,
        Body::TreeNodes { .. } => TREE_NODES,
        Body::TreeNodesReply { .. } => TREE_NODES_REPLY,
        Body::TreeKeys { .. } => TREE_KEYS,
        Body::TreeKeysReply { .. } => TREE_KEYS_REPLY,
        Body::AuditDone => AUDIT_DONE,
        Body::Refused { .. } => REFUSED,
        Body::Digests { .. } => DIGESTS,
        Body::DigestsReply { .. } => DIGESTS_REPLY,
        Body::Pull { .. } => PULL,
        Body::PullMore { .. } => PULL_MORE,
        Body::PullReply { .. } => PULL_REPLY,
        Body::AskSeen => ASK_SEEN,
        Body::Offer { .. } => OFFER,
        Body::OfferReply { .. } => OFFER_REPLY,
        Body::SeenReply { .. } => SEEN_REPLY,
        Body::Survey { .. } => SURVEY,
        Body::SurveyReply { .. } => SURVEY_REPLY,
        Body::Freeze { .. } => FREEZE,
        Body::FreezeReply { .. } => FREEZE_REPLY,
        Body::Ends { .. } => ENDS,
    }
}

fn write_fields(w: &mut FrameWriter<'_>, body: &Body) {
    match body {
        Body::Read { key } => w.bytes(key.joined()),
        Body::ReadReply { standing, record, frontier } => {
            w.u8(standing_byte(*standing));
            write_optional_bytes(w, record.as_ref());
            frontier_of(w, frontier);
        }
        Body::Merge { key, record, hint_for, stamp, buffered } => {
            w.bytes(key.joined());
            w.bytes(record);
            w.u8(hint_for.is_some().into());
            if let Some(home) = hint_for {
                w.u64(home.0);
            }
            frontier_of(w, stamp);
            w.u8((*buffered).into());
        }
        Body::MergeReply | Body::Ping | Body::Pong => {}
        Body::Forward { put } => write_put(w, put),
        Body::ForwardReply { result } => match result {
            Ok(done) => {
                w.u8(FORWARD_DONE);
                write_done(w, done);
            }
            Err(failure) => {
                w.u8(FORWARD_FAILED);
                write_failure(w, failure);
            }
        },
        Body::List { bucket, prefix, after, keys_max, values } => {
            w.slice(bucket.as_bytes());
            w.bytes(prefix);
            write_optional_bytes(w, after.as_ref());
            w.u32(*keys_max);
            w.u8((*values).into());
        }
        Body::ListReply { standing, entries, more, frontier } => {
            write_page(w, *standing, entries, *more, frontier);
        }
        Body::Copy { after, keys_max } => {
            write_optional_bytes(w, after.as_ref());
            w.u32(*keys_max);
        }
        Body::CopyReply { standing, entries, more, frontier, seen } => {
            w.u64(*seen);
            write_page(w, *standing, entries, *more, frontier);
        }
        Body::BucketsDigest { digest } => w.u64(*digest),
        Body::Buckets { facts, reply } => {
            w.u8((*reply).into());
            w.varint(facts.len() as u64);
            w.core(|w| facts.iter().for_each(|(name, fact)| write_bucket_fact(w, name, fact)));
        }
        Body::TreeRoots { skips_tombstones, reply, roots } => {
            w.u8(flags([(ROOTS_SKIP_TOMBSTONES, *skips_tombstones), (ROOTS_REPLY, *reply)]));
            w.varint(roots.len() as u64);
            for root in roots {
                w.u16(root.partition.0);
                w.u128(root.root);
            }
        }
        Body::TreeNodes { level, nodes } => {
            w.u8(*level);
            write_numbers(w, nodes);
        }
        Body::TreeNodesReply { depth, hashes } => {
            w.u8(*depth);
            w.varint(hashes.len() as u64);
            hashes.iter().for_each(|hash| w.u128(*hash));
        }
        Body::TreeKeys { depth, leaves, after } => {
            w.u8(*depth);
            write_numbers(w, leaves);
            write_optional_bytes(w, after.as_ref().map(Key::joined));
        }
        Body::TreeKeysReply { keys, next, unreadable } => {
            w.varint(keys.len() as u64);
            for (key, item) in keys {
                w.bytes(key.joined());
                w.u128(*item);
            }
            write_optional_bytes(w, next.as_ref().map(Key::joined));
            w.u32(*unreadable);
        }
        Body::AuditDone => {}
        Body::Refused { failure } => write_failure(w, failure),
        Body::Digests { digests } => {
            w.varint(digests.len() as u64);
            for digest in digests {
                w.u16(digest.partition.0);
                write_life(w, digest.life);
                w.u64(digest.seen);
            }
        }
        Body::DigestsReply { compared } => {
            w.varint(compared.len() as u64);
            compared.iter().for_each(|compared| write_compared(w, compared));
        }
        Body::Pull { life, seen, hints, full } => {
            write_life(w, *life);
            w.u8((*hints).into());
            w.u8((*full).into());
            w.core(|w| write_seen(w, seen));
        }
        Body::PullMore { session, after } => {
            w.u64(*session);
            w.bytes(after.joined());
        }
        Body::PullReply(PullPage { session, pulled, next, sigma, frontier, life, unreadable }) => {
            w.u64(*session);
            write_life(w, *life);
            w.u32(*unreadable);
            write_optional_bytes(w, next.as_ref().map(Key::joined));
            frontier_of(w, frontier);
            w.u8(sigma.is_some().into());
            if let Some(sigma) = sigma {
                w.core(|w| write_seen(w, sigma));
            }
            w.varint(pulled.len() as u64);
            for one in pulled {
                w.bytes(one.key.joined());
                w.bytes(&one.record);
            }
        }
        Body::AskSeen => {}
        Body::Offer { seen } => w.core(|w| write_seen(w, seen)),
        Body::OfferReply { covered } => w.u8((*covered).into()),
        Body::SeenReply { life, seen } => {
            write_life(w, *life);
            w.core(|w| write_seen(w, seen));
        }
        Body::Survey { about } => {
            w.varint(about.len() as u64);
            about.iter().for_each(|incarnation| w.u64(incarnation.0));
        }
        Body::SurveyReply { home, live, seen, ends } => {
            w.u8(home.is_some().into());
            if let Some(life) = home {
                write_life(w, *life);
            }
            w.u8(live.is_some().into());
            if let Some(incarnation) = live {
                w.u64(incarnation.0);
            }
            w.core(|w| {
                write_seen(w, seen);
                write_closed(w, ends);
            });
        }
        Body::Freeze { incarnation, set } => {
            w.u64(incarnation.0);
            w.core(|w| write_row(w, set));
        }
        Body::FreezeReply { frozen, seen } => {
            w.u8((*frozen).into());
            w.core(|w| write_row(w, seen));
        }
        Body::Ends { ends } => w.core(|w| write_closed(w, ends)),
    }
}

fn write_life(w: &mut FrameWriter<'_>, life: Life) {
    w.u64(life.number);
    w.u8(standing_byte(life.standing));
}

fn write_compared(w: &mut FrameWriter<'_>, compared: &Compared) {
    w.u16(compared.partition.0);
    write_life(w, compared.life);
    w.u8(compared.difference.is_some().into());
    let Some(Difference { seen, closed, remembered }) = &compared.difference else { return };
    w.core(|w| write_seen(w, seen));
    w.u64(*closed);
    w.u8(remembered.is_some().into());
    if let Some(Remembered { life, bases }) = remembered {
        w.u64(*life);
        frontier_of(w, bases);
    }
}

fn read_fields(r: &mut Source<'_>, tag: u8) -> Result<Body, WireError> {
    Ok(match tag {
        READ => Body::Read { key: r.key()? },
        READ_REPLY => {
            Body::ReadReply { standing: r.standing()?, record: r.optional_bytes()?, frontier: r.frontier()? }
        }
        MERGE => Body::Merge {
            key: r.key()?,
            record: r.bytes()?,
            hint_for: if r.flag()? { Some(NodeId(r.r.u64()?)) } else { None },
            stamp: r.frontier()?,
            buffered: r.flag()?,
        },
        MERGE_REPLY => Body::MergeReply,
        FORWARD => Body::Forward { put: Box::new(read_put(r)?) },
        FORWARD_REPLY => Body::ForwardReply {
            result: match r.r.u8()? {
                FORWARD_DONE => Ok(Box::new(read_done(r)?)),
                FORWARD_FAILED => Err(Box::new(read_failure(r)?)),
                _ => return Err(WireError::Malformed),
            },
        },
        LIST => Body::List {
            bucket: r.r.text()?.to_owned(),
            prefix: r.bytes()?,
            after: r.optional_bytes()?,
            keys_max: r.r.u32()?,
            values: r.flag()?,
        },
        LIST_REPLY => {
            let (standing, entries, more, frontier) = read_page(r)?;
            Body::ListReply { standing, entries, more, frontier }
        }
        COPY => Body::Copy { after: r.optional_bytes()?, keys_max: r.r.u32()? },
        COPY_REPLY => {
            let seen = r.r.u64()?;
            let (standing, entries, more, frontier) = read_page(r)?;
            Body::CopyReply { standing, entries, more, frontier, seen }
        }
        PING => Body::Ping,
        PONG => Body::Pong,
        BUCKETS_DIGEST => Body::BucketsDigest { digest: r.r.u64()? },
        BUCKETS => {
            let reply = r.flag()?;
            let count = r.r.count(BUCKETS_MAX)?;
            let facts = (0..count).map(|_| read_bucket_fact(&mut r.r)).collect::<Result<_, _>>()?;
            Body::Buckets { facts, reply }
        }
        TREE_ROOTS => {
            let flags = r.r.u8()?;
            let count = r.r.count(PARTITIONS_MAX)?;
            let mut roots = Vec::with_capacity(count.min(r.r.remaining() / 18));
            for _ in 0..count {
                roots.push(TreeRoot { partition: PartitionId(r.u16()?), root: r.r.u128()? });
            }
            Body::TreeRoots {
                skips_tombstones: flags & ROOTS_SKIP_TOMBSTONES != 0,
                reply: flags & ROOTS_REPLY != 0,
                roots,
            }
        }
        TREE_NODES => Body::TreeNodes { level: r.r.u8()?, nodes: read_numbers(r, TREE_NODES_MAX)? },
        TREE_NODES_REPLY => {
            let depth = r.r.u8()?;
            let count = r.r.count(TREE_NODES_MAX * FAN_OUT)?;
            let hashes = (0..count).map(|_| r.r.u128()).collect::<Result<_, _>>()?;
            Body::TreeNodesReply { depth, hashes }
        }
        TREE_KEYS => Body::TreeKeys {
            depth: r.r.u8()?,
            leaves: read_numbers(r, AUDIT_LEAVES_MAX)?,
            after: r.optional_key()?,
        },
        TREE_KEYS_REPLY => {
            let count = r.r.count(TREE_KEYS_MAX)?;
            let mut keys = Vec::with_capacity(count.min(r.r.remaining() / 17));
            for _ in 0..count {
                keys.push((r.key()?, r.r.u128()?));
            }
            Body::TreeKeysReply { keys, next: r.optional_key()?, unreadable: r.r.u32()? }
        }
        AUDIT_DONE => Body::AuditDone,
        REFUSED => Body::Refused { failure: Box::new(read_failure(r)?) },
        DIGESTS => {
            let count = r.r.count(PARTITIONS_MAX)?;
            let digests = (0..count)
                .map(|_| Ok(Digest { partition: PartitionId(r.u16()?), life: r.life()?, seen: r.r.u64()? }));
            Body::Digests { digests: digests.collect::<Result<_, BadBytes>>()? }
        }
        DIGESTS_REPLY => {
            let count = r.r.count(PARTITIONS_MAX)?;
            Body::DigestsReply { compared: (0..count).map(|_| read_compared(r)).collect::<Result<_, _>>()? }
        }
        PULL => Body::Pull { life: r.life()?, hints: r.flag()?, full: r.flag()?, seen: r.seen()? },
        PULL_MORE => Body::PullMore { session: r.r.u64()?, after: r.key()? },
        PULL_REPLY => read_pull_reply(r)?,
        ASK_SEEN => Body::AskSeen,
        OFFER => Body::Offer { seen: r.seen()? },
        OFFER_REPLY => Body::OfferReply { covered: r.flag()? },
        SEEN_REPLY => Body::SeenReply { life: r.life()?, seen: r.seen()? },
        SURVEY => {
            let count = r.r.count(SURVEY_MAX)?;
            let about = (0..count).map(|_| r.r.u64().map(Incarnation)).collect::<Result<_, _>>()?;
            Body::Survey { about }
        }
        SURVEY_REPLY => Body::SurveyReply {
            home: if r.flag()? { Some(r.life()?) } else { None },
            live: if r.flag()? { Some(Incarnation(r.r.u64()?)) } else { None },
            seen: r.seen()?,
            ends: read_closed(&mut r.r)?,
        },
        FREEZE => Body::Freeze { incarnation: Incarnation(r.r.u64()?), set: read_row(&mut r.r)? },
        FREEZE_REPLY => Body::FreezeReply { frozen: r.flag()?, seen: read_row(&mut r.r)? },
        ENDS => Body::Ends { ends: read_closed(&mut r.r)? },
        unknown => return Err(WireError::UnknownMessage(unknown)),
    })
}

fn write_page(
    w: &mut FrameWriter<'_>,
    standing: Standing,
    entries: &[Entry],
    more: bool,
    frontier: &Frontier,
) {
    w.u8(standing_byte(standing));
    w.u8(more.into());
    frontier_of(w, frontier);
    w.varint(entries.len() as u64);
    for entry in entries {
        w.bytes(&entry.key);
        w.bytes(&entry.record);
    }
}

fn read_page(r: &mut Source<'_>) -> Result<(Standing, Vec<Entry>, bool, Frontier), WireError> {
    let standing = r.standing()?;
    let more = r.flag()?;
    let frontier = r.frontier()?;
    let count = r.r.count(LIST_PAGE_KEYS_MAX)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry { key: r.bytes()?, record: r.bytes()? });
    }
    Ok((standing, entries, more, frontier))
}

fn read_compared(r: &mut Source<'_>) -> Result<Compared, BadBytes> {
    let (partition, life) = (PartitionId(r.u16()?), r.life()?);
    let difference = if r.flag()? {
        let (seen, closed) = (r.seen()?, r.r.u64()?);
        let remembered =
            if r.flag()? { Some(Remembered { life: r.r.u64()?, bases: r.frontier()? }) } else { None };
        Some(Difference { seen, closed, remembered })
    } else {
        None
    };
    Ok(Compared { partition, life, difference })
}

fn read_pull_reply(r: &mut Source<'_>) -> Result<Body, WireError> {
    let session = r.r.u64()?;
    let life = r.life()?;
    let unreadable = r.r.u32()?;
    let next = if r.flag()? { Some(r.key()?) } else { None };
    let frontier = r.frontier()?;
    let sigma = if r.flag()? { Some(Box::new(r.seen()?)) } else { None };
    let count = r.r.count(PULL_PAGE_RECORDS_MAX)?;
    let mut pulled = Vec::with_capacity(count);
    for _ in 0..count {
        pulled.push(Pulled { key: r.key()?, record: r.bytes()? });
    }
    Ok(Body::PullReply(PullPage { session, pulled, next, sigma, frontier, life, unreadable }))
}

fn write_numbers(w: &mut FrameWriter<'_>, numbers: &[u32]) {
    w.varint(numbers.len() as u64);
    numbers.iter().for_each(|number| w.u32(*number));
}

fn read_numbers(r: &mut Source<'_>, max: usize) -> Result<Vec<u32>, BadBytes> {
    let count = r.r.count(max)?;
    (0..count).map(|_| r.r.u32()).collect()
}

fn write_put(w: &mut FrameWriter<'_>, put: &Put) {
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

fn read_put(r: &mut Source<'_>) -> Result<Put, WireError> {
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

fn write_done(w: &mut FrameWriter<'_>, done: &Done) {
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

fn read_done(r: &mut Source<'_>) -> Result<Done, WireError> {
    let dot = Dot::new(Incarnation(r.r.u64()?), r.r.varint()?);
    let acks = r.acks()?;
    let buffered = r.flag()?;
    let siblings = r.r.u32()?;
    let coordinator = NodeId(r.r.u64()?);
    let context = read_context(r)?;
    let explain = read_lines(r)?;
    Ok(Done { dot, context, acks, buffered, siblings, coordinator, explain })
}

fn write_failure(w: &mut FrameWriter<'_>, failure: &Failure) {
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

fn read_failure(r: &mut Source<'_>) -> Result<Failure, WireError> {
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

fn write_optional_bytes(w: &mut FrameWriter<'_>, bytes: Option<&Bytes>) {
    w.u8(bytes.is_some().into());
    if let Some(bytes) = bytes {
        w.bytes(bytes);
    }
}

fn frontier_of(w: &mut FrameWriter<'_>, frontier: &Frontier) {
    if frontier.is_none() { w.varint(0) } else { w.core(|w| write_frontier(w, frontier)) }
}

fn standing_byte(standing: Standing) -> u8 {
    match standing {
        Standing::Continuous => 0,
        Standing::Unproven => 1,
    }
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

fn flags<const COUNT: usize>(flags: [(u8, bool); COUNT]) -> u8 {
    flags.into_iter().filter(|(_, set)| *set).fold(0, |all, (flag, _)| all | flag)
}

/// A reader with the buffer that its slices share.
struct Source<'a> {
    r: Reader<'a>,
    whole: &'a Bytes,
}

impl Source<'_> {
    fn u16(&mut self) -> Result<u16, BadBytes> {
        Ok(u16::from_le_bytes([self.r.u8()?, self.r.u8()?]))
    }

    fn flag(&mut self) -> Result<bool, BadBytes> {
        match self.r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadBytes::Malformed),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, BadBytes> {
        self.r.bytes_of(self.whole)
    }

    fn optional_bytes(&mut self) -> Result<Option<Bytes>, BadBytes> {
        if self.flag()? { self.bytes().map(Some) } else { Ok(None) }
    }

    fn key(&mut self) -> Result<Key, WireError> {
        Ok(Key::from_joined(self.bytes()?)?)
    }

    fn optional_key(&mut self) -> Result<Option<Key>, WireError> {
        if self.flag()? { self.key().map(Some) } else { Ok(None) }
    }

    fn standing(&mut self) -> Result<Standing, BadBytes> {
        Ok(if self.flag()? { Standing::Unproven } else { Standing::Continuous })
    }

    fn frontier(&mut self) -> Result<Frontier, BadBytes> {
        read_frontier(&mut self.r)
    }

    fn seen(&mut self) -> Result<Seen, BadBytes> {
        read_seen(&mut self.r)
    }

    fn life(&mut self) -> Result<Life, BadBytes> {
        Ok(Life { number: self.r.u64()?, standing: self.standing()? })
    }

    fn acks(&mut self) -> Result<Acks, BadBytes> {
        Ok(Acks { homes: self.r.u8()?, fallbacks: self.r.u8()? })
    }
}

const READ: u8 = 1;
const READ_REPLY: u8 = 2;
const MERGE: u8 = 3;
const MERGE_REPLY: u8 = 4;
const FORWARD: u8 = 5;
const FORWARD_REPLY: u8 = 6;
const LIST: u8 = 7;
const LIST_REPLY: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const BUCKETS_DIGEST: u8 = 11;
const BUCKETS: u8 = 12;
const REFUSED: u8 = 13;
const DIGESTS: u8 = 14;
const DIGESTS_REPLY: u8 = 15;
const PULL: u8 = 16;
const PULL_MORE: u8 = 17;
const PULL_REPLY: u8 = 18;
const ASK_SEEN: u8 = 19;
const OFFER: u8 = 22;
const OFFER_REPLY: u8 = 23;
const SEEN_REPLY: u8 = 20;
const SURVEY: u8 = 34;
const SURVEY_REPLY: u8 = 35;
const FREEZE: u8 = 36;
const FREEZE_REPLY: u8 = 37;
const ENDS: u8 = 38;
const COPY: u8 = 40;
const COPY_REPLY: u8 = 41;

const TREE_ROOTS: u8 = 26;
const TREE_NODES: u8 = 27;
const TREE_NODES_REPLY: u8 = 28;
const TREE_KEYS: u8 = 29;
const TREE_KEYS_REPLY: u8 = 30;
const AUDIT_DONE: u8 = 31;

const ROOTS_SKIP_TOMBSTONES: u8 = 1;
const ROOTS_REPLY: u8 = 2;

const FORWARD_DONE: u8 = 0;
const FORWARD_FAILED: u8 = 1;

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
