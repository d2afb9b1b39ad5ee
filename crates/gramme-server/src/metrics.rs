//! What is counted and measured, in the Prometheus text format at `/metrics`. Names begin with `gramme_`, units are
//! base units, keys are never labels. `docs/http.md` lists them.
//!
//! Each shard counts into handles of its own (label `shard`), so that no two threads write to one cache line;
//! whoever reads them sums.

use crate::mailbox::Door;
use crate::tally::Tally;
use gramme_node::Probe;
use gramme_node::admission::WORKS;
use gramme_storage::Stats;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a client asked of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Get,
    Put,
    Delete,
    List,
    Other,
}

/// How a door answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Ok,
    NotFound,
    /// Several values that only the client can reconcile.
    Siblings,
    /// The request itself was at fault; nothing was changed.
    Refused,
    /// The cluster could not do it; nothing was changed.
    NotApplied,
    /// The cluster could not promise it; something of it may exist.
    MaybeApplied,
}

impl Op {
    fn as_str(self) -> &'static str {
        ["get", "put", "delete", "list", "other"][self as usize]
    }
}

impl Answer {
    fn as_str(self) -> &'static str {
        ["ok", "not_found", "siblings", "refused", "not_applied", "maybe_applied"][self as usize]
    }
}

impl Door {
    fn as_str(self) -> &'static str {
        ["http", "resp"][self as usize]
    }
}

