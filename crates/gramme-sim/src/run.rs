//! One run, from a plan to a verdict: a cluster is started, clients work while faults happen, everything heals,
//! every key is read from all its homes, and the disks are read with the world at a stand.

use crate::check;
use crate::client::Client;
use crate::cluster::{Called, Cluster};
use crate::evidence::{self, Evidence, Violation};
use crate::executor::Owner;
use crate::history::History;
use crate::knobs::Knobs;
use crate::log::Trace;
use crate::nemesis::{self, Fault, Timed};
use crate::rng::Rng;
use crate::timer::Sleep;
use crate::workload::{self, OWN, Step};
use crate::world::{Beginning, World};
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Level};
use gramme_core::limits::SIBLINGS_MAX;
use gramme_core::record::Content;
use gramme_core::{Key, PartitionId};
use gramme_node::request::{Call, ListPage, Request, Response};
use gramme_wire::Reason;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

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
    /// The lines of the log, if they were kept.
    pub lines: Vec<String>,
    /// What clients asked and were told, in order, if a log was asked for.
    pub story: Vec<String>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let knobs = Knobs::draw(seed);
        let faults = nemesis::draw(seed, &knobs);
        let clients = workload::draw(seed, &knobs);
        Plan { seed, schedule: seed, knobs, faults, clients }
    }

    /// A node that believes itself forgetful although no disk has failed would be mistrusted when it is right.
    fn false_alarm(&self, world: &World) -> Option<Violation> {
        let forgets = |timed: &Timed| {
            matches!(timed.fault, Fault::SyncError { .. } | Fault::Full { .. } | Fault::Wipe { .. })
        };
        let alarmed = world.log.borrow().counts().contains_key("amnesia");
        (alarmed && !self.faults.iter().any(forgets)).then(|| {
            Violation::new(
                "false alarm",
                "a node noticed that it had forgotten something, and it had not".to_string(),
            )
        })
    }

    /// Carries it out.
    pub fn run(&self, trace: Trace) -> Verdict {
        let knobs = &self.knobs;
        let is_told = trace != Trace::Off;
        let world = World::new(Beginning {
            seed: self.seed,
            schedule: self.schedule,
            hosts: knobs.hosts,
            shards: knobs.shards,
            net: knobs.net.clone(),
            disk: knobs.disk.clone(),
            trace,
        });
        let run = Run::new(world.clone(), self);
        let evidence = run.carry_out();
        let mut violations: Vec<Violation> =
            world.trouble().into_iter().map(|trouble| Violation::new(trouble.rule, trouble.text)).collect();
        if let Some(evidence) = &evidence
            && violations.is_empty()
        {
            violations = check::all(evidence);
        }
        violations.extend(self.false_alarm(&world));
        let (polls, events) = (world.polls(), world.events());
        if polls > POLLS_MAX || events > EVENTS_MAX {
            let text = format!(
                "{polls} polls and {events} events: at most {POLLS_MAX} and {EVENTS_MAX} are allowed"
            );
            violations.push(Violation::new("effort", text));
        }
        let operations = evidence.as_ref().map(|evidence| evidence.history.ratio()).unwrap_or_default();
        let story = evidence.as_ref().filter(|_| is_told).map(|e| e.history.story()).unwrap_or_default();
        drop(run);
        world.end();
        let log = world.log.borrow();
        Verdict {
            vacuous: violations.is_empty().then(|| vacuity(self, operations)).flatten(),
            violations,
            digest: log.digest(),
            counts: log.counts().clone(),
            operations,
            polls,
            events,
            lines: log.kept().to_vec(),
            story,
        }
    }
}

/// A run that answered too little proves too little: 60 % must be answered as asked, or 35 % if the plan has
/// more than [`HEAVY_FAULTS`] faults or a single copy or a single dissenter stops a strict operation (N < 3).
fn vacuity(plan: &Plan, (all, answered): (usize, usize)) -> Option<String> {
    let is_heavy = plan.faults.len() > HEAVY_FAULTS || plan.knobs.n < 3;
    let least = if is_heavy { 35 } else { 60 };
    (answered * 100 < all * least)
        .then(|| format!("only {answered} of {all} operations were answered as asked"))
}

struct Run<'a> {
    plan: &'a Plan,
    world: Rc<World>,
    cluster: Cluster,
    keys: Rc<Vec<Key>>,
    history: Rc<RefCell<History>>,
    working: Rc<Cell<usize>>,
}

