//! K4: once the cluster has had its time, all homes hold the same: the same keys with the same live dots and
//! checksums, and the same seen clocks. Hints lie only where hints belong, and none is left once every home has
//! been there to take them; tombstones are gone where they may go, and holes that crashes left are closed, alike
//! everywhere. All nodes have the same bucket settings.
//!
//! Clocks of records may differ: the twin of a retried write vanishes without a dot of its own, and whoever never
//! had it has nothing to pull.

use crate::evidence::{Claims, Dump, Evidence, Violation, describe};
use crate::history::{GetOp, intervals};
use gramme_core::closed::{Closed, holds_back};
use gramme_core::record::{Content, Sibling};
use gramme_core::seen::Seen;
use gramme_core::{Dot, Key, Layout, NodeId, PartitionId, Record, ring};
use std::collections::BTreeSet;

/// Its name.
pub const RULE: &str = "convergence";

/// See the module.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = differences(&evidence.layout, &evidence.dumps, evidence.claims);
    for (bucket, settings) in &evidence.settings {
        if settings.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(format!("nodes disagree on the settings of bucket {bucket}: {settings:?}"));
        }
    }
    // A read may be what shows a node that it has lost something; then it is refilled, and says so.
    let unread = evidence.unread.iter().filter(|_| !evidence.claims.silent_loss);
    found.extend(unread.map(|(key, why)| format!("with all faults healed {key:?} cannot be read: {why}")));
    found.extend(misread(evidence));
    found.into_iter().map(|text| Violation::new(RULE, text)).collect()
}

/// Reads after convergence that show something else than the homes hold.
fn misread(evidence: &Evidence) -> impl Iterator<Item = String> + '_ {
    let late = evidence.history.gets.iter().filter(|get| get.invoked >= evidence.history.converged_at);
    // Where clocks are off an expired value may be buried at any time.
    let settled = |get: &&GetOp| {
        evidence.claims.buried || !evidence.claims.buries || !evidence.mortal.contains(&get.key)
    };
    // Where one home may lack what the others hold, a read by some of them may show less than all hold.
    let is_claimed = evidence.claims.drained && evidence.claims.converged;
    late.filter(move |_| is_claimed).filter(settled).filter_map(|get| {
        let shown = canon(evidence.claims, get.found.as_ref().map(|found| &found.record)?);
        let left = evidence.held_by_homes(&get.key);
        let held = canon(evidence.claims, &left);
        (shown != held).then(|| {
            format!("a read of {:?} shows {shown:?}, and its homes hold {}", get.key, describe(&left))
        })
    })
}

/// How the stores differ from what is claimed of them; empty once the cluster has converged.
pub fn differences(layout: &Layout, dumps: &[Dump], claims: Claims) -> Vec<String> {
    let it = Comparison { layout, dumps, claims };
    let mut found = Vec::new();
    for dump in dumps {
        let name = it.name(dump.node);
        found.extend(dump.garbled.iter().map(|what| format!("{name}: a row cannot be read: {what}")));
        // Where a change of the ring waits, so does what was left.
        if !claims.unnamed_rot {
            it.misplaced(dump, &mut found);
        }
    }
    if claims.converged {
        let keys: BTreeSet<&Key> = dumps.iter().flat_map(|dump| dump.data.keys()).collect();
        found.extend(keys.into_iter().filter_map(|key| it.of_key(key)));
    }
    if claims.clocks {
        found.extend((0..layout.partitions()).filter_map(|p| it.of_seen_clocks(PartitionId(p as u16))));
        found.extend((0..layout.partitions()).filter_map(|p| it.of_ends(PartitionId(p as u16))));
    }
    found
}

struct Comparison<'a> {
    layout: &'a Layout,
    dumps: &'a [Dump],
    claims: Claims,
}

