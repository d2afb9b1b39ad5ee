//! Counting the answers of one write by each live layout: it is done once enough nodes have it by every one of them
//! (correctness.md 5.3). In quiet there is one count.
//!
//! A home counts by the layouts that name it. A fallback counts by all, and so does a home of one layout that takes the place of
//! a home of another, once it sits there. A home by one layout that nobody asked to sit counts for nothing by another: whoever
//! reads by that would not hear it.
//!
//! Invariant: distinct nodes are counted, never messages ([`Quorum`]).

use crate::live::Live;
use gramme_core::{Layout, NodeId, PartitionId, Quorum, Verdict};
use gramme_wire::Acks;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub(super) struct Quorums {
    partition: PartitionId,
    /// How many nodes are needed where there are N copies.
    need: Need,
    counts: Vec<Count>,
    /// What has happened so far, to be counted again when the live layouts change.
    past: Vec<Happened>,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Distinct nodes.
    pub(super) nodes: usize,
    /// Homes among them, by each layout.
    pub(super) homes: usize,
}

struct Count {
    layout: Arc<Layout>,
    quorum: Quorum,
}

#[derive(Clone, Copy)]
enum Happened {
    Asked(NodeId),
    /// A fallback, by whatever layouts there were when it was asked.
    AskedFallback(NodeId),
    /// The first takes the place of the second, which is a home.
    Sits(NodeId, NodeId),
    Acked(NodeId),
    Failed(NodeId),
}

impl Quorums {
    /// Nobody was asked yet.
    pub(super) fn new(live: &Rc<Live>, partition: PartitionId, need: Need) -> Quorums {
        let mut quorums = Quorums { partition, need, counts: Vec::new(), past: Vec::new() };
        quorums.follow(live);
        quorums
    }

    /// Counts by these layouts from now on.
    pub(super) fn follow(&mut self, live: &Rc<Live>) {
        let count = |layout: &Arc<Layout>| Count {
            layout: layout.clone(),
            quorum: Quorum::new(self.need.nodes, self.need.homes),
        };
        self.counts = live.layouts().map(|(_, layout)| count(layout)).collect();
        for at in 0..self.past.len() {
            self.count(self.past[at]);
        }
    }

    /// A node has been asked: a home, or a fallback.
    pub(super) fn asked(&mut self, node: NodeId) {
        let is_home = self.counts.iter().any(|count| count.layout.is_home(self.partition, node));
        self.note(if is_home { Happened::Asked(node) } else { Happened::AskedFallback(node) });
    }

    /// A node that was asked takes the place of a home too, by the layouts that name the home and not the node.
    pub(super) fn sits(&mut self, node: NodeId, home: NodeId) {
        self.note(Happened::Sits(node, home));
    }

    /// Whether a node has a place already wherever this home has one.
    pub(super) fn is_seated(&self, node: NodeId, home: NodeId) -> bool {
        let names = |count: &&Count| count.layout.is_home(self.partition, home);
        self.counts
            .iter()
            .filter(names)
            .all(|count| count.quorum.has_acked(node) || count.quorum.is_pending(node))
    }

    /// A node has it.
    pub(super) fn ack(&mut self, node: NodeId) {
        self.note(Happened::Acked(node));
    }

    /// A node has not, and will not.
    pub(super) fn fail(&mut self, node: NodeId) {
        self.note(Happened::Failed(node));
    }

    fn note(&mut self, happened: Happened) {
        self.past.push(happened);
        self.count(happened);
    }

    fn count(&mut self, happened: Happened) {
        let partition = self.partition;
        match happened {
            Happened::Asked(node) | Happened::AskedFallback(node) => {
                // Whoever was a home when it was asked, and is none any more, has it all the same.
                let is_home = self.counts.iter().any(|count| count.layout.is_home(partition, node));
                let everywhere = !is_home || matches!(happened, Happened::AskedFallback(_));
                for count in &mut self.counts {
                    let home = count.layout.is_home(partition, node);
                    if home || everywhere {
                        count.quorum.asked(node, home);
                    }
                }
            }
            Happened::Sits(node, home) => {
                let acked = self.has_acked(node);
                for count in &mut self.counts {
                    let names = |node| count.layout.is_home(partition, node);
                    if names(home) && !names(node) {
                        count.quorum.asked(node, false);
                        if acked {
                            count.quorum.ack(node, false);
                        }
                    }
                }
            }
            Happened::Acked(node) => {
                for count in &mut self.counts {
                    let home = count.layout.is_home(partition, node);
                    if home || count.quorum.is_pending(node) {
                        count.quorum.ack(node, home);
                    }
                }
            }
            Happened::Failed(node) => self.counts.iter_mut().for_each(|count| count.quorum.fail(node)),
        }
    }

