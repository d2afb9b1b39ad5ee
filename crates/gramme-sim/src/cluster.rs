//! Real nodes on simulated hosts: starts them, keeps them running as a supervisor would, lets clients call
//! them, applies faults, and reads their disks when all is over.
//!
//! What the server does around a node is done here in its place: the store's identity, what a node's silence
//! proves, and ending a process whose store is broken.

use crate::admin;
use crate::env::SimEnv;
use crate::executor::Owner;
use crate::knobs::{Healer, Knobs};
use crate::nemesis::Fault;
use crate::timer::Sleep;
use crate::world::{World, name, node_id};
use bytes::Bytes;
use gramme_core::gossip::NodeFact;
use gramme_core::limits::FREEZE_MS;
use gramme_core::merkle::Tombstones;
use gramme_core::{Layout, Member, StoreId};
use gramme_node::node::{Node, Options};
use gramme_node::request::{Call, Response};
use gramme_node::rows::KIND_DATA;
use gramme_node::{Event, Fact, Trust};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// See the module; clones share it.
#[derive(Clone)]
pub struct Cluster(Rc<Inner>);

struct Inner {
    world: Rc<World>,
    layout: Arc<Layout>,
    knobs: Knobs,
    hosts: RefCell<Vec<Machine>>,
    /// When processes ended, and whose.
    ends: RefCell<Vec<(usize, u64)>>,
    /// Orders of administrators that are being carried out.
    orders: Rc<Cell<usize>>,
}

/// What the supervisor knows of one host.
struct Machine {
    nodes: Vec<Option<Node<SimEnv>>>,
    store: StoreId,
    trust: Trust,
    /// The process cannot go on and is to be started anew.
    unfit: bool,
    /// The process takes no calls any more.
    draining: bool,
    /// A copy of its disk.
    copy: Option<BTreeMap<Bytes, Bytes>>,
    /// It was replaced by that copy.
    restored: bool,
    /// The machine is gone, for good as far as anybody knows.
    destroyed: bool,
}

/// How a call ended for whoever made it.
#[derive(Debug)]
pub enum Called {
    /// With an answer.
    Answered(Response),
    /// Nobody was there: nothing of it was read.
    Unreachable,
    /// The connection broke before the answer.
    Broken,
}

/// How long a call lay in a frozen host's sockets, in nanoseconds, and what the host made of it.
pub type Heard = Box<dyn FnOnce(u64, &Response)>;

impl Cluster {
    /// A cluster whose hosts are all down.
    pub fn new(world: Rc<World>, knobs: &Knobs) -> Cluster {
        let members = (0..knobs.hosts).map(|host| member(host, knobs)).collect();
        let layout = Layout::first(members, knobs.n, knobs.partitions).expect("drawn knobs make a layout");
        let trust = if knobs.begin_unproven { Trust::Proving } else { Trust::Continuous };
        let hosts = (0..knobs.machines())
            .map(|host| Machine {
                nodes: vec![None; knobs.shards],
                store: StoreId(host as u64 + 1),
                trust,
                unfit: false,
                draining: false,
                copy: None,
                restored: false,
                destroyed: false,
            })
            .collect();
        for host in 0..knobs.machines() {
            world.set_clock(host, |clock| {
                clock.wall_offset_ms = knobs.wall_offset_ms.get(host).copied().unwrap_or(0);
                clock.mono_ppm = knobs.drift_ppm.get(host).copied().unwrap_or(0);
                clock.wall_ppm = 10 * clock.mono_ppm;
            });
        }
        let knobs = knobs.clone();
        Cluster(Rc::new(Inner {
            world,
            layout: Arc::new(layout),
            knobs,
            hosts: RefCell::new(hosts),
            ends: RefCell::default(),
            orders: Rc::default(),
        }))
    }

    /// The world it stands in.
    pub fn world(&self) -> &Rc<World> {
        &self.0.world
    }

