//! `gramme restore`: a backup given back.
//!
//! To the cluster it was made of, records are given back as they are and joined as ones that nobody vouches
//! for: what was overwritten or deleted since stays so, and doing it twice changes nothing. To any other cluster
//! the dots of its records mean nothing, so with `--anew` their values are written as new ones, to keys that
//! have none.

use super::Which;
use super::manifest::Manifest;
use super::verify::rows_of;
use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, print_json, print_line};
use crate::progress::Progress;
use clap::Args;
use gramme_client::Client;
use gramme_core::backup::write_row;
use gramme_core::codec::Writer;
use serde_json::{Value as Json, json};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme restore /backups/shop\n  gramme restore /backups/shop --backup 20261122T080000Z --bucket carts\n  gramme restore /backups/shop --anew --node http://other:7400\n\nWithout --anew nothing comes back that was overwritten or deleted since the backup."
)]
pub(crate) struct Restore {
    #[command(flatten)]
    which: Which,
    /// Only this bucket; repeat it for more [default: all]
    #[arg(long, value_name = "NAME")]
    bucket: Vec<String>,
    /// Write the values as new ones, to keys that have no value: for another cluster, or to bring deleted
    /// values back
    #[arg(long)]
    anew: bool,
    /// Print what was done as JSON, and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

/// What became of the rows.
#[derive(Default)]
struct Count {
    read: u64,
    stored: u64,
    kept: u64,
    failed: u64,
    reasons: Vec<String>,
}

impl Restore {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move { self.restore(&client).await })
    }

    async fn restore(self, client: &Client) -> Result<(), Failure> {
        let (shelf, manifest) = self.which.open()?;
        self.check(client, &manifest).await?;
        self.settings(client, &manifest).await?;
        let mut progress = Progress::begin(Some(manifest.bytes()), self.json);
        let mut count = Count::default();
        let mut bytes = 0;
        for part in &manifest.parts {
            let rows = rows_of(&shelf, &manifest, part)?;
            let mut chunk = Writer::new();
            for (key, record) in &rows {
                if !self.bucket.is_empty() && !self.bucket.iter().any(|bucket| bucket == key.bucket()) {
                    continue;
                }
                write_row(&mut chunk, key, record);
                count.read += 1;
                if chunk.len() >= CHUNK_BYTES {
                    self.send(client, std::mem::take(&mut chunk), &mut count).await?;
                    progress.at(count.read, bytes);
                }
            }
            self.send(client, chunk, &mut count).await?;
            bytes += part.bytes;
            progress.at(count.read, bytes);
        }
        let seconds = progress.end().as_secs_f64();
        self.tell(&manifest, &count, seconds)
    }

    /// Whether these records can be joined into that cluster.
    async fn check(&self, client: &Client, manifest: &Manifest) -> Result<(), Failure> {
        let status = client.status().await?;
        let cluster = status["cluster"].as_str().unwrap_or_default();
        let partitions = status["layout"]["partitions"].as_u64().unwrap_or_default();
        if self.anew || (cluster == manifest.cluster && partitions == u64::from(manifest.partitions)) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "backup {} is of cluster {} with {} partitions, and this is cluster {cluster} with {partitions}: its history means nothing here; add --anew to write its values as new ones, to keys that have none",
            manifest.name, manifest.cluster, manifest.partitions
        )))
    }

    /// Buckets that have no settings here get those of the backup.
    async fn settings(&self, client: &Client, manifest: &Manifest) -> Result<(), Failure> {
        let here = client.buckets().await?;
        let has = |name: &str| here["buckets"].as_array().into_iter().flatten().any(|b| b["bucket"] == name);
        for settings in &manifest.buckets {
            let Some(name) = settings["bucket"].as_str() else { continue };
            if !has(name) && (self.bucket.is_empty() || self.bucket.iter().any(|bucket| bucket == name)) {
                client.set_bucket(name, settings).await?;
            }
        }
        Ok(())
    }

    /// Sends rows; those that could not be stored for a while are sent again with the rest of their chunk,
    /// which does no harm.
    async fn send(&self, client: &Client, chunk: Writer, count: &mut Count) -> Result<(), Failure> {
        if chunk.is_empty() {
            return Ok(());
        }
        let rows = chunk.into_bytes();
        for attempt in 1.. {
            let problem = match client.restore(rows.clone(), self.anew).await {
                Ok(answer) => match retryable(&answer) {
                    Some(why) if attempt < ATTEMPTS_MAX => why,
                    _ => {
                        count.take(&answer);
                        return Ok(());
                    }
                },
                Err(error) if attempt < ATTEMPTS_MAX => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if !self.json && attempt > 1 {
                eprintln!("some rows could not be stored ({problem}): they are sent again");
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Ok(())
    }

    fn tell(&self, manifest: &Manifest, count: &Count, seconds: f64) -> Result<(), Failure> {
        if self.json {
            print_json(&json!({
                "backup": manifest.name,
                "records": count.read,
                "stored": count.stored,
                "kept": count.kept,
                "failed": count.failed,
                "reasons": count.reasons,
                "seconds": seconds,
            }))?;
        } else {
            let kept = match count.kept {
                0 => String::new(),
                kept => {
                    format!(", {} left as they are because they have a value", counted(kept, "key", "keys"))
                }
            };
            print_line(&format!(
                "backup {}: {} given back{kept}, in {seconds:.1} s",
                manifest.name,
                counted(count.stored, "record", "records")
            ))?;
        }
        if count.failed == 0 {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "{} could not be given back; do it again, which changes nothing of the others:\n  {}",
            counted(count.failed, "record", "records"),
            count.reasons.join("\n  ")
        )))
    }
}

impl Count {
    fn take(&mut self, answer: &Json) {
        self.stored += answer["stored"].as_u64().unwrap_or_default();
        self.kept += answer["kept"].as_u64().unwrap_or_default();
        self.failed += answer["failures"].as_u64().unwrap_or_default();
        for failed in answer["failed"].as_array().into_iter().flatten() {
            if self.reasons.len() < REASONS_MAX {
                let key = failed["key"].as_str().unwrap_or("a key of no text");
                let bucket = failed["bucket"].as_str().unwrap_or_default();
                let detail = failed["problem"]["detail"].as_str().unwrap_or_default();
                self.reasons.push(format!("{bucket} {key}: {detail}"));
            }
        }
    }
}

/// Why sending the same rows again may help.
fn retryable(answer: &Json) -> Option<String> {
    let failed = answer["failed"].as_array()?;
    let problem =
        failed.iter().map(|failed| &failed["problem"]).find(|problem| problem["retryable"] == true)?;
    Some(problem["detail"].as_str().unwrap_or_default().to_string())
}

const CHUNK_BYTES: usize = 512 << 10;
const ATTEMPTS_MAX: u32 = 6;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(400);
const REASONS_MAX: usize = 10;
