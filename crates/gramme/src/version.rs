//! `gramme version`.

use crate::failure::Failure;
use crate::output::{print_json, print_line};
use clap::Args;
use serde_json::json;

#[derive(Args)]
#[command(after_help = "Example:\n  gramme version --json")]
pub(crate) struct Version {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.json {
            true => print_json(&json!({ "version": VERSION })),
            false => print_line(&format!("gramme {VERSION}")),
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