/// A label value that is one of a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    door: Word,
    op: Word,
    outcome: Word,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    door: Word,
    op: Word,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CoordinatedLabels {
    op: Word,
    ok: Word,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: Word,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabels {
    work: Word,
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: u32,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of this process.
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    fsync: Histogram,
    stored_bytes: Gauge,
    batches: Gauge,
    /// One per shard.
    tallies: Mutex<Vec<Arc<Tally>>>,
    pub(crate) imbalance: Gauge<f64, AtomicU64>,
}

#[derive(Clone)]
struct Families {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<DurationLabels>,
    coordinated: Histograms<CoordinatedLabels>,
    events: Family<EventLabels, Counter>,
    dropped: Family<ShardLabel, Counter>,
    in_flight: Family<ShardLabel, Gauge>,
    hints: Family<ShardLabel, Gauge>,
    hint_bytes: Family<ShardLabel, Gauge>,
    handed_off: Family<ShardLabel, Counter>,
    hint_stores: Family<ShardLabel, Gauge>,
    hint_oldest: Family<ShardLabel, Gauge>,
    refilling: Family<ShardLabel, Gauge>,
    unseen: Family<ShardLabel, Gauge>,
    unseen_ms: Family<ShardLabel, Gauge>,
    audit_oldest: Family<ShardLabel, Gauge>,
    audits_missing: Family<ShardLabel, Gauge>,
    audits_different: Family<ShardLabel, Gauge>,
    damaged: Family<ShardLabel, Gauge>,
    connected: Family<ShardLabel, Gauge>,
    inbox: Family<ShardLabel, Gauge>,
    outgoing: Family<ShardLabel, Gauge>,
    slices: Family<WorkLabels, Counter>,
    budget: Family<ShardLabel, Gauge>,
    buffered: Histograms<ShardLabel>,
}

impl Metrics {
    /// All metrics, at zero.
    pub(crate) fn new(engine: &'static str) -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("gramme");
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("engine", engine)]);
        registry.register("build", "What runs here", info);
        let families = Families {
            requests: Family::default(),
            durations: Family::new_with_constructor(latencies as fn() -> Histogram),
            coordinated: Family::new_with_constructor(latencies as fn() -> Histogram),
            events: Family::default(),
            dropped: Family::default(),
            in_flight: Family::default(),
            hints: Family::default(),
            hint_bytes: Family::default(),
            handed_off: Family::default(),
            hint_stores: Family::default(),
            hint_oldest: Family::default(),
            refilling: Family::default(),
            unseen: Family::default(),
            unseen_ms: Family::default(),
            audit_oldest: Family::default(),
            audits_missing: Family::default(),
            audits_different: Family::default(),
            damaged: Family::default(),
            connected: Family::default(),
            inbox: Family::default(),
            outgoing: Family::default(),
            slices: Family::default(),
            budget: Family::default(),
            buffered: Family::new_with_constructor(latencies as fn() -> Histogram),
        };
        let f = &families;
        registry.register("requests", "Client requests, by door, operation and outcome", f.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's last byte to its answer's first, at the door",
            f.durations.clone(),
        );
        registry.register(
            "coordinated_duration_seconds",
            "From the start of a coordinated operation to its answer",
            f.coordinated.clone(),
        );
        registry.register("events", "What the flows of the node met; see docs/http.md", f.events.clone());
        registry.register(
            "messages_dropped",
            "Messages between nodes or shards that found a queue full",
            f.dropped.clone(),
        );
        registry.register("in_flight", "Client operations in flight", f.in_flight.clone());
        registry.register("hints", "Records kept for homes that missed them", f.hints.clone());
        registry.register("hints_handed_off", "Hints that all their homes have", f.handed_off.clone());
        registry.register("hint_bytes", "What those records take", f.hint_bytes.clone());
        registry.register("hint_stores", "Partitions of which hints are kept", f.hint_stores.clone());
        registry.register("hint_oldest_seconds", "Since when the oldest hint is kept", f.hint_oldest.clone());
        registry.register(
            "refilling_partitions",
            "Partitions that lost something and are not yet refilled",
            f.refilling.clone(),
        );
        registry.register(
            "unseen_writes",
            "Writes that another home has durably seen and this one lacked when they last compared",
            f.unseen.clone(),
        );
        registry.register(
            "unseen_known_milliseconds",
            "For how long the longest known of those has been known to be missing",
            f.unseen_ms.clone(),
        );
        registry.register(
            "audit_oldest_seconds",
            "Since the oldest of the last audits, one per home partition and other home of it, that found both the same",
            f.audit_oldest.clone(),
        );
        registry.register(
            "audits_missing",
            "Home partitions, once per other home, that no audit has found the same since the start",
            f.audits_missing.clone(),
        );
        registry.register(
            "audits_different",
            "Home partitions, once per other home, that the last audit left different",
            f.audits_different.clone(),
        );
        registry.register(
            "damaged_rows",
            "Rows that cannot be read and wait to be mended or written again",
            f.damaged.clone(),
        );
        registry.register("peers_connected", "Members to which a connection stands", f.connected.clone());
        registry.register("inbox_events", "Messages of peers that wait for the shard", f.inbox.clone());
        registry.register("outgoing_bytes", "Bytes that wait for peers' sockets", f.outgoing.clone());
        registry.register(
            "background_bytes",
            "Bytes that background work was given slices for, by kind of work",
            f.slices.clone(),
        );
        registry.register(
            "background_budget_bytes_per_second",
            "What the admission controller lets background work cause",
            f.budget.clone(),
        );
        registry.register(
            "buffered_window_seconds",
            "How long a crash could have taken back what was acknowledged from memory",
            f.buffered.clone(),
        );
        let fsync = Histogram::new(exponential_buckets(50e-6, 2.0, 16));
        registry.register("fsync_duration_seconds", "Durable syncs of the store", fsync.clone());
        let (stored_bytes, batches) = (Gauge::default(), Gauge::default());
        registry.register("stored_bytes", "Bytes that the store keeps", stored_bytes.clone());
        registry.register("store_batches", "Batches made durable since the start", batches.clone());
        let imbalance = Gauge::default();
        registry.register(
            "load_imbalance",
            "Of the members, the part whose load lies more than 15 % from its fair part, by what clients asked here in the last minute or two",
            imbalance.clone(),
        );
        Arc::new(Metrics {
            registry,
            families,
            fsync,
            stored_bytes,
            batches,
            imbalance,
            tallies: Mutex::default(),
        })
    }

    /// What each shard has counted for the status.
    pub(crate) fn tallies(&self) -> Vec<Arc<Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => "# the metrics could not be written\n".to_owned(),
        }
    }

    /// Takes the durations of syncs, in nanoseconds, and the store's figures.
    pub(crate) fn observe_store(&self, sync_nanos: &[u64], stats: Stats) {
        for &nanos in sync_nanos {
            self.fsync.observe(nanos as f64 / 1e9);
        }
        self.stored_bytes.set(i64::try_from(stats.stored_bytes).unwrap_or(i64::MAX));
        self.batches.set(i64::try_from(stats.batches).unwrap_or(i64::MAX));
    }
}

