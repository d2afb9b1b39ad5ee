//! Not my key, or my disk fails: hand the put to a home of it and relay the answer. A forward that was never sent, or that
//! stays unanswered, goes to *one* further candidate with the *same request id*, within the deadline
//! (design section 3). Whatever may have been applied by the first is adopted by the second.
//!
//! A put that waited in the sockets of a frozen node is refused here too: a home cannot tell that it is late.

use crate::coordinate::explain::Explain;
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
    /// Surely not applied there.
    NotApplied(Reason),
}

/// See the module.
///
/// `reason` is why this node does not coordinate it; it is the answer if there is nobody to ask.
pub(crate) async fn forward<E: Env>(
    node: &Node<E>,
    mut put: Put,
    mut reason: Reason,
    deadline: Mono,
) -> Result<Done, Failure> {
    let partition = node.partition_of(&put.key);
    let mut explain = Explain::new(node, put.explain);
    let mut asked = 0;
    let mut outcome = Outcome::NotApplied;
    for candidate in candidates(node, partition, put.context.as_ref().and_then(|c| c.preferred)) {
        if asked == ATTEMPTS_MAX || node.0.env.now() >= deadline {
            break;
        }
        if node.is_thawing() && !planted::on(Bug::FrozenWrites) {
            reason = Reason::Frozen;
            break;
        }
        // The last candidate gets all the time that is left.
        let patience = if asked + 1 == ATTEMPTS_MAX { deadline } else { node.0.env.now() + PATIENCE };
        match attempt(node, partition, candidate, &put, patience).await {
            Attempt::Answered(Ok(mut done)) => {
                explain.line(|| format!("{} coordinated", node.name_of(candidate)));
                done.explain.splice(0..0, explain.take());
                return Ok(done);
            }
            Attempt::Answered(Err(failure)) if !worth_another(&failure) => {
                return Err(Failure { outcome: failure.outcome.max(outcome), ..failure });
            }
            Attempt::Answered(Err(failure)) => {
                reason = failure.reason;
                outcome = outcome.max(failure.outcome);
                asked += 1;
            }
            Attempt::Unanswered => {
                outcome = Outcome::MaybeApplied;
                asked += 1;
            }
            Attempt::NotApplied(why) => {
                explain.line(|| format!("{} could not be asked: {why}", node.name_of(candidate)));
                reason = why;
            }
        }
        put.retry |= outcome == Outcome::MaybeApplied;
        if asked == 1 {
            node.0.env.probe(Probe::ForwardedAgain);
        }
    }
    Err(Failure { outcome, explain: explain.take(), needed: 1, ..Failure::not_applied(reason) })
}

/// Homes that may coordinate: the one that answered the preceding read fastest (EX-12), then the healthiest.
fn candidates<E: Env>(node: &Node<E>, partition: PartitionId, preferred: Option<NodeId>) -> Vec<NodeId> {
    let homes = node.layout().homes(partition).iter().copied();
    let mut homes: Vec<NodeId> = homes.filter(|&home| home != node.id()).collect();
    let detector = node.0.detector.borrow();
    let now = node.0.env.now();
    homes
        .sort_by_key(|&home| (detector.health(home, now), Some(home) != preferred, detector.cost(home, now)));
    homes
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
    // was asked, nobody better is left.
    if !node.is_silent(to) {
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
        Step::Answer(..) | Step::Time | Step::Exhausted => Attempt::Unanswered,
    }
}

/// Whether another home may do better: not where the request itself is at fault.
fn worth_another(failure: &Failure) -> bool {
    failure.reason.retryable() && failure.outcome == Outcome::NotApplied
}

const ATTEMPTS_MAX: usize = 2;
/// The first candidate's time: twice what a home takes to find a fallback for a silent replica.
const PATIENCE: Duration = Duration::from_millis(2 * FALLBACK_AFTER_MS_MAX);
