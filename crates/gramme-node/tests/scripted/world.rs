//! A world in which the test is everyone else: it owns the clock and the disk's moods, hears what the node
//! says and answers for its peers. Tasks run only when they were woken, so a lost wake-up shows as a hang.

mod disk;
mod said;

pub use disk::*;
pub use said::*;

use gramme_core::codec::decode_record;
use gramme_core::gossip::NodeFact;
use gramme_core::layout::Member;
use gramme_core::{Layout, NodeId, PartitionId, Record, Seen, StoreId};
use gramme_node::request::{Call, Request, Response};
use gramme_node::{Env, Event, Fact, Mono, Node, Options, Probe, Trust, Upkeep};
use gramme_storage::memory::MemoryEngine;
use gramme_wire::{Body, Compared, Digest, Done, Failure, Life, Message, Reconcile, Standing};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Wake, Waker};

/// All keys lie in the one partition of these stories.
pub const PARTITION: PartitionId = PartitionId(0);

/// The wall clock where a story's own clock would be zero.
pub const WALL_MS: u64 = 1_000_000;

/// A node under test, alone with the test.
pub struct Story {
    pub world: Rc<World>,
    pub node: Node<ScriptEnv>,
    /// The preference list: the homes, then the fallbacks.
    pub list: Vec<NodeId>,
    /// How many homes there are.
    pub copies: usize,
}

/// Something the node said to a peer.
#[derive(Clone, Debug)]
pub struct Said {
    pub to: NodeId,
    pub correlation: u64,
    pub body: Body,
}

/// What a call will come to.
pub struct Pending(Rc<RefCell<Option<Response>>>);

impl Story {
    /// The node is the key's first home, and every peer is connected.
    pub fn at_home() -> Story {
        Story::open(0, MemoryEngine::new(), Standing::Continuous)
    }

    /// The node is the key's first fallback, and every peer is connected.
    pub fn at_fallback() -> Story {
        Story::open(3, MemoryEngine::new(), Standing::Continuous)
    }

    /// The node is the key's only home: N is 1.
    pub fn at_only_home() -> Story {
        Story::live_on(1, 0, MemoryEngine::new(), Standing::Continuous, 1, false)
    }

    /// The node has this place in the preference list, this disk and this standing.
    pub fn open(place: usize, memory: MemoryEngine, standing: Standing) -> Story {
        Story::live(place, memory, standing, 1)
    }

    /// The node of another story after a restart: the same disk, other dice.
    pub fn reopened(before: &Story, memory: MemoryEngine) -> Story {
        let me = before.node.status().node;
        let place = before.list.iter().position(|&id| id == me).expect("it is a member");
        Story::live_on(before.copies, place, memory, Standing::Continuous, before.world.dice.get(), false)
    }

    /// The same on a disk that has no room.
    pub fn reopened_full(before: &Story, memory: MemoryEngine) -> Story {
        Story::live_on(3, 0, memory, Standing::Continuous, before.world.dice.get(), true)
    }

    /// The same node after a restart: what it had at hand is on the disk alone.
    pub fn with_a_cold_cache(self) -> Story {
        Story::reopened(&self, self.world.disk.memory.clone())
    }

    fn live(place: usize, memory: MemoryEngine, standing: Standing, dice: u64) -> Story {
        Story::live_on(3, place, memory, standing, dice, false)
    }

    /// At home, and no peer has yet said what it remembers of the node.
    pub fn unasked(memory: MemoryEngine) -> Story {
        let story = Story::starting(3, 0, memory, Standing::Continuous, 1, false);
        story.heard();
        story
    }

    fn live_on(
        copies: usize,
        place: usize,
        memory: MemoryEngine,
        standing: Standing,
        dice: u64,
        full: bool,
    ) -> Story {
        let story = Story::starting(copies, place, memory, standing, dice, full);
        story.agree();
        story.heard();
        story
    }

