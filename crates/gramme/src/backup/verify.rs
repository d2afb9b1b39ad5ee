//! `gramme backup verify`: every byte of a backup read and checked, and its parts for `gramme restore`.

use super::Which;
use super::manifest::{Manifest, Part, Shelf};
use crate::failure::Failure;
use crate::output::{counted, print_json, print_line};
use crate::progress::Progress;
use bytes::Bytes;
use clap::Args;
use gramme_core::Key;
use gramme_core::backup::{HEAD_BYTES, Rows, decode_head, file_checksum};
use gramme_core::codec::decode_record;
use serde_json::json;

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    which: Which,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (shelf, manifest) = self.which.open()?;
        let mut progress = Progress::begin(Some(manifest.bytes()), self.json);
        let (mut records, mut bytes) = (0, 0);
        let mut damaged = Vec::new();
        for part in &manifest.parts {
            match rows_of(&shelf, &manifest, part) {
                Ok(rows) => records += rows.len() as u64,
                Err(failure) => damaged.push(failure.sentence().to_string()),
            }
            bytes += part.bytes;
            progress.at(records, bytes);
        }
        progress.end();
        if self.json {
            print_json(&json!({ "backup": manifest.name, "records": records, "damaged": damaged }))?;
        }
        match &damaged[..] {
            [] if self.json => Ok(()),
            [] => print_line(&format!(
                "backup {} is sound: {} read and checked",
                manifest.name,
                counted(records, "record", "records")
            )),
            several => Err(Failure::failed(format!(
                "backup {} is damaged in {}:\n  {}",
                manifest.name,
                counted(several.len() as u64, "file", "files"),
                several.join("\n  ")
            ))),
        }
    }
}

/// The checked rows of one partition; the error names the file and the byte.
pub(super) fn rows_of(shelf: &Shelf, manifest: &Manifest, part: &Part) -> Result<Vec<(Key, Bytes)>, Failure> {
    let Some(file) = &part.file else { return Ok(Vec::new()) };
    let path = shelf.path(file);
    let damaged = |what: String| Failure::failed(format!("{}: {what}", path.display()));
    let bytes = Bytes::from(std::fs::read(&path).map_err(|e| Failure::io("cannot read", &path, &e))?);
    if bytes.len() < HEAD_BYTES {
        return Err(damaged(format!("it has {} bytes, fewer than its head", bytes.len())));
    }
    let head = decode_head(&bytes[..HEAD_BYTES]).map_err(|bad| damaged(format!("its head: {bad}")))?;
    if head.partition.0 != part.partition || head.cluster.to_string() != manifest.cluster {
        return Err(damaged(format!(
            "it is partition {} of cluster {}, not the one that the manifest names",
            head.partition, head.cluster
        )));
    }
    let mut rows = Vec::new();
    let mut reader = Rows::new(bytes.slice(HEAD_BYTES..));
    loop {
        let at = HEAD_BYTES + reader.position();
        let Some(row) = reader.next() else { break };
        let (key, encoded) = row.map_err(|bad| damaged(format!("byte {at}: {}", bad.why)))?;
        let record =
            decode_record(&encoded).map_err(|bad| damaged(format!("the record at byte {at}: {bad}")))?;
        if let Some(broken) = record.siblings().iter().find(|sibling| !sibling.verifies()) {
            return Err(damaged(format!("the value of {} at byte {at} fails its checksum", broken.dot)));
        }
        rows.push((key, encoded));
    }
    let found = format!("{:016x}", file_checksum(&bytes));
    if rows.len() as u64 != part.records || found != part.checksum {
        return Err(damaged(format!(
            "it has {} records and checksum {found}, but the manifest says {} and {}",
            rows.len(),
            part.records,
            part.checksum
        )));
    }
    Ok(rows)
}
