//! A client: goes through its steps, holds contexts, gives up on an attempt after a while and tries one other
//! node under the same request id. Writes everything into the history.

use crate::cluster::{Called, Cluster};
use crate::history::{Attempt, DoneSeen, Found, GetOp, History, ListOp, PutOp};
use crate::knobs::Knobs;
use crate::timer::Sleep;
use crate::workload::{Action, Expected, LWW, Step, With};
use crate::world::node_id;
use bytes::Bytes;
use futures_util::future::{Either, select};
use gramme_core::bucket::Level;
use gramme_core::record::Content;
use gramme_core::{Clock, Context, Key, Outcome, RequestId, ring};
use gramme_node::request::{Call, Get, Got, ListPage, Request, Response};
use gramme_wire::{Done, Expect, Put};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

/// See the module.
pub struct Client {
    number: usize,
    cluster: Cluster,
    knobs: Knobs,
    keys: Rc<Vec<Key>>,
    history: Rc<RefCell<History>>,
    held: BTreeMap<usize, Held>,
    writes: u64,
}

/// What a client has seen of a key.
#[derive(Clone, Default)]
struct Held {
    context: Context,
    /// The clock that it was truly shown: that of a read, or what it had with its own dots.
    shown: Clock,
    /// The writes that were live in it.
    live: Vec<RequestId>,
}

/// How a key is written; by default it is deleted.
#[derive(Clone, Copy, Default)]
struct How {
    /// How long the value lives; `None` deletes.
    ttl_ms: Option<u64>,
    w: Option<Level>,
    pw: u8,
    expect: Expected,
    /// Whether copies in memory count.
    buffered: bool,
}

/// How an attempt looked to the client.
enum Attempted {
    Answered(Response),
    Unreachable,
    /// It timed out, or its connection broke.
    Unknown,
}

impl Client {
    /// A client that holds nothing yet.
    pub fn new(
        number: usize,
        cluster: Cluster,
        knobs: &Knobs,
        keys: Rc<Vec<Key>>,
        history: Rc<RefCell<History>>,
    ) -> Client {
        Client { number, cluster, knobs: knobs.clone(), keys, history, held: BTreeMap::new(), writes: 0 }
    }

    /// Goes through its steps.
    pub async fn run(mut self, steps: Vec<Step>) {
        for step in steps {
            Sleep::until(self.cluster.world().clone(), step.at_ms * 1_000_000).await;
            match step.action {
                Action::Get { r, pr } => {
                    self.get(step.host, step.key, self.level(r, self.knobs.r), pr, None).await;
                }
                Action::SessionGet => {
                    let min = self.held.get(&step.key).map(|held| held.context.clone());
                    self.get(step.host, step.key, None, 0, min).await;
                }
                Action::Put { with, w, pw, ttl_ms, expect, buffered } => {
                    let held = self.context(step, with).await;
                    let w = self.level(w, self.knobs.w);
                    let how = How { ttl_ms: Some(ttl_ms), w, pw, expect, buffered };
                    self.put(step.host, step.key, held, how).await;
                }
                Action::Delete { with } => {
                    let held = self.context(step, with).await;
                    self.put(step.host, step.key, held, How::default()).await;
                }
                Action::List { keys_max, values } => self.list(step.host, step.key, keys_max, values).await,
            }
        }
    }

    async fn context(&mut self, step: Step, with: With) -> Option<Held> {
        if with == With::Fresh {
            self.get(step.host, step.key, self.level(0, self.knobs.r), 0, None).await?;
        }
        if with == With::Nothing { None } else { self.held.get(&step.key).cloned() }
    }

    /// Reads a key, and holds what it was shown.
    pub async fn get(
        &mut self,
        host: usize,
        key: usize,
        r: Option<Level>,
        pr: u8,
        min: Option<Context>,
    ) -> Option<Got> {
        let invoked = self.now();
        let of = self.keys[key].clone();
        let get = Get { key: of.clone(), r, pr, min: min.clone(), explain: false };
        let shard = ring::partition_of(&of, self.knobs.partitions).0 as usize % self.knobs.shards;
        let lives = || (0..self.knobs.machines()).map(|host| self.cluster.world().boot_of(host));
        let before: Vec<Option<u32>> = lives().collect();
        let (answered, found) = match self.call_one(host, Request::Get(get)).await {
            Some((host, Response::Got(got))) => (Some(host), Some(*got)),
            _ => (None, None),
        };
        let life = answered.and_then(|host| before[host].filter(|_| lives().nth(host) == Some(before[host])));
        let coordinator = answered.zip(life).map(|(host, life)| (node_id(host), life, shard));
        let before = if let Some(got) = &found {
            let live = got.record.siblings().iter().map(|s| s.request).collect();
            let held = Held { context: got.context.clone(), shown: got.record.clock.clone(), live };
            self.held.insert(key, held)
        } else {
            self.held.get(&key).cloned()
        };
        self.history.borrow_mut().gets.push(GetOp {
            client: self.number,
            key: of,
            held: before.filter(|_| min.is_some()).unwrap_or_default().live,
            min: min.map(|min| min.clock),
            invoked,
            returned: self.now(),
            found: found.as_ref().map(|got| Found {
                record: got.record.clone(),
                context: got.context.clock.clone(),
                acks: got.acks,
                now_ms: got.now_ms,
                coordinator,
            }),
        });
        found
    }

