//! The directory of a development cluster. It is made under another name and renamed when it is whole, so that
//! a half-made one is never started.
//!
//! ```text
//! gramme-dev/dev.toml            how many nodes were ever made, which of them are gone, the first port, the engine
//! gramme-dev/dev.lock            locked by the `gramme dev` that owns it
//! gramme-dev/dev.sock            its orders; see `control`
//! gramme-dev/cluster.gramme      the same for all nodes
//! gramme-dev/node-0/gramme.toml  settings of node 0
//! gramme-dev/node-0/data/        what it stores
//! gramme-dev/node-0/log          what it says
//! ```

use super::{Engine, Start};
use crate::cluster::{CLUSTER_FILE, SETTINGS_FILE, fresh_id};
use crate::failure::Failure;
use gramme_core::limits::PARTITIONS_DEFAULT;
use gramme_core::{Layout, Member, NodeId};
use gramme_server::cluster_file::ClusterFile;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A development cluster that exists.
#[derive(Clone, Debug)]
pub(super) struct DevCluster {
    pub(super) dir: PathBuf,
    pub(super) made: Made,
    /// Whether this call made it.
    pub(super) new: bool,
}

/// What was decided when it was made, and which nodes came and went since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Made {
    /// Directories that were ever made: numbers are not used again.
    pub(super) nodes: u16,
    pub(super) port: u16,
    pub(super) engine: Engine,
    /// Nodes that were members and are none any more: they are never started again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) removed: BTreeSet<u16>,
}

/// While it lives, no other `gramme dev` starts on the directory.
pub(super) struct Owned {
    _lock: File,
}

/// Opens the directory and makes it ours: reads it, or makes it. What was asked for must be what it is, and every
/// port must be free; otherwise nothing is changed.
pub(super) fn open(start: &Start) -> Result<(DevCluster, Owned), Failure> {
    let cluster = read(start)?;
    if cluster.new {
        check_empty(&cluster.dir)?;
        cluster.check_ports()?;
        make(&cluster.dir, &cluster.made)?;
        return Ok((cluster.clone(), own(&cluster)?));
    }
    let owned = own(&cluster)?;
    cluster.check_ports()?;
    Ok((cluster, owned))
}

fn read(start: &Start) -> Result<DevCluster, Failure> {
    let dir = start.place.dir.clone();
    let (made, new) = match fs::read_to_string(dir.join(DEV_FILE)) {
        Ok(text) => {
            let made: Made = toml::from_str(&text).map_err(|e| {
                Failure::failed(format!("{} cannot be understood: {e}", dir.join(DEV_FILE).display()))
            })?;
            agree(&dir, start, &made)?;
            (made, false)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let made = Made {
                nodes: start.nodes.unwrap_or(NODES_DEFAULT),
                port: start.port.unwrap_or(PORT_DEFAULT),
                engine: start.engine.unwrap_or(Engine::Fjall),
                removed: BTreeSet::new(),
            };
            check_room(&made)?;
            (made, true)
        }
        Err(e) => return Err(Failure::io("cannot read", &dir.join(DEV_FILE), &e)),
    };
    Ok(DevCluster { dir, made, new })
}

