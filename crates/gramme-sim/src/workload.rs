//! What clients do: lists of steps, made before the run.
//!
//! Keys are few and hot, so that writes meet; half of the steps build on what the client holds from before, as
//! applications do, the rest do not. Three buckets: `carts` keeps siblings, `default` lets the last writer win,
//! `own` has settings that are spread while the run goes on.

use crate::knobs::Knobs;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// One step of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// It begins at this simulated millisecond, or when the step before it has ended: so whatever is taken out
    /// of a list leaves the rest at its time.
    pub at_ms: u64,
    /// The host that is asked first; the next is asked second.
    pub host: usize,
    /// Which key: an index into [`keys`].
    pub key: usize,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Read, and hold the context.
    Get {
        /// Answers to wait for; 0 leaves it to the run.
        r: u8,
        /// Homes among them.
        pr: u8,
    },
    /// Read what this client has already seen, or later.
    SessionGet,
    /// Write a value.
    Put {
        /// With which context.
        with: With,
        /// Copies to wait for; 0 leaves it to the run.
        w: u8,
        /// Homes among them.
        pw: u8,
        /// How long the value lives; 0 is for ever.
        ttl_ms: u64,
        /// What the key must look like.
        #[serde(default)]
        expect: Expected,
        /// Whether copies in memory count; otherwise its bucket says so.
        #[serde(default)]
        buffered: bool,
    },
    /// Delete.
    Delete {
        /// With which context.
        with: With,
    },
    /// Read a page of the key's partition.
    List {
        /// The page's size.
        keys_max: u32,
        /// Whether values are wanted.
        values: bool,
    },
}

/// What a conditional write expects of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// Nothing: the write is not conditional.
    #[default]
    Anything,
    /// No value.
    Absent,
    /// Some value.
    Present,
}

/// The context of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum With {
    /// None.
    Nothing,
    /// What the client holds from its last read or write of the key; none if it holds nothing.
    Held,
    /// That of a read made just before.
    Fresh,
}

/// What clients mostly do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mix {
    /// Some of everything.
    #[default]
    Ordinary,
    /// Keys are deleted and made again.
    Churn,
    /// Every step builds on what the client holds, at another node.
    Roaming,
    /// Nobody looks before writing.
    Blind,
}

/// The buckets and keys of a run.
pub fn keys(knobs: &Knobs) -> Vec<(&'static str, String)> {
    let of = |bucket: &'static str| (0..knobs.keys).map(move |k| (bucket, format!("key-{k}")));
    of(SIBLINGS).chain(of(LWW)).chain(of(OWN)).collect()
}

/// The steps of each client.
pub fn draw(seed: u64, knobs: &Knobs) -> Vec<Vec<Step>> {
    (0..knobs.clients)
        .map(|client| {
            let mut rng = Rng::stream(seed, "workload", client as u64);
            let mut more = Rng::stream(seed, "more workload", client as u64);
            let mut at_ms = BEGIN_MS;
            let mut steps = Vec::new();
            while at_ms < knobs.length_ms && steps.len() < knobs.steps_max() {
                let mut step = step(&mut rng, knobs, at_ms);
                enrich(&mut more, knobs, &mut step);
                steps.push(step);
                at_ms += rng.spread(knobs.think_ms) + TYPICAL_MS;
            }
            steps
        })
        .collect()
}

fn step(rng: &mut Rng, knobs: &Knobs, at_ms: u64) -> Step {
    let n = knobs.n as u64;
    let hot = rng.chance(knobs.hot_percent * 10);
    let bucket = rng.pick(&[0, 0, 0, 1, 1, 2]);
    let key = bucket * knobs.keys + if hot { 0 } else { rng.index(knobs.keys) };
    let strict = rng.chance(300);
    let level = |rng: &mut Rng, least: u64| if strict { rng.between(least.min(n), n) as u8 } else { 0 };
    let w_least = if knobs.loses() { 2 } else { 1 };
    // Of twenty steps: reads up to the first number, session reads, puts, deletes, and the rest are lists.
    let [gets, sessions, puts, deletes] = match knobs.mix {
        Mix::Ordinary => [5, 7, 16, 18],
        Mix::Churn => [4, 6, 13, 19],
        Mix::Roaming => [2, 11, 18, 20],
        Mix::Blind => [3, 5, 18, 20],
    };
    let action = match rng.below(20) {
        dice if dice < gets => {
            let r = level(rng, 1);
            Action::Get { r, pr: r }
        }
        dice if dice < sessions => Action::SessionGet,
        dice if dice < puts => {
            let w = level(rng, w_least);
            let with = match knobs.mix {
                Mix::Roaming => With::Held,
                Mix::Blind => With::Nothing,
                Mix::Ordinary | Mix::Churn => {
                    rng.pick(&[With::Fresh, With::Fresh, With::Held, With::Nothing])
                }
            };
            let ttl_ms = if rng.chance(50) { TTL_MS } else { 0 };
            Action::Put { with, w, pw: w, ttl_ms, expect: Expected::Anything, buffered: false }
        }
        dice if dice < deletes => {
            Action::Delete { with: rng.pick(&[With::Held, With::Fresh, With::Nothing]) }
        }
        _ => Action::List { keys_max: rng.pick(&[1, 2, 100]), values: rng.chance(500) },
    };
    Step { at_ms, host: rng.index(knobs.machines()), key, action }
}

/// What some writes of some runs are besides.
fn enrich(rng: &mut Rng, knobs: &Knobs, step: &mut Step) {
    let Action::Put { expect, ttl_ms, buffered, .. } = &mut step.action else { return };
    *buffered = knobs.buffered && rng.chance(400);
    if knobs.buries() && rng.chance(200) {
        *ttl_ms = TTL_MS;
    }
    if knobs.conditions && rng.chance(200) {
        *expect = rng.pick(&[Expected::Absent, Expected::Present]);
    }
}

/// Keeps siblings.
pub const SIBLINGS: &str = "carts";
/// The last writer wins.
pub const LWW: &str = "default";
/// Has settings of its own.
pub const OWN: &str = "own";

/// How long a value lives that does not live for ever.
pub const TTL_MS: u64 = 700;
/// When the first step begins: the cluster has met.
const BEGIN_MS: u64 = 310;
/// What an undisturbed step takes.
const TYPICAL_MS: u64 = 5;
