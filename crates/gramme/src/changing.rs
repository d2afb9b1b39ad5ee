//! A change of the ring as the nodes tell it (`/v1/cluster/layout`, `/v1/cluster/transfers`), read for people.

use crate::cluster::numbered;
use crate::output::counted;
use crate::status::word;
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// What goes on, in words, if the ring changes; by the layout of one node and the transfers of all.
pub(crate) fn course(layout: &Json, transfers: &[Json]) -> Option<String> {
    Some(course_parts(layout, transfers)?.join(", "))
}

/// The same in parts: the layouts, what is there if anything must come, and the rest.
pub(crate) fn course_parts(layout: &Json, transfers: &[Json]) -> Option<Vec<String>> {
    if layout["changing"] != true {
        return None;
    }
    // One that has heard of a layout and not begun with it is still on its way there.
    let to = if layout["target"] == layout["reads"] { &layout["head"] } else { &layout["target"] };
    let mut parts = vec![if layout["reads"] == *to {
        format!("layout {} is read by here", numbered(to))
    } else {
        format!("layout {} -> {}", numbered(&layout["reads"]), numbered(to))
    }];
    let (there, all) = partitions(transfers);
    if all > 0 {
        parts.push(format!("{there} of {} there", counted(all, "partition is", "partitions are")));
    }
    let awaited = names(&layout["awaited"]);
    if !awaited.is_empty() {
        parts.push(format!("waiting for {}", awaited.join(", ")));
    }
    let paused: Vec<String> =
        transfers.iter().filter(|node| node["paused"] == true).map(|node| word(&node["name"])).collect();
    if !paused.is_empty() {
        parts.push(format!("paused at {}", paused.join(", ")));
    }
    let waiting = layout["waiting"].as_u64().unwrap_or(0);
    if waiting > 0 {
        parts.push(format!("{} in line", counted(waiting, "layout waits", "layouts wait")));
    }
    Some(parts)
}

/// What an operator may want to do about the ring.
pub(crate) fn remarks(layout: &Json) -> Vec<String> {
    let list = |name: &str| layout[name].as_array().map_or(&[][..], Vec::as_slice);
    let staged: BTreeSet<&str> = list("staged").iter().filter_map(|one| one["node"].as_str()).collect();
    let is_staged = |node: &&Json| node["node"].as_str().is_some_and(|id| staged.contains(id));
    let mut remarks: Vec<String> = list("asking")
        .iter()
        .filter(|node| !is_staged(node))
        .map(|node| format!("{0} asks to join: gramme cluster join {0}", word(&node["name"])))
        .collect();
    if !staged.is_empty() {
        let all = counted(list("staged").len() as u64, "change is staged", "changes are staged");
        remarks.push(format!("{all}: gramme cluster plan"));
    }
    let leaving = names(&layout["leaving"]);
    if !leaving.is_empty() {
        remarks.push(format!("still handing over what they have: {}", leaving.join(", ")));
    }
    if layout["is_member"] == false && layout["is_gone"] == false {
        remarks.push(format!("{} was asked, and is no member: it serves nobody", word(&layout["name"])));
    }
    if layout["is_gone"] == true {
        remarks.push(format!(
            "{} was removed and has handed over all it had: it may be stopped",
            word(&layout["name"])
        ));
    }
    remarks
}

/// Partitions that are where they must come, and all that must; over all nodes.
pub(crate) fn partitions(transfers: &[Json]) -> (u64, u64) {
    let there: u64 = transfers.iter().map(arrived).sum();
    (there, there + transfers.iter().map(coming).sum::<u64>())
}

/// Partitions that had to come to a node, and are there.
pub(crate) fn arrived(transfers: &Json) -> u64 {
    transfers["arrived"].as_u64().unwrap_or(0)
}

/// Partitions that still come to it.
pub(crate) fn coming(transfers: &Json) -> u64 {
    // The overview counts them; a node itself lists them.
    let counted = transfers["coming"].as_u64();
    counted.unwrap_or_else(|| transfers["incoming"].as_array().map_or(0, |incoming| incoming.len() as u64))
}

/// Of a list of nodes.
pub(crate) fn names(nodes: &Json) -> Vec<String> {
    nodes.as_array().into_iter().flatten().map(|node| word(&node["name"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layout(reads: u64, target: u64, head: u64) -> Json {
        let number = |version: u64| json!({ "version": version, "lineage": 0 });
        json!({
            "name": "n1", "reads": number(reads), "target": number(target), "head": number(head), "waiting": 0,
            "changing": reads != head, "awaited": [{ "node": "03", "name": "n3" }], "staged": [], "asking": [],
            "leaving": [], "is_gone": false, "contradiction": null,
        })
    }

    #[test]
    fn a_change_is_told_by_what_is_there_and_who_is_awaited() {
        let node = |name: &str, arrived: u64, coming: usize, paused: bool| json!({ "name": name, "arrived": arrived, "incoming": vec![0; coming], "paused": paused });
        let transfers = [node("n3", 7, 40, false), node("n4", 30, 8, true)];
        assert_eq!(
            course(&layout(4, 5, 5), &transfers).as_deref(),
            Some("layout 4 -> 5, 37 of 85 partitions are there, waiting for n3, paused at n4")
        );
        let mut queued = layout(4, 4, 6);
        queued["waiting"] = 2.into();
        assert_eq!(
            course(&queued, &[]).as_deref(),
            Some("layout 4 -> 6, waiting for n3, 2 layouts wait in line")
        );
        assert_eq!(course(&layout(5, 5, 5), &transfers), None);
        let mut awaits = layout(5, 5, 5);
        awaits["changing"] = true.into();
        assert_eq!(course(&awaits, &[]).as_deref(), Some("layout 5 is read by here, waiting for n3"));
    }

    #[test]
    fn whoever_asks_to_join_is_named_with_what_to_do_until_it_is_staged() {
        let mut layout = layout(5, 5, 5);
        layout["asking"] = json!([{ "node": "04", "name": "n4" }, { "node": "05", "name": "n5" }]);
        layout["staged"] = json!([{ "node": "05", "name": "n5", "what": "joins" }]);
        layout["leaving"] = json!([{ "node": "09", "name": "n9" }]);
        layout["is_member"] = false.into();
        assert_eq!(
            remarks(&layout),
            [
                "n4 asks to join: gramme cluster join n4",
                "1 change is staged: gramme cluster plan",
                "still handing over what they have: n9",
                "n1 was asked, and is no member: it serves nobody",
            ]
        );
    }
}
