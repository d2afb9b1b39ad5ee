//! Bytes to values and back, without sockets: what peers say to each other ([`message`], [`peer`]), how they
//! meet ([`hello`], [`refusal`]), how it is framed ([`frame`], [`outgoing`]), and the Redis protocol ([`resp`]).
//!
//! Parsers expect anything. They return errors, allocate within the limits of [`gramme_core::limits`], and
//! never panic. The crate refuses to know what a message means.
#![forbid(unsafe_code)]

pub mod frame;
pub mod hello;
pub mod message;
pub mod outgoing;
pub mod peer;
pub mod refusal;
pub mod resp;

pub use frame::{Frame, FrameReader, Kind, WireError};
pub use message::{Acks, Body, Done, Entry, Expect, Failure, Message, Put, Reason, Standing};
pub use message::{
    Compared, Difference, Digest, Life, PullOf, PullPage, Pulled, Reconcile, Remembered, TreeRoot,
};
pub use outgoing::Outgoing;
pub use refusal::Refusal;
