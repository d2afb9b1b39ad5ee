//! A story that cannot fail proves nothing: with a fault planted, the story that is there to find it does. The
//! fault is one for the whole process, so each runs in a process of its own.

use gramme_core::planted::{Bug, plant};
use std::process::Command;

/// The variable that names the fault to a process that is to run one story.
const PLANT: &str = "GRAMME_PLANT";

/// Faults and stories that must fail with them.
const FOUND_BY: &[(Bug, &str)] = &[
    (
        Bug::SilenceIgnored,
        "silence::a_frozen_home_costs_the_first_readers_one_bounded_wait_and_those_after_them_none",
    ),
    (Bug::BufferedHint, "conditions::the_places_of_silent_homes_are_asked_for_durable_hints"),
    (Bug::ConditionLocal, "conditions::a_condition_is_held_against_what_the_other_homes_hold"),
    (Bug::RepairStorm, "gets::a_hundred_reads_of_a_settled_key_cause_no_write"),
    (Bug::SessionJoinedEarly, "exchange::a_session_that_breaks_keeps_its_records_and_claims_nothing"),
    (Bug::RestoredTrusted, REFILLED),
    (Bug::RefilledByOne, REFILLED),
    (
        Bug::RefillNotPurged,
        "exchange::a_refill_drops_what_a_member_has_reclaimed_and_keeps_what_it_cannot_know",
    ),
    (Bug::LateWhileFilling, "exchange::what_is_late_for_a_member_is_not_taken_while_that_refills_a_home"),
    (
        Bug::HintDroppedAfterOne,
        "handoff::hints_are_offered_at_once_when_their_home_is_back_and_destroyed_once_every_home_has_them",
    ),
    (
        Bug::HintClockKept,
        "handoff::the_next_hint_after_a_destruction_opens_a_store_with_an_incarnation_and_a_clock_of_its_own",
    ),
    (Bug::FallbackMintsFromClock, "hints::each_life_of_a_hint_store_mints_under_an_incarnation_of_its_own"),
    (Bug::HintReplacesHint, "hints::a_second_hint_for_a_key_joins_the_first"),
    (Bug::AuditComparesOnce, "trees::what_was_only_on_its_way_is_no_difference"),
    (Bug::AuditSpreadsCorrupt, "trees::a_corrupt_record_is_not_spread_and_holds_up_nothing"),
    (Bug::HintForOverloaded, "hints::a_home_that_is_overloaded_gets_no_hint_once_enough_have_the_put"),
    (Bug::CloseNotFrozen, "closing::whoever_keeps_nothing_of_a_partition_promises_durably_all_the_same"),
    (Bug::CloseWithoutHints, "closing::while_a_node_is_silent_nothing_is_closed_and_the_status_names_it"),
    (Bug::CloseWithoutLastHome, "closing::a_tombstone_that_waits_under_a_hole_goes_once_that_is_closed"),
    (Bug::VoidSiblingCut, "closing::a_state_that_bears_a_void_write_is_refused_whole"),
];

const REFILLED: &str =
    "exchange::a_home_of_which_others_remember_more_begins_a_new_life_and_is_refilled_by_all_of_them";

/// Plants the fault that this process is to run with.
pub fn plant_what_is_asked_for() {
    let asked = std::env::var(PLANT).ok();
    plant(FOUND_BY.iter().map(|found| found.0).find(|bug| asked == Some(format!("{bug:?}"))));
}

#[test]
fn every_planted_fault_is_found_by_its_story() {
    let this = std::env::current_exe().unwrap();
    for (bug, story) in FOUND_BY {
        let run = |planted: &str| {
            let mut command = Command::new(&this);
            let output = command.args(["--exact", story]).env(PLANT, planted).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(run("").contains("1 passed"), "{story} holds");
        assert!(run(&format!("{bug:?}")).contains("1 failed"), "{story} must not hold with {bug:?}");
    }
}
