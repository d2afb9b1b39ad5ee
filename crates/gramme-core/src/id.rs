//! The names of things. Each is a newtype, made once where bytes enter the system, so that nothing
//! further in can confuse a node with a partition or an unchecked string with a key.

use crate::limits::{BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::str::FromStr;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            /// Reads what `Display` writes; upper case is taken too.
            fn from_str(text: &str) -> Result<Self, BadId> {
                if text.len() != $digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(BadId { kind: stringify!($name), digits: $digits });
                }
                <$inner>::from_str_radix(text, 16).map($name).map_err(|_| BadId { kind: stringify!($name), digits: $digits })
            }
        }
    };
}

hex_id!(
    /// One member of the cluster: random, made once, kept in the node's settings; it survives a change
    /// of address and the loss of a disk (design section 4).
    NodeId, u64, 16
);
hex_id!(
    /// One cluster: random, made by `gramme cluster init`; nodes of two clusters refuse each other.
    ClusterId, u128, 32
);
hex_id!(
    /// One data directory's life: random, made when the directory is first written. A member that shows
    /// another store than its peers remember has lost its disk, or swapped it for an older copy.
    StoreId, u64, 16
);
hex_id!(
    /// One life of a partition replica or of a hint store: 64 random bits, new at every process start,
    /// creation, wipe or detected loss, durable before its first use (design section 3).
    Incarnation, u64, 16
);
hex_id!(
    /// One client write, whoever retries it: made by the client, or by the door for a client that has
    /// none. A retry carries the same id, so that it adopts the first attempt's dot.
    RequestId, u128, 32
);

/// A text that is not the id it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId {
    kind: &'static str,
    digits: usize,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} is written as {} hexadecimal digits", self.kind, self.digits)
    }
}

impl core::error::Error for BadId {}

/// One of the Q equal slices of the ring (the paper, 6.2 strategy 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of one write for ever: the `n`-th event of an incarnation; `n` counts from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Whose event it is.
    pub incarnation: Incarnation,
    /// Its number, from that incarnation's own counter; never derived from a stored clock.
    pub n: u64,
}

impl Dot {
    /// The dot (incarnation, n).
    pub const fn new(incarnation: Incarnation, n: u64) -> Dot {
        Dot { incarnation, n }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.n)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.incarnation.0, self.n)
    }
}

/// A bucket and a key within it, checked: one byte string `len(bucket), bucket, key`. Its MD5 is the
/// position on the ring, and with the partition in front it is the row in the engine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The key `key` of bucket `bucket`.
    pub fn new(bucket: &str, key: &[u8]) -> Result<Key, BadKey> {
        check_bucket(bucket)?;
        check_key(key)?;
        let mut joined = Vec::with_capacity(1 + bucket.len() + key.len());
        joined.push(bucket.len() as u8);
        joined.extend_from_slice(bucket.as_bytes());
        joined.extend_from_slice(key);
        Ok(Key(joined.into()))
    }

    /// Reads back [`Key::as_bytes`], from a disk or a peer.
    pub fn from_joined(joined: Bytes) -> Result<Key, BadKey> {
        let bucket_len = *joined.first().ok_or(BadKey::Empty)? as usize;
        if joined.len() < 1 + bucket_len {
            return Err(BadKey::Empty);
        }
        check_bucket(core::str::from_utf8(&joined[1..1 + bucket_len]).map_err(|_| BadKey::BucketName)?)?;
        check_key(&joined[1 + bucket_len..])?;
        Ok(Key(joined))
    }

    /// `len(bucket) u8, bucket, key`: what is hashed, stored and sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes, shared.
    pub fn joined(&self) -> &Bytes {
        &self.0
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        core::str::from_utf8(&self.0[1..1 + self.0[0] as usize]).expect("checked when the key was made")
    }

    /// The key within its bucket.
    pub fn key(&self) -> &[u8] {
        &self.0[1 + self.0[0] as usize..]
    }

    /// A key that owns its bytes, so that keeping it pins no larger buffer.
    pub fn detached(&self) -> Key {
        Key(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket(), String::from_utf8_lossy(self.key()).escape_debug())
    }
}

/// Why a bucket and key were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// A key has at least one byte.
    Empty,
    /// Longer than [`KEY_BYTES_MAX`]; carries the length.
    TooLong(usize),
    /// A bucket name is 1 to 64 of `a-z A-Z 0-9 _ - .` and does not begin with a dot.
    BucketName,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadKey::Empty => write!(f, "the key is empty: a key has 1 to {KEY_BYTES_MAX} bytes"),
            BadKey::TooLong(len) => write!(f, "the key has {len} bytes: at most {KEY_BYTES_MAX} are allowed"),
            BadKey::BucketName => write!(
                f,
                "the bucket name is not valid: use 1 to {BUCKET_NAME_BYTES_MAX} of a-z A-Z 0-9 _ - . and do not begin with a dot"
            ),
        }
    }
}

impl core::error::Error for BadKey {}

/// Whether this may name a bucket.
pub fn check_bucket(name: &str) -> Result<(), BadKey> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let ok = !name.is_empty()
        && name.len() <= BUCKET_NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(allowed);
    if ok { Ok(()) } else { Err(BadKey::BucketName) }
}

fn check_key(key: &[u8]) -> Result<(), BadKey> {
    match key.len() {
        0 => Err(BadKey::Empty),
        len if len > KEY_BYTES_MAX => Err(BadKey::TooLong(len)),
        _ => Ok(()),
    }
}
