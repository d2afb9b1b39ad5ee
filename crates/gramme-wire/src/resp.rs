//! The Redis protocol, server side: bytes to commands ([`Parser`]) and answers to bytes ([`Replies`]), RESP2 and
//! RESP3, pipelined and inline. Behaviour and error texts are those of Redis 7.2, since clients have learned
//! them.
//!
//! The module refuses to know a command: an argument is bytes.

mod inline;
mod parser;
mod replies;

pub use parser::Parser;
pub use replies::{Replies, Version};

use std::fmt;

/// Why a client's bytes are no commands. `Display` is what Redis answers; after it the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The count of arguments is no number, or too large.
    MultibulkLength,
    /// More arguments than a client that has not authenticated may send.
    UnauthenticatedMultibulkLength,
    /// The count of arguments has no end in sight.
    MultibulkLine,
    /// The length of an argument is no number, or too large.
    BulkLength,
    /// A longer argument than a client that has not authenticated may send.
    UnauthenticatedBulkLength,
    /// The length of an argument has no end in sight.
    BulkLine,
    /// This byte where an argument should begin.
    ExpectedBulk(u8),
    /// An inline command has no end in sight.
    InlineLine,
    /// An inline command opens a quote and does not close it, or goes on right behind one.
    UnbalancedQuotes,
    /// All arguments together are too large.
    CommandBytes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            ProtocolError::MultibulkLength => f.write_str("invalid multibulk length"),
            ProtocolError::UnauthenticatedMultibulkLength => f.write_str("unauthenticated multibulk length"),
            ProtocolError::MultibulkLine => f.write_str("too big mbulk count string"),
            ProtocolError::BulkLength => f.write_str("invalid bulk length"),
            ProtocolError::UnauthenticatedBulkLength => f.write_str("unauthenticated bulk length"),
            ProtocolError::BulkLine => f.write_str("too big bulk count string"),
            ProtocolError::ExpectedBulk(found) => write!(f, "expected '$', got '{}'", found.escape_ascii()),
            ProtocolError::InlineLine => f.write_str("too big inline request"),
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::CommandBytes => f.write_str("too big request"),
        }
    }
}

impl std::error::Error for ProtocolError {}
