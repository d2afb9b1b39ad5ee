//! What a request asks for beyond its path: query, headers, body, each read once into a type that says what was
//! checked. Unknown words are refused with a suggestion, never passed over.

use super::problem::{Problem, level, unknown};
use crate::doors::{BodyRoom, Service, words};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use bytes::{Bytes, BytesMut};
use gramme_core::bucket::Level;
use gramme_core::limits::{REQUEST_MS, REQUEST_MS_MAX, VALUE_BYTES_MAX};
use gramme_core::{Context, Key, RequestId};
use gramme_wire::Expect;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How many answers a request wants, and how long it waits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Consistency {
    pub(super) r: Option<Level>,
    pub(super) w: Option<Level>,
    pub(super) pr: u8,
    pub(super) pw: u8,
    pub(super) timeout_ms: u64,
}

/// The key of `/v1/kv/{bucket}/{key}` and `/v1/ring/{bucket}/{key}`: all that follows the bucket, percent-decoded.
pub(super) fn key_of(uri: &Uri, prefix: &str) -> Result<Key, Problem> {
    let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(Key::new(&bucket_text(bucket)?, &decoded(key, false)?)?)
}

/// The bucket of a path that ends with it.
pub(super) fn bucket_of(uri: &Uri, prefix: &str) -> Result<String, Problem> {
    let bucket = bucket_text(uri.path().strip_prefix(prefix).unwrap_or_default())?;
    gramme_core::id::check_bucket(&bucket)?;
    Ok(bucket)
}

fn bucket_text(raw: &str) -> Result<String, Problem> {
    String::from_utf8(decoded(raw, false)?).map_err(|_| gramme_core::id::BadKey::BucketName.into())
}

/// Percent-decoded bytes; a `%` that begins no byte is an error. In queries a `+` is a blank.
fn decoded(raw: &str, in_query: bool) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' if in_query => b' ',
            b'%' => {
                let digit = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(Problem::bad_request(
                        "a % in the URL is not followed by two hexadecimal digits: write a percent sign as %25",
                    ));
                };
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    Ok(bytes)
}

/// The parameters of a query, each at most once and each among `known`.
pub(super) fn query(uri: &Uri, known: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = String::from_utf8_lossy(&decoded(name, true)?).into_owned();
        if !known.contains(&&*name) {
            return Err(match known {
                [] => Problem::bad_request(format!("unknown parameter {name:?}: this path takes none")),
                known => unknown("parameter", &name, known),
            });
        }
        if found.iter().any(|(other, _)| *other == name) {
            return Err(Problem::bad_request(format!("the parameter {name} is given twice")));
        }
        found.push((name, decoded(value, true)?));
    }
    Ok(found)
}

/// No `Gramme-` header may be one that nobody reads.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    for name in headers.keys() {
        let name = name.as_str();
        let ours = name.starts_with("gramme-") && !name.starts_with(META_PREFIX);
        if ours && !HEADERS.contains(&name) {
            return Err(unknown("header", name, &HEADERS));
        }
    }
    Ok(())
}

/// `Gramme-Consistency: r=quorum; w=2; pr=1; pw=1; timeout=300ms`.
pub(super) fn consistency(service: &Service, headers: &HeaderMap) -> Result<Consistency, Problem> {
    let mut asked = Consistency { timeout_ms: REQUEST_MS, ..Consistency::default() };
    let Some(text) = text_of(headers, "gramme-consistency")? else { return Ok(asked) };
    let layout = service.layout();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim());
        let of_homes = || words::homes(name, value, &layout).map_err(Problem::bad_request);
        match name {
            "r" => asked.r = Some(level(name, value, &layout)?),
            "w" => asked.w = Some(level(name, value, &layout)?),
            "pr" => asked.pr = of_homes()?,
            "pw" => asked.pw = of_homes()?,
            "timeout" => asked.timeout_ms = timeout(value)?,
            other => {
                return Err(unknown("part of Gramme-Consistency", other, &["r", "w", "pr", "pw", "timeout"]));
            }
        }
    }
    Ok(asked)
}

fn timeout(text: &str) -> Result<u64, Problem> {
    let (digits, factor) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1000),
    };
    let ms = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
    ms.filter(|ms| (1..=REQUEST_MS_MAX).contains(ms)).ok_or_else(|| {
        Problem::bad_request(format!(
            "timeout is {text:?}: use 1ms to {REQUEST_MS_MAX}ms, such as 300ms or 2s"
        ))
    })
}

/// A context in this header, checked to be one of this key.
pub(super) fn context(
    service: &Service,
    headers: &HeaderMap,
    name: &str,
    key: &Key,
) -> Result<Option<Context>, Problem> {
    match text_of(headers, name)? {
        Some(token) => Ok(Some(Context::from_token(token, key, &service.company.secret)?)),
        None => Ok(None),
    }
}

/// `1` or nothing.
pub(super) fn flag(headers: &HeaderMap, name: &str) -> Result<bool, Problem> {
    match text_of(headers, name)? {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(Problem::bad_request(format!("{name} is {other:?}: use 1 or leave it out"))),
    }
}

/// `Gramme-TTL`, in milliseconds; 0 is for ever.
pub(super) fn ttl_ms(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(text) = text_of(headers, "gramme-ttl")? else { return Ok(None) };
    let ms = text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000));
    let wrong =
        || Problem::bad_request(format!("Gramme-TTL is {text:?}: write whole seconds, or 0 for ever"));
    ms.ok_or_else(wrong).map(Some)
}

