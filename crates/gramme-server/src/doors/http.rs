//! The HTTP door. `docs/http.md` describes it for those who use it.
//!
//! A connection lives on one shard's thread; its requests go to the shard that owns their key. Every error is
//! `application/problem+json`, and nothing that nobody understands is passed over: unknown paths, parameters and
//! `Gramme-` headers are refused.

mod asked;
mod buckets;
mod changes;
mod cluster;
mod copies;
mod kv;
mod list;
mod load;
mod names;
mod overview;
mod plan;
mod problem;
mod repair;
mod shown;
mod transfers;
mod ui;

use super::{Guest, Service, failure_of};
use crate::mailbox::Door;
use crate::metrics::{Answer, Op, ShardMetrics};
use crate::run::Phase;
pub(crate) use overview::Overview;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use gramme_core::Outcome;
use gramme_node::request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use problem::Problem;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;

/// How a request was answered, where its status does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Ok,
    NotFound,
    Siblings,
    Failed(Outcome),
}

/// The paths there are.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/kv/{bucket}", get(list::list))
        .route("/v1/kv/{bucket}/", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/kv/{bucket}/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/buckets/{bucket}", get(buckets::get).put(buckets::put))
        .route("/v1/buckets", get(buckets::all))
        .route("/v1/cluster/status", get(cluster::status))
        .route("/v1/cluster/overview", get(overview::overview))
        .route("/v1/cluster/ring", get(overview::ring))
        .route("/v1/cluster/layout", get(changes::layout))
        .route("/v1/cluster/history", get(changes::history))
        .route("/v1/cluster/staged", post(changes::stage).delete(changes::unstage))
        .route("/v1/cluster/plan", get(plan::plan))
        .route("/v1/cluster/commit", post(changes::commit))
        .route("/v1/cluster/abort", post(changes::abort))
        .route("/v1/cluster/transfers", get(transfers::get).post(transfers::post))
        .route("/v1/cluster/load", get(cluster::load))
        .route("/v1/cluster/records", get(copies::get).post(copies::post))
        .route("/v1/cluster/repair", get(repair::status))
        .route("/v1/cluster/repair/now", post(repair::now))
        .route("/v1/cluster/repair/verify", post(repair::verify))
        .route("/v1/ring/{bucket}/{*key}", get(cluster::ring))
        .route("/livez", get(cluster::livez))
        .route("/readyz", get(cluster::readyz))
        .route("/metrics", get(cluster::metrics))
        .route("/ui", get(ui::page))
        .route("/ui/", get(ui::to_page))
        .route("/ui/{file}", get(ui::file))
        .fallback(async || {
            Problem::refused(StatusCode::NOT_FOUND, "unknown_path", "there is nothing at this path: keys are at /v1/kv/BUCKET/KEY, and docs/http.md lists all paths")
        })
        .method_not_allowed_fallback(async || {
            Problem::refused(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", "this path does not take this method: the Allow header lists those that it takes")
        })
        .with_state(service)
}

/// Serves one client until it hangs up, or this node drains and its request is answered.
pub(crate) async fn serve(
    service: Arc<Service>,
    router: Router,
    metrics: Rc<ShardMetrics>,
    socket: TcpStream,
    guest: Guest,
) {
    let mut phase = service.phase.clone();
    let tower = TowerToHyperService::new(router);
    let answer = service_fn(move |request: Request<Incoming>| {
        let started = Instant::now();
        let op = op_of(request.method(), request.uri().path());
        let admitted = admit(&service, &request).map(|()| tower.call(request));
        let metrics = metrics.clone();
        async move {
            let response = match admitted {
                Ok(answered) => answered.await.unwrap_or_else(|never: Infallible| match never {}),
                Err(problem) => problem.into_response(),
            };
            metrics.request(Door::Http, op, answer_of(&response), started.elapsed());
            Ok::<_, Infallible>(response)
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("an HTTP connection broke off: {e}");
    }
    drop(guest);
}

/// Whether the client may ask, and asks in words that somebody reads.
fn admit(service: &Service, request: &Request<Incoming>) -> Result<(), Problem> {
    if let Some(token) = &service.token
        && !is_open(request.uri().path())
    {
        let presented =
            request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let presented = presented.strip_prefix(b"Bearer ").or_else(|| presented.strip_prefix(b"bearer "));
        if !presented.is_some_and(|presented| token.admits(presented)) {
            return Err(Problem::refused(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this node wants its token: send it as `Authorization: Bearer TOKEN`",
            ));
        }
    }
    asked::check_headers(request.headers())
}

/// Paths for which nobody needs a token: health, and the files of the dashboard, which know nothing of this cluster and
/// ask for the token themselves.
fn is_open(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/ui") || path.starts_with("/ui/")
}

fn op_of(method: &Method, path: &str) -> Op {
    let Some(rest) = path.strip_prefix(kv::PREFIX) else { return Op::Other };
    match *method {
        Method::PUT => Op::Put,
        Method::DELETE => Op::Delete,
        _ if rest.contains('/') => Op::Get,
        _ => Op::List,
    }
}

fn answer_of(response: &Response<Body>) -> Answer {
    let status = response.status();
    match response.extensions().get::<Answered>() {
        Some(Answered::Ok) => Answer::Ok,
        Some(Answered::NotFound) => Answer::NotFound,
        Some(Answered::Siblings) => Answer::Siblings,
        Some(Answered::Failed(Outcome::MaybeApplied | Outcome::Applied)) => Answer::MaybeApplied,
        _ if status.is_server_error() => Answer::NotApplied,
        _ if status.is_client_error() => Answer::Refused,
        _ => Answer::Ok,
    }
}

/// The problem that a call met, if it was not answered as asked.
fn failed(response: request::Response) -> Problem {
    match response {
        request::Response::Declined(why) => Problem::refused(StatusCode::CONFLICT, "declined", why),
        other => (*failure_of(other)).into(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = self.response();
        response.extensions_mut().insert(Answered::Failed(self.outcome()));
        response
    }
}
