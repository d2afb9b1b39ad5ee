//! One shard: a thread with a runtime of its own, the partitions p with p mod S = its index, and the connections
//! that were dealt to it. Everything on it is plain single-threaded state.

use crate::doors::resp::Counter;
use crate::doors::{Service, http, resp};
use crate::inbox::Inbox;
use crate::load::imbalance_of;
use crate::mailbox::{Door, Letter};
use crate::metrics::ShardMetrics;
use crate::peers::{Links, Peers};
use crate::random::Random;
use crate::run::Phase;
use crate::tokio_env::TokioEnv;
use axum::Router;
use gramme_core::limits::REQUEST_MS;
use gramme_node::{Fact, Node, Options, Trust, Upkeep};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// What a shard is given at its start.
pub(crate) struct Plan {
    pub(crate) index: usize,
    pub(crate) service: Arc<Service>,
    /// When the process started.
    pub(crate) start: Instant,
    /// Decoded records kept at hand, in bytes.
    pub(crate) cache_bytes: usize,
    /// What it may keep in hints for others, in bytes.
    pub(crate) hint_bytes_max: u64,
    /// Whether what every home has seen is let go of.
    pub(crate) reclaim: bool,
    /// How often the work is done that nobody asks for, and what is compared.
    pub(crate) upkeep: Upkeep,
    /// Told once the shard is open, or why it is not.
    pub(crate) opened: oneshot::Sender<Result<(), String>>,
}

/// The body of a shard's thread; returns when the process stops.
pub(crate) fn main(plan: Plan) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            // The other end waits for it, or the start has failed already.
            let _ = plan.opened.send(Err(format!("a thread's event loop cannot be made: {e}")));
            return;
        }
    };
    let (shards, index) = (plan.service.shards.clone(), plan.index);
    runtime.block_on(live(plan));
    shards.close(index);
}

async fn live(plan: Plan) {
    let Plan { index, service, start, cache_bytes, hint_bytes_max, reclaim, upkeep, opened } = plan;
    let shards = service.shards.clone();
    let metrics = Rc::new(ShardMetrics::new(&service.metrics, index));
    let inbox = Rc::new(Inbox::default());
    let links = Links::new(inbox.clone(), index == 0);
    let store = service.store.clone();
    let company = service.company.clone();
    let env = TokioEnv::new(
        start,
        index,
        shards.clone(),
        company.clone(),
        inbox.clone(),
        links.clone(),
        store,
        metrics.clone(),
    );
    let (store, trust) = {
        let identity = service.company.identity.lock().await;
        (identity.store(), identity.trust())
    };
    let options = Options {
        id: service.node(),
        fact: service.fact(),
        layout: company.first.clone(),
        secret: company.secret,
        shard: index,
        shards: shards.count(),
        store,
        trust,
        cache_bytes,
        hint_bytes_max,
        request_ms: REQUEST_MS,
        upkeep,
        exchange: true,
        reclaim,
    };
    let node = match Node::open(env, options).await {
        Ok(node) => node,
        Err(e) => {
            let _ = opened.send(Err(format!("a shard cannot be opened: {e}")));
            return;
        }
    };
    spawn_local(node.clone().run());
    let peers = Peers::new(company, index, shards.clone(), links.clone(), inbox.clone(), metrics.clone());
    spawn_local(peers.clone().dial_for_ever());
    spawn_local(measure(node.clone(), service.clone(), index, links, inbox.clone(), metrics.clone()));
    let desk = Desk {
        router: http::router(service.clone()),
        counter: Counter {
            service: service.clone(),
            node,
            shard: index,
            metrics,
            random: Rc::new(Random::default()),
        },
        inbox,
        peers,
    };
    let mut phase = service.phase.clone();
    if opened.send(Ok(())).is_err() {
        return;
    }
    tokio::select! {
        () = desk.take_for_ever() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopped) => {}
    }
}

/// Where a shard's letters are opened.
struct Desk {
    router: Router,
    counter: Counter,
    inbox: Rc<Inbox>,
    peers: Rc<Peers>,
}

