//! What checkers judge by: the history of the clients and the dumps of the disks; nothing that a node says of
//! itself.
//!
//! Nothing here knows of the simulated world: whoever has a [`History`] and the rows of every store, simulated
//! or of real processes, has [`Evidence`], and [`crate::check::all`] judges it.

use crate::history::{GetOp, History};
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Mode};
use gramme_core::change::{Chain, Link, Progress};
use gramme_core::closed::Closed;
use gramme_core::codec::decode_record;
use gramme_core::gossip::{Entry, Name};
use gramme_core::paxos::Decree;
use gramme_core::record::Content;
use gramme_core::seen::Seen;
use gramme_core::{Dot, Incarnation, Key, Layout, LayoutHash, NodeId, PartitionId, Record, RequestId};
use gramme_node::rows::{
    self, KIND_CLUSTER, KIND_DATA, KIND_END, KIND_FRONTIER, KIND_HINT, KIND_MEMBERS, KIND_REPLICA, KIND_SEEN,
    KIND_TREE, decode_known,
};
use gramme_storage::NODE_ROWS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is known of a run when it is over.
pub struct Evidence {
    /// Who keeps what in the end.
    pub layout: Arc<Layout>,
    /// The ring from its beginning.
    pub ring: RingSeen,
    /// What clients asked and were told.
    pub history: History,
    /// The disks, after the faults were healed and the cluster had its time to converge.
    pub dumps: Vec<Dump>,
    /// What may be asked of this run.
    pub claims: Claims,
    /// Keys whose last read was not answered, and why.
    pub unread: Vec<(Key, String)>,
    /// The settings of each bucket as each node has them.
    pub settings: BTreeMap<String, Vec<BucketSettings>>,
    /// The whole list of each bucket, read at the end.
    pub listed: BTreeMap<String, Option<Vec<Bytes>>>,
    /// Keys that clients ever wrote with a time to live; what they read as depends on the clock.
    pub mortal: BTreeSet<Key>,
    /// Buckets in which the last writer wins.
    pub last_writer_wins: BTreeSet<String>,
    /// Acknowledged writes that were nowhere but in the memory of homes, all of which ended: nothing is promised of
    /// them.
    pub lost_in_memory: BTreeSet<RequestId>,
    /// For buffered writes, how many hosts ended while they may have had it in memory alone, or have a disk that was
    /// slow or full for a while: so many of those that acknowledged it may not show it.
    pub forgotten_by: BTreeMap<RequestId, usize>,
}

/// What is known of a ring that changes.
#[derive(Clone, Debug)]
pub struct RingSeen {
    /// The first layout, of the cluster file.
    pub first: Arc<Layout>,
    /// Every layout that anyone has ever known under each number.
    pub under: BTreeMap<Decree, BTreeSet<LayoutHash>>,
    /// Nodes that were declared lost.
    pub lost: BTreeSet<NodeId>,
}

