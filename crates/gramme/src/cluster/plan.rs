//! `gramme cluster plan`: what committing what is staged would do, on one screen.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, grouped, lines, print_json, print_line, table};
use crate::status::word;
use clap::Args;
use gramme_server::figures::{bytes, span};
use serde_json::Value as Json;

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme cluster plan\n\nEvery node makes the same plan of the same staged changes. Bytes and time are estimates."
)]
pub(super) struct Plan {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Plan {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move {
            let plan = client.plan().await?;
            if self.json { print_json(&plan) } else { print_line(&screen(&plan)) }
        })
    }
}

fn screen(plan: &Json) -> String {
    let list = |name: &str| plan[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut shares = table(["NODE", "ZONE", "WEIGHT", "SLOTS", "SHARE", "THEN", "SHARE"]);
    for share in list("shares") {
        let percent = |name: &str| format!("{:.1}%", share[name].as_f64().unwrap_or(0.0));
        shares.add_row([
            word(&share["name"]),
            share["zone"].as_str().unwrap_or("-").to_string(),
            share["weight"].as_u64().map_or_else(|| "goes".to_string(), |weight| weight.to_string()),
            word(&share["slots_before"]),
            percent("percent_before"),
            word(&share["slots_after"]),
            percent("percent_after"),
        ]);
    }
    let mut text = format!(
        "plan {}, {} after layout {}\n{}\n",
        word(&plan["hash"]),
        counted(list("versions").len() as u64, "layout", "layouts, one after the other,"),
        plan["after"]["version"],
        lines(&shares)
    );
    if !list("moves").is_empty() {
        let mut moves = table(["FROM", "TO", "REPLICAS"]);
        for one in list("moves") {
            moves.add_row([&one["from"]["name"], &one["to"]["name"], &one["replicas"]].map(word));
        }
        text.push_str(&format!("\n{}\n", lines(&moves)));
    }
    text.push_str(&format!("\n{}\n{}\n", cost(plan), safety(plan)));
    for warning in list("warnings") {
        text.push_str(&format!("warning  {}\n", word(warning)));
    }
    text.push_str(&format!("commit it: gramme cluster commit {}", word(&plan["hash"])));
    text
}

fn cost(plan: &Json) -> String {
    let number = |json: &Json| json.as_u64().unwrap_or(0);
    let (replicas, estimate) = (number(&plan["replicas"]), &plan["estimate"]);
    if replicas == 0 {
        return "no replica moves".to_string();
    }
    let all = number(&plan["n"]) * number(&plan["partitions"]);
    let moved = format!("{} of {} replicas move", grouped(replicas), grouped(all));
    let Some(size) = estimate["bytes"].as_u64() else {
        return format!("{moved}; the asked node has nothing by which it could tell how many bytes");
    };
    let time = match estimate["seconds"].as_u64() {
        Some(seconds) => {
            let rate = bytes(number(&estimate["bytes_per_s"]));
            format!("about {} at the {rate}/s that there is now for background work", span(seconds))
        }
        None => "at a rate that is not known".to_string(),
    };
    format!("{moved}, about {}, {time}", bytes(size))
}

fn safety(plan: &Json) -> String {
    let zones = &plan["zones"];
    format!(
        "no partition has fewer than {} on the way, or is in fewer than {} of {} zones in the end ({} before)",
        counted(plan["live_homes_kept"].as_u64().unwrap_or(0), "live home", "live homes"),
        zones["after"],
        zones["of"],
        zones["before"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan() -> Json {
        let share = |name: &str, weight: Json, slots: [u64; 2], percent: [f64; 2]| {
            json!({
                "name": name, "zone": if weight.is_null() { Json::Null } else { json!("a") }, "weight": weight,
                "slots_before": slots[0], "slots_after": slots[1],
                "percent_before": percent[0], "percent_after": percent[1],
            })
        };
        json!({
            "hash": "8f3c0000000000000000000000000000", "after": { "version": 4, "lineage": 0 },
            "versions": [{ "version": 5 }], "n": 3, "partitions": 256,
            "shares": [
                share("n1", json!(1), [256, 192], [33.3, 25.0]),
                share("n4", json!(2), [0, 192], [0.0, 25.0]),
                share("n5", Json::Null, [256, 0], [33.3, 0.0]),
            ],
            "replicas": 192,
            "moves": [{ "from": { "name": "n1" }, "to": { "name": "n4" }, "replicas": 64 }],
            "estimate": { "bytes": 41_943_040, "bytes_per_s": 20_971_520, "seconds": 2 },
            "zones": { "before": 3, "after": 2, "of": 3 }, "live_homes_kept": 2,
            "warnings": ["mind the gap"],
        })
    }

    #[test]
    fn a_plan_ends_with_how_to_commit_it() {
        let expected = "plan 8f3c0000000000000000000000000000, 1 layout after layout 4\n\
            NODE  ZONE  WEIGHT  SLOTS  SHARE  THEN  SHARE\n\
            n1    a     1       256    33.3%  192   25.0%\n\
            n4    a     2       0      0.0%   192   25.0%\n\
            n5    -     goes    256    33.3%  0     0.0%\n\
            \n\
            FROM  TO  REPLICAS\n\
            n1    n4  64\n\
            \n\
            192 of 768 replicas move, about 40 MiB, about 2 s at the 20 MiB/s that there is now for background work\n\
            no partition has fewer than 2 live homes on the way, or is in fewer than 2 of 3 zones in the end (3 before)\n\
            warning  mind the gap\n\
            commit it: gramme cluster commit 8f3c0000000000000000000000000000";
        assert_eq!(screen(&plan()), expected);
    }

    #[test]
    fn what_cannot_be_estimated_is_not() {
        let mut plan = plan();
        plan["estimate"] = json!({ "bytes": null, "bytes_per_s": 0, "seconds": null });
        assert!(cost(&plan).ends_with("the asked node has nothing by which it could tell how many bytes"));
        plan["estimate"]["bytes"] = 1024.into();
        assert_eq!(cost(&plan), "192 of 768 replicas move, about 1.0 KiB, at a rate that is not known");
        plan["replicas"] = 0.into();
        assert_eq!(cost(&plan), "no replica moves");
    }
}
