//! Asking several peers at once: one correlation, one timer and one place for answers per client operation.
//!
//! A [`Gather`] hands out answers in the order of their arrival, each at most once per peer and question, and
//! says when nobody is left to answer. Dropping it forgets the question: later answers fall on the floor.

use crate::detector::Detector;
use crate::env::{Env, Mono};
use crate::signal::Signal;
use gramme_core::planted::{self, Bug};
use gramme_core::{NodeId, PartitionId};
use gramme_wire::{Body, Message};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

type Timer = Pin<Box<dyn Future<Output = ()>>>;

/// What came of asking a peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It said this.
    Said(Body),
    /// Its connection broke: it may or may not have got the question.
    Lost,
    /// The question never left this node.
    Unsent,
}

/// What a [`Gather`] has to say.
#[derive(Debug)]
pub(crate) enum Step {
    /// A peer's answer.
    Answer(NodeId, Answer),
    /// The time asked for has come.
    Time,
    /// Everyone who was asked has answered.
    Exhausted,
}

/// Questions that await answers, by correlation.
pub(crate) struct Routes<E: Env> {
    env: E,
    /// The correlation of what nobody waits for; its top byte brings a pong back to the shard that pinged.
    none: u64,
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Route>>>,
    detector: Rc<RefCell<Detector>>,
}

#[derive(Default)]
struct Route {
    answers: RefCell<VecDeque<(NodeId, Answer)>>,
    waiting: RefCell<Vec<(NodeId, Mono)>>,
    signal: Signal,
}

impl<E: Env> Routes<E> {
    /// No questions yet. `shard` goes into every correlation, so that answers find their way back. Each life
    /// counts from a random number: a slow answer to a question of the life before must not be taken for the
    /// answer to one of this life's.
    pub(crate) fn new(env: E, shard: usize, detector: Rc<RefCell<Detector>>) -> Rc<Routes<E>> {
        let none = (shard as u64) << 56;
        // 55 bits of chance leave as many questions before the count would reach the shard's byte.
        let first = none + 1 + (env.random() >> 9);
        Rc::new(Routes { env, none, next: Cell::new(first), open: RefCell::default(), detector })
    }

    /// Asks these peers the same; answers count until `deadline`, which travels with the question.
    pub(crate) fn fan_out(
        self: &Rc<Self>,
        peers: &[NodeId],
        partition: PartitionId,
        body: Body,
        deadline: Mono,
    ) -> Gather<E> {
        let gather = self.open(partition, deadline);
        for &peer in peers {
            gather.ask(peer, body.clone());
        }
        gather
    }

    /// A question that has been put to nobody yet.
    pub(crate) fn open(self: &Rc<Self>, partition: PartitionId, deadline: Mono) -> Gather<E> {
        let correlation = self.next.get();
        self.next.set(correlation + 1);
        let route = Rc::new(Route::default());
        self.open.borrow_mut().insert(correlation, route.clone());
        Gather { routes: self.clone(), correlation, partition, deadline, route, timer: None }
    }

    /// Says something to which no answer is expected.
    pub(crate) fn tell(&self, peer: NodeId, partition: PartitionId, body: Body, deadline: Mono) -> bool {
        self.env.send(peer, self.message(self.none, partition, body, deadline))
    }

    /// An answer has come in.
    pub(crate) fn answered(&self, from: NodeId, correlation: u64, body: Body) {
        let now = self.env.now();
        let Some(route) = self.open.borrow().get(&correlation).cloned() else {
            return self.detector.borrow_mut().heard(from, now);
        };
        let asked_at = {
            let mut waiting = route.waiting.borrow_mut();
            let at = waiting.iter().position(|w| w.0 == from);
            let again = planted::on(Bug::DuplicateCounted);
            at.map(|at| if again { waiting[at].1 } else { waiting.swap_remove(at).1 })
        };
        // Nobody is waiting for a second answer to one question.
        let Some(asked_at) = asked_at else { return };
        self.detector.borrow_mut().answered(from, now, now.since(asked_at));
        route.answers.borrow_mut().push_back((from, Answer::Said(body)));
        route.signal.notify();
    }

