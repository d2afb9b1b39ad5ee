//! One run, from a plan to a verdict. What happens in it is in [`crate::course`].

use crate::check;
use crate::course::{Course, Facts};
use crate::evidence::{Evidence, Violation};
use crate::knobs::{Knobs, Reclaim};
use crate::log::Trace;
use crate::nemesis::{self, Fault, Timed};
use crate::workload::{self, Step};
use crate::world::{Beginning, World};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed of network, disks and nodes.
    pub seed: u64,
    /// The seed of the scheduler.
    pub schedule: u64,
    /// How the run is set up.
    pub knobs: Knobs,
    /// What goes wrong.
    pub faults: Vec<Timed>,
    /// What each client does.
    pub clients: Vec<Vec<Step>>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was broken: empty for a good run.
    pub violations: Vec<Violation>,
    /// Why a run without violations proves nothing, if it does not.
    pub vacuous: Option<String>,
    /// The hash of everything that happened.
    pub digest: u64,
    /// How often each thing of note happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Client operations, and how many were answered as asked.
    pub operations: (usize, usize),
    /// Polls of tasks.
    pub polls: u64,
    /// Things that happened.
    pub events: u64,
    /// How long the cluster took to converge by itself, in milliseconds.
    pub converged_ms: Option<u64>,
    /// The lines of the log, if they were kept.
    pub lines: Vec<String>,
    /// What clients asked and were told, in order, if a log was asked for.
    pub story: Vec<String>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        Plan::with(seed, Reclaim::Drawn)
    }

    /// The plan of a seed in which tombstones go, or do not, whatever the seed says.
    pub fn with(seed: u64, reclaim: Reclaim) -> Plan {
        let mut knobs = Knobs::draw(seed);
        reclaim.force(&mut knobs);
        let faults = nemesis::draw(seed, &knobs);
        let clients = workload::draw(seed, &knobs);
        Plan { seed, schedule: seed, knobs, faults, clients }
    }

    /// A node that believes itself forgetful although no disk has failed would be mistrusted when it is right; and
    /// homes of which one is said to have lost something in silence have a disk that did.
    fn false_alarms(&self, world: &World) -> Vec<Violation> {
        let forgets = |timed: &Timed| {
            matches!(
                timed.fault,
                Fault::SyncError { .. }
                    | Fault::ReadOnly { .. }
                    | Fault::Rot { .. }
                    | Fault::SilentLoss { .. }
                    | Fault::Lies { .. }
                    | Fault::Wipe { .. }
                    | Fault::Restore { .. }
            )
        };
        let loses = |timed: &Timed| matches!(timed.fault, Fault::SilentLoss { .. } | Fault::Lies { .. });
        let log = world.log.borrow();
        let cried = |what: &str| log.counts().contains_key(what);
        let mut found = Vec::new();
        let mut say = |text: &str| found.push(Violation::new("false alarm", text.to_string()));
        if cried("amnesia") && !self.faults.iter().any(forgets) {
            say("a node noticed that it had forgotten something, and it had not");
        }
        if (cried("audit conflict") || cried("conflict")) && !self.faults.iter().any(loses) {
            say("a node noticed that a home had lost something in silence, and none had");
        }
        found
    }

    /// Carries it out.
    pub fn run(&self, trace: Trace) -> Verdict {
        self.run_and(trace, |_, _| Vec::new())
    }

    /// Carries it out and asks for more than the rules do.
    pub fn run_and(&self, trace: Trace, also: impl Fn(&Evidence, &Facts) -> Vec<Violation>) -> Verdict {
        let knobs = &self.knobs;
        let is_told = trace != Trace::Off;
        let world = World::new(Beginning {
            seed: self.seed,
            schedule: self.schedule,
            hosts: knobs.machines(),
            shards: knobs.shards,
            net: knobs.net.clone(),
            disk: knobs.disk.clone(),
            trace,
        });
        let course = Course::new(world.clone(), self);
        let ended = course.carry_out();
        let mut violations: Vec<Violation> =
            world.trouble().into_iter().map(|trouble| Violation::new(trouble.rule, trouble.text)).collect();
        if let Some((evidence, facts)) = &ended
            && violations.is_empty()
        {
            violations = check::all(evidence);
            violations.extend(needless(facts).filter(|_| evidence.claims.drained));
            violations.extend(facts.wrong_trees.iter().map(|text| Violation::new("trees", text.clone())));
            violations.extend(also(evidence, facts));
        }
        violations.extend(self.false_alarms(&world));
        let (polls, events) = (world.polls(), world.events());
        let ring = if knobs.spares > 0 { POLLS_MAX } else { 0 };
        let longer = (knobs.linger_ms + knobs.length_ms) / 1_000 * PER_SECOND_MAX + ring;
        let (polls_max, events_max) = (POLLS_MAX + longer, EVENTS_MAX + longer);
        if polls > polls_max || events > events_max {
            let text = format!(
                "{polls} polls and {events} events: at most {polls_max} and {events_max} are allowed"
            );
            violations.push(Violation::new("effort", text));
        }
        let history = ended.as_ref().map(|(evidence, _)| &evidence.history);
        let operations = history.map(|history| history.ratio()).unwrap_or_default();
        let story = history.filter(|_| is_told).map(|history| history.story()).unwrap_or_default();
        let converged_ms = ended.as_ref().and_then(|(_, facts)| facts.converged_ms);
        world.count_bites();
        drop(course);
        world.end();
        let log = world.log.borrow();
        Verdict {
            vacuous: violations
                .is_empty()
                .then(|| vacuity(self, operations).or_else(|| harmless(self, log.counts())))
                .flatten(),
            violations,
            digest: log.digest(),
            counts: log.counts().clone(),
            operations,
            polls,
            events,
            converged_ms,
            lines: log.kept().to_vec(),
            story,
        }
    }
}

