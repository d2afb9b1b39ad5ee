//! One call, at most two attempts. An attempt ends in one of three ways, and the difference is everything:
//! it was *not sent* (no connection: the next node is tried at no cost), it was *lost* (sent, and no whole
//! answer came: something of a write may exist), or it was *answered*. A node that answers that it serves nobody, since it
//! stops, left the cluster or only asks to join, has cost no attempt either. One that is silent for too long has not
//! ended: a second one joins it, and whichever answers first counts, since a node that is slow may still be
//! better than another that is frozen.
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
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
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

/// An attempt under way.
struct Attempt<'a> {
    node: String,
    running: Pin<Box<dyn Future<Output = Ended> + Send + 'a>>,
}

/// How a call went so far.
#[derive(Default)]
struct Course {
    attempts_max: usize,
    /// Attempts that reached a node, or are on their way to one.
    reached: usize,
    /// Whether something of a write may exist.
    doubt: bool,
    /// What was met where.
    met: Vec<String>,
}

impl Course {
    fn error(self, ask: &Ask, unserved: Option<Answer>) -> Error {
        let outcome = if self.doubt { Outcome::MaybeApplied } else { Outcome::NotApplied };
        let is_silence = self.reached == 0 && unserved.is_none();
        let kind = if is_silence { Kind::Unreachable } else { Kind::Unavailable };
        let status = unserved.map(|answer| answer.status.as_u16());
        Error { kind, detail: sentence(kind, outcome, ask, &self.met), outcome, status }
    }
}

/// The first of several attempts that ends, which is taken out.
async fn race(running: &mut Vec<Attempt<'_>>) -> (String, Ended) {
    let (at, ended) = poll_fn(|context| {
        for (at, attempt) in running.iter_mut().enumerate() {
            if let Poll::Ready(ended) = attempt.running.as_mut().poll(context) {
                return Poll::Ready((at, ended));
            }
        }
        Poll::Pending
    })
    .await;
    (running.swap_remove(at).node, ended)
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
        let (order, may_retry) = {
            let mut nodes = self.nodes();
            (nodes.order(Instant::now()), nodes.reserve_retry())
        };
        let mut course =
            Course { attempts_max: if may_retry { ATTEMPTS_MAX } else { 1 }, ..Course::default() };
        let result = self.run(ask, order, &mut course).await;
        if may_retry && course.reached < ATTEMPTS_MAX {
            self.nodes().return_retry();
        }
        result.map_err(|unserved| course.error(ask, unserved))
    }

    /// Goes through the nodes. The error is the last answer of a node that could not serve it, if there was one.
    async fn run(
        &self,
        ask: &Ask,
        order: Vec<String>,
        course: &mut Course,
    ) -> Result<Answer, Option<Answer>> {
        let mut order = order.into_iter().peekable();
        let mut running: Vec<Attempt<'_>> = Vec::new();
        let mut unserved = None;
        loop {
            let another = course.reached < course.attempts_max && order.peek().is_some();
            let ended = match (running.first(), another) {
                (None, false) => return Err(unserved),
                (None, true) => None,
                (Some(_), false) => Some(race(&mut running).await),
                (Some(_), true) => timeout(patience(ask), race(&mut running)).await.ok(),
            };
            let Some((node, ended)) = ended else {
                if let Some(silent) = running.first() {
                    course.doubt |= ask.writes();
                    self.nodes().failed(&silent.node, Instant::now());
                }
                running.extend(order.next().map(|node| self.begin(node, ask, course)));
                continue;
            };
            match ended {
                Ended::NotSent(why) => {
                    course.reached -= 1;
                    course.met.push(format!("{node}: {why}"));
                }
                Ended::Lost(why) => {
                    course.doubt |= ask.writes();
                    course.met.push(format!("{node}: {why}"));
                }
                Ended::Answered(mut answer) => {
                    answer.retried = course.reached > 1;
                    if !is_transient(&answer) {
                        return Ok(answer);
                    }
                    let problem = Problem::of(&answer);
                    course.doubt |= ask.writes() && problem.outcome != Outcome::NotApplied;
                    if problem.serves_nobody {
                        course.reached -= 1;
                    }
                    course.met.push(format!("{node}: {}", problem.detail));
                    unserved = Some(answer);
                }
            }
        }
    }

    fn begin<'a>(&'a self, node: String, ask: &'a Ask, course: &mut Course) -> Attempt<'a> {
        course.reached += 1;
        let (at, retry) = (node.clone(), course.doubt);
        Attempt { node, running: Box::pin(async move { self.attempt(&at, ask, retry, wait(ask)).await }) }
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
            // One that is cut off from its peers answers at once that it cannot serve, and would be asked again at
            // the cost of a retry each time.
            Ended::Answered(answer) if is_transient(answer) => self.nodes().failed(node, Instant::now()),
            Ended::Answered(_) => self.nodes().answered(node),
        }
        ended
    }

    /// Asks one node and no other.
    pub(crate) async fn call_at(&self, node: &str, ask: &Ask) -> Result<Answer, Error> {
        let (kind, why) = match self.attempt(node, ask, false, wait(ask)).await {
            Ended::Answered(answer) => return Ok(answer),
            Ended::NotSent(why) => (Kind::Unreachable, why),
            Ended::Lost(why) => (Kind::Unavailable, why),
        };
        Err(Error { kind, detail: format!("{node}: {why}"), outcome: Outcome::NotApplied, status: None })
    }

    /// One attempt at one node, of which the body is left to be streamed.
    pub(crate) async fn open(&self, node: &str, ask: &Ask) -> Result<Opened, String> {
        let wait = wait(ask);
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
    /// The node takes no requests, and has begun nothing of this one.
    serves_nobody: bool,
}

impl Problem {
    pub(crate) fn of(answer: &Answer) -> Problem {
        Problem::read(answer.status, &serde_json::from_slice(&answer.body).unwrap_or(Json::Null))
    }

    pub(crate) fn read(status: StatusCode, json: &Json) -> Problem {
        let text = json["detail"].as_str().or(json["title"].as_str()).map(str::to_string);
        let outcome = match json["outcome"].as_str() {
            Some("not_applied") => Outcome::NotApplied,
            Some("applied") => Outcome::Applied,
            Some(_) => Outcome::MaybeApplied,
            // Only refusals without a body of their own come from before any work was begun.
            None if status.is_client_error() => Outcome::NotApplied,
            None => Outcome::MaybeApplied,
        };
        Problem {
            detail: text.unwrap_or_else(|| format!("answered {status}")),
            outcome,
            serves_nobody: outcome == Outcome::NotApplied && json["type"] == SERVES_NOBODY,
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

/// An attempt waits for the servers' own deadline, so that their answer, and not our impatience, says what became
/// of the call.
fn wait(ask: &Ask) -> Duration {
    let slack = Duration::from_millis(ANSWER_SLACK_MS);
    ask.granted.unwrap_or_default().max(Duration::from_millis(REQUEST_MS)) + slack + transfer(ask.body.len())
}

/// The silence after which another node is asked as well; as much longer as the caller's deadline is.
fn patience(ask: &Ask) -> Duration {
    let longer = ask.granted.unwrap_or_default().saturating_sub(Duration::from_millis(REQUEST_MS));
    Duration::from_millis(CLIENT_ATTEMPT_MS) + longer + transfer(ask.body.len())
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

/// The problem of a node that takes no requests.
const SERVES_NOBODY: &str = "urn:gramme:problem:unsuitable";
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
