//! Hash trees: what they see, what they do not mind, and U10: a tree that was changed one write at a time, kept
//! at a checkpoint and replayed after a crash is byte for byte the one built anew from the records.

#![allow(clippy::type_complexity, reason = "what a strategy gives is named where it is taken apart")]

mod common;

use common::{Replica, cases, dot, key, sibling, tombstone};
use gramme_core::codec::{Reader, Writer};
use gramme_core::merkle::{
    DEPTH_MAX, DEPTH_MIN, FAN_OUT, Item, Tombstones, Tree, depth_for, item, leaf_of, read_tree, write_tree,
};
use gramme_core::{Clock, Context, Key, Record};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn of_value(name: &str, n: u64) -> (Key, Record) {
    (key(name), Record::new().put(&Context::blind(), sibling(dot(1, n), u128::from(n), "v")))
}

fn counted(key: &Key, record: &Record) -> Item {
    item(key, record, Tombstones::Counted)
}

fn tree_of<'a>(depth: u8, records: impl IntoIterator<Item = (&'a Key, &'a Record)>) -> Tree {
    let mut tree = Tree::new(depth);
    records.into_iter().for_each(|(key, record)| tree.change(key.as_bytes(), 0, counted(key, record)));
    tree
}

#[test]
fn an_item_sees_siblings_and_checksums_but_no_clock() {
    let (k, record) = of_value("k", 1);
    let mut stripped = record.clone();
    stripped.clock.add_dot(dot(9, 9));
    assert_eq!(counted(&k, &record), counted(&k, &stripped));
    let rotten = Record::from_parts(record.clock.clone(), vec![sibling(dot(1, 1), 1, "w")], vec![]);
    assert_ne!(counted(&k, &record), counted(&k, &rotten.expect("a sound record")), "same dot, other value");
    assert_ne!(counted(&k, &record), counted(&key("l"), &record));
    assert_ne!(counted(&k, &record), counted(&k, &of_value("k", 2).1));
}

#[test]
fn a_record_without_siblings_is_as_if_it_were_not_there() {
    let empty = Record::from_parts(Clock::of(dot(1, 1)), vec![], vec![]).expect("a sound record");
    assert_eq!(counted(&key("k"), &empty), 0);
    assert_eq!(counted(&key("k"), &Record::new()), 0);
}

#[test]
fn tombstones_count_until_they_are_reclaimed() {
    let dead = Record::new().put(&Context::blind(), tombstone(dot(1, 1), 1));
    let half = dead.put(&Context::blind(), sibling(dot(2, 1), 2, "v"));
    assert_ne!(counted(&key("k"), &dead), 0);
    assert_eq!(item(&key("k"), &dead, Tombstones::Skipped), 0);
    assert_ne!(item(&key("k"), &half, Tombstones::Skipped), 0, "a value beside it is not reclaimed");
}

#[test]
fn a_twin_that_was_collapsed_on_one_side_only_is_a_difference_although_the_clocks_are_equal() {
    let twice = Record::new()
        .put(&Context::blind(), sibling(dot(1, 1), 7, "v"))
        .put(&Context::blind(), sibling(dot(2, 1), 7, "v"));
    let mut once = twice.clone();
    once.collapse_retries();
    assert_eq!(once.clock, twice.clock);
    assert_ne!(counted(&key("k"), &once), counted(&key("k"), &twice));
}

#[test]
fn the_walk_down_ends_at_the_leaf_of_the_key_that_differs_whatever_the_depths() {
    let records: Vec<(Key, Record)> = (1..=300).map(|n| of_value(&format!("k{n}"), n)).collect();
    let all = || records.iter().map(|(key, record)| (key, record));
    let (lost, _) = &records[123];
    for (mine, theirs) in [(2, 2), (3, 2), (2, 4)] {
        let mine = tree_of(mine, all());
        let theirs = tree_of(theirs, all().filter(|(key, _)| *key != lost));
        assert_ne!(mine.root(), theirs.root());
        let depth = mine.depth().min(theirs.depth());
        let mut nodes = vec![0];
        for level in 0..depth {
            let answer: Vec<Item> =
                nodes.iter().flat_map(|&node| theirs.children(level, node).expect("it is there")).collect();
            nodes = mine.differing(level, &nodes, &answer).expect("a sound answer");
        }
        assert_eq!(nodes, [leaf_of(lost.as_bytes(), depth)]);
    }
}

#[test]
fn an_answer_of_the_wrong_size_or_from_below_the_leaves_is_refused() {
    let tree = tree_of(DEPTH_MIN, [of_value("k", 1)].iter().map(|(key, record)| (key, record)));
    assert_eq!(tree.differing(0, &[0], &[0; FAN_OUT - 1]), None);
    assert_eq!(tree.differing(DEPTH_MIN, &[0], &[0; FAN_OUT]), None);
    assert_eq!(tree.differing(1, &[16], &[0; FAN_OUT]), None, "the root has sixteen children");
    assert!(tree.children(1, 15).is_some());
}

