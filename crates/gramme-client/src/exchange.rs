//! One call, at most two attempts. An attempt ends in one of three ways, and the difference is everything:
//! it was *not sent* (no connection: the next node is tried at no cost), it was *lost* (sent, and no whole
//! answer came: something of a write may exist), or it was *answered*.
//!
//! Invariant: a second attempt bears the same request id, and `Gramme-Retry: 1` if the first may have been
//! applied. A call fails with `maybe_applied` if any of its attempts may have been.

use crate::error::{Error, Kind};
use crate::nodes::Nodes;
use crate::request::{Ask, RETRY};
use bytes::{Bytes, BytesMut};
use gramme_core::Outcome;
use gramme_core::limits::{CLIENT_ATTEMPT_MS, REQUEST_MS, VALUE_BYTES_MAX};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value as Json;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The connections of a client, and what it knows of the nodes behind them.
pub(crate) struct Exchange {
    http: Http<HttpConnector, Full<Bytes>>,
    authorization: Option<HeaderValue>,
    nodes: Mutex<Nodes>,
}

/// A node's answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) node: String,
    /// Whether an earlier attempt of the same call was lost or could not be served.
    pub(crate) retried: bool,
}

/// A node's answer of which only the head was read.
pub(crate) struct Opened {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) node: String,
}

enum Ended {
    NotSent(String),
    Lost(String),
    Answered(Answer),
}

