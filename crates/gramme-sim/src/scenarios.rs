//! Scenarios by id: those of correctness.md section 9 (D1-D13, D19-D24) and of the history of Riak's bugs that
//! none of them covers. A scenario is a fixed kind of cluster, a recipe of faults, what clients mostly do, and
//! what it asks beyond the rules that hold for every run. Its runs are plans like any other: they are shrunk,
//! kept and replayed in the same way. Which id is tested where: `docs/simulator.md`.

use crate::admin::Order;
use crate::course::Facts;
use crate::evidence::{Evidence, Violation};
use crate::judged;
use crate::knobs::{Class, Healer, Knobs, RECLAIM_PERMILLE, Reclaim};
use crate::nemesis::{Fault, Timed};
use crate::rng::Rng;
use crate::run::Plan;
use crate::script::Script;
use crate::workload::{self, Action, Expected, Mix, Step, With};
use crate::world::node_id;
use gramme_core::Outcome;
use std::ops::Range;

/// See the module.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its id.
    pub id: &'static str,
    /// What happens, in one line.
    pub about: &'static str,
    /// What is fixed of the cluster and its clients.
    pub set: fn(&mut Knobs, &mut Rng),
    /// What goes wrong.
    pub faults: fn(&mut Script),
    /// What becomes of the clients' steps.
    pub shape: fn(&Knobs, &mut Vec<Vec<Step>>),
    /// What it asks beyond the rules.
    pub also: fn(&Evidence, &Facts) -> Vec<Violation>,
    /// What must have happened in a batch of [`BATCH`] runs or more, or it proves nothing.
    pub must: &'static [&'static str],
}

/// From so many runs on a scenario must have met what it is about.
pub const BATCH: u64 = 20;

impl Scenario {
    /// The scenario of an id, in either case.
    pub fn of(id: &str) -> Option<Scenario> {
        ALL.into_iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id))
    }

    /// The plan of a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        self.plan_with(seed, Reclaim::Drawn)
    }

    /// The plan of a seed in which tombstones go, or do not, whatever the seed says.
    pub fn plan_with(&self, seed: u64, reclaim: Reclaim) -> Plan {
        let mut knobs = Knobs::draw(seed);
        let rng = &mut Rng::stream(seed, "scenario knobs", 0);
        standard(&mut knobs);
        knobs.reclaim = Rng::stream(seed, "scenario reclaim", 0).chance(RECLAIM_PERMILLE);
        (self.set)(&mut knobs, rng);
        match reclaim {
            Reclaim::Drawn => {}
            forced => knobs.reclaim = forced == Reclaim::On,
        }
        let mut script = Script::new(seed, &knobs);
        (self.faults)(&mut script);
        let faults = script.finish();
        let mut clients = workload::draw(seed, &knobs);
        (self.shape)(&knobs, &mut clients);
        let wild = |timed: &Timed| matches!(timed.fault, Fault::ClockJump { by_ms, .. } if by_ms > DAY_MS);
        if faults.iter().any(wild) {
            clients.iter_mut().flatten().for_each(immortal);
        }
        Plan { seed, schedule: seed, faults, clients, knobs }
    }
}

/// Where clocks leap by weeks, what expires is at the mercy of the clocks: nothing is said of it.
fn immortal(step: &mut Step) {
    if let Action::Put { ttl_ms, .. } = &mut step.action {
        *ttl_ms = 0;
    }
}

/// Whoever asks for all homes waits for the slowest of them: nobody does.
fn undemanding(step: &mut Step) {
    match &mut step.action {
        Action::Get { r, pr } => (*r, *pr) = (0, 0),
        Action::Put { w, pw, .. } => (*w, *pw) = (0, 0),
        _ => {}
    }
}

/// Five nodes, three zones, N=3, R=W=2, an ordinary day.
fn standard(knobs: &mut Knobs) {
    (knobs.hosts, knobs.zones, knobs.n, knobs.r, knobs.w) = (5, 3, 3, 0, 0);
    knobs.wall_offset_ms = (0..5).map(|host| host * 3).collect();
    knobs.drift_ppm = (0..5).map(|host| 50 * host - 100).collect();
    knobs.classes = vec![Class::Crash];
    knobs.siblings_max = 100;
    knobs.length_ms = 6_000;
    knobs.clients = 4;
    knobs.healer = Healer::Exchange;
    (knobs.spares, knobs.loses_node, knobs.lost_return) = (0, false, false);
}

