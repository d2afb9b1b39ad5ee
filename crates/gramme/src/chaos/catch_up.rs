//! The scenario "catch-up": a node is down for many writes, comes back, and has them all soon, while those who
//! use the cluster hardly notice.
//!
//! The foreground is paced, not as fast as it can be: what is measured is how long its requests take before the
//! node was killed and while it catches up, not how much work a machine can do at once.

use super::foreground::{Foreground, Took, each_key};
use super::ground::Ground;
use super::settle::amiss;
use crate::failure::Failure;
use crate::output::{grouped, print_json, print_line};
use gramme_client::{Client, Options};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What was measured.
struct Figures {
    writes: u32,
    wrote_in: Duration,
    failed: u32,
    served_after: Duration,
    whole_after: Option<Duration>,
    amiss: Vec<String>,
    before: Took,
    during: Took,
}

/// Runs it, and says whether all that is asked of it came true.
pub(super) async fn catch_up(
    ground: &mut Ground,
    writes: u32,
    within: Duration,
    as_json: bool,
) -> Result<bool, Failure> {
    let client = Client::without_asking(&ground.urls(), Options::default())?;
    let foreground = Foreground::begin(&ground.urls())?;
    sleep(WARM_UP).await;
    foreground.take();
    sleep(BASELINE).await;
    let before = foreground.take();
    ground.kill(DOWN).await;
    let begun = Instant::now();
    let failed = each_key(&ground.urls(), writes, async |client: &Client, number| {
        client.put(BUCKET, key(number).as_bytes(), vec![b'v'; VALUE_BYTES]).await.is_ok()
    })
    .await?;
    let wrote_in = begun.elapsed();
    // What the writes themselves cost is over before the node returns.
    sleep(WARM_UP).await;
    foreground.take();
    let begun = Instant::now();
    let served_after = ground.restart(DOWN).await?;
    let (whole_after, amiss) = loop {
        let left = left_to_do(ground, &client, writes).await;
        if left.is_empty() {
            break (Some(begun.elapsed()), left);
        }
        if begun.elapsed() > within {
            break (None, left);
        }
        sleep(BETWEEN_LOOKS).await;
    };
    let during = foreground.take();
    foreground.stop();
    let figures = Figures { writes, wrote_in, failed, served_after, whole_after, amiss, before, during };
    figures.print(as_json)
}

/// What the nodes say is left, and then how many keys of a sample some home lacks, by the homes' own word.
async fn left_to_do(ground: &Ground, client: &Client, writes: u32) -> Vec<String> {
    let mut left = amiss(ground, client).await;
    if left.is_empty() {
        let mut lacking = 0;
        for number in (0..writes).step_by((writes / SAMPLE).max(1) as usize) {
            let held = client.ring(BUCKET, key(number).as_bytes()).await;
            let all_hold = held.is_ok_and(|ring| {
                let homes = ring["homes"].as_array().cloned().unwrap_or_default();
                homes
                    .iter()
                    .all(|home| home["holds"]["siblings"].as_array().is_some_and(|held| held.len() == 1))
            });
            lacking += u32::from(!all_hold);
        }
        if lacking > 0 {
            left.push(format!("{lacking} of {} keys are not at all their homes", writes.min(SAMPLE)));
        }
    }
    left
}

impl Figures {
    fn print(&self, as_json: bool) -> Result<bool, Failure> {
        let steady = self.during.at(99) <= 2 * self.before.at(99);
        let kept = self.failed == 0 && self.whole_after.is_some_and(|took| took <= MINUTE);
        if as_json {
            print_json(&json!({
                "writes": self.writes,
                "failed": self.failed,
                "wrote_ms": self.wrote_in.as_millis() as u64,
                "served_after_ms": self.served_after.as_millis() as u64,
                "whole_after_ms": self.whole_after.map(|took| took.as_millis() as u64),
                "amiss": self.amiss,
                "p50_us": { "before": self.before.at(50), "during": self.during.at(50) },
                "p99_us": { "before": self.before.at(99), "during": self.during.at(99) },
                "foreground": { "before": self.before.count(), "during": self.during.count() },
                "within_a_minute": kept,
                "p99_within_twice": steady,
            }))?;
            return Ok(kept && steady);
        }
        print_line(&format!(
            "{} writes in {:.1} s while node {DOWN} was down, {} of them failed\n\
             it served again after {:.1} s, and everything was everywhere {}\n\
             foreground p50 {} us before, {} us while it caught up; p99 {} us before, {} us while it caught up",
            grouped(self.writes.into()),
            self.wrote_in.as_secs_f64(),
            self.failed,
            self.served_after.as_secs_f64(),
            match self.whole_after {
                Some(took) => format!("after {:.1} s", took.as_secs_f64()),
                None => format!("NOT in time: {}", self.amiss.join("; ")),
            },
            self.before.at(50),
            self.during.at(50),
            self.before.at(99),
            self.during.at(99),
        ))?;
        print_line(match (kept, steady) {
            (true, true) => "KEPT: within a minute, and p99 within twice its value before",
            (true, false) => "BROKEN: p99 rose to more than twice its value before",
            (false, _) => "BROKEN: not everything was there within a minute",
        })?;
        Ok(kept && steady)
    }
}

fn key(number: u32) -> String {
    format!("key-{number}")
}

const DOWN: usize = 1;
const BUCKET: &str = "catch-up";
const VALUE_BYTES: usize = 100;
const WARM_UP: Duration = Duration::from_secs(3);
const BASELINE: Duration = Duration::from_secs(15);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
const SAMPLE: u32 = 2_000;
const MINUTE: Duration = Duration::from_secs(60);
