//! A cluster of servers in this process.

use crate::wire::{Answer, http, try_http};
use gramme_core::{Layout, Member, NodeId};
use gramme_server::cluster_file::ClusterFile;
use gramme_server::run::{Addresses, RunError, Server, Sockets};
use gramme_server::settings::Settings;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// See the module.
pub(crate) struct Cluster {
    pub directory: TempDir,
    pub nodes: Vec<Node>,
}

pub(crate) struct Node {
    pub settings: Settings,
    pub addresses: Addresses,
    server: Option<Server>,
}

/// How a cluster differs from the plainest one.
#[derive(Clone)]
pub(crate) struct Shape {
    pub nodes: usize,
    pub n: usize,
    pub partitions: usize,
    pub engine: &'static str,
    pub shards: &'static [usize],
    /// Further settings of every node.
    pub flags: Vec<(&'static str, String)>,
}

pub(crate) const ONE: Shape =
    Shape { nodes: 1, n: 1, partitions: 16, engine: "memory", shards: &[2], flags: Vec::new() };
pub(crate) const THREE: Shape =
    Shape { nodes: 3, n: 3, partitions: 16, engine: "memory", shards: &[2], flags: Vec::new() };

impl Cluster {
    /// Starts all nodes; they serve, and need not have met.
    pub(crate) fn start(shape: &Shape) -> Cluster {
        Cluster::prepare(shape, |_| ()).run()
    }

    /// Everything but the servers: `first` may add files to the directory.
    pub(crate) fn prepare(shape: &Shape, first: impl FnOnce(&std::path::Path)) -> Prepared {
        let directory = tempfile::tempdir().unwrap();
        first(directory.path());
        let settings = |i: usize| {
            let path = |name: &str| directory.path().join(name).display().to_string();
            let mut flags = vec![
                ("node.id", NodeId(0xa1 + i as u64).to_string()),
                ("cluster.file", path("cluster.gramme")),
                ("storage.data_dir", path(&format!("node{i}"))),
                ("storage.engine", shape.engine.to_owned()),
                ("listen.http", "127.0.0.1:0".to_owned()),
                ("listen.resp", "127.0.0.1:0".to_owned()),
                ("listen.peer", "127.0.0.1:0".to_owned()),
                ("server.shards", shape.shards[i % shape.shards.len()].to_string()),
            ];
            flags.extend(shape.flags.iter().map(|(key, value)| (*key, value.replace("DIR", &path("")))));
            Settings::load(None, [], &flags).unwrap()
        };
        let sockets: Vec<(Settings, Sockets)> = (0..shape.nodes)
            .map(|i| {
                let mut settings = settings(i);
                let sockets = Sockets::bind(&settings).unwrap();
                let addresses = sockets.addresses();
                settings.http = addresses.http.to_string();
                settings.resp = addresses.resp.to_string();
                settings.peer = addresses.peer.to_string();
                (settings, sockets)
            })
            .collect();
        let member = |(i, (settings, _)): (usize, &(Settings, Sockets))| Member {
            id: settings.node_id,
            name: format!("n{i}"),
            address: settings.peer.clone(),
            http: settings.http.clone(),
            zone: "z".into(),
            weight: 1,
        };
        let members = sockets.iter().enumerate().map(member).collect();
        let layout = Layout::first(members, shape.n, shape.partitions).unwrap();
        let file = ClusterFile::create(layout).unwrap();
        file.write(&directory.path().join("cluster.gramme")).unwrap();
        Prepared { directory, sockets }
    }

    pub(crate) fn http(&self, node: usize) -> SocketAddr {
        self.nodes[node].addresses.http
    }

    pub(crate) fn resp(&self, node: usize) -> SocketAddr {
        self.nodes[node].addresses.resp
    }

    pub(crate) fn ask(
        &self,
        node: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut answer = http(self.http(node), method, path, headers, body);
        // On a machine with too much to do a server's loop may stand still for so long that it takes itself for
        // frozen, and refuses writes for a moment. That is no fault of whoever is tested.
        for _ in 0..FROZEN_TIMES_MAX {
            if answer.status != 503 || !answer.text().contains("was frozen") {
                break;
            }
            std::thread::sleep(LOOK);
            answer = http(self.http(node), method, path, headers, body);
        }
        answer
    }

