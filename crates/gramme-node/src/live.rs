//! The layouts by which one shard works: reads go by one of them, writes are done once they are by each
//! ([`gramme_core::change`]). In quiet there is one.
//!
//! A flow takes the live layouts once, when it begins, and holds them: who they were is known until its end, and a step
//! of a change that must not overtake what began before waits until nobody holds the older ones.
//!
//! It refuses to know how they change.

use gramme_core::change::Chain;
use gramme_core::paxos::Decree;
use gramme_core::{Layout, Member, NodeId, PartitionId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// In order of decree; never empty.
    layouts: Vec<(Decree, Arc<Layout>)>,
    /// Which of them is read by.
    reads: usize,
    /// Those of whom nothing is awaited.
    lost: BTreeSet<NodeId>,
    /// The last that this node has durably said to write by.
    said: Decree,
    /// Everyone whose word counts where everyone's does: members, and former ones that still have something to hand
    /// over.
    voices: BTreeSet<NodeId>,
    /// Members by any of them.
    members: BTreeSet<NodeId>,
}

impl Live {
    /// One layout that never changes.
    pub(crate) fn of_one(decree: Decree, layout: Arc<Layout>) -> Live {
        let members: BTreeSet<NodeId> = layout.members().iter().map(|member| member.id).collect();
        let (lost, voices) = (BTreeSet::new(), members.clone());
        Live { layouts: vec![(decree, layout)], reads: 0, lost, said: decree, voices, members }
    }

    /// These layouts of a chain, of which `reads` is one and `said` the last that this node has said to write by; `leaving`
    /// are removed nodes that still hand over.
    pub(crate) fn of(
        chain: &Chain,
        live: &BTreeSet<Decree>,
        reads: Decree,
        said: Decree,
        leaving: impl IntoIterator<Item = NodeId>,
    ) -> Option<Live> {
        let layouts: Vec<(Decree, Arc<Layout>)> =
            live.iter().filter_map(|&decree| Some((decree, chain.layout(decree)?.clone()))).collect();
        let reads = layouts.iter().position(|(decree, _)| *decree == reads)?;
        let members = layouts.iter().flat_map(|(_, layout)| layout.members()).map(|member| member.id);
        let members: BTreeSet<NodeId> = members.collect();
        let voices = leaving.into_iter().collect();
        let mut live = Live { layouts, reads, lost: chain.given_up(), said, voices, members };
        let by_newest = live.newest().lost().clone();
        live.lost.extend(by_newest);
        let counts: Vec<NodeId> = live.members.iter().copied().filter(|&id| !live.is_lost(id)).collect();
        live.voices.extend(counts);
        Some(live)
    }

    /// The layout that reads go by.
    pub(crate) fn reads(&self) -> &Arc<Layout> {
        &self.layouts[self.reads].1
    }

    /// Its number.
    pub(crate) fn reads_decree(&self) -> Decree {
        self.layouts[self.reads].0
    }

    /// The one that is being gone to, or the only one.
    pub(crate) fn newest(&self) -> &Arc<Layout> {
        &self.layouts[self.layouts.len() - 1].1
    }

    /// The number of the newest.
    pub(crate) fn newest_decree(&self) -> Decree {
        self.layouts[self.layouts.len() - 1].0
    }

    /// All of them, in order.
    pub(crate) fn layouts(&self) -> impl DoubleEndedIterator<Item = (Decree, &Arc<Layout>)> {
        self.layouts.iter().map(|(decree, layout)| (*decree, layout))
    }

    /// Whether this is the same set, read the same way, with the same voices and the same losses.
    pub(crate) fn is_same(&self, other: &Live) -> bool {
        let decrees = |live: &Live| live.layouts.iter().map(|(decree, _)| *decree).collect::<Vec<_>>();
        let rest = |live: &Live| (live.reads, live.said, live.lost.clone(), live.voices.clone());
        decrees(self) == decrees(other) && rest(self) == rest(other)
    }

    /// The fence that a write bears: replicas that have adopted more refuse it.
    pub(crate) fn fence(&self) -> u64 {
        fence_of(self.newest_decree())
    }

