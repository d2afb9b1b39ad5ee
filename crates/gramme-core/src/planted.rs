//! Deliberate faults. With the feature `planted` one of them can be switched on for the whole process,
//! to prove that the simulator and the model walk would find it; without the feature [`on`] is the
//! constant `false` and every fault is compiled away.

/// One deliberate fault, named after what it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// Dots come from a counter kept in the key's own clock, as in classic vector clocks.
    PerKeyCounter = 1,
    /// A restart keeps the incarnation of the life before.
    IncarnationReused,
    /// A coordinator without a local record claims (0, n] instead of (n-1, n].
    LowZero,
    /// Dots of my live incarnation that I do not remember raise no alarm.
    NoTripwire,
    /// A put answers with the record's clock instead of the given context plus its own dot.
    AnswerRecordClock,
    /// A put is acknowledged before the coordinator's batch is durable.
    AckBeforeSync,
    /// A replica acknowledges before its batch is durable.
    ReplicaAckBeforeSync,
    /// Two answers of one node count twice.
    DuplicateCounted,
    /// A read answers after one replica, whatever R says.
    ReadOne,
    /// A replica overwrites with what arrives instead of joining.
    OverwriteOnMerge,
    /// A put drops every sibling it finds, whatever its context covers.
    PutDropsAll,
    /// A context-free put in a `siblings` bucket supersedes what the coordinator sees.
    BlindSupersedes,
    /// Read repair never runs.
    NoReadRepair,
    /// A read error counts as "not found".
    ErrorIsNotFound,
    /// A quarantined replica's silence counts as an answer.
    QuarantineAnswers,
    /// A fallback keeps the record among home data instead of its hint store.
    HintAmongHomes,
    /// A retry mints a new dot and its twin is never collapsed.
    RetryForgotten,
    /// A coordinator that was frozen takes the writes that were waiting in its sockets.
    FrozenWrites,
    /// A late state is joined whatever the frontier says of it: no stamp rule.
    StaleTaken,
    /// A read joins its answers without asking what their senders' frontiers say: no read fill.
    ReadNotFilled,
    /// A replica reclaims below its own base, whatever the other homes have seen.
    ReclaimOnOwnBase,
    /// A tombstone goes once its own dot is below the frontier, whatever its clock still covers.
    ReclaimOnDotOnly,
    /// A stamp is compared for the incarnation of the dot alone.
    StampPerDot,
    /// What lies below the frontier and is lacking is stale whoever sends it.
    StampIgnored,
    /// What was seen and is lacking is stale, instead of what lies below the frontier.
    StaleBySeen,
    /// A refused sibling leaves its dot in the clock that it came with.
    StaleDotsKept,
    /// A broken pull session joins its source's seen clock all the same.
    SessionJoinedEarly,
    /// A replica whose disk was swapped for a backup goes on as if nothing had happened.
    RestoredTrusted,
    /// A refilling replica keeps siblings that its source has reclaimed.
    RefillNotPurged,
    /// A dot of a closed incarnation outside its final set is taken all the same.
    CloseNotFrozen,
    /// An incarnation is closed without asking those who keep hints.
    CloseWithoutHints,
    /// A base is reported before it is durable.
    BaseBeforeSync,
    /// A drained hint store keeps its seen clock and its incarnation.
    HintClockKept,
    /// Of homes with equal frontiers that disagree the majority wins over the live value.
    ConflictByVote,
    /// A state with a void dot loses that sibling instead of being refused whole.
    VoidSiblingCut,
    /// A batch that a full disk refused counts as durable.
    FullIsDone,
    /// A failed commit counts as durable.
    CommitErrorSwallowed,
    /// A row that cannot be read is overwritten by what arrives, without asking the other homes.
    MendAlone,
    /// A peer that does not answer is never suspected.
    SilenceIgnored,
    /// A replica that was refilled from one other home counts as whole.
    RefilledByOne,
    /// A read repairs homes that hold all that was found.
    RepairStorm,
    /// A hint store is destroyed once one home has seen what is in it.
    HintDroppedAfterOne,
    /// A fallback that coordinates mints its dots from the clock that it finds stored.
    FallbackMintsFromClock,
    /// A second hint for a key replaces the first instead of joining it.
    HintReplacesHint,
    /// A home that answered "overloaded" gets a hint although enough nodes have the put without it.
    HintForOverloaded,
    /// A hash tree keeps the item of a key that is gone.
    TreeForgetsRemovals,
    /// An audit fetches at once what differs at the first look.
    AuditComparesOnce,
    /// What an audit fetches is stored whether its values verify or not.
    AuditSpreadsCorrupt,
    /// Values expire by the wall clock of whoever looks, give or take some seconds.
    ExpiryByWall,
    /// A fallback acknowledges a hint from memory.
    BufferedHint,
    /// A conditional write is held against the local copy alone.
    ConditionLocal,
    /// An incarnation is closed although the last home has not frozen it.
    CloseWithoutLastHome,
    /// An acceptor hears ballots lower than the one that it has promised.
    PromiseForgotten,
    /// A proposer asks for its own proposal whatever the members have accepted.
    AcceptedIgnored,
    /// Of what the members have accepted, a proposer takes up the proposal of the lowest ballot.
    LowestAccepted,
    /// A proposer counts a majority of those who answered, not of the members.
    MajorityOfAnswers,
    /// An acceptor answers for a decree that it knows to be settled.
    SettledReopened,
    /// A proposer's ballots are those of the one before it at the same node.
    BallotReused,
    /// An acceptor answers before its state is durable.
    AcceptorAnswersBeforeSync,
    /// A home that is being refilled takes from others what is late for the home that refills it.
    LateWhileFilling,
    /// A replica takes clients' writes that go by layouts older than it has adopted.
    NoFence,
    /// A home that has come with a change of the ring counts as whole at once.
    NewHomeTrusted,
    /// A former home wipes what it keeps without the homes' word.
    LeftDropped,
    /// A node reads by a new layout before everyone has filled it.
    ReadsSwitchEarly,
    /// A node writes by the newest layout alone while others still read by an older one.
    WritesNewestOnly,
}

