//! What clients asked and were told, with exact times: one thread, so the order is free.
//!
//! Checkers read this and the dumps of the disks, and nothing else.

use crate::evidence::describe;
use bytes::Bytes;
use gramme_core::record::{Content, checksum};
use gramme_core::{Clock, Dot, Key, NodeId, Outcome, Record, RequestId};
use gramme_wire::{Acks, Reason};

/// The whole history of a run.
#[derive(Debug)]
pub struct History {
    /// Puts and deletes, in the order in which they were begun.
    pub puts: Vec<PutOp>,
    /// Reads, in the order in which they ended.
    pub gets: Vec<GetOp>,
    /// Pages of lists, in the order in which they ended.
    pub lists: Vec<ListOp>,
    /// When the cluster had had its time to converge; reads begun later must show nothing older.
    pub converged_at: u64,
}

impl Default for History {
    fn default() -> History {
        History { puts: Vec::new(), gets: Vec::new(), lists: Vec::new(), converged_at: u64::MAX }
    }
}

/// One client write, with all its attempts.
#[derive(Clone, Debug)]
pub struct PutOp {
    /// Who wrote.
    pub client: usize,
    /// Its name.
    pub request: RequestId,
    /// Where.
    pub key: Key,
    /// What.
    pub content: Content,
    /// The clock of the context that was sent, if one was.
    pub sent: Option<Clock>,
    /// What the client had truly been shown when it sent it; the same as `sent` if nodes are honest.
    pub shown: Clock,
    /// Whether it may overwrite what its coordinator sees: a delete without a context, or a put without one
    /// in a bucket where the last writer wins.
    pub supersedes: bool,
    /// How long the value lives, in milliseconds; 0 is for ever.
    pub ttl_ms: u64,
    /// When it was begun.
    pub invoked: u64,
    /// When the client knew; `None` if the run ended first.
    pub returned: Option<u64>,
    /// What the client knows.
    pub outcome: Outcome,
    /// What it was told, if it was applied.
    pub done: Option<DoneSeen>,
    /// In order.
    pub attempts: Vec<Attempt>,
}

/// The parts of a `Done` that checkers need.
#[derive(Clone, Debug)]
pub struct DoneSeen {
    /// The write's dot; number 0 if a retry found it overwritten already.
    pub dot: Dot,
    /// The clock of the context in the answer.
    pub clock: Clock,
    /// Who acknowledged.
    pub acks: Acks,
    /// Whether homes had it in memory alone when they did.
    pub buffered: bool,
}

/// One attempt at a write.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who was asked.
    pub node: NodeId,
    /// How long the request lay in a frozen node's sockets, in nanoseconds.
    pub waited: u64,
    /// What the node made of it, told to the client or not; `None` if it never ended.
    pub outcome: Option<Outcome>,
    /// Why it failed there.
    pub reason: Option<Reason>,
    /// When the node was done with it, whether the client still waited or not.
    pub ended: Option<u64>,
}

/// One read.
#[derive(Clone, Debug)]
pub struct GetOp {
    /// Who read.
    pub client: usize,
    /// Where.
    pub key: Key,
    /// What it had to have seen: the clock of the token that the session passed.
    pub min: Option<Clock>,
    /// The writes that were live in what the session had last been shown, if it passed a token.
    pub held: Vec<RequestId>,
    /// When it was begun.
    pub invoked: u64,
    /// When it ended.
    pub returned: u64,
    /// The answer, if there was one.
    pub found: Option<Found>,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The joined record.
    pub record: Record,
    /// The clock of the context in the answer.
    pub context: Clock,
    /// Who answered.
    pub acks: Acks,
    /// What the time was by the coordinator's hybrid clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// Whose clock that is: the node, the number of its life, and the shard; unknown if it was not one life.
    pub coordinator: Option<(NodeId, u32, usize)>,
}

/// One page.
#[derive(Clone, Debug)]
pub struct ListOp {
    /// The bucket.
    pub bucket: String,
    /// Where it began.
    pub after: Option<Bytes>,
    /// Keys and records; `None` if the page failed.
    pub entries: Option<Vec<(Bytes, Record)>>,
    /// Whether values came along.
    pub values: bool,
    /// When it ended.
    pub returned: u64,
}

