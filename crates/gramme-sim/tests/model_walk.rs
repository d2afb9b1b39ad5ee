//! The random walk of the versioning rules (U6 without reclaim): clean as the code is, and every fault that
//! is planted in it found within a stated number of walks.
//!
//! A planted fault is one for the whole process, so a build with the feature has a single test.

use gramme_sim::model::{Options, campaign};

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
    assert!(tally.disk_faults > tally.runs / 2 && tally.handoffs > tally.runs / 20, "{tally:?}");
    assert_eq!(tally.trips, 0, "a tripwire that rings without a loss would be mistrusted: {tally:?}");
}

#[cfg(not(feature = "planted"))]
#[test]
fn one_key_lost_in_silence_is_noticed_and_costs_nobody_else_a_write() {
    let options = Options { silent_loss: true, ..Options::default() };
    let report = campaign(1, 5_000, STEPS, options);
    assert_eq!(report.violations(), 0, "{:?}", report.first.map(|v| v.to_string()));
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
    use gramme_sim::model::find;
    // The fault, whether a key is also lost in silence, and the walks within which it must be found: about
    // ten times the mean number that it takes.
    let budgets = [
        (Bug::PerKeyCounter, false, 50),
        (Bug::IncarnationReused, false, 20),
        (Bug::AnswerRecordClock, false, 30),
        (Bug::OverwriteOnMerge, false, 10),
        (Bug::PutDropsAll, false, 10),
        (Bug::RetryForgotten, false, 50),
        (Bug::LowZero, true, 200),
        (Bug::NoTripwire, true, 1_500),
    ];
    for (bug, silent_loss, budget) in budgets {
        let options = Options { silent_loss, bug: Some(bug) };
        let found = find(1, budget, STEPS, options);
        assert!(found.is_some(), "{bug:?} was not found in {budget} walks");
        // The same walks without the fault are clean, so it is the fault that was found.
        let clean = campaign(1, budget, STEPS, Options { bug: None, ..options });
        assert_eq!(clean.violations(), 0, "{bug:?}: {:?}", clean.first);
    }
}
