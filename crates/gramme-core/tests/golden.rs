//! Bytes that releases have written, kept for ever: each must open, and mean what it meant (design section 3
//! and `docs/format/`). A format that changes gets a new version and a new file beside these.
//!
//! `GRAMME_GOLDEN=write cargo test -p gramme-core --test golden` writes the files of formats that have none;
//! it never changes one that is there.

mod common;

use bytes::Bytes;
use common::{dot, joined, key};
use gramme_core::bucket::{BucketFact, BucketSettings, Level, Mode, read_bucket_fact, write_bucket_fact};
use gramme_core::codec::{BadBytes, Reader, Writer, decode_record, encode_record};
use gramme_core::layout::plan::plan;
use gramme_core::layout::staged::{Change, Staged};
use gramme_core::paxos::{Acceptor, Ballot, Decree, Proposal, Request, Settled};
use gramme_core::record::{Spent, checksum};
use gramme_core::{
    Clock, Content, Context, Incarnation, Layout, LayoutHash, Member, NodeId, PartitionId, Record, RequestId,
    Sibling, Stamp,
};
use std::path::PathBuf;

const SECRET: [u8; 16] = *b"0123456789abcdef";

/// Everything that a record can hold: two runs of one life, four siblings of which one is a tombstone and
/// one has every field, a write that was overwritten by someone who had seen it, and one that was found.
fn record() -> Record {
    let sibling = |incarnation, n, content: Content| Sibling {
        dot: dot(incarnation, n),
        checksum: checksum(&content),
        content,
        stamp: Stamp(Stamp::from_ms(1_760_000_000_000 + n).0 + 5),
        request: RequestId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f00 + u128::from(n)),
        author: NodeId(0x1111_1111_1111_1111),
        ttl_ms: 0,
        content_type: Bytes::new(),
        meta: Vec::new(),
    };
    let value = |text: &'static str| Content::Value(Bytes::from_static(text.as_bytes()));
    let full = Sibling {
        author: NodeId(0x9999_9999_9999_9999),
        ttl_ms: 86_400_000,
        content_type: Bytes::from_static(b"text/plain; charset=utf-8"),
        meta: vec![
            (Bytes::from_static(b"colour"), Bytes::from_static("grün".as_bytes())),
            (Bytes::from_static(b"empty"), Bytes::new()),
        ],
        ..sibling(0xfeed_0000_0000_0001, 300, value("a value with every field"))
    };
    let first = Record::new().put(&Context::blind(), sibling(0xfeed_0000_0000_0001, 7, value("overwritten")));
    let left = first.put(&Context::of(&first, None), full);
    let right = Record::new().put(&Context::blind(), sibling(0x0bee_0000_0000_0002, 1, Content::Tombstone));
    let third = Record::new().put(&Context::blind(), sibling(0xfeed_0000_0000_0001, 1_000, value("")));
    let found = Record::new().put(&Context::blind(), sibling(0x0bee_0000_0000_0002, 2, value("found")));
    let fourth =
        found.put_over_found(&Context::of(&found, None), sibling(0x0bee_0000_0000_0002, 4, value("over it")));
    joined([&left, &right, &third, &fourth])
}

/// The same as format 1 had it: with one life less, and a write that was overwritten remembered by its own stamp.
fn record_of_format_1() -> Record {
    let dot_of_format_2 = dot(0x0bee_0000_0000_0002, 4);
    let siblings: Vec<Sibling> =
        record().siblings().iter().filter(|s| s.dot != dot_of_format_2).cloned().collect();
    let mut clock = Clock::new();
    clock.add(Incarnation(0x0bee_0000_0000_0002), 0, 1);
    clock.add(Incarnation(0xfeed_0000_0000_0001), 6, 300);
    clock.add(Incarnation(0xfeed_0000_0000_0001), 999, 1_000);
    let spent = Spent {
        request: RequestId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f07),
        checksum: checksum(&Content::Value(Bytes::from_static(b"overwritten"))),
        stamp: Stamp(Stamp::from_ms(1_760_000_000_007).0 + 5),
        turn: 0,
        shown: true,
    };
    Record::from_parts(clock, siblings, vec![spent]).expect("sound parts")
}

fn member(id: u64, name: &str, zone: &str, weight: u32) -> Member {
    Member {
        id: NodeId(id),
        name: name.into(),
        address: format!("{name}.example:7402"),
        http: format!("{name}.example:7400"),
        zone: zone.into(),
        weight,
    }
}

fn layout() -> Layout {
    let members = vec![
        member(0x1111_1111_1111_1111, "ada", "north", 2),
        member(0x9999_9999_9999_9999, "bob", "north", 1),
        member(0x3333_3333_3333_3333, "cyd", "south", 1),
        member(0xffff_ffff_ffff_fffe, "dee", "west", 1),
        member(0x0000_0000_0000_0007, "eve", "süd", 3),
    ];
    Layout::first(members, 3, 16).expect("five members keep three copies")
}

