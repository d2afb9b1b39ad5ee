//! One attempt to have a layout chosen, as a machine that is told what the members answer and says what to do next.
//!
//! It refuses to know time: when to ask again, how long to stand back for a rival and when to give up is its
//! caller's to decide; the longer it stands back, and the more at random, the sooner one of two rivals is done.

use super::{Accepted, Ballot, Certificate, Decree, Proposal, ROUND_MAX, Reply, Request, Says, Settled};
use crate::id::NodeId;
use crate::layout::LayoutHash;
use crate::planted::{self, Bug};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// More than half of so many members.
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// Somebody who wants a layout chosen; see the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proposer {
    parent: Settled,
    decree: Decree,
    members: Vec<NodeId>,
    own: Proposal,
    ballot: Ballot,
    phase: Phase,
    /// Who has said anything in any round.
    heard: BTreeSet<NodeId>,
    /// Who has said that this round's ballot comes too late.
    outbid_by: BTreeSet<NodeId>,
    /// The highest round that anyone has named.
    highest: u64,
    /// Whether anybody was ever asked to accept the own proposal.
    asked_for_own: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Preparing { promised: BTreeSet<NodeId>, best: Option<Accepted> },
    Accepting { proposal: Proposal, accepted: BTreeSet<NodeId> },
}

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Send what [`Proposer::requests`] gives.
    Ask,
    /// Another proposer is ahead of this round: stand back for a random while, then [`Proposer::retry`].
    StandBack,
    /// This member has not learned the parent, only what it names: send it the chain, then ask it again.
    Teach(NodeId, Settled),
    /// It is over.
    End(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proposal was chosen.
    Chosen(Certificate),
    /// Another was chosen, which this proposer found half done and finished: both must be told to everyone.
    AnotherWasChosen {
        /// What was chosen.
        proposal: Proposal,
        /// Its proof.
        certificate: Certificate,
    },
    /// A member knows this decree, or a later one, to be settled; its chain has the proof.
    Settled(Settled),
    /// A member knows another layout under the parent's number: an alarm.
    OtherParent(NodeId, Settled),
    /// No majority has answered.
    NoQuorum {
        /// Members that have answered at all.
        answered: usize,
        /// Members that must.
        needed: usize,
        /// Whether the proposal may still be chosen later: somebody was asked to accept it, and whoever proposes next
        /// may find that and finish it.
        may_come: bool,
    },
}

impl Proposer {
    /// Wants `own` chosen to follow `parent`, whose members these are. `attempt` is 64 random bits, new for every
    /// proposer. `None` if no number follows the parent's.
    pub fn new(
        parent: Settled,
        members: &[NodeId],
        own: Proposal,
        node: NodeId,
        attempt: u64,
    ) -> Option<Proposer> {
        let decree = parent.decree.next()?;
        let distinct: BTreeSet<NodeId> = members.iter().copied().collect();
        Some(Proposer {
            parent,
            decree,
            members: distinct.into_iter().collect(),
            own,
            ballot: Ballot { round: 1, node, attempt },
            phase: Phase::Preparing { promised: BTreeSet::new(), best: None },
            heard: BTreeSet::new(),
            outbid_by: BTreeSet::new(),
            highest: 1,
            asked_for_own: false,
        })
    }

    /// What is to be settled.
    pub fn decree(&self) -> Decree {
        self.decree
    }

    /// What it wants chosen.
    pub fn own(&self) -> &Proposal {
        &self.own
    }

    /// The layout's hash that it follows.
    pub fn parent(&self) -> LayoutHash {
        self.parent.hash
    }

    /// What to send to whom: the present question, to the members that have not answered it.
    pub fn requests(&self) -> (Vec<NodeId>, Request) {
        let (decree, parent, ballot) = (self.decree, self.parent.hash, self.ballot);
        let (answered, request) = match &self.phase {
            Phase::Preparing { promised, .. } => (promised, Request::Prepare { decree, parent, ballot }),
            Phase::Accepting { accepted, proposal } => {
                (accepted, Request::Accept { decree, parent, ballot, proposal: proposal.clone() })
            }
        };
        let silent = |node: &&NodeId| !answered.contains(node) && !self.outbid_by.contains(node);
        (self.members.iter().filter(silent).copied().collect(), request)
    }

