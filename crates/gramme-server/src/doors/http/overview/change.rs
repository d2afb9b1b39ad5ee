//! How the ring changes, for the overview: what this node knows of it, and what each node tells of its own transfers.
//!
//! Invariant: while nothing is staged, changes or is handed over, nobody is asked.

use super::ask;
use crate::doors::Service;
use crate::doors::http::{changes, plan, problem::Problem, transfers};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `layout`, `transfers`, `plan` and `history`, as docs/http.md has them; or `error`, if this node cannot tell.
pub(super) async fn gather(service: &Service) -> Value {
    match changes::with_history(service).await {
        Ok((layout, history)) => whole(service, layout, history).await,
        Err(why) => refused(&why),
    }
}

async fn whole(service: &Service, layout: Value, history: Value) -> Value {
    let nodes = if is_of_interest(&layout) { nodes_of(&layout) } else { BTreeMap::new() };
    let told = nodes.iter().map(|(id, node)| transfers_of(service, id, node));
    let plan = async {
        match is_any(&layout["staged"]) {
            true => plan::told(service).await.unwrap_or_else(|why| refused(&why)),
            false => Value::Null,
        }
    };
    let (transfers, plan) = tokio::join!(futures_util::future::join_all(told), plan);
    let history = history["layouts"].as_array().map_or(&[][..], Vec::as_slice);
    let latest = &history[history.len().saturating_sub(HISTORY_MAX)..];
    json!({ "layout": layout, "transfers": transfers, "plan": plan, "history": latest })
}

fn refused(why: &Problem) -> Value {
    json!({ "error": why.json()["detail"] })
}

/// Whether anything is moved, or soon will be.
fn is_of_interest(layout: &Value) -> bool {
    let keeps = |node: &Value| node["emptied"] != node["reads"];
    layout["changing"] == true
        || is_any(&layout["staged"])
        || is_any(&layout["leaving"])
        || layout["progress"].as_array().into_iter().flatten().any(keeps)
}

fn is_any(list: &Value) -> bool {
    list.as_array().is_some_and(|list| !list.is_empty())
}

/// Those that count, and those that go, by id.
fn nodes_of(layout: &Value) -> BTreeMap<&str, &Value> {
    let lists = ["progress", "leaving"].map(|list| layout[list].as_array().into_iter().flatten());
    let nodes = lists.into_iter().flatten();
    nodes.filter_map(|node| Some((node["node"].as_str()?, node))).collect()
}

/// What a node tells, in short.
async fn transfers_of(service: &Service, id: &str, node: &Value) -> Value {
    let told = match node["http"].as_str() {
        _ if id == service.node().to_string() => {
            transfers::own(service).await.map_err(|why| why.json()["detail"].to_string())
        }
        Some(http) => ask::get(http, "/v1/cluster/transfers", service.token.as_ref()).await,
        None => Err("where it is reached is not known".to_owned()),
    };
    match told {
        Ok(told) if told["node"] == id => shortened(told),
        Ok(_) => silent(node, "another node answers there"),
        Err(why) => silent(node, &why),
    }
}

fn silent(node: &Value, why: &str) -> Value {
    json!({ "node": node["node"], "name": node["name"], "error": why })
}

/// Counts in place of the lists of partitions.
fn shortened(mut told: Value) -> Value {
    for (list, count) in [("incoming", "coming"), ("outgoing", "handing_over")] {
        told[count] = told[list].as_array().map_or(0, Vec::len).into();
        if let Some(object) = told.as_object_mut() {
            object.remove(list);
        }
    }
    told
}

/// The latest layouts tell what was done lately; `/v1/cluster/history` has them all.
const HISTORY_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(emptied: u64) -> Value {
        let progress = json!([{ "node": "01", "name": "n1", "emptied": emptied, "reads": 5 }]);
        json!({ "changing": false, "staged": [], "leaving": [], "progress": progress })
    }

    #[test]
    fn a_ring_at_rest_is_nothing_to_ask_others_about() {
        assert!(!is_of_interest(&layout(5)));
        assert!(is_of_interest(&layout(4)), "somebody still keeps what is others'");
        for (field, value) in [
            ("changing", json!(true)),
            ("staged", json!([{ "node": "04" }])),
            ("leaving", json!([{ "node": "03" }])),
        ] {
            let mut layout = layout(5);
            layout[field] = value;
            assert!(is_of_interest(&layout), "{field}");
        }
    }

    #[test]
    fn those_that_count_and_those_that_go_are_asked_once_each() {
        let mut layout = layout(4);
        layout["leaving"] = json!([{ "node": "01", "name": "n1" }, { "node": "09", "name": "n9" }]);
        assert_eq!(nodes_of(&layout).into_keys().collect::<Vec<_>>(), ["01", "09"]);
    }

    #[test]
    fn lists_of_partitions_are_counted() {
        let told = json!({ "node": "04", "arrived": 3, "incoming": [{}, {}], "outgoing": [] });
        assert_eq!(shortened(told), json!({ "node": "04", "arrived": 3, "coming": 2, "handing_over": 0 }));
    }
}
