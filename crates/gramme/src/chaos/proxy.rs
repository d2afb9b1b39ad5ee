//! The network between the nodes of a run: each node is reached through a port of this process, so that any two
//! can be cut apart, in one direction or both, without rights over the machine's network.
//!
//! A cut behaves as one of real networks does: bytes stop, nobody is told, and what was sent waits until the cut
//! is healed. Only a refused link breaks connections.
//!
//! Invariant: bytes of a link are delivered in order and none is dropped while its connection stands.

use crate::failure::Failure;
use bytes::BytesMut;
use gramme_core::NodeId;
use gramme_wire::FrameReader;
use gramme_wire::hello::{HELLO_BYTES_MAX, Hello};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What happens to bytes from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// They arrive.
    #[default]
    Open,
    /// They wait.
    Held,
    /// They arrive so much later.
    Late(Duration),
    /// Connections break, and new ones are closed at once.
    Refused,
}

type Links = BTreeMap<(usize, usize), Link>;

/// The network of a run.
pub(super) struct Network {
    links: watch::Sender<Links>,
}

impl Network {
    /// An open network; nothing listens yet.
    pub(super) fn new() -> Network {
        Network { links: watch::channel(Links::new()).0 }
    }

    /// Stands in for a node: what arrives at `listens` goes to `behind`, where the node itself listens.
    pub(super) async fn stand_in(
        &self,
        node: usize,
        listens: &str,
        behind: String,
        members: Arc<BTreeMap<NodeId, usize>>,
    ) -> Result<(), Failure> {
        let listener = TcpListener::bind(listens)
            .await
            .map_err(|e| Failure::failed(format!("the fault proxy cannot listen on {listens}: {e}")))?;
        let links = self.links.subscribe();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (behind, members, links) = (behind.clone(), members.clone(), links.clone());
                // A connection that breaks is what this is for.
                tokio::spawn(async move { drop(carry(socket, node, &behind, &members, links).await) });
            }
        });
        Ok(())
    }

    /// Changes some links.
    pub(super) fn set(&self, changed: impl IntoIterator<Item = ((usize, usize), Link)>) {
        self.links.send_modify(|links| links.extend(changed));
    }

    /// Opens all links.
    pub(super) fn heal(&self) {
        self.links.send_modify(Links::clear);
    }
}

/// One connection: its dialer is known by its first words, which TLS would hide.
async fn carry(
    mut dialer: TcpStream,
    to: usize,
    behind: &str,
    members: &BTreeMap<NodeId, usize>,
    links: watch::Receiver<Links>,
) -> std::io::Result<()> {
    let mut said = BytesMut::new();
    let from = loop {
        let mut copy = said.clone();
        match FrameReader::with_max(HELLO_BYTES_MAX).next(&mut copy) {
            Ok(Some(frame)) => {
                let hello = Hello::overheard(&frame).map_err(std::io::Error::other)?;
                let stranger = || std::io::Error::other("a stranger");
                break *members.get(&hello.node).ok_or_else(stranger)?;
            }
            Ok(None) if dialer.read_buf(&mut said).await? > 0 => {}
            _ => return Ok(()),
        }
    };
    if link(&links, from, to) == Link::Refused || link(&links, to, from) == Link::Refused {
        return Ok(());
    }
    let acceptor = TcpStream::connect(behind).await?;
    dialer.set_nodelay(true)?;
    acceptor.set_nodelay(true)?;
    let (from_dialer, to_dialer) = dialer.into_split();
    let (from_acceptor, to_acceptor) = acceptor.into_split();
    let there = pump(from_dialer, to_acceptor, said, (from, to), links.clone());
    let back = pump(from_acceptor, to_dialer, BytesMut::new(), (to, from), links);
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}

fn link(links: &watch::Receiver<Links>, from: usize, to: usize) -> Link {
    links.borrow().get(&(from, to)).copied().unwrap_or_default()
}

/// Carries bytes one way. Reading goes on while those on their way are few, so that delay costs no throughput.
async fn pump(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    said: BytesMut,
    (from, to): (usize, usize),
    mut links: watch::Receiver<Links>,
) -> std::io::Result<()> {
    let (on_the_way, mut arrivals) = mpsc::channel::<(Instant, BytesMut)>(CHUNKS_ON_THE_WAY_MAX);
    let (at_reader, mut at_break) = (links.clone(), links.clone());
    // Owns the sender: when the source has ended, what is on its way is still delivered, and the end behind it.
    let read = async move {
        let mut chunk = said;
        loop {
            if !chunk.is_empty() {
                let late = match link(&at_reader, from, to) {
                    Link::Late(by) => by,
                    _ => Duration::ZERO,
                };
                if on_the_way.send((Instant::now() + late, chunk)).await.is_err() {
                    return Ok(());
                }
            }
            chunk = BytesMut::with_capacity(CHUNK_BYTES);
            if reader.read_buf(&mut chunk).await? == 0 {
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    let write = async {
        while let Some((due, mut chunk)) = arrivals.recv().await {
            sleep_until(due).await;
            let held = |links: &Links| links.get(&(from, to)) == Some(&Link::Held);
            // The network lives as long as the run.
            if links.wait_for(|links| !held(links)).await.is_err() {
                return Ok(());
            }
            writer.write_all_buf(&mut chunk).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = async { tokio::try_join!(read, write) } => ended.map(|_| ()),
        _ = at_break.wait_for(|links| links.get(&(from, to)) == Some(&Link::Refused)) => Ok(()),
    }
}

const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_ON_THE_WAY_MAX: usize = 64;
