//! Where the requests of this node's clients go: how many reads and writes each partition was asked for here, and what
//! follows for the nodes that hold it.
//!
//! Invariant: a request is counted once in a cluster, at the node whose client asked, by the shard that owns the
//! partition there; what nodes count can therefore be added up. Two counters for each partition and shard, whatever the
//! load: no key is remembered.

use gramme_core::{Key, Layout, PartitionId};
use gramme_node::request::Request;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads and writes of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

impl Asked {
    /// Both.
    pub(crate) fn all(self) -> u64 {
        self.reads + self.writes
    }
}

/// Counts since the start, and as they were at two earlier moments.
pub(crate) struct Load {
    partitions: usize,
    /// By shard, so that no two threads write to one cache line; then by partition, reads beside writes.
    counts: Box<[Box<[[AtomicU64; 2]]>]>,
    earlier: Mutex<Earlier>,
}

/// Counts of up to two moments, the older first.
struct Earlier {
    moments: [(Instant, Vec<Asked>); 2],
}

impl Load {
    /// Nothing was asked for yet.
    pub(crate) fn new(partitions: usize, shards: usize) -> Load {
        let own = partitions.div_ceil(shards.max(1));
        let counts = (0..shards).map(|_| (0..own).map(|_| Default::default()).collect()).collect();
        let nothing = (Instant::now(), vec![Asked::default(); partitions]);
        Load { partitions, counts, earlier: Mutex::new(Earlier { moments: [nothing.clone(), nothing] }) }
    }

    /// Takes note of a request, on the thread of the shard that owns its key.
    pub(crate) fn count(&self, request: &Request) {
        let (key, kind): (&Key, usize) = match request {
            Request::Get(get) => (&get.key, 0),
            Request::Put(put) => (&put.key, 1),
            _ => return,
        };
        let count = &self.counts_of(gramme_core::ring::partition_of(key, self.partitions))[kind];
        // Only this thread writes it.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn counts_of(&self, partition: PartitionId) -> &[AtomicU64; 2] {
        let (at, shards) = (partition.0 as usize, self.counts.len());
        &self.counts[at % shards][at / shards]
    }

    fn so_far(&self) -> Vec<Asked> {
        let asked = |partition: usize| {
            let [reads, writes] = self.counts_of(PartitionId(partition as u16));
            Asked { reads: reads.load(Ordering::Relaxed), writes: writes.load(Ordering::Relaxed) }
        };
        (0..self.partitions).map(asked).collect()
    }

    /// What was asked for of each partition in the last one to two windows (less shortly after the start), and how
    /// long that is.
    pub(crate) fn recent(&self, now: Instant) -> (Duration, Vec<Asked>) {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = self.so_far();
        if now.duration_since(earlier.moments[1].0) >= WINDOW {
            earlier.moments.swap(0, 1);
            earlier.moments[1] = (now, so_far.clone());
        }
        let (since, before) = &earlier.moments[0];
        let asked = so_far
            .iter()
            .zip(before)
            .map(|(now, then)| Asked { reads: now.reads - then.reads, writes: now.writes - then.writes });
        (now.duration_since(*since), asked.collect())
    }
}

/// Of these nodes, each with its load and its weight, the part whose load is not within 15 % of its fair part: the
/// measure of the paper, 6.2. Zero if there was no load.
pub fn imbalance(loads: &[(f64, f64)]) -> f64 {
    let total: f64 = loads.iter().map(|(load, _)| load).sum();
    let weights: f64 = loads.iter().map(|(_, weight)| weight).sum();
    if total <= 0.0 || weights <= 0.0 {
        return 0.0;
    }
    let is_out = |(load, weight): &&(f64, f64)| {
        let fair = total * weight / weights;
        (load - fair).abs() > BAND * fair
    };
    loads.iter().filter(is_out).count() as f64 / loads.len() as f64
}

/// The [`imbalance`] of the members' loads, each of them what the partitions of which it is a home were asked for.
pub(crate) fn imbalance_of(layout: &Layout, asked: &[Asked]) -> f64 {
    let members = layout.members();
    let mut loads: Vec<(f64, f64)> = members.iter().map(|member| (0.0, f64::from(member.weight))).collect();
    for (partition, asked) in asked.iter().enumerate().filter(|(_, asked)| asked.all() > 0) {
        for home in layout.homes(PartitionId(partition as u16)) {
            if let Some(at) = members.iter().position(|member| member.id == *home) {
                loads[at].0 += asked.all() as f64;
            }
        }
    }
    imbalance(&loads)
}

/// Between two moments that are kept.
const WINDOW: Duration = Duration::from_secs(60);
const BAND: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::{Member, NodeId};
    use gramme_node::request::Get;

    fn get(key: &str) -> Request {
        let key = Key::new("b", key.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        Request::Get(Get { key, r: None, pr: 0, min: None, explain: false })
    }

    #[test]
    fn what_was_asked_for_is_told_by_partition_and_forgotten_after_two_windows() {
        let load = Load::new(16, 3);
        let start = load.earlier.lock().map(|earlier| earlier.moments[0].0).unwrap_or_else(|e| panic!("{e}"));
        let at = |windows: u32| start + WINDOW * windows;
        let Request::Get(Get { key, .. }) = get("k") else { panic!("a get") };
        let partition = gramme_core::ring::partition_of(&key, 16).0 as usize;
        load.count(&get("k"));
        load.count(&get("k"));
        load.count(&Request::Status);
        let reads = |now: Instant| {
            let (span, asked) = load.recent(now);
            assert_eq!(asked.iter().map(|asked| asked.all()).sum::<u64>(), asked[partition].reads);
            (span, asked[partition].reads)
        };
        assert_eq!(reads(start), (Duration::ZERO, 2));
        assert_eq!(reads(at(1)), (WINDOW, 2), "until the next window ends");
        load.count(&get("k"));
        assert_eq!(reads(at(2)), (WINDOW, 1), "what is older than two windows is gone");
        assert_eq!(reads(at(3)), (WINDOW, 0));
    }

    #[test]
    fn a_node_is_out_of_balance_beyond_15_percent_of_its_fair_part() {
        for (loads, part) in [
            (&[(100.0, 1.0), (100.0, 1.0), (100.0, 1.0)][..], 0.0),
            (&[(114.0, 1.0), (86.0, 1.0)], 0.0),
            (&[(120.0, 1.0), (80.0, 1.0)], 1.0),
            (&[(130.0, 1.0), (90.0, 1.0), (90.0, 1.0), (90.0, 1.0)], 0.25),
            (&[(200.0, 2.0), (100.0, 1.0)], 0.0),
            (&[(0.0, 1.0), (0.0, 1.0)], 0.0),
            (&[], 0.0),
        ] {
            assert_eq!(imbalance(loads), part, "{loads:?}");
        }
    }

    #[test]
    fn a_partition_burdens_all_its_homes() {
        let member = |at: u64| Member {
            id: NodeId(at),
            name: format!("n{at}"),
            address: format!("h{at}:1"),
            http: String::new(),
            zone: format!("z{at}"),
            weight: 1,
        };
        let layout = Layout::first((1..=4).map(member).collect(), 2, 16).unwrap_or_else(|e| panic!("{e:?}"));
        let mut asked = vec![Asked::default(); 16];
        asked[3] = Asked { reads: 60, writes: 40 };
        assert_eq!(imbalance_of(&layout, &asked), 1.0, "two carry everything, two nothing");
        assert_eq!(imbalance_of(&layout, &[Asked { reads: 1, writes: 1 }; 16]), 0.0);
    }
}
