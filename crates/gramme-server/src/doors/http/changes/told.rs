//! Ring changes as JSON; docs/http.md describes it.

use super::super::names::Names;
use gramme_core::change::{Progress, Step};
use gramme_core::paxos::Decree;
use gramme_core::{LayoutHash, NodeId};
use gramme_node::request::{Committed, HistoryItem, NodeKnown, RingStatus, StagedItem};
use serde_json::{Value, json};

/// The ring as `node` knows it.
pub(super) fn ring_json(node: NodeId, name: &str, status: &RingStatus, mut names: Names) -> Value {
    for item in &status.staged {
        if names.http(item.node).is_none() {
            names.add(item.node, &item.name, "");
        }
    }
    for asking in &status.asking {
        names.add(asking.node, &asking.fact.name, &asking.fact.http);
    }
    json!({
        "node": node.to_string(),
        "name": name,
        "reads": settled_json(status.reads),
        "target": settled_json(status.target),
        "head": settled_json(status.head),
        "waiting": status.waiting,
        "changing": is_changing(status),
        "step": step_word(status.step),
        "awaited": names.all(&status.awaited),
        "progress": status.progress.iter().map(|(node, said)| progress_json(&names, *node, *said)).collect::<Vec<_>>(),
        "staged": status.staged.iter().map(staged_json).collect::<Vec<_>>(),
        "asking": status.asking.iter().map(asking_json).collect::<Vec<_>>(),
        "leaving": status.leaving.iter().map(|node| located_json(&names, *node)).collect::<Vec<_>>(),
        "is_member": status.is_member,
        "is_gone": status.is_gone,
        "contradiction": status.contradiction.map(decree_json),
    })
}

fn is_changing(status: &RingStatus) -> bool {
    status.reads != status.head || status.target != status.head || !status.awaited.is_empty()
}

/// The layouts, oldest first.
pub(super) fn history_json(status: &RingStatus) -> Value {
    json!({ "layouts": status.history.iter().map(item_json).collect::<Vec<_>>() })
}

/// The layouts that were committed, in order.
pub(super) fn committed_json(committed: &Committed) -> Value {
    json!({ "layouts": committed.layouts.iter().map(|layout| settled_json(*layout)).collect::<Vec<_>>() })
}

/// A layout's number and hash.
pub(in super::super) fn settled_json((decree, hash): (Decree, LayoutHash)) -> Value {
    json!({ "version": decree.version, "lineage": decree.lineage, "hash": hash.to_string() })
}

/// A layout's number.
pub(in super::super) fn decree_json(decree: Decree) -> Value {
    json!({ "version": decree.version, "lineage": decree.lineage })
}

/// A node, and where it is reached.
fn located_json(names: &Names, node: NodeId) -> Value {
    let mut object = names.json(node);
    object["http"] = names.http(node).into();
    object
}

fn progress_json(names: &Names, node: NodeId, said: Progress) -> Value {
    let mut object = located_json(names, node);
    object["adopted"] = decree_json(said.adopted);
    object["filled"] = decree_json(said.filled);
    object["reads"] = decree_json(said.reads);
    object["emptied"] = decree_json(said.emptied);
    object
}

fn staged_json(item: &StagedItem) -> Value {
    json!({
        "node": item.node.to_string(),
        "name": item.name,
        "what": item.what,
        "at": crate::time::iso(item.at_ms),
        "by": item.by,
    })
}

fn asking_json(known: &NodeKnown) -> Value {
    json!({
        "node": known.node.to_string(),
        "name": known.fact.name,
        "peer": known.fact.address,
        "http": known.fact.http,
        "zone": known.fact.zone,
        "release": known.fact.release,
        "said_ms_ago": known.age.as_millis() as u64,
    })
}

fn item_json(item: &HistoryItem) -> Value {
    json!({
        "version": item.decree.version,
        "lineage": item.decree.lineage,
        "hash": item.hash.to_string(),
        "members": item.members,
        "came": item.came,
        "went": item.went,
        "moved": item.moved,
        "back_to": Some(item.back_to).filter(|version| *version > 0),
    })
}

