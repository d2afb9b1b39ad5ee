//! The scenario "ring": nodes come, and then as many of the first ones go, while clients read, write and delete; in the
//! middle of each transfer a node is killed and started again. Nothing may be lost, come back, or fail for a client that
//! tries a second node.
//!
//! To grow is one round and to shrink the other, with the load of rounds and its judgement. Which node is killed takes
//! turns: one to which partitions come, then one from which they do. Where the middle of a transfer is, the nodes say;
//! no time is guessed.

use super::Chaos;
use super::ground::Ground;
use super::report::{Changed, Round};
use super::run::Run;
use crate::changing::{arrived, coming};
use crate::cluster::{Number, is_done, number};
use crate::failure::Failure;
use gramme_client::{Client, Error, Options};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How many nodes come, and how many go after that.
pub(super) const COME: usize = 3;
/// How many there are at first, if it is not said.
pub(super) const MEMBERS: u16 = 3;

/// Runs it, and says whether every promise was kept.
pub(super) async fn ring(ground: &mut Ground, options: &Chaos) -> Result<bool, Failure> {
    let mut run = Run::new(options);
    let first = ground.there().len();
    let (come, go) = ((first..first + COME).collect(), (0..COME).collect());
    round(ground, options, &mut run, Turn::Grow(come)).await?;
    round(ground, options, &mut run, Turn::Shrink(go)).await?;
    run.end(ground).await
}

/// What a round does to the ring.
enum Turn {
    Grow(Vec<usize>),
    Shrink(Vec<usize>),
}

async fn round(ground: &mut Ground, options: &Chaos, run: &mut Run<'_>, turn: Turn) -> Result<(), Failure> {
    let load = run.begin(&ground.urls())?;
    sleep(options.quarter()).await;
    let changed = change(ground, options, &turn).await?;
    sleep(options.quarter()).await;
    let fault = if matches!(turn, Turn::Grow(_)) { "grow" } else { "shrink" };
    let what = format!("{fault} to {}: {}", ground.there().len(), changed.words());
    let mut round = Round { what, fault, changed: Some(changed), ..Round::default() };
    let of_round = load.end(&mut round).await?;
    run.settle(ground, round, of_round).await
}

/// Stages it, commits it, kills nodes on the way and waits for the end of it. Nodes that went are stopped.
async fn change(ground: &mut Ground, options: &Chaos, turn: &Turn) -> Result<Changed, Failure> {
    let until = Instant::now() + Duration::from_secs(options.settle_secs);
    let client = Client::without_asking(&ground.urls(), Options::default())?;
    match turn {
        Turn::Grow(nodes) => {
            for &node in nodes {
                ground.come(node).await?;
                stage(&client, json!({ "change": "join", "node": Ground::name(node) }), until).await?;
            }
        }
        Turn::Shrink(nodes) => {
            for &node in nodes {
                stage(&client, json!({ "change": "leave", "node": Ground::name(node) }), until).await?;
            }
        }
    }
    let plan = client.plan().await?;
    let begun = Instant::now();
    let committed = client.commit(plan["hash"].as_str().unwrap_or_default(), false).await?;
    let layouts: Vec<Number> = committed["layouts"].as_array().into_iter().flatten().map(number).collect();
    let mut killed = Vec::new();
    for &layout in &layouts {
        let fills = killed.len() % 2 == 0;
        if let Some(node) = in_the_middle(ground, layout, fills, until).await? {
            ground.kill(node).await;
            sleep(options.quarter()).await;
            ground.restart(node).await?;
            killed.push(format!("{} (layout {})", Ground::name(node), layout.1));
        }
    }
    let last = layouts.last().copied().unwrap_or_default();
    until_true(until, "the ring to be changed", async || is_done(&told(ground).await.0, last)).await?;
    let took = begun.elapsed();
    if let Turn::Shrink(nodes) = turn {
        for &node in nodes {
            let url = ground.url(node);
            let is_gone = async || client.layout_of(&url).await.is_ok_and(|layout| layout["is_gone"] == true);
            until_true(until, "a node that goes to have handed over what it has", is_gone).await?;
            ground.go(node).await;
        }
    }
    let moved = plan["replicas"].as_u64().unwrap_or(0);
    Ok(Changed { moved, layouts: layouts.len(), took, killed })
}

/// A cluster may take a moment to hear of a node that is new.
async fn stage(client: &Client, change: Json, until: Instant) -> Result<(), Failure> {
    loop {
        match client.stage(&change).await {
            Ok(_) => return Ok(()),
            Err(why) if Instant::now() >= until => return Err(why.into()),
            Err(_) => sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// Waits until some of what must come by a layout has come and some has not, and gives a node to which it comes, or one
/// from which it does; none if everybody reads by the layout before that was seen.
async fn in_the_middle(
    ground: &Ground,
    layout: Number,
    fills: bool,
    until: Instant,
) -> Result<Option<usize>, Failure> {
    let mut found = None;
    until_true(until, "a transfer to begin", async || {
        let (layouts, transfers) = told(ground).await;
        let is_gone_to = layouts.iter().any(|one| number(&one["target"]) == layout);
        let (there, still): (u64, u64) =
            (transfers.iter().map(arrived).sum(), transfers.iter().map(coming).sum());
        if is_gone_to && there > 0 && still > 0 {
            found = node_of(ground, &transfers, fills);
        }
        found.is_some() || is_done(&layouts, layout)
    })
    .await?;
    Ok(found)
}

/// The node with the most to come, or the one that is awaited by most.
fn node_of(ground: &Ground, transfers: &[Json], fills: bool) -> Option<usize> {
    let filling = transfers.iter().max_by_key(|one| coming(one))?;
    if fills {
        return ground.named(filling["name"].as_str()?);
    }
    let from = filling["from"].as_array()?.iter().max_by_key(|one| one["partitions"].as_u64())?;
    ground.named(from["name"].as_str()?)
}

/// The layouts and the transfers of all nodes that answer.
async fn told(ground: &Ground) -> (Vec<Json>, Vec<Json>) {
    let Ok(client) = Client::without_asking(&ground.urls(), Options::default()) else {
        return Default::default();
    };
    let answers = |all: Vec<(String, Result<Json, Error>)>| {
        all.into_iter().filter_map(|(_, answer)| answer.ok()).collect()
    };
    let (layouts, transfers) = tokio::join!(client.layouts(), client.transfers());
    (answers(layouts), answers(transfers))
}

async fn until_true(
    until: Instant,
    what: &str,
    mut is_true: impl AsyncFnMut() -> bool,
) -> Result<(), Failure> {
    while !is_true().await {
        if Instant::now() >= until {
            return Err(Failure::failed(format!("it took too long for {what}: see --settle-secs")));
        }
        sleep(BETWEEN_LOOKS).await;
    }
    Ok(())
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
