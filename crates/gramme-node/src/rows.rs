//! How a node's state becomes engine rows. Byte tables: `docs/format/rows.md`.
//!
//! Every row key is `partition u16 big-endian, kind u8, rest`. A partition's rows stand together, so that it
//! can be scanned, moved and dropped as a unit (the paper, 6.2 strategy 3).

use crate::exchange::Past;
use bytes::Bytes;
use gramme_core::closed::{End, read_end, write_end};
use gramme_core::codec::{BadBytes, Reader, Writer, decode_record, seal, unseal};
use gramme_core::frontier::{read_frontier, write_frontier};
use gramme_core::gossip::{Entry, Name, read_entry, write_entry};
use gramme_core::merkle::{Tombstones, Tree, read_tree, write_tree};
use gramme_core::seen::SeenRow;
use gramme_core::{Frontier, Incarnation, Key, NodeId, PartitionId, Record, Stamp};
use gramme_storage::NODE_ROWS;
use gramme_wire::Remembered;
use std::collections::{BTreeMap, BTreeSet};

/// The store's identity; written by the server, `rest` empty.
pub const KIND_IDENTITY: u8 = 0x01;
/// What this node remembers of a peer; written by the server, `rest` = node id.
pub const KIND_PEER: u8 = 0x02;
/// A bucket's settings; node-wide, `rest` = its name.
pub const KIND_BUCKET: u8 = 0x03;
/// A home's record of a key: `rest` = the key, joined with its bucket.
pub const KIND_DATA: u8 = 0x11;
/// A hint: a fallback's record of a key and the homes it stands in for.
pub const KIND_HINT: u8 = 0x12;
/// A row of a replica's seen clock: `rest` = incarnation.
pub const KIND_SEEN: u8 = 0x13;
/// Who a home replica is: its live incarnation, its life and its past; `rest` empty.
pub const KIND_REPLICA: u8 = 0x14;
/// A hint store's live incarnation: `rest` empty.
pub const KIND_HINT_STORE: u8 = 0x15;
/// What the other homes have reported as durably seen: `rest` empty.
pub const KIND_MEMBERS: u8 = 0x17;
/// When a hint store's first hint was kept: `rest` empty.
pub const KIND_HINTS_SINCE: u8 = 0x1a;

/// A home's hash tree, as it is if the row is not empty: `rest` empty.
pub const KIND_TREE: u8 = 0x1b;
/// A home's reclaim frontier: `rest` empty.
pub const KIND_FRONTIER: u8 = 0x1d;
/// How an incarnation ends, on every node: `rest` = incarnation.
pub const KIND_END: u8 = 0x1e;
/// What is known of the cluster; node-wide, `rest` = the bytes of its name.
pub const KIND_CLUSTER: u8 = 0x20;
/// What this member has promised and accepted of the layout that is to be settled next; node-wide, `rest` empty.
pub const KIND_ACCEPTOR: u8 = 0x21;

/// The row of a key.
pub fn key_row(partition: PartitionId, kind: u8, key: &Key) -> Bytes {
    row(partition.0, kind, key.as_bytes())
}

/// The row of an incarnation's part of a seen clock.
pub fn seen_row(partition: PartitionId, kind: u8, incarnation: Incarnation) -> Bytes {
    row(partition.0, kind, &incarnation.0.to_be_bytes())
}

/// A row of the node as a whole.
pub fn node_row(kind: u8, rest: &[u8]) -> Bytes {
    row(NODE_ROWS, kind, rest)
}

