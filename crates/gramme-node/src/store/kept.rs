//! A record as a store keeps it, and the right to one row.

use super::Store;
use crate::env::Env;
use bytes::Bytes;
use gramme_core::codec::{decode_record, encode_record};
use gramme_core::{NodeId, Record};
use std::collections::VecDeque;
use std::rc::Rc;

/// A record as it is kept: decoded, and the bytes that it is on disk and on the wire.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub(crate) record: Record,
    /// Empty if the record says nothing.
    pub(crate) encoded: Bytes,
    /// In a hint store: the homes that it stands in for.
    pub(crate) hint_for: Vec<NodeId>,
}

impl Kept {
    /// Encodes a record into bytes of its own, so that nothing kept pins a socket buffer.
    pub(crate) fn new(record: &Record) -> Kept {
        let encoded = encode_record(record);
        let record = decode_record(&encoded).expect("what was just encoded decodes");
        Kept { record, encoded, hint_for: Vec::new() }
    }

    /// What it takes as a row of this kind, key included.
    pub(crate) fn row_bytes(&self, row: &Bytes) -> usize {
        row.len() + self.value_of(row).len()
    }

    /// The value of its row: hints also name the homes that they are for.
    pub(super) fn value_of(&self, row: &Bytes) -> Bytes {
        if is_hint(row) {
            crate::rows::encode_hint(&self.hint_for, &self.encoded)
        } else {
            self.encoded.clone()
        }
    }

    pub(super) fn cost_bytes(&self) -> usize {
        2 * self.encoded.len() + 256
    }
}

pub(super) fn is_hint(row: &Bytes) -> bool {
    row.get(2) == Some(&crate::rows::KIND_HINT)
}

/// The sole right to one row, until it is dropped.
pub(crate) struct RowLock<E: Env> {
    pub(super) store: Rc<Store<E>>,
    pub(super) row: Bytes,
}

impl<E: Env> Drop for RowLock<E> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.store.state.borrow_mut();
            let next = state.locks.get_mut(&self.row).and_then(VecDeque::pop_front);
            if next.is_none() {
                state.locks.remove(&self.row);
            }
            next
        };
        if let Some(next) = next {
            // One who waited and has gone away drops it, before or after it arrives, and so hands it on.
            let _ = next.send(RowLock { store: self.store.clone(), row: self.row.clone() });
        }
    }
}
