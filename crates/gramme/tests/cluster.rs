//! A cluster of real processes, used as its users would: through the command line, with nodes killed under it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod local;

use local::{Local, gramme, told};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// A TSV file with what real ones have: empty fields, quotes that mean nothing, words of other alphabets.
fn packages(cluster: &Local, rows: usize) -> (PathBuf, String) {
    let mut text = "name\tversion\tsummary\n".to_string();
    for row in 0..rows {
        let summary =
            ["", "\"SLY - Sly Lex Yacc\"", "h1 align=\"center\">", "ein Wörterbuch ☃", "plain"][row % 5];
        text.push_str(&format!("package-{row}\t{}.{row}\t{summary}\n", row % 7));
    }
    let path = cluster.place.path().join("packages.tsv");
    std::fs::write(&path, &text).unwrap();
    (path, text)
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

#[test]
fn a_cluster_keeps_what_it_was_given_through_kills_and_a_restart() {
    let cluster = Local::start(3);
    cluster.ok(0, &["put", "carts", "u42"], b"pen\0\xff");
    assert_eq!(cluster.run(2, &["get", "carts", "u42"], b"").stdout, b"pen\0\xff");
    assert_eq!(cluster.run(1, &["get", "carts", "nobody"], b"").status.code(), Some(4));

    let (file, text) = packages(&cluster, 300);
    let import = ["import", file.to_str().unwrap(), "--bucket", "packages", "--key", "name", "--json"];
    cluster.order(&["kill", "1"]);
    for _ in 0..2 {
        let count: serde_json::Value = serde_json::from_str(&cluster.ok(0, &import, b"")).unwrap();
        assert_eq!(
            (&count["rows"], &count["stored"], &count["failed"]),
            (&300.into(), &300.into(), &0.into())
        );
    }
    let export = ["export", "packages", "--format", "tsv"];
    assert_eq!(
        lines(&cluster.ok(2, &export, b"")),
        lines(&text),
        "importing twice leaves one version of each row"
    );

    cluster.order(&["start", "1"]);
    let cluster = cluster.restart();
    assert_eq!(lines(&cluster.ok(1, &export, b"")), lines(&text));
    assert_eq!(cluster.run(1, &["get", "carts", "u42"], b"").stdout, b"pen\0\xff");
}

#[test]
fn concurrent_writers_leave_siblings_and_a_context_resolves_exactly_what_was_seen() {
    let cluster = Local::start(3);
    cluster.ok(0, &["put", "carts", "u42", "pen"], b"");
    let stale = cluster.ok(1, &["get", "carts", "u42", "--context"], b"");
    cluster.ok(1, &["put", "carts", "u42", "ink"], b"");
    let conflict = cluster.run(2, &["get", "carts", "u42"], b"");
    assert_eq!(conflict.status.code(), Some(3), "{}", told(&conflict));
    assert!(conflict.stdout.is_empty());
    let words = String::from_utf8(conflict.stderr).unwrap();
    assert!(words.contains("\"pen\"") && words.contains("\"ink\"") && words.contains("--context"), "{words}");

    let seen = cluster.ok(2, &["get", "carts", "u42", "--context"], b"");
    cluster.ok(0, &["put", "carts", "u42", "pen, ink", "--context", seen.trim()], b"");
    assert_eq!(cluster.ok(1, &["get", "carts", "u42"], b""), "pen, ink");
    cluster.ok(0, &["put", "carts", "u42", "late", "--context", stale.trim()], b"");
    let both: serde_json::Value =
        serde_json::from_str(&cluster.ok(1, &["get", "carts", "u42", "--json"], b"")).unwrap();
    let texts: BTreeSet<&str> = both["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sibling| sibling["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, BTreeSet::from(["pen, ink", "late"]), "a stale context drops only what it saw");

    cluster.ok(2, &["put", "carts", "u42", "one", "--replace"], b"");
    assert_eq!(cluster.ok(0, &["get", "carts", "u42"], b""), "one");
    cluster.ok(0, &["del", "carts", "u42"], b"");
    assert_eq!(cluster.run(1, &["get", "carts", "u42"], b"").status.code(), Some(4));
}

#[test]
fn not_one_row_fails_when_the_node_that_an_import_talks_to_is_killed_in_its_middle() {
    let cluster = Local::start(3);
    let (file, text) = packages(&cluster, 1500);
    let import = ["import", file.to_str().unwrap(), "--bucket", "packages", "--key", "name", "--json"];
    let mut running = cluster.begin(0, &import);
    // The first row can be seen through another node: the import is under way.
    while cluster.ok(2, &["ls", "packages", "--limit", "1"], b"").is_empty() {
        assert!(running.try_wait().unwrap().is_none(), "the import ended before a row was seen");
    }
    cluster.order(&["kill", "0"]);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let count: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&count["stored"], &count["failed"]), (&1500.into(), &0.into()));
    let export = cluster.ok(1, &["export", "packages", "--format", "tsv"], b"");
    assert_eq!(lines(&export), lines(&text), "every acknowledged row is readable through the other two");
}

#[test]
fn nodes_do_not_outlive_a_parent_that_is_killed() {
    let cluster = Local::start(2);
    let streams: Vec<TcpStream> =
        (0..2).map(|node| TcpStream::connect(cluster.address(node)).unwrap()).collect();
    cluster.signal(Signal::KILL);
    for mut stream in streams {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the node lives on: {other:?}"),
        }
    }
}