/// `partition, kind, rest`.
pub fn row(partition: u16, kind: u8, rest: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(3 + rest.len());
    bytes.extend_from_slice(&partition.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(rest);
    bytes.into()
}

/// Whose home data lies under this row key or prefix; `None` if it is a row of another kind.
pub fn partition_of_home_data(row: &[u8]) -> Option<PartitionId> {
    match row {
        [high, low, KIND_DATA, ..] => Some(PartitionId(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// The `rest` of a row key.
pub fn rest(row: &Bytes) -> Bytes {
    row.slice(3.min(row.len())..)
}

/// A seen-clock row: the runs, and the last stamp that its replica gave, so that a restart's stamps are
/// greater than every durable one.
pub fn encode_seen(row: &SeenRow, last_stamp: Stamp) -> Bytes {
    let mut w = Writer::with_capacity(32);
    w.u8(VERSION);
    w.u64(last_stamp.0);
    w.varint(row.runs().len() as u64);
    for &(lo, hi) in row.runs() {
        w.varint(lo);
        w.varint(hi - lo);
    }
    close(w)
}

/// Reads [`encode_seen`] back.
pub fn decode_seen(bytes: &[u8]) -> Result<(SeenRow, Stamp), BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let last_stamp = Stamp(r.u64()?);
    let count = r.count_of(2)?;
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let lo = r.varint()?;
        runs.push((lo, lo.checked_add(r.varint()?).ok_or(BadBytes::Malformed)?));
    }
    r.end()?;
    Ok((SeenRow::from_runs(runs), last_stamp))
}

/// Who a home replica is; see [`crate::exchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaRow {
    pub(crate) incarnation: Incarnation,
    pub(crate) life: u64,
    pub(crate) past: Past,
    /// The homes from which everything was pulled in this life.
    pub(crate) refilled: BTreeSet<NodeId>,
}

/// Who a home replica is.
pub(crate) fn encode_replica(row: &ReplicaRow) -> Bytes {
    let mut w = Writer::new();
    w.u8(REPLICA_VERSION);
    w.u64(row.incarnation.0);
    w.u64(row.life);
    w.u8(match row.past {
        Past::Original => 0,
        Past::Unproven => 1,
        Past::Refilled => 2,
        Past::New => 3,
    });
    w.varint(row.refilled.len() as u64);
    row.refilled.iter().for_each(|home| w.u64(home.0));
    close(w)
}

/// Reads [`encode_replica`] back.
pub(crate) fn decode_replica(bytes: &[u8]) -> Result<ReplicaRow, BadBytes> {
    let mut r = unseal(bytes, REPLICA_VERSION)?;
    let (incarnation, life) = (Incarnation(r.u64()?), r.u64()?);
    let past = match r.u8()? {
        0 => Past::Original,
        1 => Past::Unproven,
        2 => Past::Refilled,
        3 => Past::New,
        _ => return Err(BadBytes::Malformed),
    };
    let refilled = (0..r.count_of(8)?).map(|_| r.u64().map(NodeId)).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(ReplicaRow { incarnation, life, past, refilled })
}

/// What the other homes have reported.
pub(crate) fn encode_members(members: &BTreeMap<NodeId, Remembered>) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    w.varint(members.len() as u64);
    for (member, remembered) in members {
        w.u64(member.0);
        w.u64(remembered.life);
        write_frontier(&mut w, &remembered.bases);
    }
    close(w)
}

/// Reads [`encode_members`] back.
pub(crate) fn decode_members(bytes: &[u8]) -> Result<BTreeMap<NodeId, Remembered>, BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let mut members = BTreeMap::new();
    for _ in 0..r.count_of(17)? {
        let member = NodeId(r.u64()?);
        members.insert(member, Remembered { life: r.u64()?, bases: read_frontier(&mut r)? });
    }
    r.end()?;
    Ok(members)
}

/// A reclaim frontier.
pub(crate) fn encode_frontier(frontier: &Frontier) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    write_frontier(&mut w, frontier);
    close(w)
}

/// Reads [`encode_frontier`] back.
pub(crate) fn decode_frontier(bytes: &[u8]) -> Result<Frontier, BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let frontier = read_frontier(&mut r)?;
    r.end()?;
    Ok(frontier)
}

/// How an incarnation ends.
pub fn encode_end(end: &End) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    write_end(&mut w, end);
    close(w)
}

/// Reads [`encode_end`] back.
pub fn decode_end(bytes: &[u8]) -> Result<End, BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let end = read_end(&mut r)?;
    r.end()?;
    Ok(end)
}

/// What is known of the cluster under a name.
pub(crate) fn encode_known(name: &Name, entry: &Entry) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    write_entry(&mut w, name, entry);
    close(w)
}

