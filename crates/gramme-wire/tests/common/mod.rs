//! What the tests of this crate share: values of every kind, cuts of a stream, golden files.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::{Bytes, BytesMut};
use gramme_core::bucket::{BucketFact, BucketSettings, Level, Mode};
use gramme_core::closed::{Closed, End};
use gramme_core::gossip::{self, Line, Name, NodeFact, PARTS};
use gramme_core::limits::STAGED_KEY_BYTES_MAX;
use gramme_core::paxos::Decree;
use gramme_core::paxos::{Accepted, Ballot, Proposal, Reply, Request, Says, Settled};
use gramme_core::record::{Content, Spent};
use gramme_core::seen::SeenRow;
use gramme_core::{
    Clock, Context, Dot, Frontier, Incarnation, Interval, Key, LayoutHash, NodeId, Outcome, PartitionId,
    RequestId, Seen, Stamp,
};
use gramme_wire::{Acks, Body, Done, Entry, Expect, Failure, Message, Put, Reason, Standing};
use gramme_wire::{
    Compared, Difference, Digest, Life, PullOf, PullPage, Pulled, Reconcile, Remembered, TreeRoot,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::fmt::Write as _;

/// Compares named bytes with those that are committed, one `name hex` per line. They must never change: other
/// releases have them on their disks and wires. New names are added by running with GRAMME_GOLDEN=add.
pub(crate) fn golden(file: &str, current: &[(String, Vec<u8>)]) -> Vec<(String, Bytes)> {
    let committed = golden_names(file, current);
    for ((name, bytes), (_, old)) in current.iter().zip(&committed) {
        assert_eq!(to_hex(old), to_hex(bytes), "{file}: the bytes of {name} have changed");
    }
    committed
}

/// The committed bytes of these names, where some of the bytes are words for people and may be said better.
pub(crate) fn golden_names(file: &str, current: &[(String, Vec<u8>)]) -> Vec<(String, Bytes)> {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("GRAMME_GOLDEN").is_some_and(|mode| mode == "add") {
        for (name, bytes) in current {
            if !text.lines().any(|line| line.split(' ').next() == Some(name)) {
                writeln!(text, "{name} {}", to_hex(bytes)).unwrap();
            }
        }
        std::fs::write(&path, &text).unwrap();
    }
    let committed: Vec<(String, Bytes)> = text
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and its bytes");
            (name.to_owned(), from_hex(hex))
        })
        .collect();
    let names = |pairs: Vec<&String>| pairs.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(committed.iter().map(|(name, _)| name).collect()),
        names(current.iter().map(|(name, _)| name).collect()),
        "{file} has other names than are made: for a new one, run with GRAMME_GOLDEN=add"
    );
    committed
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn from_hex(hex: &str) -> Bytes {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A stream in pieces: each cut is a share of what is left.
pub(crate) fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut left = stream;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (head, rest) = left.split_at(cut % (left.len() + 1));
        pieces.push(head);
        left = rest;
    }
    pieces.push(left);
    pieces
}

/// The message as one frame.
pub(crate) fn framed(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    gramme_wire::peer::encode(message, &mut out).unwrap();
    out
}

