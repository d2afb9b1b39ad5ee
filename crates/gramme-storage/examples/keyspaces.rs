//! How many fjall keyspaces can a node afford? Measures what `docs/storage.md` reports: time to create,
//! time to open and resident memory, after light writes to every partition.
//!
//! ```text
//! cargo run --release -p gramme-storage --example keyspaces -- write DIR 16
//! cargo run --release -p gramme-storage --example keyspaces -- open DIR 16
//! cargo run --release -p gramme-storage --example keyspaces -- drop DIR 16
//! ```

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(mode), Some(dir), Some(count)) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: keyspaces write|open|drop DIR COUNT [MEMTABLE_MIB] [ROWS_PER_PARTITION]");
        std::process::exit(2);
    };
    let count: u16 = count.parse().expect("COUNT is a number from 1 to 256");
    let memtable_mib: u64 = args.next().map_or(8, |text| text.parse().expect("MEMTABLE_MIB is a number"));
    let rows: u32 = args.next().map_or(16, |text| text.parse().expect("ROWS_PER_PARTITION is a number"));

    let started = Instant::now();
    let database = Database::builder(&dir)
        .manual_journal_persist(true)
        .worker_threads(1)
        .cache_size(16 << 20)
        .max_journaling_size(64 << 20)
        .open()
        .expect("the database opens");
    let keyspaces: Vec<Keyspace> = (0..count)
        .map(|index| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_mib << 20);
            database.keyspace(&format!("p{index:03}"), options).expect("the keyspace opens")
        })
        .collect();
    println!("{mode}: {count} keyspaces open after {:?}, resident {} KiB", started.elapsed(), resident_kib());

    let of = |partition: u16| &keyspaces[usize::from(partition % count)];
    let started = Instant::now();
    match mode.as_str() {
        "write" => {
            let value = vec![7u8; 1024];
            for row in 0..rows {
                let mut batch = database.batch();
                for partition in 0..256u16 {
                    batch.insert(of(partition), key(partition, row), value.as_slice());
                }
                batch.commit().expect("the batch is written");
                database.persist(PersistMode::SyncData).expect("the journal syncs");
            }
            println!("{rows} rows of 1 KiB in each of 256 partitions after {:?}", started.elapsed());
        }
        "drop" if count == 256 => {
            of(7).clear().expect("the keyspace clears");
            println!("one partition cleared after {:?}", started.elapsed());
        }
        "drop" => {
            let mut batch = database.batch();
            for row in of(7).prefix(7u16.to_be_bytes()) {
                batch.remove(of(7), row.key().expect("the key reads"));
            }
            let dropped = batch.len();
            batch.commit().expect("the batch is written");
            database.persist(PersistMode::SyncData).expect("the journal syncs");
            println!("one partition of {dropped} rows removed after {:?}", started.elapsed());
        }
        _ => {}
    }
    println!("{mode}: resident {} KiB, {} journals", resident_kib(), database.journal_count());
}

fn key(partition: u16, row: u32) -> Vec<u8> {
    let mut key = partition.to_be_bytes().to_vec();
    key.extend_from_slice(&row.to_be_bytes());
    key
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("0");
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}
