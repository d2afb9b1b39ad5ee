//! The simulated world: time, hosts, network and disks, and the loop that moves them.
//!
//! Time does not pass while anything can run: tasks are polled in drawn order until all wait, then the next
//! thing on the agenda happens and the clock jumps there. Quiet time costs nothing.
//!
//! Invariant: what happens is a function of the seed and of what the driver does, and of nothing else. Every
//! borrow of the world is over before a task is polled or dropped, or a waker woken.
//!
//! It refuses to know what runs on its hosts: the driver spawns that, and [`crate::env::SimEnv`] is all that
//! it sees of the world.

use crate::agenda::{Agenda, Happening};
use crate::armed;
use crate::clock::HostClock;
use crate::disk::{Disk, DiskProfile};
use crate::executor::{Executor, Owner, Polled, Ready};
use crate::log::{Log, Trace};
use crate::net::{Consequences, Flight, Later, Net, NetProfile, Told};
use crate::rng::Rng;
use crate::timer::Timers;
use bytes::{Bytes, BytesMut};
use gramme_core::NodeId;
use gramme_node::{Event, Fact};
use gramme_wire::{FrameReader, Message, peer};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::task::Waker;

/// How a world begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The seed of every stream of chance.
    pub seed: u64,
    /// The seed of the scheduler alone, so that one plan can be run in other orders.
    pub schedule: u64,
    /// How many hosts there are.
    pub hosts: usize,
    /// Shards of each.
    pub shards: usize,
    /// The network.
    pub net: NetProfile,
    /// The disks.
    pub disk: DiskProfile,
    /// Where the log goes.
    pub trace: Trace,
}

/// See the module. Shared by reference: tasks, environments and engines hold it.
pub struct World {
    now: Cell<u64>,
    agenda: RefCell<Agenda>,
    pub(crate) timers: RefCell<Timers>,
    executor: Executor,
    scheduler: RefCell<Rng>,
    pub(crate) hosts: RefCell<Vec<Host>>,
    pub(crate) net: RefCell<Net>,
    /// What happened.
    pub log: RefCell<Log>,
    trouble: RefCell<Option<Trouble>>,
    events: Cell<u64>,
    seed: u64,
    shards: usize,
}

/// One machine.
pub(crate) struct Host {
    pub(crate) boot: u32,
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    /// Its doors are open: peers can connect.
    pub(crate) listening: bool,
    /// The node has said that it can write no more.
    pub(crate) broken: bool,
    pub(crate) clock: HostClock,
    pub(crate) disk: Disk,
    pub(crate) shards: Vec<Shard>,
    parked: Vec<Ready>,
}

/// What belongs to one shard of the process that lives on a host.
pub(crate) struct Shard {
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) reader: Option<Waker>,
    pub(crate) chance: Rng,
}

/// What ends a run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which rule was broken: `panic`, `livelock`, `trip-wire` or `codec`.
    pub rule: &'static str,
    /// How.
    pub text: String,
}

impl World {
    /// A world at time 0, in which no host is up.
    pub fn new(beginning: Beginning) -> Rc<World> {
        let Beginning { seed, schedule, hosts, shards, net, disk, trace } = beginning;
        let host = |at| Host {
            boot: 0,
            up: false,
            frozen: false,
            listening: false,
            broken: false,
            clock: HostClock::default(),
            disk: Disk::new(seed, at, disk.clone()),
            shards: Vec::new(),
            parked: Vec::new(),
        };
        Rc::new(World {
            now: Cell::new(0),
            agenda: RefCell::default(),
            timers: RefCell::default(),
            executor: Executor::new(),
            scheduler: RefCell::new(Rng::stream(schedule, "scheduler", 0)),
            hosts: RefCell::new((0..hosts).map(host).collect()),
            net: RefCell::new(Net::new(seed, hosts, net)),
            log: RefCell::new(Log::new(trace)),
            trouble: RefCell::new(None),
            events: Cell::new(0),
            seed,
            shards,
        })
    }

