//! Changes of the ring: how far it is (`/v1/cluster/layout`), its history, what is staged, and the orders to commit or
//! abort. What a commit would do is told by [`plan`](super::plan).
//!
//! What a node declines is a 409 with its reason; nothing has changed then.

mod told;
mod wanted;

use super::asked;
use super::failed;
use super::names::Names;
use super::problem::Problem;
use crate::doors::Service;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use gramme_core::limits::REQUEST_MS;
use gramme_node::request::{self, Call, Response, RingStatus};
use serde_json::Value;
use std::sync::Arc;

pub(super) use told::{decree_json, settled_json};

/// `GET /v1/cluster/layout`: the ring as this node knows it.
pub(super) async fn layout(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    ring_json(&service, request::Request::Ring).await
}

/// The ring as `/v1/cluster/layout` has it, and its history as `/v1/cluster/history` does.
pub(super) async fn with_history(service: &Service) -> Result<(Value, Value), Problem> {
    let status = ring(service, request::Request::Ring).await?;
    let names = Names::of(service).await?;
    Ok((told::ring_json(service.node(), &service.name, &status, names), told::history_json(&status)))
}

/// `GET /v1/cluster/history`: the layouts, oldest first.
pub(super) async fn history(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(Json(told::history_json(&ring(&service, request::Request::Ring).await?)))
}

/// `POST /v1/cluster/staged`: stages a change, and answers as `/v1/cluster/layout`.
pub(super) async fn stage(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    asked::query(&parts.uri, &[])?;
    let wanted = wanted::change(asked::object(body, wanted::CHANGE_EXAMPLE).await?)?;
    ring_json(&service, request::Request::Stage(wanted)).await
}

/// `DELETE /v1/cluster/staged`: takes back all that is staged, and answers as `/v1/cluster/layout`.
pub(super) async fn unstage(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    ring_json(&service, request::Request::Unstage).await
}

/// `POST /v1/cluster/commit`: commits the plan of a hash, and answers with its layouts.
pub(super) async fn commit(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    asked::query(&parts.uri, &[])?;
    let wanted = wanted::commit(asked::object(body, wanted::COMMIT_EXAMPLE).await?)?;
    match service.shards.call(Call { timeout_ms: COMMIT_MS, request: wanted }).await {
        Response::Committed(committed) => Ok(Json(told::committed_json(&committed))),
        other => Err(failed(other)),
    }
}

/// `POST /v1/cluster/abort`: goes back to the layout that is read by, and answers as `/v1/cluster/layout`.
pub(super) async fn abort(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    ring_json(&service, request::Request::Abort).await
}

async fn ring_json(service: &Service, request: request::Request) -> Result<Json<Value>, Problem> {
    let status = ring(service, request).await?;
    let names = Names::of(service).await?;
    Ok(Json(told::ring_json(service.node(), &service.name, &status, names)))
}

async fn ring(service: &Service, request: request::Request) -> Result<RingStatus, Problem> {
    let timeout_ms = if matches!(request, request::Request::Abort) { COMMIT_MS } else { REQUEST_MS };
    match service.shards.call(Call { timeout_ms, request }).await {
        Response::Ring(status) => Ok(*status),
        other => Err(failed(other)),
    }
}

/// A commit asks a majority of the members twice for each layout of a plan, and each of them syncs before it answers.
const COMMIT_MS: u64 = 20_000;