    /// Takes an answer. Late, doubled and foreign ones change nothing.
    pub fn hear(&mut self, from: NodeId, reply: Reply) -> Step {
        if reply.decree != self.decree || self.members.binary_search(&from).is_err() {
            return Step::Wait;
        }
        self.heard.insert(from);
        match reply.says {
            Says::Settled(settled) => Step::End(Outcome::Settled(settled)),
            Says::OtherParent(settled) => Step::End(Outcome::OtherParent(from, settled)),
            _ if reply.ballot != self.ballot => Step::Wait,
            Says::Behind(settled) => Step::Teach(from, settled),
            Says::Outbid(higher) => self.outbid(from, higher),
            Says::Promise(accepted) => self.promised(from, accepted),
            Says::Accepted => self.accepted(from),
        }
    }

    fn promised(&mut self, from: NodeId, accepted: Option<Accepted>) -> Step {
        let enough = self.enough();
        let Phase::Preparing { promised, best } = &mut self.phase else { return Step::Wait };
        promised.insert(from);
        let replaces = |one: &Accepted, best: &Accepted| match planted::on(Bug::LowestAccepted) {
            true => one.ballot < best.ballot,
            false => one.ballot > best.ballot,
        };
        if let Some(one) = accepted
            && best.as_ref().is_none_or(|best| replaces(&one, best))
        {
            *best = Some(one);
        }
        if promised.len() < enough {
            return Step::Wait;
        }
        let found = best.take().filter(|_| !planted::on(Bug::AcceptedIgnored));
        let proposal = found.map_or_else(|| self.own.clone(), |accepted| accepted.proposal);
        self.asked_for_own |= proposal.hash == self.own.hash;
        self.outbid_by.clear();
        self.phase = Phase::Accepting { proposal, accepted: BTreeSet::new() };
        Step::Ask
    }

    fn accepted(&mut self, from: NodeId) -> Step {
        let enough = self.enough();
        let Phase::Accepting { proposal, accepted } = &mut self.phase else { return Step::Wait };
        accepted.insert(from);
        if accepted.len() < enough {
            return Step::Wait;
        }
        let certificate = Certificate {
            decree: self.decree,
            parent: self.parent.hash,
            hash: proposal.hash,
            ballot: self.ballot,
            accepted_by: accepted.iter().copied().collect(),
        };
        if proposal.hash == self.own.hash {
            return Step::End(Outcome::Chosen(certificate));
        }
        Step::End(Outcome::AnotherWasChosen { proposal: proposal.clone(), certificate })
    }

    fn outbid(&mut self, from: NodeId, higher: Ballot) -> Step {
        self.highest = self.highest.max(higher.round);
        self.outbid_by.insert(from);
        let answered = match &self.phase {
            Phase::Preparing { promised, .. } => promised,
            Phase::Accepting { accepted, .. } => accepted,
        };
        let lost = self.outbid_by.difference(answered).count();
        if self.members.len() - lost < self.enough() { Step::StandBack } else { Step::Wait }
    }

    /// Begins a new round, above every ballot that was heard of; then what [`Proposer::requests`] gives is to be sent.
    /// `false`, and nothing begins, if there is no higher round.
    pub fn retry(&mut self) -> bool {
        let round = self.highest.max(self.ballot.round) + 1;
        if round > ROUND_MAX {
            return false;
        }
        self.ballot.round = round;
        self.outbid_by.clear();
        self.phase = Phase::Preparing { promised: BTreeSet::new(), best: None };
        true
    }

    /// How it stands for a caller who will not wait longer.
    pub fn give_up(&self) -> Outcome {
        Outcome::NoQuorum {
            answered: self.heard.len(),
            needed: majority(self.members.len()),
            may_come: self.asked_for_own,
        }
    }

    fn enough(&self) -> usize {
        match planted::on(Bug::MajorityOfAnswers) {
            true => majority(self.heard.len()),
            false => majority(self.members.len()),
        }
    }
}
