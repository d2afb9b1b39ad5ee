//! What a process stands on: its machine's clock, disk and limits, and the doors that it leaves open. Told by the
//! node itself, because whoever looks after a cluster seldom sits at the machine.

use crate::settings::Settings;
use gramme_core::{Layout, NodeId, PartitionId};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// What the settings say of it.
#[derive(Debug)]
pub(crate) struct Ground {
    data_dir: PathBuf,
    reserve_bytes: u64,
    /// What others could reach and should not; one sentence each.
    open_doors: Vec<String>,
}

impl Ground {
    /// Of a process with these settings, and what checking them brought up.
    pub(crate) fn new(settings: &Settings, warnings: Vec<String>) -> Ground {
        let reserve_bytes = u64::from(settings.reserve_mb) << 20;
        Ground { data_dir: settings.data_dir.clone(), reserve_bytes, open_doors: warnings }
    }

    /// As status shows it. What the system does not tell is null; the clock is read last, so that whoever measures
    /// it by the way here and back is misled by as little as can be.
    pub(crate) async fn json(&self) -> Value {
        let disk = self.disk().await;
        let files_max = getrlimit(Resource::Nofile).current;
        json!({
            "disk_bytes": disk.map(|disk| disk.bytes),
            "disk_free_bytes": disk.map(|disk| disk.free_bytes),
            "disk_reserve_bytes": self.reserve_bytes,
            "files_max": files_max,
            "open_doors": self.open_doors,
            "time_ms": crate::tokio_env::wall_ms(),
        })
    }

    /// Asked beside the shard, and not waited for without end: a file system that hangs holds up whoever asks.
    async fn disk(&self) -> Option<Disk> {
        let path = self.data_dir.clone();
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(path));
        let space = tokio::time::timeout(DISK_PATIENCE, asked).await.ok()?.ok()?.ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Some(Disk { bytes: bytes(space.f_blocks), free_bytes: bytes(space.f_bavail) })
    }
}

#[derive(Clone, Copy)]
struct Disk {
    bytes: u64,
    free_bytes: u64,
}

/// How a layout's copies lie over its zones: in how many partitions the loss of one zone takes all of them, and of
/// each zone in how many it takes a majority.
pub(crate) fn spread_json(layout: &Layout) -> Value {
    let zones: BTreeMap<NodeId, &str> =
        layout.members().iter().map(|member| (member.id, &*member.zone)).collect();
    let mut in_one_zone = 0;
    let mut majorities: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in 0..layout.partitions() {
        let homes = layout.homes(PartitionId(partition as u16));
        let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
        for zone in homes.iter().filter_map(|home| zones.get(home)) {
            *copies.entry(zone).or_default() += 1;
        }
        in_one_zone += u64::from(copies.len() == 1);
        for (zone, _) in copies.iter().filter(|(_, held)| 2 * **held > homes.len()) {
            *majorities.entry(zone).or_default() += 1;
        }
    }
    let zones: BTreeSet<&str> = zones.into_values().collect();
    json!({ "zones": zones.len(), "in_one_zone": in_one_zone, "majorities": majorities })
}

const DISK_PATIENCE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::Member;

    fn layout(zones: &[&str], n: usize) -> Layout {
        let member = |(at, zone): (usize, &&str)| Member {
            id: NodeId(at as u64 + 1),
            name: format!("n{at}"),
            address: format!("h{at}:1"),
            http: String::new(),
            zone: (*zone).to_owned(),
            weight: 1,
        };
        let members = zones.iter().enumerate().map(member).collect();
        Layout::first(members, n, 16).unwrap_or_else(|bad| panic!("{bad:?}"))
    }

    #[test]
    fn what_the_loss_of_a_zone_would_take_is_counted() {
        let spread = |zones: &[&str], n| spread_json(&layout(zones, n));
        assert_eq!(spread(&["a", "b", "c"], 3), json!({ "zones": 3, "in_one_zone": 0, "majorities": {} }));
        assert_eq!(
            spread(&["a", "a", "a"], 3),
            json!({ "zones": 1, "in_one_zone": 16, "majorities": { "a": 16 } })
        );
        assert_eq!(
            spread(&["a", "a", "b"], 3),
            json!({ "zones": 2, "in_one_zone": 0, "majorities": { "a": 16 } })
        );
    }
}
