//! Whether a node serves: its own word, `/readyz`. A node that is starting has no door yet, or says 503, so it is
//! asked again until it says 200; the caller watches its process meanwhile. One that asks to join serves nobody yet, and
//! has done all that it can.

use gramme_client::{Client, Options};
use serde_json::Value as Json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Resolves when the node at `http` (host:port) serves.
pub(crate) async fn ready(http: &str) {
    while !timeout(ANSWER, says_ready(http)).await.is_ok_and(|answer| answer.is_ok_and(|ready| ready)) {
        sleep(BETWEEN_QUESTIONS).await;
    }
}

/// Resolves when the node serves, or has nothing to do but to ask to join.
pub(crate) async fn ready_or_asking(http: &str) {
    let asks = async {
        while layout_of(http).await.is_none_or(|layout| layout["is_member"] != false) {
            sleep(BETWEEN_LOOKS).await;
        }
    };
    tokio::select! {
        () = ready(http) => {}
        () = asks => {}
    }
}

/// Resolves when the node was removed from its cluster and has handed over all it had.
pub(super) async fn gone(http: &str) {
    while layout_of(http).await.is_none_or(|layout| layout["is_gone"] != true) {
        sleep(BETWEEN_LOOKS).await;
    }
}

/// The ring as the node at `http` knows it, if it says.
async fn layout_of(http: &str) -> Option<Json> {
    let client = client(&[format!("http://{http}")]).ok()?;
    client.layout().await.ok()
}

/// A client that knows these nodes and no others.
pub(super) fn client(nodes: &[String]) -> Result<Client, gramme_client::Error> {
    let token = std::env::var("GRAMME_TOKEN").ok();
    Client::without_asking(nodes, Options { token, spread: false })
}

async fn says_ready(http: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(http).await?;
    stream
        .write_all(format!("GET /readyz HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(&status[9..] == b"200")
}

const ANSWER: Duration = Duration::from_secs(1);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(10);
/// What these look for takes a while.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