    /// Q; the same in all of them.
    pub(crate) fn partitions(&self) -> usize {
        self.reads().partitions()
    }

    /// Whether there is one layout, of which nobody is lost.
    fn is_quiet(&self) -> bool {
        self.layouts.len() == 1 && self.lost.is_empty()
    }

    /// Everyone who is a home of a partition by any of them and not lost: first those that are read from, in order.
    pub(crate) fn homes(&self, partition: PartitionId) -> Vec<NodeId> {
        let mut homes = self.reads().homes(partition).to_vec();
        if self.is_quiet() {
            return homes;
        }
        for (_, layout) in &self.layouts {
            homes.extend(layout.homes(partition));
        }
        let mut once = BTreeSet::new();
        homes.retain(|&home| !self.is_lost(home) && once.insert(home));
        homes
    }

    /// Whether a node is a home of a partition by any of them.
    pub(crate) fn is_home(&self, partition: PartitionId, node: NodeId) -> bool {
        self.layouts.iter().any(|(_, layout)| layout.is_home(partition, node))
    }

    /// Whether a node has been a home of a partition all along from an earlier set of layouts to this one: by one that is in
    /// both.
    pub(crate) fn goes_on_from(&self, before: &Live, partition: PartitionId, node: NodeId) -> bool {
        let is_in_both = |decree: Decree| before.layouts().any(|(other, _)| other == decree);
        self.layouts().any(|(decree, layout)| is_in_both(decree) && layout.is_home(partition, node))
    }

    /// Members of a partition's homes by any layout that are lost.
    pub(crate) fn lost_homes(&self, partition: PartitionId) -> Vec<NodeId> {
        let homes = self.layouts.iter().flat_map(|(_, layout)| layout.homes(partition)).copied();
        let lost: BTreeSet<NodeId> = homes.filter(|&home| self.is_lost(home)).collect();
        lost.into_iter().collect()
    }

    /// Whether it is one by any that this node has durably said to write by: after a crash too it refuses clients' writes by
    /// older ones.
    pub(crate) fn is_home_as_said(&self, partition: PartitionId, node: NodeId) -> bool {
        let said = self.layouts.iter().filter(|(decree, _)| *decree <= self.said);
        said.into_iter().any(|(_, layout)| layout.is_home(partition, node))
    }

    /// Whether it is one by each of them.
    pub(crate) fn is_home_in_all(&self, partition: PartitionId, node: NodeId) -> bool {
        self.layouts.iter().all(|(_, layout)| layout.is_home(partition, node))
    }

    /// Who takes a home's place, in order: never a home.
    pub(crate) fn fallbacks(&self, partition: PartitionId) -> Vec<NodeId> {
        if self.is_quiet() {
            return self.reads().fallbacks(partition).to_vec();
        }
        let all = [self.newest(), self.reads()];
        let all = all.into_iter().flat_map(|layout| layout.preference_list(partition));
        let mut once = BTreeSet::new();
        all.copied()
            .filter(|&node| !self.is_home(partition, node) && !self.is_lost(node) && once.insert(node))
            .collect()
    }

    /// Members by any of them, each once, in order of id.
    pub(crate) fn members(&self) -> &BTreeSet<NodeId> {
        &self.members
    }

    /// A member, as the newest of them knows it.
    pub(crate) fn member(&self, id: NodeId) -> Option<&Member> {
        self.layouts.iter().rev().find_map(|(_, layout)| layout.member(id))
    }

    /// Whether a node is said to be lost for good.
    pub(crate) fn is_lost(&self, node: NodeId) -> bool {
        self.lost.contains(&node)
    }

    /// Everyone whose word counts where everyone's does.
    pub(crate) fn voices(&self) -> &BTreeSet<NodeId> {
        &self.voices
    }
}

/// A decree as one number that grows with it: 16 bits of lineage, 48 of version.
pub(crate) fn fence_of(decree: Decree) -> u64 {
    decree.lineage << 48 | decree.version & ((1 << 48) - 1)
}
