//! `gramme cluster join`, `leave`, `replace`, `weight`, `zone` and `clear`: what is wanted is staged, known to all nodes
//! within moments, and done by nobody before `gramme cluster commit`. `abort` goes back from what was committed.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, lines, print_json, print_line, table};
use crate::status::word;
use clap::Args;
use gramme_client::{Client, Error};
use serde_json::{Value as Json, json};
use std::future::Future;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme cluster join n4\n  gramme cluster join n4 --weight 2 --zone rack-b"
)]
pub(super) struct Join {
    /// A node that asks to join, by name or id; `gramme status` lists them
    #[arg(value_name = "NODE")]
    who: String,
    /// Its share, relative to the others' [default: 1]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..))]
    weight: Option<u32>,
    /// What fails together with it [default: what it says itself]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme cluster leave n3\n  gramme cluster leave n3 --lost      its disks are gone: nobody waits for it"
)]
pub(super) struct Leave {
    /// The member, by name or id
    #[arg(value_name = "NODE")]
    who: String,
    /// It is lost for good: nobody waits for it, and what only it had is given up
    #[arg(long)]
    lost: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme cluster replace n3 n4\n\nA member that is down is taken for lost for good."
)]
pub(super) struct Replace {
    /// The member that goes, by name or id
    old: String,
    /// The node that comes, which asks to join
    new: String,
    /// Also if the member is up: it then hands over what it has
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(after_help = "Example:\n  gramme cluster weight n1 2")]
pub(super) struct Weight {
    /// The member, by name or id
    #[arg(value_name = "NODE")]
    who: String,
    /// Its share, relative to the others'
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    weight: u32,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(after_help = "Example:\n  gramme cluster zone n1 rack-b")]
pub(super) struct Zone {
    /// The member, by name or id
    #[arg(value_name = "NODE")]
    who: String,
    /// What fails together with it
    zone: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(after_help = "Example:\n  gramme cluster clear")]
pub(super) struct Clear {
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme cluster abort\n\nReads went by that layout all along, so nothing is lost."
)]
pub(super) struct Abort {
    #[command(flatten)]
    how: How,
}

/// How an order is given and its answer told.
#[derive(Args)]
pub(super) struct How {
    /// Print the ring as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Join {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut change = json!({ "change": "join", "node": self.who });
        if let Some(weight) = self.weight {
            change["weight"] = weight.into();
        }
        if let Some(zone) = self.zone {
            change["zone"] = zone.into();
        }
        self.how.stage(change)
    }
}

impl Leave {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.stage(json!({ "change": "leave", "node": self.who, "lost": self.lost }))
    }
}

impl Replace {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.stage(json!({ "change": "replace", "node": self.old, "new": self.new, "force": self.force }))
    }
}

impl Weight {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.stage(json!({ "change": "weight", "node": self.who, "weight": self.weight }))
    }
}

impl Zone {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.stage(json!({ "change": "zone", "node": self.who, "zone": self.zone }))
    }
}

impl Clear {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.give(|client| async move { client.unstage().await }, screen)
    }
}

impl Abort {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.how.give(|client| async move { client.abort().await }, aborted)
    }
}

impl How {
    fn stage(self, change: Json) -> Result<(), Failure> {
        self.give(|client| async move { client.stage(&change).await }, screen)
    }

    fn give<F: Future<Output = Result<Json, Error>>>(
        self,
        order: impl FnOnce(Client) -> F,
        screen: fn(&Json) -> String,
    ) -> Result<(), Failure> {
        self.nodes.with_client(|client| async move {
            let layout = order(client).await?;
            if self.json { print_json(&layout) } else { print_line(&screen(&layout)) }
        })
    }
}

/// What is staged now.
fn screen(layout: &Json) -> String {
    let staged = layout["staged"].as_array().map_or(&[][..], Vec::as_slice);
    if staged.is_empty() {
        return "nothing is staged".to_string();
    }
    let mut rows = table(["NODE", "CHANGE", "STAGED", "AT"]);
    for one in staged {
        rows.add_row([&one["name"], &one["what"], &one["at"], &one["by"]].map(word));
    }
    format!(
        "{}, and not done before a commit:\n{}\nsee what it would do: gramme cluster plan",
        counted(staged.len() as u64, "change is staged", "changes are staged"),
        lines(&rows)
    )
}

fn aborted(layout: &Json) -> String {
    format!(
        "layout {} returns to what layout {} says; follow it with `gramme status`",
        layout["head"]["version"], layout["reads"]["version"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_is_told_with_the_next_step() {
        let layout = json!({ "staged": [
            { "name": "n4", "what": "joins", "at": "2026-11-22T17:48:05.123Z", "by": "n1" },
            { "name": "n3", "what": "leaves", "at": "2026-11-22T17:49:00.000Z", "by": "n2" },
        ] });
        let expected = "2 changes are staged, and not done before a commit:\n\
            NODE  CHANGE  STAGED                    AT\n\
            n4    joins   2026-11-22T17:48:05.123Z  n1\n\
            n3    leaves  2026-11-22T17:49:00.000Z  n2\n\
            see what it would do: gramme cluster plan";
        assert_eq!(screen(&layout), expected);
        assert_eq!(screen(&json!({ "staged": [] })), "nothing is staged");
    }
}
