//! `gramme import`: every row of a file becomes a JSON object under its key.
//!
//! Each row is written with the context of what was found there, so that it replaces that and importing twice
//! leaves one sibling. Rows of one key are stored one after the other, in the order of the file. The count at
//! the end is honest: a row is stored only if the cluster said so.

use crate::failure::Failure;
use crate::keys::readable;
use crate::nodes::Nodes;
use crate::output::{counted, grouped, print_json, print_line};
use crate::progress::{Progress, rate};
use crate::rows::{BadRow, Format, Reader, Row};
use clap::Args;
use gramme_client::{Client, Error, Write};
use serde_json::json;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme import packages.tsv --bucket packages --key name\n  gramme import - --format jsonl --bucket events --key id < events.jsonl\n\nEach row is stored as a JSON object, its columns in order, and replaces what is there, so that\nimporting twice leaves one version. The exit code is 1 if any row failed; import the file again\nto store what is missing."
)]
pub(crate) struct Import {
    /// The file, or - for stdin
    file: PathBuf,
    /// The bucket; it needs no creation
    #[arg(long)]
    bucket: String,
    /// The column that holds the key
    #[arg(long, value_name = "COLUMN")]
    key: String,
    /// How the file holds rows [default: what its name says]
    #[arg(long)]
    format: Option<Format>,
    /// Rows under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Print the count as JSON, and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

/// What became of the rows.
#[derive(Debug, Default)]
struct Count {
    /// Rows that were read, bad ones included.
    rows: u64,
    stored: u64,
    /// Of the stored ones, those that a second node had to serve.
    retried: u64,
    /// Rows whose key an earlier row of the file had.
    repeated: u64,
    failed: u64,
    /// Of the failed ones, those that can never be stored as they stand in the file.
    bad: u64,
    /// Failures since the last row that was stored.
    failed_in_a_row: u64,
    reasons: Vec<String>,
}

type Stored = (Row, Result<bool, Error>);

impl Import {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let format = match self.format.or_else(|| Format::of(&self.file)) {
            Some(format) => format,
            None => {
                return Err(Failure::usage(
                    "the file's name does not say what it holds: add --format tsv, csv or jsonl",
                ));
            }
        };
        gramme_core::id::check_bucket(&self.bucket).map_err(|bad| Failure::usage(bad.to_string()))?;
        let input = Input::open(&self.file)?;
        let (bytes, passed) = (input.bytes, input.passed.clone());
        let reader =
            Reader::new(input, format, &self.key).map_err(|why| Failure::failed(self.naming(&why)))?;
        self.nodes.clone().with_spread_client(|client| async move {
            let mut progress = Progress::begin(bytes, self.json);
            let mut count = Count::default();
            let broken = self.store(&client, reader, &passed, &mut count, &mut progress).await;
            let time = progress.end();
            self.tell(&count, time)?;
            match broken {
                Err(why) => Err(Failure::failed(self.naming(&why))),
                Ok(()) if count.failed > 0 => Err(Failure::failed(format!(
                    "not stored: {} of {}; {}",
                    grouped(count.failed),
                    counted(count.rows, "row", "rows"),
                    if count.bad > 0 {
                        "correct the rows that the reasons name, and import the file again"
                    } else {
                        "import the file again to store what is missing"
                    }
                ))),
                Ok(()) => Ok(()),
            }
        })
    }

