//! `/v1/kv/{bucket}/{key}`: read, write, delete.

use super::asked::{self, Consistency};
use super::problem::Problem;
use super::shown::{self, Form};
use super::{Answered, failed};
use crate::doors::Service;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use gramme_core::record::Content;
use gramme_core::{Context, Key, RequestId, View};
use gramme_node::request::{self, Call, Got};
use gramme_wire::{Done, Expect, Put, Reason};
use std::sync::Arc;

/// `GET` and `HEAD`.
pub(super) async fn get(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    let key = asked::key_of(&parts.uri, PREFIX)?;
    asked::query(&parts.uri, &[])?;
    let form = Form::of(&parts.headers);
    let consistency = asked::consistency(&service, &parts.headers)?;
    let min = asked::context(&service, &parts.headers, "gramme-min", &key)?;
    let explain = asked::flag(&parts.headers, "gramme-explain")?;
    let got = read(&service, &key, consistency, min, explain).await?;
    Ok(show(&service, &key, &got, form, &parts.headers))
}

/// `PUT`.
pub(super) async fn put(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let write = Write::of(&service, &parts)?;
    let content_type = asked::content_type(&parts.headers)?;
    let meta = asked::meta(&parts.headers)?;
    let ttl_ms = asked::ttl_ms(&parts.headers)?;
    let (value, _room) = asked::value(&service, &parts.headers, body).await?;
    let context = write.context.clone();
    let put = write.put(Content::Value(value), content_type, meta, ttl_ms, context);
    answer(&service, &write, put).await
}

/// `DELETE`: without a context it covers what a read sees first.
pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    let write = Write::of(&service, &parts)?;
    let mut context = write.context.clone();
    if context.is_none()
        && write.expect.is_none()
        && !service.requires_context(&write.key).await.map_err(|failure| Problem::from(*failure))?
    {
        let got = read(&service, &write.key, write.consistency, None, write.explain).await?;
        if got.record.sibling_of(write.request).is_none() {
            match got.record.view(got.mode, got.now_ms) {
                View::One(_) | View::Siblings(_) => {}
                View::Missing | View::Deleted => {
                    return Ok(show(&service, &write.key, &got, Form::Plain, &parts.headers));
                }
            }
        }
        context = Some(got.context);
    }
    let put = write.put(Content::Tombstone, Bytes::new(), Vec::new(), None, context);
    answer(&service, &write, put).await
}

/// What every write says of itself.
struct Write {
    key: Key,
    consistency: Consistency,
    context: Option<Context>,
    request: RequestId,
    retry: bool,
    buffered: Option<bool>,
    expect: Option<Expect>,
    explain: bool,
}

impl Write {
    fn of(service: &Service, parts: &Parts) -> Result<Write, Problem> {
        let key = asked::key_of(&parts.uri, PREFIX)?;
        asked::query(&parts.uri, &[])?;
        Ok(Write {
            consistency: asked::consistency(service, &parts.headers)?,
            context: asked::context(service, &parts.headers, "gramme-context", &key)?,
            request: asked::request_id(&parts.headers)?,
            retry: asked::flag(&parts.headers, "gramme-retry")?,
            buffered: asked::buffered(&parts.headers)?,
            expect: asked::expect(&parts.headers)?,
            explain: asked::flag(&parts.headers, "gramme-explain")?,
            key,
        })
    }

    fn put(
        &self,
        content: Content,
        content_type: Bytes,
        meta: Vec<(Bytes, Bytes)>,
        ttl_ms: Option<u64>,
        context: Option<Context>,
    ) -> Put {
        Put {
            key: self.key.clone(),
            content,
            content_type,
            meta,
            ttl_ms,
            context,
            w: self.consistency.w,
            pw: self.consistency.pw,
            request: self.request,
            retry: self.retry,
            buffered: self.buffered,
            expect: self.expect,
            explain: self.explain,
        }
    }
}

