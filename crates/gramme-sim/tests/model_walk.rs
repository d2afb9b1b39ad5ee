//! The random walk of the versioning rules (U6): clean as the code is, and every fault that
//! is planted in it found within a stated number of walks.
//!
//! A planted fault is one for the whole process, so a build with the feature has a single test.

use gramme_sim::model::{Options, Promise, campaign};

const STEPS: usize = 160;

#[cfg(not(feature = "planted"))]
#[test]
fn twenty_thousand_walks_break_no_promise() {
    let report = campaign(1, 20_000, STEPS, Options::default());
    assert_eq!(report.violations(), 0, "{:?}", report.first.map(|v| v.to_string()));
    // Walks in which little happened would prove little.
    let tally = report.tally;
    assert!(tally.acked > 20 * tally.runs, "{tally:?}");
    assert!(tally.deletes > 5 * tally.runs && tally.chained > 5 * tally.runs, "{tally:?}");
    assert!(tally.retries > 2 * tally.runs && tally.restarts > 4 * tally.runs, "{tally:?}");
    assert!(tally.disk_faults > tally.runs / 2 && tally.handoffs > tally.runs / 40, "{tally:?}");
    assert!(tally.reclaimed > tally.runs / 3 && tally.stripped > 4 * tally.runs, "{tally:?}");
    assert!(tally.closed > 2 * tally.runs && tally.stale > 3 * tally.runs, "{tally:?}");
    assert!(tally.void > tally.runs / 10, "{tally:?}");
    assert_eq!(tally.trips, 0, "a tripwire that rings without a loss would be mistrusted: {tally:?}");
}

#[cfg(not(feature = "planted"))]
#[test]
fn one_key_lost_in_silence_is_noticed_and_costs_nobody_else_a_write() {
    let options = Options { silent_loss: true, ..Options::default() };
    let report = campaign(1, 5_000, STEPS, options);
    // A replica that forgets a delete which everyone was known to have seen may show what that delete had
    // covered: loss without notice is outside the promise, and resurrects in a few walks of ten thousand.
    let resurrected = report.broken.get(&Promise::NoResurrection).copied().unwrap_or(0);
    assert_eq!(report.violations(), resurrected, "{:?}", report.broken);
    assert!(resurrected < 10, "{:?}", report.first.map(|v| v.to_string()));
    assert!(report.tally.silent_losses > 2_000 && report.tally.trips > 400, "{:?}", report.tally);
}

