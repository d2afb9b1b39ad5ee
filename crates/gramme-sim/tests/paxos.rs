//! The commit of layouts alone (U12): clean as the code is, and every fault that is planted in it found within a
//! stated number of runs.
//!
//! A planted fault is one for the whole process, so a build with the feature has a single test.

#[cfg(not(feature = "planted"))]
#[test]
fn five_thousand_runs_break_no_promise() {
    let report = gramme_sim::paxos::campaign(1, 5_000, None);
    assert_eq!(report.violations(), 0, "{:?}", report.first.map(|v| v.to_string()));
    // Runs in which little happened would prove little.
    let tally = report.tally;
    assert!(tally.proposals > 5 * tally.runs && tally.decrees > 3 * tally.runs, "{tally:?}");
    assert!(tally.another > tally.runs / 10 && tally.settled > tally.runs, "{tally:?}");
    assert!(tally.no_quorum > tally.runs / 20 && tally.stood_back > tally.runs, "{tally:?}");
    assert!(tally.taught > tally.runs / 5 && tally.forgetful > tally.runs / 20, "{tally:?}");
    assert!(tally.mid_proposal > tally.runs / 2 && tally.lost > 10 * tally.runs, "{tally:?}");
}

#[cfg(not(feature = "planted"))]
#[test]
fn a_run_repeats_to_the_letter() {
    for seed in 1..20 {
        let (first, told) = gramme_sim::paxos::trace(seed, None);
        assert!(!told.is_empty());
        assert_eq!((first, told), gramme_sim::paxos::trace(seed, None));
    }
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_fault_is_found_within_its_budget() {
    use gramme_core::planted::Bug;
    use gramme_sim::paxos::find;
    // The fault and the runs within which it must be found: about ten times the mean number that it takes.
    let budgets = [
        (Bug::PromiseForgotten, 50),
        (Bug::AcceptedIgnored, 50),
        (Bug::MajorityOfAnswers, 20),
        (Bug::SettledReopened, 50),
        (Bug::AcceptorAnswersBeforeSync, 12_000),
        (Bug::LowestAccepted, 12_000),
        (Bug::BallotReused, 12_000),
    ];
    let longest = budgets.iter().map(|budget| budget.1).max().unwrap_or(0);
    assert_eq!(find(1, longest, None), None, "without a fault the same runs are clean");
    for (bug, budget) in budgets {
        assert!(find(1, budget, Some(bug)).is_some(), "{bug:?} was not found in {budget} runs");
    }
}