impl<'a> Run<'a> {
    fn new(world: Rc<World>, plan: &'a Plan) -> Run<'a> {
        let keys = workload::keys(&plan.knobs)
            .into_iter()
            .map(|(bucket, key)| Key::new(bucket, key.as_bytes()).expect("the workload's keys are keys"))
            .collect();
        let cluster = Cluster::new(world.clone(), &plan.knobs);
        let history = Rc::default();
        Run { plan, world, cluster, keys: Rc::new(keys), history, working: Rc::default() }
    }

    /// `None` if the run ended in trouble.
    fn carry_out(&self) -> Option<Evidence> {
        (0..self.plan.knobs.hosts).for_each(|host| self.cluster.start(host));
        self.advance(300);
        self.cluster.prove();
        self.spawn_settings();
        self.spawn_clients();
        for timed in &self.plan.faults {
            self.advance(timed.at_ms);
            self.cluster.suffer(timed.fault);
        }
        self.advance(self.plan.knobs.length_ms);
        while self.working.get() > 0 && self.world.trouble().is_none() && self.now_ms() < PATIENCE_MS {
            self.advance(self.now_ms() + 100);
        }
        self.cluster.heal();
        self.advance(self.now_ms() + HEAL_MS);
        // Whatever the last fault has broken has been started anew by now.
        self.cluster.heal();
        let unread = self.read_all();
        self.advance(self.now_ms() + SETTLE_MS);
        let settings = self.settings();
        let listed = self.list_all();
        self.world.trouble().is_none().then(|| self.evidence(unread, settings, listed))
    }

    /// Lets time pass, with the supervisor looking after the processes.
    fn advance(&self, until_ms: u64) {
        while self.now_ms() < until_ms && self.world.trouble().is_none() {
            let next = (self.now_ms() + SUPERVISE_MS).min(until_ms);
            self.world.run_until(next * 1_000_000);
            self.cluster.supervise();
        }
    }

    /// One bucket's settings are set twice, at two nodes: the later must win everywhere.
    fn spawn_settings(&self) {
        let mut rng = Rng::stream(self.plan.seed, "settings", 0);
        let siblings_max = self.plan.knobs.siblings_max;
        for (at_ms, siblings_max) in
            [(self.now_ms(), siblings_max), (rng.between(600, 3000), siblings_max + 1)]
        {
            let cluster = self.cluster.clone();
            let host = rng.index(self.plan.knobs.hosts);
            self.world.spawn(Owner::Harness, "settings", async move {
                Sleep::until(cluster.world().clone(), at_ms * 1_000_000).await;
                let siblings_max = siblings_max.min(SIBLINGS_MAX as u64);
                let settings = BucketSettings { siblings_max, ..BucketSettings::default_of(OWN) };
                let request = Request::SetBucket(OWN.to_string(), settings);
                cluster.call(host, Call { timeout_ms: 1000, request }, Box::new(|_, _| {})).await;
            });
        }
    }

    fn spawn_clients(&self) {
        for (number, steps) in self.plan.clients.iter().enumerate() {
            let client = Client::new(
                number,
                self.cluster.clone(),
                &self.plan.knobs,
                self.keys.clone(),
                self.history.clone(),
            );
            let (working, steps) = (self.working.clone(), steps.clone());
            working.set(working.get() + 1);
            self.world.spawn(Owner::Harness, "client", async move {
                client.run(steps).await;
                working.set(working.get() - 1);
            });
        }
    }

    /// Reads every key once from all its homes: the only healer so far is read repair.
    fn read_all(&self) -> Vec<(Key, String)> {
        let mut unread = Vec::new();
        for key in 0..self.keys.len() {
            if let Err(why) = self.read_one(key) {
                unread.push((self.keys[key].clone(), why));
            }
        }
        unread
    }

    /// A home whose directory was emptied proves nothing by its answer: its place is taken by a fallback, or, if
    /// there is none, the read is refused; it is repaired all the same. Asked for itself it would not ask itself.
    fn read_one(&self, key: usize) -> Result<(), String> {
        let homes = self
            .cluster
            .layout()
            .homes(gramme_core::ring::partition_of(&self.keys[key], self.plan.knobs.partitions));
        let unprovable =
            homes.iter().any(|&home| crate::world::host_of(home).is_some_and(|h| self.cluster.was_wiped(h)));
        let mut last = "no node could be asked".to_string();
        let sound: Vec<usize> =
            (0..self.plan.knobs.hosts).filter(|&host| !self.cluster.was_wiped(host)).collect();
        for attempt in 0..READ_ATTEMPTS {
            let host = sound[(key + attempt) % sound.len()];
            let get = gramme_node::request::Get {
                key: self.keys[key].clone(),
                r: Some(Level::All),
                pr: 0,
                min: None,
                explain: true,
            };
            match self.ask(host, Request::Get(get)) {
                Some(Response::Got(_)) => return Ok(()),
                Some(Response::Failed(failure)) if unprovable && failure.reason == Reason::Unavailable => {
                    return Ok(());
                }
                other => last = format!("{other:?}"),
            }
        }
        Err(last)
    }

    fn settings(&self) -> BTreeMap<String, Vec<BucketSettings>> {
        let of_host = |host| match self.ask(host, Request::Bucket(OWN.to_string())) {
            Some(Response::Bucket(settings)) => Some(settings),
            _ => None,
        };
        let all = (0..self.plan.knobs.hosts).filter_map(of_host).collect();
        BTreeMap::from([(OWN.to_string(), all)])
    }

    fn list_all(&self) -> BTreeMap<String, Option<Vec<Bytes>>> {
        let buckets: BTreeSet<String> = self.keys.iter().map(|key| key.bucket().to_string()).collect();
        buckets.into_iter().map(|bucket| (bucket.clone(), self.list_bucket(&bucket))).collect()
    }

    fn list_bucket(&self, bucket: &str) -> Option<Vec<Bytes>> {
        let mut keys = Vec::new();
        for partition in 0..self.plan.knobs.partitions {
            let mut after = None;
            loop {
                let page = ListPage {
                    partition: PartitionId(partition as u16),
                    bucket: bucket.to_string(),
                    prefix: Bytes::new(),
                    after: after.take(),
                    keys_max: 2,
                    values: false,
                    r: None,
                };
                let answers =
                    (0..self.plan.knobs.hosts).map(|host| self.ask(host, Request::List(page.clone())));
                let listed = answers.flatten().find_map(|answer| match answer {
                    Response::Listed(listed) => Some(listed),
                    _ => None,
                });
                let listed = match listed {
                    Some(listed) => listed,
                    // A wiped home proves nothing, and with N = 2 nobody else makes up for it.
                    None if self.plan.knobs.n < 3 => return Some(keys),
                    None => return None,
                };
                keys.extend(listed.entries.into_iter().map(|(key, _)| key));
                match listed.next_after {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Some(keys)
    }

    fn ask(&self, host: usize, request: Request) -> Option<Response> {
        let cluster = self.cluster.clone();
        let call = Call { timeout_ms: ASK_MS, request };
        let asked = async move { cluster.call(host, call, Box::new(|_, _| {})).await };
        match self.world.run_for(2 * ASK_MS * 1_000_000, asked) {
            Some(Called::Answered(response)) => Some(response),
            _ => None,
        }
    }

    fn evidence(
        &self,
        unread: Vec<(Key, String)>,
        settings: BTreeMap<String, Vec<BucketSettings>>,
        listed: BTreeMap<String, Option<Vec<Bytes>>>,
    ) -> Evidence {
        let hosts = 0..self.plan.knobs.hosts;
        let history = std::mem::take(&mut *self.history.borrow_mut());
        let mortal = self.mortal(&history);
        Evidence {
            layout: self.cluster.layout().clone(),
            dumps: hosts.clone().map(|host| evidence::dump(&self.world, host)).collect(),
            wiped: hosts.into_iter().any(|host| self.cluster.was_wiped(host)),
            history,
            unread,
            settings,
            listed,
            mortal,
        }
    }

    fn mortal(&self, history: &History) -> BTreeSet<Key> {
        let lived = |step: &&Step| matches!(step.action, workload::Action::Put { ttl_ms, .. } if ttl_ms > 0);
        let steps = self.plan.clients.iter().flatten().filter(lived);
        let written: BTreeSet<&Key> = history
            .puts
            .iter()
            .filter(|op| matches!(op.content, Content::Value(_)))
            .map(|op| &op.key)
            .collect();
        steps.map(|step| &self.keys[step.key]).filter(|key| written.contains(key)).cloned().collect()
    }

    fn now_ms(&self) -> u64 {
        self.world.now() / 1_000_000
    }
}

/// The most that one run may cost: about three times what the largest of 10,000 drawn runs does.
pub const POLLS_MAX: u64 = 100_000;
/// See [`POLLS_MAX`].
pub const EVENTS_MAX: u64 = 60_000;
/// Plans with more faults than this may answer less.
const HEAVY_FAULTS: usize = 12;
/// Between two looks of the supervisor.
const SUPERVISE_MS: u64 = 100;
/// By then the slowest client is done.
const PATIENCE_MS: u64 = 60_000;
/// From the end of faults until everyone is connected and believes in everyone again: a broken connection may be
/// noticed four seconds after its link was mended.
const HEAL_MS: u64 = 6_000;
/// From the last read until its repairs are durable and settings have spread.
const SETTLE_MS: u64 = 6_000;
const ASK_MS: u64 = 1_000;
const READ_ATTEMPTS: usize = 6;
