//! Bytes on their way to a socket: many small pieces copied together so that they leave in one write, large
//! values kept as they are so that they are never copied.
//!
//! [`Outgoing`] is a [`Buf`] with vectored chunks: a transport hands it to `write_buf` and asks
//! [`Buf::remaining`] how much waits. It refuses to bound itself: whoever fills it looks at that number first.

use crate::frame::{HEADER_BYTES, Kind, WireError, header};
use bytes::{Buf, Bytes, BytesMut};
use gramme_core::codec::{Writer, checksum32};
use gramme_core::limits::FRAME_BYTES_MAX;
use std::collections::VecDeque;
use std::io::IoSlice;
use xxhash_rust::xxh3::Xxh3;

/// See the module.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Leave first, in order; none is empty.
    sealed: VecDeque<Bytes>,
    sealed_bytes: usize,
    /// Leaves last, and grows.
    tail: BytesMut,
}

impl Outgoing {
    /// Nothing waits.
    pub fn new() -> Outgoing {
        Outgoing::default()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Appends a copy.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends a value: a small one is copied, a large one shared.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(bytes);
        } else {
            self.seal_tail(self.tail.len());
            self.seal(bytes.clone());
        }
    }

    /// Everything that waits, copied together and taken: for tests and for transports without sockets.
    pub fn take_bytes(&mut self) -> Bytes {
        self.copy_to_bytes(self.remaining())
    }

    /// Appends one frame whose body `write` gives; nothing is appended if it is too large.
    pub(crate) fn put_frame(
        &mut self,
        kind: Kind,
        write: impl FnOnce(&mut FrameWriter<'_>),
    ) -> Result<(), WireError> {
        let mut writer = FrameWriter::begin(&mut self.tail, SHARED_BYTES_MIN);
        write(&mut writer);
        let mut sealed_to = 0;
        for (at, bytes) in writer.end(kind)? {
            self.seal_tail(at - sealed_to);
            sealed_to = at;
            self.seal(bytes);
        }
        Ok(())
    }

    fn seal_tail(&mut self, len: usize) {
        if len > 0 {
            let head = self.tail.split_to(len).freeze();
            self.seal(head);
        }
    }

    fn seal(&mut self, bytes: Bytes) {
        self.sealed_bytes += bytes.len();
        self.sealed.push_back(bytes);
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.sealed_bytes + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.sealed.front().map_or(&self.tail, |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.sealed.iter().map(|bytes| &bytes[..]).chain(tail);
        slices.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.sealed.front_mut() {
            let part = count.min(first.len());
            first.advance(part);
            self.sealed_bytes -= part;
            count -= part;
            if !first.is_empty() {
                return;
            }
            self.sealed.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() && self.tail.capacity() > IDLE_BYTES_MAX {
            self.tail = BytesMut::new();
        }
    }
}

/// Writes one frame's body where it will leave from, and its header once the body is known.
pub(crate) struct FrameWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    shared_from: usize,
    /// Values that are not copied: where in `out` each belongs.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl<'a> FrameWriter<'a> {
    /// A frame at the end of `out`; values of `shared_from` bytes and more are left beside it.
    pub(crate) fn begin(out: &'a mut BytesMut, shared_from: usize) -> FrameWriter<'a> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        FrameWriter { out, start, shared_from, shared: Vec::new(), shared_bytes: 0 }
    }

    /// Writes the header; gives the values that belong at those places of the buffer. A frame that is too
    /// large is taken back.
    pub(crate) fn end(self, kind: Kind) -> Result<Vec<(usize, Bytes)>, WireError> {
        let body = self.start + HEADER_BYTES;
        let len = self.out.len() - body + self.shared_bytes;
        if len > FRAME_BYTES_MAX {
            self.out.truncate(self.start);
            return Err(WireError::TooLarge(len as u64));
        }
        let checksum = match self.shared.is_empty() {
            true => checksum32(&self.out[body..]),
            false => checksum_of_parts(&self.out[..], body, &self.shared),
        };
        self.out[self.start..body].copy_from_slice(&header(kind, len as u32, checksum));
        Ok(self.shared)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, v: u8) {
        self.raw(&[v]);
    }

    pub(crate) fn u16(&mut self, v: u16) {
        self.raw(&v.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.raw(&v.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, v: u64) {
        self.raw(&v.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, v: u128) {
        self.raw(&v.to_le_bytes());
    }

    pub(crate) fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.u8(v as u8 | 0x80);
            v >>= 7;
        }
        self.u8(v as u8);
    }

    /// A length and so many bytes, copied.
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A length and so many bytes, shared if there are many.
    pub(crate) fn bytes(&mut self, bytes: &Bytes) {
        self.varint(bytes.len() as u64);
        if bytes.len() < self.shared_from {
            self.raw(bytes);
        } else {
            self.shared.push((self.out.len(), bytes.clone()));
            self.shared_bytes += bytes.len();
        }
    }

    /// What the core's codec knows to write.
    pub(crate) fn core(&mut self, write: impl FnOnce(&mut Writer)) {
        let mut w = Writer::with_capacity(CORE_BYTES);
        write(&mut w);
        self.raw(w.as_slice());
    }
}

/// [`checksum32`] of `out[from..]` with the shared values at their places.
fn checksum_of_parts(out: &[u8], mut from: usize, shared: &[(usize, Bytes)]) -> u32 {
    let mut hash = Xxh3::new();
    for (at, bytes) in shared {
        hash.update(&out[from..*at]);
        hash.update(bytes);
        from = *at;
    }
    hash.update(&out[from..]);
    hash.digest() as u32
}

/// A value from here on is shared and leaves as a chunk of its own; below, one copy is cheaper than one more
/// piece for the kernel to gather.
pub const SHARED_BYTES_MIN: usize = 64 << 10;
/// What an empty tail may keep for the next write.
const IDLE_BYTES_MAX: usize = 1 << 20;
/// Room for what the core's codec usually writes.
const CORE_BYTES: usize = 128;