/// A read of replicas that agree causes no write.
fn needless(facts: &Facts) -> Option<Violation> {
    let repairs = facts.needless_repairs;
    let text = || format!("reads of keys on which all homes agreed caused {repairs} repairs");
    (repairs > 0).then(|| Violation::new("quiet reads", text()))
}

/// A run that answered too little proves too little: 60 % must be answered as asked, or 35 % if the plan has
/// more than [`HEAVY_FAULTS`] faults or a single copy or a single dissenter stops a strict operation (N < 3).
fn vacuity(plan: &Plan, (all, answered): (usize, usize)) -> Option<String> {
    let is_heavy = plan.faults.len() > HEAVY_FAULTS || plan.knobs.n < 3;
    let least = if is_heavy { 35 } else { 60 };
    (answered * 100 < all * least)
        .then(|| format!("only {answered} of {all} operations were answered as asked"))
}

/// A run whose faults hardly took effect proves too little: of the kinds of faults in its plan, half must have
/// found something to harm.
fn harmless(plan: &Plan, counts: &BTreeMap<&'static str, u64>) -> Option<String> {
    let kinds: BTreeSet<&str> = plan.faults.iter().filter_map(|timed| timed.fault.kind()).collect();
    let idle: Vec<&str> = kinds.iter().copied().filter(|kind| !counts.contains_key(kind)).collect();
    (idle.len() * 2 > kinds.len() || kinds.is_empty())
        .then(|| format!("of {} kinds of faults these took no effect: {}", kinds.len(), idle.join(", ")))
}

/// The most that one run may cost: five times what an ordinary one does, for those that converge only with the
/// next audit, five minutes of quiet later.
pub const POLLS_MAX: u64 = 250_000;
/// See [`POLLS_MAX`].
pub const EVENTS_MAX: u64 = 150_000;
/// ... and on top of that for each second that it is to last.
pub const PER_SECOND_MAX: u64 = 1_000;
/// Plans with more faults than this may answer less.
const HEAVY_FAULTS: usize = 12;
