//! The world itself, tried with a toy in place of a node: what is lost, what waits, what survives.

#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion

use gramme_core::NodeId;
use gramme_node::{Env, Event, Fact, Trust};
use gramme_sim::disk::DiskProfile;
use gramme_sim::engine::SimEngine;
use gramme_sim::env::SimEnv;
use gramme_sim::executor::Owner;
use gramme_sim::log::Trace;
use gramme_sim::net::NetProfile;
use gramme_sim::timer::Sleep;
use gramme_sim::world::{Beginning, World, node_id};
use gramme_storage::{Batch, Engine, EngineError, conformance};
use gramme_wire::{Body, Message};
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

const MS: u64 = 1_000_000;

fn world(seed: u64, hosts: usize, shards: usize) -> Rc<World> {
    World::new(Beginning {
        seed,
        schedule: seed,
        hosts,
        shards,
        net: NetProfile { base_us: 200, jitter_us: 100, straggler_permille: 0 },
        disk: DiskProfile {
            sync_us: 500,
            read_waits_permille: 300,
            read_us: 100,
            reads_see_waiting: seed.is_multiple_of(2),
        },
        trace: Trace::Off,
    })
}

/// A toy node: answers pings, and notes what it is told and when.
type Heard = Rc<RefCell<Vec<(u64, usize, Event)>>>;

fn start(world: &Rc<World>, host: usize) -> (Vec<SimEnv>, Heard) {
    let boot = world.start(host);
    let heard = Heard::default();
    let envs: Vec<SimEnv> =
        (0..world.shards()).map(|shard| SimEnv::new(world.clone(), host, boot, shard)).collect();
    for (shard, env) in envs.iter().enumerate() {
        let (env, heard, clock) = (env.clone(), heard.clone(), world.clone());
        env.clone().spawn("toy", async move {
            let mut events = Vec::new();
            loop {
                env.recv_many(&mut events, 8).await;
                for event in events.drain(..) {
                    if let Event::Message { from, message, .. } = &event
                        && message.body == Body::Ping
                    {
                        env.send(*from, said(message.correlation, Body::Pong));
                    }
                    heard.borrow_mut().push((clock.now(), shard, event));
                }
            }
        });
    }
    world.listen(host);
    (envs, heard)
}

fn said(correlation: u64, body: Body) -> Message {
    Message { correlation, partition: Message::NO_PARTITION, remaining_us: 0, sent_ns: 0, body }
}

fn pongs(heard: &Heard) -> usize {
    let is_pong =
        |event: &Event| matches!(event, Event::Message { message, .. } if message.body == Body::Pong);
    heard.borrow().iter().filter(|(_, _, event)| is_pong(event)).count()
}

#[test]
fn a_ping_is_answered_and_a_cut_swallows_it() {
    let world = world(1, 2, 1);
    let (mine, heard) = start(&world, 0);
    start(&world, 1);
    assert!(!mine[0].send(node_id(1), said(1, Body::Ping)), "nobody is connected yet");
    world.run_until(300 * MS);
    assert!(mine[0].send(node_id(1), said(1, Body::Ping)));
    world.run_until(400 * MS);
    assert_eq!(pongs(&heard), 1);
    world.with_net(|net| net.cut(1, 0));
    assert!(mine[0].send(node_id(1), said(2, Body::Ping)), "a cut is silent");
    world.run_until(450 * MS);
    assert_eq!(pongs(&heard), 1);
    assert_eq!(world.trouble(), None);
    world.end();
}

#[test]
fn the_answer_comes_back_to_the_shard_that_asked() {
    let world = world(2, 2, 2);
    let (mine, heard) = start(&world, 0);
    start(&world, 1);
    world.run_until(300 * MS);
    mine[1].send(node_id(1), said(1 << 56, Body::Ping));
    mine[1].tell_shards(Fact::Trust(Trust::Continuous));
    world.run_until(400 * MS);
    let heard = heard.borrow();
    let of = |wanted: fn(&Event) -> bool| {
        heard.iter().filter(|(_, _, event)| wanted(event)).map(|(_, shard, _)| *shard).collect::<Vec<_>>()
    };
    assert_eq!(of(|event| matches!(event, Event::Message { .. })), [1]);
    assert_eq!(of(|event| matches!(event, Event::Fact(_))), [0], "the others hear it, not who says it");
    assert_eq!(
        of(|event| matches!(event, Event::PeerUp(NodeId(2)))).len(),
        2,
        "every shard is told of peers"
    );
    world.end();
}

#[test]
fn what_is_sent_to_a_frozen_host_waits_and_its_timers_wait_too() {
    let world = world(3, 2, 1);
    let (mine, _) = start(&world, 0);
    let (theirs, heard) = start(&world, 1);
    let rang = Rc::new(RefCell::new(None));
    let (ring, clock, env) = (rang.clone(), world.clone(), theirs[0].clone());
    env.clone().spawn("timer", async move {
        env.sleep_until(env.now() + Duration::from_millis(500)).await;
        *ring.borrow_mut() = Some(clock.now());
    });
    world.run_until(300 * MS);
    world.freeze(1);
    mine[0].send(node_id(1), said(1, Body::Ping));
    world.run_until(900 * MS);
    let before = heard.borrow().len();
    assert_eq!(*rang.borrow(), None);
    world.thaw(1);
    world.run_until(901 * MS);
    assert_eq!(heard.borrow().len(), before + 1);
    assert_eq!(*rang.borrow(), Some(900 * MS));
    world.end();
}

