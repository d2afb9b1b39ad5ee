//! The one binary: a node, a local cluster of nodes, and the command line that talks to any of them.
//!
//! Every command is one file whose first half is its arguments and whose second half is what it does. They
//! share [`failure`] (one clear sentence and an exit code), [`nodes`] (how clusters are found) and [`output`].
//! What a node is lives in `gramme-server`; how to talk to one in `gramme-client`.
#![forbid(unsafe_code)]

mod arguments;
mod backup;
mod bucket;
mod changing;
mod chaos;
mod cluster;
mod completions;
mod config;
mod del;
mod dev;
mod doctor;
mod export;
mod failure;
mod get;
mod import;
mod keys;
mod ls;
mod nodes;
mod output;
mod progress;
mod put;
mod repair;
mod ring;
mod rows;
mod server;
mod status;
mod top;
mod transfers;
mod version;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match arguments::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