const fn scenario(id: &'static str, about: &'static str, faults: fn(&mut Script)) -> Scenario {
    Scenario { id, about, set: |_, _| {}, faults, shape: |_, _| {}, also: |_, _| Vec::new(), must: &[] }
}

/// Every scenario, in order of id.
pub const ALL: [Scenario; 34] = [
    scenario("D1", "halves, a lonely node, a bridge, one-way cuts, one after the other", |s| {
        let mut at = BEGIN_MS;
        while at < s.length_ms {
            let span = at..at + s.rng.between(400, 1_500);
            at = span.end + 300;
            match s.rng.below(4) {
                0 => {
                    let half: Vec<usize> = (0..s.hosts).filter(|_| s.rng.chance(500)).collect();
                    s.cut_off(span, &half, false);
                }
                1 => {
                    let lonely = s.host();
                    s.cut_off(span, &[lonely], false);
                }
                2 => s.bridge(span),
                _ => {
                    let (a, b) = s.pair();
                    s.cut_off(span, &[a, b], true);
                }
            }
        }
    }),
    Scenario {
        set: |knobs, _| knobs.linger_ms = LATE_MS,
        ..scenario(
            "D2",
            "frames are lost, doubled, overtake each other, and some are twenty minutes late",
            |s| {
                s.at(BEGIN_MS, Fault::Loss { permille: 100 });
                s.at(BEGIN_MS, Fault::Duplicate { permille: 300 });
                s.at(BEGIN_MS, Fault::Hold { permille: 20, up_to_ms: LATE_MS });
            },
        )
    },
    scenario("D3", "any subset of the nodes loses power, the whole cluster among them", |s| {
        let mut at = BEGIN_MS;
        while at < s.length_ms {
            let all = s.rng.chance(300);
            for host in 0..s.hosts {
                if all || s.rng.chance(400) {
                    let back = at + s.rng.between(50, 600);
                    s.at(at, Fault::PowerOff { host });
                    s.at(back, Fault::Start { host });
                }
            }
            at += s.rng.between(800, 1_800);
        }
    }),
    Scenario {
        set: |knobs, _| (knobs.classes, knobs.healer) = (vec![Class::Wipe], Healer::Exchange),
        must: &["wiped", "refilled"],
        ..scenario("D4", "one directory is emptied while clients write", |s| {
            let host = s.host();
            let span = s.span(1_000, 4_000, 900);
            s.at(span.start, Fault::Wipe { host });
            s.at(span.end, Fault::Start { host });
        })
    },
    Scenario {
        set: |knobs, _| (knobs.classes, knobs.healer) = (vec![Class::Wipe], Healer::Exchange),
        must: &["restored", "mistrusted", "refilled"],
        ..scenario(
            "D5",
            "one directory is replaced by an old copy of itself, of three weeks ago now and then",
            |s| {
                let host = s.host();
                let copied = s.rng.between(BEGIN_MS, 2_500);
                let restored = s.rng.between(copied + 300, 5_500);
                let back = restored + s.rng.between(30, 900);
                s.at(copied, Fault::Copy { host });
                if s.rng.chance(500) {
                    (0..s.hosts).for_each(|host| {
                        s.at(copied + 150, Fault::ClockJump { host, by_ms: THREE_WEEKS_MS });
                    });
                }
                s.at(restored, Fault::Restore { host });
                s.at(back, Fault::Start { host });
            },
        )
    },
    Scenario {
        must: &["read repair"],
        ..scenario("D6", "reads of one disk fail their checksums", |s| {
            let host = s.host();
            let permille = s.rng.pick(&[100, 500, 1000]);
            let span = s.span(BEGIN_MS, 3_000, 3_000);
            s.at(span.start, Fault::ReadErrors { host, permille });
            s.at(span.end, Fault::ReadErrors { host, permille: 0 });
        })
    },
    Scenario {
        set: |knobs, _| {
            knobs.classes = vec![Class::SilentLoss];
            (knobs.audit_ms, knobs.scrub_ms) = (2_500, 30_000);
        },
        must: &["lost in silence", "tree mismatch", "audit repaired"],
        ..scenario("D7", "one key of one home is gone without a trace", |s| {
            let host = s.host();
            let at = s.rng.between(2_500, s.length_ms);
            s.at(at, Fault::SilentLoss { host });
        })
    },
    Scenario {
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
    },
    scenario("D9", "wall clocks strobe, ten minutes either way, and one is in 2038", |s| {
        let ahead = s.host();
        s.at(BEGIN_MS, Fault::ClockJump { host: ahead, by_ms: 400_000_000_000 });
        let mut at = BEGIN_MS;
        while at < s.length_ms {
            let host = s.host();
            let by_ms = s.rng.between(0, 1_200_000) as i64 - 600_000;
            s.at(at, Fault::ClockJump { host, by_ms });
            at += s.rng.between(20, 300);
        }
    }),
    Scenario {
        set: |knobs, _| knobs.mix = Mix::Churn,
        ..scenario("D10", "a node is down for three weeks while keys are deleted and made again", |s| {
            let host = s.host();
            s.at(1_200, Fault::PowerOff { host });
            for host in 0..s.hosts {
                s.at(3_000, Fault::ClockJump { host, by_ms: THREE_WEEKS_MS });
            }
            let back = s.length_ms;
            s.at(back, Fault::Start { host });
        })
    },
    Scenario {
        set: |knobs, _| knobs.mix = Mix::Churn,
        must: &["hint stored"],
        ..scenario("D11", "a fallback with hints is cut off until everyone else has gone on", |s| {
            let (home, fallback) = s.pair();
            s.down(BEGIN_MS..1_800, home);
            s.cut_off(1_900..s.length_ms, &[fallback], false);
        })
    },
    Scenario {
        set: |knobs, _| knobs.healer = Healer::Exchange,
        must: &["pull broken", "pull whole"],
        ..scenario("D12", "links break all the time while nodes catch up", |s| {
            let host = s.host();
            s.down(BEGIN_MS..2_000, host);
            let mut at = 2_000;
            while at < s.length_ms {
                let (a, b) = s.pair();
                let lasts = s.rng.between(20, 250);
                s.cut(at..at + lasts, |from, to| (from, to) == (a, b) || (from, to) == (b, a));
                at += s.rng.between(60, 300);
            }
        })
    },
    Scenario {
        set: |knobs, _| (knobs.mix, knobs.keys) = (Mix::Churn, 1),
        must: &["hint stored"],
        ..scenario(
            "D13",
            "a delete meets two homes and a fallback, the key is made again, the fallback returns",
            |s| {
                let (home, fallback) = s.pair();
                s.down(900..2_500, home);
                s.down(2_000..4_500, fallback);
            },
        )
    },
    Scenario {
        set: |knobs, rng| ring(knobs, rng, 2),
        shape: |_, clients| clients.iter_mut().flatten().for_each(demanding),
        must: &["ring committed", "home came", "home left", "left wiped"],
        ..scenario("D14", "members come and go while the network is cut and nodes crash", |s| {
            let admin = s.rng.index(3);
            s.change(
                BEGIN_MS,
                admin,
                &[Order::Join { node: 5, weight: 1 }, Order::Join { node: 6, weight: 1 }],
            );
            s.change(2_500, admin, &[Order::Leave { node: 3 }, Order::Leave { node: 4 }]);
            let mut at = BEGIN_MS + 200;
            while at < s.length_ms {
                let lasts = s.rng.between(200, 900);
                let (a, b) = s.pair();
                match s.rng.below(3) {
                    0 => s.down(at..at + lasts, a),
                    1 => s.cut_off(at..at + lasts, &[a, b], false),
                    _ => s.cut_off(at..at + lasts, &[a], true),
                }
                at += lasts + s.rng.between(100, 500);
            }
        })
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 1);
            knobs.loses_node = true;
        },
        must: &["ring committed", "home came", "refilled"],
        ..scenario(
            "D15",
            "a member is destroyed and replaced, and another dies while the new one is filled",
            |s| {
                let (dead, second) = (s.rng.index(2), 2 + s.rng.index(3));
                s.at(BEGIN_MS, Fault::Destroy { host: dead });
                let replace = Order::Replace { old: dead, new: 5, force: false };
                s.change(1_500, second, &[replace]);
                s.at(5_000, Fault::Order { host: second, order: Order::Commit });
                let at = s.rng.between(1_600, 5_500);
                let lasts = s.rng.between(200, 1_500);
                s.down(at..at + lasts, second);
            },
        )
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 2);
            (knobs.loses_node, knobs.lost_return) = (true, true);
        },
        must: &["ring committed", "ring forced"],
        ..scenario(
            "D16",
            "two administrators on two sides of a cut, of whom the one with the minority uses force",
            |s| {
                s.cut_off(BEGIN_MS..7_000, &[0, 1, 5], false);
                s.change(BEGIN_MS + 100, 3, &[Order::Weight { node: 4, weight: 2 }]);
                s.change(BEGIN_MS + 100, 0, &[Order::Weight { node: 1, weight: 2 }]);
                let wishes = [2, 3, 4].map(|node| Order::Lost { node });
                for order in wishes.into_iter().chain([Order::Join { node: 5, weight: 1 }]) {
                    s.at(3_000, Fault::Order { host: 1, order });
                }
                s.at(5_500, Fault::Order { host: 1, order: Order::Force });
            },
        )
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 2);
            (knobs.loses_node, knobs.lost_return, knobs.length_ms) = (true, true, 9_000);
        },
        must: &["ring committed", "thawed"],
        ..scenario(
            "D17",
            "a member stands still while it is replaced and the ring changes once more, and goes on",
            |s| {
                let frozen = s.rng.index(5);
                let admin = (frozen + 1) % 5;
                s.frozen(BEGIN_MS..8_000, frozen);
                s.change(1_500, admin, &[Order::Replace { old: frozen, new: 5, force: false }]);
                s.at(6_000, Fault::Order { host: admin, order: Order::Commit });
                s.change(6_500, admin, &[Order::Join { node: 6, weight: 1 }]);
            },
        )
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 1);
            (knobs.loses_node, knobs.lost_return, knobs.mix) = (true, true, Mix::Churn);
            knobs.linger_ms = 60_000;
        },
        must: &["ring committed"],
        ..scenario("D18", "a member that was declared lost comes back an hour later", |s| {
            let lost = s.rng.index(5);
            let admin = (lost + 1) % 5;
            s.at(1_200, Fault::Destroy { host: lost });
            s.change(2_000, admin, &[Order::Replace { old: lost, new: 5, force: false }]);
            s.at(6_000, Fault::Order { host: admin, order: Order::Commit });
            (0..s.hosts).for_each(|host| s.at(3_500, Fault::ClockJump { host, by_ms: HOUR_MS }));
        })
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 0);
            knobs.mix = Mix::Churn;
        },
        must: &["ring committed", "left wiped"],
        ..scenario("D18-left", "a member leaves, stops before it has handed over, and comes back", |s| {
            let goes = s.rng.index(5);
            s.change(1_500, (goes + 1) % 5, &[Order::Leave { node: goes }]);
            let at = s.rng.between(1_600, 3_500);
            s.down(at..s.length_ms, goes);
        })
    },
    Scenario {
        set: |knobs, _| (knobs.keys, knobs.hot_percent) = (2, 60),
        must: &["hint stored", "forwarded"],
        ..scenario("D19", "hot keys while homes leave and return in a loop", |s| {
            let mut at = BEGIN_MS;
            while at < s.length_ms {
                let (a, b) = s.pair();
                let lasts = s.rng.between(150, 700);
                s.down(at..at + lasts, a);
                s.cut_off(at + 50..at + lasts + 200, &[b], false);
                at += lasts + 300;
            }
        })
    },
    Scenario {
        set: |knobs, _| (knobs.attempt_ms, knobs.mix) = (150, Mix::Blind),
        must: &["retry adopted"],
        ..scenario("D20", "acknowledgements are lost and clients try again elsewhere", |s| {
            s.at(BEGIN_MS, Fault::Slower { by: 5 });
            let mut at = BEGIN_MS;
            while at < s.length_ms {
                let host = s.host();
                let lasts = s.rng.between(200, 800);
                s.cut_off(at..at + lasts, &[host], true);
                at += lasts;
            }
        })
    },
    Scenario {
        set: |knobs, _| (knobs.w, knobs.mix) = (3, Mix::Roaming),
        must: &["put failed"],
        ..scenario("D21", "W cannot be reached for long; what was half done surfaces later", |s| {
            let mut at = BEGIN_MS;
            while at < s.length_ms {
                let (a, b) = s.pair();
                let lasts = s.rng.between(300, 1_500);
                s.cut_off(at..at + lasts, &[a, b], false);
                at += lasts + 200;
            }
        })
    },
    Scenario {
        set: |knobs, _| knobs.mix = Mix::Roaming,
        must: &["session waited"],
        ..scenario("D22", "clients change nodes at every step and pass their tokens", |s| {
            let mut at = BEGIN_MS;
            while at < s.length_ms {
                let host = s.host();
                let lasts = s.rng.between(200, 900);
                match s.rng.below(3) {
                    0 => s.down(at..at + lasts, host),
                    1 => s.cut_off(at..at + lasts, &[host], false),
                    _ => {
                        s.at(at, Fault::Slower { by: 20 });
                        s.at(at + lasts, Fault::Slower { by: 0 });
                    }
                }
                at += lasts;
            }
        })
    },
    Scenario {
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
                let again: Vec<Step> =
                    before.map(|step| Step { at_ms: step.at_ms + later, ..*step }).collect();
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
    },
    Scenario {
        also: |evidence, _| answered_at_least(evidence, 85),
        must: &["hint stored"],
        ..scenario("D24", "a zone is gone, then two zones flap", |s| {
            let gone = s.zone(2);
            s.cut_off(BEGIN_MS..2_500, &gone, false);
            let mut at = 2_600;
            while at < s.length_ms {
                let zone = s.rng.index(2);
                let flapping = s.zone(zone);
                let lasts = s.rng.between(100, 400);
                s.cut_off(at..at + lasts, &flapping, false);
                at += lasts + s.rng.between(100, 400);
            }
        })
    },
    Scenario {
        set: |knobs, _| (knobs.mix, knobs.attempt_ms) = (Mix::Blind, 150),
        must: &["thawed", "retry adopted"],
        ..scenario(
            "riak-2A9",
            "coordinators are frozen in the middle of writes that nobody looked before",
            |s| {
                let mut at = BEGIN_MS;
                while at < s.length_ms {
                    let host = s.host();
                    let lasts = s.rng.between(550, 1_600);
                    s.frozen(at..at + lasts, host);
                    at += lasts + s.rng.between(50, 400);
                }
            },
        )
    },
    Scenario {
        set: |knobs, _| (knobs.classes, knobs.healer) = (vec![Class::Wipe], Healer::Exchange),
        must: &["hint stored", "wiped", "refilled"],
        ..scenario("riak-2C21", "the first home to come back takes all hints and loses its disk", |s| {
            let homes: Vec<usize> = (0..s.zones()).map(|zone| s.one_of(zone)).collect();
            let back_ms = s.rng.between(1_500, 2_500);
            let lost_ms = back_ms + s.rng.between(800, 2_500);
            s.down(BEGIN_MS..back_ms, homes[0]);
            s.at(lost_ms, Fault::Wipe { host: homes[0] });
            s.at(lost_ms + 500, Fault::Start { host: homes[0] });
            for &away in &homes[1..] {
                s.down(BEGIN_MS..lost_ms + 100, away);
            }
        })
    },
    Scenario {
        set: |knobs, rng| ring(knobs, rng, 1),
        must: &["hint stored", "home came", "hint store destroyed"],
        ..scenario(
            "riak-2C22",
            "a fallback with hints starts anew while the home that they are for is replaced",
            |s| {
                let (home, fallback) = s.pair();
                let (home, fallback) = (home % 5, fallback % 5);
                s.down(BEGIN_MS..3_000, home);
                s.change(3_100, (home + 1) % 5, &[Order::Replace { old: home, new: 5, force: true }]);
                let lasts = s.rng.between(100, 700);
                s.down(3_150..3_150 + lasts, fallback);
            },
        )
    },
    Scenario {
        set: |knobs, rng| {
            ring(knobs, rng, 1);
            knobs.classes = vec![Class::Rot];
        },
        must: &["rotted", "home came"],
        ..scenario("riak-2C25", "rows that cannot be read stop no transfer", |s| {
            let (host, admin) = (s.rng.index(5), s.rng.index(5));
            (0..4).for_each(|nth| s.at(2_400 + nth * 60, Fault::Rot { host }));
            s.change(2_500, admin, &[Order::Join { node: 5, weight: 2 }]);
        })
    },
    Scenario {
        set: |knobs, rng| ring(knobs, rng, 1),
        must: &["home came", "left wiped"],
        ..scenario("riak-2C26", "whoever receives is at a tenth of its speed", |s| {
            let admin = s.rng.index(5);
            s.at(1_400, Fault::SlowDisk { host: 5, factor: 10 });
            s.at(1_400, Fault::SlowNode { host: 5, factor: 10 });
            s.change(1_500, admin, &[Order::Join { node: 5, weight: 1 }]);
        })
    },
    Scenario {
        set: |knobs, rng| {
            (knobs.hosts, knobs.mix, knobs.length_ms) = (3, Mix::Churn, 12_000);
            ring(knobs, rng, 3);
        },
        must: &["ring committed", "home came", "home left", "left wiped"],
        ..scenario("grow-shrink", "three members become six and three again while keys come and go", |s| {
            s.at(BEGIN_MS, Fault::ClockJump { host: 0, by_ms: 100 });
            s.change(1_000, 0, &[3, 4, 5].map(|node| Order::Join { node, weight: 1 }));
            s.change(6_000, 4, &[0, 1, 2].map(|node| Order::Leave { node }));
        })
    },
    Scenario {
        set: |knobs, rng| {
            (knobs.hosts, knobs.n, knobs.r, knobs.w, knobs.length_ms) = (1, 1, 0, 0, 9_000);
            ring(knobs, rng, 2);
        },
        shape: |_, clients| clients.iter_mut().flatten().for_each(undemanding),
        must: &["ring committed", "home came", "left wiped"],
        ..scenario("single", "a single node grows to three, with one copy of everything", |s| {
            s.at(BEGIN_MS, Fault::ClockJump { host: 0, by_ms: 100 });
            s.change(1_000, 0, &[Order::Join { node: 1, weight: 1 }]);
            s.change(4_000, 0, &[Order::Join { node: 2, weight: 1 }]);
        })
    },
    Scenario {
        set: |knobs, _| bulk(knobs),
        shape: |knobs, clients| *clients = bulk_deletes(knobs, None),
        also: |_, facts| judged::tombstones_gone(facts, 30_000),
        must: &["reclaimed"],
        ..scenario("bulk", "hundreds of keys are deleted while all nodes are up", |s| {
            // A clock that is a little off is no fault that anything must survive.
            s.at(BEGIN_MS, Fault::ClockJump { host: 0, by_ms: 100 });
        })
    },
    Scenario {
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
    },
];

