//! The dashboard of a real cluster, in a real browser, if this machine has one that can be run without a screen.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod local;

use local::Local;
use serde_json::Value as Json;
use std::process::{Command, Stdio};

/// What a person sees once the page has asked its node: the document, after its scripts have run for some seconds.
fn look(browser: &str, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=8000", "--dump-dom", url])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn browser() -> Option<&'static str> {
    ["chromium", "google-chrome", "chromium-browser"].into_iter().find(|name| {
        let asked = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    })
}

#[test]
fn a_person_sees_the_ring_the_nodes_and_what_is_wrong() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium or google-chrome is installed");
        return;
    };
    let cluster = Local::start(3);
    cluster.ok(0, &["put", "carts", "ann", "apples"], b"");
    let page = format!("{}/ui", cluster.url(0));
    let well = look(browser, &page);
    assert!(well.contains("3 of 3 nodes up"), "{well}");
    assert_eq!(well.matches("data-name=\"").count(), 3, "each node has its share of the ring: {well}");
    assert!(well.contains("Nothing wants anybody to look."), "{well}");

    assert!(
        well.contains("id=\"change-panel\" aria-labelledby=\"change-title\" hidden"),
        "nothing changes: {well}"
    );
    assert!(
        well.contains("id=\"plan-panel\" aria-labelledby=\"plan-title\" hidden"),
        "nothing is staged: {well}"
    );

    cluster.order(&["kill", "2"]);
    let mut hurt = look(browser, &page);
    // It takes the others a moment to see that it is down.
    for _ in 0..10 {
        if hurt.contains(">down<") {
            break;
        }
        hurt = look(browser, &page);
    }
    assert!(hurt.contains(">down<") && hurt.contains("data-level=\"degraded\""), "{hurt}");
    assert!(hurt.contains("start it again"), "the problem says what to do: {hurt}");
}

#[test]
fn a_person_sees_a_plan_a_change_that_goes_on_and_what_it_came_to() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium or google-chrome is installed");
        return;
    };
    let cluster = Local::start(3);
    for key in 0..20 {
        cluster.ok(0, &["put", "carts", &format!("u{key}"), "pen"], b"");
    }
    cluster.order(&["add"]);
    let page = format!("{}/ui", cluster.url(0));
    let see = |words: &[&str]| {
        let mut seen = String::new();
        // What was just read to fill a home is kept for the length of a session's lease.
        for _ in 0..120 {
            seen = look(browser, &page);
            if words.iter().all(|words| seen.contains(words)) {
                return seen;
            }
        }
        panic!("{words:?} are not all on the page: {seen}");
    };
    let plan: Json = serde_json::from_str(&cluster.ok(0, &["cluster", "plan", "--json"], b"")).unwrap();
    let hash = plan["hash"].as_str().unwrap();
    let commit = format!("gramme cluster commit {}", &hash[..8]);
    let planned = see(&["node-3 joins, weight 1", &commit]);
    assert!(
        planned.contains("33.3 % (256)") && planned.contains("25.0 % (192)"),
        "before and after: {planned}"
    );
    assert!(planned.contains("192 of 768"), "replicas that move: {planned}");

    // The node that joins is in no ring yet, so it is told by itself.
    cluster.ok(3, &["transfers", "pause"], b"");
    cluster.ok(0, &["cluster", "commit", hash], b"");
    let held = see(&["The ring is changing: layout 1 → ", "transfers are paused at ", "data-step=\"now\""]);
    assert!(held.contains("gramme transfers resume") && held.contains("<progress max="), "{held}");

    cluster.ok(0, &["transfers", "resume"], b"");
    see(&["read by", "data-name=\"node-3\"", "id=\"change-panel\" aria-labelledby=\"change-title\" hidden"]);
}