#[test]
fn a_dead_life_does_nothing_and_its_peers_are_told() {
    let world = world(4, 2, 1);
    let (mine, heard) = start(&world, 0);
    let (theirs, _) = start(&world, 1);
    world.run_until(300 * MS);
    world.crash(1, false);
    assert!(!theirs[0].send(node_id(0), said(1, Body::Ping)));
    let engine = theirs[0].engine().clone();
    assert_eq!(world.run_for(MS, async move { engine.get(b"\0\0k").await }), Some(Err(EngineError::Closed)));
    world.run_until(400 * MS);
    let told = heard.borrow().iter().any(|(_, _, event)| matches!(event, Event::PeerDown(_)));
    assert!(told, "a killed process resets its connections");
    assert!(!mine[0].send(node_id(1), said(1, Body::Ping)));
    start(&world, 1);
    world.run_until(900 * MS);
    assert!(mine[0].send(node_id(1), said(1, Body::Ping)), "its next life is another connection");
    world.end();
}

#[test]
fn a_batch_that_was_acknowledged_survives_every_crash() {
    for seed in 0..50 {
        let world = world(seed, 1, 1);
        let boot = world.start(0);
        let engine = SimEngine::new(world.clone(), 0, boot);
        let writer = engine.clone();
        let acked = Rc::new(RefCell::new(Vec::new()));
        let note = acked.clone();
        world.spawn(Owner::Host { host: 0, boot }, "writer", async move {
            for n in 0..20u8 {
                let mut batch = Batch::new();
                batch.set(vec![0, n % 3, n], vec![n]);
                if writer.commit(batch).await.is_ok() {
                    note.borrow_mut().push(n);
                }
            }
        });
        world.run_until(seed * MS / 5);
        world.crash(0, true);
        let boot = world.start(0);
        let reader = SimEngine::new(world.clone(), 0, boot);
        for n in acked.take() {
            let reader = reader.clone();
            let found = world.run_for(100 * MS, async move { reader.get(&[0, n % 3, n]).await }).unwrap();
            assert_eq!(found.unwrap().as_deref(), Some(&[n][..]), "seed {seed}: batch {n} was acknowledged");
        }
        world.end();
    }
}

#[test]
fn the_simulated_engine_does_what_every_engine_must() {
    for seed in 0..4 {
        let world = world(seed, 20, 1);
        let next = Rc::new(RefCell::new(0));
        let of_world = world.clone();
        let fresh = async move || {
            let host = *next.borrow();
            *next.borrow_mut() += 1;
            let boot = of_world.start(host);
            SimEngine::new(of_world.clone(), host, boot)
        };
        let checked = world.run_for(3_600_000 * MS, async move { conformance::check_all(fresh, seed).await });
        assert_eq!(world.trouble(), None);
        assert!(checked.is_some(), "it came to its end");
        world.end();
    }
}

#[test]
fn a_panic_and_a_stuck_clock_end_the_run() {
    let world = world(5, 1, 1);
    let boot = world.start(0);
    world.spawn(Owner::Host { host: 0, boot }, "faulty", async { panic!("no quorum of one") });
    world.run_until(MS);
    let trouble = world.trouble().unwrap();
    assert_eq!(trouble.rule, "panic");
    assert!(trouble.text.contains("no quorum of one"), "{}", trouble.text);
    world.end();

    let stuck = self::world(6, 1, 1);
    let restless = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    stuck.spawn(Owner::Harness, "restless", restless);
    stuck.run_until(MS);
    assert_eq!(stuck.trouble().unwrap().rule, "livelock");
    stuck.end();
}

#[test]
fn wall_clocks_are_off_and_jump_while_time_itself_goes_on() {
    let world = world(7, 2, 1);
    let (mine, _) = start(&world, 0);
    let (theirs, _) = start(&world, 1);
    world.set_clock(1, |clock| clock.wall_offset_ms = -90_000);
    world.run_until(1000 * MS);
    assert_eq!(mine[0].wall_ms() - theirs[0].wall_ms(), 90_000);
    let before = theirs[0].now();
    world.set_clock(1, |clock| clock.wall_offset_ms = 600_000);
    assert_eq!(theirs[0].now(), before);
    world.end();
}

#[test]
fn quiet_time_costs_nothing() {
    let world = world(8, 1, 1);
    let nap = Sleep::span(world.clone(), 3_600_000 * MS);
    assert!(world.run_for(4_000_000 * MS, nap).is_some());
    assert!(world.polls() < 5 && world.events() < 5);
    world.end();
}
