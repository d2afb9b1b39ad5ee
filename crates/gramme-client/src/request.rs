//! How calls become HTTP: paths, headers and the time to wait for them.

use crate::error::Error;
use crate::value::ContextToken;
use bytes::Bytes;
use gramme_core::RequestId;
use gramme_core::limits::{REQUEST_MS, REQUEST_MS_MAX, VALUE_BYTES_DEFAULT_MAX};
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value as Json;
use std::time::Duration;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Overrides the bucket's, such as `r=one` or `r=all; timeout=2s`; see docs/http.md.
    pub consistency: Option<String>,
    /// Answer only with a state that has seen this: read-your-writes through any node.
    pub min: Option<ContextToken>,
    /// Ask who was asked and when each answered; see [`crate::Via::explain`].
    pub explain: bool,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// What was read before: exactly that is replaced. Without it the value becomes a sibling of what is
    /// there, or, in an `lww` bucket, replaces what the coordinator sees.
    pub context: Option<ContextToken>,
    /// Stored with the value; `application/octet-stream` if nothing is said.
    pub content_type: Option<String>,
    /// How long the value lives, in seconds.
    pub ttl_seconds: Option<u64>,
    /// Overrides the bucket's, such as `w=all`; see docs/http.md.
    pub consistency: Option<String>,
    /// What the key must look like for the write to be made. Best effort: it is read first, and two writers at two
    /// nodes may both find what they expect; both writes are then kept.
    pub expect: Option<Expected>,
    /// Whether copies in memory count, overriding the bucket's setting.
    pub buffered: Option<bool>,
    /// Ask who was asked and when each answered; see [`crate::Via::explain`].
    pub explain: bool,
    /// Names this write. A program that repeats a call after a failure gives the same id again, and the
    /// write exists once. Made by the client if nothing is said.
    pub request: Option<RequestId>,
}

/// What a conditional write expects of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No value.
    Absent,
    /// Any value.
    Present,
    /// Exactly what the read saw that gave this ETag, quotes included.
    Tag(String),
}

/// One call, independent of the node that it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Time that the caller granted beyond the usual.
    pub(crate) granted: Option<Duration>,
}

impl Ask {
    pub(crate) fn new(method: Method, path: String) -> Ask {
        Ask { method, path, headers: HeaderMap::new(), body: Bytes::new(), granted: None }
    }

    /// One whose body is a JSON object.
    pub(crate) fn object(method: Method, path: String, object: &Json) -> Result<Ask, Error> {
        let mut ask = Ask::new(method, path).header(CONTENT_TYPE, "application/json")?;
        ask.body = object.to_string().into();
        Ok(ask)
    }

    pub(crate) fn writes(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Ask, Error> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            Error::argument(format!("{value:?} cannot be sent as {name}: use printable ASCII"))
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(crate) fn read(path: String, read: &Read) -> Result<Ask, Error> {
        let mut ask =
            Ask::new(Method::GET, path).consistency(read.consistency.as_deref())?.explain(read.explain);
        if let Some(min) = &read.min {
            ask = ask.header(MIN, min.as_str())?;
        }
        Ok(ask)
    }

    pub(crate) fn write(method: Method, path: String, write: &Write, body: Bytes) -> Result<Ask, Error> {
        let consistency = in_proportion(write.consistency.clone(), body.len());
        let mut ask = Ask::new(method, path).consistency(consistency.as_deref())?.explain(write.explain);
        let request = match write.request {
            Some(request) => request,
            None => fresh_request_id()?,
        };
        ask = ask.header(IDEMPOTENCY_KEY, &request.to_string())?;
        if let Some(context) = &write.context {
            ask = ask.header(CONTEXT, context.as_str())?;
        }
        ask = match &write.expect {
            None => ask,
            Some(Expected::Absent) => ask.header(IF_NONE_MATCH, "*")?,
            Some(Expected::Present) => ask.header(IF_MATCH, "*")?,
            Some(Expected::Tag(etag)) => ask.header(IF_MATCH, etag)?,
        };
        if let Some(buffered) = write.buffered {
            ask = ask.header(BUFFERED, if buffered { "true" } else { "false" })?;
        }
        if let Some(content_type) = &write.content_type {
            ask = ask.header(CONTENT_TYPE, content_type)?;
        }
        if let Some(ttl) = write.ttl_seconds {
            ask = ask.header(TTL, &ttl.to_string())?;
        }
        ask.body = body;
        Ok(ask)
    }

    pub(crate) fn accept(self, media_type: &'static str) -> Ask {
        let mut ask = self;
        ask.headers.insert(ACCEPT, HeaderValue::from_static(media_type));
        ask
    }

    fn explain(mut self, explain: bool) -> Ask {
        if explain {
            self.headers.insert(EXPLAIN, HeaderValue::from_static("1"));
        }
        self
    }

    fn consistency(mut self, consistency: Option<&str>) -> Result<Ask, Error> {
        if let Some(text) = consistency {
            self.granted = timeout_in(text);
            self = self.header(CONSISTENCY, text)?;
        }
        Ok(self)
    }
}

/// `/v1/kv/{bucket}/{key}` and its like; a key of any bytes is percent-encoded.
pub(crate) fn key_path(prefix: &str, bucket: &str, key: &[u8]) -> Result<String, Error> {
    gramme_core::Key::new(bucket, key).map_err(|bad| Error::argument(bad.to_string()))?;
    Ok(format!("{prefix}/{bucket}/{}", percent_encode(key, PLAIN)))
}

/// A path that ends with a bucket's name.
pub(crate) fn bucket_path(prefix: &str, bucket: &str) -> Result<String, Error> {
    gramme_core::id::check_bucket(bucket).map_err(|bad| Error::argument(bad.to_string()))?;
    Ok(format!("{prefix}/{bucket}"))
}

/// Any bytes as part of a path or query.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, PLAIN).to_string()
}

