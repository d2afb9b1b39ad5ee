//! The bare committer: what durable commits cost on this disk with nothing in front of them. This is the
//! yardstick for durable SETs of a whole cluster.
//!
//! ```text
//! cargo run --release -p gramme-storage --example committer -- --dir DIR [--writers 128] [--threads 1]
//!     [--seconds 5 | --ops 100000] [--bytes 1024] [--keys 100000] [--read] [--no-bell]
//! ```
//! Each writer commits one row at a random key, waits until it is durable, and goes on; `--read` lets it
//! read the row first, as a replica that merges does; `--no-bell` wakes every writer by itself. Writers are tasks of one single-threaded runtime
//! per thread, like the shards of a server.

use gramme_storage::fjall::{FjallEngine, FjallOptions};
use gramme_storage::{Batch, Engine};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Clone)]
struct Load {
    dir: String,
    writers: u64,
    threads: u64,
    seconds: u64,
    ops: u64,
    bytes: usize,
    keys: u64,
    read: bool,
    bell: bool,
}

fn main() {
    let load = parse(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("committer: {wrong}; the head of this example's source shows its options");
        std::process::exit(2);
    });
    let opening = Instant::now();
    let engine = FjallEngine::open(FjallOptions::new(&load.dir)).unwrap_or_else(|refusal| {
        eprintln!("committer: {refusal}");
        std::process::exit(1);
    });
    println!("opened in      {:?}, resident {} KiB", opening.elapsed(), resident_kib("VmRSS:"));
    let cpu_before = cpu_seconds();
    let started = Instant::now();
    let threads: Vec<_> = (0..load.threads)
        .map(|thread| {
            let (load, engine) = (load.clone(), engine.clone());
            std::thread::spawn(move || run_thread(thread, &load, &engine))
        })
        .collect();
    let mut latencies: Vec<u64> =
        threads.into_iter().flat_map(|thread| thread.join().expect("a writer thread panicked")).collect();
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu_before;

    latencies.sort_unstable();
    let ops = latencies.len().max(1) as f64;
    let stats = engine.stats();
    let percentile = |part: f64| latencies.get((ops * part) as usize).map_or(0, |nanos| nanos / 1000);
    println!("writers {} on {} threads, rows of {} bytes", load.writers, load.threads, load.bytes);
    println!("ops/s          {:.0}", ops / elapsed);
    println!("group size     {:.1}", stats.batches as f64 / stats.syncs.max(1) as f64);
    println!("sync mean      {} us", stats.sync_nanos / 1000 / stats.syncs.max(1));
    println!(
        "latency p50    {} us, p99 {} us, p99.9 {} us",
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
    println!("CPU per op     {:.1} us ({:.2} cores)", cpu * 1e6 / ops, cpu / elapsed);
    println!("resident       {} KiB, at most {} KiB", resident_kib("VmRSS:"), resident_kib("VmHWM:"));
}

fn run_thread(thread: u64, load: &Load, engine: &FjallEngine) -> Vec<u64> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let tasks = tokio::task::LocalSet::new();
    let (engine, deliveries) = engine.for_shard();
    if load.bell {
        tasks.spawn_local(deliveries);
    }
    let deadline = Instant::now() + Duration::from_secs(load.seconds);
    let left = Rc::new(Cell::new(load.ops / load.threads));
    let writers: Vec<_> = (thread..load.writers)
        .step_by(load.threads as usize)
        .map(|writer| {
            tasks.spawn_local(run_writer(writer, load.clone(), engine.clone(), left.clone(), deadline))
        })
        .collect();
    tasks.block_on(&runtime, async {
        let mut latencies = Vec::new();
        for writer in writers {
            latencies.extend(writer.await.expect("a writer panicked"));
        }
        latencies
    })
}

async fn run_writer(
    writer: u64,
    load: Load,
    engine: FjallEngine,
    left: Rc<Cell<u64>>,
    deadline: Instant,
) -> Vec<u64> {
    let mut random = (writer + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut latencies = Vec::new();
    while left.get() > 0 && Instant::now() < deadline {
        left.set(left.get() - 1);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let number = random % load.keys;
        let key = [&((number % 256) as u16).to_be_bytes()[..], &number.to_be_bytes()].concat();
        let started = Instant::now();
        if load.read {
            engine.get(&key).await.expect("the row reads");
        }
        let mut batch = Batch::new();
        batch.set(key, random.to_le_bytes().repeat(load.bytes / 8));
        engine.commit(batch).await.expect("the row is written");
        latencies.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    latencies
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Load, String> {
    let mut load = Load {
        dir: String::new(),
        writers: 128,
        threads: 1,
        seconds: 5,
        ops: u64::MAX,
        bytes: 1024,
        keys: 100_000,
        read: false,
        bell: true,
    };
    while let Some(name) = args.next() {
        if name == "--read" {
            load.read = true;
            continue;
        }
        if name == "--no-bell" {
            load.bell = false;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number =
            || value.parse::<u64>().ok().filter(|n| *n > 0).ok_or(format!("{name} {value} is no count"));
        match name.as_str() {
            "--dir" => load.dir = value,
            "--writers" => load.writers = number()?,
            "--threads" => load.threads = number()?,
            "--seconds" => load.seconds = number()?,
            "--ops" => (load.ops, load.seconds) = (number()?, 1 << 20),
            "--bytes" => load.bytes = number()? as usize,
            "--keys" => load.keys = number()?,
            _ => return Err(format!("{name} is no option")),
        }
    }
    if load.dir.is_empty() { Err("--dir is missing".to_owned()) } else { Ok(load) }
}

/// Processor seconds of this process so far, user and system, from Linux; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    // Linux counts these in hundredths of a second on every platform it reports to user space.
    ticks.iter().sum::<f64>() / 100.0
}

/// Resident memory of this process, from Linux; 0 elsewhere.
fn resident_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("0");
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}
