//! What is going on in a cluster besides requests, over those nodes that answered: the figures of the dashboard, and
//! where the load is.

use super::view::View;
use crate::status::load::Load;
use crate::status::word;
use gramme_server::figures::{counted, grouped, span};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// Sums and extremes of what the nodes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Going {
    pub(super) hints: u64,
    pub(super) hint_oldest_ms: u64,
    /// Which nodes are refilled, with how many partitions.
    pub(super) refilled: Vec<(String, u64)>,
    pub(super) audit_oldest_ms: Option<u64>,
    pub(super) audits_missing: u64,
    pub(super) audits_different: u64,
    /// Writes that a home had not seen when it last compared.
    pub(super) unseen: u64,
    pub(super) tombstones: u64,
    /// For whom tombstones wait.
    pub(super) waits_for: BTreeSet<String>,
}

impl Going {
    pub(super) fn of(view: &View) -> Going {
        let says: Vec<&Json> = view.nodes().iter().map(|node| &node["says"]).collect();
        let figures = |section: &str, key: &str| -> Vec<u64> {
            says.iter().filter_map(|says| says[section][key].as_u64()).collect()
        };
        let sum = |section: &str, key: &str| figures(section, key).iter().sum::<u64>();
        let refilled = view.nodes().iter().filter_map(|node| {
            let partitions = node["says"]["refilling"].as_array()?.len() as u64;
            (partitions > 0).then(|| (word(&node["name"]), partitions))
        });
        let lags = says.iter().flat_map(|says| says["behind"].as_array().into_iter().flatten());
        let waits =
            says.iter().flat_map(|says| says["store"]["reclaim_blocked_by"].as_array().into_iter().flatten());
        Going {
            hints: sum("node", "hints"),
            hint_oldest_ms: figures("node", "hint_oldest_ms").into_iter().max().unwrap_or(0),
            refilled: refilled.collect(),
            audit_oldest_ms: figures("audits", "oldest_ms").into_iter().max(),
            audits_missing: sum("audits", "missing"),
            audits_different: sum("audits", "different"),
            unseen: lags.filter_map(|lag| lag["unseen"].as_u64()).sum(),
            tombstones: sum("store", "tombstones"),
            waits_for: waits.map(word).collect(),
        }
    }

    /// Pairs of a name and a sentence.
    pub(super) fn sentences(&self) -> Vec<(&'static str, String)> {
        let hints = match self.hints {
            0 => "none is kept for another node".to_string(),
            hints => {
                let oldest = span(self.hint_oldest_ms / 1000);
                format!("{} to hand over, the oldest kept for {oldest}", grouped(hints))
            }
        };
        let refills = match self.refilled.as_slice() {
            [] => "no node is being refilled".to_string(),
            nodes => {
                let of = |(name, partitions): &(String, u64)| {
                    format!("{name} still lacks {}", counted(*partitions, "partition", "partitions"))
                };
                nodes.iter().map(of).collect::<Vec<_>>().join("; ")
            }
        };
        let mut audits = match self.audit_oldest_ms {
            Some(ms) => format!("the oldest is of {} ago", span(ms / 1000)),
            None => "no node told of any".to_string(),
        };
        if self.audits_missing + self.audits_different > 0 {
            let (missing, different) = (grouped(self.audits_missing), grouped(self.audits_different));
            audits.push_str(&format!("; {missing} not yet done, {different} left a difference"));
        }
        let mut sentences = vec![("hints", hints), ("refills", refills), ("audits", audits)];
        if self.unseen > 0 {
            let unseen = counted(self.unseen, "write is", "writes are");
            sentences.push(("unseen", format!("{unseen} on the way to some home")));
        }
        if !self.waits_for.is_empty() && self.tombstones > 0 {
            let names: Vec<&str> = self.waits_for.iter().map(String::as_str).collect();
            let waiting = format!("{} in all, some wait for {}", grouped(self.tombstones), names.join(", "));
            sentences.push(("tombstones", waiting));
        }
        sentences
    }

    pub(super) fn json(&self) -> Json {
        let refilled =
            self.refilled.iter().map(|(name, partitions)| json!({ "node": name, "partitions": partitions }));
        json!({
            "hints": self.hints,
            "hint_oldest_ms": self.hint_oldest_ms,
            "refilled": refilled.collect::<Vec<_>>(),
            "audit_oldest_ms": self.audit_oldest_ms,
            "audits_missing": self.audits_missing,
            "audits_different": self.audits_different,
            "unseen": self.unseen,
            "tombstones": self.tombstones,
            "tombstones_wait_for": self.waits_for,
        })
    }
}

/// The hottest partition, and how evenly nodes carry the load.
pub(super) fn load_sentence(load: &Load, members: &[Json]) -> String {
    let hottest = load.hottest();
    let Some((partition, rate)) = hottest.first().filter(|(_, rate)| rate.all() > 0.0) else {
        return "no requests in the last minute or two".to_string();
    };
    let out = (load.imbalance(&load.shares(members), members) * members.len() as f64).round() as usize;
    format!(
        "partition {partition} is the hottest: {:.1}% of requests, at {}; {out} of {} carry over 15 % more or less than fair",
        rate.all() / load.total() * 100.0,
        rate.homes.join(", "),
        counted(members.len() as u64, "node", "nodes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of(says: Json) -> Going {
        let overview = json!({ "nodes": [
            { "name": "n0", "says": says },
            { "name": "n1", "says": { "node": { "hints": 2, "hint_oldest_ms": 1_000 }, "audits": { "oldest_ms": 9_000 } } },
            { "name": "n2", "says": null },
        ] });
        Going::of(&View::next(None, overview, Duration::ZERO))
    }

    fn sentences(going: &Going) -> Vec<String> {
        going.sentences().into_iter().map(|(name, sentence)| format!("{name}: {sentence}")).collect()
    }

    #[test]
    fn what_nodes_say_is_summed_and_the_oldest_is_told() {
        let going = of(json!({
            "node": { "hints": 1200, "hint_oldest_ms": 65_000 },
            "refilling": [{ "partition": 3, "from": ["n1"] }],
            "behind": [{ "partition": 3, "peer": "n1", "unseen": 4 }, { "partition": 4, "peer": "n1", "unseen": 1 }],
            "store": { "tombstones": 7, "reclaim_blocked_by": ["n2"] },
            "audits": { "oldest_ms": 190_000, "missing": 3, "different": 1 },
        }));
        let expected = [
            "hints: 1,202 to hand over, the oldest kept for 1 min",
            "refills: n0 still lacks 1 partition",
            "audits: the oldest is of 3 min ago; 3 not yet done, 1 left a difference",
            "unseen: 5 writes are on the way to some home",
            "tombstones: 7 in all, some wait for n2",
        ];
        assert_eq!(sentences(&going), expected);
    }

    #[test]
    fn a_quiet_cluster_says_so_in_three_lines() {
        let going = of(json!({
            "node": { "hints": 0, "hint_oldest_ms": 0 }, "audits": { "oldest_ms": 5_000, "missing": 0, "different": 0 },
        }));
        let quiet = Going { hints: 0, ..going };
        let expected = [
            "hints: none is kept for another node",
            "refills: no node is being refilled",
            "audits: the oldest is of 9 s ago",
        ];
        assert_eq!(sentences(&quiet), expected);
    }
}
