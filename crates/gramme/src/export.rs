//! `gramme export`: every row of a bucket, streamed from one node, and from the next one should it die.
//!
//! A key with several siblings is not one row: it is counted, named, and left out, and the exit code says so.
//! `--format entries` leaves nothing out: each key with its context and all its siblings, whatever their bytes.

use crate::failure::Failure;
use crate::keys::readable;
use crate::nodes::Nodes;
use crate::output::{counted, grouped};
use crate::progress::{Progress, rate};
use crate::rows::{Format, Writer};
use clap::{Args, ValueEnum};
use gramme_client::{Client, Entry, Listing};
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme export packages --format tsv --out packages.tsv\n  gramme export packages | jq .name\n  gramme export packages --format entries > everything.jsonl\n\nRows come in the order of the ring. A key with several siblings is named on stderr and left out,\nexcept from --format entries; the exit code is 3 if there was one, 1 if something else could not\nbe written."
)]
pub(crate) struct Export {
    /// The bucket
    bucket: String,
    /// How to write rows [default: what the name of --out says, else jsonl]
    #[arg(long)]
    format: Option<Shape>,
    /// The file; it appears when it is whole [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only keys that start with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// The columns of TSV and CSV [default: those of the first row]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    columns: Vec<String>,
    /// Print the count as JSON on stderr, and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

/// What is written for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Tab-separated values with a header line, without quoting
    Tsv,
    /// Comma-separated values with a header line, quoted as RFC 4180 says
    Csv,
    /// Each JSON object as it was stored, one a line
    Jsonl,
    /// A line per key with its context and all siblings, whatever they hold
    Entries,
}

/// What became of the keys.
#[derive(Default)]
struct Count {
    keys: u64,
    bytes: u64,
    written: u64,
    conflicts: u64,
    failed: u64,
    reasons: Vec<String>,
}

/// Where a key goes.
enum Sink {
    Rows(Writer<Box<dyn Write>>),
    Entries(Box<dyn Write>),
}

impl Export {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move { self.export(&client).await })
    }

    async fn export(self, client: &Client) -> Result<(), Failure> {
        let partial = self.out.as_deref().map(partial_of);
        let output: Box<dyn Write> = match &partial {
            Some(path) => Box::new(File::create(path).map_err(|e| Failure::io("cannot write", path, &e))?),
            None => Box::new(io::stdout()),
        };
        let mut sink = self.sink(Box::new(BufWriter::with_capacity(1 << 18, output)));
        let mut progress = Progress::begin(None, self.json);
        let mut count = Count::default();
        let copied = self.copy(client, &mut sink, &mut count, &mut progress).await;
        let time = progress.end();
        let whole = copied.and_then(|()| Ok(sink.finish()?));
        if let (Some(partial), Some(out)) = (&partial, &self.out) {
            match &whole {
                Ok(()) => std::fs::rename(partial, out).map_err(|e| Failure::io("cannot write", out, &e))?,
                // What is left of an export that failed must not be taken for one; its own error comes first.
                Err(_) => drop(std::fs::remove_file(partial)),
            }
        }
        whole?;
        self.tell(&count, time);
        count.verdict()
    }

    fn sink(&self, output: Box<dyn Write>) -> Sink {
        let named = self.out.as_deref().and_then(Format::of);
        let format = match (self.format, named) {
            (Some(Shape::Entries), _) => return Sink::Entries(output),
            (Some(Shape::Tsv), _) => Format::Tsv,
            (Some(Shape::Csv), _) => Format::Csv,
            (Some(Shape::Jsonl), _) => Format::Jsonl,
            (None, named) => named.unwrap_or(Format::Jsonl),
        };
        Sink::Rows(Writer::new(output, format, self.columns.clone()))
    }

    async fn copy(
        &self,
        client: &Client,
        sink: &mut Sink,
        count: &mut Count,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let prefix = self.prefix.clone().map(OsString::into_vec).unwrap_or_default();
        let mut list =
            client.list(&self.bucket, Listing { prefix: prefix.into(), after: None, values: true })?;
        let mut resumed = 0;
        while let Some(entry) = list.next().await? {
            count.keys += 1;
            count.bytes += entry.line.len() as u64;
            progress.at(count.keys, count.bytes);
            if list.resumed() > resumed && !self.json {
                progress.remark("a node went away; the export goes on through another");
                resumed = list.resumed();
            }
            sink.take(&entry, count)?;
        }
        Ok(())
    }

    fn tell(&self, count: &Count, time: std::time::Duration) {
        if self.json {
            eprintln!(
                "{}",
                json!({
                    "keys": count.keys,
                    "written": count.written,
                    "conflicts": count.conflicts,
                    "failed": count.failed,
                    "reasons": count.reasons,
                    "seconds": time.as_secs_f64(),
                })
            );
            return;
        }
        let place = self.out.as_ref().map(|out| format!(" to {}", out.display())).unwrap_or_default();
        let (rows, speed) = (counted(count.written, "row", "rows"), rate(count.written, time));
        eprintln!(
            "{rows} written{place} in {:.1} s ({speed}), {} left out",
            time.as_secs_f64(),
            grouped(count.left_out())
        );
        count.reasons.iter().for_each(|reason| eprintln!("{reason}"));
        if count.left_out() > count.reasons.len() as u64 {
            eprintln!("... and {} more", grouped(count.left_out() - count.reasons.len() as u64));
        }
    }
}

impl Sink {
    fn take(&mut self, entry: &Entry, count: &mut Count) -> Result<(), Failure> {
        let values: Vec<_> = entry.values.iter().filter_map(|sibling| sibling.bytes.as_ref()).collect();
        match (self, values.as_slice()) {
            (Sink::Entries(output), _) => {
                output.write_all(&entry.line)?;
                output.write_all(b"\n")?;
                count.written += 1;
            }
            (Sink::Rows(rows), [value]) => match rows.row(value)? {
                Ok(()) => count.written += 1,
                Err(why) => {
                    count.failed += 1;
                    count.reason(entry, &why);
                }
            },
            (Sink::Rows(_), several) => {
                count.conflicts += 1;
                count.reason(
                    entry,
                    &format!("it has {} siblings: see them with `gramme get --siblings`", several.len()),
                );
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Sink::Rows(rows) => rows.finish().map(drop),
            Sink::Entries(mut output) => output.flush(),
        }
    }
}

impl Count {
    fn left_out(&self) -> u64 {
        self.conflicts + self.failed
    }

    fn reason(&mut self, entry: &Entry, why: &str) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(format!("{}: {why}", readable(&entry.key)));
        }
    }

    fn verdict(&self) -> Result<(), Failure> {
        let of_all = format!("of {}", counted(self.keys, "key", "keys"));
        if self.failed > 0 {
            return Err(Failure::failed(format!(
                "{} {of_all} could not be written as rows",
                grouped(self.failed)
            )));
        }
        if self.conflicts > 0 {
            return Err(Failure::conflict(format!(
                "{} {of_all} had several siblings and were left out: resolve them, or use --format entries",
                grouped(self.conflicts)
            )));
        }
        Ok(())
    }
}

fn partial_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Keys that are named.
const REASONS_MAX: usize = 10;
