//! The cluster of a run: a directory, a node per process, and between the nodes the fault proxy.
//!
//! Every node's address is a port of the proxy; where a node itself listens only its own settings say. Ports lie below
//! those that systems hand out, so that a node that is down finds its own again. Nodes that come later have their
//! directories from the beginning: a cluster does not know of them before they are started.

use super::proxy::Network;
use crate::cluster::{CLUSTER_FILE, SETTINGS_FILE, fresh_id};
use crate::dev::process::{LOG, Process, last_words};
use crate::dev::ready::ready_or_asking;
use crate::failure::Failure;
use gramme_core::{Layout, Member, NodeId};
use gramme_server::cluster_file::ClusterFile;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio::time::timeout;

/// A cluster that runs.
pub(super) struct Ground {
    dir: PathBuf,
    port: u16,
    nodes: Vec<Option<(Process, Child)>>,
    /// Those that came and did not go, up or not.
    there: BTreeSet<usize>,
    pub(super) network: Network,
}

impl Ground {
    /// Makes a new cluster in an empty directory and starts it. As many as `later` nodes more may come to it.
    pub(super) async fn start(
        dir: &Path,
        nodes: usize,
        later: usize,
        reclaim: bool,
    ) -> Result<Ground, Failure> {
        fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
        if fs::read_dir(dir).is_ok_and(|mut inside| inside.next().is_some()) {
            return Err(Failure::failed(format!("{} is not empty: choose another --dir", dir.display())));
        }
        let ever = nodes + later;
        let port = free_ports(ever)?;
        let members = (0..ever).map(|node| member(port, node)).collect::<Result<Vec<_>, _>>()?;
        let seeds: Vec<&str> = members[..nodes].iter().map(|member| &*member.address).collect();
        let layout = Layout::first(members[..nodes].to_vec(), nodes.min(COPIES), PARTITIONS)
            .map_err(|bad| Failure::failed(format!("these nodes form no cluster: {bad}")))?;
        let file = ClusterFile::create(layout)
            .map_err(|e| Failure::failed(format!("no cluster id could be made: {e}")))?;
        file.write(&dir.join(CLUSTER_FILE)).map_err(|e| Failure::failed(e.to_string()))?;
        let network = Network::new();
        let numbers: Arc<BTreeMap<NodeId, usize>> =
            Arc::new(members.iter().enumerate().map(|(at, member)| (member.id, at)).collect());
        for (node, member) in members.iter().enumerate() {
            let node_dir = dir.join(&member.name);
            fs::create_dir_all(&node_dir).map_err(|e| Failure::io("cannot make", &node_dir, &e))?;
            let path = node_dir.join(SETTINGS_FILE);
            fs::write(&path, settings(port, node, member, &seeds, reclaim))
                .map_err(|e| Failure::io("cannot write", &path, &e))?;
            network.stand_in(node, &member.address, address(port, node, PEER), numbers.clone()).await?;
        }
        let mut ground = Ground {
            dir: dir.to_path_buf(),
            port,
            nodes: (0..ever).map(|_| None).collect(),
            there: (0..nodes).collect(),
            network,
        };
        (0..nodes).try_for_each(|node| ground.launch(node))?;
        for node in 0..nodes {
            ground.wait_ready(node).await?;
        }
        Ok(ground)
    }

    /// The nodes that there are, those that are down included.
    pub(super) fn there(&self) -> &BTreeSet<usize> {
        &self.there
    }

    /// Where clients reach each node that there is.
    pub(super) fn urls(&self) -> Vec<String> {
        self.there.iter().map(|node| self.url(*node)).collect()
    }

    /// Where clients reach a node.
    pub(super) fn url(&self, node: usize) -> String {
        format!("http://{}", address(self.port, node, HTTP))
    }

    /// What a node is called.
    pub(super) fn name(node: usize) -> String {
        format!("node-{node}")
    }

