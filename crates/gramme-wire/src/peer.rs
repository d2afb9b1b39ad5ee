//! [`Message`] to bytes and back. Byte table of every variant: `docs/format/wire.md`.
//!
//! A body is a fixed head (number, partition, correlation, times), then the fields of its variant. Bytes after
//! the last field that this release knows are skipped: a newer release appends there what an older one may
//! ignore, and marks the frame critical if it may not.
//!
//! Decoding copies no key, value or record: they are slices of the frame. It allocates only what the input
//! fills, and never panics.

mod client;
mod reconcile;
mod source;

use client::{read_done, read_failure, read_put, write_done, write_failure, write_put};
use reconcile::{read_reconcile, tag_of_reconcile, write_reconcile};
use source::Source;

use crate::frame::{Kind, WireError};
use crate::message::{Body, Entry, Message, Standing};
use crate::message::{Compared, Difference, Digest, Life, PullOf, PullPage, Pulled, Remembered, TreeRoot};
use crate::outgoing::{FrameWriter, Outgoing};
use bytes::{Bytes, BytesMut};
use gramme_core::bucket::{read_bucket_fact, write_bucket_fact};
use gramme_core::closed::{read_closed, write_closed};
use gramme_core::codec::{BadBytes, Reader};
use gramme_core::frontier::{Frontier, write_frontier};
use gramme_core::limits::{
    AUDIT_LEAVES_MAX, PARTITIONS_MAX, PULL_PAGE_RECORDS_MAX, SURVEY_MAX, TREE_KEYS_MAX, TREE_NODES_MAX,
};
use gramme_core::limits::{BUCKETS_MAX, LIST_PAGE_KEYS_MAX};
use gramme_core::merkle::FAN_OUT;
use gramme_core::paxos::{read_reply, read_request, write_reply, write_request};
use gramme_core::seen::{read_row, write_row, write_seen};
use gramme_core::{Incarnation, Key, NodeId, PartitionId};

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
        Body::Reconcile(step) => tag_of_reconcile(step),
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
        Body::Paxos(_) => PAXOS,
        Body::PaxosReply(_) => PAXOS_REPLY,
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
        Body::Merge { key, record, hint_for, stamp, buffered, fence } => {
            w.bytes(key.joined());
            w.bytes(record);
            w.u8(hint_for.is_some().into());
            if let Some(home) = hint_for {
                w.u64(home.0);
            }
            frontier_of(w, stamp);
            w.u8((*buffered).into());
            write_fence(w, *fence);
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
        Body::Reconcile(step) => write_reconcile(w, step),
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
        Body::Pull { life, seen, of, full } => {
            write_life(w, *life);
            w.u8(pull_byte(*of));
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
        Body::Offer { seen, left } => {
            w.core(|w| write_seen(w, seen));
            if *left {
                w.u8(1);
            }
        }
        Body::OfferReply { covered } => w.u8((*covered).into()),
        Body::SeenReply { life, seen } => {
            write_life(w, *life);
            w.core(|w| write_seen(w, seen));
        }
        Body::Survey { about, fence } => {
            w.varint(about.len() as u64);
            about.iter().for_each(|incarnation| w.u64(incarnation.0));
            write_fence(w, *fence);
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
        Body::Freeze { incarnation, set, fence } => {
            w.u64(incarnation.0);
            w.core(|w| write_row(w, set));
            write_fence(w, *fence);
        }
        Body::FreezeReply { frozen, seen } => {
            w.u8((*frozen).into());
            w.core(|w| write_row(w, seen));
        }
        Body::Ends { ends } => w.core(|w| write_closed(w, ends)),
        Body::Paxos(request) => w.core(|w| write_request(w, request)),
        Body::PaxosReply(reply) => w.core(|w| write_reply(w, reply)),
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
            fence: read_fence(r)?,
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
        PULL => Body::Pull { life: r.life()?, of: read_pull_of(r)?, full: r.flag()?, seen: r.seen()? },
        PULL_MORE => Body::PullMore { session: r.r.u64()?, after: r.key()? },
        PULL_REPLY => read_pull_reply(r)?,
        ASK_SEEN => Body::AskSeen,
        OFFER => Body::Offer { seen: r.seen()?, left: r.r.remaining() > 0 && r.flag()? },
        OFFER_REPLY => Body::OfferReply { covered: r.flag()? },
        SEEN_REPLY => Body::SeenReply { life: r.life()?, seen: r.seen()? },
        SURVEY => {
            let count = r.r.count(SURVEY_MAX)?;
            let about = (0..count).map(|_| r.r.u64().map(Incarnation)).collect::<Result<_, _>>()?;
            Body::Survey { about, fence: read_fence(r)? }
        }
        SURVEY_REPLY => Body::SurveyReply {
            home: if r.flag()? { Some(r.life()?) } else { None },
            live: if r.flag()? { Some(Incarnation(r.r.u64()?)) } else { None },
            seen: r.seen()?,
            ends: read_closed(&mut r.r)?,
        },
        FREEZE => Body::Freeze {
            incarnation: Incarnation(r.r.u64()?),
            set: read_row(&mut r.r)?,
            fence: read_fence(r)?,
        },
        FREEZE_REPLY => Body::FreezeReply { frozen: r.flag()?, seen: read_row(&mut r.r)? },
        ENDS => Body::Ends { ends: read_closed(&mut r.r)? },
        PAXOS => Body::Paxos(Box::new(read_request(&mut r.r)?)),
        PAXOS_REPLY => Body::PaxosReply(Box::new(read_reply(&mut r.r)?)),
        other => match read_reconcile(r, other)? {
            Some(step) => Body::Reconcile(step),
            None => return Err(WireError::UnknownMessage(other)),
        },
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

/// At the end of a message, and only if it is not 0: the first release knew none. A field that comes after it must be
/// preceded by it, even by 0.
fn write_fence(w: &mut FrameWriter<'_>, fence: u64) {
    if fence > 0 {
        w.varint(fence);
    }
}

fn read_fence(r: &mut Source<'_>) -> Result<u64, BadBytes> {
    if r.r.remaining() > 0 { r.r.varint() } else { Ok(0) }
}

fn pull_byte(of: PullOf) -> u8 {
    match of {
        PullOf::Home => 0,
        PullOf::Hints => 1,
        PullOf::Left => 2,
    }
}

fn read_pull_of(r: &mut Source<'_>) -> Result<PullOf, BadBytes> {
    match r.r.u8()? {
        0 => Ok(PullOf::Home),
        1 => Ok(PullOf::Hints),
        2 => Ok(PullOf::Left),
        _ => Err(BadBytes::Malformed),
    }
}

fn flags<const COUNT: usize>(flags: [(u8, bool); COUNT]) -> u8 {
    flags.into_iter().filter(|(_, set)| *set).fold(0, |all, (flag, _)| all | flag)
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
const PAXOS: u8 = 50;
const PAXOS_REPLY: u8 = 51;
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
