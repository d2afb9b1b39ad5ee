//! What each check looks at, in what nodes say of themselves. Pure: from statuses to sentences, each with what to do.

use super::clocks::{self, Reading};
use super::disk::{judge_files, judge_space};
use super::{Finding, Verdict, ring};
use crate::status::word;
use gramme_core::bucket::Level;
use gramme_server::figures::counted;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

use Verdict::{Bad, Ok as Fine, Warn};

pub(super) type Found = Vec<(Verdict, String)>;

/// Every check of a cluster, from what `/v1/cluster/overview` says of it, in the order in which a person would go about
/// it. One that finds nothing says so in a line of its own.
pub(super) fn all(overview: &Json, buckets: &Json, readings: &BTreeMap<String, Reading>) -> Vec<Finding> {
    let (asked, nodes) = (&overview["asked"], overview["nodes"].as_array().map_or(&[][..], Vec::as_slice));
    let says: Vec<(&str, &Json)> = nodes
        .iter()
        .filter(|node| node["says"].is_object())
        .filter_map(|node| Some((node["name"].as_str()?, &node["says"])))
        .collect();
    let of_each = |check: fn(&str, &Json) -> Found| -> Found {
        says.iter().flat_map(|(name, says)| check(name, says)).collect()
    };
    let checks: [(&'static str, Found, &str); 12] = [
        ("nodes", nodes.iter().flat_map(problems).collect(), "every node answers and serves"),
        ("links", links(&says), "the nodes that answer reach each other"),
        ("versions", versions(&says), "the nodes that answer run one version with one layout"),
        ("clocks", vec![clocks::judge(readings)], ""),
        ("syncs", of_each(syncs), "syncs are quick wherever they were measured"),
        ("space", of_each(space), "the disks have room"),
        ("files", of_each(files), "nodes may open files enough"),
        ("layout", layout(asked, nodes.len() as u64), "copies lie so that a node or a zone may be lost"),
        ("ring", ring::change(&overview["change"]), "nothing keeps the ring from changing"),
        ("plan", ring::plan(&overview["change"]), "nothing is staged that wants a second look"),
        (
            "quorums",
            quorums(asked, buckets),
            "every bucket reads and writes so that a read meets every write",
        ),
        ("doors", of_each(doors), "no door is open to other machines without a token or TLS"),
    ];
    checks
        .into_iter()
        .flat_map(|(check, mut found, well)| {
            if found.is_empty() {
                found.push((Fine, well.to_string()));
            }
            found.into_iter().map(move |(verdict, says)| Finding { check, verdict, says })
        })
        .collect()
}

/// What `gramme status` warns of: whatever is the matter with a node, with its hints, tombstones, audits and rows.
fn problems(node: &Json) -> Found {
    let is_bad = node["colour"] == "red" || node["state"] == "full";
    let of = |problem: &Json| {
        let says =
            format!("{}: {}: {}", word(&node["name"]), word(&problem["what"]), word(&problem["remedy"]));
        (if is_bad { Bad } else { Warn }, says)
    };
    node["problems"].as_array().into_iter().flatten().map(of).collect()
}

/// Who does not reach whom, of those who answer us.
fn links(says: &[(&str, &Json)]) -> Found {
    let answering: BTreeSet<&str> = says.iter().map(|(name, _)| *name).collect();
    let mut found = Found::new();
    for (name, says) in says {
        for peer in says["members"].as_array().into_iter().flatten() {
            let other = word(&peer["name"]);
            let is_down = peer["health"] == "down";
            if is_down && answering.contains(&*other) {
                found.push((
                    Bad,
                    format!(
                        "{name} does not reach {other}, which answers us: look at the network between them, at {}",
                        word(&peer["peer"])
                    ),
                ));
            }
        }
    }
    found
}

fn versions(says: &[(&str, &Json)]) -> Found {
    let by = |of: &dyn Fn(&Json) -> String| {
        let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        says.iter().for_each(|(name, says)| names.entry(of(says)).or_default().push(name));
        names
    };
    let differ = |names: &BTreeMap<String, Vec<&str>>, what: &str| {
        let each: Vec<String> =
            names.iter().map(|(of, names)| format!("{} {what}{of}", names.join(", "))).collect();
        each.join("; ")
    };
    let mut found = Found::new();
    let versions = by(&|says| word(&says["version"]));
    if versions.len() > 1 {
        let says = format!("{}: bring all to one version", differ(&versions, "run v"));
        found.push((Warn, says));
    }
    let layouts = by(&|says| word(&says["layout"]["version"]));
    if layouts.len() > 1 {
        let says = format!(
            "{}: if that lasts for over a minute, look at the links between them",
            differ(&layouts, "use layout ")
        );
        found.push((Warn, says));
    }
    found
}

fn syncs(name: &str, says: &Json) -> Found {
    let us = says["node"]["background"]["sync_p99_us"].as_u64().unwrap_or(0);
    let verdict = match us {
        0..SYNC_WARN_US => return Found::new(),
        SYNC_WARN_US..SYNC_BAD_US => Warn,
        _ => Bad,
    };
    let says = format!(
        "one in a hundred syncs of {name} takes {} ms or more, and writes wait for them: give its data directory a faster disk, or one of its own",
        us / 1000
    );
    vec![(verdict, says)]
}

fn space(name: &str, says: &Json) -> Found {
    if says["store"]["engine"] == "memory" {
        let says = format!(
            "{name} keeps everything in memory and loses it when it ends: set storage.engine = \"fjall\" for what is to last"
        );
        return vec![(Warn, says)];
    }
    let figure = |key: &str| says["machine"][key].as_u64();
    let (Some(free), Some(bytes)) = (figure("disk_free_bytes"), figure("disk_bytes")) else {
        return Found::new();
    };
    let judged = judge_space(name, free, bytes, figure("disk_reserve_bytes").unwrap_or(0));
    if judged.0 == Fine { Found::new() } else { vec![judged] }
}

fn files(name: &str, says: &Json) -> Found {
    let Some(max) = says["machine"]["files_max"].as_u64() else { return Found::new() };
    let judged = judge_files(name, Some(max));
    if judged.0 == Fine { Found::new() } else { vec![judged] }
}

/// Whether copies are enough, and lie far enough apart.
fn layout(asked: &Json, members: u64) -> Found {
    let layout = &asked["layout"];
    let n = layout["n"].as_u64().unwrap_or(1);
    if n == 1 {
        let says = "N=1 keeps one copy of everything, and with its disk it is gone: for what is to last make a cluster of three nodes with N=3";
        return vec![(Warn, says.to_string())];
    }
    let mut found = Found::new();
    if members <= n {
        let says = format!(
            "with N={n} and {} nobody is left to stand in for one that is down, so what is written meanwhile has a copy less: have at least {}",
            counted(members, "node", "nodes"),
            counted(n + 1, "node", "nodes")
        );
        found.push((Warn, says));
    }
    let spread = &layout["spread"];
    let zones = spread["zones"].as_u64().unwrap_or(1);
    let lone = spread["in_one_zone"].as_u64().unwrap_or(0);
    if zones > 1 && lone > 0 {
        let says = format!(
            "all copies of {} lie in one zone, and are lost with it: have nodes of more weight in the other zones",
            counted(lone, "partition", "partitions")
        );
        found.push((Bad, says));
    }
    for (zone, partitions) in spread["majorities"].as_object().into_iter().flatten().filter(|_| zones > 1) {
        let says = format!(
            "zone {zone} has most copies of {}, which cannot be read or written at quorum without it: spread nodes evenly over three zones or more",
            counted(partitions.as_u64().unwrap_or(0), "partition", "partitions")
        );
        found.push((Warn, says));
    }
    if zones == 1 && members > 1 && found.is_empty() {
        let says =
            "all nodes are in one zone: name zones in the cluster file if some of them can fail together";
        found.push((Fine, says.to_string()));
    }
    found
}

/// Buckets in which a read need not meet what was written: chosen, and so worth a remark and no more.
fn quorums(asked: &Json, buckets: &Json) -> Found {
    let n = asked["layout"]["n"].as_u64().unwrap_or(1) as usize;
    let level = |json: &Json| Level::parse(&word(json))?.resolve(n).ok();
    let buckets = buckets["buckets"].as_array().into_iter().flatten();
    let weak = buckets.filter_map(|bucket| {
        let (r, w) = (level(&bucket["r"])?, level(&bucket["w"])?);
        let says = format!(
            "bucket {} has R={r} and W={w} of N={n}: a read may miss a write just acknowledged, unless it says what it has seen (Gramme-Min)",
            word(&bucket["bucket"])
        );
        (r + w <= n).then_some((Fine, says))
    });
    weak.collect()
}

fn doors(name: &str, says: &Json) -> Found {
    let open = says["machine"]["open_doors"].as_array().into_iter().flatten();
    open.map(|door| {
        (Warn, format!("{name}: {}: guard it, or be sure that only friends reach that address", word(door)))
    })
    .collect()
}

const SYNC_WARN_US: u64 = 50_000;
const SYNC_BAD_US: u64 = 500_000;
#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn says(at: usize) -> Json {
        let member = |other: usize| {
            json!({
                "name": format!("n{other}"), "zone": format!("z{other}"), "http": format!("h:{other}"),
                "peer": format!("p:{other}"), "self": at == other, "health": "up",
            })
        };
        json!({
            "version": "0.1.0",
            "layout": {
                "version": 1, "n": 3, "partitions": 16,
                "spread": { "zones": 4, "in_one_zone": 0, "majorities": {} },
            },
            "members": [member(0), member(1), member(2), member(3)],
            "node": {
                "name": format!("n{at}"), "standing": "continuous", "hint_bytes": 0, "hint_bytes_max": 1 << 30,
                "background": { "sync_p99_us": 900 },
            },
            "store": { "engine": "fjall", "broken": null, "tombstones": 0, "reclaim_blocked_by": [] },
            "machine": {
                "disk_bytes": 100_u64 << 30, "disk_free_bytes": 60_u64 << 30, "disk_reserve_bytes": 256 << 20,
                "files_max": 65_536, "open_doors": [],
            },
        })
    }

    /// What is found if `change` is made to what is known of node 1, apart from what is well.
    fn found(change: impl FnOnce(&mut Json)) -> Vec<(&'static str, Verdict, String)> {
        let node = |at: usize| json!({ "name": format!("n{at}"), "state": "up", "colour": "green", "problems": [], "says": says(at) });
        let mut overview = json!({ "asked": says(0), "nodes": [node(0), node(1), node(2), node(3)] });
        change(&mut overview["nodes"][1]);
        let reading = |at: usize| (format!("n{at}"), Reading { ahead_ms: 0.0, uncertain_ms: 1.0 });
        let findings = all(&overview, &json!({ "buckets": [] }), &(0..4).map(reading).collect());
        let unwell = findings.into_iter().filter(|finding| finding.verdict != Fine);
        unwell.map(|finding| (finding.check, finding.verdict, finding.says)).collect()
    }

    #[test]
    fn a_cluster_that_is_well_gives_nothing_to_do() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn whatever_is_wrong_is_named_with_what_to_do() {
        type Change = fn(&mut Json);
        let cases: [(&str, Verdict, &str, Change); 10] = [
            ("nodes", Bad, "n1: it is down: start it again", |node| {
                node["colour"] = "red".into();
                node["says"] = Json::Null;
                node["problems"] = json!([{ "what": "it is down", "remedy": "start it again" }]);
            }),
            ("nodes", Warn, "n1: it is slow: look at its disk", |node| {
                node["problems"] = json!([{ "what": "it is slow", "remedy": "look at its disk" }]);
            }),
            (
                "links",
                Bad,
                "n1 does not reach n2, which answers us: look at the network between them, at p:2",
                |node| {
                    node["says"]["members"][2]["health"] = "down".into();
                },
            ),
            ("versions", Warn, "n0, n2, n3 run v0.1.0; n1 run v0.2.0: bring all", |node| {
                node["says"]["version"] = "0.2.0".into();
            }),
            ("versions", Warn, "n1 use layout 2: if that lasts", |node| {
                node["says"]["layout"]["version"] = 2.into();
            }),
            ("syncs", Warn, "syncs of n1 takes 60 ms", |node| {
                node["says"]["node"]["background"]["sync_p99_us"] = 60_000.into();
            }),
            ("space", Warn, "n1 keeps everything in memory", |node| {
                node["says"]["store"]["engine"] = "memory".into();
            }),
            ("space", Bad, "n1 has 1.0 MiB of 100 GiB free", |node| {
                node["says"]["machine"]["disk_free_bytes"] = (1 << 20).into();
            }),
            ("files", Warn, "n1 may open 1024 files", |node| {
                node["says"]["machine"]["files_max"] = 1024.into();
            }),
            ("doors", Warn, "n1: listen.http is open: guard it", |node| {
                node["says"]["machine"]["open_doors"] = json!(["listen.http is open"]);
            }),
        ];
        for (check, verdict, words, change) in cases {
            match &*found(change) {
                [(c, v, says)] if (*c, *v) == (check, verdict) && says.contains(words) => {}
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn layouts_that_lose_too_much_with_a_node_or_a_zone_are_told() {
        let with = |n: u64, members: u64, spread: Json| {
            layout(&json!({ "layout": { "n": n, "spread": spread } }), members)
        };
        let spread = |zones: u64, lone: u64, majorities: Json| json!({ "zones": zones, "in_one_zone": lone, "majorities": majorities });
        for (found, verdict, words) in [
            (with(1, 1, spread(1, 16, json!({ "a": 16 }))), Warn, "N=1 keeps one copy"),
            (with(3, 3, spread(3, 0, json!({}))), Warn, "with N=3 and 3 nodes nobody is left to stand in"),
            (with(3, 4, spread(2, 2, json!({}))), Bad, "all copies of 2 partitions lie in one zone"),
            (with(3, 4, spread(2, 0, json!({ "a": 9 }))), Warn, "zone a has most copies of 9 partitions"),
            (with(3, 4, spread(1, 16, json!({ "a": 16 }))), Fine, "all nodes are in one zone"),
        ] {
            assert!(
                matches!(&*found, [(v, says)] if *v == verdict && says.contains(words)),
                "{words}: {found:?}"
            );
        }
        assert_eq!(with(3, 4, spread(4, 0, json!({}))), []);
    }

    #[test]
    fn a_bucket_whose_reads_may_miss_writes_is_worth_a_remark() {
        let bucket = |r: Json, w: Json| json!({ "bucket": "carts", "r": r, "w": w });
        let asked = says(0);
        let of = |r: Json, w: Json| quorums(&asked, &json!({ "buckets": [bucket(r, w)] }));
        assert_eq!(of("quorum".into(), "quorum".into()), []);
        assert_eq!(of("one".into(), "all".into()), []);
        let weak = of(1.into(), "one".into());
        assert!(
            matches!(&*weak, [(Fine, says)] if says.starts_with("bucket carts has R=1 and W=1 of N=3")),
            "{weak:?}"
        );
    }
}