/// One message of every variant, with every optional part present and absent: the golden files.
pub(crate) fn one_of_each() -> Vec<(String, Message)> {
    let key = Key::new("carts", b"alice\0\xff").unwrap();
    let other_key = Key::new("carts", b"bob").unwrap();
    let record = Bytes::from_static(b"an encoded record");
    let context = Context {
        clock: Clock::from_intervals([
            Interval { incarnation: Incarnation(0xa1), lo: 0, hi: 7 },
            Interval { incarnation: Incarnation(0xb2), lo: 299, hi: 300 },
        ]),
        preferred: Some(NodeId(3)),
        requests: vec![Spent {
            request: RequestId(77),
            checksum: 88,
            stamp: Stamp(99),
            turn: 0,
            shown: true,
        }],
    };
    let put = Put {
        key: key.clone(),
        content: Content::Value(Bytes::from_static(b"apples")),
        content_type: Bytes::from_static(b"text/plain"),
        meta: vec![(Bytes::from_static(b"colour"), Bytes::from_static(b"red"))],
        ttl_ms: Some(60_000),
        context: Some(context.clone()),
        w: Some(Level::Quorum),
        pw: 1,
        request: RequestId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        retry: true,
        buffered: Some(true),
        expect: Some(Expect::Tag(0x7a6)),
        explain: true,
    };
    let bare_put = Put {
        content: Content::Tombstone,
        content_type: Bytes::new(),
        meta: Vec::new(),
        ttl_ms: None,
        context: None,
        w: None,
        pw: 0,
        retry: false,
        buffered: None,
        expect: None,
        explain: false,
        ..put.clone()
    };
    let done = Done {
        dot: Dot::new(Incarnation(0xa1), 8),
        context: Context { preferred: None, ..context },
        acks: Acks { homes: 2, fallbacks: 1 },
        buffered: true,
        siblings: 4,
        coordinator: NodeId(2),
        explain: vec!["0 ms asked 1, 2, 3".to_owned(), "2 ms 2 answered".to_owned()],
    };
    let failure = |reason| {
        Box::new(Failure {
            reason,
            outcome: Outcome::MaybeApplied,
            acks: Acks { homes: 1, fallbacks: 0 },
            needed: 2,
            explain: vec!["1000 ms gave up".to_owned()],
        })
    };
    let fact = |mode| BucketFact {
        settings: BucketSettings { mode, ttl_ms: 5000, ..BucketSettings::default_of("x") },
        stamp: Stamp(1 << 40),
        author: NodeId(9),
    };
    let frontier = Frontier::from_bases([(Incarnation(0xa1), 7), (Incarnation(0xb2), 300)]);
    let seen = seen_of([(0xa1, (0, 7)), (0xa1, (9, 300)), (0xb2, (3, 4))]);
    let life = Life { number: 0x1234_5678, standing: Standing::Continuous };
    let unproven = Life { number: 0x1234_5679, standing: Standing::Unproven };
    let pulled = Pulled { key: key.clone(), record: record.clone() };
    let bodies = [
        ("read", Body::Read { key: key.clone() }),
        (
            "read_reply",
            Body::ReadReply {
                standing: Standing::Continuous,
                record: Some(record.clone()),
                frontier: frontier.clone(),
            },
        ),
        (
            "read_reply_nothing",
            Body::ReadReply { standing: Standing::Unproven, record: None, frontier: Frontier::none() },
        ),
        (
            "merge",
            Body::Merge {
                key: key.clone(),
                record: record.clone(),
                hint_for: None,
                stamp: frontier.clone(),
                buffered: false,
                fence: 0,
            },
        ),
        (
            "merge_hint",
            Body::Merge {
                key: key.clone(),
                record: record.clone(),
                hint_for: Some(NodeId(5)),
                stamp: Frontier::none(),
                buffered: true,
                fence: 0,
            },
        ),
        ("merge_reply", Body::MergeReply),
        ("forward", Body::Forward { put: Box::new(put) }),
        ("forward_bare", Body::Forward { put: Box::new(bare_put) }),
        ("forward_reply", Body::ForwardReply { result: Ok(Box::new(done)) }),
        ("forward_reply_failed", Body::ForwardReply { result: Err(failure(Reason::Unavailable)) }),
        (
            "list",
            Body::List {
                bucket: "carts".to_owned(),
                prefix: Bytes::from_static(b"al"),
                after: Some(Bytes::from_static(b"alice")),
                keys_max: 100,
                values: true,
            },
        ),
        (
            "list_reply",
            Body::ListReply {
                standing: Standing::Continuous,
                entries: vec![
                    Entry { key: Bytes::from_static(b"bob"), record: record.clone() },
                    Entry { key: Bytes::from_static(b"carol"), record },
                ],
                more: true,
                frontier: frontier.clone(),
            },
        ),
        ("copy", Body::Copy { after: Some(Bytes::from_static(b"\x05cartsalice")), keys_max: 512 }),
        (
            "copy_reply",
            Body::CopyReply {
                standing: Standing::Continuous,
                entries: vec![Entry {
                    key: Bytes::from_static(b"\x05cartsbob"),
                    record: Bytes::from_static(b"an encoded record"),
                }],
                more: false,
                frontier: frontier.clone(),
                seen: 0x5ee,
            },
        ),
        ("ping", Body::Ping),
        ("pong", Body::Pong),
        ("buckets_digest", Body::BucketsDigest { digest: 0xfeed }),
        (
            "buckets",
            Body::Buckets {
                facts: vec![
                    ("carts".to_owned(), fact(Mode::Siblings)),
                    ("flags".to_owned(), fact(Mode::Lww)),
                ],
                reply: true,
            },
        ),
        ("refused_stale", Body::Refused { failure: failure(Reason::Stale) }),
        ("refused_overloaded", Body::Refused { failure: failure(Reason::Overloaded) }),
        ("refused_frozen", Body::Refused { failure: failure(Reason::Frozen) }),
        ("refused_too_late", Body::Refused { failure: failure(Reason::TooLate) }),
        ("refused_too_many_siblings", Body::Refused { failure: failure(Reason::TooManySiblings(100)) }),
        ("refused_context_required", Body::Refused { failure: failure(Reason::ContextRequired) }),
        (
            "refused_value_too_large",
            Body::Refused { failure: failure(Reason::ValueTooLarge { bytes: 1 << 24, max: 1 << 20 }) },
        ),
        ("refused_disk", Body::Refused { failure: failure(Reason::Disk("no space left".to_owned())) }),
        ("refused_invalid", Body::Refused { failure: failure(Reason::Invalid("w=4, but N=3".to_owned())) }),
        ("refused_unsuitable", Body::Refused { failure: failure(Reason::Unsuitable) }),
        ("refused_unexpected", Body::Refused { failure: failure(Reason::Unexpected) }),
        (
            "digests",
            Body::Digests {
                digests: vec![
                    Digest { partition: PartitionId(7), life, seen: 0xfeed_beef },
                    Digest { partition: PartitionId(300), life: unproven, seen: 1 },
                ],
            },
        ),
        (
            "digests_reply",
            Body::DigestsReply {
                compared: vec![
                    Compared { partition: PartitionId(7), life, difference: None },
                    Compared {
                        partition: PartitionId(8),
                        life: unproven,
                        difference: Some(Difference { seen: seen.clone(), closed: 0, remembered: None }),
                    },
                    Compared {
                        partition: PartitionId(300),
                        life,
                        difference: Some(Difference {
                            seen: Seen::new(),
                            closed: 0xc105,
                            remembered: Some(Remembered { life: 0x99, bases: frontier.clone() }),
                        }),
                    },
                ],
            },
        ),
        ("pull", Body::Pull { life, seen: seen.clone(), of: PullOf::Home, full: false }),
        ("pull_full_hints", Body::Pull { life: unproven, seen: Seen::new(), of: PullOf::Hints, full: true }),
        ("pull_more", Body::PullMore { session: 0x5e55, after: key.clone() }),
        (
            "pull_reply_first",
            Body::PullReply(PullPage {
                session: 0x5e55,
                pulled: vec![pulled.clone(), pulled],
                next: Some(key),
                sigma: Some(Box::new(seen.clone())),
                frontier: frontier.clone(),
                life,
                unreadable: 0,
            }),
        ),
        (
            "pull_reply_last",
            Body::PullReply(PullPage {
                session: 0x5e55,
                pulled: Vec::new(),
                next: None,
                sigma: None,
                frontier: Frontier::none(),
                life: unproven,
                unreadable: 2,
            }),
        ),
        ("ask_seen", Body::AskSeen),
        ("seen_reply", Body::SeenReply { life, seen: seen.clone() }),
        ("refused_hints_full", Body::Refused { failure: failure(Reason::HintsFull) }),
        (
            "tree_roots",
            Body::TreeRoots {
                skips_tombstones: true,
                reply: true,
                roots: vec![
                    TreeRoot { partition: PartitionId(3), root: 0 },
                    TreeRoot { partition: PartitionId(255), root: 0xdead << 100 },
                ],
            },
        ),
        ("tree_nodes", Body::TreeNodes { level: 1, nodes: vec![0, 15] }),
        ("tree_nodes_reply", Body::TreeNodesReply { depth: 2, hashes: (0..16).collect() }),
        ("tree_keys", Body::TreeKeys { depth: 2, leaves: vec![7, 255], after: Some(other_key.clone()) }),
        ("tree_keys_reply", Body::TreeKeysReply { keys: vec![(other_key, 5)], next: None, unreadable: 1 }),
        ("audit_done", Body::AuditDone),
        ("offer", Body::Offer { seen: seen.clone(), left: false }),
        ("offer_reply", Body::OfferReply { covered: true }),
        ("refused_void", Body::Refused { failure: failure(Reason::Void) }),
        ("survey", Body::Survey { about: vec![Incarnation(0xa1), Incarnation(0xb2)], fence: 0 }),
        (
            "survey_reply",
            Body::SurveyReply {
                home: Some(life),
                live: Some(Incarnation(0xcc)),
                seen: seen.clone(),
                ends: closed_of([(0xa1, false, (0, 7)), (0xd4, true, (1, 2))]),
            },
        ),
        (
            "survey_reply_nothing",
            Body::SurveyReply { home: None, live: None, seen: Seen::new(), ends: Closed::new() },
        ),
        (
            "freeze",
            Body::Freeze {
                incarnation: Incarnation(0xa1),
                set: SeenRow::from_runs([(0, 7), (9, 300)]),
                fence: 0,
            },
        ),
        ("freeze_reply", Body::FreezeReply { frozen: true, seen: SeenRow::from_runs([(0, 7)]) }),
        ("ends", Body::Ends { ends: closed_of([(0xd4, true, (1, 2))]) }),
        ("refused_damaged", Body::Refused { failure: failure(Reason::Damaged) }),
        ("reconcile_digest", Body::Reconcile(Reconcile::Digest { digest: 0xfeed })),
        ("reconcile_sums", Body::Reconcile(Reconcile::Sums { sums: Box::new([7; PARTS]) })),
        (
            "reconcile_listing",
            Body::Reconcile(Reconcile::Listing {
                parts: 0x8001,
                lines: vec![Line { name: 0xa1, stamp: Stamp(5 << 16), check: 0xc4ec }],
            }),
        ),
        (
            "reconcile_entries",
            Body::Reconcile(Reconcile::Entries(gossip::Difference {
                send: vec![
                    node_fact(3),
                    known(Name::Staged(Bytes::from_static(b"join 3"))),
                    known(Name::Layout(Decree { lineage: 0, version: 2 }, LayoutHash(0x1a))),
                ],
                want: vec![0xa1, 0xb2],
            })),
        ),
        ("offer_left", Body::Offer { seen: seen.clone(), left: true }),
        ("pull_left", Body::Pull { life, seen: seen.clone(), of: PullOf::Left, full: false }),
        ("refused_stale_layout", Body::Refused { failure: failure(Reason::StaleLayout) }),
        ("paxos_prepare", Body::Paxos(Box::new(prepare()))),
        ("paxos_accept", Body::Paxos(Box::new(accept()))),
        ("paxos_promise", paxos_reply(Says::Promise(None))),
        ("paxos_promise_accepted", paxos_reply(Says::Promise(Some(accepted())))),
        ("paxos_accepted", paxos_reply(Says::Accepted)),
        ("paxos_outbid", paxos_reply(Says::Outbid(ballot()))),
        ("paxos_settled", paxos_reply(Says::Settled(settled()))),
        ("paxos_behind", paxos_reply(Says::Behind(settled()))),
        ("paxos_other_parent", paxos_reply(Says::OtherParent(settled()))),
        (
            "merge_fenced",
            Body::Merge {
                key: Key::new("b", b"k").unwrap(),
                record: Bytes::from_static(b"record"),
                hint_for: None,
                stamp: Frontier::none(),
                buffered: false,
                fence: 1 << 48 | 5,
            },
        ),
        (
            "reconcile_progress",
            Body::Reconcile(Reconcile::Entries(gossip::Difference {
                send: vec![known(Name::Progress(NodeId(3)))],
                want: Vec::new(),
            })),
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| {
            let message = Message {
                correlation: 0x0100_0000_0000_002a,
                partition: PartitionId(0x1234),
                remaining_us: 950_000,
                sent_ns: 123_456_789_012,
                body,
            };
            (name.to_owned(), message)
        })
        .collect()
}

fn node_fact(node: u64) -> (Name, gossip::Entry) {
    let fact = NodeFact {
        name: "ada".to_owned(),
        address: "ada.example:7402".to_owned(),
        http: "ada.example:7400".to_owned(),
        zone: "north".to_owned(),
        release: "0.1.0".to_owned(),
        features: 5,
    };
    fact.entry(NodeId(node), Stamp(9 << 16), 0x11fe)
}

fn known(name: Name) -> (Name, gossip::Entry) {
    (name, gossip::Entry { stamp: Stamp(0), tie: 4, bytes: Bytes::from_static(b"said") })
}

/// Any message.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u16>(), any::<u32>(), any::<u64>(), body()).prop_map(
        |(correlation, partition, remaining_us, sent_ns, body)| Message {
            correlation,
            partition: PartitionId(partition),
            remaining_us,
            sent_ns,
            body,
        },
    )
}