fn acceptor() -> Acceptor {
    let parent =
        Settled { decree: Decree { lineage: 1, version: 300 }, hash: LayoutHash(0x0102_0304_0506_0708) };
    let ballot = Ballot { round: 200, node: NodeId(0x1111_1111_1111_1111), attempt: 0x7777_0000_0000_0001 };
    let proposal = Proposal { hash: LayoutHash(u128::MAX / 5), bytes: Bytes::from_static(b"a layout") };
    let mut acceptor = Acceptor::new(parent);
    let decree = Decree { lineage: 1, version: 301 };
    acceptor.hear(&Request::Accept { decree, parent: parent.hash, ballot, proposal });
    let higher = Ballot { round: 201, ..ballot };
    acceptor.hear(&Request::Prepare { decree, parent: parent.hash, ballot: higher });
    acceptor
}

/// Every change that there is, and one that was taken back.
fn staged() -> Staged {
    let mut staged = Staged::new();
    let mut stage = |node, stamp, change| {
        let stamp = Stamp(Stamp::from_ms(1_760_000_000_000).0 + stamp);
        staged.stage(&layout(), NodeId(node), change, stamp, NodeId(7)).expect("a sound change");
    };
    stage(0x0000_0000_0000_0007, 1, Change::Weight(9));
    stage(0x4444_4444_4444_4444, 2, Change::Join(member(0x4444_4444_4444_4444, "fay", "west", 2)));
    let all = Stamp(Stamp::from_ms(1_760_000_000_000).0 + 3);
    staged.clear(&layout(), all, NodeId(7)).expect("later than all");
    let mut stage = |node, stamp, change| {
        let stamp = Stamp(Stamp::from_ms(1_760_000_000_000).0 + stamp);
        staged.stage(&layout(), NodeId(node), change, stamp, NodeId(7)).expect("a sound change");
    };
    stage(0x4444_4444_4444_4444, 4, Change::Join(member(0x4444_4444_4444_4444, "fay", "west", 2)));
    stage(0x9999_9999_9999_9999, 5, Change::Leave);
    stage(0x3333_3333_3333_3333, 6, Change::Replace(member(0x5555_5555_5555_5555, "gus", "south", 1)));
    stage(0x1111_1111_1111_1111, 7, Change::Weight(300));
    stage(0xffff_ffff_ffff_fffe, 8, Change::Zone("est".into()));
    staged
}

fn context() -> Context {
    Context::of(&record_of_format_1(), Some(NodeId(0x1111_1111_1111_1111)))
}

fn bucket_fact() -> (&'static str, BucketFact) {
    let settings = BucketSettings {
        r: Level::Count(2),
        w: Level::All,
        mode: Mode::Lww,
        ttl_ms: 3_600_000,
        require_context: true,
        buffered: false,
        value_bytes_max: 1 << 20,
        siblings_max: 50,
    };
    let stamp = Stamp(Stamp::from_ms(1_760_000_000_000).0 + 3);
    ("carts.v2", BucketFact { settings, stamp, author: NodeId(0x9999_9999_9999_9999) })
}

fn bucket_bytes() -> Vec<u8> {
    let (name, fact) = bucket_fact();
    let mut w = Writer::new();
    write_bucket_fact(&mut w, name, &fact);
    w.into_vec()
}

/// The committed bytes; with GRAMME_GOLDEN=write, and only if there are none yet, these.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("GRAMME_GOLDEN").as_deref() == Ok("write") && !path.exists() {
        std::fs::write(&path, bytes).expect("the golden directory can be written");
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("golden file {name}: {e}"))
}

#[test]
fn the_acceptor_of_format_1_opens_and_is_written_alike() {
    let bytes = golden("acceptor_v1.bin", &acceptor().encode());
    assert_eq!(Acceptor::decode(&bytes), Ok(acceptor()));
    assert_eq!(acceptor().encode(), bytes);
}

#[test]
fn the_record_of_format_1_opens() {
    let bytes = Bytes::from(golden("record_v1.bin", &[]));
    assert_eq!(decode_record(&bytes), Ok(record_of_format_1()));
}

#[test]
fn the_record_of_format_2_opens() {
    let bytes = Bytes::from(golden("record_v2.bin", &[]));
    let without_turns = record().spent().iter().map(|s| Spent { turn: 0, ..*s }).collect();
    let record = Record::from_parts(record().clock, record().siblings().to_vec(), without_turns);
    assert_eq!(decode_record(&bytes), Ok(record.expect("sound parts")));
}

