//! One shard of one node: what it owns, how it starts, and the loop that serves peers and clients.
//!
//! Invariant: a partition's records change only on the shard that owns it, one row at a time; everything that
//! this node acknowledges is durable before the acknowledgement leaves.

mod heard;
mod known;

use crate::admission::Admission;
use crate::change::install::{self, Shift};
use crate::change::leave::{self, Left};
use crate::change::transfers::{self, Transfers};
use crate::change::{Changing, Remembered, commit, load_acceptor, stage, status, steps};
use crate::closing::{self, AllEnds, Closing, Ends};
use crate::cluster_gossip::{self, ClusterGossip};
use crate::coordinate;
use crate::coordinate::Repairs;
use crate::detector::Detector;
use crate::env::{Env, Mono, Trust};
use crate::exchange::{self, Exchange};
use crate::fan_out::Routes;
use crate::gossip;
use crate::hints::{HintStores, handoff};
use crate::live::Live;
use crate::mend;
use crate::once::Once;
use crate::probe::{Operation, Probe};
use crate::pulse::Pulse;
use crate::reclaim;
use crate::replica::Replica;
use crate::request::{Call, Get, Got, Request, Response};
use crate::rows::{self, KIND_REPLICA};
use crate::signal::Signal;
use crate::store::Store;
use crate::transit::Transit;
use crate::trees::{self, Trees, Upkeep, repair};
use gramme_core::bucket::Buckets;
use gramme_core::context::Secret;
use gramme_core::gossip::NodeFact;
use gramme_core::limits::IN_FLIGHT_MAX;
use gramme_core::{Hlc, Layout, NodeId, PartitionId, StoreId};
use gramme_storage::{Engine, EngineError};
use gramme_wire::{Body, Done, Failure, Put, Reason};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which node.
    pub id: NodeId,
    /// The first layout, of the cluster file.
    pub layout: Arc<Layout>,
    /// The cluster's secret, under which contexts are signed.
    pub secret: Secret,
    /// Which of the node's shards.
    pub shard: usize,
    /// How many there are.
    pub shards: usize,
    /// What this node says of itself to the others.
    pub fact: NodeFact,
    /// The data directory's life.
    pub store: StoreId,
    /// What is known of that directory.
    pub trust: Trust,
    /// Decoded records kept at hand, in bytes.
    pub cache_bytes: usize,
    /// What this shard may keep in hints for others, in bytes.
    pub hint_bytes_max: u64,
    /// A request's time if its client says nothing, in milliseconds.
    pub request_ms: u64,
    /// How often the work is done that nobody asks for.
    pub upkeep: Upkeep,
    /// Whether homes compare and pull without being asked: off only where read repair is tried by itself.
    pub exchange: bool,
    /// Whether tombstones and clocks that every home has seen are let go of.
    pub reclaim: bool,
}

/// A handle to one shard; clones share it.
pub struct Node<E: Env>(pub(crate) Rc<Inner<E>>);

impl<E: Env> Clone for Node<E> {
    fn clone(&self) -> Node<E> {
        Node(self.0.clone())
    }
}

pub(crate) struct Inner<E: Env> {
    pub(crate) env: E,
    pub(crate) options: Options,
    pub(crate) store: Rc<Store<E>>,
    pub(crate) trees: Rc<Trees>,
    pub(crate) hlc: Rc<RefCell<Hlc>>,
    /// The layouts by which this shard works.
    pub(crate) live: RefCell<Rc<Live>>,
    pub(crate) homes: RefCell<BTreeMap<PartitionId, Rc<Replica<E>>>>,
    /// Partitions of which this node is a home no longer, and that it still keeps.
    pub(crate) left: RefCell<BTreeMap<PartitionId, Rc<Left<E>>>>,
    pub(crate) shift: Shift,
    pub(crate) changing: Changing,
    pub(crate) transfers: Transfers,
    pub(crate) ends: Rc<AllEnds>,
    pub(crate) closing: Closing,
    pub(crate) hints: HintStores<E>,
    pub(crate) buckets: RefCell<Buckets>,
    pub(crate) cluster: ClusterGossip,
    pub(crate) detector: Rc<RefCell<Detector>>,
    pub(crate) routes: Rc<Routes<E>>,
    pub(crate) transit: RefCell<Transit>,
    pub(crate) once: RefCell<Once>,
    pub(crate) pulse: RefCell<Pulse>,
    pub(crate) trust: Cell<Trust>,
    pub(crate) hedges: Cell<u64>,
    pub(crate) exchange: Exchange<E>,
    pub(crate) repairs: RefCell<Repairs>,
    admission: Rc<Admission<E>>,
    disk_stalls: Cell<bool>,
    in_flight: Cell<usize>,
    late: Cell<usize>,
    /// Requests of peers that wait for the disk.
    pub(crate) served: Cell<usize>,
    draining: Cell<bool>,
    /// Whether a peer has refused this node as one that was removed, and most have not taken it for a member since: those
    /// who have may be removed too. Its own directory may know nothing of that: it is empty, or an old copy.
    pub(crate) shunned: Cell<bool>,
    idle: Signal,
}