fn decree() -> Decree {
    Decree { lineage: 1, version: 300 }
}

fn ballot() -> Ballot {
    Ballot { round: 7, node: NodeId(0xa1), attempt: 0x0123_4567 }
}

fn settled() -> Settled {
    Settled { decree: decree(), hash: LayoutHash(0xabc) }
}

fn accepted() -> Accepted {
    let proposal = Proposal { hash: LayoutHash(0xdef), bytes: Bytes::from_static(b"a layout") };
    Accepted { ballot: ballot(), proposal }
}

fn prepare() -> Request {
    Request::Prepare { decree: decree(), parent: LayoutHash(0xabc), ballot: ballot() }
}

fn accept() -> Request {
    let Accepted { ballot, proposal } = accepted();
    Request::Accept { decree: decree(), parent: LayoutHash(0xabc), ballot, proposal }
}

fn paxos_reply(says: Says) -> Body {
    Body::PaxosReply(Box::new(Reply { decree: decree(), ballot: ballot(), says }))
}

fn pull_of() -> impl Strategy<Value = PullOf> {
    prop_oneof![Just(PullOf::Home), Just(PullOf::Hints), Just(PullOf::Left)]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        key().prop_map(|key| Body::Read { key }),
        (standing(), option::of(value()), frontier())
            .prop_map(|(standing, record, frontier)| Body::ReadReply { standing, record, frontier }),
        (key(), value(), option::of(node()), frontier(), any::<bool>(), any::<u64>()).prop_map(
            |(key, record, hint_for, stamp, buffered, fence)| Body::Merge {
                key,
                record,
                hint_for,
                stamp,
                buffered,
                fence
            }
        ),
        Just(Body::MergeReply),
        Just(Body::Paxos(Box::new(prepare()))),
        Just(Body::Paxos(Box::new(accept()))),
        Just(paxos_reply(Says::Promise(Some(accepted())))),
        put().prop_map(|put| Body::Forward { put: Box::new(put) }),
        done().prop_map(|done| Body::ForwardReply { result: Ok(Box::new(done)) }),
        failure().prop_map(|failure| Body::ForwardReply { result: Err(Box::new(failure)) }),
        ("[a-z]{1,9}", short(), option::of(short()), any::<u32>(), any::<bool>()).prop_map(
            |(bucket, prefix, after, keys_max, values)| Body::List {
                bucket,
                prefix,
                after,
                keys_max,
                values
            }
        ),
        (standing(), vec((short(), value()), 0..20), any::<bool>(), frontier()).prop_map(
            |(standing, entries, more, frontier)| {
                let entries = entries.into_iter().map(|(key, record)| Entry { key, record }).collect();
                Body::ListReply { standing, entries, more, frontier }
            }
        ),
        (option::of(short()), any::<u32>()).prop_map(|(after, keys_max)| Body::Copy { after, keys_max }),
        (standing(), vec((short(), value()), 0..20), any::<bool>(), frontier(), any::<u64>()).prop_map(
            |(standing, entries, more, frontier, seen)| {
                let entries = entries.into_iter().map(|(key, record)| Entry { key, record }).collect();
                Body::CopyReply { standing, entries, more, frontier, seen }
            }
        ),
        (any::<bool>(), any::<bool>(), vec((any::<u16>(), any::<u128>()), 0..9)).prop_map(
            |(skips_tombstones, reply, roots)| {
                let root = |(p, root)| TreeRoot { partition: PartitionId(p), root };
                Body::TreeRoots { skips_tombstones, reply, roots: roots.into_iter().map(root).collect() }
            }
        ),
        (any::<u8>(), vec(any::<u32>(), 0..9)).prop_map(|(level, nodes)| Body::TreeNodes { level, nodes }),
        (any::<u8>(), vec(any::<u128>(), 0..40))
            .prop_map(|(depth, hashes)| Body::TreeNodesReply { depth, hashes }),
        (any::<u8>(), vec(any::<u32>(), 0..9), option::of(key()))
            .prop_map(|(depth, leaves, after)| Body::TreeKeys { depth, leaves, after }),
        (vec((key(), any::<u128>()), 0..9), option::of(key()), any::<u32>())
            .prop_map(|(keys, next, unreadable)| Body::TreeKeysReply { keys, next, unreadable }),
        Just(Body::AuditDone),
        Just(Body::Ping),
        Just(Body::Pong),
        any::<u64>().prop_map(|digest| Body::BucketsDigest { digest }),
        (vec(("[a-z]{1,9}", fact()), 0..5), any::<bool>())
            .prop_map(|(facts, reply)| Body::Buckets { facts, reply }),
        failure().prop_map(|failure| Body::Refused { failure: Box::new(failure) }),
        exchange(),
        reconcile().prop_map(Body::Reconcile),
    ]
}

