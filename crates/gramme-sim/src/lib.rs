//! The deterministic world in which the real node code is tried: simulated network, disks and clocks, faults,
//! clients, and checkers that read only histories and disks. How to use it: `docs/simulator.md`.
//!
//! Reading order: [`rng`] and [`log`]; [`executor`], [`timer`] and [`clock`]; [`net`] and [`disk`] (decisions);
//! [`world`] (the loop); [`env`] and [`engine`] (what a node sees); [`knobs`], [`nemesis`] and [`workload`]
//! (what is drawn); [`cluster`] and [`client`] (who acts); [`history`], [`evidence`] and [`check`] (who judges,
//! and who judge real processes as well); [`run`] and [`course`] (one run). [`model`], [`paxos`] and [`gossip`] try
//! rules alone; [`placement`] is Figure 8 of the paper.
//!
//! One seed is one run: the same on every machine, in every process, at one commit. It refuses to simulate
//! what only real processes show: sockets, file systems, data races.
#![forbid(unsafe_code)]

pub mod admin;
mod agenda;
pub mod armed;
pub mod batch;
pub mod check;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod course;
pub mod coverage;
pub mod disk;
pub mod engine;
pub mod env;
pub mod evidence;
pub mod executor;
pub mod gossip;
pub mod history;
pub mod judged;
pub mod knobs;
pub mod last_reads;
pub mod log;
pub mod meta;
pub mod model;
pub mod nemesis;
pub mod net;
pub mod paxos;
pub mod placement;
#[cfg(feature = "planted")]
pub mod planted;
pub mod regression;
pub mod rng;
pub mod run;
pub mod scenarios;
pub mod script;
pub mod shrink;
pub mod timer;
pub mod workload;
pub mod world;
