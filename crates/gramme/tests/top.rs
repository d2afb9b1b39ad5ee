//! `gramme top` over a cluster of real processes: while it is used, and while its nodes go away.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod local;

use local::{Local, told};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn who_watches_sees_the_load_the_node_that_dies_and_goes_on_when_the_asked_one_does() {
    let cluster = Local::start(3);
    // Far more looks than it takes, so that a slow machine does not end the watch.
    let mut watch = cluster.begin(0, &["top", "--json", "--count", "300"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    let mut next = || -> Json {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    };
    let first = next();
    assert_eq!(
        (&first["asked"], &first["verdict"]["level"]),
        (&"node-0".into(), &"healthy".into()),
        "{first}"
    );
    assert!(first["put"].is_null() && first["nodes"][1]["put"].is_null(), "one answer has no rate: {first}");

    for key in 0..20 {
        cluster.ok(1, &["put", "carts", &format!("u{key}"), "pen"], b"");
    }
    let busy = loop {
        let look = next();
        if look["nodes"][1]["put"]["per_s"].as_f64().unwrap_or(0.0) > 0.0 {
            break look;
        }
    };
    assert_eq!(busy["nodes"][0]["put"]["per_s"], 0.0, "a put is counted where its client asked: {busy}");
    assert_eq!(busy["put"]["per_s"], busy["nodes"][1]["put"]["per_s"], "{busy}");
    assert!(busy["put"]["p50_us"].as_u64() <= busy["put"]["p999_us"].as_u64(), "{busy}");
    assert!(busy["nodes"][2]["disk_free_bytes"].as_u64().is_some_and(|free| free > 0), "{busy}");

    cluster.order(&["kill", "2"]);
    let degraded = loop {
        let look = next();
        if look["nodes"][2]["state"] == "down" {
            break look;
        }
    };
    assert_eq!(degraded["verdict"]["level"], "degraded", "{degraded}");
    assert!(
        degraded["nodes"][2]["silent_ms"].is_u64() && degraded["nodes"][2]["put"].is_null(),
        "{degraded}"
    );
    assert!(degraded["nodes"][0]["silent_ms"].is_null(), "{degraded}");

    cluster.order(&["start", "2"]);
    while !next()["nodes"][2]["silent_ms"].is_null() {}
    cluster.order(&["kill", "0"]);
    let elsewhere = loop {
        let look = next();
        // A look that the kill breaks may have no answer; the next one has.
        if look["error"].is_null() && look["asked"] != "node-0" {
            break look;
        }
    };
    assert_eq!(elsewhere["nodes"].as_array().map(Vec::len), Some(3), "{elsewhere}");

    rustix::process::kill_process(rustix::process::Pid::from_child(&watch), rustix::process::Signal::INT)
        .unwrap();
    assert!(watch.wait().unwrap().success(), "Ctrl-C is how it ends");
}

#[test]
fn it_ends_after_so_many_looks_and_says_in_a_sentence_if_nobody_is_there() {
    let cluster = Local::start(1);
    let looks = cluster.ok(0, &["top", "--count", "2"], b"");
    let looks: Vec<Json> = looks.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 2, "without a terminal each look is a line of JSON");
    assert_eq!(looks[1]["get"]["per_s"], 0.0, "{}", looks[1]);

    cluster.order(&["kill", "0"]);
    let nobody = cluster.run(0, &["top", "--count", "1"], b"");
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0), "{}", told(&nobody));
}

#[test]
fn a_terminal_is_given_back_as_it_was() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a terminal with");
        return;
    }
    let cluster = Local::start(1);
    let top = format!("{} top --count 2", env!("CARGO_BIN_EXE_gramme"));
    let mut script = Command::new("script")
        .args(["-qec", &top, "/dev/null"])
        .env("GRAMME_NODE", cluster.url(0))
        .env_remove("NO_COLOR")
        .env_remove("GRAMME_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    script.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(script.wait().unwrap().success(), "{seen:?}");
    let (before, rest) =
        seen.split_once("\x1b[?1049h").unwrap_or_else(|| panic!("no screen of its own: {seen:?}"));
    let (during, after) =
        rest.split_once("\x1b[?1049l").unwrap_or_else(|| panic!("it was not left: {seen:?}"));
    assert!(!before.contains("node-0") && during.contains("\x1b[32mHEALTHY"), "{seen:?}");
    assert!(
        after.contains("node-0") && !after.contains('\x1b'),
        "the last screen stays, as plain text: {after:?}"
    );
}
