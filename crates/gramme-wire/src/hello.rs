//! How two nodes meet: who they are, that both know the cluster's secret, what they can both say. Byte tables:
//! `docs/format/wire.md`.
//!
//! ```text
//! dialer                                    acceptor
//!   Hello  facts, nonce             ---->
//!                                   <----   Welcome  facts, nonce, proof
//!   (makes the acceptor's store durable)
//!   Proof  proof, "I remember you"  ---->
//!                                           (makes the dialer's store durable)
//!                                   <----   Ready    proof, "I remember you"
//! ```
//!
//! A proof is a 128-bit SipHash under the cluster's secret over both sides' facts and nonces, its sender's role
//! and what it remembers: fresh, bound to this exchange, and no echo of the other side's. Each side says what
//! it remembers of the other's store only to a proven peer, and after the store it sees now is durable, so that
//! "I never knew you" can be relied on and no stranger can plant a memory.
//!
//! Whoever knows the secret gets in, member or not: a node that asks to join must be heard, and one that went by an
//! older layout must learn of the newer one. Only those that were removed and have nothing left to hand over (*gone*)
//! are turned away, whatever they know.
//!
//! Invariant: whoever holds a [`Met`] holds the proof of its peer once `take_proof` or `take_welcome` said
//! `Ok`. Nothing here hides what follows from others on the network; that is what TLS is for.
//!
//! The module refuses to wait: the caller moves frames, bounds the time, and closes.

use crate::frame::{Frame, Kind, WireError};
use crate::outgoing::FrameWriter;
use crate::refusal::{self, Refusal};
use bytes::{Bytes, BytesMut};
use gramme_core::codec::{BadBytes, Reader, Writer};
use gramme_core::context::Secret;
use gramme_core::{ClusterId, LayoutHash, NodeId, StoreId};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hasher;

/// What a node says of itself when it meets another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest peer protocol that it speaks; see [`PROTOCOL_MIN`].
    pub protocol_min: u16,
    /// The newest peer protocol that it speaks; see [`PROTOCOL_MAX`].
    pub protocol_max: u16,
    /// What it can do beyond the protocol, a bit each; both sides use what both can.
    pub features: u64,
    /// Those of its features that the other side must have too.
    pub critical: u64,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub node: NodeId,
    /// The layout that it reads by. No reason to refuse it: layouts change while nodes talk.
    pub layout: LayoutHash,
    /// Its data directory's life.
    pub store: StoreId,
    /// Which of its shards speaks here.
    pub shard: u8,
    /// How many shards it runs.
    pub shards: u8,
    /// Random, made when its process started: tells a node that meets itself from two that share an id.
    pub boot: u64,
    /// Where clients reach its HTTP door, `host:port`; empty if it has none.
    pub http: String,
    /// Where clients reach its Redis door, `host:port`; empty if it has none.
    pub resp: String,
    /// Random, made for this connection alone.
    pub nonce: [u8; 16],
}

/// What both sides of a connection go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The newest protocol that both speak.
    pub protocol: u16,
    /// The features that both have.
    pub features: u64,
}

/// Why a handshake came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer sent what is no handshake.
    Wire(WireError),
    /// This node refuses the peer, and should tell it why: [`Refusal::encode`].
    Refused(Refusal),
    /// The peer refuses this node.
    RefusedByPeer(Refusal),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Wire(error) => write!(f, "{error}"),
            Broken::Refused(refusal) => write!(f, "the peer was refused: {refusal}"),
            Broken::RefusedByPeer(refusal) => write!(f, "the peer refuses this node: {refusal}"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Broken {
        Broken::Wire(error)
    }
}

impl From<BadBytes> for Broken {
    fn from(error: BadBytes) -> Broken {
        Broken::Wire(error.into())
    }
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Broken {
        Broken::Refused(refusal)
    }
}

/// The side that opened the connection, before it knows whom it met.
#[derive(Debug)]
pub struct Dialer {
    mine: Hello,
    said: Bytes,
}

impl Dialer {
    /// Appends the Hello.
    pub fn start(mine: Hello, out: &mut BytesMut) -> Dialer {
        let said = mine.to_bytes();
        append(Kind::Hello, out, &said);
        Dialer { mine, said }
    }

