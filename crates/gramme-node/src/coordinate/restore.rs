//! One record of a backup: joined into what its homes hold, as a record that nobody vouches for.
//!
//! It bears no frontier, so whatever the homes know to have been overwritten or deleted since stays so, however
//! old the backup is (correctness.md 2.4). It mints no dot: giving the same backup back twice changes nothing.

use crate::coordinate::explain::Explain;
use crate::coordinate::quorums::{Need, Quorums};
use crate::coordinate::spread::Spread;
use crate::env::{Env, Mono};
use crate::node::Node;
use crate::request::Restore;
use crate::serve;
use gramme_core::codec::decode_record;
use gramme_core::{Frontier, Outcome, Verdict};
use gramme_wire::{Acks, Failure, Reason};

/// A home that does not take it is replaced by a fallback, as in a put. Resolves once as many nodes have it as the key's bucket wants for a write.
pub(crate) async fn restore<E: Env>(
    node: &Node<E>,
    restore: Restore,
    deadline: Mono,
) -> Result<Acks, Failure> {
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    let settings = node.settings(restore.key.bucket());
    let live = node.live();
    let need = settings.w.resolve(live.reads().n()).map_err(|e| invalid(e.to_string()))?;
    let record = decode_record(&restore.record).map_err(|bad| invalid(format!("the record: {bad}")))?;
    if let Some(broken) = record.siblings().iter().find(|sibling| !sibling.verifies()) {
        return Err(invalid(format!("the value of {} fails its checksum", broken.dot)));
    }
    let partition = node.partition_of(&restore.key);
    let gather = node.0.routes.open(partition, deadline);
    let quorum = Quorums::new(&live, partition, Need { nodes: need, homes: 0 });
    let parts = (partition, restore.key, restore.record);
    let is_home = live.is_home(partition, node.id());
    let counted = (live, quorum);
    let mut spread = Spread::new(node, parts, gather, counted, false, Explain::new(node, false));
    if is_home {
        let own = spread.gather.ask_here(node.id());
        serve::merge_here(node, partition, spread.merge(None, Frontier::none()), own);
    }
    spread.ask_homes(false, &Frontier::none());
    loop {
        spread.fill_seats();
        if spread.quorum.verdict() == Verdict::Reached {
            return Ok(spread.quorum.acks());
        }
        if !spread.step(deadline).await {
            return Err(Failure {
                acks: spread.quorum.acks(),
                needed: need as u8,
                outcome: Outcome::MaybeApplied,
                ..Failure::not_applied(Reason::Unavailable)
            });
        }
    }
}
