//! Real processes on disks that fail: an fsync that ends in EIO, a file system without room, bytes that rot
//! (correctness.md C4 to C6). The machine must have a C compiler for the first and allow mounts for the second;
//! without, the test says so and proves nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod local;

use gramme_client::{Client, Error, Got, Options, Read, Write};
use gramme_core::Outcome;
use local::{FROZEN, FROZEN_TIMES_MAX, Local, PATIENCE, gramme, shim, told};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn node_dir(cluster: &Local, node: u16) -> PathBuf {
    cluster.place.path().join(format!("dev/node-{node}"))
}

fn value(n: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * (n + 7)) >> 3) as u8).collect()
}

/// Writes keys through these nodes, with time for a machine that is slow; gives those that were acknowledged.
async fn write(
    client: &Client,
    keys: std::ops::Range<usize>,
    bytes: usize,
) -> BTreeMap<usize, Result<(), Error>> {
    let mut answers = BTreeMap::new();
    for n in keys {
        let ask = Write { consistency: Some(PATIENCE.to_string()), ..Write::default() };
        let key = format!("key-{n}");
        let mut written = client.put_with("things", key.as_bytes(), value(n, bytes), &ask).await;
        for _ in 0..FROZEN_TIMES_MAX {
            let frozen = |e: &Error| e.outcome() == Outcome::NotApplied && e.to_string().contains(FROZEN);
            if !written.as_ref().is_err_and(frozen) {
                break;
            }
            written = client.put_with("things", key.as_bytes(), value(n, bytes), &ask).await;
        }
        answers.insert(n, written.map(drop));
    }
    answers
}

/// Reads keys and holds them to what was written; gives how many could not be read.
async fn check(client: &Client, keys: impl Iterator<Item = usize>, bytes: usize) -> usize {
    let mut unread = 0;
    let read = Read { consistency: Some(PATIENCE.to_string()), ..Read::default() };
    for n in keys {
        match client.get_with("things", format!("key-{n}").as_bytes(), &read).await {
            Ok((Got::One(found), _)) => assert!(found.bytes == value(n, bytes), "key-{n} has a wrong value"),
            Ok((other, _)) => panic!("key-{n} was acknowledged and reads as {other:?}"),
            Err(_) => unread += 1,
        }
    }
    unread
}

fn client(cluster: &Local, nodes: &[u16]) -> Client {
    let urls: Vec<String> = nodes.iter().map(|&node| cluster.url(node)).collect();
    Client::without_asking(&urls, Options::default()).unwrap()
}

fn store_of(cluster: &Local, node: u16) -> Json {
    let status = block_on(client(cluster, &[node]).status()).unwrap();
    status["store"].clone()
}

#[test]
fn an_fsync_that_fails_ends_the_process_loudly_and_costs_no_acknowledged_write() {
    let place = tempfile::tempdir().unwrap();
    let Some(library) = shim(place.path(), "failing_disk") else { return };
    let order = place.path().join("order");
    let environment = [
        ("LD_PRELOAD".to_string(), library.display().to_string()),
        ("GRAMME_FAULTS".to_string(), order.display().to_string()),
    ];
    let mut cluster = Local::start_with(3, &environment);
    for (round, word) in ["sync", "write"].into_iter().enumerate() {
        let first = 100 * round;
        let writer = client(&cluster, &[0, 1, 2]);
        let before = block_on(write(&writer, first..first + 20, 100));
        assert!(before.values().all(Result::is_ok), "{before:?}");
        fs::write(place.path().join("new"), format!("{word} node-1/data\n")).unwrap();
        fs::rename(place.path().join("new"), &order).unwrap();

        // Everyone's disk is in use; node 1's fails with the first batch.
        let during = block_on(write(&writer, first + 20..first + 60, 100));
        let died = cluster.event();
        assert_eq!((&died["event"], &died["node"]), (&"died".into(), &1.into()), "{died}");
        assert!(died["status"].as_str().unwrap().contains("exit status: 5"), "{died}");
        let words = died["log"].to_string();
        assert!(words.contains("a write to the store in") && words.contains("Start it again"), "{words}");
        assert!(
            during.values().filter(|answer| answer.is_ok()).count() > 20,
            "a client that tries a second node hardly notices: {during:?}"
        );

        fs::remove_file(&order).unwrap();
        cluster.order(&["start", "1"]);
        let acknowledged = during.iter().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| *n);
        let unread = block_on(check(&client(&cluster, &[1]), acknowledged, 100));
        assert_eq!(unread, 0);
        assert!(store_of(&cluster, 1)["broken"].is_null());
    }
}

