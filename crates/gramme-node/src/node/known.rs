//! What a shard knows: settings, layout, its replicas and what their silence proves, its status.

use super::Node;
use crate::admission::Admission;
use crate::env::{Env, Trust};
use crate::exchange;
use crate::live::Live;
use crate::reclaim;
use crate::replica::Replica;
use crate::request::{Health, NodeKnown, PeerStatus, Status};
use crate::trees::repair;
use gramme_core::bucket::{BucketSettings, Mode};
use gramme_core::context::Secret;
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Key, Layout, NodeId, PartitionId, ring};
use gramme_wire::{Life, Standing};
use std::rc::Rc;
use std::sync::Arc;

impl<E: Env> Node<E> {
    /// How a bucket's siblings are shown.
    pub fn mode_of(&self, bucket: &str) -> Mode {
        self.0.buckets.borrow().settings(bucket).mode
    }

    /// The settings in force for a bucket.
    pub fn settings(&self, bucket: &str) -> BucketSettings {
        self.0.buckets.borrow().settings(bucket)
    }

    /// The settings of every bucket that has any of its own, in order of name.
    pub fn all_settings(&self) -> Vec<(String, BucketSettings)> {
        let buckets = self.0.buckets.borrow();
        buckets.facts().map(|(name, fact)| (name.to_string(), fact.settings.clone())).collect()
    }

    /// The cluster's secret.
    pub fn secret(&self) -> &Secret {
        &self.0.options.secret
    }

    /// The layout that reads go by.
    pub fn layout(&self) -> Arc<Layout> {
        self.live().reads().clone()
    }

    /// The layouts that reads and writes go by.
    pub(crate) fn live(&self) -> Rc<Live> {
        self.0.live.borrow().clone()
    }

    /// What this shard knows of itself and its peers.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let now = inner.env.now();
        let detector = inner.detector.borrow();
        let peer = |id: NodeId| {
            let (p50_us, p99_us) = detector.latency_us(id);
            let connected = detector.is_connected(id);
            let health = detector.health(id, now);
            let degraded = detector.is_degraded(id);
            PeerStatus { node: id, connected, health, degraded, p50_us, p99_us }
        };
        Status {
            node: inner.options.id,
            store: inner.options.store,
            standing: self.standing(),
            trust: inner.trust.get(),
            refilling: exchange::refilling(self),
            filling: inner.homes.borrow().values().filter(|replica| replica.is_new()).count(),
            behind: exchange::behind(self),
            layout: self.live().reads().hash(),
            peers: self.peers().map(peer).collect(),
            homes: inner.homes.borrow().len(),
            hints: inner.hints.status(),
            in_flight: inner.in_flight.get(),
            broken: inner.store.broken().map(|cause| cause.to_string()),
            disk_stalls: inner.disk_stalls.get(),
            admission: inner.admission.status(),
            full: inner.store.is_full(),
            damaged: inner.store.damaged_count(),
            damaged_partitions: inner.store.damaged_partitions(),
            tombstones: inner.homes.borrow().values().map(|replica| replica.reclaim().tombstones()).sum(),
            reclaim_blocked_by: reclaim::all_blocked_by(self),
            holes: inner.closing.holes(),
            audits: repair::audits(self),
        }
    }

    /// What every node is known to have said of itself, in order of id; nothing but on shard 0.
    pub fn nodes_known(&self) -> Vec<NodeKnown> {
        self.0.cluster.nodes(self.0.env.wall_ms())
    }

    /// The home replica of a partition, if this node is a home of it by any live layout and this shard owns it.
    pub(crate) fn home(&self, partition: PartitionId) -> Option<Rc<Replica<E>>> {
        self.0.homes.borrow().get(&partition).cloned()
    }

    /// All home replicas of this shard, in order of partition.
    pub(crate) fn homes(&self) -> Vec<(PartitionId, Rc<Replica<E>>)> {
        let homes = self.0.homes.borrow();
        homes.iter().map(|(&partition, replica)| (partition, replica.clone())).collect()
    }

    /// The homes of a partition by any live layout, but this node and those that are lost for good.
    pub(crate) fn co_homes(&self, partition: PartitionId) -> Vec<NodeId> {
        let mut homes = self.live().homes(partition);
        homes.retain(|&home| home != self.id());
        homes
    }

    /// What the silence of a home replica here proves.
    pub(crate) fn standing_of(&self, replica: &Replica<E>) -> Standing {
        let is_checked = self.is_checked(replica);
        if is_checked { replica.life(self.0.trust.get().standing()).standing } else { Standing::Unproven }
    }

    /// Whether the co-homes of a home replica here have had their word since the start.
    pub(crate) fn is_checked(&self, replica: &Replica<E>) -> bool {
        let connected = |home| self.0.detector.borrow().is_connected(home);
        replica.is_checked(|| self.co_homes(replica.partition), connected)
    }

    /// Who speaks when a home replica here reports what it has seen.
    pub(crate) fn life_of(&self, replica: &Replica<E>) -> Life {
        replica.life(self.0.trust.get().standing())
    }

    /// What this shard's silence proves: as much as that of each of its home replicas.
    pub(super) fn standing(&self) -> Standing {
        let is_continuous = |replica: &Rc<Replica<E>>| self.standing_of(replica) == Standing::Continuous;
        let all = self.0.homes.borrow().values().all(is_continuous);
        if all && self.0.trust.get() != Trust::Proving { Standing::Continuous } else { Standing::Unproven }
    }

    /// The frontier of a home replica here that others may rely on: none while it proves nothing.
    pub(crate) fn vouched(&self, replica: &Replica<E>) -> Frontier {
        let proves = self.standing_of(replica) == Standing::Continuous;
        if proves { replica.frontier() } else { Frontier::none() }
    }

    /// Who paces this shard's background work.
    pub fn admission(&self) -> &Rc<Admission<E>> {
        &self.0.admission
    }

    /// The partition of a key.
    pub(crate) fn partition_of(&self, key: &Key) -> PartitionId {
        ring::partition_of(key, self.0.options.layout.partitions())
    }

    /// Every other member by any live layout that is not lost, and removed nodes that still hand over what they have.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + use<E> {
        let me = self.id();
        self.live().voices().clone().into_iter().filter(move |&id| id != me)
    }

    /// Whether most of the other members that are read from are connected: they take this node for one of them.
    pub(super) fn sees_most(&self) -> bool {
        let live = self.live();
        let others = live.reads().members().iter().map(|member| member.id).filter(|&id| id != self.id());
        let (seen, unseen): (Vec<_>, Vec<_>) =
            others.partition(|&id| self.0.detector.borrow().is_connected(id));
        seen.len() > unseen.len()
    }

    /// This node.
    pub(crate) fn id(&self) -> NodeId {
        self.0.options.id
    }

    /// What people call a node.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        self.live().member(id).map_or_else(|| id.to_string(), |member| member.name.clone())
    }

    /// What the time is by this node's hybrid clock, in milliseconds since 1970: when values expire.
    pub(crate) fn reading_ms(&self) -> u64 {
        let wall_ms = self.0.env.wall_ms();
        if planted::on(Bug::ExpiryByWall) {
            return wall_ms + self.0.env.random() % 20_000;
        }
        self.0.hlc.borrow().reading(wall_ms)
    }

    /// The local opinion of a node; of itself it thinks well.
    pub(crate) fn health(&self, node: NodeId) -> Health {
        if node == self.id() { Health::Up } else { self.0.detector.borrow().health(node, self.0.env.now()) }
    }
}
