//! What a node says of itself and its cluster: status, the places of a key, health, metrics.

use super::asked;
use super::failed;
use super::load;
use super::problem::Problem;
use super::shown;
use crate::doors::Service;
use crate::ground;
use crate::load::imbalance_of;
use crate::mailbox::Door;
use crate::tally;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use gramme_core::limits::REQUEST_MS;
use gramme_core::{Member, NodeId, PartitionId, Record};
use gramme_node::Ring;
use gramme_node::admission::AdmissionStatus;
use gramme_node::request::{self, Call, Health, Lag, PeerStatus, Refilling, Status};
use gramme_storage::Engine;
use gramme_wire::Standing;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// `GET /v1/cluster/status`.
pub(super) async fn status(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(Json(status_json(&service).await))
}

/// What this node says of itself and its cluster.
pub(super) async fn status_json(service: &Service) -> Value {
    let shards = service.statuses().await;
    let ring = service.company.ring();
    let layout = &ring.reads;
    let members = service.company.members();
    let members: Vec<Value> =
        members.iter().map(|member| member_json(service, &ring, &shards, member)).collect();
    let blocking: BTreeSet<String> = shards
        .iter()
        .flat_map(|shard| &shard.reclaim_blocked_by)
        .map(|&id| service.company.name_of(id))
        .collect();
    let stats = service.store.stats();
    let mean_us = stats.sync_nanos.checked_div(stats.syncs).unwrap_or(0) / 1000;
    let (trust, store) = {
        let identity = service.company.identity.lock().await;
        (identity.trust(), identity.store())
    };
    let continuous = shards.iter().all(|shard| shard.standing == Standing::Continuous);
    let tallies = service.metrics.tallies();
    json!({
        "cluster": service.company.hello.cluster.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "layout": {
            "version": layout.version(),
            "hash": layout.hash().to_string(),
            "n": layout.n(),
            "partitions": layout.partitions(),
            "spread": ground::spread_json(layout),
        },
        "node": {
            "id": service.node().to_string(),
            "name": service.name,
            "standing": if continuous { "continuous" } else { "unproven" },
            "trust": trust.as_str(),
            "store": store.to_string(),
            "draining": service.is_draining(),
            "uptime_ms": service.started.elapsed().as_millis() as u64,
            "shards": service.shards.count(),
            "homes": shards.iter().map(|shard| shard.homes).sum::<usize>(),
            "filling": shards.iter().map(|shard| shard.filling).sum::<usize>(),
            "hints": shards.iter().map(|shard| shard.hints.hints).sum::<u64>(),
            "hint_bytes": shards.iter().map(|shard| shard.hints.bytes).sum::<u64>(),
            "hint_bytes_max": shards.iter().map(|shard| shard.hints.bytes_max).sum::<u64>(),
            "hint_stores": shards.iter().map(|shard| shard.hints.stores).sum::<usize>(),
            "hint_oldest_ms": shards.iter().map(|shard| shard.hints.oldest_ms).max(),
            "hint_alarm": shards.iter().any(|shard| shard.hints.alarm),
            "in_flight": shards.iter().map(|shard| shard.in_flight).sum::<usize>(),
            "disk_stalls": shards.iter().any(|shard| shard.disk_stalls),
            "background": background_json(&shards),
            "clients": { "http": service.clients(Door::Http), "resp": service.clients(Door::Resp) },
        },
        "refilling": refilling_json(service, &shards),
        "behind": behind_json(service, &shards),
        "members": members,
        "store": {
            "engine": service.store.name(),
            "stored_bytes": stats.stored_bytes,
            "batches": stats.batches,
            "syncs": stats.syncs,
            "sync_mean_us": mean_us,
            "sync_max_us": stats.sync_nanos_max / 1000,
            "broken": shards.iter().find_map(|shard| shard.broken.clone()),
            "full": shards.iter().any(|shard| shard.full),
            "damaged_rows": shards.iter().map(|shard| shard.damaged).sum::<usize>(),
            "damaged_partitions": shards.iter().map(|shard| shard.damaged_partitions).sum::<usize>(),
            "tombstones": shards.iter().map(|shard| shard.tombstones).sum::<u64>(),
            "reclaim_blocked_by": blocking,
            "holes": shards.iter().map(|shard| shard.holes).sum::<usize>(),
        },
        "audits": {
            "oldest_ms": shards.iter().map(|shard| shard.audits.oldest_ms).max(),
            "missing": shards.iter().map(|shard| shard.audits.missing).sum::<usize>(),
            "different": shards.iter().map(|shard| shard.audits.different).sum::<usize>(),
            "interval_ms": shards.iter().map(|shard| shard.audits.interval_ms).max(),
        },
        "latency": tally::latency_json(&tallies),
        "conflicts": tally::conflicts_json(&tallies),
        "load": load::brief_json(service),
        "machine": service.ground.json().await,
    })
}

