//! A process that writes is killed at random moments, again and again on one store. Each time every batch
//! it was told is durable must be there, whole, and what else is there must be whole and a prefix of the
//! order in which the batches were committed.
//!
//! The writer is this test program itself, started with the store's directory in its environment; it says
//! on its standard output which batches are durable.

#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion

use bytes::Bytes;
use gramme_storage::fjall::{FjallEngine, FjallOptions};
use gramme_storage::{Batch, Engine, Scan};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const DIRECTORY: &str = "GRAMME_SIGKILL_DIRECTORY";
const ROUNDS: u64 = 10;
/// Batches under way at once in the child.
const WINDOW: usize = 24;
/// Rows of each batch; they lie in different partitions.
const ROWS: u16 = 3;

#[test]
fn the_child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let engine = open(Path::new(&directory));
    let mut next = block_on(count_of_whole_batches(&engine));
    let mut out = std::io::stdout();
    block_on(async {
        let mut waiting = VecDeque::new();
        loop {
            while waiting.len() < WINDOW {
                waiting.push_back((next, Box::pin(engine.commit(numbered(next)))));
                next += 1;
            }
            let Some((number, done)) = waiting.pop_front() else { return };
            done.await.unwrap();
            // The parent that has closed the pipe is about to kill us.
            if writeln!(out, "durable {number}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
}

#[test]
fn killed_at_random_moments_a_store_keeps_every_synced_batch_and_a_prefix_of_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let mut random = 0x5eed_0000_cafe_f00d_u64;
    let mut durable = 0;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let acks = random % 400;
        durable = durable.max(write_and_kill(place.path(), acks));

        let engine = open(place.path());
        assert!(!engine.journal_check().was_clean);
        let whole = block_on(count_of_whole_batches(&engine));
        assert!(whole >= durable, "round {round}: {durable} batches were durable, {whole} are left");
        engine.close();
        // The child must not take this close for a clean end of its own.
        durable = whole;
    }
    assert!(durable > ROUNDS, "the children wrote hardly anything: {durable}");
}

/// Starts the child, kills it after so many acknowledgements, and returns how many batches it had
/// acknowledged, counted from the first of the store.
fn write_and_kill(directory: &Path, acks: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_that_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut durable = 0;
    let mut seen = 0;
    let mut is_killed = false;
    // Lines still in the pipe after the kill count: the child had been told before it wrote them.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(number) = line.strip_prefix("durable ").and_then(|text| text.parse::<u64>().ok()) {
            durable = number + 1;
            seen += 1;
        }
        if seen > acks && !is_killed {
            child.kill().unwrap();
            is_killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(is_killed && !status.success(), "the child ended by itself: {status}");
    durable
}

/// Checks that the batches in the store are whole and numbered without a gap from 0; returns how many.
async fn count_of_whole_batches(engine: &FjallEngine) -> u64 {
    let mut counts = Vec::new();
    for partition in 0..ROWS {
        let mut expected = 0u64;
        let mut after = None;
        loop {
            let prefix = Bytes::copy_from_slice(&partition.to_be_bytes());
            let scan = Scan { prefix, after: after.take(), rows_max: 1000, bytes_max: usize::MAX };
            let page = engine.scan(scan).await.unwrap();
            for (key, value) in &page.rows {
                assert_eq!(key[2..], expected.to_be_bytes(), "batch {expected} is missing");
                assert!(*value == value_of(expected), "batch {expected} is not whole");
                expected += 1;
            }
            after = page.rows.last().map(|(key, _)| key.clone());
            if !page.more {
                break;
            }
        }
        counts.push(expected);
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "a batch is there in part: {counts:?}");
    counts[0]
}

fn numbered(number: u64) -> Batch {
    let mut batch = Batch::new();
    for partition in 0..ROWS {
        let key = [&partition.to_be_bytes()[..], &number.to_be_bytes()].concat();
        batch.set(key, value_of(number));
    }
    batch
}

/// Sizes from nothing to some pages, so that groups end anywhere in the journal's buffer.
fn value_of(number: u64) -> Bytes {
    let size = (number.wrapping_mul(2_654_435_761) >> 7) % 6000;
    Bytes::from(vec![(number % 255) as u8 + 1; size as usize])
}

fn open(path: &Path) -> FjallEngine {
    let options = FjallOptions { memtable_bytes: 256 << 10, reserve_bytes: 0, ..FjallOptions::new(path) };
    FjallEngine::open(options).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
