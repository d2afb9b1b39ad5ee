//! A put that a peer hands on is taken once. A doubled message would otherwise be coordinated after its twin
//! was refused, when the forwarder has long told its client that nothing was applied.
//!
//! It remembers the newest few thousand, which is far longer than a message can linger on its way.

use gramme_core::NodeId;
use std::collections::{BTreeSet, VecDeque};

/// The puts that peers have handed on lately.
#[derive(Debug, Default)]
pub(crate) struct Once {
    known: BTreeSet<(NodeId, u64)>,
    in_order: VecDeque<(NodeId, u64)>,
}

impl Once {
    /// Whether this question of this peer is new; it is not from now on.
    pub(crate) fn is_first(&mut self, from: NodeId, correlation: u64) -> bool {
        if !self.known.insert((from, correlation)) {
            return false;
        }
        self.in_order.push_back((from, correlation));
        if self.in_order.len() > KNOWN_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

const KNOWN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_new_once_and_the_oldest_are_forgotten() {
        let mut once = Once::default();
        assert!(once.is_first(NodeId(1), 7));
        assert!(!once.is_first(NodeId(1), 7));
        assert!(once.is_first(NodeId(2), 7), "another peer counts for itself");
        for n in 0..KNOWN_MAX as u64 {
            assert!(once.is_first(NodeId(3), n));
        }
        assert_eq!((once.known.len(), once.in_order.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(once.is_first(NodeId(1), 7), "long ago");
    }
}