fn reconcile() -> impl Strategy<Value = Reconcile> {
    let line = (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(name, stamp, check)| Line {
        name,
        stamp: Stamp(stamp),
        check,
    });
    let name = prop_oneof![
        (any::<u64>(), any::<u64>(), any::<u128>()).prop_map(|(lineage, version, hash)| {
            Name::Layout(Decree { lineage, version }, LayoutHash(hash))
        }),
        vec(any::<u8>(), 0..STAGED_KEY_BYTES_MAX).prop_map(|key| Name::Staged(key.into())),
        node().prop_map(Name::Node),
    ];
    let entry =
        (name, any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..99)).prop_map(|(name, stamp, tie, bytes)| {
            (name, gossip::Entry { stamp: Stamp(stamp), tie, bytes: bytes.into() })
        });
    prop_oneof![
        any::<u64>().prop_map(|digest| Reconcile::Digest { digest }),
        any::<[u64; PARTS]>().prop_map(|sums| Reconcile::Sums { sums: Box::new(sums) }),
        (any::<u16>(), vec(line, 0..9)).prop_map(|(parts, lines)| Reconcile::Listing { parts, lines }),
        (vec(entry, 0..5), vec(any::<u64>(), 0..9))
            .prop_map(|(send, want)| Reconcile::Entries(gossip::Difference { send, want })),
    ]
}