    /// Takes the acceptor's Welcome: it has proved that it knows the secret. The caller now makes
    /// [`Met::peer`]'s store durable and says so with [`Met::remember`].
    pub fn take_welcome(
        self,
        frame: &Frame,
        gone: &BTreeSet<NodeId>,
        secret: &Secret,
    ) -> Result<Met, Broken> {
        let body = expect(frame, Kind::Welcome)?;
        let mut r = Reader::new(body);
        let heard = r.bytes_of(body)?;
        let proof = r.u128()?;
        let peer = Hello::from_bytes(&heard)?;
        let agreed = check_hello(&self.mine, &peer, gone)?;
        let met = Met { peer, agreed, role: Role::Dialer, hello: self.said, welcome: heard, secret: *secret };
        if proof != met.proof(Kind::Welcome, &[]) {
            return Err(Refusal::BadProof.into());
        }
        Ok(met)
    }
}

/// The side that was called takes the Hello and appends its Welcome. The peer has proved nothing yet: until
/// [`Met::take_remembered`] says `Ok`, nothing it says may be kept.
pub fn accept(
    mine: &Hello,
    frame: &Frame,
    gone: &BTreeSet<NodeId>,
    secret: &Secret,
    out: &mut BytesMut,
) -> Result<Met, Broken> {
    let hello = expect(frame, Kind::Hello)?.clone();
    let peer = Hello::from_bytes(&hello)?;
    let agreed = check_hello(mine, &peer, gone)?;
    let met = Met { peer, agreed, role: Role::Acceptor, hello, welcome: mine.to_bytes(), secret: *secret };
    let mut w = Writer::with_capacity(met.welcome.len() + 24);
    w.slice(&met.welcome);
    w.u128(met.proof(Kind::Welcome, &[]));
    append(Kind::Welcome, out, w.as_slice());
    Ok(met)
}

/// Two nodes that know each other's facts.
#[derive(Debug)]
pub struct Met {
    /// What the peer says of itself.
    pub peer: Hello,
    /// What both go by.
    pub agreed: Negotiated,
    role: Role,
    /// Both sides' facts and nonces, as they were sent.
    hello: Bytes,
    welcome: Bytes,
    secret: Secret,
}

impl Met {
    /// Appends this side's last word: its proof, and which store it had known the peer by before, `None` if it
    /// never knew it. The store that the peer shows now must be durable here already.
    pub fn remember(&self, remembered: Option<StoreId>, out: &mut BytesMut) {
        let kind = self.role.last_word();
        let mut w = Writer::with_capacity(32);
        w.u8(remembered.is_some().into());
        w.u64(remembered.map_or(0, |store| store.0));
        let proof = self.proof(kind, w.as_slice());
        w.u128(proof);
        append(kind, out, w.as_slice());
    }

    /// Takes the peer's last word, Proof or Ready: it has proved that it knows the secret. Gives the store that
    /// it had known this node by before.
    pub fn take_remembered(&self, frame: &Frame) -> Result<Option<StoreId>, Broken> {
        let kind = self.role.other().last_word();
        let body = expect(frame, kind)?;
        let mut r = Reader::new(body);
        let known = r.u8()?;
        let store = StoreId(r.u64()?);
        let said = &body[..r.position()];
        if r.u128()? != self.proof(kind, said) {
            return Err(Refusal::BadProof.into());
        }
        match known {
            0 => Ok(None),
            1 => Ok(Some(store)),
            _ => Err(WireError::Malformed.into()),
        }
    }

    /// One comparison of two numbers checks it, so that its time tells nothing about it.
    fn proof(&self, kind: Kind, said: &[u8]) -> u128 {
        let mut sip = SipHasher24::new_with_key(&self.secret);
        sip.write(PROOF_LABEL);
        sip.write(&[kind as u8]);
        for part in [&self.hello[..], &self.welcome[..], said] {
            sip.write(&(part.len() as u64).to_le_bytes());
            sip.write(part);
        }
        sip.finish128().as_u128()
    }
}

