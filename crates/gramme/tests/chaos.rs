//! A cluster of real processes is broken on purpose, and keeps what it promised: the small version of `gramme chaos`.
//! Its figures are printed; of the clock only the order of events is judged here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

use serde_json::Value as Json;
use std::process::Command;

/// Runs it and gives the figures; a broken promise shows all that the run had to say, and leaves the nodes' logs.
fn chaos(arguments: &[&str]) -> Json {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("chaos");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gramme"));
    let output = command.args(["chaos", "--json", "--dir"]).arg(&dir).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let figures: Json = match serde_json::from_slice(&output.stdout) {
        Ok(figures) => figures,
        Err(_) => panic!("the run did not end; logs: {}; {said}", place.keep().display()),
    };
    println!("{figures:#}");
    if !output.status.success() && !only_slow(&figures) {
        panic!("a promise was broken; logs: {}", place.keep().display());
    }
    figures
}

/// How long a client waited, and whether it waited too long, says as much of the machine that runs the tests as of the
/// store: only what no slowness excuses is judged here. The long run judges all of it.
fn only_slow(figures: &Json) -> bool {
    let broken = ["lost", "resurrected", "phantoms", "late_ghosts", "homes_differ"];
    let none = broken.iter().all(|figure| figures["total"][figure] == 0);
    let whole = figures["rounds"].as_array().unwrap().iter().all(|round| round["whole_ms"].is_u64());
    none && whole && figures["total"]["died"].as_array().unwrap().is_empty()
}

/// A run for the gate, in which at least so many writes must have been acknowledged.
fn small(arguments: &str, acknowledged_min: u64) -> Json {
    const SHORT: &str = "--round-secs 4 --cold-keys 40 --clients 6 --settle-secs 300";
    let figures = chaos(&SHORT.split(' ').chain(arguments.split(' ')).collect::<Vec<_>>());
    let acknowledged = figures["total"]["acknowledged"].as_u64().unwrap();
    assert!(acknowledged > acknowledged_min, "a run in which little happened: {figures:#}");
    figures
}

#[test]
fn one_node_killed_frozen_or_cut_off_costs_no_write_and_no_request() {
    small("--rounds 3 --faults kill,stop,cut --stop-secs 3", 30);
}

#[test]
fn a_directory_that_was_wiped_or_is_old_comes_back_whole_and_brings_nothing_back() {
    small("--rounds 2 --faults wipe,old-copy --copy-age-secs 3", 20);
}

#[test]
fn three_nodes_come_and_three_go_though_one_is_killed_in_the_middle_of_each_transfer() {
    let figures = small("--scenario ring", 40);
    for round in figures["rounds"].as_array().unwrap() {
        assert!(!round["changed"]["killed"].as_array().unwrap().is_empty(), "{figures:#}");
    }
}

#[test]
#[ignore = "a quarter of an hour: ten rounds of every fault, with tombstones that go and that stay, on a machine with nothing else to do"]
fn ten_rounds_of_every_fault() {
    for tombstones in [&[][..], &["--keep-tombstones"]] {
        let figures = chaos(&[&["--rounds", "10", "--copy-age-secs", "60"], tombstones].concat());
        assert_eq!(figures["kept"], true, "{figures:#}");
    }
}