/// Reads [`encode_known`] back.
pub fn decode_known(bytes: &[u8]) -> Result<(Name, Entry), BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let known = read_entry(&mut r)?;
    r.end()?;
    Ok(known)
}

/// A live incarnation.
pub fn encode_incarnation(incarnation: Incarnation) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    w.u64(incarnation.0);
    close(w)
}

/// When a hint store's first hint was kept, in milliseconds of the wall clock.
pub fn encode_since(since_ms: u64) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    w.u64(since_ms);
    close(w)
}

/// Reads [`encode_since`] back.
pub fn decode_since(bytes: &[u8]) -> Result<u64, BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let since_ms = r.u64()?;
    r.end()?;
    Ok(since_ms)
}

/// A hint: the homes it is for, then the encoded record.
pub fn encode_hint(homes: &[NodeId], record: &[u8]) -> Bytes {
    let mut w = Writer::with_capacity(record.len() + 8 * homes.len() + 8);
    w.u8(VERSION);
    w.varint(homes.len() as u64);
    for home in homes {
        w.u64(home.0);
    }
    w.raw(record);
    w.into_bytes()
}

/// Reads [`encode_hint`] back; the record carries its own checksum.
pub fn decode_hint(bytes: &Bytes) -> Result<(Vec<NodeId>, Record, Bytes), BadBytes> {
    let mut r = Reader::new(bytes);
    match r.u8()? {
        VERSION => {}
        newer => return Err(BadBytes::Version(newer)),
    }
    let count = r.count(gramme_core::limits::MEMBERS_MAX)?;
    let mut homes = Vec::with_capacity(count);
    for _ in 0..count {
        homes.push(NodeId(r.u64()?));
    }
    let encoded = bytes.slice(r.position()..);
    Ok((homes, decode_record(&encoded)?, encoded))
}

/// The checkpoint of a partition's hash tree, and whether any value in the partition expires: its keys are then to
/// be found again.
pub fn encode_tree(tree: &Tree, tombstones: Tombstones, expires: bool) -> Bytes {
    let mut w = Writer::with_capacity(64);
    w.u8(VERSION);
    w.u8(u8::from(tombstones == Tombstones::Skipped) | u8::from(expires) << 1);
    write_tree(&mut w, tree);
    close(w)
}

/// Reads [`encode_tree`] back, if the tree treats tombstones like this.
pub fn decode_tree(bytes: &[u8], tombstones: Tombstones) -> Result<(Tree, bool), BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let flags = r.u8()?;
    if flags & !2 != u8::from(tombstones == Tombstones::Skipped) {
        return Err(BadBytes::Malformed);
    }
    let tree = read_tree(&mut r)?;
    r.end()?;
    Ok((tree, flags & 2 != 0))
}

fn close(mut w: Writer) -> Bytes {
    seal(&mut w, 0);
    w.into_bytes()
}

