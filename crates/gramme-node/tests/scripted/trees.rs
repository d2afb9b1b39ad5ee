//! Hash trees and audits: what a home does when another holds something else than it does. The test is the other
//! home, with records and a tree of its own.

use crate::world::*;
use bytes::Bytes;
use gramme_core::codec::{decode_record, encode_record};
use gramme_core::merkle::{self, Item, Tombstones, Tree, leaf_of};
use gramme_core::record::Content;
use gramme_core::{Clock, Frontier, Incarnation, Key, NodeId, Record};
use gramme_node::Probe;
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Standing, TreeRoot};
use std::collections::BTreeMap;

/// The other home.
struct Other {
    id: NodeId,
    records: BTreeMap<Key, Record>,
    /// What it was asked, in one word each.
    asked: Vec<&'static str>,
}

impl Other {
    fn new(id: NodeId, records: &[(&str, Record)]) -> Other {
        let records = records.iter().map(|(name, record)| (key(name), record.clone())).collect();
        Other { id, records, asked: Vec::new() }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new(2);
        for (key, record) in &self.records {
            tree.change(key.as_bytes(), 0, item(key, record));
        }
        tree
    }

    fn roots(&self) -> Body {
        let root = TreeRoot { partition: PARTITION, root: self.tree().root() };
        Body::TreeRoots { skips_tombstones: false, reply: false, roots: vec![root] }
    }

    fn answer(&mut self, question: &Body) -> Option<Body> {
        self.asked.push(word(question));
        Some(match question {
            Body::TreeNodes { level, nodes } => {
                let hashes = nodes.iter().flat_map(|node| self.tree().children(*level, *node).unwrap());
                Body::TreeNodesReply { depth: 2, hashes: hashes.collect() }
            }
            Body::TreeKeys { depth, leaves, after } => {
                let on_leaf = |key: &&Key| leaves.contains(&leaf_of(key.as_bytes(), *depth));
                let keys = self.records.keys().filter(|key| Some(*key) > after.as_ref()).filter(on_leaf);
                let keys = keys.map(|key| (key.clone(), item(key, &self.records[key])));
                Body::TreeKeysReply { keys: keys.collect(), next: None, unreadable: 0 }
            }
            Body::Read { key } => holds(self.records.get(key).unwrap_or(&Record::new())),
            Body::Merge { key, record, .. } => {
                let mine = self.records.entry(key.clone()).or_default();
                *mine = mine.join(&decode_record(record).unwrap());
                mine.collapse_retries();
                Body::MergeReply
            }
            _ => return None,
        })
    }

    /// Answers whatever it is asked until the node has nothing more to ask.
    fn converse(&mut self, story: &Story) {
        story.peer_says(self.id, 1, 0, self.roots());
        for _ in 0..200 {
            let me = self.id;
            for said in story.heard().into_iter().filter(|said| said.to == me) {
                if let Some(answer) = self.answer(&said.body) {
                    story.answers(&said, answer);
                }
            }
            story.pass_ms(50);
        }
    }
}

fn item(key: &Key, record: &Record) -> Item {
    merkle::item(key, record, Tombstones::Counted)
}

/// The node is the least of the key's homes: it is the one that asks. With it the other home that the test plays.
fn least_home(records: &[(&str, Record)]) -> (Story, NodeId) {
    let list = Story::at_home().list;
    let least = (0..3).min_by_key(|&place| list[place]).unwrap();
    let story = Story::open(least, MemoryEngine::new(), Standing::Continuous);
    let other = list[(least + 1) % 3];
    for (name, record) in records {
        let merge = merge(name, encode_record(record));
        story.peer_says(other, 7, 1_000_000, merge);
    }
    story.pass_ms(2000);
    story.heard();
    (story, other)
}

fn counted(story: &Story, probe: Probe) -> usize {
    story.world.probes.borrow().iter().filter(|seen| **seen == probe).count()
}

fn held(story: &Story, other: NodeId, name: &str) -> Record {
    story.peer_says(other, 8, 1_000_000, Body::Read { key: key(name) });
    match &story.heard().last().unwrap().body {
        Body::ReadReply { record, .. } => {
            record.as_ref().map(|record| decode_record(record).unwrap()).unwrap_or_default()
        }
        other => panic!("a record was expected: {other:?}"),
    }
}

#[test]
fn homes_that_hold_the_same_say_nothing_more_to_each_other() {
    let all = [("a", foreign(77, 1, "x")), ("b", foreign(77, 2, "y"))];
    let (story, other) = least_home(&all);
    let mut other = Other::new(other, &all);
    other.converse(&story);
    assert!(other.asked.is_empty(), "{:?}", other.asked);
    assert_eq!(counted(&story, Probe::AuditVerified), 1);
}