/// Locks the directory for the life of this process.
fn own(cluster: &DevCluster) -> Result<Owned, Failure> {
    let path = cluster.dir.join("dev.lock");
    let file = File::create(&path).map_err(|e| Failure::io("cannot write", &path, &e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Owned { _lock: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::failed(format!(
            "a `gramme dev` is running on {} already: stop it with Ctrl-C, or choose another --dir and --port",
            cluster.dir.display()
        ))),
        Err(e) => Err(Failure::failed(format!("{} cannot be locked: {e}", path.display()))),
    }
}

impl DevCluster {
    pub(super) fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    pub(super) fn nodes(&self) -> usize {
        self.made.nodes.into()
    }

    pub(super) fn http(&self, node: usize) -> String {
        self.made.address(node, HTTP)
    }

    pub(super) fn resp(&self, node: usize) -> String {
        self.made.address(node, RESP)
    }

    pub(super) fn peer(&self, node: usize) -> String {
        self.made.address(node, PEER)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// How many nodes it was made with; those with higher numbers came later.
    pub(super) fn first_nodes(&self) -> usize {
        first_nodes(&self.dir, &self.made).into()
    }

    pub(super) fn is_removed(&self, node: usize) -> bool {
        self.made.removed.iter().any(|removed| usize::from(*removed) == node)
    }

    /// Refuses if anybody listens where a node would.
    fn check_ports(&self) -> Result<(), Failure> {
        (0..self.nodes())
            .filter(|node| !self.is_removed(*node))
            .try_for_each(|node| self.check_ports_of(node))
    }

    pub(super) fn check_ports_of(&self, node: usize) -> Result<(), Failure> {
        for (what, address) in
            [("HTTP", self.http(node)), ("Redis", self.resp(node)), ("peer", self.peer(node))]
        {
            TcpListener::bind(&address).map_err(|e| match e.kind() {
                ErrorKind::AddrInUse => Failure::failed(format!(
                    "{address} is in use, and node {node} needs it as its {what} port: stop what listens there{}",
                    if self.new { ", or choose another --port" } else { "" }
                )),
                _ => Failure::failed(format!("node {node} could not listen on {address}: {e}")),
            })?;
        }
        Ok(())
    }
}

impl Made {
    /// As `dev.toml` says it.
    pub(super) fn text(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|e| Failure::failed(format!("{DEV_FILE} cannot be written: {e}")))
    }

    fn address(&self, node: usize, door: usize) -> String {
        format!("127.0.0.1:{}", usize::from(self.port) + PORTS_PER_NODE * node + door)
    }
}

pub(super) fn check_room(made: &Made) -> Result<(), Failure> {
    let last = usize::from(made.port) + PORTS_PER_NODE * usize::from(made.nodes - 1) + PEER;
    if last > u16::MAX.into() {
        return Err(Failure::usage(format!(
            "{} nodes from port {} on do not fit: choose a lower --port",
            made.nodes, made.port
        )));
    }
    Ok(())
}

fn agree(dir: &Path, start: &Start, made: &Made) -> Result<(), Failure> {
    let differs = |what: &str, is: String, asked: String| {
        Failure::usage(format!(
            "{} was made with {what} {is}, not {asked}: leave {what} out to start it again, or choose another --dir",
            dir.display()
        ))
    };
    match (start.nodes, start.port, start.engine) {
        (Some(asked), ..) if asked != first_nodes(dir, made) => {
            Err(differs("--nodes", first_nodes(dir, made).to_string(), asked.to_string()))
        }
        (_, Some(asked), _) if asked != made.port => {
            Err(differs("--port", made.port.to_string(), asked.to_string()))
        }
        (.., Some(asked)) if asked != made.engine => {
            Err(differs("--engine", made.engine.as_str().into(), asked.as_str().into()))
        }
        _ => Ok(()),
    }
}

/// How many nodes it was made with, whoever came or went since: they are the members by its cluster file.
fn first_nodes(dir: &Path, made: &Made) -> u16 {
    let file = ClusterFile::read(&dir.join(CLUSTER_FILE)).ok();
    file.and_then(|file| u16::try_from(file.layout.members().len()).ok()).unwrap_or(made.nodes)
}

fn check_empty(dir: &Path) -> Result<(), Failure> {
    let in_use = fs::read_dir(dir).is_ok_and(|mut inside| inside.next().is_some());
    if in_use || dir.is_file() {
        return Err(Failure::failed(format!(
            "{} exists and is no directory of `gramme dev`: choose another --dir, or an empty one",
            dir.display()
        )));
    }
    Ok(())
}

fn make(dir: &Path, made: &Made) -> Result<(), Failure> {
    let mut draft = dir.as_os_str().to_owned();
    draft.push(format!(".{}.draft", std::process::id()));
    let draft = PathBuf::from(draft);
    let filled = fill(&draft, made)
        .and_then(|()| fs::rename(&draft, dir).map_err(|e| Failure::io("cannot make", dir, &e)));
    if filled.is_err() {
        // The error that is told is why it could not be filled; what cannot be removed is at least not started.
        drop(fs::remove_dir_all(&draft));
    }
    filled
}

fn fill(draft: &Path, made: &Made) -> Result<(), Failure> {
    fs::create_dir_all(draft).map_err(|e| Failure::io("cannot make", draft, &e))?;
    let members =
        (0..usize::from(made.nodes)).map(|node| member(made, node)).collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::first(members.clone(), usize::from(made.nodes).min(COPIES), PARTITIONS_DEFAULT)
        .map_err(|bad| Failure::failed(format!("these nodes form no cluster: {bad}")))?;
    let file = ClusterFile::create(layout)
        .map_err(|e| Failure::failed(format!("no cluster id could be made: {e}")))?;
    file.write(&draft.join(CLUSTER_FILE)).map_err(|e| Failure::failed(e.to_string()))?;
    for (node, member) in members.iter().enumerate() {
        let node_dir = draft.join(&member.name);
        fs::create_dir_all(&node_dir).map_err(|e| Failure::io("cannot make", &node_dir, &e))?;
        write(&node_dir.join(SETTINGS_FILE), &settings(made, node, member.id, &Guest::default()))?;
    }
    write(&draft.join(DEV_FILE), &made.text()?)
}

fn member(made: &Made, node: usize) -> Result<Member, Failure> {
    Ok(Member {
        id: fresh_id()?,
        name: format!("node-{node}"),
        address: made.address(node, PEER),
        http: made.address(node, HTTP),
        // Every node of a laptop fails alone when it is killed: each is a zone of its own.
        zone: format!("zone-{node}"),
        weight: 1,
    })
}

/// What a node must say that the cluster file knows nothing of; nothing where it does.
#[derive(Default)]
pub(super) struct Guest {
    /// Lines of `[node]`.
    pub(super) node: String,
    /// Lines of `[cluster]`.
    pub(super) cluster: String,
}

pub(super) fn settings(made: &Made, node: usize, id: NodeId, guest: &Guest) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "# Node {node} of a development cluster. Every key is explained in docs/settings.md.\n\n\
         [node]\nid = \"{id}\"\n{own}\n[cluster]\nfile = \"../{CLUSTER_FILE}\"\n{of_cluster}\n\
         [storage]\ndata_dir = \"data\"\nengine = \"{engine}\"\n\n\
         [listen]\nhttp = \"{http}\"\nresp = \"{resp}\"\npeer = \"{peer}\"\n\n[server]\nshards = {shards}\n",
        own = guest.node,
        of_cluster = guest.cluster,
        engine = made.engine.as_str(),
        http = made.address(node, HTTP),
        resp = made.address(node, RESP),
        peer = made.address(node, PEER),
        shards = (cores / usize::from(made.nodes)).max(1),
    )
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| Failure::io("cannot write", path, &e))
}

