//! Stories of one node, told against the test itself, which plays its clients, its peers, its clock and its
//! disk. What needs several real nodes is the simulator's.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)] // a test's unwrap is its assertion

mod admission;
mod closing;
mod cluster;
mod conditions;
mod disks;
mod exchange;
mod expiry;
mod gets;
mod handoff;
mod hints;
mod lists;
mod peers;
#[cfg(feature = "planted")]
mod planted;
mod puts;
mod reclaim;
mod restores;
mod ring;
mod silence;
mod trees;
mod world;
