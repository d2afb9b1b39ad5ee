//! Who coordinates a put: this node, if it is a home of the key and its disk takes writes; else the healthiest
//! other home; else, if no home is within reach, the first healthy fallback, which may be this node
//! (correctness.md 1.4; the paper, 4.6: with W = 1 the last reachable node takes it).
//!
//! A forward that was never sent, or that stays unanswered, goes to *one* further candidate with the *same
//! request id*, within the deadline (design section 3). Whatever may have been applied by the first is adopted by
//! the second. A candidate that goes silent altogether is not that one: it is passed over as soon as that is known,
//! and so are the other homes if they are found silent with it.
//!
//! A put that waited in the sockets of a frozen node is refused here too: a home cannot tell that it is late.

use crate::coordinate::explain::Explain;
use crate::coordinate::put::{Rest, put_here};
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::probe::Probe;
use gramme_core::limits::FALLBACK_AFTER_MS_MAX;
use gramme_core::planted::{self, Bug};
use gramme_core::{NodeId, Outcome, PartitionId};
use gramme_wire::{Body, Done, Failure, Put, Reason};
use std::time::Duration;

/// What one candidate made of it.
enum Attempt {
    Answered(Result<Done, Failure>),
    /// It may or may not have been applied.
    Unanswered,
    /// Nor that, and nothing else was heard of the candidate either.
    Silent,
    /// Surely not applied there.
    NotApplied(Reason),
}

/// Has a put coordinated, here or elsewhere; see the module. Also gives what is left to do here after the answer.
pub(crate) async fn put_somewhere<E: Env>(
    node: &Node<E>,
    mut put: Put,
    deadline: Mono,
) -> (Result<Done, Failure>, Rest<E>) {
    let partition = node.partition_of(&put.key);
    let mut explain = Explain::new(node, put.explain);
    let mut tried = Vec::new();
    let (mut asked, mut silent) = (0, 0);
    let mut reason = Reason::Unavailable;
    let mut outcome = Outcome::NotApplied;
    while asked < ATTEMPTS_MAX {
        let preferred = put.context.as_ref().and_then(|context| context.preferred);
        let Some(candidate) = next_candidate(node, partition, preferred, &tried) else { break };
        if candidate == node.id() {
            let (result, rest) = put_here(node, &mut put, deadline).await;
            match result {
                Err(failure) if hands_on(&failure) => reason = failure.reason,
                result => return (after(result, outcome, explain.take()), rest),
            }
            tried.push(candidate);
            continue;
        }
        tried.push(candidate);
        if node.0.env.now() >= deadline {
            break;
        }
        if node.is_thawing() && !planted::on(Bug::FrozenWrites) {
            reason = Reason::Frozen;
            break;
        }
        if asked + silent > 0 {
            node.0.env.probe(Probe::ForwardedAgain);
        }
        // The last candidate gets all the time that is left.
        let patience = if asked + 1 == ATTEMPTS_MAX { deadline } else { node.0.env.now() + PATIENCE };
        match attempt(node, partition, candidate, &put, patience.min(deadline)).await {
            Attempt::Answered(Err(failure)) if worth_another(&failure) => {
                reason = failure.reason;
                asked += 1;
            }
            Attempt::Answered(result) => {
                explain.line(|| format!("{} coordinated", node.name_of(candidate)));
                return (after(result, outcome, explain.take()), Rest::nothing());
            }
            Attempt::Unanswered => {
                explain.line(|| format!("{} did not answer in time", node.name_of(candidate)));
                outcome = Outcome::MaybeApplied;
                asked += 1;
            }
            Attempt::Silent => {
                explain.line(|| format!("{} has gone silent", node.name_of(candidate)));
                outcome = Outcome::MaybeApplied;
                silent += 1;
                asked += usize::from(silent >= node.layout().n());
            }
            Attempt::NotApplied(why) => {
                explain.line(|| format!("{} could not be asked: {why}", node.name_of(candidate)));
                // That someone is away says less than why someone who is not has refused.
                if why != Reason::Unavailable {
                    reason = why;
                }
            }
        }
        put.retry |= outcome == Outcome::MaybeApplied;
    }
    let failure = Failure { outcome, explain: explain.take(), needed: 1, ..Failure::not_applied(reason) };
    (Err(failure), Rest::nothing())
}

