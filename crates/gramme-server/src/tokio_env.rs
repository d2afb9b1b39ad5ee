//! The world as a shard's flows see it, made of tokio: the clock, chance, timers, tasks, peers and the disk.
//!
//! One per shard; everything in it belongs to the shard's thread.

use crate::inbox::Inbox;
use crate::mailbox::Shards;
use crate::metrics::ShardMetrics;
use crate::peers::{Company, Links};
use crate::random::Random;
use crate::store::Store;
use gramme_core::NodeId;
use gramme_node::{Env, Event, Fact, Mono, Probe, Ring};
use gramme_wire::Message;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Clone)]
pub(crate) struct TokioEnv(Rc<World>);

struct World {
    /// When this process started; the same for all its shards.
    start: Instant,
    shard: usize,
    shards: Shards,
    company: Arc<Company>,
    inbox: Rc<Inbox>,
    links: Rc<Links>,
    store: Store,
    metrics: Rc<ShardMetrics>,
    random: Random,
}

impl TokioEnv {
    /// The world of shard `shard`.
    #[expect(clippy::too_many_arguments, reason = "the parts of a shard, named once")]
    pub(crate) fn new(
        start: Instant,
        shard: usize,
        shards: Shards,
        company: Arc<Company>,
        inbox: Rc<Inbox>,
        links: Rc<Links>,
        store: Store,
        metrics: Rc<ShardMetrics>,
    ) -> TokioEnv {
        TokioEnv(Rc::new(World {
            start,
            shard,
            shards,
            company,
            inbox,
            links,
            store,
            metrics,
            random: Random::default(),
        }))
    }
}

impl Env for TokioEnv {
    type Engine = Store;

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.0.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> u64 {
        wall_ms()
    }

    fn random(&self) -> u64 {
        self.0.random.word()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + 'static {
        // Centuries ahead is as good as never, and cannot overflow an instant.
        let span = std::time::Duration::from_nanos(at.0.min(u64::MAX / 4));
        tokio::time::sleep_until((self.0.start + span).into())
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let _ = name;
        if size_of_val(&task) <= TASK_BYTES_INLINE {
            tokio::task::spawn_local(task);
        } else {
            // The runtime aligns a task to 128 bytes, and allocators are slow at that for large ones.
            tokio::task::spawn_local(Box::pin(task));
        }
    }

    fn send(&self, to: NodeId, message: Message) -> bool {
        let sent = self.0.links.send(to, &message);
        if !sent {
            self.0.metrics.dropped.inc();
        }
        sent
    }

    async fn recv_many(&self, events: &mut Vec<Event>, max: usize) {
        self.0.inbox.take(events, max).await;
    }

    fn tell_shards(&self, fact: Fact) {
        self.0.shards.tell(&fact, Some(self.0.shard));
    }

    fn engine(&self) -> &Store {
        &self.0.store
    }

    fn ring_is(&self, ring: Arc<Ring>) {
        self.0.company.ring_is(ring);
        tokio::task::spawn_local(trust_by_ring(self.0.company.clone(), self.0.shards.clone()));
    }

    fn probe(&self, probe: Probe) {
        if let Probe::HintsAlarm(percent) = probe {
            tracing::warn!(
                percent,
                "this node keeps {percent} % of the hints that storage.hints_mb allows a shard, or a partition of it has as many as may be: bring back the nodes they are for, see `gramme status`; beyond 100 % hints are refused and fewer copies are kept"
            );
        }
        if probe == Probe::OnlyCopyDamaged {
            tracing::error!(
                "a stored record of which this node keeps the only copy cannot be read: what it held is gone. Readers of its key are told so; write the key again, which replaces it, and look at the disk. gramme_damaged_rows counts such records; with N of 2 or more they are mended from other nodes"
            );
        }
        self.0.metrics.probe(probe);
    }
}

/// Who must have met this store before it is trusted has changed with the ring, and so may what is known of it.
async fn trust_by_ring(company: Arc<Company>, shards: Shards) {
    let mut identity = company.identity.lock().await;
    let members: Vec<NodeId> = company.ring().newest.members().iter().map(|member| member.id).collect();
    match identity.members_are(members).await {
        Ok(Some(trust)) => shards.tell(&Fact::Trust(trust), None),
        Ok(None) => {}
        Err(e) => {
            tracing::warn!("that this store is trusted cannot be written down, and is tried again: {e}")
        }
    }
}

/// Milliseconds since 1970 by the wall clock; 0 if it stands before that.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// Tasks up to this size live in the runtime's own allocation.
const TASK_BYTES_INLINE: usize = 512;
