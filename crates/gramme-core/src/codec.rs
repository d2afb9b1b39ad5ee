//! Values to bytes and back, for disk and wire alike. Decoding borrows: a value read from a buffer is a
//! slice of it. Byte tables: `docs/format/record.md`.
//!
//! Decoders expect anything: they return [`BadBytes`], allocate no more than the input could fill, and
//! never panic.

use crate::clock::{Clock, Interval};
use crate::hlc::Stamp;
use crate::id::{Dot, Incarnation, NodeId, RequestId};
use crate::limits::{CLOCK_INTERVALS_MAX, META_ENTRIES_MAX, SPENT_KEPT_MAX};
use crate::record::{Content, Record, Sibling, Spent};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBytes {
    /// They end too early, go on too long, or say what cannot be.
    Malformed,
    /// Their checksum does not match: they were altered after they were written.
    Checksum,
    /// They were written by a release with a newer format.
    Version(u8),
}

impl fmt::Display for BadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadBytes::Malformed => write!(f, "the bytes do not have the form they should"),
            BadBytes::Checksum => write!(f, "the bytes fail their checksum"),
            BadBytes::Version(found) => {
                write!(f, "the bytes have format version {found}, which this release does not know")
            }
        }
    }
}

impl core::error::Error for BadBytes {}

/// Encodes a record: version, clock, siblings, spent requests, checksum.
pub fn encode_record(record: &Record) -> Bytes {
    let mut w = Writer::with_capacity(96 + record.content_bytes() + 72 * record.siblings().len());
    write_record(&mut w, record);
    w.into_bytes()
}

/// Appends what [`encode_record`] returns.
pub fn write_record(w: &mut Writer, record: &Record) {
    let start = w.len();
    w.u8(RECORD_VERSION);
    write_clock(w, &record.clock);
    w.varint(record.siblings().len() as u64);
    for sibling in record.siblings() {
        write_sibling(w, sibling);
    }
    w.varint(record.spent().len() as u64);
    for s in record.spent() {
        w.u128(s.request.0);
        w.u64(s.checksum);
        w.u64(s.stamp.0);
        w.varint(s.turn);
        w.u8(s.shown.into());
    }
    seal(w, start);
}

/// Decodes a record that fills `bytes`; values stay slices of it.
pub fn decode_record(bytes: &Bytes) -> Result<Record, BadBytes> {
    let (mut r, version) = match unseal(bytes, RECORD_VERSION) {
        Err(BadBytes::Version(older @ (RECORD_VERSION_1 | RECORD_VERSION_2))) => {
            (unseal(bytes, older)?, older)
        }
        opened => (opened?, RECORD_VERSION),
    };
    let clock = read_clock(&mut r)?;
    let count = r.count_of(SIBLING_BYTES_MIN)?;
    let mut siblings = Vec::with_capacity(count);
    for _ in 0..count {
        siblings.push(read_sibling(&mut r, bytes)?);
    }
    let count = r.count(SPENT_KEPT_MAX)?;
    let mut spent = Vec::with_capacity(count);
    for _ in 0..count {
        let (request, checksum, stamp) = (RequestId(r.u128()?), r.u64()?, Stamp(r.u64()?));
        let turn = if version == RECORD_VERSION { r.varint()? } else { 0 };
        let shown = match version {
            RECORD_VERSION_1 => true,
            _ => match r.u8()? {
                0 => false,
                1 => true,
                _ => return Err(BadBytes::Malformed),
            },
        };
        spent.push(Spent { request, checksum, stamp, turn, shown });
    }
    r.end()?;
    Record::from_parts(clock, siblings, spent).ok_or(BadBytes::Malformed)
}

/// Appends a clock.
pub fn write_clock(w: &mut Writer, clock: &Clock) {
    w.varint(clock.intervals().len() as u64);
    for i in clock.intervals() {
        w.u64(i.incarnation.0);
        w.varint(i.lo);
        w.varint(i.hi - i.lo);
    }
}

/// Reads a clock.
pub fn read_clock(r: &mut Reader<'_>) -> Result<Clock, BadBytes> {
    let count = r.count_of(INTERVAL_BYTES_MIN)?;
    if count > CLOCK_INTERVALS_MAX {
        return Err(BadBytes::Malformed);
    }
    let mut intervals = Vec::with_capacity(count);
    for _ in 0..count {
        let incarnation = Incarnation(r.u64()?);
        let lo = r.varint()?;
        let hi = lo.checked_add(r.varint()?).ok_or(BadBytes::Malformed)?;
        if lo == hi {
            return Err(BadBytes::Malformed);
        }
        intervals.push(Interval { incarnation, lo, hi });
    }
    Ok(Clock::from_intervals(intervals))
}

fn write_sibling(w: &mut Writer, s: &Sibling) {
    w.u64(s.dot.incarnation.0);
    w.varint(s.dot.n);
    w.u64(s.stamp.0);
    w.u128(s.request.0);
    w.u64(s.checksum);
    w.u64(s.author.0);
    w.varint(s.ttl_ms);
    w.slice(&s.content_type);
    w.varint(s.meta.len() as u64);
    for (name, value) in &s.meta {
        w.slice(name);
        w.slice(value);
    }
    match &s.content {
        Content::Tombstone => w.u8(KIND_TOMBSTONE),
        Content::Value(value) => {
            w.u8(KIND_VALUE);
            w.slice(value);
        }
    }
}

