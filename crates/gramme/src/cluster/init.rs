//! `gramme cluster init`: one directory per node, ready to be copied to its machine. Nothing that exists is ever
//! overwritten.

use super::show::{as_json, print};
use super::{CLUSTER_FILE, SETTINGS_FILE};
use crate::failure::Failure;
use crate::output::{print_json, print_line};
use clap::Args;
use gramme_core::limits::PARTITIONS_DEFAULT;
use gramme_core::{Layout, Member, NodeId};
use gramme_server::cluster_file::ClusterFile;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme cluster init --nodes nodes.toml --out shop\n\nnodes.toml:\n  [[node]]\n  name = \"n1\"\n  address = \"10.0.0.1:7402\"    # where the other nodes reach it\n  http = \"10.0.0.1:7400\"       # where clients reach it\n  zone = \"rack-a\"              # what fails together; \"default\" if left out\n  weight = 1                   # its share, relative to the others; 1 if left out"
)]
pub(super) struct Init {
    /// The list of nodes, in TOML
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Copies of each key; cannot be changed later
    #[arg(long, default_value_t = 3)]
    n: usize,
    /// Partitions of the ring, a power of two; cannot be changed later
    #[arg(long, value_name = "Q", default_value_t = PARTITIONS_DEFAULT)]
    partitions: usize,
    /// Where to write a directory for each node
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeList {
    #[serde(default)]
    node: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    address: String,
    http: String,
    resp: Option<String>,
    #[serde(default = "default_zone")]
    zone: String,
    #[serde(default = "default_weight")]
    weight: u32,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Failure> {
        let listed = read_list(&self.nodes)?;
        let members = listed.iter().map(Listed::member).collect::<Result<Vec<_>, _>>()?;
        let layout = Layout::first(members, self.n, self.partitions)
            .map_err(|bad| Failure::usage(format!("{}: {bad}", self.nodes.display())))?;
        let taken: Vec<String> = listed
            .iter()
            .map(|node| self.out.join(&node.name))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if !taken.is_empty() {
            return Err(Failure::failed(format!(
                "{} exists already: nothing was written; choose another --out",
                taken.join(", ")
            )));
        }
        let file = ClusterFile::create(layout)
            .map_err(|e| Failure::failed(format!("no cluster id could be made: {e}")))?;
        for node in &listed {
            node.write(&self.out.join(&node.name), &file)?;
        }
        if self.json {
            return print_json(&as_json(&file));
        }
        print(&file)?;
        let directory = self.out.join(&listed[0].name);
        print_line(&format!(
            "\nCopy each directory to its node, and start it there, such as\n  gramme server --config {}",
            directory.join(SETTINGS_FILE).display()
        ))
    }
}

fn read_list(path: &Path) -> Result<Vec<Listed>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::io("cannot read", path, &e))?;
    let list: NodeList = toml::from_str(&text).map_err(|e| {
        Failure::usage(format!("{} is not a list of nodes: {}", path.display(), e.to_string().trim_end()))
    })?;
    if list.node.is_empty() {
        return Err(Failure::usage(format!("{} lists no node: write a [[node]] for each", path.display())));
    }
    Ok(list.node)
}

impl Listed {
    fn member(&self) -> Result<Member, Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(Failure::usage(format!(
                "{:?} cannot name a node: use a-z A-Z 0-9 - _ . and do not begin with a dot",
                self.name
            )));
        }
        for (what, address) in [("address", &self.address), ("http", &self.http)] {
            if port_of(address).is_none() {
                return Err(Failure::usage(format!(
                    "node {}: {what} is {address:?}: write host:port, such as \"10.0.0.1:7402\"",
                    self.name
                )));
            }
        }
        Ok(Member {
            id: fresh_id()?,
            name: self.name.clone(),
            address: self.address.clone(),
            http: self.http.clone(),
            zone: self.zone.clone(),
            weight: self.weight,
        })
    }

    /// Writes the node's directory: its settings and the cluster file.
    fn write(&self, directory: &Path, file: &ClusterFile) -> Result<(), Failure> {
        std::fs::create_dir_all(directory).map_err(|e| Failure::io("cannot make", directory, &e))?;
        file.write(&directory.join(CLUSTER_FILE)).map_err(|e| Failure::failed(e.to_string()))?;
        let member = file.layout.members().iter().find(|member| member.name == self.name);
        let id = member.expect("the layout was made of this list").id;
        let resp = self.resp.clone().unwrap_or_else(|| beside(&self.http));
        let settings = format!(
            "# Node {name} of cluster {cluster}. Every key is explained in docs/settings.md.\n\n\
             [node]\nid = \"{id}\"\n\n[cluster]\nfile = \"{CLUSTER_FILE}\"\n\n[storage]\ndata_dir = \"data\"\n\n\
             [listen]\nhttp = \"{http}\"\nresp = \"{resp}\"\npeer = \"{peer}\"\n\n\
             # Doors that other machines can reach need a lock: a token for clients, TLS between nodes.\n\
             # [security]\n# token_file = \"token\"\n\n\
             # [tls]\n# cert = \"node.pem\"\n# key = \"node.key\"\n# ca = \"ca.pem\"\n",
            name = self.name,
            cluster = file.cluster,
            http = self.http,
            peer = self.address,
        );
        let path = directory.join(SETTINGS_FILE);
        std::fs::write(&path, settings).map_err(|e| Failure::io("cannot write", &path, &e))
    }
}

/// A new member's id.
pub(crate) fn fresh_id() -> Result<NodeId, Failure> {
    getrandom::u64().map(NodeId).map_err(|e| {
        Failure::failed(format!("no node id could be made: the system gives no randomness ({e})"))
    })
}

fn port_of(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse().ok().filter(|&port| port > 0 && !host.is_empty())
}

/// The next port of the same host.
fn beside(http: &str) -> String {
    let host = http.rsplit_once(':').map_or(http, |(host, _)| host);
    format!("{host}:{}", port_of(http).unwrap_or_default().saturating_add(1))
}

fn default_zone() -> String {
    "default".to_string()
}

fn default_weight() -> u32 {
    1
}