/// The handles of one shard. Every handle is made at its first use and kept.
pub(crate) struct ShardMetrics {
    families: Families,
    shard: u32,
    requests: [[[OnceCell<Counter>; ANSWERS]; OPS]; 2],
    durations: [[OnceCell<Histogram>; OPS]; 2],
    coordinated: [[OnceCell<Histogram>; 2]; 3],
    events: RefCell<BTreeMap<&'static str, Counter>>,
    slices: [OnceCell<Counter>; WORKS.len()],
    budget: Gauge,
    buffered: OnceCell<Histogram>,
    tally: Arc<Tally>,
    pub(crate) dropped: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) hints: Gauge,
    pub(crate) hint_bytes: Gauge,
    handed_off: Counter,
    pub(crate) hint_stores: Gauge,
    pub(crate) hint_oldest: Gauge,
    pub(crate) refilling: Gauge,
    pub(crate) unseen: Gauge,
    pub(crate) unseen_ms: Gauge,
    pub(crate) audit_oldest: Gauge,
    pub(crate) audits_missing: Gauge,
    pub(crate) audits_different: Gauge,
    pub(crate) damaged: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) inbox: Gauge,
    pub(crate) outgoing: Gauge,
}

impl ShardMetrics {
    /// The handles of this shard.
    pub(crate) fn new(metrics: &Metrics, shard: usize) -> ShardMetrics {
        let families = metrics.families.clone();
        let shard = shard as u32;
        let label = ShardLabel { shard };
        let tally = Arc::new(Tally::default());
        metrics.tallies.lock().unwrap_or_else(PoisonError::into_inner).push(tally.clone());
        ShardMetrics {
            shard,
            requests: Default::default(),
            durations: Default::default(),
            coordinated: Default::default(),
            events: RefCell::default(),
            slices: [const { OnceCell::new() }; WORKS.len()],
            buffered: OnceCell::new(),
            tally,
            budget: families.budget.get_or_create_owned(&label),
            dropped: families.dropped.get_or_create_owned(&label),
            in_flight: families.in_flight.get_or_create_owned(&label),
            hints: families.hints.get_or_create_owned(&label),
            hint_bytes: families.hint_bytes.get_or_create_owned(&label),
            handed_off: families.handed_off.get_or_create_owned(&label),
            hint_stores: families.hint_stores.get_or_create_owned(&label),
            hint_oldest: families.hint_oldest.get_or_create_owned(&label),
            refilling: families.refilling.get_or_create_owned(&label),
            unseen: families.unseen.get_or_create_owned(&label),
            unseen_ms: families.unseen_ms.get_or_create_owned(&label),
            audit_oldest: families.audit_oldest.get_or_create_owned(&label),
            audits_missing: families.audits_missing.get_or_create_owned(&label),
            audits_different: families.audits_different.get_or_create_owned(&label),
            damaged: families.damaged.get_or_create_owned(&label),
            connected: families.connected.get_or_create_owned(&label),
            inbox: families.inbox.get_or_create_owned(&label),
            outgoing: families.outgoing.get_or_create_owned(&label),
            families,
        }
    }

    /// A door has answered.
    pub(crate) fn request(&self, door: Door, op: Op, answer: Answer, took: Duration) {
        self.tally.request(op, answer, took);
        let (shard, families) = (self.shard, &self.families);
        let (door_word, op_word) = (Word(door.as_str()), Word(op.as_str()));
        self.requests[door as usize][op as usize][answer as usize]
            .get_or_init(|| {
                let outcome = Word(answer.as_str());
                families.requests.get_or_create_owned(&RequestLabels {
                    door: door_word,
                    op: op_word,
                    outcome,
                    shard,
                })
            })
            .inc();
        self.durations[door as usize][op as usize]
            .get_or_init(|| {
                families.durations.get_or_create_owned(&DurationLabels {
                    door: door_word,
                    op: op_word,
                    shard,
                })
            })
            .observe(took.as_secs_f64());
    }

