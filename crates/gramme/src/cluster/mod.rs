//! `gramme cluster`: who is a member and what each keeps. `init` decides it once, before the first node starts; later
//! changes are staged, planned and committed.

mod commit;
mod follow;
mod history;
mod init;
mod plan;
mod show;
mod stage;

use crate::failure::Failure;
use clap::{Args, Subcommand};
use commit::{Commit, ForceCommit};
pub(crate) use follow::{Number, is_done, number};
use history::History;
pub(crate) use history::numbered;
use init::Init;
pub(crate) use init::fresh_id;
use plan::Plan;
use show::Show;
use stage::{Abort, Clear, Join, Leave, Replace, Weight, Zone};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme cluster init --nodes nodes.toml --out shop\n  gramme cluster show shop/n1/cluster.gramme\n\n  gramme cluster join n4           stage it; nothing is done yet\n  gramme cluster plan              what it would do\n  gramme cluster commit 8f3c01d2   by the first digits of its hash\n\nA new node starts with the cluster file of any other and an id of its own, and asks to join.\nFor a cluster on this machine `gramme dev` does all of it. How the cluster is: `gramme status`."
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
    /// Stage that a node becomes a member
    Join(Join),
    /// Stage that a member hands over what it has, and goes
    Leave(Leave),
    /// Stage that a new node takes a member's place
    Replace(Replace),
    /// Stage another share for a member
    Weight(Weight),
    /// Stage another zone for a member
    Zone(Zone),
    /// Take back all that is staged
    Clear(Clear),
    /// Show what committing what is staged would do
    Plan(Plan),
    /// Do it: commit the plan of a hash
    Commit(Commit),
    /// Go back to the layout that reads go by, from whatever is under way
    Abort(Abort),
    /// Show the layouts that there were
    History(History),
    /// Commit where a majority of the members is lost for good
    ForceCommit(ForceCommit),
}

impl Cluster {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Init(init) => init.run(),
            Action::Show(show) => show.run(),
            Action::Join(join) => join.run(),
            Action::Leave(leave) => leave.run(),
            Action::Replace(replace) => replace.run(),
            Action::Weight(weight) => weight.run(),
            Action::Zone(zone) => zone.run(),
            Action::Clear(clear) => clear.run(),
            Action::Plan(plan) => plan.run(),
            Action::Commit(commit) => commit.run(),
            Action::Abort(abort) => abort.run(),
            Action::History(history) => history.run(),
            Action::ForceCommit(commit) => commit.run(),
        }
    }
}

/// What a node's directory holds.
pub(crate) const CLUSTER_FILE: &str = "cluster.gramme";
/// What a node's directory holds.
pub(crate) const SETTINGS_FILE: &str = "gramme.toml";
