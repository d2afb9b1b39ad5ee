//! What stories are told with: keys, writes, records, answers, and words for what was said.

use super::{PARTITION, Said};
use bytes::Bytes;
use gramme_core::codec::{decode_record, encode_record};
use gramme_core::record::{Content, checksum};
use gramme_core::{Context, Dot, Frontier, Incarnation, Key, NodeId, Record, RequestId, Sibling, Stamp};
use gramme_node::request::{Get, ListPage, Request};
use gramme_wire::{Body, Failure, Put, Reason, Standing};

pub fn word(body: &Body) -> &'static str {
    match body {
        Body::Read { .. } => "read",
        Body::ReadReply { .. } => "read reply",
        Body::Merge { hint_for: None, .. } => "merge",
        Body::Merge { hint_for: Some(_), .. } => "hint",
        Body::MergeReply => "merge reply",
        Body::Forward { .. } => "forward",
        Body::ForwardReply { .. } => "forward reply",
        Body::List { .. } => "list",
        Body::ListReply { .. } => "list reply",
        Body::Copy { .. } => "copy",
        Body::CopyReply { .. } => "copy reply",
        Body::Ping => "ping",
        Body::Pong => "pong",
        Body::BucketsDigest { .. } => "digest",
        Body::Buckets { .. } => "buckets",
        Body::Reconcile(_) => "reconcile",
        Body::TreeRoots { .. } => "roots",
        Body::TreeNodes { .. } => "nodes",
        Body::TreeNodesReply { .. } => "nodes reply",
        Body::TreeKeys { .. } => "keys",
        Body::TreeKeysReply { .. } => "keys reply",
        Body::AuditDone => "audit done",
        Body::Refused { .. } => "refused",
        Body::Digests { .. } => "digests",
        Body::DigestsReply { .. } => "digests reply",
        Body::Pull { .. } => "pull",
        Body::PullMore { .. } => "pull more",
        Body::PullReply { .. } => "pull reply",
        Body::AskSeen => "ask seen",
        Body::Offer { .. } => "offer",
        Body::OfferReply { .. } => "offer reply",
        Body::SeenReply { .. } => "seen reply",
        Body::Survey { .. } => "survey",
        Body::SurveyReply { .. } => "survey reply",
        Body::Freeze { .. } => "freeze",
        Body::FreezeReply { .. } => "freeze reply",
        Body::Ends { .. } => "ends",
        Body::Paxos(_) => "paxos",
        Body::PaxosReply(_) => "paxos reply",
    }
}

pub fn key(name: &str) -> Key {
    Key::new("b", name.as_bytes()).expect("a sound key")
}

/// A record that a peer sends to a home, stamped with no frontier.
pub fn merge(name: &str, record: Bytes) -> Body {
    Body::Merge { key: key(name), record, hint_for: None, stamp: Frontier::none(), buffered: false, fence: 0 }
}

pub fn put(name: &str, value: &'static str, request: u128) -> Put {
    Put {
        key: key(name),
        content: Content::Value(Bytes::from_static(value.as_bytes())),
        content_type: Bytes::new(),
        meta: Vec::new(),
        ttl_ms: None,
        context: None,
        w: None,
        pw: 0,
        request: RequestId(request),
        retry: false,
        buffered: None,
        expect: None,
        explain: false,
    }
}

pub fn delete(name: &str, request: u128) -> Put {
    Put { content: Content::Tombstone, ..put(name, "", request) }
}

pub fn write(put: Put) -> Request {
    Request::Put(Box::new(put))
}

pub fn get(name: &str) -> Get {
    Get { key: key(name), r: None, pr: 0, min: None, explain: false }
}

pub fn read(name: &str) -> Request {
    Request::Get(get(name))
}

pub fn page() -> ListPage {
    ListPage {
        partition: PARTITION,
        bucket: "b".to_string(),
        prefix: Bytes::new(),
        after: None,
        keys_max: 100,
        values: true,
        r: None,
    }
}

/// A record that another home made: one value under the dot (incarnation, n).
pub fn foreign(incarnation: u64, n: u64, value: &'static str) -> Record {
    let content = Content::Value(Bytes::from_static(value.as_bytes()));
    Record::new().put(
        &Context::blind(),
        Sibling {
            dot: Dot::new(Incarnation(incarnation), n),
            checksum: checksum(&content),
            content,
            stamp: Stamp::from_ms(1_000_000 + n),
            request: RequestId(u128::from(incarnation) << 64 | u128::from(n)),
            author: NodeId(incarnation),
            ttl_ms: 0,
            content_type: Bytes::new(),
            meta: Vec::new(),
        },
    )
}

/// "I am a continuous home and hold this."
pub fn holds(record: &Record) -> Body {
    let record = (!record.is_empty()).then(|| encode_record(record));
    Body::ReadReply { standing: Standing::Continuous, record, frontier: Frontier::none() }
}

/// "I hold nothing", as whoever's silence proves nothing says it.
pub fn unproven_nothing() -> Body {
    Body::ReadReply { standing: Standing::Unproven, record: None, frontier: Frontier::none() }
}

/// "I did not do it, for this reason."
pub fn refuse(reason: Reason) -> Body {
    Body::Refused { failure: Box::new(Failure::not_applied(reason)) }
}

/// The record that a merge carries.
pub fn record_in(said: &Said) -> Record {
    match &said.body {
        Body::Merge { record, .. } => decode_record(record).expect("it was just encoded"),
        other => panic!("a merge was expected: {other:?}"),
    }
}

pub fn values_of(record: &Record) -> Vec<String> {
    let text = |s: &Sibling| match &s.content {
        Content::Value(value) => String::from_utf8_lossy(value).into_owned(),
        Content::Tombstone => "deleted".to_string(),
    };
    let mut values: Vec<String> = record.siblings().iter().map(text).collect();
    values.sort();
    values
}
