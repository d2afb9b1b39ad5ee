//! What a person may ask about repair, and start by hand: how each home partition compares with its other homes, to
//! compare everything now, and to reread a bucket or everything.
//!
//! Work that was started goes on by itself, at the pace of all background work; the status says how far it is.

use crate::admission::Work;
use crate::env::{Env, Mono};
use crate::exchange;
use crate::node::Node;
use crate::rows::{self, KIND_DATA};
use crate::trees::scan;
use crate::trees::watched::Audited;
use gramme_core::{Key, NodeId, PartitionId};
use gramme_wire::{Failure, Reason, Standing};
use std::time::Duration;

/// How this shard's home partitions compare with their other homes.
#[derive(Clone, Debug)]
pub struct RepairStatus {
    /// In order.
    pub partitions: Vec<PartitionRepair>,
    /// Partitions that were found different and wait for their audit, once for each peer.
    pub audits_waiting: usize,
    /// Rows that cannot be read and wait to be mended.
    pub damaged_rows: usize,
    /// Keys of some of them.
    pub damaged_keys: Vec<Key>,
    /// Milliseconds since somebody last asked to compare everything at once.
    pub asked_ms: Option<u64>,
    /// The verification that runs, or ran last.
    pub verify: Option<Verify>,
}

/// One home partition.
#[derive(Clone, Debug)]
pub struct PartitionRepair {
    /// Which.
    pub partition: PartitionId,
    /// `Unproven` while it is refilled.
    pub standing: Standing,
    /// Keys in its hash tree; `None` until that has been built.
    pub keys: Option<u64>,
    /// Milliseconds since it was last read as a whole in this life.
    pub scanned_ms: Option<u64>,
    /// Rows that could not be read then, or whose values failed their checksums.
    pub corrupt: u64,
    /// Its other homes.
    pub peers: Vec<PeerRepair>,
}

/// How a partition compares with another home's.
#[derive(Clone, Copy, Debug)]
pub struct PeerRepair {
    /// Who.
    pub node: NodeId,
    /// Milliseconds since an audit last found both the same, or made them so.
    pub verified_ms: Option<u64>,
    /// For how many milliseconds audits have left a difference.
    pub differs_ms: Option<u64>,
    /// Writes that the peer has seen and this node has not, when they were last compared.
    pub unseen: u64,
    /// For how many milliseconds some of them have been missing.
    pub unseen_ms: Option<u64>,
}

/// How old the audits of this shard are, over its home partitions and the other homes of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditsStatus {
    /// Milliseconds since the oldest of the last ones that found both the same; those that were never so count from
    /// the start of the process. 0 if there is nothing to compare.
    pub oldest_ms: u64,
    /// How many were never found the same since then.
    pub missing: usize,
    /// How many the last audit left different.
    pub different: usize,
    /// What is to lie between two audits of the same, in milliseconds.
    pub interval_ms: u64,
}

/// How far a verification is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Of this bucket; `None` is everything.
    pub bucket: Option<String>,
    /// Whether it goes on.
    pub running: bool,
    /// Partitions that have been read.
    pub done: usize,
    /// Partitions to be read.
    pub of: usize,
    /// Keys that were read.
    pub keys: u64,
    /// Rows that cannot be read, or whose values fail their checksums.
    pub corrupt: u64,
    /// Partitions whose hash tree was another than it should have been.
    pub mismatches: u64,
    /// Partitions that could not be read through.
    pub failed: usize,
}

/// What this shard knows.
pub(crate) fn status<E: Env>(node: &Node<E>) -> RepairStatus {
    let trees = &node.0.trees;
    let now = node.0.env.now();
    let lags = exchange::behind(node);
    let ms = |at: Mono| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
    let of = |partition: PartitionId| {
        let replica = node.home(partition)?;
        let peer = |peer: NodeId| {
            let audited = trees.with(partition, |watched| watched.audits.get(&peer).copied()).flatten();
            let Audited { verified_at, differs_since } = audited.unwrap_or_default();
            let lag = lags.iter().find(|lag| (lag.partition, lag.peer) == (partition, peer));
            PeerRepair {
                node: peer,
                verified_ms: verified_at.map(ms),
                differs_ms: differs_since.map(ms),
                unseen: lag.map_or(0, |lag| lag.unseen),
                unseen_ms: lag.map(|lag| u64::try_from(lag.known_for.as_millis()).unwrap_or(u64::MAX)),
            }
        };
        let (scanned_at, corrupt) =
            trees.with(partition, |watched| (watched.scanned_at, watched.corrupt)).unwrap_or_default();
        Some(PartitionRepair {
            partition,
            standing: node.standing_of(&replica),
            keys: trees.tree(partition, |tree| tree.keys()),
            scanned_ms: scanned_at.map(ms),
            corrupt,
            peers: node.co_homes(partition).into_iter().map(peer).collect(),
        })
    };
    RepairStatus {
        partitions: trees.partitions().into_iter().filter_map(of).collect(),
        audits_waiting: trees.audits.waiting(),
        damaged_rows: node.0.store.damaged_count(),
        damaged_keys: node
            .0
            .store
            .damaged_rows(DAMAGED_KEYS_SHOWN)
            .iter()
            .filter_map(|row| Key::from_joined(rows::rest(row)).ok())
            .collect(),
        asked_ms: trees.audits.asked_at().map(ms),
        verify: trees.verify.borrow().clone(),
    }
}

