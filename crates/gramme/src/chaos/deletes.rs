//! The scenario "deletes": with reclaim on, tombstones go by themselves within a stated time while all nodes are up;
//! while a home is down they stay, and the cluster says for whom they wait; and they go after it returns.
//!
//! What is left is judged by each node's own count and by what the homes of a sample of keys say that they hold: a
//! count alone would be 0 of a node that has not yet counted.

use super::foreground::{Foreground, Took, each_key};
use super::ground::Ground;
use crate::failure::Failure;
use crate::output::{grouped, print_json, print_line};
use gramme_client::{Client, Options, Write};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What was measured.
#[derive(Default)]
struct Figures {
    deletes: u32,
    failed: u32,
    took: Took,
    /// All nodes were up: after how long the last tombstone was gone.
    up: Option<Duration>,
    /// One was down, for so long.
    down_for: Duration,
    /// What was left then: tombstones that the nodes counted, and keys of the sample that its homes held.
    down_tombstones: u64,
    down_held: u32,
    /// Which members the nodes said they wait for.
    waits_for: Vec<String>,
    /// It is back: after how long the last was gone.
    back: Option<Duration>,
    /// What is left in the end.
    left: Left,
}

/// What is left of tombstones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Left {
    /// As the nodes count them.
    counted: u64,
    /// Keys of the sample of which some home holds something, or does not answer.
    held: u32,
    /// Whom the nodes name.
    waits_for: Vec<String>,
    silent: u32,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.counted == 0 && self.held == 0 && self.silent == 0
    }
}

/// Runs it, and says whether all that is asked of it came true.
pub(super) async fn deletes(
    ground: &mut Ground,
    deletes: u32,
    within: Duration,
    as_json: bool,
) -> Result<bool, Failure> {
    let client = Client::without_asking(&ground.urls(), Options::default())?;
    let foreground = Foreground::begin(&ground.urls())?;
    sleep(WARM_UP).await;
    foreground.take();
    let mut figures = Figures { deletes, ..Figures::default() };

    figures.failed += write_and_delete(ground, "up", deletes).await?;
    (figures.up, figures.left) = gone(&client, "up", deletes, within).await;
    figures.took = foreground.take();
    if figures.up.is_none() {
        foreground.stop();
        return figures.print(as_json);
    }

    figures.failed += write(ground, "down", deletes).await?;
    ground.kill(DOWN).await;
    figures.failed += delete(ground, "down", deletes).await?;
    let begun = Instant::now();
    sleep(within).await;
    let left = left(&client, "down", deletes).await;
    figures.down_for = begun.elapsed();
    (figures.down_tombstones, figures.down_held) = (left.counted, left.held);
    figures.waits_for = left.waits_for;
    ground.restart(DOWN).await?;
    (figures.back, figures.left) = gone(&client, "down", deletes, within).await;
    foreground.stop();
    figures.print(as_json)
}

async fn write_and_delete(ground: &Ground, phase: &'static str, count: u32) -> Result<u32, Failure> {
    Ok(write(ground, phase, count).await? + delete(ground, phase, count).await?)
}

async fn write(ground: &Ground, phase: &'static str, count: u32) -> Result<u32, Failure> {
    each_key(&ground.urls(), count, async move |client: &Client, number| {
        client.put(BUCKET, key(phase, number).as_bytes(), vec![b'v'; VALUE_BYTES]).await.is_ok()
    })
    .await
}

/// Half of them without a context.
async fn delete(ground: &Ground, phase: &'static str, count: u32) -> Result<u32, Failure> {
    each_key(&ground.urls(), count, async move |client: &Client, number| {
        let key = key(phase, number);
        let context = match number % 2 {
            0 => None,
            _ => match client.get(BUCKET, key.as_bytes()).await {
                Ok(got) => got.context().cloned(),
                Err(_) => return false,
            },
        };
        let ask = Write { context, ..Write::default() };
        client.delete(BUCKET, key.as_bytes(), &ask).await.is_ok()
    })
    .await
}

