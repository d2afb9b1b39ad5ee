//! Following a change of the ring to its end, by asking every node that can be reached again and again. A node that is
//! silent ends nothing; whether it is awaited is known to the others.

use crate::changing::{arrived, coming, course};
use crate::progress::Steps;
use gramme_client::Client;
use serde_json::Value as Json;
use std::time::Duration;

/// A lineage and a version, in the order in which layouts follow each other.
pub(crate) type Number = (u64, u64);

/// See the module.
pub(super) struct Follow {
    /// What was committed, in order.
    versions: Vec<Number>,
    steps: Steps,
}

impl Follow {
    /// A `quiet` one shows nothing.
    pub(super) fn begin(committed: &Json, quiet: bool) -> Follow {
        let versions = committed["layouts"].as_array().into_iter().flatten().map(number).collect();
        Follow { versions, steps: Steps::begin(WHOLE, quiet) }
    }

    /// Gives the time that it took.
    pub(super) async fn until_done(mut self, client: &Client) -> Duration {
        loop {
            let (layouts, transfers) = tokio::join!(client.layouts(), client.transfers());
            let told = |answers: Vec<(String, Result<Json, _>)>| -> Vec<Json> {
                answers.into_iter().filter_map(|(_, answer)| answer.ok()).collect()
            };
            let (layouts, transfers) = (told(layouts), told(transfers));
            if is_done(&layouts, self.versions.last().copied().unwrap_or_default()) {
                return self.steps.end();
            }
            let words = layouts.iter().find_map(|layout| course(layout, &transfers));
            let words = words.unwrap_or_else(|| "not every node has heard of it yet".to_string());
            self.steps.at(way(&layouts, &transfers, &self.versions), &words);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether all members that answer read by what was committed, or by what came after it, and wait for nobody.
pub(crate) fn is_done(layouts: &[Json], last: Number) -> bool {
    let is_there = |layout: &&Json| {
        layout["changing"] == false && layout["waiting"] == 0 && number(&layout["reads"]) >= last
    };
    let mut members = layouts.iter().filter(|layout| layout["is_member"] == true).peekable();
    members.peek().is_some() && members.all(|layout| is_there(&layout))
}

/// How much of the way all members have gone, of [`WHOLE`]. To fill is nearly all of the work.
fn way(layouts: &[Json], transfers: &[Json], versions: &[Number]) -> u64 {
    let (mut gone, mut all) = (0.0, 0.0);
    for layout in layouts.iter().filter(|layout| layout["is_member"] == true) {
        let own = transfers.iter().find(|one| one["node"] == layout["node"]);
        let said =
            layout["progress"].as_array().into_iter().flatten().find(|one| one["node"] == layout["node"]);
        for version in versions {
            all += 1.0;
            gone += said.map_or(0.0, |said| part(said, own, *version));
        }
    }
    if all > 0.0 { (gone / all * WHOLE as f64) as u64 } else { 0 }
}

/// What a node has gone of the way to one version, from 0 to 1.
fn part(said: &Json, transfers: Option<&Json>, version: Number) -> f64 {
    let has = |step: &str| number(&said[step]) >= version;
    if has("reads") {
        1.0
    } else if has("filled") {
        0.95
    } else if has("adopted") {
        let (there, still) = transfers.map_or((0, 0), |one| (arrived(one), coming(one)));
        0.05 + 0.9 * there as f64 / (there + still).max(1) as f64
    } else {
        0.0
    }
}

/// As a layout is numbered in JSON.
pub(crate) fn number(decree: &Json) -> Number {
    (decree["lineage"].as_u64().unwrap_or(0), decree["version"].as_u64().unwrap_or(0))
}

const WHOLE: u64 = 1000;
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decree(version: u64) -> Json {
        json!({ "version": version, "lineage": 0 })
    }

    fn member(node: &str, adopted: u64, filled: u64, reads: u64, changing: bool) -> Json {
        json!({
            "node": node, "name": node, "is_member": true, "changing": changing, "waiting": 0, "reads": decree(reads),
            "progress": [{ "node": node, "adopted": decree(adopted), "filled": decree(filled), "reads": decree(reads) }],
        })
    }

    #[test]
    fn it_is_done_when_every_member_reads_by_it_and_waits_for_nobody() {
        let done = member("a", 6, 6, 6, false);
        assert!(is_done(&[done.clone(), member("b", 6, 6, 6, false)], (0, 6)));
        assert!(!is_done(&[done.clone(), member("b", 6, 6, 6, true)], (0, 6)), "somebody is awaited");
        assert!(!is_done(&[done.clone(), member("b", 5, 5, 5, false)], (0, 6)), "it has not heard of it");
        let mut guest = member("c", 1, 1, 1, true);
        guest["is_member"] = false.into();
        assert!(is_done(&[done, guest.clone()], (0, 6)), "a node that is no member is not waited for");
        assert!(!is_done(&[guest], (0, 6)));
        assert!(!is_done(&[], (0, 6)), "nobody answers");
    }

    #[test]
    fn the_way_is_that_of_all_members_through_all_versions() {
        let versions = [(0, 5), (0, 6)];
        assert_eq!(way(&[member("a", 4, 4, 4, true)], &[], &versions), 0);
        assert_eq!(way(&[member("a", 6, 6, 6, false)], &[], &versions), 1000);
        let half = json!({ "node": "a", "arrived": 10, "incoming": vec![0; 10] });
        assert_eq!(way(&[member("a", 5, 4, 4, true)], &[half], &versions), 250);
        assert_eq!(way(&[], &[], &versions), 0);
    }
}
