//! What calls give back.

use crate::error::Error;
use crate::exchange::Answer;
use crate::request::{ACKS, CONTEXT, EXPLAIN, REQUEST_ID};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;

/// What a reader or writer has seen of one key, signed by the cluster; opaque. Given back with the next write
/// of that key, exactly what was seen is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextToken(String);

impl ContextToken {
    /// A token as it was given; the servers check it.
    pub fn new(token: impl Into<String>) -> ContextToken {
        ContextToken(token.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContextToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub enum Got {
    /// One value.
    One(Value),
    /// Values that were written without knowing of each other: the application decides, and writes its
    /// decision with their context.
    Siblings(Siblings),
    /// The key was deleted; a write with this context follows the deletion.
    Deleted(ContextToken),
    /// Nobody has written the key.
    Missing,
}

impl Got {
    /// The context for the next write; `None` if nothing was ever written.
    pub fn context(&self) -> Option<&ContextToken> {
        match self {
            Got::One(value) => Some(&value.context),
            Got::Siblings(several) => Some(&several.context),
            Got::Deleted(context) => Some(context),
            Got::Missing => None,
        }
    }
}

/// One value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its bytes.
    pub bytes: Bytes,
    /// As it was written.
    pub content_type: String,
    /// As it was written; names in lower case.
    pub meta: BTreeMap<String, String>,
    /// For the next write of the key.
    pub context: ContextToken,
}

/// Several values of one key.
#[derive(Clone, Debug)]
pub struct Siblings {
    /// For the write that replaces all of them.
    pub context: ContextToken,
    /// Each of them; tombstones among them.
    pub siblings: Vec<Sibling>,
}

/// One of several values of a key.
#[derive(Clone, Debug)]
pub struct Sibling {
    /// The name of the write that made it.
    pub id: String,
    /// Its bytes; `None` for a deletion.
    pub bytes: Option<Bytes>,
    /// As it was written.
    pub content_type: String,
    /// As it was written.
    pub meta: BTreeMap<String, String>,
    /// When it was written, by the hybrid clock of its coordinator.
    pub time: String,
    /// The id of the node that coordinated its write, as in `Gramme-Node` and in the cluster's status.
    pub node: String,
}

/// What a write gave back.
#[derive(Clone, Debug)]
pub struct Written {
    /// What the writer has now seen: the given context and its own write.
    pub context: ContextToken,
    /// How it went.
    pub via: Via,
}

/// How a call went.
#[derive(Clone, Debug, Default)]
pub struct Via {
    /// The node that answered.
    pub node: String,
    /// Whether an earlier attempt at another node was lost or could not be served.
    pub retried: bool,
    /// The ETag of what was read or written, quotes included; see [`crate::Expected::Tag`].
    pub etag: Option<String>,
    /// Who acknowledged, such as `3; homes=2; fallbacks=1`.
    pub acks: Option<String>,
    /// The name of the request, for logs.
    pub request: Option<String>,
    /// Who was asked, when each answered and with what, if it was asked for: one line per step.
    pub explain: Vec<String>,
}

impl Via {
    pub(crate) fn of(answer: &Answer) -> Via {
        let explain = answer.headers.get_all(EXPLAIN).iter();
        Via {
            node: answer.node.clone(),
            retried: answer.retried,
            etag: text(&answer.headers, hyper::header::ETAG),
            acks: text(&answer.headers, ACKS),
            request: text(&answer.headers, REQUEST_ID),
            explain: explain.filter_map(|line| line.to_str().ok()).map(str::to_string).collect(),
        }
    }
}

/// The raw form of a single value.
pub(crate) fn one(answer: Answer) -> Result<Got, Error> {
    let context = context_of(&answer)?;
    let meta = answer.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(META_PREFIX)?;
        Some((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Ok(Got::One(Value {
        meta: meta.collect(),
        content_type: text(&answer.headers, CONTENT_TYPE).unwrap_or_else(|| OCTETS.to_string()),
        context,
        bytes: answer.body,
    }))
}

/// The JSON form, `{context, siblings: [..]}`, of a 409 or of a read that asked for it.
pub(crate) fn siblings(node: &str, body: &[u8]) -> Result<Siblings, Error> {
    let json: Json = serde_json::from_slice(body).map_err(|e| Error::not_understood(node, e))?;
    let several = || {
        let context = ContextToken::new(json["context"].as_str()?);
        let siblings = json["siblings"].as_array()?.iter().map(sibling).collect::<Option<Vec<_>>>()?;
        Some(Siblings { context, siblings })
    };
    several().ok_or_else(|| Error::not_understood(node, "no context and siblings in it"))
}

pub(crate) fn sibling(json: &Json) -> Option<Sibling> {
    let deleted = json["deleted"].as_bool().unwrap_or(false);
    let words = |key: &str| match &json[key] {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    let meta = json["meta"].as_object().into_iter().flatten();
    Some(Sibling {
        id: words("id"),
        bytes: if deleted { None } else { Some(bytes_under(json, "text", "base64")?) },
        content_type: json["content_type"].as_str().unwrap_or(OCTETS).to_string(),
        meta: meta.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string())).collect(),
        time: words("time"),
        node: words("node"),
    })
}

/// The bytes under `key`, or under `key_base64` if they are not text.
pub(crate) fn key_in(json: &Json) -> Option<Bytes> {
    bytes_under(json, "key", "key_base64")
}

fn bytes_under(json: &Json, text: &str, encoded: &str) -> Option<Bytes> {
    match (json[text].as_str(), json[encoded].as_str()) {
        (Some(text), _) => Some(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(encoded)) => STANDARD.decode(encoded).ok().map(Bytes::from),
        (None, None) => None,
    }
}

pub(crate) fn context_of(answer: &Answer) -> Result<ContextToken, Error> {
    text(&answer.headers, CONTEXT)
        .map(ContextToken::new)
        .ok_or_else(|| Error::not_understood(&answer.node, "it has no Gramme-Context"))
}

pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string)
}

const META_PREFIX: &str = "gramme-meta-";
const OCTETS: &str = "application/octet-stream";