fn step_word(step: Step) -> &'static str {
    match step {
        Step::Adopt => "adopt",
        Step::Fill => "fill",
        Step::Read => "read",
        Step::Rest => "rest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::gossip::NodeFact;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn decree(version: u64) -> Decree {
        Decree { lineage: 0, version }
    }

    fn status() -> RingStatus {
        let fact = NodeFact {
            name: "n4".to_owned(),
            address: "h4:2".to_owned(),
            http: "h4:0".to_owned(),
            zone: "b".to_owned(),
            release: "0.1.0".to_owned(),
            features: 0,
        };
        let said = Progress { adopted: decree(5), ..Progress::at(decree(4)) };
        RingStatus {
            reads: (decree(4), LayoutHash(0xa4)),
            target: (decree(5), LayoutHash(0xa5)),
            head: (decree(5), LayoutHash(0xa5)),
            waiting: 0,
            step: Step::Fill,
            awaited: BTreeSet::from([NodeId(3)]),
            progress: vec![(NodeId(1), said)],
            staged: vec![StagedItem {
                node: NodeId(3),
                name: "n3".to_owned(),
                what: "leaves".to_owned(),
                at_ms: 1000,
                by: "n1".to_owned(),
            }],
            asking: vec![NodeKnown { node: NodeId(4), fact, age: Duration::from_secs(2) }],
            leaving: vec![NodeId(9)],
            is_member: true,
            is_gone: false,
            contradiction: None,
            history: vec![HistoryItem {
                decree: decree(4),
                hash: LayoutHash(0xa4),
                members: 3,
                came: vec!["n3".to_owned()],
                went: Vec::new(),
                moved: 85,
                back_to: 0,
            }],
        }
    }

    #[test]
    fn a_ring_that_changes_tells_how_far_everyone_is_and_who_is_awaited() {
        let mut names = Names::default();
        names.add(NodeId(1), "n1", "h1:0");
        let told = ring_json(NodeId(1), "n1", &status(), names);
        assert_eq!(told["changing"], true);
        assert_eq!(told["step"], "fill");
        assert_eq!(
            told["reads"],
            json!({ "version": 4, "lineage": 0, "hash": "000000000000000000000000000000a4" })
        );
        assert_eq!(told["awaited"], json!([{ "node": "0000000000000003", "name": "n3" }]));
        assert_eq!(
            told["leaving"],
            json!([{ "node": "0000000000000009", "name": "0000000000000009", "http": null }])
        );
        assert_eq!(
            told["progress"],
            json!([{
                "node": "0000000000000001", "name": "n1", "http": "h1:0",
                "adopted": { "version": 5, "lineage": 0 }, "filled": { "version": 4, "lineage": 0 },
                "reads": { "version": 4, "lineage": 0 }, "emptied": { "version": 0, "lineage": 0 },
            }])
        );
        assert_eq!(
            told["staged"],
            json!([{ "node": "0000000000000003", "name": "n3", "what": "leaves", "at": "1970-01-01T00:00:01.000Z", "by": "n1" }])
        );
        assert_eq!(
            told["asking"],
            json!([{
                "node": "0000000000000004", "name": "n4", "peer": "h4:2", "http": "h4:0", "zone": "b",
                "release": "0.1.0", "said_ms_ago": 2000,
            }])
        );
        assert_eq!(told["contradiction"], Value::Null);
    }

    #[test]
    fn a_ring_at_rest_says_so() {
        let (at, awaited) = ((decree(4), LayoutHash(0xa4)), BTreeSet::new());
        let rest = RingStatus { reads: at, target: at, head: at, awaited, step: Step::Rest, ..status() };
        let told = ring_json(NodeId(1), "n1", &rest, Names::default());
        assert_eq!((&told["changing"], &told["step"]), (&json!(false), &json!("rest")));
    }

    #[test]
    fn the_history_names_who_came_and_went() {
        let expected = json!({ "layouts": [{
            "version": 4, "lineage": 0, "hash": "000000000000000000000000000000a4", "members": 3,
            "came": ["n3"], "went": [], "moved": 85, "back_to": null,
        }] });
        assert_eq!(history_json(&status()), expected);
    }
}
