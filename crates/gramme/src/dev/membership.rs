//! `gramme dev add` and `remove`: the supervisor makes and starts, or will stop, the node; that it joins or leaves is
//! staged here, through the nodes that run, as `gramme cluster` does it.

use super::Place;
use super::control::{Order, order_at};
use super::grow::check_zone;
use super::ready::client;
use crate::failure::Failure;
use crate::nodes::runtime;
use crate::output::{print_json, print_line};
use gramme_client::Error;
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Another node comes.
pub(super) fn add(place: &Place, zone: Option<String>) -> Result<(), Failure> {
    zone.as_deref().map_or(Ok(()), check_zone)?;
    let made = order_at(place, Order::Add(zone))?;
    let (number, name) = (&made["node"], made["name"].as_str().unwrap_or_default());
    if !place.json {
        eprintln!("node {number} runs");
    }
    stage(&made, &json!({ "change": "join", "node": name }), HEARD_OF).map_err(|why| {
        Failure::failed(format!(
            "node {number} runs, and its join could not be staged ({}): stage it with `gramme cluster join {name}{}`",
            why.sentence(),
            named(&made)
        ))
    })?;
    tell(place, &made, &format!("node {number} runs and its join is staged"))
}

/// A node goes.
pub(super) fn remove(place: &Place, node: usize) -> Result<(), Failure> {
    let found = order_at(place, Order::Remove(node))?;
    let name = found["name"].as_str().unwrap_or_default();
    let asked = runtime()?.block_on(was_member(&through(&found), name));
    if !asked.map_err(Failure::from)? {
        return forget(place, node);
    }
    let change = json!({ "change": "leave", "node": found["name"] });
    stage(&found, &change, Duration::ZERO).map_err(|why| {
        Failure::failed(format!("the leave of node {node} could not be staged: {}", why.sentence()))
    })?;
    let later = if found["running"] == true {
        "is stopped once it has handed over what it has".to_string()
    } else {
        format!("does not run, and hands over what it has once it does (`gramme dev start {node}`)")
    };
    tell(place, &found, &format!("the leave of node {node} is staged; after the commit it {later}"))
}

/// Whether a node is or was a member by any layout that is remembered.
async fn was_member(through: &[String], name: &str) -> Result<bool, Error> {
    let client = client(through)?;
    let (status, history) = (client.status().await?, client.history().await?);
    let members = status["members"].as_array().into_iter().flatten().map(|member| &member["name"]);
    let layouts = history["layouts"].as_array().into_iter().flatten();
    let came = layouts.flat_map(|layout| layout["came"].as_array().into_iter().flatten());
    Ok(members.chain(came).any(|other| other == name))
}

/// One that never was a member has nothing to hand over.
fn forget(place: &Place, node: usize) -> Result<(), Failure> {
    let told = order_at(place, Order::Forget(node))?;
    if place.json {
        return print_json(&told);
    }
    print_line(&format!(
        "node {node} was no member and is stopped for good; if its join is staged, `gramme cluster clear` takes that back"
    ))
}

/// Stages a change through the nodes that run. A cluster may take a moment to hear of one that is new.
fn stage(answer: &Json, change: &Json, patience: Duration) -> Result<(), Failure> {
    let through = through(answer);
    runtime()?.block_on(async {
        let until = Instant::now() + patience;
        loop {
            match stage_once(&through, change).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= until => return Err(Failure::failed(why.to_string())),
                Err(_) => sleep(AGAIN).await,
            }
        }
    })
}

async fn stage_once(through: &[String], change: &Json) -> Result<(), Error> {
    client(through)?.stage(change).await.map(drop)
}

fn tell(place: &Place, answer: &Json, what: &str) -> Result<(), Failure> {
    if place.json {
        return print_json(
            &json!({ "ok": what, "node": answer["node"], "name": answer["name"], "staged": true }),
        );
    }
    print_line(&format!("{what}\nsee what it would do: gramme cluster plan{}", named(answer)))
}

fn through(answer: &Json) -> Vec<String> {
    answer["through"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|url| url.as_str().map(str::to_string))
        .collect()
}

/// What commands must be given to find the cluster.
fn named(answer: &Json) -> String {
    match through(answer).first().map(String::as_str) {
        None | Some("http://127.0.0.1:7400" | "http://127.0.0.1:7410" | "http://127.0.0.1:7420") => {
            String::new()
        }
        Some(url) => format!(" --node {url}"),
    }
}

/// Within which a cluster hears of a new node.
const HEARD_OF: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(250);
