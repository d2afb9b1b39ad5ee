//! Whether a node serves: its own word, `/readyz`. A node that is starting has no door yet, or says 503, so it is
//! asked again until it says 200; the caller watches its process meanwhile.

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
