//! `gramme backup list`.

use super::manifest::Shelf;
use super::nothing_in;
use crate::failure::Failure;
use crate::output::{grouped, lines, print_json, print_line, table};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct List {
    /// The directory of the backups
    dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let shelf = Shelf::open(&self.dir)?;
        let names = shelf.names()?;
        if names.is_empty() && !self.json {
            return Err(nothing_in(&self.dir));
        }
        let mut rows = table(["NAME", "RECORDS", "BYTES", "PARTITIONS", "REUSED", "CLUSTER"]);
        let mut all = Vec::new();
        for name in names {
            let manifest = shelf.manifest(&name)?;
            rows.add_row([
                name.clone(),
                grouped(manifest.records()),
                grouped(manifest.bytes()),
                manifest.partitions.to_string(),
                manifest.reused().to_string(),
                manifest.cluster.clone(),
            ]);
            all.push(json!({
                "backup": name,
                "records": manifest.records(),
                "bytes": manifest.bytes(),
                "partitions": manifest.partitions,
                "reused": manifest.reused(),
                "cluster": manifest.cluster,
            }));
        }
        if self.json { print_json(&all.into()) } else { print_line(&lines(&rows)) }
    }
}
