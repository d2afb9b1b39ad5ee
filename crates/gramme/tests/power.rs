//! The power fails everywhere at once (correctness.md C3): all processes of a cluster are killed, and their disks are
//! set back to what had been synced. Every acknowledged write must be there when the cluster is back.
//!
//! A shim between the servers and the C library keeps what was synced beside what was written
//! (`faults/power.c` says how, and for which programs that is sound). The machine must have a C compiler; without, the
//! test says so and proves nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod local;

use gramme_client::{Client, Got, Options, Read};
use local::{Local, shim};
use rustix::process::{Pid, Signal, kill_process};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

/// What becomes of what was never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsynced {
    /// Nothing of it is left: no byte, no new name, no removal.
    Gone,
    /// All names are as they were last, and of the bytes this page is there and that one is not.
    SomePages,
}

/// What a cut took.
#[derive(Debug, Default)]
struct Taken {
    /// Files that are shorter, or other, than they were.
    files: usize,
    /// Names that are gone, or back.
    names: usize,
}

#[test]
fn when_the_power_fails_everywhere_no_acknowledged_write_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let Some(library) = shim(place.path(), "power") else { return };
    let shadow = place.path().join("shadow");
    fs::create_dir(&shadow).unwrap();
    let environment = [
        ("LD_PRELOAD".to_string(), library.display().to_string()),
        ("GRAMME_POWER".to_string(), shadow.display().to_string()),
    ];
    let mut cluster = Local::start_with(3, &environment);
    let mut written = BTreeMap::new();
    let mut dice = 0x9e37_79b9_7f4a_7c15;
    let mut taken = Taken::default();
    for (round, unsynced) in
        [Unsynced::Gone, Unsynced::SomePages, Unsynced::Gone, Unsynced::SomePages].into_iter().enumerate()
    {
        written.extend(write_until_the_power_fails(&mut cluster, round));
        cluster = cluster.back_after(&environment, |cluster| {
            set_back(cluster, &shadow, unsynced, &mut dice, &mut taken);
        });
        let missing = missing(&cluster, &written);
        assert!(missing.is_empty(), "round {round}, {unsynced:?}: lost {missing:?}; {taken:?}");
    }
    println!("{} writes, and the cuts took {taken:?}", written.len());
    assert!(taken.files > 0, "nothing was ever unsynced: this proves nothing");

    // The same with disks that say that they have synced and have not: what is written then must be missed, or
    // this test sees nothing.
    fs::write(shadow.join("lie"), "").unwrap();
    let lost = write_until_the_power_fails(&mut cluster, 4);
    cluster = cluster.back_after(&environment, |cluster| {
        set_back(cluster, &shadow, Unsynced::Gone, &mut dice, &mut taken);
    });
    assert!(
        !missing(&cluster, &lost).is_empty(),
        "{} writes were never synced and are all there",
        lost.len()
    );
    let missing = missing(&cluster, &written);
    assert!(missing.is_empty(), "what had been synced before is lost: {missing:?}");
}

/// Writes through all nodes at once, and kills them all in the middle of it. Gives what was acknowledged.
fn write_until_the_power_fails(cluster: &mut Local, round: usize) -> BTreeMap<String, String> {
    let pids: Vec<Pid> = cluster.pids();
    let urls: Vec<String> = (0..pids.len() as u16).map(|node| cluster.url(node)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let written = local.block_on(&runtime, async {
        let acknowledged = Rc::new(RefCell::new(BTreeMap::new()));
        let off = Rc::new(Cell::new(false));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (acknowledged, off, urls) = (acknowledged.clone(), off.clone(), urls.clone());
            writers.push(tokio::task::spawn_local(async move {
                let client = Client::without_asking(&urls, Options { token: None, spread: true }).unwrap();
                for n in 0.. {
                    if off.get() {
                        break;
                    }
                    // Small ones, and now and then one that fills tables.
                    let bytes = if n % 8 == 0 { 20_000 } else { 100 };
                    let key = format!("r{round}-w{writer}-{n}");
                    let value = format!("{key}:{}", "x".repeat(bytes));
                    if client.put("things", key.as_bytes(), value.clone()).await.is_ok() {
                        acknowledged.borrow_mut().insert(key, value);
                    }
                }
            }));
        }
        while acknowledged.borrow().len() < WRITES {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        for pid in &pids {
            kill_process(*pid, Signal::KILL).unwrap();
        }
        off.set(true);
        for writer in writers {
            writer.await.unwrap();
        }
        acknowledged.take()
    });
    for _ in &pids {
        assert_eq!(cluster.event()["event"], "died");
    }
    written
}

/// Which of these are not there.
fn missing(cluster: &Local, written: &BTreeMap<String, String>) -> Vec<String> {
    let urls: Vec<String> = (0..3).map(|node| cluster.url(node)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::without_asking(&urls, Options::default()).unwrap();
        let read = Read { consistency: Some("r=all; timeout=10s".to_string()), ..Read::default() };
        let mut missing = Vec::new();
        for (key, value) in written {
            // Nodes that have just come back may not have found each other yet.
            let mut tries = 0;
            let got = loop {
                match client.get_with("things", key.as_bytes(), &read).await {
                    Ok((got, _)) => break got,
                    Err(error) => assert!(tries < TRIES, "{key} cannot be read: {error:?}"),
                }
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            };
            match got {
                Got::One(found) => assert!(found.bytes == value.as_bytes(), "{key} has a wrong value"),
                Got::Missing => missing.push(key.clone()),
                other => panic!("{key} reads as {other:?}"),
            }
        }
        missing
    })
}