    /// How it stands: reached by all, or impossible by one.
    pub(super) fn verdict(&self) -> Verdict {
        let verdicts = || self.counts.iter().map(|count| count.quorum.verdict());
        if verdicts().any(|verdict| verdict == Verdict::Impossible) {
            Verdict::Impossible
        } else if verdicts().all(|verdict| verdict == Verdict::Reached) {
            Verdict::Reached
        } else {
            Verdict::Pending
        }
    }

    /// Whether a node has answered.
    pub(super) fn has_acked(&self, node: NodeId) -> bool {
        self.counts.iter().any(|count| count.quorum.has_acked(node))
    }

    /// Whether a node was asked and has neither answered nor failed.
    pub(super) fn is_pending(&self, node: NodeId) -> bool {
        self.counts.iter().any(|count| count.quorum.is_pending(node))
    }

    /// Nodes needed.
    pub(super) fn need(&self) -> usize {
        self.need.nodes
    }

    /// Who has it, by the layout by which the fewest have.
    pub(super) fn acks(&self) -> Acks {
        let least = self.counts.iter().min_by_key(|count| (count.quorum.acks(), count.quorum.homes()));
        least.map_or(Acks::default(), |count| super::acks(&count.quorum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::Member;
    use gramme_core::Stamp;
    use gramme_core::change::{Chain, Ground, Link};
    use gramme_core::layout::plan::plan;
    use gramme_core::layout::staged::{Change, Staged};
    use gramme_core::paxos::Decree;
    use std::collections::BTreeSet;

    fn member(id: u64) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("n{id}:1"),
            http: String::new(),
            zone: "z".into(),
            weight: 1,
        }
    }

    /// Four members of which the fourth is replaced, in a partition of which it is a home: the live layouts, those who
    /// stay homes, the one that goes, the one that comes.
    fn replaced() -> (Rc<Live>, PartitionId, Vec<NodeId>, NodeId, NodeId) {
        let first = Layout::first((1..=4).map(member).collect(), 3, 8).expect("a layout");
        let mut staged = Staged::new();
        let change = Change::Replace(member(5));
        staged.stage(&first, NodeId(4), change, Stamp::from_ms(1), NodeId(1)).expect("staged");
        let next = plan(&first, &staged).expect("a plan").chain()[0].clone();
        let partition = (0..8).map(PartitionId).find(|&p| first.is_home(p, NodeId(4))).expect("one");
        let mut chain = Chain::new(Arc::new(first.clone()));
        let one = Decree { lineage: 0, version: 1 };
        let two = Decree { lineage: 1, version: 2 };
        chain
            .add(&Link { decree: two, layout: next, ground: Ground::Forced { by: NodeId(1) } })
            .expect("taken");
        let live = Live::of(&chain, &BTreeSet::from([one, two]), one, two, []).expect("known");
        let stay = first.homes(partition).iter().copied().filter(|&home| home != NodeId(4)).collect();
        (Rc::new(live), partition, stay, NodeId(4), NodeId(5))
    }

    #[test]
    fn who_goes_and_who_comes_count_by_one_layout_each() {
        let (live, partition, stay, goes, comes) = replaced();
        let mut quorums = Quorums::new(&live, partition, Need { nodes: 2, homes: 0 });
        [stay[0], stay[1], goes, comes].into_iter().for_each(|node| quorums.asked(node));
        quorums.ack(goes);
        quorums.ack(comes);
        assert_eq!(quorums.verdict(), Verdict::Pending, "one by each layout");
        quorums.ack(stay[0]);
        assert_eq!(quorums.verdict(), Verdict::Reached);
        assert_eq!(quorums.acks(), Acks { homes: 2, fallbacks: 0 });
    }

    #[test]
    fn whoever_sits_for_a_home_counts_there_too() {
        let (live, partition, stay, goes, comes) = replaced();
        let mut quorums = Quorums::new(&live, partition, Need { nodes: 1, homes: 0 });
        quorums.asked(comes);
        quorums.ack(comes);
        assert_eq!(quorums.verdict(), Verdict::Impossible, "nobody who is read by the old layout was asked");
        assert!(!quorums.is_seated(comes, goes));
        quorums.sits(comes, goes);
        assert!(quorums.is_seated(comes, goes));
        assert_eq!(quorums.verdict(), Verdict::Reached);
        let _ = stay;
    }

    #[test]
    fn what_has_happened_counts_by_layouts_that_come_later() {
        let (live, partition, stay, goes, comes) = replaced();
        let old = Rc::new(Live::of_one(live.reads_decree(), live.reads().clone()));
        let mut quorums = Quorums::new(&old, partition, Need { nodes: 2, homes: 0 });
        [stay[0], stay[1], goes].into_iter().for_each(|node| quorums.asked(node));
        quorums.ack(goes);
        quorums.ack(stay[0]);
        assert_eq!(quorums.verdict(), Verdict::Reached);
        quorums.follow(&live);
        assert_eq!(quorums.verdict(), Verdict::Pending, "the new layout has only one who stays");
        quorums.asked(comes);
        quorums.ack(comes);
        assert_eq!(quorums.verdict(), Verdict::Reached);
    }
}
