//! What is true, kept beside the acceptors, and what anybody is told held against it.

use super::Promise;
use gramme_core::paxos::{Ballot, Certificate, Decree, Outcome, Settled, majority};
use gramme_core::{LayoutHash, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A broken promise, and the words for it.
pub(super) type Broken = (Promise, String);

/// Everything that was ever proposed and accepted.
#[derive(Default)]
pub(super) struct Truth {
    /// Who decides on what follows a layout.
    electorates: BTreeMap<Settled, Vec<NodeId>>,
    /// How often each layout was proposed.
    proposed: BTreeMap<Settled, u32>,
    accepted: BTreeMap<(Decree, LayoutHash, Ballot), BTreeSet<(NodeId, LayoutHash)>>,
    chosen: BTreeMap<Decree, LayoutHash>,
    /// What its proposer was told will never be.
    never: BTreeSet<Settled>,
}

impl Truth {
    pub(super) fn begins_with(founding: Settled, members: &[NodeId]) -> Truth {
        let mut truth = Truth::default();
        truth.electorates.insert(founding, members.to_vec());
        truth.chosen.insert(founding.decree, founding.hash);
        truth
    }

    pub(super) fn was_proposed(&mut self, what: Settled, members: Vec<NodeId>) {
        self.electorates.insert(what, members);
        *self.proposed.entry(what).or_default() += 1;
    }

    /// Decrees settled after the first.
    pub(super) fn decrees(&self) -> u64 {
        self.chosen.len() as u64 - 1
    }

    fn electorate(&self, decree: Decree, parent: LayoutHash) -> Option<(Settled, &[NodeId])> {
        let before = Decree { version: decree.version.checked_sub(1)?, ..decree };
        let parent = Settled { decree: before, hash: parent };
        self.electorates.get(&parent).map(|members| (parent, members.as_slice()))
    }

    /// A member's word that it has accepted has left it.
    pub(super) fn was_accepted(
        &mut self,
        by: NodeId,
        (decree, parent, ballot): (Decree, LayoutHash, Ballot),
        hash: LayoutHash,
    ) -> Result<(), Broken> {
        let all = self.accepted.entry((decree, parent, ballot)).or_default();
        all.insert((by, hash));
        let accepted = all.iter().filter(|one| one.1 == hash).count();
        let needed = self.electorate(decree, parent).map(|(_, members)| majority(members.len()));
        if needed.is_some_and(|needed| accepted >= needed) { self.choose(decree, hash) } else { Ok(()) }
    }

    fn choose(&mut self, decree: Decree, hash: LayoutHash) -> Result<(), Broken> {
        let first = *self.chosen.entry(decree).or_insert(hash);
        if first != hash {
            return Err((Promise::OnePerDecree, format!("{decree} is both {first} and {hash}")));
        }
        let settled = Settled { decree, hash };
        if !self.proposed.contains_key(&settled) {
            return Err((Promise::WasProposed, format!("{hash} was chosen for {decree}")));
        }
        if self.never.contains(&settled) && self.proposed.get(&settled) == Some(&1) {
            let what = format!("{decree} is {hash}, whose proposer was told that it never would be");
            return Err((Promise::Truthful, what));
        }
        Ok(())
    }

    fn is_certified(&mut self, certificate: &Certificate) -> Result<(), Broken> {
        let Some((parent, members)) = self.electorate(certificate.decree, certificate.parent) else {
            return Err((Promise::WasProposed, format!("{certificate:?} follows nothing that was proposed")));
        };
        certificate.verify(parent, members).map_err(|bad| (Promise::ByMajority, bad.to_string()))?;
        self.choose(certificate.decree, certificate.hash)
    }

    /// A proposer was told how it ended.
    pub(super) fn was_told(&mut self, own: Settled, outcome: &Outcome) -> Result<(), Broken> {
        match outcome {
            Outcome::Chosen(certificate) => {
                if certificate.settled() != own {
                    return Err((Promise::Truthful, format!("{own:?} was not what was chosen")));
                }
                self.is_certified(certificate)
            }
            Outcome::AnotherWasChosen { proposal, certificate } => {
                if certificate.hash != proposal.hash || certificate.hash == own.hash {
                    return Err((Promise::Truthful, format!("{certificate:?} is not of another")));
                }
                self.is_certified(certificate)
            }
            Outcome::Settled(settled) if self.chosen.get(&settled.decree) == Some(&settled.hash) => Ok(()),
            Outcome::Settled(settled) => {
                Err((Promise::Truthful, format!("{settled:?} was said to be settled and is not")))
            }
            Outcome::OtherParent(node, settled) => {
                Err((Promise::OnePerDecree, format!("node {node} knows {settled:?} in place of the parent")))
            }
            Outcome::NoQuorum { may_come, .. } => {
                // Who proposes what another has proposed as well cannot know what comes of the other.
                if !may_come && self.proposed.get(&own) == Some(&1) {
                    if self.chosen.get(&own.decree) == Some(&own.hash) {
                        return Err((Promise::Truthful, format!("{own:?} was chosen and said to be lost")));
                    }
                    self.never.insert(own);
                }
                Ok(())
            }
        }
    }
}
