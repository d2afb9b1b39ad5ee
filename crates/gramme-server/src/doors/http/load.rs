//! What this node's clients asked for lately, in short: enough to add up over all nodes what each of them carries, and which
//! partitions are hot. `/v1/cluster/load` tells it partition by partition.

use crate::doors::Service;
use crate::load::Asked;
use gramme_core::{Layout, NodeId, PartitionId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// For the status.
pub(super) fn brief_json(service: &Service) -> Value {
    let (window, asked) = service.load.recent(Instant::now());
    let mut brief = brief(&service.layout(), &asked, |node| service.company.name_of(node));
    brief["window_ms"] = (window.as_millis() as u64).into();
    brief
}

/// `carries`: requests to partitions of which a node is a home, by name.
fn brief(layout: &Layout, asked: &[Asked], name_of: impl Fn(NodeId) -> String) -> Value {
    let mut carries: BTreeMap<NodeId, u64> = layout.members().iter().map(|member| (member.id, 0)).collect();
    let mut order: Vec<usize> = (0..asked.len()).filter(|&at| asked[at].all() > 0).collect();
    for &at in &order {
        for home in layout.homes(PartitionId(at as u16)) {
            *carries.entry(*home).or_default() += asked[at].all();
        }
    }
    let carries: BTreeMap<String, u64> =
        carries.into_iter().map(|(node, requests)| (name_of(node), requests)).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(asked[at].all()));
    let hottest = order.into_iter().take(HOTTEST).map(|at| {
        let homes = layout.homes(PartitionId(at as u16)).iter();
        let homes: Vec<String> = homes.map(|home| name_of(*home)).collect();
        json!({ "partition": at, "requests": asked[at].all(), "homes": homes })
    });
    json!({
        "requests": asked.iter().map(|asked| asked.all()).sum::<u64>(),
        "carries": carries,
        "hottest": hottest.collect::<Vec<_>>(),
    })
}

/// What is hot in the cluster is among the hottest of some node.
const HOTTEST: usize = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::*;
    use gramme_core::Member;

    #[test]
    fn what_each_home_carries_is_told_with_the_hottest_partitions() {
        let member = |id: u64| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("h{id}:2"),
            http: format!("h{id}:0"),
            zone: format!("z{id}"),
            weight: 1,
        };
        let layout = Layout::first((1..=3).map(member).collect(), 3, 16).unwrap();
        let mut asked = vec![Asked { reads: 0, writes: 0 }; 16];
        asked[4] = Asked { reads: 7, writes: 2 };
        asked[9] = Asked { reads: 90, writes: 0 };
        let told = brief(&layout, &asked, |node| format!("n{}", node.0));
        assert_eq!(told["requests"], 99);
        assert_eq!(told["carries"], json!({ "n1": 99, "n2": 99, "n3": 99 }));
        let hottest = told["hottest"].as_array().unwrap();
        assert_eq!(
            (hottest.len(), &hottest[0]["partition"], &hottest[0]["requests"]),
            (2, &json!(9), &json!(90))
        );
        assert_eq!(hottest[0]["homes"].as_array().unwrap().len(), 3);
    }
}
