//! A look as one line of JSON, for programs.

use super::going::Going;
use super::ring;
use super::view::{Rate, View};
use crate::status::load::Load;
use gramme_server::time::iso;
use serde_json::{Value as Json, json};

/// What came at `time_ms`.
pub(super) fn answered(view: &View, load: Option<&Load>, time_ms: u64) -> Json {
    let overview = &view.overview;
    let shares = load.map(|load| load.shares(view.nodes())).unwrap_or_default();
    let nodes = view.nodes().iter().zip(&view.rows).enumerate().map(|(at, (node, row))| {
        let says = &node["says"];
        let silent = row.silent_for(view.at);
        json!({
            "name": node["name"],
            "zone": node["described"]["zone"],
            "weight": node["described"]["weight"],
            "state": node["state"],
            "colour": node["colour"],
            "silent_ms": silent.map(|(time, _)| time.as_millis() as u64),
            "get": row.rates.as_ref().map(|rates| rate(&rates[0])),
            "put": row.rates.as_ref().map(|rates| rate(&rates[1])),
            "hints": says["node"]["hints"],
            "tombstones": says["store"]["tombstones"],
            "owns": node["share"],
            "carries": shares.get(at).map(|share| share.carries),
            "stored_bytes": says["store"]["stored_bytes"],
            "disk_bytes": says["machine"]["disk_bytes"],
            "disk_free_bytes": says["machine"]["disk_free_bytes"],
            "problems": node["problems"],
        })
    });
    let all = view.all();
    json!({
        "time": iso(time_ms),
        "asked": overview["asked"]["node"]["name"],
        "cluster": overview["asked"]["cluster"],
        "verdict": overview["verdict"],
        "get": all.as_ref().map(|rates| rate(&rates[0])),
        "put": all.as_ref().map(|rates| rate(&rates[1])),
        "nodes": nodes.collect::<Vec<_>>(),
        "going_on": Going::of(view).json(),
        "change": ring::json(&overview["change"]),
        "load": load.map(|load| load_json(load, view.nodes())),
    })
}

/// What a look without an answer at `time_ms` says.
pub(super) fn silent(why: &str, time_ms: u64) -> Json {
    json!({ "time": iso(time_ms), "error": why })
}

fn rate(rate: &Rate) -> Json {
    json!({
        "per_s": rate.per_s,
        "p50_us": rate.took.quantile_us(0.5),
        "p99_us": rate.took.quantile_us(0.99),
        "p999_us": rate.took.quantile_us(0.999),
    })
}

fn load_json(load: &Load, members: &[Json]) -> Json {
    let hottest = load.hottest().into_iter().next().map(|(partition, rate)| {
        json!({ "partition": partition, "reads_per_s": rate.reads, "writes_per_s": rate.writes, "homes": rate.homes })
    });
    json!({
        "requests_per_s": load.total(),
        "imbalance": load.imbalance(&load.shares(members), members),
        "hottest": hottest,
    })
}