    /// Who keeps what in the beginning.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.0.layout
    }

    /// Whether some administrator still insists on something.
    pub fn is_ordered_about(&self) -> bool {
        self.0.orders.get() > 0
    }

    /// Hosts whose processes ended between two true times, in nanoseconds.
    pub fn ended_between(&self, from: u64, to: u64) -> BTreeSet<usize> {
        self.0
            .ends
            .borrow()
            .iter()
            .filter(|(_, at)| (from..=to).contains(at))
            .map(|(host, _)| *host)
            .collect()
    }

    /// Whether a host's directory was emptied.
    pub fn was_wiped(&self, host: usize) -> bool {
        self.0.hosts.borrow()[host].store.0 > self.0.knobs.machines() as u64
    }

    /// Whether a host's disk was lost, or replaced by an old copy.
    pub fn was_lost(&self, host: usize) -> bool {
        let replaced = self.0.hosts.borrow()[host].restored;
        self.was_wiped(host) || replaced || self.is_away(host)
    }

    /// Whether a host was destroyed and is not to come back.
    pub fn is_away(&self, host: usize) -> bool {
        self.0.hosts.borrow()[host].destroyed
    }

    /// Starts a host that is down.
    pub fn start(&self, host: usize) {
        let world = &self.0.world;
        if world.boot_of(host).is_some() || self.is_away(host) {
            return;
        }
        let boot = world.start(host);
        let (store, trust) = {
            let mut hosts = self.0.hosts.borrow_mut();
            (hosts[host].unfit, hosts[host].draining) = (false, false);
            (hosts[host].store, hosts[host].trust)
        };
        for shard in 0..self.0.knobs.shards {
            let env = SimEnv::new(world.clone(), host, boot, shard);
            let options = Options {
                id: node_id(host),
                fact: self.fact(host),
                layout: self.0.layout.clone(),
                secret: SECRET,
                shard,
                shards: self.0.knobs.shards,
                store,
                trust,
                cache_bytes: self.0.knobs.cache_bytes,
                hint_bytes_max: HINT_BYTES_MAX,
                request_ms: self.0.knobs.request_ms,
                upkeep: gramme_node::Upkeep {
                    expiry_after_ms: self.0.knobs.expiry_after_ms,
                    audit_ms: self.0.knobs.audit_ms,
                    scrub_ms: self.0.knobs.scrub_ms,
                    tombstones: if self.0.knobs.reclaim { Tombstones::Skipped } else { Tombstones::Counted },
                },
                exchange: self.0.knobs.healer == Healer::Exchange,
                reclaim: self.0.knobs.reclaim,
            };
            let cluster = self.clone();
            world.spawn(env.owner(), "shard", async move {
                match Node::open(env, options).await {
                    Ok(node) => {
                        cluster.opened(host, shard, node.clone());
                        node.run().await;
                    }
                    Err(_) => cluster.0.hosts.borrow_mut()[host].unfit = true,
                }
            });
        }
    }

    /// A shard is open; with the last of them the doors are, for peers and clients.
    fn opened(&self, host: usize, shard: usize, node: Node<SimEnv>) {
        let all = {
            let nodes = &mut self.0.hosts.borrow_mut()[host].nodes;
            nodes[shard] = Some(node);
            nodes.iter().all(Option::is_some)
        };
        if all {
            self.0.world.listen(host);
        }
    }

    /// All nodes have met and told each other that they are new: what they lack proves something.
    pub fn prove(&self) {
        for host in 0..self.0.knobs.machines() {
            if self.was_wiped(host) {
                continue;
            }
            self.trust(host);
        }
    }

    /// Ends the process of a host.
    pub fn stop(&self, host: usize, silently: bool) {
        let nodes = {
            let mut hosts = self.0.hosts.borrow_mut();
            std::mem::replace(&mut hosts[host].nodes, vec![None; self.0.knobs.shards])
        };
        if self.0.world.boot_of(host).is_some() {
            self.0.ends.borrow_mut().push((host, self.0.world.now()));
        }
        self.0.world.crash(host, silently);
        if silently && self.0.world.with_disk(host, |disk| disk.lose_power()) {
            ["lied", "fault: lie"].into_iter().for_each(|what| self.0.world.log.borrow_mut().count(what));
        }
        drop(nodes);
    }

    /// Starts processes anew that cannot go on, as their supervisor would.
    pub fn supervise(&self) {
        for host in 0..self.0.knobs.machines() {
            let unfit = self.0.hosts.borrow()[host].unfit || self.0.world.is_broken(host);
            if unfit && !self.0.world.is_frozen(host) {
                self.stop(host, false);
                self.start(host);
            }
            if self.is_whole_again(host) {
                self.0.world.log.borrow_mut().count("whole again");
                self.trust(host);
            }
        }
    }

    /// Whether a host whose directory was lost has pulled everything from everyone.
    fn is_whole_again(&self, host: usize) -> bool {
        let hosts = self.0.hosts.borrow();
        let is_whole = |node: &Option<Node<SimEnv>>| {
            let status = node.as_ref().map(Node::status);
            status.is_some_and(|status| status.trust == Trust::Lost && status.refilling.is_empty())
        };
        hosts[host].trust == Trust::Lost && hosts[host].nodes.iter().all(is_whole)
    }

    fn fact(&self, host: usize) -> NodeFact {
        let member = member(host, &self.0.knobs);
        NodeFact {
            name: member.name,
            address: member.address,
            http: member.http,
            zone: member.zone,
            ..NodeFact::default()
        }
    }

    fn trust(&self, host: usize) {
        self.0.hosts.borrow_mut()[host].trust = Trust::Continuous;
        if let Some(boot) = self.0.world.boot_of(host) {
            for shard in 0..self.0.knobs.shards {
                let fact = Event::Fact(Fact::Trust(Trust::Continuous));
                self.0.world.tell(host, boot, shard, fact);
            }
        }
    }

    /// Makes a fault happen.
    pub fn suffer(&self, fault: Fault) {
        let world = &self.0.world;
        world.note("fault", 0, 0, || format!("{fault:?}"));
        if let Some(kind) = fault.kind().filter(|_| self.takes_effect(fault)) {
            world.log.borrow_mut().count(kind);
        }
        match fault {
            Fault::Crash { host } => self.stop(host, false),
            Fault::PowerOff { host } => self.stop(host, true),
            Fault::Drain { host } => self.drain(host),
            Fault::Start { host } => self.start(host),
            Fault::PowerLoss => {
                world.log.borrow_mut().count("power lost");
                (0..self.0.knobs.machines()).for_each(|host| self.stop(host, true));
            }
            Fault::Wipe { host } => self.wipe(host),
            Fault::Destroy { host } => {
                self.stop(host, true);
                self.0.hosts.borrow_mut()[host].destroyed = true;
            }
            Fault::Order { host, order } => {
                let (cluster, under_way) = (self.clone(), self.0.orders.clone());
                under_way.set(under_way.get() + 1);
                world.spawn(Owner::Harness, "order", async move {
                    admin::carry_out(cluster, host, order).await;
                    under_way.set(under_way.get() - 1);
                });
            }
            Fault::Copy { host } => {
                let rows = world.with_disk(host, |disk| disk.rows().clone());
                self.0.hosts.borrow_mut()[host].copy = Some(rows);
            }
            Fault::Restore { host } => self.restore(host),
            Fault::Cut { from, to } => world.with_net(|net| net.cut(from, to)),
            Fault::Mend { from, to } => self.net(|net| net.mend(from, to)),
            Fault::Loss { permille } => self.net(|net| net.set_weather(|w| w.loss_permille = permille)),
            Fault::Duplicate { permille } => {
                self.net(|net| net.set_weather(|w| w.duplicate_permille = permille))
            }
            Fault::Hold { permille, up_to_ms } => {
                self.net(|net| net.set_weather(|w| (w.held_permille, w.held_ms) = (permille, up_to_ms)));
            }
            Fault::Refuse { permille } => self.net(|net| net.set_weather(|w| w.refused_permille = permille)),
            Fault::Slower { by } => self.net(|net| net.set_weather(|w| w.slower_by = by)),
            Fault::SlowNode { host, factor } => self.net(|net| net.set_slow(host, factor)),
            Fault::SlowDisk { host, factor } => {
                world.with_disk(host, |disk| disk.condition.slow = factor.max(1))
            }
            Fault::SyncError { host } => world.with_disk(host, |disk| disk.condition.next_sync_fails = true),
            Fault::Full { host, full } => world.with_disk(host, |disk| disk.condition.full = full),
            Fault::Busy { host, permille } => {
                world.with_disk(host, |disk| disk.condition.busy_permille = permille);
            }
            Fault::ReadErrors { host, permille } => {
                world.with_disk(host, |disk| disk.condition.read_errors_permille = permille);
            }
            Fault::Freeze { host } => world.freeze(host),
            Fault::Thaw { host } => world.thaw(host),
            Fault::Rot { host } => self.harm(host, false, ["rotted", "fault: rot"]),
            Fault::SilentLoss { host } => self.harm(host, true, ["lost in silence", "fault: silent loss"]),
            Fault::Lies { host, lies } => world.with_disk(host, |disk| disk.condition.lies = lies),
            Fault::Stall { host, stalled } => {
                world.log.borrow_mut().count("disk stalled");
                world.with_disk(host, |disk| disk.condition.stalled = stalled);
            }
            Fault::ReadOnly { host, read_only } => {
                world.log.borrow_mut().count("disk read-only");
                world.with_disk(host, |disk| disk.condition.read_only = read_only);
            }
            Fault::ClockJump { host, by_ms } => world.set_clock(host, |clock| clock.wall_offset_ms += by_ms),
        }
    }

    /// Whether a fault of a host finds something to harm. Those of the network and of disks count for themselves
    /// what they have done, and so do rot and loss.
    fn takes_effect(&self, fault: Fault) -> bool {
        let is_up = |host: usize| self.0.world.boot_of(host).is_some();
        match fault {
            Fault::Crash { host }
            | Fault::PowerOff { host }
            | Fault::Drain { host }
            | Fault::Destroy { host }
            | Fault::Freeze { host } => is_up(host),
            Fault::PowerLoss => (0..self.0.knobs.machines()).any(is_up),
            Fault::Restore { host } => self.0.hosts.borrow()[host].copy.is_some(),
            Fault::Wipe { .. } | Fault::ClockJump { .. } => true,
            _ => false,
        }
    }

    /// Ends every fault and starts whatever is down, but those destroyed machines that were declared lost. Clocks stay as
    /// wrong as they are.
    pub fn heal(&self, lost: &BTreeSet<usize>) {
        let world = &self.0.world;
        self.net(|net| net.mend_all());
        for host in 0..self.0.knobs.machines() {
            if self.is_away(host) {
                // Whoever is destroyed and was not declared lost was only away for long.
                self.0.hosts.borrow_mut()[host].destroyed = lost.contains(&host) && !self.0.knobs.lost_return;
            }
            world.with_disk(host, |disk| disk.condition = Default::default());
            if world.is_frozen(host) {
                world.thaw(host);
            }
            if self.0.hosts.borrow()[host].draining {
                self.stop(host, false);
            }
            self.start(host);
        }
    }

    /// Calls a node as a client does. `heard` is told what the host made of it, even if the client is gone.
    pub async fn call(&self, host: usize, call: Call, heard: Heard) -> Called {
        let shard = call.request.shard(self.0.knobs.partitions, self.0.knobs.shards);
        self.call_shard(host, shard, call, heard).await
    }

    /// The same for a shard that is named.
    pub async fn call_shard(&self, host: usize, shard: usize, call: Call, heard: Heard) -> Called {
        let world = &self.0.world;
        self.travel(host).await;
        let node = self.0.hosts.borrow()[host].nodes[shard].clone();
        let (Some(boot), Some(node), true) = (world.boot_of(host), node, world.listens(host)) else {
            return Called::Unreachable;
        };
        if shard > 0 {
            world.log.borrow_mut().count("both shards");
        }
        let (answer, answered) = oneshot::channel();
        let arrived = world.now();
        let clock = world.clone();
        world.spawn(Owner::Host { host, boot }, "door", async move {
            let waited = clock.now() - arrived;
            if waited > FREEZE_MS * 1_000_000 {
                clock.log.borrow_mut().count("waited through a freeze");
            }
            let response = node.call(call).await;
            heard(waited, &response);
            // The client may have gone away.
            let _ = answer.send(response);
        });
        match answered.await {
            Ok(response) => {
                self.travel(host).await;
                Called::Answered(response)
            }
            Err(_) => Called::Broken,
        }
    }

    async fn travel(&self, host: usize) {
        let span = self.0.world.net_delay(host, host);
        Sleep::span(self.0.world.clone(), span).await;
    }

    /// Asks a process to end; its supervisor starts it anew once it has drained.
    fn drain(&self, host: usize) {
        let nodes: Vec<Node<SimEnv>> = self.0.hosts.borrow()[host].nodes.iter().flatten().cloned().collect();
        let Some(boot) = self.0.world.boot_of(host) else { return };
        let cluster = self.clone();
        self.0.hosts.borrow_mut()[host].draining = true;
        self.0.world.spawn(Owner::Host { host, boot }, "drain", async move {
            for node in nodes {
                node.drain().await;
            }
            cluster.0.world.log.borrow_mut().count("drained");
            cluster.0.hosts.borrow_mut()[host].unfit = true;
        });
    }

    fn harm(&self, host: usize, silently: bool, counted: [&'static str; 2]) {
        if self.0.world.with_disk(host, |disk| disk.harm(silently, |key| key.get(2) == Some(&KIND_DATA))) {
            counted.into_iter().for_each(|what| self.0.world.log.borrow_mut().count(what));
        }
    }

    fn wipe(&self, host: usize) {
        self.stop(host, false);
        self.0.world.log.borrow_mut().count("wiped");
        self.0.world.with_disk(host, |disk| disk.wipe());
        let mut hosts = self.0.hosts.borrow_mut();
        hosts[host].store = StoreId(hosts[host].store.0 + self.0.knobs.machines() as u64);
        hosts[host].trust = Trust::Lost;
    }

    /// The disk of a host is replaced by the last copy made of it: an older life, in sound condition.
    fn restore(&self, host: usize) {
        let Some(rows) = self.0.hosts.borrow_mut()[host].copy.take() else { return };
        self.0.hosts.borrow_mut()[host].restored = true;
        self.stop(host, false);
        self.0.world.log.borrow_mut().count("restored");
        self.0.world.with_disk(host, |disk| disk.replace(rows));
    }

    fn net(&self, change: impl FnOnce(&mut crate::net::Net)) {
        self.0.world.with_net(|net| {
            change(net);
            Default::default()
        });
    }
}

/// A machine as a member of a ring, and as it describes itself.
fn member(host: usize, knobs: &Knobs) -> Member {
    Member {
        id: node_id(host),
        name: name(host),
        address: format!("{}:7402", name(host)),
        http: format!("{}:7400", name(host)),
        zone: format!("z{}", host % knobs.zones.max(1)),
        weight: 1,
    }
}

/// The secret of every simulated cluster.
pub const SECRET: gramme_core::context::Secret = *b"a simulated ring";

/// What a shard may keep for others: more than any run writes.
const HINT_BYTES_MAX: u64 = 1 << 30;
