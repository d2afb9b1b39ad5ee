//! One record of a backup: joined into what its homes hold, as a record that nobody vouches for.
//!
//! It bears no frontier, so whatever the homes know to have been overwritten or deleted since stays so, however
//! old the backup is (correctness.md 2.4). It mints no dot: giving the same backup back twice changes nothing.

use crate::coordinate::acks;
use crate::env::{Env, Mono};
use crate::fan_out::{Answer, Gather, Step};
use crate::node::Node;
use crate::request::Restore;
use crate::serve;
use gramme_core::codec::decode_record;
use gramme_core::{Frontier, NodeId, PartitionId, Quorum, Verdict};
use gramme_wire::{Acks, Body, Failure, Reason};

/// Resolves once as many nodes have it as the key's bucket wants for a write.
pub(crate) async fn restore<E: Env>(
    node: &Node<E>,
    restore: Restore,
    deadline: Mono,
) -> Result<Acks, Failure> {
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    let settings = node.settings(restore.key.bucket());
    let need = settings.w.resolve(node.layout().n()).map_err(|e| invalid(e.to_string()))?;
    let record = decode_record(&restore.record).map_err(|bad| invalid(format!("the record: {bad}")))?;
    if let Some(broken) = record.siblings().iter().find(|sibling| !sibling.verifies()) {
        return Err(invalid(format!("the value of {} fails its checksum", broken.dot)));
    }
    let partition = node.partition_of(&restore.key);
    let mut restoring = Restoring::start(node, partition, restore, need, deadline);
    restoring.until_reached().await
}

struct Restoring<E: Env> {
    node: Node<E>,
    partition: PartitionId,
    restore: Restore,
    quorum: Quorum,
    gather: Gather<E>,
    fallbacks: Vec<NodeId>,
}

impl<E: Env> Restoring<E> {
    fn start(
        node: &Node<E>,
        partition: PartitionId,
        restore: Restore,
        need: usize,
        deadline: Mono,
    ) -> Restoring<E> {
        let mut quorum = Quorum::new(need, 0);
        let gather = node.0.routes.open(partition, deadline);
        for &home in node.layout().homes(partition) {
            quorum.asked(home, true);
            if home == node.id() {
                serve::merge_here(node, partition, body(&restore, None), gather.ask_here(home));
            } else {
                gather.ask(home, body(&restore, None));
            }
        }
        let mut fallbacks = node.layout().fallbacks(partition).to_vec();
        fallbacks.retain(|&fallback| fallback != node.id());
        fallbacks.sort_by_key(|&fallback| std::cmp::Reverse(node.health(fallback)));
        Restoring { node: node.clone(), partition, restore, quorum, gather, fallbacks }
    }

    async fn until_reached(&mut self) -> Result<Acks, Failure> {
        loop {
            if self.quorum.verdict() == Verdict::Reached {
                return Ok(acks(&self.quorum));
            }
            let deadline = self.gather.deadline();
            match self.gather.next(deadline).await {
                Step::Answer(from, answer) => self.take(from, answer),
                Step::Time | Step::Exhausted => {
                    let acks = acks(&self.quorum);
                    let needed = self.quorum.need() as u8;
                    let outcome = gramme_core::Outcome::MaybeApplied;
                    return Err(Failure {
                        acks,
                        needed,
                        outcome,
                        ..Failure::not_applied(Reason::Unavailable)
                    });
                }
            }
        }
    }

    /// A home that has not got it is replaced by the next fallback, which keeps it as a hint.
    fn take(&mut self, from: NodeId, answer: Answer) {
        let home = self.node.layout().is_home(self.partition, from);
        if matches!(answer, Answer::Said(Body::MergeReply)) {
            return self.quorum.ack(from, home);
        }
        self.quorum.fail(from);
        if home && let Some(fallback) = self.fallbacks.pop() {
            self.quorum.asked(fallback, false);
            self.gather.ask(fallback, body(&self.restore, Some(from)));
        }
    }
}

fn body(restore: &Restore, hint_for: Option<NodeId>) -> Body {
    Body::Merge {
        key: restore.key.clone(),
        record: restore.record.clone(),
        hint_for,
        stamp: Frontier::none(),
        buffered: false,
    }
}