impl Desk {
    async fn take_for_ever(&self) {
        let mut letters = Vec::new();
        loop {
            self.counter.service.shards.collect(self.counter.shard, &mut letters).await;
            for letter in letters.drain(..) {
                self.take(letter);
            }
        }
    }

    fn take(&self, letter: Letter) {
        let node = self.counter.node.clone();
        match letter {
            Letter::Event(event) => self.inbox.push(event),
            Letter::Call(call, answer) => {
                self.counter.service.load.count(&call.request);
                spawn_local(async move {
                    // The client may be gone; the work was done all the same.
                    let _ = answer.send(node.call(call).await);
                });
            }
            Letter::Client(door, socket) => self.welcome(door, socket),
            Letter::Stranger(socket) => self.peers.accept(socket),
            Letter::Peer(handed) => self.peers.keep(*handed),
            Letter::Drain(done) => {
                spawn_local(async move {
                    node.drain().await;
                    let _ = done.send(());
                });
            }
        }
    }

    fn welcome(&self, door: Door, socket: std::net::TcpStream) {
        let service = &self.counter.service;
        let Some(guest) = service.admit(door) else {
            tracing::warn!(
                ?door,
                "a client was turned away: this door has as many connections as it can hold"
            );
            return;
        };
        let socket =
            match TcpStream::from_std(socket).and_then(|socket| socket.set_nodelay(true).map(|()| socket)) {
                Ok(socket) => socket,
                Err(e) => {
                    tracing::debug!("a client's socket cannot be used: {e}");
                    return;
                }
            };
        match door {
            Door::Http => {
                let metrics = self.counter.metrics.clone();
                spawn_local(http::serve(service.clone(), self.router.clone(), metrics, socket, guest));
            }
            Door::Resp => {
                spawn_local(resp::serve(self.counter.clone(), socket, guest));
            }
        }
    }
}

/// Everything that this shard had lost it has again. With the last shard the node has.
async fn is_whole(service: &Service, index: usize) {
    let shards = &service.shards;
    match service.company.identity.lock().await.shard_is_whole(index, shards.count()).await {
        Ok(Some(trust)) => shards.tell(&Fact::Trust(trust), None),
        Ok(None) => {}
        Err(e) => {
            tracing::warn!("that this node is whole again cannot be written down, and is tried again: {e}")
        }
    }
}

/// Keeps the gauges true.
async fn measure(
    node: Node<TokioEnv>,
    service: Arc<Service>,
    index: usize,
    links: Rc<Links>,
    inbox: Rc<Inbox>,
    metrics: Rc<ShardMetrics>,
) {
    let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    loop {
        let status = node.status();
        if status.trust == Trust::Lost && status.refilling.is_empty() {
            is_whole(&service, index).await;
        }
        metrics.in_flight.set(whole(status.in_flight));
        let clipped = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
        metrics.hints.set(clipped(status.hints.hints));
        metrics.hint_bytes.set(clipped(status.hints.bytes));
        metrics.hint_stores.set(whole(status.hints.stores));
        metrics.hint_oldest.set(clipped(status.hints.oldest_ms / 1000));
        metrics.refilling.set(whole(status.refilling.len()));
        let unseen: u64 = status.behind.iter().map(|lag| lag.unseen).sum();
        metrics.unseen.set(clipped(unseen));
        let known_for = status.behind.iter().map(|lag| lag.known_for).max().unwrap_or_default();
        metrics.unseen_ms.set(i64::try_from(known_for.as_millis()).unwrap_or(i64::MAX));
        metrics.audit_oldest.set(clipped(status.audits.oldest_ms / 1000));
        metrics.audits_missing.set(whole(status.audits.missing));
        metrics.audits_different.set(whole(status.audits.different));
        metrics.damaged.set(whole(status.damaged));
        metrics.connected.set(whole(links.connected()));
        metrics.inbox.set(whole(inbox.len()));
        metrics.outgoing.set(whole(links.waiting_bytes()));
        if index == 0 {
            let (_, asked) = service.load.recent(Instant::now());
            service.metrics.imbalance.set(imbalance_of(&service.layout(), &asked));
        }
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

const MEASURE_EVERY: Duration = Duration::from_secs(1);
