//! `/v1/cluster/overview`: the word of every member in one answer, and what follows from it ([`crate::health`]).
//! Members are asked through their HTTP doors, as clients reach them. `/v1/cluster/ring`: which member is a home of
//! what.
//!
//! Invariant: members are asked at most once in [`FRESH`], however many people look.

mod ask;
mod change;

use super::asked;
use super::cluster;
use super::problem::Problem;
use crate::doors::Service;
use crate::health::{self, Told};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use gramme_core::{Layout, PartitionId};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The latest overview, for whoever asks while it is fresh.
#[derive(Default)]
pub(crate) struct Overview(Mutex<Option<(Instant, Bytes)>>);

/// `GET /v1/cluster/overview`.
pub(super) async fn overview(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    asked::query(&parts.uri, &[])?;
    // Whoever comes while members are being asked waits for that answer.
    let mut latest = service.overview.0.lock().await;
    let text = match &*latest {
        Some((at, text)) if at.elapsed() < FRESH => text.clone(),
        _ => {
            let text = Bytes::from(gather(&service).await.to_string());
            *latest = Some((Instant::now(), text.clone()));
            text
        }
    };
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn gather(service: &Service) -> Value {
    let asked = cluster::status_json(service).await;
    let members = asked["members"].as_array().map_or(&[][..], Vec::as_slice);
    let told = futures_util::future::join_all(members.iter().map(|member| word_of(service, &asked, member)));
    let (told, change): (Vec<Told>, Value) = tokio::join!(told, change::gather(service));
    health::overview(asked, &told, change)
}

/// What a member says of itself.
async fn word_of(service: &Service, asked: &Value, member: &Value) -> Told {
    if member["self"] == true {
        return Ok(asked.clone());
    }
    let address = member["http"].as_str().unwrap_or_default();
    let status = ask::get(address, "/v1/cluster/status", service.token.as_ref()).await?;
    if status["node"]["id"] != member["id"] || status["cluster"] != asked["cluster"] {
        return Err("another node answers there".into());
    }
    Ok(status)
}

/// `GET /v1/cluster/ring`.
pub(super) async fn ring(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(Json(ring_json(&service.layout())))
}

fn ring_json(layout: &Layout) -> Value {
    let slots = (layout.n() * layout.partitions()) as f64;
    let weights: u64 = layout.members().iter().map(|member| u64::from(member.weight)).sum();
    let members: Vec<Value> = layout
        .members()
        .iter()
        .map(|member| {
            // Nobody can be a home of a partition twice.
            let fair = (slots * f64::from(member.weight) / weights as f64).min(layout.partitions() as f64);
            json!({
                "id": member.id.to_string(),
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight,
                "slots": layout.slots_of(member.id),
                "fair": fair,
            })
        })
        .collect();
    let homes = (0..layout.partitions()).map(|partition| {
        let homes = layout.homes(PartitionId(partition as _)).iter();
        homes.filter_map(|id| layout.members().binary_search_by_key(id, |member| member.id).ok()).collect()
    });
    let homes: Vec<Vec<usize>> = homes.collect();
    json!({
        "version": layout.version(),
        "hash": layout.hash().to_string(),
        "n": layout.n(),
        "partitions": layout.partitions(),
        "members": members,
        "homes": homes,
    })
}

/// For how long an overview is given again.
const FRESH: Duration = Duration::from_secs(1);
