//! `/v1/cluster/records`: whole records out of the cluster and back into it, for backups.
//!
//! What is given back is joined as records that nobody vouches for: whatever the cluster has seen overwritten or
//! deleted since stays so. Both directions may be repeated without harm.

use super::asked;
use super::failed;
use super::problem::Problem;
use super::shown::{put_key, shown};
use crate::doors::Service;
use crate::tokio_env::wall_ms;
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use gramme_core::backup::{Rows, write_row};
use gramme_core::codec::{Writer, decode_record, encode_record};
use gramme_core::limits::{LIST_PAGE_KEYS_MAX, REQUEST_MS};
use gramme_core::{Dot, Key, PartitionId, RequestId};
use gramme_node::request::{self, Call, CopyPage, Restore};
use gramme_wire::{Expect, Put};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// `GET`: a page of one partition's records, as `docs/format/backup.md` lays rows out.
pub(super) async fn get(
    State(service): State<Arc<Service>>,
    parts: Parts,
) -> Result<Response<Body>, Problem> {
    let page = page_of(&parts)?;
    let call = Call { timeout_ms: COPY_MS, request: request::Request::Copy(page) };
    let copied = match service.shards.call(call).await {
        request::Response::Copied(copied) => copied,
        other => return Err(failed(other)),
    };
    let mut rows = Writer::new();
    for (key, record) in &copied.entries {
        write_row(&mut rows, key, &encode_record(record));
    }
    let mut response = Response::new(Body::from(rows.into_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(next) = &copied.next_after {
        super::shown::put(headers, "gramme-next", &hex(next));
    }
    if let Some(seen) = copied.seen {
        super::shown::put(headers, "gramme-seen", &format!("{seen:016x}"));
    }
    Ok(response)
}

fn page_of(parts: &Parts) -> Result<CopyPage, Problem> {
    let mut partition = None;
    let mut page = CopyPage { partition: PartitionId(0), after: None, keys_max: LIST_PAGE_KEYS_MAX as u32 };
    for (name, value) in asked::query(&parts.uri, &["after", "limit", "partition"])? {
        let text = String::from_utf8_lossy(&value);
        let wrong = |what: &str| Problem::bad_request(format!("{name} is {text:?}: {what}"));
        match &*name {
            "partition" => {
                partition = Some(text.parse().map_err(|_| wrong("write the number of a partition"))?);
            }
            "after" => {
                page.after = Some(unhex(&text).ok_or_else(|| wrong("send back what Gramme-Next said"))?);
            }
            _ => {
                let limit = text.parse().ok().filter(|&limit| limit > 0);
                page.keys_max = limit.ok_or_else(|| wrong("write a number of keys from 1"))?;
            }
        }
    }
    page.partition = PartitionId(
        partition.ok_or_else(|| Problem::bad_request("partition is missing: write ?partition=NUMBER"))?,
    );
    Ok(page)
}

/// `POST`: joins rows into the cluster; says how many are stored, and of those that are not why.
pub(super) async fn post(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let anew = match asked::query(&parts.uri, &["anew"])?.first().map(|(_, value)| &value[..]) {
        None | Some(b"0") => false,
        Some(b"1") => true,
        Some(_) => return Err(Problem::bad_request("anew is 1 or 0")),
    };
    let (body, _room) = asked::value(&service, &parts.headers, body).await?;
    let rows: Vec<Restore> = Rows::new(body)
        .map(|row| row.map(|(key, record)| Restore { key, record }))
        .collect::<Result<_, _>>()
        .map_err(|bad| Problem::bad_request(format!("the row at byte {}: {}", bad.at, bad.why)))?;
    let count = rows.len();
    let unstored: Vec<(Key, Problem)> = stream::iter(rows.into_iter().map(|row| async {
        let key = row.key.clone();
        let given = if anew { write_anew(&service, row).await } else { join(&service, row).await };
        given.err().map(|problem| (key, problem))
    }))
    .buffer_unordered(AT_ONCE)
    .filter_map(async |unstored| unstored)
    .collect()
    .await;
    let (kept, failures): (Vec<_>, Vec<_>) =
        unstored.into_iter().partition(|(_, problem)| problem.is_unmet());
    let failed: Vec<Value> =
        failures.iter().take(FAILURES_MAX).map(|(key, problem)| told(key, problem)).collect();
    let stored = count - kept.len() - failures.len();
    Ok(Json(json!({ "stored": stored, "kept": kept.len(), "failures": failures.len(), "failed": failed })))
}

/// Joins a row as it is.
async fn join(service: &Service, row: Restore) -> Result<(), Problem> {
    let call = Call { timeout_ms: REQUEST_MS, request: request::Request::Restore(Box::new(row)) };
    match service.shards.call(call).await {
        request::Response::Restored(_) => Ok(()),
        other => Err(failed(other)),
    }
}

/// Writes the values that a row shows as new ones, if the key has none: tombstones and expired values leave
/// nothing to write. Each bears a request id that follows from its dot, so that doing it again writes nothing.
async fn write_anew(service: &Service, row: Restore) -> Result<(), Problem> {
    let record = decode_record(&row.record)
        .map_err(|bad| Problem::bad_request(format!("the record of {:?}: {bad}", row.key)))?;
    let now_ms = wall_ms();
    let mode = service.shards.call(Call {
        timeout_ms: REQUEST_MS,
        request: request::Request::Bucket(row.key.bucket().to_owned()),
    });
    let mode = match mode.await {
        request::Response::Bucket(settings) => settings.mode,
        other => return Err(failed(other)),
    };
    for (number, sibling) in shown(&record, mode, now_ms).into_iter().enumerate() {
        let put = Put {
            key: row.key.clone(),
            content: sibling.content.clone(),
            content_type: sibling.content_type.clone(),
            meta: sibling.meta.clone(),
            ttl_ms: Some(sibling.expires_ms().map_or(0, |at| at.saturating_sub(now_ms).max(1))),
            context: None,
            w: None,
            pw: 0,
            request: request_of(sibling.dot),
            retry: true,
            buffered: None,
            // The first finds the key without a value, or none is written; the others join it.
            expect: (number == 0).then_some(Expect::Absent),
            explain: false,
        };
        let call = Call { timeout_ms: REQUEST_MS, request: request::Request::Put(Box::new(put)) };
        match service.shards.call(call).await {
            request::Response::Done(_) => {}
            other => return Err(failed(other)),
        }
    }
    Ok(())
}

fn request_of(dot: Dot) -> RequestId {
    let high = dot.incarnation.0 ^ ANEW;
    RequestId(u128::from(high) << 64 | u128::from(dot.n))
}

fn told(key: &Key, problem: &Problem) -> Value {
    let mut object = json!({ "bucket": key.bucket(), "problem": problem.json() });
    put_key(&mut object, key.key());
    object
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.is_empty() {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
}

/// A page's time: a disk may have to be read for it.
const COPY_MS: u64 = 5 * REQUEST_MS;
/// Rows of one request that are on their way at once.
const AT_ONCE: usize = 32;
/// Sets the request ids of restored values apart from those that clients draw.
const ANEW: u64 = 0x7265_7374_6f72_6564;
/// Failures that an answer names.
const FAILURES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::{hex, unhex};

    #[test]
    fn a_place_to_go_on_survives_the_way_through_a_header() {
        assert_eq!(unhex(&hex(b"\x05carts\0\xff")).as_deref(), Some(&b"\x05carts\0\xff"[..]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("012"), None);
    }
}
