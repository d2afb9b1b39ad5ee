//! Backups of a living cluster of real processes, and their way back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod local;

use local::{Local, told};
use serde_json::Value as Json;
use std::path::Path;

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The files of a backup's partitions.
fn files(dir: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rows"));
    files
}

#[test]
fn a_restore_brings_back_what_was_lost_and_nothing_that_was_deleted_or_overwritten() {
    let cluster = Local::start(3);
    let dir = cluster.place.path().join("backups");
    let dir = dir.to_str().unwrap();
    cluster.ok(0, &["bucket", "set", "carts", "siblings_max=7"], b"");
    for key in ["kept", "changed", "deleted"] {
        cluster.ok(0, &["put", "carts", key, "old"], b"");
    }
    cluster.ok(0, &["put", "carts", "torn", "one"], b"");
    cluster.ok(1, &["put", "carts", "torn", "two"], b"");
    let made = json(&cluster.ok(1, &["backup", "create", dir, "--json"], b""));
    assert_eq!(made["records"], 4, "{made}");

    let seen = cluster.ok(0, &["get", "carts", "changed", "--context"], b"");
    cluster.ok(0, &["put", "carts", "changed", "new", "--context", seen.trim()], b"");
    let seen = cluster.ok(0, &["get", "carts", "deleted", "--context"], b"");
    cluster.ok(2, &["del", "carts", "deleted", "--context", seen.trim()], b"");
    for _ in 0..2 {
        let given = json(&cluster.ok(2, &["restore", dir, "--json"], b""));
        assert_eq!((&given["stored"], &given["failed"]), (&4.into(), &0.into()), "{given}");
    }
    assert_eq!(cluster.ok(1, &["get", "carts", "kept"], b""), "old");
    assert_eq!(cluster.ok(1, &["get", "carts", "changed"], b""), "new");
    assert_eq!(cluster.run(1, &["get", "carts", "deleted"], b"").status.code(), Some(4));
    assert_eq!(cluster.run(1, &["get", "carts", "torn"], b"").status.code(), Some(3), "both siblings, once");
}

#[test]
fn a_second_backup_reads_only_what_was_written_since() {
    let cluster = Local::start(3);
    let dir = cluster.place.path().join("backups");
    let place = dir.to_str().unwrap();
    for key in 0..40 {
        cluster.ok(0, &["put", "carts", &format!("key-{key}"), "w=all", "--consistency", "w=all"], b"");
    }
    let first = json(&cluster.ok(0, &["backup", "create", place, "--json"], b""));
    cluster.ok(0, &["put", "carts", "one-more", "value", "--consistency", "w=all"], b"");
    let second = json(&cluster.ok(0, &["backup", "create", place, "--json"], b""));
    assert_ne!(first["backup"], second["backup"]);
    assert_eq!(second["records"], 41);
    let own = files(&dir, second["backup"].as_str().unwrap()).len();
    assert!((1..=3).contains(&own), "{own} partition files were written for one new key");
    let listed = json(&cluster.ok(0, &["backup", "list", place, "--json"], b""));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let sound = json(&cluster.ok(0, &["backup", "verify", place, "--json"], b""));
    assert_eq!(sound["records"], 41);
}

#[test]
fn a_damaged_backup_is_named_to_the_byte_and_not_restored() {
    let cluster = Local::start(3);
    let dir = cluster.place.path().join("backups");
    let place = dir.to_str().unwrap();
    cluster.ok(0, &["put", "carts", "u42", "pen"], b"");
    let made = json(&cluster.ok(0, &["backup", "create", place, "--json"], b""));
    let file = files(&dir, made["backup"].as_str().unwrap()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for command in [&["backup", "verify", place][..], &["restore", place]] {
        let refused = cluster.run(0, command, b"");
        assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
        let said = told(&refused);
        assert!(said.contains(file.to_str().unwrap()) && said.contains("byte 37"), "{said}");
    }
}

#[test]
fn another_cluster_takes_a_backups_values_only_anew() {
    let from = Local::start(3);
    let place = from.place.path().join("backups");
    let place = place.to_str().unwrap();
    from.ok(0, &["put", "carts", "u42", "pen"], b"");
    from.ok(0, &["backup", "create", place], b"");

    let to = Local::start(1);
    let refused = to.run(0, &["restore", place], b"");
    assert_eq!(refused.status.code(), Some(2));
    assert!(told(&refused).contains("--anew"), "{}", told(&refused));
    for _ in 0..2 {
        to.ok(0, &["restore", place, "--anew"], b"");
    }
    assert_eq!(to.ok(0, &["get", "carts", "u42"], b""), "pen");
}
