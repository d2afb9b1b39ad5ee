//! `gramme config check`: every mistake of a settings file at once, without starting anything.

use crate::failure::Failure;
use crate::output::{print_json, print_line};
use clap::{Args, Subcommand};
use gramme_server::cluster_file::ClusterFile;
use gramme_server::settings::Settings;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "Example:\n  gramme config check shop/n1/gramme.toml")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Look for mistakes, and start nothing
    Check(Check),
}

#[derive(Args)]
#[command(after_help = "Example:\n  gramme config check shop/n1/gramme.toml")]
struct Check {
    /// The settings file
    #[arg(required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The same, as `gramme server` takes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Config {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Check(check) => check.run(),
        }
    }
}

impl Check {
    fn run(self) -> Result<(), Failure> {
        let file = self.file.or(self.config).unwrap_or_default();
        let found = problems(&file);
        let (mistakes, warnings) = match found {
            Ok(warnings) => (Vec::new(), warnings),
            Err(mistakes) => (mistakes, Vec::new()),
        };
        if self.json {
            print_json(&json!({ "ok": mistakes.is_empty(), "mistakes": mistakes, "warnings": warnings }))?;
        } else {
            warnings.iter().try_for_each(|warning| print_line(&format!("warning: {warning}")))?;
        }
        match mistakes.is_empty() {
            true if self.json => Ok(()),
            true => print_line(&format!("{} is fine", file.display())),
            false => Err(Failure::failed(mistakes.join("\ngramme: "))),
        }
    }
}

/// Everything that would keep a node with these settings from starting, or else what is worth a warning.
fn problems(file: &std::path::Path) -> Result<Vec<String>, Vec<String>> {
    let settings = Settings::load(Some(file), crate::server::environment(), &[]).map_err(|wrong| wrong.0)?;
    let mut mistakes = Vec::new();
    let warnings = settings.check().unwrap_or_else(|wrong| {
        mistakes.extend(wrong.0);
        Vec::new()
    });
    // A node that asked to join once has a directory of its own, and may have been taken in since.
    let may_start = |cluster: &ClusterFile| {
        let is_member = cluster.layout.member(settings.node_id).is_some();
        is_member || !settings.seeds.is_empty() || settings.data_dir.exists()
    };
    match ClusterFile::read(&settings.cluster_file) {
        Err(wrong) => mistakes.push(wrong.to_string()),
        Ok(cluster) if !may_start(&cluster) => mistakes.push(format!(
            "node.id {} is not among the members in {}: copy the settings that `gramme cluster init` wrote, or name members in cluster.seeds to ask to join",
            settings.node_id,
            settings.cluster_file.display()
        )),
        Ok(_) => {}
    }
    if mistakes.is_empty() { Ok(warnings) } else { Err(mistakes) }
}
