//! One member's memory of the decree that is open: what it promised, what it accepted.
//!
//! It refuses to answer for any decree but the one after the last that it knows to be settled.

use super::{
    Accepted, Ballot, Decree, Reply, Request, Says, Settled, read_ballot, read_proposal, read_settled,
    write_ballot, write_proposal, write_settled,
};
use crate::codec::{BadBytes, Writer, seal, unseal};
use crate::layout::LayoutHash;
use crate::planted::{self, Bug};
use alloc::vec::Vec;

/// What one member must not forget; see the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acceptor {
    settled: Settled,
    promised: Ballot,
    accepted: Option<Accepted>,
}

/// A reply, and whether giving it changed the acceptor. Either way it leaves the node only once the acceptor is
/// durable as it is now: an earlier change may still be on its way to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to send.
    pub reply: Reply,
    /// Whether there is something new to write.
    pub changed: bool,
}

impl Acceptor {
    /// One that knows this to be settled, and has answered nothing.
    pub fn new(settled: Settled) -> Acceptor {
        Acceptor { settled, promised: Ballot::default(), accepted: None }
    }

    /// The last decree that it knows to be settled.
    pub fn settled(&self) -> Settled {
        self.settled
    }

    /// What it has accepted for the decree after that.
    pub fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// Learns that a decree is settled, by a certificate that the caller has verified or by a forced lineage; says
    /// whether that was news. `Err` is the alarm: it knows another layout under the same number.
    ///
    /// What it had promised and accepted is forgotten only here, when nothing of it is asked for any more.
    pub fn settle(&mut self, settled: Settled) -> Result<bool, Settled> {
        if settled.decree == self.settled.decree && settled.hash != self.settled.hash {
            return Err(self.settled);
        }
        let is_news = settled.decree > self.settled.decree;
        if is_news {
            *self = Acceptor::new(settled);
        }
        Ok(is_news)
    }

    /// Answers a proposer; repeating a request repeats its answer.
    pub fn hear(&mut self, request: &Request) -> Answer {
        let (decree, parent, ballot) = request.head();
        let before = (self.promised, self.accepted.as_ref().map(|accepted| accepted.ballot));
        let says = match self.objection(decree, parent, ballot) {
            Some(objection) => objection,
            None => self.agree(request),
        };
        let after = (self.promised, self.accepted.as_ref().map(|accepted| accepted.ballot));
        Answer { reply: Reply { decree, ballot, says }, changed: before != after }
    }

    fn objection(&self, decree: Decree, parent: LayoutHash, ballot: Ballot) -> Option<Says> {
        let open = self.settled.decree.next();
        let reopened = planted::on(Bug::SettledReopened) && decree == self.settled.decree;
        if open != Some(decree) && !reopened {
            let is_past = decree <= self.settled.decree;
            return Some(if is_past { Says::Settled(self.settled) } else { Says::Behind(self.settled) });
        }
        if parent != self.settled.hash && !reopened {
            return Some(Says::OtherParent(self.settled));
        }
        (ballot < self.promised && !planted::on(Bug::PromiseForgotten)).then_some(Says::Outbid(self.promised))
    }

    fn agree(&mut self, request: &Request) -> Says {
        match request {
            Request::Prepare { ballot, .. } => {
                self.promised = self.promised.max(*ballot);
                Says::Promise(self.accepted.clone())
            }
            Request::Accept { ballot, proposal, .. } => {
                self.promised = self.promised.max(*ballot);
                self.accepted = Some(Accepted { ballot: *ballot, proposal: proposal.clone() });
                Says::Accepted
            }
        }
    }

    /// The bytes for the disk; byte table: `docs/format/acceptor.md`.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(FORMAT);
        write_settled(&mut w, self.settled);
        write_ballot(&mut w, self.promised);
        w.u8(self.accepted.is_some().into());
        if let Some(accepted) = &self.accepted {
            write_ballot(&mut w, accepted.ballot);
            write_proposal(&mut w, &accepted.proposal);
        }
        seal(&mut w, 0);
        w.into_vec()
    }

    /// Reads [`Acceptor::encode`] back. Bytes that fail are an acceptor that forgot: it must not answer again before
    /// the decree that was open is settled.
    pub fn decode(bytes: &[u8]) -> Result<Acceptor, BadBytes> {
        let mut r = unseal(bytes, FORMAT)?;
        let settled = read_settled(&mut r)?;
        let promised = read_ballot(&mut r)?;
        let accepted = match r.u8()? {
            0 => None,
            1 => Some(Accepted { ballot: read_ballot(&mut r)?, proposal: read_proposal(&mut r)? }),
            _ => return Err(BadBytes::Malformed),
        };
        r.end()?;
        if accepted.as_ref().is_some_and(|accepted| accepted.ballot > promised) {
            return Err(BadBytes::Malformed);
        }
        Ok(Acceptor { settled, promised, accepted })
    }
}

const FORMAT: u8 = 1;
