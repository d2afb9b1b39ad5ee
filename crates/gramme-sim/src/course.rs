//! The course of a run: *work* (clients and faults), *heal* (every fault ends, whatever is down starts), *quiet*
//! (bounded time without any client, in which the cluster must converge by itself), *dump* (the disks are read
//! with the world at a stand), and *last reads*, whose answers must be what the dumps say.
//!
//! Nothing is asked of a node between the end of the work and the dump, so that no read repairs what is
//! measured; with [`Healer::Reads`] it is the other way round: nothing but one read of each key heals.

use crate::check::{convergence, ring};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::evidence::{Claims, Dump, Evidence, RingSeen};
use crate::executor::Owner;
use crate::history::{History, PutOp};
use crate::knobs::Healer;
use crate::last_reads::Asker;
use crate::nemesis::Fault;
use crate::rng::Rng;
use crate::run::Plan;
use crate::timer::Sleep;
use crate::workload::{self, LWW, OWN};
use crate::world::{World, host_of, node_id};
use bytes::Bytes;
use gramme_core::bucket::BucketSettings;
use gramme_core::gossip::Name;
use gramme_core::limits::{AUDIT_MS, SIBLINGS_MAX};
use gramme_core::paxos::Decree;
use gramme_core::record::Content;
use gramme_core::{Key, Layout, LayoutHash, RequestId};
use gramme_node::request::{Call, Request};
use gramme_node::rows::{self, KIND_CLUSTER, KIND_REPLICA, decode_known};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub struct Course<'a> {
    plan: &'a Plan,
    world: Rc<World>,
    cluster: Cluster,
    keys: Rc<Vec<Key>>,
    history: Rc<RefCell<History>>,
    working: Rc<Cell<usize>>,
    layouts: RefCell<BTreeMap<Decree, BTreeSet<LayoutHash>>>,
}

impl<'a> Course<'a> {
    /// The course of a plan in a world at its beginning.
    pub fn new(world: Rc<World>, plan: &'a Plan) -> Course<'a> {
        let keys = workload::keys(&plan.knobs)
            .into_iter()
            .map(|(bucket, key)| Key::new(bucket, key.as_bytes()).expect("the workload's keys are keys"))
            .collect();
        let cluster = Cluster::new(world.clone(), &plan.knobs);
        let history = Rc::default();
        let (working, layouts) = (Rc::default(), RefCell::default());
        Course { plan, world, cluster, keys: Rc::new(keys), history, working, layouts }
    }

    /// Goes through it; `None` if the run ended in trouble.
    pub fn carry_out(&self) -> Option<(Evidence, Facts)> {
        if self.plan.knobs.buffered {
            let hosts = 0..self.plan.knobs.machines();
            hosts.for_each(|host| {
                self.world.with_disk(host, |disk| disk.witness = Some(Default::default()));
            });
        }
        self.work();
        let tombstones = self.dumps().iter().map(Dump::tombstones).sum();
        let mut facts = Facts { worked_until: self.world.now(), tombstones, ..Facts::default() };
        self.heal();
        self.advance(self.now_ms() + self.plan.knobs.linger_ms);
        let mut unread = Vec::new();
        match self.plan.knobs.healer {
            Healer::Exchange => facts.converged_ms = self.converge(),
            Healer::Reads => {
                self.await_ring();
                unread = self.asker().read_all();
                self.advance(self.now_ms() + SETTLE_MS);
                self.await_late_hints();
            }
        }
        let (dumps, claims) = (self.dumps(), self.claims());
        let asker = self.asker();
        if self.plan.knobs.healer == Healer::Exchange {
            self.history.borrow_mut().converged_at = self.world.now();
            unread = self.read_settled();
            // A home that began anew may lack a tombstone that others have yet to let go, and what a disk lost in
            // silence is found by the first read: both are told once.
            asker.read_all();
            self.advance(self.now_ms() + LOOK_MS);
            let repairs = self.counted("read repair");
            asker.read_all();
            // Burials that nobody has waited for may come later than the first read.
            if claims.buried || !claims.buries {
                facts.needless_repairs = self.counted("read repair") - repairs;
            }
        }
        facts.counts = self.world.log.borrow().counts().clone();
        // What becomes of a row that rots or goes in silence is not known to the tree that was kept.
        let is_sound = !(0..self.plan.knobs.machines()).any(|host| self.is_liar(host));
        if self.plan.knobs.audit_ms < SHORT_AUDIT_MS && is_sound {
            facts.wrong_trees = asker.verify_trees();
        }
        let settings = asker.settings();
        let listed = asker.list_all();
        let history = std::mem::take(&mut *self.history.borrow_mut());
        let evidence = Evidence {
            unread,
            settings,
            listed,
            mortal: self.mortal(&history),
            lost_in_memory: self.lost_in_memory(&history),
            forgotten_by: self.forgotten_by(&history),
            last_writer_wins: BTreeSet::from([LWW.to_string()]),
            ring: RingSeen {
                first: self.cluster.layout().clone(),
                under: self.layouts.take(),
                lost: self.lost().into_iter().map(node_id).collect(),
            },
            ..Evidence::new(asker.layout.clone(), history, dumps, claims)
        };
        self.world.trouble().is_none().then_some((evidence, facts))
    }

    fn work(&self) {
        (0..self.plan.knobs.machines()).for_each(|host| self.cluster.start(host));
        self.advance(MEET_MS);
        self.cluster.prove();
        self.spawn_settings();
        self.spawn_clients();
        for timed in &self.plan.faults {
            self.advance(timed.at_ms);
            self.cluster.suffer(timed.fault);
        }
        self.advance(self.plan.knobs.length_ms);
        while (self.working.get() > 0 || self.cluster.is_ordered_about())
            && self.world.trouble().is_none()
            && self.now_ms() < PATIENCE_MS
        {
            self.advance(self.now_ms() + 100);
        }
    }

    fn heal(&self) {
        self.cluster.heal(&self.lost());
        self.advance(self.now_ms() + HEAL_MS);
        // Whatever the last fault has broken has been started anew by now.
        self.cluster.heal(&self.lost());
    }

    /// Machines that were declared lost.
    fn lost(&self) -> BTreeSet<usize> {
        let dumps: Vec<Dump> = (0..self.plan.knobs.machines()).map(|host| dump(&self.world, host)).collect();
        let lost = ring::lost(&ring::newest(self.cluster.layout(), &dumps));
        lost.into_iter().filter_map(host_of).collect()
    }

    /// Who keeps what by now.
    fn layout(&self) -> Arc<Layout> {
        ring::newest(self.cluster.layout(), &self.dumps()).head().1.clone()
    }

    fn asker(&self) -> Asker<'_> {
        let layout = self.layout();
        let hosts = layout.members().iter().filter_map(|member| host_of(member.id)).collect();
        Asker { cluster: &self.cluster, layout, hosts, knobs: &self.plan.knobs, keys: &self.keys }
    }

