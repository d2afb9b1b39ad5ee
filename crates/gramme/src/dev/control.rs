//! Orders from another terminal: one line of text through a Unix socket in the cluster's directory, one line of
//! JSON back, `{"ok": sentence}` or `{"error": sentence}`, with `nodes` for `status`.
//!
//! The socket has the directory's permissions; whoever may write there may give orders.

use super::Place;
use super::directory::DevCluster;
use crate::failure::Failure;
use crate::nodes::runtime;
use crate::output::{lines, print_json, print_line, table};
use serde_json::{Value as Json, json};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// What may be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Make and start another node, in this zone if one is named.
    Add(Option<String>),
    /// Say through whom a node can be told to leave.
    Remove(usize),
    /// Stop a node that is no member, and never start it again.
    Forget(usize),
    Kill(usize),
    Start(usize),
    Pause(usize),
    Resume(usize),
    Status,
}

/// An order with the way back for its answer.
pub(super) type Ordered = (Order, oneshot::Sender<Json>);

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Add(None) => write!(f, "add"),
            Order::Add(Some(zone)) => write!(f, "add {zone}"),
            Order::Remove(node) => write!(f, "remove {node}"),
            Order::Forget(node) => write!(f, "forget {node}"),
            Order::Kill(node) => write!(f, "kill {node}"),
            Order::Start(node) => write!(f, "start {node}"),
            Order::Pause(node) => write!(f, "pause {node}"),
            Order::Resume(node) => write!(f, "resume {node}"),
            Order::Status => write!(f, "status"),
        }
    }
}

impl FromStr for Order {
    type Err = String;
    fn from_str(text: &str) -> Result<Order, String> {
        let unknown = || format!("unknown order {text:?}");
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let node = || rest.parse().map_err(|_| unknown());
        match word {
            "add" => Ok(Order::Add(Some(rest.to_string()).filter(|zone| !zone.is_empty()))),
            "remove" => node().map(Order::Remove),
            "forget" => node().map(Order::Forget),
            "kill" => node().map(Order::Kill),
            "start" => node().map(Order::Start),
            "pause" => node().map(Order::Pause),
            "resume" => node().map(Order::Resume),
            "status" => Ok(Order::Status),
            _ => Err(unknown()),
        }
    }
}

/// Listens for orders. The directory is ours, so a socket that is there was left by one that is gone.
pub(super) fn listen(cluster: &DevCluster, orders: mpsc::Sender<Ordered>) -> Result<Listening, Failure> {
    let path = cluster.socket();
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} is too long for a socket, which the system allows {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter --dir",
            path.display()
        )));
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Failure::io("cannot remove", &path, &e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|e| Failure::io("cannot listen on", &path, &e))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, orders.clone()));
        }
    });
    Ok(Listening { path })
}

/// Removes the socket when it is dropped.
pub(super) struct Listening {
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // One that stays is removed by the next start.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn serve(stream: UnixStream, orders: mpsc::Sender<Ordered>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(ORDER_BYTES_MAX).read_line(&mut line).await.ok()?;
    let answer = match line.trim().parse::<Order>() {
        Err(why) => json!({ "error": why }),
        Ok(order) => {
            let (sender, answer) = oneshot::channel();
            orders.send((order, sender)).await.ok()?;
            answer.await.unwrap_or_else(|_| json!({ "error": "the cluster is stopping" }))
        }
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await.ok()
}

/// Gives an order to the `gramme dev` that runs on a directory, and prints its answer.
pub(super) fn give(place: &Place, order: Order) -> Result<(), Failure> {
    let answer = order_at(place, order)?;
    if place.json {
        return print_json(&answer);
    }
    match answer["nodes"].as_array() {
        Some(nodes) => print_nodes(nodes),
        None => print_line(answer["ok"].as_str().unwrap_or("done")),
    }
}

/// Gives an order, and gives back its answer.
pub(super) fn order_at(place: &Place, order: Order) -> Result<Json, Failure> {
    let path = place.dir.join("dev.sock");
    let answer = runtime()?.block_on(ask(&path, order)).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::failed(format!(
            "no `gramme dev` runs on {}: start it there, or name its directory with --dir",
            place.dir.display()
        )),
        _ => Failure::io("cannot give an order through", &path, &e),
    })?;
    match answer["error"].as_str() {
        Some(why) => Err(Failure::failed(why)),
        None => Ok(answer),
    }
}

async fn ask(path: &Path, order: Order) -> std::io::Result<Json> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{order}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    serde_json::from_str(&answer).map_err(|_| std::io::Error::other("it stopped while it was asked"))
}

fn print_nodes(nodes: &[Json]) -> Result<(), Failure> {
    let mut table = table(["NODE", "PROCESS", "PID", "HTTP", "REDIS", "PEERS"]);
    for node in nodes {
        let word = |key: &str| match &node[key] {
            Json::String(text) => text.clone(),
            Json::Null => "-".to_string(),
            other => other.to_string(),
        };
        table.add_row(["node", "process", "pid", "http", "resp", "peer"].map(word));
    }
    print_line(&lines(&table))
}

/// An order and the longest zone.
const ORDER_BYTES_MAX: u64 = 512;
/// `sun_path` of Linux and its end; other systems allow a few bytes less.
const SOCKET_PATH_BYTES_MAX: usize = 103;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in [
            Order::Add(None),
            Order::Add(Some("rack a".to_string())),
            Order::Remove(3),
            Order::Forget(3),
            Order::Kill(0),
            Order::Start(12),
            Order::Pause(1),
            Order::Resume(2),
            Order::Status,
        ] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for bad in ["", "kill", "kill x", "kill -1", "dance 1", "remove"] {
            assert!(bad.parse::<Order>().is_err(), "{bad}");
        }
    }
}
