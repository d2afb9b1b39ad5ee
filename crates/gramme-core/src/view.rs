//! What a reader is shown of a record: the difference between "never written", "deleted", one value and
//! several is decided here once, for every door.

use crate::bucket::Mode;
use crate::record::{Record, Sibling};
use alloc::vec::Vec;

/// What a record reads as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View<'a> {
    /// Nobody has written the key, as far as was asked.
    Missing,
    /// It was deleted, or has expired; the context of the read covers that.
    Deleted,
    /// One value.
    One(&'a Sibling),
    /// Several values that no write has reconciled, in order of dot.
    Siblings(Vec<&'a Sibling>),
}

impl Record {
    /// How the record reads in a bucket of this mode at this time. A value beside a concurrent tombstone is
    /// a value in a `siblings` bucket; in an `lww` bucket the last written sibling decides alone.
    pub fn view(&self, mode: Mode, now_ms: u64) -> View<'_> {
        if self.siblings().is_empty() {
            return if self.clock.is_empty() { View::Missing } else { View::Deleted };
        }
        match mode {
            Mode::Lww => match self.last_written() {
                Some(last) if last.live_value(now_ms).is_some() => View::One(last),
                _ => View::Deleted,
            },
            Mode::Siblings => {
                let values: Vec<&Sibling> = self.values(now_ms).collect();
                match values.len() {
                    0 => View::Deleted,
                    1 => View::One(values[0]),
                    _ => View::Siblings(values),
                }
            }
        }
    }
}