fn exchange() -> impl Strategy<Value = Body> {
    let digest = (any::<u16>(), life(), any::<u64>()).prop_map(|(partition, life, seen)| Digest {
        partition: PartitionId(partition),
        life,
        seen,
    });
    let remembered = (any::<u64>(), frontier()).prop_map(|(life, bases)| Remembered { life, bases });
    let difference = (seen(), any::<u64>(), option::of(remembered))
        .prop_map(|(seen, closed, remembered)| Difference { seen, closed, remembered });
    let compared =
        (any::<u16>(), life(), option::of(difference)).prop_map(|(partition, life, difference)| Compared {
            partition: PartitionId(partition),
            life,
            difference,
        });
    let page = (any::<u64>(), vec((key(), value()), 0..9), option::of(key()), option::of(seen()));
    prop_oneof![
        vec(digest, 0..20).prop_map(|digests| Body::Digests { digests }),
        vec(compared, 0..9).prop_map(|compared| Body::DigestsReply { compared }),
        (life(), seen(), pull_of(), any::<bool>()).prop_map(|(life, seen, of, full)| Body::Pull {
            life,
            seen,
            of,
            full
        }),
        (any::<u64>(), key()).prop_map(|(session, after)| Body::PullMore { session, after }),
        (page, frontier(), life(), any::<u32>()).prop_map(
            |((session, pulled, next, sigma), frontier, life, unreadable)| {
                let pulled = pulled.into_iter().map(|(key, record)| Pulled { key, record }).collect();
                let sigma = sigma.map(Box::new);
                Body::PullReply(PullPage { session, pulled, next, sigma, frontier, life, unreadable })
            }
        ),
        Just(Body::AskSeen),
        (life(), seen()).prop_map(|(life, seen)| Body::SeenReply { life, seen }),
        vec(any::<u64>(), 0..9)
            .prop_map(|about| Body::Survey { about: about.into_iter().map(Incarnation).collect(), fence: 0 }),
        (option::of(life()), option::of(any::<u64>()), seen(), closed()).prop_map(
            |(home, live, seen, ends)| Body::SurveyReply { home, live: live.map(Incarnation), seen, ends }
        ),
        (any::<u64>(), row()).prop_map(|(incarnation, set)| Body::Freeze {
            incarnation: Incarnation(incarnation),
            set,
            fence: 0
        }),
        (any::<bool>(), row()).prop_map(|(frozen, seen)| Body::FreezeReply { frozen, seen }),
        closed().prop_map(|ends| Body::Ends { ends }),
    ]
}