#[test]
fn a_full_disk_hands_its_writes_to_others_and_recovers_by_itself() {
    let environment = [("GRAMME_STORAGE__RESERVE_MB".to_string(), "48".to_string())];
    let cluster = Local::start_with(4, &environment);
    let data = node_dir(&cluster, 1).join("data");
    cluster.order(&["kill", "1"]);
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    let Some(mount) = Mount::tmpfs(&data, 80) else { return };
    cluster.order(&["start", "1"]);

    let writer = client(&cluster, &[0, 1, 2, 3]);
    let mut keys = 0;
    while store_of(&cluster, 1)["full"] == false {
        let answers = block_on(write(&writer, keys..keys + 10, 100 << 10));
        assert!(answers.values().all(Result::is_ok), "{answers:?}");
        keys += 10;
        assert!(keys < 3000, "its disk does not fill");
    }
    let answers = block_on(write(&client(&cluster, &[1]), keys..keys + 10, 1000));
    assert!(
        answers.values().all(Result::is_ok),
        "asked for themselves full nodes hand writes on: {answers:?}"
    );
    let unread = block_on(check(&client(&cluster, &[1]), 0..keys, 100 << 10));
    assert_eq!(unread, 0, "reads go on");
    let said = cluster.ok(0, &["status"], b"");
    assert!(said.contains("its disk has no room"), "{said}");

    mount.grow(400);
    let mut looks = 0;
    while store_of(&cluster, 1)["full"] == true {
        std::thread::sleep(std::time::Duration::from_millis(100));
        looks += 1;
        assert!(looks < LOOKS_MAX, "there is room, and it goes on refusing");
    }
    cluster.order(&["kill", "1"]);
    cluster.order(&["start", "1"]);
    let unread = block_on(check(&client(&cluster, &[1]), 0..keys, 100 << 10));
    assert_eq!(unread, 0, "the store is whole");
    drop(cluster);
}

/// C6, in little: `crates/gramme-storage/tests/rot.rs` does the same to one store alone, with more dice.
#[test]
fn rot_shows_nobody_a_wrong_value_and_is_mended_from_the_others() {
    rot(&[
        ("table", Harm::Flip),
        ("journal", Harm::Cut),
        ("journal", Harm::Zero),
        ("list of tables", Harm::Flip),
        ("FORMAT", Harm::Flip),
    ]);
}

#[test]
#[ignore = "minutes: every harm to every kind of file that a store has"]
fn rot_in_any_kind_of_file_shows_nobody_a_wrong_value() {
    let kinds = ["table", "journal", "list of tables", "current", "FORMAT", "version"];
    let all: Vec<(&str, Harm)> =
        kinds.iter().flat_map(|kind| [Harm::Flip, Harm::Zero, Harm::Cut].map(|harm| (*kind, harm))).collect();
    rot(&all);
}