    /// Whatever is committed of the ring is finished without any client.
    fn await_ring(&self) {
        let until = self.now_ms() + CONVERGE_MS;
        let is_changing = || !ring::differences(self.cluster.layout(), &self.dumps()).is_empty();
        while self.plan.knobs.spares > 0 && self.now_ms() < until && is_changing() {
            self.advance(self.now_ms() + LOOK_MS);
        }
    }

    /// Puts down which layouts are known to anyone, under which numbers.
    fn note_layouts(&self) {
        if self.plan.knobs.spares == 0 {
            return;
        }
        let mut under = self.layouts.borrow_mut();
        let from = rows::node_row(KIND_CLUSTER, &[]);
        for host in 0..self.plan.knobs.machines() {
            self.world.with_disk(host, |disk| {
                let rows = disk.rows().range(from.clone()..).take_while(|(row, _)| row.starts_with(&from));
                for (name, _) in rows.filter_map(|(_, value)| decode_known(value).ok()) {
                    if let Name::Layout(decree, hash) = name {
                        under.entry(decree).or_default().insert(hash);
                    }
                }
            });
        }
    }

    /// A frame that was held back for long may bring a hint after all: that is brought home by itself.
    fn await_late_hints(&self) {
        let until = self.now_ms() + SETTLE_MS;
        let is_kept = || self.dumps().iter().any(|dump| !dump.hints.is_empty());
        while self.now_ms() < until && is_kept() {
            self.advance(self.now_ms() + LOOK_MS);
        }
    }

    /// Quiet: nobody asks for anything, and within [`CONVERGE_MS`] all homes hold the same. Answers how long it
    /// took; whatever then still differs is for the checkers to say.
    fn converge(&self) -> Option<u64> {
        let began = self.now_ms();
        let first = self.cluster.layout();
        while self.now_ms() < began + CONVERGE_MS && self.world.trouble().is_none() {
            let hosts = 0..self.plan.knobs.machines();
            let idle = hosts
                .into_iter()
                .all(|host| self.cluster.is_away(host) || self.world.with_disk(host, |disk| disk.is_idle()));
            let dumps = self.dumps();
            if idle
                && ring::differences(first, &dumps).is_empty()
                && convergence::differences(ring::newest(first, &dumps).head().1, &dumps, self.claims())
                    .is_empty()
            {
                return Some(self.now_ms() - began);
            }
            let step = if self.now_ms() < began + SOON_MS { LOOK_MS } else { LATE_LOOK_MS };
            self.advance(self.now_ms() + step);
        }
        None
    }