    /// Five members, so many copies of one partition.
    pub fn layout(copies: usize) -> Layout {
        let members = (1..=5).map(|id| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("n{id}:1"),
            http: format!("n{id}:2"),
            zone: "here".to_string(),
            weight: 1,
        });
        Layout::first(members.collect(), copies, 1).expect("five members are enough")
    }

    fn starting(
        copies: usize,
        place: usize,
        memory: MemoryEngine,
        standing: Standing,
        dice: u64,
        full: bool,
    ) -> Story {
        #[cfg(feature = "planted")]
        crate::planted::plant_what_is_asked_for();
        let layout = Story::layout(copies);
        let list = layout.preference_list(PARTITION).to_vec();
        let world = World::new(memory, dice);
        world.disk.fill(full);
        let options = Options {
            fact: NodeFact { name: format!("n{}", list[place].0), ..NodeFact::default() },
            id: list[place],
            layout: Arc::new(layout),
            secret: [7; 16],
            shard: 0,
            shards: 1,
            store: StoreId(1),
            trust: if standing == Standing::Continuous { Trust::Continuous } else { Trust::Proving },
            cache_bytes: 1 << 20,
            hint_bytes_max: 1 << 20,
            request_ms: 1000,
            upkeep: Upkeep::default(),
            exchange: true,
            reclaim: true,
        };
        let env = ScriptEnv(world.clone());
        let opened = Rc::new(RefCell::new(None));
        let slot = opened.clone();
        world.spawn(Box::pin(async move { *slot.borrow_mut() = Some(Node::open(env, options).await) }));
        world.run();
        let node = opened.borrow_mut().take().expect("it opens at once").expect("the disk is sound");
        world.spawn(Box::pin(node.clone().run()));
        let story = Story { world, node, list, copies };
        for peer in story.others() {
            story.happens(Event::PeerUp(peer));
        }
        story
    }

    /// Every peer that was told what the node has seen has seen the same, and remembers nothing else of it.
    pub fn agree(&self) {
        let said: Vec<Said> = self.world.said.borrow().clone();
        for said in said {
            let Body::Digests { digests } = &said.body else { continue };
            let equal = |digest: &Digest| Compared {
                partition: digest.partition,
                life: Life { number: 5, standing: Standing::Continuous },
                difference: None,
            };
            self.answers(&said, Body::DigestsReply { compared: digests.iter().map(equal).collect() });
        }
    }

    /// Every other member.
    pub fn others(&self) -> Vec<NodeId> {
        let me = self.node.status().node;
        self.list.iter().copied().filter(|&id| id != me).collect()
    }

    /// A client asks.
    pub fn asks(&self, request: Request) -> Pending {
        let slot = Rc::new(RefCell::new(None));
        let (node, answer) = (self.node.clone(), slot.clone());
        self.world.spawn(Box::pin(async move {
            let response = node.call(Call { timeout_ms: 1000, request }).await;
            *answer.borrow_mut() = Some(response);
        }));
        self.world.run();
        Pending(slot)
    }

    /// These nodes cannot be reached from now on.
    pub fn lose(&self, lost: &[NodeId]) {
        for &peer in lost {
            self.world.unreachable.borrow_mut().insert(peer);
            self.happens(Event::PeerDown(peer));
        }
    }

    /// What the node has said since the last look, pings and gossip apart.
    pub fn heard(&self) -> Vec<Said> {
        let mut said = std::mem::take(&mut *self.world.said.borrow_mut());
        said.retain(|s| {
            !matches!(
                s.body,
                Body::Ping
                    | Body::BucketsDigest { .. }
                    | Body::Buckets { .. }
                    | Body::Reconcile(_)
                    | Body::Digests { .. }
            )
        });
        said
    }

    /// What of the cluster it has told whom since the last look; what else it said is forgotten.
    pub fn reconciled(&self) -> Vec<(NodeId, Reconcile)> {
        let said = std::mem::take(&mut *self.world.said.borrow_mut());
        let step = |said: Said| match said.body {
            Body::Reconcile(step) => Some((said.to, step)),
            _ => None,
        };
        said.into_iter().filter_map(step).collect()
    }

    /// The digests that it has told this peer since the last look; what else it said is forgotten.
    pub fn digests_to(&self, peer: NodeId) -> Option<Said> {
        let said = std::mem::take(&mut *self.world.said.borrow_mut());
        said.into_iter().rfind(|said| said.to == peer && matches!(said.body, Body::Digests { .. }))
    }

    /// What it has durably seen, as it tells whoever asks.
    pub fn seen(&self) -> (Life, Seen) {
        self.peer_says(self.list[3], 77, 500_000, Body::AskSeen);
        let said = self.heard().into_iter().rfind(|said| said.correlation == 77);
        match said.map(|said| said.body) {
            Some(Body::SeenReply { life, seen }) => (life, seen),
            other => panic!("it should say what it has seen: {other:?}"),
        }
    }

    /// What it answers a peer that reads a key.
    pub fn shows(&self, name: &str) -> (Standing, Record) {
        self.peer_says(self.list[1], 78, 500_000, Body::Read { key: key(name) });
        let said = self.heard().into_iter().rfind(|said| said.correlation == 78);
        match said.map(|said| said.body) {
            Some(Body::ReadReply { standing, record, .. }) => {
                (standing, record.map(|record| decode_record(&record).expect("sound")).unwrap_or_default())
            }
            other => panic!("it should answer a read: {other:?}"),
        }
    }

    /// Who was told what, in one word each, since the last look.
    pub fn heard_words(&self) -> Vec<(NodeId, &'static str)> {
        self.heard().iter().map(|said| (said.to, word(&said.body))).collect()
    }

    /// A peer answers what was said to it.
    pub fn answers(&self, said: &Said, body: Body) {
        self.peer_says(said.to, said.correlation, 0, body);
    }

    /// A peer says something with this much time left.
    pub fn peer_says(&self, from: NodeId, correlation: u64, remaining_us: u32, body: Body) {
        let sent_ns = self.world.now.get();
        let message = Message { correlation, partition: PARTITION, remaining_us, sent_ns, body };
        self.happens(Event::Message { from, connection: 1, message });
    }

    /// Something happens to the node.
    pub fn happens(&self, event: Event) {
        self.world.post(event);
        self.world.run();
    }

    /// Time passes, and everything that it brings about happens.
    pub fn pass_ms(&self, ms: u64) {
        let end = self.world.now.get() + ms * 1_000_000;
        while let Some(at) = self.world.next_timer().filter(|&at| at <= end) {
            self.world.now.set(self.world.now.get().max(at));
            self.world.ring_timers();
            self.world.run();
        }
        self.world.now.set(end);
    }

    /// The process stands still for so long; nothing runs yet when it goes on.
    pub fn freeze_ms(&self, ms: u64) {
        self.world.now.set(self.world.now.get() + ms * 1_000_000);
    }
}