fn rot(harms: &[(&str, Harm)]) {
    let cluster = Local::start(3);
    // Enough that tables are written.
    let keys = 110;
    let answers = block_on(write(&client(&cluster, &[0]), 0..keys, 100 << 10));
    assert!(answers.values().all(Result::is_ok), "{answers:?}");
    let mut dice = 0x9e37_79b9_7f4a_7c15u64;
    let mut refused = 0;
    for (round, &(kind, harm)) in harms.iter().enumerate() {
        cluster.order(&["kill", "1"]);
        let data = node_dir(&cluster, 1).join("data");
        assert!(hurt(&data, kind, harm, &mut dice) > 0, "no {kind} in {}", data.display());
        if let Some(words) = refusal(&cluster, 1) {
            refused += 1;
            assert!(words.contains("move it away") || words.contains("start the newer"), "{kind}: {words}");
            emptied(&cluster, 1, &format!("damaged-{round}"));
        }
        let unread = block_on(check(&client(&cluster, &[1]), 0..keys, 100 << 10));
        assert_eq!(unread, 0, "{kind}, {harm:?}: the other homes answer");
        // What damage was met is mended from the others.
        wait(&cluster, 1, |status| status["store"]["damaged_rows"] == 0);
        wait(&cluster, 1, |status| status["node"]["standing"] == "continuous");
        // What nobody has met lies there still; the next round's harm is its own.
        if kind == "table" {
            cluster.order(&["kill", "1"]);
            emptied(&cluster, 1, &format!("rotten-{round}"));
            wait(&cluster, 1, |status| status["node"]["standing"] == "continuous");
        }
    }
    assert!(refused > 0, "a garbled list of tables must not be opened");

    // Two of three homes at once: where both have lost a row, it is refused, and not made up.
    for node in [1, 2] {
        cluster.order(&["kill", &node.to_string()]);
        hurt(&node_dir(&cluster, node).join("data"), "table", Harm::Flip, &mut dice);
    }
    for node in [1, 2] {
        if refusal(&cluster, node).is_some() {
            emptied(&cluster, node, "damaged-both");
        }
    }
    block_on(check(&client(&cluster, &[0, 1, 2]), 0..keys, 100 << 10));
    for node in [1, 2] {
        cluster.order(&["kill", &node.to_string()]);
        emptied(&cluster, node, "rotten-both");
    }
    for node in [1, 2] {
        wait(&cluster, node, |status| status["node"]["standing"] == "continuous");
    }
    let unread = block_on(check(&client(&cluster, &[1, 2]), 0..keys, 100 << 10));
    assert_eq!(unread, 0, "what the third home had is everywhere again");
}

/// Starts a node that is down; what it said if it refused.
fn refusal(cluster: &Local, node: u16) -> Option<String> {
    let started = gramme(&["dev", "start", &node.to_string(), "--dir"])
        .arg(cluster.place.path().join("dev"))
        .output()
        .unwrap();
    (!started.status.success()).then(|| told(&started))
}

/// Puts a node's rows aside and starts it without any.
fn emptied(cluster: &Local, node: u16, aside: &str) {
    let dir = node_dir(cluster, node);
    fs::rename(dir.join("data"), dir.join(aside)).unwrap();
    cluster.order(&["start", &node.to_string()]);
}

/// Waits until a node says so of itself.
fn wait(cluster: &Local, node: u16, so: impl Fn(&Json) -> bool) {
    let mut looks = 0;
    loop {
        let status = block_on(client(cluster, &[node]).status()).unwrap_or_default();
        if so(&status) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        looks += 1;
        assert!(looks < LOOKS_MAX, "node {node} never came there: {status:#}");
    }
}

/// A tenth of a second each: far more than any of this takes.
const LOOKS_MAX: usize = 3000;

#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Zero,
    Cut,
}

/// Hurts all files of a kind; how many.
fn hurt(directory: &Path, kind: &str, harm: Harm, dice: &mut u64) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += hurt(&path, kind, harm, dice);
        } else if kind_of(&path) == kind {
            let mut bytes = fs::read(&path).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let mut place = || {
                *dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                ((*dice >> 20) as usize % end.max(1), *dice >> 60 & 7)
            };
            match harm {
                Harm::Cut => bytes.truncate(place().0),
                Harm::Flip => (0..8.min(end)).for_each(|_| {
                    let (at, bit) = place();
                    bytes[at] ^= 1 << bit;
                }),
                Harm::Zero => (0..8.min(end)).for_each(|_| {
                    let at = place().0;
                    bytes[at..(at + 512).min(end)].fill(0);
                }),
            }
            fs::write(&path, bytes).unwrap();
            count += usize::from(end > 0);
        }
    }
    count
}

/// What a file of a store is.
fn kind_of(path: &Path) -> &str {
    let name = path.file_name().unwrap().to_str().unwrap();
    let numbered = name.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    match name {
        _ if path.parent().is_some_and(|parent| parent.ends_with("tables")) => "table",
        _ if name.ends_with(".jnl") => "journal",
        _ if numbered => "list of tables",
        other => other,
    }
}

/// A small file system, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None`, and a word why, where mounting is not allowed.
    fn tmpfs(at: &Path, mib: u32) -> Option<Mount> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={mib}m")).arg("gramme").arg(at);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Mount(at.to_owned())),
            other => {
                println!("skipped: a small file system cannot be mounted: {other:?}");
                None
            }
        }
    }

    fn grow(&self, mib: u32) {
        let size = format!("remount,size={mib}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: its node may not have ended yet.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
