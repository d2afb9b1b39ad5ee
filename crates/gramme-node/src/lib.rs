//! What one node does, as flows that read top to bottom: `coordinate` a get, a put or a list; `serve` peers as
//! a `replica`; spread bucket settings (`gossip`) and what nodes say of themselves (`cluster_gossip`); judge peers (`detector`); pace what no client waits for (`admission`). [`Node`] ties them together.
//!
//! Every flow is generic over [`Env`], the only way to the world: its clock, its network, its disk and its
//! chance. The server runs these flows on tokio, the simulator runs the same code in its own world. So this
//! crate names no runtime, socket, file, thread, std clock or random hasher.
#![forbid(unsafe_code)]

pub mod admission;
mod cache;
mod change;
mod closing;
mod cluster_gossip;
mod coordinate;
mod detector;
mod disk_pulse;
pub mod env;
mod exchange;
mod fan_out;
mod gossip;
pub mod hints;
mod live;
mod mend;
pub mod node;
mod once;
mod pages;
pub mod probe;
mod pulse;
mod reclaim;
mod replica;
pub mod request;
pub mod rows;
mod serve;
mod signal;
mod store;
mod transit;
pub mod trees;
mod window;

pub use env::{Env, Event, Fact, Mono, Peer, Ring, Trust};
pub use node::{Node, Options};
pub use probe::{Operation, Probe};
pub use request::{Call, Request, Response};
pub use trees::Upkeep;
