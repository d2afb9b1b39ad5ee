//! A bucket's keys as a stream that outlives the node it comes from. The order of a list is that of the ring,
//! the same at every node, so a stream that breaks goes on after its last key through another node.
//!
//! Invariant: each key once. A list that could not be finished ends with an error, never silently.

use crate::error::{Error, Kind};
use crate::exchange::{Exchange, Opened, Problem, root_cause};
use crate::request::{Ask, bucket_path, encoded};
use crate::value::{ContextToken, Sibling, key_in, sibling};
use bytes::{Buf, Bytes, BytesMut};
use gramme_core::Outcome;
use gramme_core::limits::{REQUEST_MS, SIBLING_BYTES_VALUES_MAX, VALUE_BYTES_MAX};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Only what follows this key in the order of the list: where an earlier list ended.
    pub after: Option<Bytes>,
    /// Whether values are wanted.
    pub values: bool,
}

/// One key of a list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key within its bucket.
    pub key: Bytes,
    /// How many values it has; siblings if there are several.
    pub siblings: u64,
    /// Those values, if they were asked for.
    pub values: Vec<Sibling>,
    /// For the next write of the key; comes with values.
    pub context: Option<ContextToken>,
    /// The line as it was sent.
    pub line: Bytes,
}

/// A list under way.
pub struct List {
    exchange: Arc<Exchange>,
    path: String,
    after: Option<Bytes>,
    stream: Option<Stream>,
    /// Attempts in a row that brought no key.
    barren: usize,
    broken: Vec<String>,
    resumed: u64,
    finished: bool,
}

struct Stream {
    node: String,
    body: Incoming,
    unread: BytesMut,
    /// How much of `unread` is known to hold no end of line.
    searched: usize,
}

enum Line {
    Whole(Bytes),
    End,
    Broken(String),
}

impl List {
    pub(crate) fn new(exchange: Arc<Exchange>, bucket: &str, listing: Listing) -> Result<List, Error> {
        let mut path = format!("{}?values={}", bucket_path("/v1/kv", bucket)?, listing.values);
        if !listing.prefix.is_empty() {
            path.push_str(&format!("&prefix={}", encoded(&listing.prefix)));
        }
        Ok(List {
            exchange,
            path,
            after: listing.after,
            stream: None,
            barren: 0,
            broken: Vec::new(),
            resumed: 0,
            finished: false,
        })
    }

    /// How often the stream broke and went on elsewhere.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// The next key, `None` after the last. An error ends the list; [`Listing::after`] may take it up again.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        while !self.finished {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.open().await?,
            };
            match stream.line().await {
                Line::Whole(line) if line.is_empty() => self.stream = Some(stream),
                Line::Whole(line) => match read_line(&stream.node, line)? {
                    Ok(entry) => {
                        self.after = Some(entry.key.clone());
                        self.barren = 0;
                        self.stream = Some(stream);
                        return Ok(Some(entry));
                    }
                    Err(problem) if problem.retryable => self.broke(stream.node, problem.detail)?,
                    Err(problem) => return Err(self.end(Kind::Refused, problem.detail)),
                },
                Line::End => self.finished = true,
                Line::Broken(why) => self.broke(stream.node, why)?,
            }
        }
        Ok(None)
    }

    /// Opens the stream at the first node that gives one.
    async fn open(&mut self) -> Result<Stream, Error> {
        let mut path = self.path.clone();
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={}", encoded(after)));
        }
        let ask = Ask::new(Method::GET, path);
        loop {
            let order = self.exchange.nodes().order(Instant::now());
            for node in order {
                match self.exchange.open(&node, &ask).await {
                    Err(why) => self.broken.push(format!("{node}: {why}")),
                    Ok(opened) if opened.status.is_success() => {
                        return Ok(Stream { node, body: opened.body, unread: BytesMut::new(), searched: 0 });
                    }
                    Ok(opened) => {
                        let problem = problem_of(opened).await;
                        if !problem.retryable {
                            return Err(self.end(Kind::Refused, problem.detail));
                        }
                        self.broken.push(format!("{node}: {}", problem.detail));
                    }
                }
            }
            self.barren += 1;
            if self.barren >= BARREN_MAX {
                return Err(self.given_up());
            }
        }
    }

    fn broke(&mut self, node: String, why: String) -> Result<(), Error> {
        self.exchange.nodes().failed(&node, Instant::now());
        self.broken.push(format!("{node}: {why}"));
        self.barren += 1;
        self.resumed += 1;
        if self.barren >= BARREN_MAX { Err(self.given_up()) } else { Ok(()) }
    }

    fn given_up(&mut self) -> Error {
        let last = self.broken.split_off(self.broken.len().saturating_sub(BARREN_MAX));
        self.end(Kind::Unavailable, format!("the list could not be finished ({})", last.join("; ")))
    }

    fn end(&mut self, kind: Kind, detail: String) -> Error {
        self.finished = true;
        Error { kind, detail, outcome: Outcome::NotApplied, status: None }
    }
}

impl Stream {
    /// The next line without its end.
    async fn line(&mut self) -> Line {
        loop {
            if let Some(at) = self.unread[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.unread.split_to(self.searched + at).freeze();
                self.unread.advance(1);
                self.searched = 0;
                return Line::Whole(line);
            }
            self.searched = self.unread.len();
            if self.unread.len() > LINE_BYTES_MAX {
                return Line::Broken(format!("a line of the list is longer than {LINE_BYTES_MAX} bytes"));
            }
            match timeout(SILENCE_MAX, self.body.frame()).await {
                Err(_) => return Line::Broken(format!("silent for {} ms", SILENCE_MAX.as_millis())),
                Ok(Some(Err(error))) => {
                    return Line::Broken(format!("the connection broke: {}", root_cause(&error)));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(part) = frame.into_data() {
                        self.unread.extend_from_slice(&part);
                    }
                }
                Ok(None) if self.unread.is_empty() => return Line::End,
                Ok(None) => return Line::Broken("the stream ended within a line".to_string()),
            }
        }
    }
}

/// A line is a key, or the problem that ends the stream.
fn read_line(node: &str, line: Bytes) -> Result<Result<Entry, Problem>, Error> {
    let json: Json = serde_json::from_slice(&line).map_err(|e| Error::not_understood(node, e))?;
    if let Some(problem) = json.get("problem") {
        return Ok(Err(Problem::read(StatusCode::SERVICE_UNAVAILABLE, problem)));
    }
    let entry = || {
        let values = json["values"].as_array().into_iter().flatten().map(sibling).collect::<Option<_>>()?;
        Some(Entry {
            key: key_in(&json)?,
            siblings: json["siblings"].as_u64()?,
            values,
            context: json["context"].as_str().map(ContextToken::new),
            line: line.clone(),
        })
    };
    Ok(Ok(entry().ok_or_else(|| Error::not_understood(node, "a line of the list is no key"))?))
}

async fn problem_of(opened: Opened) -> Problem {
    let status = opened.status;
    let body = timeout(SILENCE_MAX, opened.body.collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(|collected| collected.to_bytes()).unwrap_or_default();
    Problem::read(status, &serde_json::from_slice(&bytes).unwrap_or(Json::Null))
}

/// Rounds in a row without a key after which a list is given up.
const BARREN_MAX: usize = 4;
/// A node sends a page at least this often, or says why it cannot.
const SILENCE_MAX: Duration = Duration::from_millis(2 * REQUEST_MS);
/// All siblings of a key as base64 with escapes.
const LINE_BYTES_MAX: usize = 2 * (SIBLING_BYTES_VALUES_MAX + 1) * VALUE_BYTES_MAX;
