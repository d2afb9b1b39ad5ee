//! What one node does, as flows that read top to bottom: `coordinate` a get, a put or a list; be a
//! `replica`; spread bucket settings (`gossip`); judge peers (`detector`).
//!
//! Every flow is generic over [`Env`], the only way to the world: its clock, its network, its disk and its
//! chance. The server runs these flows on tokio, the simulator runs the same code in its own world. So this
//! crate names no runtime, socket, file, thread, std clock or random hasher.
#![forbid(unsafe_code)]

pub mod env;
pub mod probe;
pub mod request;

pub use env::{Env, Event, Fact, Mono};
pub use probe::{Operation, Probe};
