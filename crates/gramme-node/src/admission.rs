//! Who may load the disk and the network without a client waiting for it: one controller per shard hands out
//! slices of bytes to all background work, most urgent first (the paper, 6.5). How many there are follows how
//! the foreground fares: [`gramme_core::admission`] decides, this measures and waits.
//!
//! A shard's controller knows only its own clients' times; the shards of a node share one disk, and each sees
//! what the others do to it in its own waits.
//!
//! Every eighth slice goes to whoever has waited longest, whatever its work: the urgent never stops the rest.

use crate::env::{Env, Mono};
use crate::probe::Probe;
use crate::signal::Signal;
use crate::window::{PART, Window};
use gramme_core::admission::{Figures, Steering};
use gramme_core::limits::SLICES_WAITING_MAX;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What wants a slice, most urgent first (correctness.md 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A hint store's content on its way to its homes.
    Handoff,
    /// Homes of a partition comparing and pulling what they lack, refilling included.
    Exchange,
    /// Building and auditing hash trees.
    Rebuild,
    /// A partition on its way to a new owner, and backups.
    Transfer,
    /// Forgetting tombstones and clocks that everyone has seen.
    Reclaim,
    /// Rereading everything.
    Scrub,
}

/// Every kind of work, in the order of its urgency.
pub const WORKS: [Work; 6] =
    [Work::Handoff, Work::Exchange, Work::Rebuild, Work::Transfer, Work::Reclaim, Work::Scrub];

impl Work {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Work::Handoff => "handoff",
            Work::Exchange => "exchange",
            Work::Rebuild => "rebuild",
            Work::Transfer => "transfer",
            Work::Reclaim => "reclaim",
            Work::Scrub => "scrub",
        }
    }
}

/// What the controller knows, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionStatus {
    /// Bytes per second that background work may cause.
    pub budget_bytes_per_s: u64,
    /// Bytes per second that it caused over the last minute.
    pub drawn_bytes_per_s: u64,
    /// The foreground's 99th percentile over the last minute, in microseconds; 0 if nothing was asked.
    pub foreground_p99_us: u64,
    /// Beyond which the budget is cut.
    pub limit_us: u64,
    /// The 99th percentile of waits for a durable batch over the last minute, in microseconds.
    pub sync_p99_us: u64,
    /// Flows that wait for a slice.
    pub waiting: usize,
}

/// See the module.
pub struct Admission<E: Env> {
    env: E,
    state: RefCell<State>,
    asked: Signal,
}

struct State {
    steering: Steering,
    foreground: Window,
    syncs: Window,
    turned_at: Mono,
    /// Bytes drawn in each part of the window, newest first.
    drawn: VecDeque<u64>,
    last: Figures,
    /// Bytes that may be drawn at once; less than nothing after a slice that was larger.
    tokens: i64,
    filled_at: Mono,
    waiting: BTreeMap<(Work, u64), Waiting>,
    asked: u64,
    handed: u64,
}

struct Waiting {
    bytes: u64,
    go: oneshot::Sender<()>,
}

impl<E: Env> Admission<E> {
    /// Nothing is measured and nobody waits. [`Admission::hand_out_for_ever`] must run for slices to be given.
    pub(crate) fn new(env: E) -> Rc<Admission<E>> {
        let now = env.now();
        let state = State {
            steering: Steering::default(),
            foreground: Window::new(),
            syncs: Window::new(),
            turned_at: now,
            drawn: VecDeque::from([0]),
            last: Figures::default(),
            tokens: 0,
            filled_at: now,
            waiting: BTreeMap::new(),
            asked: 0,
            handed: 0,
        };
        Rc::new(Admission { env, state: RefCell::new(state), asked: Signal::default() })
    }

    /// Waits until background work may cause about so many bytes of reading, sending or writing. Ask before each
    /// bounded step (a page, a batch), for as much as it will move; a guess will do. To be dropped at any time.
    pub async fn slice(&self, work: Work, bytes: u64) {
        while self.state.borrow().waiting.len() >= SLICES_WAITING_MAX {
            self.env.sleep_until(self.env.now() + CROWDED).await;
        }
        let (go, gone) = oneshot::channel();
        {
            let mut state = self.state.borrow_mut();
            state.asked += 1;
            let place = (work, state.asked);
            state.waiting.insert(place, Waiting { bytes, go });
        }
        self.asked.notify();
        // Whoever hands out lives as long as the shard; at its end nobody is held up.
        let _ = gone.await;
        self.env.probe(Probe::Slice { work, bytes });
    }

