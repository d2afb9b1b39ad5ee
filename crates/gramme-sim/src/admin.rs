//! Administrators: what they want changed of the ring, at which node they say so, and how long they insist. Their orders
//! stand among the faults of a plan, so that they are kept, and shrunk, with everything else that happens to a cluster.
//!
//! A change is one or more orders that stage something, and one that commits what is staged by then. Two administrators may
//! give orders at one time, at two nodes, on both sides of a cut.
//!
//! It refuses to know whether an order is a good idea: nodes must decline what cannot be done.

use crate::cluster::{Called, Cluster};
use crate::knobs::Knobs;
use crate::nemesis::{BEGIN_MS, Fault, Timed};
use crate::rng::Rng;
use crate::timer::Sleep;
use crate::world::name;
use gramme_node::request::{Call, Request, Response, Wanted};
use serde::{Deserialize, Serialize};

/// One thing that an administrator says at one node. Machines are called by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Stage that a machine becomes a member.
    Join {
        /// Which.
        node: usize,
        /// Its share.
        weight: u32,
    },
    /// Stage that a member hands over what it has, and goes.
    Leave {
        /// Which.
        node: usize,
    },
    /// Stage that a member is lost for good.
    Lost {
        /// Which.
        node: usize,
    },
    /// Stage that a machine takes a member's place; one that is down is lost for good by that.
    Replace {
        /// Who goes.
        old: usize,
        /// Who comes.
        new: usize,
        /// Whether it may be up.
        force: bool,
    },
    /// Stage a member's share.
    Weight {
        /// Whose.
        node: usize,
        /// How much.
        weight: u32,
    },
    /// Stage a member's zone.
    Zone {
        /// Whose.
        node: usize,
        /// Its number.
        zone: usize,
    },
    /// Take back what is staged.
    Unstage,
    /// Look at the plan and commit it.
    Commit,
    /// The same with a minority.
    Force,
    /// Call off what is under way.
    Abort,
}

impl Order {
    /// What it asks of a node; none if that takes a look at the plan first.
    fn request(self) -> Option<Request> {
        let wanted = match self {
            Order::Join { node, weight } => {
                Wanted::Join { node: name(node), weight: Some(weight), zone: None }
            }
            Order::Leave { node } => Wanted::Leave { node: name(node), lost: false },
            Order::Lost { node } => Wanted::Leave { node: name(node), lost: true },
            Order::Replace { old, new, force } => Wanted::Replace { old: name(old), new: name(new), force },
            Order::Weight { node, weight } => Wanted::Weight { node: name(node), weight },
            Order::Zone { node, zone } => Wanted::Zone { node: name(node), zone: format!("z{zone}") },
            Order::Unstage => return Some(Request::Unstage),
            Order::Abort => return Some(Request::Abort),
            Order::Commit | Order::Force => return None,
        };
        Some(Request::Stage(wanted))
    }

    /// Under which name it is counted when it was done.
    fn counted(self) -> &'static str {
        match self {
            Order::Commit => "ring committed",
            Order::Force => "ring forced",
            Order::Abort => "ring aborted",
            Order::Unstage => "ring unstaged",
            _ => "ring staged",
        }
    }
}

/// Gives an order at a host: again for a while if it is declined, at the next host if nobody is there.
pub async fn carry_out(cluster: Cluster, first: usize, order: Order) {
    let world = cluster.world().clone();
    let until = world.now() + INSIST_MS * 1_000_000;
    let mut host = first;
    loop {
        let answer = give(&cluster, host, order).await;
        world.note("order", host as u64, 0, || format!("{order:?} at {}: {answer:?}", name(host)));
        match answer {
            Given::Done => {
                world.log.borrow_mut().count(order.counted());
                if matches!(order, Order::Commit | Order::Force | Order::Abort) {
                    world.log.borrow_mut().count(CHANGED);
                }
                return;
            }
            Given::Declined(_) => world.log.borrow_mut().count("ring declined"),
            Given::Nobody => host = (host + 1) % world.host_count(),
        }
        if world.now() >= until {
            return;
        }
        Sleep::span(world.clone(), PAUSE_MS * 1_000_000).await;
    }
}

