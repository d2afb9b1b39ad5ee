//! The end of a round: the cluster is given time to become whole by itself, without one read; then what each
//! home holds is compared, and only then everything is read.

use super::ground::Ground;
use super::load::{left_of, place};
use crate::failure::Failure;
use gramme_check::{Key, Left};
use gramme_client::Client;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How a cluster became whole.
#[derive(Debug)]
pub(super) struct Settled {
    /// How long it took; `None` if it did not within the time.
    pub(super) took: Option<Duration>,
    /// What is still amiss.
    pub(super) amiss: Vec<String>,
    /// Keys whose homes still hold different versions.
    pub(super) differ: Vec<Key>,
}

/// Waits until every node says that nothing is left to do, and the homes of every key hold the same versions.
pub(super) async fn settle(ground: &Ground, client: &Client, keys: &[Key], within: Duration) -> Settled {
    let begun = Instant::now();
    let mut differ = keys.to_vec();
    loop {
        let amiss = amiss(ground, client).await;
        if amiss.is_empty() {
            differ = differing(client, &differ).await;
        }
        let whole = amiss.is_empty() && differ.is_empty();
        if whole || begun.elapsed() >= within {
            let differ = if amiss.is_empty() { differ } else { differing(client, &differ).await };
            return Settled { took: whole.then(|| begun.elapsed()), amiss, differ };
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

/// What the nodes say is left to do. What a release does not report is taken as done.
pub(super) async fn amiss(ground: &Ground, client: &Client) -> Vec<String> {
    let mut amiss = Vec::new();
    let mut heard = 0;
    for (node, status) in client.statuses().await {
        let Ok(status) = status else {
            amiss.push(format!("{node} does not answer"));
            continue;
        };
        heard += 1;
        let own = &status["node"];
        let name = own["name"].as_str().unwrap_or(&node).to_string();
        if own["standing"] != "continuous" {
            amiss.push(format!("{name} is {}", own["standing"]));
        }
        if own["hints"].as_u64().unwrap_or(0) > 0 {
            amiss.push(format!("{name} holds {} hints", own["hints"]));
        }
        if status["store"]["broken"].is_string() {
            amiss.push(format!("{name}: {}", status["store"]["broken"]));
        }
        // A peer that was frozen is suspected for a while of being slow; that says nothing of what it holds.
        let members = status["members"].as_array().into_iter().flatten();
        for member in members.filter(|member| member["self"] != true && member["health"] == "down") {
            amiss.push(format!("{name} thinks {} is {}", member["name"], member["health"]));
        }
    }
    if heard < ground.nodes() && amiss.is_empty() {
        amiss.push(format!("{heard} of {} nodes answer", ground.nodes()));
    }
    amiss
}

/// Keys whose homes hold different versions, by their own word, which repairs nothing.
async fn differing(client: &Client, keys: &[Key]) -> Vec<Key> {
    let mut differing = Vec::new();
    for key in keys {
        let (bucket, name) = place(*key);
        let same = match client.ring(bucket, name.as_bytes()).await {
            Ok(ring) => {
                let held: BTreeSet<Option<Vec<String>>> =
                    ring["homes"].as_array().into_iter().flatten().map(versions).collect();
                held.len() == 1 && !held.contains(&None)
            }
            Err(_) => false,
        };
        if !same {
            differing.push(*key);
        }
    }
    differing
}

/// The names of the versions that a home holds, deletions left out; `None` if it could not say.
fn versions(home: &Json) -> Option<Vec<String>> {
    if home["error"].is_string() {
        return None;
    }
    let siblings = home["holds"]["siblings"].as_array().into_iter().flatten();
    let live = siblings.filter(|sibling| sibling["deleted"] != true);
    let mut names: Vec<String> = live.map(|sibling| sibling["id"].to_string()).collect();
    names.sort();
    Some(names)
}

/// Reads every key from all its homes.
pub(super) async fn read_all(client: &Client, keys: &[Key]) -> Result<BTreeMap<Key, Left>, Failure> {
    let all = gramme_client::Read { consistency: Some(ALL.to_string()), ..Default::default() };
    let mut left = BTreeMap::new();
    for key in keys {
        let (bucket, name) = place(*key);
        let (got, _) = client.get_with(bucket, name.as_bytes(), &all).await.map_err(|e| {
            Failure::failed(format!("with every fault healed {name} cannot be read from all its homes: {e}"))
        })?;
        left.insert(*key, left_of(&got));
    }
    Ok(left)
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const ALL: &str = "r=all; timeout=10s";
