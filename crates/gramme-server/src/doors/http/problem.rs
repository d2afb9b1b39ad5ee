//! What went wrong, as `application/problem+json`: one clear sentence, whether to try again, and what became of
//! the write.

use crate::doors::words;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use gramme_core::bucket::Level;
use gramme_core::context::BadContext;
use gramme_core::id::BadKey;
use gramme_core::{Layout, Outcome};
use gramme_wire::{Failure, Reason};
use serde_json::json;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// Last part of the `type`.
    kind: &'static str,
    failure: Box<Failure>,
    detail: String,
}

impl Problem {
    /// The request is at fault.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::refused(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// Refused before anything was done.
    pub(crate) fn refused(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        let detail = detail.into();
        Problem {
            status,
            kind,
            failure: Box::new(Failure::not_applied(Reason::Invalid(detail.clone()))),
            detail,
        }
    }

    /// This node has as much work as it can hold.
    pub(crate) fn overloaded() -> Problem {
        Failure::not_applied(Reason::Overloaded).into()
    }

    /// Whether the key did not look as the condition expects.
    pub(crate) fn is_unmet(&self) -> bool {
        self.failure.reason == Reason::Unexpected
    }

    /// What became of the write.
    pub(crate) fn outcome(&self) -> Outcome {
        self.failure.outcome
    }

    /// The object that is the body, and the last line of a list that broke off.
    pub(crate) fn json(&self) -> serde_json::Value {
        let failure = &self.failure;
        let mut object = json!({
            "type": format!("urn:gramme:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Problem"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "retryable": failure.reason.retryable(),
            "outcome": failure.outcome.as_str(),
        });
        if failure.needed > 0 {
            object["acks"] = failure.acks.total().into();
            object["homes"] = failure.acks.homes.into();
            object["fallbacks"] = failure.acks.fallbacks.into();
            object["needed"] = failure.needed.into();
        }
        if !failure.explain.is_empty() {
            object["explain"] = failure.explain.clone().into();
        }
        object
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut text = serde_json::to_vec_pretty(&self.json()).unwrap_or_default();
        text.push(b'\n');
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        let status = match failure.reason {
            Reason::TooManySiblings(_) => StatusCode::CONFLICT,
            Reason::ContextRequired => StatusCode::PRECONDITION_REQUIRED,
            Reason::Unexpected => StatusCode::PRECONDITION_FAILED,
            Reason::ValueTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::Invalid(_) => StatusCode::BAD_REQUEST,
            Reason::Damaged => StatusCode::INTERNAL_SERVER_ERROR,
            Reason::Unavailable
            | Reason::Stale
            | Reason::Overloaded
            | Reason::Frozen
            | Reason::TooLate
            | Reason::Disk(_)
            | Reason::Unsuitable
            | Reason::HintsFull
            | Reason::Void
            | Reason::StaleLayout => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem {
            status,
            kind: failure.reason.as_str(),
            detail: failure.to_string(),
            failure: Box::new(failure),
        }
    }
}

impl From<BadKey> for Problem {
    fn from(bad: BadKey) -> Problem {
        Problem::refused(StatusCode::BAD_REQUEST, "bad_key", bad.to_string())
    }
}

impl From<BadContext> for Problem {
    fn from(bad: BadContext) -> Problem {
        Problem::refused(StatusCode::BAD_REQUEST, "bad_context", bad.to_string())
    }
}

/// "did you mean", with what there is if nothing is near.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> Problem {
    Problem::bad_request(words::unknown(what, word, known))
}

/// Why a level was refused.
pub(crate) fn level_problem(name: &str, text: &str) -> Problem {
    Problem::bad_request(words::bad_level(name, text))
}

/// A level within what the cluster keeps.
pub(crate) fn level(name: &str, text: &str, layout: &Layout) -> Result<Level, Problem> {
    words::level(name, text, layout).map_err(Problem::bad_request)
}
