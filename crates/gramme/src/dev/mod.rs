//! `gramme dev`: a whole cluster on this machine in one command. Each node is a process of its own, this binary
//! run as `gramme server`, so that killing or freezing one is the real thing.
//!
//! The directory is the cluster: it is made on first use and started again later, with everything in it. One
//! `gramme dev` at a time owns it; from other terminals nodes are killed, started, paused, resumed, added and
//! removed through a socket in it.
//!
//! Nothing is started before everything that can be known beforehand was checked: the directory, its owner,
//! every port.

mod control;
mod directory;
mod grow;
mod membership;
pub(crate) mod process;
pub(crate) mod ready;
mod supervisor;

use crate::failure::Failure;
use crate::nodes::runtime;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme dev                       three nodes, HTTP on 7400, 7410, 7420\n  gramme dev --nodes 5 --port 9000 --dir /tmp/five\n  gramme dev kill 1                kill -9, from another terminal\n  gramme dev start 1\n  gramme dev pause 2; gramme dev resume 2\n  gramme dev status\n  gramme dev add; gramme cluster plan       another node, which asks to join\n  gramme dev remove 1                      it hands over what it has, and goes\n\nNode i serves HTTP on PORT+10*i, the Redis protocol on the port after it, its peers on the next.\nCtrl-C stops all nodes; the directory keeps the data, and `gramme dev` on it goes on.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Dev {
    #[command(subcommand)]
    order: Option<OrderCommand>,
    #[command(flatten)]
    start: Start,
}

#[derive(Args, Clone, Debug)]
struct Start {
    /// How many nodes [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    nodes: Option<u16>,
    /// The first port [default: 7400]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// What stores rows [default: fjall]
    #[arg(long)]
    engine: Option<Engine>,
    #[command(flatten)]
    place: Place,
}

/// Where the cluster is, and how to speak.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "gramme-dev")]
    dir: PathBuf,
    /// Print JSON: one object when the cluster is ready, one for each event
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Clone, Debug)]
enum OrderCommand {
    /// Make and start another node, and stage that it joins
    #[command(
        after_help = "Examples:\n  gramme dev add\n  gramme dev add --zone rack-b\n\nThen: gramme cluster plan, and commit it by its hash."
    )]
    Add(Add),
    /// Stage that a node leaves; once it has handed over what it has, it is stopped for good
    #[command(
        after_help = "Example:\n  gramme dev remove 1\n\nThen: gramme cluster plan, and commit it by its hash."
    )]
    Remove(NodeOrder),
    /// Kill a node at once, as a crash would (SIGKILL)
    #[command(after_help = "Example:\n  gramme dev kill 1")]
    Kill(NodeOrder),
    /// Start a node that was killed or has died
    #[command(after_help = "Example:\n  gramme dev start 1")]
    Start(NodeOrder),
    /// Freeze a node: it keeps its connections and says nothing (SIGSTOP)
    #[command(after_help = "Example:\n  gramme dev pause 1")]
    Pause(NodeOrder),
    /// Let a paused node go on
    #[command(after_help = "Example:\n  gramme dev resume 1")]
    Resume(NodeOrder),
    /// Show what each node's process does
    #[command(after_help = "Example:\n  gramme dev status --dir gramme-dev")]
    Status(Place),
}

#[derive(Args, Clone, Debug)]
struct Add {
    /// What fails together with it [default: it fails alone]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Clone, Debug)]
struct NodeOrder {
    /// The node's number, from 0
    #[arg(value_name = "N")]
    node: usize,
    #[command(flatten)]
    place: Place,
}

/// What stores the nodes' rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// On disk
    Fjall,
    /// In memory: a node that stops is empty when it returns
    Memory,
}

impl Engine {
    fn as_str(self) -> &'static str {
        match self {
            Engine::Fjall => "fjall",
            Engine::Memory => "memory",
        }
    }
}

impl Dev {
    pub(crate) fn run(self) -> Result<(), Failure> {
        use control::{Order, give};
        match self.order {
            None => self.start.run(),
            Some(OrderCommand::Add(add)) => membership::add(&add.place, add.zone),
            Some(OrderCommand::Remove(to)) => membership::remove(&to.place, to.node),
            Some(OrderCommand::Kill(to)) => give(&to.place, Order::Kill(to.node)),
            Some(OrderCommand::Start(to)) => give(&to.place, Order::Start(to.node)),
            Some(OrderCommand::Pause(to)) => give(&to.place, Order::Pause(to.node)),
            Some(OrderCommand::Resume(to)) => give(&to.place, Order::Resume(to.node)),
            Some(OrderCommand::Status(place)) => give(&place, Order::Status),
        }
    }
}

impl Start {
    fn run(self) -> Result<(), Failure> {
        let (cluster, owned) = directory::open(&self)?;
        runtime()?.block_on(supervisor::supervise(cluster, self.place.json, owned))
    }
}

/// More are a real cluster.
const NODES_MAX: i64 = 32;