fn fresh_request_id() -> Result<RequestId, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::argument(format!("no request id could be made: the system gives no randomness ({e})"))
    })?;
    Ok(RequestId(u128::from_be_bytes(bytes)))
}

/// A value that every node has to receive, hash and sync takes longer than the usual deadline allows: it grows
/// with the value, unless the caller has set one.
fn in_proportion(consistency: Option<String>, bytes: usize) -> Option<String> {
    let text = consistency.as_deref().unwrap_or_default();
    if bytes <= VALUE_BYTES_DEFAULT_MAX || text.contains("timeout") {
        return consistency;
    }
    let ms = REQUEST_MS + bytes as u64 / LARGE_BYTES_PER_MS;
    let timeout = format!("timeout={}ms", ms.min(REQUEST_MS_MAX));
    Some(if text.trim().is_empty() { timeout } else { format!("{text}; {timeout}") })
}

/// The timeout that a consistency text grants the servers, so that the client waits at least as long. What
/// cannot be read is left to the server to refuse.
fn timeout_in(consistency: &str) -> Option<Duration> {
    let value = consistency.split(';').find_map(|part| part.trim().strip_prefix("timeout="))?.trim();
    let (number, unit_ms) = match value.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (value.strip_suffix('s')?, 1000),
    };
    let ms = number.trim().parse::<u64>().ok()?.saturating_mul(unit_ms);
    Some(Duration::from_millis(ms.min(REQUEST_MS_MAX)))
}

/// What RFC 3986 lets stand as it is. The dot is encoded: a key of "." or ".." must not be read as a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// What a modest cluster stores of one value in a millisecond: 16 MiB are given 4 s more.
const LARGE_BYTES_PER_MS: u64 = 4 << 10;

pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("gramme-context");
pub(crate) const BUFFERED: HeaderName = HeaderName::from_static("gramme-buffered");
pub(crate) const CONSISTENCY: HeaderName = HeaderName::from_static("gramme-consistency");
pub(crate) const EXPLAIN: HeaderName = HeaderName::from_static("gramme-explain");
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const MIN: HeaderName = HeaderName::from_static("gramme-min");
pub(crate) const RETRY: HeaderName = HeaderName::from_static("gramme-retry");
pub(crate) const TTL: HeaderName = HeaderName::from_static("gramme-ttl");
pub(crate) const ACKS: HeaderName = HeaderName::from_static("gramme-acks");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("gramme-request-id");
pub(crate) const SIBLINGS_JSON: &str = "application/vnd.gramme.siblings+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_bytes_become_paths_that_no_proxy_rewrites() {
        for (key, path) in [
            (&b"plain-key_1~"[..], "/v1/kv/b/plain-key_1~"),
            (b"a/b c?d#e%", "/v1/kv/b/a%2Fb%20c%3Fd%23e%25"),
            (b"..", "/v1/kv/b/%2E%2E"),
            (b"\0\xff", "/v1/kv/b/%00%FF"),
        ] {
            assert_eq!(key_path("/v1/kv", "b", key).unwrap(), path);
        }
    }

    #[test]
    fn what_no_node_would_take_is_refused_before_it_is_sent() {
        assert!(key_path("/v1/kv", "b", b"").unwrap_err().to_string().contains("empty"));
        assert!(key_path("/v1/kv", "no/slash", b"k").unwrap_err().to_string().contains("bucket name"));
        let bad = Write { content_type: Some("text/plain\r\nx: y".into()), ..Write::default() };
        assert!(Ask::write(Method::PUT, "/".into(), &bad, Bytes::new()).is_err());
    }

    #[test]
    fn large_values_are_given_time_in_proportion_and_small_ones_what_is_usual() {
        let asked = |text: Option<&str>, bytes| in_proportion(text.map(str::to_string), bytes);
        assert_eq!(asked(None, 1 << 20), None);
        assert_eq!(asked(Some("w=all"), 10), Some("w=all".to_string()));
        assert_eq!(asked(None, 16 << 20), Some("timeout=5096ms".to_string()));
        assert_eq!(asked(Some("w=all"), 2 << 20), Some("w=all; timeout=1512ms".to_string()));
        assert_eq!(asked(Some("timeout=1s"), 16 << 20), Some("timeout=1s".to_string()));
    }

    #[test]
    fn a_granted_timeout_is_read_from_the_consistency() {
        assert_eq!(timeout_in("r=all; timeout=2s"), Some(Duration::from_secs(2)));
        assert_eq!(timeout_in("timeout=300ms;w=1"), Some(Duration::from_millis(300)));
        assert_eq!(timeout_in("timeout=99999s"), Some(Duration::from_millis(REQUEST_MS_MAX)));
        assert_eq!(timeout_in("r=2"), None);
        assert_eq!(timeout_in("timeout=soon"), None);
    }
}