    /// Hands out slices at the pace of the budget for as long as the shard lives.
    pub(crate) async fn hand_out_for_ever(self: Rc<Self>) {
        loop {
            self.asked.wait_for(|| (!self.state.borrow().waiting.is_empty()).then_some(())).await;
            let now = self.env.now();
            let pause = self.state.borrow_mut().hand_out(now);
            if let Some(pause) = pause {
                self.env.sleep_until(now + pause).await;
            }
        }
    }

    /// A client's read or write took so long.
    pub(crate) fn foreground_took(&self, took: Duration) {
        self.state.borrow_mut().foreground.record(took);
    }

    /// A batch was durable after so long.
    pub(crate) fn sync_took(&self, took: Duration) {
        self.state.borrow_mut().syncs.record(took);
    }

    /// Time passes; every few seconds the budget is steered. `queues_percent` says how full the fullest of the
    /// shard's queues is.
    pub(crate) fn beat(&self, queues_percent: u64) {
        let now = self.env.now();
        let budget = {
            let mut state = self.state.borrow_mut();
            if now.since(state.turned_at) < PART {
                return;
            }
            state.turned_at = now;
            state.turn(queues_percent);
            state.steering.budget()
        };
        self.env.probe(Probe::Budget(budget));
    }

    /// What is known, for people.
    pub(crate) fn status(&self) -> AdmissionStatus {
        let state = self.state.borrow();
        AdmissionStatus {
            budget_bytes_per_s: state.steering.budget(),
            drawn_bytes_per_s: state.last.background_bytes_per_s,
            foreground_p99_us: state.last.window_us,
            limit_us: state.steering.limit_us(),
            sync_p99_us: state.last.sync_window_us,
            waiting: state.waiting.len(),
        }
    }
}

impl State {
    /// Gives slices away for as long as there are tokens; how long to wait if someone still waits.
    fn hand_out(&mut self, now: Mono) -> Option<Duration> {
        self.fill(now);
        while self.tokens > 0 {
            let next = self.next()?;
            // Whoever has gone away needs none.
            if next.go.send(()).is_ok() {
                self.handed += 1;
                self.tokens -= i64::try_from(next.bytes).unwrap_or(i64::MAX);
                if let Some(newest) = self.drawn.front_mut() {
                    *newest += next.bytes;
                }
            }
        }
        if self.waiting.is_empty() {
            return None;
        }
        let owed = self.tokens.unsigned_abs() + 1;
        let wait_ms = (owed * 1000).div_ceil(self.steering.budget());
        Some(Duration::from_millis(wait_ms.clamp(1, PAUSE_MS_MAX)))
    }

    fn next(&mut self) -> Option<Waiting> {
        let longest = self.waiting.keys().copied().min_by_key(|place| place.1);
        if self.handed % FAIR_EVERY == FAIR_EVERY - 1 {
            return self.waiting.remove(&longest?);
        }
        self.waiting.pop_first().map(|(_, waiting)| waiting)
    }

    fn fill(&mut self, now: Mono) {
        let ms = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return;
        }
        self.filled_at = now;
        let budget = self.steering.budget();
        let fresh = i64::try_from(budget.saturating_mul(ms) / 1000).unwrap_or(i64::MAX);
        let most = i64::try_from(budget / BURSTS_PER_S).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(fresh).min(most);
    }

    fn turn(&mut self, queues_percent: u64) {
        self.foreground.turn();
        self.syncs.turn();
        let seconds = PART.as_secs() * self.drawn.len() as u64;
        self.last = Figures {
            window_us: self.foreground.p99_us(),
            newest_us: self.foreground.newest_p99_us(),
            sync_window_us: self.syncs.p99_us(),
            sync_newest_us: self.syncs.newest_p99_us(),
            queues_percent,
            background_bytes_per_s: self.drawn.iter().sum::<u64>() / seconds.max(1),
        };
        self.steering.step(&self.last);
        self.drawn.push_front(0);
        self.drawn.truncate(DRAWN_PARTS);
    }
}

/// Between two looks at a queue that is full.
const CROWDED: Duration = Duration::from_secs(1);
/// A twentieth of a second's budget may be drawn at once: what is drawn at once keeps a shard's thread busy, and its
/// clients wait behind it.
const BURSTS_PER_S: u64 = 20;
/// The longest pause: the budget may have grown meanwhile.
const PAUSE_MS_MAX: u64 = 1000;
const FAIR_EVERY: u64 = 8;
const DRAWN_PARTS: usize = 12;
