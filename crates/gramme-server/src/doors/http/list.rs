//! `GET /v1/kv/{bucket}`: every key of a bucket, one JSON object a line, streamed from all partitions in turn.
//!
//! The order is by partition, then by key: the same at every node and at every time, so that `after` goes on
//! where an earlier list ended.

use super::asked::{self, Consistency};
use super::problem::Problem;
use super::{failed, shown};
use crate::doors::Service;
use crate::time;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use gramme_core::limits::LIST_PAGE_KEYS_MAX;
use gramme_core::{Context, Key, PartitionId, Record, ring};
use gramme_node::request::{self, Call, ListPage, Listed};
use serde_json::json;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The list.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    let asked = Asked::of(&service, &parts)?;
    // The first page decides whether there will be a list at all.
    let first = asked.page(&service, asked.first, asked.after.clone()).await?;
    let (lines, mut written) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move { write_all(service, asked, first, lines).await });
    let body = stream::poll_fn(move |cx| written.poll_recv(cx).map(|chunk| chunk.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

struct Asked {
    bucket: String,
    prefix: Bytes,
    /// Where the list starts: in this partition, behind this key of it.
    first: PartitionId,
    after: Option<Bytes>,
    limit: u64,
    values: bool,
    consistency: Consistency,
}

impl Asked {
    fn of(service: &Service, parts: &Parts) -> Result<Asked, Problem> {
        let bucket = asked::bucket_of(&parts.uri, super::kv::PREFIX)?;
        let mut asked = Asked {
            bucket,
            prefix: Bytes::new(),
            first: PartitionId(0),
            after: None,
            limit: u64::MAX,
            values: false,
            consistency: asked::consistency(service, &parts.headers)?,
        };
        for (name, value) in asked::query(&parts.uri, &["after", "limit", "prefix", "values"])? {
            let text = String::from_utf8_lossy(&value);
            match &*name {
                "prefix" => asked.prefix = value.into(),
                "after" => {
                    let key = Key::new(&asked.bucket, &value)?;
                    asked.first = ring::partition_of(&key, service.partitions());
                    asked.after = Some(value.into());
                }
                "limit" => match text.parse() {
                    Ok(limit) if limit > 0 => asked.limit = limit,
                    _ => {
                        return Err(Problem::bad_request(format!(
                            "limit is {text:?}: write a number of keys from 1"
                        )));
                    }
                },
                _ => match &*text {
                    "1" | "true" => asked.values = true,
                    "0" | "false" => asked.values = false,
                    _ => return Err(Problem::bad_request(format!("values is {text:?}: use 1 or 0"))),
                },
            }
        }
        Ok(asked)
    }

    async fn page(
        &self,
        service: &Service,
        partition: PartitionId,
        after: Option<Bytes>,
    ) -> Result<Listed, Problem> {
        let page = ListPage {
            partition,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            after,
            keys_max: self.limit.min(LIST_PAGE_KEYS_MAX as u64) as u32,
            values: self.values,
            r: self.consistency.r,
        };
        let call = Call { timeout_ms: self.consistency.timeout_ms, request: request::Request::List(page) };
        match service.shards.call(call).await {
            request::Response::Listed(listed) => Ok(listed),
            other => Err(failed(other)),
        }
    }

    /// One line, without its end; `None` if nothing of the key is to be seen.
    fn line(&self, service: &Service, listed: &Listed, key: &[u8], record: &Record) -> Option<String> {
        let now_ms = listed.now_ms;
        let values = shown::shown(record, listed.mode, now_ms);
        let newest = values.iter().map(|sibling| sibling.stamp.ms()).max()?;
        let mut line = json!({});
        shown::put_key(&mut line, key);
        line["siblings"] = values.len().into();
        line["time"] = time::iso(newest).into();
        if self.values {
            let whole = Key::new(&self.bucket, key).ok()?;
            line["context"] = shown::token(service, &Context::of(record, None), &whole).into();
            line["values"] = values.iter().map(|sibling| shown::sibling_json(sibling, now_ms)).collect();
        }
        Some(line.to_string())
    }
}

/// Writes the lines of all partitions; stops when the limit is reached, a page fails (the last line then says so)
/// or the reader is gone.
async fn write_all(service: Arc<Service>, asked: Asked, first: Listed, lines: mpsc::Sender<Bytes>) {
    let asked = Arc::new(asked);
    let partitions = service.partitions();
    let mut paper = Paper { service: service.clone(), asked: asked.clone(), left: asked.limit, lines };
    if paper.write(asked.first, Ok(first)).await.is_break() {
        return;
    }
    let ahead = (usize::from(asked.first.0) + 1..partitions).map(move |p| {
        let (service, asked, partition) = (service.clone(), asked.clone(), PartitionId(p as u16));
        async move { (partition, asked.page(&service, partition, None).await) }
    });
    let mut pages = std::pin::pin!(stream::iter(ahead).buffered(PARTITIONS_AHEAD));
    while let Some((partition, page)) = pages.next().await {
        if paper.write(partition, page).await.is_break() {
            return;
        }
    }
}

/// What is being written.
struct Paper {
    service: Arc<Service>,
    asked: Arc<Asked>,
    /// Keys that may still be written.
    left: u64,
    lines: mpsc::Sender<Bytes>,
}

impl Paper {
    /// Writes a partition, of which the first page is there; breaks if nothing may follow.
    async fn write(&mut self, partition: PartitionId, mut page: Result<Listed, Problem>) -> ControlFlow<()> {
        loop {
            let listed = match page {
                Ok(listed) => listed,
                Err(problem) => {
                    let line = json!({ "problem": problem.json() });
                    // The reader may be gone.
                    let _ = self.lines.send(format!("{line}\n").into()).await;
                    return ControlFlow::Break(());
                }
            };
            let chunk = self.chunk(&listed);
            if !chunk.is_empty() && self.lines.send(chunk.into()).await.is_err() || self.left == 0 {
                return ControlFlow::Break(());
            }
            match listed.next_after {
                Some(after) => page = self.asked.page(&self.service, partition, Some(after)).await,
                None => return ControlFlow::Continue(()),
            }
        }
    }

    fn chunk(&mut self, listed: &Listed) -> String {
        let mut chunk = String::new();
        for (key, record) in &listed.entries {
            if self.left > 0
                && let Some(line) = self.asked.line(&self.service, listed, key, record)
            {
                chunk.push_str(&line);
                chunk.push('\n');
                self.left -= 1;
            }
        }
        chunk
    }
}

/// Partitions that are asked before their turn: they are many, and mostly small.
const PARTITIONS_AHEAD: usize = 8;
/// Pages that wait for a slow reader.
const CHUNKS_MAX: usize = 4;