#[test]
fn a_node_that_dies_is_reported_and_orders_that_make_no_sense_are_refused() {
    let mut cluster = Local::start(2);
    let dir = cluster.place.path().join("dev");
    let give = |order: &[&str]| gramme(&["dev"]).args(order).arg("--dir").arg(&dir).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&give(&["status", "--json"]).stdout).unwrap();
    let pid = status["nodes"][1]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let event = cluster.event();
    assert_eq!((&event["event"], &event["node"]), (&"died".into(), &1.into()));

    for (order, refusal) in [
        (&["kill", "1"][..], "node 1 is not running"),
        (&["pause", "1"], "node 1 is not running"),
        (&["resume", "0"], "node 0 is not paused"),
        (&["start", "0"], "node 0 is running already"),
        (&["kill", "7"], "there is no node 7: this cluster has 0 to 1"),
    ] {
        let output = give(order);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("gramme: {refusal}\n"));
    }
    let second = gramme(&["dev", "--dir"]).arg(&dir).output().unwrap();
    let words = String::from_utf8(second.stderr).unwrap();
    assert!(words.contains("is running on") && words.lines().count() == 1, "{words}");

    let elsewhere = cluster.place.path().join("other");
    let port = cluster.port.to_string();
    let taken = gramme(&["dev", "--port", &port, "--dir"]).arg(&elsewhere).output().unwrap();
    let words = String::from_utf8(taken.stderr).unwrap();
    assert!(words.contains("is in use") && words.lines().count() == 1, "{words}");
    assert!(!elsewhere.exists(), "nothing is made before the ports are known to be free");
}

#[test]
fn a_paused_node_is_waited_for_by_nobody() {
    let cluster = Local::start(3);
    cluster.ok(0, &["put", "carts", "u42", "pen"], b"");
    cluster.order(&["pause", "0"]);
    let nodes = [1, 0].map(|node| cluster.url(node)).join(",");
    let output = gramme(&["put", "carts", "u43", "ink"]).env("GRAMME_NODE", &nodes).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(cluster.ok(2, &["get", "carts", "u42"], b""), "pen");
    cluster.order(&["resume", "0"]);
    assert_eq!(cluster.ok(0, &["get", "carts", "u43"], b""), "ink");
}

#[test]
fn copies_are_compared_and_reread_when_somebody_asks() {
    let cluster = Local::start(3);
    for key in 0..30 {
        cluster.ok(key % 3, &["put", "carts", &format!("u{key}"), "pen"], b"");
    }
    let compared: serde_json::Value =
        serde_json::from_str(&cluster.ok(0, &["repair", "now", "--json"], b"")).unwrap();
    let nodes = compared["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{compared}");
    for node in nodes {
        for partition in node["partitions"].as_array().unwrap() {
            assert!(partition["keys"].is_u64(), "its hash tree is built: {partition}");
            for peer in partition["peers"].as_array().unwrap() {
                assert!(peer["verified_ms"].as_u64() <= node["asked_ms"].as_u64(), "{partition}");
                assert!(peer["differs_ms"].is_null(), "{partition}");
            }
        }
    }
    assert!(cluster.ok(1, &["repair", "status"], b"").contains("OLDEST AUDIT"));
    for verify in [["repair", "verify", "carts", "--json"], ["repair", "verify", "--all", "--json"]] {
        let read: serde_json::Value = serde_json::from_str(&cluster.ok(2, &verify, b"")).unwrap();
        for node in read["nodes"].as_array().unwrap() {
            let verify = &node["verify"];
            assert_eq!(
                (&verify["keys"], &verify["corrupt"], &verify["mismatches"], &verify["failed"]),
                (&30.into(), &0.into(), &0.into(), &0.into()),
                "{verify}"
            );
        }
    }
    let refused = cluster.run(0, &["repair", "verify", "no/bucket"], b"");
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
}

#[test]
fn a_doctor_names_the_node_that_is_down_and_leaves_nothing_behind() {
    let cluster = Local::start(3);
    let data = cluster.place.path().join("dev/node-0");
    let files = || std::fs::read_dir(&data).unwrap().count();
    let before = files();
    let examine = || -> (Option<i32>, serde_json::Value) {
        let output = cluster.run(0, &["doctor", "--json", "--data", data.to_str().unwrap()], b"");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    };
    let verdict_of = |told: &serde_json::Value, check: &str| {
        let found = told["checks"].as_array().unwrap().iter().find(|found| found["check"] == check);
        found.map(|found| (found["verdict"].as_str().unwrap().to_string(), found["says"].to_string()))
    };
    // What depends on the machine (its room, its disk, its limits) is said, whatever it is.
    let (_, told) = examine();
    for (check, verdict) in [("nodes", "ok"), ("links", "ok"), ("doors", "ok"), ("layout", "warn")] {
        assert_eq!(verdict_of(&told, check).unwrap().0, verdict, "{told}");
    }
    for check in ["clocks", "syncs", "space", "files", "sync here", "space here", "files here"] {
        assert!(verdict_of(&told, check).is_some(), "no {check} in {told}");
    }
    assert_eq!(told["clocks"].as_array().unwrap().len(), 3, "{told}");

    cluster.order(&["kill", "1"]);
    let (code, told) = loop {
        let (code, told) = examine();
        if verdict_of(&told, "nodes").unwrap().0 == "bad" {
            break (code, told);
        }
    };
    assert_eq!((code, &told["verdict"]), (Some(1), &"bad".into()));
    assert!(verdict_of(&told, "nodes").unwrap().1.contains("node-1: it is down"), "{told}");
    assert_eq!(files(), before);
}
