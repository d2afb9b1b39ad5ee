//! `GET /v1/cluster/plan`: what committing what is staged would do. The plan is exact and the same at every node; what it
//! takes is this node's estimate, from what its own store holds and its own budget for background work.

use super::asked;
use super::changes::{decree_json, settled_json};
use super::failed;
use super::problem::Problem;
use crate::doors::Service;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use gramme_core::layout::plan::{Plan, Share};
use gramme_core::limits::REQUEST_MS;
use gramme_core::paxos::Decree;
use gramme_core::{Layout, NodeId};
use gramme_node::request::{Call, Planned, Request, Response, Status};
use gramme_storage::Engine;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module.
pub(super) async fn plan(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(Json(told(&service).await?))
}

/// What it answers.
pub(super) async fn told(service: &Service) -> Result<Value, Problem> {
    let planned = match service.shards.call(Call { timeout_ms: REQUEST_MS, request: Request::Plan }).await {
        Response::Planned(planned) => planned,
        other => return Err(failed(other)),
    };
    let own = Own::of(service.store.stats().stored_bytes, &service.statuses().await);
    Ok(plan_json(&planned, own))
}

/// What this node would take everybody else to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own {
    /// Of its home replicas, on average; none while it has none.
    bytes_per_replica: Option<u64>,
    /// What its background work may cause, as it stands.
    bytes_per_s: u64,
}

impl Own {
    fn of(stored_bytes: u64, shards: &[Status]) -> Own {
        let homes: usize = shards.iter().map(|shard| shard.homes).sum();
        Own {
            bytes_per_replica: stored_bytes.checked_div(homes as u64),
            bytes_per_s: shards.iter().map(|shard| shard.admission.budget_bytes_per_s).sum(),
        }
    }
}

