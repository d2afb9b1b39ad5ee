//! `gramme backup`: copies of a living cluster in a directory, and `gramme restore`, the way back.
//!
//! A backup is a directory per time with a manifest and a file per partition that has records; a partition in
//! which nothing was seen since the last backup is not read again, its file is named instead. Records are whole:
//! siblings, clocks and tombstones, so that a restore is a merge and never a step back.
//!
//! Invariant: a backup without the suffix `.partial` is complete.

mod create;
mod list;
mod manifest;
mod restore;
mod verify;

pub(crate) use restore::Restore;

use crate::failure::Failure;
use clap::{Args, Subcommand};
use manifest::{Manifest, Shelf};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme backup create /backups/shop\n  gramme backup list /backups/shop\n  gramme backup verify /backups/shop\n  gramme restore /backups/shop"
)]
pub(crate) struct Backup {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Copy the cluster's records into a directory while it serves
    #[command(
        after_help = "Example:\n  gramme backup create /backups/shop\n\nThe second backup into a directory reads only partitions in which something was written."
    )]
    Create(create::Create),
    /// Show the backups in a directory
    #[command(after_help = "Example:\n  gramme backup list /backups/shop")]
    List(list::List),
    /// Read a backup through, and name what is damaged
    #[command(after_help = "Example:\n  gramme backup verify /backups/shop --backup 20261122T080000Z")]
    Verify(verify::Verify),
}

impl Backup {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Create(create) => create.run(),
            Action::List(list) => list.run(),
            Action::Verify(verify) => verify.run(),
        }
    }
}

/// Which backup of a directory.
#[derive(Args, Clone, Debug)]
struct Which {
    /// The directory of the backups
    dir: PathBuf,
    /// One of them, by its name [default: the newest]
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
}

impl Which {
    /// The backup that is meant.
    fn open(&self) -> Result<(Shelf, Manifest), Failure> {
        let shelf = Shelf::open(&self.dir)?;
        let manifest = match &self.backup {
            Some(name) => shelf.manifest(name)?,
            None => shelf.newest()?.ok_or_else(|| nothing_in(&self.dir))?,
        };
        Ok((shelf, manifest))
    }
}

fn nothing_in(dir: &Path) -> Failure {
    Failure::missing(format!(
        "there is no complete backup in {}: make one with `gramme backup create {}`",
        dir.display(),
        dir.display()
    ))
}
