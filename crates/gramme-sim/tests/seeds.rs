//! A few dozen runs of the real nodes in every build; thousands are for `.ci/run` and the soak.

#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion
#![cfg(not(feature = "planted"))] // a planted fault is one for the whole process

use gramme_sim::batch::{self, Kind, Seeds};
use gramme_sim::run::Plan;
use gramme_sim::{meta, regression, scenarios};
use std::path::Path;

#[test]
fn forty_seeds_break_no_rule() {
    let seeds = Seeds { first: 0, count: 40, threads: 2, until_failure: false };
    let outcome = batch::run(seeds, || false, |_| {});
    let failed: Vec<_> = outcome.failed.iter().map(|f| (f.seed, &f.violations[0])).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(!outcome.is_vacuous(), "{:?}", outcome.vacuous);
    assert!(outcome.operations.1 > 5_000, "{:?}", outcome.operations);
}

#[test]
fn every_scenario_holds_for_two_seeds() {
    for scenario in scenarios::ALL {
        let plan = |seed| scenario.plan(seed);
        let kind = Kind { plan: &plan, also: scenario.also };
        let seeds = Seeds { first: 0, count: 2, threads: 2, until_failure: false };
        let outcome = batch::run_kind(kind, seeds, || false, |_| {});
        let failed: Vec<_> = outcome.failed.iter().map(|f| (f.seed, &f.violations[0])).collect();
        assert!(failed.is_empty(), "{}: {failed:#?}", scenario.id);
    }
}

#[test]
fn a_seed_runs_the_same_twice_and_in_a_child() {
    let program = Path::new(env!("CARGO_BIN_EXE_gramme-sim"));
    let differences = meta::check(0..6, Some(program));
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_plan_is_data_and_runs_the_same_when_read_back() {
    let plan = Plan::of(11);
    let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
    let digest = |plan: &Plan| batch::one(plan, gramme_sim::log::Trace::Off).digest;
    assert_eq!(digest(&read), digest(&plan));
}

#[test]
fn no_failure_that_was_found_once_comes_back() {
    let kept = regression::all(&regression::directory()).unwrap();
    assert!(kept.len() >= 3, "the directory of regressions was found");
    for (path, regression) in kept {
        let broken = regression.replay(10);
        assert_eq!(broken, None, "{}: {}", path.display(), regression.note);
    }
}
