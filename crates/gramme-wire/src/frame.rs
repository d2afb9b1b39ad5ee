//! Frames: how a stream of bytes between two nodes falls into whole, checked pieces. A header of 16 bytes, then
//! the body. Byte table: `docs/format/wire.md`.
//!
//! Invariant: a body that [`FrameReader`] hands out is exactly what the sender framed. The header has a
//! checksum of its own, so that a garbled length is noticed before anyone waits for that many bytes.
//!
//! A frame of an unknown kind is skipped, so that a newer release may say more to whoever understands it; one
//! with an unknown *critical* flag is refused. After an error the stream has no known boundaries left: the
//! connection must be closed.

use bytes::{Buf, Bytes, BytesMut};
use gramme_core::codec::{BadBytes, checksum32};
use gramme_core::id::BadKey;
use gramme_core::limits::FRAME_BYTES_MAX;
use std::fmt;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The dialer's first words: [`crate::hello::Hello`].
    Hello = 1,
    /// The acceptor's first words.
    Welcome = 2,
    /// The dialer's proof that it knows the cluster's secret.
    Proof = 3,
    /// The acceptor's last word of the handshake: messages follow, both ways.
    Ready = 4,
    /// Why there will be no connection; the sender hangs up after it.
    Refusal = 5,
    /// A [`crate::Message`].
    Message = 6,
}

/// One whole frame whose checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// A slice of the buffer it was read into; who keeps a part of it for long copies that part.
    pub body: Bytes,
}

/// Why bytes of a peer could not be read, or a message could not be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The first byte is not a frame's: whoever is there speaks another protocol.
    NotGramme(u8),
    /// The frame has a format that this release does not know.
    Version(u8),
    /// The header fails its checksum.
    BadHeader,
    /// The frame bears critical flags that this release does not know.
    Critical(u8),
    /// The body is longer than allowed; carries its length.
    TooLarge(u64),
    /// The body fails its checksum.
    Checksum,
    /// A whole frame of another kind than the moment allows.
    Unexpected(Kind),
    /// A whole frame with a message that this release does not know. The stream is intact: the message may
    /// be skipped.
    UnknownMessage(u8),
    /// A whole frame whose body says what cannot be.
    Malformed,
    /// A whole frame with a key that is not one.
    Key(BadKey),
}