/// What came of an order.
#[derive(Debug)]
enum Given {
    Done,
    Declined(#[allow(dead_code, reason = "for the log")] String),
    Nobody,
}

async fn give(cluster: &Cluster, host: usize, order: Order) -> Given {
    let request = match order.request() {
        Some(request) => request,
        None => match ask(cluster, host, Request::Plan).await {
            Some(Response::Planned(planned)) if order == Order::Force => {
                Request::ForceCommit(planned.plan.hash())
            }
            Some(Response::Planned(planned)) => Request::Commit(planned.plan.hash()),
            Some(Response::Declined(why)) => return Given::Declined(why),
            _ => return Given::Nobody,
        },
    };
    match ask(cluster, host, request).await {
        Some(Response::Ring(_) | Response::Committed(_)) => Given::Done,
        Some(Response::Declined(why)) => Given::Declined(why),
        _ => Given::Nobody,
    }
}

async fn ask(cluster: &Cluster, host: usize, request: Request) -> Option<Response> {
    match cluster.call(host, Call { timeout_ms: 1_000, request }, Box::new(|_, _| {})).await {
        Called::Answered(response) => Some(response),
        Called::Unreachable | Called::Broken => None,
    }
}

/// What administrators want in a run in which the ring changes, and who is destroyed for good.
pub fn draw(seed: u64, knobs: &Knobs) -> Vec<Timed> {
    if knobs.spares == 0 {
        return Vec::new();
    }
    let mut it = Drawing { rng: Rng::stream(seed, "admin", 0), knobs, orders: Vec::new(), doomed: None };
    let mut at = BEGIN_MS + it.rng.below(600);
    while at < knobs.length_ms {
        it.episode(at);
        at += it.rng.between(200, 1_800);
    }
    it.orders
}

struct Drawing<'a> {
    rng: Rng,
    knobs: &'a Knobs,
    orders: Vec<Timed>,
    /// Who was destroyed for good.
    doomed: Option<usize>,
}

impl Drawing<'_> {
    fn episode(&mut self, at: u64) {
        if self.knobs.loses_node && self.doomed.is_none() && self.rng.chance(350) {
            return self.doom(at);
        }
        match self.rng.below(20) {
            0 | 1 => {
                let host = self.machine();
                self.order(at, host, Order::Abort);
            }
            2 => {
                let host = self.machine();
                self.order(at, host, Order::Unstage);
            }
            // Two administrators at one time.
            3..=5 => {
                for _ in 0..2 {
                    let host = self.machine();
                    let wish = self.wish();
                    self.order(at, host, wish);
                    self.order(at + 40, host, Order::Commit);
                }
            }
            _ => {
                let host = self.machine();
                for _ in 0..self.rng.between(1, 3) {
                    let wish = self.wish();
                    self.order(at, host, wish);
                }
                let later = self.rng.between(20, 400);
                let host = if self.rng.chance(700) { host } else { self.machine() };
                self.order(at + later, host, Order::Commit);
            }
        }
    }

    /// A member dies, and sooner or later somebody says so.
    fn doom(&mut self, at: u64) {
        let node = self.rng.index(self.knobs.hosts);
        self.doomed = Some(node);
        self.orders.push(Timed { at_ms: at, fault: Fault::Destroy { host: node } });
        let later = at + self.rng.between(300, 2_500);
        let host = self.machine();
        let new = self.spare();
        let order = match self.rng.chance(700) {
            true => Order::Replace { old: node, new, force: false },
            false => Order::Lost { node },
        };
        self.order(later, host, order);
        self.order(later + 5_000, host, Order::Commit);
        self.order(later + 7_500, host, Order::Commit);
    }

    fn wish(&mut self) -> Order {
        let (node, weight) = (self.machine(), self.rng.pick(&[1, 1, 2, 3]));
        match self.rng.below(20) {
            0..=7 => Order::Join { node: self.spare(), weight },
            8..=12 => Order::Leave { node },
            13..=15 => Order::Replace { old: node, new: self.spare(), force: self.rng.chance(900) },
            16..=18 => Order::Weight { node, weight },
            _ => Order::Zone { node, zone: self.rng.index(3) },
        }
    }

    fn machine(&mut self) -> usize {
        self.rng.index(self.knobs.machines())
    }

    fn spare(&mut self) -> usize {
        self.knobs.hosts + self.rng.index(self.knobs.spares)
    }

    fn order(&mut self, at_ms: u64, host: usize, order: Order) {
        self.orders.push(Timed { at_ms, fault: Fault::Order { host, order } });
    }
}

/// Under which name every change that was committed is counted.
pub const CHANGED: &str = "ring changed";
/// For how long an administrator insists.
const INSIST_MS: u64 = 6_000;
const PAUSE_MS: u64 = 400;
