//! A server from its settings to its end: what is opened in which order, and closed in which.
//!
//! ```text
//! settings -> cluster file -> ports -> data directory -> identity -> shards -> doors open
//! SIGTERM  -> doors close, new calls refused -> calls in flight answered, all durable -> store closed, marked clean
//! ```
//! Everything that can refuse to start does so before anything is changed: a port in use is noticed before the data
//! directory is touched, another member's directory before a shard opens it.

use crate::cluster_file::{ClusterFile, ClusterFileError};
use crate::doors::{Place, Service};
use crate::ground::Ground;
use crate::identity::{Identity, IdentityError};
use crate::mailbox::{Door, Letter, Shards};
use crate::metrics::Metrics;
use crate::peers::Company;
use crate::settings::{EngineKind, Settings, SettingsError};
use crate::shard::{self, Plan};
use crate::store::Store;
use crate::tls::Tls;
use gramme_core::merkle::Tombstones;
use gramme_core::{Member, NodeId};
use gramme_node::Upkeep;
use gramme_storage::Engine;
use gramme_storage::fjall::OpenError;
use gramme_wire::hello::{Hello, PROTOCOL_MAX, PROTOCOL_MIN};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The HTTP door.
    pub http: SocketAddr,
    /// The Redis door.
    pub resp: SocketAddr,
    /// The peer door.
    pub peer: SocketAddr,
}

/// Why a server did not start, or ended; one sentence each.
#[derive(Debug)]
pub enum RunError {
    /// The settings make no sense together.
    Settings(SettingsError),
    /// The cluster file cannot be used.
    ClusterFile(ClusterFileError),
    /// This node is not among the cluster's members, and does not ask to join them.
    NotAMember {
        /// This node.
        node: NodeId,
        /// The cluster file.
        file: PathBuf,
    },
    /// Nobody could tell others where this node is: it listens everywhere.
    Nowhere(String),
    /// An address cannot be listened on.
    Listen {
        /// The key of the settings.
        key: &'static str,
        /// Its value.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The TLS files cannot be used.
    Tls(String),
    /// The store cannot be opened.
    Store(OpenError),
    /// The data directory is another's.
    Identity(PathBuf, IdentityError),
    /// A thread or a shard cannot be started.
    Start(String),
    /// A write or a sync of the running store failed; a start anew may help.
    StoreFailed(PathBuf, String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Settings(e) => write!(f, "{e}"),
            RunError::ClusterFile(e) => write!(f, "{e}"),
            RunError::NotAMember { node, file } => write!(
                f,
                "node {node} is not a member of the cluster in {}, and never asked to be: start it with the id that `gramme cluster init` gave it, or add --join HOST:PORT with the peer address of any member to ask to join",
                file.display()
            ),
            RunError::Nowhere(address) => write!(
                f,
                "listen.peer = {address:?} says nothing of where peers reach this node, and the cluster file does not either: set listen.advertise to host:port as other machines reach it"
            ),
            RunError::Listen { key, address, cause } if cause.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{key} = {address:?}: the port is in use by another process: stop that process, or choose another port"
            ),
            RunError::Listen { key, address, cause } => {
                write!(f, "{key} = {address:?} cannot be listened on: {cause}")
            }
            RunError::Tls(e) => write!(f, "{e}"),
            RunError::Store(e) => write!(f, "{e}"),
            RunError::Identity(directory, e) => {
                write!(f, "the data directory {} cannot be used: {e}", directory.display())
            }
            RunError::Start(e) => write!(f, "the server cannot start: {e}"),
            RunError::StoreFailed(directory, e) => write!(
                f,
                "a write to the store in {} failed ({e}), so this process has ended: what it had acknowledged is on the disk or with its peers. Start it again; if that fails too, look at the disk (space, cables, the kernel's log), or move the directory away and let the node refill from its peers",
                directory.display()
            ),
        }
    }
}

impl std::error::Error for RunError {}

/// The listening sockets of a server.
#[derive(Debug)]
pub struct Sockets {
    http: TcpListener,
    resp: TcpListener,
    peer: TcpListener,
    addresses: Addresses,
}

