//! `gramme cluster commit` and `force-commit`: the plan of a hash becomes the layouts that the cluster goes to.
//!
//! A hash may be given by its beginning. What it is the beginning of is the plan as it stands: a plan that has become
//! another since somebody looked is refused.

use super::follow::Follow;
use super::history::numbered;
use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{print_json, print_line};
use clap::Args;
use gramme_client::{Client, Error};
use gramme_core::Outcome;
use serde_json::Value as Json;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme cluster commit 8f3c01d2\n  gramme cluster commit 8f3c01d2 --wait"
)]
pub(super) struct Commit {
    /// The hash of the plan, or at least its first 8 digits
    hash: String,
    /// Stay until all nodes have gone to what was committed
    #[arg(long)]
    wait: bool,
    /// Print what was committed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme cluster force-commit 8f3c01d2 --yes-majority-is-lost\n\nFor a cluster that has lost a majority of its members for good, and can agree on nothing any more.\nStage what was lost with `gramme cluster leave NODE --lost` first."
)]
pub(super) struct ForceCommit {
    /// The hash of the plan, or at least its first 8 digits
    hash: String,
    /// A majority of the members will never come back
    #[arg(long)]
    yes_majority_is_lost: bool,
    /// Stay until all nodes have gone to what was committed
    #[arg(long)]
    wait: bool,
    /// Print what was committed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Commit {
    pub(super) fn run(self) -> Result<(), Failure> {
        commit(&self.nodes, &self.hash, Manner { force: false, wait: self.wait, json: self.json })
    }
}

impl ForceCommit {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.yes_majority_is_lost {
            return Err(Failure::usage(
                "a forced commit asks nobody and begins a lineage that fences the old one, so two halves of a cluster that both live would part for good: if a majority of the members will never come back, add --yes-majority-is-lost",
            ));
        }
        commit(&self.nodes, &self.hash, Manner { force: true, wait: self.wait, json: self.json })
    }
}

/// How it is committed and told.
struct Manner {
    force: bool,
    wait: bool,
    json: bool,
}

fn commit(nodes: &Nodes, digits: &str, manner: Manner) -> Result<(), Failure> {
    check(digits)?;
    nodes.with_client(|client| async move {
        is_new(digits, &client.history().await?)?;
        let plan = client.plan().await?;
        let hash = whole(digits, &plan)?;
        let committed = client.commit(hash, manner.force).await.map_err(uncommitted)?;
        tell(&client, committed, manner).await
    })
}

/// Whoever broke off in the middle may have committed it, or may have left it for the next to commit.
fn uncommitted(why: Error) -> Failure {
    if why.outcome() == Outcome::NotApplied {
        return why.into();
    }
    Failure::failed(format!(
        "whether the plan was committed is not known: look at `gramme cluster history`, and commit it again if it is not there ({why})"
    ))
}

async fn tell(client: &Client, mut committed: Json, manner: Manner) -> Result<(), Failure> {
    if !manner.json {
        print_line(&screen(&committed, manner.wait))?;
    }
    if manner.wait {
        let time = Follow::begin(&committed, manner.json).until_done(client).await;
        committed["waited_ms"] = (time.as_millis() as u64).into();
        if !manner.json {
            print_line(&format!("done after {:.1} s", time.as_secs_f64()))?;
        }
    }
    if manner.json { print_json(&committed) } else { Ok(()) }
}

fn screen(committed: &Json, wait: bool) -> String {
    let numbers: Vec<String> = committed["layouts"].as_array().into_iter().flatten().map(numbered).collect();
    let text = match numbers.as_slice() {
        [one] => format!("committed layout {one}"),
        several => format!("committed layouts {}, to be gone to one after the other", several.join(", ")),
    };
    if wait { text } else { text + "; follow it with `gramme status` or `gramme transfers --watch`" }
}

fn check(digits: &str) -> Result<(), Failure> {
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex && (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{digits:?} is no hash of a plan: write at least the first {DIGITS_MIN} of the {DIGITS_MAX} hexadecimal digits that `gramme cluster plan` shows"
    )))
}

/// The whole hash of a plan, if these are its first digits.
fn whole<'p>(digits: &str, plan: &'p Json) -> Result<&'p str, Failure> {
    let hash = plan["hash"].as_str().unwrap_or_default();
    if hash.starts_with(&digits.to_ascii_lowercase()) {
        return Ok(hash);
    }
    Err(Failure::failed(format!(
        "{digits} is not the plan, which is {hash} as things stand: look at it with `gramme cluster plan` before you commit it"
    )))
}

/// A plan is committed once: whoever asks again is told so.
fn is_new(digits: &str, history: &Json) -> Result<(), Failure> {
    let digits = digits.to_ascii_lowercase();
    let is_it =
        |layout: &&Json| layout["hash"].as_str().is_some_and(|hash| hash.starts_with(digits.as_str()));
    match history["layouts"].as_array().into_iter().flatten().find(is_it) {
        None => Ok(()),
        Some(layout) => Err(Failure::failed(format!(
            "that plan was committed already, as layout {}: see `gramme cluster history` and `gramme status`",
            numbered(layout)
        ))),
    }
}

const DIGITS_MIN: usize = 8;
const DIGITS_MAX: usize = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_that_was_committed_is_told_by_its_number() {
        let history = json!({ "layouts": [{ "hash": "8f3c01d2aa", "version": 3, "lineage": 0 }] });
        let again = is_new("8F3C01D2", &history).unwrap_err();
        let again = again.sentence();
        assert!(again.starts_with("that plan was committed already, as layout 3:"), "{again}");
        assert!(is_new("9f3c01d2", &history).is_ok());
    }

    #[test]
    fn a_hash_may_be_given_by_its_beginning_if_it_is_that_of_the_plan_as_it_stands() {
        let plan = json!({ "hash": "8f3c01d2000000000000000000000000" });
        for digits in ["8f3c01d2", "8F3C01D200", "8f3c01d2000000000000000000000000"] {
            assert!(check(digits).is_ok());
            assert_eq!(whole(digits, &plan).unwrap(), "8f3c01d2000000000000000000000000");
        }
        for bad in ["", "8f3c", "8f3c01dg", "8f3c01d20000000000000000000000000"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let refusal = whole("8f3c01d3", &plan).unwrap_err();
        assert!(refusal.sentence().starts_with("8f3c01d3 is not the plan, which is 8f3c01d2"));
    }

    #[test]
    fn what_was_committed_is_told_by_its_numbers() {
        let one = json!({ "layouts": [{ "version": 5, "lineage": 0 }] });
        assert_eq!(screen(&one, true), "committed layout 5");
        let several = json!({ "layouts": [{ "version": 5, "lineage": 1 }, { "version": 6, "lineage": 1 }] });
        assert_eq!(
            screen(&several, true),
            "committed layouts 5 of lineage 1, 6 of lineage 1, to be gone to one after the other"
        );
    }
}
