//! How client commands find their cluster.

use crate::failure::Failure;
use clap::Args;
use gramme_client::{Client, Error, Options};
use std::future::Future;

/// Which nodes to talk to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Nodes {
    /// A node's HTTP address; repeat it for more. The other members are learned from the first that answers
    /// [default: http://127.0.0.1:7400]
    #[arg(
        long = "node",
        value_name = "URL",
        env = "GRAMME_NODE",
        value_delimiter = ',',
        hide_env_values = true
    )]
    node: Vec<String>,
    /// The bearer token, if the cluster wants one
    #[arg(long, value_name = "TOKEN", env = "GRAMME_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Nodes {
    /// Runs `command` with a client that knows the cluster's nodes.
    pub(crate) fn with_client<F: Future<Output = Result<(), Failure>>>(
        &self,
        command: impl FnOnce(Client) -> F,
    ) -> Result<(), Failure> {
        self.run(false, command)
    }

    /// The same with a client that spreads its calls if several nodes were named.
    pub(crate) fn with_spread_client<F: Future<Output = Result<(), Failure>>>(
        &self,
        command: impl FnOnce(Client) -> F,
    ) -> Result<(), Failure> {
        self.run(self.node.len() > 1, command)
    }

    /// The same for a command that has something to say even if there is no client to be had.
    pub(crate) fn try_with_client<F: Future<Output = Result<(), Failure>>>(
        &self,
        command: impl FnOnce(Result<Client, Error>) -> F,
    ) -> Result<(), Failure> {
        runtime()?.block_on(async { command(self.connect(false).await).await })
    }

    fn run<F: Future<Output = Result<(), Failure>>>(
        &self,
        spread: bool,
        command: impl FnOnce(Client) -> F,
    ) -> Result<(), Failure> {
        runtime()?.block_on(async { command(self.connect(spread).await?).await })
    }

    async fn connect(&self, spread: bool) -> Result<Client, Error> {
        let options = Options { token: self.token.clone(), spread };
        if self.node.is_empty() {
            Client::connect(DEV_NODES, options).await
        } else {
            Client::connect(&self.node, options).await
        }
    }
}

/// The runtime of a command: one thread, since commands wait more than they compute.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("the event loop could not be started: {e}")))
}

/// Where a node listens if nobody says otherwise, and then the next nodes of a `gramme dev`, so that commands
/// go on when its first node is killed.
const DEV_NODES: &[&str] = &["http://127.0.0.1:7400", "http://127.0.0.1:7410", "http://127.0.0.1:7420"];
