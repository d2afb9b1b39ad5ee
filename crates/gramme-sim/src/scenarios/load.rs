//! Scenarios that ask how much is answered and how soon: under load, with a slow disk, of deletes in bulk
//! ([`crate::judged`]).

use super::{BEGIN_MS, Scenario, scenario, undemanding};
use crate::judged;
use crate::knobs::Knobs;
use crate::nemesis::Fault;
use crate::workload::{Action, Expected, Step, With};
use crate::world::node_id;
use std::ops::Range;

pub(super) const D8: Scenario = Scenario {
    set: |knobs, _| {
        (knobs.net.straggler_permille, knobs.disk.sync_us) = (0, 500);
        (knobs.request_ms, knobs.attempt_ms) = (1000, 300);
        (knobs.length_ms, knobs.think_ms, knobs.keys) = (40_000, 25, 4);
        // A verdict about a peer needs a few answers a second.
        (knobs.shards, knobs.clients) = (1, 8);
    },
    shape: |_, clients| clients.iter_mut().flatten().for_each(undemanding),
    also: |evidence, facts| judged::slow_node(evidence, facts, node_id(SLOW), SLOW_MS),
    must: &["peer degraded"],
    ..scenario("D8", "one disk is a hundred times slower", |s| {
        s.at(SLOW_MS, Fault::SlowDisk { host: SLOW, factor: 100 });
        s.at(s.length_ms, Fault::SlowDisk { host: SLOW, factor: 1 });
    })
};

pub(super) const D23: Scenario = Scenario {
    set: |knobs, _| {
        (knobs.clients, knobs.think_ms, knobs.length_ms) = (14, 20, 24_000);
        (knobs.disk.sync_us, knobs.keys, knobs.siblings_max) = (15_000, 4, 8);
    },
    shape: |_, clients| {
        // All but a few clients are there for the overload alone.
        for steps in clients.iter_mut().skip(judged::STEADY_CLIENTS) {
            steps.retain(|step| OVERLOAD_MS.contains(&step.at_ms));
            steps.truncate(60);
            steps.iter_mut().for_each(|step| step.at_ms = OVERLOAD_MS.start);
        }
        // The same steps before it and after it, so that what is answered can be compared.
        for steps in clients.iter_mut().take(judged::STEADY_CLIENTS) {
            let before = steps.iter().filter(|step| judged::BEFORE_MS.contains(&step.at_ms));
            let later = OVERLOAD_MS.end + judged::RECOVERY_MS - judged::BEFORE_MS.start;
            let again: Vec<Step> = before.map(|step| Step { at_ms: step.at_ms + later, ..*step }).collect();
            steps.retain(|step| step.at_ms < OVERLOAD_MS.end);
            steps.extend(again);
        }
    },
    also: |evidence, _| judged::goodput(evidence, OVERLOAD_MS),
    must: &["slice", "pull whole"],
    ..scenario("D23", "three times the load on slow disks, then an ordinary one", |s| {
        for host in 0..s.hosts {
            s.at(OVERLOAD_MS.start, Fault::SlowDisk { host, factor: 5 });
            s.at(OVERLOAD_MS.end, Fault::SlowDisk { host, factor: 1 });
        }
    })
};

pub(super) const BULK: Scenario = Scenario {
    set: |knobs, _| bulk(knobs),
    shape: |knobs, clients| *clients = bulk_deletes(knobs, None),
    also: |_, facts| judged::tombstones_gone(facts, 30_000),
    must: &["reclaimed"],
    ..scenario("bulk", "hundreds of keys are deleted while all nodes are up", |s| {
        // A clock that is a little off is no fault that anything must survive.
        s.at(BEGIN_MS, Fault::ClockJump { host: 0, by_ms: 100 });
    })
};

pub(super) const BULK_AWAY: Scenario = Scenario {
    set: |knobs, _| bulk(knobs),
    shape: |knobs, clients| *clients = bulk_deletes(knobs, Some(AWAY)),
    also: |_, facts| {
        let stayed = judged::tombstones_stayed(facts);
        stayed.into_iter().chain(judged::tombstones_gone(facts, 600_000)).collect()
    },
    must: &["reclaimed"],
    ..scenario("bulk-away", "hundreds of keys are deleted while one node is away", |s| {
        s.cut_off(2_000..60_000, &[AWAY], false);
    })
};

/// Many keys, each written and then deleted, where tombstones go.
fn bulk(knobs: &mut Knobs) {
    knobs.reclaim = true;
    (knobs.keys, knobs.clients, knobs.length_ms) = (100, 4, 8_000);
    (knobs.conditions, knobs.buffered, knobs.begin_unproven) = (false, false, false);
}

/// Each client writes its share of the keys and deletes it; nobody asks the host that is away.
fn bulk_deletes(knobs: &Knobs, away: Option<usize>) -> Vec<Vec<Step>> {
    let keys = 3 * knobs.keys;
    let hosts: Vec<usize> = (0..knobs.hosts).filter(|host| Some(*host) != away).collect();
    let of_client = |client: usize| {
        let own: Vec<usize> = (0..keys).filter(|key| key % knobs.clients == client).collect();
        let step = |at_ms, key: usize, action| Step { at_ms, host: hosts[key % hosts.len()], key, action };
        let put = Action::Put {
            with: With::Nothing,
            w: 0,
            pw: 0,
            ttl_ms: 0,
            expect: Expected::Anything,
            buffered: false,
        };
        let puts = own.iter().map(move |&key| step(BEGIN_MS, key, put));
        let deletes = own.iter().map(|&key| step(DELETES_MS, key, Action::Delete { with: With::Fresh }));
        puts.chain(deletes).collect()
    };
    (0..knobs.clients).map(of_client).collect()
}

/// The host whose disk is slow.
const SLOW: usize = 3;
/// When it becomes slow.
const SLOW_MS: u64 = 10_000;
/// When there are more clients than usual.
const OVERLOAD_MS: Range<u64> = 6_000..12_000;
/// The host that is away.
const AWAY: usize = 4;
/// When keys are deleted in bulk.
const DELETES_MS: u64 = 3_000;
