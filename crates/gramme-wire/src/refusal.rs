//! Why two nodes will not talk: said once, in a sentence that helps whoever reads either node's log, before
//! the connection is closed.
//!
//! Every refusal travels with its sentence, so that one which the reader's release does not know still says
//! what to do.

use crate::frame::Kind;
use crate::hello::append;
use bytes::{Bytes, BytesMut};
use gramme_core::codec::{BadBytes, Reader, Writer};
use gramme_core::{ClusterId, LayoutHash, NodeId};
use std::fmt;

/// See the module. "Mine" is the side that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The two belong to different clusters.
    OtherCluster {
        /// The refusing side's.
        mine: ClusterId,
        /// The other's.
        theirs: ClusterId,
    },
    /// The layout of the refusing side does not name this node: said by releases whose members were fixed.
    NotAMember(NodeId),
    /// A node has called itself.
    Yourself,
    /// Two processes run under one node id.
    DuplicateIdentity(NodeId),
    /// The two go by different layouts: said by releases whose members were fixed.
    Layout {
        /// The refusing side's.
        mine: LayoutHash,
        /// The other's.
        theirs: LayoutHash,
    },
    /// They have no protocol in common.
    Protocol {
        /// The oldest that the refusing side speaks.
        min: u16,
        /// The newest that the refusing side speaks.
        max: u16,
    },
    /// One lacks features that the other cannot do without.
    Features(u64),
    /// The proof is not that of a node that knows the cluster's secret.
    BadProof,
    /// Another member than the one that was called has answered.
    OtherNode {
        /// Who was called.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// This node was removed from the cluster, and has nothing left to hand over.
    Removed(NodeId),
    /// What a newer release said, in its words.
    Unknown(String),
}

impl Refusal {
    /// Appends it as one frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut detail = Writer::new();
        let tag = match self {
            Refusal::OtherCluster { mine, theirs } => {
                detail.u128(mine.0);
                detail.u128(theirs.0);
                1
            }
            Refusal::NotAMember(node) => {
                detail.u64(node.0);
                2
            }
            Refusal::Yourself => 3,
            Refusal::DuplicateIdentity(node) => {
                detail.u64(node.0);
                4
            }
            Refusal::Layout { mine, theirs } => {
                detail.u128(mine.0);
                detail.u128(theirs.0);
                5
            }
            Refusal::Protocol { min, max } => {
                detail.varint((*min).into());
                detail.varint((*max).into());
                6
            }
            Refusal::Features(bits) => {
                detail.u64(*bits);
                7
            }
            Refusal::BadProof => 8,
            Refusal::OtherNode { expected, found } => {
                detail.u64(expected.0);
                detail.u64(found.0);
                9
            }
            Refusal::Removed(node) => {
                detail.u64(node.0);
                10
            }
            Refusal::Unknown(_) => 0,
        };
        let mut w = Writer::new();
        w.u8(tag);
        w.slice(detail.as_slice());
        w.slice(self.to_string().as_bytes());
        append(Kind::Refusal, out, w.as_slice());
    }
}

/// Reads the body of a refusal.
pub(crate) fn decode(body: &Bytes) -> Result<Refusal, BadBytes> {
    let mut r = Reader::new(body);
    let tag = r.u8()?;
    let mut detail = Reader::new(r.slice()?);
    let sentence = r.text()?;
    Ok(match tag {
        1 => Refusal::OtherCluster { mine: ClusterId(detail.u128()?), theirs: ClusterId(detail.u128()?) },
        2 => Refusal::NotAMember(NodeId(detail.u64()?)),
        3 => Refusal::Yourself,
        4 => Refusal::DuplicateIdentity(NodeId(detail.u64()?)),
        5 => Refusal::Layout { mine: LayoutHash(detail.u128()?), theirs: LayoutHash(detail.u128()?) },
        6 => Refusal::Protocol {
            min: detail.count(u16::MAX.into())? as u16,
            max: detail.count(u16::MAX.into())? as u16,
        },
        7 => Refusal::Features(detail.u64()?),
        8 => Refusal::BadProof,
        9 => Refusal::OtherNode { expected: NodeId(detail.u64()?), found: NodeId(detail.u64()?) },
        10 => Refusal::Removed(NodeId(detail.u64()?)),
        _ => Refusal::Unknown(sentence.to_owned()),
    })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OtherCluster { mine, theirs } => write!(
                f,
                "the refusing node belongs to cluster {mine}, the other to cluster {theirs}: check peer addresses and cluster files"
            ),
            Refusal::NotAMember(node) => write!(
                f,
                "node {node} is not a member of this cluster's layout: start it with the id that the cluster file gives it"
            ),
            Refusal::Yourself => {
                write!(f, "the node has called itself: check that each member has its own peer address")
            }
            Refusal::DuplicateIdentity(node) => write!(
                f,
                "two processes run as node {node}: stop one of them, and never copy a node's settings to another"
            ),
            Refusal::Layout { mine, theirs } => write!(
                f,
                "the refusing node goes by layout {mine}, the other by layout {theirs}: give every node the same cluster file"
            ),
            Refusal::Protocol { min, max } => write!(
                f,
                "the refusing node speaks peer protocols {min} to {max}, the other none of them: upgrade the older node"
            ),
            Refusal::Features(bits) => {
                write!(
                    f,
                    "one node lacks features {bits:#x} that the other cannot do without: upgrade the older node"
                )
            }
            Refusal::BadProof => write!(
                f,
                "the other node does not know the refusing node's cluster secret: give every node the same cluster file"
            ),
            Refusal::OtherNode { expected, found } => write!(
                f,
                "node {found} answers at the address of node {expected}: check the peer addresses in the cluster file, and listen.advertise of both"
            ),
            Refusal::Removed(node) => write!(
                f,
                "node {node} was removed from this cluster and cannot come back: give it an empty data directory and a new node.id, and have it ask to join"
            ),
            Refusal::Unknown(sentence) => write!(f, "{sentence}"),
        }
    }
}

impl std::error::Error for Refusal {}