impl<E: Env> Node<E> {
    /// Opens the shard: reads its seen clocks and bucket settings back, and gives every partition replica a new
    /// incarnation, durable in one batch before this resolves. On a full disk it opens to reads alone: no write is
    /// taken before that batch is durable.
    pub async fn open(env: E, options: Options) -> Result<Node<E>, EngineError> {
        let admission = Admission::new(env.clone());
        let store = Store::new(env.clone(), options.cache_bytes, admission.clone());
        env.spawn("commit", store.clone().commit_for_ever());
        env.spawn("admission", admission.clone().hand_out_for_ever());
        let hlc = Rc::new(RefCell::new(Hlc::default()));
        let remembered = Remembered::load(&env, &options).await?;
        let live = remembered.live(&options);
        let (mut homes, mut left) = (BTreeMap::new(), BTreeMap::new());
        let mut ends = AllEnds::new();
        for partition in own_partitions(&options) {
            ends.insert(partition, Rc::new(Ends::load(&env, partition).await?));
        }
        let ends = Rc::new(ends);
        let hints = HintStores::new(
            env.clone(),
            options.id,
            store.clone(),
            hlc.clone(),
            ends.clone(),
            options.hint_bytes_max,
        );
        let trees = Rc::new(Trees::new(&options.upkeep));
        for partition in own_partitions(&options) {
            hints.load(partition).await?;
            let is_home = live.is_home(partition, options.id);
            if !is_home && !is_kept(&env, partition).await? {
                continue;
            }
            let (env, store, hlc) = (env.clone(), store.clone(), hlc.clone());
            let ends = ends[&partition].clone();
            let is_kept = is_kept(&env, partition).await?;
            let home = Replica::open(env.clone(), options.id, store, hlc, partition, ends).await?;
            // What was left may become a home again; its tree is kept from then on.
            home.watched_by(trees.clone());
            if !is_home {
                left.insert(partition, Rc::new(Left::new(Rc::new(home))));
                continue;
            }
            trees.watch(&env, partition).await?;
            home.set_only_home(live.reads().homes(partition) == [options.id]);
            // The homes of the first layout begin with all there is: nothing.
            let is_first =
                remembered.is_at_the_beginning(&options) && live.reads().is_home(partition, options.id);
            if !is_kept && !is_first {
                home.begin_new()?;
            } else if options.trust == Trust::Lost {
                home.lost_unless_refilled()?;
            }
            homes.insert(partition, Rc::new(home));
        }
        let buckets = gossip::load_buckets(&env).await?;
        let Remembered { known, chain, .. } = remembered;
        let acceptor = match options.trust {
            // A disk that was lost has lost with it what was promised.
            Trust::Lost => None,
            _ => load_acceptor(&env, &chain).await?,
        };
        let cluster = ClusterGossip::open(&env, &options, known, &store, &hlc)?;
        let changing = Changing::new(chain, acceptor, live.clone());
        match store.wait_all().await {
            // Nothing is minted before there is room, and reads need none.
            Ok(()) | Err(EngineError::Full) => {}
            Err(cause) => return Err(cause),
        }
        let peers = live.members().iter().filter(|&&id| id != options.id).filter_map(|&id| live.member(id));
        let detector = Rc::new(RefCell::new(Detector::new(peers)));
        let routes = Routes::new(env.clone(), options.shard, detector.clone());
        let pulse = RefCell::new(Pulse::new(env.now()));
        let node = Node(Rc::new(Inner {
            trust: Cell::new(options.trust),
            env,
            options,
            store,
            hlc,
            trees,
            live: RefCell::new(Rc::new(live)),
            homes: RefCell::new(homes),
            left: RefCell::new(left),
            shift: Shift::default(),
            changing,
            transfers: Transfers::default(),
            ends,
            closing: Closing::default(),
            hints,
            buckets: RefCell::new(buckets),
            cluster,
            detector,
            routes,
            transit: RefCell::default(),
            once: RefCell::default(),
            pulse,
            hedges: Cell::new(0),
            exchange: Exchange::default(),
            repairs: RefCell::default(),
            admission,
            disk_stalls: Cell::new(false),
            in_flight: Cell::new(0),
            late: Cell::new(0),
            served: Cell::new(0),
            draining: Cell::new(false),
            shunned: Cell::new(false),
            idle: Signal::default(),
        }));
        if node.0.options.shard == 0 {
            if node.0.options.trust == Trust::Lost {
                commit::forget(&node);
            }
            steps::tell_outside(&node);
        }
        Ok(node)
    }