    /// Reads every key once as a client does, at some node; says which could not be read.
    fn read_settled(&self) -> Vec<(Key, String)> {
        let mut unread = Vec::new();
        for key in 0..self.keys.len() {
            // Stragglers are ordinary: one late frame is no refusal.
            if !(0..READ_ATTEMPTS).any(|attempt| self.read_as_client(key, attempt)) {
                unread.push((self.keys[key].clone(), "no node answered".to_string()));
            }
        }
        unread
    }

    fn read_as_client(&self, key: usize, attempt: usize) -> bool {
        let knobs = &self.plan.knobs;
        let (cluster, keys, history) = (self.cluster.clone(), self.keys.clone(), self.history.clone());
        let mut reader = Client::new(knobs.clients, cluster, knobs, keys, history);
        let hosts = self.asker().hosts;
        let host = hosts[(key + attempt + self.plan.seed as usize % hosts.len()) % hosts.len()];
        let read = async move { reader.get(host, key, None, 0, None).await };
        self.world.run_for(READ_MS * 1_000_000, read).flatten().is_some()
    }

    fn dumps(&self) -> Vec<Dump> {
        let hosts = (0..self.plan.knobs.machines()).filter(|&host| !self.cluster.is_away(host));
        let dumps: Vec<Dump> = hosts.map(|host| dump(&self.world, host)).collect();
        let first = self.cluster.layout();
        let chain = ring::newest(first, &dumps);
        let is_stranger = |dump: &Dump| ring::is_stranger(&chain, first, dump, &dumps);
        let strange: Vec<bool> = dumps.iter().map(is_stranger).collect();
        dumps.into_iter().zip(strange).filter(|(_, strange)| !strange).map(|(dump, _)| dump).collect()
    }

    fn counted(&self, what: &str) -> u64 {
        self.world.log.borrow().counts().get(what).copied().unwrap_or(0)
    }

    fn claims(&self) -> Claims {
        let disk_lost = (0..self.plan.knobs.machines()).any(|host| self.cluster.was_lost(host));
        let node_lost = !self.lost().is_empty();
        // Homes learn from hint stores by themselves, however the rest is healed.
        let any = |is: fn(&Fault) -> bool| self.plan.faults.iter().any(|timed| is(&timed.fault));
        let silent_loss = any(|fault| matches!(fault, Fault::SilentLoss { .. } | Fault::Lies { .. }));
        let reclaims = self.plan.knobs.reclaim;
        // What a disk lost beneath a tree that was built before shows at the next scrub, which takes a week.
        let lost_beneath = any(|fault| matches!(fault, Fault::SilentLoss { .. }));
        let unseen_loss = lost_beneath && self.plan.knobs.scrub_ms > CONVERGE_MS;
        // With two homes a page with a damaged row leaves nobody to make up for it, and if no other home has the
        // row, nobody can name it: no session that must read the whole partition comes to its end before somebody
        // has read that row by name.
        let unnamed_rot = self.has_unnamed_rot();
        let pages_missing =
            self.plan.knobs.n < 3 && any(|fault| matches!(fault, Fault::Rot { .. })) || unnamed_rot;
        let buries = self.plan.knobs.buries();
        let buried = buries && self.has_right_clocks() && self.plan.knobs.healer == Healer::Exchange;
        let steady_clocks = !any(|fault| matches!(fault, Fault::ClockJump { .. }));
        let claims = Claims { buries, buried, steady_clocks, unnamed_rot, ..Claims::default() };
        let claims =
            Claims { disk_lost, node_lost, silent_loss, converged: true, drained: true, reclaims, ..claims };
        match self.plan.knobs.healer {
            // What went beneath a cache, no read is shown to be gone.
            Healer::Reads => Claims {
                hints_count: true,
                converged: !(lost_beneath && self.plan.knobs.cache_bytes > 0),
                ..claims
            },
            Healer::Exchange => Claims {
                clocks: !pages_missing,
                // What a lost disk alone had seen, nobody can be asked about any more; and a row that rotted goes
                // only after somebody has read it by name.
                reclaimed: reclaims
                    && !disk_lost
                    && !silent_loss
                    && !any(|fault| matches!(fault, Fault::Rot { .. })),
                converged: !unseen_loss && !unnamed_rot,
                // Until then nobody has waited for the last burial.
                buried: claims.buried && !unseen_loss,
                hints_count: disk_lost || pages_missing,
                ..claims
            },
        }
    }

