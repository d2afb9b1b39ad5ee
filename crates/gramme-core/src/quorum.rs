//! Counting answers. A quorum counts *distinct nodes*, never messages, and never learns how an answer
//! travelled (riak_kv's put_core is the ancestor; correctness.md section 3).
//!
//! Invariant: once [`Verdict::Reached`], always reached.

use crate::id::NodeId;
use crate::planted::{self, Bug};
use alloc::vec::Vec;

/// How a set of answers stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More answers may still come.
    Pending,
    /// As many distinct nodes as needed have answered.
    Reached,
    /// Even if every node that may still answer does, it is not enough.
    Impossible,
}

/// The count of one request.
#[derive(Clone, Debug)]
pub struct Quorum {
    need: usize,
    need_homes: usize,
    acked: Vec<(NodeId, bool)>,
    pending: Vec<(NodeId, bool)>,
}

impl Quorum {
    /// A count that is reached once `need` distinct nodes have answered, `need_homes` of them homes
    /// (`pr`/`pw`; 0 asks nothing of that kind).
    pub fn new(need: usize, need_homes: usize) -> Quorum {
        Quorum { need, need_homes, acked: Vec::new(), pending: Vec::new() }
    }

    /// A node has been asked and may answer.
    pub fn asked(&mut self, node: NodeId, home: bool) {
        if !self.has_acked(node) && !self.pending.iter().any(|p| p.0 == node) {
            self.pending.push((node, home));
        }
    }

    /// A node has answered as wanted.
    pub fn ack(&mut self, node: NodeId, home: bool) {
        self.pending.retain(|p| p.0 != node);
        if !self.has_acked(node) || planted::on(Bug::DuplicateCounted) {
            self.acked.push((node, home));
        }
    }

    /// A node has refused, failed or cannot be reached; an acknowledgement it gave before stands.
    pub fn fail(&mut self, node: NodeId) {
        self.pending.retain(|p| p.0 != node);
    }

    /// How it stands.
    pub fn verdict(&self) -> Verdict {
        let homes = |set: &[(NodeId, bool)]| set.iter().filter(|p| p.1).count();
        if self.acked.len() >= self.need && homes(&self.acked) >= self.need_homes {
            Verdict::Reached
        } else if self.acked.len() + self.pending.len() < self.need
            || homes(&self.acked) + homes(&self.pending) < self.need_homes
        {
            Verdict::Impossible
        } else {
            Verdict::Pending
        }
    }

    /// Whether this node has answered.
    pub fn has_acked(&self, node: NodeId) -> bool {
        self.acked.iter().any(|p| p.0 == node)
    }

    /// Whether this node was asked and has neither answered nor failed.
    pub fn is_pending(&self, node: NodeId) -> bool {
        self.pending.iter().any(|p| p.0 == node)
    }

    /// Nodes that have answered and are homes.
    pub fn homes(&self) -> usize {
        self.acked.iter().filter(|p| p.1).count()
    }

    /// Nodes that have answered and stand in for a home.
    pub fn fallbacks(&self) -> usize {
        self.acked.len() - self.homes()
    }

    /// Nodes that have answered.
    pub fn acks(&self) -> usize {
        self.acked.len()
    }

    /// Nodes needed.
    pub fn need(&self) -> usize {
        self.need
    }
}
