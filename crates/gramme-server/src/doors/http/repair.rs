//! `/v1/cluster/repair`: how this node's home partitions compare with their other homes, and what a person may start
//! by hand. What was started goes on after the answer; the status says how far it is.

use super::asked;
use super::failed;
use super::problem::Problem;
use crate::doors::Service;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use gramme_core::limits::REQUEST_MS;
use gramme_core::{Key, NodeId};
use gramme_node::request::{Call, Request, Response};
use gramme_node::trees::repair::{PartitionRepair, PeerRepair, RepairStatus, Verify};
use gramme_wire::Standing;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v1/cluster/repair`.
pub(super) async fn status(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    ask(&service, Request::Repair).await
}

/// `POST /v1/cluster/repair/now`: compares everything with everyone at once.
pub(super) async fn now(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    ask(&service, Request::RepairNow).await
}

/// `POST /v1/cluster/repair/verify[?bucket=BUCKET]`: rereads a bucket, or everything.
pub(super) async fn verify(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    let bucket = asked::query(&parts.uri, &["bucket"])?.pop().map(|(_, bucket)| String::from_utf8(bucket));
    let bucket = bucket.transpose().map_err(|_| gramme_core::id::BadKey::BucketName)?;
    ask(&service, Request::Verify(bucket)).await
}

/// Asks every shard, and puts their answers together.
async fn ask(service: &Service, request: Request) -> Result<Json<Value>, Problem> {
    let mut shards = Vec::new();
    for shard in 0..service.shards.count() {
        let call = Call { timeout_ms: REQUEST_MS, request: request.clone() };
        match service.shards.call_on(shard, call).await {
            Response::Repair(status) => shards.push(*status),
            other => return Err(failed(other)),
        }
    }
    Ok(Json(to_json(service, &shards)))
}

fn to_json(service: &Service, shards: &[RepairStatus]) -> Value {
    let mut partitions: Vec<&PartitionRepair> = shards.iter().flat_map(|shard| &shard.partitions).collect();
    partitions.sort_by_key(|partition| partition.partition);
    json!({
        "node": service.node().to_string(),
        "name": service.name,
        "audits_waiting": shards.iter().map(|shard| shard.audits_waiting).sum::<usize>(),
        "damaged_rows": shards.iter().map(|shard| shard.damaged_rows).sum::<usize>(),
        "damaged_keys": shards.iter().flat_map(|shard| &shard.damaged_keys).map(key_json).collect::<Vec<_>>(),
        "asked_ms": shards.iter().filter_map(|shard| shard.asked_ms).max(),
        "verify": verify_json(shards),
        "partitions": partitions.into_iter().map(|p| partition_json(service, p)).collect::<Vec<_>>(),
    })
}

fn key_json(key: &Key) -> Value {
    let mut object = json!({ "bucket": key.bucket() });
    super::shown::put_key(&mut object, key.key());
    object
}

fn partition_json(service: &Service, partition: &PartitionRepair) -> Value {
    let name = |node: NodeId| service.company.name_of(node);
    let peer = |peer: &PeerRepair| {
        json!({
            "node": peer.node.to_string(),
            "name": name(peer.node),
            "verified_ms": peer.verified_ms,
            "differs_ms": peer.differs_ms,
            "unseen": peer.unseen,
            "unseen_ms": peer.unseen_ms,
        })
    };
    json!({
        "partition": partition.partition.0,
        "standing": if partition.standing == Standing::Continuous { "continuous" } else { "unproven" },
        "keys": partition.keys,
        "scanned_ms": partition.scanned_ms,
        "corrupt": partition.corrupt,
        "peers": partition.peers.iter().map(peer).collect::<Vec<_>>(),
    })
}

fn verify_json(shards: &[RepairStatus]) -> Value {
    let all: Vec<&Verify> = shards.iter().filter_map(|shard| shard.verify.as_ref()).collect();
    let Some(first) = all.first() else { return Value::Null };
    json!({
        "bucket": first.bucket,
        "running": all.iter().any(|verify| verify.running),
        "done": all.iter().map(|verify| verify.done).sum::<usize>(),
        "of": all.iter().map(|verify| verify.of).sum::<usize>(),
        "keys": all.iter().map(|verify| verify.keys).sum::<u64>(),
        "corrupt": all.iter().map(|verify| verify.corrupt).sum::<u64>(),
        "mismatches": all.iter().map(|verify| verify.mismatches).sum::<u64>(),
        "failed": all.iter().map(|verify| verify.failed).sum::<usize>(),
    })
}