impl Exchange {
    pub(crate) fn new(nodes: Nodes, token: Option<&str>) -> Result<Exchange, Error> {
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Error::argument("the token has characters that cannot be sent: use printable ASCII")
            })?;
            value.set_sensitive(true);
            Ok(value)
        });
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_millis(CLIENT_ATTEMPT_MS)));
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);
        Ok(Exchange { http, authorization: authorization.transpose()?, nodes: Mutex::new(nodes) })
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes the call: at most two attempts that reach a node.
    pub(crate) async fn call(&self, ask: &Ask) -> Result<Answer, Error> {
        let (order, believed) = self.nodes().order(Instant::now());
        let may_retry = self.nodes().reserve_retry();
        let result = self.attempts(ask, &order, believed, may_retry).await;
        let used = matches!(&result, Ok((_, used)) | Err((_, used)) if *used);
        if may_retry && !used {
            self.nodes().return_retry();
        }
        result.map(|(answer, _)| answer).map_err(|(error, _)| error)
    }

    /// The flag says whether a retry was spent.
    async fn attempts(
        &self,
        ask: &Ask,
        order: &[String],
        believed: usize,
        may_retry: bool,
    ) -> Result<(Answer, bool), (Error, bool)> {
        let mut maybe_applied = false;
        let mut reached = 0;
        let mut unserved: Option<Answer> = None;
        let mut met: Vec<String> = Vec::new();
        for (at, node) in order.iter().enumerate() {
            let last = reached + 1 == ATTEMPTS_MAX || !may_retry || at + 1 >= believed.max(1);
            match self.attempt(node, ask, maybe_applied, wait(ask, last)).await {
                Ended::NotSent(why) => met.push(format!("{node}: {why}")),
                Ended::Lost(why) => {
                    met.push(format!("{node}: {why}"));
                    maybe_applied |= ask.writes();
                    reached += 1;
                }
                Ended::Answered(mut answer) => {
                    answer.retried = reached > 0;
                    if !is_transient(&answer) {
                        return Ok((answer, reached > 0));
                    }
                    let problem = Problem::of(&answer);
                    met.push(format!("{node}: {}", problem.detail));
                    maybe_applied |= ask.writes() && problem.outcome != Outcome::NotApplied;
                    reached += 1;
                    unserved = Some(answer);
                }
            }
            if reached == ATTEMPTS_MAX || (reached > 0 && !may_retry) {
                break;
            }
        }
        let outcome = if maybe_applied { Outcome::MaybeApplied } else { Outcome::NotApplied };
        let kind = if reached == 0 { Kind::Unreachable } else { Kind::Unavailable };
        let status = unserved.map(|answer| answer.status.as_u16());
        Err((Error { kind, detail: sentence(kind, outcome, ask, &met), outcome, status }, reached > 1))
    }

    async fn attempt(&self, node: &str, ask: &Ask, retry: bool, wait: Duration) -> Ended {
        let begun = Instant::now();
        let ended = match timeout(wait, self.send(node, ask, retry)).await {
            Err(_) => Ended::Lost(format!("no answer within {} ms", wait.as_millis())),
            Ok(Err(error)) if error.is_connect() => Ended::NotSent(root_cause(&error)),
            Ok(Err(error)) => Ended::Lost(format!("the connection broke: {}", root_cause(&error))),
            Ok(Ok(opened)) => match read_whole(opened, begun + wait).await {
                Ok(answer) => Ended::Answered(answer),
                Err(why) => Ended::Lost(why),
            },
        };
        match &ended {
            Ended::NotSent(_) | Ended::Lost(_) => self.nodes().failed(node, Instant::now()),
            Ended::Answered(_) => self.nodes().answered(node),
        }
        ended
    }

    /// Asks one node and no other.
    pub(crate) async fn call_at(&self, node: &str, ask: &Ask) -> Result<Answer, Error> {
        let (kind, why) = match self.attempt(node, ask, false, wait(ask, true)).await {
            Ended::Answered(answer) => return Ok(answer),
            Ended::NotSent(why) => (Kind::Unreachable, why),
            Ended::Lost(why) => (Kind::Unavailable, why),
        };
        Err(Error { kind, detail: format!("{node}: {why}"), outcome: Outcome::NotApplied, status: None })
    }

    /// One attempt at one node, of which the body is left to be streamed.
    pub(crate) async fn open(&self, node: &str, ask: &Ask) -> Result<Opened, String> {
        let wait = wait(ask, true);
        let opened = match timeout(wait, self.send(node, ask, false)).await {
            Err(_) => Err(format!("no answer within {} ms", wait.as_millis())),
            Ok(Err(error)) => Err(root_cause(&error)),
            Ok(Ok(opened)) => Ok(opened),
        };
        match &opened {
            Ok(_) => self.nodes().answered(node),
            Err(_) => self.nodes().failed(node, Instant::now()),
        }
        opened
    }

    async fn send(
        &self,
        node: &str,
        ask: &Ask,
        retry: bool,
    ) -> Result<Opened, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        // Both halves were checked: nodes when the client was made, paths by their encoding.
        *request.uri_mut() =
            format!("{node}{}", ask.path).parse().expect("a checked node and an encoded path");
        *request.headers_mut() = ask.headers.clone();
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        if retry {
            request.headers_mut().insert(RETRY, HeaderValue::from_static("1"));
        }
        let (head, body) = self.http.request(request).await?.into_parts();
        Ok(Opened { status: head.status, headers: head.headers, body, node: node.to_string() })
    }
}

/// What a node says when it does not do what it was asked (RFC 9457).
pub(crate) struct Problem {
    pub(crate) detail: String,
    pub(crate) outcome: Outcome,
    pub(crate) retryable: bool,
}

impl Problem {
    pub(crate) fn of(answer: &Answer) -> Problem {
        Problem::read(answer.status, &serde_json::from_slice(&answer.body).unwrap_or(Json::Null))
    }

    pub(crate) fn read(status: StatusCode, json: &Json) -> Problem {
        let text = json["detail"].as_str().or(json["title"].as_str()).map(str::to_string);
        Problem {
            detail: text.unwrap_or_else(|| format!("answered {status}")),
            outcome: match json["outcome"].as_str() {
                Some("not_applied") => Outcome::NotApplied,
                Some("applied") => Outcome::Applied,
                Some(_) => Outcome::MaybeApplied,
                // Only refusals without a body of their own come from before any work was begun.
                None if status.is_client_error() => Outcome::NotApplied,
                None => Outcome::MaybeApplied,
            },
            retryable: json["retryable"].as_bool().unwrap_or(
                status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS,
            ),
        }
    }
}

