//! `gramme server`: one node. Flags win over the environment, which wins over the file.

use crate::failure::Failure;
use clap::Args;
use gramme_server::run::RunError;
use gramme_server::settings::{Settings, SettingsError};
use std::io::Read;
use std::path::PathBuf;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme server --config shop/n1/gramme.toml\n  gramme server --config n1.toml --set storage.engine=memory --set log.level=debug\n  gramme server --config n4.toml --join 10.0.0.1:7402\n\nEvery key of the file is also a variable, such as GRAMME_LISTEN__HTTP, and a --set;\ndocs/settings.md explains them."
)]
pub(crate) struct Server {
    /// The settings file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Where the HTTP door listens
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Where the Redis door listens
    #[arg(long, value_name = "HOST:PORT")]
    resp: Option<String>,
    /// Where other nodes connect
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Where everything that the node stores lies
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The peer address of a node of the cluster, through which this one asks to join; may be repeated. A settings file
    /// without node.id is given one
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// Any key of the settings
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Stop when stdin ends, as it does when the process that started this one is gone
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Server {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut flags: Vec<(&str, String)> = Vec::new();
        let named = [
            ("listen.http", &self.http),
            ("listen.resp", &self.resp),
            ("listen.peer", &self.peer),
            ("storage.data_dir", &self.data_dir),
        ];
        for (key, value) in named {
            flags.extend(value.clone().map(|value| (key, value)));
        }
        for set in &self.set {
            let (key, value) = set.split_once('=').ok_or_else(|| {
                Failure::usage(format!("--set {set}: write SECTION.KEY=VALUE, such as log.level=debug"))
            })?;
            flags.push((key, value.to_string()));
        }
        let settings = self.settings(flags).map_err(|wrong| Failure::usage(wrong.0.join("\ngramme: ")))?;
        if self.with_parent {
            stop_with_parent()?;
        }
        gramme_server::logs::start(&settings);
        gramme_server::run::run(settings, |_| {}).map_err(|e| match e {
            RunError::StoreFailed(..) => Failure::store(e.to_string()),
            e => Failure::failed(e.to_string()),
        })
    }

    /// A node that asks to join may be without a name yet.
    fn settings(&self, mut flags: Vec<(&str, String)>) -> Result<Settings, SettingsError> {
        if self.join.is_empty() {
            return Settings::load(Some(&self.config), environment(), &flags);
        }
        flags.push(("cluster.seeds", self.join.join(",")));
        let (settings, made) = Settings::load_to_join(&self.config, environment(), &flags)?;
        if let Some(id) = made {
            eprintln!(
                "gramme: this node is {id} from now on: node.id was written into {}, and must stay there",
                self.config.display()
            );
        }
        Ok(settings)
    }
}

/// The environment as far as it is text; settings are.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Asks this process to stop, as an operator would, as soon as stdin ends.
fn stop_with_parent() -> Result<(), Failure> {
    use rustix::process::{Signal, getpid, kill_process};
    let watch = || {
        let mut ignored = [0; 64];
        while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        if let Err(e) = kill_process(getpid(), Signal::TERM) {
            eprintln!("gramme: the parent is gone, and this process cannot stop itself: {e}");
        }
    };
    std::thread::Builder::new()
        .name("parent".to_string())
        .spawn(watch)
        .map(drop)
        .map_err(|e| Failure::failed(format!("no thread could be started: {e}")))
}