/// How old this shard's audits are.
pub(crate) fn audits<E: Env>(node: &Node<E>) -> AuditsStatus {
    let trees = &node.0.trees;
    let now = node.0.env.now();
    let mut status = AuditsStatus { interval_ms: node.0.options.upkeep.audit_ms, ..AuditsStatus::default() };
    for partition in trees.partitions() {
        for peer in node.co_homes(partition) {
            let audited = trees.with(partition, |watched| watched.audits.get(&peer).copied()).flatten();
            let Audited { verified_at, differs_since } = audited.unwrap_or_default();
            let age = now.since(verified_at.unwrap_or_default()).as_millis();
            status.oldest_ms = status.oldest_ms.max(u64::try_from(age).unwrap_or(u64::MAX));
            status.missing += usize::from(verified_at.is_none());
            status.different += usize::from(differs_since.is_some());
        }
    }
    status
}

/// Compares everything with everyone as soon as may be: what was seen, and what is held.
pub(crate) fn now<E: Env>(node: &Node<E>) -> RepairStatus {
    exchange::compare_now(node);
    node.0.trees.audits.want_now(node.0.env.now());
    status(node)
}

/// Rereads a bucket, or everything and builds every tree anew. One verification at a time.
pub(crate) fn verify<E: Env>(node: &Node<E>, bucket: Option<String>) -> Result<RepairStatus, Failure> {
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    if let Some(bucket) = &bucket {
        gramme_core::id::check_bucket(bucket).map_err(|bad| invalid(bad.to_string()))?;
    }
    {
        let mut verify = node.0.trees.verify.borrow_mut();
        if verify.as_ref().is_some_and(|verify| verify.running) {
            return Err(invalid("this node is verifying already: see `gramme repair status`".to_string()));
        }
        let of = node.0.trees.partitions().len();
        *verify = Some(Verify { bucket: bucket.clone(), running: true, of, ..Verify::default() });
    }
    let before = mismatches(node);
    if bucket.is_none() {
        // All at once: the scan goes from one to the next without a pause.
        for partition in node.0.trees.partitions() {
            node.0.trees.with(partition, |watched| watched.scan_wanted = true);
        }
    }
    let verifier = node.clone();
    node.0.env.spawn("verify", async move {
        for partition in verifier.0.trees.partitions() {
            let read = match &bucket {
                Some(bucket) => verify_bucket(&verifier, partition, bucket).await,
                None => verify_partition(&verifier, partition).await,
            };
            note(&verifier, |verify| {
                verify.done += 1;
                verify.failed += usize::from(!read);
                verify.mismatches = mismatches(&verifier).saturating_sub(before);
            });
        }
        note(&verifier, |verify| verify.running = false);
    });
    Ok(status(node))
}

/// Scans of this shard that made another tree than the one that writes had kept.
fn mismatches<E: Env>(node: &Node<E>) -> u64 {
    let trees = &node.0.trees;
    trees.partitions().into_iter().filter_map(|p| trees.with(p, |watched| watched.mismatches)).sum()
}

fn note<E: Env>(node: &Node<E>, change: impl FnOnce(&mut Verify)) {
    if let Some(verify) = node.0.trees.verify.borrow_mut().as_mut() {
        change(verify);
    }
}

async fn verify_bucket<E: Env>(node: &Node<E>, partition: PartitionId, bucket: &str) -> bool {
    let prefix = [&[bucket.len() as u8], bucket.as_bytes()].concat();
    let prefix = rows::row(partition.0, KIND_DATA, &prefix);
    let mut after = None;
    loop {
        let Ok(page) = scan::page_within(node, prefix.clone(), after.take()).await else { return false };
        note(node, |verify| {
            verify.keys += page.rows.len() as u64;
            // Rows may be missing from a damaged page without a name.
            verify.corrupt += (page.corrupt.len() as u64).max(u64::from(!page.whole));
        });
        if page.next.is_none() {
            return true;
        }
        after = page.next;
        node.admission().slice(Work::Rebuild, page.cost).await;
    }
}

/// Waits until the scan, which was asked to, has been through the partition.
async fn verify_partition<E: Env>(node: &Node<E>, partition: PartitionId) -> bool {
    let trees = &node.0.trees;
    let patience = node.0.env.now() + PATIENCE;
    while trees.with(partition, |watched| watched.scan_wanted) == Some(true) {
        if node.0.env.now() >= patience || node.0.store.broken().is_some() {
            return false;
        }
        node.0.env.sleep_until(node.0.env.now() + LOOK).await;
    }
    let read =
        trees.with(partition, |watched| (watched.tree().map_or(0, |tree| tree.keys()), watched.corrupt));
    let (keys, corrupt) = read.unwrap_or_default();
    note(node, |verify| {
        verify.keys += keys;
        verify.corrupt += corrupt;
    });
    true
}

/// Enough to begin with.
const DAMAGED_KEYS_SHOWN: usize = 16;
/// Between two looks whether a partition has been scanned.
const LOOK: Duration = Duration::from_millis(200);
/// A partition that has not been read through after so long cannot be.
const PATIENCE: Duration = Duration::from_secs(3600);