impl WireError {
    /// Whether the stream may be read on after it: only the one message is lost.
    pub fn is_skippable(self) -> bool {
        matches!(self, WireError::UnknownMessage(_))
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::NotGramme(found) => write!(
                f,
                "the peer does not speak Gramme's peer protocol (its first byte is {found:#04x}): check that the address is a peer address"
            ),
            WireError::Version(found) => {
                write!(
                    f,
                    "the frame has format version {found}, which this release does not know: upgrade this node"
                )
            }
            WireError::BadHeader => {
                write!(f, "the frame's header fails its checksum: the bytes were altered on the way")
            }
            WireError::Critical(bits) => write!(
                f,
                "the frame bears critical flags {bits:#04x}, which this release does not know: upgrade this node"
            ),
            WireError::TooLarge(bytes) => {
                write!(f, "a frame of {bytes} bytes is larger than may be sent here")
            }
            WireError::Checksum => {
                write!(f, "the frame's body fails its checksum: the bytes were altered on the way")
            }
            WireError::Unexpected(kind) => write!(f, "a frame of kind {kind:?} does not belong here"),
            WireError::UnknownMessage(tag) => {
                write!(f, "the message has number {tag}, which this release does not know")
            }
            WireError::Malformed => write!(f, "the frame's body does not have the form it should"),
            WireError::Key(bad) => write!(f, "the message's key cannot be: {bad}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<BadBytes> for WireError {
    fn from(_: BadBytes) -> WireError {
        WireError::Malformed
    }
}

impl From<BadKey> for WireError {
    fn from(bad: BadKey) -> WireError {
        WireError::Key(bad)
    }
}

/// Takes whole frames off a buffer that grows at its end; copies nothing.
#[derive(Debug)]
pub struct FrameReader {
    bytes_max: usize,
    /// The header of the frame whose body is not whole yet; it has been taken off the buffer.
    open: Option<Header>,
}

impl Default for FrameReader {
    fn default() -> FrameReader {
        FrameReader::new()
    }
}

impl FrameReader {
    /// Takes bodies of up to [`FRAME_BYTES_MAX`]: for peers that have proved who they are.
    pub fn new() -> FrameReader {
        FrameReader::with_max(FRAME_BYTES_MAX)
    }

    /// Takes bodies of up to so many bytes: for strangers, [`crate::hello::HELLO_BYTES_MAX`]. Once they are
    /// known, a new reader goes on with the same buffer.
    pub fn with_max(bytes_max: usize) -> FrameReader {
        FrameReader { bytes_max: bytes_max.min(FRAME_BYTES_MAX), open: None }
    }

    /// The next whole frame, taken off the front of `buf`; `None` until more bytes have arrived.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        loop {
            let header = match self.open.take() {
                Some(header) => header,
                None => match Header::take(buf, self.bytes_max)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            if buf.len() < header.body_len {
                self.open = Some(header);
                return Ok(None);
            }
            let body = buf.split_to(header.body_len);
            if checksum32(&body) != header.checksum {
                return Err(WireError::Checksum);
            }
            if let Some(kind) = kind_of(header.kind) {
                return Ok(Some(Frame { kind, body: body.freeze() }));
            }
        }
    }

    /// Bytes that the frame begun needs beyond those in `buf`; 0 between frames. Advice for the next read.
    pub fn missing(&self, buf: &BytesMut) -> usize {
        self.open.as_ref().map_or(0, |header| header.body_len.saturating_sub(buf.len()))
    }
}

/// What the reader remembers of a header.
#[derive(Debug)]
struct Header {
    kind: u8,
    body_len: usize,
    checksum: u32,
}

impl Header {
    fn take(buf: &mut BytesMut, bytes_max: usize) -> Result<Option<Header>, WireError> {
        match buf.first() {
            None => return Ok(None),
            Some(&MAGIC) => {}
            Some(&other) => return Err(WireError::NotGramme(other)),
        }
        let Some(bytes) = buf.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if bytes[1] != VERSION {
            return Err(WireError::Version(bytes[1]));
        }
        if word(bytes, 12) != checksum32(&bytes[..12]) {
            return Err(WireError::BadHeader);
        }
        if bytes[3] & CRITICAL != 0 {
            return Err(WireError::Critical(bytes[3] & CRITICAL));
        }
        let body_len = word(bytes, 4);
        if body_len as usize > bytes_max {
            return Err(WireError::TooLarge(body_len.into()));
        }
        let header = Header { kind: bytes[2], body_len: body_len as usize, checksum: word(bytes, 8) };
        buf.advance(HEADER_BYTES);
        Ok(Some(header))
    }
}

/// The header of a frame with such a body.
pub(crate) fn header(kind: Kind, body_len: u32, checksum: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0] = MAGIC;
    bytes[1] = VERSION;
    bytes[2] = kind as u8;
    bytes[4..8].copy_from_slice(&body_len.to_le_bytes());
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    let own = checksum32(&bytes[..12]);
    bytes[12..].copy_from_slice(&own.to_le_bytes());
    bytes
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn kind_of(byte: u8) -> Option<Kind> {
    [Kind::Hello, Kind::Welcome, Kind::Proof, Kind::Ready, Kind::Refusal, Kind::Message]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
}

/// Bytes in front of each body.
pub const HEADER_BYTES: usize = 16;
/// No letter of ASCII, so that HTTP and Redis clients on the wrong port are told apart by their first byte.
const MAGIC: u8 = 0xd7;
const VERSION: u8 = 1;
/// Flags that a reader must know to read on; the other half may be ignored.
const CRITICAL: u8 = 0xf0;
