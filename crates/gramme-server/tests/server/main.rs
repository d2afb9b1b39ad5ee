//! Whole servers, in this process, on ports that the system chooses: what clients and peers see.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod cluster;
mod http;
mod join;
mod life;
mod peers;
mod resp;
mod tls;
mod ui;
mod versions;
mod wire;