    /// Opens a home of a partition that this shard owns, as its disk remembers it.
    pub(crate) async fn open_home(&self, partition: PartitionId) -> Result<Rc<Replica<E>>, EngineError> {
        let inner = &self.0;
        let (env, store, hlc) = (inner.env.clone(), inner.store.clone(), inner.hlc.clone());
        let ends = inner.ends[&partition].clone();
        let home = Replica::open(env, self.id(), store, hlc, partition, ends).await?;
        home.watched_by(inner.trees.clone());
        Ok(Rc::new(home))
    }

    /// The partitions that this shard owns.
    pub(crate) fn own_partitions(&self) -> impl Iterator<Item = PartitionId> + use<E> {
        own_partitions(&self.0.options)
    }

    /// What a former home keeps of a partition, if this node is one and still has something.
    pub(crate) fn left(&self, partition: PartitionId) -> Option<Rc<Replica<E>>> {
        self.0.left.borrow().get(&partition).map(|left| left.replica().clone())
    }

    /// What `look` finds, looking again whenever the signal is given; `None` if the time has come before.
    pub(crate) async fn until<T>(
        &self,
        until: Mono,
        signal: &Signal,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut timer = pin!(self.0.env.sleep_until(until));
        poll_fn(|cx| {
            if let Some(found) = look() {
                return Poll::Ready(Some(found));
            }
            signal.register(cx);
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Serves peers for ever; to be spawned once the shard is open.
    pub async fn run(self) {
        self.0.env.spawn("pulse", self.clone().beat_for_ever());
        self.0.env.spawn("handoff", handoff::for_ever(self.clone()));
        self.0.env.spawn("layouts", install::for_ever(self.clone()));
        self.0.env.spawn("hand over", leave::for_ever(self.clone()));
        self.0.env.spawn("mend", mend::for_ever(self.clone()));
        self.0.env.spawn("name what is damaged", mend::names::for_ever(self.clone()));
        if self.0.options.exchange {
            self.0.env.spawn("exchange", exchange::for_ever(self.clone()));
        }
        if self.0.options.reclaim {
            self.0.env.spawn("reclaim", reclaim::for_ever(self.clone()));
            self.0.env.spawn("closing", closing::for_ever(self.clone()));
        }
        if self.0.options.shard == 0 {
            self.0.env.spawn("gossip", gossip::for_ever(self.clone()));
            self.0.env.spawn("cluster gossip", cluster_gossip::for_ever(self.clone()));
            self.0.env.spawn("cluster news", cluster_gossip::take_for_ever(self.clone()));
            self.0.env.spawn("vote again", commit::recover_for_ever(self.clone()));
        }
        trees::begin(&self);
        let mut events = Vec::new();
        loop {
            self.0.env.recv_many(&mut events, EVENTS_MAX).await;
            self.beat();
            for event in events.drain(..) {
                self.take(event);
            }
        }
    }

    /// Serves one call and resolves with its answer. The work goes on if the caller goes away: a put is never
    /// abandoned after its append.
    pub async fn call(&self, call: Call) -> Response {
        if call.request.is_of_data()
            && let Err(reason) = self.admit()
        {
            return failed(Failure::not_applied(reason));
        }
        let deadline = self.0.env.now() + Duration::from_millis(call.timeout_ms);
        match call.request {
            Request::Get(get) => match self.get(get, deadline).await {
                Ok(got) => Response::Got(Box::new(got)),
                Err(failure) => failed(failure),
            },
            Request::Put(put) => match self.put(*put, deadline).await {
                Ok(done) => Response::Done(Box::new(done)),
                Err(failure) => failed(failure),
            },
            Request::List(page) => {
                let node = self.clone();
                let listed = self.task("list", async move { coordinate::list(&node, page, deadline).await });
                match listed.await {
                    Ok(listed) => Response::Listed(listed),
                    Err(failure) => failed(failure),
                }
            }
            Request::Copy(page) => {
                let node = self.clone();
                let copied = self.task("copy", async move { coordinate::copy(&node, page, deadline).await });
                match copied.await {
                    Ok(copied) => Response::Copied(copied),
                    Err(failure) => failed(failure),
                }
            }
            Request::Restore(restore) => {
                let node = self.clone();
                let restored =
                    self.task("restore", async move { coordinate::restore(&node, *restore, deadline).await });
                match restored.await {
                    Ok(acks) => Response::Restored(acks),
                    Err(failure) => failed(failure),
                }
            }
            Request::Buckets => Response::Buckets(self.all_settings()),
            Request::Locate(key) => Response::Located(coordinate::locate(self, key, deadline).await),
            Request::Bucket(name) => Response::Bucket(self.settings(&name)),
            Request::SetBucket(name, settings) => {
                let node = self.clone();
                let set = async move { gossip::set_bucket(&node, &name, settings).await };
                match self.task("settings", set).await {
                    Ok(settings) => Response::Bucket(settings),
                    Err(failure) => failed(failure),
                }
            }
            Request::Nodes => Response::Nodes(self.nodes_known()),
            Request::Ring => self.ring(),
            Request::Stage(wanted) => {
                let node = self.clone();
                self.change("stage", async move { stage::stage(&node, &wanted).await.map(|()| node.ring()) })
                    .await
            }
            Request::Unstage => {
                let node = self.clone();
                self.change("unstage", async move { stage::unstage(&node).await.map(|()| node.ring()) }).await
            }
            Request::Plan => match stage::planned(self) {
                Ok(planned) => Response::Planned(Box::new(planned)),
                Err(why) => Response::Declined(why),
            },
            Request::Commit(hash) => {
                let node = self.clone();
                let commit = async move { commit::commit(&node, hash).await.map(Response::Committed) };
                self.change("commit", commit).await
            }
            Request::ForceCommit(hash) => {
                let node = self.clone();
                let force = async move { commit::force(&node, hash).await.map(Response::Committed) };
                self.change("force a commit", force).await
            }
            Request::Abort => {
                let node = self.clone();
                self.change("abort", async move { commit::abort(&node).await.map(|()| node.ring()) }).await
            }
            Request::Transfers => Response::Transfers(Box::new(transfers::status(self))),
            Request::PauseTransfers(paused) => {
                self.0.transfers.pause(paused);
                if !paused {
                    exchange::fill(self);
                }
                Response::Transfers(Box::new(transfers::status(self)))
            }
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Repair => Response::Repair(Box::new(repair::status(self))),
            Request::RepairNow => Response::Repair(Box::new(repair::now(self))),
            Request::Verify(bucket) => match repair::verify(self, bucket) {
                Ok(status) => Response::Repair(Box::new(status)),
                Err(failure) => failed(failure),
            },
        }
    }

    fn ring(&self) -> Response {
        Response::Ring(Box::new(status::status(self)))
    }

    /// Runs a change of the ring on a task of its own: it goes on if whoever asked goes away.
    async fn change(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<Response, String>> + 'static,
    ) -> Response {
        match self.task(name, async move { Ok(work.await) }).await {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => Response::Declined(why),
            Err(failure) => failed(failure),
        }
    }

    /// Reads a key; see [`crate::coordinate`].
    pub async fn get(&self, get: Get, deadline: Mono) -> Result<Got, Failure> {
        let node = self.clone();
        self.task("get", async move { coordinate::get(&node, get, deadline).await }).await
    }

    /// Coordinates a write that a peer has handed on, whose own work this is from now on.
    pub(crate) fn put_for_peer(&self, put: Put, deadline: Mono, answer: impl FnOnce(Body) + 'static) {
        let node = self.clone();
        self.enter();
        self.0.env.spawn("forwarded put", async move {
            let mut put = put;
            let (result, rest) = coordinate::put_here(&node, &mut put, deadline).await;
            answer(Body::ForwardReply { result: result.map(Box::new).map_err(Box::new) });
            node.leave();
            rest.finish().await;
        });
    }

    /// Whether there is room for one more operation, and the node goes on taking any.
    pub(crate) fn admit(&self) -> Result<(), Reason> {
        if self.0.draining.get() {
            return Err(Reason::Unsuitable);
        }
        // Whoever is no member reaches nobody with what it takes.
        if self.0.shunned.get() || !self.live().members().contains(&self.id()) {
            return Err(Reason::Unsuitable);
        }
        if self.0.in_flight.get() >= IN_FLIGHT_MAX {
            self.0.env.probe(Probe::Shed);
            return Err(Reason::Overloaded);
        }
        Ok(())
    }

    /// Writes a key; see [`crate::coordinate`].
    pub async fn put(&self, put: Put, deadline: Mono) -> Result<Done, Failure> {
        let (answer, answered) = oneshot::channel();
        let node = self.clone();
        self.enter();
        self.0.env.spawn("put", async move {
            let rest = coordinate::put(&node, put, deadline, answer).await;
            node.leave();
            rest.finish().await;
        });
        // A put's task answers before it ends; only the end of the shard itself takes it away unanswered.
        answered.await.unwrap_or_else(|_| {
            Err(Failure {
                outcome: gramme_core::Outcome::MaybeApplied,
                ..Failure::not_applied(Reason::Unavailable)
            })
        })
    }

    /// Refuses new calls; resolves once those in flight have been answered and everything is durable.
    pub async fn drain(&self) {
        self.0.draining.set(true);
        self.0.idle.wait_for(|| (self.0.in_flight.get() == 0).then_some(())).await;
        trees::checkpoint_all(self);
        // A broken store has nothing left to make durable, and has said so.
        let _ = self.0.store.wait_all().await;
    }

    /// A client's operation was answered.
    pub(crate) fn coordinated(&self, operation: Operation, took: Duration, ok: bool) {
        if operation != Operation::List {
            self.0.admission.foreground_took(took);
        }
        self.0.env.probe(Probe::Coordinated { operation, took, ok });
    }

    /// Runs a flow on a task of its own and resolves with what it says.
    pub(crate) async fn task<T: 'static>(
        &self,
        name: &'static str,
        flow: impl Future<Output = Result<T, Failure>> + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let node = self.clone();
        self.enter();
        self.0.env.spawn(name, async move {
            // Nobody listens any more if the client has gone away.
            let _ = answer.send(flow.await);
            node.leave();
        });
        answered.await.unwrap_or_else(|_| Err(Failure::not_applied(Reason::Unavailable)))
    }

    /// Whether writes are refused because they may have waited through a gap of this node's loop.
    pub(crate) fn is_thawing(&self) -> bool {
        self.beat();
        self.0.pulse.borrow().refuses(self.0.env.now())
    }

    /// A place among the tasks that go on after their answer; `None` if there are as many as may be.
    pub(crate) fn linger(&self) -> Option<Late<E>> {
        let late = &self.0.late;
        (late.get() < IN_FLIGHT_MAX).then(|| {
            late.set(late.get() + 1);
            Late(self.clone())
        })
    }

    fn enter(&self) {
        self.0.in_flight.set(self.0.in_flight.get() + 1);
    }

    fn leave(&self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        if self.0.in_flight.get() == 0 {
            self.0.idle.notify();
        }
    }
}

/// One task that goes on after its answer, until it is dropped.
pub(crate) struct Late<E: Env>(Node<E>);

impl<E: Env> Drop for Late<E> {
    fn drop(&mut self) {
        self.0.0.late.set(self.0.0.late.get() - 1);
    }
}

fn failed(failure: Failure) -> Response {
    Response::Failed(Box::new(failure))
}

/// Whether a home's rows lie here.
async fn is_kept<E: Env>(env: &E, partition: PartitionId) -> Result<bool, EngineError> {
    match env.engine().get(&rows::row(partition.0, KIND_REPLICA, &[])).await {
        Ok(found) => Ok(found.is_some()),
        Err(EngineError::Corrupt(_)) => Ok(true),
        Err(cause) => Err(cause),
    }
}

fn own_partitions(options: &Options) -> impl Iterator<Item = PartitionId> + use<> {
    (options.shard..options.layout.partitions()).step_by(options.shards).map(|p| PartitionId(p as u16))
}

const EVENTS_MAX: usize = 256;
