//! `gramme status`: how the cluster is, on one screen. The asked node asks every member for its own word and says what
//! follows from it (`/v1/cluster/overview`); here it is only laid out.

pub(crate) mod load;

use crate::changing::{course, partitions, remarks};
use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, lines, print_json, print_line, table};
use clap::Args;
use gramme_client::{Client, Error};
use gramme_server::figures::{bytes, span};
use load::Load;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme status\n  gramme status --load\n  gramme status --node http://127.0.0.1:7410 --json"
)]
pub(crate) struct Status {
    /// Show where clients' requests go: the hottest partitions, and each node's share
    #[arg(long)]
    load: bool,
    /// Print what each node says, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move {
            let mut overview = client.overview().await?;
            if self.load {
                let load = Load::of(client.loads().await)?;
                let nodes = overview["nodes"].as_array().map_or(&[][..], Vec::as_slice);
                return if self.json {
                    print_json(&load.json(nodes))
                } else {
                    print_line(&load.screen(nodes))
                };
            }
            let ring = Ring::of(&client).await;
            if !self.json {
                return print_line(&screen(&overview, &ring.lines()));
            }
            overview["ring"] = ring.json();
            print_json(&overview)
        })
    }
}

/// The ring as the asked node knows it, with the transfers of all nodes if it changes.
enum Ring {
    Told { layout: Json, transfers: Vec<Json> },
    Silent(Error),
}

impl Ring {
    async fn of(client: &Client) -> Ring {
        match client.layout().await {
            Err(why) => Ring::Silent(why),
            Ok(layout) if layout["changing"] == true => {
                let told = client.transfers().await.into_iter();
                Ring::Told { layout, transfers: told.filter_map(|(_, answer)| answer.ok()).collect() }
            }
            Ok(layout) => Ring::Told { layout, transfers: Vec::new() },
        }
    }

    fn json(&self) -> Json {
        match self {
            Ring::Told { layout, transfers } => {
                let (there, all) = partitions(transfers);
                json!({ "layout": layout, "partitions_there": there, "partitions": all })
            }
            Ring::Silent(why) => json!({ "error": why.to_string() }),
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Ring::Told { layout, transfers } => {
                let course =
                    course(layout, transfers).map(|course| format!("the ring is changing: {course}"));
                course.into_iter().chain(remarks(layout)).collect()
            }
            Ring::Silent(why) => vec![format!("warning  whether the ring changes is not known: {why}")],
        }
    }
}

fn screen(overview: &Json, ring: &[String]) -> String {
    let (asked, nodes) = (&overview["asked"], overview["nodes"].as_array().map_or(&[][..], Vec::as_slice));
    let layout = &asked["layout"];
    let zones: BTreeSet<&str> = nodes.iter().filter_map(|node| node["described"]["zone"].as_str()).collect();
    let mut text = format!(
        "{:<10}{}\ncluster {}  v{}   {}, {}, {} partitions, N={}\n",
        word(&overview["verdict"]["level"]).to_uppercase(),
        word(&overview["verdict"]["sentence"]),
        word(&asked["cluster"]),
        word(&asked["version"]),
        counted(zones.len() as u64, "zone", "zones"),
        counted(nodes.len() as u64, "node", "nodes"),
        layout["partitions"],
        layout["n"],
    );
    let mut rows =
        table(["NODE", "ZONE", "STATE", "OWNS", "STORED", "HINTS", "IN FLIGHT", "P99", "FSYNC", "UPTIME"]);
    for node in nodes {
        let own = |section: &str, key: &str, shown: fn(u64) -> String| {
            node["says"][section][key].as_u64().map_or_else(|| "-".to_string(), shown)
        };
        let star = if node["described"]["self"] == true { "*" } else { "" };
        rows.add_row([
            format!("{}{star}", word(&node["name"])),
            word(&node["described"]["zone"]),
            format!("{} {}", word(&node["colour"]), word(&node["state"])),
            format!("{:.1}%", node["share"].as_f64().unwrap_or(0.0) * 100.0),
            own("store", "stored_bytes", bytes),
            own("node", "hints", |hints| hints.to_string()),
            own("node", "in_flight", |calls| calls.to_string()),
            // Of one that is down it is what it once was.
            node["described"]["p99_us"]
                .as_u64()
                .filter(|us| *us > 0 && node["state"] != "down")
                .map_or_else(|| "-".to_string(), micros),
            own("store", "sync_mean_us", micros),
            own("node", "uptime_ms", |ms| span(ms / 1000)),
        ]);
    }
    text.push_str(&lines(&rows));
    ring.iter().for_each(|line| text.push_str(&format!("\n{line}")));
    for problem in overview["change"]["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\nwarning  the ring: {}: {}",
            word(&problem["what"]),
            word(&problem["remedy"])
        ));
    }
    for node in nodes {
        for problem in node["problems"].as_array().into_iter().flatten() {
            let (what, remedy) = (word(&problem["what"]), word(&problem["remedy"]));
            text.push_str(&format!("\nwarning  {}: {what}: {remedy}", word(&node["name"])));
        }
    }
    text.push_str("\n* was asked; P99 is how long it waits for each of the others");
    text
}