impl Sockets {
    /// Listens where the settings say. A host name that means several addresses is taken by its first.
    pub fn bind(settings: &Settings) -> Result<Sockets, RunError> {
        let http = listen("listen.http", &settings.http)?;
        let resp = listen("listen.resp", &settings.resp)?;
        let peer = listen("listen.peer", &settings.peer)?;
        let address = |socket: &TcpListener| socket.local_addr().map_err(|e| RunError::Start(e.to_string()));
        let addresses = Addresses { http: address(&http)?, resp: address(&resp)?, peer: address(&peer)? };
        Ok(Sockets { http, resp, peer, addresses })
    }

    /// Where they listen, with the ports that the system chose for 0.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

/// How far a server is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No new clients, no new calls; what is in flight is finished.
    Draining,
    Stopped,
}

/// A running server. Dropped without [`Server::stop`], it ends without draining.
pub struct Server {
    addresses: Addresses,
    phase: watch::Sender<Phase>,
    shards: Shards,
    store: Store,
    threads: Vec<JoinHandle<()>>,
}

/// Runs a server until SIGTERM or SIGINT, then drains it. `ready` is called once its doors are open.
pub fn run(settings: Settings, ready: impl FnOnce(Addresses)) -> Result<(), RunError> {
    let runtime = runtime()?;
    // Before the doors open, so that no signal meets the default behaviour afterwards.
    let signals = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    });
    let (mut terminate, mut interrupt) = signals.map_err(|e| RunError::Start(e.to_string()))?;
    settings.check().map_err(RunError::Settings)?;
    let sockets = Sockets::bind(&settings)?;
    let directory = settings.data_dir.clone();
    let server = Server::start(settings, sockets)?;
    ready(server.addresses());
    let failed = runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            fault = server.store.failure() => Some(fault),
        }
    });
    match failed {
        None => {
            server.stop();
            Ok(())
        }
        Some(fault) => {
            tracing::error!(directory = %directory.display(), fault, "the store has failed: the node takes no more writes and ends");
            end_anyhow(RunError::StoreFailed(directory.clone(), fault.clone()));
            server.abort();
            Err(RunError::StoreFailed(directory, fault))
        }
    }
}

/// A disk that fails may also hang: the process ends even if closing what is left of its store does not.
fn end_anyhow(error: RunError) {
    let last_resort = move || {
        std::thread::sleep(ABORT_TIME);
        eprintln!("gramme: {error}");
        std::process::exit(STORE_FAILED_EXIT);
    };
    // Without the thread the process ends all the same, unless the disk hangs.
    let _ = std::thread::Builder::new().name("gramme-end".to_owned()).spawn(last_resort);
}

