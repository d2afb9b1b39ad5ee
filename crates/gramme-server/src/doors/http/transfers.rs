//! `/v1/cluster/transfers`: what comes to this node and what it hands over because the ring changes, over all of its
//! shards; pausing and resuming them.

use super::asked;
use super::failed;
use super::names::Names;
use super::problem::{Problem, unknown};
use crate::doors::Service;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use gramme_core::NodeId;
use gramme_core::limits::REQUEST_MS;
use gramme_node::request::{self, Call, Incoming, Outgoing, Response, TransfersStatus};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `GET`: how far they are.
pub(super) async fn get(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(Json(own(&service).await?))
}

/// What `GET` answers.
pub(super) async fn own(service: &Service) -> Result<Value, Problem> {
    ask(service, request::Request::Transfers).await
}

/// `POST`: pauses or resumes all of this node's, and answers as `GET`.
pub(super) async fn post(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    asked::query(&parts.uri, &[])?;
    let paused = paused(&asked::object(body, EXAMPLE).await?)?;
    Ok(Json(ask(&service, request::Request::PauseTransfers(paused)).await?))
}

fn paused(object: &Map<String, Value>) -> Result<bool, Problem> {
    if let Some(name) = object.keys().find(|name| *name != "paused") {
        return Err(unknown("field", name, &["paused"]));
    }
    let paused = &object.get("paused").unwrap_or(&Value::Null);
    paused.as_bool().ok_or_else(|| Problem::bad_request(format!("paused is {paused}: use true or false")))
}

/// Asks every shard, and puts their answers together.
async fn ask(service: &Service, request: request::Request) -> Result<Value, Problem> {
    let mut shards = Vec::new();
    for shard in 0..service.shards.count() {
        let call = Call { timeout_ms: REQUEST_MS, request: request.clone() };
        match service.shards.call_on(shard, call).await {
            Response::Transfers(status) => shards.push(*status),
            other => return Err(failed(other)),
        }
    }
    let names = Names::of(service).await?;
    Ok(to_json(service.node(), &service.name, &shards, &names))
}

fn to_json(node: NodeId, name: &str, shards: &[TransfersStatus], names: &Names) -> Value {
    let mut incoming: Vec<&Incoming> = shards.iter().flat_map(|shard| &shard.incoming).collect();
    incoming.sort_by_key(|one| one.partition);
    let mut outgoing: Vec<&Outgoing> = shards.iter().flat_map(|shard| &shard.outgoing).collect();
    outgoing.sort_by_key(|one| one.partition);
    json!({
        "node": node.to_string(),
        "name": name,
        "paused": shards.iter().any(|shard| shard.paused),
        "arrived": shards.iter().map(|shard| shard.arrived).sum::<usize>(),
        "bytes": shards.iter().map(|shard| shard.bytes).sum::<u64>(),
        "bytes_per_s": shards.iter().map(|shard| shard.bytes_per_s).sum::<u64>(),
        "from": counted(names, incoming.iter().flat_map(|one| &one.left)),
        "to": counted(names, outgoing.iter().flat_map(|one| &one.left)),
        "incoming": incoming.into_iter().map(|one| incoming_json(names, one)).collect::<Vec<_>>(),
        "outgoing": outgoing.into_iter().map(|one| outgoing_json(names, one)).collect::<Vec<_>>(),
    })
}

/// In how many partitions each node is awaited.
fn counted<'n>(names: &Names, nodes: impl Iterator<Item = &'n NodeId>) -> Vec<Value> {
    let mut partitions: BTreeMap<NodeId, usize> = BTreeMap::new();
    nodes.for_each(|node| *partitions.entry(*node).or_default() += 1);
    let of = |(node, partitions): (NodeId, usize)| {
        let mut object = names.json(node);
        object["partitions"] = partitions.into();
        object
    };
    partitions.into_iter().map(of).collect()
}

fn incoming_json(names: &Names, one: &Incoming) -> Value {
    json!({
        "partition": one.partition.0,
        "done": names.all(&one.done),
        "left": names.all(&one.left),
        "records": one.records,
        "bytes": one.bytes,
    })
}

fn outgoing_json(names: &Names, one: &Outgoing) -> Value {
    json!({ "partition": one.partition.0, "left": names.all(&one.left) })
}

const EXAMPLE: &str = "{\"paused\": true}";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::*;
    use gramme_core::PartitionId;

    #[test]
    fn what_comes_and_goes_in_all_shards_is_told_together() {
        let mut names = Names::default();
        (1..=3).for_each(|id| names.add(NodeId(id), &format!("n{id}"), ""));
        let coming = |partition: u16, left: &[u64]| Incoming {
            partition: PartitionId(partition),
            done: vec![NodeId(1)],
            left: left.iter().map(|id| NodeId(*id)).collect(),
            records: 5,
            bytes: 500,
        };
        let shards = [
            TransfersStatus {
                incoming: vec![coming(6, &[2, 3])],
                arrived: 10,
                bytes: 7000,
                bytes_per_s: 70,
                ..TransfersStatus::default()
            },
            TransfersStatus {
                incoming: vec![coming(3, &[3])],
                arrived: 11,
                outgoing: vec![Outgoing { partition: PartitionId(9), left: vec![NodeId(2)] }],
                paused: true,
                bytes: 3000,
                bytes_per_s: 30,
            },
        ];
        let told = to_json(NodeId(4), "n4", &shards, &names);
        let node = |id: u64| json!({ "node": format!("{id:016x}"), "name": format!("n{id}") });
        let awaited = |id: u64, partitions: usize| json!({ "node": format!("{id:016x}"), "name": format!("n{id}"), "partitions": partitions });
        assert_eq!(
            told,
            json!({
                "node": "0000000000000004", "name": "n4", "paused": true, "arrived": 21, "bytes": 10_000,
                "bytes_per_s": 100,
                "from": [awaited(2, 1), awaited(3, 2)],
                "to": [awaited(2, 1)],
                "incoming": [
                    { "partition": 3, "done": [node(1)], "left": [node(3)], "records": 5, "bytes": 500 },
                    { "partition": 6, "done": [node(1)], "left": [node(2), node(3)], "records": 5, "bytes": 500 },
                ],
                "outgoing": [{ "partition": 9, "left": [node(2)] }],
            })
        );
    }

    #[test]
    fn pausing_wants_a_yes_or_no() {
        let read = |json: Value| paused(json.as_object().unwrap());
        let refusal = |json: Value| read(json).err().unwrap().json()["detail"].as_str().unwrap().to_owned();
        assert!(read(json!({ "paused": true })).unwrap());
        assert!(!read(json!({ "paused": false })).unwrap());
        assert_eq!(refusal(json!({})), "paused is null: use true or false");
        assert_eq!(refusal(json!({ "pause": true })), "unknown field \"pause\": did you mean paused?");
    }
}
