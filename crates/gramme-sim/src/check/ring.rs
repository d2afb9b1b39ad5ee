//! The ring in the end: every change that was committed is finished, at every node alike. All know the same last layout
//! and say that they read by it; whoever was removed in an orderly way has handed over all it had; and no node keeps
//! anything of a partition that it is no home of. At no time did two layouts bear one number.
//!
//! Homes that were left and homes that came are held to the rule *convergence* by the last layout, as all others.

use crate::evidence::{Dump, Evidence, Violation};
use gramme_core::change::Chain;
use gramme_core::{Layout, NodeId, PartitionId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Its name.
pub const RULE: &str = "ring";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = match evidence.claims.unnamed_rot {
        true => Vec::new(),
        false => differences(&evidence.ring.first, &evidence.dumps),
    };
    for (decree, hashes) in evidence.ring.under.iter().filter(|(_, hashes)| hashes.len() > 1) {
        found.push(format!("{} layouts bear the number of {decree}", hashes.len()));
    }
    found.into_iter().map(|text| Violation::new(RULE, text)).collect()
}

/// The last layout that anybody knows, with its history.
pub fn newest(first: &Arc<Layout>, dumps: &[Dump]) -> Chain {
    let chains = dumps.iter().map(|dump| dump.chain(first));
    chains.max_by_key(|chain| chain.head().0).unwrap_or_else(|| Chain::new(first.clone()))
}

/// Nodes that were declared lost, and are no members.
pub fn lost(chain: &Chain) -> BTreeSet<NodeId> {
    let lost = chain.line().flat_map(|(_, layout)| layout.lost().iter().copied());
    lost.filter(|node| chain.head().1.member(*node).is_none()).collect()
}

/// Whether a node was removed, has said that it has handed over all it had, and knows nothing of that itself, since it has
/// begun anew with an empty disk: all others refuse it, and nothing is asked of it any more.
pub fn is_stranger(chain: &Chain, first: &Arc<Layout>, dump: &Dump, dumps: &[Dump]) -> bool {
    let Some(at) = chain.removed_at(dump.node) else { return false };
    let has_said_so = |by: &Dump| by.progress(dump.node, first).emptied >= at;
    !has_said_so(dump) && dumps.iter().any(has_said_so)
}

/// What is unfinished, and where; empty once every change is through. `dumps` are those of all that are not gone for good.
pub fn differences(first: &Arc<Layout>, dumps: &[Dump]) -> Vec<String> {
    let chain = newest(first, dumps);
    let (head, layout) = chain.head();
    let mut found = Vec::new();
    for dump in dumps {
        let (own, name) = (dump.chain(first), called(layout, first, dump.node));
        if let Some(decree) = own.contradiction() {
            found.push(format!("{name} knows two layouts under the number of {decree}"));
        }
        if layout.member(dump.node).is_some() && own.head().0 != head {
            found.push(format!("{name} knows {} as the last layout, and {head} is", own.head().0));
        }
        let said = dump.progress(dump.node, first);
        let is_through = [said.adopted, said.filled, said.reads].iter().all(|step| *step == head);
        if layout.member(dump.node).is_some() && !is_through {
            found.push(format!("{name} has not come to {head}: {said:?}"));
        }
        let removed_at = chain.removed_at(dump.node);
        if let Some(at) = removed_at.filter(|at| said.emptied < *at) {
            found.push(format!("{name} was removed at {at} and has not handed over all it had: {said:?}"));
        }
        let is_home = |partition: &&PartitionId| layout.is_home(**partition, dump.node);
        for partition in dump.kept.iter().filter(|partition| !is_home(partition)) {
            found.push(format!("{name} is no home of partition {partition} and keeps something of it"));
        }
    }
    found
}

fn called(layout: &Layout, first: &Layout, node: NodeId) -> String {
    let member = layout.member(node).or(first.member(node));
    member.map_or_else(|| node.to_string(), |member| member.name.clone())
}