#[test]
fn depth_follows_the_number_of_keys() {
    assert_eq!([0, 16_384, 16_385, 262_144, 262_145, u64::MAX].map(depth_for), [2, 2, 3, 3, 4, 4]);
    assert_eq!(Tree::new(0).depth(), DEPTH_MIN);
    assert_eq!(Tree::new(9).depth(), DEPTH_MAX);
}

#[test]
fn an_untouched_tree_takes_no_memory_and_an_emptied_one_reads_as_untouched() {
    let mut tree = Tree::new(DEPTH_MIN);
    assert_eq!(tree.bytes(), 0);
    let (k, record) = of_value("k", 1);
    tree.change(k.as_bytes(), 0, counted(&k, &record));
    assert_eq!((tree.keys(), tree.bytes()), (1, 4096));
    tree.change(k.as_bytes(), counted(&k, &record), 0);
    assert_eq!((tree.keys(), tree.root()), (0, 0));
}

#[test]
fn every_cut_of_a_stored_tree_is_refused() {
    let tree = tree_of(DEPTH_MIN, [of_value("k", 1)].iter().map(|(key, record)| (key, record)));
    let stored = written(&tree);
    assert_eq!(stored.len(), 1 + 1 + 1 + 32 + 16, "a leaf that holds nothing takes a bit");
    for cut in 0..stored.len() {
        assert!(read_tree(&mut Reader::new(&stored[..cut])).is_err(), "cut at {cut}");
    }
}

fn written(tree: &Tree) -> Vec<u8> {
    let mut w = Writer::new();
    write_tree(&mut w, tree);
    w.into_vec()
}

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, blind: bool },
    Delete { key: u8 },
    Merge { key: u8, from: u8 },
    Reclaim { key: u8 },
    Checkpoint,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..40u8;
    prop_oneof![
        4 => (key.clone(), any::<bool>()).prop_map(|(key, blind)| Op::Put { key, blind }),
        1 => key.clone().prop_map(|key| Op::Delete { key }),
        3 => (key.clone(), 0..40u8).prop_map(|(key, from)| Op::Merge { key, from }),
        1 => key.prop_map(|key| Op::Reclaim { key }),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Crash),
    ]
}

/// What is on the disk: the tree as it was once, and every change of a record since.
struct Disk {
    checkpoint: Vec<u8>,
    log: Vec<(Key, Item, Item)>,
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn u10_merkle_incremental(ops in prop::collection::vec(op(), 1..120), depth in DEPTH_MIN..=3) {
        let mut tree = Tree::new(depth);
        let mut disk = Disk { checkpoint: written(&tree), log: vec![] };
        let mut homes: BTreeMap<u8, Replica> = BTreeMap::new();
        for op in ops {
            let (name, change): (u8, Box<dyn FnOnce(&mut BTreeMap<u8, Replica>)>) = match op {
                Op::Put { key, blind } => (key, Box::new(move |homes| {
                    let home = homes.entry(key).or_insert_with(|| Replica::new(1));
                    let context = if blind { Context::blind() } else { home.read() };
                    home.put(&context, "v");
                })),
                Op::Delete { key } => (key, Box::new(move |homes| {
                    let home = homes.entry(key).or_insert_with(|| Replica::new(1));
                    let context = home.read();
                    home.delete(&context);
                })),
                Op::Merge { key, from } => (key, Box::new(move |homes| {
                    let mut elsewhere = Replica::new(100 + u64::from(from));
                    elsewhere.record = homes.get(&key).map(|home| home.record.clone()).unwrap_or_default();
                    let context = elsewhere.read();
                    elsewhere.put(&context, "w");
                    homes.entry(key).or_insert_with(|| Replica::new(1)).receive(&elsewhere.record);
                })),
                Op::Reclaim { key } => (key, Box::new(move |homes| {
                    homes.remove(&key);
                })),
                Op::Checkpoint => {
                    disk = Disk { checkpoint: written(&tree), log: vec![] };
                    continue;
                }
                Op::Crash => {
                    tree = read_tree(&mut Reader::new(&disk.checkpoint)).expect("it was just written");
                    disk.log.iter().for_each(|(key, before, after)| tree.change(key.as_bytes(), *before, *after));
                    continue;
                }
            };
            let k = key(&format!("k{name}"));
            let of = |homes: &BTreeMap<u8, Replica>| homes.get(&name).map_or(0, |home| counted(&k, &home.record));
            let before = of(&homes);
            change(&mut homes);
            let after = of(&homes);
            tree.change(k.as_bytes(), before, after);
            disk.log.push((k, before, after));
        }
        let mut anew = Tree::new(DEPTH_MAX);
        for (name, home) in &homes {
            let k = key(&format!("k{name}"));
            anew.change(k.as_bytes(), 0, counted(&k, &home.record));
        }
        let anew = anew.folded(depth);
        prop_assert_eq!(&anew, &tree);
        prop_assert_eq!(written(&anew), written(&tree));
    }
}