fn row() -> impl Strategy<Value = SeenRow> {
    vec((0..1000u64, 1..20u64), 0..5)
        .prop_map(|runs| SeenRow::from_runs(runs.into_iter().map(|(lo, len)| (lo, lo + len))))
}

fn life() -> impl Strategy<Value = Life> {
    (any::<u64>(), standing()).prop_map(|(number, standing)| Life { number, standing })
}

fn seen() -> impl Strategy<Value = Seen> {
    vec((0..5u64, (0..1000u64, 1..20u64)), 0..9).prop_map(|runs| {
        seen_of(runs.into_iter().map(|(incarnation, (lo, len))| (incarnation, (lo, lo + len))))
    })
}

/// A seen clock of these runs.
fn closed_of(ends: impl IntoIterator<Item = (u64, bool, (u64, u64))>) -> Closed {
    let mut all = Closed::new();
    for (incarnation, closed, run) in ends {
        all.set(Incarnation(incarnation), End { closed, set: SeenRow::from_runs([run]) });
    }
    all
}

fn closed() -> impl Strategy<Value = Closed> {
    vec((any::<u64>(), any::<bool>(), (0..1u64 << 40, 1..99u64)), 0..5).prop_map(|ends| {
        closed_of(ends.into_iter().map(|(incarnation, closed, (lo, n))| (incarnation, closed, (lo, lo + n))))
    })
}