    /// The node that there is of a name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.there.iter().copied().find(|node| Ground::name(*node) == name)
    }

    /// Where a node keeps its rows.
    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("data")
    }

    /// Where the run keeps what it needs besides the nodes.
    pub(super) fn aside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What a node says.
    pub(super) fn log(&self, node: usize) -> PathBuf {
        self.node_dir(node).join(LOG)
    }

    /// Ends a node's process as a crash would, and waits until it is gone.
    pub(super) async fn kill(&mut self, node: usize) {
        if let Some((process, mut child)) = self.nodes[node].take() {
            process.signal(Signal::KILL);
            // A child that cannot be waited for is gone.
            drop(child.wait().await);
        }
    }

    /// Starts a node and gives the time until it serves.
    pub(super) async fn restart(&mut self, node: usize) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.launch(node)?;
        self.wait_ready(node).await?;
        Ok(begun.elapsed())
    }

    /// Starts a node that was not there before, which asks to join.
    pub(super) async fn come(&mut self, node: usize) -> Result<(), Failure> {
        self.there.insert(node);
        self.restart(node).await.map(drop)
    }

    /// Stops a node politely that is not to come back.
    pub(super) async fn go(&mut self, node: usize) {
        self.there.remove(&node);
        if let Some((process, _)) = &self.nodes[node] {
            process.signal(Signal::TERM);
        }
        self.wait_end(node).await;
    }

    /// Sends a running node a signal.
    pub(super) fn signal(&self, node: usize, signal: Signal) {
        if let Some((process, _)) = &self.nodes[node] {
            process.signal(signal);
        }
    }

    /// Nodes whose process ended though nobody ended it, with their last words.
    pub(super) fn dead(&mut self) -> Vec<(usize, String)> {
        let mut dead = Vec::new();
        for node in 0..self.nodes.len() {
            let ended = self.nodes[node].as_mut().and_then(|(_, child)| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.nodes[node] = None;
                dead.push((node, format!("{status}: {}", last_words(&self.node_dir(node)).join(" | "))));
            }
        }
        dead
    }

    /// Stops all nodes politely.
    pub(super) async fn stop(&mut self) {
        for (process, _) in self.nodes.iter().flatten() {
            process.signal(Signal::CONT);
            process.signal(Signal::TERM);
        }
        for node in 0..self.nodes.len() {
            self.wait_end(node).await;
        }
    }

    /// Of one that was told to end; it is killed if it does not.
    async fn wait_end(&mut self, node: usize) {
        let polite = match &mut self.nodes[node] {
            Some((_, child)) => timeout(POLITE, child.wait()).await.is_ok(),
            None => true,
        };
        if polite {
            self.nodes[node] = None;
        } else {
            self.kill(node).await;
        }
    }

    fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.join(Ground::name(node))
    }

    fn launch(&mut self, node: usize) -> Result<(), Failure> {
        self.nodes[node] = Some(Process::start(&self.node_dir(node), node)?);
        Ok(())
    }

    async fn wait_ready(&mut self, node: usize) -> Result<(), Failure> {
        let http = address(self.port, node, HTTP);
        let ended = match &mut self.nodes[node] {
            Some((_, child)) => tokio::select! {
                ended = child.wait() => Some(ended),
                waited = timeout(START, ready_or_asking(&http)) => match waited {
                    Ok(()) => None,
                    Err(_) => return Err(self.failed(node, "does not serve within a minute")),
                },
            },
            None => None,
        };
        match ended {
            None => Ok(()),
            Some(_) => {
                self.nodes[node] = None;
                Err(self.failed(node, "ended by itself"))
            }
        }
    }

    fn failed(&self, node: usize, what: &str) -> Failure {
        let words = last_words(&self.node_dir(node)).join("\n  ");
        Failure::failed(format!("node {node} {what}; its log is {}\n  {words}", self.log(node).display()))
    }
}

/// Copies a directory with everything in it.
pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io("cannot copy", from, &e);
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes a directory that may not be there.
pub(super) fn remove_dir(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::io("cannot remove", path, &e)),
        _ => Ok(()),
    }
}

fn member(port: u16, node: usize) -> Result<Member, Failure> {
    Ok(Member {
        id: fresh_id()?,
        name: Ground::name(node),
        address: address(port, node, PROXY),
        http: address(port, node, HTTP),
        zone: format!("zone-{node}"),
        weight: 1,
    })
}

fn settings(port: u16, node: usize, member: &Member, seeds: &[&str], reclaim: bool) -> String {
    format!(
        "# Node {node} of a chaos run; its peers reach it through the fault proxy at {proxy}.\n\n\
         [node]\nid = \"{id}\"\nname = \"{name}\"\nzone = \"{zone}\"\n\n\
         [cluster]\nfile = \"../{CLUSTER_FILE}\"\nseeds = \"{seeds}\"\n\n\
         [storage]\ndata_dir = \"data\"\nreclaim = {reclaim}\n\n\
         [listen]\nhttp = \"{http}\"\nresp = \"{resp}\"\npeer = \"{peer}\"\nadvertise = \"{proxy}\"\n\n\
         [server]\nshards = 1\n",
        proxy = member.address,
        id = member.id,
        name = member.name,
        zone = member.zone,
        seeds = seeds.join(","),
        http = address(port, node, HTTP),
        resp = address(port, node, RESP),
        peer = address(port, node, PEER),
    )
}

fn address(port: u16, node: usize, door: usize) -> String {
    format!("127.0.0.1:{}", usize::from(port) + PORTS_PER_NODE * node + door)
}

fn free_ports(nodes: usize) -> Result<u16, Failure> {
    let needed = (PORTS_PER_NODE * nodes) as u16;
    let start = std::process::id() as u16 % TURNS;
    (0..TURNS)
        .map(|turn| PORT_MIN + (start + turn) % TURNS * PORTS_PER_TURN)
        .find(|port| (0..needed).all(|at| TcpListener::bind(("127.0.0.1", port + at)).is_ok()))
        .ok_or_else(|| Failure::failed("no free ports were found between 12000 and 32000"))
}

/// Fewer than usual, so that five processes on one machine spend their time on the load.
const PARTITIONS: usize = 64;
const COPIES: usize = 3;
const HTTP: usize = 0;
const RESP: usize = 1;
const PEER: usize = 2;
const PROXY: usize = 3;
const PORTS_PER_NODE: usize = 4;
const PORT_MIN: u16 = 12_000;
const PORTS_PER_TURN: u16 = 100;
const TURNS: u16 = 200;
const START: Duration = Duration::from_secs(60);
const POLITE: Duration = Duration::from_secs(10);