/// A JSON value as a person reads it.
pub(crate) fn word(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_string)
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1000.0) } else { format!("{} ms", us / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_cluster_fits_one_screen() {
        let node = |at: usize| {
            json!({
                "name": format!("n{at}"), "state": "up", "colour": "green", "share": 1.0 / 3.0,
                "described": { "zone": format!("z{at}"), "self": at == 0, "p99_us": at * 1500 },
                "says": {
                    "node": { "hints": 0, "in_flight": 2, "uptime_ms": 65_000 },
                    "store": { "stored_bytes": 1_536_000, "sync_mean_us": 850 },
                },
                "problems": [],
            })
        };
        let mut overview = json!({
            "verdict": {
                "level": "healthy",
                "sentence": "3 of 3 nodes up; any 1 may fail without failing a request at quorum",
            },
            "nodes": [node(0), node(1), node(2)],
            "asked": { "cluster": "c1", "version": "0.1.0", "layout": { "n": 3, "partitions": 256 } },
        });
        let expected = "HEALTHY   3 of 3 nodes up; any 1 may fail without failing a request at quorum\n\
            cluster c1  v0.1.0   3 zones, 3 nodes, 256 partitions, N=3\n\
            NODE  ZONE  STATE     OWNS   STORED   HINTS  IN FLIGHT  P99     FSYNC   UPTIME\n\
            n0*   z0    green up  33.3%  1.5 MiB  0      2          -       0.8 ms  1 min\n\
            n1    z1    green up  33.3%  1.5 MiB  0      2          1.5 ms  0.8 ms  1 min\n\
            n2    z2    green up  33.3%  1.5 MiB  0      2          3.0 ms  0.8 ms  1 min\n\
            * was asked; P99 is how long it waits for each of the others";
        assert_eq!(screen(&overview, &[]), expected);

        overview["change"] =
            json!({ "problems": [{ "what": "it waits for n3", "remedy": "start it again" }] });
        overview["nodes"][2]["says"] = Json::Null;
        overview["nodes"][2]["problems"] = json!([{ "what": "it is down", "remedy": "start it again" }]);
        let screen = screen(&overview, &["n4 asks to join: gramme cluster join n4".to_string()]);
        assert!(screen.contains("\nn4 asks to join: gramme cluster join n4\nwarning  the ring: it waits for n3: start it again\nwarning  n2"), "{screen}");
        assert!(screen.contains("\nwarning  n2: it is down: start it again\n"), "{screen}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0, 850, 12_345].map(micros), ["0.0 ms", "0.8 ms", "12 ms"]);
    }
}
