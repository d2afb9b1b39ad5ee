//! `gramme cluster`: what is decided once, before the first node starts. `init` writes one directory per node,
//! ready to be copied to its machine; nothing that exists is ever overwritten.

mod init;
mod show;

use crate::failure::Failure;
use clap::{Args, Subcommand};
use init::Init;
pub(crate) use init::fresh_id;
use show::Show;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme cluster init --nodes nodes.toml --out shop\n  gramme cluster show shop/n1/cluster.gramme\n\nFor a cluster on this machine `gramme dev` does all of it."
)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a cluster: its id, its secret, its members and what each keeps
    Init(Init),
    /// Show what a cluster file says
    Show(Show),
}

impl Cluster {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Init(init) => init.run(),
            Action::Show(show) => show.run(),
        }
    }
}

/// What a node's directory holds.
pub(crate) const CLUSTER_FILE: &str = "cluster.gramme";
/// What a node's directory holds.
pub(crate) const SETTINGS_FILE: &str = "gramme.toml";