    /// A flow of the node says something.
    pub(crate) fn probe(&self, probe: Probe) {
        self.tally.probe(&probe);
        if let Probe::Coordinated { operation, took, ok } = probe {
            let words = ["get", "put", "list"];
            self.coordinated[operation as usize][usize::from(ok)]
                .get_or_init(|| {
                    self.families.coordinated.get_or_create_owned(&CoordinatedLabels {
                        op: Word(words[operation as usize]),
                        ok: Word(if ok { "true" } else { "false" }),
                        shard: self.shard,
                    })
                })
                .observe(took.as_secs_f64());
            return;
        }
        if let Probe::Slice { work, bytes } = probe {
            self.slices[work as usize]
                .get_or_init(|| {
                    let labels = WorkLabels { work: Word(work.as_str()), shard: self.shard };
                    self.families.slices.get_or_create_owned(&labels)
                })
                .inc_by(bytes);
            return;
        }
        if let Probe::Buffered { window } = probe {
            self.buffered
                .get_or_init(|| self.families.buffered.get_or_create_owned(&ShardLabel { shard: self.shard }))
                .observe(window.as_secs_f64());
            return;
        }
        if let Probe::HintStoreDestroyed { hints } = probe {
            self.handed_off.inc_by(hints);
        }
        if let Probe::Budget(bytes_per_s) = probe {
            self.budget.set(i64::try_from(bytes_per_s).unwrap_or(i64::MAX));
            return;
        }
        let Some(word) = word_of(probe) else { return };
        self.events
            .borrow_mut()
            .entry(word)
            .or_insert_with(|| {
                let labels = EventLabels { event: Word(word), shard: self.shard };
                self.families.events.get_or_create_owned(&labels)
            })
            .inc();
    }
}