    /// A peer's connection is gone: whoever waits for it waits in vain.
    pub(crate) fn lost(&self, peer: NodeId) {
        let routes: Vec<Rc<Route>> = self.open.borrow().values().cloned().collect();
        for route in routes {
            let before = route.waiting.borrow().len();
            route.waiting.borrow_mut().retain(|w| w.0 != peer);
            if route.waiting.borrow().len() < before {
                route.answers.borrow_mut().push_back((peer, Answer::Lost));
                route.signal.notify();
            }
        }
    }

    fn message(&self, correlation: u64, partition: PartitionId, body: Body, deadline: Mono) -> Message {
        let now = self.env.now();
        let remaining = deadline.since(now).as_micros();
        let remaining_us = u32::try_from(remaining).unwrap_or(u32::MAX);
        Message { correlation, partition, remaining_us, sent_ns: now.0, body }
    }
}

/// One question and its answers.
pub(crate) struct Gather<E: Env> {
    routes: Rc<Routes<E>>,
    correlation: u64,
    partition: PartitionId,
    deadline: Mono,
    route: Rc<Route>,
    timer: Option<(Mono, Timer)>,
}

impl<E: Env> Gather<E> {
    /// Puts the question to one more peer; `false` says that it never left, which is also an answer.
    pub(crate) fn ask(&self, peer: NodeId, body: Body) -> bool {
        let message = self.routes.message(self.correlation, self.partition, body, self.deadline);
        let sent = self.routes.env.send(peer, message);
        if sent {
            self.route.waiting.borrow_mut().push((peer, self.routes.env.now()));
        } else {
            self.route.answers.borrow_mut().push_back((peer, Answer::Unsent));
        }
        sent
    }

    /// This node answers its own question, like a peer and as slowly as its disk; whoever has the answer hands
    /// it in by what this gives.
    pub(crate) fn ask_here(&self, me: NodeId) -> impl FnOnce(Body) + 'static {
        let route = self.route.clone();
        route.waiting.borrow_mut().push((me, self.routes.env.now()));
        move |body| {
            route.waiting.borrow_mut().retain(|w| w.0 != me);
            route.answers.borrow_mut().push_back((me, Answer::Said(body)));
            route.signal.notify();
        }
    }

    /// When the question's time is over.
    pub(crate) fn deadline(&self) -> Mono {
        self.deadline
    }

    /// Whether an answer may still come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.route.waiting.borrow().is_empty() || !self.route.answers.borrow().is_empty()
    }

    /// The next answer, or that `until` has come (never later than the deadline), or that nobody is left.
    pub(crate) async fn next(&mut self, until: Mono) -> Step {
        poll_fn(|cx| self.poll_next(cx, until)).await
    }

    /// See [`Gather::next`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, until: Mono) -> Poll<Step> {
        if let Some((peer, answer)) = self.route.answers.borrow_mut().pop_front() {
            return Poll::Ready(Step::Answer(peer, answer));
        }
        if self.route.waiting.borrow().is_empty() {
            return Poll::Ready(Step::Exhausted);
        }
        self.route.signal.register(cx);
        self.poll_time(cx, until).map(|()| Step::Time)
    }

    /// Ready once `until`, or the deadline, has come.
    pub(crate) fn poll_time(&mut self, cx: &mut Context<'_>, until: Mono) -> Poll<()> {
        let at = until.min(self.deadline);
        if self.routes.env.now() >= at {
            return Poll::Ready(());
        }
        let timer = match &mut self.timer {
            Some((set, timer)) if *set == at => timer,
            _ => &mut self.timer.insert((at, Box::pin(self.routes.env.sleep_until(at)))).1,
        };
        timer.as_mut().poll(cx)
    }
}

impl<E: Env> Drop for Gather<E> {
    fn drop(&mut self) {
        self.routes.open.borrow_mut().remove(&self.correlation);
        let unanswered = std::mem::take(&mut *self.route.waiting.borrow_mut());
        let now = self.routes.env.now();
        for (peer, asked_at) in unanswered {
            let waited = now.since(asked_at);
            if waited >= SILENCE {
                self.routes.detector.borrow_mut().silent(peer, now);
            }
        }
    }
}

/// A question that was open for so long without an answer counts against the peer.
const SILENCE: Duration = Duration::from_millis(150);