    /// True time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Shards of each host.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// How many hosts there are.
    pub fn host_count(&self) -> usize {
        self.hosts.borrow().len()
    }

    /// Things that happened so far, polls not among them.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.executor.polls()
    }

    /// What ended the run, if anything did. Nothing moves any more after it.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.borrow().clone()
    }

    /// Adds a task.
    pub fn spawn(&self, owner: Owner, name: &'static str, task: impl Future<Output = ()> + 'static) {
        if self.is_alive(owner) {
            self.executor.spawn(owner, name, Box::pin(task));
        }
    }

    /// Whether tasks of this owner may still do anything.
    pub fn is_alive(&self, owner: Owner) -> bool {
        match owner {
            Owner::Harness => true,
            Owner::Host { host, boot } => {
                let hosts = self.hosts.borrow();
                hosts[host].up && hosts[host].boot == boot
            }
        }
    }

    /// The life that a host lives, if it is up.
    pub fn boot_of(&self, host: usize) -> Option<u32> {
        let hosts = self.hosts.borrow();
        hosts[host].up.then_some(hosts[host].boot)
    }

    /// Whether the node on a host has said that its store takes no further writes.
    pub fn is_broken(&self, host: usize) -> bool {
        self.hosts.borrow()[host].broken
    }

    /// Starts a host; returns the number of its new life. What runs on it is the driver's to spawn, and the driver
    /// says when its doors are open.
    pub fn start(&self, host: usize) -> u32 {
        let boot = {
            let mut hosts = self.hosts.borrow_mut();
            let it = &mut hosts[host];
            it.boot += 1;
            (it.up, it.frozen, it.listening, it.broken) = (true, false, false, false);
            it.clock.started = self.now();
            let (boot, shards) = (it.boot, self.shards);
            let stream = |shard| ((host as u64) << 48) | ((shard as u64) << 32) | u64::from(boot);
            it.shards = (0..shards)
                .map(|shard| Shard {
                    inbox: VecDeque::new(),
                    reader: None,
                    chance: Rng::stream(self.seed, "app", stream(shard)),
                })
                .collect();
            boot
        };
        self.note("start", host as u64, boot.into(), || format!("{} lives its life {boot}", name(host)));
        boot
    }

    /// Opens a host's doors: from now on it connects to its peers.
    pub fn listen(&self, host: usize) {
        self.hosts.borrow_mut()[host].listening = true;
        self.note("listen", host as u64, 0, || name(host));
        let consequences = self.net.borrow_mut().started(host);
        self.follow(consequences);
    }

    /// Ends the life of a host without warning. `silently` is a power failure: peers learn it by silence.
    pub fn crash(&self, host: usize, silently: bool) {
        let (boot, answers, shards) = {
            let mut hosts = self.hosts.borrow_mut();
            let it = &mut hosts[host];
            if !it.up {
                return;
            }
            (it.up, it.frozen) = (false, false);
            it.parked.clear();
            (it.boot, it.disk.crash(), std::mem::take(&mut it.shards))
        };
        self.note("crash", host as u64, silently.into(), || format!("{} is gone", name(host)));
        let owner = Owner::Host { host, boot };
        let tasks = self.executor.take_away(|whose| whose == owner);
        drop((tasks, answers, shards));
        let consequences = self.net.borrow_mut().stopped(host, silently);
        self.follow(consequences);
    }

    /// Stops polling a host's tasks; what is sent to it waits.
    pub fn freeze(&self, host: usize) {
        let mut hosts = self.hosts.borrow_mut();
        hosts[host].frozen = hosts[host].up;
        drop(hosts);
        self.note("freeze", host as u64, 0, || name(host));
    }

    /// Goes on polling them.
    pub fn thaw(&self, host: usize) {
        let parked = {
            let mut hosts = self.hosts.borrow_mut();
            hosts[host].frozen = false;
            std::mem::take(&mut hosts[host].parked)
        };
        self.note("thaw", host as u64, 0, || name(host));
        parked.into_iter().for_each(|ready| self.executor.put_back(ready));
    }

    /// Whether a host's doors are open.
    pub fn listens(&self, host: usize) -> bool {
        let hosts = self.hosts.borrow();
        hosts[host].up && hosts[host].listening
    }

    /// Whether a host is frozen.
    pub fn is_frozen(&self, host: usize) -> bool {
        self.hosts.borrow()[host].frozen
    }

    /// Changes a host's clock.
    pub fn set_clock(&self, host: usize, change: impl FnOnce(&mut HostClock)) {
        change(&mut self.hosts.borrow_mut()[host].clock);
    }

    /// Does something to a host's disk.
    pub fn with_disk<T>(&self, host: usize, work: impl FnOnce(&mut Disk) -> T) -> T {
        work(&mut self.hosts.borrow_mut()[host].disk)
    }

    /// Does something to the network.
    pub fn with_net(&self, work: impl FnOnce(&mut Net) -> Consequences) {
        let consequences = work(&mut self.net.borrow_mut());
        self.follow(consequences);
    }

    /// Puts down in the log how often faults of the network and of disks took effect.
    pub fn count_bites(&self) {
        let mut log = self.log.borrow_mut();
        let mut note = |bites: &crate::net::Bites| {
            bites.iter().for_each(|(what, many)| log.count_many(what, *many));
        };
        note(&self.net.borrow().bites);
        self.hosts.borrow().iter().for_each(|host| note(&host.disk.bites));
    }

    /// How long something takes from one host to another, or between a client and a host.
    pub fn net_delay(&self, from: usize, to: usize) -> u64 {
        self.net.borrow_mut().delay(from, to)
    }

    /// Tells a shard something, unless its host has begun another life.
    pub fn tell(&self, host: usize, boot: u32, shard: usize, event: Event) {
        let reader = {
            let mut hosts = self.hosts.borrow_mut();
            let it = &mut hosts[host];
            if !it.up || it.boot != boot {
                return;
            }
            it.shards[shard].inbox.push_back(event);
            it.shards[shard].reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Puts a fact on the agenda of a shard.
    pub fn tell_later(&self, delay: u64, host: usize, boot: u32, shard: usize, fact: Fact) {
        self.at(delay, Happening::Fact { host, boot, shard, fact });
    }

    /// Lets the world run until a true time, or until trouble.
    pub fn run_until(&self, until: u64) {
        while self.trouble.borrow().is_none() {
            self.poll_all();
            let Some((at, what)) = self.next_before(until) else { break };
            self.now.set(at);
            self.happen(what);
        }
        self.now.set(self.now().max(until));
    }

    /// Lets the world run until this is done; `None` after `limit` nanoseconds, or trouble.
    pub fn run_for<T: 'static>(&self, limit: u64, work: impl Future<Output = T> + 'static) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let to = result.clone();
        self.spawn(Owner::Harness, "driver", async move {
            let value = work.await;
            *to.borrow_mut() = Some(value);
        });
        let until = self.now() + limit;
        while self.trouble.borrow().is_none() {
            self.poll_all();
            if result.borrow().is_some() {
                break;
            }
            let Some((at, what)) = self.next_before(until) else { break };
            self.now.set(at);
            self.happen(what);
        }
        result.take()
    }

    /// Ends the world: every task is dropped, so that nothing keeps it alive.
    pub fn end(&self) {
        for host in self.hosts.borrow_mut().iter_mut() {
            host.up = false;
            host.parked.clear();
        }
        drop(self.executor.take_away(|_| true));
        let shards: Vec<Vec<Shard>> =
            self.hosts.borrow_mut().iter_mut().map(|host| std::mem::take(&mut host.shards)).collect();
        drop(shards);
        let agenda = std::mem::take(&mut *self.agenda.borrow_mut());
        drop(agenda);
    }

    /// Writes into the log.
    pub fn note(&self, kind: &'static str, a: u64, b: u64, text: impl FnOnce() -> String) {
        self.log.borrow_mut().event(self.now(), kind, a, b, text);
    }

    /// Ends the run: the first trouble counts.
    pub fn fail(&self, rule: &'static str, text: String) {
        self.note("TROUBLE", 0, 0, || format!("{rule}: {text}"));
        self.trouble.borrow_mut().get_or_insert(Trouble { rule, text });
    }

    /// Sends a frame; `false` says that it never left.
    pub(crate) fn send(&self, from: usize, to: NodeId, message: &Message) -> bool {
        let Some(to) = host_of(to).filter(|&to| to < self.host_count()) else { return false };
        let sent = self.net.borrow_mut().send(from, to);
        let Some((connection, arrivals)) = sent else {
            self.note("unsent", from as u64, to as u64, || {
                format!("{} to {}: {message:?}", name(from), name(to))
            });
            return false;
        };
        let mut frame = BytesMut::new();
        if let Err(error) = peer::encode(message, &mut frame) {
            self.fail("codec", format!("{message:?} cannot be framed: {error}"));
            return false;
        }
        let frame = frame.freeze();
        let hash = xxhash_rust::xxh3::xxh3_64(&frame);
        self.note("send", ((from as u64) << 32) | to as u64, hash ^ arrivals.len() as u64, || {
            format!("{} to {}, {} copies: {message:?}", name(from), name(to), arrivals.len())
        });
        for delay in arrivals {
            self.at(delay, Happening::Frame(Flight { from, to, connection }, frame.clone()));
        }
        true
    }

    /// Puts the end of a sync on the agenda.
    pub(crate) fn sync_ends(&self, delay: u64, host: usize, boot: u32) {
        self.at(delay, Happening::Synced { host, boot });
    }

    /// Puts a timer on the agenda.
    pub(crate) fn timer_fires(&self, at: u64, slot: usize, generation: u64) {
        self.at(at.saturating_sub(self.now()), Happening::Timer(slot, generation));
    }

    fn at(&self, delay: u64, what: Happening) {
        self.agenda.borrow_mut().add(self.now().saturating_add(delay), what);
    }

    /// The next thing that happens up to `until`; cancelled timers are none.
    fn next_before(&self, until: u64) -> Option<(u64, Happening)> {
        self.agenda.borrow_mut().next_before(until, &self.timers.borrow())
    }

    fn happen(&self, what: Happening) {
        self.events.set(self.events.get() + 1);
        match what {
            Happening::Timer(slot, generation) => {
                let waker = self.timers.borrow_mut().fire(slot, generation);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Happening::Frame(flight, frame) => self.frame_arrives(flight, frame),
            Happening::Net(Later::Notice { host, peer, number }) => {
                let consequences = self.net.borrow_mut().notice(host, peer, number);
                self.follow(consequences);
            }
            Happening::Net(Later::Dial(a, b)) => {
                // Whoever is down dials once its doors are open; whoever is frozen or cut off is dialled again.
                if self.listens(a) && self.listens(b) {
                    let able = !self.is_frozen(a) && !self.is_frozen(b);
                    let consequences = self.net.borrow_mut().dial(a, b, able);
                    self.follow(consequences);
                } else {
                    self.net.borrow_mut().hang_up(a, b);
                }
            }
            Happening::Synced { host, boot } => self.sync_ended(host, boot),
            Happening::Fact { host, boot, shard, fact } => self.tell(host, boot, shard, Event::Fact(fact)),
        }
    }

    fn frame_arrives(&self, flight: Flight, frame: Bytes) {
        let Flight { from, to, connection } = flight;
        let (known, consequences) = self.net.borrow_mut().arrive(flight);
        self.follow(consequences);
        let Some(boot) = self.boot_of(to).filter(|_| known) else { return };
        match decode(frame) {
            Ok(message) => {
                let shard = message.shard(self.shards);
                self.note("arrive", ((from as u64) << 32) | to as u64, message.correlation, || {
                    format!("{} from {}: {}", name(to), name(from), kind(&message))
                });
                self.tell(to, boot, shard, Event::Message { from: node_id(from), connection, message });
            }
            Err(error) => self.fail("codec", format!("a frame of {} to {}: {error}", name(from), name(to))),
        }
    }

    fn sync_ended(&self, host: usize, boot: u32) {
        if self.boot_of(host) != Some(boot) {
            return;
        }
        let (told, next) = self.with_disk(host, Disk::end_sync);
        self.note("synced", host as u64, told.len() as u64, || {
            format!("{}: {} batches", name(host), told.len())
        });
        if let Some(delay) = next {
            self.sync_ends(delay, host, boot);
        }
        for (answer, result) in told {
            // Whoever asked may be gone; the batch is durable all the same.
            let _ = answer.send(result);
        }
    }

    fn follow(&self, consequences: Consequences) {
        for told in consequences.told {
            let (host, event) = match told {
                Told::Up(host, peer) => (host, Event::PeerUp(node_id(peer))),
                Told::Down(host, peer) => (host, Event::PeerDown(node_id(peer))),
                Told::Refused(host, _) => (host, Event::Fact(Fact::Removed)),
            };
            self.note("link", host as u64, 0, || format!("{}: {event:?}", name(host)));
            let Some(boot) = self.boot_of(host) else { continue };
            (0..self.shards).for_each(|shard| self.tell(host, boot, shard, event.clone()));
        }
        for (delay, later) in consequences.later {
            self.at(delay, Happening::Net(later));
        }
    }

    /// Polls until nothing is ready.
    fn poll_all(&self) {
        for _ in 0..POLLS_PER_INSTANT_MAX {
            let Some(ready) = self.executor.next_ready(&mut self.scheduler.borrow_mut()) else { return };
            if let Owner::Host { host, .. } = ready.owner
                && self.is_frozen(host)
            {
                self.hosts.borrow_mut()[host].parked.push(ready);
                continue;
            }
            let label = ready.name;
            self.note("poll", label.len() as u64, self.polls(), || label.to_string());
            let polled = armed::while_armed(|| self.executor.poll(ready));
            if let Polled::Panicked { name, message } = polled {
                return self.fail(
                    "panic",
                    format!("task '{name}' panicked at {}: {message}", crate::batch::panic_place()),
                );
            }
            if let Some(call) = armed::take_report() {
                return self.fail("trip-wire", format!("task '{label}' touched the outside: {call}"));
            }
        }
        self.fail("livelock", format!("{POLLS_PER_INSTANT_MAX} polls and time stands still"));
    }
}

/// The node id of a host.
pub fn node_id(host: usize) -> NodeId {
    NodeId(host as u64 + 1)
}

/// The host of a node id.
pub fn host_of(node: NodeId) -> Option<usize> {
    usize::try_from(node.0).ok()?.checked_sub(1)
}

/// What people call a host.
pub fn name(host: usize) -> String {
    format!("n{}", host + 1)
}

/// The name of a message's variant.
fn kind(message: &Message) -> String {
    let shown = format!("{:?}", message.body);
    shown.split([' ', '{']).next().unwrap_or_default().to_string()
}

fn decode(frame: Bytes) -> Result<Message, gramme_wire::WireError> {
    let mut buffer = BytesMut::from(frame);
    match FrameReader::new().next(&mut buffer)? {
        Some(frame) => peer::decode(frame.body),
        None => Err(gramme_wire::WireError::Malformed),
    }
}

/// A task that wakes itself for ever would stop the clock: no run needs this many polls at one instant.
const POLLS_PER_INSTANT_MAX: u32 = 50_000;
