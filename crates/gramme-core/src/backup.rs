//! Records outside the cluster: how a copy of them lies in a file and travels to and from a node. Byte table:
//! `docs/format/backup.md`.
//!
//! A row is a key and its encoded record, closed by a checksum over both, so that a damaged file is named to
//! the byte. Rows say nothing of the ring: they can be given back to a cluster of any shape.
//!
//! Invariant: what [`Rows`] gives was written by [`write_row`], whole and unaltered.

use crate::codec::{BadBytes, Reader, Writer, checksum32, seal, unseal};
use crate::id::{ClusterId, Key, PartitionId};
use bytes::Bytes;

/// What the file of one partition begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose records these are.
    pub cluster: ClusterId,
    /// Partitions of its ring.
    pub partitions: u32,
    /// Which of them this is.
    pub partition: PartitionId,
}

/// Bytes of an encoded [`Head`].
pub const HEAD_BYTES: usize = 8 + 1 + 16 + 4 + 4 + 4;

/// Why a row could not be read, and where in its bytes it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Bytes before the row.
    pub at: usize,
    /// What is wrong with it.
    pub why: BadBytes,
}

/// Encodes the head of a file.
pub fn encode_head(head: &Head) -> Bytes {
    let mut w = Writer::with_capacity(HEAD_BYTES);
    w.raw(MAGIC);
    let start = w.len();
    w.u8(VERSION);
    w.u128(head.cluster.0);
    w.u32(head.partitions);
    w.u32(u32::from(head.partition.0));
    seal(&mut w, start);
    w.into_bytes()
}

/// Reads [`encode_head`] back from the first [`HEAD_BYTES`] of a file.
pub fn decode_head(bytes: &[u8]) -> Result<Head, BadBytes> {
    let sealed = bytes.strip_prefix(MAGIC).ok_or(BadBytes::Malformed)?;
    let mut r = unseal(sealed, VERSION)?;
    let head = Head {
        cluster: ClusterId(r.u128()?),
        partitions: r.u32()?,
        partition: PartitionId(u16::try_from(r.u32()?).map_err(|_| BadBytes::Malformed)?),
    };
    r.end()?;
    Ok(head)
}

/// Appends one row: a key and its encoded record.
pub fn write_row(w: &mut Writer, key: &Key, record: &[u8]) {
    let start = w.len();
    w.slice(key.as_bytes());
    w.slice(record);
    seal(w, start);
}

/// The rows of some bytes, in order. Keys and records are slices of them; the first bad row ends them.
#[derive(Debug)]
pub struct Rows {
    whole: Bytes,
    at: usize,
}

impl Rows {
    /// The rows that fill `bytes`.
    pub fn new(bytes: Bytes) -> Rows {
        Rows { whole: bytes, at: 0 }
    }

    /// Bytes gone through.
    pub fn position(&self) -> usize {
        self.at
    }

    fn row(&mut self) -> Result<(Key, Bytes), BadBytes> {
        let rest = self.whole.slice(self.at..);
        let mut r = Reader::new(&rest);
        let key = r.bytes_of(&rest)?;
        let record = r.bytes_of(&rest)?;
        let body_len = r.position();
        if r.u32()? != checksum32(&rest[..body_len]) {
            return Err(BadBytes::Checksum);
        }
        self.at += r.position();
        let key = Key::from_joined(key).map_err(|_| BadBytes::Malformed)?;
        Ok((key, record))
    }
}

impl Iterator for Rows {
    type Item = Result<(Key, Bytes), BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.whole.len() {
            return None;
        }
        let at = self.at;
        Some(self.row().map_err(|why| {
            self.at = self.whole.len();
            BadRow { at, why }
        }))
    }
}

/// Whether bytes are those of which a manifest remembers this.
pub fn file_checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

const MAGIC: &[u8] = b"GRAMMEBK";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn rows() -> Bytes {
        let mut w = Writer::new();
        for (key, record) in [("a", &b"first"[..]), ("b", b"")] {
            write_row(&mut w, &Key::new("carts", key.as_bytes()).expect("a sound key"), record);
        }
        w.into_bytes()
    }

    fn read_all(bytes: Bytes) -> Result<Vec<(Key, Bytes)>, BadRow> {
        Rows::new(bytes).collect()
    }

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
    }

    #[test]
    fn files_of_the_first_release_open_for_ever() {
        let head = Head { cluster: ClusterId(7), partitions: 256, partition: PartitionId(3) };
        let stored = encode_head(&head);
        assert_eq!(stored.len(), HEAD_BYTES);
        assert_eq!(hex(&stored), HEAD);
        assert_eq!(decode_head(&stored), Ok(head));
        assert_eq!(hex(&rows()), ROWS);
        let read = read_all(rows()).expect("sound rows");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0.key(), &read[0].1[..]), (&b"a"[..], &b"first"[..]));
    }

    #[test]
    fn every_altered_byte_and_every_cut_is_noticed_where_it_is() {
        let whole = rows();
        let second = {
            let mut rows = Rows::new(whole.clone());
            rows.next();
            rows.position()
        };
        for at in 0..whole.len() {
            let mut altered = whole.to_vec();
            altered[at] ^= 0x20;
            let bad = read_all(altered.into()).expect_err("altered");
            assert_eq!(bad.at, if at < second { 0 } else { second }, "byte {at}");
        }
        for cut in 1..whole.len() {
            assert!(cut == second || read_all(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
        let head = encode_head(&Head { cluster: ClusterId(7), partitions: 8, partition: PartitionId(3) });
        for at in 0..head.len() {
            let mut altered = head.to_vec();
            altered[at] ^= 1;
            assert!(decode_head(&altered).is_err(), "byte {at} of the head");
        }
    }

    const HEAD: &str = "4752414d4d45424b010700000000000000000000000000000000010000030000000fcb3cae";
    const ROWS: &str = "07056361727473610566697273741d0c7b030705636172747362008f8de69e";
}
