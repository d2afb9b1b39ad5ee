//! What keeps a change of the ring from going on, with what a person does about it.

use super::problems::{Problem, problem};
use crate::figures::counted;
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// The problems of a change, as the overview's `change` tells it, by the members as the asked node describes them; the
/// worst first.
pub(super) fn problems(change: &Json, described: &[Json]) -> Vec<Problem> {
    let layout = &change["layout"];
    let mut found: Vec<Problem> = contradiction(layout).into_iter().collect();
    if layout["changing"] == true {
        found.extend(awaited(layout, described));
        found.extend(paused(change));
    }
    found
}

/// Nobody may commit anything any more, and nobody should.
fn contradiction(layout: &Json) -> Option<Problem> {
    let version = layout["contradiction"]["version"].as_u64()?;
    Some(problem(
        format!("two layouts bear the number {version}, so that nothing can be committed any more"),
        "ask each node for its history (gramme cluster history --node URL) to see who follows which; reads and writes go on; do not stop or empty a node before that is known",
    ))
}

/// Of those that are awaited, the ones that cannot answer: it goes on when they do, or when somebody decides.
fn awaited(layout: &Json, described: &[Json]) -> Option<Problem> {
    let is_down = |node: &&str| {
        described.iter().any(|member| member["id"].as_str() == Some(node) && member["health"] == "down")
    };
    let awaited = layout["awaited"].as_array().into_iter().flatten();
    let down = awaited.filter(|node| node["node"].as_str().as_ref().is_some_and(is_down));
    let names: BTreeSet<&str> = down.filter_map(|node| node["name"].as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let first = names.first()?;
    let be = if names.len() == 1 { "is" } else { "are" };
    Some(problem(
        format!("it cannot go on changing as long as {} {be} down", names.join(", ")),
        format!(
            "start it again; if it is lost for good, gramme cluster leave {first} --lost (or replace {first} NEW), plan and commit; gramme cluster abort goes back to the layout before"
        ),
    ))
}

fn paused(change: &Json) -> Option<Problem> {
    let nodes = change["transfers"].as_array()?.iter().filter(|node| node["paused"] == true);
    let names: BTreeSet<&str> = nodes.filter_map(|node| node["name"].as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| {
        problem(
            format!(
                "transfers are paused at {}: {}",
                counted(names.len() as u64, "node", "nodes"),
                names.join(", ")
            ),
            "gramme transfers resume",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(changing: bool, health: &str, paused: bool, contradiction: Json) -> Vec<String> {
        let change = json!({
            "layout": {
                "changing": changing, "awaited": [{ "node": "03", "name": "n3" }, { "node": "04", "name": "n4" }],
                "contradiction": contradiction,
            },
            "transfers": [{ "name": "n4", "paused": paused }, { "name": "n3", "error": "it does not answer" }],
        });
        let described = [json!({ "id": "03", "health": health }), json!({ "id": "04", "health": "up" })];
        problems(&change, &described)
            .into_iter()
            .map(|one| format!("{} / {}", one.what, one.remedy))
            .collect()
    }

    #[test]
    fn a_change_that_goes_on_is_no_problem() {
        assert_eq!(found(true, "up", false, Json::Null), [""; 0]);
        assert_eq!(found(false, "down", true, Json::Null), [""; 0], "nothing waits for it");
    }

    #[test]
    fn whoever_holds_it_up_is_named_with_every_way_on() {
        let stuck = found(true, "down", false, Json::Null);
        assert!(stuck[0].starts_with("it cannot go on changing as long as n3 is down"), "{stuck:?}");
        for way in ["start it again", "leave n3 --lost", "replace n3 NEW", "abort"] {
            assert!(stuck[0].contains(way), "{stuck:?}");
        }
        let paused = found(true, "up", true, Json::Null);
        assert_eq!(paused, ["transfers are paused at 1 node: n4 / gramme transfers resume"]);
    }

    #[test]
    fn two_layouts_under_one_number_are_told_before_all_else() {
        let found = found(true, "down", true, json!({ "version": 5, "lineage": 0 }));
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("two layouts bear the number 5"), "{found:?}");
    }

    #[test]
    fn a_node_that_cannot_tell_of_the_ring_has_no_problem_to_tell() {
        assert!(problems(&json!({ "error": "too late" }), &[]).is_empty());
        assert!(problems(&Json::Null, &[]).is_empty());
    }
}