#[test]
fn what_one_home_lost_in_silence_is_found_and_exchanged_both_ways() {
    let all: Vec<(String, Record)> = (1..=40).map(|n| (format!("k{n}"), foreign(77, n, "v"))).collect();
    let all: Vec<(&str, Record)> = all.iter().map(|(name, record)| (&**name, record.clone())).collect();
    let (story, other) = least_home(&all[1..]);
    let mut other = Other::new(other, &all[..39]);
    other.converse(&story);
    assert_eq!(held(&story, other.id, "k1"), all[0].1, "what I lacked");
    assert_eq!(other.records[&key("k40")], all[39].1, "what it lacked");
    assert_eq!(counted(&story, Probe::AuditRepaired), 2);
    assert_eq!(other.asked.iter().filter(|asked| **asked == "read").count(), 2, "and nothing else is read");
    assert!(other.asked.contains(&"audit done"));
    let asked = other.asked.len();
    other.converse(&story);
    assert_eq!(other.asked.len(), asked, "from then on they are the same");
}

#[test]
fn what_was_only_on_its_way_is_no_difference() {
    let late = foreign(77, 2, "late");
    let (story, other) = least_home(&[("a", foreign(77, 1, "x")), ("b", late.clone())]);
    let mut other = Other::new(other, &[("a", foreign(77, 1, "x"))]);
    story.peer_says(other.id, 1, 0, other.roots());
    for _ in 0..2 {
        let said = story.heard().pop().unwrap();
        let answer = other.answer(&said.body).unwrap();
        story.answers(&said, answer);
    }
    // It arrives there while the node pauses.
    other.records.insert(key("b"), late);
    other.converse(&story);
    assert!(!other.asked.contains(&"keys"), "{:?}", other.asked);
    assert_eq!(counted(&story, Probe::AuditDiffered), 0);
    assert!(counted(&story, Probe::AuditVerified) > 0);
}

#[test]
fn a_difference_that_no_clock_shows_is_made_the_same() {
    let twice = foreign(77, 1, "v").join(&foreign(78, 1, "v"));
    let mut siblings = twice.siblings().to_vec();
    siblings.iter_mut().for_each(|sibling| sibling.request = gramme_core::RequestId(5));
    let clock: Clock = twice.clock.clone();
    let twice = Record::from_parts(clock.clone(), siblings.clone(), vec![]).unwrap();
    let once = Record::from_parts(clock, siblings[1..].to_vec(), vec![]).unwrap();
    let (story, other) = least_home(&[("k", once.clone())]);
    let mut other = Other::new(other, &[("k", twice)]);
    other.converse(&story);
    assert_eq!(other.records[&key("k")].siblings(), once.siblings());
    assert_eq!(held(&story, other.id, "k").siblings(), once.siblings());
}

/// An audit of two homes alone would carry the second sibling on to a home that did not have it.
#[test]
fn what_a_third_home_knows_to_be_gone_is_not_taught_by_the_second() {
    let overwritten = foreign(77, 1, "overwritten");
    let left = foreign(78, 1, "left");
    let (story, other) = least_home(&[("k", left.clone())]);
    let third = story.list[..3].iter().filter(|home| **home != other).max().copied().unwrap();
    let mut knows = left.clone();
    knows.clock.join(&overwritten.clock);
    let mut other = Other::new(other, &[("k", left.join(&overwritten))]);
    let mut third = Other::new(third, &[("k", knows.clone())]);
    story.peer_says(other.id, 1, 0, other.roots());
    for _ in 0..200 {
        for said in story.heard() {
            let asked = [&mut other, &mut third].into_iter().find(|home| home.id == said.to);
            if let Some(answer) = asked.and_then(|home| home.answer(&said.body)) {
                story.answers(&said, answer);
            }
        }
        story.pass_ms(50);
    }
    assert_eq!(held(&story, other.id, "k"), knows);
    assert_eq!(other.records[&key("k")], knows);
    assert_eq!(third.records[&key("k")], knows);
    assert!(counted(&story, Probe::AuditVerified) > 0);
}

#[test]
fn a_corrupt_record_is_not_spread_and_holds_up_nothing() {
    let sound = foreign(77, 2, "sound");
    let mut siblings = foreign(77, 1, "broken").siblings().to_vec();
    siblings[0].content = Content::Value(Bytes::from_static(b"garbled"));
    let broken = Record::from_parts(foreign(77, 1, "broken").clock, siblings, vec![]).unwrap();
    let (story, other) = least_home(&[]);
    let mut other = Other::new(other, &[("a", broken), ("b", sound.clone())]);
    other.converse(&story);
    assert_eq!(held(&story, other.id, "a"), Record::new());
    assert_eq!(held(&story, other.id, "b"), sound);
    assert!(counted(&story, Probe::AuditCorrupt) > 0);
    assert!(!other.asked.contains(&"audit done"), "what was left is not called the same");
}

