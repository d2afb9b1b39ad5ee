//! One question to another node's HTTP door, on a connection of its own.

use crate::settings::Token;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// What the node at `address` (`host:port`) answers to a `GET` of `path`; the error completes "it cannot be asked:" for a
/// person.
pub(super) async fn get(address: &str, path: &str, token: Option<&Token>) -> Result<Value, String> {
    let answer = tokio::time::timeout(PATIENCE, unhurried(address, path, token)).await;
    answer.map_err(|_| "it does not answer in time".to_owned())?
}

async fn unhurried(address: &str, path: &str, token: Option<&Token>) -> Result<Value, String> {
    let socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|e| e.to_string())?;
    let mut request =
        Request::get(path).header(header::HOST, address).body(Body::empty()).map_err(|e| e.to_string())?;
    if let Some(token) = token {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
        let mut bearer = bearer.map_err(|_| "the token cannot be sent in a header".to_owned())?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answers with status {}", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        serde_json::from_slice(&body.map_err(|e| e.to_string())?.to_bytes()).map_err(|e| e.to_string())
    };
    // The connection moves only while it is polled, and it may end before the answer has been read to its end.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection => answer.await,
    }
}

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Some hundred bytes a member, and as many for each partition that is behind, or comes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