#[test]
fn the_record_of_format_3_opens_and_is_written_alike() {
    let bytes = Bytes::from(golden("record_v3.bin", &encode_record(&record())));
    assert_eq!(decode_record(&bytes), Ok(record()));
    assert_eq!(encode_record(&record()), bytes);
    assert!(record().siblings().iter().all(Sibling::verifies), "values bear the checksums they always had");
}

#[test]
fn the_golden_record_cut_short_or_altered_anywhere_is_refused() {
    let bytes = golden("record_v3.bin", &encode_record(&record()));
    for len in 0..bytes.len() {
        assert!(decode_record(&Bytes::copy_from_slice(&bytes[..len])).is_err(), "cut to {len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_record(&altered.into()), Err(BadBytes::Checksum), "bit {bit}");
    }
}

#[test]
fn the_layout_of_format_1_opens_and_is_written_alike() {
    let bytes = golden("layout_v1.bin", &layout().encode());
    let opened = Layout::decode(&bytes).expect("a golden layout opens");
    assert_eq!(opened, layout(), "placement gives the same homes as ever");
    assert_eq!(opened.encode(), bytes);
    assert_eq!(opened.hash().to_string(), LAYOUT_HASH, "nodes of two releases agree on the hash");
    let orders: Vec<String> = (0..16)
        .map(|p| {
            let names = opened.preference_list(PartitionId(p)).iter();
            names.map(|&id| opened.member(id).expect("a member").name.as_str()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let orders = orders.join("\n") + "\n";
    let kept = golden("layout_v1.preferences", orders.as_bytes());
    assert_eq!(orders, String::from_utf8(kept).expect("text"), "fallbacks are the same as ever");
}

#[test]
fn the_staged_changes_of_format_1_open_and_are_written_alike() {
    let bytes = golden("staged_v1.bin", &staged().encode());
    assert_eq!(Staged::decode(&bytes), Ok(staged()));
    assert_eq!(staged().encode(), bytes);
}

#[test]
fn the_layout_of_format_2_opens_and_is_planned_alike() {
    let plan = plan(&layout(), &staged()).expect("a plan");
    let bytes = golden("layout_v2.bin", &plan.last().encode());
    let opened = Layout::decode(&bytes).expect("a golden layout opens");
    assert_eq!(opened.encode(), bytes);
    assert_eq!(&opened, plan.last(), "the same changes have the same plan as ever");
    assert_eq!(opened.hash().to_string(), PLAN_HASH, "nodes of two releases agree on what a plan is called");
    assert_eq!(
        opened.removed().iter().map(|id| id.0).collect::<Vec<_>>(),
        [0x3333_3333_3333_3333, 0x9999_9999_9999_9999]
    );
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Layout::decode(&altered), Err(BadBytes::Checksum), "bit {bit}");
    }
}

#[test]
fn the_layout_of_format_3_opens_with_who_is_lost_and_what_it_returns_to() {
    let mut staged = Staged::new();
    let going = layout().members()[0].id;
    staged.stage(&layout(), going, Change::Lost, Stamp::from_ms(9), going).expect("staged");
    let lost = plan(&layout(), &staged).expect("a plan").chain()[0].clone();
    let back = lost.back_to_that_of(&layout());
    let both = [lost.encode(), back.encode()].concat();
    let bytes = golden("layout_v3.bin", &both);
    let opened = Layout::decode(&bytes[..lost.encode().len()]).expect("a golden layout opens");
    assert_eq!((&opened, opened.lost().contains(&going)), (&lost, true));
    let opened = Layout::decode(&bytes[lost.encode().len()..]).expect("a golden layout opens");
    assert_eq!((&opened, opened.back_to()), (&back, 1));
    assert_eq!(opened.members(), layout().members(), "who was to go is a member again");
    assert_eq!(both, bytes);
}

#[test]
fn the_context_of_format_1_opens_and_is_written_alike() {
    let token = context().to_token(&key("golden"), &SECRET);
    let kept = String::from_utf8(golden("context_v1.txt", token.as_bytes())).expect("text");
    assert_eq!(Context::from_token(&kept, &key("golden"), &SECRET), Ok(context()));
    assert_eq!(token, kept);
}

#[test]
fn the_bucket_fact_of_format_1_opens_and_is_written_alike() {
    let bytes = golden("bucket_v1.bin", &bucket_bytes());
    let mut r = Reader::new(&bytes);
    let (name, fact) = bucket_fact();
    assert_eq!(read_bucket_fact(&mut r), Ok((name.to_string(), fact)));
    assert_eq!(r.end(), Ok(()));
    assert_eq!(bucket_bytes(), bytes);
}

const LAYOUT_HASH: &str = "b8ec49ffc1d745def64d83390e48650a";
const PLAN_HASH: &str = "6ed1ee8454e416cc1759e8a336511c54";