#[test]
fn a_value_that_rotted_is_healed_by_a_copy_of_the_same_write() {
    let good = foreign(77, 1, "good");
    let mut siblings = good.siblings().to_vec();
    siblings[0].content = Content::Value(Bytes::from_static(b"rotten"));
    let mut rotten = Record::from_parts(good.clock.clone(), siblings, vec![]).unwrap();
    assert!(!rotten.clone().heal(&rotten), "a copy that does not verify heals nothing");
    assert!(rotten.heal(&good));
    assert_eq!(rotten, good);
}

#[test]
fn a_home_that_is_not_continuous_compares_with_nobody() {
    let list = Story::at_home().list;
    let story = Story::open(0, MemoryEngine::new(), Standing::Unproven);
    story.pass_ms(2000);
    let other = Other::new(list[1], &[("a", foreign(77, 1, "x"))]);
    story.heard();
    story.peer_says(list[1], 1, 0, other.roots());
    story.peer_says(list[1], 2, 1_000_000, Body::TreeNodes { level: 0, nodes: vec![0] });
    assert_eq!(story.heard_words(), [(list[1], "refused")]);
    story.pass_ms(600_000);
    assert!(!story.heard_words().iter().any(|said| said.1 == "roots"));
}

#[test]
fn roots_are_told_every_few_minutes_and_once_to_each_home() {
    let (story, _) = least_home(&[("a", foreign(77, 1, "x"))]);
    story.pass_ms(600_000);
    let told: Vec<NodeId> = story.heard_words().iter().filter(|s| s.1 == "roots").map(|s| s.0).collect();
    let homes = story.list[..3].iter().filter(|&&home| home != story.node.status().node);
    for home in homes {
        let times = told.iter().filter(|to| *to == home).count();
        assert!((2..=3).contains(&times), "{times} times in ten minutes");
    }
    assert!(told.iter().all(|to| story.list[..3].contains(to)), "nobody else keeps the partition");
}

#[test]
fn a_tree_is_kept_over_a_clean_restart_and_built_anew_after_a_write_and_a_crash() {
    let memory = MemoryEngine::new();
    let story = Story::open(0, memory.clone(), Standing::Continuous);
    let peer = story.list[1];
    let merge = |story: &Story, name: &str, n| {
        let record = encode_record(&foreign(77, n, "v"));
        let (key, stamp) = (key(name), Frontier::none());
        story.peer_says(
            peer,
            7,
            1_000_000,
            Body::Merge { key, record, hint_for: None, stamp, buffered: false, fence: 0 },
        );
        story.heard();
    };
    let root = |story: &Story| {
        story.heard();
        story.peer_says(peer, 2, 1_000_000, Body::TreeNodes { level: 0, nodes: vec![0] });
        match story.heard().pop().unwrap().body {
            Body::TreeNodesReply { hashes, .. } => hashes,
            other => panic!("a tree was expected: {other:?}"),
        }
    };
    merge(&story, "a", 1);
    story.pass_ms(2000);
    let before = root(&story);
    let node = story.node.clone();
    story.world.spawn_task(async move { node.drain().await });
    story.world.run();

    let again = Story::reopened(&story, memory.clone());
    assert_eq!(root(&again), before);
    again.pass_ms(2000);
    assert_eq!(counted(&again, Probe::PartitionScanned), 0, "the checkpoint was true");
    merge(&again, "b", 2);
    let after = root(&again);
    assert_ne!(after, before);

    let crashed = Story::reopened(&again, memory);
    crashed.pass_ms(2000);
    assert_eq!(counted(&crashed, Probe::PartitionScanned), 1, "the write had emptied the checkpoint");
    assert_eq!(root(&crashed), after);
}

#[test]
fn leaves_are_listed_by_whoever_is_asked() {
    let story = Story::at_home();
    let peer = story.list[1];
    let record = foreign(Incarnation(77).0, 1, "v");
    let stamp = Frontier::none();
    let body = Body::Merge {
        key: key("a"),
        record: encode_record(&record),
        hint_for: None,
        stamp,
        buffered: false,
        fence: 0,
    };
    story.peer_says(peer, 7, 1_000_000, body);
    story.pass_ms(2000);
    story.heard();
    let on = leaf_of(key("a").as_bytes(), 2);
    for (leaf, expected) in [(on, 1), (on ^ 1, 0)] {
        let question = Body::TreeKeys { depth: 2, leaves: vec![leaf], after: None };
        story.peer_says(peer, 8, 1_000_000, question);
        match story.heard().pop().unwrap().body {
            Body::TreeKeysReply { keys, next: None, unreadable: 0 } => assert_eq!(keys.len(), expected),
            other => panic!("a list was expected: {other:?}"),
        }
    }
    for depth in [0, 5, 200] {
        story.peer_says(peer, 9, 1_000_000, Body::TreeKeys { depth, leaves: vec![0], after: None });
        assert_eq!(story.heard_words(), [(peer, "refused")]);
    }
}