impl Server {
    /// Starts a server on sockets that listen already; its doors are open when this returns.
    pub fn start(settings: Settings, sockets: Sockets) -> Result<Server, RunError> {
        let start = Instant::now();
        let warnings = settings.check().map_err(RunError::Settings)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let cluster = ClusterFile::read(&settings.cluster_file).map_err(RunError::ClusterFile)?;
        let member = cluster.layout.member(settings.node_id).cloned();
        let place = place(&settings, member.as_ref(), sockets.addresses().peer)?;
        let tls = settings.tls.as_ref().map(Tls::load).transpose().map_err(RunError::Tls)?;
        let stranger =
            || RunError::NotAMember { node: settings.node_id, file: settings.cluster_file.clone() };
        let may_start = member.is_some() || !settings.seeds.is_empty();
        if !may_start && (settings.engine == EngineKind::Memory || !settings.data_dir.exists()) {
            return Err(stranger());
        }
        let store = Store::open(&settings).map_err(RunError::Store)?;
        let members: Vec<NodeId> = cluster.layout.members().iter().map(|member| member.id).collect();
        let identity = runtime()?.block_on(async {
            // A node that asked to join, and may have been taken in since, has a directory of its own.
            if !may_start && !Identity::exists(&store).await? {
                return Ok(None);
            }
            Identity::open(store.clone(), settings.node_id, members).await.map(Some)
        });
        let identity = match identity {
            Ok(Some(identity)) => identity,
            Ok(None) => {
                store.close();
                return Err(stranger());
            }
            Err(e) => {
                store.close();
                return Err(RunError::Identity(settings.data_dir.clone(), e));
            }
        };

        let addresses = sockets.addresses();
        let name = name(&settings, member.as_ref());
        let shards = Shards::new(settings.shards, cluster.layout.partitions());
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            features: 0,
            critical: 0,
            cluster: cluster.cluster,
            node: settings.node_id,
            layout: cluster.layout.hash(),
            store: identity.store(),
            shard: 0,
            shards: settings.shards as u8,
            boot: crate::random::word(),
            http: http(member.as_ref(), &place, addresses.http),
            resp: advertised(addresses.resp, &place.address),
            nonce: [0; 16],
        };
        tracing::info!(
            node = %settings.node_id, name, cluster = %cluster.cluster, layout = %cluster.layout.hash(),
            members = cluster.layout.members().len(), member = member.is_some(), n = cluster.layout.n(), shards = settings.shards,
            trust = identity.trust().as_str(), "the node starts"
        );
        let first = Arc::new(cluster.layout);
        let company = Company::new(hello, cluster.secret, identity, tls, first, settings.seeds.clone());
        let metrics = Metrics::new(store.name());
        let (phase, watched) = watch::channel(Phase::Serving);
        let service = Service::new(
            Arc::new(company),
            shards.clone(),
            settings.token.clone(),
            store.clone(),
            metrics,
            watched,
            addresses,
            name,
            place,
            Ground::new(&settings, warnings),
        );
        let mut server = Server { addresses, phase, shards, store, threads: Vec::new() };
        // What the memory engine holds is at hand already; keeping it twice would only cost.
        let cache_bytes = match settings.engine {
            EngineKind::Memory => 0,
            EngineKind::Fjall => (settings.cache_mb as usize * (1 << 20)) / 2 / settings.shards,
        };
        let upkeep = Upkeep {
            audit_ms: u64::from(settings.audit_seconds) * 1000,
            scrub_ms: u64::from(settings.scrub_hours) * 60 * 60 * 1000,
            // Homes that let go of tombstones do so at different moments: those are no difference.
            tombstones: if settings.reclaim { Tombstones::Skipped } else { Tombstones::Counted },
            ..Upkeep::default()
        };
        let hint_bytes_max = (u64::from(settings.hints_mb) << 20) / settings.shards as u64;
        let opened = server
            .open_shards(&service, start, cache_bytes, hint_bytes_max, settings.reclaim, upkeep)
            .and_then(|()| server.open_doors(service, sockets));
        match opened {
            Ok(()) => {
                tracing::info!(http = %addresses.http, resp = %addresses.resp, peer = %addresses.peer, "the doors are open");
                Ok(server)
            }
            Err(e) => {
                server.end();
                Err(e)
            }
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Lets no one in any more, finishes what is in flight, makes it durable, and closes the store. Blocks until
    /// that is done.
    pub fn stop(mut self) {
        tracing::info!("the node shuts down: what is in flight is finished first");
        if !self.drain(DRAIN_TIME) {
            tracing::warn!(
                "some calls were still in flight after {DRAIN_TIME:?}; their outcome is unknown to their clients"
            );
        }
        self.end();
        tracing::info!("the node has stopped");
    }

    /// Lets no one in any more and waits for what is in flight; whether all of it ended in time.
    fn drain(&self, patience: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        let drained: Vec<oneshot::Receiver<()>> = (0..self.shards.count())
            .map(|shard| {
                let (done, drained) = oneshot::channel();
                self.shards.post(shard, Letter::Drain(done));
                drained
            })
            .collect();
        let all = async { tokio::time::timeout(patience, futures_util::future::join_all(drained)).await };
        runtime().is_ok_and(|runtime| runtime.block_on(all).is_ok())
    }

    /// Ends at once: what is in flight is answered as far as it can be without the store.
    fn abort(mut self) {
        self.drain(ABORT_DRAIN_TIME);
        self.end();
    }

    fn open_shards(
        &mut self,
        service: &Arc<Service>,
        start: Instant,
        cache_bytes: usize,
        hint_bytes_max: u64,
        reclaim: bool,
        upkeep: Upkeep,
    ) -> Result<(), RunError> {
        let mut waiting = Vec::new();
        for index in 0..self.shards.count() {
            let (opened, is_open) = oneshot::channel();
            let service = service.clone();
            let plan = Plan { index, service, start, cache_bytes, hint_bytes_max, reclaim, upkeep, opened };
            self.spawn(format!("gramme-shard-{index}"), move || shard::main(plan))?;
            waiting.push(is_open);
        }
        for is_open in waiting {
            let opened =
                is_open.blocking_recv().unwrap_or_else(|_| Err("a shard ended while it was opened".into()));
            opened.map_err(RunError::Start)?;
        }
        Ok(())
    }

    fn open_doors(&mut self, service: Arc<Service>, sockets: Sockets) -> Result<(), RunError> {
        let runtime = runtime()?;
        self.spawn("gramme-doors".into(), move || runtime.block_on(deal(service, sockets)))
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
        let thread = std::thread::Builder::new().name(name).spawn(body);
        self.threads.push(thread.map_err(|e| RunError::Start(format!("a thread cannot be started: {e}")))?);
        Ok(())
    }

    fn end(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the server panicked");
            }
        }
        self.store.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.end();
        }
    }
}

