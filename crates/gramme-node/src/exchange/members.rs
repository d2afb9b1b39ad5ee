//! M of correctness.md 2.2: what each other home of a partition has last reported as durably seen. By it a home
//! that lost something is told so, and the reclaim frontier is found.
//!
//! Invariant: of one life the bases only grow; a greater life replaces what is known of those before.

use crate::rows;
use bytes::Bytes;
use gramme_core::{Frontier, NodeId};
use gramme_wire::{Life, Remembered, Standing};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Members {
    known: BTreeMap<NodeId, Remembered>,
    unsaved: bool,
}

impl Members {
    /// What a stored row remembers; a garbled one is as good as none.
    pub(crate) fn read(row: Option<&Bytes>) -> Members {
        let known = row.and_then(|row| rows::decode_members(row).ok()).unwrap_or_default();
        Members { known, unsaved: false }
    }

    /// A co-home has reported what it has durably seen. One whose silence proves nothing reports no bases: what
    /// it shows may have been lost around it.
    pub(crate) fn note(&mut self, member: NodeId, life: Life, seen: Frontier) {
        let bases = if life.standing == Standing::Continuous { seen } else { Frontier::none() };
        let known = self.known.entry(member).or_default();
        let before = known.clone();
        if life.number > known.life {
            *known = Remembered { life: life.number, bases };
        } else if life.number == known.life {
            known.bases = known.bases.join(&bases);
        }
        self.unsaved |= *known != before;
    }

    /// What is remembered of one.
    pub(crate) fn of(&self, member: NodeId) -> Option<&Remembered> {
        self.known.get(&member)
    }

    /// Whether this is more than a co-home shows which says that it has seen exactly so much.
    pub(crate) fn is_more_than(&self, member: NodeId, life: Life, bases: &Frontier) -> bool {
        self.known.get(&member).is_some_and(|known| {
            known.life != life.number || life.standing == Standing::Continuous && !bases.reaches(&known.bases)
        })
    }

    /// The value of the row that remembers this, if it has changed since it was last asked for.
    pub(crate) fn take_unsaved(&mut self) -> Option<Bytes> {
        std::mem::take(&mut self.unsaved).then(|| rows::encode_members(&self.known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::Incarnation;

    const PEER: NodeId = NodeId(3);

    fn life(number: u64) -> Life {
        Life { number, standing: Standing::Continuous }
    }

    fn base(n: u64) -> Frontier {
        Frontier::from_bases([(Incarnation(1), n)])
    }

    #[test]
    fn within_a_life_bases_grow_and_a_greater_life_begins_anew() {
        let mut members = Members::default();
        members.note(PEER, life(5), base(9));
        members.note(PEER, life(5), base(4));
        assert_eq!(members.of(PEER), Some(&Remembered { life: 5, bases: base(9) }));
        members.note(PEER, life(4), base(100));
        assert_eq!(members.of(PEER), Some(&Remembered { life: 5, bases: base(9) }), "an older copy spoke");
        members.note(PEER, life(6), base(1));
        assert_eq!(members.of(PEER), Some(&Remembered { life: 6, bases: base(1) }));
    }

    #[test]
    fn who_proves_nothing_reports_nothing() {
        let mut members = Members::default();
        members.note(PEER, Life { number: 5, standing: Standing::Unproven }, base(9));
        assert_eq!(members.of(PEER), Some(&Remembered { life: 5, bases: Frontier::none() }));
    }

    #[test]
    fn it_is_stored_only_when_it_has_changed() {
        let mut members = Members::default();
        assert_eq!(members.take_unsaved(), None);
        members.note(PEER, life(5), base(9));
        let row = members.take_unsaved().expect("something is new");
        assert_eq!(members.take_unsaved(), None);
        assert_eq!(Members::read(Some(&row)).of(PEER), members.of(PEER));
        assert!(Members::read(Some(&row.slice(1..))).of(PEER).is_none(), "garbled");
    }
}
