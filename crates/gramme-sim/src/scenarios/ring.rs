//! Scenarios in which the ring changes while it serves (docs/membership.md).

use super::{BEGIN_MS, Scenario, scenario, undemanding};
use crate::admin::Order;
use crate::knobs::{Class, Knobs};
use crate::nemesis::Fault;
use crate::rng::Rng;
use crate::workload::{Action, Mix, Step};

pub(super) const D14: Scenario = Scenario {
    set: |knobs, rng| ring(knobs, rng, 2),
    shape: |_, clients| clients.iter_mut().flatten().for_each(demanding),
    must: &["ring committed", "home came", "home left", "left wiped"],
    ..scenario("D14", "members come and go while the network is cut and nodes crash", |s| {
        let admin = s.rng.index(3);
        s.change(BEGIN_MS, admin, &[Order::Join { node: 5, weight: 1 }, Order::Join { node: 6, weight: 1 }]);
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
};

pub(super) const D15: Scenario = Scenario {
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
};

pub(super) const D16: Scenario = Scenario {
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
};

pub(super) const D17: Scenario = Scenario {
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
};

pub(super) const D18: Scenario = Scenario {
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
};

pub(super) const D18_LEFT: Scenario = Scenario {
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
};

pub(super) const RIAK_2C22: Scenario = Scenario {
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
};

pub(super) const RIAK_2C25: Scenario = Scenario {
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
};

pub(super) const RIAK_2C26: Scenario = Scenario {
    set: |knobs, rng| ring(knobs, rng, 1),
    must: &["home came", "left wiped"],
    ..scenario("riak-2C26", "whoever receives is at a tenth of its speed", |s| {
        let admin = s.rng.index(5);
        s.at(1_400, Fault::SlowDisk { host: 5, factor: 10 });
        s.at(1_400, Fault::SlowNode { host: 5, factor: 10 });
        s.change(1_500, admin, &[Order::Join { node: 5, weight: 1 }]);
    })
};

pub(super) const GROW_SHRINK: Scenario = Scenario {
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
};

pub(super) const SINGLE: Scenario = Scenario {
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
};

/// What it took while it was cut off nobody else has: whoever comes in its place must wait until it can be read.
pub(super) const LONE_COPY: Scenario = Scenario {
    set: |knobs, rng| {
        (knobs.hosts, knobs.w, knobs.length_ms, knobs.buffered) = (3, 1, 8_000, false);
        ring(knobs, rng, 1);
    },
    shape: |_, clients| clients.iter_mut().flatten().for_each(one_writes_all_read),
    must: &["ring committed", "home came", "left wiped"],
    ..scenario(
        "lone-copy",
        "whoever has what nobody else has is replaced, and cannot be read for a while",
        |s| {
            let goes = s.rng.index(3);
            s.cut_off(BEGIN_MS..1_500, &[goes], false);
            s.at(1_400, Fault::ReadErrors { host: goes, permille: 1000 });
            s.at(4_000, Fault::ReadErrors { host: goes, permille: 0 });
            s.change(1_600, (goes + 1) % 3, &[Order::Replace { old: goes, new: 3, force: true }]);
        },
    )
};

/// A former home is wiped no sooner than the lease of the sessions that pulled from it is over: until then whoever came
/// cannot speak to the homes that stay. Clients end before the disk that is lost could be the only one with a write.
pub(super) const LONE_LEFT: Scenario = Scenario {
    set: |knobs, rng| {
        (knobs.hosts, knobs.w, knobs.r, knobs.length_ms) = (3, 1, 1, 20_000);
        (knobs.classes, knobs.mix) = (vec![Class::Wipe], Mix::Blind);
        (knobs.buffered, knobs.conditions) = (false, false);
        ring(knobs, rng, 1);
    },
    shape: |_, clients| {
        let is_put = |step: &Step| matches!(step.action, Action::Put { .. });
        clients.iter_mut().for_each(|steps| steps.retain(|step| step.at_ms < 1_000 && is_put(step)));
        clients.iter_mut().flatten().for_each(undemanding);
    },
    must: &["ring committed", "home came", "left wiped", "wiped", "refilled"],
    ..scenario(
        "lone-left",
        "whoever took over what nobody else has loses its disk before it has told of it",
        |s| {
            let goes = s.rng.index(3);
            let (apart_ms, lost_ms) = (s.rng.between(2_400, 2_700), s.rng.between(18_500, 19_500));
            s.change(1_500, (goes + 1) % 3, &[Order::Replace { old: goes, new: 3, force: true }]);
            let stays = |host: usize| host < 3 && host != goes;
            s.cut(BEGIN_MS..20_000, |a, b| (a == goes && stays(b)) || (stays(a) && b == goes));
            s.cut(apart_ms..20_000, |a, b| (a == 3 && stays(b)) || (stays(a) && b == 3));
            s.at(lost_ms, Fault::Wipe { host: 3 });
            s.at(lost_ms + 300, Fault::Start { host: 3 });
        },
    )
};

/// Its writes come to the home that goes when that one has been pulled from already, and its own copy of them is lost
/// before anybody pulls that. Later on there are reads alone, each at the home that came.
pub(super) const LATE_WRITER: Scenario = Scenario {
    set: |knobs, rng| {
        (knobs.hosts, knobs.n, knobs.w, knobs.r, knobs.length_ms) = (3, 2, 2, 1, 8_000);
        (knobs.classes, knobs.mix) = (vec![Class::Wipe], Mix::Blind);
        (knobs.buffered, knobs.conditions, knobs.cache_bytes) = (false, false, 0);
        (knobs.clients, knobs.think_ms, knobs.attempt_ms, knobs.request_ms) = (8, 20, 300, 1_000);
        knobs.disk.sync_us = 4_000;
        ring(knobs, rng, 1);
    },
    shape: |_, clients| {
        let is_get = |step: &Step| matches!(step.action, Action::Get { .. });
        for steps in clients {
            steps.retain(|step| step.at_ms < 2_000 || (step.at_ms > 4_000 && is_get(step)));
            steps.iter_mut().filter(|step| step.at_ms > 4_000).for_each(|step| step.host = 3);
            steps.iter_mut().for_each(undemanding);
        }
    },
    must: &["ring committed", "home came", "write fenced", "wiped", "refilled"],
    ..scenario(
        "late-writer",
        "whoever hears late of a change writes by the ring before, and loses its disk",
        |s| {
            let late = s.rng.index(3);
            let (goes, admin) = ((late + 1) % 3, (late + 2) % 3);
            let lost_ms = s.rng.between(1_850, 2_150);
            s.at(1_500, Fault::SlowDisk { host: late, factor: 30 });
            s.change(1_500, admin, &[Order::Replace { old: goes, new: 3, force: true }]);
            s.at(lost_ms, Fault::Wipe { host: late });
            s.at(lost_ms, Fault::SlowDisk { host: late, factor: 1 });
            s.at(lost_ms + 200, Fault::Start { host: late });
            // It is not made whole before whoever came has pulled from it.
            s.at(lost_ms, Fault::ReadErrors { host: goes, permille: 1000 });
            s.at(lost_ms + 900, Fault::ReadErrors { host: goes, permille: 0 });
        },
    )
};

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

/// One copy is enough for a write, and every second read asks all.
fn one_writes_all_read(step: &mut Step) {
    undemanding(step);
    match &mut step.action {
        Action::Get { r, pr } if step.at_ms.is_multiple_of(2) => (*r, *pr) = (3, 3),
        _ => {}
    }
}

const HOUR_MS: i64 = 3_600_000;