const VERSION: u8 = 1;
/// The first told only the incarnation.
const REPLICA_VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
        digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
    }

    /// Rows that were written by the first release; they must be read for ever.
    const SEEN: &str = "01 0700000000000000 02 00 05 09 01 CHECKSUM";
    const KNOWN: &str = "01 03 0300000000000000 0700000000000000 0900000000000000 04 73616964 CHECKSUM";
    const INCARNATION: &str = "01 efcdab8967452301 CHECKSUM";

    fn golden(text: &str, sum: &str) -> Bytes {
        bytes(&text.replace("CHECKSUM", sum))
    }

    #[test]
    fn a_stored_seen_row_opens_for_ever() {
        let stored = golden(SEEN, SEEN_SUM);
        let row = SeenRow::from_runs([(0, 5), (9, 10)]);
        assert_eq!(decode_seen(&stored), Ok((row.clone(), Stamp(7))));
        assert_eq!(encode_seen(&row, Stamp(7)), stored);
    }

    #[test]
    fn a_stored_incarnation_is_written_as_it_always_was() {
        assert_eq!(
            encode_incarnation(Incarnation(0x0123_4567_89ab_cdef)),
            golden(INCARNATION, INCARNATION_SUM)
        );
    }

    #[test]
    fn every_altered_byte_and_every_cut_of_a_seen_row_is_refused() {
        let stored = golden(SEEN, SEEN_SUM);
        for at in 0..stored.len() {
            let mut altered = stored.to_vec();
            altered[at] ^= 0x40;
            assert!(decode_seen(&altered).is_err(), "byte {at}");
            assert!(decode_seen(&stored[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_checkpoint_is_its_tree_or_nothing() {
        let mut tree = Tree::new(2);
        tree.change(b"\x01bk", 0, 7);
        let stored = encode_tree(&tree, Tombstones::Counted, false);
        assert_eq!(decode_tree(&stored, Tombstones::Counted), Ok((tree.clone(), false)));
        let expiring = encode_tree(&tree, Tombstones::Skipped, true);
        assert_eq!(decode_tree(&expiring, Tombstones::Skipped), Ok((tree, true)));
        assert!(decode_tree(&stored, Tombstones::Skipped).is_err(), "a tree of another kind");
        assert!(decode_tree(&[], Tombstones::Counted).is_err(), "emptied by a later write");
        for at in 0..stored.len() {
            let mut altered = stored.to_vec();
            altered[at] ^= 0x40;
            assert!(decode_tree(&altered, Tombstones::Counted).is_err(), "byte {at}");
            assert!(decode_tree(&stored[..at], Tombstones::Counted).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_hint_names_its_homes_and_carries_its_record() {
        let encoded = gramme_core::codec::encode_record(&Record::new());
        let stored = encode_hint(&[NodeId(3), NodeId(9)], &encoded);
        let (homes, record, again) = decode_hint(&stored).expect("what was encoded decodes");
        assert_eq!((homes, record, again), (vec![NodeId(3), NodeId(9)], Record::new(), encoded));
        for cut in 0..stored.len() {
            assert!(decode_hint(&stored.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_end_is_read_as_it_was_written_or_not_at_all() {
        let end = End { closed: true, set: SeenRow::from_runs([(0, 5), (9, 10)]) };
        let stored = encode_end(&end);
        assert_eq!(decode_end(&stored), Ok(end));
        for at in 0..stored.len() {
            let mut altered = stored.to_vec();
            altered[at] ^= 0x40;
            assert!(decode_end(&altered).is_err(), "byte {at}");
            assert!(decode_end(&stored[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_known_of_a_node_is_read_as_it_was_written_or_not_at_all() {
        let entry = Entry { stamp: Stamp(7), tie: 9, bytes: Bytes::from_static(b"said") };
        let stored = encode_known(&Name::Node(NodeId(3)), &entry);
        assert_eq!(stored, golden(KNOWN, KNOWN_SUM));
        assert_eq!(decode_known(&stored), Ok((Name::Node(NodeId(3)), entry)));
        for at in 0..stored.len() {
            let mut altered = stored.to_vec();
            altered[at] ^= 0x40;
            assert!(decode_known(&altered).is_err(), "byte {at}");
            assert!(decode_known(&stored[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_hint_store_remembers_since_when_it_is() {
        let stored = encode_since(7);
        assert_eq!(decode_since(&stored), Ok(7));
        for cut in 0..stored.len() {
            assert!(decode_since(&stored[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn rows_of_a_partition_stand_together_in_order_of_kind() {
        let key = Key::new("b", b"k").expect("a sound key");
        let data = key_row(PartitionId(0x0102), KIND_DATA, &key);
        assert_eq!(&data[..], b"\x01\x02\x11\x01bk");
        assert_eq!(&rest(&data)[..], b"\x01bk");
        assert!(key_row(PartitionId(0x0102), KIND_HINT, &key) > data);
        assert!(
            key_row(PartitionId(0x0103), KIND_DATA, &key)
                > key_row(PartitionId(0x0102), KIND_HINTS_SINCE, &key)
        );
    }

    const SEEN_SUM: &str = "75936371";
    const KNOWN_SUM: &str = "262b9aeb";
    const INCARNATION_SUM: &str = "734b7a5f";
}
