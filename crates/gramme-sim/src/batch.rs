//! Many seeds, on as many threads as asked for: each run has a world of its own, on its own thread.

use crate::course::Facts;
use crate::coverage;
use crate::evidence::{Evidence, Violation};
use crate::knobs::Reclaim;
use crate::log::Trace;
use crate::run::{Plan, Verdict};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which seeds.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many at most.
    pub count: u64,
    /// Threads.
    pub threads: usize,
    /// Stop at the first that fails.
    pub until_failure: bool,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Which.
    pub seed: u64,
    /// How.
    pub violations: Vec<Violation>,
}

/// What came of a batch.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Runs carried out.
    pub runs: u64,
    /// Seeds that broke a rule, in order.
    pub failed: Vec<Failed>,
    /// Seeds that prove too little, with why.
    pub vacuous: Vec<(u64, String)>,
    /// How often each thing of note happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Client operations, and how many were answered as asked.
    pub operations: (u64, u64),
    /// The most polls and events of one run.
    pub most: (u64, u64),
    /// Whether tombstones went in every run, in none, or as drawn.
    pub reclaim: Reclaim,
    /// The longest that a cluster took to converge by itself, in milliseconds.
    pub slowest_ms: u64,
}

impl Outcome {
    /// What a large batch should have met and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        coverage::missing(self.runs, &self.counts, self.reclaim)
    }

    /// Whether too many runs prove too little: more than one in twenty.
    pub fn is_vacuous(&self) -> bool {
        self.vacuous.len() as u64 * 20 > self.runs
    }

    /// Whether the batch is green.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && !self.is_vacuous() && self.missing().is_empty()
    }

    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.runs += 1;
        for (what, count) in verdict.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.operations.0 += verdict.operations.0 as u64;
        self.operations.1 += verdict.operations.1 as u64;
        self.most = (self.most.0.max(verdict.polls), self.most.1.max(verdict.events));
        self.slowest_ms = self.slowest_ms.max(verdict.converged_ms.unwrap_or_default());
        self.vacuous.extend(verdict.vacuous.map(|why| (seed, why)));
        if !verdict.violations.is_empty() {
            self.failed.push(Failed { seed, violations: verdict.violations });
        }
    }
}

/// What the runs of a batch are.
#[derive(Clone, Copy)]
pub struct Kind<'a> {
    /// The plan of a seed.
    pub plan: &'a (dyn Fn(u64) -> Plan + Sync),
    /// What is asked beyond the rules.
    pub also: fn(&Evidence, &Facts) -> Vec<Violation>,
}

/// Runs as they are drawn, of which nothing more is asked.
pub const DRAWN: Kind<'static> = Kind { plan: &Plan::of, also: |_, _| Vec::new() };

/// Runs seeds until they are through, or `stop` says so. `progress` is told what has come of it after
/// each run; its failures stand in the order in which they were found.
pub fn run(seeds: Seeds, stop: impl Fn() -> bool + Sync, progress: impl Fn(&Outcome) + Sync) -> Outcome {
    run_kind(DRAWN, seeds, stop, progress)
}

/// The same for any kind of runs.
pub fn run_kind(
    kind: Kind<'_>,
    seeds: Seeds,
    stop: impl Fn() -> bool + Sync,
    progress: impl Fn(&Outcome) + Sync,
) -> Outcome {
    let next = AtomicU64::new(seeds.first);
    let over = AtomicBool::new(false);
    let outcome = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..seeds.threads.max(1) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && !stop() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - seeds.first >= seeds.count {
                        break;
                    }
                    let verdict = one_and(&(kind.plan)(seed), Trace::Off, kind.also);
                    let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    outcome.add(seed, verdict);
                    if seeds.until_failure && !outcome.failed.is_empty() {
                        over.store(true, Ordering::Relaxed);
                    }
                    progress(&outcome);
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcome.failed.sort_by_key(|failed| failed.seed);
    outcome.vacuous.sort_by_key(|vacuous| vacuous.0);
    outcome
}

/// One run; a panic outside the simulated tasks is a violation like any other.
pub fn one(plan: &Plan, trace: Trace) -> Verdict {
    one_and(plan, trace, DRAWN.also)
}

/// The same for a run of which more is asked than the rules do.
pub fn one_and(plan: &Plan, trace: Trace, also: fn(&Evidence, &Facts) -> Vec<Violation>) -> Verdict {
    quiet_panics();
    catch_unwind(AssertUnwindSafe(|| plan.run_and(trace, also))).unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_string()))
            .unwrap_or_default();
        Verdict {
            violations: vec![Violation::new("panic", format!("outside of any task: {text}"))],
            vacuous: None,
            digest: 0,
            counts: BTreeMap::new(),
            operations: (0, 0),
            polls: 0,
            events: 0,
            converged_ms: None,
            lines: Vec::new(),
            story: Vec::new(),
        }
    })
}

/// Panics of simulated code are reported as violations; nobody wants them on standard error as well.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !crate::armed::disarm() {
                usual(panic);
            } else if let Some(place) = panic.location() {
                PLACE.with(|at| *at.borrow_mut() = format!("{}:{}", place.file(), place.line()));
            }
        }));
    });
}

/// Where the last panic of this thread's simulated code happened.
pub(crate) fn panic_place() -> String {
    PLACE.with(|at| at.take())
}

thread_local! {
    static PLACE: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}
