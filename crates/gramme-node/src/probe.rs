//! What flows report of themselves, as a closed list: the server counts it into metrics, the simulator into
//! coverage that a run must reach to be valid.

use crate::admission::Work;
use std::time::Duration;

/// One thing worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A get, put or list was coordinated here; how long it took, and whether it was answered as asked.
    Coordinated {
        /// Which.
        operation: Operation,
        /// From its start to its answer.
        took: Duration,
        /// Whether the answer was the one asked for.
        ok: bool,
    },
    /// A put was handed to another coordinator.
    Forwarded,
    /// The first candidate did not answer a forwarded put; a second one was asked.
    ForwardedAgain,
    /// A fallback was asked to keep a hint.
    HintAsked,
    /// A hint was stored here.
    HintStored,
    /// A hint was refused: as many bytes are kept for others as may be.
    HintsFull,
    /// So many per cent of the bytes that may be kept for others are; said at the alarm, and when they are full.
    HintsAlarm(u64),
    /// A hint store was offered to a home.
    HintsOffered,
    /// Every home has seen what was in a hint store: it was destroyed, with so many hints.
    HintStoreDestroyed {
        /// Keys of which a version was kept.
        hints: u64,
    },
    /// No home was within reach: this fallback coordinates a put.
    FallbackCoordinated,
    /// A replica that a read found stale was sent the merged record.
    ReadRepair,
    /// A repair was not made: its key is being repaired already, or too many are.
    RepairSpared,
    /// A read asked one replica more than it needed, because one was slow.
    Hedged,
    /// A replica answered after its request had been answered.
    LateAnswer,
    /// Two concurrent records met and both left siblings.
    SiblingsJoined,
    /// A key passed the soft limit of siblings.
    SiblingsMany,
    /// A retry was recognised and adopted its first attempt's dot.
    RetryAdopted,
    /// A peer showed dots of my live incarnation that I do not remember; I have a new one.
    Tripwire,
    /// A stored or received record failed its checksum.
    Corrupt,
    /// A remote stamp was too far ahead and was not followed.
    StampAhead,
    /// The loop had been frozen; writes are refused for a moment.
    Thawed,
    /// A request was refused before work was started; why.
    Shed,
    /// The disk refused a batch: this store takes no further writes.
    StoreBroken,
    /// A get with a `min` context had to ask further replicas.
    SessionWaited,
    /// A peer has gone silent: a question is open and nothing was heard since.
    PeerSilent,
    /// A peer is much slower than its neighbours, or fails where they do not: it is asked last.
    PeerDegraded,
    /// A degraded peer is well again.
    PeerRestored,
    /// This node's own syncs take over ten times as long as usual.
    DiskStalled,
    /// A peer was told in short what this shard has seen.
    DigestsSent,
    /// What a node says of itself was news, and is durable here.
    NodeFactTaken,
    /// What a node says of itself, or what nobody may say yet, was refused: it cannot be read, or is stamped far ahead.
    NodeFactRefused,
    /// Something later was known of this node than what it says: it said its own again.
    NodeFactOutdone,
    /// A layout was news, its proof sound, and it is durable here.
    LayoutTaken,
    /// Two layouts are known under one number: an alarm.
    LayoutContradicted,
    /// This member has answered whoever commits a layout.
    Voted,
    /// Every shard was told to work by other layouts.
    RingInstalled,
    /// This shard is a home of one partition more.
    HomeCame,
    /// ... and of one less; what it keeps of it is handed over.
    HomeLeft,
    /// What a former home kept was wiped: every home has all of it.
    LeftWiped,
    /// A replica refused a client's write by layouts that it no longer goes by; it is asked again.
    WriteFenced,
    /// A pull session that this shard asked for has ended; whether it was whole.
    PullEnded {
        /// Whether everything arrived.
        whole: bool,
    },
    /// A pull session was served from the keys of recent dots.
    PullServedByKeys,
    /// A pull session was served by reading the whole partition.
    PullServedByScan,
    /// A home replica no longer trusts what it holds and begins a new life.
    Mistrusted,
    /// A home replica has pulled everything from every other home, and its silence counts again.
    Refilled,
    /// A replica that is being refilled dropped what a member had reclaimed.
    Purged,
    /// A home partition was read through as a whole.
    PartitionScanned,
    /// A scan made another tree than the one that writes had kept: one of the two was wrong.
    TreeMismatch,
    /// A value that failed its checksum here was replaced by a copy of the same write that verifies.
    Healed,
    /// An expired value was replaced by a tombstone.
    Buried,
    /// A partition was compared with another home's, and was the same or was made so.
    AuditVerified,
    /// An audit found a partition to be different at the second look too.
    AuditDiffered,
    /// An audit made one key the same on both sides.
    AuditRepaired,
    /// An audit could not read, verify or send one key; it went on with the next.
    AuditSkipped,
    /// Homes whose frontiers are equal hold a key differently below them: one has lost or regained it in silence.
    /// The live value is kept.
    AuditConflict,
    /// Two homes hold different values under one dot.
    AuditCorrupt,
    /// What was acknowledged from memory is durable now, so long after it was appended.
    Buffered {
        /// How long a crash could have taken it back.
        window: Duration,
    },
    /// Background work was given a slice.
    Slice {
        /// What it is for.
        work: Work,
        /// How large.
        bytes: u64,
    },
    /// The background budget was steered; bytes per second.
    Budget(u64),
    /// The disk has no room: this store refuses writes until it has.
    DiskFull,
    /// It has room again.
    DiskHasRoom,
    /// Stored bytes of a row could not be read: the row is refused until it is mended from its other homes.
    Damaged,
    /// The same where there is no other home: what the row held is gone, once this is the first such row since the
    /// start; the next write of its key replaces it.
    OnlyCopyDamaged,
    /// A damaged row was overwritten: with what all its other homes hold or, if there are none, by a client.
    Mended,
    /// Stored bytes of a home partition could not be read in a scan: rows are missing from it that nobody can name.
    PageDamaged,
    /// A record of nothing but tombstones was deleted: everyone had seen all of it.
    Reclaimed,
    /// A clock that everyone had seen all of was cut down to its siblings.
    Stripped,
    /// A late state was ignored: what it shows had been overwritten or reclaimed.
    StaleIgnored,
    /// This home has led the close of an incarnation that had ended with a hole.
    IncarnationClosed,
    /// An incarnation could not be closed: not every node has said that it may be.
    ClosingWaits,
    /// A state was refused because it bears a dot of an ended incarnation that lies outside its set.
    VoidRefused,
    /// A record that bears such a dot was given up here.
    VoidDropped,
    /// A partition's frontier names more than half of the lives that it may.
    FrontierCrowded,
    /// A home lacks a value that another shows, and knows it to have been everywhere: one of them has lost it
    /// without notice.
    Conflict,
}

/// What a coordinator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A get.
    Get,
    /// A put or delete.
    Put,
    /// One page of a list.
    List,
}
