//! A change of the ring that is under way, or waits for somebody, from what the overview tells of it (`change`).

use crate::changing::{course_parts, partitions, remarks};
use crate::output::counted;
use crate::status::word;
use gramme_server::figures::bytes;
use serde_json::{Value as Json, json};

/// Pairs of a name and a sentence; none while nothing changes and nobody asks.
pub(super) fn sentences(change: &Json) -> Vec<(&'static str, String)> {
    let layout = &change["layout"];
    if !layout.is_object() {
        return Vec::new();
    }
    let under_way = course_parts(layout, told(change)).map(|parts| with_bar(parts, change));
    let handing = handing_over(change).filter(|_| under_way.is_none());
    under_way.into_iter().chain(handing).chain(remarks(layout)).map(|sentence| ("ring", sentence)).collect()
}

/// The bar stands behind the layouts, and the rate behind what is there.
fn with_bar(mut parts: Vec<String>, change: &Json) -> String {
    let (there, all) = partitions(told(change));
    if all == 0 {
        return parts.join(", ");
    }
    let per_s: u64 = told(change).iter().filter_map(|node| node["bytes_per_s"].as_u64()).sum();
    if per_s > 0 {
        parts.insert(2, format!("{}/s", bytes(per_s)));
    }
    let full = (there * BAR / all) as usize;
    let bar = format!("[{}{}]", "#".repeat(full), ".".repeat(BAR as usize - full));
    format!("{} {bar} {}", parts[0], parts[1..].join(", "))
}

/// What former homes still keep, once reads go by the new layout everywhere.
fn handing_over(change: &Json) -> Option<String> {
    let busy =
        told(change).iter().filter(|node| node["handing_over"].as_u64().is_some_and(|count| count > 0));
    let of = |node: &Json| {
        let partitions = node["handing_over"].as_u64().unwrap_or(0);
        format!("{} {}", word(&node["name"]), counted(partitions, "partition", "partitions"))
    };
    let busy: Vec<String> = busy.map(of).collect();
    (!busy.is_empty()).then(|| format!("former homes hand over: {}", busy.join(", ")))
}

/// The same for programs; `null` if the asked node tells nothing.
pub(super) fn json(change: &Json) -> Json {
    let layout = &change["layout"];
    if !layout.is_object() {
        return Json::Null;
    }
    let (there, all) = partitions(told(change));
    json!({
        "changing": layout["changing"],
        "reads": layout["reads"],
        "target": layout["target"],
        "awaited": layout["awaited"],
        "waiting": layout["waiting"],
        "partitions_there": there,
        "partitions": all,
        "problems": change["problems"],
    })
}

fn told(change: &Json) -> &[Json] {
    change["transfers"].as_array().map_or(&[], Vec::as_slice)
}

const BAR: u64 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(changing: bool, transfers: Json) -> Json {
        let number = |version: u64| json!({ "version": version, "lineage": 0 });
        let to = if changing { 5 } else { 4 };
        json!({
            "layout": {
                "changing": changing, "reads": number(4), "target": number(to), "head": number(to), "waiting": 0,
                "awaited": [], "staged": [], "leaving": [], "asking": [{ "node": "07", "name": "n7" }],
            },
            "transfers": transfers, "problems": [],
        })
    }

    #[test]
    fn a_change_is_told_with_a_bar_and_whoever_asks_with_what_to_do() {
        let node = json!({ "name": "n4", "arrived": 3, "coming": 3, "handing_over": 0, "bytes_per_s": 0 });
        let told = sentences(&change(true, json!([node, { "name": "n5", "error": "no answer" }])));
        let expected = [
            ("ring", "layout 4 -> 5 [######......] 3 of 6 partitions are there".to_string()),
            ("ring", "n7 asks to join: gramme cluster join n7".to_string()),
        ];
        assert_eq!(told, expected);
        assert_eq!(sentences(&change(true, json!([])))[0].1, "layout 4 -> 5");
    }

    #[test]
    fn what_former_homes_keep_is_told_until_it_is_gone() {
        let node = |count: u64| json!([{ "name": "n1", "arrived": 0, "coming": 0, "handing_over": count }]);
        assert_eq!(sentences(&change(false, node(3)))[0].1, "former homes hand over: n1 3 partitions");
        assert_eq!(sentences(&change(false, node(0))).len(), 1);
        assert_eq!((sentences(&Json::Null), json(&Json::Null)), (Vec::new(), Json::Null));
    }
}
