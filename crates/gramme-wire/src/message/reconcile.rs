//! How two nodes reconcile what they know of the cluster, from short to long: each step is taken only if the one before
//! showed a difference ([`gramme_core::gossip`]).

use gramme_core::gossip::{Difference, Line, Sums};

/// One step of an exchange, or news without one.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconcile {
    /// Each second to one random peer, and when a connection stands: all that I know, in eight bytes.
    Digest {
        /// [`gramme_core::gossip::Gossip::digest`].
        digest: u64,
    },
    /// To whoever's digest differs from mine: the same by parts.
    Sums {
        /// [`gramme_core::gossip::Gossip::sums`].
        sums: Box<Sums>,
    },
    /// To whoever's sums differ from mine: what I know in those parts, in short.
    Listing {
        /// Which parts, one bit each.
        parts: u16,
        /// Every entry in them.
        lines: Vec<Line>,
    },
    /// To whoever has listed what it knows: what it lacks, and what I would like to have; to whoever asked for that; and
    /// at once to a few, about what was news: then nothing is asked for.
    Entries(Difference),
}
