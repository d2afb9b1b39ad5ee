//! `/ui`: the dashboard, a page and its files, embedded in the binary. It asks this node's JSON endpoints, as any
//! client could, and everything that is decided about health is decided there ([`crate::health`]).
//!
//! Invariant: the page needs nothing from anywhere else, and its policy lets it load nothing from anywhere else.

use super::asked;
use super::problem::Problem;
use axum::body::Body;
use axum::extract::Path;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// `GET /ui`.
pub(super) async fn page(parts: Parts) -> Result<Response<Body>, Problem> {
    asked::query(&parts.uri, &[])?;
    Ok(embedded("text/html; charset=utf-8", include_str!("ui/index.html")))
}

/// `GET /ui/`: the page's addresses are relative to `/ui`.
pub(super) async fn to_page() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("../ui"));
    response
}

/// `GET /ui/{file}`: what the page is made of.
pub(super) async fn file(Path(name): Path<String>, parts: Parts) -> Result<Response<Body>, Problem> {
    asked::query(&parts.uri, &[])?;
    match FILES.iter().find(|(known, _)| *known == name) {
        Some((name, text)) => {
            let media = if name.ends_with(".css") { "text/css" } else { "text/javascript" };
            Ok(embedded(media, text))
        }
        None => Err(Problem::refused(
            StatusCode::NOT_FOUND,
            "unknown_path",
            "the dashboard has no such file: it is at /ui",
        )),
    }
}

fn embedded(media: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    // Another version of the node brings another page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

const HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
];

const FILES: &[(&str, &str)] = &[
    ("style.css", include_str!("ui/style.css")),
    ("main.js", include_str!("ui/main.js")),
    ("model.js", include_str!("ui/model.js")),
    ("ring.js", include_str!("ui/ring.js")),
    ("latency.js", include_str!("ui/latency.js")),
    ("panels.js", include_str!("ui/panels.js")),
    ("change.js", include_str!("ui/change.js")),
    ("plan.js", include_str!("ui/plan.js")),
    ("changing.js", include_str!("ui/changing.js")),
    ("write.js", include_str!("ui/write.js")),
    ("session.js", include_str!("ui/session.js")),
];
