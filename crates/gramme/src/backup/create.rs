//! `gramme backup create`: a copy of every partition, read from a quorum of its homes while they serve.

use super::manifest::{FORMAT, Manifest, Part, Shelf, write_durably};
use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, grouped, print_json, print_line};
use crate::progress::Progress;
use clap::Args;
use gramme_client::{Client, Records};
use gramme_core::backup::{Head, Rows, encode_head, file_checksum};
use gramme_core::{ClusterId, PartitionId};
use serde_json::json;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub(super) struct Create {
    /// The directory; each backup stands in a directory of its own there
    dir: PathBuf,
    /// Read every partition, even if nothing was written in it since the last backup
    #[arg(long)]
    full: bool,
    /// Print what was done as JSON, and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

/// What a task that copies one partition needs.
#[derive(Clone)]
struct Source {
    client: Client,
    cluster: ClusterId,
    partitions: u16,
    name: String,
    partial: PathBuf,
    before: Option<Manifest>,
}

impl Create {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move { self.create(client).await })
    }

    async fn create(self, client: Client) -> Result<(), Failure> {
        let shelf = Shelf::make(&self.dir)?;
        let status = client.status().await?;
        let cluster = status["cluster"].as_str().unwrap_or_default().to_string();
        let partitions = status["layout"]["partitions"].as_u64().and_then(|count| u16::try_from(count).ok());
        let (Ok(id), Some(partitions)) = (cluster.parse::<ClusterId>(), partitions) else {
            return Err(Failure::failed("the node does not say which cluster it is of"));
        };
        let before = if self.full { None } else { shelf.newest()? };
        let before = before.filter(|before| before.cluster == cluster && before.partitions == partitions);
        let (name, partial) = shelf.begin(&name_of(SystemTime::now()))?;
        let source =
            Source { client: client.clone(), cluster: id, partitions, name: name.clone(), partial, before };
        let mut progress = Progress::begin(Some(u64::from(partitions)), self.json);
        let copied = copy_all(&source, &mut progress).await;
        let time = progress.end();
        let parts = match copied {
            Ok(parts) => parts,
            Err(failure) => {
                // What is left of it must not be taken for a backup; its own error comes first.
                drop(std::fs::remove_dir_all(&source.partial));
                return Err(failure);
            }
        };
        let buckets = client.buckets().await?["buckets"].as_array().cloned().unwrap_or_default();
        let manifest = Manifest { format: FORMAT, name, cluster, partitions, buckets, parts };
        shelf.complete(&source.partial, &manifest)?;
        self.tell(&manifest, time.as_secs_f64())
    }

    fn tell(&self, manifest: &Manifest, seconds: f64) -> Result<(), Failure> {
        if self.json {
            return print_json(&json!({
                "backup": manifest.name,
                "records": manifest.records(),
                "bytes": manifest.bytes(),
                "partitions": manifest.partitions,
                "reused": manifest.reused(),
                "seconds": seconds,
            }));
        }
        print_line(&format!(
            "backup {}: {} in {} bytes, {} of {} partition files from earlier backups, in {seconds:.1} s",
            manifest.name,
            counted(manifest.records(), "record", "records"),
            grouped(manifest.bytes()),
            manifest.reused(),
            manifest.partitions
        ))
    }
}

/// Copies partitions, a few at a time; the parts come in order.
async fn copy_all(source: &Source, progress: &mut Progress) -> Result<Vec<Part>, Failure> {
    let mut waiting: VecDeque<u16> = (0..source.partitions).collect();
    let mut running = VecDeque::new();
    let mut parts: Vec<Part> = Vec::new();
    let mut records = 0;
    loop {
        while running.len() < AT_ONCE
            && let Some(partition) = waiting.pop_front()
        {
            let source = source.clone();
            running.push_back(tokio::spawn(async move { copy(&source, partition).await }));
        }
        let Some(first) = running.pop_front() else { return Ok(parts) };
        let part =
            first.await.unwrap_or_else(|e| Err(Failure::failed(format!("a copying task ended: {e}"))))?;
        records += part.records;
        parts.push(part);
        progress.at(records, parts.len() as u64);
    }
}

async fn copy(source: &Source, partition: u16) -> Result<Part, Failure> {
    let first = read(source, partition, None).await?;
    let before = source.before.as_ref().and_then(|before| before.part(partition));
    if let Some(before) = before.filter(|before| before.seen.is_some() && before.seen == first.seen) {
        return Ok(before.clone());
    }
    let head = Head {
        cluster: source.cluster,
        partitions: u32::from(source.partitions),
        partition: PartitionId(partition),
    };
    let mut bytes = encode_head(&head).to_vec();
    let mut records = 0;
    let seen = first.seen.clone();
    let mut page = first;
    loop {
        records += count(partition, &page)?;
        bytes.extend_from_slice(&page.rows);
        match page.next {
            Some(next) => page = read(source, partition, Some(&next)).await?,
            None => break,
        }
    }
    if records == 0 {
        return Ok(Part { partition, file: None, records, bytes: 0, checksum: String::new(), seen });
    }
    let name = format!("p{partition:04}.rows");
    write_durably(&Path::new(&source.partial).join(&name), &bytes)?;
    Ok(Part {
        partition,
        file: Some(format!("{}/{name}", source.name)),
        records,
        bytes: bytes.len() as u64,
        checksum: format!("{:016x}", file_checksum(&bytes)),
        seen,
    })
}

/// A page; a partition whose homes cannot answer for a while is asked again.
async fn read(source: &Source, partition: u16, after: Option<&str>) -> Result<Records, Failure> {
    let mut attempts = 0;
    loop {
        match source.client.records(partition, after).await {
            Ok(page) => return Ok(page),
            Err(error) => {
                attempts += 1;
                if attempts == ATTEMPTS_MAX || error.kind() == gramme_client::Kind::Argument {
                    return Err(Failure::failed(format!(
                        "partition {partition} could not be copied: {error}"
                    )));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn count(partition: u16, page: &Records) -> Result<u64, Failure> {
    let mut count = 0;
    for row in Rows::new(page.rows.clone()) {
        row.map_err(|bad| {
            Failure::failed(format!(
                "a page of partition {partition} arrived damaged at byte {}: {}",
                bad.at, bad.why
            ))
        })?;
        count += 1;
    }
    Ok(count)
}

/// When it was begun, as a name that sorts by time: `20261122T080000Z`.
fn name_of(now: SystemTime) -> String {
    let ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    gramme_server::time::compact(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Partitions that are copied at once.
const AT_ONCE: usize = 8;
const ATTEMPTS_MAX: usize = 5;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn names_sort_as_their_times_do() {
        for (seconds, name) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_334_400, "20261122T080000Z"),
        ] {
            assert_eq!(name_of(UNIX_EPOCH + Duration::from_secs(seconds)), name);
        }
    }
}
