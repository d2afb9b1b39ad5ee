//! Asking several peers at once: one correlation, one timer and one place for answers per client operation.
//!
//! A [`Gather`] hands out answers in the order of their arrival, each at most once per peer and question, and
//! says when nobody is left to answer. Dropping it forgets the question: later answers fall on the floor.

use crate::detector::{Detector, Question};
use crate::env::{Env, Mono};
use crate::signal::Signal;
use gramme_core::planted::{self, Bug};
use gramme_core::{NodeId, PartitionId};
use gramme_wire::{Body, Message, Reason};
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
    waiting: RefCell<Vec<Waiting>>,
    /// Whether whoever waits wants to know of peers that have gone silent, and those that have.
    heeds_silence: Cell<bool>,
    silent: RefCell<Vec<NodeId>>,
    knows_of_silence: Cell<bool>,
    signal: Signal,
}

/// A peer whose answer is awaited.
struct Waiting {
    peer: NodeId,
    asked_at: Mono,
    question: Question,
}

impl Route {
    fn silence(&self, peer: NodeId) {
        self.silent.borrow_mut().push(peer);
        self.knows_of_silence.set(false);
    }
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

    /// Says something whose answers come to whoever knows the number that this gives; `None` if it never left.
    pub(crate) fn announce(&self, peer: NodeId, body: Body, deadline: Mono) -> Option<u64> {
        let correlation = self.next.get();
        self.next.set(correlation + 1);
        let message = self.message(correlation, Message::NO_PARTITION, body, deadline);
        self.env.send(peer, message).then_some(correlation)
    }

    /// An answer has come in.
    pub(crate) fn answered(&self, from: NodeId, correlation: u64, body: Body) {
        let now = self.env.now();
        let Some(route) = self.open.borrow().get(&correlation).cloned() else {
            return self.detector.borrow_mut().heard(from, now);
        };
        let asked_at = {
            let mut waiting = route.waiting.borrow_mut();
            let at = waiting.iter().position(|w| w.peer == from);
            let found = at.map(|at| (waiting[at].asked_at, waiting[at].question));
            if let Some(at) = at.filter(|_| !planted::on(Bug::DuplicateCounted)) {
                waiting.swap_remove(at);
            }
            found
        };
        // Nobody is waiting for a second answer to one question.
        let Some((asked_at, question)) = asked_at else { return };
        {
            let mut detector = self.detector.borrow_mut();
            detector.answered(from, question, now, now.since(asked_at));
            if could_not(&body) {
                detector.failed(from);
            }
        }
        route.answers.borrow_mut().push_back((from, Answer::Said(body)));
        route.signal.notify();
    }

    /// A peer's connection is gone: whoever waits for it waits in vain.
    pub(crate) fn lost(&self, peer: NodeId) {
        let routes: Vec<Rc<Route>> = self.open.borrow().values().cloned().collect();
        for route in routes {
            let before = route.waiting.borrow().len();
            route.waiting.borrow_mut().retain(|w| w.peer != peer);
            for _ in route.waiting.borrow().len()..before {
                let (now, none) = (self.env.now(), Duration::ZERO);
                self.detector.borrow_mut().unanswered(peer, Question::Long, now, none);
            }
            if route.waiting.borrow().len() < before {
                route.answers.borrow_mut().push_back((peer, Answer::Lost));
                route.signal.notify();
            }
        }
    }

    /// A peer has gone silent: whoever waits for it and cares is told.
    pub(crate) fn gone_silent(&self, peer: NodeId) {
        let routes: Vec<Rc<Route>> = self.open.borrow().values().cloned().collect();
        for route in routes {
            if route.heeds_silence.get() && route.waiting.borrow().iter().any(|w| w.peer == peer) {
                route.silence(peer);
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
        let question = question_of(&body);
        let message = self.routes.message(self.correlation, self.partition, body, self.deadline);
        let sent = self.routes.env.send(peer, message);
        if sent {
            let asked_at = self.routes.env.now();
            self.route.waiting.borrow_mut().push(Waiting { peer, asked_at, question });
            let mut detector = self.routes.detector.borrow_mut();
            detector.asked(peer, question, asked_at);
            if detector.is_silent(peer) {
                self.route.silence(peer);
            }
        } else {
            self.route.answers.borrow_mut().push_back((peer, Answer::Unsent));
        }
        sent
    }

    /// This node answers its own question, like a peer and as slowly as its disk; whoever has the answer hands
    /// it in by what this gives.
    pub(crate) fn ask_here(&self, me: NodeId) -> impl FnOnce(Body) + 'static {
        let route = self.route.clone();
        let asked_at = self.routes.env.now();
        route.waiting.borrow_mut().push(Waiting { peer: me, asked_at, question: Question::Long });
        move |body| {
            route.waiting.borrow_mut().retain(|w| w.peer != me);
            route.answers.borrow_mut().push_back((me, Answer::Said(body)));
            route.signal.notify();
        }
    }

    /// Whether [`Gather::next`] also says that it is time when a peer that is waited for has gone silent.
    pub(crate) fn heed_silence(&self, heed: bool) {
        self.route.heeds_silence.set(heed);
    }

    /// Peers that are waited for and that have gone silent, each once.
    pub(crate) fn take_silent(&self) -> Vec<NodeId> {
        let mut silent = std::mem::take(&mut *self.route.silent.borrow_mut());
        silent.retain(|peer| self.route.waiting.borrow().iter().any(|w| w.peer == *peer));
        silent
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
        let news = self.route.heeds_silence.get() && !self.route.silent.borrow().is_empty();
        if news && !self.route.knows_of_silence.replace(true) {
            return Poll::Ready(Step::Time);
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
        let mut detector = self.routes.detector.borrow_mut();
        for Waiting { peer, asked_at, question } in unanswered {
            detector.unanswered(peer, question, now, now.since(asked_at));
        }
    }
}

/// What a body demands of its peer.
fn question_of(body: &Body) -> Question {
    match body {
        Body::Read { .. } => Question::Read,
        Body::Merge { .. } => Question::Merge,
        Body::Ping => Question::Ping,
        _ => Question::Long,
    }
}

/// Whether an answer says that the peer itself was at fault.
fn could_not(body: &Body) -> bool {
    matches!(body, Body::Refused { failure } if matches!(failure.reason, Reason::Disk(_) | Reason::Overloaded))
}
