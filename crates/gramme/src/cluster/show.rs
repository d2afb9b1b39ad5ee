//! `gramme cluster show`: what a cluster file says.

use crate::failure::Failure;
use crate::output::{counted, lines, print_json, print_line, table};
use clap::Args;
use gramme_core::{Layout, Member};
use gramme_server::cluster_file::ClusterFile;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "Example:\n  gramme cluster show shop/n1/cluster.gramme")]
pub(super) struct Show {
    /// The cluster file
    file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = ClusterFile::read(&self.file).map_err(|e| Failure::failed(e.to_string()))?;
        if self.json { print_json(&as_json(&file)) } else { print(&file) }
    }
}

pub(super) fn print(file: &ClusterFile) -> Result<(), Failure> {
    let layout = &file.layout;
    print_line(&format!(
        "cluster {}  layout {} ({})\n{}, N={}, {} partitions, {} of each on distinct nodes\n",
        file.cluster,
        layout.version(),
        layout.hash(),
        counted(layout.members().len() as u64, "node", "nodes"),
        layout.n(),
        layout.partitions(),
        counted(layout.n() as u64, "copy", "copies"),
    ))?;
    let mut table = table(["NODE", "ID", "ZONE", "WEIGHT", "SHARE", "PARTITIONS", "PEERS", "HTTP"]);
    for member in by_name(layout) {
        let slots = layout.slots_of(member.id);
        table.add_row([
            member.name.clone(),
            member.id.to_string(),
            member.zone.clone(),
            member.weight.to_string(),
            share(layout, slots),
            slots.to_string(),
            member.address.clone(),
            member.http.clone(),
        ]);
    }
    print_line(&lines(&table))
}

pub(super) fn as_json(file: &ClusterFile) -> Json {
    let layout = &file.layout;
    let members: Vec<Json> = by_name(layout)
        .into_iter()
        .map(|m| {
            json!({
                "id": m.id.to_string(), "name": m.name, "address": m.address, "http": m.http,
                "zone": m.zone, "weight": m.weight, "partitions": layout.slots_of(m.id),
            })
        })
        .collect();
    json!({
        "cluster": file.cluster.to_string(),
        "layout": layout.version(),
        "hash": layout.hash().to_string(),
        "n": layout.n(),
        "partitions": layout.partitions(),
        "members": members,
    })
}

fn by_name(layout: &Layout) -> Vec<&Member> {
    let mut members: Vec<&Member> = layout.members().iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

/// A member's part of all copies.
fn share(layout: &Layout, slots: usize) -> String {
    format!("{:.1}%", slots as f64 * 100.0 / (layout.partitions() * layout.n()) as f64)
}