    /// Writes a key.
    async fn put(&mut self, host: usize, key: usize, held: Option<Held>, how: How) {
        let How { ttl_ms, w, pw, expect, buffered } = how;
        self.writes += 1;
        let content = match ttl_ms {
            Some(_) => Content::Value(self.value()),
            None => Content::Tombstone,
        };
        let request = RequestId(((self.number as u128 + 1) << 64) | u128::from(self.writes));
        let put = Put {
            key: self.keys[key].clone(),
            content,
            content_type: Bytes::new(),
            meta: Vec::new(),
            ttl_ms: ttl_ms.filter(|&ttl| ttl > 0),
            context: held.as_ref().map(|held| held.context.clone()),
            w,
            pw,
            request,
            retry: false,
            buffered: buffered.then_some(true),
            expect: match expect {
                Expected::Anything => None,
                Expected::Absent => Some(Expect::Absent),
                Expected::Present => Some(Expect::Present),
            },
            explain: false,
        };
        let at = self.begin(&put, held.as_ref());
        let done = self.attempts(host, put, at).await;
        let returned = self.now();
        if how.expect != Expected::Anything {
            let refused = self.history.borrow().puts[at].was_unexpected();
            let what = match (&done, refused) {
                (Some(_), _) => "condition held",
                (None, true) => "condition refused",
                (None, false) => "condition unknown",
            };
            self.cluster.world().log.borrow_mut().count(what);
        }
        // A retry that found its first attempt overwritten is told of no version to go on from: its client reads anew.
        if done.as_ref().is_some_and(|done| done.dot.n == 0) {
            self.held.remove(&key);
        } else if let Some(done) = &done {
            let mut shown = held.unwrap_or_default().shown;
            // What a superseding write replaced is part of what it has seen, and only its answer says what.
            if self.history.borrow().puts[at].supersedes {
                shown.join(&done.context.clock);
            }
            shown.add_dot(done.dot);
            self.held.insert(key, Held { context: done.context.clone(), shown, live: vec![request] });
        }
        self.history.borrow_mut().puts[at].returned = Some(returned);
    }

    fn begin(&self, put: &Put, held: Option<&Held>) -> usize {
        let lww = put.key.bucket() == LWW;
        let mut history = self.history.borrow_mut();
        history.puts.push(PutOp {
            client: self.number,
            request: put.request,
            key: put.key.clone(),
            content: put.content.clone(),
            sent: put.context.as_ref().map(|context| context.clock.clone()),
            shown: held.map(|held| held.shown.clone()).unwrap_or_default(),
            // A conditional write without a context covers what its coordinator has read.
            supersedes: held.is_none() && (lww || put.content == Content::Tombstone || put.expect.is_some()),
            ttl_ms: put.ttl_ms.unwrap_or_default(),
            invoked: self.now(),
            returned: None,
            outcome: Outcome::NotApplied,
            done: None,
            attempts: Vec::new(),
        });
        history.puts.len() - 1
    }