    /// Goes through the file. The error is one that ended it early.
    async fn store<R: BufRead>(
        &self,
        client: &Client,
        mut reader: Reader<R>,
        passed: &Cell<u64>,
        count: &mut Count,
        progress: &mut Progress,
    ) -> Result<(), String> {
        let mut under_way: JoinSet<Stored> = JoinSet::new();
        let mut keys_under_way = BTreeSet::new();
        let mut seen = Seen::default();
        let mut file = Ok(());
        loop {
            let row = match reader.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(why) => {
                    file = Err(why);
                    break;
                }
            };
            count.rows += 1;
            progress.at(count.rows, passed.get());
            let row = match row {
                Ok(row) => row,
                Err(bad) => {
                    count.bad(&bad);
                    continue;
                }
            };
            count.repeated += u64::from(!seen.insert(&row.key));
            // A row of a key that is under way would not find what the earlier one is about to write.
            while under_way.len() >= self.concurrency.into() || keys_under_way.contains(&row.key) {
                let Some(done) = under_way.join_next().await else { break };
                count.take(done, &mut keys_under_way);
            }
            if count.failed_in_a_row >= FAILURES_IN_A_ROW_MAX {
                file = Err(format!(
                    "stopped after {FAILURES_IN_A_ROW_MAX} failures in a row; the rows from line {} on were not tried",
                    row.line
                ));
                count.rows -= 1;
                break;
            }
            keys_under_way.insert(row.key.clone());
            under_way.spawn(store(client.clone(), self.bucket.clone(), row));
        }
        while let Some(done) = under_way.join_next().await {
            count.take(done, &mut keys_under_way);
        }
        file
    }

    fn tell(&self, count: &Count, time: Duration) -> Result<(), Failure> {
        if self.json {
            return print_json(&json!({
                "rows": count.rows,
                "stored": count.stored,
                "retried": count.retried,
                "repeated": count.repeated,
                "failed": count.failed,
                "reasons": count.reasons,
                "seconds": time.as_secs_f64(),
            }));
        }
        let mut words = format!("{} stored in bucket {}", counted(count.stored, "row", "rows"), self.bucket);
        words.push_str(&format!(" in {:.1} s ({})", time.as_secs_f64(), rate(count.stored, time)));
        if count.retried > 0 {
            words.push_str(&format!(", {} of them with the help of a second node", grouped(count.retried)));
        }
        words.push_str(&format!(", {} failed", grouped(count.failed)));
        print_line(&words)?;
        if count.repeated > 0 {
            let verb = if count.repeated == 1 { "has" } else { "have" };
            print_line(&format!(
                "{} {verb} the key of an earlier row, which the later one replaced",
                counted(count.repeated, "row", "rows")
            ))?;
        }
        count.reasons.iter().for_each(|reason| eprintln!("{reason}"));
        if count.failed > count.reasons.len() as u64 {
            eprintln!("... and {} more", grouped(count.failed - count.reasons.len() as u64));
        }
        Ok(())
    }

    fn naming(&self, why: &str) -> String {
        format!("{}: {why}", self.file.display())
    }
}

/// Stores one row over what is there. The flag says whether a second node was needed.
async fn store(client: Client, bucket: String, row: Row) -> Stored {
    let stored = async {
        let (found, read) = client.get_with(&bucket, row.key.as_bytes(), &Default::default()).await?;
        let write = Write {
            context: found.context().cloned(),
            content_type: Some("application/json".to_string()),
            ..Write::default()
        };
        let written = client.put_with(&bucket, row.key.as_bytes(), row.json.clone(), &write).await?;
        Ok(read.retried || written.via.retried)
    };
    let result = stored.await;
    (row, result)
}

impl Count {
    fn take(&mut self, done: Result<Stored, tokio::task::JoinError>, keys_under_way: &mut BTreeSet<String>) {
        match done {
            Ok((row, result)) => {
                keys_under_way.remove(&row.key);
                match result {
                    Ok(retried) => {
                        self.stored += 1;
                        self.retried += u64::from(retried);
                        self.failed_in_a_row = 0;
                    }
                    Err(error) => {
                        self.failed_in_a_row += 1;
                        self.fail(format!("line {} ({}): {error}", row.line, readable(row.key.as_bytes())));
                    }
                }
            }
            Err(broken) => self.fail(format!("a row was lost: {broken}")),
        }
    }

    fn bad(&mut self, bad: &BadRow) {
        self.bad += 1;
        self.fail(format!("line {}: {}", bad.line, bad.why));
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }
}

/// The keys that were met, as 128-bit hashes: 16 bytes a row, and a false repetition less likely than a broken disk.
#[derive(Default)]
struct Seen {
    hashers: [RandomState; 2],
    hashes: HashSet<u128>,
}

impl Seen {
    fn insert(&mut self, key: &str) -> bool {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        self.hashes.insert(high << 64 | low)
    }
}

/// The file, counting what was read of it.
struct Input {
    inner: Box<dyn BufRead>,
    /// The file's length, if it has one.
    bytes: Option<u64>,
    passed: Rc<Cell<u64>>,
}

impl Input {
    fn open(path: &Path) -> Result<Input, Failure> {
        if path == Path::new("-") {
            return Ok(Input {
                inner: Box::new(BufReader::new(io::stdin())),
                bytes: None,
                passed: Rc::default(),
            });
        }
        let unreadable = |e| Failure::io("cannot read", path, &e);
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if about.is_dir() {
            return Err(Failure::usage(format!("{} is a directory: name a file", path.display())));
        }
        let bytes = Some(about.len()).filter(|_| about.is_file());
        Ok(Input { inner: Box::new(BufReader::with_capacity(1 << 18, file)), bytes, passed: Rc::default() })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed.set(self.passed.get() + read as u64);
        Ok(read)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.passed.set(self.passed.get() + amount as u64);
        self.inner.consume(amount);
    }
}

/// Reasons that are told in full.
const REASONS_MAX: usize = 10;
/// The cluster is gone if so many rows fail without one that is stored.
const FAILURES_IN_A_ROW_MAX: u64 = 500;