/// Partitions that lost something and are not yet whole, and whose content they still lack.
fn refilling_json(service: &Service, shards: &[Status]) -> Vec<Value> {
    let of = |refilling: &Refilling| {
        let from: Vec<String> = refilling.from.iter().map(|home| service.company.name_of(*home)).collect();
        json!({ "partition": refilling.partition.0, "from": from })
    };
    shards.iter().flat_map(|shard| &shard.refilling).map(of).collect()
}

/// What other homes have seen and this node has not, when they last compared.
fn behind_json(service: &Service, shards: &[Status]) -> Vec<Value> {
    let of = |lag: &Lag| {
        json!({
            "partition": lag.partition.0,
            "peer": service.company.name_of(lag.peer),
            "unseen": lag.unseen,
            "known_for_ms": lag.known_for.as_millis() as u64,
        })
    };
    shards.iter().flat_map(|shard| &shard.behind).map(of).collect()
}

/// How background work is paced, over all shards: sums of what flows, the worst of what is waited for.
fn background_json(shards: &[Status]) -> Value {
    let of = |figure: fn(&AdmissionStatus) -> u64| shards.iter().map(move |shard| figure(&shard.admission));
    json!({
        "budget_bytes_per_s": of(|a| a.budget_bytes_per_s).sum::<u64>(),
        "drawn_bytes_per_s": of(|a| a.drawn_bytes_per_s).sum::<u64>(),
        "foreground_p99_us": of(|a| a.foreground_p99_us).max(),
        "limit_us": of(|a| a.limit_us).max(),
        "sync_p99_us": of(|a| a.sync_p99_us).max(),
        "waiting": of(|a| a.waiting as u64).sum::<u64>(),
    })
}

fn member_json(service: &Service, ring: &Ring, shards: &[Status], member: &Member) -> Value {
    let is_self = member.id == service.node();
    let seen: Vec<PeerStatus> = shards
        .iter()
        .filter_map(|shard| shard.peers.iter().find(|peer| peer.node == member.id))
        .copied()
        .collect();
    let hello = &service.company.hello;
    let (http, resp) = match service.company.roster.doors(member.id) {
        _ if is_self => (hello.http.clone(), hello.resp.clone()),
        Some(doors) => (doors.http, doors.resp),
        None => (member.http.clone(), String::new()),
    };
    let health = seen.iter().map(|peer| peer.health).max();
    json!({
        "id": member.id.to_string(),
        "name": member.name,
        "zone": member.zone,
        "weight": member.weight,
        "slots": ring.reads.slots_of(member.id),
        "peer": ring.peers.get(&member.id).map_or(&member.address, |peer| &peer.address),
        "http": http,
        "resp": if resp.is_empty() { Value::Null } else { resp.into() },
        "self": is_self,
        "connected": is_self || (!seen.is_empty() && seen.iter().all(|peer| peer.connected)),
        "health": match health {
            _ if is_self => "up",
            Some(Health::Up) => "up",
            Some(Health::Suspect) => "suspect",
            Some(Health::Down) | None => "down",
        },
        "colour": match health {
            _ if is_self => "green",
            Some(Health::Up) => "green",
            Some(Health::Suspect) => "yellow",
            Some(Health::Down) | None => "red",
        },
        "degraded": seen.iter().any(|peer| peer.degraded),
        "p50_us": seen.iter().map(|peer| peer.p50_us).max().unwrap_or(0),
        "p99_us": seen.iter().map(|peer| peer.p99_us).max().unwrap_or(0),
    })
}

