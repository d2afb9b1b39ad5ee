//! The proof that a layout was chosen: who accepted it, under which ballot.

use super::{Ballot, Decree, Settled, majority, read_ballot, read_decree, write_ballot, write_decree};
use crate::codec::{BadBytes, Reader, Writer};
use crate::id::NodeId;
use crate::layout::LayoutHash;
use crate::limits::MEMBERS_MAX;
use alloc::vec::Vec;
use core::fmt;

/// That a majority of the members of the parent has accepted a layout under one ballot. Two proposers that finish
/// the same decree may have two certificates for it, of the same layout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Certificate {
    /// What was settled.
    pub decree: Decree,
    /// The layout that it follows.
    pub parent: LayoutHash,
    /// The layout that was chosen.
    pub hash: LayoutHash,
    /// The ballot under which it was.
    pub ballot: Ballot,
    /// Members of the parent, in ascending order.
    pub accepted_by: Vec<NodeId>,
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// It does not follow this layout.
    NotAfter(Settled),
    /// It names somebody who is no member.
    Stranger(NodeId),
    /// It names somebody twice, or not in order.
    NotAscending,
    /// It names too few.
    Minority {
        /// How many.
        accepted: usize,
        /// How many there must be.
        needed: usize,
    },
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCertificate::NotAfter(parent) => {
                write!(f, "the certificate does not follow {}, layout {}", parent.decree, parent.hash)
            }
            BadCertificate::Stranger(node) => {
                write!(f, "the certificate names node {node}, which is no member")
            }
            BadCertificate::NotAscending => {
                write!(f, "the certificate names its members twice or out of order")
            }
            BadCertificate::Minority { accepted, needed } => {
                write!(
                    f,
                    "the certificate names {accepted} members, and a majority of the members is {needed}"
                )
            }
        }
    }
}

impl core::error::Error for BadCertificate {}

impl Certificate {
    /// What it settles.
    pub fn settled(&self) -> Settled {
        Settled { decree: self.decree, hash: self.hash }
    }

    /// Whether it proves that its layout was chosen to follow `parent`, whose members these are.
    pub fn verify(&self, parent: Settled, members: &[NodeId]) -> Result<(), BadCertificate> {
        if parent.decree.next() != Some(self.decree) || parent.hash != self.parent {
            return Err(BadCertificate::NotAfter(parent));
        }
        if !self.accepted_by.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(BadCertificate::NotAscending);
        }
        if let Some(&stranger) = self.accepted_by.iter().find(|node| !members.contains(node)) {
            return Err(BadCertificate::Stranger(stranger));
        }
        let (accepted, needed) = (self.accepted_by.len(), majority(members.len()));
        if accepted < needed {
            return Err(BadCertificate::Minority { accepted, needed });
        }
        Ok(())
    }

    /// Whether the two cannot both be true: two layouts under one number, or one layout after two. No sound members
    /// cause it; ring changes must stop and somebody must look.
    pub fn contradicts(&self, other: &Certificate) -> bool {
        self.decree == other.decree && (self.hash, self.parent) != (other.hash, other.parent)
    }
}

/// Appends a certificate.
pub fn write_certificate(w: &mut Writer, certificate: &Certificate) {
    write_decree(w, certificate.decree);
    w.u128(certificate.parent.0);
    w.u128(certificate.hash.0);
    write_ballot(w, certificate.ballot);
    w.varint(certificate.accepted_by.len() as u64);
    certificate.accepted_by.iter().for_each(|node| w.u64(node.0));
}

/// Reads [`write_certificate`] back; it is not verified.
pub fn read_certificate(r: &mut Reader<'_>) -> Result<Certificate, BadBytes> {
    let decree = read_decree(r)?;
    let parent = LayoutHash(r.u128()?);
    let hash = LayoutHash(r.u128()?);
    let ballot = read_ballot(r)?;
    let count = r.count_of(8)?;
    if count > MEMBERS_MAX {
        return Err(BadBytes::Malformed);
    }
    let mut accepted_by = Vec::with_capacity(count);
    for _ in 0..count {
        accepted_by.push(NodeId(r.u64()?));
    }
    Ok(Certificate { decree, parent, hash, ballot, accepted_by })
}