/// Builds every data directory anew from what is durable of it, and the shadow from the outcome.
fn set_back(cluster: &Local, shadow: &Path, unsynced: Unsynced, dice: &mut u64, taken: &mut Taken) {
    let nodes: Vec<_> = (0..3).map(|node| cluster.place.path().join(format!("dev/node-{node}"))).collect();
    for node in &nodes {
        let (data, fresh) = (node.join("data"), node.join("after-the-cut"));
        match unsynced {
            Unsynced::Gone => durable(&key_of(&data), &data, shadow, &fresh, taken),
            Unsynced::SomePages => mixed(&data, shadow, &fresh, dice, taken),
        }
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&fresh, &data).unwrap();
    }
    fs::remove_dir_all(shadow).unwrap();
    fs::create_dir(shadow).unwrap();
    for node in &nodes {
        all_is_durable(&node.join("data"), shadow);
    }
}

/// What was synced, and nothing else. `live` is where the directory was last, if it still has that name.
fn durable(key: &str, live: &Path, shadow: &Path, to: &Path, taken: &mut Taken) {
    fs::create_dir(to).unwrap();
    let list = fs::read_to_string(shadow.join(format!("{key}.dir"))).unwrap_or_default();
    let mut names = Vec::new();
    for line in list.lines() {
        let mut words = line.splitn(3, ' ');
        let (kind, of, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        names.push(name.to_string());
        if kind == "d" {
            durable(of, &live.join(name), shadow, &to.join(name), taken);
            continue;
        }
        let kept = shadow.join(of);
        let bytes = fs::read(&kept).unwrap_or_default();
        taken.files += usize::from(fs::read(live.join(name)).is_ok_and(|now| now != bytes));
        fs::write(to.join(name), bytes).unwrap();
    }
    let mut now: Vec<String> = match fs::read_dir(live) {
        Ok(entries) => entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
        Err(_) => Vec::new(),
    };
    now.sort();
    names.sort();
    taken.names += usize::from(now != names);
}

/// Everything by its last name, with some of the pages that were never synced.
fn mixed(live: &Path, shadow: &Path, to: &Path, dice: &mut u64, taken: &mut Taken) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(live).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            mixed(&path, shadow, &target, dice, taken);
            continue;
        }
        let now = fs::read(&path).unwrap();
        let kept = fs::read(shadow.join(key_of(&path))).unwrap_or_default();
        let mut left = if roll(dice) { now.clone() } else { kept.clone() };
        for (page, bytes) in left.chunks_mut(PAGE).enumerate() {
            let from = if roll(dice) { &now } else { &kept };
            // A page of a file that grew, and which was never written, is zeros.
            bytes.fill(0);
            if let Some(there) = from.get(page * PAGE..) {
                let length = there.len().min(bytes.len());
                bytes[..length].copy_from_slice(&there[..length]);
            }
        }
        taken.files += usize::from(left != now);
        let file = fs::File::create(&target).unwrap();
        file.write_all_at(&left, 0).unwrap();
    }
}

fn roll(dice: &mut u64) -> bool {
    *dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *dice >> 40 & 1 == 0
}

/// What is there now is all durable: a link says that a file is as it is there.
fn all_is_durable(directory: &Path, shadow: &Path) {
    let mut list = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = if path.is_dir() { 'd' } else { 'f' };
        let key = key_of(&path);
        list.push_str(&format!("{kind} {key} {}\n", path.file_name().unwrap().to_str().unwrap()));
        if path.is_dir() {
            all_is_durable(&path, shadow);
        } else {
            fs::hard_link(&path, shadow.join(key)).unwrap();
        }
    }
    fs::write(shadow.join(format!("{}.dir", key_of(directory))), list).unwrap();
}

/// The name of a file or directory in the shadow.
fn key_of(path: &Path) -> String {
    let about = fs::symlink_metadata(path).unwrap();
    let born = about.created().map_or(std::time::Duration::ZERO, |at| at.duration_since(UNIX_EPOCH).unwrap());
    format!("{}-{}-{}", about.ino(), born.as_secs(), born.subsec_nanos())
}

const WRITERS: usize = 8;
/// So often a key is asked for, a tenth of a second apart: it is a minute before a cluster that does not come back fails.
const TRIES: usize = 600;
/// Acknowledged before the power fails.
const WRITES: usize = 400;
const PAGE: usize = 4096;
