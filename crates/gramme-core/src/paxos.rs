//! Who wins when two administrators commit different layouts: single-decree Paxos, once for each version of a
//! lineage, among the members of the version before it (design section 4, correctness.md 5.2).
//!
//! A [`Decree`] is settled in two questions. A [`Proposer`] asks the members to *promise* that they will hear no
//! lower [`Ballot`]; from what they had accepted before it takes the proposal of the highest ballot, or its own if
//! there is none; then it asks them to *accept* that one. What a majority of the members has accepted under one
//! ballot is chosen for ever, and the list of who accepted is its [`Certificate`].
//!
//! Invariant: at most one proposal is chosen for a decree, whatever is lost, doubled, late or reordered and whoever
//! crashes, as long as no acceptor forgets what it answered. So an answer leaves an [`Acceptor`]'s node only once the
//! state that gave it is durable; that is its caller's duty.
//!
//! An acceptor answers for one decree only, the one after what it knows to be settled. Whoever has not learned the
//! parent is taught it first; so the state of an acceptor does not grow, and no settled decree is opened again.
//!
//! These are decisions over values: no message is sent, no time is waited here. It serves administration alone: data
//! traffic never asks for a majority. It refuses to look into a layout: that a proposal's bytes are the layout that
//! its hash names is checked by whoever takes it from a peer or a client.

mod acceptor;
mod certificate;
mod proposer;

pub use acceptor::{Acceptor, Answer};
pub use certificate::{BadCertificate, Certificate, read_certificate, write_certificate};
pub use proposer::{Outcome, Proposer, Step, majority};

use crate::codec::{BadBytes, Reader, Writer};
use crate::id::NodeId;
use crate::layout::LayoutHash;
use crate::limits::LAYOUT_BYTES_MAX;
use bytes::Bytes;
use core::fmt;

/// What is settled once: which layout bears this number. A later lineage comes after every version of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decree {
    /// 0 from the beginning; one more whenever a layout was forced because a majority was lost for good.
    pub lineage: u64,
    /// The number of the layout.
    pub version: u64,
}

impl Decree {
    /// The one that follows it in its lineage; `None` after the last number.
    pub fn next(self) -> Option<Decree> {
        Some(Decree { version: self.version.checked_add(1)?, ..self })
    }
}

impl fmt::Display for Decree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lineage {
            0 => write!(f, "version {}", self.version),
            lineage => write!(f, "version {} of lineage {lineage}", self.version),
        }
    }
}

/// A decree whose layout is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settled {
    /// Which.
    pub decree: Decree,
    /// The layout that bears its number.
    pub hash: LayoutHash,
}

/// One attempt's place in the order of attempts. No two proposals are ever asked for under one ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// From 1.
    pub round: u64,
    /// Who proposes.
    pub node: NodeId,
    /// 64 random bits of one proposer's life: a node that crashed remembers no rounds, and must not repeat a ballot
    /// with another proposal.
    pub attempt: u64,
}

/// A layout that someone wants to commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proposal {
    /// The layout's hash.
    pub hash: LayoutHash,
    /// Its bytes, at most [`LAYOUT_BYTES_MAX`]: whoever finishes another's proposal must be able to tell what it was.
    pub bytes: Bytes,
}

/// What an acceptor has accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted {
    /// Under which ballot.
    pub ballot: Ballot,
    /// What.
    pub proposal: Proposal,
}

/// Proposer to acceptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// Promise to hear no lower ballot, and say what you have accepted.
    Prepare {
        /// What is to be settled.
        decree: Decree,
        /// The layout that it follows.
        parent: LayoutHash,
        /// Under which ballot.
        ballot: Ballot,
    },
    /// Accept this, unless you have promised a higher ballot.
    Accept {
        /// What is to be settled.
        decree: Decree,
        /// The layout that it follows.
        parent: LayoutHash,
        /// Under which ballot.
        ballot: Ballot,
        /// What is to be accepted.
        proposal: Proposal,
    },
}

impl Request {
    fn head(&self) -> (Decree, LayoutHash, Ballot) {
        match self {
            Request::Prepare { decree, parent, ballot } | Request::Accept { decree, parent, ballot, .. } => {
                (*decree, *parent, *ballot)
            }
        }
    }
}

/// Acceptor to proposer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reply {
    /// For which decree it was asked.
    pub decree: Decree,
    /// Under which ballot.
    pub ballot: Ballot,
    /// What it says.
    pub says: Says,
}

/// What an acceptor says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// It will hear no lower ballot; what it had accepted under lower ones.
    Promise(Option<Accepted>),
    /// It has accepted what it was asked to.
    Accepted,
    /// It has promised this higher ballot.
    Outbid(Ballot),
    /// It knows this decree, or a later one, to be settled.
    Settled(Settled),
    /// It knows nothing beyond this, and must be taught the parent first.
    Behind(Settled),
    /// It knows another layout under the parent's number: an alarm, since two were certified.
    OtherParent(Settled),
}