impl Pending {
    /// The answer; it must have come.
    pub fn response(&self) -> Response {
        self.0.borrow_mut().take().expect("the call has been answered")
    }

    pub fn is_open(&self) -> bool {
        self.0.borrow().is_none()
    }

    pub fn done(&self) -> Done {
        match self.response() {
            Response::Done(done) => *done,
            other => panic!("the put should have succeeded: {other:?}"),
        }
    }

    pub fn got(&self) -> gramme_node::request::Got {
        match self.response() {
            Response::Got(got) => *got,
            other => panic!("the get should have succeeded: {other:?}"),
        }
    }

    pub fn listed(&self) -> gramme_node::request::Listed {
        match self.response() {
            Response::Listed(listed) => listed,
            other => panic!("the list should have succeeded: {other:?}"),
        }
    }

    pub fn failure(&self) -> Failure {
        match self.response() {
            Response::Failed(failure) => *failure,
            other => panic!("it should have failed: {other:?}"),
        }
    }
}

/// Everything that is not the node.
pub struct World {
    now: Cell<u64>,
    dice: Cell<u64>,
    timers: RefCell<Vec<(u64, Waker)>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    spawned: Cell<u64>,
    ready: Arc<Mutex<Vec<u64>>>,
    inbox: RefCell<VecDeque<Event>>,
    reader: RefCell<Option<Waker>>,
    said: RefCell<Vec<Said>>,
    pub unreachable: RefCell<BTreeSet<NodeId>>,
    /// Peers that do not answer pings; the rest is the story's to leave unanswered.
    pub frozen: RefCell<BTreeSet<NodeId>>,
    pub probes: RefCell<Vec<Probe>>,
    /// What the node has told the outside of its ring.
    pub rings: RefCell<Vec<Arc<gramme_node::Ring>>>,
    pub disk: ScriptEngine,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Alarm {
    id: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push(self.id);
    }
}

impl World {
    fn new(memory: MemoryEngine, dice: u64) -> Rc<World> {
        Rc::new(World {
            now: Cell::new(1_000_000_000),
            dice: Cell::new(dice),
            timers: RefCell::default(),
            tasks: RefCell::default(),
            spawned: Cell::new(0),
            ready: Arc::default(),
            inbox: RefCell::default(),
            reader: RefCell::default(),
            said: RefCell::default(),
            unreachable: RefCell::default(),
            frozen: RefCell::default(),
            probes: RefCell::default(),
            rings: RefCell::default(),
            disk: ScriptEngine::new(memory),
        })
    }

