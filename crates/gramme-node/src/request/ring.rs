//! What administrators want of the ring, and how a node shows it.

use gramme_core::change::{Progress, Step};
use gramme_core::gossip::NodeFact;
use gramme_core::layout::plan::Plan;
use gramme_core::paxos::Decree;
use gramme_core::{LayoutHash, NodeId, PartitionId};
use std::collections::BTreeSet;
use std::time::Duration;

/// A change of the ring that somebody wants. Nodes are named by name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A node that asks to join becomes a member.
    Join {
        /// Who.
        node: String,
        /// Its share, relative to the others'; 1 if not said.
        weight: Option<u32>,
        /// Its zone; what it says itself if not said.
        zone: Option<String>,
    },
    /// A member hands over what it has, and goes.
    Leave {
        /// Who.
        node: String,
        /// It is lost for good: nobody waits for it, and what only it had is given up.
        lost: bool,
    },
    /// A node that asks to join takes a member's place.
    Replace {
        /// Who goes; lost for good if it is down.
        old: String,
        /// Who comes.
        new: String,
        /// Also if the member is up: it then hands over what it has.
        force: bool,
    },
    /// A member's share.
    Weight {
        /// Whose.
        node: String,
        /// At least 1.
        weight: u32,
    },
    /// A member's zone.
    Zone {
        /// Whose.
        node: String,
        /// What it fails together with.
        zone: String,
    },
}

/// One layout of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// Its number.
    pub decree: Decree,
    /// Its hash.
    pub hash: LayoutHash,
    /// How many members it has.
    pub members: usize,
    /// Names of those who are members by it and were not before.
    pub came: Vec<String>,
    /// Names of those who were members before and are not by it.
    pub went: Vec<String>,
    /// Slots that another home fills than before.
    pub moved: usize,
    /// The version that it returns to; 0 if none.
    pub back_to: u64,
}

/// One staged change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedItem {
    /// Whom it is about.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// In words, such as `leaves` or `weight 2`.
    pub what: String,
    /// When it was staged, in milliseconds since 1970.
    pub at_ms: u64,
    /// At which node.
    pub by: String,
}

/// The ring as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingStatus {
    /// The layout that reads go by here.
    pub reads: (Decree, LayoutHash),
    /// The one that is being gone to; the same if nothing changes.
    pub target: (Decree, LayoutHash),
    /// The last that is known to be committed.
    pub head: (Decree, LayoutHash),
    /// Layouts that are committed and not begun.
    pub waiting: usize,
    /// What this node does next on its way there.
    pub step: Step,
    /// Those whose word it awaits before that.
    pub awaited: BTreeSet<NodeId>,
    /// How far every node has come that counts, this one among them, in order of id.
    pub progress: Vec<(NodeId, Progress)>,
    /// What is staged and not committed, in order of node.
    pub staged: Vec<StagedItem>,
    /// Nodes that ask to join.
    pub asking: Vec<NodeKnown>,
    /// Removed nodes that still hand over what they have.
    pub leaving: Vec<NodeId>,
    /// Whether this node is a member by the last layout.
    pub is_member: bool,
    /// Whether this node was removed, and has nothing left to hand over; as its peers say, if its own directory knows
    /// nothing of it.
    pub is_gone: bool,
    /// A number that two layouts bear: an alarm.
    pub contradiction: Option<Decree>,
    /// The history, oldest first.
    pub history: Vec<HistoryItem>,
}

/// What committing would do.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The number of the layout that it follows.
    pub after: Decree,
    /// The fewest live homes that any partition keeps from one version to the next, as this node sees it.
    pub live_homes_kept: usize,
    /// In how many zones the partition is that is in the fewest, before and after.
    pub zones: (usize, usize),
}

/// What was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The layouts, in order.
    pub layouts: Vec<(Decree, LayoutHash)>,
}

/// One partition that comes to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Which.
    pub partition: PartitionId,
    /// Homes from which everything was pulled.
    pub done: Vec<NodeId>,
    /// Homes from which something is still to be pulled.
    pub left: Vec<NodeId>,
    /// Records that were pulled in this process life.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One partition that this node is no home of any more, and still keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub partition: PartitionId,
    /// Homes that are not known to have all of it.
    pub left: Vec<NodeId>,
}

/// What a shard fetches and hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransfersStatus {
    /// In order of partition.
    pub incoming: Vec<Incoming>,
    /// Partitions that had to come for the layout that is being gone to, and are there.
    pub arrived: usize,
    /// In order of partition.
    pub outgoing: Vec<Outgoing>,
    /// Whether they are paused here.
    pub paused: bool,
    /// Bytes that came in this process life.
    pub bytes: u64,
    /// Bytes per second of late.
    pub bytes_per_s: u64,
}

/// What a node is known to have said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKnown {
    /// Which.
    pub node: NodeId,
    /// What.
    pub fact: NodeFact,
    /// How long ago it said so, if its clock and this node's are right: at its start, as a rule.
    pub age: Duration,
}