#[cfg(not(feature = "planted"))]
#[test]
fn a_walk_repeats_to_the_letter() {
    for seed in 1..50 {
        let first = gramme_sim::model::trace(seed, STEPS, Options::default());
        assert_eq!(first, gramme_sim::model::trace(seed, STEPS, Options::default()));
    }
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_fault_is_found_within_its_budget() {
    use gramme_core::planted::Bug;
    // The fault, whether a key is also lost in silence, and the walks within which it must be found: about
    // ten times the mean number that it takes.
    let budgets = [
        (Bug::PerKeyCounter, false, 50),
        (Bug::IncarnationReused, false, 20),
        (Bug::AnswerRecordClock, false, 50),
        (Bug::OverwriteOnMerge, false, 10),
        (Bug::PutDropsAll, false, 10),
        (Bug::RetryForgotten, false, 50),
        (Bug::LowZero, true, 300),
        (Bug::NoTripwire, true, 2_000),
        (Bug::StaleTaken, false, 20),
        (Bug::ReadNotFilled, false, 50),
        (Bug::ReclaimOnOwnBase, false, 8_000),
        (Bug::ReclaimOnDotOnly, false, 20_000),
        (Bug::StampIgnored, false, 20_000),
        (Bug::StaleBySeen, false, 700),
        (Bug::SessionJoinedEarly, false, 50),
        (Bug::RestoredTrusted, false, 1_600),
        (Bug::RefillNotPurged, false, 2_000),
        (Bug::CloseNotFrozen, false, 15_000),
        (Bug::VoidSiblingCut, false, 6_000),
        (Bug::ConflictByVote, true, 1_600),
    ];
    // The same walks without a fault are clean, so it is the fault that is found. With a key lost in silence
    // a few resurrect by themselves, and count neither way.
    let counted = |seed: u64, runs: u64, options: Options| {
        let broken = campaign(seed, runs, STEPS, options).broken;
        let counts = |promise: &Promise| !options.silent_loss || *promise != Promise::NoResurrection;
        broken.into_iter().filter(|(promise, _)| counts(promise)).map(|(_, count)| count).sum::<u64>()
    };
    for silent_loss in [false, true] {
        let longest = budgets.iter().filter(|b| b.1 == silent_loss).map(|b| b.2).max().unwrap_or(0);
        assert_eq!(counted(1, longest, Options { silent_loss, bug: None }), 0, "silent loss: {silent_loss}");
    }
    for (bug, silent_loss, budget) in budgets {
        let options = Options { silent_loss, bug: Some(bug) };
        let found = (1..=budget).any(|seed| counted(seed, 1, options) > 0);
        assert!(found, "{bug:?} was not found in {budget} walks");
    }
    the_faults_that_no_walk_shows_fail_a_case_each();
}

/// Another rule covers for these wherever a walk goes: the strict form is kept on argument, and each fault is
/// shown the case that the argument is about. The same cases hold without a fault in the tests of
/// `gramme-core` and of the walk's world.
#[cfg(feature = "planted")]
fn the_faults_that_no_walk_shows_fail_a_case_each() {
    use gramme_core::closed::agreed;
    use gramme_core::planted::{Bug, plant};
    use gramme_core::reclaim::{Arrival, admit};
    use gramme_core::record::checksum;
    use gramme_core::seen::SeenRow;
    use gramme_core::{Content, Context, Dot, Frontier, Incarnation, NodeId, Record, RequestId, Sibling};
    let value_at = |incarnation: u64, n: u64| {
        let content = Content::Value(Default::default());
        let sibling = Sibling {
            dot: Dot::new(Incarnation(incarnation), n),
            checksum: checksum(&content),
            content,
            stamp: Default::default(),
            request: RequestId(u128::from(n)),
            author: NodeId(1),
            ttl_ms: 0,
            content_type: Default::default(),
            meta: Vec::new(),
        };
        Record::new().put(&Context::blind(), sibling)
    };
    let of = |bases: &[(u64, u64)]| Frontier::from_bases(bases.iter().map(|&(i, n)| (Incarnation(i), n)));
    // The sender had come as far in the dot's own life, and not in another: it may have missed the delete.
    let stamp_per_dot = || {
        let late = value_at(1, 1);
        admit(&Record::new(), &late, &of(&[(1, 1), (2, 1)]), &of(&[(1, 1)])) == Arrival::Stale
    };
    // A receiver that claimed the refused dot would tell the one home that still shows it to drop it.
    let stale_dots_kept = || {
        let mixed = value_at(1, 1).join(&value_at(3, 1));
        match admit(&Record::new(), &mixed, &of(&[(1, 1)]), &Frontier::none()) {
            Arrival::Join(taken) => !taken.clock.covers(Dot::new(Incarnation(1), 1)),
            Arrival::Stale => false,
        }
    };
    // What only a hint holder has seen may be half of an acknowledged write.
    let close_without_hints = || {
        let row = |n| SeenRow::from_runs([(0, n)]);
        agreed(&[row(1), row(1)], &[row(2)]).is_none()
    };
    let cases: [(Bug, &dyn Fn() -> bool); 5] = [
        (Bug::StampPerDot, &stamp_per_dot),
        (Bug::StaleDotsKept, &stale_dots_kept),
        (Bug::CloseWithoutHints, &close_without_hints),
        (Bug::BaseBeforeSync, &gramme_sim::model::reports_only_what_is_durable),
        (Bug::HintClockKept, &gramme_sim::model::drops_its_hint_store_whole),
    ];
    for (bug, is_sound) in cases {
        assert!(is_sound(), "{bug:?} is not planted, and its case fails");
        plant(Some(bug));
        let noticed = !is_sound();
        plant(None);
        assert!(noticed, "{bug:?} passes its case");
    }
}