    pub(crate) fn get(&self, node: usize, path: &str) -> Answer {
        self.ask(node, "GET", path, &[], b"")
    }

    pub(crate) fn put(&self, node: usize, path: &str, body: &[u8]) -> Answer {
        self.ask(node, "PUT", path, &[], body)
    }

    /// A further node of these settings beside the first one's: it has the cluster file, and is no member.
    pub(crate) fn stranger(&self, id: u64, seeds: &[usize]) -> (Settings, Sockets) {
        let mut settings = self.nodes[0].settings.clone();
        settings.node_id = NodeId(id);
        settings.data_dir = self.directory.path().join(format!("stranger{id}"));
        settings.seeds = seeds.iter().map(|&seed| self.nodes[seed].settings.peer.clone()).collect();
        for address in [&mut settings.http, &mut settings.resp, &mut settings.peer] {
            *address = "127.0.0.1:0".to_owned();
        }
        let sockets = Sockets::bind(&settings).unwrap();
        let addresses = sockets.addresses();
        settings.http = addresses.http.to_string();
        settings.resp = addresses.resp.to_string();
        settings.peer = addresses.peer.to_string();
        (settings, sockets)
    }

    /// Starts it; it is the last of the nodes from now on.
    pub(crate) fn add(&mut self, (settings, sockets): (Settings, Sockets)) -> usize {
        let addresses = sockets.addresses();
        let server = Some(Server::start(settings.clone(), sockets).unwrap());
        self.nodes.push(Node { settings, addresses, server });
        self.nodes.len() - 1
    }

    /// Ends a node without a word, as far as that can be done within a process.
    pub(crate) fn stop(&mut self, node: usize) {
        if let Some(server) = self.nodes[node].server.take() {
            server.stop();
        }
    }

    /// Starts a node again where it was.
    pub(crate) fn restart(&mut self, node: usize) {
        self.try_restart(node).unwrap();
    }

    pub(crate) fn try_restart(&mut self, node: usize) -> Result<(), RunError> {
        let node = &mut self.nodes[node];
        let sockets = Sockets::bind(&node.settings)?;
        node.server = Some(Server::start(node.settings.clone(), sockets)?);
        Ok(())
    }

    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.nodes[node].settings.data_dir.clone()
    }

    /// Waits until these nodes see each other, and know what their silence proves.
    pub(crate) fn wait_met(&self, nodes: &[usize]) {
        for &node in nodes {
            self.wait(node, |status| {
                let members = status["members"].as_array().unwrap();
                let connected = |i: &usize| members[*i]["connected"] == true;
                let trusted = nodes.len() < members.len() || status["node"]["standing"] == "continuous";
                nodes.iter().all(connected) && trusted
            });
        }
    }

    /// Waits until a node's status is as wanted.
    pub(crate) fn wait(&self, node: usize, mut wanted: impl FnMut(&serde_json::Value) -> bool) {
        let mut last = serde_json::Value::Null;
        until(|| {
            if let Ok(answer) = try_http(self.http(node), "GET", "/v1/cluster/status", &[], b"") {
                last = answer.json();
            }
            last.is_object() && wanted(&last)
        })
        .unwrap_or_else(|()| panic!("node {node} never came there: {last:#}"));
    }
}

/// A cluster whose servers do not run yet.
pub(crate) struct Prepared {
    pub directory: TempDir,
    pub sockets: Vec<(Settings, Sockets)>,
}

impl Prepared {
    pub(crate) fn run(self) -> Cluster {
        let nodes = self.sockets.into_iter().map(|(settings, sockets)| {
            let addresses = sockets.addresses();
            let server = Some(Server::start(settings.clone(), sockets).unwrap());
            Node { settings, addresses, server }
        });
        Cluster { nodes: nodes.collect(), directory: self.directory }
    }
}

/// Looks again and again, for a time that no sound machine needs.
pub(crate) fn until(mut holds: impl FnMut() -> bool) -> Result<(), ()> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > Duration::from_secs(300) {
            return Err(());
        }
        // Whoever looks without a pause takes the processor from what is waited for.
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
const FROZEN_TIMES_MAX: usize = 1000;
