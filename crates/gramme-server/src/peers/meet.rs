//! The handshake over a socket: frames of [`gramme_wire::hello`] back and forth, and between them what must be
//! durable before the next word.

use super::dial::Whom;
use super::{Peers, Seat};
use bytes::{Buf, BytesMut};
use gramme_core::{NodeId, StoreId};
use gramme_node::Fact;
use gramme_storage::EngineError;
use gramme_wire::hello::{self, Broken, Dialer, HELLO_BYTES_MAX, Hello, Met};
use gramme_wire::{Frame, FrameReader, Refusal, WireError};
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Two nodes that have met: messages may follow.
pub(super) struct Acquaintance {
    pub(super) peer: Hello,
    /// What the peer sent behind its last word.
    pub(super) read: BytesMut,
    pub(super) seat: Seat,
}

/// Why a connection to a peer came to nothing, or ended.
#[derive(Debug)]
pub(super) enum MeetError {
    Io(io::Error),
    Broken(Broken),
    Disk(EngineError),
    /// The peer did not answer in time.
    Late,
}

impl fmt::Display for MeetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MeetError::Io(e) => write!(f, "{e}"),
            MeetError::Broken(e) => write!(f, "{e}"),
            MeetError::Disk(e) => write!(f, "meeting the peer could not be made durable: {e}"),
            MeetError::Late => write!(f, "the peer did not answer in time"),
        }
    }
}

impl From<io::Error> for MeetError {
    fn from(e: io::Error) -> MeetError {
        MeetError::Io(e)
    }
}

impl From<Broken> for MeetError {
    fn from(e: Broken) -> MeetError {
        MeetError::Broken(e)
    }
}

impl From<WireError> for MeetError {
    fn from(e: WireError) -> MeetError {
        MeetError::Broken(e.into())
    }
}

impl From<EngineError> for MeetError {
    fn from(e: EngineError) -> MeetError {
        MeetError::Disk(e)
    }
}

impl MeetError {
    /// Whether it is what happens whenever a node stops or starts: no news beyond "a peer is gone".
    pub(super) fn is_ordinary(&self) -> bool {
        use io::ErrorKind::*;
        match self {
            MeetError::Io(e) => matches!(
                e.kind(),
                ConnectionRefused
                    | ConnectionReset
                    | ConnectionAborted
                    | BrokenPipe
                    | NotConnected
                    | UnexpectedEof
                    | TimedOut
                    | HostUnreachable
                    | NetworkUnreachable
            ),
            MeetError::Late => true,
            MeetError::Broken(_) | MeetError::Disk(_) => false,
        }
    }

    /// Whether this node has called itself.
    pub(super) fn is_yourself(&self) -> bool {
        use Broken::{Refused, RefusedByPeer};
        matches!(self, MeetError::Broken(Refused(Refusal::Yourself) | RefusedByPeer(Refusal::Yourself)))
    }

    /// Whether the peer takes this node for one that was removed.
    pub(super) fn is_removed(&self) -> bool {
        matches!(self, MeetError::Broken(Broken::RefusedByPeer(Refusal::Removed(_))))
    }

    /// Whether every shard of this process meets the same.
    pub(super) fn is_of_the_process(&self) -> bool {
        matches!(self, MeetError::Broken(Broken::Refused(_) | Broken::RefusedByPeer(_)))
    }
}

/// The dialer's side.
pub(super) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    peers: &Peers,
    socket: &mut S,
    whom: Whom,
) -> Result<Acquaintance, MeetError> {
    let mut talk = Talk::new(socket);
    let met = async {
        let dialer = Dialer::start(mine(peers), &mut talk.out);
        talk.flush().await?;
        let welcome = talk.hear().await?;
        let met = dialer.take_welcome(&welcome, &peers.company.ring().gone, &peers.company.secret)?;
        check_expected(whom, met.peer.node)?;
        let seat = sit(peers, &met).await?;
        let remembered = peers.company.identity.lock().await.meet(met.peer.node, met.peer.store).await?;
        met.remember(remembered, &mut talk.out);
        talk.flush().await?;
        let ready = talk.hear().await?;
        told(peers, &met, met.take_remembered(&ready)?).await?;
        Ok((met, seat))
    };
    let met = met.await;
    talk.end(met).await
}

