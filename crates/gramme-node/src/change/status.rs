//! The ring as this node knows it, for people.

use super::load::all_progress;
use super::{stage, steps};
use crate::env::Env;
use crate::node::Node;
use crate::request::{HistoryItem, NodeKnown, RingStatus, StagedItem};
use gramme_core::change::{Chain, Step, stand};
use gramme_core::layout::staged::Change;
use gramme_core::{Layout, NodeId, PartitionId};
use std::collections::BTreeSet;

/// See the module.
pub(crate) fn status<E: Env>(node: &Node<E>) -> RingStatus {
    let changing = &node.0.changing;
    let chain = changing.chain.borrow();
    let (head_decree, head) = chain.head();
    let (mine, said) = {
        let known = node.0.cluster.known();
        (steps::mine(node, &known), all_progress(&known, node.id()))
    };
    let stand = stand(&chain, node.id(), mine, &said);
    let hash = |decree| chain.layout(decree).map_or_else(Default::default, |layout| layout.hash());
    let counts = |id: &NodeId| node.live().members().contains(id) || head.member(*id).is_some();
    let mut progress: Vec<_> = said.into_iter().filter(|(id, _)| counts(id)).collect();
    progress.push((node.id(), mine));
    progress.sort_unstable_by_key(|(id, _)| *id);
    let gone = changing.gone.borrow();
    let voices = node.live().voices().clone();
    RingStatus {
        reads: (mine.reads, hash(mine.reads)),
        target: (stand.target, hash(stand.target)),
        head: (head_decree, head.hash()),
        waiting: chain.line().filter(|(decree, _)| *decree > stand.target).count(),
        step: if stand.target == mine.reads { Step::Rest } else { stand.step },
        awaited: stand.awaited,
        progress,
        staged: staged_items(node, head),
        asking: asking(node, head),
        leaving: voices.into_iter().filter(|id| head.removed().contains(id)).collect(),
        is_member: head.member(node.id()).is_some(),
        is_gone: gone.contains(&node.id()) || node.0.shunned.get(),
        contradiction: chain.contradiction(),
        history: history(&chain),
    }
}

/// Nodes that have said what they are, and are no members and never were.
pub(crate) fn asking<E: Env>(node: &Node<E>, head: &Layout) -> Vec<NodeKnown> {
    let mut known = node.nodes_known();
    let is_out = |id: NodeId| head.removed().contains(&id) || id == node.id() && node.0.shunned.get();
    known.retain(|known| head.member(known.node).is_none() && !is_out(known.node));
    known
}

fn staged_items<E: Env>(node: &Node<E>, head: &Layout) -> Vec<StagedItem> {
    let staged = stage::staged(node, head);
    let item = |(id, change, wish): (NodeId, &Change, &gramme_core::layout::staged::Wish)| {
        let (name, what) = match change {
            Change::Join(new) => {
                (new.name.clone(), format!("joins, weight {}, zone {}", new.weight, new.zone))
            }
            Change::Leave => (node.name_of(id), "leaves".to_string()),
            Change::Lost => (node.name_of(id), "is lost for good, and leaves".to_string()),
            Change::Replace(new) => (node.name_of(id), format!("is replaced by {}", new.name)),
            Change::ReplaceLost(new) => {
                (node.name_of(id), format!("is lost for good, and replaced by {}", new.name))
            }
            Change::Weight(weight) => (node.name_of(id), format!("weight {weight}")),
            Change::Zone(zone) => (node.name_of(id), format!("zone {zone}")),
        };
        StagedItem { node: id, name, what, at_ms: wish.stamp.ms(), by: node.name_of(wish.author) }
    };
    staged.open(head).map(item).collect()
}

fn history(chain: &Chain) -> Vec<HistoryItem> {
    let mut items = Vec::new();
    let mut before: Option<&Layout> = None;
    for (decree, layout) in chain.line() {
        let names = |of: &Layout, but: Option<&Layout>| -> Vec<String> {
            let is_new = |id| but.is_none_or(|but| but.member(id).is_none());
            of.members().iter().filter(|member| is_new(member.id)).map(|member| member.name.clone()).collect()
        };
        items.push(HistoryItem {
            decree,
            hash: layout.hash(),
            members: layout.members().len(),
            came: names(layout, before),
            went: before.map_or(Vec::new(), |before| names(before, Some(layout))),
            moved: before.map_or(0, |before| moved(before, layout)),
            back_to: layout.back_to(),
        });
        before = Some(layout);
    }
    items
}

/// Slots of which another home keeps the partition than before.
fn moved(before: &Layout, after: &Layout) -> usize {
    let comes = |p: usize| {
        let partition = PartitionId(p as u16);
        let old: BTreeSet<&NodeId> = before.homes(partition).iter().collect();
        after.homes(partition).iter().filter(|home| !old.contains(home)).count()
    };
    (0..after.partitions()).map(comes).sum()
}