/// `GET /v1/cluster/load`: what this node's clients asked for of each partition, in the last minute or two.
pub(super) async fn load(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    let layout = service.layout();
    let (window, asked) = service.load.recent(Instant::now());
    let partitions = asked.iter().enumerate().filter(|(_, asked)| asked.all() > 0).map(|(at, asked)| {
        let homes = layout.homes(PartitionId(at as u16)).iter();
        let homes: Vec<String> = homes.map(|home| service.company.name_of(*home)).collect();
        json!({ "partition": at, "reads": asked.reads, "writes": asked.writes, "homes": homes })
    });
    Ok(Json(json!({
        "node": service.node().to_string(),
        "name": service.name,
        "window_ms": window.as_millis() as u64,
        "imbalance": imbalance_of(&layout, &asked),
        "partitions": partitions.collect::<Vec<_>>(),
    })))
}

/// `GET /v1/ring/{bucket}/{key}`: where a key lives, and what each of its homes holds.
pub(super) async fn ring(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    let key = asked::key_of(&parts.uri, RING)?;
    asked::query(&parts.uri, &[])?;
    let call = Call { timeout_ms: REQUEST_MS, request: request::Request::Locate(key.clone()) };
    let located = match service.shards.call(call).await {
        request::Response::Located(located) => located,
        other => return Err(failed(other)),
    };
    let name = |node: NodeId| service.company.name_of(node);
    let homes = located.homes.iter().map(|(node, held)| {
        let mut home = json!({ "node": node.to_string(), "name": name(*node) });
        match held {
            Ok(record) => home["holds"] = record.as_ref().map_or(Value::Null, holding_json),
            Err(why) => home["error"] = why.clone().into(),
        }
        home
    });
    let homes: Vec<Value> = homes.collect();
    let fallbacks =
        located.fallbacks.iter().map(|&node| json!({ "node": node.to_string(), "name": name(node) }));
    let mut object = json!({ "bucket": key.bucket() });
    shown::put_key(&mut object, key.key());
    object["partition"] = located.partition.0.into();
    object["homes"] = homes.into();
    object["fallbacks"] = fallbacks.collect();
    Ok(Json(object))
}

fn holding_json(record: &Record) -> Value {
    let now_ms = crate::tokio_env::wall_ms();
    let siblings = record.siblings().iter().map(|sibling| {
        let value = sibling.live_value(now_ms);
        json!({
            "id": sibling.dot.to_string(),
            "time": crate::time::iso(sibling.stamp.ms()),
            "bytes": value.map(|value| value.len()),
            "deleted": value.is_none(),
        })
    });
    json!({ "etag": format!("{:016x}", record.tag()), "siblings": siblings.collect::<Vec<_>>() })
}

/// What can be said of a store that has not failed.
fn store_word(shards: &[Status]) -> &'static str {
    if shards.iter().any(|shard| shard.full) {
        "the disk has no room: reads go on, and other nodes take the writes"
    } else {
        "it takes writes"
    }
}

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: clients should come here. With `?verbose` each check is listed.
pub(super) async fn readyz(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    let verbose = !asked::query(&parts.uri, &["verbose"])?.is_empty();
    let shards = service.statuses().await;
    let layout = service.layout();
    let down: BTreeSet<NodeId> = shards
        .iter()
        .flat_map(|shard| &shard.peers)
        .filter(|peer| !peer.connected || peer.health == Health::Down)
        .map(|peer| peer.node)
        .collect();
    let reachable = layout.members().iter().filter(|member| !down.contains(&member.id)).count();
    let needed = layout.n() / 2 + 1;
    let broken = shards.iter().find_map(|shard| shard.broken.clone());
    let checks = [
        (
            "shards",
            shards.len() == service.shards.count(),
            format!("{} of {} answer", shards.len(), service.shards.count()),
        ),
        ("store", broken.is_none(), broken.unwrap_or_else(|| store_word(&shards).into())),
        ("quorum", reachable >= needed, format!("{reachable} members reachable, {needed} needed")),
        ("serving", !service.is_draining(), "not shutting down".into()),
    ];
    let ready = checks.iter().all(|(_, holds, _)| *holds);
    let mut text = String::new();
    if verbose {
        for (name, holds, why) in &checks {
            text.push_str(&format!("[{}] {name}: {why}\n", if *holds { "+" } else { "-" }));
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    let mut response = Response::new(Body::from(text));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// `GET /metrics`.
pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Response<Body> {
    let mut response = Response::new(Body::from(service.metrics.text()));
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

pub(super) const RING: &str = "/v1/ring/";