    /// The story's own clock.
    pub fn now_ms(&self) -> u64 {
        self.now.get() / 1_000_000
    }

    /// Sets the clock; nothing that was due meanwhile has run yet.
    pub fn set_now_ms(&self, ms: u64) {
        self.now.set(ms * 1_000_000);
        self.ring_timers();
    }

    /// Adds a task.
    pub fn spawn_task(&self, work: impl Future<Output = ()> + 'static) {
        self.spawn(Box::pin(work));
    }

    /// How often the node reported this.
    pub fn probed(&self, probe: Probe) -> usize {
        self.probes.borrow().iter().filter(|&&seen| seen == probe).count()
    }

    /// How many tasks have not ended.
    pub fn tasks_alive(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Polls whoever was woken until nobody is.
    pub fn run(&self) {
        loop {
            let ready = std::mem::take(&mut *self.ready.lock().unwrap());
            if ready.is_empty() {
                return;
            }
            for id in ready {
                let Some(mut work) = self.tasks.borrow_mut().remove(&id) else { continue };
                let waker = Waker::from(Arc::new(Alarm { id, ready: self.ready.clone() }));
                if work.as_mut().poll(&mut Cx::from_waker(&waker)).is_pending() {
                    self.tasks.borrow_mut().insert(id, work);
                }
            }
        }
    }

    fn spawn(&self, work: Task) {
        let id = self.spawned.get() + 1;
        self.spawned.set(id);
        self.tasks.borrow_mut().insert(id, work);
        self.ready.lock().unwrap().push(id);
    }

    fn post(&self, event: Event) {
        self.inbox.borrow_mut().push_back(event);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn next_timer(&self) -> Option<u64> {
        self.timers.borrow().iter().map(|timer| timer.0).min()
    }

    fn ring_timers(&self) {
        let now = self.now.get();
        let (due, later) = self.timers.take().into_iter().partition(|timer| timer.0 <= now);
        *self.timers.borrow_mut() = later;
        let due: Vec<(u64, Waker)> = due;
        due.into_iter().for_each(|timer| timer.1.wake());
    }
}

#[derive(Clone)]
pub struct ScriptEnv(Rc<World>);

impl Env for ScriptEnv {
    type Engine = ScriptEngine;

    fn now(&self) -> Mono {
        Mono(self.0.now.get())
    }

    fn wall_ms(&self) -> u64 {
        WALL_MS + self.0.now.get() / 1_000_000
    }

    fn random(&self) -> u64 {
        // splitmix64
        let state = self.0.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.dice.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + 'static {
        let world = self.0.clone();
        poll_fn(move |cx| {
            if world.now.get() >= at.0 {
                return Poll::Ready(());
            }
            world.timers.borrow_mut().push((at.0, cx.waker().clone()));
            Poll::Pending
        })
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(Box::pin(task));
    }

    fn send(&self, to: NodeId, message: Message) -> bool {
        if self.0.unreachable.borrow().contains(&to) {
            return false;
        }
        let Message { correlation, body, partition, .. } = message;
        if body == Body::Ping && !self.0.frozen.borrow().contains(&to) {
            let pong = Message { correlation, remaining_us: 0, partition, sent_ns: 0, body: Body::Pong };
            self.0.post(Event::Message { from: to, connection: 1, message: pong });
        }
        self.0.said.borrow_mut().push(Said { to, correlation, body });
        true
    }

    async fn recv_many(&self, events: &mut Vec<Event>, max: usize) {
        poll_fn(|cx| {
            let mut inbox = self.0.inbox.borrow_mut();
            if inbox.is_empty() {
                *self.0.reader.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = inbox.len().min(max);
            events.extend(inbox.drain(..count));
            Poll::Ready(())
        })
        .await;
    }

    fn tell_shards(&self, _fact: Fact) {}

    fn engine(&self) -> &ScriptEngine {
        &self.0.disk
    }

    fn ring_is(&self, ring: Arc<gramme_node::Ring>) {
        self.0.rings.borrow_mut().push(ring);
    }

    fn probe(&self, probe: Probe) {
        self.0.probes.borrow_mut().push(probe);
    }
}