/// Waits until nothing is left, and says after how long that was.
async fn gone(client: &Client, phase: &str, count: u32, within: Duration) -> (Option<Duration>, Left) {
    let begun = Instant::now();
    loop {
        let left = left(client, phase, count).await;
        if left.is_nothing() {
            return (Some(begun.elapsed()), left);
        }
        if begun.elapsed() > within {
            return (None, left);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

async fn left(client: &Client, phase: &str, count: u32) -> Left {
    let mut left = Left::default();
    for (_, status) in client.statuses().await {
        let Ok(status) = status else {
            left.silent += 1;
            continue;
        };
        left.counted += status["store"]["tombstones"].as_u64().unwrap_or(0);
        let names = status["store"]["reclaim_blocked_by"].as_array().into_iter().flatten();
        left.waits_for.extend(names.filter_map(Json::as_str).map(str::to_string));
    }
    left.waits_for.sort();
    left.waits_for.dedup();
    // While many are counted the sample would only cost time.
    if left.counted == 0 || left.silent > 0 {
        for number in (0..count).step_by((count / SAMPLE).max(1) as usize) {
            let ring = client.ring(BUCKET, key(phase, number).as_bytes()).await;
            let homes = ring.as_ref().ok().and_then(|ring| ring["homes"].as_array());
            left.held +=
                u32::from(homes.is_none_or(|homes| !homes.iter().all(|home| home["holds"].is_null())));
        }
    }
    left
}

impl Figures {
    fn print(&self, as_json: bool) -> Result<bool, Failure> {
        let name = format!("node-{DOWN}");
        let stayed = self.down_tombstones > 0 && self.down_held > 0 && self.waits_for.contains(&name);
        let kept = self.failed == 0 && self.up.is_some() && stayed && self.back.is_some();
        if as_json {
            let millis = |took: Duration| took.as_millis() as u64;
            print_json(&json!({
                "kept": kept,
                "deletes": self.deletes,
                "failed": self.failed,
                "foreground_p99_us": self.took.at(99),
                "gone_ms": self.up.map(millis),
                "down": {
                    "for_ms": millis(self.down_for),
                    "tombstones": self.down_tombstones,
                    "waits_for": self.waits_for,
                },
                "gone_after_return_ms": self.back.map(millis),
                "left": { "tombstones": self.left.counted, "held": self.left.held, "waits_for": self.left.waits_for },
            }))?;
            return Ok(kept);
        }
        let after = |took: Option<Duration>| match took {
            Some(took) => format!("gone {:.1} s after the last of them", took.as_secs_f64()),
            None => format!(
                "NOT gone in time: {} counted, {} of {SAMPLE} keys held, waiting for {:?}",
                grouped(self.left.counted),
                self.left.held,
                self.left.waits_for
            ),
        };
        print_line(&format!(
            "{} deletes under load with all nodes up, {} requests failed: their tombstones were {}",
            grouped(self.deletes.into()),
            self.failed,
            after(self.up)
        ))?;
        if self.up.is_some() {
            print_line(&format!(
                "as many with node {DOWN} down: {} tombstones were there {:.0} s later, waiting for {}\n\
                 after it had returned they were {}",
                grouped(self.down_tombstones),
                self.down_for.as_secs_f64(),
                if self.waits_for.is_empty() { "nobody".to_string() } else { self.waits_for.join(", ") },
                after(self.back)
            ))?;
        }
        print_line(match (self.up, stayed, self.back) {
            (None, ..) => "BROKEN: tombstones stayed though all nodes were up",
            (_, false, _) => "BROKEN: with a home down tombstones went, or nobody said for whom they wait",
            (.., None) => "BROKEN: tombstones stayed though all nodes were up again",
            _ if self.failed > 0 => "BROKEN: requests failed",
            _ => "KEPT: gone in time, kept while a home was down, and gone in time when it was back",
        })?;
        Ok(kept)
    }
}

fn key(phase: &str, number: u32) -> String {
    format!("{phase}-{number}")
}

const DOWN: usize = 1;
const BUCKET: &str = "deletes";
const VALUE_BYTES: usize = 100;
const WARM_UP: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
const SAMPLE: u32 = 500;