/// What may be asked of a run, beyond what holds always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The cluster had its time after the faults: all homes hold the same.
    pub converged: bool,
    /// Every home was reachable long enough: no hint is left anywhere.
    pub drained: bool,
    /// Seen clocks agree too: exchanges ran to their end.
    pub clocks: bool,
    /// Some disk was lost: what a single home acknowledged, with fallbacks, may be in hint stores alone until they
    /// are handed over.
    pub disk_lost: bool,
    /// Some member was declared lost: what it alone had is missed until it comes back, if it does.
    pub node_lost: bool,
    /// Acknowledged data may still lie in hint stores alone: some disk was lost and hints are not drained.
    pub hints_count: bool,
    /// A disk may have lost something without a trace, which is outside of what is promised: what a node lacks
    /// proves nothing in this run.
    pub silent_loss: bool,
    /// A row has rotted that no other node has, so that nobody can name it: before somebody reads it no session that must
    /// read its whole partition ends, nor a change of the ring that waits for one.
    pub unnamed_rot: bool,
    /// Tombstones and clocks may be gone because everyone has seen them.
    pub reclaims: bool,
    /// Tombstones have had their time to go.
    pub reclaimed: bool,
    /// Expired values were replaced by tombstones, each in its time: some tombstones were written by no client.
    pub buries: bool,
    /// All clocks were right, and every expired value has had its time to go.
    pub buried: bool,
    /// No wall clock was set back: hybrid clocks never go back.
    pub steady_clocks: bool,
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
    /// The seen clocks of its home replicas.
    pub seen: BTreeMap<PartitionId, Seen>,
    /// How incarnations have ended there, home or not.
    pub ends: BTreeMap<PartitionId, Closed>,
    /// Partitions of which it keeps any row that only homes have.
    pub kept: BTreeSet<PartitionId>,
    /// What it knows of the cluster.
    pub known: Vec<(Name, Entry)>,
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
    /// A history and what the disks held when it was over, of which so much may be asked.
    pub fn new(layout: Arc<Layout>, history: History, dumps: Vec<Dump>, claims: Claims) -> Evidence {
        Evidence {
            ring: RingSeen { first: layout.clone(), under: BTreeMap::new(), lost: BTreeSet::new() },
            layout,
            history,
            dumps,
            claims,
            unread: Vec::new(),
            settings: BTreeMap::new(),
            listed: BTreeMap::new(),
            mortal: BTreeSet::new(),
            last_writer_wins: BTreeSet::new(),
            lost_in_memory: BTreeSet::new(),
            forgotten_by: BTreeMap::new(),
        }
    }

    /// What people call a node.
    pub fn name(&self, node: NodeId) -> String {
        let member = self.layout.member(node).or(self.ring.first.member(node));
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }

    /// How a bucket's siblings are shown.
    pub fn mode_of(&self, bucket: &str) -> Mode {
        if self.last_writer_wins.contains(bucket) { Mode::Lww } else { Mode::Siblings }
    }

    /// The partition of a key.
    pub fn partition_of(&self, key: &Key) -> PartitionId {
        gramme_core::ring::partition_of(key, self.layout.partitions())
    }

    /// What is left of a key: the records of its homes joined, and what hint stores hold where they count.
    pub fn left_of(&self, key: &Key) -> Record {
        let hints = self.dumps.iter().filter_map(|dump| dump.hints.get(key)).map(|(_, record)| record);
        let hints = hints.filter(|_| self.claims.hints_count);
        hints.fold(self.held_by_homes(key), |left, record| left.join(record))
    }

    /// The records of a key's homes joined.
    pub fn held_by_homes(&self, key: &Key) -> Record {
        let homes = self.layout.homes(self.partition_of(key));
        let of_homes = self.dumps.iter().filter(|dump| homes.contains(&dump.node));
        let records = of_homes.filter_map(|dump| dump.data.get(key));
        records.fold(Record::new(), |left, record| left.join(record))
    }

    /// The same, but where clocks may be stripped only what homes hold, or had a part in showing.
    pub fn told_by_homes(&self) -> Vec<(String, &Key, &Record)> {
        if !self.claims.reclaims {
            return self.observations();
        }
        let by_home = |get: &&GetOp| get.found.as_ref().is_some_and(|found| found.acks.homes > 0);
        self.shown(self.history.gets.iter().filter(by_home)).chain(self.stored()).collect()
    }

    fn shown<'a>(
        &'a self,
        gets: impl Iterator<Item = &'a GetOp> + 'a,
    ) -> impl Iterator<Item = (String, &'a Key, &'a Record)> + 'a {
        gets.filter_map(|get| {
            let found = get.found.as_ref()?;
            let place = format!("a read by client {} at {} ms", get.client, get.returned / 1_000_000);
            Some((place, &get.key, &found.record))
        })
    }

    fn stored(&self) -> impl Iterator<Item = (String, &Key, &Record)> + '_ {
        self.dumps.iter().flat_map(|dump| {
            let host = self.name(dump.node);
            dump.data.iter().map(move |(key, record)| (format!("the disk of {host}"), key, record))
        })
    }

    /// Every state of a key that anyone was ever shown, or that lies on a disk, with where.
    pub fn observations(&self) -> Vec<(String, &Key, &Record)> {
        let mut all: Vec<_> = self.shown(self.history.gets.iter()).chain(self.stored()).collect();
        for dump in &self.dumps {
            let host = self.name(dump.node);
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

impl Dump {
    /// What the rows of one store hold, in any order: those of a simulated disk or of a real engine. Rows of
    /// kinds that no checker reads are passed over.
    pub fn of_rows(node: NodeId, rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Dump {
        let mut dump = Dump { node, ..Dump::default() };
        for (row, value) in rows {
            let (partition, kind) = (partition_of(&row), row.get(2).copied());
            if partition.is_none() && kind == Some(KIND_CLUSTER) {
                dump.known.extend(decode_known(&value).ok());
            }
            let (Some(partition), Some(kind)) = (partition, kind) else { continue };
            let rest = rows::rest(&row);
            if [KIND_DATA, KIND_SEEN, KIND_REPLICA, KIND_MEMBERS, KIND_TREE, KIND_FRONTIER].contains(&kind) {
                dump.kept.insert(partition);
            }
            let garbled = match kind {
                KIND_DATA => dump.take_data(rest, &value),
                KIND_HINT => dump.take_hint(rest, &value),
                KIND_SEEN => dump.take_seen(partition, &rest, &value),
                KIND_END => dump.take_end(partition, &rest, &value),
                _ => Ok(()),
            };
            dump.garbled.extend(garbled.err().map(|why| format!("row {row:?}: {why}")));
        }
        dump
    }

    /// Keys of which it holds nothing but tombstones.
    pub fn tombstones(&self) -> usize {
        let dead = |record: &&Record| record.siblings().iter().all(|s| s.content == Content::Tombstone);
        self.data.values().filter(dead).count()
    }

    /// The layouts that it knows, and how they follow the first.
    pub fn chain(&self, first: &Arc<Layout>) -> Chain {
        let mut chain = Chain::new(first.clone());
        let mut links: Vec<Link> =
            self.known.iter().filter_map(|(name, entry)| Link::read(name, entry).ok()).collect();
        links.sort_by_key(|link| link.decree);
        for link in &links {
            // What is unsound is nobody's layout; two under one number are an alarm that the chain keeps.
            let _ = chain.add(link);
        }
        chain
    }

    /// How far it has said that a node has come; where everyone begins if it has heard nothing.
    pub fn progress(&self, node: NodeId, first: &Layout) -> Progress {
        let said = self.known.iter().find(|(name, _)| *name == Name::Progress(node));
        let start = Progress::at(Decree { lineage: 0, version: first.version() });
        said.and_then(|(_, entry)| Progress::read(entry).ok()).unwrap_or(start)
    }

    fn take_data(&mut self, rest: Bytes, value: &Bytes) -> Result<(), String> {
        let key = Key::from_joined(rest).map_err(|error| format!("{error:?}"))?;
        self.data.insert(key, decode_record(value).map_err(|error| format!("{error:?}"))?);
        Ok(())
    }

    fn take_hint(&mut self, rest: Bytes, value: &Bytes) -> Result<(), String> {
        let key = Key::from_joined(rest).map_err(|error| format!("{error:?}"))?;
        let (homes, record, _) = rows::decode_hint(value).map_err(|error| format!("{error:?}"))?;
        self.hints.insert(key, (homes, record));
        Ok(())
    }

    fn take_seen(&mut self, partition: PartitionId, rest: &[u8], value: &Bytes) -> Result<(), String> {
        let (row, _) = rows::decode_seen(value).map_err(|error| format!("{error:?}"))?;
        self.seen.entry(partition).or_default().set_row(incarnation_of(rest)?, row);
        Ok(())
    }

    fn take_end(&mut self, partition: PartitionId, rest: &[u8], value: &Bytes) -> Result<(), String> {
        let end = rows::decode_end(value).map_err(|error| format!("{error:?}"))?;
        self.ends.entry(partition).or_default().set(incarnation_of(rest)?, end);
        Ok(())
    }
}

fn incarnation_of(rest: &[u8]) -> Result<Incarnation, String> {
    rest.try_into().map(u64::from_be_bytes).map(Incarnation).map_err(|_| "not an incarnation".to_string())
}

/// The partition that a row belongs to; none if it is the node's.
fn partition_of(row: &[u8]) -> Option<PartitionId> {
    let partition = u16::from_be_bytes(row.get(..2)?.try_into().ok()?);
    (partition != NODE_ROWS).then_some(PartitionId(partition))
}

/// A record in one line: its live dots with their writes.
pub fn describe(record: &Record) -> String {
    let siblings: Vec<String> =
        record.siblings().iter().map(|s| format!("{}={}", s.dot, s.request.0 as u64)).collect();
    format!("[{}]", siblings.join(", "))
}
