//! Scenarios by id: those of correctness.md section 9 (D1-D24) and of the history of Riak's bugs that
//! none of them covers. A scenario is a fixed kind of cluster, a recipe of faults, what clients mostly do, and
//! what it asks beyond the rules that hold for every run. Its runs are plans like any other: they are shrunk,
//! kept and replayed in the same way. Which id is tested where: `docs/simulator.md`.

mod load;
mod ring;

use crate::course::Facts;
use crate::evidence::{Evidence, Violation};
use crate::knobs::{Class, Healer, Knobs, RECLAIM_PERMILLE, Reclaim};
use crate::nemesis::{Fault, Timed};
use crate::rng::Rng;
use crate::run::Plan;
use crate::script::Script;
use crate::workload::{self, Action, Mix, Step};
use gramme_core::Outcome;

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
pub const ALL: [Scenario; 37] = [
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
        // What a cache remembers nobody asks the disk for.
        set: |knobs, _| knobs.cache_bytes = 0,
        must: &["read repair"],
        ..scenario("D6", "reads of one disk fail their checksums", |s| {
            let host = s.host();
            let permille = s.rng.pick(&[200, 500, 1000]);
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
    load::D8,
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
    ring::D14,
    ring::D15,
    ring::D16,
    ring::D17,
    ring::D18,
    ring::D18_LEFT,
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
    load::D23,
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
    ring::RIAK_2C22,
    ring::RIAK_2C25,
    ring::RIAK_2C26,
    ring::GROW_SHRINK,
    ring::SINGLE,
    ring::LONE_COPY,
    ring::LONE_LEFT,
    ring::LATE_WRITER,
    load::BULK,
    load::BULK_AWAY,
];

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

/// How late a frame may be.
const LATE_MS: u64 = 20 * 60_000;
/// The first moments are calm.
const BEGIN_MS: u64 = 600;
const DAY_MS: i64 = 24 * 3_600_000;
const THREE_WEEKS_MS: i64 = 21 * 24 * 3_600_000;