    /// One attempt, and one more at another node if the first broke, timed out or may succeed elsewhere.
    async fn attempts(&self, host: usize, mut put: Put, at: usize) -> Option<Box<Done>> {
        for nth in 0..ATTEMPTS_MAX {
            let host = (host + nth) % self.knobs.machines();
            let number = self.attempt_begins(at, host);
            let history = self.history.clone();
            let world = self.cluster.world().clone();
            let heard = Box::new(move |waited: u64, response: &Response| {
                let mut history = history.borrow_mut();
                let attempt = &mut history.puts[at].attempts[number];
                (attempt.waited, attempt.ended) = (waited, Some(world.now()));
                (attempt.outcome, attempt.reason) = match response {
                    Response::Done(_) => (Some(Outcome::Applied), None),
                    Response::Failed(failure) => (Some(failure.outcome), Some(failure.reason.clone())),
                    _ => (None, None),
                };
            });
            match self.attempt(host, Request::Put(Box::new(put.clone())), heard).await {
                Attempted::Answered(Response::Done(done)) => {
                    let seen = DoneSeen {
                        dot: done.dot,
                        clock: done.context.clock.clone(),
                        acks: done.acks,
                        buffered: done.buffered,
                    };
                    let mut history = self.history.borrow_mut();
                    (history.puts[at].outcome, history.puts[at].done) = (Outcome::Applied, Some(seen));
                    return Some(done);
                }
                Attempted::Answered(Response::Failed(failure)) => {
                    self.learn(at, failure.outcome);
                    if !failure.reason.retryable() {
                        return None;
                    }
                }
                Attempted::Answered(_) | Attempted::Unknown => self.learn(at, Outcome::MaybeApplied),
                Attempted::Unreachable => {
                    let ended = Some(self.now());
                    let attempt = &mut self.history.borrow_mut().puts[at].attempts[number];
                    (attempt.outcome, attempt.ended) = (Some(Outcome::NotApplied), ended);
                }
            }
            put.retry = self.history.borrow().puts[at].outcome == Outcome::MaybeApplied;
        }
        None
    }

    fn attempt_begins(&self, at: usize, host: usize) -> usize {
        let mut history = self.history.borrow_mut();
        let attempts = &mut history.puts[at].attempts;
        attempts.push(Attempt { node: node_id(host), waited: 0, outcome: None, reason: None, ended: None });
        attempts.len() - 1
    }

    fn learn(&self, at: usize, outcome: Outcome) {
        let mut history = self.history.borrow_mut();
        let op = &mut history.puts[at];
        op.outcome = op.outcome.max(outcome);
    }

    async fn list(&self, host: usize, key: usize, keys_max: u32, values: bool) {
        let key = &self.keys[key];
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = ListPage {
                partition: ring::partition_of(key, self.knobs.partitions),
                bucket: key.bucket().to_string(),
                prefix: Bytes::from_static(b"key-"),
                after: after.clone(),
                keys_max,
                values,
                r: self.level(0, self.knobs.r),
            };
            let listed = match self.call(host, Request::List(page)).await {
                Some(Response::Listed(listed)) => Some(listed),
                _ => None,
            };
            let next = listed.as_ref().and_then(|listed| listed.next_after.clone());
            self.history.borrow_mut().lists.push(ListOp {
                bucket: key.bucket().to_string(),
                after: after.take(),
                entries: listed.map(|listed| listed.entries),
                values,
                returned: self.now(),
            });
            match next {
                Some(next) => after = Some(next),
                None => return,
            }
        }
    }

    /// One attempt, and one more at another node if the first came to nothing: for reads.
    async fn call(&self, host: usize, request: Request) -> Option<Response> {
        self.call_one(host, request).await.map(|(_, response)| response)
    }

    /// The same, and who answered.
    async fn call_one(&self, host: usize, request: Request) -> Option<(usize, Response)> {
        for nth in 0..ATTEMPTS_MAX {
            let host = (host + nth) % self.knobs.machines();
            match self.attempt(host, request.clone(), Box::new(|_, _| {})).await {
                Attempted::Answered(Response::Failed(failure)) if failure.reason.retryable() => {}
                Attempted::Answered(response) => return Some((host, response)),
                Attempted::Unreachable | Attempted::Unknown => {}
            }
        }
        None
    }

    async fn attempt(&self, host: usize, request: Request, heard: crate::cluster::Heard) -> Attempted {
        let call = Call { timeout_ms: self.knobs.request_ms, request };
        let called = pin!(self.cluster.call(host, call, heard));
        let patience = pin!(Sleep::span(self.cluster.world().clone(), self.knobs.attempt_ms * 1_000_000));
        match select(called, patience).await {
            Either::Left((Called::Answered(response), _)) => Attempted::Answered(response),
            Either::Left((Called::Unreachable, _)) => Attempted::Unreachable,
            Either::Left((Called::Broken, _)) | Either::Right(_) => Attempted::Unknown,
        }
    }

    /// A value that nobody else writes, of some length.
    fn value(&self) -> Bytes {
        let mut value = format!("v{}-{}", self.number, self.writes).into_bytes();
        value.resize(value.len() + (self.writes as usize * 37) % 150, b'.');
        value.into()
    }

    fn level(&self, own: u8, of_run: u8) -> Option<Level> {
        [own, of_run].into_iter().find(|&level| level > 0).map(Level::Count)
    }

    fn now(&self) -> u64 {
        self.cluster.world().now()
    }
}

const ATTEMPTS_MAX: usize = 2;
const PAGES_MAX: usize = 20;