/// Deals sockets out to shards until the doors close, and keeps the store's figures.
async fn deal(service: Arc<Service>, sockets: Sockets) {
    let mut phase = service.phase.clone();
    let doors = async {
        tokio::join!(
            deal_door(&service, sockets.http, |socket| Letter::Client(Door::Http, socket)),
            deal_door(&service, sockets.resp, |socket| Letter::Client(Door::Resp, socket)),
            deal_door(&service, sockets.peer, Letter::Stranger),
            async {
                loop {
                    service.metrics.observe_store(&service.store.take_sync_nanos(), service.store.stats());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        )
    };
    tokio::select! {
        _ = doors => {}
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
}

async fn deal_door(service: &Service, listener: TcpListener, letter: impl Fn(std::net::TcpStream) -> Letter) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return tracing::error!("a door cannot be opened: {e}"),
    };
    let mut next = 0;
    loop {
        match listener.accept().await.and_then(|(socket, _)| socket.into_std()) {
            Ok(socket) => {
                service.shards.post(next % service.shards.count(), letter(socket));
                next += 1;
            }
            Err(e) => {
                // Out of file descriptors, most likely: trying at once again would only burn a core.
                tracing::warn!("a connection cannot be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn listen(key: &'static str, address: &str) -> Result<TcpListener, RunError> {
    use socket2::{Domain, Protocol, Socket, Type};
    use std::net::ToSocketAddrs;
    let attempt = || {
        let first = address.to_socket_addrs()?.next();
        let address = first.ok_or_else(|| io::Error::other("the name means no address"))?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A port that a process has just left is free; one that a process listens on stays refused.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    attempt().map_err(|cause| RunError::Listen { key, address: address.to_owned(), cause })
}

/// What people call a node: as it is told, as the cluster file says, or by its id.
fn name(settings: &Settings, member: Option<&Member>) -> String {
    match member {
        _ if !settings.node_name.is_empty() => settings.node_name.clone(),
        Some(member) => member.name.clone(),
        None => format!("node-{:.6}", settings.node_id.to_string()),
    }
}

/// Where a node is, as it tells the others; `door` is where its peer door listens.
fn place(settings: &Settings, member: Option<&Member>, door: SocketAddr) -> Result<Place, RunError> {
    let zone = settings.node_zone.clone().or_else(|| member.map(|member| member.zone.clone()));
    let told = settings.advertise.clone().or_else(|| member.map(|member| member.address.clone()));
    let address = match told {
        Some(address) => address,
        None if door.ip().is_unspecified() => return Err(RunError::Nowhere(settings.peer.clone())),
        None => {
            let host = settings.peer.rsplit_once(':').map_or("", |(host, _)| host);
            format!("{host}:{}", door.port())
        }
    };
    Ok(Place { address, zone: zone.unwrap_or_else(|| "default".to_owned()) })
}

/// Where clients reach the HTTP door: as the cluster file says, unless the node has moved since.
fn http(member: Option<&Member>, place: &Place, door: SocketAddr) -> String {
    match member.filter(|member| !member.http.is_empty() && member.address == place.address) {
        Some(member) => member.http.clone(),
        None => advertised(door, &place.address),
    }
}

/// What to tell others of a door: the host at which peers reach this node, if the door listens everywhere.
fn advertised(door: SocketAddr, peer_address: &str) -> String {
    match peer_address.rsplit_once(':') {
        Some((host, _)) if door.ip().is_unspecified() => format!("{host}:{}", door.port()),
        _ => door.to_string(),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| RunError::Start(format!("an event loop cannot be made: {e}")))
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How a process ends whose store has failed: a supervisor may start it again (docs/cli.md).
pub const STORE_FAILED_EXIT: i32 = 5;
/// How long calls in flight may take when the store has failed.
const ABORT_DRAIN_TIME: Duration = Duration::from_millis(300);
/// How long such a process may take to end.
const ABORT_TIME: Duration = Duration::from_millis(900);
/// How long calls in flight may take when the node shuts down.
const DRAIN_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[(&str, &str)]) -> Settings {
        let flags = [("node.id", "00c0ffee00c0ffee")].iter().chain(flags);
        let flags: Vec<(&str, String)> = flags.map(|(key, value)| (*key, (*value).to_owned())).collect();
        Settings::load(None, [], &flags).unwrap()
    }

    fn member() -> Member {
        Member {
            id: NodeId(0xa1),
            name: "n1".into(),
            address: "n1:7402".into(),
            http: "n1.example:80".into(),
            zone: "east".into(),
            weight: 1,
        }
    }

    fn door(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_is_where_it_says_or_the_cluster_file_does_or_where_it_listens() {
        let told = |flags: &[(&str, &str)], member: Option<&Member>, peer: &str| {
            let place = place(&settings(flags), member, door(peer)).unwrap();
            (place.address, place.zone)
        };
        let said = |address: &str, zone: &str| (address.to_owned(), zone.to_owned());
        let member = member();
        assert_eq!(told(&[], Some(&member), "0.0.0.0:7402"), said("n1:7402", "east"));
        let moved = [("listen.advertise", "n9:7402"), ("node.zone", "west")];
        assert_eq!(told(&moved, Some(&member), "0.0.0.0:7402"), said("n9:7402", "west"));
        let host = [("listen.peer", "localhost:0")];
        assert_eq!(told(&host, None, "127.0.0.1:4242"), said("localhost:4242", "default"));
        let nowhere = place(&settings(&[]), None, door("[::]:7402"));
        assert!(matches!(nowhere, Err(RunError::Nowhere(_))));
    }

    #[test]
    fn the_http_door_of_a_node_that_moved_is_where_the_node_is() {
        let at = |address: &str| Place { address: address.to_owned(), zone: String::new() };
        let everywhere = door("0.0.0.0:7400");
        assert_eq!(http(Some(&member()), &at("n1:7402"), everywhere), "n1.example:80");
        assert_eq!(http(Some(&member()), &at("n9:7402"), everywhere), "n9:7400");
        assert_eq!(http(None, &at("n9:7402"), everywhere), "n9:7400");
    }

    #[test]
    fn a_node_without_a_name_is_called_by_its_id() {
        assert_eq!(name(&settings(&[]), None), "node-00c0ff");
        assert_eq!(name(&settings(&[]), Some(&member())), "n1");
        assert_eq!(name(&settings(&[("node.name", "late")]), Some(&member())), "late");
    }
}