/// Appends a decree.
pub fn write_decree(w: &mut Writer, decree: Decree) {
    w.varint(decree.lineage);
    w.varint(decree.version);
}

/// Reads [`write_decree`] back.
pub fn read_decree(r: &mut Reader<'_>) -> Result<Decree, BadBytes> {
    Ok(Decree { lineage: r.varint()?, version: r.varint()? })
}

/// Appends a settled decree.
pub fn write_settled(w: &mut Writer, settled: Settled) {
    write_decree(w, settled.decree);
    w.u128(settled.hash.0);
}

/// Reads [`write_settled`] back.
pub fn read_settled(r: &mut Reader<'_>) -> Result<Settled, BadBytes> {
    Ok(Settled { decree: read_decree(r)?, hash: LayoutHash(r.u128()?) })
}

/// Appends a ballot.
pub fn write_ballot(w: &mut Writer, ballot: Ballot) {
    w.varint(ballot.round);
    w.u64(ballot.node.0);
    w.u64(ballot.attempt);
}

/// Reads [`write_ballot`] back.
pub fn read_ballot(r: &mut Reader<'_>) -> Result<Ballot, BadBytes> {
    let round = r.varint()?;
    if round > ROUND_MAX {
        return Err(BadBytes::Malformed);
    }
    Ok(Ballot { round, node: NodeId(r.u64()?), attempt: r.u64()? })
}

/// Appends a proposal.
pub fn write_proposal(w: &mut Writer, proposal: &Proposal) {
    w.u128(proposal.hash.0);
    w.slice(&proposal.bytes);
}

/// Reads [`write_proposal`] back; the bytes are copied, since they outlive what they came in.
pub fn read_proposal(r: &mut Reader<'_>) -> Result<Proposal, BadBytes> {
    let hash = LayoutHash(r.u128()?);
    let bytes = r.slice()?;
    if bytes.len() > LAYOUT_BYTES_MAX {
        return Err(BadBytes::Malformed);
    }
    Ok(Proposal { hash, bytes: Bytes::copy_from_slice(bytes) })
}

/// Appends a request.
pub fn write_request(w: &mut Writer, request: &Request) {
    let (decree, parent, ballot) = request.head();
    w.u8(u8::from(matches!(request, Request::Accept { .. })));
    write_decree(w, decree);
    w.u128(parent.0);
    write_ballot(w, ballot);
    if let Request::Accept { proposal, .. } = request {
        write_proposal(w, proposal);
    }
}

/// Reads [`write_request`] back.
pub fn read_request(r: &mut Reader<'_>) -> Result<Request, BadBytes> {
    let kind = r.u8()?;
    let (decree, parent, ballot) = (read_decree(r)?, LayoutHash(r.u128()?), read_ballot(r)?);
    match kind {
        0 => Ok(Request::Prepare { decree, parent, ballot }),
        1 => Ok(Request::Accept { decree, parent, ballot, proposal: read_proposal(r)? }),
        _ => Err(BadBytes::Malformed),
    }
}

/// Appends a reply.
pub fn write_reply(w: &mut Writer, reply: &Reply) {
    write_decree(w, reply.decree);
    write_ballot(w, reply.ballot);
    match &reply.says {
        Says::Promise(None) => w.u8(0),
        Says::Promise(Some(accepted)) => {
            w.u8(1);
            write_ballot(w, accepted.ballot);
            write_proposal(w, &accepted.proposal);
        }
        Says::Accepted => w.u8(2),
        Says::Outbid(ballot) => {
            w.u8(3);
            write_ballot(w, *ballot);
        }
        Says::Settled(settled) => {
            w.u8(4);
            write_settled(w, *settled);
        }
        Says::Behind(settled) => {
            w.u8(5);
            write_settled(w, *settled);
        }
        Says::OtherParent(settled) => {
            w.u8(6);
            write_settled(w, *settled);
        }
    }
}

/// Reads [`write_reply`] back.
pub fn read_reply(r: &mut Reader<'_>) -> Result<Reply, BadBytes> {
    let (decree, ballot) = (read_decree(r)?, read_ballot(r)?);
    let says = match r.u8()? {
        0 => Says::Promise(None),
        1 => Says::Promise(Some(Accepted { ballot: read_ballot(r)?, proposal: read_proposal(r)? })),
        2 => Says::Accepted,
        3 => Says::Outbid(read_ballot(r)?),
        4 => Says::Settled(read_settled(r)?),
        5 => Says::Behind(read_settled(r)?),
        6 => Says::OtherParent(read_settled(r)?),
        _ => return Err(BadBytes::Malformed),
    };
    Ok(Reply { decree, ballot, says })
}

/// No sound proposer comes to a round beyond it, and one that is told of it is told nonsense.
const ROUND_MAX: u64 = 1 << 48;