fn plan_json(planned: &Planned, own: Own) -> Value {
    let plan = &planned.plan;
    let last = plan.last();
    let slots = last.n() * last.partitions();
    let mut shares: Vec<&Share> = plan.shares().iter().collect();
    shares.sort_by_key(|share| &share.name);
    json!({
        "hash": plan.hash().to_string(),
        "after": decree_json(planned.after),
        "versions": versions_json(plan, planned.after),
        "n": last.n(),
        "partitions": last.partitions(),
        "shares": shares.into_iter().map(|share| share_json(share, last, slots)).collect::<Vec<_>>(),
        "replicas": plan.moves().len(),
        "moves": moves_json(plan),
        "estimate": estimate_json(plan, own),
        "zones": { "before": planned.zones.0, "after": planned.zones.1, "of": last.n().min(zones(last)) },
        "live_homes_kept": planned.live_homes_kept,
        "warnings": plan.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The layouts, one after the other, and how many replicas each moves.
fn versions_json(plan: &Plan, after: Decree) -> Vec<Value> {
    let of = |layout: &Layout| {
        let decree = Decree { version: layout.version(), ..after };
        let mut object = settled_json((decree, layout.hash()));
        object["replicas"] = plan.moves().iter().filter(|one| one.version == layout.version()).count().into();
        object
    };
    plan.chain().iter().map(of).collect()
}

fn share_json(share: &Share, last: &Layout, slots: usize) -> Value {
    let percent = |of: usize| (of as f64 * 1000.0 / slots as f64).round() / 10.0;
    let member = last.member(share.node);
    json!({
        "node": share.node.to_string(),
        "name": share.name,
        "zone": member.map(|member| &member.zone),
        "weight": member.map(|member| member.weight),
        "slots_before": share.before,
        "slots_after": share.after,
        "percent_before": percent(share.before),
        "percent_after": percent(share.after),
    })
}

fn moves_json(plan: &Plan) -> Vec<Value> {
    let name = |id: NodeId| {
        let share = plan.shares().iter().find(|share| share.node == id);
        share.map_or_else(|| id.to_string(), |share| share.name.clone())
    };
    let node = |id: NodeId| json!({ "node": id.to_string(), "name": name(id) });
    let mut moved: Vec<((NodeId, NodeId), usize)> = plan.moved().into_iter().collect();
    moved.sort_by_cached_key(|((from, to), _)| (name(*from), name(*to)));
    let of = |((from, to), replicas): ((NodeId, NodeId), usize)| json!({ "from": node(from), "to": node(to), "replicas": replicas });
    moved.into_iter().map(of).collect()
}

/// Nothing is said where this node has nothing to go by.
fn estimate_json(plan: &Plan, own: Own) -> Value {
    let receivers: BTreeSet<NodeId> = plan.moves().iter().map(|one| one.to).collect();
    let bytes = own.bytes_per_replica.map(|bytes| bytes * plan.moves().len() as u64);
    let bytes_per_s = own.bytes_per_s * receivers.len() as u64;
    let seconds = bytes.and_then(|bytes| if bytes == 0 { Some(0) } else { bytes.checked_div(bytes_per_s) });
    json!({
        "bytes": bytes,
        "bytes_per_replica": own.bytes_per_replica,
        "receivers": receivers.len(),
        "bytes_per_s": bytes_per_s,
        "seconds": seconds,
    })
}

fn zones(layout: &Layout) -> usize {
    layout.members().iter().map(|member| &member.zone).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::*;
    use gramme_core::layout::plan::{plan, zones_at_least};
    use gramme_core::layout::staged::{Change, Staged};
    use gramme_core::{Member, Stamp};

    fn member(id: u64) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("h{id}:2"),
            http: format!("h{id}:0"),
            zone: format!("z{id}"),
            weight: 1,
        }
    }

    fn a_fourth_joins() -> Planned {
        let layout = Layout::first((1..=3).map(member).collect(), 3, 64).unwrap();
        let mut staged = Staged::new();
        staged.stage(&layout, NodeId(4), Change::Join(member(4)), Stamp(1), NodeId(1)).unwrap();
        let plan = plan(&layout, &staged).unwrap();
        let zones = (zones_at_least(&layout), zones_at_least(plan.last()));
        let live_homes_kept = plan.live_homes_kept(|_| true);
        Planned { plan, after: Decree { lineage: 0, version: 1 }, live_homes_kept, zones }
    }

    #[test]
    fn a_plan_tells_shares_moves_and_what_it_is_likely_to_take() {
        let planned = a_fourth_joins();
        let told = plan_json(&planned, Own { bytes_per_replica: Some(1000), bytes_per_s: 100 });
        assert_eq!(told["hash"], planned.plan.hash().to_string());
        assert_eq!(told["after"], json!({ "version": 1, "lineage": 0 }));
        assert_eq!(told["replicas"], 48);
        assert_eq!(
            told["shares"][3],
            json!({
                "node": "0000000000000004", "name": "n4", "zone": "z4", "weight": 1,
                "slots_before": 0, "slots_after": 48, "percent_before": 0.0, "percent_after": 25.0,
            })
        );
        assert_eq!(
            (&told["shares"][0]["slots_before"], &told["shares"][0]["slots_after"]),
            (&json!(64), &json!(48))
        );
        assert_eq!(
            told["moves"][0],
            json!({
                "from": { "node": "0000000000000001", "name": "n1" },
                "to": { "node": "0000000000000004", "name": "n4" },
                "replicas": 16,
            })
        );
        assert_eq!(
            told["estimate"],
            json!({ "bytes": 48_000, "bytes_per_replica": 1000, "receivers": 1, "bytes_per_s": 100, "seconds": 480 })
        );
        assert_eq!(told["zones"], json!({ "before": 3, "after": 3, "of": 3 }));
        assert_eq!(told["live_homes_kept"], 2);
        let versions = told["versions"].as_array().unwrap();
        let moved: u64 = versions.iter().map(|version| version["replicas"].as_u64().unwrap()).sum();
        assert_eq!((versions.len(), moved), (planned.plan.chain().len(), 48));
        assert_eq!(versions.last().unwrap()["hash"], told["hash"]);
    }

    #[test]
    fn a_node_that_holds_nothing_estimates_nothing() {
        let told = plan_json(&a_fourth_joins(), Own::of(5000, &[]));
        assert_eq!((&told["estimate"]["bytes"], &told["estimate"]["seconds"]), (&Value::Null, &Value::Null));
    }
}
