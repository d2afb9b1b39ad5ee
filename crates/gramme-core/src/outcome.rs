//! What a failed request may have done. A wrong outcome is a bug of the first rank: a client decides by
//! it whether it may safely send a write again (correctness.md 3.2).

use core::fmt;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Guaranteed nowhere: no byte of it left this node and its local append was not attempted, or
    /// every node that was asked says so.
    NotApplied,
    /// Something of it may exist and may surface at any later time; nothing is rolled back.
    MaybeApplied,
    /// Durable on as many nodes as were asked for, the coordinator among them.
    Applied,
}

impl Outcome {
    /// The word used in code, logs, metrics and bodies alike.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::NotApplied => "not_applied",
            Outcome::MaybeApplied => "maybe_applied",
            Outcome::Applied => "applied",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
