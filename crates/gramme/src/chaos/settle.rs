//! The end of a round: the cluster is given time to become whole by itself, without one read; then what each
//! home holds is compared, the hash trees of all homes are, and only then everything is read.
//!
//! Two moments are told apart. *Whole*: nothing is left to do, and all homes of every key hold the same. *Healthy*:
//! it is whole, every node thinks well of every other, and all hash trees were found the same after that. A peer that
//! was frozen may be called suspect for a while, which is no breach; one that stays so is.

use super::ground::Ground;
use super::load::{left_of, place};
use crate::failure::Failure;
use crate::repair::copies_waiting;
use gramme_check::{Key, Left};
use gramme_client::{Client, Error};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How a cluster became whole.
#[derive(Debug)]
pub(super) struct Settled {
    /// After how long all homes of every key held the same and nothing was left to do; `None` if not in time.
    pub(super) whole: Option<Duration>,
    /// After how long all nodes thought well of each other too, and all trees agreed; `None` if not in time.
    pub(super) healthy: Option<Duration>,
    /// What is still amiss.
    pub(super) amiss: Vec<String>,
    /// Keys whose homes still hold different versions.
    pub(super) differ: Vec<Key>,
}

/// Waits until every node says that nothing is left to do, the homes of every key hold the same versions, and the
/// hash trees of all partitions agree.
pub(super) async fn settle(ground: &Ground, client: &Client, keys: &[Key], within: Duration) -> Settled {
    let begun = Instant::now();
    let mut differ = keys.to_vec();
    let mut whole = None;
    let mut asked = false;
    loop {
        let mut amiss = amiss(ground, client).await;
        if amiss.is_empty() && whole.is_none() {
            differ = differing(client, &differ).await;
            whole = differ.is_empty().then(|| begun.elapsed());
        }
        if whole.is_some() {
            amiss.extend(suspected(client).await);
            let answers = if asked { client.repairs().await } else { client.repair_now().await };
            asked = true;
            amiss.extend(unequal_trees(answers));
        }
        let healthy = (whole.is_some() && amiss.is_empty()).then(|| begun.elapsed());
        if healthy.is_some() || begun.elapsed() >= within {
            if whole.is_none() {
                differ = differing(client, &differ).await;
            }
            return Settled { whole, healthy, amiss, differ };
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

/// Who does not think well of whom.
async fn suspected(client: &Client) -> Vec<String> {
    let mut amiss = Vec::new();
    for status in client.statuses().await.into_iter().filter_map(|(_, status)| status.ok()) {
        let members = status["members"].as_array().into_iter().flatten();
        for member in members.filter(|member| member["self"] != true && member["health"] != "up") {
            amiss.push(format!("{} calls {} {}", status["node"]["name"], member["name"], member["health"]));
        }
    }
    amiss
}

/// Copies whose trees have not been found the same since all were to be compared.
fn unequal_trees(answers: Vec<(String, Result<Json, Error>)>) -> Vec<String> {
    let of = |(address, answer): (String, Result<Json, Error>)| match answer {
        Ok(status) => match copies_waiting(&status) {
            0 => None,
            left => Some(format!("the trees of {left} copies at {} do not agree yet", status["name"])),
        },
        Err(why) => Some(format!("{address} does not say how its trees compare: {why}")),
    };
    answers.into_iter().filter_map(of).collect()
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
        // That a peer is suspect says nothing of what it holds.
        let members = status["members"].as_array().into_iter().flatten();
        for member in members.filter(|member| member["self"] != true && member["health"] == "down") {
            amiss.push(format!("{name} thinks {} is {}", member["name"], member["health"]));
        }
    }
    let all = ground.there().len();
    if heard < all && amiss.is_empty() {
        amiss.push(format!("{heard} of {all} nodes answer"));
    }
    amiss
}

/// Keys whose homes hold different versions, by their own word, which repairs nothing.
async fn differing(client: &Client, keys: &[Key]) -> Vec<Key> {
    let parts = keys.chunks(keys.len().div_ceil(AT_ONCE).max(1)).map(|part| {
        let (client, part) = (client.clone(), part.to_vec());
        let of_part = async move {
            let mut differing = Vec::new();
            for key in part {
                if !holds_the_same(&client, key).await {
                    differing.push(key);
                }
            }
            differing
        };
        tokio::task::spawn_local(of_part)
    });
    let running: Vec<_> = parts.collect();
    let mut differing = Vec::new();
    for part in running {
        // Only a defect of ours ends such a task; then nothing is known of its keys.
        match part.await {
            Ok(part) => differing.extend(part),
            Err(_) => return keys.to_vec(),
        }
    }
    differing
}

async fn holds_the_same(client: &Client, key: Key) -> bool {
    let (bucket, name) = place(key);
    let Ok(ring) = client.ring(bucket, name.as_bytes()).await else { return false };
    let held: BTreeSet<Option<Vec<String>>> =
        ring["homes"].as_array().into_iter().flatten().map(versions).collect();
    held.len() == 1 && !held.contains(&None)
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

const AT_ONCE: usize = 16;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const ALL: &str = "r=all; timeout=10s";
