//! What checkers judge by: the history of the clients and the dumps of the disks; nothing that a node says of
//! itself.

use crate::history::History;
use crate::world::{World, name, node_id};
use gramme_core::bucket::BucketSettings;
use gramme_core::codec::decode_record;
use gramme_core::{Dot, Key, Layout, NodeId, PartitionId, Record, RequestId};
use gramme_node::rows::{self, KIND_DATA, KIND_HINT};
use gramme_storage::NODE_ROWS;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Everything that is known of a run when it is over.
pub struct Evidence {
    /// Who keeps what.
    pub layout: Rc<Layout>,
    /// What clients asked and were told.
    pub history: History,
    /// The disks, after the faults were healed and every key was read with R = all.
    pub dumps: Vec<Dump>,
    /// Keys whose last read, with R = all, was not answered, and why.
    pub unread: Vec<(Key, String)>,
    /// Whether some host's directory was emptied.
    pub wiped: bool,
    /// The settings of each bucket as each host has them.
    pub settings: BTreeMap<String, Vec<BucketSettings>>,
    /// The whole list of each bucket, read at the end.
    pub listed: BTreeMap<String, Option<Vec<bytes::Bytes>>>,
    /// Keys that clients ever wrote with a time to live; what they read as depends on the clock.
    pub mortal: BTreeSet<Key>,
}

/// What one disk holds.
#[derive(Debug, Default)]
pub struct Dump {
    /// Whose.
    pub node: NodeId,
    /// Home data.
    pub data: BTreeMap<Key, Record>,
    /// Hints, with the homes that they are for.
    pub hints: BTreeMap<Key, (Vec<NodeId>, Record)>,
    /// Rows that cannot be read, and why.
    pub garbled: Vec<String>,
}

/// One rule broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// How it was broken: one line.
    pub text: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn new(rule: &'static str, text: String) -> Violation {
        Violation { rule, text }
    }
}

impl Evidence {
    /// The partition of a key.
    pub fn partition_of(&self, key: &Key) -> PartitionId {
        gramme_core::ring::partition_of(key, self.layout.partitions())
    }

    /// What is left of a key: the records of its homes joined. If a directory was emptied, also what hint
    /// stores hold: acknowledged data may live there alone until hints are drained.
    pub fn left_of(&self, key: &Key) -> Record {
        let homes = self.layout.homes(self.partition_of(key));
        let mut left = Record::new();
        for dump in &self.dumps {
            if homes.contains(&dump.node) {
                left = dump.data.get(key).map_or(left.clone(), |record| left.join(record));
            }
            if self.wiped {
                left = dump.hints.get(key).map_or(left.clone(), |(_, record)| left.join(record));
            }
        }
        left
    }

    /// Every state of a key that anyone was ever shown, or that lies on a disk, with where.
    pub fn observations(&self) -> Vec<(String, &Key, &Record)> {
        let mut all = Vec::new();
        for get in &self.history.gets {
            if let Some(found) = &get.found {
                let place = format!("a read by client {} at {} ms", get.client, get.returned / 1_000_000);
                all.push((place, &get.key, &found.record));
            }
        }
        for dump in &self.dumps {
            let host = host_name(dump.node);
            all.extend(dump.data.iter().map(|(key, record)| (format!("the disk of {host}"), key, record)));
            let hints = dump.hints.iter();
            all.extend(hints.map(|(key, (_, record))| (format!("the hint store of {host}"), key, record)));
        }
        all
    }

    /// All dots under which each write is known.
    pub fn dots(&self) -> BTreeMap<RequestId, BTreeSet<Dot>> {
        let mut dots: BTreeMap<RequestId, BTreeSet<Dot>> = BTreeMap::new();
        for op in &self.history.puts {
            dots.entry(op.request).or_default().extend(op.told_dot());
        }
        let mut note = |record: &Record| {
            for sibling in record.siblings() {
                dots.entry(sibling.request).or_default().insert(sibling.dot);
            }
        };
        self.observations().into_iter().for_each(|(_, _, record)| note(record));
        for (_, record) in self.history.lists.iter().flat_map(|list| list.entries.iter().flatten()) {
            note(record);
        }
        dots
    }
}

/// Reads a host's disk.
pub fn dump(world: &World, host: usize) -> Dump {
    let mut dump = Dump { node: node_id(host), ..Dump::default() };
    let stored: Vec<_> = world
        .with_disk(host, |disk| disk.rows().iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>());
    for (row, value) in stored {
        let partition = row.get(..2).map(|p| u16::from_be_bytes([p[0], p[1]]));
        if partition == Some(NODE_ROWS) {
            continue;
        }
        let key = Key::from_joined(rows::rest(&row));
        match row.get(2) {
            Some(&KIND_DATA) => match (key, decode_record(&value)) {
                (Ok(key), Ok(record)) => {
                    dump.data.insert(key, record);
                }
                (key, record) => dump.garbled.push(format!("{key:?}: {:?}", record.err())),
            },
            Some(&KIND_HINT) => match (key, rows::decode_hint(&value)) {
                (Ok(key), Ok((homes, record, _))) => {
                    dump.hints.insert(key, (homes, record));
                }
                (key, hint) => dump.garbled.push(format!("hint of {key:?}: {:?}", hint.err())),
            },
            _ => {}
        }
    }
    dump
}

/// What people call a node.
pub fn host_name(node: NodeId) -> String {
    crate::world::host_of(node).map_or_else(|| node.to_string(), name)
}

/// A record in one line: its live dots with their writes.
pub fn describe(record: &Record) -> String {
    let siblings: Vec<String> =
        record.siblings().iter().map(|s| format!("{}={}", s.dot, s.request.0 as u64)).collect();
    format!("[{}]", siblings.join(", "))
}