/// Every planted fault, for the budget tables of the simulator.
pub const ALL: &[Bug] = &[
    Bug::PerKeyCounter,
    Bug::IncarnationReused,
    Bug::LowZero,
    Bug::NoTripwire,
    Bug::AnswerRecordClock,
    Bug::AckBeforeSync,
    Bug::ReplicaAckBeforeSync,
    Bug::DuplicateCounted,
    Bug::ReadOne,
    Bug::OverwriteOnMerge,
    Bug::PutDropsAll,
    Bug::BlindSupersedes,
    Bug::NoReadRepair,
    Bug::ErrorIsNotFound,
    Bug::QuarantineAnswers,
    Bug::HintAmongHomes,
    Bug::RetryForgotten,
    Bug::FrozenWrites,
    Bug::StaleTaken,
    Bug::ReadNotFilled,
    Bug::ReclaimOnOwnBase,
    Bug::ReclaimOnDotOnly,
    Bug::StampPerDot,
    Bug::StampIgnored,
    Bug::StaleBySeen,
    Bug::StaleDotsKept,
    Bug::SessionJoinedEarly,
    Bug::RestoredTrusted,
    Bug::RefillNotPurged,
    Bug::CloseNotFrozen,
    Bug::CloseWithoutHints,
    Bug::BaseBeforeSync,
    Bug::HintClockKept,
    Bug::ConflictByVote,
    Bug::VoidSiblingCut,
    Bug::FullIsDone,
    Bug::CommitErrorSwallowed,
    Bug::MendAlone,
    Bug::SilenceIgnored,
    Bug::RefilledByOne,
    Bug::RepairStorm,
    Bug::HintDroppedAfterOne,
    Bug::FallbackMintsFromClock,
    Bug::HintReplacesHint,
    Bug::HintForOverloaded,
    Bug::TreeForgetsRemovals,
    Bug::AuditComparesOnce,
    Bug::AuditSpreadsCorrupt,
    Bug::ExpiryByWall,
    Bug::BufferedHint,
    Bug::ConditionLocal,
    Bug::CloseWithoutLastHome,
    Bug::PromiseForgotten,
    Bug::AcceptedIgnored,
    Bug::LowestAccepted,
    Bug::MajorityOfAnswers,
    Bug::SettledReopened,
    Bug::BallotReused,
    Bug::AcceptorAnswersBeforeSync,
    Bug::LateWhileFilling,
    Bug::NoFence,
    Bug::NewHomeTrusted,
    Bug::LeftDropped,
    Bug::ReadsSwitchEarly,
    Bug::WritesNewestOnly,
];

#[cfg(feature = "planted")]
static ACTIVE: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Switches one fault on, or all off, for the whole process.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    ACTIVE.store(bug.map_or(0, |bug| bug as u8), core::sync::atomic::Ordering::Relaxed);
}

/// Whether this fault is planted.
#[cfg(feature = "planted")]
#[inline]
pub fn on(bug: Bug) -> bool {
    ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this fault is planted: never, without the feature.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn on(_bug: Bug) -> bool {
    false
}