/// `Idempotency-Key`: 32 hexadecimal digits are the request id itself, any other text stands for one; without it
/// the door draws one.
pub(super) fn request_id(headers: &HeaderMap) -> Result<RequestId, Problem> {
    let Some(text) = text_of(headers, "idempotency-key")? else {
        return Ok(RequestId(u128::from(crate::random::word()) << 64 | u128::from(crate::random::word())));
    };
    words::request("Idempotency-Key", text).map_err(Problem::bad_request)
}

/// `Content-Type`, as it stands.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Bytes, Problem> {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    words::check_content_type("Content-Type", value).map_err(Problem::bad_request)?;
    Ok(Bytes::copy_from_slice(value))
}

/// `Gramme-Meta-*`: names without the prefix, in lower case, and values.
pub(super) fn meta(headers: &HeaderMap) -> Result<Vec<(Bytes, Bytes)>, Problem> {
    let mut meta = Vec::new();
    for (name, value) in headers {
        if let Some(rest) = name.as_str().strip_prefix(META_PREFIX) {
            meta.push((Bytes::copy_from_slice(rest.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
        }
    }
    let bytes: usize = meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    words::check_meta(meta.len(), bytes).map_err(Problem::bad_request)?;
    Ok(meta)
}

/// What a write expects of its key: `If-None-Match: *` or an ETag, or `If-Match` with either. One condition, one ETag:
/// a list of them, a weak one and a date say more than can be held against a key here.
pub(super) fn expect(headers: &HeaderMap) -> Result<Option<Expect>, Problem> {
    if headers.contains_key(header::IF_UNMODIFIED_SINCE) {
        return Err(Problem::bad_request(
            "if-unmodified-since is not supported on writes: clocks do not order them, so use If-Match with an ETag",
        ));
    }
    match (text_of(headers, "if-match")?, text_of(headers, "if-none-match")?) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Problem::bad_request("a write has one condition: send If-Match or If-None-Match"))
        }
        (Some("*"), None) => Ok(Some(Expect::Present)),
        (None, Some("*")) => Ok(Some(Expect::Absent)),
        (Some(etag), None) => tag_of("if-match", etag).map(|tag| Some(Expect::Tag(tag))),
        (None, Some(etag)) => tag_of("if-none-match", etag).map(|tag| Some(Expect::NotTag(tag))),
    }
}

fn tag_of(name: &str, etag: &str) -> Result<u64, Problem> {
    let digits =
        etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|text| text.len() == 16);
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        Problem::bad_request(format!(
            "{name} is {etag}: use * or one ETag as a read gave it, such as \"00c0ffee00c0ffee\""
        ))
    })
}

/// `Gramme-Buffered: true`: copies in memory count; `false`: only those on disks, whatever the bucket says.
pub(super) fn buffered(headers: &HeaderMap) -> Result<Option<bool>, Problem> {
    match text_of(headers, "gramme-buffered")? {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(Problem::bad_request(format!("gramme-buffered is {other:?}: use true or false"))),
    }
}

/// The whole body, up to the largest value of any bucket. One that is larger is read on for a while before it is
/// refused, since a client that is still sending would not see the answer.
pub(super) async fn value(
    service: &Arc<Service>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<(Bytes, BodyRoom), Problem> {
    let mut room = service.body_room();
    let announced = text_of(headers, "content-length")?.and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > VALUE_BYTES_MAX as u64) && headers.contains_key(header::EXPECT) {
        return Err(too_large(announced));
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Problem::bad_request(format!("the body broke off: {e}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        received += piece.len();
        if received > LINGER_BYTES_MAX {
            return Err(too_large(announced));
        }
        if received > VALUE_BYTES_MAX {
            (first, whole) = (Bytes::new(), BytesMut::new());
            continue;
        }
        if !room.grow(piece.len()) {
            return Err(Problem::overloaded());
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    if received > VALUE_BYTES_MAX {
        return Err(too_large(Some(received as u64)));
    }
    Ok((if whole.is_empty() { first } else { whole.freeze() }, room))
}

/// A body that is one JSON object; `example` is one that would do.
pub(super) async fn object(body: Body, example: &str) -> Result<Map<String, Value>, Problem> {
    let wrong = || Problem::bad_request(format!("the body is not a JSON object, such as {example}"));
    let body = axum::body::to_bytes(body, OBJECT_BYTES_MAX).await.map_err(|_| wrong())?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(wrong()),
    }
}

fn too_large(bytes: Option<u64>) -> Problem {
    let bytes = bytes.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string());
    Problem::refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "value_too_large",
        format!(
            "the value has {bytes} bytes, but no bucket takes more than {VALUE_BYTES_MAX}: store it in parts"
        ),
    )
}

/// A header's text, if it is there; at most once.
pub(super) fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Ok(None) };
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_request(format!("the header {name} is given twice")));
    }
    let text = value
        .to_str()
        .map_err(|_| Problem::bad_request(format!("the header {name} is not printable ASCII")))?;
    Ok(Some(text.trim()))
}

pub(super) const META_PREFIX: &str = "gramme-meta-";
const HEADERS: [&str; 7] = [
    "gramme-buffered",
    "gramme-consistency",
    "gramme-context",
    "gramme-explain",
    "gramme-min",
    "gramme-retry",
    "gramme-ttl",
];
/// How much of a body that is too large is read before the connection is given up.
const LINGER_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;
/// More than any object that a client may send.
const OBJECT_BYTES_MAX: usize = 64 << 10;