/// The side that was called.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    peers: &Peers,
    socket: &mut S,
) -> Result<Acquaintance, MeetError> {
    let mut talk = Talk::new(socket);
    let met = async {
        let first = talk.hear().await?;
        let (gone, secret) = (&peers.company.ring().gone, &peers.company.secret);
        let met = hello::accept(&mine(peers), &first, gone, secret, &mut talk.out)?;
        talk.flush().await?;
        let proof = talk.hear().await?;
        let remembered = met.take_remembered(&proof)?;
        let seat = sit(peers, &met).await?;
        told(peers, &met, remembered).await?;
        let remembered = peers.company.identity.lock().await.meet(met.peer.node, met.peer.store).await?;
        met.remember(remembered, &mut talk.out);
        talk.flush().await?;
        Ok((met, seat))
    };
    let met = met.await;
    talk.end(met).await
}

fn mine(peers: &Peers) -> Hello {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&crate::random::word().to_le_bytes());
    nonce[8..].copy_from_slice(&crate::random::word().to_le_bytes());
    let layout = peers.company.ring().reads.hash();
    Hello { layout, shard: peers.shard as u8, nonce, ..peers.company.hello.clone() }
}

fn check_expected(whom: Whom, found: NodeId) -> Result<(), Broken> {
    match whom {
        Whom::Node(expected) if expected != found => Err(Refusal::OtherNode { expected, found }.into()),
        Whom::Node(_) | Whom::Anyone => Ok(()),
    }
}

async fn sit(peers: &Peers, met: &Met) -> Result<Seat, MeetError> {
    match peers.company.roster.sit(&met.peer).await {
        Some(seat) => Ok(seat),
        None => Err(Broken::from(Refusal::DuplicateIdentity(met.peer.node)).into()),
    }
}

/// The peer has said which store it knows this node by.
async fn told(peers: &Peers, met: &Met, remembered: Option<StoreId>) -> Result<(), MeetError> {
    let changed = peers.company.identity.lock().await.told(met.peer.node, remembered).await?;
    if let Some(trust) = changed {
        peers.shards.tell(&Fact::Trust(trust), None);
    }
    Ok(())
}

/// A handshake's words over a socket.
struct Talk<'s, S> {
    socket: &'s mut S,
    frames: FrameReader,
    read: BytesMut,
    out: BytesMut,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Talk<'s, S> {
    fn new(socket: &'s mut S) -> Talk<'s, S> {
        let frames = FrameReader::with_max(HELLO_BYTES_MAX);
        Talk { socket, frames, read: BytesMut::new(), out: BytesMut::new() }
    }

    async fn hear(&mut self) -> Result<Frame, MeetError> {
        loop {
            if let Some(frame) = self.frames.next(&mut self.read)? {
                return Ok(frame);
            }
            if self.socket.read_buf(&mut self.read).await? == 0 {
                let hung_up = "the peer hung up in the middle of the handshake";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, hung_up).into());
            }
        }
    }

    async fn flush(&mut self) -> Result<(), MeetError> {
        while self.out.has_remaining() {
            self.socket.write_buf(&mut self.out).await?;
        }
        Ok(self.socket.flush().await?)
    }

    /// Tells the peer why it is refused, if it is.
    async fn end(mut self, met: Result<(Met, Seat), MeetError>) -> Result<Acquaintance, MeetError> {
        match met {
            Ok((met, seat)) => Ok(Acquaintance { peer: met.peer, read: self.read, seat }),
            Err(e) => {
                if let MeetError::Broken(Broken::Refused(refusal)) = &e {
                    self.out.clear();
                    refusal.encode(&mut self.out);
                    // It may be gone already; the refusal stands in this node's log.
                    let _ = self.flush().await;
                }
                Err(e)
            }
        }
    }
}
