//! The ring: where a key stands on it, and which of its Q equal slices that is (the paper, 4.2 and 6.2
//! strategy 3). Who keeps a slice is [`crate::layout`]'s business.

use crate::id::{Key, PartitionId};
use md5::{Digest, Md5};

/// A place on the ring: the MD5 of the key's bytes, big-endian (IF-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u128);

/// Where a key stands.
pub fn position(key: &Key) -> Position {
    let digest: [u8; 16] = Md5::digest(key.as_bytes()).into();
    Position(u128::from_be_bytes(digest))
}

/// The partition of a place on a ring of `partitions` slices, a power of two: its top bits.
pub fn partition_at(position: Position, partitions: usize) -> PartitionId {
    debug_assert!(partitions.is_power_of_two());
    let bits = partitions.trailing_zeros();
    if bits == 0 { PartitionId(0) } else { PartitionId((position.0 >> (128 - bits)) as u16) }
}

/// The partition of a key.
pub fn partition_of(key: &Key, partitions: usize) -> PartitionId {
    partition_at(position(key), partitions)
}
