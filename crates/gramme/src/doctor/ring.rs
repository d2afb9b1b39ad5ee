//! What is the matter with the ring itself: changes that do not go on, and nodes or plans that nobody decides about. Pure,
//! from what the overview tells of it (`change`).

use super::Verdict;
use super::checks::Found;
use crate::status::word;
use gramme_server::figures::span;
use serde_json::Value as Json;
use std::collections::BTreeSet;

use Verdict::{Bad, Warn};

/// Two layouts under one number, a change that waits for a node that is down, transfers that are paused; nodes that have
/// long asked to join; removed nodes that may be stopped.
pub(super) fn change(change: &Json) -> Found {
    if let Some(why) = change["error"].as_str() {
        let says = format!("the asked node does not tell how the ring changes: {why}: look at its log");
        return vec![(Warn, says)];
    }
    let layout = &change["layout"];
    let is_bad = !layout["contradiction"].is_null();
    let problems = change["problems"].as_array().into_iter().flatten().enumerate().map(|(at, problem)| {
        // The worst stands first.
        let verdict = if is_bad && at == 0 { Bad } else { Warn };
        (verdict, format!("{}: {}", word(&problem["what"]), word(&problem["remedy"])))
    });
    problems.chain(asking(layout)).chain(gone(layout)).collect()
}

/// A plan that is staged and should not be committed unseen.
pub(super) fn plan(change: &Json) -> Found {
    let plan = &change["plan"];
    if let Some(why) = plan["error"].as_str() {
        let says =
            format!("what is staged cannot be planned: {why}: stage something else, or gramme cluster clear");
        return vec![(Warn, says)];
    }
    let warnings = plan["warnings"].as_array().into_iter().flatten();
    let warn = |warning: &Json| {
        let says = format!(
            "committing what is staged: {}: see gramme cluster plan, and stage more or clear it",
            word(warning)
        );
        (Warn, says)
    };
    warnings.map(warn).collect()
}

/// Nodes that have long asked, and of which nobody wants anything.
fn asking(layout: &Json) -> Found {
    let staged: BTreeSet<&str> =
        layout["staged"].as_array().into_iter().flatten().filter_map(|one| one["node"].as_str()).collect();
    let long = |node: &&Json| {
        node["said_ms_ago"].as_u64().is_some_and(|ms| ms >= ASKED_MS)
            && node["node"].as_str().is_none_or(|id| !staged.contains(id))
    };
    let says = |node: &Json| {
        let asked_s = node["said_ms_ago"].as_u64().unwrap_or(0) / 1000;
        format!(
            "{0} has asked to join for {1}, and keeps nothing until it is a member: gramme cluster join {0}, or stop it if nobody wants it",
            word(&node["name"]),
            span(asked_s)
        )
    };
    let asking = layout["asking"].as_array().into_iter().flatten();
    asking.filter(long).map(|node| (Warn, says(node))).collect()
}

fn gone(layout: &Json) -> Found {
    if layout["is_gone"] != true {
        return Found::new();
    }
    let says = format!("{} was removed and has handed over all it had: stop it", word(&layout["name"]));
    vec![(Warn, says)]
}

/// Whoever joins on purpose is a member by then.
const ASKED_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(contradiction: Json, problems: &[&str]) -> Json {
        let problems: Vec<Json> =
            problems.iter().map(|what| json!({ "what": what, "remedy": "do something" })).collect();
        json!({
            "layout": { "name": "n1", "staged": [], "asking": [], "is_gone": false, "contradiction": contradiction },
            "plan": null, "problems": problems,
        })
    }

    #[test]
    fn a_stuck_change_is_to_be_looked_at_and_two_layouts_under_one_number_are_bad() {
        assert_eq!(change(&told(Json::Null, &[])), []);
        let stuck = change(&told(Json::Null, &["it waits for n3"]));
        assert_eq!(stuck, [(Warn, "it waits for n3: do something".to_string())]);
        let worst = change(&told(json!({ "version": 5, "lineage": 0 }), &["two layouts", "it waits"]));
        assert_eq!(worst.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(), [Bad, Warn]);
    }

    #[test]
    fn whoever_has_long_asked_to_join_is_named_until_it_is_staged() {
        let mut told = told(Json::Null, &[]);
        let asks = |id: &str, ms: u64| json!({ "node": id, "name": format!("n{id}"), "said_ms_ago": ms });
        told["layout"]["asking"] = json!([asks("4", 7_200_000), asks("5", 60_000)]);
        let found = change(&told);
        assert!(
            matches!(&*found, [(Warn, says)] if says.starts_with("n4 has asked to join for 2 h") && says.contains("gramme cluster join n4")),
            "{found:?}"
        );
        told["layout"]["staged"] = json!([{ "node": "4" }]);
        assert_eq!(change(&told), []);
    }

    #[test]
    fn a_node_that_is_gone_may_be_stopped() {
        let mut told = told(Json::Null, &[]);
        told["layout"]["is_gone"] = true.into();
        assert!(matches!(&*change(&told), [(Warn, says)] if says.contains("n1 was removed")));
    }

    #[test]
    fn a_plan_is_told_by_its_warnings() {
        let of = |told: Json| plan(&json!({ "plan": told }));
        assert_eq!((of(Json::Null), of(json!({ "warnings": [] }))), (Found::new(), Found::new()));
        let warned = of(json!({ "warnings": ["nobody can stand in for one that fails"] }));
        assert!(
            matches!(&*warned, [(Warn, says)] if says.starts_with("committing what is staged: nobody can stand in")),
            "{warned:?}"
        );
        assert!(
            matches!(&*of(json!({ "error": "too few" })), [(Warn, says)] if says.contains("too few: stage"))
        );
    }

    #[test]
    fn an_overview_without_a_change_has_nothing_to_find() {
        assert_eq!((change(&Json::Null), plan(&Json::Null)), (Found::new(), Found::new()));
    }
}
