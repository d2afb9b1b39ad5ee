//! One node: its acceptor and its chain, what of them is on its disk, and the proposal that it is at.

use gramme_core::paxos::{Acceptor, Certificate, Proposal, Proposer, Reply, Settled};
use gramme_core::{LayoutHash, NodeId};
use std::collections::VecDeque;
use std::rc::Rc;

/// A layout after the first, with its proof.
pub(super) struct Link {
    pub(super) proposal: Proposal,
    pub(super) certificate: Certificate,
}

/// What a disk holds.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) acceptor: Vec<u8>,
    pub(super) chain: Vec<Rc<Link>>,
}

/// A state on its way to the disk, and the reply that waits for it: to whom, and what it accepts.
pub(super) struct Write {
    pub(super) disk: Disk,
    pub(super) reply: Option<Waiting>,
}

pub(super) struct Waiting {
    pub(super) to: usize,
    pub(super) reply: Reply,
    /// If it accepts: after which layout, and what.
    pub(super) accepts: Option<(LayoutHash, LayoutHash)>,
}

/// A proposal on its way.
pub(super) struct Proposing {
    pub(super) proposer: Proposer,
    /// Tells it from earlier ones of the node.
    pub(super) number: u64,
    /// Tells its present timer from earlier ones.
    pub(super) tick: u64,
    /// How often it has begun a round.
    pub(super) rounds: u32,
    /// How often it has asked in this round.
    pub(super) asked: u32,
    pub(super) stands_back: bool,
}

/// A node that is up.
pub(super) struct Live {
    pub(super) acceptor: Acceptor,
    pub(super) chain: Vec<Rc<Link>>,
    pub(super) writes: VecDeque<Write>,
    /// How many of the writes the disk is at.
    pub(super) syncing: usize,
    pub(super) proposing: Option<Proposing>,
}

pub(super) struct Node {
    pub(super) disk: Disk,
    pub(super) life: u64,
    pub(super) live: Option<Live>,
}

impl Live {
    pub(super) fn head(&self, founding: Settled) -> Settled {
        self.chain.last().map_or(founding, |link| link.certificate.settled())
    }

    pub(super) fn members<'a>(&'a self, founders: &'a [NodeId]) -> Vec<NodeId> {
        self.chain.last().map_or_else(|| founders.to_vec(), |link| members_of(&link.proposal))
    }

    pub(super) fn to_disk(&self) -> Disk {
        Disk { acceptor: self.acceptor.encode(), chain: self.chain.clone() }
    }
}

/// The layout of this world: its members, and a number that makes it another than every other.
pub(super) fn layout(members: &[NodeId], number: u64) -> Proposal {
    let mut bytes: Vec<u8> = members.iter().map(|node| node.0 as u8).collect();
    bytes.extend_from_slice(&number.to_le_bytes());
    Proposal { hash: LayoutHash(xxhash_rust::xxh3::xxh3_64(&bytes).into()), bytes: bytes.into() }
}

pub(super) fn members_of(layout: &Proposal) -> Vec<NodeId> {
    let members = &layout.bytes[..layout.bytes.len() - size_of::<u64>()];
    members.iter().map(|&node| NodeId(node.into())).collect()
}
