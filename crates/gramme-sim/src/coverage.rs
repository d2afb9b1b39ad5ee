//! What a batch of runs must have reached to prove anything: every probe by name, with those without which a
//! green batch is vacuous (correctness.md 10.6).

use crate::knobs::Reclaim;
use gramme_node::{Operation, Probe};
use std::collections::BTreeMap;

/// The name under which a probe is counted.
pub fn name_of(probe: &Probe) -> &'static str {
    match probe {
        Probe::Coordinated { operation: Operation::Get, ok: true, .. } => "get answered",
        Probe::Coordinated { operation: Operation::Get, ok: false, .. } => "get failed",
        Probe::Coordinated { operation: Operation::Put, ok: true, .. } => "put answered",
        Probe::Coordinated { operation: Operation::Put, ok: false, .. } => "put failed",
        Probe::Coordinated { operation: Operation::List, ok: true, .. } => "list answered",
        Probe::Coordinated { operation: Operation::List, ok: false, .. } => "list failed",
        Probe::LayoutTaken => "layout taken",
        Probe::LayoutContradicted => "layout contradicted",
        Probe::Voted => "voted",
        Probe::RingInstalled => "ring installed",
        Probe::HomeCame => "home came",
        Probe::HomeLeft => "home left",
        Probe::LeftWiped => "left wiped",
        Probe::WriteFenced => "write fenced",
        Probe::Forwarded => "forwarded",
        Probe::ForwardedAgain => "forwarded again",
        Probe::HintAsked => "hint asked",
        Probe::HintStored => "hint stored",
        Probe::HintsFull => "hints full",
        Probe::HintsOffered => "hints offered",
        Probe::HintStoreDestroyed { .. } => "hint store destroyed",
        Probe::HintsAlarm(_) => "hints alarm",
        Probe::FallbackCoordinated => "fallback coordinated",
        Probe::ReadRepair => "read repair",
        Probe::RepairSpared => "repair spared",
        Probe::Hedged => "hedged",
        Probe::LateAnswer => "late answer",
        Probe::SiblingsJoined => "siblings joined",
        Probe::SiblingsMany => "siblings many",
        Probe::RetryAdopted => "retry adopted",
        Probe::Tripwire => "amnesia",
        Probe::Corrupt => "corrupt",
        Probe::StampAhead => "stamp ahead",
        Probe::Thawed => "thawed",
        Probe::Shed => "shed",
        Probe::StoreBroken => "store broken",
        Probe::SessionWaited => "session waited",
        Probe::PeerSilent => "peer silent",
        Probe::PeerDegraded => "peer degraded",
        Probe::PeerRestored => "peer restored",
        Probe::DiskStalled => "disk stalled",
        Probe::PartitionScanned => "partition scanned",
        Probe::TreeMismatch => "tree mismatch",
        Probe::Healed => "healed",
        Probe::Buried => "buried",
        Probe::AuditVerified => "audit verified",
        Probe::AuditDiffered => "audit differed",
        Probe::AuditRepaired => "audit repaired",
        Probe::AuditSkipped => "audit skipped",
        Probe::AuditConflict => "audit conflict",
        Probe::AuditCorrupt => "audit corrupt",
        Probe::Buffered { .. } => "buffered",
        Probe::Slice { .. } => "slice",
        Probe::Budget(_) => "budget",
        Probe::DiskFull => "disk full",
        Probe::DiskHasRoom => "disk has room",
        Probe::Damaged => "row damaged",
        Probe::Mended => "row mended",
        Probe::PageDamaged => "page damaged",
        Probe::OnlyCopyDamaged => "only copy damaged",
        Probe::Reclaimed => "reclaimed",
        Probe::Stripped => "clock stripped",
        Probe::StaleIgnored => "stale ignored",
        Probe::IncarnationClosed => "incarnation closed",
        Probe::ClosingWaits => "closing waits",
        Probe::VoidRefused => "void refused",
        Probe::VoidDropped => "void dropped",
        Probe::FrontierCrowded => "frontier crowded",
        Probe::Conflict => "conflict",
        Probe::DigestsSent => "digests sent",
        Probe::NodeFactTaken => "node fact taken",
        Probe::NodeFactRefused => "node fact refused",
        Probe::NodeFactOutdone => "node fact outdone",
        Probe::PullEnded { whole: true } => "pull whole",
        Probe::PullEnded { whole: false } => "pull broken",
        Probe::PullServedByKeys => "pull by keys",
        Probe::PullServedByScan => "pull by scan",
        Probe::Mistrusted => "mistrusted",
        Probe::Refilled => "refilled",
        Probe::Purged => "purged",
    }
}

/// What a batch of at least [`BATCH`] runs must have seen.
pub const MUST_BE_SEEN: [&str; 49] = [
    "get answered",
    "put answered",
    "list answered",
    "forwarded",
    "forwarded again",
    "hint asked",
    "hint stored",
    "read repair",
    "late answer",
    "siblings joined",
    "retry adopted",
    "stamp ahead",
    "thawed",
    "store broken",
    "session waited",
    "both shards",
    "wiped",
    "power lost",
    "drained",
    "disk full",
    "disk has room",
    "disk stalled",
    "disk read-only",
    "rotted",
    "row mended",
    "lost in silence",
    "lied",
    "hint store destroyed",
    "pull by keys",
    "pull broken",
    "refilled",
    "fallback coordinated",
    "pull whole",
    "reclaimed",
    "clock stripped",
    "audit verified",
    "audit differed",
    "audit repaired",
    "condition refused",
    "condition held",
    "incarnation closed",
    "node fact taken",
    "voted",
    "layout taken",
    "ring changed",
    "ring aborted",
    "home came",
    "home left",
    "left wiped",
];

/// What a batch of at least [`LARGE_BATCH`] runs must have seen as well.
pub const SELDOM_SEEN: [&str; 1] = ["stale ignored"];

/// What cannot be seen where every run lets go of tombstones: no disk loses in silence then.
pub const OF_SILENT_LOSS: [&str; 2] = ["lost in silence", "lied"];

/// What cannot be seen where no run lets go of tombstones.
pub const OF_RECLAIM: [&str; 4] = ["reclaimed", "clock stripped", "stale ignored", "incarnation closed"];

/// The size of batch from which on [`missing`] has something to say.
pub const BATCH: u64 = 500;
/// ... and of [`SELDOM_SEEN`].
pub const LARGE_BATCH: u64 = 3_000;

/// What a batch did not reach although it was large enough.
pub fn missing(runs: u64, counts: &BTreeMap<&'static str, u64>, reclaim: Reclaim) -> Vec<&'static str> {
    let cannot_be: &[&str] = match reclaim {
        Reclaim::On => &OF_SILENT_LOSS,
        Reclaim::Off => &OF_RECLAIM,
        Reclaim::Drawn => &[],
    };
    let usual = MUST_BE_SEEN.into_iter().filter(|_| runs >= BATCH);
    let seldom = SELDOM_SEEN.into_iter().filter(|_| runs >= LARGE_BATCH);
    let unseen = |what: &&str| !counts.contains_key(what) && !cannot_be.contains(what);
    usual.chain(seldom).filter(unseen).collect()
}
