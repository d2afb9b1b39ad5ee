//! Bytes to values and back, without sockets: what peers say to each other ([`message`], `peer`), how it is
//! framed (`frame`), and the Redis protocol (`resp`).
//!
//! Parsers expect anything. They return errors, allocate within the limits of [`gramme_core::limits`], and
//! never panic. The crate refuses to know what a message means.
#![forbid(unsafe_code)]

pub mod message;

pub use message::{Acks, Body, Done, Entry, Failure, Message, Put, Reason, Standing};