impl Comparison<'_> {
    fn misplaced(&self, dump: &Dump, found: &mut Vec<String>) {
        let name = self.name(dump.node);
        let is_home = |key: &Key| self.layout.is_home(self.partition(key), dump.node);
        for key in dump.data.keys().filter(|key| !is_home(key)) {
            found.push(format!("{name} is no home of {key:?} and has it among its data"));
        }
        for key in dump.hints.keys() {
            if is_home(key) {
                found.push(format!("{name} is a home of {key:?} and has it among its hints"));
            } else if self.claims.drained {
                found.push(format!("{name} still keeps {key:?} for homes that have long been there"));
            }
        }
    }

    fn of_key(&self, key: &Key) -> Option<String> {
        let homes = self.layout.homes(self.partition(key));
        let of_homes: Vec<(NodeId, Option<&Record>)> = self
            .dumps
            .iter()
            .filter(|dump| homes.contains(&dump.node))
            .map(|dump| (dump.node, dump.data.get(key)))
            .collect();
        let shown = || {
            let each = of_homes.iter().map(|(node, record)| {
                format!(
                    "{} {}",
                    self.name(*node),
                    record.map_or("nothing".to_string(), |r| format!(
                        "{} {}",
                        describe(r),
                        intervals(&r.clock)
                    ))
                )
            });
            each.collect::<Vec<_>>().join("; ")
        };
        let none = Record::new();
        let canon: Vec<Vec<(Dot, u64)>> =
            of_homes.iter().map(|(_, record)| canon(self.claims, record.unwrap_or(&none))).collect();
        if canon.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("the homes of {key:?} differ after repair: {}", shown()));
        }
        let expires = |record: &Record| record.expires_ms().is_some();
        if self.claims.buried && of_homes.iter().any(|(_, record)| record.is_some_and(expires)) {
            return Some(format!("{key:?} has expired, and its value is still kept: {}", shown()));
        }
        let dead = |record: &Record| record.siblings().iter().all(|s| s.content == Content::Tombstone);
        let remains = self.claims.reclaimed && of_homes.iter().any(|(_, record)| record.is_some_and(dead));
        remains
            .then(|| format!("{key:?} is deleted, everyone has seen it, and it is still kept: {}", shown()))
    }

    fn of_seen_clocks(&self, partition: PartitionId) -> Option<String> {
        let none = Seen::new();
        let homes = self.layout.homes(partition);
        let seen: Vec<(NodeId, &Seen)> = self
            .dumps
            .iter()
            .filter(|dump| homes.contains(&dump.node))
            .map(|dump| (dump.node, dump.seen.get(&partition).unwrap_or(&none)))
            .collect();
        let differ = seen.windows(2).find(|pair| runs(pair[0].1) != runs(pair[1].1))?;
        let [(a, of_a), (b, of_b)] = [differ[0], differ[1]];
        let (a, b) = (self.name(a), self.name(b));
        Some(format!(
            "seen clocks of partition {partition} differ: {a} {:?}, {b} {:?}",
            runs(of_a),
            runs(of_b)
        ))
    }

    /// What is closed is closed alike, and where tombstones have had their time no hole is left open.
    fn of_ends(&self, partition: PartitionId) -> Option<String> {
        let homes = self.layout.homes(partition);
        let finals = |dump: &Dump| dump.ends.get(&partition).map(Closed::finals).unwrap_or_default();
        let of_homes: Vec<(&Dump, Closed)> = self
            .dumps
            .iter()
            .filter(|dump| homes.contains(&dump.node))
            .map(|dump| (dump, finals(dump)))
            .collect();
        if let Some([(a, of_a), (b, of_b)]) = of_homes.array_windows().find(|[a, b]| a.1 != b.1) {
            let (a, b) = (self.name(a.node), self.name(b.node));
            return Some(format!("ends in partition {partition} differ: {a} {of_a:?}, {b} {of_b:?}"));
        }
        let open = |(dump, finals): &(&Dump, Closed)| {
            let rows = dump.seen.get(&partition)?.rows();
            let mut open = rows.filter(|(i, row)| holds_back([*row]) && !finals.is_closed(*i));
            open.next().map(|(i, row)| (self.name(dump.node), i, row.clone()))
        };
        let (name, incarnation, row) = of_homes.iter().filter(|_| self.claims.reclaimed).find_map(open)?;
        Some(format!(
            "{name} has a hole in what it has seen of incarnation {incarnation:?} in partition {partition}, and it is not closed: {:?}",
            row.runs()
        ))
    }

    fn partition(&self, key: &Key) -> PartitionId {
        ring::partition_of(key, self.layout.partitions())
    }

    fn name(&self, node: NodeId) -> String {
        self.layout.member(node).map_or_else(|| node.to_string(), |member| member.name.clone())
    }
}

/// What homes must agree on of a key: dots and checksums. Nothing but tombstones is the same as nothing where
/// tombstones may be gone.
fn canon(claims: Claims, record: &Record) -> Vec<(Dot, u64)> {
    let is_tombstone = |s: &Sibling| s.content == Content::Tombstone;
    if claims.reclaims && record.siblings().iter().all(is_tombstone) {
        return Vec::new();
    }
    record.siblings().iter().map(|s| (s.dot, s.checksum)).collect()
}

type Runs<'a> = Vec<(gramme_core::Incarnation, &'a [(u64, u64)])>;

/// An incarnation of which nothing was seen is the same as none.
fn runs(seen: &Seen) -> Runs<'_> {
    seen.rows().filter(|(_, row)| !row.runs().is_empty()).map(|(i, row)| (i, row.runs())).collect()
}