/// Machines that may join.
fn ring(knobs: &mut Knobs, rng: &mut Rng, spares: usize) {
    knobs.spares = spares.max(1);
    (knobs.loses_node, knobs.lost_return) = (false, false);
    knobs.wall_offset_ms.truncate(knobs.hosts);
    knobs.drift_ppm.truncate(knobs.hosts);
    knobs.grow_machines(rng);
}

/// Every second read and write is strict.
fn demanding(step: &mut Step) {
    match &mut step.action {
        Action::Get { r, pr } if step.at_ms.is_multiple_of(2) => (*r, *pr) = (2, 2),
        Action::Put { w, pw, .. } if step.at_ms.is_multiple_of(2) => (*w, *pw) = (2, 2),
        _ => {}
    }
}

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

/// So many of a hundred writes of clients were acknowledged.
fn answered_at_least(evidence: &Evidence, percent: usize) -> Vec<Violation> {
    let puts = &evidence.history.puts;
    let acknowledged = puts.iter().filter(|op| op.outcome == Outcome::Applied).count();
    if acknowledged * 100 >= puts.len() * percent {
        return Vec::new();
    }
    let text = format!(
        "only {acknowledged} of {} writes were acknowledged: at least {percent} % are asked",
        puts.len()
    );
    vec![Violation::new("availability", text)]
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
/// How late a frame may be.
const LATE_MS: u64 = 20 * 60_000;
/// The first moments are calm.
const BEGIN_MS: u64 = 600;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;
const THREE_WEEKS_MS: i64 = 21 * 24 * 3_600_000;