/// The error for an answer that is neither success nor worth a second node.
pub(crate) fn refusal(answer: &Answer) -> Error {
    let problem = Problem::of(answer);
    // The first attempt may have been applied although the second was refused.
    let outcome = if answer.retried { problem.outcome.max(Outcome::MaybeApplied) } else { problem.outcome };
    let kind = if answer.status.is_server_error() { Kind::Unavailable } else { Kind::Refused };
    Error { kind, detail: problem.detail, outcome, status: Some(answer.status.as_u16()) }
}

fn is_transient(answer: &Answer) -> bool {
    let failing = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
    failing && Problem::of(answer).retryable
}

/// A first attempt is short, because another node stands by; the last one waits for the servers' own deadline,
/// so that their answer, and not our impatience, says what became of the call.
fn wait(ask: &Ask, last: bool) -> Duration {
    let usual = Duration::from_millis(if last { REQUEST_MS + ANSWER_SLACK_MS } else { CLIENT_ATTEMPT_MS });
    let granted = ask.granted.map_or(Duration::ZERO, |g| g + Duration::from_millis(ANSWER_SLACK_MS));
    usual.max(granted) + transfer(ask.body.len())
}

fn transfer(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 / LINK_BYTES_PER_MS)
}

/// Reads a body that stays within what a node may send, in the time that is left and what its length adds.
async fn read_whole(opened: Opened, until: Instant) -> Result<Answer, String> {
    let Opened { status, headers, mut body, node } = opened;
    let expected = body.size_hint().lower();
    if expected > ANSWER_BYTES_MAX {
        return Err(format!("an answer of {expected} bytes is larger than any that a node gives"));
    }
    let left = until.saturating_duration_since(Instant::now()) + transfer(expected as usize);
    let whole = timeout(left.max(Duration::from_millis(ANSWER_SLACK_MS)), async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("the connection broke: {}", root_cause(&e)))?;
            if let Ok(part) = frame.into_data() {
                // A body in one frame is kept as it is.
                if bytes.is_empty() && body.is_end_stream() {
                    return Ok(part);
                }
                if (bytes.len() + part.len()) as u64 > ANSWER_BYTES_MAX {
                    return Err("the answer is larger than any that a node gives".to_string());
                }
                bytes.extend_from_slice(&part);
            }
        }
        Ok(bytes.freeze())
    });
    match whole.await {
        Err(_) => Err("the answer stopped in its middle".to_string()),
        Ok(bytes) => Ok(Answer { status, headers, body: bytes?, node, retried: false }),
    }
}

/// The innermost reason, which is the one that a person can act on.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_string(),
        _ => cause.to_string(),
    }
}

fn sentence(kind: Kind, outcome: Outcome, ask: &Ask, met: &[String]) -> String {
    let what = match kind {
        Kind::Unreachable => "no node could be reached",
        _ => "no node could serve the request",
    };
    let consequence = match (ask.writes(), outcome) {
        (false, _) => "",
        (true, Outcome::NotApplied) => "; nothing was written",
        (true, _) => "; the write may exist and may surface later",
    };
    format!("{what} ({}){consequence}", met.join("; "))
}

/// Attempts that reach a node, per call.
const ATTEMPTS_MAX: usize = 2;
/// Beyond a server's own deadline, for the way there and back.
const ANSWER_SLACK_MS: u64 = 250;
/// A slow link, by which large bodies lengthen every wait.
const LINK_BYTES_PER_MS: u64 = 8 << 10;
/// Idle connections are closed after this; servers keep them longer.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
/// The largest answer that is read whole: a hundred siblings or four values of the largest size, as base64
/// and with escapes.
const ANSWER_BYTES_MAX: u64 = 8 * VALUE_BYTES_MAX as u64 + (64 << 20);