    /// Whether a row has rotted that nobody else has: what wrote it was told to this home alone.
    fn has_unnamed_rot(&self) -> bool {
        let hosts = 0..self.plan.knobs.machines();
        let has = |host: usize, row: &Bytes| {
            self.world.with_disk(host, |disk| disk.rows().contains_key(row) && !disk.rotten().contains(row))
        };
        let is_named = |row: &Bytes| hosts.clone().any(|host| has(host, row));
        hosts.clone().any(|host| {
            let rotten = self.world.with_disk(host, |disk| disk.rotten().clone());
            !rotten.iter().all(is_named)
        })
    }

    /// Lets time pass, with the supervisor looking after the processes.
    fn advance(&self, until_ms: u64) {
        while self.now_ms() < until_ms && self.world.trouble().is_none() {
            let next = (self.now_ms() + SUPERVISE_MS).min(until_ms);
            self.world.run_until(next * 1_000_000);
            self.cluster.supervise();
            self.note_layouts();
        }
    }

    /// One bucket's settings are set twice, at two nodes: the later must win everywhere.
    fn spawn_settings(&self) {
        let mut rng = Rng::stream(self.plan.seed, "settings", 0);
        let siblings_max = self.plan.knobs.siblings_max;
        let buffered = self.plan.knobs.buffered && rng.chance(500);
        for (at_ms, siblings_max) in
            [(self.now_ms(), siblings_max), (rng.between(600, 3000), siblings_max + 1)]
        {
            let cluster = self.cluster.clone();
            let host = rng.index(self.plan.knobs.hosts);
            self.world.spawn(Owner::Harness, "settings", async move {
                Sleep::until(cluster.world().clone(), at_ms * 1_000_000).await;
                let siblings_max = siblings_max.min(SIBLINGS_MAX as u64);
                let settings = BucketSettings { siblings_max, buffered, ..BucketSettings::default_of(OWN) };
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

    fn mortal(&self, history: &History) -> BTreeSet<Key> {
        let lived = |step: &&workload::Step| matches!(step.action, workload::Action::Put { ttl_ms, .. } if ttl_ms > 0);
        let steps = self.plan.clients.iter().flatten().filter(lived);
        let written: BTreeSet<&Key> = history
            .puts
            .iter()
            .filter(|op| matches!(op.content, Content::Value(_)))
            .map(|op| &op.key)
            .collect();
        steps.map(|step| &self.keys[step.key]).filter(|key| written.contains(key)).cloned().collect()
    }

    /// Whether all wall clocks say the same, or nearly so, all the time.
    fn has_right_clocks(&self) -> bool {
        let is_jump = |timed: &crate::nemesis::Timed| matches!(timed.fault, Fault::ClockJump { .. });
        let is_right = |offset: &i64| offset.unsigned_abs() < RIGHT_CLOCK_MS;
        self.plan.knobs.wall_offset_ms.iter().all(is_right) && !self.plan.faults.iter().any(is_jump)
    }

    /// Buffered writes that may be gone although they were acknowledged: no disk that kept what it was given ever
    /// had one of them, and each of the homes that acknowledged it ended before it was durable there, or has a disk
    /// that lost it later.
    fn lost_in_memory(&self, history: &History) -> BTreeSet<RequestId> {
        let lost: BTreeSet<RequestId> =
            history.puts.iter().filter(|op| self.is_lost_in_memory(op)).map(|op| op.request).collect();
        self.world.log.borrow_mut().count_many("lost in memory", lost.len() as u64);
        lost
    }

    /// See [`Evidence::forgotten_by`]. A disk that is slow or full shows its readers what was there before.
    fn forgotten_by(&self, history: &History) -> BTreeMap<RequestId, usize> {
        let ill = self.ill_disks().len();
        let buffered = history.puts.iter().filter(|op| op.done.as_ref().is_some_and(|done| done.buffered));
        let counted = buffered.map(|op| (op.request, ill + self.ended_meanwhile(op).len()));
        counted.filter(|(_, forgotten)| *forgotten > 0).collect()
    }

    /// Hosts that ended while they may have had a write in memory alone.
    fn ended_meanwhile(&self, op: &PutOp) -> BTreeSet<usize> {
        let window = if self.ill_disks().is_empty() { WINDOW_MS } else { LONG_WINDOW_MS };
        let until = op.returned.unwrap_or(op.invoked) + window * 1_000_000;
        self.cluster.ended_between(op.invoked, until)
    }

    fn is_lost_in_memory(&self, op: &PutOp) -> bool {
        let (Some(done), Some(dot)) = (&op.done, op.told_dot()) else {
            return false;
        };
        let key = op.key.joined();
        let keeps = |host: &usize| !self.cluster.was_lost(*host) && !self.is_liar(*host);
        let has_had = |host: usize| {
            self.world.with_disk(host, |disk| {
                let past = disk.witness.as_ref().and_then(|witness| witness.get(key));
                past.is_some_and(|past| past.covers(dot))
            })
        };
        let (kept, lost): (Vec<usize>, Vec<usize>) =
            (0..self.plan.knobs.machines()).filter(|host| has_had(*host)).partition(keeps);
        let gone: BTreeSet<usize> = self.ended_meanwhile(op).into_iter().chain(lost).collect();
        done.buffered && kept.is_empty() && gone.len() >= usize::from(done.acks.homes)
    }

    /// Whether a host's disk may lose what it was given, without a trace or by lying.
    fn is_liar(&self, host: usize) -> bool {
        self.plan.faults.iter().any(|timed| {
            let of = match timed.fault {
                Fault::SilentLoss { host } | Fault::Lies { host, .. } | Fault::Rot { host } => Some(host),
                _ => None,
            };
            of == Some(host)
        })
    }

    /// Hosts whose disk, or they themselves, took long, or stood still, for a while: what is in memory is then there
    /// for longer.
    fn ill_disks(&self) -> BTreeSet<usize> {
        let ill = self.plan.faults.iter().filter_map(|timed| match timed.fault {
            Fault::SlowDisk { host, .. }
            | Fault::Stall { host, .. }
            | Fault::Full { host, .. }
            | Fault::Busy { host, .. }
            | Fault::Freeze { host } => Some(host),
            _ => None,
        });
        ill.collect()
    }

    fn now_ms(&self) -> u64 {
        self.world.now() / 1_000_000
    }
}

/// What the driver knows of a run and no history shows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When the last client was done and every fault was ended, in nanoseconds.
    pub worked_until: u64,
    /// How long the cluster then took to converge by itself, in milliseconds.
    pub converged_ms: Option<u64>,
    /// Repairs made by reads of keys on which all homes agreed.
    pub needless_repairs: u64,
    /// Hash trees that were other than what their homes held.
    pub wrong_trees: Vec<String>,
    /// What had been counted when the last reads were through.
    pub counts: BTreeMap<&'static str, u64>,
    /// Records of nothing but tombstones on all disks when the faults ended.
    pub tombstones: usize,
}

/// What is durable on a host's disk.
fn dump(world: &World, host: usize) -> Dump {
    // What cannot be read and has no name is all that stays of a partition that was wiped.
    let rows: Vec<_> = world.with_disk(host, |disk| {
        let is_wiped = |row: &Bytes| !disk.rows().contains_key(&[&row[..2], &[KIND_REPLICA]].concat()[..]);
        let shows = |row: &Bytes| !disk.rotten().contains(row) || !is_wiped(row);
        let shown = disk.rows().iter().filter(|(row, _)| shows(row));
        shown.map(|(row, value)| (row.clone(), value.clone())).collect()
    });
    Dump::of_rows(node_id(host), rows)
}

/// Where audits are as frequent as this, their trees are looked at in the end.
const SHORT_AUDIT_MS: u64 = 10_000;
/// What a home has in memory is durable within this time, on a disk that is well ...
const WINDOW_MS: u64 = 500;
/// ... and on one that is not.
const LONG_WINDOW_MS: u64 = 10_000;
/// A wall clock that is off by less is right.
const RIGHT_CLOCK_MS: u64 = 1_000;
/// By then all nodes have met.
const MEET_MS: u64 = 300;
/// Between two looks of the supervisor.
const SUPERVISE_MS: u64 = 100;
/// By then the slowest client is done.
const PATIENCE_MS: u64 = 60_000;
/// From the end of faults until everyone is connected and believes in everyone again: a broken connection may be
/// noticed four seconds after its link was mended.
const HEAL_MS: u64 = 6_000;
/// Within this time of quiet the cluster must have converged: hints drained, exchanges and refills done, and, for
/// what bears no dot, an audit.
const CONVERGE_MS: u64 = AUDIT_MS + 120_000;
/// Most have by then.
const SOON_MS: u64 = 30_000;
/// Between two later looks.
const LATE_LOOK_MS: u64 = 10_000;
/// Between two looks at whether it has.
const LOOK_MS: u64 = 1_000;
/// A settled cluster answers within this.
const READ_MS: u64 = 4_000;
const READ_ATTEMPTS: usize = 4;
/// From the last read until its repairs are durable and settings have spread.
const SETTLE_MS: u64 = 6_000;
