//! [`SimEnv`]: the world as one shard of one life of a host sees it. Whatever a dead life asks for is a
//! no-op, so that a dropped task can do no harm.

use crate::coverage;
use crate::engine::SimEngine;
use crate::executor::Owner;
use crate::timer::Sleep;
use crate::world::{World, host_of, name, node_id};
use gramme_core::NodeId;
use gramme_node::{Env, Event, Fact, Mono, Probe};
use gramme_wire::Message;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

/// See the module.
#[derive(Clone)]
pub struct SimEnv {
    world: Rc<World>,
    host: usize,
    boot: u32,
    shard: usize,
    engine: SimEngine,
}

impl SimEnv {
    /// The environment of a shard of a host that has just been started.
    pub fn new(world: Rc<World>, host: usize, boot: u32, shard: usize) -> SimEnv {
        let engine = SimEngine::new(world.clone(), host, boot);
        SimEnv { world, host, boot, shard, engine }
    }

    /// The node it belongs to.
    pub fn id(&self) -> NodeId {
        node_id(self.host)
    }

    /// Whose tasks it spawns.
    pub fn owner(&self) -> Owner {
        Owner::Host { host: self.host, boot: self.boot }
    }

    fn is_alive(&self) -> bool {
        self.world.is_alive(self.owner())
    }
}

impl Env for SimEnv {
    type Engine = SimEngine;

    fn now(&self) -> Mono {
        Mono(self.world.hosts.borrow()[self.host].clock.mono(self.world.now()))
    }

    fn wall_ms(&self) -> u64 {
        self.world.hosts.borrow()[self.host].clock.wall_ms(self.world.now())
    }

    fn random(&self) -> u64 {
        if !self.is_alive() {
            return 0;
        }
        self.world.hosts.borrow_mut()[self.host].shards[self.shard].chance.draw()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + 'static {
        let at = self.world.hosts.borrow()[self.host].clock.when(at.0);
        Sleep::until(self.world.clone(), at)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.world.spawn(self.owner(), name, task);
    }

    fn send(&self, to: NodeId, message: Message) -> bool {
        self.is_alive() && self.world.send(self.host, to, &message)
    }

    async fn recv_many(&self, events: &mut Vec<Event>, max: usize) {
        poll_fn(|cx| {
            if !self.is_alive() {
                return Poll::Pending;
            }
            let mut hosts = self.world.hosts.borrow_mut();
            let shard = &mut hosts[self.host].shards[self.shard];
            if shard.inbox.is_empty() {
                let old = shard.reader.replace(cx.waker().clone());
                drop(hosts);
                drop(old);
                return Poll::Pending;
            }
            let count = shard.inbox.len().min(max.max(1));
            events.extend(shard.inbox.drain(..count));
            Poll::Ready(())
        })
        .await;
    }

    fn tell_shards(&self, fact: Fact) {
        if !self.is_alive() {
            return;
        }
        for shard in (0..self.world.shards()).filter(|&shard| shard != self.shard) {
            let delay = self.world.hosts.borrow_mut()[self.host].shards[self.shard].chance.below(200_000);
            self.world.tell_later(delay, self.host, self.boot, shard, fact.clone());
        }
    }

    fn engine(&self) -> &SimEngine {
        &self.engine
    }

    /// Whoever has nothing to do with the cluster any more is hung up on; all others may connect.
    fn ring_is(&self, ring: std::sync::Arc<gramme_node::Ring>) {
        if self.is_alive() {
            let gone: Vec<usize> = ring.gone.iter().filter_map(|&node| host_of(node)).collect();
            self.world.with_net(|net| net.shut_out(self.host, &gone));
        }
    }

    fn probe(&self, probe: Probe) {
        let what = coverage::name_of(&probe);
        if probe == Probe::StoreBroken && self.is_alive() {
            self.world.hosts.borrow_mut()[self.host].broken = true;
        }
        self.world
            .note("probe", self.host as u64, what.len() as u64, || format!("{}: {probe:?}", name(self.host)));
        self.world.log.borrow_mut().count(what);
    }
}