fn read_sibling(r: &mut Reader<'_>, whole: &Bytes) -> Result<Sibling, BadBytes> {
    let dot = Dot::new(Incarnation(r.u64()?), r.varint()?);
    if dot.n == 0 {
        return Err(BadBytes::Malformed);
    }
    let stamp = Stamp(r.u64()?);
    let request = RequestId(r.u128()?);
    let checksum = r.u64()?;
    let author = NodeId(r.u64()?);
    let ttl_ms = r.varint()?;
    let content_type = r.bytes_of(whole)?;
    let count = r.count(META_ENTRIES_MAX)?;
    let mut meta = Vec::with_capacity(count);
    for _ in 0..count {
        meta.push((r.bytes_of(whole)?, r.bytes_of(whole)?));
    }
    let content = match r.u8()? {
        KIND_TOMBSTONE => Content::Tombstone,
        KIND_VALUE => Content::Value(r.bytes_of(whole)?),
        _ => return Err(BadBytes::Malformed),
    };
    Ok(Sibling { dot, content, stamp, request, checksum, author, ttl_ms, content_type, meta })
}

/// The low half of xxh3-64: what closes every format of ours.
pub fn checksum32(bytes: &[u8]) -> u32 {
    xxhash_rust::xxh3::xxh3_64(bytes) as u32
}

/// Closes bytes of a format of ours: appends the checksum of everything written since `start`.
pub fn seal(w: &mut Writer, start: usize) {
    let sum = checksum32(&w.as_slice()[start..]);
    w.u32(sum);
}

/// Opens bytes that [`seal`] closed and that begin with a version: a reader of what lies between.
pub fn unseal(bytes: &[u8], version: u8) -> Result<Reader<'_>, BadBytes> {
    let body_len = bytes.len().checked_sub(4).ok_or(BadBytes::Malformed)?;
    let (body, sum) = bytes.split_at(body_len);
    if checksum32(body).to_le_bytes() != *sum {
        return Err(BadBytes::Checksum);
    }
    let mut r = Reader::new(body);
    match r.u8()? {
        found if found == version => Ok(r),
        newer => Err(BadBytes::Version(newer)),
    }
}

/// Builds bytes: little-endian numbers, LEB128 varints, length-prefixed slices.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Nothing written.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Nothing written, room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { out: Vec::with_capacity(bytes) }
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    /// Four bytes.
    pub fn u32(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, v: u128) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    /// One to ten bytes, seven bits in each, low ones first.
    pub fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.out.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.out.push(v as u8);
    }

    /// A length and so many bytes.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// These bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// What was written, given away.
    pub fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// What was written, as it was built.
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }
}

/// Reads what [`Writer`] wrote, and expects anything.
#[derive(Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
    start: usize,
}

impl<'a> Reader<'a> {
    /// At the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes, start: bytes.as_ptr() as usize }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// Where the next byte stands.
    pub fn position(&self) -> usize {
        self.left.as_ptr() as usize - self.start
    }

    /// The next so many bytes.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], BadBytes> {
        if len > self.left.len() {
            return Err(BadBytes::Malformed);
        }
        let (head, rest) = self.left.split_at(len);
        self.left = rest;
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, BadBytes> {
        Ok(self.raw(1)?[0])
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, BadBytes> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, BadBytes> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, BadBytes> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A varint of at most 64 bits.
    pub fn varint(&mut self) -> Result<u64, BadBytes> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(BadBytes::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadBytes::Malformed)
    }

    /// A varint that is at most `max`.
    pub fn count(&mut self, max: usize) -> Result<usize, BadBytes> {
        let count = self.varint()?;
        if count > max as u64 { Err(BadBytes::Malformed) } else { Ok(count as usize) }
    }

    /// A varint that counts things of at least `each` bytes, so no more of them than could follow.
    pub fn count_of(&mut self, each: usize) -> Result<usize, BadBytes> {
        let count = self.varint()?;
        if count > (self.left.len() / each) as u64 { Err(BadBytes::Malformed) } else { Ok(count as usize) }
    }

    /// A length and so many bytes.
    pub fn slice(&mut self) -> Result<&'a [u8], BadBytes> {
        let len = self.count(usize::MAX)?;
        self.raw(len)
    }

    /// A length and so many bytes, as a slice of the buffer that this reader reads. `whole` must begin
    /// where the reader began.
    pub fn bytes_of(&mut self, whole: &Bytes) -> Result<Bytes, BadBytes> {
        let len = self.count(usize::MAX)?;
        let at = self.position();
        self.raw(len)?;
        Ok(whole.slice(at..at + len))
    }

    /// A length and so much UTF-8.
    pub fn text(&mut self) -> Result<&'a str, BadBytes> {
        core::str::from_utf8(self.slice()?).map_err(|_| BadBytes::Malformed)
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), BadBytes> {
        if self.left.is_empty() { Ok(()) } else { Err(BadBytes::Malformed) }
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], BadBytes> {
        Ok(self.raw(LEN)?.try_into().expect("raw returns as many bytes as asked for"))
    }
}

const RECORD_VERSION: u8 = 3;
/// Versions before, which open for ever. This one had no turns of spent writes.
const RECORD_VERSION_2: u8 = 2;
/// ... and this one did not say whether they had been shown either.
const RECORD_VERSION_1: u8 = 1;
const KIND_VALUE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
/// The fewest bytes that an interval can take.
const INTERVAL_BYTES_MIN: usize = 10;
/// The fewest bytes that a sibling can take, so that a count is never believed beyond the input.
const SIBLING_BYTES_MIN: usize = 53;