/// Whether these two may talk, and how; `Err` is what to tell the other side. Proofs come after it.
pub fn check_hello(mine: &Hello, theirs: &Hello, gone: &BTreeSet<NodeId>) -> Result<Negotiated, Refusal> {
    if mine.cluster != theirs.cluster {
        return Err(Refusal::OtherCluster { mine: mine.cluster, theirs: theirs.cluster });
    }
    if mine.node == theirs.node {
        let same = mine.boot == theirs.boot;
        return Err(if same { Refusal::Yourself } else { Refusal::DuplicateIdentity(mine.node) });
    }
    if gone.contains(&theirs.node) {
        return Err(Refusal::Removed(theirs.node));
    }
    let protocol = mine.protocol_max.min(theirs.protocol_max);
    if protocol < mine.protocol_min.max(theirs.protocol_min) {
        return Err(Refusal::Protocol { min: mine.protocol_min, max: mine.protocol_max });
    }
    let lacking = (mine.critical & !theirs.features) | (theirs.critical & !mine.features);
    if lacking != 0 {
        return Err(Refusal::Features(lacking));
    }
    Ok(Negotiated { protocol, features: mine.features & theirs.features })
}

impl Hello {
    /// What a dialer says first, read without judging it: for those who stand on the wire and are no node.
    pub fn overheard(frame: &Frame) -> Result<Hello, WireError> {
        match frame.kind {
            Kind::Hello => Ok(Hello::from_bytes(&frame.body)?),
            other => Err(WireError::Unexpected(other)),
        }
    }

    fn to_bytes(&self) -> Bytes {
        let mut w = Writer::with_capacity(128 + self.http.len() + self.resp.len());
        w.varint(self.protocol_min.into());
        w.varint(self.protocol_max.into());
        w.u64(self.features);
        w.u64(self.critical);
        w.u128(self.cluster.0);
        w.u64(self.node.0);
        w.u128(self.layout.0);
        w.u64(self.store.0);
        w.u8(self.shard);
        w.u8(self.shards);
        w.u64(self.boot);
        w.raw(&self.nonce);
        w.slice(self.http.as_bytes());
        w.slice(self.resp.as_bytes());
        w.into_bytes()
    }

    /// What follows the last field is a newer release's and skipped.
    fn from_bytes(bytes: &[u8]) -> Result<Hello, BadBytes> {
        let mut r = Reader::new(bytes);
        let hello = Hello {
            protocol_min: r.count(u16::MAX.into())? as u16,
            protocol_max: r.count(u16::MAX.into())? as u16,
            features: r.u64()?,
            critical: r.u64()?,
            cluster: ClusterId(r.u128()?),
            node: NodeId(r.u64()?),
            layout: LayoutHash(r.u128()?),
            store: StoreId(r.u64()?),
            shard: r.u8()?,
            shards: r.u8()?,
            boot: r.u64()?,
            nonce: r.raw(16)?.try_into().map_err(|_| BadBytes::Malformed)?,
            http: r.text()?.to_owned(),
            resp: r.text()?.to_owned(),
        };
        if hello.shard >= hello.shards || hello.protocol_min > hello.protocol_max {
            return Err(BadBytes::Malformed);
        }
        Ok(hello)
    }
}

/// The body, if the frame is what the moment allows; a refusal ends the handshake at any moment.
fn expect(frame: &Frame, kind: Kind) -> Result<&Bytes, Broken> {
    match frame.kind {
        found if found == kind => Ok(&frame.body),
        Kind::Refusal => Err(Broken::RefusedByPeer(refusal::decode(&frame.body)?)),
        found => Err(WireError::Unexpected(found).into()),
    }
}

pub(crate) fn append(kind: Kind, out: &mut BytesMut, body: &[u8]) {
    let mut w = FrameWriter::begin(out, usize::MAX);
    w.raw(body);
    w.end(kind).expect("handshakes are far smaller than any frame may be");
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Dialer,
    Acceptor,
}

impl Role {
    fn other(self) -> Role {
        match self {
            Role::Dialer => Role::Acceptor,
            Role::Acceptor => Role::Dialer,
        }
    }

    fn last_word(self) -> Kind {
        match self {
            Role::Dialer => Kind::Proof,
            Role::Acceptor => Kind::Ready,
        }
    }
}

/// The oldest peer protocol of this release.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest peer protocol of this release.
pub const PROTOCOL_MAX: u16 = 1;
/// The most that a stranger may send in one frame: enough for facts with two long addresses.
pub const HELLO_BYTES_MAX: usize = 4096;
const PROOF_LABEL: &[u8] = b"gramme peer handshake 1";