pub(crate) fn seen_of(runs: impl IntoIterator<Item = (u64, (u64, u64))>) -> Seen {
    let mut seen = Seen::new();
    for (incarnation, (lo, hi)) in runs {
        let incarnation = Incarnation(incarnation);
        let mut row = seen.row(incarnation).cloned().unwrap_or_default();
        row.add(lo, hi);
        seen.set_row(incarnation, row);
    }
    seen
}

fn put() -> impl Strategy<Value = Put> {
    let content = prop_oneof![Just(Content::Tombstone), value().prop_map(Content::Value)];
    (
        (key(), content, short(), vec((short(), short()), 0..4), option::of(any::<u64>())),
        (
            option::of(context()),
            option::of(level()),
            any::<u8>(),
            any::<u128>(),
            any::<bool>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((key, content, content_type, meta, ttl_ms), (context, w, pw, request, retry, explain))| Put {
                key,
                content,
                content_type,
                meta,
                ttl_ms,
                context,
                w,
                pw,
                request: RequestId(request),
                retry,
                buffered: explain.then_some(retry),
                expect: retry.then_some(if explain { Expect::Absent } else { Expect::Tag(u64::from(pw)) }),
                explain,
            },
        )
}

fn done() -> impl Strategy<Value = Done> {
    (any::<u64>(), any::<u64>(), context(), acks(), any::<u32>(), node(), lines()).prop_map(
        |(incarnation, n, context, acks, siblings, coordinator, explain)| Done {
            dot: Dot::new(Incarnation(incarnation), n),
            context,
            acks,
            buffered: n % 2 == 0,
            siblings,
            coordinator,
            explain,
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    let reason = prop_oneof![
        Just(Reason::Unavailable),
        Just(Reason::Stale),
        Just(Reason::Overloaded),
        Just(Reason::Frozen),
        Just(Reason::TooLate),
        any::<u32>().prop_map(Reason::TooManySiblings),
        Just(Reason::ContextRequired),
        (any::<u64>(), any::<u64>()).prop_map(|(bytes, max)| Reason::ValueTooLarge { bytes, max }),
        ".{0,30}".prop_map(Reason::Disk),
        ".{0,30}".prop_map(Reason::Invalid),
        Just(Reason::Unsuitable),
        Just(Reason::HintsFull),
        Just(Reason::Void),
        Just(Reason::StaleLayout),
        Just(Reason::Damaged),
    ];
    let outcome = prop_oneof![Just(Outcome::NotApplied), Just(Outcome::MaybeApplied), Just(Outcome::Applied)];
    (reason, outcome, acks(), any::<u8>(), lines()).prop_map(|(reason, outcome, acks, needed, explain)| {
        Failure { reason, outcome, acks, needed, explain }
    })
}

fn fact() -> impl Strategy<Value = BucketFact> {
    let mode = prop_oneof![Just(Mode::Siblings), Just(Mode::Lww)];
    (level(), level(), mode, any::<u64>(), any::<bool>(), any::<u64>(), node()).prop_map(
        |(r, w, mode, ttl_ms, require_context, stamp, author)| BucketFact {
            settings: BucketSettings {
                r,
                w,
                mode,
                ttl_ms,
                require_context,
                buffered: require_context,
                ..BucketSettings::default_of("x")
            },
            stamp: Stamp(stamp),
            author,
        },
    )
}

fn context() -> impl Strategy<Value = Context> {
    let interval = (any::<u64>(), 0..u64::MAX / 2, 1..1000u64).prop_map(|(incarnation, lo, len)| Interval {
        incarnation: Incarnation(incarnation),
        lo,
        hi: lo + len,
    });
    let spent = (any::<u128>(), any::<u64>(), any::<u64>()).prop_map(|(request, checksum, stamp)| Spent {
        request: RequestId(request),
        checksum,
        stamp: Stamp(stamp),
        turn: 0,
        shown: true,
    });
    (vec(interval, 0..6), option::of(node()), vec(spent, 0..4)).prop_map(
        |(intervals, preferred, requests)| Context {
            clock: Clock::from_intervals(intervals),
            preferred,
            requests,
        },
    )
}

fn key() -> impl Strategy<Value = Key> {
    ("[a-z][a-z0-9_.-]{0,20}", vec(any::<u8>(), 1..40))
        .prop_map(|(bucket, key)| Key::new(&bucket, &key).unwrap())
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::One), Just(Level::Quorum), Just(Level::All), (1..=252u8).prop_map(Level::Count)]
}

fn acks() -> impl Strategy<Value = Acks> {
    (any::<u8>(), any::<u8>()).prop_map(|(homes, fallbacks)| Acks { homes, fallbacks })
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Standing::Continuous), Just(Standing::Unproven)]
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,20}", 0..4)
}

fn frontier() -> impl Strategy<Value = Frontier> {
    vec((any::<u64>(), any::<u64>()), 0..4)
        .prop_map(|bases| Frontier::from_bases(bases.into_iter().map(|(i, n)| (Incarnation(i), n))))
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

fn short() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

/// Mostly small; now and then larger than what is copied together.
fn value() -> impl Strategy<Value = Bytes> {
    let large = (65_530..70_000usize, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]));
    prop_oneof![9 => vec(any::<u8>(), 0..300).prop_map(Bytes::from), 1 => large]
}