/// The last candidate's word, together with what the ones before it may have done.
fn after(result: Result<Done, Failure>, before: Outcome, mut lines: Vec<String>) -> Result<Done, Failure> {
    match result {
        Ok(mut done) => {
            lines.append(&mut done.explain);
            Ok(Done { explain: lines, ..done })
        }
        Err(mut failure) => {
            lines.append(&mut failure.explain);
            Err(Failure { outcome: failure.outcome.max(before), explain: lines, ..failure })
        }
    }
}

/// Who is to coordinate, of those that were not tried: the healthiest; of those a home before a fallback; of
/// homes this node, then the one that answered the preceding read fastest (EX-12), then the fastest; of fallbacks
/// the first.
fn next_candidate<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    preferred: Option<NodeId>,
    tried: &[NodeId],
) -> Option<NodeId> {
    let me = node.id();
    let able = node.0.store.check().is_ok();
    if node.home(partition).is_some() && able && !tried.contains(&me) {
        return Some(me);
    }
    let live = node.live();
    let homes = live.homes(partition);
    let n = homes.len();
    let list = homes.into_iter().chain(live.fallbacks(partition)).enumerate();
    let free = list.filter(|(_, id)| !tried.contains(id) && (*id != me || able));
    let detector = node.0.detector.borrow();
    let now = node.0.env.now();
    // Who is a home by some live layout alone is asked after those who are by all: it needs a fallback's place by the others.
    let kind = |rank: usize, id: NodeId| match rank < n {
        true if live.is_home_in_all(partition, id) => 0,
        true => 1,
        false => 2,
    };
    let best = free.min_by_key(|&(rank, id)| {
        let order = if rank < n { detector.cost(id, now) } else { rank as u64 };
        (node.health(id), kind(rank, id), Some(id) != preferred, order)
    });
    best.map(|(_, id)| id)
}

async fn attempt<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    to: NodeId,
    put: &Put,
    patience: Mono,
) -> Attempt {
    node.0.env.probe(Probe::Forwarded);
    let body = Body::Forward { put: Box::new(put.clone()) };
    // Nobody waits for it longer than this, so nobody may begin it later: a put without a context that comes
    // late would overwrite what was acknowledged meanwhile.
    let mut gather = node.0.routes.fan_out(&[to], partition, body, patience);
    // A put takes its time; whether the node is there at all is known sooner. Of one that was silent before it
    // was asked, nobody better is left. Homes that froze together are found together, so that the second costs no
    // patience of its own.
    if !node.is_silent(to) {
        node.live().homes(partition).iter().for_each(|&home| node.ping_if_quiet(home));
        node.ping_if_quiet(to);
        gather.heed_silence(true);
    }
    match gather.next(patience).await {
        Step::Answer(_, Answer::Said(Body::ForwardReply { result })) => {
            Attempt::Answered(result.map(|done| *done).map_err(|failure| *failure))
        }
        Step::Answer(_, Answer::Said(Body::Refused { failure }))
            if failure.outcome == Outcome::NotApplied =>
        {
            Attempt::NotApplied(failure.reason)
        }
        Step::Answer(_, Answer::Unsent) => Attempt::NotApplied(Reason::Unavailable),
        Step::Time if node.0.env.now() < patience => Attempt::Silent,
        Step::Answer(..) | Step::Time | Step::Exhausted => Attempt::Unanswered,
    }
}

/// Whether another candidate may do better: not where the request itself is at fault.
fn worth_another(failure: &Failure) -> bool {
    failure.reason.retryable() && failure.outcome == Outcome::NotApplied
}

/// Whether this node could not begin, for reasons of its own that others need not share.
fn hands_on(failure: &Failure) -> bool {
    failure.outcome == Outcome::NotApplied && matches!(failure.reason, Reason::Disk(_) | Reason::HintsFull)
}

const ATTEMPTS_MAX: usize = 2;
/// The first candidate's time: twice what a home takes to find a fallback for a silent replica.
const PATIENCE: Duration = Duration::from_millis(2 * FALLBACK_AFTER_MS_MAX);