impl PutOp {
    /// Whether something of it may exist.
    pub fn may_exist(&self) -> bool {
        self.outcome != Outcome::NotApplied
    }

    /// Whether a tombstone takes its place some time after it was written.
    pub fn is_mortal(&self) -> bool {
        self.ttl_ms > 0
    }

    /// Whether it deletes.
    pub fn is_delete(&self) -> bool {
        self.content == Content::Tombstone
    }

    /// Whether some attempt was still under way at this time, whatever the client had been told by then. One of which
    /// the node said that it may be applied may be so for as long as a home that it was handed to has time for it.
    pub fn is_under_way(&self, at: u64) -> bool {
        let may_come = |attempt: &Attempt| {
            let late = if attempt.outcome == Some(Outcome::MaybeApplied) { HANDED_ON_NS } else { 0 };
            attempt.ended.is_none_or(|ended| ended + late > at)
        };
        self.returned.is_none_or(|returned| returned > at) || self.attempts.iter().any(may_come)
    }

    /// Whether it was refused because its key did not look as it expected.
    pub fn was_unexpected(&self) -> bool {
        let unexpected = |attempt: &Attempt| attempt.reason == Some(Reason::Unexpected);
        self.outcome == Outcome::NotApplied && self.attempts.iter().any(unexpected)
    }

    /// The checksum that its sibling bears.
    pub fn checksum(&self) -> u64 {
        checksum(&self.content)
    }

    /// The dot it was told, unless a retry found it overwritten.
    pub fn told_dot(&self) -> Option<Dot> {
        self.done.as_ref().map(|done| done.dot).filter(|dot| dot.n > 0)
    }

    /// How it is called in reports.
    pub fn name(&self) -> String {
        let what = match &self.content {
            Content::Value(value) => String::from_utf8_lossy(value).trim_end_matches('.').to_string(),
            Content::Tombstone => "delete".to_string(),
        };
        let dot = self.told_dot().map_or("no dot".to_string(), |dot| dot.to_string());
        format!(
            "{what} by client {} on {:?} at {} ms ({}, {dot}, request {})",
            self.client,
            self.key,
            self.invoked / 1_000_000,
            self.outcome,
            self.request
        )
    }
}

impl History {
    /// Writes and reads in the order in which they were begun, one line each.
    pub fn story(&self) -> Vec<String> {
        let span = |invoked: u64, returned: u64| format!("{:>9.3} to {:>9.3} ms", ms(invoked), ms(returned));
        let mut told: Vec<(u64, String)> = Vec::new();
        for op in &self.puts {
            let context = match &op.sent {
                Some(clock) => format!("after {}", intervals(clock)),
                None => "without a context".to_string(),
            };
            let hosts: Vec<String> =
                op.attempts.iter().map(|a| format!("n{} {:?}", a.node.0, a.outcome)).collect();
            let when = span(op.invoked, op.returned.unwrap_or(op.invoked));
            told.push((op.invoked, format!("{when} {} {context}; {}", op.name(), hosts.join(", "))));
        }
        for op in &self.gets {
            let found = match &op.found {
                Some(found) => format!("{} {}", describe(&found.record), intervals(&found.record.clock)),
                None => "no answer".to_string(),
            };
            let when = span(op.invoked, op.returned);
            told.push((op.invoked, format!("{when} client {} reads {:?}: {found}", op.client, op.key)));
        }
        told.sort();
        told.into_iter().map(|(_, line)| line).collect()
    }

    /// Operations that clients began, and how many of them were answered as asked.
    pub fn ratio(&self) -> (usize, usize) {
        let is_answered = |op: &&PutOp| op.outcome == Outcome::Applied || op.was_unexpected();
        let puts = self.puts.iter().filter(is_answered).count();
        let gets = self.gets.iter().filter(|op| op.found.is_some()).count();
        let lists = self.lists.iter().filter(|op| op.entries.is_some()).count();
        (self.puts.len() + self.gets.len() + self.lists.len(), puts + gets + lists)
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A clock in one line.
pub fn intervals(clock: &Clock) -> String {
    let runs: Vec<String> =
        clock.intervals().iter().map(|i| format!("{:x}({},{}]", i.incarnation.0, i.lo, i.hi)).collect();
    format!("<{}>", runs.join(" "))
}

/// No request of a run has more time than this.
const HANDED_ON_NS: u64 = 1_000_000_000;