/// The word for a probe that is counted; `None` for those that are measured.
fn word_of(probe: Probe) -> Option<&'static str> {
    Some(match probe {
        Probe::Forwarded => "forwarded",
        Probe::ForwardedAgain => "forwarded_again",
        Probe::HintAsked => "hint_asked",
        Probe::HintStored => "hint_stored",
        Probe::ReadRepair => "read_repair",
        Probe::RepairSpared => "repair_spared",
        Probe::Hedged => "hedged",
        Probe::LateAnswer => "late_answer",
        Probe::SiblingsJoined => "siblings_joined",
        Probe::SiblingsMany => "siblings_many",
        Probe::RetryAdopted => "retry_adopted",
        Probe::Tripwire => "tripwire",
        Probe::Corrupt => "corrupt",
        Probe::StampAhead => "stamp_ahead",
        Probe::Thawed => "thawed",
        Probe::Shed => "shed",
        Probe::StoreBroken => "store_broken",
        Probe::SessionWaited => "session_waited",
        Probe::DigestsSent => "digests_sent",
        Probe::NodeFactTaken => "node_fact_taken",
        Probe::NodeFactRefused => "node_fact_refused",
        Probe::NodeFactOutdone => "node_fact_outdone",
        Probe::LayoutTaken => "layout_taken",
        Probe::LayoutContradicted => "layout_contradicted",
        Probe::Voted => "voted",
        Probe::RingInstalled => "ring_installed",
        Probe::HomeCame => "home_came",
        Probe::HomeLeft => "home_left",
        Probe::LeftWiped => "left_wiped",
        Probe::WriteFenced => "write_fenced",
        Probe::PullEnded { whole: true } => "pull_whole",
        Probe::PullEnded { whole: false } => "pull_broken",
        Probe::PullServedByKeys => "pull_served_by_keys",
        Probe::PullServedByScan => "pull_served_by_scan",
        Probe::Mistrusted => "mistrusted",
        Probe::Refilled => "refilled",
        Probe::Purged => "purged",
        Probe::DiskFull => "disk_full",
        Probe::DiskHasRoom => "disk_has_room",
        Probe::Damaged => "row_damaged",
        Probe::Mended => "row_mended",
        Probe::PageDamaged => "page_damaged",
        Probe::OnlyCopyDamaged => "only_copy_damaged",
        Probe::Reclaimed => "reclaimed",
        Probe::Stripped => "clock_stripped",
        Probe::StaleIgnored => "stale_ignored",
        Probe::IncarnationClosed => "incarnation_closed",
        Probe::ClosingWaits => "closing_waits",
        Probe::VoidRefused => "void_refused",
        Probe::VoidDropped => "void_dropped",
        Probe::FrontierCrowded => "frontier_crowded",
        Probe::Conflict => "conflict",
        Probe::PeerSilent => "peer_silent",
        Probe::PeerDegraded => "peer_degraded",
        Probe::PeerRestored => "peer_restored",
        Probe::DiskStalled => "disk_stalled",
        Probe::HintsFull => "hints_full",
        Probe::HintsOffered => "hints_offered",
        Probe::HintStoreDestroyed { .. } => "hint_store_destroyed",
        Probe::HintsAlarm(_) => "hints_alarm",
        Probe::FallbackCoordinated => "fallback_coordinated",
        Probe::PartitionScanned => "partition_scanned",
        Probe::TreeMismatch => "tree_mismatch",
        Probe::Healed => "healed",
        Probe::Buried => "buried",
        Probe::AuditVerified => "audit_verified",
        Probe::AuditDiffered => "audit_differed",
        Probe::AuditRepaired => "audit_repaired",
        Probe::AuditSkipped => "audit_skipped",
        Probe::AuditConflict => "audit_conflict",
        Probe::AuditCorrupt => "audit_corrupt",
        Probe::Coordinated { .. } | Probe::Slice { .. } | Probe::Budget(_) | Probe::Buffered { .. } => {
            return None;
        }
    })
}

fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 20))
}

const OPS: usize = 5;
const ANSWERS: usize = 6;
#[cfg(test)]
mod tests {
    use super::*;
    use gramme_node::Operation;
    use gramme_node::admission::Work;

    #[test]
    fn what_a_shard_counts_is_read_by_door_operation_outcome_and_shard() {
        let metrics = Metrics::new("memory");
        let shard = ShardMetrics::new(&metrics, 1);
        shard.request(Door::Resp, Op::Get, Answer::NotFound, Duration::from_micros(70));
        shard.request(Door::Resp, Op::Get, Answer::NotFound, Duration::from_micros(70));
        shard.probe(Probe::ReadRepair);
        shard.probe(Probe::Slice { work: Work::Handoff, bytes: 512 });
        shard.probe(Probe::Budget(1024));
        shard.probe(Probe::Coordinated {
            operation: Operation::Put,
            took: Duration::from_millis(1),
            ok: true,
        });
        metrics.observe_store(&[1_000_000], Stats { stored_bytes: 7, ..Stats::default() });
        let text = metrics.text();
        for line in [
            r#"gramme_requests_total{door="resp",op="get",outcome="not_found",shard="1"} 2"#,
            r#"gramme_request_duration_seconds_count{door="resp",op="get",shard="1"} 2"#,
            r#"gramme_events_total{event="read_repair",shard="1"} 1"#,
            r#"gramme_coordinated_duration_seconds_count{op="put",ok="true",shard="1"} 1"#,
            r#"gramme_background_bytes_total{work="handoff",shard="1"} 512"#,
            r#"gramme_background_budget_bytes_per_second{shard="1"} 1024"#,
            "gramme_fsync_duration_seconds_count 1",
            "gramme_stored_bytes 7",
        ] {
            assert!(text.contains(line), "no line {line} in\n{text}");
        }
        assert!(text.contains("gramme_build_info{version="), "{text}");
        assert_eq!(text.matches("# TYPE gramme_requests").count(), 1, "each family is described once");
    }
}
