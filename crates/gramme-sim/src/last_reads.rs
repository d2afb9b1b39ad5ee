//! What is asked of the nodes when the clients have gone: every key, every bucket's list and settings.

use crate::cluster::{Called, Cluster};
use crate::knobs::Knobs;
use crate::timer::Sleep;
use crate::workload::OWN;
use crate::world::{host_of, name};
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Level};
use gramme_core::{Key, Layout, PartitionId, ring};
use gramme_node::request::{Call, Get, ListPage, Request, Response};
use gramme_node::trees::repair::Verify;
use gramme_wire::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who asks. Time passes while it does.
pub struct Asker<'a> {
    /// Whom.
    pub cluster: &'a Cluster,
    /// Who keeps what by now.
    pub layout: Arc<Layout>,
    /// The members by that, which are asked.
    pub hosts: Vec<usize>,
    /// How the run is set up.
    pub knobs: &'a Knobs,
    /// Every key that clients use.
    pub keys: &'a [Key],
}

impl Asker<'_> {
    /// Reads every key once from all its homes; says which could not be read and why. With a pause between two:
    /// while a repair of the last one is under way on a slow disk, its home may be passed over for a moment.
    pub fn read_all(&self) -> Vec<(Key, String)> {
        let mut unread = Vec::new();
        for key in 0..self.keys.len() {
            self.pause();
            if let Err(why) = self.read_one(key) {
                unread.push((self.keys[key].clone(), why));
            }
        }
        unread
    }

    /// A home whose directory was emptied proves nothing by its answer: its place is taken by a fallback, or, if
    /// there is none, the read is refused; it is repaired all the same. Asked for itself it would not ask itself.
    fn read_one(&self, key: usize) -> Result<(), String> {
        let homes = self.layout.homes(ring::partition_of(&self.keys[key], self.knobs.partitions));
        let unprovable = homes.iter().any(|&home| host_of(home).is_some_and(|h| self.cluster.was_wiped(h)));
        let mut last = "no node could be asked".to_string();
        let sound: Vec<usize> =
            self.hosts.iter().copied().filter(|&host| !self.cluster.was_wiped(host)).collect();
        for attempt in 0..READ_ATTEMPTS {
            let host = sound[(key + attempt) % sound.len()];
            let get =
                Get { key: self.keys[key].clone(), r: Some(Level::All), pr: 0, min: None, explain: true };
            match self.ask(host, Request::Get(get)) {
                Some(Response::Got(_)) => return Ok(()),
                Some(Response::Failed(failure)) if unprovable && failure.reason == Reason::Unavailable => {
                    return Ok(());
                }
                other => last = format!("{other:?}"),
            }
            // A damaged row is mended meanwhile.
            self.pause();
        }
        Err(last)
    }

    fn pause(&self) {
        let world = self.cluster.world().clone();
        world.run_for(PAUSE_NS, Sleep::span(world.clone(), PAUSE_NS));
    }

    /// One bucket's settings as each host has them.
    pub fn settings(&self) -> BTreeMap<String, Vec<BucketSettings>> {
        let of_host = |host| match self.ask(host, Request::Bucket(OWN.to_string())) {
            Some(Response::Bucket(settings)) => Some(settings),
            _ => None,
        };
        let all = self.hosts.iter().copied().filter_map(of_host).collect();
        BTreeMap::from([(OWN.to_string(), all)])
    }

    /// The whole list of each bucket; `None` if some page was refused by everyone.
    pub fn list_all(&self) -> BTreeMap<String, Option<Vec<Bytes>>> {
        let buckets: BTreeSet<String> = self.keys.iter().map(|key| key.bucket().to_string()).collect();
        buckets.into_iter().map(|bucket| (bucket.clone(), self.list_bucket(&bucket))).collect()
    }

    fn list_bucket(&self, bucket: &str) -> Option<Vec<Bytes>> {
        let mut keys = Vec::new();
        for partition in 0..self.knobs.partitions {
            let mut after = None;
            loop {
                let page = ListPage {
                    partition: PartitionId(partition as u16),
                    bucket: bucket.to_string(),
                    prefix: Bytes::new(),
                    after: after.take(),
                    keys_max: 2,
                    values: false,
                    r: None,
                };
                let answers = self.hosts.iter().map(|&host| self.ask(host, Request::List(page.clone())));
                let listed = answers.flatten().find_map(|answer| match answer {
                    Response::Listed(listed) => Some(listed),
                    _ => None,
                });
                let listed = match listed {
                    Some(listed) => listed,
                    // A wiped home proves nothing, and with N = 2 nobody else makes up for it.
                    None if self.knobs.n < 3 => return Some(keys),
                    None => return None,
                };
                keys.extend(listed.entries.into_iter().map(|(key, _)| key));
                match listed.next_after {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Some(keys)
    }

    /// Has every shard reread all that it holds; says whose hash trees were other than what they had kept, or could
    /// not be made.
    pub fn verify_trees(&self) -> Vec<String> {
        let shards = || self.hosts.iter().flat_map(|&host| (0..self.knobs.shards).map(move |s| (host, s)));
        for (host, shard) in shards() {
            self.ask_shard(host, shard, Request::Verify(None));
        }
        let mut wrong = Vec::new();
        for (host, shard) in shards() {
            let Some(verify) = (0..VERIFY_LOOKS).find_map(|_| self.verified(host, shard)) else {
                wrong.push(format!("shard {shard} of {} did not reread what it holds", name(host)));
                continue;
            };
            if verify.mismatches > 0 {
                let text =
                    format!("{} trees of shard {shard} of {} were wrong", verify.mismatches, name(host));
                wrong.push(text);
            }
        }
        wrong
    }

    /// What came of a shard's rereading, if it has ended; looks a while later.
    fn verified(&self, host: usize, shard: usize) -> Option<Verify> {
        let verify = match self.ask_shard(host, shard, Request::Repair) {
            Some(Response::Repair(status)) => status.verify.filter(|verify| !verify.running),
            _ => None,
        };
        if verify.is_none() {
            let world = self.cluster.world().clone();
            world.run_for(VERIFY_NS, Sleep::span(world.clone(), VERIFY_NS));
        }
        verify
    }

    fn ask(&self, host: usize, request: Request) -> Option<Response> {
        let shard = request.shard(self.knobs.partitions, self.knobs.shards);
        self.ask_shard(host, shard, request)
    }

    fn ask_shard(&self, host: usize, shard: usize, request: Request) -> Option<Response> {
        let cluster = self.cluster.clone();
        let call = Call { timeout_ms: ASK_MS, request };
        let asked = async move { cluster.call_shard(host, shard, call, Box::new(|_, _| {})).await };
        match self.cluster.world().run_for(2 * ASK_MS * 1_000_000, asked) {
            Some(Called::Answered(response)) => Some(response),
            _ => None,
        }
    }
}

const ASK_MS: u64 = 1_000;
/// Between two looks whether a shard has reread its few rows.
const VERIFY_NS: u64 = 1_000_000_000;
const VERIFY_LOOKS: usize = 30;
/// Between two attempts to read a key.
const PAUSE_NS: u64 = 150_000_000;
const READ_ATTEMPTS: usize = 6;