pub(super) const DEV_FILE: &str = "dev.toml";
const SOCKET: &str = "dev.sock";
const NODES_DEFAULT: u16 = 3;
const PORT_DEFAULT: u16 = 7400;
/// N, if there are as many nodes.
const COPIES: usize = 3;
const PORTS_PER_NODE: usize = 10;
const HTTP: usize = 0;
const RESP: usize = 1;
const PEER: usize = 2;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dev::Place;
    use gramme_server::settings::Settings;

    pub(in crate::dev) fn start(dir: &Path, nodes: Option<u16>, port: Option<u16>) -> Start {
        Start { nodes, port, engine: None, place: Place { dir: dir.to_path_buf(), json: false } }
    }

    fn refusal(result: Result<(DevCluster, Owned), Failure>) -> String {
        format!("{:?}", result.err().expect("should be refused"))
    }

    /// Far below the ports that systems hand out, and apart for each process and test.
    pub(in crate::dev) fn free_port(test: u16) -> u16 {
        10_000 + (std::process::id() % 200) as u16 * 100 + test * 20
    }

    #[test]
    fn a_new_directory_holds_sound_settings_for_every_node_and_opens_again() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("two");
        let port = free_port(0);
        let (made, owned) = open(&start(&dir, Some(2), Some(port))).unwrap();
        assert!(made.new);
        let cluster = ClusterFile::read(&dir.join(CLUSTER_FILE)).unwrap();
        assert_eq!((cluster.layout.members().len(), cluster.layout.n()), (2, 2));
        for node in 0..2 {
            let path = made.node_dir(node).join(SETTINGS_FILE);
            let settings = Settings::load(Some(&path), [], &[]).unwrap();
            let member = cluster.layout.member(settings.node_id).unwrap();
            assert_eq!((&member.http, &member.address), (&settings.http, &settings.peer));
            assert_eq!(settings.resp, format!("127.0.0.1:{}", usize::from(port) + 1 + 10 * node));
            let named = fs::canonicalize(&settings.cluster_file).unwrap();
            assert_eq!(named, fs::canonicalize(dir.join(CLUSTER_FILE)).unwrap());
        }
        let second = refusal(open(&start(&dir, None, None)));
        assert!(second.contains("is running on"), "{second}");
        drop(owned);
        let (again, _owned) = open(&start(&dir, None, None)).unwrap();
        assert_eq!((again.made, again.new), (made.made, false));
        let inside: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(inside, ["two"], "no draft is left behind");
    }

    #[test]
    fn a_directory_is_started_as_what_it_was_made_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dev");
        let port = free_port(1);
        drop(open(&start(&dir, Some(1), Some(port))).unwrap());
        let nodes = refusal(open(&start(&dir, Some(4), None)));
        assert!(nodes.contains("was made with --nodes 1, not 4"), "{nodes}");
        let port = refusal(open(&start(&dir, None, Some(9))));
        assert!(port.contains("was made with --port") && port.contains("not 9"), "{port}");
    }

    #[test]
    fn a_directory_of_an_earlier_release_is_started_as_it_is() {
        let text = "nodes = 3\nport = 7400\nengine = \"fjall\"\n";
        let made: Made = toml::from_str(text).unwrap();
        assert!(made.removed.is_empty());
        assert_eq!(made.text().unwrap(), text, "and can be started by it again, as long as no node is gone");
    }

    #[test]
    fn somebody_elses_directory_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.tex"), "").unwrap();
        assert!(refusal(open(&start(place.path(), None, None))).contains("is no directory of `gramme dev`"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn ports_that_do_not_exist_or_are_taken_are_refused_before_anything_is_made() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dev");
        assert!(refusal(open(&start(&dir, Some(3), Some(65530)))).contains("do not fit"));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let told = refusal(open(&start(&dir, Some(1), Some(port))));
        assert!(told.contains(&format!("127.0.0.1:{port} is in use")), "{told}");
        assert!(!dir.exists());
    }
}
