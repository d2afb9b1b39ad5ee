//! How records look over HTTP: headers of a single value, and the two forms of several.

use super::asked::META_PREFIX;
use crate::time;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use gramme_core::bucket::Mode;
use gramme_core::{Key, Record, Sibling, View};
use gramme_wire::Acks;
use serde_json::{Value, json};

/// The media type of the JSON form.
pub(super) const SIBLINGS_JSON: &str = "application/vnd.gramme.siblings+json";

/// Which form of a record the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The value itself; several values as JSON.
    Plain,
    /// The JSON form, always.
    Json,
    /// The value itself; several values as parts.
    Multipart,
}

impl Form {
    /// What `Accept` asks for.
    pub(super) fn of(headers: &HeaderMap) -> Form {
        let accepts = |media: &str| {
            let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| {
                part.split(';').next().is_some_and(|part| part.trim().eq_ignore_ascii_case(media))
            })
        };
        if accepts(SIBLINGS_JSON) {
            Form::Json
        } else if accepts("multipart/mixed") {
            Form::Multipart
        } else {
            Form::Plain
        }
    }
}

/// A header that is always valid: characters that a header cannot carry become `?`.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let clean: String =
        text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&clean) {
        headers.append(HeaderName::from_static(name), value);
    }
}

/// Who stood behind an answer, and its explanation if one was asked for.
pub(super) fn put_acks(headers: &mut HeaderMap, acks: Acks, buffered: bool, explain: &[String]) {
    put(headers, "gramme-acks", &format!("{acks}{}", if buffered { "; buffered" } else { "" }));
    for line in explain {
        put(headers, "gramme-explain", line);
    }
}

/// A single value: its body, and what is known of it in headers.
pub(super) fn one(sibling: &Sibling, now_ms: u64) -> Response<Body> {
    let value = sibling.live_value(now_ms).cloned().unwrap_or_default();
    let mut response = Response::new(Body::from(value));
    put_facts(response.headers_mut(), sibling);
    response
}

fn put_facts(headers: &mut HeaderMap, sibling: &Sibling) {
    let media = HeaderValue::from_bytes(&sibling.content_type).ok().filter(|value| !value.is_empty());
    headers
        .insert(header::CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    put(headers, "last-modified", &time::http_date(sibling.stamp.ms()));
    if let Some(at) = sibling.expires_ms() {
        put(headers, "gramme-expires", &time::iso(at));
    }
    for (name, value) in &sibling.meta {
        let name = [META_PREFIX.as_bytes(), name].concat();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
}

/// The JSON form of a record.
pub(super) fn json_form(
    record: &Record,
    context: Option<String>,
    now_ms: u64,
    status: StatusCode,
) -> Response<Body> {
    let siblings: Vec<Value> =
        record.siblings().iter().map(|sibling| sibling_json(sibling, now_ms)).collect();
    let form = json!({ "context": context, "siblings": siblings });
    let mut text = serde_json::to_vec_pretty(&form).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    put(response.headers_mut(), "content-type", SIBLINGS_JSON);
    response
}

/// One sibling in JSON; its value is `text` if it is UTF-8, else `base64`.
pub(super) fn sibling_json(sibling: &Sibling, now_ms: u64) -> Value {
    let mut object = json!({ "id": sibling.dot.to_string() });
    let value = sibling.live_value(now_ms);
    if let Some(value) = value {
        object["content_type"] = String::from_utf8_lossy(&sibling.content_type).into();
        match std::str::from_utf8(value) {
            Ok(text) => object["text"] = text.into(),
            Err(_) => object["base64"] = STANDARD.encode(value).into(),
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let meta: serde_json::Map<_, _> =
        sibling.meta.iter().map(|(name, value)| (text(name), text(value).into())).collect();
    object["meta"] = meta.into();
    object["time"] = time::iso(sibling.stamp.ms()).into();
    if let Some(at) = sibling.expires_ms() {
        object["expires"] = time::iso(at).into();
    }
    object["node"] = sibling.author.to_string().into();
    object["deleted"] = value.is_none().into();
    object
}

/// All values as parts of one body.
pub(super) fn multipart(values: &[&Sibling], now_ms: u64, status: StatusCode) -> Response<Body> {
    let boundary = format!("gramme-{:016x}{:016x}", crate::random::word(), crate::random::word());
    let mut body = BytesMut::new();
    for sibling in values {
        let mut headers = HeaderMap::new();
        put_facts(&mut headers, sibling);
        put(&mut headers, "gramme-sibling", &sibling.dot.to_string());
        put(&mut headers, "gramme-node", &sibling.author.to_string());
        body.put_slice(format!("--{boundary}\r\n").as_bytes());
        for (name, value) in &headers {
            body.put_slice(name.as_str().as_bytes());
            body.put_slice(b": ");
            body.put_slice(value.as_bytes());
            body.put_slice(b"\r\n");
        }
        body.put_slice(b"\r\n");
        body.put_slice(sibling.live_value(now_ms).map_or(&b""[..], |value| value));
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut response = Response::new(Body::from(body.freeze()));
    *response.status_mut() = status;
    put(response.headers_mut(), "content-type", &format!("multipart/mixed; boundary={boundary}"));
    response
}

/// What a reader is shown of a record, whichever mode its bucket has.
pub(super) fn shown(record: &Record, mode: Mode, now_ms: u64) -> Vec<&Sibling> {
    match record.view(mode, now_ms) {
        View::Missing | View::Deleted => Vec::new(),
        View::One(sibling) => vec![sibling],
        View::Siblings(values) => values,
    }
}

/// A record's tag as an `ETag`.
pub(super) fn etag(record: &Record) -> String {
    format!("\"{:016x}\"", record.tag())
}

/// The same of a record with this one sibling.
pub(super) fn etag_of_one(dot: gramme_core::Dot) -> String {
    format!("\"{:016x}\"", gramme_core::record::tag_of([dot]))
}

/// `key`, or `key_base64` if it is not UTF-8.
pub(super) fn put_key(object: &mut Value, key: &[u8]) {
    match std::str::from_utf8(key) {
        Ok(text) => object["key"] = text.into(),
        Err(_) => object["key_base64"] = STANDARD.encode(key).into(),
    }
}

/// The key's token of a context.
pub(super) fn token(service: &crate::doors::Service, context: &gramme_core::Context, key: &Key) -> String {
    context.to_token(key, &service.company.secret)
}
