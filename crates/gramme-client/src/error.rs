//! What may go wrong, named by what the caller can do about it. Whether a write may exist all the same is in
//! every error, because a program decides by it whether it may send the write again.

use gramme_core::Outcome;
use std::fmt;

/// A call that did not succeed. `Display` is one sentence for a person.
#[derive(Clone, Debug)]
pub struct Error {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    pub(crate) outcome: Outcome,
    pub(crate) status: Option<u16>,
}

/// What kind of situation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No known node could be reached at all: nothing was sent.
    Unreachable,
    /// The nodes that were asked broke off, were silent for too long, or could not serve it for the moment.
    Unavailable,
    /// A node refused it, and any node would: the request must change, or the key was not as it assumed.
    Refused,
    /// An answer could not be understood; most likely that address is no Gramme node.
    NotUnderstood,
    /// The caller's own argument is not valid; nothing was sent.
    Argument,
}

impl Error {
    /// What kind of situation it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a failed write may have done; reads say `not_applied`.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The HTTP status, if a node answered.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Unavailable)
    }

    pub(crate) fn argument(detail: impl Into<String>) -> Error {
        Error { kind: Kind::Argument, detail: detail.into(), outcome: Outcome::NotApplied, status: None }
    }

    pub(crate) fn not_understood(node: &str, what: impl fmt::Display) -> Error {
        Error {
            kind: Kind::NotUnderstood,
            detail: format!(
                "the answer of {node} was not understood ({what}): is it a Gramme node of this release?"
            ),
            outcome: Outcome::MaybeApplied,
            status: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {}
