//! `/v1/buckets/{bucket}`: what a bucket wants.

use super::asked;
use super::failed;
use super::problem::{Problem, level, level_problem, unknown};
use crate::doors::Service;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use gramme_core::bucket::{BucketSettings, Level, Mode};
use gramme_core::limits::REQUEST_MS;
use gramme_node::request::{self, Call};
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET`: the settings in force.
pub(super) async fn get(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    let bucket = asked::bucket_of(&parts.uri, PREFIX)?;
    asked::query(&parts.uri, &[])?;
    Ok(Json(to_json(&bucket, &ask(&service, request::Request::Bucket(bucket.clone())).await?)))
}

/// `GET /v1/buckets`: the buckets that have settings of their own.
pub(super) async fn all(State(service): State<Arc<Service>>, parts: Parts) -> Result<Json<Value>, Problem> {
    asked::query(&parts.uri, &[])?;
    match service.shards.call(Call { timeout_ms: REQUEST_MS, request: request::Request::Buckets }).await {
        request::Response::Buckets(all) => {
            let buckets: Vec<Value> = all.iter().map(|(name, settings)| to_json(name, settings)).collect();
            Ok(Json(json!({ "buckets": buckets })))
        }
        other => Err(failed(other)),
    }
}

/// `PUT`: changes the options that the body names, and answers with all.
pub(super) async fn put(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let bucket = asked::bucket_of(&parts.uri, PREFIX)?;
    asked::query(&parts.uri, &[])?;
    let wanted = asked::object(body, "{\"r\": \"one\", \"mode\": \"lww\"}").await?;
    let mut settings = ask(&service, request::Request::Bucket(bucket.clone())).await?;
    for (option, value) in &wanted {
        set(&service, &mut settings, &bucket, option, value)?;
    }
    settings.check(service.layout().n()).map_err(Problem::bad_request)?;
    let settings = ask(&service, request::Request::SetBucket(bucket.clone(), settings)).await?;
    Ok(Json(to_json(&bucket, &settings)))
}

fn set(
    service: &Service,
    settings: &mut BucketSettings,
    bucket: &str,
    option: &str,
    value: &Value,
) -> Result<(), Problem> {
    let whole = |what: &str| {
        value
            .as_u64()
            .ok_or_else(|| Problem::bad_request(format!("{option} is {value}: use a whole number of {what}")))
    };
    match option {
        "r" => settings.r = level_of(service, option, value)?,
        "w" => settings.w = level_of(service, option, value)?,
        "mode" => {
            let mode = value.as_str().and_then(Mode::parse);
            settings.mode = mode.ok_or_else(|| {
                Problem::bad_request(format!("mode is {value}: use \"siblings\" or \"lww\""))
            })?;
        }
        "require_context" => {
            settings.require_context = value.as_bool().ok_or_else(|| {
                Problem::bad_request(format!("require_context is {value}: use true or false"))
            })?;
        }
        "buffered" => {
            settings.buffered = value
                .as_bool()
                .ok_or_else(|| Problem::bad_request(format!("buffered is {value}: use true or false")))?;
        }
        "ttl" => {
            let ms = whole("seconds, or 0 for ever")?.checked_mul(1000);
            settings.ttl_ms =
                ms.ok_or_else(|| Problem::bad_request(format!("ttl is {value}: that is beyond time")))?;
        }
        "value_bytes_max" => settings.value_bytes_max = whole("bytes")?,
        "siblings_max" => settings.siblings_max = whole("siblings")?,
        "bucket" if value.as_str() == Some(bucket) => {}
        "n" => {
            return Err(Problem::refused(
                StatusCode::BAD_REQUEST,
                "n_is_per_cluster",
                format!(
                    "n is one number for the whole cluster, here {}, because all keys of a partition share its homes and what those have seen: it is set with `gramme cluster init --n`",
                    service.layout().n()
                ),
            ));
        }
        other => return Err(unknown("bucket option", other, &OPTIONS)),
    }
    Ok(())
}

fn level_of(service: &Service, option: &str, value: &Value) -> Result<Level, Problem> {
    match value {
        Value::String(text) => level(option, text, &service.layout()),
        Value::Number(number) => level(option, &number.to_string(), &service.layout()),
        other => Err(level_problem(option, &other.to_string())),
    }
}

async fn ask(service: &Service, request: request::Request) -> Result<BucketSettings, Problem> {
    match service.shards.call(Call { timeout_ms: REQUEST_MS, request }).await {
        request::Response::Bucket(settings) => Ok(settings),
        other => Err(failed(other)),
    }
}

fn to_json(bucket: &str, settings: &BucketSettings) -> Value {
    let level = |level: Level| match level {
        Level::Count(count) => Value::from(count),
        word => Value::from(word.to_string()),
    };
    json!({
        "bucket": bucket,
        "r": level(settings.r),
        "w": level(settings.w),
        "mode": settings.mode.as_str(),
        "require_context": settings.require_context,
        "buffered": settings.buffered,
        "ttl": settings.ttl_ms / 1000,
        "value_bytes_max": settings.value_bytes_max,
        "siblings_max": settings.siblings_max,
    })
}

pub(super) const PREFIX: &str = "/v1/buckets/";
const OPTIONS: [&str; 8] =
    ["r", "w", "mode", "require_context", "buffered", "ttl", "value_bytes_max", "siblings_max"];
