//! The command line as a whole: which commands there are.

use crate::failure::Failure;
use crate::{
    backup, bucket, chaos, cluster, completions, config, del, dev, doctor, export, get, import, ls, put,
    repair, ring, server, status, top, transfers, version,
};
use clap::{Parser, Subcommand};

/// A leaderless, always-writeable key-value store.
#[derive(Parser)]
#[command(
    name = "gramme",
    version,
    about = "A leaderless, always-writeable key-value store: Amazon's Dynamo made real",
    after_help = "Start here:\n  gramme dev                     a cluster of three nodes on this machine\n  gramme put carts u42 pen       then, from another terminal\n  gramme get carts u42\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 the key has siblings, 4 there is no such key.",
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster of several nodes on this machine
    Dev(dev::Dev),
    /// Start one node
    Server(server::Server),
    /// Make a cluster; change who is a member and what each keeps
    Cluster(cluster::Cluster),
    /// Look for mistakes in a settings file
    Config(config::Config),
    /// Read a key
    Get(get::Get),
    /// Write a key
    Put(put::Put),
    /// Delete a key
    Del(del::Del),
    /// List the keys of a bucket
    Ls(ls::Ls),
    /// Store the rows of a TSV, CSV or JSON lines file
    Import(import::Import),
    /// Write the rows of a bucket to a file
    Export(export::Export),
    /// Copy a living cluster's records into a directory, and look after such copies
    Backup(backup::Backup),
    /// Give a backup back
    Restore(backup::Restore),
    /// How the cluster is, on one screen
    Status(status::Status),
    /// The cluster at work: rates, latencies and what is going on, anew each second
    Top(top::Top),
    /// What is wrong with a cluster or its machines, or will be, and what to do about it
    Doctor(doctor::Doctor),
    /// What comes to each node and what it hands over because the ring changes
    Transfers(transfers::Transfers),
    /// How the copies of every partition compare; compare or reread them now
    Repair(repair::Repair),
    /// Where a key lives, and what each of its homes holds
    Ring(ring::Ring),
    /// Show or change a bucket's settings
    Bucket(bucket::Bucket),
    /// Break a cluster of real processes, round after round, and judge what its clients were told
    Chaos(chaos::Chaos),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Print the version
    Version(version::Version),
}

impl Arguments {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Dev(dev) => dev.run(),
            Command::Server(server) => server.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::Config(config) => config.run(),
            Command::Get(get) => get.run(),
            Command::Put(put) => put.run(),
            Command::Del(del) => del.run(),
            Command::Ls(ls) => ls.run(),
            Command::Import(import) => import.run(),
            Command::Export(export) => export.run(),
            Command::Backup(backup) => backup.run(),
            Command::Restore(restore) => restore.run(),
            Command::Status(status) => status.run(),
            Command::Top(top) => top.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Transfers(transfers) => transfers.run(),
            Command::Repair(repair) => repair.run(),
            Command::Ring(ring) => ring.run(),
            Command::Bucket(bucket) => bucket.run(),
            Command::Chaos(chaos) => chaos.run(),
            Command::Completions(completions) => completions.run(),
            Command::Version(version) => version.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{CommandFactory, Parser};

    fn refusal(line: &str) -> String {
        match Arguments::try_parse_from(line.split(' ')) {
            Ok(_) => panic!("{line} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        for (line, meant) in [
            ("gramme statsu", "status"),
            ("gramme import f.tsv --bucket b --kye name", "--key"),
            ("gramme dev --node 3", "--nodes"),
            ("gramme dev kil 1", "kill"),
            ("gramme cluster joni n4", "join"),
            ("gramme cluster leave n3 --lots", "--lost"),
            ("gramme cluster commit 8f3c01d2 --wiat", "--wait"),
            ("gramme transfers pasue", "pause"),
            ("gramme dev --engine fjal", "fjall"),
            ("gramme export b --format tvs", "tsv"),
        ] {
            let answer = refusal(line);
            assert!(answer.contains(meant), "{line}: {answer}");
        }
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        let command = Arguments::command();
        for sub in command.get_subcommands() {
            let help = sub.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "gramme {} --help has none:\n{help}", sub.get_name());
        }
    }

    #[test]
    fn the_examples_fit_a_terminal() {
        fn check(command: &clap::Command) {
            for line in command.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
                assert!(line.chars().count() <= 100, "gramme {}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn every_command_that_reports_can_do_so_in_json() {
        let command = Arguments::command();
        for sub in
            command.get_subcommands().filter(|sub| !["server", "completions"].contains(&sub.get_name()))
        {
            let takes_json = |c: &clap::Command| {
                c.get_arguments().any(|argument| {
                    let other = argument.get_visible_aliases().unwrap_or_default();
                    argument.get_long() == Some("json") || other.contains(&"json")
                })
            };
            let ok = takes_json(sub) || (sub.has_subcommands() && sub.get_subcommands().all(takes_json));
            assert!(ok, "gramme {} has no --json", sub.get_name());
        }
    }
}