async fn read(
    service: &Service,
    key: &Key,
    consistency: Consistency,
    min: Option<Context>,
    explain: bool,
) -> Result<Got, Problem> {
    let Consistency { r, pr, timeout_ms, .. } = consistency;
    let get = request::Get { key: key.clone(), r, pr, min, explain };
    match service.shards.call(Call { timeout_ms, request: request::Request::Get(get) }).await {
        request::Response::Got(got) => Ok(*got),
        other => Err(failed(other)),
    }
}

async fn answer(service: &Service, write: &Write, put: Put) -> Result<Response<Body>, Problem> {
    let timeout_ms = write.consistency.timeout_ms;
    match service.shards.call(Call { timeout_ms, request: request::Request::Put(Box::new(put)) }).await {
        request::Response::Done(done) => Ok(written(service, write, &done)),
        request::Response::Failed(failure) if failure.reason == Reason::Unexpected => {
            Ok(unexpected(service, write, (*failure).into()).await)
        }
        other => Err(failed(other)),
    }
}

/// The condition does not hold: with what the key looks like, so that the writer can decide anew.
async fn unexpected(service: &Service, write: &Write, problem: Problem) -> Response<Body> {
    let mut response = problem.into_response();
    // The answer is right without it.
    let Ok(got) = read(service, &write.key, write.consistency, None, false).await else { return response };
    if got.record.view(got.mode, got.now_ms) != View::Missing {
        let headers = response.headers_mut();
        shown::put(headers, "etag", &shown::etag(&got.record));
        shown::put(headers, "gramme-context", &shown::token(service, &got.context, &write.key));
    }
    response
}

fn written(service: &Service, write: &Write, done: &Done) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    shown::put(headers, "gramme-context", &shown::token(service, &done.context, &write.key));
    shown::put(headers, "gramme-siblings", &done.siblings.to_string());
    shown::put_acks(headers, done.acks, done.buffered, &done.explain);
    // With siblings beside it the tag of the key is not this write's alone.
    if done.siblings == 1 && done.dot.n > 0 {
        shown::put(headers, "etag", &shown::etag_of_one(done.dot));
    }
    shown::put(headers, "gramme-node", &done.coordinator.to_string());
    shown::put(headers, "gramme-request-id", &write.request.to_string());
    response
}

fn show(service: &Service, key: &Key, got: &Got, form: Form, asked: &HeaderMap) -> Response<Body> {
    let now_ms = got.now_ms;
    let view = got.record.view(got.mode, now_ms);
    let values = shown::shown(&got.record, got.mode, now_ms);
    // A reader who has seen nothing has no context to give back.
    let context = (view != View::Missing).then(|| shown::token(service, &got.context, key));
    let etag = shown::etag(&got.record);
    let status = match values.len() {
        0 => StatusCode::NOT_FOUND,
        1 => StatusCode::OK,
        _ if form == Form::Plain => StatusCode::CONFLICT,
        _ => StatusCode::OK,
    };
    let unchanged = asked.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let mut response = match (form, &values[..]) {
        (_, [_, ..]) if unchanged => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        (Form::Json, _) => shown::json_form(&got.record, context.clone(), now_ms, status),
        (_, []) => {
            let deleted = if view == View::Missing {
                "nothing is stored under this key"
            } else {
                "the key was deleted, or has expired"
            };
            Problem::refused(status, "not_found", deleted).response()
        }
        (_, [value]) => shown::one(value, now_ms),
        (Form::Plain, _) => shown::json_form(&got.record, context.clone(), now_ms, status),
        (Form::Multipart, values) => shown::multipart(values, now_ms, status),
    };
    let answered = match values.len() {
        0 => Answered::NotFound,
        1 => Answered::Ok,
        _ => Answered::Siblings,
    };
    response.extensions_mut().insert(answered);
    let headers = response.headers_mut();
    if let Some(context) = &context {
        shown::put(headers, "gramme-context", context);
    }
    if view != View::Missing {
        shown::put(headers, "etag", &etag);
    }
    shown::put(headers, "gramme-siblings", &values.len().to_string());
    shown::put_acks(headers, got.acks, false, &got.explain);
    shown::put(headers, "gramme-node", &service.node().to_string());
    response
}

pub(super) const PREFIX: &str = "/v1/kv/";
